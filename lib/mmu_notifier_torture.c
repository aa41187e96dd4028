// SPDX-License-Identifier: GPL-2.0
/*
 * MMU_NOTIFIER_TORTURE_TEST: random subscribers that check the rules.
 *
 * A process opens /dev/mmu_notifier_torture and specifies an arena of its address space.
 * Until the file is closed, possibly long after the mm has exited, three kernel threads
 * operate on the mm. Meanwhile the process changes its page tables in many ways
 * (tools/testing/selftests/mm/mmu_notifier_torture.c):
 *
 *	subscribe	fills and empties slots with notifiers of both kinds,
 *			gets, puts, synchronizes; and pauses now and then
 *	device		faults pages into a table of its own, with the retry
 *			protocol, and compares it with the page tables
 *	ranges		announces ranges, some of them not blockable, and checks
 *			that exactly the right notifiers were called
 *
 *	mmu_notifier_torture_list.c	list notifiers, registered and shared
 *	mmu_notifier_torture_interval.c	interval notifiers and the device
 *	mmu_notifier_torture_phased.c	interval notifiers with two phases
 *	mmu_notifier_torture_range.c	ranges that the torture announces
 *
 * Checked, whatever the order of events:
 *
 * - No callback of a notifier runs after it was removed, unregistered or freed, or for a
 *   range that does not overlap its interval.
 * - The end callback of a list notifier is called for exactly the ranges that its start
 *   callback accepted, and release is called once. A notifier that is subscribed before a
 *   range starts is called for it. If one refuses a range, it is open for none.
 * - Before a range ends, the device has nothing of it mapped. While no range is open, the
 *   mappings of the device agree with the page tables.
 * - read_begin returns only after all overlapping ranges that were open when it was called
 *   have ended, and waits for nothing else. Registration waits for all ranges that were
 *   open. Every wait ends.
 * - A notifier that was put is freed once, before synchronize returns.
 * - Sequence values are not repeated.
 *
 * Locks: the life lock of a slot is only taken by the threads, and is held during calls
 * that wait for callbacks. The device lock of a slot is the driver's lock of the protocol.
 * Callbacks take it, so nothing is allocated under it.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/cleanup.h>
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/hash.h>
#include <linux/kthread.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "mmu_notifier_torture_session.h"

#define TORTURE_MAX_DEAD	32

atomic64_t torture_counts[MMU_TORTURE_NR_COUNTERS];
static atomic64_t torture_errors;

/* Protects the list of sessions, in which alloc_notifier finds that of its mm. */
static DEFINE_SPINLOCK(torture_sessions_lock);
static LIST_HEAD(torture_sessions);

/* A rule is broken: count it, and report the first ones. */
void torture_error(struct torture_session *session, const char *fmt, ...)
{
	struct va_format vaf;
	va_list args;

	va_start(args, fmt);
	vaf.fmt = fmt;
	vaf.va = &args;
	if (atomic64_inc_return(&torture_errors) == 1)
		WARN(1, "mmu_notifier_torture: %pV (seed %llu)\n", &vaf, session->seed);
	else
		pr_err_ratelimited("mmu_notifier_torture: %pV (seed %llu)\n", &vaf,
				   session->seed);
	va_end(args);
}

struct torture_session *torture_find(struct mm_struct *mm)
{
	struct torture_session *session;

	guard(spinlock)(&torture_sessions_lock);
	list_for_each_entry(session, &torture_sessions, sessions)
		if (session->mm == mm)
			return session;
	return NULL;
}

/* For callbacks. They run in any task, so their order, and what they draw, varies. */
bool torture_chance(struct torture_session *session, unsigned int one_in)
{
	u32 drawn = hash_32(atomic_inc_return(&session->random), 32);

	return (drawn >> 8) % one_in == 0;
}

void torture_sub_init(struct torture_sub *sub, struct torture_session *session)
{
	sub->session = session;
	atomic_set(&sub->running, 0);
	atomic_set(&sub->released, 0);
	/* Before the first callback: what makes it known is ordered after this. */
	WRITE_ONCE(sub->live, true);
}

/* Free @sub only after some more have been removed, so that late callbacks are noticed. */
void torture_bury(struct torture_sub *sub)
{
	struct torture_session *session = sub->session;
	struct torture_sub *old = NULL;
	unsigned long flags;

	spin_lock_irqsave(&session->lock, flags);
	list_add_tail(&sub->quarantine, &session->dead);
	if (session->nr_dead == TORTURE_MAX_DEAD) {
		old = list_first_entry(&session->dead, struct torture_sub, quarantine);
		list_del(&old->quarantine);
	} else {
		session->nr_dead++;
	}
	spin_unlock_irqrestore(&session->lock, flags);
	kfree(old);
}

/* A callback begins. */
void torture_enter(struct torture_sub *sub, const char *callback)
{
	atomic_inc(&sub->running);
	if (!READ_ONCE(sub->live))
		torture_error(sub->session, "%s of a subscriber that left", callback);
}

