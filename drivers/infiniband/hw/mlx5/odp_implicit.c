// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * On-demand paging in mlx5: regions of all memory there is or will be.
 *
 * An implicit region is a key over children of 1 GiB each (KSM). These have keys of
 * their own and nothing else: there is one umem for all, and a chunk's address
 * says whose it is. A child is made by the first fault in it. When it has no
 * chunk any more it goes, but not at once, for to make one takes a command.
 *
 * A child has users, faults in it, and chunks, which only its users make. Without
 * any of both, both of which is decided under the lock of the children's xarray, it
 * is retired: nobody becomes its user, and who needs the part of memory waits
 * under odp_children_lock, and makes another. Then the table is told that there is
 * no child, the child is forgotten, and its key destroyed; the translations of it
 * were all zapped before.
 *
 *	fault				work
 *	  get: a user
 *					  it has a user, and stays
 *	  make a chunk, enter pages,
 *	  post; put
 *					  it has a chunk, and stays
 *	(the chunk is emptied, and reaped)
 *					  lock; neither: retired
 *	  get: not alive, wait for the lock
 *					  tell the table, erase, unlock
 *	  make another
 *					  forget, destroy the key
 *
 * In the memory scheme a fault names the child, and may be handled when that is
 * gone. Then the device has to look again: it finds the null key or another child.
 * So the names of children that went are kept for a while. The same answer to a
 * fault of any other key that is not known would have the device ask for it for
 * ever.
 *
 * Locks: odp_children_lock, outside of all others; the xarray's.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include "odp.h"
#include "umr.h"

/* How long a child may have nothing before it is taken for useless. */
#define ODP_CHILD_LINGER	HZ
/*
 * How long its name is kept after that. It has to be longer than a fault waits in
 * the device and in the driver's queue. A fault that waits even longer fails.
 */
#define ODP_CHILD_NAME_KEPT	(30 * HZ)

enum odp_child_state {
	ODP_CHILD_MAKING,
	ODP_CHILD_ALIVE,
	ODP_CHILD_RETIRED,
};

/**
 * struct mlx5_odp_child - a part of an implicit region
 * @mmkey: its key; in odp_mkeys only where faults name it
 * @parent: the region
 * @index: which part: address >> MLX5_ODP_CHILD_SHIFT
 * @state: only who is alive gets users; changed under odp_children_lock and the
 *	lock of the children's xarray
 * @users: faults in it, under the latter
 * @gone: in the list of those that are to be freed
 * @gone_at: when only its name was left, in jiffies
 */
struct mlx5_odp_child {
	struct mlx5_ib_mkey mmkey;
	struct mlx5_ib_mr *parent;
	unsigned long index;
	enum odp_child_state state;
	unsigned int users;
	struct list_head gone;
	unsigned long gone_at;
};

/* What stands for all that has no child, where faults do not name the parent. */
static int odp_create_null_key(struct mlx5_ib_mr *imr)
{
	u32 in[MLX5_ST_SZ_DW(create_mkey_in) + MLX5_UMR_FLEX_ALIGNMENT / sizeof(u32)] = {};
	struct mlx5_ib_dev *dev = mr_to_mdev(imr);
	void *mkc = MLX5_ADDR_OF(create_mkey_in, in, memory_key_mkey_entry);
	unsigned int octowords = MLX5_UMR_FLEX_ALIGNMENT / MLX5_IB_UMR_OCTOWORD;
	int ret;

	mlx5_odp_set_rights(mkc, dev, imr->ibmr.pd,
			    IB_ACCESS_LOCAL_WRITE | IB_ACCESS_REMOTE_WRITE |
			    IB_ACCESS_REMOTE_READ | IB_ACCESS_REMOTE_ATOMIC);
	MLX5_SET(mkc, mkc, umr_en, 0);
	MLX5_SET(mkc, mkc, access_mode_1_0, MLX5_MKC_ACCESS_MODE_MTT);
	MLX5_SET(mkc, mkc, length64, 1);
	/* One page is all of the user's addresses. */
	MLX5_SET(mkc, mkc, log_page_size, 61);
	MLX5_SET(mkc, mkc, translations_octword_size, octowords);
	MLX5_SET(create_mkey_in, in, translations_octword_actual_size, octowords);
	MLX5_SET(create_mkey_in, in, pg_access, 1);
	ret = mlx5_ib_create_mkey(dev, &imr->null_mmkey, in, sizeof(in));
	if (ret)
		return ret;
	imr->null_mmkey.type = MLX5_MKEY_NULL;
	return mlx5r_store_odp_mkey(dev, &imr->null_mmkey);
}

