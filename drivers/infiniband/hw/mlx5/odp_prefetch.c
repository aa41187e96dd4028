// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * On-demand paging in mlx5: pages that the user asks for in advance.
 *
 * With IB_UVERBS_ADVISE_MR_FLAG_FLUSH the call returns when they are there,
 * without it a work item brings them in. In both cases all regions are found,
 * and their rights looked at, before anything is done. Such work has a queue of
 * its own, so that faults do not wait for it.
 *
 * What it keeps of a region is its umem, by which it knows it again: a prefetch can
 * last as long as user space wants, and the region may end meanwhile. For each piece of
 * work it finds the region anew.
 *
 * A dma-buf region is prefetched as a whole: its pages come and go together, and where they
 * are is the exporter's to say. Nothing of it is kept. If another one has its key by then,
 * that is the one which is prefetched; as that has just been mapped, it does no harm.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include "odp.h"

/**
 * struct odp_prefetch - what one call asks for
 * @work: brings it in
 * @stall: that it waits for memory
 * @dev: the device
 * @pd: the domain, to be compared only: it may be gone
 * @flags: enum ib_odp_fault_flags
 * @at: which of @parts is next
 * @nr: how many there are
 * @parts: of regions; the umem is held, and NULL for a dma-buf
 */
struct odp_prefetch {
	struct work_struct work;
	struct mlx5_odp_stall stall;
	struct mlx5_ib_dev *dev;
	const struct ib_pd *pd;
	unsigned int flags;
	u32 at;
	u32 nr;
	struct {
		struct ib_umem_odp *odp;
		u32 key;
		u64 va;
		u64 length;
	} parts[] __counted_by(nr);
};

static struct mlx5_ib_mr *odp_find_region(struct mlx5_ib_dev *dev, u32 key)
{
	struct mlx5_ib_mkey *mmkey = xa_load(&dev->odp_mkeys, mlx5_base_mkey(key));

	if (!mmkey || mmkey->key != key)
		return ERR_PTR(-ENOENT);
	if (mmkey->type != MLX5_MKEY_MR)
		return ERR_PTR(-EINVAL);
	return container_of(mmkey, struct mlx5_ib_mr, mmkey);
}

/* The umem of a region that may be prefetched, held; NULL: it is a dma-buf's. */
static struct ib_umem_odp *odp_hold_umem(struct ib_pd *pd, u32 lkey, bool write)
{
	struct mlx5_ib_dev *dev = to_mdev(pd->device);
	struct ib_umem_odp *odp;
	struct mlx5_ib_mr *mr;

	xa_lock(&dev->odp_mkeys);
	mr = odp_find_region(dev, lkey);
	if (IS_ERR(mr)) {
		odp = ERR_CAST(mr);
	} else if (mr->ibmr.pd != pd || (write && !mr->umem->writable)) {
		odp = ERR_PTR(-EPERM);
	} else if (is_dmabuf_mr(mr)) {
		odp = NULL;
	} else if (!is_odp_mr(mr)) {
		odp = ERR_PTR(-EINVAL);
	} else {
		odp = to_ib_umem_odp(mr->umem);
		ib_umem_odp_hold(odp);
	}
	xa_unlock(&dev->odp_mkeys);
	return odp;
}

/* Is it the region that a part was of when the call found it? */
static bool odp_is_part_of(const struct odp_prefetch *p, struct mlx5_ib_mr *mr)
{
	const struct ib_umem_odp *odp = p->parts[p->at].odp;

	return odp ? mr->umem == &odp->umem : is_dmabuf_mr(mr) && mr->ibmr.pd == p->pd;
}

/* The region of the next part, referenced; -EFAULT if that has ended. */
static struct mlx5_ib_mr *odp_hold_region(const struct odp_prefetch *p)
{
	struct mlx5_ib_dev *dev = p->dev;
	struct mlx5_ib_mr *mr;

	xa_lock(&dev->odp_mkeys);
	mr = odp_find_region(dev, p->parts[p->at].key);
	if (IS_ERR(mr) || !odp_is_part_of(p, mr) ||
	    !refcount_inc_not_zero(&mr->mmkey.usecount))
		mr = ERR_PTR(-EFAULT);
	xa_unlock(&dev->odp_mkeys);
	return mr;
}

static void odp_prefetch_free(struct odp_prefetch *p)
{
	u32 i;

	for (i = 0; i < p->nr; i++)
		if (p->parts[i].odp)
			ib_umem_odp_put(p->parts[i].odp);
	kvfree(p);
}

static struct odp_prefetch *odp_prefetch_alloc(struct ib_pd *pd, bool write,
					       const struct ib_sge *list, u32 nr)
{
	struct odp_prefetch *p = kvzalloc(struct_size(p, parts, nr), GFP_KERNEL_ACCOUNT);
	struct ib_umem_odp *odp;
	u32 i;

	if (!p)
		return ERR_PTR(-ENOMEM);
	p->dev = to_mdev(pd->device);
	p->pd = pd;
	p->nr = nr;
	for (i = 0; i < nr; i++) {
		odp = odp_hold_umem(pd, list[i].lkey, write);
		if (IS_ERR(odp)) {
			odp_prefetch_free(p);
			return ERR_CAST(odp);
		}
		p->parts[i].odp = odp;
		p->parts[i].key = list[i].lkey;
		p->parts[i].va = list[i].addr;
		p->parts[i].length = list[i].length;
	}
	return p;
}

