// SPDX-License-Identifier: GPL-2.0
/*
 * The contract of the MMU notifier core in the less common cases: which
 * arguments it refuses, which age callbacks it calls, what it waits for, and
 * how it arms an mm.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/cpu.h>
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "mmu_notifier_fixture.h"

/* Refused arguments */

static int contract_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	return 0;
}

static void contract_tlbs(struct mmu_notifier *mn, struct mm_struct *mm,
			  unsigned long start, unsigned long end)
{
}

static const struct mmu_notifier_ops mixed_ops = {
	.invalidate_range_start = contract_start,
	.arch_invalidate_secondary_tlbs = contract_tlbs,
};

static void range_and_tlb_callbacks_exclude_each_other(struct kunit *test)
{
	struct mmu_notifier mn = { .ops = &mixed_ops };

	KUNIT_EXPECT_EQ(test, -EINVAL, mmu_notifier_register(&mn, mmu_test_mm(test)));
	KUNIT_EXPECT_NULL(test, mmu_test_mm(test)->notifier_subscriptions);
}

/* After the last mmput() the mm has no page tables, and no range will start. */
static void insert_refuses_an_mm_without_users(struct kunit *test)
{
	struct mmu_test_state *tm = test->priv;
	struct mmu_test_interval ti = {};
	struct mm_struct *mm = tm->mm;

	mmgrab(mm);
	mmput(mm);
	tm->mm = NULL;
	KUNIT_EXPECT_EQ(test, -EINVAL,
			mmu_interval_notifier_insert(&ti.mni, mm, PG(1), PG(1),
						     &mmu_test_interval_ops));
	mmdrop(mm);
}

/* Age callbacks */

static int contract_test_young(struct mmu_notifier *mn, struct mm_struct *mm,
			       unsigned long address)
{
	container_of(mn, struct mmu_test_list, mn)->nr_young++;
	return 1;
}

static const struct mmu_notifier_ops young_ops = {
	.test_young = contract_test_young,
};

static void test_young_stops_at_the_first_young_notifier(struct kunit *test)
{
	struct mmu_test_list tl[3] = {};
	struct mm_struct *mm = mmu_test_mm(test);
	int i;

	for (i = 0; i < 3; i++) {
		tl[i].mn.ops = &young_ops;
		KUNIT_ASSERT_EQ(test, 0, mmu_notifier_register(&tl[i].mn, mm));
	}
	KUNIT_EXPECT_TRUE(test, mmu_notifier_test_young(mm, PG(1)));
	KUNIT_EXPECT_EQ(test, 1, tl[0].nr_young + tl[1].nr_young + tl[2].nr_young);
	for (i = 0; i < 3; i++)
		mmu_notifier_unregister(&tl[i].mn, mm);
}

/* An interval notifier with an accessed state that @age tests and clears. */
struct aging {
	struct mmu_interval_notifier mni;
	unsigned long start;
	unsigned long end;
	int nr_asked;
	bool clear;
	bool used;
};

static bool aging_invalidate(struct mmu_interval_notifier *mni,
			     const struct mmu_notifier_range *range, unsigned long seq)
{
	mmu_interval_set_seq(mni, seq);
	return true;
}

static bool aging_age(struct mmu_interval_notifier *mni, unsigned long start,
		      unsigned long end, bool clear)
{
	struct aging *aging = container_of(mni, struct aging, mni);
	bool used = aging->used;

	aging->start = start;
	aging->end = end;
	aging->clear = clear;
	aging->nr_asked++;
	if (clear)
		aging->used = false;
	return used;
}

static const struct mmu_interval_notifier_ops aging_ops = {
	.invalidate = aging_invalidate,
	.age = aging_age,
};

static void aging_insert(struct kunit *test, struct aging *aging, unsigned long first_page,
			 unsigned long nr_pages)
{
	KUNIT_ASSERT_EQ(test, 0,
			mmu_interval_notifier_insert(&aging->mni, mmu_test_mm(test),
						     PG(first_page), PG(nr_pages),
						     &aging_ops));
}

