/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The test BAR: how a test in the guest looks into the adapter and turns its
 * knobs.  No driver knows of it; a test maps it by /sys/.../resource4.
 *
 * Registers have 8 bytes, little-endian.  Reads may be narrower, stores not.
 * dev/mlx5/mlx5ctl.py takes their names and places from the enum below.
 *
 *   0x000  magic "MLX5TEST"        0x008  version of this layout
 *   0x010  control (TEST_*)        0x018  scratch: outlives a reset
 *   0x020  number of resets        0x028  number of counters
 *   0x030  number of knobs         0x040  message to the DMA oracle
 *   0x038, 0x050, 0x058, 0x060     the oracle's last violation: kind (1 read,
 *                                  2 write, 3 and 4 the same against the
 *                                  mapping's direction, 5 by a translation that
 *                                  nobody wrote, 6 a page that was lent to the
 *                                  firmware and overwritten), address, key,
 *                                  virtual address
 *   0x068, 0x070, 0x078          a key, an index, and that key's 8 bytes of
 *                                  translations there (0 where it has none)
 *   0x080  1: page faults are of the memory scheme
 *   0x088  the shift of that key's pages
 *   0x1000 + 8i   counter i        0x2000 + 8i   knob i
 *   0x4000 + 32i  its name         0x8000 + 32i  its name
 *
 * The BAR goes on working while the adapter is "removed": someone has to plug
 * it in again.
 */
#include "mlx5_xlt.h"
#include "block/aio.h"
#include "hw/qdev-core.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "trace.h"

enum {
    TEST_BAR = 4,
    TEST_SIZE = 64 * KiB,
    TEST_VERSION = 1,
    TEST_NAME_LEN = 32,

    TEST_REG_MAGIC = 0x000,
    TEST_REG_VERSION = 0x008,
    TEST_REG_CONTROL = 0x010,
    TEST_REG_SCRATCH = 0x018,
    TEST_REG_RESETS = 0x020,
    TEST_REG_NR_COUNTERS = 0x028,
    TEST_REG_NR_KNOBS = 0x030,
    TEST_REG_VIOLATION = 0x038,
    TEST_REG_ORACLE = 0x040,
    TEST_REG_VIOLATION_ADDR = 0x050,
    TEST_REG_VIOLATION_KEY = 0x058,
    TEST_REG_VIOLATION_VA = 0x060,
    TEST_REG_KEY = 0x068,
    TEST_REG_INDEX = 0x070,
    TEST_REG_TRANSLATION = 0x078,
    TEST_REG_MEMORY_SCHEME = 0x080,
    TEST_REG_PAGE_SHIFT = 0x088,
    TEST_COUNTERS = 0x1000,
    TEST_KNOBS = 0x2000,
    TEST_COUNTER_NAMES = 0x4000,
    TEST_KNOB_NAMES = 0x8000,

    TEST_REMOVE = 1,                    /* surprise */
    TEST_EJECT = 2,                     /* orderly: the attention button */
    TEST_RESTORE = 3,                   /* the end of the surprise */
};

static const char counter_names[MLX5_NR_COUNTERS][TEST_NAME_LEN] = {
#define COUNTER_NAME(id, name) name,
    MLX5_COUNTERS(COUNTER_NAME)
};

static const char knob_names[MLX5_NR_KNOBS][TEST_NAME_LEN] = {
#define KNOB_NAME(id, name, value) name,
    MLX5_KNOBS(KNOB_NAME)
};

static Mlx5Mkey *test_mkey(Mlx5Device *dev)
{
    Mlx5Mkey *mkey = mlx5_mkey_find(dev, dev->test_key);

    return mkey && mlx5_mkey_key(mkey) == dev->test_key ? mkey : NULL;
}

static uint64_t test_translation(Mlx5Device *dev)
{
    Mlx5Mkey *mkey = test_mkey(dev);
    uint64_t entry = 0;

    if (mkey && dev->test_index < mkey->xlt_bytes / 8) {
        mlx5_mkey_xlt_read(mkey, dev->test_index * 8, &entry, 8);
    }
    return be64_to_cpu(entry);
}

static uint64_t test_shift(Mlx5Device *dev)
{
    Mlx5Mkey *mkey = test_mkey(dev);

    return mkey ? MLX5_PRM_GET(mkc, mkey->mkc, log_page_size) : 0;
}

