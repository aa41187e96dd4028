// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * KUnit tests for the on-demand paged umem: how pages are taken from a device
 * with translations of its own, and huge pages.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include "../umem_odp.h"
#include "umem_odp_kunit.h"

static void test_event(struct kunit *test, enum mmu_notifier_event event,
		       unsigned long addr, size_t size)
{
	struct test_odp *to = test->priv;
	struct mmu_notifier_range range;

	mmu_notifier_range_init(&range, event, 0, to->mm, addr, addr + size);
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
}

static void thread_invalidate(struct test_thread *thread)
{
	test_event(thread->test, MMU_NOTIFY_CLEAR, thread->addr, thread->size);
}

static void a_range_tells_all_and_then_waits(struct kunit *test)
{
	unsigned long addr = test_mmap_chunks(test, 4), size = 4 * IB_ODP_CHUNK_SIZE;
	struct ib_umem_odp *odp = test_get(test, addr, size, TEST_ACCESS, &test_ops);
	struct test_odp *to = test->priv;
	int i;

	for (i = 0; i < 4; i++)
		KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr + i * IB_ODP_CHUNK_SIZE,
							  1, 0));
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr, size));
	KUNIT_EXPECT_EQ(test, 4, to->zap.nr);
	KUNIT_EXPECT_EQ(test, 4, to->zap.most_open);
	KUNIT_EXPECT_EQ(test, 0, to->zap.open);
	KUNIT_EXPECT_EQ(test, 4, atomic64_read(&odp->stats.invalidations));
	ib_umem_odp_release(odp);
	KUNIT_EXPECT_EQ(test, 4, to->zap.nr);
}

/*
 * A takes two chunks, and its wait for the second one is long:
 *
 *	A: start of both, finish of the second ...
 *				C: fault in the first, which is on its way
 *				   out: not while A goes on
 *				B: start of the first: settles it
 *	A: ... goes on, finish of the first, end
 */
static void who_comes_in_between_settles(struct kunit *test)
{
	unsigned long addr = test_mmap_chunks(test, 2), size = 2 * IB_ODP_CHUNK_SIZE;
	struct ib_umem_odp *odp = test_get(test, addr, size, TEST_ACCESS, &test_ops);
	struct test_odp *to = test->priv;
	struct test_thread a = { .fn = thread_invalidate, .addr = addr, .size = size };
	struct test_thread b = { .fn = thread_invalidate, .addr = addr, .size = PAGE_SIZE };
	struct test_thread c = { .fn = thread_fault, .odp = odp, .addr = addr, .size = 1 };

	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr, PAGE_SIZE, 0));
	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr + IB_ODP_CHUNK_SIZE, 1, 0));
	to->zap.slow = addr + IB_ODP_CHUNK_SIZE;
	test_spawn(test, &a);
	test_spawn(test, &b);
	test_spawn(test, &c);

	complete(&a.go);
	KUNIT_ASSERT_TRUE(test, wait_for_completion_timeout(&to->zap.is_waiting,
							    TEST_TIMEOUT));
	KUNIT_EXPECT_EQ(test, 0, atomic64_read(&odp->stats.invalidations));
	complete(&c.go);
	KUNIT_EXPECT_FALSE(test, wait_for_completion_timeout(&c.done, HZ / 10));
	complete(&b.go);
	test_join(test, &b);
	KUNIT_EXPECT_EQ(test, 1, atomic64_read(&odp->stats.invalidations));
	KUNIT_EXPECT_EQ(test, 2, to->zap.nr);
	KUNIT_EXPECT_FALSE(test, completion_done(&c.done));
	complete(&to->zap.go);
	test_join(test, &a);
	test_join(test, &c);
	KUNIT_EXPECT_EQ(test, 0, c.ret);
	KUNIT_EXPECT_EQ(test, 2, atomic64_read(&odp->stats.invalidations));
	KUNIT_EXPECT_EQ(test, 3, atomic64_read(&odp->stats.faults));
	to->zap.slow = 0;
	ib_umem_odp_release(odp);
}

