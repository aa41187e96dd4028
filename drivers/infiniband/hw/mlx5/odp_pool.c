// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * On-demand paging in mlx5: keys of leaves, and the pool that they are parked in.
 *
 * A parked key of a leaf (odp_child.c) is free, in the driver's PD, and all of its
 * translations are invalid. One UMR does all of that, and has to be done before the
 * key is parked: it also fences accesses. So such a key is enabled without writing
 * translations. Everything that the owner of a key may change by UMRs is set again: the
 * variant, the QP, the PD. Each use has a variant of its own, so a fault that names an
 * earlier one is not taken for a fault of the present one.
 *
 * The pool also has a few new keys, so that a fault need not wait for the command that
 * creates one. Translations of a new key are unknown (odp_key.c), but a leaf's are few
 * enough for the UMR that enables it to write all of them.
 *
 * The owner of a region can guess the keys of its children, and bind memory windows to
 * them. The device does not destroy a key that has a window. Such keys are kept, and
 * destroyed when the windows are gone. They are disabled by then.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include "odp.h"
#include "umr.h"

/* Keys that wait for their next use, each with a table of 32 KiB; fewer new ones. */
#define ODP_POOL_KEYS		64
#define ODP_POOL_LOW		8
/* How often it is tried to destroy keys that the device kept, and how many each time. */
#define ODP_KEPT_PERIOD		HZ
#define ODP_KEPT_TRIES		16

/**
 * struct mlx5_odp_pool - keys of leaves, without a region
 * @dev: the device
 * @lock: protects @keys and @nr
 * @keys: they and whether they were parked, in contrast to new ones
 * @nr: how many
 * @refill: creates new ones
 * @kept: struct odp_kept_key that the device did not destroy, under @lock
 * @kept_work: destroys them
 */
struct mlx5_odp_pool {
	struct mlx5_ib_dev *dev;
	spinlock_t lock;	/* keys, nr, kept */
	struct {
		u32 key;
		bool parked;
	} keys[ODP_POOL_KEYS];
	unsigned int nr;
	struct work_struct refill;
	struct list_head kept;
	struct delayed_work kept_work;
};

/* A key that has no region any more, and that the device did not destroy. */
struct odp_kept_key {
	struct list_head entry;
	u32 key;
};

/* Some devices cannot change the right to atomics, which owners may have or not. */
static bool odp_can_recycle(struct mlx5_ib_dev *dev)
{
	return !MLX5_CAP_GEN(dev->mdev, atomic) ||
	       !MLX5_CAP_GEN(dev->mdev, umr_modify_atomic_disabled);
}

static int odp_leaf_key_create(struct mlx5_ib_dev *dev, struct mlx5_ib_mkey *mmkey, int access)
{
	return mlx5_odp_key_create(dev, mmkey, access, MLX5_MKC_ACCESS_MODE_MTT, PAGE_SHIFT,
				   MLX5_ODP_LEAF_MTTS);
}

/* Return: false if the pool has enough keys. */
static bool odp_pool_add(struct mlx5_odp_pool *pool, u32 key, bool parked, unsigned int enough)
{
	bool added = false;

	spin_lock(&pool->lock);
	if (pool->nr < enough) {
		pool->keys[pool->nr].key = key;
		pool->keys[pool->nr++].parked = parked;
		added = true;
	}
	spin_unlock(&pool->lock);
	return added;
}

static bool odp_pool_take(struct mlx5_odp_pool *pool, u32 *key, bool *parked)
{
	bool taken = false;

	spin_lock(&pool->lock);
	if (pool->nr) {
		*key = pool->keys[--pool->nr].key;
		*parked = pool->keys[pool->nr].parked;
		taken = true;
	}
	/* No fault waits for it: one that finds the pool empty creates its key. */
	if (pool->nr < ODP_POOL_LOW && odp_can_recycle(pool->dev))
		queue_work(system_unbound_wq, &pool->refill);
	spin_unlock(&pool->lock);
	return taken;
}

