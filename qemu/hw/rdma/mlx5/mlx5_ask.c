/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the requester asks its peer, and what the answer means to it.
 *
 * A peer of this process answers at once: no receive WQE or no page costs a
 * timer, silence a longer one, and an error in the end.  A peer at the other
 * end of a link answers later.  Until then the queue pair has an Mlx5Request:
 *
 *   NONE -> SENT -> ANSWERED -> NONE     final: DONE, an error
 *             ^        |
 *             +- LATER <-                RNR, WAIT: asked again
 *
 * Frames may be lost in either direction, and with them whole connections.  A
 * request without an answer is therefore sent again, as often as retry_count
 * says, and this invariant makes that safe:
 *
 *   One request of a queue pair is under way at a time.  Its number is greater
 *   than those of all requests before it, and it keeps the number, its offset
 *   and its bytes until its final answer.  The responder executes a number
 *   until it has a final answer, and then only repeats that; lesser numbers
 *   are ignored.  An answer counts for the number that is under way.
 *
 * So a receive WQE and an atomic are used up once, and each byte is placed by
 * its offset, once: what comes again after RNR or WAIT did nothing before.
 * Reads alone are executed again, as the InfiniBand specification has it.  The
 * bytes are copied from memory once a request: what a program changes before
 * its completion cannot make the repetition differ from the first.
 */
#include "mlx5_link.h"
#include "trace.h"

enum {
    SMALL_TIMEOUT = 17,                 /* 4.096 us << 17 = 0.54 s */
    INFINITE_RNR = 7,
};

static int64_t now_ns(void)
{
    return qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
}

/* ---- the question ---- */

void mlx5_ask_head(const Mlx5QP *qp, Mlx5Head *head)
{
    const Mlx5Send *s = &qp->send;
    bool xrc = mlx5_qp_type(qp) == MLX5_QP_ST_XRC;

    *head = (Mlx5Head) {
        .slid = qp->dev->lid,
        .dlid = MLX5_PRM_GET(qpc, qp->qpc, primary_address_path.rlid),
        .sqpn = qp->qpn,
        .dqpn = MLX5_PRM_GET(qpc, qp->qpc, remote_qpn),
        .transport = mlx5_qp_type(qp),
        .opcode = s->opcode,
        .flags = (qp->failing ? MLX5_HEAD_FAILING : 0) |
                 (s->flags & MLX5_WQE_CTRL_SOLICITED ? MLX5_HEAD_SOLICITED : 0),
        .pkey = mlx5_pkey(MLX5_PRM_GET(qpc, qp->qpc,
                                       primary_address_path.pkey_index)),
        .imm = s->imm,
        .srqn = xrc ? s->xrc_srqn : 0,
        .outstanding = s->outstanding,
        .rkey = s->rkey, .raddr = s->raddr,
        .operand = { s->operand[0], s->operand[1] },
        .len = s->sgl.len, .off = s->done,
    };
}

/* ---- what an answer means ---- */

static int64_t ack_timeout_ns(Mlx5QP *qp)
{
    void *ads = MLX5_PRM_PTR(qpc, qp->qpc, primary_address_path);
    unsigned t = MLX5_PRM_GET(ads, ads, ack_timeout);

    /* 0 means forever, which no test can wait for. */
    return 4096ll << (t ? MIN(t, 22) : SMALL_TIMEOUT);
}

/* How long a peer is silent before it counts. */
static int64_t patience_ns(Mlx5QP *qp)
{
    int64_t ns = ack_timeout_ns(qp);
    Mlx5Head head;

    mlx5_ask_head(qp, &head);
    if (!mlx5_link_there(qp->dev) || mlx5_fabric_find(qp->dev, head.dlid)) {
        return ns;
    }
    return MAX(ns, MIN(qp->dev->knob[MLX5_KNOB_LINK_TIMEOUT], INT64_MAX / 4));
}

static void stay_away(Mlx5QP *qp, int64_t ns)
{
    if (mlx5_ask_pending(qp)) {
        qp->request.state = MLX5_REQUEST_LATER;
        qp->request.when = now_ns() + ns;
    }
    mlx5_send_after(qp, ns);
}

