/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A device that talks to itself, or to another one: pairs of connected QPs in one
 * process, and memory whose content is known byte by byte.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef ODP_LOOP_H
#define ODP_LOOP_H

#include <infiniband/verbs.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ODP_CHUNK	(2UL << 20)
#define ODP_REMOTE	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | \
			 IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC)
#define ODP_PAGED	(ODP_REMOTE | IBV_ACCESS_ON_DEMAND)
#define ODP_GRH_BYTES	40
#define ODP_QKEY	0x11111111
#define ODP_IMM		0x1badcafe

struct odp_dev {
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	struct ibv_device_attr_ex attr;
	struct ibv_port_attr port;
	union ibv_gid gid;
	int gid_index;
};

/* Sides of a pair. */
enum { ODP_REQ, ODP_RESP };

struct odp_pair {
	struct odp_dev *dev[2];		/* of each side */
	enum ibv_qp_type type;
	uint8_t timeout, rnr_retry;
	struct ibv_cq *cq[2];
	struct ibv_qp *qp[2];
	struct ibv_srq *srq;
	struct ibv_ah *ah;
};

/* Functions that return int: 0, or the errno, which is in errno too. */
int odp_open(struct odp_dev *dev);
int odp_open_name(struct odp_dev *dev, const char *name);
void odp_close(struct odp_dev *dev);

int odp_pair_open(struct odp_pair *pair, struct odp_dev *dev,
		  enum ibv_qp_type type, bool srq);
int odp_pair_open_between(struct odp_pair *pair, struct odp_dev *req, struct odp_dev *resp,
			  uint8_t timeout, uint8_t rnr_retry);
int odp_pair_reconnect(struct odp_pair *pair);
void odp_pair_close(struct odp_pair *pair);

int odp_post_recv(struct odp_pair *pair, struct ibv_sge *sge, int nr);
int odp_post(struct odp_pair *pair, enum ibv_wr_opcode op, struct ibv_sge *sge,
	     int nr, uint64_t raddr, uint32_t rkey);
int odp_post_atomic(struct odp_pair *pair, enum ibv_wr_opcode op,
		    struct ibv_sge *sge, uint64_t raddr, uint32_t rkey,
		    uint64_t compare_add, uint64_t swap);
int odp_wait(struct odp_pair *pair, int side, struct ibv_wc *wc);

/* Post on the requester's side and wait: enum ibv_wc_status, or -errno. */
int odp_rdma(struct odp_pair *pair, enum ibv_wr_opcode op, void *local,
	     struct ibv_mr *mr, size_t len, void *remote, struct ibv_mr *rmr);

/* ibv_advise_mr(), which the library's driver for rxe lacks. */
int odp_advise(struct ibv_pd *pd, uint32_t advice, uint32_t flags,
	       struct ibv_sge *sge, int nr);

/*
 * ibv_rereg_mr(), which the library's driver for rxe lacks: 0, with the region's new keys, or
 * the errno.
 */
int odp_rereg(struct ibv_mr *mr, int flags, struct ibv_pd *pd, void *addr, size_t length,
	      int access);

bool odp_is_rxe(struct ibv_context *ctx);

/* What of ibv_destroy_qp() is the kernel's. */
int odp_destroy_qp(struct ibv_qp *qp);

struct ibv_sge odp_sge(const void *addr, size_t len, const struct ibv_mr *mr);

/* Memory of known content. */
void *odp_map(size_t len);
void odp_fill(void *mem, size_t len, uint64_t seed);
size_t odp_same(const void *mem, size_t len, uint64_t seed);
size_t odp_same_byte(const void *mem, size_t len, int byte);

/* The rest is in odp_system.c. */

/* Make an empty ext4 on the disk that is for tests, and mount it; @folder may be new. */
#define ODP_DISK	"/dev/pmem0"
int odp_mount_disk(const char *folder, const char *options);

int odp_put_text(const char *path, const char *text);
bool odp_has_swap(void);

/* What the kernel says; -1 if it does not say it. */
long long odp_counter(const char *name);
bool odp_command(const char *command, char *out, size_t len);
long odp_proc_number(const char *path, const char *field);

#endif
