// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * On-demand paging in mlx5: regions, and the device's translations of them.
 *
 * A region has a key with a table of translations (MTTs), which is empty when it
 * is made and filled by page faults. The umem keeps what the device was told, in
 * chunks; a chunk's lock is held from the look at its pages to the completion
 * of the WQE (UMR) that tells the device, so that for each page the last word
 * is what the chunk says. The device writes blocks of 8 MTTs: they are the
 * umem's granules, a chunk never shares one, and a zap takes whole ones.
 *
 * An implicit region is a key over children of 1 GiB each. These have keys of
 * their own and nothing else: there is one umem for all, and a chunk's address
 * says whose it is. A child is made by the first fault in it.
 *
 * A zap must not allocate: it may be what memory is being waited for. So it
 * posts translations of nothing that are always there. Zaps of chunks that are
 * neighbours become one UMR, which is posted when the next one is not, or when
 * somebody waits for it.
 *
 * The end of a region. First nobody finds it any more: faults hold a reference
 * while they work. Then its keys are revoked, which a UMR does without any
 * allocation, under odp_zap_lock; a zap that finds the region dead leaves the
 * device alone. So it never touches a key that is somebody else's by then. Keys
 * are not recycled, for a recycled key remembers its translations, and ours start
 * empty.
 *
 * Locks: mmap_lock, chunk->lock, odp_zap_lock. odp_children_lock is outside of all.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/dma-buf.h>
#include <linux/dma-resv.h>

#include "odp.h"
#include "umr.h"

static bool odp_memory_scheme(struct mlx5_ib_dev *dev)
{
	return MLX5_CAP_ODP(dev->mdev, mem_page_fault);
}

/* ---- translations ---- */

/* A part of a table of translations: whose, from where on, and how long, in bytes. */
struct odp_xlt {
	u32 key;
	u64 offset;
	size_t length;
};

static struct odp_xlt odp_xlt(struct mlx5_ib_mr *mr, unsigned long start, unsigned long end)
{
	size_t nr = ALIGN((end - start) >> PAGE_SHIFT, MLX5_ODP_GRANULE >> PAGE_SHIFT);
	unsigned long base = ib_umem_start(to_ib_umem_odp(mr->umem));
	struct mlx5_odp_child *child;
	u32 key = mr->mmkey.key;

