# SPDX-License-Identifier: GPL-2.0
"""Objects that a program makes by commands of its own, as UCX does: the driver
checks and passes them on.  Offsets are those of the kernel's mlx5_ifc.h, in bits.
"""
from pyverbs.pd import PD
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DevxObj, Mlx5DVContextAttr
from pyverbs.providers.mlx5.mlx5dv_objects import Mlx5DvObj
import pyverbs.providers.mlx5.mlx5_enums as dve

CREATE_MKEY = 0x200
MKEY_IN, MKEY_OUT = 0x110, 16       # bytes
KLMS = 2                            # access mode
STRIDE_BLOCK = 0x400


class Command:
    """A command's input; fields are put by (bit, width)."""

    def __init__(self, opcode, length):
        self.length = length
        self.whole = 0
        self.put(0, 16, opcode)

    def put(self, at, width, value):
        if value >> width:
            raise ValueError(f"{value:#x} has more than {width} bits")
        self.whole |= value << (self.length * 8 - at - width)

    def bytes(self, more=b""):
        return self.whole.to_bytes(self.length, "big") + more


def field(out, at, width):
    whole = int.from_bytes(bytes(out), "big")
    return whole >> (len(out) * 8 - at - width) & ((1 << width) - 1)


def open_device(name):
    return Mlx5Context(Mlx5DVContextAttr(flags=dve.MLX5DV_CONTEXT_FLAGS_DEVX), name=name)


def pd_number(pd: PD):
    return Mlx5DvObj(dve.MLX5DV_OBJ_PD, pd=pd).dvpd.pdn


def klm(length, key, address):
    return length.to_bytes(4, "big") + key.to_bytes(4, "big") + address.to_bytes(8, "big")


def strided(length, key, address):
    """Entries that give length bytes one by one, each by a step of its own."""
    return ((1).to_bytes(4, "big") + STRIDE_BLOCK.to_bytes(4, "big") + length.to_bytes(4, "big") +
            (1).to_bytes(4, "big") +
            (1).to_bytes(2, "big") * 2 + key.to_bytes(4, "big") + address.to_bytes(8, "big"))


CREATE_CQ, QUEUE_IN, QUEUE_OUT = 0x400, 0x110, 16       # bytes
RING, LINKED = 1, 0                     # a work queue's type


class Place:
    """A part of user memory: for a ring, or for a doorbell record."""

    def __init__(self, umem, at=0):
        self.id, self.at = umem.umem_id, at


def create_cq(context, uar, ring, record, log_cqes, overrun=False):
    """A completion queue; overrun: the adapter does not look for an overflow."""
    cmd, cqc = Command(CREATE_CQ, QUEUE_IN), 0x80
    cmd.put(cqc + 0x6, 1, 1)                            # the record is in a umem
    cmd.put(cqc + 0xe, 1, overrun)
    cmd.put(cqc + 0x20, 32, record.id)
    cmd.put(cqc + 0x63, 5, log_cqes)
    cmd.put(cqc + 0x68, 24, uar.page_id)
    cmd.put(cqc + 0xa0, 32, context.devx_query_eqn(0))
    cmd.put(cqc + 0x1c0, 64, record.at)
    cmd.put(0x280, 64, ring.at)
    cmd.put(0x2c0, 32, ring.id)
    cmd.put(0x2e0, 1, 1)                                # and so is the ring
    return Mlx5DevxObj(context, cmd.bytes(), QUEUE_OUT)


def create_with_wq(context, cmd, kind, uar, ring, record, log_wqes, pd=None):
    """A queue whose context ends in a work queue's: CREATE_SQ, CREATE_RMP."""
    queue = 0x100 + 0x180
    cmd.put(queue, 4, kind)
    cmd.put(queue + 0x48, 24, pd_number(pd) if pd else 0)
    cmd.put(queue + 0x68, 24, uar.page_id)
    cmd.put(queue + 0x80, 64, record.at)
    cmd.put(queue + 0x10c, 4, 6)                        # of 64 bytes
    cmd.put(queue + 0x11b, 5, log_wqes)
    cmd.put(queue + 0x120, 2, 3)                        # record and ring: in umems
    cmd.put(queue + 0x140, 32, record.id)
    cmd.put(queue + 0x160, 32, ring.id)
    cmd.put(queue + 0x180, 64, ring.at)
    return Mlx5DevxObj(context, cmd.bytes(), QUEUE_OUT)


class IndirectKey:
    """A key whose translations are entries of other keys; .key is local and remote."""

    def __init__(self, context, pd, entries, length, start=0):
        cmd = Command(CREATE_MKEY, MKEY_IN)
        context_at, octwords = 0x80, len(entries) // 16
        cmd.put(context_at + 0x11, 5, 0x1f)             # every right
        cmd.put(context_at + 0x16, 2, KLMS)
        cmd.put(context_at + 0x20, 24, 0xffffff)        # any QP
        cmd.put(context_at + 0x38, 8, 0x77)             # the key's variant
        cmd.put(context_at + 0x68, 24, pd_number(pd))
        cmd.put(context_at + 0x80, 64, start)
        cmd.put(context_at + 0xc0, 64, length)
        cmd.put(context_at + 0x1a0, 32, octwords)
        cmd.put(0x300, 32, octwords)
        self.object = Mlx5DevxObj(context, cmd.bytes(entries), MKEY_OUT)
        self.key = field(self.object.out_view, 0x48, 24) << 8 | 0x77
        self.lkey = self.rkey = self.key
