/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The adapter on its bus: BARs, interrupts, reset, removal.
 *
 * BAR 0 begins with the initialisation segment, a picture of the firmware's
 * state that the driver reads and the three words by which it reaches the
 * command queue.  From page MLX5_FIRST_UAR on, each page is a UAR, where
 * doorbells are rung; a UAR page belongs to one process, which maps it.
 * BAR 2 has the MSI-X table, BAR 4 the test registers (mlx5_test.c).
 *
 * A store to a BAR is recorded by the part that it is for, which schedules a
 * timer.  Nothing else happens while the vCPU waits.
 *
 * Three ways lead back to the state after power-on: a reset of the machine or
 * the bus, a function-level reset, and the end of the device.  All of them end
 * in mlx5_reset_all(), after which no timer of an object exists.  Knobs and
 * counters outlive it, so that a test can see what a reset did.
 *
 * "removed" is surprise removal as the driver sees it: configuration space and
 * BAR 0 read as ones, stores are dropped, DMA and interrupts do not happen.
 * The state inside is left as it is; the driver's next ENABLE_HCA clears it.
 */
#include "mlx5_link.h"
#include "hw/pci/msix.h"
#include "hw/qdev-properties.h"
#include "hw/qdev-properties-system.h"
#include "migration/vmstate.h"
#include "qapi/error.h"
#include "trace.h"

enum {
    VENDOR_ID = 0x15b3,
    DEVICE_ID = 0x1018,             /* ConnectX-5 virtual function */
    CLASS_INFINIBAND = 0x0207,

    FW_MAJOR = 16,
    FW_MINOR = 35,
    FW_SUBMINOR = 2000,
    CMD_IF_REV = 5,
    CMDQ_SHAPE = 4 << 4 | 6,        /* log2: of the slots, of the stride */
    CMDQ_ADDR_LOW = 0xfffff000,

    UAR_SHIFT = 12,
    UAR_CQ_ARM = 0x20,
    UAR_EQ_ARM = 0x40,
    UAR_EQ_CI = 0x48,

    HEALTH_NS = 500 * SCALE_MS,
    DEAD_TICKS = 10,                /* until the firmware is reset */
    MSIX_BAR_SIZE = 4 * KiB,
    MSIX_PBA = 2 * KiB,
    PCIE_CAP = 0x60,
};

#define ISEG(field) offsetof(struct mlx5_init_seg, field)

/* ---- chance ---- */

uint32_t mlx5_random(Mlx5Device *dev)
{
    uint64_t seed = dev->knob[MLX5_KNOB_SEED];

    /* Two adapters of one seed shall not do the same. */
    if (!dev->random || dev->random_seed != seed) {
        dev->random_seed = seed;
        dev->random = (seed ^ seed >> 32) * 2654435761u + dev->lid;
        dev->random |= !dev->random;
    }
    dev->random ^= dev->random << 13;
    dev->random ^= dev->random >> 17;
    dev->random ^= dev->random << 5;
    return dev->random;
}

int64_t mlx5_when(Mlx5Device *dev, unsigned knob)
{
    const uint64_t longest = 1000ULL * NANOSECONDS_PER_SECOND;
    uint64_t jitter = MIN(dev->knob[MLX5_KNOB_JITTER], longest);
    uint64_t delay = MIN(dev->knob[knob], longest);

    if (jitter) {
        uint64_t random = (uint64_t)mlx5_random(dev) << 32 | mlx5_random(dev);

        delay += random % (jitter + 1);
    }
    return qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + delay;
}

bool mlx5_hostile(Mlx5Device *dev, uint32_t kind)
{
    uint64_t every = MAX(dev->knob[MLX5_KNOB_HOSTILE_EVERY], 1);

    if (!(dev->knob[MLX5_KNOB_HOSTILE] & kind)) {
        return false;
    }
    if (++dev->hostile_turn % every) {
        return false;
    }
    mlx5_count(dev, MLX5_COUNTER_HOSTILE, 1);
    return true;
}

/* ---- interrupts ---- */

/*
 * The engines only note a vector.  What an MSI-X entry addresses is up to the
 * guest: the store may hit the configuration space and reset this adapter, or
 * switch its slot off and destroy it.  So it is made from a timer of its own,
 * with no engine on the stack, and not from a QEMUBH: under -icount the timers
 * of the virtual clock run at an exact instruction, and bottom halves do not.
 */
