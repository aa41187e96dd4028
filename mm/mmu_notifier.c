// SPDX-License-Identifier: GPL-2.0
/*
 * MMU notifiers: announce changes of page tables to subscribers that mirror them.
 *
 * Objects. An mm gets a struct mmu_notifier_subscriptions with its first subscriber and
 * keeps it until the mm is freed. It holds the list notifiers, the interval notifiers
 * and the active set: the ranges that have started and not ended. The ranges themselves
 * are on the stacks of the tasks that change the page tables.
 *
 * This file handles a range from its start to its end. It uses the files below; each of
 * them uses only files further down:
 *
 *	mmu_notifier_register.c		registration of list notifiers
 *	mmu_interval_notifier.c		insertion of interval notifiers; collision and retry
 *	mmu_notifier_arm.c		whether the ranges of an mm are recorded
 *	mm_all_locks.c			excluding all changes, for arming
 *	mmu_notifier_walk.c		calling notifiers while others are removed
 *	mmu_notifier_active.c		the active set; waiting for ranges
 *
 * DEBUG_MMU_NOTIFIER adds
 *
 *	mmu_notifier_usage.c		checks how ranges are used
 *	mmu_notifier_coverage.c		checks that changes are inside ranges
 *
 * Invariants.
 *
 * - While an mm is armed, every range is in the active set from before its first start
 *   callback until the change is complete. End callbacks follow.
 * - A list notifier is called for the start and the end of exactly those ranges that
 *   start after its registration. Registration begins a new epoch, a range records the
 *   epoch in which it starts, and registration returns only when no range of an earlier
 *   epoch is active.
 * - Removal of a notifier waits for its running callbacks. It never waits for callbacks
 *   of other notifiers.
 * - Notifiers are added to the head of the list. If one of them refuses a range, those
 *   whose start callback has run are exactly the newer ones that are still registered.
 * - The release callback runs at most once, and returns before page tables are freed.
 *
 * Lock order: mmap_lock or a reverse-map lock; page-table lock; @subs->lock; shard locks.
 * Callbacks run without the last two.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <kunit/visibility.h>
#include <linux/export.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>

#include <trace/events/mmu_notifier.h>

#include "mmu_notifier.h"

/* ---- callbacks of one notifier ---- */

/* Only a non-blockable range may be refused: its caller can do without the change. */
static bool mmu_refused(const struct mmu_notifier_range *range, bool refused,
			const void *callback)
{
	if (!mmu_notifier_range_blockable(range))
		return refused;
	WARN_ONCE(refused, "%ps refused a blockable range\n", callback);
	return false;
}

/* DEBUG_ATOMIC_SLEEP reports a callback that sleeps although it must not. */
static __always_inline void mmu_callback_begin(const struct mmu_notifier_range *range)
{
	if (!mmu_notifier_range_blockable(range))
		non_block_start();
}

static __always_inline void mmu_callback_end(const struct mmu_notifier_range *range)
{
	if (!mmu_notifier_range_blockable(range))
		non_block_end();
}

static __always_inline bool mmu_list_call_start(struct mmu_notifier *sub,
						const struct mmu_notifier_range *range)
{
	bool refused;

	mmu_callback_begin(range);
	refused = sub->ops->invalidate_range_start(sub, range);
	mmu_callback_end(range);
	return likely(!refused) ||
	       !mmu_refused(range, refused, sub->ops->invalidate_range_start);
}

static __always_inline void mmu_list_call_end(struct mmu_notifier *sub,
					      const struct mmu_notifier_range *range)
{
	mmu_callback_begin(range);
	sub->ops->invalidate_range_end(sub, range);
	mmu_callback_end(range);
}

