// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * On-demand paging for rxe.
 *
 * rxe moves data with the CPU, from the work queue of its tasks, where it may
 * sleep. So there is no translation to keep or to invalidate: each piece of a
 * message that lies in one chunk of the region is faulted in, copied under the
 * chunk's lock, and let go. A fault that fails is the error that an access to
 * memory outside of the region would be.
 *
 * User space may hold a fault up for ever. The task then waits for a populate, which
 * has no reference of the region or of the queue pair. It stops waiting when either
 * goes: deregistration kills the umem, and a queue pair that is destroyed or reset
 * marks its tasks. Meanwhile it occupies a worker; so tasks of a protection domain
 * that has paged regions run on a workqueue of its own, where they are in the way of
 * nothing else.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/highmem.h>
#include <linux/libnvdimm.h>
#include <linux/overflow.h>
#include <rdma/ib_umem_odp.h>
#include <rdma/restrack.h>

#include "rxe.h"
#include "rxe_loc.h"

static unsigned long rxe_odp_address(const struct rxe_mr *mr, u64 iova)
{
	return mr->umem->address + (iova - mr->ibmr.iova);
}

/**
 * rxe_odp_init_pd() - give the queue pairs of a protection domain their own workers
 * @pd: is going to have a paged region
 *
 * Context: sleeps.
 * Return: 0; -ENOMEM.
 */
int rxe_odp_init_pd(struct rxe_pd *pd)
{
	struct workqueue_struct *wq;

	if (READ_ONCE(pd->wq))
		return 0;
	wq = alloc_workqueue("rxe_odp", WQ_UNBOUND, WQ_UNBOUND_MAX_ACTIVE);
	if (!wq)
		return -ENOMEM;
	/* Tasks look without a lock; they may run on either queue meanwhile. */
	if (cmpxchg(&pd->wq, NULL, wq))
		destroy_workqueue(wq);
	return 0;
}

int rxe_odp_init_user(struct rxe_dev *rxe, u64 start, u64 length, int access,
		      struct rxe_mr *mr)
{
	struct ib_umem_odp *odp;

	if (start || length != U64_MAX)
		odp = ib_umem_odp_get(&rxe->ib_dev, start, length, access, NULL);
	else if (!mr->ibmr.iova)
		odp = ib_umem_odp_get_implicit(&rxe->ib_dev, access, NULL);
	else
		odp = ERR_PTR(-EINVAL);
	if (IS_ERR(odp))
		return PTR_ERR(odp);

	rxe_mr_init(access, mr);
	mr->umem = &odp->umem;
	mr->ibmr.type = IB_MR_TYPE_USER;
	mr->state = RXE_MR_STATE_VALID;
	return 0;
}

static void rxe_odp_copy_page(struct page *page, unsigned int offset, void *data,
			      unsigned int bytes, enum rxe_mr_copy_dir dir)
{
	u8 *va = kmap_local_page(page);

	if (dir == RXE_TO_MR_OBJ)
		memcpy(va + offset, data, bytes);
	else
		memcpy(data, va + offset, bytes);
	kunmap_local(va);
}

/* Is the queue pair that the task works for being destroyed or reset? */
static bool rxe_odp_leaves(void *data)
{
	struct rxe_task *task = data;

	return task && READ_ONCE(task->leaving);
}

/*
 * ib_umem_odp_fault() in a task, which must not sleep for as long as a user wants. What is
 * beyond the chunk that @start is in is cut off.
 */
static struct ib_odp_chunk *rxe_odp_fault(struct ib_umem_odp *odp, unsigned long start,
					  unsigned long *end, unsigned int flags)
{
	struct ib_odp_chunk *chunk = ib_umem_odp_present(odp, start, *end, flags);

	if (likely(chunk))
		return chunk;
	*end = min(*end, ib_umem_odp_chunk_end(odp, start));
	return ib_umem_odp_fault_wait(odp, start, *end, flags, rxe_odp_leaves,
				      rxe_current_task());
}

