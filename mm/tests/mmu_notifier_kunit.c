// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests for the MMU notifier core, on an mm of their own. Races are
 * staged with stop points: a callback that waits to be let go, and a look at
 * the active set to see that somebody has come to wait.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/prandom.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>

#include "../mmu_notifier.h"

#define PG(n)		((n) * PAGE_SIZE)
#define TEST_TIMEOUT	(20 * HZ)

/* A list notifier that counts, and can refuse or stop in its callbacks. */
struct test_list {
	struct mmu_notifier mn;
	int nr_start;
	int nr_end;
	int nr_release;
	int nr_young;
	bool refuse;
	struct completion *entered;
	struct completion *leave;
	struct mmu_notifier_range last;
};

static void test_stop(struct completion *entered, struct completion *leave)
{
	if (!entered)
		return;
	complete(entered);
	wait_for_completion(leave);
}

static int test_list_start(struct mmu_notifier *mn,
			   const struct mmu_notifier_range *range)
{
	struct test_list *tl = container_of(mn, struct test_list, mn);

	if (tl->refuse && !mmu_notifier_range_blockable(range))
		return -EAGAIN;
	tl->nr_start++;
	tl->last = *range;
	test_stop(tl->entered, tl->leave);
	return 0;
}

static void test_list_end(struct mmu_notifier *mn,
			  const struct mmu_notifier_range *range)
{
	container_of(mn, struct test_list, mn)->nr_end++;
}

static void test_list_release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	container_of(mn, struct test_list, mn)->nr_release++;
}

static int test_list_young(struct mmu_notifier *mn, struct mm_struct *mm,
			   unsigned long start, unsigned long end)
{
	return container_of(mn, struct test_list, mn)->nr_young++ == 0;
}

static const struct mmu_notifier_ops test_list_ops = {
	.invalidate_range_start = test_list_start,
	.invalidate_range_end = test_list_end,
	.release = test_list_release,
	.clear_young = test_list_young,
};

/* An interval notifier of the same kind. */
struct test_interval {
	struct mmu_interval_notifier mni;
	int nr_called;
	bool refuse;
	struct completion *entered;
	struct completion *leave;
	enum mmu_notifier_event event;
	unsigned long seq;
};

static bool test_interval_invalidate(struct mmu_interval_notifier *mni,
				     const struct mmu_notifier_range *range,
				     unsigned long seq)
{
	struct test_interval *ti = container_of(mni, struct test_interval, mni);

	if (ti->refuse && !mmu_notifier_range_blockable(range))
		return false;
	ti->nr_called++;
	ti->event = range->event;
	ti->seq = seq;
	mmu_interval_set_seq(mni, seq);
	test_stop(ti->entered, ti->leave);
	return true;
}

static const struct mmu_interval_notifier_ops test_interval_ops = {
	.invalidate = test_interval_invalidate,
};

struct test_mm {
	struct mm_struct *mm;
	struct completion entered;
	struct completion leave;
};

static int test_init(struct kunit *test)
{
	struct test_mm *tm = kunit_kzalloc(test, sizeof(*tm), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, tm);
	tm->mm = mm_alloc();
	KUNIT_ASSERT_NOT_NULL(test, tm->mm);
	init_completion(&tm->entered);
	init_completion(&tm->leave);
	test->priv = tm;
	return 0;
}

static void test_exit(struct kunit *test)
{
	struct test_mm *tm = test->priv;

	if (tm && tm->mm)
		mmput(tm->mm);
}

static struct mm_struct *test_mm(struct kunit *test)
{
	return ((struct test_mm *)test->priv)->mm;
}

static void test_insert(struct kunit *test, struct test_interval *ti,
			unsigned long first_page, unsigned long nr_pages)
{
	KUNIT_ASSERT_EQ(test, 0,
			mmu_interval_notifier_insert(&ti->mni, test_mm(test),
						     PG(first_page), PG(nr_pages),
						     &test_interval_ops));
}

static void test_register(struct kunit *test, struct test_list *tl)
{
	tl->mn.ops = &test_list_ops;
	KUNIT_ASSERT_EQ(test, 0, mmu_notifier_register(&tl->mn, test_mm(test)));
}

static void test_range_init(struct kunit *test, struct mmu_notifier_range *range,
			    unsigned long first_page, unsigned long nr_pages)
{
	mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, test_mm(test),
				PG(first_page), PG(first_page + nr_pages));
}

