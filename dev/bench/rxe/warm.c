// SPDX-License-Identifier: GPL-2.0
/*
 * warm: instructions of a message of rxe in memory that is there, pinned and paged.
 *
 * Runs in a guest with one CPU whose clock counts instructions. A loopback connection's
 * work is done by kernel threads of the same CPU, and the program sleeps meanwhile; so a
 * tick is an instruction of the message, or of the scheduler. Which thread runs first
 * decides how often it switches, 5,000 instructions or so each time, and that changes from
 * round to round with the threads' past. The program runs as soon as it can, and rounds of
 * the two kinds of memory take turns; the reader of the results takes the least of each.
 */
#include <infiniband/verbs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <x86intrin.h>

#include "../../lib/rc_connect.h"

#define PAGE	4096UL
#define MIB	(1UL << 20)
#define ACCESS	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE)
#define ROUNDS	15

static const struct {
	const char *name;
	enum ibv_wr_opcode op;
} kinds[] = {
	{ "send", IBV_WR_SEND },
	{ "write", IBV_WR_RDMA_WRITE },
	{ "read", IBV_WR_RDMA_READ },
};

static const size_t sizes[] = { 64, PAGE, MIB };
static struct ibv_pd *pd;
static struct ibv_comp_channel *channel;
static struct ibv_cq *cq;
static struct ibv_qp *qp[2];
static char *mem[2];

static void check(int good, const char *what)
{
	if (!good) {
		perror(what);
		exit(1);
	}
}

static void open_qps(struct ibv_context *ctx)
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

	check(!ibv_query_gid(ctx, 1, path.grh.sgid_index, &path.grh.dgid), "ibv_query_gid");
	pd = ibv_alloc_pd(ctx);
	channel = ibv_create_comp_channel(ctx);
	cq = ibv_create_cq(ctx, 64, NULL, channel, 0);
	check(pd && channel && cq, "no domain or completion queue");
	init.send_cq = init.recv_cq = cq;
	for (i = 0; i < 2; i++) {
		qp[i] = ibv_create_qp(pd, &init);
		check(!!qp[i], "ibv_create_qp");
	}
	for (i = 0; i < 2; i++) {
		failed = rc_connect(qp[i], qp[!i]->qp_num, &path, ACCESS);
		check(!failed, failed);
	}
}

static void await(int nr)
{
	struct ibv_cq *from;
	struct ibv_wc wc;
	void *context;
	int found;

	while (nr) {
		check(!ibv_req_notify_cq(cq, 0), "ibv_req_notify_cq");
		for (; nr && (found = ibv_poll_cq(cq, 1, &wc)) > 0; nr--)
			check(wc.status == IBV_WC_SUCCESS, ibv_wc_status_str(wc.status));
		if (!nr)
			break;
		check(!ibv_get_cq_event(channel, &from, &context), "ibv_get_cq_event");
		ibv_ack_cq_events(from, 1);
	}
}

static void message(int kind, size_t size, struct ibv_mr **mr)
{
	struct ibv_sge from = { (uintptr_t)mem[0], size, mr[0]->lkey };
	struct ibv_sge into = { (uintptr_t)mem[1], size, mr[1]->lkey };
	struct ibv_recv_wr recv = { .sg_list = &into, .num_sge = 1 }, *bad_recv;
	struct ibv_send_wr *bad, wr = {
		.opcode = kinds[kind].op,
		.send_flags = IBV_SEND_SIGNALED,
		.sg_list = &from,
		.num_sge = 1,
		.wr.rdma = { (uintptr_t)mem[1], mr[1]->rkey },
	};
	int receives = wr.opcode == IBV_WR_SEND;

	if (receives)
		check(!ibv_post_recv(qp[1], &recv, &bad_recv), "ibv_post_recv");
	check(!ibv_post_send(qp[0], &wr, &bad), "ibv_post_send");
	await(1 + receives);
}

static void measure(int kind, size_t size, const char *how, struct ibv_mr **mr, int round)
{
	int messages = size == MIB ? 2 : 100, i;
	unsigned long start;

	memset(mem[0], round + 1, size);
	memset(mem[1], 0x80 | round, size);
	message(kind, size, mr);
	check(!memcmp(mem[0], mem[1], size), "a message is not what was sent");
	start = __rdtsc();
	for (i = 0; i < messages; i++)
		message(kind, size, mr);
	printf("rxe.%s.%zu.%s.%d %.3f\n", kinds[kind].name, size, how, round,
	       (__rdtsc() - start) / (double)messages);
}

static void register_both(struct ibv_mr **mr, int access)
{
	int i;

	for (i = 0; i < 2; i++) {
		mr[i] = ibv_reg_mr(pd, mem[i], MIB, ACCESS | access);
		check(!!mr[i], "ibv_reg_mr");
	}
}

static void measure_all(void)
{
	struct ibv_mr *pinned[2], *paged[2];
	size_t i, j;
	int round;

	register_both(pinned, 0);
	register_both(paged, IBV_ACCESS_ON_DEMAND);
	for (i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		for (j = 0; j < sizeof(sizes) / sizeof(*sizes); j++) {
			for (round = 0; round < ROUNDS; round++) {
				measure(i, sizes[j], "pinned", pinned, round);
				measure(i, sizes[j], "paged", paged, round);
			}
		}
	}
	for (i = 0; i < 2; i++)
		check(!ibv_dereg_mr(pinned[i]) && !ibv_dereg_mr(paged[i]), "ibv_dereg_mr");
}

int main(void)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	struct sched_param priority = { .sched_priority = 1 };
	struct ibv_context *ctx;
	int i;

	check(!sched_setscheduler(0, SCHED_FIFO, &priority), "sched_setscheduler");
	check(list && *list, "there is no RDMA device");
	ctx = ibv_open_device(*list);
	check(!!ctx, "ibv_open_device");
	open_qps(ctx);
	for (i = 0; i < 2; i++) {
		mem[i] = mmap(NULL, MIB, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		check(mem[i] != MAP_FAILED, "mmap");
	}
	measure_all();
	return 0;
}