void torture_leave(struct torture_sub *sub, const char *callback)
{
	if (!READ_ONCE(sub->live))
		torture_error(sub->session, "%s outlived its subscriber", callback);
	atomic_dec(&sub->running);
}

/* According to the core, no callback runs or will run. */
void torture_left(struct torture_sub *sub, const char *how)
{
	int running = atomic_read(&sub->running);

	if (running)
		torture_error(sub->session, "%d callbacks run after %s", running, how);
	WRITE_ONCE(sub->live, false);
}

/* Sleep now and then, if the callback may sleep. */
void torture_dawdle(struct torture_session *session,
		    const struct mmu_notifier_range *range)
{
	if (!mmu_notifier_range_blockable(range) || !torture_chance(session, 12))
		return;
	torture_count(SLEEPS);
	usleep_range(20, torture_chance(session, 8) ? 2000 : 200);
}

void torture_watch_begin(struct torture_session *session,
			 enum torture_thread thread, const char *what)
{
	WRITE_ONCE(session->watch[thread].what, what);
	WRITE_ONCE(session->watch[thread].since, jiffies ?: 1);
}

void torture_watch_end(struct torture_session *session,
		       enum torture_thread thread)
{
	WRITE_ONCE(session->watch[thread].since, 0);
}

/* Is another thread stuck? Reported once each time. */
static void torture_watchdog(struct torture_session *session)
{
	unsigned long since;
	unsigned int i;

	for (i = 0; i < TORTURE_NR_THREADS; i++) {
		since = READ_ONCE(session->watch[i].since);
		if (!since || time_before(jiffies, since + TORTURE_LATE))
			continue;
		torture_error(session, "%s has not returned for %lu s",
			      READ_ONCE(session->watch[i].what), (jiffies - since) / HZ);
		cmpxchg(&session->watch[i].since, since, 0);
	}
}

static void torture_empty(struct torture_slot *slot)
{
	guard(mutex)(&slot->life);
	if (slot->sub)
		slot->kind->detach(slot);
}

static void torture_empty_all(struct torture_session *session)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(session->slots); i++)
		torture_empty(&session->slots[i]);
	while (session->nr_refs)
		torture_shared_put(session);
}

static void torture_synchronize(struct torture_session *session)
{
	int alive;

	while (session->nr_refs)
		torture_shared_put(session);
	torture_watch_begin(session, TORTURE_SUBSCRIBE, "synchronize");
	mmu_notifier_synchronize();
	torture_watch_end(session, TORTURE_SUBSCRIBE);
	torture_count(SYNCHRONIZES);
	alive = atomic_read(&session->nr_alive);
	if (alive)
		torture_error(session, "%d notifiers not freed when synchronize returned",
			      alive);
}

/* Long enough for the mm to be disarmed. */
static void torture_be_quiet(struct torture_session *session)
{
	unsigned int i;

	WRITE_ONCE(session->quiet, true);
	torture_empty_all(session);
	for (i = 0; i < 20 && !kthread_should_stop(); i++)
		msleep(100);
	if (!mm_has_notifiers(session->mm))
		torture_count(DISARMS);
	WRITE_ONCE(session->quiet, false);
}

static void torture_toggle(struct torture_slot *slot, struct rnd_state *rnd)
{
	if (!mutex_trylock(&slot->life))
		return;
	/* Slots are filled for longer than they are empty. */
	if (!slot->sub)
		slot->kind->attach(slot, rnd);
	else if (prandom_u32_state(rnd) % 4 == 0)
		slot->kind->detach(slot);
	mutex_unlock(&slot->life);
}

static void torture_subscribe_step(struct torture_session *session,
				   struct rnd_state *rnd)
{
	u32 drawn = prandom_u32_state(rnd) % 128;
	u32 slot = prandom_u32_state(rnd) % ARRAY_SIZE(session->slots);

	if (session->may_be_quiet && ++session->nr_steps % 256 == 32)
		torture_be_quiet(session);
	else if (drawn < 80)
		torture_toggle(&session->slots[slot], rnd);
	else if (drawn < 100)
		torture_shared_get(session);
	else if (drawn < 114)
		torture_shared_put(session);
	else if (drawn < 124)
		torture_shared_hand(session);
	else
		torture_synchronize(session);
}

static int torture_main(struct torture_session *session, enum torture_thread thread,
			void (*step)(struct torture_session *session,
				     struct rnd_state *rnd))
{
	struct rnd_state rnd;

	prandom_seed_state(&rnd, session->seed * TORTURE_NR_THREADS + thread);
	while (!kthread_should_stop()) {
		if (thread != TORTURE_SUBSCRIBE && READ_ONCE(session->quiet)) {
			msleep(20);
			continue;
		}
		step(session, &rnd);
		torture_watchdog(session);
		if (prandom_u32_state(&rnd) % 4)
			cond_resched();
		else
			usleep_range(20, 300);
	}
	return 0;
}

static int torture_subscribe(void *data)
{
	return torture_main(data, TORTURE_SUBSCRIBE, torture_subscribe_step);
}