	if (mr->is_odp_implicit) {
		base = ALIGN_DOWN(start, MLX5_ODP_CHILD_SIZE);
		child = xa_load(&mr->implicit_children, start >> MLX5_ODP_CHILD_SHIFT);
		/* It was made before the first page was mapped, and stays. */
		key = child->mmkey.key;
	}
	return (struct odp_xlt) {
		.key = key,
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
	mr->odp_zap_nr = mlx5r_umr_post_xlt(dev, xlt.key, dev->odp_pf_eq.zeros_dma,
					    xlt.length, xlt.offset);
	mr->odp_zap_end = 0;
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

static const struct ib_umem_odp_ops odp_ops = {
	.granule = MLX5_ODP_GRANULE,
	.zap = odp_zap,
	.zap_wait = odp_zap_wait,
};

static __be64 odp_mtt(const struct ib_odp_chunk *chunk, unsigned long addr)
{
	unsigned long may;
	dma_addr_t dma;
	u64 mtt;

	may = ib_odp_chunk_entry(chunk, addr, &dma);
	mtt = dma;
	if (may & IB_ODP_ENTRY_READ)
		mtt |= MLX5_IB_MTT_READ;
	if (may & IB_ODP_ENTRY_WRITE)
		mtt |= MLX5_IB_MTT_WRITE;
	return cpu_to_be64(mtt);
}

/* A page for the MTTs of a chunk, which has at most as many as fit. */
struct odp_buffer {
	struct device *device;
	__be64 *mtts;
	dma_addr_t dma;
};

static_assert(IB_ODP_CHUNK_SIZE / PAGE_SIZE * sizeof(__be64) <= PAGE_SIZE);

static int odp_buffer_get(struct mlx5_ib_dev *dev, struct odp_buffer *buffer)
{
	buffer->device = dev->mdev->device;
	buffer->mtts = (void *)get_zeroed_page(GFP_KERNEL);
	if (!buffer->mtts)
		return -ENOMEM;
	buffer->dma = dma_map_single(buffer->device, buffer->mtts, PAGE_SIZE, DMA_TO_DEVICE);
	if (!dma_mapping_error(buffer->device, buffer->dma))
		return 0;
	free_page((unsigned long)buffer->mtts);
	return -ENOMEM;
}

static void odp_buffer_put(struct odp_buffer *buffer)
{
	dma_unmap_single(buffer->device, buffer->dma, PAGE_SIZE, DMA_TO_DEVICE);
	free_page((unsigned long)buffer->mtts);
}

/* Tell the device of [start, end), in whole granules, or of all of a huge page. */
static int odp_tell(struct mlx5_ib_mr *mr, struct ib_odp_chunk *chunk,
		    unsigned long start, unsigned long end, struct odp_buffer *buffer)
{
	unsigned long first = ib_odp_chunk_start(chunk);
	unsigned long behind = ib_odp_chunk_end(chunk);
	struct odp_xlt xlt;
	unsigned long addr;
	size_t nr = 0;

	if (chunk->huge) {
		start = first;
		end = behind;
	} else {
		end = max(end, chunk->fault_end);
	}
	start = first + ALIGN_DOWN(start - first, MLX5_ODP_GRANULE);
	end = first + ALIGN(end - first, MLX5_ODP_GRANULE);
	dma_sync_single_for_cpu(buffer->device, buffer->dma, PAGE_SIZE, DMA_TO_DEVICE);
	for (addr = start; addr < end; addr += PAGE_SIZE)
		buffer->mtts[nr++] = addr < behind ? odp_mtt(chunk, addr) : 0;
	dma_sync_single_for_device(buffer->device, buffer->dma, PAGE_SIZE, DMA_TO_DEVICE);
	xlt = odp_xlt(mr, start, end);
	return mlx5r_umr_write_xlt(mr_to_mdev(mr), xlt.key, buffer->dma, xlt.length,
				   xlt.offset);
}

/* ---- children of an implicit region ---- */

static void odp_set_rights(void *mkc, struct mlx5_ib_dev *dev, struct ib_pd *pd, int access)
{
	bool relaxed = access & IB_ACCESS_RELAXED_ORDERING;

	MLX5_SET(mkc, mkc, a, !!(access & IB_ACCESS_REMOTE_ATOMIC));
	MLX5_SET(mkc, mkc, rw, !!(access & IB_ACCESS_REMOTE_WRITE));
	MLX5_SET(mkc, mkc, rr, !!(access & IB_ACCESS_REMOTE_READ));
	MLX5_SET(mkc, mkc, lw, !!(access & IB_ACCESS_LOCAL_WRITE));
	MLX5_SET(mkc, mkc, lr, 1);
	MLX5_SET(mkc, mkc, relaxed_ordering_write,
		 relaxed && MLX5_CAP_GEN(dev->mdev, relaxed_ordering_write));
	MLX5_SET(mkc, mkc, relaxed_ordering_read,
		 relaxed && MLX5_CAP_GEN(dev->mdev, relaxed_ordering_read));
	MLX5_SET(mkc, mkc, umr_en, 1);
	MLX5_SET(mkc, mkc, pd, to_mpd(pd)->pdn);
	MLX5_SET(mkc, mkc, qpn, 0xffffff);
}

/* A key with a table of nothing for @length bytes from @iova on. */
static int odp_create_mtt_key(struct mlx5_ib_mr *mr, struct mlx5_ib_mkey *mmkey,
			      u64 iova, u64 length, u64 nr_pages)
{
	u32 in[MLX5_ST_SZ_DW(create_mkey_in)] = {};
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);
	void *mkc = MLX5_ADDR_OF(create_mkey_in, in, memory_key_mkey_entry);

	odp_set_rights(mkc, dev, mr->ibmr.pd, mr->access_flags);
	MLX5_SET(mkc, mkc, access_mode_1_0, MLX5_MKC_ACCESS_MODE_MTT);
	MLX5_SET64(mkc, mkc, start_addr, iova);
	MLX5_SET64(mkc, mkc, len, length);
	MLX5_SET(mkc, mkc, log_page_size, PAGE_SHIFT);
	mmkey->ndescs = ALIGN(nr_pages, MLX5_ODP_GRANULE >> PAGE_SHIFT) / 2;
	MLX5_SET(mkc, mkc, translations_octword_size, mmkey->ndescs);
	MLX5_SET(create_mkey_in, in, pg_access, 1);
	return mlx5_ib_create_mkey(dev, mmkey, in, sizeof(in));
}

/* What stands for all that has no child, where faults do not name the parent. */
static int odp_create_null_key(struct mlx5_ib_mr *imr)
{
	u32 in[MLX5_ST_SZ_DW(create_mkey_in) + MLX5_UMR_FLEX_ALIGNMENT / sizeof(u32)] = {};
	struct mlx5_ib_dev *dev = mr_to_mdev(imr);
	void *mkc = MLX5_ADDR_OF(create_mkey_in, in, memory_key_mkey_entry);
	unsigned int octowords = MLX5_UMR_FLEX_ALIGNMENT / MLX5_IB_UMR_OCTOWORD;
	int ret;

	odp_set_rights(mkc, dev, imr->ibmr.pd,
		       IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_WRITE |
		       IB_ACCESS_REMOTE_READ | IB_ACCESS_REMOTE_ATOMIC);
	MLX5_SET(mkc, mkc, umr_en, 0);
	MLX5_SET(mkc, mkc, access_mode_1_0, MLX5_MKC_ACCESS_MODE_MTT);
	MLX5_SET(mkc, mkc, length64, 1);
	/* One page is all of the user's addresses. */
	MLX5_SET(mkc, mkc, log_page_size, 61);
	MLX5_SET(mkc, mkc, translations_octword_size, octowords);
	MLX5_SET(create_mkey_in, in, translations_octword_actual_size, octowords);
	MLX5_SET(create_mkey_in, in, pg_access, 1);
	ret = mlx5_ib_create_mkey(dev, &imr->null_mmkey, in, sizeof(in));
	if (ret)
		return ret;
	imr->null_mmkey.type = MLX5_MKEY_NULL;
	return mlx5r_store_odp_mkey(dev, &imr->null_mmkey);
}

/**
 * mlx5_odp_populate_xlt() - write the table of an implicit region
 * @xlt: where to
 * @idx: first entry
 * @nentries: how many
 * @imr: the region
 * @flags: MLX5_IB_UPD_XLT_INDIRECT
 */
void mlx5_odp_populate_xlt(void *xlt, size_t idx, size_t nentries,
			   struct mlx5_ib_mr *imr, int flags)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(imr);
	bool memory = odp_memory_scheme(dev);
	struct mlx5_odp_child *child;
	struct mlx5_klm *klm = xlt;

