/* SPDX-License-Identifier: GPL-2.0 */
/*
 * From a key and an address to DMA.
 *
 * walk_one() resolves as far as the memory stays contiguous: through MTTs to
 * pages, through KLMs and KSMs to other keys.  Nothing is cached between two
 * accesses, so a translation that a UMR removed is gone with the completion
 * of that UMR.
 */
#include "mlx5_xlt.h"
#include "trace.h"

enum {
    MAX_DEPTH = 5,                      /* keys of keys: max_indirection + 1 */
    PAUSE_NS = 200 * 1000,
};

/* Under QEMU's lock, as everything here. */
static uint64_t work;
static uint64_t share_start;
static int64_t pause_end;

uint64_t mlx5_work(void)
{
    return work;
}

void mlx5_work_add(uint64_t units)
{
    work += units;
}

bool mlx5_work_spent(void)
{
    return work - share_start >= MLX5_WORK_SHARE;
}

int64_t mlx5_work_pause(void)
{
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);

    if (mlx5_work_spent()) {
        share_start = work;
        pause_end = now + PAUSE_NS;
    }
    return MAX(pause_end - now, 0);
}

typedef struct Span {
    uint64_t addr;
    uint64_t len;
    uint32_t key;                       /* of the leaf: named in reports */
    uint64_t va;
} Span;

static uint32_t mkey_rights(const Mlx5Mkey *mkey)
{
    return MLX5_PRM_GET(mkc, mkey->mkc, lr) * MLX5_RIGHT_LR |
           MLX5_PRM_GET(mkc, mkey->mkc, lw) * MLX5_RIGHT_LW |
           MLX5_PRM_GET(mkc, mkey->mkc, rr) * MLX5_RIGHT_RR |
           MLX5_PRM_GET(mkc, mkey->mkc, rw) * MLX5_RIGHT_RW |
           MLX5_PRM_GET(mkc, mkey->mkc, a) * MLX5_RIGHT_ATOMIC;
}

uint8_t mlx5_mkey_mode(const Mlx5Mkey *mkey)
{
    return MLX5_PRM_GET(mkc, mkey->mkc, access_mode_1_0) |
           MLX5_PRM_GET(mkc, mkey->mkc, access_mode_4_2) << 2;
}

/* The bytes of the key's range from va on. */
static uint64_t room(const Mlx5Mkey *mkey, uint64_t va)
{
    uint64_t off = va - MLX5_PRM_GET(mkc, mkey->mkc, start_addr);
    uint64_t size = MLX5_PRM_GET(mkc, mkey->mkc, len);

    if (MLX5_PRM_GET(mkc, mkey->mkc, length64)) {
        return UINT64_MAX;
    }
    return off < size ? size - off : 0;
}

/* The key as this access may use it, or NULL. */
static Mlx5Mkey *usable(Mlx5Device *dev, const Mlx5Access *access, uint32_t key,
                        uint32_t rights, uint64_t va, uint64_t len)
{
    Mlx5Mkey *mkey = mlx5_mkey_find(dev, key);
    uint32_t qpn;

    if (!mkey || mlx5_mkey_key(mkey) != key ||
        MLX5_PRM_GET(mkc, mkey->mkc, free) ||
        (!access->any_pd &&
         MLX5_PRM_GET(mkc, mkey->mkc, pd) != access->pdn)) {
        return NULL;
    }
    qpn = MLX5_PRM_GET(mkc, mkey->mkc, qpn);
    if (qpn != 0xffffff && qpn != access->qpn) {
        return NULL;
    }
    if ((mkey_rights(mkey) & rights) != rights || room(mkey, va) < len) {
        return NULL;
    }
    return mkey;
}

static Mlx5Result missing_at(uint32_t key, uint64_t va, Mlx5Missing *missing)
{
    missing->key = key;
    missing->va = va;
    return MLX5_FAULT;
}

/* A translation, for this access. */
static void look_up(Mlx5Mkey *mkey, const Mlx5Access *access, uint64_t at,
                    uint64_t va, void *entry, size_t len)
{
    if (!mlx5_mkey_xlt_written(mkey, at)) {
        mlx5_dma_unwritten(mkey->dev, access->write, mlx5_mkey_key(mkey), va);
    }
    mlx5_mkey_xlt_read(mkey, at, entry, len);
}

