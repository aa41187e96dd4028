// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * The queue of UMRs: WQEs by which the driver changes keys and translations.
 *
 * The device executes them one after the other. They are posted without waiting
 * and numbered, and whoever needs to know waits until the queue is past a
 * number: the end of one is the end of all before it.
 *
 * One that fails takes the QP into its error state, in which the device returns
 * all others unexecuted. When the last one is back, a work item resets the QP,
 * and those that were not executed are posted again, in their order, which no
 * user notices. The one that failed fails. But some must not: a translation that
 * was not zapped, or a key that was not revoked, lets the device use memory that
 * is somebody else's by then. These are tried again, for some time. If none of
 * that helps, or if the device does not answer at all, it is taken off the bus: it
 * can no longer access any memory, which is what they were for.
 *
 * Nothing is allocated to post, or to wait: memory may be waiting for a zap.
 *
 * Locks: umrq->lock, the send queue's inside of it.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/delay.h>
#include <linux/sched/mm.h>

#include "mlx5_ib.h"
#include "umr.h"

/* Less than the QP has room for: it never overflows. */
#define UMRQ_LENGTH	64
/* A device that lets a UMR wait so long is not going to execute it. */
#define UMRQ_TIMEOUT	(30 * HZ)
/* How long one is tried that must not fail, and how soon again. */
#define UMRQ_PERSIST	(10 * HZ)
#define UMRQ_PAUSE_MS	10

enum umrq_state {
	UMRQ_ACTIVE,
	UMRQ_RECOVERING,
	UMRQ_DYING,
	UMRQ_DEAD,
};

/**
 * struct umr - one of them
 * @cqe: of its completion
 * @entry: in umrq.idle or umrq.posted
 * @queue: where it belongs
 * @wqe: what is to be done
 * @key: with which key
 * @with_data: the WQE has a data segment
 * @result: its user's; NULL: it must not fail
 * @on_device: posted, and not back
 * @failed: the device could not execute it
 * @until: it is tried again until then; 0 before it failed for the first time
 * @nr: in the order of posting
 */
struct umr {
	struct ib_cqe cqe;
	struct list_head entry;
	struct mlx5r_umrq *queue;
	struct mlx5r_umr_wqe wqe;
	u32 key;
	bool with_data;
	bool on_device;
	bool failed;
	unsigned long until;
	unsigned long nr;
	int *result;
};

/**
 * struct mlx5r_umrq - a device's queue of UMRs
 * @dev: the device
 * @qp: the QP
 * @lock: protects what follows
 * @state: who may post: anybody; nobody until the recovery did; nobody ever, and
 *	then also: the device is off the bus
 * @idle: those that are free
 * @posted: those that are not done, in order
 * @on_device: how many of these the device has
 * @last: number of the last one posted
 * @done: number of the last one that is done
 * @idle_wait: for idle ones
 * @wait: for @done to advance
 * @wq: of @recovery, which memory may be waiting for
 * @recovery: resets the QP
 * @umrs: all there are
 */
struct mlx5r_umrq {
	struct mlx5_ib_dev *dev;
	struct ib_qp *qp;
	spinlock_t lock;	/* what follows */
	enum umrq_state state;
	struct list_head idle;
	struct list_head posted;
	unsigned int on_device;
	unsigned long last;
	unsigned long done;
	wait_queue_head_t idle_wait;
	wait_queue_head_t wait;
	struct workqueue_struct *wq;
	struct work_struct recovery;
	struct umr umrs[UMRQ_LENGTH];
};

/* ---- its end ---- */

/* The first that is posted, and no other: the order is what users wait for. */
static void umr_end(struct umr *umr, int ret)
{
	struct mlx5r_umrq *q = umr->queue;

	lockdep_assert_held(&q->lock);
	if (umr->result)
		*umr->result = ret;
	umr->on_device = false;
	list_move(&umr->entry, &q->idle);
	/* What the device has done, and said, is seen by those who see this. */
	smp_store_release(&q->done, umr->nr);
	wake_up_all(&q->wait);
	wake_up(&q->idle_wait);
}

static void umrq_recover_when_back(struct mlx5r_umrq *q)
{
	if (q->state == UMRQ_RECOVERING && !q->on_device)
		queue_work(q->wq, &q->recovery);
}

static void umr_back(struct umr *umr)
{
	umr->on_device = false;
	umr->queue->on_device--;
}

static void umr_completion(struct ib_cq *cq, struct ib_wc *wc)
{
	struct umr *umr = container_of(wc->wr_cqe, struct umr, cqe);
	struct mlx5r_umrq *q = umr->queue;
	struct umr *first;

	spin_lock_bh(&q->lock);
	/* Nobody is to trust a completion of what was not posted. */
	if (!umr->on_device)
		goto out;
	if (wc->status == IB_WC_SUCCESS && q->state == UMRQ_ACTIVE) {
		do {
			first = list_first_entry(&q->posted, struct umr, entry);
			q->on_device--;
			umr_end(first, 0);
		} while (first != umr);
	} else {
		/* After a failure there is no success; this one is tried again. */
		umr_back(umr);
		umr->failed = wc->status != IB_WC_SUCCESS &&
			      wc->status != IB_WC_WR_FLUSH_ERR;
		if (q->state == UMRQ_ACTIVE)
			q->state = UMRQ_RECOVERING;
	}
	umrq_recover_when_back(q);
out:
	spin_unlock_bh(&q->lock);
}

