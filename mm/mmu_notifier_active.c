// SPDX-License-Identifier: GPL-2.0
/*
 * The active set: all ranges of an armed mm that have started and not ended.
 *
 * It is split into shards. A range goes to the shard of the CPU it starts on
 * and remembers it, so that invalidations on different CPUs write no common
 * cache line. What is rare pays for that: waiting looks at all shards, and
 * changing the interval tree takes all of their locks, in order.
 *
 * Waiting is precise. A waiter counts up each shard's ticket, and waits until
 * none of the ranges with an earlier one overlaps its interval. Ranges that
 * start later do not prolong the wait: their callbacks will change the sequence
 * count, so the waiter's caller cannot miss them.
 *
 * Nobody sleeps holding a reference to a range: they live on other stacks. The
 * waiter marks what it waits for under the shard lock, and the one who unlinks
 * a marked range wakes the mm's queue.
 *
 * A range also tells which notifier it is calling (&mmu_notifier_range.at): its
 * pin. Callbacks sleep and run without a lock, and the walk goes on from the
 * notifier, which therefore stays where it is. Removal marks the notifier under
 * all shard locks; from then on no walker comes to it. It then waits until no
 * range is at it. A walker that leaves a marked notifier wakes the mm's other
 * queue.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/sched.h>

#define CREATE_TRACE_POINTS
#include <trace/events/mmu_notifier.h>

#include "mmu_notifier.h"

/*
 * Is a range with a ticket before @ticket active that overlaps [start, last]?
 * Marks all of them, so that their end wakes us.
 */
static bool mmu_shard_busy(struct mmu_notifier_shard *shard, unsigned long start,
			   unsigned long last, unsigned long ticket)
{
	struct mmu_notifier_range *range;
	bool busy = false;

	spin_lock(&shard->lock);
	hlist_for_each_entry(range, &shard->ranges, link) {
		/* Mere pins have no mm. */
		if (!range->mm || (long)(range->ticket - ticket) >= 0)
			continue;
		if (range->start > last || range->end - 1 < start)
			continue;
		range->awaited = true;
		busy = true;
	}
	spin_unlock(&shard->lock);
	return busy;
}

static void mmu_shard_wait(struct mmu_notifier_shard *shard, unsigned long start,
			   unsigned long last)
{
	unsigned long ticket;

	spin_lock(&shard->lock);
	ticket = ++shard->ticket;
	spin_unlock(&shard->lock);

	if (!mmu_shard_busy(shard, start, last, ticket))
		return;
	trace_mmu_notifier_wait(shard->subs->mm, start, last);
	/*
	 * Ends, because no range is added to those before @ticket and each of
	 * them ends without waiting for us: nothing may wait here while it
	 * holds a lock that an invalidation needs.
	 */
	wait_event(shard->subs->range_wait,
		   !mmu_shard_busy(shard, start, last, ticket));
}

/**
 * mmu_active_wait() - wait for the ranges that are active and overlap
 * @subs: the state of the mm
 * @start: first address of interest
 * @last: last address of interest
 *
 * May miss a range that is just being linked: its callbacks have not run yet.
 * So it is for those who will notice these callbacks.
 *
 * Context: sleeps.
 */
void mmu_active_wait(struct mmu_notifier_subscriptions *subs,
		     unsigned long start, unsigned long last)
{
	unsigned int i;

	might_sleep();
	for (i = 0; i < subs->nr_shards; i++) {
		struct mmu_notifier_shard *shard = &subs->shards[i];

		/* Pairs with the release in mmu_active_unlink(). */
		if (smp_load_acquire(&shard->ranges.first))
			mmu_shard_wait(shard, start, last);
	}
}

/**
 * mmu_active_wait_all() - wait for all ranges that are active
 * @subs: the state of the mm
 *
 * Takes each shard's lock: a range is either linked before that, and waited
 * for, or sees whatever the caller stored before, such as a new generation.
 *
 * Context: sleeps.
 */
void mmu_active_wait_all(struct mmu_notifier_subscriptions *subs)
{
	unsigned int i;

	might_sleep();
	for (i = 0; i < subs->nr_shards; i++)
		mmu_shard_wait(&subs->shards[i], 0, ULONG_MAX);
}

/**
 * mmu_active_lock_all() - take all shard locks, to change the interval tree
 * @subs: the state of the mm
 *
 * Context: takes @subs->lock too, so that nobody else is collecting shards and
 * lockdep counts the lot as one lock.
 */
