// SPDX-License-Identifier: GPL-2.0
/*
 * MMU notifier torture: interval notifiers, and a device that maps pages of their
 * intervals with the retry protocol.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/cleanup.h>
#include <linux/delay.h>
#include <linux/hmm.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "mmu_notifier_torture_session.h"

#define TORTURE_FAULT_PAGES	16
#define TORTURE_TRIES		4

static unsigned long window_start(const struct torture_interval *interval)
{
	return interval->mni.interval_tree.start & PAGE_MASK;
}

/* Pages that are in the window and completely inside the interval. */
static unsigned int window_pages(const struct torture_interval *interval)
{
	unsigned long last = interval->mni.interval_tree.last;

	return min((last - window_start(interval)) / PAGE_SIZE + 1,
		   (unsigned long)TORTURE_WINDOW);
}

static bool torture_overlaps(const struct torture_interval *interval,
			     const struct mmu_notifier_range *range)
{
	return range->start <= interval->mni.interval_tree.last &&
	       range->end - 1 >= interval->mni.interval_tree.start;
}

/* The pages of the window that @range touches: [*first, return value). */
static unsigned int torture_touched(const struct torture_interval *interval,
				    const struct mmu_notifier_range *range,
				    unsigned int *first)
{
	unsigned long start = window_start(interval);
	unsigned long end = start + window_pages(interval) * PAGE_SIZE;

	*first = 0;
	if (range->start >= end || range->end <= start)
		return 0;
	if (range->start > start)
		*first = (range->start - start) / PAGE_SIZE;
	return DIV_ROUND_UP(min(range->end, end) - start, PAGE_SIZE);
}

/* @seq must differ from the last values of this notifier. */
void torture_note_seq(struct torture_interval *interval, unsigned long seq)
{
	unsigned int i, nr = min(interval->nr_seqs, TORTURE_SEQS);

	lockdep_assert_held(&interval->slot->device);
	if (TORTURE_RANGES_SHARE_SEQ && nr &&
	    interval->seqs[(interval->nr_seqs - 1) % TORTURE_SEQS] == seq)
		return;
	for (i = 0; i < nr; i++)
		if (interval->seqs[i] == seq)
			torture_error(interval->sub.session,
				      "sequence value %lu came back", seq);
	interval->seqs[interval->nr_seqs++ % TORTURE_SEQS] = seq;
}

void torture_drop(struct torture_interval *interval,
		  const struct mmu_notifier_range *range)
{
	unsigned int i, end = torture_touched(interval, range, &i);

	for (; i < end; i++) {
		if (interval->pfns[i])
			torture_count(DROPS);
		interval->pfns[i] = 0;
	}
}

/* The driver's part of an invalidation; its device lock is held. */
static void torture_collide(struct torture_interval *interval,
			    const struct mmu_notifier_range *range,
			    unsigned long seq)
{
	torture_note_seq(interval, seq);
	mmu_interval_set_seq(&interval->mni, seq);
	torture_drop(interval, range);
	if (range->owner)
		WRITE_ONCE(interval->heard, (unsigned long)range->owner);
}

bool torture_invalidate(struct mmu_interval_notifier *mni,
			const struct mmu_notifier_range *range, unsigned long seq)
{
	struct torture_interval *interval = torture_to_interval(mni);
	struct torture_session *session = interval->sub.session;
	bool done = true;

	torture_enter(&interval->sub, "invalidate");
	torture_count(INVALIDATES);
	if (!torture_overlaps(interval, range))
		torture_error(session, "invalidate of [%#lx, %#lx) on [%#lx, %#lx]",
			      range->start, range->end,
			      mni->interval_tree.start, mni->interval_tree.last);
	if (range->mm != session->mm || !(seq & 1))
		torture_error(session, "invalidate that makes no sense");

	if (mmu_notifier_range_blockable(range))
		mutex_lock(&interval->slot->device);
	else
		done = !torture_chance(session, 8) &&
		       mutex_trylock(&interval->slot->device);
	if (done) {
		torture_collide(interval, range, seq);
		torture_dawdle(session, range);
		mutex_unlock(&interval->slot->device);
	}
	torture_dawdle(session, range);
	torture_leave(&interval->sub, "invalidate");
	return done;
}

