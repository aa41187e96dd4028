// SPDX-License-Identifier: GPL-2.0
/*
 * FLUSH and ATOMIC WRITE on paged regions of rxe. The library's driver has neither, so their
 * requests are written straight into the send queue, which user space and the kernel share.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_user_rxe.h>
#include <sys/mman.h>

#include "odp_loop.h"

#include "../kselftest_harness.h"

#define PAGE		4096UL
#define LEN		(2 * ODP_CHUNK)
#define FLUSHED		IB_UVERBS_ACCESS_FLUSH_GLOBAL
#define PERSISTENT	IB_UVERBS_ACCESS_FLUSH_PERSISTENT
#define MAPS_LINE	512

FIXTURE(flush) {
	struct odp_dev dev;
	struct odp_pair pair;
	struct ibv_mr *mr, *local_mr;
	struct rxe_queue_buf *queue;
	char *mem, *local;
};

static int write_remote(FIXTURE_DATA(flush) *self, char *remote, size_t len)
{
	return odp_rdma(&self->pair, IBV_WR_RDMA_WRITE, self->local, self->local_mr, len,
			remote, self->mr);
}

/* The send queue that one request was posted to: its elements are the largest. */
static struct rxe_queue_buf *find_queue(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	struct rxe_queue_buf *queue, *found = NULL;
	char line[MAPS_LINE];

	while (maps && fgets(line, sizeof(line), maps)) {
		if (!strstr(line, "/dev/infiniband/uverbs"))
			continue;
		queue = (struct rxe_queue_buf *)strtoul(line, NULL, 16);
		if (queue->producer_index == 1 &&
		    (!found || queue->log2_elem_size > found->log2_elem_size))
			found = queue;
	}
	if (maps)
		fclose(maps);
	return found;
}

static int allow_flushes(struct ibv_qp *qp)
{
	struct ibv_qp_attr attr = { .qp_access_flags = ODP_REMOTE | FLUSHED | PERSISTENT };

	return ibv_modify_qp(qp, &attr, IBV_QP_ACCESS_FLAGS);
}

FIXTURE_SETUP(flush)
{
	ASSERT_EQ(0, odp_open(&self->dev));
	if (!odp_is_rxe(self->dev.ctx))
		SKIP(return, "the device is not rxe");
	ASSERT_EQ(0, odp_pair_open(&self->pair, &self->dev, IBV_QPT_RC, false));
	ASSERT_EQ(0, allow_flushes(self->pair.qp[ODP_RESP]));
	self->mem = odp_map(LEN);
	self->local = odp_map(LEN);
	self->mr = ibv_reg_mr(self->dev.pd, self->mem, LEN,
			      ODP_PAGED | IBV_ACCESS_MW_BIND | FLUSHED);
	self->local_mr = ibv_reg_mr(self->dev.pd, self->local, LEN, ODP_REMOTE);
	ASSERT_NE(NULL, self->mr);
	ASSERT_NE(NULL, self->local_mr);
	memset(self->local, 1, LEN);
	ASSERT_EQ(IBV_WC_SUCCESS, write_remote(self, self->mem, PAGE));
	self->queue = find_queue();
	ASSERT_NE(NULL, self->queue);
}

FIXTURE_TEARDOWN(flush)
{
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	EXPECT_EQ(0, ibv_dereg_mr(self->local_mr));
	odp_pair_close(&self->pair);
	odp_close(&self->dev);
}

/* Have the kernel look into the queue. */
static int ring(struct ibv_qp *qp)
{
	struct ib_uverbs_post_send_resp resp;
	struct {
		struct ib_uverbs_cmd_hdr hdr;
		struct ib_uverbs_post_send post;
	} cmd = {
		.hdr = {
			.command = IB_USER_VERBS_CMD_POST_SEND,
			.in_words = sizeof(cmd) / 4,
			.out_words = sizeof(resp) / 4,
		},
		.post = {
			.response = (uintptr_t)&resp,
			.qp_handle = qp->handle,
			.wqe_size = sizeof(struct ib_uverbs_send_wr),
		},
	};

	return write(qp->context->cmd_fd, &cmd, sizeof(cmd)) == sizeof(cmd) ? 0 : errno;
}

/* Write a request into the queue, ring, and wait: enum ibv_wc_status, or -errno. */
static int request(FIXTURE_DATA(flush) *self, const struct rxe_send_wqe *wqe, size_t len)
{
	struct rxe_queue_buf *queue = self->queue;
	uint32_t at = queue->producer_index;
	struct ibv_wc wc;
	int ret;

	memcpy(queue->data + ((size_t)at << queue->log2_elem_size), wqe, len);
	__atomic_store_n(&queue->producer_index, (at + 1) & queue->index_mask, __ATOMIC_RELEASE);
	ret = ring(self->pair.qp[ODP_REQ]);
	if (!ret)
		ret = odp_wait(&self->pair, ODP_REQ, &wc);
	return ret ? -ret : wc.status;
}

static int flush(FIXTURE_DATA(flush) *self, void *addr, uint32_t len, uint32_t rkey, int type,
		 int level)
{
	struct rxe_send_wqe wqe = {
		.wr = {
			.opcode = IB_UVERBS_WR_FLUSH,
			.send_flags = IBV_SEND_SIGNALED,
			.wr.flush = {
				.remote_addr = (uintptr_t)addr,
				.length = len,
				.rkey = rkey,
				.type = type,
				.level = level,
			},
		},
		.iova = (uintptr_t)addr,
		.dma = { .length = len, .resid = len },
	};

	return request(self, &wqe, sizeof(wqe));
}

