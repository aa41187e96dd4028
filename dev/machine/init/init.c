// SPDX-License-Identifier: GPL-2.0
/*
 * PID 1 of the test guest.
 *
 * The initramfs holds this program, /conf and /cmd.  It mounts the host's root
 * read-only over 9p, lays tmpfs over the few places one must write to, moves
 * into it, runs the guest script there on the virtio console and, when that
 * ended, reports.  Three channels that cannot be mistaken for each other:
 *
 *   ttyS0  the kernel's console and nothing else: the host judges splats by it
 *   ttyS1  the verdict: "exit <nonce> <status> <taint> end", once, at the end
 *   hvc0   the command's terminal
 *
 * A panic, a hang or a PID 1 that died never writes the verdict line, so none
 * of them can pass.
 */
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <termios.h>
#include <unistd.h>

#include "init.h"

struct conf conf;
static int verdict_fd = -1;

static void power_off(void)
{
	sync();
	if (verdict_fd >= 0)
		tcdrain(verdict_fd);
	reboot(RB_POWER_OFF);
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

void fatal(const char *what)
{
	if (verdict_fd < 0)
		verdict_fd = open("/dev/ttyS1", O_RDWR | O_NOCTTY);
	dprintf(verdict_fd, "init: %s: %s\n", what, strerror(errno));
	power_off();
}

static void raw(int fd)
{
	struct termios tio;

	if (tcgetattr(fd, &tio))
		return;
	cfmakeraw(&tio);
	tcsetattr(fd, TCSANOW, &tio);
}

static pid_t start(void)
{
	char *argv[] = { "/bin/bash", conf.guest, NULL };
	pid_t pid = fork();
	int fd;

	if (pid)
		return pid;
	setsid();
	fd = open("/dev/hvc0", O_RDWR);
	if (fd < 0)
		_exit(120);
	ioctl(fd, TIOCSCTTY, 1);
	if (!conf.interactive) {
		raw(fd);
		dup2(open("/dev/null", O_RDONLY), 0);
	} else {
		dup2(fd, 0);
	}
	dup2(fd, 1);
	dup2(fd, 2);
	if (fd > 2)
		close(fd);
	if (chdir(conf.cwd))
		_exit(121);
	execve(argv[0], argv, conf.env);
	_exit(122);
}

static int wait_for(pid_t pid)
{
	int status;
	pid_t got;

	while ((got = wait(&status)) != pid)
		if (got < 0 && errno != EINTR)
			return 123;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Whatever the command left behind; what it holds would hide a leak. */
static void end_all_others(void)
{
	kill(-1, SIGKILL);
	while (wait(NULL) > 0 || errno == EINTR)
		;
}

static void read_taint(char *buf, size_t len)
{
	int fd = open("/proc/sys/kernel/tainted", O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, len - 1);

	buf[n > 0 ? n : 0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
}

int main(void)
{
	char taint[32];
	int status;

	mount_early();
	read_conf();
	mount_root();
	verdict_fd = open("/dev/ttyS1", O_RDWR | O_NOCTTY | O_CLOEXEC);
	raw(verdict_fd);
	dprintf(verdict_fd, "start %s\n", conf.nonce);

	status = wait_for(start());
	end_all_others();
	if (conf.kmemleak)
		scan_for_leaks();
	read_taint(taint, sizeof(taint));
	dprintf(verdict_fd, "exit %s %d %s end\n", conf.nonce, status,
		*taint ? taint : "unknown");
	power_off();
}
