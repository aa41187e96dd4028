/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * What the KUnit tests of the on-demand paged umem share: a mock device, an
 * address space of the test's own, other threads in it.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef _UMEM_ODP_KUNIT_H
#define _UMEM_ODP_KUNIT_H

#include <kunit/device.h>
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/highmem.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/sched/mm.h>
#include <linux/sizes.h>
#include <rdma/ib_umem_odp.h>

#define TEST_TIMEOUT	(20 * HZ)
#define TEST_ACCESS	(IB_ACCESS_ON_DEMAND | IB_ACCESS_LOCAL_WRITE)

/*
 * What the mock device was told to forget, how much of that nobody has waited
 * for, the chunk whose zap it does not finish until it is let, and how often it
 * was told that chunks were freed.
 */
struct test_zap {
	int nr;
	int reaped;
	unsigned long start;
	unsigned long end;
	int open;
	int most_open;
	unsigned long slow;
	struct completion is_waiting;
	struct completion go;
};

struct test_odp {
	struct ib_device device;
	u64 dma_mask;
	struct mm_struct *mm;
	struct test_zap zap;
};

static inline int test_init(struct kunit *test)
{
	struct test_odp *to = kunit_kzalloc(test, sizeof(*to), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, to);
	to->device.attrs.kernel_cap_flags = IBK_ON_DEMAND_PAGING;
	init_completion(&to->zap.is_waiting);
	init_completion(&to->zap.go);
	test->priv = to;
	return 0;
}

/* So many pages, whatever they have. */
#define PG(nr)	((nr) * PAGE_SIZE)

/* For cases in which a chunk has 512 pages, and may be one huge page. */
static inline void test_needs_small_pages(struct kunit *test)
{
	if (PAGE_SIZE != SZ_4K)
		kunit_skip(test, "a chunk has %lu pages", IB_ODP_CHUNK_PAGES);
}

/* From the beginning of a chunk on. */
static inline unsigned long test_mmap(struct kunit *test, unsigned long size, int prot)
{
	struct test_odp *to = test->priv;
	unsigned long addr;

	addr = kunit_vm_mmap(test, NULL, 0, size + IB_ODP_CHUNK_SIZE, prot,
			     MAP_PRIVATE | MAP_ANONYMOUS, 0);
	KUNIT_ASSERT_FALSE(test, !addr || IS_ERR_VALUE(addr));
	addr = ALIGN(addr, IB_ODP_CHUNK_SIZE);
	to->mm = current->mm;
	/* What is not there is small, unless a test wants it otherwise. */
	if (IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE))
		KUNIT_ASSERT_EQ(test, 0, do_madvise(to->mm, addr, size, MADV_NOHUGEPAGE));
	return addr;
}

static inline unsigned long test_mmap_chunks(struct kunit *test, int nr)
{
	return test_mmap(test, nr * IB_ODP_CHUNK_SIZE, PROT_READ | PROT_WRITE);
}

static inline unsigned long test_mmap_huge(struct kunit *test)
{
	unsigned long addr = test_mmap_chunks(test, 1);
	struct test_odp *to = test->priv;

	if (!IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE))
		kunit_skip(test, "CONFIG_TRANSPARENT_HUGEPAGE is off");
	if (PMD_SIZE != IB_ODP_CHUNK_SIZE)
		kunit_skip(test, "a huge page is no chunk");
	KUNIT_ASSERT_EQ(test, 0, do_madvise(to->mm, addr, IB_ODP_CHUNK_SIZE, MADV_HUGEPAGE));
	KUNIT_ASSERT_EQ(test, 0, put_user(0xfeed, (u32 __user *)(addr + 5 * PAGE_SIZE + 8)));
	return addr;
}

/* A device of the DMA API's: what is mapped for it is unmapped, says DMA_API_DEBUG. */
static inline void test_use_dma(struct kunit *test)
{
	struct device *device = kunit_device_register(test, "umem_odp");
	struct test_odp *to = test->priv;

	KUNIT_ASSERT_FALSE(test, IS_ERR(device));
	to->dma_mask = DMA_BIT_MASK(64);
	device->dma_mask = &to->dma_mask;
	to->device.dma_device = device;
}

static inline void test_zap(struct ib_odp_chunk *chunk, unsigned long start,
			    unsigned long end)
{
	struct test_zap *zap = chunk->odp->private;

	lockdep_assert_held(&chunk->lock);
	zap->nr++;
	zap->start = start;
	zap->end = end;
	zap->most_open = max(zap->most_open, ++zap->open);
}

static inline void test_zap_wait(struct ib_odp_chunk *chunk)
{
	struct test_zap *zap = chunk->odp->private;

	lockdep_assert_held(&chunk->lock);
	zap->open--;
	if (ib_odp_chunk_start(chunk) != zap->slow)
		return;
	complete(&zap->is_waiting);
	wait_for_completion(&zap->go);
}

static inline void test_reaped(struct ib_umem_odp *odp)
{
	struct test_zap *zap = odp->private;

	zap->reaped++;
}

