// SPDX-License-Identifier: GPL-2.0
/*
 * Interval notifiers: subscriptions to an interval of one mm, with a sequence
 * count that tells a page fault of the device that it collided.
 *
 * The protocol has two sides. The invalidation links its range (L), calls the
 * notifier, which sets a new sequence value under the driver's lock (S) and
 * drops its mapping, changes the page tables (P), and unlinks the range (U).
 * The device's fault loads the sequence (s), waits for all active ranges that
 * overlap it (w), reads the page tables (p), and under the driver's lock
 * compares the sequence (c) and establishes the mapping (m).
 *
 *	invalidation	L  S  P  U
 *	fault		s  w  p  c m
 *
 * A fault that is not made to start again has s == c. If its c m came before
 * S, the callback removed the mapping. Otherwise s saw the value of S or a later
 * one; S is a release and s is followed by a full barrier, so w saw L, and
 * either waited for U, or saw U, and then p saw P. The other order, first w and
 * then s, would accept a page table entry read between L and P.
 *
 * The tree changes only under all shard locks, and is looked up under that of
 * the CPU's own. A callback may sleep, so it runs without any lock; the walker
 * pins the notifier it is at (mmu_notifier_active.c), which thereby stays in the
 * tree, and goes on from there.
 *
 * An invalidation that was posted is counted in its notifier until it is finished.
 * One range can post a hundred thousand of them, so removal must not search for
 * them: it reads the count. The walker counts before it leaves the notifier (C
 * before M), and removal looks at the ranges before it reads the count (R before
 * N), so it sees one or the other. The decrement (D) is the last access to the
 * notifier; it tells by its result whether removal waits.
 *
 *	range		at it   C  M		finish, D: zero and awaited: wake
 *	removal			mark	R  N: not zero, wait	free
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/export.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/sched/mm.h>

#include <trace/events/mmu_notifier.h>

#include "mmu_notifier.h"

/* In nr_posted: removal waits until nothing else is left in it. */
#define MMU_INTERVAL_AWAITED	BIT(30)

/**
 * mmu_interval_eligible() - whom to call
 * @node: in the tree, overlaps @range; or NULL
 * @range: the range
 *
 * Context: under a shard lock.
 * Return: the first notifier from @node on that is not being removed, or NULL.
 */
struct mmu_interval_notifier *mmu_interval_eligible(struct interval_tree_node *node,
						    const struct mmu_notifier_range *range)
{
	struct mmu_interval_notifier *interval_sub;

	for (; node; node = interval_tree_iter_next(node, range->start,
						    range->end - 1)) {
		interval_sub = container_of(node, struct mmu_interval_notifier,
					    interval_tree);
		if (likely(!interval_sub->removing))
			return interval_sub;
	}
	return NULL;
}

static struct mmu_interval_notifier *
mmu_interval_after(struct mmu_interval_notifier *interval_sub,
		   const struct mmu_notifier_range *range)
{
	struct interval_tree_node *node;

	node = interval_tree_iter_next(&interval_sub->interval_tree, range->start,
				       range->end - 1);
	return node ? mmu_interval_eligible(node, range) : NULL;
}

/*
 * Invalidate one notifier, or post that; then *@finish is set, and the notifier
 * stays pinned.
 */
static bool mmu_interval_call(struct mmu_interval_notifier *interval_sub,
			      const struct mmu_notifier_range *range,
			      unsigned long seq,
			      struct mmu_interval_notifier_finish **finish)
{
	const struct mmu_interval_notifier_ops *ops = interval_sub->ops;
	bool done;

	if (!mmu_notifier_range_blockable(range))
		non_block_start();
	if (likely(ops->invalidate))
		done = ops->invalidate(interval_sub, range, seq);
	else
		done = ops->invalidate_start(interval_sub, range, seq, finish);
	if (!mmu_notifier_range_blockable(range))
		non_block_end();
	else if (WARN_ONCE(!done, "%ps refused a blockable range\n",
			   ops->invalidate ?: (void *)ops->invalidate_start))
		/* Nobody can be asked to take the change back. */
		done = true;
	if (!done)
		*finish = NULL;
	return done;
}

/*
 * Go on from a notifier that was called: to the next one that @range hits, or,
 * when there is none, to the list. Not if the range was refused.
 */
static struct mmu_interval_notifier *
mmu_interval_next(struct mmu_notifier_range *range,
		  struct mmu_interval_notifier *interval_sub,
		  struct mmu_interval_notifier_finish *finish, bool done)
{
	struct mmu_notifier_shard *shard = range->shard;
	struct mmu_interval_notifier *next = NULL;
	const void *at = NULL;
	bool removing;