void mlx5_interrupt(Mlx5Device *dev, unsigned vector)
{
    if (dev->removed || vector >= MLX5_NR_VECTORS) {
        return;
    }
    dev->vectors |= 1u << vector;
    timer_mod_ns(dev->interrupt, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL));
}

static void interrupt_timer(void *opaque)
{
    Mlx5Device *dev = opaque;

    if (mlx5_bus_park(dev, dev->interrupt)) {
        return;
    }
    /* One of these stores may be what ends the device. */
    object_ref(OBJECT(dev));
    while (dev->vectors) {
        unsigned vector = ctz32(dev->vectors);

        dev->vectors &= ~(1u << vector);
        if (!dev->removed) {
            mlx5_count(dev, MLX5_COUNTER_INTERRUPTS, 1);
            msix_notify(PCI_DEVICE(dev), vector);
        }
    }
    object_unref(OBJECT(dev));
}

static void interrupt_cancel(Mlx5Device *dev)
{
    dev->vectors = 0;
    timer_del(dev->interrupt);
}

/* ---- BAR 0 ---- */

static void iseg_reset(Mlx5Device *dev)
{
    uint8_t *p = dev->iseg;

    memset(p, 0, sizeof(dev->iseg));
    stl_be_p(p + ISEG(fw_rev), FW_MINOR << 16 | FW_MAJOR);
    stl_be_p(p + ISEG(cmdif_rev_fw_sub), CMD_IF_REV << 16 | FW_SUBMINOR);
    stl_be_p(p + ISEG(cmdq_addr_l_sz), CMDQ_SHAPE);
    stl_be_p(p + ISEG(health.fw_ver),
             FW_MAJOR << 24 | FW_MINOR << 16 | FW_SUBMINOR);
}

/*
 * The driver gave it up.  What is inside stays: no header says that it goes by
 * this alone, and a reset is what ends it for certain.
 */
static void iseg_disable(Mlx5Device *dev)
{
    uint8_t *p = dev->iseg + ISEG(cmdq_addr_l_sz);

    stl_be_p(p, ldl_be_p(p) |
             MLX5_INITIAL_SEG_NIC_INTERFACE_DISABLED << MLX5_NIC_IFC_OFFSET);
}

/* What is inside goes, no DMA is left over, and the interface is disabled. */
static void firmware_reset(Mlx5Device *dev)
{
    mlx5_cmd_reset(dev);
    mlx5_reset_objects(dev);
    mlx5_eq_reset(dev);
    mlx5_pages_reset(dev);
    dev->knob[MLX5_KNOB_SYNDROME] = 0;
    dev->dead_ticks = 0;
    iseg_disable(dev);
}

/* A counter that stands still is what tells the driver of a dead adapter. */
static void iseg_health_tick(void *opaque)
{
    Mlx5Device *dev = opaque;
    uint8_t *p = dev->iseg + ISEG(health_counter);

    stl_be_p(p, (ldl_be_p(p) + 1) & 0xffffff);
    /* Not a virtual function but its parent resets the firmware. */
    dev->dead_ticks = mlx5_health_dead(dev) ? dev->dead_ticks + 1 : 0;
    if (dev->dead_ticks == DEAD_TICKS) {
        firmware_reset(dev);
    }
    if (mlx5_bus_master(dev)) {
        mlx5_pages_balance(dev);
    }
    timer_mod(dev->health,
              qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + HEALTH_NS);
}

static void iseg_write(Mlx5Device *dev, hwaddr addr, uint32_t value)
{
    switch (addr) {
    case ISEG(cmdq_addr_h):
        stl_be_p(dev->iseg + addr, value);
        break;
    case ISEG(cmdq_addr_l_sz):
        /* The driver stores zeros over the shape and reads it next time. */
        stl_be_p(dev->iseg + addr, (value & CMDQ_ADDR_LOW) | CMDQ_SHAPE);
        if (extract32(value, MLX5_NIC_IFC_OFFSET, 3)) {
            iseg_disable(dev);
        }
        break;
    case ISEG(cmd_dbell):
        mlx5_cmd_doorbell(dev, value);
        break;
    default:
        trace_mlx5_mmio_ignored(dev->lid, addr, value, 4);
        break;
    }
}

