/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Queue pairs, shared receive queues, page faults: what the transport shares.
 *
 * A message is moved in pieces.  The requester owns it from the fetch of its
 * WQE to its completion; the responder's half of its state is in the peer's
 * Mlx5Recv.  Neither keeps a pointer to the other: every step looks the peer
 * up by (LID, QPN), so a QP may be destroyed at any moment.  A step that finds
 * a page missing records a fault and stops; the resume runs the requester
 * again, which goes on at the byte where it stopped.
 */
#ifndef HW_RDMA_MLX5_QP_H
#define HW_RDMA_MLX5_QP_H

#include "mlx5_xlt.h"

enum {
    MLX5_MAX_WQE = 1024,
    MLX5_MAX_SGES = 64,
    MLX5_PIECE = 64 * KiB,              /* copied at a time */
    MLX5_GRH = 40,
    MLX5_UD_MTU = 4096,
    MLX5_BF_BUFFER = 256,               /* of a UAR's: the longest WQE there */
};

typedef struct Mlx5Sge {
    uint64_t va;
    uint32_t key;
    uint32_t len;
    const uint8_t *data;                /* inline: no key */
} Mlx5Sge;

typedef struct Mlx5SgList {
    Mlx5Sge sge[MLX5_MAX_SGES];
    unsigned nr;
    uint64_t len;
} Mlx5SgList;

/* A receive WQE that a message is being put into. */
typedef struct Mlx5Recv {
    bool active;
    uint32_t src_qpn;                   /* whom to wake after a fault */
    uint16_t src_lid;
    uint32_t srqn;                      /* 0: the QP's own queue */
    uint16_t wqe_index;
    Mlx5SgList sgl;
} Mlx5Recv;

typedef struct Mlx5Order Mlx5Order;

/* A SQ WQE in progress. */
typedef struct Mlx5Send {
    bool active;
    Mlx5Order *order;                   /* where its completion belongs */
    unsigned outstanding;               /* a read: of how many, with it */
    uint8_t wqe[MLX5_MAX_WQE];
    size_t wqe_len;
    uint8_t opcode;
    uint16_t index;                     /* as in the WQE and its CQE */
    uint8_t flags;                      /* fm_ce_se */
    uint32_t imm;                       /* big-endian, as found */
    uint32_t xrc_srqn;
    struct mlx5_av av;                  /* UD */
    uint64_t raddr;
    uint32_t rkey;
    uint64_t operand[2];                /* atomics: swap or add, compare */
    uint64_t original;                  /* what an atomic found */
    bool executed;                      /* an atomic's change is made */
    unsigned rnr, retries;
    Mlx5SgList sgl;
    uint64_t done;                      /* bytes that are where they belong */
    uint8_t datagram[MLX5_UD_MTU];      /* UD: those bytes */
} Mlx5Send;

/* A UMR WQE that takes its time, beside others of its queue. */
typedef struct Mlx5UmrWqe {
    QSIMPLEQ_ENTRY(Mlx5UmrWqe) entry;
    int64_t when;
    uint8_t wqe[MLX5_MAX_WQE];
    size_t wqe_len;
    Mlx5Order *order;
} Mlx5UmrWqe;

/* A WQE from a UAR that waits for its turn. */
typedef struct Mlx5BfWqe {
    QSIMPLEQ_ENTRY(Mlx5BfWqe) entry;
    uint16_t index;
    size_t len;                         /* whole blocks */
    uint8_t wqe[MLX5_BF_BUFFER];
} Mlx5BfWqe;

enum { MLX5_SIDE_SEND, MLX5_SIDE_RECV, MLX5_SIDES };

typedef struct Mlx5Fault Mlx5Fault;

struct Mlx5QP {
    Mlx5Obj obj;
    Mlx5Device *dev;
    uint8_t qpc[MLX5_BYTES(qpc)];       /* as created and modified */
    uint32_t qpn;
    uint8_t state;                      /* MLX5_QP_STATE_* */
    Mlx5Buf buf;
    Mlx5Dbr dbr;
    uint64_t sq_offset;
    uint32_t rq_entries, rq_stride, sq_entries;
    uint16_t sq_ci, rq_ci;              /* WQEs taken, blocks for the SQ */
    uint16_t sq_known;                  /* producer index at the last look */
    QSIMPLEQ_HEAD(, Mlx5BfWqe) bf_wqes; /* from sq_ci on, without a gap */
    unsigned nr_bf_wqes;

    QEMUTimer *timer;                   /* runs the requester */
    QTAILQ_ENTRY(Mlx5QP) flush_entry;   /* in error: receives may come late */
    bool flushed;                       /* it is in that list */
    QEMUTimer *umr_timer;
    QSIMPLEQ_HEAD(, Mlx5UmrWqe) umrs;
    QSIMPLEQ_HEAD(, Mlx5Order) order;   /* taken WQEs, completions due */
    unsigned nr_order;
    GQueue reads;                       /* Mlx5Send: put aside, in order */
    unsigned nr_reads;
    Mlx5Send *waiting;                  /* the last one taken, for a fence */
    bool failing;                       /* one of .order has failed */
    Mlx5Send send;
    Mlx5Recv recv;
    Mlx5Fault *fault[MLX5_SIDES];       /* outstanding, one a side at most */
};

