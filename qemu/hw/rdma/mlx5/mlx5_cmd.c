/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The command interface: how the driver asks for objects.
 *
 * The command queue is a page of guest memory with MLX5_NR_CMDS entries of 64
 * bytes.  The driver fills an entry, hands it over by the ownership bit in its
 * last byte and rings the doorbell with a mask of entries.  Input and output
 * are a few bytes in the entry and the rest in chains of 512-byte mailboxes.
 * The adapter executes, writes output and delivery status, gives the ownership
 * back, last of all, and sends a completion event if an EQ asked for it.
 *
 * A delivery status (did the command reach us?) is not the command's status
 * (did it work?), which is the output's first byte.
 *
 * Each entry has its own timer, so commands can overtake each other.  A
 * handler runs to its end at once: it sees no other command in between.
 */
#include "mlx5.h"
#include "trace.h"

enum {
    ENTRY_SIZE = 64,
    INLINE_LEN = 16,                    /* of input and output in an entry */
    MAILBOX_SIZE = sizeof(struct mlx5_cmd_prot_block),
    MIN_LEN = 8,                        /* opcode or status, and two words */
    MAX_LEN = 1 * MiB,
    OWNER_HW = 1,
    CMDQ_ADDR_MASK = ~0xfff,
    ANY_OPCODE = 0xffff,
};

/* The delivery status: what became of the entry itself. */
enum {
    DELIVERY_OK = 0x00,
    DELIVERY_TOKEN = 0x02,
    DELIVERY_BLOCK_NUMBER = 0x03,
    DELIVERY_OUT_ALIGN = 0x04,
    DELIVERY_IN_ALIGN = 0x05,
    DELIVERY_IN_LENGTH = 0x07,
    DELIVERY_OUT_LENGTH = 0x08,
    DELIVERY_DESCRIPTOR = 0x10,
    DELIVERY_LOST = 0xff,               /* no answer: DMA failed, or hostile */
};

struct Mlx5CmdSlot {
    Mlx5Device *dev;
    QEMUTimer *timer;
    unsigned index;
    bool busy;
};

/* ---- the function as a whole ---- */

static uint8_t cmd_nothing(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    return MLX5_CMD_STAT_OK;
}

/*
 * A driver that begins may find what the one before it left, and that goes on:
 * a driver that gave it up has to reset the function.
 */
static uint8_t cmd_enable_hca(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    mlx5_caps_reset(dev);
    return MLX5_CMD_STAT_OK;
}

static uint8_t cmd_disable_hca(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    if (!mlx5_pages_returned(dev)) {
        return MLX5_CMD_STAT_BAD_RES_STATE_ERR;
    }
    mlx5_reset_objects(dev);
    mlx5_eq_reset(dev);
    return MLX5_CMD_STAT_OK;
}

/* EQs stay: a driver that did not destroy them still hears of this command. */
static uint8_t cmd_teardown_hca(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    mlx5_pages_idle(dev);
    mlx5_reset_objects(dev);
    return MLX5_CMD_STAT_OK;
}

/* ---- which commands there are ---- */

typedef struct Mlx5CmdDesc {
    uint16_t opcode;
    Mlx5CmdFn *fn;
    size_t in_len, out_len;             /* at least */
    bool driver;                        /* in no user context's name */
} Mlx5CmdDesc;

