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
 * the region. A chunk is never in two leaves.
 *
 * The users of a leaf are the faults in it, and only they make its chunks. The users of a
 * node are its leaves, and a task that makes one. A child without users and chunks is
 * retired, under the lock of the children's xarray: it gets no more users, and a fault
 * in its range waits for odp_children_lock and makes another child. Then the entry is
 * removed from the table, the key from those that faults find, and the key is parked
 * (odp_key.c) or destroyed.
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
 * Entries. The device writes 4 of them at a time, so an entry is written together with
 * its neighbours. odp_children_lock orders this: under it the xarray changes, the
 * entries are read from it and the UMR is posted. UMRs are executed in order, so the
 * table ends as the xarray is.
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
#include "odp.h"
#include "umr.h"

/* How long a child may have nothing before it is taken for useless. */
#define ODP_CHILD_LINGER	HZ
/* Entries that are written together. */
#define ODP_GRANULE_BYTES	MLX5_UMR_FLEX_ALIGNMENT
#define ODP_GRANULE_KSMS	(ODP_GRANULE_BYTES / sizeof(struct mlx5_ksm))
#define ODP_NODE_LEAVES		BIT(MLX5_ODP_NODE_SHIFT - MLX5_ODP_LEAF_SHIFT)
/* Children that go before the lock is given to faults. */
#define ODP_CHILD_BATCH		32

enum odp_child_state {
	ODP_CHILD_MAKING,
	ODP_CHILD_ALIVE,
	ODP_CHILD_RETIRED,
};

/**
 * struct mlx5_odp_child - a part of a region
 * @mmkey: its key; in odp_mkeys only where faults name it
 * @parent: the region
 * @up: the node that has its entry; NULL: the region's key has it
 * @level: leaf or node
 * @va: its first address, in the region's own terms
 * @state: only a child that is ODP_CHILD_ALIVE gets users; changed under
 *	odp_children_lock and the lock of the children's xarray
 * @users: faults in it, or its leaves; under the latter
 * @parked: the key came from the pool
 * @gone: in a list of those that are to be freed
 * @slot: which of the UMRs of the batch takes its entry away
 * @name: its key's, from the moment on in which faults are to lose it
 */
struct mlx5_odp_child {
	struct mlx5_ib_mkey mmkey;
	struct mlx5_ib_mr *parent;
	struct mlx5_odp_child *up;
	enum mlx5_odp_level level;
	u64 va;
	enum odp_child_state state;
	unsigned int users;
	bool parked;
	struct list_head gone;
	unsigned int slot;
	struct mlx5_odp_name *name;
};

/* Children that go together, and the UMRs that take their entries away. */
struct odp_batch {
	struct list_head gone;
	int results[ODP_CHILD_BATCH];
	unsigned int nr;
};

/* ---- which child ---- */

static unsigned int odp_shift(enum mlx5_odp_level level)
{
	return level == MLX5_ODP_LEAF ? MLX5_ODP_LEAF_SHIFT : MLX5_ODP_NODE_SHIFT;
}

static struct xarray *odp_children(struct mlx5_ib_mr *mr, enum mlx5_odp_level level)
{
	return &mr->odp_children[level];
}

/* Of a child in its xarray, and of its entry in the table of a region that has it. */
static unsigned long odp_index(const struct mlx5_ib_mr *mr, enum mlx5_odp_level level, u64 va)
{
	return (va >> odp_shift(level)) - (mr->ibmr.iova >> odp_shift(level));
}

static u64 odp_last_va(const struct mlx5_ib_mr *mr)
{
	return mr->ibmr.iova + mr->umem->length - 1;
}

static struct mlx5_odp_child *odp_child_load(struct mlx5_ib_mr *mr, enum mlx5_odp_level level,
					     u64 va)
{
	return xa_load(odp_children(mr, level), odp_index(mr, level, va));
}

static struct mlx5_odp_child *odp_child_load_alive(struct mlx5_ib_mr *mr,
						   enum mlx5_odp_level level, u64 va)
{
	struct mlx5_odp_child *child = odp_child_load(mr, level, va);

	lockdep_assert_held(&odp_children(mr, level)->xa_lock);
	return child && child->state == ODP_CHILD_ALIVE ? child : NULL;
}

/* ---- entries ---- */

static void odp_entry(struct mlx5_ib_mr *mr, enum mlx5_odp_level level, u64 va,
		      struct mlx5_ksm *ksm)
{
	struct mlx5_odp_child *child = odp_child_load(mr, level, va);

	if (!child || child->state == ODP_CHILD_RETIRED) {
		mlx5_odp_null_entry(mr, ksm, va);
		return;
	}
	ksm->reserved = 0;
	ksm->key = cpu_to_be32(child->mmkey.key);
	ksm->va = cpu_to_be64(va);
}