static uint64_t bar_read(void *opaque, hwaddr addr, unsigned size)
{
    Mlx5Device *dev = opaque;

    if (dev->removed) {
        return UINT64_MAX;
    }
    if (addr + size > MLX5_ISEG_SIZE) {
        return 0;
    }
    mlx5_health_show(dev);
    if (addr >= ISEG(internal_timer_h) && addr < ISEG(rsvd3)) {
        stq_be_p(dev->iseg + ISEG(internal_timer_h),
                 qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL));
    }
    return ldn_le_p(dev->iseg + addr, size);
}

/* False: not a doorbell. */
static bool uar_write(Mlx5Device *dev, uint32_t uar, uint32_t reg,
                      uint64_t value, unsigned size)
{
    if (size == 4 && (reg == UAR_EQ_ARM || reg == UAR_EQ_CI)) {
        mlx5_eq_doorbell(dev, uar, bswap32(value));
    } else if (size == 8 && reg == UAR_CQ_ARM) {
        mlx5_cq_doorbell(dev, uar, bswap64(value));
    } else {
        return mlx5_bf_store(dev, uar, reg, value, size);
    }
    return true;
}

static void bar_write(void *opaque, hwaddr addr, uint64_t value, unsigned size)
{
    Mlx5Device *dev = opaque;
    uint32_t page = addr >> UAR_SHIFT;

    if (dev->removed) {
        return;
    }
    if (addr + size <= MLX5_ISEG_SIZE && size == 4) {
        iseg_write(dev, addr, bswap32(value));
        return;
    }
    if (!mlx5_uar_valid(dev, page) ||
        !uar_write(dev, page, addr & MAKE_64BIT_MASK(0, UAR_SHIFT), value,
                   size)) {
        trace_mlx5_mmio_ignored(dev->lid, addr, value, size);
    }
}

static const MemoryRegionOps bar_ops = {
    .read = bar_read,
    .write = bar_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid.min_access_size = 1,
    .valid.max_access_size = 8,
    .impl.min_access_size = 1,
    .impl.max_access_size = 8,
};

/* ---- configuration space ---- */

static uint32_t config_read(PCIDevice *pci, uint32_t addr, int len)
{
    if (MLX5(pci)->removed) {
        return MAKE_64BIT_MASK(0, len * 8);
    }
    return pci_default_read_config(pci, addr, len);
}

bool mlx5_has_master_bit(Mlx5Device *dev)
{
    return pci_get_word(PCI_DEVICE(dev)->config + PCI_COMMAND) &
           PCI_COMMAND_MASTER;
}

static void drain_show(Mlx5Device *dev)
{
    PCIDevice *pci = PCI_DEVICE(dev);
    uint8_t *devsta = pci->config + pci->exp.exp_cap + PCI_EXP_DEVSTA;
    bool drains = timer_pending(dev->drain);

    pci_set_word(devsta, (pci_get_word(devsta) & ~PCI_EXP_DEVSTA_TRPND) |
                         drains * PCI_EXP_DEVSTA_TRPND);
    memory_region_set_enabled(&pci->bus_master_enable_region,
                              mlx5_has_master_bit(dev) || drains);
}

static void drained(void *opaque)
{
    drain_show(opaque);
}

/* What was under way when mastering went still arrives; the status shows it. */
static void drain_start(Mlx5Device *dev)
{
    timer_mod_ns(dev->drain, mlx5_when(dev, MLX5_KNOB_DRAIN));
    drain_show(dev);
}

static void config_write(PCIDevice *pci, uint32_t addr, uint32_t value, int len)
{
    Mlx5Device *dev = MLX5(pci);
    bool master = mlx5_has_master_bit(dev);

    if (dev->removed) {
        return;
    }
    pci_default_write_config(pci, addr, value, len);
    if (master && !mlx5_has_master_bit(dev)) {
        drain_start(dev);
    }
    pcie_cap_flr_write_config(pci, addr, value, len);
    mlx5_bus_changed(dev);
}

/* ---- reset ---- */

void mlx5_reset_objects(Mlx5Device *dev)
{
    /* What uses goes before what is used; QPs cancel their own faults. */
    mlx5_bf_reset(dev);
    mlx5_fabric_reset(dev);
    mlx5_qp_reset(dev);
    mlx5_fault_reset(dev);
    mlx5_srq_reset(dev);
    mlx5_cq_reset(dev);
    mlx5_mkey_reset(dev);
    mlx5_res_reset(dev);
}

