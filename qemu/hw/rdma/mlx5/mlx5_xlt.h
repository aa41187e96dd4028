/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory keys and the way from (key, address) to DMA addresses.
 */
#ifndef HW_RDMA_MLX5_XLT_H
#define HW_RDMA_MLX5_XLT_H

#include "mlx5.h"

/*
 * Bytes in a block of the sparse table: 512 MTTs or 256 KSMs; and in a
 * granule, the least that is ever written: 8 MTTs or 4 KSMs.
 */
enum { MLX5_XLT_BLOCK = 4096, MLX5_XLT_GRANULE = 64 };

/*
 * The context is kept as the guest wrote it: what a UMR masks in or a query
 * reads out is that, and nothing can get out of step with it.
 */
struct Mlx5Mkey {
    Mlx5Obj obj;
    uint8_t mkc[MLX5_BYTES(mkc)];
    Mlx5Device *dev;
    uint32_t index;
    uint64_t xlt_bytes;                 /* how many translations it can hold */
    /*
     * A bit a granule: it was written.  Of those that were, block number ->
     * MLX5_XLT_BLOCK bytes.  An absent block is all zero, so that the 2 GiB
     * of MTTs that a region of 1 TiB has cost little until used.
     */
    unsigned long *written;
    GHashTable *xlt;
    uint32_t last_block;                /* lookup cache */
    uint8_t *last;
    /* What destroying it would leave behind. */
    bool window;                        /* a memory window of the driver's */
    uint32_t bound;                     /* index of its region; 0: unbound */
    unsigned nr_windows;                /* that are bound to it */
};

/* On whose behalf memory is accessed, and what that one may do. */
typedef struct Mlx5Access {
    uint32_t pdn, qpn;
    uint32_t rights;                    /* MLX5_RIGHT_*: all of them needed */
    bool write;
    bool any_pd;                        /* the driver's own queue */
    bool reserved_lkey;                 /* may use MLX5_RESERVED_LKEY */
} Mlx5Access;

enum {
    MLX5_RIGHT_LR = 1 << 0,
    MLX5_RIGHT_LW = 1 << 1,
    MLX5_RIGHT_RR = 1 << 2,
    MLX5_RIGHT_RW = 1 << 3,
    MLX5_RIGHT_ATOMIC = 1 << 4,
};

typedef enum Mlx5Result {
    MLX5_OK,
    MLX5_FAULT,                         /* not present: ask the driver */
    MLX5_DENIED,                        /* never: rights, bounds, key */
} Mlx5Result;

/* Where a translation stopped, when it did: MLX5_FAULT only. */
typedef struct Mlx5Missing {
    uint32_t key;                       /* of the region that has the MTT */
    uint64_t va;                        /* in that region's own addresses */
} Mlx5Missing;

Mlx5Mkey *mlx5_mkey_find(Mlx5Device *dev, uint32_t key);
uint32_t mlx5_mkey_key(const Mlx5Mkey *mkey);
uint8_t mlx5_mkey_mode(const Mlx5Mkey *mkey);
/*
 * Translations in bytes; off and len are within xlt_bytes.  False: there was no
 * memory for all of them.
 */
bool mlx5_mkey_xlt_write(Mlx5Mkey *mkey, uint64_t off, const void *data,
                         size_t len);
void mlx5_mkey_xlt_read(Mlx5Mkey *mkey, uint64_t off, void *data, size_t len);
/* Did anybody write what is there?  Reading anything else is no error. */
bool mlx5_mkey_xlt_written(const Mlx5Mkey *mkey, uint64_t off);
/* Its context or translations have changed: is it bound, and to what? */
void mlx5_mkey_bind(Mlx5Mkey *mkey);

/* ---- mlx5_stale ---- */
/* The key's translations at off are these now. */
void mlx5_stale_note(Mlx5Mkey *mkey, const void *data, size_t len);
/* What is in the granule at off, which nobody wrote; MLX5_XLT_GRANULE bytes. */
void mlx5_stale_granule(const Mlx5Mkey *mkey, uint64_t off, void *data);

/*
 * Work.  The guest decides how much of it one byte costs: each entry of an
 * indirect key may stand for a single byte, and lead to another such key.  So
 * work is counted, one unit for a look at a table's entry, which is about 15
 * ns.  Together the timers have a share of it.  When that is spent they stop,
 * and none goes on before a pause is over: QEMU's lock is not fair, and a CPU
 * that waits for it needs the pause to wake up and take it.
 */
enum {
    MLX5_WORK_SPAN = 32,                /* one piece of contiguous memory */
    MLX5_WORK_COPY = 1 << 16,           /* then a copy stops short */
    MLX5_WORK_SHARE = 1 << 17,          /* then the timers give way */
    MLX5_WORK_WHOLE = 1 << 20,          /* then what cannot be split fails */
};

uint64_t mlx5_work(void);               /* so far, by all adapters */
void mlx5_work_add(uint64_t units);
bool mlx5_work_spent(void);             /* the share: stop, and run again */
/*
 * For a timer to begin with: 0, and a part of the share is left, or how many
 * ns to stay away.
 */
int64_t mlx5_work_pause(void);

/*
 * Copy between buf and the memory at (key, va).  *done counts the bytes that
 * made it: with MLX5_FAULT and MLX5_DENIED everything before the hole.  With
 * MLX5_OK they may be fewer than len, if it was too much work, but not 0.
 */
Mlx5Result mlx5_mem_copy(Mlx5Device *dev, const Mlx5Access *access,
                         uint32_t key, uint64_t va, void *buf, size_t len,
                         size_t *done, Mlx5Missing *missing);
/* Everything but the presence of the pages. */
Mlx5Result mlx5_mem_check(Mlx5Device *dev, const Mlx5Access *access,
                          uint32_t key, uint64_t va, uint64_t len);
/* The physical address of 8 aligned bytes: for atomics. */
Mlx5Result mlx5_mem_addr(Mlx5Device *dev, const Mlx5Access *access,
                         uint32_t key, uint64_t va, size_t len,
                         uint64_t *addr, Mlx5Missing *missing);

#endif
