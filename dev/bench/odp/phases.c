// SPDX-License-Identifier: GPL-2.0
/*
 * Faults for the profiler, which counts the instructions of each function of the guest
 * between two marks (../profile/plugin.c). One at a time, the program asleep meanwhile:
 * all instructions are those of a fault and of the write that takes it.
 */
#include <stdlib.h>

#include "../module/marks.h"
#include "bench.h"

#define WRITES	32

/* Pages of one block, of which one is there; backwards, so that none is ahead of another. */
static void profile_writes(struct bench *b, bool warm)
{
	struct region r = region_map(2 * BLOCK, SMALL_PAGES);
	size_t offset = BLOCK - PAGE;
	uint64_t faults;
	int i;

	region_register(b, &r, true);
	region_touch(&r, r.len, PAGE);
	lane_pages(b, &b->lane, IBV_WR_RDMA_WRITE, &r, &offset, 1);
	for (i = 0; i < 8; i++) {
		offset -= 8 * PAGE;
		lane_pages(b, &b->lane, IBV_WR_RDMA_WRITE, &r, &offset, 1);
	}
	faults = adapter_faults();
	MARK(MARK_COUNT);
	for (i = 0; i < WRITES; i++) {
		offset -= warm ? 0 : 8 * PAGE;
		lane_pages(b, &b->lane, IBV_WR_RDMA_WRITE, &r, &offset, 1);
	}
	MARK(MARK_DONE);
	faults = adapter_faults() - faults;
	if (faults != (warm ? 0 : WRITES))
		die("%lu faults in the profile", faults);
	report(WRITES, "phases.%s", warm ? "warm" : "fault");
	check_written(b, &r, &offset, 1);
	region_deregister(&r);
	region_unmap(&r);
}

void measure_phases(struct bench *b)
{
	adapter_delay(0);
	profile_writes(b, false);
	profile_writes(b, true);
	adapter_delay(DELAY);
}
