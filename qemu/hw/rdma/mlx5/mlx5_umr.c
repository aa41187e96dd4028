/* SPDX-License-Identifier: GPL-2.0 */
/*
 * UMR WQEs: they change a memory key's context and translations.
 *
 *   control (16) | UMR control (48) | mkey segment (64) | data or inline
 *
 * The key's index is in the control segment; mkey_mask says which fields of
 * the context are taken from the mkey segment.  Translations come in
 * octowords of 16 bytes, 64-byte granules of them, at an offset from the
 * table's start.  A granule is written whole: where there are fewer octowords
 * it takes what follows them in the data, if anything does.
 *
 * The driver's queue pair for UMRs may change any key.  A user's may change
 * keys of its own domain: windows and others over keys, but not their domain.
 * To a key over pages it may do what LOCAL_INV does.  Its translations are
 * addresses of the bus, and its rights and bounds are what the driver checked.
 */
#include "mlx5_qp.h"
#include "trace.h"

#define UMR_HEAD (sizeof(struct mlx5_wqe_ctrl_seg) + \
                  sizeof(struct mlx5_wqe_umr_ctrl_seg) + \
                  sizeof(struct mlx5_mkey_seg))

/* ---- execution ---- */

#define MKC_FIELD(mask, name) \
    { mask, MLX5_OFF(mkc, name), MLX5_WIDTH(mkc, name) }

static const struct {
    uint64_t mask;
    size_t off, width;
} fields[] = {
    MKC_FIELD(MLX5_MKEY_MASK_LEN, len),
    MKC_FIELD(MLX5_MKEY_MASK_LEN, length64),
    MKC_FIELD(MLX5_MKEY_MASK_PAGE_SIZE, log_page_size),
    MKC_FIELD(MLX5_MKEY_MASK_START_ADDR, start_addr),
    MKC_FIELD(MLX5_MKEY_MASK_PD, pd),
    MKC_FIELD(MLX5_MKEY_MASK_EN_RINVAL, en_rinval),
    MKC_FIELD(MLX5_MKEY_MASK_KEY, mkey_7_0),
    MKC_FIELD(MLX5_MKEY_MASK_QPN, qpn),
    MKC_FIELD(MLX5_MKEY_MASK_LR, lr),
    MKC_FIELD(MLX5_MKEY_MASK_LW, lw),
    MKC_FIELD(MLX5_MKEY_MASK_RR, rr),
    MKC_FIELD(MLX5_MKEY_MASK_RW, rw),
    MKC_FIELD(MLX5_MKEY_MASK_A, a),
    MKC_FIELD(MLX5_MKEY_MASK_FREE, free),
};

static void merge_context(Mlx5Mkey *mkey, const void *seg, uint64_t mask)
{
    for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
        if (mask & fields[i].mask) {
            mlx5_bits_set(mkey->mkc, fields[i].off, fields[i].width,
                          mlx5_bits_get(seg, fields[i].off, fields[i].width));
        }
    }
}

/*
 * The new translations, from the WQE itself or from memory.  More than there
 * are octowords, if that fills the last granule and there is as much.
 */
static uint8_t *fetch_xlt(Mlx5QP *qp, const uint8_t *wqe, size_t len,
                          bool is_inline, size_t *octowords)
{
    const struct mlx5_wqe_data_seg *data = (const void *)(wqe + UMR_HEAD);
    Mlx5Access access = {
        .pdn = MLX5_PRM_GET(qpc, qp->qpc, pd), .qpn = qp->qpn,
        .rights = MLX5_RIGHT_LR,
        .any_pd = mlx5_qp_type(qp) == MLX5_QP_ST_REG_UMR,
        .reserved_lkey = MLX5_PRM_GET(qpc, qp->qpc, rlky),
    };
    size_t xlt_len = *octowords * 16;
    size_t whole = ROUND_UP(xlt_len, MLX5_XLT_GRANULE);
    g_autofree uint8_t *xlt = g_malloc0(whole);
    uint64_t start = mlx5_work();
    Mlx5Missing missing;
    size_t done = 0, part, there;

    if (len < UMR_HEAD + (is_inline ? 0 : sizeof(*data))) {
        return NULL;
    }
    there = is_inline ? len - UMR_HEAD : be32_to_cpu(data->byte_count);
    if (there < xlt_len) {
        return NULL;
    }
    xlt_len = MIN(whole, there);
    *octowords = xlt_len / 16;
    if (is_inline) {
        memcpy(xlt, wqe + UMR_HEAD, xlt_len);
        return g_steal_pointer(&xlt);
    }
    /* It is executed as a whole, or not. */
    while (done < xlt_len) {
        if (mlx5_work() - start > MLX5_WORK_WHOLE ||
            mlx5_mem_copy(qp->dev, &access, be32_to_cpu(data->lkey),
                          be64_to_cpu(data->addr) + done, xlt + done,
                          xlt_len - done, &part, &missing) != MLX5_OK) {
            return NULL;
        }
        done += part;
    }
    return g_steal_pointer(&xlt);
}

