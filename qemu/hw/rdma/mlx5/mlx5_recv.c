/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The responder: what a message does at the QP that it reaches.
 *
 * It is asked piece by piece, while no fault is outstanding here, by the
 * requester's steps or by a link, and knows of the requester what the head
 * says.  An answer of DONE says that reply->done bytes are in place, which may
 * be fewer than were brought: the rest comes again.  WAIT says that a page is
 * missing and none was.
 */
#include "mlx5_qp.h"
#include "trace.h"

enum {
    PKEY_MASK = 0x7fff,
    PKEY_FULL = 0x8000,
};

/* A piece at work. */
typedef struct Packet {
    const Mlx5Head *head;
    uint8_t *data;
    size_t len;                         /* of data */
    size_t done;                        /* out: bytes of data consumed */
    uint64_t original;                  /* out: what an atomic found */
} Packet;

/* ---- the receiver that a head names ---- */

/* Alike, no matter which memberships, of which one is to be a full one. */
bool mlx5_recv_pkey_matches(const Mlx5QP *qp, uint16_t pkey)
{
    uint16_t ours = mlx5_pkey(MLX5_PRM_GET(qpc, qp->qpc,
                                           primary_address_path.pkey_index));

    return (ours & PKEY_MASK) && (ours & PKEY_MASK) == (pkey & PKEY_MASK) &&
           ((ours | pkey) & PKEY_FULL);
}

/* A read that came before what broke the queue pair is still answered. */
static bool listens(const Mlx5QP *qp, const Mlx5Head *head)
{
    return qp->state == MLX5_QP_STATE_RTR || qp->state == MLX5_QP_STATE_RTS ||
           (qp->state == MLX5_QP_STATE_ERR &&
            (head->flags & MLX5_HEAD_FAILING));
}

Mlx5QP *mlx5_recv_peer(Mlx5Device *dev, const Mlx5Head *head)
{
    Mlx5QP *qp;

    if (!mlx5_bus_master(dev)) {
        return NULL;
    }
    qp = mlx5_qp_get(dev, head->dqpn);
    if (!qp || mlx5_qp_type(qp) != head->transport || !listens(qp, head) ||
        MLX5_PRM_GET(qpc, qp->qpc, remote_qpn) != head->sqpn ||
        !mlx5_recv_pkey_matches(qp, head->pkey)) {
        return NULL;
    }
    return qp;
}

/* ---- answers ---- */

static uint32_t rnr_ns(Mlx5QP *qp)
{
    /* IBA's encoding of the RNR NAK timer, in units of 10 us. */
    static const uint32_t unit10us[32] = {
        65536, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256,
        384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384,
        24576, 32768, 49152,
    };

    return unit10us[MLX5_PRM_GET(qpc, qp->qpc, min_rnr_nak)] * 10000;
}

/* A missing page is shown to the requester as the knob says. */
static void reply_with(Mlx5QP *qp, Mlx5Answer answer, Mlx5Reply *reply)
{
    if (answer == MLX5_ANSWER_WAIT) {
        switch (qp->dev->knob[MLX5_KNOB_FAULT_ANSWER]) {
        case MLX5_FAULT_ANSWER_RNR:
            answer = MLX5_ANSWER_RNR;
            break;
        case MLX5_FAULT_ANSWER_SILENCE:
            answer = MLX5_ANSWER_SILENCE;
            break;
        }
    }
    reply->answer = answer;
    reply->rnr_ns = answer == MLX5_ANSWER_RNR ? rnr_ns(qp) : 0;
}

static Mlx5QP *ready(Mlx5Device *dev, const Mlx5Head *head, Mlx5Reply *reply)
{
    Mlx5QP *qp = mlx5_recv_peer(dev, head);

    *reply = (Mlx5Reply) { .answer = MLX5_ANSWER_SILENCE };
    if (qp && qp->fault[MLX5_SIDE_RECV]) {
        reply_with(qp, MLX5_ANSWER_WAIT, reply);
        return NULL;
    }
    return qp;
}

bool mlx5_recv_ready(Mlx5Device *dev, const Mlx5Head *head, Mlx5Reply *reply)
{
    return ready(dev, head, reply);
}

/* ---- completions ---- */

static uint32_t recv_cqn(Mlx5QP *qp, const Mlx5SRQ *srq)
{
    return srq && srq->xrc ? srq->cqn : MLX5_PRM_GET(qpc, qp->qpc, cqn_rcv);
}

