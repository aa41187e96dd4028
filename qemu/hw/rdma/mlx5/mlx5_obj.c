/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Objects by number: their tables, their owners, and their users.
 *
 * Numbers are given out round robin, so that one that was just freed does not
 * come back at once: a use of the old object is noticed, here or in the driver.
 *
 * Every object that a command makes begins with struct Mlx5Obj.  It belongs to
 * the user context that the command named, or to the driver if that is 0.  Only
 * its owner changes or destroys it, so the driver has to name the same context
 * then.  The driver may look at any object, and its own objects may use any.
 * For a user context the objects of others do not exist, unless the driver made
 * them in the name of all contexts, as it does its completion event queues.
 *
 * An object counts those that use it, and is not destroyed before they are.  A
 * reset empties the tables in any order: an object without a number lives on
 * until its last user goes.
 *
 * What the guest creates takes QEMU's memory, and there are more numbers than
 * memory for their objects.  All of it is charged to the property "quota"; what
 * exceeds it fails with a status.
 */
#include "mlx5.h"

enum { ENTRY_BYTES = 64 };              /* of a table, and of the allocator */

/* ---- tables ---- */

void mlx5_table_init(Mlx5Table *t, uint32_t first, uint32_t last,
                     GDestroyNotify destroy)
{
    t->objs = g_hash_table_new_full(NULL, NULL, NULL, destroy);
    t->first = t->next = first;
    t->last = last;
}

void *mlx5_table_get(Mlx5Table *t, uint32_t nr)
{
    return g_hash_table_lookup(t->objs, GUINT_TO_POINTER(nr));
}

bool mlx5_table_add(Mlx5Table *t, void *obj, uint32_t *nr)
{
    if (g_hash_table_size(t->objs) > t->last - t->first) {
        return false;
    }
    /* At least one number is free: this ends. */
    while (mlx5_table_get(t, t->next)) {
        t->next = t->next == t->last ? t->first : t->next + 1;
    }
    *nr = t->next;
    t->next = t->next == t->last ? t->first : t->next + 1;
    g_hash_table_insert(t->objs, GUINT_TO_POINTER(*nr), obj);
    return true;
}

bool mlx5_table_del(Mlx5Table *t, uint32_t nr)
{
    return g_hash_table_remove(t->objs, GUINT_TO_POINTER(nr));
}

void mlx5_table_reset(Mlx5Table *t)
{
    g_hash_table_remove_all(t->objs);
    t->next = t->first;
}

void mlx5_table_free(Mlx5Table *t)
{
    g_hash_table_destroy(t->objs);
    t->objs = NULL;
}

/* ---- memory ---- */

bool mlx5_charge(Mlx5Device *dev, int64_t bytes)
{
    uint64_t used = dev->counter[MLX5_COUNTER_MEMORY_BYTES];

    if (bytes > 0 && (used > dev->quota || bytes > dev->quota - used)) {
        dev->over_quota = true;
        return false;
    }
    mlx5_count(dev, MLX5_COUNTER_MEMORY_BYTES, bytes);
    return true;
}

bool mlx5_obj_charge(Mlx5Obj *obj, int64_t bytes)
{
    bool fits = mlx5_charge(obj->dev, bytes);

    obj->charged += fits ? bytes : 0;
    return fits;
}

/* ---- owners and users ---- */

static void obj_add_use(Mlx5Obj *obj, Mlx5Obj *used)
{
    assert(obj->nr_uses < ARRAY_SIZE(obj->uses));
    used->refs++;
    obj->uses[obj->nr_uses++] = used;
}

void *mlx5_obj_new(Mlx5Device *dev, const Mlx5Cmd *cmd, size_t size,
                   GDestroyNotify destroy)
{
    Mlx5Obj *uctx = mlx5_table_get(&dev->uctxs, cmd->uid);
    Mlx5Obj *obj;

    if (!mlx5_charge(dev, size + ENTRY_BYTES)) {
        return NULL;
    }
    obj = g_malloc0(size);
    obj->dev = dev;
    obj->charged = size + ENTRY_BYTES;
    obj->uid = cmd->uid;
    obj->refs = 1;
    obj->destroy = destroy;
    if (uctx) {
        obj_add_use(obj, uctx);
    }
    return obj;
}

void mlx5_obj_put(void *opaque)
{
    Mlx5Obj *obj = opaque;

    if (!obj || --obj->refs) {
        return;
    }
    while (obj->nr_uses) {
        Mlx5Obj *used = obj->uses[--obj->nr_uses];

        if (used->dying && used->refs == 2) {
            mlx5_table_del(&obj->dev->uctxs, used->dying);
        }
        mlx5_obj_put(used);
    }
    mlx5_charge(obj->dev, -obj->charged);
    obj->destroy(obj);
}

bool mlx5_uid_is_driver(uint16_t uid)
{
    return !uid || uid == MLX5_SHARED_RESOURCE_UID;
}

bool mlx5_obj_usable(const Mlx5Obj *obj, uint16_t uid)
{
    return obj && (mlx5_uid_is_driver(uid) || obj->uid == uid ||
                   obj->uid == MLX5_SHARED_RESOURCE_UID);
}

uint8_t mlx5_obj_use(Mlx5Obj *obj, Mlx5Table *t, uint32_t nr, bool shared)
{
    Mlx5Obj *used = mlx5_table_get(t, nr);

    if (!mlx5_obj_usable(used, obj->uid) && !(shared && used && !used->uid)) {
        return MLX5_CMD_STAT_BAD_RES_ERR;
    }
    obj_add_use(obj, used);
    return MLX5_CMD_STAT_OK;
}

/* What the driver made in the name of all contexts it ends without a name. */
static bool obj_owned(const Mlx5Obj *obj, const Mlx5Cmd *cmd)
{
    return obj->uid == cmd->uid ||
           (obj->uid == MLX5_SHARED_RESOURCE_UID && !cmd->uid);
}

void *mlx5_obj_get(Mlx5Table *t, uint32_t nr, const Mlx5Cmd *cmd)
{
    Mlx5Obj *obj = mlx5_table_get(t, nr);

    return obj && obj_owned(obj, cmd) ? obj : NULL;
}

void *mlx5_obj_look(Mlx5Table *t, uint32_t nr, const Mlx5Cmd *cmd)
{
    Mlx5Obj *obj = mlx5_table_get(t, nr);

    return mlx5_obj_usable(obj, cmd->uid) ? obj : NULL;
}

uint8_t mlx5_obj_del(Mlx5Table *t, uint32_t nr, const Mlx5Cmd *cmd)
{
    Mlx5Obj *obj = mlx5_obj_get(t, nr, cmd);

    if (!obj) {
        return MLX5_CMD_STAT_BAD_RES_ERR;
    }
    if (obj->refs > 1) {
        return MLX5_CMD_STAT_BAD_RES_STATE_ERR;
    }
    mlx5_table_del(t, nr);
    return MLX5_CMD_STAT_OK;
}