void mlx5_reset_all(Mlx5Device *dev)
{
    interrupt_cancel(dev);
    timer_del(dev->drain);
    drain_show(dev);
    mlx5_cmd_reset(dev);
    g_hash_table_remove_all(dev->parked);
    mlx5_reset_objects(dev);
    mlx5_eq_reset(dev);
    mlx5_pages_reset(dev);
    mlx5_caps_reset(dev);
    iseg_reset(dev);
    dev->knob[MLX5_KNOB_SYNDROME] = 0;
    dev->dead_ticks = 0;
    dev->nr_resets++;
    trace_mlx5_reset(dev->lid, dev->nr_resets);
}

static void device_reset(DeviceState *qdev)
{
    Mlx5Device *dev = MLX5(qdev);
    PCIDevice *pci = PCI_DEVICE(dev);
    uint8_t *devctl = pci->config + pci->exp.exp_cap + PCI_EXP_DEVCTL;

    /* After an FLR the same guest still runs, and still has its mappings. */
    if (!(pci_get_word(devctl) & PCI_EXP_DEVCTL_BCR_FLR)) {
        mlx5_dma_reset(dev);
    }
    mlx5_reset_all(dev);
}

/* ---- begin and end ---- */

static void init_parts(Mlx5Device *dev)
{
    mlx5_res_init(dev);
    mlx5_cmd_init(dev);
    mlx5_eq_init(dev);
    mlx5_cq_init(dev);
    mlx5_mkey_init(dev);
    mlx5_qp_init(dev);
    mlx5_srq_init(dev);
    mlx5_fault_init(dev);
    mlx5_bf_init(dev);
    mlx5_pages_init(dev);
    mlx5_caps_reset(dev);
    dev->interrupt = timer_new_ns(QEMU_CLOCK_VIRTUAL, interrupt_timer, dev);
    dev->drain = timer_new_ns(QEMU_CLOCK_VIRTUAL, drained, dev);
    iseg_reset(dev);
    dev->dma_pages = g_hash_table_new(NULL, NULL);
    dev->parked = g_hash_table_new(NULL, NULL);
    dev->health = timer_new_ns(QEMU_CLOCK_VIRTUAL, iseg_health_tick, dev);
    iseg_health_tick(dev);
}

static bool init_msix(Mlx5Device *dev, Error **errp)
{
    PCIDevice *pci = PCI_DEVICE(dev);
    unsigned vector;

    memory_region_init(&dev->msix_bar, OBJECT(dev), "mlx5-msix", MSIX_BAR_SIZE);
    pci_register_bar(pci, 2, PCI_BASE_ADDRESS_SPACE_MEMORY, &dev->msix_bar);
    if (msix_init(pci, MLX5_NR_VECTORS, &dev->msix_bar, 2, 0, &dev->msix_bar,
                  2, MSIX_PBA, 0, errp)) {
        return false;
    }
    for (vector = 0; vector < MLX5_NR_VECTORS; vector++) {
        msix_vector_use(pci, vector);
    }
    return true;
}

static void device_realize(PCIDevice *pci, Error **errp)
{
    Mlx5Device *dev = MLX5(pci);

    if (!dev->lid || dev->lid >= MLX5_LID_SM) {
        error_setg(errp, "mlx5: lid is to be 1 to 0xbffe, a unicast LID");
        return;
    }
    if (!mlx5_fabric_free(dev)) {
        error_setg(errp, "mlx5: LID %u is another adapter's in fabric '%s'",
                   dev->lid, dev->fabric);
        return;
    }
    if (!pci_is_express(pci)) {
        error_setg(errp, "mlx5: needs a PCI Express slot");
        return;
    }
    pcie_endpoint_cap_init(pci, PCIE_CAP);
    pcie_cap_flr_init(pci);
    memory_region_init_io(&dev->bar, OBJECT(dev), &bar_ops, dev, "mlx5",
                          MLX5_BAR_SIZE);
    pci_register_bar(pci, 0, PCI_BASE_ADDRESS_MEM_TYPE_64 |
                     PCI_BASE_ADDRESS_MEM_PREFETCH, &dev->bar);
    if (!init_msix(dev, errp)) {
        return;
    }
    init_parts(dev);
    if (dev->test_bar) {
        mlx5_test_init(dev);
    }
    mlx5_fabric_join(dev);
    mlx5_link_init(dev);
}

