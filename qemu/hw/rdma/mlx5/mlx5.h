/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A ConnectX-5 virtual function: what its parts share.
 *
 *   mlx5_pci        bus glue: BARs, interrupts, reset, FLR, removal
 *   mlx5_cmd        command interface: mailboxes, dispatch, completion
 *   mlx5_caps       capabilities, vport, port registers
 *   mlx5_obj        objects by number: tables, owners, users
 *   mlx5_pages      pages that the driver lends, and the firmware's health
 *   mlx5_res        protection and transport domains, UARs, contexts, umems
 *   mlx5_eq, _cq    event and completion queues
 *   mlx5_mkey       memory keys and their translations
 *   mlx5_xlt        from (key, address) to DMA
 *   mlx5_umr        WQEs that change a memory key
 *   mlx5_qp, _srq   queue pairs and shared receive queues
 *   mlx5_sq         send queues by themselves
 *   mlx5_bf         WQEs that are stored to a UAR
 *   mlx5_send       the requester
 *   mlx5_order      what overtakes what in it, and its completions
 *   mlx5_ask        what it asks its peer, and what the answer means
 *   mlx5_recv       the responder
 *   mlx5_ud         datagrams
 *   mlx5_sa         the subnet manager's answers
 *   mlx5_flush      receives of queues in error
 *   mlx5_fault      page faults and their resumes
 *   mlx5_fabric     which adapter a LID belongs to
 *   mlx5_link       adapters of another process: the connection
 *   mlx5_wire       the same: frames
 *   mlx5_remote     the same: what its frames do here
 *   mlx5_dma        every access to guest memory, and the check of each
 *   mlx5_test       the test BAR: counters, knobs, the DMA oracle
 *
 * Rules.  Everything runs under QEMU's lock.  An MMIO write only records and
 * schedules; the work is done by timers of the virtual clock in the main
 * loop, so that each latency is a property and a vCPU never waits inside its
 * own store.  Nothing a guest writes may crash or hang QEMU: numbers are
 * looked up, lengths are checked, loops are bounded.
 */
#ifndef HW_RDMA_MLX5_H
#define HW_RDMA_MLX5_H

#include "qemu/osdep.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "chardev/char-fe.h"
#include "hw/pci/pci.h"
#include "qom/object.h"
#include "mlx5_prm.h"

#define TYPE_MLX5 "mlx5"
OBJECT_DECLARE_SIMPLE_TYPE(Mlx5Device, MLX5)

enum {
    MLX5_BAR_SIZE = 16 * MiB,       /* BAR 0: initialisation segment, UARs */
    MLX5_ISEG_SIZE = 0x3000,
    MLX5_FIRST_UAR = 8,             /* UAR n is BAR 0's page n */
    MLX5_NR_UARS = MLX5_BAR_SIZE >> 12,
    MLX5_NR_VECTORS = 8,
    MLX5_NR_CMDS = 16,              /* slots of the command queue */
    MLX5_NR_EQS = 64,
    /* Special keys, all 32 bits of them. */
    MLX5_TERMINATE_LKEY = 0x100,    /* ends a receive WQE's list */
    MLX5_NULL_MKEY = 0x200,         /* always faults */
    MLX5_RESERVED_LKEY = 0x300,     /* no translation: DMA addresses */
};

/*
 * ---- counters and knobs: name and meaning exist once, here ----
 *
 * "keys" is how many there are now, "context-bytes" how long their tables of
 * translations are, "memory-bytes" what all objects take of the quota, and
 * "pages" how many the driver has lent.  "link-frames" went either way over the
 * adapter's own link; "link-repeats" are requests that were answered before.
 */

