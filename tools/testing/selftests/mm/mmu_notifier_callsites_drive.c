// SPDX-License-Identifier: GPL-2.0
/*
 * Call sites of MMU notifiers: functions that reach them from user space.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <linux/mempolicy.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <lib/test_hmm_uapi.h>

#include "mmu_notifier_callsites.h"
#include "vm_util.h"

#ifndef __NR_process_mrelease
#define __NR_process_mrelease 448
#endif

#define KSM	"/sys/kernel/mm/ksm/"

size_t huge_size(void)
{
	return read_pmd_pagesize();
}

/*
 * Map a separate VMA. Its neighbours have other rights, so the kernel does not
 * merge them, and the range of the whole VMA is known.
 */
char *map_area(size_t len, size_t align, int prot, int flags, int fd)
{
	uintptr_t at;
	char *room;

	room = mmap(NULL, len + 3 * align, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return NULL;
	at = ((uintptr_t)room + 2 * align - 1) & ~(align - 1);
	room = mmap((void *)at, len, prot, flags | MAP_FIXED, fd, 0);
	return room == MAP_FAILED ? NULL : room;
}

char *map_anon(size_t nr_pages)
{
	char *addr = map_area(nr_pages * psize(), psize(), PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1);

	if (addr)
		fill_pages(addr, nr_pages * psize(), 1);
	return addr;
}

char *map_thp(void)
{
	char *addr = map_area(huge_size(), huge_size(), PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1);

	if (!addr || madvise(addr, huge_size(), MADV_HUGEPAGE))
		return NULL;
	fill_pages(addr, huge_size(), 1);
	return check_huge_anon(addr, 1, huge_size()) ? addr : NULL;
}

void fill_pages(char *addr, size_t len, int value)
{
	size_t at;

	for (at = 0; at < len; at += psize())
		__atomic_store_n(addr + at, value, __ATOMIC_RELAXED);
}

/* Create a child that exits at let_go(), and shares all pages until then. */
pid_t fork_waiting(int *go)
{
	int ends[2];
	pid_t pid;
	char c;

	if (pipe(ends))
		return -1;
	pid = fork();
	if (!pid) {
		close(ends[1]);
		_exit(read(ends[0], &c, 1) != 1);
	}
	close(ends[0]);
	*go = ends[1];
	return pid;
}

int let_go(pid_t pid, int go)
{
	int status;

	if (write(go, "", 1) != 1 || close(go) || waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

int userfault_open(__u64 features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int uffd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (uffd < 0)
		return -1;
	if (ioctl(uffd, UFFDIO_API, &api)) {
		close(uffd);
		return -1;
	}
	return uffd;
}

int userfault_register(int uffd, const void *addr, size_t len, __u64 mode)
{
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)addr, .len = len },
		.mode = mode,
	};

	return ioctl(uffd, UFFDIO_REGISTER, &reg);
}

int userfault_move(int uffd, const void *dst, const void *src, size_t len)
{
	struct uffdio_move move = {
		.dst = (uintptr_t)dst,
		.src = (uintptr_t)src,
		.len = len,
	};

	return ioctl(uffd, UFFDIO_MOVE, &move);
}

/* Write-protect the pages that were written, with PAGEMAP_SCAN. */
int pagemap_protect(const void *addr, size_t len)
{
	struct page_region regions[4];
	struct pm_scan_arg scan = {
		.size = sizeof(scan),
		.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = (uintptr_t)addr,
		.end = (uintptr_t)addr + len,
		.vec = (uintptr_t)regions,
		.vec_len = 4,
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_WRITTEN,
	};
	int ret, fd = open("/proc/self/pagemap", O_RDONLY);

	if (fd < 0)
		return -1;
	ret = ioctl(fd, PAGEMAP_SCAN, &scan);
	close(fd);
	return ret;
}

static int move_one_page(const void *addr, const int *node)
{
	int status = -1;

	if (syscall(__NR_move_pages, 0, 1UL, &addr, node, &status, MPOL_MF_MOVE))
		return -1;
	return status;
}

int node_of(const void *addr)
{
	return move_one_page(addr, NULL);
}

