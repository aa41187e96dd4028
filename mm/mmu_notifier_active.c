// SPDX-License-Identifier: GPL-2.0
/*
 * The active set: all ranges of an armed mm that have started and not ended.
 *
 * It is split into shards. A range is linked into the shard of the CPU on which it
 * starts and records which one that is, so invalidations on different CPUs do not write
 * to a common cache line. Rare operations pay for that: a waiter looks at all shards, and
 * a change of the interval tree or the list takes all their locks, in order. Shards that
 * have never been used are skipped. A shard comes into use under subs->lock, which
 * mmu_active_lock_all() holds, too.
 *
 * Waiting is precise. A waiter increments the epoch of each shard, and then waits until no
 * range of an earlier epoch overlaps its interval. Ranges that start later do not prolong
 * the wait: their callbacks change the sequence, so the caller will notice them.
 *
 * Registration of a list notifier begins a new epoch too, the same in all shards. The
 * epoch of a range therefore tells which list notifiers were registered when it started.
 *
 * A waiter cannot hold a reference to a range while it sleeps, since ranges live on the
 * stacks of other tasks. It marks the ranges that it waits for under the shard lock.
 * Unlinking a marked range wakes the wait queue of the mm.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <kunit/visibility.h>
#include <linux/export.h>
#include <linux/sched.h>

#define CREATE_TRACE_POINTS
#include <trace/events/mmu_notifier.h>

#include "mmu_notifier.h"

#ifdef CONFIG_LOCKDEP
/* Held while invalidation callbacks run. Reclaim takes it, see page_alloc.c. */
struct lockdep_map __mmu_notifier_invalidate_range_start_map = {
	.name = "mmu_notifier_invalidate_range_start"
};
EXPORT_SYMBOL_IF_KUNIT(__mmu_notifier_invalidate_range_start_map);

/*
 * Held for read from the start of a range to its end. Taken for write by waiters for
 * the end of ranges. A separate map, since memory may be allocated between start and end.
 */
struct lockdep_map __mmu_notifier_active_map = {
	.name = "mmu_notifier_active"
};
EXPORT_SYMBOL_IF_KUNIT(__mmu_notifier_active_map);
#endif

static bool mmu_range_overlaps(const struct mmu_notifier_range *range,
			       unsigned long start, unsigned long last)
{
	return range->start <= last && range->end - 1 >= start;
}

/**
 * struct mmu_active_waiter - the ranges that a task waits for
 * @start: first address of interest
 * @last: last address of interest
 * @busy: bit mask of the shards that have such ranges
 * @epochs: for each of these shards, the epoch of ranges that are not waited for
 */
struct mmu_active_waiter {
	unsigned long start;
	unsigned long last;
	unsigned long busy;
	u64 epochs[MMU_NOTIFIER_MAX_SHARDS];
};

/* Does any range of the shard overlap? Marks those that do, so that their end wakes us. */
static bool mmu_shard_busy(struct mmu_notifier_shard *shard,
			   const struct mmu_active_waiter *waiter, u64 epoch)
{
	struct mmu_notifier_range *range;
	bool busy = false;

	lockdep_assert_held(&shard->lock);
	hlist_for_each_entry(range, &shard->ranges, link) {
		if (range->epoch >= epoch)
			continue;
		if (!mmu_range_overlaps(range, waiter->start, waiter->last))
			continue;
		range->awaited = true;
		busy = true;
	}
	return busy;
}

/* Begin a new epoch, and record it if the shard has ranges to wait for. */
static void mmu_shard_draw(struct mmu_notifier_shard *shard,
			   struct mmu_active_waiter *waiter)
{
	unsigned int i;

	spin_lock(&shard->lock);
	i = shard->nr - 1;
	waiter->epochs[i] = ++shard->epoch;
	if (mmu_shard_busy(shard, waiter, waiter->epochs[i]))
		__set_bit(i, &waiter->busy);
	spin_unlock(&shard->lock);
}

