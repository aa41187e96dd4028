// SPDX-License-Identifier: GPL-2.0
/*
 * Soak test of on-demand paging: usage: odp_soak [-t seconds] [-s seed] [device...]
 *
 * A process for each device transfers between areas of paged memory at random, while it
 * changes them (soak.h). Beside them, one process has the kernel reclaim, compact, merge,
 * take memory offline and online. Now and then a process is killed and another one begins.
 * The choices of a process follow from its seed, which is printed when it fails; what the
 * kernel does meanwhile does not.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "soak.h"

#define MAX_DEVICES	8

struct worker {
	const char *device;
	uint64_t count[SOAK_NR];
	uint64_t seed;
	pid_t pid;
};

static const char *const text[SOAK_NR] = {
	[SOAK_WRITE] = "writes",
	[SOAK_READ] = "reads",
	[SOAK_SEND] = "sends",
	[SOAK_ATOMIC] = "atomics",
	[SOAK_BYTES] = "bytes transferred and compared",
	[SOAK_REFUSED] = "refused, as they must be",
	[SOAK_REGISTER] = "registrations",
	[SOAK_ADVISE] = "prefetches",
	[SOAK_STORE] = "stores of the CPU",
	[SOAK_COMPARE] = "other comparisons",
	[SOAK_PAGEOUT] = "pageouts",
	[SOAK_COLLAPSE] = "huge pages made",
	[SOAK_ADVICE] = "advice on huge pages",
	[SOAK_MIGRATE] = "migrations",
	[SOAK_MERGE] = "changes of mergeable",
	[SOAK_LOCK] = "mlock, munlock",
	[SOAK_DISCARD] = "discards",
	[SOAK_PROTECT] = "mprotect",
	[SOAK_REMAP] = "mremap",
	[SOAK_MAP] = "munmap, mmap",
	[SOAK_TRUNCATE] = "truncations",
	[SOAK_FORK] = "forks",
	[SOAK_EXEC] = "execs",
	[SOAK_KILL] = "processes killed",
};

static struct worker *workers;
static int nr_workers;

void soak_fail(struct soak *soak, const char *what, long long value)
{
	printf("# %s, seed %llu, step %llu: %s %lld\n", ibv_get_device_name(soak->dev.ctx->device),
	       (unsigned long long)soak->seed, (unsigned long long)soak->step, what, value);
	fflush(stdout);
	_exit(1);
}

/* xorshift64*; the seed is never 0. */
uint64_t soak_random(struct soak *soak, uint64_t below)
{
	soak->state ^= soak->state >> 12;
	soak->state ^= soak->state << 25;
	soak->state ^= soak->state >> 27;
	return (soak->state * 0x2545f4914f6cdd1dULL >> 11) % below;
}

static int work_open(struct soak *soak, struct worker *worker)
{
	int i, ret = odp_open_name(&soak->dev, worker->device);

	for (i = 0; i < SOAK_AREAS && !ret; i++)
		ret = soak_area_open(soak, &soak->area[i], i == SOAK_AREAS - 1);
	for (i = 0; i < SOAK_PAIRS && !ret; i++)
		ret = odp_pair_open(&soak->pair[i], &soak->dev, IBV_QPT_RC, false);
	return ret;
}

/* Until it is killed. */
static void work(struct worker *worker)
{
	static struct soak soak;
	int ret;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	soak.count = worker->count;
	soak.seed = worker->seed;
	soak.state = worker->seed;
	ret = work_open(&soak, worker);
	if (ret) {
		printf("# %s: cannot be used: %s\n", worker->device, strerror(ret));
		_exit(1);
	}
	for (;; soak.step++) {
		switch (soak_random(&soak, 64)) {
		case 0:
			soak_refused(&soak);
			break;
		case 1 ... 27:
			soak_post(&soak);
			break;
		case 28 ... 42:
			soak_complete(&soak);
			break;
		default:
			soak_change(&soak);
		}
	}
}

static void reclaim(int round)
{
	size_t len = odp_proc_number("/proc/meminfo", "MemAvailable") * 1024UL / 10 * 9, i;
	char *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (i = 0; mem != MAP_FAILED && i < len; i += SOAK_PAGE)
		mem[i] = round;
	munmap(mem, len);
}

