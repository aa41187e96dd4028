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
 * Before anything is faulted in, the mappings are looked at. Some memory is not for
 * devices, whatever hmm_range_fault() says of it. Of other memory user space decides
 * how long a fault takes: the daemon of a FUSE file system, the handler of a
 * userfaultfd. Where the caller cannot wait for these, only what is mapped already is
 * taken; umem_odp_populate.c has the other way.
 *
 * Memory that the device never touched has no chunk, and is never in the way of
 * the OOM reaper.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/hmm.h>
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "umem_odp.h"

/* How long a chunk may go on being invalidated under a fault. */
#define ODP_FAULT_TIMEOUT	(10 * HZ)

unsigned int ib_odp_around;
module_param_named(odp_around, ib_odp_around, uint, 0644);
MODULE_PARM_DESC(odp_around,
		 "Pages that an on-demand paging fault brings in beyond what is needed, at most, where they are present and access is sequential (0: none)");

/* What is needed has to come; from the rest, what is there. */
static void fault_ask(struct ib_odp_fault *fault)
{
	unsigned int nr = (fault->hmm.end - fault->hmm.start) >> PAGE_SHIFT;
	unsigned long need = HMM_PFN_REQ_FAULT;

	if (fault->flags & IB_ODP_FAULT_WRITE)
		need |= HMM_PFN_REQ_WRITE;
	if (fault->look)
		need = 0;
	memset_l(fault->hmm.hmm_pfns, need, fault->needed);
	memset_l(fault->hmm.hmm_pfns + fault->needed, 0, nr - fault->needed);
}

/* Of a fault that only looked: was all there that is needed? */
static bool fault_found(const struct ib_odp_fault *fault)
{
	unsigned long need = HMM_PFN_VALID;
	unsigned int i;

	if (fault->flags & IB_ODP_FAULT_WRITE)
		need |= HMM_PFN_WRITE;
	for (i = 0; i < fault->needed; i++)
		if ((fault->hmm.hmm_pfns[i] & need) != need)
			return false;
	return true;
}

/* A writer that waits for the lock may wait for a fault of the process's own. */
static int fault_lock_mm(const struct ib_odp_fault *fault, struct mm_struct *mm)
{
	if (fault->flags & IB_ODP_FAULT_PROMPT)
		return mmap_read_trylock(mm) ? 0 : -EAGAIN;
	return mmap_read_lock_killable(mm);
}

/*
 * May the device have this memory, and when? Cuts off what is not needed and not for
 * devices.
 */
static int fault_check(struct ib_odp_fault *fault, struct mm_struct *mm)
{
	VMA_ITERATOR(vmi, mm, fault->hmm.start);
	struct hmm_range *hmm = &fault->hmm;
	unsigned long needed_end = hmm->start + ((unsigned long)fault->needed << PAGE_SHIFT);
	struct vm_area_struct *vma;

	for_each_vma_range(vmi, vma, hmm->end) {
		switch (hmm_vma_use(vma, fault->flags & IB_ODP_FAULT_WRITE)) {
		case HMM_VMA_PROMPT:
			break;
		case HMM_VMA_UNBOUNDED:
			if (vma->vm_start < needed_end)
				fault->look = fault->flags & IB_ODP_FAULT_PROMPT;
			break;
		case HMM_VMA_REFUSED:
			if (vma->vm_start < needed_end || vma->vm_start <= hmm->start)
				return -EFAULT;
			hmm->end = vma->vm_start;
			return 0;
		}
	}
	return 0;
}

static int fault_look_up(struct ib_odp_fault *fault, struct mm_struct *mm)
{
	int ret;

	ret = fault_lock_mm(fault, mm);
	if (ret)
		return ret;
	fault->look = false;
	ret = fault_check(fault, mm);
	if (!ret) {
		fault_ask(fault);
		ret = hmm_range_fault(&fault->hmm);
	}
	mmap_read_unlock(mm);
	if (!ret && fault->look && !fault_found(fault))
		return -EAGAIN;
	/* Of the process's own rights; -EPERM is for those of the region. */
	return ret == -EPERM ? -EFAULT : ret;
}

/* One attempt. On success the chunk is locked; -EBUSY to try again. */
static int chunk_fault_once(struct ib_odp_chunk *chunk, struct ib_odp_fault *fault)
{
	struct hmm_range *hmm = &fault->hmm;
	int ret;

	/* Its notifier may have been removed; it is not waited for then. */
	if (READ_ONCE(chunk->odp->dead))
		return -EFAULT;
	hmm->notifier_seq = mmu_interval_read_begin(&chunk->notifier);
	ret = fault_look_up(fault, chunk->odp->umem.owning_mm);
	if (ret)
		return ret;
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
		ret = ib_odp_chunk_map(chunk, fault);
	if (ret)
		mutex_unlock(&chunk->lock);
	return ret;
}