static bool update_xlt(Mlx5QP *qp, Mlx5Mkey *mkey, const uint8_t *wqe,
                       size_t len, const struct mlx5_wqe_umr_ctrl_seg *umr)
{
    size_t octowords = be16_to_cpu(umr->xlt_octowords);
    size_t xlt_len = octowords * 16;
    uint64_t room = ROUND_UP(mkey->xlt_bytes, MLX5_XLT_GRANULE), off = 0;
    bool is_inline = umr->flags & MLX5_UMR_INLINE;
    g_autofree uint8_t *xlt = NULL;

    if (umr->flags & MLX5_UMR_TRANSLATION_OFFSET_EN) {
        off = ((uint64_t)be32_to_cpu(umr->xlt_offset_47_16) << 16 |
               be16_to_cpu(umr->xlt_offset)) * 16;
    }
    if (!xlt_len) {
        return true;
    }
    if (off % MLX5_XLT_GRANULE || off > room ||
        ROUND_UP(xlt_len, MLX5_XLT_GRANULE) > room - off) {
        return false;
    }
    xlt = fetch_xlt(qp, wqe, len, is_inline, &octowords);
    if (!xlt) {
        return false;
    }
    if (!mlx5_mkey_xlt_write(mkey, off, xlt, octowords * 16)) {
        return false;
    }
    mlx5_work_add(xlt_len / MLX5_XLT_GRANULE);
    mlx5_count(qp->dev, MLX5_COUNTER_XLT_BYTES, xlt_len);
    return true;
}

static bool over_keys(const Mlx5Mkey *mkey)
{
    uint8_t mode = mlx5_mkey_mode(mkey);

    return mode == MLX5_MKC_ACCESS_MODE_KLMS ||
           mode == MLX5_MKC_ACCESS_MODE_KSM;
}

static bool owner_may(const Mlx5QP *qp, const Mlx5Mkey *mkey,
                      const struct mlx5_wqe_umr_ctrl_seg *umr)
{
    uint64_t mask = be64_to_cpu(umr->mkey_mask);

    if (MLX5_PRM_GET(mkc, mkey->mkc, pd) != MLX5_PRM_GET(qpc, qp->qpc, pd)) {
        return false;
    }
    if (over_keys(mkey)) {
        return !(mask & MLX5_MKEY_MASK_PD);
    }
    return !umr->xlt_octowords &&
           !(mask & ~(MLX5_MKEY_MASK_FREE | MLX5_MKEY_MASK_KEY |
                      MLX5_MKEY_MASK_QPN));
}

static bool umr_allowed(const Mlx5QP *qp, const Mlx5Mkey *mkey,
                        const struct mlx5_wqe_umr_ctrl_seg *umr)
{
    bool is_free = MLX5_PRM_GET(mkc, mkey->mkc, free);

    if (!MLX5_PRM_GET(mkc, mkey->mkc, umr_en) ||
        (mlx5_mkey_mode(mkey) == MLX5_MKC_ACCESS_MODE_KSM &&
         !qp->dev->indirect_umr) ||
        (mlx5_qp_type(qp) != MLX5_QP_ST_REG_UMR && !owner_may(qp, mkey, umr))) {
        return false;
    }
    switch (umr->flags & (3 << 5)) {
    case MLX5_UMR_CHECK_NOT_FREE:       /* fails if it is in use */
        return is_free;
    case MLX5_UMR_CHECK_FREE:           /* fails if it is free */
        return !is_free;
    }
    return true;
}

