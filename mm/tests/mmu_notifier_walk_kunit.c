// SPDX-License-Identifier: GPL-2.0
/*
 * Walks of more notifiers than fit into a batch, while other notifiers are
 * removed: from the batch, at the cursor, and past the cursor. See
 * mmu_notifier_walk.c.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include "mmu_notifier_fixture.h"

/* Two batches, of which the second is not full. */
#define NR	(2 * MMU_WALK_BATCH - 3)

struct walk_test {
	struct mmu_test_interval ti[NR];
	struct mmu_test_list tl[NR];
	bool gone[NR];
};

static struct walk_test *walk_alloc(struct kunit *test)
{
	struct walk_test *wt = kunit_kzalloc(test, sizeof(*wt), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, wt);
	return wt;
}

/*
 * The first notifier is a stop point. All intervals are the same, so the walk
 * calls them in the order of insertion.
 */
static struct walk_test *walk_insert_all(struct kunit *test)
{
	struct walk_test *wt = walk_alloc(test);
	struct mmu_test_state *tm = test->priv;
	int i;

	for (i = 0; i < NR; i++)
		mmu_test_insert(test, &wt->ti[i], 10, 10);
	wt->ti[0].entered = &tm->entered;
	wt->ti[0].leave = &tm->leave;
	return wt;
}

static void walk_leave(struct walk_test *wt, int i)
{
	mmu_interval_notifier_remove(&wt->ti[i].mni);
	wt->gone[i] = true;
}

struct walk_case {
	const char *name;
	int leaves[4];
};

static const struct walk_case walk_cases[] = {
	{ "none", { -1 } },
	{ "next", { 1, -1 } },
	{ "last_of_batch", { MMU_WALK_BATCH - 1, -1 } },
	{ "cursor", { MMU_WALK_BATCH, -1 } },
	{ "cursor_twice", { MMU_WALK_BATCH, MMU_WALK_BATCH + 1, -1 } },
	{ "past_cursor", { MMU_WALK_BATCH + 1, -1 } },
	{ "last", { NR - 1, -1 } },
	{ "some", { 2, MMU_WALK_BATCH, NR - 1, -1 } },
};
KUNIT_ARRAY_PARAM_DESC(walk, walk_cases, name);

/* None of them is being called, so removal does not wait for the callback. */
static void removed_notifiers_are_not_called(struct kunit *test)
{
	struct mmu_test_thread inv = {
		.fn = mmu_test_do_invalidate, .first_page = 12, .nr_pages = 1,
	};
	const struct walk_case *c = test->param_value;
	struct walk_test *wt = walk_insert_all(test);
	struct mmu_test_state *tm = test->priv;
	int i;

	mmu_test_enter_callback(test, &inv);
	for (i = 0; c->leaves[i] >= 0; i++)
		walk_leave(wt, c->leaves[i]);
	complete(&tm->leave);
	mmu_test_join(test, &inv);
	for (i = 0; i < NR; i++)
		KUNIT_EXPECT_EQ_MSG(test, !wt->gone[i], wt->ti[i].nr_called, "notifier %d", i);
	for (i = 0; i < NR; i++)
		if (!wt->gone[i])
			mmu_interval_notifier_remove(&wt->ti[i].mni);
}

/* The rest of the batch, and everything from the cursor to the end. */
static void all_others_are_removed(struct kunit *test)
{
	struct mmu_test_thread inv = {
		.fn = mmu_test_do_invalidate, .first_page = 12, .nr_pages = 1,
	};
	struct walk_test *wt = walk_insert_all(test);
	struct mmu_test_state *tm = test->priv;
	int i;

	mmu_test_enter_callback(test, &inv);
	for (i = 1; i < NR; i++)
		walk_leave(wt, i);
	complete(&tm->leave);
	mmu_test_join(test, &inv);
	for (i = 0; i < NR; i++)
		KUNIT_EXPECT_EQ(test, !i, wt->ti[i].nr_called);
	mmu_interval_notifier_remove(&wt->ti[0].mni);
}

