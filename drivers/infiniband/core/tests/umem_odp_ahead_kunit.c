// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * KUnit tests of what a fault brings in ahead, where access is in order.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include "../umem_odp.h"
#include "umem_odp_kunit.h"

#define TEST_SIZE	SZ_4M
#define TEST_PAGES	(TEST_SIZE / PAGE_SIZE)

struct ahead_test {
	struct kunit *test;
	unsigned long addr;
	struct ib_umem_odp *odp;
	unsigned int old_limit;
};

/* Memory that begins where a chunk does, none of which the process has. */
static struct ahead_test ahead_begin(struct kunit *test, int prot, int access)
{
	unsigned long addr = test_mmap(test, TEST_SIZE + IB_ODP_CHUNK_SIZE, prot);
	struct ahead_test t = {
		.test = test,
		.addr = ALIGN(addr, IB_ODP_CHUNK_SIZE),
		.old_limit = ib_odp_ahead,
	};

	t.odp = test_get(test, t.addr, TEST_SIZE, access, &test_ops);
	return t;
}

static void ahead_end(struct ahead_test *t)
{
	ib_odp_ahead = t->old_limit;
	ib_umem_odp_release(t->odp);
}

/* A fault of @nr pages from the one numbered @page on; how many its chunk has then. */
static unsigned int ahead_fault(struct ahead_test *t, unsigned int page, unsigned int nr,
				unsigned int flags)
{
	struct ib_odp_chunk *chunk;
	unsigned int mapped;

	chunk = test_fault(t->test, t->odp, t->addr + page * PAGE_SIZE, nr * PAGE_SIZE, flags);
	mapped = chunk->nr_mapped;
	ib_odp_chunk_unlock(chunk);
	return mapped;
}

static void expect_mapped(struct ahead_test *t, unsigned int nr, unsigned int page,
			  unsigned int flags)
{
	KUNIT_EXPECT_EQ_MSG(t->test, nr, ahead_fault(t, page, 1, flags), "page %u", page);
}

static void expect_counts(struct ahead_test *t, unsigned int faults, unsigned int prefetch)
{
	KUNIT_EXPECT_EQ(t->test, faults, atomic64_read(&t->odp->stats.faults));
	KUNIT_EXPECT_EQ(t->test, prefetch, atomic64_read(&t->odp->stats.prefetch));
}

/* From the third on, each fault brings as many more as the run has had. */
static void a_run_doubles(struct kunit *test)
{
	struct ahead_test t = ahead_begin(test, PROT_READ | PROT_WRITE, TEST_ACCESS);

	expect_mapped(&t, 1, 0, IB_ODP_FAULT_WRITE);
	expect_mapped(&t, 2, 1, IB_ODP_FAULT_WRITE);
	expect_mapped(&t, 5, 2, IB_ODP_FAULT_WRITE);
	expect_mapped(&t, 11, 5, IB_ODP_FAULT_WRITE);
	expect_mapped(&t, 23, 11, IB_ODP_FAULT_WRITE);
	expect_counts(&t, 5, 18);
	ahead_end(&t);
}

/* The run goes on in the next chunk, as far ahead as the chunk goes. */
static void a_run_goes_on_in_the_next_chunk(struct kunit *test)
{
	unsigned int page = 0, faults = 0;
	struct ib_odp_chunk *chunk;
	struct ahead_test t;

	test_needs_small_pages(test);
	t = ahead_begin(test, PROT_READ | PROT_WRITE, TEST_ACCESS);
	while (page < TEST_PAGES) {
		chunk = test_fault(test, t.odp, t.addr + page * PAGE_SIZE, PAGE_SIZE, 0);
		page = (chunk->fault_end - t.addr) / PAGE_SIZE;
		ib_odp_chunk_unlock(chunk);
		faults++;
	}
	/* 1, 2, 5, 11, 23, 47, 95, 191, 383, 512; and the second chunk. */
	KUNIT_EXPECT_EQ(test, 11, faults);
	expect_counts(&t, faults, TEST_PAGES - faults);
	ahead_end(&t);
}

static void random_access_gets_nothing(struct kunit *test)
{
	struct ahead_test t = ahead_begin(test, PROT_READ | PROT_WRITE, TEST_ACCESS);
	unsigned int i;

	/* All pages in an order in which none follows another. */
	for (i = 0; i < TEST_PAGES; i++)
		ahead_fault(&t, i * 387 % TEST_PAGES, 1, IB_ODP_FAULT_WRITE);
	expect_counts(&t, TEST_PAGES, 0);
	ahead_end(&t);
}