static void test_invalidate(struct kunit *test, unsigned long first_page,
			    unsigned long nr_pages)
{
	struct mmu_notifier_range range;

	test_range_init(test, &range, first_page, nr_pages);
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
}

/* Something that another thread does; waited for with a limit. */
struct test_thread {
	struct kunit *test;
	void (*fn)(struct test_thread *thread);
	void *arg;
	unsigned long first_page;
	unsigned long nr_pages;
	struct completion done;
};

static int test_thread_main(void *data)
{
	struct test_thread *thread = data;

	thread->fn(thread);
	complete(&thread->done);
	return 0;
}

static void test_run(struct kunit *test, struct test_thread *thread)
{
	struct task_struct *task;

	thread->test = test;
	init_completion(&thread->done);
	task = kthread_run(test_thread_main, thread, "mmu_notifier_test");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
}

static void test_join(struct kunit *test, struct test_thread *thread)
{
	KUNIT_ASSERT_TRUE_MSG(test,
			      wait_for_completion_timeout(&thread->done, TEST_TIMEOUT),
			      "the thread did not finish");
}

static void do_invalidate(struct test_thread *thread)
{
	test_invalidate(thread->test, thread->first_page, thread->nr_pages);
}

static void do_remove(struct test_thread *thread)
{
	mmu_interval_notifier_remove(thread->arg);
}

static void do_read_begin(struct test_thread *thread)
{
	mmu_interval_read_begin(thread->arg);
}

static void do_register(struct test_thread *thread)
{
	test_register(thread->test, thread->arg);
}

/* Until somebody waits for @range, which is ours and stays where it is. */
static void test_wait_awaited(struct kunit *test, struct mmu_notifier_range *range)
{
	unsigned long limit = jiffies + TEST_TIMEOUT;

	while (!READ_ONCE(range->awaited)) {
		KUNIT_ASSERT_TRUE_MSG(test, time_before(jiffies, limit),
				      "nobody came to wait for the range");
		usleep_range(100, 200);
	}
}

static void test_wait_removing(struct kunit *test, struct test_interval *ti)
{
	unsigned long limit = jiffies + TEST_TIMEOUT;

	while (!(atomic_read(&ti->mni.state) & 1)) {
		KUNIT_ASSERT_TRUE_MSG(test, time_before(jiffies, limit),
				      "nobody came to remove the notifier");
		usleep_range(100, 200);
	}
}

static void unarmed_mm_records_nothing(struct kunit *test)
{
	struct mmu_notifier_range range;

	test_range_init(test, &range, 1, 1);
	mmu_notifier_invalidate_range_start(&range);
	KUNIT_EXPECT_NULL(test, range.shard);
	mmu_notifier_invalidate_range_end(&range);
	KUNIT_EXPECT_FALSE(test, mm_has_notifiers(test_mm(test)));
	KUNIT_EXPECT_NULL(test, test_mm(test)->notifier_subscriptions);
}

static void list_notifier_hears_every_range(struct kunit *test)
{
	struct test_list tl = {};

	test_register(test, &tl);
	test_invalidate(test, 3, 2);
	KUNIT_EXPECT_EQ(test, 1, tl.nr_start);
	KUNIT_EXPECT_EQ(test, 1, tl.nr_end);
	KUNIT_EXPECT_EQ(test, PG(3), tl.last.start);
	KUNIT_EXPECT_EQ(test, PG(5), tl.last.end);
	KUNIT_EXPECT_EQ(test, MMU_NOTIFY_CLEAR, tl.last.event);
	KUNIT_EXPECT_TRUE(test, mmu_notifier_range_blockable(&tl.last));
	mmu_notifier_unregister(&tl.mn, test_mm(test));
	test_invalidate(test, 3, 2);
	KUNIT_EXPECT_EQ(test, 1, tl.nr_start);
	KUNIT_EXPECT_EQ(test, 1, tl.nr_release);
}

static void empty_range_calls_nobody(struct kunit *test)
{
	struct test_interval ti = {};
	struct test_list tl = {};

	test_register(test, &tl);
	test_insert(test, &ti, 0, 100);
	test_invalidate(test, 7, 0);
	KUNIT_EXPECT_EQ(test, 0, tl.nr_start);
	KUNIT_EXPECT_EQ(test, 0, tl.nr_end);
	KUNIT_EXPECT_EQ(test, 0, ti.nr_called);
	mmu_interval_notifier_remove(&ti.mni);
	mmu_notifier_unregister(&tl.mn, test_mm(test));
}

