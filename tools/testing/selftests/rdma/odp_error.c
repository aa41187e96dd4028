// SPDX-License-Identifier: GPL-2.0
/*
 * Accesses to memory that cannot be paged in: they end with the status that an
 * access outside of a region would, change nothing, and once the QPs have been
 * reset, everything works again.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "odp_loop.h"

#include "../kselftest_harness.h"

#define PAGE	4096UL
#define AREA	(4 * PAGE)
#define LEN	(2 * PAGE)

FIXTURE(error) {
	struct odp_dev dev;
	struct odp_pair pair;
	struct ibv_mr *mr, *pinned_mr;
	char *mem, *pinned;	/* what it is about, and a sound peer */
};

FIXTURE_SETUP(error)
{
	ASSERT_EQ(0, odp_open(&self->dev));
	ASSERT_EQ(0, odp_pair_open(&self->pair, &self->dev, IBV_QPT_RC, false));
	self->mem = odp_map(AREA);
	self->pinned = odp_map(AREA);
	ASSERT_NE(MAP_FAILED, (void *)self->mem);
	ASSERT_NE(MAP_FAILED, (void *)self->pinned);
	self->mr = ibv_reg_mr(self->dev.pd, self->mem, AREA, ODP_PAGED);
	self->pinned_mr = ibv_reg_mr(self->dev.pd, self->pinned, AREA, ODP_REMOTE);
	ASSERT_NE(NULL, self->mr);
	ASSERT_NE(NULL, self->pinned_mr);
}

FIXTURE_TEARDOWN(error)
{
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	EXPECT_EQ(0, ibv_dereg_mr(self->pinned_mr));
	odp_pair_close(&self->pair);
	odp_close(&self->dev);
}

/* The requester's memory is sound, the responder's is not, or may be. */
static int remote(FIXTURE_DATA(error) *self, enum ibv_wr_opcode op, size_t len)
{
	return odp_rdma(&self->pair, op, self->pinned, self->pinned_mr, len,
			self->mem, self->mr);
}

/* The other way round. */
static int local(FIXTURE_DATA(error) *self, enum ibv_wr_opcode op, size_t len)
{
	return odp_rdma(&self->pair, op, self->mem, self->mr, len,
			self->pinned, self->pinned_mr);
}

/* SEND from one region to another; the status of both ends. */
static void send_recv(struct __test_metadata *_metadata, FIXTURE_DATA(error) *self,
		      const char *from, struct ibv_mr *from_mr, char *to,
		      struct ibv_mr *to_mr, int status[2])
{
	struct ibv_sge sge[2] = { odp_sge(from, LEN, from_mr), odp_sge(to, LEN, to_mr) };
	struct ibv_wc wc;

	ASSERT_EQ(0, odp_post_recv(&self->pair, &sge[1], 1));
	ASSERT_EQ(0, odp_post(&self->pair, IBV_WR_SEND, &sge[0], 1, 0, 0));
	ASSERT_EQ(0, odp_wait(&self->pair, ODP_REQ, &wc));
	status[ODP_REQ] = wc.status;
	/* Nothing arrives of what could not be sent. */
	if (wc.status == IBV_WC_LOC_PROT_ERR)
		return;
	ASSERT_EQ(0, odp_wait(&self->pair, ODP_RESP, &wc));
	status[ODP_RESP] = wc.status;
}

