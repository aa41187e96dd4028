// SPDX-License-Identifier: GPL-2.0
/*
 * Memory of which user space decides when it is there: a file of a FUSE file system
 * whose daemon stops answering. A fault in it sleeps until the daemon goes on. Nothing
 * else may wait for it: neither the end of the region, of the queue pair and of the
 * process, nor the traffic of others.
 *
 * The process can change its address space meanwhile. Most tests do not, as its own access
 * to such a page would wait, and have other processes show that these go on.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#define FUSE_USE_VERSION 31

#include <fuse.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "odp_loop.h"

#include "../kselftest_harness.h"

#define PAGE	4096UL
#define AREA	(64 * PAGE)
/* What must not wait takes milliseconds; what waits takes as long as we want. */
#define AT_ONCE	5

/* ---- the file system: one file, of which a page can be held back ---- */

struct slow_fs {
	char dir[32];
	pid_t daemon;
	int asked[2];		/* from the daemon: a byte for each page held back */
	int go[2];		/* to the daemon: closed when it may answer */
};

static struct slow_fs *served;

static int slow_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	memset(st, 0, sizeof(*st));
	st->st_mode = strcmp(path, "/") ? S_IFREG | 0600 : S_IFDIR | 0700;
	st->st_nlink = 1;
	st->st_size = AREA;
	return 0;
}

static int slow_open(const char *path, struct fuse_file_info *fi)
{
	return 0;
}

/* All but the first page is held back. */
static int slow_read(const char *path, char *buf, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	char byte = 0;

	if (offset + size > PAGE) {
		if (write(served->asked[1], &byte, 1) != 1)
			return -EIO;
		/* End of file: the other end was closed. */
		while (read(served->go[0], &byte, 1) > 0)
			;
	}
	memset(buf, 'x', size);
	return size;
}

static void *slow_init(struct fuse_conn_info *conn, struct fuse_config *config)
{
	/* No read-ahead: a page that is not asked for is not held back. */
	conn->max_readahead = 0;
	config->kernel_cache = 1;
	return NULL;
}

static const struct fuse_operations slow_ops = {
	.init = slow_init,
	.getattr = slow_getattr,
	.open = slow_open,
	.read = slow_read,
};

static void slow_serve(struct slow_fs *fs)
{
	char name[] = "slow", foreground[] = "-f";
	char *argv[4] = { name, foreground, fs->dir };

	served = fs;
	close(fs->asked[0]);
	close(fs->go[1]);
	exit(fuse_main(3, argv, &slow_ops, NULL));
}

static int slow_mount(struct slow_fs *fs)
{
	struct stat st;
	int i;

	snprintf(fs->dir, sizeof(fs->dir), "/tmp/odp_slow.XXXXXX");
	if (!mkdtemp(fs->dir) || pipe2(fs->asked, O_CLOEXEC) || pipe2(fs->go, O_CLOEXEC))
		return errno;
	fs->daemon = fork();
	if (!fs->daemon)
		slow_serve(fs);
	close(fs->asked[1]);
	close(fs->go[0]);
	for (i = 0; i < 6000; i++) {
		if (!stat(fs->dir, &st) && st.st_size == (off_t)AREA)
			return 0;
		usleep(10000);
	}
	return errno = ETIMEDOUT;
}

static void slow_go(struct slow_fs *fs)
{
	if (fs->go[1] >= 0)
		close(fs->go[1]);
	fs->go[1] = -1;
}

static void slow_unmount(struct slow_fs *fs)
{
	slow_go(fs);
	close(fs->asked[0]);
	umount2(fs->dir, MNT_DETACH);
	/* It would serve what still maps the file. */
	kill(fs->daemon, SIGKILL);
	waitpid(fs->daemon, NULL, 0);
	rmdir(fs->dir);
}

static char *slow_map(struct slow_fs *fs)
{
	char path[64], *mem;
	int fd;

	snprintf(path, sizeof(path), "%s/file", fs->dir);
	fd = open(path, O_RDWR);
	if (fd < 0)
		return MAP_FAILED;
	mem = mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	close(fd);
	return mem;
}

