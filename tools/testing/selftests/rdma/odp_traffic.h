/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A thread that writes to a paged region over RDMA, and reads back, while the test does
 * something to its memory.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef ODP_TRAFFIC_H
#define ODP_TRAFFIC_H

#include <pthread.h>
#include <stdatomic.h>

#include "odp_loop.h"

#define TRAFFIC_AREA	(2 * ODP_CHUNK)
#define TRAFFIC_FIRST	(ODP_CHUNK - 8 * 4096UL + 5)
#define TRAFFIC_LEN	(16 * 4096UL)

/* Two QPs, a paged and a pinned region, and a thread that uses them. */
struct traffic {
	struct odp_dev dev;
	struct odp_pair pair;
	struct ibv_mr *mr, *pinned_mr;
	char *mem, *pinned;
	pthread_t thread;
	atomic_int done, stop;
	int status;		/* of the transfer that failed */
	uint64_t seed;		/* of what was written last */
	bool verify;		/* read each one back */
	bool differs;
};

/* @mem: TRAFFIC_AREA bytes to be the paged region, or NULL for memory of its own. */
int traffic_open(struct traffic *t, char *mem);
void traffic_close(struct traffic *t);

/* To or from TRAFFIC_FIRST of the region: enum ibv_wc_status, or -errno. */
int traffic_transfer(struct traffic *t, enum ibv_wr_opcode op, uint32_t rkey);

int traffic_start(struct traffic *t);
/* Until @nr more transfers were made, or one failed. */
void traffic_wait(struct traffic *t, int nr);
int traffic_stop(struct traffic *t);

#endif
