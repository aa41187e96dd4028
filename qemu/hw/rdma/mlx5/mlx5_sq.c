/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Send queues that are objects of their own.
 *
 * Such a queue sends Ethernet frames, which this adapter has not.  What is left
 * is what the driver makes one for on any adapter: it posts NOPs to find out
 * whether BlueFlame works, and gives user space write-combined doorbell pages
 * if so.  Any other WQE is an error of the queue.
 *
 * It is a queue pair without a receive queue and of a type that CREATE_QP
 * refuses; its number is of the same space, as the doorbell's format wants it.
 * Its states are those of a queue pair: reset, ready to send, error.
 */
#include "mlx5_qp.h"
#include "trace.h"

enum {
    WQ_CYCLIC = 1,
    MAX_LOG_SIZE = 15,
    LOG_STRIDE = 6,                     /* of MLX5_SEND_WQE_BB */
};

/* NULL as well for what is no send queue by itself, or may not be changed. */
static Mlx5QP *sq_get(Mlx5Device *dev, uint32_t sqn, const Mlx5Cmd *cmd)
{
    Mlx5QP *qp = mlx5_obj_get(&dev->qps, sqn, cmd);

    return qp && mlx5_qp_is_sq(qp) ? qp : NULL;
}

/* ---- creation ---- */

static bool sq_check(const void *sqc)
{
    const void *wq = MLX5_PRM_PTR(sqc, sqc, wq);

    return MLX5_PRM_GET(sqc, sqc, state) == MLX5_SQC_STATE_RST &&
           !MLX5_PRM_GET(sqc, sqc, hairpin) &&
           MLX5_PRM_GET(wq, wq, wq_type) == WQ_CYCLIC &&
           MLX5_PRM_GET(wq, wq, log_wq_sz) <= MAX_LOG_SIZE &&
           MLX5_PRM_GET(wq, wq, log_wq_stride) == LOG_STRIDE;
}

static uint8_t sq_uses(Mlx5QP *qp, const void *sqc)
{
    const void *wq = MLX5_PRM_PTR(sqc, sqc, wq);
    uint32_t pdn = MLX5_PRM_GET(wq, wq, pd);
    Mlx5Device *dev = qp->dev;
    uint8_t status = mlx5_obj_use(&qp->obj, &dev->uars,
                                  MLX5_PRM_GET(wq, wq, uar_page), false);

    if (!status) {
        status = mlx5_obj_use(&qp->obj, &dev->cqs,
                              MLX5_PRM_GET(sqc, sqc, cqn), false);
    }
    /* The driver has no domain for its own: a NOP touches no memory. */
    if (!status && pdn) {
        status = mlx5_obj_use(&qp->obj, &dev->pds, pdn, false);
    }
    return status;
}

/* The context of the queue pair that does the work. */
static void sq_context(Mlx5QP *qp, const void *sqc)
{
    const void *wq = MLX5_PRM_PTR(sqc, sqc, wq);

    MLX5_PRM_SET(qpc, qp->qpc, st, MLX5_QP_ST_RAW_ETHERTYPE);
    MLX5_PRM_SET(qpc, qp->qpc, rq_type, MLX5_ZERO_LEN_RQ);
    MLX5_PRM_SET(qpc, qp->qpc, pd, MLX5_PRM_GET(wq, wq, pd));
    MLX5_PRM_SET(qpc, qp->qpc, uar_page, MLX5_PRM_GET(wq, wq, uar_page));
    MLX5_PRM_SET(qpc, qp->qpc, cqn_snd, MLX5_PRM_GET(sqc, sqc, cqn));
    MLX5_PRM_SET(qpc, qp->qpc, user_index,
                 MLX5_PRM_GET(sqc, sqc, user_index));
}

static bool sq_memory(Mlx5QP *qp, Mlx5Cmd *cmd, void *wq)
{
    uint32_t shift = MLX5_PRM_GET(wq, wq, log_wq_pg_sz) +
                     MLX5_ADAPTER_PAGE_SHIFT;
    uint64_t len;

    qp->sq_entries = 1u << MLX5_PRM_GET(wq, wq, log_wq_sz);
    len = (uint64_t)qp->sq_entries * MLX5_SEND_WQE_BB;
    if (!mlx5_dbr_init(qp->dev, &qp->dbr, cmd->uid,
                       MLX5_PRM_GET(wq, wq, dbr_umem_valid),
                       MLX5_PRM_GET(wq, wq, dbr_umem_id),
                       MLX5_PRM_GET(wq, wq, dbr_addr))) {
        return false;
    }
    if (MLX5_PRM_GET(wq, wq, wq_umem_valid)) {
        return mlx5_buf_init_umem(qp->dev, &qp->buf, cmd->uid,
                                  MLX5_PRM_GET(wq, wq, wq_umem_id),
                                  MLX5_PRM_GET(wq, wq, wq_umem_offset), len);
    }
    return mlx5_buf_init(qp->dev, &qp->buf, cmd,
                         (uint8_t *)wq + MLX5_BYTES(wq), shift,
                         MLX5_PRM_GET(wq, wq, page_offset) << (shift - 6), len);
}

