/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Every access to guest memory, and the check of each.
 *
 * All the device's DMA goes through dma_access().  It fails when the adapter
 * is gone, when the guest took bus mastering away, or when the bus or an IOMMU
 * says so; the caller treats that like a cable that was cut.  Only RAM is
 * reached: an adapter that could store to a BAR could reset itself in the
 * middle of its own work.
 *
 * Without bus mastering nothing is lost, it has to wait: each timer that would
 * access memory parks itself, and goes on when the bit is set again.  Only a
 * reset ends that work.
 *
 * The oracle.  The guest tells, by messages to the test BAR, which pages it
 * maps for DMA, in which direction, and which it unmaps again.  An access to
 * a page that is no longer mapped is a bug of the driver.  So is a write to a
 * page that is mapped for reading only, or the reverse.  Each is reported
 * here, where it happens.  A page with several mappings may be accessed as any
 * of them allows.  A page that the guest never mentioned is not checked.
 * An access by an unwritten translation is reported whatever page it
 * leads to, whether the guest sends messages or not.
 */
#include "mlx5.h"
#include "qemu/error-report.h"
#include "trace.h"

enum {
    MAX_REPORTS = 20,                   /* at once; then one a second */
    MAX_KNOWN_PAGES = 1 << 23,          /* a guest cannot eat our memory */
    MAX_BUF_PAGES = 1 << 20,
    MIN_PAGE_SHIFT = 12,
    MAX_PAGE_SHIFT = 43,                /* five bits of log_page_size */
    VIOLATION_UNWRITTEN = 5,            /* kinds; the others are computed */
    VIOLATION_OVERWRITTEN = 6,
};

/*
 * A message: the address of the first page, the direction, the number of pages
 * less one, and whether they are mapped.  Directions are the kernel's own.
 */
enum {
    MESSAGE_MAP = 1,
    MESSAGE_PAGES_SHIFT = 1,
    MESSAGE_PAGES_MASK = 0x1ff,
    MESSAGE_DIRECTION_SHIFT = 10,
    MESSAGE_DIRECTION_MASK = 3,

    BIDIRECTIONAL = 0,
    TO_DEVICE = 1,
    FROM_DEVICE = 2,
    NR_DIRECTIONS = 3,

    /* What is known of a page: a count of its mappings for each direction. */
    COUNT_BITS = 21,
};

#define COUNT_MASK MAKE_64BIT_MASK(0, COUNT_BITS)

#define PAGE_BYTES (1ULL << MIN_PAGE_SHIFT)

/* ---- the oracle ---- */

static uint64_t maps_count(uint64_t maps, unsigned direction)
{
    return maps >> direction * COUNT_BITS & COUNT_MASK;
}

static uint64_t maps_add(uint64_t maps, unsigned direction)
{
    /* A guest that counts on and on gets stuck at the limit. */
    return maps_count(maps, direction) == COUNT_MASK ? maps :
           maps + (1ULL << direction * COUNT_BITS);
}

/* Whether the direction is the mapping's, DMA-API debugging judges. */
static uint64_t maps_remove(uint64_t maps, unsigned direction)
{
    unsigned other;

    for (other = 0; other < NR_DIRECTIONS && !maps_count(maps, direction);
         other++) {
        direction = other;
    }
    return maps_count(maps, direction) ?
           maps - (1ULL << direction * COUNT_BITS) : maps;
}

static bool maps_allow(uint64_t maps, bool write)
{
    return maps_count(maps, BIDIRECTIONAL) ||
           maps_count(maps, write ? FROM_DEVICE : TO_DEVICE);
}

void mlx5_dma_oracle(Mlx5Device *dev, uint64_t message)
{
    uint64_t pfn = message >> MIN_PAGE_SHIFT;
    uint64_t end = pfn + (message >> MESSAGE_PAGES_SHIFT & MESSAGE_PAGES_MASK) +
                   1;
    unsigned direction = message >> MESSAGE_DIRECTION_SHIFT &
                         MESSAGE_DIRECTION_MASK;
    bool map = message & MESSAGE_MAP;

    for (; direction < NR_DIRECTIONS && pfn < end; pfn++) {
        gpointer key = GSIZE_TO_POINTER(pfn), value;
        uint64_t maps;

        if (g_hash_table_lookup_extended(dev->dma_pages, key, NULL, &value)) {
            maps = GPOINTER_TO_SIZE(value);
        } else if (map && g_hash_table_size(dev->dma_pages) < MAX_KNOWN_PAGES) {
            maps = 0;
        } else {
            /* Mapped before anyone told us: other mappings may be, too. */
            continue;
        }
        maps = map ? maps_add(maps, direction) : maps_remove(maps, direction);
        g_hash_table_insert(dev->dma_pages, key, GSIZE_TO_POINTER(maps));
    }
}

