/* SPDX-License-Identifier: GPL-2.0 */
/*
 * /dev/mmu_notifier_torture: random MMU notifier subscribers on the opener's mm.
 *
 * Test only: the interface changes with the test that uses it and is no part of
 * the kernel's ABI. Shared with tools/testing/selftests/mm by include path.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef _LIB_MMU_NOTIFIER_TORTURE_H
#define _LIB_MMU_NOTIFIER_TORTURE_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* What is counted. */
enum mmu_torture_counter {
	MMU_TORTURE_SESSIONS,		/* mms that were tortured */
	MMU_TORTURE_EXITS,		/* release, called by an exit */
	MMU_TORTURE_REGISTERS,
	MMU_TORTURE_REGISTERS_INSIDE,	/* came while a range was open */
	MMU_TORTURE_UNREGISTERS,
	MMU_TORTURE_GETS,
	MMU_TORTURE_PUTS,
	MMU_TORTURE_PUTS_IN_CALLBACK,
	MMU_TORTURE_FREES,		/* free_notifier */
	MMU_TORTURE_SYNCHRONIZES,
	MMU_TORTURE_INSERTS,
	MMU_TORTURE_INSERTS_INSIDE,	/* while an unrelated range was open */
	MMU_TORTURE_REMOVES,
	MMU_TORTURE_REMOVES_INSIDE,	/* while an unrelated range was open */
	MMU_TORTURE_REMOVES_BUSY,	/* while a callback ran on it */
	MMU_TORTURE_STARTS,		/* list callbacks */
	MMU_TORTURE_ENDS,
	MMU_TORTURE_INVALIDATES,	/* interval callbacks of one phase */
	MMU_TORTURE_POSTED,		/* and of two */
	MMU_TORTURE_SLEEPS,		/* in callbacks */
	MMU_TORTURE_RANGES,		/* made by the torture itself */
	MMU_TORTURE_RANGES_UNLOCKED,	/* while registration was possible */
	MMU_TORTURE_RANGES_CHECKED,	/* with all who had to hear it */
	MMU_TORTURE_NONBLOCK_REFUSED,	/* such ranges, not blockable */
	MMU_TORTURE_NONBLOCK_ACCEPTED,
	MMU_TORTURE_FAULTS,		/* device faults that mapped a page */
	MMU_TORTURE_RETRIES,		/* that collided */
	MMU_TORTURE_WAITS,		/* read_begin outlived an open range */
	MMU_TORTURE_PASSES,		/* read_begin did not, rightly */
	MMU_TORTURE_DROPS,		/* device mappings that callbacks took */
	MMU_TORTURE_AUDITS,		/* device mappings looked for at an end */
	MMU_TORTURE_VALIDATIONS,	/* of device mappings by page tables */
	MMU_TORTURE_ARMS,		/* mmu_notifier_arm() */
	MMU_TORTURE_DISARMS,		/* an mm seen disarmed after quiet */
	MMU_TORTURE_GONE,		/* subscribing came too late */
	MMU_TORTURE_FAULT_FAILURES,	/* nothing mapped there, or no right */
	MMU_TORTURE_NR_COUNTERS
};

/**
 * struct mmu_torture_start - where and how
 * @start: first address of the arena, page aligned
 * @length: in bytes, at least 64 pages; notifiers and ranges are inside
 * @seed: of the random choices
 * @flags: MMU_TORTURE_QUIET
 */
struct mmu_torture_start {
	__u64 start;
	__u64 length;
	__u64 seed;
	__u64 flags;
};

/* Leave the mm alone now and then, so long that it is disarmed. */
#define MMU_TORTURE_QUIET	1

/**
 * struct mmu_torture_stats - of all sessions since boot
 * @errors: contracts that were broken
 * @never: bit mask of the counters that this kernel's core cannot count
 * @count: by &enum mmu_torture_counter
 */
struct mmu_torture_stats {
	__u64 errors;
	__u64 never;
	__u64 count[MMU_TORTURE_NR_COUNTERS];
};

/* Torture the caller's mm until the file is closed; once for each open file. */
#define MMU_TORTURE_START	_IOW('n', 0x90, struct mmu_torture_start)
#define MMU_TORTURE_GET_STATS	_IOR('n', 0x91, struct mmu_torture_stats)

#endif /* _LIB_MMU_NOTIFIER_TORTURE_H */
