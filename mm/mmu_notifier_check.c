// SPDX-License-Identifier: GPL-2.0
/*
 * DEBUG_MMU_NOTIFIER, coverage: is every change that takes rights away inside of
 * a range that its task has announced? Lockdep for MMU notifiers.
 *
 * The primitives that write a page table entry call mmu_notifier_check_change()
 * before they do (the hooks are those of x86-64). Most changes end there: the
 * entry grants nothing, or an active range covers it. Any other is recorded,
 * with the value that the entry had before the section of the page-table lock
 * began to change it, and is judged when that lock is released: what counts is
 * the net change, since many primitives clear an entry only to set it again
 * with more rights. A net change is restrictive if the entry leads to another
 * page or to none, or can no longer be read, written or executed from; or if
 * it stays writable and is no longer dirty, so that a device would go on
 * writing to a page that counts as clean.
 *
 * A covering range must belong to the task itself. Ranges are announced and
 * ended by the task that makes the change, so this is no restriction, and a
 * range of another thread that happens to overlap hides nothing.
 *
 * Not judged: address spaces without VMAs (kernel, EFI, text poking), addresses
 * above user space, entries of tables that are not installed (any more), the
 * accessed bit. Tables that are freed are empty by then. A table that is
 * unhooked with entries in it counts as those entries.
 *
 * To see the checker work, write the name of a function to mmu_notifier/suppress
 * in debugfs: ranges that this function announces then cover nothing here,
 * though subscribers are told as ever. What is found missing because of that is
 * counted in mmu_notifier/coverage instead of warned about.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/debugfs.h>
#include <linux/export.h>
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/mmu_notifier_check.h>
#include <linux/percpu.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "mmu_notifier.h"

/* Uncovered changes of one section; more of them would not be news. */
#define MMU_CHECK_MAX_CHANGES	64

enum mmu_check_level { MMU_CHECK_PTE, MMU_CHECK_PMD, MMU_CHECK_PUD, MMU_CHECK_NONE };

/**
 * struct mmu_check_change - an entry that the current section changes
 * @mm: whose entry
 * @entry: the entry
 * @old: its value before the section changed it
 * @level: which table it is in
 * @start: first address of what @old grants
 * @end: first address behind that
 * @ptl: the lock that the judgement waits for
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
	spinlock_t *ptl;	/* not ours: the page table's */
	unsigned long ip;
	const char *site;
};

/*
 * Page-table locks keep the task on its CPU until they are released. Interrupts
 * do not change user page tables; they pass by here only to release locks of
 * their own.
 */
struct mmu_check_section {
	unsigned int nr;
	struct mmu_check_change changes[MMU_CHECK_MAX_CHANGES];
};

static DEFINE_PER_CPU(struct mmu_check_section, mmu_check_section);

enum mmu_check_count {
	MMU_CHECK_COVERED,	/* granted something, and a range covers it */
	MMU_CHECK_JUDGED,	/* recorded, and judged at the unlock */
	MMU_CHECK_UNLOCKED,	/* changed without its lock: judged as cleared */
	MMU_CHECK_DROPPED,	/* not recorded, for want of room */
	MMU_CHECK_MISSED,	/* restrictive and not covered: a bug */
	MMU_CHECK_CAUGHT,	/* the same, because of a suppressed range */
	MMU_CHECK_NR_COUNTS
};

static const char * const mmu_check_count_names[] = {
	"covered", "judged", "unlocked", "dropped", "missed", "caught",
};

static DEFINE_PER_CPU(unsigned long [MMU_CHECK_NR_COUNTS], mmu_check_counts);

static char mmu_check_suppressed[64];

/* What an entry lets its user do. */
struct mmu_check_rights {
	bool read;
	bool write;
	bool exec;
	bool dirty;
	unsigned long pfn;
};

static bool mmu_check_is_table(unsigned long val, enum mmu_check_level level)
{
	return level > MMU_CHECK_PTE && (val & _PAGE_PRESENT) && !(val & _PAGE_PSE);
}