/* Posted: @finish is set, and linked before those in *@posted. */
static void mmu_interval_post(struct mmu_interval_notifier *sub,
			      struct mmu_interval_notifier_finish *finish,
			      struct mmu_interval_notifier_finish **posted)
{
	finish->notifier = sub;
	finish->next = *posted;
	*posted = finish;
	/* Before the walk moves on, see mmu_interval_notifier.c. */
	atomic_inc(&sub->nr_posted);
}

/* The first of two phases. */
static noinline bool mmu_interval_call_start(struct mmu_interval_notifier *sub,
					     const struct mmu_notifier_range *range,
					     unsigned long seq,
					     struct mmu_interval_notifier_finish **posted)
{
	struct mmu_interval_notifier_finish *finish = NULL;
	bool done;

	mmu_callback_begin(range);
	done = sub->ops->invalidate_start(sub, range, seq, &finish);
	mmu_callback_end(range);
	if (mmu_refused(range, !done, sub->ops->invalidate_start))
		return false;
	if (finish)
		mmu_interval_post(sub, finish, posted);
	return true;
}

static __always_inline bool mmu_interval_call(struct mmu_interval_notifier *sub,
					      const struct mmu_notifier_range *range,
					      unsigned long seq,
					      struct mmu_interval_notifier_finish **posted)
{
	bool done;

	if (unlikely(!sub->ops->invalidate))
		return mmu_interval_call_start(sub, range, seq, posted);
	mmu_callback_begin(range);
	done = sub->ops->invalidate(sub, range, seq);
	mmu_callback_end(range);
	return likely(done) || !mmu_refused(range, !done, sub->ops->invalidate);
}

/* Finish what was posted. The callback may free its structure. */
static void mmu_interval_finish_all(const struct mmu_notifier_range *range,
				    struct mmu_interval_notifier_finish *finish)
{
	struct mmu_interval_notifier_finish *next;
	struct mmu_interval_notifier *sub;

	for (; finish; finish = next) {
		next = finish->next;
		sub = finish->notifier;
		mmu_callback_begin(range);
		sub->ops->invalidate_finish(finish);
		mmu_callback_end(range);
		mmu_interval_finished(mmu_notifier_subscriptions(range->mm), sub);
	}
}

/*
 * The only list notifier, if it has the callback and is not excluded by its epoch.
 * Otherwise NULL: there may be several.
 */
static __always_inline struct mmu_notifier *
mmu_list_only(struct mmu_notifier_subscriptions *subs, size_t op, u64 epoch, u64 newer_than)
{
	struct mmu_notifier *sub = hlist_entry_safe(subs->list.first, struct mmu_notifier, hlist);

	if (!sub || sub->hlist.next)
		return NULL;
	return mmu_list_wanted(sub, op, epoch, newer_than) ? sub : NULL;
}

/* ---- the end of a range ---- */

/*
 * Call the end callbacks of list notifiers whose start callback has accepted @range: the
 * ones newer than @refused. The change is complete, so the range is unlinked first.
 * Returns true if the caller has to wake @range_wait.
 */
static noinline bool mmu_range_end_walk(struct mmu_notifier_subscriptions *subs,
					struct mmu_notifier_shard *shard,
					struct mmu_notifier_range *range, u64 refused)
	__releases(&shard->lock)
{
	struct mmu_walk stack __uninitialized, *walk = mmu_walk_choose(shard, &stack);
	struct mmu_notifier *sub;
	bool any, wake;

	mmu_walk_init_list(walk, subs, mmu_walk_op(invalidate_range_end), range->epoch, refused);
	any = mmu_walk_begin_locked(walk, shard);
	wake = mmu_active_unlink_locked(range);
	spin_unlock(&shard->lock);
	if (any) {
		mmu_walk_for_each(sub, walk)
			mmu_list_call_end(sub, range);
		mmu_walk_leave(walk);
	}
	return wake;
}

static noinline void mmu_range_end_list(struct mmu_notifier_subscriptions *subs,
					struct mmu_notifier_shard *shard,
					struct mmu_notifier_range *range, u64 refused)
{
	struct mmu_notifier *sub;
	bool wake;

