/* SPDX-License-Identifier: GPL-2.0 */
/*
 * MMU notifiers, for subscribers: drivers that mirror the page tables of a process.
 * Include <linux/mmu_notifier.h>, which has an overview.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef _LINUX_MMU_NOTIFIER_SUBSCRIBE_H
#define _LINUX_MMU_NOTIFIER_SUBSCRIBE_H

#include <linux/atomic.h>
#include <linux/bits.h>
#include <linux/interval_tree.h>
#include <linux/list.h>
#include <linux/types.h>
#include <linux/workqueue.h>

struct mm_struct;
struct mmu_interval_notifier;
struct mmu_notifier;
struct mmu_notifier_range;

/**
 * enum mmu_notifier_event - why a range is being invalidated
 */
enum mmu_notifier_event {
	/**
	 * @MMU_NOTIFY_UNMAP: the addresses go away (munmap, exit) or move
	 * elsewhere (mremap)
	 */
	MMU_NOTIFY_UNMAP = 0,
	/**
	 * @MMU_NOTIFY_CLEAR: entries are cleared or pointed at other pages
	 * while the mapping itself stays: madvise, copy on write, reclaim,
	 * collapse, ...
	 */
	MMU_NOTIFY_CLEAR,
	/**
	 * @MMU_NOTIFY_PROTECTION_VMA: the whole range gets the rights that its
	 * VMAs now have (mprotect); no page table has to be looked at
	 */
	MMU_NOTIFY_PROTECTION_VMA,
	/**
	 * @MMU_NOTIFY_PROTECTION_PAGE: single pages lose rights, most often
	 * write permission; only the page tables say which
	 */
	MMU_NOTIFY_PROTECTION_PAGE,
	/**
	 * @MMU_NOTIFY_SOFT_DIRTY: same pages, same rights, but writes are to be
	 * noticed from now on, those of the device included
	 */
	MMU_NOTIFY_SOFT_DIRTY,
	/**
	 * @MMU_NOTIFY_RELEASE: sent to interval notifiers only: the process is
	 * gone and nothing of its address space can be reached any more
	 */
	MMU_NOTIFY_RELEASE,
	/**
	 * @MMU_NOTIFY_MIGRATE: pages are collected for migration to or from
	 * device memory; the driver that is &mmu_notifier_range.owner may
	 * ignore it
	 */
	MMU_NOTIFY_MIGRATE,
	/**
	 * @MMU_NOTIFY_EXCLUSIVE: atomic access is handed to the device that is
	 * &mmu_notifier_range.owner, or taken back from one (owner is NULL)
	 */
	MMU_NOTIFY_EXCLUSIVE,
	/**
	 * @MMU_NOTIFY_SPLIT: a huge page of anonymous memory gets an entry for each
	 * of its pages. They keep their content and their rights, so a subscriber
	 * may keep what it has, and need not set the sequence either. One that
	 * does not know this event treats it as a clear.
	 */
	MMU_NOTIFY_SPLIT,
};

/* In &mmu_notifier_range.flags: the callbacks may sleep. Set by start. */
#define MMU_NOTIFIER_RANGE_BLOCKABLE	BIT(0)

/**
 * struct mmu_notifier_ops - callbacks of a list notifier
 *
 * All are optional. A driver that mirrors page tables implements
 * @invalidate_range_start and often @invalidate_range_end. A driver whose device walks the
 * page tables of the CPU implements @arch_invalidate_secondary_tlbs and neither of these.
 */
struct mmu_notifier_ops {
	/**
	 * @release: the mm exits, or the notifier is unregistered before that. Drop
	 * all secondary mappings and do not establish any again. Called at most once,
	 * before the page tables are freed.
	 *
	 * Context: may sleep; other callbacks can run at the same time.
	 */
	void (*release)(struct mmu_notifier *subscription, struct mm_struct *mm);

	/**
	 * @clear_flush_young: test and clear the accessed state of the
	 * secondary mappings in [@start, @end), and flush what the device
	 * caches of it. The range can be larger than the device's page.
	 *
	 * Context: page-table lock held, must not sleep.
	 * Return: non-zero if any of them had been accessed.
	 */
	int (*clear_flush_young)(struct mmu_notifier *subscription,
				 struct mm_struct *mm,
				 unsigned long start, unsigned long end);

