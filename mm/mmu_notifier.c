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
 *	mmu_notifier_active.c		the active set, waiting for ranges, pins
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
 * - A notifier that is being called stays where it is, in list or tree, and
 *   its owner waits: the range that calls it points at it. That is all there
 *   is to wait for: neither for other notifiers nor for a grace period of
 *   callbacks that sleep.
 * - The list grows at its head only, so it is sorted by generation. A refused
 *   start is thereby undone exactly, although notifiers may leave meanwhile.
 * - The release callback runs at most once, and page tables are not freed
 *   before it returned.
 *
 * Locks, outermost first: mmap_lock or a reverse-map lock; @subs->lock; shard
 * locks. None of the last two is held while a callback runs. The callbacks that
 * come under a page-table lock cannot sleep and are called under RCU.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <kunit/visibility.h>
#include <linux/err.h>
#include <linux/export.h>
#include <linux/mm.h>
#include <linux/mutex.h>
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
EXPORT_SYMBOL_IF_KUNIT(__mmu_notifier_invalidate_range_start_map);

/*
 * Held for reading from the start of a range to its end, and taken for writing by
 * those who wait for ends. Not the same as above: memory is allocated in between.
 */
struct lockdep_map __mmu_notifier_active_map = {
	.name = "mmu_notifier_active"
};
EXPORT_SYMBOL_IF_KUNIT(__mmu_notifier_active_map);
#endif

/*
 * mmu_notifier_put() calls that have not come to free_notifier() yet, by the period in
 * which they were made. A new one begins with each mmu_notifier_synchronize(), which
 * waits for the old one to become empty; there is one such wait at a time.
 */
static DEFINE_SPINLOCK(mmu_notifier_puts_lock);
static unsigned int mmu_notifier_puts_pending[2];
static unsigned int mmu_notifier_puts_period;
static DECLARE_WAIT_QUEUE_HEAD(mmu_notifier_puts_wait);
static DEFINE_MUTEX(mmu_notifier_puts_mutex);

/* Was @sub registered when @range started? */
static bool mmu_list_hears(const struct mmu_notifier *sub,
			   const struct mmu_notifier_range *range)
{
	return (long)(range->generation - sub->generation) >= 0;
}

/**
 * mmu_list_eligible() - whom to call
 * @node: in the list, or NULL
 * @range: linked
 *
 * Context: under a shard lock.
 * Return: the first notifier from @node on that @range concerns, or NULL.
 */
struct mmu_notifier *mmu_list_eligible(struct hlist_node *node,
				       const struct mmu_notifier_range *range)
{
	struct mmu_notifier *sub;

	for (; node; node = node->next) {
		sub = hlist_entry(node, struct mmu_notifier, hlist);
		if (likely(!sub->removing && mmu_list_hears(sub, range)))
			return sub;
	}
	return NULL;
}

/*
 * Go on from @sub, or from the head if that is NULL, and be at the next one.
 * Exit takes notifiers out of the list under our feet; having released all of
 * them first, it leaves nothing to call.
 */
static struct mmu_notifier *mmu_list_next(struct mmu_notifier_range *range,
					  struct mmu_notifier *sub)
{
	struct mmu_notifier_shard *shard = range->shard;
	struct mmu_notifier *next;
	bool removing;

	spin_lock(&shard->lock);
	removing = sub && sub->removing;
	if (!sub)
		next = mmu_list_first(shard->subs, range);
	else if (hlist_unhashed(&sub->hlist))
		next = NULL;
	else
		next = mmu_list_eligible(sub->hlist.next, range);
	range->at = next;
	spin_unlock(&shard->lock);
	if (unlikely(removing))
		wake_up_all(&shard->subs->removal_wait);
	return next;
}

/*
 * Walk to the end of the list without calling anything, so that @sub is unpinned
 * the usual way.
 */
static void mmu_list_leave(struct mmu_notifier_range *range, struct mmu_notifier *sub)
{
	while (sub)
		sub = mmu_list_next(range, sub);
}