static const struct mmu_interval_notifier_ops torture_interval_ops = {
	.invalidate = torture_invalidate,
};

/* @range is still open: the device must have nothing of it mapped. */
static void torture_audit_one(struct torture_interval *interval,
			      const struct mmu_notifier_range *range)
{
	unsigned int i, end = torture_touched(interval, range, &i);

	if (i < end)
		torture_count(AUDITS);
	for (; i < end; i++) {
		if (!interval->pfns[i])
			continue;
		torture_error(interval->sub.session,
			      "page %u of [%#lx, %#lx] is mapped in the open range [%#lx, %#lx)",
			      i, interval->mni.interval_tree.start,
			      interval->mni.interval_tree.last,
			      range->start, range->end);
		return;
	}
}

/* Context: between start and end of @range; sleeps; without a device lock. */
void torture_audit(struct torture_session *session,
		   const struct mmu_notifier_range *range)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(session->slots); i++) {
		struct torture_slot *slot = &session->slots[i];

		if (slot->kind == &torture_list_kind)
			continue;
		guard(mutex)(&slot->device);
		if (slot->interval)
			torture_audit_one(slot->interval, range);
	}
}

static void torture_set_interval(struct torture_slot *slot,
				 struct torture_interval *interval)
{
	guard(mutex)(&slot->device);
	slot->interval = interval;
}

/* Any length, not always whole pages, and mostly where most changes are made. */
static void torture_draw_interval(struct torture_session *session,
				  struct rnd_state *rnd,
				  unsigned long *start, unsigned long *length)
{
	unsigned long arena = session->end - session->start;
	unsigned long most = prandom_u32_state(rnd) % 8 ? TORTURE_WINDOW * PAGE_SIZE : arena;

	*start = prandom_u32_state(rnd) % (prandom_u32_state(rnd) % 4 ? arena / 8 : arena);
	*length = prandom_u32_state(rnd) % most + 1;
	if (prandom_u32_state(rnd) % 4) {
		*start &= PAGE_MASK;
		*length = PAGE_ALIGN(*length);
	}
	*length = min(*length, arena - *start);
	*start += session->start;
}

/* Was @made, which does not overlap @interval, open all the time? */
static bool torture_passed(struct torture_session *session,
			   struct torture_interval *interval,
			   const struct torture_made *made)
{
	struct mmu_notifier_range range = { .start = made->start, .end = made->end };

	return !torture_overlaps(interval, &range) && torture_made_lasts(session, made);
}

static int torture_insert(struct torture_slot *slot, struct torture_interval *interval,
			  struct rnd_state *rnd)
{
	struct torture_session *session = slot->session;
	unsigned long start, length;
	struct torture_made made;
	bool open;
	int ret;

	torture_draw_interval(session, rnd, &start, &length);
	interval->slot = slot;
	open = torture_made_read(session, &made);
	torture_watch_begin(session, TORTURE_SUBSCRIBE, "insert");
	ret = mmu_interval_notifier_insert(&interval->mni, session->mm, start, length,
					   torture_chance(session, 2) ?
					   &torture_phased_ops : &torture_interval_ops);
	torture_watch_end(session, TORTURE_SUBSCRIBE);
	if (ret)
		return ret;
	torture_count(INSERTS);
	if (open && torture_passed(session, interval, &made))
		torture_count(INSERTS_INSIDE);
	torture_set_interval(slot, interval);
	slot->sub = &interval->sub;
	return 0;
}

static void torture_interval_attach(struct torture_slot *slot, struct rnd_state *rnd)
{
	struct torture_session *session = slot->session;
	struct torture_interval *interval;

	if (!mmget_not_zero(session->mm)) {
		torture_count(GONE);
		return;
	}
	interval = kzalloc(sizeof(*interval), GFP_KERNEL_ACCOUNT);
	if (interval) {
		torture_sub_init(&interval->sub, session);
		if (torture_insert(slot, interval, rnd))
			kfree(interval);
	}
	mmput(session->mm);
}