static void age_callbacks_reach_all(struct kunit *test)
{
	struct test_list a = {}, b = {};
	struct mm_struct *mm = test_mm(test);

	KUNIT_EXPECT_EQ(test, 0, mmu_notifier_clear_young(mm, PG(1), PG(2)));
	test_register(test, &a);
	test_register(test, &b);
	KUNIT_EXPECT_NE(test, 0, mmu_notifier_clear_young(mm, PG(1), PG(2)));
	KUNIT_EXPECT_EQ(test, 1, a.nr_young);
	KUNIT_EXPECT_EQ(test, 1, b.nr_young);
	KUNIT_EXPECT_EQ(test, 0, mmu_notifier_clear_young(mm, PG(1), PG(2)));
	/* An op that nobody has */
	KUNIT_EXPECT_EQ(test, 0, mmu_notifier_clear_flush_young(mm, PG(1), PG(2)));
	mmu_notifier_unregister(&a.mn, mm);
	mmu_notifier_unregister(&b.mn, mm);
}

struct overlap_case {
	const char *name;
	unsigned long first_page, nr_pages;
	bool hit;
};

/* Against an interval of pages 10 to 19 */
static const struct overlap_case overlap_cases[] = {
	{ "before", 0, 9, false },	{ "adjacent below", 8, 2, false },
	{ "last page below", 8, 3, true }, { "inside", 12, 1, true },
	{ "same", 10, 10, true },	{ "around", 1, 100, true },
	{ "last page", 19, 1, true },	{ "adjacent above", 20, 4, false },
};
KUNIT_ARRAY_PARAM_DESC(overlap, overlap_cases, name);

static void interval_hears_what_overlaps(struct kunit *test)
{
	const struct overlap_case *c = test->param_value;
	struct test_interval ti = {};
	unsigned long seq;

	test_insert(test, &ti, 10, 10);
	seq = mmu_interval_read_begin(&ti.mni);
	KUNIT_EXPECT_FALSE(test, mmu_interval_read_retry(&ti.mni, seq));
	test_invalidate(test, c->first_page, c->nr_pages);
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
			mmu_interval_notifier_insert(&mni, test_mm(test), PG(1), 0,
						     &test_interval_ops));
	KUNIT_EXPECT_EQ(test, -EOVERFLOW,
			mmu_interval_notifier_insert(&mni, test_mm(test), -PAGE_SIZE,
						     PG(2), &test_interval_ops));
	KUNIT_EXPECT_NULL(test, test_mm(test)->notifier_subscriptions);
}

static void read_begin_waits_for_overlapping_range(struct kunit *test)
{
	struct test_interval ti = {};
	struct mmu_notifier_range range;
	struct test_thread reader = { .fn = do_read_begin, .arg = &ti.mni };

	test_insert(test, &ti, 10, 10);
	test_range_init(test, &range, 15, 1);
	mmu_notifier_invalidate_range_start(&range);
	test_run(test, &reader);
	test_wait_awaited(test, &range);
	KUNIT_EXPECT_FALSE(test, completion_done(&reader.done));
	mmu_notifier_invalidate_range_end(&range);
	test_join(test, &reader);
	mmu_interval_notifier_remove(&ti.mni);
}

static void read_begin_ignores_unrelated_range(struct kunit *test)
{
	struct test_interval ti = {};
	struct mmu_notifier_range range;
	struct test_thread reader = { .fn = do_read_begin, .arg = &ti.mni };

	test_insert(test, &ti, 10, 10);
	test_range_init(test, &range, 20, 1);
	mmu_notifier_invalidate_range_start(&range);
	test_run(test, &reader);
	test_join(test, &reader);
	KUNIT_EXPECT_FALSE(test, range.awaited);
	mmu_notifier_invalidate_range_end(&range);
	mmu_interval_notifier_remove(&ti.mni);
}

