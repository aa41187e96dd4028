// SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
/*
 * On-demand paging in mlx5: page faults.
 *
 * An event names what the device was at:
 *   - a WQE that the driver has to read to see which memory it is about (WQE),
 *   - the memory that a request of the peer is about (RDMA),
 *   - or just memory (in the memory scheme, where the adapter knows).
 * The pages are brought in, and the device told to resume, or that there are
 * none, which is an error of the operation. Whatever an event says, it is
 * answered: a queue that waits is not forgotten. A number in it that nobody has
 * is an error like others.
 *
 * A fault brings in a window, not the whole of a huge operation: what the
 * device needs at once has to fit into memory, or it never gets on.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/mlx5/qp.h>

#include "odp.h"
#include "qp.h"
#include "srq.h"

/* Keys of keys: deeper than this the device does not go either. */
#define ODP_MAX_DEPTH		5
#define ODP_TOKEN_MASK		GENMASK(23, 0)
#define ODP_EVENT_PAGE		4096
#define ODP_MEMORY_LAST		BIT(7)
/* A data segment counts bytes by 31 bits; 0 stands for what they cannot express. */
#define ODP_COUNT_ZERO		BIT_ULL(31)

/*
 * Flags of a fault beside enum ib_odp_fault_flags.
 * ODP_MAYBE_WRITE: the event does not say whether the peer reads or writes.
 * ODP_WHOLE_PAGES: the event names pages, of which the key may have a part only.
 */
#define ODP_MAYBE_WRITE		BIT(31)
#define ODP_WHOLE_PAGES		BIT(30)
#define ODP_FAULT_FLAGS		(ODP_MAYBE_WRITE | ODP_WHOLE_PAGES)

/* ---- what an event says ---- */

static void odp_decode_wqe(const struct mlx5_eqe_page_fault *e, struct mlx5_odp_fault *fault)
{
	u32 pftype_wq = be32_to_cpu(e->wqe.pftype_wq);

	fault->type = (pftype_wq >> 24) & 7;
	fault->wq = pftype_wq & ODP_TOKEN_MASK;
	fault->token = be32_to_cpu(e->wqe.token);
	fault->wqe_index = be16_to_cpu(e->wqe.wqe_index);
	fault->packet = be16_to_cpu(e->wqe.packet_length);
	fault->committed = be32_to_cpu(e->wqe.bytes_committed);
}

static void odp_decode_rdma(const struct mlx5_eqe_page_fault *e, struct mlx5_odp_fault *fault)
{
	u32 pftype_token = be32_to_cpu(e->rdma.pftype_token);

	fault->type = pftype_token >> 24;
	fault->token = pftype_token & ODP_TOKEN_MASK;
	fault->wq = fault->token;
	fault->key = be32_to_cpu(e->rdma.r_key);
	fault->va = be64_to_cpu(e->rdma.rdma_va);
	fault->length = be32_to_cpu(e->rdma.rdma_op_len);
	fault->packet = be16_to_cpu(e->rdma.packet_length);
	fault->committed = be32_to_cpu(e->rdma.bytes_committed);
}

static void odp_decode_memory(const struct mlx5_eqe_page_fault *e,
			      struct mlx5_odp_fault *fault)
{
	fault->token = (u64)be16_to_cpu(e->memory.token47_32) << 32 |
		       be32_to_cpu(e->memory.token31_0);
	fault->key = be32_to_cpu(e->memory.mkey);
	fault->va = be64_to_cpu(e->memory.va);
	/* In pages, but for the low bits. */
	fault->length = (u64)(be32_to_cpu(e->memory.demand_fault_pages) >> 12) *
			ODP_EVENT_PAGE;
	fault->before = be16_to_cpu(e->memory.pre_demand_fault_pages) * ODP_EVENT_PAGE;
	fault->after = be16_to_cpu(e->memory.post_demand_fault_pages) * ODP_EVENT_PAGE;
	fault->last = e->memory.flags & ODP_MEMORY_LAST;
}

