// SPDX-License-Identifier: GPL-2.0
/*
 * Walks: calling the notifiers of an mm one after the other while others are removed.
 *
 * Callbacks sleep, so they run without a lock. Under its shard's lock a walk collects
 * the next notifiers in @batch; its cursor remembers where to continue after that.
 *
 * A walk publishes in @now which notifier it calls. Removal holds all shard locks while
 * it takes the notifier out of the tree or the list and out of every batch, and moves
 * every cursor that points at it. From then on no walk can begin to call it, except one
 * that has loaded it from its batch and not published it yet. Both steps are inside one
 * RCU read-side critical section, so removal waits for a grace period before it looks:
 *
 *	walk	[ load batch (b), store now (n), load awaited (a) ]  call
 *	remove	clear batch (B), set awaited (A), grace period (G), load now (N)
 *
 * A section that began before G has ended, so N sees n, and removal waits for the
 * callback. A section that begins after G began sees B and A: it skips the notifier, and
 * it wakes removal if the notifier is the one that it leaves. Inside the section the
 * order is free, so a walk needs neither an atomic operation nor a barrier per notifier.
 * Removal needs the grace period only if a walk has the notifier in its batch or calls
 * it.
 *
 * Each shard has a walk of its own. It ends without the lock (mmu_walk_leave_own()), and a
 * single notifier, the usual case, needs no batch (mmu_one_begin_locked()). While one task
 * uses it, others link walks that are on their stacks into the shard.
 * dev/model/walk.pml and own.pml verify both.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>

#include "mmu_notifier.h"

static void mmu_walk_collect_intervals(struct mmu_walk *walk)
{
	unsigned long start = walk->start, last = walk->last;
	struct interval_tree_node *node = walk->interval;
	struct mmu_interval_notifier *sub;
	bool aging = walk->aging;
	unsigned int nr = 0;

	for (; node && nr < MMU_WALK_BATCH; node = interval_tree_iter_next(node, start, last)) {
		sub = container_of(node, struct mmu_interval_notifier, interval_tree);
		if (likely(!aging) || sub->ops->age)
			walk->batch[nr++] = sub;
	}
	walk->interval = node;
	walk->nr = nr;
}

static void mmu_walk_collect_list(struct mmu_walk *walk)
{
	struct hlist_node *node = walk->list;
	struct mmu_notifier *sub;
	unsigned int nr = 0;

	for (; node && nr < MMU_WALK_BATCH; node = node->next) {
		sub = hlist_entry(node, struct mmu_notifier, hlist);
		if (mmu_list_wanted(sub, walk->op, walk->epoch, walk->newer_than))
			walk->batch[nr++] = sub;
	}
	walk->list = node;
	walk->nr = nr;
}

static bool mmu_walk_collect(struct mmu_walk *walk)
{
	if (walk->in_list)
		mmu_walk_collect_list(walk);
	else
		mmu_walk_collect_intervals(walk);
	return walk->nr;
}

static void mmu_walk_link_locked(struct mmu_walk *walk, struct mmu_notifier_shard *shard,
				 const void *now)
{
	WRITE_ONCE(walk->now, now);
	WRITE_ONCE(walk->awaited, false);
	if (likely(walk == &shard->own))
		return;
	walk->shard = shard;
	hlist_add_head(&walk->link, &shard->walks);
}

/**
 * mmu_walk_begin_locked() - collect the first notifiers
 * @walk: its kind, its cursor and what it collects are set
 * @shard: that of the walk from now on
 *
 * Context: @shard is locked.
 * Return: true if there are notifiers to call: mmu_walk_for_each() and mmu_walk_leave()
 * follow. If false, the walk has not begun.
 */
bool mmu_walk_begin_locked(struct mmu_walk *walk, struct mmu_notifier_shard *shard)
{
	if (!mmu_walk_collect(walk))
		return false;
	mmu_walk_link_locked(walk, shard, MMU_WALK_NONE);
	return true;
}

/**
 * mmu_walk_list() - begin a walk of list notifiers that belongs to no range
 * @stack: the walk to use if that of the shard is busy
 * @subs: the state of the mm
 * @op: mmu_walk_op() of the callback to call
 *
 * Return: the walk, for mmu_walk_for_each() and mmu_walk_leave(); or NULL if there are no
 * notifiers to call.
 */
struct mmu_walk *mmu_walk_list(struct mmu_walk *stack, struct mmu_notifier_subscriptions *subs,
			       size_t op)
{
	struct mmu_notifier_shard *shard = mmu_shard_lock(subs);
	struct mmu_walk *walk = mmu_walk_choose(shard, stack);
	bool any;

	mmu_walk_init_list(walk, subs, op, U64_MAX, 0);
	any = mmu_walk_begin_locked(walk, shard);
	spin_unlock(&shard->lock);
	return any ? walk : NULL;
}

/**
 * mmu_walk_one() - begin a walk of a single list notifier, and publish it
 * @walk: the walk, which is not that of a shard
 * @subs: the state of the mm
 * @sub: the notifier; mmu_walk_leave() follows
 */
void mmu_walk_one(struct mmu_walk *walk, struct mmu_notifier_subscriptions *subs,
		  const void *sub)
{
	struct mmu_notifier_shard *shard = mmu_shard_lock(subs);

	walk->in_list = true;
	walk->nr = 0;
	mmu_walk_link_locked(walk, shard, sub);
	spin_unlock(&shard->lock);
}