/* A later overlapping range changes the sequence; it does not prolong the wait. */
static void read_begin_does_not_wait_for_later_ranges(struct kunit *test)
{
	struct test_interval ti = {};
	struct mmu_notifier_range first, later;
	struct test_thread reader = { .fn = do_read_begin, .arg = &ti.mni };

	test_insert(test, &ti, 10, 10);
	test_range_init(test, &first, 15, 1);
	test_range_init(test, &later, 16, 1);
	/* One CPU, so one shard: in a later shard it would rightly be seen. */
	migrate_disable();
	mmu_notifier_invalidate_range_start(&first);
	test_run(test, &reader);
	test_wait_awaited(test, &first);
	mmu_notifier_invalidate_range_start(&later);
	KUNIT_EXPECT_PTR_EQ(test, first.shard, later.shard);
	mmu_notifier_invalidate_range_end(&first);
	test_join(test, &reader);
	mmu_notifier_invalidate_range_end(&later);
	migrate_enable();
	mmu_interval_notifier_remove(&ti.mni);
}

static void insert_during_invalidation_makes_readers_wait(struct kunit *test)
{
	struct test_interval other = {}, ti = {};
	struct mmu_notifier_range range;
	struct test_thread reader = { .fn = do_read_begin, .arg = &ti.mni };

	test_insert(test, &other, 500, 1);
	test_range_init(test, &range, 15, 1);
	mmu_notifier_invalidate_range_start(&range);
	/* Immediate: it would hang here if it waited for the range. */
	test_insert(test, &ti, 10, 10);
	KUNIT_EXPECT_EQ(test, 0, ti.nr_called);
	test_run(test, &reader);
	test_wait_awaited(test, &range);
	KUNIT_EXPECT_FALSE(test, completion_done(&reader.done));
	mmu_notifier_invalidate_range_end(&range);
	test_join(test, &reader);
	mmu_interval_notifier_remove(&ti.mni);
	mmu_interval_notifier_remove(&other.mni);
}

/* Another thread's invalidation stands in the callback of a notifier of ours. */
static void test_enter_callback(struct kunit *test, struct test_thread *inv)
{
	struct test_mm *tm = test->priv;

	test_run(test, inv);
	wait_for_completion(&tm->entered);
}

/* And one more thread has come to remove that notifier. */
static void test_stage_removal(struct kunit *test, struct test_interval *ti,
			       struct test_thread *inv, struct test_thread *remover)
{
	test_insert(test, ti, 10, 10);
	test_enter_callback(test, inv);
	test_run(test, remover);
	test_wait_removing(test, ti);
}

/* Let the callback go; both threads come to their end. */
static void test_finish_removal(struct kunit *test, struct test_thread *inv,
				struct test_thread *remover)
{
	struct test_mm *tm = test->priv;

	complete(&tm->leave);
	test_join(test, remover);
	test_join(test, inv);
}

static void remove_waits_for_its_own_callback(struct kunit *test)
{
	struct test_mm *tm = test->priv;
	struct test_interval ti = { .entered = &tm->entered, .leave = &tm->leave };
	struct test_thread inv = { .fn = do_invalidate, .first_page = 12, .nr_pages = 1 };
	struct test_thread remover = { .fn = do_remove, .arg = &ti.mni };

	test_stage_removal(test, &ti, &inv, &remover);
	KUNIT_EXPECT_FALSE(test, completion_done(&remover.done));
	test_finish_removal(test, &inv, &remover);
}

static void remove_ignores_other_callbacks(struct kunit *test)
{
	struct test_mm *tm = test->priv;
	struct test_interval busy = { .entered = &tm->entered, .leave = &tm->leave };
	struct test_interval next = {}, before = {};
	struct test_thread inv = { .fn = do_invalidate, .first_page = 0, .nr_pages = 100 };

	test_insert(test, &before, 1, 1);
	test_insert(test, &busy, 10, 10);
	test_insert(test, &next, 30, 10);
	test_enter_callback(test, &inv);
	/* The walker stands at busy: both neighbours may go, and one may come. */
	mmu_interval_notifier_remove(&before.mni);
	mmu_interval_notifier_remove(&next.mni);
	KUNIT_EXPECT_EQ(test, 0, next.nr_called);
	test_insert(test, &next, 40, 1);
	complete(&tm->leave);
	test_join(test, &inv);
	KUNIT_EXPECT_EQ(test, 1, next.nr_called);
	mmu_interval_notifier_remove(&next.mni);
	mmu_interval_notifier_remove(&busy.mni);
}

