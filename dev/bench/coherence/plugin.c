// SPDX-License-Identifier: GPL-2.0
/*
 * A TCG plugin that counts what instruction counts hide: cache-line transfers,
 * locked operations and full barriers of operations in the guest.
 *
 * The guest's module (../module/turns.c) marks where an operation begins and
 * ends. Its CPUs take turns, so one operation runs at a time. Only accesses inside
 * of operations reach the model of the caches (lines.c): what a CPU does between
 * its turns, such as handing over the baton or the timer's tick, is not counted and
 * does not change which CPUs hold a line. The task's own stack is left out as well.
 *
 * With "whole", an operation is what the kernel does on all CPUs between the marks, and
 * its stacks are those of many tasks, which count (../rxe/shared.c).
 *
 * A locked instruction reads its line in order to write it, so both of its
 * accesses count as writes: one transfer. An ordinary read that is followed by a
 * write takes two if the line has to be fetched and is then held by two.
 *
 * One thread must run all vCPUs (-accel tcg,thread=single): nothing here is
 * locked, and QEMU then translates locked instructions to plain loads and stores.
 *
 *	-plugin file=coherence.so,out=FILE[,whole=on]
 *
 * FILE gets, for each class of operations of each row, where rows are numbered from 0
 * in the order in which they run,
 *
 *	ops ROW CLASS OPERATIONS FETCHES UPGRADES LOCKED BARRIERS LEAST MOST
 *	at ROW CLASS INSTRUCTION FETCHES UPGRADES
 *
 * LEAST and MOST are transfers of one operation.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qemu-plugin.h>

#include "../module/marks.h"
#include "insn.h"
#include "lines.h"

#define MAX_PLACES	16384
#define KERNEL_HALF	(1ULL << 63)

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

/**
 * struct vcpu - where a vCPU is
 * @inside: of an operation
 * @counting: the same, and its task has not gone to sleep
 * @class: of the operation
 * @stack: the lowest address of its task's stack
 * @transfers: of the operation, so far
 */
struct vcpu {
	bool inside;
	bool counting;
	unsigned int class;
	uint64_t stack;
	unsigned int transfers;
};

/* What the operations of one class came to. */
struct tally {
	unsigned long ops;
	unsigned long events[LINES_UPGRADE + 1];
	unsigned long locked;
	unsigned long barriers;
	unsigned int least;
	unsigned int most;
};

/* The transfers that one instruction caused. */
struct place {
	uint64_t pc;
	unsigned int class;
	unsigned long events[LINES_UPGRADE + 1];
};

static struct vcpu vcpus[LINES_MAX_CPUS];
static struct tally tallies[MARK_CLASSES];
static struct place places[MAX_PLACES];
static unsigned int nr_places;
static int row = -1;
static bool whole;
static FILE *out;

static void print_row(void)
{
	unsigned int i;

	for (i = 0; i < MARK_CLASSES; i++) {
		const struct tally *tally = &tallies[i];

		if (!tally->ops)
			continue;
		fprintf(out, "ops %d %u %lu %lu %lu %lu %lu %u %u\n", row, i, tally->ops,
			tally->events[LINES_FETCH], tally->events[LINES_UPGRADE],
			tally->locked, tally->barriers, tally->least, tally->most);
	}
	for (i = 0; i < nr_places; i++)
		fprintf(out, "at %d %u %#llx %lu %lu\n", row, places[i].class,
			(unsigned long long)places[i].pc, places[i].events[LINES_FETCH],
			places[i].events[LINES_UPGRADE]);
	fflush(out);
}

static void forget_counts(void)
{
	memset(tallies, 0, sizeof(tallies));
	nr_places = 0;
}

static struct vcpu *operation(unsigned int vcpu)
{
	return &vcpus[whole ? 0 : vcpu];
}

static void begin(struct vcpu *cpu, unsigned int class, uint64_t stack)
{
	cpu->inside = true;
	cpu->counting = true;
	cpu->class = class % MARK_CLASSES;
	cpu->stack = (whole ? UINT64_MAX : stack) & ~(uint64_t)(MARK_STACK - 1);
	cpu->transfers = 0;
}

static void end(struct vcpu *cpu)
{
	struct tally *tally = &tallies[cpu->class];

	if (!tally->ops || cpu->transfers < tally->least)
		tally->least = cpu->transfers;
	if (cpu->transfers > tally->most)
		tally->most = cpu->transfers;
	tally->ops++;
	cpu->inside = false;
	cpu->counting = false;
}

/* A mark has run; @vaddr is on the stack of the task that did. */
static void on_mark(unsigned int vcpu, qemu_plugin_meminfo_t info, uint64_t vaddr,
		    void *data)
{
	uint32_t mark = (uintptr_t)data;
	struct vcpu *cpu = operation(vcpu);

	(void)info;
	switch (MARK_KIND(mark)) {
	case MARK_ROW:
		row++;
		forget_counts();
		lines_forget();
		break;
	case MARK_COUNT:
		forget_counts();
		break;
	case MARK_BEGIN:
		begin(cpu, MARK_VALUE(mark), vaddr);
		break;
	case MARK_END:
		end(cpu);
		break;
	case MARK_SLEEP:
		cpu->counting = false;
		break;
	case MARK_WAKE:
		cpu->counting = cpu->inside;
		break;
	case MARK_DONE:
		print_row();
		forget_counts();
		break;
	}
}

