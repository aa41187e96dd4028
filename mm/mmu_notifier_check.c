// SPDX-License-Identifier: GPL-2.0
/*
 * DEBUG_MMU_NOTIFIER_COVERAGE: is every change that takes rights away inside of a
 * range that its task has announced? Lockdep for MMU notifiers.
 *
 * The primitives that write a page table entry call mmu_notifier_check_change()
 * before they do. Most changes end there: the entry grants nothing, or active
 * ranges cover it. Any other is recorded, with the value that the entry had before
 * the section of the page-table lock began to change it, and is judged when that
 * lock is released: what counts is the net change, since many primitives clear an
 * entry only to set it again with more rights. A net change is restrictive if the
 * entry leads to another page or to none, or can no longer be accessed, written or
 * executed from; or if it stays writable and is no longer dirty, so that a device
 * would go on writing to a page that counts as clean.
 *
 * The release is that of lockdep's tracepoint lock_release, which is called while
 * the lock is still held, for every kind of spinlock. Lockdep also says whether a
 * task holds the lock. After its first report lockdep says nothing any more, and
 * neither does this.
 *
 * A covering range must belong to the task itself. Ranges are announced and
 * ended by the task that makes the change, so this is no restriction, and a
 * range of another thread that happens to overlap hides nothing.
 *
 * Not judged: address spaces without VMAs (kernel, EFI, text poking), addresses
 * above user space, entries of tables that are not installed (any more), the
 * accessed bit. A table that is unhooked with entries in it counts as those entries.
 *
 * To see the checker work, write the name of a function to mmu_notifier/suppress
 * in debugfs: ranges that this function announces then cover nothing here,
 * though subscribers are told as ever. What is found missing because of that is
 * counted in mmu_notifier/coverage instead of warned about.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/export.h>
#include <linux/init.h>
#include <linux/irqflags.h>
#include <linux/lockdep.h>
#include <linux/mm.h>
#include <linux/mmu_notifier_check.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <trace/events/lock.h>

#include "mmu_notifier.h"
#include "mmu_notifier_check.h"

/*
 * Uncovered changes that are recorded at a time: those that a section has made and
 * not yet undone. The most that is known to be undone late is a contiguous set of
 * arm64, which is 128 entries at most.
 */
#define MMU_CHECK_MAX_CHANGES	128

/**
 * struct mmu_check_change - an entry that a section changes
 * @mm: whose entry
 * @entry: the entry
 * @old: its value before the section changed it
 * @level: which table it is in
 * @start: first address of what @old grants
 * @end: first address past that
 * @ptl: the page-table lock; the change is judged when it is released
 * @ip: who changed it first
 * @site: the suppressed range that would have covered it, or NULL
 */
struct mmu_check_change {
	struct mm_struct *mm;
	const unsigned long *entry;
	unsigned long old;
	enum mmu_check_level level;
	unsigned long start;
	unsigned long end;
	spinlock_t *ptl;	/* see above */
	unsigned long ip;
	const char *site;
};

/*
 * A section does not leave its CPU. With PREEMPT_RT it can be preempted, so that
 * records of several tasks are here: each belongs to the holder of its ptl.
 * Accessed with interrupts off, and never from an NMI.
 */
struct mmu_check_section {
	unsigned int nr;
	struct mmu_check_change changes[MMU_CHECK_MAX_CHANGES];
};

static DEFINE_PER_CPU(struct mmu_check_section, mmu_check_section);

/* The probe is called: whatever is recorded from now on is judged. */
static bool mmu_check_ready __ro_after_init;

static void mmu_check_report(const struct mmu_check_change *change,
			     unsigned long new)
{
	if (change->site) {
		mmu_check_inc(MMU_CHECK_CAUGHT);
		return;
	}
	mmu_check_inc(MMU_CHECK_MISSED);
	WARN_ONCE(1, "mmu_notifier: [%#lx, %#lx) of mm %p lost rights without a range: level %d, %#lx -> %#lx, changed by %pS\n",
		  change->start, change->end, change->mm, change->level,
		  change->old, new, (void *)change->ip);
}

/* Record it, unless an earlier change of the same entry is. False: no room. */
static bool mmu_check_put(const struct mmu_check_change *change)
{
	struct mmu_check_section *section;
	unsigned long flags;
	unsigned int i;
	bool put = true;

	raw_local_irq_save(flags);
	section = this_cpu_ptr(&mmu_check_section);
	for (i = 0; i < section->nr; i++)
		if (section->changes[i].entry == change->entry)
			goto out;
	put = section->nr < MMU_CHECK_MAX_CHANGES;
	if (put)
		section->changes[section->nr++] = *change;
out:
	raw_local_irq_restore(flags);
	return put;
}

/* Take a change out that was made under this lock. False: there is none. */
static bool mmu_check_get(const struct lockdep_map *ptl, struct mmu_check_change *change)
{
	struct mmu_check_section *section;
	unsigned long flags;
	bool found = false;
	unsigned int i;

	raw_local_irq_save(flags);
	section = this_cpu_ptr(&mmu_check_section);
	for (i = 0; i < section->nr; i++) {
		found = &section->changes[i].ptl->dep_map == ptl;
		if (!found)
			continue;
		*change = section->changes[i];
		section->changes[i] = section->changes[--section->nr];
		break;
	}
	raw_local_irq_restore(flags);
	return found;
}

/*
 * Under @ptl. A report releases locks of its own, and so comes back here: it finds
 * nothing, as those are not page-table locks.
 */
