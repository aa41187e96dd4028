// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * User memory that is paged on demand: pages come (fault) and go (invalidation).
 *
 * A fault reads the page tables with hmm_range_fault(), which brings the pages
 * in, without holding the chunk's lock. It then takes the lock, and if no
 * invalidation of the chunk has begun since, enters the pages. Otherwise it
 * starts again. Each new start means that pages of this very chunk were taken
 * away meanwhile; a process that does nothing but that can delay its own device
 * for so long and no longer, then the fault fails.
 *
 * Invalidation takes the chunk's lock, makes the device forget the pages, marks
 * those dirty that it could have written, and unmaps them. Where it must not
 * sleep it only tries the lock, and has to refuse if the chunk is in use; but
 * memory that the device never touched has no chunk, and is never in the way of
 * the OOM reaper.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/hmm.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "umem_odp.h"

/* How long a chunk may go on being invalidated under a fault. */
#define ODP_FAULT_TIMEOUT	(10 * HZ)

static enum dma_data_direction odp_dma_direction(const struct ib_umem_odp *odp)
{
	return odp->umem.writable ? DMA_BIDIRECTIONAL : DMA_TO_DEVICE;
}

static void chunk_unmap_entry(struct ib_odp_chunk *chunk, unsigned int i)
{
	unsigned long entry = chunk->entries[i];
	struct page *page = (struct page *)(entry & ~IB_ODP_ENTRY_FLAGS);

	if (!entry)
		return;
	if (chunk->dma)
		ib_dma_unmap_page(chunk->odp->umem.ibdev, chunk->dma[i], PAGE_SIZE,
				  odp_dma_direction(chunk->odp));
	/*
	 * After the unmapping, which may copy from a bounce buffer. The page is
	 * still mapped by the process, whose change waits for us; that keeps it
	 * in its file, so there is no need of the folio lock.
	 */
	if (entry & IB_ODP_ENTRY_WRITE)
		folio_mark_dirty(page_folio(page));
	chunk->entries[i] = 0;
	WRITE_ONCE(chunk->nr_mapped, chunk->nr_mapped - 1);
	atomic64_inc(&chunk->odp->stats.invalidations);
}

/* The device forgets whole granules, so these lose all of their pages. */
static void chunk_whole_granules(struct ib_odp_chunk *chunk, unsigned long *start,
				 unsigned long *end)
{
	const struct ib_umem_odp_ops *ops = chunk->odp->ops;
	unsigned long first = chunk->notifier.interval_tree.start;
	unsigned long behind = chunk->notifier.interval_tree.last + 1;

	if (!ops)
		return;
	*start = first + ALIGN_DOWN(*start - first, ops->granule);
	*end = min(first + ALIGN(*end - first, ops->granule), behind);
}

/**
 * ib_odp_chunk_unmap() - the device no longer uses a range
 * @chunk: locked
 * @start: first address, in the chunk
 * @end: behind the last one
 *
 * Context: sleeps if the driver's zap does.
 */
void ib_odp_chunk_unmap(struct ib_odp_chunk *chunk, unsigned long start,
			unsigned long end)
{
	unsigned int i, nr;

	lockdep_assert_held(&chunk->lock);
	if (!chunk->nr_mapped)
		return;
	chunk_whole_granules(chunk, &start, &end);
	i = ib_odp_chunk_index(chunk, start);
	nr = ib_odp_chunk_index(chunk, end - 1) + 1;
	if (chunk->odp->ops)
		chunk->odp->ops->zap(chunk, start, end);
	while (i < nr && chunk->nr_mapped)
		chunk_unmap_entry(chunk, i++);
}

static bool ib_odp_chunk_invalidate(struct mmu_interval_notifier *mni,
				    const struct mmu_notifier_range *range,
				    unsigned long cur_seq)
{
	struct ib_odp_chunk *chunk = container_of(mni, struct ib_odp_chunk, notifier);
	struct ib_umem_odp *odp = chunk->odp;

	if (mmu_notifier_range_blockable(range)) {
		mutex_lock(&chunk->lock);
	} else {
		if (!mutex_trylock(&chunk->lock))
			return false;
		/* A zap waits for the device. */
		if (chunk->nr_mapped && odp->ops) {
			mutex_unlock(&chunk->lock);
			return false;
		}
	}
	mmu_interval_set_seq(mni, cur_seq);
	if (chunk->nr_mapped) {
		ib_odp_chunk_unmap(chunk, max(range->start, mni->interval_tree.start),
				   min(range->end, mni->interval_tree.last + 1));
		/* Users see to it themselves when they put it. */
		if (!chunk->nr_mapped)
			queue_work(system_unbound_wq, &odp->reap_work);
	}
	mutex_unlock(&chunk->lock);
	return true;
}