	spin_lock(&shard->lock);
	sub = mmu_list_only(subs, mmu_walk_op(invalidate_range_end), range->epoch, refused);
	if (likely(sub && mmu_one_begin_locked(shard, sub, true))) {
		wake = mmu_active_unlink_locked(range);
		spin_unlock(&shard->lock);
		mmu_list_call_end(sub, range);
		mmu_walk_leave_own(&shard->own);
	} else {
		wake = mmu_range_end_walk(subs, shard, range, refused);
	}
	if (unlikely(wake))
		wake_up_all(&subs->range_wait);
}

/* End @range without any callback, and release the lock of @shard. */
static __always_inline void mmu_range_unlink_locked(struct mmu_notifier_shard *shard,
						    struct mmu_notifier_range *range)
	__releases(&shard->lock)
{
	bool wake = mmu_active_unlink_locked(range);

	spin_unlock(&shard->lock);
	if (unlikely(wake))
		wake_up_all(&shard->subs->range_wait);
}

static __always_inline void mmu_range_unlink(struct mmu_notifier_shard *shard,
					     struct mmu_notifier_range *range)
{
	spin_lock(&shard->lock);
	mmu_range_unlink_locked(shard, range);
}

/* What mmu_notifier_invalidate_range_end() does with a linked range. */
void __mmu_notifier_invalidate_range_end(struct mmu_notifier_range *range)
{
	struct mmu_notifier_subscriptions *subs;
	struct mmu_notifier_shard *shard;

	lock_map_acquire(&__mmu_notifier_invalidate_range_start_map);
	trace_mmu_notifier_end(range);
	subs = mmu_notifier_subscriptions(range->mm);
	shard = &subs->shards[range->shard] - 1;
	/* See mmu_shard_lock(). */
	OPTIMIZER_HIDE_VAR(shard);
	/*
	 * No lock is needed: a notifier whose start callback was called had been added
	 * before, so it is seen here unless it has been removed.
	 */
	if (unlikely(!hlist_empty(&subs->list)))
		mmu_range_end_list(subs, shard, range, 0);
	else
		mmu_range_unlink(shard, range);
	lock_map_release(&__mmu_notifier_invalidate_range_start_map);
}
EXPORT_SYMBOL_IF_KUNIT(__mmu_notifier_invalidate_range_end);

/* ---- the start of a range ---- */

/* Several interval notifiers. Returns false if one refuses. */
static noinline bool mmu_range_walk_intervals(struct mmu_notifier_shard *shard,
					      const struct mmu_notifier_range *range,
					      struct interval_tree_node *first,
					      unsigned long seq, unsigned int *nr_called,
					      struct mmu_interval_notifier_finish **posted)
	__releases(&shard->lock)
{
	struct mmu_walk stack __uninitialized, *walk = mmu_walk_choose(shard, &stack);
	struct mmu_interval_notifier *sub;
	unsigned int nr = 0;
	bool done = true;

	mmu_walk_init_intervals(walk, first, range->start, range->end - 1, false);
	mmu_walk_begin_locked(walk, shard);
	spin_unlock(&shard->lock);
	mmu_walk_for_each(sub, walk) {
		nr++;
		done = mmu_interval_call(sub, range, seq, posted);
		if (unlikely(!done))
			break;
	}
	mmu_walk_leave(walk);
	*nr_called += nr;
	return done;
}

