// SPDX-License-Identifier: GPL-2.0
/*
 * A device that talks to itself; see odp_loop.h.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "odp_loop.h"

#define WAIT_SECONDS	60
#define QUEUE_DEPTH	64

static int odp_find_gid(struct odp_dev *dev)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	struct ibv_gid_entry entry;
	int i;

	/* There the LID is the address. */
	if (dev->port.link_layer == IBV_LINK_LAYER_INFINIBAND)
		return 0;
	for (i = 0; i < dev->port.gid_tbl_len; i++) {
		if (ibv_query_gid_ex(dev->ctx, 1, i, &entry, 0) ||
		    entry.gid_type != IBV_GID_TYPE_ROCE_V2 ||
		    memcmp(entry.gid.raw, mapped, sizeof(mapped)))
			continue;
		dev->gid = entry.gid;
		dev->gid_index = i;
		return 0;
	}
	return errno = ENOENT;
}

static int odp_use(struct odp_dev *dev, struct ibv_device *ibdev)
{
	dev->ctx = ibv_open_device(ibdev);
	if (!dev->ctx)
		return errno;
	if (!ibv_query_device_ex(dev->ctx, NULL, &dev->attr) &&
	    dev->attr.odp_caps.general_caps & IBV_ODP_SUPPORT &&
	    !ibv_query_port(dev->ctx, 1, &dev->port) &&
	    dev->port.state == IBV_PORT_ACTIVE && !odp_find_gid(dev)) {
		dev->pd = ibv_alloc_pd(dev->ctx);
		if (dev->pd)
			return 0;
	}
	ibv_close_device(dev->ctx);
	return errno = ENODEV;
}

/* The first active device with on-demand paging; of that name, if there is one. */
int odp_open_name(struct odp_dev *dev, const char *want)
{
	struct ibv_device **list;
	int i, ret = ENODEV;

	list = ibv_get_device_list(NULL);
	for (i = 0; list && list[i] && ret; i++)
		if (!want || !strcmp(want, ibv_get_device_name(list[i])))
			ret = odp_use(dev, list[i]);
	if (list)
		ibv_free_device_list(list);
	return errno = ret;
}

int odp_open(struct odp_dev *dev)
{
	return odp_open_name(dev, getenv("ODP_DEVICE"));
}

void odp_close(struct odp_dev *dev)
{
	ibv_dealloc_pd(dev->pd);
	ibv_close_device(dev->ctx);
}

static int odp_qp_create(struct odp_pair *pair, int side)
{
	struct ibv_qp_init_attr init = {
		.send_cq = pair->cq[side],
		.recv_cq = pair->cq[side],
		.srq = side == ODP_RESP ? pair->srq : NULL,
		.qp_type = pair->type,
		.sq_sig_all = 1,
		.cap = {
			.max_send_wr = QUEUE_DEPTH,
			.max_recv_wr = QUEUE_DEPTH,
			.max_send_sge = 4,
			.max_recv_sge = 4,
		},
	};

	pair->qp[side] = ibv_create_qp(pair->dev[side]->pd, &init);
	return pair->qp[side] ? 0 : errno;
}

/* The way from one device to another. */
static struct ibv_ah_attr odp_ah_attr(struct odp_dev *from, struct odp_dev *to)
{
	return (struct ibv_ah_attr) {
		.is_global = to->port.link_layer != IBV_LINK_LAYER_INFINIBAND,
		.dlid = to->port.lid,
		.port_num = 1,
		.grh = {
			.dgid = to->gid,
			.sgid_index = from->gid_index,
			.hop_limit = 64,
		},
	};
}

static int odp_to_init(struct odp_pair *pair, struct ibv_qp *qp)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.port_num = 1,
		.qkey = ODP_QKEY,
		.qp_access_flags = ODP_REMOTE,
	};
	int mask = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT;

	mask |= pair->type == IBV_QPT_UD ? IBV_QP_QKEY : IBV_QP_ACCESS_FLAGS;
	return ibv_modify_qp(qp, &attr, mask);
}

static int odp_to_rtr(struct odp_pair *pair, int side)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTR,
		.path_mtu = pair->dev[side]->port.active_mtu,
		.dest_qp_num = pair->qp[!side]->qp_num,
		.max_dest_rd_atomic = 4,
		/* 0.64 ms: shorter, and an emulated adapter does little but try again. */
		.min_rnr_timer = 12,
		.ah_attr = odp_ah_attr(pair->dev[side], pair->dev[!side]),
	};
	int mask = IBV_QP_STATE;

	if (pair->type != IBV_QPT_UD)
		mask |= IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN;
	if (pair->type == IBV_QPT_RC)
		mask |= IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER;
	return ibv_modify_qp(pair->qp[side], &attr, mask);
}

