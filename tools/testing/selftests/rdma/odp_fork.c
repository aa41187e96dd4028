// SPDX-License-Identifier: GPL-2.0
/*
 * A child that uses what its parent opened: a region belongs to the address space of the
 * process that registers it, whichever process opened the device, and advice is for the
 * memory of the region's owner, whichever process gives it.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "odp_loop.h"

#include "../kselftest_harness.h"

#define PAGE	4096UL
#define LEN	(16 * PAGE)
/* What is in the memory: the parent's, the child's, and what the device writes. */
enum { PARENT_BYTE = 1, CHILD_BYTE, DEVICE_BYTE };

/* What the child tells. */
struct told {
	uint32_t rkey;
	uint32_t handle;
	int error;
};

FIXTURE(child) {
	struct odp_dev dev;
	struct odp_pair pair;
	struct ibv_mr *local_mr;
	char *mem, *local;
	struct told *told;
	pid_t pid;
	int ready[2], go[2];
};

FIXTURE_SETUP(child)
{
	self->pid = 0;
	self->mem = odp_map(LEN);
	self->local = odp_map(LEN);
	self->told = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->told);
	ASSERT_EQ(0, pipe(self->ready));
	ASSERT_EQ(0, pipe(self->go));
	ASSERT_EQ(0, odp_open(&self->dev));
	ASSERT_EQ(0, odp_pair_open(&self->pair, &self->dev, IBV_QPT_RC, false));
	self->local_mr = ibv_reg_mr(self->dev.pd, self->local, LEN, ODP_REMOTE);
	ASSERT_NE(NULL, self->local_mr);
	memset(self->mem, PARENT_BYTE, LEN);
}

FIXTURE_TEARDOWN(child)
{
	EXPECT_EQ(0, ibv_dereg_mr(self->local_mr));
	odp_pair_close(&self->pair);
	odp_close(&self->dev);
}

/* In the child: a region of its own memory, by the parent's domain. */
static void child_registers(FIXTURE_DATA(child) *self)
{
	struct ibv_mr *mr;

	memset(self->mem, CHILD_BYTE, LEN);
	mr = ibv_reg_mr(self->dev.pd, self->mem, LEN, ODP_PAGED);
	self->told->error = mr ? 0 : errno;
	if (mr) {
		self->told->rkey = mr->rkey;
		self->told->handle = mr->handle;
	}
}

/* Run @fn in a child, which says when it is done and then waits. */
static void start_child(struct __test_metadata *_metadata, FIXTURE_DATA(child) *self,
			void (*fn)(FIXTURE_DATA(child) *self), int expected)
{
	char c;

	self->pid = fork();
	ASSERT_LE(0, self->pid);
	if (!self->pid) {
		fn(self);
		if (write(self->ready[1], "r", 1) != 1 || read(self->go[0], &c, 1) != 1)
			_exit(2);
		_exit(odp_same_byte(self->mem, LEN, expected) == LEN ? 0 : 1);
	}
	ASSERT_EQ(1, read(self->ready[0], &c, 1));
	ASSERT_EQ(0, self->told->error);
}

/* It ends, and its memory was as expected. */
static void end_child(struct __test_metadata *_metadata, FIXTURE_DATA(child) *self)
{
	int status;

	ASSERT_EQ(1, write(self->go[1], "g", 1));
	ASSERT_EQ(self->pid, waitpid(self->pid, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
}

static int transfer(FIXTURE_DATA(child) *self, enum ibv_wr_opcode op)
{
	struct ibv_mr region = { .rkey = self->told->rkey };

	return odp_rdma(&self->pair, op, self->local, self->local_mr, LEN, self->mem, &region);
}

/* A region that this process has no struct ibv_mr of. */
static int deregister(FIXTURE_DATA(child) *self, uint32_t driver)
{
	struct {
		struct ib_uverbs_ioctl_hdr hdr;
		struct ib_uverbs_attr attr;
	} cmd = {
		.hdr = {
			.length = sizeof(cmd),
			.object_id = UVERBS_OBJECT_MR,
			.method_id = UVERBS_METHOD_MR_DESTROY,
			.num_attrs = 1,
			.driver_id = driver,
		},
		.attr = {
			.attr_id = UVERBS_ATTR_DESTROY_MR_HANDLE,
			.flags = UVERBS_ATTR_F_MANDATORY,
			.data = self->told->handle,
		},
	};

	return ioctl(self->dev.ctx->cmd_fd, RDMA_VERBS_IOCTL, &cmd) ? errno : 0;
}

static int deregister_childs(FIXTURE_DATA(child) *self)
{
	bool rxe = odp_is_rxe(self->dev.ctx);

	return deregister(self, rxe ? RDMA_DRIVER_RXE : RDMA_DRIVER_MLX5);
}

TEST_F(child, its_region_is_of_its_own_memory)
{
	start_child(_metadata, self, child_registers, DEVICE_BYTE);
	ASSERT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_READ));
	EXPECT_EQ(LEN, odp_same_byte(self->local, LEN, CHILD_BYTE));
	memset(self->local, DEVICE_BYTE, LEN);
	ASSERT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_WRITE));
	end_child(_metadata, self);
	EXPECT_EQ(LEN, odp_same_byte(self->mem, LEN, PARENT_BYTE));
	EXPECT_EQ(0, deregister_childs(self));
}

