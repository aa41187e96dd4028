// SPDX-License-Identifier: GPL-2.0
/*
 * Interval notifiers: which ranges call them, and what readers, insertion and
 * removal wait for. See mmu_notifier_fixture.h for how races are staged.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/prandom.h>

#include "mmu_notifier_fixture.h"

struct overlap_case {
	const char *name;
	unsigned long first_page, nr_pages;
	bool hit;
};

/* The interval has the pages 10 to 19. */
static const struct overlap_case overlap_cases[] = {
	{ "before", 0, 9, false },	{ "adjacent below", 8, 2, false },
	{ "last page below", 8, 3, true }, { "inside", 12, 1, true },
	{ "same", 10, 10, true },	{ "around", 1, 100, true },
	{ "last page", 19, 1, true },	{ "adjacent above", 20, 4, false },
};
KUNIT_ARRAY_PARAM_DESC(overlap, overlap_cases, name);

static void interval_is_called_for_overlapping_ranges(struct kunit *test)
{
	const struct overlap_case *c = test->param_value;
	struct mmu_test_interval ti = {};
	unsigned long seq;

	mmu_test_insert(test, &ti, 10, 10);
	seq = mmu_interval_read_begin(&ti.mni);
	KUNIT_EXPECT_FALSE(test, mmu_interval_read_retry(&ti.mni, seq));
	mmu_test_invalidate(test, c->first_page, c->nr_pages);
	KUNIT_EXPECT_EQ(test, c->hit, ti.nr_called);
	KUNIT_EXPECT_EQ(test, c->hit, mmu_interval_read_retry(&ti.mni, seq));
	KUNIT_EXPECT_EQ(test, c->hit, mmu_interval_check_retry(&ti.mni, seq));
	KUNIT_EXPECT_EQ(test, c->hit, mmu_interval_read_begin(&ti.mni) != seq);
	mmu_interval_notifier_remove(&ti.mni);
}

static void insert_refuses_bad_intervals(struct kunit *test)
{
	struct mmu_interval_notifier mni = {};

	KUNIT_EXPECT_EQ(test, -EOVERFLOW,
			mmu_interval_notifier_insert(&mni, mmu_test_mm(test), PG(1), 0,
						     &mmu_test_interval_ops));
	KUNIT_EXPECT_EQ(test, -EOVERFLOW,
			mmu_interval_notifier_insert(&mni, mmu_test_mm(test), -PAGE_SIZE,
						     PG(2), &mmu_test_interval_ops));
	KUNIT_EXPECT_NULL(test, mmu_test_mm(test)->notifier_subscriptions);
}

static void read_begin_waits_for_overlapping_range(struct kunit *test)
{
	struct mmu_test_interval ti = {};
	struct mmu_notifier_range range;
	struct mmu_test_thread reader = { .fn = mmu_test_do_read_begin, .arg = &ti.mni };

	mmu_test_insert(test, &ti, 10, 10);
	mmu_test_range_init(test, &range, 15, 1);
	mmu_notifier_invalidate_range_start(&range);
	mmu_test_run(test, &reader);
	mmu_test_wait_awaited(test, &range);
	KUNIT_EXPECT_FALSE(test, completion_done(&reader.done));
	mmu_notifier_invalidate_range_end(&range);
	mmu_test_join(test, &reader);
	mmu_interval_notifier_remove(&ti.mni);
}

static void read_begin_ignores_unrelated_range(struct kunit *test)
{
	struct mmu_test_interval ti = {};
	struct mmu_notifier_range range;
	struct mmu_test_thread reader = { .fn = mmu_test_do_read_begin, .arg = &ti.mni };

	mmu_test_insert(test, &ti, 10, 10);
	mmu_test_range_init(test, &range, 20, 1);
	mmu_notifier_invalidate_range_start(&range);
	mmu_test_run(test, &reader);
	mmu_test_join(test, &reader);
	KUNIT_EXPECT_FALSE(test, range.awaited);
	mmu_notifier_invalidate_range_end(&range);
	mmu_interval_notifier_remove(&ti.mni);
}

/* A later overlapping range changes the sequence; it does not prolong the wait. */
static void read_begin_does_not_wait_for_later_ranges(struct kunit *test)
{
	struct mmu_test_interval ti = {};
	struct mmu_notifier_range first, later;
	struct mmu_test_thread reader = { .fn = mmu_test_do_read_begin, .arg = &ti.mni };

	mmu_test_insert(test, &ti, 10, 10);
	mmu_test_range_init(test, &first, 15, 1);
	mmu_test_range_init(test, &later, 16, 1);
	/*
	 * On one CPU, both are in one shard. The reader may wait for a later
	 * range if it is in a shard that the reader has not checked yet.
	 */
	migrate_disable();
	mmu_notifier_invalidate_range_start(&first);
	mmu_test_run(test, &reader);
	mmu_test_wait_awaited(test, &first);
	mmu_notifier_invalidate_range_start(&later);
	KUNIT_EXPECT_EQ(test, first.shard, later.shard);
	mmu_notifier_invalidate_range_end(&first);
	mmu_test_join(test, &reader);
	mmu_notifier_invalidate_range_end(&later);
	migrate_enable();
	mmu_interval_notifier_remove(&ti.mni);
}