uint8_t mlx5_create_sq(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    void *sqc = MLX5_PRM_PTR(create_sq_in, cmd->in, ctx);
    uint8_t status;
    Mlx5QP *qp;

    if (!sq_check(sqc)) {
        return MLX5_CMD_STAT_BAD_PARAM_ERR;
    }
    qp = mlx5_qp_new(dev, cmd);
    if (!qp) {
        return MLX5_CMD_STAT_LIM_ERR;
    }
    sq_context(qp, sqc);
    status = sq_uses(qp, sqc);
    if (status) {
        mlx5_obj_put(qp);
        return status;
    }
    if (!sq_memory(qp, cmd, MLX5_PRM_PTR(sqc, sqc, wq))) {
        status = MLX5_CMD_STAT_BAD_INP_LEN_ERR;
    } else if (!mlx5_table_add(&dev->qps, qp, &qp->qpn)) {
        status = MLX5_CMD_STAT_NO_RES_ERR;
    } else {
        MLX5_PRM_SET(create_sq_out, cmd->out, sqn, qp->qpn);
        trace_mlx5_sq_create(qp->qpn, qp->sq_entries);
        return MLX5_CMD_STAT_OK;
    }
    mlx5_obj_put(qp);
    return status;
}

uint8_t mlx5_destroy_sq(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint32_t sqn = MLX5_PRM_GET(destroy_sq_in, cmd->in, sqn);

    if (!sq_get(dev, sqn, cmd)) {
        return MLX5_CMD_STAT_BAD_RES_ERR;
    }
    return mlx5_obj_del(&dev->qps, sqn, cmd);
}

/* ---- states ---- */

static uint8_t sq_state(const Mlx5QP *qp)
{
    switch (qp->state) {
    case MLX5_QP_STATE_RST:
        return MLX5_SQC_STATE_RST;
    case MLX5_QP_STATE_RTS:
        return MLX5_SQC_STATE_RDY;
    default:
        return MLX5_SQC_STATE_ERR;
    }
}

uint8_t mlx5_modify_sq(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    Mlx5QP *qp = sq_get(dev, MLX5_PRM_GET(modify_sq_in, cmd->in, sqn), cmd);
    void *sqc = MLX5_PRM_PTR(modify_sq_in, cmd->in, ctx);
    uint8_t to = MLX5_PRM_GET(sqc, sqc, state);

    if (!qp) {
        return MLX5_CMD_STAT_BAD_RES_ERR;
    }
    if (MLX5_PRM_GET(modify_sq_in, cmd->in, modify_bitmask)) {
        return MLX5_CMD_STAT_BAD_PARAM_ERR;
    }
    if (sq_state(qp) != MLX5_PRM_GET(modify_sq_in, cmd->in, sq_state)) {
        return MLX5_CMD_STAT_BAD_RES_STATE_ERR;
    }
    if (to == MLX5_SQC_STATE_RST) {
        mlx5_qp_to_reset(qp);
    } else if (to == MLX5_SQC_STATE_ERR) {
        mlx5_qp_error(qp, 0);
    } else if (to == MLX5_SQC_STATE_RDY && qp->state == MLX5_QP_STATE_RST) {
        mlx5_qp_set_state(qp, MLX5_QP_STATE_RTS);
        mlx5_send_kick(qp);
    } else if (to != sq_state(qp)) {
        return MLX5_CMD_STAT_BAD_RES_STATE_ERR;
    }
    return MLX5_CMD_STAT_OK;
}

uint8_t mlx5_query_sq(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    Mlx5QP *qp = mlx5_obj_look(&dev->qps,
                               MLX5_PRM_GET(query_sq_in, cmd->in, sqn), cmd);
    void *sqc = MLX5_PRM_PTR(query_sq_out, cmd->out, sq_context);
    void *wq = MLX5_PRM_PTR(sqc, sqc, wq);

    if (!qp || !mlx5_qp_is_sq(qp)) {
        return MLX5_CMD_STAT_BAD_RES_ERR;
    }
    MLX5_PRM_SET(sqc, sqc, state, sq_state(qp));
    MLX5_PRM_SET(sqc, sqc, cqn, MLX5_PRM_GET(qpc, qp->qpc, cqn_snd));
    MLX5_PRM_SET(sqc, sqc, user_index,
                 MLX5_PRM_GET(qpc, qp->qpc, user_index));
    MLX5_PRM_SET(wq, wq, wq_type, WQ_CYCLIC);
    MLX5_PRM_SET(wq, wq, pd, MLX5_PRM_GET(qpc, qp->qpc, pd));
    MLX5_PRM_SET(wq, wq, uar_page, MLX5_PRM_GET(qpc, qp->qpc, uar_page));
    MLX5_PRM_SET(wq, wq, log_wq_stride, LOG_STRIDE);
    MLX5_PRM_SET(wq, wq, log_wq_sz, ctz32(qp->sq_entries));
    MLX5_PRM_SET(wq, wq, hw_counter, qp->sq_ci);
    MLX5_PRM_SET(wq, wq, sw_counter, qp->sq_known);
    return MLX5_CMD_STAT_OK;
}
