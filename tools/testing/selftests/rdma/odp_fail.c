// SPDX-License-Identifier: GPL-2.0
/*
 * No memory: every allocation that an operation makes in the kernel fails once, one after the
 * other. The operation fails with an error that says so, or does without. After that it can be
 * repeated, and the device finds in the memory what the process has there. What is lost in
 * between is found by kmemleak.
 *
 * Only the process that asks is given no memory. Work items have theirs.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "odp_loop.h"

#include "../kselftest_harness.h"

#define PAGE	4096UL
/* Half of it in one chunk, and half in the next one. */
#define LEN	(16 * PAGE)
#define MAP_LEN	(2 * ODP_CHUNK)
/* More than any of the operations has. */
#define POINTS	2000
#define DEBUGFS	"/sys/kernel/debug/"

FIXTURE(fail) {
	struct odp_dev dev;
	struct odp_pair pair;
	struct ibv_mr *mr, *local_mr;
	char *map, *mem, *local;
	uint64_t seed;
	int nth;	/* the file */
};

/* @act returns 0 or an errno; the others, whether they could. */
FIXTURE_VARIANT(fail) {
	bool (*prepare)(FIXTURE_DATA(fail) *self);
	int (*act)(FIXTURE_DATA(fail) *self);
	bool (*check)(FIXTURE_DATA(fail) *self, int ret);
};

/* ---- what the device finds ---- */

static bool reconnect_and(FIXTURE_DATA(fail) *self, enum ibv_wr_opcode op, enum ibv_wc_status want)
{
	if (odp_pair_reconnect(&self->pair))
		return false;
	return odp_rdma(&self->pair, op, self->local, self->local_mr, LEN, self->mem,
			self->mr) == (int)want;
}

/* All of the memory is written and read by the device. */
static bool works(FIXTURE_DATA(fail) *self)
{
	odp_fill(self->local, LEN, ++self->seed);
	if (!reconnect_and(self, IBV_WR_RDMA_WRITE, IBV_WC_SUCCESS) ||
	    odp_same(self->mem, LEN, self->seed) != LEN)
		return false;
	odp_fill(self->mem, LEN, ++self->seed);
	return reconnect_and(self, IBV_WR_RDMA_READ, IBV_WC_SUCCESS) &&
	       odp_same(self->local, LEN, self->seed) == LEN;
}

static bool have_region(FIXTURE_DATA(fail) *self, int access)
{
	self->mr = ibv_reg_mr(self->dev.pd, self->mem, LEN, access);
	return self->mr;
}

/* ---- the operations ---- */

static bool prepare_nothing(FIXTURE_DATA(fail) *self)
{
	return true;
}

static bool prepare_paged(FIXTURE_DATA(fail) *self)
{
	return have_region(self, ODP_PAGED);
}

static bool prepare_pinned(FIXTURE_DATA(fail) *self)
{
	return have_region(self, ODP_REMOTE);
}

/* The device has all of it. */
static bool prepare_used(FIXTURE_DATA(fail) *self)
{
	return have_region(self, ODP_PAGED) && works(self);
}

static int act_reg(FIXTURE_DATA(fail) *self)
{
	return have_region(self, ODP_PAGED) ? 0 : errno;
}

static int act_reg_implicit(FIXTURE_DATA(fail) *self)
{
	self->mr = ibv_reg_mr(self->dev.pd, NULL, SIZE_MAX, ODP_PAGED);
	return self->mr ? 0 : errno;
}

static int act_rereg(FIXTURE_DATA(fail) *self)
{
	return odp_rereg(self->mr, IBV_REREG_MR_CHANGE_TRANSLATION | IBV_REREG_MR_CHANGE_ACCESS,
			 NULL, self->mem, LEN, ODP_PAGED);
}

static int act_dereg(FIXTURE_DATA(fail) *self)
{
	int ret = ibv_dereg_mr(self->mr);

	if (!ret)
		self->mr = NULL;
	return ret;
}

static int act_prefetch(FIXTURE_DATA(fail) *self)
{
	struct ibv_sge sge = odp_sge(self->mem, LEN, self->mr);

	return odp_advise(self->dev.pd, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE,
			  IBV_ADVISE_MR_FLAG_FLUSH, &sge, 1);
}

static int act_transfer(FIXTURE_DATA(fail) *self)
{
	int ret = odp_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->local, self->local_mr, LEN,
			   self->mem, self->mr);

	/* The completion says that it failed, and may say no more. */
	return ret > 0 ? ENOMEM : -ret;
}

static int act_discard(FIXTURE_DATA(fail) *self)
{
	return madvise(self->mem, LEN, MADV_DONTNEED) ? errno : 0;
}

static int act_protect(FIXTURE_DATA(fail) *self)
{
	return mprotect(self->mem + PAGE, PAGE, PROT_READ) ? errno : 0;
}

static int act_fork(FIXTURE_DATA(fail) *self)
{
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	if (pid < 0)
		return errno;
	waitpid(pid, NULL, 0);
	return 0;
}

/* ---- what is right after them ---- */

static bool check_reg(FIXTURE_DATA(fail) *self, int ret)
{
	return (self->mr || !act_reg(self)) && works(self);
}

static bool check_reg_implicit(FIXTURE_DATA(fail) *self, int ret)
{
	return (self->mr || !act_reg_implicit(self)) && works(self);
}

static bool check_rereg(FIXTURE_DATA(fail) *self, int ret)
{
	return (!ret || !act_rereg(self)) && works(self);
}

static bool check_dereg(FIXTURE_DATA(fail) *self, int ret)
{
	return !ret || !act_dereg(self);
}

