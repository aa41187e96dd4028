/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the adapter says of itself: capabilities, its port, its registers.
 *
 * No capability is reported that the model lacks; one that is not listed here
 * reads as zero.  Some zeros are choices:
 *
 *   set_deth_sqpn      one GSI QP is enough
 *   uar_4k             a UAR is a page, whatever the size of the guest's
 *   vport_group_manager, eswitch_manager   of a physical function
 *   fast_teardown      the driver goes the long way, which is the one to test
 *
 * ib_virt is set, so that the driver asks about the port by commands instead
 * of management datagrams.
 *
 * The driver chooses between the two schemes of page faults: when the maximum
 * capabilities have mem_page_fault and page_prefetch, it sets the first by
 * SET_HCA_CAP, and MLX5Device.memory_faults tells what it chose.
 */
#include "mlx5.h"
#include "trace.h"

enum {
    CAP_CURRENT = 1,                    /* op_mod: this bit, the type above */

    PORT_ACTIVE = 4,
    PORT_PHYS_LINK_UP = 5,
    PORT_WIDTH_4X = 1 << 2,
    PORT_SPEED_EDR = 1 << 5,
    PORT_MTU = 4096,
    PORT_VLS = 1,                       /* VL 0 alone */
    PORT_SUBNET_TIMEOUT = 18,

    GID_TABLE = 8,                      /* gid_table_size 0 */
    PKEY_TABLE = 128,                   /* pkey_table_size 0 */
    PKEY_DEFAULT = 0xffff,
    ALL_ENTRIES = 0xffff,

    REG_PMTU = 0x5003,
    REG_PTYS = 0x5004,
    REG_PPCNT = 0x5008,
    REG_PVLC = 0x500f,
    REG_NODE_DESC = 0x6001,

    ATOMIC_CMP_SWAP = 1 << 0,
    ATOMIC_FETCH_ADD = 1 << 1,

    IEEE_VENDOR = 0x0002c9,
    PCI_VENDOR = 0x15b3,
    MAX_ISSI = 1,
};

#define BOARD_ID "QEMU_MLX5"

/* ---- capabilities ---- */

typedef struct Mlx5Cap {
    uint16_t off, width;                /* in bits */
    uint64_t value;
} Mlx5Cap;

static void caps_set(void *to, const Mlx5Cap *caps, size_t nr)
{
    size_t i;

    for (i = 0; i < nr; i++) {
        mlx5_bits_set(to, caps[i].off, caps[i].width, caps[i].value);
    }
}

#define GENERAL(f, v) \
    { MLX5_OFF(cmd_hca_cap, f), MLX5_WIDTH(cmd_hca_cap, f), v }

static const Mlx5Cap caps_general[] = {
    GENERAL(port_type, 0),              /* InfiniBand */
    GENERAL(num_ports, 1),
    GENERAL(ib_virt, 1),
    GENERAL(vport_counters, 1),
    GENERAL(gid_table_size, 0),
    GENERAL(pkey_table_size, 0),
    GENERAL(log_max_msg, 30),
    GENERAL(local_ca_ack_delay, 16),

    GENERAL(rc, 1),
    GENERAL(uc, 1),
    GENERAL(ud, 1),
    GENERAL(xrc, 1),
    GENERAL(atomic, 1),
    GENERAL(pg, 1),
    GENERAL(imaicl, 1),
    GENERAL(cqe_version, 1),
    GENERAL(cq_resize, 1),
    GENERAL(cq_moderation, 1),
    GENERAL(cq_oi, 1),

    GENERAL(null_mkey, 1),
    GENERAL(terminate_scatter_list_mkey, 1),
    GENERAL(fixed_buffer_size, 1),
    GENERAL(umr_extended_translation_offset, 1),
    GENERAL(umr_fence, 2),              /* none is needed */
    GENERAL(max_indirection, 4),
    GENERAL(log_max_klm_list_size, 16),
    GENERAL(log_max_mrw_sz, 63),
    GENERAL(log_pg_sz, 12),

    GENERAL(log_max_qp, 16),
    GENERAL(log_max_qp_sz, 15),
    GENERAL(log_max_cq, 16),
    GENERAL(log_max_cq_sz, 22),
    GENERAL(log_max_eq, 6),
    GENERAL(log_max_eq_sz, 20),
    GENERAL(max_num_eqs, 32),
    GENERAL(log_max_sq, 16),            /* the driver tries bf with one */
    GENERAL(log_max_srq, 16),
    GENERAL(log_max_srq_sz, 15),
    GENERAL(log_max_rmp, 16),
    GENERAL(log_max_mkey, 24),
    GENERAL(log_max_pd, 16),
    GENERAL(log_max_xrcd, 10),
    GENERAL(log_max_transport_domain, 8),
    GENERAL(log_max_uctx, 8),
    GENERAL(log_max_umem, 16),
    GENERAL(log_max_mcg, 8),
    GENERAL(max_qp_mcg, 240),
    GENERAL(log_max_ra_req_qp, 4),
    GENERAL(log_max_ra_res_qp, 4),
    GENERAL(max_wqe_sz_sq, 1024),
    GENERAL(max_wqe_sz_rq, 512),

    GENERAL(bf, 1),
    GENERAL(log_bf_reg_size, 9),        /* two buffers of half of that */
    GENERAL(num_of_uars_per_page, 1),
    /* No clock for user space: its page needs the Ethernet driver. */
    GENERAL(device_frequency_mhz, 1000),
};

