# SPDX-License-Identifier: GPL-2.0
"""The other end of a link, by hand: the frames of qemu/hw/rdma/mlx5/mlx5_wire.c."""
import os
import shutil
import socket
import struct
import tempfile
from collections import namedtuple

from adapter import CompletionQueue, QueuePair
from bench import Bench

MAGIC, VERSION, LONGEST = 0x6d6c7835, 1, 64 << 10
HELLO, REQUEST, ANSWER, DATAGRAM = 1, 2, 3, 4
DONE, WAIT, RNR, SILENCE, ACCESS, INVALID, OPERATION, AGAIN = range(8)
FAILING, SOLICITED, GRH = 1, 2, 4
HEADER = struct.Struct(">IBBHI")
HEAD = struct.Struct(">QHHIIBBBH4sIIIQQQQQIIIBB16s")
REPLY = struct.Struct(">QHHIIBIIQ")
Head = namedtuple("Head", "seq slid dlid sqpn dqpn transport opcode flags pkey imm srqn "
                  "outstanding rkey raddr operand compare len off size q_key flow_label tclass "
                  "hop_limit dgid", defaults=(0,) * 24)
Reply = namedtuple("Reply", "seq slid dlid sqpn dqpn answer done rnr_ns original",
                   defaults=(0,) * 9)
LOOKS = 20000           # at a counter, until it is taken to stand still
SECONDS = 20            # in which the adapter says something, or never does


def frame(kind, body=b"", magic=MAGIC, version=VERSION, reserved=0, length=None):
    return HEADER.pack(magic, version, kind, reserved, len(body) if length is None else length) \
        + body


def hello(*lids):
    return frame(HELLO, struct.pack(f">{len(lids)}H", *lids))


def pack(head):
    values = head._asdict() | {"imm": head.imm or bytes(4), "dgid": head.dgid or bytes(16)}
    return HEAD.pack(*values.values())


def request(head, data=b"", kind=REQUEST):
    return frame(kind, pack(head) + data)


def answer(reply, data=b""):
    return frame(ANSWER, REPLY.pack(*reply) + data)


class Closed(Exception):
    """The adapter ended the connection."""


class Peer:
    """Connects to the adapter's socket, with the LID 2 unless it is to have others."""

    def __init__(self, path, lids=(2,)):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(SECONDS)
        self.socket.connect(path)
        self.stream = self.socket.makefile("rb")
        if lids:
            self.send(hello(*lids))

    def close(self):
        self.stream.close()
        self.socket.close()

    def send(self, *frames):
        try:
            self.socket.sendall(b"".join(frames))
        except (BrokenPipeError, ConnectionResetError):
            pass            # what the adapter said before is still to be read

    def frame(self):
        """(type, head, data) of the next one."""
        try:
            start = self.stream.read(HEADER.size)
            if len(start) < HEADER.size:
                raise Closed
            magic, version, kind, reserved, length = HEADER.unpack(start)
            body = self.stream.read(length)
        except ConnectionResetError:
            raise Closed from None
        assert (magic, version, reserved) == (MAGIC, VERSION, 0), start
        layout, kinds = (HEAD, Head) if kind in (REQUEST, DATAGRAM) else (REPLY, Reply)
        if kind == HELLO:
            return kind, struct.unpack(f">{len(body) // 2}H", body), b""
        return kind, kinds(*layout.unpack_from(body)), body[layout.size:]

    def ask(self, head, data=b""):
        """(reply, data): what the adapter answers to a request."""
        self.send(request(head, data))
        return self.answer()

    def answer(self):
        kind, reply, data = self.frame()
        assert kind == ANSWER, (kind, reply)
        return reply, data

    def asked(self):
        """(head, data): what the adapter requests."""
        kind, head, data = self.frame()
        assert kind == REQUEST, (kind, head)
        return head, data

    def reply(self, head, kind=DONE, done=None, data=b"", **fields):
        """An answer to that request."""
        done = head.size if done is None else done
        self.send(answer(Reply(head.seq, head.dlid, head.slid, head.dqpn, head.sqpn, kind, done,
                               **fields), data))


class LinkBench(Bench):
    """An adapter of LID 1 with a link, and this process at the other end."""
    DEVICES = ("lid=1,link=link",)

    def arguments(self):
        folder = tempfile.mkdtemp(prefix="link-")
        self.addCleanup(shutil.rmtree, folder)
        self.path = os.path.join(folder, "fabric")
        return "-chardev", f"socket,id=link,path={self.path},server=on,wait=off"

    def connect(self, lids=(2,)):
        """A peer that has heard HELLO, and the adapter has, too."""
        before = self.dev.counter("link-frames")
        peer = Peer(self.path, lids)
        self.addCleanup(peer.close)
        kind, ours, _ = peer.frame()
        self.assertEqual(kind, HELLO)
        peer.theirs = ours
        self.counted(before + 2)
        return peer

    def pair(self, peer_qpn=0x77, **options):
        """A queue pair that is connected to the peer's of that number, and its completions."""
        qp = QueuePair(self.dev, CompletionQueue(self.dev))
        return qp.connect(peer_qpn, lid=2, **options)

    def head(self, qp, opcode, /, **fields):
        """A request of the peer's to that queue pair, with the next number."""
        self.seq = getattr(self, "seq", 0) + 1
        given = {"seq": self.seq, "slid": 2, "dlid": 1, "sqpn": 0x77, "dqpn": qp.number,
                 "opcode": opcode, "pkey": 0xffff, "outstanding": 1} | fields
        return Head(**{"len": given.get("size", 0)} | given)

    def counted(self, frames):
        """That many went over the link, HELLO of both sides included."""
        for _ in range(LOOKS):
            if self.dev.counter("link-frames") >= frames:
                return
        self.fail("a frame did not arrive")

    def closes(self, peer):
        with self.assertRaises(Closed):
            while True:
                peer.frame()