static void age_reaches_the_intervals_that_overlap(struct kunit *test)
{
	struct mm_struct *mm = mmu_test_mm(test);
	struct aging a = { .used = true }, b = { .used = true }, away = { .used = true };
	struct mmu_test_interval mute = {};

	aging_insert(test, &a, 10, 4);
	aging_insert(test, &b, 12, 4);
	aging_insert(test, &away, 20, 1);
	/* This one overlaps, too, but has no age callback. */
	mmu_test_insert(test, &mute, 11, 3);

	KUNIT_EXPECT_TRUE(test, mmu_notifier_clear_young(mm, PG(11), PG(13)));
	KUNIT_EXPECT_EQ(test, PG(11), a.start);
	KUNIT_EXPECT_EQ(test, PG(13), a.end);
	KUNIT_EXPECT_EQ(test, PG(12), b.start);
	KUNIT_EXPECT_EQ(test, PG(13), b.end);
	KUNIT_EXPECT_TRUE(test, a.clear && b.clear);
	KUNIT_EXPECT_EQ(test, 0, away.nr_asked);
	KUNIT_EXPECT_FALSE(test, mmu_notifier_clear_flush_young(mm, PG(11), PG(13)));
	KUNIT_EXPECT_EQ(test, 2, a.nr_asked);

	a.used = true;
	KUNIT_EXPECT_TRUE(test, mmu_notifier_test_young(mm, PG(13)));
	KUNIT_EXPECT_TRUE(test, a.used);
	KUNIT_EXPECT_FALSE(test, a.clear);
	KUNIT_EXPECT_FALSE(test, mmu_notifier_test_young(mm, PG(14)));

	mmu_interval_notifier_remove(&a.mni);
	mmu_interval_notifier_remove(&b.mni);
	mmu_interval_notifier_remove(&away.mni);
	mmu_interval_notifier_remove(&mute.mni);
	KUNIT_EXPECT_FALSE(test, mmu_notifier_test_young(mm, PG(20)));
	KUNIT_EXPECT_EQ(test, 0, away.nr_asked);
}

/* An age callback that is a stop point. */
static bool stopping_age(struct mmu_interval_notifier *mni, unsigned long start,
			 unsigned long end, bool clear)
{
	struct mmu_test_interval *ti = container_of(mni, struct mmu_test_interval, mni);

	ti->nr_called++;
	mmu_test_stop(ti->entered, ti->leave);
	return true;
}

static const struct mmu_interval_notifier_ops stopping_ops = {
	.invalidate = aging_invalidate,
	.age = stopping_age,
};

static void do_age(struct mmu_test_thread *thread)
{
	mmu_notifier_clear_young(mmu_test_mm(thread->test), PG(10), PG(11));
}

static void remove_waits_for_the_age_callback(struct kunit *test)
{
	struct mmu_test_state *tm = test->priv;
	struct mmu_test_interval ti = { .entered = &tm->entered, .leave = &tm->leave };
	struct mmu_test_thread age = { .fn = do_age };
	struct mmu_test_thread remove = { .fn = mmu_test_do_remove, .arg = &ti.mni };

	KUNIT_ASSERT_EQ(test, 0,
			mmu_interval_notifier_insert(&ti.mni, tm->mm, PG(10), PG(1),
						     &stopping_ops));
	mmu_test_enter_callback(test, &age);
	mmu_test_run(test, &remove);
	mmu_test_wait_removing(test, &ti);
	KUNIT_EXPECT_FALSE(test, wait_for_completion_timeout(&remove.done, HZ / 10));
	complete(&tm->leave);
	mmu_test_join(test, &age);
	mmu_test_join(test, &remove);
}

/* Waiting */

static void range_is_valid_compares_addresses(struct kunit *test)
{
	struct mm_struct *mm = mmu_test_mm(test);
	struct mmu_notifier_range range;
	struct mmu_test_list tl = {};

	mmu_test_register(test, &tl);
	mmu_test_range_init(test, &range, 10, 2);
	mmu_notifier_invalidate_range_start(&range);
	KUNIT_EXPECT_FALSE(test, mmu_notifier_range_is_valid(mm, PG(11), PG(13)));
	KUNIT_EXPECT_FALSE(test, mmu_notifier_range_is_valid(mm, PG(10), PG(10) + 1));
	KUNIT_EXPECT_TRUE(test, mmu_notifier_range_is_valid(mm, PG(12), PG(13)));
	KUNIT_EXPECT_TRUE(test, mmu_notifier_range_is_valid(mm, PG(9), PG(10)));
	mmu_notifier_invalidate_range_end(&range);
	KUNIT_EXPECT_TRUE(test, mmu_notifier_range_is_valid(mm, PG(11), PG(13)));
	mmu_notifier_unregister(&tl.mn, mm);
}

static void do_wait_valid(struct mmu_test_thread *thread)
{
	mmu_notifier_range_wait_valid(mmu_test_mm(thread->test), PG(10), PG(20));
}

/* Move the test to @cpu. Returns false if it is not online. */
static bool contract_move(unsigned int cpu)
{
	return cpu_online(cpu) && !set_cpus_allowed_ptr(current, cpumask_of(cpu));
}

