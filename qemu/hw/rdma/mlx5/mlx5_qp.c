/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Queue pairs: creation, transitions, queries, the error state.
 *
 * The context is kept as the guest wrote it and merged at each transition, so
 * a query gives back what was set.  Engines are timers of the QP; a change to
 * reset or error cancels what is in flight, faults included.
 */
#include "mlx5_qp.h"
#include "trace.h"

enum {
    MAX_LOG_QUEUE = 15,
    QPC_DBR_UMEM_ID = 0x720,            /* reserved to the kernel, DEVX's own */
};

Mlx5QP *mlx5_qp_get(Mlx5Device *dev, uint32_t qpn)
{
    Mlx5QP *qp = mlx5_table_get(&dev->qps, qpn);

    return qp && !mlx5_qp_is_sq(qp) ? qp : NULL;
}

bool mlx5_qp_has_srq(const Mlx5QP *qp)
{
    return MLX5_PRM_GET(qpc, qp->qpc, rq_type) == MLX5_SRQ_RQ;
}

void mlx5_qp_set_state(Mlx5QP *qp, uint8_t state)
{
    trace_mlx5_qp_state(qp->qpn, qp->state, state);
    qp->state = state;
    MLX5_PRM_SET(qpc, qp->qpc, state, state);
}

/* Forget everything in flight; the queues start at 0 again. */
static void qp_quiesce(Mlx5QP *qp)
{
    mlx5_fault_cancel(qp);
    mlx5_send_reset(qp);
    qp->recv.active = false;
    qp->seen = (Mlx5Seen) { };
    timer_del(qp->timer);
    mlx5_flush_end(qp);
}

static void qp_free(void *opaque)
{
    Mlx5QP *qp = opaque;

    qp_quiesce(qp);
    mlx5_timer_free(qp->dev, qp->timer);
    mlx5_timer_free(qp->dev, qp->umr_timer);
    mlx5_buf_free(&qp->buf);
    mlx5_dbr_free(&qp->dbr);
    g_free(qp);
}

void mlx5_qp_to_reset(Mlx5QP *qp)
{
    qp_quiesce(qp);
    qp->sq_ci = qp->rq_ci = qp->sq_known = 0;
    mlx5_qp_set_state(qp, MLX5_QP_STATE_RST);
}

void mlx5_qp_error(Mlx5QP *qp, uint8_t event)
{
    if (qp->state == MLX5_QP_STATE_ERR || qp->state == MLX5_QP_STATE_RST) {
        return;
    }
    mlx5_qp_set_state(qp, MLX5_QP_STATE_ERR);
    mlx5_fault_cancel(qp);
    mlx5_order_drop(qp);
    mlx5_flush_begin(qp);
    mlx5_send_kick(qp);
    if (event) {
        mlx5_event_qp(qp->dev, event, qp->qpn);
    }
    if (mlx5_qp_has_srq(qp)) {
        mlx5_event_qp(qp->dev, MLX5_EVENT_TYPE_SRQ_LAST_WQE, qp->qpn);
    }
}

/* ---- creation ---- */