static int torture_device(void *data)
{
	return torture_main(data, TORTURE_DEVICE, torture_device_step);
}

static int torture_ranges(void *data)
{
	return torture_main(data, TORTURE_RANGES, torture_range_step);
}

static int (*const torture_threads[TORTURE_NR_THREADS])(void *data) = {
	[TORTURE_SUBSCRIBE] = torture_subscribe,
	[TORTURE_DEVICE] = torture_device,
	[TORTURE_RANGES] = torture_ranges,
};

/* Also for a session whose threads were not all created. */
static void torture_stop(struct torture_session *session)
{
	struct torture_sub *sub, *next;
	unsigned int i;

	for (i = 0; i < TORTURE_NR_THREADS; i++)
		if (session->tasks[i])
			kthread_stop(session->tasks[i]);
	torture_empty_all(session);
	torture_synchronize(session);

	scoped_guard(spinlock, &torture_sessions_lock)
		list_del(&session->sessions);
	list_for_each_entry_safe(sub, next, &session->dead, quarantine)
		kfree(sub);
	mmdrop(session->mm);
	kfree(session);
}

static int torture_run(struct torture_session *session)
{
	struct task_struct *task;
	unsigned int i;

	for (i = 0; i < TORTURE_NR_THREADS; i++) {
		task = kthread_run(torture_threads[i], session, "mmu_torture/%u", i);
		if (IS_ERR(task))
			return PTR_ERR(task);
		session->tasks[i] = task;
	}
	return 0;
}

static struct torture_session *torture_alloc(const struct mmu_torture_start *start)
{
	struct torture_session *session = kzalloc(sizeof(*session), GFP_KERNEL_ACCOUNT);
	unsigned int i;

	if (!session)
		return NULL;
	session->mm = current->mm;
	mmgrab(session->mm);
	session->start = start->start;
	session->end = start->start + start->length;
	session->seed = start->seed;
	session->may_be_quiet = start->flags & MMU_TORTURE_QUIET;
	atomic_set(&session->random, start->seed);
	spin_lock_init(&session->lock);
	INIT_LIST_HEAD(&session->dead);
	for (i = 0; i < ARRAY_SIZE(session->slots); i++) {
		session->slots[i].session = session;
		session->slots[i].kind = i & 1 ? &torture_interval_kind : &torture_list_kind;
		mutex_init(&session->slots[i].life);
		mutex_init(&session->slots[i].device);
	}
	scoped_guard(spinlock, &torture_sessions_lock)
		list_add(&session->sessions, &torture_sessions);
	return session;
}

static long torture_start(struct file *file, void __user *arg)
{
	struct torture_session *session;
	struct mmu_torture_start start;
	int ret;

	if (copy_from_user(&start, arg, sizeof(start)))
		return -EFAULT;
	if (!current->mm || start.start & ~PAGE_MASK || start.length & ~PAGE_MASK ||
	    start.length < TORTURE_WINDOW * PAGE_SIZE || start.start > TASK_SIZE ||
	    start.length > TASK_SIZE - start.start || start.flags & ~MMU_TORTURE_QUIET)
		return -EINVAL;
	/* One session per file, and one per mm: shared notifiers belong to the mm. */
	if (file->private_data || torture_find(current->mm))
		return -EBUSY;
	ret = torture_prepare(current->mm);
	if (ret)
		return ret;
	session = torture_alloc(&start);
	if (!session)
		return -ENOMEM;
	ret = torture_run(session);
	if (ret) {
		torture_stop(session);
		return ret;
	}
	torture_count(SESSIONS);
	file->private_data = session;
	return 0;
}

static long torture_get_stats(void __user *arg)
{
	struct mmu_torture_stats stats;
	unsigned int i;

	stats.errors = atomic64_read(&torture_errors);
	stats.never = TORTURE_NEVER;
	for (i = 0; i < MMU_TORTURE_NR_COUNTERS; i++)
		stats.count[i] = atomic64_read(&torture_counts[i]);
	return copy_to_user(arg, &stats, sizeof(stats)) ? -EFAULT : 0;
}

static long torture_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	static DEFINE_MUTEX(starting);

	switch (cmd) {
	case MMU_TORTURE_START: {
		guard(mutex)(&starting);
		return torture_start(file, (void __user *)arg);
	}
	case MMU_TORTURE_GET_STATS:
		return torture_get_stats((void __user *)arg);
	default:
		return -ENOTTY;
	}
}

static int torture_open(struct inode *inode, struct file *file)
{
	file->private_data = NULL;
	return stream_open(inode, file);
}

static int torture_release(struct inode *inode, struct file *file)
{
	if (file->private_data)
		torture_stop(file->private_data);
	return 0;
}

static const struct file_operations torture_fops = {
	.owner = THIS_MODULE,
	.open = torture_open,
	.release = torture_release,
	.unlocked_ioctl = torture_ioctl,
};

static struct miscdevice torture_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "mmu_notifier_torture",
	.fops = &torture_fops,
	.mode = 0600,
};

builtin_misc_device(torture_misc);