	for (; nentries; nentries--, idx++, klm++) {
		child = xa_load(&imr->implicit_children, idx);
		klm->bcount = cpu_to_be32(MLX5_ODP_CHILD_SIZE);
		klm->va = cpu_to_be64(child || memory ? (u64)idx << MLX5_ODP_CHILD_SHIFT : 0);
		if (child)
			klm->key = cpu_to_be32(child->mmkey.key);
		else
			klm->key = memory ? cpu_to_be32(imr->null_mmkey.key)
					  : dev->mkeys.null_mkey;
	}
}

static void odp_child_free(struct mlx5_ib_mr *imr, struct mlx5_odp_child *child)
{
	/* Fails with the device only, and then the key is gone with it. */
	mlx5_core_destroy_mkey(mr_to_mdev(imr)->mdev, child->mmkey.key);
	kfree(child);
}

static struct mlx5_odp_child *odp_child_alloc(struct mlx5_ib_mr *imr, unsigned long index)
{
	struct mlx5_odp_child *child = kzalloc(sizeof(*child), GFP_KERNEL_ACCOUNT);
	int ret;

	if (!child)
		return ERR_PTR(-ENOMEM);
	child->parent = imr;
	child->index = index;
	child->mmkey.type = MLX5_MKEY_IMPLICIT_CHILD;
	ret = odp_create_mtt_key(imr, &child->mmkey, (u64)index << MLX5_ODP_CHILD_SHIFT,
				 MLX5_ODP_CHILD_SIZE, MLX5_ODP_CHILD_SIZE >> PAGE_SHIFT);
	if (ret) {
		kfree(child);
		return ERR_PTR(ret);
	}
	return child;
}

