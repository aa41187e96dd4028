// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * KUnit tests for rxe's access to regions that are paged on demand: a region
 * over memory of the test's own, without QPs or packets.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <kunit/test.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/random.h>
#include <rdma/ib_umem_odp.h>

#include "../rxe.h"
#include "../rxe_loc.h"

#define TEST_IOVA	0x123450000000ULL
#define TEST_SIZE	(3 * IB_ODP_CHUNK_SIZE)
#define TEST_LENGTH	(3 * PAGE_SIZE)

struct test_rxe {
	struct rxe_dev rxe;
	struct rxe_mr mr;
	unsigned long addr;
	u8 out[TEST_LENGTH];
	u8 in[TEST_LENGTH];
};

static int test_init(struct kunit *test)
{
	struct test_rxe *tr = kunit_kzalloc(test, sizeof(*tr), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, tr);
	get_random_bytes(tr->out, sizeof(tr->out));
	test->priv = tr;
	return 0;
}

static struct test_rxe *test_register(struct kunit *test, int prot, int access)
{
	struct test_rxe *tr = test->priv;

	tr->addr = kunit_vm_mmap(test, NULL, 0, TEST_SIZE, prot,
				 MAP_PRIVATE | MAP_ANONYMOUS, 0);
	KUNIT_ASSERT_FALSE(test, !tr->addr || IS_ERR_VALUE(tr->addr));
	KUNIT_ASSERT_EQ(test, 0, rxe_odp_init_user(&tr->rxe, tr->addr, TEST_SIZE,
						   access | IB_ACCESS_ON_DEMAND, &tr->mr));
	tr->mr.ibmr.iova = TEST_IOVA;
	tr->mr.ibmr.length = TEST_SIZE;
	return tr;
}

struct copy_case {
	const char *name;
	u64 offset;
	unsigned int length;
};

static const struct copy_case copy_cases[] = {
	{ "one byte", 0, 1 },
	{ "a page", PAGE_SIZE, PAGE_SIZE },
	{ "across pages, unaligned", PAGE_SIZE - 1, PAGE_SIZE + 2 },
	{ "across chunks", IB_ODP_CHUNK_SIZE - 5, 11 },
	{ "pages of two chunks", IB_ODP_CHUNK_SIZE - PAGE_SIZE - 1, TEST_LENGTH },
	{ "the last byte", TEST_SIZE - 1, 1 },
};
KUNIT_ARRAY_PARAM_DESC(copy, copy_cases, name);

static void copies_reach_the_user_byte_by_byte(struct kunit *test)
{
	const struct copy_case *c = test->param_value;
	struct test_rxe *tr = test_register(test, PROT_READ | PROT_WRITE,
					    IB_ACCESS_LOCAL_WRITE);
	void __user *user = (void __user *)(uintptr_t)(tr->addr + c->offset);

	KUNIT_EXPECT_EQ(test, 0, rxe_mr_copy(&tr->mr, TEST_IOVA + c->offset, tr->out,
					     c->length, RXE_TO_MR_OBJ));
	KUNIT_EXPECT_EQ(test, 0, copy_from_user(tr->in, user, c->length));
	KUNIT_EXPECT_MEMEQ(test, tr->out, tr->in, c->length);

	/* And back, after the process changed it */
	tr->out[c->length - 1] ^= 0xff;
	KUNIT_EXPECT_EQ(test, 0, copy_to_user(user, tr->out, c->length));
	KUNIT_EXPECT_EQ(test, 0, rxe_mr_copy(&tr->mr, TEST_IOVA + c->offset, tr->in,
					     c->length, RXE_FROM_MR_OBJ));
	KUNIT_EXPECT_MEMEQ(test, tr->out, tr->in, c->length);
	ib_umem_release(tr->mr.umem);
}

static void copies_stay_inside_of_the_region(struct kunit *test)
{
	struct test_rxe *tr = test_register(test, PROT_READ | PROT_WRITE,
					    IB_ACCESS_LOCAL_WRITE);

	KUNIT_EXPECT_EQ(test, -EFAULT, rxe_mr_copy(&tr->mr, TEST_IOVA - 1, tr->in, 1,
						   RXE_FROM_MR_OBJ));
	KUNIT_EXPECT_EQ(test, -EFAULT, rxe_mr_copy(&tr->mr, TEST_IOVA + TEST_SIZE - 1, tr->in,
						   2, RXE_FROM_MR_OBJ));
	KUNIT_EXPECT_EQ(test, 0, rxe_mr_copy(&tr->mr, TEST_IOVA + TEST_SIZE, tr->in, 0,
					     RXE_FROM_MR_OBJ));
	ib_umem_release(tr->mr.umem);
}

