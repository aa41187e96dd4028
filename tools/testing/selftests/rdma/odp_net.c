// SPDX-License-Identifier: GPL-2.0
/*
 * Two rxe devices and a wire that loses, repeats, reorders and delays packets, while their
 * pages come and go: what arrives is what was sent, and no queue pair ends with an error.
 *
 * The wire is a pair of veth devices in one namespace, as rxe knows no other: addresses of
 * this machine are looked up as such only for packets that come from the wire.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <pthread.h>
#include <sys/mman.h>

#include "odp_loop.h"

#include "../kselftest_harness.h"

#define PAGE	4096UL
#define LEN	(2 * ODP_CHUNK)
/* 4.096 us * 2^14 is 67 ms, so that what is lost is soon sent again. */
#define TIMEOUT	14
#define ROUNDS	12
#define NR_QPS	16

static const char *const make_wire[] = {
	"ip link add odp0 type veth peer name odp1",
	"ip rule add pref 1 iif odp0 lookup local",
	"ip rule add pref 1 iif odp1 lookup local",
	"ip rule add pref 2 to 198.51.100.1 lookup 101",
	"ip rule add pref 2 to 198.51.100.2 lookup 102",
	"ip rule add pref 3 lookup local",
	"ip rule del pref 0",
	"ip addr add 198.51.100.1/24 dev odp0",
	"ip addr add 198.51.100.2/24 dev odp1",
	"ip link set odp0 up",
	"ip link set odp1 up",
	"for i in odp0 odp1; do echo 1 >/proc/sys/net/ipv4/conf/$i/accept_local; done",
	"for i in odp0 odp1 all; do echo 0 >/proc/sys/net/ipv4/conf/$i/rp_filter; done",
	"ip route add 198.51.100.1 dev odp1 table 101",
	"ip route add 198.51.100.2 dev odp0 table 102",
	"rdma link add rxe_odp0 type rxe netdev odp0",
	"rdma link add rxe_odp1 type rxe netdev odp1",
};

static const char *const remove_wire[] = {
	"rdma link delete rxe_odp0",
	"rdma link delete rxe_odp1",
	"ip rule add pref 0 lookup local",
	"for i in 1 1 2 2 3; do ip rule del pref $i; done",
	"ip link del odp0",
};

FIXTURE(net) {
	struct odp_dev dev[2];
	struct odp_pair pair;
	struct ibv_mr *mr[2];
	char *mem[2];
};

FIXTURE_VARIANT(net) {
	const char *netem;
};

FIXTURE_VARIANT_ADD(net, loss) {
	.netem = "loss 1%",
};

FIXTURE_VARIANT_ADD(net, reordering) {
	.netem = "delay 2ms reorder 75% 50%",
};

FIXTURE_VARIANT_ADD(net, delay) {
	.netem = "delay 5ms",
};

FIXTURE_VARIANT_ADD(net, all_of_it) {
	.netem = "delay 1ms 1ms loss 1% duplicate 2% reorder 90% 50%",
};

/* All of them; how many failed. */
static int shell(const char *const *commands, int nr)
{
	int i, failed = 0;

	for (i = 0; i < nr; i++) {
		if (!system(commands[i]))
			continue;
		ksft_print_msg("failed: %s\n", commands[i]);
		failed++;
	}
	return failed;
}

static int disturb(const char *netem)
{
	char command[128];
	int side, ret = 0;

	for (side = 0; side < 2; side++) {
		snprintf(command, sizeof(command), "tc qdisc replace dev odp%d root netem %s", side,
			 netem);
		ret |= system(command);
	}
	return ret;
}

FIXTURE_SETUP(net)
{
	static const char *const names[] = { "rxe_odp0", "rxe_odp1" };
	int side;

	ASSERT_EQ(0, disturb(variant->netem));
	for (side = 0; side < 2; side++) {
		ASSERT_EQ(0, odp_open_name(&self->dev[side], names[side]));
		self->mem[side] = odp_map(LEN);
		ASSERT_NE(MAP_FAILED, (void *)self->mem[side]);
		self->mr[side] = ibv_reg_mr(self->dev[side].pd, self->mem[side], LEN, ODP_PAGED);
		ASSERT_NE(NULL, self->mr[side]);
	}
	ASSERT_EQ(0, odp_pair_open_between(&self->pair, &self->dev[0], &self->dev[1], TIMEOUT, 7));
}