static int atomic_write(FIXTURE_DATA(flush) *self, void *addr, uint32_t rkey, const char *data)
{
	union {
		struct rxe_send_wqe wqe;
		char bytes[sizeof(struct rxe_send_wqe) + 8];
	} at = {
		.wqe = {
			.wr = {
				.opcode = IB_UVERBS_WR_ATOMIC_WRITE,
				.send_flags = IBV_SEND_SIGNALED | IBV_SEND_INLINE,
				.wr.rdma = { .remote_addr = (uintptr_t)addr, .rkey = rkey },
			},
			.iova = (uintptr_t)addr,
			.dma = { .length = 8, .resid = 8 },
		},
	};

	memcpy(at.wqe.dma.atomic_wr, data, 8);
	return request(self, &at.wqe, sizeof(at));
}

TEST_F(flush, atomic_write_writes_eight_bytes)
{
	char *at = self->mem + ODP_CHUNK - 8;

	EXPECT_EQ(IBV_WC_SUCCESS, atomic_write(self, at, self->mr->rkey, "12345678"));
	EXPECT_EQ(0, memcmp(at, "12345678", 8));
	EXPECT_EQ(0, at[-1]);
	EXPECT_EQ(0, at[8]);
	ASSERT_EQ(0, madvise(self->mem, LEN, MADV_DONTNEED));
	EXPECT_EQ(IBV_WC_SUCCESS, atomic_write(self, at, self->mr->rkey, "abcdefgh"));
	EXPECT_EQ(0, memcmp(at, "abcdefgh", 8));
}

TEST_F(flush, atomic_write_to_unmapped_memory_is_an_error)
{
	ASSERT_EQ(0, munmap(self->mem + ODP_CHUNK, PAGE));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
		  atomic_write(self, self->mem + ODP_CHUNK, self->mr->rkey, "12345678"));
}

TEST_F(flush, what_was_written_becomes_visible)
{
	EXPECT_EQ(IBV_WC_SUCCESS, flush(self, self->mem, LEN, self->mr->rkey, IB_FLUSH_GLOBAL,
					IB_FLUSH_RANGE));
	EXPECT_EQ(IBV_WC_SUCCESS, flush(self, self->mem, LEN, self->mr->rkey, IB_FLUSH_GLOBAL,
					IB_FLUSH_MR));
	EXPECT_EQ(PAGE, odp_same_byte(self->mem, PAGE, 1));
}

TEST_F(flush, right_to_it_is_needed)
{
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, flush(self, self->mem, PAGE, self->mr->rkey,
					       IB_FLUSH_PERSISTENT, IB_FLUSH_RANGE));
}

/* Register with the right, too, by a call that the library's driver does not have. */
static int allow_persistence(struct ibv_mr *mr)
{
	struct ib_uverbs_rereg_mr_resp resp;
	struct {
		struct ib_uverbs_cmd_hdr hdr;
		struct ib_uverbs_rereg_mr rereg;
	} cmd = {
		.hdr = {
			.command = IB_USER_VERBS_CMD_REREG_MR,
			.in_words = sizeof(cmd) / 4,
			.out_words = sizeof(resp) / 4,
		},
		.rereg = {
			.response = (uintptr_t)&resp,
			.mr_handle = mr->handle,
			.flags = IBV_REREG_MR_CHANGE_ACCESS,
			.access_flags = ODP_PAGED | FLUSHED | PERSISTENT,
		},
	};

	if (write(mr->context->cmd_fd, &cmd, sizeof(cmd)) != sizeof(cmd))
		return errno;
	mr->rkey = resp.rkey;
	return 0;
}

/* Memory that is lost with the power is not made persistent, and that is said. */
TEST_F(flush, regress_right_that_comes_later_harms_nothing)
{
	int ret = allow_persistence(self->mr);

	if (ret) {
		EXPECT_EQ(EOPNOTSUPP, ret);
		return;
	}
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, flush(self, self->mem, PAGE, self->mr->rkey,
					       IB_FLUSH_PERSISTENT, IB_FLUSH_RANGE));
}

TEST_F(flush, regress_window_does_not_give_what_its_region_has_not)
{
	struct ibv_mw *mw = ibv_alloc_mw(self->dev.pd, IBV_MW_TYPE_1);
	struct ibv_mw_bind bind = {
		.send_flags = IBV_SEND_SIGNALED,
		.bind_info = {
			.mr = self->mr,
			.addr = (uintptr_t)self->mem,
			.length = LEN,
			.mw_access_flags = IBV_ACCESS_REMOTE_WRITE | FLUSHED | PERSISTENT,
		},
	};
	struct ibv_wc wc;

	ASSERT_NE(NULL, mw);
	ASSERT_EQ(0, ibv_bind_mw(self->pair.qp[ODP_RESP], mw, &bind));
	ASSERT_EQ(0, odp_wait(&self->pair, ODP_RESP, &wc));
	if (wc.status == IBV_WC_SUCCESS)
		EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, flush(self, self->mem, PAGE, mw->rkey,
						       IB_FLUSH_PERSISTENT, IB_FLUSH_RANGE));
	EXPECT_EQ(0, ibv_dealloc_mw(mw));
}

TEST_HARNESS_MAIN
