/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The subnet manager's answers: paths, and memberships of multicast groups.
 *
 * IPoIB and the connection manager ask for them, by datagrams to queue pair 1
 * of the LID that ports name as sm_lid.  All adapters of a fabric see each
 * other, and datagrams to a group go by its GID (mlx5_fabric.c); so there is
 * nothing to remember: an answer is made of the question, the LIDs and a few
 * constants, and each process answers its own guests.
 */
#include "mlx5_link.h"
#include "trace.h"

/* A management datagram of class SubnAdm: offsets, and what is known there. */
enum {
    SA_COMPONENTS = 48,                 /* a mask: what the question gives */
    SA_DATA = 56,

    CLASS_SUBN_ADM = 3,
    METHOD_GET = 1,
    METHOD_SET = 2,
    METHOD_DELETE = 0x15,

    ATTR_CLASS_PORT_INFO = 1,
    ATTR_PATH_RECORD = 0x35,
    ATTR_MEMBER_RECORD = 0x38,

    STATUS_OK = 0,
    STATUS_UNSUPPORTED = 0x000c,
    STATUS_INVALID = 0x0200,
    STATUS_NO_RECORDS = 0x0300,
};

/* Offsets in a path record, and in a record of a group's member. */
enum {
    PATH_DGID = 8,
    PATH_SGID = 24,
    PATH_DLID = 40,
    PATH_SLID = 42,
    PATH_REVERSIBLE = 49,               /* and the number of paths */
    PATH_PKEY = 50,
    PATH_MTU = 54,
    PATH_RATE = 55,
    PATH_LIFE = 56,

    MEMBER_MGID = 0,
    MEMBER_QKEY = 32,
    MEMBER_MLID = 36,
    MEMBER_MTU = 38,
    MEMBER_PKEY = 40,
    MEMBER_RATE = 42,
    MEMBER_LIFE = 43,

    /* Components, as bits of the mask. */
    PATH_HAS_DGID = 1 << 2,
    PATH_HAS_DLID = 1 << 4,
    MEMBER_HAS_QKEY = 1 << 2,

    EXACTLY = 2 << 6,                   /* what the following value is */
    MTU_4096 = EXACTLY | 5,
    RATE_100_GBPS = EXACTLY | 16,
    LIFE_1_S = EXACTLY | 18,
    PKEY_DEFAULT = 0xffff,
    QKEY_IPOIB = 0x0b1b,
};

/* GUIDs are made of LIDs (mlx5_fabric_guid()). */
static uint16_t lid_of_gid(const uint8_t *gid)
{
    uint16_t lid = ldq_be_p(gid + 8) >> 8;
    uint8_t known[16];

    mlx5_fabric_gid(lid, known);
    return memcmp(known, gid, 16) ? 0 : lid;
}

static bool is_there(Mlx5Device *dev, uint16_t lid)
{
    return lid && (mlx5_fabric_find(dev, lid) || mlx5_link_reaches(dev, lid));
}

static uint16_t answer_path(Mlx5Device *dev, uint8_t *path, uint64_t given)
{
    uint16_t lid = 0;

    if (given & PATH_HAS_DGID) {
        lid = lid_of_gid(path + PATH_DGID);
    } else if (given & PATH_HAS_DLID) {
        lid = lduw_be_p(path + PATH_DLID);
    }
    if (!is_there(dev, lid)) {
        return STATUS_NO_RECORDS;
    }
    mlx5_fabric_gid(lid, path + PATH_DGID);
    mlx5_fabric_gid(dev->lid, path + PATH_SGID);
    stw_be_p(path + PATH_DLID, lid);
    stw_be_p(path + PATH_SLID, dev->lid);
    path[PATH_REVERSIBLE] = 1 << 7 | 1;
    stw_be_p(path + PATH_PKEY, PKEY_DEFAULT);
    path[PATH_MTU] = MTU_4096;
    path[PATH_RATE] = RATE_100_GBPS;
    path[PATH_LIFE] = LIFE_1_S;
    return STATUS_OK;
}

