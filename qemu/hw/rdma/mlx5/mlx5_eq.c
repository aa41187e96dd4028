/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Event queues: rings in guest memory by which the adapter calls the driver.
 *
 * An EQ asks for types of events when it is created; completion events go to
 * the EQ that the CQ names instead.  An entry's last byte has the owner bit,
 * which changes its meaning with each round, so it is written last.  Each
 * event raises the EQ's MSI-X vector.
 *
 * The driver arms all its EQs through one register, so an EQ counts as armed
 * always.  The same store has the consumer's index: a full EQ loses what comes
 * next, and the counter "drops" tells.  A store in another UAR than the EQ's is
 * none: those are mapped by programs.
 */
#include "mlx5.h"
#include "trace.h"

enum {
    EQE_SIZE = sizeof(struct mlx5_eqe),
    MAX_LOG_SIZE = 20,
    INDEX_MASK = 0xffffff,
    ANY_EQ = 0,                         /* not an EQ's number */

    EQ_STATUS_OK = 0x0,
    EQ_STATUS_WRITE_FAILURE = 0xa,
    EQ_STATE_ARMED = 0x9,
};

struct Mlx5EQ {
    Mlx5Obj obj;
    Mlx5Buf buf;
    uint64_t types;                     /* mask of MLX5_EVENT_TYPE_* */
    uint32_t log_size;
    uint32_t producer, consumer;
    uint32_t vector, uar;
    uint8_t status;
    uint8_t context[MLX5_BYTES(eqc)];   /* as created */
};

static void eq_free(void *opaque)
{
    Mlx5EQ *eq = opaque;

    mlx5_buf_free(&eq->buf);
    g_free(eq);
}

/* ---- posting ---- */

static bool eq_write(Mlx5Device *dev, Mlx5EQ *eq, const struct mlx5_eqe *eqe)
{
    uint32_t slot = eq->producer & MAKE_64BIT_MASK(0, eq->log_size);
    uint64_t off = (uint64_t)slot * EQE_SIZE;
    size_t owner = offsetof(struct mlx5_eqe, owner);

    if (!mlx5_buf_write(dev, &eq->buf, off, eqe, owner)) {
        return false;
    }
    /* The driver reads the entry once it sees the owner bit. */
    smp_wmb();
    return mlx5_buf_write(dev, &eq->buf, off + owner, &eqe->owner, 1);
}

static bool eq_full(const Mlx5EQ *eq)
{
    return ((eq->producer - eq->consumer) & INDEX_MASK) >= 1u << eq->log_size;
}

void mlx5_eq_post(Mlx5Device *dev, uint32_t eqn, uint8_t type, uint8_t sub_type,
                  const void *data, size_t len)
{
    Mlx5EQ *eq = mlx5_table_get(&dev->eqs, eqn);
    struct mlx5_eqe eqe = { .type = type, .sub_type = sub_type };

    if (!eq || eq->status || eq_full(eq)) {
        mlx5_count(dev, MLX5_COUNTER_DROPS, 1);
        trace_mlx5_eqe_dropped(dev->lid, eqn, type, sub_type);
        return;
    }
    memcpy(&eqe.data, data, MIN(len, sizeof(eqe.data)));
    eqe.owner = eq->producer >> eq->log_size & 1;
    if (!eq_write(dev, eq, &eqe)) {
        /* What came while the adapter was gone must not show later either. */
        eq->status = dev->removed ? EQ_STATUS_OK : EQ_STATUS_WRITE_FAILURE;
        return;
    }
    eq->producer++;
    mlx5_count(dev, MLX5_COUNTER_EQES, 1);
    trace_mlx5_eqe(dev->lid, eqn, type, sub_type);
    mlx5_interrupt(dev, eq->vector);
}

/* In the order of their numbers, so that every run finds the same one. */
static uint32_t eq_find(Mlx5Device *dev, uint8_t type)
{
    uint32_t eqn;

    if (type >= 64) {
        return ANY_EQ;
    }
    for (eqn = dev->eqs.first; eqn <= dev->eqs.last; eqn++) {
        Mlx5EQ *eq = mlx5_table_get(&dev->eqs, eqn);

        if (eq && (eq->types & 1ULL << type)) {
            return eqn;
        }
    }
    return ANY_EQ;
}

bool mlx5_eq_wants(Mlx5Device *dev, uint8_t type)
{
    return eq_find(dev, type) != ANY_EQ;
}

void mlx5_event(Mlx5Device *dev, uint8_t type, uint8_t sub_type,
                const void *data, size_t len)
{
    uint32_t eqn = eq_find(dev, type);

    if (eqn == ANY_EQ) {
        trace_mlx5_eqe_dropped(dev->lid, eqn, type, sub_type);
        return;
    }
    mlx5_eq_post(dev, eqn, type, sub_type, data, len);
}

