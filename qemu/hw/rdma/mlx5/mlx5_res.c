/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Objects that are little more than a number: protection domains, XRC and
 * transport domains, UARs, user contexts, user memory, counter sets.  Most have
 * no state but their owner and their users (mlx5_obj.c).
 */
#include "mlx5.h"

enum {
    MAX_PDS = 1 << 16,
    MAX_XRCDS = 1 << 10,
    MAX_TDS = 1 << 8,
    MAX_UCTXS = 1 << 8,
    MAX_UMEMS = 1 << 16,
    MAX_COUNTER_SETS = 1 << 8,
};

/* ---- objects that are a number ---- */

static uint8_t res_alloc(Mlx5Device *dev, Mlx5Cmd *cmd, Mlx5Table *t,
                         uint32_t *nr)
{
    Mlx5Obj *obj = mlx5_obj_new(dev, cmd, sizeof(*obj), g_free);

    if (!obj) {
        return MLX5_CMD_STAT_LIM_ERR;
    }
    if (mlx5_table_add(t, obj, nr)) {
        return MLX5_CMD_STAT_OK;
    }
    mlx5_obj_put(obj);
    return MLX5_CMD_STAT_NO_RES_ERR;
}

/* Signatures are not reported: nothing names these. */
uint8_t mlx5_create_psv(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    MLX5_PRM_SET(create_psv_out, cmd->out, psv0_index, 1);
    MLX5_PRM_SET(create_psv_out, cmd->out, psv1_index, 2);
    return MLX5_CMD_STAT_OK;
}

uint8_t mlx5_destroy_psv(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    return MLX5_CMD_STAT_OK;
}

uint8_t mlx5_alloc_pd(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint32_t nr = 0;
    uint8_t status = res_alloc(dev, cmd, &dev->pds, &nr);

    MLX5_PRM_SET(alloc_pd_out, cmd->out, pd, nr);
    return status;
}

uint8_t mlx5_dealloc_pd(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint32_t nr = MLX5_PRM_GET(dealloc_pd_in, cmd->in, pd);

    if (mlx5_mkey_of_pd(dev, nr)) {
        return MLX5_CMD_STAT_BAD_RES_STATE_ERR;
    }
    return mlx5_obj_del(&dev->pds, nr, cmd);
}

uint8_t mlx5_alloc_xrcd(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint32_t nr = 0;
    uint8_t status = res_alloc(dev, cmd, &dev->xrcds, &nr);

    MLX5_PRM_SET(alloc_xrcd_out, cmd->out, xrcd, nr);
    return status;
}

uint8_t mlx5_dealloc_xrcd(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    return mlx5_obj_del(&dev->xrcds,
                        MLX5_PRM_GET(dealloc_xrcd_in, cmd->in, xrcd), cmd);
}

uint8_t mlx5_alloc_td(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint32_t nr = 0;
    uint8_t status = res_alloc(dev, cmd, &dev->tds, &nr);

    MLX5_PRM_SET(alloc_transport_domain_out, cmd->out, transport_domain, nr);
    return status;
}

uint8_t mlx5_dealloc_td(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    return mlx5_obj_del(&dev->tds,
                        MLX5_PRM_GET(dealloc_transport_domain_in, cmd->in,
                                     transport_domain), cmd);
}

uint8_t mlx5_alloc_uar(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint32_t nr = 0;
    uint8_t status = res_alloc(dev, cmd, &dev->uars, &nr);

    mlx5_bf_forget(dev, nr);
    MLX5_PRM_SET(alloc_uar_out, cmd->out, uar, nr);
    return status;
}

uint8_t mlx5_dealloc_uar(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    return mlx5_obj_del(&dev->uars, MLX5_PRM_GET(dealloc_uar_in, cmd->in, uar),
                        cmd);
}

bool mlx5_uar_valid(Mlx5Device *dev, uint32_t uar)
{
    return mlx5_table_get(&dev->uars, uar);
}

uint8_t mlx5_create_uctx(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint32_t nr = 0;
    uint8_t status = res_alloc(dev, cmd, &dev->uctxs, &nr);

    MLX5_PRM_SET(create_uctx_out, cmd->out, uid, nr);
    return status;
}

uint8_t mlx5_destroy_uctx(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint32_t nr = MLX5_PRM_GET(destroy_uctx_in, cmd->in, uid);
    uint8_t status = mlx5_obj_del(&dev->uctxs, nr, cmd);
    Mlx5Obj *uctx = mlx5_table_get(&dev->uctxs, nr);

    /*
     * The driver of 6.12 destroys a context before its last object.  The number
     * is valid, and not given out again, until that has gone.
     */
    if (status == MLX5_CMD_STAT_BAD_RES_STATE_ERR && !uctx->dying) {
        uctx->dying = nr;
        return MLX5_CMD_STAT_OK;
    }
    return status;
}

