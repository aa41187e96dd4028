// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * On-demand paging in mlx5: regions whose key is a table of keys.
 *
 * A large region has a key over children (KSM), so that registration costs the same
 * for nearly any length. A leaf is a child of 16 MiB with a table of pages. A region
 * of up to 64 GiB is a table of leaves. A longer one, and the implicit one, is a table
 * of nodes of 64 GiB, each of which is a table of leaves:
 *
 *	region's key --> node --> leaf --> pages
 *	      KSM        KSM      MTT
 *
 * An entry without a child leads to a key that always faults. The first fault makes
 * the child. A child has a key and nothing else: the umem is the region's, and the
 * address of a chunk determines its leaf. Keys, tables and faults use the addresses of
 * the region. A chunk is never in two leaves. A key that is a table of keys begins at
 * a multiple of what an entry maps, so it may begin below its region; one that begins
 * inside of a page has a table of pages, however long it is.
 *
 * The users of a leaf are the faults in it, and only they make its chunks. The users of a
 * node are its leaves, and a task that makes one. A child without users and chunks is
 * retired, under the lock of the children's xarray: it gets no more users, and a fault
 * in its range waits for odp_children_lock and makes another child. Then the entry is
 * removed from the table, the key from those that faults find, and the key is parked
 * (odp_pool.c) or destroyed. odp_retire.c does this.
 *
 *	fault				work
 *	  get: a user
 *					  it has a user, and stays
 *	  make a chunk, enter pages,
 *	  post; put
 *					  it has a chunk, and stays
 *	(the chunk is emptied, and reaped)
 *					  lock; neither: retired
 *	  get: not alive, wait for the lock
 *					  write the entry, erase, unlock
 *	  make another
 *					  forget, park the key
 *
 * Entries (odp_table.c). The device writes 4 of them at a time, so an entry is written
 * together with its neighbours. odp_children_lock orders this: under it the xarray
 * changes, the entries are read from it and the UMR is posted. UMRs are executed in
 * order, so the table ends as the xarray is.
 *
 * The UMRs that enable the key of a leaf and write its entry are posted and not waited
 * for: the fault posts its pages after them, and waits for all. They must not fail
 * (umr_queue.c). A leaf whose key could not be enabled is lost, and faults in it fail.
 * An entry that could not be written costs the table that has it, and so the region
 * or a node of it.
 *
 * Locks: odp_children_lock, outside of all others; the xarrays'.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include "odp_child.h"
#include "umr.h"

/**
 * mlx5_odp_child_set_state() - say whether a child gets users
 * @child: the child
 * @state: the state
 *
 * Context: under odp_children_lock.
 */
void mlx5_odp_child_set_state(struct mlx5_odp_child *child, enum odp_child_state state)
{
	struct xarray *children = mlx5_odp_children(child->parent, child->level);

	xa_lock(children);
	child->state = state;
	xa_unlock(children);
}

/**
 * mlx5_odp_child_put() - it is used no longer, or its chunks say that it is
 * @child: the child
 *
 * Context: any.
 */
void mlx5_odp_child_put(struct mlx5_odp_child *child)
{
	struct xarray *children = mlx5_odp_children(child->parent, child->level);

	xa_lock(children);
	child->users--;
	xa_unlock(children);
}

static struct mlx5_odp_child *odp_child_load_alive(struct mlx5_ib_mr *mr,
						   enum mlx5_odp_level level, u64 va)
{
	struct xarray *children = mlx5_odp_children(mr, level);
	struct mlx5_odp_child *child = xa_load(children, mlx5_odp_index(mr, level, va));

	lockdep_assert_held(&children->xa_lock);
	return child && child->state == ODP_CHILD_ALIVE ? child : NULL;
}

static struct mlx5_odp_child *odp_child_find(struct mlx5_ib_mr *mr, enum mlx5_odp_level level,
					     u64 va)
{
	struct xarray *children = mlx5_odp_children(mr, level);
	struct mlx5_odp_child *child;

	xa_lock(children);
	child = odp_child_load_alive(mr, level, va);
	if (child)
		child->users++;
	xa_unlock(children);
	return child;
}