/* A CQE syndrome; 0 is good. */
static uint8_t umr_execute(Mlx5QP *qp, const uint8_t *wqe, size_t len)
{
    const struct mlx5_wqe_ctrl_seg *ctrl = (const void *)wqe;
    const struct mlx5_wqe_umr_ctrl_seg *umr = (const void *)(ctrl + 1);
    uint32_t key = be32_to_cpu(ctrl->umr_mkey);
    Mlx5Mkey *mkey = mlx5_mkey_find(qp->dev, key);

    mlx5_count(qp->dev, MLX5_COUNTER_UMR_WQES, 1);
    if (len < UMR_HEAD || !mkey || !umr_allowed(qp, mkey, umr)) {
        trace_mlx5_umr_refused(qp->qpn, key);
        return MLX5_CQE_SYNDROME_MW_BIND_ERR;
    }
    if (mlx5_hostile(qp->dev, MLX5_HOSTILE_UMR)) {
        return MLX5_CQE_SYNDROME_LOCAL_QP_OP_ERR;
    }
    if (!update_xlt(qp, mkey, wqe, len, umr)) {
        trace_mlx5_umr_refused(qp->qpn, key);
        return MLX5_CQE_SYNDROME_LOCAL_PROT_ERR;
    }
    merge_context(mkey, umr + 1, be64_to_cpu(umr->mkey_mask));
    mlx5_mkey_bind(mkey);
    trace_mlx5_umr(qp->qpn, key, be64_to_cpu(umr->mkey_mask),
                   be16_to_cpu(umr->xlt_octowords));
    return 0;
}

/* ---- WQEs beside each other, completed in order ---- */

void mlx5_umr_start(Mlx5QP *qp)
{
    Mlx5UmrWqe *umr = g_new0(Mlx5UmrWqe, 1), *last;
    Mlx5Send *s = &qp->send;

    last = QSIMPLEQ_LAST(&qp->umrs, Mlx5UmrWqe, entry);
    umr->when = mlx5_when(qp->dev, MLX5_KNOB_UMR_DELAY);
    if (last) {
        umr->when = MAX(umr->when, last->when);
    }
    memcpy(umr->wqe, s->wqe, s->wqe_len);
    umr->wqe_len = s->wqe_len;
    umr->order = s->order;
    s->active = false;
    QSIMPLEQ_INSERT_TAIL(&qp->umrs, umr, entry);
    if (!last) {
        timer_mod_ns(qp->umr_timer, umr->when);
    }
}

static bool umrs_run(const Mlx5QP *qp)
{
    return qp->state != MLX5_QP_STATE_ERR && !qp->failing;
}

void mlx5_umr_timer(void *opaque)
{
    Mlx5QP *qp = opaque;
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    int64_t pause = mlx5_work_pause();
    Mlx5UmrWqe *umr;
    uint8_t syndrome;

    if (mlx5_bus_park(qp->dev, qp->umr_timer)) {
        return;
    }
    if (pause) {
        timer_mod_ns(qp->umr_timer, now + pause);
        return;
    }
    /* The first that fails is the last executed: the flush has the rest. */
    while (umrs_run(qp) &&
           (umr = QSIMPLEQ_FIRST(&qp->umrs)) && umr->when <= now &&
           !mlx5_work_spent()) {
        QSIMPLEQ_REMOVE_HEAD(&qp->umrs, entry);
        syndrome = umr_execute(qp, umr->wqe, umr->wqe_len);
        if (syndrome) {
            mlx5_order_fail(qp, umr->order, syndrome);
        } else {
            mlx5_order_done(qp, umr->order, 0);
        }
        g_free(umr);
    }
    umr = QSIMPLEQ_FIRST(&qp->umrs);
    if (umr && umrs_run(qp)) {
        timer_mod_ns(qp->umr_timer, umr->when);
    } else {
        mlx5_send_kick(qp);
    }
}

void mlx5_umr_reset(Mlx5QP *qp)
{
    Mlx5UmrWqe *umr;

    timer_del(qp->umr_timer);
    while ((umr = QSIMPLEQ_FIRST(&qp->umrs))) {
        QSIMPLEQ_REMOVE_HEAD(&qp->umrs, entry);
        g_free(umr);
    }
}

/* ---- invalidation by a message ---- */

bool mlx5_umr_invalidate(Mlx5Device *dev, uint32_t key, uint32_t pdn)
{
    Mlx5Mkey *mkey = mlx5_mkey_find(dev, key);

    if (!mkey || mlx5_mkey_key(mkey) != key ||
        !MLX5_PRM_GET(mkc, mkey->mkc, en_rinval) ||
        MLX5_PRM_GET(mkc, mkey->mkc, free) ||
        MLX5_PRM_GET(mkc, mkey->mkc, pd) != pdn) {
        return false;
    }
    MLX5_PRM_SET(mkc, mkey->mkc, free, 1);
    mlx5_mkey_bind(mkey);
    return true;
}
