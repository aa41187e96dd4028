// SPDX-License-Identifier: GPL-2.0
/*
 * usage: vmas KIND NR FILE
 *
 * Create a process with NR VMAs of one accessed page each, and let the
 * benchmark module (FILE) register a notifier as "KIND.NR". Addresses are
 * fixed, so that two runs are the same.
 *
 *	anon	private anonymous, with gaps: an anon_vma each
 *	joint	the same without gaps, with alternating rights: one anon_vma
 *	forked	anon in a child; parent and child have accessed all pages
 *	file	shared mappings of pages of one file
 *	files	shared mappings, 60 of each file
 */
#define _GNU_SOURCE
#include <sys/wait.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "areas.h"

#define PER_FILE 60

static void make(const char *kind, long nr)
{
	int file = !strcmp(kind, "file"), files = !strcmp(kind, "files");
	int joint = !strcmp(kind, "joint"), fd = -1;
	long i;

	for (i = 0; i < nr; i++) {
		if (file && !i)
			fd = temp_file(nr);
		if (files && i % PER_FILE == 0)
			fd = temp_file(PER_FILE);
		if (file || files)
			*map(2 * i, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			     file ? i : i % PER_FILE) = 1;
		else
			*map(joint ? i : 2 * i,
			     PROT_READ | PROT_WRITE | (joint && i % 2 ? PROT_EXEC : 0),
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) = 1;
		if (files && i % PER_FILE == PER_FILE - 1)
			close(fd);
	}
}

static void registration(const char *path, const char *kind, long nr)
{
	char text[64];
	int fd = open(path, O_WRONLY), len;

	len = snprintf(text, sizeof(text), "register %s.%ld", kind, nr);
	if (fd < 0 || write(fd, text, len) != len)
		err(1, "%s", path);
}

int main(int argc, char **argv)
{
	int status;
	long nr, i;

	if (argc != 4)
		errx(1, "usage: vmas KIND NR FILE");
	nr = atol(argv[2]);
	make(argv[1], nr);
	if (strcmp(argv[1], "forked")) {
		registration(argv[3], argv[1], nr);
		return 0;
	}
	if (!fork()) {
		for (i = 0; i < nr; i++)
			BASE[2 * i * PAGE] = 2;
		registration(argv[3], argv[1], nr);
		return 0;
	}
	if (wait(&status) < 0 || status)
		errx(1, "the child failed");
	return 0;
}
