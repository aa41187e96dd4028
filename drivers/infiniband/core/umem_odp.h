/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Between the object and the paging half of the on-demand paged umem.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef _IB_CORE_UMEM_ODP_H
#define _IB_CORE_UMEM_ODP_H

#include <rdma/ib_umem_odp.h>

extern const struct mmu_interval_notifier_ops ib_odp_chunk_ops;

struct ib_odp_chunk *ib_odp_chunk_get(struct ib_umem_odp *odp, unsigned long addr);
void ib_odp_chunk_put(struct ib_odp_chunk *chunk);
void ib_odp_chunk_unmap(struct ib_odp_chunk *chunk, unsigned long start,
			unsigned long end);

#endif /* _IB_CORE_UMEM_ODP_H */
