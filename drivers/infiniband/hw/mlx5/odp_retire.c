// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * On-demand paging in mlx5: children without users and chunks are retired.
 *
 * A work item of the region does this in batches, some time after chunks were freed.
 * The entries of a batch are taken out of their tables with a UMR for each granule,
 * and waited for once. Faults wait for odp_children_lock meanwhile. The keys are
 * disabled after that, without the lock. See odp_child.c for the protocol.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include "odp_child.h"
#include "umr.h"

/* How long a child may have nothing before it is taken for useless. */
#define ODP_CHILD_LINGER	HZ
/* Children that go before the lock is given to faults. */
#define ODP_CHILD_BATCH		32

/* Children that go together, and the UMRs that take their entries away. */
struct odp_batch {
	struct list_head gone;
	int results[ODP_CHILD_BATCH];
	unsigned int nr;
};

static bool odp_child_idle(struct mlx5_odp_child *child)
{
	struct ib_umem_odp *odp = to_ib_umem_odp(child->parent->umem);
	u64 end = min(child->va + BIT_ULL(MLX5_ODP_LEAF_SHIFT),
		      mlx5_odp_last_va(child->parent) + 1);
	u64 start = max(child->va, child->parent->ibmr.iova);

	if (child->users)
		return false;
	return child->level == MLX5_ODP_NODE ||
	       !ib_umem_odp_has_chunks(odp, mlx5_odp_addr(child->parent, start),
				       mlx5_odp_addr(child->parent, end));
}

static bool odp_child_retire(struct mlx5_odp_child *child)
{
	struct xarray *children = mlx5_odp_children(child->parent, child->level);

	xa_lock(children);
	if (odp_child_idle(child))
		child->state = ODP_CHILD_RETIRED;
	xa_unlock(children);
	return child->state == ODP_CHILD_RETIRED;
}

static bool odp_same_granule(const struct mlx5_odp_child *one, const struct mlx5_odp_child *two)
{
	return one->up == two->up && mlx5_odp_granule(one) == mlx5_odp_granule(two);
}

/*
 * Retire a batch of idle children, and post their entries, a UMR for each granule that
 * has some of them. Return: what to wait for, 0: none; @index is where to go on.
 */
static unsigned long odp_batch_retire(struct mlx5_ib_mr *mr, enum mlx5_odp_level level,
				      struct odp_batch *batch, unsigned long *index)
{
	struct mlx5_odp_child *child, *before = NULL;
	unsigned long last = 0;

	for (child = xa_find(mlx5_odp_children(mr, level), index, ULONG_MAX, XA_PRESENT); child;
	     child = xa_find_after(mlx5_odp_children(mr, level), index, ULONG_MAX, XA_PRESENT)) {
		if (before && !odp_same_granule(before, child)) {
			last = mlx5_odp_entry_post(before, &batch->results[batch->nr]);
			before = NULL;
			if (++batch->nr == ODP_CHILD_BATCH)
				return last;
		}
		if (!odp_child_retire(child))
			continue;
		child->slot = batch->nr;
		list_add_tail(&child->gone, &batch->gone);
		before = child;
	}
	if (before)
		last = mlx5_odp_entry_post(before, &batch->results[batch->nr]);
	*index = ULONG_MAX;
	return last;
}

/* Take a batch of idle children out of their tables. */
static void odp_children_retire(struct mlx5_ib_mr *mr, enum mlx5_odp_level level,
				struct odp_batch *batch, unsigned long *index)
{
	struct mlx5_odp_child *child, *next;
	unsigned long last;

	mutex_lock(&mr->odp_children_lock);
	batch->nr = 0;
	last = odp_batch_retire(mr, level, batch, index);
	if (last)
		mlx5r_umr_wait(mr_to_mdev(mr), last);
	list_for_each_entry_safe(child, next, &batch->gone, gone) {
		if (batch->results[child->slot]) {
			/* The table still says that it is there. So it is. */
			list_del(&child->gone);
			mlx5_odp_child_set_state(child, ODP_CHILD_ALIVE);
			continue;
		}
		xa_erase(mlx5_odp_children(mr, level), mlx5_odp_index(mr, level, child->va));
		if (child->up)
			mlx5_odp_child_put(child->up);
	}
	mutex_unlock(&mr->odp_children_lock);
}

/* Not under the lock: a fault that names one may be waiting for it. */
static void odp_children_leave(struct mlx5_ib_dev *dev, struct odp_batch *batch)
{
	struct mlx5_odp_child *child, *next;
	struct mlx5_odp_name *name;
	unsigned long last = 0;

	list_for_each_entry(child, &batch->gone, gone) {
		if (child->level == MLX5_ODP_LEAF && mlx5_odp_memory_scheme(dev))
			child->name = mlx5_odp_name_keep(dev, child->mmkey.key);
		mlx5r_forget_odp_mkey(dev, &child->mmkey);
		last = mlx5_odp_child_post_disable(child);
	}
	if (!list_empty(&batch->gone))
		mlx5r_umr_wait(dev, last);
	list_for_each_entry_safe(child, next, &batch->gone, gone) {
		name = child->name;
		mlx5_odp_child_free(child);
		if (name)
			mlx5_odp_name_expires(dev, name);
	}
	INIT_LIST_HEAD(&batch->gone);
}

/**
 * mlx5_odp_children_work() - retire the children of a region that are not needed
 * @work: its odp_children_work
 */
void mlx5_odp_children_work(struct work_struct *work)
{
	struct mlx5_ib_mr *mr = container_of(to_delayed_work(work), struct mlx5_ib_mr,
					     odp_children_work);
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);
	struct odp_batch batch = { .gone = LIST_HEAD_INIT(batch.gone) };
	enum mlx5_odp_level level;
	unsigned long index;

	CLASS(ib_odp_charge, charge)(to_ib_umem_odp(mr->umem));
	/* Leaves first: a node without any goes, too. */
	for (level = MLX5_ODP_LEAF; level <= mr->odp_top; level++) {
		for (index = 0; index != ULONG_MAX;) {
			odp_children_retire(mr, level, &batch, &index);
			odp_children_leave(dev, &batch);
			cond_resched();
		}
	}
}

/**
 * mlx5_odp_reaped() - chunks of a region were freed
 * @odp: the region's umem
 *
 * Context: any.
 */
void mlx5_odp_reaped(struct ib_umem_odp *odp)
{
	struct mlx5_ib_mr *mr = odp->private;

	if (mr->odp_has_children)
		queue_delayed_work(system_unbound_wq, &mr->odp_children_work, ODP_CHILD_LINGER);
}
