// SPDX-License-Identifier: GPL-2.0
/*
 * DEBUG_MMU_NOTIFIER_COVERAGE: check that every change that removes rights is inside a
 * range that its task has announced.
 *
 * The primitives that write a page table entry call mmu_notifier_coverage_change()
 * before they do so. Most changes need nothing more: the entry grants no access, or
 * active ranges cover it. The others are recorded, with the value of the entry before the
 * current critical section of the page-table lock first changed it. They are judged when
 * that lock is released, because many primitives clear an entry temporarily to set it
 * again with more rights. The net change is restrictive if the entry maps another page or
 * none, or can no longer be accessed, written or executed. It is also restrictive if the
 * entry stays writable but is no longer dirty, since a device would continue to write to a
 * page that is considered clean.
 *
 * A probe of lockdep's tracepoint lock_release sees the release. It is called while the
 * lock is still held, for every kind of spinlock. Lockdep also says whether a task holds
 * the lock. After its first report lockdep is off, and changes are no longer judged.
 *
 * A covering range must belong to the same task. The task that makes a change announces
 * it, so this excludes no correct range, and an overlapping range of another thread does
 * not hide a missing one.
 *
 * Not judged: address spaces without VMAs (kernel, EFI, text poking), addresses above user
 * space, entries of tables that are not installed, the accessed bit. Unlinking a table
 * that has entries counts as clearing them.
 *
 * To verify the checker, write the name of a function to mmu_notifier/suppress in debugfs.
 * Ranges that this function announces then do not count as covering, while subscribers are
 * called as usual. Changes that are not covered for this reason are counted in
 * mmu_notifier/coverage, without a warning.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/export.h>
#include <linux/init.h>
#include <linux/irqflags.h>
#include <linux/lockdep.h>
#include <linux/mm.h>
#include <linux/mmu_notifier_coverage.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <trace/events/lock.h>

#include "mmu_notifier.h"
#include "mmu_notifier_coverage.h"

/*
 * Number of uncovered changes that a section may have made and not yet undone. The largest
 * known case is a contiguous set of arm64, of at most 128 entries.
 */
#define MMU_COVERAGE_MAX_CHANGES	128

/**
 * struct mmu_coverage_change - an entry that a section changes
 * @mm: the mm of the entry
 * @entry: the entry
 * @old: its value before the section changed it
 * @level: which table it is in
 * @start: first address of what @old grants
 * @end: first address past that
 * @ptl: the page-table lock; the change is judged when it is released
 * @ip: who changed it first
 * @site: the suppressed range that would have covered it, or NULL
 */
struct mmu_coverage_change {
	struct mm_struct *mm;
	const unsigned long *entry;
	unsigned long old;
	enum mmu_coverage_level level;
	unsigned long start;
	unsigned long end;
	spinlock_t *ptl;	/* see above */
	unsigned long ip;
	const char *site;
};

/*
 * A section stays on its CPU. With PREEMPT_RT it can be preempted, so there can be records
 * of several tasks; each belongs to the holder of its ptl. Accessed with interrupts
 * disabled, and never from an NMI.
 */
struct mmu_coverage_section {
	unsigned int nr;
	struct mmu_coverage_change changes[MMU_COVERAGE_MAX_CHANGES];
};

static DEFINE_PER_CPU(struct mmu_coverage_section, mmu_coverage_section);

/* The probe is registered: changes that are recorded from now on will be judged. */
static bool mmu_coverage_ready __ro_after_init;

static void mmu_coverage_report(const struct mmu_coverage_change *change,
				unsigned long new)
{
	if (change->site) {
		mmu_coverage_inc(MMU_COVERAGE_CAUGHT);
		return;
	}
	mmu_coverage_inc(MMU_COVERAGE_MISSED);
	WARN_ONCE(1, "mmu_notifier: [%#lx, %#lx) of mm %p lost rights without a range: level %d, %#lx -> %#lx, changed by %pS\n",
		  change->start, change->end, change->mm, change->level,
		  change->old, new, (void *)change->ip);
}

/* Record it, unless the entry has a record already. Returns false if there is no room. */
static bool mmu_coverage_put(const struct mmu_coverage_change *change)
{
	struct mmu_coverage_section *section;
	unsigned long flags;
	unsigned int i;
	bool put = true;

	raw_local_irq_save(flags);
	section = this_cpu_ptr(&mmu_coverage_section);
	for (i = 0; i < section->nr; i++)
		if (section->changes[i].entry == change->entry)
			goto out;
	put = section->nr < MMU_COVERAGE_MAX_CHANGES;
	if (put)
		section->changes[section->nr++] = *change;
out:
	raw_local_irq_restore(flags);
	return put;
}

