// SPDX-License-Identifier: GPL-2.0
/*
 * DEBUG_MMU_NOTIFIER_COVERAGE: where is an entry, what does it grant, and does
 * another value grant less? Entries are handled as values of one type, since
 * hugetlb passes those of all levels as pte_t. What a bit means is asked of the
 * architecture: pte_write(), pte_exec() and pte_dirty() hold for leaves of any level.
 * See mmu_notifier_coverage.c.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/pgtable.h>

#include "mmu_notifier_coverage.h"

static_assert(sizeof(pte_t) == sizeof(long));

/* What an entry lets its user do. */
struct mmu_coverage_rights {
	bool access;
	bool write;
	bool exec;
	bool dirty;
	unsigned long pfn;
};

static bool mmu_coverage_is_table(unsigned long val, enum mmu_coverage_level level)
{
	switch (level) {
	case MMU_COVERAGE_PMD:
		return pmd_present(__pmd(val)) && !pmd_leaf(__pmd(val));
	case MMU_COVERAGE_PUD:
		return pud_present(__pud(val)) && !pud_leaf(__pud(val));
	default:
		return false;
	}
}

/* A leaf that user space can use: PROT_NONE and NUMA hints grant nothing. */
static bool mmu_coverage_accessible(unsigned long val, enum mmu_coverage_level level)
{
	switch (level) {
	case MMU_COVERAGE_PTE:
		return pte_user_accessible_page(__pte(val));
	case MMU_COVERAGE_PMD:
		return pmd_user_accessible_page(__pmd(val));
	default:
		return pud_user_accessible_page(__pud(val));
	}
}

static unsigned long mmu_coverage_size(enum mmu_coverage_level level)
{
	static const unsigned long sizes[] = { PAGE_SIZE, PMD_SIZE, PUD_SIZE };

	return sizes[level];
}

static unsigned long mmu_coverage_pfn(unsigned long val, enum mmu_coverage_level level)
{
	switch (level) {
	case MMU_COVERAGE_PTE:
		return pte_pfn(__pte(val));
	case MMU_COVERAGE_PMD:
		return pmd_pfn(__pmd(val));
	default:
		return pud_pfn(__pud(val));
	}
}

static struct mmu_coverage_rights mmu_coverage_decode(unsigned long val,
						      enum mmu_coverage_level level)
{
	struct mmu_coverage_rights rights = {};
	pte_t pte = __pte(val);

	if (!mmu_coverage_accessible(val, level))
		return rights;
	rights.access = true;
	rights.write = pte_write(pte);
	rights.exec = pte_exec(pte);
	rights.dirty = pte_dirty(pte);
	rights.pfn = mmu_coverage_pfn(val, level);
	return rights;
}

static bool mmu_coverage_loses(struct mmu_coverage_rights old, struct mmu_coverage_rights new)
{
	if (!old.access)
		return false;
	return !new.access || new.pfn != old.pfn || (old.write && !new.write) ||
	       (old.exec && !new.exec) ||
	       (old.write && old.dirty && !new.dirty);
}

static const unsigned long *mmu_coverage_table(unsigned long val,
					       enum mmu_coverage_level level)
{
	return (void *)(level == MMU_COVERAGE_PMD ? pmd_page_vaddr(__pmd(val)) :
			(unsigned long)pud_pgtable(__pud(val)));
}

/* The number of entries of the table that an entry of @level points to. */
static unsigned int mmu_coverage_table_size(enum mmu_coverage_level level)
{
	return level == MMU_COVERAGE_PMD ? PTRS_PER_PTE : PTRS_PER_PMD;
}

/* Does the table that now stands in for a huge entry grant less anywhere? */
static bool mmu_coverage_split_loses(struct mmu_coverage_rights old, unsigned long new,
				     enum mmu_coverage_level level)
{
	const unsigned long *table = mmu_coverage_table(new, level);
	unsigned long step = mmu_coverage_size(level - 1) >> PAGE_SHIFT;
	unsigned int i;

