// SPDX-License-Identifier: GPL-2.0
/*
 * Traffic in a thread of its own.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <errno.h>
#include <sched.h>
#include <string.h>

#include "odp_traffic.h"

int traffic_open(struct traffic *t, char *mem)
{
	int ret = odp_open(&t->dev);

	if (!ret)
		ret = odp_pair_open(&t->pair, &t->dev, IBV_QPT_RC, false);
	if (ret)
		return ret;
	t->mem = mem ?: odp_map(TRAFFIC_AREA);
	t->pinned = odp_map(TRAFFIC_LEN);
	t->mr = ibv_reg_mr(t->dev.pd, t->mem, TRAFFIC_AREA, ODP_PAGED);
	t->pinned_mr = ibv_reg_mr(t->dev.pd, t->pinned, TRAFFIC_LEN, ODP_REMOTE);
	return t->mr && t->pinned_mr ? 0 : errno;
}

void traffic_close(struct traffic *t)
{
	ibv_dereg_mr(t->mr);
	ibv_dereg_mr(t->pinned_mr);
	odp_pair_close(&t->pair);
	odp_close(&t->dev);
}

int traffic_transfer(struct traffic *t, enum ibv_wr_opcode op, uint32_t rkey)
{
	struct ibv_mr region = { .rkey = rkey };

	return odp_rdma(&t->pair, op, t->pinned, t->pinned_mr, TRAFFIC_LEN, t->mem + TRAFFIC_FIRST,
			&region);
}

static void *traffic_run(void *arg)
{
	uint32_t rkey = ((struct traffic *)arg)->mr->rkey;
	struct traffic *t = arg;

	while (!t->status && !t->stop) {
		odp_fill(t->pinned, TRAFFIC_LEN, ++t->seed);
		t->status = traffic_transfer(t, IBV_WR_RDMA_WRITE, rkey);
		if (!t->status && t->verify) {
			memset(t->pinned, 0, TRAFFIC_LEN);
			t->status = traffic_transfer(t, IBV_WR_RDMA_READ, rkey);
			t->differs |= !t->status &&
				odp_same(t->pinned, TRAFFIC_LEN, t->seed) != TRAFFIC_LEN;
		}
		t->done++;
	}
	return NULL;
}

int traffic_start(struct traffic *t)
{
	t->done = 0;
	t->stop = 0;
	t->status = 0;
	return pthread_create(&t->thread, NULL, traffic_run, t);
}

void traffic_wait(struct traffic *t, int nr)
{
	int until = t->done + nr;

	while (t->done < until && !t->status)
		sched_yield();
}

int traffic_stop(struct traffic *t)
{
	t->stop = 1;
	return pthread_join(t->thread, NULL);
}