/* Each is a run, though they take turns, and though there are others at random. */
static void runs_do_not_disturb_each_other(struct kunit *test)
{
	unsigned int i, runs[] = { 0, 100, 512, 700 };
	struct ahead_test t;

	test_needs_small_pages(test);
	t = ahead_begin(test, PROT_READ | PROT_WRITE, TEST_ACCESS);
	for (i = 0; i < ARRAY_SIZE(runs); i++)
		ahead_fault(&t, runs[i], 1, 0);
	for (i = 0; i < ARRAY_SIZE(runs); i++)
		ahead_fault(&t, runs[i] + 1, 1, 0);
	expect_counts(&t, 8, 0);
	for (i = 0; i < ARRAY_SIZE(runs); i++)
		ahead_fault(&t, runs[i] + 2, 1, 0);
	expect_counts(&t, 12, 8);
	for (i = 0; i < 20; i++)
		ahead_fault(&t, 900 + i * 7 % 20 * 5, 1, 0);
	expect_counts(&t, 32, 8);
	for (i = 0; i < ARRAY_SIZE(runs); i++)
		ahead_fault(&t, runs[i] + 5, 1, 0);
	expect_counts(&t, 36, 28);
	ahead_end(&t);
}

/* One access that is asked for chunk by chunk is none, however long it is. */
static void parts_of_an_access_are_no_run(struct kunit *test)
{
	struct ahead_test t = ahead_begin(test, PROT_READ | PROT_WRITE, TEST_ACCESS);
	unsigned int i;

	ahead_fault(&t, 0, 1, 0);
	for (i = 1; i < 10; i++)
		ahead_fault(&t, i, 1, IB_ODP_FAULT_PART);
	expect_counts(&t, 10, 0);
	/* The next access begins where this one ends, and the next one: that is a run. */
	ahead_fault(&t, 10, 1, 0);
	expect_counts(&t, 11, 0);
	ahead_fault(&t, 11, 1, 0);
	expect_counts(&t, 12, 11);
	ahead_end(&t);
}

static void a_run_ends_with_the_mapping(struct kunit *test)
{
	struct ahead_test t = ahead_begin(test, PROT_READ | PROT_WRITE, TEST_ACCESS);

	KUNIT_ASSERT_EQ(test, 0, vm_munmap(t.addr + 3 * PAGE_SIZE, PAGE_SIZE));
	expect_mapped(&t, 1, 0, IB_ODP_FAULT_WRITE);
	expect_mapped(&t, 2, 1, IB_ODP_FAULT_WRITE);
	expect_mapped(&t, 3, 2, IB_ODP_FAULT_WRITE);
	expect_counts(&t, 3, 0);
	KUNIT_EXPECT_EQ(test, -EFAULT, test_fault_error(t.odp, t.addr + 3 * PAGE_SIZE,
							PAGE_SIZE, IB_ODP_FAULT_WRITE));
	ahead_end(&t);
}

static int ahead_protect(struct ahead_test *t, unsigned int page, unsigned int nr, int prot)
{
	unsigned long at = t->addr + page * PAGE_SIZE;

	if (vm_munmap(at, nr * PAGE_SIZE))
		return -EIO;
	return vm_mmap(NULL, at, nr * PAGE_SIZE, prot,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, 0) == at ? 0 : -EIO;
}

/* What fails ahead fails nothing else, and is not seen before it is asked for. */
static void what_may_not_be_written_is_not_ahead(struct kunit *test)
{
	struct ahead_test t = ahead_begin(test, PROT_READ | PROT_WRITE, TEST_ACCESS);

	KUNIT_ASSERT_EQ(test, 0, ahead_protect(&t, 4, 1, PROT_READ));
	expect_mapped(&t, 1, 0, IB_ODP_FAULT_WRITE);
	expect_mapped(&t, 2, 1, IB_ODP_FAULT_WRITE);
	expect_mapped(&t, 4, 2, IB_ODP_FAULT_WRITE);
	expect_counts(&t, 3, 1);
	KUNIT_EXPECT_EQ(test, -EFAULT, test_fault_error(t.odp, t.addr + 4 * PAGE_SIZE,
							PAGE_SIZE, IB_ODP_FAULT_WRITE));
	ahead_end(&t);
}

/*
 * That a page is copied for a writer is announced, and collides with the fault that does
 * it. So a fault copies what is needed, and of what is ahead nothing.
 */
static void pages_that_are_to_be_copied_are_not_ahead(struct kunit *test)
{
	struct ahead_test t = ahead_begin(test, PROT_READ | PROT_WRITE, TEST_ACCESS);
	unsigned long start = jiffies;
	unsigned int i;
	u32 value;

	/* The zero page, in each of them. */
	for (i = 0; i < 64; i++)
		KUNIT_ASSERT_EQ(test, 0, get_user(value, (u32 __user *)(t.addr + i * PAGE_SIZE)));
	for (i = 0; i < 64; i++)
		ahead_fault(&t, i, 1, IB_ODP_FAULT_WRITE);
	KUNIT_EXPECT_LT(test, jiffies - start, 5 * HZ);
	for (i = 0; i < 64; i++) {
		KUNIT_ASSERT_EQ(test, 0, get_user(value, (u32 __user *)(t.addr + i * PAGE_SIZE)));
		KUNIT_EXPECT_EQ(test, 0, value);
	}
	ahead_end(&t);
}

