// SPDX-License-Identifier: GPL-2.0
/*
 * Every operation, in lengths from a byte to 4 MiB, aligned or not, while the kernel does
 * all that it may do to memory that is not pinned: it discards and reads back, moves to
 * another node, compacts, merges, and makes huge pages. Each byte is compared.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>

#include "odp_loop.h"

#include "../kselftest_harness.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define PAGE		4096UL
#define AREA		(3 * ODP_CHUNK)
#define KSM		"/sys/kernel/mm/ksm/"
#define MPOL_MF_MOVE	2

static const size_t lengths[] = { 1, 63, 4096, 65537, 1 << 20, 4 << 20 };
/* Nothing, odd, and over the end of a page and of a chunk. */
static const size_t offsets[] = { 0, 13, ODP_CHUNK - 5 };

static char *mem[2];

/* Each: does something to an area, and says if the kernel did it. */
static bool reclaim(int round)
{
	madvise(mem[round & 1], AREA, MADV_PAGEOUT);
	return odp_proc_number("/proc/self/status", "VmSwap") > 0;
}

/* A huge page of it, which the next reclaim of a part splits again. */
static bool collapse(int round)
{
	char *chunk = mem[round & 1] + round / 2 % (AREA / ODP_CHUNK) * ODP_CHUNK;
	int ret = madvise(chunk, ODP_CHUNK, MADV_COLLAPSE);

	madvise(chunk + PAGE, PAGE, MADV_PAGEOUT);
	return !ret;
}

static bool migrate(int round)
{
	static void *pages[AREA / PAGE];
	static int nodes[AREA / PAGE], status[AREA / PAGE];
	int node = round / 2 & 1, nr = 0;
	size_t i;

	for (i = 0; i < AREA / PAGE; i++) {
		pages[i] = mem[round & 1] + i * PAGE;
		nodes[i] = node;
	}
	if (syscall(__NR_move_pages, 0, AREA / PAGE, pages, nodes, status, MPOL_MF_MOVE))
		return false;
	/* What is on node 1 was moved there. */
	for (i = 0; i < AREA / PAGE; i++)
		nr += status[i] == node;
	return node && nr;
}

/* Where the pages of an area are. */
static void frames(const char *area, uint64_t *map)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);

	if (pread(fd, map, AREA / PAGE * sizeof(*map), (uintptr_t)area / PAGE * sizeof(*map)) < 0)
		memset(map, 0, AREA / PAGE * sizeof(*map));
	close(fd);
}

/*
 * Compaction takes pages from the beginning of a node to its end, where they stay. So they are
 * brought to the other node first, into what was free.
 */
static bool compact(int round)
{
	static uint64_t before[AREA / PAGE], after[AREA / PAGE];
	const uint64_t present = 1ULL << 63;
	size_t i;

	migrate(round);
	frames(mem[round & 1], before);
	odp_put_text("/proc/sys/vm/compact_memory", "1");
	frames(mem[round & 1], after);
	for (i = 0; i < AREA / PAGE; i++)
		if (before[i] & after[i] & present && before[i] != after[i])
			return true;
	return false;
}

/* ksmd does it: what was transferred is the same in both areas. */
static bool merge(int round)
{
	if (!round) {
		odp_put_text(KSM "pages_to_scan", "10000");
		odp_put_text(KSM "sleep_millisecs", "0");
		odp_put_text(KSM "smart_scan", "0");
		odp_put_text(KSM "run", "1");
		madvise(mem[0], AREA, MADV_MERGEABLE);
		madvise(mem[1], AREA, MADV_MERGEABLE);
	}
	usleep(1000);
	return odp_proc_number("/proc/self/ksm_stat", "ksm_merging_pages") > 0;
}

FIXTURE(moved) {
	struct odp_dev dev;
	struct odp_pair pair;
	struct ibv_mr *mr[2];
	pthread_t thread;
	atomic_bool stop, happened;
	bool (*act)(int round);
	time_t limit;
	uint64_t seed;
};

FIXTURE_VARIANT(moved) {
	bool (*act)(int round);
	bool swaps;
	const char *needs;
};

FIXTURE_VARIANT_ADD(moved, reclaim) {
	.act = reclaim, .swaps = true,
};

FIXTURE_VARIANT_ADD(moved, collapse) {
	.act = collapse, .swaps = true,
};

FIXTURE_VARIANT_ADD(moved, migrate) {
	.act = migrate, .needs = "/sys/devices/system/node/node1",
};

FIXTURE_VARIANT_ADD(moved, compact) {
	.act = compact, .needs = "/sys/devices/system/node/node1",
};

FIXTURE_VARIANT_ADD(moved, merge) {
	.act = merge, .needs = KSM "run",
};

static void *run(void *arg)
{
	FIXTURE_DATA(moved) *self = arg;
	int round;

	for (round = 0; !self->stop; round++)
		if (self->act(round))
			self->happened = true;
	return NULL;
}

