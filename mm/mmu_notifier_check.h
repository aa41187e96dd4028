/* SPDX-License-Identifier: GPL-2.0 */
/*
 * DEBUG_MMU_NOTIFIER_COVERAGE: what its files share; see mmu_notifier_check.c.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef _MM_MMU_NOTIFIER_CHECK_H
#define _MM_MMU_NOTIFIER_CHECK_H

#include <linux/spinlock_types.h>
#include <linux/types.h>

struct mm_struct;

enum mmu_check_level { MMU_CHECK_PTE, MMU_CHECK_PMD, MMU_CHECK_PUD, MMU_CHECK_NONE };

enum mmu_check_count {
	MMU_CHECK_COVERED,	/* granted something, and a range covers it */
	MMU_CHECK_JUDGED,	/* recorded, and compared */
	MMU_CHECK_UNLOCKED,	/* changed without its lock: judged as cleared */
	MMU_CHECK_DROPPED,	/* not judged: no room, or lockdep is off */
	MMU_CHECK_MISSED,	/* restrictive and not covered: a bug */
	MMU_CHECK_CAUGHT,	/* the same, because of a suppressed range */
	MMU_CHECK_NR_COUNTS
};

/* Entries and what they grant: mmu_notifier_check_entry.c */
enum mmu_check_level mmu_check_find(struct mm_struct *mm, unsigned long addr,
				    const void *entry);
bool mmu_check_extent(unsigned long val, enum mmu_check_level level, unsigned long addr,
		      unsigned long *start, unsigned long *end);
spinlock_t *mmu_check_ptl(struct mm_struct *mm, const void *entry,
			  enum mmu_check_level level);
bool mmu_check_restrictive(unsigned long old, unsigned long new,
			   enum mmu_check_level level);

/* Counts and suppressed sites: mmu_notifier_check_debugfs.c */
void mmu_check_inc(enum mmu_check_count count);
unsigned long mmu_check_sum(enum mmu_check_count count);
void mmu_check_suppress(const char *site);

#endif /* _MM_MMU_NOTIFIER_CHECK_H */
