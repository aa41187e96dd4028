// SPDX-License-Identifier: GPL-2.0
/*
 * Page faults of memory that the process has already: what the adapter costs.
 * It is touched after the registration, which maps what is there.
 *
 * Latency is that of one write, from its post until the program runs again.
 * Streams are chains of writes of a page each, of which the program awaits only
 * the end: one fault after the other, and little else.
 */
#include <stdlib.h>

#include "bench.h"

#define SINGLES		32
#define CHAIN		64
#define CHAINS		8		/* a round */
#define ROUNDS		5
#define ROUND		(CHAIN * CHAINS * PAGE)
#define FAR		(1 * GIB)
#define FIRST_USE	(8 * MIB)
#define SPARSE		16

static uint64_t timed_write(struct bench *b, const struct region *r, size_t offset)
{
	uint64_t start = now();

	lane_pages(b, &b->lane, IBV_WR_RDMA_WRITE, r, &offset, 1);
	return now() - start;
}

/* The first page of a 2 MiB block, one beside it, and that one again. */
static void measure_single(struct bench *b)
{
	struct region r = region_map((SINGLES + 1) * BLOCK, SMALL_PAGES);
	size_t offsets[2];
	uint64_t faults;
	int i;

	region_register(b, &r, true);
	region_touch(&r, r.len, PAGE);
	offsets[0] = SINGLES * BLOCK;
	lane_pages(b, &b->lane, IBV_WR_RDMA_WRITE, &r, offsets, 1);
	for (i = 0; i < SINGLES; i++) {
		offsets[0] = i * BLOCK + 64 * PAGE;
		offsets[1] = i * BLOCK + 128 * PAGE;
		faults = adapter_faults();
		report(timed_write(b, &r, offsets[0]), "fault.first.ns.%d", i);
		if (adapter_faults() == faults)
			die("the first page of a block took no fault");
		report(timed_write(b, &r, offsets[1]), "fault.next.ns.%d", i);
		faults = adapter_faults();
		report(timed_write(b, &r, offsets[1]), "fault.warm.ns.%d", i);
		if (adapter_faults() != faults)
			die("a page that was there has faulted");
		check_written(b, &r, offsets, 2);
	}
	region_deregister(&r);
	region_unmap(&r);
}

/* The first page in each @stride: some drivers have a table for that, made by the fault. */
static void measure_sparse(struct bench *b, bool implicit, size_t stride, const char *name)
{
	struct region r = region_map((SPARSE + 1) * stride, SMALL_PAGES), all = r;
	uint64_t faults;
	size_t offset;
	int i;

	if (implicit) {
		all.mem = NULL;
		all.len = SIZE_MAX;
	}
	region_register(b, &all, true);
	r.mr = all.mr;
	for (i = -1; i < SPARSE; i++) {
		offset = (i + 1) * stride;
		*(volatile char *)(r.mem + offset) = 1;
		faults = adapter_faults();
		if (i < 0)
			timed_write(b, &r, offset);
		else
			report(timed_write(b, &r, offset), "fault.%s.ns.%d", name, i);
		if (adapter_faults() == faults)
			die("%s: no fault", name);
		check_written(b, &r, &offset, 1);
	}
	region_deregister(&all);
	region_unmap(&r);
}

/* One round: @offsets in chains. */
static void stream(struct bench *b, const struct region *r, const size_t *offsets,
		   const char *name, int round)
{
	uint64_t faults = adapter_faults(), umrs = adapter_count("umr-wqes"), ns = now();
	int i;

	for (i = 0; i < CHAINS; i++)
		lane_pages(b, &b->lane, IBV_WR_RDMA_WRITE, r, offsets + i * CHAIN, CHAIN);
	ns = now() - ns;
	if (round < 0)
		return;
	faults = adapter_faults() - faults;
	if (faults < ROUND / BLOCK)
		die("%s: only %lu faults", name, faults);
	report((double)ns / (CHAIN * CHAINS), "fault.%s.ns.%d", name, round);
	report((double)faults / (CHAIN * CHAINS), "fault.%s.faults.%d", name, round);
	report((double)(adapter_count("umr-wqes") - umrs) / (CHAIN * CHAINS),
	       "fault.%s.umrs.%d", name, round);
	check_written(b, r, offsets, CHAIN * CHAINS);
}

/* A round more, first, in which everything is touched once; it does not count. */
static void measure_sequential(struct bench *b, enum page_kind kind, bool touch,
			       const char *name)
{
	struct region r = region_map((ROUNDS + 1) * ROUND, kind);
	size_t offsets[CHAIN * CHAINS], at = 0;
	int i, round;

	region_register(b, &r, true);
	if (touch)
		region_touch(&r, r.len, PAGE);
	for (round = -1; round < ROUNDS; round++) {
		for (i = 0; i < CHAIN * CHAINS; i++, at += PAGE)
			offsets[i] = at;
		stream(b, &r, offsets, name, round);
	}
	region_deregister(&r);
	region_unmap(&r);
}