/*
 * The active range is in the shard that the waiter checks first. The later
 * range starts while the task waits, on another CPU. With at most 16 possible
 * CPUs that is another shard.
 */
static void wait_valid_ignores_later_ranges(struct kunit *test)
{
	struct mmu_test_thread waiter = { .fn = do_wait_valid };
	struct mmu_notifier_range first, later;
	struct mmu_test_list tl = {};

	mmu_test_register(test, &tl);
	mmu_test_range_init(test, &first, 15, 1);
	mmu_test_range_init(test, &later, 16, 1);
	KUNIT_ASSERT_TRUE(test, contract_move(0));
	mmu_notifier_invalidate_range_start(&first);
	mmu_test_run(test, &waiter);
	mmu_test_wait_awaited(test, &first);
	if (!contract_move(1))
		kunit_warn(test, "only one CPU: both ranges are in one shard");
	mmu_notifier_invalidate_range_start(&later);
	mmu_notifier_invalidate_range_end(&first);
	KUNIT_EXPECT_TRUE(test, wait_for_completion_timeout(&waiter.done, TEST_TIMEOUT));
	mmu_notifier_invalidate_range_end(&later);
	set_cpus_allowed_ptr(current, cpu_possible_mask);
	mmu_notifier_unregister(&tl.mn, mmu_test_mm(test));
}

/* A range records its shard. End uses that, and not the shard of its CPU. */
static void a_range_may_end_on_another_cpu(struct kunit *test)
{
	struct mmu_test_interval ti = {};
	struct mmu_notifier_range range;
	struct mmu_test_list tl = {};

	mmu_test_register(test, &tl);
	mmu_test_insert(test, &ti, 10, 10);
	mmu_test_range_init(test, &range, 15, 1);
	KUNIT_ASSERT_TRUE(test, contract_move(0));
	mmu_notifier_invalidate_range_start(&range);
	if (!contract_move(1))
		kunit_warn(test, "only one CPU: start and end run on it");
	mmu_notifier_invalidate_range_end(&range);
	set_cpus_allowed_ptr(current, cpu_possible_mask);
	KUNIT_EXPECT_EQ(test, 1, tl.nr_start);
	KUNIT_EXPECT_EQ(test, 1, tl.nr_end);
	KUNIT_EXPECT_EQ(test, 1, ti.nr_called);
	KUNIT_EXPECT_TRUE(test, mmu_active_none(mmu_notifier_subscriptions(mmu_test_mm(test))));
	mmu_interval_notifier_remove(&ti.mni);
	mmu_notifier_unregister(&tl.mn, mmu_test_mm(test));
}

/* A notifier whose free_notifier() blocks until the test completes @gate. */
struct slow_free {
	struct mmu_notifier mn;
	struct completion gate;
	struct completion gone;
};

static struct slow_free *slow_next;

static struct mmu_notifier *slow_alloc(struct mm_struct *mm)
{
	return &slow_next->mn;
}

static void slow_free_notifier(struct mmu_notifier *mn)
{
	struct slow_free *slow = container_of(mn, struct slow_free, mn);

	wait_for_completion_timeout(&slow->gate, 2 * TEST_TIMEOUT);
	complete(&slow->gone);
}

static const struct mmu_notifier_ops slow_ops = {
	.alloc_notifier = slow_alloc,
	.free_notifier = slow_free_notifier,
	.test_young = contract_test_young,
};

static struct slow_free *slow_put(struct kunit *test)
{
	struct slow_free *slow = kunit_kzalloc(test, sizeof(*slow), GFP_KERNEL);
	struct mmu_notifier *mn;

	KUNIT_ASSERT_NOT_NULL(test, slow);
	init_completion(&slow->gate);
	init_completion(&slow->gone);
	slow_next = slow;
	mn = mmu_notifier_get(&slow_ops, mmu_test_mm(test));
	KUNIT_ASSERT_PTR_EQ(test, &slow->mn, mn);
	mmu_notifier_put(mn);
	return slow;
}

static void do_synchronize(struct mmu_test_thread *thread)
{
	mmu_notifier_synchronize();
}

static void synchronize_waits_for_what_was_put_before(struct kunit *test)
{
	struct mmu_test_thread sync = { .fn = do_synchronize };
	struct slow_free *before, *after;

	before = slow_put(test);
	mmu_test_run(test, &sync);
	KUNIT_EXPECT_FALSE(test, wait_for_completion_timeout(&sync.done, HZ / 10));
	after = slow_put(test);
	complete(&before->gate);
	KUNIT_EXPECT_TRUE(test, wait_for_completion_timeout(&sync.done, TEST_TIMEOUT));
	KUNIT_EXPECT_FALSE(test, completion_done(&after->gone));
	complete(&after->gate);
	mmu_notifier_synchronize();
	KUNIT_EXPECT_TRUE(test, completion_done(&after->gone));
}

