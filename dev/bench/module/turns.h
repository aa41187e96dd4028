/* SPDX-License-Identifier: GPL-2.0 */
/*
 * CPUs that take turns. See turns.c.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef PINLESS_TURNS_H
#define PINLESS_TURNS_H

#include <linux/completion.h>
#include <linux/mmu_notifier.h>
#include <linux/preempt.h>

#include "marks.h"

/**
 * struct turns_cpu - a CPU that takes turns, and its objects
 * @nr: CPU number
 * @mm: the mm of the row
 * @turns: all CPUs
 * @turn: the previous CPU completes it to start a turn of this CPU
 * @asleep: marks for the plugin when the thread is scheduled in and out
 * @own: an interval notifier that is always inserted
 * @extra: an interval notifier that operations insert and remove
 * @list: a list notifier that operations register and unregister
 * @private: for controls: a line of this CPU
 * @packed: for controls: eight CPUs share a line
 *
 * Objects that operations write have separate cache lines, as objects of
 * drivers do. So a line that two CPUs write belongs to the core.
 */
struct turns_cpu {
	unsigned int nr;
	struct mm_struct *mm;
	struct turns *turns;
	u64 *packed;
	struct completion turn ____cacheline_aligned;
	struct preempt_notifier asleep;
	struct mmu_interval_notifier own ____cacheline_aligned;
	struct mmu_interval_notifier extra ____cacheline_aligned;
	struct mmu_notifier list ____cacheline_aligned;
	unsigned long private ____cacheline_aligned;
};

/* Which CPUs take a turn in a phase. */
enum turns_who {
	TURNS_ALL,
	TURNS_FIRST,		/* CPU 0 */
	TURNS_OTHERS,		/* all but CPU 0 */
};

/**
 * struct turns_phase - an operation that the CPUs execute one after the other
 * @name: the name of its result
 * @op: the operation
 * @who: the CPUs that execute it; the turns of the others are empty
 */
struct turns_phase {
	const char *name;
	int (*op)(struct turns_cpu *cpu);
	enum turns_who who;
};

/**
 * struct turns_row - the phases of a row; each round executes all of them
 * @phases: the phases, up to the first without an op
 * @sleeps: operations sleep, so they run with interrupts enabled
 */
struct turns_row {
	struct turns_phase phases[MARK_CLASSES];
	bool sleeps;
};

/**
 * struct turns - all CPUs, while a row runs
 * @row: the row
 * @cpus: CPU 0 to CPU @nr_cpus - 1; all online CPUs
 * @nr_cpus: number of CPUs
 * @ret: the first error of an operation
 * @running: number of threads that have not finished
 * @done: completed by the last thread
 */
struct turns {
	const struct turns_row *row;
	struct turns_cpu *cpus;
	unsigned int nr_cpus;
	int ret;
	atomic_t running;
	struct completion done;
};

struct turns *turns_alloc(void);
void turns_free(struct turns *turns);
int turns_run(struct turns *turns, const struct turns_row *row, struct mm_struct *mm);

#endif /* PINLESS_TURNS_H */