#define MLX5_COUNTERS(X) \
    X(COMMANDS, "commands") X(CMD_ERRORS, "cmd-errors") \
    X(INTERRUPTS, "interrupts") X(EQES, "eqes") X(CQES, "cqes") \
    X(CQES_ERROR, "cqes-error") X(DOORBELLS, "doorbells") \
    X(WQES, "wqes") X(BF_WQES, "bf-wqes") X(UMR_WQES, "umr-wqes") \
    X(XLT_BYTES, "xlt-bytes") \
    X(FAULTS_SQ, "faults-sq") X(FAULTS_RQ, "faults-rq") \
    X(FAULTS_SRQ, "faults-srq") X(FAULTS_RDMA, "faults-rdma") \
    X(FAULTS_MEMORY, "faults-memory") X(RESUMES, "resumes") \
    X(RESUMES_ERROR, "resumes-error") X(RESUMES_UNKNOWN, "resumes-unknown") \
    X(FAULT_WAIT_NS, "fault-wait-ns") X(MESSAGES, "messages") \
    X(BYTES, "bytes") X(RNR_WAITS, "rnr-waits") X(RETRIES, "retries") \
    X(DROPS, "drops") X(DMA_READS, "dma-reads") X(DMA_WRITES, "dma-writes") \
    X(DMA_DROPPED, "dma-dropped") X(DMA_VIOLATIONS, "dma-violations") \
    X(DMA_CHECKED, "dma-checked") X(HOSTILE, "hostile-events") \
    X(KEYS, "keys") X(CONTEXT_BYTES, "context-bytes") \
    X(MEMORY_BYTES, "memory-bytes") X(PAGES, "pages") \
    X(LINK_FRAMES, "link-frames") X(LINK_REPEATS, "link-repeats")

/*
 * Latencies are ns of virtual time.  A memory fault would like to have so many
 * pages around it, too.  One of so many WQEs in a UAR is not looked at (0: each
 * is); such a WQE is complete within bf-window, or it is a doorbell.
 * What a requester hears of the responder's page fault: MLX5_FAULT_ANSWER_*.
 * The firmware would like to have "pages-more", and shows "syndrome".
 * With "overtake" messages do not wait for reads and UMRs before them, unless
 * they are fenced.
 * With "garbage" translations that were never written lead to memory of others.
 * Of an adapter with a link: one frame of "link-loss" is lost, or with
 * "link-down" each; requests over a link wait for "link-timeout" at least.
 * "hostile" is a mask of MLX5_HOSTILE_*.
 * The next fail-count commands of fail-opcode (0xffff: any) are not executed
 * but answered with fail-status, or never, where that is MLX5_FAIL_NEVER.
 */
#define MLX5_KNOBS(X) \
    X(CMD_DELAY, "cmd-delay", 0) X(UMR_DELAY, "umr-delay", 0) \
    X(FAULT_DELAY, "fault-delay", 0) X(RESUME_DELAY, "resume-delay", 0) \
    X(WIRE_DELAY, "wire-delay", 0) X(JITTER, "jitter", 0) X(SEED, "seed", 1) \
    X(FAULT_AROUND, "fault-around", 1) X(BF_IGNORE, "bf-ignore", 4) \
    X(BF_WINDOW, "bf-window", 50000) X(GARBAGE, "garbage", 1) \
    X(OVERTAKE, "overtake", 1) X(DRAIN, "drain", 100000) \
    X(FAULT_ANSWER, "fault-answer", 1) \
    X(LINK_LOSS, "link-loss", 0) X(LINK_DOWN, "link-down", 0) \
    X(LINK_TIMEOUT, "link-timeout", 200000000) \
    X(PAGES, "pages-more", 0) X(SYNDROME, "syndrome", 0) \
    X(HOSTILE, "hostile", 0) X(HOSTILE_EVERY, "hostile-every", 1) \
    X(FAIL_OPCODE, "fail-opcode", 0) X(FAIL_STATUS, "fail-status", 1) \
    X(FAIL_COUNT, "fail-count", 0)

#define MLX5_COUNTER_ENUM(id, name) MLX5_COUNTER_##id,
#define MLX5_KNOB_ENUM(id, name, value) MLX5_KNOB_##id,
enum { MLX5_COUNTERS(MLX5_COUNTER_ENUM) MLX5_NR_COUNTERS };
enum { MLX5_KNOBS(MLX5_KNOB_ENUM) MLX5_NR_KNOBS };

enum { MLX5_FAIL_NEVER = 0x100 };

/* It waits for the page, is told to come again, or hears nothing. */
enum {
    MLX5_FAULT_ANSWER_WAIT,
    MLX5_FAULT_ANSWER_RNR,
    MLX5_FAULT_ANSWER_SILENCE,
};

/* In "syndrome": the firmware does nothing but to wait for a reset. */
enum { MLX5_SYNDROME_FATAL = 0x100 };

