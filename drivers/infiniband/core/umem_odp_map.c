// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * User memory that is paged on demand: the pages of a chunk, and how they go.
 *
 * A chunk has either small pages, each with an entry and a DMA mapping, or one
 * huge page that is all of it, with one of both. What the device may do with a
 * page is only ever added to; to take away is to zap.
 *
 * To zap is to tell the device, to wait until it has obeyed, and to unmap the
 * pages; in that order, as until then it uses them. An invalidation that hits
 * many chunks tells it of all of them before it waits for the first one: a chunk
 * remembers what it was told, and whoever takes the chunk's lock and needs to
 * know settles that: waits, and unmaps. Faults need not. While the invalidation
 * goes on they collide with it, and when it ends all has been settled.
 *
 *	invalidate_start	invalidate_start	fault
 *	  lock, zap, unlock
 *				  lock, settle
 *				  zap the rest,
 *				  settle, unlock
 *							lock: not covered, unlock
 *	invalidate_finish				wait for the ranges to end
 *	  lock: nothing left, unlock
 *
 * A chunk has one finish structure. So an invalidation that meets another one's
 * does not leave anything for later.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <trace/events/ib_odp.h>

#include "umem_odp.h"

#define CHUNK_ORDER	(IB_ODP_CHUNK_SHIFT - PAGE_SHIFT)

/* For whom pages are mapped, looked up once for many. */
struct odp_dma {
	struct device *device;
	enum dma_data_direction direction;
};

static struct odp_dma odp_dma(const struct ib_umem_odp *odp)
{
	return (struct odp_dma) {
		.device = odp->umem.ibdev->dma_device,
		.direction = odp->umem.writable ? DMA_BIDIRECTIONAL : DMA_TO_DEVICE,
	};
}

/* Users map memory as often as they like, and know what they do. */
static int odp_dma_map(struct odp_dma to, struct page *page, size_t size, dma_addr_t *dma)
{
	*dma = dma_map_page_attrs(to.device, page, 0, size, to.direction,
				  DMA_ATTR_MAY_OVERLAP);
	return dma_mapping_error(to.device, *dma) ? -EFAULT : 0;
}

static void odp_dma_unmap(struct odp_dma to, dma_addr_t dma, size_t size)
{
	dma_unmap_page_attrs(to.device, dma, size, to.direction, DMA_ATTR_MAY_OVERLAP);
}

static struct page *entry_page(unsigned long entry)
{
	return (struct page *)(entry & ~IB_ODP_ENTRY_FLAGS);
}

/*
 * After the DMA unmapping. The process still has the page mapped, since its change waits
 * for this. That keeps the page in its file, so the folio lock is not needed.
 */
static void entry_mark_dirty(unsigned long entry)
{
	struct folio *folio;

	if (!(entry & IB_ODP_ENTRY_WRITE))
		return;
	folio = page_folio(entry_page(entry));
	if (!folio_test_dirty(folio))
		folio_mark_dirty(folio);
}

static void chunk_add_mapped(struct ib_odp_chunk *chunk, int nr)
{
	WRITE_ONCE(chunk->nr_mapped, chunk->nr_mapped + nr);
}

/* ---- away ---- */

static void chunk_unmap_huge(struct ib_odp_chunk *chunk)
{
	if (chunk->odp->uses_dma)
		odp_dma_unmap(odp_dma(chunk->odp), chunk->huge_dma, IB_ODP_CHUNK_SIZE);
	entry_mark_dirty(chunk->huge);
	chunk->huge = 0;
	chunk_add_mapped(chunk, -(int)IB_ODP_CHUNK_PAGES);
	atomic64_add(IB_ODP_CHUNK_PAGES, &chunk->odp->stats.invalidations);
}

static void chunk_unmap_small(struct ib_odp_chunk *chunk, unsigned long start,
			      unsigned long end)
{
	unsigned int first = ib_odp_chunk_index(chunk, start);
	unsigned int nr = ib_odp_chunk_index(chunk, end - 1) + 1;
	unsigned int from = first, to, i, gone = 0;
	struct odp_dma dma = odp_dma(chunk->odp);

	for_each_set_bitrange_from(from, to, chunk->present, nr) {
		for (i = from; i < to; i++) {
			if (chunk->dma)
				odp_dma_unmap(dma, chunk->dma[i], PAGE_SIZE);
			entry_mark_dirty(chunk->entries[i]);
		}
		gone += to - from;
	}
	bitmap_clear(chunk->present, first, nr - first);
	chunk_add_mapped(chunk, -(int)gone);
	atomic64_add(gone, &chunk->odp->stats.invalidations);
}