#define ODP(scheme, service) \
    { MLX5_OFF(odp_cap, scheme.service), \
      MLX5_WIDTH(odp_cap, scheme.service), 1 }
#define ODP_SERVICES(scheme) \
    ODP(scheme, rc_odp_caps.send), ODP(scheme, rc_odp_caps.receive), \
    ODP(scheme, rc_odp_caps.srq_receive), ODP(scheme, rc_odp_caps.write), \
    ODP(scheme, rc_odp_caps.read), ODP(scheme, rc_odp_caps.atomic), \
    ODP(scheme, ud_odp_caps.send), \
    ODP(scheme, xrc_odp_caps.send), ODP(scheme, xrc_odp_caps.srq_receive), \
    ODP(scheme, xrc_odp_caps.write), ODP(scheme, xrc_odp_caps.read), \
    ODP(scheme, xrc_odp_caps.atomic)

static const Mlx5Cap caps_transport[] = {
    ODP_SERVICES(transport_page_fault_scheme_cap),
};

static const Mlx5Cap caps_memory[] = {
    ODP_SERVICES(memory_page_fault_scheme_cap),
    ODP(memory_page_fault_scheme_cap, page_prefetch),
};

static void caps_odp(Mlx5Device *dev, void *caps, bool current)
{
    caps_set(caps, caps_transport, ARRAY_SIZE(caps_transport));
    if (dev->memory_scheme) {
        caps_set(caps, caps_memory, ARRAY_SIZE(caps_memory));
        MLX5_PRM_SET(odp_cap, caps, mem_page_fault,
                     !current || dev->memory_faults);
    }
}

static void caps_atomic(Mlx5Device *dev, void *caps, bool current)
{
    MLX5_PRM_SET(atomic_caps, caps, supported_atomic_req_8B_endianness_mode_1,
                 1);
    MLX5_PRM_SET(atomic_caps, caps, atomic_req_8B_endianness_mode,
                 !current || dev->atomic_host_endian);
    MLX5_PRM_SET(atomic_caps, caps, atomic_operations,
                 ATOMIC_CMP_SWAP | ATOMIC_FETCH_ADD);
    MLX5_PRM_SET(atomic_caps, caps, atomic_size_qp,
                 MLX5_ATOMIC_CAPS_ATOMIC_SIZE_QP_8_BYTES);
}

uint8_t mlx5_query_hca_cap(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    void *caps = MLX5_PRM_PTR(query_hca_cap_out, cmd->out, capability);
    bool current = cmd->op_mod & CAP_CURRENT;

    switch (cmd->op_mod >> 1) {
    case MLX5_SET_HCA_CAP_OP_MOD_GENERAL_DEVICE:
        caps_set(caps, caps_general, ARRAY_SIZE(caps_general));
        MLX5_PRM_SET(cmd_hca_cap, caps, umr_indirect_mkey_disabled,
                     !dev->indirect_umr);
        break;
    case MLX5_SET_HCA_CAP_OP_MOD_ODP:
        caps_odp(dev, caps, current);
        break;
    case MLX5_SET_HCA_CAP_OP_MOD_ATOMIC:
        caps_atomic(dev, caps, current);
        break;
    }
    /* Of all other types there is nothing: zeros say so. */
    return MLX5_CMD_STAT_OK;
}

