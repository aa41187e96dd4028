// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * User memory that is paged on demand: the object and its chunks.
 *
 * A region that is registered with IB_ACCESS_ON_DEMAND pins nothing. It can be
 * larger than the machine's memory, and may contain addresses that are not
 * mapped yet. When the device needs a page the driver calls ib_umem_odp_fault();
 * when the kernel wants it back, the MMU notifier takes it away.
 *
 * Registration costs the same for any length: nothing is kept for what has not
 * been touched. State comes in chunks, the parts of the region in each aligned
 * block of 2 MiB; or a little behind it, where the device's translations cannot
 * be written one by one, so that those of a chunk are its own. A chunk is made
 * by the first fault in it, and a worker frees it after its last page went.
 * Each one is an interval notifier of its own, so that an invalidation disturbs
 * only those faults whose chunk it overlaps, and each has its own lock, so that
 * faults in different chunks run in parallel. That insertion of an interval
 * notifier is immediate, and never fails, is ensured by keeping the mm armed
 * for as long as the region exists.
 *
 * A page is in a chunk without a reference. It is valid while the chunk's lock
 * is held, because an invalidation of it has to take that lock before the page
 * can go. What the chunk has of pages is in umem_odp_map.c, how they come in
 * umem_odp_fault.c.
 *
 * Lifetime. The umem owns one reference of each chunk in its xarray, faults hold
 * others while they sleep. Interval notifiers cannot be removed in a callback,
 * where chunks become empty; so that is the worker's task. It takes a chunk out
 * of the xarray only if there is no other reference, under the xarray's lock,
 * under which references are got. Then it locks the chunk once more, so a chunk
 * that is locked is not freed; users of pages have the lock, and no reference.
 *
 * An access to pages that are there takes no lock but the chunk's. It finds the
 * chunk under RCU, so chunks are freed after a grace period, and the lock is given
 * back under RCU as well, since it is touched until the end of mutex_unlock(). That
 * it has pages says that the chunk is not being freed: without faults it cannot
 * gain any, and at the region's end nothing accesses it.
 *
 *	access				worker
 *	  xa_load(), trylock
 *	  nr_mapped == 0: the slow path
 *					  refs == 1, nr_mapped == 0: take it out
 *					  remove the notifier
 *					  lock: waits for the access
 *	  unlock
 *					  unlock, free after a grace period
 *
 * A fault can sleep for as long as user space wants (umem_odp_populate.c), and the
 * end of the region must not wait for that. Such a fault has references of the umem
 * and of its chunk. Release marks the umem dead, has the device forget all chunks and
 * removes their notifiers; what is left is memory, and a fault that wakes up later
 * finds the mark under the chunk's lock, enters nothing, and frees it.
 *
 *	fault				release
 *	  hold umem, chunk
 *	  sleeps in hmm_range_fault()
 *					  dead = true
 *					  take chunks out; for each: remove the
 *					    notifier, lock, zap, unlock, put it
 *					  put the umem; the device may go
 *	  lock chunk: dead, unlock
 *	  put chunk: freed
 *	  put umem: freed
 *
 * Locks: mmap_lock (outside), chunk->lock, xa_lock or populate_lock. A page-table lock is
 * outside of xa_lock, as reclaim asks under it what the device uses (umem_odp_age.c); so
 * nothing is allocated under xa_lock that would reclaim.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/dma-mapping.h>
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#define CREATE_TRACE_POINTS
#include <trace/events/ib_odp.h>

#include "umem_odp.h"

static void chunk_free(struct ib_odp_chunk *chunk)
{
	kvfree(chunk->entries);
	kfree_rcu(chunk, rcu);
}

/*
 * No longer in the xarray: give back the reference that was the xarray's. If the
 * umem is dead there may be a user, which enters nothing.
 */
static void chunk_retire(struct ib_odp_chunk *chunk)
{
	mmu_interval_notifier_remove(&chunk->notifier);
	mutex_lock(&chunk->lock);
	ib_odp_chunk_clear(chunk);
	mutex_unlock(&chunk->lock);
	/* The last invalidation may have found it empty; there will be no other. */
	xa_lock(&chunk->odp->chunks);
	list_del_init(&chunk->reap_entry);
	list_del_init(&chunk->age_entry);
	xa_unlock(&chunk->odp->chunks);
	if (refcount_dec_and_test(&chunk->refs))
		chunk_free(chunk);
}

