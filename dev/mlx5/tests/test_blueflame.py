# SPDX-License-Identifier: GPL-2.0
"""BlueFlame: WQEs that are stored to the doorbell's page.

A send queue of a program's own gets NOPs, as mlx5_core's test of write combining
does it: the copy in the register asks for a completion, the one in memory does
not.  So each completion is of a WQE that was executed from the register.  The last
one asks for it in memory, and ends the test whichever copy is taken."""
import ctypes
import time
import unittest

from pyverbs.providers.mlx5.mlx5dv import Mlx5UAR, Mlx5UMEM
import pyverbs.enums as e
import pyverbs.providers.mlx5.mlx5_enums as dve

import devx
from mlx5ctl import Adapter
from rdma import PAGE, Buffer, pair, pattern, provokes

CREATE_SQ, MODIFY_SQ, QUERY_SQ = 0x904, 0x905, 0x907
RESET, READY, ERROR = 0, 1, 3
NOP, UMR, SEND = 0, 0x25, 0x0a
REQ, REQ_ERR, NONE = 0, 13, 15          # a CQE's opcode
LOG_CQES, LOG_WQES = 8, 7
BLOCK = 64
POSTED = 100
PATIENT = 10_000_000       # ns between a WQE's first store and its last
LIMIT = 20