static void removed_notifier_is_not_called_again(struct kunit *test)
{
	struct test_mm *tm = test->priv;
	struct test_interval ti = { .entered = &tm->entered, .leave = &tm->leave };
	struct test_thread inv = { .fn = do_invalidate, .first_page = 12, .nr_pages = 1 };
	struct test_thread remover = { .fn = do_remove, .arg = &ti.mni };

	test_stage_removal(test, &ti, &inv, &remover);
	/* Marked, still in the tree: another walker passes it by. */
	test_invalidate(test, 13, 1);
	KUNIT_EXPECT_EQ(test, 1, ti.nr_called);
	test_finish_removal(test, &inv, &remover);
}

struct refusal_case {
	const char *name;
	unsigned int list_mask;
	bool interval;
};

static const struct refusal_case refusal_cases[] = {
	{ "nobody", 0, false },	{ "newest", 4, false }, { "middle", 2, false },
	{ "oldest", 1, false }, { "two", 5, false },	{ "all", 7, false },
	{ "interval", 0, true }, { "both kinds", 7, true },
};
KUNIT_ARRAY_PARAM_DESC(refusal, refusal_cases, name);

static void refused_start_is_undone_exactly(struct kunit *test)
{
	const struct refusal_case *c = test->param_value;
	struct test_interval ti = { .refuse = c->interval };
	struct test_list tl[3] = {};
	struct mmu_notifier_range range;
	bool refused = c->interval || c->list_mask;
	int i, ret;

	test_insert(test, &ti, 10, 10);
	for (i = 0; i < 3; i++) {
		tl[i].refuse = c->list_mask & BIT(i);
		test_register(test, &tl[i]);
	}
	test_range_init(test, &range, 12, 1);
	ret = mmu_notifier_invalidate_range_start_nonblock(&range);
	KUNIT_EXPECT_EQ(test, refused ? -EAGAIN : 0, ret);
	for (i = 0; i < 3; i++)
		KUNIT_EXPECT_EQ(test, refused ? tl[i].nr_start : 0, tl[i].nr_end);
	KUNIT_EXPECT_EQ(test, refused, !range.shard);
	if (!ret)
		mmu_notifier_invalidate_range_end(&range);
	/* The newest is asked first, and nobody behind the first refusal. */
	for (i = 0; i < 3; i++)
		KUNIT_EXPECT_EQ(test, !c->interval && !(c->list_mask >> i),
				tl[i].nr_start);
	/* Nothing stays active: this would wait for it. */
	mmu_interval_read_begin(&ti.mni);
	for (i = 0; i < 3; i++)
		mmu_notifier_unregister(&tl[i].mn, test_mm(test));
	mmu_interval_notifier_remove(&ti.mni);
}

static void late_list_notifier_does_not_end_earlier_range(struct kunit *test)
{
	struct test_list first = {}, late = {};
	struct mmu_notifier_range range;
	struct test_thread thread = { .fn = do_register, .arg = &late };

	test_register(test, &first);
	test_range_init(test, &range, 1, 1);
	mmu_notifier_invalidate_range_start(&range);
	test_run(test, &thread);
	test_wait_awaited(test, &range);
	KUNIT_EXPECT_FALSE(test, completion_done(&thread.done));
	/* In the list by now, and a new range reaches both. */
	test_invalidate(test, 50, 1);
	KUNIT_EXPECT_EQ(test, 1, late.nr_start);
	KUNIT_EXPECT_EQ(test, 1, late.nr_end);
	mmu_notifier_invalidate_range_end(&range);
	test_join(test, &thread);
	KUNIT_EXPECT_EQ(test, 2, first.nr_end);
	KUNIT_EXPECT_EQ(test, 1, late.nr_end);
	mmu_notifier_unregister(&late.mn, test_mm(test));
	mmu_notifier_unregister(&first.mn, test_mm(test));
}

static void unregister_in_the_middle_of_a_pair(struct kunit *test)
{
	struct test_list gone = {}, stays = {};
	struct mmu_notifier_range range;

	test_register(test, &stays);
	test_register(test, &gone);
	test_range_init(test, &range, 1, 1);
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_unregister(&gone.mn, test_mm(test));
	mmu_notifier_invalidate_range_end(&range);
	KUNIT_EXPECT_EQ(test, 0, gone.nr_end);
	KUNIT_EXPECT_EQ(test, 1, stays.nr_end);
	mmu_notifier_unregister(&stays.mn, test_mm(test));
}

