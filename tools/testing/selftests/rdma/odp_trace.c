// SPDX-License-Identifier: GPL-2.0
/*
 * Trace events of on-demand paging: each happens, once, with what it is about.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "odp_loop.h"

#include "../kselftest_harness.h"

#define PAGE		4096UL
#define AREA		(2 * ODP_CHUNK)
#define TRACING		"/sys/kernel/tracing/"
#define EVENTS		TRACING "events/ib_odp/enable"

FIXTURE(events) {
	struct odp_dev dev;
	struct odp_pair pair;
	struct ibv_mr *mr, *pinned_mr;
	char *mem, *pinned;
};

FIXTURE_SETUP(events)
{
	if (access(TRACING "trace", F_OK))
		mount("nodev", TRACING, "tracefs", 0, NULL);
	if (access(EVENTS, F_OK))
		SKIP(return, "there are no trace events of on-demand paging");
	ASSERT_EQ(0, odp_open(&self->dev));
	ASSERT_EQ(0, odp_pair_open(&self->pair, &self->dev, IBV_QPT_RC, false));
	self->mem = odp_map(AREA);
	self->pinned = odp_map(PAGE);
	ASSERT_EQ(0, madvise(self->mem, AREA, MADV_NOHUGEPAGE));
	self->pinned_mr = ibv_reg_mr(self->dev.pd, self->pinned, PAGE, ODP_REMOTE);
	ASSERT_NE(NULL, self->pinned_mr);
	ASSERT_EQ(0, odp_put_text(EVENTS, "1"));
	ASSERT_EQ(0, truncate(TRACING "trace", 0));
	self->mr = ibv_reg_mr(self->dev.pd, self->mem, AREA, ODP_PAGED);
	ASSERT_NE(NULL, self->mr);
}

FIXTURE_TEARDOWN(events)
{
	EXPECT_EQ(0, odp_put_text(EVENTS, "0"));
	if (self->mr)
		EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	EXPECT_EQ(0, ibv_dereg_mr(self->pinned_mr));
	odp_pair_close(&self->pair);
	odp_close(&self->dev);
}

/* How many lines there are of an event that have both texts; @last: the last of them. */
static int seen(const char *event, const char *first, const char *second, char *last, size_t len)
{
	FILE *file = fopen(TRACING "trace", "r");
	char line[512];
	int nr = 0;

	while (file && fgets(line, sizeof(line), file)) {
		if (!strstr(line, event) || !strstr(line, first) || !strstr(line, second))
			continue;
		if (last)
			snprintf(last, len, "%s", line);
		nr++;
	}
	if (file)
		fclose(file);
	return nr;
}

/* The number that follows @field in @line. */
static long long number(const char *line, const char *field)
{
	const char *at = strstr(line, field);

	return at ? strtoll(at + strlen(field), NULL, 0) : -1;
}

static const char *range(const char *mem, size_t len)
{
	static char text[64];

	snprintf(text, sizeof(text), "[%#lx, %#lx)", (long)mem, (long)mem + len);
	return text;
}

static int write_page(FIXTURE_DATA(events) *self, char *to)
{
	return odp_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->pinned, self->pinned_mr, PAGE, to,
			self->mr);
}

TEST_F(events, a_region_comes_and_goes)
{
	char line[512], start[64], length[64];

	snprintf(start, sizeof(start), " start=%#lx ", (long)self->mem);
	snprintf(length, sizeof(length), " length=%lu writable", AREA);
	ASSERT_EQ(1, seen("ib_odp_get:", start, length, line, sizeof(line)));
	ASSERT_NE(NULL, strstr(line, ibv_get_device_name(self->dev.ctx->device)));
	ASSERT_EQ(IBV_WC_SUCCESS, write_page(self, self->mem));
	ASSERT_EQ(0, ibv_dereg_mr(self->mr));
	self->mr = NULL;
	ASSERT_EQ(1, seen("ib_odp_release:", start, length, line, sizeof(line)));
	ASSERT_EQ(1, number(line, " faults="));
	ASSERT_EQ(1, number(line, " invalidations="));
}

TEST_F(events, a_fault_says_how_long_it_took)
{
	char line[512];

	ASSERT_EQ(IBV_WC_SUCCESS, write_page(self, self->mem + ODP_CHUNK));
	ASSERT_EQ(1, seen("ib_odp_fault:", range(self->mem + ODP_CHUNK, PAGE), " ret=0 ", line,
			  sizeof(line)));
	ASSERT_NE(NULL, strstr(line, "write"));
	ASSERT_LT(0, number(line, " ns="));
	/* What is there takes none. */
	ASSERT_EQ(IBV_WC_SUCCESS, write_page(self, self->mem + ODP_CHUNK));
	ASSERT_EQ(1, seen("ib_odp_fault:", range(self->mem + ODP_CHUNK, PAGE), "", NULL, 0));
}

TEST_F(events, a_fault_that_fails_says_why)
{
	ASSERT_EQ(0, munmap(self->mem + PAGE, PAGE));
	ASSERT_EQ(IBV_WC_REM_ACCESS_ERR, write_page(self, self->mem + PAGE));
	ASSERT_LT(0, seen("ib_odp_fault:", range(self->mem + PAGE, PAGE), " ret=-14 ", NULL, 0));
}

TEST_F(events, a_prefetch_is_marked)
{
	struct ibv_sge sge = odp_sge(self->mem, PAGE, self->mr);

	ASSERT_EQ(0, odp_advise(self->dev.pd, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE,
				IBV_ADVISE_MR_FLAG_FLUSH, &sge, 1));
	ASSERT_EQ(1, seen("ib_odp_fault:", range(self->mem, PAGE), "write|prefetch", NULL, 0));
}

static int discard(char *mem)
{
	return madvise(mem, PAGE, MADV_DONTNEED);
}

static int unmap(char *mem)
{
	return munmap(mem, PAGE);
}

static int protect(char *mem)
{
	return mprotect(mem, PAGE, PROT_READ);
}

static int copy(char *mem)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	return waitpid(pid, &status, 0) == pid ? status : -1;
}

/* Each of a page, but for fork(), which is of all memory. */
static const struct {
	int (*act)(char *mem);
	const char *event;
	size_t len;
} acts[] = {
	{ copy, "event=protection-page pages=1\n", ODP_CHUNK },
	{ discard, "event=clear pages=1\n", PAGE },
	{ protect, "event=protection-vma pages=1\n", PAGE },
	{ unmap, "event=unmap pages=1\n", PAGE },
};

TEST_F(events, an_invalidation_names_its_cause)
{
	char *page;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(acts); i++) {
		page = self->mem + (acts[i].len == PAGE ? i * 16 * PAGE : 0);
		ASSERT_EQ(IBV_WC_SUCCESS, write_page(self, page));
		ASSERT_EQ(0, acts[i].act(page));
		EXPECT_EQ(1, seen("ib_odp_invalidate:", range(page, acts[i].len),
				  acts[i].event, NULL, 0)) {
			TH_LOG("%s", acts[i].event);
		}
	}
}

TEST_HARNESS_MAIN
