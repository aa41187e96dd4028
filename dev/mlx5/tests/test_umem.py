# SPDX-License-Identifier: GPL-2.0
"""User memory of queues that a program makes by commands of its own: it cannot be
destroyed before they are.  One that was refused goes when the program closes the
device, with a report on the console if it cannot go then."""
import unittest

from pyverbs.pd import PD
from pyverbs.providers.mlx5.mlx5dv import Mlx5DevxObj, Mlx5UAR, Mlx5UMEM
from pyverbs.pyverbs_error import PyverbsError
import pyverbs.enums as e
import pyverbs.providers.mlx5.mlx5_enums as dve

import devx
from rdma import PAGE, Buffer, provokes

MODIFY_CQ, CREATE_QP, CREATE_SQ, CREATE_RMP = 0x403, 0x500, 0x904, 0x90c
LOG_ENTRIES = 5
RESIZE = 1
RC, NO_RECEIVES, MIGRATED = 0, 3, 3


class Maker:
    """Queues by their umems for the ring and for the doorbell record, and its offset."""

    def __init__(self):
        self.context = devx.open_device("mlx5_0")
        self.pd = PD(self.context)
        # pylint: disable-next=protected-access
        self.uar = Mlx5UAR(self.context, dve._MLX5DV_UAR_ALLOC_TYPE_BF)
        self.buffers = []

    def umem(self):
        buffer = Buffer(PAGE)
        self.buffers.append(buffer)     # it is not to be unmapped before
        return Mlx5UMEM(self.context, PAGE, addr=buffer.address, access=e.IBV_ACCESS_LOCAL_WRITE)

    def cq(self, ring, record, at=0):
        return devx.create_cq(self.context, self.uar, devx.Place(ring), devx.Place(record, at),
                              LOG_ENTRIES)

    def resize(self, queue, ring):
        """The completion queue's next ring is that one."""
        cmd = devx.Command(MODIFY_CQ, 0x110)
        cmd.put(0x30, 16, RESIZE)
        cmd.put(0x48, 24, devx.field(queue.out_view, 0x48, 24))
        cmd.put(0x80 + 0x63, 5, LOG_ENTRIES)
        cmd.put(0x2c0, 32, ring.umem_id)
        cmd.put(0x2e0, 1, 1)
        queue.modify(cmd.bytes(), 16)

    def work_queue(self, cmd, kind, ring, record, at):
        return devx.create_with_wq(self.context, cmd, kind, self.uar, devx.Place(ring),
                                   devx.Place(record, at), LOG_ENTRIES, pd=self.pd)

    def rmp(self, ring, record, at=0):
        cmd = devx.Command(CREATE_RMP, devx.QUEUE_IN)
        cmd.put(0x100 + 0x8, 4, 1)                      # ready
        return self.work_queue(cmd, devx.LINKED, ring, record, at)

    def sq(self, ring, record, at=0):
        self.completions = self.cq(self.umem(), self.umem())
        cmd = devx.Command(CREATE_SQ, devx.QUEUE_IN)
        cmd.put(0x100 + 0x48, 24, devx.field(self.completions.out_view, 0x48, 24))
        return self.work_queue(cmd, devx.RING, ring, record, at)

    def qp(self, ring, record, at=0):
        self.completions = self.cq(self.umem(), self.umem())
        cmd, qpc = devx.Command(CREATE_QP, 0x110), 0xc0
        cmd.put(qpc + 0x3e8, 24, devx.field(self.completions.out_view, 0x48, 24))
        cmd.put(qpc + 0x8, 8, RC)
        cmd.put(qpc + 0x13, 2, MIGRATED)
        cmd.put(qpc + 0x28, 24, devx.pd_number(self.pd))
        cmd.put(qpc + 0x51, 4, LOG_ENTRIES)
        cmd.put(qpc + 0x68, 24, self.uar.page_id)
        cmd.put(qpc + 0x500, 64, at)
        cmd.put(qpc + 0x565, 3, NO_RECEIVES)
        cmd.put(qpc + 0x683, 1, 1)
        cmd.put(qpc + 0x720, 32, record.umem_id)
        cmd.put(0x840, 32, ring.umem_id)
        cmd.put(0x860, 1, 1)
        return Mlx5DevxObj(self.context, cmd.bytes(), devx.QUEUE_OUT)


class Umem(unittest.TestCase):
    def setUp(self):
        provokes(self, "mlx5_0")
        self.maker = Maker()
        self.addCleanup(self.maker.context.close)

    def assert_held(self, umem):
        with self.assertRaises(PyverbsError):
            umem.close()

    def check(self, create):
        """Both of them stay with the queue, and go after it."""
        held = [self.maker.umem(), self.maker.umem()]
        queue = create(*held)
        for umem in held:
            self.assert_held(umem)
        queue.close()
        freed = [self.maker.umem(), self.maker.umem()]
        create(*freed).close()
        for umem in freed:
            umem.close()

    def test_a_completion_queue_holds_its_memory(self):
        self.check(self.maker.cq)

    def test_a_queue_pair_holds_its_memory(self):
        self.check(self.maker.qp)

    def test_a_send_queue_holds_its_memory(self):
        self.check(self.maker.sq)

    def test_a_shared_receive_queue_holds_its_memory(self):
        self.check(self.maker.rmp)

    def test_each_of_two_queues_holds_what_they_share(self):
        shared = self.maker.umem()
        first = self.maker.rmp(shared, shared, at=2048)
        second = self.maker.rmp(shared, shared, at=2056)
        first.close()
        self.assert_held(shared)
        second.close()

    def test_a_completion_queue_that_is_resized_holds_its_new_ring_only(self):
        old, new, record = (self.maker.umem() for _ in range(3))
        queue = self.maker.cq(old, record)
        self.maker.resize(queue, new)
        old.close()
        for umem in (new, record):
            self.assert_held(umem)

    def test_a_queue_that_was_not_made_holds_nothing(self):
        for create in (self.maker.cq, self.maker.qp, self.maker.sq, self.maker.rmp):
            for at in (4, PAGE):                        # askew; past the end
                held = [self.maker.umem(), self.maker.umem()]
                with self.assertRaises(PyverbsError):
                    create(*held, at=at)
                for umem in held:
                    umem.close()
