/* SPDX-License-Identifier: GPL-2.0 */
/* For programs with many VMAs: a file, and pages at fixed addresses. */
#ifndef PINLESS_AREAS_H
#define PINLESS_AREAS_H

#include <sys/mman.h>

#include <err.h>
#include <stdlib.h>
#include <unistd.h>

#define PAGE	4096UL
#define BASE	((char *)0x10000000000)

static int temp_file(long nr_pages)
{
	char name[] = "/tmp/areas-XXXXXX";
	int fd = mkstemp(name);

	if (fd < 0 || ftruncate(fd, nr_pages * PAGE))
		err(1, "%s", name);
	unlink(name);
	return fd;
}

static char *map(long place, int prot, int flags, int fd, long page)
{
	char *at = mmap(BASE + place * PAGE, PAGE, prot, flags | MAP_FIXED, fd,
			page * PAGE);

	if (at == MAP_FAILED)
		err(1, "mmap");
	return at;
}

#endif /* PINLESS_AREAS_H */
