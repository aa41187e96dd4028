/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Page faults: events to the driver, and what it answers.
 *
 *   a step finds a page missing -> mlx5_fault_raise(): the QP's side waits,
 *   an event goes out after the fault's delay -> PAGE_FAULT_RESUME names the
 *   token -> after the resume's delay the step is tried again, or its
 *   operation fails.
 *
 * A QP that is reset, broken or destroyed takes its faults along; the driver's
 * late resume then names a token that no fault has, which is an error status
 * and no more.  Hostile events never touch the fault itself: whatever the
 * event said, the right resume still ends it.
 */
#include "mlx5_qp.h"
#include "trace.h"

enum {
    TOKEN_LAST = (1 << 24) - 1,
    MEMORY_PAGE = 12,                   /* shift: events speak of 4 KiB */
    MEMORY_PAGES = 512,                 /* that one fault names at most */
    MEMORY_LAST = 1 << 7,
    LATE_NS = 100 * 1000 * 1000,
    STORM = 64,
};

struct Mlx5Fault {
    Mlx5Device *dev;
    Mlx5QP *qp;
    int side;
    uint32_t token;
    Mlx5FaultInfo info, told;           /* as it is, as the event has it */
    int64_t raised;
    bool resumed, failed;
    QEMUTimer *timer;                   /* the event's, then the resume's */
};

struct Mlx5Faults {
    Mlx5Table table;                    /* token -> fault */
};

static void fault_free(void *opaque)
{
    Mlx5Fault *fault = opaque;

    mlx5_timer_free(fault->dev, fault->timer);
    g_free(fault);
}

/* The QP no longer waits; the fault is gone. */
static void fault_end(Mlx5Fault *fault)
{
    fault->qp->fault[fault->side] = NULL;
    mlx5_count(fault->dev, MLX5_COUNTER_FAULT_WAIT_NS,
               qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) - fault->raised);
    mlx5_table_del(&fault->dev->faults->table, fault->token);
}

void mlx5_fault_cancel(Mlx5QP *qp)
{
    for (int side = 0; side < MLX5_SIDES; side++) {
        if (qp->fault[side]) {
            fault_end(qp->fault[side]);
        }
    }
}

/* ---- events ---- */

static void encode(struct mlx5_eqe_page_fault *e, const Mlx5FaultInfo *info,
                   uint32_t token)
{
    memset(e, 0, sizeof(*e));
    switch (info->subtype) {
    case MLX5_PFAULT_SUBTYPE_WQE:
        e->wqe.bytes_committed = cpu_to_be32(info->committed);
        e->wqe.wqe_index = cpu_to_be16(info->wqe_index);
        e->wqe.packet_length = cpu_to_be16(info->packet_len);
        e->wqe.token = cpu_to_be32(token);
        e->wqe.pftype_wq = cpu_to_be32(info->type << 24 | info->wq);
        break;
    case MLX5_PFAULT_SUBTYPE_RDMA:
        e->rdma.bytes_committed = cpu_to_be32(info->committed);
        e->rdma.r_key = cpu_to_be32(info->key);
        e->rdma.packet_length = cpu_to_be16(info->packet_len);
        e->rdma.rdma_op_len = cpu_to_be32(info->op_len);
        e->rdma.rdma_va = cpu_to_be64(info->va);
        e->rdma.pftype_token = cpu_to_be32((uint32_t)info->type << 24 | token);
        break;
    default:
        e->memory.flags = info->more ? 0 : MEMORY_LAST;     /* resume it */
        e->memory.token31_0 = cpu_to_be32(token);
        e->memory.mkey = cpu_to_be32(info->key);
        e->memory.va = cpu_to_be64(info->va);
        e->memory.demand_fault_pages = cpu_to_be32(info->op_len << 12);
        e->memory.pre_demand_fault_pages = cpu_to_be16(info->packet_len);
        e->memory.post_demand_fault_pages = cpu_to_be16(info->packet_len);
        break;
    }
}

static void post(Mlx5Device *dev, const Mlx5FaultInfo *info, uint32_t token)
{
    struct mlx5_eqe_page_fault event;

    encode(&event, info, token);
    trace_mlx5_fault_event(token, info->subtype, info->type, info->wq,
                           info->wqe_index, info->committed);
    mlx5_event(dev, MLX5_EVENT_TYPE_PAGE_FAULT, info->subtype, &event,
               sizeof(event));
}

/*
 * A memory fault names pages, whatever part of them the region has, and more
 * than one event may belong to a token: the first page, then the others.
 */
static void post_parts(Mlx5Device *dev, const Mlx5FaultInfo *info,
                       uint32_t token)
{
    Mlx5FaultInfo part = *info;

    if (info->subtype == MLX5_PFAULT_SUBTYPE_MEMORY && info->op_len > 1 &&
        info->op_len <= MEMORY_PAGES) {
        part.op_len = 1;
        part.more = true;
        post(dev, &part, token);
        part.va += 1 << MEMORY_PAGE;
        part.op_len = info->op_len - 1;
        part.more = false;
    }
    post(dev, &part, token);
}