static unsigned long mmu_check_size(enum mmu_check_level level)
{
	static const unsigned long sizes[] = { PAGE_SIZE, PMD_SIZE, PUD_SIZE };

	return sizes[level];
}

/* The entries of all levels share the bits that matter. */
static struct mmu_check_rights mmu_check_decode(unsigned long val,
						enum mmu_check_level level)
{
	struct mmu_check_rights rights = {};
	pte_t pte = __pte(val);

	if (!(val & _PAGE_PRESENT) || mmu_check_is_table(val, level))
		return rights;
	rights.read = true;
	rights.write = pte_write(pte);
	rights.exec = pte_exec(pte);
	rights.dirty = pte_dirty(pte);
	rights.pfn = level == MMU_CHECK_PTE ? pte_pfn(pte) :
		     level == MMU_CHECK_PMD ? pmd_pfn(__pmd(val)) :
					      pud_pfn(__pud(val));
	return rights;
}

static bool mmu_check_loses(struct mmu_check_rights old, struct mmu_check_rights new)
{
	if (!old.read)
		return false;
	return !new.read || new.pfn != old.pfn || (old.write && !new.write) ||
	       (old.exec && !new.exec) ||
	       (old.write && old.dirty && !new.dirty);
}

static const unsigned long *mmu_check_table(unsigned long val,
					    enum mmu_check_level level)
{
	return (void *)(level == MMU_CHECK_PMD ? pmd_page_vaddr(__pmd(val)) :
			(unsigned long)pud_pgtable(__pud(val)));
}

/* Does the table that now stands in for a huge entry grant less anywhere? */
static bool mmu_check_split_loses(struct mmu_check_rights old, unsigned long new,
				  enum mmu_check_level level)
{
	const unsigned long *table = mmu_check_table(new, level);
	unsigned long step = mmu_check_size(level - 1) >> PAGE_SHIFT;
	unsigned int i;

	for (i = 0; i < PTRS_PER_PTE; i++, old.pfn += step) {
		unsigned long val = READ_ONCE(table[i]);

		if (mmu_check_is_table(val, level - 1)) {
			if (mmu_check_split_loses(old, val, level - 1))
				return true;
		} else if (mmu_check_loses(old, mmu_check_decode(val, level - 1))) {
			return true;
		}
	}
	return false;
}

static bool mmu_check_restrictive(const struct mmu_check_change *change,
				  unsigned long new)
{
	struct mmu_check_rights old;

	if (mmu_check_is_table(change->old, change->level))
		return !mmu_check_is_table(new, change->level) ||
		       mmu_check_table(new, change->level) !=
		       mmu_check_table(change->old, change->level);
	old = mmu_check_decode(change->old, change->level);
	if (mmu_check_is_table(new, change->level))
		return mmu_check_split_loses(old, new, change->level);
	return mmu_check_loses(old, mmu_check_decode(new, change->level));
}

static void mmu_check_report(const struct mmu_check_change *change,
			     unsigned long new)
{
	if (change->site) {
		this_cpu_inc(mmu_check_counts[MMU_CHECK_CAUGHT]);
		return;
	}
	this_cpu_inc(mmu_check_counts[MMU_CHECK_MISSED]);
	WARN_ONCE(1, "mmu_notifier: [%#lx, %#lx) of mm %p lost rights without a range: level %d, %#lx -> %#lx, changed by %pS\n",
		  change->start, change->end, change->mm, change->level,
		  change->old, new, (void *)change->ip);
}

