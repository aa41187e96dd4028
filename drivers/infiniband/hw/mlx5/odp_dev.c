// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * On-demand paging in mlx5: capabilities, and the queue that faults come by.
 *
 * The adapter reports a page fault by an event. The interrupt handler copies it
 * into an object of a pool and queues that; each is handled by a work item of
 * its own, so that faults of different queues and regions go on side by side.
 * When the pool is empty, and its memory is not to be had in an interrupt, a
 * work item waits for the first object that a fault gives back: faults always
 * end, whether memory is short or not, so that there is one in the end. Reclaim may wait
 * for that, so the work item has a workqueue with a rescuer. It is another one than the
 * faults', whose rescuer would wait in it for faults that only the rescuer could handle.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/mempool.h>

#include "odp.h"
#include "umr.h"

#include <linux/mlx5/eq.h>

#define ODP_EQ_ENTRIES		0x1000
#define ODP_POOL_FAULTS		64

static void odp_fault_free(struct mlx5_odp_fault *fault)
{
	mempool_free(fault, fault->eq->pool);
}

static void odp_fault_work(struct work_struct *work)
{
	struct mlx5_odp_fault *fault = container_of(work, struct mlx5_odp_fault, work);
	int ret;

	ret = mlx5_odp_handle(fault);
	if (ret == MLX5_ODP_STALLED) {
		ret = mlx5_odp_stall_fault(fault->eq, fault);
		if (!ret) {
			odp_fault_free(fault);
			return;
		}
	}
	mlx5_odp_answer(fault, ret);
}

static void odp_queue(struct mlx5_ib_pf_eq *eq, const struct mlx5_eqe *eqe,
		      struct mlx5_odp_fault *fault)
{
	fault->eq = eq;
	fault->free = odp_fault_free;
	mlx5_odp_decode(eq->dev, eqe, fault);
	INIT_WORK(&fault->work, odp_fault_work);
	queue_work(eq->wq, &fault->work);
}

/* Take what is there; @spare is used first, and may be NULL. */
static void odp_drain(struct mlx5_ib_pf_eq *eq, struct mlx5_odp_fault *spare)
{
	struct mlx5_odp_fault *fault;
	struct mlx5_eqe *eqe;
	u32 cc = 0;

	lockdep_assert_held(&eq->lock);
	while ((eqe = mlx5_eq_get_eqe(eq->core, cc))) {
		fault = spare ?: mempool_alloc(eq->pool, GFP_ATOMIC | __GFP_NOWARN);
		spare = NULL;
		if (!fault) {
			queue_work(eq->refill_wq, &eq->work);
			break;
		}
		odp_queue(eq, eqe, fault);
		cc = mlx5_eq_update_cc(eq->core, ++cc);
	}
	mlx5_eq_update_ci(eq->core, cc, 1);
	if (spare)
		mempool_free(spare, eq->pool);
}

static int odp_interrupt(struct notifier_block *nb, unsigned long type, void *data)
{
	struct mlx5_ib_pf_eq *eq = container_of(nb, struct mlx5_ib_pf_eq, irq_nb);
	unsigned long flags;

	spin_lock_irqsave(&eq->lock, flags);
	odp_drain(eq, NULL);
	spin_unlock_irqrestore(&eq->lock, flags);
	return IRQ_HANDLED;
}

static void odp_refill_work(struct work_struct *work)
{
	struct mlx5_ib_pf_eq *eq = container_of(work, struct mlx5_ib_pf_eq, work);
	/* Waits for a fault to end, if it has to. */
	struct mlx5_odp_fault *spare = mempool_alloc(eq->pool, GFP_NOIO);

	spin_lock_irq(&eq->lock);
	odp_drain(eq, spare);
	spin_unlock_irq(&eq->lock);
}

static int odp_zeros_alloc(struct mlx5_ib_dev *dev, struct mlx5_odp_buffer *zeros)
{
	int ret = mlx5_odp_buffer_get(dev, zeros, MLX5_ODP_SAME_ORDER);

	if (ret)
		return ret;
	memset(zeros->mtts, 0, MLX5_ODP_SAME_SIZE);
	mlx5_odp_buffer_sync(dev, zeros, 0, MLX5_ODP_SAME_SIZE);
	return 0;
}

/* In the memory scheme an entry without a child also says which one it is. */
static int odp_nulls_alloc(struct mlx5_ib_dev *dev, struct mlx5_odp_buffer *nulls)
{
	struct mlx5_ksm *ksm;
	size_t i;
	int ret;

	if (mlx5_odp_memory_scheme(dev))
		return 0;
	ret = mlx5_odp_buffer_get(dev, nulls, MLX5_ODP_SAME_ORDER);
	if (ret)
		return ret;
	ksm = (void *)nulls->mtts;
	for (i = 0; i < MLX5_ODP_SAME_SIZE / sizeof(*ksm); i++)
		ksm[i] = (struct mlx5_ksm) { .key = dev->mkeys.null_mkey };
	mlx5_odp_buffer_sync(dev, nulls, 0, MLX5_ODP_SAME_SIZE);
	return 0;
}