struct Mlx5SRQ {
    Mlx5Obj obj;
    Mlx5Device *dev;
    uint32_t srqn, pdn, cqn, xrcd, user_index;
    bool xrc;
    bool cyclic;                        /* a ring, not a list */
    bool basic;                         /* its WQEs name no next one */
    Mlx5Buf buf;
    Mlx5Dbr dbr;
    uint32_t entries, stride;
    uint16_t head;                      /* the next WQE's slot */
    uint16_t taken;                     /* WQEs taken since creation */
    uint16_t lwm;
    bool armed, error;
    uint8_t context[MLX5_BYTES(wq)];    /* for queries, with its own layout */
};

static inline uint8_t mlx5_qp_type(const Mlx5QP *qp)
{
    return MLX5_PRM_GET(qpc, qp->qpc, st);
}

static inline bool mlx5_qp_is_ud(const Mlx5QP *qp)
{
    uint8_t type = mlx5_qp_type(qp);

    return type == MLX5_QP_ST_UD || type == MLX5_QP_ST_QP0 ||
           type == MLX5_QP_ST_QP1;
}

/* A send queue by itself: a queue pair of a type that CREATE_QP refuses. */
static inline bool mlx5_qp_is_sq(const Mlx5QP *qp)
{
    return mlx5_qp_type(qp) == MLX5_QP_ST_RAW_ETHERTYPE;
}

/* ---- mlx5_qp ---- */
/* Not a send queue by itself. */
Mlx5QP *mlx5_qp_get(Mlx5Device *dev, uint32_t qpn);
/* In reset, without a number.  Until it has one, it ends by mlx5_obj_put(). */
Mlx5QP *mlx5_qp_new(Mlx5Device *dev, const Mlx5Cmd *cmd);
void mlx5_qp_set_state(Mlx5QP *qp, uint8_t state);
void mlx5_qp_to_reset(Mlx5QP *qp);
/* To the error state: work is flushed, the driver hears of event if not 0. */
void mlx5_qp_error(Mlx5QP *qp, uint8_t event);
bool mlx5_qp_has_srq(const Mlx5QP *qp);

/* ---- mlx5_send ---- */
/* The queue that a doorbell in that UAR addresses, or NULL. */
Mlx5QP *mlx5_sq_find(Mlx5Device *dev, uint32_t uar, uint64_t doorbell);
void mlx5_send_kick(Mlx5QP *qp);        /* run soon */
void mlx5_send_timer(void *qp);
void mlx5_send_reset(Mlx5QP *qp);
/* The current WQE fails, which breaks the QP when its completion is due. */
void mlx5_send_fail(Mlx5QP *qp, uint8_t syndrome);

/* ---- mlx5_order ---- */
/* What a queue may take for its WQEs in progress, at most. */
size_t mlx5_order_bytes(const Mlx5QP *qp);
bool mlx5_order_full(const Mlx5QP *qp); /* others have to be completed first */
/* One more completion is due, after those before. */
Mlx5Order *mlx5_order_add(Mlx5QP *qp, uint8_t opcode, uint16_t index,
                          uint8_t flags);
void mlx5_order_done(Mlx5QP *qp, Mlx5Order *order, uint32_t bytes);
void mlx5_order_fail(Mlx5QP *qp, Mlx5Order *order, uint8_t syndrome);
/* Completes the oldest with an error; false: there is none. */
bool mlx5_order_flush(Mlx5QP *qp);
/* The current WQE, not begun yet, is put aside; false: it is its turn. */
bool mlx5_order_aside(Mlx5QP *qp);
/* One that was put aside becomes current; idle: no other can. */
bool mlx5_order_next(Mlx5QP *qp, bool idle);
void mlx5_order_drop(Mlx5QP *qp);       /* work; completions are still due */
void mlx5_order_reset(Mlx5QP *qp);      /* these as well */

/* ---- mlx5_bf ---- */
/* The WQE at sq_ci, of at most MLX5_BF_BUFFER bytes; false: see memory. */
bool mlx5_bf_take(Mlx5QP *qp, uint8_t *wqe);
void mlx5_bf_drop(Mlx5QP *qp);          /* all that it has */

/* ---- mlx5_wqe: parsing ---- */
bool mlx5_wqe_parse_send(Mlx5QP *qp, Mlx5Send *send);
bool mlx5_wqe_parse_recv(Mlx5SgList *list, const uint8_t *wqe, size_t len);

