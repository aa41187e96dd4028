# SPDX-License-Identifier: GPL-2.0
"""What the subnet manager answers, and to whom: datagrams of queue pair 1 to its LID."""
import struct

from adapter import REQ, SEND, CompletionQueue, Key, QueuePair, data
from bench import Bench
from qtest import PAGE

SM, GSI, QKEY = 0xbfff, 8, 0x80010000
GET, SET, DELETE, TABLE = 1, 2, 0x15, 0x12
PORT_INFO, SERVICE, PATH, MEMBER = 1, 0x31, 0x35, 0x38
UNSUPPORTED, INVALID, NO_RECORDS = 0x000c, 0x0200, 0x0300
DGID, DLID, HAS_QKEY = 1 << 2, 1 << 4, 1 << 2
BROADCAST = bytes.fromhex("ff12401bffff000000000000ffffffff")
OTHER = bytes.fromhex("ff12a01bffff000000000000ef010101")


def gid(lid):
    return struct.pack(">QQ", 0xfe80 << 48, 0x0002c90300000000 | lid << 8 | 1)


def question(method, attribute, record=b"", given=0, version=3):
    head = struct.pack(">BBBBHHQHHI", 1, version, 2, method, 0, 0, 0x1234, attribute, 0, 0)
    return (head + bytes(12) + struct.pack(">QHHQ", 0, 0, 0, given) + record).ljust(256, b"\0")


def path(lid=0, name=bytes(16)):
    return bytes(8) + name + bytes(16) + struct.pack(">HH", lid, 0)


class SubnetManager(Bench):
    DEVICES = ("lid=1", "lid=2")

    def setUp(self):
        super().setUp()
        self.dev.start()
        self.cq = CompletionQueue(self.dev)
        self.out, self.back = Key(self.dev), Key(self.dev)
        self.qp = QueuePair(self.dev, self.cq, kind=GSI).connect(0, qkey=QKEY)
        self.received = 0

    def send(self, mad, lid=SM, qpn=1):
        """The completions: of the question, and of an answer if there is one."""
        self.machine.write(self.out.pages, mad)
        self.machine.write(self.back.pages, bytes(PAGE))
        if self.qp.offered == self.received:
            self.qp.offer(self.back, 40 + 256)
        self.qp.post(SEND, struct.pack(">QIHH", QKEY << 32, 1 << 31 | qpn, 0, lid) + bytes(32),
                     data(self.out, len(mad)))
        self.machine.step(10 ** 6)
        found = self.cq.poll()
        self.received += len(found) - 1
        return found

    def ask(self, *args, **options):
        """(status, record) of the answer, which is to its question."""
        mad = question(*args, **options)
        self.assertEqual(len(self.send(mad)), 2)
        found = self.machine.read(self.back.pages + 40, 256)
        response = GET if mad[3] == SET else mad[3]
        self.assertEqual(found[:4] + found[8:24], mad[:3] + bytes([0x80 | response]) + mad[8:24])
        return struct.unpack(">H", found[4:6])[0], found[56:]

    def silent(self, *args, **options):
        self.assertEqual([kind for kind, *_ in self.send(*args, **options)], [REQ])

    def test_a_path_leads_to_where_it_is_asked_for(self):
        for given, record in ((DGID, path(name=gid(2))), (DLID, path(2))):
            status, found = self.ask(GET, PATH, record, given)
            self.assertEqual((status, found[8:24], found[24:40], struct.unpack(">HH", found[40:44])),
                             (0, gid(2), gid(1), (2, 1)))
            self.assertEqual((found[49], found[50:52], found[54:57]),
                             (0x81, b"\xff\xff", bytes([0x85, 0x90, 0x92])))

    def test_there_is_no_path_to_what_is_not_there(self):
        for given, record in ((DGID, path(name=gid(3))), (DLID, path(3)), (0, path(2, gid(2))),
                              (DGID, path(name=gid(2)[:15] + b"\2")), (DLID, path(SM)),
                              (DGID, path(name=bytes(16))), (DLID, path(0xc001))):
            self.assertEqual(self.ask(GET, PATH, record, given)[0], NO_RECORDS)

    def test_the_groups_of_ipoib_are_there(self):
        for low in (0xffffffff, 0xff000101, 0x80000000, 1):
            mgid = BROADCAST[:12] + struct.pack(">I", low)
            status, found = self.ask(SET, MEMBER, mgid + gid(1))
            qkey, mlid = struct.unpack(">IH", found[32:38])
            self.assertEqual((status, found[:16], qkey, found[40:42]), (0, mgid, 0xb1b, b"\xff\xff"))
            self.assertTrue(0xc000 <= mlid < 0xffff, hex(mlid))

    def test_another_group_is_made_with_its_key(self):
        record = OTHER + gid(1) + struct.pack(">I", 0x1234567)
        self.assertEqual(self.ask(SET, MEMBER, record)[0], INVALID)
        status, found = self.ask(SET, MEMBER, record, HAS_QKEY)
        self.assertEqual((status, found[:36]), (0, record))
        self.assertEqual(self.ask(SET, MEMBER, gid(2) + record[16:], HAS_QKEY)[0], INVALID)
        self.assertEqual(self.ask(DELETE, MEMBER, record)[0], 0)

    def test_its_class(self):
        self.assertEqual(self.ask(GET, PORT_INFO, b"\xff" * 100), (0, b"\1\2" + bytes(198)))

    def test_what_it_cannot_do(self):
        for method, attribute in ((TABLE, PATH), (GET, MEMBER), (SET, PATH), (GET, SERVICE),
                                  (0x7f, 0xffff)):
            self.assertEqual(self.ask(method, attribute)[0], UNSUPPORTED)

    def test_what_is_no_question(self):
        good = question(GET, PORT_INFO)
        for mad in (good[:255], good + b"\0", good[:55], question(GET, PORT_INFO, version=4),
                    question(0x81, PORT_INFO)):
            self.silent(mad)
        self.silent(good, qpn=0)
        self.silent(good, lid=3)
        self.assertEqual(len(self.send(good)), 2)