/* The device no longer uses what it was told to forget. */
static void chunk_settle(struct ib_odp_chunk *chunk)
{
	lockdep_assert_held(&chunk->lock);
	if (!chunk->zap_end)
		return;
	if (chunk->odp->ops)
		chunk->odp->ops->zap_wait(chunk);
	if (chunk->huge)
		chunk_unmap_huge(chunk);
	else
		chunk_unmap_small(chunk, chunk->zap_start, chunk->zap_end);
	chunk->zap_end = 0;
}

/**
 * ib_odp_chunk_granules() - what the device forgets with a part of a chunk
 * @chunk: locked
 * @start: its first address
 * @end: behind the last one
 */
void ib_odp_chunk_granules(const struct ib_odp_chunk *chunk, unsigned long *start,
			   unsigned long *end)
{
	const struct ib_umem_odp_ops *ops = chunk->odp->ops;
	unsigned long first = ib_odp_chunk_start(chunk);
	unsigned long behind = ib_odp_chunk_end(chunk);
	unsigned long skew = chunk->odp->skew;

	if (chunk->huge) {
		*start = first;
		*end = behind;
	} else if (ops) {
		*start = max(ALIGN_DOWN(*start - skew, ops->granule) + skew, first);
		*end = min(ALIGN(*end - skew, ops->granule) + skew, behind);
	}
}

/* The device forgets whole granules, so these lose all of their pages. */
static void chunk_zap(struct ib_odp_chunk *chunk, unsigned long start, unsigned long end)
{
	const struct ib_umem_odp_ops *ops = chunk->odp->ops;

	ib_odp_chunk_granules(chunk, &start, &end);
	chunk->zap_start = start;
	chunk->zap_end = end;
	if (ops)
		ops->zap(chunk, start, end);
}

/**
 * ib_odp_chunk_clear() - the device no longer uses the chunk
 * @chunk: locked
 *
 * Context: sleeps if the driver's zap does.
 */
void ib_odp_chunk_clear(struct ib_odp_chunk *chunk)
{
	chunk_settle(chunk);
	if (!chunk->nr_mapped)
		return;
	chunk_zap(chunk, ib_odp_chunk_start(chunk), ib_odp_chunk_end(chunk));
	chunk_settle(chunk);
}

/* ---- invalidation ---- */

/* What does an event take from the device, if it has it? */
static unsigned long event_takes(enum mmu_notifier_event event)
{
	switch (event) {
	case MMU_NOTIFY_PROTECTION_PAGE:
	case MMU_NOTIFY_SOFT_DIRTY:
		/* The pages stay, and can be read. */
		return IB_ODP_ENTRY_WRITE;
	default:
		return IB_ODP_ENTRY_READ;
	}
}

/* Cut [*start, *end) to where the device has @what; false: nowhere. */
static bool chunk_cut(const struct ib_odp_chunk *chunk, unsigned long what,
		      unsigned long *start, unsigned long *end)
{
	unsigned int first = ib_odp_chunk_index(chunk, *start);
	unsigned int last = ib_odp_chunk_index(chunk, *end - 1);

	if (!chunk->nr_mapped)
		return false;
	if (chunk->huge)
		return chunk->huge & what;
	while (!(ib_odp_chunk_entry(chunk, first) & what))
		if (first++ == last)
			return false;
	/* To forget whole chunks side by side can be said at once. */
	if (*start == ib_odp_chunk_start(chunk) && *end == ib_odp_chunk_end(chunk))
		return true;
	while (!(ib_odp_chunk_entry(chunk, last) & what))
		last--;
	*start = ib_odp_chunk_start(chunk) + ((unsigned long)first << PAGE_SHIFT);
	*end = ib_odp_chunk_start(chunk) + ((last + 1UL) << PAGE_SHIFT);
	return true;
}

