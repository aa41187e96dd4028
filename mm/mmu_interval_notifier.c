// SPDX-License-Identifier: GPL-2.0
/*
 * Interval notifiers: subscriptions to an interval of one mm, with a sequence
 * count that tells a page fault of the device that it collided.
 *
 * The protocol has two sides. An invalidation links its range (L), calls the notifier,
 * which sets a new sequence value under the driver's lock (S) and drops its mapping,
 * changes the page tables (P), and unlinks the range (U). A fault of the device loads the
 * sequence (s), waits for all active ranges that overlap the interval (w), reads the page
 * tables (p), and under the driver's lock compares the sequence (c) and establishes the
 * mapping (m).
 *
 *	invalidation	L  S  P  U
 *	fault		s  w  p  c m
 *
 * A fault that does not retry has s == c. If its c and m precede S, the callback removes
 * the mapping. Otherwise s has loaded the value of S or a later one. S is a release and a
 * full barrier follows s, so w sees L and waits for U, or sees U, and then p sees P. In
 * the other order, w before s, the fault could accept an entry that it read between L
 * and P.
 *
 * The tree changes under all shard locks, and is searched under any of them. Callbacks may
 * sleep, so they run without a lock, in a walk (mmu_notifier_walk.c).
 *
 * A notifier counts its invalidations that are posted and not finished. One range can
 * post a hundred thousand of them, so removal reads the count instead of searching. The
 * walk increments it (C) before it moves on to the next notifier (M); removal checks the
 * walks (R) before it reads the count (N). So it sees the walk at the notifier, or the
 * count. The decrement (D) is the last access to the notifier, and its result says
 * whether removal waits.
 *
 *	range		call  C  M		finish  D: only AWAITED is left: wake
 *	removal			remove  R  N: not zero: add AWAITED, wait	free
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/export.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/sched/mm.h>

#include <trace/events/mmu_notifier.h>

#include "mmu_notifier.h"

/**
 * mmu_interval_read_begin() - begin to read the page tables of an interval
 * @interval_sub: inserted
 *
 * Waits for active invalidations that overlap the interval, and for no others. The caller
 * then looks up the mappings, with hmm_range_fault(), get_user_pages() or similar, takes
 * the lock of its driver, and calls mmu_interval_read_retry() before it uses them.
 *
 * If two calls return the same value, no callback of the notifier has set the sequence
 * in between.
 *
 * Context: sleeps. Must not be called from a callback, or under a lock that a callback
 * takes.
 * Return: the value for mmu_interval_read_retry().
 */
unsigned long mmu_interval_read_begin(struct mmu_interval_notifier *interval_sub)
{
	struct mmu_notifier_subscriptions *subs =
		mmu_notifier_subscriptions(interval_sub->mm);
	unsigned long seq = READ_ONCE(interval_sub->invalidate_seq);

	mmu_active_wait_valid(subs, interval_sub->interval_tree.start,
			      interval_sub->interval_tree.last);
	return seq;
}
EXPORT_SYMBOL_GPL(mmu_interval_read_begin);

/*
 * All shards are locked. Ranges that are active already may not call this notifier. Its
 * readers find them in the active set and wait.
 */
static void mmu_interval_link(struct mmu_interval_notifier *interval_sub,
			      struct mmu_notifier_subscriptions *subs,
			      const struct mmu_interval_notifier_ops *ops)
{
	interval_sub->ops = ops;
	interval_sub->mm = subs->mm;
	atomic_set(&interval_sub->nr_posted, 0);
	/* Not a value that a previous notifier at this address has had. */
	interval_sub->invalidate_seq = subs->seq += 2;
	interval_tree_insert(&interval_sub->interval_tree, &subs->intervals);
	if (ops->age)
		WRITE_ONCE(subs->nr_aging, subs->nr_aging + 1);
}

/* Returns false if the mm is not armed. @held: the caller has armed it. */
static bool mmu_interval_insert_armed(struct mmu_interval_notifier *interval_sub,
				      struct mm_struct *mm,
				      const struct mmu_interval_notifier_ops *ops, bool held)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);
	bool armed;

	if (unlikely(!subs))
		return false;
	mmu_active_lock_all(subs);
	armed = held || mmu_notifier_hold_locked(subs);
	if (likely(armed))
		mmu_interval_link(interval_sub, subs, ops);
	mmu_active_unlock_all(subs);
	return armed;
}

/* @arm is the variant of mmu_notifier_arm() for the locks that the caller holds. */
static int mmu_interval_insert(struct mmu_interval_notifier *interval_sub,
			       struct mm_struct *mm, unsigned long start,
			       unsigned long length,
			       const struct mmu_interval_notifier_ops *ops,
			       int (*arm)(struct mm_struct *mm))
{
	struct interval_tree_node *node = &interval_sub->interval_tree;
	int ret;

	RB_CLEAR_NODE(&node->rb);
	node->start = start;
	if (!length || check_add_overflow(start, length - 1, &node->last))
		return -EOVERFLOW;
	/* Either one phase, or two phases. */
	if (!ops->invalidate == !ops->invalidate_start ||
	    !ops->invalidate_start != !ops->invalidate_finish)
		return -EINVAL;
	if (atomic_read(&mm->mm_users) <= 0)
		return -EINVAL;
	if (unlikely(!mmu_interval_insert_armed(interval_sub, mm, ops, false))) {
		ret = arm(mm);
		if (ret)
			return ret;
		mmu_interval_insert_armed(interval_sub, mm, ops, true);
	}
	mmgrab(mm);
	trace_mmu_interval_insert(interval_sub);
	return 0;
}

