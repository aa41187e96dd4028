// SPDX-License-Identifier: GPL-2.0
/*
 * MMU_NOTIFIER_RECORDER: record the callbacks of MMU notifiers for user space.
 *
 * Each open file of /dev/mmu_notifier_recorder has a list notifier on one mm, initially
 * that of the opener, and on request an interval notifier. Callbacks append records to a
 * buffer, and read() removes them. Records that do not fit and every misuse of a range
 * are counted.
 *
 * Lifetime: the notifiers hold a reference on mm_count, so that the record of an exit can
 * still be read. The mm has no reference to the file. A child that inherits the file
 * shares it, and it continues to record the parent.
 *
 * Locks: @mutex serializes the system calls of one file. Callbacks never take it, so it
 * may be held during faults of the same mm and during unregistration. @lock is innermost:
 * age callbacks run under a page-table lock.
 *
 * Callbacks must not allocate, so the buffer and the table of open ranges have a fixed
 * size and are allocated before the notifiers are registered. The addresses of callers are
 * translated to names when they are read.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/cleanup.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/kallsyms.h>
#include <linux/lockdep.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/ptrace.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/stacktrace.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "mmu_notifier_recorder.h"

/* The frames of the core come first, and are not part of a record. */
#define RECORDER_DEPTH		(MMU_RECORDER_CALLERS + 10)
#define RECORDER_ENTRIES	4096
#define RECORDER_OPEN		128

/*
 * The recorder is also built as a module for kernels with another core. There, a notifier
 * with an end callback must not refuse a range.
 */
#ifdef MMU_NOTIFIER_ARMED
#define RECORDER_MODES		MMU_RECORDER_MODES
#else
#define RECORDER_MODES		(MMU_RECORDER_MODES & ~MMU_RECORDER_REFUSE_NONBLOCK)
#endif

struct recorder_entry {
	u64 seq;
	u64 pair;
	unsigned long start;
	unsigned long end;
	struct task_struct *task;	/* identity only */
	struct mm_struct *mm;		/* identity only */
	u32 kind;
	u32 event;
	u32 flags;
	s32 tid;
	unsigned int nr_callers;
	unsigned long callers[RECORDER_DEPTH];
};

/* A range that has started. @range is only compared, never dereferenced. */
struct recorder_open {
	const struct mmu_notifier_range *range;
	struct recorder_entry began;
};

/* One open file. */
struct recorder {
	struct mmu_notifier list_sub;
	struct mmu_notifier tlb_sub;
	struct mmu_interval_notifier interval_sub;
	struct pid_namespace *pidns;	/* of the opener, for the tids */

	/* Serializes system calls; protects the next two fields. */
	struct mutex mutex;
	bool attached;			/* @list_sub is registered */
	bool has_interval;		/* @interval_sub is inserted */

	u32 mode;			/* read without a lock */

	/* Protects the fields below; taken in callbacks. */
	spinlock_t lock;
	u64 seq;			/* of the last record */
	struct mmu_recorder_stats stats;
	struct recorder_open open[RECORDER_OPEN];	/* unused: no range */
	struct recorder_entry *entries;	/* a ring */
	unsigned long head;		/* number of records appended */
	unsigned long tail;		/* number of records removed */
};

static void recorder_fill(struct recorder *rec, struct recorder_entry *entry,
			  u32 kind, unsigned long start, unsigned long end)
{
	*entry = (struct recorder_entry) {
		.kind = kind,
		.start = start,
		.end = end,
		.task = current,
		.tid = task_pid_nr_ns(current, rec->pidns),
	};
}

static void recorder_fill_range(struct recorder *rec, struct recorder_entry *entry,
				u32 kind, const struct mmu_notifier_range *range)
{
	recorder_fill(rec, entry, kind, range->start, range->end);
	entry->event = range->event;
	entry->mm = range->mm;
	if (mmu_notifier_range_blockable(range))
		entry->flags |= MMU_RECORDER_BLOCKABLE;
	if (range->owner)
		entry->flags |= MMU_RECORDER_OWNER;
	if (kind != MMU_RECORDER_END)
		entry->nr_callers = stack_trace_save(entry->callers,
						     RECORDER_DEPTH, 1);
}

