/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What an mlx5 driver's on-demand paging costs, seen by an RDMA program.
 *
 * Runs in a guest with our adapter whose clock counts instructions: a ns of
 * now() is one of them, or of waiting for the device, whose delays are chosen
 * here (adapter.c). Faults are RDMA writes of pages over a loopback connection;
 * who waits sleeps, so that waiting costs no instructions. What is measured is
 * also checked: data byte by byte, and that faults happened, or did not.
 *
 * Results are lines "name value". A name that ends in ".<n>" is one of several
 * repetitions.
 */
#ifndef ODP_BENCH_H
#define ODP_BENCH_H

#include <infiniband/verbs.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <x86intrin.h>

#define PAGE		4096UL
#define MIB		(1UL << 20)
#define GIB		(1UL << 30)
#define BLOCK		(2 * MIB)	/* a huge page */
#define US		1000UL		/* in ns */
#define MS		(1000 * US)

#define ACCESS	(IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE)

#define SLOTS		64		/* pages to send from, pages to read into */
#define PIECE		(1 * MIB)	/* of a large message */
#define DELAY		(10 * US)	/* of each step of the device */

/* main.c */
void die(const char *what, ...) __attribute__((format(printf, 1, 2), noreturn));
void report(double value, const char *name, ...) __attribute__((format(printf, 2, 3)));
void rest(uint64_t ns);

static inline uint64_t now(void)
{
	return __rdtsc();
}

/* adapter.c */
void adapter_open(void);
uint64_t adapter_count(const char *counter);
uint64_t adapter_faults(void);
void adapter_set(const char *knob, uint64_t value);
void adapter_delay(uint64_t ns);
void driver_ahead(bool on);

/* rdma.c */
struct lane {
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq;
	struct ibv_qp *qp[2];		/* connected to each other */
};

struct bench {
	struct ibv_context *ctx;
	struct ibv_pd *pd;
	uint16_t lid;
	struct lane lane;
	char *buffer;			/* pinned: SLOTS to send, then SLOTS to read into */
	struct ibv_mr *buffer_mr;
};

enum page_kind { SMALL_PAGES, HUGE_PAGES };

struct region {
	char *mem;
	size_t len;
	enum page_kind kind;
	struct ibv_mr *mr;
};

void bench_open(struct bench *b);
void lane_open(struct bench *b, struct lane *lane);
void lane_post(struct lane *lane, int end, struct ibv_send_wr *wr);
void lane_wait(struct lane *lane, int nr);
char *buffer_slot(struct bench *b, size_t offset, bool read);
void lane_pages(struct bench *b, struct lane *lane, enum ibv_wr_opcode op,
		const struct region *r, const size_t *offsets, unsigned int nr);
void check_written(struct bench *b, const struct region *r, const size_t *offsets,
		   unsigned int nr);
void check_read(struct bench *b, const struct region *r, const size_t *offsets,
		unsigned int nr);
void region_register(struct bench *b, struct region *r, bool on_demand);
void region_deregister(struct region *r);
void region_prefetch(struct bench *b, const struct region *r, size_t len, size_t stride);

/* memory.c */
struct region region_map(size_t len, enum page_kind kind);
void region_unmap(struct region *r);
void region_touch(const struct region *r, size_t len, size_t stride);
long kernel_memory(void);

/* What there is to measure. */
void measure_registration(struct bench *b);
void measure_deregistration(struct bench *b);
void measure_faults(struct bench *b);
void measure_crowd(struct bench *b);
void measure_invalidation(struct bench *b);
void measure_chunks(struct bench *b);
void measure_traffic(struct bench *b);
void measure_threads(struct bench *b);
void measure_storm(struct bench *b);
void measure_aging(struct bench *b);
void measure_phases(struct bench *b);

#endif /* ODP_BENCH_H */
