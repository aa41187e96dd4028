/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory keys: their contexts, their translation tables, the commands that
 * create, destroy and query them.
 *
 * A table is kept as hardware keeps it.  A key that was revoked keeps its
 * translations; a UMR replaces whole 64-byte granules counted from the
 * region's start.  A new key's table holds what its memory held before
 * (mlx5_stale.c).  So a driver that enables a key without writing all of it,
 * or that forgets its neighbours in a granule, is seen to do so.
 */
#include "mlx5_xlt.h"
#include "qemu/bitmap.h"
#include "qemu/cutils.h"
#include "trace.h"

enum {
    FIRST_INDEX = 0x10,                 /* below: MLX5_TERMINATE_LKEY etc. */
    LAST_INDEX = (1 << 24) - 1,
    MAX_XLT_BYTES = 1u << 31,           /* 1 TiB of 4 KiB pages */
    BLOCK_BYTES = MLX5_XLT_BLOCK + 64,  /* with its place in the hash table */
    TABLE_BYTES = 512,                  /* the hash table itself, about */
};

static uint8_t *block_get(Mlx5Mkey *mkey, uint32_t nr, bool make)
{
    if (mkey->last && mkey->last_block == nr) {
        return mkey->last;
    }
    uint8_t *block = g_hash_table_lookup(mkey->xlt, GUINT_TO_POINTER(nr));

    if (!block && make && mlx5_obj_charge(&mkey->obj, BLOCK_BYTES)) {
        block = g_malloc0(MLX5_XLT_BLOCK);
        g_hash_table_insert(mkey->xlt, GUINT_TO_POINTER(nr), block);
    }
    if (block) {
        mkey->last_block = nr;
        mkey->last = block;
    }
    return block;
}

static void block_drop(Mlx5Mkey *mkey, uint32_t nr)
{
    mkey->last = NULL;
    if (g_hash_table_remove(mkey->xlt, GUINT_TO_POINTER(nr))) {
        mlx5_obj_charge(&mkey->obj, -BLOCK_BYTES);
    }
}

/* False: there is no memory for it. */
static bool block_write(Mlx5Mkey *mkey, uint32_t nr, uint32_t in,
                        const uint8_t *from, size_t n)
{
    bool zero = buffer_is_zero(from, n);
    uint8_t *block = block_get(mkey, nr, !zero);

    if (block) {
        memcpy(block + in, from, n);
        if (zero && buffer_is_zero(block, MLX5_XLT_BLOCK)) {
            block_drop(mkey, nr);
        }
    }
    return block || zero;
}

/* Granules are written whole: the last one is filled up with garbage. */
bool mlx5_mkey_xlt_write(Mlx5Mkey *mkey, uint64_t off, const void *data,
                         size_t len)
{
    size_t whole = ROUND_UP(len, MLX5_XLT_GRANULE), n;
    uint8_t last[MLX5_XLT_GRANULE];
    const uint8_t *from = data;
    bool fits = true;

    mlx5_stale_note(mkey, data, len);
    bitmap_set(mkey->written, off / MLX5_XLT_GRANULE, whole / MLX5_XLT_GRANULE);
    for (; len >= MLX5_XLT_GRANULE; off += n, from += n, len -= n) {
        n = MIN(QEMU_ALIGN_DOWN(len, MLX5_XLT_GRANULE),
                MLX5_XLT_BLOCK - off % MLX5_XLT_BLOCK);
        fits &= block_write(mkey, off / MLX5_XLT_BLOCK, off % MLX5_XLT_BLOCK,
                            from, n);
    }
    if (len) {
        mlx5_stale_granule(mkey, off, last);
        memcpy(last, from, len);
        fits &= block_write(mkey, off / MLX5_XLT_BLOCK, off % MLX5_XLT_BLOCK,
                            last, sizeof(last));
    }
    return fits;
}

bool mlx5_mkey_xlt_written(const Mlx5Mkey *mkey, uint64_t off)
{
    return test_bit(off / MLX5_XLT_GRANULE, mkey->written);
}

/* Within one granule. */
static void part_read(Mlx5Mkey *mkey, uint64_t off, void *to, size_t n)
{
    uint8_t granule[MLX5_XLT_GRANULE], *block;
    uint32_t in = off % MLX5_XLT_GRANULE;

    if (!mlx5_mkey_xlt_written(mkey, off)) {
        mlx5_stale_granule(mkey, off - in, granule);
        memcpy(to, granule + in, n);
        return;
    }
    block = block_get(mkey, off / MLX5_XLT_BLOCK, false);
    if (block) {
        memcpy(to, block + off % MLX5_XLT_BLOCK, n);
    } else {
        memset(to, 0, n);
    }
}

