/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory ordering for the models. A process is not a list of statements but a
 * set of steps; STEP() names those that have to be done before it. Whatever is
 * not named may come earlier or later, as on a machine that keeps no order of
 * its own. So each edge stands for something in the code that orders the two:
 *
 *	a lock		comes before what follows it (acquire); an unlock comes
 *			after everything that precedes it (release). An unlock
 *			and the lock of something else that follows are in no
 *			order, which is less than spinlocks promise: with
 *			-DRCTSO the models have that promise too
 *	smp_mb(), an atomic that returns a value
 *			after all before it, before all behind it
 *	a load, and a store or lock behind a branch on its value
 *	data dependencies, and two accesses of one location
 *
 * A step is visible to all others at once. That is how x86, arm64 and, between
 * locks and full barriers, POWER behave.
 */
#define DONE(_ops)	((done & (_ops)) == (_ops))

/* Once, when all of _needs are done and _guard holds. */
#define STEP(_op, _needs, _guard, _effect)				\
	:: d_step {							\
		!(done & (_op)) && DONE(_needs) && (_guard) ->		\
		done = done | (_op);					\
		_effect;						\
	}

#ifdef RCTSO
#define UNLOCK_LOCK(_ops)	(_ops)
#else
#define UNLOCK_LOCK(_ops)	0
#endif

/* No page is mapped; there are fewer pages than this. */
#define NONE	9
