// SPDX-License-Identifier: GPL-2.0
/*
 * CPUs that take turns: one operation per turn, and one CPU at a time.
 *
 * A thread is bound to each CPU. It waits for its turn, marks the beginning of
 * an operation for the QEMU plugin (marks.h), executes it, marks the end, and
 * starts the turn of the next CPU. Interrupts are disabled during the
 * operation, so the plugin counts nothing else. Threads sleep while they wait:
 * the guest's clock counts instructions, and idle CPUs execute none.
 *
 * Operations that sleep run with interrupts enabled. A preemption notifier,
 * which is KVM's hook in the scheduler, marks when the thread is scheduled out
 * and in.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/kthread.h>
#include <linux/slab.h>

#include "bench.h"
#include "turns.h"

#define TURNS_WARM	3U	/* rounds that are not counted */
#define TURNS_COUNTED	4U

static_assert(MARK_STACK == THREAD_SIZE);

/* A mark is an immediate operand, so each class needs its own instruction. */
static __always_inline void turns_mark_begin(unsigned int class)
{
	switch (class) {
	case 0:
		MARK(MARK_BEGIN | 0);
		break;
	case 1:
		MARK(MARK_BEGIN | 1);
		break;
	case 2:
		MARK(MARK_BEGIN | 2);
		break;
	case 3:
		MARK(MARK_BEGIN | 3);
		break;
	}
}

static void turns_sched_in(struct preempt_notifier *notifier, int cpu)
{
	MARK(MARK_WAKE);
}

static void turns_sched_out(struct preempt_notifier *notifier,
			    struct task_struct *next)
{
	MARK(MARK_SLEEP);
}

static struct preempt_ops turns_preempt_ops = {
	.sched_in = turns_sched_in,
	.sched_out = turns_sched_out,
};

static bool turns_takes_part(const struct turns_cpu *cpu, enum turns_who who)
{
	return who == TURNS_ALL || (who == TURNS_FIRST) == (cpu->nr == 0);
}

static noinline int turns_do(struct turns_cpu *cpu, unsigned int class)
{
	int (*op)(struct turns_cpu *cpu) = cpu->turns->row->phases[class].op;
	bool sleeps = cpu->turns->row->sleeps;
	unsigned long flags = 0;
	int ret;

	if (!sleeps)
		local_irq_save(flags);
	turns_mark_begin(class);
	ret = op(cpu);
	MARK(MARK_END);
	if (!sleeps)
		local_irq_restore(flags);
	return ret;
}

static void turns_take(struct turns_cpu *cpu, unsigned int round, unsigned int class)
{
	struct turns *turns = cpu->turns;
	struct turns_cpu *next = &turns->cpus[(cpu->nr + 1) % turns->nr_cpus];
	int ret = 0;

	wait_for_completion(&cpu->turn);
	if (round == TURNS_WARM && !class && !cpu->nr)
		MARK(MARK_COUNT);
	if (turns_takes_part(cpu, turns->row->phases[class].who))
		ret = turns_do(cpu, class);
	if (ret && !turns->ret)
		turns->ret = ret;
	complete(&next->turn);
}

static int turns_thread(void *data)
{
	struct turns_cpu *cpu = data;
	struct turns *turns = cpu->turns;
	unsigned int round, class;

	preempt_notifier_init(&cpu->asleep, &turns_preempt_ops);
	preempt_notifier_register(&cpu->asleep);
	for (round = 0; round < TURNS_WARM + TURNS_COUNTED; round++)
		for (class = 0; class < MARK_CLASSES && turns->row->phases[class].op; class++)
			turns_take(cpu, round, class);
	preempt_notifier_unregister(&cpu->asleep);
	if (atomic_dec_and_test(&turns->running))
		kthread_complete_and_exit(&turns->done, 0);
	return 0;
}

/* The threads wait for their turns. All are created before the first. */
static int turns_start(struct turns *turns)
{
	struct task_struct **tasks;
	unsigned int i, made;
	int ret = 0;

	tasks = kcalloc(turns->nr_cpus, sizeof(*tasks), GFP_KERNEL);
	if (!tasks)
		return -ENOMEM;
	for (made = 0; made < turns->nr_cpus; made++) {
		tasks[made] = kthread_create_on_cpu(turns_thread, &turns->cpus[made], made,
						    "turns/%u");
		if (IS_ERR(tasks[made])) {
			ret = PTR_ERR(tasks[made]);
			break;
		}
	}
	for (i = 0; i < made; i++) {
		if (ret)
			kthread_stop(tasks[i]);
		else
			wake_up_process(tasks[i]);
	}
	kfree(tasks);
	return ret;
}

/**
 * turns_run() - run a row on all CPUs
 * @turns: from turns_alloc()
 * @row: the row
 * @mm: the mm of the row
 *
 * Return: 0, or the first error.
 */
int turns_run(struct turns *turns, const struct turns_row *row, struct mm_struct *mm)
{
	static unsigned int nr_rows;
	unsigned int i;
	int ret;

	turns->row = row;
	turns->ret = 0;
	atomic_set(&turns->running, turns->nr_cpus);
	init_completion(&turns->done);
	for (i = 0; i < turns->nr_cpus; i++) {
		turns->cpus[i].mm = mm;
		init_completion(&turns->cpus[i].turn);
	}

	MARK(MARK_ROW);
	ret = turns_start(turns);
	if (ret)
		return ret;
	complete(&turns->cpus[0].turn);
	wait_for_completion(&turns->done);
	MARK(MARK_DONE);

	for (i = 0; i < MARK_CLASSES && row->phases[i].op; i++)
		bench_report(1000 * (nr_rows * MARK_CLASSES + i), "%s", row->phases[i].name);
	nr_rows++;
	return turns->ret;
}

struct turns *turns_alloc(void)
{
	unsigned int i, nr = num_online_cpus();
	struct turns *turns = kzalloc(sizeof(*turns), GFP_KERNEL);
	u64 *packed = kcalloc(nr, sizeof(*packed), GFP_KERNEL);

	if (turns)
		turns->cpus = kcalloc(nr, sizeof(*turns->cpus), GFP_KERNEL);
	if (!turns || !packed || !turns->cpus) {
		kfree(packed);
		kfree(turns);
		return NULL;
	}
	turns->nr_cpus = nr;
	for (i = 0; i < nr; i++) {
		turns->cpus[i].nr = i;
		turns->cpus[i].turns = turns;
		turns->cpus[i].packed = &packed[i];
	}
	preempt_notifier_inc();
	return turns;
}

void turns_free(struct turns *turns)
{
	preempt_notifier_dec();
	kfree(turns->cpus[0].packed);
	kfree(turns->cpus);
	kfree(turns);
}
