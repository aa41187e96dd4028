// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * On-demand paging in mlx5: answers to page faults.
 *
 * A fault is answered when the device knows its pages: when the last UMR of it is done.
 * The work item that handled the fault does not wait for that. It asks to be notified
 * by the queue of UMRs, and the notice gives the answer by a command that is not waited
 * for either. So a fault wakes one worker of ours, and none sleeps meanwhile.
 *
 *	work item			soft interrupt		interrupt
 *	---------			--------------		---------
 *	bring pages, post UMR
 *	put the region, notify
 *					UMR is done: answer
 *								answered: free
 *
 * The region may end in between. It posts UMRs of its own then, which are executed after
 * those of the fault, and waits for them. What the fault still uses is its own memory and
 * the device. The removal of the device waits for all answers.
 *
 * In a soft interrupt the command cannot wait for memory. If there is none, a work item
 * gives the answer.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/wait_bit.h>

#include "odp.h"

static void odp_fill_resume(const struct mlx5_odp_fault *fault, u32 *in)
{
	void *info = MLX5_ADDR_OF(page_fault_resume_in, in, page_fault_info);
	bool error = fault->failed;

	MLX5_SET(page_fault_resume_in, in, opcode, MLX5_CMD_OP_PAGE_FAULT_RESUME);
	if (fault->subtype == MLX5_PFAULT_SUBTYPE_MEMORY) {
		MLX5_SET(mem_page_fault_info, info, error, error);
		MLX5_SET(mem_page_fault_info, info, fault_token_47_32, fault->token >> 32);
		MLX5_SET(mem_page_fault_info, info, fault_token_31_0,
			 lower_32_bits(fault->token));
	} else {
		MLX5_SET(trans_page_fault_info, info, error, error);
		MLX5_SET(trans_page_fault_info, info, page_fault_type, fault->type);
		MLX5_SET(trans_page_fault_info, info, wq_number, fault->wq);
		MLX5_SET(trans_page_fault_info, info, fault_token, fault->token);
	}
}

/* The queue may have been destroyed meanwhile, which is no error. */
static void odp_end(struct mlx5_odp_fault *fault, int ret)
{
	struct mlx5_ib_pf_eq *eq = fault->eq;

	if (ret)
		mlx5_ib_dbg(eq->dev, "page fault 0x%llx not resumed: %d\n", fault->token, ret);
	fault->free(fault);
	if (atomic_dec_and_test(&eq->unanswered))
		wake_up_var(&eq->unanswered);
}

static void odp_answered(int status, struct mlx5_async_work *async)
{
	odp_end(container_of(async, struct mlx5_odp_fault, async), status);
}

static void odp_answer_work(struct work_struct *work)
{
	struct mlx5_odp_fault *fault = container_of(work, struct mlx5_odp_fault, work);
	u32 in[MLX5_ST_SZ_DW(page_fault_resume_in)] = {};

	odp_fill_resume(fault, in);
	odp_end(fault, mlx5_cmd_exec_in(fault->eq->dev->mdev, page_fault_resume, in));
}

/* Of what has to be done for a fault, this is all that is left. */
static void odp_answer_now(struct mlx5_odp_fault *fault)
{
	struct mlx5_ib_pf_eq *eq = fault->eq;
	u32 in[MLX5_ST_SZ_DW(page_fault_resume_in)] = {};
	int ret;

	if (fault->failed)
		mlx5_ib_dbg(eq->dev, "page fault 0x%llx of kind %u.%u: %d\n", fault->token,
			    fault->subtype, fault->type, fault->failed);
	if (!fault->failed && !fault->last) {
		odp_end(fault, 0);
		return;
	}
	odp_fill_resume(fault, in);
	ret = mlx5_cmd_exec_cb(&eq->async, in, sizeof(in), fault->out, sizeof(fault->out),
			       odp_answered, &fault->async);
	if (ret == -ENOMEM) {
		INIT_WORK(&fault->work, odp_answer_work);
		queue_work(eq->wq, &fault->work);
	} else if (ret) {
		odp_end(fault, ret);
	}
}

static void odp_told(struct mlx5r_umr_notice *notice)
{
	struct mlx5_odp_fault *fault = container_of(notice, struct mlx5_odp_fault, notice);

	fault->failed = fault->fill.result;
	mlx5_odp_fill_free(&fault->fill);
	odp_answer_now(fault);
}

/**
 * mlx5_odp_answer() - tell the device that a fault was handled, once it knows the pages
 * @fault: the fault, which is freed when that has happened
 * @ret: how mlx5_odp_handle() ended
 *
 * Context: a work item; sleeps only if @ret is not 0.
 */
void mlx5_odp_answer(struct mlx5_odp_fault *fault, int ret)
{
	struct mlx5_odp_fill *fill = &fault->fill;

	atomic_inc(&fault->eq->unanswered);
	if (!ret && fill->posted) {
		fault->notice.nr = fill->nr;
		fault->notice.done = odp_told;
		mlx5r_umr_notify(fault->eq->dev, &fault->notice);
		return;
	}
	fault->failed = mlx5_odp_fill_end(fill, ret);
	odp_answer_now(fault);
}

/**
 * mlx5_odp_answers_init() - there are no answers yet
 * @eq: the device's
 */
void mlx5_odp_answers_init(struct mlx5_ib_pf_eq *eq)
{
	atomic_set(&eq->unanswered, 0);
	mlx5_cmd_init_async_ctx(eq->dev->mdev, &eq->async);
}

/**
 * mlx5_odp_answers_end() - wait until all faults are answered
 * @eq: the device's, for which no work item handles a fault any more
 *
 * Context: sleeps.
 */
void mlx5_odp_answers_end(struct mlx5_ib_pf_eq *eq)
{
	wait_var_event(&eq->unanswered, !atomic_read(&eq->unanswered));
	mlx5_cmd_cleanup_async_ctx(&eq->async);
}
