/* SPDX-License-Identifier: GPL-2.0 */
/*
 * /dev/mmu_notifier_torture: random MMU notifier subscribers on the opener's mm.
 *
 * For tests only: the interface is not part of the kernel's ABI, and changes
 * with the test. tools/testing/selftests/mm includes this file.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef _LIB_MMU_NOTIFIER_TORTURE_H
#define _LIB_MMU_NOTIFIER_TORTURE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* The counters. */
enum mmu_torture_counter {
	MMU_TORTURE_SESSIONS,		/* mms */
	MMU_TORTURE_EXITS,		/* release callbacks at exit */
	MMU_TORTURE_REGISTERS,
	MMU_TORTURE_REGISTERS_INSIDE,	/* while a range was open */
	MMU_TORTURE_UNREGISTERS,
	MMU_TORTURE_GETS,
	MMU_TORTURE_PUTS,
	MMU_TORTURE_PUTS_IN_CALLBACK,
	MMU_TORTURE_FREES,		/* free_notifier callbacks */
	MMU_TORTURE_SYNCHRONIZES,
	MMU_TORTURE_INSERTS,
	MMU_TORTURE_INSERTS_INSIDE,	/* while an unrelated range was open */
	MMU_TORTURE_REMOVES,
	MMU_TORTURE_REMOVES_INSIDE,	/* while an unrelated range was open */
	MMU_TORTURE_REMOVES_BUSY,	/* while a callback of it ran */
	MMU_TORTURE_STARTS,		/* start callbacks */
	MMU_TORTURE_ENDS,		/* end callbacks */
	MMU_TORTURE_INVALIDATES,	/* single-phase invalidate callbacks */
	MMU_TORTURE_POSTED,		/* posted invalidations */
	MMU_TORTURE_SLEEPS,		/* in callbacks */
	MMU_TORTURE_RANGES,		/* announced by the torture itself */
	MMU_TORTURE_RANGES_UNLOCKED,	/* without excluding registration */
	MMU_TORTURE_RANGES_CHECKED,	/* all its subscribers were called */
	MMU_TORTURE_NONBLOCK_REFUSED,	/* non-blockable ranges */
	MMU_TORTURE_NONBLOCK_ACCEPTED,
	MMU_TORTURE_FAULTS,		/* device faults that mapped a page */
	MMU_TORTURE_RETRIES,		/* device faults that collided */
	MMU_TORTURE_WAITS,		/* read_begin waited for a range */
	MMU_TORTURE_PASSES,		/* read_begin ignored a range */
	MMU_TORTURE_DROPS,		/* device mappings that were dropped */
	MMU_TORTURE_AUDITS,		/* checks for mappings at the end */
	MMU_TORTURE_VALIDATIONS,	/* comparisons with page tables */
	MMU_TORTURE_ARMS,		/* mmu_notifier_arm() */
	MMU_TORTURE_DISARMS,		/* mms that were disarmed when idle */
	MMU_TORTURE_GONE,		/* the mm had no users any more */
	MMU_TORTURE_FAULT_FAILURES,	/* device faults without a mapping */
	MMU_TORTURE_NR_COUNTERS
};

/**
 * struct mmu_torture_start - parameters of a session
 * @start: first address of the arena, page aligned
 * @length: in bytes, at least 64 pages; notifiers and ranges are inside
 * @seed: seed of the random choices
 * @flags: MMU_TORTURE_QUIET
 */
struct mmu_torture_start {
	__u64 start;
	__u64 length;
	__u64 seed;
	__u64 flags;
};

/* Pause now and then, until the mm is disarmed. */
#define MMU_TORTURE_QUIET	1

/**
 * struct mmu_torture_stats - counts of all sessions since boot
 * @errors: broken rules
 * @never: bit mask of the counters that are always 0 with the core of this
 * kernel
 * @count: indexed by &enum mmu_torture_counter
 */
struct mmu_torture_stats {
	__u64 errors;
	__u64 never;
	__u64 count[MMU_TORTURE_NR_COUNTERS];
};

/* Start a session for the caller's mm. It ends when the file is closed. */
#define MMU_TORTURE_START	_IOW('n', 0x90, struct mmu_torture_start)
#define MMU_TORTURE_GET_STATS	_IOR('n', 0x91, struct mmu_torture_stats)

#endif /* _LIB_MMU_NOTIFIER_TORTURE_H */