	spin_lock(&shard->lock);
	if (unlikely(finish)) {
		finish->notifier = interval_sub;
		finish->next = range->posted;
		range->posted = finish;
		/* Before the range leaves it; see the time line at the top. */
		atomic_inc(&interval_sub->nr_posted);
	}
	removing = interval_sub->removing;
	if (likely(done)) {
		next = mmu_interval_after(interval_sub, range);
		at = next ?: (void *)mmu_list_first(shard->subs, range);
	}
	range->at = at;
	spin_unlock(&shard->lock);
	if (unlikely(removing))
		wake_up_all(&shard->subs->removal_wait);
	return next;
}

/**
 * mmu_interval_invalidate() - call the notifiers that a range hits
 * @range: linked, and at @interval_sub
 * @interval_sub: the first of them
 * @nr_called: counts them
 *
 * On success the range is at the first of the list notifiers, if there are any.
 * In any case mmu_interval_finish() has to follow.
 *
 * Context: sleeps if the range is blockable.
 * Return: 0, or -EAGAIN when one of them would have had to sleep.
 */
int mmu_interval_invalidate(struct mmu_notifier_range *range,
			    struct mmu_interval_notifier *interval_sub,
			    unsigned int *nr_called)
{
	/* Odd and of this range alone; the values of insert are even. */
	unsigned long seq = atomic_long_add_return(2, &range->shard->subs->seq);
	unsigned int nr = 0;
	bool done;

	do {
		struct mmu_interval_notifier_finish *finish = NULL;

		nr++;
		done = mmu_interval_call(interval_sub, range, seq, &finish);
		interval_sub = mmu_interval_next(range, interval_sub, finish, done);
	} while (interval_sub);
	*nr_called += nr;
	return done ? 0 : -EAGAIN;
}

/* What was posted for a notifier is done; the notifier may be freed from here on. */
static void mmu_interval_finished(struct mmu_notifier_subscriptions *subs,
				  struct mmu_interval_notifier *interval_sub)
{
	if (unlikely(atomic_dec_return(&interval_sub->nr_posted) == MMU_INTERVAL_AWAITED))
		wake_up_all(&subs->removal_wait);
}

/**
 * mmu_interval_finish() - wait for the work that was posted
 * @range: linked, and at no notifier
 *
 * Context: sleeps if the range is blockable.
 */
void mmu_interval_finish(struct mmu_notifier_range *range)
{
	struct mmu_interval_notifier_finish *finish = range->posted, *next;
	struct mmu_notifier_subscriptions *subs = range->shard->subs;
	struct mmu_interval_notifier *interval_sub;

	for (; finish; finish = next) {
		/* @finish may be gone after the callback. */
		next = finish->next;
		interval_sub = finish->notifier;
		if (!mmu_notifier_range_blockable(range))
			non_block_start();
		interval_sub->ops->invalidate_finish(finish);
		if (!mmu_notifier_range_blockable(range))
			non_block_end();
		mmu_interval_finished(subs, interval_sub);
	}
	range->posted = NULL;
}

/* The next notifier that has an age callback; it is pinned, @interval_sub no more. */
static struct mmu_interval_notifier *
mmu_interval_age_next(struct mmu_notifier_subscriptions *subs,
		      struct mmu_notifier_range *pin,
		      struct mmu_interval_notifier *interval_sub)
{
	struct mmu_interval_notifier *next;

	spin_lock(&pin->shard->lock);
	next = interval_sub ? mmu_interval_after(interval_sub, pin) :
			      mmu_interval_first(subs, pin);
	while (next && !next->ops->age)
		next = mmu_interval_after(next, pin);
	pin->at = next;
	spin_unlock(&pin->shard->lock);
	return next;
}

/*
 * Under the page-table lock. The pin keeps the notifier, as that of a range does, so
 * that the callback runs without a lock of ours. To unpin wakes those who remove one.
 */
bool __mmu_interval_age(struct mmu_notifier_subscriptions *subs, unsigned long start,
			unsigned long end, bool clear)
{
	struct mmu_notifier_range pin = { .start = start, .end = end };
	struct mmu_interval_notifier *interval_sub = NULL;
	bool young = false;

	mmu_active_pin(subs, &pin, NULL);
	while ((interval_sub = mmu_interval_age_next(subs, &pin, interval_sub))) {
		unsigned long from = max(start, interval_sub->interval_tree.start);
		unsigned long last = min(end - 1, interval_sub->interval_tree.last);

		young |= interval_sub->ops->age(interval_sub, from, last + 1, clear);
		if (young && !clear)
			break;
	}
	mmu_active_unpin(&pin);
	return young;
}

