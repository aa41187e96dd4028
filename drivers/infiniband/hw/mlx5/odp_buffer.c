// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * On-demand paging in mlx5: where the device reads translations from.
 *
 * Up to a page of translations is written to a buffer, which is allocated, and belongs to
 * its task until the UMR that reads it is done. What fits into one granule, as most faults
 * and every entry of a table of keys do, is written to a slot, which belongs to the device
 * and stays mapped for it. A slot is used again when the last UMR that read it is done.
 * That is usually long ago, as there are as many slots as UMRs.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include "odp.h"
#include "umr.h"

/* ---- buffers ---- */

static int odp_buffer_alloc(struct mlx5_ib_dev *dev, struct mlx5_odp_buffer *buffer,
			    unsigned int order, gfp_t gfp)
{
	struct device *device = dev->mdev->device;

	buffer->mtts = (void *)__get_free_pages(gfp, order);
	if (!buffer->mtts)
		return -ENOMEM;
	buffer->dma = dma_map_single(device, buffer->mtts, PAGE_SIZE << order, DMA_TO_DEVICE);
	if (!dma_mapping_error(device, buffer->dma))
		return 0;
	free_pages((unsigned long)buffer->mtts, order);
	buffer->mtts = NULL;
	return -ENOMEM;
}

/**
 * mlx5_odp_buffer_get() - allocate pages that the device reads translations from
 * @dev: the device
 * @buffer: set to the pages; their content is undefined
 * @order: log2 of their number
 *
 * Context: sleeps.
 * Return: 0; -ENOMEM.
 */
int mlx5_odp_buffer_get(struct mlx5_ib_dev *dev, struct mlx5_odp_buffer *buffer,
			unsigned int order)
{
	return odp_buffer_alloc(dev, buffer, order, GFP_KERNEL);
}

/**
 * mlx5_odp_buffer_try_get() - allocate a page where memory must not be waited for
 * @dev: the device
 * @buffer: set to the page; its content is undefined
 *
 * Context: any.
 * Return: 0; -ENOMEM.
 */
int mlx5_odp_buffer_try_get(struct mlx5_ib_dev *dev, struct mlx5_odp_buffer *buffer)
{
	return odp_buffer_alloc(dev, buffer, 0, GFP_NOWAIT | __GFP_NOWARN);
}

/**
 * mlx5_odp_buffer_put() - undo mlx5_odp_buffer_get()
 * @dev: the device
 * @buffer: the pages, which the device no longer reads; or zeroed
 * @order: log2 of their number
 *
 * Context: any.
 */
void mlx5_odp_buffer_put(struct mlx5_ib_dev *dev, struct mlx5_odp_buffer *buffer,
			 unsigned int order)
{
	if (!buffer->mtts)
		return;
	dma_unmap_single(dev->mdev->device, buffer->dma, PAGE_SIZE << order, DMA_TO_DEVICE);
	free_pages((unsigned long)buffer->mtts, order);
	*buffer = (struct mlx5_odp_buffer) {};
}

/**
 * mlx5_odp_buffer_sync() - let the device see what was written to a buffer
 * @dev: the device
 * @buffer: the buffer
 * @offset: of the first byte
 * @length: in bytes
 *
 * Context: any.
 */
void mlx5_odp_buffer_sync(struct mlx5_ib_dev *dev, const struct mlx5_odp_buffer *buffer,
			  size_t offset, size_t length)
{
	dma_sync_single_range_for_device(dev->mdev->device, buffer->dma, offset, length,
					 DMA_TO_DEVICE);
}

/* ---- slots of a granule ---- */

/* Of a page, each for translations that are written together. */
#define ODP_SLOT_BYTES		MLX5_UMR_FLEX_ALIGNMENT
#define ODP_SLOTS		(PAGE_SIZE / ODP_SLOT_BYTES)

/**
 * struct mlx5_odp_slots - granules that UMRs are writing
 * @lock: held while one is filled and posted
 * @buffer: the page
 * @next: the slot that is used next
 * @posted: the last UMR that reads a slot
 */
struct mlx5_odp_slots {
	struct mutex lock;	/* what follows */
	struct mlx5_odp_buffer buffer;
	unsigned int next;
	unsigned long posted[ODP_SLOTS];
};

/**
 * mlx5_odp_slot_get() - have a slot to fill and to post
 * @dev: the device
 * @dma: set to its address for the device
 *
 * Context: sleeps; allocates nothing. No two at a time.
 * Return: the slot, for mlx5_odp_slot_put().
 */
void *mlx5_odp_slot_get(struct mlx5_ib_dev *dev, dma_addr_t *dma)
{
	struct mlx5_odp_slots *slots = dev->odp_pf_eq.slots;
	size_t offset;

	mutex_lock(&slots->lock);
	offset = slots->next * ODP_SLOT_BYTES;
	mlx5r_umr_wait(dev, slots->posted[slots->next]);
	*dma = slots->buffer.dma + offset;
	return (void *)slots->buffer.mtts + offset;
}

/**
 * mlx5_odp_slot_sync() - let the device see what is in the slot
 * @dev: the device
 * @dma: its address
 *
 * Context: a slot was got.
 */
void mlx5_odp_slot_sync(struct mlx5_ib_dev *dev, dma_addr_t dma)
{
	dma_sync_single_for_device(dev->mdev->device, dma, ODP_SLOT_BYTES, DMA_TO_DEVICE);
}

/**
 * mlx5_odp_slot_put() - the slot was posted
 * @dev: the device
 * @nr: number of the UMR
 *
 * Context: a slot was got.
 */
void mlx5_odp_slot_put(struct mlx5_ib_dev *dev, unsigned long nr)
{
	struct mlx5_odp_slots *slots = dev->odp_pf_eq.slots;

	slots->posted[slots->next] = nr;
	slots->next = (slots->next + 1) % ODP_SLOTS;
	mutex_unlock(&slots->lock);
}

/**
 * mlx5_odp_slots_create() - have slots
 * @dev: the device
 *
 * Context: sleeps.
 * Return: they; NULL: no memory.
 */
struct mlx5_odp_slots *mlx5_odp_slots_create(struct mlx5_ib_dev *dev)
{
	struct mlx5_odp_slots *slots = kzalloc(sizeof(*slots), GFP_KERNEL);

	if (!slots)
		return NULL;
	if (mlx5_odp_buffer_get(dev, &slots->buffer, 0)) {
		kfree(slots);
		return NULL;
	}
	mutex_init(&slots->lock);
	return slots;
}

/**
 * mlx5_odp_slots_destroy() - undo mlx5_odp_slots_create()
 * @dev: the device
 * @slots: the slots; no UMR reads them
 *
 * Context: sleeps.
 */
void mlx5_odp_slots_destroy(struct mlx5_ib_dev *dev, struct mlx5_odp_slots *slots)
{
	mlx5_odp_buffer_put(dev, &slots->buffer, 0);
	kfree(slots);
}