static int odp_to_rts(struct odp_pair *pair, struct ibv_qp *qp)
{
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_RTS,
		.timeout = pair->timeout,
		.retry_cnt = 7,
		.rnr_retry = pair->rnr_retry,
		.max_rd_atomic = 4,
	};
	int mask = IBV_QP_STATE | IBV_QP_SQ_PSN;

	if (pair->type == IBV_QPT_RC)
		mask |= IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
			IBV_QP_MAX_QP_RD_ATOMIC;
	return ibv_modify_qp(qp, &attr, mask);
}

static int odp_connect(struct odp_pair *pair)
{
	int side, ret = 0;

	for (side = 0; side < 2 && !ret; side++)
		ret = odp_to_init(pair, pair->qp[side]);
	for (side = 0; side < 2 && !ret; side++)
		ret = odp_to_rtr(pair, side);
	for (side = 0; side < 2 && !ret; side++)
		ret = odp_to_rts(pair, pair->qp[side]);
	return ret;
}

static int odp_create_srq(struct odp_pair *pair)
{
	struct ibv_srq_init_attr init = {
		.attr = { .max_wr = QUEUE_DEPTH, .max_sge = 4 },
	};

	pair->srq = ibv_create_srq(pair->dev[ODP_RESP]->pd, &init);
	return pair->srq ? 0 : errno;
}

static int odp_create_ah(struct odp_pair *pair)
{
	struct odp_dev *dev = pair->dev[ODP_REQ];
	struct ibv_ah_attr attr = odp_ah_attr(dev, pair->dev[ODP_RESP]);

	pair->ah = ibv_create_ah(dev->pd, &attr);
	return pair->ah ? 0 : errno;
}

static int odp_pair_make(struct odp_pair *pair, bool srq)
{
	int side, ret = 0;

	if (srq)
		ret = odp_create_srq(pair);
	if (!ret && pair->type == IBV_QPT_UD)
		ret = odp_create_ah(pair);
	for (side = 0; side < 2 && !ret; side++) {
		pair->cq[side] = ibv_create_cq(pair->dev[side]->ctx, 4 * QUEUE_DEPTH, NULL, NULL,
					       0);
		ret = pair->cq[side] ? odp_qp_create(pair, side) : errno;
	}
	if (!ret)
		ret = odp_connect(pair);
	if (ret)
		odp_pair_close(pair);
	return errno = ret;
}

/* With @srq the responder receives from a shared queue. */
int odp_pair_open(struct odp_pair *pair, struct odp_dev *dev,
		  enum ibv_qp_type type, bool srq)
{
	*pair = (struct odp_pair) { .dev = { dev, dev }, .type = type, .timeout = 18,
				    .rnr_retry = 7 };
	return odp_pair_make(pair, srq);
}

/* Of two devices, reliable. */
int odp_pair_open_between(struct odp_pair *pair, struct odp_dev *req, struct odp_dev *resp,
			  uint8_t timeout, uint8_t rnr_retry)
{
	*pair = (struct odp_pair) { .dev = { req, resp }, .type = IBV_QPT_RC, .timeout = timeout,
				    .rnr_retry = rnr_retry };
	return odp_pair_make(pair, false);
}

/* After an error: through RESET to work again, with empty queues. */
int odp_pair_reconnect(struct odp_pair *pair)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_RESET };
	struct ibv_wc wc;
	int side, ret = 0;

	for (side = 0; side < 2 && !ret; side++)
		ret = ibv_modify_qp(pair->qp[side], &attr, IBV_QP_STATE);
	for (side = 0; side < 2; side++)
		while (ibv_poll_cq(pair->cq[side], 1, &wc) > 0)
			;
	return ret ? ret : odp_connect(pair);
}

void odp_pair_close(struct odp_pair *pair)
{
	int side;

	for (side = 0; side < 2; side++) {
		if (pair->qp[side])
			ibv_destroy_qp(pair->qp[side]);
		if (pair->cq[side])
			ibv_destroy_cq(pair->cq[side]);
	}
	if (pair->ah)
		ibv_destroy_ah(pair->ah);
	if (pair->srq)
		ibv_destroy_srq(pair->srq);
}

struct ibv_sge odp_sge(const void *addr, size_t len, const struct ibv_mr *mr)
{
	return (struct ibv_sge) {
		.addr = (uintptr_t)addr,
		.length = len,
		.lkey = mr->lkey,
	};
}

