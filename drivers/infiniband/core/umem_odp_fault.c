// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * User memory that is paged on demand: how pages come.
 *
 * A fault reads the page tables with hmm_range_fault(), which brings the pages
 * in, without holding the chunk's lock. It then takes the lock, and if no
 * invalidation of the chunk has begun since, enters the pages. Otherwise it
 * starts again. Each new start means that pages of this very chunk were taken
 * away meanwhile; a process that does nothing but that can delay its own device
 * for so long and no longer, then the fault fails.
 *
 * Memory that the device never touched has no chunk, and is never in the way of
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

/* One attempt. On success the chunk is locked; -EBUSY to try again. */
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
	/* Now, as nothing can be allocated under the lock. */
	if (!ib_odp_chunk_huge_page(chunk, hmm)) {
		ret = ib_odp_chunk_prepare(chunk);
		if (ret)
			return ret;
	}

	mutex_lock(&chunk->lock);
	if (mmu_interval_read_retry(&chunk->notifier, hmm->notifier_seq))
		ret = -EBUSY;
	else
		ret = ib_odp_chunk_map(chunk, hmm, flags);
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
	if (ib_odp_chunk_covers(chunk, start, end, flags))
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
