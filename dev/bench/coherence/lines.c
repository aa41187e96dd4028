// SPDX-License-Identifier: GPL-2.0
/*
 * A model of coherent caches that never evict.
 *
 * For each line it keeps the CPU that wrote it last, and its holders: the CPUs
 * that have touched it since, with the writer. A CPU that holds the line reads it
 * for nothing, and writes it for nothing if no other CPU holds it. These are the
 * M, S and I of a MESI protocol; E needs no state, because a line that only this
 * CPU holds is written for nothing.
 *
 * The first access to a line comes from memory. That is no transfer.
 *
 * Lines are numbered by physical address, so that aliases are one line. Only one
 * thread runs all vCPUs, so there are no locks here.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <stdio.h>
#include <stdlib.h>

#include "lines.h"

#define LINES_SLOTS	(1U << 16)

/**
 * struct lines_line - a cache line, in an open hash table
 * @nr: its number
 * @holders: a bit for each CPU
 * @era: the slot is free if this is not the current one
 * @writer: the CPU that wrote it last, or -1
 */
struct lines_line {
	uint64_t nr;
	uint64_t holders;
	unsigned int era;
	int writer;
};

static struct lines_line lines_table[LINES_SLOTS];
static unsigned int lines_era = 1;
static unsigned int lines_used;

/* Begin anew, as if no CPU had touched anything. */
void lines_forget(void)
{
	lines_era++;
	lines_used = 0;
}

static struct lines_line *lines_find(uint64_t nr)
{
	unsigned int slot = (nr * 0x9e3779b97f4a7c15ULL) >> 48;
	struct lines_line *line;

	for (;; slot++) {
		line = &lines_table[slot % LINES_SLOTS];
		if (line->era != lines_era)
			break;
		if (line->nr == nr)
			return line;
	}
	if (++lines_used > LINES_SLOTS / 2) {
		fprintf(stderr, "coherence: more than %u lines in one row\n",
			LINES_SLOTS / 2);
		exit(1);
	}
	*line = (struct lines_line){ .nr = nr, .era = lines_era, .writer = -1 };
	return line;
}

/* @cpu reads or writes line @nr. What does that need from other CPUs? */
enum lines_event lines_touch(uint64_t nr, unsigned int cpu, bool write)
{
	struct lines_line *line = lines_find(nr);
	enum lines_event event = LINES_NOTHING;
	uint64_t self = 1ULL << cpu;

	if (!(line->holders & self) && line->writer >= 0)
		event = LINES_FETCH;
	else if (write && (line->holders & ~self))
		event = LINES_UPGRADE;

	if (write) {
		line->holders = self;
		line->writer = cpu;
	} else {
		line->holders |= self;
	}
	return event;
}
