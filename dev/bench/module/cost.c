// SPDX-License-Identifier: GPL-2.0
/*
 * The cost of single operations.
 *
 * Meant for a virtual machine whose TSC counts instructions. Each value is the
 * mean of a loop with interrupts disabled, minus the mean of the same loop
 * without the operation. The loop itself, choosing the next address and
 * initialising the range are in both. Addresses are used in a scattered but
 * fixed order, so that lookups end in all parts of the tree.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/delay.h>
#include <linux/gcd.h>
#include <linux/mutex.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include <asm/msr.h>

#include "bench.h"

#define COST_LOOPS	20000U
#define COST_MAX_BATCH	1000U

enum cost_op {
	COST_NOTHING,		/* the loop, and initialising the range */
	COST_NO_INIT,		/* the loop only */
	COST_PAIR,
	COST_NESTED,
	COST_NONBLOCK,
};

/**
 * struct cost_walk - an iteration over the slots of a set in a scattered order
 * @mm: the mm of the set
 * @offset: offset of a range from the slot: 0 hits, PAGE_SIZE misses
 * @len: length of a range
 * @nr: number of slots
 * @step: coprime to @nr, so that each slot is used once in @nr steps
 * @pos: the slot that was used last
 */
struct cost_walk {
	struct mm_struct *mm;
	unsigned long offset;
	unsigned long len;
	unsigned int nr;
	unsigned int step;
	unsigned int pos;
};

static struct cost_walk cost_walk(struct mm_struct *mm, unsigned int nr,
				  unsigned long offset, unsigned long len)
{
	struct cost_walk walk = {
		.mm = mm, .nr = nr, .offset = offset, .len = len,
		.step = (u64)nr * 618 / 1000,
	};

	walk.step |= 1;
	while (gcd(walk.step, nr) != 1)
		walk.step += 2;
	return walk;
}

static __always_inline unsigned long cost_next(struct cost_walk *walk)
{
	walk->pos += walk->step;
	if (walk->pos >= walk->nr)
		walk->pos -= walk->nr;
	return bench_slot(walk->pos) + walk->offset;
}

static __always_inline void cost_do(struct cost_walk *walk, const enum cost_op op)
{
	struct mmu_notifier_range range, inner;
	unsigned long start = cost_next(walk);

	if (op != COST_NO_INIT)
		mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, walk->mm,
					start, start + walk->len);
	if (op == COST_NESTED)
		mmu_notifier_range_init(&inner, MMU_NOTIFY_CLEAR, 0, walk->mm,
					start, start + walk->len);
	/* The range must be in memory, as in a real call site. */
	barrier_data(&range);
	barrier_data(&inner);
	switch (op) {
	case COST_NOTHING:
	case COST_NO_INIT:
		break;
	case COST_NESTED:
		mmu_notifier_invalidate_range_start(&range);
		mmu_notifier_invalidate_range_start(&inner);
		barrier_data(&inner);
		mmu_notifier_invalidate_range_end(&inner);
		mmu_notifier_invalidate_range_end(&range);
		break;
	case COST_PAIR:
		mmu_notifier_invalidate_range_start(&range);
		barrier_data(&range);
		mmu_notifier_invalidate_range_end(&range);
		break;
	case COST_NONBLOCK:
		if (!mmu_notifier_invalidate_range_start_nonblock(&range)) {
			barrier_data(&range);
			mmu_notifier_invalidate_range_end(&range);
		}
		break;
	}
}

/* The TSC difference of @_loops times @_body, with interrupts disabled. */
#define cost_time(_loops, _body)				\
({								\
	unsigned int __n = (_loops);				\
	unsigned long __flags;					\
	u64 __tsc;						\
								\
	cond_resched();						\
	local_irq_save(__flags);				\
	__tsc = rdtsc();					\
	while (__n--) {						\
		_body;						\
		barrier();					\
	}							\
	__tsc = rdtsc() - __tsc;				\
	local_irq_restore(__flags);				\
	__tsc;							\
})

