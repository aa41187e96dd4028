// SPDX-License-Identifier: GPL-2.0
/*
 * MMU notifier torture: ranges that the torture announces. No page table changes, which
 * subscribers cannot know. They may stay open for a while, and some are not blockable, like
 * those of the OOM reaper.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/delay.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>

#include "mmu_notifier_torture_session.h"

/* The owner of a range identifies it. Other ranges of this arena have none. */
static unsigned long range_id(const struct mmu_notifier_range *range)
{
	return (unsigned long)range->owner;
}

static void torture_made_open(struct torture_session *session,
			      const struct mmu_notifier_range *range)
{
	WRITE_ONCE(session->made.start, range->start);
	WRITE_ONCE(session->made.end, range->end);
	/* Pairs with the acquire in torture_made_read(). */
	smp_store_release(&session->made.id, range_id(range));
}

/* Called before the range ends: a reader that sees the marker knows that it is open. */
static void torture_made_close(struct torture_session *session)
{
	WRITE_ONCE(session->made.id, 0);
	/* Pairs with torture_made_read(): later stores belong to a later range. */
	smp_wmb();
}

/* The range that is open now, if any. */
bool torture_made_read(struct torture_session *session, struct torture_made *made)
{
	/* Pairs with the release in torture_made_open(). */
	made->id = smp_load_acquire(&session->made.id);
	made->start = READ_ONCE(session->made.start);
	made->end = READ_ONCE(session->made.end);
	/* Pairs with the barrier in torture_made_close(). */
	smp_rmb();
	return made->id && READ_ONCE(session->made.id) == made->id;
}

/* Has it been open all the time? Markers are not reused. */
bool torture_made_lasts(struct torture_session *session, const struct torture_made *made)
{
	/* After what the caller did before. */
	smp_mb();
	return READ_ONCE(session->made.id) == made->id;
}

static struct torture_interval *slot_interval(struct torture_slot *slot)
{
	return slot->kind == &torture_interval_kind ? slot->interval : NULL;
}

static struct torture_list *slot_list(struct torture_slot *slot)
{
	return slot->kind == &torture_list_kind && slot->sub ?
	       container_of(slot->sub, struct torture_list, sub) : NULL;
}

/* Hold the subscribers until torture_let_go(). Returns a bit mask of slots. */
static unsigned long torture_hold(struct torture_session *session)
{
	unsigned long held = 0;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(session->slots); i++)
		if (mutex_trylock(&session->slots[i].life))
			held |= BIT(i);
	return held;
}

static void torture_let_go(struct torture_session *session, unsigned long held)
{
	unsigned int i;

	for_each_set_bit(i, &held, ARRAY_SIZE(session->slots))
		mutex_unlock(&session->slots[i].life);
}

/* @range is open: the subscribers of @held that it concerns were called. */
static void torture_check_heard(struct torture_session *session, unsigned long held,
				const struct mmu_notifier_range *range)
{
	struct torture_interval *interval;
	struct torture_list *list;
	unsigned int i;

	for_each_set_bit(i, &held, ARRAY_SIZE(session->slots)) {
		list = slot_list(&session->slots[i]);
		interval = slot_interval(&session->slots[i]);
		/* Except for devices that walk the page tables of the CPU. */
		if (list && list->mn.ops->invalidate_range_start &&
		    !torture_list_has(list, range))
			torture_error(session, "start was not called");
		if (interval && TORTURE_INSERTS_LATE && !READ_ONCE(interval->in_tree))
			continue;
		if (interval && range->start <= interval->mni.interval_tree.last &&
		    range->end > interval->mni.interval_tree.start &&
		    READ_ONCE(interval->heard) != range_id(range))
			torture_error(session, "an interval notifier was not called");
	}
	if (held)
		torture_count(RANGES_CHECKED);
}

/* @range has ended, or was refused: it is open for none of @held. */
static void torture_check_closed(struct torture_session *session, unsigned long held,
				 const struct mmu_notifier_range *range)
{
	struct torture_list *list;
	unsigned int i;

	for_each_set_bit(i, &held, ARRAY_SIZE(session->slots)) {
		list = slot_list(&session->slots[i]);
		if (list && torture_list_has(list, range))
			torture_error(session, "a range is open after its end");
	}
}

