// SPDX-License-Identifier: GPL-2.0
/*
 * Memory windows of both types on paged and on pinned regions: what is in the window can be
 * reached by its key, and nothing else of the region.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <sys/mman.h>

#include "odp_loop.h"

#include "../kselftest_harness.h"

#define PAGE	4096UL
#define LEN	(2 * ODP_CHUNK)
/* Where the window is: in two chunks, neither end at a page. */
#define FIRST	(ODP_CHUNK - 3 * PAGE - 40)
#define BYTES	(5 * PAGE)
#define RIGHTS	(IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC)

FIXTURE(window) {
	struct odp_dev dev;
	struct odp_pair pair;
	struct ibv_mr *mr, *local_mr;
	struct ibv_mw *mw;
	char *mem, *local;
	uint32_t rkey;
};

FIXTURE_VARIANT(window) {
	int access;
	enum ibv_mw_type type;
	bool zero_based;
};

FIXTURE_VARIANT_ADD(window, paged_type_1) {
	.access = ODP_PAGED,
	.type = IBV_MW_TYPE_1,
};

FIXTURE_VARIANT_ADD(window, paged_type_2) {
	.access = ODP_PAGED,
	.type = IBV_MW_TYPE_2,
};

FIXTURE_VARIANT_ADD(window, paged_zero_based) {
	.access = ODP_PAGED,
	.type = IBV_MW_TYPE_2,
	.zero_based = true,
};

FIXTURE_VARIANT_ADD(window, pinned_type_1) {
	.access = ODP_REMOTE,
	.type = IBV_MW_TYPE_1,
};

FIXTURE_VARIANT_ADD(window, pinned_type_2) {
	.access = ODP_REMOTE,
	.type = IBV_MW_TYPE_2,
};

FIXTURE_SETUP(window)
{
	self->mem = odp_map(LEN);
	self->local = odp_map(LEN);
	ASSERT_EQ(0, odp_open(&self->dev));
	if (variant->type == IBV_MW_TYPE_2 &&
	    !(self->dev.attr.orig_attr.device_cap_flags &
	      (IBV_DEVICE_MEM_WINDOW_TYPE_2A | IBV_DEVICE_MEM_WINDOW_TYPE_2B)))
		SKIP(return, "the device has no windows of type 2");
	ASSERT_EQ(0, odp_pair_open(&self->pair, &self->dev, IBV_QPT_RC, false));
	self->local_mr = ibv_reg_mr(self->dev.pd, self->local, LEN, ODP_REMOTE);
	self->mr = ibv_reg_mr(self->dev.pd, self->mem, LEN, variant->access | IBV_ACCESS_MW_BIND);
	ASSERT_NE(NULL, self->local_mr);
	ASSERT_NE(NULL, self->mr);
	self->mw = ibv_alloc_mw(self->dev.pd, variant->type);
	ASSERT_NE(NULL, self->mw);
	memset(self->local, 1, LEN);
}

FIXTURE_TEARDOWN(window)
{
	if (self->mw)
		EXPECT_EQ(0, ibv_dealloc_mw(self->mw));
	if (self->mr)
		EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	EXPECT_EQ(0, ibv_dereg_mr(self->local_mr));
	odp_pair_close(&self->pair);
	odp_close(&self->dev);
}

static int bind_type_1(FIXTURE_DATA(window) *self, const struct ibv_mw_bind_info *info)
{
	struct ibv_mw_bind bind = {
		.send_flags = IBV_SEND_SIGNALED,
		.bind_info = *info,
	};
	int ret = ibv_bind_mw(self->pair.qp[ODP_RESP], self->mw, &bind);

	self->rkey = self->mw->rkey;
	return ret;
}

static int bind_type_2(FIXTURE_DATA(window) *self, const struct ibv_mw_bind_info *info)
{
	struct ibv_send_wr *bad, wr = {
		.opcode = IBV_WR_BIND_MW,
		.send_flags = IBV_SEND_SIGNALED,
		.bind_mw = {
			.mw = self->mw,
			.rkey = ibv_inc_rkey(self->mw->rkey),
			.bind_info = *info,
		},
	};
	int ret = ibv_post_send(self->pair.qp[ODP_RESP], &wr, &bad);

	if (!ret)
		self->mw->rkey = wr.bind_mw.rkey;
	self->rkey = self->mw->rkey;
	return ret;
}