/* In half of the cases remove during a callback, if there is one soon. */
static void torture_await_callback(struct torture_interval *interval)
{
	unsigned int i;

	if (torture_chance(interval->sub.session, 2))
		return;
	for (i = 0; i < 20 && !atomic_read(&interval->sub.running); i++)
		usleep_range(20, 100);
}

static void torture_interval_detach(struct torture_slot *slot)
{
	struct torture_session *session = slot->session;
	struct torture_interval *interval = slot->interval;
	struct torture_made made;
	bool open;

	slot->sub = NULL;
	/* Like any driver, first drop what the device has mapped. */
	scoped_guard(mutex, &slot->device)
		memset(interval->pfns, 0, sizeof(interval->pfns));
	torture_await_callback(interval);
	if (atomic_read(&interval->sub.running))
		torture_count(REMOVES_BUSY);
	open = torture_made_read(session, &made);
	torture_watch_begin(session, TORTURE_SUBSCRIBE, "remove");
	mmu_interval_notifier_remove(&interval->mni);
	torture_watch_end(session, TORTURE_SUBSCRIBE);
	torture_left(&interval->sub, "remove");
	torture_count(REMOVES);
	if (open && torture_passed(session, interval, &made))
		torture_count(REMOVES_INSIDE);
	torture_set_interval(slot, NULL);
	torture_bury(&interval->sub);
}

const struct torture_kind torture_interval_kind = {
	.attach = torture_interval_attach,
	.detach = torture_interval_detach,
};

/* read_begin must wait for open ranges that overlap, and for no others. */
static unsigned long torture_read_begin(struct torture_interval *interval)
{
	struct torture_session *session = interval->sub.session;
	struct mmu_notifier_range range;
	struct torture_made made;
	unsigned long seq;
	bool open, lasts;

	open = torture_made_read(session, &made);
	torture_watch_begin(session, TORTURE_DEVICE, "read_begin");
	seq = mmu_interval_read_begin(&interval->mni);
	torture_watch_end(session, TORTURE_DEVICE);
	WRITE_ONCE(interval->in_tree, true);
	if (!open)
		return seq;

	lasts = torture_made_lasts(session, &made);
	range.start = made.start;
	range.end = made.end;
	if (!torture_overlaps(interval, &range)) {
		if (lasts)
			torture_count(PASSES);
	} else if (lasts) {
		torture_error(session, "read_begin returned inside an open range");
	} else {
		torture_count(WAITS);
	}
	return seq;
}

/* The mmap_lock is held. */
static int torture_look_up(struct torture_interval *interval, unsigned long seq,
			   unsigned int first, unsigned int nr, unsigned long flags,
			   unsigned long *pfns)
{
	struct hmm_range range = {
		.notifier = &interval->mni,
		.notifier_seq = seq,
		.start = window_start(interval) + first * PAGE_SIZE,
		.hmm_pfns = pfns,
		.default_flags = flags,
	};

	range.end = range.start + nr * PAGE_SIZE;
	return hmm_range_fault(&range);
}

/* Map what was looked up, unless it has to be retried. */
static bool torture_map(struct torture_interval *interval, unsigned long seq,
			unsigned int first, unsigned int nr, const unsigned long *pfns)
{
	unsigned int i;

	guard(mutex)(&interval->slot->device);
	if (mmu_interval_read_retry(&interval->mni, seq)) {
		torture_count(RETRIES);
		return false;
	}
	for (i = 0; i < nr; i++)
		if (pfns[i] & HMM_PFN_VALID)
			interval->pfns[first + i] = pfns[i];
	torture_count(FAULTS);
	return true;
}

