/* SPDX-License-Identifier: GPL-2.0 */
/*
 * WQEs into lists of segments, and copies between such a list and a buffer.
 *
 *   control | XRC | datagram | remote address | atomic | data or inline ...
 *
 * Whatever the guest wrote is bounded here: a WQE that does not parse is an
 * error of its QP.
 */
#include "mlx5_qp.h"
#include "trace.h"

enum {
    INLINE_SEG = 1u << 31,
    COUNT_ZERO = 1u << 31,              /* bytes that a count of 0 stands for */
    EXTENDED_AV = 1u << 31,             /* the datagram segment is 48 bytes */
    DS = 16,
};

typedef struct Cursor {
    const uint8_t *at, *end;
} Cursor;

static const void *take(Cursor *c, size_t n)
{
    const uint8_t *at = c->at;

    if ((size_t)(c->end - at) < n) {
        return NULL;
    }
    c->at += n;
    return at;
}

static bool add_sge(Mlx5SgList *list, Mlx5Sge sge)
{
    if (list->nr == MLX5_MAX_SGES) {
        return false;
    }
    if (sge.len) {
        list->sge[list->nr++] = sge;
        list->len += sge.len;
    }
    return true;
}

static bool parse_inline(Cursor *c, Mlx5SgList *list, uint32_t count)
{
    Mlx5Sge sge = {
        .data = c->at + 4,
        .len = count & MLX5_WQE_INLINE_SEG_BYTE_COUNT_MASK,
    };

    return take(c, ROUND_UP(4 + sge.len, DS)) && add_sge(list, sge);
}

/* To the end of the WQE, or to the key that ends a receive's list. */
static bool parse_data(Cursor *c, Mlx5SgList *list, bool recv)
{
    const struct mlx5_wqe_data_seg *data;
    uint32_t count;
    Mlx5Sge sge;

    while (c->end - c->at >= DS) {
        data = (const void *)c->at;
        count = be32_to_cpu(data->byte_count);
        if (count & INLINE_SEG) {
            if (!parse_inline(c, list, count)) {
                return false;
            }
            continue;
        }
        take(c, DS);
        sge = (Mlx5Sge) {
            .va = be64_to_cpu(data->addr), .len = count,
            .key = be32_to_cpu(data->lkey),
        };
        if (recv && sge.key == MLX5_TERMINATE_LKEY) {
            return true;
        }
        sge.len = count ?: COUNT_ZERO;
        if (!add_sge(list, sge)) {
            return false;
        }
    }
    return true;
}

static bool parse_av(Cursor *c, Mlx5Send *send)
{
    const struct mlx5_base_av *base = take(c, sizeof(*base));

    if (!base) {
        return false;
    }
    memset(&send->av, 0, sizeof(send->av));
    memcpy(&send->av, base, sizeof(*base));
    if (!(be32_to_cpu(base->dqp_dct) & EXTENDED_AV)) {
        return true;
    }
    if (!take(c, sizeof(send->av) - sizeof(*base))) {
        return false;
    }
    memcpy(&send->av, base, sizeof(send->av));
    return true;
}

static bool parse_raddr(Cursor *c, Mlx5Send *send)
{
    const struct mlx5_wqe_raddr_seg *seg = take(c, sizeof(*seg));

    if (seg) {
        send->raddr = be64_to_cpu(seg->raddr);
        send->rkey = be32_to_cpu(seg->rkey);
    }
    return seg;
}

static bool parse_atomic(Cursor *c, Mlx5Send *send)
{
    const struct mlx5_wqe_atomic_seg *seg;

    if (!parse_raddr(c, send)) {
        return false;
    }
    seg = take(c, sizeof(*seg));
    if (seg) {
        send->operand[0] = be64_to_cpu(seg->swap_add);
        send->operand[1] = be64_to_cpu(seg->compare);
    }
    return seg;
}

/* Does its service have a response for data to come back in? */
static bool answers(const Mlx5QP *qp)
{
    return !mlx5_qp_is_ud(qp) && mlx5_qp_type(qp) != MLX5_QP_ST_UC;
}

static bool parse_operation(Mlx5QP *qp, Cursor *c, Mlx5Send *send)
{
    if (mlx5_qp_is_sq(qp) && send->opcode != MLX5_OPCODE_NOP) {
        return false;
    }
    switch (send->opcode) {
    case MLX5_OPCODE_NOP:
        c->at = c->end;
        return true;
    case MLX5_OPCODE_SEND:
    case MLX5_OPCODE_SEND_IMM:
    case MLX5_OPCODE_SEND_INVAL:
        return true;
    case MLX5_OPCODE_RDMA_WRITE:
    case MLX5_OPCODE_RDMA_WRITE_IMM:
        return !mlx5_qp_is_ud(qp) && parse_raddr(c, send);
    case MLX5_OPCODE_RDMA_READ:
        return answers(qp) && parse_raddr(c, send);
    case MLX5_OPCODE_ATOMIC_CS:
    case MLX5_OPCODE_ATOMIC_FA:
        return answers(qp) && parse_atomic(c, send);
    default:
        return false;
    }
}

bool mlx5_wqe_parse_send(Mlx5QP *qp, Mlx5Send *send)
{
    Cursor c = { send->wqe, send->wqe + send->wqe_len };
    const struct mlx5_wqe_ctrl_seg *ctrl = take(&c, sizeof(*ctrl));
    const struct mlx5_wqe_xrc_seg *xrc;

    if (!ctrl) {
        return false;
    }
    send->imm = ctrl->imm;
    send->sgl.nr = 0;
    send->sgl.len = 0;
    if (mlx5_qp_type(qp) == MLX5_QP_ST_XRC) {
        xrc = take(&c, sizeof(*xrc));
        if (!xrc) {
            return false;
        }
        send->xrc_srqn = be32_to_cpu(xrc->xrc_srqn) & 0xffffff;
    }
    if (mlx5_qp_is_ud(qp) && send->opcode != MLX5_OPCODE_NOP &&
        !parse_av(&c, send)) {
        return false;
    }
    return parse_operation(qp, &c, send) && parse_data(&c, &send->sgl, false);
}

bool mlx5_wqe_parse_recv(Mlx5SgList *list, const uint8_t *wqe, size_t len)
{
    Cursor c = { wqe, wqe + len };

    list->nr = 0;
    list->len = 0;
    return parse_data(&c, list, true);
}

Mlx5Result mlx5_sgl_copy(Mlx5Device *dev, const Mlx5Access *access,
                         const Mlx5SgList *list, uint64_t off, void *buf,
                         size_t len, size_t *done, Mlx5Missing *missing)
{
    Mlx5Result result = MLX5_OK;
    uint64_t start = mlx5_work();

    *done = 0;
    for (unsigned i = 0; i < list->nr && *done < len &&
         mlx5_work() - start < MLX5_WORK_COPY; i++) {
        const Mlx5Sge *sge = &list->sge[i];
        uint8_t *to = (uint8_t *)buf + *done;
        size_t n, part;

        if (off >= sge->len) {
            off -= sge->len;
            continue;
        }
        n = MIN(sge->len - off, len - *done);
        if (sge->data) {
            if (access->write) {
                return MLX5_DENIED;
            }
            memcpy(to, sge->data + off, n);
            part = n;
        } else {
            result = mlx5_mem_copy(dev, access, sge->key, sge->va + off, to, n,
                                   &part, missing);
        }
        *done += part;
        off = 0;
        if (result != MLX5_OK || part < n) {
            break;
        }
    }
    return result;
}
