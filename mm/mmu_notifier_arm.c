// SPDX-License-Identifier: GPL-2.0
/*
 * Arming: from when on the ranges of an mm are recorded, and until when.
 *
 * A range that started before its mm was armed is not in the active set. Were
 * it still in flight afterwards, a new subscriber would neither hear of it nor
 * wait for it, and would map a page that is being taken away. So an mm is armed
 * under mm_take_all_locks(), which no start/end pair straddles: every pair is
 * inside the mmap_lock, a VMA lock or a reverse-map lock.
 *
 * That is expensive, thousands of locks, and some drivers insert and remove an
 * interval notifier for each page fault. So the mm stays armed for a second
 * after its last user left, or for a hundred times the CPU time of arming if that
 * is more. Disarming needs no lock of the mm: what is in flight stays in the
 * active set until its end, which goes by the range.
 *
 * Arming also holds up other processes that map the same files. A process that
 * comes back after each disarming must not do that to them for ever: every time
 * it is armed again, the time that it stays so doubles, and after the sixth time
 * it is not disarmed any more.
 *
 * The state itself lives until the mm is freed. Its address never changes, and
 * arming again needs no memory and ignores signals: it cannot fail.
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

/* Later is fine, sooner is not. */
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

	/* Only one work is queued at a time; it keeps the reference. */
	if (!delay)
		mmdrop(mm);
}

static struct mmu_notifier_subscriptions *subscriptions_alloc(struct mm_struct *mm)
{
	unsigned int nr_shards = min(roundup_pow_of_two(num_possible_cpus()),
				     MMU_NOTIFIER_MAX_SHARDS);
	struct mmu_notifier_subscriptions *subs;
	unsigned int i;

	subs = kzalloc(struct_size(subs, shards, nr_shards), GFP_KERNEL_ACCOUNT);
	if (!subs)
		return NULL;

	subs->nr_shards = nr_shards;
	subs->mm = mm;
	subs->intervals = RB_ROOT_CACHED;
	atomic_long_set(&subs->seq, 1);
	spin_lock_init(&subs->lock);
	init_waitqueue_head(&subs->range_wait);
	init_waitqueue_head(&subs->removal_wait);
	INIT_DELAYED_WORK(&subs->disarm_work, mmu_notifier_disarm_work);
	for (i = 0; i < nr_shards; i++) {
		spin_lock_init(&subs->shards[i].lock);
		INIT_HLIST_HEAD(&subs->shards[i].ranges);
		subs->shards[i].subs = subs;
	}
	return subs;
}

void __mmu_notifier_subscriptions_destroy(struct mm_struct *mm)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);

	/* All users but interval mode hold a reference on the mm: one was lost. */
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
	armed = mm_has_notifiers(mm);
	if (armed)
		subs->nr_users++;
	spin_unlock(&subs->lock);
	return armed;
}

/* How long it stays armed without users, when arming took @cost_ns. */
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
	 * Published by the locks that are dropped next; for those who look
	 * without any of them, release what the pointer leads to.
	 */
	smp_store_release(&mm->notifier_subscriptions, (void *)tagged);
	spin_unlock(&subs->lock);
}

/**
 * mmu_notifier_arm_locked() - mmu_notifier_arm() for holders of the mmap_lock
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

	/* What it costs, not what it waits for. */
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
 * mmu_notifier_stay_armed() - make one hold on an armed mm last until it is freed
 * @mm: the mm; the caller's hold becomes that of the mm itself
 *
 * Context: any but hard and soft interrupts.
 */
void mmu_notifier_stay_armed(struct mm_struct *mm)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);

	spin_lock(&subs->lock);
	/* Cannot be the last one: the mm has one of its own already. */
	if (subs->interval_mode)
		subs->nr_users--;
	subs->interval_mode = true;
	spin_unlock(&subs->lock);
}

/**
 * mmu_notifier_arm() - have the invalidations of an mm recorded
 * @mm: the caller keeps a reference (mmgrab()) until mmu_notifier_disarm()
 *
 * For those who insert interval notifiers from where the mmap_lock cannot be
 * taken, or often: while it is armed, mmu_interval_notifier_insert() neither
 * takes it nor fails.
 *
 * Context: takes the mmap_lock for write unless the mm is armed; sleeps.
 * Return: 0; -ENOMEM; -EINTR if a signal arrived while an mm that has never
 * been armed was being locked.
 */
int mmu_notifier_arm(struct mm_struct *mm)
{
	int ret;

	might_sleep();
	if (mmu_notifier_hold(mm))
		return 0;
	/* Not above: while the mm is armed, callers may hold the lock already. */
	mmap_write_lock(mm);
	ret = mmu_notifier_arm_locked(mm);
	mmap_write_unlock(mm);
	return ret;
}
EXPORT_SYMBOL_GPL(mmu_notifier_arm);

/**
 * mmu_notifier_disarm() - undo one mmu_notifier_arm()
 * @mm: the mm
 *
 * The mm is disarmed a second after the last user left; later if arming it took
 * more than 10 ms, or was done several times; and not at all after the sixth time.
 *
 * Context: any but hard and soft interrupts.
 */
void mmu_notifier_disarm(struct mm_struct *mm)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);

	spin_lock(&subs->lock);
	if (!WARN_ON_ONCE(!subs->nr_users) && !--subs->nr_users) {
		subs->idle_since = jiffies;
		/* An address space that is gone has nothing to gain. */
		if (!subs->disarm_pending && atomic_read(&mm->mm_users) &&
		    subs->nr_rearmed < MMU_NOTIFIER_MAX_REARMED) {
			subs->disarm_pending = true;
			mmgrab(mm);
			queue_delayed_work(system_unbound_wq, &subs->disarm_work,
					   subs->idle_jiffies);
		}
	}
	spin_unlock(&subs->lock);
}
EXPORT_SYMBOL_GPL(mmu_notifier_disarm);
