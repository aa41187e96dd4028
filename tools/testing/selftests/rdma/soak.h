/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A soak test: random transfers between areas of paged memory, while the owner and the
 * kernel change that memory. Each area has a shadow, which holds what its bytes must be.
 *
 * A transfer that is under way makes its bytes busy. What changes or removes bytes is done
 * to others only, so that the shadow is exact; what moves them is done to any.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef SOAK_H
#define SOAK_H

#include <sys/types.h>

#include "odp_loop.h"

#include "../kselftest.h"

#define SOAK_AREAS	3
#define SOAK_LEN	(3 * ODP_CHUNK)
#define SOAK_PAIRS	2
#define SOAK_DEPTH	8		/* transfers under way, of a pair */
#define SOAK_BUSY	(2 * SOAK_PAIRS * SOAK_DEPTH)
#define SOAK_PAGE	4096UL

/* What is counted, in the order of the table at the end. */
enum soak_count {
	SOAK_WRITE, SOAK_READ, SOAK_SEND, SOAK_ATOMIC, SOAK_BYTES, SOAK_REFUSED,
	SOAK_REGISTER, SOAK_ADVISE, SOAK_STORE, SOAK_COMPARE,
	SOAK_PAGEOUT, SOAK_COLLAPSE, SOAK_ADVICE, SOAK_MIGRATE, SOAK_MERGE, SOAK_LOCK,
	SOAK_DISCARD, SOAK_PROTECT, SOAK_REMAP, SOAK_MAP, SOAK_TRUNCATE, SOAK_FORK, SOAK_EXEC,
	SOAK_KILL,
	SOAK_NR
};

struct soak_range {
	size_t at, len;
};

struct soak_area {
	char *mem, *shadow;
	int fd;				/* of a memfd, or -1: anonymous memory */
	struct ibv_mr *mr;
	struct soak_range covered;	/* by the region */
	struct soak_range busy[SOAK_BUSY];
	int nr_busy;
};

struct soak_job {
	enum ibv_wr_opcode op;
	struct soak_area *src, *dst;
	size_t src_at, dst_at, len;
	uint64_t compare_add, swap;
};

struct soak {
	struct odp_dev dev;
	struct odp_pair pair[SOAK_PAIRS];
	struct soak_job job[SOAK_PAIRS][SOAK_DEPTH];
	unsigned int posted[SOAK_PAIRS], done[SOAK_PAIRS];
	struct soak_area area[SOAK_AREAS];
	uint64_t seed, state, step;
	uint64_t *count;		/* of SOAK_NR, shared with the parent */
	pid_t child;
};

/* Ends the process: says what, with the seed that shows it again. */
void __noreturn soak_fail(struct soak *soak, const char *what, long long value);

/* Below @below. */
uint64_t soak_random(struct soak *soak, uint64_t below);

/* soak_area.c */
int soak_area_open(struct soak *soak, struct soak_area *area, bool shared);
void soak_area_register(struct soak *soak, struct soak_area *area);
struct soak_range soak_pick(struct soak *soak, struct soak_area *area, size_t longest);
bool soak_is_busy(const struct soak_area *area, struct soak_range range);
void soak_set_busy(struct soak_area *area, struct soak_range range);
void soak_clear_busy(struct soak_area *area, struct soak_range range);
void soak_compare(struct soak *soak, struct soak_area *area, struct soak_range range);

/* soak_change.c: do something to the memory of an area, chosen at random. */
void soak_change(struct soak *soak);

/* soak_transfer.c */
void soak_post(struct soak *soak);
bool soak_complete(struct soak *soak);	/* false: none is under way */
void soak_refused(struct soak *soak);

#endif
