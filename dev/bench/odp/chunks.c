// SPDX-License-Identifier: GPL-2.0
/*
 * Does the price of an invalidation grow with its size? One page in each 2 MiB of more
 * and more memory, given back by one munmap; then the region ends, so that what the
 * kernel puts off until later is counted, too.
 */
#include <sys/mman.h>

#include "bench.h"

void measure_chunks(struct bench *b)
{
	static const size_t lengths[] = { 4, 64, 256 };
	struct region r;
	uint64_t start;
	size_t i;

	for (i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		adapter_delay(0);
		r = region_map(lengths[i] * GIB, SMALL_PAGES);
		region_register(b, &r, true);
		region_touch(&r, r.len, BLOCK);
		region_prefetch(b, &r, r.len, BLOCK);
		adapter_delay(DELAY);
		start = now();
		region_unmap(&r);
		region_deregister(&r);
		report((double)(now() - start) / (r.len / BLOCK), "chunks.ns.%zu.0", lengths[i]);
	}
}