/**
 * mlx5_odp_populate_xlt() - write the table of an implicit region
 * @xlt: where to
 * @idx: first entry
 * @nentries: how many
 * @imr: the region
 * @flags: MLX5_IB_UPD_XLT_INDIRECT
 */
void mlx5_odp_populate_xlt(void *xlt, size_t idx, size_t nentries,
			   struct mlx5_ib_mr *imr, int flags)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(imr);
	bool memory = mlx5_odp_memory_scheme(dev);
	struct mlx5_odp_child *child;
	struct mlx5_klm *klm = xlt;

	for (; nentries; nentries--, idx++, klm++) {
		child = xa_load(&imr->implicit_children, idx);
		if (child && child->state == ODP_CHILD_RETIRED)
			child = NULL;
		klm->bcount = cpu_to_be32(MLX5_ODP_CHILD_SIZE);
		klm->va = cpu_to_be64(child || memory ? (u64)idx << MLX5_ODP_CHILD_SHIFT : 0);
		if (child)
			klm->key = cpu_to_be32(child->mmkey.key);
		else
			klm->key = memory ? cpu_to_be32(imr->null_mmkey.key)
					  : dev->mkeys.null_mkey;
	}
}

static struct mlx5_odp_child *odp_child_alloc(struct mlx5_ib_mr *imr, unsigned long index)
{
	struct mlx5_odp_child *child = kzalloc(sizeof(*child), GFP_KERNEL_ACCOUNT);
	int ret;

	if (!child)
		return ERR_PTR(-ENOMEM);
	child->parent = imr;
	child->index = index;
	child->mmkey.type = MLX5_MKEY_IMPLICIT_CHILD;
	child->state = ODP_CHILD_MAKING;
	/* Its maker, from the moment on in which it is seen. */
	child->users = 1;
	ret = mlx5_odp_create_mtt_key(imr, &child->mmkey, (u64)index << MLX5_ODP_CHILD_SHIFT,
				      MLX5_ODP_CHILD_SIZE,
				      MLX5_ODP_CHILD_SIZE >> PAGE_SHIFT);
	if (ret) {
		kfree(child);
		return ERR_PTR(ret);
	}
	return child;
}

static void odp_child_destroy_key(struct mlx5_odp_child *child)
{
	/* Fails with the device only, and then the key is gone with it. */
	mlx5r_umr_destroy_mkey(mr_to_mdev(child->parent), &child->mmkey);
}

static void odp_child_free(struct mlx5_odp_child *child)
{
	odp_child_destroy_key(child);
	kfree(child);
}

static void odp_child_set_state(struct mlx5_odp_child *child, enum odp_child_state state)
{
	struct mlx5_ib_mr *imr = child->parent;

	xa_lock(&imr->implicit_children);
	child->state = state;
	xa_unlock(&imr->implicit_children);
}

/* Write the child's entry of the table, or that there is none. */
static int odp_child_tell(struct mlx5_odp_child *child)
{
	return mlx5r_umr_update_xlt(child->parent, child->index, 1, 0, MLX5_IB_UPD_XLT_INDIRECT);
}

static int odp_child_publish(struct mlx5_ib_mr *imr, struct mlx5_odp_child *child)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(imr);
	int ret;

	lockdep_assert_held(&imr->odp_children_lock);
	if (imr->odp_closing)
		return -EFAULT;
	ret = xa_err(xa_store(&imr->implicit_children, child->index, child,
			      GFP_KERNEL_ACCOUNT));
	if (!ret && mlx5_odp_memory_scheme(dev))
		ret = mlx5r_store_odp_mkey(dev, &child->mmkey);
	if (!ret)
		ret = odp_child_tell(child);
	if (!ret)
		odp_child_set_state(child, ODP_CHILD_ALIVE);
	else
		xa_erase(&imr->implicit_children, child->index);
	return ret;
}

/* ---- users ---- */

static struct mlx5_odp_child *odp_child_find(struct mlx5_ib_mr *imr, unsigned long index)
{
	struct mlx5_odp_child *child;

