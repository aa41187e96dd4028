// SPDX-License-Identifier: GPL-2.0
/*
 * Two-phase interval notifiers: a range posts all invalidations before it
 * finishes the first, and every posted invalidation is finished.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/sched/mm.h>
#include <linux/vmalloc.h>

#include "mmu_notifier_fixture.h"

enum { NR_NOTIFIERS = 3 };

/* A two-phase notifier that records the order of its callbacks in @clock. */
struct test_phased {
	struct mmu_interval_notifier mni;
	struct mmu_interval_notifier_finish finish;
	int *clock;
	int started, finished;
	bool refuse;
	bool at_once;
	struct completion *entered;
	struct completion *leave;
};

static bool test_phased_start(struct mmu_interval_notifier *mni,
			      const struct mmu_notifier_range *range,
			      unsigned long seq,
			      struct mmu_interval_notifier_finish **finish)
{
	struct test_phased *tp = container_of(mni, struct test_phased, mni);

	/* Also set if it refuses: the core must ignore it then. */
	if (!tp->at_once)
		*finish = &tp->finish;
	if (tp->refuse && !mmu_notifier_range_blockable(range))
		return false;
	tp->started = ++*tp->clock;
	mmu_interval_set_seq(mni, seq);
	return true;
}

static void test_phased_finish(struct mmu_interval_notifier_finish *finish)
{
	struct test_phased *tp = container_of(finish, struct test_phased, finish);

	WARN_ON_ONCE(finish->notifier != &tp->mni);
	tp->finished = ++*tp->clock;
	mmu_test_stop(tp->entered, tp->leave);
}

static const struct mmu_interval_notifier_ops test_phased_ops = {
	.invalidate_start = test_phased_start,
	.invalidate_finish = test_phased_finish,
};

static void test_insert_phased(struct kunit *test, struct test_phased *tp, int *clock,
			       unsigned long first_page, unsigned long nr_pages)
{
	tp->clock = clock;
	KUNIT_ASSERT_EQ(test, 0,
			mmu_interval_notifier_insert(&tp->mni, mmu_test_mm(test),
						     PG(first_page), PG(nr_pages),
						     &test_phased_ops));
}

static void test_insert_all(struct kunit *test, struct test_phased *tp, int *clock)
{
	int i;

	for (i = 0; i < NR_NOTIFIERS; i++)
		test_insert_phased(test, &tp[i], clock, 10 * i, 5);
}

static void test_remove_all(struct test_phased *tp)
{
	int i;

	for (i = 0; i < NR_NOTIFIERS; i++)
		mmu_interval_notifier_remove(&tp[i].mni);
}

static void all_are_posted_before_any_is_finished(struct kunit *test)
{
	struct test_phased tp[NR_NOTIFIERS] = {};
	int i, clock = 0;

	test_insert_all(test, tp, &clock);
	mmu_test_invalidate(test, 0, 15);
	for (i = 0; i < 2; i++) {
		KUNIT_EXPECT_NE(test, 0, tp[i].started);
		KUNIT_EXPECT_LE(test, tp[i].started, 2);
		KUNIT_EXPECT_GT(test, tp[i].finished, 2);
	}
	KUNIT_EXPECT_EQ(test, 4, clock);
	KUNIT_EXPECT_EQ(test, 0, tp[2].started);
	test_remove_all(tp);
}

#define NR_MANY		100000

struct test_one_of_many {
	struct mmu_interval_notifier mni;
	struct mmu_interval_notifier_finish finish;
	int nr_finished;
};

static bool test_many_start(struct mmu_interval_notifier *mni,
			    const struct mmu_notifier_range *range, unsigned long seq,
			    struct mmu_interval_notifier_finish **finish)
{
	mmu_interval_set_seq(mni, seq);
	*finish = &container_of(mni, struct test_one_of_many, mni)->finish;
	return true;
}

static void test_many_finish(struct mmu_interval_notifier_finish *finish)
{
	container_of(finish, struct test_one_of_many, finish)->nr_finished++;
}

