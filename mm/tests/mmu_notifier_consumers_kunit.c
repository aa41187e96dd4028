// SPDX-License-Identifier: GPL-2.0
/*
 * List notifiers that behave like three drivers, on real mappings:
 *
 * - XPMEM: another partition has the translations. Every callback sends it a
 *   message, and sleeps until the answer has arrived.
 * - GRU: a translation buffer that holds no references to pages and is filled
 *   in atomic context. Contexts share the notifier through mmu_notifier_get()
 *   and mmu_notifier_put().
 * - KVM: age callbacks, and a sequence of its own. Instead of counting active
 *   ranges it calls mmu_notifier_range_wait_valid().
 *
 * Each has a table of translations, indexed by the page of the mapping. A page
 * must not be unmapped while a translation to it is left.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/delay.h>
#include <linux/highmem.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#include "mmu_notifier_fixture.h"

enum { NR_PAGES = 16 };

struct consumer {
	struct mmu_notifier mn;
	unsigned long base;
	spinlock_t lock;		/* protects the fields below */
	struct page *table[NR_PAGES];
	unsigned long seq;
	unsigned int nr_active;
	unsigned long accessed;
	unsigned int nr_flushed;
	/* XPMEM: the thread @remote answers requests unless @mute is set */
	wait_queue_head_t wait;
	bool mute;
	bool requested;
	bool answered;
	struct task_struct *remote;
};

static struct consumer *consumer_of(struct mmu_notifier *mn)
{
	return container_of(mn, struct consumer, mn);
}

/* Drop the translations of a range. */
static void consumer_flush(struct consumer *c, unsigned long start, unsigned long end)
{
	int i;

	for (i = 0; i < NR_PAGES; i++) {
		unsigned long addr = c->base + PG(i);

		if (addr < start || addr >= end || !c->table[i])
			continue;
		c->table[i] = NULL;
		c->nr_flushed++;
	}
}

/* Look up page @i, and store it as a translation without a reference. */
static bool consumer_fill(struct consumer *c, int i)
{
	struct page *page;

	lockdep_assert_held(&c->lock);
	if (!get_user_page_fast_only(c->base + PG(i), FOLL_WRITE, &page))
		return false;
	c->table[i] = page;
	put_page(page);
	return true;
}

static void consumer_init(struct kunit *test, struct consumer *c,
			  const struct mmu_notifier_ops *ops)
{
	int i;

	memset(c, 0, sizeof(*c));
	spin_lock_init(&c->lock);
	init_waitqueue_head(&c->wait);
	c->mn.ops = ops;
	c->base = kunit_vm_mmap(test, NULL, 0, PG(NR_PAGES), PROT_READ | PROT_WRITE,
				MAP_ANONYMOUS | MAP_PRIVATE, 0);
	KUNIT_ASSERT_NE(test, 0, c->base);
	for (i = 0; i < NR_PAGES; i++)
		KUNIT_ASSERT_EQ(test, 0, put_user(i, (int __user *)(c->base + PG(i))));
}

/* The mm is that of the test thread. */
static void consumer_register(struct kunit *test, struct consumer *c,
			      const struct mmu_notifier_ops *ops)
{
	consumer_init(test, c, ops);
	KUNIT_ASSERT_EQ(test, 0, mmu_notifier_register(&c->mn, current->mm));
}

static int consumer_discard(struct consumer *c, int first, int nr)
{
	return do_madvise(current->mm, c->base + PG(first), PG(nr), MADV_DONTNEED);
}

/* XPMEM */

static int xpmem_remote(void *data)
{
	struct consumer *c = data;

	while (!kthread_should_stop()) {
		wait_event_interruptible_timeout(c->wait, READ_ONCE(c->requested) &&
						 !READ_ONCE(c->mute), HZ / 10);
		if (!READ_ONCE(c->requested) || READ_ONCE(c->mute))
			continue;
		WRITE_ONCE(c->requested, false);
		WRITE_ONCE(c->answered, true);
		wake_up_all(&c->wait);
	}
	return 0;
}