/* Where is @entry in the page tables, if it is the one for @addr? */
static enum mmu_check_level mmu_check_find(struct mm_struct *mm, unsigned long addr,
					   const void *entry)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;
	pud_t *pud;
	pmd_t *pmd;

	if (pgd_none(*pgd) || pgd_bad(*pgd))
		return MMU_CHECK_NONE;
	p4d = p4d_offset(pgd, addr);
	if (p4d_none(*p4d) || p4d_bad(*p4d))
		return MMU_CHECK_NONE;
	pud = pud_offset(p4d, addr);
	if (pud == entry)
		return MMU_CHECK_PUD;
	if (!mmu_check_is_table(pud_val(READ_ONCE(*pud)), MMU_CHECK_PUD))
		return MMU_CHECK_NONE;
	pmd = pmd_offset(pud, addr);
	if (pmd == entry)
		return MMU_CHECK_PMD;
	if (!mmu_check_is_table(pmd_val(READ_ONCE(*pmd)), MMU_CHECK_PMD))
		return MMU_CHECK_NONE;
	return pte_offset_kernel(pmd, addr) == entry ? MMU_CHECK_PTE : MMU_CHECK_NONE;
}

/* The addresses to which @val, an entry for @addr, grants access; false: none. */
static bool mmu_check_extent(unsigned long val, enum mmu_check_level level,
			     unsigned long addr, unsigned long *start,
			     unsigned long *end)
{
	unsigned long size = mmu_check_size(level);
	const unsigned long *table;
	unsigned int i;

	addr = round_down(addr, size);
	if (!mmu_check_is_table(val, level)) {
		*start = min(*start, addr);
		*end = max(*end, addr + size);
		return val & _PAGE_PRESENT;
	}
	table = mmu_check_table(val, level);
	size = mmu_check_size(level - 1);
	for (i = 0; i < PTRS_PER_PTE; i++, addr += size)
		if (READ_ONCE(table[i]) & _PAGE_PRESENT)
			mmu_check_extent(READ_ONCE(table[i]), level - 1, addr,
					 start, end);
	return *start < *end;
}

/* Is it inside of a range of this task? Else *@site is a suppressed one. */
static bool mmu_check_covered(struct mm_struct *mm, unsigned long start,
			      unsigned long end, const char **site)
{
	const struct mmu_notifier_range *range;

	*site = NULL;
	for (range = current->mmu_notifier_ranges; range; range = range->frozen.outer) {
		if (range->mm != mm || range->start > start || range->end < end)
			continue;
		/* Announces that nothing is taken away: so it allows nothing. */
		if (range->event == MMU_NOTIFY_SPLIT)
			continue;
		if (!range->frozen.suppressed)
			return true;
		*site = range->frozen.site;
	}
	return false;
}

static spinlock_t *mmu_check_ptl(struct mm_struct *mm, const void *entry,
				 enum mmu_check_level level)
{
	switch (level) {
	case MMU_CHECK_PTE:
		return ptep_lockptr(mm, (pte_t *)entry);
	case MMU_CHECK_PMD:
		return pmd_lockptr(mm, (pmd_t *)entry);
	default:
		return pud_lockptr(mm, (pud_t *)entry);
	}
}

static void mmu_check_record(const struct mmu_check_change *change)
{
	struct mmu_check_section *section = this_cpu_ptr(&mmu_check_section);
	unsigned int i;

	for (i = 0; i < section->nr; i++)
		if (section->changes[i].entry == change->entry)
			return;
	if (section->nr == MMU_CHECK_MAX_CHANGES) {
		/* Without a site that is suppressed it could be a bug. */
		if (!change->site)
			this_cpu_inc(mmu_check_counts[MMU_CHECK_DROPPED]);
		return;
	}
	section->changes[section->nr++] = *change;
}

/**
 * mmu_notifier_check_change() - an entry is about to be written
 * @mm: whose page tables it is in
 * @addr: an address that it maps
 * @entry: the entry, of any level; still the old value
 *
 * Context: any in which page tables are changed.
 */
