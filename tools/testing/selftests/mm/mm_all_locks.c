// SPDX-License-Identifier: GPL-2.0
/*
 * Subscribing to MMU notifiers takes all locks of an mm (mm_take_all_locks()).
 * If an allocation fails, subscribing must return ENOMEM, and must release all
 * locks: those of the mm, and those of files that other processes map. KUnit's
 * mm_all_locks tests signals.
 *
 * A new child makes each attempt, because a second subscription to an mm takes
 * no locks.
 *
 * Needs root, CONFIG_MMU_NOTIFIER_RECORDER and CONFIG_FAILSLAB.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kselftest_harness.h"

#define DEVICE		"/dev/mmu_notifier_recorder"
#define FAILSLAB	"/sys/kernel/debug/failslab/"
#define RW		(PROT_READ | PROT_WRITE)
#define NR_FILES	2
#define NR_PAGES	8
#define HUGE_LEN	(2UL << 20)

/* The result of an attempt, and the exit status of the child. */
enum outcome {
	SUBSCRIBED,
	SUBSCRIBED_WITHOUT_MEMORY,
	NO_MEMORY,
	WRONG,
	NR_OUTCOMES,
};

struct areas {
	long page;
	int files[NR_FILES];
	char *area;		/* pages of the files between anonymous ones */
	unsigned int nr[NR_OUTCOMES];
};

FIXTURE(locks)
{
	struct areas areas;
};

static int file_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY), len = strlen(text), ret;

	if (fd < 0)
		return -1;
	ret = write(fd, text, len) == len ? 0 : -1;
	close(fd);
	return ret;
}

static int map_page(struct areas *areas, char *addr, int file)
{
	return mmap(addr, areas->page, RW, MAP_SHARED | MAP_FIXED, areas->files[file], 0) !=
	       addr;
}

/* Files and anonymous memory alternate, so that no neighbours share a lock. */
static int map_area(struct areas *areas)
{
	int i, bad = 0;

	areas->area = mmap(NULL, NR_PAGES * areas->page, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (areas->area == MAP_FAILED)
		return -1;
	memset(areas->area, 1, NR_PAGES * areas->page);
	for (i = 1; i < NR_PAGES; i += 2)
		bad |= map_page(areas, areas->area + i * areas->page, i / 2 % NR_FILES);
	return bad;
}

/* Map hugetlb, if there is any. Not accessed, so no huge page is needed. */
static void map_hugetlb(void)
{
	int fd = memfd_create("locks", MFD_HUGETLB);

	if (fd < 0 || ftruncate(fd, HUGE_LEN))
		return;
	mmap(NULL, HUGE_LEN, RW, MAP_SHARED | MAP_NORESERVE, fd, 0);
	mmap(NULL, HUGE_LEN, RW, MAP_SHARED | MAP_NORESERVE, fd, 0);
	close(fd);
}

FIXTURE_SETUP(locks)
{
	struct areas *areas = &self->areas;
	int i;

	if (access(DEVICE, R_OK | W_OK))
		SKIP(return, "no " DEVICE ", or not root");
	areas->page = sysconf(_SC_PAGESIZE);
	for (i = 0; i < NR_FILES; i++) {
		areas->files[i] = memfd_create("locks", 0);
		ASSERT_LE(0, areas->files[i]);
		ASSERT_EQ(0, ftruncate(areas->files[i], areas->page));
	}
	ASSERT_EQ(0, map_area(areas));
	map_hugetlb();
}

FIXTURE_TEARDOWN(locks)
{
}

/* Use every kind of lock. Hangs if one was not released. */
static int use_locks(struct areas *areas)
{
	char *at;
	int i;

	for (i = 0; i < NR_FILES; i++) {
		at = mmap(NULL, areas->page, RW, MAP_SHARED, areas->files[i], 0);
		if (at == MAP_FAILED)
			return -1;
		*at = 1;
		munmap(at, areas->page);
	}
	/* Splitting a VMA takes the lock of its anon_vma root. */
	if (mprotect(areas->area + 2 * areas->page, areas->page, PROT_READ) ||
	    mprotect(areas->area + 2 * areas->page, areas->page, RW))
		return -1;
	areas->area[2 * areas->page] = 2;
	return 0;
}

static enum outcome subscribe(void)
{
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return SUBSCRIBED;
	return errno == ENOMEM ? NO_MEMORY : WRONG;
}

/* Subscribe while the nth allocation fails. */
static enum outcome try_fail_nth(unsigned int nth)
{
	int fd = open("/proc/thread-self/fail-nth", O_RDWR);
	enum outcome outcome;
	char text[16] = {};

	snprintf(text, sizeof(text), "%u", nth);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return WRONG;
	outcome = subscribe();
	/* The kernel counts down to zero. At zero the allocation has failed. */
	if (pread(fd, text, sizeof(text) - 1, 0) <= 0 || write(fd, "0", 1) != 1)
		return WRONG;
	if (outcome == SUBSCRIBED && !atoi(text))
		outcome = SUBSCRIBED_WITHOUT_MEMORY;
	return outcome;
}

/* Subscribe in a child. Afterwards parent and child use the locks. */
static enum outcome attempt(struct areas *areas, unsigned int nth)
{
	enum outcome outcome;
	int status;
	pid_t pid = fork();

	if (!pid) {
		outcome = try_fail_nth(nth);
		_exit(use_locks(areas) ? WRONG : outcome);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return WRONG;
	outcome = use_locks(areas) ? WRONG : WEXITSTATUS(status);
	areas->nr[outcome]++;
	return outcome;
}

/* If the list of locks cannot be allocated, subscribing succeeds without it. */
TEST_F_TIMEOUT(locks, want_of_memory_leaves_no_lock_behind, 120)
{
	struct areas *areas = &self->areas;
	enum outcome outcome;
	unsigned int nth;

	/* Do not print a stack for each failure: it looks like a kernel bug. */
	if (file_write(FAILSLAB "ignore-gfp-wait", "N") || file_write(FAILSLAB "verbose", "0"))
		SKIP(return, "no " FAILSLAB);
	for (nth = 1; nth < 200; nth++) {
		outcome = attempt(areas, nth);
		ASSERT_NE(WRONG, outcome);
		if (outcome == SUBSCRIBED)
			break;
	}
	EXPECT_EQ(0, file_write(FAILSLAB "ignore-gfp-wait", "Y"));
	EXPECT_EQ(0, file_write(FAILSLAB "verbose", "2"));
	TH_LOG("%u failed, %u succeeded without memory", areas->nr[NO_MEMORY],
	       areas->nr[SUBSCRIBED_WITHOUT_MEMORY]);
	EXPECT_EQ(1, areas->nr[SUBSCRIBED]);
	EXPECT_LT(0, areas->nr[NO_MEMORY]);
}

TEST_HARNESS_MAIN
