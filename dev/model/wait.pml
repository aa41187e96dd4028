/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A waiter in a storm (mm/mmu_notifier_active.c). Two tasks start and end
 * overlapping ranges of one shard for ever, so that there may be an active
 * range at any time. A third task waits for the ranges that were active when it
 * began.
 *
 * Properties: the wait ends, and it does not end before these ranges have
 * ended.
 *
 *	storm		mmu_active_link_locked(), mmu_range_unlink()
 *	waiter		mmu_shard_draw(), mmu_shard_waits() in wait_event()
 *
 * The code compares the epoch of a range with the one that the waiter has
 * recorded. Epochs would grow without limit, so the model stores the result of
 * the comparison, "older", instead. The lock is fair, as a queued spinlock is.
 */
chan lock = [3] of { pid };	/* the holder, then the waiters in order */
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
