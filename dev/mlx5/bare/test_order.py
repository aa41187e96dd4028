# SPDX-License-Identifier: GPL-2.0
"""What overtakes what in a send queue, and what a fence holds back."""
import struct

from adapter import (ERR, FENCE, FLUSHED, READ, REMOTE_ACCESS, REMOTE_INVALID, REQ, REQ_ERR, RTS,
                     SMALL_FENCE, STRONG, WRITE, COMPLETE, CompletionQueue, Key, QueuePair, data,
                     remote)
from bench import Bench

UMR, INLINE, MASK_FREE, INVALID_REQUEST = 0x25, 1 << 7, 1 << 29, 0x10
NEW, OLD = b"new!", b"old!"


class Order(Bench):
    def setUp(self):
        super().setUp()
        self.dev.start()
        self.cq, self.far_cq = CompletionQueue(self.dev), CompletionQueue(self.dev)
        self.src, self.dst, self.target = (Key(self.dev) for _ in range(3))
        self.machine.write(self.src.pages, NEW)
        self.machine.write(self.target.pages, OLD)
        self.pair()

    def pair(self, outstanding=2, offered=2):
        self.near = QueuePair(self.dev, self.cq)
        self.far = QueuePair(self.dev, self.far_cq)
        self.near.connect(self.far.number, log_sra_max=outstanding)
        self.far.connect(self.near.number, log_rra_max=offered)

    def done(self):
        self.machine.step(10 ** 6)
        return self.cq.poll()

    def read_then_write(self, flags):
        """What a read finds, and a write behind it wants to change."""
        self.near.post(READ, remote(self.target), data(self.dst, 4), ring=False)
        self.near.post(WRITE, remote(self.target), data(self.src, 4), flags=COMPLETE | flags)
        self.assertEqual(self.done(), [(REQ, 0, 0), (REQ, 0, 1)])
        self.assertEqual(self.machine.read(self.target.pages, 4), NEW)
        return self.machine.read(self.dst.pages, 4)

    def test_a_write_overtakes_a_read_and_completes_after_it(self):
        self.assertEqual(self.read_then_write(0), NEW)

    def test_a_small_fence_does_not_wait_for_reads(self):
        self.assertEqual(self.read_then_write(SMALL_FENCE), NEW)

    def test_a_fence_waits_for_reads(self):
        for flags in (FENCE, STRONG, 2 << 5):
            self.machine.write(self.target.pages, OLD)
            self.pair()
            self.assertEqual(self.read_then_write(flags), OLD)

    def test_nothing_overtakes_when_told_so(self):
        self.dev.knob("overtake", 0)
        self.assertEqual(self.read_then_write(0), OLD)

    def umr_then_write(self, flags):
        """A key is invalidated, and then used: the completions."""
        head = bytes([INLINE, 0, 0, 0]) + bytes(4) + struct.pack(">Q", MASK_FREE) + bytes(32)
        self.near.post(UMR, head, struct.pack(">I", 1 << 30).ljust(64, b"\0"), imm=self.target.key,
                       ring=False)
        self.near.post(WRITE, remote(self.target), data(self.src, 4), flags=COMPLETE | flags)
        return self.done()

    def test_a_write_overtakes_a_umr_and_completes_after_it(self):
        self.assertEqual(self.umr_then_write(0), [(REQ, 0, 0), (REQ, 0, 2)])
        self.assertEqual(self.machine.read(self.target.pages, 4), NEW)

    def test_a_small_fence_waits_for_umrs(self):
        self.assertEqual(self.umr_then_write(SMALL_FENCE),
                         [(REQ, 0, 0), (REQ_ERR, REMOTE_ACCESS, 2)])
        self.assertEqual(self.machine.read(self.target.pages, 4), OLD)

    def test_no_more_reads_are_outstanding_than_allowed(self):
        self.pair(outstanding=1, offered=1)
        for nr in range(5):
            self.near.post(READ, remote(self.target), data(self.dst, 4), ring=nr == 4)
        self.assertEqual(self.done(), [(REQ, 0, nr) for nr in range(5)])

    def test_more_reads_than_the_responder_offered_are_an_invalid_request(self):
        self.pair(outstanding=2, offered=0)
        for nr in range(3):
            self.near.post(READ, remote(self.target), data(self.dst, 4), ring=nr == 2)
        self.assertEqual(self.done(), [(REQ, 0, 0), (REQ_ERR, REMOTE_INVALID, 1),
                                       (REQ_ERR, FLUSHED, 2)])
        self.assertIn(INVALID_REQUEST, [event[0] for event in self.dev.eq.events()])
        self.assertEqual(self.state(self.far), ERR)

    def state(self, qp):
        return self.dev.command("QUERY_QP", qpn=qp.number)["qpc__state"]

    def test_a_read_before_a_write_that_fails_is_answered(self):
        self.near.post(READ, remote(self.target), data(self.dst, 4), ring=False)
        self.near.post(WRITE, remote(self.src, self.src.address + 4096), data(self.src, 4))
        self.assertEqual(self.done(), [(REQ, 0, 0), (REQ_ERR, REMOTE_ACCESS, 1)])
        self.assertEqual(self.machine.read(self.dst.pages, 4), OLD)

    def test_what_overtook_a_read_that_fails_is_flushed(self):
        self.near.post(READ, remote(self.src, self.src.address + 4096), data(self.dst, 4),
                       ring=False)
        self.near.post(WRITE, remote(self.target), data(self.src, 4))
        self.assertEqual(self.done(), [(REQ_ERR, REMOTE_ACCESS, 0), (REQ_ERR, FLUSHED, 1)])
        self.assertEqual(self.machine.read(self.target.pages, 4), NEW)

    def test_what_was_put_aside_goes_with_its_queue(self):
        self.dev.knob("umr-delay", 10 ** 9)
        self.umr_then_write(SMALL_FENCE)
        self.dev.command("2ERR_QP", qpn=self.near.number)
        self.assertEqual(self.done(), [(REQ_ERR, FLUSHED, 0), (REQ_ERR, FLUSHED, 2)])
        self.pair()
        self.umr_then_write(FENCE)
        self.dev.command("2RST_QP", qpn=self.near.number)
        self.assertEqual(self.done(), [])
        self.assertEqual(self.state(self.far), RTS)