static bool torture_range_start(struct mmu_notifier_range *range, bool blockable)
{
	if (blockable) {
		mmu_notifier_invalidate_range_start(range);
		return true;
	}
	if (mmu_notifier_invalidate_range_start_nonblock(range)) {
		torture_count(NONBLOCK_REFUSED);
		return false;
	}
	torture_count(NONBLOCK_ACCEPTED);
	return true;
}

static void torture_stay_open(struct torture_session *session,
			      const struct mmu_notifier_range *range,
			      struct rnd_state *rnd)
{
	if (!torture_recorded(range))
		return;
	torture_made_open(session, range);
	usleep_range(100, prandom_u32_state(rnd) % 8 ? 1000 : 5000);
	torture_made_close(session);
}

static void torture_draw_range(struct torture_session *session, struct rnd_state *rnd,
			       struct mmu_notifier_range *range)
{
	unsigned long nr = (session->end - session->start) / PAGE_SIZE;
	unsigned long first = prandom_u32_state(rnd) % nr;
	unsigned long pages = prandom_u32_state(rnd) % (prandom_u32_state(rnd) % 8 ? 16 : nr) + 1;

	/* Cannot be equal to a pointer, which others use as owner. */
	static atomic_long_t ids = ATOMIC_LONG_INIT(1);

	pages = min(pages, nr - first);
	mmu_notifier_range_init_owner(range, MMU_NOTIFY_CLEAR, 0, session->mm,
				      session->start + first * PAGE_SIZE,
				      session->start + (first + pages) * PAGE_SIZE,
				      (void *)atomic_long_inc_return(&ids));
}

static void torture_make_range(struct torture_session *session, struct rnd_state *rnd,
			       unsigned long held)
{
	bool blockable = prandom_u32_state(rnd) % 3;
	struct mmu_notifier_range range;

	torture_draw_range(session, rnd, &range);
	torture_count(RANGES);
	if (torture_range_start(&range, blockable)) {
		torture_check_heard(session, held, &range);
		torture_stay_open(session, &range, rnd);
		/* Not in end callbacks: by then, readers may no longer wait. */
		if (torture_recorded(&range))
			torture_audit(session, &range);
		mmu_notifier_invalidate_range_end(&range);
	}
	torture_check_closed(session, held, &range);
}

/* With the mmap_lock held for read, as in the OOM reaper. */
static void torture_locked_range(struct torture_session *session,
				 struct rnd_state *rnd, unsigned long held)
{
	mmap_read_lock(session->mm);
	torture_make_range(session, rnd, held);
	mmap_read_unlock(session->mm);
}

/*
 * Without the mmap_lock, so that registrations can run at the same time, as with ranges
 * under reverse-map locks. The lock excludes arming, and is not needed if the mm is armed.
 */
static void torture_unlocked_range(struct torture_session *session,
				   struct rnd_state *rnd, unsigned long held)
{
	if (mmu_notifier_arm(session->mm))
		return;
	torture_count(ARMS);
	if (!mm_has_notifiers(session->mm))
		torture_error(session, "not armed by arming");
	torture_count(RANGES_UNLOCKED);
	torture_make_range(session, rnd, held);
	mmu_notifier_disarm(session->mm);
}

/* One step of the thread that makes ranges. */
void torture_range_step(struct torture_session *session, struct rnd_state *rnd)
{
	unsigned long held = 0;

	if (!mmget_not_zero(session->mm)) {
		usleep_range(1000, 5000);
		return;
	}
	/* While all are held, none faults, and none is added or removed. */
	if (prandom_u32_state(rnd) % 3 == 0)
		held = torture_hold(session);
	torture_watch_begin(session, TORTURE_RANGES, "a range");
	if (prandom_u32_state(rnd) % 2)
		torture_locked_range(session, rnd, held);
	else
		torture_unlocked_range(session, rnd, held);
	torture_watch_end(session, TORTURE_RANGES);
	torture_let_go(session, held);
	mmput(session->mm);
}
