// SPDX-License-Identifier: GPL-2.0
/*
 * DEBUG_MMU_NOTIFIER: check how ranges are used.
 *
 * All ranges are checked, whether or not the mm is armed, so that a wrong call site is
 * reported on any machine. A range must not start in atomic context. It must end in the
 * task that started it, before that task returns to user space or exits. It must not end
 * without having started, and must not change in between.
 *
 * The active ranges of a task are linked from the inner to the outer ones, for
 * mmu_notifier_coverage.c.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/export.h>
#include <linux/mmu_notifier_coverage.h>
#include <linux/preempt.h>
#include <linux/sched.h>

#include "mmu_notifier.h"

void mmu_notifier_usage_start(struct mmu_notifier_range *range)
{
	WARN_ONCE(in_atomic(), "range [%#lx, %#lx) started in atomic context\n",
		  range->start, range->end);
	WARN_ONCE(range->start > range->end, "range [%#lx, %#lx) is inverted\n",
		  range->start, range->end);
	range->frozen.start = range->start;
	range->frozen.end = range->end;
	range->frozen.mm = range->mm;
	range->frozen.event = range->event;
	range->frozen.task = current;
	range->frozen.suppressed = mmu_notifier_coverage_suppressed(range->frozen.site);
	range->frozen.outer = current->mmu_notifier_ranges;
	current->mmu_notifier_ranges = range;
}
EXPORT_SYMBOL_GPL(mmu_notifier_usage_start);

/*
 * Unlink it from the task that started it. If that is another task, which is a bug and has
 * been reported, no lock protects its list. A list that points to a stale stack frame
 * would be worse.
 */
static void mmu_usage_unchain(struct mmu_notifier_range *range)
{
	struct mmu_notifier_range **link = &range->frozen.task->mmu_notifier_ranges;

	while (*link && *link != range)
		link = &(*link)->frozen.outer;
	if (*link)
		*link = range->frozen.outer;
}

void mmu_notifier_usage_end(struct mmu_notifier_range *range)
{
	if (WARN_ONCE(!range->frozen.task, "range [%#lx, %#lx) was never started\n",
		      range->start, range->end))
		return;
	WARN_ONCE(range->frozen.task != current, "range [%#lx, %#lx) was started by %s\n",
		  range->start, range->end, range->frozen.task->comm);
	WARN_ONCE(range->frozen.start != range->start ||
		  range->frozen.end != range->end ||
		  range->frozen.mm != range->mm ||
		  range->frozen.event != range->event,
		  "range changed while active: [%#lx, %#lx) was [%#lx, %#lx)\n",
		  range->start, range->end, range->frozen.start,
		  range->frozen.end);
	mmu_usage_unchain(range);
	range->frozen.task = NULL;
}
EXPORT_SYMBOL_GPL(mmu_notifier_usage_end);

/**
 * mmu_notifier_usage_exit() - check a task that returns to user space or exits
 *
 * All its ranges must have ended: their stack frames no longer exist.
 */
void mmu_notifier_usage_exit(void)
{
	if (likely(!current->mmu_notifier_ranges))
		return;
	current->mmu_notifier_ranges = NULL;
	WARN_ONCE(1, "mmu_notifier: a range was started and not ended\n");
}