static void what_takes_nothing_is_no_zap(struct kunit *test)
{
	unsigned long addr = test_mmap(test, PG(16), PROT_READ | PROT_WRITE);
	struct ib_umem_odp *odp = test_get(test, addr, PG(16), TEST_ACCESS, &test_ops);
	struct test_odp *to = test->priv;

	/* The page of zeros would change for another one when it is written. */
	KUNIT_ASSERT_EQ(test, 0, put_user(1, (u32 __user *)(addr + PG(4))));
	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr, PG(16), 0));
	test_event(test, MMU_NOTIFY_PROTECTION_PAGE, addr, PG(16));
	test_event(test, MMU_NOTIFY_SOFT_DIRTY, addr, PG(16));
	test_event(test, MMU_NOTIFY_SPLIT, addr, PG(16));
	KUNIT_EXPECT_EQ(test, 0, to->zap.nr);
	/* One page can be written: that one, and no other. */
	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr + PG(4), 1, IB_ODP_FAULT_WRITE));
	test_event(test, MMU_NOTIFY_PROTECTION_PAGE, addr, PG(8));
	KUNIT_EXPECT_EQ(test, 1, to->zap.nr);
	KUNIT_EXPECT_EQ(test, 1, atomic64_read(&odp->stats.invalidations));
	/* mprotect() says one thing for all it does. */
	test_event(test, MMU_NOTIFY_PROTECTION_VMA, addr, PG(8));
	KUNIT_EXPECT_EQ(test, 2, to->zap.nr);
	ib_umem_odp_release(odp);
}

/* The process gives back a page of the huge page that is not in the region. */
static void split_of_a_huge_page_takes_nothing(struct kunit *test)
{
	struct test_odp *to = test->priv;
	struct ib_umem_odp *odp;
	unsigned long addr;
	struct page *page;
	bool huge;

	if (!IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE))
		kunit_skip(test, "CONFIG_TRANSPARENT_HUGEPAGE is off");
	test_needs_small_pages(test);
	addr = ALIGN(test_mmap(test, 2 * PMD_SIZE, PROT_READ | PROT_WRITE), PMD_SIZE);
	odp = test_get(test, addr + PG(16), PG(256), TEST_ACCESS, &test_ops);
	KUNIT_ASSERT_EQ(test, 0, do_madvise(current->mm, addr, PMD_SIZE, MADV_HUGEPAGE));
	KUNIT_ASSERT_EQ(test, 0, put_user(1, (u32 __user *)addr));
	KUNIT_ASSERT_EQ(test, 1, get_user_pages_fast(addr, 1, 0, &page));
	huge = PageTransCompound(page);
	put_page(page);
	if (!huge) {
		ib_umem_odp_release(odp);
		kunit_skip(test, "no huge page");
	}
	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr + PG(16), PG(256), 0));
	to->zap.nr = 0;
	KUNIT_EXPECT_EQ(test, 0, do_madvise(current->mm, addr, PAGE_SIZE, MADV_DONTNEED));
	KUNIT_EXPECT_EQ(test, 0, to->zap.nr);
	/* And one of the region's own. */
	KUNIT_EXPECT_EQ(test, 0, do_madvise(current->mm, addr + PG(32), PAGE_SIZE,
					    MADV_DONTNEED));
	KUNIT_EXPECT_EQ(test, 1, to->zap.nr);
	ib_umem_odp_release(odp);
}

static void only_what_is_mapped_is_zapped(struct kunit *test)
{
	unsigned long addr = test_mmap(test, PG(256), PROT_READ | PROT_WRITE);
	struct test_odp *to = test->priv;
	struct ib_umem_odp *odp;

	test_needs_small_pages(test);
	odp = test_get(test, addr, PG(256), TEST_ACCESS, &test_ops);
	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr + PG(32), 1, 0));
	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr + PG(64), 1, 0));
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr, PG(16)));
	KUNIT_EXPECT_EQ(test, 0, to->zap.nr);
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr + PG(16), PG(128)));
	KUNIT_EXPECT_EQ(test, 1, to->zap.nr);
	KUNIT_EXPECT_EQ(test, addr + PG(32), to->zap.start);
	KUNIT_EXPECT_EQ(test, addr + PG(64) + PAGE_SIZE, to->zap.end);
	ib_umem_odp_release(odp);
}

static const struct ib_umem_odp_ops granule_ops = {
	.granule = PG(8),
	.zap = test_zap,
	.zap_wait = test_zap_wait,
};