	/**
	 * @clear_young: as @clear_flush_young, but the flush may be left out:
	 * an estimate is enough for the caller.
	 */
	int (*clear_young)(struct mmu_notifier *subscription,
			   struct mm_struct *mm,
			   unsigned long start, unsigned long end);

	/**
	 * @test_young: has the page at @address been accessed through the
	 * secondary mapping? Changes nothing.
	 */
	int (*test_young)(struct mmu_notifier *subscription,
			  struct mm_struct *mm, unsigned long address);

	/**
	 * @invalidate_range_start: mappings in the range are about to become
	 * more restrictive. On return, no secondary mapping of the range may be
	 * in use, and none may be established before the matching
	 * @invalidate_range_end. Ranges nest and overlap, also across threads.
	 *
	 * Context: mmap_lock, VMA or reverse-map lock held; may sleep unless
	 * mmu_notifier_range_blockable() says otherwise. Must not allocate with
	 * direct reclaim, which would come back here.
	 * Return: 0, or -EAGAIN if it would have to sleep and must not. The change is
	 * then not made. @invalidate_range_end is called for the notifiers that have
	 * accepted the range, but not for the one that refused it.
	 */
	int (*invalidate_range_start)(struct mmu_notifier *subscription,
				      const struct mmu_notifier_range *range);

	/**
	 * @invalidate_range_end: the change is complete, and pages may have been freed.
	 * Called only for ranges that this notifier has accepted.
	 */
	void (*invalidate_range_end)(struct mmu_notifier *subscription,
				     const struct mmu_notifier_range *range);

	/**
	 * @arch_invalidate_secondary_tlbs: the CPU's TLB is being flushed for
	 * [@start, @end), never empty; flush a TLB that shares its page tables.
	 *
	 * Context: page-table lock held, must not sleep.
	 */
	void (*arch_invalidate_secondary_tlbs)(struct mmu_notifier *subscription,
					       struct mm_struct *mm,
					       unsigned long start,
					       unsigned long end);

	/**
	 * @alloc_notifier: for mmu_notifier_get(): allocate the notifier for @mm.
	 *
	 * Context: mmap_lock held for write, may sleep.
	 * Return: the notifier, or an ERR_PTR() that mmu_notifier_get() returns.
	 */
	struct mmu_notifier *(*alloc_notifier)(struct mm_struct *mm);

	/**
	 * @free_notifier: free the notifier after the last mmu_notifier_put(). No
	 * callback runs or will run.
	 *
	 * Context: workqueue; or the caller of a mmu_notifier_get() that fails.
	 */
	void (*free_notifier)(struct mmu_notifier *subscription);
};

/**
 * struct mmu_notifier - a subscription to all changes of one mm
 * @hlist: in the list of the mm
 * @ops: the callbacks; set by the owner before registration
 * @mm: the mm; a reference on its mm_count is held until it is unregistered
 * @free_work: for mmu_notifier_put()
 * @put_period: for mmu_notifier_synchronize()
 * @put_busy: a callback may have been running at the last mmu_notifier_put()
 * @users: number of mmu_notifier_get() calls that share it
 * @epoch: begins with its registration; ranges of an earlier epoch call neither start
 *	nor end of this notifier
 * @released: 1 if @ops->release has been called or is being called; an int, because not
 *	every architecture can exchange a byte
 */
struct mmu_notifier {
	struct hlist_node hlist;
	const struct mmu_notifier_ops *ops;
	struct mm_struct *mm;
	struct work_struct free_work;
	unsigned int put_period;
	bool put_busy;
	unsigned int users;
	u64 epoch;
	unsigned int released;
};

/**
 * struct mmu_interval_notifier_finish - a posted invalidation
 * @notifier: the notifier that posted it; set by the core
 *
 * Provided by &mmu_interval_notifier_ops.invalidate_start, usually as part of a larger
 * structure. The core owns it until invalidate_finish is called with it. Ranges overlap,
 * so a notifier can have several outstanding; one that is embedded in the notifier serves
 * only a single range at a time.
 */
struct mmu_interval_notifier_finish {
	struct mmu_interval_notifier *notifier;
	/* private: those of the same range */
	struct mmu_interval_notifier_finish *next;
};

/**
 * struct mmu_interval_notifier_ops - callbacks of an interval notifier
 *
 * A driver implements either @invalidate, or @invalidate_start and @invalidate_finish. The
 * latter are for devices that drop mappings slowly: a range that overlaps many notifiers
 * posts the work for all of them before it waits for any.
 */
