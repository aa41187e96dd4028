/* SPDX-License-Identifier: GPL-2.0 */
/*
 * MMU notifiers, for the memory manager: announcing changes of page tables.
 * Include <linux/mmu_notifier.h>, which has an overview.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef _LINUX_MMU_NOTIFIER_ANNOUNCE_H
#define _LINUX_MMU_NOTIFIER_ANNOUNCE_H

#include <linux/cleanup.h>
#include <linux/lockdep.h>
#include <linux/mm_types.h>
#include <linux/mmu_notifier_subscribe.h>

struct mmu_notifier_subscriptions;

#ifdef CONFIG_MMU_NOTIFIER

#ifdef CONFIG_LOCKDEP
extern struct lockdep_map __mmu_notifier_invalidate_range_start_map;
extern struct lockdep_map __mmu_notifier_active_map;
#endif

/*
 * The lowest bit of mm->notifier_subscriptions says whether the mm is armed. The rest of
 * the pointer does not change once it is set, because active ranges use it.
 */
#define MMU_NOTIFIER_ARMED	1UL

static inline int mm_has_notifiers(struct mm_struct *mm)
{
	/*
	 * A stale value is harmless: mm_take_all_locks() excludes all ranges while the
	 * mm is being armed, and a disarmed mm has no subscribers.
	 */
	return unlikely((unsigned long)READ_ONCE(mm->notifier_subscriptions) &
			MMU_NOTIFIER_ARMED);
}

void __mmu_notifier_subscriptions_destroy(struct mm_struct *mm);
void __mmu_notifier_release(struct mm_struct *mm);
int __mmu_notifier_invalidate_range_start(struct mmu_notifier_range *range);
void __mmu_notifier_invalidate_range_end(struct mmu_notifier_range *range);
int __mmu_notifier_clear_flush_young(struct mm_struct *mm, unsigned long start,
				     unsigned long end);
int __mmu_notifier_clear_young(struct mm_struct *mm, unsigned long start,
			       unsigned long end);
int __mmu_notifier_test_young(struct mm_struct *mm, unsigned long address);
void __mmu_notifier_arch_invalidate_secondary_tlbs(struct mm_struct *mm,
						   unsigned long start,
						   unsigned long end);

#ifdef CONFIG_DEBUG_MMU_NOTIFIER
void mmu_notifier_usage_start(struct mmu_notifier_range *range);
void mmu_notifier_usage_end(struct mmu_notifier_range *range);
#else
static inline void mmu_notifier_usage_start(struct mmu_notifier_range *range) { }
static inline void mmu_notifier_usage_end(struct mmu_notifier_range *range) { }
#endif

static inline void mmu_notifier_subscriptions_init(struct mm_struct *mm)
{
	mm->notifier_subscriptions = NULL;
}

/* The mm is being freed, or fork has failed. */
static inline void mmu_notifier_subscriptions_destroy(struct mm_struct *mm)
{
	/* Whether it is armed or not. */
	if (unlikely(mm->notifier_subscriptions))
		__mmu_notifier_subscriptions_destroy(mm);
}

static inline void mmu_notifier_release(struct mm_struct *mm)
{
	if (mm_has_notifiers(mm))
		__mmu_notifier_release(mm);
}

static inline void
__mmu_notifier_range_init(struct mmu_notifier_range *range,
			  enum mmu_notifier_event event, unsigned int flags,
			  struct mm_struct *mm, unsigned long start,
			  unsigned long end, void *owner, const char *site)
{
	range->mm = mm;
	range->start = start;
	range->end = end;
	range->flags = flags;
	range->event = event;
	range->owner = owner;
	range->shard = 0;
	range->awaited = false;
#ifdef CONFIG_DEBUG_MMU_NOTIFIER
	range->frozen.task = NULL;
	range->frozen.site = site;
#endif
}

