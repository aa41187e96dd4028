/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Frames of a link: their layout, and what a good one looks like.
 *
 * Twelve bytes begin each frame, all numbers are big-endian:
 *
 *   0  u32  magic, "mlx5"          4  u8   version, 1
 *   5  u8   type, MLX5_FRAME_*     6  u16  zero
 *   8  u32  length of what follows
 *
 * Then come the fields of the type's table below, without gaps, and then data.
 * The other process is not trusted.  What can be judged by the frame alone is
 * judged here, so that no head gets further that names bytes outside of its
 * message; mlx5_remote.c judges the rest.
 */
#include "mlx5_link.h"

enum {
    MAGIC = 0x6d6c7835,
    VERSION = 1,
    HEADER = 12,
    MAX_RNR_NS = 1000 * 1000 * 1000,
};

typedef struct Field {
    uint16_t off, size;                 /* in Mlx5Frame */
    bool bytes;                         /* and not a number */
} Field;

#define PLACE(name) \
    { offsetof(Mlx5Frame, name), sizeof(((Mlx5Frame *)0)->name) }
#define BYTES(name) \
    { offsetof(Mlx5Frame, name), sizeof(((Mlx5Frame *)0)->name), true }

static const Field head_fields[] = {
    PLACE(head.seq), PLACE(head.slid), PLACE(head.dlid), PLACE(head.sqpn),
    PLACE(head.dqpn), PLACE(head.transport), PLACE(head.opcode),
    PLACE(head.flags), PLACE(head.pkey), BYTES(head.imm), PLACE(head.srqn),
    PLACE(head.outstanding), PLACE(head.rkey), PLACE(head.raddr),
    PLACE(head.operand[0]), PLACE(head.operand[1]), PLACE(head.len),
    PLACE(head.off), PLACE(head.size), PLACE(head.q_key),
    PLACE(head.flow_label), PLACE(head.tclass), PLACE(head.hop_limit),
    BYTES(head.dgid),
};

static const Field answer_fields[] = {
    PLACE(head.seq), PLACE(head.slid), PLACE(head.dlid), PLACE(head.sqpn),
    PLACE(head.dqpn), PLACE(reply.answer), PLACE(reply.done),
    PLACE(reply.rnr_ns), PLACE(reply.original),
};

typedef struct Layout {
    const Field *fields;
    size_t nr;
} Layout;

static Layout layout_of(uint8_t type)
{
    switch (type) {
    case MLX5_FRAME_HELLO:
        return (Layout) { };
    case MLX5_FRAME_ANSWER:
        return (Layout) { answer_fields, ARRAY_SIZE(answer_fields) };
    default:
        return (Layout) { head_fields, ARRAY_SIZE(head_fields) };
    }
}

static size_t layout_bytes(Layout layout)
{
    size_t bytes = 0;

    for (size_t i = 0; i < layout.nr; i++) {
        bytes += layout.fields[i].size;
    }
    return bytes;
}

size_t mlx5_wire_longest(void)
{
    /* More LIDs than adapters fit into a process. */
    return HEADER + layout_bytes(layout_of(MLX5_FRAME_REQUEST)) + MLX5_PIECE;
}

/* ---- writing ---- */

void mlx5_wire_put(GByteArray *to, const Mlx5Frame *frame)
{
    Layout layout = layout_of(frame->type);
    size_t at = to->len, fixed = HEADER + layout_bytes(layout);
    uint8_t *p;

    g_byte_array_set_size(to, at + fixed);
    p = to->data + at;
    stl_be_p(p, MAGIC);
    p[4] = VERSION;
    p[5] = frame->type;
    stw_be_p(p + 6, 0);
    stl_be_p(p + 8, fixed - HEADER + frame->len);
    p += HEADER;
    for (size_t i = 0; i < layout.nr; i++) {
        const uint8_t *from = (const uint8_t *)frame + layout.fields[i].off;
        size_t size = layout.fields[i].size;

        if (layout.fields[i].bytes) {
            memcpy(p, from, size);
        } else {
            stn_be_p(p, size, ldn_he_p(from, size));
        }
        p += size;
    }
    if (frame->len) {
        g_byte_array_append(to, frame->data, frame->len);
    }
}

/* ---- reading ---- */

/* A message of a connected transport that has that operation. */
static bool operation_good(const Mlx5Head *h)
{
    bool uc = h->transport == MLX5_QP_ST_UC;

    if (!uc && h->transport != MLX5_QP_ST_RC &&
        h->transport != MLX5_QP_ST_XRC) {
        return false;
    }
    switch (h->opcode) {
    case MLX5_OPCODE_SEND:
    case MLX5_OPCODE_SEND_IMM:
    case MLX5_OPCODE_SEND_INVAL:
    case MLX5_OPCODE_RDMA_WRITE:
    case MLX5_OPCODE_RDMA_WRITE_IMM:
        return true;
    case MLX5_OPCODE_RDMA_READ:
    case MLX5_OPCODE_ATOMIC_CS:
    case MLX5_OPCODE_ATOMIC_FA:
        return !uc;
    default:
        return false;
    }
}

