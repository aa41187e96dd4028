/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Removal of a notifier, of either kind, against the ranges that call it
 * (mm/mmu_notifier_active.c): two walkers, each under the lock of its own shard,
 * which go round for ever, and a remover. A walker may post its callback's work:
 * it is counted in the notifier, and finished after the walker went on.
 *
 * To be shown: no callback runs after removal returned; what is pinned stays in
 * the tree; nothing of the notifier is touched after it; no
 * effect of a callback comes after it; and removal ends, however often ranges hit.
 *
 *	walker		mmu_range_link(), mmu_interval_next(), mmu_list_next(),
 *			mmu_interval_finish(), mmu_interval_finished()
 *	remover		mmu_interval_lock_unused(), mmu_active_lock_unpinned()
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
byte posted;			/* mmu_interval_notifier.nr_posted */
bool awaited;			/* and its MMU_INTERVAL_AWAITED */
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

#define COUNT							\
	if							\
	:: posts -> d_step { assert(!returned); posted++ }	\
	:: else							\
	fi

inline leave(me, lock)
{
#ifdef MUT_WAKE_BEFORE_LEAVE
	READ_MARK;
	if :: marked -> wake() :: else fi;
	marked = false;
#endif
	LOCK(lock);
	assert(in_tree && !returned);	/* goes on from it */
#ifndef MUT_COUNT_AFTER_LEAVE
	COUNT;		/* as long as the range is at the notifier */
#endif
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
	marked = false;
#ifdef MUT_COUNT_AFTER_LEAVE
	COUNT
#endif
}

/* The decrement is the last access, and its result says whether to wake. */
inline finish()
{
	CALLBACK;
#ifdef MUT_WAKE_BY_MARK
	READ_MARK;
	d_step { assert(!returned); posted-- };
#elif defined(MUT_MARK_AFTER_COUNT)
	d_step { assert(!returned); posted-- };
	READ_MARK;
#else
	d_step { assert(!returned); posted--; marked = posted == 0 && awaited };
#endif
	if :: marked -> wake() :: else fi;
	marked = false
}

proctype walker(byte me; chan lock)
{
	bool pinned, marked, posts;

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
		if :: posts = true :: skip fi;
		leave(me, lock);
		if :: posts -> finish() :: else fi;
		posts = false;
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

#ifdef MUT_COUNT_BEFORE_PINS
#define COUNTED		seen
#else
#define COUNTED		posted
#endif

proctype remover()
{
	byte early;
	bool pins;
#ifdef MUT_COUNT_BEFORE_PINS
	byte seen;
#endif

	LOCK_ALL;
#ifdef MUT_COUNT_BEFORE_PINS
	seen = posted;
#endif
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
	if
#if defined(MUT_NO_COUNT_WAIT) || defined(MUT_NO_WAIT)
	:: true -> skip
#else
	:: COUNTED ->
#ifndef MUT_POSTED_NO_MARK
		removing = true;
#endif
		UNLOCK_ALL;
		/* One word with the count, so a decrement sees it or is seen. */
		awaited = true;
		do
		:: awake = false;
		   if :: !posted -> break :: else -> awake fi
		od;
		LOCK_ALL
	:: !COUNTED
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
