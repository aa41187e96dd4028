/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Are changes of page tables announced to MMU notifiers? Hooks for the
 * primitives that make them; see mm/mmu_notifier_coverage.c.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef _LINUX_MMU_NOTIFIER_COVERAGE_H
#define _LINUX_MMU_NOTIFIER_COVERAGE_H

struct mm_struct;

#ifdef CONFIG_DEBUG_MMU_NOTIFIER_COVERAGE
void mmu_notifier_coverage_change(struct mm_struct *mm, unsigned long addr,
				  const void *entry);
void mmu_notifier_coverage_ptes(struct mm_struct *mm, unsigned long addr,
				const void *ptep, unsigned int nr);
#else
static inline void mmu_notifier_coverage_change(struct mm_struct *mm,
						unsigned long addr,
					     const void *entry) { }
static inline void mmu_notifier_coverage_ptes(struct mm_struct *mm, unsigned long addr,
					      const void *ptep, unsigned int nr) { }
#endif

#ifdef CONFIG_DEBUG_MMU_NOTIFIER
void mmu_notifier_usage_exit(void);
#else
static inline void mmu_notifier_usage_exit(void) { }
#endif

#endif /* _LINUX_MMU_NOTIFIER_COVERAGE_H */