static void event_qp_srq(Mlx5Device *dev, uint8_t type, uint32_t nr)
{
    struct mlx5_eqe_qp_srq data = {
        .type = MLX5_EVENT_QUEUE_TYPE_QP,
        .qp_srq_n = cpu_to_be32(nr),
    };

    mlx5_event(dev, type, 0, &data, sizeof(data));
}

void mlx5_event_qp(Mlx5Device *dev, uint8_t type, uint32_t qpn)
{
    event_qp_srq(dev, type, qpn);
}

void mlx5_event_srq(Mlx5Device *dev, uint8_t type, uint32_t srqn)
{
    event_qp_srq(dev, type, srqn);
}

void mlx5_eq_doorbell(Mlx5Device *dev, uint32_t uar, uint32_t value)
{
    Mlx5EQ *eq = mlx5_table_get(&dev->eqs, value >> 24);

    if (eq && eq->uar == uar) {
        eq->consumer = value & INDEX_MASK;
    }
}

/* ---- commands ---- */

static bool eq_init(Mlx5Device *dev, Mlx5EQ *eq, Mlx5Cmd *cmd)
{
    void *eqc = MLX5_PRM_PTR(create_eq_in, cmd->in, eq_context_entry);
    uint32_t shift = MLX5_PRM_GET(eqc, eqc, log_page_size) +
                     MLX5_ADAPTER_PAGE_SHIFT;
    uint64_t offset = MLX5_PRM_GET(eqc, eqc, page_offset) << shift >> 6;

    eq->log_size = MLX5_PRM_GET(eqc, eqc, log_eq_size);
    eq->vector = MLX5_PRM_GET(eqc, eqc, intr);
    eq->uar = MLX5_PRM_GET(eqc, eqc, uar_page);
    eq->types = ldq_be_p(MLX5_PRM_PTR(create_eq_in, cmd->in, event_bitmask));
    memcpy(eq->context, eqc, sizeof(eq->context));
    if (eq->log_size > MAX_LOG_SIZE || eq->vector >= MLX5_NR_VECTORS ||
        mlx5_obj_use(&eq->obj, &dev->uars, eq->uar, false)) {
        return false;
    }
    return mlx5_buf_init(dev, &eq->buf, cmd,
                         MLX5_PRM_PTR(create_eq_in, cmd->in, pas), shift,
                         offset, (uint64_t)EQE_SIZE << eq->log_size);
}

uint8_t mlx5_create_eq(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    Mlx5EQ *eq = mlx5_obj_new(dev, cmd, sizeof(*eq), eq_free);
    uint32_t eqn;

    if (!eq) {
        return MLX5_CMD_STAT_LIM_ERR;
    }
    if (!eq_init(dev, eq, cmd)) {
        mlx5_obj_put(eq);
        return MLX5_CMD_STAT_BAD_PARAM_ERR;
    }
    if (!mlx5_table_add(&dev->eqs, eq, &eqn)) {
        mlx5_obj_put(eq);
        return MLX5_CMD_STAT_NO_RES_ERR;
    }
    MLX5_PRM_SET(create_eq_out, cmd->out, eq_number, eqn);
    trace_mlx5_create_eq(dev->lid, eqn, eq->types, eq->log_size, eq->vector);
    return MLX5_CMD_STAT_OK;
}

uint8_t mlx5_destroy_eq(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    return mlx5_obj_del(&dev->eqs,
                        MLX5_PRM_GET(destroy_eq_in, cmd->in, eq_number), cmd);
}

uint8_t mlx5_query_eq(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint32_t eqn = MLX5_PRM_GET(query_eq_in, cmd->in, eq_number);
    Mlx5EQ *eq = mlx5_table_get(&dev->eqs, eqn);
    void *eqc = MLX5_PRM_PTR(query_eq_out, cmd->out, eq_context_entry);

    if (!eq) {
        return MLX5_CMD_STAT_BAD_RES_ERR;
    }
    memcpy(eqc, eq->context, sizeof(eq->context));
    MLX5_PRM_SET(eqc, eqc, status, eq->status);
    MLX5_PRM_SET(eqc, eqc, st, EQ_STATE_ARMED);
    MLX5_PRM_SET(eqc, eqc, consumer_counter, eq->consumer);
    MLX5_PRM_SET(eqc, eqc, producer_counter, eq->producer & INDEX_MASK);
    MLX5_PRM_SET(query_eq_out, cmd->out, event_bitmask, eq->types);
    return MLX5_CMD_STAT_OK;
}

/* ---- begin and end ---- */

void mlx5_eq_init(Mlx5Device *dev)
{
    mlx5_table_init(&dev->eqs, 1, MLX5_NR_EQS - 1, mlx5_obj_put);
}

void mlx5_eq_reset(Mlx5Device *dev)
{
    mlx5_table_reset(&dev->eqs);
}
