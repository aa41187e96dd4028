/* SPDX-License-Identifier: GPL-2.0 */
/*
 * MMU notifier torture: changes of an address space.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef _MMU_NOTIFIER_TORTURE_OPS_H
#define _MMU_NOTIFIER_TORTURE_OPS_H

#include <stddef.h>

#define PAGE		4096UL
#define HUGE		(2UL << 20)

/* The memory that is changed. All threads of a process share it. */
struct arena {
	char *addr;
	size_t len;
	int shared;		/* a memfd as large as the arena */
	int clear_refs;		/* /proc/self/clear_refs */
};

/* The random state of a thread. */
struct chance {
	unsigned long long state;
};

unsigned int draw(struct chance *chance, unsigned int below);

int arena_open(struct arena *arena);
void arena_change(struct arena *arena, struct chance *chance);
void catch_bad_accesses(void);

/* The number of successful changes of each kind, in all processes. */
#define ARENA_MAX_OPS	32
struct arena_counts {
	unsigned long done[ARENA_MAX_OPS];
};

extern struct arena_counts *arena_counts;
size_t arena_nr_ops(void);
const char *arena_op_name(size_t op);
/* May it never succeed, because of a missing feature or by chance? */
int arena_op_optional(size_t op);

#endif /* _MMU_NOTIFIER_TORTURE_OPS_H */
