/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Internals of the MMU notifier core. See mmu_notifier.c for an overview.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef _MM_MMU_NOTIFIER_H
#define _MM_MMU_NOTIFIER_H

#include <linux/mmu_notifier.h>
#include <linux/preempt.h>
#include <linux/smp.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

/*
 * Many enough to separate CPUs, few enough to take all their locks, as inserting does. A
 * power of two, so that a shift finds the shard of a CPU.
 */
#define MMU_NOTIFIER_MAX_SHARDS	16

/* The number of notifiers that a walk collects at a time. */
#define MMU_WALK_BATCH	16

/* Instead of a notifier, in @now and @batch of a walk. */
#define MMU_WALK_NONE	((const void *)1UL)

/**
 * struct mmu_walk - a task that calls notifiers of one kind, one after the other
 * @now: the notifier that is being called; MMU_WALK_NONE before and between them; NULL in
 *	&mmu_notifier_shard.own while no task uses it
 * @op: offset of a callback in &struct mmu_notifier_ops; list notifiers without this
 *	callback are not collected
 * @aging: interval notifiers without @age are not collected
 * @in_list: it calls list notifiers, and not interval notifiers
 * @awaited: a removal may be waiting for @now to change
 * @nr: how many there are in @batch; 0 in the walk of a single notifier, which uses none
 *	of the fields below
 * @link: in &mmu_notifier_shard.walks, unless it is &mmu_notifier_shard.own
 * @shard: its lock protects the other fields; but @now, @batch and @awaited are also
 *	accessed without it, see mmu_notifier_walk.c
 * @cursor: the first notifier that is not collected yet, or NULL. Written under the lock,
 *	and compared with NULL without it
 * @interval: @cursor of a walk of interval notifiers
 * @list: @cursor of a walk of list notifiers
 * @start: first address of the intervals to collect
 * @last: last address of the intervals to collect
 * @epoch: list notifiers of later epochs are not collected
 * @newer_than: list notifiers of this epoch and of earlier ones are not collected
 * @batch: the notifiers to call; MMU_WALK_NONE for one that has been removed
 */
struct mmu_walk {
	const void *now;
	unsigned short op;
	bool aging;
	bool in_list;
	bool awaited;
	unsigned char nr;
	struct hlist_node link;
	struct mmu_notifier_shard *shard;
	union {
		const void *cursor;
		struct interval_tree_node *interval;
		struct hlist_node *list;
	};
	union {
		unsigned long start;
		u64 epoch;
	};
	union {
		unsigned long last;
		u64 newer_than;
	};
	const void *batch[MMU_WALK_BATCH];
};

/**
 * struct mmu_notifier_shard - the part of the active set for one or a few CPUs
 * @lock: protects the fields below and the ranges and walks that are linked here. The
 *	interval tree and the list change under the locks of all used shards, so any of
 *	these locks keeps both constant
 * @ranges: the active ranges, by &mmu_notifier_range.link; readers of a sequence look at
 *	its head without the lock
 * @walks: the tasks that call notifiers, by &mmu_walk.link
 * @epoch: recorded by each range that is linked. A waiter increments it to tell ranges
 *	that are linked already from later ones
 * @seq: the last sequence value of a range of this shard
 * @nr: its index plus 1; 0 until it is in &mmu_notifier_subscriptions.used
 * @subs: the state of the mm that this is a part of
 * @own: the walk of the first task that calls notifiers. A task that finds it busy uses a
 *	walk on its stack
 */
struct mmu_notifier_shard {
	spinlock_t lock;
	u8 nr;
	struct hlist_head ranges;
	struct hlist_head walks;
	u64 epoch;
	unsigned long seq;
	struct mmu_notifier_subscriptions *subs;
	struct mmu_walk own;
} ____cacheline_aligned_in_smp;

