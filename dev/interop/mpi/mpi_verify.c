// SPDX-License-Identifier: GPL-2.0
/*
 * mpi_verify p2p|coll|window BYTES ROUNDS: two or more ranks exchange memory
 * that is mapped, filled and unmapped in each round, and verify each element.
 *
 * A wrong element ends the program with status 3. Rank 0 prints how many
 * elements it verified: a run without that line verified nothing.
 */
#include <mpi.h>
#include <string.h>

#include "area.h"

static int rank, nr_ranks;

/* Another seed for each round, rank and kind of exchange. */
static uint64_t seed_of(int round, int of_rank, int kind)
{
	return ((uint64_t)round * 16 + kind) * 64 + of_rank + 1;
}

static void exchange(uint64_t *to, uint64_t *from, size_t nr, int round, int kind)
{
	int right = (rank + 1) % nr_ranks, left = (rank + nr_ranks - 1) % nr_ranks;
	MPI_Request requests[2];

	area_fill(to, nr, seed_of(round, rank, kind));
	area_fill(from, nr, 0);
	MPI_Irecv(from, nr, MPI_UINT64_T, left, kind, MPI_COMM_WORLD, &requests[0]);
	MPI_Isend(to, nr, MPI_UINT64_T, right, kind, MPI_COMM_WORLD, &requests[1]);
	MPI_Waitall(2, requests, MPI_STATUSES_IGNORE);
	area_verify("ring", from, nr, seed_of(round, left, kind));
	/* The send must not have changed what it sent. */
	area_verify("sent", to, nr, seed_of(round, rank, kind));
}

/* Small messages are copied, large ones are read or written by the device. */
static void p2p(size_t nr, int round)
{
	const size_t sizes[] = { 1, nr / 64 + 1, nr };

	for (int i = 0; i < 3; i++) {
		uint64_t *to = area_map(sizes[i]), *from = area_map(sizes[i]);

		exchange(to, from, sizes[i], round, 2 * i);
		area_drop(to, sizes[i]);
		area_drop(from, sizes[i]);
		exchange(to, from, sizes[i], round, 2 * i + 1);
		area_unmap(to, sizes[i]);
		area_unmap(from, sizes[i]);
	}
}

static void bcast(size_t nr, int round)
{
	int root = round % nr_ranks;
	uint64_t *area = area_map(nr);

	area_fill(area, nr, rank == root ? seed_of(round, root, 0) : 0);
	MPI_Bcast(area, nr, MPI_UINT64_T, root, MPI_COMM_WORLD);
	area_verify("bcast", area, nr, seed_of(round, root, 0));
	area_unmap(area, nr);
}