/* Macros, so that DEBUG_MMU_NOTIFIER gets the name of the calling function. */
#define mmu_notifier_range_init_owner(_range, _event, _flags, _mm, _start, _end, _owner) \
	__mmu_notifier_range_init(_range, _event, _flags, _mm, _start, _end,	\
				  _owner, __func__)
#define mmu_notifier_range_init(_range, _event, _flags, _mm, _start, _end)	\
	mmu_notifier_range_init_owner(_range, _event, _flags, _mm, _start, _end, NULL)

/**
 * mmu_notifier_invalidate_range_start() - announce a change
 * @range: initialised; must not move or change until
 *	mmu_notifier_invalidate_range_end()
 *
 * Prefer the scoped forms.
 *
 * Context: sleeps. mmap_lock, VMA lock, or the reverse-map lock through which the
 * mappings are reached, is held until after the end; no page-table lock.
 */
static inline void
mmu_notifier_invalidate_range_start(struct mmu_notifier_range *range)
{
	might_sleep();
	mmu_notifier_usage_start(range);
	lock_map_acquire(&__mmu_notifier_invalidate_range_start_map);
	if (mm_has_notifiers(range->mm)) {
		range->flags |= MMU_NOTIFIER_RANGE_BLOCKABLE;
		__mmu_notifier_invalidate_range_start(range);
	}
	lock_map_release(&__mmu_notifier_invalidate_range_start_map);
	lock_map_acquire_read(&__mmu_notifier_active_map);
}

/**
 * mmu_notifier_invalidate_range_start_nonblock() - announce without sleeping
 * @range: as for mmu_notifier_invalidate_range_start()
 *
 * For the OOM reaper, which must not sleep.
 *
 * Return: 0, or -EAGAIN if a subscriber would have to sleep. Then no range was started:
 * do not change the mappings, and do not call mmu_notifier_invalidate_range_end().
 */
static inline int __must_check
mmu_notifier_invalidate_range_start_nonblock(struct mmu_notifier_range *range)
{
	int ret = 0;

	mmu_notifier_usage_start(range);
	lock_map_acquire(&__mmu_notifier_invalidate_range_start_map);
	if (mm_has_notifiers(range->mm)) {
		range->flags &= ~MMU_NOTIFIER_RANGE_BLOCKABLE;
		ret = __mmu_notifier_invalidate_range_start(range);
	}
	lock_map_release(&__mmu_notifier_invalidate_range_start_map);
	if (ret)
		mmu_notifier_usage_end(range);
	else
		lock_map_acquire_read(&__mmu_notifier_active_map);
	return ret;
}

/**
 * mmu_notifier_invalidate_range_end() - the announced change is complete
 * @range: the argument of start
 *
 * Uses what start has recorded in @range. It does not matter if the mm has been armed or
 * disarmed since then.
 *
 * Context: as for start.
 */
static inline void
mmu_notifier_invalidate_range_end(struct mmu_notifier_range *range)
{
	if (mmu_notifier_range_blockable(range))
		might_sleep();
	if (unlikely(range->shard))
		__mmu_notifier_invalidate_range_end(range);
	lock_map_release(&__mmu_notifier_active_map);
	mmu_notifier_usage_end(range);
}

/* Age callbacks: called under the page-table lock. */
static inline int mmu_notifier_clear_flush_young(struct mm_struct *mm,
						 unsigned long start,
						 unsigned long end)
{
	return mm_has_notifiers(mm) ?
	       __mmu_notifier_clear_flush_young(mm, start, end) : 0;
}

static inline int mmu_notifier_clear_young(struct mm_struct *mm,
					   unsigned long start,
					   unsigned long end)
{
	return mm_has_notifiers(mm) ?
	       __mmu_notifier_clear_young(mm, start, end) : 0;
}

static inline int mmu_notifier_test_young(struct mm_struct *mm,
					  unsigned long address)
{
	return mm_has_notifiers(mm) ? __mmu_notifier_test_young(mm, address) : 0;
}