static void insert_during_invalidation_makes_readers_wait(struct kunit *test)
{
	struct mmu_test_interval other = {}, ti = {};
	struct mmu_notifier_range range;
	struct mmu_test_thread reader = { .fn = mmu_test_do_read_begin, .arg = &ti.mni };

	mmu_test_insert(test, &other, 500, 1);
	mmu_test_range_init(test, &range, 15, 1);
	mmu_notifier_invalidate_range_start(&range);
	/* If insertion waited for the range, the test would hang here. */
	mmu_test_insert(test, &ti, 10, 10);
	KUNIT_EXPECT_EQ(test, 0, ti.nr_called);
	mmu_test_run(test, &reader);
	mmu_test_wait_awaited(test, &range);
	KUNIT_EXPECT_FALSE(test, completion_done(&reader.done));
	mmu_notifier_invalidate_range_end(&range);
	mmu_test_join(test, &reader);
	mmu_interval_notifier_remove(&ti.mni);
	mmu_interval_notifier_remove(&other.mni);
}

/* @inv blocks in the callback of @ti, and @remover has begun to remove @ti. */
static void test_stage_removal(struct kunit *test, struct mmu_test_interval *ti,
			       struct mmu_test_thread *inv, struct mmu_test_thread *remover)
{
	mmu_test_insert(test, ti, 10, 10);
	mmu_test_enter_callback(test, inv);
	mmu_test_run(test, remover);
	mmu_test_wait_removing(test, ti);
}

/* Let the callback return, and wait until both threads have ended. */
static void test_finish_removal(struct kunit *test, struct mmu_test_thread *inv,
				struct mmu_test_thread *remover)
{
	struct mmu_test_state *tm = test->priv;

	complete(&tm->leave);
	mmu_test_join(test, remover);
	mmu_test_join(test, inv);
}

static void remove_waits_for_its_own_callback(struct kunit *test)
{
	struct mmu_test_state *tm = test->priv;
	struct mmu_test_interval ti = { .entered = &tm->entered, .leave = &tm->leave };
	struct mmu_test_thread inv = {
		.fn = mmu_test_do_invalidate, .first_page = 12, .nr_pages = 1,
	};
	struct mmu_test_thread remover = { .fn = mmu_test_do_remove, .arg = &ti.mni };

	test_stage_removal(test, &ti, &inv, &remover);
	KUNIT_EXPECT_FALSE(test, completion_done(&remover.done));
	test_finish_removal(test, &inv, &remover);
}

static void remove_ignores_other_callbacks(struct kunit *test)
{
	struct mmu_test_state *tm = test->priv;
	struct mmu_test_interval busy = { .entered = &tm->entered, .leave = &tm->leave };
	struct mmu_test_interval next = {}, before = {};
	struct mmu_test_thread inv = {
		.fn = mmu_test_do_invalidate, .first_page = 0, .nr_pages = 100,
	};

	mmu_test_insert(test, &before, 1, 1);
	mmu_test_insert(test, &busy, 10, 10);
	mmu_test_insert(test, &next, 30, 10);
	mmu_test_enter_callback(test, &inv);
	/* While the callback of "busy" runs, both neighbours are removed. */
	mmu_interval_notifier_remove(&before.mni);
	mmu_interval_notifier_remove(&next.mni);
	KUNIT_EXPECT_EQ(test, 0, next.nr_called);
	/* The range may or may not call a notifier that is inserted now. */
	mmu_test_insert(test, &next, 40, 1);
	complete(&tm->leave);
	mmu_test_join(test, &inv);
	mmu_interval_notifier_remove(&next.mni);
	mmu_interval_notifier_remove(&busy.mni);
}

static void removed_notifier_is_not_called_again(struct kunit *test)
{
	struct mmu_test_state *tm = test->priv;
	struct mmu_test_interval ti = { .entered = &tm->entered, .leave = &tm->leave };
	struct mmu_test_thread inv = {
		.fn = mmu_test_do_invalidate, .first_page = 12, .nr_pages = 1,
	};
	struct mmu_test_thread remover = { .fn = mmu_test_do_remove, .arg = &ti.mni };

	test_stage_removal(test, &ti, &inv, &remover);
	/* It is no longer in the tree, so another range does not call it. */
	mmu_test_invalidate(test, 13, 1);
	KUNIT_EXPECT_EQ(test, 1, ti.nr_called);
	test_finish_removal(test, &inv, &remover);
}