static void last_subscriber_leaves_in_the_middle_of_a_pair(struct kunit *test)
{
	struct test_interval ti = {};
	struct mmu_notifier_range range;

	test_insert(test, &ti, 1, 1);
	test_range_init(test, &range, 1, 1);
	mmu_notifier_invalidate_range_start(&range);
	mmu_interval_notifier_remove(&ti.mni);
	mmu_notifier_invalidate_range_end(&range);
	KUNIT_EXPECT_EQ(test, 1, ti.nr_called);
	KUNIT_EXPECT_NULL(test, range.shard);
}

static void ranges_nest_and_overlap(struct kunit *test)
{
	struct test_interval ti = {};
	struct test_list tl = {};
	struct mmu_notifier_range a, b;

	test_insert(test, &ti, 10, 10);
	test_register(test, &tl);
	test_range_init(test, &a, 5, 10);
	test_range_init(test, &b, 12, 10);
	mmu_notifier_invalidate_range_start(&a);
	mmu_notifier_invalidate_range_start(&b);
	KUNIT_EXPECT_EQ(test, 2, ti.nr_called);
	mmu_notifier_invalidate_range_end(&a);
	mmu_notifier_invalidate_range_end(&b);
	KUNIT_EXPECT_EQ(test, 2, tl.nr_start);
	KUNIT_EXPECT_EQ(test, 2, tl.nr_end);
	mmu_interval_read_begin(&ti.mni);
	mmu_notifier_unregister(&tl.mn, test_mm(test));
	mmu_interval_notifier_remove(&ti.mni);
}