/* Until a page that nobody has yet is being held back. */
static bool slow_is_asked(struct slow_fs *fs)
{
	char byte;

	return read(fs->asked[0], &byte, 1) == 1;
}

/* ---- others: a process with a region and queues of its own on the same device ---- */

struct others {
	pid_t pid;
	int ask[2];
	int answer[2];
};

static bool others_transfer(struct odp_pair *pair, char *mem, struct ibv_mr *mr, int nr)
{
	odp_fill(mem, PAGE, nr);
	return odp_rdma(pair, IBV_WR_RDMA_WRITE, mem, mr, PAGE, mem + 8 * PAGE, mr) ==
		IBV_WC_SUCCESS && odp_same(mem + 8 * PAGE, PAGE, nr) == PAGE &&
	       !madvise(mem, AREA, MADV_DONTNEED);
}

/* A byte for each transfer that is asked for: did it succeed? */
static void others_serve(struct others *others)
{
	struct odp_pair pair;
	struct odp_dev dev;
	struct ibv_mr *mr;
	char byte, *mem;
	int nr = 0;

	mem = odp_map(AREA);
	if (mem == MAP_FAILED || odp_open(&dev) ||
	    odp_pair_open(&pair, &dev, IBV_QPT_RC, false))
		exit(1);
	mr = ibv_reg_mr(dev.pd, mem, AREA, ODP_PAGED);
	while (mr && read(others->ask[0], &byte, 1) == 1) {
		byte = others_transfer(&pair, mem, mr, ++nr);
		if (write(others->answer[1], &byte, 1) != 1)
			break;
	}
	exit(1);
}

static int others_start(struct others *others)
{
	if (pipe(others->ask) || pipe(others->answer))
		return errno;
	others->pid = fork();
	if (!others->pid)
		others_serve(others);
	close(others->ask[0]);
	close(others->answer[1]);
	return others->pid < 0 ? errno : 0;
}

static void others_stop(struct others *others)
{
	kill(others->pid, SIGKILL);
	waitpid(others->pid, NULL, 0);
	close(others->ask[1]);
	close(others->answer[0]);
}

static bool others_go_on(struct others *others)
{
	char byte = 0;

	return write(others->ask[1], &byte, 1) == 1 &&
	       read(others->answer[0], &byte, 1) == 1 && byte;
}

/* ---- tests ---- */

FIXTURE(slow) {
	struct others others;
	struct slow_fs fs;
	struct odp_dev dev;
	struct odp_pair pair;
	struct ibv_mr *mr, *pinned_mr;
	char *mem, *pinned;
};

FIXTURE_SETUP(slow)
{
	ASSERT_EQ(0, others_start(&self->others));
	ASSERT_EQ(0, slow_mount(&self->fs));
	ASSERT_EQ(0, odp_open(&self->dev));
	ASSERT_EQ(0, odp_pair_open(&self->pair, &self->dev, IBV_QPT_RC, false));
	self->mem = slow_map(&self->fs);
	self->pinned = odp_map(AREA);
	ASSERT_NE(MAP_FAILED, (void *)self->mem);
	ASSERT_NE(MAP_FAILED, (void *)self->pinned);
	self->mr = ibv_reg_mr(self->dev.pd, self->mem, AREA, ODP_PAGED);
	self->pinned_mr = ibv_reg_mr(self->dev.pd, self->pinned, AREA, ODP_REMOTE);
	ASSERT_NE(NULL, self->mr);
	ASSERT_NE(NULL, self->pinned_mr);
}

FIXTURE_TEARDOWN(slow)
{
	slow_go(&self->fs);
	if (self->mr)
		EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	EXPECT_EQ(0, ibv_dereg_mr(self->pinned_mr));
	odp_pair_close(&self->pair);
	odp_close(&self->dev);
	slow_unmount(&self->fs);
	others_stop(&self->others);
}