/* What goes wrong with a page-fault event when its turn comes. */
enum {
    MLX5_HOSTILE_DUP = 1 << 0,          /* delivered twice */
    MLX5_HOSTILE_LOST = 1 << 1,         /* not delivered */
    MLX5_HOSTILE_LATE = 1 << 2,         /* 100 ms late */
    MLX5_HOSTILE_TOKEN = 1 << 3,        /* another token */
    MLX5_HOSTILE_KEY = 1 << 4,          /* a key that nobody has */
    MLX5_HOSTILE_WQE_INDEX = 1 << 5,    /* garbage */
    MLX5_HOSTILE_QPN = 1 << 6,          /* a QP that nobody has */
    MLX5_HOSTILE_VA = 1 << 7,           /* outside the region */
    MLX5_HOSTILE_LENGTH = 1 << 8,       /* huge lengths and byte counts */
    MLX5_HOSTILE_TYPE = 1 << 9,         /* unknown kind of fault */
    MLX5_HOSTILE_UMR = 1 << 10,         /* a UMR WQE fails */
    MLX5_HOSTILE_STORM = 1 << 11,       /* 64 made-up events beside it */
};

/* ---- mlx5_obj: objects by number ---- */

/* Begins each object that a command makes. */
typedef struct Mlx5Obj Mlx5Obj;
struct Mlx5Obj {
    Mlx5Device *dev;
    int64_t charged;                    /* bytes of the quota */
    uint16_t uid;                       /* its user context; 0: the driver */
    unsigned refs;                      /* its number, and each user */
    uint32_t dying;                     /* a user context's number, or 0 */
    GDestroyNotify destroy;
    Mlx5Obj *uses[8];                   /* what it uses, as long as it is */
    unsigned nr_uses;
};

typedef struct Mlx5Table {
    GHashTable *objs;                   /* number -> object */
    uint32_t first, last, next;
} Mlx5Table;

void mlx5_table_init(Mlx5Table *t, uint32_t first, uint32_t last,
                     GDestroyNotify destroy);
void *mlx5_table_get(Mlx5Table *t, uint32_t nr);
/* The next free number, round robin; false: the table is full. */
bool mlx5_table_add(Mlx5Table *t, void *obj, uint32_t *nr);
bool mlx5_table_del(Mlx5Table *t, uint32_t nr);
void mlx5_table_reset(Mlx5Table *t);    /* every object goes */
void mlx5_table_free(Mlx5Table *t);     /* and the table */

typedef struct Mlx5Cmd Mlx5Cmd;

/*
 * A new object of the command's context, without a number, all zero but for its
 * Mlx5Obj.  NULL: the quota is used up.  destroy frees it.
 */
void *mlx5_obj_new(Mlx5Device *dev, const Mlx5Cmd *cmd, size_t size,
                   GDestroyNotify destroy);
/* So many bytes more, or less; false: the quota has no room for them. */
bool mlx5_charge(Mlx5Device *dev, int64_t bytes);
bool mlx5_obj_charge(Mlx5Obj *obj, int64_t bytes);
void mlx5_obj_put(void *obj);           /* NULL is fine */
/* obj uses that one from now on; shared: also if it is the driver's. */
uint8_t mlx5_obj_use(Mlx5Obj *obj, Mlx5Table *t, uint32_t nr, bool shared);
/* The uid 0, or that of all contexts: a command of the driver's. */
bool mlx5_uid_is_driver(uint16_t uid);
bool mlx5_obj_usable(const Mlx5Obj *obj, uint16_t uid);
/* The object if the command may change it, or look at it; or NULL. */
void *mlx5_obj_get(Mlx5Table *t, uint32_t nr, const Mlx5Cmd *cmd);
void *mlx5_obj_look(Mlx5Table *t, uint32_t nr, const Mlx5Cmd *cmd);
/* It goes, unless it is another's, or used. */
uint8_t mlx5_obj_del(Mlx5Table *t, uint32_t nr, const Mlx5Cmd *cmd);

typedef struct Mlx5Umem Mlx5Umem;

/* A queue's memory: pages that the guest listed, or a umem. */
typedef struct Mlx5Buf {
    Mlx5Device *dev;                    /* NULL: there is none */
    Mlx5Umem *umem;                     /* NULL: a list */
    uint64_t *pas;
    uint32_t nr_pages;
    uint32_t page_shift;
    uint64_t offset;                    /* of the first byte, in bytes */
    uint64_t len;                       /* bytes from there to the end */
} Mlx5Buf;

