// SPDX-License-Identifier: GPL-2.0
/*
 * Arming: whether the ranges of an mm are recorded in its active set.
 *
 * A range that starts before its mm is armed is not in the active set. If it were still
 * in progress after arming, a new subscriber would not be called for it and would not wait
 * for it, and could map a page that is being unmapped. Therefore an mm is armed under
 * mm_take_all_locks(), which excludes ranges: each is inside the mmap_lock, a VMA lock or
 * a reverse-map lock from start to end.
 *
 * That takes thousands of locks, and some drivers insert and remove an interval notifier
 * for each page fault. So an mm stays armed after its last user has left, for a second, or
 * for a hundred times the CPU time of arming if that is longer. Disarming needs no lock of
 * the mm: ranges in progress remain in the active set, and their end looks at the range,
 * not at the mm.
 *
 * While an mm is being armed, other processes that map the same files are blocked. To
 * bound how often that happens, each rearming doubles the time for which the mm stays
 * armed without users, and after the sixth it is never disarmed.
 *
 * The state of the mm is freed with the mm. Its address never changes, and rearming needs
 * no memory and ignores signals, so it cannot fail.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/export.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/sched/cputime.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "mmu_notifier.h"

#define MMU_NOTIFIER_IDLE_MIN_NS	(1 * (u64)NSEC_PER_SEC)
#define MMU_NOTIFIER_IDLE_MAX_NS	(60 * (u64)NSEC_PER_SEC)
#define MMU_NOTIFIER_IDLE_FACTOR	100
#define MMU_NOTIFIER_MAX_REARMED	6

/* May disarm late, but never before the idle time has passed. */
static unsigned long disarm_delay(struct mmu_notifier_subscriptions *subs)
{
	unsigned long when = subs->idle_since + subs->idle_jiffies;

	return time_after(when, jiffies) ? when - jiffies : 0;
}

static void mmu_notifier_disarm_work(struct work_struct *work)
{
	struct mmu_notifier_subscriptions *subs =
		container_of(to_delayed_work(work),
			     struct mmu_notifier_subscriptions, disarm_work);
	struct mm_struct *mm = subs->mm;
	unsigned long delay = 0;

	spin_lock(&subs->lock);
	if (!subs->nr_users) {
		delay = disarm_delay(subs);
		if (!delay)
			WRITE_ONCE(mm->notifier_subscriptions, subs);
	}
	subs->disarm_pending = delay;
	if (delay)
		queue_delayed_work(system_unbound_wq, &subs->disarm_work, delay);
	spin_unlock(&subs->lock);

	/* A work that is queued again keeps the reference. */
	if (!delay)
		mmdrop(mm);
}

static struct mmu_notifier_subscriptions *subscriptions_alloc(struct mm_struct *mm)
{
	unsigned int nr_cpus = roundup_pow_of_two(nr_cpu_ids);
	unsigned int nr_shards = min(nr_cpus, MMU_NOTIFIER_MAX_SHARDS);
	struct mmu_notifier_subscriptions *subs;
	unsigned int i;

	subs = kzalloc(struct_size(subs, shards, nr_shards), GFP_KERNEL_ACCOUNT);
	if (!subs)
		return NULL;

	/* Neighbouring CPUs share a shard. */
	subs->cpu_shift = ilog2(nr_cpus / nr_shards);
	subs->mm = mm;
	subs->intervals = RB_ROOT_CACHED;
	spin_lock_init(&subs->lock);
	init_waitqueue_head(&subs->range_wait);
	init_waitqueue_head(&subs->removal_wait);
	INIT_DELAYED_WORK(&subs->disarm_work, mmu_notifier_disarm_work);
	for (i = 0; i < nr_shards; i++) {
		spin_lock_init(&subs->shards[i].lock);
		INIT_HLIST_HEAD(&subs->shards[i].ranges);
		INIT_HLIST_HEAD(&subs->shards[i].walks);
		/* Odd, and different from the values of all other shards. */
		subs->shards[i].seq = 2 * i + 1;
		subs->shards[i].subs = subs;
		subs->shards[i].own.shard = &subs->shards[i];
	}
	return subs;
}

void __mmu_notifier_subscriptions_destroy(struct mm_struct *mm)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);

	/* All users except interval mode hold a reference on the mm. */
	WARN_ON_ONCE(subs->nr_users != subs->interval_mode);
	mm->notifier_subscriptions = NULL;
	kfree(subs);
}

/* Become a user of an mm that is armed already. */
static bool mmu_notifier_hold(struct mm_struct *mm)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);
	bool armed;

	if (!subs)
		return false;
	spin_lock(&subs->lock);
	armed = mmu_notifier_hold_locked(subs);
	spin_unlock(&subs->lock);
	return armed;
}

/* The time for which an mm stays armed without users, if arming it took @cost_ns. */
static unsigned long mmu_notifier_idle(const struct mmu_notifier_subscriptions *subs,
				       u64 cost_ns)
{
	u64 idle_ns = clamp(MMU_NOTIFIER_IDLE_FACTOR * cost_ns,
			    MMU_NOTIFIER_IDLE_MIN_NS, MMU_NOTIFIER_IDLE_MAX_NS);

	return nsecs_to_jiffies(idle_ns << subs->nr_rearmed);
}

