/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Registration of a list notifier on an armed mm (mm/mmu_notifier_register.c),
 * while two ranges start and end, each on a shard of its own. Then the notifier
 * maps the page as KVM does: it has a sequence, and it counts active ranges.
 *
 * Properties: the end callback is called for a range if, and only if, the start
 * callback was called. When the page table changes, the old page is not mapped,
 * even if the range does not call the notifier.
 *
 *	LOCK..UNLOCK	__mmu_notifier_invalidate_range_start(): records the
 *			epoch and collects the notifiers to call
 *	START		mmu_range_call_list(): the callback, under the driver's
 *			lock, which is not a step of its own
 *	P		the change
 *	HEAD2		__mmu_notifier_invalidate_range_end(): the check of the
 *			list without a lock
 *	ULOCK..UUNLOCK	mmu_active_unlink_locked(), in mmu_range_end_list() or
 *			mmu_range_unlink()
 *	END		mmu_range_end_list(): the callback. The code collects
 *			the notifiers between ULOCK and UUNLOCK. Here END reads
 *			the list later, when it may have more of them
 *
 *	RLOCK..RUNLOCK	mmu_notifier_register_armed(), under all shard locks
 *	NOTE AWAIT	mmu_active_wait_all(), for each shard
 *
 * "listed" is the list of ranges of a shard as seen under its lock. "first" is
 * the head of the same list as seen without the lock.
 */
#include "order.h"

bool shard_locked[2], listed[2];
byte first[2];
bool added;
byte epoch;			/* 1 after the registration */
byte page;
byte mapped = NONE, in_progress, seq;	/* the driver's */

#define LOCK	1
#define LINK	2
#define NOTEEPOCH	4
#define HEAD1	8
#define UNLOCK	16
#define START	32
#define P	64
#define HEAD2	128
#define END	256
#define ULOCK	512
#define UNLINK	1024
#define UUNLOCK	2048
#define ALL	4095

#ifdef MUT_EPOCH_BEFORE_LOCK
#define NOTEEPOCH_NEEDS	0
#define LOCK_NEEDS	NOTEEPOCH
#else
#define NOTEEPOCH_NEEDS	LOCK
#define LOCK_NEEDS	0
#endif
#ifdef MUT_START_FOR_ALL
#define CALLS_START	true
#else
#define CALLS_START	(mine == 1)
#endif
#ifdef MUT_END_FOR_ALL
#define CALLS_END	true
#else
#define CALLS_END	(mine == 1)
#endif
#ifdef MUT_END_BEFORE_UNLINK
#define END_NEEDS	0
#define UNLINK_ORDERS	END
#else
#define END_NEEDS	UUNLOCK
#define UNLINK_ORDERS	0
#endif

proctype invalidation(byte me)
{
	int done = 0;
	byte mine;
	bool head, started;

	do
	STEP(LOCK, LOCK_NEEDS, !shard_locked[me], shard_locked[me] = true)
	STEP(LINK, LOCK, true, listed[me] = true; first[me] = 1)
	STEP(NOTEEPOCH, NOTEEPOCH_NEEDS, true, mine = epoch)
	STEP(HEAD1, LOCK, true, head = added)
	STEP(UNLOCK, LINK | NOTEEPOCH | HEAD1, true, shard_locked[me] = false)
	/* The driver's lock orders the callback before P (RCtso). */
	STEP(START, HEAD1 | NOTEEPOCH | UNLOCK, true,
	     if
	     :: head && CALLS_START ->
		started = true; in_progress++; mapped = NONE
	     :: else
	     fi)
	STEP(P, START, true, assert(mapped != page); page++)
	STEP(HEAD2, HEAD1 | START, true, head = added)
	STEP(END, P | HEAD2 | END_NEEDS, !head || !shard_locked[me],
	     if
	     :: head && added && CALLS_END ->
		assert(started); started = false; in_progress--; seq++
	     :: else
	     fi;
	     assert(!started))
	STEP(ULOCK, P | UNLINK_ORDERS, !shard_locked[me], shard_locked[me] = true)
	STEP(UNLINK, ULOCK, true, listed[me] = false; first[me] = 0)
	STEP(UUNLOCK, UNLINK | P, true, shard_locked[me] = false)
	:: done == ALL -> break
	od
}

#define RLOCK		1
#define ADD		2
#define NEW		4
#define NOTE(_i)	(8 << (_i))
#define AWAIT(_i)	(32 << (_i))
#define SEQ		128
#define READ		256
#define MAP		512
#define RUNLOCK		1024
#define WAITED		(NOTE(0) | NOTE(1) | AWAIT(0) | AWAIT(1))

#ifdef MUT_ADD_ONE_SHARD
#define ALL_LOCKED	shard_locked[0]
#define LOCK_ALL(_v)	shard_locked[0] = _v
#else
#define ALL_LOCKED	(shard_locked[0] || shard_locked[1])
#define LOCK_ALL(_v)	shard_locked[0] = _v; shard_locked[1] = _v
#endif
#ifdef MUT_NO_WAIT
#define ACTIVE(_i)	false
#define CAN_NOTE(_i)	true
#define NOTE_NEEDS	0
#define GONE(_i)	true
#elif defined(MUT_WAIT_LOCKLESS)
/* Without shard locks, as in read_begin, but after RLOCK. */
#define ACTIVE(_i)	(first[_i] != 0)
#define CAN_NOTE(_i)	true
#define NOTE_NEEDS	RLOCK
#define GONE(_i)	(!listed[_i])
#else
#define ACTIVE(_i)	listed[_i]
#define CAN_NOTE(_i)	(!shard_locked[_i])
/* The shard locks are taken again, after RUNLOCK. */
#define NOTE_NEEDS	RUNLOCK
#define GONE(_i)	(!listed[_i] && !shard_locked[_i])
#endif
#ifdef MUT_WAIT_BEFORE_EPOCH
#undef NOTE_NEEDS
#define NOTE_NEEDS	0
#define RLOCK_NEEDS	WAITED
#else
#define RLOCK_NEEDS	0
#endif

#define AWAIT_IF(_i)	if :: ACTIVE(_i) :: else -> done = done | AWAIT(_i) fi

proctype registration()
{
	int done = 0;
	byte s, val;
	bool again;

	do
	STEP(RLOCK, RLOCK_NEEDS, !ALL_LOCKED, LOCK_ALL(true))
	STEP(ADD, RLOCK, true, added = true)
	STEP(NEW, RLOCK, true, epoch = 1)
	STEP(RUNLOCK, RLOCK | ADD | NEW, true, LOCK_ALL(false))
	STEP(NOTE(0), NOTE_NEEDS, CAN_NOTE(0), AWAIT_IF(0))
	STEP(AWAIT(0), NOTE(0), GONE(0), skip)
	STEP(NOTE(1), NOTE_NEEDS, CAN_NOTE(1), AWAIT_IF(1))
	STEP(AWAIT(1), NOTE(1), GONE(1), skip)
	STEP(SEQ, WAITED, true, s = seq)
	STEP(READ, WAITED | SEQ, true, val = page)
	STEP(MAP, RUNLOCK | READ, true,
	     again = in_progress || s != seq;
	     if :: !again -> assert(val == page); mapped = val :: else fi)
	:: d_step { (done & MAP) && again && !in_progress -> done = done & ~(SEQ | READ | MAP) }
	:: (done & MAP) && !again -> break
	od
}

init {
	atomic {
		run invalidation(0);
		run invalidation(1);
		run registration()
	}
}