/* The cost of @_op minus that of @_without, in thousandths. */
#define cost_walk_op(_mm, _nr, _offset, _len, _loops, _op, _without)	\
({									\
	struct cost_walk __walk = cost_walk(_mm, _nr, _offset, _len);	\
	unsigned int __loops = (_loops);				\
	u64 __with, __base;						\
									\
	__with = cost_time(__loops, cost_do(&__walk, _op));		\
	__walk.pos = 0;							\
	__base = cost_time(__loops, cost_do(&__walk, _without));	\
	div_u64(1000 * (__with - __base), __loops);			\
})

static noinline u64 cost_pair(struct mm_struct *mm, unsigned int nr,
			      unsigned long offset, unsigned long len,
			      unsigned int loops)
{
	return cost_walk_op(mm, nr, offset, len, loops, COST_PAIR, COST_NOTHING);
}

/* The scoped form of our call sites; in stock: init, start and end. */
static __always_inline void cost_do_scoped(struct cost_walk *walk)
{
	unsigned long start = cost_next(walk);
#ifdef mmu_invalidate_guard
	mmu_invalidate_guard(range, MMU_NOTIFY_CLEAR, 0, walk->mm, start, start + walk->len);

	barrier_data(range);
#else
	struct mmu_notifier_range range;

	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, walk->mm, start,
				start + walk->len);
	mmu_notifier_invalidate_range_start(&range);
	barrier_data(&range);
	mmu_notifier_invalidate_range_end(&range);
#endif
}

static noinline u64 cost_scoped(struct mm_struct *mm, unsigned int nr)
{
	struct cost_walk walk = cost_walk(mm, nr, PAGE_SIZE, PAGE_SIZE);
	u64 with, base;

	with = cost_time(COST_LOOPS, cost_do_scoped(&walk));
	walk.pos = 0;
	base = cost_time(COST_LOOPS, ({
		unsigned long start = cost_next(&walk);

		barrier_data(&start);
	}));
	return div_u64(1000 * (with - base), COST_LOOPS);
}

/* A pair, including the initialisation of the range. */
static noinline u64 cost_site(struct mm_struct *mm, unsigned int nr)
{
	return cost_walk_op(mm, nr, PAGE_SIZE, PAGE_SIZE, COST_LOOPS, COST_PAIR,
			    COST_NO_INIT);
}

static noinline u64 cost_nested(struct mm_struct *mm, unsigned int nr)
{
	return cost_walk_op(mm, nr, PAGE_SIZE, PAGE_SIZE, COST_LOOPS, COST_NESTED,
			    COST_NOTHING);
}

static noinline u64 cost_nonblock(struct mm_struct *mm, unsigned int nr)
{
	return cost_walk_op(mm, nr, PAGE_SIZE, PAGE_SIZE, COST_LOOPS, COST_NONBLOCK,
			    COST_NOTHING);
}

static u64 cost_miss(struct mm_struct *mm, unsigned int nr)
{
	return cost_pair(mm, nr, PAGE_SIZE, PAGE_SIZE, COST_LOOPS);
}

static u64 cost_hit(struct mm_struct *mm, unsigned int nr)
{
	return cost_pair(mm, nr, 0, PAGE_SIZE, COST_LOOPS);
}

/*
 * Insert and remove notifiers, few in comparison with the set: scattered in its
 * gaps, or after its last interval.
 */
