/* SPDX-License-Identifier: GPL-2.0 */
/*
 * MMU notifiers: notify KVM guests, GPUs, RDMA adapters and others that mirror the page
 * tables of a process, before a mapping becomes more restrictive.
 *
 * Copyright (C) 2026 the Pinless authors
 *
 * - The memory manager announces changes. It encloses each change in an invalidation
 *   range, with one of the scoped forms or, where a scope does not fit, with an explicit
 *   start and end. See <linux/mmu_notifier_announce.h>.
 * - A list notifier (&struct mmu_notifier) is called for all changes of one mm. An
 *   interval notifier (&struct mmu_interval_notifier) is called for changes that overlap
 *   one interval of addresses. It owns a sequence count, by which a page fault of the
 *   device detects that it collided with a change. See <linux/mmu_notifier_subscribe.h>.
 *
 * An mm is *armed* while it has subscribers, and for about a second after the last one
 * has left. Only the ranges of an armed mm are recorded; for any other mm an announcement
 * costs a load and a branch. mm/mmu_notifier.c describes the implementation,
 * Documentation/mm/mmu_notifier.rst the use.
 */
#ifndef _LINUX_MMU_NOTIFIER_H
#define _LINUX_MMU_NOTIFIER_H

#include <linux/list.h>
#include <linux/mm_types.h>
#include <linux/mmap_lock.h>
#include <linux/mmu_notifier_announce.h>
#include <linux/mmu_notifier_subscribe.h>
#include <linux/spinlock.h>

#endif /* _LINUX_MMU_NOTIFIER_H */
