/* SPDX-License-Identifier: GPL-2.0 */
/* For modules with a kprobe whose handler sends the caller elsewhere. */
#ifndef PINLESS_KEEP_BREAKPOINT_H
#define PINLESS_KEEP_BREAKPOINT_H

#include <linux/kprobes.h>

/* As post_handler: it keeps kprobes from replacing the breakpoint by a jump, which ignores ip. */
static void keep_breakpoint(struct kprobe *probe, struct pt_regs *regs, unsigned long flags)
{
}

#endif /* PINLESS_KEEP_BREAKPOINT_H */