/* A queue's doorbell record, which may lie in a umem as well. */
typedef struct Mlx5Dbr {
    Mlx5Umem *umem;
    uint64_t addr;
} Mlx5Dbr;

/* Cannot be destroyed as long as a queue has a part of it. */
struct Mlx5Umem {
    Mlx5Obj obj;
    Mlx5Buf buf;
};

/* Translations of any key, the last ones of each kind: mlx5_stale.c. */
typedef struct Mlx5Stale {
    uint64_t mtt[64];                   /* page addresses */
    struct {
        uint32_t key;
        uint64_t va;
    } klm[16];
    unsigned nr_mtts, nr_klms;          /* ever noted */
} Mlx5Stale;

typedef struct Mlx5Bf Mlx5Bf;
typedef struct Mlx5Link Mlx5Link;
typedef struct Mlx5CQ Mlx5CQ;
typedef struct Mlx5EQ Mlx5EQ;
typedef struct Mlx5Mkey Mlx5Mkey;
typedef struct Mlx5QP Mlx5QP;
typedef struct Mlx5SRQ Mlx5SRQ;

struct Mlx5Cmd {
    uint16_t opcode, uid, op_mod;
    uint8_t *in, *out;                  /* whole mailboxes, zero-filled out */
    size_t in_len, out_len;
    uint32_t syndrome;
};

/* Returns MLX5_CMD_STAT_*; in and out are at least as long as declared. */
typedef uint8_t Mlx5CmdFn(Mlx5Device *dev, Mlx5Cmd *cmd);

struct Mlx5Device {
    PCIDevice parent_obj;

    /* properties, fixed at realize */
    char *fabric;                       /* adapters of one name meet */
    uint16_t lid;
    bool memory_scheme;                 /* which page-fault scheme is offered */
    bool indirect_umr;                  /* UMRs change keys over keys */
    bool test_bar;
    CharBackend chr;                    /* leads to another process, or not */
    Mlx5Link *link;                     /* NULL: not */
    uint64_t quota;                     /* bytes that objects may take */
    bool over_quota;                    /* the command wanted more */
    bool removed;                       /* surprise: reads all-ones, no DMA */

    uint64_t knob[MLX5_NR_KNOBS];
    uint64_t counter[MLX5_NR_COUNTERS];
    uint32_t random;                    /* state of jitter and hostile turns */
    uint32_t hostile_turn;
    uint64_t random_seed;               /* the knob "seed" that random is of */

    MemoryRegion bar, msix_bar, test;
    uint8_t iseg[MLX5_ISEG_SIZE];
    QEMUTimer *health, *drain;
    QEMUTimer *interrupt;               /* raises vectors */
    uint32_t vectors;                   /* a bit each, not yet raised */
    uint64_t test_scratch;              /* survives a reset */
    uint64_t test_key, test_index;      /* whose translation is asked for */
    uint64_t nr_resets;
    struct {
        uint64_t kind, addr, key, va;   /* kind: see mlx5_test.c */
    } violation;                        /* the last that the oracle saw */
    int64_t nr_reports, report_ns;      /* how many were made lately */
    struct Mlx5Stale stale;             /* what freed translations may be */

    /* what the driver set, until a reset */
    bool memory_faults;                 /* SET_HCA_CAP: the memory scheme */
    bool atomic_host_endian;            /* SET_HCA_CAP: of the requester */
    uint16_t issi;
    uint32_t port_caps;
    char node_desc[64];

    unsigned dead_ticks;                /* of the health timer, since it died */
    bool initialised;                   /* INIT_HCA until TEARDOWN_HCA */
    GHashTable *pages;                  /* that the driver lends: their pfns */
    bool pages_asked;                   /* by an event, not answered yet */

    struct Mlx5CmdSlot *slots;          /* MLX5_NR_CMDS */
    Mlx5Bf *bfs;
    unsigned bf_turn;
    uint8_t *bf_uars;                   /* by UAR: its user combines stores */

    Mlx5Table pds, xrcds, tds, uctxs, uars, umems, counter_sets, eqs, cqs;
    Mlx5Table mkeys, qps, srqs;
    QTAILQ_HEAD(, Mlx5QP) flushes;      /* QPs in error that have receives */
    QEMUTimer *flush;                   /* looks at them */
    int64_t flush_ns;                   /* when it looks again */
    struct Mlx5Faults *faults;
    GHashTable *parked;                 /* timers that wait for the bus */
    GHashTable *dma_pages;              /* what the oracle knows: pfn -> maps */
    QLIST_ENTRY(Mlx5Device) fabric_entry;
    QLIST_HEAD(, Mlx5McGroup) mc_groups;
};