static bool mmu_shard_waits(struct mmu_notifier_shard *shard,
			    const struct mmu_active_waiter *waiter, u64 epoch)
{
	bool busy;

	spin_lock(&shard->lock);
	busy = mmu_shard_busy(shard, waiter, epoch);
	spin_unlock(&shard->lock);
	return busy;
}

/*
 * The wait ends: no range is added to an earlier epoch, and none of them waits for this
 * task, because callers hold no lock that an invalidation needs.
 */
static void mmu_active_wait_drawn(struct mmu_notifier_subscriptions *subs,
				  struct mmu_active_waiter *waiter)
{
	unsigned int i;

	if (!waiter->busy)
		return;
	trace_mmu_notifier_wait(subs->mm, waiter->start, waiter->last);
	for_each_set_bit(i, &waiter->busy, MMU_NOTIFIER_MAX_SHARDS)
		wait_event(subs->range_wait,
			   !mmu_shard_waits(&subs->shards[i], waiter, waiter->epochs[i]));
}

/**
 * mmu_active_wait() - wait for the ranges that are active and overlap
 * @subs: the state of the mm
 * @start: first address of interest
 * @last: last address of interest
 *
 * May miss a range that is being linked concurrently. Its callbacks have not run, so it is
 * for callers that notice those callbacks. Ranges that are linked after the call are not
 * waited for: the new epochs of all shards begin before the first wait.
 *
 * Context: sleeps.
 */
void mmu_active_wait(struct mmu_notifier_subscriptions *subs,
		     unsigned long start, unsigned long last)
{
	struct mmu_active_waiter waiter = { .start = start, .last = last };
	struct mmu_notifier_shard *shard;

	might_sleep();
	mmu_for_each_shard(shard, subs)
		/* Pairs with the release in mmu_active_unlink_locked(). */
		if (smp_load_acquire(&shard->ranges.first))
			mmu_shard_draw(shard, &waiter);
	mmu_active_wait_drawn(subs, &waiter);
}

/**
 * mmu_active_wait_all() - wait for all ranges that are active
 * @subs: the state of the mm
 *
 * Takes the lock of each shard: a range is either linked before that and waited for, or
 * it sees what the caller stored before the call, such as a new notifier.
 *
 * Context: sleeps.
 */
void mmu_active_wait_all(struct mmu_notifier_subscriptions *subs)
{
	struct mmu_active_waiter waiter = { .last = ULONG_MAX };
	struct mmu_notifier_shard *shard;

	mmu_active_might_wait();
	might_sleep();
	mmu_for_each_shard(shard, subs)
		mmu_shard_draw(shard, &waiter);
	mmu_active_wait_drawn(subs, &waiter);
}

static bool mmu_shard_overlaps(struct mmu_notifier_shard *shard, unsigned long start,
			       unsigned long last)
{
	struct mmu_notifier_range *range;
	bool overlaps = false;

	/* Pairs with the release in mmu_active_unlink_locked(). */
	if (!smp_load_acquire(&shard->ranges.first))
		return false;
	spin_lock(&shard->lock);
	hlist_for_each_entry(range, &shard->ranges, link)
		if (mmu_range_overlaps(range, start, last))
			overlaps = true;
	spin_unlock(&shard->lock);
	return overlaps;
}

/**
 * mmu_notifier_range_is_valid() - is no overlapping change in progress?
 * @mm: an mm on which the caller has a notifier
 * @start: first address
 * @end: first address past the range
 *
 * With this and mmu_notifier_range_wait_valid() a list notifier need not count active
 * ranges. It needs a sequence of its own, which its start callback changes under the lock
 * that protects its mappings. A fault of the device reads the sequence (s), calls one of
 * the two functions (w), looks up the page, takes the lock, and uses the page if the
 * sequence has not changed. A range becomes active before its callback changes the
 * sequence. So if s reads the new sequence, w sees the range, or the page tables as they
 * are after it.
 *
 * Context: any but hard and soft interrupts, and not under a lock that is taken in one.
 * Return: true if no such change is active. The next one can start at any time.
 */
