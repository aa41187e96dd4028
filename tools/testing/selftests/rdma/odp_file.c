// SPDX-License-Identifier: GPL-2.0
/*
 * Regions on files that change meanwhile: truncated, punched, written back, mounted anew.
 * A page that has left the file is not written any more, and what the device writes is in
 * the file for everybody, also after it has been read from the disk again.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>

#include "odp_traffic.h"

#include "../kselftest_harness.h"

#define ROUNDS	20
#define FOLDER	"disk"

FIXTURE(file) {
	struct traffic t;
	char *mem, *back;	/* what the region is on, and what read() says */
	int fd;
};

FIXTURE_VARIANT(file) {
	bool disk;
};

FIXTURE_VARIANT_ADD(file, memory) {
	.disk = false,
};

FIXTURE_VARIANT_ADD(file, disk) {
	.disk = true,
};

static int file_make(bool disk)
{
	if (!disk)
		return memfd_create("odp_file", 0);
	if (odp_mount_disk(FOLDER, NULL))
		return -1;
	return open(FOLDER "/file", O_RDWR | O_CREAT | O_TRUNC, 0600);
}

FIXTURE_SETUP(file)
{
	if (variant->disk && access(ODP_DISK, F_OK))
		SKIP(return, "no " ODP_DISK);
	self->fd = file_make(variant->disk);
	ASSERT_GE(self->fd, 0);
	ASSERT_EQ(0, ftruncate(self->fd, TRAFFIC_AREA));
	self->mem = mmap(NULL, TRAFFIC_AREA, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->mem);
	self->back = malloc(TRAFFIC_AREA);
	ASSERT_NE(NULL, self->back);
	ASSERT_EQ(0, traffic_open(&self->t, self->mem));
}

FIXTURE_TEARDOWN(file)
{
	traffic_close(&self->t);
	EXPECT_EQ(0, munmap(self->mem, TRAFFIC_AREA));
	EXPECT_EQ(0, close(self->fd));
	if (variant->disk)
		EXPECT_EQ(0, umount(FOLDER));
	free(self->back);
}

/* The file is nothing but zeros, by both ways to it. */
static bool file_is_empty(FIXTURE_DATA(file) *self)
{
	return pread(self->fd, self->back, TRAFFIC_AREA, 0) == TRAFFIC_AREA &&
	       odp_same_byte(self->back, TRAFFIC_AREA, 0) == TRAFFIC_AREA &&
	       odp_same_byte(self->mem, TRAFFIC_AREA, 0) == TRAFFIC_AREA;
}

/* The file has what was written last. */
static bool file_is_written(FIXTURE_DATA(file) *self)
{
	return pread(self->fd, self->back, TRAFFIC_LEN, TRAFFIC_FIRST) == TRAFFIC_LEN &&
	       odp_same(self->back, TRAFFIC_LEN, self->t.seed) == TRAFFIC_LEN;
}

/* Without traffic: one more write, and it is in the file. */
static bool file_works(FIXTURE_DATA(file) *self)
{
	odp_fill(self->t.pinned, TRAFFIC_LEN, ++self->t.seed);
	return !traffic_transfer(&self->t, IBV_WR_RDMA_WRITE, self->t.mr->rkey) &&
	       file_is_written(self);
}

/* Pages of the cache that are clean and not mapped go. */
static void file_forget(struct __test_metadata *_metadata, FIXTURE_DATA(file) *self)
{
	ASSERT_EQ(0, fsync(self->fd));
	ASSERT_EQ(0, madvise(self->mem, TRAFFIC_AREA, MADV_DONTNEED));
	ASSERT_EQ(0, posix_fadvise(self->fd, 0, 0, POSIX_FADV_DONTNEED));
}

TEST_F_TIMEOUT(file, truncation_ends_traffic_and_loses_nothing_else, 120)
{
	struct traffic *t = &self->t;
	int round;

	t->verify = true;
	for (round = 0; round < ROUNDS; round++) {
		ASSERT_EQ(0, traffic_start(t));
		traffic_wait(t, 1 + round % 5);
		ASSERT_EQ(0, ftruncate(self->fd, 0));
		ASSERT_EQ(0, pthread_join(t->thread, NULL));
		EXPECT_EQ(IBV_WC_REM_ACCESS_ERR, t->status);
		EXPECT_FALSE(t->differs);
		/* Nothing was written to pages that the file had no more. */
		ASSERT_EQ(0, ftruncate(self->fd, TRAFFIC_AREA));
		ASSERT_TRUE(file_is_empty(self));
		ASSERT_EQ(0, odp_pair_reconnect(&t->pair));
		ASSERT_TRUE(file_works(self));
	}
}