	xa_lock(&imr->implicit_children);
	child = xa_load(&imr->implicit_children, index);
	if (child && child->state != ODP_CHILD_ALIVE)
		child = NULL;
	if (child)
		child->users++;
	xa_unlock(&imr->implicit_children);
	return child;
}

/**
 * mlx5_odp_child_get() - the child that an address is in, made if there is none
 * @imr: an implicit region
 * @addr: the address
 *
 * Context: sleeps.
 * Return: the child, for mlx5_odp_child_put(); -ENOMEM; -EFAULT if the region is
 * going; what the device's command said.
 */
struct mlx5_odp_child *mlx5_odp_child_get(struct mlx5_ib_mr *imr, unsigned long addr)
{
	unsigned long index = addr >> MLX5_ODP_CHILD_SHIFT;
	struct mlx5_odp_child *child = odp_child_find(imr, index);
	int ret = 0;

	if (child)
		return child;
	mutex_lock(&imr->odp_children_lock);
	child = odp_child_find(imr, index);
	if (!child) {
		child = odp_child_alloc(imr, index);
		ret = IS_ERR(child) ? 0 : odp_child_publish(imr, child);
	}
	mutex_unlock(&imr->odp_children_lock);
	if (!ret)
		return child;
	/* Not under the lock: a fault that names it may be waiting for that. */
	mlx5r_forget_odp_mkey(mr_to_mdev(imr), &child->mmkey);
	odp_child_free(child);
	return ERR_PTR(ret);
}

/**
 * mlx5_odp_child_put() - it is used no longer, or its chunks say that it is
 * @child: the child
 *
 * Context: any.
 */
void mlx5_odp_child_put(struct mlx5_odp_child *child)
{
	struct mlx5_ib_mr *imr = child->parent;

	xa_lock(&imr->implicit_children);
	child->users--;
	xa_unlock(&imr->implicit_children);
}

/**
 * mlx5_odp_child_key() - the key that an address is behind
 * @imr: an implicit region
 * @addr: the address; the caller is a user, or has a chunk there that has pages
 *
 * Context: any.
 * Return: the key; NULL if the pages came without the device's asking
 * (ib_umem_odp_populate()), and it was not told of any.
 */
struct mlx5_ib_mkey *mlx5_odp_child_key(struct mlx5_ib_mr *imr, unsigned long addr)
{
	struct mlx5_odp_child *child = xa_load(&imr->implicit_children,
					       addr >> MLX5_ODP_CHILD_SHIFT);

	return child ? &child->mmkey : NULL;
}

/**
 * mlx5_odp_child_region() - whose part a child is
 * @mmkey: its key
 *
 * Return: the region.
 */
struct mlx5_ib_mr *mlx5_odp_child_region(struct mlx5_ib_mkey *mmkey)
{
	return container_of(mmkey, struct mlx5_odp_child, mmkey)->parent;
}

/* ---- names of children that went ---- */

static void odp_names_expire(struct mlx5_ib_pf_eq *eq, bool all)
{
	struct mlx5_odp_child *child, *next;
	LIST_HEAD(expired);

	xa_lock(&eq->gone);
	list_for_each_entry_safe(child, next, &eq->gone_list, gone) {
		if (!all && time_before(jiffies, child->gone_at + ODP_CHILD_NAME_KEPT))
			break;
		list_move(&child->gone, &expired);
	}
	if (!list_empty(&eq->gone_list))
		queue_delayed_work(system_unbound_wq, &eq->gone_work, ODP_CHILD_NAME_KEPT);
	xa_unlock(&eq->gone);

	list_for_each_entry_safe(child, next, &expired, gone) {
		/* A child of the same name may have gone since. */
		xa_cmpxchg(&eq->gone, child->mmkey.key, child, NULL, 0);
		kfree(child);
	}
}

static void odp_names_work(struct work_struct *work)
{
	odp_names_expire(container_of(to_delayed_work(work), struct mlx5_ib_pf_eq, gone_work),
			 false);
}

/**
 * mlx5_odp_names_init() - prepare to keep the names of children that went
 * @eq: the queue that faults come by
 */
void mlx5_odp_names_init(struct mlx5_ib_pf_eq *eq)
{
	xa_init(&eq->gone);
	INIT_LIST_HEAD(&eq->gone_list);
	INIT_DELAYED_WORK(&eq->gone_work, odp_names_work);
}