/* Where a check of the range was fooled, no bytes copied must be an error. */
static void regress_copy_that_wraps_is_no_success(struct kunit *test)
{
	struct test_rxe *tr = test_register(test, PROT_READ | PROT_WRITE,
					    IB_ACCESS_LOCAL_WRITE);
	u64 iova = TEST_IOVA - tr->addr - 8;

	KUNIT_EXPECT_NE(test, 0, rxe_odp_mr_copy(&tr->mr, iova, tr->out, 16, RXE_TO_MR_OBJ));
	ib_umem_release(tr->mr.umem);
}

static void copies_without_memory_fail(struct kunit *test)
{
	struct test_rxe *tr = test_register(test, PROT_READ, IB_ACCESS_LOCAL_WRITE);

	KUNIT_EXPECT_EQ(test, -EFAULT, rxe_mr_copy(&tr->mr, TEST_IOVA, tr->out, 8,
						   RXE_TO_MR_OBJ));
	KUNIT_EXPECT_EQ(test, 0, rxe_mr_copy(&tr->mr, TEST_IOVA, tr->in, 8,
					     RXE_FROM_MR_OBJ));
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(tr->addr, TEST_SIZE));
	KUNIT_EXPECT_EQ(test, -EFAULT, rxe_mr_copy(&tr->mr, TEST_IOVA, tr->in, 8,
						   RXE_FROM_MR_OBJ));
	ib_umem_release(tr->mr.umem);
}

static void atomics_change_the_users_word(struct kunit *test)
{
	struct test_rxe *tr = test_register(test, PROT_READ | PROT_WRITE,
					    IB_ACCESS_LOCAL_WRITE);
	u64 __user *user = (u64 __user *)(uintptr_t)(tr->addr + 8);
	u64 old, now;

	KUNIT_ASSERT_EQ(test, 0, put_user(40ULL, user));
	KUNIT_EXPECT_EQ(test, 0, rxe_mr_do_atomic_op(&tr->mr, TEST_IOVA + 8,
						     IB_OPCODE_RC_FETCH_ADD, 0, 2, &old));
	KUNIT_EXPECT_EQ(test, 40, old);
	KUNIT_EXPECT_EQ(test, 0, rxe_mr_do_atomic_op(&tr->mr, TEST_IOVA + 8,
						     IB_OPCODE_RC_COMPARE_SWAP, 42, 7, &old));
	KUNIT_EXPECT_EQ(test, 42, old);
	KUNIT_EXPECT_EQ(test, 0, get_user(now, user));
	KUNIT_EXPECT_EQ(test, 7, now);
	KUNIT_EXPECT_EQ(test, 0, rxe_mr_do_atomic_write(&tr->mr, TEST_IOVA + 8, 99));
	KUNIT_EXPECT_EQ(test, 0, get_user(now, user));
	KUNIT_EXPECT_EQ(test, 99, now);
	ib_umem_release(tr->mr.umem);
}

static void bad_atomics_are_refused(struct kunit *test)
{
	struct test_rxe *tr = test_register(test, PROT_READ, IB_ACCESS_LOCAL_WRITE);
	u64 old;

	KUNIT_EXPECT_EQ(test, RESPST_ERR_MISALIGNED_ATOMIC,
			rxe_mr_do_atomic_op(&tr->mr, TEST_IOVA + 4,
					    IB_OPCODE_RC_FETCH_ADD, 0, 2, &old));
	KUNIT_EXPECT_EQ(test, RESPST_ERR_MISALIGNED_ATOMIC,
			rxe_mr_do_atomic_write(&tr->mr, TEST_IOVA + 4, 1));
	KUNIT_EXPECT_EQ(test, RESPST_ERR_RKEY_VIOLATION,
			rxe_mr_do_atomic_op(&tr->mr, TEST_IOVA,
					    IB_OPCODE_RC_FETCH_ADD, 0, 2, &old));
	KUNIT_EXPECT_EQ(test, RESPST_ERR_RKEY_VIOLATION,
			rxe_mr_do_atomic_op(&tr->mr, TEST_IOVA + TEST_SIZE,
					    IB_OPCODE_RC_FETCH_ADD, 0, 2, &old));
	ib_umem_release(tr->mr.umem);
}

static void memory_that_is_lost_with_the_power_is_not_flushed(struct kunit *test)
{
	struct test_rxe *tr = test_register(test, PROT_READ | PROT_WRITE,
					    IB_ACCESS_LOCAL_WRITE | IB_ACCESS_FLUSH_PERSISTENT);

	KUNIT_EXPECT_EQ(test, -EINVAL, rxe_flush_pmem_iova(&tr->mr, TEST_IOVA, 8));
	KUNIT_EXPECT_EQ(test, -EINVAL, rxe_flush_pmem_iova(&tr->mr, TEST_IOVA, TEST_SIZE + 1));
	KUNIT_EXPECT_EQ(test, 0, rxe_flush_pmem_iova(&tr->mr, TEST_IOVA, 0));
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(tr->addr, TEST_SIZE));
	KUNIT_EXPECT_EQ(test, -EFAULT, rxe_flush_pmem_iova(&tr->mr, TEST_IOVA, 8));
	ib_umem_release(tr->mr.umem);
}

