// SPDX-License-Identifier: GPL-2.0
/*
 * FLUSH and ATOMIC WRITE on paged regions of rxe. The library's driver has neither, so their
 * requests are written straight into the send queue, which user space and the kernel share.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <fcntl.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/ib_user_verbs.h>
#include <rdma/rdma_user_rxe.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "odp_loop.h"

#include "../kselftest_harness.h"

#define PAGE		4096UL
#define LEN		(2 * ODP_CHUNK)
#define FLUSHED		IB_UVERBS_ACCESS_FLUSH_GLOBAL
#define PERSISTENT	IB_UVERBS_ACCESS_FLUSH_PERSISTENT
#define MAPS_LINE	512

/* A pair, and the queue of its requester. */
struct raw {
	struct odp_dev dev;
	struct odp_pair pair;
	struct ibv_mr *local_mr;
	struct rxe_queue_buf *queue;
	char *local;
};

static int write_remote(struct raw *raw, char *remote, struct ibv_mr *mr, size_t len)
{
	return odp_rdma(&raw->pair, IBV_WR_RDMA_WRITE, raw->local, raw->local_mr, len, remote, mr);
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

static int raw_open(struct raw *raw)
{
	raw->local = odp_map(LEN);
	if (odp_pair_open(&raw->pair, &raw->dev, IBV_QPT_RC, false) ||
	    allow_flushes(raw->pair.qp[ODP_RESP]))
		return errno;
	raw->local_mr = ibv_reg_mr(raw->dev.pd, raw->local, LEN, ODP_REMOTE);
	if (!raw->local_mr)
		return errno;
	memset(raw->local, 1, LEN);
	/* One request, by which the queue is known. */
	if (write_remote(raw, raw->local, raw->local_mr, 1) != IBV_WC_SUCCESS)
		return errno = EIO;
	raw->queue = find_queue();
	return raw->queue ? 0 : (errno = ENOENT);
}

static void raw_close(struct raw *raw)
{
	ibv_dereg_mr(raw->local_mr);
	odp_pair_close(&raw->pair);
	odp_close(&raw->dev);
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
static int request(struct raw *raw, const struct rxe_send_wqe *wqe, size_t len)
{
	struct rxe_queue_buf *queue = raw->queue;
	uint32_t at = queue->producer_index;
	struct ibv_wc wc;
	int ret;

	memcpy(queue->data + ((size_t)at << queue->log2_elem_size), wqe, len);
	__atomic_store_n(&queue->producer_index, (at + 1) & queue->index_mask, __ATOMIC_RELEASE);
	ret = ring(raw->pair.qp[ODP_REQ]);
	if (!ret)
		ret = odp_wait(&raw->pair, ODP_REQ, &wc);
	return ret ? -ret : wc.status;
}

static int flush(struct raw *raw, void *addr, uint32_t len, uint32_t rkey, int type,
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

	return request(raw, &wqe, sizeof(wqe));
}

static int atomic_write(struct raw *raw, void *addr, uint32_t rkey, const char *data)
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
	return request(raw, &at.wqe, sizeof(at));
}

FIXTURE(flush) {
	struct raw raw;
	struct ibv_mr *mr;
	char *mem;
};

FIXTURE_SETUP(flush)
{
	ASSERT_EQ(0, odp_open(&self->raw.dev));
	if (!odp_is_rxe(self->raw.dev.ctx))
		SKIP(return, "the device is not rxe");
	ASSERT_EQ(0, raw_open(&self->raw));
	self->mem = odp_map(LEN);
	self->mr = ibv_reg_mr(self->raw.dev.pd, self->mem, LEN,
			      ODP_PAGED | IBV_ACCESS_MW_BIND | FLUSHED);
	ASSERT_NE(NULL, self->mr);
}

FIXTURE_TEARDOWN(flush)
{
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	raw_close(&self->raw);
}

TEST_F(flush, atomic_write_writes_eight_bytes)
{
	char *at = self->mem + ODP_CHUNK - 8;

	EXPECT_EQ(IBV_WC_SUCCESS, atomic_write(&self->raw, at, self->mr->rkey, "12345678"));
	EXPECT_EQ(0, memcmp(at, "12345678", 8));
	EXPECT_EQ(0, at[-1]);
	EXPECT_EQ(0, at[8]);
	ASSERT_EQ(0, madvise(self->mem, LEN, MADV_DONTNEED));
	EXPECT_EQ(IBV_WC_SUCCESS, atomic_write(&self->raw, at, self->mr->rkey, "abcdefgh"));
	EXPECT_EQ(0, memcmp(at, "abcdefgh", 8));
}

TEST_F(flush, atomic_write_to_unmapped_memory_is_an_error)
{
	ASSERT_EQ(0, munmap(self->mem + ODP_CHUNK, PAGE));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR,
		  atomic_write(&self->raw, self->mem + ODP_CHUNK, self->mr->rkey, "12345678"));
}