static void recorder_append(struct recorder *rec, const struct recorder_entry *entry)
{
	lockdep_assert_held(&rec->lock);

	if (entry->flags & MMU_RECORDER_ERRORS)
		rec->stats.errors++;
	if (rec->head - rec->tail == RECORDER_ENTRIES) {
		rec->stats.lost++;
		return;
	}
	rec->entries[rec->head % RECORDER_ENTRIES] = *entry;
	rec->head++;
}

static struct recorder_open *recorder_find(struct recorder *rec,
					   const struct mmu_notifier_range *range)
{
	unsigned int i;

	lockdep_assert_held(&rec->lock);

	for (i = 0; i < RECORDER_OPEN; i++)
		if (rec->open[i].range == range)
			return &rec->open[i];
	return NULL;
}

static void recorder_open_range(struct recorder *rec, struct recorder_entry *entry,
				const struct mmu_notifier_range *range)
{
	struct recorder_open *slot = recorder_find(rec, range);

	rec->stats.starts++;
	if (slot) {
		entry->flags |= MMU_RECORDER_REOPENED;
	} else {
		slot = recorder_find(rec, NULL);
		if (!slot) {
			entry->flags |= MMU_RECORDER_UNTRACKED;
			return;
		}
		rec->stats.open++;
		rec->stats.max_open = max(rec->stats.max_open, rec->stats.open);
	}
	slot->range = range;
	slot->began = *entry;
}

static void recorder_close_range(struct recorder *rec, struct recorder_entry *entry,
				 const struct mmu_notifier_range *range)
{
	struct recorder_open *slot = recorder_find(rec, range);
	const struct recorder_entry *began;

	rec->stats.ends++;
	if (!slot) {
		entry->flags |= MMU_RECORDER_UNSTARTED;
		return;
	}
	began = &slot->began;
	entry->pair = began->seq;
	if (began->start != entry->start || began->end != entry->end ||
	    began->event != entry->event || began->mm != entry->mm ||
	    (began->flags ^ entry->flags) & (MMU_RECORDER_BLOCKABLE | MMU_RECORDER_OWNER))
		entry->flags |= MMU_RECORDER_CHANGED;
	if (began->task != entry->task)
		entry->flags |= MMU_RECORDER_FOREIGN;
	slot->range = NULL;
	rec->stats.open--;
}

static int recorder_start(struct mmu_notifier *sub,
			  const struct mmu_notifier_range *range)
{
	struct recorder *rec = container_of(sub, struct recorder, list_sub);
	struct recorder_entry entry;

	recorder_fill_range(rec, &entry, MMU_RECORDER_START, range);

	guard(spinlock)(&rec->lock);
	entry.seq = ++rec->seq;
	entry.pair = entry.seq;
	if (!mmu_notifier_range_blockable(range) &&
	    READ_ONCE(rec->mode) & MMU_RECORDER_REFUSE_NONBLOCK)
		entry.flags |= MMU_RECORDER_REFUSED;
	else
		recorder_open_range(rec, &entry, range);
	recorder_append(rec, &entry);
	return entry.flags & MMU_RECORDER_REFUSED ? -EAGAIN : 0;
}

static void recorder_end(struct mmu_notifier *sub,
			 const struct mmu_notifier_range *range)
{
	struct recorder *rec = container_of(sub, struct recorder, list_sub);
	struct recorder_entry entry;

	recorder_fill_range(rec, &entry, MMU_RECORDER_END, range);

	guard(spinlock)(&rec->lock);
	entry.seq = ++rec->seq;
	recorder_close_range(rec, &entry, range);
	recorder_append(rec, &entry);
}

/* For callbacks without a range. */
static void recorder_note(struct recorder *rec, u32 kind, unsigned long start,
			  unsigned long end)
{
	struct recorder_entry entry;

	recorder_fill(rec, &entry, kind, start, end);

	guard(spinlock)(&rec->lock);
	entry.seq = ++rec->seq;
	if (kind == MMU_RECORDER_RELEASED)
		rec->stats.releases++;
	recorder_append(rec, &entry);
}

