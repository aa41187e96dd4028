/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Access to the structures of the adapter's programming interface.
 *
 * The layouts are the kernel's own (linux/mlx5/{mlx5_ifc,device,qp,cq}.h of
 * the tree the driver is built from), put on the include path by `make qemu`.
 * mlx5_ifc.h describes a structure as one byte a bit: offsetof() is a bit
 * offset and sizeof() a width.  Everything is big-endian.
 */
#ifndef HW_RDMA_MLX5_PRM_H
#define HW_RDMA_MLX5_PRM_H

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "mlx5_kernel.h"

#define MLX5_OFF(t, f) offsetof(struct mlx5_ifc_##t##_bits, f)
#define MLX5_WIDTH(t, f) sizeof(((struct mlx5_ifc_##t##_bits *)0)->f)
#define MLX5_BYTES(t) (sizeof(struct mlx5_ifc_##t##_bits) / 8)

/* A field of at most 64 bits; one that crosses 32 bits starts at a dword. */
static inline uint64_t mlx5_bits_get(const void *base, size_t off, size_t width)
{
    const uint8_t *p = (const uint8_t *)base + off / 32 * 4;
    unsigned low;

    if (width > 32) {
        assert(off % 32 == 0 && width == 64);
        return ldq_be_p(p);
    }
    low = 32 - off % 32 - width;
    return (ldl_be_p(p) >> low) & MAKE_64BIT_MASK(0, width);
}

static inline void mlx5_bits_set(void *base, size_t off, size_t width,
                                 uint64_t value)
{
    uint8_t *p = (uint8_t *)base + off / 32 * 4;
    unsigned low;
    uint32_t mask;

    if (width > 32) {
        assert(off % 32 == 0 && width == 64);
        stq_be_p(p, value);
        return;
    }
    low = 32 - off % 32 - width;
    mask = MAKE_64BIT_MASK(low, width);
    stl_be_p(p, (ldl_be_p(p) & ~mask) | ((uint32_t)(value << low) & mask));
}

#define MLX5_PRM_GET(t, p, f) mlx5_bits_get(p, MLX5_OFF(t, f), MLX5_WIDTH(t, f))
#define MLX5_PRM_SET(t, p, f, v) \
    mlx5_bits_set(p, MLX5_OFF(t, f), MLX5_WIDTH(t, f), v)
/* The structure that is the field f of the structure of type t at p. */
#define MLX5_PRM_PTR(t, p, f) ((void *)((uint8_t *)(p) + MLX5_OFF(t, f) / 8))

#endif