/* IPoIB's groups, in which the P_Key of the subnet's partition stands. */
static bool is_ipoib(const uint8_t *mgid)
{
    uint16_t signature = lduw_be_p(mgid + 2);

    return signature == 0x401b || signature == 0x601b;
}

/*
 * Of IPoIB the groups are there before anyone joins, with that driver's key.
 * Any other is made by the first to join, and for that its key has to be given.
 */
static uint16_t answer_member(uint8_t *member, uint64_t given)
{
    const uint8_t *mgid = member + MEMBER_MGID;

    if (mgid[0] != 0xff) {
        return STATUS_INVALID;
    }
    if (!(given & MEMBER_HAS_QKEY)) {
        if (!is_ipoib(mgid)) {
            return STATUS_INVALID;
        }
        stl_be_p(member + MEMBER_QKEY, QKEY_IPOIB);
    }
    stw_be_p(member + MEMBER_MLID,
             MLX5_LID_MULTICAST + lduw_be_p(mgid + 14) % 0x3f00);
    member[MEMBER_MTU] = MTU_4096;
    stw_be_p(member + MEMBER_PKEY, PKEY_DEFAULT);
    member[MEMBER_RATE] = RATE_100_GBPS;
    member[MEMBER_LIFE] = LIFE_1_S;
    return STATUS_OK;
}

static uint16_t answer(Mlx5Device *dev, uint8_t *mad)
{
    uint64_t given = ldq_be_p(mad + SA_COMPONENTS);
    uint8_t *data = mad + SA_DATA;

    switch (mad[MLX5_MAD_METHOD] << 16 | lduw_be_p(mad + MLX5_MAD_ATTRIBUTE)) {
    case METHOD_GET << 16 | ATTR_CLASS_PORT_INFO:
        memset(data, 0, MLX5_MAD_LEN - SA_DATA);
        data[0] = 1;                    /* versions: of the format, the class */
        data[1] = 2;
        return STATUS_OK;
    case METHOD_GET << 16 | ATTR_PATH_RECORD:
        return answer_path(dev, data, given);
    case METHOD_SET << 16 | ATTR_MEMBER_RECORD:
        return answer_member(data, given);
    case METHOD_DELETE << 16 | ATTR_MEMBER_RECORD:
        return STATUS_OK;
    default:
        return STATUS_UNSUPPORTED;
    }
}

static bool is_question(const Mlx5Head *head, const uint8_t *mad)
{
    return head->dqpn == 1 && head->size == MLX5_MAD_LEN &&
           mad[MLX5_MAD_CLASS] == CLASS_SUBN_ADM &&
           !(mad[MLX5_MAD_METHOD] & MLX5_MAD_RESPONSE);
}

void mlx5_sa_receive(Mlx5Device *dev, const Mlx5Head *head,
                     const uint8_t *data, uint64_t deadline)
{
    Mlx5Head back = {
        .slid = MLX5_LID_SM, .dlid = head->slid, .sqpn = 1, .dqpn = 1,
        .transport = head->transport, .opcode = MLX5_OPCODE_SEND,
        .pkey = PKEY_DEFAULT, .len = MLX5_MAD_LEN, .size = MLX5_MAD_LEN,
        .q_key = head->q_key,
    };
    uint8_t mad[MLX5_MAD_LEN], *method = mad + MLX5_MAD_METHOD;
    uint16_t status;

    if (!is_question(head, data)) {
        mlx5_count(dev, MLX5_COUNTER_DROPS, 1);
        return;
    }
    memcpy(mad, data, MLX5_MAD_LEN);
    status = answer(dev, mad);
    trace_mlx5_sa(dev->lid, *method, lduw_be_p(mad + MLX5_MAD_ATTRIBUTE),
                  status);
    *method = MLX5_MAD_RESPONSE |
              (*method == METHOD_SET ? METHOD_GET : *method);
    stw_be_p(mad + MLX5_MAD_STATUS, status);
    mlx5_ud_receive(dev, 1, &back, mad, deadline);
}
