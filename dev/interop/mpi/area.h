/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory of which each element is verified.
 *
 * An area is mapped for one exchange and unmapped after it, so that the next
 * one gets the same addresses with other pages: a stale registration then
 * reads or writes memory of an earlier exchange, which has another seed.
 */
#ifndef AREA_H
#define AREA_H

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static uint64_t nr_verified;

/* Another value for each seed and index, and none that a zeroed page has. */
static inline uint64_t area_value(uint64_t seed, size_t index)
{
	uint64_t mixed = (seed << 32 | index) * 0x9e3779b97f4a7c15;

	return (mixed ^ mixed >> 29) | 1;
}

static inline uint64_t *area_map(size_t nr)
{
	void *area = mmap(NULL, nr * sizeof(uint64_t), PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (area == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return area;
}

static inline void area_unmap(uint64_t *area, size_t nr)
{
	munmap(area, nr * sizeof(*area));
}

/* The addresses stay, the pages go: a pinned region would keep the old ones. */
static inline void area_drop(uint64_t *area, size_t nr)
{
	if (madvise(area, nr * sizeof(*area), MADV_DONTNEED)) {
		perror("madvise");
		exit(1);
	}
}

static inline void area_fill(uint64_t *area, size_t nr, uint64_t seed)
{
	for (size_t i = 0; i < nr; i++)
		area[i] = area_value(seed, i);
}

static inline void element_verify(const char *what, size_t index, uint64_t got,
				  uint64_t want)
{
	if (got != want) {
		fprintf(stderr, "%s: element %zu is %" PRIx64 " instead of %" PRIx64 "\n",
			what, index, got, want);
		exit(3);
	}
	nr_verified++;
}

static inline void area_verify(const char *what, const uint64_t *area, size_t nr,
			       uint64_t seed)
{
	for (size_t i = 0; i < nr; i++)
		element_verify(what, i, area[i], area_value(seed, i));
}

#endif