/* The general ones that the driver may set change nothing here. */
uint8_t mlx5_set_hca_cap(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    void *caps = MLX5_PRM_PTR(set_hca_cap_in, cmd->in, capability);
    bool memory;

    switch (cmd->op_mod >> 1) {
    case MLX5_SET_HCA_CAP_OP_MOD_GENERAL_DEVICE:
        return MLX5_CMD_STAT_OK;
    case MLX5_SET_HCA_CAP_OP_MOD_ODP:
        memory = MLX5_PRM_GET(odp_cap, caps, mem_page_fault);
        if (memory && !dev->memory_scheme) {
            return MLX5_CMD_STAT_BAD_PARAM_ERR;
        }
        dev->memory_faults = memory;
        return MLX5_CMD_STAT_OK;
    case MLX5_SET_HCA_CAP_OP_MOD_ATOMIC:
        dev->atomic_host_endian =
            MLX5_PRM_GET(atomic_caps, caps, atomic_req_8B_endianness_mode);
        return MLX5_CMD_STAT_OK;
    default:
        return MLX5_CMD_STAT_BAD_PARAM_ERR;
    }
}

/* ---- the function ---- */

uint8_t mlx5_query_adapter(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    void *out = MLX5_PRM_PTR(query_adapter_out, cmd->out, query_adapter_struct);

    MLX5_PRM_SET(query_adapter_param_block, out, ieee_vendor_id, IEEE_VENDOR);
    MLX5_PRM_SET(query_adapter_param_block, out, vsd_vendor_id, PCI_VENDOR);
    memcpy(MLX5_PRM_PTR(query_adapter_param_block, out, vsd_contd_psid),
           BOARD_ID, sizeof(BOARD_ID));
    return MLX5_CMD_STAT_OK;
}

uint8_t mlx5_query_issi(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    MLX5_PRM_SET(query_issi_out, cmd->out, current_issi, dev->issi);
    MLX5_PRM_SET(query_issi_out, cmd->out, supported_issi_dw0,
                 MAKE_64BIT_MASK(0, MAX_ISSI + 1));
    return MLX5_CMD_STAT_OK;
}

uint8_t mlx5_set_issi(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint16_t issi = MLX5_PRM_GET(set_issi_in, cmd->in, current_issi);

    if (issi > MAX_ISSI) {
        return MLX5_CMD_STAT_BAD_PARAM_ERR;
    }
    dev->issi = issi;
    return MLX5_CMD_STAT_OK;
}

/* The firmware's memory is QEMU's: no page is asked of the guest. */
uint8_t mlx5_query_special_contexts(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    void *out = cmd->out;

    MLX5_PRM_SET(query_special_contexts_out, out, resd_lkey,
                 MLX5_RESERVED_LKEY);
    MLX5_PRM_SET(query_special_contexts_out, out, null_mkey, MLX5_NULL_MKEY);
    MLX5_PRM_SET(query_special_contexts_out, out, terminate_scatter_list_mkey,
                 MLX5_TERMINATE_LKEY);
    return MLX5_CMD_STAT_OK;
}

/* ---- the port ---- */

static uint64_t node_guid(const Mlx5Device *dev)
{
    return mlx5_fabric_guid(dev->lid) & ~1ull;
}

uint8_t mlx5_query_vport_context(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    void *c = MLX5_PRM_PTR(query_hca_vport_context_out, cmd->out,
                           hca_vport_context);

    MLX5_PRM_SET(hca_vport_context, c, port_physical_state, PORT_PHYS_LINK_UP);
    MLX5_PRM_SET(hca_vport_context, c, port_state, PORT_ACTIVE);
    MLX5_PRM_SET(hca_vport_context, c, vport_state, PORT_ACTIVE);
    MLX5_PRM_SET(hca_vport_context, c, system_image_guid, node_guid(dev));
    MLX5_PRM_SET(hca_vport_context, c, node_guid, node_guid(dev));
    MLX5_PRM_SET(hca_vport_context, c, port_guid, mlx5_fabric_guid(dev->lid));
    MLX5_PRM_SET(hca_vport_context, c, cap_mask1, dev->port_caps);
    MLX5_PRM_SET(hca_vport_context, c, cap_mask1_field_select, UINT32_MAX);
    MLX5_PRM_SET(hca_vport_context, c, lid, dev->lid);
    MLX5_PRM_SET(hca_vport_context, c, sm_lid, MLX5_LID_SM);
    MLX5_PRM_SET(hca_vport_context, c, subnet_timeout, PORT_SUBNET_TIMEOUT);
    return MLX5_CMD_STAT_OK;
}

