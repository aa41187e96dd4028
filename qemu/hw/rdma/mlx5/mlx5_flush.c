/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Receives of queue pairs in error.
 *
 * Every receive WQE of the QP's own queue comes back in error.  One that is
 * posted later rings no doorbell, so the records of all QPs in error are looked
 * at again: by one timer, a few QPs at a time, and half as often each time that
 * it finds nothing.  A guest that breaks a lot of them costs no more than one.
 */
#include "mlx5_qp.h"

enum {
    WQES_PER_FLUSH = 256,
    QPS_PER_FLUSH = 64,
    FLUSH_MIN_NS = 1 * SCALE_MS,
    FLUSH_MAX_NS = 256 * SCALE_MS,
};

static bool flush_some(Mlx5QP *qp)
{
    uint8_t wqe[MLX5_MAX_WQE];
    unsigned n;

    qp->recv.srqn = 0;
    for (n = 0; n < WQES_PER_FLUSH; n++) {
        if (!mlx5_recv_take(qp, wqe, &qp->recv.wqe_index)) {
            break;
        }
        mlx5_recv_complete_bad(qp, MLX5_CQE_SYNDROME_WR_FLUSH_ERR);
    }
    return n;
}

static void flush_soon(Mlx5Device *dev)
{
    dev->flush_ns = FLUSH_MIN_NS;
    timer_mod_ns(dev->flush, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) +
                 dev->flush_ns);
}

void mlx5_flush_begin(Mlx5QP *qp)
{
    if (qp->recv.active) {
        mlx5_recv_complete_bad(qp, MLX5_CQE_SYNDROME_WR_FLUSH_ERR);
    }
    if (!qp->rq_entries || qp->flushed) {
        return;
    }
    flush_some(qp);
    qp->flushed = true;
    QTAILQ_INSERT_HEAD(&qp->dev->flushes, qp, flush_entry);
    flush_soon(qp->dev);
}

void mlx5_flush_end(Mlx5QP *qp)
{
    if (qp->flushed) {
        qp->flushed = false;
        QTAILQ_REMOVE(&qp->dev->flushes, qp, flush_entry);
    }
}

void mlx5_flush_timer(void *opaque)
{
    Mlx5Device *dev = opaque;
    Mlx5QP *last = QTAILQ_LAST(&dev->flushes), *qp = NULL;
    bool found = false;

    if (!last || mlx5_bus_park(dev, dev->flush)) {
        return;
    }
    for (unsigned n = 0; n < QPS_PER_FLUSH && qp != last; n++) {
        qp = QTAILQ_FIRST(&dev->flushes);
        QTAILQ_REMOVE(&dev->flushes, qp, flush_entry);
        QTAILQ_INSERT_TAIL(&dev->flushes, qp, flush_entry);
        found |= flush_some(qp);
    }
    dev->flush_ns = found ? FLUSH_MIN_NS : MIN(2 * dev->flush_ns, FLUSH_MAX_NS);
    timer_mod_ns(dev->flush, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) +
                 dev->flush_ns);
}
