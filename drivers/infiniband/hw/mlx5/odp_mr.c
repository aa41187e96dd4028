// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * On-demand paging in mlx5: regions.
 *
 * A region has a key with a table of translations. A short region's table is one of
 * pages: it is written as empty before the key is enabled (odp_key.c), and filled by
 * page faults. A long one's, and that of a region of all memory, is a table of keys
 * (odp_child.c). What the process has mapped by then is told to the device at
 * registration. The umem keeps what the device was told, in chunks; odp_xlt.c tells it.
 *
 * A key is lost when the device cannot zap it, for instance because its owner
 * invalidated it by LOCAL_INV (umr_queue.c). Faults of a lost key fail. What remains
 * is to end the region.
 *
 * The end of a region. First nobody finds it any more: faults hold a reference
 * while they work. Then its keys are revoked or disabled, which a UMR does without any
 * allocation, under odp_zap_lock; a zap that finds the region dead leaves the
 * device alone. So it never touches a key that belongs to another region by then.
 *
 * Locks: odp_children_lock, mmap_lock, chunk->lock, odp_zap_lock.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/dma-buf.h>
#include <linux/dma-resv.h>

#include "odp.h"
#include "umr.h"

/* ---- faults ---- */

static int odp_fault_key_chunk(struct mlx5_odp_fill *fill, struct mlx5_ib_mkey *mmkey,
			       unsigned long start, unsigned long end, unsigned int flags)
{
	struct ib_odp_chunk *chunk;
	int ret = 0;

	if (mlx5r_umr_key_lost(mmkey))
		return -EFAULT;
	chunk = ib_umem_odp_fault(to_ib_umem_odp(fill->mr->umem), start, end, flags);
	if (IS_ERR(chunk))
		return chunk == ERR_PTR(-EAGAIN) ? MLX5_ODP_STALLED : PTR_ERR(chunk);
	/*
	 * Also if all of it was there: the device asked, and it is not for us to
	 * know why it did not see it.
	 */
	if (chunk->nr_mapped)
		ret = mlx5_odp_fill_chunk(fill, mmkey, chunk, start, end);
	ib_odp_chunk_unlock(chunk);
	return ret;
}

static int odp_fault_chunk(struct mlx5_odp_fill *fill, unsigned long start,
			   unsigned long end, unsigned int flags)
{
	struct mlx5_ib_mr *mr = fill->mr;
	struct mlx5_odp_child *child;
	int ret;

	ret = mlx5_odp_fill_ready(fill, start, end);
	if (ret)
		return ret;
	if (!mr->odp_has_children)
		return odp_fault_key_chunk(fill, &mr->mmkey, start, end, flags);
	child = mlx5_odp_child_get(mr, mlx5_odp_va(mr, start));
	if (IS_ERR(child))
		return PTR_ERR(child);
	ret = odp_fault_key_chunk(fill, mlx5_odp_child_key(child), start, end, flags);
	mlx5_odp_child_put(child);
	return ret;
}

/**
 * mlx5_odp_fault_mr() - bring pages in and tell the device
 * @fill: the fill, for mlx5_odp_fill_end() in any case
 * @mr: a paged region, referenced
 * @va: first address, in the region's own terms
 * @length: in bytes
 * @flags: enum ib_odp_fault_flags
 *
 * The device may not know the last ones yet on return. It will know them before it
 * executes any UMR that is posted later, so that nothing of the region is needed then.
 *
 * Context: sleeps, but not for memory that user space holds back.
 * Return: 0; MLX5_ODP_STALLED, with what is missing in @fill; -EFAULT if it is not inside,
 * or the key is lost, or what ib_umem_odp_fault() says; -EIO and others if the device
 * fails.
 */
int mlx5_odp_fault_mr(struct mlx5_odp_fill *fill, struct mlx5_ib_mr *mr, u64 va, u64 length,
		      unsigned int flags)
{
	struct ib_umem_odp *odp = to_ib_umem_odp(mr->umem);
	u64 offset = va - mr->ibmr.iova;
	unsigned long addr, end, next;
	int ret = 0;

	if (offset > odp->umem.length || length > odp->umem.length - offset)
		return -EFAULT;
	fill->mr = mr;
	addr = odp->umem.address + offset;
	end = addr + length;
	while (!ret && addr < end) {
		next = min(end, ib_umem_odp_chunk_end(odp, addr));
		ret = odp_fault_chunk(fill, addr, next, flags | IB_ODP_FAULT_PROMPT);
		if (ret == MLX5_ODP_STALLED)
			fill->need = (struct mlx5_odp_need) {
				.odp = odp, .start = addr, .end = next, .flags = flags,
				.done = addr - (odp->umem.address + offset),
			};
		flags |= IB_ODP_FAULT_PART;
		addr = next;
	}
	return ret;
}

/*
 * What the process has mapped by now is likely to be used; a fault for each page
 * would cost a hundred times as much. What fails here will fault.
 */
