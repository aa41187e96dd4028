// SPDX-License-Identifier: GPL-2.0
/*
 * What tests of paged memory ask the kernel outside of verbs, or tell it.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "odp_loop.h"

bool odp_command(const char *command, char *out, size_t len)
{
	FILE *pipe = popen(command, "r");
	size_t got;

	if (!pipe)
		return false;
	got = fread(out, 1, len - 1, pipe);
	out[got] = 0;
	return pclose(pipe) == 0;
}

int odp_mount_disk(const char *folder, const char *options)
{
	/* A test that failed may have left it mounted. */
	umount2(folder, MNT_DETACH);
	if (mkdir(folder, 0700) && errno != EEXIST)
		return errno;
	if (system("mkfs.ext4 -qF -b 4096 " ODP_DISK))
		return errno = EIO;
	return mount(ODP_DISK, folder, "ext4", 0, options) ? errno : 0;
}

/* Of the one paged region that exists; -1 if there is none or more than one. */
long long odp_counter(const char *name)
{
	char out[16384], key[64], *at;

	if (!odp_command("rdma -j statistic show mr", out, sizeof(out)))
		return -1;
	snprintf(key, sizeof(key), "\"%s\":", name);
	at = strstr(out, key);
	if (!at || strstr(at + 1, key))
		return -1;
	return strtoll(at + strlen(key), NULL, 10);
}

int odp_put_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	int ret = fd < 0 || write(fd, text, strlen(text)) < 0 ? errno : 0;

	if (fd >= 0)
		close(fd);
	return ret;
}

bool odp_has_swap(void)
{
	struct sysinfo info;

	return !sysinfo(&info) && info.totalswap;
}

/* The number in a line "Field:  n kB" or "field n" of a file; -1 if it has none. */
long odp_proc_number(const char *path, const char *field)
{
	FILE *file = fopen(path, "r");
	size_t len = strlen(field);
	char line[256];
	long number = -1;

	while (file && number < 0 && fgets(line, sizeof(line), file))
		if (!strncmp(line, field, len) && (line[len] == ':' || line[len] == ' '))
			number = strtol(line + len + 1, NULL, 10);
	if (file)
		fclose(file);
	return number;
}