const struct mmu_interval_notifier_ops ib_odp_chunk_ops = {
	.invalidate = ib_odp_chunk_invalidate,
};

static bool chunk_covers(const struct ib_odp_chunk *chunk, unsigned long start,
			 unsigned long end, unsigned int flags)
{
	unsigned long need = IB_ODP_ENTRY_READ;
	unsigned int i = ib_odp_chunk_index(chunk, start);
	unsigned int nr = ib_odp_chunk_index(chunk, end - 1) + 1;

	if (flags & IB_ODP_FAULT_WRITE)
		need |= IB_ODP_ENTRY_WRITE;
	for (; i < nr; i++)
		if ((chunk->entries[i] & need) != need)
			return false;
	return true;
}

static int chunk_map_entry(struct ib_odp_chunk *chunk, unsigned int i,
			   struct page *page, unsigned long access,
			   atomic64_t *counter)
{
	struct ib_umem_odp *odp = chunk->odp;
	unsigned long old = chunk->entries[i];

	if (!old) {
		if (chunk->dma) {
			chunk->dma[i] = ib_dma_map_page(odp->umem.ibdev, page, 0,
							PAGE_SIZE,
							odp_dma_direction(odp));
			if (ib_dma_mapping_error(odp->umem.ibdev, chunk->dma[i]))
				return -EFAULT;
		}
		WRITE_ONCE(chunk->nr_mapped, chunk->nr_mapped + 1);
	} else if (WARN_ON_ONCE((old & ~IB_ODP_ENTRY_FLAGS) != (unsigned long)page)) {
		/* The mapping changed and nobody said so. */
		return -EFAULT;
	}
	if ((old & access) != access)
		atomic64_inc(counter);
	chunk->entries[i] = (unsigned long)page | (old & IB_ODP_ENTRY_FLAGS) | access;
	return 0;
}

static int chunk_map(struct ib_odp_chunk *chunk, const struct hmm_range *hmm,
		     unsigned int flags)
{
	unsigned int first = ib_odp_chunk_index(chunk, hmm->start);
	unsigned int nr = (hmm->end - hmm->start) >> PAGE_SHIFT;
	struct ib_odp_counters *stats = &chunk->odp->stats;
	atomic64_t *counter = &stats->faults;
	unsigned long access = IB_ODP_ENTRY_READ;
	unsigned int i;
	int ret;

	if (flags & IB_ODP_FAULT_PREFETCH)
		counter = &stats->prefetch;
	for (i = 0; i < nr; i++) {
		if (!(hmm->hmm_pfns[i] & HMM_PFN_VALID))
			continue;
		if ((flags & IB_ODP_FAULT_PRESENT) && !(hmm->hmm_pfns[i] & HMM_PFN_WRITE))
			access &= ~IB_ODP_ENTRY_WRITE;
		else if (flags & IB_ODP_FAULT_WRITE)
			access |= IB_ODP_ENTRY_WRITE;
		ret = chunk_map_entry(chunk, first + i,
				      hmm_pfn_to_page(hmm->hmm_pfns[i]), access,
				      counter);
		if (ret)
			return ret;
	}
	return 0;
}

/* One attempt. On success the chunk is locked; -EBUSY if it collided. */
static int chunk_fault_once(struct ib_odp_chunk *chunk, struct hmm_range *hmm,
			    unsigned int flags)
{
	struct mm_struct *mm = chunk->odp->umem.owning_mm;
	int ret;

	hmm->notifier_seq = mmu_interval_read_begin(&chunk->notifier);
	ret = mmap_read_lock_killable(mm);
	if (ret)
		return ret;
	ret = hmm_range_fault(hmm);
	mmap_read_unlock(mm);
	/* Of the process's own rights; -EPERM is for those of the region. */
	if (ret)
		return ret == -EPERM ? -EFAULT : ret;

	mutex_lock(&chunk->lock);
	if (mmu_interval_read_retry(&chunk->notifier, hmm->notifier_seq))
		ret = -EBUSY;
	else
		ret = chunk_map(chunk, hmm, flags);
	if (ret)
		mutex_unlock(&chunk->lock);
	return ret;
}