FIXTURE_TEARDOWN(net)
{
	int side;

	odp_pair_close(&self->pair);
	for (side = 0; side < 2; side++) {
		EXPECT_EQ(0, ibv_dereg_mr(self->mr[side]));
		odp_close(&self->dev[side]);
	}
}

static int transfer(FIXTURE_DATA(net) *self, enum ibv_wr_opcode op, size_t at, size_t len)
{
	return odp_rdma(&self->pair, op, self->mem[ODP_REQ] + at, self->mr[ODP_REQ], len,
			self->mem[ODP_RESP] + at, self->mr[ODP_RESP]);
}

static void discard(FIXTURE_DATA(net) *self, int side)
{
	madvise(self->mem[side], LEN, MADV_DONTNEED);
}

static void send_and_check(struct __test_metadata *_metadata, FIXTURE_DATA(net) *self, size_t len,
			   int round)
{
	struct ibv_sge from = odp_sge(self->mem[ODP_REQ] + 13, len, self->mr[ODP_REQ]);
	struct ibv_sge to = odp_sge(self->mem[ODP_RESP] + 7, len, self->mr[ODP_RESP]);
	struct ibv_wc wc;
	int side;

	odp_fill(self->mem[ODP_REQ] + 13, len, round);
	discard(self, ODP_RESP);
	ASSERT_EQ(0, odp_post_recv(&self->pair, &to, 1));
	ASSERT_EQ(0, odp_post(&self->pair, IBV_WR_SEND, &from, 1, 0, 0));
	for (side = 0; side < 2; side++) {
		ASSERT_EQ(0, odp_wait(&self->pair, side, &wc));
		ASSERT_EQ(IBV_WC_SUCCESS, wc.status);
	}
	EXPECT_EQ(len, odp_same(self->mem[ODP_RESP] + 7, len, round));
}

static void write_and_check(struct __test_metadata *_metadata, FIXTURE_DATA(net) *self, size_t len,
			    int round)
{
	odp_fill(self->mem[ODP_REQ] + 5, len, round);
	discard(self, ODP_RESP);
	ASSERT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_WRITE, 5, len));
	EXPECT_EQ(len, odp_same(self->mem[ODP_RESP] + 5, len, round));
}

static void read_and_check(struct __test_metadata *_metadata, FIXTURE_DATA(net) *self, size_t len,
			   int round)
{
	discard(self, ODP_REQ);
	odp_fill(self->mem[ODP_RESP] + 9, len, round);
	ASSERT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_READ, 9, len));
	EXPECT_EQ(len, odp_same(self->mem[ODP_REQ] + 9, len, round));
}

TEST_F_TIMEOUT(net, messages_arrive_while_their_pages_go, 120)
{
	static const size_t lens[] = { 64, PAGE, 3 * PAGE + 1, 256 * 1024 };
	int round;

	for (round = 0; round < ROUNDS; round++) {
		size_t len = lens[round % 4];

		send_and_check(_metadata, self, len, 3 * round);
		write_and_check(_metadata, self, len, 3 * round + 1);
		read_and_check(_metadata, self, len, 3 * round + 2);
	}
}

/* Memory that neither end has touched: both fault for one message. */
TEST_F_TIMEOUT(net, both_ends_touch_first, 60)
{
	ASSERT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_WRITE, 0, 64 * PAGE));
	ASSERT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_READ, ODP_CHUNK, 64 * PAGE));
	EXPECT_EQ(LEN, odp_same_byte(self->mem[ODP_REQ], LEN, 0));
	EXPECT_EQ(LEN, odp_same_byte(self->mem[ODP_RESP], LEN, 0));
}