static struct ib_odp_chunk *chunk_alloc(struct ib_umem_odp *odp, unsigned long addr)
{
	unsigned long start = max(ib_umem_odp_block(odp, addr), ib_umem_start(odp));
	unsigned long length = ib_umem_odp_chunk_end(odp, addr) - start;
	struct mm_struct *mm = odp->umem.owning_mm;
	struct ib_odp_chunk *chunk;
	int ret;

	chunk = kzalloc(sizeof(*chunk), GFP_KERNEL_ACCOUNT);
	if (!chunk)
		return ERR_PTR(-ENOMEM);
	chunk->odp = odp;
	mutex_init(&chunk->lock);
	INIT_LIST_HEAD(&chunk->reap_entry);
	INIT_LIST_HEAD(&chunk->age_entry);
	refcount_set(&chunk->refs, 1);
	/* From here on it is called for invalidations, and has nothing yet. */
	ret = -EFAULT;
	if (mmget_not_zero(mm)) {
		ret = mmu_interval_notifier_insert(&chunk->notifier, mm, start, length,
						   &ib_odp_chunk_ops);
		mmput_async(mm);
	}
	if (!ret)
		return chunk;
	chunk_free(chunk);
	return ERR_PTR(ret);
}

static struct ib_odp_chunk *chunk_find(struct ib_umem_odp *odp, unsigned long addr)
{
	struct ib_odp_chunk *chunk;

	xa_lock(&odp->chunks);
	if (odp->dead)
		chunk = ERR_PTR(-EFAULT);
	else
		chunk = xa_load(&odp->chunks, ib_umem_odp_chunk_index(odp, addr));
	if (!IS_ERR_OR_NULL(chunk))
		refcount_inc(&chunk->refs);
	xa_unlock(&odp->chunks);
	return chunk;
}

/* Put @chunk into the xarray, with a reference for the caller. */
static int chunk_publish(struct ib_umem_odp *odp, struct ib_odp_chunk *chunk,
			 unsigned long addr)
{
	int ret;

	xa_lock(&odp->chunks);
	/* May drop the lock to allocate, so the mark is looked at behind it. */
	ret = __xa_insert(&odp->chunks, ib_umem_odp_chunk_index(odp, addr), chunk,
			  GFP_KERNEL_ACCOUNT);
	if (!ret && odp->dead) {
		__xa_erase(&odp->chunks, ib_umem_odp_chunk_index(odp, addr));
		ret = -EFAULT;
	}
	if (!ret)
		refcount_inc(&chunk->refs);
	xa_unlock(&odp->chunks);
	return ret;
}

/* -EBUSY: another fault has made it. */
static struct ib_odp_chunk *chunk_make(struct ib_umem_odp *odp, unsigned long addr)
{
	CLASS(ib_odp_charge, charge)(odp);
	struct ib_odp_chunk *chunk;
	int ret;

	chunk = chunk_alloc(odp, addr);
	if (IS_ERR(chunk))
		return chunk;
	ret = chunk_publish(odp, chunk, addr);
	if (!ret)
		return chunk;
	chunk_retire(chunk);
	return ERR_PTR(ret);
}

/**
 * ib_odp_chunk_get() - the chunk an address is in, made if necessary
 * @odp: the umem
 * @addr: inside of it
 *
 * Context: sleeps.
 * Return: the chunk, for ib_odp_chunk_put(); -ENOMEM; -EFAULT if the region is gone.
 */
struct ib_odp_chunk *ib_odp_chunk_get(struct ib_umem_odp *odp, unsigned long addr)
{
	struct ib_odp_chunk *chunk;

	do {
		chunk = chunk_find(odp, addr) ?: chunk_make(odp, addr);
	} while (chunk == ERR_PTR(-EBUSY));
	return chunk;
}

static void chunk_list_if_empty(struct ib_odp_chunk *chunk)
{
	struct ib_umem_odp *odp = chunk->odp;

	lockdep_assert_held(&odp->chunks.xa_lock);
	if (odp->dead || READ_ONCE(chunk->nr_mapped) || !list_empty(&chunk->reap_entry))
		return;
	list_add_tail(&chunk->reap_entry, &odp->reap_list);
	mod_delayed_work(ib_odp_wq, &odp->work, 0);
}

