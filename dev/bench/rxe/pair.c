// SPDX-License-Identifier: GPL-2.0
#include <stdio.h>
#include <stdlib.h>

#include "../../lib/rc_connect.h"
#include "pair.h"

void check(int good, const char *what)
{
	if (!good) {
		perror(what);
		exit(1);
	}
}

/* A protection domain of the first device. */
struct ibv_pd *device_open(void)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct ibv_context *ctx;
	struct ibv_pd *pd;

	check(list && *list, "there is no RDMA device");
	ctx = ibv_open_device(*list);
	check(!!ctx, "ibv_open_device");
	pd = ibv_alloc_pd(ctx);
	check(!!pd, "ibv_alloc_pd");
	return pd;
}

void pair_open(struct pair *pair, struct ibv_pd *pd)
{
	struct ibv_ah_attr path = { .port_num = 1, .is_global = 1,
				    .grh = { .sgid_index = 1, .hop_limit = 1 } };
	struct ibv_qp_init_attr init = {
		.qp_type = IBV_QPT_RC,
		.cap = { .max_send_wr = 8, .max_recv_wr = 8, .max_send_sge = 1,
			 .max_recv_sge = 1 },
	};
	const char *failed;
	int i;

	check(!ibv_query_gid(pd->context, 1, path.grh.sgid_index, &path.grh.dgid),
	      "ibv_query_gid");
	pair->channel = ibv_create_comp_channel(pd->context);
	pair->cq = ibv_create_cq(pd->context, 64, NULL, pair->channel, 0);
	check(pair->channel && pair->cq, "no completion queue");
	init.send_cq = init.recv_cq = pair->cq;
	for (i = 0; i < 2; i++) {
		pair->qp[i] = ibv_create_qp(pd, &init);
		check(!!pair->qp[i], "ibv_create_qp");
	}
	for (i = 0; i < 2; i++) {
		failed = rc_connect(pair->qp[i], pair->qp[!i]->qp_num, &path, ACCESS);
		check(!failed, failed);
	}
}

static void await(struct pair *pair, int nr)
{
	struct ibv_cq *from;
	struct ibv_wc wc;
	void *context;
	int found;

	while (nr) {
		check(!ibv_req_notify_cq(pair->cq, 0), "ibv_req_notify_cq");
		for (; nr && (found = ibv_poll_cq(pair->cq, 1, &wc)) > 0; nr--)
			check(wc.status == IBV_WC_SUCCESS, ibv_wc_status_str(wc.status));
		if (!nr)
			break;
		check(!ibv_get_cq_event(pair->channel, &from, &context), "ibv_get_cq_event");
		ibv_ack_cq_events(from, 1);
	}
}

/* Waits for it, asleep. */
void pair_message(struct pair *pair, enum ibv_wr_opcode op, size_t size,
		  const struct part *local, const struct part *remote)
{
	struct ibv_sge from = { (uintptr_t)local->mem, size, local->mr->lkey };
	struct ibv_sge into = { (uintptr_t)remote->mem, size, remote->mr->lkey };
	struct ibv_recv_wr recv = { .sg_list = &into, .num_sge = 1 }, *bad_recv;
	struct ibv_send_wr *bad, wr = {
		.opcode = op,
		.send_flags = IBV_SEND_SIGNALED,
		.sg_list = &from,
		.num_sge = 1,
		.wr.rdma = { (uintptr_t)remote->mem, remote->mr->rkey },
	};
	int receives = op == IBV_WR_SEND;

	if (receives)
		check(!ibv_post_recv(pair->qp[1], &recv, &bad_recv), "ibv_post_recv");
	check(!ibv_post_send(pair->qp[0], &wr, &bad), "ibv_post_send");
	await(pair, 1 + receives);
}
