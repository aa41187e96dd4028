// SPDX-License-Identifier: GPL-2.0
/*
 * A region of twice the machine's memory: all of it is written over RDMA and read back and
 * compared, while the kernel reclaims behind it. It needs swap space.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <sys/mman.h>
#include <sys/resource.h>

#include "odp_loop.h"

#include "../kselftest_harness.h"

#define KIB	1024UL
#define BLOCK	ODP_CHUNK

FIXTURE(large) {
	struct odp_dev dev;
	struct odp_pair pair;
	struct ibv_mr *mr, *local_mr;
	char *mem, *local;
	size_t len, memory;
};

FIXTURE_VARIANT(large) {
	bool implicit;
};

FIXTURE_VARIANT_ADD(large, explicit) {
	.implicit = false,
};

FIXTURE_VARIANT_ADD(large, implicit) {
	.implicit = true,
};

FIXTURE_SETUP(large)
{
	long memory = odp_proc_number("/proc/meminfo", "MemTotal");
	long swap = odp_proc_number("/proc/meminfo", "SwapTotal");
	/* Pinned memory is charged to this limit; paged memory needs none. */
	struct rlimit limit = { BLOCK + 64 * KIB, BLOCK + 64 * KIB };

	ASSERT_LT(0, memory);
	self->memory = memory * KIB;
	self->len = (2 * self->memory + BLOCK - 1) & -BLOCK;
	if (swap * KIB < self->len)
		SKIP(return, "%lu MiB of swap space are needed", self->len >> 20);
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	ASSERT_EQ(0, odp_open(&self->dev));
	ASSERT_EQ(0, odp_pair_open(&self->pair, &self->dev, IBV_QPT_RC, false));
	self->local = odp_map(BLOCK);
	self->mem = odp_map(self->len);
	ASSERT_NE(MAP_FAILED, (void *)self->local);
	ASSERT_NE(MAP_FAILED, (void *)self->mem);
	self->local_mr = ibv_reg_mr(self->dev.pd, self->local, BLOCK, ODP_REMOTE);
	ASSERT_NE(NULL, self->local_mr);
	self->mr = variant->implicit ?
		   ibv_reg_mr(self->dev.pd, NULL, SIZE_MAX, ODP_PAGED) :
		   ibv_reg_mr(self->dev.pd, self->mem, self->len, ODP_PAGED);
	ASSERT_NE(NULL, self->mr);
}

FIXTURE_TEARDOWN(large)
{
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	EXPECT_EQ(0, ibv_dereg_mr(self->local_mr));
	odp_pair_close(&self->pair);
	odp_close(&self->dev);
}

static int transfer(FIXTURE_DATA(large) *self, enum ibv_wr_opcode op, size_t at)
{
	return odp_rdma(&self->pair, op, self->local, self->local_mr, BLOCK, self->mem + at,
			self->mr);
}

TEST_F_TIMEOUT(large, twice_the_memory_is_written_and_read_back, 600)
{
	size_t at, resident, swapped;

	for (at = 0; at < self->len; at += BLOCK) {
		odp_fill(self->local, BLOCK, at);
		ASSERT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_WRITE, at));
	}
	for (at = 0; at < self->len; at += BLOCK) {
		memset(self->local, 0xa5, BLOCK);
		ASSERT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_READ, at));
		ASSERT_EQ(BLOCK, odp_same(self->local, BLOCK, at));
	}
	/* And what the process sees of it, here and there. */
	for (at = 0; at < self->len; at += self->len / 16 & -BLOCK)
		EXPECT_EQ(BLOCK, odp_same(self->mem + at, BLOCK, at));
	resident = odp_proc_number("/proc/self/status", "VmRSS") * KIB;
	swapped = odp_proc_number("/proc/self/status", "VmSwap") * KIB;
	TH_LOG("%zu MiB in %zu MiB of memory, %zu MiB resident, %zu MiB in swap",
	       self->len >> 20, self->memory >> 20, resident >> 20, swapped >> 20);
	EXPECT_LT(resident, self->memory);
	EXPECT_LE(self->len - self->memory, swapped);
}

TEST_HARNESS_MAIN