/* What a connection manager sets there is what it reads: no more follows. */
uint8_t mlx5_modify_vport_context(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    void *c = MLX5_PRM_PTR(modify_hca_vport_context_in, cmd->in,
                           hca_vport_context);
    uint32_t mask = MLX5_PRM_GET(hca_vport_context, c, cap_mask1_field_select);
    uint32_t caps = MLX5_PRM_GET(hca_vport_context, c, cap_mask1);

    dev->port_caps = (dev->port_caps & ~mask) | (caps & mask);
    return MLX5_CMD_STAT_OK;
}

/* How many entries from first the output has room for; 0: not a good index. */
static size_t vport_entries(uint16_t index, size_t table, size_t room,
                            size_t *first)
{
    *first = index == ALL_ENTRIES ? 0 : index;
    if (*first >= table) {
        return 0;
    }
    return MIN(index == ALL_ENTRIES ? table : 1, room);
}

uint8_t mlx5_query_vport_gid(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint8_t *gid = cmd->out + MLX5_BYTES(query_hca_vport_gid_out);
    size_t room = (cmd->out + cmd->out_len - gid) / 16;
    size_t first, nr;

    nr = vport_entries(MLX5_PRM_GET(query_hca_vport_gid_in, cmd->in, gid_index),
                       GID_TABLE, room, &first);
    if (!nr) {
        return MLX5_CMD_STAT_BAD_PARAM_ERR;
    }
    MLX5_PRM_SET(query_hca_vport_gid_out, cmd->out, gids_num, nr);
    if (!first) {
        mlx5_fabric_gid(dev->lid, gid);
    }
    return MLX5_CMD_STAT_OK;
}

/* There is a single one; an entry of zero is none. */
uint16_t mlx5_pkey(uint16_t index)
{
    return index ? 0 : PKEY_DEFAULT;
}

uint8_t mlx5_query_vport_pkey(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint8_t *pkey = cmd->out + MLX5_BYTES(query_hca_vport_pkey_out);
    size_t room = (cmd->out + cmd->out_len - pkey) / MLX5_BYTES(pkey);
    uint16_t index = MLX5_PRM_GET(query_hca_vport_pkey_in, cmd->in, pkey_index);
    size_t first, nr;

    nr = vport_entries(index, PKEY_TABLE, room, &first);
    if (!nr) {
        return MLX5_CMD_STAT_BAD_PARAM_ERR;
    }
    if (!first) {
        MLX5_PRM_SET(pkey, pkey, pkey, mlx5_pkey(0));
    }
    return MLX5_CMD_STAT_OK;
}

/* What is sent is received: the fabric loses nothing. */
uint8_t mlx5_query_vport_counter(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint64_t packets = dev->counter[MLX5_COUNTER_MESSAGES];
    uint64_t octets = dev->counter[MLX5_COUNTER_BYTES];
    void *out = cmd->out;

    MLX5_PRM_SET(query_vport_counter_out, out, transmitted_ib_unicast.packets,
                 packets);
    MLX5_PRM_SET(query_vport_counter_out, out, transmitted_ib_unicast.octets,
                 octets);
    MLX5_PRM_SET(query_vport_counter_out, out, received_ib_unicast.packets,
                 packets);
    MLX5_PRM_SET(query_vport_counter_out, out, received_ib_unicast.octets,
                 octets);
    return MLX5_CMD_STAT_OK;
}

/* ---- registers ---- */

static void reg_ptys(void *reg)
{
    MLX5_PRM_SET(ptys_reg, reg, ib_link_width_capability, PORT_WIDTH_4X);
    MLX5_PRM_SET(ptys_reg, reg, ib_link_width_admin, PORT_WIDTH_4X);
    MLX5_PRM_SET(ptys_reg, reg, ib_link_width_oper, PORT_WIDTH_4X);
    MLX5_PRM_SET(ptys_reg, reg, ib_proto_capability, PORT_SPEED_EDR);
    MLX5_PRM_SET(ptys_reg, reg, ib_proto_admin, PORT_SPEED_EDR);
    MLX5_PRM_SET(ptys_reg, reg, ib_proto_oper, PORT_SPEED_EDR);
}