/* The part of [addr, end) that is in the chunk of addr; returns its length. */
static int rxe_odp_copy_chunk(struct ib_umem_odp *odp, unsigned long addr,
			      unsigned long end, u8 *data,
			      enum rxe_mr_copy_dir dir, unsigned int flags)
{
	unsigned long start = addr;
	struct ib_odp_chunk *chunk;
	unsigned int bytes;

	if (dir == RXE_TO_MR_OBJ)
		flags |= IB_ODP_FAULT_WRITE;
	chunk = rxe_odp_fault(odp, addr, &end, flags);
	if (IS_ERR(chunk))
		return PTR_ERR(chunk);
	for (; addr < end; addr += bytes, data += bytes) {
		bytes = min(end - addr, PAGE_SIZE - offset_in_page(addr));
		rxe_odp_copy_page(ib_odp_chunk_page(chunk, addr),
				  offset_in_page(addr), data, bytes, dir);
	}
	ib_odp_chunk_unlock(chunk);
	return end - start;
}

int rxe_odp_mr_copy(struct rxe_mr *mr, u64 iova, void *data, unsigned int length,
		    enum rxe_mr_copy_dir dir)
{
	struct ib_umem_odp *odp = to_ib_umem_odp(mr->umem);
	unsigned long addr = rxe_odp_address(mr, iova);
	unsigned int flags = 0;
	unsigned long end;
	int done;

	/* Nothing copied is no success. */
	if (check_add_overflow(addr, length, &end))
		return -EFAULT;
	while (addr < end) {
		done = rxe_odp_copy_chunk(odp, addr, end, data, dir, flags);
		if (done < 0)
			return done;
		flags = IB_ODP_FAULT_PART;
		addr += done;
		data += done;
	}
	return 0;
}

/* Write back what caches have of a page; -EINVAL if it is lost with the power. */
static int rxe_odp_flush_page(struct page *page, unsigned int offset, unsigned int bytes)
{
	u8 *va;

	if (!is_pmem_page(page))
		return -EINVAL;
	va = kmap_local_page(page);
	arch_wb_cache_pmem(va + offset, bytes);
	kunmap_local(va);
	return 0;
}

/* The part of [addr, end) that is in the chunk of addr; returns its length. */
static int rxe_odp_flush_chunk(struct ib_umem_odp *odp, unsigned long addr, unsigned long end,
			       unsigned int flags)
{
	unsigned long start = addr;
	struct ib_odp_chunk *chunk;
	unsigned int bytes;
	int ret = 0;

	chunk = rxe_odp_fault(odp, addr, &end, flags);
	if (IS_ERR(chunk))
		return PTR_ERR(chunk);
	for (; addr < end && !ret; addr += bytes) {
		bytes = min(end - addr, PAGE_SIZE - offset_in_page(addr));
		ret = rxe_odp_flush_page(ib_odp_chunk_page(chunk, addr), offset_in_page(addr),
					 bytes);
	}
	ib_odp_chunk_unlock(chunk);
	return ret ?: end - start;
}

/**
 * rxe_odp_flush() - make memory persistent
 * @mr: a paged region
 * @iova: where, in the region
 * @length: bytes
 *
 * Whether a page is persistent is not known before it is there, and it may be another one
 * each time. So it is looked at here and not at registration. A hole of a file reads as a
 * page of zeros, which is not persistent: it is allocated.
 *
 * Context: sleeps.
 * Return: 0; -EINVAL if some of it is no persistent memory; otherwise as of a fault.
 */
int rxe_odp_flush(struct rxe_mr *mr, u64 iova, u64 length)
{
	struct ib_umem_odp *odp = to_ib_umem_odp(mr->umem);
	unsigned int write = mr->umem->writable ? IB_ODP_FAULT_WRITE : 0;
	unsigned long addr = rxe_odp_address(mr, iova);
	unsigned long end = addr + length;
	int done;

	while (addr < end) {
		done = rxe_odp_flush_chunk(odp, addr, end, 0);
		if (done == -EINVAL && write)
			done = rxe_odp_flush_chunk(odp, addr, end, write);
		if (done < 0)
			return done;
		addr += done;
		cond_resched();
	}
	return 0;
}

