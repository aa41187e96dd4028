/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Queue pairs, shared receive queues, page faults: what the transport shares.
 *
 * A message is moved in pieces.  The requester owns it from the fetch of its
 * WQE to its completion; the responder's half of its state is in the peer's
 * Mlx5Recv.  Neither keeps a pointer to the other: a piece is described by an
 * Mlx5Head and answered by an Mlx5Reply, which are plain data, and the peer is
 * looked up by (LID, QPN) for each piece.  So a QP may be destroyed at any
 * moment, and the peer may be in another process (mlx5_link.c).  A step that
 * finds a page missing records a fault and stops; the resume runs the requester
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

/* ---- between requester and responder ---- */

enum {
    MLX5_HEAD_FAILING = 1 << 0,         /* the requester is to break: order */
    MLX5_HEAD_SOLICITED = 1 << 1,
    MLX5_HEAD_GRH = 1 << 2,             /* a datagram has one */
    MLX5_HEAD_FLAGS = (1 << 3) - 1,
};

/* One piece of a message, or a datagram: all that the responder knows of it. */
typedef struct Mlx5Head {
    uint64_t seq;                       /* on a link, see mlx5_ask.c */
    uint16_t slid, dlid;
    uint32_t sqpn, dqpn;
    uint8_t transport;                  /* MLX5_QP_ST_* */
    uint8_t opcode;                     /* MLX5_OPCODE_* */
    uint8_t flags;                      /* MLX5_HEAD_* */
    uint16_t pkey;
    uint32_t imm;                       /* big-endian, as found */
    uint32_t srqn;                      /* XRC */
    uint32_t outstanding;               /* a read: of how many, with it */
    uint32_t rkey;
    uint64_t raddr;                     /* of the message */
    uint64_t operand[2];                /* atomics: swap or add, compare */
    uint64_t len;                       /* of the message */
    uint64_t off;                       /* of the piece in it */
    uint32_t size;                      /* bytes that are brought or wanted */
    /* Datagrams. */
    uint32_t q_key, flow_label;
    uint8_t tclass, hop_limit;
    uint8_t dgid[16];
} Mlx5Head;

typedef enum Mlx5Answer {
    MLX5_ANSWER_DONE,
    MLX5_ANSWER_WAIT,                   /* a page is missing: AGAIN follows */
    MLX5_ANSWER_RNR,                    /* no receive WQE, or no page */
    MLX5_ANSWER_SILENCE,                /* nobody there, or not ready */
    MLX5_ANSWER_ACCESS,                 /* NAK: remote access error */
    MLX5_ANSWER_INVALID,                /* NAK: invalid request */
    MLX5_ANSWER_OPERATION,              /* NAK: remote operational error */
    MLX5_ANSWER_AGAIN,                  /* on a link: the page is there */
    MLX5_NR_ANSWERS,
} Mlx5Answer;

typedef struct Mlx5Reply {
    uint8_t answer;                     /* MLX5_ANSWER_* */
    uint32_t done;                      /* bytes of the piece in their place */
    uint32_t rnr_ns;                    /* RNR: how long to stay away */
    uint64_t original;                  /* what an atomic found */
} Mlx5Reply;

/* A piece that goes over a link, until its final answer. */
typedef struct Mlx5Request {
    enum {
        MLX5_REQUEST_NONE,
        MLX5_REQUEST_SENT,              /* silence when "when" has come */
        MLX5_REQUEST_LATER,             /* to be sent again at "when" */
        MLX5_REQUEST_ANSWERED,
    } state;
    int64_t when;
    Mlx5Head head;
    uint8_t *data;                      /* of the request or of its answer */
    Mlx5Reply reply;
} Mlx5Request;

/* The responder's memory of the last piece that came over a link. */
typedef struct Mlx5Seen {
    uint64_t seq;                       /* 0: none */
    uint16_t lid;
    uint32_t qpn;
    bool final;                         /* reply is its answer for good */
    Mlx5Reply reply;
} Mlx5Seen;

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
    Mlx5Request request;                /* of the WQE in .send */
    Mlx5Recv recv;
    Mlx5Seen seen;
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
void mlx5_send_after(Mlx5QP *qp, int64_t ns);
/* The current WQE went well: a completion with so many bytes. */
void mlx5_send_done(Mlx5QP *qp, uint32_t bytes);
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

