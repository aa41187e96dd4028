/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Adapters of another process: frames, and the connection that carries them.
 */
#ifndef HW_RDMA_MLX5_LINK_H
#define HW_RDMA_MLX5_LINK_H

#include "mlx5_qp.h"

enum {
    MLX5_FRAME_HELLO = 1,               /* data: the LIDs of that side */
    MLX5_FRAME_REQUEST = 2,             /* head, data but for reads */
    MLX5_FRAME_ANSWER = 3,              /* reply, data of a read */
    MLX5_FRAME_DATAGRAM = 4,            /* head, data */

    MLX5_NR_LIDS = 1 << 16,
};

/* Of head an answer has seq and both addresses, its own as the source. */
typedef struct Mlx5Frame {
    uint8_t type;
    Mlx5Head head;
    Mlx5Reply reply;
    const uint8_t *data;
    size_t len;                         /* of data */
} Mlx5Frame;

/* ---- mlx5_wire ---- */
void mlx5_wire_put(GByteArray *to, const Mlx5Frame *frame);
/*
 * The frame at the start of buf, of which data is a part: its length, 0 if it
 * is not complete, or -1 if it never will be a good one, and why.
 */
ssize_t mlx5_wire_get(const uint8_t *buf, size_t len, Mlx5Frame *frame,
                      const char **why);
size_t mlx5_wire_longest(void);

/* ---- mlx5_link ---- */
/* dev->chr becomes the link of its fabric, if there is one. */
void mlx5_link_init(Mlx5Device *dev);
void mlx5_link_exit(Mlx5Device *dev);
/* The adapters of dev's fabric are others now: all its links are told. */
void mlx5_link_announce(Mlx5Device *dev);
/* Has dev a link of its own, over which there is that LID? */
bool mlx5_link_knows(Mlx5Device *dev, uint16_t lid);
/* Has dev's fabric a link, and one over which there is that LID now? */
bool mlx5_link_there(Mlx5Device *dev);
bool mlx5_link_reaches(Mlx5Device *dev, uint16_t lid);
/* On its way, or lost: nothing tells which. */
void mlx5_link_request(Mlx5Device *dev, const Mlx5Head *head,
                       const uint8_t *data);
void mlx5_link_datagram(Mlx5Device *dev, const Mlx5Head *head,
                        const uint8_t *data);
void mlx5_link_answer(Mlx5Device *dev, const Mlx5Frame *frame);

/* ---- mlx5_remote ---- */
/* A frame by its type, with LIDs that may be there; NULL, or what is bad. */
const char *mlx5_remote_frame(Mlx5Device *dev, const Mlx5Frame *frame);

#endif
