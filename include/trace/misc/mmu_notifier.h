/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Names of enum mmu_notifier_event, for trace events of the notifiers and of subscribers.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef _TRACE_MISC_MMU_NOTIFIER_H
#define _TRACE_MISC_MMU_NOTIFIER_H

/* For perf and other programs that format the event in user space. */
#define MMU_NOTIFIER_EVENT_ENUMS					\
	TRACE_DEFINE_ENUM(MMU_NOTIFY_UNMAP);				\
	TRACE_DEFINE_ENUM(MMU_NOTIFY_CLEAR);				\
	TRACE_DEFINE_ENUM(MMU_NOTIFY_PROTECTION_VMA);			\
	TRACE_DEFINE_ENUM(MMU_NOTIFY_PROTECTION_PAGE);			\
	TRACE_DEFINE_ENUM(MMU_NOTIFY_SOFT_DIRTY);			\
	TRACE_DEFINE_ENUM(MMU_NOTIFY_RELEASE);				\
	TRACE_DEFINE_ENUM(MMU_NOTIFY_MIGRATE);				\
	TRACE_DEFINE_ENUM(MMU_NOTIFY_EXCLUSIVE);			\
	TRACE_DEFINE_ENUM(MMU_NOTIFY_SPLIT)

#define mmu_notifier_event_names					\
	{ MMU_NOTIFY_UNMAP, "unmap" },					\
	{ MMU_NOTIFY_CLEAR, "clear" },					\
	{ MMU_NOTIFY_PROTECTION_VMA, "protection-vma" },		\
	{ MMU_NOTIFY_PROTECTION_PAGE, "protection-page" },		\
	{ MMU_NOTIFY_SOFT_DIRTY, "soft-dirty" },			\
	{ MMU_NOTIFY_RELEASE, "release" },				\
	{ MMU_NOTIFY_MIGRATE, "migrate" },				\
	{ MMU_NOTIFY_EXCLUSIVE, "exclusive" },				\
	{ MMU_NOTIFY_SPLIT, "split" }

#endif /* _TRACE_MISC_MMU_NOTIFIER_H */
