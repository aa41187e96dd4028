// SPDX-License-Identifier: GPL-2.0
/*
 * Memory whose pages go and come between transfers: device and process always
 * see the same bytes, and none is lost.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <fcntl.h>

#include "odp_loop.h"

#include "../kselftest_harness.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define PAGE	4096UL
#define AREA	(2 * ODP_CHUNK)
/* Over the end of the first chunk, and of a page at both ends. */
#define FIRST	(ODP_CHUNK - 100 * PAGE - 17)
#define LEN	(200 * PAGE + 33)

FIXTURE(content) {
	struct odp_dev dev;
	struct odp_pair pair;
	struct ibv_mr *mr, *pinned_mr;
	char *mem, *pinned;
};

FIXTURE_SETUP(content)
{
	ASSERT_EQ(0, odp_open(&self->dev));
	ASSERT_EQ(0, odp_pair_open(&self->pair, &self->dev, IBV_QPT_RC, false));
	self->mem = odp_map(AREA);
	self->pinned = odp_map(LEN);
	ASSERT_NE(MAP_FAILED, (void *)self->mem);
	ASSERT_NE(MAP_FAILED, (void *)self->pinned);
	self->mr = ibv_reg_mr(self->dev.pd, self->mem, AREA, ODP_PAGED);
	self->pinned_mr = ibv_reg_mr(self->dev.pd, self->pinned, LEN, ODP_REMOTE);
	ASSERT_NE(NULL, self->mr);
	ASSERT_NE(NULL, self->pinned_mr);
}

FIXTURE_TEARDOWN(content)
{
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	EXPECT_EQ(0, ibv_dereg_mr(self->pinned_mr));
	odp_pair_close(&self->pair);
	odp_close(&self->dev);
}

/* The device writes; the status. */
static int put(FIXTURE_DATA(content) *self, uint64_t seed)
{
	odp_fill(self->pinned, LEN, seed);
	return odp_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->pinned, self->pinned_mr,
			LEN, self->mem + FIRST, self->mr);
}

/* The device reads. */
static int get(FIXTURE_DATA(content) *self)
{
	memset(self->pinned, 0xee, LEN);
	return odp_rdma(&self->pair, IBV_WR_RDMA_READ, self->pinned, self->pinned_mr,
			LEN, self->mem + FIRST, self->mr);
}

/* What the process sees, and what the device does. */
#define ASSERT_CONTENT(seed) do {						\
	uint64_t seed_ = (seed);						\
										\
	ASSERT_EQ(LEN, odp_same(self->mem + FIRST, LEN, seed_));		\
	ASSERT_EQ(IBV_WC_SUCCESS, get(self));					\
	ASSERT_EQ(LEN, odp_same(self->pinned, LEN, seed_));			\
} while (0)

/* mincore() would count what is still in the swap cache as well. */
static unsigned long nr_swapped(FIXTURE_DATA(content) *self)
{
	const uint64_t swapped = 1ULL << 62;
	uint64_t map[AREA / PAGE];
	unsigned long i, nr = 0;
	ssize_t got;
	int fd;

	fd = open("/proc/self/pagemap", O_RDONLY);
	got = pread(fd, map, sizeof(map), (uintptr_t)self->mem / PAGE * sizeof(*map));
	close(fd);
	for (i = 0; got == sizeof(map) && i < AREA / PAGE; i++)
		nr += !!(map[i] & swapped);
	return nr;
}

TEST_F(content, discarded_pages_read_as_zeros)
{
	ASSERT_EQ(IBV_WC_SUCCESS, put(self, 1));
	ASSERT_CONTENT(1);
	ASSERT_EQ(0, madvise(self->mem, AREA, MADV_DONTNEED));
	ASSERT_EQ(IBV_WC_SUCCESS, get(self));
	ASSERT_EQ(LEN, odp_same_byte(self->pinned, LEN, 0));
	ASSERT_EQ(IBV_WC_SUCCESS, put(self, 2));
	ASSERT_CONTENT(2);
}

TEST_F(content, pages_come_back_from_swap)
{
	int round;

	if (!odp_has_swap())
		SKIP(return, "there is no swap");
	for (round = 0; round < 4; round++) {
		ASSERT_EQ(IBV_WC_SUCCESS, put(self, 10 + round));
		ASSERT_EQ(0, madvise(self->mem, AREA, MADV_PAGEOUT));
		/* It is advice, but some must have gone, or nothing is tested. */
		ASSERT_GT(nr_swapped(self), LEN / PAGE / 2);
		ASSERT_EQ(IBV_WC_SUCCESS, get(self));
		ASSERT_EQ(LEN, odp_same(self->pinned, LEN, 10 + round));
		ASSERT_EQ(0, madvise(self->mem, AREA, MADV_PAGEOUT));
		ASSERT_CONTENT(10 + round);
		ASSERT_EQ(0, madvise(self->mem, AREA, MADV_PAGEOUT));
	}
}

/* Freeing lazily is off once the page is written, by the device as well. */
TEST_F(content, write_after_madv_free_stays)
{
	if (!odp_has_swap())
		SKIP(return, "there is no swap");
	ASSERT_EQ(IBV_WC_SUCCESS, put(self, 20));
	ASSERT_EQ(0, madvise(self->mem, AREA, MADV_FREE));
	ASSERT_EQ(IBV_WC_SUCCESS, put(self, 21));
	ASSERT_EQ(0, madvise(self->mem, AREA, MADV_PAGEOUT));
	ASSERT_CONTENT(21);
}