void mlx5_dma_reset(Mlx5Device *dev)
{
    g_hash_table_remove_all(dev->dma_pages);
}

/* What a guest makes us say must not fill a disk. */
bool mlx5_may_report(Mlx5Device *dev)
{
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    int64_t seconds = (now - dev->report_ns) / NANOSECONDS_PER_SECOND;

    if (seconds) {
        dev->nr_reports -= MIN(dev->nr_reports, seconds);
        dev->report_ns = now;
    }
    if (dev->nr_reports >= MAX_REPORTS) {
        return false;
    }
    dev->nr_reports++;
    return true;
}

static void dma_violation(Mlx5Device *dev, uint64_t addr, size_t len,
                          bool write, bool mapped, uint32_t key, uint64_t va)
{
    dev->violation.kind = (write ? 2 : 1) + (mapped ? 2 : 0);
    dev->violation.addr = addr;
    dev->violation.key = key;
    dev->violation.va = va;
    mlx5_count(dev, MLX5_COUNTER_DMA_VIOLATIONS, 1);
    if (!mlx5_may_report(dev)) {
        return;
    }
    error_report("mlx5: DMA check: %s of %zu bytes at 0x%" PRIx64
                 " (mkey 0x%x, va 0x%" PRIx64 ") %s",
                 write ? "write" : "read", len, addr, key, va,
                 mapped ? "against the direction of its mapping" :
                          "after it was unmapped");
}

void mlx5_dma_unwritten(Mlx5Device *dev, bool write, uint32_t key, uint64_t va)
{
    dev->violation.kind = VIOLATION_UNWRITTEN;
    dev->violation.addr = 0;
    dev->violation.key = key;
    dev->violation.va = va;
    mlx5_count(dev, MLX5_COUNTER_DMA_VIOLATIONS, 1);
    if (mlx5_may_report(dev)) {
        error_report("mlx5: DMA check: %s by an unwritten translation"
                     " (mkey 0x%x, va 0x%" PRIx64 ")",
                     write ? "write" : "read", key, va);
    }
}

void mlx5_dma_overwritten(Mlx5Device *dev, uint64_t addr)
{
    dev->violation.kind = VIOLATION_OVERWRITTEN;
    dev->violation.addr = addr;
    dev->violation.key = dev->violation.va = 0;
    mlx5_count(dev, MLX5_COUNTER_DMA_VIOLATIONS, 1);
    if (mlx5_may_report(dev)) {
        error_report("mlx5: DMA check: the firmware's page at 0x%" PRIx64
                     " was written to by another", addr);
    }
}

/* One report an access is enough. */
static void dma_check(Mlx5Device *dev, uint64_t addr, size_t len, bool write,
                      uint32_t key, uint64_t va)
{
    uint64_t pfn = addr >> MIN_PAGE_SHIFT;
    uint64_t last = (addr + len - 1) >> MIN_PAGE_SHIFT;
    bool known = false;
    gpointer value;

    if (!g_hash_table_size(dev->dma_pages)) {
        return;
    }
    for (; pfn <= last; pfn++) {
        if (!g_hash_table_lookup_extended(dev->dma_pages, GSIZE_TO_POINTER(pfn),
                                          NULL, &value)) {
            continue;
        }
        known = true;
        if (!maps_allow(GPOINTER_TO_SIZE(value), write)) {
            dma_violation(dev, MAX(addr, pfn << MIN_PAGE_SHIFT), len, write,
                          value, key, va);
            break;
        }
    }
    mlx5_count(dev, MLX5_COUNTER_DMA_CHECKED, known);
}

/* ---- the access ---- */

