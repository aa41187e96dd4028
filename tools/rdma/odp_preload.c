// SPDX-License-Identifier: GPL-2.0
/*
 * A library to be loaded before a program that registers RDMA memory (see odp-run): what the
 * program would pin is registered for paging on demand instead, where the device can. What it
 * cannot is pinned, as the program wanted it. At the end it says what became of the regions.
 *
 * With ODP_RUN_IMPLICIT=1 the program's regions are parts of one that covers its whole address
 * space, one for each protection domain and set of rights. So to register costs nothing, and a
 * peer that has one of the keys can access all of the memory: this is for tests.
 *
 * Memory of devices and dma-bufs have calls of their own, and are left alone. What a program
 * registers without libibverbs (DEVX) is not seen.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <dlfcn.h>
#include <errno.h>
#include <infiniband/verbs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The header makes macros of them, which choose one of the functions. */
#undef ibv_reg_mr
#undef ibv_reg_mr_iova

/* A region that covers all there is. What the program has of it is a copy. */
struct whole {
	struct whole *next;
	struct ibv_mr *mr;
	unsigned int access;
};

struct sum {
	atomic_ulong regions;
	atomic_ulong bytes;
};

static struct sum paged, pinned, asked;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct whole *wholes;	/* under the lock */
static atomic_ulong wholes_made;
/* The last reason why a region was pinned; 0: the device has no paging. */
static atomic_int why = -1;

static void count(struct sum *sum, size_t length)
{
	atomic_fetch_add(&sum->regions, 1);
	atomic_fetch_add(&sum->bytes, length);
}

static void *real(const char *name)
{
	void *function = dlsym(RTLD_NEXT, name);

	if (!function) {
		fprintf(stderr, "odp-run: libibverbs has no %s\n", name);
		abort();
	}
	return function;
}

static bool can_page(struct ibv_context *ctx, uint64_t how)
{
	struct ibv_device_attr_ex attr = {};

	return !ibv_query_device_ex(ctx, NULL, &attr) && attr.odp_caps.general_caps & how;
}

/* By the function that takes all there is to say. */
static struct ibv_mr *register_region(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
				      unsigned int access)
{
	typeof(ibv_reg_mr_iova2) *reg = real("ibv_reg_mr_iova2");

	return reg(pd, addr, length, iova, access);
}

/* ---- parts of a region that covers all there is ---- */

static struct whole *whole_get(struct ibv_pd *pd, unsigned int access)
{
	struct whole *whole;

	for (whole = wholes; whole; whole = whole->next)
		if (whole->mr->pd == pd && whole->access == access)
			return whole;
	whole = calloc(1, sizeof(*whole));
	if (!whole)
		return NULL;
	whole->access = access;
	whole->mr = register_region(pd, NULL, SIZE_MAX, 0, access | IBV_ACCESS_ON_DEMAND);
	if (!whole->mr) {
		free(whole);
		return NULL;
	}
	whole->next = wholes;
	wholes = whole;
	atomic_fetch_add(&wholes_made, 1);
	return whole;
}

static bool is_part(const struct ibv_mr *mr)
{
	struct whole *whole;

	pthread_mutex_lock(&lock);
	for (whole = wholes; whole; whole = whole->next)
		if (mr->pd == whole->mr->pd && mr->lkey == whole->mr->lkey)
			break;
	pthread_mutex_unlock(&lock);
	return whole;
}

static struct ibv_mr *register_part(struct ibv_pd *pd, void *addr, size_t length,
				    unsigned int access)
{
	struct ibv_mr *part = malloc(sizeof(*part));
	struct whole *whole;

	pthread_mutex_lock(&lock);
	whole = part ? whole_get(pd, access) : NULL;
	if (whole) {
		*part = *whole->mr;
		part->addr = addr;
		part->length = length;
	}
	pthread_mutex_unlock(&lock);
	if (whole)
		return part;
	free(part);
	return NULL;
}

/* Only where they are called what they are, and where the device can. */
static bool wants_part(struct ibv_pd *pd, void *addr, uint64_t iova)
{
	const char *implicit = getenv("ODP_RUN_IMPLICIT");

	return implicit && !strcmp(implicit, "1") && iova == (uintptr_t)addr &&
	       can_page(pd->context, IBV_ODP_SUPPORT_IMPLICIT);
}