/**
 * mlx5_odp_names_destroy() - forget all of them
 * @eq: the queue, by which no fault comes any more
 *
 * Context: sleeps.
 */
void mlx5_odp_names_destroy(struct mlx5_ib_pf_eq *eq)
{
	cancel_delayed_work_sync(&eq->gone_work);
	odp_names_expire(eq, true);
	xa_destroy(&eq->gone);
}

/**
 * mlx5_odp_child_went() - is a key, which is not found, one of a child that went?
 * @dev: the device
 * @key: the key
 *
 * Context: any.
 * Return: true if the device will not find it again.
 */
bool mlx5_odp_child_went(struct mlx5_ib_dev *dev, u32 key)
{
	return xa_load(&dev->odp_pf_eq.gone, key);
}

/* Its name is kept before it is forgotten, so a fault finds the one or the other. */
static void odp_child_leave(struct mlx5_odp_child *child)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(child->parent);
	struct mlx5_ib_pf_eq *eq = &dev->odp_pf_eq;
	bool kept;

	kept = mlx5_odp_memory_scheme(dev) &&
	       !xa_err(xa_store(&eq->gone, child->mmkey.key, child, GFP_KERNEL));
	mlx5r_forget_odp_mkey(dev, &child->mmkey);
	odp_child_destroy_key(child);
	if (!kept) {
		kfree(child);
		return;
	}
	xa_lock(&eq->gone);
	child->gone_at = jiffies;
	list_add_tail(&child->gone, &eq->gone_list);
	queue_delayed_work(system_unbound_wq, &eq->gone_work, ODP_CHILD_NAME_KEPT);
	xa_unlock(&eq->gone);
}

/* ---- children go ---- */

static bool odp_child_retire(struct mlx5_odp_child *child)
{
	struct mlx5_ib_mr *imr = child->parent;
	unsigned long start = child->index << MLX5_ODP_CHILD_SHIFT;

	xa_lock(&imr->implicit_children);
	if (!child->users && !ib_umem_odp_has_chunks(to_ib_umem_odp(imr->umem), start,
						     start + MLX5_ODP_CHILD_SIZE))
		child->state = ODP_CHILD_RETIRED;
	xa_unlock(&imr->implicit_children);
	return child->state == ODP_CHILD_RETIRED;
}

static void odp_child_remove(struct mlx5_odp_child *child, struct list_head *gone)
{
	struct mlx5_ib_mr *imr = child->parent;

	if (!odp_child_retire(child))
		return;
	if (odp_child_tell(child)) {
		/* The table still says that it is there. So it is. */
		odp_child_set_state(child, ODP_CHILD_ALIVE);
		return;
	}
	xa_erase(&imr->implicit_children, child->index);
	list_add(&child->gone, gone);
}

static void odp_children_work(struct work_struct *work)
{
	struct mlx5_ib_mr *imr = container_of(to_delayed_work(work), struct mlx5_ib_mr,
					      odp_children_work);
	struct mlx5_odp_child *child, *next;
	unsigned long index;
	LIST_HEAD(gone);

	mutex_lock(&imr->odp_children_lock);
	xa_for_each(&imr->implicit_children, index, child)
		odp_child_remove(child, &gone);
	mutex_unlock(&imr->odp_children_lock);
	/* Not under the lock: a fault that names one may be waiting for it. */
	list_for_each_entry_safe(child, next, &gone, gone)
		odp_child_leave(child);
}

/**
 * mlx5_odp_reaped() - chunks of a region were freed
 * @odp: the region's umem
 *
 * Context: any.
 */
void mlx5_odp_reaped(struct ib_umem_odp *odp)
{
	struct mlx5_ib_mr *mr = odp->private;

	if (mr->is_odp_implicit)
		queue_delayed_work(system_unbound_wq, &mr->odp_children_work, ODP_CHILD_LINGER);
}

/* ---- regions ---- */

/**
 * mlx5_odp_implicit_init() - prepare what a region has for children
 * @mr: a paged region
 */
void mlx5_odp_implicit_init(struct mlx5_ib_mr *mr)
{
	xa_init(&mr->implicit_children);
	mutex_init(&mr->odp_children_lock);
	INIT_DELAYED_WORK(&mr->odp_children_work, odp_children_work);
}

