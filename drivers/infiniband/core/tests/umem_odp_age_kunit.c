// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * KUnit tests of the on-demand paged umem: does reclaim learn what the device uses?
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include "umem_odp_kunit.h"

#define NR_PAGES	64UL

static const struct ib_umem_odp_ops granule_ops = {
	.granule = 8 * PAGE_SIZE,
	.zap = test_zap,
	.zap_wait = test_zap_wait,
	.reaped = test_reaped,
};

static bool test_young(struct kunit *test, unsigned long addr)
{
	struct test_odp *to = test->priv;

	return mmu_notifier_test_young(to->mm, addr);
}

static bool test_clear(struct kunit *test, unsigned long addr, unsigned long size)
{
	struct test_odp *to = test->priv;

	return mmu_notifier_clear_young(to->mm, addr, addr + size);
}

static struct ib_umem_odp *test_region(struct kunit *test, const struct ib_umem_odp_ops *ops,
				       unsigned long *addr)
{
	struct ib_umem_odp *odp;

	*addr = test_mmap(test, NR_PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE);
	odp = test_get(test, *addr, NR_PAGES * PAGE_SIZE, TEST_ACCESS, ops);
	return odp;
}

static void each_access_is_seen_once(struct kunit *test)
{
	unsigned long addr;
	struct ib_umem_odp *odp = test_region(test, NULL, &addr);
	int i;

	KUNIT_EXPECT_FALSE(test, test_young(test, addr));
	for (i = 0; i < 2; i++) {
		KUNIT_ASSERT_EQ(test, 0, test_fault_error(odp, addr, 1, 0));
		KUNIT_EXPECT_TRUE(test, test_young(test, addr));
		KUNIT_EXPECT_TRUE(test, test_clear(test, addr, PAGE_SIZE));
		KUNIT_EXPECT_FALSE(test, test_young(test, addr));
		KUNIT_EXPECT_FALSE(test, test_clear(test, addr, PAGE_SIZE));
	}
	ib_umem_odp_release(odp);
}

static void access_is_that_of_its_pages(struct kunit *test)
{
	unsigned long addr, i;
	struct ib_umem_odp *odp = test_region(test, NULL, &addr);
	unsigned long at = 5 * PAGE_SIZE - 1;

	KUNIT_ASSERT_EQ(test, 0, test_fault_error(odp, addr + at, 2, IB_ODP_FAULT_WRITE));
	for (i = 0; i < NR_PAGES; i++)
		KUNIT_EXPECT_EQ_MSG(test, i == 4 || i == 5,
				    test_young(test, addr + i * PAGE_SIZE), "page %lu", i);
	KUNIT_EXPECT_FALSE(test, test_clear(test, addr, 4 * PAGE_SIZE));
	KUNIT_EXPECT_FALSE(test, test_clear(test, addr + 6 * PAGE_SIZE, PAGE_SIZE));
	KUNIT_EXPECT_TRUE(test, test_clear(test, addr, NR_PAGES * PAGE_SIZE));
	KUNIT_EXPECT_FALSE(test, test_clear(test, addr, NR_PAGES * PAGE_SIZE));
	ib_umem_odp_release(odp);
}

static void prefetched_pages_are_not_used_yet(struct kunit *test)
{
	unsigned long addr;
	struct ib_umem_odp *odp = test_region(test, NULL, &addr);

	KUNIT_ASSERT_EQ(test, 0, test_fault_error(odp, addr, PAGE_SIZE, IB_ODP_FAULT_PREFETCH));
	KUNIT_EXPECT_FALSE(test, test_young(test, addr));
	ib_umem_odp_release(odp);
}

/* The device was told last of pages [@first, @first + @nr) of the region. */
static void expect_zapped(struct kunit *test, unsigned long addr, unsigned long first,
			  unsigned long nr)
{
	struct test_odp *to = test->priv;

	KUNIT_EXPECT_EQ(test, addr + first * PAGE_SIZE, to->zap.start);
	KUNIT_EXPECT_EQ(test, addr + (first + nr) * PAGE_SIZE, to->zap.end);
}