static void mmu_list_call_end(struct mmu_notifier *sub,
			      const struct mmu_notifier_range *range)
{
	if (!sub->ops->invalidate_range_end)
		return;
	if (!mmu_notifier_range_blockable(range))
		non_block_start();
	sub->ops->invalidate_range_end(sub, range);
	if (!mmu_notifier_range_blockable(range))
		non_block_end();
}

static void mmu_list_end(struct mmu_notifier_range *range)
{
	struct mmu_notifier *sub = NULL;

	while ((sub = mmu_list_next(range, sub)))
		mmu_list_call_end(sub, range);
}

/* End a refused range for those who were told of it: they are newer than @refused. */
static void mmu_list_undo(struct mmu_notifier_range *range, unsigned long refused)
{
	struct mmu_notifier *sub = NULL;

	while ((sub = mmu_list_next(range, sub)))
		if ((long)(sub->generation - refused) > 0)
			mmu_list_call_end(sub, range);
}

static int mmu_list_call_start(struct mmu_notifier *sub,
			       const struct mmu_notifier_range *range)
{
	int ret;

	if (!sub->ops->invalidate_range_start)
		return 0;
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

/* Call the list; the range is at its first. */
static int mmu_list_invalidate(struct mmu_notifier_range *range,
			       unsigned int *nr_called)
{
	struct mmu_notifier *sub = (struct mmu_notifier *)range->at;
	unsigned long refused;

	do {
		++*nr_called;
		if (likely(!mmu_list_call_start(sub, range))) {
			sub = mmu_list_next(range, sub);
			continue;
		}
		refused = sub->generation;
		mmu_list_leave(range, sub);
		mmu_list_undo(range, refused);
		return -EAGAIN;
	} while (sub);
	return 0;
}

/*
 * @range becomes active. Returns the first notifier that has to hear of it, where
 * the range is at then; *@interval_sub if that is an interval notifier.
 */
static __always_inline const void *
mmu_range_link(struct mmu_notifier_subscriptions *subs,
	       struct mmu_notifier_range *range,
	       struct mmu_interval_notifier **interval_sub)
{
	struct mmu_notifier_shard *shard = mmu_active_shard(subs);
	const void *at;

	*interval_sub = NULL;
	spin_lock(&shard->lock);
	/* Cheaper than to keep it over the lock. */
	subs = shard->subs;
	mmu_active_link_locked(subs, shard, range);
	if (!RB_EMPTY_ROOT(&subs->intervals.rb_root))
		*interval_sub = mmu_interval_first(subs, range);
	at = *interval_sub ?: (void *)mmu_list_first(subs, range);
	range->at = at;
	spin_unlock(&shard->lock);
	return at;
}

static noinline int mmu_range_call(struct mmu_notifier_range *range,
				   struct mmu_interval_notifier *interval_sub)
{
	unsigned int nr_called = 0;
	int ret = 0;

	if (interval_sub)
		ret = mmu_interval_invalidate(range, interval_sub, &nr_called);
	if (range->at)
		ret = mmu_list_invalidate(range, &nr_called);
	/* Only now: the devices have been at it while the list was called. */
	if (unlikely(range->posted))
		mmu_interval_finish(range);
	trace_mmu_notifier_start(range, nr_called, ret);
	if (ret)
		mmu_active_unlink(range);
	return ret;
}

/* What mmu_notifier_invalidate_range_start() does on an armed mm. */
int __mmu_notifier_invalidate_range_start(struct mmu_notifier_range *range)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(range->mm);
	struct mmu_interval_notifier *interval_sub;
	const void *at;

	/* Nothing changes; callbacks and the tree know no empty interval. */
	if (unlikely(range->start >= range->end))
		return 0;

	at = mmu_range_link(subs, range, &interval_sub);
	/* Most ranges concern nobody. */
	if (likely(!at) && !trace_mmu_notifier_start_enabled())
		return 0;
	return mmu_range_call(range, interval_sub);
}
EXPORT_SYMBOL_IF_KUNIT(__mmu_notifier_invalidate_range_start);

