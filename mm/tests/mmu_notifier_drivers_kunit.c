// SPDX-License-Identifier: GPL-2.0
/*
 * Interval notifiers that behave like drivers outside the tree, on real
 * mappings:
 *
 * - cxi: a notifier for each memory region, and hmm_range_fault() in a loop.
 *   With ATS the device walks the page tables of the CPU, and the callback does
 *   nothing.
 * - xdna: the mmap callback inserts the notifier. The invalidate callback waits
 *   for jobs without holding its lock. A work removes the notifier of an
 *   unmapped buffer.
 * - xe, and the userptr of i915: they store the sequence and compare it at the
 *   next call. The callback waits for the device with its lock held.
 *
 * Documentation/mm/mmu_notifier_api.rst lists what each of them relies on.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/hmm.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/rwsem.h>
#include <linux/sched/mm.h>
#include <linux/workqueue.h>

#include "mmu_notifier_fixture.h"

enum { NR_PAGES = 16 };

/*
 * A device that mirrors the pages of one mapping. @table holds no references,
 * and its pages are not accessed.
 */
struct mirror {
	struct mmu_interval_notifier mni;
	unsigned long base;
	struct rw_semaphore lock;	/* protects @table, @invalid, @unmapped */
	struct page *table[NR_PAGES];
	bool invalid;
	bool unmapped;
	unsigned long seq;		/* that of the last successful fault */
	unsigned int nr_called;
	unsigned int nr_rounds;
	bool collide;
	struct completion *entered;
	struct completion *leave;
	struct work_struct removal;
	bool callback_left;
	bool removal_waited;
};

static struct mirror *mirror_of(struct mmu_interval_notifier *mni)
{
	return container_of(mni, struct mirror, mni);
}

static struct mirror *mirror_new(struct kunit *test)
{
	struct mirror *m = kunit_kzalloc(test, sizeof(*m), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, m);
	init_rwsem(&m->lock);
	m->base = mmu_test_map(test, NR_PAGES);
	return m;
}

/* The mm is that of the test thread. */
static struct mirror *mirror_insert(struct kunit *test,
				    const struct mmu_interval_notifier_ops *ops)
{
	struct mirror *m = mirror_new(test);

	KUNIT_ASSERT_EQ(test, 0, mmu_interval_notifier_insert(&m->mni, current->mm, m->base,
							      PG(NR_PAGES), ops));
	return m;
}

static void mirror_clear(struct mirror *m, const struct mmu_notifier_range *range)
{
	int i;

	lockdep_assert_held_write(&m->lock);
	for (i = 0; i < NR_PAGES; i++)
		if (m->base + PG(i) >= range->start && m->base + PG(i) < range->end)
			m->table[i] = NULL;
}

static int mirror_look_up(struct mirror *m, unsigned long *pfns, unsigned long *seq)
{
	struct hmm_range range = {
		.notifier = &m->mni,
		.start = m->base,
		.end = m->base + PG(NR_PAGES),
		.hmm_pfns = pfns,
		.default_flags = HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE,
	};
	int ret;

	m->nr_rounds++;
	range.notifier_seq = mmu_interval_read_begin(&m->mni);
	*seq = range.notifier_seq;
	mmap_read_lock(m->mni.mm);
	ret = hmm_range_fault(&range);
	mmap_read_unlock(m->mni.mm);
	return ret;
}

static bool mirror_establish(struct mirror *m, const unsigned long *pfns, unsigned long seq)
{
	bool stale;
	int i;

	down_write(&m->lock);
	stale = mmu_interval_read_retry(&m->mni, seq);
	for (i = 0; i < NR_PAGES && !stale; i++)
		m->table[i] = hmm_pfn_to_page(pfns[i]);
	if (!stale) {
		m->seq = seq;
		m->invalid = false;
	}
	up_write(&m->lock);
	return !stale;
}

/*
 * A page fault of the device on the whole mapping. Returns 0, -ETIMEDOUT, or an
 * error of hmm_range_fault().
 */
