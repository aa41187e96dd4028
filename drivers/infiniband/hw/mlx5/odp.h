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
#include "umr.h"

struct mlx5_odp_fault;

/* The device writes translations in blocks of 64 bytes: 8 pages. */
#define MLX5_ODP_GRANULE	(8 * PAGE_SIZE)

/*
 * A region that is longer than this, or implicit, has a table of keys (odp_child.c) where
 * the device can have one. A leaf maps pages, a node maps leaves.
 */
#define MLX5_ODP_DIRECT_MAX	SZ_64M
#define MLX5_ODP_LEAF_SHIFT	24
#define MLX5_ODP_NODE_SHIFT	36
#define MLX5_ODP_LEAF_MTTS	(sizeof(struct mlx5_mtt) << (MLX5_ODP_LEAF_SHIFT - PAGE_SHIFT))

enum mlx5_odp_level {
	MLX5_ODP_LEAF,
	MLX5_ODP_NODE,
};

/*
 * Translations that are all the same, and how much of them one UMR writes: of nothing,
 * for zaps, and of no child.
 */
#define MLX5_ODP_SAME_ORDER	PAGE_ALLOC_COSTLY_ORDER
#define MLX5_ODP_SAME_SIZE	(PAGE_SIZE << MLX5_ODP_SAME_ORDER)
#define MLX5_ODP_ZAP_MAX	(MLX5_ODP_SAME_SIZE / sizeof(struct mlx5_mtt) * PAGE_SIZE)

/* What one fault brings in at most, before the device is asked again. */
#define MLX5_ODP_WINDOW		SZ_4M

static inline bool mlx5_odp_memory_scheme(struct mlx5_ib_dev *dev)
{
	return MLX5_CAP_ODP(dev->mdev, mem_page_fault);
}

/* Where the device has a region's address, and where the process has it. */
static inline u64 mlx5_odp_va(const struct mlx5_ib_mr *mr, unsigned long addr)
{
	return addr - mr->umem->address + mr->ibmr.iova;
}

static inline unsigned long mlx5_odp_addr(const struct mlx5_ib_mr *mr, u64 va)
{
	return va - mr->ibmr.iova + mr->umem->address;
}

/**
 * struct mlx5_odp_table - all translations of a new key
 * @mode: MLX5_MKC_ACCESS_MODE_MTT: they are pages; _KSM: keys
 * @start: first address that the key maps
 * @length: in bytes; 0: all addresses
 * @shift: log2 of the bytes that one translation maps
 * @size: of the table in bytes
 * @same: MLX5_ODP_SAME_SIZE bytes that are repeated; 0: the table is one of keys, and
 *	its entries have no child
 */
struct mlx5_odp_table {
	unsigned int mode;
	u64 start;
	u64 length;
	unsigned int shift;
	u64 size;
	dma_addr_t same;
};

/* What the functions below return for it; no errno, as commands fail with most of them. */
#define MLX5_ODP_STALLED	1

/**
 * struct mlx5_odp_need - memory that a fault needs and user space holds back
 * @odp: the umem of the memory; referenced from mlx5_odp_fill_end() on
 * @start: first address
 * @end: behind the last one
 * @flags: enum ib_odp_fault_flags
 * @done: bytes of the fault before that which the device was told of
 */
struct mlx5_odp_need {
	struct ib_umem_odp *odp;
	unsigned long start;
	unsigned long end;
	unsigned int flags;
	u64 done;
};

/**
 * struct mlx5_odp_fill - to tell the device of pages, chunk by chunk
 * @dev: the device
 * @mr: the region that the next chunk is of
 * @buffers: one is written while the device reads the other one
 * @turn: index of the buffer that is written next
 * @posted: a UMR was posted, and its end was not waited for
 * @nr: its number, for mlx5r_umr_wait()
 * @result: its result
 * @need: what is missing with MLX5_ODP_STALLED
 */
struct mlx5_odp_fill {
	struct mlx5_ib_dev *dev;
	struct mlx5_ib_mr *mr;
	struct mlx5_odp_buffer buffers[2];
	bool turn;
	bool posted;
	unsigned long nr;
	int result;
	struct mlx5_odp_need need;
};

/**
 * struct mlx5_odp_stall - work that waits for memory
 * @entry: in the device's stalls
 * @eq: the device's
 * @wq: where the work is queued
 * @work: the work
 * @drop: frees it when the device goes
 * @populate: brings the memory
 * @rounds: how often this happened to it
 * @result: of the populate
 */
