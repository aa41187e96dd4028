// SPDX-License-Identifier: GPL-2.0
/*
 * Connections, regions, and pages written and read over them.
 */
#include <string.h>

#include "../../lib/rc_connect.h"
#include "bench.h"

#define DEPTH	(2 * SLOTS)
#define SGES	64

void lane_open(struct bench *b, struct lane *lane)
{
	struct ibv_qp_init_attr init = {
		.qp_type = IBV_QPT_RC,
		.cap = { .max_send_wr = DEPTH, .max_recv_wr = DEPTH, .max_send_sge = 1,
			 .max_recv_sge = 1 },
	};
	struct ibv_ah_attr path = { .dlid = b->lid, .port_num = 1 };
	const char *failed;
	int i;

	lane->channel = ibv_create_comp_channel(b->ctx);
	if (!lane->channel)
		die("ibv_create_comp_channel: %m");
	lane->cq = ibv_create_cq(b->ctx, 4 * DEPTH, NULL, lane->channel, 0);
	if (!lane->cq)
		die("ibv_create_cq: %m");
	init.send_cq = lane->cq;
	init.recv_cq = lane->cq;
	for (i = 0; i < 2; i++) {
		lane->qp[i] = ibv_create_qp(b->pd, &init);
		if (!lane->qp[i])
			die("ibv_create_qp: %m");
	}
	for (i = 0; i < 2; i++) {
		failed = rc_connect(lane->qp[i], lane->qp[!i]->qp_num, &path, ACCESS);
		if (failed)
			die("%s", failed);
	}
}

void lane_post(struct lane *lane, int end, struct ibv_send_wr *wr)
{
	struct ibv_send_wr *bad;

	if (ibv_post_send(lane->qp[end], wr, &bad))
		die("ibv_post_send");
}

static void await_event(struct lane *lane)
{
	struct ibv_cq *cq;
	void *context;

	if (ibv_get_cq_event(lane->channel, &cq, &context))
		die("ibv_get_cq_event: %m");
	ibv_ack_cq_events(cq, 1);
}

/* Until there are so many completions: asleep, if they are not there yet. */
void lane_wait(struct lane *lane, int nr)
{
	bool armed = false;
	struct ibv_wc wc;
	int found;

	while (nr) {
		found = ibv_poll_cq(lane->cq, 1, &wc);
		if (found < 0)
			die("ibv_poll_cq");
		if (found && wc.status)
			die("a completion says: %s", ibv_wc_status_str(wc.status));
		nr -= found;
		if (found)
			continue;
		if (armed)
			await_event(lane);
		else if (ibv_req_notify_cq(lane->cq, 0))
			die("ibv_req_notify_cq");
		/* One more look between arming and sleeping. */
		armed = !armed;
	}
}

/* Where the page at an offset is sent from, or read to. */
char *buffer_slot(struct bench *b, size_t offset, bool read)
{
	return b->buffer + (offset / PAGE % SLOTS + (read ? SLOTS : 0)) * PAGE;
}

/*
 * Write (or read) pages of @r, each at its offset, with one completion for all.
 * A page's place in the pinned buffer follows from its offset.
 */
void lane_pages(struct bench *b, struct lane *lane, enum ibv_wr_opcode op,
		const struct region *r, const size_t *offsets, unsigned int nr)
{
	struct ibv_send_wr wr[SLOTS];
	struct ibv_sge sge[SLOTS];
	unsigned int i;

	for (i = 0; i < nr; i++) {
		char *mine = buffer_slot(b, offsets[i], op == IBV_WR_RDMA_READ);

		sge[i] = (struct ibv_sge) { (uintptr_t)mine, PAGE, b->buffer_mr->lkey };
		wr[i] = (struct ibv_send_wr) {
			.next = i + 1 < nr ? &wr[i + 1] : NULL, .opcode = op,
			.send_flags = i + 1 < nr ? 0 : IBV_SEND_SIGNALED,
			.sg_list = &sge[i], .num_sge = 1,
			.wr.rdma = { (uintptr_t)r->mem + offsets[i], r->mr->rkey },
		};
	}
	lane_post(lane, 0, wr);
	lane_wait(lane, 1);
}

void check_written(struct bench *b, const struct region *r, const size_t *offsets,
		   unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (memcmp(r->mem + offsets[i], buffer_slot(b, offsets[i], false), PAGE))
			die("the page at %#zx is not what was written", offsets[i]);
}

/* Read pages over RDMA and compare; how many faults that may cost is the caller's. */
void check_read(struct bench *b, const struct region *r, const size_t *offsets,
		unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		memset(buffer_slot(b, offsets[i], true), 0xa5, PAGE);
		lane_pages(b, &b->lane, IBV_WR_RDMA_READ, r, &offsets[i], 1);
		if (memcmp(r->mem + offsets[i], buffer_slot(b, offsets[i], true), PAGE))
			die("the page at %#zx was not read as it is", offsets[i]);
	}
}

void region_register(struct bench *b, struct region *r, bool on_demand)
{
	r->mr = ibv_reg_mr(b->pd, r->mem, r->len,
			   ACCESS | (on_demand ? IBV_ACCESS_ON_DEMAND : 0));
	if (!r->mr)
		die("registration of %zu MiB: %m", r->len / MIB);
}

void region_deregister(struct region *r)
{
	if (ibv_dereg_mr(r->mr))
		die("ibv_dereg_mr");
	r->mr = NULL;
}

static void advise(struct bench *b, struct ibv_sge *list, unsigned int nr)
{
	int ret = ibv_advise_mr(b->pd, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE,
				IBV_ADVISE_MR_FLAG_FLUSH, list, nr);

	if (ret)
		die("ibv_advise_mr: %s", strerror(ret));
}

/* Map the first @len bytes for the device, or of each @stride only a page. */
void region_prefetch(struct bench *b, const struct region *r, size_t len, size_t stride)
{
	size_t step = stride > PAGE ? stride : PIECE, size = stride > PAGE ? PAGE : PIECE;
	struct ibv_sge list[SGES];
	unsigned int nr = 0;
	size_t at;

	for (at = 0; at < len; at += step) {
		list[nr++] = (struct ibv_sge) { (uintptr_t)r->mem + at,
						size < len - at ? size : len - at, r->mr->lkey };
		if (nr == SGES || at + step >= len) {
			advise(b, list, nr);
			nr = 0;
		}
	}
}

static void fill_buffer(struct bench *b)
{
	struct region pinned = region_map(2 * SLOTS * PAGE, SMALL_PAGES);
	uint64_t *words = (uint64_t *)pinned.mem;
	size_t i;

	for (i = 0; i < pinned.len / 8; i++)
		words[i] = (i + 1) * 0x9e3779b97f4a7c15;
	region_register(b, &pinned, false);
	b->buffer = pinned.mem;
	b->buffer_mr = pinned.mr;
}

void bench_open(struct bench *b)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_port_attr port;

	if (!list || !list[0])
		die("no RDMA device");
	b->ctx = ibv_open_device(list[0]);
	if (!b->ctx || strcmp(ibv_get_device_name(list[0]), "mlx5_0"))
		die("mlx5_0 does not open");
	ibv_free_device_list(list);
	if (ibv_query_port(b->ctx, 1, &port))
		die("ibv_query_port");
	b->lid = port.lid;
	b->pd = ibv_alloc_pd(b->ctx);
	if (!b->pd)
		die("ibv_alloc_pd");
	fill_buffer(b);
	lane_open(b, &b->lane);
}