/**
 * ib_odp_chunk_reap() - free the chunk if it is empty and nobody uses it
 * @chunk: locked; not by a user, who sees to it when it puts the chunk
 *
 * Context: any.
 */
void ib_odp_chunk_reap(struct ib_odp_chunk *chunk)
{
	xa_lock(&chunk->odp->chunks);
	chunk_list_if_empty(chunk);
	xa_unlock(&chunk->odp->chunks);
}

/**
 * ib_odp_chunk_put() - give a reference back
 * @chunk: the chunk, not locked
 *
 * Context: sleeps, if the region is gone.
 */
void ib_odp_chunk_put(struct ib_odp_chunk *chunk)
{
	struct ib_umem_odp *odp = chunk->odp;
	bool last;

	/* In one step, or a chunk that empties in between is never reaped. */
	xa_lock(&odp->chunks);
	last = refcount_dec_and_test(&chunk->refs);
	if (!last)
		chunk_list_if_empty(chunk);
	xa_unlock(&odp->chunks);
	/* Only after release: until then the xarray has a reference. */
	if (last)
		chunk_free(chunk);
}

/**
 * ib_odp_chunk_put_locked() - give a reference back, and go on with the lock
 * @chunk: the chunk, locked, of a umem that is not dead: so it is not the last one
 *
 * Context: any but hard and soft interrupts.
 */
void ib_odp_chunk_put_locked(struct ib_odp_chunk *chunk)
{
	lockdep_assert_held(&chunk->lock);
	xa_lock(&chunk->odp->chunks);
	refcount_dec(&chunk->refs);
	chunk_list_if_empty(chunk);
	xa_unlock(&chunk->odp->chunks);
}

/*
 * The next empty chunk that nobody uses, now ours alone: without users it can
 * lose pages but not gain any. One that is in use is listed again when it is put.
 */
static struct ib_odp_chunk *odp_next_idle(struct ib_umem_odp *odp)
{
	struct ib_odp_chunk *chunk;

	xa_lock(&odp->chunks);
	while ((chunk = list_first_entry_or_null(&odp->reap_list, struct ib_odp_chunk,
						 reap_entry))) {
		list_del_init(&chunk->reap_entry);
		if (refcount_read(&chunk->refs) == 1 && !READ_ONCE(chunk->nr_mapped)) {
			__xa_erase(&odp->chunks,
				   ib_umem_odp_chunk_index(odp, ib_odp_chunk_start(chunk)));
			break;
		}
	}
	xa_unlock(&odp->chunks);
	return chunk;
}

static void odp_reap(struct ib_umem_odp *odp)
{
	struct ib_odp_chunk *chunk;
	bool reaped = false;

	/* Only this work and release free chunks, and release cancels it. */
	while ((chunk = odp_next_idle(odp))) {
		chunk_retire(chunk);
		reaped = true;
		cond_resched();
	}
	if (reaped && odp->ops && odp->ops->reaped)
		odp->ops->reaped(odp);
}

static void odp_work(struct work_struct *work)
{
	struct ib_umem_odp *odp = container_of(to_delayed_work(work), struct ib_umem_odp, work);

	ib_umem_odp_age(odp);
	odp_reap(odp);
}

/**
 * ib_umem_odp_has_chunks() - is anything kept for a part of a region?
 * @odp: the umem
 * @start: first address of the part
 * @end: behind its last one
 *
 * Context: any.
 * Return: false if the device has no pages of it, and no fault in it is running;
 * so that this lasts the caller has to see to it that none begins.
 */
bool ib_umem_odp_has_chunks(struct ib_umem_odp *odp, unsigned long start,
			    unsigned long end)
{
	unsigned long index = ib_umem_odp_chunk_index(odp, start);

	return xa_find(&odp->chunks, &index, ib_umem_odp_chunk_index(odp, end - 1),
		       XA_PRESENT);
}
EXPORT_SYMBOL_GPL(ib_umem_odp_has_chunks);

