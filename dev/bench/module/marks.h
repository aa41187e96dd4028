/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Marks: how the module tells QEMU's plugin what it does. For both of them.
 *
 * A mark is an instruction, "testl $mark, (%rsp)", that no compiler makes: it
 * tests what is on the stack and drops the result. The plugin recognises the
 * constant when it translates the instruction. When the instruction runs, the
 * address of its load says where the stack is.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef PINLESS_MARKS_H
#define PINLESS_MARKS_H

#define MARK_MAGIC	0x5a430000U	/* the upper half of all marks */
#define MARK_KIND(mark)	((mark) & 0xff00U)
#define MARK_VALUE(mark) ((mark) & 0xffU)

#define MARK_ROW	0x0100U		/* a row begins: no CPU holds a line */
#define MARK_COUNT	0x0200U		/* it is warm: count from here on */
#define MARK_BEGIN	0x0300U		/* an operation begins; the value is its class */
#define MARK_END	0x0400U		/* it ended */
#define MARK_SLEEP	0x0500U		/* the task leaves the CPU */
#define MARK_WAKE	0x0600U		/* the task is back */
#define MARK_DONE	0x0700U		/* the row ended */

#define MARK_CLASSES	4U		/* kinds of operations in a row */
#define MARK_STACK	16384U		/* the size and the alignment of a stack */

#endif /* PINLESS_MARKS_H */
