// SPDX-License-Identifier: GPL-2.0
/*
 * Traffic that goes on while its memory is taken away: by deregistration,
 * unmapping, reclaim, fork and the end of the process.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <fcntl.h>
#include <signal.h>

#include "odp_traffic.h"

#include "../kselftest_harness.h"

#define PAGE	4096UL
#define AREA	TRAFFIC_AREA
#define ROUNDS	20
#define ENOUGH	8	/* transfers before something happens */

FIXTURE(race) {
	struct traffic t;
};

FIXTURE_SETUP(race)
{
	ASSERT_EQ(0, traffic_open(&self->t, NULL));
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

/* How a process ends in the middle of its traffic. */
enum end { END_EXIT, END_KILL, END_EXEC };

/* In a child: tell of each transfer, until killed or @nr were made. */
static void traffic_until(enum end end, int out, int nr)
{
	struct traffic t = {};

	if (traffic_open(&t, NULL) || traffic_start(&t))
		_exit(1);
	while (nr--) {
		traffic_wait(&t, 1);
		madvise(t.mem, AREA, MADV_DONTNEED);
		if (t.status || write(out, "t", 1) != 1)
			_exit(2);
	}
	/* The other thread is in the middle of something. */
	if (end == END_EXEC)
		execl("/bin/true", "true", NULL);
	_exit(end == END_EXEC ? 3 : 0);
}

static void end_in_the_middle(struct __test_metadata *_metadata, enum end end, int seed)
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
			traffic_until(end, fd[1], end == END_KILL ? 1 << 20 : transfers);
		close(fd[1]);
		for (i = 0; i < transfers; i++)
			ASSERT_EQ(1, read(fd[0], &c, 1));
		if (end == END_KILL)
			ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_EQ(end == END_KILL ? SIGKILL : 0, status);
		close(fd[0]);
	}
	ASSERT_TRUE(odp_command("rdma res show", after, sizeof(after)));
	EXPECT_STREQ(before, after);
}

/* Processes of their own: what is here has nothing open. */
FIXTURE(end) {
};

FIXTURE_VARIANT(end) {
	enum end end;
};

FIXTURE_VARIANT_ADD(end, killed) {
	.end = END_KILL,
};

FIXTURE_VARIANT_ADD(end, exiting) {
	.end = END_EXIT,
};

FIXTURE_VARIANT_ADD(end, replaced) {
	.end = END_EXEC,
};

FIXTURE_SETUP(end)
{
}

FIXTURE_TEARDOWN(end)
{
}

TEST_F_TIMEOUT(end, process_leaves_nothing, 200)
{
	struct traffic t = {};

	end_in_the_middle(_metadata, variant->end, 1 + variant->end);
	ASSERT_EQ(0, traffic_open(&t, NULL));
	EXPECT_EQ(IBV_WC_SUCCESS, traffic_transfer(&t, IBV_WR_RDMA_WRITE, t.mr->rkey));
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
