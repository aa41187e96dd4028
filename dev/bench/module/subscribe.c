// SPDX-License-Identifier: GPL-2.0
/*
 * A subscriber that a process adds to its own mm and removes, one at a time.
 * For programs that measure the effect on other processes (../stall.c).
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/kernel.h>
#include <linux/sched/mm.h>
#include <linux/string.h>

#include "bench.h"

/* The mutex of commands protects these. */
static struct mmu_notifier subscriber_list;
static struct mmu_interval_notifier subscriber_interval;

/* @arg is "list" or "interval". */
int bench_subscribe(const char *arg)
{
	subscriber_list.ops = &bench_list_ops;
	if (!strcmp(arg, "list"))
		return mmu_notifier_register(&subscriber_list, current->mm);
	if (!strcmp(arg, "interval"))
		return mmu_interval_notifier_insert(&subscriber_interval, current->mm,
						    BENCH_BASE, PAGE_SIZE,
						    &bench_interval_ops);
	return -EINVAL;
}

int bench_unsubscribe(const char *arg)
{
	if (!strcmp(arg, "list"))
		mmu_notifier_unregister(&subscriber_list, current->mm);
	else if (!strcmp(arg, "interval"))
		mmu_interval_notifier_remove(&subscriber_interval);
	else
		return -EINVAL;
	return 0;
}

/* @arg is "<milli> <row>", a value that the writer has measured. */
int bench_reported(const char *arg)
{
	char row[48];
	u64 milli;

	if (sscanf(arg, "%llu %47s", &milli, row) != 2)
		return -EINVAL;
	bench_report(milli, "%s", row);
	return 0;
}
