# SPDX-License-Identifier: GPL-2.0
"""WQEs and DEVX commands byte by byte, as any program may make them: libmlx5 looks at
none of it."""
from pyverbs.cq import CQ
from pyverbs.pd import PD
from pyverbs.providers.mlx5.mlx5dv import (Mlx5Context, Mlx5DVContextAttr, Mlx5DVQPInitAttr,
                                           Mlx5DevxObj, Mlx5QP, Wqe, WqeCtrlSeg, WqeDataSeg)
from pyverbs.providers.mlx5.mlx5dv_objects import Mlx5DvObj
from pyverbs.qp import QPCap, QPInitAttrEx
import pyverbs.enums as e
import pyverbs.providers.mlx5.mlx5_enums as dve

from rdma import End

OPCODE_UMR = 0x25
UMR_INLINE = 1 << 7
# MLX5_MKEY_MASK_*
MASK_LEN, MASK_PD, MASK_KEY, MASK_LW, MASK_RW = 1 << 0, 1 << 7, 1 << 13, 1 << 18, 1 << 20
MASK_FREE = 1 << 29
# The first words of a key's context.
FREE, UMR_EN, ALL_RIGHTS, OVER_KEYS = 1 << 30, 1 << 15, 0x1f << 10, 2 << 8
ANY_QP = 0xffffff << 8
CREATE_MKEY = 0x200


def segments(data):
    """16 bytes each, whatever they mean."""
    data += bytes(-len(data) % 16)
    return [WqeDataSeg(int.from_bytes(data[at:at + 4], "big"),
                       int.from_bytes(data[at + 4:at + 8], "big"),
                       int.from_bytes(data[at + 8:at + 16], "big"))
            for at in range(0, len(data), 16)]


class RawEnd(End):
    """A reliable connection's end that takes WQEs as they are; on: another end, whose domain
    it shares."""

    def __init__(self, device, rnr_retry=7, retry=7, timeout=10, on=None):
        # pylint: disable=super-init-not-called
        self.context = on.context if on else Mlx5Context(
            Mlx5DVContextAttr(flags=dve.MLX5DV_CONTEXT_FLAGS_DEVX), name=device)
        self.pd = on.pd if on else PD(self.context)
        self.cq = CQ(self.context, 256)
        ops = (e.IBV_QP_EX_WITH_RDMA_WRITE | e.IBV_QP_EX_WITH_RDMA_READ | e.IBV_QP_EX_WITH_SEND |
               e.IBV_QP_EX_WITH_LOCAL_INV)
        attr = QPInitAttrEx(qp_type=e.IBV_QPT_RC, scq=self.cq, rcq=self.cq, pd=self.pd, sq_sig_all=1,
                            cap=QPCap(max_send_wr=64, max_recv_wr=64, max_send_sge=4,
                                      max_recv_sge=4),
                            send_ops_flags=ops,
                            comp_mask=e.IBV_QP_INIT_ATTR_PD | e.IBV_QP_INIT_ATTR_SEND_OPS_FLAGS)
        dv = Mlx5DVQPInitAttr(comp_mask=dve.MLX5DV_QP_INIT_ATTR_MASK_SEND_OPS_FLAGS,
                              send_ops_flags=dve.MLX5DV_QP_EX_WITH_RAW_WQE)
        self.qp = Mlx5QP(self.context, attr, dv)
        self.lid = self.context.query_port(1).lid
        self.rnr_retry, self.retry, self.timeout = rnr_retry, retry, timeout

    def raw(self, opcode, data, imm=0):
        """The status of a WQE of a control segment and these bytes."""
        ctrl, parts = WqeCtrlSeg(), segments(data)
        ctrl.fm_ce_se = dve.MLX5_WQE_CTRL_CQ_UPDATE
        ctrl.opmod_idx_opcode = opcode
        ctrl.qpn_ds = 1 + len(parts) | self.qp.qp_num << 8
        ctrl.imm = imm
        self.qp.wr_start()
        self.qp.wr_raw_wqe(Wqe([ctrl] + parts))
        self.qp.wr_complete()
        return self.status()

    def umr(self, key, mask, context=b"", translations=b""):
        """The status of a UMR: fields of a key's context, or its translations."""
        octowords = (len(translations) + 15) // 16
        head = (bytes([UMR_INLINE, 0, 0, 0]) + octowords.to_bytes(2, "big") + bytes(2) +
                mask.to_bytes(8, "big") + bytes(32))
        return self.raw(OPCODE_UMR, head + context.ljust(64, b"\0") + translations, imm=key)

    def local_inv(self, key):
        """As IBV_WR_LOCAL_INV does it; the status."""
        self.qp.wr_start()
        self.qp.wr_flags = e.IBV_SEND_SIGNALED
        self.qp.wr_local_inv(key)
        self.qp.wr_complete()
        return self.status()

    def indirect(self, entries, length, variant=0):
        """A DEVX key over others, (bytes, key, address) each: the object and the key."""
        pdn = Mlx5DvObj(dve.MLX5DV_OBJ_PD, pd=self.pd).dvpd.pdn
        table = b"".join(size.to_bytes(4, "big") + key.to_bytes(4, "big") +
                         address.to_bytes(8, "big") for size, key, address in entries)
        table += bytes(-len(table) % 64)
        words = {0: UMR_EN | ALL_RIGHTS | OVER_KEYS, 1: ANY_QP | variant, 3: pdn, 7: length,
                 13: len(table) // 16}
        context = b"".join(words.get(nr, 0).to_bytes(4, "big") for nr in range(16))
        command = CREATE_MKEY.to_bytes(2, "big").ljust(16, b"\0") + context
        command = command.ljust(96, b"\0") + (len(table) // 16).to_bytes(4, "big")
        made = Mlx5DevxObj(self.context, command.ljust(272, b"\0") + table, 16)
        return made, int.from_bytes(bytes(made.out_view)[9:12], "big") << 8 | variant


def raw_pair(first="mlx5_0", second="mlx5_0", on=(None, None), **options):
    one, two = RawEnd(first, on=on[0], **options), RawEnd(second, on=on[1], **options)
    one.connect(two)
    two.connect(one)
    return one, two