static Mlx5Result walk_mtt(Mlx5Mkey *mkey, const Mlx5Access *access,
                           uint64_t va, uint64_t len, Span *span,
                           Mlx5Missing *missing)
{
    uint32_t shift = MLX5_PRM_GET(mkc, mkey->mkc, log_page_size);
    uint64_t page = 1ull << (shift & 63), start, index, off, mtt;

    if (shift < 3 || shift > 62) {
        return MLX5_DENIED;
    }
    start = MLX5_PRM_GET(mkc, mkey->mkc, start_addr) & ~(page - 1);
    index = (va - start) >> shift;
    off = va & (page - 1);
    if (index >= mkey->xlt_bytes / 8) {
        return MLX5_DENIED;
    }
    look_up(mkey, access, index * 8, va, &mtt, 8);
    mtt = be64_to_cpu(mtt);
    /* Bit 0: may be read, bit 1: may be written. */
    if (!(mtt & (access->write ? 2 : 1))) {
        return missing_at(mlx5_mkey_key(mkey), va, missing);
    }
    span->addr = (mtt & ~0xfffull & ~(page - 1)) + off;
    if (shift < 12) {
        span->addr = (mtt & ~7ull & ~(page - 1)) + off;
    }
    span->len = MIN(len, page - off);
    span->key = mlx5_mkey_key(mkey);
    span->va = va;
    return MLX5_OK;
}

/*
 * Strided: a header and its entries, each of which gives some bytes a cycle
 * and moves on by its stride from one cycle to the next.
 */
static bool stride_at(Mlx5Mkey *mkey, uint64_t at, unsigned nr, uint64_t cycle,
                      uint64_t off, struct mlx5_klm *klm, uint64_t *into)
{
    struct mlx5_stride_block_entry entry;
    uint64_t size;

    for (; nr && at + 16 <= mkey->xlt_bytes; nr--, at += 16) {
        work++;
        mlx5_mkey_xlt_read(mkey, at, &entry, 16);
        size = be16_to_cpu(entry.bcount);
        if (off < size) {
            klm->key = entry.key;
            klm->bcount = cpu_to_be32(size);
            klm->va = cpu_to_be64(be64_to_cpu(entry.va) +
                                  cycle * be16_to_cpu(entry.stride));
            *into = off;
            return true;
        }
        off -= size;
    }
    return false;
}

/* One step down: the entry that holds va, of this key's range. */
static bool klm_at(Mlx5Mkey *mkey, const Mlx5Access *access, uint64_t va,
                   struct mlx5_klm *klm, uint64_t *into)
{
    const struct mlx5_stride_block_ctrl_seg *block = (const void *)klm;
    uint64_t off = va - MLX5_PRM_GET(mkc, mkey->mkc, start_addr);
    uint64_t size, cycle;
    unsigned nr;

    for (uint64_t at = 0; at + 16 <= MIN(mkey->xlt_bytes, 65536); at += 16) {
        work++;
        look_up(mkey, access, at, va, klm, 16);
        size = be32_to_cpu(klm->bcount);
        nr = 0;
        cycle = size;
        if (be32_to_cpu(block->op) == MLX5_STRIDE_BLOCK_OP) {
            nr = be16_to_cpu(block->num_entries);
            size *= be32_to_cpu(block->repeat_count);
        }
        if (off < size) {
            *into = off;
            return !nr || stride_at(mkey, at + 16, nr, off / cycle,
                                    off % cycle, klm, into);
        }
        off -= size;
        at += nr * 16;
    }
    return false;
}

/*
 * The first entry begins at start, whatever start is: UCX makes such keys over
 * chunks of memory that begins anywhere.  In a table of pages the first entry
 * is of the page that start is in.
 */
static bool ksm_at(Mlx5Mkey *mkey, const Mlx5Access *access, uint64_t va,
                   struct mlx5_klm *klm, uint64_t *into, uint64_t *size)
{
    uint32_t shift = MLX5_PRM_GET(mkc, mkey->mkc, log_page_size) & 63;
    uint64_t off = va - MLX5_PRM_GET(mkc, mkey->mkc, start_addr);
    uint64_t index = off >> shift;

    if (index >= mkey->xlt_bytes / 16) {
        return false;
    }
    look_up(mkey, access, index * 16, va, klm, 16);
    *size = 1ull << shift;
    *into = off & (*size - 1);
    return true;
}