static int chunk_fault_retry(struct ib_odp_chunk *chunk, struct ib_odp_fault *fault)
{
	unsigned long limit = jiffies + ODP_FAULT_TIMEOUT;
	int ret;

	for (;;) {
		ret = chunk_fault_once(chunk, fault);
		if (ret != -EBUSY)
			return ret;
		if (fatal_signal_pending(current))
			return -EINTR;
		if (time_after(jiffies, limit))
			return -EBUSY;
		cond_resched();
	}
}

/*
 * How far to look beyond a fault: twice as far as the last time, as long as each
 * fault begins where the one before it ended. Faults side by side may confuse
 * this, to no harm.
 */
static unsigned long odp_around(struct ib_umem_odp *odp, unsigned long start,
				unsigned long end, unsigned int flags)
{
	unsigned int limit = READ_ONCE(ib_odp_around);
	unsigned int nr = 0;

	if (!limit || (flags & (IB_ODP_FAULT_PREFETCH | IB_ODP_FAULT_PRESENT)))
		return end;
	if (start == READ_ONCE(odp->around_next))
		nr = min(max(2 * READ_ONCE(odp->around), 1U), limit);
	end = min(end + ((unsigned long)nr << PAGE_SHIFT), ib_umem_odp_chunk_end(odp, start));
	WRITE_ONCE(odp->around, nr);
	WRITE_ONCE(odp->around_next, end);
	return end;
}

/* Bring the pages in; on success the chunk is locked. */
static int chunk_fault(struct ib_odp_chunk *chunk, unsigned long start,
		       unsigned long end, unsigned int flags)
{
	struct mm_struct *mm = chunk->odp->umem.owning_mm;
	struct ib_odp_fault fault = {
		.hmm.notifier = &chunk->notifier,
		.hmm.start = ALIGN_DOWN(start, PAGE_SIZE),
		.hmm.pfn_flags_mask = HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE,
		.flags = flags,
	};
	unsigned long on_stack[8];
	unsigned long *pfns = on_stack;
	size_t nr;
	int ret;

	CLASS(ib_odp_charge, charge)(chunk->odp);
	if (!(flags & IB_ODP_FAULT_PRESENT))
		fault.needed = (PAGE_ALIGN(end) - fault.hmm.start) >> PAGE_SHIFT;
	fault.hmm.end = odp_around(chunk->odp, fault.hmm.start, PAGE_ALIGN(end), flags);
	nr = (fault.hmm.end - fault.hmm.start) >> PAGE_SHIFT;
	if (nr > ARRAY_SIZE(on_stack)) {
		pfns = kmalloc_array(nr, sizeof(*pfns), GFP_KERNEL_ACCOUNT);
		if (!pfns)
			return -ENOMEM;
	}
	fault.hmm.hmm_pfns = pfns;
	/* An address space without users has no pages to give. */
	ret = -EFAULT;
	if (mmget_not_zero(mm)) {
		ret = chunk_fault_retry(chunk, &fault);
		/* The chunk is locked, and if this is the last, exit takes it. */
		mmput_async(mm);
	}
	if (!ret)
		chunk->fault_end = fault.hmm.end;
	if (pfns != on_stack)
		kfree(pfns);
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
 * not access it like this, or is gone, or the memory is not for devices, or the region
 * is gone; -EPERM for a write to a region that is registered for reading; -EINVAL if
 * the range is not inside; -EBUSY if the pages kept being taken away; -EAGAIN with
 * IB_ODP_FAULT_PROMPT if user space decides how long it takes; -ENOMEM; -EINTR on a
 * fatal signal.
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
	if (ib_odp_chunk_covers(chunk, start, end, flags)) {
		chunk->fault_end = PAGE_ALIGN(end);
		return chunk;
	}
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
 * Context: sleeps.
 */
void ib_odp_chunk_unlock(struct ib_odp_chunk *chunk)
{
	mutex_unlock(&chunk->lock);
	ib_odp_chunk_put(chunk);
}
EXPORT_SYMBOL_GPL(ib_odp_chunk_unlock);

/**
 * ib_umem_odp_find_mapped() - find where the process may have pages
 * @odp: the umem
 * @addr: where to begin
 *
 * For a driver that wants what is there when a region is registered, with
 * IB_ODP_FAULT_PRESENT.
 *
 * Context: sleeps; takes the mmap_lock of the owner.
 * Return: the first such address from @addr on, or ib_umem_end().
 */
unsigned long ib_umem_odp_find_mapped(struct ib_umem_odp *odp, unsigned long addr)
{
	struct mm_struct *mm = odp->umem.owning_mm;
	unsigned long end = ib_umem_end(odp);

	if (addr >= end || mmap_read_lock_killable(mm))
		return end;
	addr = hmm_find_mapped(mm, addr, end);
	mmap_read_unlock(mm);
	return addr;
}
EXPORT_SYMBOL_GPL(ib_umem_odp_find_mapped);
