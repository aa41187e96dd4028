/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel's mlx5 headers, read in user space.  `make qemu` puts the headers
 * themselves, and empty ones for what they include besides, on the include
 * path.  What is defined here lets them compile; no more of it is left
 * afterwards than their own macros need.
 */
#ifndef HW_RDMA_MLX5_KERNEL_H
#define HW_RDMA_MLX5_KERNEL_H

#include <linux/types.h>
#include "qemu/bitops.h"
#include "qemu/bswap.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define GENMASK(h, l) (((~0UL) << (l)) & (~0UL >> (63 - (h))))
#define BUILD_BUG_ON(cond) QEMU_BUILD_BUG_ON(cond)
#ifndef __packed
#define __packed __attribute__((packed))
#endif

/* Types of the kernel's own data structures, which have no use here. */
struct completion { };
struct ib_ah { };
struct ib_grh { };
struct list_head { };
struct mlx5_core_rsc_common { };
struct mlx5_core_dev {
    struct {
        struct { u32 *cur, *max; } *hca[64];
    } caps;
};
typedef struct { } refcount_t;

/* Calls that inline functions of the headers make; these are never called. */
#define PAGE_SIZE 4096
#define __iomem
#define complete(done) ((void)(done))
#define mlx5_get_roce_state(dev) false
#define mlx5_write64(value, reg) ((void)(value))
#define print_hex_dump(...) ((void)0)
#define refcount_dec_and_test(ref) ((void)(ref), false)
#define refcount_inc(ref) ((void)(ref))
#define struct_group(name, ...) __VA_ARGS__
#define wmb() ((void)0)
#define DECLARE_FLEX_ARRAY(type, name) \
    struct { struct { } empty_##name; type name[]; }
/* The driver's function of this name is not the adapter's command. */
#define mlx5_create_cq mlx5_driver_create_cq

#include <linux/mlx5/mlx5_ifc.h>
#include <linux/mlx5/device.h>
#include <linux/mlx5/qp.h>
#include <linux/mlx5/cq.h>

#undef PAGE_SIZE
#undef __iomem
#undef complete
#undef mlx5_get_roce_state
#undef mlx5_write64
#undef print_hex_dump
#undef refcount_dec_and_test
#undef refcount_inc
#undef struct_group
#undef wmb
#undef DECLARE_FLEX_ARRAY
#undef mlx5_create_cq

#endif
