// SPDX-License-Identifier: GPL-2.0
/*
 * More than memory: one memory region about twice the size of the machine's
 * memory is written over RDMA in full from a small pinned buffer, and read back
 * and compared in full, while the kernel reclaims behind it. Beside it, what
 * the same registration does without on-demand paging.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <infiniband/verbs.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../lib/rc_connect.h"

#define MIB		(1UL << 20)
#define BUFFER		(4 * MIB)	/* pinned, and the length of a message */
#define ACCESS		(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | \
			 IBV_ACCESS_REMOTE_WRITE)

struct demo {
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_qp *qp[2];
	struct ibv_mr *buffer_mr, *mr;
	uint64_t *buffer;
	char *mem;
	size_t len;
	int implicit;			/* one region for all of the address space */
	long resident_most;		/* KiB */
};

static void die(const char *what)
{
	printf("FAILED: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void open_device(struct demo *d)
{
	struct ibv_device **list = ibv_get_device_list(NULL);

	if (!list || !list[0])
		die("no RDMA device");
	d->ctx = ibv_open_device(list[0]);
	if (!d->ctx)
		die("ibv_open_device");
	d->pd = ibv_alloc_pd(d->ctx);
	d->cq = ibv_create_cq(d->ctx, 16, NULL, NULL, 0);
	if (!d->pd || !d->cq)
		die("PD and CQ");
	ibv_free_device_list(list);
}

/* A RoCE v2 address of IPv4. */
static int find_gid(struct demo *d, union ibv_gid *gid)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	struct ibv_gid_entry entry;
	int i;

	for (i = 0; i < 64; i++) {
		if (ibv_query_gid_ex(d->ctx, 1, i, &entry, 0) ||
		    entry.gid_type != IBV_GID_TYPE_ROCE_V2 ||
		    memcmp(entry.gid.raw, mapped, sizeof(mapped)))
			continue;
		*gid = entry.gid;
		return i;
	}
	errno = ENOENT;
	die("no RoCE v2 address");
	return -1;
}

static void to_ourselves(struct demo *d, struct ibv_ah_attr *path)
{
	struct ibv_port_attr port;

	errno = ibv_query_port(d->ctx, 1, &port);
	if (errno)
		die("ibv_query_port");
	path->dlid = port.lid;
	path->is_global = port.link_layer == IBV_LINK_LAYER_ETHERNET;
	if (!path->is_global)
		return;
	path->grh.hop_limit = 64;
	path->grh.sgid_index = find_gid(d, &path->grh.dgid);
}

static void open_pair(struct demo *d)
{
	struct ibv_qp_init_attr init = {
		.send_cq = d->cq, .recv_cq = d->cq, .qp_type = IBV_QPT_RC,
		.sq_sig_all = 1,
		.cap = { .max_send_wr = 4, .max_recv_wr = 4, .max_send_sge = 1,
			 .max_recv_sge = 1 },
	};
	struct ibv_ah_attr path = { .port_num = 1 };
	const char *failed;
	int i;

	to_ourselves(d, &path);
	for (i = 0; i < 2; i++) {
		d->qp[i] = ibv_create_qp(d->pd, &init);
		if (!d->qp[i])
			die("ibv_create_qp");
	}
	for (i = 0; i < 2; i++) {
		failed = rc_connect(d->qp[i], d->qp[!i]->qp_num, &path, ACCESS);
		if (failed)
			die(failed);
	}
}

static void register_buffer(struct demo *d)
{
	d->buffer = mmap(NULL, BUFFER, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (d->buffer == MAP_FAILED)
		die("mmap of the buffer");
	d->buffer_mr = ibv_reg_mr(d->pd, d->buffer, BUFFER, ACCESS);
	if (!d->buffer_mr)
		die("registration of the pinned buffer");
}

static void register_on_demand(struct demo *d)
{
	d->mem = mmap(NULL, d->len, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (d->mem == MAP_FAILED)
		die("mmap");
	d->mr = ibv_reg_mr(d->pd, d->implicit ? NULL : d->mem,
			   d->implicit ? SIZE_MAX : d->len, ACCESS | IBV_ACCESS_ON_DEMAND);
	if (!d->mr)
		die("registration on demand");
}

static void rdma(struct demo *d, enum ibv_wr_opcode op, size_t offset)
{
	struct ibv_sge sge = { (uintptr_t)d->buffer, BUFFER, d->buffer_mr->lkey };
	struct ibv_send_wr wr = {
		.opcode = op, .sg_list = &sge, .num_sge = 1,
		.wr.rdma = { (uintptr_t)d->mem + offset, d->mr->rkey },
	}, *bad;
	struct ibv_wc wc;
	int nr;

	errno = ibv_post_send(d->qp[0], &wr, &bad);
	if (errno)
		die("ibv_post_send");
	while (!(nr = ibv_poll_cq(d->cq, 1, &wc)))
		sched_yield();
	if (nr < 0 || wc.status) {
		errno = EIO;
		die(nr < 0 ? "ibv_poll_cq" : ibv_wc_status_str(wc.status));
	}
}

/* "Field: n kB" in /proc; what is not there is -1. */
static long proc_number(const char *path, const char *field)
{
	FILE *file = fopen(path, "r");
	size_t len = strlen(field);
	char line[256];
	long value = -1;

	while (file && value < 0 && fgets(line, sizeof(line), file))
		if (!strncmp(line, field, len) && strchr(": ", line[len]))
			value = strtol(line + len + 1, NULL, 10);
	if (file)
		fclose(file);
	return value;
}

static void sample(struct demo *d)
{
	long rss = proc_number("/proc/self/status", "VmRSS");

	if (rss > d->resident_most)
		d->resident_most = rss;
}

static uint64_t word(uint64_t seed, uint64_t index)
{
	uint64_t x = seed + index * 0x9e3779b97f4a7c15ULL;

	x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93ULL;
	return x ^ (x >> 32);
}

static uint64_t checksum(uint64_t sum, uint64_t value)
{
	return ((sum << 5 | sum >> 59) ^ value) * 0x100000001b3ULL;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void progress(struct demo *d, const char *what, size_t done)
{
	if (done % (d->len / 8 / BUFFER * BUFFER) && done != d->len)
		return;
	printf("  %s %4zu of %zu MiB, resident %ld MiB\n", what, done / MIB, d->len / MIB,
	       proc_number("/proc/self/status", "VmRSS") / 1024);
	fflush(stdout);
}

/* Both return the checksum of what went over the wire. */
static uint64_t write_all(struct demo *d, uint64_t seed)
{
	uint64_t sum = 0, at = 0;
	size_t offset, i;

	for (offset = 0; offset < d->len; offset += BUFFER) {
		for (i = 0; i < BUFFER / 8; i++) {
			d->buffer[i] = word(seed, at++);
			sum = checksum(sum, d->buffer[i]);
		}
		rdma(d, IBV_WR_RDMA_WRITE, offset);
		sample(d);
		progress(d, "written", offset + BUFFER);
	}
	return sum;
}

static uint64_t read_all(struct demo *d, uint64_t seed, size_t *bad)
{
	uint64_t sum = 0, at = 0;
	size_t offset, i;

	for (offset = 0; offset < d->len; offset += BUFFER) {
		memset(d->buffer, 0, BUFFER);
		rdma(d, IBV_WR_RDMA_READ, offset);
		for (i = 0; i < BUFFER / 8; i++) {
			*bad += d->buffer[i] != word(seed, at++);
			sum = checksum(sum, d->buffer[i]);
		}
		sample(d);
		progress(d, "read   ", offset + BUFFER);
	}
	return sum;
}

static long long counter(const char *name)
{
	FILE *pipe = popen("rdma -j statistic show mr", "r");
	char out[8192], key[64], *at;
	size_t len = pipe ? fread(out, 1, sizeof(out) - 1, pipe) : 0;

	out[len] = 0;
	if (!pipe || pclose(pipe))
		return -1;
	snprintf(key, sizeof(key), "\"%s\":", name);
	at = strstr(out, key);
	return at ? strtoll(at + strlen(key), NULL, 10) : -1;
}

static long pin_and_count(struct demo *d, size_t len)
{
	struct ibv_mr *mr = ibv_reg_mr(d->pd, d->mem, len, ACCESS);
	long pinned = mr ? proc_number("/proc/self/status", "VmPin") : -1;

	if (mr)
		ibv_dereg_mr(mr);
	return pinned;
}

/*
 * As a user whom the administrator lets lock half of the memory; more would not
 * survive. What is allowed shows that it is the size that is refused.
 */
static void pinned_child(size_t len, long ram_kb, int out)
{
	struct rlimit limit = { ram_kb / 2 * 1024, ram_kb / 2 * 1024 };
	struct demo d = { .len = len };
	long quarter;

	if (setrlimit(RLIMIT_MEMLOCK, &limit) || setresuid(65534, 65534, 65534))
		die("limit");
	open_device(&d);
	d.mem = mmap(NULL, len, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (d.mem == MAP_FAILED)
		die("mmap");
	quarter = pin_and_count(&d, ram_kb / 4 * 1024);
	errno = 0;
	if (pin_and_count(&d, len) >= 0)
		dprintf(out, "is accepted");
	else
		dprintf(out, "fails: %s (%ld MiB of it are accepted, and pin %ld MiB)",
			strerror(errno), ram_kb / 4096, quarter / 1024);
	_exit(quarter < 0 || errno != ENOMEM);
}

/* What the same registration does without paging; true if it is refused. */
static int pinned_attempt(size_t len, long ram_kb, char *result, size_t size)
{
	int status, fd[2];
	ssize_t got;
	pid_t pid;

	if (pipe(fd))
		die("pipe");
	fflush(stdout);
	pid = fork();
	if (!pid)
		pinned_child(len, ram_kb, fd[1]);
	close(fd[1]);
	got = read(fd[0], result, size - 1);
	result[got > 0 ? got : 0] = 0;
	close(fd[0]);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		die("fork");
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

static void row(const char *what, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("  %-24s ", what);
	vprintf(format, args);
	putchar('\n');
	va_end(args);
}

/* What the kernel counts. Its counters of swapping may be configured out. */
struct counts {
	long swapped_out, swapped_in;	/* MiB */
	long pinned, locked;		/* KiB */
	long long faults, invalidations;
};

/* A field of the swap disk's statistics: 2 is sectors read, 6 written. */
static long swap_sectors(int field)
{
	char name[64] = "", path[128];
	long value = -1;
	FILE *file;

	file = fopen("/proc/swaps", "r");
	if (!file || fscanf(file, "%*[^\n] /dev/%63s", name) != 1)
		die("no swap disk");
	fclose(file);
	snprintf(path, sizeof(path), "/sys/class/block/%s/stat", name);
	file = fopen(path, "r");
	while (file && field-- >= 0)
		if (fscanf(file, "%ld", &value) != 1)
			die(path);
	if (!file)
		die(path);
	fclose(file);
	return value;
}

static struct counts take_counts(void)
{
	return (struct counts) {
		.swapped_out = swap_sectors(6) / 2048,
		.swapped_in = swap_sectors(2) / 2048,
		.pinned = proc_number("/proc/self/status", "VmPin"),
		.locked = proc_number("/proc/self/status", "VmLck"),
		.faults = counter("page_faults"),
		.invalidations = counter("page_invalidations"),
	};
}

static struct counts minus(struct counts a, struct counts b)
{
	return (struct counts) {
		a.swapped_out - b.swapped_out, a.swapped_in - b.swapped_in,
		a.pinned - b.pinned, a.locked - b.locked,
		a.faults - b.faults, a.invalidations - b.invalidations,
	};
}

struct result {
	double t_write, t_read;
	uint64_t written, read;
	size_t bad;
	struct counts delta;
};

static void move(struct demo *d, uint64_t seed, struct result *r)
{
	struct counts before = take_counts();
	double start = now();

	r->written = write_all(d, seed);
	r->t_write = now() - start;
	start = now();
	r->read = read_all(d, seed, &r->bad);
	r->t_read = now() - start;
	r->delta = minus(take_counts(), before);
}

static void show(const struct demo *d, const struct result *r)
{
	double mb = d->len / 1e6;

	row("bytes written, read", "%zu, %zu", d->len, d->len);
	row("resident at most", "%ld MiB", d->resident_most / 1024);
	row("pinned of it (VmPin)", "%ld kB", r->delta.pinned);
	row("locked of it (VmLck)", "%ld kB", r->delta.locked);
	row("page faults", "%lld", r->delta.faults);
	row("page invalidations", "%lld", r->delta.invalidations);
	row("swapped out, in", "%ld MiB, %ld MiB", r->delta.swapped_out,
	    r->delta.swapped_in);
	row("time to write", "%.1f s, %.1f MB/s", r->t_write, mb / r->t_write);
	row("time to read back", "%.1f s, %.1f MB/s", r->t_read, mb / r->t_read);
	row("checksum written", "%016llx", (unsigned long long)r->written);
	row("checksum read back", "%016llx", (unsigned long long)r->read);
	row("words that differ", "%zu of %zu", r->bad, d->len / 8);
}

/* It does not fit, so most of it is paged in for writing and again for reading. */
static int good(const struct demo *d, const struct result *r, long ram_kb)
{
	long long pages = d->len / 4096;

	return !r->bad && r->written == r->read && !r->delta.pinned &&
	       !r->delta.locked && r->delta.swapped_out > 0 &&
	       d->resident_most < ram_kb && (long)(d->len / 1024) > ram_kb &&
	       r->delta.faults > pages && r->delta.invalidations > 0;
}

int main(int argc, char **argv)
{
	struct demo d = { .len = (argc > 1 ? strtoul(argv[1], NULL, 10) : 768) * MIB };
	uint64_t seed = 20260101;
	long ram_kb = proc_number("/proc/meminfo", "MemTotal");
	struct result r = {};
	char pinned[128];
	int ok, refused;
	double start;

	d.implicit = argc > 2 && !strcmp(argv[2], "implicit");
	d.len = d.len / (8 * BUFFER) * (8 * BUFFER);
	refused = pinned_attempt(d.len, ram_kb, pinned, sizeof(pinned));
	open_device(&d);
	open_pair(&d);
	register_buffer(&d);
	start = now();
	register_on_demand(&d);
	start = now() - start;
	printf("  registered %s%zu MiB on demand in %.0f us, with %ld MiB of memory\n",
	       d.implicit ? "all addresses, of which we use " : "", d.len / MIB, start * 1e6,
	       ram_kb / 1024);
	move(&d, seed, &r);

	printf("\n");
	row("memory of the machine", "%ld MiB", ram_kb / 1024);
	row("registered on demand", "%zu MiB", d.len / MIB);
	row("pinned buffer", "%lu MiB", BUFFER / MIB);
	row("seed of the pattern", "%llu", (unsigned long long)seed);
	show(&d, &r);
	row("the same, pinned", "%s", pinned);
	ok = good(&d, &r, ram_kb) && refused;
	printf("\n%s\n", ok ? "OK: all of it arrived, and none of it was pinned" :
	       "FAILED: the table is not what it has to be");
	return !ok;
}
