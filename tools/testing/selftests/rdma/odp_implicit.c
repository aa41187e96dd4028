// SPDX-License-Identifier: GPL-2.0
/*
 * One region for all of the address space: what is mapped now, what will be mapped later, and
 * nothing beyond it.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <sys/mman.h>

#include "odp_loop.h"

#include "../kselftest_harness.h"

#define PAGE	4096UL
#define LEN	(2 * ODP_CHUNK + PAGE)

FIXTURE(implicit) {
	struct odp_dev dev;
	struct odp_pair pair;
	struct ibv_mr *mr;
	char *mem, *local;
};

FIXTURE_SETUP(implicit)
{
	ASSERT_EQ(0, odp_open(&self->dev));
	if (!(self->dev.attr.odp_caps.general_caps & IBV_ODP_SUPPORT_IMPLICIT))
		SKIP(return, "the device has no implicit regions");
	ASSERT_EQ(0, odp_pair_open(&self->pair, &self->dev, IBV_QPT_RC, false));
	self->mr = ibv_reg_mr(self->dev.pd, NULL, SIZE_MAX, ODP_PAGED | IBV_ACCESS_MW_BIND);
	ASSERT_NE(NULL, self->mr);
	/* Newer than the region. */
	self->mem = odp_map(LEN);
	self->local = odp_map(LEN);
	ASSERT_NE(MAP_FAILED, (void *)self->mem);
	ASSERT_NE(MAP_FAILED, (void *)self->local);
}

FIXTURE_TEARDOWN(implicit)
{
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	odp_pair_close(&self->pair);
	odp_close(&self->dev);
}

static int transfer(FIXTURE_DATA(implicit) *self, enum ibv_wr_opcode op, void *remote, size_t len)
{
	return odp_rdma(&self->pair, op, self->local, self->mr, len, remote, self->mr);
}

TEST_F(implicit, memory_is_read_and_written_by_both_keys)
{
	odp_fill(self->local, LEN, 1);
	EXPECT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_WRITE, self->mem, LEN));
	EXPECT_EQ(LEN, odp_same(self->mem, LEN, 1));
	odp_fill(self->mem, LEN, 2);
	EXPECT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_READ, self->mem, LEN));
	EXPECT_EQ(LEN, odp_same(self->local, LEN, 2));
}

TEST_F(implicit, message_is_received)
{
	struct ibv_sge from = odp_sge(self->local, LEN, self->mr);
	struct ibv_sge to = odp_sge(self->mem, LEN, self->mr);
	struct ibv_wc wc;

	odp_fill(self->local, LEN, 3);
	ASSERT_EQ(0, odp_post_recv(&self->pair, &to, 1));
	ASSERT_EQ(0, odp_post(&self->pair, IBV_WR_SEND, &from, 1, 0, 0));
	ASSERT_EQ(0, odp_wait(&self->pair, ODP_RESP, &wc));
	EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
	EXPECT_EQ(LEN, odp_same(self->mem, LEN, 3));
}

TEST_F(implicit, atomic_adds)
{
	uint64_t *at = (uint64_t *)(self->mem + ODP_CHUNK - 8);
	struct ibv_sge result = odp_sge(self->local, 8, self->mr);
	struct ibv_wc wc;
	int i;

	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, odp_post_atomic(&self->pair, IBV_WR_ATOMIC_FETCH_AND_ADD, &result,
					     (uintptr_t)at, self->mr->rkey, 5, 0));
		ASSERT_EQ(0, odp_wait(&self->pair, ODP_REQ, &wc));
		ASSERT_EQ(IBV_WC_SUCCESS, wc.status);
	}
	EXPECT_EQ(15, *at);
}

TEST_F(implicit, memory_that_replaces_other_is_used)
{
	char *same;

	memset(self->local, 4, LEN);
	ASSERT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_WRITE, self->mem, LEN));
	same = mmap(self->mem, LEN, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	ASSERT_EQ((void *)self->mem, (void *)same);
	ASSERT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_READ, self->mem, LEN));
	EXPECT_EQ(LEN, odp_same_byte(self->local, LEN, 0));
}

/* The stack, which grows while it is registered, and the program's own data. */
TEST_F(implicit, all_kinds_of_memory_are_in_it)
{
	static char data[64];
	char stack[64];
	char *heap = malloc(64);

	ASSERT_NE(NULL, heap);
	memset(self->local, 5, 64);
	EXPECT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_WRITE, stack, 64));
	EXPECT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_WRITE, data, 64));
	EXPECT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_WRITE, heap, 64));
	EXPECT_EQ(64, odp_same_byte(stack, 64, 5));
	EXPECT_EQ(64, odp_same_byte(data, 64, 5));
	EXPECT_EQ(64, odp_same_byte(heap, 64, 5));
	free(heap);
}

#define EXPECT_REFUSED(addr, len) do {						\
	ASSERT_EQ(0, odp_pair_reconnect(&self->pair));				\
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, transfer(self, IBV_WR_RDMA_WRITE,	\
						  (void *)(uintptr_t)(addr), len)); \
} while (0)