static inline void mlx5_count(Mlx5Device *dev, unsigned counter, uint64_t n)
{
    dev->counter[counter] += n;
}

/* ---- mlx5_pci ---- */
/* Soon: the store may end the device, so it is not made on the spot. */
void mlx5_interrupt(Mlx5Device *dev, unsigned vector);
/* Back to the state after power-on; every timer of the device is cancelled. */
void mlx5_reset_all(Mlx5Device *dev);
/* Every object but the EQs goes, and its work; commands are left alone. */
void mlx5_reset_objects(Mlx5Device *dev);
/* knob + up to "jitter" ns, from now, on the virtual clock. */
int64_t mlx5_when(Mlx5Device *dev, unsigned knob);
uint32_t mlx5_random(Mlx5Device *dev);
/* Is it this event's turn for that kind of trouble?  Counts it. */
bool mlx5_hostile(Mlx5Device *dev, uint32_t kind);

/* ---- mlx5_dma: false when the access did not happen ---- */
bool mlx5_has_master_bit(Mlx5Device *dev);
/* The bit, or what is left to be done without it. */
bool mlx5_bus_master(Mlx5Device *dev);
/* True: there is no bus mastering, and the timer runs again when there is. */
bool mlx5_bus_park(Mlx5Device *dev, QEMUTimer *timer);
void mlx5_bus_changed(Mlx5Device *dev);
/* For timers that may be parked. */
void mlx5_timer_free(Mlx5Device *dev, QEMUTimer *timer);
bool mlx5_dma_read(Mlx5Device *dev, uint64_t addr, void *buf, size_t len);
bool mlx5_dma_write(Mlx5Device *dev, uint64_t addr, const void *buf,
                    size_t len);
/* The same for data under a key: what a violation's report names. */
bool mlx5_dma_data(Mlx5Device *dev, uint64_t addr, void *buf, size_t len,
                   bool write, uint32_t key, uint64_t va);
/* An access by an unwritten translation: as bad as one to no mapping. */
void mlx5_dma_unwritten(Mlx5Device *dev, bool write, uint32_t key, uint64_t va);
/* A page that the driver lent is not as it was. */
void mlx5_dma_overwritten(Mlx5Device *dev, uint64_t addr);
/* May the guest make us print one more line? */
bool mlx5_may_report(Mlx5Device *dev);
void mlx5_dma_oracle(Mlx5Device *dev, uint64_t message);
void mlx5_dma_reset(Mlx5Device *dev);
/* pas: big-endian 64-bit page addresses, inside a command's mailbox */
bool mlx5_buf_init(Mlx5Device *dev, Mlx5Buf *buf, Mlx5Cmd *cmd, const void *pas,
                   uint32_t page_shift, uint64_t offset, uint64_t len);
bool mlx5_buf_init_umem(Mlx5Device *dev, Mlx5Buf *buf, uint16_t uid,
                        uint32_t umem_id, uint64_t offset, uint64_t len);
void mlx5_buf_free(Mlx5Buf *buf);
bool mlx5_buf_read(Mlx5Device *dev, Mlx5Buf *b, uint64_t off, void *p,
                   size_t n);
bool mlx5_buf_write(Mlx5Device *dev, Mlx5Buf *b, uint64_t off, const void *p,
                    size_t n);
/* At that address, or at that offset of a umem; free it in any case. */
bool mlx5_dbr_init(Mlx5Device *dev, Mlx5Dbr *dbr, uint16_t uid, bool in_umem,
                   uint32_t umem_id, uint64_t addr);
void mlx5_dbr_free(Mlx5Dbr *dbr);

/* ---- mlx5_cmd ---- */
void mlx5_cmd_doorbell(Mlx5Device *dev, uint32_t slots);
void mlx5_cmd_init(Mlx5Device *dev);
void mlx5_cmd_reset(Mlx5Device *dev);
void mlx5_cmd_exit(Mlx5Device *dev);

/* ---- mlx5_caps ---- */
void mlx5_caps_reset(Mlx5Device *dev);
uint16_t mlx5_pkey(uint16_t index);     /* what the port's table has there */
/* The port's GID is fe80:: and this. */