/**
 * mlx5_odp_decode() - keep what an event says
 * @dev: the device
 * @eqe: the event
 * @fault: where to
 *
 * Context: any.
 */
void mlx5_odp_decode(struct mlx5_ib_dev *dev, const struct mlx5_eqe *eqe,
		     struct mlx5_odp_fault *fault)
{
	const struct mlx5_eqe_page_fault *e = &eqe->data.page_fault;

	fault->subtype = eqe->sub_type;
	fault->committed = 0;
	fault->last = true;
	switch (fault->subtype) {
	case MLX5_PFAULT_SUBTYPE_WQE:
		odp_decode_wqe(e, fault);
		break;
	case MLX5_PFAULT_SUBTYPE_RDMA:
		odp_decode_rdma(e, fault);
		break;
	case MLX5_PFAULT_SUBTYPE_MEMORY:
		odp_decode_memory(e, fault);
		break;
	default:
		/* Of no kind that we know; perhaps the answer's is this one. */
		odp_decode_rdma(e, fault);
		break;
	}
}

/* ---- keys ---- */

/* The low byte of these is their user's to choose, and to change. */
static bool odp_has_user_variant(const struct mlx5_ib_mkey *mmkey)
{
	return mmkey->type == MLX5_MKEY_MW || mmkey->type == MLX5_MKEY_INDIRECT_DEVX;
}

static struct mlx5_ib_mkey *odp_find(struct mlx5_ib_dev *dev, u32 key)
{
	struct mlx5_ib_mkey *mmkey;

	xa_lock(&dev->odp_mkeys);
	mmkey = xa_load(&dev->odp_mkeys, mlx5_base_mkey(key));
	if (mmkey && mmkey->key != key && !odp_has_user_variant(mmkey))
		mmkey = NULL;
	if (mmkey && !refcount_inc_not_zero(&mmkey->usecount))
		mmkey = NULL;
	xa_unlock(&dev->odp_mkeys);
	return mmkey;
}

static int odp_fault_key(struct mlx5_ib_dev *dev, u32 key, u64 va, u64 length,
			 unsigned int flags, unsigned int depth,
			 struct mlx5_odp_fill *fill);

/* Cut [*va, *va + *length) to what is inside of [start, start + size). */
static int odp_clamp(u64 start, u64 size, u64 *va, u64 *length)
{
	u64 first = max(*va, start);
	u64 last = min(*va + *length - 1, start + size - 1);

	if (first > last)
		return -EFAULT;
	*va = first;
	*length = last - first + 1;
	return 0;
}

static int odp_fault_region(struct mlx5_ib_mr *mr, u64 va, u64 length, unsigned int flags,
			    struct mlx5_odp_fill *fill)
{
	/* An implicit region is as long as its umem: it begins at 0, as that does. */
	u64 size = mr->is_odp_implicit ? mr->umem->length : mr->ibmr.length;

	if (mr->umem->is_dmabuf)
		return mlx5_odp_fault_dmabuf(mr);
	if ((flags & ODP_WHOLE_PAGES) && odp_clamp(mr->ibmr.iova, size, &va, &length))
		return -EFAULT;
	/* Where the peer may write, it is given what it takes to. */
	if ((flags & ODP_MAYBE_WRITE) && mr->umem->writable)
		flags |= IB_ODP_FAULT_WRITE;
	return mlx5_odp_fault_mr(fill, mr, va, length, flags & ~ODP_FAULT_FLAGS);
}

/*
 * The entries of a memory window or an indirect key that [va, va + length) needs.
 * Those of pinned memory are there. If there are no others it is as if the key were
 * one of pinned memory: -ENOENT.
 */
