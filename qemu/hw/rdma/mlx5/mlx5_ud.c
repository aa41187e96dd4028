/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Datagrams: to a queue pair, to a multicast group, and what they do there.
 *
 * A datagram is delivered whole or not at all, and its sender hears of neither.
 * One that has no receive is dropped.  Its receive does not fault: a page that
 * is missing breaks the queue pair.
 */
#include "mlx5_link.h"

/* ---- the receiver ---- */

static void make_grh(uint8_t *grh, const Mlx5Head *head)
{
    memset(grh, 0, MLX5_GRH);
    stl_be_p(grh, 6u << 28 | head->tclass << 20 | head->flow_label);
    /* What follows: BTH, DETH, the payload, CRC. */
    stw_be_p(grh + 4, 12 + 8 + ROUND_UP(head->size, 4) + 4);
    grh[6] = 0x1b;
    grh[7] = head->hop_limit;
    mlx5_fabric_gid(head->slid, grh + 8);
    memcpy(grh + 24, head->dgid, 16);
}

static bool accepts(Mlx5QP *qp, const Mlx5Head *head, uint64_t deadline)
{
    return mlx5_qp_is_ud(qp) &&
           head->q_key == MLX5_PRM_GET(qpc, qp->qpc, q_key) &&
           mlx5_recv_pkey_matches(qp, head->pkey) &&
           mlx5_work() <= deadline &&
           (qp->state == MLX5_QP_STATE_RTR || qp->state == MLX5_QP_STATE_RTS) &&
           mlx5_recv_begin(qp, head) == MLX5_ANSWER_DONE;
}

/* All of it from off on; false: the queue pair is broken. */
static bool scatter(Mlx5QP *qp, const uint8_t *data, size_t len, uint64_t off)
{
    uint64_t start = mlx5_work();
    size_t done;

    while (len) {
        if (mlx5_work() - start > MLX5_WORK_WHOLE) {
            mlx5_recv_complete_bad(qp, MLX5_CQE_SYNDROME_LOCAL_PROT_ERR);
            mlx5_qp_error(qp, 0);
            return false;
        }
        if (mlx5_recv_scatter(qp, data, len, off, &done) !=
            MLX5_ANSWER_DONE) {
            return false;
        }
        off += done;
        data += done;
        len -= done;
    }
    return true;
}

static void receive(Mlx5QP *qp, const Mlx5Head *head, const uint8_t *data)
{
    bool grh = head->flags & MLX5_HEAD_GRH;
    uint8_t whole[MLX5_GRH + MLX5_UD_MTU];
    Mlx5Head as_seen = *head;

    if (head->size + MLX5_GRH > qp->recv.sgl.len) {
        mlx5_recv_complete_bad(qp, MLX5_CQE_SYNDROME_LOCAL_LENGTH_ERR);
        mlx5_qp_error(qp, 0);
        return;
    }
    if (grh) {
        make_grh(whole, head);
        memcpy(whole + MLX5_GRH, data, head->size);
    }
    /* Without a GRH its 40 bytes are left as they are. */
    if (!(grh ? scatter(qp, whole, MLX5_GRH + head->size, 0)
              : scatter(qp, data, head->size, MLX5_GRH))) {
        return;
    }
    if (mlx5_qp_type(qp) == MLX5_QP_ST_QP1) {
        as_seen.imm = cpu_to_be32(0xffff);      /* the P_Key */
    }
    mlx5_recv_complete(qp, &as_seen, head->size + MLX5_GRH,
                       grh ? 1u << 28 : 0);
}

static void find_gsi(gpointer key, gpointer value, gpointer found)
{
    Mlx5QP *qp = value;

    if (mlx5_qp_type(qp) == MLX5_QP_ST_QP1) {
        *(Mlx5QP **)found = qp;
    }
}

void mlx5_ud_receive(Mlx5Device *dev, uint32_t qpn, const Mlx5Head *head,
                     const uint8_t *data, uint64_t deadline)
{
    Mlx5QP *qp = NULL;

    if (qpn == 1) {
        g_hash_table_foreach(dev->qps.objs, find_gsi, &qp);
    } else {
        qp = mlx5_qp_get(dev, qpn);
    }
    if (qp && mlx5_bus_master(dev) && accepts(qp, head, deadline)) {
        receive(qp, head, data);
    } else {
        mlx5_count(dev, MLX5_COUNTER_DROPS, 1);
    }
}

/* ---- the sender ---- */

/* The queue pair's own key stands in for those of the highest bit. */
static uint32_t q_key(const Mlx5QP *qp)
{
    uint32_t key = be32_to_cpu(qp->send.av.key.qkey.qkey);

    return key >> 31 ? MLX5_PRM_GET(qpc, qp->qpc, q_key) : key;
}

static void make_head(const Mlx5QP *qp, Mlx5Head *head)
{
    const struct mlx5_av *av = &qp->send.av;
    uint32_t grh = be32_to_cpu(av->grh_gid_fl);

    mlx5_ask_head(qp, head);
    head->dlid = be16_to_cpu(av->rlid);
    head->dqpn = be32_to_cpu(av->dqp_dct) & 0xffffff;
    head->off = 0;
    head->size = qp->send.sgl.len;
    head->flags |= grh >> 30 & 1 ? MLX5_HEAD_GRH : 0;
    head->flow_label = grh & 0xfffff;
    head->tclass = av->tclass;
    head->hop_limit = av->hop_limit;
    head->q_key = q_key(qp);
    memcpy(head->dgid, av->rgid, 16);
}

void mlx5_ud_send(Mlx5QP *qp)
{
    uint64_t deadline = mlx5_work() + MLX5_WORK_WHOLE;
    const uint8_t *data = qp->send.datagram;
    Mlx5Device *to;
    Mlx5Head head;

    make_head(qp, &head);
    to = mlx5_fabric_find(qp->dev, head.dlid);
    if (head.dlid == MLX5_LID_SM) {
        mlx5_sa_receive(qp->dev, &head, data, deadline);
    } else if (head.dlid >= MLX5_LID_MULTICAST) {
        mlx5_fabric_multicast(qp->dev, &head, data, deadline);
        mlx5_link_datagram(qp->dev, &head, data);
    } else if (to) {
        mlx5_ud_receive(to, head.dqpn, &head, data, deadline);
    } else {
        mlx5_link_datagram(qp->dev, &head, data);
    }
}