/* Without the bus it accesses no memory; that is for the health work to undo. */
static void umrq_kill(struct mlx5r_umrq *q, const char *why)
{
	struct umr *umr, *next;
	bool first;

	spin_lock_bh(&q->lock);
	first = q->state < UMRQ_DYING;
	if (first)
		q->state = UMRQ_DYING;
	spin_unlock_bh(&q->lock);
	if (!first)
		return;

	mlx5_ib_err(q->dev, "%s\n", why);
	mlx5_fence_dma(q->dev->mdev);
	spin_lock_bh(&q->lock);
	q->state = UMRQ_DEAD;
	list_for_each_entry_safe(umr, next, &q->posted, entry)
		umr_end(umr, -EIO);
	spin_unlock_bh(&q->lock);
}

/* ---- posting ---- */

static void umr_submit(struct umr *umr)
{
	struct mlx5r_umrq *q = umr->queue;

	lockdep_assert_held(&q->lock);
	if (q->state != UMRQ_ACTIVE)
		return;
	umr->failed = false;
	umr->on_device = true;
	q->on_device++;
	if (!mlx5r_umr_post_send(q->qp, umr->key, &umr->cqe, &umr->wqe, umr->with_data))
		return;
	umr_back(umr);
	q->state = UMRQ_RECOVERING;
	umrq_recover_when_back(q);
}

static struct umr *umrq_try_get(struct mlx5r_umrq *q)
{
	struct umr *umr;

	spin_lock_bh(&q->lock);
	umr = list_first_entry_or_null(&q->idle, struct umr, entry);
	if (umr)
		list_del_init(&umr->entry);
	spin_unlock_bh(&q->lock);
	return umr;
}

/**
 * mlx5r_umrq_post() - have a UMR executed
 * @q: the queue
 * @key: its key
 * @wqe: what is to be done
 * @with_data: it has a data segment
 * @result: set when it is done, to 0; -EFAULT if the device could not execute it;
 *	-EIO if there is no device left that could. NULL: it must not fail
 *
 * Context: sleeps while all are in use; allocates nothing.
 * Return: its number, for mlx5r_umrq_wait(). When that returns, the device has
 * executed it, or there is @result; or it cannot access memory any more.
 */
unsigned long mlx5r_umrq_post(struct mlx5r_umrq *q, u32 key,
			      const struct mlx5r_umr_wqe *wqe, bool with_data, int *result)
{
	unsigned long nr;
	struct umr *umr;

	/* They come back: the device executes them, or is taken off the bus. */
	while (!wait_event_timeout(q->idle_wait, (umr = umrq_try_get(q)), UMRQ_TIMEOUT))
		umrq_kill(q, "no UMR was executed");

	umr->wqe = *wqe;
	umr->key = key;
	umr->with_data = with_data;
	umr->result = result;
	umr->until = 0;
	spin_lock_bh(&q->lock);
	nr = ++q->last;
	umr->nr = nr;
	list_add_tail(&umr->entry, &q->posted);
	if (q->state == UMRQ_DEAD)
		umr_end(umr, -EIO);
	else
		umr_submit(umr);
	spin_unlock_bh(&q->lock);
	return nr;
}

struct umrq_waiter {
	struct wait_queue_entry entry;
	struct mlx5r_umrq *queue;
	unsigned long nr;
};

static bool umrq_is_past(struct mlx5r_umrq *q, unsigned long nr)
{
	/* Pairs with umr_end(). */
	return (long)(smp_load_acquire(&q->done) - nr) >= 0;
}

/* Not those whose turn it is not: there may be many, and each would look in vain. */
static int umrq_wake(struct wait_queue_entry *entry, unsigned int mode, int flags, void *key)
{
	struct umrq_waiter *waiter = container_of(entry, struct umrq_waiter, entry);

	if (!umrq_is_past(waiter->queue, waiter->nr))
		return 0;
	return autoremove_wake_function(entry, mode, flags, key);
}

/* Return: false if it took UMRQ_TIMEOUT. */
static bool umrq_await(struct mlx5r_umrq *q, unsigned long nr)
{
	struct umrq_waiter waiter = {
		.entry.private = current,
		.entry.func = umrq_wake,
		.queue = q,
		.nr = nr,
	};
	long left = UMRQ_TIMEOUT;

	INIT_LIST_HEAD(&waiter.entry.entry);
	for (;;) {
		prepare_to_wait(&q->wait, &waiter.entry, TASK_UNINTERRUPTIBLE);
		if (umrq_is_past(q, nr) || !left)
			break;
		left = schedule_timeout(left);
	}
	finish_wait(&q->wait, &waiter.entry);
	return umrq_is_past(q, nr);
}

