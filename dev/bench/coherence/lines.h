/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The CPUs that hold each cache line. See lines.c.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef PINLESS_LINES_H
#define PINLESS_LINES_H

#include <stdbool.h>
#include <stdint.h>

#define LINES_SHIFT	6	/* 64 bytes */
#define LINES_MAX_CPUS	64

/**
 * enum lines_event - what an access needs from other CPUs
 * @LINES_NOTHING: nothing: the line is here, or in no cache
 * @LINES_FETCH: another CPU wrote the line since this CPU touched it
 * @LINES_UPGRADE: this CPU writes a line that it need not fetch, and others hold
 */
enum lines_event {
	LINES_NOTHING,
	LINES_FETCH,
	LINES_UPGRADE,
};

void lines_forget(void);
enum lines_event lines_touch(uint64_t line, unsigned int cpu, bool write);

#endif /* PINLESS_LINES_H */