/* ---- mlx5_res ---- */
/* Is that page of BAR 0 an allocated UAR? */
bool mlx5_uar_valid(Mlx5Device *dev, uint32_t uar);
/* One more user of it; NULL: that context has none of that number. */
Mlx5Umem *mlx5_umem_get(Mlx5Device *dev, uint16_t uid, uint32_t nr);

/* ---- mlx5_pages ---- */
bool mlx5_pages_returned(Mlx5Device *dev);
void mlx5_pages_idle(Mlx5Device *dev);          /* none is needed any more */
void mlx5_pages_balance(Mlx5Device *dev);       /* asks, if it is time to */
/* The firmware does not answer any more. */
bool mlx5_health_dead(Mlx5Device *dev);
void mlx5_health_show(Mlx5Device *dev);         /* in the health buffer */

/* ---- mlx5_mkey ---- */
/* Has that protection domain a key? */
bool mlx5_mkey_of_pd(Mlx5Device *dev, uint32_t pdn);

/* ---- mlx5_eq ---- */
/* To the EQ that asked for this type of event; none: dropped. */
void mlx5_event(Mlx5Device *dev, uint8_t type, uint8_t sub_type,
                const void *data, size_t len);
void mlx5_eq_post(Mlx5Device *dev, uint32_t eqn, uint8_t type, uint8_t sub_type,
                  const void *data, size_t len);
bool mlx5_eq_wants(Mlx5Device *dev, uint8_t type);
/* The UAR's EQ register: the EQ's number and the consumer's index. */
void mlx5_eq_doorbell(Mlx5Device *dev, uint32_t uar, uint32_t value);
/* A QP's, SRQ's or CQ's asynchronous event, by its number. */
void mlx5_event_qp(Mlx5Device *dev, uint8_t type, uint32_t qpn);
void mlx5_event_srq(Mlx5Device *dev, uint8_t type, uint32_t srqn);

/* ---- mlx5_cq ---- */
void mlx5_cq_doorbell(Mlx5Device *dev, uint32_t uar, uint64_t value);
/* cqe: op_own has the opcode only; owner and wqe format are filled in here. */
void mlx5_cq_post(Mlx5Device *dev, uint32_t cqn, struct mlx5_cqe64 *cqe,
                  bool solicited);

/* ---- mlx5_qp, mlx5_send ---- */
void mlx5_sq_doorbell(Mlx5Device *dev, uint32_t uar, uint64_t value);

/* ---- mlx5_bf ---- */
/* A store to a UAR, little-endian; false: there is no doorbell. */
bool mlx5_bf_store(Mlx5Device *dev, uint32_t uar, uint32_t reg, uint64_t value,
                   unsigned size);
/* A new owner: nothing is known of that UAR. */
void mlx5_bf_forget(Mlx5Device *dev, uint32_t uar);

/* ---- mlx5_fabric ---- */
enum {
    MLX5_LID_SM = 0xbfff,               /* the subnet manager's */
    MLX5_LID_MULTICAST = 0xc000,        /* the first one */
};

/* A management datagram: offsets, the length of all and of what is common. */
enum {
    MLX5_MAD_CLASS = 1,
    MLX5_MAD_METHOD = 3,
    MLX5_MAD_STATUS = 4,
    MLX5_MAD_ATTRIBUTE = 16,
    MLX5_MAD_HEADER_LEN = 24,
    MLX5_MAD_LEN = 256,

    MLX5_MAD_RESPONSE = 0x80,           /* of the method; to a Set: GetResp */
};

/* No other adapter of its fabric has its LID, over links neither. */
bool mlx5_fabric_free(Mlx5Device *dev);
/* Each adapter of dev's fabric in this process; first the one after NULL. */
Mlx5Device *mlx5_fabric_next(Mlx5Device *dev, Mlx5Device *last);
void mlx5_fabric_join(Mlx5Device *dev);
void mlx5_fabric_leave(Mlx5Device *dev);
void mlx5_fabric_reset(Mlx5Device *dev);        /* multicast groups go */
void mlx5_fabric_detach(Mlx5Device *dev, uint32_t qpn);
uint64_t mlx5_fabric_guid(uint16_t lid);
void mlx5_fabric_gid(uint16_t lid, uint8_t *gid);

/* ---- mlx5_test ---- */
void mlx5_test_init(Mlx5Device *dev);