/* @first is the first one to call. Returns false if one refuses. */
static __always_inline bool mmu_range_call_intervals(struct mmu_notifier_shard *shard,
						     const struct mmu_notifier_range *range,
						     struct interval_tree_node *first,
						     unsigned int *nr_called,
						     struct mmu_interval_notifier_finish **posted)
	__releases(&shard->lock)
{
	/* Odd and unique: each shard has its own values, and those of insert are even. */
	unsigned long seq = shard->seq += 2 * MMU_NOTIFIER_MAX_SHARDS;
	struct mmu_interval_notifier *sub;
	bool done;

	sub = container_of(first, struct mmu_interval_notifier, interval_tree);
	if (interval_tree_iter_next(first, range->start, range->end - 1) ||
	    !mmu_one_begin_locked(shard, sub, false))
		return mmu_range_walk_intervals(shard, range, first, seq, nr_called, posted);
	spin_unlock(&shard->lock);
	done = mmu_interval_call(sub, range, seq, posted);
	mmu_walk_leave_own(&shard->own);
	++*nr_called;
	return done;
}

/* Several list notifiers. Returns false if one refuses: then *@refused is its epoch. */
static noinline bool mmu_range_walk_list(struct mmu_notifier_subscriptions *subs,
					 struct mmu_notifier_shard *shard,
					 const struct mmu_notifier_range *range,
					 unsigned int *nr_called, u64 *refused)
	__releases(&shard->lock)
{
	struct mmu_walk stack __uninitialized, *walk = mmu_walk_choose(shard, &stack);
	struct mmu_notifier *sub;
	unsigned int nr = 0;
	bool done = true, any;

	mmu_walk_init_list(walk, subs, mmu_walk_op(invalidate_range_start), range->epoch, 0);
	any = mmu_walk_begin_locked(walk, shard);
	spin_unlock(&shard->lock);
	if (!any)
		return true;
	mmu_walk_for_each(sub, walk) {
		nr++;
		done = mmu_list_call_start(sub, range);
		if (unlikely(!done)) {
			*refused = sub->epoch;
			break;
		}
	}
	mmu_walk_leave(walk);
	*nr_called += nr;
	return done;
}

static __always_inline bool mmu_range_call_list(struct mmu_notifier_subscriptions *subs,
						struct mmu_notifier_shard *shard,
						const struct mmu_notifier_range *range,
						unsigned int *nr_called, u64 *refused)
	__releases(&shard->lock)
{
	struct mmu_notifier *sub;
	bool done;

	sub = mmu_list_only(subs, mmu_walk_op(invalidate_range_start), range->epoch, 0);
	if (unlikely(!sub || !mmu_one_begin_locked(shard, sub, true)))
		return mmu_range_walk_list(subs, shard, range, nr_called, refused);
	spin_unlock(&shard->lock);
	done = mmu_list_call_start(sub, range);
	++*nr_called;
	/* From mmu_walk_leave_own() on, it may be freed. */
	if (unlikely(!done))
		*refused = sub->epoch;
	mmu_walk_leave_own(&shard->own);
	return done;
}

/* Nothing changes in an empty range, and callbacks do not expect one. */
static noinline int mmu_range_drop(struct mmu_notifier_shard *shard,
				   struct mmu_notifier_range *range)
	__releases(&shard->lock)
{
	mmu_range_unlink_locked(shard, range);
	return 0;
}

/* A notifier has refused @range: it is over for those that have accepted it. */
static noinline int mmu_range_refuse(struct mmu_notifier_subscriptions *subs,
				     struct mmu_notifier_shard *shard,
				     struct mmu_notifier_range *range, u64 refused)
{
	mmu_range_end_list(subs, shard, range, refused);
	return -EAGAIN;
}

/* @range is linked and there are list notifiers. Releases the lock of @shard. */
static noinline int mmu_range_hit_list(struct mmu_notifier_subscriptions *subs,
				       struct mmu_notifier_shard *shard,
				       struct mmu_notifier_range *range)
	__releases(&shard->lock)
{
	unsigned int nr_called = 0;
	u64 refused;
	bool done;

	if (unlikely(range->start >= range->end))
		return mmu_range_drop(shard, range);
	done = mmu_range_call_list(subs, shard, range, &nr_called, &refused);
	trace_mmu_notifier_start(range, nr_called, done ? 0 : -EAGAIN);
	if (likely(done))
		return 0;
	return mmu_range_refuse(subs, shard, range, refused);
}

