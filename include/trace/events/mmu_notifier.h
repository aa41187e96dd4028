/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Trace events of the MMU notifier core: subscriptions, and ranges of armed
 * mms. There are no events for ranges of other mms.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM mmu_notifier

#if !defined(_TRACE_MMU_NOTIFIER_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_MMU_NOTIFIER_H

#include <linux/mmu_notifier.h>
#include <linux/tracepoint.h>
#include <trace/misc/mmu_notifier.h>

MMU_NOTIFIER_EVENT_ENUMS;

TRACE_EVENT(mmu_notifier_start,
	TP_PROTO(const struct mmu_notifier_range *range, unsigned int nr_called,
		 int ret),
	TP_ARGS(range, nr_called, ret),
	TP_STRUCT__entry(
		__field(const void *, mm)
		__field(unsigned long, start)
		__field(unsigned long, end)
		__field(unsigned int, event)
		__field(unsigned int, nr_called)
		__field(unsigned int, blockable)
		__field(int, ret)
	),
	TP_fast_assign(
		__entry->mm = range->mm;
		__entry->start = range->start;
		__entry->end = range->end;
		__entry->event = range->event;
		__entry->nr_called = nr_called;
		__entry->blockable = mmu_notifier_range_blockable(range);
		__entry->ret = ret;
	),
	TP_printk("mm=%p [%#lx, %#lx) %s%s called=%u ret=%d", __entry->mm,
		  __entry->start, __entry->end,
		  __print_symbolic(__entry->event, mmu_notifier_event_names),
		  __entry->blockable ? "" : " nonblock", __entry->nr_called,
		  __entry->ret)
);

TRACE_EVENT(mmu_notifier_end,
	TP_PROTO(const struct mmu_notifier_range *range),
	TP_ARGS(range),
	TP_STRUCT__entry(
		__field(const void *, mm)
		__field(unsigned long, start)
		__field(unsigned long, end)
		__field(unsigned int, event)
	),
	TP_fast_assign(
		__entry->mm = range->mm;
		__entry->start = range->start;
		__entry->end = range->end;
		__entry->event = range->event;
	),
	TP_printk("mm=%p [%#lx, %#lx) %s", __entry->mm, __entry->start,
		  __entry->end,
		  __print_symbolic(__entry->event, mmu_notifier_event_names))
);

DECLARE_EVENT_CLASS(mmu_notifier_list,
	TP_PROTO(const struct mmu_notifier *subscription),
	TP_ARGS(subscription),
	TP_STRUCT__entry(
		__field(const void *, subscription)
		__field(const void *, mm)
		__field(const void *, ops)
	),
	TP_fast_assign(
		__entry->subscription = subscription;
		__entry->mm = subscription->mm;
		__entry->ops = subscription->ops;
	),
	TP_printk("mm=%p notifier=%p ops=%ps", __entry->mm,
		  __entry->subscription, __entry->ops)
);

DEFINE_EVENT(mmu_notifier_list, mmu_notifier_register,
	TP_PROTO(const struct mmu_notifier *subscription), TP_ARGS(subscription));
DEFINE_EVENT(mmu_notifier_list, mmu_notifier_unregister,
	TP_PROTO(const struct mmu_notifier *subscription), TP_ARGS(subscription));

DECLARE_EVENT_CLASS(mmu_interval,
	TP_PROTO(const struct mmu_interval_notifier *interval_sub),
	TP_ARGS(interval_sub),
	TP_STRUCT__entry(
		__field(const void *, interval_sub)
		__field(const void *, mm)
		__field(unsigned long, start)
		__field(unsigned long, last)
	),
	TP_fast_assign(
		__entry->interval_sub = interval_sub;
		__entry->mm = interval_sub->mm;
		__entry->start = interval_sub->interval_tree.start;
		__entry->last = interval_sub->interval_tree.last;
	),
	TP_printk("mm=%p notifier=%p [%#lx, %#lx]", __entry->mm,
		  __entry->interval_sub, __entry->start, __entry->last)
);

DEFINE_EVENT(mmu_interval, mmu_interval_insert,
	TP_PROTO(const struct mmu_interval_notifier *interval_sub),
	TP_ARGS(interval_sub));
DEFINE_EVENT(mmu_interval, mmu_interval_remove,
	TP_PROTO(const struct mmu_interval_notifier *interval_sub),
	TP_ARGS(interval_sub));

/* A task sleeps until active ranges that overlap [start, last] have ended. */
TRACE_EVENT(mmu_notifier_wait,
	TP_PROTO(const struct mm_struct *mm, unsigned long start,
		 unsigned long last),
	TP_ARGS(mm, start, last),
	TP_STRUCT__entry(
		__field(const void *, mm)
		__field(unsigned long, start)
		__field(unsigned long, last)
	),
	TP_fast_assign(
		__entry->mm = mm;
		__entry->start = start;
		__entry->last = last;
	),
	TP_printk("mm=%p [%#lx, %#lx]", __entry->mm, __entry->start,
		  __entry->last)
);

#endif /* _TRACE_MMU_NOTIFIER_H */

#include <trace/define_trace.h>
