/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What frames from the other end of a link do here.
 *
 * The responder's half of the invariant in mlx5_ask.c: qp->seen is the last
 * request that its peer made over a link.  Its final answer is kept, to be
 * given again; a read's is not, for a read may be made again.  It goes when the
 * queue pair is reset, and not when it breaks: the requester hears why.
 */
#include "mlx5_link.h"
#include "trace.h"

/* ---- requests ---- */

/* The queue pair that is connected to the one that asks. */
static Mlx5QP *connected(Mlx5Device *dev, const Mlx5Head *head)
{
    Mlx5Device *to = mlx5_fabric_find(dev, head->dlid);
    Mlx5QP *qp = to && mlx5_bus_master(to) ? mlx5_qp_get(to, head->dqpn) : NULL;

    return qp && mlx5_qp_type(qp) == head->transport &&
           MLX5_PRM_GET(qpc, qp->qpc, remote_qpn) == head->sqpn &&
           MLX5_PRM_GET(qpc, qp->qpc, primary_address_path.rlid) ==
           head->slid ? qp : NULL;
}

static bool seen_by(const Mlx5Seen *seen, uint16_t lid, uint32_t qpn)
{
    return seen->seq && seen->lid == lid && seen->qpn == qpn;
}

static void answer(Mlx5QP *qp, const Mlx5Reply *reply, const uint8_t *data,
                   size_t len)
{
    Mlx5Frame frame = {
        .type = MLX5_FRAME_ANSWER,
        .head = {
            .seq = qp->seen.seq, .slid = qp->dev->lid, .sqpn = qp->qpn,
            .dlid = qp->seen.lid, .dqpn = qp->seen.qpn,
        },
        .reply = *reply, .data = data, .len = len,
    };

    mlx5_link_answer(qp->dev, &frame);
}

static bool is_final(const Mlx5Head *head, const Mlx5Reply *reply)
{
    return reply->answer != MLX5_ANSWER_WAIT &&
           reply->answer != MLX5_ANSWER_RNR &&
           reply->answer != MLX5_ANSWER_SILENCE &&
           !(head->opcode == MLX5_OPCODE_RDMA_READ &&
             reply->answer == MLX5_ANSWER_DONE);
}

static void execute(Mlx5QP *qp, const Mlx5Frame *frame)
{
    bool read = frame->head.opcode == MLX5_OPCODE_RDMA_READ;
    g_autofree uint8_t *room = read ? g_malloc(frame->head.size) : NULL;
    uint8_t *data = read ? room : (uint8_t *)frame->data;
    Mlx5Reply reply;

    mlx5_recv_request(qp->dev, &frame->head, data, &reply);
    qp->seen.final = is_final(&frame->head, &reply);
    qp->seen.reply = reply;
    if (reply.answer != MLX5_ANSWER_SILENCE) {
        answer(qp, &reply, data,
               read && reply.answer == MLX5_ANSWER_DONE ? reply.done : 0);
    }
}

static void on_request(Mlx5Device *dev, const Mlx5Frame *frame)
{
    const Mlx5Head *head = &frame->head;
    Mlx5QP *qp = connected(dev, head);
    Mlx5Seen *seen;

    if (!qp) {
        return;
    }
    seen = &qp->seen;
    if (!seen_by(seen, head->slid, head->sqpn) || head->seq > seen->seq) {
        *seen = (Mlx5Seen) {
            .seq = head->seq, .lid = head->slid, .qpn = head->sqpn,
        };
    }
    if (head->seq < seen->seq) {
        return;
    }
    if (seen->final) {
        mlx5_count(qp->dev, MLX5_COUNTER_LINK_REPEATS, 1);
        answer(qp, &seen->reply, NULL, 0);
    } else {
        execute(qp, frame);
    }
}

/* Is the last one that asked at the other end of a link? */
static bool is_remote(Mlx5QP *qp)
{
    return seen_by(&qp->seen, qp->recv.src_lid, qp->recv.src_qpn) &&
           !mlx5_fabric_find(qp->dev, qp->recv.src_lid);
}

void mlx5_remote_wake(Mlx5QP *qp)
{
    Mlx5Reply again = { .answer = MLX5_ANSWER_AGAIN };

    if (is_remote(qp)) {
        answer(qp, &again, NULL, 0);
    }
}

void mlx5_remote_fail(Mlx5QP *qp, Mlx5Answer why)
{
    if (is_remote(qp)) {
        qp->seen.final = true;
        qp->seen.reply = (Mlx5Reply) { .answer = why };
        answer(qp, &qp->seen.reply, NULL, 0);
    }
}

/* ---- the others ---- */

static bool on_answer(Mlx5Device *dev, const Mlx5Frame *frame)
{
    Mlx5Device *to = mlx5_fabric_find(dev, frame->head.dlid);
    Mlx5QP *qp = to ? mlx5_qp_get(to, frame->head.dqpn) : NULL;

    return !qp || mlx5_ask_answered(qp, &frame->head, &frame->reply,
                                    frame->data, frame->len);
}

static void on_datagram(Mlx5Device *dev, const Mlx5Frame *frame)
{
    uint64_t deadline = mlx5_work() + MLX5_WORK_WHOLE;
    const Mlx5Head *head = &frame->head;
    Mlx5Device *to;

    if (head->dlid >= MLX5_LID_MULTICAST) {
        mlx5_fabric_multicast(dev, head, frame->data, deadline);
        return;
    }
    to = mlx5_fabric_find(dev, head->dlid);
    if (to) {
        mlx5_ud_receive(to, head->dqpn, head, frame->data, deadline);
    }
}

const char *mlx5_remote_frame(Mlx5Device *dev, const Mlx5Frame *frame)
{
    switch (frame->type) {
    case MLX5_FRAME_REQUEST:
        on_request(dev, frame);
        return NULL;
    case MLX5_FRAME_ANSWER:
        return on_answer(dev, frame) ? NULL :
               "an answer that is not to its request";
    default:
        on_datagram(dev, frame);
        return NULL;
    }
}
