// SPDX-License-Identifier: GPL-2.0
/*
 * List notifiers: registration, start and end callbacks, refused ranges, exit.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "mmu_notifier_fixture.h"

static void list_notifier_is_called_for_every_range(struct kunit *test)
{
	struct mmu_test_list tl = {};

	mmu_test_register(test, &tl);
	mmu_test_invalidate(test, 3, 2);
	KUNIT_EXPECT_EQ(test, 1, tl.nr_start);
	KUNIT_EXPECT_EQ(test, 1, tl.nr_end);
	KUNIT_EXPECT_EQ(test, PG(3), tl.last.start);
	KUNIT_EXPECT_EQ(test, PG(5), tl.last.end);
	KUNIT_EXPECT_EQ(test, MMU_NOTIFY_CLEAR, tl.last.event);
	KUNIT_EXPECT_TRUE(test, mmu_notifier_range_blockable(&tl.last));
	mmu_notifier_unregister(&tl.mn, mmu_test_mm(test));
	mmu_test_invalidate(test, 3, 2);
	KUNIT_EXPECT_EQ(test, 1, tl.nr_start);
	KUNIT_EXPECT_EQ(test, 1, tl.nr_release);
}

static void age_callbacks_reach_all(struct kunit *test)
{
	struct mmu_test_list a = {}, b = {};
	struct mm_struct *mm = mmu_test_mm(test);

	KUNIT_EXPECT_EQ(test, 0, mmu_notifier_clear_young(mm, PG(1), PG(2)));
	mmu_test_register(test, &a);
	mmu_test_register(test, &b);
	KUNIT_EXPECT_NE(test, 0, mmu_notifier_clear_young(mm, PG(1), PG(2)));
	KUNIT_EXPECT_EQ(test, 1, a.nr_young);
	KUNIT_EXPECT_EQ(test, 1, b.nr_young);
	KUNIT_EXPECT_EQ(test, 0, mmu_notifier_clear_young(mm, PG(1), PG(2)));
	/* No notifier has this callback. */
	KUNIT_EXPECT_EQ(test, 0, mmu_notifier_clear_flush_young(mm, PG(1), PG(2)));
	mmu_notifier_unregister(&a.mn, mm);
	mmu_notifier_unregister(&b.mn, mm);
}

struct refusal_case {
	const char *name;
	unsigned int list_mask;
	bool interval;
};

static const struct refusal_case refusal_cases[] = {
	{ "none", 0, false },	{ "newest", 4, false }, { "middle", 2, false },
	{ "oldest", 1, false }, { "two", 5, false },	{ "all", 7, false },
	{ "interval", 0, true }, { "both kinds", 7, true },
};
KUNIT_ARRAY_PARAM_DESC(refusal, refusal_cases, name);

static void refused_start_is_undone_exactly(struct kunit *test)
{
	const struct refusal_case *c = test->param_value;
	struct mmu_test_interval ti = { .refuse = c->interval };
	struct mmu_test_list tl[3] = {};
	struct mmu_notifier_range range;
	bool refused = c->interval || c->list_mask;
	int i, ret;

	mmu_test_insert(test, &ti, 10, 10);
	for (i = 0; i < 3; i++) {
		tl[i].refuse = c->list_mask & BIT(i);
		mmu_test_register(test, &tl[i]);
	}
	mmu_test_range_init(test, &range, 12, 1);
	ret = mmu_notifier_invalidate_range_start_nonblock(&range);
	KUNIT_EXPECT_EQ(test, refused ? -EAGAIN : 0, ret);
	for (i = 0; i < 3; i++)
		KUNIT_EXPECT_EQ(test, refused ? tl[i].nr_start : 0, tl[i].nr_end);
	KUNIT_EXPECT_EQ(test, refused, !range.shard);
	if (!ret)
		mmu_notifier_invalidate_range_end(&range);
	/* Newest first. Notifiers after the one that refuses are not called. */
	for (i = 0; i < 3; i++)
		KUNIT_EXPECT_EQ(test, !c->interval && !(c->list_mask >> i),
				tl[i].nr_start);
	/* The refused range is not active: otherwise this would wait for it. */
	mmu_interval_read_begin(&ti.mni);
	for (i = 0; i < 3; i++)
		mmu_notifier_unregister(&tl[i].mn, mmu_test_mm(test));
	mmu_interval_notifier_remove(&ti.mni);
}

