/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Internal declarations of the notifier benchmark. See main.c.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef PINLESS_BENCH_H
#define PINLESS_BENCH_H

#include <linux/mmu_notifier.h>
#include <linux/types.h>

/* Interval i is one page at BENCH_BASE + i * BENCH_STRIDE. A gap follows. */
#define BENCH_BASE	0x100000000UL
#define BENCH_STRIDE	(2 * PAGE_SIZE)

/**
 * struct bench_set - an mm with interval notifiers at regular addresses
 * @mm: the mm; no task uses it
 * @subs: the notifiers
 * @nr: the number of inserted notifiers
 */
struct bench_set {
	struct mm_struct *mm;
	struct mmu_interval_notifier *subs;
	unsigned int nr;
};

extern const struct mmu_interval_notifier_ops bench_interval_ops;

/*
 * Start and end callbacks that do nothing; and the same set of callbacks as
 * KVM.
 */
extern const struct mmu_notifier_ops bench_list_ops;
extern const struct mmu_notifier_ops bench_kvm_ops;
int bench_list_start(struct mmu_notifier *subscription,
		     const struct mmu_notifier_range *range);
void bench_list_end(struct mmu_notifier *subscription,
		    const struct mmu_notifier_range *range);
int bench_list_age(struct mmu_notifier *subscription, struct mm_struct *mm,
		   unsigned long start, unsigned long end);

static inline unsigned long bench_slot(unsigned int i)
{
	return BENCH_BASE + i * BENCH_STRIDE;
}

/* Add a line to the results. @milli is the value in thousandths of its unit. */
void bench_report(u64 milli, const char *fmt, ...) __printf(2, 3);

int bench_set_make(struct bench_set *set, unsigned int nr);
void bench_set_free(struct bench_set *set);

/* The commands; see main.c. */
int bench_cost(const char *arg);
int bench_posted(const char *arg);
int bench_register(const char *arg);
int bench_storm(const char *arg);
int bench_unregister(const char *arg);
int bench_pairs(const char *arg);
int bench_coherence(const char *arg);
int bench_teardown(const char *arg);
int bench_subscribe(const char *arg);
int bench_unsubscribe(const char *arg);
int bench_reported(const char *arg);

#endif /* PINLESS_BENCH_H */
