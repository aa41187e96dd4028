// SPDX-License-Identifier: GPL-2.0
/*
 * MMU notifiers at exit and exec, age callbacks, and the recorder itself.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "mmu_notifier_callsites.h"
#include "vm_util.h"

FIXTURE(recorder)
{
	struct recording rec;
};

FIXTURE_SETUP(recorder)
{
	if (access("/dev/mmu_notifier_recorder", R_OK | W_OK))
		SKIP(return, "no /dev/mmu_notifier_recorder, or not root");
	ASSERT_EQ(0, recording_open(&self->rec));
}

FIXTURE_TEARDOWN(recorder)
{
	recording_close(&self->rec);
}

/*
 * Release precedes the unmap of everything, for which only intervals are
 * called.
 */
static void check_exit(struct __test_metadata *_metadata, struct recording *rec)
{
	const struct mmu_recorder_record *list, *interval, *unmap;

	ASSERT_EQ(0, recording_stop(rec));
	list = recording_find(rec, MMU_RECORDER_RELEASED, 0, NULL);
	interval = recording_find(rec, MMU_RECORDER_INTERVAL, RELEASE, NULL);
	unmap = recording_find(rec, MMU_RECORDER_INTERVAL, UNMAP, "unmap_vmas");
	if (!list || !interval || !unmap || !recording_balanced(rec))
		recording_print(rec);
	ASSERT_TRUE(recording_balanced(rec));
	ASSERT_EQ(1, rec->stats.releases);
	ASSERT_NE(NULL, list);
	ASSERT_NE(NULL, interval);
	ASSERT_NE(NULL, unmap);
	EXPECT_EQ(-1ULL, interval->end);
	EXPECT_EQ(-1ULL, unmap->end);
	EXPECT_LT(list->seq, unmap->seq);
	EXPECT_LT(interval->seq, unmap->seq);
	EXPECT_EQ(NULL, recording_find(rec, MMU_RECORDER_START, UNMAP, "unmap_vmas"));
}

TEST_F(recorder, exit_releases_once_and_then_unmaps)
{
	char *addr = map_anon(4);
	pid_t pid;
	int go;

	ASSERT_NE(NULL, addr);
	pid = fork_waiting(&go);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, recording_attach(&self->rec, pid));
	WATCH(addr, 4 * PAGE);
	ASSERT_EQ(0, let_go(pid, go));
	check_exit(_metadata, &self->rec);
}

