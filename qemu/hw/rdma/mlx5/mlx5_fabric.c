/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The fabric: adapters of one name reach each other by LID, and the LID 0 or
 * their own is themselves.  Multicast groups are attached here.  Adapters of
 * other processes are not here but at the other end of a link (mlx5_link.c).
 *
 * An adapter that was removed is off the fabric at once: every step looks its
 * peer up anew.
 */
#include "mlx5_link.h"
#include "trace.h"

enum { MAX_GROUP_MEMBERS = 1024 };

typedef struct Mlx5McGroup {
    QLIST_ENTRY(Mlx5McGroup) entry;
    uint8_t gid[16];
    uint32_t qpn;
} Mlx5McGroup;

static QLIST_HEAD(, Mlx5Device) adapters = QLIST_HEAD_INITIALIZER(adapters);

Mlx5Device *mlx5_fabric_next(Mlx5Device *dev, Mlx5Device *last)
{
    Mlx5Device *next = last ? QLIST_NEXT(last, fabric_entry)
                            : QLIST_FIRST(&adapters);

    while (next && g_strcmp0(next->fabric, dev->fabric)) {
        next = QLIST_NEXT(next, fabric_entry);
    }
    return next;
}

bool mlx5_fabric_free(Mlx5Device *dev)
{
    Mlx5Device *other = NULL;

    while ((other = mlx5_fabric_next(dev, other))) {
        if (other->lid == dev->lid || mlx5_link_knows(other, dev->lid)) {
            return false;
        }
    }
    return true;
}

void mlx5_fabric_join(Mlx5Device *dev)
{
    QLIST_INSERT_HEAD(&adapters, dev, fabric_entry);
    mlx5_link_announce(dev);
}

/* Memberships are by number: the next QP of that number has none of them. */
void mlx5_fabric_detach(Mlx5Device *dev, uint32_t qpn)
{
    Mlx5McGroup *group, *next;

    QLIST_FOREACH_SAFE(group, &dev->mc_groups, entry, next) {
        if (group->qpn == qpn) {
            QLIST_REMOVE(group, entry);
            g_free(group);
        }
    }
}

void mlx5_fabric_reset(Mlx5Device *dev)
{
    Mlx5McGroup *group, *next;

    QLIST_FOREACH_SAFE(group, &dev->mc_groups, entry, next) {
        QLIST_REMOVE(group, entry);
        g_free(group);
    }
}

void mlx5_fabric_leave(Mlx5Device *dev)
{
    QLIST_REMOVE(dev, fabric_entry);
    mlx5_link_announce(dev);
}

Mlx5Device *mlx5_fabric_find(Mlx5Device *dev, uint16_t lid)
{
    Mlx5Device *other = NULL;

    while (!dev->removed && (other = mlx5_fabric_next(dev, other))) {
        if (other->lid == lid && !other->removed) {
            return other;
        }
    }
    return NULL;
}

/* fe80::, and an EUI-64 made of the LID. */
void mlx5_fabric_gid(uint16_t lid, uint8_t *gid)
{
    stq_be_p(gid, 0xfe80ull << 48);
    stq_be_p(gid + 8, mlx5_fabric_guid(lid));
}

uint64_t mlx5_fabric_guid(uint16_t lid)
{
    return 0x0002c90300000000ull | (uint64_t)lid << 8 | 1;
}

/* A sender that asked for it is spared its own messages. */
static bool excluded(const Mlx5QP *qp, const Mlx5Head *head)
{
    return head->slid == qp->dev->lid && head->sqpn == qp->qpn &&
           MLX5_PRM_GET(qpc, qp->qpc, block_lb_mc);
}

static void deliver(Mlx5Device *dev, const Mlx5Head *head, const uint8_t *data,
                    uint64_t deadline)
{
    Mlx5McGroup *group, *next;
    Mlx5QP *qp;

    QLIST_FOREACH_SAFE(group, &dev->mc_groups, entry, next) {
        qp = mlx5_qp_get(dev, group->qpn);
        if (qp && !memcmp(group->gid, head->dgid, 16) && !excluded(qp, head)) {
            mlx5_ud_receive(dev, group->qpn, head, data, deadline);
        }
    }
}

void mlx5_fabric_multicast(Mlx5Device *dev, const Mlx5Head *head,
                           const uint8_t *data, uint64_t deadline)
{
    Mlx5Device *to = NULL;

    while ((to = mlx5_fabric_next(dev, to))) {
        if (!to->removed) {
            deliver(to, head, data, deadline);
        }
    }
}

static Mlx5McGroup *find_member(Mlx5Device *dev, Mlx5Cmd *cmd, unsigned *n)
{
    uint8_t *gid = MLX5_PRM_PTR(attach_to_mcg_in, cmd->in, multicast_gid);
    uint32_t qpn = MLX5_PRM_GET(attach_to_mcg_in, cmd->in, qpn);
    Mlx5McGroup *group;

    *n = 0;
    QLIST_FOREACH(group, &dev->mc_groups, entry) {
        if (group->qpn == qpn && !memcmp(group->gid, gid, 16)) {
            return group;
        }
        ++*n;
    }
    return NULL;
}

static bool own_qp(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    uint32_t qpn = MLX5_PRM_GET(attach_to_mcg_in, cmd->in, qpn);

    return mlx5_qp_get(dev, qpn) && mlx5_obj_get(&dev->qps, qpn, cmd);
}

uint8_t mlx5_attach_mcg(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    unsigned n;
    Mlx5McGroup *group = find_member(dev, cmd, &n);

    if (!own_qp(dev, cmd)) {
        return MLX5_CMD_STAT_BAD_RES_ERR;
    }
    if (group) {
        return MLX5_CMD_STAT_OK;
    }
    if (n == MAX_GROUP_MEMBERS) {
        return MLX5_CMD_STAT_NO_RES_ERR;
    }
    group = g_new0(Mlx5McGroup, 1);
    group->qpn = MLX5_PRM_GET(attach_to_mcg_in, cmd->in, qpn);
    memcpy(group->gid, MLX5_PRM_PTR(attach_to_mcg_in, cmd->in, multicast_gid),
           16);
    QLIST_INSERT_HEAD(&dev->mc_groups, group, entry);
    return MLX5_CMD_STAT_OK;
}

uint8_t mlx5_detach_mcg(Mlx5Device *dev, Mlx5Cmd *cmd)
{
    unsigned n;
    Mlx5McGroup *group = find_member(dev, cmd, &n);

    if (!group || !own_qp(dev, cmd)) {
        return MLX5_CMD_STAT_BAD_RES_ERR;
    }
    QLIST_REMOVE(group, entry);
    g_free(group);
    return MLX5_CMD_STAT_OK;
}