/* The requester reads page @nr of the file, and does not get it. */
static int stick(FIXTURE_DATA(slow) *self, int nr)
{
	struct ibv_sge sge = odp_sge(self->mem + nr * PAGE, PAGE, self->mr);
	int ret;

	ret = odp_post(&self->pair, IBV_WR_RDMA_WRITE, &sge, 1,
		       (uintptr_t)self->pinned, self->pinned_mr->rkey);
	if (!ret && !slow_is_asked(&self->fs))
		ret = EIO;
	return ret;
}

/* The responder writes to page @nr of the file. */
static int stick_remote(FIXTURE_DATA(slow) *self, int nr)
{
	struct ibv_sge sge = odp_sge(self->pinned, 8, self->pinned_mr);
	int ret;

	ret = odp_post(&self->pair, IBV_WR_RDMA_WRITE, &sge, 1,
		       (uintptr_t)(self->mem + nr * PAGE), self->mr->rkey);
	if (!ret && !slow_is_asked(&self->fs))
		ret = EIO;
	return ret;
}

/* Nor does the owner wait: the mmap_lock is not held while the daemon is waited for. */
static bool owner_goes_on(void)
{
	time_t began = time(NULL);
	char *mem = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mem != MAP_FAILED && !munmap(mem, PAGE) && time(NULL) - began <= AT_ONCE;
}

TEST_F_TIMEOUT(slow, data_comes_when_the_daemon_answers, 200)
{
	struct ibv_wc wc;

	ASSERT_EQ(0, stick(self, 3));
	EXPECT_TRUE(others_go_on(&self->others));
	EXPECT_TRUE(owner_goes_on());
	slow_go(&self->fs);
	ASSERT_EQ(0, odp_wait(&self->pair, ODP_REQ, &wc));
	EXPECT_EQ(IBV_WC_SUCCESS, wc.status);
	EXPECT_EQ(PAGE, odp_same_byte(self->pinned, PAGE, 'x'));
	/* And what the responder had to read before it could write a part of it. */
	odp_fill(self->pinned, PAGE, 2);
	ASSERT_EQ(IBV_WC_SUCCESS, odp_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->pinned,
					   self->pinned_mr, 100, self->mem + 5 * PAGE,
					   self->mr));
	EXPECT_EQ(100, odp_same(self->mem + 5 * PAGE, 100, 2));
	EXPECT_EQ(PAGE - 100, odp_same_byte(self->mem + 5 * PAGE + 100, PAGE - 100, 'x'));
}

TEST_F_TIMEOUT(slow, regress_dereg_leaves_a_fault_that_sleeps, 200)
{
	time_t began;
	struct ibv_wc wc;

	ASSERT_EQ(0, stick(self, 3));
	began = time(NULL);
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	self->mr = NULL;
	EXPECT_LE(time(NULL) - began, AT_ONCE);
	/* The operation failed, and the daemon's answer changes nothing of that. */
	ASSERT_EQ(0, odp_wait(&self->pair, ODP_REQ, &wc));
	EXPECT_NE(IBV_WC_SUCCESS, wc.status);
	EXPECT_EQ(PAGE, odp_same_byte(self->pinned, PAGE, 0));
	EXPECT_TRUE(others_go_on(&self->others));
	slow_go(&self->fs);
	EXPECT_TRUE(others_go_on(&self->others));
	EXPECT_EQ(PAGE, odp_same_byte(self->pinned, PAGE, 0));
}

TEST_F_TIMEOUT(slow, regress_dereg_leaves_a_responders_fault_that_sleeps, 200)
{
	time_t began;

	ASSERT_EQ(0, stick_remote(self, 3));
	began = time(NULL);
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	self->mr = NULL;
	EXPECT_LE(time(NULL) - began, AT_ONCE);
	EXPECT_TRUE(others_go_on(&self->others));
}

/* Without the library, which then unmaps the queue pair's memory. */
TEST_F_TIMEOUT(slow, regress_destroying_a_queue_pair_leaves_a_fault_that_sleeps, 200)
{
	time_t began;
	int side;

	ASSERT_EQ(0, stick(self, 3));
	for (side = 0; side < 2; side++) {
		began = time(NULL);
		EXPECT_EQ(0, odp_destroy_qp(self->pair.qp[side]));
		self->pair.qp[side] = NULL;
		EXPECT_LE(time(NULL) - began, AT_ONCE);
	}
	EXPECT_TRUE(others_go_on(&self->others));
}