/*
 * Several callbacks run at once, and each delays one removal. With at most four
 * CPUs, some of the ranges share a shard. A shard publishes one notifier; the
 * other ranges use walks.
 */
#define NR_AT_ONCE	5

struct test_at_once {
	struct completion entered;
	struct completion leave;
	struct mmu_test_thread inv;
	struct mmu_test_thread remover;
	struct mmu_test_interval ti;
};

static void test_at_once_start(struct kunit *test, struct test_at_once *one, int i)
{
	init_completion(&one->entered);
	init_completion(&one->leave);
	one->ti.entered = &one->entered;
	one->ti.leave = &one->leave;
	one->inv.fn = mmu_test_do_invalidate;
	one->inv.first_page = 10 * i;
	one->inv.nr_pages = 1;
	one->remover.fn = mmu_test_do_remove;
	one->remover.arg = &one->ti.mni;
	mmu_test_insert(test, &one->ti, 10 * i, 5);
	mmu_test_run(test, &one->inv);
	mmu_test_await(test, &one->entered);
	mmu_test_run(test, &one->remover);
	mmu_test_wait_removing(test, &one->ti);
}

static void each_removal_waits_for_its_own_callback(struct kunit *test)
{
	struct test_at_once *ones = kunit_kcalloc(test, NR_AT_ONCE, sizeof(*ones), GFP_KERNEL);
	int i;

	KUNIT_ASSERT_NOT_NULL(test, ones);
	for (i = 0; i < NR_AT_ONCE; i++)
		test_at_once_start(test, &ones[i], i);
	while (i--) {
		complete(&ones[i].leave);
		mmu_test_join(test, &ones[i].remover);
		if (i)
			KUNIT_EXPECT_FALSE(test, completion_done(&ones[i - 1].remover.done));
		mmu_test_join(test, &ones[i].inv);
	}
}

/* Two ranges call one notifier: removal returns after the second callback. */
static void remove_waits_for_all_its_callbacks(struct kunit *test)
{
	struct mmu_test_state *tm = test->priv;
	struct mmu_test_interval ti = { .entered = &tm->entered, .leave = &tm->leave };
	struct mmu_test_thread first = {
		.fn = mmu_test_do_invalidate, .first_page = 12, .nr_pages = 1,
	};
	struct mmu_test_thread second = {
		.fn = mmu_test_do_invalidate, .first_page = 13, .nr_pages = 1,
	};
	struct mmu_test_thread remover = { .fn = mmu_test_do_remove, .arg = &ti.mni };

	mmu_test_insert(test, &ti, 10, 10);
	mmu_test_enter_callback(test, &first);
	mmu_test_enter_callback(test, &second);
	mmu_test_run(test, &remover);
	mmu_test_wait_removing(test, &ti);
	/* Lets one callback return, either of them. */
	complete(&tm->leave);
	mmu_test_wait(test, completion_done(&first.done) || completion_done(&second.done));
	KUNIT_EXPECT_FALSE(test, completion_done(&remover.done));
	complete(&tm->leave);
	mmu_test_join(test, &remover);
	mmu_test_join(test, &first);
	mmu_test_join(test, &second);
	KUNIT_EXPECT_EQ(test, 2, ti.nr_called);
}

static void last_removal_between_start_and_end(struct kunit *test)
{
	struct mmu_test_interval ti = {};
	struct mmu_notifier_range range;

	mmu_test_insert(test, &ti, 1, 1);
	mmu_test_range_init(test, &range, 1, 1);
	mmu_notifier_invalidate_range_start(&range);
	mmu_interval_notifier_remove(&ti.mni);
	mmu_notifier_invalidate_range_end(&range);
	KUNIT_EXPECT_EQ(test, 1, ti.nr_called);
	KUNIT_EXPECT_EQ(test, 0, range.shard);
}

static void ranges_nest_and_overlap(struct kunit *test)
{
	struct mmu_test_interval ti = {};
	struct mmu_test_list tl = {};
	struct mmu_notifier_range a, b;

	mmu_test_insert(test, &ti, 10, 10);
	mmu_test_register(test, &tl);
	mmu_test_range_init(test, &a, 5, 10);
	mmu_test_range_init(test, &b, 12, 10);
	mmu_notifier_invalidate_range_start(&a);
	mmu_notifier_invalidate_range_start(&b);
	KUNIT_EXPECT_EQ(test, 2, ti.nr_called);
	mmu_notifier_invalidate_range_end(&a);
	mmu_notifier_invalidate_range_end(&b);
	KUNIT_EXPECT_EQ(test, 2, tl.nr_start);
	KUNIT_EXPECT_EQ(test, 2, tl.nr_end);
	mmu_interval_read_begin(&ti.mni);
	mmu_notifier_unregister(&tl.mn, mmu_test_mm(test));
	mmu_interval_notifier_remove(&ti.mni);
}

