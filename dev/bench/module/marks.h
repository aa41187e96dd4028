/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Marks, with which the module informs the QEMU plugin of its operations.
 * Included by both.
 *
 * A mark is an instruction that no compiler generates, "testl $mark, (%rsp)":
 * it tests the top of the stack and ignores the result. The plugin recognises
 * the constant when it translates the instruction. When the instruction is
 * executed, the address of its load is that of the stack.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef PINLESS_MARKS_H
#define PINLESS_MARKS_H

#define MARK(_kind_value)						\
	asm volatile("testl %0, (%%rsp)"				\
		     : : "i" (MARK_MAGIC | (_kind_value)) : "cc", "memory")

#define MARK_MAGIC	0x5a430000U	/* the upper half of all marks */
#define MARK_KIND(mark)	((mark) & 0xff00U)
#define MARK_VALUE(mark) ((mark) & 0xffU)

#define MARK_ROW	0x0100U		/* start of a row; all lines are cold */
#define MARK_COUNT	0x0200U		/* start of counting */
#define MARK_BEGIN	0x0300U		/* start of an operation, its class */
#define MARK_END	0x0400U		/* end of the operation */
#define MARK_SLEEP	0x0500U		/* the task is scheduled out */
#define MARK_WAKE	0x0600U		/* the task is scheduled in */
#define MARK_DONE	0x0700U		/* end of the row */

#define MARK_CLASSES	4U		/* maximum number of phases of a row */
#define MARK_STACK	16384U		/* the size and the alignment of a stack */

#endif /* PINLESS_MARKS_H */
