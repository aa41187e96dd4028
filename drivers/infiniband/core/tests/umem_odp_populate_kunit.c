// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * KUnit tests for faults that user space holds up. It is played by the mmap_lock,
 * which the test holds for writing: no fault can look at the mappings.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/mmap_lock.h>

#include "umem_odp_kunit.h"

/* Of a populate, as a driver is told it. */
struct test_result {
	int nr;
	int result;
	struct completion done;
};

static void test_done(void *data, int result)
{
	struct test_result *r = data;

	r->nr++;
	r->result = result;
	complete(&r->done);
}

static struct ib_odp_populate *test_populate(struct kunit *test, struct ib_umem_odp *odp,
					     unsigned long addr, size_t size,
					     struct test_result *r)
{
	struct ib_odp_populate *populate;

	init_completion(&r->done);
	KUNIT_ASSERT_EQ(test, 0, ib_umem_odp_populate(odp, addr, addr + size, 0, test_done,
						      r, &populate));
	return populate;
}

static void test_wait_done(struct kunit *test, struct test_result *r)
{
	KUNIT_ASSERT_TRUE(test, wait_for_completion_timeout(&r->done, TEST_TIMEOUT));
}

/* Until nothing but the test holds the umem. */
static void test_wait_alone(struct kunit *test, struct ib_umem_odp *odp)
{
	test_wait(test, refcount_read(&odp->refs) == 1);
}

static void thread_fault_prompt(struct test_thread *thread)
{
	thread->ret = test_fault_error(thread->odp, thread->addr, thread->size,
				       IB_ODP_FAULT_PROMPT);
}

static void prompt_fault_waits_for_nothing(struct kunit *test)
{
	unsigned long addr = test_mmap(test, PG(16), PROT_READ | PROT_WRITE);
	struct ib_umem_odp *odp = test_get(test, addr, PG(16), TEST_ACCESS, NULL);
	struct test_thread prompt = {
		.fn = thread_fault_prompt, .odp = odp, .addr = addr, .size = PG(16),
	};

	test_spawn(test, &prompt);
	mmap_write_lock(current->mm);
	complete(&prompt.go);
	test_join(test, &prompt);
	mmap_write_unlock(current->mm);
	KUNIT_EXPECT_EQ(test, -EAGAIN, prompt.ret);
	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr, PG(16), IB_ODP_FAULT_PROMPT));
	ib_umem_odp_release(odp);
}

static void populate_brings_all_chunks(struct kunit *test)
{
	unsigned long size = 3 * IB_ODP_CHUNK_SIZE;
	unsigned long addr = test_mmap(test, size, PROT_READ | PROT_WRITE);
	struct ib_umem_odp *odp = test_get(test, addr, size, TEST_ACCESS, NULL);
	struct ib_odp_populate *populate;
	struct test_result r = {};

	populate = test_populate(test, odp, addr, size, &r);
	test_wait_done(test, &r);
	ib_odp_populate_end(populate);
	KUNIT_EXPECT_EQ(test, 1, r.nr);
	KUNIT_EXPECT_EQ(test, 0, r.result);
	KUNIT_EXPECT_EQ(test, size / PAGE_SIZE, atomic64_read(&odp->stats.faults));
	test_wait_alone(test, odp);
	ib_umem_odp_release(odp);
}

static void populate_says_what_went_wrong(struct kunit *test)
{
	unsigned long addr = test_mmap(test, PG(16), PROT_READ);
	struct ib_umem_odp *odp = test_get(test, addr, PG(16), TEST_ACCESS, NULL);
	struct ib_odp_populate *populate;
	struct test_result r = {};

	KUNIT_ASSERT_EQ(test, 0, vm_munmap(addr, PAGE_SIZE));
	populate = test_populate(test, odp, addr, PG(16), &r);
	test_wait_done(test, &r);
	ib_odp_populate_end(populate);
	KUNIT_EXPECT_EQ(test, -EFAULT, r.result);
	ib_umem_odp_release(odp);
}

