// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * On-demand paging in mlx5: the device's translations.
 *
 * A region's key has a table of translations (MTTs). The device writes blocks of
 * 8 of them: they are the umem's granules, a chunk never shares one, and a zap
 * takes whole ones.
 *
 * What the device is told of a chunk's pages is posted (as a UMR) under the chunk's
 * lock, under which they were looked at. The device executes UMRs in the order
 * in which they are posted, so for each page its last word is what the chunk
 * says. Nobody waits under the lock: a zap that comes next is executed next, and
 * the end of it is the end of all before it.
 *
 * Pages come with a UMR for each chunk. While it is executed the next chunk is
 * prepared.
 *
 * A zap that fails costs its key (umr_queue.c): the region, or the child of an
 * implicit one, is of no use then. Zaps of a lost key are posted like others, and
 * end without reaching the device.
 *
 * A zap must not allocate: it may be what memory is being waited for. So it
 * posts translations of nothing that are always there. Zaps of chunks that are
 * neighbours become one UMR, which is posted when the next one is not, or when
 * somebody waits for it.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include "odp.h"
#include "umr.h"

/* A part of a table: whose, from which address on, its place and length in bytes. */
struct odp_xlt {
	struct mlx5_ib_mkey *mmkey;
	unsigned long first;
	u64 offset;
	size_t length;
};

/* Whole granules of the table, the first of which begins at @start or before. */
static struct odp_xlt odp_xlt(struct mlx5_ib_mr *mr, struct mlx5_ib_mkey *mmkey,
			      unsigned long start, unsigned long end)
{
	u64 leaf = ALIGN_DOWN(mlx5_odp_va(mr, start), BIT_ULL(MLX5_ODP_LEAF_SHIFT));
	unsigned long base;

	base = mr->odp_has_children ? mlx5_odp_addr(mr, leaf)
				    : ib_umem_start(to_ib_umem_odp(mr->umem));
	start = ALIGN_DOWN(start - base, MLX5_ODP_GRANULE);
	end = ALIGN(end - base, MLX5_ODP_GRANULE);
	return (struct odp_xlt) {
		.mmkey = mmkey,
		.first = base + start,
		.offset = (start >> PAGE_SHIFT) * sizeof(struct mlx5_mtt),
		.length = ((end - start) >> PAGE_SHIFT) * sizeof(struct mlx5_mtt),
	};
}

static void odp_zap_flush(struct mlx5_ib_mr *mr)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);
	struct mlx5_ib_mkey *mmkey = &mr->mmkey;
	struct odp_xlt xlt;

	lockdep_assert_held(&mr->odp_zap_lock);
	if (!mr->odp_zap_end)
		return;
	if (mr->odp_has_children)
		mmkey = mlx5_odp_leaf_key(mr, mlx5_odp_va(mr, mr->odp_zap_start));
	xlt = odp_xlt(mr, mmkey, mr->odp_zap_start, mr->odp_zap_end);
	mr->odp_zap_end = 0;
	/* A part of a region that the device does not know. */
	if (!mmkey)
		return;
	mr->odp_zap_nr = mlx5r_umr_post_xlt(dev, xlt.mmkey, dev->odp_pf_eq.zeros.dma,
					    xlt.length, xlt.offset, NULL);
}

static bool odp_zap_goes_on(struct mlx5_ib_mr *mr, unsigned long start, unsigned long end)
{
	if (mr->odp_zap_end != start || end - mr->odp_zap_start > MLX5_ODP_ZAP_MAX)
		return false;
	return !mr->odp_has_children ||
	       mlx5_odp_va(mr, start) >> MLX5_ODP_LEAF_SHIFT ==
	       mlx5_odp_va(mr, mr->odp_zap_start) >> MLX5_ODP_LEAF_SHIFT;
}

