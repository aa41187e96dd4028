// SPDX-License-Identifier: GPL-2.0
/*
 * A stop point: whoever calls a function waits before it does anything, so that
 * what else wants to happen then does. It waits for some time in the probe's handler,
 * which holds its CPU and keeps grace periods of RCU from ending; or, with sleep=1, it
 * sleeps before the function, where that is allowed, until go is set.
 */
#include <linux/delay.h>
#include <linux/kprobes.h>
#include <linux/module.h>

#include "keep_breakpoint.h"

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

static bool go;
module_param(go, bool, 0644);
MODULE_PARM_DESC(go, "who sleeps goes on");

static char *symbol;
module_param(symbol, charp, 0444);
MODULE_PARM_DESC(symbol, "the function");

/* Where the function is; named in assembly, as is the next one. */
unsigned long stall_target __used;
void stall_sleep(void);

void __used noinline stall_sleep(void)
{
	unsigned int tries = 12000;	/* two minutes: a test that failed has to end */

	while (!READ_ONCE(go) && --tries)
		msleep(10);
}

/* Instead of the function: sleep, and call it with the arguments that it has. */
static __attribute__((naked)) void sleep_first(void)
{
	asm volatile("push %rdi; push %rsi; push %rdx; push %rcx; push %r8; push %r9\n\t"
		     "push %rax; call stall_sleep; pop %rax\n\t"
		     "pop %r9; pop %r8; pop %rcx; pop %rdx; pop %rsi; pop %rdi\n\t"
		     "jmp *stall_target(%rip)");
}

static int stall(struct kprobe *probe, struct pt_regs *regs)
{
	if (stalled >= times)
		return 0;
	stalled++;
	if (!sleep) {
		mdelay(ms);
		return 0;
	}
	stall_target = (unsigned long)probe->addr;
	regs->ip = (unsigned long)sleep_first;
	return 1;
}

static struct kprobe stop = { .pre_handler = stall, .post_handler = keep_breakpoint };

static int __init stall_init(void)
{
	stop.symbol_name = symbol;
	/* Or it would stop what it let go a moment ago. */
	if (sleep)
		times = 1;
	return register_kprobe(&stop);
}

static void __exit stall_exit(void)
{
	unregister_kprobe(&stop);
}

module_init(stall_init);
module_exit(stall_exit);
MODULE_DESCRIPTION("A stop point for tests of races");
MODULE_LICENSE("GPL");