static void ended_populate_is_silent(struct kunit *test)
{
	unsigned long addr = test_mmap(test, PG(16), PROT_READ | PROT_WRITE);
	struct ib_umem_odp *odp = test_get(test, addr, PG(16), TEST_ACCESS, NULL);
	struct ib_odp_populate *populate;
	struct test_result r = {};

	mmap_write_lock(current->mm);
	populate = test_populate(test, odp, addr, PG(16), &r);
	ib_odp_populate_end(populate);
	mmap_write_unlock(current->mm);
	test_wait_alone(test, odp);
	KUNIT_EXPECT_EQ(test, 0, r.nr);
	/* What it brought is there all the same. */
	KUNIT_EXPECT_EQ(test, 16, atomic64_read(&odp->stats.faults));
	ib_umem_odp_release(odp);
}

/* The umem outlives the region, and gets no page any more. */
static void regress_release_leaves_a_populate(struct kunit *test)
{
	unsigned long addr = test_mmap(test, PG(16), PROT_READ | PROT_WRITE);
	struct ib_umem_odp *odp = test_get(test, addr, PG(16), TEST_ACCESS, &test_ops);
	struct test_odp *to = test->priv;
	struct ib_odp_populate *populate;
	struct test_result r = {};

	KUNIT_EXPECT_EQ(test, 0, test_fault_error(odp, addr, PAGE_SIZE, 0));
	mmap_write_lock(current->mm);
	populate = test_populate(test, odp, addr, PG(16), &r);
	/* It has its chunk, and waits for the lock. */
	test_wait(test, rwsem_is_contended(&current->mm->mmap_lock));
	ib_umem_odp_hold(odp);
	ib_umem_odp_release(odp);
	KUNIT_EXPECT_EQ(test, 1, r.nr);
	KUNIT_EXPECT_EQ(test, -EFAULT, r.result);
	KUNIT_EXPECT_EQ(test, 1, to->zap.nr);
	ib_odp_populate_end(populate);
	KUNIT_EXPECT_EQ(test, -EFAULT,
			ib_umem_odp_populate(odp, addr, addr + 1, 0, NULL, NULL, NULL));
	KUNIT_EXPECT_EQ(test, -EFAULT, test_fault_error(odp, addr, 1, 0));
	mmap_write_unlock(current->mm);
	test_wait_alone(test, odp);
	KUNIT_EXPECT_EQ(test, 1, atomic64_read(&odp->stats.faults));
	KUNIT_EXPECT_EQ(test, 1, to->zap.nr);
	KUNIT_EXPECT_EQ(test, 0, test_nr_chunks(odp));
	ib_umem_odp_put(odp);
}

/* Between two chunks: it must not make another one in an umem that is released. */
static void regress_populate_goes_on_in_no_dead_umem(struct kunit *test)
{
	unsigned long size = 64 * IB_ODP_CHUNK_SIZE;
	unsigned long addr = test_mmap(test, size, PROT_READ | PROT_WRITE);
	struct ib_umem_odp *odp = test_get(test, addr, size, TEST_ACCESS, NULL);

	KUNIT_ASSERT_EQ(test, 0, ib_umem_odp_populate(odp, addr, addr + size, 0, NULL, NULL,
						      NULL));
	test_wait(test, test_nr_chunks(odp) > 1);
	ib_umem_odp_hold(odp);
	ib_umem_odp_release(odp);
	KUNIT_EXPECT_EQ(test, 0, test_nr_chunks(odp));
	test_wait_alone(test, odp);
	KUNIT_EXPECT_EQ(test, 0, test_nr_chunks(odp));
	ib_umem_odp_put(odp);
}

static bool test_leave(void *data)
{
	return READ_ONCE(*(bool *)data);
}

struct test_waiter {
	struct test_thread thread;
	bool leave;
};

static void thread_fault_wait(struct test_thread *thread)
{
	struct test_waiter *waiter = container_of(thread, struct test_waiter, thread);
	struct ib_odp_chunk *chunk;

	chunk = ib_umem_odp_fault_wait(thread->odp, thread->addr, thread->addr + 1, 0,
				       test_leave, &waiter->leave);
	thread->ret = PTR_ERR_OR_ZERO(chunk);
	if (!IS_ERR(chunk))
		ib_odp_chunk_unlock(chunk);
}

static struct test_waiter *test_start_waiter(struct kunit *test, struct ib_umem_odp *odp,
					     unsigned long addr)
{
	struct test_waiter *waiter = kunit_kzalloc(test, sizeof(*waiter), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, waiter);
	waiter->thread.fn = thread_fault_wait;
	waiter->thread.odp = odp;
	waiter->thread.addr = addr;
	test_spawn(test, &waiter->thread);
	mmap_write_lock(current->mm);
	complete(&waiter->thread.go);
	test_wait(test, refcount_read(&odp->refs) > 1);
	return waiter;
}

