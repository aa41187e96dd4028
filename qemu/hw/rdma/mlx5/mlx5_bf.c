/* SPDX-License-Identifier: GPL-2.0 */
/*
 * BlueFlame: WQEs that the guest stores into the doorbell's own page.
 *
 * From BF_OFFSET on a UAR is eight buffers of 256 bytes, two a register.  A
 * buffer's first 8 bytes are a doorbell.  A program that maps the page
 * write-combined may store the whole WQE there, in blocks of 64 bytes, so that
 * the adapter need not fetch it.
 *
 * A processor gathers such stores in a few write-combining buffers, which it
 * empties when they are complete or when it needs them.  QEMU shows each store
 * by itself, so this file has these buffers: struct Mlx5Bf gathers what is
 * stored to one BlueFlame buffer.  A store to the first bytes begins a new WQE.
 * Whatever the buffer still held is part of an older WQE, which the guest
 * separated from this one by a fence; QEMU does not show fences.
 *
 *   complete             its queue gets the WQE, and a doorbell
 *   bf-window passes     a doorbell, if the first 8 bytes are there
 *   another one begins   the same
 *   its slot is needed   the same
 *
 * If a UAR has only ever received doorbells, they are rung at once.
 *
 * A queue keeps the WQEs that follow one another from its next on, and
 * executes them in place of those in memory, which it reads otherwise.  So a
 * WQE here is a hint: the doorbell record still says what was posted, and with
 * the knob bf-ignore one of so many is not looked at, as an adapter may do that
 * has no room for it.
 */
#include "mlx5_qp.h"

enum {
    BF_OFFSET = 0x800,
    BF_SLOTS = 4,                       /* WQEs that are gathered at a time */
    BF_WQES = 16,                       /* that a queue keeps */
    BF_WORD = 4,                        /* bytes: a bit of .present */
};

#define BF_DOORBELL MAKE_64BIT_MASK(0, 8 / BF_WORD)

QEMU_BUILD_BUG_ON(MLX5_BF_BUFFER / BF_WORD != 64);

struct Mlx5Bf {
    Mlx5Device *dev;
    QEMUTimer *timer;
    uint32_t uar, offset;               /* of the buffer, in its UAR */
    uint64_t present;                   /* what was stored; 0: it is free */
    bool rung;                          /* its doorbell is */
    uint8_t data[MLX5_BF_BUFFER];
};

/* ---- what a queue keeps ---- */

static void bf_pop(Mlx5QP *qp)
{
    Mlx5BfWqe *wqe = QSIMPLEQ_FIRST(&qp->bf_wqes);

    QSIMPLEQ_REMOVE_HEAD(&qp->bf_wqes, entry);
    qp->nr_bf_wqes--;
    g_free(wqe);
}

void mlx5_bf_drop(Mlx5QP *qp)
{
    while (qp->nr_bf_wqes) {
        bf_pop(qp);
    }
}

static bool bf_ignored(Mlx5Device *dev)
{
    uint64_t one_of = dev->knob[MLX5_KNOB_BF_IGNORE];

    return one_of && mlx5_random(dev) % one_of == 0;
}

bool mlx5_bf_take(Mlx5QP *qp, uint8_t *to)
{
    Mlx5BfWqe *wqe = QSIMPLEQ_FIRST(&qp->bf_wqes);
    bool use;

    if (!wqe) {
        return false;
    }
    if (wqe->index != qp->sq_ci) {
        /* The one before it, in memory, had another length. */
        mlx5_bf_drop(qp);
        return false;
    }
    use = !bf_ignored(qp->dev);
    if (use) {
        memcpy(to, wqe->wqe, wqe->len);
    }
    bf_pop(qp);
    return use;
}

/* The index of the only WQE that may be added. */
static uint16_t bf_expected(const Mlx5QP *qp)
{
    Mlx5BfWqe *last = QSIMPLEQ_LAST(&qp->bf_wqes, Mlx5BfWqe, entry);

    return last ? last->index + last->len / MLX5_SEND_WQE_BB : qp->sq_ci;
}

static void bf_add(Mlx5QP *qp, const uint8_t *data, size_t len)
{
    uint16_t index = ldl_be_p(data) >> 8;
    Mlx5BfWqe *wqe;

    if (qp->state != MLX5_QP_STATE_RTS || qp->nr_bf_wqes == BF_WQES ||
        index != bf_expected(qp)) {
        return;
    }
    wqe = g_new0(Mlx5BfWqe, 1);
    wqe->index = index;
    wqe->len = len;
    memcpy(wqe->wqe, data, len);
    QSIMPLEQ_INSERT_TAIL(&qp->bf_wqes, wqe, entry);
    qp->nr_bf_wqes++;
}

/* ---- what becomes of a buffer ---- */

static bool bf_has_doorbell(const Mlx5Bf *bf)
{
    return (bf->present & BF_DOORBELL) == BF_DOORBELL;
}

