// SPDX-License-Identifier: GPL-2.0
/*
 * Recognises three sorts of x86-64 instructions.
 *
 * mark		"testl $mark, (%rsp)", see marks.h
 * locked	with a lock prefix, or an xchg with memory, which implies it
 * barrier	those that are there for their order only: mfence (the kernel's mb()),
 *		and the locked add of 0 to the stack that is its smp_mb()
 *
 * Every locked instruction orders like a full barrier on x86. It counts as a barrier
 * only if that is all it does, so that barriers are those that the source asks for.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <string.h>

#include "../module/marks.h"
#include "insn.h"

/* An instruction without its prefixes. */
struct insn {
	const uint8_t *code;
	size_t size;
	bool lock;
	bool rex;
};

static bool is_prefix(uint8_t byte)
{
	switch (byte) {
	case 0x26: case 0x2e: case 0x36: case 0x3e:	/* segments that do not matter */
	case 0x64: case 0x65:				/* fs, gs */
	case 0x66: case 0x67:				/* sizes */
	case 0xf0: case 0xf2: case 0xf3:		/* lock, repetitions */
		return true;
	}
	return false;
}

static struct insn strip(const uint8_t *code, size_t size)
{
	struct insn insn = { .code = code, .size = size };

	for (; insn.size && is_prefix(*insn.code); insn.code++, insn.size--)
		insn.lock |= *insn.code == 0xf0;
	if (insn.size && (*insn.code & 0xf0) == 0x40) {
		insn.rex = true;
		insn.code++;
		insn.size--;
	}
	return insn;
}

/* Does the operand of ModRM byte @modrm lie in memory? */
static bool in_memory(uint8_t modrm)
{
	return modrm >> 6 != 3;
}

/* The constant of a mark, or 0. */
uint32_t insn_mark(const uint8_t *code, size_t size)
{
	static const uint8_t testl_rsp[] = { 0xf7, 0x04, 0x24 };
	uint32_t mark;

	if (size != sizeof(testl_rsp) + sizeof(mark) ||
	    memcmp(code, testl_rsp, sizeof(testl_rsp)))
		return 0;
	memcpy(&mark, code + sizeof(testl_rsp), sizeof(mark));
	return (mark & 0xffff0000U) == MARK_MAGIC ? mark : 0;
}

bool insn_is_locked(const uint8_t *code, size_t size)
{
	struct insn insn = strip(code, size);

	if (insn.lock)
		return true;
	return insn.size >= 2 && (insn.code[0] & 0xfe) == 0x86 && in_memory(insn.code[1]);
}

bool insn_is_barrier(const uint8_t *code, size_t size)
{
	struct insn insn = strip(code, size);

	if (insn.size < 3)
		return false;
	if (insn.code[0] == 0x0f && insn.code[1] == 0xae)
		return insn.code[2] >> 3 == 0xf0 >> 3;
	/* addl $0, N(%rsp): ModRM has /0 and a SIB byte, which is %rsp alone */
	return insn.lock && !insn.rex && insn.code[0] == 0x83 && in_memory(insn.code[1]) &&
	       (insn.code[1] & 0x3f) == 0x04 && insn.code[2] == 0x24 &&
	       !insn.code[insn.size - 1];
}
