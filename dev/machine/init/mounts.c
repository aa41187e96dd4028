// SPDX-License-Identifier: GPL-2.0
/* The guest's view of the host: everything visible, nothing writable. */
#define _GNU_SOURCE
#include <sys/mount.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "init.h"

#define NEWROOT "/newroot"

static char *slurp(const char *path)
{
	int fd = open(path, O_RDONLY);
	struct stat st;
	char *buf;

	if (fd < 0 || fstat(fd, &st))
		fatal(path);
	buf = calloc(1, st.st_size + 1);
	if (!buf || read(fd, buf, st.st_size) != st.st_size)
		fatal(path);
	close(fd);
	return buf;
}

static void set(char *key, char *value)
{
	if (!strcmp(key, "nonce"))
		conf.nonce = value;
	else if (!strcmp(key, "cwd"))
		conf.cwd = value;
	else if (!strcmp(key, "guest"))
		conf.guest = value;
	else if (!strcmp(key, "interactive"))
		conf.interactive = atoi(value);
	else if (!strcmp(key, "kmemleak"))
		conf.kmemleak = atoi(value);
	else if (!strcmp(key, "share"))
		conf.share = atoi(value);
	else if (!strcmp(key, "keep") && conf.nr_keep < MAX_LIST)
		conf.keep[conf.nr_keep++] = value;
	else if (!strcmp(key, "env") && conf.nr_env < MAX_LIST - 1)
		conf.env[conf.nr_env++] = value;
	else
		fatal(key);
}

void read_conf(void)
{
	char *line, *next, *value;

	for (line = slurp("/conf"); *line; line = next) {
		next = line + strcspn(line, "\n");
		if (*next)
			*next++ = '\0';
		value = strchr(line, '=');
		if (!value)
			fatal(line);
		*value++ = '\0';
		set(line, value);
	}
	if (!conf.nonce || !conf.cwd || !conf.guest)
		fatal("/conf is incomplete");
}

static void must_mount(const char *type, const char *dir, const char *data)
{
	mkdir(dir, 0755);
	if (mount(type, dir, type, 0, data))
		fatal(dir);
}

/* For what a configuration may lack: tracefs, hugetlbfs, ... */
static void may_mount(const char *type, const char *dir)
{
	mkdir(dir, 0755);
	mount(type, dir, type, 0, NULL);
}

void mount_early(void)
{
	must_mount("devtmpfs", "/dev", NULL);
	must_mount("proc", "/proc", NULL);
}

static void mkdirs(char *path)
{
	char *slash;

	for (slash = path + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		mkdir(path, 0755);
		*slash = '/';
	}
	mkdir(path, 0755);
}

/*
 * The checkout or the cache may lie in a folder that gets a tmpfs, /tmp say.
 * Each is opened before and bound to its old place after.
 */
static void mount_scratch(void)
{
	static const char * const scratch[] = {
		"/tmp", "/run", "/var/tmp", "/var/log", "/mnt",
	};
	char path[4096], fd_path[64];
	int fds[MAX_LIST], i;

	for (i = 0; i < conf.nr_keep; i++) {
		snprintf(path, sizeof(path), NEWROOT "%s", conf.keep[i]);
		fds[i] = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fds[i] < 0)
			fatal(path);
	}
	for (i = 0; i < (int)(sizeof(scratch) / sizeof(*scratch)); i++) {
		snprintf(path, sizeof(path), NEWROOT "%s", scratch[i]);
		if (mount("tmpfs", path, "tmpfs", 0, "mode=1777"))
			fatal(path);
	}
	for (i = 0; i < conf.nr_keep; i++) {
		snprintf(path, sizeof(path), NEWROOT "%s", conf.keep[i]);
		snprintf(fd_path, sizeof(fd_path), "/proc/self/fd/%d", fds[i]);
		mkdirs(path);	/* -EROFS or -EEXIST where nothing hides it */
		if (mount(fd_path, path, NULL, MS_BIND, NULL))
			fatal(path);
		close(fds[i]);
	}
}

static void mount_kernel_fs(void)
{
	must_mount("proc", "/proc", NULL);
	must_mount("sysfs", "/sys", NULL);
	must_mount("devtmpfs", "/dev", NULL);
	must_mount("devpts", "/dev/pts", NULL);
	must_mount("tmpfs", "/dev/shm", "mode=1777");
	may_mount("mqueue", "/dev/mqueue");
	may_mount("hugetlbfs", "/dev/hugepages");
	may_mount("debugfs", "/sys/kernel/debug");
	may_mount("tracefs", "/sys/kernel/tracing");
	may_mount("configfs", "/sys/kernel/config");
	may_mount("bpf", "/sys/fs/bpf");
	may_mount("cgroup2", "/sys/fs/cgroup");
	symlink("/proc/self/fd", "/dev/fd");
	symlink("/proc/self/fd/0", "/dev/stdin");
	symlink("/proc/self/fd/1", "/dev/stdout");
	symlink("/proc/self/fd/2", "/dev/stderr");
}

static void write_cmd(const char *cmd)
{
	int fd;

	mkdir("/run/pinless", 0755);
	mkdir("/tmp/home", 0755);
	fd = open("/run/pinless/cmd", O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || write(fd, cmd, strlen(cmd)) != (ssize_t)strlen(cmd))
		fatal("/run/pinless/cmd");
	close(fd);
}

void mount_root(void)
{
	static const char opts[] = "trans=virtio,version=9p2000.L,msize=512000,cache=loose";
	static const char share[] = "trans=virtio,version=9p2000.L,msize=512000,cache=none";
	char *cmd = slurp("/cmd");

	mkdir(NEWROOT, 0755);
	if (mount("hostroot", NEWROOT, "9p", MS_RDONLY, opts))
		fatal("host root over 9p");
	mount_scratch();
	if (chdir(NEWROOT) || mount(".", "/", NULL, MS_MOVE, NULL) || chroot("."))
		fatal("moving into the host root");
	mount_kernel_fs();
	if (conf.share) {
		mkdir("/mnt/share", 0755);
		if (mount("share", "/mnt/share", "9p", 0, share))
			fatal("/mnt/share");
	}
	write_cmd(cmd);
}