static noinline int cost_insert_remove(struct bench_set *set, const char *suffix,
				       bool scattered)
{
	unsigned int batch = clamp(set->nr / 100, 1U, COST_MAX_BATCH);
	unsigned int rounds = COST_MAX_BATCH / batch, round, failed = 0;
	struct mmu_interval_notifier *subs;
	u64 insert = 0, removal = 0, base = 0;
	struct cost_walk walk;
	unsigned int i;

	subs = kvcalloc(batch, sizeof(*subs), GFP_KERNEL);
	if (!subs)
		return -ENOMEM;
	walk = cost_walk(set->mm, set->nr, PAGE_SIZE, PAGE_SIZE);
	if (!scattered) {
		walk.nr = UINT_MAX;
		walk.step = 1;
	}
	for (round = 0; round < rounds; round++) {
		if (!scattered)
			walk.pos = set->nr;
		i = 0;
		insert += cost_time(batch, failed |=
			mmu_interval_notifier_insert(&subs[i++], walk.mm,
						     cost_next(&walk), walk.len,
						     &bench_interval_ops));
		i = 0;
		removal += cost_time(batch,
				     mmu_interval_notifier_remove(&subs[i++]));
		i = 0;
		base += cost_time(batch, OPTIMIZER_HIDE_VAR(i); i++);
	}
	kvfree(subs);
	if (failed)
		return -EIO;
	bench_report(div_u64(1000 * (insert - base), batch * rounds),
		     "insert%s.%u", suffix, set->nr);
	bench_report(div_u64(1000 * (removal - base), batch * rounds),
		     "remove%s.%u", suffix, set->nr);
	return 0;
}

static u64 cost_read_begin(struct mmu_interval_notifier *sub, bool retry)
{
	u64 with, base;

	if (retry)
		with = cost_time(COST_LOOPS, ({
			unsigned long seq = mmu_interval_read_begin(sub);

			if (mmu_interval_read_retry(sub, seq))
				break;
		}));
	else
		with = cost_time(COST_LOOPS, mmu_interval_read_begin(sub));
	base = cost_time(COST_LOOPS, ({}));
	return div_u64(1000 * (with - base), COST_LOOPS);
}

static int cost_of_set(unsigned int nr)
{
	struct bench_set set;
	int ret = bench_set_make(&set, nr);

	if (ret)
		return ret;
	bench_report(cost_miss(set.mm, nr), "miss.%u", nr);
	bench_report(cost_miss(set.mm, 1), "miss_first.%u", nr);
	bench_report(cost_site(set.mm, nr), "miss_with_init.%u", nr);
	bench_report(cost_nonblock(set.mm, nr), "miss_nonblock.%u", nr);
	bench_report(cost_hit(set.mm, nr), "hit.%u", nr);
	bench_report(cost_hit(set.mm, 1), "hit_first.%u", nr);
	if (nr == 1000) {
		/* A range of 100 strides overlaps exactly 100 intervals. */
		bench_report(cost_pair(set.mm, nr - 99, 0, 100 * BENCH_STRIDE, 500),
			     "hit100.%u", nr);
		bench_report(cost_nested(set.mm, nr), "nested.%u", nr);
	}
	ret = cost_insert_remove(&set, "", true) ?:
	      cost_insert_remove(&set, "_tail", false);
	if (nr == 1) {
		bench_report(cost_read_begin(set.subs, false), "read_begin");
		bench_report(cost_read_begin(set.subs, true), "read_begin_retry");
	}
	bench_set_free(&set);
	return ret;
}

static DEFINE_MUTEX(driver_mutex);

static bool driver_invalidate(struct mmu_interval_notifier *interval_sub,
			      const struct mmu_notifier_range *range,
			      unsigned long cur_seq)
{
	if (!mmu_notifier_range_blockable(range)) {
		if (!mutex_trylock(&driver_mutex))
			return false;
	} else {
		mutex_lock(&driver_mutex);
	}
	mmu_interval_set_seq(interval_sub, cur_seq);
	mutex_unlock(&driver_mutex);
	return true;
}

static const struct mmu_interval_notifier_ops driver_ops = {
	.invalidate = driver_invalidate,
};

/*
 * The only notifier of the mm is inserted and removed for each fault, as in
 * nouveau.
 */
static int cost_alone(struct bench_set *set)
{
	struct mmu_interval_notifier sub;
	u64 with, base;
	int ret;

	ret = mmu_interval_notifier_insert(&sub, set->mm, bench_slot(0), PAGE_SIZE,
					   &driver_ops);
	if (ret)
		return ret;
	bench_report(cost_hit(set->mm, 1), "hit_mutex.1");
	mmu_interval_notifier_remove(&sub);

	with = cost_time(COST_LOOPS, ({
		ret = mmu_interval_notifier_insert(&sub, set->mm, bench_slot(0),
						   PAGE_SIZE, &bench_interval_ops);
		if (ret)
			break;
		mmu_interval_notifier_remove(&sub);
	}));
	base = cost_time(COST_LOOPS, ({}));
	bench_report(div_u64(1000 * (with - base), COST_LOOPS), "insert_remove.alone");
	return ret;
}

