/* SPDX-License-Identifier: GPL-2.0 */
/*
 * MMU notifiers: tell whoever mirrors a process's page tables (a KVM guest, a
 * GPU, an RDMA adapter) before a CPU mapping becomes more restrictive.
 *
 * Copyright (C) 2026 the Pinless authors
 *
 * Three parties meet here:
 *
 * - the memory manager announces changes. It wraps each of them in an
 *   invalidation range, with one of the scoped forms below or, where a scope
 *   does not fit, with an explicit start and end;
 * - a list notifier (&struct mmu_notifier) hears of all changes of one mm;
 * - an interval notifier (&struct mmu_interval_notifier) hears of those that
 *   touch one interval of addresses, and owns a sequence count by which a page
 *   fault of the device finds out that it collided with a change.
 *
 * An mm is *armed* while it has subscribers and for about a second after the
 * last one left. Only the ranges of an armed mm are recorded; for any other mm
 * an announcement is a load and a branch. See mm/mmu_notifier.c for how this
 * works, and Documentation/mm/mmu_notifier.rst for how to use it.
 */
#ifndef _LINUX_MMU_NOTIFIER_H
#define _LINUX_MMU_NOTIFIER_H

#include <linux/atomic.h>
#include <linux/bits.h>
#include <linux/cleanup.h>
#include <linux/interval_tree.h>
#include <linux/list.h>
#include <linux/mm_types.h>
#include <linux/mmap_lock.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

struct mmu_interval_notifier;
struct mmu_notifier;
struct mmu_notifier_range;
struct mmu_notifier_shard;
struct mmu_notifier_subscriptions;

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
 * struct mmu_notifier_ops - what a list notifier wants to hear
 *
 * Every callback is optional. Those that mirror page tables implement
 * @invalidate_range_start (and often @invalidate_range_end); those whose device
 * walks the CPU's own page tables implement @arch_invalidate_secondary_tlbs and
 * neither of the other two.
 */
struct mmu_notifier_ops {
	/**
	 * @release: the address space dies, or the notifier is unregistered
	 * while it is still alive. Drop every secondary mapping and establish
	 * none again. Runs at most once, before the page tables are freed.
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
	 * more restrictive. On return no secondary mapping of the range may be
	 * in use, and none may be established before the matching
	 * @invalidate_range_end. Ranges nest and overlap, across threads too.
	 *
	 * Context: mmap_lock or a reverse-map lock held; may sleep unless
	 * mmu_notifier_range_blockable() says otherwise. Must not allocate with
	 * direct reclaim, which would come back here.
	 * Return: 0, or -EAGAIN when it would have to sleep and may not. A
	 * notifier that refused gets no @invalidate_range_end for the range;
	 * those that had accepted it do, and the change does not happen.
	 */
	int (*invalidate_range_start)(struct mmu_notifier *subscription,
				      const struct mmu_notifier_range *range);

	/**
	 * @invalidate_range_end: the change is done; the pages may be free
	 * already. Called only for ranges this notifier has accepted.
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
	 * @alloc_notifier: for mmu_notifier_get(): make the notifier for @mm.
	 *
	 * Context: mmap_lock held for write, may sleep.
	 * Return: the notifier, or an ERR_PTR() that the getter receives.
	 */
	struct mmu_notifier *(*alloc_notifier)(struct mm_struct *mm);

	/**
	 * @free_notifier: the last mmu_notifier_put() was called, no callback
	 * runs or will run: free it.
	 *
	 * Context: workqueue; or that of a mmu_notifier_get() that failed.
	 */
	void (*free_notifier)(struct mmu_notifier *subscription);
};

/**
 * struct mmu_notifier - a subscription to all changes of one mm
 * @hlist: in the mm's list; protected like the interval tree, and by RCU for
 *	those that must not sleep
 * @ops: set by the owner before registration
 * @mm: the mm; a reference on its mm_count is held until it is unregistered
 * @free_work: for mmu_notifier_put()
 * @put_period: for mmu_notifier_synchronize()
 * @users: how many mmu_notifier_get() share it; under the subscriptions' lock
 * @generation: counts registrations of the mm. A pair that began before this
 *	one does not call it, neither at start nor at end
 * @removing: is being taken out: no range calls it any more
 * @released: 1 once @ops->release has been called or is being called; a word, as
 *	not every architecture can exchange a byte
 */