/* The first address that the table maps which has the child's entry. */
static u64 odp_table_va(const struct mlx5_odp_child *child)
{
	if (child->up)
		return child->up->va;
	return ALIGN_DOWN(child->parent->ibmr.iova, BIT_ULL(odp_shift(child->level)));
}

/* Number of the first entry that is written together with that of the child. */
static u64 odp_granule(const struct mlx5_odp_child *child)
{
	return ALIGN_DOWN((child->va - odp_table_va(child)) >> odp_shift(child->level),
			  ODP_GRANULE_KSMS);
}

/*
 * Have the entry of a child written, and its neighbours with it. Of neighbours outside of
 * the region none has a child. @result is of mlx5r_umr_post_xlt().
 */
static unsigned long odp_entry_post(struct mlx5_odp_child *child, int *result)
{
	unsigned int shift = odp_shift(child->level), i;
	struct mlx5_ib_mr *mr = child->parent;
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);
	u64 entry = odp_granule(child);
	struct mlx5_ksm *ksm;
	dma_addr_t dma;
	unsigned long nr;

	lockdep_assert_held(&mr->odp_children_lock);
	ksm = mlx5_odp_slot_get(dev, &dma);
	for (i = 0; i < ODP_GRANULE_KSMS; i++)
		odp_entry(mr, child->level, odp_table_va(child) + ((entry + i) << shift), &ksm[i]);
	mlx5_odp_slot_sync(dev, dma);
	nr = mlx5r_umr_post_xlt(dev, child->up ? &child->up->mmkey : &mr->mmkey, dma,
				ODP_GRANULE_BYTES, entry * sizeof(*ksm), result);
	mlx5_odp_slot_put(dev, nr);
	return nr;
}

/* ---- children come ---- */

static void odp_child_set_state(struct mlx5_odp_child *child, enum odp_child_state state)
{
	struct xarray *children = odp_children(child->parent, child->level);

	xa_lock(children);
	child->state = state;
	xa_unlock(children);
}

static void odp_child_drop(struct mlx5_odp_child *child)
{
	struct xarray *children = odp_children(child->parent, child->level);

	xa_lock(children);
	child->users--;
	xa_unlock(children);
}

static struct mlx5_odp_child *odp_child_find(struct mlx5_ib_mr *mr, enum mlx5_odp_level level,
					     u64 va)
{
	struct xarray *children = odp_children(mr, level);
	struct mlx5_odp_child *child;

	xa_lock(children);
	child = odp_child_load_alive(mr, level, va);
	if (child)
		child->users++;
	xa_unlock(children);
	return child;
}

/* No table has it any more, and no fault finds it. */
static void odp_child_free_key(struct mlx5_odp_child *child)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(child->parent);

	/* Fails with the device only, and then the key is gone with it. */
	if (child->level == MLX5_ODP_LEAF)
		mlx5_odp_leaf_key_put(dev, &child->mmkey);
	else
		mlx5r_umr_destroy_mkey(dev, &child->mmkey);
}

static unsigned long odp_child_post_disable(struct mlx5_odp_child *child)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(child->parent);

	if (child->level == MLX5_ODP_LEAF)
		return mlx5_odp_leaf_key_disable(dev, &child->mmkey);
	return mlx5r_umr_post_revoke(dev, &child->mmkey);
}

static int odp_node_create(struct mlx5_odp_child *node)
{
	struct mlx5_ib_mr *mr = node->parent;
	struct mlx5_odp_table table = {
		.start = node->va,
		.length = BIT_ULL(MLX5_ODP_NODE_SHIFT),
		.shift = MLX5_ODP_LEAF_SHIFT,
		.size = ODP_NODE_LEAVES * sizeof(struct mlx5_ksm),
		.same = mr_to_mdev(mr)->odp_pf_eq.nulls.dma,
	};
	int ret;

	ret = mlx5_odp_key_create(mr_to_mdev(mr), &node->mmkey, mr->access_flags,
				  MLX5_MKC_ACCESS_MODE_KSM, table.shift, table.size);
	if (ret)
		return ret;
	ret = mlx5_odp_key_enable(mr, &node->mmkey, &table);
	if (ret)
		mlx5r_umr_destroy_mkey(mr_to_mdev(mr), &node->mmkey);
	return ret;
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
	child->va = ALIGN_DOWN(va, BIT_ULL(odp_shift(level)));
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
	u64 last = min(leaf->va + BIT_ULL(MLX5_ODP_LEAF_SHIFT) - 1, odp_last_va(leaf->parent));

	mlx5_odp_leaf_key_enable(leaf->parent, &leaf->mmkey, leaf->parked, leaf->va,
				 last - leaf->va + 1);
}

