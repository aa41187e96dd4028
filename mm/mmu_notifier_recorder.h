/* SPDX-License-Identifier: GPL-2.0 */
/*
 * /dev/mmu_notifier_recorder: record the MMU notifier callbacks of an mm.
 *
 * For tests only: the interface is not part of the kernel's ABI, and changes
 * with the tests. tools/testing/selftests/mm includes this file.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef _MM_MMU_NOTIFIER_RECORDER_H
#define _MM_MMU_NOTIFIER_RECORDER_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define MMU_RECORDER_CALLERS	6
#define MMU_RECORDER_NAME_LEN	40

/* The callback of a record. */
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
#define MMU_RECORDER_UNSTARTED	0x100	/* end without start */
#define MMU_RECORDER_CHANGED	0x200	/* changed between start and end */
#define MMU_RECORDER_REOPENED	0x400	/* started twice */
#define MMU_RECORDER_FOREIGN	0x800	/* ended by another task */
#define MMU_RECORDER_UNTRACKED	0x1000	/* the table of open ranges is full */
#define MMU_RECORDER_ERRORS	0x1f00

/**
 * struct mmu_recorder_record - one callback
 * @seq: number of the record, from 1; a gap means that records were lost
 * @pair: START: @seq; END: @seq of the corresponding START, or 0
 * @start: first address
 * @end: first address past the range
 * @kind: &enum mmu_recorder_kind
 * @event: &enum mmu_notifier_event, for kinds that have a range
 * @flags: MMU_RECORDER_BLOCKABLE and the others above
 * @tid: the task that makes the change, in the pid namespace of the opener
 * @caller: START and INTERVAL: the function that announces the range, its
 * caller,
 *	and so on; unused entries are empty strings
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
 * struct mmu_recorder_stats - counts since the last MMU_RECORDER_CLEAR
 * @starts: accepted ranges
 * @ends: calls of the end callback for accepted ranges
 * @intervals: calls of the interval notifier
 * @releases: calls of release
 * @errors: records with an error flag
 * @lost: records that were dropped because the buffer was full
 * @open: ranges that are open now
 * @max_open: maximum number of open ranges of all threads
 * @carried: ranges that were open at MMU_RECORDER_CLEAR; counted in @ends, but
 *	not in @starts
 * @unread: records in the buffer
 *
 * The counts are consistent: without errors, @carried + @starts = @ends +
 * @open.
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
 * struct mmu_recorder_interval - the interval of the interval notifier
 * @start: first address
 * @length: in bytes; 0 removes the notifier
 */
struct mmu_recorder_interval {
	__u64 start;
	__u64 length;
};

/* For MMU_RECORDER_SET_MODE. */
#define MMU_RECORDER_REFUSE_NONBLOCK	0x1	/* non-blockable ranges */
#define MMU_RECORDER_RECORD_YOUNG	0x2	/* otherwise not recorded */
#define MMU_RECORDER_RECORD_TLB		0x4	/* otherwise not recorded */
#define MMU_RECORDER_MODES		0x7

/* Drop all records and counts; open ranges stay open. */
#define MMU_RECORDER_CLEAR		_IO('n', 0x80)
#define MMU_RECORDER_GET_STATS		_IOR('n', 0x81, struct mmu_recorder_stats)
#define MMU_RECORDER_SET_INTERVAL	_IOW('n', 0x82, struct mmu_recorder_interval)
#define MMU_RECORDER_SET_MODE		_IOW('n', 0x83, __u32)
/* Unsubscribe from the mm, and subscribe to that of this process. */
#define MMU_RECORDER_ATTACH		_IOW('n', 0x84, __s32)

#endif /* _MM_MMU_NOTIFIER_RECORDER_H */