TEST_F(content, page_freed_lazily_is_old_or_zero)
{
	size_t off, len;

	ASSERT_EQ(IBV_WC_SUCCESS, put(self, 22));
	ASSERT_EQ(0, madvise(self->mem, AREA, MADV_FREE));
	madvise(self->mem, AREA, MADV_PAGEOUT);
	ASSERT_EQ(IBV_WC_SUCCESS, get(self));
	ASSERT_EQ(0, memcmp(self->pinned, self->mem + FIRST, LEN));
	/* The pattern of the beginning, up to the first page that was freed. */
	off = odp_same(self->pinned, LEN, 22);
	if (off == LEN)
		return;
	len = PAGE - (FIRST + off) % PAGE;
	EXPECT_EQ(len < LEN - off ? len : LEN - off,
		  odp_same_byte(self->pinned + off, len < LEN - off ? len : LEN - off, 0));
}

TEST_F(content, moved_memory_is_gone_and_comes_back)
{
	char *away = odp_map(AREA);
	void *moved;

	ASSERT_EQ(IBV_WC_SUCCESS, put(self, 30));
	moved = mremap(self->mem, AREA, AREA, MREMAP_MAYMOVE | MREMAP_FIXED, away);
	ASSERT_EQ((void *)away, moved);
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, get(self));
	ASSERT_EQ(0, odp_pair_reconnect(&self->pair));
	ASSERT_EQ(LEN, odp_same(away + FIRST, LEN, 30));
	moved = mremap(away, AREA, AREA, MREMAP_MAYMOVE | MREMAP_FIXED, self->mem);
	ASSERT_EQ((void *)self->mem, moved);
	ASSERT_CONTENT(30);
}

TEST_F(content, memory_that_replaces_it_is_used)
{
	char *other = odp_map(AREA);
	void *moved;

	ASSERT_EQ(IBV_WC_SUCCESS, put(self, 31));
	odp_fill(other + FIRST, LEN, 32);
	moved = mremap(other, AREA, AREA, MREMAP_MAYMOVE | MREMAP_FIXED, self->mem);
	ASSERT_EQ((void *)self->mem, moved);
	ASSERT_CONTENT(32);
	ASSERT_EQ(IBV_WC_SUCCESS, put(self, 33));
	ASSERT_CONTENT(33);
}

/* Whoever writes first gets a copy; the region stays with its owner. */
TEST_F(content, child_keeps_what_it_was_forked_with)
{
	int status, go[2];
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(go));
	ASSERT_EQ(IBV_WC_SUCCESS, put(self, 40));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		close(go[1]);
		if (read(go[0], &c, 1) != 1)
			_exit(1);
		if (odp_same(self->mem + FIRST, LEN, 40) != LEN)
			_exit(2);
		memset(self->mem, 0x77, AREA);
		_exit(3);
	}
	ASSERT_EQ(IBV_WC_SUCCESS, put(self, 41));
	ASSERT_EQ(1, write(go[1], "g", 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	ASSERT_EQ(3, WEXITSTATUS(status));
	ASSERT_CONTENT(41);
}

TEST_F(content, what_a_child_writes_is_its_own)
{
	int status;
	pid_t pid;

	ASSERT_EQ(IBV_WC_SUCCESS, put(self, 42));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		memset(self->mem, 0x77, AREA);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	ASSERT_CONTENT(42);
}

TEST_F(content, huge_pages_are_made_and_split_in_between)
{
	ASSERT_EQ(0, madvise(self->mem, AREA, MADV_HUGEPAGE));
	ASSERT_EQ(IBV_WC_SUCCESS, put(self, 50));
	ASSERT_CONTENT(50);
	ASSERT_EQ(0, madvise(self->mem, PAGE, MADV_DONTNEED));
	ASSERT_CONTENT(50);
	if (madvise(self->mem, AREA, MADV_COLLAPSE))
		SKIP(return, "no huge pages: %s", strerror(errno));
	ASSERT_CONTENT(50);
	ASSERT_EQ(IBV_WC_SUCCESS, put(self, 51));
	ASSERT_EQ(0, mprotect(self->mem, PAGE, PROT_READ));
	ASSERT_CONTENT(51);
	ASSERT_EQ(IBV_WC_SUCCESS, put(self, 52));
	ASSERT_CONTENT(52);
}

TEST_F(content, device_writes_reach_the_shared_file)
{
	char *back = malloc(LEN);
	void *mem;
	int fd, round;

	ASSERT_NE(NULL, back);
	fd = open("odp_content.tmp", O_RDWR | O_CREAT | O_TRUNC, 0600);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(0, ftruncate(fd, AREA));
	mem = mmap(self->mem, AREA, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	ASSERT_EQ((void *)self->mem, mem);
	for (round = 0; round < 3; round++) {
		ASSERT_EQ(IBV_WC_SUCCESS, put(self, 60 + round));
		ASSERT_EQ(0, msync(self->mem, AREA, MS_SYNC));
		ASSERT_EQ(LEN, pread(fd, back, LEN, FIRST));
		ASSERT_EQ(LEN, odp_same(back, LEN, 60 + round));
	}
	ASSERT_EQ(IBV_WC_SUCCESS, put(self, 70));
	ASSERT_EQ(0, munmap(self->mem, AREA));
	ASSERT_EQ(LEN, pread(fd, back, LEN, FIRST));
	ASSERT_EQ(LEN, odp_same(back, LEN, 70));
	ASSERT_EQ(0, close(fd));
	ASSERT_EQ(0, unlink("odp_content.tmp"));
	free(back);
}

TEST_HARNESS_MAIN
