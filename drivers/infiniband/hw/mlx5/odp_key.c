// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * On-demand paging in mlx5: keys, and how they are enabled.
 *
 * The translations of a new key are unknown. The memory that the device keeps them
 * in may have been another key's, so they may be valid translations of the pages of
 * another process. So each key is created free and in the driver's PD, where
 * neither an access nor a UMR of its future owner can use it. UMRs write all of its
 * translations. The UMR that enables the key is posted when the others are known to
 * have succeeded, or is the only one:
 *
 *	CREATE_MKEY: free, PD of the driver
 *	UMR: translations			wait
 *	UMR: the last translations, enable, PD of the owner
 *
 * UMRs are executed in order, but one that fails does not stop those after it
 * (umr_queue.c). Hence the wait. Keys of leaves are enabled by odp_pool.c.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include "odp.h"
#include "umr.h"

/* UMRs that are posted before they are waited for. */
#define ODP_TABLE_BATCH		16

/* ---- creation ---- */

/**
 * mlx5_odp_key_create() - create a key that cannot be used yet
 * @dev: the device
 * @mmkey: set to the key
 * @access: enum ib_access_flags that it may have once it is enabled
 * @mode: MLX5_MKC_ACCESS_MODE_MTT, or _KSM: a table of keys
 * @shift: log2 of the bytes that one entry of its table maps
 * @size: of its table, in bytes
 *
 * Context: sleeps.
 * Return: 0; -EINVAL if no table is so long; -ENOMEM, or what the device's command
 * said.
 */
int mlx5_odp_key_create(struct mlx5_ib_dev *dev, struct mlx5_ib_mkey *mmkey, int access,
			unsigned int mode, unsigned int shift, u64 size)
{
	u64 octowords = ALIGN(size, MLX5_UMR_FLEX_ALIGNMENT) / MLX5_IB_UMR_OCTOWORD;
	u32 in[MLX5_ST_SZ_DW(create_mkey_in)] = {};
	void *mkc = MLX5_ADDR_OF(create_mkey_in, in, memory_key_mkey_entry);

	/* The device counts them by 32 bits; of a shorter table, zaps would fail. */
	if (octowords > U32_MAX)
		return -EINVAL;
	mlx5_ib_set_mkc_access(mkc, access, 0, dev->umrc.pd);
	MLX5_SET(mkc, mkc, free, 1);
	MLX5_SET(mkc, mkc, umr_en, 1);
	MLX5_SET(mkc, mkc, access_mode_1_0, mode);
	MLX5_SET(mkc, mkc, log_page_size, shift);
	MLX5_SET(mkc, mkc, translations_octword_size, octowords);
	MLX5_SET(create_mkey_in, in, pg_access, mode == MLX5_MKC_ACCESS_MODE_MTT);
	mmkey->ndescs = octowords;
	return mlx5_ib_create_mkey(dev, mmkey, in, sizeof(in));
}

/**
 * mlx5_odp_null_key_create() - have a key that stands for all that has no child
 * @mr: a region whose key has children
 *
 * Only in the memory scheme, where a fault names the key that has no translation,
 * and not the key that was accessed.
 *
 * Context: sleeps.
 * Return: 0; -ENOMEM, or what the device's command said; then null_mmkey.key is 0.
 */
int mlx5_odp_null_key_create(struct mlx5_ib_mr *mr)
{
	u32 in[MLX5_ST_SZ_DW(create_mkey_in) + MLX5_UMR_FLEX_ALIGNMENT / sizeof(u32)] = {};
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);
	void *mkc = MLX5_ADDR_OF(create_mkey_in, in, memory_key_mkey_entry);
	unsigned int octowords = MLX5_UMR_FLEX_ALIGNMENT / MLX5_IB_UMR_OCTOWORD;
	int ret;

	mlx5_ib_set_mkc_access(mkc, IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_WRITE |
				    IB_ACCESS_REMOTE_READ | IB_ACCESS_REMOTE_ATOMIC,
			       0, mr->ibmr.pd);
	MLX5_SET(mkc, mkc, access_mode_1_0, MLX5_MKC_ACCESS_MODE_MTT);
	MLX5_SET(mkc, mkc, length64, 1);
	/* Eight pages are all addresses. The command writes their translations. */
	MLX5_SET(mkc, mkc, log_page_size, 61);
	MLX5_SET(mkc, mkc, translations_octword_size, octowords);
	MLX5_SET(create_mkey_in, in, translations_octword_actual_size, octowords);
	MLX5_SET(create_mkey_in, in, pg_access, 1);
	mr->null_mmkey.type = MLX5_MKEY_NULL;
	ret = mlx5_ib_create_mkey(dev, &mr->null_mmkey, in, sizeof(in));
	if (ret)
		goto out;
	ret = mlx5r_store_odp_mkey(dev, &mr->null_mmkey);
	if (!ret)
		return 0;
	mlx5r_umr_destroy_mkey(dev, &mr->null_mmkey);
