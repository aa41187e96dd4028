// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * User memory that is paged on demand: what a fault brings in ahead of the device.
 *
 * Nearly all that a minor fault costs is the way from the device to the driver and
 * back, and not the page. Where a device goes through memory in order, a fault
 * therefore brings in what the device is going to need next.
 *
 * A run is a sequence of faults, each of which begins where the pages of the one
 * before it end. A region keeps runs by the address at which they would go on.
 * That tells the runs of several queues apart, and also several runs of one queue,
 * and works for devices that report the memory but not the queue.
 *
 * From its third fault on, a run gets as many pages ahead as it has had before, up to
 * a limit and to the end of the chunk. So the number of faults of a run grows with
 * the logarithm of its length, and what is brought in for nothing is never more than
 * what was used. Random access gets nothing ahead, unless by chance two faults in
 * succession begin where others have ended.
 *
 * Memory ahead is faulted in only where that is prompt and there is plenty of memory.
 * Otherwise the pages that the process has there are taken along, and others are left
 * alone. A failure ahead is none of the fault's.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/hash.h>
#include <linux/log2.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/page_counter.h>
#include <linux/slab.h>

#include "umem_odp.h"

/* A region keeps sets of runs, hashed by where they go on. */
#define ODP_SETS	8
#define ODP_SET_RUNS	4
/* The fault of a run that is the first to bring pages in ahead. */
#define ODP_RUN_FAULTS	3
/* How many new runs an established run survives that would take its place. */
#define ODP_RUN_GRACE	8
/* How much more memory there has to be than is wanted. */
#define ODP_AHEAD_SPARE	16

/**
 * struct ib_odp_runs - the runs of a region
 * @lock: protects what follows
 * @turn: where a set is looked at first, so that runs of equal grace are replaced in turn
 * @sets: empty where @faults is 0
 */
struct ib_odp_runs {
	spinlock_t lock;	/* all else */
	unsigned int turn;
	struct ib_odp_run sets[ODP_SETS][ODP_SET_RUNS];
};

unsigned int ib_odp_ahead = IB_ODP_CHUNK_PAGES;
module_param_named(odp_ahead, ib_odp_ahead, uint, 0644);
MODULE_PARM_DESC(odp_ahead,
		 "Pages that an on-demand paging fault brings in ahead, at most, where a device accesses memory in order (0: none)");

static struct ib_odp_run *runs_set(struct ib_odp_runs *runs, unsigned long next)
{
	return runs->sets[hash_long(next >> PAGE_SHIFT, ilog2(ODP_SETS))];
}

/* Take the run that goes on here out, if there is one. */
static struct ib_odp_run runs_take(struct ib_odp_runs *runs, unsigned long next)
{
	struct ib_odp_run *set = runs_set(runs, next), found = {};
	unsigned int i;

	spin_lock(&runs->lock);
	for (i = 0; i < ODP_SET_RUNS; i++) {
		if (!set[i].faults || set[i].next != next)
			continue;
		found = set[i];
		set[i] = (struct ib_odp_run) {};
		break;
	}
	spin_unlock(&runs->lock);
	return found;
}

/* Replace the run with the least grace. One that has some loses a part of it instead. */
static void runs_put(struct ib_odp_runs *runs, const struct ib_odp_run *run)
{
	struct ib_odp_run *set = runs_set(runs, run->next), *least = NULL, *at;
	unsigned int i;

	spin_lock(&runs->lock);
	runs->turn++;
	for (i = 0; i < ODP_SET_RUNS; i++) {
		at = &set[(runs->turn + i) % ODP_SET_RUNS];
		if (!least || !at->faults || at->grace < least->grace)
			least = at;
		if (!at->faults)
			break;
	}
	if (least->grace)
		least->grace--;
	else
		*least = *run;
	spin_unlock(&runs->lock);
}

/* Made by the first fault: most regions of a program with many are never used. */
static struct ib_odp_runs *runs_get(struct ib_umem_odp *odp)
{
	struct ib_odp_runs *runs = READ_ONCE(odp->runs), *others;

	if (runs)
		return runs;
	runs = kzalloc(sizeof(*runs), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!runs)
		return NULL;
	spin_lock_init(&runs->lock);
	others = cmpxchg(&odp->runs, NULL, runs);
	if (!others)
		return runs;
	kfree(runs);
	return others;
}

static bool runs_wanted(unsigned int flags)
{
	return READ_ONCE(ib_odp_ahead) &&
	       !(flags & (IB_ODP_FAULT_PREFETCH | IB_ODP_FAULT_PRESENT));
}

/**
 * ib_odp_run_begin() - which run does a fault belong to?
 * @odp: the umem
 * @start: first address, at the beginning of a page
 * @end: end of the range, at a page boundary
 * @flags: enum ib_odp_fault_flags
 * @run: set to the run, which no other fault can be taken for until ib_odp_run_end()
 *
 * Context: sleeps.
 * Return: where the pages end that are to be brought in ahead; @end: there are none.
 */
unsigned long ib_odp_run_begin(struct ib_umem_odp *odp, unsigned long start,
			       unsigned long end, unsigned int flags, struct ib_odp_run *run)
{
	struct ib_odp_runs *runs = runs_wanted(flags) ? runs_get(odp) : NULL;
	unsigned long pages;

	*run = (struct ib_odp_run) {};
	if (!runs)
		return end;
	*run = runs_take(runs, start);
	/* An access that is asked for in parts is no run. */
	if (!run->faults || !(flags & IB_ODP_FAULT_PART))
		run->faults += run->faults < ODP_RUN_FAULTS;
	if (run->faults < ODP_RUN_FAULTS)
		return end;
	pages = min3(run->pages, (unsigned long)READ_ONCE(ib_odp_ahead), IB_ODP_CHUNK_PAGES);
	return min(end + (pages << PAGE_SHIFT), ib_umem_odp_chunk_end(odp, start));
}

/**
 * ib_odp_run_end() - pages have come
 * @odp: the umem
 * @start: first address
 * @next: end of the pages that the device can access as it asked to
 * @run: by ib_odp_run_begin()
 *
 * Context: any.
 */
void ib_odp_run_end(struct ib_umem_odp *odp, unsigned long start, unsigned long next,
		    struct ib_odp_run *run)
{
	if (!run->faults)
		return;
	run->next = next;
	run->pages += (next - start) >> PAGE_SHIFT;
	run->grace = run->faults < ODP_RUN_FAULTS ? 0 : ODP_RUN_GRACE;
	runs_put(odp->runs, run);
}

static bool memcg_has_room(struct mem_cgroup *memcg, unsigned long nr)
{
#ifdef CONFIG_MEMCG
	unsigned long limit;

	for (; memcg; memcg = parent_mem_cgroup(memcg)) {
		limit = min(READ_ONCE(memcg->memory.max), READ_ONCE(memcg->memory.high));
		if (page_counter_read(&memcg->memory) + nr > limit)
			return false;
	}
#endif
	return true;
}

/**
 * ib_odp_ahead_has_room() - can memory be faulted in that may not be used?
 * @memcg: of the owner
 * @nr: pages
 *
 * Nothing is reclaimed and no process is killed for the sake of such memory.
 *
 * Context: any.
 * Return: true if there is much more than that.
 */
bool ib_odp_ahead_has_room(struct mem_cgroup *memcg, unsigned long nr)
{
	nr *= ODP_AHEAD_SPARE;
	return !nr || (si_mem_available() > (long)nr && memcg_has_room(memcg, nr));
}
