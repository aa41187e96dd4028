/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Removal of a notifier, of either kind, against the ranges that call it
 * (mm/mmu_notifier_active.c): two walkers, each under the lock of its own shard,
 * which go round for ever, and one who removes.
 *
 * To be shown: no callback runs after removal returned; what is pinned stays in
 * the tree; nothing of the notifier is touched after it; no
 * effect of a callback comes after it; and removal ends, however often ranges hit.
 *
 *	walker		mmu_range_link(), mmu_interval_next(), mmu_list_next()
 *	remover		mmu_active_lock_unpinned(), mmu_active_pins()
 *
 * Steps are in program order, as locks keep it. Where removal is made to look
 * without the shard's lock, what follows can be read early, and the early read is
 * modelled. The locks are fair, as the kernel's are.
 */
#include "order.h"

chan lock0 = [3] of { pid };	/* who has it, and who waits, in order */
chan lock1 = [3] of { pid };
bool in_tree = true, removing, returned;
bool at[2];			/* mmu_notifier_range.at is the notifier */
byte running;			/* callbacks */
bool awake;

#define LOCK(_l)	_l!_pid; _l?[eval(_pid)]
#define UNLOCK(_l)	_l?eval(_pid)

#define CALLBACK							\
	d_step { assert(in_tree && !returned); running++ };		\
	d_step { assert(!returned); running-- }

#ifdef MUT_WALKER_IGNORES_MARK
#define CAN_PIN		in_tree
#else
#define CAN_PIN		(in_tree && !removing)
#endif

/* The mark is the notifier's. */
#define READ_MARK	d_step { assert(!returned); marked = removing }

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

inline leave(me, lock)
{
#ifdef MUT_WAKE_BEFORE_LEAVE
	READ_MARK;
	if :: marked -> wake() :: else fi;
	marked = false;
#endif
	LOCK(lock);
	assert(in_tree && !returned);	/* goes on from it */
#ifdef MUT_MARK_READ_LATE
	at[me] = false;
	UNLOCK(lock);
	READ_MARK;
#elif defined(MUT_WAKE_BEFORE_LEAVE)
	at[me] = false;
	UNLOCK(lock);
#else
	READ_MARK;
	at[me] = false;
	UNLOCK(lock);
#endif
	if :: marked -> wake() :: else fi;
	marked = false
}

proctype walker(byte me; chan lock)
{
	bool pinned, marked;

end:	do
	:: LOCK(lock);
#ifdef MUT_PIN_AFTER_UNLOCK
	   pinned = CAN_PIN;
	   UNLOCK(lock);
	   at[me] = pinned;
#else
	   d_step { pinned = CAN_PIN; at[me] = pinned };
	   UNLOCK(lock);
#endif
	   if
	   :: pinned ->
#ifdef MUT_LEAVE_BEFORE_CALLBACK
		leave(me, lock);
		CALLBACK;
#else
		CALLBACK;
		leave(me, lock);
#endif
		pinned = false
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

/* Shard by shard: a walker that has been passed cannot come back, by the mark. */
inline look()
{
	pins = false;
#ifdef MUT_LOOK_UNLOCKED
	pins = at[0];
	if :: !pins -> pins = at[1] :: else fi
#else
	LOCK(lock0);
	pins = at[0];
	UNLOCK(lock0);
	if
	:: !pins -> LOCK(lock1); pins = at[1]; UNLOCK(lock1)
	:: else
	fi
#endif
}

proctype remover()
{
	byte early;
	bool pins;

	LOCK_ALL;
	if
#ifdef MUT_NO_WAIT
	:: true -> skip
#else
	:: at[0] || at[1] ->
#ifndef MUT_NO_MARK
		removing = true;
#endif
		UNLOCK_ALL;
		/* wait_event(): queued first, then looks. */
#ifdef MUT_LOOK_BEFORE_QUEUED
		do
		:: look();
		   if :: !pins -> break :: else -> awake = false; awake fi
		od;
#else
		do
		:: awake = false;
#ifdef MUT_LOOK_UNLOCKED
		   /* What is read behind the wait may have been read by now. */
		   early = running;
#endif
		   look();
		   if :: !pins -> break :: else -> awake fi
		od;
#ifdef MUT_LOOK_UNLOCKED
		assert(early == 0);
#endif
#endif
		LOCK_ALL
	:: !at[0] && !at[1]
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
		run walker(0, lock0);
		run walker(1, lock1);
		run remover()
	}
}