/* Remove one record of this lock. Returns false if there is none. */
static bool mmu_coverage_get(const struct lockdep_map *ptl, struct mmu_coverage_change *change)
{
	struct mmu_coverage_section *section;
	unsigned long flags;
	bool found = false;
	unsigned int i;

	raw_local_irq_save(flags);
	section = this_cpu_ptr(&mmu_coverage_section);
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
 * Under @ptl. A report releases locks too and gets here again, but finds no records,
 * because those are not page-table locks.
 */
static void mmu_coverage_judge(const struct lockdep_map *ptl)
{
	struct mmu_coverage_change change;
	unsigned long new;

	while (mmu_coverage_get(ptl, &change)) {
		new = READ_ONCE(*change.entry);
		mmu_coverage_inc(MMU_COVERAGE_JUDGED);
		if (mmu_coverage_restrictive(change.old, new, change.level))
			mmu_coverage_report(&change, new);
	}
}

/*
 * If there is no room, judge the changes of this section now. An entry that has been
 * restored needs no record: its next change starts from the same value. One that grants
 * less is reported, although the section may still restore it, so that none is missed.
 */
static void mmu_coverage_record(const struct mmu_coverage_change *change)
{
	if (mmu_coverage_put(change))
		return;
	mmu_coverage_judge(&change->ptl->dep_map);
	if (mmu_coverage_put(change))
		return;
	/* All records belong to other locks. */
	mmu_coverage_inc(MMU_COVERAGE_DROPPED);
	pr_warn_once("mmu_notifier: a change of a page table is not judged: no room\n");
}

/*
 * Returns the end of the contiguous area from @start that ranges of this task cover. Sets
 * *@site to that of a suppressed range that was needed for it.
 */
static unsigned long mmu_coverage_reach(struct mm_struct *mm, unsigned long start,
					unsigned long end, bool suppressed,
				     const char **site)
{
	const struct mmu_notifier_range *range = current->mmu_notifier_ranges;

	while (range && start < end) {
		/* SPLIT promises that no rights are removed, so it covers nothing. */
		if (range->mm != mm || range->event == MMU_NOTIFY_SPLIT ||
		    range->start > start || range->end <= start ||
		    (range->frozen.suppressed && !suppressed)) {
			range = range->frozen.outer;
			continue;
		}
		if (range->frozen.suppressed)
			*site = range->frozen.site;
		start = range->end;
		/* A range that was passed over may continue from here. */
		range = current->mmu_notifier_ranges;
	}
	return start;
}

/* If not covered, *@site is that of a suppressed range that would cover it, or NULL. */
static bool mmu_coverage_covered(struct mm_struct *mm, unsigned long start,
				 unsigned long end, const char **site)
{
	*site = NULL;
	if (mmu_coverage_reach(mm, start, end, false, site) >= end)
		return true;
	if (mmu_coverage_reach(mm, start, end, true, site) < end)
		*site = NULL;
	return false;
}

/* Record a change that is not covered, if its lock is held and will be released. */
static void mmu_coverage_uncovered(struct mmu_coverage_change *change)
{
	change->ptl = mmu_coverage_ptl(change->mm, change->entry, change->level);
	switch (lockdep_is_held(change->ptl)) {
	case LOCK_STATE_HELD:
		mmu_coverage_record(change);
		break;
	case LOCK_STATE_NOT_HELD:
		mmu_coverage_inc(MMU_COVERAGE_UNLOCKED);
		mmu_coverage_report(change, 0);
		break;
	default:
		mmu_coverage_inc(MMU_COVERAGE_DROPPED);
	}
}

static void mmu_coverage_one(struct mm_struct *mm, unsigned long addr,
			     const void *entry, unsigned long ip)
{
	struct mmu_coverage_change change = {
		.mm = mm, .entry = entry, .ip = ip, .start = ULONG_MAX,
	};

	change.old = READ_ONCE(*change.entry);
	/* For every level. Entries that point to a table are present, too. */
	if (!pte_present(__pte(change.old)))
		return;
	change.level = mmu_coverage_find(mm, addr, entry);
	if (change.level == MMU_COVERAGE_NONE ||
	    !mmu_coverage_extent(change.old, change.level, addr, &change.start, &change.end))
		return;
	if (mmu_coverage_covered(mm, change.start, change.end, &change.site))
		mmu_coverage_inc(MMU_COVERAGE_COVERED);
	else
		mmu_coverage_uncovered(&change);
}

static bool mmu_coverage_wanted(struct mm_struct *mm, unsigned long addr)
{
	return mmu_coverage_ready && mm != &init_mm && mm->map_count && addr < TASK_SIZE_MAX;
}

/**
 * mmu_notifier_coverage_change() - check an entry that is about to be written
 * @mm: the mm that the page table belongs to
 * @addr: an address that it maps
 * @entry: the entry, of any level, with its old value
 *
 * Context: any in which page tables are changed.
 */
void mmu_notifier_coverage_change(struct mm_struct *mm, unsigned long addr,
				  const void *entry)
{
	if (mmu_coverage_wanted(mm, addr))
		mmu_coverage_one(mm, addr, entry, _RET_IP_);
}
EXPORT_SYMBOL(mmu_notifier_coverage_change);

/**
 * mmu_notifier_coverage_ptes() - check entries of one table that are about to be written
 * @mm: the mm that the page table belongs to
 * @addr: an address that the first one maps
 * @ptep: the first one; of the last level
 * @nr: how many
 *
 * Context: any in which page tables are changed.
 */
void mmu_notifier_coverage_ptes(struct mm_struct *mm, unsigned long addr,
				const void *ptep, unsigned int nr)
{
	if (!mmu_coverage_wanted(mm, addr))
		return;
	for (; nr; nr--, ptep += sizeof(pte_t), addr += PAGE_SIZE)
		mmu_coverage_one(mm, addr, ptep, _RET_IP_);
}
EXPORT_SYMBOL(mmu_notifier_coverage_ptes);

/*
 * Called for every lock in every context. Interrupts and NMIs hold no page-table lock, and
 * an NMI may have interrupted an access to the records.
 */
static void mmu_coverage_lock_release(void *unused, struct lockdep_map *lock,
				      unsigned long ip)
{
	if (likely(!this_cpu_read(mmu_coverage_section.nr)) || in_nmi())
		return;
	mmu_coverage_judge(lock);
}

static int __init mmu_coverage_init(void)
{
	int err = register_trace_lock_release(mmu_coverage_lock_release, NULL);

	if (WARN_ON(err))
		return err;
	mmu_coverage_ready = true;
	return 0;
}
core_initcall(mmu_coverage_init);