static void reg_pmtu(void *reg)
{
    MLX5_PRM_SET(pmtu_reg, reg, max_mtu, PORT_MTU);
    MLX5_PRM_SET(pmtu_reg, reg, admin_mtu, PORT_MTU);
    MLX5_PRM_SET(pmtu_reg, reg, oper_mtu, PORT_MTU);
}

static void reg_pvlc(void *reg)
{
    MLX5_PRM_SET(pvlc_reg, reg, vl_hw_cap, PORT_VLS);
    MLX5_PRM_SET(pvlc_reg, reg, vl_admin, PORT_VLS);
    MLX5_PRM_SET(pvlc_reg, reg, vl_operational, PORT_VLS);
}

static uint8_t reg_node_desc(Mlx5Device *dev, Mlx5Cmd *cmd, void *reg)
{
    void *in = MLX5_PRM_PTR(access_register_in, cmd->in, register_data);
    size_t room = cmd->in_len - MLX5_BYTES(access_register_in);

    if (cmd->op_mod == MLX5_ACCESS_REGISTER_IN_OP_MOD_WRITE) {
        memset(dev->node_desc, 0, sizeof(dev->node_desc));
        memcpy(dev->node_desc, in, MIN(room, sizeof(dev->node_desc)));
    }
    memcpy(reg, dev->node_desc, sizeof(dev->node_desc));
    return MLX5_CMD_STAT_OK;
}

static uint8_t reg_access(Mlx5Device *dev, Mlx5Cmd *cmd, void *reg)
{
    uint16_t id = MLX5_PRM_GET(access_register_in, cmd->in, register_id);

    if (id == REG_NODE_DESC) {
        return reg_node_desc(dev, cmd, reg);
    }
    if (cmd->op_mod != MLX5_ACCESS_REGISTER_IN_OP_MOD_READ) {
        return MLX5_CMD_STAT_BAD_PARAM_ERR;
    }
    switch (id) {
    case REG_PTYS:
        reg_ptys(reg);
        return MLX5_CMD_STAT_OK;
    case REG_PMTU:
        reg_pmtu(reg);
        return MLX5_CMD_STAT_OK;
    case REG_PVLC:
        reg_pvlc(reg);
        return MLX5_CMD_STAT_OK;
    case REG_PPCNT:
        /* Errors of the link, of which there are none. */
        return MLX5_CMD_STAT_OK;
    default:
        trace_mlx5_reg_unknown(dev->lid, id);
        return MLX5_CMD_STAT_BAD_PARAM_ERR;
    }
}

uint8_t mlx5_access_reg(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    /* A register may be longer than what the driver wants of it. */
    uint8_t reg[MLX5_BYTES(ptys_reg) + MLX5_BYTES(pmtu_reg)] = { };
    uint8_t status;

    QEMU_BUILD_BUG_ON(sizeof(reg) < sizeof(dev->node_desc));
    QEMU_BUILD_BUG_ON(sizeof(reg) < MLX5_BYTES(pvlc_reg));
    status = reg_access(dev, cmd, reg);
    memcpy(cmd->out + MLX5_BYTES(access_register_out), reg,
           MIN(sizeof(reg), cmd->out_len - MLX5_BYTES(access_register_out)));
    return status;
}

/* A response to whatever was asked, with zeros for an answer. */
uint8_t mlx5_mad_ifc(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    const uint8_t *in = MLX5_PRM_PTR(mad_ifc_in, cmd->in, mad);
    uint8_t *out = MLX5_PRM_PTR(mad_ifc_out, cmd->out, response_mad_packet);

    QEMU_BUILD_BUG_ON(MLX5_WIDTH(mad_ifc_in, mad) != MLX5_MAD_LEN * 8);
    memcpy(out, in, MLX5_MAD_HEADER_LEN);
    out[MLX5_MAD_METHOD] |= MLX5_MAD_RESPONSE;
    stw_be_p(out + MLX5_MAD_STATUS, 0);
    return MLX5_CMD_STAT_OK;
}

/* ---- begin and end ---- */

void mlx5_caps_reset(Mlx5Device *dev)
{
    dev->memory_faults = false;
    dev->atomic_host_endian = false;
    dev->issi = 0;
    dev->port_caps = 0;
    memset(dev->node_desc, 0, sizeof(dev->node_desc));
    snprintf(dev->node_desc, sizeof(dev->node_desc), "mlx5 LID %u", dev->lid);
}
