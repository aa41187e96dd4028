// SPDX-License-Identifier: GPL-2.0
/*
 * A region that nobody has touched costs the kernel the same for any length, and
 * nothing is pinned, locked or charged for it.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <fcntl.h>
#include <sys/resource.h>
#include <time.h>

#include "odp_loop.h"

#include "../kselftest_harness.h"

/* So many that it does not matter what the caches have left over. */
#define NR		1024
#define LIMIT_BYTES	4096
#define GIB		(1024UL << 20)

static long kernel_memory_kb(void)
{
	static const char * const fields[] = {
		"Slab", "VmallocUsed", "Percpu", "PageTables", "SecPageTables", "KernelStack",
	};
	long kb, sum = 0;
	unsigned int i;
	int fd;

	/* Have what CPUs count for themselves added up. */
	fd = open("/proc/sys/vm/stat_refresh", O_WRONLY);
	if (fd >= 0) {
		if (write(fd, "1", 1) != 1)
			sum = 0;
		close(fd);
	}
	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		kb = odp_proc_number("/proc/meminfo", fields[i]);
		sum += kb > 0 ? kb : 0;
	}
	return sum;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

FIXTURE(memory) {
	struct odp_dev dev;
	char *mem;
};

FIXTURE_VARIANT(memory) {
	size_t len;
};

FIXTURE_VARIANT_ADD(memory, of_4_gib) {
	.len = 4 * GIB,
};

FIXTURE_VARIANT_ADD(memory, of_64_gib) {
	.len = 64 * GIB,
};

FIXTURE_VARIANT_ADD(memory, of_1_tib) {
	.len = 1024 * GIB,
};

/* An implicit region. */
FIXTURE_VARIANT_ADD(memory, of_all_addresses) {
	.len = SIZE_MAX,
};

FIXTURE_SETUP(memory)
{
	/* The tests open the device: it is not what is measured. All addresses need no memory. */
	if (variant->len == SIZE_MAX)
		return;
	self->mem = mmap(NULL, variant->len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->mem);
}

FIXTURE_TEARDOWN(memory)
{
}

static int register_all(struct odp_dev *dev, char *mem, size_t len, struct ibv_mr **mr)
{
	int i;

	for (i = 0; i < NR; i++) {
		mr[i] = ibv_reg_mr(dev->pd, mem, len, ODP_PAGED);
		if (!mr[i])
			return errno;
	}
	return 0;
}

static void deregister_all(struct ibv_mr **mr)
{
	int i;

	for (i = 0; i < NR; i++)
		ibv_dereg_mr(mr[i]);
}

TEST_F(memory, untouched_region_takes_less_than_a_page)
{
	struct ibv_mr *mr[NR];
	long before, bytes;
	uint64_t ns;

	ASSERT_EQ(0, odp_open(&self->dev));
	/*
	 * One is for the process's own state. Not more, or what is measured would
	 * fit into what they leave behind in the caches.
	 */
	mr[0] = ibv_reg_mr(self->dev.pd, self->mem, variant->len, ODP_PAGED);
	ASSERT_NE(NULL, mr[0]);
	ASSERT_EQ(0, ibv_dereg_mr(mr[0]));

	before = kernel_memory_kb();
	ns = now_ns();
	ASSERT_EQ(0, register_all(&self->dev, self->mem, variant->len, mr));
	ns = now_ns() - ns;
	bytes = (kernel_memory_kb() - before) * 1024 / NR;
	TH_LOG("%lu GiB: %ld bytes of kernel memory and %lu ns to register, each of %d",
	       variant->len / GIB, bytes, (unsigned long)ns / NR, NR);
	EXPECT_LT(bytes, LIMIT_BYTES);
	/* At least the MR itself is there, or it is not seen. */
	EXPECT_GT(bytes, 256);
	EXPECT_EQ(0, odp_proc_number("/proc/self/status", "VmPin"));
	EXPECT_EQ(0, odp_proc_number("/proc/self/status", "VmLck"));
	deregister_all(mr);
	odp_close(&self->dev);
}

TEST_F(memory, user_who_may_lock_nothing_registers)
{
	struct rlimit none = { 0, 0 };
	struct ibv_mr *mr;
	char stack[64];

	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &none));
	ASSERT_EQ(0, setresuid(65534, 65534, 65534));
	ASSERT_EQ(0, odp_open(&self->dev));
	/* The limit is in force. */
	EXPECT_EQ(NULL, ibv_reg_mr(self->dev.pd, stack, sizeof(stack), ODP_REMOTE));
	EXPECT_EQ(EPERM, errno);
	mr = ibv_reg_mr(self->dev.pd, self->mem, variant->len, ODP_PAGED);
	ASSERT_NE(NULL, mr);
	EXPECT_EQ(0, ibv_dereg_mr(mr));
	odp_close(&self->dev);
}

TEST_HARNESS_MAIN
