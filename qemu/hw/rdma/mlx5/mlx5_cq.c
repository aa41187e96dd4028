/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Completion queues: rings in guest memory, and their arming.
 *
 * A CQE belongs to software when its owner bit equals the round of the ring,
 * so the byte that has it is written last.  How far software has read is in
 * the doorbell record.  A CQ that would overwrite what was not read is in
 * error: an event tells the driver, and nothing more is written.
 *
 * Arming asks for one event at the next CQE beyond an index, or the next
 * solicited one; if there is one already, at once.  The store to the UAR only
 * sets the timer, which decides.  Indices here count modulo 2^24, as in the
 * doorbell; "beyond" is a distance of less than half of that.
 *
 * Resizing: the last entry of the old ring is a CQE that says so.  It has an
 * index of its own, and the next CQE goes to the new ring at the next index.
 */
#include "mlx5.h"
#include "trace.h"

enum {
    MAX_LOG_SIZE = 22,
    INDEX_MASK = 0xffffff,
    INDEX_HALF = 0x800000,
    CQE64 = sizeof(struct mlx5_cqe64),

    CQ_STATUS_OK = 0x0,
    CQ_STATUS_OVERFLOW = 0x9,
    CQ_STATUS_WRITE_FAILURE = 0xa,
    CQ_SYNDROME_OVERRUN = 1,
    CQ_SYNDROME_ACCESS = 2,

    CQ_STATE_SOLICITED_ARMED = 0x6,
    CQ_STATE_ARMED = 0x9,
    CQ_STATE_FIRED = 0xa,

    /* Fields that the kernel's header leaves out, in bits. */
    UMEM_OFFSET = 0x280,                /* create_cq_in and modify_cq_in */
    UMEM_ID = 0x2c0,
    DBR_UMEM_ID = 0x20,                 /* cqc */
};

/* The two commands that bring a ring have it in the same places. */
QEMU_BUILD_BUG_ON(MLX5_OFF(create_cq_in, cq_context) !=
                  MLX5_OFF(modify_cq_in, cq_context));
QEMU_BUILD_BUG_ON(MLX5_OFF(create_cq_in, cq_umem_valid) !=
                  MLX5_OFF(modify_cq_in, cq_umem_valid));
QEMU_BUILD_BUG_ON(MLX5_OFF(create_cq_in, pas) != MLX5_OFF(modify_cq_in, pas));

typedef struct Mlx5Ring {
    Mlx5Buf buf;
    uint32_t log_size;
    uint32_t stride;                    /* of a CQE: 64 or 128 */
} Mlx5Ring;

struct Mlx5CQ {
    Mlx5Obj obj;
    Mlx5Device *dev;
    uint32_t cqn, eqn, uar;
    Mlx5Ring ring;
    Mlx5Dbr dbr;
    uint32_t producer;
    uint32_t solicited_end;             /* after the last solicited CQE */
    bool solicited_any;                 /* there was one */
    bool ignore_overrun;
    uint8_t state, status;
    QEMUTimer *timer;                   /* arms */
    uint32_t arm;                       /* what the last doorbell said */
    uint8_t context[MLX5_BYTES(cqc)];   /* as created and modified */
};

static void cq_free(void *opaque)
{
    Mlx5CQ *cq = opaque;

    mlx5_timer_free(cq->dev, cq->timer);
    mlx5_buf_free(&cq->ring.buf);
    mlx5_dbr_free(&cq->dbr);
    g_free(cq);
}

/* ---- events ---- */

static void cq_fire(Mlx5CQ *cq)
{
    struct mlx5_eqe_comp data = { .cqn = cpu_to_be32(cq->cqn) };

    cq->state = CQ_STATE_FIRED;
    mlx5_eq_post(cq->dev, cq->eqn, MLX5_EVENT_TYPE_COMP, 0, &data,
                 sizeof(data));
}

static bool index_beyond(uint32_t end, uint32_t index)
{
    uint32_t distance = (end - index) & INDEX_MASK;

    return distance && distance < INDEX_HALF;
}

static void cq_arm(void *opaque)
{
    Mlx5CQ *cq = opaque;
    bool solicited = cq->arm & MLX5_CQ_DB_REQ_NOT_SOL;
    uint32_t index = cq->arm & INDEX_MASK;

    if (mlx5_bus_park(cq->dev, cq->timer)) {
        return;
    }
    trace_mlx5_cq_arm(cq->dev->lid, cq->cqn, index, cq->producer, solicited);
    if (solicited ? cq->solicited_any && index_beyond(cq->solicited_end, index)
                  : index_beyond(cq->producer, index)) {
        cq_fire(cq);
    } else {
        cq->state = solicited ? CQ_STATE_SOLICITED_ARMED : CQ_STATE_ARMED;
    }
}