static void late_list_notifier_does_not_end_earlier_range(struct kunit *test)
{
	struct mmu_test_list first = {}, late = {};
	struct mmu_notifier_range range;
	struct mmu_test_thread thread = { .fn = mmu_test_do_register, .arg = &late };

	mmu_test_register(test, &first);
	mmu_test_range_init(test, &range, 1, 1);
	mmu_notifier_invalidate_range_start(&range);
	mmu_test_run(test, &thread);
	mmu_test_wait_awaited(test, &range);
	KUNIT_EXPECT_FALSE(test, completion_done(&thread.done));
	/* "late" is in the list already: a new range calls both. */
	mmu_test_invalidate(test, 50, 1);
	KUNIT_EXPECT_EQ(test, 1, late.nr_start);
	KUNIT_EXPECT_EQ(test, 1, late.nr_end);
	mmu_notifier_invalidate_range_end(&range);
	mmu_test_join(test, &thread);
	KUNIT_EXPECT_EQ(test, 2, first.nr_end);
	KUNIT_EXPECT_EQ(test, 1, late.nr_end);
	mmu_notifier_unregister(&late.mn, mmu_test_mm(test));
	mmu_notifier_unregister(&first.mn, mmu_test_mm(test));
}

static void unregister_between_start_and_end(struct kunit *test)
{
	struct mmu_test_list gone = {}, stays = {};
	struct mmu_notifier_range range;

	mmu_test_register(test, &stays);
	mmu_test_register(test, &gone);
	mmu_test_range_init(test, &range, 1, 1);
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_unregister(&gone.mn, mmu_test_mm(test));
	mmu_notifier_invalidate_range_end(&range);
	KUNIT_EXPECT_EQ(test, 0, gone.nr_end);
	KUNIT_EXPECT_EQ(test, 1, stays.nr_end);
	mmu_notifier_unregister(&stays.mn, mmu_test_mm(test));
}

static void exit_releases_once(struct kunit *test)
{
	struct mmu_test_state *tm = test->priv;
	struct mm_struct *mm = tm->mm;
	struct mmu_test_interval ti = {};
	struct mmu_test_list tl = {};

	mmu_test_register(test, &tl);
	mmu_test_insert(test, &ti, 10, 10);
	mmgrab(mm);
	tm->mm = NULL;
	mmput(mm);
	KUNIT_EXPECT_EQ(test, 1, tl.nr_release);
	KUNIT_EXPECT_EQ(test, 1, ti.nr_called);
	KUNIT_EXPECT_EQ(test, MMU_NOTIFY_RELEASE, ti.event);
	mmu_notifier_unregister(&tl.mn, mm);
	mmu_interval_notifier_remove(&ti.mni);
	KUNIT_EXPECT_EQ(test, 1, tl.nr_release);
	mmdrop(mm);
}

static void do_exit_mm(struct mmu_test_thread *thread)
{
	mmput(thread->arg);
}

/* The mm exits while a range calls the first of two notifiers. */
static void regress_no_end_without_start_across_exit(struct kunit *test)
{
	struct mmu_test_state *state = test->priv;
	struct mm_struct *mm = state->mm;
	struct mmu_test_list second = {};
	struct mmu_test_list first = { .entered = &state->entered, .leave = &state->leave };
	struct mmu_test_thread inv = {
		.fn = mmu_test_do_invalidate, .first_page = 1, .nr_pages = 1,
	};
	struct mmu_test_thread leaver = { .fn = do_exit_mm, .arg = mm };

	mmu_test_register(test, &second);
	mmu_test_register(test, &first);
	mmgrab(mm);
	mmu_test_enter_callback(test, &inv);
	mmu_test_run(test, &leaver);
	mmu_test_wait(test, hlist_unhashed_lockless(&first.mn.hlist));
	/* Both are released, but exit waits until the callback has returned. */
	KUNIT_EXPECT_EQ(test, 1, first.nr_release);
	KUNIT_EXPECT_EQ(test, 1, second.nr_release);
	KUNIT_EXPECT_FALSE(test, completion_done(&leaver.done));
	complete(&state->leave);
	mmu_test_join(test, &inv);
	mmu_test_join(test, &leaver);
	state->mm = NULL;
	KUNIT_EXPECT_EQ(test, 0, second.nr_start);
	KUNIT_EXPECT_EQ(test, 0, second.nr_end);
	mmu_notifier_unregister(&first.mn, mm);
	mmu_notifier_unregister(&second.mn, mm);
	mmdrop(mm);
}

