// SPDX-License-Identifier: GPL-2.0
/*
 * What the owner of the memory does to it in the soak test, and has the kernel do.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "soak.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif
#define MPOL_MF_MOVE	2
#define LONGEST		256		/* pages */

typedef void (*change_fn)(struct soak *soak, struct soak_area *area, struct soak_range range);

static bool advise(struct soak *soak, struct soak_area *area, struct soak_range range,
		   int advice, enum soak_count count)
{
	if (madvise(area->mem + range.at, range.len, advice))
		return false;
	soak->count[count]++;
	return true;
}

/* These leave each byte as it is, so that a transfer may be under way. */

static void pageout(struct soak *soak, struct soak_area *area, struct soak_range range)
{
	advise(soak, area, range, soak_random(soak, 3) ? MADV_PAGEOUT : MADV_COLD, SOAK_PAGEOUT);
}

static void collapse(struct soak *soak, struct soak_area *area, struct soak_range range)
{
	struct soak_range chunk = { .at = range.at & ~(ODP_CHUNK - 1), .len = ODP_CHUNK };

	advise(soak, area, chunk, MADV_COLLAPSE, SOAK_COLLAPSE);
}

static void huge_advice(struct soak *soak, struct soak_area *area, struct soak_range range)
{
	advise(soak, area, range, soak_random(soak, 3) ? MADV_HUGEPAGE : MADV_NOHUGEPAGE,
	       SOAK_ADVICE);
}

static void merge(struct soak *soak, struct soak_area *area, struct soak_range range)
{
	advise(soak, area, range, soak_random(soak, 3) ? MADV_MERGEABLE : MADV_UNMERGEABLE,
	       SOAK_MERGE);
}

static void migrate(struct soak *soak, struct soak_area *area, struct soak_range range)
{
	int nodes[LONGEST], status[LONGEST], node = soak_random(soak, 2);
	size_t i, nr = range.len / SOAK_PAGE;
	void *pages[LONGEST];

	for (i = 0; i < nr; i++) {
		pages[i] = area->mem + range.at + i * SOAK_PAGE;
		nodes[i] = node;
	}
	if (!syscall(__NR_move_pages, 0, nr, pages, nodes, status, MPOL_MF_MOVE))
		soak->count[SOAK_MIGRATE]++;
}

static void lock(struct soak *soak, struct soak_area *area, struct soak_range range)
{
	if (soak_random(soak, 2) ? mlock(area->mem + range.at, range.len) :
				   munlock(area->mem + range.at, range.len))
		soak_fail(soak, "mlock or munlock: error", errno);
	soak->count[SOAK_LOCK]++;
}

static void prefetch(struct soak *soak, struct soak_area *area, struct soak_range range)
{
	static const uint32_t advices[] = {
		IBV_ADVISE_MR_ADVICE_PREFETCH, IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE,
		IBV_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT,
	};
	struct soak_range some = soak_pick(soak, area, range.len & -range.len);
	struct ibv_sge sge = odp_sge(area->mem + some.at, some.len, area->mr);
	uint32_t flags = soak_random(soak, 2) ? IBV_ADVISE_MR_FLAG_FLUSH : 0;
	int ret = odp_advise(soak->dev.pd, advices[soak_random(soak, 3)], flags, &sge, 1);

	if (ret)
		soak_fail(soak, "advice: error", ret);
	soak->count[SOAK_ADVISE]++;
}

/* These change bytes, or remove them for a moment: none of them is busy. */

static void store(struct soak *soak, struct soak_area *area, struct soak_range range)
{
	odp_fill(area->shadow + range.at, range.len, soak_random(soak, ~0ULL));
	memcpy(area->mem + range.at, area->shadow + range.at, range.len);
	soak->count[SOAK_STORE]++;
}

static void compare(struct soak *soak, struct soak_area *area, struct soak_range range)
{
	soak_compare(soak, area, range);
	soak->count[SOAK_COMPARE]++;
}

/* A file keeps what its mapping forgets, unless a hole is made. */
static void discard(struct soak *soak, struct soak_area *area, struct soak_range range)
{
	bool hole = area->fd >= 0 && soak_random(soak, 2);

	if (advise(soak, area, range, hole ? MADV_REMOVE : MADV_DONTNEED, SOAK_DISCARD) &&
	    (hole || area->fd < 0))
		memset(area->shadow + range.at, 0, range.len);
}

static void protect(struct soak *soak, struct soak_area *area, struct soak_range range)
{
	char *mem = area->mem + range.at;

	if (mprotect(mem, range.len, soak_random(soak, 2) ? PROT_READ : PROT_NONE) ||
	    mprotect(mem, range.len, PROT_READ | PROT_WRITE))
		soak_fail(soak, "mprotect: error", errno);
	soak->count[SOAK_PROTECT]++;
}

