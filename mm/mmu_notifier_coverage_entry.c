// SPDX-License-Identifier: GPL-2.0
/*
 * DEBUG_MMU_NOTIFIER_COVERAGE: find an entry in the page tables, decode the
 * rights that it grants, and compare the rights of two values.
 *
 * Entries of all levels are handled as unsigned long, since hugetlb passes
 * those of any level as pte_t. pte_write(), pte_exec() and pte_dirty() are
 * valid for leaves of all levels. See mmu_notifier_coverage.c.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/pgtable.h>

#include "mmu_notifier_coverage.h"

static_assert(sizeof(pte_t) == sizeof(long));

/* The rights that an entry grants, and the page to which it grants them. */
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

/* A leaf that user space can access; not PROT_NONE and not a NUMA hint. */
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

/* A table has replaced a huge entry. Does any of its entries grant less? */
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

/*
 * Does @new grant less than @old? Removing or replacing a table always counts
 * as a loss: mmu_coverage_extent() has found an entry in it that grants access.
 */
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

/*
 * The level of @entry. MMU_COVERAGE_NONE if the page tables of @mm do not use
 * it for @addr, for instance because its table is not installed.
 */
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
	/* With two levels the PUD is folded into the PMD. */
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
 * mmu_coverage_extent() - find the addresses to which an entry grants access
 * @val: the value of the entry
 * @level: the level of the entry
 * @addr: an address that the entry maps
 * @start: lowered to the first of these addresses
 * @end: raised to the first address past them
 *
 * Return: false if the entry, or the table that it points to, grants no access.
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

/* The page-table lock that protects @entry. */
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
