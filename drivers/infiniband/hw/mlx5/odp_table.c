// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * On-demand paging in mlx5: tables of keys.
 *
 * A region that has children (odp_child.c) has a key whose table is one of keys, and so
 * has each node. A new table has no child in any entry. The device writes granules of 4
 * entries, so an entry is written together with its neighbours, from what the children's
 * xarray has.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include "odp_child.h"
#include "umr.h"

/* Entries that are written together. */
#define ODP_GRANULE_BYTES	MLX5_UMR_FLEX_ALIGNMENT
#define ODP_GRANULE_KSMS	(ODP_GRANULE_BYTES / sizeof(struct mlx5_ksm))

/* ---- entries ---- */

static void odp_entry(struct mlx5_ib_mr *mr, enum mlx5_odp_level level, u64 va,
		      struct mlx5_ksm *ksm)
{
	struct mlx5_odp_child *child = xa_load(mlx5_odp_children(mr, level),
					       mlx5_odp_index(mr, level, va));

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
	return ALIGN_DOWN(child->parent->ibmr.iova, BIT_ULL(mlx5_odp_shift(child->level)));
}

/**
 * mlx5_odp_granule() - which entries are written together with that of a child
 * @child: the child
 *
 * Return: the number of the first one in its table.
 */
u64 mlx5_odp_granule(const struct mlx5_odp_child *child)
{
	return ALIGN_DOWN((child->va - odp_table_va(child)) >> mlx5_odp_shift(child->level),
			  ODP_GRANULE_KSMS);
}

/**
 * mlx5_odp_entry_post() - have the entry of a child written, and its neighbours with it
 * @child: the child
 * @result: of mlx5r_umr_post_xlt()
 *
 * Of neighbours outside of the region none has a child.
 *
 * Context: under odp_children_lock; allocates nothing.
 * Return: what mlx5r_umr_wait() waits for.
 */
unsigned long mlx5_odp_entry_post(struct mlx5_odp_child *child, int *result)
{
	unsigned int shift = mlx5_odp_shift(child->level), i;
	struct mlx5_ib_mr *mr = child->parent;
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);
	u64 entry = mlx5_odp_granule(child);
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

/* ---- regions ---- */

/**
 * mlx5_odp_children_init() - prepare what a region has for children
 * @mr: a paged region
 */
void mlx5_odp_children_init(struct mlx5_ib_mr *mr)
{
	xa_init_flags(&mr->odp_children[MLX5_ODP_LEAF], XA_FLAGS_ACCOUNT);
	xa_init_flags(&mr->odp_children[MLX5_ODP_NODE], XA_FLAGS_ACCOUNT);
	mutex_init(&mr->odp_children_lock);
	INIT_DELAYED_WORK(&mr->odp_children_work, mlx5_odp_children_work);
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
		.mode = MLX5_MKC_ACCESS_MODE_KSM,
		.same = dev->odp_pf_eq.nulls.dma,
	};
	int ret = 0;

	mr->odp_has_children = true;
	/* One more leaf than a node has, as a region may begin inside of one. */
	mr->odp_top = mlx5_odp_index(mr, MLX5_ODP_LEAF, mlx5_odp_last_va(mr)) >
		      MLX5_ODP_NODE_LEAVES ? MLX5_ODP_NODE : MLX5_ODP_LEAF;
	table.shift = mlx5_odp_shift(mr->odp_top);
	/*
	 * Where a key begins that is a table of keys, so does its first entry: UCX's tables
	 * over chunks of any address say so. So that entries are those of aligned addresses,
	 * the key begins with one. What is below the region has no pages, and a fault there
	 * fails, see mlx5_odp_fault_mr().
	 */
	table.start = ALIGN_DOWN(mr->ibmr.iova, BIT_ULL(table.shift));
	table.length = mr->is_odp_implicit ? mr->ibmr.length
					   : mlx5_odp_last_va(mr) - table.start + 1;
	table.size = (mlx5_odp_index(mr, mr->odp_top, mlx5_odp_last_va(mr)) + 1) *
		     sizeof(struct mlx5_ksm);
	/* The entries name it. */
	if (mlx5_odp_memory_scheme(dev))
		ret = mlx5_odp_null_key_create(mr);
	if (!ret)
		ret = mlx5_odp_key_make(mr, &mr->mmkey, &table);
	if (ret)
		mlx5_ib_odp_free_keys(mr);
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
			mlx5_odp_child_post_disable(child);
}

static void odp_children_free(struct xarray *children)
{
	struct mlx5_odp_child *child;
	unsigned long index;

	xa_for_each(children, index, child) {
		xa_erase(children, index);
		mlx5_odp_child_free(child);
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
		mlx5_odp_key_destroy(dev, &mr->null_mmkey);
		mr->null_mmkey.key = 0;
	}
}
