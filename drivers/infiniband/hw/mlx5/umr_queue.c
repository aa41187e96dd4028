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
 * is somebody else's by then. Such a UMR is tried once more. Then its key is lost,
 * whatever else it was good for:
 *
 *	1. The UMR is replaced by one that revokes the key. That succeeds where the
 *	   zap failed because the key's owner invalidated it (LOCAL_INV). It also
 *	   moves the key to the driver's PD, so the owner cannot enable it again.
 *	2. If the revocation fails, the key is destroyed by a command.
 *	3. If that fails, too, the device is taken off the bus. It can no longer
 *	   access any memory, which is what the UMR was for.
 *
 * Only the third step hurts users of other keys, and it takes a device that
 * refuses a revocation and a command. UMRs of a lost key that are still posted, or
 * are posted later, never reach the device: the key's number may be another key's
 * by then.
 *
 * Code that cannot sleep is notified instead.
 *
 * A device that completes nothing at all for UMRQ_TIMEOUT is also taken off the
 * bus. What counts is when it completed anything, and not how long a UMR waited
 * behind others.
 *
 * Nothing is allocated to post, or to wait: memory may be waiting for a zap. The
 * recovery's commands allocate, but never wait for memory to be reclaimed.
 *
 * Locks: umrq->lock, the send queue's inside of it.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include "umr_queue.h"

/* A device that completes nothing for so long is not going to. */
#define UMRQ_TIMEOUT	(30 * HZ)

/* ---- notices ---- */

/**
 * umrq_unlock() - give the queue's lock back, and call the notices of UMRs that are done
 * @q: the queue, locked by spin_lock_bh()
 *
 * Everything that may have advanced @q->done unlocks by this.
 */
void umrq_unlock(struct mlx5r_umrq *q) __releases(&q->lock)
{
	struct mlx5r_umr_notice *notice, *next;
	LIST_HEAD(past);

	list_for_each_entry_safe(notice, next, &q->notices, entry) {
		if ((long)(q->done - notice->nr) < 0)
			break;
		list_move_tail(&notice->entry, &past);
	}
	spin_unlock_bh(&q->lock);
	list_for_each_entry_safe(notice, next, &past, entry)
		notice->done(notice);
}

/**
 * mlx5r_umrq_notify() - be called when a UMR, and all that were posted before it, are done
 * @q: the queue
 * @notice: with its number, and what to call: once, with bottom halves off, perhaps
 *	before this returns
 *
 * Context: any but hard interrupts.
 */
void mlx5r_umrq_notify(struct mlx5r_umrq *q, struct mlx5r_umr_notice *notice)
{
	struct mlx5r_umr_notice *before;

	spin_lock_bh(&q->lock);
	list_for_each_entry_reverse(before, &q->notices, entry)
		if ((long)(notice->nr - before->nr) >= 0)
			break;
	list_add(&notice->entry, &before->entry);
	/* There may be no task that waits, and sees that the device is stuck. */
	queue_delayed_work(system_unbound_wq, &q->watchdog, UMRQ_TIMEOUT);
	umrq_unlock(q);
}

/* ---- its end ---- */

/**
 * umr_end() - a UMR is done
 * @umr: the first that is posted, and no other: the order is what users wait for
 * @ret: its result
 */
void umr_end(struct umr *umr, int ret)
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

/**
 * umrq_end_lost() - end the UMRs of lost keys when it is their turn
 * @q: the queue, the first UMR of which it has come for
 */
void umrq_end_lost(struct mlx5r_umrq *q)
{
	struct umr *umr, *next;

	list_for_each_entry_safe(umr, next, &q->posted, entry) {
		if (!umr->key_lost)
			break;
		umr_end(umr, -EFAULT);
	}
}

/* The device executed @last, and so all before it. */
static void umrq_end_until(struct mlx5r_umrq *q, struct umr *last)
{
	struct umr *first;

	do {
		umrq_end_lost(q);
		first = list_first_entry(&q->posted, struct umr, entry);
		q->on_device--;
		umr_end(first, 0);
	} while (first != last);
	umrq_end_lost(q);
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

	spin_lock_bh(&q->lock);
	/* Nobody is to trust a completion of what was not posted. */
	if (!umr->on_device)
		goto out;
	q->moved = jiffies;
	if (wc->status == IB_WC_SUCCESS && q->state == UMRQ_ACTIVE) {
		umrq_end_until(q, umr);
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
	umrq_unlock(q);
}

/**
 * umrq_kill() - take the device off the bus
 * @q: its queue, whose UMRs all end
 * @why: for the log
 *
 * Without the bus it accesses no memory; that is for the health work to undo.
 *
 * Context: sleeps.
 */
void umrq_kill(struct mlx5r_umrq *q, const char *why)
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
	/* The recovery uses the first UMR and its key, which must not end before. */
	if (current_work() != &q->recovery)
		flush_work(&q->recovery);
	spin_lock_bh(&q->lock);
	q->state = UMRQ_DEAD;
	list_for_each_entry_safe(umr, next, &q->posted, entry)
		umr_end(umr, -EIO);
	umrq_unlock(q);
}

/* ---- posting ---- */

/**
 * umr_submit() - give a UMR to the device, if the device may have it
 * @umr: posted
 */
