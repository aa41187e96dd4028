/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Collision and retry of interval notifiers (mm/mmu_interval_notifier.c). Two
 * invalidations run, each on a shard of its own. A driver inserts a notifier,
 * and faults until it has mapped the page.
 *
 * Properties: when the driver maps a page, it is the page in the page table
 * (M). When the page table changes, the old page is not mapped (P).
 *
 *	LOCK..UNLOCK	__mmu_notifier_invalidate_range_start(), mmu_range_hit()
 *	DLOCK..DUNLOCK	a driver's callback: mmu_interval_set_seq(), unmap
 *	P		the change, under the page-table lock
 *	ULOCK..UUNLOCK	mmu_range_unlink()
 *
 *	ILOCK..IUNLOCK	mmu_interval_insert_armed()
 *	S MB W K	mmu_interval_read_begin(): load the sequence, smp_mb(),
 *			mmu_active_none() for each shard, and mmu_active_wait()
 *			for a shard that has a range
 *	R		hmm_range_fault() or the like
 *	CLOCK..CUNLOCK	mmu_interval_read_retry() and the driver's mapping
 *
 * "listed" is the list of a shard as seen under its lock. "first" is the head
 * of the same list as seen without the lock. K waits until the range is no
 * longer listed. Each shard has only one range, so epochs are not needed. The
 * end of the walk is not a step: mmu_walk_leave_own() takes no lock, so it orders
 * nothing here.
 */
#include "order.h"

#define NR	2

bool shard_locked[NR], listed[NR];
byte first[NR];
bool inserted, driver_locked;
byte invalidate_seq, mapped = NONE, page;

#define LOCK	1
#define LINK	2
#define FIRST	4
#define HIT	8
#define UNLOCK	16
#define DLOCK	32
#define SEQ	64
#define DROP	128
#define DUNLOCK	256
#define P	512
#define ULOCK	1024
#define DEL	2048
#define EMPTY	4096
#define UUNLOCK	8192
#define LINKED		(LOCK | LINK | FIRST | HIT | UNLOCK)
#define CALLBACK	(DLOCK | SEQ | DROP | DUNLOCK)
#define ALL	16383

#ifdef MUT_SET_SEQ_PLAIN
#define SEQ_RELEASE	0
#else
#define SEQ_RELEASE	LINKED
#endif
#ifdef MUT_SET_SEQ_UNLOCKED
#define SEQ_LOCK	0
#define SEQ_IN_LOCK	0
#else
#define SEQ_LOCK	DLOCK
#define SEQ_IN_LOCK	SEQ
#endif
#ifdef MUT_UNLINK_BEFORE_CHANGE
#define P_NEEDS		(HIT | UUNLOCK)
#define EMPTY_RELEASE	0
#define UUNLOCK_RELEASE	0
#else
#define P_NEEDS		HIT
#define UUNLOCK_RELEASE	P
#ifdef MUT_FIRST_PLAIN
#define EMPTY_RELEASE	0
#else
#define EMPTY_RELEASE	P
#endif
#endif
#ifdef MUT_NO_SET_SEQ
#define SET_SEQ		skip
#elif defined(MUT_SEQ_NOT_UNIQUE)
#define SET_SEQ		invalidate_seq = 1
#else
#define SET_SEQ		invalidate_seq = me + 1
#endif
#ifdef MUT_NO_FIRST
#define SET_FIRST	skip
#else
#define SET_FIRST	first[me] = 1
#endif
#ifdef MUT_TREE_UNLOCKED
/* Looked up before the range is linked. */
#define HIT_NEEDS	0
#define LOCK_NEEDS	HIT
#else
#define HIT_NEEDS	LOCK
#define LOCK_NEEDS	0
#endif

