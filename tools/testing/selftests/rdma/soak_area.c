// SPDX-License-Identifier: GPL-2.0
/*
 * Areas of the soak test: memory, its shadow, its region.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "soak.h"

/* Two thirds of the memory is anonymous; the rest is a file's, and shared. */
int soak_area_open(struct soak *soak, struct soak_area *area, bool shared)
{
	*area = (struct soak_area) { .fd = -1 };
	area->mem = odp_map(SOAK_LEN);
	area->shadow = mmap(NULL, SOAK_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
	if (area->mem == MAP_FAILED || area->shadow == MAP_FAILED)
		return errno;
	if (shared) {
		area->fd = memfd_create("soak", 0);
		if (area->fd < 0 || ftruncate(area->fd, SOAK_LEN) ||
		    mmap(area->mem, SOAK_LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			 area->fd, 0) == MAP_FAILED)
			return errno;
	}
	soak_area_register(soak, area);
	return 0;
}

static bool overlap(struct soak_range one, struct soak_range other)
{
	return one.at < other.at + other.len && other.at < one.at + one.len;
}

bool soak_is_busy(const struct soak_area *area, struct soak_range range)
{
	int i;

	for (i = 0; i < area->nr_busy; i++)
		if (overlap(area->busy[i], range))
			return true;
	return false;
}

void soak_set_busy(struct soak_area *area, struct soak_range range)
{
	area->busy[area->nr_busy++] = range;
}

void soak_clear_busy(struct soak_area *area, struct soak_range range)
{
	int i;

	for (i = 0; i < area->nr_busy; i++)
		if (area->busy[i].at == range.at && area->busy[i].len == range.len)
			break;
	area->busy[i] = area->busy[--area->nr_busy];
}

/* Short ones are as likely as long ones; any alignment; all of it is in the region. */
struct soak_range soak_pick(struct soak *soak, struct soak_area *area, size_t longest)
{
	struct soak_range range;
	int shift = soak_random(soak, __builtin_ctzl(longest) + 1);

	range.len = 1 + soak_random(soak, 1UL << shift);
	range.at = area->covered.at + soak_random(soak, area->covered.len - range.len + 1);
	return range;
}

void soak_compare(struct soak *soak, struct soak_area *area, struct soak_range range)
{
	const char *mem = area->mem + range.at, *shadow = area->shadow + range.at;
	size_t i;

	if (!memcmp(mem, shadow, range.len))
		return;
	for (i = 0; mem[i] == shadow[i]; i++)
		;
	soak_fail(soak, area->fd < 0 ? "anonymous memory differs at byte" :
		  "shared memory differs at byte", range.at + i);
}

/* Its region begins and ends anywhere in the first and the last page; no byte is busy. */
void soak_area_register(struct soak *soak, struct soak_area *area)
{
	size_t at = soak_random(soak, SOAK_PAGE), end = soak_random(soak, SOAK_PAGE);

	if (area->mr && ibv_dereg_mr(area->mr))
		soak_fail(soak, "deregistration: error", errno);
	area->covered = (struct soak_range) { .at = at, .len = SOAK_LEN - end - at };
	area->mr = ibv_reg_mr(soak->dev.pd, area->mem + at, area->covered.len, ODP_PAGED);
	if (!area->mr)
		soak_fail(soak, "registration: error", errno);
	soak->count[SOAK_REGISTER]++;
}