bool mmu_notifier_range_is_valid(struct mm_struct *mm, unsigned long start,
				 unsigned long end)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);
	struct mmu_notifier_shard *shard;

	/* The caller's sequence before the ranges: s before w. */
	smp_mb();
	mmu_for_each_shard(shard, subs)
		if (mmu_shard_overlaps(shard, start, end - 1))
			return false;
	return true;
}
EXPORT_SYMBOL_GPL(mmu_notifier_range_is_valid);

/**
 * mmu_notifier_range_wait_valid() - wait for overlapping changes that are in progress
 * @mm: an mm on which the caller has a notifier
 * @start: first address
 * @end: first address past the range
 *
 * See mmu_notifier_range_is_valid(). Does not wait for changes that begin later.
 *
 * Context: sleeps. Must not be called from a callback, or under a lock that a callback
 * takes.
 */
void mmu_notifier_range_wait_valid(struct mm_struct *mm, unsigned long start,
				   unsigned long end)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);

	mmu_active_wait_valid(subs, start, end - 1);
}
EXPORT_SYMBOL_GPL(mmu_notifier_range_wait_valid);

/**
 * mmu_shard_use_locked() - put a shard into use before its first range or walk
 * @shard: locked
 *
 * Context: drops the lock, and takes it again after @subs->lock.
 */
void mmu_shard_use_locked(struct mmu_notifier_shard *shard)
{
	struct mmu_notifier_subscriptions *subs = shard->subs;
	unsigned int i = shard - subs->shards;

	spin_unlock(&shard->lock);
	spin_lock(&subs->lock);
	spin_lock(&shard->lock);
	if (!shard->nr) {
		shard->nr = i + 1;
		shard->epoch = subs->epoch;
		WRITE_ONCE(subs->used, subs->used | BIT(i));
	}
	spin_unlock(&subs->lock);
}

/**
 * mmu_active_lock_all() - take all shard locks, to change the interval tree or the list
 * @subs: the state of the mm
 *
 * Context: takes @subs->lock first. It serialises callers, keeps unused shards unused,
 * and lets lockdep treat the shard locks as nested in it.
 */
void mmu_active_lock_all(struct mmu_notifier_subscriptions *subs)
	__acquires(&subs->lock)
{
	struct mmu_notifier_shard *shard;

	spin_lock(&subs->lock);
	mmu_for_each_shard(shard, subs) {
		spin_lock_nest_lock(&shard->lock, &subs->lock);
		/* sparse cannot count them; subs->lock represents them all */
		__release(&shard->lock);
	}
}

/**
 * mmu_active_unlock_all() - undo mmu_active_lock_all()
 * @subs: the state of the mm
 */
void mmu_active_unlock_all(struct mmu_notifier_subscriptions *subs)
	__releases(&subs->lock)
{
	struct mmu_notifier_shard *shard;

	mmu_for_each_shard(shard, subs) {
		__acquire(&shard->lock);
		spin_unlock(&shard->lock);
	}
	spin_unlock(&subs->lock);
}

/**
 * mmu_active_new_epoch() - begin a new epoch, the same in all shards
 * @subs: the state of the mm
 *
 * Context: all shards are locked.
 * Return: the epoch, which is later than that of any active range.
 */
u64 mmu_active_new_epoch(struct mmu_notifier_subscriptions *subs)
{
	struct mmu_notifier_shard *shard;
	u64 epoch = subs->epoch;

	mmu_for_each_shard(shard, subs)
		epoch = max(epoch, shard->epoch);
	subs->epoch = ++epoch;
	mmu_for_each_shard(shard, subs)
		shard->epoch = epoch;
	return epoch;
}