void mmu_active_lock_all(struct mmu_notifier_subscriptions *subs)
	__acquires(&subs->lock)
{
	unsigned int i;

	spin_lock(&subs->lock);
	for (i = 0; i < subs->nr_shards; i++) {
		spin_lock_nest_lock(&subs->shards[i].lock, &subs->lock);
		/* sparse cannot count them; subs->lock stands for all */
		__release(&subs->shards[i].lock);
	}
}

/**
 * mmu_active_unlock_all() - undo mmu_active_lock_all()
 * @subs: the state of the mm
 */
void mmu_active_unlock_all(struct mmu_notifier_subscriptions *subs)
	__releases(&subs->lock)
{
	unsigned int i = subs->nr_shards;

	while (i--) {
		__acquire(&subs->shards[i].lock);
		spin_unlock(&subs->shards[i].lock);
	}
	spin_unlock(&subs->lock);
}

/*
 * Is a range of this shard calling @notifier? NULL: is a notifier called without
 * a range? Looks at active ranges, of which a task has one or two.
 */
static bool mmu_shard_pins(struct mmu_notifier_shard *shard, const void *notifier)
{
	struct mmu_notifier_range *range;

	lockdep_assert_held(&shard->lock);
	hlist_for_each_entry(range, &shard->ranges, link)
		if (notifier ? range->at == notifier : !range->mm)
			return true;
	return false;
}

static bool mmu_active_pins(struct mmu_notifier_subscriptions *subs,
			    const void *notifier)
{
	bool pinned = false;
	unsigned int i;

	for (i = 0; i < subs->nr_shards && !pinned; i++) {
		spin_lock(&subs->shards[i].lock);
		pinned = mmu_shard_pins(&subs->shards[i], notifier);
		spin_unlock(&subs->shards[i].lock);
	}
	return pinned;
}

/**
 * mmu_active_pin() - call a notifier without a range
 * @subs: the state of the mm
 * @range: any; it becomes the pin
 * @notifier: which will not be removed before mmu_active_unpin()
 */
void mmu_active_pin(struct mmu_notifier_subscriptions *subs,
		    struct mmu_notifier_range *range, const void *notifier)
{
	struct mmu_notifier_shard *shard = mmu_active_shard(subs);

	range->mm = NULL;
	range->at = notifier;
	spin_lock(&shard->lock);
	mmu_active_link_locked(subs, shard, range);
	spin_unlock(&shard->lock);
}

/**
 * mmu_active_unpin() - undo mmu_active_pin()
 * @range: the pin
 *
 * The mm still exists: the caller has a reference on it.
 */
void mmu_active_unpin(struct mmu_notifier_range *range)
{
	struct mmu_notifier_subscriptions *subs = range->shard->subs;

	mmu_active_unlink(range);
	/* Marked or not: exit waits for all pins. */
	wake_up_all(&subs->removal_wait);
}

/**
 * mmu_active_wait_unpinned() - wait until nobody calls a notifier
 * @subs: the state of the mm
 * @notifier: marked as being removed; or NULL: anybody that mmu_active_pin()
 *	was called with
 *
 * Context: sleeps.
 */
void mmu_active_wait_unpinned(struct mmu_notifier_subscriptions *subs,
			      const void *notifier)
{
	wait_event(subs->removal_wait, !mmu_active_pins(subs, notifier));
}

/**
 * mmu_active_lock_unpinned() - take all shard locks while nobody calls a notifier
 * @subs: the state of the mm
 * @notifier: to be removed
 * @removing: its mark, which is set if somebody has to be waited for
 *
 * Context: sleeps. The caller removes it and calls mmu_active_unlock_all().
 */
void mmu_active_lock_unpinned(struct mmu_notifier_subscriptions *subs,
			      const void *notifier, bool *removing)
	__acquires(&subs->lock)
{
	bool pinned = false;
	unsigned int i;

	mmu_active_lock_all(subs);
	for (i = 0; i < subs->nr_shards && !pinned; i++)
		if (!hlist_empty(&subs->shards[i].ranges))
			pinned = mmu_shard_pins(&subs->shards[i], notifier);
	if (likely(!pinned))
		return;
	WRITE_ONCE(*removing, true);
	mmu_active_unlock_all(subs);
	mmu_active_wait_unpinned(subs, notifier);
	mmu_active_lock_all(subs);
}
