// SPDX-License-Identifier: GPL-2.0
/*
 * The operations of T=coherence. A QEMU plugin counts their cache-line
 * transfers, locked operations and barriers (../coherence/plugin.c). All online
 * CPUs take turns (turns.c).
 *
 * Controls run first. Their cost is known, so they verify the plugin.
 *
 * Each CPU has its own interval in the mm, at bench_slot(2 * nr), and the gap
 * after it. So the CPUs share no lines except those of the mm and of the core.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/sched/mm.h>
#include <linux/string.h>

#include "bench.h"
#include "turns.h"

/* Shared by the controls. Each has its own line. */
static struct {
	atomic_t atomic ____cacheline_aligned;
	spinlock_t lock ____cacheline_aligned;
	unsigned long beside;			/* in the line of the lock */
	unsigned long apart ____cacheline_aligned;
	unsigned long read_only ____cacheline_aligned;
} shared ____cacheline_aligned = {
	.lock = __SPIN_LOCK_UNLOCKED(shared.lock),
};

static int control_percpu(struct turns_cpu *cpu)
{
	WRITE_ONCE(cpu->private, READ_ONCE(cpu->private) + 1);
	return 0;
}

static int control_read_only(struct turns_cpu *cpu)
{
	READ_ONCE(shared.read_only);
	return 0;
}

static int control_atomic(struct turns_cpu *cpu)
{
	atomic_inc(&shared.atomic);
	return 0;
}

static int control_false_sharing(struct turns_cpu *cpu)
{
	WRITE_ONCE(*cpu->packed, 1);
	return 0;
}

static int control_read_write(struct turns_cpu *cpu)
{
	WRITE_ONCE(shared.apart, READ_ONCE(shared.apart) + 1);
	return 0;
}

static int control_lock_beside(struct turns_cpu *cpu)
{
	spin_lock(&shared.lock);
	WRITE_ONCE(shared.beside, READ_ONCE(shared.beside) + 1);
	spin_unlock(&shared.lock);
	return 0;
}

static int control_lock_apart(struct turns_cpu *cpu)
{
	spin_lock(&shared.lock);
	WRITE_ONCE(shared.apart, cpu->nr);
	spin_unlock(&shared.lock);
	return 0;
}

static int control_xchg(struct turns_cpu *cpu)
{
	xchg(&cpu->private, 1);
	return 0;
}

static int control_smp_mb(struct turns_cpu *cpu)
{
	smp_mb();	/* only counted, pairs with nothing */
	return 0;
}

static int control_mb(struct turns_cpu *cpu)
{
	mb();		/* as above */
	return 0;
}

static int invalidate(struct turns_cpu *cpu, unsigned long offset)
{
	unsigned long start = bench_slot(2 * cpu->nr) + offset;
	struct mmu_notifier_range range;

	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, cpu->mm, start,
				start + PAGE_SIZE);
	mmu_notifier_invalidate_range_start(&range);
	mmu_notifier_invalidate_range_end(&range);
	return 0;
}

static int op_hit(struct turns_cpu *cpu)
{
	return invalidate(cpu, 0);
}

static int op_miss(struct turns_cpu *cpu)
{
	return invalidate(cpu, PAGE_SIZE);
}

static int op_read_begin(struct turns_cpu *cpu)
{
	mmu_interval_read_begin(&cpu->own);
	return 0;
}

static int op_insert(struct turns_cpu *cpu)
{
	return mmu_interval_notifier_insert(&cpu->extra, cpu->mm,
					    bench_slot(2 * cpu->nr + 1), PAGE_SIZE,
					    &bench_interval_ops);
}

static int op_remove(struct turns_cpu *cpu)
{
	mmu_interval_notifier_remove(&cpu->extra);
	return 0;
}

static int op_insert_remove(struct turns_cpu *cpu)
{
	return op_insert(cpu) ?: op_remove(cpu);
}

static int op_age(struct turns_cpu *cpu)
{
	unsigned long start = bench_slot(2 * cpu->nr);

	return mmu_notifier_clear_young(cpu->mm, start, start + PAGE_SIZE);
}

static const struct mmu_notifier_ops age_ops = {
	.clear_young = bench_list_age,
};

static int op_register(struct turns_cpu *cpu)
{
	cpu->list.ops = &bench_list_ops;
	return mmu_notifier_register(&cpu->list, cpu->mm);
}

static int op_unregister(struct turns_cpu *cpu)
{
	mmu_notifier_unregister(&cpu->list, cpu->mm);
	return 0;
}