void mlx5_cq_doorbell(Mlx5Device *dev, uint32_t uar, uint64_t value)
{
    Mlx5CQ *cq = mlx5_table_get(&dev->cqs, value & INDEX_MASK);

    if (!cq || cq->uar != uar) {
        trace_mlx5_cq_doorbell_ignored(dev->lid, uar, value);
        return;
    }
    mlx5_count(dev, MLX5_COUNTER_DOORBELLS, 1);
    cq->arm = value >> 32;
    timer_mod(cq->timer, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL));
}

static void cq_error(Mlx5CQ *cq, uint8_t status, uint8_t syndrome)
{
    struct mlx5_eqe_cq_err data = {
        .cqn = cpu_to_be32(cq->cqn),
        .syndrome = syndrome,
    };

    cq->status = status;
    trace_mlx5_cq_error(cq->dev->lid, cq->cqn, syndrome);
    mlx5_event(cq->dev, MLX5_EVENT_TYPE_CQ_ERROR, 0, &data, sizeof(data));
}

/* ---- posting ---- */

static bool cq_consumer(Mlx5CQ *cq, uint32_t *index)
{
    uint32_t be;

    if (!mlx5_dma_read(cq->dev, cq->dbr.addr, &be, sizeof(be))) {
        return false;
    }
    *index = be32_to_cpu(be) & INDEX_MASK;
    return true;
}

static uint32_t cq_used(const Mlx5CQ *cq, uint32_t consumer)
{
    return (cq->producer - consumer) & INDEX_MASK;
}

/* Fills in the owner bit and the time; the opcode is in place. */
static bool cq_write(Mlx5CQ *cq, struct mlx5_cqe64 *cqe)
{
    Mlx5Ring *ring = &cq->ring;
    uint32_t slot = cq->producer & MAKE_64BIT_MASK(0, ring->log_size);
    uint64_t off = (uint64_t)slot * ring->stride + ring->stride - CQE64;
    size_t own = offsetof(struct mlx5_cqe64, op_own);
    uint64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);

    if (cqe->op_own >> 4 != MLX5_CQE_REQ_ERR &&
        cqe->op_own >> 4 != MLX5_CQE_RESP_ERR) {
        /* In an error CQE the syndrome is where others have the time. */
        cqe->timestamp_h = cpu_to_be32(now >> 32);
        cqe->timestamp_l = cpu_to_be32(now);
    }
    cqe->op_own |= cq->producer >> ring->log_size & 1;
    if (!mlx5_buf_write(cq->dev, &ring->buf, off, cqe, own)) {
        return false;
    }
    /* Software reads the CQE once it sees the owner bit. */
    smp_wmb();
    if (!mlx5_buf_write(cq->dev, &ring->buf, off + own, &cqe->op_own, 1)) {
        return false;
    }
    cq->producer = (cq->producer + 1) & INDEX_MASK;
    return true;
}

/* False: the CQE is lost, and the CQ too unless only the bus is. */
static bool cq_put(Mlx5CQ *cq, struct mlx5_cqe64 *cqe)
{
    uint32_t consumer;

    if (cq->status) {
        return false;
    }
    if (!cq->ignore_overrun) {
        if (!cq_consumer(cq, &consumer)) {
            goto fault;
        }
        if (cq_used(cq, consumer) >= 1u << cq->ring.log_size) {
            cq_error(cq, CQ_STATUS_OVERFLOW, CQ_SYNDROME_OVERRUN);
            return false;
        }
    }
    if (cq_write(cq, cqe)) {
        return true;
    }
fault:
    if (!cq->dev->removed) {
        cq_error(cq, CQ_STATUS_WRITE_FAILURE, CQ_SYNDROME_ACCESS);
    }
    return false;
}

void mlx5_cq_post(Mlx5Device *dev, uint32_t cqn, struct mlx5_cqe64 *cqe,
                  bool solicited)
{
    Mlx5CQ *cq = mlx5_table_get(&dev->cqs, cqn);
    uint8_t opcode = cqe->op_own >> 4;
    bool error = opcode == MLX5_CQE_REQ_ERR || opcode == MLX5_CQE_RESP_ERR;

    cqe->op_own = opcode << 4;
    if (!cq || !cq_put(cq, cqe)) {
        mlx5_count(dev, MLX5_COUNTER_DROPS, 1);
        trace_mlx5_cqe_dropped(dev->lid, cqn, opcode);
        return;
    }
    mlx5_count(dev, MLX5_COUNTER_CQES, 1);
    mlx5_count(dev, MLX5_COUNTER_CQES_ERROR, error);
    trace_mlx5_cqe(dev->lid, cqn, opcode, cq->producer, solicited);
    if (solicited || error) {
        cq->solicited_any = true;
        cq->solicited_end = cq->producer;
    }
    if (cq->state == CQ_STATE_ARMED ||
        (cq->state == CQ_STATE_SOLICITED_ARMED && (solicited || error))) {
        cq_fire(cq);
    }
}

