// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * On-demand paging in mlx5: keys of children that are gone.
 *
 * In the memory scheme a fault names the leaf (odp_child.c) that has no translation.
 * When it is handled the leaf may be gone. Then the device has to look again, and
 * finds the null key or another leaf. So the keys of such leaves are remembered for a
 * while. A fault of any other key that is not known must fail, or the device would
 * repeat it for ever.
 *
 * A key is remembered before it is removed from odp_mkeys, so a fault finds it in one
 * of both.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include "odp.h"

/*
 * How long a key is remembered. It has to be longer than a fault waits in the device
 * and in the driver's queue. A fault that waits even longer fails.
 */
#define ODP_NAME_KEPT	(30 * HZ)

/**
 * struct mlx5_odp_name - a key that is gone
 * @entry: in the list of those that expire
 * @key: the key, with its variant
 * @since: when it was destroyed or parked, in jiffies
 */
struct mlx5_odp_name {
	struct list_head entry;
	u32 key;
	unsigned long since;
};

static void odp_names_expire(struct mlx5_ib_pf_eq *eq, bool all)
{
	struct mlx5_odp_name *name, *next;
	LIST_HEAD(expired);

	xa_lock(&eq->gone);
	list_for_each_entry_safe(name, next, &eq->gone_list, entry) {
		if (!all && time_before(jiffies, name->since + ODP_NAME_KEPT))
			break;
		list_move(&name->entry, &expired);
	}
	if (!list_empty(&eq->gone_list))
		queue_delayed_work(system_unbound_wq, &eq->gone_work, ODP_NAME_KEPT);
	xa_unlock(&eq->gone);

	list_for_each_entry_safe(name, next, &expired, entry) {
		/* The same key may be gone once more since. */
		xa_cmpxchg(&eq->gone, name->key, name, NULL, 0);
		kfree(name);
	}
}

static void odp_names_work(struct work_struct *work)
{
	odp_names_expire(container_of(to_delayed_work(work), struct mlx5_ib_pf_eq, gone_work),
			 false);
}

/**
 * mlx5_odp_names_init() - prepare to remember keys
 * @eq: the queue that faults come by
 */
void mlx5_odp_names_init(struct mlx5_ib_pf_eq *eq)
{
	xa_init_flags(&eq->gone, XA_FLAGS_ACCOUNT);
	INIT_LIST_HEAD(&eq->gone_list);
	INIT_DELAYED_WORK(&eq->gone_work, odp_names_work);
}

/**
 * mlx5_odp_names_destroy() - forget all of them
 * @eq: the queue, by which no fault comes any more
 *
 * Context: sleeps.
 */
void mlx5_odp_names_destroy(struct mlx5_ib_pf_eq *eq)
{
	cancel_delayed_work_sync(&eq->gone_work);
	odp_names_expire(eq, true);
	xa_destroy(&eq->gone);
}

/**
 * mlx5_odp_child_went() - is a key, which is not found, one of a child that went?
 * @dev: the device
 * @key: the key
 *
 * Context: any.
 * Return: true if the device will not find it again.
 */
bool mlx5_odp_child_went(struct mlx5_ib_dev *dev, u32 key)
{
	return xa_load(&dev->odp_pf_eq.gone, key);
}

/**
 * mlx5_odp_name_keep() - remember a key that is about to go
 * @dev: the device
 * @key: the key
 *
 * Context: sleeps; with the owner of the region charged, CLASS(ib_odp_charge).
 * Return: for mlx5_odp_name_expires(); NULL: no memory, and faults of the key may fail.
 */
struct mlx5_odp_name *mlx5_odp_name_keep(struct mlx5_ib_dev *dev, u32 key)
{
	struct mlx5_odp_name *name = kzalloc(sizeof(*name), GFP_KERNEL_ACCOUNT);

	if (!name)
		return NULL;
	name->key = key;
	if (!xa_err(xa_store(&dev->odp_pf_eq.gone, key, name, GFP_KERNEL_ACCOUNT)))
		return name;
	kfree(name);
	return NULL;
}

/**
 * mlx5_odp_name_expires() - the key is gone, and only remembered from now on
 * @dev: the device
 * @name: from mlx5_odp_name_keep()
 *
 * Context: any but hard and soft interrupts.
 */
void mlx5_odp_name_expires(struct mlx5_ib_dev *dev, struct mlx5_odp_name *name)
{
	struct mlx5_ib_pf_eq *eq = &dev->odp_pf_eq;

	xa_lock(&eq->gone);
	name->since = jiffies;
	list_add_tail(&name->entry, &eq->gone_list);
	queue_delayed_work(system_unbound_wq, &eq->gone_work, ODP_NAME_KEPT);
	xa_unlock(&eq->gone);
}