TEST_F(flush, what_was_written_becomes_visible)
{
	ASSERT_EQ(IBV_WC_SUCCESS, write_remote(&self->raw, self->mem, self->mr, PAGE));
	EXPECT_EQ(IBV_WC_SUCCESS, flush(&self->raw, self->mem, LEN, self->mr->rkey, IB_FLUSH_GLOBAL,
					IB_FLUSH_RANGE));
	EXPECT_EQ(IBV_WC_SUCCESS, flush(&self->raw, self->mem, LEN, self->mr->rkey, IB_FLUSH_GLOBAL,
					IB_FLUSH_MR));
	EXPECT_EQ(PAGE, odp_same_byte(self->mem, PAGE, 1));
}

TEST_F(flush, right_to_it_is_needed)
{
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, flush(&self->raw, self->mem, PAGE, self->mr->rkey,
					       IB_FLUSH_PERSISTENT, IB_FLUSH_RANGE));
}

/* Memory that is lost with the power is not made persistent, and that is said. */
TEST_F(flush, regress_right_that_comes_later_harms_nothing)
{
	int ret = odp_rereg(self->mr, IBV_REREG_MR_CHANGE_ACCESS, NULL, NULL, 0,
			    ODP_PAGED | FLUSHED | PERSISTENT);

	if (ret) {
		EXPECT_EQ(EOPNOTSUPP, ret);
		return;
	}
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, flush(&self->raw, self->mem, PAGE, self->mr->rkey,
					       IB_FLUSH_PERSISTENT, IB_FLUSH_RANGE));
}

TEST_F(flush, regress_window_does_not_give_what_its_region_has_not)
{
	struct ibv_mw *mw = ibv_alloc_mw(self->raw.dev.pd, IBV_MW_TYPE_1);
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
	ASSERT_EQ(0, ibv_bind_mw(self->raw.pair.qp[ODP_RESP], mw, &bind));
	ASSERT_EQ(0, odp_wait(&self->raw.pair, ODP_RESP, &wc));
	if (wc.status == IBV_WC_SUCCESS)
		EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, flush(&self->raw, self->mem, PAGE, mw->rkey,
						       IB_FLUSH_PERSISTENT, IB_FLUSH_RANGE));
	EXPECT_EQ(0, ibv_dealloc_mw(mw));
}

/* ---- files in persistent memory ---- */

#define FILE_LEN	(2 * ODP_CHUNK)

FIXTURE(dax) {
	struct raw raw;
	struct ibv_mr *mr;
	char *mem;
	int fd;
};

