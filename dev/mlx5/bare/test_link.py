# SPDX-License-Identifier: GPL-2.0
"""The connection of a link, and a peer that is not to be trusted: what no adapter says ends
the connection and nothing else.
"""
import os
import random
import struct
import sys

from adapter import (FETCH_ADD, READ, RTS, SEND, UC, UD, WRITE, Key, QueuePair, data, remote)
from qtest import PAGE
from wire import (ACCESS, AGAIN, ANSWER, DATAGRAM, DONE, GRH, HEAD, HEADER, HELLO, LONGEST, REQUEST,
                  RNR, SILENCE, WAIT, Closed, LinkBench, Reply, answer, frame, hello, pack, request)

REPORT = "the link of LID 1 is closed"


class Connection(LinkBench):
    DEVICES = ("lid=1,link=link", "lid=5", "lid=6,fabric=other")

    def test_hello_names_the_lids_of_the_fabric(self):
        self.assertEqual(sorted(self.connect().theirs), [1, 5])

    def test_an_adapter_without_a_link_uses_that_of_its_fabric(self):
        for dev in self.adapters[1:]:
            dev.start()
        peer, (_, dev, other) = self.connect(), self.adapters
        for self.dev in (other, dev):
            key, qp = Key(self.dev), self.pair(retry=0)
            qp.post(WRITE, remote(key), data(key, 4))
        head, _ = peer.asked()
        self.assertEqual(head.slid, 5)
        key, head = Key(dev), self.head(qp, WRITE, size=4, dlid=5)
        self.assertEqual(peer.ask(head._replace(rkey=key.key, raddr=key.address), b"sent")[0].slid,
                         5)
        self.assertEqual(self.machine.read(key.pages, 4), b"sent")

    def test_a_lid_of_both_sides_ends_the_connection(self):
        for lids in ((1,), (2, 5)):
            self.closes(self.connect(lids))
        self.assertEqual(self.machine.said().count(REPORT), 2)

    def test_lids_may_change(self):
        peer = self.connect((2,))
        peer.send(hello(6, 7))
        self.dev.start()
        qp = self.pair()
        peer.send(request(self.head(qp, WRITE, slid=2)))
        self.closes(peer)


