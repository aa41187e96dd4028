# SPDX-License-Identifier: GPL-2.0
"""Translation memory that was never written. A new key's holds what another key's held
before, so an access by it reaches memory of others, without any fault."""
import unittest

import pyverbs.enums as e

from mlx5ctl import Adapter
from rdma import NORESERVE, ODP, PAGE, Buffer, pair, pattern

MIB = 1 << 20
GIB = 1 << 30


class Unwritten(unittest.TestCase):
    """An access by a translation that was never written is counted by the adapter, and finds
    the memory of its region unchanged."""

    def setUp(self):
        self.adapter = Adapter("mlx5_0")
        self.near, self.far = pair()
        self.src = Buffer(16 * PAGE)
        self.src[:] = pattern(self.src.length, 6)
        self.smr = self.near.region(self.src)
        # Of a region that lives on: these pages are what a new table leads to.
        self.others = Buffer(64 * PAGE)
        self.others_mr = self.far.region(self.others)
        self.violations = self.adapter["dma-violations"]

    def write_all(self, mr, buffer, offsets):
        for nr, offset in enumerate(offsets):
            part = self.src[nr % 16 * PAGE:][:PAGE]
            status = self.near.write(self.smr, self.src.address + nr % 16 * PAGE, PAGE,
                                     buffer.address + offset, mr.rkey)
            self.assertEqual(self.adapter["dma-violations"], self.violations,
                             f"at {offset:#x}: a translation that was never written")
            self.assertEqual(status, e.IBV_WC_SUCCESS)
            self.assertEqual(buffer[offset:offset + PAGE], part)
        self.assertFalse(any(self.others[:]))

    def test_a_small_region_has_none(self):
        buffer = Buffer(16 * PAGE)
        self.write_all(self.far.region(buffer, ODP), buffer, range(0, buffer.length, PAGE))

    def test_a_region_of_part_of_a_granule_has_none(self):
        buffer = Buffer(3 * PAGE)
        self.write_all(self.far.region(buffer, ODP), buffer, range(0, buffer.length, PAGE))

    def test_a_region_that_is_written_by_several_umrs_has_none(self):
        buffer = Buffer(64 * MIB, NORESERVE)
        offsets = [at + nr for at in range(0, buffer.length, 8 * MIB) for nr in (0, PAGE)]
        self.write_all(self.far.region(buffer, ODP), buffer, [*offsets, buffer.length - PAGE])

    def test_a_large_region_has_none(self):
        buffer = Buffer(GIB, NORESERVE)
        offsets = [at + nr for at in range(0, buffer.length, 64 * MIB) for nr in (0, PAGE)]
        self.write_all(self.far.region(buffer, ODP), buffer, [*offsets, buffer.length - PAGE])

    def test_an_implicit_region_has_none(self):
        buffer = Buffer(4 * GIB, NORESERVE)
        offsets = [at + nr for at in range(0, buffer.length, GIB // 2) for nr in (0, PAGE)]
        self.write_all(self.far.implicit(), buffer, offsets)

    def test_a_recycled_key_has_none(self):
        """Of a region that had all of its pages, and ended."""
        first = Buffer(16 * PAGE)
        first[:] = self.src[:]
        self.far.region(first, ODP).close()
        for _ in range(2):
            buffer = Buffer(16 * PAGE)
            mr = self.far.region(buffer, ODP)
            self.write_all(mr, buffer, range(0, buffer.length, PAGE))
            mr.close()
        self.assertEqual(first[:], self.src[:])
