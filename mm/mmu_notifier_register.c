// SPDX-License-Identifier: GPL-2.0
/*
 * List notifiers: registration, release at exit, and removal.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/err.h>
#include <linux/export.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include <trace/events/mmu_notifier.h>

#include "mmu_notifier.h"

/*
 * Number of mmu_notifier_put() calls whose free_notifier() has not returned, by the
 * period of the call. mmu_notifier_synchronize() starts a new period and waits for the
 * count of the old one to become zero. Only one synchronize waits at a time.
 */
static DEFINE_SPINLOCK(mmu_notifier_puts_lock);
static unsigned int mmu_notifier_puts_pending[2];
static unsigned int mmu_notifier_puts_period;
static DECLARE_WAIT_QUEUE_HEAD(mmu_notifier_puts_wait);
static DEFINE_MUTEX(mmu_notifier_puts_mutex);

/* ---- release ---- */

/* Exit and unregister may race here. */
static void mmu_notifier_release_once(struct mmu_notifier *sub,
				      struct mm_struct *mm)
{
	if (sub->ops->release && !xchg(&sub->released, 1))
		sub->ops->release(sub, mm);
}

/* Does it have callbacks that are called under a page-table lock? */
static bool mmu_notifier_asked(const struct mmu_notifier *sub)
{
	const struct mmu_notifier_ops *ops = sub->ops;

	return ops->clear_flush_young || ops->clear_young || ops->test_young ||
	       ops->arch_invalidate_secondary_tlbs;
}

/* No walk begins to call it from here on. Returns true if one may be calling it. */
static bool mmu_list_del(struct mmu_notifier_subscriptions *subs, struct mmu_notifier *sub)
{
	bool busy = mmu_walks_forget(subs, sub, &sub->hlist);

	hlist_del_init(&sub->hlist);
	if (mmu_notifier_asked(sub))
		WRITE_ONCE(subs->nr_asked, subs->nr_asked - 1);
	return busy;
}

/*
 * Returns true if a walk may be calling it. That is not known if exit has emptied the
 * list: exit may be waiting for the same walk.
 */
static bool mmu_list_del_once(struct mmu_notifier_subscriptions *subs,
			      struct mmu_notifier *sub)
{
	return hlist_unhashed(&sub->hlist) || mmu_list_del(subs, sub);
}

/*
 * Empty the list, all at once: no range may start for one notifier and end for another.
 * Then wait for running callbacks, which includes release callbacks that unregister
 * calls: they must return before the page tables are freed.
 */
static void mmu_list_clear(struct mmu_notifier_subscriptions *subs)
{
	bool busy = false;

	mmu_active_lock_all(subs);
	while (!hlist_empty(&subs->list))
		busy |= mmu_list_del(subs, hlist_entry(subs->list.first, struct mmu_notifier,
						       hlist));
	mmu_active_unlock_all(subs);
	if (busy)
		mmu_walks_await(subs, NULL);
}

/* The walk keeps the notifier that it calls from being freed. */
static void mmu_list_release_all(struct mmu_notifier_subscriptions *subs,
				 struct mm_struct *mm)
{
	struct mmu_walk stack __uninitialized, *walk;
	struct mmu_notifier *sub;

	walk = mmu_walk_list(&stack, subs, mmu_walk_op(release));
	if (!walk)
		return;
	mmu_walk_for_each(sub, walk)
		mmu_notifier_release_once(sub, mm);
	mmu_walk_leave(walk);
}

/**
 * mmu_list_release() - release the list notifiers of an exiting mm
 * @subs: the state of the mm
 * @mm: the mm
 *
 * Context: sleeps.
 */
void mmu_list_release(struct mmu_notifier_subscriptions *subs, struct mm_struct *mm)
{
	bool empty;

	/*
	 * Under the lock: if unregister has emptied the list, the release callback that
	 * it called before has returned, which must be so before page tables are freed.
	 */
	spin_lock(&subs->lock);
	empty = hlist_empty(&subs->list);
	spin_unlock(&subs->lock);
	if (empty)
		return;
	mmu_list_release_all(subs, mm);
	mmu_list_clear(subs);
}

/* ---- registration ---- */

/*
 * The mm is armed, and the caller's hold on that becomes the notifier's. Ranges of
 * earlier epochs call neither start nor end of this notifier, and may be about to unmap
 * a page that it would map. So wait for them. They do not wait for this task, which holds
 * the mmap_lock: they run under reverse-map locks, under which no task takes it.
 */
static void mmu_notifier_register_armed(struct mmu_notifier *sub,
					struct mm_struct *mm)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);

	mmgrab(mm);
	sub->mm = mm;
	sub->users = 1;
	sub->released = 0;

	mmu_active_lock_all(subs);
	sub->epoch = mmu_active_new_epoch(subs);
	hlist_add_head(&sub->hlist, &subs->list);
	if (mmu_notifier_asked(sub))
		WRITE_ONCE(subs->nr_asked, subs->nr_asked + 1);
	mmu_active_unlock_all(subs);

	mmu_active_wait_all(subs);
	trace_mmu_notifier_register(sub);
}