/*
 * Have the 8 bytes at @addr, which are in the region, present for writing. On
 * success, 0, the chunk is locked; otherwise an enum resp_states.
 */
static int rxe_odp_lock_u64(struct rxe_mr *mr, unsigned long addr,
			    struct ib_odp_chunk **chunk)
{
	unsigned long end = addr + sizeof(u64);

	if (!IS_ALIGNED(addr, sizeof(u64)))
		return RESPST_ERR_MISALIGNED_ATOMIC;
	*chunk = rxe_odp_fault(to_ib_umem_odp(mr->umem), addr, &end, IB_ODP_FAULT_WRITE);
	return IS_ERR(*chunk) ? RESPST_ERR_RKEY_VIOLATION : 0;
}

int rxe_odp_do_atomic_op(struct rxe_mr *mr, u64 iova, int opcode, u64 compare,
			 u64 swap_add, u64 *orig_val)
{
	unsigned long addr = rxe_odp_address(mr, iova);
	struct ib_odp_chunk *chunk;
	int ret;

	ret = rxe_odp_lock_u64(mr, addr, &chunk);
	if (ret)
		return ret;
	rxe_mr_page_atomic_op(ib_odp_chunk_page(chunk, addr), offset_in_page(addr),
			      opcode, compare, swap_add, orig_val);
	ib_odp_chunk_unlock(chunk);
	return 0;
}

int rxe_odp_do_atomic_write(struct rxe_mr *mr, u64 iova, u64 value)
{
	unsigned long addr = rxe_odp_address(mr, iova);
	struct ib_odp_chunk *chunk;
	int ret;

	ret = rxe_odp_lock_u64(mr, addr, &chunk);
	if (ret)
		return ret;
	rxe_mr_page_atomic_write(ib_odp_chunk_page(chunk, addr),
				 offset_in_page(addr), value);
	ib_odp_chunk_unlock(chunk);
	return 0;
}

/**
 * struct rxe_prefetch - an ibv_advise_mr()
 * @flags: enum ib_odp_fault_flags
 * @nr: number of @parts
 * @parts: what to bring in; the umems are held, and nothing of the regions is, as this
 *	may take as long as user space wants
 */
struct rxe_prefetch {
	unsigned int flags;
	u32 nr;
	struct {
		struct ib_umem_odp *odp;
		unsigned long start;
		unsigned long end;
	} parts[] __counted_by(nr);
};

static void rxe_prefetch_free(struct rxe_prefetch *prefetch)
{
	u32 i;

	for (i = 0; i < prefetch->nr; i++)
		if (prefetch->parts[i].odp)
			ib_umem_odp_put(prefetch->parts[i].odp);
	kvfree(prefetch);
}

static int rxe_prefetch_add(struct rxe_prefetch *prefetch, u32 i,
			    struct rxe_pd *pd, const struct ib_sge *sge, int access)
{
	struct rxe_mr *mr = lookup_mr(pd, access, sge->lkey, RXE_LOOKUP_LOCAL);
	int ret = -EINVAL;

	if (!mr)
		return -EINVAL;
	if (rxe_mr_is_odp(mr))
		ret = mr_check_range(mr, sge->addr, sge->length);
	if (!ret) {
		prefetch->parts[i].odp = to_ib_umem_odp(mr->umem);
		prefetch->parts[i].start = rxe_odp_address(mr, sge->addr);
		prefetch->parts[i].end = prefetch->parts[i].start + sge->length;
		ib_umem_odp_hold(prefetch->parts[i].odp);
	}
	rxe_put(mr);
	return ret;
}

/* Find all regions, and look at their rights, before anything is done. */
static struct rxe_prefetch *rxe_prefetch_alloc(struct rxe_pd *pd, bool write,
					       const struct ib_sge *list, u32 nr)
{
	struct rxe_prefetch *prefetch;
	int ret;
	u32 i;

	prefetch = kvzalloc(struct_size(prefetch, parts, nr), GFP_KERNEL_ACCOUNT);
	if (!prefetch)
		return ERR_PTR(-ENOMEM);
	prefetch->nr = nr;
	prefetch->flags = IB_ODP_FAULT_PREFETCH | (write ? IB_ODP_FAULT_WRITE : 0);
	for (i = 0; i < nr; i++) {
		ret = rxe_prefetch_add(prefetch, i, pd, &list[i],
				       write ? IB_ACCESS_LOCAL_WRITE : 0);
		if (ret) {
			rxe_prefetch_free(prefetch);
			return ERR_PTR(ret);
		}
	}
	return prefetch;
}