struct mmu_interval_notifier_ops {
	/**
	 * @invalidate: mappings that overlap the interval are about to become
	 * more restrictive. Take the lock under which mmu_interval_read_retry()
	 * is called, call mmu_interval_set_seq() with @cur_seq unconditionally, and
	 * drop all secondary mappings of the overlap.
	 *
	 * Context: mmap_lock, VMA or reverse-map lock held; may sleep if
	 * mmu_notifier_range_blockable(). Must not remove an interval notifier
	 * of the same mm and must not allocate with direct reclaim.
	 * Return: true, or false if it would have to sleep and must not.
	 */
	bool (*invalidate)(struct mmu_interval_notifier *interval_sub,
			   const struct mmu_notifier_range *range,
			   unsigned long cur_seq);

	/**
	 * @invalidate_start: as @invalidate, but it may leave waiting for the device to
	 * @invalidate_finish: then it sets *@finish. If *@finish is NULL on return, the
	 * invalidation is complete.
	 *
	 * A non-blockable range may be posted only if its @invalidate_finish does not
	 * sleep.
	 *
	 * Context: as @invalidate.
	 * Return: as @invalidate; with false, @finish is ignored.
	 */
	bool (*invalidate_start)(struct mmu_interval_notifier *interval_sub,
				 const struct mmu_notifier_range *range,
				 unsigned long cur_seq,
				 struct mmu_interval_notifier_finish **finish);

	/**
	 * @invalidate_finish: wait until a posted invalidation is complete. Called once
	 * for each *@finish, in the task that posted it and in any order, after all
	 * notifiers of the range have been called or one has refused it. The callback
	 * may free or reuse the structure.
	 *
	 * Context: as @invalidate; the notifier is still inserted.
	 */
	void (*invalidate_finish)(struct mmu_interval_notifier_finish *finish);

	/**
	 * @age: optional. Test whether the device has accessed a page of [@start, @end),
	 * which lies in the interval, since the last call with @clear. With @clear, also
	 * clear that state. An estimate is sufficient.
	 *
	 * Context: page-table lock held, must not sleep. Invalidations can run at the
	 * same time.
	 * Return: true if it has been accessed.
	 */
	bool (*age)(struct mmu_interval_notifier *interval_sub,
		    unsigned long start, unsigned long end, bool clear);
};

/**
 * struct mmu_interval_notifier - a subscription to an interval of one mm
 * @interval_tree: the interval; ``start`` and ``last`` (inclusive) may be read
 *	by the owner as long as it is inserted
 * @ops: the callbacks
 * @mm: the mm; a reference on its mm_count is held until it is removed
 * @invalidate_seq: written by mmu_interval_set_seq(), under the owner's lock
 * @nr_posted: invalidations that were posted and are not finished
 */
struct mmu_interval_notifier {
	struct interval_tree_node interval_tree;
	const struct mmu_interval_notifier_ops *ops;
	struct mm_struct *mm;
	unsigned long invalidate_seq;
	atomic_t nr_posted;
};

#ifdef CONFIG_MMU_NOTIFIER

/**
 * struct mmu_notifier_range - one change of page tables
 * @mm: the mm
 * @start: first address, page aligned
 * @end: first address past the range
 * @owner: for MMU_NOTIFY_MIGRATE and MMU_NOTIFY_EXCLUSIVE: the owner of the device pages
 * @event: the kind of change
 * @flags: MMU_NOTIFIER_RANGE_BLOCKABLE
 *
 * On the stack of the task that makes the change, and in the active set of the mm from
 * start to end. Must not be modified in between.
 */
struct mmu_notifier_range {
	struct mm_struct *mm;
	unsigned long start;
	unsigned long end;
	void *owner;
	enum mmu_notifier_event event;
	u16 flags;
	/* private: for the core; valid while @shard is not 0 */
	u8 shard;
	bool awaited;
	u64 epoch;
	struct hlist_node link;
#ifdef CONFIG_DEBUG_MMU_NOTIFIER
	struct {
		unsigned long start;
		unsigned long end;
		struct mm_struct *mm;
		struct task_struct *task;
		enum mmu_notifier_event event;
		const char *site;
		bool suppressed;
		struct mmu_notifier_range *outer;
	} frozen;
#endif
};