static int test_nr_allocated, test_nr_freed;

static struct mmu_notifier *test_alloc_notifier(struct mm_struct *mm)
{
	struct mmu_test_list *tl = kzalloc(sizeof(*tl), GFP_KERNEL);

	if (!tl)
		return ERR_PTR(-ENOMEM);
	test_nr_allocated++;
	return &tl->mn;
}

static void test_free_notifier(struct mmu_notifier *mn)
{
	test_nr_freed++;
	kfree(container_of(mn, struct mmu_test_list, mn));
}

static const struct mmu_notifier_ops test_get_ops = {
	.invalidate_range_start = mmu_test_list_start,
	.invalidate_range_end = mmu_test_list_end,
	.alloc_notifier = test_alloc_notifier,
	.free_notifier = test_free_notifier,
};

static void get_shares_and_last_put_frees(struct kunit *test)
{
	struct mmu_notifier *a, *b;

	test_nr_allocated = 0;
	test_nr_freed = 0;
	a = mmu_notifier_get(&test_get_ops, mmu_test_mm(test));
	KUNIT_ASSERT_FALSE(test, IS_ERR(a));
	b = mmu_notifier_get(&test_get_ops, mmu_test_mm(test));
	KUNIT_EXPECT_PTR_EQ(test, a, b);
	mmu_notifier_put(a);
	mmu_notifier_synchronize();
	KUNIT_EXPECT_EQ(test, 0, test_nr_freed);
	mmu_test_invalidate(test, 1, 1);
	KUNIT_EXPECT_EQ(test, 1, container_of(b, struct mmu_test_list, mn)->nr_end);
	mmu_notifier_put(b);
	mmu_notifier_synchronize();
	KUNIT_EXPECT_EQ(test, 1, test_nr_allocated);
	KUNIT_EXPECT_EQ(test, 1, test_nr_freed);
}

static int test_nr_started;

static int test_count_start(struct mmu_notifier *mn,
			    const struct mmu_notifier_range *range)
{
	test_nr_started++;
	return 0;
}

static int test_count_young(struct mmu_notifier *mn, struct mm_struct *mm,
			    unsigned long start, unsigned long end)
{
	test_nr_started++;
	return 1;
}

static const struct mmu_notifier_ops test_count_ops = {
	.invalidate_range_start = test_count_start,
	.clear_young = test_count_young,
	.alloc_notifier = test_alloc_notifier,
	.free_notifier = test_free_notifier,
};

/* No matter whether the work that frees the notifier has run already. */
static void no_callback_begins_after_the_last_put(struct kunit *test)
{
	struct mmu_notifier *mn;
	int i;

	for (i = 0; i < 100; i++) {
		mn = mmu_notifier_get(&test_count_ops, mmu_test_mm(test));
		KUNIT_ASSERT_FALSE(test, IS_ERR(mn));
		test_nr_started = 0;
		mmu_notifier_put(mn);
		mmu_test_invalidate(test, 1, 1);
		mmu_notifier_clear_young(mmu_test_mm(test), PG(1), PG(2));
		KUNIT_ASSERT_EQ(test, 0, test_nr_started);
	}
	mmu_notifier_synchronize();
}

/* The age callback must not sleep. It spins until the test sets @go. */
struct test_aged {
	struct mmu_notifier mn;
	struct completion *entered;
	bool go;
};

static int test_aged_young(struct mmu_notifier *mn, struct mm_struct *mm,
			   unsigned long start, unsigned long end)
{
	struct test_aged *aged = container_of(mn, struct test_aged, mn);
	unsigned int limit = 20000;

	if (aged->entered)
		complete(aged->entered);
	while (aged->entered && !READ_ONCE(aged->go) && --limit)
		mdelay(1);
	return 1;
}

