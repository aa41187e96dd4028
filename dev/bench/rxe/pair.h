/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Two queue pairs of one device that are each other's peer, and messages between them.
 */
#ifndef RXE_PAIR_H
#define RXE_PAIR_H

#include <infiniband/verbs.h>
#include <stddef.h>

#define PAGE	4096UL
#define MIB	(1UL << 20)
#define ACCESS	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE)

struct pair {
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq;
	struct ibv_qp *qp[2];
};

/* Memory of a region. */
struct part {
	const struct ibv_mr *mr;
	char *mem;
};

void check(int good, const char *what);
struct ibv_pd *device_open(void);
void pair_open(struct pair *pair, struct ibv_pd *pd);
void pair_message(struct pair *pair, enum ibv_wr_opcode op, size_t size,
		  const struct part *local, const struct part *remote);

#endif /* RXE_PAIR_H */