static int mirror_fault(struct mirror *m)
{
	unsigned long limit = jiffies + TEST_TIMEOUT;
	unsigned long pfns[NR_PAGES] = {};
	unsigned long seq;
	int ret;

	do {
		ret = mirror_look_up(m, pfns, &seq);
		if (ret == -EBUSY)
			continue;
		if (ret)
			return ret;
		if (m->collide)
			WARN_ON_ONCE(mmu_test_discard(m->base, 0, 1));
		m->collide = false;
		if (mirror_establish(m, pfns, seq))
			return 0;
	} while (time_before(jiffies, limit));
	return -ETIMEDOUT;
}

static void expect_mirrored(struct kunit *test, struct mirror *m)
{
	int i;

	for (i = 0; i < NR_PAGES; i++)
		KUNIT_EXPECT_PTR_EQ(test, mmu_test_cpu_page(test, m->base + PG(i)), m->table[i]);
}

/* Another thread discards the first page, after the test has completed @go. */
struct discard_work {
	struct mm_struct *mm;
	unsigned long base;
	struct completion *go;
};

static void do_discard(struct mmu_test_thread *thread)
{
	struct discard_work *work = thread->arg;

	if (work->go)
		wait_for_completion(work->go);
	kthread_use_mm(work->mm);
	WARN_ON_ONCE(mmu_test_discard(work->base, 0, 1));
	kthread_unuse_mm(work->mm);
}

static void wait_entered(struct kunit *test, struct completion *entered)
{
	KUNIT_ASSERT_TRUE(test, wait_for_completion_timeout(entered, TEST_TIMEOUT));
}

/* cxi */

static bool cxi_invalidate(struct mmu_interval_notifier *mni,
			   const struct mmu_notifier_range *range, unsigned long seq)
{
	struct mirror *m = mirror_of(mni);

	m->nr_called++;
	if (!mmu_notifier_range_blockable(range))
		return false;
	down_write(&m->lock);
	mmu_interval_set_seq(mni, seq);
	mirror_clear(m, range);
	up_write(&m->lock);
	return true;
}

static const struct mmu_interval_notifier_ops cxi_ops = { .invalidate = cxi_invalidate };

static bool cxi_ats_invalidate(struct mmu_interval_notifier *mni,
			       const struct mmu_notifier_range *range, unsigned long seq)
{
	mirror_of(mni)->nr_called++;
	return true;
}

static const struct mmu_interval_notifier_ops cxi_ats_ops = { .invalidate = cxi_ats_invalidate };

static void cxi_mirror_follows_the_cpu(struct kunit *test)
{
	struct mirror *m = mirror_insert(test, &cxi_ops);
	int i;

	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m));
	expect_mirrored(test, m);
	KUNIT_EXPECT_EQ(test, 0, mmu_test_discard(m->base, 4, 8));
	for (i = 0; i < NR_PAGES; i++)
		KUNIT_EXPECT_EQ(test, i < 4 || i >= 12, !!m->table[i]);
	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m));
	expect_mirrored(test, m);
	mmu_interval_notifier_remove(&m->mni);
}

static void cxi_fault_that_collides_starts_again(struct kunit *test)
{
	struct mirror *m = mirror_insert(test, &cxi_ops);

	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m));
	m->nr_rounds = 0;
	m->collide = true;
	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m));
	KUNIT_EXPECT_EQ(test, 2, m->nr_rounds);
	expect_mirrored(test, m);
	mmu_interval_notifier_remove(&m->mni);
}

static void cxi_refusal_leaves_nothing_active(struct kunit *test)
{
	struct mirror *m = mirror_insert(test, &cxi_ops);
	struct mmu_test_thread reader = { .fn = mmu_test_do_read_begin, .arg = &m->mni };
	struct mmu_notifier_range range;

	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m));
	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, current->mm, m->base,
				m->base + PG(1));
	KUNIT_EXPECT_EQ(test, -EAGAIN, mmu_notifier_invalidate_range_start_nonblock(&range));
	/*
	 * The refused range has changed no sequence, and readers do not wait
	 * for it.
	 */
	KUNIT_EXPECT_FALSE(test, mmu_interval_check_retry(&m->mni, m->seq));
	mmu_test_run(test, &reader);
	mmu_test_join(test, &reader);
	expect_mirrored(test, m);
	mmu_interval_notifier_remove(&m->mni);
}

