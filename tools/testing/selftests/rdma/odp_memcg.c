// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel keeps for a region is charged to the memory cgroup of its owner, also
 * where a worker of the device makes it. So the limit of a container holds.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "odp_loop.h"

#include "../kselftest_harness.h"

#define ROOT	"/sys/fs/cgroup"
#define GROUP	ROOT "/odp_memcg"
/* A page of each is read, so that each has its chunk and its page table. */
#define NR	1024UL
#define LEN	(NR * ODP_CHUNK)
/* At least an entry of 8 bytes for each page of a chunk. */
#define BYTES	(NR * 512 * 8)
/* Pages that are written in order: the first ones of a chunk may bring all of it. */
#define IN_ORDER	(512L + 10)
/* What is measured of sparse memory is that of so many places. */
#define NR_PLACES	1024UL
/* mlx5 has a key for each LEAF of a larger region, and keeps LEAF_BYTES for it at least. */
#define LEAF		(16UL << 20)
#define LEAF_BYTES	192
/* In the memory scheme mlx5 remembers the key of one that has gone, by a node of an array. */
#define NAME_BYTES	500
/* Faults of mlx5 that wait at the same time, and what it keeps for each at least. */
#define NR_WAITING	96
#define WAITING_BYTES	600
/* The array of chunks has a node for each 64 of them. */
#define NODE		(64 * ODP_CHUNK)
#define NODE_BYTES	500

static int put_number(const char *path, unsigned long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lu", value);
	return odp_put_text(path, text);
}

static long group_bytes(const char *field)
{
	return odp_proc_number(GROUP "/memory.stat", field);
}

/*
 * The kernel adds up what its CPUs have counted when it is read, if that is much, and by a
 * timer that does not wake an idle CPU, so perhaps not for a long time. Pages that come and
 * go make it much: more than 64 for each CPU.
 */
static void add_up(void)
{
	const size_t len = 1024 * 4096;
	static char *pages;

	if (!pages)
		pages = odp_map(len);
	memset(pages, 1, len);
	if (madvise(pages, len, MADV_DONTNEED))
		abort();
}

static long group_bytes_now(const char *field)
{
	add_up();
	return group_bytes(field);
}

/* Beyond @before, once that is @least, or after ten seconds: for what others charge later. */
static long group_bytes_since(long before, long least)
{
	long bytes = 0;
	int i;

	for (i = 0; i < 100 && bytes < least; i++) {
		usleep(100 * 1000);
		bytes = group_bytes_now("kernel") - before;
	}
	return bytes;
}

FIXTURE(memcg) {
	struct odp_dev dev;
	struct odp_pair pair;
	struct ibv_mr *mr, *local_mr;
	char *mem, *local;
};

FIXTURE_SETUP(memcg)
{
	if (odp_put_text(ROOT "/cgroup.subtree_control", "+memory"))
		SKIP(return, "there is no memory controller");
	rmdir(GROUP);
	ASSERT_EQ(0, mkdir(GROUP, 0755));
	ASSERT_EQ(0, odp_put_text(GROUP "/cgroup.procs", "0"));
	self->mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->mem);
	/* Reads find the zero page, so that what is charged is not the process's data. */
	ASSERT_EQ(0, madvise(self->mem, LEN, MADV_NOHUGEPAGE));
	ASSERT_EQ(0, odp_open(&self->dev));
	ASSERT_EQ(0, odp_pair_open(&self->pair, &self->dev, IBV_QPT_RC, false));
	self->local = odp_map(4096);
	self->local_mr = ibv_reg_mr(self->dev.pd, self->local, 4096, ODP_REMOTE);
	self->mr = ibv_reg_mr(self->dev.pd, self->mem, LEN, ODP_PAGED);
	ASSERT_NE(NULL, self->local_mr);
	ASSERT_NE(NULL, self->mr);
}

FIXTURE_TEARDOWN(memcg)
{
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	EXPECT_EQ(0, ibv_dereg_mr(self->local_mr));
	odp_pair_close(&self->pair);
	odp_close(&self->dev);
	odp_put_text(ROOT "/cgroup.procs", "0");
	rmdir(GROUP);
}

/* Have the device read @nr places of a region; the first status that is not success. */
static int read_places(FIXTURE_DATA(memcg) *self, char *mem, struct ibv_mr *mr,
		       unsigned long nr, unsigned long step)
{
	int status = IBV_WC_SUCCESS;

	for (; nr && status == IBV_WC_SUCCESS; nr--, mem += step)
		status = odp_rdma(&self->pair, IBV_WR_RDMA_READ, self->local, self->local_mr,
				  64, mem, mr);
	return status;
}

