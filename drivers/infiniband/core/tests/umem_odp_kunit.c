// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * KUnit tests for the on-demand paged umem, with a mock device and an address
 * space of the test's own.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include "umem_odp_kunit.h"

struct range_case {
	const char *name;
	unsigned long addr;
	size_t size;
	int access;
	int ret;
};

static const struct range_case range_cases[] = {
	{ "empty", SZ_1M, 0, TEST_ACCESS, -EINVAL },
	{ "wraps", -PAGE_SIZE, SZ_1M, TEST_ACCESS, -EOVERFLOW },
	{ "ends at the very top", -PAGE_SIZE, PAGE_SIZE - 1, TEST_ACCESS, -EOVERFLOW },
	{ "kernel addresses", -SZ_1G, SZ_1M, TEST_ACCESS, -EFAULT },
	{ "not to be paged", SZ_1M, SZ_1M, IB_ACCESS_LOCAL_WRITE, -EOPNOTSUPP },
	{ "implicit", 0, SIZE_MAX, TEST_ACCESS, -EOPNOTSUPP },
	{ "not huge pages", SZ_1M, SZ_1M, TEST_ACCESS | IB_ACCESS_HUGETLB, -EINVAL },
};
KUNIT_ARRAY_PARAM_DESC(range, range_cases, name);

static void bad_regions_are_refused(struct kunit *test)
{
	const struct range_case *c = test->param_value;
	struct test_odp *to = test->priv;
	struct ib_umem_odp *odp;

	if (c->ret == -EFAULT && access_ok((void __user *)c->addr, c->size))
		kunit_skip(test, "the kernel has addresses of its own");
	test_mmap(test, PAGE_SIZE, PROT_READ);
	odp = ib_umem_odp_get(&to->device, c->addr, c->size, c->access, NULL);
	KUNIT_EXPECT_PTR_EQ(test, ERR_PTR(c->ret), odp);
	if (!IS_ERR(odp))
		ib_umem_odp_release(odp);
}

static void untouched_region_keeps_nothing(struct kunit *test)
{
	unsigned long size = min_t(u64, TASK_SIZE / 4, 1ULL << 40);
	struct ib_umem_odp *odp;

	test_mmap(test, PAGE_SIZE, PROT_READ);
	odp = test_get(test, SZ_1G, size, TEST_ACCESS, NULL);
	KUNIT_EXPECT_TRUE(test, xa_empty(&odp->chunks));
	KUNIT_EXPECT_TRUE(test, mm_has_notifiers(current->mm));
	KUNIT_EXPECT_EQ(test, 0, atomic64_read(&current->mm->pinned_vm));
	ib_umem_odp_release(odp);
}

static void fault_brings_the_users_page(struct kunit *test)
{
	unsigned long addr = test_mmap(test, PG(16), PROT_READ | PROT_WRITE);
	struct ib_umem_odp *odp = test_get(test, addr, PG(16), TEST_ACCESS, NULL);
	struct ib_odp_chunk *chunk;
	u32 value = 0xfeed;
	u32 *va;

	KUNIT_ASSERT_EQ(test, 0, put_user(value, (u32 __user *)(addr + PAGE_SIZE + 8)));
	chunk = test_fault(test, odp, addr + PAGE_SIZE + 8, sizeof(u32),
			   IB_ODP_FAULT_WRITE);
	va = kmap_local_page(ib_odp_chunk_page(chunk, addr + PAGE_SIZE + 8));
	KUNIT_EXPECT_EQ(test, value, va[2]);
	va[2] = 0xbeef;
	kunmap_local(va);
	KUNIT_EXPECT_EQ(test, 1, chunk->nr_mapped);
	ib_odp_chunk_unlock(chunk);
	KUNIT_EXPECT_EQ(test, 1, test_nr_chunks(odp));
	KUNIT_EXPECT_EQ(test, 1, atomic64_read(&odp->stats.faults));
	KUNIT_EXPECT_EQ(test, 0, get_user(value, (u32 __user *)(addr + PAGE_SIZE + 8)));
	KUNIT_EXPECT_EQ(test, 0xbeef, value);
	ib_umem_odp_release(odp);
}

