/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Walks over the notifiers of an mm, and removal (mm/mmu_notifier_walk.c).
 *
 * A walker collects under the lock of its shard. It calls without a lock: in an RCU
 * read-side critical section it loads the next notifier from its batch, publishes it,
 * and loads whether a removal waits. A remover holds all shard locks while it takes its
 * notifier out of the tree, of every batch, and from under every cursor. If a walker
 * calls the notifier, or had it in its batch, the remover waits for a grace period, and
 * then until no walker has it published.
 *
 * To be shown: no callback runs after the removal of its notifier returned, the walk
 * touches no notifier after that, and removal ends, even if a callback of another notifier
 * does not.
 *
 *	walker		mmu_walk_begin_locked(), mmu_walk_publish(), mmu_walk_refill(),
 *			mmu_walk_unlink()
 *	remover		mmu_walk_forget(), mmu_walks_await(), mmu_shard_calls()
 *
 * Two walkers, each on its own shard, walk for ever; two notifiers, a remover for each.
 * ONE_REMOVER and ONE_WALKER leave one out, as both together take two minutes. BATCH is
 * the size of a batch.
 *
 * Steps are in program order, except those inside the critical section, whose order is
 * free: only the store of what was loaded comes after the load, for it needs the value.
 * A grace period ends when the sections that were open at its start have ended. The locks
 * are fair.
 */
#define NONE	2
#define WALKS	2
#ifndef BATCH
#define BATCH	2
#endif

chan lock0 = [4] of { pid };	/* the holder, then the waiters in order */
chan lock1 = [4] of { pid };
bool in_tree[2] = true;
bool returned[2];
bool awake[2];			/* for each remover, of the one queue */

typedef walks { bool has[WALKS] };
walks batch[2];			/* of each notifier: which walks have it in theirs */
bool linked[WALKS];
byte now[WALKS] = NONE;
byte cursor[WALKS] = NONE;
bool awaited[WALKS];
bool section[WALKS];		/* is in its critical section */
walks gp[2];			/* of each remover: which sections it waits for */
byte running0, running1;	/* callbacks of each notifier */

#define LOCK(_l)	_l!_pid; _l?[eval(_pid)]
#define UNLOCK(_l)	_l?eval(_pid)

inline wake()
{
#ifdef MUT_NO_WAKE
	skip
#else
	d_step { awake[0] = true; awake[1] = true }
#endif
}

inline callback(x)
{
	if
	:: x == 0 -> d_step { assert(!returned[0]); running0++ };
		     d_step { assert(!returned[0]); running0-- }
	:: x == 1 -> d_step { assert(!returned[1]); running1++ };
#ifdef LIVENESS
		     /* It may sleep for ever: removal of the other one does not wait. */
		     if :: true -> false :: skip fi;
#endif
		     d_step { assert(!returned[1]); running1-- }
	fi
}

/* From notifier @from on, which the walk looks into. */
inline collect(me, from)
{
	d_step {
		assert(from == NONE || from == 0 || !returned[from]);
		batch[0].has[me] = from == 0 && in_tree[0];
		batch[1].has[me] = from != NONE && in_tree[1] &&
				   (BATCH == 2 || !batch[0].has[me]);
		cursor[me] = (BATCH == 1 && batch[0].has[me] && in_tree[1] -> 1 : NONE)
	}
}

/* The store needs what was loaded. */
#define LOAD(_me)	d_step { sub = (batch[at].has[_me] -> at : NONE) }

inline publish(me)
{
#ifdef MUT_AWAITED_EARLY
	wakes = awaited[me];
#endif
#ifndef MUT_NO_SECTION
	section[me] = true;
#endif
#ifdef MUT_AWAITED_EARLY
	LOAD(me);
	now[me] = sub;
#else
	if
	:: wakes = awaited[me]; LOAD(me); now[me] = sub
	:: LOAD(me); wakes = awaited[me]; now[me] = sub
	:: LOAD(me); now[me] = sub; wakes = awaited[me]
	fi;
#endif
#ifdef MUT_NO_SECTION
	skip;
#else
	d_step { section[me] = false; gp[0].has[me] = false; gp[1].has[me] = false };
#endif
	if :: wakes -> wake() :: else fi;
	wakes = false
}

