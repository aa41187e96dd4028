// SPDX-License-Identifier: GPL-2.0
/*
 * Every operation, with paged memory on both sides or one of them, in lengths
 * and at offsets around the ends of pages and chunks. Each byte is looked at:
 * those that were moved, those that were read, and those around them.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <arpa/inet.h>

#include "odp_loop.h"

#include "../kselftest_harness.h"

#define PAGE		4096UL
#define AREA		(4 * ODP_CHUNK)
#define CANARY		0xa5

enum { ON_REQ = 1, ON_RESP = 2 };

static const size_t lengths[] = { 1, 7, 4095, 4096, 4097, 65537, (3 << 20) + 13 };
static const size_t offsets[] = { 0, 1, 4095 };
/* A page, and the last one of a chunk. */
static const size_t bases[] = { PAGE, ODP_CHUNK - PAGE };

FIXTURE(transfer) {
	struct odp_dev dev;
	struct odp_pair pair;
	char *area[2];
	uint64_t seed;
};

FIXTURE_VARIANT(transfer) {
	enum ibv_qp_type type;
	enum ibv_wr_opcode op;
	bool srq;
};

FIXTURE_VARIANT_ADD(transfer, rc_send) {
	.type = IBV_QPT_RC, .op = IBV_WR_SEND,
};

FIXTURE_VARIANT_ADD(transfer, rc_send_srq) {
	.type = IBV_QPT_RC, .op = IBV_WR_SEND, .srq = true,
};

FIXTURE_VARIANT_ADD(transfer, rc_write) {
	.type = IBV_QPT_RC, .op = IBV_WR_RDMA_WRITE,
};

FIXTURE_VARIANT_ADD(transfer, rc_write_imm) {
	.type = IBV_QPT_RC, .op = IBV_WR_RDMA_WRITE_WITH_IMM,
};

FIXTURE_VARIANT_ADD(transfer, rc_read) {
	.type = IBV_QPT_RC, .op = IBV_WR_RDMA_READ,
};

FIXTURE_VARIANT_ADD(transfer, uc_send) {
	.type = IBV_QPT_UC, .op = IBV_WR_SEND,
};

FIXTURE_VARIANT_ADD(transfer, uc_write_imm) {
	.type = IBV_QPT_UC, .op = IBV_WR_RDMA_WRITE_WITH_IMM,
};

FIXTURE_VARIANT_ADD(transfer, ud_send) {
	.type = IBV_QPT_UD, .op = IBV_WR_SEND,
};

FIXTURE_VARIANT_ADD(transfer, ud_send_srq) {
	.type = IBV_QPT_UD, .op = IBV_WR_SEND, .srq = true,
};

FIXTURE_SETUP(transfer)
{
	int side;

	ASSERT_EQ(0, odp_open(&self->dev));
	ASSERT_EQ(0, odp_pair_open(&self->pair, &self->dev, variant->type, variant->srq));
	for (side = 0; side < 2; side++) {
		self->area[side] = odp_map(AREA);
		ASSERT_NE(MAP_FAILED, (void *)self->area[side]);
	}
}

FIXTURE_TEARDOWN(transfer)
{
	odp_pair_close(&self->pair);
	odp_close(&self->dev);
}

/* The rest of the pages that [addr, end) begins and ends in, and one more. */
static void canaries_put(char *addr, char *end)
{
	char *first = (char *)((uintptr_t)addr & ~(PAGE - 1)) - PAGE;
	char *last = (char *)(((uintptr_t)end + PAGE - 1) & ~(PAGE - 1)) + PAGE;

	memset(first, CANARY, addr - first);
	memset(end, CANARY, last - end);
}

static bool canaries_alive(char *addr, char *end)
{
	char *first = (char *)((uintptr_t)addr & ~(PAGE - 1)) - PAGE;
	char *last = (char *)(((uintptr_t)end + PAGE - 1) & ~(PAGE - 1)) + PAGE;

	return odp_same_byte(first, addr - first, CANARY) == (size_t)(addr - first) &&
	       odp_same_byte(end, last - end, CANARY) == (size_t)(last - end);
}

static bool wants_recv(enum ibv_wr_opcode op)
{
	return op == IBV_WR_SEND || op == IBV_WR_RDMA_WRITE_WITH_IMM;
}

