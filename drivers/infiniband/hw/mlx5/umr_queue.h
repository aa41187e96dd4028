/* SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB */
/*
 * The queue of UMRs: what umr_queue.c and umr_recovery.c share.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef _MLX5_IB_UMR_QUEUE_H
#define _MLX5_IB_UMR_QUEUE_H

#include <linux/workqueue.h>

#include "mlx5_ib.h"
#include "umr.h"

/* Less than the QP has room for: it never overflows. */
#define UMRQ_LENGTH	64

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
 * @mmkey: with which key
 * @with_data: the WQE has a data segment
 * @on_device: posted, and not back
 * @failed: the device could not execute it
 * @key_lost: it is not for the device any more, and ends when its turn comes
 * @failures: how often it failed, of one that must not
 * @nr: in the order of posting
 * @result: its user's; NULL: it must not fail
 */
struct umr {
	struct ib_cqe cqe;
	struct list_head entry;
	struct mlx5r_umrq *queue;
	struct mlx5r_umr_wqe wqe;
	struct mlx5_ib_mkey *mmkey;
	bool with_data;
	bool on_device;
	bool failed;
	bool key_lost;
	unsigned int failures;
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
 * @moved: when the device completed something, or was given something to do after
 *	it had done all; in jiffies
 * @idle_wait: for idle ones
 * @wait: for @done to advance
 * @notices: what is to be called when it does, by number
 * @watchdog: looks after the device while there are notices
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
	unsigned long moved;
	wait_queue_head_t idle_wait;
	wait_queue_head_t wait;
	struct list_head notices;
	struct delayed_work watchdog;
	struct workqueue_struct *wq;
	struct work_struct recovery;
	struct umr umrs[UMRQ_LENGTH];
};

void umr_end(struct umr *umr, int ret);
void umrq_end_lost(struct mlx5r_umrq *q);
void umr_submit(struct umr *umr);
void umrq_unlock(struct mlx5r_umrq *q) __releases(&q->lock);
void umrq_kill(struct mlx5r_umrq *q, const char *why);

/* umr_recovery.c */
void umrq_recover(struct work_struct *work);

#endif /* _MLX5_IB_UMR_QUEUE_H */