static inline void
mmu_notifier_arch_invalidate_secondary_tlbs(struct mm_struct *mm,
					    unsigned long start,
					    unsigned long end)
{
	if (mm_has_notifiers(mm))
		__mmu_notifier_arch_invalidate_secondary_tlbs(mm, start, end);
}

/*
 * A page was accessed through the CPU's entry or through a secondary one. Both are always
 * cleared, so there is no short circuit.
 */
#define __mmu_notifier_young(_cpu_op, _notify, _vma, _addr, _entryp, _size)	\
({										\
	struct vm_area_struct *__young_vma = (_vma);				\
	unsigned long __young_addr = (_addr);					\
	int __cpu_young = _cpu_op(__young_vma, __young_addr, _entryp);		\
										\
	__cpu_young | _notify(__young_vma->vm_mm, __young_addr,			\
			      __young_addr + (_size));				\
})

#define ptep_clear_flush_young_notify(_vma, _addr, _ptep)			\
	__mmu_notifier_young(ptep_clear_flush_young,				\
			     mmu_notifier_clear_flush_young,			\
			     _vma, _addr, _ptep, PAGE_SIZE)

#define pmdp_clear_flush_young_notify(_vma, _addr, _pmdp)			\
	__mmu_notifier_young(pmdp_clear_flush_young,				\
			     mmu_notifier_clear_flush_young,			\
			     _vma, _addr, _pmdp, PMD_SIZE)

#define ptep_clear_young_notify(_vma, _addr, _ptep)				\
	__mmu_notifier_young(ptep_test_and_clear_young,				\
			     mmu_notifier_clear_young,				\
			     _vma, _addr, _ptep, PAGE_SIZE)

#define pmdp_clear_young_notify(_vma, _addr, _pmdp)				\
	__mmu_notifier_young(pmdp_test_and_clear_young,				\
			     mmu_notifier_clear_young,				\
			     _vma, _addr, _pmdp, PMD_SIZE)

#else /* CONFIG_MMU_NOTIFIER */

/* Arguments that only subscribers use are not evaluated. */
#define mmu_notifier_range_init_owner(_range, _event, _flags, _mm, _start, _end, _owner) \
	(*(_range) = (struct mmu_notifier_range) { .start = (_start), .end = (_end) })
#define mmu_notifier_range_init(_range, _event, _flags, _mm, _start, _end)	\
	mmu_notifier_range_init_owner(_range, _event, _flags, _mm, _start, _end, NULL)

static inline int mm_has_notifiers(struct mm_struct *mm) { return 0; }
static inline void mmu_notifier_subscriptions_init(struct mm_struct *mm) { }
static inline void mmu_notifier_subscriptions_destroy(struct mm_struct *mm) { }
static inline void mmu_notifier_release(struct mm_struct *mm) { }

static inline void
mmu_notifier_invalidate_range_start(struct mmu_notifier_range *range) { }

static inline int
mmu_notifier_invalidate_range_start_nonblock(struct mmu_notifier_range *range)
{
	return 0;
}

static inline void
mmu_notifier_invalidate_range_end(struct mmu_notifier_range *range) { }

static inline int mmu_notifier_clear_flush_young(struct mm_struct *mm,
						 unsigned long start,
						 unsigned long end)
{
	return 0;
}

static inline int mmu_notifier_clear_young(struct mm_struct *mm,
					   unsigned long start,
					   unsigned long end)
{
	return 0;
}

static inline int mmu_notifier_test_young(struct mm_struct *mm,
					  unsigned long address)
{
	return 0;
}

static inline void
mmu_notifier_arch_invalidate_secondary_tlbs(struct mm_struct *mm,
					    unsigned long start,
					    unsigned long end) { }

#define ptep_clear_flush_young_notify	ptep_clear_flush_young
#define pmdp_clear_flush_young_notify	pmdp_clear_flush_young
#define ptep_clear_young_notify		ptep_test_and_clear_young
#define pmdp_clear_young_notify		pmdp_test_and_clear_young
#define ptep_clear_flush_notify		ptep_clear_flush
#define pmdp_huge_clear_flush_notify	pmdp_huge_clear_flush
#define pudp_huge_clear_flush_notify	pudp_huge_clear_flush

