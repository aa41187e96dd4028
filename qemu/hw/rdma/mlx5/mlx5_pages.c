/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Pages of the guest that the firmware uses, and its health.
 *
 * The driver asks how many pages there are to be before anything works (boot),
 * and how many more before INIT_HCA (init), and gives them by MANAGE_PAGES.
 * Later the adapter sends events, as its objects and the knob "pages-more"
 * demand: it wants more pages, or returns some.  An event is for 16 pages at
 * least.  At the end the driver takes all of them back, by many commands, of
 * which each returns a part of what it asks for.
 *
 * A page belongs to the adapter until it is returned.  The adapter writes a
 * mark to each, and reports a DMA violation if it is gone by then.  The driver
 * has to give what is asked for, or INIT_HCA fails, and to take all back, or
 * DISABLE_HCA fails.
 *
 * The knob "syndrome" is the code that the health buffer shows.  With the flag
 * MLX5_SYNDROME_FATAL the firmware asks to be reset and answers no command.
 * The physical function resets it after 5 s; the interface is disabled then.
 */
#include "mlx5.h"
#include "trace.h"

enum {
    BOOT_PAGES = 8,
    INIT_PAGES = 56,
    OBJECT_BYTES = 32 * KiB,            /* of objects' memory for a page */
    CHUNK = 16,                         /* pages that an event is worth */
    MAX_CHUNK = 512,
    MAX_PAGES = 1 << 18,
    PAGE_COST = 64,                     /* bytes of the quota for each */
    RFR = 1 << 7,                       /* in rfr_severity: asks for a reset */
};

static const char mark[8] = "MLX5PAGE";

static uint32_t pages_held(Mlx5Device *dev)
{
    return g_hash_table_size(dev->pages);
}

static uint64_t pages_needed(Mlx5Device *dev)
{
    if (!dev->initialised) {
        return 0;
    }
    return BOOT_PAGES + INIT_PAGES +
           MIN(dev->knob[MLX5_KNOB_PAGES], MAX_PAGES) +
           dev->counter[MLX5_COUNTER_MEMORY_BYTES] / OBJECT_BYTES;
}

static void pages_count(Mlx5Device *dev)
{
    dev->counter[MLX5_COUNTER_PAGES] = pages_held(dev);
}

/* ---- commands ---- */

uint8_t mlx5_query_pages(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint32_t want = BOOT_PAGES;

    if (cmd->op_mod != MLX5_QUERY_PAGES_IN_OP_MOD_BOOT_PAGES) {
        want += INIT_PAGES;
    }
    MLX5_PRM_SET(query_pages_out, cmd->out, num_pages,
                 want - MIN(want, pages_held(dev)));
    return MLX5_CMD_STAT_OK;
}

static bool page_give(Mlx5Device *dev, uint64_t addr)
{
    gpointer key = GSIZE_TO_POINTER(addr >> MLX5_ADAPTER_PAGE_SHIFT);

    if (!addr || addr & MAKE_64BIT_MASK(0, MLX5_ADAPTER_PAGE_SHIFT) ||
        g_hash_table_contains(dev->pages, key) ||
        pages_held(dev) >= MAX_PAGES || !mlx5_charge(dev, PAGE_COST)) {
        return false;
    }
    if (!mlx5_dma_write(dev, addr, mark, sizeof(mark))) {
        mlx5_charge(dev, -PAGE_COST);
        return false;
    }
    g_hash_table_add(dev->pages, key);
    return true;
}

/* All of them or none. */
static uint8_t pages_give(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint32_t nr = MLX5_PRM_GET(manage_pages_in, cmd->in, input_num_entries);
    const uint8_t *pas = cmd->in + MLX5_BYTES(manage_pages_in);
    uint32_t i;

    if (nr > (cmd->in_len - MLX5_BYTES(manage_pages_in)) / sizeof(uint64_t)) {
        return MLX5_CMD_STAT_BAD_INP_LEN_ERR;
    }
    for (i = 0; i < nr; i++) {
        if (!page_give(dev, ldq_be_p(pas + i * sizeof(uint64_t)))) {
            break;
        }
    }
    if (i == nr) {
        return MLX5_CMD_STAT_OK;
    }
    while (i--) {
        g_hash_table_remove(dev->pages,
                            GSIZE_TO_POINTER(ldq_be_p(pas + i * 8) >>
                                             MLX5_ADAPTER_PAGE_SHIFT));
        mlx5_charge(dev, -PAGE_COST);
    }
    return MLX5_CMD_STAT_BAD_PARAM_ERR;
}

static void page_check(Mlx5Device *dev, uint64_t addr)
{
    char found[sizeof(mark)];

    if (mlx5_dma_read(dev, addr, found, sizeof(found)) &&
        memcmp(found, mark, sizeof(mark))) {
        mlx5_dma_overwritten(dev, addr);
    }
}