static void torture_fault(struct torture_interval *interval, struct rnd_state *rnd)
{
	unsigned long pfns[TORTURE_FAULT_PAGES], seq, flags = HMM_PFN_REQ_FAULT;
	struct mm_struct *mm = interval->sub.session->mm;
	unsigned int tries, first, nr;
	int ret;

	first = prandom_u32_state(rnd) % window_pages(interval);
	nr = min(window_pages(interval) - first,
		 prandom_u32_state(rnd) % TORTURE_FAULT_PAGES + 1);
	if (prandom_u32_state(rnd) % 2)
		flags |= HMM_PFN_REQ_WRITE;
	for (tries = 0; tries < TORTURE_TRIES; tries++) {
		memset(pfns, 0, sizeof(pfns));
		seq = torture_read_begin(interval);
		mmap_read_lock(mm);
		ret = torture_look_up(interval, seq, first, nr, flags, pfns);
		mmap_read_unlock(mm);
		if (ret == -EBUSY) {
			torture_count(RETRIES);
			continue;
		}
		if (ret) {
			torture_count(FAULT_FAILURES);
			return;
		}
		if (prandom_u32_state(rnd) % 4 == 0)
			usleep_range(10, 200);
		if (torture_map(interval, seq, first, nr, pfns))
			return;
	}
}

/* Do the page tables still have this frame and grant these rights? */
static bool torture_agrees(unsigned long mapped, unsigned long now)
{
	const unsigned long frame = (1UL << HMM_PFN_ORDER_SHIFT) - 1;

	if (!mapped)
		return true;
	if (!(now & HMM_PFN_VALID) || ((mapped ^ now) & frame))
		return false;
	return !(mapped & HMM_PFN_WRITE) || now & HMM_PFN_WRITE;
}

/* Compare with the page tables while no range is open. */
static void torture_validate(struct torture_interval *interval)
{
	unsigned long pfns[TORTURE_WINDOW] = {}, seq;
	struct mm_struct *mm = interval->sub.session->mm;
	unsigned int i, nr = window_pages(interval);
	int ret;

	seq = torture_read_begin(interval);
	/*
	 * For write: munmap takes VMAs away, goes on with the lock for read, and
	 * only then announces that it clears the page tables. In between, the
	 * device is right and a look-up finds no VMA.
	 */
	mmap_write_lock(mm);
	ret = torture_look_up(interval, seq, 0, nr, 0, pfns);
	mmap_write_unlock(mm);
	if (ret)
		return;

	guard(mutex)(&interval->slot->device);
	if (mmu_interval_read_retry(&interval->mni, seq))
		return;
	for (i = 0; i < nr; i++) {
		if (interval->pfns[i])
			torture_count(VALIDATIONS);
		if (torture_agrees(interval->pfns[i], pfns[i]))
			continue;
		torture_error(interval->sub.session,
			      "the device has %#lx where the page tables have %#lx",
			      interval->pfns[i], pfns[i]);
		return;
	}
}

/* A page that the device has mapped must not be free. */
static void torture_touch(struct torture_interval *interval)
{
	unsigned int i;

	guard(mutex)(&interval->slot->device);
	for (i = 0; i < TORTURE_WINDOW; i++) {
		if (!interval->pfns[i] ||
		    folio_ref_count(page_folio(hmm_pfn_to_page(interval->pfns[i]))) > 0)
			continue;
		torture_error(interval->sub.session, "the device has a free page mapped");
		return;
	}
}

/* One step of the device thread. */
void torture_device_step(struct torture_session *session, struct rnd_state *rnd)
{
	struct torture_slot *slot =
		&session->slots[prandom_u32_state(rnd) % TORTURE_SLOTS * 2 + 1];
	struct torture_interval *interval;
	u32 drawn = prandom_u32_state(rnd) % 3;

	if (!mutex_trylock(&slot->life))
		return;
	interval = slot->interval;
	if (interval)
		torture_touch(interval);
	if (interval && mmget_not_zero(session->mm)) {
		if (drawn)
			torture_fault(interval, rnd);
		else
			torture_validate(interval);
		mmput(session->mm);
	}
	mutex_unlock(&slot->life);
}