/* What mmu_notifier_invalidate_range_end() does with a linked range. */
void __mmu_notifier_invalidate_range_end(struct mmu_notifier_range *range)
{
	lock_map_acquire(&__mmu_notifier_invalidate_range_start_map);
	trace_mmu_notifier_end(range);
	/*
	 * Without a lock: who was called at start and is gone need not be ended,
	 * and who comes now is not concerned.
	 */
	if (unlikely(!hlist_empty(&range->shard->subs->list)))
		mmu_list_end(range);
	mmu_active_unlink(range);
	lock_map_release(&__mmu_notifier_invalidate_range_start_map);
}
EXPORT_SYMBOL_IF_KUNIT(__mmu_notifier_invalidate_range_end);

/* Those who are called under RCU. A walker may still meet who is being taken out. */
static bool mmu_list_walks(const struct mmu_notifier *sub, const void *op)
{
	return op && !READ_ONCE(sub->removing);
}

/*
 * Ask the age callback @_op of the list notifiers; non-zero if any says so. With
 * @_all it asks on after the first that does: clearing has to reach all of them.
 * As long as @walked is false, no notifier with such callbacks was registered.
 */
#define mmu_list_any(_subs, _mm, _all, _op, ...)				\
({										\
	struct mmu_notifier_subscriptions *__subs = (_subs);			\
	struct mmu_notifier *__sub;						\
	int __any = 0;								\
										\
	/* Pairs with the release in mmu_notifier_register_armed(). */		\
	if (smp_load_acquire(&__subs->walked)) {				\
		rcu_read_lock();						\
		hlist_for_each_entry_rcu(__sub, &__subs->list, hlist) {		\
			if (mmu_list_walks(__sub, __sub->ops->_op))		\
				__any |= __sub->ops->_op(__sub, _mm, __VA_ARGS__); \
			if (__any && !(_all))					\
				break;						\
		}								\
		rcu_read_unlock();						\
	}									\
	__any;									\
})

int __mmu_notifier_clear_flush_young(struct mm_struct *mm, unsigned long start,
				     unsigned long end)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);

	return mmu_list_any(subs, mm, true, clear_flush_young, start, end) |
	       mmu_interval_age(subs, start, end, true);
}

int __mmu_notifier_clear_young(struct mm_struct *mm, unsigned long start,
			       unsigned long end)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);

	return mmu_list_any(subs, mm, true, clear_young, start, end) |
	       mmu_interval_age(subs, start, end, true);
}

int __mmu_notifier_test_young(struct mm_struct *mm, unsigned long address)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);

	return mmu_list_any(subs, mm, false, test_young, address) ||
	       mmu_interval_age(subs, address, address + 1, false);
}

void __mmu_notifier_arch_invalidate_secondary_tlbs(struct mm_struct *mm,
						   unsigned long start,
						   unsigned long end)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);
	struct mmu_notifier *sub;

	if (start >= end)
		return;
	/* Pairs with the release in mmu_notifier_register_armed(). */
	if (!smp_load_acquire(&subs->walked))
		return;
	rcu_read_lock();
	hlist_for_each_entry_rcu(sub, &subs->list, hlist)
		if (mmu_list_walks(sub, sub->ops->arch_invalidate_secondary_tlbs))
			sub->ops->arch_invalidate_secondary_tlbs(sub, mm, start, end);
	rcu_read_unlock();
}

/* Exit and unregister may meet here. */
static void mmu_notifier_release_once(struct mmu_notifier *sub,
				      struct mm_struct *mm)
{
	if (sub->ops->release && !xchg(&sub->released, 1))
		sub->ops->release(sub, mm);
}

/*
 * Take everybody out of the list: all at once, so that no range is ended for one
 * after it was not started for another. Then wait for the ranges that may still
 * be calling one of them; and for those who unregister and are in the middle of
 * the release callback, since the page tables must not go before that returned:
 * they pinned the notifier before they claimed the callback.
 */
static void mmu_list_clear(struct mmu_notifier_subscriptions *subs)
{
	struct mmu_notifier *sub;

	mmu_active_lock_all(subs);
	while (!hlist_empty(&subs->list)) {
		sub = hlist_entry(subs->list.first, struct mmu_notifier, hlist);
		WRITE_ONCE(sub->removing, true);
		hlist_del_init_rcu(&sub->hlist);
	}
	mmu_active_unlock_all(subs);
	mmu_active_wait_all(subs);
	mmu_active_wait_unpinned(subs, NULL);
}

