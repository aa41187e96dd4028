/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The responder: what a message does at the QP that it reaches.
 *
 * Called by the steps of the requester, while no fault is outstanding here.  An
 * answer of DONE says that packet->done bytes are in place, which may be fewer
 * than were brought: the rest comes again.  WAIT says that a page is missing
 * and none was.
 */
#include "mlx5_qp.h"
#include "trace.h"

enum {
    PKEY_MASK = 0x7fff,
    PKEY_FULL = 0x8000,
};

/* Alike, no matter which memberships, of which one is to be a full one. */
static bool pkeys_match(const Mlx5QP *one, const Mlx5QP *two)
{
    uint16_t a = mlx5_pkey(MLX5_PRM_GET(qpc, one->qpc,
                                        primary_address_path.pkey_index));
    uint16_t b = mlx5_pkey(MLX5_PRM_GET(qpc, two->qpc,
                                        primary_address_path.pkey_index));

    return (a & PKEY_MASK) && (a & PKEY_MASK) == (b & PKEY_MASK) &&
           ((a | b) & PKEY_FULL);
}

/* A read that came before what broke the queue pair is still answered. */
static bool listens(const Mlx5QP *qp, const Mlx5QP *from)
{
    return qp->state == MLX5_QP_STATE_RTR || qp->state == MLX5_QP_STATE_RTS ||
           (qp->state == MLX5_QP_STATE_ERR && from->failing);
}

Mlx5QP *mlx5_recv_peer(Mlx5QP *from)
{
    void *ads = MLX5_PRM_PTR(qpc, from->qpc, primary_address_path);
    Mlx5Device *dev = mlx5_fabric_find(from->dev,
                                       MLX5_PRM_GET(ads, ads, rlid));
    Mlx5QP *qp;

    if (!dev || !mlx5_bus_master(dev)) {
        return NULL;
    }
    qp = mlx5_qp_get(dev, MLX5_PRM_GET(qpc, from->qpc, remote_qpn));
    if (!qp || mlx5_qp_type(qp) != mlx5_qp_type(from) ||
        !listens(qp, from) ||
        MLX5_PRM_GET(qpc, qp->qpc, remote_qpn) != from->qpn ||
        !pkeys_match(from, qp)) {
        return NULL;
    }
    return qp;
}