static void odp_fault_mapped(struct mlx5_ib_mr *mr)
{
	struct ib_umem_odp *odp = to_ib_umem_odp(mr->umem);
	unsigned int flags = IB_ODP_FAULT_PRESENT | IB_ODP_FAULT_PREFETCH;
	unsigned long addr = ib_umem_odp_find_mapped(odp, ib_umem_start(odp));
	struct mlx5_odp_fill fill = { .dev = mr_to_mdev(mr), .mr = mr };
	unsigned long end;

	if (mr->umem->writable)
		flags |= IB_ODP_FAULT_WRITE;
	while (addr < ib_umem_end(odp)) {
		end = ib_umem_odp_chunk_end(odp, addr);
		if (odp_fault_chunk(&fill, addr, end, flags))
			break;
		addr = ib_umem_odp_find_mapped(odp, end);
	}
	mlx5_odp_fill_end(&fill, 0);
}

/* ---- registration ---- */

static struct mlx5_ib_mr *odp_mr_alloc(struct ib_pd *pd, struct ib_umem_odp *odp,
				       u64 iova, u64 length, int access)
{
	struct mlx5_ib_mr *mr = kzalloc(sizeof(*mr), GFP_KERNEL);

	if (!mr)
		return NULL;
	mr->ibmr.pd = pd;
	mr->ibmr.device = pd->device;
	mr->ibmr.iova = iova;
	mr->ibmr.length = length;
	mr->umem = &odp->umem;
	mr->access_flags = access;
	mr->page_shift = PAGE_SHIFT;
	mr->is_odp_implicit = odp->implicit;
	mr->mmkey.type = MLX5_MKEY_MR;
	mlx5_odp_children_init(mr);
	mutex_init(&mr->odp_zap_lock);
	odp->private = mr;
	return mr;
}

static struct ib_umem_odp *odp_get_umem(struct mlx5_ib_dev *dev, u64 start, u64 length,
					u64 iova, int access)
{
	if (!start && length == U64_MAX) {
		if (!(dev->odp_caps.general_caps & IB_ODP_SUPPORT_IMPLICIT))
			return ERR_PTR(-EOPNOTSUPP);
		if (iova)
			return ERR_PTR(-EINVAL);
		return ib_umem_odp_get_implicit(&dev->ib_dev, access, &mlx5_odp_ops);
	}
	/* Addresses keep their place in a page. */
	if (!mlx5r_umr_can_load_pas(dev, length) || ((start ^ iova) & ~PAGE_MASK))
		return ERR_PTR(-EINVAL);
	return ib_umem_odp_get(&dev->ib_dev, start, length, access, &mlx5_odp_ops);
}

/*
 * Chunks begin where leaves do. So that holds for each of these, however the two kinds
 * of addresses differ. Memory below the first such chunk does not exist.
 */
static bool odp_align_chunks(struct mlx5_ib_mr *mr, struct ib_umem_odp *odp)
{
	unsigned long skew = (odp->umem.address - mr->ibmr.iova) & (IB_ODP_CHUNK_SIZE - 1);

	if (ib_umem_start(odp) < skew)
		return false;
	odp->skew = skew;
	return true;
}

/* Is the region to have a table of keys? */
static bool odp_wants_children(struct mlx5_ib_mr *mr, struct ib_umem_odp *odp)
{
	u64 last = mr->ibmr.iova + odp->umem.length - 1;

	if (odp->implicit)
		return true;
	/* One page may be the region's in part, and only a key's own bounds are to the byte. */
	if (odp->umem.length <= MLX5_ODP_DIRECT_MAX || (mr->ibmr.iova & ~PAGE_MASK) ||
	    !(mr_to_mdev(mr)->odp_caps.general_caps & IB_ODP_SUPPORT_IMPLICIT))
		return false;
	/* Without an overflow, up to the end of the last node. */
	if (last < mr->ibmr.iova || last >= ALIGN_DOWN(U64_MAX, BIT_ULL(MLX5_ODP_NODE_SHIFT)))
		return false;
	return odp_align_chunks(mr, odp);
}

static int odp_create_direct(struct mlx5_ib_mr *mr, struct ib_umem_odp *odp)
{
	const struct mlx5_odp_table table = {
		.mode = MLX5_MKC_ACCESS_MODE_MTT,
		.start = mr->ibmr.iova,
		.length = mr->ibmr.length,
		.shift = PAGE_SHIFT,
		.size = ib_umem_odp_num_pages(odp) * sizeof(struct mlx5_mtt),
		.same = mr_to_mdev(mr)->odp_pf_eq.zeros.dma,
	};

	return mlx5_odp_key_make(mr, &mr->mmkey, &table);
}

/**
 * mlx5_ib_reg_odp_mr() - register memory for paging
 * @pd: whose
 * @start: first address; 0 with a @length of U64_MAX: all there is
 * @length: in bytes
 * @iova: how the device's users call @start
 * @access: enum ib_access_flags
 *
 * Context: sleeps.
 * Return: the region; -EOPNOTSUPP, -EINVAL, -ENOMEM and others.
 */
