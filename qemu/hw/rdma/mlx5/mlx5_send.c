/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The requester: takes WQEs off a send queue and sees them through.
 *
 * One WQE of a queue is in progress at a time; others are put aside for later
 * (mlx5_order.c).  A step moves up to MLX5_PIECE bytes and comes back to the
 * main loop, so that one QP's megabytes do not hold up another's UMR.  What
 * stops a step is a local fault (the resume kicks), or the peer (mlx5_ask.c).
 */
#include "mlx5_qp.h"
#include "trace.h"

enum {
    PIECES_PER_RUN = 16,
    WQES_PER_FLUSH = 256,
};

void mlx5_send_after(Mlx5QP *qp, int64_t ns)
{
    timer_mod_ns(qp->timer, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + ns);
}

void mlx5_send_kick(Mlx5QP *qp)
{
    if (qp->sq_entries) {
        mlx5_send_after(qp, 0);
    }
}

void mlx5_send_reset(Mlx5QP *qp)
{
    mlx5_bf_drop(qp);
    mlx5_order_reset(qp);
}

Mlx5QP *mlx5_sq_find(Mlx5Device *dev, uint32_t uar, uint64_t doorbell)
{
    Mlx5QP *qp = mlx5_table_get(&dev->qps, (doorbell & 0xffffffff) >> 8);

    return qp && MLX5_PRM_GET(qpc, qp->qpc, uar_page) == uar ? qp : NULL;
}

void mlx5_sq_doorbell(Mlx5Device *dev, uint32_t uar, uint64_t value)
{
    Mlx5QP *qp = mlx5_sq_find(dev, uar, value);

    if (!qp) {
        trace_mlx5_sq_doorbell_ignored(uar, value);
        mlx5_count(dev, MLX5_COUNTER_DROPS, 1);
        return;
    }
    mlx5_count(dev, MLX5_COUNTER_DOORBELLS, 1);
    if (!timer_pending(qp->timer)) {
        mlx5_send_kick(qp);
    }
}

/* ---- completions ---- */

void mlx5_send_done(Mlx5QP *qp, uint32_t bytes)
{
    Mlx5Send *s = &qp->send;

    s->active = false;
    mlx5_ask_end(qp);
    mlx5_count(qp->dev, MLX5_COUNTER_MESSAGES, 1);
    mlx5_order_done(qp, s->order, bytes);
}

void mlx5_send_fail(Mlx5QP *qp, uint8_t syndrome)
{
    qp->send.active = false;
    mlx5_ask_end(qp);
    mlx5_order_fail(qp, qp->send.order, syndrome);
}

/* ---- taking WQEs ---- */

static bool sq_read(Mlx5QP *qp, uint16_t block, void *to, size_t len)
{
    uint64_t size = (uint64_t)qp->sq_entries * MLX5_SEND_WQE_BB;
    uint64_t off = (uint64_t)(block & (qp->sq_entries - 1)) * MLX5_SEND_WQE_BB;
    size_t n = MIN(len, size - off);

    return mlx5_buf_read(qp->dev, &qp->buf, qp->sq_offset + off, to, n) &&
           (n == len || mlx5_buf_read(qp->dev, &qp->buf, qp->sq_offset,
                                      (uint8_t *)to + n, len - n));
}

static bool sq_has_work(Mlx5QP *qp)
{
    uint32_t count;
    uint16_t producer;

    if (qp->sq_known != qp->sq_ci) {
        return true;
    }
    if (!mlx5_dma_read(qp->dev, qp->dbr.addr + 4 * MLX5_SND_DBR, &count, 4)) {
        return false;
    }
    producer = be32_to_cpu(count);
    if ((uint16_t)(producer - qp->sq_ci) <= qp->sq_entries) {
        qp->sq_known = producer;
    }
    if (qp->sq_known == qp->sq_ci) {
        /* The doorbell record does not confirm what is left. */
        mlx5_bf_drop(qp);
    }
    return qp->sq_known != qp->sq_ci;
}