/* The cleanup of cxi and i915 removes the notifier if its mm is set. */
static void cxi_failed_insert_sets_no_mm(struct kunit *test)
{
	struct mmu_interval_notifier mni = {};
	struct mm_struct *mm = mmu_test_mm(test);

	KUNIT_EXPECT_EQ(test, -EOVERFLOW,
			mmu_interval_notifier_insert(&mni, mm, PG(1), 0, &cxi_ops));
	KUNIT_EXPECT_NULL(test, mni.mm);
	KUNIT_EXPECT_EQ(test, -EOVERFLOW,
			mmu_interval_notifier_insert(&mni, mm, PG(1), ULONG_MAX, &cxi_ops));
	KUNIT_EXPECT_NULL(test, mni.mm);
}

static void cxi_ats_never_retries(struct kunit *test)
{
	struct mirror *m = mirror_insert(test, &cxi_ats_ops);

	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m));
	m->nr_called = 0;
	m->nr_rounds = 0;
	m->collide = true;
	KUNIT_EXPECT_EQ(test, 0, mirror_fault(m));
	KUNIT_EXPECT_EQ(test, 1, m->nr_called);
	KUNIT_EXPECT_EQ(test, 1, m->nr_rounds);
	mmu_interval_notifier_remove(&m->mni);
}

/* In 6.12 a reader waits only if the callback has set the sequence. */
static void cxi_ats_reader_waits_for_the_range(struct kunit *test)
{
	struct mirror *m = mirror_insert(test, &cxi_ats_ops);
	struct mmu_test_thread reader = { .fn = mmu_test_do_read_begin, .arg = &m->mni };
	struct mmu_notifier_range range;

	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, current->mm, m->base,
				m->base + PG(1));
	mmu_notifier_invalidate_range_start(&range);
	KUNIT_EXPECT_EQ(test, 1, m->nr_called);
	mmu_test_run(test, &reader);
	mmu_test_wait_awaited(test, &range);
	KUNIT_EXPECT_FALSE(test, completion_done(&reader.done));
	mmu_notifier_invalidate_range_end(&range);
	mmu_test_join(test, &reader);
	mmu_interval_notifier_remove(&m->mni);
}

/* xdna */

static void xdna_removal(struct work_struct *work)
{
	struct mirror *m = container_of(work, struct mirror, removal);

	mmu_interval_notifier_remove(&m->mni);
	m->removal_waited = READ_ONCE(m->callback_left);
}

/* Wait, in the callback, until the work has begun to remove the notifier. */
static void xdna_await_removal(struct mirror *m)
{
	unsigned long limit = jiffies + TEST_TIMEOUT;

	while (mmu_test_inserted(&m->mni) && time_before(jiffies, limit))
		usleep_range(100, 200);
	WRITE_ONCE(m->callback_left, true);
}

static bool xdna_invalidate(struct mmu_interval_notifier *mni,
			    const struct mmu_notifier_range *range, unsigned long seq)
{
	struct mirror *m = mirror_of(mni);
	bool unmapped;

	if (!mmu_notifier_range_blockable(range))
		return false;
	m->nr_called++;
	down_write(&m->lock);
	m->invalid = true;
	mmu_interval_set_seq(mni, seq);
	unmapped = range->event == MMU_NOTIFY_UNMAP && !m->unmapped;
	m->unmapped |= unmapped;
	up_write(&m->lock);
	/* Waits for the job that uses the pages. */
	mmu_test_stop(m->entered, m->leave);
	if (unmapped) {
		queue_work(system_unbound_wq, &m->removal);
		xdna_await_removal(m);
	}
	return true;
}

static const struct mmu_interval_notifier_ops xdna_ops = { .invalidate = xdna_invalidate };

