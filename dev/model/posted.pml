/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Removal of an interval notifier that has posted invalidations
 * (mm/mmu_interval_notifier.c). A walker calls the notifier, may count an
 * invalidation as posted, moves on to the next notifier, and finishes the
 * invalidation later. The remover waits until no walker calls the notifier, and
 * then until the count is zero.
 *
 * Properties: after removal has returned, no callback runs and the notifier is
 * not accessed. Removal ends, no matter how many ranges call the notifier.
 *
 *	walker		mmu_range_call_intervals(), mmu_interval_post(),
 *			mmu_interval_finish_all(), mmu_interval_finished()
 *	remover		mmu_interval_notifier_remove(), mmu_interval_await()
 *
 * Publishing the notifier, and moving on from it, are one step each here.
 * walk.pml and own.pml model them. Steps are in program order. The decrement of
 * the count is a full barrier. The increment is relaxed: the release with which
 * the walker moves on orders it, and the remover reads the count with acquire.
 */
bool in_tree = true, returned;
bool at[2];			/* a walker calls the notifier */
byte running;			/* callbacks */
byte posted;			/* mmu_interval_notifier.nr_posted */
bool awaited;			/* MMU_INTERVAL_AWAITED in nr_posted */
bool awake;

#define CALLBACK							\
	d_step { assert(!returned); running++ };			\
	d_step { assert(!returned); running-- }

#define COUNT							\
	if							\
	:: posts -> d_step { assert(!returned); posted++ }	\
	:: else							\
	fi

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

/* The decrement is the last access, and its result says whether to wake. */
inline finish()
{
	CALLBACK;
#ifdef MUT_WAKE_BY_MARK
	d_step { assert(!returned); marked = awaited };
	d_step { assert(!returned); posted-- };
#elif defined(MUT_MARK_AFTER_COUNT)
	d_step { assert(!returned); posted-- };
	d_step { assert(!returned); marked = awaited };
#else
	d_step { assert(!returned); posted--; marked = posted == 0 && awaited };
#endif
	if :: marked -> wake() :: else fi;
	marked = false
}

proctype walker(byte me)
{
	bool marked, posts;

end:	do
	:: d_step { in_tree -> at[me] = true };
	   CALLBACK;
	   if :: posts = true :: skip fi;
#ifdef MUT_COUNT_AFTER_LEAVE
	   at[me] = false;
	   awake = true;
	   COUNT;
#else
	   COUNT;
	   at[me] = false;
	   awake = true;
#endif
	   if :: posts -> finish() :: else fi;
	   posts = false
	od
}

proctype remover()
{
	byte seen;

	in_tree = false;
#ifdef MUT_COUNT_BEFORE_WALKS
	seen = posted;
#endif
	do
	:: awake = false;
	   if :: !at[0] && !at[1] -> break :: else -> awake fi
	od;
#ifndef MUT_COUNT_BEFORE_WALKS
	seen = posted;
#endif
#ifndef MUT_NO_COUNT_WAIT
	if
	:: seen ->
		/* One word with the count, so it is atomic with decrements. */
		awaited = true;
		do
		:: awake = false;
		   if :: !posted -> break :: else -> awake fi
		od
	:: else
	fi;
#endif
	/* spin cannot jump into a d_step. */
	skip;
	d_step { returned = true; assert(running == 0) }
}

#ifdef LIVENESS
ltl removal_ends { <> returned }
#endif

init {
	atomic {
		run walker(0);
		run walker(1);
		run remover()
	}
}