/* The region starts in the middle of a granule, as the address space has them. */
static void granules_are_the_regions_and_no_chunks_share_one(struct kunit *test)
{
	unsigned long addr = test_mmap_chunks(test, 3) + 3 * PAGE_SIZE, behind;
	struct test_odp *to = test->priv;
	struct ib_umem_odp *odp;

	test_needs_small_pages(test);
	odp = test_get(test, addr, 2 * IB_ODP_CHUNK_SIZE, TEST_ACCESS, &granule_ops);
	behind = ib_umem_odp_chunk_end(odp, addr);
	KUNIT_EXPECT_EQ(test, 0, (behind - addr) % PG(8));
	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, behind - PG(16), PG(16), 0));
	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, behind, PG(16), 0));
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(behind - PAGE_SIZE, 2 * PAGE_SIZE));
	/* One granule on each side, all of it. */
	KUNIT_EXPECT_EQ(test, 2, to->zap.nr);
	KUNIT_EXPECT_EQ(test, behind, to->zap.start);
	KUNIT_EXPECT_EQ(test, behind + PG(8), to->zap.end);
	KUNIT_EXPECT_EQ(test, 16, atomic64_read(&odp->stats.invalidations));
	ib_umem_odp_release(odp);
}

static void present_pages_only(struct kunit *test)
{
	unsigned long addr = test_mmap(test, PG(16), PROT_READ | PROT_WRITE);
	struct ib_umem_odp *odp = test_get(test, addr, PG(16), TEST_ACCESS, &test_ops);

	KUNIT_ASSERT_EQ(test, 0, put_user(1, (u32 __user *)(addr + PG(4))));
	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr, PG(16), IB_ODP_FAULT_PRESENT |
						  IB_ODP_FAULT_PREFETCH));
	KUNIT_EXPECT_EQ(test, 1, atomic64_read(&odp->stats.prefetch));
	KUNIT_EXPECT_EQ(test, 0, atomic64_read(&odp->stats.faults));
	ib_umem_odp_release(odp);
}

/* Far apart, and at the ends of what each level of page tables covers. */
static void what_is_mapped_is_found(struct kunit *test)
{
	static const u64 at[] = {
		0, 3 * SZ_2M + PAGE_SIZE, SZ_1G - PAGE_SIZE, 2 * (u64)SZ_1G, 300 * (u64)SZ_1G,
		512 * (u64)SZ_1G - PAGE_SIZE, 512 * (u64)SZ_1G, 1200 * (u64)SZ_1G + SZ_2M,
	};
	const u64 length = 1300 * (u64)SZ_1G;
	unsigned long size = (unsigned long)length, addr, found;
	struct test_odp *to = test->priv;
	struct ib_umem_odp *odp;
	int i;

	/* Not with 32 bits, nor with the 39 that arm64 may have. */
	if (length + PGDIR_SIZE > TASK_SIZE / 2)
		kunit_skip(test, "not so much to address");
	test_needs_small_pages(test);
	addr = kunit_vm_mmap(test, NULL, 0, size + PGDIR_SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, 0);
	KUNIT_ASSERT_FALSE(test, !addr || IS_ERR_VALUE(addr));
	to->mm = current->mm;
	addr = ALIGN(addr, PGDIR_SIZE);
	odp = test_get(test, addr, size, TEST_ACCESS, &test_ops);
	KUNIT_EXPECT_EQ(test, addr + size, ib_umem_odp_find_mapped(odp, addr));
	for (i = 0; i < ARRAY_SIZE(at); i++)
		KUNIT_ASSERT_EQ(test, 0, put_user(1, (u32 __user *)(uintptr_t)(addr + at[i])));
	found = addr;
	for (i = 0; i < ARRAY_SIZE(at); i++) {
		found = ib_umem_odp_find_mapped(odp, found);
		KUNIT_EXPECT_EQ(test, ALIGN_DOWN(at[i], PMD_SIZE), found - addr);
		/* From within, it is this address. */
		KUNIT_EXPECT_EQ(test, found + PAGE_SIZE,
				ib_umem_odp_find_mapped(odp, found + PAGE_SIZE));
		found += PMD_SIZE;
	}
	KUNIT_EXPECT_EQ(test, addr + size, ib_umem_odp_find_mapped(odp, found));
	ib_umem_odp_release(odp);
}