struct mmu_notifier {
	struct hlist_node hlist;
	const struct mmu_notifier_ops *ops;
	struct mm_struct *mm;
	struct rcu_work free_work;
	unsigned int put_period;
	unsigned int users;
	unsigned long generation;
	bool removing;
	unsigned int released;
};

/**
 * struct mmu_interval_notifier_finish - an invalidation that was posted
 * @notifier: whose invalidation it is; set by the core
 *
 * Provided by &mmu_interval_notifier_ops.invalidate_start, usually as part of a
 * larger structure, and the core's until invalidate_finish is called with it.
 * Ranges overlap, so one notifier can have several outstanding: one that is
 * embedded in the notifier serves a single range at a time.
 */
struct mmu_interval_notifier_finish {
	struct mmu_interval_notifier *notifier;
	/* private: those of the same range */
	struct mmu_interval_notifier_finish *next;
};

/**
 * struct mmu_interval_notifier_ops - what an interval notifier implements
 *
 * Either @invalidate, or @invalidate_start and @invalidate_finish: where the
 * device takes its time to drop mappings, the latter let a range that hits many
 * notifiers post the work for all of them first, and then wait for it once.
 */
struct mmu_interval_notifier_ops {
	/**
	 * @invalidate: mappings that overlap the interval are about to become
	 * more restrictive. Take the lock under which mmu_interval_read_retry()
	 * is called, call mmu_interval_set_seq() with @cur_seq, always, and
	 * drop every secondary mapping of the overlap.
	 *
	 * Context: mmap_lock or a reverse-map lock held; may sleep if
	 * mmu_notifier_range_blockable(). Must not remove an interval notifier
	 * of the same mm and must not allocate with direct reclaim.
	 * Return: true, or false if it would have to sleep and may not.
	 */
	bool (*invalidate)(struct mmu_interval_notifier *interval_sub,
			   const struct mmu_notifier_range *range,
			   unsigned long cur_seq);

	/**
	 * @invalidate_start: as @invalidate, except that it may leave the
	 * waiting for the device to @invalidate_finish: then it points @finish
	 * at a structure. If it leaves that NULL, all was done.
	 *
	 * A non-blockable range may be posted only if its @invalidate_finish
	 * will not have to sleep.
	 *
	 * Context: as @invalidate.
	 * Return: as @invalidate; with false, @finish is ignored.
	 */
	bool (*invalidate_start)(struct mmu_interval_notifier *interval_sub,
				 const struct mmu_notifier_range *range,
				 unsigned long cur_seq,
				 struct mmu_interval_notifier_finish **finish);

	/**
	 * @invalidate_finish: wait until what was posted is done. Called once
	 * for each @finish, in the task that posted it, after every notifier of
	 * the range was started, or as soon as one refused; in any order. The
	 * structure may be freed or used again from within.
	 *
	 * Context: as @invalidate; the notifier is still inserted.
	 */
	void (*invalidate_finish)(struct mmu_interval_notifier_finish *finish);

