// SPDX-License-Identifier: GPL-2.0
/*
 * The counters of a region count exactly, and advice does what it says.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <stdio.h>
#include <time.h>

#include "odp_loop.h"

#include "../kselftest_harness.h"

#define PAGE		4096UL
#define AREA		(2 * ODP_CHUNK)
#define NR		24
#define GONE		7
#define AHEAD		"/sys/module/ib_uverbs/parameters/odp_ahead"
/* Half of them in each of the two chunks. */
#define FIRST		(ODP_CHUNK - NR / 2 * PAGE)

FIXTURE(counters) {
	struct odp_dev dev;
	struct odp_pair pair;
	struct ibv_mr *mr, *pinned_mr;
	char *mem, *pinned;
};

FIXTURE_SETUP(counters)
{
	/* What a test counts is there because it was asked for. */
	ASSERT_EQ(0, odp_put_text(AHEAD, "0"));
	ASSERT_EQ(0, odp_open(&self->dev));
	ASSERT_EQ(0, odp_pair_open(&self->pair, &self->dev, IBV_QPT_RC, false));
	self->mem = odp_map(AREA);
	self->pinned = odp_map(NR * PAGE);
	ASSERT_NE(MAP_FAILED, (void *)self->mem);
	ASSERT_NE(MAP_FAILED, (void *)self->pinned);
	/* Its pages come and go one by one. */
	madvise(self->mem, AREA, MADV_NOHUGEPAGE);
	self->mr = ibv_reg_mr(self->dev.pd, self->mem, AREA, ODP_PAGED);
	self->pinned_mr = ibv_reg_mr(self->dev.pd, self->pinned, NR * PAGE, ODP_REMOTE);
	ASSERT_NE(NULL, self->mr);
	ASSERT_NE(NULL, self->pinned_mr);
}

FIXTURE_TEARDOWN(counters)
{
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	EXPECT_EQ(0, ibv_dereg_mr(self->pinned_mr));
	odp_pair_close(&self->pair);
	odp_close(&self->dev);
	EXPECT_EQ(0, odp_put_text(AHEAD, "512"));
}

#define EXPECT_COUNTERS(faults, invalidations, prefetch) do {		\
	EXPECT_EQ(faults, odp_counter("page_faults"));			\
	EXPECT_EQ(invalidations, odp_counter("page_invalidations"));	\
	EXPECT_EQ(prefetch, odp_counter("page_prefetch"));		\
} while (0)

static int touch(FIXTURE_DATA(counters) *self, enum ibv_wr_opcode op, size_t len)
{
	return odp_rdma(&self->pair, op, self->pinned, self->pinned_mr, len,
			self->mem + FIRST, self->mr);
}

static int advise(FIXTURE_DATA(counters) *self, enum ibv_advise_mr_advice advice,
		  uint32_t flags, size_t len)
{
	struct ibv_sge sge = odp_sge(self->mem + FIRST, len, self->mr);

	return odp_advise(self->dev.pd, advice, flags, &sge, 1);
}

TEST_F(counters, untouched_region_counts_nothing)
{
	EXPECT_COUNTERS(0, 0, 0);
}

TEST_F(counters, each_page_faults_once)
{
	ASSERT_EQ(IBV_WC_SUCCESS, touch(self, IBV_WR_RDMA_WRITE, NR * PAGE));
	EXPECT_COUNTERS(NR, 0, 0);
	ASSERT_EQ(IBV_WC_SUCCESS, touch(self, IBV_WR_RDMA_WRITE, NR * PAGE));
	ASSERT_EQ(IBV_WC_SUCCESS, touch(self, IBV_WR_RDMA_READ, NR * PAGE));
	EXPECT_COUNTERS(NR, 0, 0);
}

/* A packet of rxe has at most a page, so that the pages of a message are a run. */
TEST_F(counters, pages_that_come_ahead_are_prefetched)
{
	long long faults, prefetch;

	ASSERT_EQ(0, odp_put_text(AHEAD, "512"));
	ASSERT_EQ(IBV_WC_SUCCESS, touch(self, IBV_WR_RDMA_WRITE, NR * PAGE));
	faults = odp_counter("page_faults");
	prefetch = odp_counter("page_prefetch");
	EXPECT_LE(1, faults);
	EXPECT_LE(faults, NR / 2);
	EXPECT_LE(NR, faults + prefetch);
	EXPECT_LE(faults + prefetch, 2 * NR);
}

TEST_F(counters, one_byte_faults_one_page)
{
	ASSERT_EQ(IBV_WC_SUCCESS, touch(self, IBV_WR_RDMA_READ, 1));
	EXPECT_COUNTERS(1, 0, 0);
}

