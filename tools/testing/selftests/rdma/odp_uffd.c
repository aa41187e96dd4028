// SPDX-License-Identifier: GPL-2.0
/*
 * Regions on memory with a userfaultfd: the device waits for the handler's page, as the
 * process itself would, and nothing else waits meanwhile.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "odp_loop.h"

#include "../kselftest_harness.h"

#define PAGE	4096UL
#define AREA	(64 * PAGE)
#define AT	(3 * PAGE)	/* where the device accesses the region */
#define LEN	100
#define LIMIT	(60 * 1000)	/* for an event, in ms */
/* What must not wait takes milliseconds. */
#define AT_ONCE	5

FIXTURE(uffd) {
	struct odp_dev dev;
	struct odp_pair pair;
	struct ibv_mr *mr, *local_mr;
	char *mem, *local, *page;
	int fd;
};

FIXTURE_VARIANT(uffd) {
	bool minor;
};

FIXTURE_VARIANT_ADD(uffd, missing) { .minor = false };
FIXTURE_VARIANT_ADD(uffd, minor) { .minor = true };

/* Shared memory of which the file has all pages, filled with 'x', and the mapping none. */
static char *map_minor(void)
{
	int fd = syscall(SYS_memfd_create, "odp_uffd", 0);
	char *mem, *other;

	if (fd < 0 || ftruncate(fd, AREA))
		return MAP_FAILED;
	other = mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	mem = mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (other == MAP_FAILED)
		return other;
	memset(other, 'x', AREA);
	munmap(other, AREA);
	return mem;
}

static int uffd_open(char *mem, bool minor)
{
	struct uffdio_api api = {
		.api = UFFD_API, .features = minor ? UFFD_FEATURE_MINOR_SHMEM : 0,
	};
	struct uffdio_register reg = {
		.range = { (uintptr_t)mem, AREA },
		.mode = minor ? UFFDIO_REGISTER_MODE_MINOR : UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0 && (ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

FIXTURE_SETUP(uffd)
{
	self->mem = variant->minor ? map_minor() : odp_map(AREA);
	ASSERT_NE(MAP_FAILED, (void *)self->mem);
	/* What the kernel fills in anyway is not missing. */
	ASSERT_EQ(0, madvise(self->mem, AREA, MADV_NOHUGEPAGE));
	if (!variant->minor)
		ASSERT_EQ(0, madvise(self->mem, AREA, MADV_DONTNEED));
	self->local = odp_map(PAGE);
	self->page = odp_map(PAGE);
	memset(self->page, 'x', PAGE);
	self->fd = uffd_open(self->mem, variant->minor);
	if (self->fd < 0)
		SKIP(return, "no userfaultfd of this kind: %s", strerror(errno));
	ASSERT_EQ(0, odp_open(&self->dev));
	ASSERT_EQ(0, odp_pair_open(&self->pair, &self->dev, IBV_QPT_RC, false));
	self->mr = ibv_reg_mr(self->dev.pd, self->mem, AREA, ODP_PAGED);
	self->local_mr = ibv_reg_mr(self->dev.pd, self->local, PAGE, ODP_REMOTE);
	ASSERT_NE(NULL, self->mr);
	ASSERT_NE(NULL, self->local_mr);
}

FIXTURE_TEARDOWN(uffd)
{
	if (self->fd >= 0)
		close(self->fd);
	if (self->mr)
		EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	EXPECT_EQ(0, ibv_dereg_mr(self->local_mr));
	odp_pair_close(&self->pair);
	odp_close(&self->dev);
}

/* The peer writes to the page that is not there; 0 if the handler was told of that page. */
static int stick(FIXTURE_DATA(uffd) *self)
{
	struct ibv_sge sge = odp_sge(self->local, LEN, self->local_mr);
	struct pollfd poller = { .fd = self->fd, .events = POLLIN };
	struct uffd_msg msg = {};
	int ret;

	odp_fill(self->local, LEN, 7);
	ret = odp_post(&self->pair, IBV_WR_RDMA_WRITE, &sge, 1, (uintptr_t)self->mem + AT,
		       self->mr->rkey);
	if (ret)
		return ret;
	if (poll(&poller, 1, LIMIT) != 1 || read(self->fd, &msg, sizeof(msg)) != sizeof(msg))
		ret = ETIMEDOUT;
	else if (msg.event != UFFD_EVENT_PAGEFAULT ||
		 (msg.arg.pagefault.address & ~(PAGE - 1)) != (uintptr_t)self->mem + AT)
		ret = EIO;
	return ret;
}

static int serve(FIXTURE_DATA(uffd) *self, bool minor)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)self->mem + AT, .src = (uintptr_t)self->page, .len = PAGE,
	};
	struct uffdio_continue go = { .range = { (uintptr_t)self->mem + AT, PAGE } };

	return minor ? ioctl(self->fd, UFFDIO_CONTINUE, &go) : ioctl(self->fd, UFFDIO_COPY, &copy);
}

static int finish(FIXTURE_DATA(uffd) *self)
{
	struct ibv_wc wc;
	int ret = odp_wait(&self->pair, ODP_REQ, &wc);

	return ret ? -ret : (int)wc.status;
}

TEST_F(uffd, the_handlers_page_is_written_to)
{
	ASSERT_EQ(0, stick(self));
	ASSERT_EQ(0, serve(self, variant->minor));
	EXPECT_EQ(IBV_WC_SUCCESS, finish(self));
	EXPECT_EQ(LEN, odp_same(self->mem + AT, LEN, 7));
	EXPECT_EQ(PAGE - LEN, odp_same_byte(self->mem + AT + LEN, PAGE - LEN, 'x'));
}

/* The owner can change its address space while its device waits for the handler. */
TEST_F(uffd, the_owner_maps_memory_while_the_handler_is_waited_for)
{
	time_t began;
	char *more;

	ASSERT_EQ(0, stick(self));
	began = time(NULL);
	more = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT_NE(MAP_FAILED, (void *)more);
	EXPECT_EQ(0, munmap(more, PAGE));
	EXPECT_LE(time(NULL) - began, AT_ONCE);
	ASSERT_EQ(0, serve(self, variant->minor));
	EXPECT_EQ(IBV_WC_SUCCESS, finish(self));
}

TEST_F(uffd, closing_the_userfaultfd_ends_the_wait)
{
	ASSERT_EQ(0, stick(self));
	close(self->fd);
	self->fd = -1;
	EXPECT_EQ(IBV_WC_SUCCESS, finish(self));
	EXPECT_EQ(LEN, odp_same(self->mem + AT, LEN, 7));
}

TEST_F(uffd, dereg_does_not_wait_for_the_handler)
{
	time_t began;

	ASSERT_EQ(0, stick(self));
	began = time(NULL);
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	self->mr = NULL;
	EXPECT_LE(time(NULL) - began, AT_ONCE);
	EXPECT_NE(IBV_WC_SUCCESS, finish(self));
	ASSERT_EQ(0, serve(self, variant->minor));
	EXPECT_EQ(PAGE, odp_same_byte(self->mem + AT, PAGE, 'x'));
}

TEST_HARNESS_MAIN