static int odp_child_publish(struct mlx5_ib_mr *imr, struct mlx5_odp_child *child)
{
	int ret;

	ret = xa_err(xa_store(&imr->implicit_children, child->index, child,
			      GFP_KERNEL_ACCOUNT));
	if (ret)
		return ret;
	if (odp_memory_scheme(mr_to_mdev(imr))) {
		ret = mlx5r_store_odp_mkey(mr_to_mdev(imr), &child->mmkey);
		if (ret)
			goto out_erase;
	}
	ret = mlx5r_umr_update_xlt(imr, child->index, 1, 0, MLX5_IB_UPD_XLT_INDIRECT);
	if (!ret)
		return 0;
	if (xa_erase(&mr_to_mdev(imr)->odp_mkeys, mlx5_base_mkey(child->mmkey.key)))
		mlx5r_deref_wait_odp_mkey(&child->mmkey);
out_erase:
	xa_erase(&imr->implicit_children, child->index);
	return ret;
}

/* The child that an address is in, made if there is none. */
static int odp_child_have(struct mlx5_ib_mr *imr, unsigned long addr)
{
	unsigned long index = addr >> MLX5_ODP_CHILD_SHIFT;
	struct mlx5_odp_child *child;
	int ret = 0;

	if (!imr->is_odp_implicit || xa_load(&imr->implicit_children, index))
		return 0;
	mutex_lock(&imr->odp_children_lock);
	if (!xa_load(&imr->implicit_children, index)) {
		child = odp_child_alloc(imr, index);
		ret = PTR_ERR_OR_ZERO(child);
		if (!ret) {
			ret = odp_child_publish(imr, child);
			if (ret)
				odp_child_free(imr, child);
		}
	}
	mutex_unlock(&imr->odp_children_lock);
	return ret;
}

/* ---- faults ---- */

static int odp_fault_chunk(struct mlx5_ib_mr *mr, unsigned long start, unsigned long end,
			   unsigned int flags, struct odp_buffer *buffer)
{
	struct ib_odp_chunk *chunk;
	int ret;

	ret = odp_child_have(mr, start);
	if (ret)
		return ret;
	chunk = ib_umem_odp_fault(to_ib_umem_odp(mr->umem), start, end, flags);
	if (IS_ERR(chunk))
		return PTR_ERR(chunk);
	/*
	 * Also if all of it was there: the device asked, and it is not for us
	 * to know why it did not see it.
	 */
	ret = chunk->nr_mapped ? odp_tell(mr, chunk, start, end, buffer) : 0;
	ib_odp_chunk_unlock(chunk);
	return ret;
}

/**
 * mlx5_odp_fault_mr() - bring pages in and tell the device
 * @mr: a paged region, referenced
 * @va: first address, in the region's own terms
 * @length: in bytes
 * @flags: enum ib_odp_fault_flags
 *
 * Context: sleeps; takes the mmap_lock of the region's owner.
 * Return: 0; -EFAULT if it is not inside, or what ib_umem_odp_fault() says;
 * -EIO and others if the device fails.
 */