/**
 * mlx5r_umrq_wait() - wait for a UMR, and for all that were posted before it
 * @q: the queue
 * @nr: its number
 *
 * Context: sleeps; allocates nothing.
 */
void mlx5r_umrq_wait(struct mlx5r_umrq *q, unsigned long nr)
{
	while (!umrq_is_past(q, nr) && !umrq_await(q, nr))
		umrq_kill(q, "a UMR was not executed");
}

/**
 * mlx5r_umrq_run() - have a UMR executed, and wait for its result
 * @q: the queue
 * @key: its key
 * @wqe: what is to be done
 * @with_data: it has a data segment
 *
 * Context: sleeps; allocates nothing.
 * Return: its result.
 */
int mlx5r_umrq_run(struct mlx5r_umrq *q, u32 key, const struct mlx5r_umr_wqe *wqe,
		   bool with_data)
{
	int ret;

	mlx5r_umrq_wait(q, mlx5r_umrq_post(q, key, wqe, with_data, &ret));
	return ret;
}

/* ---- recovery ---- */

/*
 * What becomes of the one that failed; only the first one can have. Return: for
 * how long to wait before the next try in ms, or that it is no use.
 */
static int umrq_judge(struct mlx5r_umrq *q)
{
	struct umr *first;
	int pause = 0;

	spin_lock_bh(&q->lock);
	first = list_first_entry_or_null(&q->posted, struct umr, entry);
	if (first && first->failed) {
		if (first->result) {
			umr_end(first, -EFAULT);
		} else if (!first->until) {
			first->until = (jiffies + UMRQ_PERSIST) | 1;
		} else {
			pause = UMRQ_PAUSE_MS;
			if (time_after(jiffies, first->until))
				pause = -ETIMEDOUT;
		}
	}
	spin_unlock_bh(&q->lock);
	return pause;
}

static int umrq_reset(struct mlx5r_umrq *q)
{
	struct ib_qp_attr attr = { .qp_state = IB_QPS_RESET };
	int ret;

	ret = ib_modify_qp(q->qp, &attr, IB_QP_STATE);
	return ret ?: mlx5r_umr_qp_rst2rts(q->dev, q->qp);
}

static void umrq_recover(struct work_struct *work)
{
	struct mlx5r_umrq *q = container_of(work, struct mlx5r_umrq, recovery);
	unsigned int flags = memalloc_noreclaim_save();
	int pause = umrq_judge(q);
	struct umr *umr;

	if (pause > 0)
		msleep(pause);
	if (q->dev->mdev->state == MLX5_DEVICE_STATE_INTERNAL_ERROR || pause < 0 ||
	    umrq_reset(q)) {
		umrq_kill(q, "UMRs cannot be executed");
	} else {
		spin_lock_bh(&q->lock);
		if (q->state == UMRQ_RECOVERING)
			q->state = UMRQ_ACTIVE;
		list_for_each_entry(umr, &q->posted, entry)
			umr_submit(umr);
		spin_unlock_bh(&q->lock);
	}
	memalloc_noreclaim_restore(flags);
}

/* ---- the queue ---- */

/**
 * mlx5r_umrq_create() - a queue for a QP
 * @dev: the device
 * @qp: a QP for UMRs with room for 128, in RTS
 *
 * Context: sleeps.
 * Return: the queue; -ENOMEM.
 */
struct mlx5r_umrq *mlx5r_umrq_create(struct mlx5_ib_dev *dev, struct ib_qp *qp)
{
	struct mlx5r_umrq *q = kzalloc(sizeof(*q), GFP_KERNEL);
	unsigned int i;

	if (!q)
		return ERR_PTR(-ENOMEM);
	q->wq = alloc_ordered_workqueue("mlx5_umr", WQ_MEM_RECLAIM);
	if (!q->wq) {
		kfree(q);
		return ERR_PTR(-ENOMEM);
	}
	q->dev = dev;
	q->qp = qp;
	spin_lock_init(&q->lock);
	INIT_LIST_HEAD(&q->idle);
	INIT_LIST_HEAD(&q->posted);
	init_waitqueue_head(&q->idle_wait);
	init_waitqueue_head(&q->wait);
	INIT_WORK(&q->recovery, umrq_recover);
	for (i = 0; i < UMRQ_LENGTH; i++) {
		q->umrs[i].cqe.done = umr_completion;
		q->umrs[i].queue = q;
		list_add_tail(&q->umrs[i].entry, &q->idle);
	}
	return q;
}

/**
 * mlx5r_umrq_destroy() - nobody needs it any more
 * @q: the queue, without users
 *
 * Context: sleeps; the QP still exists.
 */
void mlx5r_umrq_destroy(struct mlx5r_umrq *q)
{
	/* The last ones may have been revocations that nobody waited for. */
	mlx5r_umrq_wait(q, q->last);
	destroy_workqueue(q->wq);
}

/**
 * mlx5r_umrq_free() - after its QP
 * @q: destroyed, and no completion of its QP will come
 *
 * Context: any.
 */
void mlx5r_umrq_free(struct mlx5r_umrq *q)
{
	kfree(q);
}
