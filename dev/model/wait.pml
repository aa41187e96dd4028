/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A waiter in a storm (mm/mmu_notifier_active.c): two tasks start and end
 * overlapping ranges of one shard for ever, so that at any moment one may be
 * active, and one task waits for those that were active when it came.
 *
 * To be shown: the wait ends, and not before those ranges have.
 *
 *	storm		mmu_active_link_locked(), mmu_range_unlink()
 *	waiter		mmu_shard_draw(), mmu_shard_waits() in wait_event()
 *
 * The epoch of a range is compared with one that the waiter has recorded; the model
 * keeps the result of that comparison, "older", instead of counters that would grow
 * without end. The lock is fair, as the kernel's are.
 */
chan lock = [3] of { pid };	/* who has it, and who waits, in order */
bool listed[2], awaited[2], older[2];
bool awake, over;

#ifdef MUT_NO_EPOCH
#define BEFORE_EPOCH(_i)	true
#else
#define BEFORE_EPOCH(_i)	older[_i]
#endif
#ifdef MUT_NO_MARK
#define MARK(_i)	skip
#else
#define MARK(_i)	awaited[_i] = true
#endif

#define LOCK	lock!_pid; lock?[eval(_pid)]
#define UNLOCK	lock?eval(_pid)

proctype storm(byte me)
{
	bool wake;

	do
	:: LOCK;
	   d_step { listed[me] = true; awaited[me] = false; older[me] = false };
	   UNLOCK;
	   LOCK;
#ifdef MUT_MARK_READ_EARLY
	   wake = awaited[me];
	   UNLOCK;
	   LOCK;
	   d_step { listed[me] = false; older[me] = false };
#else
	   d_step { listed[me] = false; older[me] = false; wake = awaited[me] };
#endif
	   UNLOCK;
	   if
#ifndef MUT_NO_WAKE
	   :: wake -> awake = true
#endif
	   :: else
	   fi;
	   wake = false
	od
}

#define BUSY_ONE(_i)							\
	if								\
	:: listed[_i] && BEFORE_EPOCH(_i) -> MARK(_i); busy = true	\
	:: else								\
	fi

inline look()
{
	LOCK;
	busy = false;
	BUSY_ONE(0);
	BUSY_ONE(1);
	UNLOCK
}

proctype waiter()
{
	bool busy;

	LOCK;
	d_step { older[0] = listed[0]; older[1] = listed[1] };
	UNLOCK;
	look();
	do
	:: !busy -> break
	:: busy ->
#ifdef MUT_LOOK_BEFORE_QUEUED
		look();
		awake = false;
#else
		awake = false;
		look();
#endif
		if :: busy -> awake :: else fi
	od;
	assert(!older[0] && !older[1]);
	over = true
}

#ifdef LIVENESS
ltl wait_ends { <> over }
#endif

init {
	atomic {
		run storm(0);
		run storm(1);
		run waiter()
	}
}