/* Not all that is asked for at once, and nothing that is needed. */
static uint8_t pages_take(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint32_t asked = MLX5_PRM_GET(manage_pages_in, cmd->in, input_num_entries);
    uint8_t *pas = cmd->out + MLX5_BYTES(manage_pages_out);
    size_t room = (cmd->out_len - MLX5_BYTES(manage_pages_out)) / 8;
    uint64_t spare = pages_held(dev) - MIN(pages_held(dev), pages_needed(dev));
    uint64_t nr = MIN(MIN(asked, room), MIN(spare, asked / 2 + 1)), i;
    GHashTableIter iter;
    gpointer key;

    g_hash_table_iter_init(&iter, dev->pages);
    for (i = 0; i < nr && g_hash_table_iter_next(&iter, &key, NULL); i++) {
        uint64_t addr = (uint64_t)GPOINTER_TO_SIZE(key) <<
                        MLX5_ADAPTER_PAGE_SHIFT;

        page_check(dev, addr);
        stq_be_p(pas + i * 8, addr);
        g_hash_table_iter_remove(&iter);
        mlx5_charge(dev, -PAGE_COST);
    }
    MLX5_PRM_SET(manage_pages_out, cmd->out, output_num_entries, i);
    return MLX5_CMD_STAT_OK;
}

uint8_t mlx5_manage_pages(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint8_t status = MLX5_CMD_STAT_OK;

    dev->pages_asked = false;
    switch (cmd->op_mod) {
    case MLX5_MANAGE_PAGES_IN_OP_MOD_ALLOCATION_FAIL:
        break;
    case MLX5_MANAGE_PAGES_IN_OP_MOD_ALLOCATION_SUCCESS:
        status = pages_give(dev, cmd);
        break;
    case MLX5_MANAGE_PAGES_IN_OP_MOD_HCA_RETURN_PAGES:
        status = pages_take(dev, cmd);
        break;
    default:
        return MLX5_CMD_STAT_BAD_PARAM_ERR;
    }
    pages_count(dev);
    trace_mlx5_pages(dev->lid, cmd->op_mod, pages_held(dev), status);
    return status;
}

uint8_t mlx5_init_hca(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    if (pages_held(dev) < BOOT_PAGES + INIT_PAGES) {
        return MLX5_CMD_STAT_BAD_SYS_STATE_ERR;
    }
    dev->initialised = true;
    return MLX5_CMD_STAT_OK;
}

bool mlx5_pages_returned(Mlx5Device *dev)
{
    return !pages_held(dev);
}

void mlx5_pages_idle(Mlx5Device *dev)
{
    dev->initialised = false;
    dev->pages_asked = false;
}

/* ---- events ---- */

/* One is on its way at most; the next command about pages is its answer. */
void mlx5_pages_balance(Mlx5Device *dev)
{
    int64_t lack = (int64_t)pages_needed(dev) - pages_held(dev);
    struct mlx5_eqe_page_req event = { };

    if (!dev->initialised || dev->pages_asked || ABS(lack) < CHUNK ||
        !mlx5_eq_wants(dev, MLX5_EVENT_TYPE_PAGE_REQUEST)) {
        return;
    }
    dev->pages_asked = true;
    event.num_pages = cpu_to_be32(MAX(MIN(lack, MAX_CHUNK), -MAX_CHUNK));
    mlx5_event(dev, MLX5_EVENT_TYPE_PAGE_REQUEST, 0, &event, sizeof(event));
}

/* ---- health ---- */

bool mlx5_health_dead(Mlx5Device *dev)
{
    return dev->knob[MLX5_KNOB_SYNDROME] & MLX5_SYNDROME_FATAL;
}

void mlx5_health_show(Mlx5Device *dev)
{
    uint8_t *health = dev->iseg + offsetof(struct mlx5_init_seg, health);

    health[offsetof(struct health_buffer, synd)] =
        dev->knob[MLX5_KNOB_SYNDROME];
    health[offsetof(struct health_buffer, rfr_severity)] =
        mlx5_health_dead(dev) ? RFR : 0;
}

/* ---- begin and end ---- */

void mlx5_pages_init(Mlx5Device *dev)
{
    dev->pages = g_hash_table_new(NULL, NULL);
}

void mlx5_pages_reset(Mlx5Device *dev)
{
    mlx5_charge(dev, -(int64_t)pages_held(dev) * PAGE_COST);
    g_hash_table_remove_all(dev->pages);
    pages_count(dev);
    mlx5_pages_idle(dev);
}

void mlx5_pages_exit(Mlx5Device *dev)
{
    g_hash_table_destroy(dev->pages);
}