class Bad(LinkBench):
    """Each of these frames ends the connection by itself, and stores nothing."""

    def setUp(self):
        super().setUp()
        self.dev.start()
        self.qp, self.dst = self.pair(), Key(self.dev)

    def write(self, **fields):
        return self.head(self.qp, WRITE, **{"rkey": self.dst.key, "raddr": self.dst.address,
                                            "size": 4} | fields)

    def end(self, *frames):
        peer = self.connect()
        before = self.machine.said().count(REPORT)
        peer.send(*frames)
        self.closes(peer)
        self.assertEqual(self.machine.said().count(REPORT), before + 1)
        self.assertEqual(self.machine.read(self.dst.pages, PAGE), bytes(PAGE))
        self.machine.step(10 ** 9)

    def tearDown(self):
        super().tearDown()
        self.assertEqual(self.connect().ask(self.write(), b"good")[0].answer, DONE)
        self.assertEqual(self.machine.read(self.dst.pages, 4), b"good")

    def test_headers(self):
        good = pack(self.write()) + b"evil"
        for changed in ({"magic": 0}, {"version": 0}, {"version": 2}, {"reserved": 1},
                        {"length": LONGEST + 4096}, {"length": 2 ** 32 - 1}, {"length": 0},
                        {"length": HEAD.size - 1}):
            self.end(frame(REQUEST, good, **changed))
        for kind in (0, 5, 255):
            self.end(frame(kind, good))

    def test_hello(self):
        for lids in ((0,), (0xc000,), (3, 0xffff)):
            self.end(hello(*lids))
        self.end(frame(HELLO, b"\0\3\0"))
        self.end(frame(HELLO, bytes(LONGEST + 1024)))

    def test_pieces_outside_of_their_message(self):
        for fields in ({"len": 3}, {"off": 1}, {"off": 5}, {"off": 2 ** 64 - 1}, {"off": 2 ** 63},
                       {"len": 2 ** 64 - 1}, {"len": 2 ** 63}, {"size": 5}, {"size": 3},
                       {"size": 2 ** 32 - 1}, {"size": 0, "len": 4}):
            self.end(request(self.write(**{"len": 4} | fields), b"evil"))
        self.end(request(self.write(size=LONGEST + 4), b"x" * (LONGEST + 4)))
        self.end(request(self.write(opcode=READ), b"data"))
        self.end(request(self.write(opcode=READ, size=LONGEST + 1, len=LONGEST + 1)))
        self.end(request(self.write(opcode=FETCH_ADD), b"data"))

    def test_operations_that_there_are_not(self):
        for fields in ({"opcode": 0}, {"opcode": 0x25}, {"opcode": 0xff}, {"transport": UD},
                       {"transport": 12}, {"transport": 255}, {"transport": UC, "opcode": READ},
                       {"flags": 8}, {"flags": 0x80}, {"seq": 0}):
            size = 0 if fields.get("opcode") == READ else 4
            self.end(request(self.write(**fields), b"evil"[:size]))

    def test_lids_that_are_not_there(self):
        for fields in ({"slid": 3}, {"slid": 1}, {"slid": 0}, {"slid": 0xffff}, {"dlid": 2},
                       {"dlid": 3}, {"dlid": 0}, {"dlid": 0xc000}):
            self.end(request(self.write(**fields), b"evil"))
            self.end(answer(Reply(1, fields.get("slid", 2), fields.get("dlid", 1))))

    def test_datagrams(self):
        good = {"transport": UD, "opcode": SEND}
        for fields in ({"transport": 0}, {"opcode": WRITE}, {"off": 1}, {"len": 5}, {"size": 5},
                       {"flow_label": 1 << 20}, {"flags": 8}, {"slid": 3}, {"dlid": 3}):
            self.end(request(self.write(**good | fields), b"evil", DATAGRAM))
        self.end(request(self.write(**good, size=4097)._replace(size=4097), bytes(4097), DATAGRAM))

    def test_answers_that_there_are_not(self):
        for changed in ({"answer": SILENCE}, {"answer": 8}, {"answer": 255},
                        {"rnr_ns": 10 ** 9 + 1}):
            self.end(answer(Reply(1, 2, 1, 0x77, self.qp.number)._replace(**changed)))

    def test_answers_that_are_not_to_their_request(self):
        for opcode, fields, found in ((READ, {"done": 5}, b"12345"), (READ, {"done": 4}, b"12345"),
                                      (READ, {"done": 4}, b"123"), (READ, {"done": 0}, b""),
                                      (READ, {"done": 0, "kind": RNR}, b"1234"),
                                      (READ, {"done": 4, "kind": RNR}, b""),
                                      (WRITE, {"done": 5}, b""), (WRITE, {"done": 0}, b""),
                                      (WRITE, {"done": 4}, b"1234"),
                                      (WRITE, {"done": 2 ** 32 - 1}, b"")):
            self.qp, peer = self.pair(), self.connect()
            self.qp.post(opcode, remote(self.dst), data(self.dst, 4))
            peer.reply(peer.asked()[0], data=found, **fields)
            self.closes(peer)
            self.assertEqual(self.machine.read(self.dst.pages, PAGE), bytes(PAGE))
            self.assertEqual(self.qp.cq.poll(), [])
            self.machine.step(10 ** 9)
        self.qp = self.pair()

    def test_a_frame_that_never_ends_holds_up_nothing(self):
        peer = self.connect()
        peer.send(request(self.write(), b"evil")[:-1])
        self.dev.command("NOP")
        peer.close()