out:
	/* The variant, which is chosen before there is a key. */
	mr->null_mmkey.key = 0;
	return ret;
}

/* ---- enabling ---- */

/**
 * mlx5_odp_null_entry() - an entry of a table of keys that has no child
 * @mr: the region
 * @ksm: where to
 * @va: the first address that the entry maps, in the region's own terms
 *
 * Context: any.
 */
void mlx5_odp_null_entry(struct mlx5_ib_mr *mr, struct mlx5_ksm *ksm, u64 va)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);

	ksm->reserved = 0;
	if (mlx5_odp_memory_scheme(dev)) {
		ksm->key = cpu_to_be32(mr->null_mmkey.key);
		ksm->va = cpu_to_be64(va);
	} else {
		ksm->key = dev->mkeys.null_mkey;
		ksm->va = 0;
	}
}

static int odp_table_compute(struct mlx5_ib_mr *mr, const struct mlx5_odp_table *table,
			     u64 offset, size_t length, struct mlx5_odp_buffer *buffer)
{
	u64 va = ALIGN_DOWN(table->start, BIT_ULL(table->shift)) +
		 (offset / sizeof(struct mlx5_ksm) << table->shift);
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);
	struct mlx5_ksm *ksm;
	int ret;

	ret = mlx5_odp_buffer_get(dev, buffer, 0);
	if (ret)
		return ret;
	for (ksm = (void *)buffer->mtts; length; length -= sizeof(*ksm), ksm++) {
		mlx5_odp_null_entry(mr, ksm, va);
		va += BIT_ULL(table->shift);
	}
	mlx5_odp_buffer_sync(dev, buffer, 0, PAGE_SIZE);
	return 0;
}

/*
 * Write a part of the table, from @offset on, as much as one batch of UMRs can. The
 * last part is a batch of its own, as it enables the key. Return: the length; an errno.
 */
static s64 odp_table_write(struct mlx5_ib_mr *mr, struct mlx5_ib_mkey *mmkey,
			   const struct mlx5_odp_table *table, u64 offset)
{
	struct mlx5r_umr_key enabled = mlx5_odp_umr_key(mr, table->start, table->length);
	u64 size = ALIGN(table->size, MLX5_UMR_FLEX_ALIGNMENT), begin = offset;
	size_t most = table->same ? MLX5_ODP_SAME_SIZE : PAGE_SIZE, length;
	struct mlx5_odp_buffer buffers[ODP_TABLE_BATCH] = {};
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);
	int results[ODP_TABLE_BATCH], ret = 0;
	unsigned int nr = 0, i;
	unsigned long last = 0;
	bool enable;

	while (nr < ODP_TABLE_BATCH && offset < size) {
		length = min_t(u64, most, size - offset);
		enable = offset + length == size;
		if (enable && nr)
			break;
		if (!table->same) {
			ret = odp_table_compute(mr, table, offset, length, &buffers[nr]);
			if (ret)
				break;
		}
		last = mlx5r_umr_post_free_key(dev, mmkey, table->same ?: buffers[nr].dma,
					       length, offset, enable ? &enabled : NULL,
					       &results[nr]);
		nr++;
		offset += length;
	}
	if (nr)
		mlx5r_umr_wait(dev, last);
	for (i = 0; i < nr; i++) {
		ret = ret ?: results[i];
		mlx5_odp_buffer_put(dev, &buffers[i], 0);
	}
	return ret ?: (s64)(offset - begin);
}

static int odp_table_write_all(struct mlx5_ib_mr *mr, struct mlx5_ib_mkey *mmkey,
			       const struct mlx5_odp_table *table)
{
	u64 offset = 0;
	s64 written;

	while (offset < table->size) {
		written = odp_table_write(mr, mmkey, table, offset);
		if (written < 0)
			return written;
		offset += written;
	}
	return 0;
}

/**
 * mlx5_odp_key_make() - create a key, write all of its translations, and enable it
 * @mr: the region it is for
 * @mmkey: set to the key, for mlx5r_umr_destroy_mkey()
 * @table: what is written, and for which addresses
 *
 * Context: sleeps.
 * Return: 0; -EINVAL if no table is so long; -ENOMEM; -EFAULT or -EIO if the device
 * failed, or what its command said; then there is no key.
 */
int mlx5_odp_key_make(struct mlx5_ib_mr *mr, struct mlx5_ib_mkey *mmkey,
		      const struct mlx5_odp_table *table)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);
	int ret;

	ret = mlx5_odp_key_create(dev, mmkey, mr->access_flags, table->mode, table->shift,
				  table->size);
	if (ret)
		return ret;
	ret = odp_table_write_all(mr, mmkey, table);
	if (ret)
		mlx5r_umr_destroy_mkey(dev, mmkey);
	return ret;
}
