// SPDX-License-Identifier: GPL-2.0
/*
 * MMU notifier torture: list notifiers. Each has a list of the ranges for which its start
 * callback was called, and is either registered in a slot or shared by get and put.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/cleanup.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "mmu_notifier_torture_session.h"

/* torture_list.handed */
enum torture_handed {
	TORTURE_OFFERED = 1,
	TORTURE_TAKEN,
};

static struct torture_list *to_list(struct mmu_notifier *mn)
{
	return container_of(mn, struct torture_list, mn);
}

static int torture_list_find(struct torture_list *list,
			     const struct mmu_notifier_range *range)
{
	unsigned int i;

	lockdep_assert_held(&list->lock);
	for (i = 0; i < TORTURE_OPEN; i++)
		if (list->open_key[i] == range)
			return i;
	return -1;
}

bool torture_list_has(struct torture_list *list, const struct mmu_notifier_range *range)
{
	guard(spinlock)(&list->lock);
	return torture_list_find(list, range) >= 0;
}

static void torture_list_open(struct torture_list *list,
			      const struct mmu_notifier_range *range)
{
	struct torture_session *session = list->sub.session;
	int i;

	guard(spinlock)(&list->lock);
	if (torture_list_find(list, range) >= 0) {
		torture_error(session, "a range started twice");
		return;
	}
	i = torture_list_find(list, NULL);
	if (i < 0) {
		torture_error(session, "over %d ranges are open", TORTURE_OPEN);
		return;
	}
	list->open_key[i] = range;
	torture_copy_range(&list->open[i], range);
}

static void torture_list_close(struct torture_list *list,
			       const struct mmu_notifier_range *range)
{
	struct torture_session *session = list->sub.session;
	const struct mmu_notifier_range *began;
	int i;

	guard(spinlock)(&list->lock);
	i = torture_list_find(list, range);
	if (i < 0) {
		torture_error(session, "end of a range that did not start");
		return;
	}
	began = &list->open[i];
	if (began->start != range->start || began->end != range->end ||
	    began->event != range->event || began->flags != range->flags ||
	    began->mm != range->mm)
		torture_error(session, "a range changed while it was open");
	list->open_key[i] = NULL;
}

/* A reference from get that the next callback is to put. */
static void torture_list_put_handed(struct torture_list *list)
{
	if (atomic_cmpxchg(&list->handed, TORTURE_OFFERED, TORTURE_TAKEN) !=
	    TORTURE_OFFERED)
		return;
	torture_count(PUTS_IN_CALLBACK);
	mmu_notifier_put(&list->mn);
	/* Not freed even if it was the last one: this callback is still running. */
	atomic_set(&list->handed, 0);
}

/* No reference is left for a callback. */
static void torture_shared_take_back(struct torture_list *list)
{
	if (atomic_cmpxchg(&list->handed, TORTURE_OFFERED, 0) == TORTURE_OFFERED)
		mmu_notifier_put(&list->mn);
	while (atomic_read(&list->handed))
		cond_resched();
}

static int torture_list_start(struct mmu_notifier *mn,
			      const struct mmu_notifier_range *range)
{
	struct torture_list *list = to_list(mn);
	struct torture_session *session = list->sub.session;
	bool refused;

	torture_enter(&list->sub, "start");
	torture_count(STARTS);
	if (range->mm != session->mm || range->start >= range->end)
		torture_error(session, "start of a range that is invalid");
	refused = TORTURE_LISTS_REFUSE && !mmu_notifier_range_blockable(range) &&
		  torture_chance(session, 8);
	if (!refused) {
		torture_list_open(list, range);
		torture_dawdle(session, range);
	}
	torture_list_put_handed(list);
	torture_leave(&list->sub, "start");
	return refused ? -EAGAIN : 0;
}

static void torture_list_end(struct mmu_notifier *mn,
			     const struct mmu_notifier_range *range)
{
	struct torture_list *list = to_list(mn);

	torture_enter(&list->sub, "end");
	torture_count(ENDS);
	torture_list_close(list, range);
	torture_dawdle(list->sub.session, range);
	torture_leave(&list->sub, "end");
}

static void torture_list_release(struct mmu_notifier *mn, struct mm_struct *mm)
{
	struct torture_list *list = to_list(mn);

	torture_enter(&list->sub, "release");
	if (atomic_inc_return(&list->sub.released) != 1)
		torture_error(list->sub.session, "release was called twice");
	if (!atomic_read(&mm->mm_users))
		torture_count(EXITS);
	torture_leave(&list->sub, "release");
}

static int torture_list_young(struct mmu_notifier *mn, struct mm_struct *mm,
			      unsigned long start, unsigned long end)
{
	struct torture_list *list = to_list(mn);

	torture_enter(&list->sub, "young");
	torture_leave(&list->sub, "young");
	return torture_chance(list->sub.session, 4);
}

static void torture_list_tlbs(struct mmu_notifier *mn, struct mm_struct *mm,
			      unsigned long start, unsigned long end)
{
	struct torture_list *list = to_list(mn);

	torture_enter(&list->sub, "TLB flush");
	if (start >= end)
		torture_error(list->sub.session, "TLB flush of an empty range");
	torture_leave(&list->sub, "TLB flush");
}

