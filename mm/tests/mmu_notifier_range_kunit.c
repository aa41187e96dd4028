// SPDX-License-Identifier: GPL-2.0
/*
 * Ranges: when they are recorded, arming and disarming, scoped forms.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/mm.h>
#include <linux/sched/signal.h>

#include "mmu_notifier_fixture.h"

static void unarmed_mm_records_nothing(struct kunit *test)
{
	struct mmu_notifier_range range;

	mmu_test_range_init(test, &range, 1, 1);
	mmu_notifier_invalidate_range_start(&range);
	KUNIT_EXPECT_EQ(test, 0, range.shard);
	mmu_notifier_invalidate_range_end(&range);
	KUNIT_EXPECT_FALSE(test, mm_has_notifiers(mmu_test_mm(test)));
	KUNIT_EXPECT_NULL(test, mmu_test_mm(test)->notifier_subscriptions);
}

static void empty_range_calls_no_notifier(struct kunit *test)
{
	struct mmu_test_interval ti = {};
	struct mmu_test_list tl = {};

	mmu_test_register(test, &tl);
	mmu_test_insert(test, &ti, 0, 100);
	mmu_test_invalidate(test, 7, 0);
	KUNIT_EXPECT_EQ(test, 0, tl.nr_start);
	KUNIT_EXPECT_EQ(test, 0, tl.nr_end);
	KUNIT_EXPECT_EQ(test, 0, ti.nr_called);
	mmu_interval_notifier_remove(&ti.mni);
	mmu_notifier_unregister(&tl.mn, mmu_test_mm(test));
}

static void idle_mm_is_disarmed(struct kunit *test)
{
	struct mm_struct *mm = mmu_test_mm(test);
	struct mmu_notifier_subscriptions *subs;
	struct mmu_notifier_range range;
	struct mmu_test_interval ti = {};

	mmu_test_insert(test, &ti, 1, 1);
	subs = mmu_notifier_subscriptions(mm);
	mmu_test_range_init(test, &range, 1, 1);
	mmu_notifier_invalidate_range_start(&range);
	mmu_interval_notifier_remove(&ti.mni);
	KUNIT_EXPECT_TRUE(test, mm_has_notifiers(mm));
	mmu_test_age_idle(test, subs);
	KUNIT_EXPECT_FALSE(test, mm_has_notifiers(mm));
	/* The mm was disarmed while this range was active. */
	mmu_notifier_invalidate_range_end(&range);
	KUNIT_EXPECT_EQ(test, 0, range.shard);

	mmu_test_insert(test, &ti, 1, 1);
	KUNIT_EXPECT_PTR_EQ(test, subs, mmu_notifier_subscriptions(mm));
	mmu_test_invalidate(test, 1, 1);
	KUNIT_EXPECT_EQ(test, 2, ti.nr_called);
	mmu_interval_notifier_remove(&ti.mni);
}

static void mm_in_use_is_not_disarmed(struct kunit *test)
{
	struct mm_struct *mm = mmu_test_mm(test);
	struct mmu_notifier_subscriptions *subs;
	struct mmu_test_interval ti = {};

	mmu_test_insert(test, &ti, 1, 1);
	mmu_interval_notifier_remove(&ti.mni);
	KUNIT_ASSERT_EQ(test, 0, mmu_notifier_arm(mm));
	subs = mmu_notifier_subscriptions(mm);
	mmu_test_age_idle(test, subs);
	KUNIT_EXPECT_TRUE(test, mm_has_notifiers(mm));
	mmu_notifier_disarm(mm);
	/* Still armed: the mm has been idle for less than a second. */
	flush_delayed_work(&subs->disarm_work);
	KUNIT_EXPECT_TRUE(test, mm_has_notifiers(mm));
	KUNIT_EXPECT_TRUE(test, subs->disarm_pending);
}

/* As nouveau and test_hmm do for each fault. The mm must stay armed. */
static void insert_and_remove_in_a_loop_arm_once(struct kunit *test)
{
	struct mmu_test_interval ti = {};
	int i;

	for (i = 0; i < 1000; i++) {
		mmu_test_insert(test, &ti, 1, 1);
		mmu_interval_notifier_remove(&ti.mni);
		if (!mm_has_notifiers(mmu_test_mm(test)))
			break;
	}
	KUNIT_EXPECT_EQ(test, 1000, i);
}