#endif /* CONFIG_MMU_NOTIFIER */

/**
 * DOC: Scoped invalidation
 *
 * One construct sets up, starts and ends the range. The code inside can access the range
 * only through a pointer to const, so it can neither forget to end it nor modify it while
 * it is active. As with all of <linux/cleanup.h>, do not use goto in the same function.
 *
 * mmu_invalidate_guard(name, event, flags, mm, start, end);
 *	from here to the end of the enclosing block. Variables with a cleanup that are
 *	declared later are cleaned up before the range ends.
 *
 * scoped_mmu_invalidate(event, flags, mm, start, end) { ... }
 *	for one statement or block. "break" and "continue" leave this block, not a loop
 *	around it; "return" works as usual.
 *
 * scoped_mmu_invalidate_nonblock(refused, event, flags, mm, start, end) { ... }
 *	does not sleep. If a subscriber would have to, the statement ``refused`` is
 *	executed instead of the block, and no range is started.
 *
 * The _owner variants take &mmu_notifier_range.owner as a last argument.
 */
static inline struct mmu_notifier_range *
__mmu_invalidate_enter(struct mmu_notifier_range *range)
{
	mmu_notifier_invalidate_range_start(range);
	return range;
}

static inline struct mmu_notifier_range *
__mmu_invalidate_try_enter(struct mmu_notifier_range *range)
{
	return mmu_notifier_invalidate_range_start_nonblock(range) ? NULL : range;
}

static inline void __mmu_invalidate_exit(const void *rangep)
{
	struct mmu_notifier_range *range = *(struct mmu_notifier_range **)rangep;

	if (range)
		mmu_notifier_invalidate_range_end(range);
}

/*
 * The storage is initialised once, and only the fields that are needed. A compound literal
 * or CONFIG_INIT_STACK_ALL_ZERO would clear all of it at every site.
 */
#define __mmu_invalidate_open(_enter, _storage, ...)				\
({										\
	mmu_notifier_range_init_owner(_storage, __VA_ARGS__);			\
	_enter(_storage);							\
})

#define mmu_invalidate_guard_owner(_name, ...)					\
	struct mmu_notifier_range __storage_##_name __uninitialized;		\
	const struct mmu_notifier_range *_name __cleanup(__mmu_invalidate_exit)	\
		__maybe_unused = __mmu_invalidate_open(__mmu_invalidate_enter,	\
					&__storage_##_name, __VA_ARGS__)

#define mmu_invalidate_guard(_name, ...)					\
	mmu_invalidate_guard_owner(_name, __VA_ARGS__, NULL)

/*
 * An endless loop that is left after the first iteration, so that the compiler knows that
 * the block is always executed.
 */
#define __scoped_mmu_invalidate(_label, _enter, ...)				\
	for (struct mmu_notifier_range __storage __uninitialized,		\
	     *__scope __cleanup(__mmu_invalidate_exit) =			\
			__mmu_invalidate_open(_enter, &__storage, __VA_ARGS__);	\
	     ; ({ goto _label; }))						\
		if (0) {							\
_label:										\
			break;							\
		} else

#define scoped_mmu_invalidate_owner(...)					\
	__scoped_mmu_invalidate(__UNIQUE_ID(label), __mmu_invalidate_enter,	\
				__VA_ARGS__)

#define scoped_mmu_invalidate(...)						\
	scoped_mmu_invalidate_owner(__VA_ARGS__, NULL)

#define scoped_mmu_invalidate_nonblock(_refused, ...)				\
	__scoped_mmu_invalidate(__UNIQUE_ID(label), __mmu_invalidate_try_enter,	\
				__VA_ARGS__, NULL)				\
		if (!__scope)							\
			_refused;						\
		else

#endif /* _LINUX_MMU_NOTIFIER_ANNOUNCE_H */
