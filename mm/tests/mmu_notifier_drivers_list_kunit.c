// SPDX-License-Identifier: GPL-2.0
/*
 * List notifiers that behave like drivers outside the tree:
 *
 * - i915: a list notifier for the whole process, and an interval notifier for
 *   each binding.
 * - XPMEM: its fault handler calls get_user_pages(), which can break COW and
 *   thereby call the notifier of the driver in the same task. Its end callback
 *   zaps another mapping.
 *
 * Documentation/mm/mmu_notifier_api.rst lists what each of them relies on.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/lockdep.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/sched/mm.h>

#include "mmu_notifier_fixture.h"

/* i915 */

struct i915_svm {
	struct mmu_notifier mn;
	struct mmu_interval_notifier mni;
	struct mutex mutex;	/* svm->mutex of i915; its callback takes it */
	int clock;
	int list_at;
	int interval_at;
	struct task_struct *task;
};

static bool i915_invalidate(struct mmu_interval_notifier *mni,
			    const struct mmu_notifier_range *range, unsigned long seq)
{
	struct i915_svm *svm = container_of(mni, struct i915_svm, mni);

	if (mmu_notifier_range_blockable(range))
		mutex_lock(&svm->mutex);
	else if (!mutex_trylock(&svm->mutex))
		return false;
	mmu_interval_set_seq(mni, seq);
	svm->interval_at = ++svm->clock;
	svm->task = current;
	mutex_unlock(&svm->mutex);
	return true;
}

static const struct mmu_interval_notifier_ops i915_interval_ops = {
	.invalidate = i915_invalidate,
};

static int i915_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct i915_svm *svm = container_of(mn, struct i915_svm, mn);

	if (!mmu_notifier_range_blockable(range))
		return -EAGAIN;
	svm->list_at = ++svm->clock;
	return 0;
}

static const struct mmu_notifier_ops i915_list_ops = { .invalidate_range_start = i915_start };

static void i915_bind(struct kunit *test, struct i915_svm *svm, struct mm_struct *mm)
{
	int ret;

	mutex_init(&svm->mutex);
	svm->mn.ops = &i915_list_ops;
	mmap_write_lock(mm);
	ret = __mmu_notifier_register(&svm->mn, mm);
	mmap_write_unlock(mm);
	KUNIT_ASSERT_EQ(test, 0, ret);
	KUNIT_ASSERT_EQ(test, 0, mmu_interval_notifier_insert(&svm->mni, mm, PG(10), PG(10),
							      &i915_interval_ops));
}

static void i915_unbind(struct i915_svm *svm)
{
	mmu_interval_notifier_remove(&svm->mni);
	mmu_notifier_unregister(&svm->mn, svm->mn.mm);
}

/* The list notifier unbinds the pages. The sequence must be set before. */
static void i915_interval_notifiers_come_before_the_list(struct kunit *test)
{
	struct i915_svm svm = {};

	i915_bind(test, &svm, mmu_test_mm(test));
	KUNIT_EXPECT_EQ(test, PG(10), svm.mni.interval_tree.start);
	KUNIT_EXPECT_EQ(test, PG(20) - 1, svm.mni.interval_tree.last);
	mmu_test_invalidate(test, 12, 1);
	KUNIT_EXPECT_EQ(test, 1, svm.interval_at);
	KUNIT_EXPECT_EQ(test, 2, svm.list_at);
	i915_unbind(&svm);
}

/* In its callback, i915 checks current->flags, and XPMEM current->tgid. */
static void i915_callback_runs_in_the_task_of_the_change(struct kunit *test)
{
	struct mmu_test_state *state = test->priv;
	struct mmu_test_thread inv = {
		.fn = mmu_test_do_invalidate, .first_page = 12, .nr_pages = 1,
	};
	struct mm_struct *mm = state->mm;
	struct i915_svm svm = {};

	i915_bind(test, &svm, mm);
	mmu_test_invalidate(test, 12, 1);
	KUNIT_EXPECT_PTR_EQ(test, current, svm.task);
	mmu_test_run(test, &inv);
	mmu_test_join(test, &inv);
	KUNIT_EXPECT_PTR_NE(test, current, svm.task);
	mmgrab(mm);
	state->mm = NULL;
	mmput(mm);
	KUNIT_EXPECT_PTR_EQ(test, current, svm.task);
	i915_unbind(&svm);
	mmdrop(mm);
}