/* Away and back. More than one VMA cannot be moved. */
static void remap(struct soak *soak, struct soak_area *area, struct soak_range range)
{
	void *spot = mmap(NULL, range.len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *mem = area->mem + range.at;

	if (mremap(mem, range.len, range.len, MREMAP_MAYMOVE | MREMAP_FIXED, spot) == MAP_FAILED) {
		munmap(spot, range.len);
		return;
	}
	if (mremap(spot, range.len, range.len, MREMAP_MAYMOVE | MREMAP_FIXED, mem) == MAP_FAILED)
		soak_fail(soak, "mremap back: error", errno);
	soak->count[SOAK_REMAP]++;
}

static void map(struct soak *soak, struct soak_area *area, struct soak_range range)
{
	int flags = area->fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
	char *mem = area->mem + range.at;

	if (munmap(mem, range.len) ||
	    mmap(mem, range.len, PROT_READ | PROT_WRITE, flags | MAP_FIXED, area->fd,
		 area->fd < 0 ? 0 : range.at) == MAP_FAILED)
		soak_fail(soak, "munmap, mmap: error", errno);
	if (area->fd < 0)
		memset(area->shadow + range.at, 0, range.len);
	soak->count[SOAK_MAP]++;
}

/* The end of a file goes, and comes back empty. */
static void cut(struct soak *soak, struct soak_area *area, struct soak_range range)
{
	struct soak_range end = { .at = range.at, .len = SOAK_LEN - range.at };

	if (area->fd < 0 || soak_is_busy(area, end))
		return;
	if (ftruncate(area->fd, range.at) || ftruncate(area->fd, SOAK_LEN))
		soak_fail(soak, "ftruncate: error", errno);
	memset(area->shadow + end.at, 0, end.len);
	soak->count[SOAK_TRUNCATE]++;
}

static void again(struct soak *soak, struct soak_area *area, struct soak_range range)
{
	if (!area->nr_busy)
		soak_area_register(soak, area);
}

static void reap(struct soak *soak)
{
	int status = 0;

	if (soak->child > 0 && (waitpid(soak->child, &status, 0) < 0 || status))
		soak_fail(soak, "a child saw other bytes: status", status);
	soak->child = 0;
}

/*
 * The child compares what it has, and changes its own copy. It ends at any time from here to
 * the next fork: until then, the memory of both is shared for reading only.
 */
static void fork_one(struct soak *soak, struct soak_area *area, struct soak_range range)
{
	reap(soak);
	soak->child = fork();
	if (soak->child < 0)
		soak_fail(soak, "fork: error", errno);
	if (soak->child) {
		soak->count[SOAK_FORK]++;
		return;
	}
	if (area->fd >= 0)
		_exit(0);
	if (memcmp(area->mem + range.at, area->shadow + range.at, range.len))
		_exit(1);
	memset(area->mem + range.at, 0x5a, range.len);
	usleep(soak_random(soak, 20000));
	_exit(odp_same_byte(area->mem + range.at, range.len, 0x5a) != range.len);
}

static void exec_one(struct soak *soak, struct soak_area *area, struct soak_range range)
{
	if (system("/bin/true"))
		soak_fail(soak, "exec: step", soak->step);
	soak->count[SOAK_EXEC]++;
}

static const struct {
	change_fn fn;
	bool alone;		/* with bytes that are not busy */
	int weight;
} changes[] = {
	{ pageout, false, 4 }, { collapse, false, 2 }, { huge_advice, false, 1 },
	{ migrate, false, 2 }, { merge, false, 1 }, { lock, false, 1 }, { prefetch, false, 3 },
	{ store, true, 4 }, { compare, true, 4 }, { discard, true, 3 }, { protect, true, 2 },
	{ remap, true, 2 }, { map, true, 2 }, { cut, true, 1 }, { again, true, 2 },
	{ fork_one, true, 1 }, { exec_one, true, 1 },
};

static size_t choose(struct soak *soak)
{
	size_t i;
	int sum = 0, at;

	for (i = 0; i < ARRAY_SIZE(changes); i++)
		sum += changes[i].weight;
	at = soak_random(soak, sum);
	for (i = 0; at >= changes[i].weight; i++)
		at -= changes[i].weight;
	return i;
}

/* Whole pages. */
void soak_change(struct soak *soak)
{
	struct soak_area *area = &soak->area[soak_random(soak, SOAK_AREAS)];
	size_t pages = 1 + soak_random(soak, 1UL << soak_random(soak, 9));
	size_t first = soak_random(soak, SOAK_LEN / SOAK_PAGE - pages + 1), which = choose(soak);
	struct soak_range range = { .at = first * SOAK_PAGE, .len = pages * SOAK_PAGE };

	if (!changes[which].alone || !soak_is_busy(area, range))
		changes[which].fn(soak, area, range);
}