bool mlx5_bus_master(Mlx5Device *dev)
{
    return mlx5_has_master_bit(dev) || timer_pending(dev->drain);
}

bool mlx5_bus_park(Mlx5Device *dev, QEMUTimer *timer)
{
    if (mlx5_bus_master(dev) || dev->removed) {
        return false;
    }
    g_hash_table_add(dev->parked, timer);
    return true;
}

static gboolean unpark(gpointer timer, gpointer value, gpointer now)
{
    timer_mod_ns(timer, *(int64_t *)now);
    return true;
}

void mlx5_bus_changed(Mlx5Device *dev)
{
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);

    if (mlx5_bus_master(dev)) {
        g_hash_table_foreach_remove(dev->parked, unpark, &now);
    }
}

void mlx5_timer_free(Mlx5Device *dev, QEMUTimer *timer)
{
    g_hash_table_remove(dev->parked, timer);
    timer_free(timer);
}

static bool dma_possible(Mlx5Device *dev, uint64_t addr, size_t len)
{
    return !dev->removed && mlx5_bus_master(dev) && addr + len - 1 >= addr;
}

static bool dma_access(Mlx5Device *dev, uint64_t addr, void *buf, size_t len,
                       bool write, uint32_t key, uint64_t va)
{
    const MemTxAttrs attrs = { .memory = true };

    if (!len) {
        return true;
    }
    if (!dma_possible(dev, addr, len) ||
        pci_dma_rw(PCI_DEVICE(dev), addr, buf, len,
                   write ? DMA_DIRECTION_FROM_DEVICE : DMA_DIRECTION_TO_DEVICE,
                   attrs) != MEMTX_OK) {
        mlx5_count(dev, MLX5_COUNTER_DMA_DROPPED, 1);
        trace_mlx5_dma_dropped(dev->lid, addr, len, write, key, va);
        return false;
    }
    mlx5_count(dev, write ? MLX5_COUNTER_DMA_WRITES : MLX5_COUNTER_DMA_READS,
               1);
    dma_check(dev, addr, len, write, key, va);
    return true;
}

bool mlx5_dma_read(Mlx5Device *dev, uint64_t addr, void *buf, size_t len)
{
    return dma_access(dev, addr, buf, len, false, 0, 0);
}

bool mlx5_dma_write(Mlx5Device *dev, uint64_t addr, const void *buf, size_t len)
{
    return dma_access(dev, addr, (void *)buf, len, true, 0, 0);
}

bool mlx5_dma_data(Mlx5Device *dev, uint64_t addr, void *buf, size_t len,
                   bool write, uint32_t key, uint64_t va)
{
    trace_mlx5_dma_data(dev->lid, addr, len, write, key, va);
    return dma_access(dev, addr, buf, len, write, key, va);
}

/* ---- a queue's memory ---- */

static bool buf_shape_valid(uint32_t page_shift, uint64_t offset, uint64_t len)
{
    return page_shift >= MIN_PAGE_SHIFT && page_shift <= MAX_PAGE_SHIFT &&
           offset < 1ULL << page_shift && len &&
           len <= (uint64_t)MAX_BUF_PAGES << page_shift;
}

/* Memory for the list, out of the quota. */
static bool buf_new(Mlx5Device *dev, Mlx5Buf *buf, uint64_t nr)
{
    if (!mlx5_charge(dev, nr * sizeof(uint64_t))) {
        return false;
    }
    buf->dev = dev;
    buf->nr_pages = nr;
    buf->pas = g_new(uint64_t, nr);
    return true;
}

bool mlx5_buf_init(Mlx5Device *dev, Mlx5Buf *buf, Mlx5Cmd *cmd, const void *pas,
                   uint32_t page_shift, uint64_t offset, uint64_t len)
{
    size_t at = (const uint8_t *)pas - cmd->in;
    uint64_t nr, i;

    memset(buf, 0, sizeof(*buf));
    if (!buf_shape_valid(page_shift, offset, len) || at > cmd->in_len) {
        return false;
    }
    nr = DIV_ROUND_UP(offset + len, 1ULL << page_shift);
    if (nr > (cmd->in_len - at) / sizeof(uint64_t) || !buf_new(dev, buf, nr)) {
        return false;
    }
    for (i = 0; i < nr; i++) {
        /* The lowest bits of an entry are access rights, in some lists. */
        buf->pas[i] = ldq_be_p((const uint8_t *)pas + i * sizeof(uint64_t)) &
                      ~(PAGE_BYTES - 1);
    }
    buf->page_shift = page_shift;
    buf->offset = offset;
    buf->len = len;
    return true;
}