static void fault_is_counted_once(struct kunit *test)
{
	unsigned long addr = test_mmap(test, PG(16), PROT_READ | PROT_WRITE);
	struct ib_umem_odp *odp = test_get(test, addr, PG(16), TEST_ACCESS, NULL);

	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr, PG(16), 0));
	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr, PG(16), 0));
	KUNIT_EXPECT_EQ(test, 16, atomic64_read(&odp->stats.faults));
	/* To write, each page is needed once more. */
	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr, PG(16), IB_ODP_FAULT_WRITE));
	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr, PG(16), IB_ODP_FAULT_WRITE));
	KUNIT_EXPECT_EQ(test, 32, atomic64_read(&odp->stats.faults));
	ib_umem_odp_release(odp);
}

static void faults_without_memory_fail(struct kunit *test)
{
	unsigned long addr = test_mmap(test, PG(16), PROT_READ);
	struct ib_umem_odp *odp = test_get(test, addr + 1, PG(16) - 1, TEST_ACCESS, NULL);
	struct ib_umem_odp *ro = test_get(test, addr, PG(16), IB_ACCESS_ON_DEMAND, NULL);

	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr + 1, 1, 0));
	KUNIT_EXPECT_EQ(test, -EFAULT, test_fault_error(odp, addr + 1, 1, IB_ODP_FAULT_WRITE));
	KUNIT_EXPECT_EQ(test, -EPERM, test_fault_error(ro, addr, 1, IB_ODP_FAULT_WRITE));
	KUNIT_EXPECT_EQ(test, -EINVAL, test_fault_error(odp, addr - 1, 1, 0));
	KUNIT_EXPECT_EQ(test, -EINVAL, test_fault_error(odp, addr + PG(16) - 1, 2, 0));
	KUNIT_EXPECT_EQ(test, -EINVAL, test_fault_error(odp, addr + 5, 0, 0));
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr + PAGE_SIZE, PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, -EFAULT, test_fault_error(odp, addr + PAGE_SIZE, 1, 0));
	KUNIT_EXPECT_EQ(test, -EFAULT, test_fault_error(odp, addr + 1, PG(16) - 1, 0));
	ib_umem_odp_release(ro);
	ib_umem_odp_release(odp);
}

static void unmapping_takes_pages_away(struct kunit *test)
{
	unsigned long addr = test_mmap(test, PG(16), PROT_READ | PROT_WRITE);
	struct ib_umem_odp *odp = test_get(test, addr, PG(16), TEST_ACCESS, &test_ops);
	struct test_odp *to = test->priv;

	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr, PG(16), IB_ODP_FAULT_WRITE));
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr, 3 * PAGE_SIZE));
	KUNIT_EXPECT_EQ(test, 1, to->zap.nr);
	KUNIT_EXPECT_EQ(test, addr, to->zap.start);
	KUNIT_EXPECT_EQ(test, addr + 3 * PAGE_SIZE, to->zap.end);
	KUNIT_EXPECT_EQ(test, 3, atomic64_read(&odp->stats.invalidations));
	/* The rest is still there, without a new fault. */
	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr + 3 * PAGE_SIZE,
						  PG(16) - 3 * PAGE_SIZE, 0));
	KUNIT_EXPECT_EQ(test, 16, atomic64_read(&odp->stats.faults));
	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr, PG(16)));
	flush_delayed_work(&odp->work);
	KUNIT_EXPECT_EQ(test, 0, test_nr_chunks(odp));
	KUNIT_EXPECT_EQ(test, 2, to->zap.nr);
	ib_umem_odp_release(odp);
	KUNIT_EXPECT_EQ(test, 2, to->zap.nr);
}

static void release_zaps_what_is_left(struct kunit *test)
{
	unsigned long addr = test_mmap(test, 3 * IB_ODP_CHUNK_SIZE, PROT_READ | PROT_WRITE);
	struct ib_umem_odp *odp = test_get(test, addr, 3 * IB_ODP_CHUNK_SIZE,
					   TEST_ACCESS, &test_ops);
	struct test_odp *to = test->priv;

	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr, 1, 0));
	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr + IB_ODP_CHUNK_SIZE, 1, 0));
	ib_umem_odp_release(odp);
	KUNIT_EXPECT_EQ(test, 2, to->zap.nr);
}