/**
 * mlx5_odp_implicit_create() - have a key that says of everything that it is not
 *	there
 * @imr: an implicit region
 *
 * Context: sleeps.
 * Return: 0; -ENOMEM, or what the device said.
 */
int mlx5_odp_implicit_create(struct mlx5_ib_mr *imr)
{
	u32 in[MLX5_ST_SZ_DW(create_mkey_in)] = {};
	struct mlx5_ib_dev *dev = mr_to_mdev(imr);
	void *mkc = MLX5_ADDR_OF(create_mkey_in, in, memory_key_mkey_entry);
	size_t nr = DIV_ROUND_UP_ULL(TASK_SIZE, MLX5_ODP_CHILD_SIZE);
	int ret;

	mlx5_odp_set_rights(mkc, dev, imr->ibmr.pd, imr->access_flags);
	MLX5_SET(mkc, mkc, free, 1);
	MLX5_SET(mkc, mkc, access_mode_1_0, MLX5_MKC_ACCESS_MODE_KSM);
	MLX5_SET(mkc, mkc, log_page_size, MLX5_ODP_CHILD_SHIFT);
	imr->mmkey.ndescs = nr;
	MLX5_SET(mkc, mkc, translations_octword_size, nr);
	ret = mlx5_ib_create_mkey(dev, &imr->mmkey, in, sizeof(in));
	if (ret)
		return ret;
	if (mlx5_odp_memory_scheme(dev))
		ret = odp_create_null_key(imr);
	if (!ret)
		ret = mlx5r_umr_update_xlt(imr, 0, nr, MLX5_ODP_CHILD_SHIFT,
					   MLX5_IB_UPD_XLT_INDIRECT |
					   MLX5_IB_UPD_XLT_ZAP | MLX5_IB_UPD_XLT_ENABLE);
	if (ret) {
		mlx5_ib_odp_free_keys(imr);
		mlx5_core_destroy_mkey(dev->mdev, imr->mmkey.key);
	}
	return ret;
}

/**
 * mlx5_odp_implicit_close() - children come and go no more, and nobody finds them
 * @mr: a paged region, no longer in odp_mkeys and without users
 *
 * Context: sleeps.
 */
void mlx5_odp_implicit_close(struct mlx5_ib_mr *mr)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);
	struct mlx5_odp_child *child;
	unsigned long index;

	disable_delayed_work_sync(&mr->odp_children_work);
	/* In the memory scheme a child, or what stands for it, leads to the region. */
	mutex_lock(&mr->odp_children_lock);
	mr->odp_closing = true;
	mutex_unlock(&mr->odp_children_lock);
	xa_for_each(&mr->implicit_children, index, child)
		mlx5r_forget_odp_mkey(dev, &child->mmkey);
	if (mr->null_mmkey.key)
		mlx5r_forget_odp_mkey(dev, &mr->null_mmkey);
}

/**
 * mlx5_odp_implicit_revoke() - have the keys of the children revoked
 * @mr: closed
 *
 * Context: sleeps; allocates nothing. mlx5r_umr_post_revoke() says how to wait.
 */
void mlx5_odp_implicit_revoke(struct mlx5_ib_mr *mr)
{
	struct mlx5_odp_child *child;
	unsigned long index;

	xa_for_each(&mr->implicit_children, index, child)
		mlx5r_umr_post_revoke(mr_to_mdev(mr), &child->mmkey);
}

/**
 * mlx5_ib_odp_free_keys() - what a region had besides its own key
 * @mr: its own key is destroyed or was never used
 */
void mlx5_ib_odp_free_keys(struct mlx5_ib_mr *mr)
{
	struct mlx5_ib_dev *dev = mr_to_mdev(mr);
	struct mlx5_odp_child *child;
	unsigned long index;

	xa_for_each(&mr->implicit_children, index, child) {
		xa_erase(&mr->implicit_children, index);
		odp_child_free(child);
	}
	xa_destroy(&mr->implicit_children);
	if (mr->null_mmkey.key) {
		mlx5r_forget_odp_mkey(dev, &mr->null_mmkey);
		mlx5_core_destroy_mkey(dev->mdev, mr->null_mmkey.key);
		mr->null_mmkey.key = 0;
	}
}