/**
 * mmu_walk_refill() - collect the next notifiers
 * @walk: its cursor is not NULL, and those of its batch have been called
 *
 * Return: true if there are any; the last one is no longer published then.
 */
bool mmu_walk_refill(struct mmu_walk *walk)
{
	struct mmu_notifier_shard *shard = walk->shard;
	bool any;

	spin_lock(&shard->lock);
	WRITE_ONCE(walk->now, MMU_WALK_NONE);
	any = mmu_walk_collect(walk);
	spin_unlock(&shard->lock);
	if (unlikely(READ_ONCE(walk->awaited)))
		wake_up_all(&shard->subs->removal_wait);
	return any;
}

/**
 * mmu_walk_unlink() - end a walk that is on the stack
 * @walk: the walk
 */
void mmu_walk_unlink(struct mmu_walk *walk)
{
	struct mmu_notifier_shard *shard = walk->shard;
	bool wake;

	spin_lock(&shard->lock);
	__hlist_del(&walk->link);
	wake = walk->awaited;
	spin_unlock(&shard->lock);
	if (unlikely(wake))
		wake_up_all(&shard->subs->removal_wait);
}

/* ---- removal ---- */

/* Move the cursor past @node. */
static void mmu_walk_pass(struct mmu_walk *walk, const void *node)
{
	if (walk->cursor != node)
		return;
	/* Pairs with the look without the lock in mmu_walk_next(). */
	if (walk->in_list)
		WRITE_ONCE(walk->list, walk->list->next);
	else
		WRITE_ONCE(walk->interval, interval_tree_iter_next(walk->interval, walk->start,
								   walk->last));
}

/*
 * Let the walk not begin to call @sub. Returns true if it calls @sub already, or may be
 * about to publish it.
 */
static bool mmu_walk_forget(struct mmu_walk *walk, const void *sub, const void *node)
{
	/*
	 * Pairs with mmu_walk_publish() and mmu_walk_leave_own(), which need no lock: if
	 * the callback has returned, removal also sees its effects, and what it posted.
	 */
	bool busy = smp_load_acquire(&walk->now) == sub;
	unsigned int i;

	if (walk->nr)
		mmu_walk_pass(walk, node);
	/* Also if it has been called already: that costs a grace period, but no wait. */
	for (i = 0; i < walk->nr; i++) {
		if (walk->batch[i] != sub)
			continue;
		WRITE_ONCE(walk->batch[i], MMU_WALK_NONE);
		busy = true;
	}
	if (busy)
		WRITE_ONCE(walk->awaited, true);
	return busy;
}

static noinline bool mmu_shard_forget(struct mmu_notifier_shard *shard, const void *sub,
				      const void *node)
{
	struct mmu_walk *walk;
	bool busy = false;

	/* If it is not in use, what it contains is old. */
	if (mmu_own_busy(shard))
		busy = mmu_walk_forget(&shard->own, sub, node);
	hlist_for_each_entry(walk, &shard->walks, link)
		busy |= mmu_walk_forget(walk, sub, node);
	return busy;
}

/**
 * mmu_walks_forget() - let no walk begin to call a notifier
 * @subs: the state of the mm
 * @sub: the notifier, of either kind
 * @node: its node in the tree or in the list, where it still is
 *
 * Context: all shards are locked.
 * Return: true if a walk may be calling it: mmu_walks_await() has to follow.
 */
bool mmu_walks_forget(struct mmu_notifier_subscriptions *subs, const void *sub,
		      const void *node)
{
	struct mmu_notifier_shard *shard;
	bool busy = false;

	mmu_for_each_shard(shard, subs)
		if (mmu_own_busy(shard) || unlikely(!hlist_empty(&shard->walks)))
			busy |= mmu_shard_forget(shard, sub, node);
	return busy;
}

/* Does the walk call @sub; or any list notifier, if @sub is NULL? */
static bool mmu_walk_calls(const struct mmu_walk *walk, const void *sub)
{
	/* Pairs with the releases in mmu_walk_publish() and mmu_walk_leave_own(). */
	const void *now = smp_load_acquire(&walk->now);

	return sub ? now == sub : walk->in_list && now && now != MMU_WALK_NONE;
}

static bool mmu_shard_calls(struct mmu_notifier_shard *shard, const void *sub)
{
	const struct mmu_walk *walk;
	bool busy;

	spin_lock(&shard->lock);
	busy = mmu_walk_calls(&shard->own, sub);
	hlist_for_each_entry(walk, &shard->walks, link)
		busy |= mmu_walk_calls(walk, sub);
	spin_unlock(&shard->lock);
	return busy;
}

static bool mmu_walks_at(struct mmu_notifier_subscriptions *subs, const void *sub)
{
	struct mmu_notifier_shard *shard;

	mmu_for_each_shard(shard, subs)
		if (mmu_shard_calls(shard, sub))
			return true;
	return false;
}

/**
 * mmu_walks_await() - wait until no walk calls a notifier
 * @subs: the state of the mm
 * @sub: a notifier for which mmu_walks_forget() returned true; NULL: all list notifiers,
 *	after it was called for each of them
 *
 * Context: sleeps.
 */
void mmu_walks_await(struct mmu_notifier_subscriptions *subs, const void *sub)
{
	synchronize_rcu_expedited();
	wait_event(subs->removal_wait, !mmu_walks_at(subs, sub));
}
