// SPDX-License-Identifier: GPL-2.0
/*
 * The active set: all ranges of an armed mm that have started and not ended.
 *
 * It is split into shards. A range goes to the shard of the CPU it starts on
 * and remembers it, so that invalidations on different CPUs write no common
 * cache line. What is rare pays for that: waiting looks at all shards, and
 * changing the interval tree takes all of their locks, in order.
 *
 * Waiting is precise. A waiter first counts up the ticket of each shard, and then
 * waits until none of the ranges with an earlier one overlaps its interval. Ranges
 * that start later do not prolong the wait: their callbacks will change the
 * sequence count, so the waiter's caller cannot miss them.
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
#include <linux/export.h>
#include <linux/sched.h>

#define CREATE_TRACE_POINTS
#include <trace/events/mmu_notifier.h>

#include "mmu_notifier.h"

/* Mere pins have no mm, and are about no addresses. */
static bool mmu_range_overlaps(const struct mmu_notifier_range *range,
			       unsigned long start, unsigned long last)
{
	return range->mm && range->start <= last && range->end - 1 >= start;
}

/**
 * struct mmu_active_waiter - which ranges somebody waits for
 * @start: first address of interest
 * @last: last address of interest
 * @busy: bit mask of the shards that had such ranges
 * @tickets: for each of these, the ticket that later ranges have
 */
struct mmu_active_waiter {
	unsigned long start;
	unsigned long last;
	unsigned long busy;
	unsigned long tickets[MMU_NOTIFIER_MAX_SHARDS];
};

/* Does any range of the shard overlap? Marks all of them, so that their end wakes us. */
static bool mmu_shard_busy(struct mmu_notifier_shard *shard,
			   const struct mmu_active_waiter *waiter, unsigned long ticket)
{
	struct mmu_notifier_range *range;
	bool busy = false;

	lockdep_assert_held(&shard->lock);
	hlist_for_each_entry(range, &shard->ranges, link) {
		if ((long)(range->ticket - ticket) >= 0)
			continue;
		if (!mmu_range_overlaps(range, waiter->start, waiter->last))
			continue;
		range->awaited = true;
		busy = true;
	}
	return busy;
}

static void mmu_shard_draw(struct mmu_notifier_shard *shard, unsigned int i,
			   struct mmu_active_waiter *waiter)
{
	spin_lock(&shard->lock);
	waiter->tickets[i] = ++shard->ticket;
	if (mmu_shard_busy(shard, waiter, waiter->tickets[i]))
		__set_bit(i, &waiter->busy);
	spin_unlock(&shard->lock);
}

static bool mmu_shard_waits(struct mmu_notifier_shard *shard, unsigned int i,
			    const struct mmu_active_waiter *waiter)
{
	bool busy;

	spin_lock(&shard->lock);
	busy = mmu_shard_busy(shard, waiter, waiter->tickets[i]);
	spin_unlock(&shard->lock);
	return busy;
}

/*
 * Ends, because no range is added to those before the tickets and each of them
 * ends without waiting for us: nothing may wait here while it holds a lock that
 * an invalidation needs.
 */
static void mmu_active_wait_drawn(struct mmu_notifier_subscriptions *subs,
				  struct mmu_active_waiter *waiter)
{
	unsigned int i;

	if (!waiter->busy)
		return;
	trace_mmu_notifier_wait(subs->mm, waiter->start, waiter->last);
	for_each_set_bit(i, &waiter->busy, subs->nr_shards)
		wait_event(subs->range_wait,
			   !mmu_shard_waits(&subs->shards[i], i, waiter));
}

/**
 * mmu_active_wait() - wait for the ranges that are active and overlap
 * @subs: the state of the mm
 * @start: first address of interest
 * @last: last address of interest
 *
 * May miss a range that is just being linked: its callbacks have not run yet.
 * So it is for those who will notice these callbacks. Ranges that are linked
 * after the call are not waited for: all tickets are drawn before the first wait.
 *
 * Context: sleeps.
 */
void mmu_active_wait(struct mmu_notifier_subscriptions *subs,
		     unsigned long start, unsigned long last)
{
	struct mmu_active_waiter waiter = { .start = start, .last = last };
	unsigned int i;

	might_sleep();
	for (i = 0; i < subs->nr_shards; i++)
		/* Pairs with the release in mmu_active_unlink(). */
		if (smp_load_acquire(&subs->shards[i].ranges.first))
			mmu_shard_draw(&subs->shards[i], i, &waiter);
	mmu_active_wait_drawn(subs, &waiter);
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
	struct mmu_active_waiter waiter = { .last = ULONG_MAX };
	unsigned int i;

	mmu_active_might_wait();
	might_sleep();
	for (i = 0; i < subs->nr_shards; i++)
		mmu_shard_draw(&subs->shards[i], i, &waiter);
	mmu_active_wait_drawn(subs, &waiter);
}

static bool mmu_shard_overlaps(struct mmu_notifier_shard *shard, unsigned long start,
			       unsigned long last)
{
	struct mmu_notifier_range *range;
	bool overlaps = false;

	/* Pairs with the release in mmu_active_unlink(). */
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
 * mmu_notifier_range_is_valid() - is no change under way that overlaps?
 * @mm: that the caller has a notifier on
 * @start: first address
 * @end: first address behind
 *
 * With mmu_notifier_range_wait_valid() this spares a list notifier counts of active
 * ranges. All it needs is a sequence of its own, which its start callback changes
 * under the lock that protects its mappings. A fault of the device reads the
 * sequence (s), asks here or waits there (w), looks the page up, takes the lock, and
 * uses the page if the sequence is the same. The range became active before its
 * callback changed the sequence; so a fault whose s saw that change sees the range at
 * w, or what it did to the page tables.
 *
 * Context: any but hard and soft interrupts; not under a lock that is taken in one.
 * Return: true if none was active; it can be again at any time.
 */
bool mmu_notifier_range_is_valid(struct mm_struct *mm, unsigned long start,
				 unsigned long end)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);
	unsigned int i;

	/* The caller's sequence before the ranges: s before w. */
	smp_mb();
	for (i = 0; i < subs->nr_shards; i++)
		if (mmu_shard_overlaps(&subs->shards[i], start, end - 1))
			return false;
	return true;
}
EXPORT_SYMBOL_GPL(mmu_notifier_range_is_valid);

/**
 * mmu_notifier_range_wait_valid() - wait for the changes that are under way and overlap
 * @mm: that the caller has a notifier on
 * @start: first address
 * @end: first address behind
 *
 * See mmu_notifier_range_is_valid(). Does not wait for changes that begin later.
 *
 * Context: sleeps; not in a callback, nor under a lock that one takes.
 */
void mmu_notifier_range_wait_valid(struct mm_struct *mm, unsigned long start,
				   unsigned long end)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);

	mmu_active_wait_valid(subs, start, end - 1);
}
EXPORT_SYMBOL_GPL(mmu_notifier_range_wait_valid);

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