/*
 * A device either has page tables of its own or walks those of the CPU. A notifier with
 * the callbacks of both would be called twice for each change.
 */
static bool mmu_notifier_mixed(const struct mmu_notifier_ops *ops)
{
	return ops->arch_invalidate_secondary_tlbs &&
	       (ops->invalidate_range_start || ops->invalidate_range_end);
}

/**
 * __mmu_notifier_register() - mmu_notifier_register() under the mmap_lock
 * @subscription: the notifier; its ops are set. NULL: see mmu_notifier_register()
 * @mm: the mm
 *
 * Context: mmap_lock held for write; sleeps.
 * Return: as mmu_notifier_register().
 */
int __mmu_notifier_register(struct mmu_notifier *subscription,
			    struct mm_struct *mm)
{
	int ret;

	mmap_assert_write_locked(mm);
	if (WARN_ON_ONCE(atomic_read(&mm->mm_users) <= 0))
		return -EINVAL;
	if (subscription && mmu_notifier_mixed(subscription->ops))
		return -EINVAL;

	ret = mmu_notifier_arm_locked(mm);
	if (ret)
		return ret;
	if (subscription)
		mmu_notifier_register_armed(subscription, mm);
	else
		mmu_notifier_stay_armed(mm);
	return 0;
}
EXPORT_SYMBOL_GPL(__mmu_notifier_register);

/**
 * mmu_notifier_register() - subscribe to all changes of an mm
 * @subscription: the notifier with its ops set. NULL registers no notifier and switches
 *	the mm to interval mode
 * @mm: the caller holds a reference on its mm_users
 *
 * When it returns, no change is in progress for which the notifier was not called.
 * A reference on mm_count is held until mmu_notifier_unregister().
 *
 * Interval mode lasts until the mm is freed: the mm stays armed, so that
 * mmu_interval_notifier_insert() no longer takes the mmap_lock and returns neither
 * -ENOMEM nor -EINTR. There is nothing to unregister.
 *
 * Context: takes the mmap_lock for write; sleeps.
 * Return: 0; otherwise as mmu_notifier_arm(), with nothing registered.
 */
int mmu_notifier_register(struct mmu_notifier *subscription,
			  struct mm_struct *mm)
{
	int ret;

	mmap_write_lock(mm);
	ret = __mmu_notifier_register(subscription, mm);
	mmap_write_unlock(mm);
	return ret;
}
EXPORT_SYMBOL_GPL(mmu_notifier_register);

/* In a walk of its own: exit waits for it before page tables are freed. */
static void mmu_notifier_release_walk(struct mmu_notifier_subscriptions *subs,
				      struct mmu_notifier *sub, struct mm_struct *mm)
{
	struct mmu_walk walk __uninitialized;

	mmu_walk_one(&walk, subs, sub);
	mmu_notifier_release_once(sub, mm);
	mmu_walk_leave(&walk);
}

static bool mmu_notifier_unlink(struct mmu_notifier_subscriptions *subs,
				struct mmu_notifier *sub)
{
	bool busy;

	mmu_active_lock_all(subs);
	busy = mmu_list_del_once(subs, sub);
	mmu_active_unlock_all(subs);
	return busy;
}

/**
 * mmu_notifier_unregister() - undo mmu_notifier_register()
 * @subscription: registered by mmu_notifier_register()
 * @mm: the mm it was registered with; may have exited
 *
 * Calls the release callback unless exit has called it. On return, no callback of the
 * notifier runs or will run. Waits for running callbacks of this notifier, but not for
 * those of others; also for an expedited RCU grace period if a walk may be calling it.
 *
 * Context: sleeps; not in a callback.
 */
void mmu_notifier_unregister(struct mmu_notifier *subscription,
			     struct mm_struct *mm)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);

	might_sleep();
	trace_mmu_notifier_unregister(subscription);
	mmu_notifier_release_walk(subs, subscription, mm);
	if (mmu_notifier_unlink(subs, subscription))
		mmu_walks_await(subs, subscription);

	/* For lockdep: this waits for callbacks, so callbacks must not wait for this. */
	lock_map_acquire(&__mmu_notifier_invalidate_range_start_map);
	lock_map_release(&__mmu_notifier_invalidate_range_start_map);

	mmu_notifier_disarm(mm);
	mmdrop(mm);
}
EXPORT_SYMBOL_GPL(mmu_notifier_unregister);

static struct mmu_notifier *
mmu_notifier_find_get(struct mm_struct *mm, const struct mmu_notifier_ops *ops)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);
	struct mmu_notifier *sub, *found = NULL;

	if (!subs)
		return NULL;
	spin_lock(&subs->lock);
	hlist_for_each_entry(sub, &subs->list, hlist) {
		if (sub->ops != ops)
			continue;
		if (WARN_ON_ONCE(sub->users == UINT_MAX))
			found = ERR_PTR(-EOVERFLOW);
		else
			found = sub;
		break;
	}
	if (!IS_ERR_OR_NULL(found))
		found->users++;
	spin_unlock(&subs->lock);
	return found;
}