static void exit_releases_once(struct kunit *test)
{
	struct test_mm *tm = test->priv;
	struct mm_struct *mm = tm->mm;
	struct test_interval ti = {};
	struct test_list tl = {};

	test_register(test, &tl);
	test_insert(test, &ti, 10, 10);
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

/* Two gets share one notifier; it is freed after the second put. */
static int test_nr_allocated, test_nr_freed;

static struct mmu_notifier *test_alloc_notifier(struct mm_struct *mm)
{
	struct test_list *tl = kzalloc(sizeof(*tl), GFP_KERNEL);

	if (!tl)
		return ERR_PTR(-ENOMEM);
	test_nr_allocated++;
	return &tl->mn;
}

static void test_free_notifier(struct mmu_notifier *mn)
{
	test_nr_freed++;
	kfree(container_of(mn, struct test_list, mn));
}

static const struct mmu_notifier_ops test_get_ops = {
	.invalidate_range_start = test_list_start,
	.invalidate_range_end = test_list_end,
	.alloc_notifier = test_alloc_notifier,
	.free_notifier = test_free_notifier,
};

static void get_shares_and_last_put_frees(struct kunit *test)
{
	struct mmu_notifier *a, *b;

	test_nr_allocated = 0;
	test_nr_freed = 0;
	a = mmu_notifier_get(&test_get_ops, test_mm(test));
	KUNIT_ASSERT_FALSE(test, IS_ERR(a));
	b = mmu_notifier_get(&test_get_ops, test_mm(test));
	KUNIT_EXPECT_PTR_EQ(test, a, b);
	mmu_notifier_put(a);
	mmu_notifier_synchronize();
	KUNIT_EXPECT_EQ(test, 0, test_nr_freed);
	test_invalidate(test, 1, 1);
	KUNIT_EXPECT_EQ(test, 1, container_of(b, struct test_list, mn)->nr_end);
	mmu_notifier_put(b);
	mmu_notifier_synchronize();
	KUNIT_EXPECT_EQ(test, 1, test_nr_allocated);
	KUNIT_EXPECT_EQ(test, 1, test_nr_freed);
}

/* As if it had been idle for long: the work runs now and finds it so. */
static void test_age_idle(struct kunit *test, struct mmu_notifier_subscriptions *subs)
{
	/* The work owns a reference on the mm, so it must not run uncalled for. */
	KUNIT_ASSERT_TRUE(test, subs->disarm_pending);
	spin_lock(&subs->lock);
	subs->idle_since -= 10 * HZ;
	spin_unlock(&subs->lock);
	mod_delayed_work(system_unbound_wq, &subs->disarm_work, 0);
	flush_delayed_work(&subs->disarm_work);
}

static void idle_mm_is_disarmed(struct kunit *test)
{
	struct mm_struct *mm = test_mm(test);
	struct mmu_notifier_subscriptions *subs;
	struct mmu_notifier_range range;
	struct test_interval ti = {};

	test_insert(test, &ti, 1, 1);
	subs = mmu_notifier_subscriptions(mm);
	test_range_init(test, &range, 1, 1);
	mmu_notifier_invalidate_range_start(&range);
	mmu_interval_notifier_remove(&ti.mni);
	KUNIT_EXPECT_TRUE(test, mm_has_notifiers(mm));
	test_age_idle(test, subs);
	KUNIT_EXPECT_FALSE(test, mm_has_notifiers(mm));
	/* In flight across the disarming */
	mmu_notifier_invalidate_range_end(&range);
	KUNIT_EXPECT_NULL(test, range.shard);

	test_insert(test, &ti, 1, 1);
	KUNIT_EXPECT_PTR_EQ(test, subs, mmu_notifier_subscriptions(mm));
	test_invalidate(test, 1, 1);
	KUNIT_EXPECT_EQ(test, 2, ti.nr_called);
	mmu_interval_notifier_remove(&ti.mni);
}

static void mm_in_use_is_not_disarmed(struct kunit *test)
{
	struct mm_struct *mm = test_mm(test);
	struct mmu_notifier_subscriptions *subs;
	struct test_interval ti = {};

	test_insert(test, &ti, 1, 1);
	mmu_interval_notifier_remove(&ti.mni);
	KUNIT_ASSERT_EQ(test, 0, mmu_notifier_arm(mm));
	subs = mmu_notifier_subscriptions(mm);
	test_age_idle(test, subs);
	KUNIT_EXPECT_TRUE(test, mm_has_notifiers(mm));
	mmu_notifier_disarm(mm);
	/* Not yet: it has not been idle for a second. */
	flush_delayed_work(&subs->disarm_work);
	KUNIT_EXPECT_TRUE(test, mm_has_notifiers(mm));
	KUNIT_EXPECT_TRUE(test, subs->disarm_pending);
}

static void arming_gives_way_to_a_signal(struct kunit *test)
{
	struct mm_struct *mm = test_mm(test);
	struct vm_area_struct *vma = vm_area_alloc(mm);
	struct test_interval ti = {};

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

	test_insert(test, &ti, 1, 1);
	mmu_interval_notifier_remove(&ti.mni);
	test_age_idle(test, mmu_notifier_subscriptions(mm));
	/* Again: it cannot fail now. */
	set_thread_flag(TIF_SIGPENDING);
	KUNIT_EXPECT_EQ(test, 0, mmu_notifier_arm(mm));
	clear_thread_flag(TIF_SIGPENDING);
	mmu_notifier_disarm(mm);
}

static void sequence_survives_wrapping(struct kunit *test)
{
	struct test_interval ti = {};
	unsigned long seq, i;

	test_insert(test, &ti, 1, 1);
	atomic_long_set(&mmu_notifier_subscriptions(test_mm(test))->seq, -5);
	for (i = 0; i < 6; i++) {
		seq = mmu_interval_read_begin(&ti.mni);
		test_invalidate(test, 1, 1);
		KUNIT_EXPECT_TRUE(test, mmu_interval_read_retry(&ti.mni, seq));
		KUNIT_EXPECT_EQ(test, 1, ti.seq & 1);
	}
	mmu_interval_notifier_remove(&ti.mni);
}

static int test_guarded(struct kunit *test, struct test_list *tl)
{
	mmu_invalidate_guard(range, MMU_NOTIFY_UNMAP, 0, test_mm(test), PG(1), PG(2));

	KUNIT_EXPECT_EQ(test, PG(1), range->start);
	KUNIT_EXPECT_EQ(test, 1, tl->nr_start);
	KUNIT_EXPECT_EQ(test, 0, tl->nr_end);
	return tl->nr_start;
}

/* A scope that ends a function with a value; must compile without a warning. */
static int test_scoped_return(struct kunit *test)
{
	scoped_mmu_invalidate(MMU_NOTIFY_CLEAR, 0, test_mm(test), PG(3), PG(4))
		return 7;
}

static void scopes_start_and_end(struct kunit *test)
{
	struct test_list tl = {};
	bool refused = false;
	int nr_inside = 0;

	test_register(test, &tl);
	KUNIT_EXPECT_EQ(test, 1, test_guarded(test, &tl));
	KUNIT_EXPECT_EQ(test, 1, tl.nr_end);
	scoped_mmu_invalidate(MMU_NOTIFY_CLEAR, 0, test_mm(test), PG(3), PG(4)) {
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
				       test_mm(test), PG(3), PG(4))
		nr_inside++;
	KUNIT_EXPECT_TRUE(test, refused);
	KUNIT_EXPECT_EQ(test, 1, nr_inside);
	tl.refuse = false;
	scoped_mmu_invalidate_nonblock(refused = false, MMU_NOTIFY_UNMAP, 0,
				       test_mm(test), PG(3), PG(4))
		nr_inside++;
	KUNIT_EXPECT_TRUE(test, refused);
	KUNIT_EXPECT_EQ(test, 2, nr_inside);
	KUNIT_EXPECT_EQ(test, 4, tl.nr_start);
	KUNIT_EXPECT_EQ(test, 4, tl.nr_end);
	mmu_notifier_unregister(&tl.mn, test_mm(test));
}

/* Hits as a brute-force look at all intervals would have them. */
static void random_ranges_hit_what_they_overlap(struct kunit *test)
{
	enum { NR = 64, SPAN = 256, ROUNDS = 2000 };
	u32 seed = get_random_u32();
	struct test_interval *ti;
	struct rnd_state rnd;
	int i, round;

	kunit_info(test, "seed %u", seed);
	prandom_seed_state(&rnd, seed);
	ti = kunit_kcalloc(test, NR, sizeof(*ti), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, ti);
	for (round = 0; round < ROUNDS; round++) {
		unsigned long first = prandom_u32_state(&rnd) % SPAN;
		unsigned long nr = 1 + prandom_u32_state(&rnd) % 16;
		struct test_interval *pick = &ti[prandom_u32_state(&rnd) % NR];

		if (pick->mni.mm) {
			mmu_interval_notifier_remove(&pick->mni);
			pick->mni.mm = NULL;
		} else {
			test_insert(test, pick, prandom_u32_state(&rnd) % SPAN,
				    1 + prandom_u32_state(&rnd) % 32);
		}
		for (i = 0; i < NR; i++)
			ti[i].nr_called = 0;
		test_invalidate(test, first, nr);
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
	KUNIT_CASE(unarmed_mm_records_nothing),
	KUNIT_CASE(list_notifier_hears_every_range),
	KUNIT_CASE(empty_range_calls_nobody),
	KUNIT_CASE(age_callbacks_reach_all),
	KUNIT_CASE_PARAM(interval_hears_what_overlaps, overlap_gen_params),
	KUNIT_CASE(insert_refuses_bad_intervals),
	KUNIT_CASE(read_begin_waits_for_overlapping_range),
	KUNIT_CASE(read_begin_ignores_unrelated_range),
	KUNIT_CASE(read_begin_does_not_wait_for_later_ranges),
	KUNIT_CASE(insert_during_invalidation_makes_readers_wait),
	KUNIT_CASE(remove_waits_for_its_own_callback),
	KUNIT_CASE(remove_ignores_other_callbacks),
	KUNIT_CASE(removed_notifier_is_not_called_again),
	KUNIT_CASE_PARAM(refused_start_is_undone_exactly, refusal_gen_params),
	KUNIT_CASE(late_list_notifier_does_not_end_earlier_range),
	KUNIT_CASE(unregister_in_the_middle_of_a_pair),
	KUNIT_CASE(last_subscriber_leaves_in_the_middle_of_a_pair),
	KUNIT_CASE(ranges_nest_and_overlap),
	KUNIT_CASE(exit_releases_once),
	KUNIT_CASE(get_shares_and_last_put_frees),
	KUNIT_CASE(idle_mm_is_disarmed),
	KUNIT_CASE(mm_in_use_is_not_disarmed),
	KUNIT_CASE(arming_gives_way_to_a_signal),
	KUNIT_CASE(sequence_survives_wrapping),
	KUNIT_CASE(scopes_start_and_end),
	KUNIT_CASE_SLOW(random_ranges_hit_what_they_overlap),
	{}
};

static struct kunit_suite test_suite = {
	.name = "mmu_notifier",
	.init = test_init,
	.exit = test_exit,
	.test_cases = test_cases,
};
kunit_test_suite(test_suite);
