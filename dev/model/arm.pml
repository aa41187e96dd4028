/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Arming (mm/mmu_notifier_arm.c, mm_has_notifiers()). Two tasks change page
 * tables, a subscriber subscribes and unsubscribes repeatedly, and a work
 * disarms the mm.
 *
 * Properties: when the driver maps a page, it is the page in the page table.
 * The end of a range unlinks it if, and only if, its start has linked it.
 *
 *	pair		mmu_notifier_invalidate_range_start() and _end() with
 *			the lock that the call site holds
 *	subscriber	mmu_notifier_arm() (hold(), then mm_take_all_locks()),
 *			mmu_interval_notifier_insert(), a fault, removal with
 *			mmu_notifier_disarm()
 *	worker		mmu_notifier_disarm_work(), without its delay, on which
 *			correctness does not depend
 *
 * The load of the armed bit has no ordering of its own. The lock of the call
 * site, which is taken before it, orders it after arming, which held that lock.
 */
#include "order.h"

#define ROUNDS	2

bool site_locked[2];
bool armed, inserted, pending;
byte users;
bool listed[2];
byte page, mapped = NONE, seq;

#define LOCK_SITE(_i)	atomic { !site_locked[_i] -> site_locked[_i] = true }

#ifdef MUT_END_ASKS_MM
#define ENDS		armed
#else
#define ENDS		linked
#endif

proctype pair(byte me)
{
	bool linked, saw;
	byte i;

	for (i : 1 .. ROUNDS) {
#ifdef MUT_LOOK_BEFORE_LOCK
		saw = armed;
		LOCK_SITE(me);
#else
		LOCK_SITE(me);
		saw = armed;
#endif
		if
		:: saw ->
			d_step {
				listed[me] = true;
				linked = true;
				/* Looked up in the same critical section. */
				saw = inserted
			};
			if
			:: saw -> d_step { seq++; mapped = NONE }
			:: else
			fi
		:: else
		fi;
		d_step { assert(mapped != page); page++ };
		if
		:: ENDS -> d_step { assert(listed[me]); listed[me] = false }
		:: else
		fi;
		d_step {
			/* The range is on a stack: it must not stay linked. */
			assert(!listed[me]);
			linked = false;
			saw = false;
			site_locked[me] = false
		}
	}
}

#ifdef MUT_ARM_WITHOUT_LOCKS
#define TAKE_ALL_LOCKS	skip
#define DROP_ALL_LOCKS	skip
#elif defined(MUT_ARM_MISSES_A_LOCK)
#define TAKE_ALL_LOCKS	LOCK_SITE(0)
#define DROP_ALL_LOCKS	site_locked[0] = false
#else
#define TAKE_ALL_LOCKS	LOCK_SITE(0); LOCK_SITE(1)
#define DROP_ALL_LOCKS	site_locked[1] = false; site_locked[0] = false
#endif

inline arm()
{
#ifdef MUT_HOLD_UNLOCKED
	held = armed;
	if :: held -> users++ :: else fi;
#else
	/* mmu_notifier_hold(): under the subscriptions lock. */
	d_step { held = armed; if :: held -> users++ :: else fi };
#endif
	if
	:: !held ->
		TAKE_ALL_LOCKS;
		d_step { users++; armed = true };
		DROP_ALL_LOCKS
	:: else
	fi
}

proctype subscriber()
{
	byte i, s, val;
	bool held, same;

	for (i : 1 .. ROUNDS) {
		arm();
		/* Under all shard locks: a range is linked before or after. */
		inserted = true;
		do
		:: s = seq;
		   !listed[0];
		   !listed[1];
		   val = page;
		   d_step {
			same = (s == seq);
			assert(!same || val == page);
			mapped = (same -> val : mapped)
		   };
		   if :: same -> break :: else fi
		od;
		mapped = NONE;
		inserted = false;
		d_step { users--; pending = pending || users == 0 }
	};
	same = false
}

proctype worker()
{
end:	do
	:: d_step {
		pending -> pending = false;
#ifdef MUT_DISARM_IGNORES_USERS
		armed = false
#else
		if :: users == 0 -> armed = false :: else fi
#endif
	   }
	od
}

init {
	atomic {
		run pair(0);
		run pair(1);
		run subscriber();
		run worker()
	}
}