static bool take_queues(Mlx5QP *qp, Mlx5Cmd *cmd)
{
    uint32_t shift = MLX5_PRM_GET(qpc, qp->qpc, log_page_size) + 12;
    uint64_t offset = MLX5_PRM_GET(qpc, qp->qpc, page_offset);
    uint64_t rq_len, len;

    if (MLX5_PRM_GET(qpc, qp->qpc, rq_type) == MLX5_NON_ZERO_RQ) {
        qp->rq_entries = 1u << MLX5_PRM_GET(qpc, qp->qpc, log_rq_size);
        qp->rq_stride = 16u << MLX5_PRM_GET(qpc, qp->qpc, log_rq_stride);
    }
    if (!MLX5_PRM_GET(qpc, qp->qpc, no_sq)) {
        qp->sq_entries = 1u << MLX5_PRM_GET(qpc, qp->qpc, log_sq_size);
    }
    rq_len = (uint64_t)qp->rq_entries * qp->rq_stride;
    qp->sq_offset = rq_len;
    len = rq_len + (uint64_t)qp->sq_entries * MLX5_SEND_WQE_BB;
    if (!len) {
        return true;
    }
    if (MLX5_PRM_GET(create_qp_in, cmd->in, wq_umem_valid)) {
        return mlx5_buf_init_umem(qp->dev, &qp->buf, cmd->uid,
                                  MLX5_PRM_GET(create_qp_in, cmd->in,
                                               wq_umem_id),
                                  MLX5_PRM_GET(create_qp_in, cmd->in,
                                               wq_umem_offset), len);
    }
    return mlx5_buf_init(qp->dev, &qp->buf, cmd,
                         cmd->in + MLX5_BYTES(create_qp_in), shift,
                         offset << (shift - 6), len);
}

static bool take_dbr(Mlx5QP *qp, Mlx5Cmd *cmd)
{
    uint64_t addr = MLX5_PRM_GET(qpc, qp->qpc, dbr_addr);

    if (!qp->rq_entries && !qp->sq_entries) {
        return true;
    }
    return mlx5_dbr_init(qp->dev, &qp->dbr, cmd->uid,
                         MLX5_PRM_GET(qpc, qp->qpc, dbr_umem_valid),
                         mlx5_bits_get(qp->qpc, QPC_DBR_UMEM_ID, 32), addr);
}

/* What the context names counts where it is used: others are defaults. */
static uint8_t take_uses(Mlx5Device *dev, Mlx5QP *qp)
{
    const struct {
        Mlx5Table *table;
        uint32_t nr;
        bool used, shared;
    } uses[] = {
        /* The driver's own queue for UMRs may belong to no domain. */
        { &dev->pds, MLX5_PRM_GET(qpc, qp->qpc, pd),
          mlx5_qp_type(qp) != MLX5_QP_ST_REG_UMR ||
          MLX5_PRM_GET(qpc, qp->qpc, pd) },
        { &dev->uars, MLX5_PRM_GET(qpc, qp->qpc, uar_page),
          !MLX5_PRM_GET(qpc, qp->qpc, no_sq) },
        { &dev->cqs, MLX5_PRM_GET(qpc, qp->qpc, cqn_snd),
          !MLX5_PRM_GET(qpc, qp->qpc, no_sq) },
        { &dev->cqs, MLX5_PRM_GET(qpc, qp->qpc, cqn_rcv),
          MLX5_PRM_GET(qpc, qp->qpc, rq_type) != MLX5_ZERO_LEN_RQ },
        { &dev->srqs, MLX5_PRM_GET(qpc, qp->qpc, srqn_rmpn_xrqn),
          mlx5_qp_has_srq(qp) && mlx5_qp_type(qp) != MLX5_QP_ST_XRC },
        { &dev->xrcds, MLX5_PRM_GET(qpc, qp->qpc, xrcd),
          mlx5_qp_type(qp) == MLX5_QP_ST_XRC, true },
    };
    uint8_t status = MLX5_CMD_STAT_OK;

    for (unsigned i = 0; i < ARRAY_SIZE(uses) && !status; i++) {
        if (uses[i].used) {
            status = mlx5_obj_use(&qp->obj, uses[i].table, uses[i].nr,
                                  uses[i].shared);
        }
    }
    return status;
}

static uint8_t check_context(const Mlx5QP *qp)
{
    const void *qpc = qp->qpc;

    switch (MLX5_PRM_GET(qpc, qpc, st)) {
    case MLX5_QP_ST_RC:
    case MLX5_QP_ST_UC:
    case MLX5_QP_ST_UD:
    case MLX5_QP_ST_XRC:
    case MLX5_QP_ST_QP0:
    case MLX5_QP_ST_QP1:
    case MLX5_QP_ST_REG_UMR:
        break;
    default:
        return MLX5_CMD_STAT_BAD_PARAM_ERR;
    }
    if (MLX5_PRM_GET(qpc, qpc, log_rq_size) > MAX_LOG_QUEUE ||
        MLX5_PRM_GET(qpc, qpc, log_sq_size) > MAX_LOG_QUEUE) {
        return MLX5_CMD_STAT_BAD_PARAM_ERR;
    }
    return MLX5_CMD_STAT_OK;
}

