// SPDX-License-Identifier: GPL-2.0
/*
 * MMU notifier torture: changes of an address space. Each change picks pages of
 * the arena. Threads make changes at the same time, so any change may fail, and
 * any access may be to an address that is not mapped.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kselftest.h"
#include "mmu_notifier_torture_ops.h"

#ifndef MADV_COLD
#define MADV_COLD	20
#define MADV_PAGEOUT	21
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE	23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

/* Some pages of the arena. */
struct span {
	char *addr;
	size_t len;
};

struct arena_counts *arena_counts;

static __thread sigjmp_buf bad_access;
static __thread int accessing;

unsigned int draw(struct chance *chance, unsigned int below)
{
	chance->state = chance->state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (chance->state >> 33) % below;
}

static void on_bad_access(int sig)
{
	if (accessing)
		siglongjmp(bad_access, 1);
	_exit(99);
}

void catch_bad_accesses(void)
{
	struct sigaction act = { .sa_handler = on_bad_access, .sa_flags = SA_NODEFER };

	sigaction(SIGSEGV, &act, NULL);
	sigaction(SIGBUS, &act, NULL);
}

static struct span draw_span(struct arena *arena, struct chance *chance)
{
	size_t nr = arena->len / PAGE;
	/* Mostly in the first eighth, where most notifiers are. */
	size_t first = draw(chance, draw(chance, 4) ? nr / 8 : nr);
	size_t pages = 1 + draw(chance, draw(chance, 8) ? 24 : 640);

	if (pages > nr - first)
		pages = nr - first;
	return (struct span){ arena->addr + first * PAGE, pages * PAGE };
}

/* Access one byte of each page. Returns 0 if all accesses succeeded. */
static int touch(struct span span, int write, int value)
{
	char *p;

	if (sigsetjmp(bad_access, 0)) {
		__atomic_store_n(&accessing, 0, __ATOMIC_RELAXED);
		return -1;
	}
	__atomic_store_n(&accessing, 1, __ATOMIC_RELAXED);
	for (p = span.addr; p < span.addr + span.len; p += PAGE) {
		if (write)
			__atomic_store_n(p, value, __ATOMIC_RELAXED);
		else
			__atomic_load_n(p, __ATOMIC_RELAXED);
	}
	__atomic_store_n(&accessing, 0, __ATOMIC_RELAXED);
	return 0;
}

static int op_read(struct arena *arena, struct chance *chance)
{
	return touch(draw_span(arena, chance), 0, 0);
}

static int op_write(struct arena *arena, struct chance *chance)
{
	return touch(draw_span(arena, chance), 1, draw(chance, 2));
}

static int map_anon(struct span span)
{
	return mmap(span.addr, span.len, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
		    -1, 0) == MAP_FAILED ? -1 : 0;
}

static int op_mmap(struct arena *arena, struct chance *chance)
{
	struct span span = draw_span(arena, chance);

	return map_anon(span) ?: touch(span, 1, 1);
}

static int op_munmap(struct arena *arena, struct chance *chance)
{
	struct span span = draw_span(arena, chance);
	int ret = munmap(span.addr, span.len);

	/* Map it again: most other changes need mapped pages. */
	return ret ?: map_anon(span);
}

static int op_map_file(struct arena *arena, struct chance *chance)
{
	struct span span = draw_span(arena, chance);
	int flags = draw(chance, 3) ? MAP_SHARED : MAP_PRIVATE;

	if (mmap(span.addr, span.len, PROT_READ | PROT_WRITE, flags | MAP_FIXED,
		 arena->shared, span.addr - arena->addr) == MAP_FAILED)
		return -1;
	return touch(span, draw(chance, 2), 1);
}

static int op_punch_hole(struct arena *arena, struct chance *chance)
{
	struct span span = draw_span(arena, chance);

	return fallocate(arena->shared, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 span.addr - arena->addr, span.len);
}

static int op_mprotect(struct arena *arena, struct chance *chance)
{
	static const int prots[] = {
		PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE,
	};
	struct span span = draw_span(arena, chance);

	return mprotect(span.addr, span.len, prots[draw(chance, 4)]);
}

static int op_mremap(struct arena *arena, struct chance *chance)
{
	struct span from = draw_span(arena, chance), to = draw_span(arena, chance);
	void *addr;

	if (to.len < from.len)
		from.len = to.len;
	addr = mremap(from.addr, from.len, from.len, MREMAP_MAYMOVE | MREMAP_FIXED,
		      to.addr);
	if (addr == MAP_FAILED)
		return -1;
	return map_anon(from);
}

