// SPDX-License-Identifier: GPL-2.0
/*
 * The time of the teardown of a subscriber like KVM.
 *
 * KVM has age callbacks, which run under a page-table lock. In 6.12 teardown
 * waits for a grace period of SRCU before the notifier may be freed. The
 * guest's clock also advances while this task sleeps.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/ktime.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "bench.h"

#define TEARDOWN_ROUNDS	5
#define TEARDOWN_MAX	100U
/*
 * Longer than any grace period, so that none is in progress when a round
 * begins.
 */
#define TEARDOWN_QUIET_MSECS	500

static int kvm_test_young(struct mmu_notifier *sub, struct mm_struct *mm,
			  unsigned long address)
{
	return 0;
}

static void kvm_release(struct mmu_notifier *sub, struct mm_struct *mm)
{
}

static struct mmu_notifier *kvm_alloc(struct mm_struct *mm)
{
	return kzalloc(sizeof(struct mmu_notifier), GFP_KERNEL) ?: ERR_PTR(-ENOMEM);
}

static void kvm_free(struct mmu_notifier *sub)
{
	kfree(sub);
}

/* The callbacks of virt/kvm/kvm_main.c, and those that get and put require. */
const struct mmu_notifier_ops bench_kvm_ops = {
	.invalidate_range_start = bench_list_start,
	.invalidate_range_end = bench_list_end,
	.clear_flush_young = bench_list_age,
	.clear_young = bench_list_age,
	.test_young = kvm_test_young,
	.release = kvm_release,
	.alloc_notifier = kvm_alloc,
	.free_notifier = kvm_free,
};

/**
 * struct teardown_set - mms with a notifier each
 * @mms: the mms; no task uses them
 * @subs: the notifier of each mm
 * @nr: number of mms
 */
struct teardown_set {
	struct mm_struct *mms[TEARDOWN_MAX];
	struct mmu_notifier *subs[TEARDOWN_MAX];
	unsigned int nr;
};

static void teardown_free_mms(struct teardown_set *set)
{
	while (set->nr)
		mmput(set->mms[--set->nr]);
}

static int teardown_add(struct teardown_set *set)
{
	struct mm_struct *mm = mm_alloc();
	struct mmu_notifier *sub;

	if (!mm)
		return -ENOMEM;
	sub = mmu_notifier_get(&bench_kvm_ops, mm);
	if (IS_ERR(sub)) {
		mmput(mm);
		return PTR_ERR(sub);
	}
	set->mms[set->nr] = mm;
	set->subs[set->nr++] = sub;
	return 0;
}

static int teardown_make(struct teardown_set *set, unsigned int nr)
{
	int ret = 0;

	set->nr = 0;
	while (!ret && set->nr < nr)
		ret = teardown_add(set);
	if (!ret)
		msleep(TEARDOWN_QUIET_MSECS);
	return ret;
}

/*
 * mmu_notifier_unregister() works for these notifiers, too, but does not free
 * them.
 */
static int teardown_unregister(struct teardown_set *set, unsigned int nr,
			       unsigned int round)
{
	int ret = teardown_make(set, nr);
	ktime_t start = ktime_get();
	unsigned int i;

	for (i = 0; i < set->nr; i++)
		mmu_notifier_unregister(set->subs[i], set->mms[i]);
	bench_report(ktime_to_ns(ktime_sub(ktime_get(), start)),
		     "teardown_unregister_us.%u.%u", nr, round);
	for (i = 0; i < set->nr; i++)
		kfree(set->subs[i]);
	teardown_free_mms(set);
	return ret;
}

static int teardown_put(struct teardown_set *set, unsigned int nr, unsigned int round)
{
	int ret = teardown_make(set, nr);
	ktime_t start = ktime_get(), put;
	unsigned int i;

	for (i = 0; i < set->nr; i++)
		mmu_notifier_put(set->subs[i]);
	put = ktime_get();
	mmu_notifier_synchronize();
	bench_report(ktime_to_ns(ktime_sub(put, start)), "teardown_put_us.%u.%u", nr, round);
	bench_report(ktime_to_ns(ktime_sub(ktime_get(), start)),
		     "teardown_freed_us.%u.%u", nr, round);
	teardown_free_mms(set);
	return ret;
}

int bench_teardown(const char *arg)
{
	static struct teardown_set set;
	unsigned int round, nr;
	int ret = 0;

	for (nr = 1; nr <= TEARDOWN_MAX; nr *= TEARDOWN_MAX)
		for (round = 0; round < TEARDOWN_ROUNDS && !ret; round++)
			ret = teardown_unregister(&set, nr, round) ?:
			      teardown_put(&set, nr, round);
	return ret;
}