/**
 * mlx5_odp_child_free() - free a child, and park or destroy its key
 * @child: disabled; no table has it any more, and no fault finds it
 *
 * Context: sleeps.
 */
void mlx5_odp_child_free(struct mlx5_odp_child *child)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(child->parent);

	if (child->level == MLX5_ODP_LEAF)
		mlx5_odp_leaf_key_put(dev, &child->mmkey);
	else
		mlx5_odp_key_destroy(dev, &child->mmkey);
	kfree(child);
}

/**
 * mlx5_odp_child_post_disable() - have the key of a child disabled
 * @child: the child
 *
 * Context: sleeps; allocates nothing.
 * Return: what mlx5r_umr_wait() waits for. Upon its return there are no accesses by the
 * key.
 */
unsigned long mlx5_odp_child_post_disable(struct mlx5_odp_child *child)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(child->parent);

	if (child->level == MLX5_ODP_LEAF)
		return mlx5_odp_leaf_key_disable(dev, &child->mmkey);
	return mlx5r_umr_post_revoke(dev, &child->mmkey);
}

static int odp_node_create(struct mlx5_odp_child *node)
{
	struct mlx5_ib_mr *mr = node->parent;
	const struct mlx5_odp_table table = {
		.mode = MLX5_MKC_ACCESS_MODE_KSM,
		.start = node->va,
		.length = BIT_ULL(MLX5_ODP_NODE_SHIFT),
		.shift = MLX5_ODP_LEAF_SHIFT,
		.size = MLX5_ODP_NODE_LEAVES * sizeof(struct mlx5_ksm),
		.same = mr_to_mdev(mr)->odp_pf_eq.nulls.dma,
	};

	return mlx5_odp_key_make(mr, &node->mmkey, &table);
}

static struct mlx5_odp_child *odp_child_alloc(struct mlx5_ib_mr *mr, enum mlx5_odp_level level,
					      u64 va)
{
	struct mlx5_odp_child *child = kzalloc(sizeof(*child), GFP_KERNEL_ACCOUNT);
	int ret;

	if (!child)
		return ERR_PTR(-ENOMEM);
	child->parent = mr;
	child->level = level;
	child->va = ALIGN_DOWN(va, BIT_ULL(mlx5_odp_shift(level)));
	child->mmkey.type = MLX5_MKEY_IMPLICIT_CHILD;
	child->state = ODP_CHILD_MAKING;
	/* Its maker, from the moment on in which it is seen. */
	child->users = 1;
	ret = level == MLX5_ODP_LEAF ? mlx5_odp_leaf_key_get(mr, &child->mmkey, &child->parked)
				     : odp_node_create(child);
	if (ret) {
		kfree(child);
		return ERR_PTR(ret);
	}
	return child;
}

/* A leaf's accesses end where the region does. */
static void odp_leaf_enable(struct mlx5_odp_child *leaf)
{
	u64 last = min(leaf->va + BIT_ULL(MLX5_ODP_LEAF_SHIFT) - 1, mlx5_odp_last_va(leaf->parent));

	mlx5_odp_leaf_key_enable(leaf->parent, &leaf->mmkey, leaf->parked, leaf->va,
				 last - leaf->va + 1);
}

static int odp_child_publish(struct mlx5_odp_child *child)
{
	struct mlx5_ib_mr *mr = child->parent;
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);
	struct xarray *children = mlx5_odp_children(mr, child->level);
	unsigned long index = mlx5_odp_index(mr, child->level, child->va);
	int ret;

	lockdep_assert_held(&mr->odp_children_lock);
	if (mr->odp_closing)
		return -EFAULT;
	ret = xa_err(xa_store(children, index, child, GFP_KERNEL_ACCOUNT));
	if (ret)
		return ret;
	if (child->level == MLX5_ODP_LEAF && mlx5_odp_memory_scheme(dev))
		ret = mlx5r_store_odp_mkey(dev, &child->mmkey);
	if (ret) {
		xa_erase(children, index);
		return ret;
	}
	if (child->level == MLX5_ODP_LEAF)
		odp_leaf_enable(child);
	mlx5_odp_entry_post(child, NULL);
	mlx5_odp_child_set_state(child, ODP_CHILD_ALIVE);
	return 0;
}