	/**
	 * @age: optional. Has the device accessed a page of [@start, @end), which
	 * lies in the interval, since it was last asked to forget that? With @clear
	 * it forgets it now. An estimate will do.
	 *
	 * Context: page-table lock held, must not sleep; invalidations can run at
	 * the same time.
	 * Return: true if it has.
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
 * @removing: is being taken out: no range calls it any more
 * @nr_posted: invalidations that were posted and are not finished
 */
struct mmu_interval_notifier {
	struct interval_tree_node interval_tree;
	const struct mmu_interval_notifier_ops *ops;
	struct mm_struct *mm;
	unsigned long invalidate_seq;
	bool removing;
	atomic_t nr_posted;
};

#ifdef CONFIG_MMU_NOTIFIER

#ifdef CONFIG_LOCKDEP
extern struct lockdep_map __mmu_notifier_invalidate_range_start_map;
extern struct lockdep_map __mmu_notifier_active_map;
#endif

/**
 * struct mmu_notifier_range - one change, from before it begins until it is done
 * @mm: whose mappings change
 * @start: first address, page aligned
 * @end: first address behind the range
 * @flags: MMU_NOTIFIER_RANGE_BLOCKABLE
 * @event: what kind of change
 * @owner: for MMU_NOTIFY_MIGRATE and MMU_NOTIFY_EXCLUSIVE: whose device pages
 *
 * Lives on the stack of the task that makes the change, and is linked into the
 * mm's active set from start to end. None of it may change in between.
 */
struct mmu_notifier_range {
	struct mm_struct *mm;
	unsigned long start;
	unsigned long end;
	unsigned int flags;
	enum mmu_notifier_event event;
	void *owner;
	/* private: owned by mm/mmu_notifier.c, valid while @shard is set */
	struct mmu_notifier_shard *shard;
	struct hlist_node link;
	unsigned long ticket;
	unsigned long generation;
	const void *at;
	struct mmu_interval_notifier_finish *posted;
	bool awaited;
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

/*
 * mm->notifier_subscriptions never changes its address once it is set, so that
 * a pair in flight can go on using it; the lowest bit of the pointer says
 * whether the mm is armed.
 */
#define MMU_NOTIFIER_ARMED	1UL

static inline int mm_has_notifiers(struct mm_struct *mm)
{
	/*
	 * A stale value is harmless: arming excludes every pair by
	 * mm_take_all_locks(), and a disarmed mm has nobody to tell.
	 */
	return unlikely((unsigned long)READ_ONCE(mm->notifier_subscriptions) &
			MMU_NOTIFIER_ARMED);
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
 * mmu_interval_set_seq() - make readers of the interval collide
 * @interval_sub: the notifier that is being invalidated
 * @cur_seq: what its callback was called with: odd, and never used before
 *
 * Context: from &mmu_interval_notifier_ops.invalidate, unconditionally, under
 * the lock that mmu_interval_read_retry() is called under. A driver without
 * such readers need not call it.
 */
static inline void mmu_interval_set_seq(struct mmu_interval_notifier *interval_sub,
					unsigned long cur_seq)
{
	/*
	 * Orders the link of the range into the active set before the new
	 * value, for mmu_interval_read_begin(), which reads it without the lock.
	 */
	smp_store_release(&interval_sub->invalidate_seq, cur_seq);
}

/**
 * mmu_interval_read_retry() - has what was read since read_begin become stale?
 * @interval_sub: the notifier
 * @seq: what mmu_interval_read_begin() returned
 *
 * Context: under the lock that the invalidate callback takes, and before it is
 * dropped the secondary mapping has to be established: then the callback either
 * ran before, and this returns true, or it finds the mapping and removes it.
 *
 * Return: true if the reader has to start again.
 */
static inline bool mmu_interval_read_retry(struct mmu_interval_notifier *interval_sub,
					   unsigned long seq)
{
	return READ_ONCE(interval_sub->invalidate_seq) != seq;
}

/**
 * mmu_interval_check_retry() - is mmu_interval_read_retry() bound to be true?
 * @interval_sub: the notifier
 * @seq: what mmu_interval_read_begin() returned
 *
 * A hint for long read sides, which gives up early work that is lost anyway.
 *
 * Context: any, without the driver's lock.
 * Return: true if the reader will have to start again; false means nothing.
 */
static inline bool mmu_interval_check_retry(struct mmu_interval_notifier *interval_sub,
					    unsigned long seq)
{
	return READ_ONCE(interval_sub->invalidate_seq) != seq;
}

void __mmu_notifier_subscriptions_destroy(struct mm_struct *mm);
void __mmu_notifier_release(struct mm_struct *mm);
int __mmu_notifier_invalidate_range_start(struct mmu_notifier_range *range);
void __mmu_notifier_invalidate_range_end(struct mmu_notifier_range *range);
int __mmu_notifier_clear_flush_young(struct mm_struct *mm, unsigned long start,
				     unsigned long end);
int __mmu_notifier_clear_young(struct mm_struct *mm, unsigned long start,
			       unsigned long end);
int __mmu_notifier_test_young(struct mm_struct *mm, unsigned long address);
void __mmu_notifier_arch_invalidate_secondary_tlbs(struct mm_struct *mm,
						   unsigned long start,
						   unsigned long end);

#ifdef CONFIG_DEBUG_MMU_NOTIFIER
void mmu_notifier_debug_start(struct mmu_notifier_range *range);
void mmu_notifier_debug_end(struct mmu_notifier_range *range);
#else
static inline void mmu_notifier_debug_start(struct mmu_notifier_range *range) { }
static inline void mmu_notifier_debug_end(struct mmu_notifier_range *range) { }
#endif

static inline void mmu_notifier_subscriptions_init(struct mm_struct *mm)
{
	mm->notifier_subscriptions = NULL;
}

/* The last user of the mm is gone, or the fork that made it failed. */
static inline void mmu_notifier_subscriptions_destroy(struct mm_struct *mm)
{
	/* Disarmed or not, so the armed bit is not asked. */
	if (unlikely(mm->notifier_subscriptions))
		__mmu_notifier_subscriptions_destroy(mm);
}

static inline void mmu_notifier_release(struct mm_struct *mm)
{
	if (mm_has_notifiers(mm))
		__mmu_notifier_release(mm);
}

static inline void
__mmu_notifier_range_init(struct mmu_notifier_range *range,
			  enum mmu_notifier_event event, unsigned int flags,
			  struct mm_struct *mm, unsigned long start,
			  unsigned long end, void *owner, const char *site)
{
	range->mm = mm;
	range->start = start;
	range->end = end;
	range->flags = flags;
	range->event = event;
	range->owner = owner;
	range->shard = NULL;
#ifdef CONFIG_DEBUG_MMU_NOTIFIER
	range->frozen.task = NULL;
	range->frozen.site = site;
#endif
}

/* Macros only for the name of the function, by which DEBUG_MMU_NOTIFIER goes. */
#define mmu_notifier_range_init_owner(_range, _event, _flags, _mm, _start, _end, _owner) \
	__mmu_notifier_range_init(_range, _event, _flags, _mm, _start, _end,	\
				  _owner, __func__)
#define mmu_notifier_range_init(_range, _event, _flags, _mm, _start, _end)	\
	mmu_notifier_range_init_owner(_range, _event, _flags, _mm, _start, _end, NULL)

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

/**
 * mmu_notifier_invalidate_range_start() - announce a change
 * @range: initialised; stays on the caller's stack, unchanged, until
 *	mmu_notifier_invalidate_range_end()
 *
 * Prefer the scoped forms.
 *
 * Context: sleeps. mmap_lock, or the reverse-map lock through which the
 * mappings are reached, is held until after the end; no page-table lock.
 */
static inline void
mmu_notifier_invalidate_range_start(struct mmu_notifier_range *range)
{
	might_sleep();
	mmu_notifier_debug_start(range);
	lock_map_acquire(&__mmu_notifier_invalidate_range_start_map);
	if (mm_has_notifiers(range->mm)) {
		range->flags |= MMU_NOTIFIER_RANGE_BLOCKABLE;
		__mmu_notifier_invalidate_range_start(range);
	}
	lock_map_release(&__mmu_notifier_invalidate_range_start_map);
	lock_map_acquire_read(&__mmu_notifier_active_map);
}

/**
 * mmu_notifier_invalidate_range_start_nonblock() - announce without sleeping
 * @range: as for mmu_notifier_invalidate_range_start()
 *
 * For the OOM reaper, which must not wait for anybody.
 *
 * Return: 0, or -EAGAIN if a subscriber would have had to sleep: then nothing
 * was started, the mappings must not be touched and there is nothing to end.
 */
static inline int __must_check
mmu_notifier_invalidate_range_start_nonblock(struct mmu_notifier_range *range)
{
	int ret = 0;

	mmu_notifier_debug_start(range);
	lock_map_acquire(&__mmu_notifier_invalidate_range_start_map);
	if (mm_has_notifiers(range->mm)) {
		range->flags &= ~MMU_NOTIFIER_RANGE_BLOCKABLE;
		ret = __mmu_notifier_invalidate_range_start(range);
	}
	lock_map_release(&__mmu_notifier_invalidate_range_start_map);
	if (ret)
		mmu_notifier_debug_end(range);
	else
		lock_map_acquire_read(&__mmu_notifier_active_map);
	return ret;
}

/**
 * mmu_notifier_invalidate_range_end() - the announced change is done
 * @range: what was given to start
 *
 * Goes by what start recorded in @range, so that subscribers that came, and
 * an mm that was armed or disarmed meanwhile, make no difference.
 *
 * Context: as for the start it belongs to.
 */
static inline void
mmu_notifier_invalidate_range_end(struct mmu_notifier_range *range)
{
	if (mmu_notifier_range_blockable(range))
		might_sleep();
	if (unlikely(range->shard))
		__mmu_notifier_invalidate_range_end(range);
	lock_map_release(&__mmu_notifier_active_map);
	mmu_notifier_debug_end(range);
}

/* Age callbacks: called under the page-table lock. */
static inline int mmu_notifier_clear_flush_young(struct mm_struct *mm,
						 unsigned long start,
						 unsigned long end)
{
	return mm_has_notifiers(mm) ?
	       __mmu_notifier_clear_flush_young(mm, start, end) : 0;
}

static inline int mmu_notifier_clear_young(struct mm_struct *mm,
					   unsigned long start,
					   unsigned long end)
{
	return mm_has_notifiers(mm) ?
	       __mmu_notifier_clear_young(mm, start, end) : 0;
}

static inline int mmu_notifier_test_young(struct mm_struct *mm,
					  unsigned long address)
{
	return mm_has_notifiers(mm) ? __mmu_notifier_test_young(mm, address) : 0;
}

static inline void
mmu_notifier_arch_invalidate_secondary_tlbs(struct mm_struct *mm,
					    unsigned long start,
					    unsigned long end)
{
	if (mm_has_notifiers(mm))
		__mmu_notifier_arch_invalidate_secondary_tlbs(mm, start, end);
}

/*
 * The accessed state of a page is that of the CPU's entry or of any secondary
 * one, so both are always asked, without short cut.
 */
#define __mmu_notifier_young(_cpu_op, _notify, _vma, _addr, _entryp, _size)	\
({										\
	struct vm_area_struct *__young_vma = (_vma);				\
	unsigned long __young_addr = (_addr);					\
	int __cpu_young = _cpu_op(__young_vma, __young_addr, _entryp);		\
										\
	__cpu_young | _notify(__young_vma->vm_mm, __young_addr,			\
			      __young_addr + (_size));				\
})

#define ptep_clear_flush_young_notify(_vma, _addr, _ptep)			\
	__mmu_notifier_young(ptep_clear_flush_young,				\
			     mmu_notifier_clear_flush_young,			\
			     _vma, _addr, _ptep, PAGE_SIZE)

#define pmdp_clear_flush_young_notify(_vma, _addr, _pmdp)			\
	__mmu_notifier_young(pmdp_clear_flush_young,				\
			     mmu_notifier_clear_flush_young,			\
			     _vma, _addr, _pmdp, PMD_SIZE)

#define ptep_clear_young_notify(_vma, _addr, _ptep)				\
	__mmu_notifier_young(ptep_test_and_clear_young,				\
			     mmu_notifier_clear_young,				\
			     _vma, _addr, _ptep, PAGE_SIZE)

#define pmdp_clear_young_notify(_vma, _addr, _pmdp)				\
	__mmu_notifier_young(pmdp_test_and_clear_young,				\
			     mmu_notifier_clear_young,				\
			     _vma, _addr, _pmdp, PMD_SIZE)

#else /* CONFIG_MMU_NOTIFIER */

struct mmu_notifier_range {
	unsigned long start;
	unsigned long end;
};

/* Arguments that only a subscriber would look at are not even evaluated. */
#define mmu_notifier_range_init_owner(_range, _event, _flags, _mm, _start, _end, _owner) \
	(*(_range) = (struct mmu_notifier_range) { .start = (_start), .end = (_end) })
#define mmu_notifier_range_init(_range, _event, _flags, _mm, _start, _end)	\
	mmu_notifier_range_init_owner(_range, _event, _flags, _mm, _start, _end, NULL)

static inline int mm_has_notifiers(struct mm_struct *mm) { return 0; }
static inline void mmu_notifier_subscriptions_init(struct mm_struct *mm) { }
static inline void mmu_notifier_subscriptions_destroy(struct mm_struct *mm) { }
static inline void mmu_notifier_release(struct mm_struct *mm) { }
static inline void mmu_notifier_synchronize(void) { }

static inline bool
mmu_notifier_range_blockable(const struct mmu_notifier_range *range)
{
	return true;
}

static inline void
mmu_notifier_invalidate_range_start(struct mmu_notifier_range *range) { }

static inline int
mmu_notifier_invalidate_range_start_nonblock(struct mmu_notifier_range *range)
{
	return 0;
}

static inline void
mmu_notifier_invalidate_range_end(struct mmu_notifier_range *range) { }

static inline int mmu_notifier_clear_flush_young(struct mm_struct *mm,
						 unsigned long start,
						 unsigned long end)
{
	return 0;
}

static inline int mmu_notifier_clear_young(struct mm_struct *mm,
					   unsigned long start,
					   unsigned long end)
{
	return 0;
}

static inline int mmu_notifier_test_young(struct mm_struct *mm,
					  unsigned long address)
{
	return 0;
}

static inline void
mmu_notifier_arch_invalidate_secondary_tlbs(struct mm_struct *mm,
					    unsigned long start,
					    unsigned long end) { }

#define ptep_clear_flush_young_notify	ptep_clear_flush_young
#define pmdp_clear_flush_young_notify	pmdp_clear_flush_young
#define ptep_clear_young_notify		ptep_test_and_clear_young
#define pmdp_clear_young_notify		pmdp_test_and_clear_young
#define ptep_clear_flush_notify		ptep_clear_flush
#define pmdp_huge_clear_flush_notify	pmdp_huge_clear_flush
#define pudp_huge_clear_flush_notify	pudp_huge_clear_flush

#endif /* CONFIG_MMU_NOTIFIER */

/**
 * DOC: Scoped invalidation
 *
 * The forms that call sites use. The range is set up, started and ended by one
 * construct; the code inside sees it, if at all, through a pointer to const, so
 * that it can be neither left open nor changed while it is active. As with all
 * of <linux/cleanup.h>, do not mix them with goto in one function.
 *
 * mmu_invalidate_guard(name, event, flags, mm, start, end);
 *	from here to the end of the enclosing block; what was declared later is
 *	cleaned up before the range ends.
 *
 * scoped_mmu_invalidate(event, flags, mm, start, end) { ... }
 *	for one statement or block. "break" and "continue" leave this block, not
 *	a loop around it; "return" is fine.
 *
 * scoped_mmu_invalidate_nonblock(refused, event, flags, mm, start, end) { ... }
 *	does not sleep: if a subscriber would have to, the statement ``refused``
 *	is executed instead of the block, and nothing was started.
 *
 * The _owner variants take &mmu_notifier_range.owner as a last argument.
 */
static inline struct mmu_notifier_range *
__mmu_invalidate_enter(struct mmu_notifier_range *range)
{
	mmu_notifier_invalidate_range_start(range);
	return range;
}

static inline struct mmu_notifier_range *
__mmu_invalidate_try_enter(struct mmu_notifier_range *range)
{
	return mmu_notifier_invalidate_range_start_nonblock(range) ? NULL : range;
}

static inline void __mmu_invalidate_exit(const void *rangep)
{
	struct mmu_notifier_range *range = *(struct mmu_notifier_range **)rangep;

	if (range)
		mmu_notifier_invalidate_range_end(range);
}

/*
 * The storage is initialised once and only as far as needed: not by a compound
 * literal, nor by CONFIG_INIT_STACK_ALL_ZERO, which would clear all of it at
 * every site.
 */
#define __mmu_invalidate_open(_enter, _storage, ...)				\
({										\
	mmu_notifier_range_init_owner(_storage, __VA_ARGS__);			\
	_enter(_storage);							\
})

#define mmu_invalidate_guard_owner(_name, ...)					\
	struct mmu_notifier_range __storage_##_name __uninitialized;		\
	const struct mmu_notifier_range *_name __cleanup(__mmu_invalidate_exit)	\
		__maybe_unused = __mmu_invalidate_open(__mmu_invalidate_enter,	\
					&__storage_##_name, __VA_ARGS__)

#define mmu_invalidate_guard(_name, ...)					\
	mmu_invalidate_guard_owner(_name, __VA_ARGS__, NULL)

/*
 * An endless loop that is left behind the first round, so that the compiler
 * does not believe that the block could be skipped.
 */
#define __scoped_mmu_invalidate(_label, _enter, ...)				\
	for (struct mmu_notifier_range __storage __uninitialized,		\
	     *__scope __cleanup(__mmu_invalidate_exit) =			\
			__mmu_invalidate_open(_enter, &__storage, __VA_ARGS__);	\
	     ; ({ goto _label; }))						\
		if (0) {							\
_label:										\
			break;							\
		} else

#define scoped_mmu_invalidate_owner(...)					\
	__scoped_mmu_invalidate(__UNIQUE_ID(label), __mmu_invalidate_enter,	\
				__VA_ARGS__)

#define scoped_mmu_invalidate(...)						\
	scoped_mmu_invalidate_owner(__VA_ARGS__, NULL)

#define scoped_mmu_invalidate_nonblock(_refused, ...)				\
	__scoped_mmu_invalidate(__UNIQUE_ID(label), __mmu_invalidate_try_enter,	\
				__VA_ARGS__, NULL)				\
		if (!__scope)							\
			_refused;						\
		else

#endif /* _LINUX_MMU_NOTIFIER_H */
