/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of the MMU notifier core share. The whole is explained in
 * mmu_notifier.c.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef _MM_MMU_NOTIFIER_H
#define _MM_MMU_NOTIFIER_H

#include <linux/mmu_notifier.h>
#include <linux/smp.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

/*
 * Enough to keep CPUs apart, few enough to take all of them: inserting does.
 * A power of two, so that finding one's own is cheap.
 */
#define MMU_NOTIFIER_MAX_SHARDS	16

/**
 * struct mmu_notifier_shard - one CPU's (or a few CPUs') part of the active set
 * @lock: protects the fields below and those of the ranges in @ranges; together
 *	with that of any other shard it also keeps the interval tree and the list
 *	from changing
 * @ranges: the active ranges, &mmu_notifier_range.link; its head is read
 *	without the lock by read_begin
 * @ticket: noted by each range that is linked, and counted up by who comes to
 *	wait, so that a waiter can tell those it has seen from later ones
 * @subs: the active set this is a part of
 */
struct mmu_notifier_shard {
	spinlock_t lock;
	struct hlist_head ranges;
	unsigned long ticket;
	struct mmu_notifier_subscriptions *subs;
} ____cacheline_aligned_in_smp;

/**
 * struct mmu_notifier_subscriptions - the notifier state of one mm
 * @list: list notifiers, newest first; changed under all shard locks, walked
 *	under any of them, or under RCU
 * @intervals: interval notifiers; changed and walked like @list
 * @generation: number of list notifiers ever registered; like @list
 * @walked: there is, or was, a list notifier with callbacks that are called under
 *	RCU; changed under all shard locks, and never back
 * @nr_aging: number of interval notifiers with @age; changed like @list, read
 *	without a lock
 * @nr_shards: how many of @shards there are
 * @lock: protects @nr_users, @disarm_pending, @interval_mode, @idle_since and the
 *	armed bit of the mm
 * @nr_users: subscribers and others that keep the mm armed
 * @idle_since: when @nr_users became zero, in jiffies
 * @idle_jiffies: how long it stays armed from then on
 * @nr_rearmed: how often it was armed after it had been disarmed
 * @disarm_pending: @disarm_work is queued and holds a reference on @mm
 * @interval_mode: one of @nr_users is mmu_notifier_register() of NULL, which
 *	nothing undoes
 * @seq: source of the sequence values; odd, two steps a hit
 * @range_wait: those who wait for ranges to end
 * @removal_wait: those who wait for a callback of the notifier they remove
 * @mm: the mm that owns this until the last reference to it is dropped
 * @disarm_work: disarms an idle mm
 * @shards: the active set
 *
 * The first group is what every invalidation reads and hardly anybody writes.
 */
struct mmu_notifier_subscriptions {
	struct hlist_head list;
	struct rb_root_cached intervals;
	unsigned long generation;
	bool walked;
	unsigned int nr_aging;
	unsigned int nr_shards;

	spinlock_t lock ____cacheline_aligned_in_smp;
	unsigned int nr_users;
	bool disarm_pending;
	bool interval_mode;
	unsigned long idle_since;
	unsigned long idle_jiffies;
	unsigned int nr_rearmed;
	atomic_long_t seq;
	wait_queue_head_t range_wait;
	wait_queue_head_t removal_wait;
	struct mm_struct *mm;
	struct delayed_work disarm_work;

	struct mmu_notifier_shard shards[] __counted_by(nr_shards);
};

/* The state of @mm, or NULL if it has never had a subscriber. */
static inline struct mmu_notifier_subscriptions *
mmu_notifier_subscriptions(struct mm_struct *mm)
{
	unsigned long tagged = (unsigned long)READ_ONCE(mm->notifier_subscriptions);

	return (void *)(tagged & ~MMU_NOTIFIER_ARMED);
}

/* Any shard is right; the CPU's own is the one that is not contended. */
static inline struct mmu_notifier_shard *
mmu_active_shard(struct mmu_notifier_subscriptions *subs)
{
	struct mmu_notifier_shard *shard;

	shard = &subs->shards[raw_smp_processor_id() & (subs->nr_shards - 1)];
	/* Or the compiler computes the address anew for each member. */
	OPTIMIZER_HIDE_VAR(shard);
	return shard;
}

/*
 * @range becomes active. Under the lock of its shard, and ordered before the
 * callback's mmu_interval_set_seq(), which is a release: who sees that sequence,
 * sees this link.
 */
static inline void mmu_active_link_locked(struct mmu_notifier_subscriptions *subs,
					  struct mmu_notifier_shard *shard,
					  struct mmu_notifier_range *range)
{
	range->shard = shard;
	range->ticket = shard->ticket;
	range->generation = subs->generation;
	range->posted = NULL;
	range->awaited = false;
	hlist_add_head(&range->link, &shard->ranges);
}

/* @range is done. */
static inline void mmu_active_unlink(struct mmu_notifier_range *range)
{
	struct mmu_notifier_shard *shard = range->shard;
	struct hlist_node *next;
	bool awaited;

	spin_lock(&shard->lock);
	next = range->link.next;
	if (next)
		next->pprev = range->link.pprev;
	/*
	 * Pairs with the acquire in mmu_active_none() and mmu_active_wait(): who
	 * sees the shard empty, sees the page tables as they are after the change.
	 */
	smp_store_release(range->link.pprev, next);
	awaited = range->awaited;
	spin_unlock(&shard->lock);
	range->shard = NULL;

	if (unlikely(awaited))
		wake_up_all(&shard->subs->range_wait);
}

