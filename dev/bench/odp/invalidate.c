// SPDX-License-Identifier: GPL-2.0
/*
 * Invalidations: the process gives memory back that the device has mapped.
 *
 * Each is done with the device at its usual delay; with UMRs that take long and
 * longer, which shows how many were waited for one after the other; and without
 * a region ("alone": the kernel's own work).
 */
#include <sys/mman.h>

#include "bench.h"

#define LONG		(1 * MS)
#define LONGER		(11 * MS)

struct shape {
	const char *name;
	size_t region, len;		/* registered; given back */
	size_t stride;			/* from one mapped page to the next */
	enum page_kind kind;
	unsigned int reps;
};

static const struct shape shapes[] = {
	{ "4k", BLOCK, PAGE, PAGE, SMALL_PAGES, 5 },
	{ "2m", BLOCK, BLOCK, PAGE, SMALL_PAGES, 5 },
	{ "2m.huge", BLOCK, BLOCK, PAGE, HUGE_PAGES, 5 },
	{ "2m.sparse", BLOCK, BLOCK, BLOCK, SMALL_PAGES, 5 },
	{ "1g.sparse", GIB, GIB, BLOCK, SMALL_PAGES, 3 },
	{ "1g.huge", GIB, GIB, PAGE, HUGE_PAGES, 3 },
	{ "1g", GIB, GIB, PAGE, SMALL_PAGES, 3 },
};

enum way { MADVISE, MADVISE_LONG, MADVISE_LONGER, MUNMAP, MADVISE_ALONE, NR_WAYS };

static const struct {
	const char *name;
	uint64_t umr_delay;
} ways[NR_WAYS] = {
	[MADVISE] = { "madvise", DELAY },
	[MADVISE_LONG] = { "long", LONG },
	[MADVISE_LONGER] = { "longer", LONGER },
	[MUNMAP] = { "munmap", DELAY },
	[MADVISE_ALONE] = { "alone", DELAY },
};

/* The device has it: reading takes no fault. */
static void check_mapped(struct bench *b, const struct shape *s, const struct region *r)
{
	size_t offsets[3] = { 0, s->region / 2 / BLOCK * BLOCK,
			      s->stride > PAGE ? s->region - s->stride : s->region - PAGE };
	uint64_t faults = adapter_faults();

	check_read(b, r, offsets, 3);
	if (adapter_faults() != faults)
		die("%s: pages that were mapped have faulted", s->name);
}

/* It has it no longer: reading faults, and finds zeros. */
static void check_gone(struct bench *b, const struct shape *s, const struct region *r)
{
	size_t last = s->len > s->stride ? s->len - s->stride : 0;
	uint64_t faults = adapter_faults();

	check_read(b, r, &last, 1);
	if (adapter_faults() == faults)
		die("%s: a page that is gone did not fault", s->name);
	if (r->mem[last])
		die("%s: a page that was given back is still there", s->name);
}

static uint64_t give_back(const struct region *r, size_t len, enum way way)
{
	uint64_t start = now();
	int ret;

	ret = way == MUNMAP ? munmap(r->mem, len) : madvise(r->mem, len, MADV_DONTNEED);
	start = now() - start;
	if (ret)
		die("the memory was not given back: %m");
	return start;
}

static struct region prepare(struct bench *b, const struct shape *s, enum way way)
{
	struct region r = region_map(s->region, s->kind);

	region_touch(&r, r.len, s->stride);
	if (way == MADVISE_ALONE)
		return r;
	region_register(b, &r, true);
	region_prefetch(b, &r, r.len, s->stride);
	check_mapped(b, s, &r);
	return r;
}

/* What the adapter did since its counters were @umrs and @bytes. */
static void report_adapter(const struct shape *s, enum way way, int rep, uint64_t umrs,
			   uint64_t bytes)
{
	report(adapter_count("umr-wqes") - umrs, "inval.%s.%s.umrs.%d", s->name,
	       ways[way].name, rep);
	report(adapter_count("xlt-bytes") - bytes, "inval.%s.%s.xlt.%d", s->name,
	       ways[way].name, rep);
}

static void invalidate(struct bench *b, const struct shape *s, enum way way, int rep)
{
	struct region r = prepare(b, s, way);
	uint64_t umrs = adapter_count("umr-wqes"), bytes = adapter_count("xlt-bytes");

	adapter_set("umr-delay", ways[way].umr_delay);
	report(give_back(&r, s->len, way), "inval.%s.%s.ns.%d", s->name, ways[way].name, rep);
	adapter_set("umr-delay", DELAY);
	if (way != MADVISE_ALONE) {
		report_adapter(s, way, rep, umrs, bytes);
		if (way != MUNMAP)
			check_gone(b, s, &r);
		region_deregister(&r);
	}
	/* What is not there any more does no harm. */
	region_unmap(&r);
}

void measure_invalidation(struct bench *b)
{
	static const struct shape warm_up = { "warm-up", BLOCK, BLOCK, PAGE, SMALL_PAGES, 1 };
	const struct shape *s;
	unsigned int rep;
	enum way way;

	adapter_delay(DELAY);
	report(LONGER - LONG, "inval.delay.ns");
	for (way = MADVISE; way < NR_WAYS; way++)
		invalidate(b, &warm_up, way, 0);
	for (s = shapes; s < shapes + sizeof(shapes) / sizeof(*shapes); s++)
		for (way = MADVISE; way < NR_WAYS; way++)
			for (rep = 0; rep < s->reps; rep++)
				invalidate(b, s, way, rep);
}
