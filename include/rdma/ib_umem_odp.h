/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * On-demand paging: user memory that a device uses without having it pinned.
 * Explained in drivers/infiniband/core/umem_odp.c.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef IB_UMEM_ODP_H
#define IB_UMEM_ODP_H

#include <linux/bitmap.h>
#include <linux/cleanup.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/sched/mm.h>
#include <linux/sizes.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>
#include <rdma/ib_umem.h>
#include <rdma/ib_verbs.h>

/* What one chunk covers at most: a huge page, where there are any. */
#define IB_ODP_CHUNK_SHIFT	21
#define IB_ODP_CHUNK_SIZE	BIT(IB_ODP_CHUNK_SHIFT)
#define IB_ODP_CHUNK_PAGES	(IB_ODP_CHUNK_SIZE >> PAGE_SHIFT)
#define IB_ODP_CHUNK_LONGS	BITS_TO_LONGS(IB_ODP_CHUNK_PAGES)

struct ib_odp_chunk;
struct ib_odp_owner;
struct ib_odp_populate;
struct ib_odp_runs;

/**
 * enum ib_odp_fault_flags - what a fault asks for
 * @IB_ODP_FAULT_WRITE: the device is going to write
 * @IB_ODP_FAULT_PREFETCH: it was told to in advance, which is counted apart
 * @IB_ODP_FAULT_PRESENT: only what the process has mapped anyway; the rest of
 *	the range stays as it is
 * @IB_ODP_FAULT_PROMPT: not if user space decides how long it takes
 * @IB_ODP_FAULT_PART: of an access of which the part before this one was asked for
 */
enum ib_odp_fault_flags {
	IB_ODP_FAULT_WRITE = BIT(0),
	IB_ODP_FAULT_PREFETCH = BIT(1),
	IB_ODP_FAULT_PRESENT = BIT(2),
	IB_ODP_FAULT_PROMPT = BIT(3),
	IB_ODP_FAULT_PART = BIT(4),
};

/**
 * struct ib_umem_odp_ops - what a driver with page tables of its own implements
 * @granule: bytes, a power of two: the device's translations are written in
 *	blocks of so many, counted from the region's start, or from where chunks
 *	begin (see @skew of struct ib_umem_odp). A block never belongs to two
 *	chunks, and what is zapped or unmapped is whole blocks. At least a page.
 * @zap: have the device forget [@start, @end) of the chunk. It need not have
 *	done so on return: zaps of many chunks are begun before the first is
 *	waited for.
 * @zap_wait: wait until it has; the pages are DMA unmapped after that.
 * @reaped: chunks that had become empty were freed, and what the driver has for
 *	them may be useless now; not at the region's end
 *
 * The first two are called under the chunk's lock. All may sleep. A driver that
 * looks each page up under the chunk's lock has nothing to forget, and no ops.
 */
struct ib_umem_odp_ops {
	unsigned long granule;
	void (*zap)(struct ib_odp_chunk *chunk, unsigned long start,
		    unsigned long end);
	void (*zap_wait)(struct ib_odp_chunk *chunk);
	void (*reaped)(struct ib_umem_odp *odp);
};

/**
 * struct ib_umem_odp - a memory region that is paged on demand
 * @umem: base; @umem.owning_mm is kept armed for as long as this lives
 * @ops: the driver's, or NULL
 * @private: the driver's
 * @page_shift: of the entries that the device uses
 * @implicit: all of the address space, whatever will be in it
 * @skew: how far past each aligned block of IB_ODP_CHUNK_SIZE the chunks
 *	begin, so that no granule is in two of them: less than a granule. A driver
 *	whose tables begin elsewhere than the region may set it before the first
 *	fault to anything below IB_ODP_CHUNK_SIZE that is not above the region's start
 * @runs: where devices access it in order; NULL until there was a fault
 * @chunks: struct ib_odp_chunk by ib_umem_odp_chunk_index(); its lock also
 *	protects lookup against reaping
 * @reap_list: chunks that became empty, under the lock of @chunks
 * @age_list: chunks with pages that the device is to forget, to see if it uses them;
 *	under the lock of @chunks
 * @work: frees those that are still empty, and has the device forget; both in turn, so
 *	no chunk is freed under either
 * @refs: the region's, and one for each fault that user space may hold up
 * @dead: the region is gone: nothing is entered any more; set under the lock of
 *	@chunks, read under that or a chunk's lock
 * @uses_dma: the device uses DMA addresses; it may be gone before the umem is
 * @populate_lock: protects @populates
 * @populates: struct ib_odp_populate that run or wait to run
 * @owner: of the address space, once there was one of these
 * @stats: pages mapped by faults, pages invalidated, pages mapped in advance
 */