/* ---- commands ---- */

static bool ring_init(Mlx5Device *dev, Mlx5Ring *ring, Mlx5Cmd *cmd)
{
    void *cqc = MLX5_PRM_PTR(create_cq_in, cmd->in, cq_context);
    uint32_t shift = MLX5_PRM_GET(cqc, cqc, log_page_size) +
                     MLX5_ADAPTER_PAGE_SHIFT;
    uint64_t offset = MLX5_PRM_GET(cqc, cqc, page_offset) << shift >> 6;
    uint8_t size = MLX5_PRM_GET(cqc, cqc, cqe_sz);
    uint64_t len;

    memset(ring, 0, sizeof(*ring));
    ring->log_size = MLX5_PRM_GET(cqc, cqc, log_cq_size);
    ring->stride = size == CQE_STRIDE_64 ? 64 : 128;
    len = (uint64_t)ring->stride << ring->log_size;
    if (ring->log_size > MAX_LOG_SIZE || size > CQE_STRIDE_128_PAD) {
        return false;
    }
    if (MLX5_PRM_GET(create_cq_in, cmd->in, cq_umem_valid)) {
        return mlx5_buf_init_umem(dev, &ring->buf, cmd->uid,
                                  mlx5_bits_get(cmd->in, UMEM_ID, 32),
                                  mlx5_bits_get(cmd->in, UMEM_OFFSET, 64), len);
    }
    return mlx5_buf_init(dev, &ring->buf, cmd,
                         MLX5_PRM_PTR(create_cq_in, cmd->in, pas), shift,
                         offset, len);
}

static bool cq_init(Mlx5CQ *cq, Mlx5Cmd *cmd)
{
    Mlx5Device *dev = cq->dev;
    void *cqc = MLX5_PRM_PTR(create_cq_in, cmd->in, cq_context);

    memcpy(cq->context, cqc, sizeof(cq->context));
    cq->uar = MLX5_PRM_GET(cqc, cqc, uar_page);
    cq->eqn = MLX5_PRM_GET(cqc, cqc, c_eqn_or_apu_element);
    cq->ignore_overrun = MLX5_PRM_GET(cqc, cqc, oi);
    cq->state = CQ_STATE_FIRED;
    if (MLX5_PRM_GET(cqc, cqc, apu_cq) || MLX5_PRM_GET(cqc, cqc, cqe_comp_en) ||
        MLX5_PRM_GET(cqc, cqc, cc) ||
        mlx5_obj_use(&cq->obj, &dev->uars, cq->uar, false) ||
        mlx5_obj_use(&cq->obj, &dev->eqs, cq->eqn, false)) {
        return false;
    }
    return mlx5_dbr_init(dev, &cq->dbr, cmd->uid,
                         MLX5_PRM_GET(cqc, cqc, dbr_umem_valid),
                         mlx5_bits_get(cqc, DBR_UMEM_ID, 32),
                         MLX5_PRM_GET(cqc, cqc, dbr_addr)) &&
           ring_init(dev, &cq->ring, cmd);
}

uint8_t mlx5_create_cq(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    Mlx5CQ *cq = mlx5_obj_new(dev, cmd, sizeof(*cq), cq_free);

    if (!cq) {
        return MLX5_CMD_STAT_LIM_ERR;
    }
    cq->dev = dev;
    cq->timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, cq_arm, cq);
    if (!cq_init(cq, cmd)) {
        mlx5_obj_put(cq);
        return MLX5_CMD_STAT_BAD_PARAM_ERR;
    }
    if (!mlx5_table_add(&dev->cqs, cq, &cq->cqn)) {
        mlx5_obj_put(cq);
        return MLX5_CMD_STAT_NO_RES_ERR;
    }
    MLX5_PRM_SET(create_cq_out, cmd->out, cqn, cq->cqn);
    trace_mlx5_create_cq(dev->lid, cq->cqn, cq->eqn, cq->ring.log_size,
                         cq->ring.stride);
    return MLX5_CMD_STAT_OK;
}

uint8_t mlx5_destroy_cq(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    return mlx5_obj_del(&dev->cqs, MLX5_PRM_GET(destroy_cq_in, cmd->in, cqn),
                        cmd);
}