static int odp_child_publish(struct mlx5_odp_child *child)
{
	struct mlx5_ib_mr *mr = child->parent;
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);
	struct xarray *children = odp_children(mr, child->level);
	unsigned long index = odp_index(mr, child->level, child->va);
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
	odp_entry_post(child, NULL);
	odp_child_set_state(child, ODP_CHILD_ALIVE);
	return 0;
}

static void odp_child_destroy(struct mlx5_odp_child *child)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(child->parent);

	/* A fault that names it may be waiting for odp_children_lock. */
	lockdep_assert_not_held(&child->parent->odp_children_lock);
	mlx5r_forget_odp_mkey(dev, &child->mmkey);
	mlx5r_umr_wait(dev, odp_child_post_disable(child));
	odp_child_free_key(child);
	kfree(child);
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
		odp_child_drop(up);
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
	struct mlx5_odp_child *child = odp_child_find(mr, MLX5_ODP_LEAF, va), *next, *bad;
	LIST_HEAD(failed);

	if (child)
		return child;
	mutex_lock(&mr->odp_children_lock);
	child = odp_child_make(mr, MLX5_ODP_LEAF, va, &failed);
	mutex_unlock(&mr->odp_children_lock);
	list_for_each_entry_safe(bad, next, &failed, gone)
		odp_child_destroy(bad);
	return child;
}

/**
 * mlx5_odp_child_put() - it is used no longer, or its chunks say that it is
 * @child: the child
 *
 * Context: any.
 */
void mlx5_odp_child_put(struct mlx5_odp_child *child)
{
	odp_child_drop(child);
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
	struct xarray *children = odp_children(mr, MLX5_ODP_LEAF);
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

/* ---- children go ---- */

static bool odp_child_idle(struct mlx5_odp_child *child)
{
	struct ib_umem_odp *odp = to_ib_umem_odp(child->parent->umem);
	u64 end = min(child->va + BIT_ULL(MLX5_ODP_LEAF_SHIFT), odp_last_va(child->parent) + 1);
	u64 start = max(child->va, child->parent->ibmr.iova);

	if (child->users)
		return false;
	return child->level == MLX5_ODP_NODE ||
	       !ib_umem_odp_has_chunks(odp, mlx5_odp_addr(child->parent, start),
				       mlx5_odp_addr(child->parent, end));
}

static bool odp_child_retire(struct mlx5_odp_child *child)
{
	struct xarray *children = odp_children(child->parent, child->level);

	xa_lock(children);
	if (odp_child_idle(child))
		child->state = ODP_CHILD_RETIRED;
	xa_unlock(children);
	return child->state == ODP_CHILD_RETIRED;
}

static bool odp_same_granule(const struct mlx5_odp_child *one, const struct mlx5_odp_child *two)
{
	return one->up == two->up && odp_granule(one) == odp_granule(two);
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

	for (child = xa_find(odp_children(mr, level), index, ULONG_MAX, XA_PRESENT); child;
	     child = xa_find_after(odp_children(mr, level), index, ULONG_MAX, XA_PRESENT)) {
		if (before && !odp_same_granule(before, child)) {
			last = odp_entry_post(before, &batch->results[batch->nr]);
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
		last = odp_entry_post(before, &batch->results[batch->nr]);
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
			odp_child_set_state(child, ODP_CHILD_ALIVE);
			continue;
		}
		xa_erase(odp_children(mr, level), odp_index(mr, level, child->va));
		if (child->up)
			odp_child_drop(child->up);
	}
	mutex_unlock(&mr->odp_children_lock);
}

/* Not under the lock: a fault that names one may be waiting for it. */
static void odp_children_leave(struct mlx5_ib_dev *dev, struct odp_batch *batch)
{
	struct mlx5_odp_child *child, *next;
	unsigned long last = 0;

	list_for_each_entry(child, &batch->gone, gone) {
		if (child->level == MLX5_ODP_LEAF && mlx5_odp_memory_scheme(dev))
			child->name = mlx5_odp_name_keep(dev, child->mmkey.key);
		mlx5r_forget_odp_mkey(dev, &child->mmkey);
		last = odp_child_post_disable(child);
	}
	if (!list_empty(&batch->gone))
		mlx5r_umr_wait(dev, last);
	list_for_each_entry_safe(child, next, &batch->gone, gone) {
		odp_child_free_key(child);
		if (child->name)
			mlx5_odp_name_expires(dev, child->name);
		kfree(child);
	}
	INIT_LIST_HEAD(&batch->gone);
}

static void odp_children_work(struct work_struct *work)
{
	struct mlx5_ib_mr *mr = container_of(to_delayed_work(work), struct mlx5_ib_mr,
					     odp_children_work);
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);
	struct odp_batch batch = { .gone = LIST_HEAD_INIT(batch.gone) };
	enum mlx5_odp_level level;
	unsigned long index;

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

/* ---- regions ---- */

/**
 * mlx5_odp_children_init() - prepare what a region has for children
 * @mr: a paged region
 */
void mlx5_odp_children_init(struct mlx5_ib_mr *mr)
{
	xa_init(&mr->odp_children[MLX5_ODP_LEAF]);
	xa_init(&mr->odp_children[MLX5_ODP_NODE]);
	mutex_init(&mr->odp_children_lock);
	INIT_DELAYED_WORK(&mr->odp_children_work, odp_children_work);
}

/**
 * mlx5_odp_children_create() - have a key whose table has no child
 * @mr: a paged region
 *
 * Context: sleeps.
 * Return: 0; -ENOMEM, or what the device said.
 */
int mlx5_odp_children_create(struct mlx5_ib_mr *mr)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);
	struct mlx5_odp_table table = {
		.start = mr->ibmr.iova,
		.length = mr->ibmr.length,
		.same = dev->odp_pf_eq.nulls.dma,
	};
	int ret;

	mr->odp_has_children = true;
	/* One more leaf than a node has, as a region may begin inside of one. */
	mr->odp_top = odp_index(mr, MLX5_ODP_LEAF, odp_last_va(mr)) > ODP_NODE_LEAVES ?
		      MLX5_ODP_NODE : MLX5_ODP_LEAF;
	table.shift = odp_shift(mr->odp_top);
	table.size = (odp_index(mr, mr->odp_top, odp_last_va(mr)) + 1) * sizeof(struct mlx5_ksm);
	ret = mlx5_odp_key_create(dev, &mr->mmkey, mr->access_flags, MLX5_MKC_ACCESS_MODE_KSM,
				  table.shift, table.size);
	if (ret)
		return ret;
	if (mlx5_odp_memory_scheme(dev))
		ret = mlx5_odp_null_key_create(mr);
	if (!ret)
		ret = mlx5_odp_key_enable(mr, &mr->mmkey, &table);
	if (ret) {
		mlx5_ib_odp_free_keys(mr);
		mlx5_core_destroy_mkey(dev->mdev, mr->mmkey.key);
	}
	return ret;
}

