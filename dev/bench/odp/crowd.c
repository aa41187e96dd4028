// SPDX-License-Identifier: GPL-2.0
/*
 * Many queue pairs that take a fault at the same time: how many faults a second?
 */
#include <stdlib.h>

#include "bench.h"

#define CROWD		64
#define ROUNDS		5
#define STRIDE		(16 * PAGE)	/* no two in a block of translations */

static void crowd_post(struct bench *b, struct lane *lane, const struct region *r, size_t at)
{
	struct ibv_sge sge = { (uintptr_t)b->buffer + at / PAGE % SLOTS * PAGE, PAGE,
			       b->buffer_mr->lkey };
	struct ibv_send_wr wr = {
		.opcode = IBV_WR_RDMA_WRITE, .send_flags = IBV_SEND_SIGNALED,
		.sg_list = &sge, .num_sge = 1, .wr.rdma = { (uintptr_t)r->mem + at, r->mr->rkey },
	};

	lane_post(lane, 0, &wr);
}

/* All at once, each a page of its own; the faults a second. */
static double crowd_faults(struct bench *b, struct lane *lanes, const struct region *r,
			   size_t first)
{
	uint64_t faults = adapter_faults(), ns = now();
	size_t at;
	int i;

	for (i = 0; i < CROWD; i++)
		crowd_post(b, &lanes[i], r, first + i * STRIDE);
	for (i = 0; i < CROWD; i++)
		lane_wait(&lanes[i], 1);
	ns = now() - ns;
	faults = adapter_faults() - faults;
	for (i = 0; i < CROWD; i++) {
		at = first + i * STRIDE;
		check_written(b, r, &at, 1);
	}
	if (faults != CROWD)
		die("%lu faults of %d queue pairs", faults, CROWD);
	return faults * 1e9 / ns;
}

void measure_crowd(struct bench *b)
{
	struct lane *lanes = calloc(CROWD, sizeof(*lanes));
	struct region r;
	int i, round;

	if (!lanes)
		die("no memory");
	for (i = 0; i < CROWD; i++)
		lane_open(b, &lanes[i]);
	adapter_delay(DELAY);
	for (round = 0; round < ROUNDS; round++) {
		r = region_map(CROWD * STRIDE, SMALL_PAGES);
		region_register(b, &r, true);
		region_touch(&r, r.len, PAGE);
		/* What these make is there for the others. */
		crowd_faults(b, lanes, &r, STRIDE / 2);
		report(crowd_faults(b, lanes, &r, 0), "crowd.%d", round);
		region_deregister(&r);
		region_unmap(&r);
	}
	free(lanes);
}