static void compact(int round)
{
	odp_put_text("/proc/sys/vm/compact_memory", "1");
}

static void drop(int round)
{
	odp_put_text("/proc/sys/vm/drop_caches", "3");
}

static void merge(int round)
{
	odp_put_text("/sys/kernel/mm/ksm/run", round % 3 ? "1" : "2");
}

/* A block that has something which does not move stays. */
static void offline(int round)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/memory/memory%d/state", round % 32);
	odp_put_text(path, "offline");
	odp_put_text(path, "online");
}

/* What the kernel does to all processes. */
static void disturb(void)
{
	static void (*const acts[])(int) = { reclaim, compact, drop, merge, offline };
	int round;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	odp_put_text("/proc/self/oom_score_adj", "1000");
	for (round = 0;; round++) {
		acts[rand() % ARRAY_SIZE(acts)](round);
		usleep(rand() % 300000);
	}
}

static pid_t start(struct worker *worker, uint64_t seed)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	srand(seed);
	if (!worker)
		disturb();
	worker->seed = seed;
	work(worker);
	_exit(1);
}

/* True: one has ended by itself, so it has failed. */
static bool ended(void)
{
	int i, status;

	for (i = 0; i < nr_workers; i++)
		if (waitpid(workers[i].pid, &status, WNOHANG) == workers[i].pid)
			return true;
	return false;
}

static void replace(struct worker *worker, uint64_t seed)
{
	kill(worker->pid, SIGKILL);
	waitpid(worker->pid, NULL, 0);
	worker->count[SOAK_KILL]++;
	worker->pid = start(worker, seed);
}

static void table(void)
{
	int i, j;

	printf("# %-32s", "");
	for (j = 0; j < nr_workers; j++)
		printf(" %14s", workers[j].device);
	for (i = 0; i < SOAK_NR; i++) {
		printf("\n# %-32s", text[i]);
		for (j = 0; j < nr_workers; j++)
			printf(" %14llu", (unsigned long long)workers[j].count[i]);
	}
	printf("\n");
}

/* What a run must have done on each device to have tested anything. */
static bool enough(void)
{
	int i, j;

	for (j = 0; j < nr_workers; j++)
		for (i = 0; i <= SOAK_ATOMIC; i++)
			if (!workers[j].count[i])
				return false;
	return true;
}

static bool soak(int seconds, uint64_t seed)
{
	time_t limit = time(NULL) + seconds;
	pid_t other = start(NULL, seed);
	bool failed = false;
	int i;

	for (i = 0; i < nr_workers; i++)
		workers[i].pid = start(&workers[i], ++seed);
	while (time(NULL) < limit && !failed) {
		usleep(100000);
		failed = ended();
		if (!failed && !(rand() % 60))
			replace(&workers[rand() % nr_workers], ++seed);
	}
	kill(other, SIGKILL);
	for (i = 0; i < nr_workers; i++)
		kill(workers[i].pid, SIGKILL);
	while (wait(NULL) > 0)
		;
	return !failed;
}

static void add(const char *device)
{
	if (nr_workers < MAX_DEVICES)
		workers[nr_workers++].device = device;
}

static void add_all(void)
{
	struct ibv_device **list = ibv_get_device_list(NULL);
	int i;

	for (i = 0; list && list[i]; i++)
		add(strdup(ibv_get_device_name(list[i])));
}

int main(int argc, char **argv)
{
	uint64_t seed = time(NULL);
	int seconds = 30, opt;
	bool good;

	while ((opt = getopt(argc, argv, "t:s:")) != -1) {
		if (opt == 't')
			seconds = atoi(optarg);
		else if (opt == 's')
			seed = strtoull(optarg, NULL, 0);
		else
			return 2;
	}
	workers = mmap(NULL, MAX_DEVICES * sizeof(*workers), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (; optind < argc; optind++)
		add(argv[optind]);
	if (!nr_workers)
		add_all();
	printf("TAP version 13\n1..1\n# seed %llu\n", (unsigned long long)seed);
	fflush(stdout);
	if (!nr_workers) {
		printf("ok 1 soak # SKIP there is no RDMA device\n");
		return 4;
	}
	srand(seed);
	good = soak(seconds, seed ?: 1);
	table();
	good = enough() && good;
	printf("%s 1 soak\n", good ? "ok" : "not ok");
	return !good;
}