/* Before the first subscriber, and after the last one. */
static int cost_without(void)
{
	struct bench_set set;
	int ret = bench_set_make(&set, 0);

	if (ret)
		return ret;
	bench_report(cost_miss(set.mm, 1), "never");
	bench_report(cost_site(set.mm, 1), "never_with_init");
	bench_report(cost_scoped(set.mm, 1), "never_scoped");
	bench_report(1000 * sizeof(struct mmu_notifier_range), "range_bytes");
	bench_report(cost_nonblock(set.mm, 1), "never_nonblock");
	ret = cost_alone(&set);
	if (!ret) {
		msleep(3000);
		bench_report(cost_miss(set.mm, 1), "left");
	}
	bench_set_free(&set);
	return ret;
}

static int cost_list(void)
{
	struct mmu_notifier subs[2] = { { .ops = &bench_list_ops }, { .ops = &bench_list_ops } };
	struct bench_set set;
	int i, ret;

	ret = bench_set_make(&set, 0);
	if (ret)
		return ret;
	for (i = 0; i < ARRAY_SIZE(subs) && !ret; i++) {
		ret = mmu_notifier_register(&subs[i], set.mm);
		if (!ret)
			bench_report(cost_miss(set.mm, 1), "list.%d", i + 1);
	}
	while (i--)
		mmu_notifier_unregister(&subs[i], set.mm);
	subs[0].ops = &bench_kvm_ops;
	ret = ret ?: mmu_notifier_register(&subs[0], set.mm);
	if (!ret) {
		bench_report(cost_miss(set.mm, 1), "list.kvm");
		mmu_notifier_unregister(&subs[0], set.mm);
	}
	bench_set_free(&set);
	return ret;
}

int bench_cost(const char *arg)
{
	unsigned int nr;
	int ret;

	ret = cost_without() ?: cost_list();
	for (nr = 1; nr <= 100000 && !ret; nr *= 10)
		ret = cost_of_set(nr);
	return ret;
}

/* The cost of the first subscriber of an mm with the writer's VMAs. */
int bench_register(const char *arg)
{
	struct mmu_notifier list = { .ops = &bench_list_ops }, second = { .ops = &bench_list_ops };
	struct mmu_interval_notifier sub;
	u64 first_cost, cost, late_cost;
	int ret = 0;

	first_cost = cost_time(1, ret = mmu_notifier_register(&list, current->mm));
	if (ret)
		return ret;
	cost = cost_time(1, ret = mmu_notifier_register(&second, current->mm));
	if (!ret)
		mmu_notifier_unregister(&second, current->mm);
	mmu_notifier_unregister(&list, current->mm);
	if (ret)
		return ret;

	/* The first interval notifier, after the mm was disarmed. */
	msleep(3000);
	late_cost = cost_time(1, ret = mmu_interval_notifier_insert(&sub, current->mm,
								    BENCH_BASE, PAGE_SIZE,
								    &bench_interval_ops));
	if (ret)
		return ret;
	mmu_interval_notifier_remove(&sub);
	msleep(3000);
	bench_report(1000 * first_cost, "register.%s", arg);
	bench_report(1000 * cost, "register_second.%s", arg);
	bench_report(1000 * late_cost, "insert_first.%s", arg);
	cost = cost_time(1, ret = mmu_interval_notifier_insert(&sub, current->mm,
							       BENCH_BASE, PAGE_SIZE,
							       &bench_interval_ops));
	if (ret)
		return ret;
	mmu_interval_notifier_remove(&sub);
	bench_report(1000 * cost, "insert_again.%s", arg);
	return 0;
}
