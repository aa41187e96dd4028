// SPDX-License-Identifier: GPL-2.0
/*
 * The active set: all ranges of an armed mm that have started and not ended.
 *
 * It is split into shards. A range goes to the shard of the CPU it starts on
 * and remembers it, so that invalidations on different CPUs write no common
 * cache line. What is rare pays for that: waiting looks at all shards, and
 * changing the interval tree takes all of their locks, in order.
 *
 * Waiting is precise. A waiter notes each shard's next ticket, and waits until
 * none of the ranges with an earlier one overlaps its interval. Ranges that
 * start later do not prolong the wait: their callbacks will change the sequence
 * count, so the waiter's caller cannot miss them.
 *
 * Nobody sleeps holding a reference to a range: they live on other stacks. The
 * waiter marks what it waits for under the shard lock, and the one who unlinks
 * a marked range wakes the mm's queue.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/sched.h>
#include <linux/smp.h>

#define CREATE_TRACE_POINTS
#include <trace/events/mmu_notifier.h>

#include "mmu_notifier.h"

/**
 * mmu_active_link() - a range becomes active
 * @subs: the state of its mm
 * @range: not linked
 *
 * Return: the first interval notifier that it hits, looked up in the same
 * critical section, for mmu_interval_invalidate(); or NULL.
 */
struct mmu_interval_notifier *mmu_active_link(struct mmu_notifier_subscriptions *subs,
					      struct mmu_notifier_range *range)
{
	/* Any shard is right; the CPU's own is the one that is not contended. */
	unsigned int cpu = raw_smp_processor_id();
	struct mmu_notifier_shard *shard = &subs->shards[cpu % subs->nr_shards];
	struct mmu_interval_notifier *first;

	spin_lock(&shard->lock);
	range->shard = shard;
	range->ticket = shard->ticket++;
	range->awaited = false;
	list_add(&range->link, &shard->ranges);
	/*
	 * Ordered before the callback's mmu_interval_set_seq(), which is a
	 * release: who sees that sequence, sees this count.
	 */
	WRITE_ONCE(shard->nr_active, shard->nr_active + 1);
	/*
	 * Pairs with the release in mmu_notifier_register_armed(): who counts
	 * as registered is also found in the list.
	 */
	range->generation = smp_load_acquire(&subs->generation);
	first = mmu_interval_pin_first(subs, range);
	spin_unlock(&shard->lock);
	return first;
}

/**
 * mmu_active_unlink() - a range is done
 * @range: linked
 */
void mmu_active_unlink(struct mmu_notifier_range *range)
{
	struct mmu_notifier_shard *shard = range->shard;
	bool awaited;

	spin_lock(&shard->lock);
	list_del(&range->link);
	/*
	 * Pairs with the acquire in mmu_active_wait(): who sees the range gone,
	 * sees the page tables as they are after the change.
	 */
	smp_store_release(&shard->nr_active, shard->nr_active - 1);
	awaited = range->awaited;
	spin_unlock(&shard->lock);
	range->shard = NULL;

	if (awaited)
		wake_up_all(&shard->subs->range_wait);
}

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
	list_for_each_entry(range, &shard->ranges, link) {
		if ((long)(range->ticket - ticket) >= 0)
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
	ticket = shard->ticket;
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
		if (smp_load_acquire(&shard->nr_active))
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
