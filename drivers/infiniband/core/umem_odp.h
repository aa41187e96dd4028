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
extern unsigned int ib_odp_ahead;
extern struct workqueue_struct *ib_odp_wq;

struct ib_odp_chunk *ib_odp_chunk_get(struct ib_umem_odp *odp, unsigned long addr);
void ib_odp_chunk_put(struct ib_odp_chunk *chunk);
void ib_odp_chunk_put_locked(struct ib_odp_chunk *chunk);
void ib_odp_chunk_reap(struct ib_odp_chunk *chunk);
void ib_odp_populate_kill(struct ib_umem_odp *odp);
void ib_odp_owner_put(struct ib_odp_owner *owner);

/**
 * struct ib_odp_run - faults of which each begins where the one before it ended
 * @next: where it goes on
 * @pages: that it has had
 * @faults: how many there were, counted up to ODP_RUN_FAULTS
 * @grace: how many others may want its place before it loses it
 */
struct ib_odp_run {
	unsigned long next;
	unsigned long pages;
	unsigned short faults;
	unsigned short grace;
};

/**
 * struct ib_odp_fault - a fault in a chunk
 * @hmm: the range, and what is found there
 * @needed: how many of its pages are needed, from the first on; the others are ahead
 * @found: how many are there as the device wants to access them, up to the first that is not
 * @flags: enum ib_odp_fault_flags
 * @look: nothing is faulted in: all that is needed must be mapped already
 * @many: the needed pages are in more than one mapping
 * @copies: it collided, perhaps because it had pages of them copied for the write
 * @present: of the pages ahead, what is mapped already is taken along and nothing is
 *	faulted in
 */
struct ib_odp_fault {
	struct hmm_range hmm;
	unsigned int needed;
	unsigned int found;
	unsigned int flags;
	bool look;
	bool many;
	bool copies;
	bool present;
};

/* Of the tests: pages that faults have looked up, each time that they did. */
#if IS_ENABLED(CONFIG_INFINIBAND_ODP_KUNIT_TEST)
extern atomic64_t ib_odp_looked_up;

static inline void ib_odp_count_looked_up(unsigned int nr)
{
	atomic64_add(nr, &ib_odp_looked_up);
}
#else
static inline void ib_odp_count_looked_up(unsigned int nr) { }
#endif

unsigned long ib_odp_run_begin(struct ib_umem_odp *odp, unsigned long start,
			       unsigned long end, unsigned int flags, struct ib_odp_run *run);
void ib_odp_run_end(struct ib_umem_odp *odp, unsigned long start, unsigned long next,
		    struct ib_odp_run *run);
bool ib_odp_ahead_has_room(struct mem_cgroup *memcg, unsigned long nr);

void ib_odp_chunk_mark(struct ib_odp_chunk *chunk, unsigned long start, unsigned long end);
bool ib_odp_chunk_age(struct mmu_interval_notifier *mni, unsigned long start,
		      unsigned long end, bool clear);
void ib_umem_odp_age(struct ib_umem_odp *odp);

/* 0: not present. */
static inline unsigned long ib_odp_chunk_entry(const struct ib_odp_chunk *chunk, unsigned int i)
{
	return test_bit(i, chunk->present) ? chunk->entries[i] : 0;
}

void ib_odp_chunk_granules(const struct ib_odp_chunk *chunk, unsigned long *start,
			   unsigned long *end);
int ib_odp_chunk_prepare(struct ib_odp_chunk *chunk);
struct page *ib_odp_chunk_huge_page(const struct ib_odp_chunk *chunk,
				    const struct hmm_range *hmm);
int ib_odp_chunk_map(struct ib_odp_chunk *chunk, const struct ib_odp_fault *fault);
void ib_odp_chunk_clear(struct ib_odp_chunk *chunk);

#ifdef CONFIG_INFINIBAND_ON_DEMAND_PAGING
int ib_umem_odp_init(void);
void ib_umem_odp_exit(void);
#else
static inline int ib_umem_odp_init(void) { return 0; }
static inline void ib_umem_odp_exit(void) { }
#endif

#endif /* _IB_CORE_UMEM_ODP_H */