/* Copy on write, in the parent and in the child. */
static int op_fork(struct arena *arena, struct chance *chance)
{
	struct span span = draw_span(arena, chance);
	pid_t pid;

	touch(span, 1, 1);
	pid = fork();
	if (!pid) {
		touch(span, 1, 2);
		_exit(0);
	}
	if (pid < 0)
		return -1;
	touch(span, 1, 3);
	return waitpid(pid, NULL, 0) == pid ? 0 : -1;
}

static int op_soft_dirty(struct arena *arena, struct chance *chance)
{
	return write(arena->clear_refs, "4", 1) == 1 ? 0 : -1;
}

static int do_madvise(struct arena *arena, struct chance *chance, int advice)
{
	struct span span = draw_span(arena, chance);

	return madvise(span.addr, span.len, advice);
}

static int op_collapse(struct arena *arena, struct chance *chance)
{
	struct span span = {
		arena->addr + draw(chance, arena->len / HUGE) * HUGE, HUGE
	};

	map_anon(span);
	touch((struct span){ span.addr, 4 * PAGE }, 1, 1);
	return madvise(span.addr, span.len, MADV_COLLAPSE);
}

#define MADVISE_OP(_name, _advice)						\
static int op_##_name(struct arena *arena, struct chance *chance)		\
{										\
	return do_madvise(arena, chance, _advice);				\
}

MADVISE_OP(dontneed, MADV_DONTNEED)
MADVISE_OP(free, MADV_FREE)
MADVISE_OP(cold, MADV_COLD)
MADVISE_OP(pageout, MADV_PAGEOUT)
MADVISE_OP(populate, MADV_POPULATE_WRITE)
MADVISE_OP(hugepage, MADV_HUGEPAGE)
MADVISE_OP(nohugepage, MADV_NOHUGEPAGE)
MADVISE_OP(mergeable, MADV_MERGEABLE)
MADVISE_OP(unmergeable, MADV_UNMERGEABLE)
MADVISE_OP(remove, MADV_REMOVE)

/* @weight divided by the sum of all weights is the probability of a change. */
static const struct op {
	const char *name;
	int (*change)(struct arena *arena, struct chance *chance);
	unsigned int weight;
	int optional;
} ops[] = {
	{ "read", op_read, 6 },			{ "write", op_write, 12 },
	{ "mmap", op_mmap, 3 },			{ "munmap", op_munmap, 3 },
	{ "map_file", op_map_file, 2 },		{ "punch_hole", op_punch_hole, 2 },
	{ "mprotect", op_mprotect, 4 },		{ "mremap", op_mremap, 2 },
	{ "fork", op_fork, 1 },			{ "soft_dirty", op_soft_dirty, 1, 1 },
	{ "dontneed", op_dontneed, 4 },		{ "free", op_free, 3 },
	{ "cold", op_cold, 2 },			{ "pageout", op_pageout, 2 },
	{ "populate", op_populate, 2 },		{ "collapse", op_collapse, 1, 1 },
	{ "hugepage", op_hugepage, 1, 1 },	{ "nohugepage", op_nohugepage, 1, 1 },
	{ "mergeable", op_mergeable, 2, 1 },	{ "unmergeable", op_unmergeable, 1, 1 },
	{ "remove", op_remove, 1, 1 },
};

#define NR_OPS	ARRAY_SIZE(ops)

size_t arena_nr_ops(void)
{
	return NR_OPS;
}

const char *arena_op_name(size_t op)
{
	return ops[op].name;
}

int arena_op_optional(size_t op)
{
	return ops[op].optional;
}

/* One random change. */
void arena_change(struct arena *arena, struct chance *chance)
{
	unsigned int sum = 0, drawn;
	size_t i;

	for (i = 0; i < NR_OPS; i++)
		sum += ops[i].weight;
	drawn = draw(chance, sum);
	for (i = 0; drawn >= ops[i].weight; i++)
		drawn -= ops[i].weight;
	if (!ops[i].change(arena, chance))
		__atomic_fetch_add(&arena_counts->done[i], 1, __ATOMIC_RELAXED);
}

int arena_open(struct arena *arena)
{
	char *addr;

	arena->len = 4 * HUGE;
	addr = mmap(NULL, arena->len + HUGE, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (addr == MAP_FAILED)
		return -1;
	arena->addr = (char *)(((unsigned long)addr + HUGE - 1) & ~(HUGE - 1));
	arena->shared = memfd_create("mmu_notifier_torture", MFD_CLOEXEC);
	if (arena->shared < 0 || ftruncate(arena->shared, arena->len))
		return -1;
	arena->clear_refs = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
	return map_anon((struct span){ arena->addr, arena->len });
}
