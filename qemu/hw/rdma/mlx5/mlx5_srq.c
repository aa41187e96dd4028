/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Shared receive queues: RMPs (the driver's plain SRQs), XRC SRQs and the
 * older SRQ command, one object in one number space.
 *
 * A queue is a linked list, where each WQE names the next one, so that they may
 * be given back in any order; or a ring, in the order of its slots, whose CQEs
 * have a running index.  A ring's WQEs begin with the segment for the next one
 * as well, unless they are "basic".  The doorbell record counts WQEs posted.
 */
#include "mlx5_qp.h"
#include "trace.h"

enum {
    MAX_LOG_SRQ = 16,
    NEXT_SEG = sizeof(struct mlx5_wqe_srq_next_seg),
    WQ_LINKED_LIST = 0,                 /* wq.wq_type */
    WQ_CYCLIC = 1,
};

Mlx5SRQ *mlx5_srq_get(Mlx5Device *dev, uint32_t srqn)
{
    return mlx5_table_get(&dev->srqs, srqn);
}

static uint16_t posted(Mlx5SRQ *srq)
{
    uint32_t count = 0;

    if (!mlx5_dma_read(srq->dev, srq->dbr.addr, &count, sizeof(count))) {
        return srq->taken;
    }
    return be32_to_cpu(count);
}

static void check_limit(Mlx5SRQ *srq, uint16_t left)
{
    if (srq->armed && left < srq->lwm) {
        srq->armed = false;
        mlx5_event_srq(srq->dev, MLX5_EVENT_TYPE_SRQ_RQ_LIMIT, srq->srqn);
    }
}

size_t mlx5_srq_wqe_head(const Mlx5SRQ *srq)
{
    return srq->basic ? 0 : NEXT_SEG;
}

bool mlx5_srq_take(Mlx5SRQ *srq, uint8_t *wqe, uint16_t *index)
{
    uint16_t left = posted(srq) - srq->taken;

    /* More than fit were never posted: a garbage record. */
    if (srq->error || !left || left > srq->entries ||
        !mlx5_buf_read(srq->dev, &srq->buf, (uint64_t)srq->head * srq->stride,
                       wqe, srq->stride)) {
        return false;
    }
    if (srq->cyclic) {
        *index = srq->taken;
        srq->head = (srq->taken + 1) & (srq->entries - 1);
    } else {
        *index = srq->head;
        srq->head = lduw_be_p(wqe + 2) & (srq->entries - 1);
    }
    srq->taken++;
    check_limit(srq, left - 1);
    return true;
}

static void srq_free(void *opaque)
{
    Mlx5SRQ *srq = opaque;

    mlx5_buf_free(&srq->buf);
    mlx5_dbr_free(&srq->dbr);
    g_free(srq);
}

typedef struct Shape {
    uint32_t log_size, log_stride, page_shift;
    uint64_t offset;                    /* into the pages, or the umem */
    const void *pas;
    bool in_umem, dbr_in_umem;
    uint32_t umem, dbr_umem;
    uint64_t dbr;
} Shape;

static bool srq_memory(Mlx5SRQ *srq, Mlx5Cmd *cmd, const Shape *shape)
{
    uint64_t len = (uint64_t)srq->entries * srq->stride;

    if (!mlx5_dbr_init(srq->dev, &srq->dbr, cmd->uid, shape->dbr_in_umem,
                       shape->dbr_umem, shape->dbr)) {
        return false;
    }
    return shape->in_umem ?
           mlx5_buf_init_umem(srq->dev, &srq->buf, cmd->uid, shape->umem,
                              shape->offset, len) :
           mlx5_buf_init(srq->dev, &srq->buf, cmd, shape->pas,
                         shape->page_shift, shape->offset, len);
}

static uint8_t srq_uses(Mlx5Device *dev, Mlx5SRQ *srq)
{
    uint8_t status = mlx5_obj_use(&srq->obj, &dev->pds, srq->pdn, false);

    if (!status && srq->xrc) {
        status = mlx5_obj_use(&srq->obj, &dev->cqs, srq->cqn, false);
    }
    if (!status && srq->xrc) {
        status = mlx5_obj_use(&srq->obj, &dev->xrcds, srq->xrcd, true);
    }
    return status;
}

static uint8_t srq_add(Mlx5Device *dev, Mlx5Cmd *cmd, Mlx5SRQ *srq,
                       const Shape *shape)
{
    uint8_t status = MLX5_CMD_STAT_BAD_PARAM_ERR;

    srq->dev = dev;
    if (shape->log_size > MAX_LOG_SRQ - 1 || shape->log_stride < 5 ||
        (1u << shape->log_stride) > MLX5_MAX_WQE) {
        goto fail;
    }
    srq->entries = 1u << shape->log_size;
    srq->stride = 1u << shape->log_stride;
    status = srq_uses(dev, srq);
    if (status) {
        goto fail;
    }
    if (!srq_memory(srq, cmd, shape)) {
        status = MLX5_CMD_STAT_BAD_INP_LEN_ERR;
        goto fail;
    }
    if (!mlx5_table_add(&dev->srqs, srq, &srq->srqn)) {
        status = MLX5_CMD_STAT_NO_RES_ERR;
        goto fail;
    }
    trace_mlx5_srq_create(srq->srqn, srq->xrc, srq->entries, srq->stride);
    return MLX5_CMD_STAT_OK;
fail:
    mlx5_obj_put(srq);
    return status;
}

static uint8_t srq_arm(Mlx5Device *dev, Mlx5Cmd *cmd, uint32_t srqn,
                       uint16_t lwm)
{
    Mlx5SRQ *srq = mlx5_obj_get(&dev->srqs, srqn, cmd);

    if (!srq) {
        return MLX5_CMD_STAT_BAD_RES_ERR;
    }
    srq->lwm = lwm;
    srq->armed = lwm != 0;
    check_limit(srq, posted(srq) - srq->taken);
    return MLX5_CMD_STAT_OK;
}

/* ---- RMP ---- */

static Shape rmp_shape(const void *wq)
{
    Shape shape = {
        .log_size = MLX5_PRM_GET(wq, wq, log_wq_sz),
        .log_stride = MLX5_PRM_GET(wq, wq, log_wq_stride),
        .page_shift = MLX5_PRM_GET(wq, wq, log_wq_pg_sz) + 12,
        .pas = (const uint8_t *)wq + MLX5_BYTES(wq),
        .in_umem = MLX5_PRM_GET(wq, wq, wq_umem_valid),
        .umem = MLX5_PRM_GET(wq, wq, wq_umem_id),
        .dbr_in_umem = MLX5_PRM_GET(wq, wq, dbr_umem_valid),
        .dbr_umem = MLX5_PRM_GET(wq, wq, dbr_umem_id),
        .dbr = MLX5_PRM_GET(wq, wq, dbr_addr),
    };

    shape.offset = shape.in_umem ? MLX5_PRM_GET(wq, wq, wq_umem_offset) :
                   MLX5_PRM_GET(wq, wq, page_offset) << (shape.page_shift - 6);
    return shape;
}

uint8_t mlx5_create_rmp(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    void *rmpc = MLX5_PRM_PTR(create_rmp_in, cmd->in, ctx);
    void *wq = MLX5_PRM_PTR(rmpc, rmpc, wq);
    uint32_t type = MLX5_PRM_GET(wq, wq, wq_type);
    Shape shape = rmp_shape(wq);
    Mlx5SRQ *srq;
    uint8_t status;

    if (type != WQ_LINKED_LIST && type != WQ_CYCLIC) {
        return MLX5_CMD_STAT_BAD_PARAM_ERR;
    }
    srq = mlx5_obj_new(dev, cmd, sizeof(*srq), srq_free);
    if (!srq) {
        return MLX5_CMD_STAT_LIM_ERR;
    }
    memcpy(srq->context, wq, sizeof(srq->context));
    srq->cyclic = type == WQ_CYCLIC;
    srq->basic = srq->cyclic && MLX5_PRM_GET(rmpc, rmpc, basic_cyclic_rcv_wqe);
    srq->pdn = MLX5_PRM_GET(wq, wq, pd);
    srq->lwm = MLX5_PRM_GET(wq, wq, lwm);
    srq->armed = srq->lwm != 0;
    status = srq_add(dev, cmd, srq, &shape);
    if (!status) {
        MLX5_PRM_SET(create_rmp_out, cmd->out, rmpn, srq->srqn);
    }
    return status;
}

uint8_t mlx5_destroy_rmp(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    return mlx5_obj_del(&dev->srqs,
                        MLX5_PRM_GET(destroy_rmp_in, cmd->in, rmpn), cmd);
}

uint8_t mlx5_query_rmp(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    Mlx5SRQ *srq = mlx5_obj_look(&dev->srqs,
                                 MLX5_PRM_GET(query_rmp_in, cmd->in, rmpn),
                                 cmd);
    void *rmpc = MLX5_PRM_PTR(query_rmp_out, cmd->out, rmp_context);
    void *wq = MLX5_PRM_PTR(rmpc, rmpc, wq);

    if (!srq) {
        return MLX5_CMD_STAT_BAD_RES_ERR;
    }
    memcpy(wq, srq->context, sizeof(srq->context));
    MLX5_PRM_SET(wq, wq, lwm, srq->armed ? srq->lwm : 0);
    MLX5_PRM_SET(rmpc, rmpc, state, srq->error ? MLX5_RMPC_STATE_ERR
                                               : MLX5_RMPC_STATE_RDY);
    return MLX5_CMD_STAT_OK;
}

uint8_t mlx5_modify_rmp(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    void *wq = MLX5_PRM_PTR(rmpc, MLX5_PRM_PTR(modify_rmp_in, cmd->in, ctx),
                            wq);
    uint32_t rmpn = MLX5_PRM_GET(modify_rmp_in, cmd->in, rmpn);

    if (!MLX5_PRM_GET(modify_rmp_in, cmd->in, bitmask.lwm)) {
        return mlx5_obj_get(&dev->srqs, rmpn, cmd) ? MLX5_CMD_STAT_OK
                                                   : MLX5_CMD_STAT_BAD_RES_ERR;
    }
    return srq_arm(dev, cmd, rmpn, MLX5_PRM_GET(wq, wq, lwm));
}

/* ---- XRC SRQ ---- */

uint8_t mlx5_create_xrc_srq(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    void *c = MLX5_PRM_PTR(create_xrc_srq_in, cmd->in, xrc_srq_context_entry);
    Mlx5SRQ *srq;
    Shape shape = {
        .log_size = MLX5_PRM_GET(xrc_srqc, c, log_xrc_srq_size),
        .log_stride = MLX5_PRM_GET(xrc_srqc, c, log_rq_stride) + 4,
        .page_shift = MLX5_PRM_GET(xrc_srqc, c, log_page_size) + 12,
        .pas = cmd->in + MLX5_BYTES(create_xrc_srq_in),
        .dbr = MLX5_PRM_GET(xrc_srqc, c, db_record_addr_h) << 32 |
               MLX5_PRM_GET(xrc_srqc, c, db_record_addr_l) << 2,
    };
    uint8_t status;

    /* Where the context has the number of its record's umem is not public. */
    if (MLX5_PRM_GET(xrc_srqc, c, dbr_umem_valid) ||
        MLX5_PRM_GET(create_xrc_srq_in, cmd->in, xrc_srq_umem_valid)) {
        return MLX5_CMD_STAT_BAD_PARAM_ERR;
    }
    srq = mlx5_obj_new(dev, cmd, sizeof(*srq), srq_free);
    if (!srq) {
        return MLX5_CMD_STAT_LIM_ERR;
    }
    shape.offset = MLX5_PRM_GET(xrc_srqc, c, page_offset) <<
                   (shape.page_shift - 6);
    QEMU_BUILD_BUG_ON(MLX5_BYTES(xrc_srqc) > sizeof(srq->context));
    memcpy(srq->context, c, MLX5_BYTES(xrc_srqc));
    srq->xrc = true;
    srq->pdn = MLX5_PRM_GET(xrc_srqc, c, pd);
    srq->cqn = MLX5_PRM_GET(xrc_srqc, c, cqn);
    srq->xrcd = MLX5_PRM_GET(xrc_srqc, c, xrcd);
    srq->user_index = MLX5_PRM_GET(xrc_srqc, c, user_index);
    status = srq_add(dev, cmd, srq, &shape);
    if (!status) {
        MLX5_PRM_SET(create_xrc_srq_out, cmd->out, xrc_srqn, srq->srqn);
    }
    return status;
}

uint8_t mlx5_destroy_xrc_srq(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    return mlx5_obj_del(&dev->srqs,
                        MLX5_PRM_GET(destroy_xrc_srq_in, cmd->in, xrc_srqn),
                        cmd);
}

uint8_t mlx5_query_xrc_srq(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    Mlx5SRQ *srq = mlx5_obj_look(&dev->srqs,
                                 MLX5_PRM_GET(query_xrc_srq_in, cmd->in,
                                              xrc_srqn), cmd);
    void *c = MLX5_PRM_PTR(query_xrc_srq_out, cmd->out, xrc_srq_context_entry);

    if (!srq || !srq->xrc) {
        return MLX5_CMD_STAT_BAD_RES_ERR;
    }
    memcpy(c, srq->context, MLX5_BYTES(xrc_srqc));
    MLX5_PRM_SET(xrc_srqc, c, lwm, srq->armed ? srq->lwm : 0);
    MLX5_PRM_SET(xrc_srqc, c, state, srq->error ? MLX5_XRC_SRQC_STATE_ERROR
                                                : MLX5_XRC_SRQC_STATE_GOOD);
    return MLX5_CMD_STAT_OK;
}

uint8_t mlx5_arm_xrc_srq(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    return srq_arm(dev, cmd, MLX5_PRM_GET(arm_xrc_srq_in, cmd->in, xrc_srqn),
                   MLX5_PRM_GET(arm_xrc_srq_in, cmd->in, lwm));
}

/* ---- the older command: a driver that negotiated no ISSI ---- */

uint8_t mlx5_create_srq(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    void *c = MLX5_PRM_PTR(create_srq_in, cmd->in, srq_context_entry);
    Mlx5SRQ *srq;
    Shape shape = {
        .log_size = MLX5_PRM_GET(srqc, c, log_srq_size),
        .log_stride = MLX5_PRM_GET(srqc, c, log_rq_stride) + 4,
        .page_shift = MLX5_PRM_GET(srqc, c, log_page_size) + 12,
        .pas = cmd->in + MLX5_BYTES(create_srq_in),
        .dbr = MLX5_PRM_GET(srqc, c, dbr_addr),
    };
    uint8_t status;

    srq = mlx5_obj_new(dev, cmd, sizeof(*srq), srq_free);
    if (!srq) {
        return MLX5_CMD_STAT_LIM_ERR;
    }
    shape.offset = MLX5_PRM_GET(srqc, c, page_offset) <<
                   (shape.page_shift - 6);
    memcpy(srq->context, c, MLX5_BYTES(srqc));
    srq->pdn = MLX5_PRM_GET(srqc, c, pd);
    status = srq_add(dev, cmd, srq, &shape);
    if (!status) {
        MLX5_PRM_SET(create_srq_out, cmd->out, srqn, srq->srqn);
    }
    return status;
}

uint8_t mlx5_destroy_srq(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    return mlx5_obj_del(&dev->srqs,
                        MLX5_PRM_GET(destroy_srq_in, cmd->in, srqn), cmd);
}

uint8_t mlx5_query_srq(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    Mlx5SRQ *srq = mlx5_obj_look(&dev->srqs,
                                 MLX5_PRM_GET(query_srq_in, cmd->in, srqn),
                                 cmd);
    void *c = MLX5_PRM_PTR(query_srq_out, cmd->out, srq_context_entry);

    if (!srq) {
        return MLX5_CMD_STAT_BAD_RES_ERR;
    }
    memcpy(c, srq->context, MLX5_BYTES(srqc));
    MLX5_PRM_SET(srqc, c, lwm, srq->armed ? srq->lwm : 0);
    return MLX5_CMD_STAT_OK;
}

uint8_t mlx5_arm_srq(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    return srq_arm(dev, cmd, MLX5_PRM_GET(arm_rq_in, cmd->in, srq_number),
                   MLX5_PRM_GET(arm_rq_in, cmd->in, lwm));
}

void mlx5_srq_init(Mlx5Device *dev)
{
    mlx5_table_init(&dev->srqs, 1, 0xffff, mlx5_obj_put);
}

void mlx5_srq_reset(Mlx5Device *dev)
{
    mlx5_table_reset(&dev->srqs);
}
