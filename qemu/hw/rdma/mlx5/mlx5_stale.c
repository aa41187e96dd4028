/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What unwritten translation memory holds.
 *
 * A new key gets memory that was another key's, or a queue's, or was never
 * used.  No header promises that the adapter clears it.  Here it holds what
 * hurts a driver that relies on that: in a table of pages, pages of other
 * keys, to be read and written; in a table of keys, other keys.  Both are the
 * last that any driver wrote to any table, so they are pages that the guest
 * has given to somebody for DMA, whether it has taken them back or not.
 *
 * With the knob "garbage" at 0 it holds zeros.  An access by a translation
 * that was never written is reported in any case (mlx5_dma.c).
 */
#include "mlx5_xlt.h"
#include "qemu/cutils.h"

enum {
    MTT_PRESENT = 3,                    /* to be read and written */
    MTTS = MLX5_XLT_GRANULE / 8,
    KLMS = MLX5_XLT_GRANULE / 16,
    RAM = 1 << 20,                      /* before any page was given away */
};

static bool over_pages(const Mlx5Mkey *mkey)
{
    return mlx5_mkey_mode(mkey) == MLX5_MKC_ACCESS_MODE_MTT;
}

static void note_mtt(Mlx5Stale *stale, uint64_t mtt)
{
    if (mtt & MTT_PRESENT) {
        stale->mtt[stale->nr_mtts++ % ARRAY_SIZE(stale->mtt)] = mtt & ~0xfffull;
    }
}

static void note_klm(Mlx5Stale *stale, const struct mlx5_klm *klm)
{
    unsigned i = stale->nr_klms % ARRAY_SIZE(stale->klm);

    if (klm->key) {
        stale->klm[i].key = be32_to_cpu(klm->key);
        stale->klm[i].va = be64_to_cpu(klm->va);
        stale->nr_klms++;
    }
}

void mlx5_stale_note(Mlx5Mkey *mkey, const void *data, size_t len)
{
    Mlx5Stale *stale = &mkey->dev->stale;
    size_t i;

    /* The last of a long table push out all others, so look at no more. */
    if (over_pages(mkey)) {
        for (i = MIN(len / 8, ARRAY_SIZE(stale->mtt)); i; i--) {
            note_mtt(stale, ldq_be_p((const uint8_t *)data + len / 8 * 8 -
                                     i * 8));
        }
    } else {
        for (i = MIN(len / 16, ARRAY_SIZE(stale->klm)); i; i--) {
            note_klm(stale, (const void *)((const uint8_t *)data +
                                           len / 16 * 16 - i * 16));
        }
    }
}

static void stale_mtts(const Mlx5Stale *stale, uint64_t nr, uint8_t *to)
{
    unsigned known = MIN(stale->nr_mtts, ARRAY_SIZE(stale->mtt));

    for (unsigned i = 0; i < MTTS; i++, nr++) {
        uint64_t page = known ? stale->mtt[nr % known] : RAM;

        stq_be_p(to + i * 8, page | MTT_PRESENT);
    }
}

static void stale_klms(const Mlx5Stale *stale, uint64_t nr, uint8_t *to)
{
    unsigned known = MIN(stale->nr_klms, ARRAY_SIZE(stale->klm));
    struct mlx5_klm *klm = (void *)to;

    for (unsigned i = 0; i < KLMS; i++, nr++) {
        klm[i].bcount = cpu_to_be32(UINT32_MAX);
        klm[i].key = cpu_to_be32(known ? stale->klm[nr % known].key :
                                         MLX5_NULL_MKEY);
        klm[i].va = cpu_to_be64(known ? stale->klm[nr % known].va : 0);
    }
}

void mlx5_stale_granule(const Mlx5Mkey *mkey, uint64_t off, void *data)
{
    const Mlx5Stale *stale = &mkey->dev->stale;

    memset(data, 0, MLX5_XLT_GRANULE);
    if (!mkey->dev->knob[MLX5_KNOB_GARBAGE]) {
        return;
    }
    /* Not the same for each key, so that two do not have each other's. */
    if (over_pages(mkey)) {
        stale_mtts(stale, mkey->index + off / 8, data);
    } else {
        stale_klms(stale, mkey->index + off / 16, data);
    }
}