/* The next WQE into qp->send; false: the queue holds garbage. */
static bool sq_fetch(Mlx5QP *qp)
{
    Mlx5Send *s = &qp->send;
    struct mlx5_wqe_ctrl_seg ctrl;
    bool from_register = mlx5_bf_take(qp, s->wqe);
    uint32_t word, blocks;

    s->opcode = 0xff;
    s->flags = 0;
    s->outstanding = 1;
    s->index = qp->sq_ci;
    if (!from_register && !sq_read(qp, qp->sq_ci, s->wqe, sizeof(ctrl))) {
        return false;
    }
    memcpy(&ctrl, s->wqe, sizeof(ctrl));
    word = be32_to_cpu(ctrl.opmod_idx_opcode);
    s->opcode = word;
    s->index = word >> 8;
    s->flags = ctrl.fm_ce_se;
    s->wqe_len = (be32_to_cpu(ctrl.qpn_ds) & MLX5_WQE_CTRL_DS_MASK) * 16;
    blocks = DIV_ROUND_UP(s->wqe_len, MLX5_SEND_WQE_BB);
    if (!blocks || blocks > (uint16_t)(qp->sq_known - qp->sq_ci) ||
        be32_to_cpu(ctrl.qpn_ds) >> 8 != qp->qpn ||
        (!from_register && !sq_read(qp, qp->sq_ci, s->wqe, s->wqe_len))) {
        return false;
    }
    qp->sq_ci += blocks;
    s->active = true;
    s->executed = false;
    s->rnr = s->retries = 0;
    s->done = 0;
    mlx5_count(qp->dev, MLX5_COUNTER_WQES, 1);
    mlx5_count(qp->dev, MLX5_COUNTER_BF_WQES, from_register);
    return true;
}

/* The same, and it is due a completion, whatever it is. */
static bool sq_take(Mlx5QP *qp)
{
    Mlx5Send *s = &qp->send;
    bool fetched = sq_fetch(qp);

    s->order = mlx5_order_add(qp, s->opcode, s->index, s->flags);
    return fetched;
}

/* The oldest WQE that is not completed yet; false: there is none. */
static bool flush_one(Mlx5QP *qp)
{
    if (mlx5_order_flush(qp)) {
        return true;
    }
    if (!sq_has_work(qp)) {
        return false;
    }
    if (!sq_take(qp)) {
        qp->sq_ci = qp->sq_known;
        mlx5_bf_drop(qp);
        mlx5_order_reset(qp);
        return false;
    }
    qp->send.active = false;
    return mlx5_order_flush(qp);
}

/* After an error nothing is done any more, but all of it is completed. */
static void send_flush(Mlx5QP *qp)
{
    for (unsigned n = 0; n < WQES_PER_FLUSH; n++) {
        if (!flush_one(qp)) {
            return;
        }
    }
    mlx5_send_kick(qp);
}

/* ---- a step of a message ---- */

static Mlx5Access local_access(Mlx5QP *qp, bool write)
{
    return (Mlx5Access) {
        .pdn = MLX5_PRM_GET(qpc, qp->qpc, pd), .qpn = qp->qpn,
        .rights = write ? MLX5_RIGHT_LW : MLX5_RIGHT_LR, .write = write,
        .reserved_lkey = MLX5_PRM_GET(qpc, qp->qpc, rlky),
    };
}

static void local_fault(Mlx5QP *qp, bool write, const Mlx5Missing *missing)
{
    Mlx5Send *s = &qp->send;
    uint64_t off = s->done;
    Mlx5FaultInfo info = {
        .subtype = MLX5_PFAULT_SUBTYPE_WQE,
        .type = write ? MLX5_WQE_PF_TYPE_REQ_READ_OR_ATOMIC
                      : MLX5_WQE_PF_TYPE_REQ_SEND_OR_WRITE,
        .wq = qp->qpn, .wqe_index = s->index, .committed = s->done,
    };

    for (unsigned i = 0; i < s->sgl.nr; i++) {
        if (off < s->sgl.sge[i].len) {
            info.key = s->sgl.sge[i].key;
            info.op_len = s->sgl.sge[i].len - off;
            break;
        }
        off -= s->sgl.sge[i].len;
    }
    mlx5_fault_raise(qp, MLX5_SIDE_SEND, &info, missing);
}

