// SPDX-License-Identifier: GPL-2.0
/*
 * Transfers of the soak test. Both ranges of a transfer are busy until it has completed; then
 * the shadow is changed as the memory must have been, and both are compared.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <string.h>
#include <sys/mman.h>

#include "soak.h"

#define LONGEST		0x100000UL

static struct soak_range src_of(const struct soak_job *job)
{
	return (struct soak_range) { .at = job->src_at, .len = job->len };
}

static struct soak_range dst_of(const struct soak_job *job)
{
	return (struct soak_range) { .at = job->dst_at, .len = job->len };
}

static bool is_atomic(enum ibv_wr_opcode op)
{
	return op == IBV_WR_ATOMIC_FETCH_AND_ADD || op == IBV_WR_ATOMIC_CMP_AND_SWP;
}

/* False: some of the bytes that were chosen are busy. */
static bool choose(struct soak *soak, struct soak_job *job)
{
	static const enum ibv_wr_opcode ops[] = {
		IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ, IBV_WR_SEND,
		IBV_WR_ATOMIC_FETCH_AND_ADD, IBV_WR_ATOMIC_CMP_AND_SWP,
	};
	struct soak_range range;

	job->op = ops[soak_random(soak, 5)];
	job->src = &soak->area[soak_random(soak, SOAK_AREAS)];
	job->dst = &soak->area[soak_random(soak, SOAK_AREAS)];
	range = soak_pick(soak, job->dst, is_atomic(job->op) ? 1 : LONGEST);
	job->dst_at = range.at;
	job->len = range.len;
	if (is_atomic(job->op)) {
		job->len = 8;
		job->dst_at = (range.at + SOAK_PAGE / 2) % (SOAK_LEN - 2 * SOAK_PAGE) & ~7UL;
		job->dst_at += SOAK_PAGE;
	}
	if (soak_is_busy(job->dst, dst_of(job)))
		return false;
	job->src_at = job->src->covered.at +
		soak_random(soak, job->src->covered.len - job->len + 1);
	soak_set_busy(job->dst, dst_of(job));
	if (!soak_is_busy(job->src, src_of(job))) {
		soak_set_busy(job->src, src_of(job));
		return true;
	}
	soak_clear_busy(job->dst, dst_of(job));
	return false;
}

static int post(struct soak *soak, struct odp_pair *pair, struct soak_job *job)
{
	struct ibv_sge src = odp_sge(job->src->mem + job->src_at, job->len, job->src->mr);
	struct ibv_sge dst = odp_sge(job->dst->mem + job->dst_at, job->len, job->dst->mr);
	uint64_t value;

	switch (job->op) {
	case IBV_WR_RDMA_READ:
		return odp_post(pair, job->op, &dst, 1, src.addr, job->src->mr->rkey);
	case IBV_WR_SEND:
		return odp_post_recv(pair, &dst, 1) ?: odp_post(pair, job->op, &src, 1, 0, 0);
	case IBV_WR_RDMA_WRITE:
		return odp_post(pair, job->op, &src, 1, dst.addr, job->dst->mr->rkey);
	default:
		/* One in two compares with what is there. */
		memcpy(&value, job->dst->shadow + job->dst_at, sizeof(value));
		job->compare_add = value + soak_random(soak, 2);
		job->swap = soak_random(soak, ~0ULL);
		return odp_post_atomic(pair, job->op, &src, dst.addr, job->dst->mr->rkey,
				       job->compare_add, job->swap);
	}
}

void soak_post(struct soak *soak)
{
	int nr = soak_random(soak, SOAK_PAIRS), ret;
	struct soak_job *job = &soak->job[nr][soak->posted[nr] % SOAK_DEPTH];

	if (soak->posted[nr] - soak->done[nr] == SOAK_DEPTH || !choose(soak, job))
		return;
	ret = post(soak, &soak->pair[nr], job);
	if (ret)
		soak_fail(soak, "posting: error", ret);
	soak->posted[nr]++;
}

