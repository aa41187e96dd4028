/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory ordering for the models. A process is a set of steps, and not a
 * sequence of statements. STEP() lists the steps that precede a step. All
 * others may come before or after it, as on a machine that does not keep any
 * order by itself. Each listed step stands for something in the code that
 * orders the two:
 *
 *	lock		precedes everything that follows it (acquire)
 *	unlock		follows everything that precedes it (release). By itself
 *			it is not ordered before a later lock of another
 *			spinlock. Linux's spinlocks guarantee that order, except
 *			for a store and a later load (RCtso). With -DRCTSO the
 *			models have this guarantee
 *	smp_mb(), and an atomic operation that returns a value
 *			order everything before it before everything after it
 *	control dependency
 *			from a load to a store or a lock after a branch on its
 *			value
 *	data dependency, and two accesses of one location
 *
 * A step becomes visible to all processes at the same time. This is true of x86
 * and arm64, and of POWER between locks and full barriers.
 */
#define DONE(_ops)	((done & (_ops)) == (_ops))

/* Executed once, after all steps in _needs, and when _guard is true. */
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

/* No page is mapped. Valid page numbers are smaller. */
#define NONE	9
