/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Between the parts of the on-demand paged umem.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef _IB_CORE_UMEM_ODP_H
#define _IB_CORE_UMEM_ODP_H

#include <linux/hmm.h>
#include <rdma/ib_umem_odp.h>

extern const struct mmu_interval_notifier_ops ib_odp_chunk_ops;

struct ib_odp_chunk *ib_odp_chunk_get(struct ib_umem_odp *odp, unsigned long addr);
void ib_odp_chunk_put(struct ib_odp_chunk *chunk);

int ib_odp_chunk_prepare(struct ib_odp_chunk *chunk);
bool ib_odp_chunk_covers(const struct ib_odp_chunk *chunk, unsigned long start,
			 unsigned long end, unsigned int flags);
struct page *ib_odp_chunk_huge_page(const struct ib_odp_chunk *chunk,
				    const struct hmm_range *hmm);
int ib_odp_chunk_map(struct ib_odp_chunk *chunk, const struct hmm_range *hmm,
		     unsigned int flags);
void ib_odp_chunk_clear(struct ib_odp_chunk *chunk);

#endif /* _IB_CORE_UMEM_ODP_H */