/* As in an mmap callback, with the mmap_lock held for write. */
static struct mirror *xdna_insert(struct kunit *test)
{
	struct mirror *m = mirror_new(test);
	int ret;

	INIT_WORK(&m->removal, xdna_removal);
	m->invalid = true;
	mmap_write_lock(current->mm);
	ret = mmu_interval_notifier_insert_locked(&m->mni, current->mm, m->base,
						  PG(NR_PAGES), &xdna_ops);
	mmap_write_unlock(current->mm);
	KUNIT_ASSERT_EQ(test, 0, ret);
	return m;
}

static int xdna_populate(struct mirror *m)
{
	int ret = 0;

	if (!mmget_not_zero(m->mni.mm))
		return -EFAULT;
	if (READ_ONCE(m->invalid))
		ret = mirror_fault(m);
	mmput(m->mni.mm);
	return ret;
}

static void xdna_buffer_is_populated_when_invalid(struct kunit *test)
{
	struct mirror *m = xdna_insert(test);

	KUNIT_EXPECT_EQ(test, 0, xdna_populate(m));
	KUNIT_EXPECT_EQ(test, 0, xdna_populate(m));
	KUNIT_EXPECT_EQ(test, 1, m->nr_rounds);
	KUNIT_EXPECT_EQ(test, 0, mmu_test_discard(m->base, 3, 1));
	KUNIT_EXPECT_TRUE(test, m->invalid);
	KUNIT_EXPECT_EQ(test, 0, xdna_populate(m));
	expect_mirrored(test, m);
	mmu_interval_notifier_remove(&m->mni);
}

static void xdna_pages_stay_until_the_job_is_done(struct kunit *test)
{
	struct mmu_test_state *state = test->priv;
	struct mirror *m = xdna_insert(test);
	struct discard_work work = { .mm = current->mm, .base = m->base };
	struct mmu_test_thread thread = { .fn = do_discard, .arg = &work };
	struct page *page;
	bool free;

	KUNIT_EXPECT_EQ(test, 0, xdna_populate(m));
	page = mmu_test_cpu_page(test, m->base);
	get_page(page);
	m->entered = &state->entered;
	m->leave = &state->leave;
	mmu_test_run(test, &thread);
	wait_entered(test, &state->entered);
	KUNIT_EXPECT_TRUE(test, page_mapped(page));
	/* The lock is free, so other jobs can be submitted. */
	free = down_write_trylock(&m->lock);
	if (free)
		up_write(&m->lock);
	KUNIT_EXPECT_TRUE(test, free);
	complete(&state->leave);
	mmu_test_join(test, &thread);
	KUNIT_EXPECT_FALSE(test, page_mapped(page));
	put_page(page);
	mmu_interval_notifier_remove(&m->mni);
}

static void xdna_removal_waits_for_the_callback_that_queued_it(struct kunit *test)
{
	struct mirror *m = xdna_insert(test);
	struct mmu_notifier_range range;

	KUNIT_EXPECT_EQ(test, 0, xdna_populate(m));
	KUNIT_EXPECT_EQ(test, 0, vm_munmap(m->base, PG(NR_PAGES)));
	flush_work(&m->removal);
	KUNIT_EXPECT_TRUE(test, m->removal_waited);
	KUNIT_EXPECT_EQ(test, 1, m->nr_called);
	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, current->mm, m->base,
				m->base + PG(1));
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
	KUNIT_EXPECT_EQ(test, 1, m->nr_called);
}

static void xdna_buffer_outlives_the_process(struct kunit *test)
{
	struct mmu_test_state *state = test->priv;
	struct mirror *m = mirror_new(test);
	struct mm_struct *mm = state->mm;

	KUNIT_ASSERT_EQ(test, 0, mmu_interval_notifier_insert(&m->mni, mm, m->base,
							      PG(NR_PAGES), &xdna_ops));
	mmgrab(mm);
	state->mm = NULL;
	mmput(mm);
	KUNIT_EXPECT_TRUE(test, m->invalid);
	KUNIT_EXPECT_EQ(test, -EFAULT, xdna_populate(m));
	mmu_interval_notifier_remove(&m->mni);
	mmdrop(mm);
}

