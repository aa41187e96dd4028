// SPDX-License-Identifier: GPL-2.0
/*
 * See mmu_notifier_fixture.h.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>

#include "mmu_notifier_fixture.h"

void mmu_test_stop(struct completion *entered, struct completion *leave)
{
	if (!entered)
		return;
	complete(entered);
	/* A test that fails does not complete @leave. Its threads must end. */
	wait_for_completion_timeout(leave, 2 * TEST_TIMEOUT);
}

int mmu_test_list_start(struct mmu_notifier *mn,
			const struct mmu_notifier_range *range)
{
	struct mmu_test_list *tl = container_of(mn, struct mmu_test_list, mn);

	if (tl->refuse && !mmu_notifier_range_blockable(range))
		return -EAGAIN;
	tl->nr_start++;
	tl->last = *range;
	mmu_test_stop(tl->entered, tl->leave);
	return 0;
}

void mmu_test_list_end(struct mmu_notifier *mn,
		       const struct mmu_notifier_range *range)
{
	container_of(mn, struct mmu_test_list, mn)->nr_end++;
}

static void mmu_test_list_release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	container_of(mn, struct mmu_test_list, mn)->nr_release++;
}

static int mmu_test_list_young(struct mmu_notifier *mn, struct mm_struct *mm,
			       unsigned long start, unsigned long end)
{
	return container_of(mn, struct mmu_test_list, mn)->nr_young++ == 0;
}

const struct mmu_notifier_ops mmu_test_list_ops = {
	.invalidate_range_start = mmu_test_list_start,
	.invalidate_range_end = mmu_test_list_end,
	.release = mmu_test_list_release,
	.clear_young = mmu_test_list_young,
};

static bool mmu_test_interval_invalidate(struct mmu_interval_notifier *mni,
					 const struct mmu_notifier_range *range,
					 unsigned long seq)
{
	struct mmu_test_interval *ti = container_of(mni, struct mmu_test_interval, mni);

	if (ti->refuse && !mmu_notifier_range_blockable(range))
		return false;
	ti->nr_called++;
	ti->event = range->event;
	ti->seq = seq;
	mmu_interval_set_seq(mni, seq);
	mmu_test_stop(ti->entered, ti->leave);
	return true;
}

const struct mmu_interval_notifier_ops mmu_test_interval_ops = {
	.invalidate = mmu_test_interval_invalidate,
};

int mmu_test_init(struct kunit *test)
{
	struct mmu_test_state *tm = kunit_kzalloc(test, sizeof(*tm), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, tm);
	tm->mm = mm_alloc();
	KUNIT_ASSERT_NOT_NULL(test, tm->mm);
	init_completion(&tm->entered);
	init_completion(&tm->leave);
	test->priv = tm;
	return 0;
}

void mmu_test_exit(struct kunit *test)
{
	struct mmu_test_state *tm = test->priv;

	if (tm && tm->mm)
		mmput(tm->mm);
}

struct mm_struct *mmu_test_mm(struct kunit *test)
{
	return ((struct mmu_test_state *)test->priv)->mm;
}

void mmu_test_insert(struct kunit *test, struct mmu_test_interval *ti,
		     unsigned long first_page, unsigned long nr_pages)
{
	KUNIT_ASSERT_EQ(test, 0,
			mmu_interval_notifier_insert(&ti->mni, mmu_test_mm(test),
						     PG(first_page), PG(nr_pages),
						     &mmu_test_interval_ops));
}

void mmu_test_register(struct kunit *test, struct mmu_test_list *tl)
{
	tl->mn.ops = &mmu_test_list_ops;
	KUNIT_ASSERT_EQ(test, 0, mmu_notifier_register(&tl->mn, mmu_test_mm(test)));
}

void mmu_test_range_init(struct kunit *test, struct mmu_notifier_range *range,
			 unsigned long first_page, unsigned long nr_pages)
{
	mmu_notifier_range_init(range, MMU_NOTIFY_CLEAR, 0, mmu_test_mm(test),
				PG(first_page), PG(first_page + nr_pages));
}

void mmu_test_invalidate(struct kunit *test, unsigned long first_page,
			 unsigned long nr_pages)
{
	struct mmu_notifier_range range;

	mmu_test_range_init(test, &range, first_page, nr_pages);
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
}

static int mmu_test_thread_main(void *data)
{
	struct mmu_test_thread *thread = data;

	thread->fn(thread);
	complete(&thread->done);
	return 0;
}

