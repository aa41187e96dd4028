# SPDX-License-Identifier: GPL-2.0
"""What a requester hears of the responder's page fault."""
from adapter import (PAGE_FAULT, READ, REMOTE_ACCESS, REQ, REQ_ERR, RETRIES, RNR_RETRIES, SEND,
                     WRITE, CompletionQueue, Key, QueuePair, data, remote)
from bench import Bench
from qtest import PAGE

WAIT, RNR, SILENCE = range(3)
RDMA = 1
MS = 10 ** 6


class Answer(Bench):
    def setUp(self):
        super().setUp()
        self.dev.start()
        self.cq, self.far_cq = CompletionQueue(self.dev), CompletionQueue(self.dev)
        self.src, self.dst = Key(self.dev), Key(self.dev, 2, absent=(1,))
        self.missing = self.dst.address + PAGE
        self.machine.write(self.src.pages, b"sent")

    def pair(self, rnr_timer=1, **options):
        """Retries that take 8 us each, or 10 us (RNR)."""
        self.near, self.far = (QueuePair(self.dev, cq) for cq in (self.cq, self.far_cq))
        self.near.connect(self.far.number, **options)
        self.far.connect(self.near.number, rnr_timer=rnr_timer)

    def write(self):
        self.near.post(WRITE, remote(self.dst, self.missing), data(self.src, 4))
        self.machine.step()

    def resume(self, error=0):
        """The event's fault, with the page in its place, by a key of the same number."""
        event = next(event for event in self.dev.eq.events() if event[0] == PAGE_FAULT)
        self.assertEqual(event[1], RDMA)
        kind, token = event[2][24] & 7, int.from_bytes(event[2][25:28], "big")
        if not error:
            self.dev.command("DESTROY_MKEY", mkey_index=self.dst.index)
            whole = Key(self.dev, 2, start=self.dst.address)
            self.assertEqual(whole.key, self.dst.key)
            self.dst = whole
        info = "page_fault_info__trans_page_fault_info__"
        self.dev.command("PAGE_FAULT_RESUME", **{
            info + name: value for name, value in (
                ("error", error), ("page_fault_type", kind), ("wq_number", token),
                ("fault_token", token))})

    def arrived(self):
        self.assertEqual(self.cq.poll(), [(REQ, 0, 0)])
        self.assertEqual(self.machine.read(self.dst.pages + PAGE, 4), b"sent")

    def test_by_default_it_is_told_to_come_again_and_gives_up(self):
        self.pair(rnr_retry=2)
        self.write()
        self.assertEqual(self.cq.poll(), [])
        self.machine.step(MS)
        self.assertEqual(self.cq.poll(), [(REQ_ERR, RNR_RETRIES, 0)])
        self.assertEqual(self.dev.counter("rnr-waits"), 2)

    def test_by_default_it_tries_for_ever_when_told_so(self):
        self.pair(rnr_retry=7)
        self.write()
        self.machine.step(100 * MS)
        self.assertEqual(self.cq.poll(), [])
        self.resume()
        self.machine.step(MS)
        self.arrived()

    def test_by_default_it_tries_again_when_its_own_timer_says_so(self):
        self.pair(rnr_retry=1, rnr_timer=24)        # 40.96 ms
        self.write()
        self.resume()
        self.machine.step(40 * MS)
        self.assertEqual(self.cq.poll(), [])
        self.machine.step(MS)
        self.arrived()

    def test_a_send_and_a_read_are_told_the_same(self):
        for opcode in (SEND, READ):
            self.pair(rnr_retry=0)
            self.far.offer(self.dst, 64, self.missing)
            where = [] if opcode == SEND else [remote(self.dst, self.missing)]
            self.near.post(opcode, *where, data(self.src, 4))
            self.machine.step(MS)
            self.assertEqual(self.cq.poll(), [(REQ_ERR, RNR_RETRIES, 0)])

    def test_silence_ends_in_too_many_retries(self):
        self.dev.knob("fault-answer", SILENCE)
        self.pair(retry=2, rnr_retry=7)
        self.write()
        self.assertEqual(self.cq.poll(), [])
        self.machine.step(MS)
        self.assertEqual(self.cq.poll(), [(REQ_ERR, RETRIES, 0)])

    def test_silence_ends_with_the_page(self):
        self.dev.knob("fault-answer", SILENCE)
        self.pair(retry=7, timeout=10)              # 4.19 ms
        self.write()
        self.resume()
        self.machine.step(4 * MS)
        self.assertEqual(self.cq.poll(), [])
        self.machine.step(MS)
        self.arrived()

    def test_a_kind_one_makes_it_wait(self):
        self.dev.knob("fault-answer", WAIT)
        self.pair(rnr_retry=0, retry=0, timeout=20)
        self.write()
        self.machine.step(100 * MS)
        self.resume()
        self.machine.step()
        self.arrived()

    def test_a_fault_that_fails_is_an_error_of_the_request(self):
        self.pair(rnr_retry=7)
        self.write()
        self.resume(error=1)
        self.machine.step(MS)
        self.assertEqual(self.cq.poll(), [(REQ_ERR, REMOTE_ACCESS, 0)])