static void waiting_fault_gets_its_page(struct kunit *test)
{
	unsigned long addr = test_mmap(test, PG(16), PROT_READ | PROT_WRITE);
	struct ib_umem_odp *odp = test_get(test, addr, PG(16), TEST_ACCESS, NULL);
	struct test_waiter *waiter = test_start_waiter(test, odp, addr);

	KUNIT_EXPECT_FALSE(test, completion_done(&waiter->thread.done));
	mmap_write_unlock(current->mm);
	test_join(test, &waiter->thread);
	KUNIT_EXPECT_EQ(test, 0, waiter->thread.ret);
	ib_umem_odp_release(odp);
}

static void regress_waiting_fault_can_be_left(struct kunit *test)
{
	unsigned long addr = test_mmap(test, PG(16), PROT_READ | PROT_WRITE);
	struct ib_umem_odp *odp = test_get(test, addr, PG(16), TEST_ACCESS, NULL);
	struct test_waiter *waiter = test_start_waiter(test, odp, addr);

	WRITE_ONCE(waiter->leave, true);
	test_join(test, &waiter->thread);
	KUNIT_EXPECT_EQ(test, -EINTR, waiter->thread.ret);
	mmap_write_unlock(current->mm);
	ib_umem_odp_release(odp);
}

static void regress_kill_ends_the_wait(struct kunit *test)
{
	unsigned long addr = test_mmap(test, PG(16), PROT_READ | PROT_WRITE);
	struct ib_umem_odp *odp = test_get(test, addr, PG(16), TEST_ACCESS, NULL);
	struct test_waiter *waiter = test_start_waiter(test, odp, addr);

	ib_umem_odp_kill(odp);
	test_join(test, &waiter->thread);
	KUNIT_EXPECT_EQ(test, -EFAULT, waiter->thread.ret);
	mmap_write_unlock(current->mm);
	ib_umem_odp_release(odp);
}

/* A page that is not the process's: the device loses it, and gets the right one. */
static void regress_unannounced_change_is_undone(struct kunit *test)
{
	unsigned long addr = test_mmap(test, PG(16), PROT_READ | PROT_WRITE);
	struct ib_umem_odp *odp = test_get(test, addr, PG(16), TEST_ACCESS, &test_ops);
	struct page *other = alloc_page(GFP_KERNEL), *page;
	struct test_odp *to = test->priv;
	struct ib_odp_chunk *chunk;

	KUNIT_ASSERT_NOT_NULL(test, other);
	KUNIT_ASSERT_EQ(test, 0, put_user(1, (u32 __user *)addr));
	chunk = test_fault(test, odp, addr, 1, 0);
	page = ib_odp_chunk_page(chunk, addr);
	chunk->entries[0] = (unsigned long)other | IB_ODP_ENTRY_READ;
	ib_odp_chunk_unlock(chunk);
	chunk = test_fault(test, odp, addr, 1, IB_ODP_FAULT_WRITE);
	KUNIT_EXPECT_PTR_EQ(test, page, ib_odp_chunk_page(chunk, addr));
	ib_odp_chunk_unlock(chunk);
	KUNIT_EXPECT_EQ(test, 1, to->zap.nr);
	ib_umem_odp_release(odp);
	__free_page(other);
}

static struct kunit_case test_cases[] = {
	KUNIT_CASE(prompt_fault_waits_for_nothing),
	KUNIT_CASE(populate_brings_all_chunks),
	KUNIT_CASE(populate_says_what_went_wrong),
	KUNIT_CASE(ended_populate_is_silent),
	KUNIT_CASE(regress_release_leaves_a_populate),
	KUNIT_CASE(regress_populate_goes_on_in_no_dead_umem),
	KUNIT_CASE(waiting_fault_gets_its_page),
	KUNIT_CASE(regress_waiting_fault_can_be_left),
	KUNIT_CASE(regress_kill_ends_the_wait),
	KUNIT_CASE(regress_unannounced_change_is_undone),
	{}
};

static struct kunit_suite test_suite = {
	.name = "ib_umem_odp_populate",
	.init = test_init,
	.test_cases = test_cases,
};
kunit_test_suite(test_suite);
