// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * User memory that is paged on demand: whether the device uses it.
 *
 * Reclaim takes what has not been accessed. It looks at the accessed bits of page
 * tables, which say nothing of a device: memory that only the device uses looks idle,
 * and would go first. So the device is asked, too.
 *
 * What a driver accesses page by page, for the device, it marks. A device with
 * translations of its own has no accessed bits. To find out, it is made to forget a
 * translation while the page stays mapped for it: if it uses the page it faults, which
 * brings nothing in and is answered at once. The question is asked under the page-table
 * lock. So it only clears a mark, notes that the device is to forget, and a worker does
 * that for many pages at once. Until it has, the page counts as used, since use cannot
 * be seen.
 *
 *	age			worker			fault
 *	  young -> aged, yes
 *				  lock, zap, wait
 *	  aged: yes
 *				  aged -> none, unlock
 *	  no: the page is idle
 *							  lock, young, unlock
 *	  young -> aged, yes
 *
 * Marks are set under the chunk's lock and cleared without it. They are estimates: a page
 * that was used and has gone may leave one to its successor.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include "umem_odp.h"

/* How long to wait for other pages that are asked for: about a pass of reclaim. */
#define ODP_AGE_DELAY	(HZ / 10)

/* Which bits of a word are those of the pages @first to @last? */
static unsigned long age_mask(unsigned int word, unsigned int first, unsigned int last)
{
	unsigned long mask = ~0UL;

	if (word == first / BITS_PER_LONG)
		mask &= BITMAP_FIRST_WORD_MASK(first);
	if (word == last / BITS_PER_LONG)
		mask &= BITMAP_LAST_WORD_MASK(last + 1);
	return mask;
}

/**
 * ib_odp_chunk_mark() - the device uses pages, or may from now on
 * @chunk: locked
 * @start: first address
 * @end: behind the last one
 *
 * Context: any.
 */
void ib_odp_chunk_mark(struct ib_odp_chunk *chunk, unsigned long start, unsigned long end)
{
	unsigned int first = ib_odp_chunk_index(chunk, start);
	unsigned int last = ib_odp_chunk_index(chunk, end - 1), i;
	unsigned long mask;

	/* The bits are shared with those who ask: they are written only if need be. */
	for (i = first / BITS_PER_LONG; i <= last / BITS_PER_LONG; i++) {
		mask = age_mask(i, first, last);
		if (mask & ~atomic_long_read(&chunk->young[i]))
			atomic_long_or(mask, &chunk->young[i]);
	}
}

/* Have a worker see to it that the device forgets. */
static void chunk_age_later(struct ib_odp_chunk *chunk)
{
	struct ib_umem_odp *odp = chunk->odp;

	xa_lock(&odp->chunks);
	if (!odp->dead && list_empty(&chunk->age_entry)) {
		list_add_tail(&chunk->age_entry, &odp->age_list);
		queue_delayed_work(ib_odp_wq, &odp->work, ODP_AGE_DELAY);
	}
	xa_unlock(&odp->chunks);
}

/* A callback of an interval notifier. */
bool ib_odp_chunk_age(struct mmu_interval_notifier *mni, unsigned long start,
		      unsigned long end, bool clear)
{
	struct ib_odp_chunk *chunk = container_of(mni, struct ib_odp_chunk, notifier);
	unsigned int first = ib_odp_chunk_index(chunk, start);
	unsigned int last = ib_odp_chunk_index(chunk, end - 1), i;
	unsigned long mask, young, aged, used = 0, asked = 0;

	for (i = first / BITS_PER_LONG; i <= last / BITS_PER_LONG; i++) {
		mask = age_mask(i, first, last);
		young = atomic_long_read(&chunk->young[i]) & mask;
		aged = atomic_long_read(&chunk->aged[i]) & mask;
		used |= young | aged;
		if (!young || !clear)
			continue;
		if (chunk->odp->ops) {
			atomic_long_or(young, &chunk->aged[i]);
			asked |= young;
		}
		atomic_long_andnot(young, &chunk->young[i]);
	}
	if (asked)
		chunk_age_later(chunk);
	return used;
}

/* The next chunk of which the device is to forget pages. */
static struct ib_odp_chunk *odp_next_aged(struct ib_umem_odp *odp)
{
	struct ib_odp_chunk *chunk;

	xa_lock(&odp->chunks);
	chunk = list_first_entry_or_null(&odp->age_list, struct ib_odp_chunk, age_entry);
	if (chunk)
		list_del_init(&chunk->age_entry);
	xa_unlock(&odp->chunks);
	return chunk;
}

/* The device forgets whole granules, and is told of each once. */
static void chunk_forget(struct ib_odp_chunk *chunk, const unsigned long *pages)
{
	unsigned long start = 0, end = 0, from, to;
	unsigned int first, behind;

	for_each_set_bitrange(first, behind, pages, IB_ODP_CHUNK_PAGES) {
		from = ib_odp_chunk_start(chunk) + ((unsigned long)first << PAGE_SHIFT);
		to = ib_odp_chunk_start(chunk) + ((unsigned long)behind << PAGE_SHIFT);
		ib_odp_chunk_granules(chunk, &from, &to);
		if (end && from <= end) {
			end = max(end, to);
			continue;
		}
		if (end)
			chunk->odp->ops->zap(chunk, start, end);
		start = from;
		end = to;
	}
	if (end)
		chunk->odp->ops->zap(chunk, start, end);
	chunk->odp->ops->zap_wait(chunk);
}

static void chunk_do_age(struct ib_odp_chunk *chunk)
{
	DECLARE_BITMAP(pages, IB_ODP_CHUNK_PAGES);
	unsigned int i;

	mutex_lock(&chunk->lock);
	for (i = 0; i < ARRAY_SIZE(chunk->aged); i++)
		pages[i] = atomic_long_read(&chunk->aged[i]);
	/* What it forgot with the page, for an invalidation, is no matter. */
	if (chunk->nr_mapped && !READ_ONCE(chunk->odp->dead))
		chunk_forget(chunk, pages);
	for (i = 0; i < ARRAY_SIZE(chunk->aged); i++)
		atomic_long_andnot(pages[i], &chunk->aged[i]);
	mutex_unlock(&chunk->lock);
}

/**
 * ib_umem_odp_age() - have the device forget what was asked about
 * @odp: the umem
 *
 * Context: the umem's work, which alone frees chunks until the region's end; sleeps.
 */
void ib_umem_odp_age(struct ib_umem_odp *odp)
{
	struct ib_odp_chunk *chunk;

	while ((chunk = odp_next_aged(odp))) {
		chunk_do_age(chunk);
		cond_resched();
	}
}
