// SPDX-License-Identifier: GPL-2.0
/*
 * A region that is registered again: other memory, another protection domain, other rights,
 * pinned before and paged after that, and the other way round.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <sys/mman.h>

#include "odp_loop.h"

#include "../kselftest_harness.h"

#define PAGE	4096UL
#define LEN	(ODP_CHUNK + 4 * PAGE)

FIXTURE(rereg) {
	struct odp_dev dev;
	struct odp_pair pair;
	struct ibv_mr *mr, *local_mr;
	char *mem, *other, *local;
};

FIXTURE_VARIANT(rereg) {
	int access;
};

FIXTURE_VARIANT_ADD(rereg, paged) {
	.access = ODP_PAGED,
};

FIXTURE_VARIANT_ADD(rereg, pinned) {
	.access = ODP_REMOTE,
};

FIXTURE_SETUP(rereg)
{
	ASSERT_EQ(0, odp_open(&self->dev));
	ASSERT_EQ(0, odp_pair_open(&self->pair, &self->dev, IBV_QPT_RC, false));
	self->mem = odp_map(LEN);
	self->other = odp_map(LEN);
	self->local = odp_map(LEN);
	self->local_mr = ibv_reg_mr(self->dev.pd, self->local, LEN, ODP_REMOTE);
	self->mr = ibv_reg_mr(self->dev.pd, self->mem, LEN, variant->access);
	ASSERT_NE(NULL, self->local_mr);
	ASSERT_NE(NULL, self->mr);
	memset(self->local, 1, LEN);
}

FIXTURE_TEARDOWN(rereg)
{
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	EXPECT_EQ(0, ibv_dereg_mr(self->local_mr));
	odp_pair_close(&self->pair);
	odp_close(&self->dev);
}

static int transfer(FIXTURE_DATA(rereg) *self, enum ibv_wr_opcode op, void *remote, size_t len)
{
	return odp_rdma(&self->pair, op, self->local, self->local_mr, len, remote, self->mr);
}

TEST_F(rereg, other_memory_is_what_is_used)
{
	struct ibv_mr old;

	ASSERT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_WRITE, self->mem, LEN));
	old.rkey = self->mr->rkey;
	ASSERT_EQ(0, odp_rereg(self->mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL, self->other,
			       LEN - PAGE, 0));
	memset(self->local, 2, LEN);
	EXPECT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_WRITE, self->other, LEN - PAGE));
	EXPECT_EQ(LEN - PAGE, odp_same_byte(self->other, LEN - PAGE, 2));
	EXPECT_EQ(LEN, odp_same_byte(self->mem, LEN, 1));
	/* What it was before is out of reach, by the new key and by the old one. */
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, transfer(self, IBV_WR_RDMA_WRITE, self->mem, 1));
	ASSERT_EQ(0, odp_pair_reconnect(&self->pair));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
		  transfer(self, IBV_WR_RDMA_WRITE, self->other + LEN - PAGE, 1));
	ASSERT_EQ(0, odp_pair_reconnect(&self->pair));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, odp_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->local,
						  self->local_mr, 1, self->mem, &old));
	EXPECT_EQ(LEN, odp_same_byte(self->mem, LEN, 1));
}

TEST_F(rereg, larger_memory_is_used_to_its_end)
{
	char *large = odp_map(4 * LEN);

	ASSERT_EQ(0, odp_rereg(self->mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL, large, 4 * LEN, 0));
	EXPECT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_WRITE, large + 3 * LEN, LEN));
	EXPECT_EQ(LEN, odp_same_byte(large + 3 * LEN, LEN, 1));
	EXPECT_EQ(3 * LEN, odp_same_byte(large, 3 * LEN, 0));
}

