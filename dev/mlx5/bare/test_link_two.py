# SPDX-License-Identifier: GPL-2.0
"""Two QEMU processes and a link that loses frames: what arrives, arrives once and whole."""
import os
import struct

from adapter import (FETCH_ADD, PAGE_FAULT, READ, REQ, REQ_ERR, RESP_SEND, RETRIES, SEND, WRITE,
                     Adapter, CompletionQueue, Key, QueuePair, data, operands, remote)
from qtest import PAGE, Machine
from wire import LOOKS, LinkBench

LOSS, MS = 16, 10 ** 6
ROUNDS, LONG = 60, 80       # messages of a kind; pages of a long one


class Two(LinkBench):
    DEVICES = ("lid=1,link=link,link-timeout=1000000",)

    def setUp(self):
        super().setUp()
        self.far_machine, self.there = self.process()
        self.here = self.dev
        for dev in (self.here, self.there):
            dev.start()
        self.pair()
        self.counted(2)

    def process(self):
        """Another one, that connects to the first."""
        qemu = os.environ["BARE_QEMU"]
        machine = Machine(qemu, ("lid=2,link=link,link-timeout=1000000",), self.environment(),
                          ("-chardev", f"socket,id=link,path={self.path},reconnect=1"))
        self.addCleanup(machine.close)
        return machine, Adapter(machine, os.path.join(os.path.dirname(qemu), "include"))

    def pair(self, **options):
        self.cq, self.far_cq = (CompletionQueue(dev) for dev in (self.here, self.there))
        self.near, self.far = QueuePair(self.here, self.cq), QueuePair(self.there, self.far_cq)
        self.near.connect(self.far.number, lid=2, **{"retry": 7, "rnr_retry": 7} | options)
        self.far.connect(self.near.number, lid=1)
        self.src, self.dst = Key(self.here, LONG), Key(self.there, LONG)

    def quiet(self):
        """What is under way has arrived: both have counted as many frames."""
        for _ in range(LOOKS):
            counts = [dev.counter("link-frames") for dev in (self.here, self.there)]
            if counts[0] == counts[1]:
                return
        self.fail(f"frames are under way for ever: {counts}")

    def done(self):
        """The requester's completions, until there is one."""
        for _ in range(LOOKS):
            self.quiet()
            found = self.cq.poll()
            if found:
                return found
            self.machine.step(MS)
            self.far_machine.step(MS)
        return []

    def test_each_atomic_is_done_once(self):
        self.here.knob("link-loss", LOSS)
        for nr in range(ROUNDS):
            self.near.post(FETCH_ADD, remote(self.dst), operands(3), data(self.src, 8))
            self.assertEqual(self.done(), [(REQ, 0, nr)])
            self.assertEqual(self.machine.read(self.src.pages, 8), struct.pack(">Q", 3 * nr))
        self.assertEqual(self.far_machine.read(self.dst.pages, 8), struct.pack("<Q", 3 * ROUNDS))
        self.assertGreater(self.here.counter("retries"), 0)
        self.assertGreater(self.there.counter("link-repeats"), 0)

    def test_each_send_is_received_once_and_in_order(self):
        self.here.knob("link-loss", LOSS)
        for nr in range(ROUNDS):
            self.far.offer(self.dst, 64)
            self.machine.write(self.src.pages, struct.pack(">I", nr))
            self.near.post(SEND, data(self.src, 4))
            self.assertEqual(self.done(), [(REQ, 0, nr)])
            self.assertEqual(self.far_cq.poll(), [(RESP_SEND, 0, nr)])
            self.assertEqual(self.far_machine.read(self.dst.pages, 4), struct.pack(">I", nr))
        self.assertGreater(self.here.counter("retries"), 0)
        self.assertGreater(self.there.counter("link-repeats"), 0)

    def test_long_messages_are_whole(self):
        sent = os.urandom(LONG * PAGE)
        self.machine.write(self.src.pages, sent)
        self.here.knob("link-loss", LOSS)
        back = Key(self.here, LONG)
        for nr in range(4):
            self.near.post(WRITE, remote(self.dst), data(self.src, len(sent)))
            self.assertEqual(self.done(), [(REQ, 0, 2 * nr)])
            self.near.post(READ, remote(self.dst), data(back, len(sent)))
            self.assertEqual(self.done(), [(REQ, 0, 2 * nr + 1)])
            self.assertEqual(self.far_machine.read(self.dst.pages, len(sent)), sent)
            self.assertEqual(self.machine.read(back.pages, len(sent)), sent)
            self.machine.write(back.pages, bytes(len(sent)))
            self.far_machine.write(self.dst.pages, bytes(len(sent)))

    def test_a_page_that_comes_wakes_the_requester(self):
        self.there.knob("fault-answer", 0)
        hole = Key(self.there, 2, absent=(1,))
        self.near.post(WRITE, remote(hole, hole.address + PAGE), data(self.src, 4))
        self.quiet()
        self.far_machine.step(MS)
        event = next(event for event in self.there.eq.events() if event[0] == PAGE_FAULT)
        token = int.from_bytes(event[2][25:28], "big")
        self.there.command("DESTROY_MKEY", mkey_index=hole.index)
        whole = Key(self.there, 2, start=hole.address)
        info = "page_fault_info__trans_page_fault_info__"
        self.there.command("PAGE_FAULT_RESUME", **{
            info + "page_fault_type": event[2][24] & 7, info + "wq_number": token,
            info + "fault_token": token})
        self.machine.write(self.src.pages, b"sent")
        self.far_machine.step(MS)
        for _ in range(LOOKS):          # and no time passes here
            found = self.cq.poll()
            if found:
                break
        self.assertEqual(found, [(REQ, 0, 0)])
        self.assertEqual(whole.key, hole.key)

    def test_a_process_that_ends_is_silent_and_the_next_is_heard(self):
        self.far_machine.process.kill()
        self.far_machine.process.wait()
        self.near.post(WRITE, remote(self.dst), data(self.src, 4))
        self.machine.step(100 * MS)
        self.assertEqual(self.cq.poll(), [(REQ_ERR, RETRIES, 0)])
        frames = self.here.counter("link-frames")
        self.far_machine, self.there = self.process()
        self.there.start()
        self.counted(frames + 2)
        self.pair()
        self.machine.write(self.src.pages, b"sent")
        self.near.post(WRITE, remote(self.dst), data(self.src, 4))
        for _ in range(LOOKS):
            found = self.cq.poll()
            if found:
                break
        self.assertEqual(found, [(REQ, 0, 0)])
        self.assertEqual(self.far_machine.read(self.dst.pages, 4), b"sent")
