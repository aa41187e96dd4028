// SPDX-License-Identifier: GPL-2.0
/*
 * Traffic that goes on while its memory is taken away: by deregistration,
 * unmapping, reclaim, fork and the end of the process.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "odp_loop.h"

#include "../kselftest_harness.h"

#define PAGE	4096UL
#define AREA	(2 * ODP_CHUNK)
#define FIRST	(ODP_CHUNK - 8 * PAGE + 5)
#define LEN	(16 * PAGE)
#define ROUNDS	20
#define ENOUGH	8	/* transfers before something happens */

/* Two QPs, a paged and a pinned region, and a thread that uses them. */
struct traffic {
	struct odp_dev dev;
	struct odp_pair pair;
	struct ibv_mr *mr, *pinned_mr;
	char *mem, *pinned;
	pthread_t thread;
	atomic_int done, stop;
	int status;		/* of the transfer that failed */
	bool verify;		/* read each one back */
	bool differs;
};

static int traffic_open(struct traffic *t)
{
	int ret = odp_open(&t->dev);

	if (!ret)
		ret = odp_pair_open(&t->pair, &t->dev, IBV_QPT_RC, false);
	if (ret)
		return ret;
	t->mem = odp_map(AREA);
	t->pinned = odp_map(LEN);
	t->mr = ibv_reg_mr(t->dev.pd, t->mem, AREA, ODP_PAGED);
	t->pinned_mr = ibv_reg_mr(t->dev.pd, t->pinned, LEN, ODP_REMOTE);
	return t->mr && t->pinned_mr ? 0 : errno;
}

static void traffic_close(struct traffic *t)
{
	ibv_dereg_mr(t->mr);
	ibv_dereg_mr(t->pinned_mr);
	odp_pair_close(&t->pair);
	odp_close(&t->dev);
}

static int transfer(struct traffic *t, enum ibv_wr_opcode op, uint32_t rkey)
{
	struct ibv_mr region = { .rkey = rkey };

	return odp_rdma(&t->pair, op, t->pinned, t->pinned_mr, LEN, t->mem + FIRST,
			&region);
}

static void *traffic_run(void *arg)
{
	uint32_t rkey = ((struct traffic *)arg)->mr->rkey;
	struct traffic *t = arg;
	uint64_t seed = 0;

	t->status = 0;
	while (!t->status && !t->stop) {
		odp_fill(t->pinned, LEN, ++seed);
		t->status = transfer(t, IBV_WR_RDMA_WRITE, rkey);
		if (!t->status && t->verify) {
			memset(t->pinned, 0, LEN);
			t->status = transfer(t, IBV_WR_RDMA_READ, rkey);
			t->differs |= odp_same(t->pinned, LEN, seed) != LEN;
		}
		t->done++;
	}
	return NULL;
}

static int traffic_start(struct traffic *t)
{
	t->done = 0;
	t->stop = 0;
	return pthread_create(&t->thread, NULL, traffic_run, t);
}

/* Until @nr more transfers were made, or it failed. */
static void traffic_wait(struct traffic *t, int nr)
{
	int until = t->done + nr;

	while (t->done < until && !t->status)
		sched_yield();
}

static int traffic_stop(struct traffic *t)
{
	t->stop = 1;
	return pthread_join(t->thread, NULL);
}

FIXTURE(race) {
	struct traffic t;
};

FIXTURE_SETUP(race)
{
	ASSERT_EQ(0, traffic_open(&self->t));
}

FIXTURE_TEARDOWN(race)
{
	traffic_close(&self->t);
}

TEST_F_TIMEOUT(race, nothing_is_written_after_deregistration, 120)
{
	struct traffic *t = &self->t;
	char *after = malloc(AREA);
	int round;

	ASSERT_NE(NULL, after);
	for (round = 0; round < ROUNDS; round++) {
		ASSERT_EQ(0, traffic_start(t));
		traffic_wait(t, ENOUGH);
		ASSERT_EQ(0, ibv_dereg_mr(t->mr));
		memcpy(after, t->mem, AREA);
		ASSERT_EQ(0, pthread_join(t->thread, NULL));
		ASSERT_EQ(IBV_WC_REM_ACCESS_ERR, t->status);
		ASSERT_EQ(0, memcmp(after, t->mem, AREA));
		t->mr = ibv_reg_mr(t->dev.pd, t->mem, AREA, ODP_PAGED);
		ASSERT_NE(NULL, t->mr);
		ASSERT_EQ(0, odp_pair_reconnect(&t->pair));
	}
	free(after);
}

