/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Registration of a list notifier on an armed mm (mm/mmu_notifier.c), while two
 * ranges come and go, each on a shard of its own. The notifier then maps the
 * page in the manner of KVM: no retry by sequence alone, but a count of ranges
 * between start and end.
 *
 * To be shown: a notifier hears the end of a range exactly if it heard the
 * start; and no page is mapped that a range it was not told of takes away.
 *
 *	LOCK..UNLOCK	mmu_active_link(), which notes the generation
 *	HEAD1 SRCU1	mmu_list_srcu() in mmu_list_invalidate(), START the walk
 *	P		the change
 *	HEAD2 SRCU2 END	__mmu_notifier_invalidate_range_end()
 *	ULOCK..UUNLOCK	mmu_active_unlink()
 *
 *	SRCU ADD GEN	mmu_list_prepare(), mmu_notifier_register_armed()
 *	NOTE AWAIT	mmu_active_wait_all(), for each shard
 */
#include "order.h"

bool shard_locked[2], listed[2];
byte nr_active[2];
bool srcu, added;
byte generation;		/* 0, and 1 with the notifier */
byte page, mapped = NONE;	/* the driver's */
byte in_progress, seq;

#define LOCK	1
#define LINK	2
#define NOTEGEN	4
#define UNLOCK	8
#define HEAD1	16
#define SRCU1	32
#define START	64
#define P	128
#define HEAD2	256
#define SRCU2	512
#define END	1024
#define ULOCK	2048
#define UNLINK	4096
#define UUNLOCK	8192
#define ALL	16383

#ifdef MUT_GENERATION_PLAIN_LOAD
#define ACQUIRE_GEN	0
#else
#define ACQUIRE_GEN	NOTEGEN
#endif
#ifdef MUT_GENERATION_BEFORE_LOCK
#define NOTEGEN_NEEDS	0
#define LOCK_NEEDS	NOTEGEN
#else
#define NOTEGEN_NEEDS	LOCK
#define LOCK_NEEDS	0
#endif
#ifdef MUT_START_FOR_ALL
#define HEARS_START	true
#else
#define HEARS_START	(gen == 1)
#endif
#ifdef MUT_END_FOR_ALL
#define HEARS_END	true
#else
#define HEARS_END	(gen == 1)
#endif
#ifdef MUT_UNLINK_BEFORE_END
#define END_NEEDS	UUNLOCK
#define UNLINK_ORDERS	0
#else
#define END_NEEDS	0
#define UNLINK_ORDERS	END
#endif

proctype invalidation(byte me)
{
	int done = 0;
	byte gen;
	bool head, has_srcu, heard;

	do
	STEP(LOCK, LOCK_NEEDS, !shard_locked[me], shard_locked[me] = true)
	STEP(LINK, LOCK, true, listed[me] = true; nr_active[me] = 1)
	STEP(NOTEGEN, NOTEGEN_NEEDS, true, gen = generation)
	STEP(UNLOCK, LINK | NOTEGEN, true, shard_locked[me] = false)
	STEP(HEAD1, LOCK | ACQUIRE_GEN, true, head = added)
	STEP(SRCU1, LOCK | ACQUIRE_GEN, true, has_srcu = srcu)
	/* Who is called takes the driver's lock, and comes back through the SRCU. */
	STEP(START, HEAD1 | SRCU1 | NOTEGEN | UNLOCK, true,
	     if
	     :: head && has_srcu && HEARS_START ->
		heard = true; in_progress++; mapped = NONE
	     :: else
	     fi)
	STEP(P, START, true, assert(mapped != page); page++)
	STEP(HEAD2, HEAD1 | START, true, head = added)
	STEP(SRCU2, SRCU1 | START, true, has_srcu = srcu)
	STEP(END, P | HEAD2 | SRCU2 | END_NEEDS, true,
	     if
	     :: head && has_srcu && HEARS_END ->
		assert(heard); heard = false; in_progress--; seq++
	     :: else
	     fi;
	     assert(!heard))
	STEP(ULOCK, P | UNLINK_ORDERS, !shard_locked[me], shard_locked[me] = true)
	STEP(UNLINK, ULOCK, true, listed[me] = false; nr_active[me] = 0)
	STEP(UUNLOCK, UNLINK | P, true, shard_locked[me] = false)
	:: done == ALL -> break
	od
}

#define SRCU		1
#define ADD		2
#define GEN		4
#define NOTE(_i)	(8 << (_i))
#define AWAIT(_i)	(32 << (_i))
#define SEQ		128
#define READ		256
#define MAP		512
#define WAITED		(NOTE(0) | NOTE(1) | AWAIT(0) | AWAIT(1))

#ifdef MUT_GENERATION_PLAIN_STORE
#define GEN_RELEASE	0
#else
#define GEN_RELEASE	(SRCU | ADD)
#endif
#ifdef MUT_LIST_ADD_PLAIN
#define ADD_RELEASE	0
#else
#define ADD_RELEASE	SRCU
#endif
#ifdef MUT_NO_WAIT
#define ACTIVE(_i)	false
#define CAN_NOTE(_i)	true
#define NOTE_NEEDS	0
#define GONE(_i)	true
#elif defined(MUT_WAIT_LOCKLESS)
/* As read_begin does: it has a full barrier, and we have not. */
#define ACTIVE(_i)	(nr_active[_i] != 0)
#define CAN_NOTE(_i)	true
#define NOTE_NEEDS	0
#define GONE(_i)	(!listed[_i])
#else
#define ACTIVE(_i)	listed[_i]
#define CAN_NOTE(_i)	(!shard_locked[_i])
/* The unlock of the shard is a release. */
#define NOTE_NEEDS	(SRCU | ADD | GEN)
#define GONE(_i)	(!listed[_i] && !shard_locked[_i])
#endif
#ifdef MUT_WAIT_BEFORE_GENERATION
#undef NOTE_NEEDS
#define NOTE_NEEDS	0
#undef GEN_RELEASE
#define GEN_RELEASE	(SRCU | ADD | WAITED)
#endif

#define AWAIT_IF(_i)	if :: ACTIVE(_i) :: else -> done = done | AWAIT(_i) fi

proctype registration()
{
	int done = 0;
	byte s, val;
	bool again;

	do
	STEP(SRCU, 0, true, srcu = true)
	STEP(ADD, ADD_RELEASE, true, added = true)
	STEP(GEN, GEN_RELEASE, true, generation = 1)
	STEP(NOTE(0), NOTE_NEEDS, CAN_NOTE(0), AWAIT_IF(0))
	STEP(AWAIT(0), NOTE(0), GONE(0), skip)
	STEP(NOTE(1), NOTE_NEEDS, CAN_NOTE(1), AWAIT_IF(1))
	STEP(AWAIT(1), NOTE(1), GONE(1), skip)
	STEP(SEQ, WAITED, true, s = seq)
	STEP(READ, WAITED | SEQ, true, val = page)
	STEP(MAP, SRCU | ADD | GEN | READ, true,
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