/* Lies about a fault, one kind at each turn. */
static void spoil(Mlx5Device *dev, Mlx5FaultInfo *info, uint32_t *token)
{
    uint32_t noise = mlx5_random(dev);

    if (mlx5_hostile(dev, MLX5_HOSTILE_TOKEN)) {
        *token = noise & TOKEN_LAST;
    }
    if (mlx5_hostile(dev, MLX5_HOSTILE_KEY)) {
        info->key = noise;
    }
    if (mlx5_hostile(dev, MLX5_HOSTILE_WQE_INDEX)) {
        info->wqe_index = noise;
    }
    if (mlx5_hostile(dev, MLX5_HOSTILE_QPN)) {
        info->wq = noise & 0xffffff;
    }
    if (mlx5_hostile(dev, MLX5_HOSTILE_VA)) {
        info->va = (uint64_t)noise << 32 | mlx5_random(dev);
    }
    if (mlx5_hostile(dev, MLX5_HOSTILE_LENGTH)) {
        info->op_len = info->committed = UINT32_MAX;
        info->packet_len = UINT16_MAX;
    }
    if (mlx5_hostile(dev, MLX5_HOSTILE_TYPE)) {
        info->type = 4 + noise % 4;
        info->subtype = noise >> 8;
    }
}

static void storm(Mlx5Device *dev)
{
    for (int i = 0; i < STORM; i++) {
        Mlx5FaultInfo info = {
            .subtype = mlx5_random(dev) % 3, .type = mlx5_random(dev) % 4,
            .wq = mlx5_random(dev) & 0xffff, .wqe_index = mlx5_random(dev),
            .key = mlx5_random(dev), .op_len = mlx5_random(dev),
            .va = (uint64_t)mlx5_random(dev) << 16,
        };

        post(dev, &info, mlx5_random(dev) & TOKEN_LAST);
    }
}

static void fault_event(Mlx5Fault *fault)
{
    Mlx5Device *dev = fault->dev;
    Mlx5FaultInfo info = fault->info;
    uint32_t token = fault->token;

    if (mlx5_hostile(dev, MLX5_HOSTILE_LOST)) {
        return;
    }
    spoil(dev, &info, &token);
    fault->told = info;
    post_parts(dev, &info, token);
    if (mlx5_hostile(dev, MLX5_HOSTILE_DUP)) {
        post_parts(dev, &info, token);
    }
    if (mlx5_hostile(dev, MLX5_HOSTILE_STORM)) {
        storm(dev);
    }
}

static void wake(Mlx5Fault *fault)
{
    Mlx5QP *qp = fault->qp;
    Mlx5Device *dev;
    int side = fault->side;
    bool failed = fault->failed;

    fault_end(fault);
    if (failed) {
        if (side == MLX5_SIDE_SEND) {
            mlx5_send_fault_failed(qp);
        } else {
            mlx5_recv_fault_failed(qp);
        }
        return;
    }
    if (side == MLX5_SIDE_RECV) {
        if (qp->dev->knob[MLX5_KNOB_FAULT_ANSWER] != MLX5_FAULT_ANSWER_WAIT) {
            return;                     /* the requester's own timer runs */
        }
        mlx5_remote_wake(qp);
        dev = mlx5_fabric_find(qp->dev, qp->recv.src_lid);
        qp = dev ? mlx5_qp_get(dev, qp->recv.src_qpn) : NULL;
    }
    if (qp) {
        mlx5_send_kick(qp);
    }
}

static void fault_timer(void *opaque)
{
    Mlx5Fault *fault = opaque;

    if (mlx5_bus_park(fault->dev, fault->timer)) {
        return;
    }
    if (fault->resumed) {
        wake(fault);
    } else {
        fault_event(fault);
    }
}

static void count_fault(Mlx5Device *dev, const Mlx5FaultInfo *info)
{
    static const unsigned by_type[] = {
        [MLX5_WQE_PF_TYPE_RMP] = MLX5_COUNTER_FAULTS_SRQ,
        [MLX5_WQE_PF_TYPE_REQ_SEND_OR_WRITE] = MLX5_COUNTER_FAULTS_SQ,
        [MLX5_WQE_PF_TYPE_RESP] = MLX5_COUNTER_FAULTS_RQ,
        [MLX5_WQE_PF_TYPE_REQ_READ_OR_ATOMIC] = MLX5_COUNTER_FAULTS_SQ,
    };

    if (info->subtype == MLX5_PFAULT_SUBTYPE_WQE) {
        mlx5_count(dev, by_type[info->type], 1);
    } else if (info->subtype == MLX5_PFAULT_SUBTYPE_RDMA) {
        mlx5_count(dev, MLX5_COUNTER_FAULTS_RDMA, 1);
    } else {
        mlx5_count(dev, MLX5_COUNTER_FAULTS_MEMORY, 1);
    }
}