int mlx5_odp_fault_mr(struct mlx5_ib_mr *mr, u64 va, u64 length, unsigned int flags)
{
	struct ib_umem_odp *odp = to_ib_umem_odp(mr->umem);
	u64 offset = va - mr->ibmr.iova;
	unsigned long addr, end, next;
	struct odp_buffer buffer;
	int ret;

	if (offset > odp->umem.length || length > odp->umem.length - offset)
		return -EFAULT;
	addr = odp->umem.address + offset;
	end = addr + length;
	/* Freed already if it could not be mapped. */
	ret = odp_buffer_get(mr_to_mdev(mr), &buffer);
	if (ret)
		return ret;
	while (!ret && addr < end) {
		next = min(end, ib_umem_odp_chunk_end(odp, addr));
		ret = odp_fault_chunk(mr, addr, next, flags, &buffer);
		addr = next;
	}
	odp_buffer_put(&buffer);
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
	struct odp_buffer buffer;
	unsigned long end;

	if (addr == ib_umem_end(odp) || odp_buffer_get(mr_to_mdev(mr), &buffer))
		return;
	if (mr->umem->writable)
		flags |= IB_ODP_FAULT_WRITE;
	while (addr < ib_umem_end(odp)) {
		end = ib_umem_odp_chunk_end(odp, addr);
		if (odp_fault_chunk(mr, addr, end, flags, &buffer))
			break;
		addr = ib_umem_odp_find_mapped(odp, end);
	}
	odp_buffer_put(&buffer);
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
	xa_init(&mr->implicit_children);
	mutex_init(&mr->odp_children_lock);
	mutex_init(&mr->odp_zap_lock);
	odp->private = mr;
	return mr;
}

/* A table that says of everything that it is not there. */
static int odp_create_table(struct mlx5_ib_mr *imr)
{
	u32 in[MLX5_ST_SZ_DW(create_mkey_in)] = {};
	struct mlx5_ib_dev *dev = mr_to_mdev(imr);
	void *mkc = MLX5_ADDR_OF(create_mkey_in, in, memory_key_mkey_entry);
	size_t nr = DIV_ROUND_UP_ULL(TASK_SIZE, MLX5_ODP_CHILD_SIZE);
	int ret;

	odp_set_rights(mkc, dev, imr->ibmr.pd, imr->access_flags);
	MLX5_SET(mkc, mkc, free, 1);
	MLX5_SET(mkc, mkc, access_mode_1_0, MLX5_MKC_ACCESS_MODE_KSM);
	MLX5_SET(mkc, mkc, log_page_size, MLX5_ODP_CHILD_SHIFT);
	imr->mmkey.ndescs = nr;
	MLX5_SET(mkc, mkc, translations_octword_size, nr);
	ret = mlx5_ib_create_mkey(dev, &imr->mmkey, in, sizeof(in));
	if (ret)
		return ret;
	if (odp_memory_scheme(dev))
		ret = odp_create_null_key(imr);
	if (!ret)
		ret = mlx5r_umr_update_xlt(imr, 0, nr, MLX5_ODP_CHILD_SHIFT,
					   MLX5_IB_UPD_XLT_INDIRECT |
					   MLX5_IB_UPD_XLT_ZAP | MLX5_IB_UPD_XLT_ENABLE);
	if (ret) {
		mlx5_ib_odp_free_keys(imr);
		mlx5_core_destroy_mkey(dev->mdev, imr->mmkey.key);
	}
	return ret;
}

