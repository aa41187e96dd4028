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

/* A part of a table of translations: whose, from where on, and how long, in bytes. */
struct odp_xlt {
	struct mlx5_ib_mkey *mmkey;
	u64 offset;
	size_t length;
};

static struct odp_xlt odp_xlt(struct mlx5_ib_mr *mr, unsigned long start, unsigned long end)
{
	size_t nr = ALIGN((end - start) >> PAGE_SHIFT, MLX5_ODP_GRANULE >> PAGE_SHIFT);
	unsigned long base = ib_umem_start(to_ib_umem_odp(mr->umem));
	struct mlx5_ib_mkey *mmkey = &mr->mmkey;

	if (mr->is_odp_implicit) {
		base = ALIGN_DOWN(start, MLX5_ODP_CHILD_SIZE);
		mmkey = mlx5_odp_child_key(mr, start);
	}
	return (struct odp_xlt) {
		.mmkey = mmkey,
		.offset = ((start - base) >> PAGE_SHIFT) * sizeof(struct mlx5_mtt),
		.length = nr * sizeof(struct mlx5_mtt),
	};
}

static void odp_zap_flush(struct mlx5_ib_mr *mr)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);
	struct odp_xlt xlt;

	lockdep_assert_held(&mr->odp_zap_lock);
	if (!mr->odp_zap_end)
		return;
	xlt = odp_xlt(mr, mr->odp_zap_start, mr->odp_zap_end);
	mr->odp_zap_end = 0;
	/* A part of an implicit region that the device does not know. */
	if (!xlt.mmkey)
		return;
	mr->odp_zap_nr = mlx5r_umr_post_xlt(dev, xlt.mmkey, dev->odp_pf_eq.zeros_dma,
					    xlt.length, xlt.offset, NULL);
}

static bool odp_zap_goes_on(struct mlx5_ib_mr *mr, unsigned long start, unsigned long end)
{
	if (mr->odp_zap_end != start || end - mr->odp_zap_start > MLX5_ODP_ZAP_MAX)
		return false;
	return !mr->is_odp_implicit || !((start ^ mr->odp_zap_start) >> MLX5_ODP_CHILD_SHIFT);
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

static int odp_buffer_get(struct device *device, struct mlx5_odp_buffer *buffer)
{
	buffer->mtts = (void *)__get_free_page(GFP_KERNEL);
	if (!buffer->mtts)
		return -ENOMEM;
	buffer->dma = dma_map_single(device, buffer->mtts, PAGE_SIZE, DMA_TO_DEVICE);
	if (!dma_mapping_error(device, buffer->dma))
		return 0;
	free_page((unsigned long)buffer->mtts);
	buffer->mtts = NULL;
	return -ENOMEM;
}

static void odp_buffer_put(struct device *device, struct mlx5_odp_buffer *buffer)
{
	if (!buffer->mtts)
		return;
	dma_unmap_single(device, buffer->dma, PAGE_SIZE, DMA_TO_DEVICE);
	free_page((unsigned long)buffer->mtts);
}

/**
 * mlx5_odp_fill_ready() - have what it takes to tell the device of a chunk
 * @fill: of the region; only @fill->mr is set, the first time
 *
 * Context: sleeps; not under a chunk's lock: this allocates.
 * Return: 0; -ENOMEM. In either case mlx5_odp_fill_end() is called in the end.
 */
int mlx5_odp_fill_ready(struct mlx5_odp_fill *fill)
{
	struct mlx5_odp_buffer *buffer = &fill->buffers[fill->turn];

	return buffer->mtts ? 0 : odp_buffer_get(mr_to_mdev(fill->mr)->mdev->device, buffer);
}

static int odp_fill_wait(struct mlx5_odp_fill *fill)
{
	if (!fill->posted)
		return 0;
	fill->posted = false;
	mlx5r_umr_wait(mr_to_mdev(fill->mr), fill->nr);
	return fill->result;
}

/* Whole granules; what is behind the chunk's end is nobody's. */
static void odp_fill_mtts(const struct ib_odp_chunk *chunk, unsigned long addr,
			  unsigned long end, __be64 *mtts)
{
	unsigned int nr = (min(end, ib_odp_chunk_end(chunk)) - addr) >> PAGE_SHIFT;
	unsigned int all = (end - addr) >> PAGE_SHIFT;

	ib_odp_chunk_entries(chunk, addr, nr, mtts);
	memset(mtts + nr, 0, (all - nr) * sizeof(*mtts));
}

/**
 * mlx5_odp_fill_chunk() - tell the device of a part of a chunk, or of all of a
 *	huge page
 * @fill: ready
 * @chunk: locked
 * @start: first address
 * @end: behind the last one
 *
 * Context: sleeps; allocates nothing.
 * Return: 0; -EIO and others if the device failed the one before this.
 */
int mlx5_odp_fill_chunk(struct mlx5_odp_fill *fill, struct ib_odp_chunk *chunk,
			unsigned long start, unsigned long end)
{
	struct mlx5_odp_buffer *buffer = &fill->buffers[fill->turn];
	struct mlx5_ib_dev *dev = mr_to_mdev(fill->mr);
	struct device *device = dev->mdev->device;
	unsigned long first = ib_odp_chunk_start(chunk);
	struct odp_xlt xlt;
	int ret;

	if (chunk->huge) {
		start = first;
		end = ib_odp_chunk_end(chunk);
	} else {
		end = max(end, chunk->fault_end);
	}
	start = first + ALIGN_DOWN(start - first, MLX5_ODP_GRANULE);
	end = first + ALIGN(end - first, MLX5_ODP_GRANULE);
	xlt = odp_xlt(fill->mr, start, end);
	dma_sync_single_for_cpu(device, buffer->dma, xlt.length, DMA_TO_DEVICE);
	odp_fill_mtts(chunk, start, end, buffer->mtts);
	dma_sync_single_for_device(device, buffer->dma, xlt.length, DMA_TO_DEVICE);
	ret = odp_fill_wait(fill);
	fill->nr = mlx5r_umr_post_xlt(dev, xlt.mmkey, buffer->dma, xlt.length, xlt.offset,
				      &fill->result);
	fill->posted = true;
	fill->turn = !fill->turn;
	return ret;
}

/**
 * mlx5_odp_fill_end() - wait until the device knows all it was told
 * @fill: of the region
 *
 * Context: sleeps.
 * Return: 0; -EIO and others if the device failed the last one.
 */
int mlx5_odp_fill_end(struct mlx5_odp_fill *fill)
{
	struct device *device = mr_to_mdev(fill->mr)->mdev->device;
	int ret = odp_fill_wait(fill);

	odp_buffer_put(device, &fill->buffers[0]);
	odp_buffer_put(device, &fill->buffers[1]);
	return ret;
}
