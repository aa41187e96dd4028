// SPDX-License-Identifier: GPL-2.0
/*
 * Subscribers that behave like nvidia-uvm and the i915 backports, which are not
 * in the tree:
 *
 * - They switch an mm to interval mode by registering NULL. After that they
 *   insert interval notifiers with the mmap_lock held for reading.
 * - The release callback of their list notifier waits for a thread that is in
 *   mmu_interval_read_begin() for the same mm.
 * - The callback of an interval notifier ignores MMU_NOTIFY_RELEASE, because
 *   MMU_NOTIFY_UNMAP of the whole address space follows.
 * - To resize an interval, they remove and insert its notifier while a
 *   temporary notifier covers the interval.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/sched/mm.h>
#include <linux/uaccess.h>

#include "mmu_notifier_fixture.h"

static void regress_null_is_interval_mode(struct kunit *test)
{
	struct mm_struct *mm = mmu_test_mm(test);
	struct mmu_test_interval ti = {};

	mmap_write_lock(mm);
	KUNIT_EXPECT_EQ(test, 0, __mmu_notifier_register(NULL, mm));
	mmap_write_unlock(mm);
	KUNIT_EXPECT_TRUE(test, mm_has_notifiers(mm));
	mmu_test_insert(test, &ti, 10, 10);
	mmu_test_invalidate(test, 12, 1);
	KUNIT_EXPECT_EQ(test, 1, ti.nr_called);
	mmu_interval_notifier_remove(&ti.mni);
}

/* Interval mode is not undone when other subscribers of the mm have left. */
static void regress_interval_mode_lasts(struct kunit *test)
{
	struct mm_struct *mm = mmu_test_mm(test);
	struct mmu_notifier_subscriptions *subs;
	struct mmu_test_interval ti = {};
	struct mmu_test_list tl = {};

	KUNIT_ASSERT_EQ(test, 0, mmu_notifier_register(NULL, mm));
	KUNIT_ASSERT_EQ(test, 0, mmu_notifier_register(NULL, mm));
	mmu_test_insert(test, &ti, 10, 10);
	mmu_test_register(test, &tl);
	mmu_notifier_unregister(&tl.mn, mm);
	mmu_interval_notifier_remove(&ti.mni);
	subs = mmu_notifier_subscriptions(mm);
	KUNIT_EXPECT_FALSE(test, subs->disarm_pending);
	KUNIT_EXPECT_TRUE(test, mm_has_notifiers(mm));
}

/* The other order: the mm has subscribers before it enters interval mode. */
static void regress_interval_mode_comes_last(struct kunit *test)
{
	struct mm_struct *mm = mmu_test_mm(test);
	struct mmu_test_interval ti = {};

	mmu_test_insert(test, &ti, 10, 10);
	KUNIT_ASSERT_EQ(test, 0, mmu_notifier_register(NULL, mm));
	mmu_interval_notifier_remove(&ti.mni);
	KUNIT_EXPECT_FALSE(test, mmu_notifier_subscriptions(mm)->disarm_pending);
	KUNIT_EXPECT_TRUE(test, mm_has_notifiers(mm));
}

static void regress_insert_under_the_mmap_lock_for_reading(struct kunit *test)
{
	struct mm_struct *mm = mmu_test_mm(test);
	struct mmu_test_interval ti = {};

	KUNIT_ASSERT_EQ(test, 0, mmu_notifier_register(NULL, mm));
	mmap_read_lock(mm);
	mmu_test_insert(test, &ti, 10, 10);
	mmap_read_unlock(mm);
	mmu_test_invalidate(test, 12, 1);
	KUNIT_EXPECT_EQ(test, 1, ti.nr_called);
	mmu_interval_notifier_remove(&ti.mni);
}

/* A list notifier whose release callback waits for a reader of the same mm. */
struct uvm {
	struct mmu_notifier mn;
	struct mmu_test_interval ti;
	struct mmu_test_thread reader;
	struct kunit *test;
	bool returned;
};

static void uvm_release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	struct uvm *uvm = container_of(mn, struct uvm, mn);

	mmu_test_run(uvm->test, &uvm->reader);
	uvm->returned = wait_for_completion_timeout(&uvm->reader.done, TEST_TIMEOUT / 4);
}

static const struct mmu_notifier_ops uvm_ops = { .release = uvm_release };

static void regress_release_may_wait_for_a_reader(struct kunit *test)
{
	struct mmu_test_state *state = test->priv;
	struct mm_struct *mm = state->mm;
	struct uvm *uvm = kunit_kzalloc(test, sizeof(*uvm), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, uvm);
	uvm->test = test;
	uvm->mn.ops = &uvm_ops;
	uvm->reader.fn = mmu_test_do_read_begin;
	uvm->reader.arg = &uvm->ti.mni;
	mmu_test_insert(test, &uvm->ti, 10, 10);
	KUNIT_ASSERT_EQ(test, 0, mmu_notifier_register(&uvm->mn, mm));
	mmgrab(mm);
	state->mm = NULL;
	mmput(mm);
	KUNIT_EXPECT_TRUE_MSG(test, uvm->returned,
			      "read_begin and release wait for each other");
	KUNIT_EXPECT_EQ(test, MMU_NOTIFY_RELEASE, uvm->ti.event);
	mmu_notifier_unregister(&uvm->mn, mm);
	mmu_interval_notifier_remove(&uvm->ti.mni);
	mmdrop(mm);
}