/* By which it knows what it need not keep either. */
static void driver_is_told_that_chunks_went(struct kunit *test)
{
	unsigned long size = 4 * IB_ODP_CHUNK_SIZE;
	unsigned long map = test_mmap(test, size, PROT_READ | PROT_WRITE);
	unsigned long addr = ALIGN(map, IB_ODP_CHUNK_SIZE);
	struct ib_umem_odp *odp = test_get(test, addr, 3 * IB_ODP_CHUNK_SIZE, TEST_ACCESS,
					   &test_ops);
	unsigned long last = addr + 2 * IB_ODP_CHUNK_SIZE, end = addr + 3 * IB_ODP_CHUNK_SIZE;
	struct test_odp *to = test->priv;

	KUNIT_EXPECT_FALSE(test, ib_umem_odp_has_chunks(odp, addr, end));
	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr, 1, 0));
	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, last, 1, 0));
	KUNIT_EXPECT_TRUE(test, ib_umem_odp_has_chunks(odp, addr, addr + 1));
	KUNIT_EXPECT_FALSE(test, ib_umem_odp_has_chunks(odp, addr + IB_ODP_CHUNK_SIZE, last));
	KUNIT_EXPECT_TRUE(test, ib_umem_odp_has_chunks(odp, end - 1, end));
	flush_delayed_work(&odp->work);
	KUNIT_EXPECT_EQ(test, 0, to->zap.reaped);

	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr, PAGE_SIZE));
	flush_delayed_work(&odp->work);
	KUNIT_EXPECT_EQ(test, 1, to->zap.reaped);
	KUNIT_EXPECT_FALSE(test, ib_umem_odp_has_chunks(odp, addr, last));
	KUNIT_EXPECT_TRUE(test, ib_umem_odp_has_chunks(odp, addr, end));
	ib_umem_odp_release(odp);
	/* It knows that the region ends. */
	KUNIT_EXPECT_EQ(test, 1, to->zap.reaped);
}

static void invalidation_waits_for_the_user_of_a_page(struct kunit *test)
{
	unsigned long addr = test_mmap(test, PG(16), PROT_READ | PROT_WRITE);
	struct ib_umem_odp *odp = test_get(test, addr, PG(16), TEST_ACCESS, NULL);
	struct test_thread unmapper = { .fn = thread_munmap, .addr = addr, .size = PG(16) };
	struct ib_odp_chunk *chunk;

	test_spawn(test, &unmapper);
	chunk = test_fault(test, odp, addr, PG(16), IB_ODP_FAULT_WRITE);
	complete(&unmapper.go);
	test_wait_contended(test, chunk);
	KUNIT_EXPECT_FALSE(test, completion_done(&unmapper.done));
	KUNIT_EXPECT_NOT_NULL(test, ib_odp_chunk_page(chunk, addr));
	ib_odp_chunk_unlock(chunk);
	test_join(test, &unmapper);
	KUNIT_EXPECT_EQ(test, 0, unmapper.ret);
	KUNIT_EXPECT_EQ(test, -EFAULT, test_fault_error(odp, addr, 1, 0));
	ib_umem_odp_release(odp);
}

static void chunks_are_independent(struct kunit *test)
{
	unsigned long size = 4 * IB_ODP_CHUNK_SIZE;
	unsigned long addr = test_mmap(test, size, PROT_READ | PROT_WRITE);
	struct ib_umem_odp *odp = test_get(test, addr, size, TEST_ACCESS, NULL);
	unsigned long far = addr + 2 * IB_ODP_CHUNK_SIZE;
	struct test_thread faulter = { .fn = thread_fault, .odp = odp, .addr = far, .size = 1 };
	struct test_thread unmapper = { .fn = thread_munmap, .addr = far, .size = PAGE_SIZE };
	struct ib_odp_chunk *chunk;

	test_spawn(test, &faulter);
	test_spawn(test, &unmapper);
	/* We hold one chunk; a fault and an invalidation elsewhere go on. */
	chunk = test_fault(test, odp, addr, 1, 0);
	complete(&faulter.go);
	test_join(test, &faulter);
	KUNIT_EXPECT_EQ(test, 0, faulter.ret);
	complete(&unmapper.go);
	test_join(test, &unmapper);
	KUNIT_EXPECT_EQ(test, 0, unmapper.ret);
	KUNIT_EXPECT_EQ(test, 1, atomic64_read(&odp->stats.invalidations));
	ib_odp_chunk_unlock(chunk);
	ib_umem_odp_release(odp);
}

static void thread_nonblock(struct test_thread *thread)
{
	thread->ret = test_nonblock(thread->test, thread->addr, thread->size);
}

