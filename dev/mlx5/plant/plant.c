// SPDX-License-Identifier: GPL-2.0
/*
 * A defect on purpose.
 *
 * what=zap: mlx5_ib no longer zaps.  mlx5r_umr_update_xlt() with MLX5_IB_UPD_XLT_ZAP
 * (stock's driver) or mlx5r_umr_post_xlt() without a place for its result (ours)
 * returns success without doing anything.  So the adapter keeps translations of pages
 * which the driver unmaps next.
 *
 * what=read-only, what=write-only: pages are mapped, and later unmapped, as if the
 * adapter only read, or only wrote them.
 *
 * The adapter's DMA check must report the first access that is wrong.
 */
#include <linux/dma-mapping.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/pci.h>

#include "keep_breakpoint.h"

#define UPD_XLT_ZAP BIT(0)

static char *what = "zap";
module_param(what, charp, 0444);
MODULE_PARM_DESC(what, "to plant");

/* ---- zap ---- */

static int skipped;

static __attribute__((naked)) void succeed(void)
{
	asm volatile("xorl %eax, %eax; ret");
}

static int skip(struct kprobe *probe, struct pt_regs *regs)
{
	skipped++;
	regs->ip = (unsigned long)succeed;
	return 1;
}

static int skip_zap(struct kprobe *probe, struct pt_regs *regs)
{
	/* The fifth argument: flags. */
	return regs->r8 & UPD_XLT_ZAP ? skip(probe, regs) : 0;
}

static int skip_post(struct kprobe *probe, struct pt_regs *regs)
{
	/* The sixth: where the result goes. */
	return regs->r9 ? 0 : skip(probe, regs);
}

static struct kprobe ours = {
	.symbol_name = "mlx5r_umr_post_xlt",
	.pre_handler = skip_post,
	.post_handler = keep_breakpoint,
};

static struct kprobe stocks = {
	.symbol_name = "mlx5r_umr_update_xlt",
	.pre_handler = skip_zap,
	.post_handler = keep_breakpoint,
};

static struct kprobe *zap = &ours;

static int plant_zap(void)
{
	int ret = register_kprobe(zap);

	if (ret == -ENOENT) {
		zap = &stocks;
		ret = register_kprobe(zap);
	}
	return ret;
}

/* ---- direction ---- */

static enum dma_data_direction direction;

static void replace(struct pt_regs *regs, unsigned long *asked)
{
	struct device *dev = (struct device *)regs->di;

	if (dev_is_pci(dev) && to_pci_dev(dev)->vendor == PCI_VENDOR_ID_MELLANOX)
		*asked = direction;
}

static int replace_map(struct kprobe *probe, struct pt_regs *regs)
{
	/* The fifth argument: the direction. */
	replace(regs, &regs->r8);
	return 0;
}

static int replace_unmap(struct kprobe *probe, struct pt_regs *regs)
{
	/* The fourth. */
	replace(regs, &regs->cx);
	return 0;
}

static struct kprobe map = {
	.symbol_name = "dma_map_page_attrs",
	.pre_handler = replace_map,
};

static struct kprobe unmap = {
	.symbol_name = "dma_unmap_page_attrs",
	.pre_handler = replace_unmap,
};

static struct kprobe *mappings[] = { &map, &unmap };

static int plant_direction(enum dma_data_direction instead)
{
	direction = instead;
	return register_kprobes(mappings, ARRAY_SIZE(mappings));
}

static int __init plant_init(void)
{
	if (!strcmp(what, "zap"))
		return plant_zap();
	if (!strcmp(what, "read-only"))
		return plant_direction(DMA_TO_DEVICE);
	if (!strcmp(what, "write-only"))
		return plant_direction(DMA_FROM_DEVICE);
	return -EINVAL;
}

static void __exit plant_exit(void)
{
	if (strcmp(what, "zap")) {
		unregister_kprobes(mappings, ARRAY_SIZE(mappings));
		return;
	}
	unregister_kprobe(zap);
	pr_info("plant: %d zaps skipped\n", skipped);
}

module_init(plant_init);
module_exit(plant_exit);
MODULE_DESCRIPTION("Defects of mlx5_ib, to test the adapter's DMA check");
MODULE_LICENSE("GPL");
