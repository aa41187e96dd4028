# SPDX-License-Identifier: GPL-2.0
"""The requester at the end of a link: it asks again until it is answered, and no longer."""
import struct

from adapter import (FETCH_ADD, FLUSHED, PAGE_FAULT, READ, REMOTE_ACCESS, REQ, REQ_ERR, RETRIES,
                     RNR_RETRIES, SEND, UC, UD, WRITE, Key, QueuePair, data,
                     operands, remote)
from qtest import PAGE
from wire import (ACCESS, AGAIN, DATAGRAM, DONE, GRH, REQUEST, RNR, SOLICITED, WAIT, LinkBench,
                  Reply, answer)

MS, PIECE = 10 ** 6, 64 << 10
QUEUE = 4 << 20         # bytes that wait for a peer that does not read
SOLICIT = 0x02


class Ask(LinkBench):
    DEVICES = ("lid=1,link=link,link-timeout=1000000",)

    def setUp(self):
        super().setUp()
        self.dev.start()
        self.src = Key(self.dev, 40)
        self.far = Key(self.dev)        # whose key and address the peer is to see
        self.machine.write(self.src.pages, b"sent")
        self.qp = self.pair(retry=2)
        self.cq = self.qp.cq
        self.peer = self.connect()

    def post(self, opcode=WRITE, length=4, **options):
        where = [] if opcode == SEND else [remote(self.far)]
        more = [operands(2)] if opcode == FETCH_ADD else []
        self.qp.post(opcode, *where, *more, data(self.src, length), **options)

    def completed(self, expected):
        """The adapter's timers of now have run."""
        for _ in range(1000):
            found = self.cq.poll()
            if found:
                break
        self.assertEqual(found, expected)

    def test_a_write_is_a_request_with_its_bytes(self):
        self.post(flags=8 | SOLICIT)
        head, found = self.peer.asked()
        self.assertEqual(found, b"sent")
        self.assertEqual(
            (head.slid, head.dlid, head.sqpn, head.dqpn, head.transport, head.opcode, head.flags,
             head.pkey, head.rkey, head.raddr, head.len, head.off, head.size),
            (1, 2, self.qp.number, 0x77, 0, WRITE, SOLICITED, 0xffff, self.far.key,
             self.far.address, 4, 0, 4))
        self.peer.reply(head)
        self.completed([(REQ, 0, 0)])

    def test_what_is_not_answered_comes_again_as_it_was(self):
        self.post()
        first = self.peer.asked()
        self.machine.write(self.src.pages, b"twin")
        self.machine.step(MS)
        self.assertEqual(self.peer.asked(), first)
        self.peer.reply(first[0])
        self.completed([(REQ, 0, 0)])

    def test_silence_ends_in_too_many_retries(self):
        self.post()
        for _ in range(3):
            self.peer.asked()
            self.assertEqual(self.cq.poll(), [])
            self.machine.step(MS)
        self.completed([(REQ_ERR, RETRIES, 0)])
        self.assertEqual(self.dev.counter("retries"), 2)

    def test_a_late_answer_is_ignored(self):
        self.post()
        head, _ = self.peer.asked()
        wrong = ({"seq": head.seq + 1}, {"seq": head.seq - 1}, {"sqpn": 0x78}, {"dqpn": 0x3f})
        right = Reply(head.seq, 2, 1, 0x77, self.qp.number, DONE, 4)
        self.peer.send(*(answer(right._replace(**fields)) for fields in wrong))
        self.counted(3 + len(wrong))
        self.assertEqual(self.cq.poll(), [])
        self.peer.send(answer(right), answer(right), answer(right))
        self.completed([(REQ, 0, 0)])

    def test_each_request_has_a_greater_number(self):
        last = 0
        for nr in range(3):
            self.post()
            head, _ = self.peer.asked()
            self.assertGreater(head.seq, last)
            last = head.seq
            self.peer.reply(head)
            self.completed([(REQ, 0, nr)])

    def test_no_receive_is_asked_again_when_its_time_has_come(self):
        self.post(SEND)
        first = self.peer.asked()
        self.peer.reply(first[0], RNR, 0, rnr_ns=500000)
        self.counted(4)
        self.machine.step(400000)
        self.assertEqual(self.dev.counter("rnr-waits"), 1)
        self.machine.step(100000)
        self.assertEqual(self.peer.asked(), first)
        self.peer.reply(first[0], RNR, 0, rnr_ns=500000)
        self.completed([(REQ_ERR, RNR_RETRIES, 0)])

    def test_a_page_that_has_come_is_asked_for_at_once(self):
        self.post()
        first = self.peer.asked()
        self.peer.reply(first[0], WAIT, 0)
        self.peer.reply(first[0], AGAIN, 0)
        self.assertEqual(self.peer.asked(), first)
        self.peer.reply(first[0])
        self.completed([(REQ, 0, 0)])

    def test_an_error_that_comes_while_it_waits_is_the_answer(self):
        self.post()
        head, _ = self.peer.asked()
        self.peer.reply(head, RNR, 0, rnr_ns=500000)
        self.peer.reply(head, ACCESS, 0)
        self.completed([(REQ_ERR, REMOTE_ACCESS, 0)])

    def test_a_long_message_goes_piece_by_piece(self):
        self.post(length=PIECE + 100)
        for off, size, done in ((0, PIECE, PIECE), (PIECE, 100, 40), (PIECE + 40, 60, 60)):
            head, found = self.peer.asked()
            self.assertEqual((head.off, head.size, len(found), head.len),
                             (off, size, size, PIECE + 100))
            self.assertEqual(self.cq.poll(), [])
            self.peer.reply(head, done=done)
        self.completed([(REQ, 0, 0)])

    def test_a_read_is_filled_from_its_answers(self):
        self.post(READ, 100)
        head, found = self.peer.asked()
        self.assertEqual((head.size, found), (100, b""))
        self.peer.reply(head, done=60, data=b"a" * 60)
        head, found = self.peer.asked()
        self.assertEqual((head.off, head.size), (60, 40))
        self.peer.reply(head, data=b"b" * 40)
        self.completed([(REQ, 0, 0)])
        self.assertEqual(self.machine.read(self.src.pages, 101), b"a" * 60 + b"b" * 40 + b"\0")

    def test_an_atomic_stores_what_the_answer_has(self):
        self.post(FETCH_ADD, 8)
        head, _ = self.peer.asked()
        self.assertEqual((head.operand, head.size), (2, 0))
        self.peer.reply(head, original=40)
        self.completed([(REQ, 0, 0)])
        self.assertEqual(self.machine.read(self.src.pages, 8), struct.pack(">Q", 40))

    def test_a_connection_that_breaks_is_silence_and_not_an_error(self):
        self.post()
        first = self.peer.asked()
        self.peer.close()
        self.peer = self.connect()
        self.machine.step(MS)
        self.assertEqual(self.peer.asked(), first)
        self.peer.reply(first[0])
        self.completed([(REQ, 0, 0)])

    def test_without_a_connection_retries_run_out(self):
        self.peer.close()
        self.post()
        self.machine.step(10 * MS)
        self.completed([(REQ_ERR, RETRIES, 0)])

    def test_a_link_that_is_cut_is_silence_until_it_is_mended(self):
        self.dev.knob("link-down", 1)
        self.post()
        self.machine.step(MS // 2)
        self.dev.knob("link-down", 0)
        self.machine.step(MS // 2)
        head, _ = self.peer.asked()
        self.dev.knob("link-down", 1)
        self.peer.reply(head)
        self.counted(4)
        self.assertEqual(self.cq.poll(), [])
        self.machine.step(10 * MS)
        self.completed([(REQ_ERR, RETRIES, 0)])

    def test_a_queue_that_goes_waits_for_no_answer(self):
        for command, expected in (("2ERR_QP", [(REQ_ERR, FLUSHED, 0)]), ("2RST_QP", []),
                                  ("DESTROY_QP", [])):
            self.qp = self.pair()
            self.cq = self.qp.cq
            self.post()
            head, _ = self.peer.asked()
            self.dev.command(command, qpn=self.qp.number)
            before = self.dev.counter("link-frames")
            self.peer.reply(head)
            self.counted(before + 1)
            self.machine.step(10 * MS)
            self.assertEqual(self.cq.poll(), expected)

    def test_a_reset_ends_what_was_asked(self):
        self.post()
        head, _ = self.peer.asked()
        self.dev.reset()
        self.peer.reply(head)
        self.counted(4)
        self.machine.step(10 * MS)
        self.assertEqual(self.dev.counter("retries"), 0)

    def test_an_answer_waits_for_bus_mastering(self):
        self.post(READ)
        head, _ = self.peer.asked()
        self.dev.master(False)
        self.machine.step(MS // 2)
        self.peer.reply(head, data=b"read")
        self.counted(4)
        self.machine.step(100 * MS)
        self.assertEqual(self.machine.read(self.src.pages, 4), b"sent")
        self.dev.master(True)
        self.completed([(REQ, 0, 0)])
        self.assertEqual(self.machine.read(self.src.pages, 4), b"read")

    def test_a_message_of_uc_is_lost_with_its_answer(self):
        self.qp = QueuePair(self.dev, self.cq, kind=UC).connect(0x77, lid=2)
        self.post(SEND)
        self.peer.asked()
        self.machine.step(10 ** 9)
        self.completed([(REQ, 0, 0)])

    def test_datagrams_are_not_answered(self):
        self.qp = QueuePair(self.dev, self.cq, kind=UD).connect(0, qkey=5)
        for lid in (2, 3, 0xc001):
            where = struct.pack(">QIHH10xBBI16s", 5 << 32, 1 << 31 | 0x99, 0, lid, 6, 9,
                                1 << 30 | 3, b"g" * 16)
            self.qp.post(SEND, where, data(self.src, 4))
        self.completed([(REQ, 0, 0), (REQ, 0, 2), (REQ, 0, 4)])
        for lid in (2, 0xc001):
            kind, head, found = self.peer.frame()
            self.assertEqual((kind, head.dlid, head.dqpn, head.q_key, head.flags, head.hop_limit,
                              head.flow_label, head.dgid, found),
                             (DATAGRAM, lid, 0x99, 5, GRH, 9, 3, b"g" * 16, b"sent"))

    def test_a_peer_that_does_not_read_holds_up_nothing(self):
        self.qp = QueuePair(self.dev, self.cq, kind=UD).connect(0, qkey=5)
        where = struct.pack(">QIHH", 5 << 32, 0x99, 0, 2)
        for nr in range(QUEUE // 4096 * 2):
            self.qp.post(SEND, where, data(self.src, 4096), flags=0, ring=nr % 32 == 31)
        self.dev.command("NOP")
        self.assertEqual(self.dev.counter("messages"), QUEUE // 4096 * 2)
        for arrived in range(QUEUE // 4096):
            self.assertEqual(self.peer.frame()[0], DATAGRAM)
        self.qp = self.pair()
        self.post(SEND)
        while self.peer.frame()[0] != REQUEST:
            arrived += 1
        self.assertLess(arrived, QUEUE // 4096 * 2 - 1)

    def test_a_read_whose_page_is_missing_asks_again_for_it(self):
        self.src = Key(self.dev, 2, absent=(1,))
        self.qp.post(READ, remote(self.far), data(self.src, 8, self.src.address + PAGE - 4))
        head, _ = self.peer.asked()
        self.peer.reply(head, data=b"read on.")
        head, _ = self.peer.asked()
        self.assertEqual((head.off, head.size), (4, 4))
        self.peer.reply(head, data=b" on.")
        self.counted(6)
        self.machine.step()
        kind, _, event = self.dev.eq.events()[0]
        self.assertEqual((kind, self.dev.counter("faults-sq")), (PAGE_FAULT, 1))
        self.dev.command("DESTROY_MKEY", mkey_index=self.src.index)
        self.src = Key(self.dev, 2, start=self.src.address)
        info = "page_fault_info__trans_page_fault_info__"
        self.dev.command("PAGE_FAULT_RESUME", **{
            info + "page_fault_type": event[24] & 7, info + "wq_number": self.qp.number,
            info + "fault_token": int.from_bytes(event[12:16], "big")})
        self.machine.step()
        self.peer.reply(self.peer.asked()[0], data=b" it.")
        self.completed([(REQ, 0, 0)])
        self.assertEqual(self.machine.read(self.src.pages + PAGE, 4), b" it.")