static const struct mmu_notifier_ops torture_list_ops = {
	.invalidate_range_start = torture_list_start,
	.invalidate_range_end = torture_list_end,
	.release = torture_list_release,
	.clear_flush_young = torture_list_young,
	.clear_young = torture_list_young,
};

/* For a device that walks the page tables of the CPU; not called for ranges. */
static const struct mmu_notifier_ops torture_tlb_ops = {
	.release = torture_list_release,
	.clear_flush_young = torture_list_young,
	.arch_invalidate_secondary_tlbs = torture_list_tlbs,
};

static struct torture_list *torture_list_alloc(struct torture_session *session)
{
	struct torture_list *list = kzalloc(sizeof(*list), GFP_KERNEL_ACCOUNT);

	if (!list)
		return NULL;
	spin_lock_init(&list->lock);
	torture_sub_init(&list->sub, session);
	return list;
}

static int torture_register(struct torture_list *list)
{
	struct torture_session *session = list->sub.session;
	struct torture_made made;
	bool open;
	int ret;

	list->mn.ops = torture_chance(session, 4) ? &torture_tlb_ops : &torture_list_ops;
	open = torture_made_read(session, &made);
	torture_watch_begin(session, TORTURE_SUBSCRIBE, "register");
	ret = mmu_notifier_register(&list->mn, session->mm);
	torture_watch_end(session, TORTURE_SUBSCRIBE);
	if (ret)
		return ret;
	torture_count(REGISTERS);
	if (open && torture_made_lasts(session, &made))
		torture_error(session, "register returned inside an older range");
	else if (open)
		torture_count(REGISTERS_INSIDE);
	return 0;
}

static void torture_list_attach(struct torture_slot *slot, struct rnd_state *rnd)
{
	struct torture_session *session = slot->session;
	struct torture_list *list;

	if (!mmget_not_zero(session->mm)) {
		torture_count(GONE);
		return;
	}
	list = torture_list_alloc(session);
	if (list && torture_register(list))
		kfree(list);
	else if (list)
		slot->sub = &list->sub;
	mmput(session->mm);
}

static void torture_list_detach(struct torture_slot *slot)
{
	struct torture_list *list = container_of(slot->sub, struct torture_list, sub);
	struct torture_session *session = slot->session;

	slot->sub = NULL;
	torture_watch_begin(session, TORTURE_SUBSCRIBE, "unregister");
	mmu_notifier_unregister(&list->mn, session->mm);
	torture_watch_end(session, TORTURE_SUBSCRIBE);
	torture_left(&list->sub, "unregister");
	if (atomic_read(&list->sub.released) != 1)
		torture_error(session, "unregister without release");
	torture_count(UNREGISTERS);
	torture_bury(&list->sub);
}

const struct torture_kind torture_list_kind = {
	.attach = torture_list_attach,
	.detach = torture_list_detach,
};

static struct mmu_notifier *torture_shared_alloc(struct mm_struct *mm)
{
	struct torture_session *session = torture_find(mm);
	struct torture_list *list = torture_list_alloc(session);

	if (!list)
		return ERR_PTR(-ENOMEM);
	atomic_inc(&session->nr_alive);
	return &list->mn;
}

static void torture_shared_free(struct mmu_notifier *mn)
{
	struct torture_list *list = to_list(mn);
	struct torture_session *session = list->sub.session;

	/* Also called if get has failed: then the notifier never subscribed. */
	if (!READ_ONCE(list->sub.live))
		torture_error(session, "freed twice");
	torture_left(&list->sub, "put");
	torture_count(FREES);
	torture_bury(&list->sub);
	/* Last: at zero, the session is freed. */
	if (atomic_dec_return(&session->nr_alive) < 0)
		torture_error(session, "more notifiers freed than allocated");
}

static const struct mmu_notifier_ops torture_shared_ops = {
	.invalidate_range_start = torture_list_start,
	.invalidate_range_end = torture_list_end,
	.release = torture_list_release,
	.alloc_notifier = torture_shared_alloc,
	.free_notifier = torture_shared_free,
};

void torture_shared_get(struct torture_session *session)
{
	struct mmu_notifier *mn;

	if (!mmget_not_zero(session->mm)) {
		torture_count(GONE);
		return;
	}
	torture_watch_begin(session, TORTURE_SUBSCRIBE, "get");
	mn = mmu_notifier_get(&torture_shared_ops, session->mm);
	torture_watch_end(session, TORTURE_SUBSCRIBE);
	mmput(session->mm);
	if (IS_ERR(mn))
		return;
	torture_count(GETS);
	if (session->nr_refs && session->shared != to_list(mn))
		torture_error(session, "get returned another notifier");
	session->shared = to_list(mn);
	session->nr_refs++;
}

void torture_shared_put(struct torture_session *session)
{
	struct torture_list *list = session->shared;

	if (!session->nr_refs)
		return;
	if (session->nr_refs == 1)
		torture_shared_take_back(list);
	session->nr_refs--;
	torture_count(PUTS);
	mmu_notifier_put(&list->mn);
}

/* Let the next callback put a reference. The caller holds one until then. */
void torture_shared_hand(struct torture_session *session)
{
	if (session->nr_refs < 2 || atomic_read(&session->shared->handed))
		return;
	session->nr_refs--;
	atomic_set(&session->shared->handed, TORTURE_OFFERED);
}