/* Zaps must not allocate; and there are keys that wait for regions. */
static int odp_create_common(struct mlx5_ib_dev *dev, struct mlx5_ib_pf_eq *eq)
{
	int ret;

	ret = odp_zeros_alloc(dev, &eq->zeros);
	if (ret)
		return ret;
	ret = odp_nulls_alloc(dev, &eq->nulls);
	if (ret)
		goto out_zeros;
	ret = -ENOMEM;
	eq->slots = mlx5_odp_slots_create(dev);
	if (!eq->slots)
		goto out_nulls;
	eq->key_pool = mlx5_odp_pool_create(dev);
	if (eq->key_pool)
		return 0;
	mlx5_odp_slots_destroy(dev, eq->slots);
out_nulls:
	mlx5_odp_buffer_put(dev, &eq->nulls, MLX5_ODP_SAME_ORDER);
out_zeros:
	mlx5_odp_buffer_put(dev, &eq->zeros, MLX5_ODP_SAME_ORDER);
	return ret;
}

static void odp_destroy_common(struct mlx5_ib_dev *dev, struct mlx5_ib_pf_eq *eq)
{
	mlx5_odp_pool_free(eq->key_pool);
	eq->key_pool = NULL;
	mlx5_odp_slots_destroy(dev, eq->slots);
	mlx5_odp_buffer_put(dev, &eq->nulls, MLX5_ODP_SAME_ORDER);
	mlx5_odp_buffer_put(dev, &eq->zeros, MLX5_ODP_SAME_ORDER);
}

static int odp_start_eq(struct mlx5_ib_dev *dev, struct mlx5_ib_pf_eq *eq)
{
	struct mlx5_eq_param param = {
		.nent = ODP_EQ_ENTRIES,
		.mask[0] = 1ull << MLX5_EVENT_TYPE_PAGE_FAULT,
	};
	struct mlx5_eq *core;
	int ret;

	core = mlx5_eq_create_generic(dev->mdev, &param);
	if (IS_ERR(core))
		return PTR_ERR(core);
	eq->core = core;
	eq->irq_nb.notifier_call = odp_interrupt;
	ret = mlx5_eq_enable(dev->mdev, core, &eq->irq_nb);
	if (ret) {
		mlx5_eq_destroy_generic(dev->mdev, core);
		eq->core = NULL;
	}
	return ret;
}