FIXTURE_SETUP(moved)
{
	int side;

	if (variant->swaps && !odp_has_swap())
		SKIP(return, "there is no swap");
	if (variant->needs && access(variant->needs, F_OK))
		SKIP(return, "there is no %s", variant->needs);
	ASSERT_EQ(0, odp_open(&self->dev));
	ASSERT_EQ(0, odp_pair_open(&self->pair, &self->dev, IBV_QPT_RC, false));
	for (side = 0; side < 2; side++) {
		mem[side] = odp_map(AREA);
		ASSERT_NE(MAP_FAILED, (void *)mem[side]);
		memset(mem[side], 0, AREA);
		self->mr[side] = ibv_reg_mr(self->dev.pd, mem[side], AREA, ODP_PAGED);
		ASSERT_NE(NULL, self->mr[side]);
	}
	self->act = variant->act;
	self->limit = time(NULL) + 100;
	ASSERT_EQ(0, pthread_create(&self->thread, NULL, run, self));
}

FIXTURE_TEARDOWN(moved)
{
	self->stop = true;
	EXPECT_EQ(0, pthread_join(self->thread, NULL));
	if (variant->act == merge) {
		EXPECT_EQ(0, odp_put_text(KSM "run", "2"));
		EXPECT_EQ(0, odp_put_text(KSM "run", "0"));
	}
	EXPECT_EQ(0, ibv_dereg_mr(self->mr[0]));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr[1]));
	odp_pair_close(&self->pair);
	odp_close(&self->dev);
}

/* Of @len bytes at the same place of both areas: the status, or -errno. */
static int move(FIXTURE_DATA(moved) *self, enum ibv_wr_opcode op, size_t at, size_t len)
{
	struct ibv_sge into = odp_sge(mem[ODP_RESP] + at, len, self->mr[ODP_RESP]);
	struct ibv_wc wc;
	int ret;

	if (op != IBV_WR_SEND)
		return odp_rdma(&self->pair, op, mem[ODP_REQ] + at, self->mr[ODP_REQ], len,
				mem[ODP_RESP] + at, self->mr[ODP_RESP]);
	ret = odp_post_recv(&self->pair, &into, 1);
	if (!ret)
		ret = odp_rdma(&self->pair, op, mem[ODP_REQ] + at, self->mr[ODP_REQ], len,
			       mem[ODP_RESP] + at, self->mr[ODP_RESP]);
	if (!ret)
		ret = -odp_wait(&self->pair, ODP_RESP, &wc) ?: (int)wc.status;
	return ret;
}

static void move_all(struct __test_metadata *_metadata, FIXTURE_DATA(moved) *self,
		     enum ibv_wr_opcode op)
{
	int from = op == IBV_WR_RDMA_READ ? ODP_RESP : ODP_REQ;
	size_t i, j, at, len;

	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		for (j = 0; j < ARRAY_SIZE(offsets); j++) {
			len = lengths[i];
			at = offsets[j];
			if (at + len > AREA)
				continue;
			memset(mem[!from] + at, 0xee, len);
			odp_fill(mem[from] + at, len, ++self->seed);
			ASSERT_EQ(IBV_WC_SUCCESS, move(self, op, at, len));
			ASSERT_EQ(len, odp_same(mem[!from] + at, len, self->seed));
			ASSERT_EQ(len, odp_same(mem[from] + at, len, self->seed));
		}
	}
}

/* Some rounds, and on until what the test is about has happened. */
static bool goes_on(FIXTURE_DATA(moved) *self, int round)
{
	return round < 2 || (!self->happened && time(NULL) < self->limit);
}

static void move_enough(struct __test_metadata *_metadata, FIXTURE_DATA(moved) *self,
			enum ibv_wr_opcode op)
{
	int round;

	for (round = 0; goes_on(self, round); round++)
		move_all(_metadata, self, op);
	ASSERT_TRUE(self->happened);
}

TEST_F_TIMEOUT(moved, send, 300)
{
	move_enough(_metadata, self, IBV_WR_SEND);
}

TEST_F_TIMEOUT(moved, write, 300)
{
	move_enough(_metadata, self, IBV_WR_RDMA_WRITE);
}

TEST_F_TIMEOUT(moved, read, 300)
{
	move_enough(_metadata, self, IBV_WR_RDMA_READ);
}

/* One counter a page; each sum is what was added, and each answer the one before. */
TEST_F_TIMEOUT(moved, fetch_and_add, 300)
{
	struct ibv_sge result;
	struct ibv_wc wc;
	uint64_t *at;
	int round;
	size_t i;

	for (round = 0; goes_on(self, round); round++) {
		for (i = 0; i < AREA / PAGE; i += 7) {
			at = (uint64_t *)(mem[ODP_RESP] + i * PAGE + i * 8 % PAGE);
			result = odp_sge(mem[ODP_REQ] + i * PAGE, 8, self->mr[ODP_REQ]);
			ASSERT_EQ(0, odp_post_atomic(&self->pair, IBV_WR_ATOMIC_FETCH_AND_ADD,
						     &result, (uintptr_t)at,
						     self->mr[ODP_RESP]->rkey, i + 1, 0));
			ASSERT_EQ(0, odp_wait(&self->pair, ODP_REQ, &wc));
			ASSERT_EQ(IBV_WC_SUCCESS, wc.status);
			ASSERT_EQ(round * (i + 1), *(uint64_t *)(mem[ODP_REQ] + i * PAGE));
			ASSERT_EQ((round + 1) * (i + 1), *at);
		}
	}
	ASSERT_TRUE(self->happened);
}

TEST_HARNESS_MAIN