/* New keys. */
static void odp_pool_refill(struct work_struct *work)
{
	struct mlx5_odp_pool *pool = container_of(work, struct mlx5_odp_pool, refill);
	struct mlx5_ib_mkey mmkey;

	while (READ_ONCE(pool->nr) < ODP_POOL_LOW) {
		if (odp_leaf_key_create(pool->dev, &mmkey, 0))
			return;
		if (!odp_pool_add(pool, mmkey.key, false, ODP_POOL_LOW))
			mlx5_core_destroy_mkey(pool->dev->mdev, mmkey.key);
	}
}

static struct odp_kept_key *odp_kept_next(struct mlx5_odp_pool *pool)
{
	struct odp_kept_key *kept;

	spin_lock(&pool->lock);
	kept = list_first_entry_or_null(&pool->kept, struct odp_kept_key, entry);
	if (kept)
		list_del(&kept->entry);
	spin_unlock(&pool->lock);
	return kept;
}

static void odp_kept_work(struct work_struct *work)
{
	struct mlx5_odp_pool *pool = container_of(to_delayed_work(work), struct mlx5_odp_pool,
						  kept_work);
	unsigned int tries = ODP_KEPT_TRIES;
	struct odp_kept_key *kept;
	LIST_HEAD(failed);

	while (tries-- && (kept = odp_kept_next(pool))) {
		if (mlx5_core_destroy_mkey(pool->dev->mdev, kept->key))
			list_add_tail(&kept->entry, &failed);
		else
			kfree(kept);
	}
	/* Behind those whose turn did not come. */
	spin_lock(&pool->lock);
	list_splice_tail(&failed, &pool->kept);
	if (!list_empty(&pool->kept))
		queue_delayed_work(system_unbound_wq, &pool->kept_work, ODP_KEPT_PERIOD);
	spin_unlock(&pool->lock);
}

/**
 * mlx5_odp_key_destroy() - destroy a key that is not a region's own
 * @dev: the device
 * @mmkey: the key, disabled, and in no table
 *
 * If the device keeps it for now, it is destroyed later.
 *
 * Context: sleeps.
 */
void mlx5_odp_key_destroy(struct mlx5_ib_dev *dev, struct mlx5_ib_mkey *mmkey)
{
	struct mlx5_odp_pool *pool = dev->odp_pf_eq.key_pool;
	struct odp_kept_key *kept;

	if (!mlx5r_umr_destroy_mkey(dev, mmkey))
		return;
	/* For each of them its owner has a window, and pays for that. */
	kept = kmalloc(sizeof(*kept), GFP_KERNEL | __GFP_NOFAIL);
	kept->key = mmkey->key;
	spin_lock(&pool->lock);
	list_add_tail(&kept->entry, &pool->kept);
	queue_delayed_work(system_unbound_wq, &pool->kept_work, ODP_KEPT_PERIOD);
	spin_unlock(&pool->lock);
}

/**
 * mlx5_odp_leaf_key_get() - have a free key for 16 MiB of pages
 * @mr: the region it is for
 * @mmkey: set to the key
 * @parked: set if its translations are known to be invalid, and not unknown
 *
 * Context: sleeps.
 * Return: 0; -ENOMEM, or what the device's command said.
 */
int mlx5_odp_leaf_key_get(struct mlx5_ib_mr *mr, struct mlx5_ib_mkey *mmkey, bool *parked)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);
	u32 key;

	*parked = false;
	if (!odp_pool_take(dev->odp_pf_eq.key_pool, &key, parked))
		return odp_leaf_key_create(dev, mmkey, mr->access_flags);
	/* The next variant. */
	mmkey->key = (key & ~0xffu) | ((key + 1) & 0xff);
	mmkey->ndescs = MLX5_ODP_LEAF_MTTS / MLX5_IB_UMR_OCTOWORD;
	init_waitqueue_head(&mmkey->wait);
	return 0;
}