static int odp_fault_entries(struct mlx5_ib_dev *dev, const struct mlx5_klm *klm,
			     unsigned int nr, u64 skip, u64 length, unsigned int flags,
			     unsigned int depth, struct mlx5_odp_fill *fill)
{
	int ret, known = 0;
	u64 size, part;

	for (; nr && length; nr--, klm++) {
		size = be32_to_cpu(klm->bcount);
		if (skip >= size) {
			skip -= size;
			continue;
		}
		part = min(size - skip, length);
		ret = odp_fault_key(dev, be32_to_cpu(klm->key), be64_to_cpu(klm->va) + skip,
				    part, flags, depth + 1, fill);
		if (ret && ret != -ENOENT)
			return ret;
		known += !ret;
		length -= part;
		skip = 0;
	}
	if (length)
		return -EFAULT;
	return known ? 0 : -ENOENT;
}

/* What QUERY_MKEY said of a window or an indirect key. */
static int odp_fault_table(struct mlx5_ib_dev *dev, const u32 *out, unsigned int nr, u64 va,
			   u64 length, unsigned int flags, unsigned int depth,
			   struct mlx5_odp_fill *fill)
{
	const void *mkc = MLX5_ADDR_OF(query_mkey_out, out, memory_key_mkey_entry);
	u64 start = MLX5_GET64(mkc, mkc, start_addr);

	if ((flags & ODP_WHOLE_PAGES) && !MLX5_GET(mkc, mkc, length64) &&
	    odp_clamp(start, MLX5_GET64(mkc, mkc, len), &va, &length))
		return -EFAULT;
	if (va < start)
		return -EFAULT;
	return odp_fault_entries(dev, MLX5_ADDR_OF(query_mkey_out, out, bsf0_klm0_pas_mtt0_1),
				 nr, va - start, length, flags & ~ODP_WHOLE_PAGES, depth,
				 fill);
}

static int odp_fault_indirect(struct mlx5_ib_dev *dev, struct mlx5_ib_mkey *mmkey, u64 va,
			      u64 length, unsigned int flags, unsigned int depth,
			      struct mlx5_odp_fill *fill)
{
	size_t size = MLX5_ST_SZ_BYTES(query_mkey_out) +
		      mmkey->ndescs * sizeof(struct mlx5_klm);
	u32 *out;
	int ret;

	if (depth == ODP_MAX_DEPTH)
		return -EFAULT;
	out = kvzalloc(size, GFP_KERNEL);
	if (!out)
		return -ENOMEM;
	ret = mlx5_core_query_mkey(dev->mdev, mmkey->key, out, size);
	if (!ret)
		ret = odp_fault_table(dev, out, mmkey->ndescs, va, length, flags, depth,
				      fill);
	kvfree(out);
	return ret;
}

static int odp_fault_key(struct mlx5_ib_dev *dev, u32 key, u64 va, u64 length,
			 unsigned int flags, unsigned int depth,
			 struct mlx5_odp_fill *fill)
{
	struct mlx5_ib_mkey *mmkey = odp_find(dev, key);
	struct mlx5_ib_mr *mr;
	int ret;

	/* Pinned memory is always there, or the access is wrong. */
	if (!mmkey)
		return -ENOENT;
	switch (mmkey->type) {
	case MLX5_MKEY_MR:
		mr = container_of(mmkey, struct mlx5_ib_mr, mmkey);
		ret = odp_fault_region(mr, va, length, flags, fill);
		break;
	case MLX5_MKEY_IMPLICIT_CHILD:
		ret = odp_fault_region(mlx5_odp_child_region(mmkey), va, length, flags,
				       fill);
		break;
	case MLX5_MKEY_NULL:
		mr = container_of(mmkey, struct mlx5_ib_mr, null_mmkey);
		ret = odp_fault_region(mr, va, length, flags, fill);
		break;
	case MLX5_MKEY_MW:
	case MLX5_MKEY_INDIRECT_DEVX:
		/* What is only expected is not worth a command. */
		ret = flags & IB_ODP_FAULT_PRESENT ? -EFAULT :
		      odp_fault_indirect(dev, mmkey, va, length, flags, depth, fill);
		break;
	default:
		ret = -EFAULT;
	}
	mlx5r_deref_odp_mkey(mmkey);
	return ret;
}