static const struct mmu_notifier_ops test_aged_ops = { .clear_young = test_aged_young };

static void do_clear_young(struct mmu_test_thread *thread)
{
	mmu_notifier_clear_young(mmu_test_mm(thread->test), PG(1), PG(2));
}

static void do_unregister(struct mmu_test_thread *thread)
{
	mmu_notifier_unregister(thread->arg, mmu_test_mm(thread->test));
}

static void unregister_waits_for_its_own_age_callback_only(struct kunit *test)
{
	struct mmu_test_state *tm = test->priv;
	struct test_aged stands = { .mn.ops = &test_aged_ops, .entered = &tm->entered };
	struct test_aged other = { .mn.ops = &test_aged_ops };
	struct mmu_test_thread age = { .fn = do_clear_young };
	struct mmu_test_thread remover = { .fn = do_unregister, .arg = &stands.mn };

	if (num_online_cpus() < 2)
		kunit_skip(test, "the callback holds the only CPU");
	KUNIT_ASSERT_EQ(test, 0, mmu_notifier_register(&other.mn, tm->mm));
	KUNIT_ASSERT_EQ(test, 0, mmu_notifier_register(&stands.mn, tm->mm));
	mmu_test_run(test, &age);
	mmu_test_await(test, &tm->entered);
	mmu_notifier_unregister(&other.mn, tm->mm);
	mmu_test_run(test, &remover);
	mmu_test_wait(test, hlist_unhashed_lockless(&stands.mn.hlist));
	KUNIT_EXPECT_FALSE(test, wait_for_completion_timeout(&remover.done, HZ / 10));
	WRITE_ONCE(stands.go, true);
	mmu_test_join(test, &age);
	mmu_test_join(test, &remover);
}

static void do_wait_list_empty(struct mmu_test_thread *thread)
{
	struct mmu_notifier_subscriptions *subs = thread->arg;
	struct mmu_notifier *sub;

	mmu_active_lock_all(subs);
	hlist_for_each_entry(sub, &subs->list, hlist)
		mmu_walks_forget(subs, sub, &sub->hlist);
	mmu_active_unlock_all(subs);
	mmu_walks_await(subs, NULL);
}

/*
 * Exit waits for all walks of the list, including the one in which unregister
 * calls the release callback. The end of each of them must wake it.
 */
static void regress_exit_is_woken_by_every_walk(struct kunit *test)
{
	struct mmu_notifier_subscriptions *subs;
	struct mm_struct *mm = mmu_test_mm(test);
	struct mmu_test_thread waiter = { .fn = do_wait_list_empty };
	struct mmu_test_list tl = {};
	struct mmu_walk walk;

	mmu_test_register(test, &tl);
	subs = mmu_notifier_subscriptions(mm);
	waiter.arg = subs;
	mmu_walk_one(&walk, subs, &tl.mn);
	mmu_test_run(test, &waiter);
	mmu_test_wait(test, wq_has_sleeper(&subs->removal_wait));
	KUNIT_EXPECT_FALSE(test, completion_done(&waiter.done));
	mmu_walk_leave(&walk);
	mmu_test_join(test, &waiter);
	mmu_notifier_unregister(&tl.mn, mm);
}

static struct kunit_case test_cases[] = {
	KUNIT_CASE(list_notifier_is_called_for_every_range),
	KUNIT_CASE(age_callbacks_reach_all),
	KUNIT_CASE_PARAM(refused_start_is_undone_exactly, refusal_gen_params),
	KUNIT_CASE(late_list_notifier_does_not_end_earlier_range),
	KUNIT_CASE(unregister_between_start_and_end),
	KUNIT_CASE(exit_releases_once),
	KUNIT_CASE(regress_no_end_without_start_across_exit),
	KUNIT_CASE(get_shares_and_last_put_frees),
	KUNIT_CASE(no_callback_begins_after_the_last_put),
	KUNIT_CASE(unregister_waits_for_its_own_age_callback_only),
	KUNIT_CASE(regress_exit_is_woken_by_every_walk),
	{}
};

static struct kunit_suite test_suite = {
	.name = "mmu_notifier_list",
	.init = mmu_test_init,
	.exit = mmu_test_exit,
	.test_cases = test_cases,
};
kunit_test_suite(test_suite);