void mlx5_mkey_xlt_read(Mlx5Mkey *mkey, uint64_t off, void *data, size_t len)
{
    uint8_t *to = data;
    size_t n;

    for (; len; to += n, off += n, len -= n) {
        n = MIN(len, MLX5_XLT_GRANULE - off % MLX5_XLT_GRANULE);
        part_read(mkey, off, to, n);
    }
}

uint32_t mlx5_mkey_key(const Mlx5Mkey *mkey)
{
    return mkey->index << 8 | MLX5_PRM_GET(mkc, mkey->mkc, mkey_7_0);
}

Mlx5Mkey *mlx5_mkey_find(Mlx5Device *dev, uint32_t key)
{
    return mlx5_table_get(&dev->mkeys, key >> 8);
}

/* ---- windows ---- */

/*
 * The driver makes a window by CREATE_MKEY: free, over keys, in its own name.
 * An owner's key over keys (DEVX) is none, whatever UMRs write to it.
 */
static bool is_window(const Mlx5Mkey *mkey, const Mlx5Cmd *cmd)
{
    return !cmd->uid && MLX5_PRM_GET(mkc, mkey->mkc, free) &&
           MLX5_PRM_GET(mkc, mkey->mkc, access_mode_1_0) ==
           MLX5_MKC_ACCESS_MODE_KLMS;
}

static void unbind(Mlx5Mkey *window)
{
    Mlx5Mkey *region = mlx5_table_get(&window->dev->mkeys, window->bound);

    if (region && region->nr_windows) {
        region->nr_windows--;
    }
    window->bound = 0;
}

void mlx5_mkey_bind(Mlx5Mkey *mkey)
{
    struct mlx5_klm klm;
    Mlx5Mkey *region;

    if (!mkey->window) {
        return;
    }
    unbind(mkey);
    if (MLX5_PRM_GET(mkc, mkey->mkc, free) || mkey->xlt_bytes < sizeof(klm) ||
        !mlx5_mkey_xlt_written(mkey, 0)) {
        return;
    }
    mlx5_mkey_xlt_read(mkey, 0, &klm, sizeof(klm));
    region = mlx5_mkey_find(mkey->dev, be32_to_cpu(klm.key));
    /* Another domain's region cannot be used by it, nor be held. */
    if (region && region != mkey &&
        mlx5_mkey_key(region) == be32_to_cpu(klm.key) &&
        MLX5_PRM_GET(mkc, region->mkc, pd) ==
        MLX5_PRM_GET(mkc, mkey->mkc, pd)) {
        region->nr_windows++;
        mkey->bound = region->index;
    }
}

/* ---- commands ---- */

static void mkey_free(void *opaque)
{
    Mlx5Mkey *mkey = opaque;

    mlx5_count(mkey->dev, MLX5_COUNTER_KEYS, -1);
    mlx5_count(mkey->dev, MLX5_COUNTER_CONTEXT_BYTES, -mkey->xlt_bytes);
    g_hash_table_destroy(mkey->xlt);
    g_free(mkey->written);
    g_free(mkey);
}

/* NULL: there is no memory for such a table. */
static Mlx5Mkey *mkey_new(Mlx5Device *dev, const Mlx5Cmd *cmd, const void *mkc,
                          uint64_t xlt_bytes)
{
    uint64_t granules = DIV_ROUND_UP(xlt_bytes, MLX5_XLT_GRANULE);
    Mlx5Mkey *mkey = mlx5_obj_new(dev, cmd, sizeof(*mkey), mkey_free);

    if (!mkey) {
        return NULL;
    }
    memcpy(mkey->mkc, mkc, sizeof(mkey->mkc));
    mkey->dev = dev;
    mkey->xlt = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    mkey->xlt_bytes = xlt_bytes;
    mlx5_count(dev, MLX5_COUNTER_KEYS, 1);
    mlx5_count(dev, MLX5_COUNTER_CONTEXT_BYTES, xlt_bytes);
    if (mlx5_obj_charge(&mkey->obj, TABLE_BYTES + granules / 8)) {
        mkey->written = bitmap_try_new(MAX(granules, 1));
    }
    if (!mkey->written) {
        mlx5_obj_put(mkey);
        return NULL;
    }
    return mkey;
}