static void recorder_released(struct mmu_notifier *sub, struct mm_struct *mm)
{
	recorder_note(container_of(sub, struct recorder, list_sub),
		      MMU_RECORDER_RELEASED, 0, ULONG_MAX);
}

/* Reports no access, so that the recorder does not influence aging. */
static int recorder_young(struct mmu_notifier *sub, struct mm_struct *mm,
			  unsigned long start, unsigned long end)
{
	struct recorder *rec = container_of(sub, struct recorder, list_sub);

	if (READ_ONCE(rec->mode) & MMU_RECORDER_RECORD_YOUNG)
		recorder_note(rec, MMU_RECORDER_YOUNG, start, end);
	return 0;
}

static int recorder_test_young(struct mmu_notifier *sub, struct mm_struct *mm,
			       unsigned long address)
{
	return recorder_young(sub, mm, address, address + 1);
}

static void recorder_tlbs(struct mmu_notifier *sub, struct mm_struct *mm,
			  unsigned long start, unsigned long end)
{
	struct recorder *rec = container_of(sub, struct recorder, tlb_sub);

	if (READ_ONCE(rec->mode) & MMU_RECORDER_RECORD_TLB)
		recorder_note(rec, MMU_RECORDER_TLB, start, end);
}

static const struct mmu_notifier_ops recorder_list_ops = {
	.release = recorder_released,
	.clear_flush_young = recorder_young,
	.clear_young = recorder_young,
	.test_young = recorder_test_young,
	.invalidate_range_start = recorder_start,
	.invalidate_range_end = recorder_end,
};

/* A notifier must not have callbacks for both ranges and TLB flushes. */
static const struct mmu_notifier_ops recorder_tlb_ops = {
	.arch_invalidate_secondary_tlbs = recorder_tlbs,
};

static bool recorder_invalidate(struct mmu_interval_notifier *interval_sub,
				const struct mmu_notifier_range *range,
				unsigned long cur_seq)
{
	struct recorder *rec = container_of(interval_sub, struct recorder,
					    interval_sub);
	struct recorder_entry entry;

	recorder_fill_range(rec, &entry, MMU_RECORDER_INTERVAL, range);

	guard(spinlock)(&rec->lock);
	mmu_interval_set_seq(interval_sub, cur_seq);
	entry.seq = ++rec->seq;
	rec->stats.intervals++;
	recorder_append(rec, &entry);
	return true;
}

static const struct mmu_interval_notifier_ops recorder_interval_ops = {
	.invalidate = recorder_invalidate,
};

/*
 * The name of the function that contains a return address, without the offset and
 * without the suffix that the compiler adds to clones.
 */
static void recorder_name(char *name, size_t size, unsigned long address)
{
	snprintf(name, size, "%ps", (void *)(address - 1));
	name[strcspn(name, ".")] = '\0';
}

/* The caller of these is the call site. Some are missing: the compiler optimises tail calls. */
static bool recorder_is_entry(const char *name)
{
	static const char * const entries[] = {
		"__mmu_notifier_invalidate_range_start", "__mmu_notifier_release",
	};

	return str_has_prefix(name, "mmu_range_") || str_has_prefix(name, "mmu_interval") ||
	       match_string(entries, ARRAY_SIZE(entries), name) >= 0;
}

static void recorder_name_callers(struct mmu_recorder_record *record,
				  const struct recorder_entry *entry)
{
	unsigned int i, nr = 0;
	bool outside = false;
	char name[KSYM_SYMBOL_LEN];

	for (i = 0; i < entry->nr_callers && nr < MMU_RECORDER_CALLERS; i++) {
		recorder_name(name, sizeof(name), entry->callers[i]);
		if (recorder_is_entry(name))
			outside = true;
		else if (outside)
			strscpy(record->caller[nr++], name, MMU_RECORDER_NAME_LEN);
	}
}

