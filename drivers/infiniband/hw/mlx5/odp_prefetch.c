// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * On-demand paging in mlx5: pages that the user asks for in advance.
 *
 * With IB_UVERBS_ADVISE_MR_FLAG_FLUSH the call returns when they are there,
 * without it a work item brings them in. In both cases all regions are found,
 * and their rights looked at, before anything is done. Such work has a queue of
 * its own: faults are not behind what was asked for in advance, and the module
 * stays until the last one has returned, which may be after its regions went.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include "odp.h"

struct odp_prefetch {
	struct work_struct work;
	unsigned int flags;
	u32 nr;
	struct {
		struct mlx5_ib_mr *mr;
		u64 va;
		u64 length;
	} parts[] __counted_by(nr);
};

static struct mlx5_ib_mr *odp_hold_region(struct ib_pd *pd, u32 lkey, bool write)
{
	struct mlx5_ib_dev *dev = to_mdev(pd->device);
	struct mlx5_ib_mkey *mmkey;
	struct mlx5_ib_mr *mr;

	xa_lock(&dev->odp_mkeys);
	mmkey = xa_load(&dev->odp_mkeys, mlx5_base_mkey(lkey));
	if (!mmkey || mmkey->key != lkey) {
		mr = ERR_PTR(-ENOENT);
	} else if (mmkey->type != MLX5_MKEY_MR) {
		mr = ERR_PTR(-EINVAL);
	} else {
		mr = container_of(mmkey, struct mlx5_ib_mr, mmkey);
		if (mr->ibmr.pd != pd || (write && !mr->umem->writable))
			mr = ERR_PTR(-EPERM);
		else if (!is_odp_mr(mr))
			mr = ERR_PTR(-EINVAL);
		else
			refcount_inc(&mmkey->usecount);
	}
	xa_unlock(&dev->odp_mkeys);
	return mr;
}

static void odp_prefetch_free(struct odp_prefetch *p)
{
	u32 i;

	for (i = 0; i < p->nr; i++)
		if (p->parts[i].mr)
			mlx5r_deref_odp_mkey(&p->parts[i].mr->mmkey);
	kvfree(p);
}

static struct odp_prefetch *odp_prefetch_alloc(struct ib_pd *pd, bool write,
					       const struct ib_sge *list, u32 nr)
{
	struct odp_prefetch *p = kvzalloc(struct_size(p, parts, nr), GFP_KERNEL);
	struct mlx5_ib_mr *mr;
	u32 i;

	if (!p)
		return ERR_PTR(-ENOMEM);
	p->nr = nr;
	for (i = 0; i < nr; i++) {
		mr = odp_hold_region(pd, list[i].lkey, write);
		if (IS_ERR(mr)) {
			odp_prefetch_free(p);
			return ERR_CAST(mr);
		}
		p->parts[i].mr = mr;
		p->parts[i].va = list[i].addr;
		p->parts[i].length = list[i].length;
	}
	return p;
}

static int odp_prefetch_run(struct odp_prefetch *p)
{
	int ret = 0;
	u32 i;

	for (i = 0; i < p->nr && !ret; i++)
		ret = mlx5_odp_fault_mr(p->parts[i].mr, p->parts[i].va,
					p->parts[i].length, p->flags);
	return ret;
}

static void odp_prefetch_work(struct work_struct *work)
{
	struct odp_prefetch *p = container_of(work, struct odp_prefetch, work);

	/* Nobody is told; the access will fault. */
	odp_prefetch_run(p);
	odp_prefetch_free(p);
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
 * mlx5_odp_fault_mr() says.
 */
int mlx5_ib_advise_mr_prefetch(struct ib_pd *pd, enum ib_uverbs_advise_mr_advice advice,
			       u32 flags, struct ib_sge *sg_list, u32 num_sge)
{
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
		queue_work(to_mdev(pd->device)->odp_pf_eq.prefetch_wq, &p->work);
		return 0;
	}
	ret = odp_prefetch_run(p);
	odp_prefetch_free(p);
	return ret;
}