static bool take_pas(Mlx5Mkey *mkey, Mlx5Cmd *cmd, bool *fits)
{
    size_t head = MLX5_BYTES(create_mkey_in);
    uint64_t octos = MLX5_PRM_GET(create_mkey_in, cmd->in,
                                  translations_octword_actual_size);
    bool mtt = MLX5_PRM_GET(mkc, mkey->mkc, access_mode_1_0) ==
               MLX5_MKC_ACCESS_MODE_MTT;

    if (octos * 16 > mkey->xlt_bytes || octos * 16 > cmd->in_len - head) {
        return false;
    }
    /* Without pg_access a list has no rights of its own: all of it is there. */
    if (mtt && !MLX5_PRM_GET(create_mkey_in, cmd->in, pg_access)) {
        for (uint64_t at = 0; at < octos * 16; at += 8) {
            cmd->in[head + at + 7] |= 3;
        }
    }
    *fits = mlx5_mkey_xlt_write(mkey, 0, cmd->in + head, octos * 16);
    return true;
}

uint8_t mlx5_create_mkey(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    void *mkc = MLX5_PRM_PTR(create_mkey_in, cmd->in, memory_key_mkey_entry);
    uint64_t octos = MLX5_PRM_GET(mkc, mkc, translations_octword_size);
    Mlx5Mkey *mkey;
    bool fits;

    if (octos * 16 > MAX_XLT_BYTES ||
        MLX5_PRM_GET(create_mkey_in, cmd->in, mkey_umem_valid)) {
        return MLX5_CMD_STAT_BAD_PARAM_ERR;
    }
    if (!mlx5_obj_usable(mlx5_table_get(&dev->pds,
                                        MLX5_PRM_GET(mkc, mkc, pd)),
                         cmd->uid)) {
        return MLX5_CMD_STAT_BAD_RES_ERR;
    }
    mkey = mkey_new(dev, cmd, mkc, octos * 16);
    if (!mkey) {
        return MLX5_CMD_STAT_LIM_ERR;
    }
    if (!take_pas(mkey, cmd, &fits)) {
        mlx5_obj_put(mkey);
        return MLX5_CMD_STAT_BAD_INP_LEN_ERR;
    }
    if (!fits) {
        mlx5_obj_put(mkey);
        return MLX5_CMD_STAT_LIM_ERR;
    }
    if (!mlx5_table_add(&dev->mkeys, mkey, &mkey->index)) {
        mlx5_obj_put(mkey);
        return MLX5_CMD_STAT_NO_RES_ERR;
    }
    mkey->window = is_window(mkey, cmd);
    MLX5_PRM_SET(create_mkey_out, cmd->out, mkey_index, mkey->index);
    trace_mlx5_mkey_create(mkey->index, octos);
    return MLX5_CMD_STAT_OK;
}

uint8_t mlx5_destroy_mkey(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint32_t index = MLX5_PRM_GET(destroy_mkey_in, cmd->in, mkey_index);
    Mlx5Mkey *mkey = mlx5_obj_get(&dev->mkeys, index, cmd);

    trace_mlx5_mkey_destroy(index);
    if (!mkey) {
        return MLX5_CMD_STAT_BAD_RES_ERR;
    }
    if (mkey->nr_windows) {
        return MLX5_CMD_STAT_BAD_RES_STATE_ERR;
    }
    unbind(mkey);
    mlx5_table_del(&dev->mkeys, index);
    /* The next key has its number: whoever still uses it meets a stranger. */
    dev->mkeys.next = index;
    return MLX5_CMD_STAT_OK;
}

uint8_t mlx5_query_mkey(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    Mlx5Mkey *mkey = mlx5_obj_look(&dev->mkeys,
                                   MLX5_PRM_GET(query_mkey_in, cmd->in,
                                                mkey_index), cmd);
    size_t head = MLX5_OFF(query_mkey_out, bsf0_klm0_pas_mtt0_1) / 8;

    if (!mkey) {
        return MLX5_CMD_STAT_BAD_RES_ERR;
    }
    memcpy(MLX5_PRM_PTR(query_mkey_out, cmd->out, memory_key_mkey_entry),
           mkey->mkc, sizeof(mkey->mkc));
    /* And as much of its table as the guest left room for. */
    if (cmd->out_len > head) {
        mlx5_mkey_xlt_read(mkey, 0, cmd->out + head,
                           MIN(cmd->out_len - head, mkey->xlt_bytes));
    }
    return MLX5_CMD_STAT_OK;
}

/* Any key counts, also one that is free. */
bool mlx5_mkey_of_pd(Mlx5Device *dev, uint32_t pdn)
{
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, dev->mkeys.objs);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const Mlx5Mkey *mkey = value;

        if (MLX5_PRM_GET(mkc, mkey->mkc, pd) == pdn) {
            return true;
        }
    }
    return false;
}

void mlx5_mkey_init(Mlx5Device *dev)
{
    mlx5_table_init(&dev->mkeys, FIRST_INDEX, LAST_INDEX, mlx5_obj_put);
}

void mlx5_mkey_reset(Mlx5Device *dev)
{
    mlx5_table_reset(&dev->mkeys);
}
