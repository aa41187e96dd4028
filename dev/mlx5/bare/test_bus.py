# SPDX-License-Identifier: GPL-2.0
"""Bus mastering that is taken away and comes back: without a reset in between the old work
goes on, as the driver must expect."""
import struct

from adapter import (DEVCTL, OK, OWNER_HW, REQ, REQ_ERR, RESP_ERR, RETRIES, WRITE,
                     CompletionQueue, Key, QueuePair, data, remote)
from bench import Bench

MS = 10 ** 6
DEVSTA, TRPND = DEVCTL + 2, 1 << 5


class Bus(Bench):
    DEVICES = ("lid=1", "lid=2")

    def setUp(self):
        super().setUp()
        for dev in self.adapters:
            dev.start()
        self.cq = CompletionQueue(self.dev)
        self.qp = QueuePair(self.dev, self.cq)
        self.src, self.dst = Key(self.dev), Key(self.dev)
        self.machine.write(self.src.pages, b"data")

    def accesses(self):
        return sum(self.dev.counter(name) for name in ("dma-reads", "dma-writes"))

    def lose_bus(self):
        """And nothing is under way any more."""
        self.dev.master(False)
        self.machine.step(MS)

    def write_without_bus(self):
        self.qp.connect(self.qp.number)
        self.lose_bus()
        before = self.accesses()
        self.qp.post(WRITE, remote(self.dst), data(self.src, 4))
        self.machine.step(MS)
        self.assertEqual(self.accesses(), before)
        self.assertEqual(self.dev.counter("dma-dropped"), 0)

    def pending(self):
        """Of transactions, by the status register."""
        return bool(self.machine.config(self.dev.slot, DEVSTA, size=2) & TRPND)

    def give_up(self):
        """As the driver does it: the state "disabled", and the queue's address is left."""
        self.dev.register(0x14, self.dev.queue | 7 << 8)
        self.machine.step(MS)

    def assert_written(self, yes):
        self.machine.step(MS)
        self.assertEqual(self.machine.read(self.dst.pages, 4), b"data" if yes else bytes(4))
        self.assertEqual(self.cq.poll(), [(REQ, 0, 0)] if yes else [])

    def test_work_goes_on_when_it_comes_back(self):
        self.write_without_bus()
        self.dev.master(True)
        self.assert_written(True)

    def test_a_write_of_another_byte_does_not_bring_it_back(self):
        self.write_without_bus()
        self.machine.config(self.dev.slot, 0x3c, 0, 1)
        self.assert_written(False)

    def test_nothing_goes_on_after_a_reset(self):
        self.write_without_bus()
        self.dev.reset()
        self.assert_written(False)

    def test_it_goes_on_although_the_driver_gave_it_up(self):
        """By the register that a driver has left without commands, and a driver begins."""
        self.write_without_bus()
        self.give_up()
        self.dev.master(True)
        self.dev.command("ENABLE_HCA")
        self.assert_written(True)

    def test_what_is_under_way_arrives(self):
        self.dev.knob("drain", 2 * MS)
        self.qp.connect(self.qp.number)
        self.dev.master(False)
        self.assertTrue(self.pending())
        self.qp.post(WRITE, remote(self.dst), data(self.src, 4))
        self.assert_written(True)
        self.machine.step(2 * MS)
        self.assertFalse(self.pending())
        self.qp.post(WRITE, remote(self.dst), data(self.src, 4))
        self.machine.step(MS)
        self.assertEqual(self.cq.poll(), [])

    def test_a_queue_that_went_meanwhile_is_left_alone(self):
        self.write_without_bus()
        self.dev.reset()
        self.dev.set_queue()
        self.dev.start()
        self.assert_written(False)

    def command_without_bus(self):
        self.lose_bus()
        nop = self.dev.layout.new("nop_in", opcode=self.dev.opcodes["NOP"])
        self.assertIsNone(self.dev.raw(bytes(nop), 16))

    def test_a_command_is_answered_when_it_comes_back(self):
        self.command_without_bus()
        self.dev.master(True)
        self.machine.step()
        self.assertEqual(self.machine.read(self.dev.queue + 63, 1)[0] & OWNER_HW, 0)
        self.assertEqual(self.machine.read(self.dev.queue + 32, 1)[0], OK)

    def test_no_command_is_answered_after_a_reset(self):
        self.command_without_bus()
        self.dev.reset()
        self.machine.step(MS)
        self.assertEqual(self.machine.read(self.dev.queue + 63, 1)[0] & OWNER_HW, OWNER_HW)

    def test_an_event_is_delivered_when_it_comes_back(self):
        self.write_without_bus()
        self.dev.doorbell(self.dev.uar, 0x20, struct.pack(">II", 0, self.cq.number))
        self.dev.master(True)
        self.machine.step()
        self.assertEqual([event[0] for event in self.dev.eq.events()], [0])

    def test_a_queue_in_error_is_flushed_when_it_comes_back(self):
        self.qp.connect(self.qp.number)
        self.dev.command("2ERR_QP", qpn=self.qp.number)
        self.lose_bus()
        self.qp.offer(self.dst, 4)
        self.machine.step(1000 * MS)
        self.assertEqual(self.cq.poll(), [])
        self.dev.master(True)
        self.machine.step(MS)
        self.assertEqual([found[0] for found in self.cq.poll()], [RESP_ERR])

    def test_its_peer_hears_nothing_meanwhile(self):
        other = self.adapters[1]
        cq = CompletionQueue(other)
        far = QueuePair(other, cq)
        self.qp.connect(far.number, lid=2)
        far.connect(self.qp.number, lid=1, timeout=4, retry=2)
        key = Key(other)
        self.lose_bus()
        far.post(WRITE, remote(self.dst), data(key, 4))
        self.machine.step(MS)
        self.assertEqual(cq.poll(), [(REQ_ERR, RETRIES, 0)])