static int xpmem_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct consumer *c = consumer_of(mn);

	if (!mmu_notifier_range_blockable(range))
		return -EAGAIN;
	WRITE_ONCE(c->answered, false);
	WRITE_ONCE(c->requested, true);
	wake_up_all(&c->wait);
	wait_event(c->wait, READ_ONCE(c->answered));
	spin_lock(&c->lock);
	consumer_flush(c, range->start, range->end);
	spin_unlock(&c->lock);
	return 0;
}

static const struct mmu_notifier_ops xpmem_ops = {
	.invalidate_range_start = xpmem_start,
};

static void xpmem_register(struct kunit *test, struct consumer *c)
{
	consumer_register(test, c, &xpmem_ops);
	c->remote = kthread_run(xpmem_remote, c, "xpmem_remote");
	KUNIT_ASSERT_FALSE(test, IS_ERR(c->remote));
}

static void xpmem_unregister(struct consumer *c)
{
	mmu_notifier_unregister(&c->mn, current->mm);
	kthread_stop(c->remote);
}

struct discard_work {
	struct mm_struct *mm;
	struct consumer *c;
};

static void do_discard(struct mmu_test_thread *thread)
{
	struct discard_work *work = thread->arg;

	kthread_use_mm(work->mm);
	WARN_ON_ONCE(consumer_discard(work->c, thread->first_page, thread->nr_pages));
	kthread_unuse_mm(work->mm);
}

static void xpmem_pages_stay_until_the_remote_answers(struct kunit *test)
{
	struct consumer c;
	struct discard_work work = { .mm = current->mm, .c = &c };
	struct mmu_test_thread discard = {
		.fn = do_discard, .arg = &work, .first_page = 2, .nr_pages = 3,
	};
	struct page *page;

	xpmem_register(test, &c);
	work.mm = current->mm;
	spin_lock(&c.lock);
	KUNIT_EXPECT_TRUE(test, consumer_fill(&c, 2));
	KUNIT_EXPECT_TRUE(test, consumer_fill(&c, 7));
	page = c.table[2];
	spin_unlock(&c.lock);
	/* Keeps the page allocated for the calls of page_mapped() below. */
	get_page(page);

	WRITE_ONCE(c.mute, true);
	mmu_test_run(test, &discard);
	mmu_test_wait(test, READ_ONCE(c.requested));
	/* Without an answer the page stays mapped. */
	KUNIT_EXPECT_FALSE(test, wait_for_completion_timeout(&discard.done, HZ / 5));
	KUNIT_EXPECT_TRUE(test, page_mapped(page));
	WRITE_ONCE(c.mute, false);
	wake_up_all(&c.wait);
	mmu_test_join(test, &discard);
	KUNIT_EXPECT_FALSE(test, page_mapped(page));
	KUNIT_EXPECT_NULL(test, c.table[2]);
	KUNIT_EXPECT_NOT_NULL(test, c.table[7]);
	KUNIT_EXPECT_EQ(test, 1, c.nr_flushed);
	put_page(page);
	xpmem_unregister(&c);
}

/* A callback that sleeps does not delay unregistration in another mm. */
static void xpmem_delays_no_other_process(struct kunit *test)
{
	struct consumer c;
	struct discard_work work = { .c = &c };
	struct mmu_test_thread discard = {
		.fn = do_discard, .arg = &work, .first_page = 0, .nr_pages = 1,
	};
	struct mmu_test_list other = {};

	xpmem_register(test, &c);
	work.mm = current->mm;
	mmu_test_register(test, &other);
	WRITE_ONCE(c.mute, true);
	mmu_test_run(test, &discard);
	mmu_test_wait(test, READ_ONCE(c.requested));
	/* Would hang here if unregister waited for callbacks of other mms. */
	mmu_test_invalidate(test, 1, 1);
	mmu_notifier_unregister(&other.mn, mmu_test_mm(test));
	KUNIT_EXPECT_EQ(test, 1, other.nr_start);
	KUNIT_EXPECT_FALSE(test, completion_done(&discard.done));
	WRITE_ONCE(c.mute, false);
	wake_up_all(&c.wait);
	mmu_test_join(test, &discard);
	xpmem_unregister(&c);
}

