// SPDX-License-Identifier: GPL-2.0
/*
 * warm: instructions of a message of rxe in memory that is there, pinned and paged.
 *
 * Runs in a guest with one CPU whose clock counts instructions. A loopback connection's
 * work is done by kernel threads of the same CPU, and the program sleeps meanwhile; so a
 * tick is an instruction of the message, or of the scheduler. Which thread runs first
 * decides how often it switches, 5,000 instructions or so each time, and that changes from
 * round to round with the threads' past. The program runs as soon as it can, and rounds of
 * the two kinds of memory take turns; the reader of the results takes the least of each.
 */
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <x86intrin.h>

#include "pair.h"

#define ROUNDS	15

static const struct {
	const char *name;
	enum ibv_wr_opcode op;
} kinds[] = {
	{ "send", IBV_WR_SEND },
	{ "write", IBV_WR_RDMA_WRITE },
	{ "read", IBV_WR_RDMA_READ },
};

static const size_t sizes[] = { 64, PAGE, MIB };
static struct ibv_pd *pd;
static struct pair pair;
static char *mem[2];

static void measure(int kind, size_t size, const char *how, const struct part *parts, int round)
{
	int messages = size == MIB ? 2 : 100, i;
	unsigned long start;

	memset(mem[0], round + 1, size);
	memset(mem[1], 0x80 | round, size);
	pair_message(&pair, kinds[kind].op, size, &parts[0], &parts[1]);
	check(!memcmp(mem[0], mem[1], size), "a message is not what was sent");
	start = __rdtsc();
	for (i = 0; i < messages; i++)
		pair_message(&pair, kinds[kind].op, size, &parts[0], &parts[1]);
	printf("rxe.%s.%zu.%s.%d %.3f\n", kinds[kind].name, size, how, round,
	       (__rdtsc() - start) / (double)messages);
}

static void register_both(struct part *parts, int access)
{
	int i;

	for (i = 0; i < 2; i++) {
		parts[i].mem = mem[i];
		parts[i].mr = ibv_reg_mr(pd, mem[i], MIB, ACCESS | access);
		check(!!parts[i].mr, "ibv_reg_mr");
	}
}

static void measure_all(void)
{
	struct part pinned[2], paged[2];
	size_t i, j;
	int round;

	register_both(pinned, 0);
	register_both(paged, IBV_ACCESS_ON_DEMAND);
	for (i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		for (j = 0; j < sizeof(sizes) / sizeof(*sizes); j++) {
			for (round = 0; round < ROUNDS; round++) {
				measure(i, sizes[j], "pinned", pinned, round);
				measure(i, sizes[j], "paged", paged, round);
			}
		}
	}
}

int main(void)
{
	struct sched_param priority = { .sched_priority = 1 };
	int i;

	check(!sched_setscheduler(0, SCHED_FIFO, &priority), "sched_setscheduler");
	pd = device_open();
	pair_open(&pair, pd);
	for (i = 0; i < 2; i++) {
		mem[i] = mmap(NULL, MIB, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		check(mem[i] != MAP_FAILED, "mmap");
	}
	measure_all();
	return 0;
}