void mmu_test_run(struct kunit *test, struct mmu_test_thread *thread)
{
	struct task_struct *task;

	thread->test = test;
	init_completion(&thread->done);
	task = kthread_run(mmu_test_thread_main, thread, "mmu_notifier_test");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));
}

void mmu_test_join(struct kunit *test, struct mmu_test_thread *thread)
{
	KUNIT_ASSERT_TRUE_MSG(test,
			      wait_for_completion_timeout(&thread->done, TEST_TIMEOUT),
			      "the thread did not finish");
}

void mmu_test_do_invalidate(struct mmu_test_thread *thread)
{
	mmu_test_invalidate(thread->test, thread->first_page, thread->nr_pages);
}

void mmu_test_do_remove(struct mmu_test_thread *thread)
{
	mmu_interval_notifier_remove(thread->arg);
}

void mmu_test_do_read_begin(struct mmu_test_thread *thread)
{
	mmu_interval_read_begin(thread->arg);
}

void mmu_test_do_register(struct mmu_test_thread *thread)
{
	mmu_test_register(thread->test, thread->arg);
}

/* Wait until another thread completes @there. */
void mmu_test_await(struct kunit *test, struct completion *there)
{
	KUNIT_ASSERT_TRUE_MSG(test, wait_for_completion_timeout(there, TEST_TIMEOUT),
			      "timeout");
}

/* Wait until a task waits for the end of @range, which the caller owns. */
void mmu_test_wait_awaited(struct kunit *test, struct mmu_notifier_range *range)
{
	mmu_test_wait(test, READ_ONCE(range->awaited));
}

bool mmu_test_inserted(struct mmu_interval_notifier *mni)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mni->mm);
	struct interval_tree_node *node;

	spin_lock(&subs->lock);
	node = interval_tree_iter_first(&subs->intervals, 0, ULONG_MAX);
	while (node && node != &mni->interval_tree)
		node = interval_tree_iter_next(node, 0, ULONG_MAX);
	spin_unlock(&subs->lock);
	return node;
}

/* Wait until another thread has removed the notifier from the tree. */
void mmu_test_wait_removing(struct kunit *test, struct mmu_test_interval *ti)
{
	mmu_test_wait(test, !mmu_test_inserted(&ti->mni));
}

/* Start an invalidation, and return when it blocks in a callback. */
void mmu_test_enter_callback(struct kunit *test, struct mmu_test_thread *inv)
{
	struct mmu_test_state *tm = test->priv;

	mmu_test_run(test, inv);
	mmu_test_await(test, &tm->entered);
}

/* Simulate that the idle time has passed, and run the disarm work. */
void mmu_test_age_idle(struct kunit *test, struct mmu_notifier_subscriptions *subs)
{
	/* Only a queued work has the mm reference that running it drops. */
	KUNIT_ASSERT_TRUE(test, subs->disarm_pending);
	spin_lock(&subs->lock);
	subs->idle_since -= subs->idle_jiffies + 1;
	spin_unlock(&subs->lock);
	mod_delayed_work(system_unbound_wq, &subs->disarm_work, 0);
	flush_delayed_work(&subs->disarm_work);
}

/* Map anonymous memory in the mm of the test thread. No page is present. */
unsigned long mmu_test_map(struct kunit *test, unsigned long nr_pages)
{
	unsigned long base = kunit_vm_mmap(test, NULL, 0, PG(nr_pages), PROT_READ | PROT_WRITE,
					   MAP_ANONYMOUS | MAP_PRIVATE, 0);

	KUNIT_ASSERT_NE(test, 0, base);
	return base;
}

/*
 * Map the zero page. A later write fault replaces it with a copy, and announces
 * that as a range.
 */
void mmu_test_map_zero_page(struct kunit *test, unsigned long addr)
{
	KUNIT_ASSERT_EQ(test, 0, fault_in_readable((const char __user *)addr, 1));
}

int mmu_test_discard(unsigned long base, unsigned long first_page, unsigned long nr_pages)
{
	return do_madvise(current->mm, base + PG(first_page), PG(nr_pages), MADV_DONTNEED);
}

/* Fault in @addr for writing, and return the page that is mapped there. */
struct page *mmu_test_cpu_page(struct kunit *test, unsigned long addr)
{
	struct page *page = NULL;

	KUNIT_ASSERT_EQ(test, 1, get_user_pages_fast(addr, 1, FOLL_WRITE, &page));
	put_page(page);
	return page;
}
