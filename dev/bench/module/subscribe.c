// SPDX-License-Identifier: GPL-2.0
/*
 * A subscriber that a process gives itself and takes away again, one at a time:
 * for programs that measure what this does to others (../stall.c).
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/kernel.h>
#include <linux/sched/mm.h>
#include <linux/string.h>

#include "bench.h"

/* The command's mutex protects these. */
static struct mmu_notifier subscriber_list;
static struct mmu_interval_notifier subscriber_interval;

/* "list" or "interval": on the mm of the writer. */
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

/* "<milli> <row>": a result that the writer has measured itself. */
int bench_reported(const char *arg)
{
	char row[48];
	u64 milli;

	if (sscanf(arg, "%llu %47s", &milli, row) != 2)
		return -EINVAL;
	bench_report(milli, "%s", row);
	return 0;
}