/**
 * mlx5_odp_leaf_key_enable() - have such a key enabled
 * @mr: the region it is for
 * @mmkey: from mlx5_odp_leaf_key_get()
 * @parked: from there
 * @va: first address, in the region's own terms; a multiple of 16 MiB
 * @length: in bytes
 *
 * The key is lost if that fails, see umr_queue.c.
 *
 * Context: sleeps; allocates nothing.
 */
void mlx5_odp_leaf_key_enable(struct mlx5_ib_mr *mr, struct mlx5_ib_mkey *mmkey, bool parked,
			      u64 va, u64 length)
{
	struct mlx5r_umr_key enabled = mlx5_odp_umr_key(mr, va, length);
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);

	static_assert(MLX5_ODP_LEAF_MTTS <= MLX5_ODP_SAME_SIZE);
	mlx5r_umr_post_free_key(dev, mmkey, dev->odp_pf_eq.zeros.dma,
				parked ? 0 : MLX5_ODP_LEAF_MTTS, 0, &enabled, NULL);
}

/**
 * mlx5_odp_leaf_key_disable() - have such a key made what it was in the pool
 * @dev: the device
 * @mmkey: the key
 *
 * Context: sleeps; allocates nothing.
 * Return: what mlx5r_umr_wait() waits for. Upon its return there are no accesses by the
 * key.
 */
unsigned long mlx5_odp_leaf_key_disable(struct mlx5_ib_dev *dev, struct mlx5_ib_mkey *mmkey)
{
	return mlx5r_umr_post_park(dev, mmkey, dev->odp_pf_eq.zeros.dma, MLX5_ODP_LEAF_MTTS);
}

/**
 * mlx5_odp_leaf_key_put() - park a key, or destroy it
 * @dev: the device
 * @mmkey: the key, disabled
 *
 * Context: sleeps.
 */
void mlx5_odp_leaf_key_put(struct mlx5_ib_dev *dev, struct mlx5_ib_mkey *mmkey)
{
	if (mlx5r_umr_key_lost(mmkey) || !odp_can_recycle(dev) ||
	    !odp_pool_add(dev->odp_pf_eq.key_pool, mmkey->key, true, ODP_POOL_KEYS))
		mlx5_odp_key_destroy(dev, mmkey);
}

/**
 * mlx5_odp_pool_create() - have a pool of keys
 * @dev: the device
 *
 * Context: sleeps.
 * Return: the pool, empty; NULL: no memory.
 */
struct mlx5_odp_pool *mlx5_odp_pool_create(struct mlx5_ib_dev *dev)
{
	struct mlx5_odp_pool *pool = kzalloc(sizeof(*pool), GFP_KERNEL);

	if (!pool)
		return NULL;
	pool->dev = dev;
	spin_lock_init(&pool->lock);
	INIT_WORK(&pool->refill, odp_pool_refill);
	INIT_LIST_HEAD(&pool->kept);
	INIT_DELAYED_WORK(&pool->kept_work, odp_kept_work);
	return pool;
}

/**
 * mlx5_odp_pool_drain() - destroy the keys of a pool
 * @pool: the pool of a device without regions, whose PD for UMRs still exists
 *
 * Context: sleeps.
 */
void mlx5_odp_pool_drain(struct mlx5_odp_pool *pool)
{
	struct odp_kept_key *kept;

	disable_work_sync(&pool->refill);
	disable_delayed_work_sync(&pool->kept_work);
	/* Their windows are gone: no program has the device open. */
	while ((kept = odp_kept_next(pool))) {
		mlx5_core_destroy_mkey(pool->dev->mdev, kept->key);
		kfree(kept);
	}
	while (pool->nr)
		mlx5_core_destroy_mkey(pool->dev->mdev, pool->keys[--pool->nr].key);
}

/**
 * mlx5_odp_pool_free() - undo mlx5_odp_pool_create()
 * @pool: the pool, drained or never used
 *
 * Context: any.
 */
void mlx5_odp_pool_free(struct mlx5_odp_pool *pool)
{
	kfree(pool);
}
