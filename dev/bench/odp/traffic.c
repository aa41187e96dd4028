// SPDX-License-Identifier: GPL-2.0
/*
 * Traffic in memory that the device has: on demand against pinned.
 */
#include <string.h>

#include "bench.h"

#define ROUNDS		5
#define PINGS		200
#define MESSAGE		64
#define WIRE_DELAY	(2 * US)
#define PIECES		8		/* a chain */
#define CHAINS		4		/* a round */

/* @from's memory to the other end's, where a receive is posted. */
static void send_message(struct bench *b, const struct region *r, int from)
{
	size_t mine = from * PAGE, theirs = !from * PAGE + MESSAGE;
	struct ibv_sge sge = { (uintptr_t)r->mem + mine, MESSAGE, r->mr->lkey };
	struct ibv_sge into = { (uintptr_t)r->mem + theirs, MESSAGE, r->mr->lkey };
	struct ibv_recv_wr recv = { .sg_list = &into, .num_sge = 1 }, *bad;
	struct ibv_send_wr wr = { .opcode = IBV_WR_SEND, .send_flags = IBV_SEND_SIGNALED,
				  .sg_list = &sge, .num_sge = 1 };

	if (ibv_post_recv(b->lane.qp[!from], &recv, &bad))
		die("ibv_post_recv");
	lane_post(&b->lane, from, &wr);
	lane_wait(&b->lane, 2);
}

static void pingpong(struct bench *b, const struct region *r, int nr)
{
	int i;

	for (i = 0; i < nr; i++) {
		memset(r->mem, i, MESSAGE);
		send_message(b, r, 0);
		memcpy(r->mem + PAGE, r->mem + PAGE + MESSAGE, MESSAGE);
		send_message(b, r, 1);
		if (r->mem[MESSAGE] != (char)i || memcmp(r->mem, r->mem + MESSAGE, MESSAGE))
			die("a message came back as another");
	}
}

/* The first half to the second, piece by piece. */
static void write_half(struct bench *b, const struct region *r)
{
	struct ibv_send_wr wr[PIECES];
	struct ibv_sge sge[PIECES];
	int i;

	for (i = 0; i < PIECES; i++) {
		sge[i] = (struct ibv_sge) { (uintptr_t)r->mem + i * PIECE, PIECE, r->mr->lkey };
		wr[i] = (struct ibv_send_wr) {
			.next = i + 1 < PIECES ? &wr[i + 1] : NULL,
			.opcode = IBV_WR_RDMA_WRITE,
			.send_flags = i + 1 < PIECES ? 0 : IBV_SEND_SIGNALED,
			.sg_list = &sge[i], .num_sge = 1,
			.wr.rdma = { (uintptr_t)r->mem + (PIECES + i) * PIECE, r->mr->rkey },
		};
	}
	lane_post(&b->lane, 0, wr);
	lane_wait(&b->lane, 1);
}

static void measure_round(struct bench *b, const struct region *r, const char *name, int round)
{
	uint64_t faults, start;
	int i;

	pingpong(b, r, 1);
	write_half(b, r);
	faults = adapter_faults();
	start = now();
	pingpong(b, r, PINGS);
	report((now() - start) / (double)PINGS, "traffic.pingpong.%s.ns.%d", name, round);
	start = now();
	for (i = 0; i < CHAINS; i++)
		write_half(b, r);
	report((now() - start) / (double)(CHAINS * PIECES), "traffic.write.%s.ns.%d", name,
	       round);
	if (adapter_faults() != faults)
		die("warm traffic has faulted");
	if (memcmp(r->mem, r->mem + r->len / 2, r->len / 2))
		die("what was written is not what arrived");
}

void measure_traffic(struct bench *b)
{
	static const char *const names[] = { "pinned", "odp" };
	struct region r = region_map(2 * PIECES * PIECE, SMALL_PAGES);
	int round, on_demand;

	adapter_delay(DELAY);
	adapter_set("wire-delay", WIRE_DELAY);
	region_touch(&r, r.len, PAGE);
	for (round = 0; round < ROUNDS; round++) {
		for (on_demand = 0; on_demand < 2; on_demand++) {
			region_register(b, &r, on_demand);
			memset(r.mem, round + 1, r.len / 2);
			measure_round(b, &r, names[on_demand], round);
			region_deregister(&r);
		}
	}
	adapter_set("wire-delay", 0);
	region_unmap(&r);
}