static void sequence_survives_wrapping(struct kunit *test)
{
	struct mmu_test_interval ti = {};
	struct mmu_notifier_subscriptions *subs;
	unsigned long seq, i;

	mmu_test_insert(test, &ti, 1, 1);
	subs = mmu_notifier_subscriptions(mmu_test_mm(test));
	/* In all shards: any CPU may be used. The third step wraps around. */
	for (i = 0; i < min(roundup_pow_of_two(nr_cpu_ids), MMU_NOTIFIER_MAX_SHARDS); i++)
		subs->shards[i].seq = -6 * MMU_NOTIFIER_MAX_SHARDS + 2 * i + 1;
	for (i = 0; i < 6; i++) {
		seq = mmu_interval_read_begin(&ti.mni);
		mmu_test_invalidate(test, 1, 1);
		KUNIT_EXPECT_TRUE(test, mmu_interval_read_retry(&ti.mni, seq));
		KUNIT_EXPECT_EQ(test, 1, ti.seq & 1);
	}
	mmu_interval_notifier_remove(&ti.mni);
}

/* Compares which notifiers are called with a search of all intervals. */
static void random_ranges_hit_what_they_overlap(struct kunit *test)
{
	enum { NR = 64, SPAN = 256, ROUNDS = 2000 };
	u32 seed = get_random_u32();
	struct mmu_test_interval *ti;
	struct rnd_state rnd;
	int i, round;

	kunit_info(test, "seed %u", seed);
	prandom_seed_state(&rnd, seed);
	ti = kunit_kcalloc(test, NR, sizeof(*ti), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ti);
	for (round = 0; round < ROUNDS; round++) {
		unsigned long first = prandom_u32_state(&rnd) % SPAN;
		unsigned long nr = 1 + prandom_u32_state(&rnd) % 16;
		struct mmu_test_interval *pick = &ti[prandom_u32_state(&rnd) % NR];

		if (pick->mni.mm) {
			mmu_interval_notifier_remove(&pick->mni);
			pick->mni.mm = NULL;
		} else {
			mmu_test_insert(test, pick, prandom_u32_state(&rnd) % SPAN,
					1 + prandom_u32_state(&rnd) % 32);
		}
		for (i = 0; i < NR; i++)
			ti[i].nr_called = 0;
		mmu_test_invalidate(test, first, nr);
		for (i = 0; i < NR; i++) {
			bool hit = ti[i].mni.mm &&
				   ti[i].mni.interval_tree.start < PG(first + nr) &&
				   ti[i].mni.interval_tree.last >= PG(first);

			KUNIT_ASSERT_EQ(test, hit, ti[i].nr_called);
		}
	}
	for (i = 0; i < NR; i++)
		if (ti[i].mni.mm)
			mmu_interval_notifier_remove(&ti[i].mni);
}

static struct kunit_case test_cases[] = {
	KUNIT_CASE_PARAM(interval_is_called_for_overlapping_ranges,
			 overlap_gen_params),
	KUNIT_CASE(insert_refuses_bad_intervals),
	KUNIT_CASE(read_begin_waits_for_overlapping_range),
	KUNIT_CASE(read_begin_ignores_unrelated_range),
	KUNIT_CASE(read_begin_does_not_wait_for_later_ranges),
	KUNIT_CASE(insert_during_invalidation_makes_readers_wait),
	KUNIT_CASE(remove_waits_for_its_own_callback),
	KUNIT_CASE(remove_ignores_other_callbacks),
	KUNIT_CASE(removed_notifier_is_not_called_again),
	KUNIT_CASE(each_removal_waits_for_its_own_callback),
	KUNIT_CASE(remove_waits_for_all_its_callbacks),
	KUNIT_CASE(last_removal_between_start_and_end),
	KUNIT_CASE(ranges_nest_and_overlap),
	KUNIT_CASE(sequence_survives_wrapping),
	KUNIT_CASE_SLOW(random_ranges_hit_what_they_overlap),
	{}
};

static struct kunit_suite test_suite = {
	.name = "mmu_notifier_interval",
	.init = mmu_test_init,
	.exit = mmu_test_exit,
	.test_cases = test_cases,
};
kunit_test_suite(test_suite);
