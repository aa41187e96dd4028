// SPDX-License-Identifier: GPL-2.0
/*
 * Registration and its end: time, and the kernel's memory, by length. Of each
 * length several regions of one untouched mapping, for memory is counted in
 * pages; as many as there is time for.
 */
#include <errno.h>
#include <sys/mman.h>

#include "bench.h"

#define REGIONS		64
#define LIMIT		(400 * MS)
#define TOUCHED		(256 * MIB)
#define TOUCHED_REPS	3
#define REPS		5

static struct ibv_mr *register_untouched(struct bench *b, char *mem, size_t len)
{
	return ibv_reg_mr(b->pd, mem, len, ACCESS | IBV_ACCESS_ON_DEMAND);
}

static unsigned int register_many(struct bench *b, char *mem, size_t len, struct ibv_mr **mr)
{
	uint64_t begin = now(), start;
	unsigned int nr = 0;

	while (nr < REGIONS && now() - begin < LIMIT) {
		start = now();
		mr[nr] = register_untouched(b, mem, len);
		if (!mr[nr])
			break;
		report(now() - start, "reg.ns.%lu.%u", len / GIB, nr);
		nr++;
	}
	if (!nr)
		report(errno, "reg.errno.%lu", len / GIB);
	return nr;
}

static void deregister_many(size_t len, struct ibv_mr **mr, unsigned int nr)
{
	uint64_t start;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		start = now();
		if (ibv_dereg_mr(mr[i]))
			die("ibv_dereg_mr");
		report(now() - start, "dereg.ns.%lu.%u", len / GIB, i);
	}
}

static void measure_length(struct bench *b, size_t len)
{
	struct ibv_mr *mr[REGIONS];
	char *mem = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			 -1, 0);
	uint64_t context = adapter_count("context-bytes");
	unsigned int nr;
	long before;

	if (mem == MAP_FAILED)
		die("mmap of %zu GiB: %m", len / GIB);
	before = kernel_memory();
	nr = register_many(b, mem, len, mr);
	if (nr) {
		report((kernel_memory() - before) * 1024.0 / nr, "reg.bytes.%lu", len / GIB);
		report((double)(adapter_count("context-bytes") - context) / nr,
		       "reg.context.%lu", len / GIB);
		report(nr, "reg.count.%lu", len / GIB);
	}
	deregister_many(len, mr, nr);
	if (munmap(mem, len))
		die("munmap: %m");
}

/* All memory there is. */
static void measure_implicit(struct bench *b)
{
	struct region all = { .len = SIZE_MAX };
	uint64_t context = adapter_count("context-bytes"), start;
	int i;

	for (i = 0; i < REPS; i++) {
		start = now();
		region_register(b, &all, true);
		report(now() - start, "reg.implicit.ns.%d", i);
		if (!i)
			report(adapter_count("context-bytes") - context, "reg.implicit.context");
		region_deregister(&all);
	}
}

static void warm_up(struct bench *b)
{
	struct region r = region_map(BLOCK, SMALL_PAGES);
	int i;

	for (i = 0; i < REGIONS; i++) {
		region_register(b, &r, true);
		region_deregister(&r);
	}
	region_unmap(&r);
}

void measure_registration(struct bench *b)
{
	static const size_t lengths[] = { 1, 16, 256, 1024 };
	size_t i;

	adapter_delay(DELAY);
	warm_up(b);
	for (i = 0; i < sizeof(lengths) / sizeof(*lengths); i++)
		measure_length(b, lengths[i] * GIB);
	measure_implicit(b);
}

/* Of a region that the device has all of. */
void measure_deregistration(struct bench *b)
{
	struct region r = region_map(TOUCHED, SMALL_PAGES);
	size_t far = TOUCHED - PAGE;
	uint64_t start, umrs;
	unsigned int i;

	adapter_delay(DELAY);
	region_touch(&r, r.len, PAGE);
	for (i = 0; i < TOUCHED_REPS; i++) {
		region_register(b, &r, true);
		region_prefetch(b, &r, r.len, PAGE);
		check_read(b, &r, &far, 1);
		umrs = adapter_count("umr-wqes");
		start = now();
		region_deregister(&r);
		report(now() - start, "dereg.touched.ns.%u", i);
		report(adapter_count("umr-wqes") - umrs, "dereg.touched.umrs.%u", i);
	}
	report(TOUCHED / MIB, "dereg.touched.mib");
	region_unmap(&r);
}