static void a_signal_interrupts_the_first_arming_only(struct kunit *test)
{
	struct mm_struct *mm = mmu_test_mm(test);
	struct vm_area_struct *vma = vm_area_alloc(mm);
	struct mmu_test_interval ti = {};

	KUNIT_ASSERT_NOT_NULL(test, vma);
	vma->vm_start = PG(16);
	vma->vm_end = PG(17);
	vma->vm_pgoff = 16;
	vma_set_anonymous(vma);
	mmap_write_lock(mm);
	KUNIT_ASSERT_EQ(test, 0, insert_vm_struct(mm, vma));
	mmap_write_unlock(mm);

	set_thread_flag(TIF_SIGPENDING);
	KUNIT_EXPECT_EQ(test, -EINTR, mmu_notifier_arm(mm));
	KUNIT_EXPECT_NULL(test, mm->notifier_subscriptions);
	clear_thread_flag(TIF_SIGPENDING);

	mmu_test_insert(test, &ti, 1, 1);
	mmu_interval_notifier_remove(&ti.mni);
	mmu_test_age_idle(test, mmu_notifier_subscriptions(mm));
	/* Rearming ignores signals. */
	set_thread_flag(TIF_SIGPENDING);
	KUNIT_EXPECT_EQ(test, 0, mmu_notifier_arm(mm));
	clear_thread_flag(TIF_SIGPENDING);
	mmu_notifier_disarm(mm);
}

static int test_guarded(struct kunit *test, struct mmu_test_list *tl)
{
	mmu_invalidate_guard(range, MMU_NOTIFY_UNMAP, 0, mmu_test_mm(test), PG(1), PG(2));

	KUNIT_EXPECT_EQ(test, PG(1), range->start);
	KUNIT_EXPECT_EQ(test, 1, tl->nr_start);
	KUNIT_EXPECT_EQ(test, 0, tl->nr_end);
	return tl->nr_start;
}

/* Must compile without a warning, although no return follows the scope. */
static int test_scoped_return(struct kunit *test)
{
	scoped_mmu_invalidate(MMU_NOTIFY_CLEAR, 0, mmu_test_mm(test), PG(3), PG(4))
		return 7;
}

static void scopes_start_and_end(struct kunit *test)
{
	struct mmu_test_list tl = {};
	bool refused = false;
	int nr_inside = 0;

	mmu_test_register(test, &tl);
	KUNIT_EXPECT_EQ(test, 1, test_guarded(test, &tl));
	KUNIT_EXPECT_EQ(test, 1, tl.nr_end);
	scoped_mmu_invalidate(MMU_NOTIFY_CLEAR, 0, mmu_test_mm(test), PG(3), PG(4)) {
		nr_inside++;
		KUNIT_EXPECT_EQ(test, 2, tl.nr_start);
		if (tl.nr_start)
			break;
		nr_inside++;
	}
	KUNIT_EXPECT_EQ(test, 2, tl.nr_end);
	KUNIT_EXPECT_EQ(test, 1, nr_inside);
	KUNIT_EXPECT_EQ(test, 7, test_scoped_return(test));
	KUNIT_EXPECT_EQ(test, 3, tl.nr_start);
	tl.refuse = true;
	scoped_mmu_invalidate_nonblock(refused = true, MMU_NOTIFY_UNMAP, 0,
				       mmu_test_mm(test), PG(3), PG(4))
		nr_inside++;
	KUNIT_EXPECT_TRUE(test, refused);
	KUNIT_EXPECT_EQ(test, 1, nr_inside);
	tl.refuse = false;
	scoped_mmu_invalidate_nonblock(refused = false, MMU_NOTIFY_UNMAP, 0,
				       mmu_test_mm(test), PG(3), PG(4))
		nr_inside++;
	KUNIT_EXPECT_TRUE(test, refused);
	KUNIT_EXPECT_EQ(test, 2, nr_inside);
	KUNIT_EXPECT_EQ(test, 4, tl.nr_start);
	KUNIT_EXPECT_EQ(test, 4, tl.nr_end);
	mmu_notifier_unregister(&tl.mn, mmu_test_mm(test));
}

static struct kunit_case test_cases[] = {
	KUNIT_CASE(unarmed_mm_records_nothing),
	KUNIT_CASE(empty_range_calls_no_notifier),
	KUNIT_CASE(idle_mm_is_disarmed),
	KUNIT_CASE(mm_in_use_is_not_disarmed),
	KUNIT_CASE(insert_and_remove_in_a_loop_arm_once),
	KUNIT_CASE(a_signal_interrupts_the_first_arming_only),
	KUNIT_CASE(scopes_start_and_end),
	{}
};

static struct kunit_suite test_suite = {
	.name = "mmu_notifier_range",
	.init = mmu_test_init,
	.exit = mmu_test_exit,
	.test_cases = test_cases,
};
kunit_test_suite(test_suite);
