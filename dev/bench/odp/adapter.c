// SPDX-License-Identifier: GPL-2.0
/*
 * The adapter's test BAR: counters and knobs by name. The layout is
 * qemu/hw/rdma/mlx5/mlx5_test.c's.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"

#define BAR		"/sys/class/infiniband/mlx5_0/device/resource4"
#define SIZE		0x10000
#define AHEAD		"/sys/module/ib_uverbs/parameters/odp_ahead"
#define NAME_LEN	32

enum {			/* in words of 8 bytes */
	NR_COUNTERS = 0x028 / 8,
	NR_KNOBS = 0x030 / 8,
	COUNTERS = 0x1000 / 8,
	KNOBS = 0x2000 / 8,
	COUNTER_NAMES = 0x4000 / 8,
	KNOB_NAMES = 0x8000 / 8,
};

static volatile uint64_t *bar;

void adapter_open(void)
{
	int fd = open(BAR, O_RDWR | O_SYNC);

	if (fd < 0)
		die("no test BAR of mlx5_0 (%s): %m", BAR);
	bar = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (bar == MAP_FAILED)
		die("mmap of the test BAR: %m");
	if (memcmp((uint64_t[]){ bar[0] }, "MLX5TEST", 8))
		die("%s is not a test BAR", BAR);
}

static unsigned int find(const char *name, unsigned int names, unsigned int nr)
{
	uint64_t raw[NAME_LEN / 8];
	unsigned int i, j;

	for (i = 0; i < nr; i++) {
		for (j = 0; j < NAME_LEN / 8; j++)
			raw[j] = bar[names + i * NAME_LEN / 8 + j];
		if (!strncmp((char *)raw, name, NAME_LEN))
			return i;
	}
	die("the adapter has no '%s'", name);
}

uint64_t adapter_count(const char *counter)
{
	return bar[COUNTERS + find(counter, COUNTER_NAMES, bar[NR_COUNTERS])];
}

/* Of all kinds. */
uint64_t adapter_faults(void)
{
	return adapter_count("faults-rdma") + adapter_count("faults-sq") +
	       adapter_count("faults-rq") + adapter_count("faults-srq") +
	       adapter_count("faults-memory");
}

void adapter_set(const char *knob, uint64_t value)
{
	unsigned int i = KNOBS + find(knob, KNOB_NAMES, bar[NR_KNOBS]);

	bar[i] = value;
	if (bar[i] != value)
		die("the adapter's %s did not take %lu", knob, value);
}

/*
 * Each command, UMR, fault and resume takes so long. A requester goes on with the page, and
 * not with its next try: its timer is no cost of the driver's.
 */
void adapter_delay(uint64_t ns)
{
	adapter_set("fault-answer", 0);
	adapter_set("cmd-delay", ns);
	adapter_set("umr-delay", ns);
	adapter_set("fault-delay", ns);
	adapter_set("resume-delay", ns);
}

/* Whether a fault brings in more than it is asked for; stock has nothing of the kind. */
void driver_ahead(bool on)
{
	FILE *file = fopen(AHEAD, "w");

	if (file && (fprintf(file, "%lu", on ? BLOCK / PAGE : 0) < 0 || fclose(file)))
		die(AHEAD ": %m");
}