int odp_post_recv(struct odp_pair *pair, struct ibv_sge *sge, int nr)
{
	struct ibv_recv_wr wr = { .sg_list = sge, .num_sge = nr }, *bad;

	if (pair->srq)
		return ibv_post_srq_recv(pair->srq, &wr, &bad);
	return ibv_post_recv(pair->qp[ODP_RESP], &wr, &bad);
}

int odp_post(struct odp_pair *pair, enum ibv_wr_opcode op, struct ibv_sge *sge,
	     int nr, uint64_t raddr, uint32_t rkey)
{
	struct ibv_send_wr wr = {
		.opcode = op,
		.sg_list = sge,
		.num_sge = nr,
		.imm_data = htonl(ODP_IMM),
	}, *bad;

	if (pair->type == IBV_QPT_UD) {
		wr.wr.ud.ah = pair->ah;
		wr.wr.ud.remote_qpn = pair->qp[ODP_RESP]->qp_num;
		wr.wr.ud.remote_qkey = ODP_QKEY;
	} else {
		wr.wr.rdma.remote_addr = raddr;
		wr.wr.rdma.rkey = rkey;
	}
	return ibv_post_send(pair->qp[ODP_REQ], &wr, &bad);
}

int odp_post_atomic(struct odp_pair *pair, enum ibv_wr_opcode op,
		    struct ibv_sge *sge, uint64_t raddr, uint32_t rkey,
		    uint64_t compare_add, uint64_t swap)
{
	struct ibv_send_wr wr = {
		.opcode = op,
		.sg_list = sge,
		.num_sge = 1,
		.wr.atomic = {
			.remote_addr = raddr,
			.rkey = rkey,
			.compare_add = compare_add,
			.swap = swap,
		},
	}, *bad;

	return ibv_post_send(pair->qp[ODP_REQ], &wr, &bad);
}

int odp_wait(struct odp_pair *pair, int side, struct ibv_wc *wc)
{
	time_t limit = time(NULL) + WAIT_SECONDS;
	int nr;

	do {
		nr = ibv_poll_cq(pair->cq[side], 1, wc);
		if (nr)
			return nr > 0 ? 0 : EIO;
		/* The device is a kernel thread on one of few CPUs. */
		sched_yield();
	} while (time(NULL) < limit);
	return errno = ETIMEDOUT;
}

int odp_rdma(struct odp_pair *pair, enum ibv_wr_opcode op, void *local,
	     struct ibv_mr *mr, size_t len, void *remote, struct ibv_mr *rmr)
{
	struct ibv_sge sge = odp_sge(local, len, mr);
	struct ibv_wc wc;
	int ret;

	ret = odp_post(pair, op, &sge, 1, (uintptr_t)remote, rmr->rkey);
	if (!ret)
		ret = odp_wait(pair, ODP_REQ, &wc);
	return ret ? -ret : (int)wc.status;
}

bool odp_is_rxe(struct ibv_context *ctx)
{
	return !strncmp(ibv_get_device_name(ctx->device), "rxe", 3);
}

static void odp_attr(struct ib_uverbs_attr *attr, uint16_t id, uint64_t data,
		     uint16_t len)
{
	attr->attr_id = id;
	attr->len = len;
	attr->flags = UVERBS_ATTR_F_MANDATORY;
	attr->data = data;
}

static int odp_advise_rxe(struct ibv_pd *pd, uint32_t advice, uint32_t flags,
			  const struct ibv_sge *sge, int nr)
{
	struct {
		struct ib_uverbs_ioctl_hdr hdr;
		struct ib_uverbs_attr attrs[4];
	} cmd = {
		.hdr = {
			.length = sizeof(cmd),
			.object_id = UVERBS_OBJECT_MR,
			.method_id = UVERBS_METHOD_ADVISE_MR,
			.num_attrs = 4,
			.driver_id = RDMA_DRIVER_RXE,
		},
	};

	odp_attr(&cmd.attrs[0], UVERBS_ATTR_ADVISE_MR_PD_HANDLE, pd->handle, 0);
	odp_attr(&cmd.attrs[1], UVERBS_ATTR_ADVISE_MR_ADVICE, advice, 0);
	cmd.attrs[1].len = sizeof(uint64_t);
	odp_attr(&cmd.attrs[2], UVERBS_ATTR_ADVISE_MR_FLAGS, flags, sizeof(flags));
	odp_attr(&cmd.attrs[3], UVERBS_ATTR_ADVISE_MR_SGE_LIST, (uintptr_t)sge,
		 nr * sizeof(*sge));
	return ioctl(pd->context->cmd_fd, RDMA_VERBS_IOCTL, &cmd) ? errno : 0;
}

