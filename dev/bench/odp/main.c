// SPDX-License-Identifier: GPL-2.0
/*
 * odp_bench <what>...: measure these, and print "name value" lines.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"

static const struct {
	const char *name;
	void (*measure)(struct bench *b);
} all[] = {
	{ "registration", measure_registration },
	{ "deregistration", measure_deregistration },
	{ "faults", measure_faults },
	{ "crowd", measure_crowd },
	{ "invalidation", measure_invalidation },
	{ "chunks", measure_chunks },
	{ "traffic", measure_traffic },
	{ "threads", measure_threads },
	{ "storm", measure_storm },
	{ "aging", measure_aging },
	{ "phases", measure_phases },
};

void die(const char *what, ...)
{
	va_list args;

	fputs("odp_bench: ", stderr);
	va_start(args, what);
	vfprintf(stderr, what, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

void report(double value, const char *name, ...)
{
	va_list args;

	va_start(args, name);
	vprintf(name, args);
	va_end(args);
	printf(" %.3f\n", value);
}

void rest(uint64_t ns)
{
	struct timespec time = { ns / 1000000000, ns % 1000000000 };

	while (nanosleep(&time, &time))
		;
}

/* A ns of now() has to be one of the guest's time. */
static void check_clock(void)
{
	struct timespec before, after;
	uint64_t start, ns;

	clock_gettime(CLOCK_MONOTONIC, &before);
	start = now();
	rest(50 * MS);
	start = now() - start;
	clock_gettime(CLOCK_MONOTONIC, &after);
	ns = (after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec;
	if (start < ns / 100 * 98 || start > ns / 100 * 102)
		die("%lu ticks in %lu ns: the machine does not count instructions", start, ns);
}

static void measure(struct bench *b, const char *name)
{
	uint64_t start = now();
	size_t i;

	for (i = 0; i < sizeof(all) / sizeof(*all); i++) {
		if (strcmp(all[i].name, name))
			continue;
		all[i].measure(b);
		fprintf(stderr, "%s: %.1f s of the guest\n", name, (now() - start) / 1e9);
		return;
	}
	die("nothing called %s", name);
}

int main(int argc, char **argv)
{
	struct bench b = {};
	int i;

	check_clock();
	adapter_open();
	bench_open(&b);
	for (i = 1; i < argc; i++)
		measure(&b, argv[i]);
	return 0;
}