/* GRU */

static int gru_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct consumer *c = consumer_of(mn);

	spin_lock(&c->lock);
	c->nr_active++;
	consumer_flush(c, range->start, range->end);
	spin_unlock(&c->lock);
	return 0;
}

static void gru_end(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct consumer *c = consumer_of(mn);

	spin_lock(&c->lock);
	c->nr_active--;
	spin_unlock(&c->lock);
}

static struct mmu_notifier *gru_alloc(struct mm_struct *mm)
{
	struct consumer *c = kzalloc(sizeof(*c), GFP_KERNEL);

	return c ? &c->mn : ERR_PTR(-ENOMEM);
}

static int gru_nr_freed;

static void gru_free(struct mmu_notifier *mn)
{
	gru_nr_freed++;
	kfree(consumer_of(mn));
}

static const struct mmu_notifier_ops gru_ops = {
	.invalidate_range_start = gru_start,
	.invalidate_range_end = gru_end,
	.alloc_notifier = gru_alloc,
	.free_notifier = gru_free,
};

/* Called by the interrupt handler of the device, so it must not sleep. */
static bool gru_dropin(struct consumer *c, int i)
{
	bool filled = false;

	spin_lock(&c->lock);
	if (!c->nr_active)
		filled = consumer_fill(c, i);
	spin_unlock(&c->lock);
	return filled;
}

/* Two contexts of the device share one notifier. */
static struct consumer *gru_get(struct kunit *test)
{
	struct consumer setup, *c;
	struct mmu_notifier *a, *b;

	consumer_init(test, &setup, &gru_ops);
	a = mmu_notifier_get(&gru_ops, current->mm);
	b = mmu_notifier_get(&gru_ops, current->mm);
	KUNIT_ASSERT_FALSE(test, IS_ERR(a));
	KUNIT_EXPECT_PTR_EQ(test, a, b);
	c = consumer_of(a);
	spin_lock_init(&c->lock);
	c->base = setup.base;
	return c;
}

static void gru_translations_are_flushed_with_their_pages(struct kunit *test)
{
	struct consumer *c = gru_get(test);
	int i;

	for (i = 0; i < NR_PAGES; i++)
		KUNIT_EXPECT_TRUE(test, gru_dropin(c, i));
	KUNIT_EXPECT_EQ(test, 0, consumer_discard(c, 4, 8));
	for (i = 0; i < NR_PAGES; i++)
		KUNIT_EXPECT_EQ(test, i < 4 || i >= 12, !!c->table[i]);
	KUNIT_EXPECT_EQ(test, 8, c->nr_flushed);
	/* The page is not present, and faulting it in could sleep. */
	KUNIT_EXPECT_FALSE(test, gru_dropin(c, 4));
	mmu_notifier_put(&c->mn);
	mmu_notifier_put(&c->mn);
	mmu_notifier_synchronize();
}

static void gru_dropin_fails_while_a_range_is_active(struct kunit *test)
{
	struct consumer *c = gru_get(test);

	scoped_mmu_invalidate(MMU_NOTIFY_CLEAR, 0, current->mm, c->base, c->base + PG(1))
		KUNIT_EXPECT_FALSE(test, gru_dropin(c, 5));
	KUNIT_EXPECT_TRUE(test, gru_dropin(c, 5));
	mmu_notifier_put(&c->mn);
	mmu_notifier_put(&c->mn);
	mmu_notifier_synchronize();
}

static void gru_last_put_frees_once(struct kunit *test)
{
	struct consumer *c = gru_get(test);

	gru_nr_freed = 0;
	mmu_notifier_put(&c->mn);
	mmu_notifier_synchronize();
	KUNIT_EXPECT_EQ(test, 0, gru_nr_freed);
	KUNIT_EXPECT_TRUE(test, gru_dropin(c, 0));
	mmu_notifier_put(&c->mn);
	mmu_notifier_synchronize();
	KUNIT_EXPECT_EQ(test, 1, gru_nr_freed);
}

