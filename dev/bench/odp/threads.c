// SPDX-License-Identifier: GPL-2.0
/*
 * Two threads: both take faults, or one does while the other invalidates memory
 * that no region has. For two CPUs, which take turns at counting instructions;
 * waits for the device overlap. What a thread has to wait for is then the other
 * or the device, never the host.
 */
#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "bench.h"

#define CHAIN		16
#define CHAINS		16		/* a thread and round */
#define SHARE		(CHAIN * CHAINS * PAGE)	/* of the region */
#define ROUNDS		5
#define UMR_DELAY	(100 * US)
#define SINGLES		64
#define ELSEWHERE	(1 * GIB)

static_assert(SHARE % PAGE == 0 && SHARE <= BLOCK, "a thread's part is in a block of its own");

struct worker {
	struct bench *b;
	struct lane lane;
	const struct region *r;
	size_t start;
	pthread_barrier_t *ready;
	pthread_t thread;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	size_t offsets[CHAIN], at = w->start;
	int i, j;

	pthread_barrier_wait(w->ready);
	for (i = 0; i < CHAINS; i++) {
		for (j = 0; j < CHAIN; j++, at += PAGE)
			offsets[j] = at;
		lane_pages(w->b, &w->lane, IBV_WR_RDMA_WRITE, w->r, offsets, CHAIN);
	}
	return NULL;
}

/* Pages a second of all workers together. */
static double run_workers(struct worker *workers, unsigned int nr)
{
	uint64_t faults = adapter_faults(), start;
	pthread_barrier_t ready;
	unsigned int i;

	pthread_barrier_init(&ready, NULL, nr + 1);
	for (i = 0; i < nr; i++) {
		workers[i].ready = &ready;
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			die("pthread_create");
	}
	rest(10 * MS);			/* until all are at the barrier */
	start = now();
	pthread_barrier_wait(&ready);
	for (i = 0; i < nr; i++)
		pthread_join(workers[i].thread, NULL);
	start = now() - start;
	pthread_barrier_destroy(&ready);
	if (adapter_faults() - faults < nr)
		die("%lu faults of %u threads", adapter_faults() - faults, nr);
	return nr * CHAIN * CHAINS * 1e9 / start;
}

static void check_share(struct bench *b, const struct worker *w)
{
	size_t at;

	for (at = w->start; at < w->start + SHARE; at += PAGE)
		check_written(b, w->r, &at, 1);
}

/* Worker i's region and place: in one region in different blocks. */
static void measure_workers(struct bench *b, struct worker *workers, unsigned int nr,
			    unsigned int nr_regions, const char *name)
{
	struct region r[2];
	unsigned int i, round;

	for (round = 0; round < ROUNDS; round++) {
		for (i = 0; i < nr_regions; i++) {
			r[i] = region_map(2 * BLOCK, SMALL_PAGES);
			region_register(b, &r[i], true);
			region_touch(&r[i], r[i].len, PAGE);
		}
		for (i = 0; i < nr; i++) {
			workers[i].r = &r[i % nr_regions];
			workers[i].start = i * BLOCK;
		}
		report(run_workers(workers, nr), "threads.%s.%u", name, round);
		for (i = 0; i < nr; i++)
			check_share(b, &workers[i]);
		for (i = 0; i < nr_regions; i++) {
			region_deregister(&r[i]);
			region_unmap(&r[i]);
		}
	}
}

void measure_threads(struct bench *b)
{
	struct worker workers[2] = { { .b = b }, { .b = b } };

	lane_open(b, &workers[0].lane);
	lane_open(b, &workers[1].lane);
	adapter_delay(0);
	adapter_set("umr-delay", UMR_DELAY);
	driver_ahead(false);
	measure_workers(b, workers, 1, 1, "one");
	measure_workers(b, workers, 2, 1, "same");
	measure_workers(b, workers, 2, 2, "two");
	driver_ahead(true);
}

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity: %m");
}

/* Who runs where would differ from boot to boot, and with it what waking up costs. */
static void settle_on_first_cpu(void)
{
	if (system("echo 1 >/sys/devices/virtual/workqueue/cpumask &&"
		   "for irq in /proc/irq/[0-9]*/smp_affinity; do echo 1 >$irq; done 2>/dev/null;"
		   "grep -qx 1 /sys/devices/virtual/workqueue/cpumask"))
		die("the kernel's work is not on the first CPU");
	run_on(0);
}

static volatile bool storm_ends;
static unsigned long storm_calls;

/* Long ranges of nothing: they are open nearly all the time. */
static void *storm(void *arg)
{
	struct region *elsewhere = arg;

	run_on(1);
	while (!storm_ends) {
		if (madvise(elsewhere->mem, elsewhere->len, MADV_DONTNEED))
			die("madvise: %m");
		storm_calls++;
		_mm_pause();		/* the other CPU's turn */
	}
	return NULL;
}

/* Faults in blocks that the region has nothing of yet, at any time of the storm. */
static void single_faults(struct bench *b, const struct region *r, const char *name, int round)
{
	uint64_t faults = adapter_faults(), start;
	size_t at;
	int i;

	for (i = 0; i < SINGLES; i++) {
		at = i * BLOCK;
		rest(random() % (50 * US));
		start = now();
		lane_pages(b, &b->lane, IBV_WR_RDMA_WRITE, r, &at, 1);
		report(now() - start, "storm.%s.ns.%d", name, round * SINGLES + i);
		check_written(b, r, &at, 1);
	}
	if (adapter_faults() - faults < SINGLES)
		die("%lu faults of %u", adapter_faults() - faults, SINGLES);
}

static void single_rounds(struct bench *b, const char *name)
{
	struct region r;
	int round;

	for (round = 0; round < ROUNDS; round++) {
		r = region_map(SINGLES * BLOCK, SMALL_PAGES);
		region_register(b, &r, true);
		region_touch(&r, r.len, BLOCK);
		single_faults(b, &r, name, round);
		region_deregister(&r);
		region_unmap(&r);
	}
}

void measure_storm(struct bench *b)
{
	struct region elsewhere = region_map(ELSEWHERE, SMALL_PAGES);
	pthread_t thread;
	unsigned long calls;

	adapter_delay(DELAY);
	settle_on_first_cpu();
	single_rounds(b, "warm-up");
	single_rounds(b, "quiet");
	if (pthread_create(&thread, NULL, storm, &elsewhere))
		die("pthread_create");
	rest(5 * MS);
	calls = storm_calls;
	single_rounds(b, "loud");
	calls = storm_calls - calls;
	storm_ends = true;
	pthread_join(thread, NULL);
	if (calls < ROUNDS * SINGLES)
		die("only %lu invalidations beside %u faults", calls, ROUNDS * SINGLES);
	report(calls, "storm.calls");
	region_unmap(&elsewhere);
}
