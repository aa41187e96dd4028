# SPDX-License-Identifier: GPL-2.0
"""Keys over other keys: what the outer one promises is limited by what the inner one has."""
from adapter import READ, REMOTE_ACCESS, REQ, REQ_ERR, WRITE, Key, KeyOverKeys, data, remote
from bench import Bench
from qtest import PAGE

LARGE = 13                      # of two pages
LOCAL_PROTECTION = 0x04
OTHERS = b"others' memory"


class Bounds(Bench):
    """The inner region ends in the middle of its last page, as a pinned one may whose memory
    lies in one piece.  What follows belongs to others."""

    def setUp(self):
        super().setUp()
        self.dev.start()
        self.pair_up()
        self.own = Key(self.dev, 4)
        if self.machine.pages() >> 12 & 1 == 0:
            self.machine.pages()
        self.inner = Key(self.dev, 2, shift=LARGE, length=3 * PAGE)
        self.machine.write(self.inner.pages, bytes(3 * PAGE))
        self.machine.write(self.inner.pages + 3 * PAGE, OTHERS)
        self.machine.write(self.own.pages, b"m" * 4 * PAGE)

    def outer(self, by=0):
        """Each entry is BY bytes further on than the inner region's."""
        start = self.inner.address
        return KeyOverKeys(self.dev, self.inner,
                           [start + by + (nr << LARGE) for nr in range(2)], start, LARGE)

    def ends(self, *completion):
        self.machine.step()
        self.assertEqual([one[:2] for one in self.cq.poll()], [completion])
        self.assertEqual(self.machine.read(self.inner.pages + 3 * PAGE, len(OTHERS)), OTHERS)

    def test_a_write_ends_where_the_inner_one_does(self):
        outer = self.outer()
        self.near.post(WRITE, remote(outer), data(self.own, 3 * PAGE))
        self.ends(REQ, 0)
        self.assertEqual(self.machine.read(self.inner.pages + 3 * PAGE - 1, 1), b"m")

    def test_a_write_that_goes_on_is_refused(self):
        self.near.post(WRITE, remote(self.outer()), data(self.own, 3 * PAGE + 8))
        self.ends(REQ_ERR, REMOTE_ACCESS)

    def test_a_write_that_is_shifted_is_refused(self):
        self.near.post(WRITE, remote(self.outer(by=0x490)), data(self.own, 3 * PAGE))
        self.ends(REQ_ERR, REMOTE_ACCESS)

    def test_a_read_brings_nothing_of_what_follows(self):
        self.near.post(READ, remote(self.outer()), data(self.own, 3 * PAGE + len(OTHERS)))
        self.ends(REQ_ERR, REMOTE_ACCESS)
        self.assertNotIn(OTHERS, self.machine.read(self.own.pages, 4 * PAGE))

    def test_what_is_sent_ends_there_too(self):
        self.near.post(WRITE, remote(self.own), data(self.outer(), 3 * PAGE + len(OTHERS)))
        self.ends(REQ_ERR, LOCAL_PROTECTION)
        self.assertNotIn(OTHERS, self.machine.read(self.own.pages, 4 * PAGE))