TEST_F(rereg, another_domain_has_it)
{
	struct ibv_pd *pd = ibv_alloc_pd(self->dev.ctx);

	ASSERT_NE(NULL, pd);
	ASSERT_EQ(0, odp_rereg(self->mr, IBV_REREG_MR_CHANGE_PD, pd, NULL, 0, 0));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, transfer(self, IBV_WR_RDMA_WRITE, self->mem, 1));
	/* The old one is not in use any more than the new one. */
	ASSERT_EQ(0, odp_rereg(self->mr, IBV_REREG_MR_CHANGE_PD, self->dev.pd, NULL, 0, 0));
	EXPECT_EQ(0, ibv_dealloc_pd(pd));
	ASSERT_EQ(0, odp_pair_reconnect(&self->pair));
	EXPECT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_WRITE, self->mem, LEN));
	EXPECT_EQ(LEN, odp_same_byte(self->mem, LEN, 1));
}

TEST_F(rereg, rights_change)
{
	int paged = variant->access & IBV_ACCESS_ON_DEMAND;

	ASSERT_EQ(0, odp_rereg(self->mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0,
			       paged | IBV_ACCESS_REMOTE_READ));
	EXPECT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_READ, self->mem, LEN));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, transfer(self, IBV_WR_RDMA_WRITE, self->mem, 1));
	EXPECT_EQ(LEN, odp_same_byte(self->mem, LEN, 0));
}

TEST_F(rereg, everything_changes_at_once)
{
	struct ibv_pd *pd = ibv_alloc_pd(self->dev.ctx);
	int paged = variant->access & IBV_ACCESS_ON_DEMAND;

	ASSERT_NE(NULL, pd);
	ASSERT_EQ(0, odp_rereg(self->mr, IBV_REREG_MR_CHANGE_TRANSLATION | IBV_REREG_MR_CHANGE_PD |
			       IBV_REREG_MR_CHANGE_ACCESS, pd, self->other, LEN,
			       paged | IBV_ACCESS_REMOTE_READ));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, transfer(self, IBV_WR_RDMA_READ, self->other, 1));
	ASSERT_EQ(0, odp_rereg(self->mr, IBV_REREG_MR_CHANGE_PD, self->dev.pd, NULL, 0, 0));
	ASSERT_EQ(0, odp_pair_reconnect(&self->pair));
	EXPECT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_READ, self->other, LEN));
	EXPECT_EQ(LEN, odp_same_byte(self->local, LEN, 0));
	EXPECT_EQ(0, ibv_dealloc_pd(pd));
}

/* With its own memory and with other memory. */
TEST_F(rereg, pinned_becomes_paged_and_back)
{
	int flags = IBV_REREG_MR_CHANGE_ACCESS | IBV_REREG_MR_CHANGE_TRANSLATION;
	int to = variant->access ^ IBV_ACCESS_ON_DEMAND;

	ASSERT_EQ(0, odp_rereg(self->mr, flags, NULL, self->mem, LEN, to));
	EXPECT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_WRITE, self->mem, LEN));
	EXPECT_EQ(LEN, odp_same_byte(self->mem, LEN, 1));
	ASSERT_EQ(0, odp_rereg(self->mr, flags, NULL, self->other, LEN, variant->access));
	EXPECT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_WRITE, self->other, LEN));
	EXPECT_EQ(LEN, odp_same_byte(self->other, LEN, 1));
}

/* What is refused leaves the region as it was. */
TEST_F(rereg, refused_change_changes_nothing)
{
	int paged = variant->access & IBV_ACCESS_ON_DEMAND;
	uint32_t rkey = self->mr->rkey;

	EXPECT_NE(0, odp_rereg(self->mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL, self->other, 0, 0));
	EXPECT_NE(0, odp_rereg(self->mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL,
			       (void *)0xffff888000000000UL, LEN, 0));
	EXPECT_NE(0, odp_rereg(self->mr, IBV_REREG_MR_CHANGE_TRANSLATION, NULL, self->other,
			       -2 * PAGE, 0));
	EXPECT_NE(0, odp_rereg(self->mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0,
			       paged | IBV_ACCESS_REMOTE_WRITE));
	EXPECT_EQ(rkey, self->mr->rkey);
	EXPECT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_WRITE, self->mem, LEN));
	EXPECT_EQ(LEN, odp_same_byte(self->mem, LEN, 1));
}

TEST_HARNESS_MAIN
