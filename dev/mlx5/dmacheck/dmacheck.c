// SPDX-License-Identifier: GPL-2.0
/*
 * The guest's half of the adapter model's DMA oracle.
 *
 * Every mapping and unmapping of the DMA API for an mlx5 adapter, as the
 * kernel's own trace points report it, is told to the model by one write to
 * its test BAR.  The model counts the mappings of each page in each direction.
 * It reports every access to a page that is no longer mapped, and every access
 * in a direction for which the page is not mapped.  The driver under test is
 * unchanged.
 *
 * Load it before traffic.  What was mapped earlier the model does not know and
 * does not judge, but a page of which a second mapping comes and goes is judged
 * although the first may still stand.
 *
 * What the trace points of 6.12 do not tell: an allocation by
 * dma_alloc_noncontiguous(), which mlx5 does not use, and the part of a page
 * that a mapping covers, so that the granularity is the page.  An unmapping of
 * a page is reported after it was done, that of a scatterlist and the freeing
 * of an allocation before.  A page unmapped and mapped again may thus have one
 * mapping too many for a moment, never one too few.
 *
 * Probes run with preemption disabled and may run in an interrupt.  An adapter
 * is attached before its driver's probe and detached when the device is
 * deleted; @lock orders these, tracepoint_synchronize_unregister() waits for
 * the probes which may still see a detached one.
 */
#include <linux/device.h>
#include <linux/dma-mapping.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/tracepoint.h>
#include <trace/events/dma.h>

#define TEST_BAR	4
#define ORACLE		0x040

/* A message: the page's address, the direction, the number of pages less one, map or unmap. */
#define MESSAGE_PAGES	SZ_512
#define MESSAGE_MAP	1UL
#define MESSAGE_DIR(dir) ((unsigned long)(dir) << 10)

struct adapter {
	struct device *dev;
	void __iomem *oracle;
};

static DEFINE_MUTEX(lock);		/* the slots, for those who write them */
static struct adapter __rcu *adapters[8];

static void tell(struct device *dev, dma_addr_t addr, size_t size, unsigned long flags)
{
	u64 page = addr >> PAGE_SHIFT, end = (addr + size + PAGE_SIZE - 1) >> PAGE_SHIFT;
	struct adapter *adapter;
	u64 nr_pages;
	int i;

	for (i = 0; i < ARRAY_SIZE(adapters); i++) {
		adapter = rcu_dereference_sched(adapters[i]);
		if (adapter && adapter->dev == dev)
			break;
	}
	if (i == ARRAY_SIZE(adapters) || !size || addr == DMA_MAPPING_ERROR)
		return;
	for (; page < end; page += nr_pages) {
		nr_pages = min_t(u64, end - page, MESSAGE_PAGES);
		writeq(page << PAGE_SHIFT | (nr_pages - 1) << 1 | flags, adapter->oracle);
	}
}

static void tell_list(struct device *dev, struct scatterlist *sgl, int nents,
		      unsigned long flags)
{
	struct scatterlist *sg;
	int i;

	/* An IOMMU joins entries; the rest of the list then has no length. */
	for_each_sg(sgl, sg, nents, i) {
		if (!sg_dma_len(sg))
			break;
		tell(dev, sg_dma_address(sg), sg_dma_len(sg), flags);
	}
}

static void map_page(void *data, struct device *dev, phys_addr_t phys, dma_addr_t addr,
		     size_t size, enum dma_data_direction dir, unsigned long attrs)
{
	tell(dev, addr, size, MESSAGE_DIR(dir) | MESSAGE_MAP);
}

static void unmap_page(void *data, struct device *dev, dma_addr_t addr, size_t size,
		       enum dma_data_direction dir, unsigned long attrs)
{
	tell(dev, addr, size, MESSAGE_DIR(dir));
}

static void alloc(void *data, struct device *dev, void *virt, dma_addr_t addr, size_t size,
		  enum dma_data_direction dir, gfp_t flags, unsigned long attrs)
{
	if (virt)
		tell(dev, addr, size, MESSAGE_DIR(dir) | MESSAGE_MAP);
}

static void release(void *data, struct device *dev, void *virt, dma_addr_t addr, size_t size,
		    enum dma_data_direction dir, unsigned long attrs)
{
	if (virt)
		tell(dev, addr, size, MESSAGE_DIR(dir));
}

static void map_sg(void *data, struct device *dev, struct scatterlist *sgl, int nents, int ents,
		   enum dma_data_direction dir, unsigned long attrs)
{
	tell_list(dev, sgl, ents, MESSAGE_DIR(dir) | MESSAGE_MAP);
}

static void unmap_sg(void *data, struct device *dev, struct scatterlist *sgl, int nents,
		     enum dma_data_direction dir, unsigned long attrs)
{
	tell_list(dev, sgl, nents, MESSAGE_DIR(dir));
}

struct probe {
	const char *name;
	void *func;
	struct tracepoint *tp;
};

static struct probe probes[] = {
	{ "dma_map_page", map_page }, { "dma_unmap_page", unmap_page },
	{ "dma_map_resource", map_page }, { "dma_unmap_resource", unmap_page },
	{ "dma_alloc", alloc }, { "dma_free", release },
	{ "dma_alloc_pages", alloc }, { "dma_free_pages", release },
	{ "dma_map_sg", map_sg }, { "dma_unmap_sg", unmap_sg },
};

