#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: multicast.py DEVICE hold        attach a UD QP, print its number, stay
       multicast.py DEVICE probe NUMBER  make one of that number: it must not be
                                         in the group before it is attached
"""
import ipaddress
import os
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "tests"))

from pyverbs.addr import AH, GID, AHAttr, GlobalRoute   # noqa: E402
from pyverbs.cq import CQ                           # noqa: E402
from pyverbs.device import Context                  # noqa: E402
from pyverbs.mr import MR                           # noqa: E402
from pyverbs.pd import PD                           # noqa: E402
from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr    # noqa: E402
from pyverbs.wr import SGE, RecvWR, SendWR          # noqa: E402
import pyverbs.enums as e                           # noqa: E402
from rdma import PAGE, Buffer                       # noqa: E402

GROUP, LID, QKEY = "ff12:401b:ffff:0000:0000:0000:0001:0002", 0xc001, 0x11111111
ALL_QPS = 0xffffff
ATTACH_MCAST, HANDLES = 30, 64      # ib_user_verbs.h; more than there are objects
MANY = 60000


class Datagrams:
    def __init__(self, context, pd):
        self.cq = CQ(context, 16)
        cap = QPCap(max_send_wr=4, max_recv_wr=4, max_send_sge=1, max_recv_sge=1)
        self.qp = QP(pd, QPInitAttr(qp_type=e.IBV_QPT_UD, scq=self.cq, rcq=self.cq, cap=cap,
                                    sq_sig_all=1))

    def start(self):
        attr = QPAttr(port_num=1)
        attr.qkey = QKEY
        self.qp.to_rts(attr)


def send(pd, end, mr, buffer):
    route = GlobalRoute(dgid=GID(GROUP), sgid_index=0)
    address = AH(pd, attr=AHAttr(gr=route, is_global=1, dlid=LID, port_num=1))
    wr = SendWR(opcode=e.IBV_WR_SEND, num_sge=1, sg=[SGE(buffer.address, 64, mr.lkey)])
    wr.set_wr_ud(address, ALL_QPS, QKEY)
    end.qp.post_send(wr)
    return await_one(end)


def await_one(end, seconds=5):
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        count, found = end.cq.poll()
        if count:
            if found[0].status != e.IBV_WC_SUCCESS:
                sys.exit(f"multicast: completion with status {found[0].status}")
            return True
    return False


def numbered(context, pd, number):
    """Numbers are given out in order: make and drop until it is that one's turn."""
    for _ in range(MANY):
        end = Datagrams(context, pd)
        if end.qp.qp_num == number:
            return end
        end.qp.close()
        end.cq.close()
    sys.exit(f"multicast: no QP {number}")


def probe(context, pd, number):
    buffer = Buffer(2 * PAGE)
    mr = MR(pd, buffer.length, e.IBV_ACCESS_LOCAL_WRITE, address=buffer.address)
    sender, end = Datagrams(context, pd), numbered(context, pd, number)
    for one in (sender, end):
        one.start()
    end.qp.post_recv(RecvWR(num_sge=1, sg=[SGE(buffer.address + PAGE, PAGE, mr.lkey)]))
    if not send(pd, sender, mr, buffer):
        sys.exit("multicast: the datagram was not sent")
    if await_one(end, 1):
        sys.exit(f"multicast: QP {number} is in a group that another one had joined")
    attach(context)
    if not send(pd, sender, mr, buffer) or not await_one(end):
        sys.exit("multicast: no datagram after the QP was attached")
    os._exit(0)                 # pyverbs would destroy what is attached, and complain


def attach(context):
    """All UD QPs of ours.  pyverbs has no call for it, nor for a QP's handle: the
    kernel refuses the handle of anything else."""
    attached = 0
    for handle in range(HANDLES):
        body = ipaddress.IPv6Address(GROUP).packed + struct.pack("<IHH", handle, LID, 0)
        head = struct.pack("<IHH", ATTACH_MCAST, (8 + len(body)) // 4, 0)
        try:
            attached += os.write(context.cmd_fd, head + body) > 0
        except OSError:
            continue
    if not attached:
        sys.exit("multicast: nothing was attached")


def main():
    context = Context(name=sys.argv[1])
    pd = PD(context)
    if sys.argv[2] == "probe":
        probe(context, pd, int(sys.argv[3]))
        return
    end = Datagrams(context, pd)
    end.start()
    attach(context)
    print(end.qp.qp_num, flush=True)
    time.sleep(3600)


main()