void mmu_notifier_check_change(struct mm_struct *mm, unsigned long addr,
			       const void *entry)
{
	struct mmu_check_change change = {
		.mm = mm, .entry = entry, .ip = _RET_IP_, .start = ULONG_MAX,
	};

	if (mm == &init_mm || !mm->map_count || addr >= TASK_SIZE_MAX)
		return;
	change.old = READ_ONCE(*change.entry);
	if (!(change.old & _PAGE_PRESENT))
		return;
	change.level = mmu_check_find(mm, addr, entry);
	if (change.level == MMU_CHECK_NONE ||
	    !mmu_check_extent(change.old, change.level, addr, &change.start, &change.end))
		return;
	if (mmu_check_covered(mm, change.start, change.end, &change.site)) {
		this_cpu_inc(mmu_check_counts[MMU_CHECK_COVERED]);
		return;
	}
	change.ptl = mmu_check_ptl(mm, entry, change.level);
	if (change.ptl->rlock.owner == current) {
		mmu_check_record(&change);
	} else {
		this_cpu_inc(mmu_check_counts[MMU_CHECK_UNLOCKED]);
		mmu_check_report(&change, 0);
	}
}
EXPORT_SYMBOL(mmu_notifier_check_change);

/**
 * mmu_notifier_check_unlock() - a spinlock is about to be released
 * @lock: the raw lock: any of the kernel's
 */
void mmu_notifier_check_unlock(const void *lock)
{
	struct mmu_check_section *section = this_cpu_ptr(&mmu_check_section);
	unsigned int i, kept = 0;

	if (likely(!section->nr))
		return;
	for (i = 0; i < section->nr; i++) {
		struct mmu_check_change *change = &section->changes[i];
		unsigned long new;

		if (&change->ptl->rlock != lock) {
			section->changes[kept++] = *change;
			continue;
		}
		new = READ_ONCE(*change->entry);
		this_cpu_inc(mmu_check_counts[MMU_CHECK_JUDGED]);
		if (mmu_check_restrictive(change, new))
			mmu_check_report(change, new);
	}
	section->nr = kept;
}

/**
 * mmu_notifier_check_suppressed() - does this site count as missing?
 * @site: the function that announces a range
 *
 * Return: true if debugfs says so.
 */
bool mmu_notifier_check_suppressed(const char *site)
{
	return unlikely(mmu_check_suppressed[0]) && !strcmp(site, mmu_check_suppressed);
}

static unsigned long mmu_check_sum(enum mmu_check_count count)
{
	unsigned long sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += per_cpu(mmu_check_counts[count], cpu);
	return sum;
}

static int coverage_show(struct seq_file *m, void *unused)
{
	unsigned int i;

	for (i = 0; i < MMU_CHECK_NR_COUNTS; i++)
		seq_printf(m, "%s %lu\n", mmu_check_count_names[i], mmu_check_sum(i));
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(coverage);

static int suppress_show(struct seq_file *m, void *unused)
{
	seq_printf(m, "%s\n", mmu_check_suppressed);
	return 0;
}

static int suppress_open(struct inode *inode, struct file *file)
{
	return single_open(file, suppress_show, inode->i_private);
}

/* Not atomic for ranges that start meanwhile: they compare unequal. */
static ssize_t suppress_write(struct file *file, const char __user *buf,
			      size_t count, loff_t *ppos)
{
	char name[sizeof(mmu_check_suppressed)] = {};

	if (count >= sizeof(name))
		return -EINVAL;
	if (copy_from_user(name, buf, count))
		return -EFAULT;
	strscpy_pad(mmu_check_suppressed, strim(name));
	return count;
}

static const struct file_operations suppress_fops = {
	.owner = THIS_MODULE,
	.open = suppress_open,
	.read = seq_read,
	.write = suppress_write,
	.llseek = seq_lseek,
	.release = single_release,
};

static int __init mmu_check_debugfs_init(void)
{
	struct dentry *dir = debugfs_create_dir("mmu_notifier", NULL);

	debugfs_create_file("coverage", 0400, dir, NULL, &coverage_fops);
	debugfs_create_file("suppress", 0600, dir, NULL, &suppress_fops);
	return 0;
}
late_initcall(mmu_check_debugfs_init);
