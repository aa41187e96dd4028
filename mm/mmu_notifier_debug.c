// SPDX-License-Identifier: GPL-2.0
/*
 * DEBUG_MMU_NOTIFIER: is every range used as it must be?
 *
 * Checked for all ranges, whether or not the mm is armed, so that a wrong call
 * site shows on any machine: it is not started under a spinlock, ends in the
 * task that started it, ends only if it started, and is not changed in between.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/export.h>
#include <linux/preempt.h>
#include <linux/sched.h>

#include "mmu_notifier.h"

void mmu_notifier_debug_start(struct mmu_notifier_range *range)
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
}
EXPORT_SYMBOL_GPL(mmu_notifier_debug_start);

void mmu_notifier_debug_end(struct mmu_notifier_range *range)
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
	range->frozen.task = NULL;
}
EXPORT_SYMBOL_GPL(mmu_notifier_debug_end);
