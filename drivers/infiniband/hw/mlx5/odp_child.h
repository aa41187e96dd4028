/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * On-demand paging in mlx5: children of regions, for the files that make them
 * (odp_child.c), enter them in tables (odp_table.c) and retire them (odp_retire.c).
 * The concept is in odp_child.c.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef _MLX5_IB_ODP_CHILD_H
#define _MLX5_IB_ODP_CHILD_H

#include "odp.h"

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

static inline unsigned int mlx5_odp_shift(enum mlx5_odp_level level)
{
	return level == MLX5_ODP_LEAF ? MLX5_ODP_LEAF_SHIFT : MLX5_ODP_NODE_SHIFT;
}

static inline struct xarray *mlx5_odp_children(struct mlx5_ib_mr *mr, enum mlx5_odp_level level)
{
	return &mr->odp_children[level];
}

/* Of a child in its xarray, and of its entry in the table of a region that has it. */
static inline unsigned long mlx5_odp_index(const struct mlx5_ib_mr *mr,
					   enum mlx5_odp_level level, u64 va)
{
	unsigned int shift = mlx5_odp_shift(level);

	return (va >> shift) - (mr->ibmr.iova >> shift);
}

static inline u64 mlx5_odp_last_va(const struct mlx5_ib_mr *mr)
{
	return mr->ibmr.iova + mr->umem->length - 1;
}

/* odp_table.c */
#define MLX5_ODP_NODE_LEAVES	BIT(MLX5_ODP_NODE_SHIFT - MLX5_ODP_LEAF_SHIFT)

u64 mlx5_odp_granule(const struct mlx5_odp_child *child);
unsigned long mlx5_odp_entry_post(struct mlx5_odp_child *child, int *result);

/* odp_child.c */
void mlx5_odp_child_set_state(struct mlx5_odp_child *child, enum odp_child_state state);
void mlx5_odp_child_free(struct mlx5_odp_child *child);
unsigned long mlx5_odp_child_post_disable(struct mlx5_odp_child *child);

/* odp_retire.c */
void mlx5_odp_children_work(struct work_struct *work);

#endif /* _MLX5_IB_ODP_CHILD_H */