/* Anywhere in 1 GiB, of which the process has only these pages. */
static void measure_random(struct bench *b)
{
	struct region r = region_map(FAR, SMALL_PAGES);
	size_t offsets[CHAIN * CHAINS];
	int i, round;

	srandom(1);
	region_register(b, &r, true);
	for (round = -1; round < ROUNDS; round++) {
		for (i = 0; i < CHAIN * CHAINS; i++) {
			offsets[i] = random() % (FAR / PAGE) * PAGE;
			*(volatile char *)(r.mem + offsets[i]) = 1;
		}
		stream(b, &r, offsets, "random", round);
	}
	region_deregister(&r);
	region_unmap(&r);
}

/* From a program's buffer to the end of its first use: registered, written once. */
static void measure_first_use(struct bench *b)
{
	struct region r = region_map(FIRST_USE, SMALL_PAGES);
	size_t offsets[CHAIN], at;
	uint64_t start;
	int i, round;

	region_touch(&r, r.len, PAGE);
	for (round = 0; round < ROUNDS; round++) {
		start = now();
		region_register(b, &r, true);
		for (at = 0; at < r.len;) {
			for (i = 0; i < CHAIN; i++, at += PAGE)
				offsets[i] = at;
			lane_pages(b, &b->lane, IBV_WR_RDMA_WRITE, &r, offsets, CHAIN);
		}
		report((now() - start) / (r.len / PAGE), "fault.use.ns.%d", round);
		check_written(b, &r, offsets, CHAIN);
		region_deregister(&r);
	}
	region_unmap(&r);
}

/* Two connections, page by page in turn, each in its half of the region. */
static void measure_streams(struct bench *b)
{
	struct region r = region_map(2 * ROUND, SMALL_PAGES);
	struct lane other;
	uint64_t faults;
	size_t at, far;

	lane_open(b, &other);
	region_register(b, &r, true);
	region_touch(&r, r.len, PAGE);
	faults = adapter_faults();
	for (at = 0; at < ROUND; at += PAGE) {
		far = ROUND + at;
		lane_pages(b, &b->lane, IBV_WR_RDMA_WRITE, &r, &at, 1);
		lane_pages(b, &other, IBV_WR_RDMA_WRITE, &r, &far, 1);
		check_written(b, &r, &at, 1);
		check_written(b, &r, &far, 1);
	}
	report((adapter_faults() - faults) / (double)(2 * ROUND / PAGE), "fault.streams.faults.0");
	region_deregister(&r);
	region_unmap(&r);
}

/* What single faults cost: of small pages, none of which comes with another, and of huge. */
static void measure_alone(struct bench *b)
{
	driver_ahead(false);
	measure_sequential(b, SMALL_PAGES, true, "alone");
	adapter_delay(0);
	measure_sequential(b, SMALL_PAGES, true, "alone.insns");
	measure_sequential(b, HUGE_PAGES, true, "huge.insns");
	adapter_delay(DELAY);
	driver_ahead(true);
}

/* All kinds of access: the peer's are checked above, these are our own. */
static void check_local(struct bench *b)
{
	struct region r = region_map(BLOCK, SMALL_PAGES);
	struct ibv_sge sge = { .addr = (uintptr_t)r.mem, .length = PAGE };
	struct ibv_send_wr wr = {
		.opcode = IBV_WR_RDMA_WRITE, .send_flags = IBV_SEND_SIGNALED,
		.sg_list = &sge, .num_sge = 1,
		.wr.rdma = { (uintptr_t)r.mem + 8 * PAGE, 0 },
	};
	size_t offset = 0, far = 16 * PAGE;
	uint64_t faults;

	region_register(b, &r, true);
	region_touch(&r, PAGE, PAGE);
	sge.lkey = r.mr->lkey;
	wr.wr.rdma.rkey = r.mr->rkey;
	faults = adapter_count("faults-sq");
	lane_post(&b->lane, 0, &wr);
	lane_wait(&b->lane, 1);
	if (adapter_count("faults-sq") == faults)
		die("sending from memory that is not there took no fault");
	check_read(b, &r, &offset, 1);
	offset = 8 * PAGE;
	check_read(b, &r, &offset, 1);
	if (r.mem[offset] != 0x5a)
		die("what was sent did not arrive");
	check_read(b, &r, &far, 1);
	region_deregister(&r);
	region_unmap(&r);
}

void measure_faults(struct bench *b)
{
	adapter_delay(DELAY);
	check_local(b);
	measure_single(b);
	measure_sparse(b, false, 64 * MIB, "sparse");
	measure_sparse(b, true, GIB, "implicit");
	measure_sequential(b, SMALL_PAGES, true, "sequential");
	measure_sequential(b, SMALL_PAGES, false, "untouched");
	measure_streams(b);
	measure_random(b);
	measure_first_use(b);
	measure_sequential(b, HUGE_PAGES, true, "huge");
	measure_alone(b);
}