void umr_submit(struct umr *umr)
{
	struct mlx5r_umrq *q = umr->queue;

	lockdep_assert_held(&q->lock);
	if (q->state != UMRQ_ACTIVE || umr->key_lost)
		return;
	umr->failed = false;
	umr->on_device = true;
	q->on_device++;
	if (!mlx5r_umr_post_send(q->qp, umr->mmkey->key, &umr->cqe, &umr->wqe,
				 umr->with_data))
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

/* For how long the device may still complete nothing; 0: it is stuck. */
static unsigned long umrq_patience(struct mlx5r_umrq *q)
{
	unsigned long idle, left = UMRQ_TIMEOUT;

	spin_lock_bh(&q->lock);
	/* Once it is being killed, all that is posted ends soon. */
	if (q->state < UMRQ_DYING && !list_empty(&q->posted)) {
		idle = jiffies - q->moved;
		left = idle < UMRQ_TIMEOUT ? UMRQ_TIMEOUT - idle : 0;
	}
	spin_unlock_bh(&q->lock);
	return left;
}

static struct umr *umrq_get(struct mlx5r_umrq *q)
{
	struct umr *umr;

	/* They come back: the device executes them, or is taken off the bus. */
	while (!wait_event_timeout(q->idle_wait, (umr = umrq_try_get(q)), umrq_patience(q)))
		if (!umrq_patience(q))
			umrq_kill(q, "no UMR was executed");
	return umr;
}

static unsigned long umrq_add(struct umr *umr, bool revokes)
{
	struct mlx5r_umrq *q = umr->queue;
	unsigned long nr;

	umr->failures = 0;
	spin_lock_bh(&q->lock);
	nr = ++q->last;
	umr->nr = nr;
	umr->key_lost = umr->mmkey->umr_lost;
	if (revokes)
		WRITE_ONCE(umr->mmkey->umr_lost, true);
	if (list_empty(&q->posted))
		q->moved = jiffies;
	list_add_tail(&umr->entry, &q->posted);
	if (q->state == UMRQ_DEAD)
		umr_end(umr, -EIO);
	else
		umr_submit(umr);
	umrq_end_lost(q);
	umrq_unlock(q);
	return nr;
}

/**
 * mlx5r_umrq_post() - have a UMR executed
 * @q: the queue
 * @mmkey: its key, which exists until the UMR is done
 * @wqe: what is to be done
 * @with_data: it has a data segment
 * @result: set when it is done, to 0; -EFAULT if the device could not execute it,
 *	or the key is lost; -EIO if there is no device left that could. NULL: it
 *	must not fail
 *
 * Context: sleeps while all are in use; allocates nothing.
 * Return: its number, for mlx5r_umrq_wait(). When that returns, the device has
 * executed it, or there is @result; or it cannot use the key any more.
 */
unsigned long mlx5r_umrq_post(struct mlx5r_umrq *q, struct mlx5_ib_mkey *mmkey,
			      const struct mlx5r_umr_wqe *wqe, bool with_data, int *result)
{
	struct umr *umr = umrq_get(q);

	umr->wqe = *wqe;
	umr->mmkey = mmkey;
	umr->with_data = with_data;
	umr->result = result;
	return umrq_add(umr, false);
}

/**
 * mlx5r_umrq_revoke() - have a key revoked, for good
 * @q: the queue
 * @mmkey: the key, which exists until that is done
 *
 * The key is lost: UMRs of it that are posted later do nothing.
 *
 * Context: sleeps while all UMRs are in use; allocates nothing.
 * Return: a number for mlx5r_umrq_wait(), upon whose return the device cannot use
 * the key any more.
 */
unsigned long mlx5r_umrq_revoke(struct mlx5r_umrq *q, struct mlx5_ib_mkey *mmkey)
{
	struct umr *umr = umrq_get(q);

	mlx5r_umr_set_revoke(q->dev, mmkey->key, &umr->wqe);
	umr->mmkey = mmkey;
	umr->with_data = false;
	umr->result = NULL;
	return umrq_add(umr, true);
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

/* Return: false if the device is stuck. */
static bool umrq_await(struct mlx5r_umrq *q, unsigned long nr)
{
	struct umrq_waiter waiter = {
		.entry.private = current,
		.entry.func = umrq_wake,
		.queue = q,
		.nr = nr,
	};
	unsigned long left;

	INIT_LIST_HEAD(&waiter.entry.entry);
	for (;;) {
		prepare_to_wait(&q->wait, &waiter.entry, TASK_UNINTERRUPTIBLE);
		left = umrq_is_past(q, nr) ? 0 : umrq_patience(q);
		if (!left)
			break;
		schedule_timeout(left);
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

/* While there are notices: the device may complete nothing any more. */
static void umrq_watch(struct work_struct *work)
{
	struct mlx5r_umrq *q = container_of(to_delayed_work(work), struct mlx5r_umrq, watchdog);
	unsigned long left = umrq_patience(q);
	bool wanted;

	spin_lock_bh(&q->lock);
	wanted = !list_empty(&q->notices);
	spin_unlock_bh(&q->lock);
	if (!left)
		umrq_kill(q, "a UMR was not executed");
	else if (wanted)
		queue_delayed_work(system_unbound_wq, &q->watchdog, left);
}

/**
 * mlx5r_umrq_run() - have a UMR executed, and wait for its result
 * @q: the queue
 * @mmkey: its key
 * @wqe: what is to be done
 * @with_data: it has a data segment
 *
 * Context: sleeps; allocates nothing.
 * Return: its result.
 */
int mlx5r_umrq_run(struct mlx5r_umrq *q, struct mlx5_ib_mkey *mmkey,
		   const struct mlx5r_umr_wqe *wqe, bool with_data)
{
	int ret;

	mlx5r_umrq_wait(q, mlx5r_umrq_post(q, mmkey, wqe, with_data, &ret));
	return ret;
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
	INIT_LIST_HEAD(&q->notices);
	INIT_DELAYED_WORK(&q->watchdog, umrq_watch);
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
	cancel_delayed_work_sync(&q->watchdog);
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