/* The CQE's user index names the SRQ where that is not the QP's own. */
static uint32_t recv_user_index(Mlx5QP *qp, const Mlx5SRQ *srq)
{
    return srq && srq->xrc ? srq->user_index
                           : MLX5_PRM_GET(qpc, qp->qpc, user_index);
}

static uint8_t cqe_opcode(uint8_t opcode)
{
    switch (opcode) {
    case MLX5_OPCODE_SEND_IMM:
        return MLX5_CQE_RESP_SEND_IMM;
    case MLX5_OPCODE_SEND_INVAL:
        return MLX5_CQE_RESP_SEND_INV;
    case MLX5_OPCODE_RDMA_WRITE_IMM:
        return MLX5_CQE_RESP_WR_IMM;
    default:
        return MLX5_CQE_RESP_SEND;
    }
}

void mlx5_recv_complete(Mlx5QP *qp, const Mlx5Head *head, uint32_t bytes,
                        uint32_t flags)
{
    Mlx5SRQ *srq = mlx5_srq_get(qp->dev, qp->recv.srqn);
    struct mlx5_cqe64 cqe = { };

    cqe.srqn = cpu_to_be32(recv_user_index(qp, srq));
    cqe.byte_cnt = cpu_to_be32(bytes);
    cqe.immediate = head->imm;
    cqe.slid = cpu_to_be16(head->slid);
    cqe.flags_rqpn = cpu_to_be32(flags | head->sqpn);
    cqe.sop_drop_qpn = cpu_to_be32(qp->qpn);
    cqe.wqe_counter = cpu_to_be16(qp->recv.wqe_index);
    cqe.op_own = cqe_opcode(head->opcode) << 4;
    qp->recv.active = false;
    mlx5_cq_post(qp->dev, recv_cqn(qp, srq), &cqe,
                 head->flags & MLX5_HEAD_SOLICITED);
}

void mlx5_recv_complete_bad(Mlx5QP *qp, uint8_t syndrome)
{
    Mlx5SRQ *srq = mlx5_srq_get(qp->dev, qp->recv.srqn);
    struct mlx5_cqe64 cqe = { };
    struct mlx5_err_cqe *err = (void *)&cqe;

    err->srqn = cpu_to_be32(recv_user_index(qp, srq));
    err->syndrome = syndrome;
    err->s_wqe_opcode_qpn = cpu_to_be32(qp->qpn);
    err->wqe_counter = cpu_to_be16(qp->recv.wqe_index);
    err->op_own = MLX5_CQE_RESP_ERR << 4;
    qp->recv.active = false;
    mlx5_cq_post(qp->dev, recv_cqn(qp, srq), &cqe, false);
}

/* ---- receive WQEs ---- */

bool mlx5_recv_take(Mlx5QP *qp, uint8_t *wqe, uint16_t *index)
{
    uint32_t count;
    uint16_t left;

    if (!qp->rq_entries ||
        !mlx5_dma_read(qp->dev, qp->dbr.addr + 4 * MLX5_RCV_DBR, &count, 4)) {
        return false;
    }
    left = (uint16_t)be32_to_cpu(count) - qp->rq_ci;
    if (!left || left > qp->rq_entries ||
        !mlx5_buf_read(qp->dev, &qp->buf,
                       (uint64_t)(qp->rq_ci & (qp->rq_entries - 1)) *
                       qp->rq_stride, wqe,
                       MIN(qp->rq_stride, MLX5_MAX_WQE))) {
        return false;
    }
    *index = qp->rq_ci++;
    return true;
}

static Mlx5SRQ *srq_of(Mlx5QP *qp, const Mlx5Head *head)
{
    Mlx5SRQ *srq;

    if (mlx5_qp_type(qp) == MLX5_QP_ST_XRC) {
        srq = mlx5_srq_get(qp->dev, head->srqn);
        return srq && srq->xrc &&
               srq->xrcd == MLX5_PRM_GET(qpc, qp->qpc, xrcd) ? srq : NULL;
    }
    return mlx5_srq_get(qp->dev, MLX5_PRM_GET(qpc, qp->qpc, srqn_rmpn_xrqn));
}

