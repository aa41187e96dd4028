// SPDX-License-Identifier: GPL-2.0
/*
 * Atomic operations on paged memory, at the beginning and the end of a page, and
 * messages that are gathered from pages and pinned memory.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include "odp_loop.h"

#include "../kselftest_harness.h"

#define PAGE	4096UL
#define AREA	(2 * ODP_CHUNK)
#define CANARY	0x5a5a5a5a5a5a5a5aULL

static const size_t places[] = { 0, PAGE - 8, ODP_CHUNK - 8, ODP_CHUNK };

FIXTURE(atomic) {
	struct odp_dev dev;
	struct odp_pair pair;
	struct ibv_mr *mr[2];
	char *mem[2];
	struct ibv_sge result;
};

FIXTURE_SETUP(atomic)
{
	int side;

	ASSERT_EQ(0, odp_open(&self->dev));
	ASSERT_EQ(0, odp_pair_open(&self->pair, &self->dev, IBV_QPT_RC, false));
	for (side = 0; side < 2; side++) {
		self->mem[side] = odp_map(AREA);
		ASSERT_NE(MAP_FAILED, (void *)self->mem[side]);
		self->mr[side] = ibv_reg_mr(self->dev.pd, self->mem[side], AREA, ODP_PAGED);
		ASSERT_NE(NULL, self->mr[side]);
	}
	self->result = odp_sge(self->mem[ODP_REQ] + PAGE - 8, 8, self->mr[ODP_REQ]);
}

FIXTURE_TEARDOWN(atomic)
{
	EXPECT_EQ(0, ibv_dereg_mr(self->mr[ODP_REQ]));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr[ODP_RESP]));
	odp_pair_close(&self->pair);
	odp_close(&self->dev);
}

/* The eight bytes at a place, between canaries where the region has room. */
static uint64_t *prepare(char *mem, size_t place, uint64_t value)
{
	uint64_t *at = (uint64_t *)(mem + place);

	madvise(mem, AREA, MADV_DONTNEED);
	if (place)
		at[-1] = CANARY;
	at[0] = value;
	at[1] = CANARY;
	return at;
}

static bool canaries_alive(const uint64_t *at, size_t place)
{
	return (!place || at[-1] == CANARY) && at[1] == CANARY;
}

#define ASSERT_ATOMIC(op, at, compare_add, swap) do {				\
	struct ibv_wc wc;							\
	ASSERT_EQ(0, odp_post_atomic(&self->pair, op, &self->result,		\
				     (uintptr_t)(at), self->mr[ODP_RESP]->rkey,	\
				     compare_add, swap));			\
	ASSERT_EQ(0, odp_wait(&self->pair, ODP_REQ, &wc));			\
	ASSERT_EQ(IBV_WC_SUCCESS, wc.status);					\
} while (0)

TEST_F(atomic, fetch_and_add_adds_once)
{
	uint64_t *result = (uint64_t *)(uintptr_t)self->result.addr;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(places); i++) {
		uint64_t *at = prepare(self->mem[ODP_RESP], places[i], ~0ULL - i);

		ASSERT_ATOMIC(IBV_WR_ATOMIC_FETCH_AND_ADD, at, 1 + 2 * i, 0);
		ASSERT_EQ((uint64_t)i, at[0]);
		ASSERT_EQ(~0ULL - i, *result);
		ASSERT_TRUE(canaries_alive(at, places[i]));
	}
}

TEST_F(atomic, compare_and_swap_swaps_only_if_equal)
{
	uint64_t *result = (uint64_t *)(uintptr_t)self->result.addr;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(places); i++) {
		uint64_t *at = prepare(self->mem[ODP_RESP], places[i], 100 + i);

		ASSERT_ATOMIC(IBV_WR_ATOMIC_CMP_AND_SWP, at, 99, 7);
		ASSERT_EQ((uint64_t)100 + i, at[0]);
		ASSERT_EQ((uint64_t)100 + i, *result);
		ASSERT_ATOMIC(IBV_WR_ATOMIC_CMP_AND_SWP, at, 100 + i, 0xfeedULL << 48 | i);
		ASSERT_EQ(0xfeedULL << 48 | i, at[0]);
		ASSERT_EQ((uint64_t)100 + i, *result);
		ASSERT_TRUE(canaries_alive(at, places[i]));
	}
}