/**
 * mmu_notifier_range_blockable() - may callbacks for this range sleep?
 * @range: the range
 *
 * Return: true if they may.
 */
static inline bool
mmu_notifier_range_blockable(const struct mmu_notifier_range *range)
{
	return range->flags & MMU_NOTIFIER_RANGE_BLOCKABLE;
}

int mmu_notifier_arm(struct mm_struct *mm);
void mmu_notifier_disarm(struct mm_struct *mm);

int mmu_notifier_register(struct mmu_notifier *subscription,
			  struct mm_struct *mm);
int __mmu_notifier_register(struct mmu_notifier *subscription,
			    struct mm_struct *mm);
void mmu_notifier_unregister(struct mmu_notifier *subscription,
			     struct mm_struct *mm);

struct mmu_notifier *mmu_notifier_get(const struct mmu_notifier_ops *ops,
				      struct mm_struct *mm);
struct mmu_notifier *mmu_notifier_get_locked(const struct mmu_notifier_ops *ops,
					     struct mm_struct *mm);
void mmu_notifier_put(struct mmu_notifier *subscription);
void mmu_notifier_synchronize(void);

int mmu_interval_notifier_insert(struct mmu_interval_notifier *interval_sub,
				 struct mm_struct *mm,
				 unsigned long start, unsigned long length,
				 const struct mmu_interval_notifier_ops *ops);
int mmu_interval_notifier_insert_locked(struct mmu_interval_notifier *interval_sub,
					struct mm_struct *mm,
					unsigned long start, unsigned long length,
					const struct mmu_interval_notifier_ops *ops);
void mmu_interval_notifier_remove(struct mmu_interval_notifier *interval_sub);
bool mmu_notifier_range_is_valid(struct mm_struct *mm, unsigned long start,
				 unsigned long end);
void mmu_notifier_range_wait_valid(struct mm_struct *mm, unsigned long start,
				   unsigned long end);
unsigned long mmu_interval_read_begin(struct mmu_interval_notifier *interval_sub);

/**
 * mmu_interval_set_seq() - make readers of the interval retry
 * @interval_sub: the notifier that is being invalidated
 * @cur_seq: the argument of its callback; odd and unique
 *
 * Context: in &mmu_interval_notifier_ops.invalidate, unconditionally, under the lock
 * under which mmu_interval_read_retry() is called. A driver without such readers need not
 * call it.
 */
static inline void mmu_interval_set_seq(struct mmu_interval_notifier *interval_sub,
					unsigned long cur_seq)
{
	/*
	 * Orders the link of the range before the new value, for
	 * mmu_interval_read_begin(), which loads the value without the lock.
	 */
	smp_store_release(&interval_sub->invalidate_seq, cur_seq);
}

/**
 * mmu_interval_read_retry() - may what was read since read_begin be stale?
 * @interval_sub: the notifier
 * @seq: what mmu_interval_read_begin() returned
 *
 * Context: under the lock that the invalidate callback takes. Establish the secondary
 * mapping before dropping it: the callback has either run before, and this returns true,
 * or it will find the mapping and remove it.
 *
 * Return: true if the caller must start again.
 */
static inline bool mmu_interval_read_retry(struct mmu_interval_notifier *interval_sub,
					   unsigned long seq)
{
	return READ_ONCE(interval_sub->invalidate_seq) != seq;
}

/**
 * mmu_interval_check_retry() - will mmu_interval_read_retry() return true?
 * @interval_sub: the notifier
 * @seq: what mmu_interval_read_begin() returned
 *
 * Lets a long read side give up early.
 *
 * Context: any, without the driver's lock.
 * Return: true if it will. If false, it may still do so.
 */
static inline bool mmu_interval_check_retry(struct mmu_interval_notifier *interval_sub,
					    unsigned long seq)
{
	return READ_ONCE(interval_sub->invalidate_seq) != seq;
}

#else /* CONFIG_MMU_NOTIFIER */

struct mmu_notifier_range {
	unsigned long start;
	unsigned long end;
};

static inline bool
mmu_notifier_range_blockable(const struct mmu_notifier_range *range)
{
	return true;
}

static inline void mmu_notifier_synchronize(void) { }

#endif /* CONFIG_MMU_NOTIFIER */

#endif /* _LINUX_MMU_NOTIFIER_SUBSCRIBE_H */
