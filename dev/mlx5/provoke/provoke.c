// SPDX-License-Identifier: GPL-2.0
/*
 * What only the kernel asks of the driver of the first adapter:
 *
 * what=integrity    a region with integrity ends, and the adapter refuses to destroy
 *                   the last of its three keys, so that the end is repeated
 * what=subfunction  the adapter is stopped as a sub-function is, which must not take
 *                   the bus from its parent
 * what=refill       while this is loaded, there is no memory for the first page fault that
 *                   an interrupt brings, so that a work item makes room for it
 */
#include <linux/kprobes.h>
#include <linux/mempool.h>
#include <linux/mlx5/driver.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <rdma/ib_verbs.h>

#include "keep_breakpoint.h"

static char *what;
module_param(what, charp, 0444);
MODULE_PARM_DESC(what, "to provoke");

/* ---- integrity ---- */

static unsigned int destroyed;

static __attribute__((naked)) void refuse(void)
{
	asm volatile("movl $-16, %eax; ret");	/* -EBUSY */
}

static int refuse_third(struct kprobe *probe, struct pt_regs *regs)
{
	if (++destroyed != 3)
		return 0;
	regs->ip = (unsigned long)refuse;
	return 1;
}

static struct kprobe destroy = {
	.symbol_name = "mlx5_core_destroy_mkey",
	.pre_handler = refuse_third,
	.post_handler = keep_breakpoint,
};

static int end_integrity(struct ib_pd *pd)
{
	struct ib_mr *mr = ib_alloc_mr_integrity(pd, 16, 16);
	int ret;

	if (IS_ERR(mr))
		return PTR_ERR(mr);
	ret = register_kprobe(&destroy);
	if (ret)
		return ret;
	ret = ib_dereg_mr(mr);
	unregister_kprobe(&destroy);
	return ret ?: destroyed < 3 ? -ENOENT : 0;
}

static int provoke_integrity(void)
{
	struct ib_device *device = ib_device_get_by_name("mlx5_0", RDMA_DRIVER_UNKNOWN);
	struct ib_pd *pd;
	int ret;

	if (!device)
		return -ENODEV;
	pd = ib_alloc_pd(device, 0);
	ret = PTR_ERR_OR_ZERO(pd);
	if (!ret) {
		ret = end_integrity(pd);
		ib_dealloc_pd(pd);
	}
	ib_device_put(device);
	return ret;
}

/* ---- sub-function ---- */

static int provoke_subfunction(void)
{
	struct pci_dev *pdev = pci_get_device(PCI_VENDOR_ID_MELLANOX, 0x1018, NULL);
	enum mlx5_coredev_type type;
	struct mlx5_core_dev *dev;
	u16 command;

	if (!pdev)
		return -ENODEV;
	dev = pci_get_drvdata(pdev);
	type = dev->coredev_type;
	dev->coredev_type = MLX5_COREDEV_SF;
	mlx5_fence_dma(dev);
	dev->coredev_type = type;
	pci_read_config_word(pdev, PCI_COMMAND, &command);
	pci_dev_put(pdev);
	return command & PCI_COMMAND_MASTER ? 0 : -EIO;
}

/* ---- refill ---- */

static bool refused;

static __attribute__((naked)) void no_memory(void)
{
	asm volatile("xorl %eax, %eax; ret");
}

static int refuse_first(struct kprobe *probe, struct pt_regs *regs)
{
	if (refused || !in_hardirq())
		return 0;
	refused = true;
	regs->ip = (unsigned long)no_memory;
	return 1;
}

static struct kprobe alloc = {
	.symbol_name = "mempool_alloc_noprof",
	.pre_handler = refuse_first,
	.post_handler = keep_breakpoint,
};

static int __init provoke_init(void)
{
	if (!strcmp(what, "refill"))
		return register_kprobe(&alloc);
	if (!strcmp(what, "integrity"))
		return provoke_integrity();
	return provoke_subfunction();
}

static void __exit provoke_exit(void)
{
	if (!strcmp(what, "refill"))
		unregister_kprobe(&alloc);
}

module_init(provoke_init);
module_exit(provoke_exit);
MODULE_DESCRIPTION("What only the kernel asks of mlx5");
MODULE_LICENSE("GPL");
