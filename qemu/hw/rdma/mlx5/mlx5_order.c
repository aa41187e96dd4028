/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The order of a send queue: what may overtake what, and that completions do
 * not.
 *
 * A reliable connection executes its messages in order, except that one that is
 * not fenced need not wait for the answers to reads and atomics before it, nor
 * for UMRs before it.  The adapter makes full use of that: a read is put aside
 * as long as the queue has other work, and a UMR takes its time.  At most
 * log_sra_max reads are put aside, and they stay in order among themselves.
 *
 *   fence mode             waits for
 *   INITIATOR_SMALL        UMRs
 *   FENCE                  reads and atomics
 *   STRONG_ORDERING, SMALL_AND_FENCE    both
 *
 * Each WQE that was taken has a struct Mlx5Order until its completion is
 * written, which is when all before it have theirs.  One that fails ends the
 * queue at that moment and not before: until then no other WQE is taken, but
 * the reads that were put aside are executed.  Those after it are flushed, also
 * if they were executed.
 *
 * How many WQEs are between being taken and completed is limited, so that a
 * read's turn comes, and a guest that posts on and on takes no more memory.
 */
#include "mlx5_qp.h"
#include "trace.h"

enum {
    FENCE_MASK = 7 << 5,
    FENCE_UMRS = MLX5_FENCE_MODE_INITIATOR_SMALL,
    FENCE_READS = MLX5_FENCE_MODE_FENCE,

    MAX_READS = 16,                     /* log_max_ra_req_qp */
    WINDOW = 64,                        /* WQEs taken and not completed */
    WINDOW_UMR = 256,                   /* the same of the driver's queue */
};

#define READ_BYTES offsetof(Mlx5Send, datagram)

struct Mlx5Order {
    QSIMPLEQ_ENTRY(Mlx5Order) entry;
    uint8_t opcode, flags;
    uint16_t index;
    bool done;
    uint8_t syndrome;                   /* of a completion in error; 0: good */
    uint32_t bytes;
};

/* ---- completions ---- */

static void complete(Mlx5QP *qp, const Mlx5Order *order)
{
    struct mlx5_cqe64 cqe = { };

    if (!(order->flags & MLX5_WQE_CTRL_CQ_UPDATE)) {
        return;
    }
    cqe.srqn = cpu_to_be32(MLX5_PRM_GET(qpc, qp->qpc, user_index));
    cqe.byte_cnt = cpu_to_be32(order->bytes);
    cqe.sop_drop_qpn = cpu_to_be32(order->opcode << 24 | qp->qpn);
    cqe.wqe_counter = cpu_to_be16(order->index);
    cqe.op_own = MLX5_CQE_REQ << 4;
    mlx5_cq_post(qp->dev, MLX5_PRM_GET(qpc, qp->qpc, cqn_snd), &cqe, false);
}

static void complete_bad(Mlx5QP *qp, const Mlx5Order *order, uint8_t syndrome)
{
    struct mlx5_cqe64 cqe = { };
    struct mlx5_err_cqe *err = (void *)&cqe;

    err->srqn = cpu_to_be32(MLX5_PRM_GET(qpc, qp->qpc, user_index));
    err->syndrome = syndrome;
    err->s_wqe_opcode_qpn = cpu_to_be32(order->opcode << 24 | qp->qpn);
    err->wqe_counter = cpu_to_be16(order->index);
    err->op_own = MLX5_CQE_REQ_ERR << 4;
    trace_mlx5_send_error(qp->qpn, order->index, order->opcode, syndrome);
    mlx5_cq_post(qp->dev, MLX5_PRM_GET(qpc, qp->qpc, cqn_snd), &cqe, false);
}

static void order_pop(Mlx5QP *qp)
{
    Mlx5Order *order = QSIMPLEQ_FIRST(&qp->order);

    QSIMPLEQ_REMOVE_HEAD(&qp->order, entry);
    qp->nr_order--;
    g_free(order);
}

/* Completes what is done at the head.  The first that failed ends the queue. */
static void order_release(Mlx5QP *qp)
{
    Mlx5Order *order;
    uint8_t syndrome;

    while ((order = QSIMPLEQ_FIRST(&qp->order)) && order->done) {
        syndrome = order->syndrome;
        if (syndrome) {
            complete_bad(qp, order, syndrome);
        } else {
            complete(qp, order);
        }
        order_pop(qp);
        if (syndrome) {
            mlx5_qp_error(qp, 0);
            return;
        }
    }
}

static unsigned window(const Mlx5QP *qp)
{
    return mlx5_qp_type(qp) == MLX5_QP_ST_REG_UMR ? WINDOW_UMR : WINDOW;
}

size_t mlx5_order_bytes(const Mlx5QP *qp)
{
    return window(qp) * (sizeof(Mlx5Order) + sizeof(Mlx5UmrWqe)) +
           (MAX_READS + 1) * READ_BYTES;
}

