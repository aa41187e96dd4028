// SPDX-License-Identifier: GPL-2.0
/*
 * The effect of invalidations of one CPU on another CPU, in wall-clock time.
 *
 * Meant for two CPUs on which nothing else runs. CPU 0 has the thread that
 * invalidates, and CPU 1 the thread that is measured.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/sort.h>

#include "bench.h"

#define SMP_ROUNDS	5
#define SMP_RUN_MSECS	2000
#define SMP_MAX_SAMPLES	10000
#define STORM_NR	2000U	/* notifiers of the mm in the storm */
#define PAIRS_NR	1000U	/* notifiers of the mm whose pairs are counted */
#define PAIRS_BATCH	64

/**
 * struct smp_thread - a thread that is bound to a CPU
 * @task: the thread; stopped by kthread_stop()
 * @mm: the mm on which it operates
 * @set: the notifiers of the mm, or NULL
 * @first: the first slot that only this thread uses
 * @count: number of operations
 * @nsecs: their total time
 * @samples: the time of each operation
 */
struct smp_thread {
	struct task_struct *task;
	struct mm_struct *mm;
	struct bench_set *set;
	unsigned int first;
	u64 count;
	u64 nsecs;
	u32 *samples;
};

static int smp_start(struct smp_thread *thread, int (*fn)(void *), int cpu,
		     bool realtime)
{
	thread->task = kthread_create(fn, thread, "bench/%d", cpu);
	if (IS_ERR(thread->task))
		return PTR_ERR(thread->task);
	kthread_bind(thread->task, cpu);
	if (realtime)
		sched_set_fifo(thread->task);
	/* smp_stop() stops it, even if it has finished before. */
	get_task_struct(thread->task);
	wake_up_process(thread->task);
	return 0;
}

static void smp_stop(struct smp_thread *thread)
{
	kthread_stop(thread->task);
	put_task_struct(thread->task);
}

/* Wait for kthread_stop(). A thread function must not return before. */
static void smp_park(void)
{
	while (!kthread_should_stop())
		schedule_timeout_interruptible(HZ / 100);
}

static void range_at(struct mmu_notifier_range *range, struct mm_struct *mm,
		     unsigned int slot, unsigned long offset)
{
	unsigned long start = bench_slot(slot) + offset;

	mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, mm, start,
				start + PAGE_SIZE);
}

/*
 * The storm: at least one range is active from the first start to the last end.
 * The ranges alternately hit the first two notifiers of the set.
 */
static int storm_fn(void *data)
{
	struct smp_thread *thread = data;
	struct mmu_notifier_range ranges[2];
	unsigned int i;

	range_at(&ranges[0], thread->mm, 0, 0);
	mmu_notifier_invalidate_range_start(&ranges[0]);
	for (i = 0; !kthread_should_stop(); i = !i) {
		range_at(&ranges[!i], thread->mm, !i, 0);
		mmu_notifier_invalidate_range_start(&ranges[!i]);
		mmu_notifier_invalidate_range_end(&ranges[i]);
		WRITE_ONCE(thread->count, thread->count + 1);
		cond_resched();
	}
	mmu_notifier_invalidate_range_end(&ranges[i]);
	return 0;
}

static void storm_sample(struct smp_thread *thread, ktime_t start)
{
	if (thread->count == SMP_MAX_SAMPLES)
		return;
	thread->samples[thread->count] = min_t(s64, U32_MAX,
					       ktime_to_ns(ktime_sub(ktime_get(), start)));
	/* Pairs with the acquire in storm_round(), which reads the samples. */
	smp_store_release(&thread->count, thread->count + 1);
}

/*
 * A fault of the device in the last interval of the set. The interval has just
 * been invalidated, and this range has ended.
 */