/* Now, in the process that asked. */
static int rxe_prefetch_run(struct rxe_prefetch *prefetch)
{
	int ret = 0;
	u32 i;

	for (i = 0; i < prefetch->nr && !ret; i++)
		ret = ib_umem_odp_populate_now(prefetch->parts[i].odp,
					       prefetch->parts[i].start,
					       prefetch->parts[i].end, prefetch->flags);
	return ret;
}

/* Some time. It is advice: an access to the range will see what goes wrong. */
static void rxe_prefetch_start(struct rxe_prefetch *prefetch)
{
	u32 i;

	for (i = 0; i < prefetch->nr; i++)
		ib_umem_odp_populate(prefetch->parts[i].odp, prefetch->parts[i].start,
				     prefetch->parts[i].end, prefetch->flags, NULL, NULL,
				     NULL);
}

int rxe_advise_mr(struct ib_pd *ibpd, enum ib_uverbs_advise_mr_advice advice,
		  u32 flags, struct ib_sge *sg_list, u32 num_sge,
		  struct uverbs_attr_bundle *attrs)
{
	bool write = advice == IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE;
	struct rxe_prefetch *prefetch;
	int ret = 0;

	if (advice > IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT)
		return -EOPNOTSUPP;
	if (flags & ~IB_UVERBS_ADVISE_MR_FLAG_FLUSH)
		return -EINVAL;
	prefetch = rxe_prefetch_alloc(to_rpd(ibpd), write, sg_list, num_sge);
	if (IS_ERR(prefetch))
		return PTR_ERR(prefetch);
	/* What is present needs no translation: nothing is left to be done. */
	if (advice != IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT) {
		if (flags & IB_UVERBS_ADVISE_MR_FLAG_FLUSH)
			ret = rxe_prefetch_run(prefetch);
		else
			rxe_prefetch_start(prefetch);
	}
	rxe_prefetch_free(prefetch);
	return ret;
}

int rxe_fill_res_mr_entry(struct sk_buff *msg, struct ib_mr *ibmr)
{
	struct rxe_mr *mr = to_rmr(ibmr);
	struct nlattr *table;

	if (!rxe_mr_is_odp(mr))
		return 0;
	table = nla_nest_start(msg, RDMA_NLDEV_ATTR_DRIVER);
	if (!table)
		return -EMSGSIZE;
	if (rdma_nl_put_driver_string(msg, "odp", to_ib_umem_odp(mr->umem)->implicit ?
						  "implicit" : "explicit")) {
		nla_nest_cancel(msg, table);
		return -EMSGSIZE;
	}
	nla_nest_end(msg, table);
	return 0;
}

int rxe_fill_stat_mr_entry(struct sk_buff *msg, struct ib_mr *ibmr)
{
	struct rxe_mr *mr = to_rmr(ibmr);
	struct ib_odp_counters *stats;
	struct nlattr *table;

	if (!rxe_mr_is_odp(mr))
		return 0;
	stats = &to_ib_umem_odp(mr->umem)->stats;
	table = nla_nest_start(msg, RDMA_NLDEV_ATTR_STAT_HWCOUNTERS);
	if (!table)
		return -EMSGSIZE;
	if (rdma_nl_stat_hwcounter_entry(msg, "page_faults",
					 atomic64_read(&stats->faults)) ||
	    rdma_nl_stat_hwcounter_entry(msg, "page_invalidations",
					 atomic64_read(&stats->invalidations)) ||
	    rdma_nl_stat_hwcounter_entry(msg, "page_prefetch",
					 atomic64_read(&stats->prefetch))) {
		nla_nest_cancel(msg, table);
		return -EMSGSIZE;
	}
	nla_nest_end(msg, table);
	return 0;
}