static unsigned int chunk_nr_present(const struct ib_odp_chunk *chunk, unsigned long start,
				     unsigned long end)
{
	unsigned int from = ib_odp_chunk_index(chunk, start);
	unsigned int behind = ib_odp_chunk_index(chunk, end - 1) + 1;
	unsigned int to, nr = 0;

	if (chunk->huge)
		return IB_ODP_CHUNK_PAGES;
	for_each_set_bitrange_from(from, to, chunk->present, behind)
		nr += to - from;
	return nr;
}

static bool chunk_lock(struct ib_odp_chunk *chunk, const struct mmu_notifier_range *range)
{
	if (mmu_notifier_range_blockable(range)) {
		mutex_lock(&chunk->lock);
		return true;
	}
	if (!mutex_trylock(&chunk->lock))
		return false;
	/* A zap waits for the device. */
	if (!chunk->nr_mapped || !chunk->odp->ops)
		return true;
	mutex_unlock(&chunk->lock);
	return false;
}

static bool chunk_invalidate_start(struct mmu_interval_notifier *mni,
				   const struct mmu_notifier_range *range,
				   unsigned long cur_seq,
				   struct mmu_interval_notifier_finish **finish)
{
	struct ib_odp_chunk *chunk = container_of(mni, struct ib_odp_chunk, notifier);
	unsigned long start = max(range->start, ib_odp_chunk_start(chunk));
	unsigned long end = min(range->end, ib_odp_chunk_end(chunk));

	/*
	 * The pages stay, and a fault that is under way may use them. A mapping of
	 * 2 MiB stays whole, until a page of it goes.
	 */
	if (range->event == MMU_NOTIFY_SPLIT)
		return true;
	if (!chunk_lock(chunk, range))
		return false;
	mmu_interval_set_seq(mni, cur_seq);
	chunk_settle(chunk);
	if (chunk_cut(chunk, event_takes(range->event), &start, &end)) {
		if (trace_ib_odp_invalidate_enabled())
			trace_ib_odp_invalidate(chunk->odp, start, end, range->event,
						chunk_nr_present(chunk, start, end));
		chunk_zap(chunk, start, end);
		if (chunk->odp->ops && !chunk->finishing) {
			chunk->finishing = true;
			*finish = &chunk->finish;
		} else {
			chunk_settle(chunk);
			ib_odp_chunk_reap(chunk);
		}
	}
	mutex_unlock(&chunk->lock);
	return true;
}

static void chunk_invalidate_finish(struct mmu_interval_notifier_finish *finish)
{
	struct ib_odp_chunk *chunk = container_of(finish, struct ib_odp_chunk, finish);

	mutex_lock(&chunk->lock);
	chunk_settle(chunk);
	chunk->finishing = false;
	ib_odp_chunk_reap(chunk);
	mutex_unlock(&chunk->lock);
}

const struct mmu_interval_notifier_ops ib_odp_chunk_ops = {
	.invalidate_start = chunk_invalidate_start,
	.invalidate_finish = chunk_invalidate_finish,
	.age = ib_odp_chunk_age,
};

/* ---- there ---- */

/**
 * ib_odp_chunk_prepare() - make room for small pages
 * @chunk: not locked: this allocates
 *
 * Context: sleeps.
 * Return: 0; -ENOMEM.
 */
int ib_odp_chunk_prepare(struct ib_odp_chunk *chunk)
{
	bool dma = chunk->odp->uses_dma;
	unsigned long length = ib_odp_chunk_end(chunk) - ib_odp_chunk_start(chunk);
	size_t nr = ALIGN(length >> PAGE_SHIFT, 2);
	unsigned long *entries;

	if (READ_ONCE(chunk->entries))
		return 0;
	/* That the owner's cgroup has no room for it is between the two. */
	entries = kvmalloc_array(nr, sizeof(*entries) + (dma ? sizeof(dma_addr_t) : 0),
				 GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!entries)
		return -ENOMEM;
	mutex_lock(&chunk->lock);
	if (!chunk->entries) {
		chunk->dma = dma ? (dma_addr_t *)(entries + nr) : NULL;
		WRITE_ONCE(chunk->entries, entries);
		entries = NULL;
	}
	mutex_unlock(&chunk->lock);
	kvfree(entries);
	return 0;
}

/**
 * ib_odp_chunk_huge_page() - the huge page that is all of the chunk
 * @chunk: the chunk
 * @hmm: what hmm_range_fault() said of a part of it
 *
 * Return: its first page, or NULL if it is not like this.
 */
