// SPDX-License-Identifier: GPL-2.0
/*
 * usage: stall KIND PACE NR FILE
 *
 * The effect of subscribing on other processes that map the same file, as all
 * processes map libc. A process maps NR pages of a file one by one, and
 * repeatedly subscribes and unsubscribes; KIND is list or interval. Another
 * process, which shares only the file, repeatedly maps a page of it. Its mmap()
 * takes the file's i_mmap_rwsem.
 *
 *	steady	subscribes every two seconds, for one second
 *	slow	each pause is twice as long as the one before, so that the mm is
 *		disarmed each time
 *
 * The benchmark module (FILE) has the subscriber, and collects the results.
 */
#define _GNU_SOURCE
#include <sys/wait.h>

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "areas.h"

#define STEADY_ROUNDS	10
#define SLOW_ROUNDS	9
/* Neither mmap() itself nor an interrupt takes longer than this. */
#define STALL_NS	200000
#define LEAD_US		20000

/*
 * Shared by both processes. The watcher maps the file only while the subscriber
 * is being registered. Its results are read after it has exited.
 */
struct shared {
	int watch;
	int done;
	long samples;
	long stalls;
	long worst_ns;
};

static int is_set(const int *flag)
{
	return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}

static void set(int *flag, int value)
{
	__atomic_store_n(flag, value, __ATOMIC_RELEASE);
}

static long now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000L + ts.tv_nsec;
}

static void run_on(int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		err(1, "CPU %d", cpu);
}

static void sample(struct shared *shared, int fd)
{
	long took = now_ns();
	void *at = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);

	took = now_ns() - took;
	if (at == MAP_FAILED)
		err(1, "mmap");
	munmap(at, PAGE);
	shared->samples++;
	if (took > shared->worst_ns)
		shared->worst_ns = took;
	if (took > STALL_NS)
		shared->stalls++;
}

static void watcher(struct shared *shared, int fd)
{
	run_on(1);
	while (!is_set(&shared->done)) {
		if (is_set(&shared->watch))
			sample(shared, fd);
		else
			usleep(LEAD_US / 4);
	}
}

static void command(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY), len = strlen(text);

	if (fd < 0 || write(fd, text, len) != len)
		err(1, "%s: %s", path, text);
	close(fd);
}

static void come(struct shared *shared, const char *path, const char *kind)
{
	char text[64];

	set(&shared->watch, 1);
	usleep(LEAD_US);
	snprintf(text, sizeof(text), "subscribe %s", kind);
	command(path, text);
	usleep(LEAD_US);
	set(&shared->watch, 0);
}

static void rounds(struct shared *shared, const char *path, const char *kind, int steady)
{
	int i, nr = steady ? STEADY_ROUNDS : SLOW_ROUNDS;
	char text[64];

	snprintf(text, sizeof(text), "unsubscribe %s", kind);
	for (i = 0; i < nr; i++) {
		come(shared, path, kind);
		if (steady)
			sleep(1);
		command(path, text);
		sleep(steady ? 1 : 4 << i);
	}
}

static void tell(const char *path, const char *kind, const char *pace,
		 const char *what, long milli)
{
	char text[64];

	snprintf(text, sizeof(text), "report %ld stall_%s_%s.%s", milli, what, pace, kind);
	command(path, text);
}

static void map_pages(int fd, long nr)
{
	long i;

	for (i = 0; i < nr; i++)
		*map(2 * i, PROT_READ | PROT_WRITE, MAP_SHARED, fd, i) = 1;
}

int main(int argc, char **argv)
{
	struct shared *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status, fd;
	long nr;

	if (argc != 5 || shared == MAP_FAILED)
		errx(1, "usage: stall list|interval steady|slow NR FILE");
	nr = atol(argv[3]);
	fd = temp_file(nr);
	if (!fork()) {
		watcher(shared, fd);
		return 0;
	}
	run_on(0);
	map_pages(fd, nr);
	rounds(shared, argv[4], argv[1], !strcmp(argv[2], "steady"));
	set(&shared->done, 1);
	if (wait(&status) < 0 || status)
		errx(1, "the watcher failed");
	if (!shared->samples)
		errx(1, "the watcher has mapped nothing");
	tell(argv[4], argv[1], argv[2], "worst_us", shared->worst_ns);
	tell(argv[4], argv[1], argv[2], "count", 1000 * shared->stalls);
	return 0;
}