struct mlx5_odp_stall {
	struct list_head entry;
	struct mlx5_ib_pf_eq *eq;
	struct workqueue_struct *wq;
	struct work_struct *work;
	void (*drop)(struct mlx5_odp_stall *stall);
	struct ib_odp_populate *populate;
	unsigned int rounds;
	int result;
};

/* odp_stall.c */
void mlx5_odp_stall_init(struct mlx5_odp_stall *stall, struct mlx5_ib_pf_eq *eq,
			 struct workqueue_struct *wq, struct work_struct *work,
			 void (*drop)(struct mlx5_odp_stall *stall));
int mlx5_odp_stall(struct mlx5_odp_stall *stall, struct mlx5_odp_need *need);
int mlx5_odp_stall_end(struct mlx5_odp_stall *stall);
void mlx5_odp_stalls_init(struct mlx5_ib_pf_eq *eq);
void mlx5_odp_stalls_end(struct mlx5_ib_pf_eq *eq);
int mlx5_odp_stall_fault(struct mlx5_ib_pf_eq *eq, struct mlx5_odp_fault *fault);

/* odp_xlt.c */
extern const struct ib_umem_odp_ops mlx5_odp_ops;

int mlx5_odp_fill_ready(struct mlx5_odp_fill *fill, unsigned long start, unsigned long end);
int mlx5_odp_fill_chunk(struct mlx5_odp_fill *fill, struct mlx5_ib_mkey *mmkey,
			struct ib_odp_chunk *chunk, unsigned long start, unsigned long end);
int mlx5_odp_fill_end(struct mlx5_odp_fill *fill, int ret);
void mlx5_odp_fill_free(struct mlx5_odp_fill *fill);

/* odp_buffer.c */
int mlx5_odp_buffer_get(struct mlx5_ib_dev *dev, struct mlx5_odp_buffer *buffer,
			unsigned int order);
int mlx5_odp_buffer_try_get(struct mlx5_ib_dev *dev, struct mlx5_odp_buffer *buffer);
void mlx5_odp_buffer_put(struct mlx5_ib_dev *dev, struct mlx5_odp_buffer *buffer,
			 unsigned int order);
void mlx5_odp_buffer_sync(struct mlx5_ib_dev *dev, const struct mlx5_odp_buffer *buffer,
			  size_t offset, size_t length);
void *mlx5_odp_slot_get(struct mlx5_ib_dev *dev, dma_addr_t *dma);
void mlx5_odp_slot_sync(struct mlx5_ib_dev *dev, dma_addr_t dma);
void mlx5_odp_slot_put(struct mlx5_ib_dev *dev, unsigned long nr);
struct mlx5_odp_slots *mlx5_odp_slots_create(struct mlx5_ib_dev *dev);
void mlx5_odp_slots_destroy(struct mlx5_ib_dev *dev, struct mlx5_odp_slots *slots);

/* What a region's key is when it is enabled. */
static inline struct mlx5r_umr_key mlx5_odp_umr_key(const struct mlx5_ib_mr *mr, u64 start,
						    u64 length)
{
	return (struct mlx5r_umr_key) {
		.pd = mr->ibmr.pd,
		.access = mr->access_flags,
		.start = start,
		.length = length,
	};
}

/* odp_key.c */
int mlx5_odp_key_create(struct mlx5_ib_dev *dev, struct mlx5_ib_mkey *mmkey, int access,
			unsigned int mode, unsigned int shift, u64 size);
int mlx5_odp_key_make(struct mlx5_ib_mr *mr, struct mlx5_ib_mkey *mmkey,
		      const struct mlx5_odp_table *table);
int mlx5_odp_null_key_create(struct mlx5_ib_mr *mr);
void mlx5_odp_null_entry(struct mlx5_ib_mr *mr, struct mlx5_ksm *ksm, u64 va);

/* odp_pool.c */
int mlx5_odp_leaf_key_get(struct mlx5_ib_mr *mr, struct mlx5_ib_mkey *mmkey, bool *parked);
void mlx5_odp_leaf_key_enable(struct mlx5_ib_mr *mr, struct mlx5_ib_mkey *mmkey, bool parked,
			      u64 va, u64 length);