static void recorder_export(struct mmu_recorder_record *record,
			    const struct recorder_entry *entry)
{
	*record = (struct mmu_recorder_record) {
		.seq = entry->seq,
		.pair = entry->pair,
		.start = entry->start,
		.end = entry->end,
		.kind = entry->kind,
		.event = entry->event,
		.flags = entry->flags,
		.tid = entry->tid,
	};
	recorder_name_callers(record, entry);
}

/* Copy the oldest record without removing it. Returns false if there is none. */
static bool recorder_peek(struct recorder *rec, struct recorder_entry *entry)
{
	guard(spinlock)(&rec->lock);
	if (rec->head == rec->tail)
		return false;
	*entry = rec->entries[rec->tail % RECORDER_ENTRIES];
	return true;
}

static ssize_t recorder_read_one(struct recorder *rec, char __user *buf)
{
	struct mmu_recorder_record record;
	struct recorder_entry entry;

	if (!recorder_peek(rec, &entry))
		return 0;
	recorder_export(&record, &entry);
	/* May fault and append records. Only the holder of the mutex removes them. */
	if (copy_to_user(buf, &record, sizeof(record)))
		return -EFAULT;
	guard(spinlock)(&rec->lock);
	rec->tail++;
	return sizeof(record);
}

/* Reads whole records. Returns 0 if there are none, without waiting. */
static ssize_t recorder_read(struct file *file, char __user *buf, size_t len,
			     loff_t *pos)
{
	struct recorder *rec = file->private_data;
	ssize_t ret = 0, done = 0;

	if (len < sizeof(struct mmu_recorder_record))
		return -EINVAL;
	guard(mutex)(&rec->mutex);
	while (len - done >= sizeof(struct mmu_recorder_record)) {
		ret = recorder_read_one(rec, buf + done);
		if (ret <= 0)
			break;
		done += ret;
		cond_resched();
	}
	return done ?: ret;
}

static long recorder_clear(struct recorder *rec)
{
	unsigned int open;

	guard(spinlock)(&rec->lock);
	open = rec->stats.open;
	rec->tail = rec->head;
	rec->stats = (struct mmu_recorder_stats) {
		.open = open,
		.max_open = open,
		.carried = open,
	};
	return 0;
}

static long recorder_get_stats(struct recorder *rec, void __user *arg)
{
	struct mmu_recorder_stats stats;

	scoped_guard(spinlock, &rec->lock) {
		stats = rec->stats;
		stats.unread = rec->head - rec->tail;
	}
	return copy_to_user(arg, &stats, sizeof(stats)) ? -EFAULT : 0;
}

static void recorder_remove_interval(struct recorder *rec)
{
	lockdep_assert_held(&rec->mutex);

	if (rec->has_interval)
		mmu_interval_notifier_remove(&rec->interval_sub);
	rec->has_interval = false;
}

static long recorder_set_interval(struct recorder *rec, void __user *arg)
{
	struct mmu_recorder_interval interval;
	int ret;

	if (copy_from_user(&interval, arg, sizeof(interval)))
		return -EFAULT;
	recorder_remove_interval(rec);
	if (!interval.length)
		return 0;
	if (!rec->attached)
		return -ESRCH;
	ret = mmu_interval_notifier_insert(&rec->interval_sub, rec->list_sub.mm,
					   interval.start, interval.length,
					   &recorder_interval_ops);
	rec->has_interval = !ret;
	return ret;
}

static long recorder_set_mode(struct recorder *rec, void __user *arg)
{
	u32 mode;

	if (get_user(mode, (u32 __user *)arg))
		return -EFAULT;
	if (mode & ~MMU_RECORDER_MODES)
		return -EINVAL;
	if (mode & ~RECORDER_MODES)
		return -EOPNOTSUPP;
	WRITE_ONCE(rec->mode, mode);
	return 0;
}

static void recorder_detach(struct recorder *rec)
{
	recorder_remove_interval(rec);
	if (!rec->attached)
		return;
	mmu_notifier_unregister(&rec->tlb_sub, rec->tlb_sub.mm);
	mmu_notifier_unregister(&rec->list_sub, rec->list_sub.mm);
	rec->attached = false;

	/* The end callback will not be called for ranges that are open now. */
	guard(spinlock)(&rec->lock);
	memset(rec->open, 0, sizeof(rec->open));
	rec->stats.open = 0;
}