/*
 * One invalidation of everything for the interval notifiers. It ends before the list
 * is released: a release callback may wait for a thread that is about to read the
 * page tables of one of their intervals, and that thread would wait for the range.
 */
static void mmu_intervals_release(struct mmu_notifier_subscriptions *subs,
				  struct mm_struct *mm)
{
	struct mmu_interval_notifier *interval_sub;
	struct mmu_notifier_range range;
	unsigned int nr_called = 0;

	mmu_notifier_range_init(&range, MMU_NOTIFY_RELEASE,
				MMU_NOTIFIER_RANGE_BLOCKABLE, mm, 0, ULONG_MAX);
	mmu_range_link(subs, &range, &interval_sub);
	if (interval_sub)
		mmu_interval_invalidate(&range, interval_sub, &nr_called);
	mmu_interval_finish(&range);
	/* It went on to the list, which hears of no range here. */
	mmu_list_leave(&range, (struct mmu_notifier *)range.at);
	trace_mmu_notifier_start(&range, nr_called, 0);
	trace_mmu_notifier_end(&range);
	mmu_active_unlink(&range);
}

/* Only pins what it calls: it is not a range, so nothing waits for it to end. */
static void mmu_list_release(struct mmu_notifier_subscriptions *subs,
			     struct mm_struct *mm)
{
	struct mmu_notifier *sub = NULL;
	struct mmu_notifier_range pin;

	mmu_active_pin(subs, &pin, NULL);
	while ((sub = mmu_list_next(&pin, sub)))
		mmu_notifier_release_once(sub, mm);
	mmu_active_unpin(&pin);
	mmu_list_clear(subs);
}

/* exit_mmap(), before it unmaps anything. */
void __mmu_notifier_release(struct mm_struct *mm)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);
	bool empty;

	mmu_intervals_release(subs, mm);
	/*
	 * Under the lock: an unregistration that took the last one out has called its
	 * release callback before, and that has to be over when the page tables are
	 * freed.
	 */
	spin_lock(&subs->lock);
	empty = hlist_empty(&subs->list);
	spin_unlock(&subs->lock);
	if (!empty)
		mmu_list_release(subs, mm);
}

/* Has it callbacks that are called under RCU? */
static bool mmu_notifier_unsleeping(const struct mmu_notifier *sub)
{
	const struct mmu_notifier_ops *ops = sub->ops;

	return ops->clear_flush_young || ops->clear_young || ops->test_young ||
	       ops->arch_invalidate_secondary_tlbs;
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
	sub->removing = false;
	sub->released = 0;

	mmu_active_lock_all(subs);
	sub->generation = ++subs->generation;
	hlist_add_head_rcu(&sub->hlist, &subs->list);
	if (mmu_notifier_unsleeping(sub)) {
		/* Pairs with the acquire in mmu_list_any(): this after the list. */
		smp_store_release(&subs->walked, true);
	}
	mmu_active_unlock_all(subs);

	mmu_active_wait_all(subs);
	trace_mmu_notifier_register(sub);
}

/*
 * A device either has tables of its own or walks those of the CPU. One that asks
 * for both would be told twice of each change.
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
 * mmu_notifier_register() - hear of all changes of an mm
 * @subscription: the notifier; its ops are set, the rest is filled in here. NULL
 *	registers none and switches the mm to interval mode
 * @mm: the caller holds a reference on its mm_users
 *
 * When it returns no change is under way that the notifier was not told of.
 * A reference on mm_count is held until mmu_notifier_unregister().
 *
 * Interval mode lasts until the mm is freed: it stays armed, so that from then on
 * mmu_interval_notifier_insert() neither takes the mmap_lock nor fails for want of
 * memory or because of a signal. There is nothing to unregister.
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

/*
 * Take a notifier out of the list, once no range is calling it. Returns true if a
 * walk under RCU may still be at it: then it must not be freed before a grace period
 * has passed. There are no such walks before a notifier with age or TLB callbacks was
 * registered. That is not forgotten when it goes: to know that the last walk is over
 * would take a grace period, too.
 */