TEST_F(child, its_region_outlives_it_without_memory)
{
	start_child(_metadata, self, child_registers, CHILD_BYTE);
	ASSERT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_READ));
	end_child(_metadata, self);
	memset(self->local, DEVICE_BYTE, LEN);
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, transfer(self, IBV_WR_RDMA_WRITE));
	EXPECT_EQ(LEN, odp_same_byte(self->mem, LEN, PARENT_BYTE));
	ASSERT_EQ(0, odp_pair_reconnect(&self->pair));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, transfer(self, IBV_WR_RDMA_READ));
	EXPECT_EQ(LEN, odp_same_byte(self->local, LEN, DEVICE_BYTE));
	EXPECT_EQ(0, deregister_childs(self));
	ASSERT_EQ(0, odp_pair_reconnect(&self->pair));
}

static struct ibv_mr *parents_mr;

/* In the child: advice for its parent's region, waited for. */
static void child_advises(FIXTURE_DATA(child) *self)
{
	struct ibv_sge sge = odp_sge(self->mem, LEN, parents_mr);

	memset(self->mem, CHILD_BYTE, LEN);
	self->told->error = odp_advise(self->dev.pd, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE,
				       IBV_ADVISE_MR_FLAG_FLUSH, &sge, 1);
}

/* The same, not waited for; then memory that it has mapped goes. */
static void child_advises_in_passing(FIXTURE_DATA(child) *self)
{
	struct ibv_sge sge = odp_sge(self->mem, LEN, parents_mr);
	int i;

	for (i = 0; i < 100 && !self->told->error; i++) {
		memset(self->mem, CHILD_BYTE, LEN);
		self->told->error = odp_advise(self->dev.pd,
					       IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, 0, &sge, 1);
	}
}

static void parent_is_advised(struct __test_metadata *_metadata, FIXTURE_DATA(child) *self,
			      void (*fn)(FIXTURE_DATA(child) *self))
{
	parents_mr = ibv_reg_mr(self->dev.pd, self->mem, LEN, ODP_PAGED);
	ASSERT_NE(NULL, parents_mr);
	/* What registration has brought in is gone again, and with it what was written. */
	ASSERT_EQ(0, madvise(self->mem, LEN, MADV_DONTNEED));
	start_child(_metadata, self, fn, CHILD_BYTE);
	self->told->rkey = parents_mr->rkey;
	memset(self->local, DEVICE_BYTE, LEN);
	ASSERT_EQ(IBV_WC_SUCCESS, transfer(self, IBV_WR_RDMA_WRITE));
	EXPECT_EQ(LEN, odp_same_byte(self->mem, LEN, DEVICE_BYTE));
	end_child(_metadata, self);
	EXPECT_EQ(LEN, odp_same_byte(self->mem, LEN, DEVICE_BYTE));
}

TEST_F(child, its_advice_is_for_its_parents_memory)
{
	parent_is_advised(_metadata, self, child_advises);
	EXPECT_LE(LEN / PAGE, odp_counter("page_prefetch"));
	EXPECT_EQ(0, odp_counter("page_faults"));
	EXPECT_EQ(0, ibv_dereg_mr(parents_mr));
}

TEST_F(child, its_advice_that_is_not_waited_for_disturbs_no_memory)
{
	parent_is_advised(_metadata, self, child_advises_in_passing);
	EXPECT_EQ(0, ibv_dereg_mr(parents_mr));
}

TEST_HARNESS_MAIN