Mlx5Answer mlx5_recv_begin(Mlx5QP *qp, const Mlx5Head *head)
{
    bool shared = mlx5_qp_has_srq(qp) || mlx5_qp_type(qp) == MLX5_QP_ST_XRC;
    Mlx5SRQ *srq = shared ? srq_of(qp, head) : NULL;
    uint8_t wqe[MLX5_MAX_WQE];
    Mlx5Recv *r = &qp->recv;
    size_t skip, len;
    bool taken;

    if (r->active) {
        return MLX5_ANSWER_DONE;
    }
    if (shared && !srq) {
        return MLX5_ANSWER_INVALID;
    }
    taken = srq ? mlx5_srq_take(srq, wqe, &r->wqe_index)
                : mlx5_recv_take(qp, wqe, &r->wqe_index);
    if (!taken) {
        return MLX5_ANSWER_RNR;
    }
    r->active = true;
    r->srqn = srq ? srq->srqn : 0;
    skip = srq ? mlx5_srq_wqe_head(srq) : 0;
    len = srq ? srq->stride : MIN(qp->rq_stride, MLX5_MAX_WQE);
    if (!mlx5_wqe_parse_recv(&r->sgl, wqe + skip, len - skip)) {
        mlx5_recv_complete_bad(qp, MLX5_CQE_SYNDROME_LOCAL_QP_OP_ERR);
        mlx5_qp_error(qp, 0);
        return MLX5_ANSWER_OPERATION;
    }
    return MLX5_ANSWER_DONE;
}

/* ---- memory ---- */

static Mlx5Access recv_access(Mlx5QP *qp, uint32_t rights, bool write)
{
    return (Mlx5Access) {
        .pdn = MLX5_PRM_GET(qpc, qp->qpc, pd), .qpn = qp->qpn,
        .rights = rights, .write = write,
    };
}

Mlx5Answer mlx5_recv_scatter(Mlx5QP *qp, const uint8_t *data, size_t len,
                             uint64_t off, size_t *done)
{
    Mlx5SRQ *srq = mlx5_srq_get(qp->dev, qp->recv.srqn);
    Mlx5Access access = recv_access(qp, MLX5_RIGHT_LW, true);
    Mlx5Missing missing;
    Mlx5Result result;
    Mlx5FaultInfo info = {
        .subtype = MLX5_PFAULT_SUBTYPE_WQE,
        .type = srq ? MLX5_WQE_PF_TYPE_RMP : MLX5_WQE_PF_TYPE_RESP,
        .wq = srq ? srq->srqn : qp->qpn, .wqe_index = qp->recv.wqe_index,
        .committed = off, .packet_len = MIN(len, 0x1000), .op_len = len,
    };

    if (srq) {
        access.pdn = srq->pdn;
    } else {
        access.reserved_lkey = MLX5_PRM_GET(qpc, qp->qpc, rlky);
    }
    result = mlx5_sgl_copy(qp->dev, &access, &qp->recv.sgl, off, (void *)data,
                           len, done, &missing);
    if (result == MLX5_OK || *done) {
        return MLX5_ANSWER_DONE;
    }
    if (result == MLX5_FAULT && mlx5_qp_type(qp) == MLX5_QP_ST_UC) {
        return MLX5_ANSWER_SILENCE;     /* and the next message has the WQE */
    }
    if (result == MLX5_FAULT && !mlx5_qp_is_ud(qp)) {
        mlx5_fault_raise(qp, MLX5_SIDE_RECV, &info, &missing);
        return MLX5_ANSWER_WAIT;
    }
    mlx5_recv_complete_bad(qp, MLX5_CQE_SYNDROME_LOCAL_PROT_ERR);
    mlx5_qp_error(qp, 0);
    return MLX5_ANSWER_OPERATION;
}

/* Of UC a request that is not allowed is dropped, and nothing else happens. */
static Mlx5Answer refuse(Mlx5QP *qp)
{
    if (mlx5_qp_type(qp) == MLX5_QP_ST_UC) {
        mlx5_count(qp->dev, MLX5_COUNTER_DROPS, 1);
        return MLX5_ANSWER_SILENCE;
    }
    mlx5_qp_error(qp, MLX5_EVENT_TYPE_WQ_ACCESS_ERROR);
    return MLX5_ANSWER_ACCESS;
}

static Mlx5Answer rdma_fault(Mlx5QP *qp, Packet *p, uint64_t len,
                             const Mlx5Missing *missing)
{
    Mlx5FaultInfo info = {
        .subtype = MLX5_PFAULT_SUBTYPE_RDMA,
        .key = p->head->rkey, .va = p->head->raddr, .committed = p->head->off,
        .op_len = len, .packet_len = MIN(p->len, 0x1000),
    };

    if (mlx5_qp_type(qp) == MLX5_QP_ST_UC) {
        return MLX5_ANSWER_SILENCE;
    }
    mlx5_fault_raise(qp, MLX5_SIDE_RECV, &info, missing);
    return MLX5_ANSWER_WAIT;
}

