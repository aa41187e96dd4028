// SPDX-License-Identifier: GPL-2.0
/*
 * Torture MMU notifiers: processes change their mappings, and end, in many
 * ways. Meanwhile /dev/mmu_notifier_torture subscribes to them at random and
 * checks the callbacks of its subscribers.
 *
 *	mmu_notifier_torture [-t SECONDS] [-s SEED] [-j PROCESSES]
 *
 * The same seed gives the same choices, but not the same interleaving.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <lib/mmu_notifier_torture.h>

#include "../kselftest.h"
#include "mmu_notifier_torture_ops.h"

#ifndef SYS_process_mrelease
#define SYS_process_mrelease	448
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open		434
#endif

#define DEVICE		"/dev/mmu_notifier_torture"
#define MAX_PROCESSES	16
#define NR_THREADS	2

/* How a process ends. */
enum ending {
	EXITS,
	EXECS,
	IS_KILLED,
	IS_REAPED,	/* killed, and process_mrelease() */
	NR_ENDINGS,
};

static const char *const ending_names[] = { "exits", "execs", "is killed", "is reaped" };

struct process {
	pid_t pid;
	enum ending ending;
	bool quiet;		/* MMU_TORTURE_QUIET; it runs for longer */
	long long until;	/* ms */
};

struct storm {
	struct arena *arena;
	struct chance chance;
	long long until;
};

static unsigned int seconds = 10;
static unsigned int nr_processes = 3;
static unsigned long long seed;
static unsigned long ended[NR_ENDINGS];

static long long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

static void *storm(void *arg)
{
	struct storm *storm = arg;

	while (now_ms() < storm->until)
		arena_change(storm->arena, &storm->chance);
	return NULL;
}

/* A child: start a session, and change mappings until the end. */
static int child_main(struct process *process, unsigned long long child_seed)
{
	struct mmu_torture_start start = { .seed = child_seed };
	struct arena arena;
	struct storm storms[NR_THREADS];
	pthread_t threads[NR_THREADS];
	int i, fd;

	catch_bad_accesses();
	fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	if (fd < 0 || arena_open(&arena))
		return 2;
	start.start = (unsigned long)arena.addr;
	start.length = arena.len;
	start.flags = process->quiet ? MMU_TORTURE_QUIET : 0;
	if (ioctl(fd, MMU_TORTURE_START, &start))
		return 3;
	for (i = 0; i < NR_THREADS; i++) {
		storms[i] = (struct storm) { &arena, { child_seed + i }, process->until };
		if (process->ending == IS_KILLED || process->ending == IS_REAPED)
			storms[i].until += 600000;
		if (pthread_create(&threads[i], NULL, storm, &storms[i]))
			return 4;
	}
	for (i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
	if (process->ending == EXECS)
		execl("/bin/true", "true", NULL);
	return process->ending == EXITS ? 0 : 5;
}

static int spawn(struct process *process, struct chance *chance, long long end)
{
	unsigned long long child_seed = draw(chance, 1 << 30);
	long long most = end - now_ms();
	static unsigned int nr_spawned;

	process->quiet = nr_spawned % 5 == 0;
	process->ending = nr_spawned++ % NR_ENDINGS;
	process->until = now_ms() + 100 + draw(chance, most > 3000 ? 3000 : most);
	if (process->quiet)
		process->until += 3000;
	process->pid = fork();
	if (!process->pid)
		_exit(child_main(process, child_seed));
	return process->pid < 0 ? -1 : 0;
}

static void kill_child(struct process *process)
{
	int pidfd = syscall(SYS_pidfd_open, process->pid, 0);

	kill(process->pid, SIGKILL);
	/* May fail: the process may have exited, or may still use its mm. */
	if (process->ending == IS_REAPED && pidfd >= 0)
		syscall(SYS_process_mrelease, pidfd, 0);
	if (pidfd >= 0)
		close(pidfd);
}

/* Kill a process if it must be killed. Returns 0 if it ended as expected. */
static int reap(struct process *process)
{
	bool kills = process->ending == IS_KILLED || process->ending == IS_REAPED;
	int status;

	if (kills)
		kill_child(process);
	if (waitpid(process->pid, &status, 0) != process->pid)
		return -1;
	process->pid = 0;
	ended[process->ending]++;
	if (kills ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL : !status)
		return 0;
	ksft_print_msg("a process that %s had status %#x\n",
		       ending_names[process->ending], status);
	return -1;
}

static void file_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		ksft_print_msg("%s: %s\n", path, strerror(errno));
	close(fd);
}