class Fuzz(LinkBench):
    """Frames that are nearly good, in a row that comes again with the seed."""
    DEVICES = ("lid=1,link=link,link-timeout=1000",)
    CONNECTIONS, FRAMES, SEED = 500, 40, int(os.environ.get("SEED", "1"))
    EDGES = (0, 1, 2, 4, 8, 63, 0xff, 0xfff, 0x1000, 0xffff, 0x10000, 2 ** 31, 2 ** 32 - 1, 2 ** 63,
             2 ** 64 - 1)
    WIDTHS = {"seq": 8, "slid": 2, "dlid": 2, "sqpn": 4, "dqpn": 4, "transport": 1, "opcode": 1,
              "flags": 1, "pkey": 2, "srqn": 4, "outstanding": 4, "rkey": 4, "raddr": 8,
              "operand": 8, "compare": 8, "len": 8, "off": 8, "size": 4, "q_key": 4,
              "flow_label": 4, "tclass": 1, "hop_limit": 1}

    def setUp(self):
        super().setUp()
        self.dev.start()
        self.random = random.Random(self.SEED)
        print(f"frames: again by SEED={self.SEED}", file=sys.stderr)
        before = self.machine.pages()
        self.key = Key(self.dev, 2, absent=(1,))
        self.around = (before, self.machine.pages())
        for page in self.around:
            self.machine.write(page, b"\x5a" * PAGE)
        self.marker = self.pair(0x78)
        self.renew()

    def renew(self):
        """Queue pairs that stand, whatever became of those before."""
        for qp in getattr(self, "qps", ()):
            self.dev.command("DESTROY_QP", qpn=qp.number)
        self.qps = [self.pair(retry=7, rnr_retry=7) for _ in range(2)]
        self.qps.append(QueuePair(self.dev, self.qps[0].cq, kind=UD).connect(0, qkey=5))
        for qp in self.qps:
            qp.offer(self.key, 4096)

    def chance(self):
        return self.random.random() < self.wild

    def fields(self, head):
        """Some of another value."""
        while self.chance():
            name = self.random.choice(list(self.WIDTHS))
            value = self.random.choice(self.EDGES) & (1 << 8 * self.WIDTHS[name]) - 1
            head = head._replace(**{name: value})
        return head

    def answer(self, asked):
        said = 9 if self.chance() else self.random.choice((DONE, DONE, RNR, WAIT, ACCESS, AGAIN))
        done = self.random.choice((1, 50, asked.size)) if said == DONE else 0
        done += self.chance()
        return answer(Reply(asked.seq - self.random.choice((0, 1)), 2, 1, asked.dqpn, asked.sqpn,
                            said, done, self.random.choice((0, 10 ** 6))), bytes(done))

    def datagram(self):
        size = self.random.choice((0, 1, 100, 4000, 4096))
        return request(self.fields(self.head(
            self.qps[2], SEND, size=size, transport=UD, q_key=5, flags=self.random.choice((0, GRH)),
            dlid=self.random.choice((1, 1, 0xc001)))), bytes(size), DATAGRAM)

    def request(self):
        size = self.random.choice((0, 1, 8, 100, 4096, LONGEST))
        opcode = self.random.choice((SEND, WRITE, READ, FETCH_ADD, 9, 0xb, 0x11, 1))
        if opcode in (FETCH_ADD, 0x11):
            size = 0
        head = self.fields(self.head(
            self.random.choice(self.qps), opcode, size=size, rkey=self.key.key,
            raddr=self.key.address + self.random.choice((0, 0, 4000, PAGE, 2 * PAGE))))
        return request(head, b"" if opcode == READ else bytes(size))

    def good(self, asked):
        """A frame as an adapter may make it, but for what chance does."""
        kind = self.random.choice((REQUEST, REQUEST, DATAGRAM, ANSWER, HELLO))
        if kind == HELLO:
            return hello(*self.random.choice(((1,), (2, 0)) if self.chance() else ((2,), (2, 3))))
        return self.answer(asked) if kind == ANSWER else \
            self.datagram() if kind == DATAGRAM else self.request()

    def bent(self, asked):
        made = bytearray(self.good(asked))
        if self.chance():
            made[self.random.randrange(len(made))] ^= 1 << self.random.randrange(8)
        if self.chance() and self.chance():
            del made[self.random.randrange(len(made)):]
        place = HEADER.size + 16        # of the number of the queue pair that is meant
        if made[place:place + 4] == struct.pack(">I", self.marker.number):
            made[place:place + 4] = bytes(4)
        return bytes(made)

    def round(self):
        """Did the connection stand?"""
        self.wild = self.random.choice((0, 0.01, 0.03, 0.2))
        peer = self.connect()
        try:
            self.qps[0].post(READ, remote(self.key), data(self.key, 100))
            asked = peer.asked()[0]
            marker = self.head(self.marker, READ, sqpn=0x78, size=1, rkey=self.key.key,
                               raddr=self.key.address)
            peer.send(*(self.bent(asked) for _ in range(self.FRAMES)), hello(2), request(marker))
            while getattr(peer.frame()[1], "dqpn", 0) != 0x78:
                pass
            return True
        except (Closed, TimeoutError):
            return False
        finally:
            peer.close()

    def test_no_frame_harms_the_adapter(self):
        stood = 0
        for _ in range(self.CONNECTIONS):
            self.renew()
            stood += self.round()
        self.assertGreater(stood, self.CONNECTIONS // 4)
        self.assertGreater(self.CONNECTIONS - stood, self.CONNECTIONS // 4)
        self.assertGreater(self.dev.counter("link-frames"), self.CONNECTIONS * self.FRAMES // 2)
        for page in self.around:
            self.assertEqual(self.machine.read(page, PAGE), b"\x5a" * PAGE)
        self.assertEqual(self.dev.command("QUERY_QP", qpn=self.marker.number)["qpc__state"], RTS)
        self.renew()
        head = self.head(self.qps[1], WRITE, size=4, rkey=self.key.key, raddr=self.key.address)
        peer = self.connect()
        peer.send(request(head, b"good"))
        while getattr(peer.frame()[1], "seq", 0) != head.seq:
            pass
        self.assertEqual(self.machine.read(self.key.pages, 4), b"good")