static const struct mmu_interval_notifier_ops test_many_ops = {
	.invalidate_start = test_many_start,
	.invalidate_finish = test_many_finish,
};

static void one_range_posts_to_a_hundred_thousand(struct kunit *test)
{
	struct test_one_of_many *many = vcalloc(NR_MANY, sizeof(*many));
	int i, wrong = 0;

	KUNIT_ASSERT_NOT_NULL(test, many);
	for (i = 0; i < NR_MANY; i++) {
		if (mmu_interval_notifier_insert(&many[i].mni, mmu_test_mm(test), PG(i),
						 PG(1), &test_many_ops))
			break;
	}
	KUNIT_EXPECT_EQ(test, NR_MANY, i);
	mmu_test_invalidate(test, 0, NR_MANY);
	while (i--) {
		wrong += many[i].nr_finished != 1;
		mmu_interval_notifier_remove(&many[i].mni);
	}
	KUNIT_EXPECT_EQ(test, 0, wrong);
	vfree(many);
}

static void list_notifiers_are_called_before_finish(struct kunit *test)
{
	struct mmu_test_state *state = test->priv;
	struct mmu_test_list tl = { .entered = &state->entered, .leave = &state->leave };
	struct mmu_test_thread inv = {
		.fn = mmu_test_do_invalidate, .first_page = 1, .nr_pages = 1,
	};
	struct test_phased tp = {};
	int clock = 0;

	test_insert_phased(test, &tp, &clock, 0, 5);
	mmu_test_register(test, &tl);
	mmu_test_enter_callback(test, &inv);
	KUNIT_EXPECT_EQ(test, 1, tp.started);
	KUNIT_EXPECT_EQ(test, 0, tp.finished);
	complete(&state->leave);
	mmu_test_join(test, &inv);
	KUNIT_EXPECT_EQ(test, 2, tp.finished);
	mmu_notifier_unregister(&tl.mn, mmu_test_mm(test));
	mmu_interval_notifier_remove(&tp.mni);
}

static void start_that_posts_nothing_gets_no_finish(struct kunit *test)
{
	struct test_phased tp = { .at_once = true };
	int clock = 0;

	test_insert_phased(test, &tp, &clock, 0, 5);
	mmu_test_invalidate(test, 1, 1);
	KUNIT_EXPECT_EQ(test, 1, tp.started);
	KUNIT_EXPECT_EQ(test, 0, tp.finished);
	mmu_interval_notifier_remove(&tp.mni);
}

static void remove_waits_for_what_was_posted(struct kunit *test)
{
	struct mmu_test_state *state = test->priv;
	struct test_phased tp = { .entered = &state->entered, .leave = &state->leave };
	struct mmu_test_interval bystander = {};
	struct mmu_test_thread inv = {
		.fn = mmu_test_do_invalidate, .first_page = 0, .nr_pages = 50,
	};
	struct mmu_test_thread remover = { .fn = mmu_test_do_remove, .arg = &tp.mni };
	int clock = 0;

	test_insert_phased(test, &tp, &clock, 0, 5);
	mmu_test_insert(test, &bystander, 20, 1);
	mmu_test_enter_callback(test, &inv);
	/* The range has called both. Removal waits for posted ones only. */
	KUNIT_EXPECT_EQ(test, 1, bystander.nr_called);
	mmu_interval_notifier_remove(&bystander.mni);
	mmu_test_run(test, &remover);
	mmu_test_wait(test, atomic_read(&tp.mni.nr_posted) & MMU_INTERVAL_AWAITED);
	KUNIT_EXPECT_FALSE(test, completion_done(&remover.done));
	complete(&state->leave);
	mmu_test_join(test, &remover);
	mmu_test_join(test, &inv);
	KUNIT_EXPECT_EQ(test, 2, tp.finished);
}

