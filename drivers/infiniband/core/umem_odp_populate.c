// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * User memory that is paged on demand: faults that take as long as user space wants.
 *
 * A page of a FUSE file is there when the file system's daemon has answered, and one with
 * a userfaultfd when its handler has supplied it. That may be never, and the sleep cannot
 * be ended from outside. What must not happen is that others wait for it: the owner's
 * mmap() and munmap(), the end of a region or of a queue, the removal of a device, the
 * traffic of other processes.
 *
 * So a driver asks for pages with IB_ODP_FAULT_PROMPT. If it is told -EAGAIN, it has
 * the range populated: a work item brings the pages in, on a workqueue that only the
 * faults of the same address space use, and holds no reference but those of the umem
 * and of one chunk. When it is done, the driver asks again. If the region or the
 * driver's user goes before that, the driver is told so at once or gives up by itself,
 * and what the work item brings is dropped.
 *
 * The address space stays meanwhile. Exit of the process waits for it, as it waits for
 * any access of the process's own to such memory.
 *
 * A populate has two references: its work item's, and its user's until
 * ib_odp_populate_end(). The callback is called once, under populate_lock: by the work
 * item or by the end of the region, unless its user has ended it before.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/completion.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/wait_bit.h>
#include <trace/events/ib_odp.h>

#include "umem_odp.h"

/* How often pages may go between a populate and the fault that wants them. */
#define ODP_POPULATE_TRIES	1000

/* Reaping, and what must not run on an owner's workqueue; ends before the module. */
struct workqueue_struct *ib_odp_wq;

/**
 * struct ib_odp_owner - what the paged regions of one address space share
 * @mm: the address space, of which each of the regions has a reference
 * @entry: in odp_owners
 * @users: umems, under odp_owners_lock
 * @wq: for populates
 * @free_work: frees it; its last user may be a work item of @wq
 */
struct ib_odp_owner {
	struct mm_struct *mm;
	struct list_head entry;
	unsigned int users;
	struct workqueue_struct *wq;
	struct work_struct free_work;
};

static LIST_HEAD(odp_owners);
static DEFINE_MUTEX(odp_owners_lock);

static void odp_owner_free(struct work_struct *work)
{
	struct ib_odp_owner *owner = container_of(work, struct ib_odp_owner, free_work);

	destroy_workqueue(owner->wq);
	kfree(owner);
}

static struct ib_odp_owner *odp_owner_alloc(struct mm_struct *mm)
{
	struct ib_odp_owner *owner = kzalloc(sizeof(*owner), GFP_KERNEL_ACCOUNT);

	if (!owner)
		return NULL;
	owner->wq = alloc_workqueue("ib_odp_populate", WQ_UNBOUND, WQ_UNBOUND_MAX_ACTIVE);
	if (!owner->wq) {
		kfree(owner);
		return NULL;
	}
	owner->mm = mm;
	INIT_WORK(&owner->free_work, odp_owner_free);
	list_add(&owner->entry, &odp_owners);
	return owner;
}

/* Once there is one, @odp->owner stays: few regions ever need it. */
static struct ib_odp_owner *odp_owner_get(struct ib_umem_odp *odp)
{
	struct ib_odp_owner *owner;

	mutex_lock(&odp_owners_lock);
	owner = odp->owner;
	if (owner)
		goto out;
	list_for_each_entry(owner, &odp_owners, entry)
		if (owner->mm == odp->umem.owning_mm)
			goto found;
	owner = odp_owner_alloc(odp->umem.owning_mm);
	if (!owner)
		goto out;
found:
	owner->users++;
	odp->owner = owner;
out:
	mutex_unlock(&odp_owners_lock);
	return owner;
}

/**
 * ib_odp_owner_put() - a umem that had one is freed
 * @owner: the umem's
 *
 * Context: sleeps; also in a work item of the owner.
 */
void ib_odp_owner_put(struct ib_odp_owner *owner)
{
	bool last;

	mutex_lock(&odp_owners_lock);
	last = !--owner->users;
	if (last) {
		list_del(&owner->entry);
		queue_work(ib_odp_wq, &owner->free_work);
	}
	mutex_unlock(&odp_owners_lock);
	if (last)
		wake_up_var(&odp_owners);
}

/**
 * struct ib_odp_populate - pages that are being brought in for a driver
 * @work: does it
 * @entry: in the umem's populates, until it is done
 * @odp: the umem, held
 * @start: first address
 * @end: behind the last one
 * @flags: enum ib_odp_fault_flags
 * @done: how to say that it ended; NULL once that was said or is not wanted
 * @data: for @done
 * @refs: the work item's and the user's
 */
struct ib_odp_populate {
	struct work_struct work;
	struct list_head entry;
	struct ib_umem_odp *odp;
	unsigned long start;
	unsigned long end;
	unsigned int flags;
	void (*done)(void *data, int result);
	void *data;
	refcount_t refs;
};