/* ---- WQEs ---- */

/* How many bytes of a send WQE come before its data; 0: none of ours. */
static size_t odp_send_header(struct mlx5_ib_qp *qp, const void *wqe, size_t len)
{
	const struct mlx5_wqe_ctrl_seg *ctrl = wqe;
	const struct mlx5_base_av *av;
	size_t head = sizeof(*ctrl);

	if (qp->type == IB_QPT_XRC_INI)
		head += sizeof(struct mlx5_wqe_xrc_seg);
	if (qp->type == IB_QPT_UD || qp->type == MLX5_IB_QPT_DCI) {
		if (head + sizeof(*av) > len)
			return 0;
		av = wqe + head;
		head += av->dqp_dct & cpu_to_be32(MLX5_EXTENDED_UD_AV) ?
			sizeof(struct mlx5_av) : sizeof(*av);
	}
	switch (be32_to_cpu(ctrl->opmod_idx_opcode) & MLX5_WQE_CTRL_OPCODE_MASK) {
	case MLX5_OPCODE_SEND:
	case MLX5_OPCODE_SEND_IMM:
	case MLX5_OPCODE_SEND_INVAL:
		return head;
	case MLX5_OPCODE_RDMA_READ:
	case MLX5_OPCODE_RDMA_WRITE:
	case MLX5_OPCODE_RDMA_WRITE_IMM:
		return head + sizeof(struct mlx5_wqe_raddr_seg);
	case MLX5_OPCODE_ATOMIC_CS:
	case MLX5_OPCODE_ATOMIC_FA:
		return head + sizeof(struct mlx5_wqe_raddr_seg) +
		       sizeof(struct mlx5_wqe_atomic_seg);
	case MLX5_OPCODE_ATOMIC_MASKED_CS:
	case MLX5_OPCODE_ATOMIC_MASKED_FA:
		return head + sizeof(struct mlx5_wqe_raddr_seg) +
		       sizeof(struct mlx5_wqe_masked_atomic_seg);
	default:
		return 0;
	}
}

static int odp_read_send(struct mlx5_ib_qp *qp, u16 index, void *wqe, size_t *from,
			 size_t *to)
{
	const struct mlx5_wqe_ctrl_seg *ctrl = wqe;
	size_t copied;
	int ret;

	ret = mlx5_ib_read_wqe_sq(qp, index, wqe, PAGE_SIZE, &copied);
	if (ret)
		return ret;
	*to = (be32_to_cpu(ctrl->qpn_ds) & MLX5_WQE_CTRL_DS_MASK) * MLX5_WQE_DS_UNITS;
	*from = odp_send_header(qp, wqe, min(copied, *to));
	return *from && *from <= *to && *to <= copied ? 0 : -EFAULT;
}

static int odp_read_recv(struct mlx5_ib_qp *qp, u16 index, void *wqe, size_t *from,
			 size_t *to)
{
	size_t copied;
	int ret;

	/* The signature would have to be checked, and nobody uses it. */
	if (qp->flags_en & MLX5_QP_FLAG_SIGNATURE)
		return -EOPNOTSUPP;
	ret = mlx5_ib_read_wqe_rq(qp, index, wqe, PAGE_SIZE, &copied);
	if (ret)
		return ret;
	*from = 0;
	*to = 1ul << qp->rq.wqe_shift;
	return *to <= copied ? 0 : -EFAULT;
}

static int odp_read_srq(struct mlx5_ib_srq *srq, u16 index, void *wqe, size_t *from,
			size_t *to)
{
	size_t copied;
	int ret;

	ret = mlx5_ib_read_wqe_srq(srq, index, wqe, PAGE_SIZE, &copied);
	if (ret)
		return ret;
	*from = sizeof(struct mlx5_wqe_srq_next_seg);
	*to = 1ul << srq->msrq.wqe_shift;
	return *from <= *to && *to <= copied ? 0 : -EFAULT;
}

