// SPDX-License-Identifier: GPL-2.0
/*
 * A TCG plugin that counts the instructions of each basic block of the guest.
 *
 * The guest's program marks where counting starts and where it ends, by the marks of
 * ../module/marks.h: MARK_COUNT forgets what was counted, MARK_DONE prints it. All that
 * runs in between is counted, on whichever CPU, in interrupts and in the kernel's
 * threads.
 *
 *	-plugin file=profile.so,out=FILE
 *
 * FILE gets a line for each block that was executed, for rows numbered from 0:
 *
 *	ROW ADDRESS INSTRUCTIONS
 *
 * A block that ends early because an instruction of it faults counts as a whole.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qemu-plugin.h>

#include "../coherence/insn.h"
#include "../module/marks.h"

#define BUCKETS		65536

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

/**
 * struct block - the code at one address, as it was translated
 * @next: in its bucket
 * @address: where it begins
 * @instructions: executed there since counting began
 */
struct block {
	struct block *next;
	uint64_t address;
	uint64_t instructions;
};

static struct block *buckets[BUCKETS];
static unsigned int row;
static FILE *out;

static struct block *block_find(uint64_t address)
{
	struct block **bucket = &buckets[(address ^ address >> 16) % BUCKETS];
	struct block *block;

	for (block = *bucket; block; block = block->next)
		if (block->address == address)
			return block;
	block = calloc(1, sizeof(*block));
	if (!block) {
		fputs("profile: out of memory\n", stderr);
		exit(1);
	}
	block->address = address;
	block->next = *bucket;
	*bucket = block;
	return block;
}

static void forget(void)
{
	struct block *block;
	unsigned int i;

	for (i = 0; i < BUCKETS; i++)
		for (block = buckets[i]; block; block = block->next)
			block->instructions = 0;
}

static void print(void)
{
	struct block *block;
	unsigned int i;

	for (i = 0; i < BUCKETS; i++)
		for (block = buckets[i]; block; block = block->next)
			if (block->instructions)
				fprintf(out, "%u %#llx %llu\n", row,
					(unsigned long long)block->address,
					(unsigned long long)block->instructions);
	fflush(out);
	row++;
}

static void on_mark(unsigned int vcpu, void *data)
{
	(void)vcpu;
	switch (MARK_KIND((uintptr_t)data)) {
	case MARK_COUNT:
		forget();
		break;
	case MARK_DONE:
		print();
		break;
	}
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	struct block *block = block_find(qemu_plugin_tb_vaddr(tb));
	size_t i, nr = qemu_plugin_tb_n_insns(tb);
	struct qemu_plugin_insn *insn;
	uint32_t mark;

	(void)id;
	for (i = 0; i < nr; i++) {
		insn = qemu_plugin_tb_get_insn(tb, i);
		mark = insn_mark(qemu_plugin_insn_data(insn), qemu_plugin_insn_size(insn));
		if (mark)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, on_mark,
							       QEMU_PLUGIN_CB_NO_REGS,
							       (void *)(uintptr_t)mark);
	}
	qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64,
						 &block->instructions, nr);
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info,
					   int argc, char **argv)
{
	if (!info->system_emulation || strcmp(info->target_name, "x86_64") ||
	    argc != 1 || strncmp(argv[0], "out=", 4)) {
		fprintf(stderr, "profile: for x86_64, with out=FILE\n");
		return -1;
	}
	out = fopen(argv[0] + 4, "w");
	if (!out) {
		perror(argv[0] + 4);
		return -1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
	return 0;
}