static void implicit_region_is_all_there_is(struct kunit *test)
{
	unsigned long addr = test_mmap(test, PG(16), PROT_READ | PROT_WRITE);
	struct test_odp *to = test->priv;
	struct ib_umem_odp *odp;

	odp = ib_umem_odp_get_implicit(&to->device, TEST_ACCESS | IB_ACCESS_HUGETLB, NULL);
	KUNIT_EXPECT_PTR_EQ(test, ERR_PTR(-EOPNOTSUPP), odp);
	odp = ib_umem_odp_get_implicit(&to->device, TEST_ACCESS, NULL);
	KUNIT_ASSERT_FALSE(test, IS_ERR(odp));
	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr, PG(16), IB_ODP_FAULT_WRITE));
	KUNIT_EXPECT_EQ(test, -EFAULT, test_fault_error(odp, 0, 1, 0));
	KUNIT_EXPECT_EQ(test, -EINVAL, test_fault_error(odp, TASK_SIZE, 1, 0));
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 1, atomic64_read(&odp->stats.invalidations));
	ib_umem_odp_release(odp);
}

/* ---- huge pages ---- */

static void huge_page_is_one_fault(struct kunit *test)
{
	unsigned long addr = test_mmap_huge(test), at = addr + 5 * PAGE_SIZE + 8;
	struct ib_umem_odp *odp = test_get(test, addr, IB_ODP_CHUNK_SIZE, TEST_ACCESS,
					   &test_ops);
	struct test_odp *to = test->priv;
	struct ib_odp_chunk *chunk;
	u32 *va;

	chunk = test_fault(test, odp, at, 4, 0);
	KUNIT_EXPECT_NE(test, 0, chunk->huge);
	KUNIT_EXPECT_NULL(test, chunk->entries);
	KUNIT_EXPECT_EQ(test, IB_ODP_CHUNK_PAGES, chunk->nr_mapped);
	va = kmap_local_page(ib_odp_chunk_page(chunk, at));
	KUNIT_EXPECT_EQ(test, 0xfeed, va[offset_in_page(at) / sizeof(*va)]);
	kunmap_local(va);
	ib_odp_chunk_unlock(chunk);
	/* All of it is there; to write is another right. */
	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr, IB_ODP_CHUNK_SIZE, 0));
	KUNIT_EXPECT_EQ(test, IB_ODP_CHUNK_PAGES, atomic64_read(&odp->stats.faults));
	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr, 1, IB_ODP_FAULT_WRITE));
	KUNIT_EXPECT_EQ(test, 2 * IB_ODP_CHUNK_PAGES, atomic64_read(&odp->stats.faults));

	/* To lose a part is to lose all; the rest comes back in small pages. */
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 1, to->zap.nr);
	KUNIT_EXPECT_EQ(test, addr, to->zap.start);
	KUNIT_EXPECT_EQ(test, addr + IB_ODP_CHUNK_SIZE, to->zap.end);
	KUNIT_EXPECT_EQ(test, IB_ODP_CHUNK_PAGES, atomic64_read(&odp->stats.invalidations));
	chunk = test_fault(test, odp, at, 4, 0);
	KUNIT_EXPECT_EQ(test, 0, chunk->huge);
	KUNIT_EXPECT_EQ(test, 1, chunk->nr_mapped);
	va = kmap_local_page(ib_odp_chunk_page(chunk, at));
	KUNIT_EXPECT_EQ(test, 0xfeed, va[offset_in_page(at) / sizeof(*va)]);
	kunmap_local(va);
	ib_odp_chunk_unlock(chunk);
	KUNIT_EXPECT_EQ(test, -EFAULT, test_fault_error(odp, addr, 1, 0));
	ib_umem_odp_release(odp);
}

static void pages_are_mapped_for_dma(struct kunit *test)
{
	unsigned long addr = test_mmap(test, PG(16), PROT_READ | PROT_WRITE);
	struct ib_odp_chunk *chunk;
	struct ib_umem_odp *odp;
	__be64 entries[4];
	int i;

	test_use_dma(test);
	odp = test_get(test, addr, PG(16), TEST_ACCESS, &test_ops);
	chunk = test_fault(test, odp, addr + PAGE_SIZE, 2 * PAGE_SIZE, IB_ODP_FAULT_WRITE);
	ib_odp_chunk_entries(chunk, addr, ARRAY_SIZE(entries), entries);
	KUNIT_EXPECT_EQ(test, 0, be64_to_cpu(entries[0]));
	for (i = 1; i < 3; i++)
		KUNIT_EXPECT_EQ(test, page_to_phys(ib_odp_chunk_page(chunk, addr + i * PAGE_SIZE)) |
				IB_ODP_ENTRY_READ | IB_ODP_ENTRY_WRITE, be64_to_cpu(entries[i]));
	KUNIT_EXPECT_EQ(test, 0, be64_to_cpu(entries[3]));
	ib_odp_chunk_unlock(chunk);
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr, PG(8)));
	KUNIT_EXPECT_EQ(test, 2, atomic64_read(&odp->stats.invalidations));
	ib_umem_odp_release(odp);
}