/**
 * mmu_interval_notifier_insert() - subscribe to an interval
 * @interval_sub: the notifier; must stay allocated until it is removed
 * @mm: the mm; the caller holds a reference on its mm_users
 * @start: first address
 * @length: in bytes, at least 1
 * @ops: the callbacks
 *
 * Invalidations that start after the return call the notifier. Those that are active
 * already may not call it, but mmu_interval_read_begin() waits for them.
 *
 * Context: sleeps. If the mm is not armed, takes its mmap_lock for write. If it is armed,
 * the caller may hold the mmap_lock in either mode. mmu_notifier_register() of NULL keeps
 * an mm armed until it is freed.
 * Return: 0; -EOVERFLOW if the interval is empty or wraps around; -EINVAL if
 * @ops is neither single- nor two-phase, or the mm has no user left; otherwise as
 * mmu_notifier_arm().
 */
int mmu_interval_notifier_insert(struct mmu_interval_notifier *interval_sub,
				 struct mm_struct *mm,
				 unsigned long start, unsigned long length,
				 const struct mmu_interval_notifier_ops *ops)
{
	return mmu_interval_insert(interval_sub, mm, start, length, ops,
				   mmu_notifier_arm);
}
EXPORT_SYMBOL_GPL(mmu_interval_notifier_insert);

/**
 * mmu_interval_notifier_insert_locked() - the same, under the mmap_lock
 * @interval_sub: as for mmu_interval_notifier_insert()
 * @mm: the mm
 * @start: first address
 * @length: in bytes, at least 1
 * @ops: the callbacks
 *
 * Context: mmap_lock held for write; sleeps.
 * Return: as mmu_interval_notifier_insert().
 */
int mmu_interval_notifier_insert_locked(struct mmu_interval_notifier *interval_sub,
					struct mm_struct *mm,
					unsigned long start, unsigned long length,
					const struct mmu_interval_notifier_ops *ops)
{
	return mmu_interval_insert(interval_sub, mm, start, length, ops,
				   mmu_notifier_arm_locked);
}
EXPORT_SYMBOL_GPL(mmu_interval_notifier_insert_locked);

/*
 * No walk begins to call it any more. Wait for the walks that call it, and then for what
 * they have posted, which they count before they move on. See the top of this file.
 */
static void mmu_interval_await(struct mmu_notifier_subscriptions *subs,
			       struct mmu_interval_notifier *interval_sub, bool busy)
{
	if (unlikely(busy))
		mmu_walks_await(subs, interval_sub);
	/* Pairs with mmu_interval_finished(): sees the effects of what was finished. */
	if (likely(!atomic_read_acquire(&interval_sub->nr_posted)))
		return;
	atomic_add(MMU_INTERVAL_AWAITED, &interval_sub->nr_posted);
	wait_event(subs->removal_wait,
		   atomic_read_acquire(&interval_sub->nr_posted) == MMU_INTERVAL_AWAITED);
}

/**
 * mmu_interval_notifier_remove() - end a subscription
 * @interval_sub: inserted; the caller's again on return
 *
 * On return, no callback of the notifier runs or will run. Waits for running callbacks
 * of this notifier and for its posted invalidations, but not for those of others.
 *
 * Context: sleeps. Must not be called from a callback of an interval notifier, or under
 * a lock that a callback of this notifier takes.
 */
void mmu_interval_notifier_remove(struct mmu_interval_notifier *interval_sub)
{
	struct mm_struct *mm = interval_sub->mm;
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);
	bool busy;

	might_sleep();
	trace_mmu_interval_remove(interval_sub);

	mmu_active_lock_all(subs);
	busy = mmu_walks_forget(subs, interval_sub, &interval_sub->interval_tree);
	interval_tree_remove(&interval_sub->interval_tree, &subs->intervals);
	if (interval_sub->ops->age)
		WRITE_ONCE(subs->nr_aging, subs->nr_aging - 1);
	mmu_notifier_drop_locked(subs);
	mmu_active_unlock_all(subs);
	mmu_interval_await(subs, interval_sub, busy);

	/* For lockdep: this waits for callbacks, so callbacks must not wait for this. */
	lock_map_acquire(&__mmu_notifier_invalidate_range_start_map);
	lock_map_release(&__mmu_notifier_invalidate_range_start_map);

	mmdrop(mm);
}
EXPORT_SYMBOL_GPL(mmu_interval_notifier_remove);
