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
 * userfaultfd. Of that, only what is mapped already is taken. A caller that can wait
 * has it mapped first, without the mmap_lock; umem_odp_populate.c is for the others.
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
#include <trace/events/ib_odp.h>

#include "umem_odp.h"

/* How long a chunk may go on being invalidated under a fault. */
#define ODP_FAULT_TIMEOUT	(10 * HZ)

#if IS_ENABLED(CONFIG_INFINIBAND_ODP_KUNIT_TEST)
atomic64_t ib_odp_looked_up;
#endif

static unsigned long fault_need(const struct ib_odp_fault *fault)
{
	return HMM_PFN_REQ_FAULT | (fault->flags & IB_ODP_FAULT_WRITE ? HMM_PFN_REQ_WRITE : 0);
}

static unsigned int fault_pages(const struct ib_odp_fault *fault)
{
	return (fault->hmm.end - fault->hmm.start) >> PAGE_SHIFT;
}

static unsigned long fault_needed_end(const struct ib_odp_fault *fault)
{
	return fault->hmm.start + ((unsigned long)fault->needed << PAGE_SHIFT);
}

/* How many pages are there as they are needed, up to the first that is not? */
static unsigned int fault_found(const struct ib_odp_fault *fault)
{
	bool write = fault->flags & IB_ODP_FAULT_WRITE;
	unsigned long need = HMM_PFN_VALID | (write ? HMM_PFN_WRITE : 0);
	unsigned int nr = fault_pages(fault), i;

	for (i = 0; i < nr; i++)
		if ((fault->hmm.hmm_pfns[i] & need) != need)
			break;
	return i;
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
	unsigned long needed_end = fault_needed_end(fault);
	struct hmm_range *hmm = &fault->hmm;
	struct vm_area_struct *vma;

	for_each_vma_range(vmi, vma, hmm->end) {
		fault->many |= vma->vm_end < needed_end;
		switch (hmm_vma_use(vma, fault->flags & IB_ODP_FAULT_WRITE)) {
		case HMM_VMA_PROMPT:
			break;
		case HMM_VMA_UNBOUNDED:
			fault->present = true;
			fault->look |= vma->vm_start < needed_end;
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

/* Pages ahead are faulted in only in the mapping of the last page that is needed. */
static void fault_cut_ahead(struct ib_odp_fault *fault, struct mm_struct *mm)
{
	struct vm_area_struct *vma;

	if (fault->present || fault_needed_end(fault) >= fault->hmm.end)
		return;
	vma = vma_lookup(mm, fault_needed_end(fault) - 1);
	if (vma)
		fault->hmm.end = min(fault->hmm.end, vma->vm_end);
}

/* A part of the range, faulted in if @need says so. */
static int fault_range(const struct ib_odp_fault *fault, unsigned int from, unsigned int to,
		       unsigned long need)
{
	struct hmm_range part = fault->hmm;

	if (from == to)
		return 0;
	part.start += (unsigned long)from << PAGE_SHIFT;
	part.end = fault->hmm.start + ((unsigned long)to << PAGE_SHIFT);
	part.hmm_pfns += from;
	memset_l(part.hmm_pfns, need, to - from);
	ib_odp_count_looked_up(to - from);
	return hmm_range_fault(&part);
}

/* What is needed has to come. What is ahead may fail, but for a collision. */
static int fault_bring(struct ib_odp_fault *fault)
{
	unsigned long need = fault_need(fault);
	int ret;

	ret = fault_range(fault, 0, fault->needed, fault->look ? 0 : need);
	if (ret) {
		fault->copies |= ret == -EBUSY && fault->many &&
				 fault->flags & IB_ODP_FAULT_WRITE;
		return ret;
	}
	ret = fault_range(fault, fault->needed, fault_pages(fault), fault->present ? 0 : need);
	if (ret == -EBUSY)
		return ret;
	if (ret)
		fault->hmm.end = fault_needed_end(fault);
	return 0;
}

/* After a look: is all there that is needed, and if not, can it be? */
static int fault_judge(const struct ib_odp_fault *fault)
{
	if (fault->found >= fault->needed)
		return 0;
	return fault->hmm.hmm_pfns[fault->found] & HMM_PFN_ERROR ? -EFAULT : -EAGAIN;
}

static int fault_look_up(struct ib_odp_fault *fault, struct mm_struct *mm)
{
	int ret;

	ret = fault_lock_mm(fault, mm);
	if (ret)
		return ret;
	fault->look = false;
	fault_cut_ahead(fault, mm);
	ret = fault_check(fault, mm);
	if (!ret)
		ret = fault_bring(fault);
	mmap_read_unlock(mm);
	if (!ret) {
		fault->found = fault_found(fault);
		ret = fault->look ? fault_judge(fault) : 0;
	}
	/* Of the process's own rights; -EPERM is for those of the region. */
	return ret == -EPERM ? -EFAULT : ret;
}

/* Is this mapping faulted in page by page, before its pages are looked up? */
static bool fault_is_single(const struct ib_odp_fault *fault, struct vm_area_struct *vma)
{
	if (hmm_vma_use(vma, fault->flags & IB_ODP_FAULT_WRITE) == HMM_VMA_UNBOUNDED)
		return !(fault->flags & IB_ODP_FAULT_PROMPT);
	return fault->copies;
}

/*
 * Have the process's pages faulted in as accesses of its own would, without a look at the
 * notifier. That is for two kinds of memory:
 *
 * Where user space decides how long it takes, the mmap_lock is dropped while the answer is
 * waited for. So the owner can map and unmap memory meanwhile, and a userfaultfd gets its
 * event.
 *
 * Where a page is copied for the write, the fault itself causes the invalidation that it
 * collides with. A look ends at the first mapping of which it copied pages; over many
 * mappings the number of looks would be theirs.
 */
static int fault_singly(const struct ib_odp_fault *fault, struct mm_struct *mm)
{
	unsigned int write = fault->flags & IB_ODP_FAULT_WRITE ? FAULT_FLAG_WRITE : 0;
	unsigned long addr = fault->hmm.start, end = fault_needed_end(fault);
	bool prompt = fault->flags & IB_ODP_FAULT_PROMPT, unlocked;
	struct vm_area_struct *vma;
	int ret;

	ret = fault_lock_mm(fault, mm);
	if (ret)
		return ret;
	while (!ret && addr < end) {
		vma = vma_lookup(mm, addr);
		/* That there is nothing is for the look to say. */
		if (!vma || hmm_vma_use(vma, write) == HMM_VMA_REFUSED)
			break;
		if (!fault_is_single(fault, vma)) {
			addr = vma->vm_end;
			continue;
		}
		ret = fixup_user_fault(mm, addr, write | FAULT_FLAG_REMOTE,
				       prompt ? NULL : &unlocked);
		addr += PAGE_SIZE;
	}
	mmap_read_unlock(mm);
	return ret;
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
	bool prompt = fault->flags & IB_ODP_FAULT_PROMPT;
	unsigned long limit = jiffies + ODP_FAULT_TIMEOUT, began;
	int ret;

	for (;;) {
		began = jiffies;
		ret = prompt && !fault->copies ?
		      0 : fault_singly(fault, chunk->odp->umem.owning_mm);
		if (ret)
			return ret;
		/* What user space takes does not count. */
		if (!prompt)
			limit += jiffies - began;
		ret = chunk_fault_once(chunk, fault);
		/* What was there has gone again. */
		if (ret == -EAGAIN && !prompt)
			ret = -EBUSY;
		if (ret != -EBUSY)
			return ret;
		/* Perhaps by what it did ahead itself: that pages are copied is announced. */
		fault->present = true;
		if (fatal_signal_pending(current))
			return -EINTR;
		if (time_after(jiffies, limit))
			return -EBUSY;
		trace_ib_odp_collision(chunk->odp, fault->hmm.start, fault->hmm.end);
		cond_resched();
	}
}

/* What the pages are looked up into. */
static int fault_alloc(struct ib_odp_fault *fault, unsigned long *on_stack, unsigned int nr)
{
	fault->hmm.hmm_pfns = on_stack;
	if (fault_pages(fault) > nr)
		fault->hmm.hmm_pfns = kmalloc_array(fault_pages(fault), sizeof(*on_stack),
						    GFP_KERNEL_ACCOUNT);
	return fault->hmm.hmm_pfns ? 0 : -ENOMEM;
}

static int chunk_fault_run(struct ib_odp_chunk *chunk, struct ib_odp_fault *fault)
{
	struct mm_struct *mm = chunk->odp->umem.owning_mm;
	unsigned long on_stack[8];
	int ret;

	ret = fault_alloc(fault, on_stack, ARRAY_SIZE(on_stack));
	if (ret)
		return ret;
	/* An address space without users has no pages to give. */
	ret = -EFAULT;
	if (mmget_not_zero(mm)) {
		ret = chunk_fault_retry(chunk, fault);
		/* The chunk is locked, and if this is the last, exit takes it. */
		mmput_async(mm);
	}
	if (fault->hmm.hmm_pfns != on_stack)
		kfree(fault->hmm.hmm_pfns);
	return ret;
}

/* Bring the pages in; on success the chunk is locked. */
static int chunk_fault(struct ib_odp_chunk *chunk, unsigned long start,
		       unsigned long end, unsigned int flags)
{
	struct ib_odp_fault fault = {
		.hmm.notifier = &chunk->notifier,
		.hmm.start = ALIGN_DOWN(start, PAGE_SIZE),
		.hmm.pfn_flags_mask = HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE,
		.flags = flags,
	};
	struct ib_umem_odp *odp = chunk->odp;
	struct ib_odp_run run;
	unsigned long next;
	int ret;

	CLASS(ib_odp_charge, charge)(odp);
	end = PAGE_ALIGN(end);
	if (!(flags & IB_ODP_FAULT_PRESENT))
		fault.needed = (end - fault.hmm.start) >> PAGE_SHIFT;
	fault.hmm.end = ib_odp_run_begin(odp, fault.hmm.start, end, flags, &run);
	fault.present = (flags & IB_ODP_FAULT_PRESENT) ||
			!ib_odp_ahead_has_room(charge.memcg, (fault.hmm.end - end) >> PAGE_SHIFT);
	ret = chunk_fault_run(chunk, &fault);
	if (ret)
		return ret;
	chunk->fault_end = fault.hmm.end;
	next = chunk->huge ? ib_odp_chunk_end(chunk)
			   : fault.hmm.start + ((unsigned long)fault.found << PAGE_SHIFT);
	ib_odp_run_end(odp, fault.hmm.start, next, &run);
	return 0;
}

/* The pages are used now, or the device gets translations of them. */
static void chunk_mark(struct ib_odp_chunk *chunk, unsigned long start, unsigned long end,
		       unsigned int flags)
{
	if (chunk->odp->ops) {
		end = chunk->fault_end;
		ib_odp_chunk_granules(chunk, &start, &end);
	} else if (flags & IB_ODP_FAULT_PREFETCH) {
		return;
	}
	ib_odp_chunk_mark(chunk, start, end);
}

/* Are pages there for an access? */
static bool chunk_covers(const struct ib_odp_chunk *chunk, unsigned long start,
			 unsigned long end, unsigned int flags)
{
	unsigned long need = IB_ODP_ENTRY_READ;
	unsigned int i = ib_odp_chunk_index(chunk, start);
	unsigned int nr = ib_odp_chunk_index(chunk, end - 1) + 1;

	if (flags & IB_ODP_FAULT_WRITE)
		need |= IB_ODP_ENTRY_WRITE;
	/* On their way out, or none at all. */
	if (chunk->zap_end || !chunk->nr_mapped)
		return false;
	if (chunk->huge)
		return (chunk->huge & need) == need;
	for (; i < nr; i++)
		if ((ib_odp_chunk_entry(chunk, i) & need) != need)
			return false;
	return true;
}

/* A chunk, locked, in which all is there; NULL if it is not, and then it is unlocked. */
static struct ib_odp_chunk *chunk_present(struct ib_odp_chunk *chunk, unsigned long start,
					  unsigned long end, unsigned int flags)
{
	if (start >= ib_odp_chunk_start(chunk) && start < end && end <= ib_odp_chunk_end(chunk) &&
	    !READ_ONCE(chunk->odp->dead) && chunk_covers(chunk, start, end, flags)) {
		chunk->fault_end = PAGE_ALIGN(end);
		chunk_mark(chunk, start, end, flags);
		return chunk;
	}
	ib_odp_chunk_unlock(chunk);
	return NULL;
}

/* With a reference, as it sleeps, which is given back before the pages are used. */
static struct ib_odp_chunk *chunk_bring(struct ib_umem_odp *odp, unsigned long start,
					unsigned long end, unsigned int flags)
{
	struct ib_odp_chunk *chunk = ib_odp_chunk_get(odp, start);
	int ret;

	if (IS_ERR(chunk))
		return chunk;
	mutex_lock(&chunk->lock);
	if (!chunk_present(chunk, start, end, flags)) {
		ret = chunk_fault(chunk, start, end, flags);
		if (ret) {
			ib_odp_chunk_put(chunk);
			return ERR_PTR(ret);
		}
		chunk_mark(chunk, start, end, flags);
	}
	ib_odp_chunk_put_locked(chunk);
	return chunk;
}

/* The chunk that @addr is in, locked, perhaps on its way out and then without pages. */
static struct ib_odp_chunk *chunk_trylock(struct ib_umem_odp *odp, unsigned long addr)
{
	struct ib_odp_chunk *chunk;

	rcu_read_lock();
	chunk = xa_load(&odp->chunks, ib_umem_odp_chunk_index(odp, addr));
	if (chunk && !mutex_trylock(&chunk->lock))
		chunk = NULL;
	rcu_read_unlock();
	return chunk;
}

/**
 * ib_umem_odp_present() - pages, if all of them are there
 * @odp: the umem
 * @start: first address
 * @end: behind the last one
 * @flags: enum ib_odp_fault_flags
 *
 * The short way of an access, for a caller that goes on with ib_umem_odp_fault().
 *
 * Context: any but hard and soft interrupts.
 * Return: the chunk, locked, for ib_odp_chunk_unlock(); NULL if one of them is not there,
 * if they are not in one chunk, or if another one has its lock.
 */
struct ib_odp_chunk *ib_umem_odp_present(struct ib_umem_odp *odp,
					 unsigned long start, unsigned long end,
					 unsigned int flags)
{
	struct ib_odp_chunk *chunk = chunk_trylock(odp, start);

	return chunk ? chunk_present(chunk, start, end, flags) : NULL;
}
EXPORT_SYMBOL_GPL(ib_umem_odp_present);

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
	u64 began;

	if (start < ib_umem_start(odp) || start >= end ||
	    end > ib_umem_odp_chunk_end(odp, start))
		return ERR_PTR(-EINVAL);
	if ((flags & IB_ODP_FAULT_WRITE) && !odp->umem.writable)
		return ERR_PTR(-EPERM);

	chunk = ib_umem_odp_present(odp, start, end, flags);
	if (chunk)
		return chunk;
	began = trace_ib_odp_fault_enabled() ? ktime_get_ns() : 0;
	chunk = chunk_bring(odp, start, end, flags);
	trace_ib_odp_fault(odp, start, end, flags, chunk, began);
	return chunk;
}
EXPORT_SYMBOL_GPL(ib_umem_odp_fault);

/**
 * ib_odp_chunk_unlock() - the pages may go
 * @chunk: from ib_umem_odp_fault()
 *
 * Context: any but hard and soft interrupts.
 */
void ib_odp_chunk_unlock(struct ib_odp_chunk *chunk)
{
	/* From the unlocking on it may be freed, and mutex_unlock() has not returned yet. */
	rcu_read_lock();
	mutex_unlock(&chunk->lock);
	rcu_read_unlock();
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