static bool mmu_notifier_unlink(struct mmu_notifier *sub)
{
	struct mm_struct *mm = sub->mm;
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);
	bool walked;

	mmu_active_lock_unpinned(subs, sub, &sub->removing);
	/* Unless exit was first. */
	if (!hlist_unhashed(&sub->hlist))
		hlist_del_init_rcu(&sub->hlist);
	walked = subs->walked;
	mmu_active_unlock_all(subs);
	return walked;
}

/**
 * mmu_notifier_unregister() - hear no more
 * @subscription: registered by mmu_notifier_register()
 * @mm: the mm it was registered with; may have exited
 *
 * Calls the release callback, if exit did not already. When it returns no
 * callback of the notifier runs or will run. Waits for those that are running
 * on this very notifier and, if it or another one of the mm has or had age or TLB
 * callbacks, for an RCU grace period.
 *
 * Context: sleeps; not in a callback.
 */
void mmu_notifier_unregister(struct mmu_notifier *subscription,
			     struct mm_struct *mm)
{
	struct mmu_notifier_subscriptions *subs = mmu_notifier_subscriptions(mm);
	struct mmu_notifier_range pin;

	might_sleep();
	trace_mmu_notifier_unregister(subscription);
	/* Exit waits for the pin before it frees the page tables. */
	mmu_active_pin(subs, &pin, subscription);
	mmu_notifier_release_once(subscription, mm);
	mmu_active_unpin(&pin);
	if (mmu_notifier_unlink(subscription))
		synchronize_rcu_expedited();

	/* Waits for callbacks, so no callback may wait for us. */
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
		if (sub->ops != ops || sub->removing)
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

static void mmu_notifier_free_work(struct work_struct *work)
{
	struct mmu_notifier *sub = container_of(to_rcu_work(work), struct mmu_notifier,
						free_work);
	struct mm_struct *mm = sub->mm;

	unsigned int period = sub->put_period;

	sub->ops->free_notifier(sub);
	mmu_notifier_disarm(mm);
	mmdrop(mm);

	/* Last, and in code of the core: a module may be unloaded after this. */
	spin_lock(&mmu_notifier_puts_lock);
	if (!--mmu_notifier_puts_pending[period])
		wake_up_all(&mmu_notifier_puts_wait);
	spin_unlock(&mmu_notifier_puts_lock);
}

/* All that were put at about the same time share one grace period. */
static void mmu_notifier_unlink_work(struct work_struct *work)
{
	struct mmu_notifier *sub = container_of(to_rcu_work(work), struct mmu_notifier,
						free_work);

	if (!mmu_notifier_unlink(sub)) {
		mmu_notifier_free_work(work);
		return;
	}
	INIT_RCU_WORK(&sub->free_work, mmu_notifier_free_work);
	queue_rcu_work(system_unbound_wq, &sub->free_work);
}

/**
 * mmu_notifier_put() - give back what mmu_notifier_get() returned
 * @subscription: the notifier
 *
 * After the last put no callback begins, and it is freed by free_notifier once
 * none is running. The release callback is not called for it.
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
	/* From now on nobody comes to it. */
	if (last)
		WRITE_ONCE(subscription->removing, true);
	mmu_active_unlock_all(subs);
	if (!last)
		return;

	trace_mmu_notifier_unregister(subscription);
	spin_lock(&mmu_notifier_puts_lock);
	subscription->put_period = mmu_notifier_puts_period;
	mmu_notifier_puts_pending[subscription->put_period]++;
	spin_unlock(&mmu_notifier_puts_lock);
	INIT_RCU_WORK(&subscription->free_work, mmu_notifier_unlink_work);
	queue_work(system_unbound_wq, &subscription->free_work.work);
}
EXPORT_SYMBOL_GPL(mmu_notifier_put);

/**
 * mmu_notifier_synchronize() - wait until all that was put is freed
 *
 * For the exit of a module that has used mmu_notifier_put(). Waits for what was
 * put before the call, and not for what others put meanwhile.
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