int odp_destroy_qp(struct ibv_qp *qp)
{
	struct ib_uverbs_destroy_qp_resp resp;
	struct {
		struct ib_uverbs_ioctl_hdr hdr;
		struct ib_uverbs_attr attrs[2];
	} cmd = {
		.hdr = {
			.length = sizeof(cmd),
			.object_id = UVERBS_OBJECT_QP,
			.method_id = UVERBS_METHOD_QP_DESTROY,
			.num_attrs = 2,
			.driver_id = odp_is_rxe(qp->context) ? RDMA_DRIVER_RXE : RDMA_DRIVER_MLX5,
		},
	};

	odp_attr(&cmd.attrs[0], UVERBS_ATTR_DESTROY_QP_HANDLE, qp->handle, 0);
	odp_attr(&cmd.attrs[1], UVERBS_ATTR_DESTROY_QP_RESP, (uintptr_t)&resp, sizeof(resp));
	return ioctl(qp->context->cmd_fd, RDMA_VERBS_IOCTL, &cmd) ? errno : 0;
}

int odp_advise(struct ibv_pd *pd, uint32_t advice, uint32_t flags,
	       struct ibv_sge *sge, int nr)
{
	if (odp_is_rxe(pd->context))
		return odp_advise_rxe(pd, advice, flags, sge, nr);
	return ibv_advise_mr(pd, advice, flags, sge, nr);
}

int odp_rereg(struct ibv_mr *mr, int flags, struct ibv_pd *pd, void *addr, size_t length,
	      int access)
{
	struct ib_uverbs_rereg_mr_resp resp;
	struct {
		struct ib_uverbs_cmd_hdr hdr;
		struct ib_uverbs_rereg_mr rereg;
	} cmd = {
		.hdr = {
			.command = IB_USER_VERBS_CMD_REREG_MR,
			.in_words = sizeof(cmd) / 4,
			.out_words = sizeof(resp) / 4,
		},
		.rereg = {
			.response = (uintptr_t)&resp,
			.mr_handle = mr->handle,
			.flags = flags,
			.start = (uintptr_t)addr,
			.length = length,
			.hca_va = (uintptr_t)addr,
			.pd_handle = pd ? pd->handle : 0,
			.access_flags = access,
		},
	};

	if (write(mr->context->cmd_fd, &cmd, sizeof(cmd)) != sizeof(cmd))
		return errno;
	mr->lkey = resp.lkey;
	mr->rkey = resp.rkey;
	return 0;
}

/* Anonymous memory that begins where a chunk does. */
void *odp_map(size_t len)
{
	char *mem = mmap(NULL, len + ODP_CHUNK, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *start;

	if (mem == MAP_FAILED)
		return MAP_FAILED;
	start = (char *)(((uintptr_t)mem + ODP_CHUNK - 1) & ~(ODP_CHUNK - 1));
	if (start > mem)
		munmap(mem, start - mem);
	if (start < mem + ODP_CHUNK)
		munmap(start + len, mem + ODP_CHUNK - start);
	return start;
}

static uint64_t odp_word(uint64_t seed, uint64_t index)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15ULL + index + 1;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

void odp_fill(void *mem, size_t len, uint64_t seed)
{
	uint64_t word;
	size_t i;

	for (i = 0; i < len; i += sizeof(word)) {
		word = odp_word(seed, i / sizeof(word));
		memcpy((char *)mem + i, &word, len - i < sizeof(word) ? len - i : sizeof(word));
	}
}

/* How many bytes from the start on are what odp_fill() put there. */
size_t odp_same(const void *mem, size_t len, uint64_t seed)
{
	const uint8_t *p = mem;
	uint64_t word;
	size_t i, j;

	for (i = 0; i < len; i += sizeof(word)) {
		word = odp_word(seed, i / sizeof(word));
		if (len - i >= sizeof(word) && !memcmp(p + i, &word, sizeof(word)))
			continue;
		for (j = 0; j < sizeof(word) && i + j < len; j++)
			if (p[i + j] != ((uint8_t *)&word)[j])
				return i + j;
	}
	return len;
}

size_t odp_same_byte(const void *mem, size_t len, int byte)
{
	const uint8_t *p = mem;
	size_t i;

	for (i = 0; i < len; i++)
		if (p[i] != (uint8_t)byte)
			break;
	return i;
}