static void check_recv(struct __test_metadata *_metadata,
		       FIXTURE_DATA(transfer) *self, enum ibv_wr_opcode op,
		       size_t len)
{
	struct ibv_wc wc;

	ASSERT_EQ(0, odp_wait(&self->pair, ODP_RESP, &wc));
	ASSERT_EQ(IBV_WC_SUCCESS, wc.status);
	ASSERT_EQ(len, wc.byte_len);
	if (op == IBV_WR_SEND) {
		ASSERT_EQ(IBV_WC_RECV, wc.opcode);
		return;
	}
	ASSERT_EQ(IBV_WC_RECV_RDMA_WITH_IMM, wc.opcode);
	ASSERT_EQ(ODP_IMM, ntohl(wc.imm_data));
}

/* Move it, from registered memory to registered memory. */
static void move(struct __test_metadata *_metadata, FIXTURE_DATA(transfer) *self,
		 enum ibv_wr_opcode op, struct ibv_sge sge[2], uint32_t rkey)
{
	struct ibv_wc wc;

	if (wants_recv(op)) {
		ASSERT_EQ(0, odp_post_recv(&self->pair, &sge[ODP_RESP],
					   op == IBV_WR_SEND));
	}
	ASSERT_EQ(0, odp_post(&self->pair, op, &sge[ODP_REQ], 1, sge[ODP_RESP].addr, rkey));
	ASSERT_EQ(0, odp_wait(&self->pair, ODP_REQ, &wc));
	ASSERT_EQ(IBV_WC_SUCCESS, wc.status);
	if (wants_recv(op))
		check_recv(_metadata, self, op, sge[ODP_RESP].length);
}

/* @mem: what is registered, exactly; @len: of the message. */
static void one(struct __test_metadata *_metadata, FIXTURE_DATA(transfer) *self,
		const FIXTURE_VARIANT(transfer) *variant, int paged,
		char *mem[2], size_t len)
{
	size_t grh = variant->type == IBV_QPT_UD ? ODP_GRH_BYTES : 0;
	int from = variant->op == IBV_WR_RDMA_READ ? ODP_RESP : ODP_REQ;
	uint64_t seed = ++self->seed;
	struct ibv_sge sge[2];
	struct ibv_mr *mr[2];
	size_t bytes;
	int side;

	for (side = 0; side < 2; side++) {
		bytes = len + (side == ODP_RESP ? grh : 0);
		ASSERT_EQ(0, madvise(self->area[side], AREA, MADV_DONTNEED));
		canaries_put(mem[side], mem[side] + bytes);
		mr[side] = ibv_reg_mr(self->dev.pd, mem[side], bytes,
				      paged & (1 << side) ? ODP_PAGED : ODP_REMOTE);
		ASSERT_NE(NULL, mr[side]);
		sge[side] = odp_sge(mem[side], bytes, mr[side]);
	}
	odp_fill(mem[from], len, seed);
	move(_metadata, self, variant->op, sge, mr[ODP_RESP]->rkey);
	for (side = 0; side < 2; side++) {
		bytes = len + (side == ODP_RESP ? grh : 0);
		ASSERT_EQ(len, odp_same(mem[side] + bytes - len, len, seed));
		ASSERT_TRUE(canaries_alive(mem[side], mem[side] + bytes));
		ASSERT_EQ(0, ibv_dereg_mr(mr[side]));
	}
}

static void all(struct __test_metadata *_metadata, FIXTURE_DATA(transfer) *self,
		const FIXTURE_VARIANT(transfer) *variant, int paged)
{
	unsigned int l, o, b, nr = 0;
	char *mem[2];

	for (l = 0; l < ARRAY_SIZE(lengths); l++) {
		if (variant->type == IBV_QPT_UD &&
		    lengths[l] > 128U << self->dev.port.active_mtu)
			continue;
		for (o = 0; o < ARRAY_SIZE(offsets); o++) {
			for (b = 0; b < ARRAY_SIZE(bases); b++) {
				mem[ODP_REQ] = self->area[ODP_REQ] + bases[b] + offsets[o];
				mem[ODP_RESP] = self->area[ODP_RESP] + bases[!b] +
						offsets[(o + b) % ARRAY_SIZE(offsets)];
				one(_metadata, self, variant, paged, mem, lengths[l]);
				nr++;
			}
		}
	}
	ASSERT_GE(nr, 18);
}

TEST_F_TIMEOUT(transfer, paged_on_both_sides, 300)
{
	all(_metadata, self, variant, ON_REQ | ON_RESP);
}

TEST_F_TIMEOUT(transfer, paged_on_requester_only, 300)
{
	all(_metadata, self, variant, ON_REQ);
}

TEST_F_TIMEOUT(transfer, paged_on_responder_only, 300)
{
	all(_metadata, self, variant, ON_RESP);
}

TEST_HARNESS_MAIN