struct ib_umem_odp {
	struct ib_umem umem;
	const struct ib_umem_odp_ops *ops;
	void *private;
	unsigned int page_shift;
	bool implicit;
	unsigned long skew;
	struct ib_odp_runs *runs;
	struct xarray chunks;
	struct list_head reap_list;
	struct list_head age_list;
	struct delayed_work work;
	refcount_t refs;
	bool dead;
	bool uses_dma;
	spinlock_t populate_lock;
	struct list_head populates;
	struct ib_odp_owner *owner;
	struct ib_odp_counters stats;
};

/*
 * Entries of a chunk: a struct page pointer and what the device may do. No
 * reference is held: the chunk's notifier says when the page goes.
 */
#define IB_ODP_ENTRY_READ	1UL
#define IB_ODP_ENTRY_WRITE	2UL
#define IB_ODP_ENTRY_FLAGS	(IB_ODP_ENTRY_READ | IB_ODP_ENTRY_WRITE)

/**
 * struct ib_odp_chunk - the part of an umem that lies in one block of 2 MiB
 * @notifier: its interval: the block cut to the umem, whole pages
 * @odp: the umem
 * @lock: protects what is below, and whoever uses the pages; taken inside of
 *	the mmap_lock by invalidation, so not held while faulting
 * @refs: the umem's and one for each fault; freed with the last one
 * @reap_entry: in the umem's reap_list
 * @age_entry: in the umem's age_list
 * @young: pages that the device has used, or may have
 * @aged: pages that it is to forget
 * @nr_mapped: pages that are mapped
 * @huge: entry of the huge page that is all of the chunk, or 0; none of the
 *	@entries is in use then
 * @huge_dma: its DMA address
 * @fault_end: how far the fault that locked it looked; up to there pages may have
 *	come that were not asked for
 * @small_only: a huge page could not be mapped for DMA
 * @present: which of the @entries there are
 * @entries: one a page, not initialized where there is none; NULL until there is
 *	a page
 * @dma: their DMA addresses; NULL if the device uses kernel virtual addresses
 * @zap_start: what the driver was told to zap and nobody has waited for yet
 * @zap_end: behind its last page; 0 if there is nothing
 * @finish: of the invalidation that does
 * @finishing: it is in use
 * @rcu: until it is no longer looked at
 */
struct ib_odp_chunk {
	struct mmu_interval_notifier notifier;
	struct ib_umem_odp *odp;
	struct mutex lock;
	refcount_t refs;
	struct list_head reap_entry;
	struct list_head age_entry;
	atomic_long_t young[IB_ODP_CHUNK_LONGS];
	atomic_long_t aged[IB_ODP_CHUNK_LONGS];
	unsigned int nr_mapped;
	unsigned long huge;
	dma_addr_t huge_dma;
	unsigned long fault_end;
	bool small_only;
	bool finishing;
	DECLARE_BITMAP(present, IB_ODP_CHUNK_PAGES);
	unsigned long *entries;
	dma_addr_t *dma;
	unsigned long zap_start;
	unsigned long zap_end;
	struct mmu_interval_notifier_finish finish;
	struct rcu_head rcu;
};

static inline struct ib_umem_odp *to_ib_umem_odp(struct ib_umem *umem)
{
	return container_of(umem, struct ib_umem_odp, umem);
}

/* First page of the region. */
static inline unsigned long ib_umem_start(struct ib_umem_odp *odp)
{
	return ALIGN_DOWN(odp->umem.address, 1UL << odp->page_shift);
}