/* Bind the window by the responder's queue pair: enum ibv_wc_status, or -errno. */
static int bind_window(FIXTURE_DATA(window) *self, const FIXTURE_VARIANT(window) *variant,
		       uint64_t addr, uint64_t length)
{
	struct ibv_mw_bind_info info = {
		.mr = self->mr,
		.addr = addr,
		.length = length,
		.mw_access_flags = RIGHTS | (variant->zero_based ? IBV_ACCESS_ZERO_BASED : 0),
	};
	struct ibv_wc wc;
	int ret;

	ret = variant->type == IBV_MW_TYPE_1 ? bind_type_1(self, &info) :
					       bind_type_2(self, &info);
	if (!ret)
		ret = odp_wait(&self->pair, ODP_RESP, &wc);
	return ret ? -ret : wc.status;
}

/* What a peer sees of the memory at @offset of the region. */
static void *remote(FIXTURE_DATA(window) *self, const FIXTURE_VARIANT(window) *variant,
		    long offset)
{
	return variant->zero_based ? (void *)(offset - FIRST) : self->mem + offset;
}

static int access_window(FIXTURE_DATA(window) *self, const FIXTURE_VARIANT(window) *variant,
			 enum ibv_wr_opcode op, long offset, size_t len)
{
	struct ibv_mr window = { .rkey = self->rkey };

	return odp_rdma(&self->pair, op, self->local, self->local_mr, len,
			remote(self, variant, offset), &window);
}

TEST_F(window, all_of_it_can_be_written_and_read)
{
	ASSERT_EQ(IBV_WC_SUCCESS, bind_window(self, variant, (uintptr_t)self->mem + FIRST, BYTES));
	EXPECT_EQ(IBV_WC_SUCCESS, access_window(self, variant, IBV_WR_RDMA_WRITE, FIRST, BYTES));
	EXPECT_EQ(BYTES, odp_same_byte(self->mem + FIRST, BYTES, 1));
	EXPECT_EQ(0, self->mem[FIRST - 1]);
	EXPECT_EQ(0, self->mem[FIRST + BYTES]);
	memset(self->mem + FIRST, 2, BYTES);
	EXPECT_EQ(IBV_WC_SUCCESS, access_window(self, variant, IBV_WR_RDMA_READ, FIRST, BYTES));
	EXPECT_EQ(BYTES, odp_same_byte(self->local, BYTES, 2));
}

/* Each access by a queue pair that works, as the error ends it. */
#define EXPECT_OUTSIDE(op, offset, len) do {						\
	ASSERT_EQ(0, odp_pair_reconnect(&self->pair));					\
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, access_window(self, variant, op, offset, len));	\
} while (0)

TEST_F(window, regress_nothing_beside_it_is_reached)
{
	ASSERT_EQ(IBV_WC_SUCCESS, bind_window(self, variant, (uintptr_t)self->mem + FIRST, BYTES));
	/* A queue pair that is reset takes its windows of type 2 along. */
	if (variant->type == IBV_MW_TYPE_2) {
		EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
			  access_window(self, variant, IBV_WR_RDMA_WRITE, FIRST - 1, 2));
	} else {
		EXPECT_OUTSIDE(IBV_WR_RDMA_WRITE, FIRST - 1, 2);
		EXPECT_OUTSIDE(IBV_WR_RDMA_WRITE, FIRST + BYTES - 1, 2);
		EXPECT_OUTSIDE(IBV_WR_RDMA_WRITE, 0, 1);
		EXPECT_OUTSIDE(IBV_WR_RDMA_READ, FIRST + BYTES, 1);
		EXPECT_OUTSIDE(IBV_WR_RDMA_READ, FIRST, BYTES + 1);
		EXPECT_OUTSIDE(IBV_WR_RDMA_READ, LEN - 1, 1);
	}
	EXPECT_EQ(LEN, odp_same_byte(self->mem, LEN, 0));
}

