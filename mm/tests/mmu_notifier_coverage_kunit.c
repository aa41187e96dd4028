// SPDX-License-Identifier: GPL-2.0
/*
 * DEBUG_MMU_NOTIFIER_COVERAGE: which changes does the checker report?
 *
 * The tests change page table entries directly, inside ranges of a function
 * that is suppressed. The checker then counts a restrictive change as caught,
 * and does not warn. Each test restores the entries inside a range that is not
 * suppressed.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/mm.h>
#include <linux/mman.h>
#include <asm/tlb.h>

#include "../mmu_notifier_coverage.h"
#include "mmu_notifier_fixture.h"

/* More entries than the checker can record, but fewer than a table has. */
#define NR_PAGES	200

struct check_state {
	struct mm_struct *mm;
	unsigned long base;
	pte_t *ptep;		/* mapped and valid while locked */
	spinlock_t *ptl;
	pte_t old[NR_PAGES];
	unsigned long before[MMU_COVERAGE_NR_COUNTS];
};

/* Map memory that has a page table of its own and no huge pages. */
static unsigned long map_table(struct kunit *test)
{
	unsigned long addr;

	if (PMD_SIZE > SZ_32M)
		kunit_skip(test, "a page table is of more memory than there may be");
	addr = ALIGN(mmu_test_map(test, 2 * PTRS_PER_PTE), PMD_SIZE);
	if (IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE))
		KUNIT_ASSERT_EQ(test, 0, do_madvise(current->mm, addr, PMD_SIZE,
						    MADV_NOHUGEPAGE));
	return addr;
}

static struct check_state *check_lock(struct kunit *test)
{
	struct check_state *cs = test->priv;

	cs->ptep = pte_offset_map_lock(cs->mm, pmd_off(cs->mm, cs->base), cs->base, &cs->ptl);
	KUNIT_ASSERT_NOT_NULL(test, cs->ptep);
	/* For sparse: check_unlock() releases it. */
	__release(cs->ptl);
	return cs;
}

static void check_unlock(struct check_state *cs)
{
	__acquire(cs->ptl);
	pte_unmap_unlock(cs->ptep, cs->ptl);
}

static unsigned long addr_of(struct check_state *cs, unsigned int page)
{
	return cs->base + PG(page);
}

static unsigned long new(struct check_state *cs, enum mmu_coverage_count count)
{
	return mmu_coverage_sum(count) - cs->before[count];
}

/* The ranges of this function cover changes. */
static void announce(struct check_state *cs, struct mmu_notifier_range *range,
		     unsigned long start, unsigned long end)
{
	mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, cs->mm, start, end);
	mmu_notifier_invalidate_range_start(range);
}

/* The ranges of this function are suppressed, and cover nothing. */
static void announce_suppressed(struct check_state *cs,
				struct mmu_notifier_range *range,
				unsigned long start, unsigned long end)
{
	mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, cs->mm, start, end);
	mmu_notifier_invalidate_range_start(range);
}

static void announce_all_suppressed(struct check_state *cs,
				    struct mmu_notifier_range *range)
{
	announce_suppressed(cs, range, cs->base, addr_of(cs, NR_PAGES));
}

/* Set the entries to their values before the test. */
static void restore(struct kunit *test)
{
	struct check_state *cs = test->priv;
	struct mmu_notifier_range range;
	unsigned int i;

	announce(cs, &range, cs->base, addr_of(cs, NR_PAGES));
	check_lock(test);
	for (i = 0; i < NR_PAGES; i++) {
		ptep_get_and_clear(cs->mm, addr_of(cs, i), cs->ptep + i);
		set_pte_at(cs->mm, addr_of(cs, i), cs->ptep + i, cs->old[i]);
	}
	check_unlock(cs);
	mmu_notifier_invalidate_range_end(&range);
}

static void a_cleared_entry_is_judged_at_its_unlock(struct kunit *test)
{
	struct check_state *cs = test->priv;
	struct mmu_notifier_range range;
	static DEFINE_SPINLOCK(other);

	announce_all_suppressed(cs, &range);
	check_lock(test);
	spin_lock(&other);
	ptep_get_and_clear(cs->mm, cs->base, cs->ptep);
	spin_unlock(&other);
	KUNIT_EXPECT_EQ(test, 0, new(cs, MMU_COVERAGE_CAUGHT));
	check_unlock(cs);
	KUNIT_EXPECT_EQ(test, 1, new(cs, MMU_COVERAGE_JUDGED));
	KUNIT_EXPECT_EQ(test, 1, new(cs, MMU_COVERAGE_CAUGHT));
	mmu_notifier_invalidate_range_end(&range);
	restore(test);
}