static void mmu_notifier_set_armed(struct mm_struct *mm,
				   struct mmu_notifier_subscriptions *subs,
				   u64 began)
{
	unsigned long tagged = (unsigned long)subs | MMU_NOTIFIER_ARMED;
	u64 cost_ns = task_sched_runtime(current) - began;

	spin_lock(&subs->lock);
	subs->nr_users++;
	/* Zero when it is armed for the first time. */
	if (subs->idle_jiffies)
		subs->nr_rearmed++;
	subs->idle_jiffies = mmu_notifier_idle(subs, cost_ns);
	/*
	 * Call sites see this because of the locks that are dropped next. The release
	 * is for readers without any of those locks, which follow the pointer.
	 */
	smp_store_release(&mm->notifier_subscriptions, (void *)tagged);
	spin_unlock(&subs->lock);
}

/**
 * mmu_notifier_arm_locked() - mmu_notifier_arm() under the mmap_lock
 * @mm: the mm
 *
 * Context: mmap_lock held for write; sleeps.
 * Return: 0, -ENOMEM or -EINTR as mmu_notifier_arm().
 */
int mmu_notifier_arm_locked(struct mm_struct *mm)
{
	struct mmu_notifier_subscriptions *subs, *fresh = NULL;
	u64 began;
	int ret;

	mmap_assert_write_locked(mm);
	if (mmu_notifier_hold(mm))
		return 0;

	/* CPU time only, without waiting for locks. */
	began = task_sched_runtime(current);
	subs = mmu_notifier_subscriptions(mm);
	if (!subs) {
		fresh = subscriptions_alloc(mm);
		if (!fresh)
			return -ENOMEM;
		ret = mm_take_all_locks(mm);
		if (ret) {
			kfree(fresh);
			return ret;
		}
		subs = fresh;
	} else {
		mm_take_all_locks_uninterruptible(mm);
	}
	mmu_notifier_set_armed(mm, subs, began);
	mm_drop_all_locks(mm);
	return 0;
}

/**
 * mmu_notifier_stay_armed() - keep an armed mm armed until it is freed
 * @mm: the mm; takes over the caller's hold
 *
 * Context: any but hard and soft interrupts.
 */
void mmu_notifier_stay_armed(struct mm_struct *mm)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);

	spin_lock(&subs->lock);
	/* In interval mode already: drop the hold. The mm keeps the first one. */
	if (subs->interval_mode)
		subs->nr_users--;
	subs->interval_mode = true;
	spin_unlock(&subs->lock);
}

/**
 * mmu_notifier_arm() - record the invalidations of an mm
 * @mm: the mm; the caller holds a reference (mmgrab()) until mmu_notifier_disarm()
 *
 * For drivers that insert interval notifiers often, or where they cannot take the
 * mmap_lock: as long as the mm is armed, mmu_interval_notifier_insert() does not take it
 * and does not fail.
 *
 * Context: takes the mmap_lock for write unless the mm is armed; sleeps.
 * Return: 0; -ENOMEM; or -EINTR if a signal arrives while the mm is being armed for the
 * first time.
 */
int mmu_notifier_arm(struct mm_struct *mm)
{
	int ret;

	might_sleep();
	if (mmu_notifier_hold(mm))
		return 0;
	/* Only if it is not armed: otherwise callers may hold the mmap_lock. */
	mmap_write_lock(mm);
	ret = mmu_notifier_arm_locked(mm);
	mmap_write_unlock(mm);
	return ret;
}
EXPORT_SYMBOL_GPL(mmu_notifier_arm);

/**
 * mmu_notifier_drop_locked() - undo mmu_notifier_hold_locked()
 * @subs: the state of the mm
 *
 * Context: @subs->lock held.
 */
void mmu_notifier_drop_locked(struct mmu_notifier_subscriptions *subs)
{
	struct mm_struct *mm = subs->mm;

	if (WARN_ON_ONCE(!subs->nr_users) || --subs->nr_users)
		return;
	subs->idle_since = jiffies;
	/* If mm_users is zero, no range will start: disarming gains nothing. */
	if (subs->disarm_pending || !atomic_read(&mm->mm_users) ||
	    subs->nr_rearmed >= MMU_NOTIFIER_MAX_REARMED)
		return;
	subs->disarm_pending = true;
	mmgrab(mm);
	queue_delayed_work(system_unbound_wq, &subs->disarm_work, subs->idle_jiffies);
}

/**
 * mmu_notifier_disarm() - undo one mmu_notifier_arm()
 * @mm: the mm
 *
 * The mm is disarmed a second after the last user has left. That takes longer if arming
 * took more than 10 ms of CPU time or if the mm was rearmed, and after the sixth rearming
 * the mm stays armed.
 *
 * Context: any but hard and soft interrupts.
 */
void mmu_notifier_disarm(struct mm_struct *mm)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);

	spin_lock(&subs->lock);
	mmu_notifier_drop_locked(subs);
	spin_unlock(&subs->lock);
}
EXPORT_SYMBOL_GPL(mmu_notifier_disarm);