static uint64_t test_register(Mlx5Device *dev, hwaddr addr)
{
    switch (addr) {
    case TEST_REG_MAGIC:
        return ldq_le_p("MLX5TEST");
    case TEST_REG_VERSION:
        return TEST_VERSION;
    case TEST_REG_CONTROL:
        return dev->removed;
    case TEST_REG_SCRATCH:
        return dev->test_scratch;
    case TEST_REG_RESETS:
        return dev->nr_resets;
    case TEST_REG_NR_COUNTERS:
        return MLX5_NR_COUNTERS;
    case TEST_REG_NR_KNOBS:
        return MLX5_NR_KNOBS;
    case TEST_REG_VIOLATION:
        return dev->violation.kind;
    case TEST_REG_VIOLATION_ADDR:
        return dev->violation.addr;
    case TEST_REG_VIOLATION_KEY:
        return dev->violation.key;
    case TEST_REG_VIOLATION_VA:
        return dev->violation.va;
    case TEST_REG_KEY:
        return dev->test_key;
    case TEST_REG_INDEX:
        return dev->test_index;
    case TEST_REG_TRANSLATION:
        return test_translation(dev);
    case TEST_REG_MEMORY_SCHEME:
        return dev->memory_faults;
    case TEST_REG_PAGE_SHIFT:
        return test_shift(dev);
    default:
        return 0;
    }
}

/* addr is a multiple of 8: a word lies in one area. */
static uint64_t test_word(Mlx5Device *dev, hwaddr addr)
{
    if (addr >= TEST_KNOB_NAMES) {
        addr -= TEST_KNOB_NAMES;
        return addr < sizeof(knob_names) ?
               ldq_le_p((const char *)knob_names + addr) : 0;
    }
    if (addr >= TEST_COUNTER_NAMES) {
        addr -= TEST_COUNTER_NAMES;
        return addr < sizeof(counter_names) ?
               ldq_le_p((const char *)counter_names + addr) : 0;
    }
    if (addr >= TEST_KNOBS) {
        addr = (addr - TEST_KNOBS) / 8;
        return addr < MLX5_NR_KNOBS ? dev->knob[addr] : 0;
    }
    if (addr >= TEST_COUNTERS) {
        addr = (addr - TEST_COUNTERS) / 8;
        return addr < MLX5_NR_COUNTERS ? dev->counter[addr] : 0;
    }
    return test_register(dev, addr);
}

static uint64_t test_read(void *opaque, hwaddr addr, unsigned size)
{
    return test_word(opaque, addr & ~7ULL) >> (addr & 7) * 8;
}

static void test_eject(void *opaque)
{
    DeviceState *qdev = opaque;
    Error *err = NULL;

    if (qdev->realized) {
        qdev_unplug(qdev, &err);
    }
    if (err && mlx5_may_report(opaque)) {
        error_report_err(err);
    } else {
        error_free(err);
    }
    object_unref(OBJECT(qdev));
}

static void test_control(Mlx5Device *dev, uint64_t value)
{
    switch (value) {
    case TEST_REMOVE:
        dev->removed = true;
        break;
    case TEST_EJECT:
        object_ref(OBJECT(dev));
        aio_bh_schedule_oneshot(qemu_get_aio_context(), test_eject, dev);
        break;
    case TEST_RESTORE:
        dev->removed = false;
        break;
    }
}

static void test_set_knob(Mlx5Device *dev, unsigned knob, uint64_t value)
{
    dev->knob[knob] = value;
    if (knob == MLX5_KNOB_SEED) {
        /* The same seed again begins the same sequence again. */
        dev->random = 0;
        dev->hostile_turn = 0;
    }
}

static void test_write(void *opaque, hwaddr addr, uint64_t value, unsigned size)
{
    Mlx5Device *dev = opaque;

    if (size != 8) {
        trace_mlx5_mmio_ignored(dev->lid, addr, value, size);
    } else if (addr == TEST_REG_CONTROL) {
        test_control(dev, value);
    } else if (addr == TEST_REG_SCRATCH) {
        dev->test_scratch = value;
    } else if (addr == TEST_REG_KEY) {
        dev->test_key = value;
    } else if (addr == TEST_REG_INDEX) {
        dev->test_index = value;
    } else if (addr == TEST_REG_ORACLE) {
        mlx5_dma_oracle(dev, value);
    } else if (addr >= TEST_KNOBS && addr < TEST_KNOBS + MLX5_NR_KNOBS * 8) {
        test_set_knob(dev, (addr - TEST_KNOBS) / 8, value);
    } else {
        trace_mlx5_mmio_ignored(dev->lid, addr, value, size);
    }
}

static const MemoryRegionOps test_ops = {
    .read = test_read,
    .write = test_write,
    .endianness = DEVICE_LITTLE_ENDIAN,
    .valid.min_access_size = 1,
    .valid.max_access_size = 8,
    .impl.min_access_size = 1,
    .impl.max_access_size = 8,
};

void mlx5_test_init(Mlx5Device *dev)
{
    memory_region_init_io(&dev->test, OBJECT(dev), &test_ops, dev, "mlx5-test",
                          TEST_SIZE);
    pci_register_bar(PCI_DEVICE(dev), TEST_BAR, PCI_BASE_ADDRESS_SPACE_MEMORY,
                     &dev->test);
}