/*
 * @range is linked, @first is the first interval notifier to call, and there may be list
 * notifiers. Releases the lock of @shard.
 */
static noinline int mmu_range_hit(struct mmu_notifier_subscriptions *subs,
				  struct mmu_notifier_shard *shard,
				  struct mmu_notifier_range *range,
				  struct interval_tree_node *first)
	__releases(&shard->lock)
{
	struct mmu_interval_notifier_finish *posted = NULL;
	unsigned int nr_called = 0;
	u64 refused = U64_MAX;
	bool done;

	if (unlikely(range->start >= range->end))
		return mmu_range_drop(shard, range);
	done = mmu_range_call_intervals(shard, range, first, &nr_called, &posted);
	/* Those that are registered from now on are excluded by their epoch. */
	if (unlikely(!hlist_empty(&subs->list)) && done) {
		spin_lock(&shard->lock);
		done = mmu_range_call_list(subs, shard, range, &nr_called, &refused);
	}
	/* Last, so that devices process them while list notifiers are called. */
	if (unlikely(posted))
		mmu_interval_finish_all(range, posted);
	trace_mmu_notifier_start(range, nr_called, done ? 0 : -EAGAIN);
	if (likely(done))
		return 0;
	return mmu_range_refuse(subs, shard, range, refused);
}

/* What mmu_notifier_invalidate_range_start() does on an armed mm. */
int __mmu_notifier_invalidate_range_start(struct mmu_notifier_range *range)
{
	struct interval_tree_node *first;
	struct mmu_notifier_shard *shard;

	shard = mmu_shard_lock(mmu_notifier_subscriptions(range->mm));
	mmu_active_link_locked(shard, range);
	/* Loads shard->subs again, since keeping it across the calls costs more. */
	if (!RB_EMPTY_ROOT(&shard->subs->intervals.rb_root)) {
		first = interval_tree_iter_first(&shard->subs->intervals, range->start,
						 range->end - 1);
		if (first)
			return mmu_range_hit(shard->subs, shard, range, first);
	}
	if (unlikely(!hlist_empty(&shard->subs->list)))
		return mmu_range_hit_list(shard->subs, shard, range);
	spin_unlock(&shard->lock);
	/* Most ranges have no notifier to call. */
	trace_mmu_notifier_start(range, 0, 0);
	return 0;
}
EXPORT_SYMBOL_IF_KUNIT(__mmu_notifier_invalidate_range_start);

/* ---- under the page-table lock ---- */

/*
 * Call the age callback @_op of the list notifiers; non-zero if any of them returned
 * non-zero. Clearing must reach all of them: @_all. Testing stops at the first one.
 */
#define mmu_list_any(_subs, _mm, _all, _op, ...)				\
({										\
	struct mmu_notifier_subscriptions *__subs = (_subs);			\
	struct mmu_walk __stack __uninitialized, *__walk;			\
	struct mmu_notifier *__sub;						\
	int __any = 0;								\
										\
	__walk = !READ_ONCE(__subs->nr_asked) ? NULL :				\
		mmu_walk_list(&__stack, __subs, mmu_walk_op(_op));		\
	if (__walk) {								\
		mmu_walk_for_each(__sub, __walk) {				\
			__any |= __sub->ops->_op(__sub, _mm, __VA_ARGS__);	\
			if (!(_all) && __any)					\
				break;						\
		}								\
		mmu_walk_leave(__walk);						\
	}									\
	__any;									\
})