struct page *ib_odp_chunk_huge_page(const struct ib_odp_chunk *chunk,
				    const struct hmm_range *hmm)
{
	unsigned long value = hmm->hmm_pfns[0];
	unsigned long start = ib_odp_chunk_start(chunk);
	unsigned int order = CHUNK_ORDER;

	if (READ_ONCE(chunk->small_only) || !IS_ALIGNED(start, IB_ODP_CHUNK_SIZE) ||
	    ib_odp_chunk_end(chunk) - start != IB_ODP_CHUNK_SIZE)
		return NULL;
	if (!(value & HMM_PFN_VALID) || hmm_pfn_to_map_order(value) < order)
		return NULL;
	return nth_page(hmm_pfn_to_page(value), -(long)ib_odp_chunk_index(chunk, hmm->start));
}

/*
 * Memory of another PCI device. get_user_pages() refuses it, too, for callers that do
 * not say that they map it for DMA in the special way that it takes.
 */
static bool page_is_refused(const struct page *page)
{
	return is_pci_p2pdma_page(page);
}

/* What the device gets of a page that the process has like this. */
static unsigned long hmm_access(unsigned long value, bool write)
{
	return IB_ODP_ENTRY_READ | (write && value & HMM_PFN_WRITE ? IB_ODP_ENTRY_WRITE : 0);
}

/*
 * The device has a page that is not the process's: a change of the mapping was not
 * announced. The device must not keep it, so the caller has to clear the chunk.
 */
static bool entry_is_stale(const struct ib_odp_chunk *chunk, unsigned long entry,
			   const struct page *page)
{
	if (likely(entry_page(entry) == page))
		return false;
	ibdev_err_ratelimited(chunk->odp->umem.ibdev,
			      "on-demand paging: memory at %#lx changed unannounced\n",
			      ib_odp_chunk_start(chunk));
	return true;
}

static atomic64_t *fault_counter(struct ib_odp_chunk *chunk,
				 const struct ib_odp_fault *fault)
{
	struct ib_odp_counters *stats = &chunk->odp->stats;

	return fault->flags & IB_ODP_FAULT_PREFETCH ? &stats->prefetch : &stats->faults;
}

/*
 * Enter a part of what was found; @counter counts what the device gets by it. -ESTALE:
 * some of what was entered before is no longer the process's.
 */
static int chunk_map_smalls(struct ib_odp_chunk *chunk, const struct ib_odp_fault *fault,
			    unsigned int from, unsigned int to, atomic64_t *counter)
{
	unsigned int i = ib_odp_chunk_index(chunk, fault->hmm.start) + from;
	const unsigned long *value = fault->hmm.hmm_pfns + from;
	const unsigned long *end = fault->hmm.hmm_pfns + to;
	bool write = fault->flags & IB_ODP_FAULT_WRITE;
	struct odp_dma dma = odp_dma(chunk->odp);
	unsigned int mapped = 0, raised = 0;
	unsigned long access, old;
	struct page *page;
	int ret = 0;

	for (; value < end; value++, i++) {
		if (!(*value & HMM_PFN_VALID))
			continue;
		page = hmm_pfn_to_page(*value);
		if (page_is_refused(page)) {
			ret = -EFAULT;
			break;
		}
		access = hmm_access(*value, write);
		if (test_bit(i, chunk->present)) {
			old = chunk->entries[i];
			if (entry_is_stale(chunk, old, page)) {
				ret = -ESTALE;
				break;
			}
			access |= old & IB_ODP_ENTRY_FLAGS;
			raised += access != (old & IB_ODP_ENTRY_FLAGS);
		} else {
			if (chunk->dma) {
				ret = odp_dma_map(dma, page, PAGE_SIZE, &chunk->dma[i]);
				if (ret)
					break;
			}
			__set_bit(i, chunk->present);
			mapped++;
		}
		chunk->entries[i] = (unsigned long)page | access;
	}
	chunk_add_mapped(chunk, mapped);
	atomic64_add(mapped + raised, counter);
	return ret;
}

/*
 * What is needed counts as asked for, the rest as prefetched. A page of the rest that
 * the device cannot have is an error if it is asked for.
 */