static const struct turns_row control_rows[] = {
	{ { { "control.percpu", control_percpu } } },
	{ { { "control.read_only", control_read_only } } },
	{ { { "control.atomic", control_atomic } } },
	{ { { "control.false_sharing", control_false_sharing } } },
	{ { { "control.read_write", control_read_write } } },
	{ { { "control.lock_beside", control_lock_beside } } },
	{ { { "control.lock_apart", control_lock_apart } } },
	{ { { "control.xchg", control_xchg } } },
	{ { { "control.smp_mb", control_smp_mb } } },
	{ { { "control.mb", control_mb } } },
};

static const struct turns_row never_rows[] = {
	{ { { "never", op_miss } } },
};

static const struct turns_row interval_rows[] = {
	{ { { "miss", op_miss } } },
	{ { { "hit", op_hit } } },
	{ { { "read_begin", op_read_begin } } },
	{ { { "insert", op_insert }, { "remove", op_remove } } },
	{ { { "insert_remove", op_insert_remove } } },
	{ { { "among_misses.read_begin", op_read_begin, TURNS_FIRST },
	    { "beside_read_begin.miss", op_miss, TURNS_OTHERS } } },
	{ { { "among_misses.insert_remove", op_insert_remove, TURNS_FIRST },
	    { "beside_insert_remove.miss", op_miss, TURNS_OTHERS } } },
	{ { { "among_misses.insert", op_insert, TURNS_FIRST },
	    { "after_insert.miss", op_miss, TURNS_OTHERS },
	    { "among_misses.remove", op_remove, TURNS_FIRST },
	    { "after_remove.miss", op_miss, TURNS_OTHERS } } },
};

static const struct turns_row list_rows[] = {
	{ { { "list", op_miss } } },
	{ { { "register", op_register }, { "unregister", op_unregister } }, .sleeps = true },
};

static const struct turns_row age_rows[] = {
	{ { { "age", op_age } } },
};

static const struct turns_row kvm_rows[] = {
	{ { { "kvm", op_miss } } },
	{ { { "kvm_age", op_age } } },
};

#define run_rows(_turns, _rows, _mm)	run_some(_turns, _rows, ARRAY_SIZE(_rows), _mm)

static int run_some(struct turns *turns, const struct turns_row *rows, unsigned int nr,
		    struct mm_struct *mm)
{
	int ret = 0;

	while (nr-- && !ret)
		ret = turns_run(turns, rows++, mm);
	return ret;
}

static int run_intervals(struct turns *turns, struct mm_struct *mm)
{
	unsigned int nr;
	int ret = 0;

	for (nr = 0; nr < turns->nr_cpus && !ret; nr++)
		ret = mmu_interval_notifier_insert(&turns->cpus[nr].own, mm,
						   bench_slot(2 * nr), PAGE_SIZE,
						   &bench_interval_ops);
	if (ret)
		nr--;
	else
		ret = run_rows(turns, interval_rows, mm);
	while (nr--)
		mmu_interval_notifier_remove(&turns->cpus[nr].own);
	return ret;
}

static int run_list(struct turns *turns, struct mm_struct *mm,
		    const struct mmu_notifier_ops *ops, const struct turns_row *rows,
		    unsigned int nr)
{
	struct mmu_notifier list = { .ops = ops };
	int ret;

	ret = mmu_notifier_register(&list, mm);
	if (ret)
		return ret;
	ret = run_some(turns, rows, nr, mm);
	mmu_notifier_unregister(&list, mm);
	return ret;
}

/* Each kind uses a new mm, which never had another kind of notifier. */
static int run_kind(struct turns *turns, unsigned int kind)
{
	struct mm_struct *mm = mm_alloc();
	int ret = -EINVAL;

	if (!mm)
		return -ENOMEM;
	switch (kind) {
	case 0:
		ret = run_rows(turns, control_rows, mm);
		break;
	case 1:
		ret = run_rows(turns, never_rows, mm);
		break;
	case 2:
		ret = run_intervals(turns, mm);
		break;
	case 3:
		ret = run_list(turns, mm, &bench_list_ops, list_rows, ARRAY_SIZE(list_rows));
		break;
	case 4:
		ret = run_list(turns, mm, &age_ops, age_rows, ARRAY_SIZE(age_rows));
		break;
	}
	mmput(mm);
	return ret;
}

/* All rows. With "kvm": those for the writer's mm, which runs a VM. */
int bench_coherence(const char *arg)
{
	struct turns *turns = turns_alloc();
	unsigned int kind;
	int ret = 0;

	if (!turns)
		return -ENOMEM;
	if (!strcmp(arg, "kvm"))
		ret = run_rows(turns, kvm_rows, current->mm);
	else
		for (kind = 0; kind < 5 && !ret; kind++)
			ret = run_kind(turns, kind);
	turns_free(turns);
	return ret;
}