void mlx5_send_fault_failed(Mlx5QP *qp)
{
    if (qp->send.active) {
        mlx5_send_fail(qp, MLX5_CQE_SYNDROME_LOCAL_PROT_ERR);
    }
}

/* Local memory at the current offset; false: stopped, it is dealt with. */
static bool local_copy(Mlx5QP *qp, void *buf, size_t len, bool write,
                       size_t *done)
{
    Mlx5Access access = local_access(qp, write);
    Mlx5Missing missing;
    Mlx5Result result = mlx5_sgl_copy(qp->dev, &access, &qp->send.sgl,
                                      qp->send.done, buf, len, done, &missing);

    if (result == MLX5_OK || *done) {
        return true;
    }
    if (result == MLX5_FAULT) {
        local_fault(qp, write, &missing);
    } else {
        mlx5_send_fail(qp, MLX5_CQE_SYNDROME_LOCAL_PROT_ERR);
    }
    return false;
}

/* Sends and writes: local memory to the peer. */
static bool step_out(Mlx5QP *qp, uint8_t *buf)
{
    Mlx5Send *s = &qp->send;
    uint64_t left = s->sgl.len - s->done;
    Mlx5Reply reply;
    size_t len = 0;

    if (!mlx5_ask_ready(qp)) {
        return false;
    }
    if (left && !mlx5_ask_pending(qp) &&
        !local_copy(qp, buf, MIN(left, MLX5_PIECE), false, &len)) {
        return false;
    }
    if (!mlx5_ask(qp, buf, len, &reply)) {
        return false;
    }
    s->done += reply.done;
    mlx5_count(qp->dev, MLX5_COUNTER_BYTES, reply.done);
    if (s->done == s->sgl.len) {
        mlx5_send_done(qp, 0);
    }
    return true;
}

static bool step_read(Mlx5QP *qp, uint8_t *buf)
{
    Mlx5Send *s = &qp->send;
    Mlx5Reply reply;
    size_t done = 0;

    if (!mlx5_ask_ready(qp) ||
        !mlx5_ask(qp, buf, MIN(s->sgl.len - s->done, MLX5_PIECE), &reply)) {
        return false;
    }
    if (reply.done && !local_copy(qp, buf, reply.done, true, &done)) {
        return false;
    }
    s->done += done;
    mlx5_count(qp->dev, MLX5_COUNTER_BYTES, done);
    if (s->done == s->sgl.len) {
        mlx5_send_done(qp, s->done);
    }
    return true;
}

/* The change is made once; what it found is kept until it is written down. */
static bool step_atomic(Mlx5QP *qp)
{
    Mlx5Send *s = &qp->send;
    Mlx5Reply reply;
    uint64_t found;
    size_t done = 0;

    if (!s->executed) {
        if (!mlx5_ask_ready(qp) || !mlx5_ask(qp, NULL, 0, &reply)) {
            return false;
        }
        s->original = reply.original;
        s->executed = true;
    }
    /* In the byte order that the driver asked for: its own, or the wire's. */
    found = qp->dev->atomic_host_endian ? cpu_to_le64(s->original)
                                        : cpu_to_be64(s->original);
    if (!local_copy(qp, (uint8_t *)&found + s->done, 8 - s->done, true,
                    &done)) {
        return false;
    }
    s->done += done;
    if (s->done == 8 || !done) {
        mlx5_send_done(qp, 8);
    }
    return true;
}