#define CMD(op, fn, type) \
    { MLX5_CMD_OP_##op, fn, MLX5_BYTES(type##_in), MLX5_BYTES(type##_out) }

#define DRIVER(op, fn, type) \
    { MLX5_CMD_OP_##op, fn, MLX5_BYTES(type##_in), MLX5_BYTES(type##_out), \
      true }

static const Mlx5CmdDesc commands[] = {
    DRIVER(ENABLE_HCA, cmd_enable_hca, enable_hca),
    DRIVER(DISABLE_HCA, cmd_disable_hca, disable_hca),
    DRIVER(INIT_HCA, mlx5_init_hca, init_hca),
    DRIVER(TEARDOWN_HCA, cmd_teardown_hca, teardown_hca),
    DRIVER(MANAGE_PAGES, mlx5_manage_pages, manage_pages),
    DRIVER(SET_DRIVER_VERSION, cmd_nothing, set_driver_version),
    CMD(NOP, cmd_nothing, nop),
    CMD(QUERY_LAG, cmd_nothing, query_lag),     /* there is none */

    CMD(QUERY_HCA_CAP, mlx5_query_hca_cap, query_hca_cap),
    DRIVER(SET_HCA_CAP, mlx5_set_hca_cap, set_hca_cap),
    CMD(QUERY_ADAPTER, mlx5_query_adapter, query_adapter),
    CMD(QUERY_ISSI, mlx5_query_issi, query_issi),
    DRIVER(SET_ISSI, mlx5_set_issi, set_issi),
    DRIVER(QUERY_PAGES, mlx5_query_pages, query_pages),
    CMD(QUERY_HCA_VPORT_CONTEXT, mlx5_query_vport_context,
        query_hca_vport_context),
    DRIVER(MODIFY_HCA_VPORT_CONTEXT, mlx5_modify_vport_context,
        modify_hca_vport_context),
    CMD(QUERY_HCA_VPORT_GID, mlx5_query_vport_gid, query_hca_vport_gid),
    CMD(QUERY_HCA_VPORT_PKEY, mlx5_query_vport_pkey, query_hca_vport_pkey),
    CMD(QUERY_VPORT_COUNTER, mlx5_query_vport_counter, query_vport_counter),
    CMD(QUERY_SPECIAL_CONTEXTS, mlx5_query_special_contexts,
        query_special_contexts),
    DRIVER(ACCESS_REG, mlx5_access_reg, access_register),
    DRIVER(MAD_IFC, mlx5_mad_ifc, mad_ifc),

    CMD(ALLOC_PD, mlx5_alloc_pd, alloc_pd),
    CMD(DEALLOC_PD, mlx5_dealloc_pd, dealloc_pd),
    CMD(ALLOC_XRCD, mlx5_alloc_xrcd, alloc_xrcd),
    CMD(DEALLOC_XRCD, mlx5_dealloc_xrcd, dealloc_xrcd),
    CMD(ALLOC_TRANSPORT_DOMAIN, mlx5_alloc_td, alloc_transport_domain),
    CMD(DEALLOC_TRANSPORT_DOMAIN, mlx5_dealloc_td, dealloc_transport_domain),
    CMD(ALLOC_UAR, mlx5_alloc_uar, alloc_uar),
    CMD(DEALLOC_UAR, mlx5_dealloc_uar, dealloc_uar),
    DRIVER(CREATE_UCTX, mlx5_create_uctx, create_uctx),
    DRIVER(DESTROY_UCTX, mlx5_destroy_uctx, destroy_uctx),
    CMD(CREATE_UMEM, mlx5_create_umem, create_umem),
    CMD(DESTROY_UMEM, mlx5_destroy_umem, destroy_umem),
    CMD(ALLOC_Q_COUNTER, mlx5_alloc_q_counter, alloc_q_counter),
    CMD(DEALLOC_Q_COUNTER, mlx5_dealloc_q_counter, dealloc_q_counter),
    CMD(QUERY_Q_COUNTER, mlx5_query_q_counter, query_q_counter),

    DRIVER(CREATE_EQ, mlx5_create_eq, create_eq),
    DRIVER(DESTROY_EQ, mlx5_destroy_eq, destroy_eq),
    DRIVER(QUERY_EQ, mlx5_query_eq, query_eq),
    CMD(CREATE_CQ, mlx5_create_cq, create_cq),
    CMD(DESTROY_CQ, mlx5_destroy_cq, destroy_cq),
    CMD(QUERY_CQ, mlx5_query_cq, query_cq),
    CMD(MODIFY_CQ, mlx5_modify_cq, modify_cq),

    CMD(CREATE_MKEY, mlx5_create_mkey, create_mkey),
    CMD(DESTROY_MKEY, mlx5_destroy_mkey, destroy_mkey),
    CMD(QUERY_MKEY, mlx5_query_mkey, query_mkey),
    DRIVER(PAGE_FAULT_RESUME, mlx5_page_fault_resume, page_fault_resume),
    CMD(CREATE_PSV, mlx5_create_psv, create_psv),
    CMD(DESTROY_PSV, mlx5_destroy_psv, destroy_psv),

    CMD(CREATE_QP, mlx5_create_qp, create_qp),
    CMD(DESTROY_QP, mlx5_destroy_qp, destroy_qp),
    /* Without the extension of the context, which is not reported. */
    { MLX5_CMD_OP_QUERY_QP, mlx5_query_qp, MLX5_BYTES(query_qp_in),
      MLX5_OFF(query_qp_out, qp_pas_or_qpc_ext_and_pas) / 8 },
    CMD(RST2INIT_QP, mlx5_modify_qp, rst2init_qp),
    CMD(INIT2INIT_QP, mlx5_modify_qp, init2init_qp),
    CMD(INIT2RTR_QP, mlx5_modify_qp, init2rtr_qp),
    CMD(RTR2RTS_QP, mlx5_modify_qp, rtr2rts_qp),
    CMD(RTS2RTS_QP, mlx5_modify_qp, rts2rts_qp),
    CMD(SQERR2RTS_QP, mlx5_modify_qp, sqerr2rts_qp),
    CMD(SQD_RTS_QP, mlx5_modify_qp, rts2rts_qp),
    CMD(2ERR_QP, mlx5_modify_qp, qp_2err),
    CMD(2RST_QP, mlx5_modify_qp, qp_2rst),
    CMD(ATTACH_TO_MCG, mlx5_attach_mcg, attach_to_mcg),
    CMD(DETACH_FROM_MCG, mlx5_detach_mcg, detach_from_mcg),

    CMD(CREATE_SQ, mlx5_create_sq, create_sq),
    CMD(DESTROY_SQ, mlx5_destroy_sq, destroy_sq),
    CMD(QUERY_SQ, mlx5_query_sq, query_sq),
    CMD(MODIFY_SQ, mlx5_modify_sq, modify_sq),
    CMD(CREATE_RMP, mlx5_create_rmp, create_rmp),
    CMD(DESTROY_RMP, mlx5_destroy_rmp, destroy_rmp),
    CMD(QUERY_RMP, mlx5_query_rmp, query_rmp),
    CMD(MODIFY_RMP, mlx5_modify_rmp, modify_rmp),
    CMD(CREATE_XRC_SRQ, mlx5_create_xrc_srq, create_xrc_srq),
    CMD(DESTROY_XRC_SRQ, mlx5_destroy_xrc_srq, destroy_xrc_srq),
    CMD(QUERY_XRC_SRQ, mlx5_query_xrc_srq, query_xrc_srq),
    CMD(ARM_XRC_SRQ, mlx5_arm_xrc_srq, arm_xrc_srq),
    CMD(CREATE_SRQ, mlx5_create_srq, create_srq),
    CMD(DESTROY_SRQ, mlx5_destroy_srq, destroy_srq),
    CMD(QUERY_SRQ, mlx5_query_srq, query_srq),
    CMD(ARM_RQ, mlx5_arm_srq, arm_rq),
};

static const Mlx5CmdDesc *cmd_find(uint16_t opcode)
{
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(commands); i++) {
        if (commands[i].opcode == opcode) {
            return &commands[i];
        }
    }
    return NULL;
}