static bool datagram_operation_good(const Mlx5Head *h)
{
    return (h->transport == MLX5_QP_ST_UD || h->transport == MLX5_QP_ST_QP0 ||
            h->transport == MLX5_QP_ST_QP1) &&
           (h->opcode == MLX5_OPCODE_SEND ||
            h->opcode == MLX5_OPCODE_SEND_IMM ||
            h->opcode == MLX5_OPCODE_SEND_INVAL);
}

static bool is_atomic(const Mlx5Head *h)
{
    return h->opcode == MLX5_OPCODE_ATOMIC_CS ||
           h->opcode == MLX5_OPCODE_ATOMIC_FA;
}

static const char *request_bad(const Mlx5Frame *f)
{
    const Mlx5Head *h = &f->head;

    if (!operation_good(h)) {
        return "an operation that there is not";
    }
    if (!h->seq || h->flags & ~MLX5_HEAD_FLAGS) {
        return "a number or flags that there are not";
    }
    if (h->len > (uint64_t)MLX5_MAX_SGES << 31 || h->off > h->len ||
        h->size > h->len - h->off || h->size > MLX5_PIECE ||
        (is_atomic(h) && h->size) || (!h->size && h->off < h->len &&
                                      !is_atomic(h))) {
        return "a piece that is not in its message";
    }
    if (f->len != (h->opcode == MLX5_OPCODE_RDMA_READ ? 0 : h->size)) {
        return "a piece that is longer or shorter than its data";
    }
    return NULL;
}

static const char *datagram_bad(const Mlx5Frame *f)
{
    const Mlx5Head *h = &f->head;

    if (!datagram_operation_good(h) || h->flags & ~MLX5_HEAD_FLAGS) {
        return "an operation that there is not";
    }
    if (h->size > MLX5_UD_MTU || h->len != h->size || h->off ||
        f->len != h->size || h->flow_label >> 20) {
        return "a datagram that is too long";
    }
    return NULL;
}

static const char *answer_bad(const Mlx5Frame *f)
{
    if (f->reply.answer >= MLX5_NR_ANSWERS ||
        f->reply.answer == MLX5_ANSWER_SILENCE ||
        f->reply.rnr_ns > MAX_RNR_NS) {
        return "an answer that there is not";
    }
    return NULL;
}

static const char *frame_bad(const Mlx5Frame *f)
{
    switch (f->type) {
    case MLX5_FRAME_HELLO:
        return f->len % 2 ? "half a LID" : NULL;
    case MLX5_FRAME_REQUEST:
        return request_bad(f);
    case MLX5_FRAME_ANSWER:
        return answer_bad(f);
    default:
        return datagram_bad(f);
    }
}

static void get_fields(const uint8_t *p, Layout layout, Mlx5Frame *frame)
{
    for (size_t i = 0; i < layout.nr; i++) {
        uint8_t *to = (uint8_t *)frame + layout.fields[i].off;
        size_t size = layout.fields[i].size;

        if (layout.fields[i].bytes) {
            memcpy(to, p, size);
        } else {
            stn_he_p(to, size, ldn_be_p(p, size));
        }
        p += size;
    }
}

ssize_t mlx5_wire_get(const uint8_t *buf, size_t len, Mlx5Frame *frame,
                      const char **why)
{
    size_t body, fixed;
    Layout layout;

    if (len < HEADER) {
        return 0;
    }
    body = ldl_be_p(buf + 8);
    *frame = (Mlx5Frame) { .type = buf[5] };
    layout = layout_of(frame->type);
    fixed = layout_bytes(layout);
    *why = ldl_be_p(buf) != MAGIC || buf[4] != VERSION || lduw_be_p(buf + 6) ?
           "no frame of this version" :
           frame->type < MLX5_FRAME_HELLO ||
           frame->type > MLX5_FRAME_DATAGRAM ? "a type that there is not" :
           body < fixed || body > mlx5_wire_longest() - HEADER ?
           "a frame that is too long or too short" : NULL;
    if (*why) {
        return -1;
    }
    if (len - HEADER < body) {
        return 0;
    }
    get_fields(buf + HEADER, layout, frame);
    frame->data = buf + HEADER + fixed;
    frame->len = body - fixed;
    *why = frame_bad(frame);
    return *why ? -1 : HEADER + body;
}