/* The caller holds a reference on mm_users. */
static int recorder_attach_mm(struct recorder *rec, struct mm_struct *mm)
{
	int ret;

	rec->list_sub.ops = &recorder_list_ops;
	ret = mmu_notifier_register(&rec->list_sub, mm);
	if (ret)
		return ret;
	rec->tlb_sub.ops = &recorder_tlb_ops;
	ret = mmu_notifier_register(&rec->tlb_sub, mm);
	if (ret)
		mmu_notifier_unregister(&rec->list_sub, mm);
	rec->attached = !ret;
	return ret;
}

static struct mm_struct *recorder_find_mm(s32 pid)
{
	struct task_struct *task = find_get_task_by_vpid(pid);
	struct mm_struct *mm;

	if (!task)
		return ERR_PTR(-ESRCH);
	mm = mm_access(task, PTRACE_MODE_ATTACH_REALCREDS);
	put_task_struct(task);
	return mm ?: ERR_PTR(-ESRCH);
}

static long recorder_attach(struct recorder *rec, void __user *arg)
{
	struct mm_struct *mm;
	s32 pid;
	int ret;

	if (get_user(pid, (s32 __user *)arg))
		return -EFAULT;
	mm = recorder_find_mm(pid);
	if (IS_ERR(mm))
		return PTR_ERR(mm);
	recorder_detach(rec);
	recorder_clear(rec);
	ret = recorder_attach_mm(rec, mm);
	mmput(mm);
	return ret;
}

static long recorder_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct recorder *rec = file->private_data;
	void __user *uarg = (void __user *)arg;

	guard(mutex)(&rec->mutex);
	switch (cmd) {
	case MMU_RECORDER_CLEAR:
		return recorder_clear(rec);
	case MMU_RECORDER_GET_STATS:
		return recorder_get_stats(rec, uarg);
	case MMU_RECORDER_SET_INTERVAL:
		return recorder_set_interval(rec, uarg);
	case MMU_RECORDER_SET_MODE:
		return recorder_set_mode(rec, uarg);
	case MMU_RECORDER_ATTACH:
		return recorder_attach(rec, uarg);
	default:
		return -ENOTTY;
	}
}

static void recorder_free(struct recorder *rec)
{
	put_pid_ns(rec->pidns);
	kvfree(rec->entries);
	kvfree(rec);
}

static struct recorder *recorder_alloc(void)
{
	struct recorder *rec = kvzalloc(sizeof(*rec), GFP_KERNEL_ACCOUNT);

	if (!rec)
		return NULL;
	rec->entries = kvcalloc(RECORDER_ENTRIES, sizeof(*rec->entries),
				GFP_KERNEL_ACCOUNT);
	rec->pidns = get_pid_ns(task_active_pid_ns(current));
	mutex_init(&rec->mutex);
	spin_lock_init(&rec->lock);
	if (rec->entries)
		return rec;
	recorder_free(rec);
	return NULL;
}

static int recorder_open(struct inode *inode, struct file *file)
{
	struct recorder *rec;
	int ret;

	/* A kernel thread has no mm to record. */
	if (!current->mm)
		return -EINVAL;
	rec = recorder_alloc();
	if (!rec)
		return -ENOMEM;
	ret = recorder_attach_mm(rec, current->mm);
	if (ret)
		recorder_free(rec);
	file->private_data = rec;
	return ret ?: stream_open(inode, file);
}

static int recorder_release(struct inode *inode, struct file *file)
{
	struct recorder *rec = file->private_data;

	scoped_guard(mutex, &rec->mutex)
		recorder_detach(rec);
	recorder_free(rec);
	return 0;
}

static const struct file_operations recorder_fops = {
	.owner = THIS_MODULE,
	.open = recorder_open,
	.release = recorder_release,
	.read = recorder_read,
	.unlocked_ioctl = recorder_ioctl,
};

static struct miscdevice recorder_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "mmu_notifier_recorder",
	.fops = &recorder_fops,
	.mode = 0600,
};

builtin_misc_device(recorder_device);