static noinline bool __mmu_interval_age(struct mmu_notifier_subscriptions *subs,
					unsigned long start, unsigned long end, bool clear)
{
	struct mmu_notifier_shard *shard = mmu_shard_lock(subs);
	struct mmu_walk stack __uninitialized, *walk = mmu_walk_choose(shard, &stack);
	struct mmu_interval_notifier *sub;
	bool any, young = false;

	mmu_walk_init_intervals(walk, interval_tree_iter_first(&subs->intervals, start, end - 1),
				start, end - 1, true);
	any = mmu_walk_begin_locked(walk, shard);
	spin_unlock(&shard->lock);
	if (!any)
		return false;
	mmu_walk_for_each(sub, walk) {
		unsigned long from = max(start, sub->interval_tree.start);
		unsigned long last = min(end - 1, sub->interval_tree.last);

		young |= sub->ops->age(sub, from, last + 1, clear);
		if (!clear && young)
			break;
	}
	mmu_walk_leave(walk);
	return young;
}

/* Has any device accessed a page of the range, by its interval notifiers? */
static bool mmu_interval_age(struct mmu_notifier_subscriptions *subs,
			     unsigned long start, unsigned long end, bool clear)
{
	return READ_ONCE(subs->nr_aging) && __mmu_interval_age(subs, start, end, clear);
}

int __mmu_notifier_clear_flush_young(struct mm_struct *mm, unsigned long start,
				     unsigned long end)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);

	return mmu_list_any(subs, mm, true, clear_flush_young, start, end) |
	       mmu_interval_age(subs, start, end, true);
}

int __mmu_notifier_clear_young(struct mm_struct *mm, unsigned long start,
			       unsigned long end)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);

	return mmu_list_any(subs, mm, true, clear_young, start, end) |
	       mmu_interval_age(subs, start, end, true);
}

int __mmu_notifier_test_young(struct mm_struct *mm, unsigned long address)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);

	return mmu_list_any(subs, mm, false, test_young, address) ||
	       mmu_interval_age(subs, address, address + 1, false);
}

void __mmu_notifier_arch_invalidate_secondary_tlbs(struct mm_struct *mm,
						   unsigned long start,
						   unsigned long end)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);
	size_t op = mmu_walk_op(arch_invalidate_secondary_tlbs);
	struct mmu_walk stack __uninitialized, *walk;
	struct mmu_notifier *sub;

	if (start >= end || !READ_ONCE(subs->nr_asked))
		return;
	walk = mmu_walk_list(&stack, subs, op);
	if (!walk)
		return;
	mmu_walk_for_each(sub, walk)
		sub->ops->arch_invalidate_secondary_tlbs(sub, mm, start, end);
	mmu_walk_leave(walk);
}

/* ---- exit ---- */

/*
 * Invalidate the whole address space for interval notifiers. The range ends before the
 * list is released: a release callback may wait for a thread that is in
 * mmu_interval_read_begin(), and that thread waits for the range.
 */
static void mmu_intervals_release(struct mmu_notifier_subscriptions *subs,
				  struct mm_struct *mm)
{
	struct mmu_interval_notifier_finish *posted = NULL;
	struct interval_tree_node *first;
	struct mmu_notifier_shard *shard;
	struct mmu_notifier_range range;
	unsigned int nr_called = 0;

	mmu_notifier_range_init(&range, MMU_NOTIFY_RELEASE,
				MMU_NOTIFIER_RANGE_BLOCKABLE, mm, 0, ULONG_MAX);
	shard = mmu_shard_lock(subs);
	mmu_active_link_locked(shard, &range);
	first = interval_tree_iter_first(&subs->intervals, 0, ULONG_MAX - 1);
	if (first)
		mmu_range_call_intervals(shard, &range, first, &nr_called, &posted);
	else
		spin_unlock(&shard->lock);
	mmu_interval_finish_all(&range, posted);
	trace_mmu_notifier_start(&range, nr_called, 0);
	trace_mmu_notifier_end(&range);
	mmu_range_unlink(shard, &range);
}

/* exit_mmap(), before it unmaps anything. */
void __mmu_notifier_release(struct mm_struct *mm)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);

	mmu_intervals_release(subs, mm);
	mmu_list_release(subs, mm);
}