/* ---- execution ---- */

static bool cmd_shall_fail(Mlx5Device *dev, uint16_t opcode)
{
    uint64_t which = dev->knob[MLX5_KNOB_FAIL_OPCODE];

    if (!dev->knob[MLX5_KNOB_FAIL_COUNT] ||
        (which != ANY_OPCODE && which != opcode)) {
        return false;
    }
    dev->knob[MLX5_KNOB_FAIL_COUNT]--;
    return true;
}

static bool cmd_uid_valid(Mlx5Device *dev, uint16_t uid)
{
    return mlx5_uid_is_driver(uid) || mlx5_table_get(&dev->uctxs, uid);
}

static uint8_t cmd_dispatch(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    const Mlx5CmdDesc *desc = cmd_find(cmd->opcode);
    uint8_t status;

    if (!desc) {
        return MLX5_CMD_STAT_BAD_OP_ERR;
    }
    if (cmd->in_len < desc->in_len) {
        return MLX5_CMD_STAT_BAD_INP_LEN_ERR;
    }
    if (cmd->out_len < desc->out_len) {
        return MLX5_CMD_STAT_BAD_OUTP_LEN_ERR;
    }
    if (!cmd_uid_valid(dev, cmd->uid)) {
        return MLX5_CMD_STAT_BAD_PARAM_ERR;
    }
    if (desc->driver && !mlx5_uid_is_driver(cmd->uid)) {
        return MLX5_CMD_STAT_BAD_OP_ERR;
    }
    dev->over_quota = false;
    status = desc->fn(dev, cmd);
    /* Whatever it made of that. */
    return status && dev->over_quota ? MLX5_CMD_STAT_LIM_ERR : status;
}