TEST_F(counters, each_page_that_is_unmapped_is_an_invalidation)
{
	/* A mapping of its own: to split one takes away all of the 2 MiB around. */
	ASSERT_EQ(0, madvise(self->mem + FIRST, GONE * PAGE, MADV_DONTDUMP));
	ASSERT_EQ(0, madvise(self->mem, FIRST, MADV_DONTFORK));
	ASSERT_EQ(IBV_WC_SUCCESS, touch(self, IBV_WR_RDMA_WRITE, NR * PAGE));
	ASSERT_EQ(0, munmap(self->mem + FIRST, GONE * PAGE));
	EXPECT_COUNTERS(NR, GONE, 0);
	/* What the device does not have, it cannot lose. */
	ASSERT_EQ(0, munmap(self->mem, FIRST));
	EXPECT_COUNTERS(NR, GONE, 0);
	ASSERT_EQ(0, munmap(self->mem + FIRST, AREA - FIRST));
	EXPECT_COUNTERS(NR, NR, 0);
}

TEST_F(counters, discarded_pages_fault_again)
{
	ASSERT_EQ(IBV_WC_SUCCESS, touch(self, IBV_WR_RDMA_WRITE, NR * PAGE));
	ASSERT_EQ(0, madvise(self->mem + FIRST, GONE * PAGE, MADV_DONTNEED));
	EXPECT_COUNTERS(NR, GONE, 0);
	ASSERT_EQ(IBV_WC_SUCCESS, touch(self, IBV_WR_RDMA_READ, NR * PAGE));
	EXPECT_COUNTERS(NR + GONE, GONE, 0);
}

TEST_F(counters, flushed_prefetch_is_there_when_it_returns)
{
	ASSERT_EQ(0, advise(self, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE,
			    IBV_ADVISE_MR_FLAG_FLUSH, NR * PAGE));
	EXPECT_COUNTERS(0, 0, NR);
	ASSERT_EQ(IBV_WC_SUCCESS, touch(self, IBV_WR_RDMA_WRITE, NR * PAGE));
	EXPECT_COUNTERS(0, 0, NR);
}

TEST_F(counters, prefetch_for_reading_does_not_allow_writing)
{
	ASSERT_EQ(0, advise(self, IBV_ADVISE_MR_ADVICE_PREFETCH,
			    IBV_ADVISE_MR_FLAG_FLUSH, NR * PAGE));
	ASSERT_EQ(IBV_WC_SUCCESS, touch(self, IBV_WR_RDMA_READ, NR * PAGE));
	EXPECT_EQ(0, odp_counter("page_faults"));
	odp_fill(self->pinned, NR * PAGE, 1);
	ASSERT_EQ(IBV_WC_SUCCESS, touch(self, IBV_WR_RDMA_WRITE, NR * PAGE));
	EXPECT_EQ(NR, odp_counter("page_faults"));
	EXPECT_EQ(NR * PAGE, odp_same(self->mem + FIRST, NR * PAGE, 1));
}

TEST_F(counters, prefetch_that_nobody_waits_for_ends_too)
{
	time_t limit = time(NULL) + 20;

	ASSERT_EQ(0, advise(self, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, 0, NR * PAGE));
	while (odp_counter("page_prefetch") != NR && time(NULL) < limit)
		;
	EXPECT_COUNTERS(0, 0, NR);
}

TEST_F(counters, advice_without_faults_brings_nothing_in)
{
	ASSERT_EQ(0, advise(self, IBV_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT,
			    IBV_ADVISE_MR_FLAG_FLUSH, NR * PAGE));
	EXPECT_COUNTERS(0, 0, 0);
}

TEST_F(counters, prefetch_of_unmapped_memory_fails)
{
	ASSERT_EQ(0, munmap(self->mem, AREA));
	EXPECT_EQ(EFAULT, advise(self, IBV_ADVISE_MR_ADVICE_PREFETCH,
				 IBV_ADVISE_MR_FLAG_FLUSH, PAGE));
}

TEST_F(counters, bad_advice_is_refused)
{
	struct ibv_sge good = odp_sge(self->mem, PAGE, self->mr);
	struct ibv_sge beyond = odp_sge(self->mem + PAGE, AREA, self->mr);
	struct ibv_sge pinned = odp_sge(self->pinned, PAGE, self->pinned_mr);
	struct ibv_sge nobody = good;
	const int flush = IBV_ADVISE_MR_FLAG_FLUSH;
	struct ibv_pd *pd = self->dev.pd;

	nobody.lkey ^= 0xff;
	EXPECT_EQ(0, odp_advise(pd, IBV_ADVISE_MR_ADVICE_PREFETCH, flush, &good, 1));
	EXPECT_EQ(EINVAL, odp_advise(pd, IBV_ADVISE_MR_ADVICE_PREFETCH, flush, &beyond, 1));
	EXPECT_EQ(EINVAL, odp_advise(pd, IBV_ADVISE_MR_ADVICE_PREFETCH, flush, &pinned, 1));
	EXPECT_EQ(EINVAL, odp_advise(pd, IBV_ADVISE_MR_ADVICE_PREFETCH, flush, &nobody, 1));
	EXPECT_EQ(EINVAL, odp_advise(pd, IBV_ADVISE_MR_ADVICE_PREFETCH, 0, &nobody, 1));
	EXPECT_EQ(EOPNOTSUPP, odp_advise(pd, 99, flush, &good, 1));
	EXPECT_EQ(1, odp_counter("page_prefetch"));
}

TEST_HARNESS_MAIN
