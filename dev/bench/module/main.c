// SPDX-License-Identifier: GPL-2.0
/*
 * Benchmark of MMU notifiers: a module that is built from the same source for
 * the stock tree and for ours.
 *
 * A command that is written to debugfs/notifier_bench runs in the context of
 * the writer. Its results are lines "<row> <value>", which are read from the
 * same file. dev/bench/rows.py describes the rows and their units.
 *
 *	cost		instructions of single operations, on one CPU
 *	posted		instructions of a removal while others are posted
 *	register <row>	instructions of registering with the writer's mm
 *	storm		waiting on one CPU while another invalidates
 *	unregister	unregistering while a callback of another mm sleeps
 *	pairs		throughput of start and end on one and two CPUs
 *	teardown	unregister and put of subscribers like KVM, with all waits
 *	subscribe KIND	add a list or an interval notifier to the writer's mm
 *	unsubscribe KIND	remove it
 *	report N ROW	add a result of the writer, in thousandths
 *	coherence [kvm]	operations for the QEMU plugin; all CPUs take turns
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/stdarg.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "bench.h"

#define BENCH_BUFFER	(256 << 10)

static const struct {
	const char *name;
	int (*run)(const char *arg);
} bench_commands[] = {
	{ "cost", bench_cost },
	{ "posted", bench_posted },
	{ "register", bench_register },
	{ "storm", bench_storm },
	{ "unregister", bench_unregister },
	{ "pairs", bench_pairs },
	{ "coherence", bench_coherence },
	{ "teardown", bench_teardown },
	{ "subscribe", bench_subscribe },
	{ "unsubscribe", bench_unsubscribe },
	{ "report", bench_reported },
};

static DEFINE_MUTEX(bench_mutex);	/* protects bench_text */
static char *bench_text;
static size_t bench_len;
static struct dentry *bench_file;

/* A callback must at least do this. */
static bool bench_invalidate(struct mmu_interval_notifier *interval_sub,
			     const struct mmu_notifier_range *range,
			     unsigned long cur_seq)
{
	mmu_interval_set_seq(interval_sub, cur_seq);
	return true;
}

const struct mmu_interval_notifier_ops bench_interval_ops = {
	.invalidate = bench_invalidate,
};

int bench_list_start(struct mmu_notifier *subscription,
		     const struct mmu_notifier_range *range)
{
	return 0;
}

void bench_list_end(struct mmu_notifier *subscription,
		    const struct mmu_notifier_range *range)
{
}

int bench_list_age(struct mmu_notifier *subscription, struct mm_struct *mm,
		   unsigned long start, unsigned long end)
{
	return 0;
}

const struct mmu_notifier_ops bench_list_ops = {
	.invalidate_range_start = bench_list_start,
	.invalidate_range_end = bench_list_end,
};

void bench_report(u64 milli, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	bench_len += vscnprintf(bench_text + bench_len, BENCH_BUFFER - bench_len,
				fmt, args);
	va_end(args);
	bench_len += scnprintf(bench_text + bench_len, BENCH_BUFFER - bench_len,
			       " %llu.%03llu\n", milli / 1000, milli % 1000);
}

/**
 * bench_set_make() - create an mm with @nr interval notifiers
 * @set: the set
 * @nr: number of notifiers; 0 for an mm that never had a subscriber
 *
 * Return: 0, or an errno; then nothing is allocated.
 */
int bench_set_make(struct bench_set *set, unsigned int nr)
{
	int ret = 0;

	set->nr = 0;
	set->mm = mm_alloc();
	set->subs = kvcalloc(max(nr, 1U), sizeof(*set->subs), GFP_KERNEL);
	if (!set->mm || !set->subs)
		ret = -ENOMEM;
	while (!ret && set->nr < nr) {
		ret = mmu_interval_notifier_insert(&set->subs[set->nr], set->mm,
						   bench_slot(set->nr), PAGE_SIZE,
						   &bench_interval_ops);
		if (!ret)
			set->nr++;
	}
	if (ret)
		bench_set_free(set);
	return ret;
}

void bench_set_free(struct bench_set *set)
{
	while (set->nr)
		mmu_interval_notifier_remove(&set->subs[--set->nr]);
	kvfree(set->subs);
	if (set->mm)
		mmput(set->mm);
}

static ssize_t bench_write(struct file *file, const char __user *from,
			   size_t len, loff_t *pos)
{
	char line[64], *arg = line, *name;
	int i, ret = -EINVAL;

	if (len >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, from, len))
		return -EFAULT;
	line[len] = '\0';
	arg = strim(line);
	name = strsep(&arg, " ");

	mutex_lock(&bench_mutex);
	for (i = 0; i < ARRAY_SIZE(bench_commands); i++)
		if (!strcmp(bench_commands[i].name, name))
			ret = bench_commands[i].run(arg ?: "");
	mutex_unlock(&bench_mutex);
	return ret ?: len;
}

static ssize_t bench_read(struct file *file, char __user *to, size_t len,
			  loff_t *pos)
{
	ssize_t ret;

	mutex_lock(&bench_mutex);
	ret = simple_read_from_buffer(to, len, pos, bench_text, bench_len);
	mutex_unlock(&bench_mutex);
	return ret;
}

static const struct file_operations bench_fops = {
	.owner = THIS_MODULE,
	.write = bench_write,
	.read = bench_read,
};

static int __init bench_init(void)
{
	bench_text = kvzalloc(BENCH_BUFFER, GFP_KERNEL);
	if (!bench_text)
		return -ENOMEM;
	bench_report(1000 * num_possible_cpus(), "possible_cpus");
	bench_file = debugfs_create_file("notifier_bench", 0600, NULL, NULL,
					 &bench_fops);
	return 0;
}

static void __exit bench_exit(void)
{
	debugfs_remove(bench_file);
	mmu_notifier_synchronize();
	kvfree(bench_text);
}

module_init(bench_init);
module_exit(bench_exit);
MODULE_DESCRIPTION("Benchmark of MMU notifiers");
MODULE_LICENSE("GPL");
