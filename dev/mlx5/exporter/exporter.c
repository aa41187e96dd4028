// SPDX-License-Identifier: GPL-2.0
/*
 * An exporter of dma-bufs whose memory moves when it is told to.
 *
 * open() makes a buffer of as many pages as the parameters say; EXPORTER_FD returns
 * a dma-buf of it, EXPORTER_MOVE announces a move to whoever is attached, and
 * replaces the pages by copies. The old ones are filled with POISON and freed, so
 * what still reads or writes them is seen. EXPORTER_REVOKE does the same, and the buffer
 * cannot be mapped any more. It can be longer than its memory: its pages are
 * repeated. read() of the file shows what is in the memory now.
 */
#include <linux/dma-buf.h>
#include <linux/dma-resv.h>
#include <linux/fs.h>
#include <linux/highmem.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>

#define EXPORTER_FD	_IO('x', 1)
#define EXPORTER_MOVE	_IO('x', 2)
#define EXPORTER_REVOKE	_IO('x', 3)
#define POISON		0x5a

/* Pages that are repeated are meant to be. */
#ifndef DMA_ATTR_MAY_OVERLAP
#define DMA_ATTR_MAY_OVERLAP	0
#endif

static unsigned int pages = 16;
module_param(pages, uint, 0644);
MODULE_PARM_DESC(pages, "of memory");

static unsigned int repeat = 1;
module_param(repeat, uint, 0644);
MODULE_PARM_DESC(repeat, "how often they follow each other in a buffer");

struct exported {
	struct dma_buf *dmabuf;
	unsigned int nr;
	unsigned int repeat;
	bool revoked;
	struct page *page[] __counted_by(nr);
};

static int exporter_attach(struct dma_buf *dmabuf, struct dma_buf_attachment *attach)
{
	return 0;
}

static int exporter_pin(struct dma_buf_attachment *attach)
{
	return 0;
}

static void exporter_unpin(struct dma_buf_attachment *attach)
{
}

static struct sg_table *exporter_map(struct dma_buf_attachment *attach,
				     enum dma_data_direction direction)
{
	struct exported *e = attach->dmabuf->priv;
	struct sg_table *table;
	struct scatterlist *sg;
	int i, ret = -ENOMEM;

	if (e->revoked)
		return ERR_PTR(-ENODEV);
	table = kzalloc(sizeof(*table), GFP_KERNEL);
	if (!table)
		return ERR_PTR(-ENOMEM);
	if (sg_alloc_table(table, e->nr * e->repeat, GFP_KERNEL))
		goto out;
	for_each_sgtable_sg(table, sg, i)
		sg_set_page(sg, e->page[i % e->nr], PAGE_SIZE, 0);
	ret = dma_map_sgtable(attach->dev, table, direction, DMA_ATTR_MAY_OVERLAP);
	if (!ret)
		return table;
	sg_free_table(table);
out:
	kfree(table);
	return ERR_PTR(ret);
}

static void exporter_unmap(struct dma_buf_attachment *attach, struct sg_table *table,
			   enum dma_data_direction direction)
{
	dma_unmap_sgtable(attach->dev, table, direction, DMA_ATTR_MAY_OVERLAP);
	sg_free_table(table);
	kfree(table);
}

static void exporter_free(struct exported *e)
{
	unsigned int i;

	for (i = 0; i < e->nr; i++)
		if (e->page[i])
			__free_page(e->page[i]);
	kfree(e);
}

static void exporter_release_buf(struct dma_buf *dmabuf)
{
	exporter_free(dmabuf->priv);
}

static const struct dma_buf_ops exporter_buf_ops = {
	.attach = exporter_attach,
	.pin = exporter_pin,
	.unpin = exporter_unpin,
	.map_dma_buf = exporter_map,
	.unmap_dma_buf = exporter_unmap,
	.release = exporter_release_buf,
};

/* ---- the file ---- */

static int exporter_open(struct inode *inode, struct file *file)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	unsigned int nr = pages, i;
	struct exported *e = kzalloc(struct_size(e, page, nr), GFP_KERNEL);

	if (!e)
		return -ENOMEM;
	e->nr = nr;
	e->repeat = repeat;
	for (i = 0; i < nr; i++) {
		e->page[i] = alloc_page(GFP_HIGHUSER | __GFP_ZERO);
		if (!e->page[i])
			goto out;
	}
	info.ops = &exporter_buf_ops;
	info.size = (size_t)nr * e->repeat * PAGE_SIZE;
	info.flags = O_RDWR;
	info.priv = e;
	e->dmabuf = dma_buf_export(&info);
	if (IS_ERR(e->dmabuf))
		goto out;
	file->private_data = e;
	return 0;
out:
	exporter_free(e);
	return -ENOMEM;
}

static int exporter_release(struct inode *inode, struct file *file)
{
	struct exported *e = file->private_data;

	dma_buf_put(e->dmabuf);
	return 0;
}

static int exporter_move(struct exported *e, bool revoke)
{
	struct page *page;
	unsigned int i;
	int ret = 0;

	dma_resv_lock(e->dmabuf->resv, NULL);
	dma_buf_move_notify(e->dmabuf);
	e->revoked |= revoke;
	for (i = 0; i < e->nr && !ret; i++) {
		page = alloc_page(GFP_HIGHUSER);
		if (!page) {
			ret = -ENOMEM;
			break;
		}
		copy_highpage(page, e->page[i]);
		memset_page(e->page[i], 0, POISON, PAGE_SIZE);
		swap(page, e->page[i]);
		__free_page(page);
	}
	dma_resv_unlock(e->dmabuf->resv);
	return ret;
}

static long exporter_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct exported *e = file->private_data;
	int fd;

	switch (cmd) {
	case EXPORTER_FD:
		get_dma_buf(e->dmabuf);
		fd = dma_buf_fd(e->dmabuf, O_CLOEXEC);
		if (fd < 0)
			dma_buf_put(e->dmabuf);
		return fd;
	case EXPORTER_MOVE:
	case EXPORTER_REVOKE:
		return exporter_move(e, cmd == EXPORTER_REVOKE);
	default:
		return -ENOTTY;
	}
}

/* By read(), so that no mapping has to follow a move. */
static ssize_t exporter_read(struct file *file, char __user *to, size_t count, loff_t *pos)
{
	struct exported *e = file->private_data;
	size_t done = 0;
	char *from;

	while (done < count && *pos >> PAGE_SHIFT < e->nr) {
		size_t part = min(count - done, PAGE_SIZE - (*pos & ~PAGE_MASK));
		unsigned long left;

		from = kmap_local_page(e->page[*pos >> PAGE_SHIFT]);
		left = copy_to_user(to + done, from + (*pos & ~PAGE_MASK), part);
		kunmap_local(from);
		if (left)
			return -EFAULT;
		done += part;
		*pos += part;
	}
	return done;
}

static const struct file_operations exporter_fops = {
	.owner = THIS_MODULE,
	.open = exporter_open,
	.release = exporter_release,
	.unlocked_ioctl = exporter_ioctl,
	.read = exporter_read,
	.llseek = default_llseek,
};

static struct miscdevice exporter = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "exporter",
	.fops = &exporter_fops,
};

module_misc_device(exporter);
MODULE_DESCRIPTION("dma-bufs that move, to test importers");
MODULE_IMPORT_NS(DMA_BUF);
MODULE_LICENSE("GPL");