TEST_F_TIMEOUT(net, reads_above_1_mib_are_exact, 120)
{
	read_and_check(_metadata, self, ODP_CHUNK + 3 * PAGE + 11, 1);
}

TEST_F_TIMEOUT(net, atomic_is_done_once, 60)
{
	struct ibv_sge result = odp_sge(self->mem[ODP_REQ], 8, self->mr[ODP_REQ]);
	uint64_t *at = (uint64_t *)self->mem[ODP_RESP];
	struct ibv_wc wc;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		ASSERT_EQ(0, odp_post_atomic(&self->pair, IBV_WR_ATOMIC_FETCH_AND_ADD, &result,
					     (uintptr_t)at, self->mr[ODP_RESP]->rkey, 1, 0));
		ASSERT_EQ(0, odp_wait(&self->pair, ODP_REQ, &wc));
		ASSERT_EQ(IBV_WC_SUCCESS, wc.status);
		EXPECT_EQ(i, *(uint64_t *)self->mem[ODP_REQ]);
	}
	EXPECT_EQ(ROUNDS, *at);
}

/* All of them fault for the same page at once. */
TEST_F_TIMEOUT(net, many_queue_pairs_use_one_page, 120)
{
	struct odp_pair pairs[NR_QPS];
	struct ibv_sge from;
	struct ibv_wc wc;
	int i, round;

	for (i = 0; i < NR_QPS; i++)
		ASSERT_EQ(0, odp_pair_open_between(&pairs[i], &self->dev[0], &self->dev[1],
						   TIMEOUT, 7));
	for (round = 1; round < 5; round++) {
		memset(self->mem[ODP_REQ], round, PAGE);
		discard(self, ODP_RESP);
		for (i = 0; i < NR_QPS; i++) {
			from = odp_sge(self->mem[ODP_REQ], 256, self->mr[ODP_REQ]);
			ASSERT_EQ(0, odp_post(&pairs[i], IBV_WR_RDMA_WRITE, &from, 1,
					      (uintptr_t)self->mem[ODP_RESP] + 256 * i,
					      self->mr[ODP_RESP]->rkey));
		}
		for (i = 0; i < NR_QPS; i++) {
			ASSERT_EQ(0, odp_wait(&pairs[i], ODP_REQ, &wc));
			EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
		}
		EXPECT_EQ(PAGE, odp_same_byte(self->mem[ODP_RESP], PAGE, round));
	}
	for (i = 0; i < NR_QPS; i++)
		odp_pair_close(&pairs[i]);
}

/* rxe's responder waits for its pages and never says that it is not ready. */
TEST_F_TIMEOUT(net, faults_do_not_use_up_retries, 60)
{
	struct odp_pair pair;
	int i, status;

	ASSERT_EQ(0, odp_pair_open_between(&pair, &self->dev[0], &self->dev[1], TIMEOUT, 0));
	memset(self->mem[ODP_REQ], 3, LEN);
	for (i = 0; i < 16; i++) {
		discard(self, ODP_RESP);
		status = odp_rdma(&pair, IBV_WR_RDMA_WRITE, self->mem[ODP_REQ], self->mr[ODP_REQ],
				  16 * PAGE, self->mem[ODP_RESP], self->mr[ODP_RESP]);
		ASSERT_EQ(IBV_WC_SUCCESS, status);
		EXPECT_EQ(16 * PAGE, odp_same_byte(self->mem[ODP_RESP], 16 * PAGE, 3));
	}
	odp_pair_close(&pair);
}

/* One wire for all tests, so that it outlives one that is killed. */
int main(int argc, char **argv)
{
	int ret;

	if (system("command -v tc rdma ip >/dev/null"))
		ksft_exit_skip("ip, tc and rdma of iproute2 are needed\n");
	if (shell(make_wire, ARRAY_SIZE(make_wire)))
		return KSFT_FAIL;
	ret = test_harness_run(argc, argv);
	if (shell(remove_wire, ARRAY_SIZE(remove_wire)))
		return KSFT_FAIL;
	return ret;
}