Mlx5QP *mlx5_qp_new(Mlx5Device *dev, const Mlx5Cmd *cmd)
{
    Mlx5QP *qp = mlx5_obj_new(dev, cmd, sizeof(*qp), qp_free);

    if (!qp) {
        return NULL;
    }
    qp->dev = dev;
    QSIMPLEQ_INIT(&qp->umrs);
    QSIMPLEQ_INIT(&qp->bf_wqes);
    QSIMPLEQ_INIT(&qp->order);
    g_queue_init(&qp->reads);
    qp->timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, mlx5_send_timer, qp);
    qp->umr_timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, mlx5_umr_timer, qp);
    return qp;
}

uint8_t mlx5_create_qp(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    Mlx5QP *qp = mlx5_qp_new(dev, cmd);
    uint8_t status;

    if (!qp) {
        return MLX5_CMD_STAT_LIM_ERR;
    }
    memcpy(qp->qpc, MLX5_PRM_PTR(create_qp_in, cmd->in, qpc),
           sizeof(qp->qpc));
    mlx5_qp_set_state(qp, MLX5_QP_STATE_RST);
    status = check_context(qp);
    /* What its work may take at most is charged now: an engine cannot fail. */
    if (!status && !mlx5_obj_charge(&qp->obj, mlx5_order_bytes(qp) +
                                               mlx5_ask_bytes(qp))) {
        status = MLX5_CMD_STAT_LIM_ERR;
    }
    if (!status) {
        status = take_uses(dev, qp);
    }
    if (!status && (!take_queues(qp, cmd) || !take_dbr(qp, cmd))) {
        status = MLX5_CMD_STAT_BAD_INP_LEN_ERR;
    }
    if (!status && !mlx5_table_add(&dev->qps, qp, &qp->qpn)) {
        status = MLX5_CMD_STAT_NO_RES_ERR;
    }
    if (status) {
        mlx5_obj_put(qp);
        return status;
    }
    MLX5_PRM_SET(create_qp_out, cmd->out, qpn, qp->qpn);
    trace_mlx5_qp_create(qp->qpn, mlx5_qp_type(qp), qp->rq_entries,
                         qp->sq_entries);
    return MLX5_CMD_STAT_OK;
}

uint8_t mlx5_destroy_qp(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint32_t qpn = MLX5_PRM_GET(destroy_qp_in, cmd->in, qpn);

    if (!mlx5_qp_get(dev, qpn) || !mlx5_obj_get(&dev->qps, qpn, cmd)) {
        return MLX5_CMD_STAT_BAD_RES_ERR;
    }
    trace_mlx5_qp_destroy(qpn);
    mlx5_fabric_detach(dev, qpn);
    return mlx5_obj_del(&dev->qps, qpn, cmd);
}

uint8_t mlx5_query_qp(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    Mlx5QP *qp = mlx5_obj_look(&dev->qps,
                               MLX5_PRM_GET(query_qp_in, cmd->in, qpn), cmd);
    void *qpc = MLX5_PRM_PTR(query_qp_out, cmd->out, qpc);

    if (!qp || mlx5_qp_is_sq(qp)) {
        return MLX5_CMD_STAT_BAD_RES_ERR;
    }
    memcpy(qpc, qp->qpc, sizeof(qp->qpc));
    MLX5_PRM_SET(qpc, qpc, hw_sq_wqebb_counter, qp->sq_ci);
    MLX5_PRM_SET(qpc, qpc, sw_sq_wqebb_counter, qp->sq_known);
    MLX5_PRM_SET(qpc, qpc, hw_rq_counter, qp->rq_ci);
    return MLX5_CMD_STAT_OK;
}