static void an_entry_that_is_restored_is_not_caught(struct kunit *test)
{
	struct check_state *cs = test->priv;
	struct mmu_notifier_range range;
	pte_t pte;

	announce_all_suppressed(cs, &range);
	check_lock(test);
	pte = ptep_get_and_clear(cs->mm, cs->base, cs->ptep);
	set_pte_at(cs->mm, cs->base, cs->ptep, pte_mkold(pte));
	check_unlock(cs);
	mmu_notifier_invalidate_range_end(&range);
	KUNIT_EXPECT_EQ(test, 1, new(cs, MMU_COVERAGE_JUDGED));
	KUNIT_EXPECT_EQ(test, 0, new(cs, MMU_COVERAGE_CAUGHT));
}

static void a_change_without_the_lock_counts_as_a_loss(struct kunit *test)
{
	struct check_state *cs = test->priv;
	struct mmu_notifier_range range;
	pte_t *ptep;

	announce_all_suppressed(cs, &range);
	ptep = pte_offset_map(pmd_off(cs->mm, cs->base), cs->base);
	ptep_get_and_clear(cs->mm, cs->base, ptep);
	pte_unmap(ptep);
	mmu_notifier_invalidate_range_end(&range);
	KUNIT_EXPECT_EQ(test, 1, new(cs, MMU_COVERAGE_UNLOCKED));
	KUNIT_EXPECT_EQ(test, 1, new(cs, MMU_COVERAGE_CAUGHT));
	restore(test);
}

static void reduced_rights_are_caught(struct kunit *test)
{
	struct check_state *cs = test->priv;
	struct mmu_notifier_range range;
	pte_t clean;

	announce_all_suppressed(cs, &range);
	check_lock(test);
	ptep_set_wrprotect(cs->mm, cs->base, cs->ptep);
	clean = pte_mkclean(ptep_get_and_clear(cs->mm, addr_of(cs, 1), cs->ptep + 1));
	set_pte_at(cs->mm, addr_of(cs, 1), cs->ptep + 1, clean);
	check_unlock(cs);
	mmu_notifier_invalidate_range_end(&range);
	KUNIT_EXPECT_EQ(test, 2, new(cs, MMU_COVERAGE_CAUGHT));
	restore(test);
}

/* pte_clear() needs a hook of its own, as each of the primitives does. */
static void regress_pte_clear_is_a_change(struct kunit *test)
{
	struct check_state *cs = test->priv;
	struct mmu_notifier_range range;

	announce_all_suppressed(cs, &range);
	check_lock(test);
	pte_clear(cs->mm, cs->base, cs->ptep);
	check_unlock(cs);
	mmu_notifier_invalidate_range_end(&range);
	KUNIT_EXPECT_EQ(test, 1, new(cs, MMU_COVERAGE_CAUGHT));
	restore(test);
}

static void regress_set_ptes_changes_each_of_them(struct kunit *test)
{
	struct check_state *cs = test->priv;
	struct mmu_notifier_range range;

	if (IS_ENABLED(CONFIG_ARM64))
		kunit_skip(test, "arm64 warns if an entry was present");
	announce_all_suppressed(cs, &range);
	check_lock(test);
	set_ptes(cs->mm, cs->base, cs->ptep, pte_wrprotect(cs->old[0]), 4);
	check_unlock(cs);
	mmu_notifier_invalidate_range_end(&range);
	KUNIT_EXPECT_EQ(test, 4, new(cs, MMU_COVERAGE_CAUGHT));
	restore(test);
}

/* A special entry: no struct page has a reference or a mapcount for it. */
static pte_t raw_pte(unsigned long pfn)
{
	pte_t pte = pte_mkspecial(pfn_pte(pfn, PAGE_SHARED));

	return pte_mkyoung(pte_mkdirty(pte_mkwrite_novma(pte)));
}

/* free_pgtables() announces no range, so the tables must be empty. */
static void regress_freeing_a_populated_table_is_caught(struct kunit *test)
{
	struct check_state *cs = test->priv;
	unsigned long addr = map_table(test);
	struct mmu_notifier_range range;
	struct mmu_gather tlb;
	spinlock_t *ptl;	/* of the table that @ptep is in */
	pte_t *ptep;

	ptep = get_locked_pte(cs->mm, addr, &ptl);
	KUNIT_ASSERT_NOT_NULL(test, ptep);
	set_pte_at(cs->mm, addr, ptep, raw_pte(my_zero_pfn(addr)));
	pte_unmap_unlock(ptep, ptl);

	announce_suppressed(cs, &range, addr, addr + PMD_SIZE);
	tlb_gather_mmu(&tlb, cs->mm);
	free_pgd_range(&tlb, addr, addr + PMD_SIZE, addr, addr + PMD_SIZE);
	tlb_finish_mmu(&tlb);
	mmu_notifier_invalidate_range_end(&range);
	KUNIT_EXPECT_EQ(test, 1, new(cs, MMU_COVERAGE_CAUGHT));
}