/* Make the kernel move and reclaim pages of the processes. */
static void stir(struct chance *chance)
{
	switch (draw(chance, 40)) {
	case 0:
		file_write("/proc/sys/vm/compact_memory", "1");
		break;
	case 1:
		file_write("/proc/sys/vm/drop_caches", "1");
		break;
	case 2:
		file_write("/sys/kernel/mm/ksm/run", "2");
		file_write("/sys/kernel/mm/ksm/run", "1");
		break;
	}
}

/* Returns true if all processes ended as expected. */
static bool run(void)
{
	struct process processes[MAX_PROCESSES] = {};
	struct chance chance = { seed };
	long long end = now_ms() + seconds * 1000LL;
	bool good = true, busy = true;
	unsigned int i;

	while (busy) {
		busy = now_ms() < end;
		for (i = 0; i < nr_processes; i++) {
			struct process *process = &processes[i];

			if (process->pid && now_ms() >= process->until)
				good &= !reap(process);
			if (!process->pid && now_ms() < end)
				good &= !spawn(process, &chance, end);
			busy |= process->pid;
		}
		stir(&chance);
		usleep(20000);
	}
	return good;
}

static bool get_stats(struct mmu_torture_stats *stats)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);
	int ret = ioctl(fd, MMU_TORTURE_GET_STATS, stats);

	close(fd);
	return !ret;
}

/*
 * Needed counters must not be 0 after a run, unless the kernel says that they
 * always are. The others depend on chance.
 */
static const struct counter {
	const char *name;
	bool needed;
} counters[MMU_TORTURE_NR_COUNTERS] = {
	[MMU_TORTURE_SESSIONS] = { "sessions", true },
	[MMU_TORTURE_EXITS] = { "exits", true },
	[MMU_TORTURE_REGISTERS] = { "registers", true },
	[MMU_TORTURE_REGISTERS_INSIDE] = { "registers_inside", true },
	[MMU_TORTURE_UNREGISTERS] = { "unregisters", true },
	[MMU_TORTURE_GETS] = { "gets", true },
	[MMU_TORTURE_PUTS] = { "puts", true },
	[MMU_TORTURE_PUTS_IN_CALLBACK] = { "puts_in_callback", true },
	[MMU_TORTURE_FREES] = { "frees", true },
	[MMU_TORTURE_SYNCHRONIZES] = { "synchronizes", true },
	[MMU_TORTURE_INSERTS] = { "inserts", true },
	[MMU_TORTURE_INSERTS_INSIDE] = { "inserts_inside", true },
	[MMU_TORTURE_REMOVES] = { "removes", true },
	[MMU_TORTURE_REMOVES_INSIDE] = { "removes_inside", true },
	[MMU_TORTURE_REMOVES_BUSY] = { "removes_busy", true },
	[MMU_TORTURE_STARTS] = { "starts", true },
	[MMU_TORTURE_ENDS] = { "ends", true },
	[MMU_TORTURE_INVALIDATES] = { "invalidates", true },
	[MMU_TORTURE_POSTED] = { "posted", true },
	[MMU_TORTURE_SLEEPS] = { "sleeps", true },
	[MMU_TORTURE_RANGES] = { "ranges", true },
	[MMU_TORTURE_RANGES_UNLOCKED] = { "ranges_unlocked", true },
	[MMU_TORTURE_RANGES_CHECKED] = { "ranges_checked", true },
	[MMU_TORTURE_NONBLOCK_REFUSED] = { "nonblock_refused", true },
	[MMU_TORTURE_NONBLOCK_ACCEPTED] = { "nonblock_accepted", true },
	[MMU_TORTURE_FAULTS] = { "faults", true },
	[MMU_TORTURE_RETRIES] = { "retries", true },
	[MMU_TORTURE_WAITS] = { "waits", true },
	[MMU_TORTURE_PASSES] = { "passes", true },
	[MMU_TORTURE_DROPS] = { "drops", true },
	[MMU_TORTURE_AUDITS] = { "audits", true },
	[MMU_TORTURE_VALIDATIONS] = { "validations", true },
	[MMU_TORTURE_ARMS] = { "arms", true },
	[MMU_TORTURE_DISARMS] = { "disarms", true },
	[MMU_TORTURE_GONE] = { "gone", false },
	[MMU_TORTURE_FAULT_FAILURES] = { "fault_failures", false },
};