static bool check_works(FIXTURE_DATA(fail) *self, int ret)
{
	return works(self);
}

static bool check_discard(FIXTURE_DATA(fail) *self, int ret)
{
	return ret || (reconnect_and(self, IBV_WR_RDMA_READ, IBV_WC_SUCCESS) &&
		       odp_same_byte(self->local, LEN, 0) == LEN && works(self));
}

static bool check_protect(FIXTURE_DATA(fail) *self, int ret)
{
	if (!ret && !reconnect_and(self, IBV_WR_RDMA_WRITE, IBV_WC_REM_ACCESS_ERR))
		return false;
	return !mprotect(self->mem, LEN, PROT_READ | PROT_WRITE) && works(self);
}

FIXTURE_VARIANT_ADD(fail, registration) {
	.prepare = prepare_nothing, .act = act_reg, .check = check_reg,
};

FIXTURE_VARIANT_ADD(fail, implicit_registration) {
	.prepare = prepare_nothing, .act = act_reg_implicit, .check = check_reg_implicit,
};

FIXTURE_VARIANT_ADD(fail, reregistration) {
	.prepare = prepare_pinned, .act = act_rereg, .check = check_rereg,
};

FIXTURE_VARIANT_ADD(fail, deregistration) {
	.prepare = prepare_used, .act = act_dereg, .check = check_dereg,
};

FIXTURE_VARIANT_ADD(fail, prefetch) {
	.prepare = prepare_paged, .act = act_prefetch, .check = check_works,
};

FIXTURE_VARIANT_ADD(fail, transfer) {
	.prepare = prepare_paged, .act = act_transfer, .check = check_works,
};

FIXTURE_VARIANT_ADD(fail, discarded_memory) {
	.prepare = prepare_used, .act = act_discard, .check = check_discard,
};

FIXTURE_VARIANT_ADD(fail, protected_memory) {
	.prepare = prepare_used, .act = act_protect, .check = check_protect,
};

FIXTURE_VARIANT_ADD(fail, fork) {
	.prepare = prepare_used, .act = act_fork, .check = check_works,
};

/* ---- the sweep ---- */

static bool configure(const char *which, const char *file, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), DEBUGFS "%s/%s", which, file);
	return !odp_put_text(path, value);
}

/* Also what may sleep, without a word in the log. */
static bool injection_begin(void)
{
	return configure("failslab", "verbose", "0") &&
	       configure("failslab", "ignore-gfp-wait", "N") &&
	       configure("fail_page_alloc", "verbose", "0") &&
	       configure("fail_page_alloc", "min-order", "0") &&
	       configure("fail_page_alloc", "ignore-gfp-wait", "N") &&
	       configure("fail_page_alloc", "ignore-gfp-highmem", "N");
}

FIXTURE_SETUP(fail)
{
	if (!injection_begin())
		SKIP(return, "needs CONFIG_FAILSLAB, CONFIG_FAIL_PAGE_ALLOC and debugfs");
	self->nth = open("/proc/self/fail-nth", O_RDWR);
	ASSERT_LE(0, self->nth);
	ASSERT_EQ(0, odp_open(&self->dev));
	ASSERT_EQ(0, odp_pair_open(&self->pair, &self->dev, IBV_QPT_RC, false));
	self->local = odp_map(LEN);
	self->local_mr = ibv_reg_mr(self->dev.pd, self->local, LEN, ODP_REMOTE);
	ASSERT_NE(NULL, self->local_mr);
}

FIXTURE_TEARDOWN(fail)
{
	EXPECT_EQ(0, ibv_dereg_mr(self->local_mr));
	odp_pair_close(&self->pair);
	odp_close(&self->dev);
	close(self->nth);
}

static int fail_next(FIXTURE_DATA(fail) *self, unsigned int nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", nth);

	return pwrite(self->nth, text, len, 0) == len ? 0 : errno;
}

/* Return: was there an allocation that failed? The kernel counts down to it. */
static bool fail_end(FIXTURE_DATA(fail) *self)
{
	char text[16] = {};
	bool failed = pread(self->nth, text, sizeof(text) - 1, 0) > 0 && !atoi(text);

	return fail_next(self, 0) ? false : failed;
}

static void map_memory(FIXTURE_DATA(fail) *self)
{
	self->map = odp_map(MAP_LEN);
	self->mem = self->map + ODP_CHUNK - LEN / 2;
	self->mr = NULL;
}

TEST_F_TIMEOUT(fail, every_allocation, 900)
{
	unsigned int point, refused = 0;
	bool failed = true;
	int ret;

	for (point = 1; failed && point < POINTS; point++) {
		map_memory(self);
		ASSERT_TRUE(variant->prepare(self));
		ASSERT_EQ(0, fail_next(self, point));
		ret = variant->act(self);
		failed = fail_end(self);
		if (ret)
			refused++;
		/* Only because of that, and it says so. */
		EXPECT_TRUE(!ret || failed) TH_LOG("point %u: errno %d", point, ret);
		EXPECT_TRUE(!ret || ret == ENOMEM || ret == EAGAIN)
			TH_LOG("point %u: errno %d", point, ret);
		ASSERT_TRUE(variant->check(self, ret)) TH_LOG("point %u: errno %d", point, ret);
		if (self->mr)
			ASSERT_EQ(0, ibv_dereg_mr(self->mr));
		ASSERT_EQ(0, munmap(self->map, MAP_LEN));
	}
	EXPECT_LT(point, POINTS);
	TH_LOG("%u allocations failed, of which %u had the operation fail", point - 2, refused);
}

TEST_HARNESS_MAIN
