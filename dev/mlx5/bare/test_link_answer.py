# SPDX-License-Identifier: GPL-2.0
"""The responder at the end of a link: what the peer asks is done once, and answered alike."""
import struct

from adapter import (ERR, FETCH_ADD, PAGE_FAULT, READ, RESP_ERR, RESP_SEND, RESP_WRITE_IMM, SEND,
                     UC, UD, WRITE, WRITE_IMM, CompletionQueue, Key, QueuePair)
from qtest import PAGE
from wire import (ACCESS, AGAIN, DATAGRAM, DONE, GRH, INVALID, OPERATION, RNR, WAIT, LinkBench,
                  request)

FAULT_WAIT = 0


class Answer(LinkBench):
    def setUp(self):
        super().setUp()
        self.dev.start()
        self.qp, self.other = self.pair(), self.pair(0x78)
        self.dst = Key(self.dev, 2, absent=(1,))
        self.peer = self.connect()

    def rdma(self, opcode, qp=None, **fields):
        return self.head(qp or self.qp, opcode, **{"rkey": self.dst.key,
                                                   "raddr": self.dst.address} | fields)

    def memory(self, length=4):
        return self.machine.read(self.dst.pages, length)

    def silent(self, *frames):
        """The adapter says nothing to these: the next answer is to what follows them."""
        marker = self.rdma(READ, self.other, size=1, sqpn=0x78)
        self.peer.send(*frames, request(marker))
        self.assertEqual(self.peer.answer()[0].seq, marker.seq)

    def resume(self, error=0):
        event = next(event for event in self.dev.eq.events() if event[0] == PAGE_FAULT)
        token = int.from_bytes(event[2][25:28], "big")
        info = "page_fault_info__trans_page_fault_info__"
        self.dev.command("PAGE_FAULT_RESUME", **{
            info + "error": error, info + "page_fault_type": event[2][24] & 7,
            info + "wq_number": token, info + "fault_token": token})

    def test_an_answer_names_both_ends(self):
        head = self.rdma(WRITE, size=4)
        self.assertEqual(self.peer.ask(head, b"sent")[0],
                         (head.seq, 1, 2, self.qp.number, 0x77, DONE, 4, 0, 0))
        self.assertEqual(self.memory(), b"sent")

    def test_a_write_that_comes_again_is_answered_and_not_done(self):
        head = self.rdma(WRITE, size=4)
        first = self.peer.ask(head, b"sent")
        self.assertEqual(self.peer.ask(head, b"twin"), first)
        self.assertEqual(self.memory(), b"sent")
        self.assertEqual(self.dev.counter("link-repeats"), 1)

    def test_an_atomic_that_comes_again_finds_what_it_found(self):
        self.machine.write(self.dst.pages, struct.pack("<Q", 40))
        head = self.rdma(FETCH_ADD, operand=2, len=8)
        for _ in range(3):
            reply, _ = self.peer.ask(head)
            self.assertEqual((reply.answer, reply.original), (DONE, 40))
        self.assertEqual(self.memory(8), struct.pack("<Q", 42))

    def test_a_send_that_comes_again_takes_one_receive(self):
        for _ in range(2):
            self.qp.offer(self.dst, 64)
        head = self.head(self.qp, SEND, size=4)
        for _ in range(2):
            self.assertEqual(self.peer.ask(head, b"sent")[0].answer, DONE)
        self.assertEqual(self.qp.cq.poll(), [(RESP_SEND, 0, 0)])

    def test_a_read_that_comes_again_is_done_again(self):
        head = self.rdma(READ, size=4)
        for found in (b"one ", b"two "):
            self.machine.write(self.dst.pages, found)
            reply, data = self.peer.ask(head)
            self.assertEqual((reply.answer, reply.done, data), (DONE, 4, found))

    def test_a_number_before_the_last_is_ignored(self):
        old, new = self.rdma(WRITE, size=4), self.rdma(WRITE, size=4)
        self.peer.ask(new, b"new!")
        self.silent(request(old, b"old!"))
        self.assertEqual(self.memory(), b"new!")

    def test_no_receive_is_asked_again_with_the_same_number(self):
        head = self.head(self.qp, SEND, size=4)
        reply, _ = self.peer.ask(head, b"sent")
        self.assertEqual((reply.answer, reply.rnr_ns), (RNR, 10000))
        self.qp.offer(self.dst, 64)
        self.assertEqual(self.peer.ask(head, b"sent")[0].answer, DONE)
        self.assertEqual(self.qp.cq.poll(), [(RESP_SEND, 0, 0)])

    def test_pieces_go_to_their_offsets_and_end_in_one_completion(self):
        self.qp.offer(self.dst, 64)
        for off in (0, 2):
            head = self.head(self.qp, SEND, size=2, off=off, len=4)
            for _ in range(2):
                self.assertEqual(self.peer.ask(head, b"sent"[off:off + 2])[0].done, 2)
        self.assertEqual(self.memory(), b"sent")
        self.assertEqual(self.qp.cq.poll(), [(RESP_SEND, 0, 0)])

    def test_a_write_with_data_and_a_receive_completes_once(self):
        self.qp.offer(self.dst, 64)
        head = self.rdma(WRITE_IMM, size=4, imm=b"\1\2\3\4")
        for _ in range(2):
            self.assertEqual(self.peer.ask(head, b"sent")[0].answer, DONE)
        self.assertEqual(self.machine.read(self.qp.cq.ring + 36, 4), b"\1\2\3\4")
        self.assertEqual(self.qp.cq.poll(), [(RESP_WRITE_IMM, 0, 0)])

    def test_what_broke_the_queue_pair_is_told_again(self):
        head = self.rdma(WRITE, size=4, raddr=self.dst.address + 2 * PAGE)
        for _ in range(2):
            self.assertEqual(self.peer.ask(head, b"sent")[0].answer, ACCESS)
        self.assertEqual(self.dev.command("QUERY_QP", qpn=self.qp.number)["qpc__state"], ERR)

    def test_a_message_that_is_too_long_for_its_receive_is_invalid(self):
        self.qp.offer(self.dst, 2)
        head = self.head(self.qp, SEND, size=4)
        for _ in range(2):
            self.assertEqual(self.peer.ask(head, b"sent")[0].answer, INVALID)
        self.assertEqual(self.qp.cq.poll(), [(RESP_ERR, 1, 0)])

    def test_a_missing_page_is_waited_for_when_told_so(self):
        self.dev.knob("fault-answer", FAULT_WAIT)
        head = self.rdma(READ, size=4, raddr=self.dst.address + PAGE)
        self.assertEqual(self.peer.ask(head)[0].answer, WAIT)
        self.machine.step()
        self.resume()
        self.machine.step()
        reply, _ = self.peer.answer()
        self.assertEqual((reply.seq, reply.answer), (head.seq, AGAIN))
        self.assertEqual(self.peer.ask(head)[0].answer, WAIT)

    def test_a_missing_page_is_no_receive_by_default(self):
        head = self.rdma(READ, size=4, raddr=self.dst.address + PAGE)
        for _ in range(2):
            self.assertEqual(self.peer.ask(head)[0].answer, RNR)
        self.machine.step()
        self.assertEqual(self.dev.counter("faults-rdma"), 1)

    def test_a_fault_that_fails_is_the_answer_unasked_and_asked(self):
        head = self.rdma(WRITE, size=4, raddr=self.dst.address + PAGE)
        self.peer.ask(head, b"sent")
        self.machine.step()
        self.resume(error=1)
        self.machine.step()
        self.assertEqual(self.peer.answer()[0].answer, ACCESS)
        self.assertEqual(self.peer.ask(head, b"sent")[0].answer, ACCESS)

    def test_a_receive_whose_fault_fails_is_an_operational_error(self):
        self.qp.offer(self.dst, 64, self.dst.address + PAGE)
        head = self.head(self.qp, SEND, size=4)
        self.peer.ask(head, b"sent")
        self.machine.step()
        event = next(event for event in self.dev.eq.events() if event[0] == PAGE_FAULT)
        info = "page_fault_info__trans_page_fault_info__"
        self.dev.command("PAGE_FAULT_RESUME", **{
            info + "error": 1, info + "page_fault_type": event[2][24] & 7,
            info + "wq_number": self.qp.number,
            info + "fault_token": int.from_bytes(event[2][12:16], "big")})
        self.machine.step()
        self.assertEqual(self.peer.answer()[0].answer, OPERATION)

    def test_a_queue_pair_that_was_reset_remembers_nothing(self):
        head = self.rdma(WRITE, size=4)
        self.peer.ask(head, b"sent")
        self.dev.command("2RST_QP", qpn=self.qp.number)
        self.silent(request(head, b"none"))
        self.qp.connect(0x77, lid=2)
        self.peer.ask(head, b"anew")
        self.assertEqual(self.memory(), b"anew")

    def test_what_it_knows_outlives_the_connection(self):
        head = self.rdma(WRITE, size=4)
        self.peer.ask(head, b"sent")
        self.peer.close()
        self.peer = self.connect()
        self.assertEqual(self.peer.ask(head, b"twin")[0].answer, DONE)
        self.assertEqual(self.memory(), b"sent")

    def test_only_the_peer_that_it_is_connected_to_is_heard(self):
        wrong = ({"sqpn": 0x76}, {"transport": UC}, {"pkey": 0x1234}, {"dqpn": 0x3f},
                 {"dqpn": self.other.number})
        self.silent(*(request(self.rdma(WRITE, size=4, **fields), b"none") for fields in wrong))
        self.peer.close()
        self.peer = self.connect((2, 3))
        self.silent(request(self.rdma(WRITE, size=4, slid=3), b"none"))
        self.assertEqual(self.memory(), bytes(4))

    def test_without_bus_mastering_it_is_silent(self):
        head = self.rdma(WRITE, size=4)
        self.dev.master(False)
        self.machine.step(10 ** 6)
        self.peer.send(request(head, b"sent"))
        self.counted(3)
        self.assertEqual(self.memory(), bytes(4))
        self.dev.master(True)
        self.assertEqual(self.peer.ask(head, b"anew")[0].answer, DONE)
        self.assertEqual(self.memory(), b"anew")

    def test_after_a_reset_its_queue_pairs_are_silent(self):
        head = self.rdma(WRITE, size=4)
        self.dev.reset()
        self.peer.send(request(head, b"sent"))
        self.counted(3)
        self.assertEqual(self.memory(), bytes(4))

    def test_a_datagram_is_received_with_its_header(self):
        cq = CompletionQueue(self.dev)
        qp = QueuePair(self.dev, cq, kind=UD).connect(0, qkey=5)
        gid = bytes(range(16))
        self.silent(*(request(self.head(qp, SEND, size=4, transport=UD, q_key=key, flags=GRH,
                                        flow_label=0x12345, tclass=6, hop_limit=7, dgid=gid),
                              b"sent", DATAGRAM) for key in (5, 6)))
        self.assertEqual(cq.poll(), [])
        qp.offer(self.dst, 64)
        self.silent(*(request(self.head(qp, SEND, size=4, transport=UD, q_key=key, flags=GRH,
                                        flow_label=0x12345, tclass=6, hop_limit=7, dgid=gid),
                              b"sent", DATAGRAM) for key in (6, 5)))
        self.assertEqual(cq.poll(), [(RESP_SEND, 0, 0)])
        found = self.memory(44)
        self.assertEqual(found[:8], struct.pack(">IHBB", 0x60612345, 28, 0x1b, 7))
        self.assertEqual(found[8:24], bytes.fromhex("fe80000000000000" "0002c90300000201"))
        self.assertEqual(found[24:], gid + b"sent")