static int storm_read_fn(void *data)
{
	struct smp_thread *thread = data;
	struct mmu_notifier_range range;
	ktime_t start;

	while (!kthread_should_stop()) {
		range_at(&range, thread->mm, thread->first, 0);
		mmu_notifier_invalidate_range_start(&range);
		mmu_notifier_invalidate_range_end(&range);
		start = ktime_get();
		mmu_interval_read_begin(&thread->set->subs[thread->first]);
		storm_sample(thread, start);
		usleep_range(500, 1000);
	}
	return 0;
}

/* Remove the notifiers one by one, the last one first. */
static int storm_remove_fn(void *data)
{
	struct smp_thread *thread = data;
	struct bench_set *set = thread->set;
	ktime_t start;

	while (!kthread_should_stop() && set->nr > 2) {
		start = ktime_get();
		mmu_interval_notifier_remove(&set->subs[--set->nr]);
		storm_sample(thread, start);
		usleep_range(500, 1000);
	}
	smp_park();
	return 0;
}

static int cmp_u32(const void *a, const void *b)
{
	u32 x = *(const u32 *)a, y = *(const u32 *)b;

	return x < y ? -1 : x > y;
}

static int storm_round(const char *name, int (*fn)(void *), unsigned int round,
		       u32 *samples)
{
	struct smp_thread storm = {}, victim = { .samples = samples };
	unsigned int returned = 0;
	struct bench_set set;
	u64 turns = 0;
	int ret;

	ret = bench_set_make(&set, STORM_NR);
	if (ret)
		return ret;
	storm.mm = set.mm;
	victim.mm = set.mm;
	victim.set = &set;
	victim.first = STORM_NR - 1;

	ret = smp_start(&storm, storm_fn, 0, false);
	if (ret)
		goto free_set;
	msleep(50);
	ret = smp_start(&victim, fn, 1, true);
	if (!ret) {
		turns = READ_ONCE(storm.count);
		msleep(SMP_RUN_MSECS);
		turns = READ_ONCE(storm.count) - turns;
		/* Pairs with the release in storm_sample(). */
		returned = smp_load_acquire(&victim.count);
	}
	/*
	 * Stop the storm first: otherwise the other thread may wait for its
	 * ranges.
	 */
	smp_stop(&storm);
	if (!ret)
		smp_stop(&victim);

	sort(samples, returned, sizeof(*samples), cmp_u32, NULL);
	bench_report(1000ULL * returned, "%s_returned.%u", name, round);
	bench_report(1000 * turns, "%s_turns.%u", name, round);
	if (returned) {
		bench_report(samples[returned / 2], "%s_median_us.%u", name, round);
		bench_report(samples[returned - 1], "%s_max_us.%u", name, round);
	}
free_set:
	bench_set_free(&set);
	return ret;
}

int bench_storm(const char *arg)
{
	unsigned int round;
	u32 *samples;
	int ret = 0;

	samples = kvcalloc(SMP_MAX_SAMPLES, sizeof(*samples), GFP_KERNEL);
	if (!samples)
		return -ENOMEM;
	for (round = 0; round < SMP_ROUNDS && !ret; round++) {
		ret = storm_round("storm_read", storm_read_fn, round, samples);
		if (!ret)
			ret = storm_round("storm_remove", storm_remove_fn, round,
					  samples);
	}
	kvfree(samples);
	return ret;
}

static DECLARE_COMPLETION(sleeper_asleep);

static int sleeper_start(struct mmu_notifier *subscription,
			 const struct mmu_notifier_range *range)
{
	complete(&sleeper_asleep);
	msleep(1500);
	return 0;
}

static const struct mmu_notifier_ops sleeper_ops = {
	.invalidate_range_start = sleeper_start,
};

static int invalidate_once_fn(void *data)
{
	struct smp_thread *thread = data;
	struct mmu_notifier_range range;

	range_at(&range, thread->mm, 0, 0);
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
	smp_park();
	return 0;
}