/* xe, and the userptr of i915 */

static bool xe_invalidate(struct mmu_interval_notifier *mni,
			  const struct mmu_notifier_range *range, unsigned long seq)
{
	struct mirror *m = mirror_of(mni);

	if (!mmu_notifier_range_blockable(range))
		return false;
	WRITE_ONCE(m->nr_called, m->nr_called + 1);
	down_write(&m->lock);
	mmu_interval_set_seq(mni, seq);
	/* Waits for the fences of submitted jobs. */
	mmu_test_stop(m->entered, m->leave);
	mirror_clear(m, range);
	up_write(&m->lock);
	return true;
}

static const struct mmu_interval_notifier_ops xe_ops = { .invalidate = xe_invalidate };

static int xe_pin(struct mirror *m)
{
	if (mmu_interval_read_begin(&m->mni) == m->seq)
		return 0;
	return mirror_fault(m);
}

static void xe_valid_pages_are_not_looked_up_again(struct kunit *test)
{
	struct mirror *m = mirror_insert(test, &xe_ops);

	KUNIT_EXPECT_EQ(test, 0, xe_pin(m));
	KUNIT_EXPECT_EQ(test, 0, xe_pin(m));
	KUNIT_EXPECT_EQ(test, 1, m->nr_rounds);
	KUNIT_EXPECT_FALSE(test, mmu_interval_check_retry(&m->mni, m->seq));
	KUNIT_EXPECT_EQ(test, 0, mmu_test_discard(m->base, 0, 1));
	KUNIT_EXPECT_TRUE(test, mmu_interval_check_retry(&m->mni, m->seq));
	KUNIT_EXPECT_EQ(test, 0, xe_pin(m));
	KUNIT_EXPECT_EQ(test, 2, m->nr_rounds);
	expect_mirrored(test, m);
	mmu_interval_notifier_remove(&m->mni);
}

static void xe_change_elsewhere_leaves_pages_valid(struct kunit *test)
{
	struct mirror *a = mirror_insert(test, &xe_ops);
	struct mirror *b = mirror_insert(test, &xe_ops);

	KUNIT_EXPECT_EQ(test, 0, xe_pin(a));
	KUNIT_EXPECT_EQ(test, 0, xe_pin(b));
	KUNIT_EXPECT_EQ(test, 0, mmu_test_discard(b->base, 0, NR_PAGES));
	KUNIT_EXPECT_EQ(test, 0, xe_pin(a));
	KUNIT_EXPECT_EQ(test, 1, a->nr_rounds);
	KUNIT_EXPECT_EQ(test, 0, xe_pin(b));
	KUNIT_EXPECT_EQ(test, 2, b->nr_rounds);
	KUNIT_EXPECT_EQ(test, 0, mmu_test_discard(a->base, 0, NR_PAGES));
	KUNIT_EXPECT_EQ(test, 0, xe_pin(b));
	KUNIT_EXPECT_EQ(test, 2, b->nr_rounds);
	KUNIT_EXPECT_EQ(test, 0, xe_pin(a));
	KUNIT_EXPECT_EQ(test, 2, a->nr_rounds);
	mmu_interval_notifier_remove(&b->mni);
	mmu_interval_notifier_remove(&a->mni);
}

/* xe and i915 store LONG_MAX and ULONG_MAX before the first lookup. */
static void xe_sequence_is_no_marker_and_is_not_reused(struct kunit *test)
{
	struct mirror *m = mirror_insert(test, &xe_ops);
	unsigned long seq = mmu_interval_read_begin(&m->mni);

	KUNIT_EXPECT_NE(test, LONG_MAX, seq);
	KUNIT_EXPECT_NE(test, ULONG_MAX, seq);
	KUNIT_EXPECT_NE(test, 0, seq);
	mmu_interval_notifier_remove(&m->mni);
	KUNIT_ASSERT_EQ(test, 0, mmu_interval_notifier_insert(&m->mni, current->mm, m->base,
							      PG(NR_PAGES), &xe_ops));
	KUNIT_EXPECT_NE(test, seq, mmu_interval_read_begin(&m->mni));
	mmu_interval_notifier_remove(&m->mni);
}

