// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that only the device uses, on a machine that is short of it.
 *
 * The device reads a quarter of the machine's memory again and again, and the CPU writes
 * through far more than the rest, which it never reads again. What the CPU writes could go
 * first; what the device reads would fit. Beside it the CPU reads the same memory, and the
 * page tables show that: if the device's use counts, as many pages come back from the disk
 * as there. Fewer are not better: a page that reclaim has unmapped is not read from the
 * disk if the device faults it back before it is written. How long it takes is not told:
 * the disk's time is the host's, and between a second and twenty minutes by the guest's
 * clock.
 */
#include <stdio.h>
#include <string.h>

#include "bench.h"

#define HOT		(96 * MIB)
#define STREAM		(768 * MIB)
#define PASSES		2
#define READS		8		/* at a time, in order */

/* Pages read from the disk, of which there is one, to swap to. */
static uint64_t swapped_in(void)
{
	FILE *file = fopen("/sys/block/vda/stat", "r");
	unsigned long reads, merges, sectors;

	if (!file || fscanf(file, "%lu %lu %lu", &reads, &merges, &sectors) != 3)
		die("/sys/block/vda/stat");
	fclose(file);
	return sectors * 512 / PAGE;
}

/* What reads the hot memory. */
enum user { NOTHING, CPU, DEVICE };

static void read_hot(struct bench *b, enum user user, const struct region *hot, size_t first)
{
	size_t offsets[READS], i;
	const char *at;

	for (i = 0; i < READS; i++)
		offsets[i] = (first + i * PAGE) % hot->len;
	if (user == DEVICE)
		lane_pages(b, &b->lane, IBV_WR_RDMA_READ, hot, offsets, READS);
	for (i = 0; i < READS; i++) {
		at = user == DEVICE ? buffer_slot(b, offsets[i], true) : hot->mem + offsets[i];
		if (*(volatile size_t *)at != offsets[i])
			die("the page at %#zx was not read as it is", offsets[i]);
	}
}

/* Every page says where it is. */
static void fill(const struct region *r)
{
	size_t at;

	for (at = 0; at < r->len; at += PAGE)
		*(size_t *)(r->mem + at) = at;
}

/* @writes: pages that the CPU writes for READS of hot ones. */
static void measure_use(struct bench *b, const char *name, enum user user, int writes)
{
	struct region hot = region_map(HOT, SMALL_PAGES), stream = region_map(STREAM, SMALL_PAGES);
	uint64_t faults, swapped;
	size_t at, read = 0;
	int pass, i;

	region_register(b, &hot, true);
	fill(&hot);
	for (at = 0; user && at < hot.len; at += READS * PAGE)
		read_hot(b, user, &hot, at);
	faults = adapter_faults();
	swapped = swapped_in();
	for (pass = 0; pass < PASSES; pass++) {
		for (at = 0; at < stream.len; at += writes * PAGE) {
			for (i = 0; i < writes; i++)
				*(size_t *)(stream.mem + at + i * PAGE) = at;
			if (!user)
				continue;
			read_hot(b, user, &hot, read * PAGE);
			read += READS;
		}
		region_unmap(&stream);
		stream = region_map(STREAM, SMALL_PAGES);
	}
	report(swapped_in() - swapped, "aging.%s.swapped", name);
	report(adapter_faults() - faults, "aging.%s.faults", name);
	report(read, "aging.%s.reads", name);
	region_deregister(&hot);
	region_unmap(&hot);
	region_unmap(&stream);
}

void measure_aging(struct bench *b)
{
	adapter_delay(US);
	measure_use(b, "idle", NOTHING, 16);
	measure_use(b, "cpu.slow", CPU, 16);
	measure_use(b, "device.slow", DEVICE, 16);
	measure_use(b, "cpu.fast", CPU, 4);
	measure_use(b, "device.fast", DEVICE, 4);
}