int move_to_node(const void *addr, int node)
{
	return move_one_page(addr, &node);
}

/* Create a block device. Writeback cleans its mapped pages. */
int loop_open(int backing)
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	char path[32];
	int nr, loop;

	if (control < 0)
		return -1;
	nr = ioctl(control, LOOP_CTL_GET_FREE);
	close(control);
	if (nr < 0)
		return -1;
	snprintf(path, sizeof(path), "/dev/loop%d", nr);
	loop = open(path, O_RDWR | O_CLOEXEC);
	if (loop >= 0 && ioctl(loop, LOOP_SET_FD, backing)) {
		close(loop);
		return -1;
	}
	return loop;
}

void loop_close(int loop)
{
	ioctl(loop, LOOP_CLR_FD);
	close(loop);
}

/* Set a uprobe at an offset of a file, for this process, until it is closed. */
int probe_file(int fd, size_t offset)
{
	struct perf_event_attr attr = { .size = sizeof(attr) };
	char path[40];
	long type = file_read_number("/sys/bus/event_source/devices/uprobe/type");

	if (type < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	attr.type = type;
	attr.uprobe_path = (uintptr_t)path;
	attr.probe_offset = offset;
	return syscall(__NR_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

int dmirror_do(int fd, unsigned long request, const void *addr, size_t nr_pages)
{
	static char mirror[16 * 4096];
	struct hmm_dmirror_cmd cmd = {
		.addr = (uintptr_t)addr,
		.ptr = (uintptr_t)mirror,
		.npages = nr_pages,
	};

	if (nr_pages * psize() > sizeof(mirror)) {
		errno = E2BIG;
		return -1;
	}
	if (ioctl(fd, request, &cmd))
		return -1;
	return cmd.cpages;
}

int file_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t done;

	if (fd < 0)
		return -1;
	done = write(fd, text, strlen(text));
	close(fd);
	return done == (ssize_t)strlen(text) ? 0 : -1;
}

long file_read_number(const char *path)
{
	FILE *file = fopen(path, "re");
	long number = -1;

	if (!file)
		return -1;
	if (fscanf(file, "%ld", &number) != 1)
		number = -1;
	fclose(file);
	return number;
}

/* Run ksmd until it has merged pages of the range. */
int ksm_merge(char *addr, size_t len)
{
	/* The global counts include processes that have exited. */
	const char *merging = "/proc/self/ksm_merging_pages";
	int i;

	if (file_write(KSM "pages_to_scan", "1000") ||
	    file_write(KSM "sleep_millisecs", "10") ||
	    madvise(addr, len, MADV_MERGEABLE) ||
	    file_write(KSM "run", "1"))
		return -1;
	for (i = 0; i < 3000; i++) {
		if (file_read_number(merging) >= 2)
			break;
		usleep(10000);
	}
	return file_write(KSM "run", "0") ?: i == 3000;
}

/* Clear the accessed state of one page, through /sys/kernel/mm/page_idle. */
int mark_idle(const void *addr)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	int bitmap = open("/sys/kernel/mm/page_idle/bitmap", O_WRONLY | O_CLOEXEC);
	__u64 pfn, word;
	ssize_t done = -1;

	if (pagemap >= 0 && bitmap >= 0) {
		pfn = pagemap_get_pfn(pagemap, (char *)addr);
		word = 1ULL << (pfn % 64);
		done = pwrite(bitmap, &word, sizeof(word), pfn / 64 * sizeof(word));
	}
	close(pagemap);
	close(bitmap);
	return done == sizeof(word) ? 0 : -1;
}

/* Kill a child, and stop it when it exits but still has its memory. */
int stop_at_exit(pid_t pid)
{
	int status;

	if (ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACEEXIT) || kill(pid, SIGKILL))
		return -1;
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		return -1;
	return status >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8) ? 0 : -1;
}

int mrelease(pid_t pid)
{
	int pidfd = syscall(__NR_pidfd_open, pid, 0);
	int ret, saved;

	if (pidfd < 0)
		return -1;
	ret = syscall(__NR_process_mrelease, pidfd, 0);
	saved = errno;
	close(pidfd);
	errno = saved;
	return ret;
}