/* A page of each chunk. */
static int read_all(FIXTURE_DATA(memcg) *self)
{
	return read_places(self, self->mem, self->mr, NR, ODP_CHUNK);
}

TEST_F(memcg, what_faults_allocate_is_charged_to_the_owner)
{
	long before = group_bytes_now("kernel"), bytes;

	ASSERT_LE(0, before);
	ASSERT_EQ(IBV_WC_SUCCESS, read_all(self));
	bytes = group_bytes_now("kernel") - before;
	TH_LOG("%ld bytes charged for %lu chunks", bytes, NR);
	EXPECT_LE(BYTES, bytes);
	/* The group's later members do not inherit it. */
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	self->mr = ibv_reg_mr(self->dev.pd, self->mem, LEN, ODP_PAGED);
	ASSERT_NE(NULL, self->mr);
}

/*
 * What is charged for places that are @step apart, beyond a chunk for each. A page of each is
 * read, and then one of the next chunk: what the first ones took beyond the second ones.
 */
static long bytes_of_places(struct __test_metadata *_metadata, FIXTURE_DATA(memcg) *self,
			    unsigned long step)
{
	size_t len = NR_PLACES * step;
	char *map = mmap(NULL, len + step, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *mem = (char *)(((uintptr_t)map + step - 1) & -step);
	long before, first, second;
	struct ibv_mr *mr;
	unsigned long i;

	ASSERT_NE(MAP_FAILED, (void *)map);
	ASSERT_EQ(0, madvise(mem, len, MADV_NOHUGEPAGE));
	mr = ibv_reg_mr(self->dev.pd, mem, len, ODP_PAGED);
	ASSERT_NE(NULL, mr);
	/* Before it is measured, as the process's own page tables are not to be counted. */
	for (i = 0; i < NR_PLACES; i++) {
		odp_same_byte(mem + i * step, 1, 0);
		odp_same_byte(mem + i * step + ODP_CHUNK, 1, 0);
	}
	before = group_bytes_now("kernel");
	EXPECT_EQ(IBV_WC_SUCCESS, read_places(self, mem, mr, NR_PLACES, step));
	first = group_bytes_now("kernel") - before;
	EXPECT_EQ(IBV_WC_SUCCESS, read_places(self, mem + ODP_CHUNK, mr, NR_PLACES, step));
	second = group_bytes_now("kernel") - before - first;
	TH_LOG("%ld bytes charged for %lu places and a chunk of each, %ld for another chunk",
	       first, NR_PLACES, second);
	EXPECT_LE((long)(NR_PLACES * 512 * 8), second);
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_EQ(0, munmap(map, len + step));
	return first - second;
}

TEST_F_TIMEOUT(memcg, array_of_chunks_is_charged_to_the_owner, 300)
{
	EXPECT_LE((long)(NR_PLACES * NODE_BYTES), bytes_of_places(_metadata, self, NODE));
}

TEST_F_TIMEOUT(memcg, keys_of_a_large_region_are_charged_to_the_owner, 300)
{
	unsigned long nodes = NR_PLACES * LEAF / NODE * NODE_BYTES;

	EXPECT_LE((long)(NR_PLACES * LEAF_BYTES + nodes), bytes_of_places(_metadata, self, LEAF));
}

/* What is charged for leaves that have gone: only for some seconds, so it is not awaited. */
TEST_F_TIMEOUT(memcg, names_of_gone_leaves_are_charged_to_the_owner, 300)
{
	size_t len = NR_PLACES * LEAF;
	char *mem = mmap(NULL, len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct ibv_mr *mr;
	unsigned long i;
	long before, bytes;

	ASSERT_NE(MAP_FAILED, (void *)mem);
	ASSERT_EQ(0, madvise(mem, len, MADV_NOHUGEPAGE));
	mr = ibv_reg_mr(self->dev.pd, mem, len, ODP_PAGED);
	ASSERT_NE(NULL, mr);
	for (i = 0; i < NR_PLACES; i++)
		odp_same_byte(mem + i * LEAF, 1, 0);
	before = group_bytes_now("kernel");
	EXPECT_EQ(IBV_WC_SUCCESS, read_places(self, mem, mr, NR_PLACES, LEAF));
	ASSERT_EQ(0, madvise(mem, len, MADV_DONTNEED));
	/* They linger for a second, and go in batches. */
	sleep(8);
	bytes = group_bytes_now("kernel") - before;
	TH_LOG("%ld bytes charged for %lu leaves that have gone", bytes, NR_PLACES);
	EXPECT_LE((long)(NR_PLACES * NAME_BYTES), bytes);
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	EXPECT_EQ(0, munmap(mem, len));
}

static int hold_back(char *page)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { (uintptr_t)page, 4096 },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0 && (ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* A read of a page that is held back, by each of many queue pairs. */
TEST_F_TIMEOUT(memcg, faults_that_wait_are_charged_to_the_owner, 300)
{
	struct ibv_sge sge = odp_sge(self->local, 64, self->local_mr);
	struct odp_pair *pairs = calloc(NR_WAITING, sizeof(*pairs));
	long before, bytes;
	struct ibv_wc wc;
	int fd, i;

	ASSERT_NE(NULL, pairs);
	/* Its chunk and its leaf are there, and the page is not. */
	ASSERT_EQ(IBV_WC_SUCCESS, read_places(self, self->mem, self->mr, 2, 4096));
	fd = hold_back(self->mem);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, madvise(self->mem, 4096, MADV_DONTNEED));
	for (i = 0; i < NR_WAITING; i++)
		ASSERT_EQ(0, odp_pair_open(&pairs[i], &self->dev, IBV_QPT_RC, false));
	before = group_bytes_now("kernel");
	for (i = 0; i < NR_WAITING; i++)
		ASSERT_EQ(0, odp_post(&pairs[i], IBV_WR_RDMA_READ, &sge, 1,
				      (uintptr_t)self->mem, self->mr->rkey));
	bytes = group_bytes_since(before, NR_WAITING * WAITING_BYTES);
	TH_LOG("%ld bytes charged for %d faults that wait", bytes, NR_WAITING);
	EXPECT_LE((long)NR_WAITING * WAITING_BYTES, bytes);
	ASSERT_EQ(0, close(fd));
	for (i = 0; i < NR_WAITING; i++) {
		EXPECT_EQ(0, odp_wait(&pairs[i], ODP_REQ, &wc));
		EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
		odp_pair_close(&pairs[i]);
	}
	free(pairs);
}

/* The first pages in order; the first status that is not success. */
static int write_in_order(FIXTURE_DATA(memcg) *self)
{
	char *mem = (char *)(((uintptr_t)self->mem + ODP_CHUNK - 1) & -ODP_CHUNK);
	int i, status = IBV_WC_SUCCESS;

	for (i = 0; i < IN_ORDER && status == IBV_WC_SUCCESS; i++)
		status = odp_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->local, self->local_mr,
				  64, mem + i * 4096, self->mr);
	return status;
}

/*
 * Run @fn in a process that is allowed @more bytes than the group has; its status as
 * waitpid() has it. A child, since the limit is enforced by killing a process of the group.
 */
static int run_limited(struct __test_metadata *_metadata, FIXTURE_DATA(memcg) *self, long more,
		       int (*fn)(FIXTURE_DATA(memcg) *self))
{
	long limit = group_bytes_now("kernel") + group_bytes("anon") + more;
	int status;
	pid_t pid;

	ASSERT_EQ(0, odp_put_text(GROUP "/memory.swap.max", "0"));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		FIXTURE_DATA(memcg) child = { .mem = self->mem };

		if (odp_open(&child.dev) ||
		    odp_pair_open(&child.pair, &child.dev, IBV_QPT_RC, false))
			_exit(2);
		child.local = odp_map(4096);
		child.local_mr = ibv_reg_mr(child.dev.pd, child.local, 4096, ODP_REMOTE);
		child.mr = ibv_reg_mr(child.dev.pd, child.mem, LEN, ODP_PAGED);
		if (!child.local_mr || !child.mr ||
		    odp_put_text("/proc/self/oom_score_adj", "1000") ||
		    put_number(GROUP "/memory.max", limit + (1 << 20)))
			_exit(3);
		_exit(fn(&child) == IBV_WC_SUCCESS ? 0 : 1);
	}
	/* Out of the way: the one to be killed is the child. */
	ASSERT_EQ(0, odp_put_text(ROOT "/cgroup.procs", "0"));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	TH_LOG("status %#x, %ld kills", status,
	       odp_proc_number(GROUP "/memory.events", "oom_kill"));
	ASSERT_EQ(0, odp_put_text(GROUP "/memory.max", "max"));
	return status;
}

TEST_F(memcg, limit_of_the_owner_holds)
{
	int status = run_limited(_metadata, self, (long)BYTES / 2, read_all);

	/* Its reads failed, or it was killed; not: it went beyond its limit. */
	EXPECT_TRUE(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL :
		    WEXITSTATUS(status) == 1);
}

/* There is room for what the device writes, and not for as much again ahead of that. */
TEST_F(memcg, what_comes_ahead_stays_below_the_limit)
{
	EXPECT_EQ(0, run_limited(_metadata, self, IN_ORDER * 4096, write_in_order));
}

TEST_HARNESS_MAIN