static void apply_atomic(struct soak_job *job)
{
	char *at = job->dst->shadow + job->dst_at;
	uint64_t before, after;

	memcpy(&before, at, sizeof(before));
	if (job->op == IBV_WR_ATOMIC_FETCH_AND_ADD)
		after = before + job->compare_add;
	else
		after = before == job->compare_add ? job->swap : before;
	memcpy(at, &after, sizeof(after));
	memcpy(job->src->shadow + job->src_at, &before, sizeof(before));
}

static void finish(struct soak *soak, struct soak_job *job)
{
	static const enum soak_count counts[] = {
		[IBV_WR_RDMA_WRITE] = SOAK_WRITE, [IBV_WR_RDMA_READ] = SOAK_READ,
		[IBV_WR_SEND] = SOAK_SEND, [IBV_WR_ATOMIC_CMP_AND_SWP] = SOAK_ATOMIC,
		[IBV_WR_ATOMIC_FETCH_AND_ADD] = SOAK_ATOMIC,
	};

	if (is_atomic(job->op))
		apply_atomic(job);
	else
		memcpy(job->dst->shadow + job->dst_at, job->src->shadow + job->src_at, job->len);
	soak_compare(soak, job->dst, dst_of(job));
	soak_compare(soak, job->src, src_of(job));
	soak_clear_busy(job->dst, dst_of(job));
	soak_clear_busy(job->src, src_of(job));
	soak->count[counts[job->op]]++;
	soak->count[SOAK_BYTES] += job->len;
}

static void await(struct soak *soak, int nr, int side)
{
	struct ibv_wc wc;
	int ret = odp_wait(&soak->pair[nr], side, &wc);

	if (ret)
		soak_fail(soak, "no completion: error", ret);
	if (wc.status)
		soak_fail(soak, ibv_wc_status_str(wc.status), wc.status);
}

/* The oldest one of a pair. */
bool soak_complete(struct soak *soak)
{
	int nr = soak_random(soak, SOAK_PAIRS), i;
	struct soak_job *job;

	for (i = 0; i < SOAK_PAIRS && soak->posted[nr] == soak->done[nr]; i++)
		nr = (nr + 1) % SOAK_PAIRS;
	if (i == SOAK_PAIRS)
		return false;
	job = &soak->job[nr][soak->done[nr] % SOAK_DEPTH];
	await(soak, nr, ODP_REQ);
	if (job->op == IBV_WR_SEND)
		await(soak, nr, ODP_RESP);
	finish(soak, job);
	soak->done[nr]++;
	return true;
}

/* Memory that the owner may not write: the operation fails, and no byte changes. */
void soak_refused(struct soak *soak)
{
	struct soak_area *dst = &soak->area[soak_random(soak, SOAK_AREAS)];
	struct soak_area *src = &soak->area[soak_random(soak, SOAK_AREAS)];
	size_t page = SOAK_PAGE * (1 + soak_random(soak, SOAK_LEN / SOAK_PAGE - 2));
	struct soak_range range = { .at = page + soak_random(soak, SOAK_PAGE - 64), .len = 64 };
	struct odp_pair *pair = &soak->pair[0];
	int status, protection = soak_random(soak, 2) ? PROT_READ : PROT_NONE;

	while (soak_complete(soak))
		;
	if (mprotect(dst->mem + page, SOAK_PAGE, protection))
		soak_fail(soak, "mprotect: step", soak->step);
	status = odp_rdma(pair, IBV_WR_RDMA_WRITE, src->mem + src->covered.at, src->mr, range.len,
			  dst->mem + range.at, dst->mr);
	if (status <= 0)
		soak_fail(soak, "not refused: status", status);
	if (mprotect(dst->mem + page, SOAK_PAGE, PROT_READ | PROT_WRITE) ||
	    odp_pair_reconnect(pair))
		soak_fail(soak, "reconnecting: step", soak->step);
	soak_compare(soak, dst, range);
	soak->count[SOAK_REFUSED]++;
}
