/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Removal of an interval notifier against the walkers that pin it
 * (mm/mmu_interval_notifier.c): two walkers, each under the lock of its own
 * shard, which go round for ever, and one who removes.
 *
 * To be shown: no callback runs after removal returned; what is pinned stays in
 * the tree; nothing of the notifier is touched after it; no
 * effect of a callback comes after it; and removal ends, however often ranges hit.
 *
 *	walker		mmu_interval_pin_first(), mmu_interval_invalidate(),
 *			mmu_interval_unpin()
 *	remover		mmu_interval_notifier_remove()
 *
 * Steps are in program order, as locks and value-returning atomics keep it. The
 * one load that is neither is the one that removal waits with; what follows it
 * can be read early if it is no acquire, and the early read is modelled. The
 * locks are fair, as the kernel's are.
 */
#include "order.h"

chan lock0 = [3] of { pid };	/* who has it, and who waits, in order */
chan lock1 = [3] of { pid };
bool in_tree = true, removing, returned;
byte pins;
byte running;			/* callbacks */
bool awake;

#define LOCK(_l)	_l!_pid; _l?[eval(_pid)]
#define UNLOCK(_l)	_l?eval(_pid)

#ifdef MUT_NO_FLAG
#define REMOVING_ONLY	(pins == 0)
#else
#define REMOVING_ONLY	(removing && pins == 0)
#endif

#define CALLBACK							\
	d_step { assert(in_tree && !returned); running++ };		\
	d_step { assert(!returned); running-- }

#ifdef MUT_WALKER_IGNORES_FLAG
#define CAN_PIN		in_tree
#else
#define CAN_PIN		(in_tree && !removing)
#endif

inline wake()
{
	d_step {
#ifdef MUT_QUEUE_IN_NOTIFIER
		assert(!returned);
#endif
#ifndef MUT_NO_WAKE
		awake = true
#else
		skip
#endif
	}
}

inline unpin()
{
#ifdef MUT_WAKE_BEFORE_UNPIN
	if :: d_step { pins == 1 && removing -> skip }; wake() :: else fi;
	pins--;
#else
	d_step { pins--; last = REMOVING_ONLY };
	if :: last -> wake() :: else fi;
#endif
	last = false
}

proctype walker(chan lock)
{
	bool pinned, last, refused;

end:	do
	:: LOCK(lock);
#ifdef MUT_PIN_AFTER_UNLOCK
	   pinned = CAN_PIN;
	   UNLOCK(lock);
	   if :: pinned -> pins++ :: else fi;
#else
	   d_step { pinned = CAN_PIN; if :: pinned -> pins++ :: else fi };
	   UNLOCK(lock);
#endif
	   if
	   :: pinned ->
#ifdef MUT_UNPIN_BEFORE_CALLBACK
		unpin();
#endif
		CALLBACK;
#ifdef MUT_UNPIN_BEFORE_NEXT
		unpin();
#endif
		/* The next one; a refused range looks for none. */
		if
		:: refused = true
		:: refused = false;
		   LOCK(lock);
		   assert(in_tree && !returned);
		   UNLOCK(lock)
		fi;
#if !defined(MUT_UNPIN_BEFORE_CALLBACK) && !defined(MUT_UNPIN_BEFORE_NEXT)
		unpin();
#endif
		pinned = false;
		refused = false
	   :: else
	   fi
	od
}

#ifdef MUT_REMOVE_ONE_SHARD
#define LOCK_ALL	LOCK(lock0)
#define UNLOCK_ALL	UNLOCK(lock0)
#else
#define LOCK_ALL	LOCK(lock0); LOCK(lock1)
#define UNLOCK_ALL	UNLOCK(lock1); UNLOCK(lock0)
#endif

proctype remover()
{
	byte early;

	LOCK_ALL;
	if
#ifdef MUT_NO_WAIT
	:: true -> skip
#else
	:: pins != 0 ->
#ifndef MUT_NO_FLAG
		removing = true;
#endif
		UNLOCK_ALL;
		/* wait_event(): queued first, then looks. */
#ifdef MUT_LOOK_BEFORE_QUEUED
		do
		:: REMOVING_ONLY -> break
		:: else -> awake = false; awake
		od;
#else
		do
		:: awake = false;
#ifdef MUT_WAIT_PLAIN_LOAD
		   /* What is read behind the wait may have been read by now. */
		   early = running;
#endif
		   if :: REMOVING_ONLY -> break :: else -> awake fi
		od;
#ifdef MUT_WAIT_PLAIN_LOAD
		assert(early == 0);
#endif
#endif
		LOCK_ALL
	:: pins == 0
#endif
	fi;
	in_tree = false;
	UNLOCK_ALL;
	d_step { returned = true; assert(running == 0) }
}

#ifdef LIVENESS
ltl removal_ends { <> returned }
#endif

init {
	atomic {
		run walker(lock0);
		run walker(lock1);
		run remover()
	}
}