static void populate_put(struct ib_odp_populate *populate)
{
	if (!refcount_dec_and_test(&populate->refs))
		return;
	ib_umem_odp_put(populate->odp);
	kfree(populate);
}

static void populate_report(struct ib_odp_populate *populate, int result)
{
	lockdep_assert_held(&populate->odp->populate_lock);
	if (populate->done)
		populate->done(populate->data, result);
	populate->done = NULL;
}

/**
 * ib_umem_odp_populate_now() - bring pages in, however long that takes
 * @odp: the umem, held; the caller has no reference that others wait for
 * @start: first address
 * @end: behind the last one; several chunks are fine
 * @flags: enum ib_odp_fault_flags
 *
 * Context: sleeps for as long as user space wants.
 * Return: 0, or what ib_umem_odp_fault() said.
 */
int ib_umem_odp_populate_now(struct ib_umem_odp *odp, unsigned long start,
			     unsigned long end, unsigned int flags)
{
	struct ib_odp_chunk *chunk;
	unsigned long next;

	for (; start < end; start = next) {
		if (fatal_signal_pending(current))
			return -EINTR;
		next = min(end, ib_umem_odp_chunk_end(odp, start));
		chunk = ib_umem_odp_fault(odp, start, next, flags & ~IB_ODP_FAULT_PROMPT);
		if (IS_ERR(chunk))
			return PTR_ERR(chunk);
		ib_odp_chunk_unlock(chunk);
		cond_resched();
	}
	return 0;
}
EXPORT_SYMBOL_GPL(ib_umem_odp_populate_now);

static void populate_work(struct work_struct *work)
{
	struct ib_odp_populate *populate = container_of(work, struct ib_odp_populate, work);
	u64 began = trace_ib_odp_populate_enabled() ? ktime_get_ns() : 0;
	struct ib_umem_odp *odp = populate->odp;
	int ret;

	ret = ib_umem_odp_populate_now(odp, populate->start, populate->end, populate->flags);
	trace_ib_odp_populate(odp, populate->start, populate->end, populate->flags, ret, began);
	spin_lock(&odp->populate_lock);
	list_del(&populate->entry);
	populate_report(populate, ret);
	spin_unlock(&odp->populate_lock);
	populate_put(populate);
}

static struct ib_odp_populate *populate_alloc(struct ib_umem_odp *odp, unsigned long start,
					      unsigned long end, unsigned int flags)
{
	struct ib_odp_populate *populate = kzalloc(sizeof(*populate), GFP_KERNEL_ACCOUNT);

	if (!populate)
		return NULL;
	INIT_WORK(&populate->work, populate_work);
	populate->odp = odp;
	populate->start = start;
	populate->end = end;
	populate->flags = flags;
	refcount_set(&populate->refs, 1);
	return populate;
}

/* Pairs with ib_umem_odp_kill(): that sees this one, or this sees the mark. */
static int populate_add(struct ib_odp_populate *populate, struct ib_odp_populate **to)
{
	struct ib_umem_odp *odp = populate->odp;
	int ret = -EFAULT;

	spin_lock(&odp->populate_lock);
	if (!READ_ONCE(odp->dead)) {
		ib_umem_odp_hold(odp);
		list_add_tail(&populate->entry, &odp->populates);
		if (to) {
			refcount_inc(&populate->refs);
			*to = populate;
		}
		ret = 0;
	}
	spin_unlock(&odp->populate_lock);
	return ret;
}

/**
 * ib_umem_odp_populate() - have pages brought in, and go on meanwhile
 * @odp: the umem
 * @start: first address
 * @end: behind the last one; several chunks are fine
 * @flags: enum ib_odp_fault_flags
 * @done: told the result, as ib_umem_odp_populate_now() returns it, or -EFAULT when
 *	the region ends; under a spinlock. NULL: it is not of interest
 * @data: for @done
 * @to: set, before @done can be called, to what ib_odp_populate_end() takes; NULL if
 *	@done is
 *
 * Context: sleeps, but for nothing that user space does.
 * Return: 0; -EFAULT if the region is gone; -ENOMEM.
 */
int ib_umem_odp_populate(struct ib_umem_odp *odp, unsigned long start,
			 unsigned long end, unsigned int flags,
			 void (*done)(void *data, int result), void *data,
			 struct ib_odp_populate **to)
{
	CLASS(ib_odp_charge, charge)(odp);
	struct ib_odp_owner *owner = odp_owner_get(odp);
	struct ib_odp_populate *populate;
	int ret;

