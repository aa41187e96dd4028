/* SPDX-License-Identifier: GPL-2.0 */
/*
 * /dev/mmu_notifier_recorder: what an mm's MMU notifiers were told.
 *
 * Test only: the interface changes with the tests that use it and is no part of
 * the kernel's ABI. Shared with tools/testing/selftests/mm by include path.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef _MM_MMU_NOTIFIER_RECORDER_H
#define _MM_MMU_NOTIFIER_RECORDER_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define MMU_RECORDER_CALLERS	6
#define MMU_RECORDER_NAME_LEN	40

/* What one record is about. */
enum mmu_recorder_kind {
	MMU_RECORDER_START = 1,		/* the list notifier, start */
	MMU_RECORDER_END,		/* the list notifier, end */
	MMU_RECORDER_INTERVAL,		/* the interval notifier */
	MMU_RECORDER_RELEASED,		/* the list notifier, release */
	MMU_RECORDER_YOUNG,		/* any of the three age callbacks */
	MMU_RECORDER_TLB,		/* arch_invalidate_secondary_tlbs */
};

/* In &struct mmu_recorder_record.flags. Those from 0x100 on are errors. */
#define MMU_RECORDER_BLOCKABLE	0x001
#define MMU_RECORDER_OWNER	0x002	/* the range has an owner */
#define MMU_RECORDER_REFUSED	0x004	/* MMU_RECORDER_REFUSE_NONBLOCK */
#define MMU_RECORDER_UNSTARTED	0x100	/* an end whose start was not heard */
#define MMU_RECORDER_CHANGED	0x200	/* the range is not what it was */
#define MMU_RECORDER_REOPENED	0x400	/* a second start of one range */
#define MMU_RECORDER_FOREIGN	0x800	/* ended by another task */
#define MMU_RECORDER_UNTRACKED	0x1000	/* more are open than can be followed */
#define MMU_RECORDER_ERRORS	0x1f00

/**
 * struct mmu_recorder_record - one callback
 * @seq: counts the records, from 1; a gap is a record that was lost
 * @pair: START: @seq itself; END: @seq of its START, or 0
 * @start: first address
 * @end: first address behind the range
 * @kind: &enum mmu_recorder_kind
 * @event: &enum mmu_notifier_event, where there is one
 * @flags: MMU_RECORDER_BLOCKABLE and so on
 * @tid: whose change it is, in the opener's pid namespace
 * @caller: START and INTERVAL: the function that announces, its caller, and so
 *	on; empty strings at the end
 */
struct mmu_recorder_record {
	__u64 seq;
	__u64 pair;
	__u64 start;
	__u64 end;
	__u32 kind;
	__u32 event;
	__u32 flags;
	__s32 tid;
	char caller[MMU_RECORDER_CALLERS][MMU_RECORDER_NAME_LEN];
};

/**
 * struct mmu_recorder_stats - since the last MMU_RECORDER_CLEAR
 * @starts: ranges that were accepted
 * @ends: ends of such ranges
 * @intervals: calls of the interval notifier
 * @releases: calls of release
 * @errors: records with an error flag
 * @lost: records that found the buffer full
 * @open: ranges that are open now
 * @max_open: most of them at a time, in all threads together
 * @carried: ranges that were open then: @starts lacks them, @ends counts them
 * @unread: records that wait to be read now
 *
 * One moment's: without errors, @carried + @starts = @ends + @open.
 */
struct mmu_recorder_stats {
	__u64 starts;
	__u64 ends;
	__u64 intervals;
	__u64 releases;
	__u64 errors;
	__u64 lost;
	__u32 open;
	__u32 max_open;
	__u32 carried;
	__u32 unread;
};

/**
 * struct mmu_recorder_interval - what the interval notifier covers
 * @start: first address
 * @length: in bytes; 0 for no interval notifier
 */
struct mmu_recorder_interval {
	__u64 start;
	__u64 length;
};

/* For MMU_RECORDER_SET_MODE. */
#define MMU_RECORDER_REFUSE_NONBLOCK	0x1	/* -EAGAIN where that is allowed */
#define MMU_RECORDER_RECORD_YOUNG	0x2	/* otherwise not recorded */
#define MMU_RECORDER_RECORD_TLB		0x4	/* otherwise not recorded */
#define MMU_RECORDER_MODES		0x7

/* Drop all records and the statistics; open ranges stay open. */
#define MMU_RECORDER_CLEAR		_IO('n', 0x80)
#define MMU_RECORDER_GET_STATS		_IOR('n', 0x81, struct mmu_recorder_stats)
#define MMU_RECORDER_SET_INTERVAL	_IOW('n', 0x82, struct mmu_recorder_interval)
#define MMU_RECORDER_SET_MODE		_IOW('n', 0x83, __u32)
/* Leave the mm, and record that of this process from now on. */
#define MMU_RECORDER_ATTACH		_IOW('n', 0x84, __s32)

#endif /* _MM_MMU_NOTIFIER_RECORDER_H */