struct ib_mr *mlx5_ib_reg_odp_mr(struct ib_pd *pd, u64 start, u64 length, u64 iova,
				 int access)
{
	struct mlx5_ib_dev *dev = to_mdev(pd->device);
	struct ib_umem_odp *odp;
	struct mlx5_ib_mr *mr;
	int ret;

	ret = mlx5r_odp_create_eq(dev, &dev->odp_pf_eq);
	if (ret)
		return ERR_PTR(ret);
	odp = odp_get_umem(dev, start, length, iova, access);
	if (IS_ERR(odp))
		return ERR_CAST(odp);
	ret = -ENOMEM;
	mr = odp_mr_alloc(pd, odp, iova, odp->implicit ? 0 : length, access);
	if (!mr)
		goto out_umem;
	ret = odp_wants_children(mr, odp) ? mlx5_odp_children_create(mr)
					  : odp_create_direct(mr, odp);
	if (ret)
		goto out_mr;
	mr->ibmr.lkey = mr->mmkey.key;
	mr->ibmr.rkey = mr->mmkey.key;
	/* From here on it can be found, and faults come. */
	ret = mlx5r_store_odp_mkey(dev, &mr->mmkey);
	if (ret)
		goto out_key;
	if (!odp->implicit)
		odp_fault_mapped(mr);
	return &mr->ibmr;

out_key:
	mlx5r_umr_destroy_mkey(dev, &mr->mmkey);
	mlx5_ib_odp_free_keys(mr);
out_mr:
	kfree(mr);
out_umem:
	ib_umem_odp_release(odp);
	return ERR_PTR(ret);
}

/* ---- the end ---- */

/**
 * mlx5_ib_odp_stop() - the device no longer uses a region
 * @mr: no longer in odp_mkeys, and without users
 *
 * Context: sleeps.
 */
void mlx5_ib_odp_stop(struct mlx5_ib_mr *mr)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);

	mlx5_odp_children_close(mr);
	mutex_lock(&mr->odp_zap_lock);
	mlx5_odp_children_disable(mr);
	mr->odp_zap_nr = mlx5r_umr_post_revoke(dev, &mr->mmkey);
	mr->odp_dead = true;
	mutex_unlock(&mr->odp_zap_lock);
	mlx5r_umr_wait(dev, mr->odp_zap_nr);
}

/* ---- dma-buf regions, whose pages come and go with their exporter ---- */

/*
 * The device could not be told of the pages. If it knows them from before it may go
 * on. If they are new, it knows some of them by now, and must not when they go; of a
 * key that is not enabled yet it uses none.
 */
static void odp_unmap_dmabuf(struct mlx5_ib_mr *mr, bool enabled)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);

	if (enabled)
		mlx5r_umr_wait(dev, mlx5r_umr_post_revoke(dev, &mr->mmkey));
	ib_umem_dmabuf_unmap_pages(to_ib_umem_dmabuf(mr->umem));
}

static int odp_map_dmabuf_locked(struct mlx5_ib_mr *mr, unsigned int flags)
{
	struct ib_umem_dmabuf *umem = to_ib_umem_dmabuf(mr->umem);
	bool known = umem->sgt;
	int ret;

	if (mlx5r_umr_key_lost(&mr->mmkey))
		return -EFAULT;
	ret = ib_umem_dmabuf_map_pages(umem);
	if (ret)
		return ret;
	if (!mlx5_umem_dmabuf_find_best_pgsz(umem))
		ret = -EINVAL;
	else if (mr->data_direct)
		ret = mlx5r_umr_update_data_direct_ksm_pas(mr, flags);
	else
		ret = mlx5r_umr_update_mr_pas(mr, flags);
	if (ret && !known)
		odp_unmap_dmabuf(mr, !(flags & MLX5_IB_UPD_XLT_ENABLE));
	return ret;
}

static int odp_map_dmabuf(struct mlx5_ib_mr *mr, unsigned int flags)
{
	struct dma_resv *resv = to_ib_umem_dmabuf(mr->umem)->attach->dmabuf->resv;
	int ret;

	dma_resv_lock(resv, NULL);
	ret = odp_map_dmabuf_locked(mr, flags);
	dma_resv_unlock(resv);
	return ret;
}

int mlx5_ib_init_dmabuf_mr(struct mlx5_ib_mr *mr)
{
	return odp_map_dmabuf(mr, MLX5_IB_UPD_XLT_ENABLE);
}

/**
 * mlx5_odp_fault_dmabuf() - map all of a dma-buf region and tell the device
 * @mr: the region
 *
 * Context: sleeps.
 * Return: 0; -EFAULT if the key is lost; what the exporter or the device said.
 */
int mlx5_odp_fault_dmabuf(struct mlx5_ib_mr *mr)
{
	return odp_map_dmabuf(mr, 0);
}