/* ---- mlx5_ask: the requester's question to its peer ---- */
/* What the current step of the QP asks, but for size. */
void mlx5_ask_head(const Mlx5QP *qp, Mlx5Head *head);
/*
 * A look before local memory is copied: is the peer there, with no page
 * missing?  False: the QP waits, or has failed.
 */
bool mlx5_ask_ready(Mlx5QP *qp);
/* The piece has been asked for: mlx5_ask() needs no data. */
static inline bool mlx5_ask_pending(const Mlx5QP *qp)
{
    return qp->request.state != MLX5_REQUEST_NONE;
}
/*
 * One piece of so many bytes, which data has or is for.  True: reply is DONE.
 * False: the QP waits, or has failed, or all of the message is given up (UC).
 */
bool mlx5_ask(Mlx5QP *qp, uint8_t *data, uint32_t size, Mlx5Reply *reply);
/*
 * An answer came over a link.  False: no responder that is sane makes it.
 * What is not the answer to the QP's request is late, and ignored.
 */
bool mlx5_ask_answered(Mlx5QP *qp, const Mlx5Head *head, const Mlx5Reply *reply,
                       const uint8_t *data, size_t len);
void mlx5_ask_end(Mlx5QP *qp);          /* no answer is waited for any more */
/* What a queue may take for its requests, at most. */
size_t mlx5_ask_bytes(const Mlx5QP *qp);

/* ---- mlx5_recv: the responder ---- */
/* What head names there, if that one is in a state to answer; or NULL. */
Mlx5QP *mlx5_recv_peer(Mlx5Device *dev, const Mlx5Head *head);
/* The same, and no page is missing; false: reply says what the peer says. */
bool mlx5_recv_ready(Mlx5Device *dev, const Mlx5Head *head, Mlx5Reply *reply);
/* One piece: head->size bytes of data, to be put or to be filled in. */
void mlx5_recv_request(Mlx5Device *dev, const Mlx5Head *head, uint8_t *data,
                       Mlx5Reply *reply);
/* A receive WQE for this message, taken now or with its first bytes. */
Mlx5Answer mlx5_recv_begin(Mlx5QP *qp, const Mlx5Head *head);
/* Scatter into that from off on; the bytes that made it. */
Mlx5Answer mlx5_recv_scatter(Mlx5QP *qp, const uint8_t *data, size_t len,
                             uint64_t off, size_t *done);
void mlx5_recv_complete(Mlx5QP *qp, const Mlx5Head *head, uint32_t bytes,
                        uint32_t flags);
bool mlx5_recv_pkey_matches(const Mlx5QP *qp, uint16_t pkey);
/* The next WQE of the QP's own receive queue; false: there is none. */
bool mlx5_recv_take(Mlx5QP *qp, uint8_t *wqe, uint16_t *index);
/* Completes the WQE of qp->recv. */
void mlx5_recv_complete_bad(Mlx5QP *qp, uint8_t syndrome);

/* ---- mlx5_remote: the responder for requesters of another process ---- */
/* The page that the last one waits for is there. */
void mlx5_remote_wake(Mlx5QP *qp);
/* It never will be: that is the answer from now on. */
void mlx5_remote_fail(Mlx5QP *qp, Mlx5Answer answer);

/* ---- mlx5_ud ---- */
/* A whole datagram of head->size bytes; never waits. */
void mlx5_ud_receive(Mlx5Device *dev, uint32_t qpn, const Mlx5Head *head,
                     const uint8_t *data, uint64_t deadline);
/* From the requester to all that it is for. */
void mlx5_ud_send(Mlx5QP *qp);

/* ---- mlx5_sa: a datagram to the subnet manager, from an adapter ---- */
void mlx5_sa_receive(Mlx5Device *dev, const Mlx5Head *head,
                     const uint8_t *data, uint64_t deadline);

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
/* To the members of a group, of this process and that fabric. */
void mlx5_fabric_multicast(Mlx5Device *dev, const Mlx5Head *head,
                           const uint8_t *data, uint64_t deadline);

#endif