int ibv_dereg_mr(struct ibv_mr *mr)
{
	typeof(ibv_dereg_mr) *dereg = real("ibv_dereg_mr");

	if (!is_part(mr))
		return dereg(mr);
	free(mr);
	return 0;
}

/* The program has no part of them any more. */
static void drop_wholes(struct ibv_pd *pd)
{
	typeof(ibv_dereg_mr) *dereg = real("ibv_dereg_mr");
	struct whole **at = &wholes, *whole;

	pthread_mutex_lock(&lock);
	while ((whole = *at)) {
		if (whole->mr->pd != pd || dereg(whole->mr)) {
			at = &whole->next;
			continue;
		}
		*at = whole->next;
		free(whole);
	}
	pthread_mutex_unlock(&lock);
}

int ibv_dealloc_pd(struct ibv_pd *pd)
{
	typeof(ibv_dealloc_pd) *dealloc = real("ibv_dealloc_pd");

	drop_wholes(pd);
	return dealloc(pd);
}

/* ---- what the program calls ---- */

static struct ibv_mr *register_paged(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
				     unsigned int access)
{
	struct ibv_mr *mr;

	if (!can_page(pd->context, IBV_ODP_SUPPORT)) {
		why = 0;
		return NULL;
	}
	mr = wants_part(pd, addr, iova) ? register_part(pd, addr, length, access) : NULL;
	if (!mr)
		mr = register_region(pd, addr, length, iova, access | IBV_ACCESS_ON_DEMAND);
	if (!mr)
		why = errno;
	return mr;
}

struct ibv_mr *ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
				unsigned int access)
{
	struct ibv_mr *mr;

	if (access & IBV_ACCESS_ON_DEMAND) {
		mr = register_region(pd, addr, length, iova, access);
		if (mr)
			count(&asked, length);
		return mr;
	}
	mr = register_paged(pd, addr, length, iova, access);
	if (mr) {
		count(&paged, length);
		return mr;
	}
	mr = register_region(pd, addr, length, iova, access);
	if (mr)
		count(&pinned, length);
	return mr;
}

struct ibv_mr *ibv_reg_mr_iova(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
			       int access)
{
	return ibv_reg_mr_iova2(pd, addr, length, iova, access);
}

struct ibv_mr *ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	return ibv_reg_mr_iova2(pd, addr, length, (uintptr_t)addr, access);
}

/* New rights without a word on paging would have the region pinned from then on. */
int ibv_rereg_mr(struct ibv_mr *mr, int flags, struct ibv_pd *pd, void *addr, size_t length,
		 int access)
{
	typeof(ibv_rereg_mr) *rereg = real("ibv_rereg_mr");
	int ret;

	if (is_part(mr)) {
		/* Other memory is another part. Of other rights, or another domain, it is none. */
		if (flags != IBV_REREG_MR_CHANGE_TRANSLATION)
			return IBV_REREG_MR_ERR_INPUT;
		mr->addr = addr;
		mr->length = length;
		return 0;
	}
	if (!(flags & IBV_REREG_MR_CHANGE_ACCESS) || access & IBV_ACCESS_ON_DEMAND ||
	    !can_page(mr->context, IBV_ODP_SUPPORT))
		return rereg(mr, flags, pd, addr, length, access);
	ret = rereg(mr, flags, pd, addr, length, access | IBV_ACCESS_ON_DEMAND);
	return ret == IBV_REREG_MR_ERR_INPUT ? rereg(mr, flags, pd, addr, length, access) : ret;
}

static void say(FILE *to)
{
	fprintf(to, "odp-run[%d]: %lu regions (%lu bytes) paged", getpid(), paged.regions,
		paged.bytes);
	if (wholes_made)
		fprintf(to, ", parts of %lu that cover all memory", wholes_made);
	fprintf(to, ", %lu (%lu) pinned", pinned.regions, pinned.bytes);
	if (pinned.regions)
		fprintf(to, " as %s", why ? strerror(why) : "the device has no on-demand paging");
	if (asked.regions)
		fprintf(to, ", %lu (%lu) paged by the program itself", asked.regions, asked.bytes);
	fprintf(to, "\n");
}

__attribute__((destructor)) static void at_exit(void)
{
	const char *path = getenv("ODP_RUN_REPORT");
	FILE *file;

	/* Also loaded into a shell, and whatever it starts. */
	if (!paged.regions && !pinned.regions && !asked.regions)
		return;
	file = path ? fopen(path, "a") : NULL;
	say(file ?: stderr);
	if (file)
		fclose(file);
}