/* In memory that nobody has touched, too. */
TEST_F(atomic, untouched_memory_counts_from_zero)
{
	uint64_t *at = (uint64_t *)(self->mem[ODP_RESP] + 3 * PAGE);
	int i;

	for (i = 0; i < 10; i++)
		ASSERT_ATOMIC(IBV_WR_ATOMIC_FETCH_AND_ADD, at, 3, 0);
	EXPECT_EQ(30, *at);
}

/* Three pieces, the middle one pinned, each 13 bytes into a page. */
static void make_pieces(char *mem, struct ibv_mr *paged, struct ibv_mr *pinned,
			const size_t *lens, struct ibv_sge *sge)
{
	static const size_t at[] = { 0, ODP_CHUNK, ODP_CHUNK + 8 * PAGE };
	int i;

	for (i = 0; i < 3; i++)
		sge[i] = odp_sge(mem + at[i] + 13, lens[i], i == 1 ? pinned : paged);
}

static void copy_pieces(const struct ibv_sge *sge, char *all, bool to_pieces)
{
	int i;

	for (i = 0; i < 3; i++) {
		char *at = (char *)(uintptr_t)sge[i].addr;

		memcpy(to_pieces ? at : all, to_pieces ? all : at, sge[i].length);
		all += sge[i].length;
	}
}

TEST_F(atomic, pieces_of_paged_and_pinned_memory_make_one_message)
{
	static const size_t lens[2][3] = { { 4097, 1, 9001 }, { 5, 8193, 4901 } };
	struct ibv_sge sge[2][3];
	struct ibv_mr *pinned[2];
	char all[13099];
	struct ibv_wc wc;
	int side;

	for (side = 0; side < 2; side++) {
		pinned[side] = ibv_reg_mr(self->dev.pd, self->mem[side] + ODP_CHUNK,
					  4 * PAGE, ODP_REMOTE);
		ASSERT_NE(NULL, pinned[side]);
		make_pieces(self->mem[side], self->mr[side], pinned[side],
			    lens[side], sge[side]);
	}
	odp_fill(all, sizeof(all), 77);
	copy_pieces(sge[ODP_REQ], all, true);
	ASSERT_EQ(0, odp_post_recv(&self->pair, sge[ODP_RESP], 3));
	ASSERT_EQ(0, odp_post(&self->pair, IBV_WR_SEND, sge[ODP_REQ], 3, 0, 0));
	for (side = 0; side < 2; side++) {
		ASSERT_EQ(0, odp_wait(&self->pair, side, &wc));
		ASSERT_EQ(IBV_WC_SUCCESS, wc.status);
	}
	ASSERT_EQ(sizeof(all), wc.byte_len);
	memset(all, 0, sizeof(all));
	copy_pieces(sge[ODP_RESP], all, false);
	EXPECT_EQ(sizeof(all), odp_same(all, sizeof(all), 77));
	for (side = 0; side < 3; side++) {
		char *at = (char *)(uintptr_t)sge[ODP_RESP][side].addr;

		EXPECT_EQ(13, odp_same_byte(at - 13, 13, 0));
		EXPECT_EQ(PAGE, odp_same_byte(at + lens[ODP_RESP][side], PAGE, 0));
	}
	ASSERT_EQ(0, ibv_dereg_mr(pinned[ODP_REQ]));
	ASSERT_EQ(0, ibv_dereg_mr(pinned[ODP_RESP]));
}

TEST_HARNESS_MAIN