proctype walker(byte me; chan lock)
{
	bool wakes;
	byte sub = NONE, at;

end:	do
	:: LOCK(lock);
	   collect(me, 0);
	   linked[me] = batch[0].has[me] || batch[1].has[me];
	   UNLOCK(lock);
	   do
	   :: linked[me] && at < 2 ->
		/* The places of the batch: the notifiers, in the order of the walk. */
		publish(me);
		if :: sub != NONE -> callback(sub) :: else fi;
		sub = NONE;
		at++
#if BATCH == 1
	   :: linked[me] && at == 2 && cursor[me] != NONE ->
		LOCK(lock);
		now[me] = NONE;
		collect(me, cursor[me]);
		at = 0;
		UNLOCK(lock);
		if :: awaited[me] -> wake() :: else fi
	   :: (!linked[me] || at == 2) && cursor[me] == NONE -> break
#else
	   :: !linked[me] || at == 2 -> break
#endif
	   od;
	   at = 0;
	   if
	   :: linked[me] ->
		LOCK(lock);
		d_step {
			linked[me] = false;
			now[me] = NONE;
			wakes = awaited[me];
			awaited[me] = false
		};
		UNLOCK(lock);
		if :: wakes -> wake() :: else fi;
		wakes = false
	   :: else
	   fi
	od
}

/* Under the locks, while the walk goes on. */
inline forget(x)
{
	w = 0;
	do
	:: w < WALKS && !linked[w] -> w++
	:: w < WALKS && linked[w] ->
		one = now[w] == x;
#ifndef MUT_NO_TAKE_OUT
		if
		:: batch[x].has[w] -> batch[x].has[w] = false; one = true
		:: else
		fi;
#endif
#if BATCH == 1 && !defined(MUT_CURSOR_STAYS)
		if
		:: cursor[w] == x -> cursor[w] = (x == 0 && in_tree[1] -> 1 : NONE)
		:: else
		fi;
#endif
#ifdef MUT_NOT_AWAITED
		busy = busy || one;
#else
		if :: one -> awaited[w] = true; busy = true :: else fi;
#endif
		w++
	:: else -> break
	od;
	w = 0; one = false
}

inline grace_period(x)
{
	d_step { gp[x].has[0] = section[0]; gp[x].has[1] = section[1] };
	!gp[x].has[0] && !gp[x].has[1]
}

inline look(x)
{
	busy = false;
	LOCK(lock0);
	busy = linked[0] && now[0] == x;
	UNLOCK(lock0);
	if
	:: !busy -> LOCK(lock1); busy = linked[1] && now[1] == x; UNLOCK(lock1)
	:: else
	fi
}

#ifdef MUT_REMOVE_ONE_SHARD
#define LOCK_ALL	LOCK(lock0)
#define UNLOCK_ALL	UNLOCK(lock0)
#else
#define LOCK_ALL	LOCK(lock0); LOCK(lock1)
#define UNLOCK_ALL	UNLOCK(lock1); UNLOCK(lock0)
#endif

proctype remover(byte x)
{
	bool busy, one;
	byte w;

#ifdef MUT_GRACE_PERIOD_FIRST
	grace_period(x);
#endif
	LOCK_ALL;
	in_tree[x] = false;
	forget(x);
	UNLOCK_ALL;
#ifndef MUT_NO_WAIT
	if
	:: busy ->
#if !defined(MUT_NO_GRACE_PERIOD) && !defined(MUT_GRACE_PERIOD_FIRST)
		grace_period(x);
#endif
		/* wait_event(): queued first, then looks. */
		do
		:: awake[x] = false;
		   look(x);
		   if :: !busy -> break :: else -> awake[x] fi
		od
	:: else
	fi;
#endif
	/* For spin, which does not jump into a d_step. */
	skip;
	d_step {
		returned[x] = true;
		assert((x == 0 && running0 == 0) || (x == 1 && running1 == 0))
	}
}

#ifdef LIVENESS
ltl removal_ends { <> returned[0] }
#endif

init {
	atomic {
		run walker(0, lock0);
#ifndef ONE_WALKER
		run walker(1, lock1);
#endif
#ifdef LIVENESS
		run remover(0)
#else
#ifndef ONE_REMOVER
		run remover(0);
#endif
		run remover(1)
#endif
	}
}