static struct place *find_place(uint64_t pc, unsigned int class)
{
	unsigned int i;

	for (i = 0; i < nr_places; i++)
		if (places[i].pc == pc && places[i].class == class)
			return &places[i];
	if (nr_places == MAX_PLACES) {
		fprintf(stderr, "coherence: too many instructions\n");
		exit(1);
	}
	places[nr_places] = (struct place){ .pc = pc, .class = class };
	return &places[nr_places++];
}

/* What an access needs to know of its instruction, in a pointer. */
static void *pack(uint64_t pc, bool locked)
{
	return (void *)(uintptr_t)(pc << 1 | locked);
}

static void on_access(unsigned int vcpu, qemu_plugin_meminfo_t info, uint64_t vaddr,
		      void *data)
{
	bool write = (uintptr_t)data & 1 || qemu_plugin_mem_is_store(info);
	struct vcpu *cpu = operation(vcpu);
	struct qemu_plugin_hwaddr *where;
	uint64_t line, last;

	if (!cpu->counting || vaddr - cpu->stack < MARK_STACK)
		return;
	where = qemu_plugin_get_hwaddr(info, vaddr);
	if (!where || qemu_plugin_hwaddr_is_io(where))
		return;
	line = qemu_plugin_hwaddr_phys_addr(where);
	last = (line + (1U << qemu_plugin_mem_size_shift(info)) - 1) >> LINES_SHIFT;
	for (line >>= LINES_SHIFT; line <= last; line++) {
		enum lines_event event = lines_touch(line, vcpu, write);

		if (event == LINES_NOTHING)
			continue;
		cpu->transfers++;
		tallies[cpu->class].events[event]++;
		find_place((uintptr_t)data >> 1 | KERNEL_HALF, cpu->class)->events[event]++;
	}
}

static void on_locked(unsigned int vcpu, void *data)
{
	(void)data;
	if (operation(vcpu)->counting)
		tallies[operation(vcpu)->class].locked++;
}

static void on_barrier(unsigned int vcpu, void *data)
{
	(void)data;
	if (operation(vcpu)->counting)
		tallies[operation(vcpu)->class].barriers++;
}

static void translate_insn(struct qemu_plugin_insn *insn)
{
	const uint8_t *code = qemu_plugin_insn_data(insn);
	size_t size = qemu_plugin_insn_size(insn);
	uint32_t mark = insn_mark(code, size);
	bool locked = insn_is_locked(code, size);

	/* Programs are not counted, but may have marks. */
	if (!mark && !(qemu_plugin_insn_vaddr(insn) & KERNEL_HALF))
		return;
	/* QEMU 7.2 mixes loads and stores up when it is asked for one of both. */
	if (mark) {
		qemu_plugin_register_vcpu_mem_cb(insn, on_mark, QEMU_PLUGIN_CB_NO_REGS,
						 QEMU_PLUGIN_MEM_RW, (void *)(uintptr_t)mark);
		return;
	}
	if (locked)
		qemu_plugin_register_vcpu_insn_exec_cb(insn, on_locked,
						       QEMU_PLUGIN_CB_NO_REGS, NULL);
	if (insn_is_barrier(code, size))
		qemu_plugin_register_vcpu_insn_exec_cb(insn, on_barrier,
						       QEMU_PLUGIN_CB_NO_REGS, NULL);
	qemu_plugin_register_vcpu_mem_cb(insn, on_access, QEMU_PLUGIN_CB_NO_REGS,
					 QEMU_PLUGIN_MEM_RW,
					 pack(qemu_plugin_insn_vaddr(insn), locked));
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t i;

	(void)id;
	for (i = 0; i < qemu_plugin_tb_n_insns(tb); i++)
		translate_insn(qemu_plugin_tb_get_insn(tb, i));
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info,
					   int argc, char **argv)
{
	if (!info->system_emulation || strcmp(info->target_name, "x86_64") ||
	    info->system.max_vcpus > LINES_MAX_CPUS) {
		fprintf(stderr, "coherence: for x86_64 with up to %d CPUs\n", LINES_MAX_CPUS);
		return -1;
	}
	if (argc < 1 || argc > 2 || strncmp(argv[0], "out=", 4) ||
	    (argc == 2 && strcmp(argv[1], "whole=on"))) {
		fprintf(stderr, "coherence: out=FILE[,whole=on], and nothing else\n");
		return -1;
	}
	whole = argc == 2;
	out = fopen(argv[0] + 4, "w");
	if (!out) {
		perror(argv[0] + 4);
		return -1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
	return 0;
}