/* All of the region in huge pages of one size, as the flag promises? */
static int odp_check_hugetlb(struct mm_struct *mm, unsigned long start,
			     unsigned long end)
{
	struct vm_area_struct *vma;
	unsigned long next = start;
	int ret = 0;

	mmap_read_lock(mm);
	while (next < end && !ret) {
		vma = vma_lookup(mm, next);
		if (!vma || !is_vm_hugetlb_page(vma))
			ret = -EINVAL;
		else
			next = vma->vm_end;
	}
	mmap_read_unlock(mm);
	return ret;
}

static int odp_check_range(unsigned long addr, size_t size)
{
	unsigned long end;

	if (!size)
		return -EINVAL;
	if (check_add_overflow(addr, size, &end) || PAGE_ALIGN(end) < end)
		return -EOVERFLOW;
	/* The address space may grow into the rest, but not beyond this. */
	if (end > TASK_SIZE)
		return -EFAULT;
	return 0;
}

/*
 * May DMA of this device go through a bounce buffer? What it writes would reach the page
 * only when that is unmapped, and what the process writes would not reach the device.
 */
static bool odp_may_bounce(struct ib_device *device)
{
	return !ib_uses_virt_dma(device) && dma_max_mapping_size(device->dma_device) < SIZE_MAX;
}

static struct ib_umem_odp *odp_alloc(struct ib_device *device, unsigned long addr,
				     size_t size, int access,
				     const struct ib_umem_odp_ops *ops)
{
	struct mm_struct *mm = current->mm;
	struct ib_umem_odp *odp;
	int ret;

	if (odp_may_bounce(device))
		return ERR_PTR(-EOPNOTSUPP);
	odp = kzalloc(sizeof(*odp), GFP_KERNEL_ACCOUNT);
	if (!odp)
		return ERR_PTR(-ENOMEM);
	ret = mmu_notifier_arm(mm);
	if (ret) {
		kfree(odp);
		return ERR_PTR(ret);
	}

	mmgrab(mm);
	odp->umem.ibdev = device;
	odp->umem.owning_mm = mm;
	odp->umem.address = addr;
	odp->umem.length = size;
	odp->umem.writable = ib_access_writable(access);
	odp->umem.is_odp = 1;
	odp->page_shift = PAGE_SHIFT;
	odp->uses_dma = !ib_uses_virt_dma(device);
	odp->ops = ops;
	if (ops)
		odp->skew = ib_umem_start(odp) & (ops->granule - 1);
	xa_init_flags(&odp->chunks, XA_FLAGS_ACCOUNT);
	INIT_LIST_HEAD(&odp->reap_list);
	INIT_LIST_HEAD(&odp->age_list);
	INIT_DELAYED_WORK(&odp->work, odp_work);
	refcount_set(&odp->refs, 1);
	spin_lock_init(&odp->populate_lock);
	INIT_LIST_HEAD(&odp->populates);
	return odp;
}

/**
 * ib_umem_odp_get() - register memory of the current process for paging
 * @device: who is going to use it
 * @addr: first address
 * @size: in bytes
 * @access: enum ib_access_flags, with IB_ACCESS_ON_DEMAND
 * @ops: for a device that keeps translations, or NULL
 *
 * Nothing is pinned or charged; time and memory do not depend on @size.
 *
 * Context: takes the mmap_lock for write if the mm has not been armed; sleeps.
 * Return: the umem, for ib_umem_odp_release(); -EOPNOTSUPP if it is not to be
 * paged, or the device's DMA may be bounced; -EINVAL if it is empty or not in huge
 * pages though said to be; -EOVERFLOW if it wraps around; -EFAULT if it is beyond the
 * user's addresses; -ENOMEM; -EINTR.
 */
struct ib_umem_odp *ib_umem_odp_get(struct ib_device *device, unsigned long addr,
				    size_t size, int access,
				    const struct ib_umem_odp_ops *ops)
{
	struct ib_umem_odp *odp;
	int ret;

	if (!(access & IB_ACCESS_ON_DEMAND) || (!addr && size == SIZE_MAX))
		return ERR_PTR(-EOPNOTSUPP);
	ret = odp_check_range(addr, size);
	if (!ret && (access & IB_ACCESS_HUGETLB))
		ret = odp_check_hugetlb(current->mm, addr, addr + size);
	if (ret)
		return ERR_PTR(ret);
	odp = odp_alloc(device, addr, size, access, ops);
	if (!IS_ERR(odp))
		trace_ib_odp_get(odp);
	return odp;
}
EXPORT_SYMBOL_GPL(ib_umem_odp_get);

