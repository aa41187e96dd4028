// SPDX-License-Identifier: GPL-2.0
/*
 * DEBUG_MMU_NOTIFIER_COVERAGE: the counts, and the suppressed site, for debugfs
 * and for tests. See mmu_notifier_coverage.c.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/debugfs.h>
#include <linux/percpu.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "mmu_notifier.h"
#include "mmu_notifier_coverage.h"

static const char * const mmu_coverage_count_names[] = {
	"covered", "judged", "unlocked", "dropped", "missed", "caught",
};

static DEFINE_PER_CPU(unsigned long [MMU_COVERAGE_NR_COUNTS], mmu_coverage_counts);

static char mmu_coverage_suppressed[64];

void mmu_coverage_inc(enum mmu_coverage_count count)
{
	this_cpu_inc(mmu_coverage_counts[count]);
}

unsigned long mmu_coverage_sum(enum mmu_coverage_count count)
{
	unsigned long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu(mmu_coverage_counts[count], cpu);
	return sum;
}

/*
 * Without a lock. A range that starts meanwhile may read a mixture of both
 * names. It then equals no site, and the range is not suppressed.
 */
void mmu_coverage_suppress(const char *site)
{
	strscpy_pad(mmu_coverage_suppressed, site);
}

/**
 * mmu_notifier_coverage_suppressed() - are the ranges of this site suppressed?
 * @site: the name of the function that announces a range
 *
 * Return: true if this name was written to mmu_notifier/suppress in debugfs.
 */
bool mmu_notifier_coverage_suppressed(const char *site)
{
	return unlikely(mmu_coverage_suppressed[0]) && !strcmp(site, mmu_coverage_suppressed);
}

static int coverage_show(struct seq_file *m, void *unused)
{
	unsigned int i;

	for (i = 0; i < MMU_COVERAGE_NR_COUNTS; i++)
		seq_printf(m, "%s %lu\n", mmu_coverage_count_names[i], mmu_coverage_sum(i));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(coverage);

static int suppress_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "%s\n", mmu_coverage_suppressed);
	return 0;
}

static ssize_t suppress_write(struct file *file, const char __user *buf,
			      size_t count, loff_t *ppos)
{
	char name[sizeof(mmu_coverage_suppressed)] = {};

	if (count >= sizeof(name))
		return -EINVAL;
	if (copy_from_user(name, buf, count))
		return -EFAULT;
	mmu_coverage_suppress(strim(name));
	return count;
}
DEFINE_SHOW_STORE_ATTRIBUTE(suppress);

static int __init mmu_coverage_debugfs_init(void)
{
	struct dentry *dir = debugfs_create_dir("mmu_notifier", NULL);

	debugfs_create_file("coverage", 0400, dir, NULL, &coverage_fops);
	debugfs_create_file("suppress", 0600, dir, NULL, &suppress_fops);
	return 0;
}
late_initcall(mmu_coverage_debugfs_init);