TEST_F_TIMEOUT(race, unmapping_ends_traffic_with_an_error, 120)
{
	struct traffic *t = &self->t;
	void *mem;
	int round;

	for (round = 0; round < ROUNDS; round++) {
		ASSERT_EQ(0, traffic_start(t));
		traffic_wait(t, ENOUGH);
		ASSERT_EQ(0, munmap(t->mem, AREA));
		ASSERT_EQ(0, pthread_join(t->thread, NULL));
		ASSERT_EQ(IBV_WC_REM_ACCESS_ERR, t->status);
		mem = mmap(t->mem, AREA, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		ASSERT_EQ((void *)t->mem, mem);
		/* What was in flight did not get into the pages that came after. */
		ASSERT_EQ(AREA, odp_same_byte(t->mem, AREA, 0));
		ASSERT_EQ(0, odp_pair_reconnect(&t->pair));
	}
}

TEST_F_TIMEOUT(race, reclaim_loses_nothing, 120)
{
	struct traffic *t = &self->t;
	int round;

	t->verify = true;
	ASSERT_EQ(0, traffic_start(t));
	for (round = 0; round < 10 * ROUNDS && !t->status; round++) {
		traffic_wait(t, 1);
		EXPECT_EQ(0, madvise(t->mem, AREA, round & 1 ? MADV_PAGEOUT : MADV_COLD));
		EXPECT_EQ(0, mprotect(t->mem, PAGE, round & 2 ? PROT_READ : PROT_NONE));
	}
	ASSERT_EQ(0, traffic_stop(t));
	EXPECT_EQ(0, t->status);
	EXPECT_FALSE(t->differs);
}

TEST_F_TIMEOUT(race, children_neither_see_nor_disturb_it, 120)
{
	struct traffic *t = &self->t;
	int round, status;
	pid_t pid;

	t->verify = true;
	ASSERT_EQ(0, traffic_start(t));
	for (round = 0; round < ROUNDS && !t->status; round++) {
		traffic_wait(t, 1);
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid) {
			memset(t->mem, round, AREA);
			_exit(odp_same_byte(t->mem, AREA, round) == AREA ? 0 : 1);
		}
		traffic_wait(t, 1);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(0, status);
	}
	ASSERT_EQ(0, traffic_stop(t));
	EXPECT_EQ(0, t->status);
	EXPECT_FALSE(t->differs);
}

/* In a child: tell of each transfer, until killed or @nr were made. */
static void traffic_until_killed(int out, int nr)
{
	struct traffic t = {};

	if (traffic_open(&t) || traffic_start(&t))
		_exit(1);
	while (nr--) {
		traffic_wait(&t, 1);
		madvise(t.mem, AREA, MADV_DONTNEED);
		if (t.status || write(out, "t", 1) != 1)
			_exit(2);
	}
	/* The other thread is in the middle of something. */
	_exit(0);
}

static void end_in_the_middle(struct __test_metadata *_metadata, int sig, int seed)
{
	char before[4096], after[4096], c;
	int status, fd[2], nr;
	pid_t pid;

	srandom(seed);
	TH_LOG("seed %d", seed);
	ASSERT_TRUE(odp_command("rdma res show", before, sizeof(before)));
	for (nr = 0; nr < ROUNDS; nr++) {
		int i, transfers = 1 + random() % 20;

		ASSERT_EQ(0, pipe(fd));
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid)
			traffic_until_killed(fd[1], sig ? 1 << 20 : transfers);
		close(fd[1]);
		for (i = 0; i < transfers; i++)
			ASSERT_EQ(1, read(fd[0], &c, 1));
		if (sig)
			ASSERT_EQ(0, kill(pid, sig));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(sig, status);
		close(fd[0]);
	}
	ASSERT_TRUE(odp_command("rdma res show", after, sizeof(after)));
	EXPECT_STREQ(before, after);
}

/* Processes of their own: what is here has nothing open. */
FIXTURE(end) {
};

FIXTURE_SETUP(end)
{
}

FIXTURE_TEARDOWN(end)
{
}

TEST_F_TIMEOUT(end, killed_process_leaves_nothing, 200)
{
	struct traffic t = {};

	end_in_the_middle(_metadata, SIGKILL, 1);
	ASSERT_EQ(0, traffic_open(&t));
	EXPECT_EQ(IBV_WC_SUCCESS, transfer(&t, IBV_WR_RDMA_WRITE, t.mr->rkey));
	traffic_close(&t);
}

TEST_F_TIMEOUT(end, exiting_process_leaves_nothing, 200)
{
	struct traffic t = {};

	end_in_the_middle(_metadata, 0, 2);
	ASSERT_EQ(0, traffic_open(&t));
	EXPECT_EQ(IBV_WC_SUCCESS, transfer(&t, IBV_WR_RDMA_WRITE, t.mr->rkey));
	traffic_close(&t);
}

/* A prefetch of more than fits does not hold deregistration up for long. */
TEST_F_TIMEOUT(race, deregistration_ends_a_prefetch, 45)
{
	const size_t huge = 3UL << 30;
	char *mem = mmap(NULL, huge, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct odp_dev *dev = &self->t.dev;
	struct ibv_mr *mr;
	struct ibv_sge sge;
	long resident;

	ASSERT_NE(MAP_FAILED, (void *)mem);
	mr = ibv_reg_mr(dev->pd, mem, huge, ODP_PAGED);
	ASSERT_NE(NULL, mr);
	sge = odp_sge(mem, huge, mr);
	ASSERT_EQ(0, odp_advise(dev->pd, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, 0, &sge, 1));
	ASSERT_EQ(0, ibv_dereg_mr(mr));
	resident = odp_proc_number("/proc/self/status", "VmRSS");
	EXPECT_LT(resident, 1 << 20);
	/* It ended, and does not go on; the kernel counts roughly. */
	EXPECT_GE(resident + 4096, odp_proc_number("/proc/self/status", "VmRSS"));
}

TEST_HARNESS_MAIN