/* Reset, give the region sound memory, and use it in both directions. */
static void works_again(struct __test_metadata *_metadata, FIXTURE_DATA(error) *self)
{
	void *mem = mmap(self->mem, AREA, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	ASSERT_EQ((void *)self->mem, mem);
	ASSERT_EQ(0, odp_pair_reconnect(&self->pair));
	odp_fill(self->pinned, LEN, 1);
	ASSERT_EQ(IBV_WC_SUCCESS, remote(self, IBV_WR_RDMA_WRITE, LEN));
	ASSERT_EQ(LEN, odp_same(self->mem, LEN, 1));
	memset(self->pinned, 0, LEN);
	ASSERT_EQ(IBV_WC_SUCCESS, remote(self, IBV_WR_RDMA_READ, LEN));
	ASSERT_EQ(LEN, odp_same(self->pinned, LEN, 1));
}

TEST_F(error, send_from_unmapped_memory_is_a_local_protection_error)
{
	int status[2];

	ASSERT_EQ(0, munmap(self->mem, AREA));
	send_recv(_metadata, self, self->mem, self->mr, self->pinned, self->pinned_mr, status);
	EXPECT_EQ(IBV_WC_LOC_PROT_ERR, status[ODP_REQ]);
	works_again(_metadata, self);
}

TEST_F(error, write_from_unmapped_memory_is_a_local_protection_error)
{
	ASSERT_EQ(0, munmap(self->mem, AREA));
	EXPECT_EQ(IBV_WC_LOC_PROT_ERR, local(self, IBV_WR_RDMA_WRITE, LEN));
	EXPECT_EQ(LEN, odp_same_byte(self->pinned, LEN, 0));
	works_again(_metadata, self);
}

TEST_F(error, read_into_unmapped_memory_is_a_local_protection_error)
{
	ASSERT_EQ(0, munmap(self->mem, AREA));
	EXPECT_EQ(IBV_WC_LOC_PROT_ERR, local(self, IBV_WR_RDMA_READ, LEN));
	works_again(_metadata, self);
}

TEST_F(error, read_into_read_only_memory_is_a_local_protection_error)
{
	odp_fill(self->mem, LEN, 2);
	ASSERT_EQ(0, mprotect(self->mem, AREA, PROT_READ));
	EXPECT_EQ(IBV_WC_LOC_PROT_ERR, local(self, IBV_WR_RDMA_READ, LEN));
	EXPECT_EQ(LEN, odp_same(self->mem, LEN, 2));
	works_again(_metadata, self);
}

TEST_F(error, recv_into_read_only_memory_is_an_error_at_both_ends)
{
	int status[2];

	odp_fill(self->mem, LEN, 3);
	ASSERT_EQ(0, mprotect(self->mem, AREA, PROT_READ));
	send_recv(_metadata, self, self->pinned, self->pinned_mr, self->mem, self->mr, status);
	EXPECT_EQ(IBV_WC_REM_OP_ERR, status[ODP_REQ]);
	EXPECT_EQ(IBV_WC_LOC_PROT_ERR, status[ODP_RESP]);
	EXPECT_EQ(LEN, odp_same(self->mem, LEN, 3));
	works_again(_metadata, self);
}

TEST_F(error, recv_into_unmapped_memory_is_an_error_at_both_ends)
{
	int status[2];

	ASSERT_EQ(0, munmap(self->mem, AREA));
	send_recv(_metadata, self, self->pinned, self->pinned_mr, self->mem, self->mr, status);
	EXPECT_EQ(IBV_WC_REM_OP_ERR, status[ODP_REQ]);
	EXPECT_EQ(IBV_WC_LOC_PROT_ERR, status[ODP_RESP]);
	works_again(_metadata, self);
}

TEST_F(error, write_to_unmapped_memory_is_a_remote_access_error)
{
	ASSERT_EQ(0, munmap(self->mem, AREA));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, remote(self, IBV_WR_RDMA_WRITE, LEN));
	works_again(_metadata, self);
}

TEST_F(error, read_from_unmapped_memory_is_a_remote_access_error)
{
	ASSERT_EQ(0, munmap(self->mem, AREA));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, remote(self, IBV_WR_RDMA_READ, LEN));
	EXPECT_EQ(LEN, odp_same_byte(self->pinned, LEN, 0));
	works_again(_metadata, self);
}

TEST_F(error, read_from_inaccessible_memory_is_a_remote_access_error)
{
	odp_fill(self->mem, LEN, 4);
	ASSERT_EQ(0, mprotect(self->mem, AREA, PROT_NONE));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, remote(self, IBV_WR_RDMA_READ, LEN));
	EXPECT_EQ(LEN, odp_same_byte(self->pinned, LEN, 0));
	works_again(_metadata, self);
}

TEST_F(error, write_stops_at_the_hole)
{
	odp_fill(self->pinned, AREA, 5);
	ASSERT_EQ(0, munmap(self->mem + PAGE, PAGE));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, remote(self, IBV_WR_RDMA_WRITE, AREA));
	EXPECT_EQ(2 * PAGE, odp_same_byte(self->mem + 2 * PAGE, 2 * PAGE, 0));
	works_again(_metadata, self);
}

TEST_F(error, pages_once_writable_are_not_after_mprotect)
{
	bool rxe = odp_is_rxe(self->dev.ctx);

	odp_fill(self->pinned, LEN, 6);
	ASSERT_EQ(IBV_WC_SUCCESS, remote(self, IBV_WR_RDMA_WRITE, LEN));
	ASSERT_EQ(0, mprotect(self->mem, AREA, PROT_READ));
	odp_fill(self->pinned, LEN, 7);
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, remote(self, IBV_WR_RDMA_WRITE, LEN));
	EXPECT_EQ(LEN, odp_same(self->mem, LEN, 6));
	/* They can still be read, if the device says that it reads; mlx5 does not. */
	ASSERT_EQ(0, odp_pair_reconnect(&self->pair));
	ASSERT_EQ(rxe ? IBV_WC_SUCCESS : IBV_WC_REM_ACCESS_ERR,
		  remote(self, IBV_WR_RDMA_READ, LEN));
	if (rxe)
		EXPECT_EQ(LEN, odp_same(self->pinned, LEN, 6));
	ASSERT_EQ(0, odp_pair_reconnect(&self->pair));
	/* And written when that is allowed again. */
	ASSERT_EQ(0, mprotect(self->mem, AREA, PROT_READ | PROT_WRITE));
	odp_fill(self->pinned, LEN, 8);
	EXPECT_EQ(IBV_WC_SUCCESS, remote(self, IBV_WR_RDMA_WRITE, LEN));
	EXPECT_EQ(LEN, odp_same(self->mem, LEN, 8));
}

