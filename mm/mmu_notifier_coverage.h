/* SPDX-License-Identifier: GPL-2.0 */
/*
 * DEBUG_MMU_NOTIFIER_COVERAGE: internal declarations. See
 * mmu_notifier_coverage.c.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef _MM_MMU_NOTIFIER_COVERAGE_H
#define _MM_MMU_NOTIFIER_COVERAGE_H

#include <linux/spinlock_types.h>
#include <linux/types.h>

struct mm_struct;

enum mmu_coverage_level { MMU_COVERAGE_PTE, MMU_COVERAGE_PMD, MMU_COVERAGE_PUD, MMU_COVERAGE_NONE };

enum mmu_coverage_count {
	MMU_COVERAGE_COVERED,	/* a range covers the change */
	MMU_COVERAGE_JUDGED,	/* not covered: recorded, and compared later */
	MMU_COVERAGE_UNLOCKED,	/* not covered, no lock: judged as cleared */
	MMU_COVERAGE_DROPPED,	/* not judged: no room, or lockdep is off */
	MMU_COVERAGE_MISSED,	/* restrictive and not covered: a bug */
	MMU_COVERAGE_CAUGHT,	/* missed only because a range is suppressed */
	MMU_COVERAGE_NR_COUNTS
};

/* Entries and their rights: mmu_notifier_coverage_entry.c */
enum mmu_coverage_level mmu_coverage_find(struct mm_struct *mm, unsigned long addr,
					  const void *entry);
bool mmu_coverage_extent(unsigned long val, enum mmu_coverage_level level, unsigned long addr,
			 unsigned long *start, unsigned long *end);
spinlock_t *mmu_coverage_ptl(struct mm_struct *mm, const void *entry,
			     enum mmu_coverage_level level);
bool mmu_coverage_restrictive(unsigned long old, unsigned long new,
			      enum mmu_coverage_level level);

/* Counts and suppressed sites: mmu_notifier_coverage_debugfs.c */
void mmu_coverage_inc(enum mmu_coverage_count count);
unsigned long mmu_coverage_sum(enum mmu_coverage_count count);
void mmu_coverage_suppress(const char *site);

#endif /* _MM_MMU_NOTIFIER_COVERAGE_H */