TEST_F_TIMEOUT(slow, regress_reset_leaves_a_fault_that_sleeps, 200)
{
	time_t began;

	ASSERT_EQ(0, stick(self, 3));
	began = time(NULL);
	ASSERT_EQ(0, odp_pair_reconnect(&self->pair));
	EXPECT_LE(time(NULL) - began, AT_ONCE);
	/* It works again with memory that is there. */
	EXPECT_EQ(IBV_WC_SUCCESS, odp_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->mem,
					   self->mr, PAGE, self->pinned, self->pinned_mr));
	EXPECT_EQ(PAGE, odp_same_byte(self->pinned, PAGE, 'x'));
}

/* More than any workqueue has workers for. */
TEST_F_TIMEOUT(slow, regress_others_do_not_wait_for_prefetches_that_sleep, 200)
{
	struct ibv_sge sge;
	time_t began;
	int i;

	for (i = 0; i < 1500; i++) {
		sge = odp_sge(self->mem + (3 + i % 32) * PAGE, PAGE, self->mr);
		ASSERT_EQ(0, odp_advise(self->dev.pd, IBV_ADVISE_MR_ADVICE_PREFETCH, 0,
					&sge, 1));
	}
	ASSERT_TRUE(slow_is_asked(&self->fs));
	EXPECT_TRUE(others_go_on(&self->others));
	began = time(NULL);
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	self->mr = NULL;
	EXPECT_LE(time(NULL) - began, AT_ONCE);
}

/*
 * A process is killed and waited for; a child, as ours serves as the parent of the
 * daemon. It makes everything anew: contexts are not for children.
 */
static void be_killed(struct slow_fs *fs, int ready)
{
	FIXTURE_DATA(slow) self = { .fs = *fs };
	char byte = 0;

	if (odp_open(&self.dev) || odp_pair_open(&self.pair, &self.dev, IBV_QPT_RC, false))
		exit(1);
	self.mem = slow_map(fs);
	self.pinned = odp_map(AREA);
	self.mr = ibv_reg_mr(self.dev.pd, self.mem, AREA, ODP_PAGED);
	self.pinned_mr = ibv_reg_mr(self.dev.pd, self.pinned, AREA, ODP_REMOTE);
	if (!self.mr || !self.pinned_mr || stick(&self, 7) ||
	    write(ready, &byte, 1) != 1)
		exit(1);
	pause();
	exit(1);
}

/* Seconds that a killed process with a fault that sleeps needs to be gone. */
static int time_to_die(struct __test_metadata *_metadata, FIXTURE_DATA(slow) *self)
{
	int ready[2], status;
	time_t began;
	pid_t child;
	char byte;

	ASSERT_EQ(0, pipe(ready));
	child = fork();
	ASSERT_GE(child, 0);
	if (!child) {
		close(ready[0]);
		be_killed(&self->fs, ready[1]);
	}
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &byte, 1));
	close(ready[0]);
	ASSERT_EQ(0, kill(child, SIGKILL));
	began = time(NULL);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	return time(NULL) - began;
}

TEST_F_TIMEOUT(slow, regress_a_killed_process_leaves_its_faults, 200)
{
	EXPECT_LE(time_to_die(_metadata, self), AT_ONCE);
	EXPECT_TRUE(others_go_on(&self->others));
	slow_go(&self->fs);
	EXPECT_TRUE(others_go_on(&self->others));
}

/* For longer than anything in rxe waits; in the long tier. */
TEST_F_TIMEOUT(slow, regress_nothing_is_freed_under_a_fault_that_sleeps, 400)
{
	EXPECT_LE(time_to_die(_metadata, self), AT_ONCE);
	ASSERT_EQ(0, stick(self, 3));
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	self->mr = NULL;
	sleep(60);
	EXPECT_TRUE(others_go_on(&self->others));
	slow_go(&self->fs);
	EXPECT_TRUE(others_go_on(&self->others));
}

TEST_HARNESS_MAIN