static void allreduce(size_t nr, int round)
{
	uint64_t *mine = area_map(nr), *sum = area_map(nr), want;

	area_fill(mine, nr, seed_of(round, rank, 1));
	MPI_Allreduce(mine, sum, nr, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
	for (size_t i = 0; i < nr; i++) {
		want = 0;
		for (int peer = 0; peer < nr_ranks; peer++)
			want += area_value(seed_of(round, peer, 1), i);
		element_verify("allreduce", i, sum[i], want);
	}
	area_unmap(mine, nr);
	area_unmap(sum, nr);
}

static void allgather(size_t nr, int round)
{
	uint64_t *mine = area_map(nr), *all = area_map(nr * nr_ranks);

	area_fill(mine, nr, seed_of(round, rank, 2));
	MPI_Allgather(mine, nr, MPI_UINT64_T, all, nr, MPI_UINT64_T, MPI_COMM_WORLD);
	for (int peer = 0; peer < nr_ranks; peer++)
		area_verify("allgather", all + peer * nr, nr, seed_of(round, peer, 2));
	area_unmap(mine, nr);
	area_unmap(all, nr * nr_ranks);
}

/* What PEER sends to this rank is part number RANK of its area. */
static void alltoall(size_t nr, int round)
{
	uint64_t *to = area_map(nr * nr_ranks), *from = area_map(nr * nr_ranks);

	area_fill(to, nr * nr_ranks, seed_of(round, rank, 3));
	MPI_Alltoall(to, nr, MPI_UINT64_T, from, nr, MPI_UINT64_T, MPI_COMM_WORLD);
	for (int peer = 0; peer < nr_ranks; peer++)
		for (size_t i = 0; i < nr; i++)
			element_verify("alltoall", i, from[peer * nr + i],
				       area_value(seed_of(round, peer, 3), rank * nr + i));
	area_unmap(to, nr * nr_ranks);
	area_unmap(from, nr * nr_ranks);
}

static void coll(size_t nr, int round)
{
	bcast(nr, round);
	allreduce(nr, round);
	allgather(nr, round);
	alltoall(nr, round);
	MPI_Barrier(MPI_COMM_WORLD);
}

/* Active: puts and gets between fences, of the left rank's window. */
static void fenced(MPI_Win win, uint64_t *window, size_t nr, int round)
{
	int left = (rank + nr_ranks - 1) % nr_ranks, right = (rank + 1) % nr_ranks;
	uint64_t *local = area_map(nr);

	area_fill(window, nr, 0);
	area_fill(local, nr, seed_of(round, rank, 4));
	MPI_Win_fence(0, win);
	MPI_Put(local, nr, MPI_UINT64_T, right, 0, nr, MPI_UINT64_T, win);
	MPI_Win_fence(0, win);
	area_verify("put", window, nr, seed_of(round, left, 4));
	area_fill(local, nr, 0);
	MPI_Win_fence(0, win);
	MPI_Get(local, nr, MPI_UINT64_T, right, 0, nr, MPI_UINT64_T, win);
	MPI_Win_fence(0, win);
	area_verify("get", local, nr, seed_of(round, rank, 4));
	area_unmap(local, nr);
}

/* Passive: all ranks add to rank 0's window, by messages and by atomics. */
static void locked(MPI_Win win, uint64_t *window, size_t nr)
{
	uint64_t one = 1, before, *ones = area_map(nr);

	memset(window, 0, nr * sizeof(*window));
	for (size_t i = 0; i < nr; i++)
		ones[i] = i;
	MPI_Barrier(MPI_COMM_WORLD);
	MPI_Win_lock(MPI_LOCK_EXCLUSIVE, 0, 0, win);
	MPI_Accumulate(ones, nr, MPI_UINT64_T, 0, 0, nr, MPI_UINT64_T, MPI_SUM, win);
	MPI_Win_unlock(0, win);
	MPI_Win_lock(MPI_LOCK_SHARED, 0, 0, win);
	for (int i = 0; i < 16; i++) {
		MPI_Fetch_and_op(&one, &before, MPI_UINT64_T, 0, 0, MPI_SUM, win);
		MPI_Win_flush(0, win);
	}
	MPI_Win_unlock(0, win);
	MPI_Barrier(MPI_COMM_WORLD);
	MPI_Win_lock(MPI_LOCK_SHARED, 0, 0, win);
	MPI_Get(ones, nr, MPI_UINT64_T, 0, 0, nr, MPI_UINT64_T, win);
	MPI_Win_unlock(0, win);
	for (size_t i = 0; i < nr; i++)
		element_verify("accumulate", i, ones[i], (i ? i : 16) * nr_ranks);
	MPI_Barrier(MPI_COMM_WORLD);
	area_unmap(ones, nr);
}

static void window(size_t nr, int round)
{
	uint64_t *area = area_map(nr);
	MPI_Win win;

	MPI_Win_create(area, nr * sizeof(*area), sizeof(*area), MPI_INFO_NULL,
		       MPI_COMM_WORLD, &win);
	fenced(win, area, nr, round);
	locked(win, area, nr);
	MPI_Win_free(&win);
	area_unmap(area, nr);
}

int main(int argc, char **argv)
{
	static const char * const names[] = { "p2p", "coll", "window" };
	void (*kinds[])(size_t nr, int round) = { p2p, coll, window };
	int kind = 0;

	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &nr_ranks);
	while (argc == 4 && kind < 3 && strcmp(argv[1], names[kind]))
		kind++;
	if (argc != 4 || kind == 3 || nr_ranks < 2)
		MPI_Abort(MPI_COMM_WORLD, 2);
	for (int round = 0; round < atoi(argv[3]); round++)
		kinds[kind](strtoul(argv[2], NULL, 0) / sizeof(uint64_t), round);
	if (!rank)
		printf("verified %" PRIu64 " elements\n", nr_verified);
	fflush(stdout);
	MPI_Finalize();
	return 0;
}