	for (i = 0; i < mmu_coverage_table_size(level); i++, old.pfn += step) {
		unsigned long val = READ_ONCE(table[i]);

		if (mmu_coverage_is_table(val, level - 1)) {
			if (mmu_coverage_split_loses(old, val, level - 1))
				return true;
		} else if (mmu_coverage_loses(old, mmu_coverage_decode(val, level - 1))) {
			return true;
		}
	}
	return false;
}

/* Does @new grant less than @old? A table that goes grants what is in it. */
bool mmu_coverage_restrictive(unsigned long old, unsigned long new,
			      enum mmu_coverage_level level)
{
	struct mmu_coverage_rights rights;

	if (mmu_coverage_is_table(old, level))
		return !mmu_coverage_is_table(new, level) ||
		       mmu_coverage_table(new, level) != mmu_coverage_table(old, level);
	rights = mmu_coverage_decode(old, level);
	if (!rights.access)
		return false;
	if (mmu_coverage_is_table(new, level))
		return mmu_coverage_split_loses(rights, new, level);
	return mmu_coverage_loses(rights, mmu_coverage_decode(new, level));
}

/* Where is @entry in the page tables, if it is the one for @addr? */
enum mmu_coverage_level mmu_coverage_find(struct mm_struct *mm, unsigned long addr,
					  const void *entry)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;
	pud_t *pud;
	pmd_t *pmd;

	if (pgd_none(*pgd) || pgd_bad(*pgd))
		return MMU_COVERAGE_NONE;
	p4d = p4d_offset(pgd, addr);
	if (p4d_none(*p4d) || p4d_bad(*p4d))
		return MMU_COVERAGE_NONE;
	pud = pud_offset(p4d, addr);
	/* With two levels this is the PMD, by another name. */
	if (CONFIG_PGTABLE_LEVELS > 2 && pud == entry)
		return MMU_COVERAGE_PUD;
	if (!mmu_coverage_is_table(pud_val(READ_ONCE(*pud)), MMU_COVERAGE_PUD))
		return MMU_COVERAGE_NONE;
	pmd = pmd_offset(pud, addr);
	if (pmd == entry)
		return MMU_COVERAGE_PMD;
	if (!mmu_coverage_is_table(pmd_val(READ_ONCE(*pmd)), MMU_COVERAGE_PMD))
		return MMU_COVERAGE_NONE;
	return pte_offset_kernel(pmd, addr) == entry ? MMU_COVERAGE_PTE : MMU_COVERAGE_NONE;
}

/**
 * mmu_coverage_extent() - the addresses to which an entry grants access
 * @val: its value
 * @level: which table it is in
 * @addr: an address that it is for
 * @start: lowered to the first address
 * @end: raised to the end of the last one
 *
 * Return: false if there is none.
 */
bool mmu_coverage_extent(unsigned long val, enum mmu_coverage_level level, unsigned long addr,
			 unsigned long *start, unsigned long *end)
{
	unsigned long size = mmu_coverage_size(level);
	const unsigned long *table;
	unsigned int i;

	addr = round_down(addr, size);
	if (mmu_coverage_accessible(val, level)) {
		*start = min(*start, addr);
		*end = max(*end, addr + size);
	} else if (mmu_coverage_is_table(val, level)) {
		table = mmu_coverage_table(val, level);
		size = mmu_coverage_size(level - 1);
		for (i = 0; i < mmu_coverage_table_size(level); i++, addr += size)
			mmu_coverage_extent(READ_ONCE(table[i]), level - 1, addr, start, end);
	}
	return *start < *end;
}

/* The lock under which @entry is changed. */
spinlock_t *mmu_coverage_ptl(struct mm_struct *mm, const void *entry,
			     enum mmu_coverage_level level)
{
	switch (level) {
	case MMU_COVERAGE_PTE:
		return ptep_lockptr(mm, (pte_t *)entry);
	case MMU_COVERAGE_PMD:
		return pmd_lockptr(mm, (pmd_t *)entry);
	default:
		return pud_lockptr(mm, (pud_t *)entry);
	}
}
