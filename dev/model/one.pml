/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A single notifier, published in the shard (mm/mmu_notifier.h): two tasks use the one
 * place of their shard in turn, and a remover takes the notifier out of the tree. A task
 * publishes under the lock, and clears without it, in an RCU read-side critical section
 * in which it first loads whether somebody waits.
 *
 * To be shown: no callback runs after removal returned, and removal ends, even if a
 * callback of another notifier does not.
 *
 *	task		mmu_one_begin_locked(), mmu_one_end()
 *	remover		mmu_one_forget(), mmu_walks_await(), mmu_shard_calls()
 *
 * Notifier 0 is removed; 1 is another one, with which a task begins as well. The release
 * orders the load of awaited before the store. A grace period ends when the sections that
 * were open at its start have ended. The lock is fair.
 */
#define NONE	2

chan lock = [3] of { pid };	/* who has it, and who waits, in order */
bool in_tree = true, returned, awake;
byte now = NONE;
bool awaited;
bool section[2], gp[2];		/* which sections the remover waits for */
byte running;			/* callbacks of notifier 0 */

#define LOCK	lock!_pid; lock?[eval(_pid)]
#define UNLOCK	lock?eval(_pid)

inline end_one(me)
{
#ifdef MUT_NO_SECTION
	wakes = awaited;
	now = NONE;
#elif defined(MUT_AWAITED_AFTER)
	section[me] = true;
	now = NONE;
	wakes = awaited;
	d_step { section[me] = false; gp[me] = false };
#elif defined(MUT_AWAITED_EARLY)
	wakes = awaited;
	section[me] = true;
	now = NONE;
	d_step { section[me] = false; gp[me] = false };
#else
	section[me] = true;
	wakes = awaited;
	now = NONE;
	d_step { section[me] = false; gp[me] = false };
#endif
#ifndef MUT_NO_WAKE
	if :: wakes -> awake = true :: else fi;
#endif
	wakes = false
}

proctype task(byte me)
{
	byte sub = NONE;
	bool wakes;

end:	do
	:: LOCK;
	   if
	   :: now == NONE && in_tree -> sub = 0
	   :: now == NONE -> sub = 1
	   :: else
	   fi;
	   if
	   :: sub != NONE ->
#ifndef MUT_NOT_CLEARED
		awaited = false;
#endif
		now = sub
	   :: else
	   fi;
	   UNLOCK;
	   if
	   :: sub == 0 ->
		d_step { assert(!returned); running++ };
		d_step { assert(!returned); running-- }
	   :: sub == 1 ->
#ifdef LIVENESS
		/* It may sleep for ever: removal of the other one does not wait. */
		if :: true -> false :: skip fi
#else
		skip
#endif
	   :: else
	   fi;
	   if :: sub != NONE -> end_one(me) :: else fi;
	   sub = NONE
	od
}

inline look()
{
	LOCK;
	busy = now == 0;
	UNLOCK
}

proctype remover()
{
	bool busy;

	LOCK;
	in_tree = false;
	busy = now == 0;
#ifndef MUT_NOT_AWAITED
	if :: busy -> awaited = true :: else fi;
#endif
	UNLOCK;
#ifndef MUT_NO_WAIT
	if
	:: busy ->
#ifndef MUT_NO_GRACE_PERIOD
		d_step { gp[0] = section[0]; gp[1] = section[1] };
		!gp[0] && !gp[1];
#endif
		/* wait_event(): queued first, then looks. */
		do
		:: awake = false;
		   look();
		   if :: !busy -> break :: else -> awake fi
		od
	:: else
	fi;
#endif
	/* For spin, which does not jump into a d_step. */
	skip;
	d_step { returned = true; assert(running == 0) }
}

#ifdef LIVENESS
ltl removal_ends { <> returned }
#endif

init {
	atomic {
		run task(0);
		run task(1);
		run remover()
	}
}