/* What moved is mapped where it is now. What did not is known to the device. */
static int odp_prefetch_dmabuf(const struct odp_prefetch *p, struct mlx5_ib_mr *mr)
{
	u64 offset = p->parts[p->at].va - mr->ibmr.iova;

	if (offset > mr->ibmr.length || p->parts[p->at].length > mr->ibmr.length - offset)
		return -EFAULT;
	return p->flags & IB_ODP_FAULT_PRESENT ? 0 : mlx5_odp_fault_dmabuf(mr);
}

/* The end of a region waits for one step, so that is a chunk's worth of pages. */
static int odp_prefetch_step(struct odp_prefetch *p, struct mlx5_odp_need *need)
{
	struct mlx5_odp_fill fill = { .dev = p->dev };
	typeof(p->parts[0]) *part = &p->parts[p->at];
	u64 length = min_t(u64, part->length, IB_ODP_CHUNK_SIZE);
	struct mlx5_ib_mr *mr;
	int ret;

	mr = odp_hold_region(p);
	if (IS_ERR(mr))
		return PTR_ERR(mr);
	if (!part->odp) {
		ret = odp_prefetch_dmabuf(p, mr);
		mlx5r_deref_odp_mkey(&mr->mmkey);
		part->length = 0;
		return ret;
	}
	ret = mlx5_odp_fault_mr(&fill, mr, part->va, length, p->flags);
	ret = mlx5_odp_fill_end(&fill, ret);
	mlx5r_deref_odp_mkey(&mr->mmkey);
	*need = fill.need;
	if (ret == MLX5_ODP_STALLED)
		length = need->done;
	else if (ret)
		return ret;
	part->va += length;
	part->length -= length;
	return ret;
}

/* Until memory is missing: it goes on from there. */
static int odp_prefetch_run(struct odp_prefetch *p, struct mlx5_odp_need *need)
{
	int ret;

	for (; p->at < p->nr; p->at++) {
		do {
			ret = odp_prefetch_step(p, need);
			if (ret)
				return ret;
		} while (p->parts[p->at].length);
	}
	return 0;
}

static void odp_prefetch_drop(struct mlx5_odp_stall *stall)
{
	odp_prefetch_free(container_of(stall, struct odp_prefetch, stall));
}

static void odp_prefetch_work(struct work_struct *work)
{
	struct odp_prefetch *p = container_of(work, struct odp_prefetch, work);
	struct mlx5_odp_need need;
	int ret;

	ret = mlx5_odp_stall_end(&p->stall);
	if (!ret)
		ret = odp_prefetch_run(p, &need);
	/* It is advice: if this fails, the access will fault. */
	if (ret != MLX5_ODP_STALLED || mlx5_odp_stall(&p->stall, &need))
		odp_prefetch_free(p);
}

/* In the process that asked, which waits for its own memory as it would at any access. */
static int odp_prefetch_now(struct odp_prefetch *p)
{
	struct mlx5_odp_need need;
	int ret;

	while ((ret = odp_prefetch_run(p, &need)) == MLX5_ODP_STALLED) {
		ret = ib_umem_odp_populate_now(need.odp, need.start, need.end, need.flags);
		ib_umem_odp_put(need.odp);
		if (ret)
			break;
	}
	return ret;
}

/**
 * mlx5_ib_advise_mr_prefetch() - ibv_advise_mr() of an IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH
 * @pd: whose regions
 * @advice: for reading, for writing, or only what is present anyway
 * @flags: IB_UVERBS_ADVISE_MR_FLAG_FLUSH: return when it is done
 * @sg_list: what
 * @num_sge: its length
 *
 * Context: sleeps.
 * Return: 0; -ENOENT if there is no such region, -EINVAL if it is not paged,
 * -EPERM if it is not of @pd or not to be written; -ENOMEM; and with FLUSH what
 * mlx5_odp_fault_mr() says, or of a dma-buf mlx5_odp_fault_dmabuf().
 */
int mlx5_ib_advise_mr_prefetch(struct ib_pd *pd, enum ib_uverbs_advise_mr_advice advice,
			       u32 flags, struct ib_sge *sg_list, u32 num_sge)
{
	struct mlx5_ib_pf_eq *eq = &to_mdev(pd->device)->odp_pf_eq;
	bool write = advice == IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_WRITE;
	struct odp_prefetch *p;
	int ret;

	p = odp_prefetch_alloc(pd, write, sg_list, num_sge);
	if (IS_ERR(p))
		return PTR_ERR(p);
	p->flags = IB_ODP_FAULT_PREFETCH;
	if (write)
		p->flags |= IB_ODP_FAULT_WRITE;
	if (advice == IB_UVERBS_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT)
		p->flags |= IB_ODP_FAULT_PRESENT;
	if (!(flags & IB_UVERBS_ADVISE_MR_FLAG_FLUSH)) {
		INIT_WORK(&p->work, odp_prefetch_work);
		mlx5_odp_stall_init(&p->stall, eq, eq->prefetch_wq, &p->work,
				    odp_prefetch_drop);
		queue_work(eq->prefetch_wq, &p->work);
		return 0;
	}
	ret = odp_prefetch_now(p);
	odp_prefetch_free(p);
	return ret;
}