/**
 * struct mmu_notifier_subscriptions - the notifier state of one mm
 * @list: list notifiers, newest first; written under all shard locks, read under any
 *	of them
 * @intervals: interval notifiers; written and read like @list
 * @used: bit mask of the shards that have had a range or a walk. The others need not be
 *	locked or looked at. Written under @lock
 * @nr_asked: number of list notifiers with callbacks that are called under a page-table
 *	lock; written like @list, read without a lock
 * @nr_aging: number of interval notifiers with @age; likewise
 * @cpu_shift: the shard of a CPU is the CPU number shifted right by this
 * @lock: protects the fields from @nr_users to @seq, and the armed bit of the mm
 * @nr_users: number of subscribers and of mmu_notifier_arm() calls not undone
 * @idle_since: time at which @nr_users became zero, in jiffies
 * @idle_jiffies: time for which the mm stays armed after that
 * @nr_rearmed: number of times the mm was armed after having been disarmed
 * @disarm_pending: @disarm_work is queued and holds a reference on @mm
 * @interval_mode: one of @nr_users is mmu_notifier_register() of NULL, which is never
 *	undone
 * @epoch: that of the list notifier that was registered last
 * @seq: the last sequence value of an inserted interval notifier; even
 * @range_wait: waiters for the end of ranges
 * @removal_wait: waiters for callbacks of a notifier that they remove
 * @mm: the mm that owns this until the last reference to it is dropped
 * @disarm_work: disarms an mm that has had no users for a while
 * @shards: the active set
 *
 * Every invalidation reads the first group, which is rarely written.
 */
struct mmu_notifier_subscriptions {
	struct hlist_head list;
	struct rb_root_cached intervals;
	unsigned long used;
	unsigned int nr_asked;
	unsigned int nr_aging;
	unsigned int cpu_shift;

	spinlock_t lock ____cacheline_aligned_in_smp;
	unsigned int nr_users;
	bool disarm_pending;
	bool interval_mode;
	unsigned long idle_since;
	unsigned long idle_jiffies;
	unsigned int nr_rearmed;
	u64 epoch;
	unsigned long seq;
	wait_queue_head_t range_wait;
	wait_queue_head_t removal_wait;
	struct mm_struct *mm;
	struct delayed_work disarm_work;

	struct mmu_notifier_shard shards[];
};

#define mmu_walk_op(_op)	offsetof(struct mmu_notifier_ops, _op)

/*
 * Does @sub have the callback at the offset @op, and is its epoch later than @newer_than
 * and not later than @epoch, in which the range started?
 */
static inline bool mmu_list_wanted(const struct mmu_notifier *sub, size_t op, u64 epoch,
				   u64 newer_than)
{
	const void *ops = sub->ops;

	return *(void * const *)(ops + op) && sub->epoch <= epoch && sub->epoch > newer_than;
}

void mmu_shard_use_locked(struct mmu_notifier_shard *shard);

/* The state of @mm, or NULL if it has never had a subscriber. */
static inline struct mmu_notifier_subscriptions *
mmu_notifier_subscriptions(struct mm_struct *mm)
{
	unsigned long tagged = (unsigned long)READ_ONCE(mm->notifier_subscriptions);

	return (void *)(tagged & ~MMU_NOTIFIER_ARMED);
}

/* Each used shard. Without @subs->lock it may miss one that comes into use. */
#define mmu_for_each_shard(_shard, _subs)					\
	for (unsigned long __left = READ_ONCE((_subs)->used);			\
	     __left && ((_shard) = &(_subs)->shards[__ffs(__left)], true);	\
	     __left &= __left - 1)

/* Any shard is correct. That of this CPU is most likely not contended. */
static inline struct mmu_notifier_shard *
mmu_shard_lock(struct mmu_notifier_subscriptions *subs)
{
	struct mmu_notifier_shard *shard;

	shard = &subs->shards[(unsigned int)raw_smp_processor_id() >> subs->cpu_shift];
	/* Otherwise the compiler computes the address again for each member. */
	OPTIMIZER_HIDE_VAR(shard);
	spin_lock(&shard->lock);
	if (unlikely(!shard->nr))
		mmu_shard_use_locked(shard);
	return shard;
}

/*
 * @range becomes active, under the lock of its shard. mmu_interval_set_seq() in its
 * callback is a release, so a reader that sees the new sequence also sees this link.
 */
static inline void mmu_active_link_locked(struct mmu_notifier_shard *shard,
					  struct mmu_notifier_range *range)
{
	range->shard = shard->nr;
	range->epoch = shard->epoch;
	hlist_add_head(&range->link, &shard->ranges);
}

/* @range ends. Returns true if the caller has to wake @range_wait. */
static inline bool mmu_active_unlink_locked(struct mmu_notifier_range *range)
{
	struct hlist_node *next = range->link.next;

	if (next)
		next->pprev = range->link.pprev;
	/*
	 * Pairs with the acquire in mmu_active_none() and mmu_active_wait(): a reader
	 * that sees the shard empty also sees the page tables after the change.
	 */
	smp_store_release(range->link.pprev, next);
	range->shard = 0;
	return unlikely(range->awaited);
}

