// SPDX-License-Identifier: GPL-2.0
/*
 * A library to be loaded before a program that registers RDMA memory (see odp-run): what the
 * program would pin is registered for paging on demand instead, where the device can. What it
 * cannot is pinned, as the program wanted it. At the end it says what became of the regions.
 *
 * Memory of devices and dma-bufs have calls of their own, and are left alone. What a program
 * registers without libibverbs (DEVX) is not seen.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <dlfcn.h>
#include <errno.h>
#include <infiniband/verbs.h>
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

struct sum {
	atomic_ulong regions;
	atomic_ulong bytes;
};

static struct sum paged, pinned, asked;
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

static bool can_page(struct ibv_context *ctx)
{
	struct ibv_device_attr_ex attr = {};

	return !ibv_query_device_ex(ctx, NULL, &attr) &&
	       attr.odp_caps.general_caps & IBV_ODP_SUPPORT;
}

/* By the function that takes all there is to say. */
static struct ibv_mr *register_region(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
				      unsigned int access)
{
	typeof(ibv_reg_mr_iova2) *reg = real("ibv_reg_mr_iova2");

	return reg(pd, addr, length, iova, access);
}

static struct ibv_mr *register_paged(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
				     unsigned int access)
{
	struct ibv_mr *mr;

	if (!can_page(pd->context)) {
		why = 0;
		return NULL;
	}
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

	if (!(flags & IBV_REREG_MR_CHANGE_ACCESS) || access & IBV_ACCESS_ON_DEMAND ||
	    !can_page(mr->context))
		return rereg(mr, flags, pd, addr, length, access);
	ret = rereg(mr, flags, pd, addr, length, access | IBV_ACCESS_ON_DEMAND);
	return ret == IBV_REREG_MR_ERR_INPUT ? rereg(mr, flags, pd, addr, length, access) : ret;
}

static void say(FILE *to)
{
	fprintf(to, "odp-run[%d]: %lu regions (%lu bytes) paged, %lu (%lu) pinned", getpid(),
		paged.regions, paged.bytes, pinned.regions, pinned.bytes);
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