/* False: it was swallowed, and no answer will come. */
static bool cmd_execute(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint8_t status;

    cmd->opcode = lduw_be_p(cmd->in);
    cmd->uid = lduw_be_p(cmd->in + 2);
    cmd->op_mod = lduw_be_p(cmd->in + 6);
    if (!cmd_shall_fail(dev, cmd->opcode)) {
        status = cmd_dispatch(dev, cmd);
    } else if (dev->knob[MLX5_KNOB_FAIL_STATUS] == MLX5_FAIL_NEVER) {
        mlx5_count(dev, MLX5_COUNTER_CMD_ERRORS, 1);
        return false;
    } else {
        status = dev->knob[MLX5_KNOB_FAIL_STATUS];
    }
    if (status) {
        /* An output that means nothing is not to look like one that does. */
        memset(cmd->out, 0, cmd->out_len);
        mlx5_count(dev, MLX5_COUNTER_CMD_ERRORS, 1);
    }
    cmd->out[0] = status;
    stl_be_p(cmd->out + 4, cmd->syndrome);
    mlx5_count(dev, MLX5_COUNTER_COMMANDS, 1);
    trace_mlx5_cmd(dev->lid, cmd->opcode, cmd->op_mod, cmd->uid, cmd->in_len,
                   cmd->out_len, status, cmd->syndrome);
    return true;
}

/* ---- entries and mailboxes ---- */

static uint64_t entry_addr(Mlx5Device *dev, unsigned index)
{
    const uint8_t *p = dev->iseg;
    uint64_t high = ldl_be_p(p + offsetof(struct mlx5_init_seg, cmdq_addr_h));
    uint32_t low = ldl_be_p(p + offsetof(struct mlx5_init_seg, cmdq_addr_l_sz));

    return (high << 32 | (low & CMDQ_ADDR_MASK)) + index * ENTRY_SIZE;
}

static uint8_t cmd_read_input(Mlx5Device *dev, Mlx5Cmd *cmd,
                              const struct mlx5_cmd_layout *entry)
{
    uint64_t addr = be64_to_cpu(entry->in_ptr);
    struct mlx5_cmd_prot_block box;
    size_t off = MIN(cmd->in_len, INLINE_LEN);
    uint32_t nr;

    memcpy(cmd->in, entry->in, off);
    for (nr = 0; off < cmd->in_len; nr++) {
        size_t len = MIN(cmd->in_len - off, sizeof(box.data));

        if (!addr) {
            return DELIVERY_IN_LENGTH;
        }
        if (addr % sizeof(box.data)) {
            return DELIVERY_IN_ALIGN;
        }
        if (!mlx5_dma_read(dev, addr, &box, MAILBOX_SIZE)) {
            return DELIVERY_LOST;
        }
        if (be32_to_cpu(box.block_num) != nr) {
            return DELIVERY_BLOCK_NUMBER;
        }
        if (box.token != entry->token) {
            return DELIVERY_TOKEN;
        }
        memcpy(cmd->in + off, box.data, len);
        off += len;
        addr = be64_to_cpu(box.next);
    }
    return DELIVERY_OK;
}

static uint8_t cmd_write_output(Mlx5Device *dev, Mlx5Cmd *cmd,
                                struct mlx5_cmd_layout *entry)
{
    uint64_t addr = be64_to_cpu(entry->out_ptr);
    size_t off = MIN(cmd->out_len, INLINE_LEN);

    memcpy(entry->out, cmd->out, off);
    while (off < cmd->out_len) {
        size_t len = MIN(cmd->out_len - off, MLX5_CMD_DATA_BLOCK_SIZE);
        uint64_t next;

        if (!addr) {
            return DELIVERY_OUT_LENGTH;
        }
        if (addr % MLX5_CMD_DATA_BLOCK_SIZE) {
            return DELIVERY_OUT_ALIGN;
        }
        if (!mlx5_dma_write(dev, addr, cmd->out + off, len) ||
            !mlx5_dma_read(dev,
                           addr + offsetof(struct mlx5_cmd_prot_block, next),
                           &next, sizeof(next))) {
            return DELIVERY_LOST;
        }
        off += len;
        addr = be64_to_cpu(next);
    }
    return DELIVERY_OK;
}