	populate = owner ? populate_alloc(odp, start, end, flags) : NULL;
	if (!populate)
		return -ENOMEM;
	populate->done = done;
	populate->data = data;
	ret = populate_add(populate, to);
	if (ret)
		kfree(populate);
	else
		queue_work(owner->wq, &populate->work);
	return ret;
}
EXPORT_SYMBOL_GPL(ib_umem_odp_populate);

/**
 * ib_odp_populate_end() - its result was seen, or is not wanted any more
 * @populate: from ib_umem_odp_populate()
 *
 * On return its callback is not running and will not run. If the pages are still being
 * brought in, that goes on.
 *
 * Context: sleeps.
 */
void ib_odp_populate_end(struct ib_odp_populate *populate)
{
	struct ib_umem_odp *odp = populate->odp;

	spin_lock(&odp->populate_lock);
	populate->done = NULL;
	spin_unlock(&odp->populate_lock);
	populate_put(populate);
}
EXPORT_SYMBOL_GPL(ib_odp_populate_end);

/**
 * ib_odp_populate_kill() - tell all drivers that wait for pages that none will come
 * @odp: dead
 *
 * Context: any but hard and soft interrupts.
 */
void ib_odp_populate_kill(struct ib_umem_odp *odp)
{
	struct ib_odp_populate *populate;

	spin_lock(&odp->populate_lock);
	list_for_each_entry(populate, &odp->populates, entry)
		populate_report(populate, -EFAULT);
	spin_unlock(&odp->populate_lock);
}

struct populate_waiter {
	struct completion done;
	int result;
};

static void populate_wake(void *data, int result)
{
	struct populate_waiter *waiter = data;

	waiter->result = result;
	complete(&waiter->done);
}

static int populate_wait(struct ib_umem_odp *odp, unsigned long start, unsigned long end,
			 unsigned int flags, bool (*leave)(void *data), void *data)
{
	struct populate_waiter waiter = {
		.done = COMPLETION_INITIALIZER_ONSTACK(waiter.done),
		.result = -EINTR,
	};
	struct ib_odp_populate *populate;
	int ret;

	ret = ib_umem_odp_populate(odp, start, end, flags, populate_wake, &waiter, &populate);
	if (ret)
		return ret;
	/* Rarely does the user leave, so nothing wakes us for that. */
	while (!wait_for_completion_timeout(&waiter.done, HZ / 8))
		if (leave && leave(data))
			break;
	ib_odp_populate_end(populate);
	return waiter.result;
}

/**
 * ib_umem_odp_fault_wait() - ib_umem_odp_fault(), with a sleep that can be left
 * @odp: the umem
 * @start: first address
 * @end: behind the last one; not beyond ib_umem_odp_chunk_end() of @start
 * @flags: enum ib_odp_fault_flags
 * @leave: asked a few times a second while user space holds the fault up: is the
 *	caller wanted elsewhere? NULL: never
 * @data: for @leave
 *
 * For a caller with references that the end of the region or of a queue waits for.
 *
 * Context: as ib_umem_odp_fault().
 * Return: the chunk, locked; otherwise as ib_umem_odp_fault(), and -EINTR if it left.
 */
struct ib_odp_chunk *ib_umem_odp_fault_wait(struct ib_umem_odp *odp,
					    unsigned long start, unsigned long end,
					    unsigned int flags,
					    bool (*leave)(void *data), void *data)
{
	unsigned int prompt = flags | IB_ODP_FAULT_PROMPT;
	unsigned int tries = ODP_POPULATE_TRIES;
	struct ib_odp_chunk *chunk;
	int ret;

	for (;;) {
		chunk = ib_umem_odp_fault(odp, start, end, prompt);
		if (chunk != ERR_PTR(-EAGAIN))
			return chunk;
		if (!tries--)
			return ERR_PTR(-EBUSY);
		ret = populate_wait(odp, start, end, flags, leave, data);
		if (ret)
			return ERR_PTR(ret);
	}
}
EXPORT_SYMBOL_GPL(ib_umem_odp_fault_wait);

/* Under the lock, so that all of them have queued their ends by then. */
static bool odp_owners_are_gone(void)
{
	bool gone;

	mutex_lock(&odp_owners_lock);
	gone = list_empty(&odp_owners);
	mutex_unlock(&odp_owners_lock);
	return gone;
}

/**
 * ib_umem_odp_init() - before the first region
 *
 * Return: 0; -ENOMEM.
 */
int __init ib_umem_odp_init(void)
{
	ib_odp_wq = alloc_workqueue("ib_odp", WQ_UNBOUND, 0);
	return ib_odp_wq ? 0 : -ENOMEM;
}

/**
 * ib_umem_odp_exit() - after the last region
 *
 * Waits for faults that outlived their regions.
 */
void ib_umem_odp_exit(void)
{
	wait_var_event(&odp_owners, odp_owners_are_gone());
	destroy_workqueue(ib_odp_wq);
}