static void huge_page_is_one_dma_mapping(struct kunit *test)
{
	unsigned long addr = test_mmap_huge(test);
	struct ib_odp_chunk *chunk;
	struct ib_umem_odp *odp;
	__be64 first, last;

	test_use_dma(test);
	odp = test_get(test, addr, IB_ODP_CHUNK_SIZE, TEST_ACCESS, &test_ops);
	chunk = test_fault(test, odp, addr, 1, 0);
	KUNIT_EXPECT_NE(test, 0, chunk->huge);
	KUNIT_EXPECT_NULL(test, chunk->dma);
	ib_odp_chunk_entries(chunk, addr, 1, &first);
	KUNIT_EXPECT_EQ(test, IB_ODP_ENTRY_READ, be64_to_cpu(first) & ~PAGE_MASK);
	ib_odp_chunk_entries(chunk, addr + IB_ODP_CHUNK_SIZE - 1, 1, &last);
	KUNIT_EXPECT_EQ(test, IB_ODP_CHUNK_SIZE - PAGE_SIZE,
			be64_to_cpu(last) - be64_to_cpu(first));
	ib_odp_chunk_unlock(chunk);
	ib_umem_odp_release(odp);
}

/*
 * A fault has seen a huge page, so it has no room for small ones; when it gets the
 * chunk, another one has found that the device cannot have it (a bounce buffer is
 * not so large).
 */
static void huge_page_is_refused_beside_a_fault(struct kunit *test)
{
	unsigned long addr = test_mmap_huge(test);
	struct test_odp *to = test->priv;
	struct test_thread thread = { .fn = thread_fault, .addr = addr, .size = 1 };
	struct ib_odp_chunk *chunk;

	test_use_dma(test);
	thread.odp = test_get(test, addr, IB_ODP_CHUNK_SIZE, TEST_ACCESS, &test_ops);
	test_spawn(test, &thread);
	chunk = ib_odp_chunk_get(thread.odp, addr);
	KUNIT_ASSERT_FALSE(test, IS_ERR(chunk));
	mmap_write_lock(to->mm);
	complete(&thread.go);
	test_wait(test, mmap_lock_is_contended(to->mm));
	mutex_lock(&chunk->lock);
	mmap_write_unlock(to->mm);
	test_wait_contended(test, chunk);
	chunk->small_only = true;
	mutex_unlock(&chunk->lock);

	test_join(test, &thread);
	KUNIT_EXPECT_EQ(test, 0, thread.ret);
	KUNIT_EXPECT_EQ(test, 0, chunk->huge);
	KUNIT_EXPECT_EQ(test, 1, chunk->nr_mapped);
	ib_odp_chunk_put(chunk);
	ib_umem_odp_release(thread.odp);
}

static struct kunit_case zap_cases[] = {
	KUNIT_CASE(a_range_tells_all_and_then_waits),
	KUNIT_CASE(who_comes_in_between_settles),
	KUNIT_CASE(what_takes_nothing_is_no_zap),
	KUNIT_CASE(split_of_a_huge_page_takes_nothing),
	KUNIT_CASE(only_what_is_mapped_is_zapped),
	KUNIT_CASE(granules_are_the_regions_and_no_chunks_share_one),
	KUNIT_CASE(present_pages_only),
	KUNIT_CASE(what_is_mapped_is_found),
	KUNIT_CASE(implicit_region_is_all_there_is),
	KUNIT_CASE(huge_page_is_one_fault),
	KUNIT_CASE(pages_are_mapped_for_dma),
	KUNIT_CASE(huge_page_is_one_dma_mapping),
	KUNIT_CASE(huge_page_is_refused_beside_a_fault),
	{}
};

static struct kunit_suite zap_suite = {
	.name = "ib_umem_odp_zap",
	.init = test_init,
	.test_cases = zap_cases,
};
kunit_test_suite(zap_suite);