/* Returns true if all that had to happen did. */
static bool report(const struct mmu_torture_stats *before,
		   const struct mmu_torture_stats *after)
{
	bool good = true;
	size_t i;

	for (i = 0; i < MMU_TORTURE_NR_COUNTERS; i++) {
		unsigned long long count = after->count[i] - before->count[i];
		bool never = after->never >> i & 1;

		ksft_print_msg("%-18s %10llu%s\n", counters[i].name, count,
			       never ? " (never here)" : "");
		good &= never ? !count : count || !counters[i].needed;
	}
	for (i = 0; i < arena_nr_ops(); i++) {
		ksft_print_msg("%-18s %10lu changes\n", arena_op_name(i),
			       arena_counts->done[i]);
		good &= arena_counts->done[i] || arena_op_optional(i);
	}
	for (i = 0; i < NR_ENDINGS; i++) {
		ksft_print_msg("%-18s %10lu processes\n", ending_names[i], ended[i]);
		good &= ended[i] != 0;
	}
	return good;
}

static void parse(int argc, char **argv)
{
	int opt;

	seed = time(NULL);
	while ((opt = getopt(argc, argv, "t:s:j:")) != -1) {
		if (opt == 't')
			seconds = atoi(optarg);
		else if (opt == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (opt == 'j')
			nr_processes = atoi(optarg);
		else
			ksft_exit_fail_msg("usage: [-t SECONDS] [-s SEED] [-j PROCESSES]\n");
	}
	if (!seconds || !nr_processes || nr_processes > MAX_PROCESSES)
		ksft_exit_fail_msg("no time, no process, or more than %d\n", MAX_PROCESSES);
}

int main(int argc, char **argv)
{
	struct mmu_torture_stats before, after;
	bool good;

	setvbuf(stdout, NULL, _IOLBF, 0);
	parse(argc, argv);
	ksft_print_header();
	if (access(DEVICE, R_OK | W_OK))
		ksft_exit_skip("no " DEVICE ", or not root\n");
	ksft_set_plan(3);
	arena_counts = mmap(NULL, sizeof(*arena_counts), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (arena_counts == MAP_FAILED || !get_stats(&before))
		ksft_exit_fail_msg("%s\n", strerror(errno));

	ksft_print_msg("seed %llu, %u s, %u processes\n", seed, seconds, nr_processes);
	file_write("/sys/kernel/mm/ksm/run", "1");
	file_write("/sys/kernel/mm/ksm/sleep_millisecs", "0");
	good = run();
	file_write("/sys/kernel/mm/ksm/run", "2");
	ksft_test_result(good, "processes end as they should\n");

	if (!get_stats(&after))
		ksft_exit_fail_msg("%s\n", strerror(errno));
	ksft_test_result(report(&before, &after), "everything happened\n");
	ksft_print_msg("%llu errors (the kernel's log has the first)\n",
		       after.errors - before.errors);
	ksft_test_result(after.errors == before.errors, "no contract was broken\n");
	ksft_finished();
}