/* How many pages are looked up by a fault for writing of so many pages that are zero pages. */
static long copies_looked_up(struct ahead_test *t, unsigned int page, unsigned int nr)
{
	unsigned long at = t->addr + page * PAGE_SIZE;
	unsigned int i;
	u32 value;
	long before;

	for (i = 0; i < nr; i++) {
		KUNIT_EXPECT_EQ(t->test, 0, get_user(value, (u32 __user *)(at + i * PAGE_SIZE)));
		KUNIT_EXPECT_EQ(t->test, 0, value);
	}
	before = atomic64_read(&ib_odp_looked_up);
	ahead_fault(t, page, nr, IB_ODP_FAULT_WRITE);
	return atomic64_read(&ib_odp_looked_up) - before;
}

/* Sizes 16 times apart, up to all of a chunk. */
static void expect_linear_copies(struct ahead_test *t)
{
	unsigned int sizes[] = { 2, 32, 512 }, i;
	long looked_up;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		looked_up = copies_looked_up(t, i == 2 ? 512 : 64 * i, sizes[i]);
		kunit_info(t->test, "%u pages: %ld looked up", sizes[i], looked_up);
		KUNIT_EXPECT_LE(t->test, looked_up, 4L * sizes[i]);
	}
}

static void copies_take_work_in_proportion(struct kunit *test)
{
	struct ahead_test t;

	test_needs_small_pages(test);
	t = ahead_begin(test, PROT_READ | PROT_WRITE, TEST_ACCESS);
	expect_linear_copies(&t);
	ahead_end(&t);
}

/* Each page is a mapping of its own. */
static void regress_copies_in_many_mappings_take_work_in_proportion(struct kunit *test)
{
	struct test_odp *to = test->priv;
	struct ahead_test t;
	unsigned int i;

	test_needs_small_pages(test);
	t = ahead_begin(test, PROT_READ | PROT_WRITE, TEST_ACCESS);
	for (i = 0; i < TEST_PAGES; i += 2)
		KUNIT_ASSERT_EQ(test, 0, do_madvise(to->mm, t.addr + i * PAGE_SIZE, PAGE_SIZE,
						    MADV_DONTDUMP));
	expect_linear_copies(&t);
	ahead_end(&t);
}

static void nothing_is_ahead_when_told_so(struct kunit *test)
{
	struct ahead_test t = ahead_begin(test, PROT_READ | PROT_WRITE, TEST_ACCESS);
	unsigned int i;

	ib_odp_ahead = 0;
	for (i = 0; i < 20; i++)
		ahead_fault(&t, i, 1, 0);
	expect_counts(&t, 20, 0);
	ib_odp_ahead = 4;
	for (i = 20; i < 22; i++)
		ahead_fault(&t, i, 1, 0);
	expect_mapped(&t, 25, 22, 0);
	expect_mapped(&t, 30, 25, 0);
	ahead_end(&t);
}

static void prefetch_is_no_run(struct kunit *test)
{
	struct ahead_test t = ahead_begin(test, PROT_READ | PROT_WRITE, TEST_ACCESS);
	unsigned int i;

	for (i = 0; i < 10; i++)
		ahead_fault(&t, i, 1, IB_ODP_FAULT_PREFETCH);
	expect_counts(&t, 0, 10);
	ahead_end(&t);
}

static struct kunit_case ahead_cases[] = {
	KUNIT_CASE(a_run_doubles),
	KUNIT_CASE(a_run_goes_on_in_the_next_chunk),
	KUNIT_CASE(random_access_gets_nothing),
	KUNIT_CASE(runs_do_not_disturb_each_other),
	KUNIT_CASE(parts_of_an_access_are_no_run),
	KUNIT_CASE(a_run_ends_with_the_mapping),
	KUNIT_CASE(what_may_not_be_written_is_not_ahead),
	KUNIT_CASE(pages_that_are_to_be_copied_are_not_ahead),
	KUNIT_CASE(copies_take_work_in_proportion),
	KUNIT_CASE(regress_copies_in_many_mappings_take_work_in_proportion),
	KUNIT_CASE(nothing_is_ahead_when_told_so),
	KUNIT_CASE(prefetch_is_no_run),
	{}
};

static struct kunit_suite ahead_suite = {
	.name = "ib_umem_odp_ahead",
	.init = test_init,
	.test_cases = ahead_cases,
};

kunit_test_suite(ahead_suite);

MODULE_DESCRIPTION("KUnit tests of what on-demand paging brings in ahead");
MODULE_LICENSE("Dual BSD/GPL");