TEST_F(recorder, exec_releases_once_and_then_unmaps)
{
	char *addr = map_anon(4);
	int ends[2], status;
	pid_t pid;
	char c;

	ASSERT_NE(NULL, addr);
	ASSERT_EQ(0, pipe(ends));
	pid = fork();
	if (!pid) {
		if (read(ends[0], &c, 1) == 1)
			execl("/bin/true", "true", NULL);
		_exit(1);
	}
	ASSERT_EQ(0, recording_attach(&self->rec, pid));
	WATCH(addr, 4 * PAGE);
	ASSERT_EQ(1, write(ends[1], "", 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	check_exit(_metadata, &self->rec);
}

TEST_F(recorder, aging_asks_the_list_notifier)
{
	char *addr = map_anon(4);

	ASSERT_NE(NULL, addr);
	if (access("/sys/kernel/mm/page_idle/bitmap", W_OK))
		SKIP(return, "no idle page tracking");
	ASSERT_EQ(0, recording_set_mode(&self->rec, MMU_RECORDER_RECORD_YOUNG));
	/* Drains the LRU batches: idle tracking skips pages that are in one. */
	ASSERT_LE(0, move_to_node(addr, node_of(addr)));
	WATCH(addr, 4 * PAGE);
	ASSERT_EQ(0, mark_idle(addr + PAGE));
	STOP();
	EXPECT_EQ(1, recording_count(&self->rec, MMU_RECORDER_YOUNG));
}

TEST_F(recorder, nonsense_is_refused_and_does_no_harm)
{
	struct mmu_recorder_interval wraps = { .start = -4096ULL, .length = 8192 };
	struct mmu_recorder_record record;
	char *nowhere = map_area(PAGE, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	__s32 nobody = 0x7fffffff;
	__u32 mode = ~0;
	int fd = self->rec.fd;

	EXPECT_EQ(-1, ioctl(fd, _IO('n', 0xff)));
	EXPECT_EQ(ENOTTY, errno);
	EXPECT_EQ(-1, ioctl(fd, MMU_RECORDER_SET_MODE, &mode));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, ioctl(fd, MMU_RECORDER_SET_INTERVAL, &wraps));
	EXPECT_EQ(EOVERFLOW, errno);
	EXPECT_EQ(-1, ioctl(fd, MMU_RECORDER_GET_STATS, NULL));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, ioctl(fd, MMU_RECORDER_ATTACH, &nobody));
	EXPECT_EQ(ESRCH, errno);
	EXPECT_EQ(-1, read(fd, &record, sizeof(record) - 1));
	EXPECT_EQ(EINVAL, errno);
	/* Still attached. The record that was not copied is not lost. */
	ASSERT_EQ(0, ioctl(fd, MMU_RECORDER_CLEAR));
	ASSERT_EQ(0, munmap(map_anon(1), PAGE));
	EXPECT_EQ(-1, read(fd, nowhere, sizeof(record)));
	EXPECT_EQ(EFAULT, errno);
	STOP();
	EXPECT_NE(NULL, recording_find(&self->rec, MMU_RECORDER_START, UNMAP,
				       "unmap_vmas"));
}

TEST_F(recorder, a_process_may_exit_with_its_recorder_open)
{
	char *addr = map_anon(4);
	struct recording own;
	int status;
	pid_t pid;

	ASSERT_NE(NULL, addr);
	pid = fork();
	if (!pid) {
		if (recording_open(&own) || recording_watch(&own, addr, 4 * PAGE) ||
		    munmap(addr, PAGE) || recording_stop(&own) ||
		    !callsite_claim(&own, "unmap_vmas", addr, PAGE))
			_exit(1);
		_exit(0);
	}
	ASSERT_LT(0, pid);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

/*
 * Create a child that changes its mappings until it is killed, or the test
 * exits.
 */
static pid_t fork_storm(char *addr, size_t len)
{
	pid_t parent = getpid(), pid = fork();

	if (pid)
		return pid;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
		_exit(1);
	for (;;) {
		mprotect(addr, len, PROT_READ);
		mprotect(addr, len, PROT_READ | PROT_WRITE);
		fill_pages(addr, len, 3);
	}
}

/*
 * If the test is not scheduled for a while, the buffer overflows. Records are
 * lost then, but the counts are complete, and still show whether ranges are
 * paired.
 */
static void check_storm(struct __test_metadata *_metadata, struct recording *rec)
{
	bool good;

	ASSERT_EQ(0, recording_stop(rec));
	good = rec->stats.lost ? recording_paired(rec) : recording_balanced(rec);
	if (!good)
		recording_print(rec);
	ASSERT_TRUE(good);
}

TEST_F_TIMEOUT(recorder, subscribers_that_come_and_go_in_a_storm_stay_balanced, 120)
{
	char *addr = map_anon(64);
	struct recording other;
	pid_t pid;
	int i;

	ASSERT_NE(NULL, addr);
	pid = fork_storm(addr, 64 * PAGE);
	ASSERT_LT(0, pid);
	for (i = 0; i < 50; i++) {
		ASSERT_EQ(0, recording_open(&other));
		ASSERT_EQ(0, recording_attach(&other, pid));
		ASSERT_EQ(0, recording_watch(&other, addr, 64 * PAGE));
		check_storm(_metadata, &other);
		/* Keep the last one until the process has exited. */
		if (i < 49)
			recording_close(&other);
	}
	EXPECT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(pid, waitpid(pid, NULL, 0));
	check_storm(_metadata, &other);
	EXPECT_EQ(1, other.stats.releases);
	recording_close(&other);
}

/* The recording then has the end of the range, but not its start. */
TEST_F_TIMEOUT(recorder, regress_recording_begins_in_the_middle_of_a_range, 120)
{
	char *addr = map_anon(64);
	struct recording *rec = &self->rec;
	pid_t pid;
	int i;

	ASSERT_NE(NULL, addr);
	pid = fork_storm(addr, 64 * PAGE);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, recording_attach(rec, pid));
	for (i = 0; i < 1000 && !rec->stats.carried; i++) {
		WATCH(addr, 64 * PAGE);
		check_storm(_metadata, rec);
	}
	EXPECT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(pid, waitpid(pid, NULL, 0));
	if (!rec->stats.carried)
		SKIP(return, "none of 1000 recordings began in a range");
	check_storm(_metadata, rec);
	EXPECT_LT(rec->stats.starts, rec->stats.ends);
}

TEST_HARNESS_MAIN