static void odp_child_destroy(struct mlx5_odp_child *child)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(child->parent);

	/* A fault that names it may be waiting for odp_children_lock. */
	lockdep_assert_not_held(&child->parent->odp_children_lock);
	mlx5r_forget_odp_mkey(dev, &child->mmkey);
	mlx5r_umr_wait(dev, mlx5_odp_child_post_disable(child));
	mlx5_odp_child_free(child);
}

/*
 * Make a child, and the node above it if there is none. Those that failed are added to
 * @failed, to be destroyed without the lock.
 */
static struct mlx5_odp_child *odp_child_make(struct mlx5_ib_mr *mr, enum mlx5_odp_level level,
					     u64 va, struct list_head *failed)
{
	struct mlx5_odp_child *child, *up = NULL;
	int ret;

	child = odp_child_find(mr, level, va);
	if (child)
		return child;
	if (level < mr->odp_top) {
		up = odp_child_make(mr, level + 1, va, failed);
		if (IS_ERR(up))
			return up;
	}
	child = odp_child_alloc(mr, level, va);
	if (!IS_ERR(child)) {
		child->up = up;
		ret = odp_child_publish(child);
		if (!ret)
			return child;
		list_add(&child->gone, failed);
		child = ERR_PTR(ret);
	}
	if (up)
		mlx5_odp_child_put(up);
	return child;
}

static struct mlx5_odp_child *odp_leaf_make(struct mlx5_ib_mr *mr, u64 va)
{
	CLASS(ib_odp_charge, charge)(to_ib_umem_odp(mr->umem));
	struct mlx5_odp_child *child, *next, *bad;
	LIST_HEAD(failed);

	mutex_lock(&mr->odp_children_lock);
	child = odp_child_make(mr, MLX5_ODP_LEAF, va, &failed);
	mutex_unlock(&mr->odp_children_lock);
	list_for_each_entry_safe(bad, next, &failed, gone)
		odp_child_destroy(bad);
	return child;
}

/**
 * mlx5_odp_child_get() - the leaf that an address is in, made if there is none
 * @mr: a region whose key has children
 * @va: the address, in the region's own terms
 *
 * Context: sleeps.
 * Return: the leaf, for mlx5_odp_child_put(); -ENOMEM; -EFAULT if the region is
 * going, or the device failed; what the device's command said. The device knows of it
 * when it has executed what is posted next.
 */
struct mlx5_odp_child *mlx5_odp_child_get(struct mlx5_ib_mr *mr, u64 va)
{
	struct mlx5_odp_child *child = odp_child_find(mr, MLX5_ODP_LEAF, va);

	return child ?: odp_leaf_make(mr, va);
}

/**
 * mlx5_odp_child_key() - the key of a child
 * @child: the child, got
 *
 * Return: the key, which lasts until the child is put.
 */
struct mlx5_ib_mkey *mlx5_odp_child_key(struct mlx5_odp_child *child)
{
	return &child->mmkey;
}

/**
 * mlx5_odp_leaf_key() - the key of the leaf that an address is in
 * @mr: a region whose key has children
 * @va: the address; the caller has a chunk there that has pages
 *
 * Pages may come without the device's asking (ib_umem_odp_populate()). Then there may
 * be no leaf, or one whose key is not enabled yet, so that a zap of it would fail. Only
 * users of a leaf that is alive tell the device of pages.
 *
 * Context: any but hard and soft interrupts.
 * Return: the key; NULL if the device was not told of any page there.
 */
struct mlx5_ib_mkey *mlx5_odp_leaf_key(struct mlx5_ib_mr *mr, u64 va)
{
	struct xarray *children = mlx5_odp_children(mr, MLX5_ODP_LEAF);
	struct mlx5_odp_child *leaf;

	xa_lock(children);
	leaf = odp_child_load_alive(mr, MLX5_ODP_LEAF, va);
	xa_unlock(children);
	return leaf ? &leaf->mmkey : NULL;
}

/**
 * mlx5_odp_child_region() - whose part a child is
 * @mmkey: its key
 *
 * Return: the region.
 */
struct mlx5_ib_mr *mlx5_odp_child_region(struct mlx5_ib_mkey *mmkey)
{
	return container_of(mmkey, struct mlx5_odp_child, mmkey)->parent;
}