proctype invalidation(byte me)
{
	int done = 0;

	do
	STEP(LOCK, LOCK_NEEDS, !shard_locked[me], shard_locked[me] = true)
	STEP(LINK, LOCK, true, listed[me] = true)
	STEP(FIRST, LOCK, true, SET_FIRST)
	/* Without a notifier there is no callback. */
	STEP(HIT, HIT_NEEDS, true, if :: inserted :: else -> done = done | CALLBACK fi)
	STEP(UNLOCK, LOCK | LINK | FIRST | HIT, true, shard_locked[me] = false)
	STEP(DLOCK, HIT | UNLOCK_LOCK(UNLOCK), !driver_locked, driver_locked = true)
	STEP(SEQ, HIT | SEQ_LOCK | SEQ_RELEASE, true, SET_SEQ)
	STEP(DROP, DLOCK, true, mapped = NONE)
	STEP(DUNLOCK, LINKED | DLOCK | SEQ_IN_LOCK | DROP, true, driver_locked = false)
	STEP(P, P_NEEDS | UNLOCK_LOCK(DUNLOCK), true, assert(mapped != page); page++)
	STEP(ULOCK, LINKED | UNLOCK_LOCK(P), !shard_locked[me], shard_locked[me] = true)
	STEP(DEL, ULOCK, true, listed[me] = false)
	STEP(EMPTY, ULOCK | EMPTY_RELEASE, true, first[me] = 0)
	STEP(UUNLOCK, LINKED | CALLBACK | ULOCK | DEL | EMPTY | UUNLOCK_RELEASE, true,
	     shard_locked[me] = false)
	:: done == ALL -> break
	od
}

#define ILOCK	1
#define INSERT	2
#define IUNLOCK	4
#define S	8
#define MB	16
#define W(_i)	(32 << (_i))
#define K(_i)	(128 << (_i))
#define R	512
#define CLOCK	1024
#define C	2048
#define M	4096
#define CUNLOCK	8192
#define WAITED	(W(0) | W(1) | K(0) | K(1))
#define INSERTED	(ILOCK | INSERT | IUNLOCK)

#ifdef MUT_NO_MB
#define MB_ORDERS	0
#else
#define MB_ORDERS	MB
#endif
#ifdef MUT_WAIT_BEFORE_SEQ
#define S_NEEDS		(ILOCK | WAITED)
#define MB_NEEDS	INSERTED
#else
#define S_NEEDS		(ILOCK | INSERT)
#define MB_NEEDS	(INSERTED | S)
#endif
#ifdef MUT_NO_ACQUIRE
#define R_NEEDS(_i)	0
#else
#define R_NEEDS(_i)	(W(_i) | K(_i))
#endif
#ifdef MUT_COMPARE_UNLOCKED
#define C_NEEDS		(S | R)
#define CLOCK_NEEDS	C
#else
#define C_NEEDS		CLOCK
#define CLOCK_NEEDS	0
#endif
#ifdef MUT_NO_WAIT
#define SEEN(_i)	false
#else
#define SEEN(_i)	(first[_i] != 0)
#endif

/* If there is a range to wait for, R has to be repeated after the wait. */
#define LOOK(_i)	if :: SEEN(_i) -> done = done & ~R :: else -> done = done | K(_i) fi

proctype fault()
{
	int done = 0;
	byte seq, val;
	bool same;

	do
	STEP(ILOCK, 0, !shard_locked[0] && !shard_locked[1],
	     shard_locked[0] = true; shard_locked[1] = true)
	STEP(INSERT, ILOCK, true, inserted = true)
	STEP(IUNLOCK, INSERT, true, shard_locked[0] = false; shard_locked[1] = false)
	STEP(S, S_NEEDS, true, seq = invalidate_seq)
	STEP(MB, MB_NEEDS, true, skip)
	STEP(W(0), ILOCK | MB_ORDERS, true, LOOK(0))
	STEP(K(0), W(0), !shard_locked[0] && !listed[0], skip)
	STEP(W(1), ILOCK | MB_ORDERS, true, LOOK(1))
	STEP(K(1), W(1), !shard_locked[1] && !listed[1], skip)
	STEP(R, ILOCK | MB_ORDERS | R_NEEDS(0) | R_NEEDS(1), true, val = page)
	STEP(CLOCK, INSERTED | WAITED | CLOCK_NEEDS, !driver_locked, driver_locked = true)
	STEP(C, S | C_NEEDS, true, same = (invalidate_seq == seq))
	STEP(M, CLOCK | C | R, true, if :: same -> assert(val == page); mapped = val :: else fi)
	STEP(CUNLOCK, INSERTED | S | MB | WAITED | R | CLOCK | C | M, true, driver_locked = false)
	:: d_step { (done & CUNLOCK) && !same -> done = INSERTED }
	:: (done & CUNLOCK) && same -> break
	od
}

init {
	atomic {
		/* Different from the values of all ranges, as on insertion. */
		invalidate_seq = NONE;
		run invalidation(0);
		run invalidation(1);
		run fault()
	}
}
