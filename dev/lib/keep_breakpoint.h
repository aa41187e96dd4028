/* SPDX-License-Identifier: GPL-2.0 */
/* For modules with a kprobe handler that sets regs->ip. */
#ifndef PINLESS_KEEP_BREAKPOINT_H
#define PINLESS_KEEP_BREAKPOINT_H

#include <linux/kprobes.h>

/*
 * The post_handler. Without one, kprobes may replace the breakpoint by a jump,
 * which ignores regs->ip.
 */
static void keep_breakpoint(struct kprobe *probe, struct pt_regs *regs, unsigned long flags)
{
}

#endif /* PINLESS_KEEP_BREAKPOINT_H */