/* Is no range active? Without a lock. */
static inline bool mmu_active_none(const struct mmu_notifier_subscriptions *subs)
{
	const struct mmu_notifier_shard *shard;

	mmu_for_each_shard(shard, subs)
		/* Pairs with the release in mmu_active_unlink_locked(). */
		if (smp_load_acquire(&shard->ranges.first))
			return false;
	return true;
}

/*
 * For lockdep: the caller may wait for callbacks and for the end of ranges, so it must not
 * hold what these need.
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
 * For a fault of a device that has loaded its sequence (s): wait for active ranges that
 * overlap (w).
 */
static inline void mmu_active_wait_valid(struct mmu_notifier_subscriptions *subs,
					 unsigned long start, unsigned long last)
{
	/*
	 * Orders s before w. Pairs with the release in mmu_interval_set_seq(), or with
	 * the lock under which a list notifier changes its own sequence. Both follow the
	 * link of the range.
	 */
	smp_mb();
	mmu_active_might_wait();
	if (unlikely(!mmu_active_none(subs)))
		mmu_active_wait(subs, start, last);
}

void mmu_active_lock_all(struct mmu_notifier_subscriptions *subs);
void mmu_active_unlock_all(struct mmu_notifier_subscriptions *subs);
u64 mmu_active_new_epoch(struct mmu_notifier_subscriptions *subs);

/* Walks: mmu_notifier_walk.c */

static inline void mmu_walk_init_intervals(struct mmu_walk *walk,
					   struct interval_tree_node *first,
					   unsigned long start, unsigned long last, bool aging)
{
	walk->in_list = false;
	walk->interval = first;
	walk->start = start;
	walk->last = last;
	walk->aging = aging;
}

static inline void mmu_walk_init_list(struct mmu_walk *walk,
				      const struct mmu_notifier_subscriptions *subs, size_t op,
				      u64 epoch, u64 newer_than)
{
	walk->in_list = true;
	walk->list = subs->list.first;
	walk->op = op;
	walk->epoch = epoch;
	walk->newer_than = newer_than;
}

bool mmu_walk_begin_locked(struct mmu_walk *walk, struct mmu_notifier_shard *shard);
struct mmu_walk *mmu_walk_list(struct mmu_walk *stack, struct mmu_notifier_subscriptions *subs,
			       size_t op);
void mmu_walk_one(struct mmu_walk *walk, struct mmu_notifier_subscriptions *subs,
		  const void *sub);
bool mmu_walk_refill(struct mmu_walk *walk);
void mmu_walk_unlink(struct mmu_walk *walk);
bool mmu_walks_forget(struct mmu_notifier_subscriptions *subs, const void *sub,
		      const void *node);
void mmu_walks_await(struct mmu_notifier_subscriptions *subs, const void *sub);

/*
 * Publish the notifier at this place of the batch: the critical section of the time line
 * in mmu_notifier_walk.c. Returns MMU_WALK_NONE if it has been removed.
 */
static __always_inline const void *mmu_walk_publish(struct mmu_walk *walk,
						    const void * const *place)
{
	const void *sub;
	bool awaited;

	preempt_disable();
	sub = READ_ONCE(*place);
	/* Pairs with mmu_walk_calls(): the previous callback has returned. */
	smp_store_release(&walk->now, sub);
	awaited = READ_ONCE(walk->awaited);
	preempt_enable();
	if (unlikely(awaited))
		wake_up_all(&walk->shard->subs->removal_wait);
	return sub;
}

/**
 * struct mmu_walk_iter - where a walk is in its batch, for mmu_walk_for_each()
 * @walk: the walk
 * @place: of the next notifier in the batch
 * @end: behind the last one
 * @sub: the notifier to call
 */
struct mmu_walk_iter {
	struct mmu_walk *walk;
	const void **place;
	const void **end;
	const void *sub;
};

static __always_inline struct mmu_walk_iter mmu_walk_iter(struct mmu_walk *walk)
{
	return (struct mmu_walk_iter) {
		.walk = walk, .place = walk->batch, .end = walk->batch + walk->nr,
	};
}