static void nonblock_is_refused_only_if_in_use(struct kunit *test)
{
	unsigned long addr = test_mmap(test, PG(16), PROT_READ | PROT_WRITE);
	struct ib_umem_odp *soft = test_get(test, addr, PG(16), TEST_ACCESS, NULL);
	struct ib_umem_odp *hard = test_get(test, addr, PG(16), TEST_ACCESS, &test_ops);
	struct test_thread reaper = { .fn = thread_nonblock, .addr = addr, .size = PG(16) };
	struct ib_odp_chunk *chunk;

	KUNIT_EXPECT_EQ(test, 0, test_nonblock(test, addr, PG(16)));
	test_spawn(test, &reaper);
	chunk = test_fault(test, soft, addr, 1, 0);
	complete(&reaper.go);
	test_join(test, &reaper);
	KUNIT_EXPECT_EQ(test, -EAGAIN, reaper.ret);
	ib_odp_chunk_unlock(chunk);
	/* Nothing to wait for: the device has no translations. */
	KUNIT_EXPECT_EQ(test, 0, test_nonblock(test, addr, PG(16)));
	KUNIT_EXPECT_EQ(test, 1, atomic64_read(&soft->stats.invalidations));

	KUNIT_EXPECT_EQ(test, 0, test_fault_error(hard, addr, 1, 0));
	KUNIT_EXPECT_EQ(test, -EAGAIN, test_nonblock(test, addr, PG(16)));
	KUNIT_EXPECT_EQ(test, 0, atomic64_read(&hard->stats.invalidations));
	ib_umem_odp_release(hard);
	ib_umem_odp_release(soft);
}

/* Was the page behind @addr dirty after the device lost it? */
static bool test_dirty_after(struct kunit *test, struct ib_umem_odp *odp,
			     unsigned long addr, unsigned int flags)
{
	struct ib_odp_chunk *chunk = test_fault(test, odp, addr, 1, flags);
	struct folio *folio = page_folio(ib_odp_chunk_page(chunk, addr));
	bool dirty;

	folio_get(folio);
	ib_odp_chunk_unlock(chunk);
	folio_clear_dirty(folio);
	KUNIT_EXPECT_EQ(test, 0, test_nonblock(test, addr, PAGE_SIZE));
	dirty = folio_test_dirty(folio);
	folio_put(folio);
	return dirty;
}

static void written_pages_become_dirty(struct kunit *test)
{
	unsigned long addr = test_mmap(test, PG(16), PROT_READ | PROT_WRITE);
	struct ib_umem_odp *odp = test_get(test, addr, PG(16), TEST_ACCESS, NULL);

	KUNIT_ASSERT_EQ(test, 0, put_user(1, (u32 __user *)addr));
	KUNIT_EXPECT_FALSE(test, test_dirty_after(test, odp, addr, 0));
	KUNIT_EXPECT_TRUE(test, test_dirty_after(test, odp, addr, IB_ODP_FAULT_WRITE));
	ib_umem_odp_release(odp);
}

static void gone_process_has_no_memory(struct kunit *test)
{
	unsigned long addr = test_mmap(test, PG(16), PROT_READ | PROT_WRITE);
	struct ib_umem_odp *odp = test_get(test, addr, PG(16), TEST_ACCESS, NULL);
	struct mm_struct *mm = current->mm;

	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr, PG(16), IB_ODP_FAULT_WRITE));
	kthread_unuse_mm(mm);
	mmput(mm);
	KUNIT_EXPECT_EQ(test, 16, atomic64_read(&odp->stats.invalidations));
	KUNIT_EXPECT_EQ(test, -EFAULT, test_fault_error(odp, addr, 1, 0));
	ib_umem_odp_release(odp);
}

/*
 * Pages are used under the lock of their chunk, and without a reference: the first time,
 * when a fault has brought them, and from then on.
 */
static void users_of_pages_have_the_lock_alone(struct kunit *test)
{
	unsigned long addr = test_mmap(test, PAGE_SIZE, PROT_READ | PROT_WRITE);
	struct ib_umem_odp *odp = test_get(test, addr, PAGE_SIZE, TEST_ACCESS, NULL);
	struct ib_odp_chunk *chunk;
	int i;

	for (i = 0; i < 2; i++) {
		chunk = ib_umem_odp_fault(odp, addr, addr + PAGE_SIZE, 0);
		KUNIT_ASSERT_FALSE(test, IS_ERR(chunk));
		KUNIT_EXPECT_TRUE(test, mutex_is_locked(&chunk->lock));
		KUNIT_EXPECT_EQ(test, 1, refcount_read(&chunk->refs));
		ib_odp_chunk_unlock(chunk);
	}
	ib_umem_odp_release(odp);
}