/* Exit of an mm in interval mode that has list notifiers only. */
static void release_without_interval_notifiers(struct kunit *test)
{
	struct mmu_test_state *state = test->priv;
	struct mm_struct *mm = state->mm;
	struct mmu_test_list a = {}, b = {};

	KUNIT_ASSERT_EQ(test, 0, mmu_notifier_register(NULL, mm));
	mmu_test_register(test, &a);
	mmu_test_register(test, &b);
	mmgrab(mm);
	state->mm = NULL;
	mmput(mm);
	KUNIT_EXPECT_EQ(test, 1, a.nr_release);
	KUNIT_EXPECT_EQ(test, 1, b.nr_release);
	KUNIT_EXPECT_EQ(test, 0, a.nr_start);
	mmu_notifier_unregister(&a.mn, mm);
	mmu_notifier_unregister(&b.mn, mm);
	mmdrop(mm);
}

/* Records the events. Sets no sequence, as nvidia-uvm for RELEASE. */
struct uvm_block {
	struct mmu_interval_notifier mni;
	unsigned int nr;
	enum mmu_notifier_event events[4];
	unsigned long start;
	unsigned long end;
};

static bool uvm_block_invalidate(struct mmu_interval_notifier *mni,
				 const struct mmu_notifier_range *range, unsigned long seq)
{
	struct uvm_block *block = container_of(mni, struct uvm_block, mni);

	if (block->nr < ARRAY_SIZE(block->events))
		block->events[block->nr] = range->event;
	block->nr++;
	block->start = range->start;
	block->end = range->end;
	return true;
}

static const struct mmu_interval_notifier_ops uvm_block_ops = {
	.invalidate = uvm_block_invalidate,
};

/* Maps a page in the test's mm, in which no task runs. */
static void do_map(struct mmu_test_thread *thread)
{
	unsigned long addr = PG(thread->first_page);

	kthread_use_mm(thread->arg);
	WARN_ON_ONCE(vm_mmap(NULL, addr, PG(1), PROT_READ | PROT_WRITE,
			     MAP_ANONYMOUS | MAP_PRIVATE | MAP_FIXED, 0) != addr);
	WARN_ON_ONCE(put_user(1, (int __user *)addr));
	kthread_unuse_mm(thread->arg);
}

static void unmap_of_everything_follows_release(struct kunit *test)
{
	struct mmu_test_state *state = test->priv;
	struct mm_struct *mm = state->mm;
	struct mmu_test_thread map = { .fn = do_map, .arg = mm, .first_page = 0x1000 };
	struct uvm_block block = {};

	mmu_test_run(test, &map);
	mmu_test_join(test, &map);
	KUNIT_ASSERT_EQ(test, 0, mmu_interval_notifier_insert(&block.mni, mm, PG(0x1000), PG(1),
							      &uvm_block_ops));
	mmgrab(mm);
	state->mm = NULL;
	mmput(mm);
	KUNIT_EXPECT_EQ(test, 2, block.nr);
	KUNIT_EXPECT_EQ(test, MMU_NOTIFY_RELEASE, block.events[0]);
	KUNIT_EXPECT_EQ(test, MMU_NOTIFY_UNMAP, block.events[1]);
	KUNIT_EXPECT_EQ(test, 0, block.start);
	KUNIT_EXPECT_EQ(test, ULONG_MAX, block.end);
	mmu_interval_notifier_remove(&block.mni);
	mmdrop(mm);
}

/* While a notifier is resized, a temporary notifier covers its interval. */
static void split_leaves_no_gap(struct kunit *test)
{
	struct mmu_test_interval old = {}, new = {}, temporary = {};

	mmu_test_insert(test, &old, 10, 10);
	mmu_test_insert(test, &new, 15, 5);
	mmu_test_insert(test, &temporary, 10, 5);
	mmu_interval_notifier_remove(&old.mni);
	mmu_test_invalidate(test, 12, 1);
	KUNIT_EXPECT_EQ(test, 1, temporary.nr_called);
	mmu_test_insert(test, &old, 10, 5);
	mmu_test_invalidate(test, 12, 5);
	KUNIT_EXPECT_EQ(test, 1, old.nr_called);
	KUNIT_EXPECT_EQ(test, 1, new.nr_called);
	KUNIT_EXPECT_EQ(test, 2, temporary.nr_called);
	mmu_interval_notifier_remove(&temporary.mni);
	mmu_test_invalidate(test, 12, 5);
	KUNIT_EXPECT_EQ(test, 2, old.nr_called);
	KUNIT_EXPECT_EQ(test, 2, new.nr_called);
	mmu_interval_notifier_remove(&new.mni);
	mmu_interval_notifier_remove(&old.mni);
}

static struct kunit_case test_cases[] = {
	KUNIT_CASE(regress_null_is_interval_mode),
	KUNIT_CASE(regress_interval_mode_lasts),
	KUNIT_CASE(regress_interval_mode_comes_last),
	KUNIT_CASE(regress_insert_under_the_mmap_lock_for_reading),
	KUNIT_CASE(regress_release_may_wait_for_a_reader),
	KUNIT_CASE(release_without_interval_notifiers),
	KUNIT_CASE(unmap_of_everything_follows_release),
	KUNIT_CASE(split_leaves_no_gap),
	{}
};

static struct kunit_suite test_suite = {
	.name = "mmu_notifier_uvm",
	.init = mmu_test_init,
	.exit = mmu_test_exit,
	.test_cases = test_cases,
};
kunit_test_suite(test_suite);