/* ---- counter sets: nothing that they count ever happens here ---- */

uint8_t mlx5_alloc_q_counter(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint32_t nr = 0;
    uint8_t status = res_alloc(dev, cmd, &dev->counter_sets, &nr);

    MLX5_PRM_SET(alloc_q_counter_out, cmd->out, counter_set_id, nr);
    return status;
}

uint8_t mlx5_dealloc_q_counter(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    return mlx5_obj_del(&dev->counter_sets,
                        MLX5_PRM_GET(dealloc_q_counter_in, cmd->in,
                                     counter_set_id), cmd);
}

uint8_t mlx5_query_q_counter(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint32_t nr = MLX5_PRM_GET(query_q_counter_in, cmd->in, counter_set_id);

    return mlx5_table_get(&dev->counter_sets, nr) ? MLX5_CMD_STAT_OK :
                                                    MLX5_CMD_STAT_BAD_RES_ERR;
}

/* ---- user memory: pages of queues and doorbell records ---- */

Mlx5Umem *mlx5_umem_get(Mlx5Device *dev, uint16_t uid, uint32_t nr)
{
    Mlx5Umem *umem = mlx5_table_get(&dev->umems, nr);

    if (!umem || !mlx5_obj_usable(&umem->obj, uid)) {
        return NULL;
    }
    umem->obj.refs++;
    return umem;
}

static void umem_free(void *opaque)
{
    Mlx5Umem *umem = opaque;

    mlx5_buf_free(&umem->buf);
    g_free(umem);
}

static bool umem_init(Mlx5Umem *umem, Mlx5Cmd *cmd)
{
    void *in = MLX5_PRM_PTR(create_umem_in, cmd->in, umem);
    uint32_t shift = MLX5_PRM_GET(umem, in, log_page_size) +
                     MLX5_ADAPTER_PAGE_SHIFT;
    uint32_t offset = MLX5_PRM_GET(umem, in, page_offset);
    uint64_t nr = MLX5_PRM_GET(umem, in, num_of_mtt);

    if (!nr || nr > cmd->in_len || offset >= 1ULL << shift) {
        return false;
    }
    return mlx5_buf_init(umem->obj.dev, &umem->buf, cmd,
                         MLX5_PRM_PTR(umem, in, mtt), shift, offset,
                         (nr << shift) - offset);
}

uint8_t mlx5_create_umem(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    Mlx5Umem *umem = mlx5_obj_new(dev, cmd, sizeof(*umem), umem_free);
    uint32_t nr;

    if (!umem) {
        return MLX5_CMD_STAT_LIM_ERR;
    }
    if (!umem_init(umem, cmd)) {
        mlx5_obj_put(umem);
        return MLX5_CMD_STAT_BAD_PARAM_ERR;
    }
    if (!mlx5_table_add(&dev->umems, umem, &nr)) {
        mlx5_obj_put(umem);
        return MLX5_CMD_STAT_NO_RES_ERR;
    }
    MLX5_PRM_SET(create_umem_out, cmd->out, umem_id, nr);
    return MLX5_CMD_STAT_OK;
}

uint8_t mlx5_destroy_umem(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    return mlx5_obj_del(&dev->umems,
                        MLX5_PRM_GET(destroy_umem_in, cmd->in, umem_id), cmd);
}

/* ---- begin and end ---- */

void mlx5_res_init(Mlx5Device *dev)
{
    mlx5_table_init(&dev->pds, 1, MAX_PDS - 1, mlx5_obj_put);
    mlx5_table_init(&dev->xrcds, 1, MAX_XRCDS - 1, mlx5_obj_put);
    mlx5_table_init(&dev->tds, 1, MAX_TDS - 1, mlx5_obj_put);
    mlx5_table_init(&dev->uctxs, 1, MAX_UCTXS - 1, mlx5_obj_put);
    mlx5_table_init(&dev->uars, MLX5_FIRST_UAR, MLX5_NR_UARS - 1, mlx5_obj_put);
    mlx5_table_init(&dev->umems, 1, MAX_UMEMS - 1, mlx5_obj_put);
    mlx5_table_init(&dev->counter_sets, 1, MAX_COUNTER_SETS - 1, mlx5_obj_put);
}

void mlx5_res_reset(Mlx5Device *dev)
{
    mlx5_table_reset(&dev->pds);
    mlx5_table_reset(&dev->xrcds);
    mlx5_table_reset(&dev->tds);
    mlx5_table_reset(&dev->uctxs);
    mlx5_table_reset(&dev->uars);
    mlx5_table_reset(&dev->umems);
    mlx5_table_reset(&dev->counter_sets);
}