/*
 * XRC checks keys against the domain of the SRQ that the request names, also
 * where no receive is taken: the QP itself has none.
 */
static void rdma_domain(Mlx5QP *qp, const Packet *p, Mlx5Access *access)
{
    Mlx5SRQ *srq;

    if (mlx5_qp_type(qp) == MLX5_QP_ST_XRC) {
        srq = srq_of(qp, p->head);
        access->pdn = srq ? srq->pdn : UINT32_MAX;
    }
}

/* Move p->len bytes between the packet and (rkey, raddr + off). */
static Mlx5Answer rdma_copy(Mlx5QP *qp, Packet *p, uint32_t right,
                            bool write)
{
    Mlx5Access access = recv_access(qp, right, write);
    const Mlx5Head *h = p->head;
    Mlx5Missing missing;
    Mlx5Result result;

    rdma_domain(qp, p, &access);
    if (!h->len) {
        return MLX5_ANSWER_DONE;        /* of length 0: no key is looked at */
    }
    if (mlx5_mem_check(qp->dev, &access, h->rkey, h->raddr, h->len)) {
        return refuse(qp);
    }
    result = mlx5_mem_copy(qp->dev, &access, h->rkey, h->raddr + h->off,
                           p->data, p->len, &p->done, &missing);
    if (result == MLX5_OK || p->done) {
        return MLX5_ANSWER_DONE;
    }
    return result == MLX5_FAULT ? rdma_fault(qp, p, h->len, &missing)
                                : refuse(qp);
}

/* ---- operations ---- */

static bool last(const Packet *p)
{
    return p->head->off + p->done == p->head->len;
}

static Mlx5Answer recv_send(Mlx5QP *qp, Packet *p)
{
    const Mlx5Head *h = p->head;
    Mlx5Answer answer = mlx5_recv_begin(qp, h);

    if (answer != MLX5_ANSWER_DONE) {
        return answer;
    }
    if (h->len > qp->recv.sgl.len) {
        mlx5_recv_complete_bad(qp, MLX5_CQE_SYNDROME_LOCAL_LENGTH_ERR);
        mlx5_qp_error(qp, 0);
        return MLX5_ANSWER_INVALID;
    }
    if (p->len) {
        answer = mlx5_recv_scatter(qp, p->data, p->len, h->off, &p->done);
    }
    if (answer != MLX5_ANSWER_DONE || !last(p)) {
        return answer;
    }
    if (h->opcode == MLX5_OPCODE_SEND_INVAL &&
        !mlx5_umr_invalidate(qp->dev, be32_to_cpu(h->imm),
                             MLX5_PRM_GET(qpc, qp->qpc, pd))) {
        return refuse(qp);
    }
    mlx5_recv_complete(qp, h, h->len, 0);
    return answer;
}

static Mlx5Answer recv_write(Mlx5QP *qp, Packet *p)
{
    bool imm = p->head->opcode == MLX5_OPCODE_RDMA_WRITE_IMM;
    Mlx5Answer answer;

    if (!MLX5_PRM_GET(qpc, qp->qpc, rwe)) {
        return refuse(qp);
    }
    /* The WQE first, so that its absence does not show after the data. */
    if (imm) {
        answer = mlx5_recv_begin(qp, p->head);
        if (answer != MLX5_ANSWER_DONE) {
            return answer;
        }
    }
    answer = rdma_copy(qp, p, MLX5_RIGHT_RW, true);
    if (answer == MLX5_ANSWER_DONE && imm && last(p)) {
        mlx5_recv_complete(qp, p->head, p->head->len, 0);
    }
    return answer;
}

/* Has the requester more reads and atomics outstanding than we offered? */
static bool too_many(Mlx5QP *qp, const Packet *p)
{
    if (p->head->outstanding <= 1u << MLX5_PRM_GET(qpc, qp->qpc, log_rra_max)) {
        return false;
    }
    mlx5_qp_error(qp, MLX5_EVENT_TYPE_WQ_INVAL_REQ_ERROR);
    return true;
}

static Mlx5Answer recv_read(Mlx5QP *qp, Packet *p)
{
    if (too_many(qp, p)) {
        return MLX5_ANSWER_INVALID;
    }
    if (!MLX5_PRM_GET(qpc, qp->qpc, rre)) {
        return refuse(qp);
    }
    return rdma_copy(qp, p, MLX5_RIGHT_RR, false);
}