/* A driver drops its last reference in a callback if its device has failed. */
static void put_in_end(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	mmu_notifier_put(mn);
}

static const struct mmu_notifier_ops put_ops = {
	.invalidate_range_end = put_in_end,
	.alloc_notifier = gru_alloc,
	.free_notifier = gru_free,
};

static void put_from_a_callback(struct kunit *test)
{
	gru_nr_freed = 0;
	KUNIT_ASSERT_FALSE(test, IS_ERR(mmu_notifier_get(&put_ops, mmu_test_mm(test))));
	mmu_test_invalidate(test, 1, 1);
	mmu_notifier_synchronize();
	KUNIT_EXPECT_EQ(test, 1, gru_nr_freed);
	/* The same ops can be registered again at once. */
	KUNIT_ASSERT_FALSE(test, IS_ERR(mmu_notifier_get(&put_ops, mmu_test_mm(test))));
	mmu_test_invalidate(test, 1, 1);
	mmu_notifier_synchronize();
	KUNIT_EXPECT_EQ(test, 2, gru_nr_freed);
}

/* KVM */

static int kvm_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct consumer *c = consumer_of(mn);

	spin_lock(&c->lock);
	c->seq++;
	consumer_flush(c, range->start, range->end);
	spin_unlock(&c->lock);
	return 0;
}

static unsigned long kvm_pages(struct consumer *c, unsigned long start,
			       unsigned long end)
{
	unsigned long mask = 0;
	int i;

	for (i = 0; i < NR_PAGES; i++)
		if (c->base + PG(i) >= start && c->base + PG(i) < end)
			mask |= BIT(i);
	return mask;
}

static int kvm_clear_young(struct mmu_notifier *mn, struct mm_struct *mm,
			   unsigned long start, unsigned long end)
{
	struct consumer *c = consumer_of(mn);
	unsigned long mask = kvm_pages(c, start, end);
	bool young;

	spin_lock(&c->lock);
	young = c->accessed & mask;
	c->accessed &= ~mask;
	spin_unlock(&c->lock);
	return young;
}

static int kvm_test_young(struct mmu_notifier *mn, struct mm_struct *mm,
			  unsigned long addr)
{
	struct consumer *c = consumer_of(mn);

	return !!(READ_ONCE(c->accessed) & kvm_pages(c, addr, addr + PAGE_SIZE));
}

static const struct mmu_notifier_ops kvm_ops = {
	.invalidate_range_start = kvm_start,
	.clear_flush_young = kvm_clear_young,
	.clear_young = kvm_clear_young,
	.test_young = kvm_test_young,
};

/* The second half of a guest's fault: map the page unless @seq is stale. */
static bool kvm_map(struct consumer *c, int i, unsigned long seq, struct page *page)
{
	bool mapped = false;

	spin_lock(&c->lock);
	if (c->seq == seq) {
		c->table[i] = page;
		c->accessed |= BIT(i);
		mapped = true;
	}
	spin_unlock(&c->lock);
	return mapped;
}

static bool kvm_fault(struct kunit *test, struct consumer *c, int i, bool collide)
{
	unsigned long seq = READ_ONCE(c->seq);
	unsigned long addr = c->base + PG(i);
	struct page *page;
	bool mapped;

	/* Order: load the sequence, wait for ranges, look up the page. */
	mmu_notifier_range_wait_valid(c->mn.mm, addr, addr + PAGE_SIZE);
	KUNIT_ASSERT_EQ(test, 1, get_user_pages_fast(c->base + PG(i), 1, FOLL_WRITE, &page));
	if (collide)
		KUNIT_EXPECT_EQ(test, 0, consumer_discard(c, i, 1));
	mapped = kvm_map(c, i, seq, page);
	put_page(page);
	return mapped;
}