/* ---- mlx5_sgl: between a list of segments and a buffer ---- */
/* May stop short, as mlx5_mem_copy() does. */
Mlx5Result mlx5_sgl_copy(Mlx5Device *dev, const Mlx5Access *access,
                         const Mlx5SgList *list, uint64_t off, void *buf,
                         size_t len, size_t *done, Mlx5Missing *missing);

/* ---- mlx5_recv: the responder, called by the requester's steps ---- */
typedef enum Mlx5Answer {
    MLX5_ANSWER_DONE,
    MLX5_ANSWER_WAIT,                   /* a page is missing */
    MLX5_ANSWER_RNR,                    /* no receive WQE */
    MLX5_ANSWER_SILENCE,                /* nobody there, or not ready */
    MLX5_ANSWER_ACCESS,                 /* NAK: remote access error */
    MLX5_ANSWER_INVALID,                /* NAK: invalid request */
    MLX5_ANSWER_OPERATION,              /* NAK: remote operational error */
} Mlx5Answer;

typedef struct Mlx5Packet {
    Mlx5QP *from;
    Mlx5Send *send;
    uint8_t *data;
    size_t len;                         /* of data */
    uint64_t off;                       /* of data in the message */
    uint64_t deadline;                  /* UD: mlx5_work() to stop at */
    size_t done;                        /* out: bytes of data consumed */
} Mlx5Packet;

Mlx5QP *mlx5_recv_peer(Mlx5QP *from);
Mlx5Answer mlx5_recv_send(Mlx5QP *qp, Mlx5Packet *p);
Mlx5Answer mlx5_recv_write(Mlx5QP *qp, Mlx5Packet *p);
Mlx5Answer mlx5_recv_read(Mlx5QP *qp, Mlx5Packet *p);
Mlx5Answer mlx5_recv_atomic(Mlx5QP *qp, Mlx5Packet *p);
/* A whole datagram of p->len bytes; never waits. */
void mlx5_recv_datagram(Mlx5Device *dev, uint32_t qpn, Mlx5Packet *p);
/* RC: how long a sender waits after RNR, ns. */
int64_t mlx5_recv_rnr_ns(Mlx5QP *qp);
/* The next WQE of the QP's own receive queue; false: there is none. */
bool mlx5_recv_take(Mlx5QP *qp, uint8_t *wqe, uint16_t *index);
/* Completes the WQE of qp->recv. */
void mlx5_recv_complete_bad(Mlx5QP *qp, uint8_t syndrome);

/* ---- mlx5_flush ---- */
/* In error: receives are completed, now and later until the end of that. */
void mlx5_flush_begin(Mlx5QP *qp);
void mlx5_flush_end(Mlx5QP *qp);
void mlx5_flush_timer(void *dev);

/* ---- mlx5_srq ---- */
Mlx5SRQ *mlx5_srq_get(Mlx5Device *dev, uint32_t srqn);
/* Takes the next WQE: false when there is none. */
bool mlx5_srq_take(Mlx5SRQ *srq, uint8_t *wqe, uint16_t *index);
/* Bytes in front of a WQE's list of segments. */
size_t mlx5_srq_wqe_head(const Mlx5SRQ *srq);

/* ---- mlx5_umr ---- */
void mlx5_umr_start(Mlx5QP *qp);        /* takes the current WQE over */
void mlx5_umr_timer(void *qp);
void mlx5_umr_reset(Mlx5QP *qp);
/* Send with invalidate: false when the key cannot be invalidated so. */
bool mlx5_umr_invalidate(Mlx5Device *dev, uint32_t key, uint32_t pdn);

/* ---- mlx5_fault ---- */
typedef struct Mlx5FaultInfo {
    uint8_t subtype;                    /* MLX5_PFAULT_SUBTYPE_* */
    uint8_t type;                       /* MLX5_WQE_PF_TYPE_* */
    uint32_t wq;                        /* QPN or SRQN: WQE faults */
    uint16_t wqe_index;
    uint32_t committed;
    uint32_t packet_len;
    uint32_t key, op_len;               /* RDMA faults; memory faults: pages */
    uint64_t va;
    bool more;                          /* memory faults: not the last event */
} Mlx5FaultInfo;

/* The QP's side waits from now on until the driver resumes it. */
void mlx5_fault_raise(Mlx5QP *qp, int side, const Mlx5FaultInfo *info,
                      const Mlx5Missing *missing);
void mlx5_fault_cancel(Mlx5QP *qp);
/* The driver gave up on a fault of that side; mlx5_send and mlx5_recv do it. */
void mlx5_send_fault_failed(Mlx5QP *qp);
void mlx5_recv_fault_failed(Mlx5QP *qp);

/* ---- mlx5_fabric ---- */
Mlx5Device *mlx5_fabric_find(Mlx5Device *dev, uint16_t lid);
void mlx5_fabric_multicast(Mlx5Packet *p);

#endif
