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
#include <linux/wait.h>
#include <linux/workqueue.h>

/*
 * Enough to keep CPUs apart, few enough to take all of them: inserting does.
 */
#define MMU_NOTIFIER_MAX_SHARDS	16

/**
 * struct mmu_notifier_shard - one CPU's (or a few CPUs') part of the active set
 * @lock: protects the fields below; together with that of any other shard it
 *	also keeps the interval tree from changing
 * @nr_active: length of @ranges; read without the lock by read_begin
 * @ticket: handed to each range that is linked, so that a waiter can tell those
 *	it has seen from later ones
 * @ranges: the active ranges, &mmu_notifier_range.link
 * @subs: the active set this is a part of
 */
struct mmu_notifier_shard {
	spinlock_t lock;
	unsigned int nr_active;
	unsigned long ticket;
	struct list_head ranges;
	struct mmu_notifier_subscriptions *subs;
} ____cacheline_aligned_in_smp;

/**
 * struct mmu_notifier_subscriptions - the notifier state of one mm
 * @list: list notifiers, newest first; changed under @lock, walked under @srcu
 * @srcu: allocated for the first list notifier; never replaced
 * @generation: number of list notifiers ever registered
 * @intervals: interval notifiers; changed under all shard locks, walked under
 *	any of them
 * @nr_shards: how many of @shards there are
 * @lock: protects @list, @nr_users, @disarm_pending, @idle_since and the armed
 *	bit of mm->notifier_subscriptions; taken outside of the shard locks
 * @nr_users: subscribers and others that keep the mm armed
 * @idle_since: when @nr_users became zero, in jiffies
 * @disarm_pending: @disarm_work is queued and holds a reference on @mm
 * @seq: source of the sequence values; odd, two steps a hit
 * @range_wait: those who wait for ranges to end
 * @removal_wait: those who wait for a callback of the notifier they remove
 * @mm: the mm that owns this until the last reference to it is dropped
 * @disarm_work: disarms an idle mm
 * @free_work: destroys @srcu, which cannot be done where an mm is freed
 * @shards: the active set
 *
 * The first group is what every invalidation reads and hardly anybody writes.
 */
struct mmu_notifier_subscriptions {
	struct hlist_head list;
	struct srcu_struct *srcu;
	unsigned long generation;
	struct rb_root_cached intervals;
	unsigned int nr_shards;

	spinlock_t lock ____cacheline_aligned_in_smp;
	unsigned int nr_users;
	bool disarm_pending;
	unsigned long idle_since;
	atomic_long_t seq;
	wait_queue_head_t range_wait;
	wait_queue_head_t removal_wait;
	struct mm_struct *mm;
	struct delayed_work disarm_work;
	struct work_struct free_work;

	struct mmu_notifier_shard shards[] __counted_by(nr_shards);
};

/* The state of @mm, or NULL if it has never had a subscriber. */
static inline struct mmu_notifier_subscriptions *
mmu_notifier_subscriptions(struct mm_struct *mm)
{
	unsigned long tagged = (unsigned long)READ_ONCE(mm->notifier_subscriptions);

	return (void *)(tagged & ~MMU_NOTIFIER_ARMED);
}

/* Active set: mmu_notifier_active.c */
struct mmu_interval_notifier *mmu_active_link(struct mmu_notifier_subscriptions *subs,
					      struct mmu_notifier_range *range);
void mmu_active_unlink(struct mmu_notifier_range *range);
void mmu_active_wait(struct mmu_notifier_subscriptions *subs,
		     unsigned long start, unsigned long last);
void mmu_active_wait_all(struct mmu_notifier_subscriptions *subs);
void mmu_active_lock_all(struct mmu_notifier_subscriptions *subs);
void mmu_active_unlock_all(struct mmu_notifier_subscriptions *subs);

/* Arming: mmu_notifier_arm.c */
int mmu_notifier_arm_locked(struct mm_struct *mm);

/* Interval notifiers: mmu_interval_notifier.c */
struct mmu_interval_notifier *mmu_interval_pin_first(struct mmu_notifier_subscriptions *subs,
						     const struct mmu_notifier_range *range);
int mmu_interval_invalidate(const struct mmu_notifier_range *range,
			    struct mmu_interval_notifier *interval_sub,
			    struct mmu_interval_notifier_finish **posted,
			    unsigned int *nr_called);
void mmu_interval_finish(const struct mmu_notifier_range *range,
			 struct mmu_interval_notifier_finish *posted);

/* DEBUG_MMU_NOTIFIER: mmu_notifier_check.c */
#ifdef CONFIG_DEBUG_MMU_NOTIFIER_COVERAGE
bool mmu_notifier_check_suppressed(const char *site);
unsigned long mmu_notifier_check_missed(void);
#else
static inline bool mmu_notifier_check_suppressed(const char *site)
{
	return false;
}
#endif

/* mm_all_locks.c */
void mm_take_all_locks_uninterruptible(struct mm_struct *mm);

#endif /* _MM_MMU_NOTIFIER_H */
