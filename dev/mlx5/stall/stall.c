// SPDX-License-Identifier: GPL-2.0
/*
 * A stop point: whoever calls a function waits before it does anything, so that
 * what else wants to happen then does. It waits for some time in the probe's handler,
 * which holds its CPU and keeps grace periods of RCU from ending; or, with sleep=1, it
 * sleeps before the function, where that is allowed, until go is set.
 *
 * With sleep=1 there may be a second function. It stops its caller only after the first
 * one has gone on (go=1), until go=2.
 */
#include <linux/delay.h>
#include <linux/kprobes.h>
#include <linux/module.h>

#include "keep_breakpoint.h"

#define STOPS	2

static unsigned int ms = 1500;
module_param(ms, uint, 0644);
MODULE_PARM_DESC(ms, "for how long it holds the CPU");

static unsigned int times = UINT_MAX;
module_param(times, uint, 0444);
MODULE_PARM_DESC(times, "how often at most");

static unsigned int stalled;
module_param(stalled, uint, 0444);
MODULE_PARM_DESC(stalled, "how often");

static bool sleep;
module_param(sleep, bool, 0444);
MODULE_PARM_DESC(sleep, "and do not hold the CPU");

static unsigned int go;
module_param(go, uint, 0644);
MODULE_PARM_DESC(go, "how many of the stopped calls go on");

static char *symbol[STOPS];
static int nr_symbols;
module_param_array(symbol, charp, &nr_symbols, 0444);
MODULE_PARM_DESC(symbol, "the function, or both");

/* Where the functions are; named in assembly, as is the next one. */
unsigned long stall_target_0 __used;
unsigned long stall_target_1 __used;
void stall_sleep(unsigned long nr);

void __used noinline stall_sleep(unsigned long nr)
{
	unsigned int tries = 12000;	/* two minutes: a test that failed has to end */

	while (READ_ONCE(go) <= nr && --tries)
		msleep(10);
}

/* Instead of a function: sleep, and call it with the arguments that it has. */
#define SLEEP_FIRST(nr)								\
static __attribute__((naked)) void sleep_first_##nr(void)			\
{										\
	asm volatile("push %rdi; push %rsi; push %rdx; push %rcx; push %r8; push %r9\n\t" \
		     "push %rax; mov $" #nr ", %edi; call stall_sleep; pop %rax\n\t" \
		     "pop %r9; pop %r8; pop %rcx; pop %rdx; pop %rsi; pop %rdi\n\t" \
		     "jmp *stall_target_" #nr "(%rip)");			\
}

SLEEP_FIRST(0)
SLEEP_FIRST(1)

static int stall(struct kprobe *probe, struct pt_regs *regs);

static struct kprobe stops[STOPS] = {
	{ .pre_handler = stall, .post_handler = keep_breakpoint },
	{ .pre_handler = stall, .post_handler = keep_breakpoint },
};

/* Each function once, or it would stop what it let go a moment ago. */
static int stall_asleep(unsigned int nr, struct pt_regs *regs)
{
	if (stalled != nr || READ_ONCE(go) != nr)
		return 0;
	stalled++;
	if (nr) {
		stall_target_1 = (unsigned long)stops[1].addr;
		regs->ip = (unsigned long)sleep_first_1;
	} else {
		stall_target_0 = (unsigned long)stops[0].addr;
		regs->ip = (unsigned long)sleep_first_0;
	}
	return 1;
}

static int stall(struct kprobe *probe, struct pt_regs *regs)
{
	if (sleep)
		return stall_asleep(probe - stops, regs);
	if (stalled >= times)
		return 0;
	stalled++;
	mdelay(ms);
	return 0;
}

static int __init stall_init(void)
{
	int i, ret;

	if (!nr_symbols || (nr_symbols > 1 && !sleep))
		return -EINVAL;
	for (i = 0; i < nr_symbols; i++) {
		stops[i].symbol_name = symbol[i];
		ret = register_kprobe(&stops[i]);
		if (ret)
			break;
	}
	if (i == nr_symbols)
		return 0;
	while (i--)
		unregister_kprobe(&stops[i]);
	return ret;
}

static void __exit stall_exit(void)
{
	int i;

	for (i = 0; i < nr_symbols; i++)
		unregister_kprobe(&stops[i]);
}

module_init(stall_init);
module_exit(stall_exit);
MODULE_DESCRIPTION("A stop point for tests of races");
MODULE_LICENSE("GPL");