static struct mlx5_core_rsc_common *odp_hold_queue(struct mlx5_ib_dev *dev,
						   const struct mlx5_odp_fault *fault)
{
	struct mlx5_core_srq *srq;

	if (fault->type != MLX5_WQE_PF_TYPE_RMP)
		return mlx5_core_res_hold(dev, fault->wq, MLX5_RES_QP);
	srq = mlx5_cmd_get_srq(dev, fault->wq);
	return srq ? &srq->common : NULL;
}

static int odp_read_wqe(struct mlx5_ib_dev *dev, const struct mlx5_odp_fault *fault,
			void *wqe, size_t *from, size_t *to)
{
	struct mlx5_core_rsc_common *queue = odp_hold_queue(dev, fault);
	int ret;

	if (!queue)
		return -ENOENT;
	switch (fault->type) {
	case MLX5_WQE_PF_TYPE_RMP:
		ret = odp_read_srq(to_mibsrq(container_of(queue, struct mlx5_core_srq,
							  common)),
				   fault->wqe_index, wqe, from, to);
		break;
	case MLX5_WQE_PF_TYPE_RESP:
		ret = odp_read_recv(to_mibqp((struct mlx5_core_qp *)queue),
				    fault->wqe_index, wqe, from, to);
		break;
	default:
		ret = odp_read_send(to_mibqp((struct mlx5_core_qp *)queue),
				    fault->wqe_index, wqe, from, to);
		break;
	}
	mlx5_core_res_put(queue);
	return ret;
}

/* Bring in a window of the memory that the segments name, from @skip on. */
static int odp_fault_segments(struct mlx5_ib_dev *dev, const void *seg, const void *end,
			      u64 skip, bool recv, unsigned int flags,
			      struct mlx5_odp_fill *fill)
{
	const struct mlx5_wqe_data_seg *data;
	u64 room = MLX5_ODP_WINDOW, count, part;
	int ret, known = 0;

	while (room && end - seg >= sizeof(*data)) {
		data = seg;
		count = be32_to_cpu(data->byte_count);
		if (count & MLX5_INLINE_SEG) {
			count &= ~MLX5_INLINE_SEG;
			seg += ALIGN(sizeof(struct mlx5_wqe_inline_seg) + count,
				     MLX5_WQE_DS_UNITS);
			skip -= min(skip, count);
			continue;
		}
		seg += sizeof(*data);
		/* The device's word for the end; firmware may choose another one. */
		if (recv && data->lkey == dev->mkeys.terminate_scatter_list_mkey)
			break;
		count = count ?: ODP_COUNT_ZERO;
		if (skip >= count) {
			skip -= count;
			continue;
		}
		part = min(count - skip, room);
		ret = odp_fault_key(dev, be32_to_cpu(data->lkey),
				    be64_to_cpu(data->addr) + skip, part, flags, 0, fill);
		if (ret && ret != -ENOENT)
			return ret;
		skip = 0;
		/* A pinned segment beside paged ones is there, and takes nothing. */
		if (ret)
			continue;
		known++;
		room -= part;
	}
	return known ? 0 : -EFAULT;
}

static int odp_handle_wqe(struct mlx5_ib_dev *dev, const struct mlx5_odp_fault *fault,
			  struct mlx5_odp_fill *fill)
{
	bool recv = fault->type == MLX5_WQE_PF_TYPE_RMP ||
		    fault->type == MLX5_WQE_PF_TYPE_RESP;
	bool write = fault->type != MLX5_WQE_PF_TYPE_REQ_SEND_OR_WRITE;
	size_t from, to;
	void *wqe;
	int ret;

	if (fault->type > MLX5_WQE_PF_TYPE_REQ_READ_OR_ATOMIC)
		return -EINVAL;
	wqe = (void *)__get_free_page(GFP_KERNEL);
	if (!wqe)
		return -ENOMEM;
	ret = odp_read_wqe(dev, fault, wqe, &from, &to);
	if (!ret)
		ret = odp_fault_segments(dev, wqe + from, wqe + to, fault->committed, recv,
					 write ? IB_ODP_FAULT_WRITE : 0, fill);
	free_page((unsigned long)wqe);
	return ret;
}