/* ---- begin and end of each part: init at realize, reset empties ---- */
void mlx5_res_init(Mlx5Device *dev);
void mlx5_eq_init(Mlx5Device *dev);
void mlx5_cq_init(Mlx5Device *dev);
void mlx5_mkey_init(Mlx5Device *dev);
void mlx5_qp_init(Mlx5Device *dev);
void mlx5_srq_init(Mlx5Device *dev);
void mlx5_fault_init(Mlx5Device *dev);
void mlx5_bf_init(Mlx5Device *dev);
void mlx5_pages_init(Mlx5Device *dev);
void mlx5_res_reset(Mlx5Device *dev);
void mlx5_eq_reset(Mlx5Device *dev);
void mlx5_cq_reset(Mlx5Device *dev);
void mlx5_mkey_reset(Mlx5Device *dev);
void mlx5_qp_reset(Mlx5Device *dev);
void mlx5_qp_exit(Mlx5Device *dev);
void mlx5_srq_reset(Mlx5Device *dev);
void mlx5_fault_reset(Mlx5Device *dev);
void mlx5_fault_exit(Mlx5Device *dev);
void mlx5_bf_reset(Mlx5Device *dev);
void mlx5_bf_exit(Mlx5Device *dev);
void mlx5_pages_reset(Mlx5Device *dev);
void mlx5_pages_exit(Mlx5Device *dev);

/* ---- command handlers, by the file that has them ---- */
/* mlx5_mkey */
Mlx5CmdFn mlx5_create_mkey, mlx5_destroy_mkey, mlx5_query_mkey;
/* mlx5_qp */
Mlx5CmdFn mlx5_create_qp, mlx5_destroy_qp, mlx5_query_qp, mlx5_modify_qp;
Mlx5CmdFn mlx5_attach_mcg, mlx5_detach_mcg;
/* mlx5_sq */
Mlx5CmdFn mlx5_create_sq, mlx5_destroy_sq, mlx5_query_sq, mlx5_modify_sq;
/* mlx5_srq */
Mlx5CmdFn mlx5_create_rmp, mlx5_destroy_rmp, mlx5_query_rmp, mlx5_modify_rmp;
Mlx5CmdFn mlx5_create_xrc_srq, mlx5_destroy_xrc_srq, mlx5_query_xrc_srq;
Mlx5CmdFn mlx5_arm_xrc_srq, mlx5_create_srq, mlx5_destroy_srq, mlx5_query_srq;
Mlx5CmdFn mlx5_arm_srq;
/* mlx5_fault */
Mlx5CmdFn mlx5_page_fault_resume;
/* mlx5_pages */
Mlx5CmdFn mlx5_query_pages, mlx5_manage_pages, mlx5_init_hca;
/* mlx5_caps */
Mlx5CmdFn mlx5_query_hca_cap, mlx5_set_hca_cap, mlx5_query_adapter;
Mlx5CmdFn mlx5_query_issi, mlx5_set_issi;
Mlx5CmdFn mlx5_query_vport_context, mlx5_modify_vport_context;
Mlx5CmdFn mlx5_query_vport_gid, mlx5_query_vport_pkey, mlx5_access_reg;
Mlx5CmdFn mlx5_query_special_contexts, mlx5_mad_ifc, mlx5_query_vport_counter;
/* mlx5_res */
Mlx5CmdFn mlx5_create_psv, mlx5_destroy_psv;
Mlx5CmdFn mlx5_alloc_pd, mlx5_dealloc_pd, mlx5_alloc_xrcd, mlx5_dealloc_xrcd;
Mlx5CmdFn mlx5_alloc_td, mlx5_dealloc_td, mlx5_alloc_uar, mlx5_dealloc_uar;
Mlx5CmdFn mlx5_create_uctx, mlx5_destroy_uctx, mlx5_create_umem;
Mlx5CmdFn mlx5_destroy_umem, mlx5_alloc_q_counter, mlx5_dealloc_q_counter;
Mlx5CmdFn mlx5_query_q_counter;
/* mlx5_eq, mlx5_cq */
Mlx5CmdFn mlx5_create_eq, mlx5_destroy_eq, mlx5_query_eq;
Mlx5CmdFn mlx5_create_cq, mlx5_destroy_cq, mlx5_query_cq, mlx5_modify_cq;

#endif