/* A look without a lock: is there no range at all? */
static inline bool mmu_active_none(const struct mmu_notifier_subscriptions *subs)
{
	const struct mmu_notifier_shard *shard = subs->shards;
	const struct mmu_notifier_shard *end = shard + subs->nr_shards;

	do {
		/* Pairs with the release in mmu_active_unlink(). */
		if (smp_load_acquire(&shard->ranges.first))
			return false;
	} while (++shard < end);
	return true;
}

/*
 * For lockdep: the caller may wait for callbacks and for the end of ranges, so none
 * of them may wait for it.
 */
static inline void mmu_active_might_wait(void)
{
	lock_map_acquire(&__mmu_notifier_invalidate_range_start_map);
	lock_map_release(&__mmu_notifier_invalidate_range_start_map);
	lock_map_acquire(&__mmu_notifier_active_map);
	lock_map_release(&__mmu_notifier_active_map);
	if (IS_ENABLED(CONFIG_DEBUG_ATOMIC_SLEEP))
		might_sleep();
}

/* Active set: mmu_notifier_active.c */
void mmu_active_wait(struct mmu_notifier_subscriptions *subs,
		     unsigned long start, unsigned long last);
void mmu_active_wait_all(struct mmu_notifier_subscriptions *subs);

/*
 * For a fault of a device, which has loaded its sequence (s), and waits here (w) until
 * no active range overlaps.
 */
static inline void mmu_active_wait_valid(struct mmu_notifier_subscriptions *subs,
					 unsigned long start, unsigned long last)
{
	/*
	 * s before w. Pairs with the release in mmu_interval_set_seq(), or with the
	 * lock under which a list notifier changes its own sequence: both come after
	 * the link of the range.
	 */
	smp_mb();
	mmu_active_might_wait();
	if (unlikely(!mmu_active_none(subs)))
		mmu_active_wait(subs, start, last);
}

void mmu_active_lock_all(struct mmu_notifier_subscriptions *subs);
void mmu_active_unlock_all(struct mmu_notifier_subscriptions *subs);
void mmu_active_pin(struct mmu_notifier_subscriptions *subs,
		    struct mmu_notifier_range *range, const void *notifier);
void mmu_active_unpin(struct mmu_notifier_range *range);
void mmu_active_wait_unpinned(struct mmu_notifier_subscriptions *subs,
			      const void *notifier);
void mmu_active_lock_unpinned(struct mmu_notifier_subscriptions *subs,
			      const void *notifier, bool *removing);

/* Interval notifiers: mmu_interval_notifier.c */
struct mmu_interval_notifier *mmu_interval_eligible(struct interval_tree_node *node,
						    const struct mmu_notifier_range *range);
int mmu_interval_invalidate(struct mmu_notifier_range *range,
			    struct mmu_interval_notifier *interval_sub,
			    unsigned int *nr_called);
void mmu_interval_finish(struct mmu_notifier_range *range);
bool __mmu_interval_age(struct mmu_notifier_subscriptions *subs, unsigned long start,
			unsigned long end, bool clear);

/* Has any device accessed a page of the range, by its interval notifiers? */
static inline bool mmu_interval_age(struct mmu_notifier_subscriptions *subs,
				    unsigned long start, unsigned long end, bool clear)
{
	return READ_ONCE(subs->nr_aging) && __mmu_interval_age(subs, start, end, clear);
}

/* The first interval notifier that @range hits. Under a shard lock. */
static inline struct mmu_interval_notifier *
mmu_interval_first(struct mmu_notifier_subscriptions *subs,
		   const struct mmu_notifier_range *range)
{
	struct interval_tree_node *node;

	node = interval_tree_iter_first(&subs->intervals, range->start,
					range->end - 1);
	return node ? mmu_interval_eligible(node, range) : NULL;
}

/* List notifiers: mmu_notifier.c */
struct mmu_notifier *mmu_list_eligible(struct hlist_node *node,
				       const struct mmu_notifier_range *range);

/* The newest list notifier that has to hear of @range. Under a shard lock. */
static inline struct mmu_notifier *
mmu_list_first(struct mmu_notifier_subscriptions *subs,
	       const struct mmu_notifier_range *range)
{
	struct hlist_node *node = subs->list.first;

	return node ? mmu_list_eligible(node, range) : NULL;
}

/* Arming: mmu_notifier_arm.c */
int mmu_notifier_arm_locked(struct mm_struct *mm);
void mmu_notifier_stay_armed(struct mm_struct *mm);

/* DEBUG_MMU_NOTIFIER: mmu_notifier_check.c */
#ifdef CONFIG_DEBUG_MMU_NOTIFIER_COVERAGE
bool mmu_notifier_check_suppressed(const char *site);
#else
static inline bool mmu_notifier_check_suppressed(const char *site)
{
	return false;
}
#endif

/* mm_all_locks.c */
#if IS_ENABLED(CONFIG_KUNIT)
extern unsigned long mm_all_locks_max;
#endif
void mm_take_all_locks_uninterruptible(struct mm_struct *mm);

#endif /* _MM_MMU_NOTIFIER_H */
