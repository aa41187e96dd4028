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
 * struct turns_cpu - a CPU that takes turns, and what it works on
 * @nr: its number
 * @mm: the row's
 * @turns: all CPUs that take part
 * @turn: the baton: completed by the CPU before
 * @asleep: tells the plugin when the CPU's thread leaves it
 * @own: an interval notifier that is inserted all the time
 * @extra: one that operations insert and remove
 * @list: a list notifier that they register and unregister
 * @private: for controls: of this CPU
 * @packed: for controls: eight CPUs share a line
 *
 * What operations write has cache lines of its own, as it has in a driver's object:
 * a line that two CPUs write is then the core's.
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
 * struct turns_phase - what CPUs do, one after the other
 * @name: under which it is reported
 * @op: the operation, one a turn
 * @who: which CPUs; the others pass the baton on
 */
struct turns_phase {
	const char *name;
	int (*op)(struct turns_cpu *cpu);
	enum turns_who who;
};

/**
 * struct turns_row - phases that follow each other, round by round
 * @phases: up to the first without an @op
 * @sleeps: operations sleep, so they run with interrupts on
 */
struct turns_row {
	struct turns_phase phases[MARK_CLASSES];
	bool sleeps;
};

/**
 * struct turns - all CPUs, while a row runs
 * @row: the row
 * @cpus: CPU 0 to CPU @nr_cpus - 1, all that are online
 * @nr_cpus: how many
 * @ret: the first error of an operation
 * @running: threads that have not finished
 * @done: there are none
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