static int odp_handle_rdma(struct mlx5_ib_dev *dev, const struct mlx5_odp_fault *fault,
			   struct mlx5_odp_fill *fill)
{
	u64 done = fault->committed, length = fault->length;

	/* Where the device cannot tell, the packet is what it needs. */
	if (!length)
		length = fault->packet;
	else
		length -= min(done, length);
	if (!length)
		return -EFAULT;
	return odp_fault_key(dev, fault->key, fault->va + done,
			     min_t(u64, length, MLX5_ODP_WINDOW), ODP_MAYBE_WRITE, 0,
			     fill);
}

/*
 * What the device expects to need soon. It may be wrong: what the process does not have
 * there stays away, and that some of it cannot be had is no failure of the fault.
 */
static void odp_handle_expected(struct mlx5_ib_dev *dev, const struct mlx5_odp_fault *fault,
				struct mlx5_odp_fill *fill)
{
	unsigned int flags = ODP_MAYBE_WRITE | ODP_WHOLE_PAGES | IB_ODP_FAULT_PRESENT;
	u64 end = fault->va + fault->length;
	u64 before = min_t(u64, fault->before, fault->va);
	u64 after = min_t(u64, fault->after, -end);

	if (before)
		odp_fault_key(dev, fault->key, fault->va - before, before, flags, 0, fill);
	if (after && fault->length <= MLX5_ODP_WINDOW)
		odp_fault_key(dev, fault->key, end, after, flags, 0, fill);
}

static int odp_handle_memory(struct mlx5_ib_dev *dev, const struct mlx5_odp_fault *fault,
			     struct mlx5_odp_fill *fill)
{
	int ret;

	if (!fault->length)
		return -EFAULT;
	ret = odp_fault_key(dev, fault->key, fault->va,
			    min_t(u64, fault->length, MLX5_ODP_WINDOW),
			    ODP_MAYBE_WRITE | ODP_WHOLE_PAGES, 0, fill);
	if (!ret)
		odp_handle_expected(dev, fault, fill);
	/*
	 * A child of an implicit region has gone since. The device looks again, and
	 * does not find its key any more. Of any other key it would find the same as
	 * before, and ask for the same, for ever.
	 */
	if (ret == -ENOENT && mlx5_odp_child_went(dev, fault->key))
		return 0;
	return ret;
}

static int odp_handle(struct mlx5_ib_dev *dev, struct mlx5_odp_fault *fault)
{
	switch (fault->subtype) {
	case MLX5_PFAULT_SUBTYPE_WQE:
		return odp_handle_wqe(dev, fault, &fault->fill);
	case MLX5_PFAULT_SUBTYPE_RDMA:
		return odp_handle_rdma(dev, fault, &fault->fill);
	case MLX5_PFAULT_SUBTYPE_MEMORY:
		return odp_handle_memory(dev, fault, &fault->fill);
	default:
		return -EINVAL;
	}
}

/**
 * mlx5_odp_handle() - bring in what a fault asks for
 * @fault: by mlx5_odp_decode()
 *
 * Context: sleeps, in a work item, but not for memory that user space holds back.
 * Return: MLX5_ODP_STALLED for such memory, with what is missing in @fault->fill, which
 * is ended; all else is for mlx5_odp_answer().
 */
int mlx5_odp_handle(struct mlx5_odp_fault *fault)
{
	struct mlx5_ib_dev *dev = fault->eq->dev;
	int ret;

	fault->fill = (struct mlx5_odp_fill) { .dev = dev };
	ret = odp_handle(dev, fault);
	return ret == MLX5_ODP_STALLED ? mlx5_odp_fill_end(&fault->fill, ret) : ret;
}