static void mmu_check_judge(const struct lockdep_map *ptl)
{
	struct mmu_check_change change;
	unsigned long new;

	while (mmu_check_get(ptl, &change)) {
		new = READ_ONCE(*change.entry);
		mmu_check_inc(MMU_CHECK_JUDGED);
		if (mmu_check_restrictive(change.old, new, change.level))
			mmu_check_report(&change, new);
	}
}

/*
 * If there is no room, judge what this section has changed so far as it is now. An
 * entry that has been restored is none to remember, since its next change starts
 * from that. One that still grants less is reported, though this section might yet
 * restore it: rather that than to miss it.
 */
static void mmu_check_record(const struct mmu_check_change *change)
{
	if (mmu_check_put(change))
		return;
	mmu_check_judge(&change->ptl->dep_map);
	if (mmu_check_put(change))
		return;
	/* All of it belongs to other locks. */
	mmu_check_inc(MMU_CHECK_DROPPED);
	pr_warn_once("mmu_notifier: a change of a page table is not judged: no room\n");
}

/*
 * How far from @start do ranges of this task reach, without a gap? *@site is a
 * suppressed one that was needed.
 */
static unsigned long mmu_check_reach(struct mm_struct *mm, unsigned long start,
				     unsigned long end, bool suppressed,
				     const char **site)
{
	const struct mmu_notifier_range *range = current->mmu_notifier_ranges;

	while (range && start < end) {
		/* SPLIT announces that nothing is taken away: so it allows nothing. */
		if (range->mm != mm || range->event == MMU_NOTIFY_SPLIT ||
		    range->start > start || range->end <= start ||
		    (range->frozen.suppressed && !suppressed)) {
			range = range->frozen.outer;
			continue;
		}
		if (range->frozen.suppressed)
			*site = range->frozen.site;
		start = range->end;
		/* An inner one may go on from here. */
		range = current->mmu_notifier_ranges;
	}
	return start;
}

/* Do ranges of this task cover it? Else *@site is one that would, if not suppressed. */
static bool mmu_check_covered(struct mm_struct *mm, unsigned long start,
			      unsigned long end, const char **site)
{
	*site = NULL;
	if (mmu_check_reach(mm, start, end, false, site) >= end)
		return true;
	if (mmu_check_reach(mm, start, end, true, site) < end)
		*site = NULL;
	return false;
}

/* Neither covered nor without effect: record it, if the lock will be released. */
static void mmu_check_uncovered(struct mmu_check_change *change)
{
	change->ptl = mmu_check_ptl(change->mm, change->entry, change->level);
	switch (lockdep_is_held(change->ptl)) {
	case LOCK_STATE_HELD:
		mmu_check_record(change);
		break;
	case LOCK_STATE_NOT_HELD:
		mmu_check_inc(MMU_CHECK_UNLOCKED);
		mmu_check_report(change, 0);
		break;
	default:
		mmu_check_inc(MMU_CHECK_DROPPED);
	}
}

static void mmu_check_one(struct mm_struct *mm, unsigned long addr,
			  const void *entry, unsigned long ip)
{
	struct mmu_check_change change = {
		.mm = mm, .entry = entry, .ip = ip, .start = ULONG_MAX,
	};

	change.old = READ_ONCE(*change.entry);
	/* Of whatever level; tables are present, too. */
	if (!pte_present(__pte(change.old)))
		return;
	change.level = mmu_check_find(mm, addr, entry);
	if (change.level == MMU_CHECK_NONE ||
	    !mmu_check_extent(change.old, change.level, addr, &change.start, &change.end))
		return;
	if (mmu_check_covered(mm, change.start, change.end, &change.site))
		mmu_check_inc(MMU_CHECK_COVERED);
	else
		mmu_check_uncovered(&change);
}

static bool mmu_check_wanted(struct mm_struct *mm, unsigned long addr)
{
	return mmu_check_ready && mm != &init_mm && mm->map_count && addr < TASK_SIZE_MAX;
}

/**
 * mmu_notifier_check_change() - an entry is about to be written
 * @mm: the mm that the page table belongs to
 * @addr: an address that it maps
 * @entry: the entry, of any level; still the old value
 *
 * Context: any in which page tables are changed.
 */
void mmu_notifier_check_change(struct mm_struct *mm, unsigned long addr,
			       const void *entry)
{
	if (mmu_check_wanted(mm, addr))
		mmu_check_one(mm, addr, entry, _RET_IP_);
}
EXPORT_SYMBOL(mmu_notifier_check_change);

/**
 * mmu_notifier_check_ptes() - entries of one table are about to be written
 * @mm: the mm that the page table belongs to
 * @addr: an address that the first one maps
 * @ptep: the first one; of the last level
 * @nr: how many
 *
 * Context: any in which page tables are changed.
 */
void mmu_notifier_check_ptes(struct mm_struct *mm, unsigned long addr,
			     const void *ptep, unsigned int nr)
{
	if (!mmu_check_wanted(mm, addr))
		return;
	for (; nr; nr--, ptep += sizeof(pte_t), addr += PAGE_SIZE)
		mmu_check_one(mm, addr, ptep, _RET_IP_);
}
EXPORT_SYMBOL(mmu_notifier_check_ptes);

/*
 * Of any lock, in any context. Interrupts and NMIs hold no page-table lock; an NMI
 * may have interrupted an access to the records.
 */
static void mmu_check_lock_release(void *unused, struct lockdep_map *lock,
				   unsigned long ip)
{
	if (likely(!this_cpu_read(mmu_check_section.nr)) || in_nmi())
		return;
	mmu_check_judge(lock);
}

static int __init mmu_check_init(void)
{
	int err = register_trace_lock_release(mmu_check_lock_release, NULL);

	if (WARN_ON(err))
		return err;
	mmu_check_ready = true;
	return 0;
}
core_initcall(mmu_check_init);