void mlx5_odp_key_destroy(struct mlx5_ib_dev *dev, struct mlx5_ib_mkey *mmkey);
unsigned long mlx5_odp_leaf_key_disable(struct mlx5_ib_dev *dev, struct mlx5_ib_mkey *mmkey);
void mlx5_odp_leaf_key_put(struct mlx5_ib_dev *dev, struct mlx5_ib_mkey *mmkey);
struct mlx5_odp_pool *mlx5_odp_pool_create(struct mlx5_ib_dev *dev);
void mlx5_odp_pool_drain(struct mlx5_odp_pool *pool);
void mlx5_odp_pool_free(struct mlx5_odp_pool *pool);

/* odp_child.c */
struct mlx5_odp_child;

struct mlx5_odp_child *mlx5_odp_child_get(struct mlx5_ib_mr *mr, u64 va);
void mlx5_odp_child_put(struct mlx5_odp_child *child);
struct mlx5_ib_mkey *mlx5_odp_child_key(struct mlx5_odp_child *child);
struct mlx5_ib_mkey *mlx5_odp_leaf_key(struct mlx5_ib_mr *mr, u64 va);
struct mlx5_ib_mr *mlx5_odp_child_region(struct mlx5_ib_mkey *mmkey);

/* odp_retire.c */
void mlx5_odp_reaped(struct ib_umem_odp *odp);

/* odp_table.c */
void mlx5_odp_children_init(struct mlx5_ib_mr *mr);
int mlx5_odp_children_create(struct mlx5_ib_mr *mr);
void mlx5_odp_children_close(struct mlx5_ib_mr *mr);
void mlx5_odp_children_disable(struct mlx5_ib_mr *mr);

/* odp_names.c */
struct mlx5_odp_name;

void mlx5_odp_names_init(struct mlx5_ib_pf_eq *eq);
void mlx5_odp_names_destroy(struct mlx5_ib_pf_eq *eq);
bool mlx5_odp_child_went(struct mlx5_ib_dev *dev, u32 key);
struct mlx5_odp_name *mlx5_odp_name_keep(struct mlx5_ib_dev *dev, u32 key);
void mlx5_odp_name_expires(struct mlx5_ib_dev *dev, struct mlx5_odp_name *name);

/* odp_mr.c */
int mlx5_odp_fault_mr(struct mlx5_odp_fill *fill, struct mlx5_ib_mr *mr, u64 va, u64 length,
		      unsigned int flags);
int mlx5_odp_fault_dmabuf(struct mlx5_ib_mr *mr);

/* odp_fault.c */
void mlx5_odp_decode(struct mlx5_ib_dev *dev, const struct mlx5_eqe *eqe,
		     struct mlx5_odp_fault *fault);
int mlx5_odp_handle(struct mlx5_odp_fault *fault);

/* odp_answer.c */
void mlx5_odp_answers_init(struct mlx5_ib_pf_eq *eq);
void mlx5_odp_answers_end(struct mlx5_ib_pf_eq *eq);
void mlx5_odp_answer(struct mlx5_odp_fault *fault, int ret);

/**
 * struct mlx5_odp_fault - what the device asked for
 * @work: handles it
 * @eq: the queue it came by
 * @free: frees it
 * @fill: what it does about it
 * @notice: that the device knows all of that
 * @async: its answer's command
 * @out: and what that returned
 * @failed: how the fault ended; 0: well
 * @subtype: enum of MLX5_PFAULT_SUBTYPE_*
 * @type: MLX5_WQE_PF_TYPE_* of a fault that names a WQE
 * @token: how the device knows it
 * @wq: number of the QP or SRQ that has the WQE
 * @wqe_index: its index there
 * @committed: bytes of it that are done
 * @key: region, where no WQE is named
 * @va: address in it
 * @length: bytes wanted from there on; 0: the device cannot tell
 * @before: bytes in front of @va that the device expects to need as well
 * @after: bytes behind the wanted ones that it expects to need as well
 * @packet: bytes of the packet at hand
 * @last: an answer is expected
 */
struct mlx5_odp_fault {
	struct work_struct work;
	struct mlx5_ib_pf_eq *eq;
	void (*free)(struct mlx5_odp_fault *fault);
	struct mlx5_odp_fill fill;
	struct mlx5r_umr_notice notice;
	struct mlx5_async_work async;
	u32 out[MLX5_ST_SZ_DW(page_fault_resume_out)];
	int failed;
	u8 subtype;
	u8 type;
	u64 token;
	u32 wq;
	u16 wqe_index;
	u32 committed;
	u32 key;
	u64 va;
	u64 length;
	u32 before;
	u32 after;
	u32 packet;
	bool last;
};

#endif /* _MLX5_IB_ODP_H */