/* Removal starts while list notifiers are called, before the second phase. */
static void remove_waits_between_the_phases(struct kunit *test)
{
	struct mmu_test_state *state = test->priv;
	struct mmu_test_list tl = { .entered = &state->entered, .leave = &state->leave };
	struct mmu_test_thread inv = {
		.fn = mmu_test_do_invalidate, .first_page = 1, .nr_pages = 1,
	};
	struct test_phased tp = {};
	struct mmu_test_thread remover = { .fn = mmu_test_do_remove, .arg = &tp.mni };
	int clock = 0;

	test_insert_phased(test, &tp, &clock, 0, 5);
	mmu_test_register(test, &tl);
	mmu_test_enter_callback(test, &inv);
	mmu_test_run(test, &remover);
	KUNIT_EXPECT_FALSE(test, wait_for_completion_timeout(&remover.done, HZ / 5));
	KUNIT_EXPECT_TRUE(test, atomic_read(&tp.mni.nr_posted) & MMU_INTERVAL_AWAITED);
	KUNIT_EXPECT_EQ(test, 0, tp.finished);
	complete(&state->leave);
	mmu_test_join(test, &inv);
	mmu_test_join(test, &remover);
	KUNIT_EXPECT_EQ(test, 2, tp.finished);
	mmu_notifier_unregister(&tl.mn, mmu_test_mm(test));
}

/* Two ranges post to this notifier. Each finish callback is a stop point. */
struct test_shared {
	struct mmu_interval_notifier mni;
	struct test_shared_finish {
		struct mmu_interval_notifier_finish finish;
		struct completion entered, leave;
	} posts[2];
	atomic_t nr_started;
	atomic_t nr_finished;
};

static bool test_shared_start(struct mmu_interval_notifier *mni,
			      const struct mmu_notifier_range *range,
			      unsigned long seq,
			      struct mmu_interval_notifier_finish **finish)
{
	struct test_shared *ts = container_of(mni, struct test_shared, mni);

	*finish = &ts->posts[atomic_inc_return(&ts->nr_started) - 1].finish;
	mmu_interval_set_seq(mni, seq);
	return true;
}

static void test_shared_finish(struct mmu_interval_notifier_finish *finish)
{
	struct test_shared *ts = container_of(finish->notifier, struct test_shared, mni);
	struct test_shared_finish *post =
		container_of(finish, struct test_shared_finish, finish);

	mmu_test_stop(&post->entered, &post->leave);
	atomic_inc(&ts->nr_finished);
}

static const struct mmu_interval_notifier_ops test_shared_ops = {
	.invalidate_start = test_shared_start,
	.invalidate_finish = test_shared_finish,
};

static void test_shared_init(struct kunit *test, struct test_shared *ts)
{
	int i;

	for (i = 0; i < 2; i++) {
		init_completion(&ts->posts[i].entered);
		init_completion(&ts->posts[i].leave);
	}
	KUNIT_ASSERT_EQ(test, 0,
			mmu_interval_notifier_insert(&ts->mni, mmu_test_mm(test),
						     PG(0), PG(5), &test_shared_ops));
}

/* Removal must wait for both posted invalidations, not just for one. */
static void regress_remove_waits_for_all_posts(struct kunit *test)
{
	struct mmu_test_thread inv[2] = {};
	struct test_shared *ts = kunit_kzalloc(test, sizeof(*ts), GFP_KERNEL);
	struct mmu_test_thread remover = { .fn = mmu_test_do_remove };
	int i;

	KUNIT_ASSERT_NOT_NULL(test, ts);
	test_shared_init(test, ts);
	for (i = 0; i < 2; i++) {
		inv[i].fn = mmu_test_do_invalidate;
		inv[i].first_page = i + 1;
		inv[i].nr_pages = 1;
		mmu_test_run(test, &inv[i]);
		mmu_test_await(test, &ts->posts[i].entered);
	}
	remover.arg = &ts->mni;
	mmu_test_run(test, &remover);
	mmu_test_wait(test, atomic_read(&ts->mni.nr_posted) & MMU_INTERVAL_AWAITED);
	complete(&ts->posts[1].leave);
	mmu_test_join(test, &inv[1]);
	KUNIT_EXPECT_FALSE(test, wait_for_completion_timeout(&remover.done, HZ / 5));
	complete(&ts->posts[0].leave);
	mmu_test_join(test, &remover);
	KUNIT_EXPECT_EQ(test, 2, atomic_read(&ts->nr_finished));
	mmu_test_join(test, &inv[0]);
}