/* Arming */

static void mm_stays_armed_after_six_rearmings(struct kunit *test)
{
	struct mm_struct *mm = mmu_test_mm(test);
	struct mmu_notifier_subscriptions *subs;
	unsigned long idle;
	int i;

	KUNIT_ASSERT_EQ(test, 0, mmu_notifier_arm(mm));
	subs = mmu_notifier_subscriptions(mm);
	idle = subs->idle_jiffies;
	for (i = 0; i < 6; i++) {
		mmu_notifier_disarm(mm);
		mmu_test_age_idle(test, subs);
		KUNIT_EXPECT_FALSE(test, mm_has_notifiers(mm));
		KUNIT_ASSERT_EQ(test, 0, mmu_notifier_arm(mm));
		KUNIT_EXPECT_GE(test, subs->idle_jiffies, 2 * idle);
		idle = subs->idle_jiffies;
	}
	mmu_notifier_disarm(mm);
	KUNIT_EXPECT_FALSE(test, subs->disarm_pending);
	KUNIT_EXPECT_TRUE(test, mm_has_notifiers(mm));
}

/* Three VMAs that share a file or an anon_vma root. */
static unsigned long contract_map(struct kunit *test, unsigned long flags)
{
	unsigned long addr = kunit_vm_mmap(test, NULL, 0, PG(4), PROT_READ | PROT_WRITE,
					   MAP_ANONYMOUS | flags, 0);
	int i;

	KUNIT_ASSERT_NE(test, 0, addr);
	for (i = 0; i < 4; i++)
		KUNIT_ASSERT_EQ(test, 0, put_user(i, (int __user *)(addr + PG(i))));
	KUNIT_ASSERT_EQ(test, 0, do_madvise(current->mm, addr + PG(1), PG(1), MADV_DONTFORK));
	return addr;
}

static void contract_take_all(struct kunit *test, unsigned long shared, unsigned long private,
			      unsigned long max)
{
	struct mm_struct *mm = current->mm;
	struct address_space *mapping;
	struct anon_vma *root;

	mmap_write_lock(mm);
	mapping = find_vma(mm, shared)->vm_file->f_mapping;
	root = find_vma(mm, private)->anon_vma->root;
	mm_all_locks_max = max;
	KUNIT_EXPECT_EQ(test, 0, mm_take_all_locks(mm));
	mm_all_locks_max = ULONG_MAX;
	KUNIT_EXPECT_TRUE(test, rwsem_is_locked(&mapping->i_mmap_rwsem));
	KUNIT_EXPECT_TRUE(test, rwsem_is_locked(&root->rwsem));
	mm_drop_all_locks(mm);
	KUNIT_EXPECT_FALSE(test, rwsem_is_locked(&mapping->i_mmap_rwsem));
	KUNIT_EXPECT_FALSE(test, rwsem_is_locked(&root->rwsem));
	KUNIT_EXPECT_FALSE(test, test_bit(AS_MM_ALL_LOCKS, &mapping->flags));
	mmap_write_unlock(mm);
}

static void all_locks_are_taken_with_and_without_memory(struct kunit *test)
{
	unsigned long shared = contract_map(test, MAP_SHARED);
	unsigned long private = contract_map(test, MAP_PRIVATE);

	contract_take_all(test, shared, private, ULONG_MAX);
	contract_take_all(test, shared, private, 1);
	contract_take_all(test, shared, private, 0);
}

static struct kunit_case test_cases[] = {
	KUNIT_CASE(range_and_tlb_callbacks_exclude_each_other),
	KUNIT_CASE(insert_refuses_an_mm_without_users),
	KUNIT_CASE(test_young_stops_at_the_first_young_notifier),
	KUNIT_CASE(age_reaches_the_intervals_that_overlap),
	KUNIT_CASE(remove_waits_for_the_age_callback),
	KUNIT_CASE(range_is_valid_compares_addresses),
	KUNIT_CASE(wait_valid_ignores_later_ranges),
	KUNIT_CASE(a_range_may_end_on_another_cpu),
	KUNIT_CASE(synchronize_waits_for_what_was_put_before),
	KUNIT_CASE(mm_stays_armed_after_six_rearmings),
	KUNIT_CASE(all_locks_are_taken_with_and_without_memory),
	{}
};

static struct kunit_suite test_suite = {
	.name = "mmu_notifier_contract",
	.init = mmu_test_init,
	.exit = mmu_test_exit,
	.test_cases = test_cases,
};
kunit_test_suite(test_suite);