/* By address: no queue and no WQE, just the region and the pages. */
static void memory_fault(Mlx5Device *dev, Mlx5FaultInfo *info,
                         const Mlx5Missing *missing)
{
    Mlx5Mkey *mkey = mlx5_mkey_find(dev, missing->key);
    uint64_t last = missing->va, need = info->op_len;

    if (info->subtype == MLX5_PFAULT_SUBTYPE_RDMA) {
        need -= MIN(need, info->committed);
    }
    if (mkey && need) {
        last += need - 1;
    }
    if (mkey && !MLX5_PRM_GET(mkc, mkey->mkc, length64)) {
        last = MIN(last, MLX5_PRM_GET(mkc, mkey->mkc, start_addr) +
                         MLX5_PRM_GET(mkc, mkey->mkc, len) - 1);
    }
    info->subtype = MLX5_PFAULT_SUBTYPE_MEMORY;
    info->key = missing->key;
    info->va = missing->va >> MEMORY_PAGE << MEMORY_PAGE;
    info->op_len = MIN((last >> MEMORY_PAGE) - (missing->va >> MEMORY_PAGE) + 1,
                       MEMORY_PAGES);
    info->packet_len = dev->knob[MLX5_KNOB_FAULT_AROUND];
}

void mlx5_fault_raise(Mlx5QP *qp, int side, const Mlx5FaultInfo *info,
                      const Mlx5Missing *missing)
{
    Mlx5Device *dev = qp->dev;
    Mlx5Fault *fault = g_new0(Mlx5Fault, 1);
    int64_t when = mlx5_when(dev, MLX5_KNOB_FAULT_DELAY);

    fault->dev = dev;
    fault->qp = qp;
    fault->side = side;
    fault->info = *info;
    if (dev->memory_faults) {
        memory_fault(dev, &fault->info, missing);
    }
    fault->raised = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    fault->timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, fault_timer, fault);
    if (!mlx5_table_add(&dev->faults->table, fault, &fault->token)) {
        fault_free(fault);              /* 2^24 outstanding: cannot be */
        return;
    }
    qp->fault[side] = fault;
    count_fault(dev, &fault->info);
    if (mlx5_hostile(dev, MLX5_HOSTILE_LATE)) {
        when += LATE_NS;
    }
    timer_mod_ns(fault->timer, when);
}

/* ---- resumes ---- */

/*
 * Does the answer name what the event named?  The queue of a fault by address
 * is its token.  What is not known to the driver may be answered in any way.
 */
static bool resume_matches(const Mlx5Fault *fault, void *info)
{
    uint32_t type = MLX5_PRM_GET(trans_page_fault_info, info, page_fault_type);
    uint32_t wq = MLX5_PRM_GET(trans_page_fault_info, info, wq_number);

    switch (fault->told.subtype) {
    case MLX5_PFAULT_SUBTYPE_WQE:
        return type == fault->told.type && wq == fault->told.wq;
    case MLX5_PFAULT_SUBTYPE_RDMA:
        return type == fault->told.type && wq == fault->token;
    case MLX5_PFAULT_SUBTYPE_MEMORY:
        return !MLX5_PRM_GET(mem_page_fault_info, info, fault_token_47_32) &&
               MLX5_PRM_GET(mem_page_fault_info, info, fault_token_31_0) ==
               fault->token;
    default:
        return true;
    }
}

uint8_t mlx5_page_fault_resume(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    void *info = MLX5_PRM_PTR(page_fault_resume_in, cmd->in, page_fault_info);
    bool error = MLX5_PRM_GET(trans_page_fault_info, info, error);
    /* Both schemes have the token's low 24 bits in the same place. */
    uint32_t token = MLX5_PRM_GET(trans_page_fault_info, info, fault_token);
    Mlx5Fault *fault = mlx5_table_get(&dev->faults->table, token);

    trace_mlx5_fault_resume(token, error, fault != NULL);
    if (!fault || fault->resumed) {
        mlx5_count(dev, MLX5_COUNTER_RESUMES_UNKNOWN, 1);
        return MLX5_CMD_STAT_BAD_RES_ERR;
    }
    if (!resume_matches(fault, info)) {
        return MLX5_CMD_STAT_BAD_PARAM_ERR;
    }
    mlx5_count(dev, error ? MLX5_COUNTER_RESUMES_ERROR : MLX5_COUNTER_RESUMES,
               1);
    fault->resumed = true;
    fault->failed = error;
    timer_mod_ns(fault->timer, mlx5_when(dev, MLX5_KNOB_RESUME_DELAY));
    return MLX5_CMD_STAT_OK;
}

void mlx5_fault_init(Mlx5Device *dev)
{
    dev->faults = g_new0(struct Mlx5Faults, 1);
    mlx5_table_init(&dev->faults->table, 1, TOKEN_LAST, fault_free);
}

void mlx5_fault_exit(Mlx5Device *dev)
{
    mlx5_table_free(&dev->faults->table);
    g_free(dev->faults);
}

/* After the QPs' reset, which cancelled their faults. */
void mlx5_fault_reset(Mlx5Device *dev)
{
    mlx5_table_reset(&dev->faults->table);
}
