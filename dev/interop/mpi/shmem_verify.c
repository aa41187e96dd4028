// SPDX-License-Identifier: GPL-2.0
/*
 * shmem_verify BYTES ROUNDS: OpenSHMEM puts, gets and atomics on areas of the
 * symmetric heap, whose pages are dropped before each round.
 *
 * A wrong element ends the program with status 3. PE 0 prints how many
 * elements it verified: a run without that line verified nothing.
 */
#include <shmem.h>

#include "area.h"

static void transfer(uint64_t *heap, size_t nr, int round)
{
	int me = shmem_my_pe(), nr_pes = shmem_n_pes();
	int right = (me + 1) % nr_pes, left = (me + nr_pes - 1) % nr_pes;
	uint64_t *local = area_map(nr);

	area_fill(heap, nr, 0);
	area_fill(local, nr, round * 64 + me + 1);
	shmem_barrier_all();
	shmem_put64(heap, local, nr, right);
	shmem_barrier_all();
	area_verify("put", heap, nr, round * 64 + left + 1);
	area_fill(local, nr, 0);
	shmem_get64(local, heap, nr, right);
	area_verify("get", local, nr, round * 64 + me + 1);
	shmem_barrier_all();
	area_unmap(local, nr);
}

static void count(long *counter)
{
	int nr_pes = shmem_n_pes();

	*counter = 0;
	shmem_barrier_all();
	for (int i = 0; i < 16; i++)
		shmem_long_atomic_add(counter, i, i % nr_pes);
	for (int i = 0; i < 16; i++)
		shmem_long_atomic_fetch_inc(counter, i % nr_pes);
	shmem_barrier_all();
	/* Two PEs: the even ones have 0 + 2 .. + 14, the odd ones 1 + 3 .. + 15. */
	if (nr_pes == 2)
		element_verify("atomic", 0, *counter,
			       2 * (8 + (shmem_my_pe() ? 64 : 56)));
	shmem_barrier_all();
}

int main(int argc, char **argv)
{
	size_t nr = argc == 3 ? strtoul(argv[1], NULL, 0) / sizeof(uint64_t) : 0;
	uint64_t *heap;
	long *counter;

	shmem_init();
	heap = nr && shmem_n_pes() > 1 ? shmem_align(4096, nr * sizeof(*heap)) : NULL;
	counter = shmem_malloc(sizeof(*counter));
	if (!heap || !counter)
		shmem_global_exit(2);
	for (int round = 0; round < atoi(argv[2]); round++) {
		transfer(heap, nr, round);
		count(counter);
	}
	if (!shmem_my_pe())
		printf("verified %" PRIu64 " elements\n", nr_verified);
	fflush(stdout);
	shmem_finalize();
	return 0;
}