static int odp_create_eq(struct mlx5_ib_dev *dev, struct mlx5_ib_pf_eq *eq)
{
	int ret = -ENOMEM;

	eq->dev = dev;
	spin_lock_init(&eq->lock);
	INIT_WORK(&eq->work, odp_refill_work);
	mlx5_odp_names_init(eq);
	mlx5_odp_stalls_init(eq);
	mlx5_odp_answers_init(eq);
	eq->pool = mempool_create_kmalloc_pool(ODP_POOL_FAULTS,
					       sizeof(struct mlx5_odp_fault));
	if (!eq->pool)
		return -ENOMEM;
	/* Reclaim may wait for a device that waits for these. */
	eq->wq = alloc_workqueue("mlx5_ib_odp", WQ_HIGHPRI | WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	if (!eq->wq)
		goto out_pool;
	eq->refill_wq = alloc_ordered_workqueue("mlx5_ib_refill", WQ_HIGHPRI | WQ_MEM_RECLAIM);
	if (!eq->refill_wq)
		goto out_wq;
	eq->prefetch_wq = alloc_workqueue("mlx5_ib_prefetch", WQ_UNBOUND, 0);
	if (!eq->prefetch_wq)
		goto out_refill;
	ret = odp_create_common(dev, eq);
	if (ret)
		goto out_prefetch;
	ret = odp_start_eq(dev, eq);
	if (ret)
		goto out_common;
	return 0;

out_common:
	odp_destroy_common(dev, eq);
out_prefetch:
	destroy_workqueue(eq->prefetch_wq);
out_refill:
	destroy_workqueue(eq->refill_wq);
out_wq:
	destroy_workqueue(eq->wq);
out_pool:
	mempool_destroy(eq->pool);
	return ret;
}

/**
 * mlx5r_odp_create_eq() - have what page faults need, made by the first region
 * @dev: the device
 * @eq: its queue
 *
 * Context: sleeps.
 * Return: 0; -EOPNOTSUPP where the device has no paging; -ENOMEM, or what the
 * device's command said.
 */
int mlx5r_odp_create_eq(struct mlx5_ib_dev *dev, struct mlx5_ib_pf_eq *eq)
{
	int ret;

	if (!(dev->odp_caps.general_caps & IB_ODP_SUPPORT))
		return -EOPNOTSUPP;
	/* Zaps and faults both write translations. */
	ret = mlx5r_umr_resource_init(dev);
	if (ret)
		return ret;
	mutex_lock(&dev->odp_eq_mutex);
	if (!eq->core)
		ret = odp_create_eq(dev, eq);
	mutex_unlock(&dev->odp_eq_mutex);
	return ret;
}

static void odp_destroy_eq(struct mlx5_ib_dev *dev, struct mlx5_ib_pf_eq *eq)
{
	if (!eq->core)
		return;
	mlx5_eq_disable(dev->mdev, eq->core, &eq->irq_nb);
	cancel_work_sync(&eq->work);
	destroy_workqueue(eq->refill_wq);
	mlx5_odp_stalls_end(eq);
	/* The last faults are being handled; then some may still be answered in one. */
	flush_workqueue(eq->wq);
	mlx5_odp_answers_end(eq);
	destroy_workqueue(eq->wq);
	destroy_workqueue(eq->prefetch_wq);
	mlx5_eq_destroy_generic(dev->mdev, eq->core);
	mlx5_odp_names_destroy(eq);
	mempool_destroy(eq->pool);
	odp_destroy_common(dev, eq);
	eq->core = NULL;
}

#define ODP_CAP(dev, transport, service, bit) \
	(MLX5_CAP_ODP_SCHEME((dev)->mdev, transport##_odp_caps.service) ? (bit) : 0)

static void odp_fill_caps(struct mlx5_ib_dev *dev)
{
	struct ib_odp_caps *caps = &dev->odp_caps;

	if (!MLX5_CAP_GEN(dev->mdev, pg) || !mlx5r_umr_can_load_pas(dev, 0))
		return;
	caps->general_caps = IB_ODP_SUPPORT;
	dev->odp_max_size = MLX5_CAP_GEN(dev->mdev, umr_extended_translation_offset) ?
			    U64_MAX : BIT_ULL(MLX5_MAX_UMR_SHIFT + PAGE_SHIFT);
	/* Tables of keys, each of a fixed length, over one that always faults. */
	if (MLX5_CAP_GEN(dev->mdev, fixed_buffer_size) &&
	    MLX5_CAP_GEN(dev->mdev, max_indirection) > MLX5_ODP_NODE &&
	    MLX5_CAP_GEN(dev->mdev, null_mkey) &&
	    MLX5_CAP_GEN(dev->mdev, umr_extended_translation_offset) &&
	    !MLX5_CAP_GEN(dev->mdev, umr_indirect_mkey_disabled))
		caps->general_caps |= IB_ODP_SUPPORT_IMPLICIT;

	caps->per_transport_caps.ud_odp_caps =
		ODP_CAP(dev, ud, send, IB_ODP_SUPPORT_SEND) |
		ODP_CAP(dev, ud, srq_receive, IB_ODP_SUPPORT_SRQ_RECV);
	caps->per_transport_caps.rc_odp_caps =
		ODP_CAP(dev, rc, send, IB_ODP_SUPPORT_SEND) |
		ODP_CAP(dev, rc, receive, IB_ODP_SUPPORT_RECV) |
		ODP_CAP(dev, rc, write, IB_ODP_SUPPORT_WRITE) |
		ODP_CAP(dev, rc, read, IB_ODP_SUPPORT_READ) |
		ODP_CAP(dev, rc, atomic, IB_ODP_SUPPORT_ATOMIC) |
		ODP_CAP(dev, rc, srq_receive, IB_ODP_SUPPORT_SRQ_RECV);
	caps->per_transport_caps.xrc_odp_caps =
		ODP_CAP(dev, xrc, send, IB_ODP_SUPPORT_SEND) |
		ODP_CAP(dev, xrc, receive, IB_ODP_SUPPORT_RECV) |
		ODP_CAP(dev, xrc, write, IB_ODP_SUPPORT_WRITE) |
		ODP_CAP(dev, xrc, read, IB_ODP_SUPPORT_READ) |
		ODP_CAP(dev, xrc, atomic, IB_ODP_SUPPORT_ATOMIC) |
		ODP_CAP(dev, xrc, srq_receive, IB_ODP_SUPPORT_SRQ_RECV);
}

static const struct ib_device_ops odp_device_ops = {
	.advise_mr = mlx5_ib_advise_mr,
};

int mlx5_ib_odp_init_one(struct mlx5_ib_dev *dev)
{
	mutex_init(&dev->odp_eq_mutex);
	odp_fill_caps(dev);
	if (dev->odp_caps.general_caps & IB_ODP_SUPPORT)
		ib_set_device_ops(&dev->ib_dev, &odp_device_ops);
	return 0;
}

/**
 * mlx5_ib_odp_drain() - destroy the keys that wait for regions
 * @dev: the device, which has no region any more, and whose PD for UMRs still exists
 *
 * Context: sleeps.
 */
void mlx5_ib_odp_drain(struct mlx5_ib_dev *dev)
{
	if (dev->odp_pf_eq.key_pool)
		mlx5_odp_pool_drain(dev->odp_pf_eq.key_pool);
}

void mlx5_ib_odp_cleanup_one(struct mlx5_ib_dev *dev)
{
	odp_destroy_eq(dev, &dev->odp_pf_eq);
}

int mlx5_ib_odp_init(void)
{
	return 0;
}

/* Keys of paged regions are not recycled: see odp_mr.c. */
int mlx5_odp_init_mkey_cache(struct mlx5_ib_dev *dev)
{
	return 0;
}