TEST_F(window, regress_nothing_behind_it_is_reached)
{
	ASSERT_EQ(IBV_WC_SUCCESS, bind_window(self, variant, (uintptr_t)self->mem + FIRST, BYTES));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
		  access_window(self, variant, IBV_WR_RDMA_WRITE, FIRST + BYTES - 1, 2));
	EXPECT_EQ(LEN, odp_same_byte(self->mem, LEN, 0));
}

/* A binding beyond the region is refused by rxe; mlx5 refuses the access. */
static void expect_unreachable(struct __test_metadata *_metadata, FIXTURE_DATA(window) *self,
			       const FIXTURE_VARIANT(window) *variant, uint64_t addr,
			       uint64_t length, uint64_t reach)
{
	uint64_t remote = variant->zero_based ? reach - addr : reach;
	struct ibv_mr window;
	int status;

	ASSERT_EQ(0, odp_pair_reconnect(&self->pair));
	status = bind_window(self, variant, addr, length);
	if (odp_is_rxe(self->dev.ctx))
		EXPECT_NE(IBV_WC_SUCCESS, status);
	if (status != IBV_WC_SUCCESS)
		return;
	window.rkey = self->rkey;
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
		  odp_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->local, self->local_mr, 8,
			   (void *)(uintptr_t)remote, &window));
}

TEST_F(window, regress_nothing_outside_of_its_region_is_reached)
{
	uint64_t at = (uintptr_t)self->mem;

	expect_unreachable(_metadata, self, variant, at + LEN - PAGE, 2 * PAGE, at + LEN);
	expect_unreachable(_metadata, self, variant, at - PAGE, 2 * PAGE, at - PAGE);
	/* The sum wraps around. */
	expect_unreachable(_metadata, self, variant, -PAGE, at + 2 * PAGE, -PAGE);
}

/*
 * rxe refuses to deregister a region with windows. mlx5 ends its use first, and with it that
 * of its windows, whether or not the device then lets the key go.
 */
TEST_F(window, region_that_is_deregistered_has_no_windows)
{
	bool refused;

	ASSERT_EQ(IBV_WC_SUCCESS, bind_window(self, variant, (uintptr_t)self->mem + FIRST, BYTES));
	refused = ibv_dereg_mr(self->mr);
	if (odp_is_rxe(self->dev.ctx)) {
		EXPECT_TRUE(refused);
		EXPECT_EQ(IBV_WC_SUCCESS,
			  access_window(self, variant, IBV_WR_RDMA_WRITE, FIRST, BYTES));
	} else {
		EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
			  access_window(self, variant, IBV_WR_RDMA_WRITE, FIRST, BYTES));
		ASSERT_EQ(0, odp_pair_reconnect(&self->pair));
	}
	if (!refused)
		self->mr = NULL;
	EXPECT_EQ(0, ibv_dealloc_mw(self->mw));
	self->mw = NULL;
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
		  access_window(self, variant, IBV_WR_RDMA_WRITE, FIRST, BYTES));
}

/* Its memory goes and comes like that of the region. */
TEST_F(window, discarded_pages_come_back)
{
	ASSERT_EQ(IBV_WC_SUCCESS, bind_window(self, variant, (uintptr_t)self->mem + FIRST, BYTES));
	ASSERT_EQ(IBV_WC_SUCCESS, access_window(self, variant, IBV_WR_RDMA_WRITE, FIRST, BYTES));
	if (!(variant->access & IBV_ACCESS_ON_DEMAND))
		SKIP(return, "pinned pages do not go");
	ASSERT_EQ(0, madvise(self->mem, LEN, MADV_DONTNEED));
	EXPECT_EQ(IBV_WC_SUCCESS, access_window(self, variant, IBV_WR_RDMA_READ, FIRST, BYTES));
	EXPECT_EQ(BYTES, odp_same_byte(self->local, BYTES, 0));
	EXPECT_EQ(IBV_WC_SUCCESS, access_window(self, variant, IBV_WR_RDMA_WRITE, FIRST, BYTES));
	EXPECT_EQ(BYTES, odp_same_byte(self->mem + FIRST, BYTES, 0));
}

TEST_HARNESS_MAIN