/**
 * mmu_interval_read_begin() - begin to read the page tables of the interval
 * @interval_sub: inserted
 *
 * Waits for the invalidations that are under way and overlap the interval, and
 * for no others. The reader then looks the mappings up (hmm_range_fault(), or
 * get_user_pages() and the like), takes its own lock, and asks
 * mmu_interval_read_retry() before it uses them.
 *
 * Two calls that return the same value enclose a time in which no callback of
 * this notifier set the sequence.
 *
 * Context: sleeps; not in a callback, nor under a lock that one takes.
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

/* The mm is armed, and the caller's hold on that becomes the notifier's. */
static void mmu_interval_insert_armed(struct mmu_interval_notifier *interval_sub,
				      struct mm_struct *mm,
				      const struct mmu_interval_notifier_ops *ops)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);

	interval_sub->ops = ops;
	interval_sub->mm = mm;
	interval_sub->removing = false;
	atomic_set(&interval_sub->nr_posted, 0);
	/* Unlike all values that an earlier life of this memory has seen. */
	interval_sub->invalidate_seq = atomic_long_add_return(2, &subs->seq) - 1;
	mmgrab(mm);

	/*
	 * Ranges that are active already will not call this notifier; its
	 * readers find them in the active set and wait.
	 */
	mmu_active_lock_all(subs);
	interval_tree_insert(&interval_sub->interval_tree, &subs->intervals);
	if (ops->age)
		WRITE_ONCE(subs->nr_aging, subs->nr_aging + 1);
	mmu_active_unlock_all(subs);
	trace_mmu_interval_insert(interval_sub);
}

/* @arm is that of mmu_notifier_arm() which fits the locks that are held. */
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
	/* One phase, or both of two. */
	if (!ops->invalidate == !ops->invalidate_start ||
	    !ops->invalidate_start != !ops->invalidate_finish)
		return -EINVAL;
	if (atomic_read(&mm->mm_users) <= 0)
		return -EINVAL;
	ret = arm(mm);
	if (ret)
		return ret;
	mmu_interval_insert_armed(interval_sub, mm, ops);
	return 0;
}

/**
 * mmu_interval_notifier_insert() - subscribe to an interval
 * @interval_sub: the notifier, in the caller's memory until it is removed
 * @mm: whose addresses these are; the caller holds a reference on its mm_users
 * @start: first address
 * @length: in bytes, at least 1
 * @ops: the callbacks
 *
 * On return, callbacks run. Invalidations that are under way will not call
 * them, but mmu_interval_read_begin() waits for those.
 *
 * Context: sleeps. If the mm is not armed, its mmap_lock is taken for write;
 * if it is, the call is immediate, and may be made with the mmap_lock held in
 * either mode. mmu_notifier_register() of NULL keeps an mm armed for ever.
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
 * Take all shard locks while no range is calling the notifier or has posted to it.
 * Walkers need the node in the tree to go on from.
 */
static void mmu_interval_lock_unused(struct mmu_notifier_subscriptions *subs,
				     struct mmu_interval_notifier *interval_sub)
{
	mmu_active_lock_unpinned(subs, interval_sub, &interval_sub->removing);
	/* Pairs with mmu_interval_finished(): its work is seen to be done. */
	if (likely(!atomic_read_acquire(&interval_sub->nr_posted)))
		return;
	/* No walker comes to it from here on, so the count only falls. */
	WRITE_ONCE(interval_sub->removing, true);
	mmu_active_unlock_all(subs);
	atomic_add(MMU_INTERVAL_AWAITED, &interval_sub->nr_posted);
	wait_event(subs->removal_wait,
		   atomic_read_acquire(&interval_sub->nr_posted) == MMU_INTERVAL_AWAITED);
	mmu_active_lock_all(subs);
}

/**
 * mmu_interval_notifier_remove() - end a subscription
 * @interval_sub: inserted; the caller's again on return
 *
 * On return no callback of the notifier runs or will run. Waits for those that
 * are running on it or were posted to it, and for nothing else.
 *
 * Context: sleeps; not in a callback of an interval notifier, nor under a lock
 * that its own callback takes.
 */
void mmu_interval_notifier_remove(struct mmu_interval_notifier *interval_sub)
{
	struct mm_struct *mm = interval_sub->mm;
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);

	might_sleep();
	trace_mmu_interval_remove(interval_sub);

	mmu_interval_lock_unused(subs, interval_sub);
	interval_tree_remove(&interval_sub->interval_tree, &subs->intervals);
	if (interval_sub->ops->age)
		WRITE_ONCE(subs->nr_aging, subs->nr_aging - 1);
	mmu_active_unlock_all(subs);

	/* May wait for a callback, so no callback may wait for us. */
	lock_map_acquire(&__mmu_notifier_invalidate_range_start_map);
	lock_map_release(&__mmu_notifier_invalidate_range_start_map);

	mmu_notifier_disarm(mm);
	mmdrop(mm);
}
EXPORT_SYMBOL_GPL(mmu_interval_notifier_remove);