static int unregister_round(struct mm_struct *slow, struct mm_struct *quick,
			    unsigned int round)
{
	struct mmu_notifier sleeper = { .ops = &sleeper_ops };
	struct mmu_notifier victim = { .ops = &bench_list_ops };
	struct smp_thread thread = { .mm = slow };
	ktime_t start;
	int ret;

	ret = mmu_notifier_register(&sleeper, slow);
	if (ret)
		return ret;
	ret = mmu_notifier_register(&victim, quick);
	if (ret)
		goto unregister_sleeper;
	reinit_completion(&sleeper_asleep);
	ret = smp_start(&thread, invalidate_once_fn, 0, false);
	if (!ret) {
		wait_for_completion(&sleeper_asleep);
		msleep(300);
	}
	start = ktime_get();
	mmu_notifier_unregister(&victim, quick);
	if (!ret) {
		bench_report(ktime_us_delta(ktime_get(), start), "unregister_ms.%u",
			     round);
		smp_stop(&thread);
	}
unregister_sleeper:
	mmu_notifier_unregister(&sleeper, slow);
	return ret;
}

int bench_unregister(const char *arg)
{
	struct bench_set slow, quick;
	unsigned int round;
	int ret;

	ret = bench_set_make(&slow, 0);
	if (ret)
		return ret;
	ret = bench_set_make(&quick, 0);
	for (round = 0; round < SMP_ROUNDS && !ret; round++)
		ret = unregister_round(slow.mm, quick.mm, round);
	if (quick.mm)
		bench_set_free(&quick);
	bench_set_free(&slow);
	return ret;
}

/* Misses, in the gaps of one half of the set, until kthread_stop(). */
static int pairs_fn(void *data)
{
	struct smp_thread *thread = data;
	struct mmu_notifier_range range;
	ktime_t start = ktime_get();
	unsigned int i = 0;
	u64 count = 0;

	while (!kthread_should_stop()) {
		range_at(&range, thread->mm, thread->first + i, PAGE_SIZE);
		mmu_notifier_invalidate_range_start(&range);
		mmu_notifier_invalidate_range_end(&range);
		if (++i == PAIRS_NR / 2)
			i = 0;
		if (!(++count % PAIRS_BATCH))
			cond_resched();
	}
	thread->nsecs = ktime_to_ns(ktime_sub(ktime_get(), start));
	thread->count = count;
	return 0;
}

/*
 * Report the pairs per second of a thread on CPU 0, and with @other of one on
 * CPU 1.
 */
static int pairs_run(const char *name, unsigned int round, struct bench_set *set,
		     struct bench_set *other)
{
	struct smp_thread threads[2] = {
		{ .mm = set->mm, .first = 0 },
		{ .mm = other ? other->mm : NULL, .first = PAIRS_NR / 2 },
	};
	unsigned int nr = other ? 2 : 1, i;
	u64 rate = 0;
	int ret = 0;

	for (i = 0; i < nr && !ret; i++)
		ret = smp_start(&threads[i], pairs_fn, i, false);
	if (ret)
		nr = i - 1;
	else
		msleep(1000);
	for (i = 0; i < nr; i++) {
		smp_stop(&threads[i]);
		if (threads[i].nsecs)
			rate += div64_u64(threads[i].count * NSEC_PER_SEC,
					  threads[i].nsecs);
	}
	bench_report(1000 * rate, "%s.%u", name, round);
	return ret;
}

int bench_pairs(const char *arg)
{
	struct bench_set set, other;
	unsigned int round;
	int ret;

	ret = bench_set_make(&set, PAIRS_NR);
	if (ret)
		return ret;
	ret = bench_set_make(&other, PAIRS_NR);
	if (ret)
		goto free_set;
	for (round = 0; round < SMP_ROUNDS && !ret; round++) {
		ret = pairs_run("pairs_one", round, &set, NULL);
		if (!ret)
			ret = pairs_run("pairs_two", round, &set, &set);
		if (!ret)
			ret = pairs_run("pairs_control", round, &set, &other);
	}
	bench_set_free(&other);
free_set:
	bench_set_free(&set);
	return ret;
}