/* Silence is an error when it comes too often: false. */
static bool may_retry(Mlx5QP *qp)
{
    if (qp->send.retries++ >= MLX5_PRM_GET(qpc, qp->qpc, retry_count)) {
        mlx5_send_fail(qp, MLX5_CQE_SYNDROME_TRANSPORT_RETRY_EXC_ERR);
        return false;
    }
    mlx5_count(qp->dev, MLX5_COUNTER_RETRIES, 1);
    return true;
}

static void on_rnr(Mlx5QP *qp, int64_t ns)
{
    unsigned allowed = MLX5_PRM_GET(qpc, qp->qpc, rnr_retry);

    if (allowed != INFINITE_RNR && qp->send.rnr++ >= allowed) {
        mlx5_send_fail(qp, MLX5_CQE_SYNDROME_RNR_RETRY_EXC_ERR);
        return;
    }
    mlx5_count(qp->dev, MLX5_COUNTER_RNR_WAITS, 1);
    stay_away(qp, ns);
}

/* True: the step went well. */
static bool on_answer(Mlx5QP *qp, const Mlx5Reply *reply)
{
    if (mlx5_qp_type(qp) == MLX5_QP_ST_UC &&
        reply->answer != MLX5_ANSWER_DONE) {
        /* No answer comes to UC: the rest is sent all the same, and lost. */
        mlx5_send_done(qp, 0);
        mlx5_send_kick(qp);
        return false;
    }
    switch (reply->answer) {
    case MLX5_ANSWER_DONE:
        qp->send.rnr = qp->send.retries = 0;
        mlx5_ask_end(qp);
        return true;
    case MLX5_ANSWER_WAIT:
        /* The page ends it, and this if the peer goes before that. */
        stay_away(qp, MAX(ack_timeout_ns(qp), SCALE_MS));
        break;
    case MLX5_ANSWER_RNR:
        on_rnr(qp, reply->rnr_ns);
        break;
    case MLX5_ANSWER_ACCESS:
        mlx5_send_fail(qp, MLX5_CQE_SYNDROME_REMOTE_ACCESS_ERR);
        break;
    case MLX5_ANSWER_INVALID:
        mlx5_send_fail(qp, MLX5_CQE_SYNDROME_REMOTE_INVAL_REQ_ERR);
        break;
    case MLX5_ANSWER_OPERATION:
        mlx5_send_fail(qp, MLX5_CQE_SYNDROME_REMOTE_OP_ERR);
        break;
    default:
        if (may_retry(qp)) {
            stay_away(qp, patience_ns(qp));
        }
        break;
    }
    return false;
}

/* ---- requests over a link ---- */

/* Numbers grow for ever, also from one life of this process to the next. */
static uint64_t next_seq(void)
{
    static uint64_t seq;

    seq = MAX(seq + 1, (uint64_t)g_get_real_time() * 1000);
    return seq;
}

static void request_send(Mlx5QP *qp)
{
    Mlx5Request *r = &qp->request;
    int64_t ns = patience_ns(qp);

    mlx5_link_request(qp->dev, &r->head, r->data);
    r->state = MLX5_REQUEST_SENT;
    r->when = now_ns() + ns;
    mlx5_send_after(qp, ns);
}

static void request_begin(Mlx5QP *qp, const Mlx5Head *head, const uint8_t *data)
{
    Mlx5Request *r = &qp->request;

    r->head = *head;
    r->head.seq = next_seq();
    r->data = head->opcode == MLX5_OPCODE_RDMA_READ ? NULL :
              g_memdup2(data, head->size);
    request_send(qp);
}