static const struct ib_umem_odp_ops __maybe_unused test_ops = {
	.granule = PAGE_SIZE,
	.zap = test_zap,
	.zap_wait = test_zap_wait,
	.reaped = test_reaped,
};

static inline struct ib_umem_odp *test_get(struct kunit *test, unsigned long addr,
					   size_t size, int access,
				    const struct ib_umem_odp_ops *ops)
{
	struct test_odp *to = test->priv;
	struct ib_umem_odp *odp;

	odp = ib_umem_odp_get(&to->device, addr, size, access, ops);
	KUNIT_ASSERT_FALSE_MSG(test, IS_ERR(odp), "error %ld", PTR_ERR(odp));
	odp->private = &to->zap;
	return odp;
}

static inline struct ib_odp_chunk *test_fault(struct kunit *test, struct ib_umem_odp *odp,
					      unsigned long addr, size_t size,
				       unsigned int flags)
{
	struct ib_odp_chunk *chunk = ib_umem_odp_fault(odp, addr, addr + size, flags);

	KUNIT_ASSERT_FALSE_MSG(test, IS_ERR(chunk), "error %ld", PTR_ERR(chunk));
	return chunk;
}

static inline long test_fault_error(struct ib_umem_odp *odp, unsigned long addr,
				    size_t size, unsigned int flags)
{
	struct ib_odp_chunk *chunk = ib_umem_odp_fault(odp, addr, addr + size, flags);

	if (IS_ERR(chunk))
		return PTR_ERR(chunk);
	ib_odp_chunk_unlock(chunk);
	return 0;
}

/* Until another thread has seen to @_condition; with a limit. */
#define test_wait(_test, _condition)						\
do {										\
	unsigned long __limit = jiffies + TEST_TIMEOUT;				\
										\
	while (!(_condition)) {							\
		KUNIT_ASSERT_TRUE_MSG(_test, time_before(jiffies, __limit),	\
				      "waited in vain: " #_condition);		\
		usleep_range(100, 200);						\
	}									\
} while (0)

/* Another thread in the same address space, waited for with a limit. */
struct test_thread {
	struct kunit *test;
	struct mm_struct *mm;
	void (*fn)(struct test_thread *thread);
	struct ib_umem_odp *odp;
	unsigned long addr;
	size_t size;
	long ret;
	struct completion go;
	struct completion done;
};

static inline int test_thread_main(void *data)
{
	struct test_thread *thread = data;

	kthread_use_mm(thread->mm);
	wait_for_completion(&thread->go);
	thread->fn(thread);
	kthread_unuse_mm(thread->mm);
	complete(&thread->done);
	return 0;
}

/* Made before a chunk is locked: under that lock nothing can be allocated. */
static inline void test_spawn(struct kunit *test, struct test_thread *thread)
{
	struct test_odp *to = test->priv;

	thread->test = test;
	thread->mm = to->mm;
	init_completion(&thread->go);
	init_completion(&thread->done);
	KUNIT_ASSERT_FALSE(test, IS_ERR(kthread_run(test_thread_main, thread,
						    "umem_odp_test")));
}

static inline void test_join(struct kunit *test, struct test_thread *thread)
{
	KUNIT_ASSERT_TRUE_MSG(test,
			      wait_for_completion_timeout(&thread->done, TEST_TIMEOUT),
			      "the thread did not finish");
}

static inline void thread_munmap(struct test_thread *thread)
{
	thread->ret = vm_munmap(thread->addr, thread->size);
}

static inline void thread_fault(struct test_thread *thread)
{
	thread->ret = test_fault_error(thread->odp, thread->addr, thread->size, 0);
}

static inline bool test_has_waiters(const struct mutex *lock)
{
#ifdef CONFIG_PREEMPT_RT
	return !RB_EMPTY_ROOT(&lock->rtmutex.waiters.rb_root);
#else
	return !list_empty_careful(&lock->wait_list);
#endif
}

/* Until another task waits for the lock that this one holds. */
static inline void test_wait_contended(struct kunit *test, struct ib_odp_chunk *chunk)
{
	test_wait(test, test_has_waiters(&chunk->lock));
}

static inline unsigned long test_nr_chunks(struct ib_umem_odp *odp)
{
	struct ib_odp_chunk *chunk;
	unsigned long index, nr = 0;

	xa_for_each(&odp->chunks, index, chunk)
		nr++;
	return nr;
}

static inline int test_nonblock(struct kunit *test, unsigned long addr, size_t size)
{
	struct test_odp *to = test->priv;
	struct mmu_notifier_range range;
	int ret;

	mmu_notifier_range_init(&range, MMU_NOTIFY_UNMAP, 0, to->mm, addr, addr + size);
	ret = mmu_notifier_invalidate_range_start_nonblock(&range);
	if (!ret)
		mmu_notifier_invalidate_range_end(&range);
	return ret;
}

#endif /* _UMEM_ODP_KUNIT_H */