/* Gathered step by step, delivered in one. */
static bool step_datagram(Mlx5QP *qp)
{
    Mlx5Send *s = &qp->send;
    size_t done;

    if (s->sgl.len > MLX5_UD_MTU) {
        mlx5_send_fail(qp, MLX5_CQE_SYNDROME_LOCAL_LENGTH_ERR);
        return false;
    }
    if (s->done < s->sgl.len) {
        if (!local_copy(qp, s->datagram + s->done, s->sgl.len - s->done, false,
                        &done)) {
            return false;
        }
        s->done += done;
        if (s->done < s->sgl.len) {
            return true;
        }
    }
    mlx5_ud_send(qp);
    mlx5_count(qp->dev, MLX5_COUNTER_BYTES, s->sgl.len);
    mlx5_send_done(qp, 0);
    return true;
}

static bool step(Mlx5QP *qp, uint8_t *buf)
{
    Mlx5Send *s = &qp->send;

    if (mlx5_qp_is_ud(qp)) {
        return step_datagram(qp);
    }
    switch (s->opcode) {
    case MLX5_OPCODE_SEND:
    case MLX5_OPCODE_SEND_IMM:
    case MLX5_OPCODE_SEND_INVAL:
    case MLX5_OPCODE_RDMA_WRITE:
    case MLX5_OPCODE_RDMA_WRITE_IMM:
        return step_out(qp, buf);
    case MLX5_OPCODE_RDMA_READ:
        return step_read(qp, buf);
    default:
        return step_atomic(qp);
    }
}

/* It is this WQE's turn: what needs no peer is done at once.  True: go on. */
static bool begin(Mlx5QP *qp)
{
    Mlx5Send *s = &qp->send;
    int64_t when;

    if (s->opcode == MLX5_OPCODE_UMR) {
        mlx5_umr_start(qp);
        return true;
    }
    if (s->opcode == MLX5_OPCODE_NOP) {
        mlx5_send_done(qp, 0);
        return true;
    }
    when = mlx5_when(qp->dev, MLX5_KNOB_WIRE_DELAY);
    if (when > qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL)) {
        timer_mod_ns(qp->timer, when);
        return false;
    }
    return true;
}

static bool parse(Mlx5QP *qp)
{
    return (qp->send.opcode == MLX5_OPCODE_UMR && !mlx5_qp_is_sq(qp)) ||
           mlx5_wqe_parse_send(qp, &qp->send);
}

/*
 * Begins the next WQE, of those that were put aside or of the queue.  False:
 * there is none now, or it waits.
 */
static bool turn(Mlx5QP *qp)
{
    bool idle = qp->failing || qp->waiting || mlx5_order_full(qp) ||
                !sq_has_work(qp);

    if (mlx5_order_next(qp, idle)) {
        return begin(qp);
    }
    if (idle) {
        return false;
    }
    if (!sq_take(qp) || !parse(qp)) {
        mlx5_send_fail(qp, MLX5_CQE_SYNDROME_LOCAL_QP_OP_ERR);
        return true;
    }
    return mlx5_order_aside(qp) || begin(qp);
}

static bool runs(const Mlx5QP *qp)
{
    return qp->state == MLX5_QP_STATE_RTS && !qp->fault[MLX5_SIDE_SEND];
}

void mlx5_send_timer(void *opaque)
{
    Mlx5QP *qp = opaque;
    g_autofree uint8_t *buf = NULL;
    int64_t pause = mlx5_work_pause();

    if (mlx5_bus_park(qp->dev, qp->timer)) {
        return;
    }
    if (pause) {
        mlx5_send_after(qp, pause);
        return;
    }
    if (qp->state == MLX5_QP_STATE_ERR) {
        send_flush(qp);
        return;
    }
    buf = g_malloc(MLX5_PIECE);
    for (int n = 0; n < PIECES_PER_RUN && !mlx5_work_spent(); n++) {
        if (!runs(qp) || (!qp->send.active && !turn(qp))) {
            return;
        }
        if (qp->send.active && !step(qp, buf)) {
            return;
        }
    }
    mlx5_send_kick(qp);
}
