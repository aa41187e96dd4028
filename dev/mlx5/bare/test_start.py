# SPDX-License-Identifier: GPL-2.0
"""The harness itself: an adapter without a driver moves data between two queue pairs."""
from adapter import REQ, RESP_SEND, SEND, WRITE, Key, data, remote
from bench import Bench


class Traffic(Bench):
    def setUp(self):
        super().setUp()
        self.dev.start()
        self.pair_up()
        self.src, self.dst = Key(self.dev), Key(self.dev)
        self.machine.write(self.src.pages, b"one two three")

    def test_a_write(self):
        self.near.post(WRITE, remote(self.dst), data(self.src, 13))
        self.machine.step()
        self.assertEqual(self.cq.poll(), [(REQ, 0, 0)])
        self.assertEqual(self.machine.read(self.dst.pages, 13), b"one two three")

    def test_a_send(self):
        self.far.offer(self.dst, 64)
        self.near.post(SEND, data(self.src, 13))
        self.machine.step()
        self.assertEqual(sorted(self.cq.poll()), [(REQ, 0, 0), (RESP_SEND, 0, 0)])
        self.assertEqual(self.machine.read(self.dst.pages, 13), b"one two three")
