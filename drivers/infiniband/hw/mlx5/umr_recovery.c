// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The queue of UMRs, after one of them has failed. Explained in umr_queue.c.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/sched/mm.h>

#include "umr_queue.h"

/* Its key is lost: from here on it revokes it, and others leave the key alone. */
static void umr_revoke_instead(struct umr *umr)
{
	struct mlx5r_umrq *q = umr->queue;
	struct umr *other;

	lockdep_assert_held(&q->lock);
	WRITE_ONCE(umr->mmkey->umr_lost, true);
	mlx5r_umr_set_revoke(q->dev, umr->mmkey->key, &umr->wqe);
	umr->with_data = false;
	list_for_each_entry(other, &q->posted, entry)
		other->key_lost |= other != umr && other->mmkey == umr->mmkey;
}

/*
 * What becomes of the one that failed; only the first one can have. Return: the
 * UMR, if there is no other way than to destroy its key.
 */
static struct umr *umrq_judge(struct mlx5r_umrq *q)
{
	struct umr *first, *doomed = NULL;

	spin_lock_bh(&q->lock);
	first = list_first_entry_or_null(&q->posted, struct umr, entry);
	if (first && first->failed) {
		first->failures++;
		if (first->result)
			umr_end(first, -EFAULT);
		else if (first->failures == 2)
			umr_revoke_instead(first);
		else if (first->failures > 2)
			doomed = first;
	}
	umrq_end_lost(q);
	umrq_unlock(q);
	return doomed;
}

/*
 * The device refuses to revoke a key, so destroy it. Its number may be given to
 * another key at once, which then takes its place in odp_mkeys.
 */
static int umrq_destroy_key(struct mlx5r_umrq *q, struct umr *umr)
{
	struct mlx5_ib_mkey *mmkey = umr->mmkey;
	struct mlx5_ib_dev *dev = q->dev;
	int ret;

	xa_cmpxchg(&dev->odp_mkeys, mlx5_base_mkey(mmkey->key), mmkey, NULL, 0);
	ret = mlx5_core_destroy_mkey(dev->mdev, mmkey->key);
	if (ret)
		return ret;
	mlx5_ib_warn(dev, "key 0x%x cannot be changed and was destroyed\n", mmkey->key);
	spin_lock_bh(&q->lock);
	mmkey->umr_destroyed = true;
	q->moved = jiffies;
	umr_end(umr, 0);
	umrq_end_lost(q);
	umrq_unlock(q);
	return 0;
}

static int umrq_reset(struct mlx5r_umrq *q)
{
	struct ib_qp_attr attr = { .qp_state = IB_QPS_RESET };
	int ret;

	ret = ib_modify_qp(q->qp, &attr, IB_QP_STATE);
	return ret ?: mlx5r_umr_qp_rst2rts(q->dev, q->qp);
}

/* Post again what the device returned. */
static void umrq_resume(struct mlx5r_umrq *q)
{
	struct umr *umr;

	spin_lock_bh(&q->lock);
	q->moved = jiffies;
	if (q->state == UMRQ_RECOVERING)
		q->state = UMRQ_ACTIVE;
	list_for_each_entry(umr, &q->posted, entry)
		umr_submit(umr);
	umrq_unlock(q);
}

/**
 * umrq_recover() - go on after a failure
 * @work: a queue's; the device has none of its UMRs
 *
 * Context: sleeps, but not for memory to be reclaimed.
 */
void umrq_recover(struct work_struct *work)
{
	struct mlx5r_umrq *q = container_of(work, struct mlx5r_umrq, recovery);
	unsigned int flags = memalloc_noreclaim_save();
	struct umr *doomed = umrq_judge(q);

	if (q->dev->mdev->state == MLX5_DEVICE_STATE_INTERNAL_ERROR ||
	    (doomed && umrq_destroy_key(q, doomed)) || umrq_reset(q))
		umrq_kill(q, "UMRs cannot be executed");
	else
		umrq_resume(q);
	memalloc_noreclaim_restore(flags);
}