/* Of a region of 4 GiB and a page only the first page is there. */
static void regress_flush_goes_beyond_4_gib(struct kunit *test)
{
	struct rxe_mr_page pages[2] = { { .page = ZERO_PAGE(0) } };
	struct rxe_mr mr = {
		.ibmr = { .type = IB_MR_TYPE_MEM_REG, .length = SZ_4G + PAGE_SIZE },
		.page_info = pages,
		.page_shift = PAGE_SHIFT,
		.page_mask = PAGE_MASK,
		.nbuf = (SZ_4G >> PAGE_SHIFT) + 1,
	};

	mr.ibmr.page_size = PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, 0, rxe_flush_pmem_iova(&mr, 0, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, -EFAULT, rxe_flush_pmem_iova(&mr, 0, SZ_4G + PAGE_SIZE));
}

static void implicit_region_is_the_users_addresses(struct kunit *test)
{
	struct test_rxe *tr = test->priv;

	tr->addr = kunit_vm_mmap(test, NULL, 0, TEST_SIZE, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, 0);
	KUNIT_ASSERT_FALSE(test, !tr->addr || IS_ERR_VALUE(tr->addr));
	tr->mr.ibmr.iova = PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, -EINVAL, rxe_odp_init_user(&tr->rxe, 0, U64_MAX,
							 IB_ACCESS_ON_DEMAND, &tr->mr));
	tr->mr.ibmr.iova = 0;
	KUNIT_ASSERT_EQ(test, 0, rxe_odp_init_user(&tr->rxe, 0, U64_MAX, IB_ACCESS_ON_DEMAND |
						   IB_ACCESS_LOCAL_WRITE, &tr->mr));
	tr->mr.ibmr.length = U64_MAX;
	KUNIT_EXPECT_EQ(test, 0, rxe_mr_copy(&tr->mr, tr->addr, tr->out, 8, RXE_TO_MR_OBJ));
	KUNIT_EXPECT_EQ(test, 0, rxe_mr_copy(&tr->mr, tr->addr, tr->in, 8, RXE_FROM_MR_OBJ));
	KUNIT_EXPECT_MEMEQ(test, tr->out, tr->in, 8);
	KUNIT_EXPECT_EQ(test, -EFAULT, rxe_mr_copy(&tr->mr, TASK_SIZE - 1, tr->in, 2,
						   RXE_FROM_MR_OBJ));
	KUNIT_EXPECT_EQ(test, -EFAULT, rxe_mr_copy(&tr->mr, PAGE_OFFSET, tr->in, 2,
						   RXE_FROM_MR_OBJ));
	KUNIT_EXPECT_EQ(test, -EFAULT, rxe_mr_copy(&tr->mr, U64_MAX, tr->in, 1,
						   RXE_FROM_MR_OBJ));
	ib_umem_release(tr->mr.umem);
}

/* The kernel's own regions and those of ib_alloc_mr() have none. */
static void regress_region_without_a_umem_is_not_paged(struct kunit *test)
{
	struct test_rxe *tr = test->priv;
	struct rxe_mr mr = { .ibmr.type = IB_MR_TYPE_DMA };

	KUNIT_EXPECT_FALSE(test, rxe_mr_is_odp(&mr));
	KUNIT_EXPECT_EQ(test, 0, rxe_mr_copy(&mr, (uintptr_t)tr->in, tr->out, TEST_LENGTH,
					     RXE_TO_MR_OBJ));
	KUNIT_EXPECT_MEMEQ(test, tr->out, tr->in, TEST_LENGTH);
}

static struct kunit_case test_cases[] = {
	KUNIT_CASE_PARAM(copies_reach_the_user_byte_by_byte, copy_gen_params),
	KUNIT_CASE(copies_stay_inside_of_the_region),
	KUNIT_CASE(copies_without_memory_fail),
	KUNIT_CASE(regress_copy_that_wraps_is_no_success),
	KUNIT_CASE(atomics_change_the_users_word),
	KUNIT_CASE(bad_atomics_are_refused),
	KUNIT_CASE(memory_that_is_lost_with_the_power_is_not_flushed),
	KUNIT_CASE(regress_flush_goes_beyond_4_gib),
	KUNIT_CASE(implicit_region_is_the_users_addresses),
	KUNIT_CASE(regress_region_without_a_umem_is_not_paged),
	{}
};

static struct kunit_suite test_suite = {
	.name = "rxe_odp",
	.init = test_init,
	.test_cases = test_cases,
};
kunit_test_suite(test_suite);