/* arm64 rewrites all entries of a contiguous set when it changes one. */
#ifdef CONFIG_ARM64_CONTPTE
#define SET_PTES	CONT_PTES
#define SET_REWRITTEN	CONT_PTES
#else
#define SET_PTES	16
#define SET_REWRITTEN	1
#endif

static void one_entry_of_a_contiguous_set_is_caught(struct kunit *test)
{
	struct check_state *cs = test->priv;
	unsigned long addr = map_table(test);
	struct page *page = alloc_pages(GFP_KERNEL, ilog2(SET_PTES));
	struct mmu_notifier_range range;
	spinlock_t *ptl;	/* of the table that @ptep is in */
	pte_t *ptep;

	KUNIT_ASSERT_NOT_NULL(test, page);
	announce_suppressed(cs, &range, addr, addr + PMD_SIZE);
	ptep = get_locked_pte(cs->mm, addr, &ptl);
	KUNIT_ASSERT_NOT_NULL(test, ptep);
	set_ptes(cs->mm, addr, ptep, raw_pte(page_to_pfn(page)), SET_PTES);
	ptep_set_wrprotect(cs->mm, addr + PG(3), ptep + 3);
	pte_unmap_unlock(ptep, ptl);
	KUNIT_EXPECT_EQ(test, SET_REWRITTEN, new(cs, MMU_COVERAGE_JUDGED));
	KUNIT_EXPECT_EQ(test, 1, new(cs, MMU_COVERAGE_CAUGHT));

	ptep = get_locked_pte(cs->mm, addr, &ptl);
	clear_full_ptes(cs->mm, addr, ptep, SET_PTES, 0);
	pte_unmap_unlock(ptep, ptl);
	mmu_notifier_invalidate_range_end(&range);
	KUNIT_EXPECT_EQ(test, 1 + SET_PTES, new(cs, MMU_COVERAGE_CAUGHT));
	flush_tlb_mm(cs->mm);
	__free_pages(page, ilog2(SET_PTES));
}

static void regress_each_of_many_changes_is_caught(struct kunit *test)
{
	struct check_state *cs = test->priv;
	struct mmu_notifier_range range;
	unsigned int i;

	announce_all_suppressed(cs, &range);
	check_lock(test);
	for (i = 0; i < NR_PAGES; i++)
		ptep_get_and_clear(cs->mm, addr_of(cs, i), cs->ptep + i);
	check_unlock(cs);
	mmu_notifier_invalidate_range_end(&range);
	KUNIT_EXPECT_EQ(test, NR_PAGES, new(cs, MMU_COVERAGE_CAUGHT));
	restore(test);
}

/* MADV_COLD does this, and needs no range. */
static void many_entries_that_are_restored_are_not_caught(struct kunit *test)
{
	struct check_state *cs = test->priv;
	struct mmu_notifier_range range;
	unsigned int i;
	pte_t pte;

	announce_all_suppressed(cs, &range);
	check_lock(test);
	for (i = 0; i < NR_PAGES; i++) {
		pte = ptep_get_and_clear(cs->mm, addr_of(cs, i), cs->ptep + i);
		set_pte_at(cs->mm, addr_of(cs, i), cs->ptep + i, pte_mkold(pte));
	}
	check_unlock(cs);
	mmu_notifier_invalidate_range_end(&range);
	KUNIT_EXPECT_EQ(test, NR_PAGES, new(cs, MMU_COVERAGE_JUDGED));
	KUNIT_EXPECT_EQ(test, 0, new(cs, MMU_COVERAGE_CAUGHT));
}

/* Clear the entry of the first page inside two nested ranges. */
static void clear_inside(struct kunit *test, unsigned long start, unsigned long end,
			 unsigned long inner_start, unsigned long inner_end)
{
	struct check_state *cs = test->priv;
	struct mmu_notifier_range whole, outer, inner;

	announce_all_suppressed(cs, &whole);
	announce(cs, &outer, cs->base + start, cs->base + end);
	announce(cs, &inner, cs->base + inner_start, cs->base + inner_end);
	check_lock(test);
	ptep_get_and_clear(cs->mm, cs->base, cs->ptep);
	check_unlock(cs);
	mmu_notifier_invalidate_range_end(&inner);
	mmu_notifier_invalidate_range_end(&outer);
	mmu_notifier_invalidate_range_end(&whole);
	restore(test);
}

