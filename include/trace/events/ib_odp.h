/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * Trace events of on-demand paging: regions, their faults, what invalidates them.
 *
 * @odp names a region in all of its events. It is not the address of its memory: of that
 * a process may have several regions.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM ib_odp

#if !defined(_TRACE_IB_ODP_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_IB_ODP_H

#include <linux/ktime.h>
#include <linux/tracepoint.h>
#include <rdma/ib_umem_odp.h>
#include <trace/misc/mmu_notifier.h>

MMU_NOTIFIER_EVENT_ENUMS;
TRACE_DEFINE_ENUM(IB_ODP_FAULT_WRITE);
TRACE_DEFINE_ENUM(IB_ODP_FAULT_PREFETCH);
TRACE_DEFINE_ENUM(IB_ODP_FAULT_PRESENT);
TRACE_DEFINE_ENUM(IB_ODP_FAULT_PROMPT);
TRACE_DEFINE_ENUM(IB_ODP_FAULT_PART);

#define ib_odp_fault_names						\
	{ IB_ODP_FAULT_WRITE, "write" },				\
	{ IB_ODP_FAULT_PREFETCH, "prefetch" },				\
	{ IB_ODP_FAULT_PRESENT, "present" },				\
	{ IB_ODP_FAULT_PROMPT, "prompt" },				\
	{ IB_ODP_FAULT_PART, "part" }

/* Pages that faults brought, that were taken away and that came ahead, by then. */
DECLARE_EVENT_CLASS(ib_odp_region,
	TP_PROTO(const struct ib_umem_odp *odp),
	TP_ARGS(odp),
	TP_STRUCT__entry(
		__field(const void *, odp)
		__string(device, dev_name(&odp->umem.ibdev->dev))
		__field(unsigned long, start)
		__field(unsigned long, length)
		__field(bool, writable)
		__field(bool, implicit)
		__field(u64, faults)
		__field(u64, invalidations)
		__field(u64, prefetched)
	),
	TP_fast_assign(
		__entry->odp = odp;
		__assign_str(device);
		__entry->start = odp->umem.address;
		__entry->length = odp->umem.length;
		__entry->writable = odp->umem.writable;
		__entry->implicit = odp->implicit;
		__entry->faults = atomic64_read(&odp->stats.faults);
		__entry->invalidations = atomic64_read(&odp->stats.invalidations);
		__entry->prefetched = atomic64_read(&odp->stats.prefetch);
	),
	TP_printk("odp=%p device=%s start=%#lx length=%lu%s%s faults=%llu invalidations=%llu prefetched=%llu",
		  __entry->odp, __get_str(device), __entry->start, __entry->length,
		  __entry->writable ? " writable" : "", __entry->implicit ? " implicit" : "",
		  __entry->faults, __entry->invalidations, __entry->prefetched)
);

/* The task that registers the memory is its owner. */
DEFINE_EVENT(ib_odp_region, ib_odp_get,
	TP_PROTO(const struct ib_umem_odp *odp), TP_ARGS(odp));
DEFINE_EVENT(ib_odp_region, ib_odp_release,
	TP_PROTO(const struct ib_umem_odp *odp), TP_ARGS(odp));

/*
 * A fault has ended; @ns: after so long. Up to @ahead pages were looked for. @ret: 0, or why
 * it failed; -EAGAIN: it goes on in a populate.
 */
TRACE_EVENT(ib_odp_fault,
	TP_PROTO(const struct ib_umem_odp *odp, unsigned long start, unsigned long end,
		 unsigned int flags, const struct ib_odp_chunk *chunk, u64 began),
	TP_ARGS(odp, start, end, flags, chunk, began),
	TP_STRUCT__entry(
		__field(const void *, odp)
		__field(unsigned long, start)
		__field(unsigned long, end)
		__field(unsigned long, ahead)
		__field(unsigned int, flags)
		__field(int, ret)
		__field(u64, ns)
	),
	TP_fast_assign(
		__entry->odp = odp;
		__entry->start = start;
		__entry->end = end;
		__entry->ahead = IS_ERR(chunk) ? end : chunk->fault_end;
		__entry->flags = flags;
		__entry->ret = PTR_ERR_OR_ZERO(chunk);
		__entry->ns = began ? ktime_get_ns() - began : 0;
	),
	TP_printk("odp=%p [%#lx, %#lx) ahead=%#lx flags=%s ret=%d ns=%llu",
		  __entry->odp, __entry->start, __entry->end, __entry->ahead,
		  __print_flags(__entry->flags, "|", ib_odp_fault_names), __entry->ret,
		  __entry->ns)
);

/* A fault found that pages of the range were taken away meanwhile, and begins again. */
TRACE_EVENT(ib_odp_collision,
	TP_PROTO(const struct ib_umem_odp *odp, unsigned long start, unsigned long end),
	TP_ARGS(odp, start, end),
	TP_STRUCT__entry(
		__field(const void *, odp)
		__field(unsigned long, start)
		__field(unsigned long, end)
	),
	TP_fast_assign(
		__entry->odp = odp;
		__entry->start = start;
		__entry->end = end;
	),
	TP_printk("odp=%p [%#lx, %#lx)", __entry->odp, __entry->start, __entry->end)
);

/* The device had @pages in this range, and loses what @event takes. */
TRACE_EVENT(ib_odp_invalidate,
	TP_PROTO(const struct ib_umem_odp *odp, unsigned long start, unsigned long end,
		 unsigned int event, unsigned int pages),
	TP_ARGS(odp, start, end, event, pages),
	TP_STRUCT__entry(
		__field(const void *, odp)
		__field(unsigned long, start)
		__field(unsigned long, end)
		__field(unsigned int, event)
		__field(unsigned int, pages)
	),
	TP_fast_assign(
		__entry->odp = odp;
		__entry->start = start;
		__entry->end = end;
		__entry->event = event;
		__entry->pages = pages;
	),
	TP_printk("odp=%p [%#lx, %#lx) event=%s pages=%u", __entry->odp, __entry->start,
		  __entry->end, __print_symbolic(__entry->event, mmu_notifier_event_names),
		  __entry->pages)
);

/* Pages for which a driver did not wait, or which user space held up, after @ns. */
TRACE_EVENT(ib_odp_populate,
	TP_PROTO(const struct ib_umem_odp *odp, unsigned long start, unsigned long end,
		 unsigned int flags, int ret, u64 began),
	TP_ARGS(odp, start, end, flags, ret, began),
	TP_STRUCT__entry(
		__field(const void *, odp)
		__field(unsigned long, start)
		__field(unsigned long, end)
		__field(unsigned int, flags)
		__field(int, ret)
		__field(u64, ns)
	),
	TP_fast_assign(
		__entry->odp = odp;
		__entry->start = start;
		__entry->end = end;
		__entry->flags = flags;
		__entry->ret = ret;
		__entry->ns = began ? ktime_get_ns() - began : 0;
	),
	TP_printk("odp=%p [%#lx, %#lx) flags=%s ret=%d ns=%llu", __entry->odp,
		  __entry->start, __entry->end,
		  __print_flags(__entry->flags, "|", ib_odp_fault_names), __entry->ret,
		  __entry->ns)
);

#endif /* _TRACE_IB_ODP_H */

#include <trace/define_trace.h>