/* Answered, due again, or (after some other event) neither. */
static bool request_step(Mlx5QP *qp, uint8_t *data, Mlx5Reply *reply)
{
    static const Mlx5Reply silence = { .answer = MLX5_ANSWER_SILENCE };
    Mlx5Request *r = &qp->request;
    int64_t left = r->when - now_ns();

    if (r->state == MLX5_REQUEST_ANSWERED) {
        *reply = r->reply;
        if (r->head.opcode == MLX5_OPCODE_RDMA_READ && reply->done) {
            memcpy(data, r->data, reply->done);     /* fits() saw to that */
        }
        return on_answer(qp, reply);
    }
    if (left > 0) {
        mlx5_send_after(qp, left);
        return false;
    }
    if (r->state == MLX5_REQUEST_SENT) {
        if (mlx5_qp_type(qp) == MLX5_QP_ST_UC) {
            return on_answer(qp, &silence);
        }
        if (!may_retry(qp)) {
            return false;
        }
    }
    request_send(qp);
    return false;
}

static bool is_final(const Mlx5Reply *reply)
{
    return reply->answer != MLX5_ANSWER_RNR &&
           reply->answer != MLX5_ANSWER_WAIT;
}

/*
 * Is it the answer to the request, and news?  A final one and AGAIN may follow
 * one that is not final, at once.
 */
static bool expected(const Mlx5Request *r, const Mlx5Head *head,
                     const Mlx5Reply *reply)
{
    if (r->state == MLX5_REQUEST_NONE || head->seq != r->head.seq ||
        head->slid != r->head.dlid || head->sqpn != r->head.dqpn) {
        return false;
    }
    return r->state == MLX5_REQUEST_SENT || (is_final(reply) &&
           !(r->state == MLX5_REQUEST_ANSWERED && is_final(&r->reply)));
}

/* Could a responder say that to it? */
static bool fits(const Mlx5Request *r, const Mlx5Reply *reply, size_t len)
{
    bool done = reply->answer == MLX5_ANSWER_DONE;
    bool read = done && r->head.opcode == MLX5_OPCODE_RDMA_READ;

    return reply->done <= r->head.size && len == (read ? reply->done : 0) &&
           (reply->done ? done : !done || !r->head.size);
}

bool mlx5_ask_answered(Mlx5QP *qp, const Mlx5Head *head, const Mlx5Reply *reply,
                       const uint8_t *data, size_t len)
{
    Mlx5Request *r = &qp->request;

    if (!expected(r, head, reply)) {
        return true;
    }
    if (!fits(r, reply, len)) {
        return false;
    }
    if (reply->answer == MLX5_ANSWER_AGAIN) {
        r->state = MLX5_REQUEST_LATER;
        r->when = now_ns();
    } else {
        r->state = MLX5_REQUEST_ANSWERED;
        r->reply = *reply;
    }
    if (len) {
        g_free(r->data);
        r->data = g_memdup2(data, len);
    }
    mlx5_send_kick(qp);
    return true;
}

void mlx5_ask_end(Mlx5QP *qp)
{
    qp->request.state = MLX5_REQUEST_NONE;
    g_clear_pointer(&qp->request.data, g_free);
}

size_t mlx5_ask_bytes(const Mlx5QP *qp)
{
    return mlx5_link_there(qp->dev) ? MLX5_PIECE : 0;
}

/* ---- the steps ---- */

bool mlx5_ask_ready(Mlx5QP *qp)
{
    Mlx5Reply reply = { .answer = MLX5_ANSWER_SILENCE };
    Mlx5Head head;
    Mlx5Device *to;

    if (mlx5_ask_pending(qp)) {
        return true;
    }
    mlx5_ask_head(qp, &head);
    to = mlx5_fabric_find(qp->dev, head.dlid);
    if (to ? mlx5_recv_ready(to, &head, &reply)
           : mlx5_link_reaches(qp->dev, head.dlid)) {
        return true;
    }
    on_answer(qp, &reply);
    return false;
}

bool mlx5_ask(Mlx5QP *qp, uint8_t *data, uint32_t size, Mlx5Reply *reply)
{
    Mlx5Head head;
    Mlx5Device *to;

    if (mlx5_ask_pending(qp)) {
        return request_step(qp, data, reply);
    }
    mlx5_ask_head(qp, &head);
    head.size = size;
    to = mlx5_fabric_find(qp->dev, head.dlid);
    if (!to) {
        request_begin(qp, &head, data);
        return false;
    }
    mlx5_recv_request(to, &head, data, reply);
    return on_answer(qp, reply);
}