static bool umem_has(const Mlx5Umem *umem, uint64_t offset, uint64_t len)
{
    return umem && len && len <= umem->buf.len && offset <= umem->buf.len - len;
}

bool mlx5_buf_init_umem(Mlx5Device *dev, Mlx5Buf *buf, uint16_t uid,
                        uint32_t umem_id, uint64_t offset, uint64_t len)
{
    Mlx5Umem *umem = mlx5_umem_get(dev, uid, umem_id);
    uint64_t begin, first, nr;

    memset(buf, 0, sizeof(*buf));
    if (!umem_has(umem, offset, len)) {
        mlx5_obj_put(umem);
        return false;
    }
    begin = umem->buf.offset + offset;
    first = begin >> umem->buf.page_shift;
    nr = ((begin + len - 1) >> umem->buf.page_shift) - first + 1;
    if (!buf_new(dev, buf, nr)) {
        mlx5_obj_put(umem);
        return false;
    }
    buf->umem = umem;
    memcpy(buf->pas, umem->buf.pas + first, nr * sizeof(uint64_t));
    buf->page_shift = umem->buf.page_shift;
    buf->offset = begin & MAKE_64BIT_MASK(0, buf->page_shift);
    buf->len = len;
    return true;
}

void mlx5_buf_free(Mlx5Buf *buf)
{
    if (buf->dev) {
        mlx5_charge(buf->dev, -(int64_t)(buf->nr_pages * sizeof(uint64_t)));
    }
    g_free(buf->pas);
    mlx5_obj_put(buf->umem);
    memset(buf, 0, sizeof(*buf));
}

/* The address of byte off, and how many bytes follow it in its page. */
static uint64_t buf_addr(const Mlx5Buf *b, uint64_t off, uint64_t *left)
{
    uint64_t at = b->offset + off;
    uint64_t in_page = at & MAKE_64BIT_MASK(0, b->page_shift);

    *left = (1ULL << b->page_shift) - in_page;
    return b->pas[at >> b->page_shift] + in_page;
}

static bool buf_access(Mlx5Device *dev, Mlx5Buf *b, uint64_t off, void *p,
                       size_t n, bool write)
{
    if (off > b->len || n > b->len - off) {
        return false;
    }
    while (n) {
        uint64_t left;
        uint64_t addr = buf_addr(b, off, &left);
        size_t now = MIN(n, left);

        if (!dma_access(dev, addr, p, now, write, 0, 0)) {
            return false;
        }
        p = (uint8_t *)p + now;
        off += now;
        n -= now;
    }
    return true;
}

bool mlx5_buf_read(Mlx5Device *dev, Mlx5Buf *b, uint64_t off, void *p, size_t n)
{
    return buf_access(dev, b, off, p, n, false);
}

bool mlx5_buf_write(Mlx5Device *dev, Mlx5Buf *b, uint64_t off, const void *p,
                    size_t n)
{
    return buf_access(dev, b, off, (void *)p, n, true);
}

bool mlx5_dbr_init(Mlx5Device *dev, Mlx5Dbr *dbr, uint16_t uid, bool in_umem,
                   uint32_t umem_id, uint64_t addr)
{
    const size_t size = 2 * sizeof(uint32_t);
    Mlx5Umem *umem = in_umem ? mlx5_umem_get(dev, uid, umem_id) : NULL;
    uint64_t left;

    dbr->umem = umem;
    dbr->addr = addr;
    if (in_umem) {
        if (!umem_has(umem, addr, size)) {
            return false;
        }
        dbr->addr = buf_addr(&umem->buf, addr, &left);
    }
    /* Two words of four bytes, which the driver keeps in one cache line. */
    return dbr->addr % size == 0;
}

void mlx5_dbr_free(Mlx5Dbr *dbr)
{
    mlx5_obj_put(dbr->umem);
    memset(dbr, 0, sizeof(*dbr));
}