static int chunk_fault_retry(struct ib_odp_chunk *chunk, struct hmm_range *hmm,
			     unsigned int flags)
{
	unsigned long limit = jiffies + ODP_FAULT_TIMEOUT;
	int ret;

	for (;;) {
		ret = chunk_fault_once(chunk, hmm, flags);
		if (ret != -EBUSY)
			return ret;
		if (fatal_signal_pending(current))
			return -EINTR;
		if (time_after(jiffies, limit))
			return -EBUSY;
		cond_resched();
	}
}

/* Bring the pages in; on success the chunk is locked. */
static int chunk_fault(struct ib_odp_chunk *chunk, unsigned long start,
		       unsigned long end, unsigned int flags)
{
	struct mm_struct *mm = chunk->odp->umem.owning_mm;
	struct hmm_range hmm = {
		.notifier = &chunk->notifier,
		.start = ALIGN_DOWN(start, PAGE_SIZE),
		.end = PAGE_ALIGN(end),
		.default_flags = HMM_PFN_REQ_FAULT,
	};
	unsigned long on_stack[8];
	size_t nr = (hmm.end - hmm.start) >> PAGE_SHIFT;
	int ret;

	if (flags & IB_ODP_FAULT_WRITE)
		hmm.default_flags |= HMM_PFN_REQ_WRITE;
	if (flags & IB_ODP_FAULT_PRESENT)
		hmm.default_flags = 0;
	hmm.hmm_pfns = on_stack;
	if (nr > ARRAY_SIZE(on_stack)) {
		hmm.hmm_pfns = kmalloc_array(nr, sizeof(*hmm.hmm_pfns), GFP_KERNEL);
		if (!hmm.hmm_pfns)
			return -ENOMEM;
	}
	/* An address space without users has no pages to give. */
	ret = -EFAULT;
	if (mmget_not_zero(mm)) {
		ret = chunk_fault_retry(chunk, &hmm, flags);
		/* The chunk is locked, and if this is the last, exit takes it. */
		mmput_async(mm);
	}
	if (hmm.hmm_pfns != on_stack)
		kfree(hmm.hmm_pfns);
	return ret;
}

/**
 * ib_umem_odp_fault() - have pages present, and keep them so
 * @odp: the umem
 * @start: first address
 * @end: behind the last one; not beyond ib_umem_odp_chunk_end() of @start
 * @flags: enum ib_odp_fault_flags
 *
 * Until ib_odp_chunk_unlock() the pages stay, so do not wait for others there.
 *
 * Context: sleeps; takes the mmap_lock of the owner, so not under a lock that
 * is taken inside of it.
 * Return: the chunk, locked; -EFAULT if the process has no such memory or may
 * not access it like this, or is gone; -EPERM for a write to a region that is
 * registered for reading; -EINVAL if the range is not inside; -EBUSY if the
 * pages kept being taken away; -ENOMEM; -EINTR on a fatal signal.
 */
struct ib_odp_chunk *ib_umem_odp_fault(struct ib_umem_odp *odp,
				       unsigned long start, unsigned long end,
				       unsigned int flags)
{
	struct ib_odp_chunk *chunk;
	int ret;

	if (start < ib_umem_start(odp) || start >= end ||
	    end > ib_umem_odp_chunk_end(odp, start))
		return ERR_PTR(-EINVAL);
	if ((flags & IB_ODP_FAULT_WRITE) && !odp->umem.writable)
		return ERR_PTR(-EPERM);

	chunk = ib_odp_chunk_get(odp, start);
	if (IS_ERR(chunk))
		return chunk;
	mutex_lock(&chunk->lock);
	if (chunk_covers(chunk, start, end, flags))
		return chunk;
	mutex_unlock(&chunk->lock);

	ret = chunk_fault(chunk, start, end, flags);
	if (!ret)
		return chunk;
	ib_odp_chunk_put(chunk);
	return ERR_PTR(ret);
}
EXPORT_SYMBOL_GPL(ib_umem_odp_fault);

/**
 * ib_odp_chunk_unlock() - the pages may go
 * @chunk: from ib_umem_odp_fault()
 *
 * Context: any.
 */
void ib_odp_chunk_unlock(struct ib_odp_chunk *chunk)
{
	mutex_unlock(&chunk->lock);
	ib_odp_chunk_put(chunk);
}
EXPORT_SYMBOL_GPL(ib_odp_chunk_unlock);
