// SPDX-License-Identifier: GPL-2.0
/*
 * MMU notifiers: announce changes of page tables to those who mirror them.
 *
 * Objects. Each mm that ever had a subscriber owns one struct
 * mmu_notifier_subscriptions, from then until the mm is freed. It holds the
 * list notifiers, the interval notifiers and the active set: the ranges that
 * have started and not ended. The ranges themselves are on the stacks of the
 * tasks that make the changes.
 *
 *	mmu_notifier.c			this file: start and end, list notifiers
 *	mmu_interval_notifier.c		interval notifiers, collision and retry
 *	mmu_notifier_active.c		the active set, waiting for ranges
 *	mmu_notifier_arm.c		when ranges are recorded, lifetime
 *	mm_all_locks.c			keeping all changes out, for arming
 *	mmu_notifier_debug.c		DEBUG_MMU_NOTIFIER: use of ranges
 *	mmu_notifier_check.c		DEBUG_MMU_NOTIFIER: coverage of changes
 *
 * Invariants.
 *
 * - While an mm is armed, every range is in the active set from before the
 *   first callback until after the last one.
 * - A list notifier hears start and end of exactly those ranges that began
 *   after it was registered. Registration numbers the notifiers (generation),
 *   a range notes the number at its start, and registration returns only when
 *   no older range is active.
 * - The list grows at its head only, so it is sorted by generation. A refused
 *   start is thereby undone exactly, although notifiers may leave meanwhile.
 * - The release callback runs at most once, and page tables are not freed
 *   before it returned.
 *
 * Locks, outermost first: mmap_lock or a reverse-map lock; the mm's SRCU (read
 * side, around callbacks); @subs->lock; shard locks. Callbacks of blockable
 * ranges may sleep, and then hold up only their own mm: each has an SRCU of
 * its own.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/err.h>
#include <linux/export.h>
#include <linux/mm.h>
#include <linux/rculist.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include <trace/events/mmu_notifier.h>

#include "mmu_notifier.h"

#ifdef CONFIG_LOCKDEP
/* Held while invalidation callbacks run; reclaim takes it, see page_alloc.c. */
struct lockdep_map __mmu_notifier_invalidate_range_start_map = {
	.name = "mmu_notifier_invalidate_range_start"
};
#endif

/* mmu_notifier_put() calls that have not come to free_notifier() yet. */
static atomic_t mmu_notifier_puts_pending = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(mmu_notifier_puts_wait);

/*
 * The mm's SRCU, if there is anybody in the list. An entry can be seen before
 * the pointer to the SRCU is, on its registration's way; it may be ignored
 * then, as no range or TLB flush that has to reach it can be that early.
 */
static struct srcu_struct *
mmu_list_srcu(const struct mmu_notifier_subscriptions *subs)
{
	return hlist_empty(&subs->list) ? NULL : READ_ONCE(subs->srcu);
}

#define mmu_list_for_each(_sub, _subs)					\
	hlist_for_each_entry_srcu(_sub, &(_subs)->list, hlist,		\
				  srcu_read_lock_held((_subs)->srcu))

/* Was @sub registered when @range started? */
static bool mmu_list_hears(const struct mmu_notifier *sub,
			   const struct mmu_notifier_range *range)
{
	return (long)(range->generation - sub->generation) >= 0;
}

/* End @range for those who accepted it, up to @refused, or for all. */
static void mmu_list_call_end(struct mmu_notifier_subscriptions *subs,
			      const struct mmu_notifier_range *range,
			      const struct mmu_notifier *refused)
{
	struct mmu_notifier *sub;

	mmu_list_for_each(sub, subs) {
		if (refused && (long)(sub->generation - refused->generation) <= 0)
			break;
		if (!mmu_list_hears(sub, range) || !sub->ops->invalidate_range_end)
			continue;
		if (!mmu_notifier_range_blockable(range))
			non_block_start();
		sub->ops->invalidate_range_end(sub, range);
		if (!mmu_notifier_range_blockable(range))
			non_block_end();
	}
}