static uint64_t atomic_result(const Mlx5Head *h, uint64_t old)
{
    uint64_t swap = h->operand[0], compare = h->operand[1];

    if (h->opcode == MLX5_OPCODE_ATOMIC_FA) {
        return old + swap;
    }
    return old == compare ? swap : old;
}

static Mlx5Answer recv_atomic(Mlx5QP *qp, Packet *p)
{
    Mlx5Access access = recv_access(qp, MLX5_RIGHT_ATOMIC, true);
    const Mlx5Head *h = p->head;
    Mlx5Missing missing;
    Mlx5Result result;
    uint64_t addr, value;

    if (too_many(qp, p)) {
        return MLX5_ANSWER_INVALID;
    }
    if (h->raddr % 8) {
        mlx5_qp_error(qp, MLX5_EVENT_TYPE_WQ_INVAL_REQ_ERROR);
        return MLX5_ANSWER_INVALID;
    }
    if (!MLX5_PRM_GET(qpc, qp->qpc, rae)) {
        return refuse(qp);
    }
    p->len = 8;
    rdma_domain(qp, p, &access);
    result = mlx5_mem_addr(qp->dev, &access, h->rkey, h->raddr, 8, &addr,
                           &missing);
    if (result == MLX5_FAULT) {
        return rdma_fault(qp, p, 8, &missing);
    }
    if (result != MLX5_OK ||
        !mlx5_dma_data(qp->dev, addr, &value, 8, false, h->rkey, h->raddr)) {
        return refuse(qp);
    }
    p->original = le64_to_cpu(value);
    value = cpu_to_le64(atomic_result(h, p->original));
    if (!mlx5_dma_data(qp->dev, addr, &value, 8, true, h->rkey, h->raddr)) {
        return refuse(qp);
    }
    return MLX5_ANSWER_DONE;
}

static Mlx5Answer operate(Mlx5QP *qp, Packet *p)
{
    switch (p->head->opcode) {
    case MLX5_OPCODE_SEND:
    case MLX5_OPCODE_SEND_IMM:
    case MLX5_OPCODE_SEND_INVAL:
        return recv_send(qp, p);
    case MLX5_OPCODE_RDMA_WRITE:
    case MLX5_OPCODE_RDMA_WRITE_IMM:
        return recv_write(qp, p);
    case MLX5_OPCODE_RDMA_READ:
        return recv_read(qp, p);
    default:
        return recv_atomic(qp, p);
    }
}

void mlx5_recv_request(Mlx5Device *dev, const Mlx5Head *head, uint8_t *data,
                       Mlx5Reply *reply)
{
    Packet p = { .head = head, .data = data, .len = head->size };
    Mlx5QP *qp = ready(dev, head, reply);

    if (!qp) {
        return;
    }
    qp->recv.src_qpn = head->sqpn;
    qp->recv.src_lid = head->slid;
    reply_with(qp, operate(qp, &p), reply);
    if (reply->answer == MLX5_ANSWER_DONE) {
        reply->done = p.done;
        reply->original = p.original;
    }
}

/* ---- a fault that ends badly ---- */

/* The requester's QP, if it is in this process and still asks this one. */
static Mlx5QP *local_source(Mlx5QP *qp)
{
    Mlx5Device *dev = mlx5_fabric_find(qp->dev, qp->recv.src_lid);
    Mlx5QP *from = dev ? mlx5_qp_get(dev, qp->recv.src_qpn) : NULL;
    Mlx5Head head;

    if (!from) {
        return NULL;
    }
    /* The number may be another's by now. */
    mlx5_ask_head(from, &head);
    return head.dlid == qp->dev->lid && mlx5_recv_peer(qp->dev, &head) == qp ?
           from : NULL;
}

void mlx5_recv_fault_failed(Mlx5QP *qp)
{
    Mlx5QP *from = local_source(qp);
    bool recv = qp->recv.active;

    if (recv) {
        mlx5_recv_complete_bad(qp, MLX5_CQE_SYNDROME_LOCAL_PROT_ERR);
    }
    mlx5_qp_error(qp, recv ? 0 : MLX5_EVENT_TYPE_WQ_ACCESS_ERROR);
    if (from && from->send.active) {
        mlx5_send_fail(from, recv ? MLX5_CQE_SYNDROME_REMOTE_OP_ERR
                                  : MLX5_CQE_SYNDROME_REMOTE_ACCESS_ERR);
    }
    mlx5_remote_fail(qp, recv ? MLX5_ANSWER_OPERATION : MLX5_ANSWER_ACCESS);
}
