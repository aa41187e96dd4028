// SPDX-License-Identifier: GPL-2.0
/*
 * Removal of notifiers while a range has posted invalidations of many others. A
 * work that frees the objects of a large munmap() does this.
 *
 * In a core without two phases nothing is posted, so the corresponding value is
 * that of removal with the same number of notifiers and no active range.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/completion.h>
#include <linux/kthread.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include <asm/msr.h>

#include "bench.h"

#define POSTED_REMOVED	200U

static void posted_remove(struct mmu_interval_notifier *first, size_t size, unsigned int nr,
			  const char *name, unsigned int of)
{
	unsigned long flags;
	unsigned int i;
	u64 tsc;

	local_irq_save(flags);
	tsc = rdtsc();
	for (i = 0; i < nr; i++)
		mmu_interval_notifier_remove((void *)first + i * size);
	tsc = rdtsc() - tsc;
	local_irq_restore(flags);
	bench_report(div_u64(1000 * tsc, nr), "%s.%u", name, of);
}

#ifdef MMU_NOTIFIER_ARMED

struct posted_sub {
	struct mmu_interval_notifier sub;
	struct mmu_interval_notifier_finish finish;
};

/*
 * The finish callback of @stop lets a thread remove notifiers, and waits for
 * it.
 */
struct posted_set {
	struct mm_struct *mm;
	struct posted_sub *subs, *stop;
	unsigned int nr;
	struct completion go, done;
};

static struct posted_set posted;

static bool posted_start(struct mmu_interval_notifier *interval_sub,
			 const struct mmu_notifier_range *range, unsigned long cur_seq,
			 struct mmu_interval_notifier_finish **finish)
{
	mmu_interval_set_seq(interval_sub, cur_seq);
	*finish = &container_of(interval_sub, struct posted_sub, sub)->finish;
	return true;
}

static void posted_finish(struct mmu_interval_notifier_finish *finish)
{
	if (finish != &posted.stop->finish)
		return;
	complete(&posted.go);
	wait_for_completion(&posted.done);
}

static const struct mmu_interval_notifier_ops posted_ops = {
	.invalidate_start = posted_start,
	.invalidate_finish = posted_finish,
};

/* Posted last, and therefore finished first: their notifiers can be removed. */
static int posted_remover(void *unused)
{
	wait_for_completion(&posted.go);
	posted_remove(&posted.subs[posted.nr - POSTED_REMOVED].sub, sizeof(*posted.subs),
		      POSTED_REMOVED, "remove_beside_posted", posted.nr);
	complete(&posted.done);
	return 0;
}

static int posted_measure(unsigned int nr)
{
	struct mmu_notifier_range range;
	unsigned int i;
	int ret = 0;

	posted.stop = &posted.subs[nr / 2];
	posted.nr = nr;
	init_completion(&posted.go);
	init_completion(&posted.done);
	for (i = 0; i < nr && !ret; i++)
		ret = mmu_interval_notifier_insert(&posted.subs[i].sub, posted.mm,
						   bench_slot(i), PAGE_SIZE, &posted_ops);
	if (ret || IS_ERR(kthread_run(posted_remover, NULL, "bench_remover")))
		return ret ?: -ENOMEM;
	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, posted.mm, 0, bench_slot(nr));
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
	for (i = 0; i < nr - POSTED_REMOVED; i++)
		mmu_interval_notifier_remove(&posted.subs[i].sub);
	return 0;
}

/* If the measurement fails, the set is not freed: notifiers may be inserted. */
static int posted_size(unsigned int nr)
{
	int ret;

	posted.mm = mm_alloc();
	posted.subs = kvcalloc(nr, sizeof(*posted.subs), GFP_KERNEL);
	if (!posted.mm || !posted.subs)
		return -ENOMEM;
	ret = posted_measure(nr);
	if (ret)
		return ret;
	kvfree(posted.subs);
	mmput(posted.mm);
	return 0;
}

#else

static int posted_size(unsigned int nr)
{
	struct bench_set set;
	int ret = bench_set_make(&set, nr);

	if (ret)
		return ret;
	set.nr -= POSTED_REMOVED;
	posted_remove(&set.subs[set.nr], sizeof(*set.subs), POSTED_REMOVED,
		      "remove_beside_posted", nr);
	bench_set_free(&set);
	return 0;
}

#endif

int bench_posted(const char *arg)
{
	return posted_size(1000) ?: posted_size(16000) ?: posted_size(256000);
}