int64_t mlx5_recv_rnr_ns(Mlx5QP *qp)
{
    /* IBA's encoding of the RNR NAK timer, in units of 10 us. */
    static const uint32_t unit10us[32] = {
        65536, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256,
        384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384,
        24576, 32768, 49152,
    };

    return unit10us[MLX5_PRM_GET(qpc, qp->qpc, min_rnr_nak)] * 10000ll;
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

static void complete_recv(Mlx5QP *qp, const Mlx5Packet *p, uint8_t opcode,
                          uint32_t bytes, uint32_t flags)
{
    Mlx5SRQ *srq = mlx5_srq_get(qp->dev, qp->recv.srqn);
    struct mlx5_cqe64 cqe = { };

    cqe.srqn = cpu_to_be32(recv_user_index(qp, srq));
    cqe.byte_cnt = cpu_to_be32(bytes);
    cqe.immediate = p->send->imm;
    cqe.slid = cpu_to_be16(p->from->dev->lid);
    cqe.flags_rqpn = cpu_to_be32(flags | p->from->qpn);
    cqe.sop_drop_qpn = cpu_to_be32(qp->qpn);
    cqe.wqe_counter = cpu_to_be16(qp->recv.wqe_index);
    cqe.op_own = opcode << 4;
    qp->recv.active = false;
    mlx5_cq_post(qp->dev, recv_cqn(qp, srq), &cqe,
                 p->send->flags & MLX5_WQE_CTRL_SOLICITED);
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

static Mlx5SRQ *srq_of(Mlx5QP *qp, const Mlx5Packet *p)
{
    Mlx5SRQ *srq;

    if (mlx5_qp_type(qp) == MLX5_QP_ST_XRC) {
        srq = mlx5_srq_get(qp->dev, p->send->xrc_srqn);
        return srq && srq->xrc &&
               srq->xrcd == MLX5_PRM_GET(qpc, qp->qpc, xrcd) ? srq : NULL;
    }
    return mlx5_srq_get(qp->dev, MLX5_PRM_GET(qpc, qp->qpc, srqn_rmpn_xrqn));
}

/* A receive WQE for this message, taken now or with its first bytes. */
static Mlx5Answer recv_begin(Mlx5QP *qp, const Mlx5Packet *p)
{
    bool shared = mlx5_qp_has_srq(qp) || mlx5_qp_type(qp) == MLX5_QP_ST_XRC;
    Mlx5SRQ *srq = shared ? srq_of(qp, p) : NULL;
    uint8_t wqe[MLX5_MAX_WQE];
    Mlx5Recv *r = &qp->recv;
    size_t head, len;
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
    head = srq ? mlx5_srq_wqe_head(srq) : 0;
    len = srq ? srq->stride : MIN(qp->rq_stride, MLX5_MAX_WQE);
    if (!mlx5_wqe_parse_recv(&r->sgl, wqe + head, len - head)) {
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

static void note_source(Mlx5QP *qp, const Mlx5Packet *p)
{
    qp->recv.src_qpn = p->from->qpn;
    qp->recv.src_lid = p->from->dev->lid;
}

/* Scatter into the receive WQE from off on. */
static Mlx5Answer recv_scatter(Mlx5QP *qp, Mlx5Packet *p, uint64_t off)
{
    Mlx5SRQ *srq = mlx5_srq_get(qp->dev, qp->recv.srqn);
    Mlx5Access access = recv_access(qp, MLX5_RIGHT_LW, true);
    Mlx5Missing missing;
    Mlx5Result result;
    Mlx5FaultInfo info = {
        .subtype = MLX5_PFAULT_SUBTYPE_WQE,
        .type = srq ? MLX5_WQE_PF_TYPE_RMP : MLX5_WQE_PF_TYPE_RESP,
        .wq = srq ? srq->srqn : qp->qpn, .wqe_index = qp->recv.wqe_index,
        .committed = off, .packet_len = MIN(p->len, 0x1000),
        .op_len = p->len,
    };

    if (srq) {
        access.pdn = srq->pdn;
    } else {
        access.reserved_lkey = MLX5_PRM_GET(qpc, qp->qpc, rlky);
    }
    result = mlx5_sgl_copy(qp->dev, &access, &qp->recv.sgl, off, p->data,
                           p->len, &p->done, &missing);
    if (result == MLX5_OK || p->done) {
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

static Mlx5Answer rdma_fault(Mlx5QP *qp, Mlx5Packet *p, uint64_t len,
                             const Mlx5Missing *missing)
{
    Mlx5FaultInfo info = {
        .subtype = MLX5_PFAULT_SUBTYPE_RDMA,
        .key = p->send->rkey, .va = p->send->raddr, .committed = p->off,
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
static void rdma_domain(Mlx5QP *qp, const Mlx5Packet *p, Mlx5Access *access)
{
    Mlx5SRQ *srq;

    if (mlx5_qp_type(qp) == MLX5_QP_ST_XRC) {
        srq = srq_of(qp, p);
        access->pdn = srq ? srq->pdn : UINT32_MAX;
    }
}

/* Move p->len bytes between the packet and (rkey, raddr + off). */
static Mlx5Answer rdma_copy(Mlx5QP *qp, Mlx5Packet *p, uint32_t right,
                            bool write)
{
    Mlx5Access access = recv_access(qp, right, write);
    Mlx5Send *s = p->send;
    Mlx5Missing missing;
    Mlx5Result result;

    p->done = 0;
    rdma_domain(qp, p, &access);
    if (!s->sgl.len) {
        return MLX5_ANSWER_DONE;        /* of length 0: no key is looked at */
    }
    if (mlx5_mem_check(qp->dev, &access, s->rkey, s->raddr, s->sgl.len)) {
        return refuse(qp);
    }
    result = mlx5_mem_copy(qp->dev, &access, s->rkey, s->raddr + p->off,
                           p->data, p->len, &p->done, &missing);
    if (result == MLX5_OK || p->done) {
        return MLX5_ANSWER_DONE;
    }
    return result == MLX5_FAULT ? rdma_fault(qp, p, s->sgl.len, &missing)
                                : refuse(qp);
}

/* ---- operations ---- */

static uint8_t send_cqe_opcode(uint8_t opcode)
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

Mlx5Answer mlx5_recv_send(Mlx5QP *qp, Mlx5Packet *p)
{
    Mlx5Answer answer;

    note_source(qp, p);
    answer = recv_begin(qp, p);
    if (answer != MLX5_ANSWER_DONE) {
        return answer;
    }
    if (p->send->sgl.len > qp->recv.sgl.len) {
        mlx5_recv_complete_bad(qp, MLX5_CQE_SYNDROME_LOCAL_LENGTH_ERR);
        mlx5_qp_error(qp, 0);
        return MLX5_ANSWER_INVALID;
    }
    answer = p->len ? recv_scatter(qp, p, p->off) : MLX5_ANSWER_DONE;
    if (answer != MLX5_ANSWER_DONE || p->off + p->done < p->send->sgl.len) {
        return answer;
    }
    if (p->send->opcode == MLX5_OPCODE_SEND_INVAL &&
        !mlx5_umr_invalidate(qp->dev, be32_to_cpu(p->send->imm),
                             MLX5_PRM_GET(qpc, qp->qpc, pd))) {
        return refuse(qp);
    }
    complete_recv(qp, p, send_cqe_opcode(p->send->opcode), p->send->sgl.len,
                  0);
    return answer;
}

Mlx5Answer mlx5_recv_write(Mlx5QP *qp, Mlx5Packet *p)
{
    bool imm = p->send->opcode == MLX5_OPCODE_RDMA_WRITE_IMM;
    Mlx5Answer answer;

    note_source(qp, p);
    if (!MLX5_PRM_GET(qpc, qp->qpc, rwe)) {
        return refuse(qp);
    }
    /* The WQE first, so that its absence does not show after the data. */
    if (imm) {
        answer = recv_begin(qp, p);
        if (answer != MLX5_ANSWER_DONE) {
            return answer;
        }
    }
    answer = rdma_copy(qp, p, MLX5_RIGHT_RW, true);
    if (answer == MLX5_ANSWER_DONE && imm &&
        p->off + p->done == p->send->sgl.len) {
        complete_recv(qp, p, MLX5_CQE_RESP_WR_IMM, p->send->sgl.len, 0);
    }
    return answer;
}

/* Has the requester more reads and atomics outstanding than we offered? */
static bool too_many(Mlx5QP *qp, const Mlx5Packet *p)
{
    if (p->send->outstanding <= 1u << MLX5_PRM_GET(qpc, qp->qpc, log_rra_max)) {
        return false;
    }
    mlx5_qp_error(qp, MLX5_EVENT_TYPE_WQ_INVAL_REQ_ERROR);
    return true;
}

Mlx5Answer mlx5_recv_read(Mlx5QP *qp, Mlx5Packet *p)
{
    note_source(qp, p);
    if (too_many(qp, p)) {
        return MLX5_ANSWER_INVALID;
    }
    if (!MLX5_PRM_GET(qpc, qp->qpc, rre)) {
        return refuse(qp);
    }
    return rdma_copy(qp, p, MLX5_RIGHT_RR, false);
}

static uint64_t atomic_result(const Mlx5Send *s, uint64_t old)
{
    uint64_t swap = s->operand[0], compare = s->operand[1];

    if (s->opcode == MLX5_OPCODE_ATOMIC_FA) {
        return old + swap;
    }
    return old == compare ? swap : old;
}

Mlx5Answer mlx5_recv_atomic(Mlx5QP *qp, Mlx5Packet *p)
{
    Mlx5Access access = recv_access(qp, MLX5_RIGHT_ATOMIC, true);
    Mlx5Send *s = p->send;
    Mlx5Missing missing;
    Mlx5Result result;
    uint64_t addr, value;

    note_source(qp, p);
    if (too_many(qp, p)) {
        return MLX5_ANSWER_INVALID;
    }
    if (s->raddr % 8) {
        mlx5_qp_error(qp, MLX5_EVENT_TYPE_WQ_INVAL_REQ_ERROR);
        return MLX5_ANSWER_INVALID;
    }
    if (!MLX5_PRM_GET(qpc, qp->qpc, rae)) {
        return refuse(qp);
    }
    p->len = 8;
    rdma_domain(qp, p, &access);
    result = mlx5_mem_addr(qp->dev, &access, s->rkey, s->raddr, 8, &addr,
                           &missing);
    if (result == MLX5_FAULT) {
        return rdma_fault(qp, p, 8, &missing);
    }
    if (result != MLX5_OK ||
        !mlx5_dma_data(qp->dev, addr, &value, 8, false, s->rkey, s->raddr)) {
        return refuse(qp);
    }
    s->original = le64_to_cpu(value);
    value = cpu_to_le64(atomic_result(s, s->original));
    if (!mlx5_dma_data(qp->dev, addr, &value, 8, true, s->rkey, s->raddr)) {
        return refuse(qp);
    }
    return MLX5_ANSWER_DONE;
}

/* ---- datagrams ---- */

static bool has_grh(const struct mlx5_av *av)
{
    return be32_to_cpu(av->grh_gid_fl) >> 30 & 1;
}

static void make_grh(uint8_t *grh, const Mlx5Packet *p)
{
    const struct mlx5_av *av = &p->send->av;

    memset(grh, 0, MLX5_GRH);
    stl_be_p(grh, 6u << 28 | av->tclass << 20 |
             (be32_to_cpu(av->grh_gid_fl) & 0xfffff));
    /* What follows: BTH, DETH, the payload, CRC. */
    stw_be_p(grh + 4, 12 + 8 + ROUND_UP(p->len, 4) + 4);
    grh[6] = 0x1b;
    grh[7] = av->hop_limit;
    mlx5_fabric_gid(p->from->dev, grh + 8);
    memcpy(grh + 24, av->rgid, 16);
}

static bool qkey_matches(Mlx5QP *qp, const Mlx5Packet *p)
{
    uint32_t key = be32_to_cpu(p->send->av.key.qkey.qkey);

    if (key >> 31) {
        key = MLX5_PRM_GET(qpc, p->from->qpc, q_key);
    }
    return key == MLX5_PRM_GET(qpc, qp->qpc, q_key);
}

static void datagram_to(Mlx5QP *qp, Mlx5Packet *p)
{
    bool grh = has_grh(&p->send->av);
    uint8_t whole[MLX5_GRH + MLX5_UD_MTU];
    Mlx5Packet q = *p;
    uint8_t opcode = send_cqe_opcode(p->send->opcode);
    uint64_t start = mlx5_work();

    if (!mlx5_qp_is_ud(qp) || !qkey_matches(qp, p) ||
        !pkeys_match(qp, p->from) || start > p->deadline ||
        (qp->state != MLX5_QP_STATE_RTR && qp->state != MLX5_QP_STATE_RTS) ||
        recv_begin(qp, p) != MLX5_ANSWER_DONE) {
        mlx5_count(qp->dev, MLX5_COUNTER_DROPS, 1);
        return;
    }
    if (p->len + MLX5_GRH > qp->recv.sgl.len) {
        mlx5_recv_complete_bad(qp, MLX5_CQE_SYNDROME_LOCAL_LENGTH_ERR);
        mlx5_qp_error(qp, 0);
        return;
    }
    if (grh) {
        make_grh(whole, p);
        memcpy(whole + MLX5_GRH, p->data, p->len);
        q.data = whole;
        q.len = p->len + MLX5_GRH;
    }
    /* Without a GRH its 40 bytes are left as they are. */
    for (uint64_t off = grh ? 0 : MLX5_GRH; q.len; ) {
        if (mlx5_work() - start > MLX5_WORK_WHOLE) {
            mlx5_recv_complete_bad(qp, MLX5_CQE_SYNDROME_LOCAL_PROT_ERR);
            mlx5_qp_error(qp, 0);
            return;
        }
        if (recv_scatter(qp, &q, off) != MLX5_ANSWER_DONE) {
            return;
        }
        off += q.done;
        q.data += q.done;
        q.len -= q.done;
    }
    if (mlx5_qp_type(qp) == MLX5_QP_ST_QP1) {
        p->send->imm = cpu_to_be32(0xffff);     /* the P_Key */
    }
    complete_recv(qp, p, opcode, p->len + MLX5_GRH, grh ? 1u << 28 : 0);
}

static void find_gsi(gpointer key, gpointer value, gpointer found)
{
    Mlx5QP *qp = value;

    if (mlx5_qp_type(qp) == MLX5_QP_ST_QP1) {
        *(Mlx5QP **)found = qp;
    }
}

void mlx5_recv_datagram(Mlx5Device *dev, uint32_t qpn, Mlx5Packet *p)
{
    Mlx5QP *qp = NULL;

    if (qpn == 1) {
        g_hash_table_foreach(dev->qps.objs, find_gsi, &qp);
    } else {
        qp = mlx5_qp_get(dev, qpn);
    }
    if (qp && mlx5_bus_master(dev)) {
        datagram_to(qp, p);
    } else {
        mlx5_count(dev, MLX5_COUNTER_DROPS, 1);
    }
}

/* ---- a fault that ends badly ---- */

void mlx5_recv_fault_failed(Mlx5QP *qp)
{
    Mlx5Device *dev = mlx5_fabric_find(qp->dev, qp->recv.src_lid);
    Mlx5QP *from = dev ? mlx5_qp_get(dev, qp->recv.src_qpn) : NULL;
    bool recv = qp->recv.active;

    /* The number may be another's by now. */
    if (from && mlx5_recv_peer(from) != qp) {
        from = NULL;
    }
    if (recv) {
        mlx5_recv_complete_bad(qp, MLX5_CQE_SYNDROME_LOCAL_PROT_ERR);
    }
    mlx5_qp_error(qp, recv ? 0 : MLX5_EVENT_TYPE_WQ_ACCESS_ERROR);
    if (from && from->send.active) {
        mlx5_send_fail(from, recv ? MLX5_CQE_SYNDROME_REMOTE_OP_ERR
                                  : MLX5_CQE_SYNDROME_REMOTE_ACCESS_ERR);
    }
}