static int mmu_list_call_start(struct mmu_notifier *sub,
			       const struct mmu_notifier_range *range)
{
	int ret;

	if (mmu_notifier_range_blockable(range)) {
		ret = sub->ops->invalidate_range_start(sub, range);
		/* Nobody can be asked to take the change back. */
		WARN_ONCE(ret, "%ps refused a blockable range (%d)\n",
			  sub->ops->invalidate_range_start, ret);
		return 0;
	}
	non_block_start();
	ret = sub->ops->invalidate_range_start(sub, range);
	non_block_end();
	return ret ? -EAGAIN : 0;
}

static int mmu_list_invalidate(struct mmu_notifier_subscriptions *subs,
			       const struct mmu_notifier_range *range,
			       unsigned int *nr_called)
{
	struct srcu_struct *srcu = mmu_list_srcu(subs);
	struct mmu_notifier *sub;
	int idx, ret = 0;

	if (!srcu)
		return 0;
	idx = srcu_read_lock(srcu);
	mmu_list_for_each(sub, subs) {
		if (!mmu_list_hears(sub, range) || !sub->ops->invalidate_range_start)
			continue;
		++*nr_called;
		ret = mmu_list_call_start(sub, range);
		if (ret) {
			mmu_list_call_end(subs, range, sub);
			break;
		}
	}
	srcu_read_unlock(srcu, idx);
	return ret;
}

/* What mmu_notifier_invalidate_range_start() does on an armed mm. */
int __mmu_notifier_invalidate_range_start(struct mmu_notifier_range *range)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(range->mm);
	struct mmu_interval_notifier_finish *posted = NULL;
	struct mmu_interval_notifier *interval_sub;
	unsigned int nr_called = 0;
	int ret = 0;

	/* Nothing changes; callbacks and the tree know no empty interval. */
	if (range->start >= range->end)
		return 0;

	interval_sub = mmu_active_link(subs, range);
	if (interval_sub)
		ret = mmu_interval_invalidate(range, interval_sub, &posted,
					      &nr_called);
	if (!ret)
		ret = mmu_list_invalidate(subs, range, &nr_called);
	/* Only now: the devices have been at it while the list was called. */
	mmu_interval_finish(range, posted);
	trace_mmu_notifier_start(range, nr_called, ret);
	if (ret)
		mmu_active_unlink(range);
	return ret;
}

/* What mmu_notifier_invalidate_range_end() does with a linked range. */
void __mmu_notifier_invalidate_range_end(struct mmu_notifier_range *range)
{
	struct mmu_notifier_subscriptions *subs = range->shard->subs;
	struct srcu_struct *srcu = mmu_list_srcu(subs);
	int idx;

	lock_map_acquire(&__mmu_notifier_invalidate_range_start_map);
	trace_mmu_notifier_end(range);
	if (srcu) {
		idx = srcu_read_lock(srcu);
		mmu_list_call_end(subs, range, NULL);
		srcu_read_unlock(srcu, idx);
	}
	mmu_active_unlink(range);
	lock_map_release(&__mmu_notifier_invalidate_range_start_map);
}

/*
 * Ask the age callback @_op of all list notifiers; non-zero if any says so.
 * Not a short circuit: clearing has to reach all of them.
 */
#define mmu_list_any(_mm, _op, ...)						\
({										\
	struct mmu_notifier_subscriptions *__subs = mmu_notifier_subscriptions(_mm); \
	struct srcu_struct *__srcu = mmu_list_srcu(__subs);			\
	struct mmu_notifier *__sub;						\
	int __idx, __any = 0;							\
										\
	if (__srcu) {								\
		__idx = srcu_read_lock(__srcu);					\
		mmu_list_for_each(__sub, __subs)				\
			if (__sub->ops->_op)					\
				__any |= __sub->ops->_op(__sub, _mm, __VA_ARGS__); \
		srcu_read_unlock(__srcu, __idx);				\
	}									\
	__any;									\
})

int __mmu_notifier_clear_flush_young(struct mm_struct *mm, unsigned long start,
				     unsigned long end)
{
	return mmu_list_any(mm, clear_flush_young, start, end);
}

int __mmu_notifier_clear_young(struct mm_struct *mm, unsigned long start,
			       unsigned long end)
{
	return mmu_list_any(mm, clear_young, start, end);
}