uint8_t mlx5_query_cq(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint32_t cqn = MLX5_PRM_GET(query_cq_in, cmd->in, cqn);
    Mlx5CQ *cq = mlx5_obj_look(&dev->cqs, cqn, cmd);
    void *cqc = MLX5_PRM_PTR(query_cq_out, cmd->out, cq_context);
    uint32_t consumer = 0;

    if (!cq) {
        return MLX5_CMD_STAT_BAD_RES_ERR;
    }
    cq_consumer(cq, &consumer);
    memcpy(cqc, cq->context, sizeof(cq->context));
    MLX5_PRM_SET(cqc, cqc, status, cq->status);
    MLX5_PRM_SET(cqc, cqc, st, cq->state);
    MLX5_PRM_SET(cqc, cqc, last_solicit_index, cq->solicited_end);
    MLX5_PRM_SET(cqc, cqc, consumer_counter, consumer);
    MLX5_PRM_SET(cqc, cqc, producer_counter, cq->producer);
    return MLX5_CMD_STAT_OK;
}

/* The old ring needs room for the last CQE, the new one for all and that. */
static uint8_t cq_resize(Mlx5CQ *cq, Mlx5Cmd *cmd)
{
    struct mlx5_cqe64 last = { .op_own = MLX5_CQE_RESIZE_CQ << 4 };
    uint32_t consumer, used;
    Mlx5Ring ring;

    if (!ring_init(cq->dev, &ring, cmd)) {
        return MLX5_CMD_STAT_BAD_PARAM_ERR;
    }
    if (cq->status || !cq_consumer(cq, &consumer)) {
        mlx5_buf_free(&ring.buf);
        return MLX5_CMD_STAT_BAD_RES_STATE_ERR;
    }
    used = cq_used(cq, consumer);
    if (used >= 1u << cq->ring.log_size || used >= 1u << ring.log_size) {
        mlx5_buf_free(&ring.buf);
        return MLX5_CMD_STAT_BAD_SIZE_OUTS_CQES_ERR;
    }
    if (!cq_write(cq, &last)) {
        mlx5_buf_free(&ring.buf);
        return MLX5_CMD_STAT_INT_ERR;
    }
    mlx5_buf_free(&cq->ring.buf);
    cq->ring = ring;
    return MLX5_CMD_STAT_OK;
}

static void cq_copy_shape(Mlx5CQ *cq, const void *cqc)
{
    static const struct { uint16_t off, width; } fields[] = {
#define CQC_FIELD(f) { MLX5_OFF(cqc, f), MLX5_WIDTH(cqc, f) }
        CQC_FIELD(cqe_sz), CQC_FIELD(log_cq_size), CQC_FIELD(log_page_size),
        CQC_FIELD(page_offset),
    };
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(fields); i++) {
        mlx5_bits_set(cq->context, fields[i].off, fields[i].width,
                      mlx5_bits_get(cqc, fields[i].off, fields[i].width));
    }
}

/* Moderation is allowed to be late, not to be early: none is always right. */
static void cq_modify(Mlx5CQ *cq, uint32_t select, const void *cqc)
{
    if (select & MLX5_CQ_MODIFY_PERIOD) {
        MLX5_PRM_SET(cqc, cq->context, cq_period,
                     MLX5_PRM_GET(cqc, cqc, cq_period));
    }
    if (select & MLX5_CQ_MODIFY_COUNT) {
        MLX5_PRM_SET(cqc, cq->context, cq_max_count,
                     MLX5_PRM_GET(cqc, cqc, cq_max_count));
    }
    if (select & MLX5_CQ_MODIFY_OVERRUN) {
        cq->ignore_overrun = MLX5_PRM_GET(cqc, cqc, oi);
        MLX5_PRM_SET(cqc, cq->context, oi, cq->ignore_overrun);
    }
}

uint8_t mlx5_modify_cq(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    void *in = cmd->in;
    void *cqc = MLX5_PRM_PTR(modify_cq_in, in, cq_context);
    Mlx5CQ *cq = mlx5_obj_get(&dev->cqs, MLX5_PRM_GET(modify_cq_in, in, cqn),
                              cmd);
    uint8_t status;

    if (!cq) {
        return MLX5_CMD_STAT_BAD_RES_ERR;
    }
    if (cmd->op_mod == MLX5_CQ_OPMOD_RESIZE) {
        status = cq_resize(cq, cmd);
        if (!status) {
            cq_copy_shape(cq, cqc);
        }
        return status;
    }
    cq_modify(cq,
              ldl_be_p(MLX5_PRM_PTR(modify_cq_in, in,
                                    modify_field_select_resize_field_select)),
              cqc);
    return MLX5_CMD_STAT_OK;
}

/* ---- begin and end ---- */

void mlx5_cq_init(Mlx5Device *dev)
{
    mlx5_table_init(&dev->cqs, 1, 0xffff, mlx5_obj_put);
}

void mlx5_cq_reset(Mlx5Device *dev)
{
    mlx5_table_reset(&dev->cqs);
}