static void device_forgets_and_keeps_its_pages(struct kunit *test)
{
	struct test_odp *to = test->priv;
	unsigned long addr;
	struct ib_umem_odp *odp = test_region(test, &granule_ops, &addr);
	struct ib_odp_chunk *chunk;

	KUNIT_ASSERT_EQ(test, 0, test_fault_error(odp, addr, 16 * PAGE_SIZE, 0));
	KUNIT_EXPECT_TRUE(test, test_clear(test, addr + 9 * PAGE_SIZE, PAGE_SIZE));
	/* Until it has forgotten, its use cannot be seen. */
	KUNIT_EXPECT_TRUE(test, test_clear(test, addr + 9 * PAGE_SIZE, PAGE_SIZE));
	flush_delayed_work(&odp->work);
	KUNIT_EXPECT_EQ(test, 1, to->zap.nr);
	KUNIT_EXPECT_EQ(test, 0, to->zap.open);
	expect_zapped(test, addr, 8, 8);
	KUNIT_EXPECT_FALSE(test, test_young(test, addr + 9 * PAGE_SIZE));
	/* Of its neighbours it has forgotten the translations, too. They were not asked for. */
	KUNIT_EXPECT_TRUE(test, test_young(test, addr + 8 * PAGE_SIZE));
	KUNIT_EXPECT_TRUE(test, test_young(test, addr));
	KUNIT_EXPECT_EQ(test, 0, atomic64_read(&odp->stats.invalidations));

	chunk = test_fault(test, odp, addr + 12 * PAGE_SIZE, 1, 0);
	KUNIT_EXPECT_EQ(test, 16, chunk->nr_mapped);
	ib_odp_chunk_unlock(chunk);
	KUNIT_EXPECT_EQ(test, 16, atomic64_read(&odp->stats.faults));
	KUNIT_EXPECT_TRUE(test, test_young(test, addr + 9 * PAGE_SIZE));
	ib_umem_odp_release(odp);
}

static void pages_of_one_granule_are_forgotten_at_once(struct kunit *test)
{
	struct test_odp *to = test->priv;
	struct ib_umem_odp *odp;
	unsigned long addr, i;

	test_needs_small_pages(test);
	odp = test_region(test, &granule_ops, &addr);
	KUNIT_ASSERT_EQ(test, 0, test_fault_error(odp, addr, NR_PAGES * PAGE_SIZE, 0));
	for (i = 1; i < 24; i += 2)
		KUNIT_EXPECT_TRUE(test, test_clear(test, addr + i * PAGE_SIZE, PAGE_SIZE));
	flush_delayed_work(&odp->work);
	KUNIT_EXPECT_EQ(test, 1, to->zap.nr);
	expect_zapped(test, addr, 0, 24);
	ib_umem_odp_release(odp);
}

static void huge_page_is_one(struct kunit *test)
{
	unsigned long addr;
	struct ib_odp_chunk *chunk;
	struct ib_umem_odp *odp;

	addr = test_mmap_huge(test);
	test_use_dma(test);
	odp = test_get(test, addr, IB_ODP_CHUNK_SIZE, TEST_ACCESS, &granule_ops);
	chunk = test_fault(test, odp, addr + 8 * PAGE_SIZE, 1, 0);
	KUNIT_EXPECT_NE(test, 0, chunk->huge);
	ib_odp_chunk_unlock(chunk);
	KUNIT_EXPECT_TRUE(test, test_clear(test, addr, IB_ODP_CHUNK_SIZE));
	flush_delayed_work(&odp->work);
	expect_zapped(test, addr, 0, IB_ODP_CHUNK_PAGES);
	KUNIT_EXPECT_FALSE(test, test_clear(test, addr, IB_ODP_CHUNK_SIZE));
	ib_umem_odp_release(odp);
}

/* The question is open when the region ends, or when the pages go. */
static void what_is_asked_may_go(struct kunit *test)
{
	struct test_odp *to = test->priv;
	unsigned long addr;
	struct ib_umem_odp *odp = test_region(test, &granule_ops, &addr);
	int zaps;

	KUNIT_ASSERT_EQ(test, 0, test_fault_error(odp, addr, PAGE_SIZE, 0));
	KUNIT_EXPECT_TRUE(test, test_clear(test, addr, PAGE_SIZE));
	KUNIT_ASSERT_EQ(test, 0, do_madvise(to->mm, addr, PAGE_SIZE, MADV_DONTNEED));
	zaps = to->zap.nr;
	flush_delayed_work(&odp->work);
	KUNIT_EXPECT_EQ(test, zaps, to->zap.nr);
	KUNIT_ASSERT_EQ(test, 0, test_fault_error(odp, addr, PAGE_SIZE, 0));
	KUNIT_EXPECT_TRUE(test, test_clear(test, addr, PAGE_SIZE));
	ib_umem_odp_release(odp);
	KUNIT_EXPECT_EQ(test, 0, to->zap.open);
}

static struct kunit_case age_cases[] = {
	KUNIT_CASE(each_access_is_seen_once),
	KUNIT_CASE(access_is_that_of_its_pages),
	KUNIT_CASE(prefetched_pages_are_not_used_yet),
	KUNIT_CASE(device_forgets_and_keeps_its_pages),
	KUNIT_CASE(pages_of_one_granule_are_forgotten_at_once),
	KUNIT_CASE(huge_page_is_one),
	KUNIT_CASE(what_is_asked_may_go),
	{}
};

static struct kunit_suite age_suite = {
	.name = "ib_umem_odp_age",
	.init = test_init,
	.test_cases = age_cases,
};
kunit_test_suite(age_suite);