static void kvm_fault_that_collides_starts_again(struct kunit *test)
{
	struct consumer c;
	struct page *now;

	consumer_register(test, &c, &kvm_ops);
	KUNIT_EXPECT_FALSE(test, kvm_fault(test, &c, 3, true));
	KUNIT_EXPECT_NULL(test, c.table[3]);
	KUNIT_EXPECT_TRUE(test, kvm_fault(test, &c, 3, false));
	KUNIT_ASSERT_EQ(test, 1, get_user_pages_fast(c.base + PG(3), 1, FOLL_WRITE, &now));
	KUNIT_EXPECT_PTR_EQ(test, now, c.table[3]);
	put_page(now);
	mmu_notifier_unregister(&c.mn, current->mm);
}

struct kvm_vcpu {
	struct consumer *c;
	struct mm_struct *mm;
	bool mapped;
};

static void do_kvm_fault(struct mmu_test_thread *thread)
{
	struct kvm_vcpu *vcpu = thread->arg;

	kthread_use_mm(vcpu->mm);
	vcpu->mapped = kvm_fault(thread->test, vcpu->c, 3, false);
	kthread_unuse_mm(vcpu->mm);
}

/* After the wait, the first attempt maps the page as it is after the change. */
static void kvm_fault_waits_for_an_overlapping_range(struct kunit *test)
{
	struct consumer c;
	struct kvm_vcpu vcpu = { .c = &c };
	struct mmu_test_thread fault = { .fn = do_kvm_fault, .arg = &vcpu };
	struct mmu_notifier_range range;

	consumer_register(test, &c, &kvm_ops);
	vcpu.mm = current->mm;
	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, vcpu.mm, c.base + PG(3),
				c.base + PG(4));
	mmu_notifier_invalidate_range_start(&range);
	mmu_test_run(test, &fault);
	mmu_test_wait_awaited(test, &range);
	KUNIT_EXPECT_FALSE(test, completion_done(&fault.done));
	KUNIT_EXPECT_NULL(test, c.table[3]);
	/* No active range overlaps page 5. */
	KUNIT_EXPECT_TRUE(test, mmu_notifier_range_is_valid(vcpu.mm, c.base + PG(5),
							    c.base + PG(6)));
	mmu_notifier_invalidate_range_end(&range);
	mmu_test_join(test, &fault);
	KUNIT_EXPECT_TRUE(test, vcpu.mapped);
	mmu_notifier_unregister(&c.mn, vcpu.mm);
}

static void kvm_age_callbacks_report_the_guest(struct kunit *test)
{
	struct mm_struct *mm;
	struct consumer c;

	consumer_register(test, &c, &kvm_ops);
	mm = current->mm;
	KUNIT_EXPECT_TRUE(test, kvm_fault(test, &c, 1, false));
	KUNIT_EXPECT_TRUE(test, mmu_notifier_test_young(mm, c.base + PG(1)));
	KUNIT_EXPECT_FALSE(test, mmu_notifier_test_young(mm, c.base + PG(2)));
	KUNIT_EXPECT_TRUE(test, mmu_notifier_clear_young(mm, c.base, c.base + PG(2)));
	KUNIT_EXPECT_FALSE(test, mmu_notifier_test_young(mm, c.base + PG(1)));
	KUNIT_EXPECT_FALSE(test, mmu_notifier_clear_flush_young(mm, c.base,
								c.base + PG(2)));
	mmu_notifier_unregister(&c.mn, mm);
}

static struct kunit_case test_cases[] = {
	KUNIT_CASE(xpmem_pages_stay_until_the_remote_answers),
	KUNIT_CASE(xpmem_delays_no_other_process),
	KUNIT_CASE(gru_translations_are_flushed_with_their_pages),
	KUNIT_CASE(gru_dropin_fails_while_a_range_is_active),
	KUNIT_CASE(gru_last_put_frees_once),
	KUNIT_CASE(put_from_a_callback),
	KUNIT_CASE(kvm_fault_that_collides_starts_again),
	KUNIT_CASE(kvm_fault_waits_for_an_overlapping_range),
	KUNIT_CASE(kvm_age_callbacks_report_the_guest),
	{}
};

static struct kunit_suite test_suite = {
	.name = "mmu_notifier_consumers",
	.init = mmu_test_init,
	.exit = mmu_test_exit,
	.test_cases = test_cases,
};
kunit_test_suite(test_suite);
