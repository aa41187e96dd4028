// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that only the device uses, on a machine that is short of it.
 *
 * The device reads a quarter of the machine's memory again and again, and the CPU writes
 * through far more than the rest, which it never reads again. What the CPU writes could go
 * first; what the device reads would fit. How long it takes is not told: the disk's time is
 * the host's, and between a second and twenty minutes by the guest's clock.
 */
#include <stdio.h>
#include <string.h>

#include "bench.h"

#define HOT		(96 * MIB)
#define STREAM		(768 * MIB)
#define PASSES		2
#define READS		8		/* at a time, in order */
#define WRITES		16		/* of the CPU between them */

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

static void read_hot(struct bench *b, const struct region *hot, size_t first)
{
	size_t offsets[READS], i;

	for (i = 0; i < READS; i++)
		offsets[i] = (first + i * PAGE) % hot->len;
	lane_pages(b, &b->lane, IBV_WR_RDMA_READ, hot, offsets, READS);
	for (i = 0; i < READS; i++)
		if (*(size_t *)buffer_slot(b, offsets[i], true) != offsets[i])
			die("the page at %#zx was not read as it is", offsets[i]);
}

/* Every page says where it is. */
static void fill(const struct region *r)
{
	size_t at;

	for (at = 0; at < r->len; at += PAGE)
		*(size_t *)(r->mem + at) = at;
}

/* @use: by the device; otherwise what the machine does without it. */
static void measure_use(struct bench *b, const char *name, bool use)
{
	struct region hot = region_map(HOT, SMALL_PAGES), stream = region_map(STREAM, SMALL_PAGES);
	uint64_t faults, swapped;
	size_t at, i, read = 0;
	int pass;

	region_register(b, &hot, true);
	fill(&hot);
	for (at = 0; use && at < hot.len; at += READS * PAGE)
		read_hot(b, &hot, at);
	faults = adapter_faults();
	swapped = swapped_in();
	for (pass = 0; pass < PASSES; pass++) {
		for (at = 0; at < stream.len; at += WRITES * PAGE) {
			for (i = 0; i < WRITES; i++)
				*(size_t *)(stream.mem + at + i * PAGE) = at;
			if (!use)
				continue;
			read_hot(b, &hot, read * PAGE);
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
	measure_use(b, "idle", false);
	measure_use(b, "used", true);
}