/* A fault handler of the device holds the mutex. */
static void do_hold_mutex(struct mmu_test_thread *thread)
{
	struct mmu_test_state *state = thread->test->priv;
	struct i915_svm *svm = thread->arg;

	mutex_lock(&svm->mutex);
	mmu_test_stop(&state->entered, &state->leave);
	mutex_unlock(&svm->mutex);
}

static void i915_refused_range_can_be_tried_again(struct kunit *test)
{
	struct mmu_test_state *state = test->priv;
	struct i915_svm svm = {};
	struct mmu_test_thread fault = { .fn = do_hold_mutex, .arg = &svm };
	struct mmu_notifier_range range;

	i915_bind(test, &svm, mmu_test_mm(test));
	mmu_notifier_unregister(&svm.mn, mmu_test_mm(test));
	mmu_test_range_init(test, &range, 12, 1);
	mmu_test_enter_callback(test, &fault);
	KUNIT_EXPECT_EQ(test, -EAGAIN, mmu_notifier_invalidate_range_start_nonblock(&range));
	complete(&state->leave);
	mmu_test_join(test, &fault);
	KUNIT_EXPECT_EQ(test, 0, svm.interval_at);
	KUNIT_EXPECT_EQ(test, 0, mmu_notifier_invalidate_range_start_nonblock(&range));
	mmu_notifier_invalidate_range_end(&range);
	KUNIT_EXPECT_EQ(test, 1, svm.interval_at);
	mmu_interval_notifier_remove(&svm.mni);
}

/* XPMEM */

struct xpmem {
	struct mmu_notifier mn;
	unsigned long base;
	struct mutex fault_lock;	/* att->mutex, held over the lookup */
	struct mutex lock;		/* protects @page, @seq, @nr_active */
	struct task_struct *faulting;
	struct page *page;
	unsigned long seq;
	unsigned int nr_active;
	unsigned int nr_rounds;
	unsigned int nr_met;
	bool callback_wants_fault_lock;
	/* the attachment; in the same process here */
	struct vm_area_struct *attached;
	unsigned long attached_at;
	bool zapping;
	unsigned int nr_nested;
};

/*
 * The task may hold the lock already, and mutex_lock() would deadlock. For a
 * trylock, lockdep records no dependency.
 */
static void xpmem_meet_fault_lock(struct xpmem *x)
{
	if (mutex_trylock(&x->fault_lock)) {
		x->page = NULL;
		mutex_unlock(&x->fault_lock);
	} else if (x->faulting == current) {
		x->nr_met++;
	}
}

static int xpmem_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct xpmem *x = container_of(mn, struct xpmem, mn);

	if (range->start > x->base || range->end <= x->base)
		return 0;
	if (x->callback_wants_fault_lock) {
		xpmem_meet_fault_lock(x);
		return 0;
	}
	mutex_lock(&x->lock);
	x->nr_active++;
	x->page = NULL;
	mutex_unlock(&x->lock);
	return 0;
}

/* Zapping the attachment is a change of its own, inside an end callback. */
static void xpmem_zap_attachment(struct xpmem *x)
{
	if (x->zapping) {
		x->nr_nested++;
		return;
	}
	x->zapping = true;
	/*
	 * Lockdep reports this, as in 6.12: its map of notifiers is not
	 * recursive.
	 */
	lockdep_off();
	zap_page_range_single(x->attached, x->attached_at, PG(1), NULL);
	lockdep_on();
	x->zapping = false;
}

static void xpmem_end(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct xpmem *x = container_of(mn, struct xpmem, mn);

	if (x->attached)
		xpmem_zap_attachment(x);
	if (range->start > x->base || range->end <= x->base || x->callback_wants_fault_lock)
		return;
	mutex_lock(&x->lock);
	x->seq++;
	x->nr_active--;
	mutex_unlock(&x->lock);
}

static const struct mmu_notifier_ops xpmem_ops = {
	.invalidate_range_start = xpmem_start,
	.invalidate_range_end = xpmem_end,
};

static void xpmem_init(struct kunit *test, struct xpmem *x)
{
	mutex_init(&x->fault_lock);
	mutex_init(&x->lock);
	x->base = mmu_test_map(test, 1);
	x->mn.ops = &xpmem_ops;
	KUNIT_ASSERT_EQ(test, 0, mmu_notifier_register(&x->mn, current->mm));
	mmu_test_map_zero_page(test, x->base);
}

static struct page *xpmem_get_page(struct kunit *test, struct xpmem *x, unsigned int flags)
{
	struct page *page = NULL;