/*
 * Submission holds the lock for reading while it adds the fence of its job. The
 * callback waits for the lock, and then for the fence.
 */
static void xe_invalidation_waits_for_submission_and_job(struct kunit *test)
{
	struct mmu_test_state *state = test->priv;
	struct mirror *m = mirror_insert(test, &xe_ops);
	DECLARE_COMPLETION_ONSTACK(go);
	struct discard_work work = { .mm = current->mm, .base = m->base, .go = &go };
	struct mmu_test_thread thread = { .fn = do_discard, .arg = &work };
	struct page *page;

	KUNIT_EXPECT_EQ(test, 0, xe_pin(m));
	page = m->table[0];
	get_page(page);
	mmu_test_run(test, &thread);
	down_read(&m->lock);
	KUNIT_EXPECT_FALSE(test, mmu_interval_read_retry(&m->mni, m->seq));
	complete(&go);
	mmu_test_wait(test, READ_ONCE(m->nr_called));
	m->entered = &state->entered;
	m->leave = &state->leave;
	KUNIT_EXPECT_FALSE(test, mmu_interval_read_retry(&m->mni, m->seq));
	up_read(&m->lock);
	wait_entered(test, &state->entered);
	KUNIT_EXPECT_TRUE(test, page_mapped(page));
	KUNIT_EXPECT_PTR_EQ(test, page, m->table[0]);
	complete(&state->leave);
	mmu_test_join(test, &thread);
	KUNIT_EXPECT_FALSE(test, page_mapped(page));
	KUNIT_EXPECT_NULL(test, m->table[0]);
	put_page(page);
	mmu_interval_notifier_remove(&m->mni);
}

static void xe_fault_that_breaks_cow_ends(struct kunit *test)
{
	struct mirror *m = mirror_insert(test, &xe_ops);
	int i;

	for (i = 0; i < NR_PAGES; i++)
		mmu_test_map_zero_page(test, m->base + PG(i));
	KUNIT_EXPECT_EQ(test, 0, xe_pin(m));
	/* The first round copies all pages, which calls its own notifier. */
	KUNIT_EXPECT_EQ(test, NR_PAGES, m->nr_called);
	KUNIT_EXPECT_EQ(test, 2, m->nr_rounds);
	expect_mirrored(test, m);
	mmu_interval_notifier_remove(&m->mni);
}

static struct kunit_case test_cases[] = {
	KUNIT_CASE(cxi_mirror_follows_the_cpu),
	KUNIT_CASE(cxi_fault_that_collides_starts_again),
	KUNIT_CASE(cxi_refusal_leaves_nothing_active),
	KUNIT_CASE(cxi_failed_insert_sets_no_mm),
	KUNIT_CASE(cxi_ats_never_retries),
	KUNIT_CASE(cxi_ats_reader_waits_for_the_range),
	KUNIT_CASE(xdna_buffer_is_populated_when_invalid),
	KUNIT_CASE(xdna_pages_stay_until_the_job_is_done),
	KUNIT_CASE(xdna_removal_waits_for_the_callback_that_queued_it),
	KUNIT_CASE(xdna_buffer_outlives_the_process),
	KUNIT_CASE(xe_valid_pages_are_not_looked_up_again),
	KUNIT_CASE(xe_change_elsewhere_leaves_pages_valid),
	KUNIT_CASE(xe_sequence_is_no_marker_and_is_not_reused),
	KUNIT_CASE(xe_invalidation_waits_for_submission_and_job),
	KUNIT_CASE(xe_fault_that_breaks_cow_ends),
	{}
};

static struct kunit_suite test_suite = {
	.name = "mmu_notifier_drivers",
	.init = mmu_test_init,
	.exit = mmu_test_exit,
	.test_cases = test_cases,
};
kunit_test_suite(test_suite);
