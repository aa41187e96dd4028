// SPDX-License-Identifier: GPL-2.0
/*
 * Consumers of list notifiers, in the manner of three drivers, on real mappings:
 *
 * - XPMEM: another partition keeps translations; every callback sends it a
 *   message, and sleeps until the answer is there.
 * - GRU: a translation buffer without references to pages, filled in atomic
 *   context; the notifier is shared by mmu_notifier_get() and _put().
 * - KVM: a sequence of its own, and age callbacks. Instead of counting the active
 *   ranges it asks the core for them.
 *
 * They keep translations in a table, by page number of the mapping, and what
 * counts is: no translation is left when its page is.
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

/* What each of the consumers is made of. */
struct consumer {
	struct mmu_notifier mn;
	unsigned long base;
	spinlock_t lock;		/* protects the fields below */
	struct page *table[NR_PAGES];
	unsigned long seq;
	unsigned int nr_active;
	unsigned long accessed;
	unsigned int nr_flushed;
	/* XPMEM: the other side */
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

/* Forget the translations of a range; the entries are not dereferenced. */
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

/* Look page @i up in the CPU's tables and fill in the translation; no reference. */
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

/* The mm is that of the test's own thread, whose exit ends it. */
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
	/* A reference of the test alone, to be able to look at the page later. */
	get_page(page);

	WRITE_ONCE(c.mute, true);
	mmu_test_run(test, &discard);
	mmu_test_wait(test, READ_ONCE(c.requested));
	/* Several ticks of silence, and it is still mapped. */
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

/* A sleeping consumer holds up its own process, and nobody else's. */
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
	/* Would hang here if the grace period were everybody's. */
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

/* As the interrupt handler of the device does it: sleeps for nothing. */
static bool gru_dropin(struct consumer *c, int i)
{
	bool filled = false;

	spin_lock(&c->lock);
	if (!c->nr_active)
		filled = consumer_fill(c, i);
	spin_unlock(&c->lock);
	return filled;
}

/* Two contexts of the device share one notifier, which is set up by the first. */
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

static void gru_translation_leaves_before_its_page(struct kunit *test)
{
	struct consumer *c = gru_get(test);
	int i;

	for (i = 0; i < NR_PAGES; i++)
		KUNIT_EXPECT_TRUE(test, gru_dropin(c, i));
	KUNIT_EXPECT_EQ(test, 0, consumer_discard(c, 4, 8));
	for (i = 0; i < NR_PAGES; i++)
		KUNIT_EXPECT_EQ(test, i < 4 || i >= 12, !!c->table[i]);
	KUNIT_EXPECT_EQ(test, 8, c->nr_flushed);
	/* Not present, and it may not sleep to fault it in. */
	KUNIT_EXPECT_FALSE(test, gru_dropin(c, 4));
	mmu_notifier_put(&c->mn);
	mmu_notifier_put(&c->mn);
	mmu_notifier_synchronize();
}

static void gru_drops_nothing_in_while_a_range_is_active(struct kunit *test)
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

/* The callback itself finds that the device is gone. */
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
	/* A new one can come at once. */
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

/* The guest touched page @i: the second half of the fault. */
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

	/* The sequence before the ranges, and these before the page. */
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

/* It finds the page as it is after the change, and at the first attempt. */
static void kvm_fault_waits_for_the_range_it_meets(struct kunit *test)
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
	/* Elsewhere it would have nothing to wait for. */
	KUNIT_EXPECT_TRUE(test, mmu_notifier_range_is_valid(vcpu.mm, c.base + PG(5),
							    c.base + PG(6)));
	mmu_notifier_invalidate_range_end(&range);
	mmu_test_join(test, &fault);
	KUNIT_EXPECT_TRUE(test, vcpu.mapped);
	mmu_notifier_unregister(&c.mn, vcpu.mm);
}

static void kvm_age_is_of_cpu_or_guest(struct kunit *test)
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
	KUNIT_CASE(gru_translation_leaves_before_its_page),
	KUNIT_CASE(gru_drops_nothing_in_while_a_range_is_active),
	KUNIT_CASE(gru_last_put_frees_once),
	KUNIT_CASE(put_from_a_callback),
	KUNIT_CASE(kvm_fault_that_collides_starts_again),
	KUNIT_CASE(kvm_fault_waits_for_the_range_it_meets),
	KUNIT_CASE(kvm_age_is_of_cpu_or_guest),
	{}
};

static struct kunit_suite test_suite = {
	.name = "mmu_notifier_consumers",
	.init = mmu_test_init,
	.exit = mmu_test_exit,
	.test_cases = test_cases,
};
kunit_test_suite(test_suite);