static Mlx5Result walk_one(Mlx5Device *dev, const Mlx5Access *access,
                           uint32_t key, uint32_t rights, uint64_t va,
                           uint64_t len, int depth, Span *span,
                           Mlx5Missing *missing)
{
    uint64_t into, size;
    struct mlx5_klm klm;
    Mlx5Mkey *mkey;

    if (key == MLX5_NULL_MKEY) {
        /* Stands for "nothing here yet" in an implicit region's table. */
        return depth ? missing_at(key, va, missing) : MLX5_DENIED;
    }
    mkey = depth < MAX_DEPTH ? usable(dev, access, key, rights, va, 1) : NULL;
    if (!mkey) {
        return MLX5_DENIED;
    }
    /* Its last page, or entry, may go on to what is not the key's. */
    len = MIN(len, room(mkey, va));
    switch (mlx5_mkey_mode(mkey)) {
    case MLX5_MKC_ACCESS_MODE_PA:
        *span = (Span) { .addr = va, .len = len, .key = key, .va = va };
        return MLX5_OK;
    case MLX5_MKC_ACCESS_MODE_MTT:
        return walk_mtt(mkey, access, va, len, span, missing);
    case MLX5_MKC_ACCESS_MODE_KLMS:
        if (!klm_at(mkey, access, va, &klm, &into)) {
            return MLX5_DENIED;
        }
        size = be32_to_cpu(klm.bcount);
        break;
    case MLX5_MKC_ACCESS_MODE_KSM:
        if (!ksm_at(mkey, access, va, &klm, &into, &size)) {
            return MLX5_DENIED;
        }
        break;
    default:
        return MLX5_DENIED;
    }
    /* Below the first key its owner's own rights count. */
    return walk_one(dev, access, be32_to_cpu(klm.key),
                    access->write ? MLX5_RIGHT_LW : MLX5_RIGHT_LR,
                    be64_to_cpu(klm.va) + into, MIN(len, size - into),
                    depth + 1, span, missing);
}

static Mlx5Result resolve(Mlx5Device *dev, const Mlx5Access *access,
                          uint32_t key, uint64_t va, uint64_t len, Span *span,
                          Mlx5Missing *missing)
{
    if (key == MLX5_RESERVED_LKEY && access->reserved_lkey) {
        *span = (Span) { .addr = va, .len = len, .key = key, .va = va };
        return MLX5_OK;
    }
    return walk_one(dev, access, key, access->rights, va, len, 0, span,
                    missing);
}

Mlx5Result mlx5_mem_check(Mlx5Device *dev, const Mlx5Access *access,
                          uint32_t key, uint64_t va, uint64_t len)
{
    if (key == MLX5_RESERVED_LKEY && access->reserved_lkey) {
        return MLX5_OK;
    }
    return usable(dev, access, key, access->rights, va, len) ? MLX5_OK
                                                             : MLX5_DENIED;
}

Mlx5Result mlx5_mem_copy(Mlx5Device *dev, const Mlx5Access *access,
                         uint32_t key, uint64_t va, void *buf, size_t len,
                         size_t *done, Mlx5Missing *missing)
{
    Mlx5Result result = mlx5_mem_check(dev, access, key, va, len);
    uint64_t start = work;
    Span span;

    *done = 0;
    while (result == MLX5_OK && *done < len && work - start < MLX5_WORK_COPY) {
        work += MLX5_WORK_SPAN;
        result = resolve(dev, access, key, va + *done, len - *done, &span,
                         missing);
        if (result != MLX5_OK) {
            break;
        }
        if (!mlx5_dma_data(dev, span.addr, (uint8_t *)buf + *done, span.len,
                           access->write, span.key, span.va)) {
            return MLX5_DENIED;
        }
        *done += span.len;
    }
    return result;
}

Mlx5Result mlx5_mem_addr(Mlx5Device *dev, const Mlx5Access *access,
                         uint32_t key, uint64_t va, size_t len,
                         uint64_t *addr, Mlx5Missing *missing)
{
    Mlx5Result result = mlx5_mem_check(dev, access, key, va, len);
    Span span;

    if (result == MLX5_OK) {
        result = resolve(dev, access, key, va, len, &span, missing);
    }
    if (result == MLX5_OK && span.len < len) {
        return MLX5_DENIED;
    }
    *addr = result == MLX5_OK ? span.addr : 0;
    return result;
}