static void odp_zap(struct ib_odp_chunk *chunk, unsigned long start, unsigned long end)
{
	struct mlx5_ib_mr *mr = chunk->odp->private;

	mutex_lock(&mr->odp_zap_lock);
	if (!mr->odp_dead) {
		if (!odp_zap_goes_on(mr, start, end)) {
			odp_zap_flush(mr);
			mr->odp_zap_start = start;
		}
		mr->odp_zap_end = end;
	}
	mutex_unlock(&mr->odp_zap_lock);
}

/* For all of the region's, which costs nothing: they are executed in order. */
static void odp_zap_wait(struct ib_odp_chunk *chunk)
{
	struct mlx5_ib_mr *mr = chunk->odp->private;
	unsigned long nr;

	mutex_lock(&mr->odp_zap_lock);
	if (!mr->odp_dead)
		odp_zap_flush(mr);
	nr = mr->odp_zap_nr;
	mutex_unlock(&mr->odp_zap_lock);
	mlx5r_umr_wait(mr_to_mdev(mr), nr);
}

const struct ib_umem_odp_ops mlx5_odp_ops = {
	.granule = MLX5_ODP_GRANULE,
	.zap = odp_zap,
	.zap_wait = odp_zap_wait,
	.reaped = mlx5_odp_reaped,
};

/* ---- what comes ---- */

static_assert(IB_ODP_CHUNK_PAGES * sizeof(__be64) <= PAGE_SIZE);
static_assert(IB_ODP_ENTRY_READ == MLX5_IB_MTT_READ);
static_assert(IB_ODP_ENTRY_WRITE == MLX5_IB_MTT_WRITE);

/**
 * mlx5_odp_fill_ready() - have what it takes to tell the device of a part of a chunk
 * @fill: only @fill->dev is set, the first time
 * @start: first address of the part
 * @end: behind the last one
 *
 * Context: sleeps; not under a chunk's lock: this allocates.
 * Return: 0; -ENOMEM. In either case mlx5_odp_fill_end() is called in the end.
 */
int mlx5_odp_fill_ready(struct mlx5_odp_fill *fill, unsigned long start, unsigned long end)
{
	struct mlx5_odp_buffer *buffer = &fill->buffers[fill->turn];

	/* For a granule there are slots. */
	if (buffer->mtts || start >> PAGE_SHIFT == (end - 1) >> PAGE_SHIFT)
		return 0;
	return mlx5_odp_buffer_get(fill->dev, buffer, 0);
}

static int odp_fill_wait(struct mlx5_odp_fill *fill)
{
	if (!fill->posted)
		return 0;
	fill->posted = false;
	mlx5r_umr_wait(fill->dev, fill->nr);
	return fill->result;
}

/* Granules at the chunk's ends may have a part that is not the chunk's, nor anybody's. */
static void odp_fill_mtts(const struct ib_odp_chunk *chunk, const struct odp_xlt *xlt,
			  __be64 *mtts)
{
	unsigned int all = xlt->length / sizeof(*mtts);
	unsigned long end = min(xlt->first + ((unsigned long)all << PAGE_SHIFT),
				ib_odp_chunk_end(chunk));
	unsigned long start = max(xlt->first, ib_odp_chunk_start(chunk));
	unsigned int before = (start - xlt->first) >> PAGE_SHIFT;
	unsigned int nr = (end - start) >> PAGE_SHIFT;

	memset(mtts, 0, before * sizeof(*mtts));
	ib_odp_chunk_entries(chunk, start, nr, mtts + before);
	memset(mtts + before + nr, 0, (all - before - nr) * sizeof(*mtts));
}

/* Both return how the one before ended. */
static int odp_fill_slot(struct mlx5_odp_fill *fill, const struct ib_odp_chunk *chunk,
			 const struct odp_xlt *xlt)
{
	struct mlx5_ib_dev *dev = fill->dev;
	int ret = odp_fill_wait(fill);
	dma_addr_t dma;
	__be64 *mtts = mlx5_odp_slot_get(dev, &dma);

	odp_fill_mtts(chunk, xlt, mtts);
	mlx5_odp_slot_sync(dev, dma);
	fill->nr = mlx5r_umr_post_xlt(dev, xlt->mmkey, dma, xlt->length, xlt->offset,
				      &fill->result);
	mlx5_odp_slot_put(dev, fill->nr);
	return ret;
}