/**
 * mmu_notifier_get_locked() - mmu_notifier_get() under the mmap_lock
 * @ops: the callbacks; the notifier is found by their address
 * @mm: the mm
 *
 * Context: mmap_lock held for write; sleeps.
 * Return: as mmu_notifier_get().
 */
struct mmu_notifier *mmu_notifier_get_locked(const struct mmu_notifier_ops *ops,
					     struct mm_struct *mm)
{
	struct mmu_notifier *sub;
	int ret;

	mmap_assert_write_locked(mm);
	sub = mmu_notifier_find_get(mm, ops);
	if (sub)
		return sub;

	sub = ops->alloc_notifier(mm);
	if (IS_ERR(sub))
		return sub;
	sub->ops = ops;
	ret = __mmu_notifier_register(sub, mm);
	if (ret) {
		ops->free_notifier(sub);
		return ERR_PTR(ret);
	}
	return sub;
}
EXPORT_SYMBOL_GPL(mmu_notifier_get_locked);

/**
 * mmu_notifier_get() - find or allocate the notifier of an mm with these callbacks
 * @ops: the callbacks, among them alloc_notifier and free_notifier
 * @mm: the caller holds a reference on its mm_users
 *
 * Context: takes the mmap_lock for write; sleeps.
 * Return: the notifier, for mmu_notifier_put(); or an ERR_PTR(): what
 * alloc_notifier said, or as mmu_notifier_register().
 */
struct mmu_notifier *mmu_notifier_get(const struct mmu_notifier_ops *ops,
				      struct mm_struct *mm)
{
	struct mmu_notifier *sub;

	mmap_write_lock(mm);
	sub = mmu_notifier_get_locked(ops, mm);
	mmap_write_unlock(mm);
	return sub;
}
EXPORT_SYMBOL_GPL(mmu_notifier_get);

static void mmu_notifier_free_work(struct work_struct *work)
{
	struct mmu_notifier *sub = container_of(work, struct mmu_notifier, free_work);
	struct mm_struct *mm = sub->mm;
	unsigned int period = sub->put_period;

	if (sub->put_busy)
		mmu_walks_await(mmu_notifier_subscriptions(mm), sub);
	sub->ops->free_notifier(sub);
	mmu_notifier_disarm(mm);
	mmdrop(mm);

	/* Last: the module of @ops may be unloaded from here on. */
	spin_lock(&mmu_notifier_puts_lock);
	if (!--mmu_notifier_puts_pending[period])
		wake_up_all(&mmu_notifier_puts_wait);
	spin_unlock(&mmu_notifier_puts_lock);
}

/**
 * mmu_notifier_put() - undo one mmu_notifier_get()
 * @subscription: the notifier
 *
 * After the last put, no callback begins. When none runs any more, free_notifier is
 * called from a workqueue. The release callback is not called.
 *
 * Context: does not sleep; may be called in a callback of the notifier.
 */
void mmu_notifier_put(struct mmu_notifier *subscription)
{
	struct mmu_notifier_subscriptions *subs =
		mmu_notifier_subscriptions(subscription->mm);
	bool last;

	mmu_active_lock_all(subs);
	last = !WARN_ON_ONCE(!subscription->users) && !--subscription->users;
	if (last)
		subscription->put_busy = mmu_list_del_once(subs, subscription);
	mmu_active_unlock_all(subs);
	if (!last)
		return;

	trace_mmu_notifier_unregister(subscription);
	spin_lock(&mmu_notifier_puts_lock);
	subscription->put_period = mmu_notifier_puts_period;
	mmu_notifier_puts_pending[subscription->put_period]++;
	spin_unlock(&mmu_notifier_puts_lock);
	INIT_WORK(&subscription->free_work, mmu_notifier_free_work);
	queue_work(system_unbound_wq, &subscription->free_work);
}
EXPORT_SYMBOL_GPL(mmu_notifier_put);

/**
 * mmu_notifier_synchronize() - wait until notifiers that were put are freed
 *
 * For the exit function of a module that uses mmu_notifier_put(). Waits for notifiers
 * that were put before the call, and not for later ones.
 *
 * Context: sleeps.
 */
void mmu_notifier_synchronize(void)
{
	unsigned int old;

	mutex_lock(&mmu_notifier_puts_mutex);
	spin_lock(&mmu_notifier_puts_lock);
	old = mmu_notifier_puts_period;
	mmu_notifier_puts_period = !old;
	spin_unlock(&mmu_notifier_puts_lock);
	wait_event(mmu_notifier_puts_wait, !READ_ONCE(mmu_notifier_puts_pending[old]));
	mutex_unlock(&mmu_notifier_puts_mutex);
}
EXPORT_SYMBOL_GPL(mmu_notifier_synchronize);