static int chunk_map_small(struct ib_odp_chunk *chunk, const struct ib_odp_fault *fault)
{
	unsigned int nr = (fault->hmm.end - fault->hmm.start) >> PAGE_SHIFT;
	int ret;

	ret = chunk_map_smalls(chunk, fault, 0, fault->needed, fault_counter(chunk, fault));
	if (!ret && fault->needed < nr &&
	    chunk_map_smalls(chunk, fault, fault->needed, nr,
			     &chunk->odp->stats.prefetch) == -ESTALE)
		ret = -ESTALE;
	return ret;
}

static int chunk_map_huge(struct ib_odp_chunk *chunk, struct page *page,
			  const struct ib_odp_fault *fault)
{
	unsigned long access = hmm_access(fault->hmm.hmm_pfns[0],
					  fault->flags & IB_ODP_FAULT_WRITE);
	unsigned long old = chunk->huge;

	if (page_is_refused(page))
		return -EFAULT;
	if (old && entry_is_stale(chunk, old, page))
		return -ESTALE;
	if (!old) {
		if (chunk->odp->uses_dma &&
		    odp_dma_map(odp_dma(chunk->odp), page, IB_ODP_CHUNK_SIZE, &chunk->huge_dma)) {
			/* There is no room for one so large. Again, with small ones. */
			WRITE_ONCE(chunk->small_only, true);
			return -EBUSY;
		}
		chunk_add_mapped(chunk, IB_ODP_CHUNK_PAGES);
	}
	if ((old & access) != access)
		atomic64_add(IB_ODP_CHUNK_PAGES, fault_counter(chunk, fault));
	chunk->huge = (unsigned long)page | (old & IB_ODP_ENTRY_FLAGS) | access;
	return 0;
}

/**
 * ib_odp_chunk_map() - enter what the process has
 * @chunk: locked, and not invalidated since it was looked at
 * @fault: what was found
 *
 * Context: sleeps if the driver's zap does.
 * Return: 0; -EBUSY: look again; -EFAULT if the region is gone, or a page is none that
 * a device may have.
 */
int ib_odp_chunk_map(struct ib_odp_chunk *chunk, const struct ib_odp_fault *fault)
{
	struct page *huge = ib_odp_chunk_huge_page(chunk, &fault->hmm);
	int ret;

	if (READ_ONCE(chunk->odp->dead))
		return -EFAULT;
	if (huge && (chunk->huge || !chunk->nr_mapped))
		ret = chunk_map_huge(chunk, huge, fault);
	else if (chunk->huge)
		/* The process has split it, and kept its pages: small ones from now on. */
		ret = -ESTALE;
	else if (!chunk->entries)
		/* Another fault found meanwhile that the device cannot have a huge one. */
		ret = -EBUSY;
	else
		ret = chunk_map_small(chunk, fault);
	if (ret != -ESTALE)
		return ret;
	/* Begin anew, with nothing. */
	ib_odp_chunk_clear(chunk);
	return -EBUSY;
}

/**
 * ib_odp_chunk_entries() - where pages are, and what the device may do with them
 * @chunk: locked, by ib_umem_odp_fault(), of a device that uses DMA addresses
 * @addr: the user's address of the first page
 * @nr: how many; not beyond the chunk's end
 * @to: for each, set to its DMA address and IB_ODP_ENTRY_READ and _WRITE, or 0: not
 *	present; big-endian, as devices want it
 *
 * Context: any.
 */
void ib_odp_chunk_entries(const struct ib_odp_chunk *chunk, unsigned long addr,
			  unsigned int nr, __be64 *to)
{
	unsigned int i = ib_odp_chunk_index(chunk, addr);
	const unsigned long *entries = chunk->entries;
	const dma_addr_t *dma = chunk->dma;
	u64 huge, entry;

	lockdep_assert_held(&chunk->lock);
	if (chunk->huge) {
		huge = chunk->huge_dma + ((u64)i << PAGE_SHIFT);
		huge |= chunk->huge & IB_ODP_ENTRY_FLAGS;
		for (; nr; nr--, huge += PAGE_SIZE)
			*to++ = cpu_to_be64(huge);
		return;
	}
	for (; nr; nr--, i++) {
		entry = 0;
		if (test_bit(i, chunk->present))
			entry = dma[i] | (entries[i] & IB_ODP_ENTRY_FLAGS);
		*to++ = cpu_to_be64(entry);
	}
}
EXPORT_SYMBOL_GPL(ib_odp_chunk_entries);