int __mmu_notifier_test_young(struct mm_struct *mm, unsigned long address)
{
	return mmu_list_any(mm, test_young, address);
}

void __mmu_notifier_arch_invalidate_secondary_tlbs(struct mm_struct *mm,
						   unsigned long start,
						   unsigned long end)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);
	struct srcu_struct *srcu = mmu_list_srcu(subs);
	struct mmu_notifier *sub;
	int idx;

	if (!srcu || start >= end)
		return;
	idx = srcu_read_lock(srcu);
	mmu_list_for_each(sub, subs)
		if (sub->ops->arch_invalidate_secondary_tlbs)
			sub->ops->arch_invalidate_secondary_tlbs(sub, mm, start, end);
	srcu_read_unlock(srcu, idx);
}

/* Exit and unregister may meet here; both wait out the SRCU afterwards. */
static void mmu_notifier_release_once(struct mmu_notifier *sub,
				      struct mm_struct *mm)
{
	if (sub->ops->release && !xchg(&sub->released, true))
		sub->ops->release(sub, mm);
}

static void mmu_list_release(struct mmu_notifier_subscriptions *subs,
			     struct mm_struct *mm)
{
	struct mmu_notifier *sub;
	int idx;

	idx = srcu_read_lock(subs->srcu);
	mmu_list_for_each(sub, subs)
		mmu_notifier_release_once(sub, mm);

	spin_lock(&subs->lock);
	while (!hlist_empty(&subs->list)) {
		sub = hlist_entry(subs->list.first, struct mmu_notifier, hlist);
		hlist_del_init_rcu(&sub->hlist);
	}
	spin_unlock(&subs->lock);
	srcu_read_unlock(subs->srcu, idx);

	/*
	 * An unregister may be in the middle of a release callback; the page
	 * tables must not go before it returned.
	 */
	synchronize_srcu(subs->srcu);
}

/* exit_mmap(), before it unmaps anything. */
void __mmu_notifier_release(struct mm_struct *mm)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);
	struct mmu_interval_notifier_finish *posted = NULL;
	struct mmu_interval_notifier *interval_sub;
	struct mmu_notifier_range range;
	unsigned int nr_called = 0;

	mmu_notifier_range_init(&range, MMU_NOTIFY_RELEASE,
				MMU_NOTIFIER_RANGE_BLOCKABLE, mm, 0, ULONG_MAX);
	interval_sub = mmu_active_link(subs, &range);
	if (interval_sub)
		mmu_interval_invalidate(&range, interval_sub, &posted,
					&nr_called);
	mmu_interval_finish(&range, posted);
	trace_mmu_notifier_start(&range, nr_called, 0);
	trace_mmu_notifier_end(&range);
	mmu_active_unlink(&range);

	/* An unregister takes its notifier out only after the callback. */
	if (!hlist_empty(&subs->list))
		mmu_list_release(subs, mm);
}

/* The SRCU comes with the first list notifier; mmap_lock excludes another. */
static int mmu_list_prepare(struct mmu_notifier_subscriptions *subs)
{
	struct srcu_struct *srcu;

	if (subs->srcu)
		return 0;
	srcu = kzalloc(sizeof(*srcu), GFP_KERNEL_ACCOUNT);
	if (!srcu)
		return -ENOMEM;
	if (init_srcu_struct(srcu)) {
		kfree(srcu);
		return -ENOMEM;
	}
	WRITE_ONCE(subs->srcu, srcu);
	return 0;
}

/*
 * The mm is armed, and the caller's hold on that becomes the notifier's. Ranges
 * that started before it was numbered will not end for it, and may be about to
 * take away a page that it would map; so they are waited for. That ends: they
 * hold reverse-map locks, inside of which nobody takes the mmap_lock.
 */
static void mmu_notifier_register_armed(struct mmu_notifier *sub,
					struct mm_struct *mm)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);

	mmgrab(mm);
	sub->mm = mm;
	sub->users = 1;
	sub->released = false;

	spin_lock(&subs->lock);
	sub->generation = subs->generation + 1;
	hlist_add_head_rcu(&sub->hlist, &subs->list);
	/* Pairs with the acquire in mmu_active_link(). */
	smp_store_release(&subs->generation, sub->generation);
	spin_unlock(&subs->lock);

	mmu_active_wait_all(subs);
	trace_mmu_notifier_register(sub);
}