class SendQueue:
    """A send queue with its completion queue, both in one umem."""

    CQES, WQES, CQ_DBR, SQ_DBR = 0, 4 * PAGE, 6 * PAGE, 6 * PAGE + 64

    def __init__(self, device):
        self.context = devx.open_device(device)
        # pylint: disable-next=protected-access
        self.uar = Mlx5UAR(self.context, dve._MLX5DV_UAR_ALLOC_TYPE_BF)
        self.memory = Buffer(7 * PAGE)
        self.umem = Mlx5UMEM(self.context, self.memory.length, addr=self.memory.address,
                             access=e.IBV_ACCESS_LOCAL_WRITE)
        for at in range(0, BLOCK << LOG_CQES, BLOCK):
            self.memory[at + 63:at + 64] = bytes([NONE << 4 | 1])
        self.cq, self.sq = self.create_cq(), None
        self.create_sq()
        # The register's two buffers by words: each is one store.
        register = (ctypes.c_char * 512).from_address(self.uar.reg_addr)
        self.register = memoryview(register).cast("B").cast("Q")
        self.consumed = self.producer = self.buffer = 0

    def place(self, at):
        return devx.Place(self.umem, at)

    def create_cq(self):
        return devx.create_cq(self.context, self.uar, self.place(self.CQES),
                              self.place(self.CQ_DBR), LOG_CQES, overrun=True)

    def create_sq(self):
        cmd, sqc = devx.Command(CREATE_SQ, devx.QUEUE_IN), 0x100
        cmd.put(sqc + 0x3, 1, 1)                        # flush in error
        cmd.put(sqc + 0x48, 24, devx.field(self.cq.out_view, 0x48, 24))
        self.sq = devx.create_with_wq(self.context, cmd, devx.RING, self.uar,
                                      self.place(self.WQES), self.place(self.SQ_DBR), LOG_WQES)
        self.number = devx.field(self.sq.out_view, 0x48, 24)
        self.modify(RESET, READY)

    def modify(self, now, then):
        cmd = devx.Command(MODIFY_SQ, 0x110)
        cmd.put(0x40, 4, now)
        cmd.put(0x48, 24, self.number)
        cmd.put(0x108, 4, then)
        self.sq.modify(cmd.bytes(), 16)

    def close(self):
        """The adapter reads the doorbell record as long as there is a queue."""
        for part in (self.sq, self.cq, self.umem, self.uar):
            part.close()

    def restart(self):
        self.modify(ERROR, RESET)
        self.producer = 0
        self.memory[self.SQ_DBR + 4:self.SQ_DBR + 8] = bytes(4)
        self.modify(RESET, READY)

    def state(self):
        cmd = devx.Command(QUERY_SQ, 16)
        cmd.put(0x48, 24, self.number)
        return devx.field(self.sq.query(cmd.bytes(), 0x1f0), 0x108, 4)

    def wqe(self, index, opcode=NOP, signaled=False, blocks=1):
        ctrl = ((index << 8 | opcode).to_bytes(4, "big") +
                (self.number << 8 | blocks * 4).to_bytes(4, "big") +
                bytes([0, 0, 0, 8 if signaled else 0]) + bytes(4))
        return ctrl.ljust(blocks * BLOCK, b"\0")

    def put(self, wqe, blocks=1):
        """Into memory, and into the doorbell record; its index."""
        index = self.producer
        for block in range(blocks):
            at = self.WQES + (index + block) % (1 << LOG_WQES) * BLOCK
            self.memory[at:at + BLOCK] = wqe[block * BLOCK:block * BLOCK + BLOCK]
        self.producer += blocks
        self.memory[self.SQ_DBR + 4:self.SQ_DBR + 8] = (self.producer & 0xffff).to_bytes(4, "big")
        return index

    def ring(self, data, order=None):
        """Store this to the register, by its buffers in turn."""
        for begin, end in order or [(0, len(data))]:
            for at in range(begin, end, 8):
                word = int.from_bytes(data[at:at + 8], "little")
                self.register[(self.buffer + at) // 8] = word
        self.buffer ^= 256

    def post(self, part=None, order=None, ahead=0, blocks=1):
        """A NOP: signaled in the register only, of which a part may be stored."""
        index = self.producer + ahead
        for nr in range(self.producer, index + 1, blocks):
            self.put(self.wqe(nr, blocks=blocks), blocks)
        self.ring(self.wqe(index, signaled=True, blocks=blocks)[:part], order)
        return index

    def finish(self, opcode=NOP):
        """One that is signaled in memory, by a doorbell; its index."""
        wqe = self.wqe(self.producer, opcode, signaled=True)
        index = self.put(wqe)
        self.ring(wqe[:8])
        return index

    def completion(self):
        """The opcode and the WQE's index of the next CQE, in time."""
        at = self.CQES + self.consumed % (1 << LOG_CQES) * BLOCK
        own = self.consumed >> LOG_CQES & 1
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            last = self.memory[at + 63]
            if last >> 4 != NONE and last & 1 == own:
                self.consumed += 1
                return last >> 4, int.from_bytes(self.memory[at + 60:at + 62], "big")
        raise TimeoutError(f"no completion in {LIMIT} s")

    def executed(self):
        """The WQEs that were taken from the register, up to one that ends it."""
        last, found = self.finish(), []
        while not found or found[-1] != last & 0xffff:
            opcode, index = self.completion()
            if opcode != REQ:
                raise OSError(f"WQE {index}: CQE {opcode}")
            found.append(index)
        return found[:-1]

    def run(self, **options):
        """Some, with time between them: the queue is idle and each is its next."""
        for _ in range(POSTED):
            self.post(**options)
            time.sleep(0.001)
        return self.executed()


class BlueFlame(unittest.TestCase):
    def setUp(self):
        provokes(self, "mlx5_0")
        self.adapter = Adapter("mlx5_0")
        self.ignore = self.set("bf-ignore", 0)
        self.set("bf-window", PATIENT)
        self.queue = SendQueue("mlx5_0")
        self.addCleanup(self.queue.close)

    def set(self, knob, value):
        was = self.adapter[knob]
        self.addCleanup(self.adapter.__setitem__, knob, was)
        self.adapter[knob] = value
        return was

    def assert_most(self, found):
        """In order, and most of them: the machine may be slow between two stores."""
        self.assertEqual(found, sorted(set(found)))
        self.assertGreater(len(found), POSTED // 2)

    def test_a_wqe_is_executed_from_the_register(self):
        before = self.adapter["bf-wqes"]
        found = self.queue.run()
        self.assert_most(found)
        self.assertEqual(self.adapter["bf-wqes"] - before, len(found))

    def test_one_of_several_blocks_is_executed_too(self):
        self.assert_most(self.queue.run(blocks=4))

    def test_its_blocks_may_come_in_any_order_after_its_first_bytes(self):
        order = [(0, 32), (64, 128), (32, 64)]
        self.assert_most(self.queue.run(blocks=2, order=order))

    def test_regress_the_end_of_a_slow_one_is_not_that_of_the_next(self):
        queue = self.queue
        for _ in range(POSTED):
            self.adapter["bf-window"] = 0
            queue.post(part=32)
            time.sleep(0.005)
            self.adapter["bf-window"] = PATIENT
            queue.buffer ^= 256
            queue.ring(bytes(BLOCK), order=[(32, BLOCK)])
            queue.buffer ^= 256
            queue.post(part=32)
            time.sleep(0.001)
        self.assertEqual(queue.executed(), [])

    def test_an_adapter_may_ignore_the_register(self):
        self.adapter["bf-ignore"] = 1
        self.assertEqual(self.queue.run(), [])

    def test_and_does_so_sometimes_by_default(self):
        self.adapter["bf-ignore"] = self.ignore
        found = self.queue.run()
        self.assertGreater(len(found), 0)
        self.assertLess(len(found), POSTED)

    def test_a_part_of_one_is_a_doorbell(self):
        for part in (8, 16, 32, 48):
            self.assertEqual(self.queue.run(part=part), [])

    def test_and_so_is_one_that_takes_too_long(self):
        self.adapter["bf-window"] = 0
        for _ in range(POSTED):
            self.queue.post(part=32)
            time.sleep(0.01)
            self.queue.buffer ^= 256
            self.queue.ring(bytes(BLOCK), order=[(32, BLOCK)])
        self.assertEqual(self.queue.executed(), [])

    def test_one_without_its_first_bytes_is_nothing(self):
        queue = self.queue
        queue.post(order=[(8, BLOCK)])
        time.sleep(0.05)
        self.assertEqual(queue.executed(), [])

    def test_one_that_is_not_the_next_leaves_the_order_alone(self):
        found = self.queue.run(ahead=2)
        self.assertEqual(found, [])

    def test_a_burst_is_executed_in_order(self):
        queue = self.queue
        for _ in range(50):
            for _ in range(60):
                queue.post()
            found = queue.executed()
            self.assertEqual(found, sorted(found, key=lambda nr: (nr - queue.producer) & 0xffff))

    def test_a_register_that_nobody_told_of_is_not_executed(self):
        """The doorbell record has the last word, as after a doorbell."""
        queue = self.queue
        queue.ring(queue.wqe(0, signaled=True))
        time.sleep(0.05)
        self.assertEqual(queue.executed(), [])


class Queue(unittest.TestCase):
    """A send queue by itself sends nothing on this adapter."""

    def setUp(self):
        provokes(self, "mlx5_0")
        self.queue = SendQueue("mlx5_0")
        self.addCleanup(self.queue.close)

    def test_anything_but_a_nop_is_its_error(self):
        for opcode in (SEND, UMR):
            self.queue.finish(opcode)
            self.assertEqual(self.queue.completion()[0], REQ_ERR)
            self.assertEqual(self.queue.state(), ERROR)
            self.queue.restart()
        self.assertEqual(self.queue.run(part=8), [])

    def test_its_states_are_checked(self):
        self.assertEqual(self.queue.state(), READY)
        with self.assertRaises(Exception):
            self.queue.modify(RESET, READY)
        self.queue.modify(READY, ERROR)
        with self.assertRaises(Exception):
            self.queue.modify(ERROR, READY)
        self.queue.modify(ERROR, RESET)
        self.assertEqual(self.queue.state(), RESET)


class Library(unittest.TestCase):
    """libmlx5 posts short messages by BlueFlame when the kernel lets it."""
    second = "mlx5_0"

    def test_short_messages_go_by_it_and_arrive(self):
        near, far = pair("mlx5_0", self.second)
        source, target = Buffer(PAGE), Buffer(PAGE)
        local, remote = near.region(source), far.region(target)
        adapter = Adapter("mlx5_0")
        before = adapter["bf-wqes"]
        self.addCleanup(adapter.__setitem__, "bf-window", adapter["bf-window"])
        adapter["bf-window"] = PATIENT
        for nr in range(2 * POSTED):
            length = nr % 64 + 1
            source[:64] = pattern(64, nr)
            target[:] = bytes(PAGE)
            near.post(e.IBV_WR_RDMA_WRITE, local, source.address, length, target.address + nr,
                      remote.rkey, flags=e.IBV_SEND_SIGNALED | e.IBV_SEND_INLINE)
            was, source[:64] = source[:64], bytes(64)
            self.assertEqual(near.status(), e.IBV_WC_SUCCESS)
            self.assertEqual(target[nr:nr + length], was[:length])
            self.assertFalse(any(target[:nr]) or any(target[nr + length:]))
        self.assertGreater(adapter["bf-wqes"] - before, POSTED // 2)


class LibraryAcross(Library):
    second = "mlx5_1"