/* The probes go by name and as void *: let the compiler compare the types. */
static void __maybe_unused check_types(void)
{
	check_trace_callback_type_dma_map_page(map_page);
	check_trace_callback_type_dma_unmap_page(unmap_page);
	check_trace_callback_type_dma_map_resource(map_page);
	check_trace_callback_type_dma_unmap_resource(unmap_page);
	check_trace_callback_type_dma_alloc(alloc);
	check_trace_callback_type_dma_free(release);
	check_trace_callback_type_dma_alloc_pages(alloc);
	check_trace_callback_type_dma_free_pages(release);
	check_trace_callback_type_dma_map_sg(map_sg);
	check_trace_callback_type_dma_unmap_sg(unmap_sg);
}

static void find(struct tracepoint *tp, void *unused)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(probes); i++) {
		if (!strcmp(tp->name, probes[i].name))
			probes[i].tp = tp;
	}
}

static void unregister_probes(int nr)
{
	while (nr--)
		tracepoint_probe_unregister(probes[nr].tp, probes[nr].func, NULL);
	tracepoint_synchronize_unregister();
}

static int register_probes(void)
{
	int i, ret;

	for_each_kernel_tracepoint(find, NULL);
	for (i = 0; i < ARRAY_SIZE(probes); i++) {
		ret = probes[i].tp ? tracepoint_probe_register(probes[i].tp, probes[i].func, NULL) :
				     -ENOENT;
		if (ret) {
			pr_err("dmacheck: no trace point %s: %d\n", probes[i].name, ret);
			unregister_probes(i);
			return ret;
		}
	}
	return 0;
}

static bool is_adapter(struct pci_dev *pdev)
{
	return pdev->vendor == PCI_VENDOR_ID_MELLANOX && pdev->device == 0x1018 &&
	       pci_resource_len(pdev, TEST_BAR) == SZ_64K;
}

static int find_slot(struct device *dev)
{
	struct adapter *adapter;
	int i;

	for (i = 0; i < ARRAY_SIZE(adapters); i++) {
		adapter = rcu_dereference_protected(adapters[i], lockdep_is_held(&lock));
		if (dev ? adapter && adapter->dev == dev : !adapter)
			return i;
	}
	return -ENOSPC;
}

static int attach(struct pci_dev *pdev)
{
	struct adapter *adapter;
	int slot;

	guard(mutex)(&lock);
	if (find_slot(&pdev->dev) >= 0)
		return 0;
	slot = find_slot(NULL);
	if (slot < 0)
		return slot;
	adapter = kzalloc(sizeof(*adapter), GFP_KERNEL);
	if (!adapter)
		return -ENOMEM;
	adapter->oracle = ioremap(pci_resource_start(pdev, TEST_BAR) + ORACLE, sizeof(u64));
	if (!adapter->oracle) {
		kfree(adapter);
		return -ENOMEM;
	}
	adapter->dev = get_device(&pdev->dev);
	rcu_assign_pointer(adapters[slot], adapter);
	return 0;
}

static void detach(int slot)
{
	struct adapter *adapter = rcu_replace_pointer(adapters[slot], NULL,
						      lockdep_is_held(&lock));

	if (!adapter)
		return;
	tracepoint_synchronize_unregister();
	iounmap(adapter->oracle);
	put_device(adapter->dev);
	kfree(adapter);
}

static int bus_event(struct notifier_block *nb, unsigned long event, void *data)
{
	struct pci_dev *pdev = to_pci_dev(data);
	int slot, ret = 0;

	if (!is_adapter(pdev))
		return NOTIFY_DONE;
	if (event == BUS_NOTIFY_BIND_DRIVER) {
		ret = attach(pdev);
		if (ret)
			pci_err(pdev, "dmacheck: not attached: %d\n", ret);
	} else if (event == BUS_NOTIFY_REMOVED_DEVICE) {
		guard(mutex)(&lock);
		slot = find_slot(&pdev->dev);
		if (slot >= 0)
			detach(slot);
	}
	return NOTIFY_OK;
}

static struct notifier_block bus_nb = { .notifier_call = bus_event };

static void detach_all(void)
{
	int slot;

	guard(mutex)(&lock);
	for (slot = 0; slot < ARRAY_SIZE(adapters); slot++)
		detach(slot);
}

static int __init dmacheck_init(void)
{
	struct pci_dev *pdev = NULL;
	int ret, nr = 0;

	ret = bus_register_notifier(&pci_bus_type, &bus_nb);
	if (ret)
		return ret;
	for_each_pci_dev(pdev) {
		if (!is_adapter(pdev))
			continue;
		nr++;
		ret = attach(pdev);
		if (ret) {
			pci_dev_put(pdev);
			goto err_detach;
		}
	}
	/* Without an adapter every check would pass. */
	ret = nr ? register_probes() : -ENODEV;
	if (!ret)
		return 0;
err_detach:
	bus_unregister_notifier(&pci_bus_type, &bus_nb);
	detach_all();
	return ret;
}
module_init(dmacheck_init);

static void __exit dmacheck_exit(void)
{
	unregister_probes(ARRAY_SIZE(probes));
	bus_unregister_notifier(&pci_bus_type, &bus_nb);
	detach_all();
}
module_exit(dmacheck_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Tells the mlx5 adapter model what is mapped for DMA");