/**
 * ib_umem_odp_get_implicit() - register all memory of the current process
 * @device: who is going to use it
 * @access: enum ib_access_flags, with IB_ACCESS_ON_DEMAND
 * @ops: for a device that keeps translations, or NULL
 *
 * All that it has or will ever have, by the process's own addresses.
 *
 * Context: as ib_umem_odp_get().
 * Return: the umem, for ib_umem_odp_release(); -EOPNOTSUPP if it is not to be
 * paged, or said to be in huge pages, or the device's DMA may be bounced; -ENOMEM;
 * -EINTR.
 */
struct ib_umem_odp *ib_umem_odp_get_implicit(struct ib_device *device, int access,
					     const struct ib_umem_odp_ops *ops)
{
	struct ib_umem_odp *odp;

	if (!(access & IB_ACCESS_ON_DEMAND) || (access & IB_ACCESS_HUGETLB))
		return ERR_PTR(-EOPNOTSUPP);
	odp = odp_alloc(device, 0, TASK_SIZE, access, ops);
	if (IS_ERR(odp))
		return odp;
	odp->implicit = true;
	trace_ib_odp_get(odp);
	return odp;
}
EXPORT_SYMBOL_GPL(ib_umem_odp_get_implicit);

/**
 * ib_umem_odp_hold() - keep a umem beyond the end of its region
 * @odp: the umem
 *
 * For a fault that user space may hold up. Its user gives up everything of the
 * driver's and the device's before it sleeps.
 */
void ib_umem_odp_hold(struct ib_umem_odp *odp)
{
	refcount_inc(&odp->refs);
}
EXPORT_SYMBOL_GPL(ib_umem_odp_hold);

/**
 * ib_umem_odp_put() - undo ib_umem_odp_hold()
 * @odp: the umem
 *
 * Context: sleeps.
 */
void ib_umem_odp_put(struct ib_umem_odp *odp)
{
	struct mm_struct *mm = odp->umem.owning_mm;

	if (!refcount_dec_and_test(&odp->refs))
		return;
	xa_destroy(&odp->chunks);
	if (odp->owner)
		ib_odp_owner_put(odp->owner);
	kfree(odp->runs);
	kfree(odp);
	mmu_notifier_disarm(mm);
	mmdrop(mm);
}
EXPORT_SYMBOL_GPL(ib_umem_odp_put);

/**
 * ib_umem_odp_kill() - let no fault in a region wait any longer
 * @odp: the umem
 *
 * Those that run or begin fail with -EFAULT; those that sleep for user space are no
 * longer waited for. For a driver whose faults hold references that it waits for
 * before it calls ib_umem_odp_release(). The pages stay until then.
 *
 * Context: any but hard and soft interrupts.
 */
void ib_umem_odp_kill(struct ib_umem_odp *odp)
{
	xa_lock(&odp->chunks);
	WRITE_ONCE(odp->dead, true);
	xa_unlock(&odp->chunks);
	ib_odp_populate_kill(odp);
}
EXPORT_SYMBOL_GPL(ib_umem_odp_kill);

/**
 * ib_umem_odp_release() - the region is gone
 * @odp: the device does not use it; faults in it hold a reference of it and none of
 *	the region's
 *
 * Context: sleeps; not under a lock that is taken around the mmap_lock.
 */
void ib_umem_odp_release(struct ib_umem_odp *odp)
{
	struct ib_odp_chunk *chunk;
	unsigned long index;

	ib_umem_odp_kill(odp);
	/*
	 * Chunks can still become empty and queue the work, until they are
	 * removed; it would find them, so it is disabled and not just waited for.
	 */
	disable_delayed_work_sync(&odp->work);
	xa_for_each(&odp->chunks, index, chunk) {
		xa_erase(&odp->chunks, index);
		chunk_retire(chunk);
		cond_resched();
	}
	trace_ib_odp_release(odp);
	ib_umem_odp_put(odp);
}
EXPORT_SYMBOL_GPL(ib_umem_odp_release);