/*
 * A chunk that is locked stays, though it has become empty and there is no reference. It
 * is freed once it is unlocked.
 */
static void chunk_that_is_locked_is_not_freed(struct kunit *test)
{
	unsigned long addr = test_mmap(test, PAGE_SIZE, PROT_READ | PROT_WRITE);
	struct ib_umem_odp *odp = test_get(test, addr, PAGE_SIZE, TEST_ACCESS, NULL);
	struct ib_odp_chunk *chunk;

	/* Nothing is mapped, so nothing is present, and the chunk goes to the worker. */
	chunk = ib_umem_odp_fault(odp, addr, addr + PAGE_SIZE, IB_ODP_FAULT_PRESENT);
	KUNIT_ASSERT_FALSE(test, IS_ERR(chunk));
	KUNIT_EXPECT_EQ(test, 0, chunk->nr_mapped);
	test_wait(test, !ib_umem_odp_has_chunks(odp, addr, addr + PAGE_SIZE));
	/* The worker has taken it out, and waits for the lock. */
	msleep(50);
	KUNIT_EXPECT_TRUE(test, work_busy(&odp->work.work) & WORK_BUSY_RUNNING);
	ib_odp_chunk_unlock(chunk);
	test_wait(test, !work_busy(&odp->work.work));
	ib_umem_odp_release(odp);
}

/* Threads fault and unmap at random; in the end all of it can be faulted. */
static void thread_storm(struct test_thread *thread)
{
	unsigned long addr = thread->addr;
	int i;

	for (i = 0; i < 300; i++) {
		unsigned long at = addr + (get_random_u32_below(64) << PAGE_SHIFT);

		if (thread->odp)
			thread->ret = test_fault_error(thread->odp, at, PAGE_SIZE,
						       i & 1 ? IB_ODP_FAULT_WRITE : 0);
		else
			thread->ret = test_nonblock(thread->test, at, 4 * PAGE_SIZE);
		if (thread->odp && thread->ret)
			break;
	}
}

static void faults_survive_a_storm_of_invalidations(struct kunit *test)
{
	unsigned long size = 64 * PAGE_SIZE;
	unsigned long addr = test_mmap(test, 2 * size, PROT_READ | PROT_WRITE);
	struct ib_umem_odp *odp = test_get(test, addr, size, TEST_ACCESS, NULL);
	struct test_thread a = { .fn = thread_storm, .odp = odp, .addr = addr };
	struct test_thread b = { .fn = thread_storm, .addr = addr };

	test_spawn(test, &a);
	test_spawn(test, &b);
	complete(&a.go);
	complete(&b.go);
	test_join(test, &a);
	test_join(test, &b);
	KUNIT_EXPECT_EQ(test, 0, a.ret);
	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr, PAGE_SIZE,
						  IB_ODP_FAULT_WRITE));
	ib_umem_odp_release(odp);
}

static struct kunit_case test_cases[] = {
	KUNIT_CASE_PARAM(bad_regions_are_refused, range_gen_params),
	KUNIT_CASE(untouched_region_keeps_nothing),
	KUNIT_CASE(fault_brings_the_users_page),
	KUNIT_CASE(fault_is_counted_once),
	KUNIT_CASE(faults_without_memory_fail),
	KUNIT_CASE(unmapping_takes_pages_away),
	KUNIT_CASE(release_zaps_what_is_left),
	KUNIT_CASE(driver_is_told_that_chunks_went),
	KUNIT_CASE(users_of_pages_have_the_lock_alone),
	KUNIT_CASE(chunk_that_is_locked_is_not_freed),
	KUNIT_CASE(invalidation_waits_for_the_user_of_a_page),
	KUNIT_CASE(chunks_are_independent),
	KUNIT_CASE(nonblock_is_refused_only_if_in_use),
	KUNIT_CASE(written_pages_become_dirty),
	KUNIT_CASE(gone_process_has_no_memory),
	KUNIT_CASE(faults_survive_a_storm_of_invalidations),
	{}
};

static struct kunit_suite test_suite = {
	.name = "ib_umem_odp",
	.init = test_init,
	.test_cases = test_cases,
};
kunit_test_suite(test_suite);