static int odp_fill_buffer(struct mlx5_odp_fill *fill, const struct ib_odp_chunk *chunk,
			   const struct odp_xlt *xlt)
{
	struct mlx5_odp_buffer *buffer = &fill->buffers[fill->turn];
	struct device *device = fill->dev->mdev->device;
	int ret;

	dma_sync_single_for_cpu(device, buffer->dma, xlt->length, DMA_TO_DEVICE);
	odp_fill_mtts(chunk, xlt, buffer->mtts);
	dma_sync_single_for_device(device, buffer->dma, xlt->length, DMA_TO_DEVICE);
	ret = odp_fill_wait(fill);
	fill->nr = mlx5r_umr_post_xlt(fill->dev, xlt->mmkey, buffer->dma, xlt->length,
				      xlt->offset, &fill->result);
	fill->turn = !fill->turn;
	return ret;
}

/* Has more come than there is a slot for, and is there memory to tell of that? */
static bool odp_fill_has_buffer(struct mlx5_odp_fill *fill)
{
	struct mlx5_odp_buffer *buffer = &fill->buffers[fill->turn];

	return buffer->mtts || !mlx5_odp_buffer_try_get(fill->dev, buffer);
}

/**
 * mlx5_odp_fill_chunk() - tell the device of a part of a chunk, and of what came with it
 * @fill: ready
 * @mmkey: the key whose table has the chunk
 * @chunk: locked
 * @start: first address
 * @end: behind the last one
 *
 * Context: sleeps; waits for no memory.
 * Return: 0; -EIO and others if the device failed the one before this.
 */
int mlx5_odp_fill_chunk(struct mlx5_odp_fill *fill, struct mlx5_ib_mkey *mmkey,
			struct ib_odp_chunk *chunk, unsigned long start, unsigned long end)
{
	struct odp_xlt xlt;
	bool slot;
	int ret;

	if (chunk->huge)
		xlt = odp_xlt(fill->mr, mmkey, ib_odp_chunk_start(chunk), ib_odp_chunk_end(chunk));
	else
		xlt = odp_xlt(fill->mr, mmkey, start, max(end, chunk->fault_end));
	slot = xlt.length <= MLX5_UMR_FLEX_ALIGNMENT;
	if (!slot && !odp_fill_has_buffer(fill)) {
		xlt = odp_xlt(fill->mr, mmkey, start, end);
		slot = true;
	}
	ret = slot ? odp_fill_slot(fill, chunk, &xlt) : odp_fill_buffer(fill, chunk, &xlt);
	fill->posted = true;
	return ret;
}

/**
 * mlx5_odp_fill_free() - give back what it took
 * @fill: the device knows all it was told
 *
 * Context: any but hard interrupts.
 */
void mlx5_odp_fill_free(struct mlx5_odp_fill *fill)
{
	mlx5_odp_buffer_put(fill->dev, &fill->buffers[0], 0);
	mlx5_odp_buffer_put(fill->dev, &fill->buffers[1], 0);
}

/**
 * mlx5_odp_fill_end() - wait until the device knows all it was told
 * @fill: the fill, for which nothing is left to be done
 * @ret: what mlx5_odp_fault_mr() returned
 *
 * Context: sleeps.
 * Return: @ret; -EIO and others if the device failed the last one.
 */
int mlx5_odp_fill_end(struct mlx5_odp_fill *fill, int ret)
{
	int told = odp_fill_wait(fill);

	mlx5_odp_fill_free(fill);
	if (ret != MLX5_ODP_STALLED)
		return ret ?: told;
	if (told)
		return told;
	ib_umem_odp_hold(fill->need.odp);
	return ret;
}
