// SPDX-License-Identifier: GPL-2.0
/*
 * A defect on purpose: mlx5_ib no longer zaps.
 *
 * In stock's driver mlx5r_umr_update_xlt() with MLX5_IB_UPD_XLT_ZAP, in ours
 * mlx5r_umr_post_xlt() of what nobody wants a result of, returns success without
 * doing anything, so that the adapter keeps translations of pages which the driver
 * unmaps next.  The adapter's DMA check must report the first access.
 */
#include <linux/kprobes.h>
#include <linux/module.h>

#define UPD_XLT_ZAP BIT(0)

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

static struct kprobe ours = { .symbol_name = "mlx5r_umr_post_xlt", .pre_handler = skip_post };
static struct kprobe stocks = { .symbol_name = "mlx5r_umr_update_xlt", .pre_handler = skip_zap };
static struct kprobe *probe = &ours;

static int __init plant_init(void)
{
	int ret = register_kprobe(probe);

	if (ret == -ENOENT) {
		probe = &stocks;
		ret = register_kprobe(probe);
	}
	return ret;
}

static void __exit plant_exit(void)
{
	unregister_kprobe(probe);
	pr_info("plant: %d zaps skipped\n", skipped);
}

module_init(plant_init);
module_exit(plant_exit);
MODULE_DESCRIPTION("mlx5_ib without zaps, to test the adapter's DMA check");
MODULE_LICENSE("GPL");