static void bf_ring(Mlx5Bf *bf)
{
    if (!bf->rung && bf_has_doorbell(bf)) {
        bf->rung = true;
        mlx5_sq_doorbell(bf->dev, bf->uar, ldq_be_p(bf->data));
    }
}

static void bf_empty(Mlx5Bf *bf)
{
    bf->present = 0;
    bf->rung = false;
    timer_del(bf->timer);
}

static void bf_flush(void *opaque)
{
    Mlx5Bf *bf = opaque;

    bf_ring(bf);
    bf_empty(bf);
}

static void bf_complete(Mlx5Bf *bf, size_t len)
{
    Mlx5QP *qp = mlx5_sq_find(bf->dev, bf->uar, ldq_be_p(bf->data));

    if (qp) {
        bf_add(qp, bf->data, len);
    }
    bf_flush(bf);
}

/* The WQE's length in whole blocks; 0: no buffer holds it. */
static size_t bf_length(const Mlx5Bf *bf)
{
    size_t len = (ldl_be_p(bf->data + 4) & MLX5_WQE_CTRL_DS_MASK) * 16;

    len = ROUND_UP(len, MLX5_SEND_WQE_BB);
    return len <= MLX5_BF_BUFFER ? len : 0;
}

static void bf_look(Mlx5Bf *bf)
{
    uint64_t all;
    size_t len;

    if (!bf_has_doorbell(bf)) {
        return;
    }
    len = bf_length(bf);
    all = MAKE_64BIT_MASK(0, len / BF_WORD);
    if (!len) {
        bf_flush(bf);
    } else if ((bf->present & all) == all) {
        bf_complete(bf, len);
    } else if (!bf->dev->bf_uars[bf->uar]) {
        bf_ring(bf);
    }
}

/* ---- stores ---- */

static Mlx5Bf *bf_find(Mlx5Device *dev, uint32_t uar, uint32_t offset)
{
    for (unsigned i = 0; i < BF_SLOTS; i++) {
        Mlx5Bf *bf = &dev->bfs[i];

        if (bf->present && bf->uar == uar && bf->offset == offset) {
            return bf;
        }
    }
    return NULL;
}

/* Slots are taken in turn: the next one is free, or has waited longest. */
static Mlx5Bf *bf_begin(Mlx5Device *dev, uint32_t uar, uint32_t offset)
{
    Mlx5Bf *bf = &dev->bfs[dev->bf_turn++ % BF_SLOTS];

    bf_flush(bf);
    bf->uar = uar;
    bf->offset = offset;
    timer_mod_ns(bf->timer, mlx5_when(dev, MLX5_KNOB_BF_WINDOW));
    return bf;
}

bool mlx5_bf_store(Mlx5Device *dev, uint32_t uar, uint32_t reg, uint64_t value,
                   unsigned size)
{
    uint32_t at = reg % MLX5_BF_BUFFER;
    uint64_t bits;
    Mlx5Bf *bf;

    if (reg < BF_OFFSET || size < BF_WORD || at % size) {
        return false;
    }
    bits = MAKE_64BIT_MASK(at / BF_WORD, size / BF_WORD);
    dev->bf_uars[uar] |= !(bits & BF_DOORBELL);
    bf = bf_find(dev, uar, reg - at);
    if (!at) {
        if (bf) {
            bf_flush(bf);
        }
        bf = bf_begin(dev, uar, reg - at);
    } else if (!bf) {
        return true;
    }
    stn_le_p(bf->data + at, size, value);
    bf->present |= bits;
    bf_look(bf);
    return true;
}

/* ---- begin and end ---- */

void mlx5_bf_forget(Mlx5Device *dev, uint32_t uar)
{
    dev->bf_uars[uar] = false;
    for (unsigned i = 0; i < BF_SLOTS; i++) {
        if (dev->bfs[i].uar == uar) {
            bf_empty(&dev->bfs[i]);
        }
    }
}

void mlx5_bf_init(Mlx5Device *dev)
{
    dev->bf_uars = g_new0(uint8_t, MLX5_NR_UARS);
    dev->bfs = g_new0(Mlx5Bf, BF_SLOTS);
    for (unsigned i = 0; i < BF_SLOTS; i++) {
        Mlx5Bf *bf = &dev->bfs[i];

        bf->dev = dev;
        bf->timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, bf_flush, bf);
    }
}

void mlx5_bf_reset(Mlx5Device *dev)
{
    for (unsigned i = 0; i < BF_SLOTS; i++) {
        bf_empty(&dev->bfs[i]);
    }
}

void mlx5_bf_exit(Mlx5Device *dev)
{
    for (unsigned i = 0; i < BF_SLOTS; i++) {
        timer_free(dev->bfs[i].timer);
    }
    g_free(dev->bfs);
    g_free(dev->bf_uars);
    dev->bfs = NULL;
    dev->bf_uars = NULL;
}