TEST_F(implicit, what_is_not_mapped_is_a_remote_access_error)
{
	EXPECT_REFUSED(0, 1);
	ASSERT_EQ(0, munmap(self->mem + ODP_CHUNK, PAGE));
	EXPECT_REFUSED(self->mem + ODP_CHUNK, 1);
	EXPECT_REFUSED(self->mem + ODP_CHUNK - 1, 2);
}

/* The end of the user's addresses, the hole of canonical ones, the kernel, and round. */
TEST_F(implicit, addresses_that_are_no_users_are_a_remote_access_error)
{
	EXPECT_REFUSED(0x7fffffffe000UL, PAGE);
	EXPECT_REFUSED(0x7fffffffffffUL, 1);
	EXPECT_REFUSED(0x7ffffffff000UL, 4 * PAGE);
	EXPECT_REFUSED(0x800000000000UL, 1);
	EXPECT_REFUSED(0x00ffffffffffffffUL, 8);
	EXPECT_REFUSED(0xffff888000000000UL, 8);
	EXPECT_REFUSED(0xffffffff81000000UL, 8);
	EXPECT_REFUSED(0xfffffffffffffff0UL, 16);
	EXPECT_REFUSED(0xfffffffffffffff0UL, 64);
}

TEST_F(implicit, local_key_is_no_better)
{
	EXPECT_EQ(IBV_WC_LOC_PROT_ERR,
		  odp_rdma(&self->pair, IBV_WR_RDMA_WRITE, (void *)0xffff888000000000UL, self->mr,
			   8, self->mem, self->mr));
	ASSERT_EQ(0, odp_pair_reconnect(&self->pair));
	EXPECT_EQ(IBV_WC_LOC_PROT_ERR,
		  odp_rdma(&self->pair, IBV_WR_RDMA_READ, (void *)0x800000000000UL, self->mr,
			   8, self->mem, self->mr));
}

TEST_F(implicit, its_rights_hold)
{
	struct ibv_mr *mr = ibv_reg_mr(self->dev.pd, NULL, SIZE_MAX,
				       IBV_ACCESS_ON_DEMAND | IBV_ACCESS_REMOTE_READ);

	ASSERT_NE(NULL, mr);
	EXPECT_EQ(IBV_WC_SUCCESS, odp_rdma(&self->pair, IBV_WR_RDMA_READ, self->local, self->mr,
					   64, self->mem, mr));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, odp_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->local,
						  self->mr, 64, self->mem, mr));
	EXPECT_EQ(0, ibv_dereg_mr(mr));
}

TEST_F(implicit, only_the_whole_of_it_can_be_had)
{
	EXPECT_EQ(NULL, ibv_reg_mr(self->dev.pd, (void *)PAGE, SIZE_MAX, ODP_PAGED));
	EXPECT_EQ(NULL, ibv_reg_mr(self->dev.pd, NULL, SIZE_MAX, ODP_REMOTE));
	EXPECT_EQ(NULL, ibv_reg_mr_iova(self->dev.pd, NULL, SIZE_MAX, PAGE, ODP_PAGED));
	EXPECT_EQ(NULL, ibv_reg_mr(self->dev.pd, NULL, SIZE_MAX, ODP_PAGED | IBV_ACCESS_HUGETLB));
}

TEST_F(implicit, prefetch_brings_pages)
{
	struct ibv_sge sge = odp_sge(self->mem, LEN, self->mr);

	ASSERT_EQ(0, odp_advise(self->dev.pd, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE,
				IBV_ADVISE_MR_FLAG_FLUSH, &sge, 1));
	sge.addr = 0xffff888000000000UL;
	sge.length = 8;
	EXPECT_NE(0, odp_advise(self->dev.pd, IBV_ADVISE_MR_ADVICE_PREFETCH,
				IBV_ADVISE_MR_FLAG_FLUSH, &sge, 1));
}

TEST_F(implicit, window_on_it_is_all_that_its_key_reaches)
{
	struct ibv_mw *mw = ibv_alloc_mw(self->dev.pd, IBV_MW_TYPE_1);
	struct ibv_mw_bind bind = {
		.send_flags = IBV_SEND_SIGNALED,
		.bind_info = {
			.mr = self->mr,
			.addr = (uintptr_t)self->mem + PAGE,
			.length = PAGE,
			.mw_access_flags = IBV_ACCESS_REMOTE_WRITE,
		},
	};
	struct ibv_mr window;
	struct ibv_wc wc;

	ASSERT_NE(NULL, mw);
	ASSERT_EQ(0, ibv_bind_mw(self->pair.qp[ODP_RESP], mw, &bind));
	ASSERT_EQ(0, odp_wait(&self->pair, ODP_RESP, &wc));
	ASSERT_EQ(IBV_WC_SUCCESS, wc.status);
	window.rkey = mw->rkey;
	memset(self->local, 6, PAGE);
	EXPECT_EQ(IBV_WC_SUCCESS, odp_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->local, self->mr,
					   PAGE, self->mem + PAGE, &window));
	EXPECT_EQ(PAGE, odp_same_byte(self->mem + PAGE, PAGE, 6));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, odp_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->local,
						  self->mr, 1, self->mem + 2 * PAGE, &window));
	EXPECT_EQ(0, self->mem[2 * PAGE]);
	EXPECT_EQ(0, ibv_dealloc_mw(mw));
}

TEST_HARNESS_MAIN