	mmap_read_lock(current->mm);
	KUNIT_EXPECT_EQ(test, 1, get_user_pages_remote(current->mm, x->base, 1, flags,
						       &page, NULL));
	mmap_read_unlock(current->mm);
	if (page)
		put_page(page);
	return page;
}

/* Returns false if the lookup collided. @page holds no reference. */
static bool xpmem_translate(struct kunit *test, struct xpmem *x, unsigned int flags)
{
	struct page *page;
	unsigned long seq;
	bool done;

	x->nr_rounds++;
	mutex_lock(&x->lock);
	seq = x->seq;
	mutex_unlock(&x->lock);
	page = xpmem_get_page(test, x, flags);
	mutex_lock(&x->lock);
	done = !x->nr_active && x->seq == seq;
	if (done)
		x->page = page;
	mutex_unlock(&x->lock);
	return done;
}

/*
 * The fault breaks COW, so its callback needs a lock that the fault holds. With
 * a trylock the callback cannot drop the translation, which remains stale.
 */
static void xpmem_callback_must_not_take_the_fault_lock(struct kunit *test)
{
	struct xpmem x = { .callback_wants_fault_lock = true };
	struct page *page;

	xpmem_init(test, &x);
	x.page = xpmem_get_page(test, &x, 0);
	mutex_lock(&x.fault_lock);
	x.faulting = current;
	page = xpmem_get_page(test, &x, FOLL_WRITE);
	x.faulting = NULL;
	mutex_unlock(&x.fault_lock);
	KUNIT_EXPECT_EQ(test, 1, x.nr_met);
	KUNIT_EXPECT_NOT_NULL(test, x.page);
	KUNIT_EXPECT_PTR_NE(test, page, x.page);
	mmu_notifier_unregister(&x.mn, current->mm);
}

static void xpmem_fault_that_breaks_cow_ends(struct kunit *test)
{
	struct xpmem x = {};
	struct page *zero;

	xpmem_init(test, &x);
	KUNIT_EXPECT_TRUE(test, xpmem_translate(test, &x, 0));
	zero = x.page;
	KUNIT_EXPECT_NOT_NULL(test, zero);
	x.nr_rounds = 0;
	/* The fault may hold this lock: the callback does not take it. */
	mutex_lock(&x.fault_lock);
	KUNIT_EXPECT_FALSE(test, xpmem_translate(test, &x, FOLL_WRITE));
	KUNIT_EXPECT_NULL(test, x.page);
	while (!xpmem_translate(test, &x, FOLL_WRITE) && x.nr_rounds < 10)
		;
	mutex_unlock(&x.fault_lock);
	KUNIT_EXPECT_EQ(test, 2, x.nr_rounds);
	KUNIT_EXPECT_PTR_NE(test, zero, x.page);
	KUNIT_EXPECT_PTR_EQ(test, mmu_test_cpu_page(test, x.base), x.page);
	mmu_notifier_unregister(&x.mn, current->mm);
}

static void xpmem_callback_may_zap_another_mapping(struct kunit *test)
{
	struct xpmem x = {};
	struct page *page;

	xpmem_init(test, &x);
	x.attached_at = mmu_test_map(test, 1);
	page = mmu_test_cpu_page(test, x.attached_at);
	get_page(page);
	mmap_read_lock(current->mm);
	x.attached = find_vma(current->mm, x.attached_at);
	mmap_read_unlock(current->mm);
	KUNIT_EXPECT_EQ(test, 0, mmu_test_discard(x.base, 0, 1));
	x.attached = NULL;
	KUNIT_EXPECT_EQ(test, 1, x.nr_nested);
	KUNIT_EXPECT_EQ(test, 0, x.nr_active);
	KUNIT_EXPECT_FALSE(test, page_mapped(page));
	put_page(page);
	mmu_notifier_unregister(&x.mn, current->mm);
}

static struct kunit_case test_cases[] = {
	KUNIT_CASE(i915_interval_notifiers_come_before_the_list),
	KUNIT_CASE(i915_callback_runs_in_the_task_of_the_change),
	KUNIT_CASE(i915_refused_range_can_be_tried_again),
	KUNIT_CASE(xpmem_callback_must_not_take_the_fault_lock),
	KUNIT_CASE(xpmem_fault_that_breaks_cow_ends),
	KUNIT_CASE(xpmem_callback_may_zap_another_mapping),
	{}
};

static struct kunit_suite test_suite = {
	.name = "mmu_notifier_drivers_list",
	.init = mmu_test_init,
	.exit = mmu_test_exit,
	.test_cases = test_cases,
};
kunit_test_suite(test_suite);