FIXTURE_SETUP(dax)
{
	ASSERT_EQ(0, odp_open(&self->raw.dev));
	if (!odp_is_rxe(self->raw.dev.ctx))
		SKIP(return, "the device is not rxe");
	if (access(ODP_DISK, F_OK))
		SKIP(return, "there is no persistent memory (memmap=128M!1G)");
	ASSERT_EQ(0, raw_open(&self->raw));
	ASSERT_EQ(0, odp_mount_disk("dax", "dax=always"));
	self->fd = open("dax/file", O_RDWR | O_CREAT, 0600);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, ftruncate(self->fd, FILE_LEN));
	self->mem = mmap(NULL, FILE_LEN, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC,
			 self->fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->mem);
	self->mr = ibv_reg_mr(self->raw.dev.pd, self->mem, FILE_LEN,
			      ODP_PAGED | FLUSHED | PERSISTENT);
	ASSERT_NE(NULL, self->mr);
}

FIXTURE_TEARDOWN(dax)
{
	EXPECT_EQ(0, ibv_dereg_mr(self->mr));
	EXPECT_EQ(0, munmap(self->mem, FILE_LEN));
	EXPECT_EQ(0, close(self->fd));
	EXPECT_EQ(0, system("umount dax"));
	raw_close(&self->raw);
}

static int flush_file(FIXTURE_DATA(dax) *self, size_t at, size_t len, int level)
{
	return flush(&self->raw, self->mem + at, len, self->mr->rkey, IB_FLUSH_PERSISTENT, level);
}

TEST_F(dax, what_was_written_is_made_persistent)
{
	char *back = odp_map(3 * PAGE);

	ASSERT_EQ(IBV_WC_SUCCESS, write_remote(&self->raw, self->mem + PAGE, self->mr, 3 * PAGE));
	EXPECT_EQ(IBV_WC_SUCCESS, flush_file(self, PAGE, 3 * PAGE, IB_FLUSH_RANGE));
	ASSERT_EQ(3 * PAGE, pread(self->fd, back, 3 * PAGE, PAGE));
	EXPECT_EQ(3 * PAGE, odp_same_byte(back, 3 * PAGE, 1));
}

TEST_F(dax, holes_are_allocated)
{
	struct stat before, after;

	ASSERT_EQ(0, fstat(self->fd, &before));
	EXPECT_EQ(IBV_WC_SUCCESS, flush_file(self, 0, FILE_LEN, IB_FLUSH_MR));
	ASSERT_EQ(0, fstat(self->fd, &after));
	TH_LOG("%ld blocks, then %ld", before.st_blocks, after.st_blocks);
	EXPECT_LE(FILE_LEN / 512, after.st_blocks);
	EXPECT_EQ(FILE_LEN, odp_same_byte(self->mem, FILE_LEN, 0));
}

TEST_F(dax, hole_that_is_punched_is_gone)
{
	ASSERT_EQ(IBV_WC_SUCCESS, write_remote(&self->raw, self->mem, self->mr, ODP_CHUNK));
	ASSERT_EQ(0, fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, PAGE));
	EXPECT_EQ(PAGE, odp_same_byte(self->mem + PAGE, PAGE, 0));
	ASSERT_EQ(IBV_WC_SUCCESS, write_remote(&self->raw, self->mem + PAGE, self->mr, 1));
	EXPECT_EQ(IBV_WC_SUCCESS, flush_file(self, 0, ODP_CHUNK, IB_FLUSH_RANGE));
	EXPECT_EQ(1, self->mem[PAGE]);
	EXPECT_EQ(0, self->mem[PAGE + 1]);
	EXPECT_EQ(1, self->mem[2 * PAGE]);
}

TEST_F(dax, behind_the_end_of_the_file_there_is_nothing)
{
	ASSERT_EQ(0, ftruncate(self->fd, ODP_CHUNK));
	EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, flush_file(self, ODP_CHUNK - 8, 16, IB_FLUSH_RANGE));
}

/* Pinned pages would keep the file system from moving its blocks, so it refuses. */
TEST_F(dax, only_paging_can_have_it)
{
	EXPECT_EQ(NULL, ibv_reg_mr(self->raw.dev.pd, self->mem, FILE_LEN, ODP_REMOTE));
}

TEST_HARNESS_MAIN
