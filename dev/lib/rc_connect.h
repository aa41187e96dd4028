/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Programs of dev/ that are their own peer: one end of a reliable connection.
 */
#ifndef RC_CONNECT_H
#define RC_CONNECT_H

#include <infiniband/verbs.h>

/* From RESET to where it sends; the step that failed, or NULL. */
static inline const char *rc_connect(struct ibv_qp *qp, uint32_t peer,
				     const struct ibv_ah_attr *path, int access)
{
	struct ibv_qp_attr attr = { .qp_state = IBV_QPS_INIT, .port_num = path->port_num,
				    .qp_access_flags = access };

	if (ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
			  IBV_QP_ACCESS_FLAGS))
		return "INIT";
	attr = (struct ibv_qp_attr) {
		.qp_state = IBV_QPS_RTR, .path_mtu = IBV_MTU_4096, .dest_qp_num = peer,
		.max_dest_rd_atomic = 4, .min_rnr_timer = 1, .ah_attr = *path,
	};
	if (ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
			  IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
			  IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER))
		return "RTR";
	attr = (struct ibv_qp_attr) {
		/* Paging in may take long: 8 s, and no limit on retries in effect. */
		.qp_state = IBV_QPS_RTS, .timeout = 21, .retry_cnt = 7, .rnr_retry = 7,
		.max_rd_atomic = 4,
	};
	if (ibv_modify_qp(qp, &attr, IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
			  IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC))
		return "RTS";
	return NULL;
}

#endif /* RC_CONNECT_H */
