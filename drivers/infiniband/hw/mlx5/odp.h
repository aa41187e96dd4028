/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * On-demand paging in mlx5: what its parts share.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef _MLX5_IB_ODP_H
#define _MLX5_IB_ODP_H

#include <rdma/ib_umem_odp.h>

#include "mlx5_ib.h"

struct mlx5_odp_fault;

/* The device writes translations in blocks of 64 bytes: 8 pages. */
#define MLX5_ODP_GRANULE	(8 * PAGE_SIZE)

/* An implicit region is a table of children, each so long. */
#define MLX5_ODP_CHILD_SHIFT	30
#define MLX5_ODP_CHILD_SIZE	BIT_ULL(MLX5_ODP_CHILD_SHIFT)

/* Translations of nothing, for zaps, and how much of a region they zap at once. */
#define MLX5_ODP_ZEROS_ORDER	PAGE_ALLOC_COSTLY_ORDER
#define MLX5_ODP_ZAP_MAX	\
	((PAGE_SIZE << MLX5_ODP_ZEROS_ORDER) / sizeof(struct mlx5_mtt) * PAGE_SIZE)

/* What one fault brings in at most, before the device is asked again. */
#define MLX5_ODP_WINDOW		SZ_4M

/**
 * struct mlx5_odp_child - a part of an implicit region
 * @mmkey: its key; in odp_mkeys only where faults name it
 * @parent: the region
 * @index: which part: address >> MLX5_ODP_CHILD_SHIFT
 */
struct mlx5_odp_child {
	struct mlx5_ib_mkey mmkey;
	struct mlx5_ib_mr *parent;
	unsigned long index;
};

/* odp_mr.c */
int mlx5_odp_fault_mr(struct mlx5_ib_mr *mr, u64 va, u64 length, unsigned int flags);
int mlx5_odp_fault_dmabuf(struct mlx5_ib_mr *mr);

/* odp_fault.c */
void mlx5_odp_decode(struct mlx5_ib_dev *dev, const struct mlx5_eqe *eqe,
		     struct mlx5_odp_fault *fault);
void mlx5_odp_handle(struct mlx5_ib_dev *dev, struct mlx5_odp_fault *fault);

/**
 * struct mlx5_odp_fault - what the device asked for
 * @work: handles it
 * @eq: the queue it came by
 * @subtype: enum of MLX5_PFAULT_SUBTYPE_*
 * @type: MLX5_WQE_PF_TYPE_* of a fault that names a WQE
 * @token: how the device knows it
 * @wq: number of the QP or SRQ that has the WQE
 * @wqe_index: its index there
 * @committed: bytes of it that are done
 * @key: region, where no WQE is named
 * @va: address in it
 * @length: bytes wanted from there on; 0: the device cannot tell
 * @packet: bytes of the packet at hand
 * @last: an answer is expected
 */
struct mlx5_odp_fault {
	struct work_struct work;
	struct mlx5_ib_pf_eq *eq;
	u8 subtype;
	u8 type;
	u64 token;
	u32 wq;
	u16 wqe_index;
	u32 committed;
	u32 key;
	u64 va;
	u64 length;
	u32 packet;
	bool last;
};

#endif /* _MLX5_IB_ODP_H */
