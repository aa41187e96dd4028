# SPDX-License-Identifier: GPL-2.0
"""Faults by way of keys over other keys, and of WQEs that no library makes."""
import unittest

import pyverbs.enums as e
import pyverbs.providers.mlx5.mlx5_enums as dve

from mlx5ctl import Adapter
from raw import MASK_KEY, raw_pair
from rdma import NORESERVE, ODP, PAGE, Buffer, ours, pattern

PAGES = 8
KEY_LIES = 1 << 4           # MLX5_HOSTILE_KEY
GIB = 1 << 30


class Indirect(unittest.TestCase):
    def setUp(self):
        self.adapter = Adapter("mlx5_0")
        self.near, self.far = raw_pair()
        self.src, self.dst = Buffer(PAGES * PAGE), Buffer(PAGES * PAGE)
        self.src[:] = pattern(self.src.length, 6)
        self.smr = self.near.region(self.src)
        self.pinned = Buffer(PAGES * PAGE)
        self.pmr = self.far.region(self.pinned)
        self.dmr = self.far.region(self.dst, ODP)

    def key(self, kinds, variant=0):
        """A key over pages in turn: o on demand, p pinned."""
        where = {"o": (self.dmr.rkey, self.dst), "p": (self.pmr.rkey, self.pinned)}
        entries = [(PAGE, where[kind][0], where[kind][1].address + nr * PAGE)
                   for nr, kind in enumerate(kinds)]
        made, key = self.far.indirect(entries, len(kinds) * PAGE, variant)
        self.addCleanup(made.close)         # before its domain
        return key

    def arrives(self, key, kinds):
        length = len(kinds) * PAGE
        self.assertEqual(self.near.write(self.smr, self.src.address, length, 0, key),
                         e.IBV_WC_SUCCESS)
        for nr, kind in enumerate(kinds):
            place = slice(nr * PAGE, (nr + 1) * PAGE)
            self.assertEqual((self.dst if kind == "o" else self.pinned)[place], self.src[place])

    def test_paged_memory_by_a_key_over_keys(self):
        self.arrives(self.key("oooo"), "oooo")

    @unittest.skipUnless(ours(), "stock's driver stops at the pinned entry, and is asked for ever")
    def test_regress_pinned_memory_beside_paged(self):
        for kinds in ("opoo", "poop", "oppo", "pppo"):
            self.dst.madvise(4)             # MADV_DONTNEED
            self.arrives(self.key(kinds), kinds)

    def test_regress_a_variant_that_its_owner_chose_later(self):
        key = self.key("oo", variant=0x42)
        context = bytes(4) + (0xffffff43).to_bytes(4, "big")
        self.assertEqual(self.far.umr(key, MASK_KEY, context), e.IBV_WC_SUCCESS)
        self.arrives(key + 1, "oo")

    @unittest.skipUnless(ours(), "stock's driver takes it for nothing")
    def test_regress_a_count_of_zero_is_two_gib(self):
        """The first page of so much is brought in, and refused by the other side only."""
        wide = Buffer(2 * GIB, NORESERVE)
        mr = self.near.region(wide, ODP)
        remote = (self.dst.address.to_bytes(8, "big") + self.dmr.rkey.to_bytes(4, "big") +
                  bytes(4))
        data = bytes(4) + mr.lkey.to_bytes(4, "big") + wide.address.to_bytes(8, "big")
        self.assertEqual(self.near.raw(dve.MLX5_OPCODE_RDMA_WRITE, remote + data),
                         e.IBV_WC_REM_ACCESS_ERR)

    @unittest.skipUnless(ours(), "stock's driver is asked for ever")
    def test_regress_a_key_that_never_comes_is_an_error(self):
        self.addCleanup(self.adapter.__setitem__, "hostile", 0)
        self.adapter["hostile"] = KEY_LIES
        self.near.post(e.IBV_WR_RDMA_WRITE, self.smr, self.src.address, PAGE, self.dst.address,
                       self.dmr.rkey)
        self.assertEqual(self.near.status(limit=10), e.IBV_WC_REM_ACCESS_ERR)