/**
 * __mmu_notifier_register() - mmu_notifier_register() under the mmap_lock
 * @subscription: the notifier; its ops are set
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

	ret = mmu_notifier_arm_locked(mm);
	if (ret)
		return ret;
	ret = mmu_list_prepare(mmu_notifier_subscriptions(mm));
	if (ret) {
		mmu_notifier_disarm(mm);
		return ret;
	}
	mmu_notifier_register_armed(subscription, mm);
	return 0;
}
EXPORT_SYMBOL_GPL(__mmu_notifier_register);

/**
 * mmu_notifier_register() - hear of all changes of an mm
 * @subscription: the notifier; its ops are set, the rest is filled in here
 * @mm: the caller holds a reference on its mm_users
 *
 * When it returns no change is under way that the notifier was not told of.
 * A reference on mm_count is held until mmu_notifier_unregister().
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

/**
 * mmu_notifier_unregister() - hear no more
 * @subscription: registered by mmu_notifier_register()
 * @mm: the mm it was registered with; may have exited
 *
 * Calls the release callback, if exit did not already. When it returns no
 * callback of the notifier runs or will run.
 *
 * Context: sleeps, as long as callbacks of this mm do; not in a callback.
 */
void mmu_notifier_unregister(struct mmu_notifier *subscription,
			     struct mm_struct *mm)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);
	int idx;

	trace_mmu_notifier_unregister(subscription);
	/* Exit waits for this read side before it frees the page tables. */
	idx = srcu_read_lock(subs->srcu);
	mmu_notifier_release_once(subscription, mm);
	srcu_read_unlock(subs->srcu, idx);

	spin_lock(&subs->lock);
	hlist_del_init_rcu(&subscription->hlist);
	spin_unlock(&subs->lock);
	synchronize_srcu(subs->srcu);

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
 * @ops: the callbacks, which are also the name it is found by
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
 * mmu_notifier_get() - the one notifier of an mm that has these callbacks
 * @ops: with alloc_notifier and free_notifier, which own its memory
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

static void mmu_notifier_free_rcu(struct rcu_head *rcu)
{
	struct mmu_notifier *sub = container_of(rcu, struct mmu_notifier, rcu);
	struct mm_struct *mm = sub->mm;

	sub->ops->free_notifier(sub);
	mmu_notifier_disarm(mm);
	/* May be the last one: the SRCU we run under is freed by a worker. */
	mmdrop(mm);
	/* Last, and in code of the core: a module may be unloaded after this. */
	if (atomic_dec_and_test(&mmu_notifier_puts_pending))
		wake_up_all(&mmu_notifier_puts_wait);
}

/**
 * mmu_notifier_put() - give back what mmu_notifier_get() returned
 * @subscription: the notifier
 *
 * After the last put it is out of the list, and is freed by free_notifier once
 * no callback can be running. The release callback is not called for it.
 *
 * Context: does not sleep; may be called in a callback of the notifier.
 */
void mmu_notifier_put(struct mmu_notifier *subscription)
{
	struct mmu_notifier_subscriptions *subs =
		mmu_notifier_subscriptions(subscription->mm);
	bool last;

	spin_lock(&subs->lock);
	last = !WARN_ON_ONCE(!subscription->users) && !--subscription->users;
	if (last)
		hlist_del_init_rcu(&subscription->hlist);
	spin_unlock(&subs->lock);
	if (!last)
		return;

	trace_mmu_notifier_unregister(subscription);
	atomic_inc(&mmu_notifier_puts_pending);
	call_srcu(subs->srcu, &subscription->rcu, mmu_notifier_free_rcu);
}
EXPORT_SYMBOL_GPL(mmu_notifier_put);

/**
 * mmu_notifier_synchronize() - wait until all that was put is freed
 *
 * For the exit of a module that has used mmu_notifier_put().
 *
 * Context: sleeps.
 */
void mmu_notifier_synchronize(void)
{
	wait_event(mmu_notifier_puts_wait,
		   !atomic_read(&mmu_notifier_puts_pending));
}
EXPORT_SYMBOL_GPL(mmu_notifier_synchronize);