/* ---- transitions ---- */

#define QPC_FIELD(mask, name) \
    { mask, MLX5_OFF(qpc, name), MLX5_WIDTH(qpc, name) }
#define ADS_FIELD(mask, name) \
    { mask, MLX5_OFF(qpc, primary_address_path) + MLX5_OFF(ads, name), \
      MLX5_WIDTH(ads, name) }

typedef struct Merge {
    uint32_t opt;                       /* 0: always */
    size_t off, width;
} Merge;

static const Merge to_init[] = {
    QPC_FIELD(0, pm_state), QPC_FIELD(0, q_key), QPC_FIELD(0, rre),
    QPC_FIELD(0, rwe), QPC_FIELD(0, rae), QPC_FIELD(0, atomic_mode),
    QPC_FIELD(0, counter_set_id), QPC_FIELD(0, deth_sqpn),
    ADS_FIELD(0, pkey_index), ADS_FIELD(0, vhca_port_num),
};

static const Merge to_rtr[] = {
    QPC_FIELD(0, mtu), QPC_FIELD(0, log_msg_max), QPC_FIELD(0, remote_qpn),
    QPC_FIELD(0, next_rcv_psn), QPC_FIELD(0, log_rra_max),
    QPC_FIELD(0, min_rnr_nak), ADS_FIELD(0, grh), ADS_FIELD(0, mlid),
    ADS_FIELD(0, rlid), ADS_FIELD(0, src_addr_index), ADS_FIELD(0, hop_limit),
    ADS_FIELD(0, stat_rate), ADS_FIELD(0, tclass), ADS_FIELD(0, flow_label),
    ADS_FIELD(0, sl),
};

static const Merge to_rts[] = {
    QPC_FIELD(0, next_send_psn), QPC_FIELD(0, log_sra_max),
    QPC_FIELD(0, retry_count), QPC_FIELD(0, rnr_retry),
    ADS_FIELD(0, ack_timeout),
};

static const Merge optional[] = {
    QPC_FIELD(MLX5_QP_OPTPAR_RRE, rre), QPC_FIELD(MLX5_QP_OPTPAR_RWE, rwe),
    QPC_FIELD(MLX5_QP_OPTPAR_RAE, rae),
    QPC_FIELD(MLX5_QP_OPTPAR_RAE, atomic_mode),
    QPC_FIELD(MLX5_QP_OPTPAR_Q_KEY, q_key),
    QPC_FIELD(MLX5_QP_OPTPAR_RNR_TIMEOUT, min_rnr_nak),
    QPC_FIELD(MLX5_QP_OPTPAR_SRA_MAX, log_sra_max),
    QPC_FIELD(MLX5_QP_OPTPAR_RRA_MAX, log_rra_max),
    QPC_FIELD(MLX5_QP_OPTPAR_RETRY_COUNT, retry_count),
    QPC_FIELD(MLX5_QP_OPTPAR_RNR_RETRY, rnr_retry),
    QPC_FIELD(MLX5_QP_OPTPAR_COUNTER_SET_ID, counter_set_id),
    ADS_FIELD(MLX5_QP_OPTPAR_ACK_TIMEOUT, ack_timeout),
    ADS_FIELD(MLX5_QP_OPTPAR_PKEY_INDEX, pkey_index),
    ADS_FIELD(MLX5_QP_OPTPAR_PRIMARY_ADDR_PATH, rlid),
    ADS_FIELD(MLX5_QP_OPTPAR_PRIMARY_ADDR_PATH, grh),
};

static void merge(Mlx5QP *qp, const void *qpc, const Merge *m, size_t n,
                  uint32_t opt)
{
    for (; n; n--, m++) {
        if (!m->opt || (m->opt & opt)) {
            mlx5_bits_set(qp->qpc, m->off, m->width,
                          mlx5_bits_get(qpc, m->off, m->width));
        }
    }
}