/* Find the next notifier to call, and publish it. Returns false if there is none. */
static __always_inline bool mmu_walk_next(struct mmu_walk_iter *iter)
{
	for (;;) {
		while (iter->place != iter->end) {
			iter->sub = mmu_walk_publish(iter->walk, iter->place++);
			if (likely(iter->sub != MMU_WALK_NONE))
				return true;
		}
		/* Once it is NULL, removal does not change it. */
		if (likely(!READ_ONCE(iter->walk->cursor)) || !mmu_walk_refill(iter->walk))
			return false;
		*iter = mmu_walk_iter(iter->walk);
	}
}

/* For each notifier that the walk has to call. mmu_walk_leave() follows. */
#define mmu_walk_for_each(_sub, _walk)						\
	for (struct mmu_walk_iter __iter = mmu_walk_iter(_walk);		\
	     mmu_walk_next(&__iter) && ((_sub) = (void *)__iter.sub, true);)

/* Is the shard's own walk in use? Under its lock it does not come into use. */
static inline bool mmu_own_busy(const struct mmu_notifier_shard *shard)
{
	/*
	 * Pairs with mmu_walk_leave_own(): the previous walk does not access it any more,
	 * and its callbacks have returned.
	 */
	return unlikely(smp_load_acquire(&shard->own.now));
}

/* The walk to begin under the lock of @shard. */
static inline struct mmu_walk *mmu_walk_choose(struct mmu_notifier_shard *shard,
					       struct mmu_walk *stack)
{
	return mmu_own_busy(shard) ? stack : &shard->own;
}

/*
 * Begin a walk of a single notifier, and publish it. mmu_walk_leave_own() follows. Returns
 * false if the shard's own walk is busy.
 */
static inline bool mmu_one_begin_locked(struct mmu_notifier_shard *shard, const void *sub,
					bool in_list)
{
	struct mmu_walk *own = &shard->own;

	if (mmu_own_busy(shard))
		return false;
	own->in_list = in_list;
	own->nr = 0;
	WRITE_ONCE(own->awaited, false);
	WRITE_ONCE(own->now, sub);
	return true;
}

/*
 * End a walk of &mmu_notifier_shard.own. A critical section as in mmu_notifier_walk.c; but
 * here awaited is loaded first, as the next walk clears it.
 */
static inline void mmu_walk_leave_own(struct mmu_walk *own)
{
	bool awaited;

	preempt_disable();
	awaited = READ_ONCE(own->awaited);
	/* Pairs with mmu_own_busy() and mmu_walk_calls(). */
	smp_store_release(&own->now, NULL);
	preempt_enable();
	if (unlikely(awaited))
		wake_up_all(&own->shard->subs->removal_wait);
}

/* End a walk. It may have notifiers left to call. */
static inline void mmu_walk_leave(struct mmu_walk *walk)
{
	if (likely(walk == &walk->shard->own))
		mmu_walk_leave_own(walk);
	else
		mmu_walk_unlink(walk);
}

/* Interval notifiers: mmu_interval_notifier.c */

/* Added to nr_posted by removal, which waits until nothing else is left in it. */
#define MMU_INTERVAL_AWAITED	BIT(30)

/* A posted invalidation is finished. The notifier may be freed from here on. */
static inline void mmu_interval_finished(struct mmu_notifier_subscriptions *subs,
					 struct mmu_interval_notifier *sub)
{
	if (unlikely(atomic_dec_return(&sub->nr_posted) == MMU_INTERVAL_AWAITED))
		wake_up_all(&subs->removal_wait);
}

/* List notifiers: mmu_notifier_register.c */
void mmu_list_release(struct mmu_notifier_subscriptions *subs, struct mm_struct *mm);

/* Arming: mmu_notifier_arm.c */
/* Become a user of an mm if it is armed. @subs->lock is held. */
static inline bool mmu_notifier_hold_locked(struct mmu_notifier_subscriptions *subs)
{
	bool armed = mm_has_notifiers(subs->mm);

	if (likely(armed))
		subs->nr_users++;
	return armed;
}

void mmu_notifier_drop_locked(struct mmu_notifier_subscriptions *subs);
int mmu_notifier_arm_locked(struct mm_struct *mm);
void mmu_notifier_stay_armed(struct mm_struct *mm);

/* DEBUG_MMU_NOTIFIER: mmu_notifier_coverage.c */
#ifdef CONFIG_DEBUG_MMU_NOTIFIER_COVERAGE
bool mmu_notifier_coverage_suppressed(const char *site);
#else
static inline bool mmu_notifier_coverage_suppressed(const char *site)
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