static void remove_waits_for_a_callback_of_the_second_batch(struct kunit *test)
{
	struct mmu_test_thread inv = {
		.fn = mmu_test_do_invalidate, .first_page = 12, .nr_pages = 1,
	};
	struct mmu_test_thread remover = { .fn = mmu_test_do_remove };
	struct walk_test *wt = walk_insert_all(test);
	struct mmu_test_state *tm = test->priv;
	int i;

	wt->ti[0].entered = NULL;
	wt->ti[NR - 2].entered = &tm->entered;
	wt->ti[NR - 2].leave = &tm->leave;
	remover.arg = &wt->ti[NR - 2].mni;
	mmu_test_enter_callback(test, &inv);
	mmu_test_run(test, &remover);
	mmu_test_wait_removing(test, &wt->ti[NR - 2]);
	KUNIT_EXPECT_FALSE(test, wait_for_completion_timeout(&remover.done, HZ / 10));
	complete(&tm->leave);
	mmu_test_join(test, &remover);
	mmu_test_join(test, &inv);
	for (i = 0; i < NR; i++) {
		KUNIT_EXPECT_EQ(test, 1, wt->ti[i].nr_called);
		if (i != NR - 2)
			mmu_interval_notifier_remove(&wt->ti[i].mni);
	}
}

/* The walks of start and of end are separate. Both call the newest first. */
static void unregistered_list_notifiers_are_not_called(struct kunit *test)
{
	struct mmu_test_thread inv = {
		.fn = mmu_test_do_invalidate, .first_page = 12, .nr_pages = 1,
	};
	const int leaves[] = { 0, NR - 1 - MMU_WALK_BATCH, NR - 2 };
	struct walk_test *wt = walk_alloc(test);
	struct mmu_test_state *tm = test->priv;
	int i;

	for (i = 0; i < NR; i++)
		mmu_test_register(test, &wt->tl[i]);
	wt->tl[NR - 1].entered = &tm->entered;
	wt->tl[NR - 1].leave = &tm->leave;
	mmu_test_enter_callback(test, &inv);
	for (i = 0; i < ARRAY_SIZE(leaves); i++) {
		mmu_notifier_unregister(&wt->tl[leaves[i]].mn, tm->mm);
		wt->gone[leaves[i]] = true;
	}
	complete(&tm->leave);
	mmu_test_join(test, &inv);
	for (i = 0; i < NR; i++) {
		KUNIT_EXPECT_EQ_MSG(test, !wt->gone[i], wt->tl[i].nr_start, "notifier %d", i);
		KUNIT_EXPECT_EQ_MSG(test, !wt->gone[i], wt->tl[i].nr_end, "notifier %d", i);
		if (!wt->gone[i])
			mmu_notifier_unregister(&wt->tl[i].mn, tm->mm);
	}
}

/*
 * Newest first. End is called for the notifiers before the one that refuses,
 * because they have accepted the range.
 */
static void refusal_in_the_second_batch_is_undone(struct kunit *test)
{
	enum { REFUSES = NR - 1 - MMU_WALK_BATCH - 3 };
	struct walk_test *wt = walk_alloc(test);
	struct mmu_test_state *tm = test->priv;
	struct mmu_notifier_range range;
	int i;

	for (i = 0; i < NR; i++)
		mmu_test_register(test, &wt->tl[i]);
	wt->tl[REFUSES].refuse = true;
	mmu_test_range_init(test, &range, 12, 1);
	KUNIT_EXPECT_EQ(test, -EAGAIN, mmu_notifier_invalidate_range_start_nonblock(&range));
	for (i = 0; i < NR; i++)
		KUNIT_EXPECT_EQ_MSG(test, i > REFUSES, wt->tl[i].nr_end, "notifier %d", i);
	KUNIT_EXPECT_TRUE(test, mmu_active_none(mmu_notifier_subscriptions(tm->mm)));
	for (i = 0; i < NR; i++)
		mmu_notifier_unregister(&wt->tl[i].mn, tm->mm);
}

static struct kunit_case test_cases[] = {
	KUNIT_CASE_PARAM(removed_notifiers_are_not_called, walk_gen_params),
	KUNIT_CASE(all_others_are_removed),
	KUNIT_CASE(remove_waits_for_a_callback_of_the_second_batch),
	KUNIT_CASE(unregistered_list_notifiers_are_not_called),
	KUNIT_CASE(refusal_in_the_second_batch_is_undone),
	{}
};

static struct kunit_suite test_suite = {
	.name = "mmu_notifier_walk",
	.init = mmu_test_init,
	.exit = mmu_test_exit,
	.test_cases = test_cases,
};
kunit_test_suite(test_suite);