static bool transition(Mlx5QP *qp, Mlx5Cmd *cmd, uint8_t from, uint8_t to,
                       const Merge *m, size_t n)
{
    void *qpc = MLX5_PRM_PTR(rst2init_qp_in, cmd->in, qpc);
    uint32_t opt = MLX5_PRM_GET(rst2init_qp_in, cmd->in, opt_param_mask);

    if (qp->state != from) {
        return false;
    }
    merge(qp, qpc, m, n, 0);
    merge(qp, qpc, optional, ARRAY_SIZE(optional), opt);
    mlx5_qp_set_state(qp, to);
    mlx5_send_kick(qp);
    return true;
}

static bool to_reset(Mlx5QP *qp)
{
    mlx5_qp_to_reset(qp);
    return true;
}

static bool to_error(Mlx5QP *qp)
{
    mlx5_qp_error(qp, 0);
    return true;
}

static bool modify(Mlx5QP *qp, Mlx5Cmd *cmd)
{
    switch (cmd->opcode) {
    case MLX5_CMD_OP_RST2INIT_QP:
        return transition(qp, cmd, MLX5_QP_STATE_RST, MLX5_QP_STATE_INIT,
                          to_init, ARRAY_SIZE(to_init));
    case MLX5_CMD_OP_INIT2INIT_QP:
        return transition(qp, cmd, MLX5_QP_STATE_INIT, MLX5_QP_STATE_INIT,
                          NULL, 0);
    case MLX5_CMD_OP_INIT2RTR_QP:
        return transition(qp, cmd, MLX5_QP_STATE_INIT, MLX5_QP_STATE_RTR,
                          to_rtr, ARRAY_SIZE(to_rtr));
    case MLX5_CMD_OP_RTR2RTS_QP:
        return transition(qp, cmd, MLX5_QP_STATE_RTR, MLX5_QP_STATE_RTS,
                          to_rts, ARRAY_SIZE(to_rts));
    case MLX5_CMD_OP_RTS2RTS_QP:
        return transition(qp, cmd, MLX5_QP_STATE_RTS, MLX5_QP_STATE_RTS,
                          NULL, 0);
    case MLX5_CMD_OP_SQERR2RTS_QP:
        return transition(qp, cmd, MLX5_QP_STATE_SQER, MLX5_QP_STATE_RTS,
                          NULL, 0);
    case MLX5_CMD_OP_2ERR_QP:
        return to_error(qp);
    case MLX5_CMD_OP_2RST_QP:
        return to_reset(qp);
    default:
        return false;
    }
}

uint8_t mlx5_modify_qp(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    Mlx5QP *qp = mlx5_obj_get(&dev->qps,
                              MLX5_PRM_GET(rst2init_qp_in, cmd->in, qpn), cmd);

    if (!qp || mlx5_qp_is_sq(qp)) {
        return MLX5_CMD_STAT_BAD_RES_ERR;
    }
    return modify(qp, cmd) ? MLX5_CMD_STAT_OK
                           : MLX5_CMD_STAT_BAD_QP_STATE_ERR;
}

void mlx5_qp_init(Mlx5Device *dev)
{
    /* 0 and 1 are the management QPs, 2^16 is log_max_qp. */
    mlx5_table_init(&dev->qps, 0x40, 0xffff, mlx5_obj_put);
    QTAILQ_INIT(&dev->flushes);
    dev->flush = timer_new_ns(QEMU_CLOCK_VIRTUAL, mlx5_flush_timer, dev);
}

void mlx5_qp_reset(Mlx5Device *dev)
{
    mlx5_table_reset(&dev->qps);
    timer_del(dev->flush);
}

void mlx5_qp_exit(Mlx5Device *dev)
{
    timer_free(dev->flush);
}