TEST_F_TIMEOUT(file, punched_holes_are_filled_again, 120)
{
	struct traffic *t = &self->t;
	int round;

	ASSERT_EQ(0, traffic_start(t));
	for (round = 0; round < 5 * ROUNDS && !t->status; round++) {
		ASSERT_EQ(0, fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
				       TRAFFIC_AREA));
		if (round % 4 == 0)
			traffic_wait(t, 1);
	}
	ASSERT_EQ(0, traffic_stop(t));
	EXPECT_EQ(IBV_WC_SUCCESS, t->status);
	ASSERT_EQ(0, fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			       TRAFFIC_AREA));
	EXPECT_TRUE(file_is_empty(self));
	EXPECT_TRUE(file_works(self));
}

/* Writeback protects pages against writing, so as to learn of the next one. */
TEST_F_TIMEOUT(file, what_is_written_during_writeback_is_on_the_disk, 120)
{
	struct traffic *t = &self->t;
	int round, i;

	t->verify = true;
	for (round = 0; round < ROUNDS; round++) {
		ASSERT_EQ(0, traffic_start(t));
		for (i = 0; i < 5 && !t->status; i++) {
			ASSERT_EQ(0, round & 1 ? fsync(self->fd) :
				     msync(self->mem, TRAFFIC_AREA, MS_SYNC));
			traffic_wait(t, 1);
		}
		ASSERT_EQ(0, traffic_stop(t));
		ASSERT_EQ(IBV_WC_SUCCESS, t->status);
		ASSERT_FALSE(t->differs);
		file_forget(_metadata, self);
		ASSERT_TRUE(file_is_written(self));
	}
}

/* Mounted for reading only: refused while the file can be written; and what it has stays. */
TEST_F_TIMEOUT(file, remount_does_not_disturb_it, 60)
{
	struct traffic *t = &self->t;
	int round;

	if (!variant->disk)
		SKIP(return, "a memfd is on no mount of ours");
	t->verify = true;
	ASSERT_EQ(0, traffic_start(t));
	for (round = 0; round < ROUNDS && !t->status; round++) {
		EXPECT_EQ(-1, mount(NULL, FOLDER, NULL, MS_REMOUNT | MS_RDONLY, NULL));
		EXPECT_EQ(EBUSY, errno);
		EXPECT_EQ(0, mount(NULL, FOLDER, NULL, MS_REMOUNT | MS_NOATIME, NULL));
		traffic_wait(t, 1);
	}
	ASSERT_EQ(0, traffic_stop(t));
	EXPECT_EQ(IBV_WC_SUCCESS, t->status);
	EXPECT_FALSE(t->differs);
	file_forget(_metadata, self);
	EXPECT_TRUE(file_is_written(self));
}

static void *truncate_until(void *arg)
{
	FIXTURE_DATA(file) *self = arg;

	while (!self->t.stop) {
		if (ftruncate(self->fd, 0) || ftruncate(self->fd, TRAFFIC_AREA))
			return self;
		self->t.done++;
	}
	return NULL;
}

/* A region takes nothing of the file when it is made; prefetching takes what is there. */
TEST_F_TIMEOUT(file, registration_does_not_mind_truncation, 60)
{
	struct traffic *t = &self->t;
	struct ibv_sge sge;
	struct ibv_mr *mr;
	int round, ret;
	void *failed;

	ASSERT_EQ(0, pthread_create(&t->thread, NULL, truncate_until, self));
	for (round = 0; round < 10 * ROUNDS || t->done < ROUNDS; round++) {
		mr = ibv_reg_mr(t->dev.pd, self->mem, TRAFFIC_AREA, ODP_PAGED);
		ASSERT_NE(NULL, mr);
		sge = odp_sge(self->mem, TRAFFIC_AREA, mr);
		ret = odp_advise(t->dev.pd, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE,
				 IBV_ADVISE_MR_FLAG_FLUSH, &sge, 1);
		ASSERT_TRUE(!ret || ret == EFAULT);
		ASSERT_EQ(0, ibv_dereg_mr(mr));
	}
	t->stop = 1;
	ASSERT_EQ(0, pthread_join(t->thread, &failed));
	EXPECT_EQ(NULL, failed);
	EXPECT_TRUE(file_works(self));
}

TEST_HARNESS_MAIN
