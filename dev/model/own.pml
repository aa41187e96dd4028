/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The walk of a shard's own (mm/mmu_notifier.h): two tasks use it in turn, for a single
 * notifier or for a batch of two, and a remover takes one notifier out of the tree. A walk
 * begins under the lock and ends without it, in an RCU read-side critical section in which
 * it first loads whether a removal waits.
 *
 * To be shown: no callback runs after removal returned, and removal ends, even if a
 * callback of another notifier does not.
 *
 *	task		mmu_one_begin_locked(), mmu_walk_begin_locked(), mmu_walk_publish(),
 *			mmu_walk_leave_own()
 *	remover		mmu_walk_forget(), mmu_walks_await(), mmu_shard_calls()
 *
 * Notifier 0 is removed; 1 is another one, with which a task begins as well. The release
 * orders the load of awaited before the store. A grace period ends when the sections that
 * were open at its start have ended. The lock is fair.
 */
#define IDLE	2	/* now: no task uses the walk */
#define NONE	3	/* now: between two notifiers; batch: removed */

chan lock = [3] of { pid };	/* the holder, then the waiters in order */
bool in_tree = true, returned, awake;
byte now = IDLE;
byte batch[2];
byte nr;			/* in the batch; 0 in a walk of a single notifier */
bool awaited;
bool section[2], gp[2];		/* which sections the remover waits for */
byte running;			/* callbacks of notifier 0 */

#define LOCK	lock!_pid; lock?[eval(_pid)]
#define UNLOCK	lock?eval(_pid)

inline begin()
{
#ifndef MUT_NOT_CLEARED
	awaited = false;
#endif
	if
	:: in_tree -> nr = 0; sub = 0
	:: nr = 0; sub = 1
	:: in_tree -> nr = 2; batch[0] = 0; batch[1] = 1; sub = NONE
	:: in_tree -> nr = 2; batch[0] = 1; batch[1] = 0; sub = NONE
	fi;
	now = sub
}

inline wake()
{
#ifndef MUT_NO_WAKE
	if :: wakes -> awake = true :: else fi;
#endif
	wakes = false
}

inline publish(me, place)
{
	section[me] = true;
	sub = batch[place];
	now = sub;
	wakes = awaited;
	d_step { section[me] = false; gp[me] = false };
	wake()
}

inline leave_own(me)
{
#ifdef MUT_NO_SECTION
	wakes = awaited;
	now = IDLE;
#elif defined(MUT_AWAITED_AFTER)
	section[me] = true;
	now = IDLE;
	wakes = awaited;
	d_step { section[me] = false; gp[me] = false };
#elif defined(MUT_AWAITED_EARLY)
	wakes = awaited;
	section[me] = true;
	now = IDLE;
	d_step { section[me] = false; gp[me] = false };
#else
	section[me] = true;
	wakes = awaited;
	now = IDLE;
	d_step { section[me] = false; gp[me] = false };
#endif
	wake()
}

inline call()
{
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
	fi
}

proctype task(byte me)
{
	byte sub = IDLE;
	byte left;
	bool wakes;

end:	do
	:: LOCK;
	   if
	   :: now == IDLE -> begin(); left = nr
	   :: else
	   fi;
	   UNLOCK;
	   if
	   :: sub != IDLE ->
		call();
		do
		:: left > 0 ->
			left--;
			publish(me, 1 - left);
			call()
		:: else -> break
		od;
		leave_own(me)
	   :: else
	   fi;
	   sub = IDLE
	od
}

inline forget()
{
	busy = now == 0;
	if
	:: now != IDLE && nr > 0 ->
#ifndef MUT_BATCH_KEPT
		if :: batch[0] == 0 -> batch[0] = NONE; busy = true :: else fi;
		if :: batch[1] == 0 -> batch[1] = NONE; busy = true :: else fi
#else
		skip
#endif
	:: else
	fi
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
	forget();
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
