// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * On-demand paging in mlx5: work that user space holds up.
 *
 * A fault or a prefetch holds a reference of the region while it works, and the end
 * of the region waits for that. So it asks the umem for pages that are to be had at
 * once. Where user space decides how long that takes (drivers/infiniband/core/
 * umem_odp_populate.c) it gives up what it holds, has the umem populated, and starts
 * again when that is done. In between it is stalled: nothing but a work item that is
 * not queued, in the list of the device.
 *
 * Who takes a stall out of the list decides about it:
 *
 *	populate is done		queues the work item again
 *	the region ends			the same, with an error: the umem says so
 *	the device goes			drops it
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include "odp.h"

/* How often pages may go again before the work that wants them comes to them. */
#define ODP_STALL_ROUNDS	1000

/* Under the umem's populate_lock. */
static void odp_stall_done(void *data, int result)
{
	struct mlx5_odp_stall *stall = data;
	struct mlx5_ib_pf_eq *eq = stall->eq;

	spin_lock(&eq->stall_lock);
	if (!list_empty(&stall->entry)) {
		list_del_init(&stall->entry);
		stall->result = result;
		queue_work(stall->wq, stall->work);
	}
	spin_unlock(&eq->stall_lock);
}

static bool odp_stall_list(struct mlx5_odp_stall *stall)
{
	struct mlx5_ib_pf_eq *eq = stall->eq;
	bool listed = false;

	spin_lock(&eq->stall_lock);
	if (!eq->stalls_end) {
		list_add_tail(&stall->entry, &eq->stalls);
		listed = true;
	}
	spin_unlock(&eq->stall_lock);
	return listed;
}

/**
 * mlx5_odp_stall_init() - prepare work that may stall
 * @stall: the stall
 * @eq: the device's
 * @wq: where @work is queued
 * @work: the work
 * @drop: frees it when the device goes
 */
void mlx5_odp_stall_init(struct mlx5_odp_stall *stall, struct mlx5_ib_pf_eq *eq,
			 struct workqueue_struct *wq, struct work_struct *work,
			 void (*drop)(struct mlx5_odp_stall *stall))
{
	INIT_LIST_HEAD(&stall->entry);
	stall->eq = eq;
	stall->wq = wq;
	stall->work = work;
	stall->drop = drop;
	stall->populate = NULL;
	stall->rounds = 0;
}

/**
 * mlx5_odp_stall() - have the work queued again when its memory is there
 * @stall: the work's; the work holds nothing of a region
 * @need: what is missing; its umem is given back
 *
 * Context: sleeps, but not for user space. On success the work may be running
 * elsewhere already.
 * Return: 0; -EBUSY if this goes on for too long; -EFAULT if the region is gone; -EIO
 * if the device is going; -ENOMEM.
 */
int mlx5_odp_stall(struct mlx5_odp_stall *stall, struct mlx5_odp_need *need)
{
	struct mlx5_ib_pf_eq *eq = stall->eq;
	int ret = -EIO;

	if (stall->rounds++ == ODP_STALL_ROUNDS) {
		ret = -EBUSY;
	} else if (odp_stall_list(stall)) {
		ret = ib_umem_odp_populate(need->odp, need->start, need->end, need->flags,
					   odp_stall_done, stall, &stall->populate);
		if (ret) {
			spin_lock(&eq->stall_lock);
			list_del_init(&stall->entry);
			spin_unlock(&eq->stall_lock);
		}
	}
	ib_umem_odp_put(need->odp);
	return ret;
}

/**
 * mlx5_odp_stall_end() - the work runs again
 * @stall: the work's; need not have been stalled
 *
 * Context: sleeps.
 * Return: 0; otherwise why its memory cannot be had.
 */
int mlx5_odp_stall_end(struct mlx5_odp_stall *stall)
{
	if (!stall->populate)
		return 0;
	ib_odp_populate_end(stall->populate);
	stall->populate = NULL;
	return stall->result;
}

/**
 * mlx5_odp_stalls_init() - no work is stalled
 * @eq: the device's
 */
void mlx5_odp_stalls_init(struct mlx5_ib_pf_eq *eq)
{
	spin_lock_init(&eq->stall_lock);
	INIT_LIST_HEAD(&eq->stalls);
	eq->stalls_end = false;
}

/**
 * mlx5_odp_stalls_end() - drop all stalled work: the device goes
 * @eq: the device's; no fault or prefetch comes any more
 *
 * On return none is stalled or will be. What runs or is queued ends by itself.
 *
 * Context: sleeps.
 */
void mlx5_odp_stalls_end(struct mlx5_ib_pf_eq *eq)
{
	struct mlx5_odp_stall *stall;

	spin_lock(&eq->stall_lock);
	eq->stalls_end = true;
	spin_unlock(&eq->stall_lock);
	/* Those in the list have their populates after this. */
	flush_workqueue(eq->wq);
	flush_workqueue(eq->prefetch_wq);
	for (;;) {
		spin_lock(&eq->stall_lock);
		stall = list_first_entry_or_null(&eq->stalls, struct mlx5_odp_stall, entry);
		if (stall)
			list_del_init(&stall->entry);
		spin_unlock(&eq->stall_lock);
		if (!stall)
			break;
		mlx5_odp_stall_end(stall);
		stall->drop(stall);
	}
}

/* ---- faults ---- */

/* A fault that is stalled: not in the pool, whose objects are for those that are not. */
struct odp_stalled_fault {
	struct mlx5_odp_stall stall;
	struct work_struct work;
	struct mlx5_odp_fault fault;
};

static void odp_stalled_drop(struct mlx5_odp_stall *stall)
{
	kfree(container_of(stall, struct odp_stalled_fault, stall));
}

static void odp_stalled_free(struct mlx5_odp_fault *fault)
{
	kfree(container_of(fault, struct odp_stalled_fault, fault));
}

static void odp_stalled_work(struct work_struct *work)
{
	struct odp_stalled_fault *stalled =
		container_of(work, struct odp_stalled_fault, work);
	struct mlx5_odp_fault *fault = &stalled->fault;
	int ret;

	ret = mlx5_odp_stall_end(&stalled->stall);
	if (!ret)
		ret = mlx5_odp_handle(fault);
	if (ret == MLX5_ODP_STALLED) {
		ret = mlx5_odp_stall(&stalled->stall, &fault->fill.need);
		if (!ret)
			return;
	}
	mlx5_odp_answer(fault, ret);
}

/**
 * mlx5_odp_stall_fault() - handle a fault later
 * @eq: the device's
 * @fault: the fault; copied
 *
 * Its fill has what it needs, the umem of which is given back.
 *
 * Context: sleeps, but not for user space.
 * Return: 0: it will be answered; otherwise what to answer now.
 */
int mlx5_odp_stall_fault(struct mlx5_ib_pf_eq *eq, struct mlx5_odp_fault *fault)
{
	CLASS(ib_odp_charge, charge)(fault->fill.need.odp);
	struct odp_stalled_fault *stalled = kzalloc(sizeof(*stalled), GFP_KERNEL_ACCOUNT);
	int ret;

	if (!stalled) {
		ib_umem_odp_put(fault->fill.need.odp);
		return -ENOMEM;
	}
	stalled->fault = *fault;
	stalled->fault.free = odp_stalled_free;
	INIT_WORK(&stalled->work, odp_stalled_work);
	mlx5_odp_stall_init(&stalled->stall, eq, eq->wq, &stalled->work, odp_stalled_drop);
	ret = mlx5_odp_stall(&stalled->stall, &fault->fill.need);
	if (ret)
		kfree(stalled);
	return ret;
}
