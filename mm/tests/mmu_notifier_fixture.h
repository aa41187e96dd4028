/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Shared by the KUnit suites of the MMU notifier core: an mm for each test,
 * subscribers that count their callbacks, and threads that run concurrently.
 *
 * Tests stage races with stop points. A callback signals @entered and blocks
 * until the test completes @leave. To see that another thread waits for a
 * range, a test polls range.awaited.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef _MM_TESTS_MMU_NOTIFIER_FIXTURE_H
#define _MM_TESTS_MMU_NOTIFIER_FIXTURE_H

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/jiffies.h>

#include "../mmu_notifier.h"

#define PG(n)		((n) * PAGE_SIZE)
#define TEST_TIMEOUT	(20 * HZ)

/* Poll until @_condition is true. Fails after TEST_TIMEOUT. */
#define mmu_test_wait(_test, _condition)						\
do {										\
	unsigned long __limit = jiffies + TEST_TIMEOUT;				\
										\
	while (!(_condition)) {							\
		KUNIT_ASSERT_TRUE_MSG(_test, time_before(jiffies, __limit),	\
				      "timeout: " #_condition);		\
		usleep_range(100, 200);						\
	}									\
} while (0)

/*
 * A list notifier that counts its callbacks. It can refuse non-blockable
 * ranges, and it can block in the start callback.
 */
struct mmu_test_list {
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

/* The same for an interval notifier. */
struct mmu_test_interval {
	struct mmu_interval_notifier mni;
	int nr_called;
	bool refuse;
	struct completion *entered;
	struct completion *leave;
	enum mmu_notifier_event event;
	unsigned long seq;
};

struct mmu_test_state {
	struct mm_struct *mm;
	struct completion entered;
	struct completion leave;
};

/* A function that runs in a thread. mmu_test_join() has a timeout. */
struct mmu_test_thread {
	struct kunit *test;
	void (*fn)(struct mmu_test_thread *thread);
	void *arg;
	unsigned long first_page;
	unsigned long nr_pages;
	struct completion done;
};

extern const struct mmu_notifier_ops mmu_test_list_ops;
extern const struct mmu_interval_notifier_ops mmu_test_interval_ops;

void mmu_test_stop(struct completion *entered, struct completion *leave);
int mmu_test_list_start(struct mmu_notifier *mn,
			const struct mmu_notifier_range *range);
void mmu_test_list_end(struct mmu_notifier *mn,
		       const struct mmu_notifier_range *range);
int mmu_test_init(struct kunit *test);
void mmu_test_exit(struct kunit *test);
struct mm_struct *mmu_test_mm(struct kunit *test);
void mmu_test_insert(struct kunit *test, struct mmu_test_interval *ti,
		     unsigned long first_page, unsigned long nr_pages);
void mmu_test_register(struct kunit *test, struct mmu_test_list *tl);
void mmu_test_range_init(struct kunit *test, struct mmu_notifier_range *range,
			 unsigned long first_page, unsigned long nr_pages);
void mmu_test_invalidate(struct kunit *test, unsigned long first_page,
			 unsigned long nr_pages);
void mmu_test_run(struct kunit *test, struct mmu_test_thread *thread);
void mmu_test_join(struct kunit *test, struct mmu_test_thread *thread);
void mmu_test_do_invalidate(struct mmu_test_thread *thread);
void mmu_test_do_remove(struct mmu_test_thread *thread);
void mmu_test_do_read_begin(struct mmu_test_thread *thread);
void mmu_test_do_register(struct mmu_test_thread *thread);
void mmu_test_await(struct kunit *test, struct completion *there);
void mmu_test_wait_awaited(struct kunit *test, struct mmu_notifier_range *range);
bool mmu_test_inserted(struct mmu_interval_notifier *mni);
void mmu_test_wait_removing(struct kunit *test, struct mmu_test_interval *ti);
void mmu_test_enter_callback(struct kunit *test, struct mmu_test_thread *inv);
void mmu_test_age_idle(struct kunit *test, struct mmu_notifier_subscriptions *subs);
unsigned long mmu_test_map(struct kunit *test, unsigned long nr_pages);
void mmu_test_map_zero_page(struct kunit *test, unsigned long addr);
int mmu_test_discard(unsigned long base, unsigned long first_page, unsigned long nr_pages);
struct page *mmu_test_cpu_page(struct kunit *test, unsigned long addr);

#endif /* _MM_TESTS_MMU_NOTIFIER_FIXTURE_H */