static void regress_adjacent_ranges_cover_together(struct kunit *test)
{
	const unsigned long half = PAGE_SIZE / 2;
	struct check_state *cs = test->priv;

	clear_inside(test, 0, half, half, PAGE_SIZE);
	clear_inside(test, half, PAGE_SIZE, 0, half);
	clear_inside(test, half / 2, PG(2), 0, half);
	KUNIT_EXPECT_EQ(test, 0, new(cs, MMU_COVERAGE_CAUGHT));
}

static void ranges_with_a_gap_do_not_cover(struct kunit *test)
{
	const unsigned long half = PAGE_SIZE / 2;
	struct check_state *cs = test->priv;

	clear_inside(test, 0, half - 1, half, PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, 1, new(cs, MMU_COVERAGE_CAUGHT));
	clear_inside(test, half, PAGE_SIZE, half, PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, 2, new(cs, MMU_COVERAGE_CAUGHT));
	clear_inside(test, half, PAGE_SIZE - 1, 0, half);
	KUNIT_EXPECT_EQ(test, 3, new(cs, MMU_COVERAGE_CAUGHT));
}

/* Each of two ranges covers one half of the page. One of them is suppressed. */
static void suppressing_one_of_two_ranges_is_caught(struct kunit *test)
{
	const unsigned long half = PAGE_SIZE / 2;
	struct check_state *cs = test->priv;
	struct mmu_notifier_range outer, inner;

	announce(cs, &outer, cs->base, cs->base + half);
	announce_suppressed(cs, &inner, cs->base + half, cs->base + PAGE_SIZE);
	check_lock(test);
	ptep_get_and_clear(cs->mm, cs->base, cs->ptep);
	check_unlock(cs);
	mmu_notifier_invalidate_range_end(&inner);
	mmu_notifier_invalidate_range_end(&outer);
	KUNIT_EXPECT_EQ(test, 1, new(cs, MMU_COVERAGE_CAUGHT));
	restore(test);
}

static int check_init(struct kunit *test)
{
	struct check_state *cs = kunit_kzalloc(test, sizeof(*cs), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, cs);
	test->priv = cs;
	cs->base = map_table(test);
	cs->mm = current->mm;
	for (i = 0; i < NR_PAGES; i++)
		mmu_test_cpu_page(test, addr_of(cs, i));
	check_lock(test);
	for (i = 0; i < NR_PAGES; i++)
		cs->old[i] = pte_mkyoung(ptep_get(cs->ptep + i));
	check_unlock(cs);
	mmu_coverage_suppress("announce_suppressed");
	for (i = 0; i < MMU_COVERAGE_NR_COUNTS; i++)
		cs->before[i] = mmu_coverage_sum(i);
	return 0;
}

/*
 * No test may cause a dropped change or a warning. If lockdep is off, all
 * changes are dropped.
 */
static void check_exit(struct kunit *test)
{
	struct check_state *cs = test->priv;

	mmu_coverage_suppress("");
	KUNIT_EXPECT_EQ(test, 0, new(cs, MMU_COVERAGE_DROPPED));
	KUNIT_EXPECT_EQ(test, 0, new(cs, MMU_COVERAGE_MISSED));
}

static struct kunit_case test_cases[] = {
	KUNIT_CASE(a_cleared_entry_is_judged_at_its_unlock),
	KUNIT_CASE(an_entry_that_is_restored_is_not_caught),
	KUNIT_CASE(a_change_without_the_lock_counts_as_a_loss),
	KUNIT_CASE(reduced_rights_are_caught),
	KUNIT_CASE(regress_pte_clear_is_a_change),
	KUNIT_CASE(regress_set_ptes_changes_each_of_them),
	KUNIT_CASE(regress_freeing_a_populated_table_is_caught),
	KUNIT_CASE(one_entry_of_a_contiguous_set_is_caught),
	KUNIT_CASE(regress_each_of_many_changes_is_caught),
	KUNIT_CASE(many_entries_that_are_restored_are_not_caught),
	KUNIT_CASE(regress_adjacent_ranges_cover_together),
	KUNIT_CASE(ranges_with_a_gap_do_not_cover),
	KUNIT_CASE(suppressing_one_of_two_ranges_is_caught),
	{}
};

static struct kunit_suite test_suite = {
	.name = "mmu_notifier_coverage",
	.init = check_init,
	.exit = check_exit,
	.test_cases = test_cases,
};
kunit_test_suite(test_suite);