TEST_F(error, memory_behind_the_end_of_a_file_is_a_remote_access_error)
{
	int fd = memfd_create("short", 0);
	void *mem;

	ASSERT_GE(fd, 0);
	ASSERT_EQ(0, ftruncate(fd, PAGE));
	mem = mmap(self->mem, AREA, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	ASSERT_EQ((void *)self->mem, mem);
	odp_fill(self->pinned, LEN, 9);
	EXPECT_EQ(IBV_WC_SUCCESS, remote(self, IBV_WR_RDMA_WRITE, PAGE));
	EXPECT_EQ(PAGE, odp_same(self->mem, PAGE, 9));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, remote(self, IBV_WR_RDMA_WRITE, LEN));
	/* Truncation takes pages away that the device had. */
	ASSERT_EQ(0, odp_pair_reconnect(&self->pair));
	ASSERT_EQ(0, ftruncate(fd, 0));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, remote(self, IBV_WR_RDMA_READ, PAGE));
	works_again(_metadata, self);
	ASSERT_EQ(0, close(fd));
}

TEST_F(error, one_byte_beyond_the_region_is_a_remote_access_error)
{
	struct ibv_mr *mr = ibv_reg_mr(self->dev.pd, self->mem + 1, PAGE, ODP_PAGED);
	int off;

	ASSERT_NE(NULL, mr);
	for (off = 0; off <= 2; off++) {
		EXPECT_EQ(off == 1 ? IBV_WC_SUCCESS : IBV_WC_REM_ACCESS_ERR,
			  odp_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->pinned,
				   self->pinned_mr, PAGE, self->mem + off, mr));
		ASSERT_EQ(0, odp_pair_reconnect(&self->pair));
	}
	ASSERT_EQ(0, ibv_dereg_mr(mr));
}

TEST_F(error, region_for_reading_is_not_written)
{
	struct ibv_mr *mr = ibv_reg_mr(self->dev.pd, self->mem, AREA,
				       IBV_ACCESS_ON_DEMAND | IBV_ACCESS_REMOTE_READ);

	ASSERT_NE(NULL, mr);
	odp_fill(self->mem, LEN, 10);
	EXPECT_EQ(IBV_WC_SUCCESS, odp_rdma(&self->pair, IBV_WR_RDMA_READ, self->pinned,
					   self->pinned_mr, LEN, self->mem, mr));
	EXPECT_EQ(LEN, odp_same(self->pinned, LEN, 10));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
		  odp_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->pinned + 1,
			   self->pinned_mr, LEN, self->mem, mr));
	EXPECT_EQ(LEN, odp_same(self->mem, LEN, 10));
	ASSERT_EQ(0, ibv_dereg_mr(mr));
	works_again(_metadata, self);
}

TEST_F(error, atomic_on_memory_that_cannot_be_written_is_a_remote_access_error)
{
	struct ibv_sge sge = odp_sge(self->pinned, 8, self->pinned_mr);
	struct ibv_wc wc;

	odp_fill(self->mem, LEN, 11);
	ASSERT_EQ(0, mprotect(self->mem, AREA, PROT_READ));
	ASSERT_EQ(0, odp_post_atomic(&self->pair, IBV_WR_ATOMIC_FETCH_AND_ADD, &sge,
				     (uintptr_t)self->mem, self->mr->rkey, 1, 0));
	ASSERT_EQ(0, odp_wait(&self->pair, ODP_REQ, &wc));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, wc.status);
	EXPECT_EQ(LEN, odp_same(self->mem, LEN, 11));
	works_again(_metadata, self);
}

/* Of which the kernel has no mapping, and get_user_pages() wants nothing. */
TEST_F(error, regress_secret_memory_is_a_protection_error)
{
	int fd = syscall(SYS_memfd_secret, 0);
	void *mem;

	if (fd < 0)
		SKIP(return, "no memfd_secret: %s", strerror(errno));
	ASSERT_EQ(0, ftruncate(fd, AREA));
	mem = mmap(self->mem, AREA, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	ASSERT_EQ((void *)self->mem, mem);
	memset(mem, 'x', AREA);
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, remote(self, IBV_WR_RDMA_WRITE, LEN));
	ASSERT_EQ(0, odp_pair_reconnect(&self->pair));
	EXPECT_EQ(IBV_WC_LOC_PROT_ERR, local(self, IBV_WR_RDMA_WRITE, LEN));
	EXPECT_EQ(AREA, odp_same_byte(mem, AREA, 'x'));
	ASSERT_EQ(0, close(fd));
	works_again(_metadata, self);
}

/* Such a userfaultfd has no event for an access by the kernel or by a device. */
TEST_F(error, missing_page_of_a_user_mode_userfaultfd_is_a_remote_access_error)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { (uintptr_t)self->mem, AREA },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

	if (fd < 0)
		SKIP(return, "no userfaultfd: %s", strerror(errno));
	ASSERT_EQ(0, ioctl(fd, UFFDIO_API, &api));
	ASSERT_EQ(0, ioctl(fd, UFFDIO_REGISTER, &reg));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, remote(self, IBV_WR_RDMA_WRITE, LEN));
	ASSERT_EQ(0, close(fd));
	works_again(_metadata, self);
}

TEST_HARNESS_MAIN