static void device_exit(PCIDevice *pci)
{
    Mlx5Device *dev = MLX5(pci);
    Mlx5Table *tables[] = {
        &dev->qps, &dev->srqs, &dev->cqs, &dev->mkeys, &dev->eqs, &dev->pds,
        &dev->xrcds, &dev->tds, &dev->uctxs, &dev->uars, &dev->umems,
        &dev->counter_sets,
    };
    unsigned i;

    mlx5_link_exit(dev);
    mlx5_fabric_leave(dev);
    mlx5_reset_all(dev);
    mlx5_cmd_exit(dev);
    mlx5_qp_exit(dev);
    mlx5_fault_exit(dev);
    mlx5_bf_exit(dev);
    mlx5_pages_exit(dev);
    for (i = 0; i < ARRAY_SIZE(tables); i++) {
        mlx5_table_free(tables[i]);
    }
    timer_free(dev->health);
    timer_free(dev->drain);
    timer_free(dev->interrupt);
    g_hash_table_destroy(dev->dma_pages);
    g_hash_table_destroy(dev->parked);
    msix_uninit(pci, &dev->msix_bar, &dev->msix_bar);
}

/* ---- the type ---- */

static bool removed_get(Object *obj, Error **errp)
{
    return MLX5(obj)->removed;
}

static void removed_set(Object *obj, bool value, Error **errp)
{
    MLX5(obj)->removed = value;
}

static void device_instance_init(Object *obj)
{
    static const char *const knobs[] = {
#define KNOB(id, name, value) name,
        MLX5_KNOBS(KNOB)
    };
    static const uint64_t defaults[] = {
#define DEFAULT(id, name, value) value,
        MLX5_KNOBS(DEFAULT)
    };
    static const char *const counters[] = {
#define COUNTER(id, name) "counter-" name,
        MLX5_COUNTERS(COUNTER)
    };
    Mlx5Device *dev = MLX5(obj);
    unsigned i;

    dev->fabric = g_strdup("default");
    object_property_add_bool(obj, "removed", removed_get, removed_set);
    for (i = 0; i < MLX5_NR_KNOBS; i++) {
        dev->knob[i] = defaults[i];
        object_property_add_uint64_ptr(obj, knobs[i], &dev->knob[i],
                                       OBJ_PROP_FLAG_READWRITE);
    }
    for (i = 0; i < MLX5_NR_COUNTERS; i++) {
        object_property_add_uint64_ptr(obj, counters[i], &dev->counter[i],
                                       OBJ_PROP_FLAG_READ);
    }
}

static Property device_properties[] = {
    DEFINE_PROP_UINT16("lid", Mlx5Device, lid, 1),
    DEFINE_PROP_STRING("fabric", Mlx5Device, fabric),
    DEFINE_PROP_CHR("link", Mlx5Device, chr),
    DEFINE_PROP_BOOL("memory-scheme", Mlx5Device, memory_scheme, false),
    DEFINE_PROP_BOOL("indirect-umr", Mlx5Device, indirect_umr, true),
    DEFINE_PROP_BOOL("test-bar", Mlx5Device, test_bar, false),
    DEFINE_PROP_SIZE("quota", Mlx5Device, quota, 1 * GiB),
    DEFINE_PROP_END_OF_LIST(),
};

static const VMStateDescription device_vmstate = {
    .name = TYPE_MLX5,
    .unmigratable = 1,
};

static void device_class_init(ObjectClass *class, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(class);
    PCIDeviceClass *pc = PCI_DEVICE_CLASS(class);

    pc->realize = device_realize;
    pc->exit = device_exit;
    pc->config_read = config_read;
    pc->config_write = config_write;
    pc->vendor_id = VENDOR_ID;
    pc->device_id = DEVICE_ID;
    pc->subsystem_vendor_id = VENDOR_ID;
    pc->subsystem_id = 0x0017;
    pc->class_id = CLASS_INFINIBAND;
    dc->desc = "ConnectX-5 virtual function (InfiniBand)";
    dc->reset = device_reset;
    dc->vmsd = &device_vmstate;
    set_bit(DEVICE_CATEGORY_NETWORK, dc->categories);
    device_class_set_props(dc, device_properties);
}

static InterfaceInfo device_interfaces[] = {
    { INTERFACE_PCIE_DEVICE },
    { }
};

static const TypeInfo device_info = {
    .name = TYPE_MLX5,
    .parent = TYPE_PCI_DEVICE,
    .instance_size = sizeof(Mlx5Device),
    .instance_init = device_instance_init,
    .class_init = device_class_init,
    .interfaces = device_interfaces,
};

static void register_types(void)
{
    type_register_static(&device_info);
}

type_init(register_types)