/* End of its last page; cannot be 0, the kernel is up there. */
static inline unsigned long ib_umem_end(struct ib_umem_odp *odp)
{
	return ALIGN(odp->umem.address + odp->umem.length, 1UL << odp->page_shift);
}

static inline size_t ib_umem_odp_num_pages(struct ib_umem_odp *odp)
{
	return (ib_umem_end(odp) - ib_umem_start(odp)) >> odp->page_shift;
}

/* Where the block of 2 MiB begins that the chunk of @addr is the part of the region in. */
static inline unsigned long ib_umem_odp_block(struct ib_umem_odp *odp, unsigned long addr)
{
	return ALIGN_DOWN(addr - odp->skew, IB_ODP_CHUNK_SIZE) + odp->skew;
}

/* From 0 on, so that the array of a small region is a small one. */
static inline unsigned long ib_umem_odp_chunk_index(struct ib_umem_odp *odp,
						    unsigned long addr)
{
	return (addr - ib_umem_odp_block(odp, ib_umem_start(odp))) >> IB_ODP_CHUNK_SHIFT;
}

/* Where the chunk that @addr is in ends, at most: how far one fault can go. */
static inline unsigned long ib_umem_odp_chunk_end(struct ib_umem_odp *odp,
						  unsigned long addr)
{
	return min(ib_umem_odp_block(odp, addr) + IB_ODP_CHUNK_SIZE, ib_umem_end(odp));
}

static inline unsigned int ib_odp_chunk_index(const struct ib_odp_chunk *chunk,
					      unsigned long addr)
{
	return (addr - chunk->notifier.interval_tree.start) >> PAGE_SHIFT;
}

/* First address of the chunk, and the one behind its last. */
static inline unsigned long ib_odp_chunk_start(const struct ib_odp_chunk *chunk)
{
	return chunk->notifier.interval_tree.start;
}

static inline unsigned long ib_odp_chunk_end(const struct ib_odp_chunk *chunk)
{
	return chunk->notifier.interval_tree.last + 1;
}

/**
 * ib_odp_chunk_page() - the page behind an address
 * @chunk: locked, by ib_umem_odp_fault() for a range that @addr is in
 * @addr: the user's address
 *
 * Return: the page, which stays until ib_odp_chunk_unlock().
 */
static inline struct page *ib_odp_chunk_page(const struct ib_odp_chunk *chunk,
					     unsigned long addr)
{
	unsigned int i = ib_odp_chunk_index(chunk, addr);

	lockdep_assert_held(&chunk->lock);
	if (chunk->huge)
		return nth_page((struct page *)(chunk->huge & ~IB_ODP_ENTRY_FLAGS), i);
	return (struct page *)(chunk->entries[i] & ~IB_ODP_ENTRY_FLAGS);
}

/**
 * struct ib_odp_charge - allocations are charged to the memory cgroup of a region's owner
 * @memcg: of the owner
 * @outer: what was charged before
 *
 * For whoever allocates something for a region, in any context: a fault runs in a worker,
 * which has no memory cgroup of its own, and so does much that follows one. It counts for
 * allocations with __GFP_ACCOUNT, from
 *
 *	CLASS(ib_odp_charge, charge)(odp);
 *
 * to the end of the block. An xarray needs XA_FLAGS_ACCOUNT besides. When the cgroup has
 * reached its limit, an allocation reclaims its memory, may have a process of it killed,
 * or fails with -ENOMEM.
 */
struct ib_odp_charge {
	struct mem_cgroup *memcg;
	struct mem_cgroup *outer;
};

static inline struct ib_odp_charge ib_odp_charge_begin(const struct ib_umem_odp *odp)
{
	struct mem_cgroup *memcg = get_mem_cgroup_from_mm(odp->umem.owning_mm);

	return (struct ib_odp_charge) { .memcg = memcg, .outer = set_active_memcg(memcg) };
}

static inline void ib_odp_charge_end(struct ib_odp_charge *charge)
{
	set_active_memcg(charge->outer);
	mem_cgroup_put(charge->memcg);
}

