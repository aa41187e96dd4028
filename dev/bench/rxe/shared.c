// SPDX-License-Identifier: GPL-2.0
/*
 * shared: many pairs of queue pairs, each with a CPU and memory of its own, in one region.
 *
 * What the pairs share, CPUs have to pass to each other: a plugin of QEMU counts the cache
 * lines. An emulated CPU does much before the next one runs, so they take turns after each
 * message, as if all messages were concurrent. The parts of the region are in different
 * chunks of it, or in one. Pinned and paged regions take turns, as where the kernel runs a
 * pair's work changes with time.
 */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "../module/marks.h"
#include "pair.h"

#define PAIRS		8
#define ROUNDS		5
#define WARM		20
#define MESSAGES	100
#define SIZE		64
#define CHUNK		(2 * MIB)
#define ALL		(2 * PAIRS * CHUNK)

static struct pair pairs[PAIRS];
static const struct ibv_mr *mrs[2];	/* pinned, paged */
static pthread_barrier_t barrier;
static sem_t turns[PAIRS];
static char *mem;

static void messages(int nr, int i, const struct ibv_mr *mr, size_t apart)
{
	struct part local = { mr, mem + 2 * i * apart }, remote = { mr, local.mem + apart };

	while (nr--) {
		sem_wait(&turns[i]);
		MARK(MARK_BEGIN);
		pair_message(&pairs[i], IBV_WR_RDMA_WRITE, SIZE, &local, &remote);
		MARK(MARK_END);
		sem_post(&turns[(i + 1) % PAIRS]);
	}
}

static void run_round(int i, int round)
{
	const struct ibv_mr *mr = mrs[round & 1];
	size_t apart = round & 2 ? PAGE : CHUNK;

	messages(WARM, i, mr, apart);
	pthread_barrier_wait(&barrier);
	if (!i)
		MARK(MARK_ROW);
	messages(WARM, i, mr, apart);
	pthread_barrier_wait(&barrier);
	if (!i)
		MARK(MARK_COUNT);
	messages(MESSAGES, i, mr, apart);
	pthread_barrier_wait(&barrier);
	if (!i)
		MARK(MARK_DONE);
}

static void *run(void *arg)
{
	int i = (struct pair *)arg - pairs, round;
	cpu_set_t cpu;

	CPU_ZERO(&cpu);
	CPU_SET(i, &cpu);
	check(!pthread_setaffinity_np(pthread_self(), sizeof(cpu), &cpu), "not that many CPUs");
	for (round = 0; round < 4 * ROUNDS; round++)
		run_round(i, round);
	return NULL;
}

static void verify(void)
{
	int i;

	for (i = 0; i < PAIRS; i++)
		check(!memcmp(mem + 2 * i * CHUNK, mem + (2 * i + 1) * CHUNK, SIZE),
		      "a message is not what was sent");
}

int main(void)
{
	struct ibv_pd *pd = device_open();
	pthread_t threads[PAIRS];
	int i;

	mem = mmap(NULL, ALL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
		   -1, 0);
	check(mem != MAP_FAILED, "mmap");
	mrs[0] = ibv_reg_mr(pd, mem, ALL, ACCESS);
	mrs[1] = ibv_reg_mr(pd, mem, ALL, ACCESS | IBV_ACCESS_ON_DEMAND);
	check(mrs[0] && mrs[1], "ibv_reg_mr");
	pthread_barrier_init(&barrier, NULL, PAIRS);
	for (i = 0; i < PAIRS; i++) {
		memset(mem + 2 * i * CHUNK, i + 1, SIZE);
		sem_init(&turns[i], 0, !i);
		pair_open(&pairs[i], pd);
	}
	for (i = 0; i < PAIRS; i++)
		check(!pthread_create(&threads[i], NULL, run, &pairs[i]), "pthread_create");
	for (i = 0; i < PAIRS; i++)
		pthread_join(threads[i], NULL);
	verify();
	printf("rounds %d\n", 4 * ROUNDS);
	return 0;
}