bool mlx5_order_full(const Mlx5QP *qp)
{
    return qp->nr_order >= window(qp);
}

Mlx5Order *mlx5_order_add(Mlx5QP *qp, uint8_t opcode, uint16_t index,
                          uint8_t flags)
{
    Mlx5Order *order = g_new0(Mlx5Order, 1);

    order->opcode = opcode;
    order->index = index;
    order->flags = flags;
    QSIMPLEQ_INSERT_TAIL(&qp->order, order, entry);
    qp->nr_order++;
    return order;
}

void mlx5_order_done(Mlx5QP *qp, Mlx5Order *order, uint32_t bytes)
{
    order->done = true;
    order->bytes = bytes;
    order_release(qp);
}

void mlx5_order_fail(Mlx5QP *qp, Mlx5Order *order, uint8_t syndrome)
{
    order->done = true;
    order->syndrome = syndrome;
    qp->failing = true;
    order_release(qp);
    /* If others come before it, they have to be worked on. */
    mlx5_send_kick(qp);
}

bool mlx5_order_flush(Mlx5QP *qp)
{
    Mlx5Order *order = QSIMPLEQ_FIRST(&qp->order);

    if (!order) {
        return false;
    }
    complete_bad(qp, order, MLX5_CQE_SYNDROME_WR_FLUSH_ERR);
    order_pop(qp);
    return true;
}

/* ---- what is put aside ---- */

static bool is_read(const Mlx5Send *s)
{
    return s->opcode == MLX5_OPCODE_RDMA_READ ||
           s->opcode == MLX5_OPCODE_ATOMIC_CS ||
           s->opcode == MLX5_OPCODE_ATOMIC_FA;
}

static bool fences(const Mlx5Send *s, uint8_t mode)
{
    uint8_t found = s->flags & FENCE_MASK;

    return found == mode || found == MLX5_FENCE_MODE_STRONG_ORDERING ||
           found == MLX5_FENCE_MODE_SMALL_AND_FENCE;
}

static bool must_wait(Mlx5QP *qp, const Mlx5Send *s)
{
    bool overtake = qp->dev->knob[MLX5_KNOB_OVERTAKE];
    unsigned reads = MIN(1u << MLX5_PRM_GET(qpc, qp->qpc, log_sra_max),
                         MAX_READS);

    if (qp->nr_reads && (fences(s, FENCE_READS) ||
                         (is_read(s) && qp->nr_reads >= reads))) {
        return true;
    }
    return mlx5_qp_type(qp) != MLX5_QP_ST_REG_UMR &&
           !QSIMPLEQ_EMPTY(&qp->umrs) && (!overtake || fences(s, FENCE_UMRS));
}

/* A copy without what only datagrams have.  Inline data is in the WQE. */
static Mlx5Send *send_copy(Mlx5QP *qp)
{
    Mlx5Send *s = g_memdup2(&qp->send, READ_BYTES);

    qp->send.active = false;
    return s;
}

static void send_restore(Mlx5QP *qp, Mlx5Send *s)
{
    memcpy(&qp->send, s, READ_BYTES);
    g_free(s);
    /* UMRs are parsed elsewhere, and the others were parsed before. */
    mlx5_wqe_parse_send(qp, &qp->send);
}

bool mlx5_order_aside(Mlx5QP *qp)
{
    if (must_wait(qp, &qp->send)) {
        qp->waiting = send_copy(qp);
        return true;
    }
    if (is_read(&qp->send) && qp->dev->knob[MLX5_KNOB_OVERTAKE]) {
        qp->send.outstanding = qp->nr_reads + 1;
        g_queue_push_tail(&qp->reads, send_copy(qp));
        qp->nr_reads++;
        return true;
    }
    return false;
}

bool mlx5_order_next(Mlx5QP *qp, bool idle)
{
    Mlx5Send *waiting = qp->waiting;

    if (waiting && !qp->failing && !must_wait(qp, waiting)) {
        qp->waiting = NULL;
        send_restore(qp, waiting);
        return true;
    }
    if (qp->nr_reads && (waiting || idle)) {
        send_restore(qp, g_queue_pop_head(&qp->reads));
        qp->nr_reads--;
        return true;
    }
    return false;
}

/* ---- the end ---- */

void mlx5_order_drop(Mlx5QP *qp)
{
    qp->send.active = false;
    mlx5_ask_end(qp);
    qp->failing = false;
    g_clear_pointer(&qp->waiting, g_free);
    while (qp->nr_reads) {
        g_free(g_queue_pop_head(&qp->reads));
        qp->nr_reads--;
    }
    mlx5_umr_reset(qp);
}

void mlx5_order_reset(Mlx5QP *qp)
{
    mlx5_order_drop(qp);
    while (!QSIMPLEQ_EMPTY(&qp->order)) {
        order_pop(qp);
    }
}
