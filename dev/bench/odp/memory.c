// SPDX-License-Identifier: GPL-2.0
/*
 * Anonymous memory in pages of a chosen size, and what the kernel needs of its own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench.h"

/* At a multiple of 2 MiB, untouched. */
struct region region_map(size_t len, enum page_kind kind)
{
	char *raw = mmap(NULL, len + BLOCK, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t before = -(uintptr_t)raw % BLOCK;
	struct region r = { .mem = raw + before, .len = len, .kind = kind };

	if (raw == MAP_FAILED)
		die("mmap of %zu MiB: %m", len / MIB);
	if ((before && munmap(raw, before)) || munmap(r.mem + len, BLOCK - before))
		die("munmap: %m");
	if (madvise(r.mem, len, kind == HUGE_PAGES ? MADV_HUGEPAGE : MADV_NOHUGEPAGE))
		die("madvise: %m");
	return r;
}

void region_unmap(struct region *r)
{
	if (munmap(r->mem, r->len))
		die("munmap: %m");
	r->mem = NULL;
}

/* "Field: n kB" of a file in /proc. */
static long proc_kib(const char *path, const char *field)
{
	size_t len = strlen(field);
	char line[256];
	FILE *file = fopen(path, "r");
	long value = -1;

	while (file && value < 0 && fgets(line, sizeof(line), file))
		if (!strncmp(line, field, len) && line[len] == ':')
			value = strtol(line + len + 1, NULL, 10);
	if (file)
		fclose(file);
	if (value < 0)
		die("no %s in %s", field, path);
	return value;
}

static void check_huge(size_t len)
{
	long huge = proc_kib("/proc/self/smaps_rollup", "AnonHugePages");

	if ((size_t)huge * 1024 < len)
		die("%ld KiB of %zu are in huge pages", huge, len / 1024);
}

/* Let the process have the first @len bytes, or of each @stride only a page. */
void region_touch(const struct region *r, size_t len, size_t stride)
{
	size_t at;

	if (stride > PAGE) {
		for (at = 0; at < len; at += stride)
			memset(r->mem + at, 0x5a, PAGE);
		return;
	}
	if (madvise(r->mem, len, MADV_POPULATE_WRITE))
		die("MADV_POPULATE_WRITE: %m");
	for (at = 0; at < len; at += BLOCK)
		memset(r->mem + at, 0x5a, PAGE);
	if (r->kind == HUGE_PAGES)
		check_huge(len);
}

/* KiB that the kernel has for itself, in slabs, vmalloc, page tables and so on. */
long kernel_memory(void)
{
	static const char *const fields[] = { "Slab", "VmallocUsed", "PageTables", "Percpu",
					      "KernelStack", "SecPageTables" };
	FILE *refresh;
	long sum = 0;
	size_t i;

	/* What was freed is given back, then the counters of all CPUs are added up. */
	rest(300 * MS);
	refresh = fopen("/proc/sys/vm/stat_refresh", "w");
	if (!refresh || fputs("1", refresh) < 0 || fclose(refresh))
		die("/proc/sys/vm/stat_refresh: %m");
	for (i = 0; i < sizeof(fields) / sizeof(*fields); i++)
		sum += proc_kib("/proc/meminfo", fields[i]);
	return sum;
}