struct refusal_case {
	const char *name;
	int refuser;
	bool list;
};

/* The notifiers are called in the order of their addresses. */
static const struct refusal_case refusal_cases[] = {
	{ "none", -1, false },	{ "first", 0, false }, { "second", 1, false },
	{ "third", 2, false },	{ "list", -1, true },
};
KUNIT_ARRAY_PARAM_DESC(refusal, refusal_cases, name);

static void refused_start_finishes_what_was_posted(struct kunit *test)
{
	const struct refusal_case *c = test->param_value;
	bool refused = c->list || c->refuser >= 0;
	struct test_phased tp[NR_NOTIFIERS] = {};
	struct mmu_test_list tl = { .refuse = c->list };
	struct mmu_notifier_range range;
	int i, clock = 0;

	test_insert_all(test, tp, &clock);
	mmu_test_register(test, &tl);
	for (i = 0; i < NR_NOTIFIERS; i++)
		tp[i].refuse = i == c->refuser;
	mmu_test_range_init(test, &range, 0, 50);
	KUNIT_EXPECT_EQ(test, refused ? -EAGAIN : 0,
			mmu_notifier_invalidate_range_start_nonblock(&range));
	for (i = 0; i < NR_NOTIFIERS; i++) {
		bool called = c->refuser < 0 || i < c->refuser;

		KUNIT_EXPECT_EQ(test, called, tp[i].started != 0);
		KUNIT_EXPECT_EQ(test, called, tp[i].finished != 0);
	}
	if (!refused)
		mmu_notifier_invalidate_range_end(&range);
	KUNIT_EXPECT_EQ(test, 0, range.shard);
	/* Would hang if the range were still active or posted to a notifier. */
	mmu_interval_read_begin(&tp[0].mni);
	test_remove_all(tp);
	mmu_notifier_unregister(&tl.mn, mmu_test_mm(test));
}

static void exit_finishes_what_it_posts(struct kunit *test)
{
	struct mmu_test_state *state = test->priv;
	struct mm_struct *mm = state->mm;
	struct test_phased tp = {};
	int clock = 0;

	test_insert_phased(test, &tp, &clock, 0, 5);
	mmgrab(mm);
	state->mm = NULL;
	mmput(mm);
	KUNIT_EXPECT_EQ(test, 1, tp.started);
	KUNIT_EXPECT_EQ(test, 2, tp.finished);
	mmu_interval_notifier_remove(&tp.mni);
	mmdrop(mm);
}

static void incomplete_ops_are_refused(struct kunit *test)
{
	static const struct mmu_interval_notifier_ops bad[] = {
		{},
		{ .invalidate_start = test_phased_start },
		{ .invalidate_finish = test_phased_finish },
	};
	struct mmu_interval_notifier mni;
	int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		KUNIT_EXPECT_EQ(test, -EINVAL,
				mmu_interval_notifier_insert(&mni, mmu_test_mm(test),
							     PG(1), PG(1), &bad[i]));
}

static struct kunit_case test_cases[] = {
	KUNIT_CASE(all_are_posted_before_any_is_finished),
	KUNIT_CASE(one_range_posts_to_a_hundred_thousand),
	KUNIT_CASE(list_notifiers_are_called_before_finish),
	KUNIT_CASE(start_that_posts_nothing_gets_no_finish),
	KUNIT_CASE(remove_waits_for_what_was_posted),
	KUNIT_CASE(remove_waits_between_the_phases),
	KUNIT_CASE(regress_remove_waits_for_all_posts),
	KUNIT_CASE_PARAM(refused_start_finishes_what_was_posted, refusal_gen_params),
	KUNIT_CASE(exit_finishes_what_it_posts),
	KUNIT_CASE(incomplete_ops_are_refused),
	{}
};

static struct kunit_suite test_suite = {
	.name = "mmu_notifier_two_phase",
	.init = mmu_test_init,
	.exit = mmu_test_exit,
	.test_cases = test_cases,
};
kunit_test_suite(test_suite);