static uint8_t cmd_deliver(Mlx5Device *dev, struct mlx5_cmd_layout *entry)
{
    g_autofree uint8_t *in = NULL, *out = NULL;
    Mlx5Cmd cmd = {
        .in_len = be32_to_cpu(entry->inlen),
        .out_len = be32_to_cpu(entry->outlen),
    };
    uint8_t delivery;

    if (entry->type != MLX5_PCI_CMD_XPORT) {
        return DELIVERY_DESCRIPTOR;
    }
    if (cmd.in_len < MIN_LEN || cmd.in_len > MAX_LEN) {
        return DELIVERY_IN_LENGTH;
    }
    if (cmd.out_len < MIN_LEN || cmd.out_len > MAX_LEN) {
        return DELIVERY_OUT_LENGTH;
    }
    cmd.in = in = g_malloc0(cmd.in_len);
    cmd.out = out = g_malloc0(cmd.out_len);
    delivery = cmd_read_input(dev, &cmd, entry);
    if (delivery == DELIVERY_OK) {
        delivery = cmd_execute(dev, &cmd) ? cmd_write_output(dev, &cmd, entry) :
                   DELIVERY_LOST;
    }
    return delivery;
}

static void cmd_complete(Mlx5Device *dev, unsigned index,
                         const struct mlx5_cmd_layout *entry, uint8_t delivery)
{
    uint64_t addr = entry_addr(dev, index);
    uint8_t own = delivery << 1;

    if (!mlx5_dma_write(dev,
                        addr + offsetof(struct mlx5_cmd_layout, out),
                        entry->out, sizeof(entry->out))) {
        return;
    }
    /* A driver that polls sees the ownership only after all the output. */
    smp_wmb();
    mlx5_dma_write(dev, addr + offsetof(struct mlx5_cmd_layout, status_own),
                   &own, sizeof(own));
}

static void cmd_run(void *opaque)
{
    struct Mlx5CmdSlot *slot = opaque;
    Mlx5Device *dev = slot->dev;
    struct mlx5_cmd_layout entry;
    uint32_t vector = cpu_to_be32(1u << slot->index);
    uint8_t delivery;
    bool event;

    if (mlx5_bus_park(dev, slot->timer)) {
        return;
    }
    slot->busy = false;
    if (mlx5_health_dead(dev)) {
        trace_mlx5_cmd_lost(dev->lid, slot->index);
        return;
    }
    if (!mlx5_dma_read(dev, entry_addr(dev, slot->index), &entry,
                       sizeof(entry)) || !(entry.status_own & OWNER_HW)) {
        trace_mlx5_cmd_lost(dev->lid, slot->index);
        return;
    }
    /* The EQ that this command makes is no place for its own completion. */
    event = mlx5_eq_wants(dev, MLX5_EVENT_TYPE_CMD);
    delivery = cmd_deliver(dev, &entry);
    if (delivery) {
        trace_mlx5_cmd_delivery(dev->lid, slot->index, delivery);
    }
    if (delivery == DELIVERY_LOST) {
        return;
    }
    cmd_complete(dev, slot->index, &entry, delivery);
    if (event && mlx5_eq_wants(dev, MLX5_EVENT_TYPE_CMD)) {
        mlx5_event(dev, MLX5_EVENT_TYPE_CMD, 0, &vector, sizeof(vector));
    }
    mlx5_pages_balance(dev);
}

/* ---- for the others ---- */

void mlx5_cmd_doorbell(Mlx5Device *dev, uint32_t slots)
{
    unsigned i;

    for (i = 0; i < MLX5_NR_CMDS; i++) {
        struct Mlx5CmdSlot *slot = &dev->slots[i];

        if ((slots & 1u << i) && !slot->busy) {
            slot->busy = true;
            timer_mod(slot->timer, mlx5_when(dev, MLX5_KNOB_CMD_DELAY));
        }
    }
}

void mlx5_cmd_init(Mlx5Device *dev)
{
    unsigned i;

    dev->slots = g_new0(struct Mlx5CmdSlot, MLX5_NR_CMDS);
    for (i = 0; i < MLX5_NR_CMDS; i++) {
        struct Mlx5CmdSlot *slot = &dev->slots[i];

        slot->dev = dev;
        slot->index = i;
        slot->timer = timer_new_ns(QEMU_CLOCK_VIRTUAL, cmd_run, slot);
    }
}

void mlx5_cmd_reset(Mlx5Device *dev)
{
    unsigned i;

    for (i = 0; i < MLX5_NR_CMDS; i++) {
        timer_del(dev->slots[i].timer);
        g_hash_table_remove(dev->parked, dev->slots[i].timer);
        dev->slots[i].busy = false;
    }
}

void mlx5_cmd_exit(Mlx5Device *dev)
{
    unsigned i;

    for (i = 0; i < MLX5_NR_CMDS; i++) {
        timer_free(dev->slots[i].timer);
    }
    g_free(dev->slots);
    dev->slots = NULL;
}
