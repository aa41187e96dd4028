// SPDX-License-Identifier: GPL-2.0
/*
 * A stop point: whoever calls a function waits before it does anything, so that
 * what else wants to happen then does.
 */
#include <linux/delay.h>
#include <linux/kprobes.h>
#include <linux/module.h>

static unsigned int ms = 1500;
module_param(ms, uint, 0644);
MODULE_PARM_DESC(ms, "for how long");

static unsigned int stalled;
module_param(stalled, uint, 0444);
MODULE_PARM_DESC(stalled, "how often");

static char *symbol;
module_param(symbol, charp, 0444);
MODULE_PARM_DESC(symbol, "the function");

static int stall(struct kprobe *probe, struct pt_regs *regs)
{
	stalled++;
	mdelay(ms);
	return 0;
}

static struct kprobe stop = { .pre_handler = stall };

static int __init stall_init(void)
{
	stop.symbol_name = symbol;
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