/**
 * mlx5_odp_children_close() - children come and go no more, and nobody finds them
 * @mr: a paged region, no longer in odp_mkeys and without users
 *
 * Context: sleeps.
 */
void mlx5_odp_children_close(struct mlx5_ib_mr *mr)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);
	struct mlx5_odp_child *child;
	unsigned long index;

	disable_delayed_work_sync(&mr->odp_children_work);
	/* In the memory scheme a child, or what stands for it, leads to the region. */
	mutex_lock(&mr->odp_children_lock);
	mr->odp_closing = true;
	mutex_unlock(&mr->odp_children_lock);
	xa_for_each(&mr->odp_children[MLX5_ODP_LEAF], index, child)
		mlx5r_forget_odp_mkey(dev, &child->mmkey);
	if (mr->null_mmkey.key)
		mlx5r_forget_odp_mkey(dev, &mr->null_mmkey);
}

/**
 * mlx5_odp_children_disable() - have the keys of the children disabled
 * @mr: closed
 *
 * Context: sleeps; allocates nothing. mlx5r_umr_post_revoke() says how to wait.
 */
void mlx5_odp_children_disable(struct mlx5_ib_mr *mr)
{
	enum mlx5_odp_level level;
	struct mlx5_odp_child *child;
	unsigned long index;

	for (level = MLX5_ODP_LEAF; level <= MLX5_ODP_NODE; level++)
		xa_for_each(&mr->odp_children[level], index, child)
			odp_child_post_disable(child);
}

static void odp_children_free(struct xarray *children)
{
	struct mlx5_odp_child *child;
	unsigned long index;

	xa_for_each(children, index, child) {
		xa_erase(children, index);
		odp_child_free_key(child);
		kfree(child);
	}
	xa_destroy(children);
}

/**
 * mlx5_ib_odp_free_keys() - what a region had besides its own key
 * @mr: its own key is destroyed or was never used; those of its children are disabled
 */
void mlx5_ib_odp_free_keys(struct mlx5_ib_mr *mr)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);

	odp_children_free(&mr->odp_children[MLX5_ODP_LEAF]);
	odp_children_free(&mr->odp_children[MLX5_ODP_NODE]);
	if (mr->null_mmkey.key) {
		mlx5r_forget_odp_mkey(dev, &mr->null_mmkey);
		mlx5_core_destroy_mkey(dev->mdev, mr->null_mmkey.key);
		mr->null_mmkey.key = 0;
	}
}