DEFINE_CLASS(ib_odp_charge, struct ib_odp_charge, ib_odp_charge_end(&_T),
	     ib_odp_charge_begin(odp), const struct ib_umem_odp *odp)

#ifdef CONFIG_INFINIBAND_ON_DEMAND_PAGING

struct ib_umem_odp *ib_umem_odp_get(struct ib_device *device, unsigned long addr,
				    size_t size, int access,
				    const struct ib_umem_odp_ops *ops);
struct ib_umem_odp *ib_umem_odp_get_implicit(struct ib_device *device, int access,
					     const struct ib_umem_odp_ops *ops);
void ib_umem_odp_release(struct ib_umem_odp *odp);
void ib_umem_odp_kill(struct ib_umem_odp *odp);
void ib_umem_odp_hold(struct ib_umem_odp *odp);
void ib_umem_odp_put(struct ib_umem_odp *odp);
bool ib_umem_odp_has_chunks(struct ib_umem_odp *odp, unsigned long start,
			    unsigned long end);

struct ib_odp_chunk *ib_umem_odp_fault(struct ib_umem_odp *odp,
				       unsigned long start, unsigned long end,
				       unsigned int flags);
struct ib_odp_chunk *ib_umem_odp_present(struct ib_umem_odp *odp,
					 unsigned long start, unsigned long end,
					 unsigned int flags);
void ib_odp_chunk_entries(const struct ib_odp_chunk *chunk, unsigned long addr,
			  unsigned int nr, __be64 *to);
void ib_odp_chunk_unlock(struct ib_odp_chunk *chunk);
unsigned long ib_umem_odp_find_mapped(struct ib_umem_odp *odp, unsigned long addr);

int ib_umem_odp_populate_now(struct ib_umem_odp *odp, unsigned long start,
			     unsigned long end, unsigned int flags);
int ib_umem_odp_populate(struct ib_umem_odp *odp, unsigned long start,
			 unsigned long end, unsigned int flags,
			 void (*done)(void *data, int result), void *data,
			 struct ib_odp_populate **populate);
void ib_odp_populate_end(struct ib_odp_populate *populate);
struct ib_odp_chunk *ib_umem_odp_fault_wait(struct ib_umem_odp *odp,
					    unsigned long start, unsigned long end,
					    unsigned int flags,
					    bool (*leave)(void *data), void *data);

#else /* CONFIG_INFINIBAND_ON_DEMAND_PAGING */

static inline struct ib_umem_odp *
ib_umem_odp_get(struct ib_device *device, unsigned long addr, size_t size,
		int access, const struct ib_umem_odp_ops *ops)
{
	return ERR_PTR(-EOPNOTSUPP);
}

static inline struct ib_umem_odp *
ib_umem_odp_get_implicit(struct ib_device *device, int access,
			 const struct ib_umem_odp_ops *ops)
{
	return ERR_PTR(-EOPNOTSUPP);
}

static inline void ib_umem_odp_release(struct ib_umem_odp *odp) { }
static inline void ib_umem_odp_kill(struct ib_umem_odp *odp) { }
static inline void ib_umem_odp_hold(struct ib_umem_odp *odp) { }
static inline void ib_umem_odp_put(struct ib_umem_odp *odp) { }

static inline bool ib_umem_odp_has_chunks(struct ib_umem_odp *odp, unsigned long start,
					  unsigned long end)
{
	return false;
}

static inline struct ib_odp_chunk *
ib_umem_odp_fault(struct ib_umem_odp *odp, unsigned long start,
		  unsigned long end, unsigned int flags)
{
	return ERR_PTR(-EOPNOTSUPP);
}

static inline void ib_odp_chunk_entries(const struct ib_odp_chunk *chunk,
					unsigned long addr, unsigned int nr, __be64 *to)
{
}

static inline void ib_odp_chunk_unlock(struct ib_odp_chunk *chunk) { }

static inline unsigned long ib_umem_odp_find_mapped(struct ib_umem_odp *odp,
						    unsigned long addr)
{
	return ib_umem_end(odp);
}

#endif /* CONFIG_INFINIBAND_ON_DEMAND_PAGING */

#endif /* IB_UMEM_ODP_H */