static struct ib_umem_odp *odp_get_umem(struct mlx5_ib_dev *dev, u64 start, u64 length,
					u64 iova, int access)
{
	if (!start && length == U64_MAX) {
		if (iova || !(dev->odp_caps.general_caps & IB_ODP_SUPPORT_IMPLICIT))
			return ERR_PTR(-EINVAL);
		return ib_umem_odp_get_implicit(&dev->ib_dev, access, &odp_ops);
	}
	/* Pages keep their place in a page, and a table its length. */
	if (!mlx5r_umr_can_load_pas(dev, length) || ((start ^ iova) & ~PAGE_MASK))
		return ERR_PTR(-EINVAL);
	return ib_umem_odp_get(&dev->ib_dev, start, length, access, &odp_ops);
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
	ret = odp->implicit ? odp_create_table(mr)
			    : odp_create_mtt_key(mr, &mr->mmkey, iova, length,
						 ib_umem_odp_num_pages(odp));
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
	mlx5_ib_odp_free_keys(mr);
	mlx5_core_destroy_mkey(dev->mdev, mr->mmkey.key);
out_mr:
	kfree(mr);
out_umem:
	ib_umem_odp_release(odp);
	return ERR_PTR(ret);
}

/* ---- the end ---- */

static void odp_forget(struct mlx5_ib_dev *dev, struct mlx5_ib_mkey *mmkey)
{
	if (xa_erase(&dev->odp_mkeys, mlx5_base_mkey(mmkey->key)))
		mlx5r_deref_wait_odp_mkey(mmkey);
}

/**
 * mlx5_ib_odp_stop() - the device no longer uses a region
 * @mr: no longer in odp_mkeys, and without users
 *
 * Context: sleeps.
 */
void mlx5_ib_odp_stop(struct mlx5_ib_mr *mr)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);
	struct mlx5_odp_child *child;
	unsigned long index;

	/* In the memory scheme these lead to the region, too. */
	xa_for_each(&mr->implicit_children, index, child)
		odp_forget(dev, &child->mmkey);
	if (mr->null_mmkey.key)
		odp_forget(dev, &mr->null_mmkey);

	mutex_lock(&mr->odp_zap_lock);
	xa_for_each(&mr->implicit_children, index, child)
		mlx5r_umr_post_revoke(dev, child->mmkey.key);
	mr->odp_zap_nr = mlx5r_umr_post_revoke(dev, mr->mmkey.key);
	mr->odp_dead = true;
	mutex_unlock(&mr->odp_zap_lock);
	mlx5r_umr_wait(dev, mr->odp_zap_nr);
}

/**
 * mlx5_ib_odp_free_keys() - what a region had besides its own key
 * @mr: its own key is destroyed or was never used
 */
void mlx5_ib_odp_free_keys(struct mlx5_ib_mr *mr)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);
	struct mlx5_odp_child *child;
	unsigned long index;

	xa_for_each(&mr->implicit_children, index, child) {
		xa_erase(&mr->implicit_children, index);
		odp_child_free(mr, child);
	}
	xa_destroy(&mr->implicit_children);
	if (mr->null_mmkey.key) {
		odp_forget(dev, &mr->null_mmkey);
		mlx5_core_destroy_mkey(dev->mdev, mr->null_mmkey.key);
		mr->null_mmkey.key = 0;
	}
}

/* ---- dma-buf regions, whose pages come and go with their exporter ---- */

static int odp_map_dmabuf(struct mlx5_ib_mr *mr, unsigned int flags)
{
	struct ib_umem_dmabuf *umem = to_ib_umem_dmabuf(mr->umem);
	struct dma_resv *resv = umem->attach->dmabuf->resv;
	int ret;

	dma_resv_lock(resv, NULL);
	ret = ib_umem_dmabuf_map_pages(umem);
	if (ret)
		goto out;
	if (!mlx5_umem_dmabuf_find_best_pgsz(umem))
		ret = -EINVAL;
	else if (mr->data_direct)
		ret = mlx5r_umr_update_data_direct_ksm_pas(mr, flags);
	else
		ret = mlx5r_umr_update_mr_pas(mr, flags);
	if (ret)
		ib_umem_dmabuf_unmap_pages(umem);
out:
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
 * Return: 0, or what the exporter or the device said.
 */
int mlx5_odp_fault_dmabuf(struct mlx5_ib_mr *mr)
{
	return odp_map_dmabuf(mr, 0);
}
