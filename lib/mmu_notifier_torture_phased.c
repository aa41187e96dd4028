// SPDX-License-Identifier: GPL-2.0
/*
 * MMU notifier torture: interval notifiers with two phases. The first notes that the
 * range came, the second takes away what the device has mapped.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/cleanup.h>
#include <linux/slab.h>

#include "mmu_notifier_torture_session.h"

/* What a notifier with two phases has left to do for one range. */
struct torture_posted {
	struct mmu_interval_notifier_finish finish;
	struct mmu_notifier_range range;
};

static bool torture_post(struct mmu_interval_notifier *mni,
			 const struct mmu_notifier_range *range, unsigned long seq,
			 struct mmu_interval_notifier_finish **finish)
{
	struct torture_interval *interval = torture_to_interval(mni);
	struct torture_posted *posted = NULL;

	if (mmu_notifier_range_blockable(range))
		posted = kmalloc(sizeof(*posted), GFP_NOWAIT | __GFP_NOWARN);
	if (!posted)
		return torture_invalidate(mni, range, seq);

	torture_enter(&interval->sub, "invalidate_start");
	torture_count(POSTED);
	torture_copy_range(&posted->range, range);
	scoped_guard(mutex, &interval->slot->device) {
		torture_note_seq(interval, seq);
		mmu_interval_set_seq(mni, seq);
		if (range->owner)
			WRITE_ONCE(interval->heard, (unsigned long)range->owner);
	}
	*finish = &posted->finish;
	torture_leave(&interval->sub, "invalidate_start");
	return true;
}

static void torture_finish(struct mmu_interval_notifier_finish *finish)
{
	struct torture_posted *posted = container_of(finish, struct torture_posted, finish);
	struct torture_interval *interval = torture_to_interval(finish->notifier);

	torture_enter(&interval->sub, "invalidate_finish");
	torture_dawdle(interval->sub.session, &posted->range);
	scoped_guard(mutex, &interval->slot->device)
		torture_drop(interval, &posted->range);
	kfree(posted);
	torture_leave(&interval->sub, "invalidate_finish");
}

const struct mmu_interval_notifier_ops torture_phased_ops = {
	.invalidate_start = torture_post,
	.invalidate_finish = torture_finish,
};
