# SPDX-License-Identifier: GPL-2.0
"""What a page fault brings in ahead: where access is in order few faults are taken,
where it is not none is spared, and nothing is brought that is of no use."""
import mmap
import unittest

import pyverbs.enums as e

from mlx5ctl import Adapter
from rdma import NORESERVE, ODP, PAGE, Buffer, End, ours, pair, pattern

PAGES = 1024
LIMIT = "/sys/module/ib_uverbs/parameters/odp_ahead"


@unittest.skipUnless(ours(), "stock brings in nothing ahead")
class Ahead(unittest.TestCase):
    def setUp(self):
        self.adapter = Adapter("mlx5_0")
        self.near, self.far = pair()
        self.src = Buffer(PAGE)
        self.smr = self.near.region(self.src)
        # Begins anywhere in a huge page: none of those.
        self.dst = Buffer((PAGES + 1) * PAGE, NORESERVE)
        self.dst.madvise(mmap.MADV_NOHUGEPAGE)
        self.dmr = self.far.region(self.dst, ODP)
        self.addCleanup(self.adapter.__setitem__, "fault-around", self.adapter["fault-around"])
        self.adapter["fault-around"] = 0

    def faults(self):
        return self.adapter["faults-memory" if self.adapter["memory-scheme"] else "faults-rdma"]

    def write(self, page, near=None):
        self.src[:] = pattern(PAGE, page)
        status = (near or self.near).write(self.smr, self.src.address, PAGE,
                                           self.dst.address + page * PAGE, self.dmr.rkey)
        self.assertEqual(status, e.IBV_WC_SUCCESS)
        self.assertEqual(self.dst[page * PAGE:(page + 1) * PAGE], self.src[:])

    def held(self):
        return len(self.pages_held())

    def cost(self, pages):
        before = self.faults()
        for page in pages:
            self.write(page)
        return self.faults() - before

    def test_memory_in_order_takes_few_faults(self):
        """Ten double what is there until a whole chunk comes at once."""
        self.assertLessEqual(self.cost(range(PAGES)), 16)

    def test_memory_in_order_that_the_process_has_takes_few_faults(self):
        for page in range(PAGES):
            self.dst[page * PAGE:page * PAGE + 1] = b"x"
        self.assertLessEqual(self.cost(range(PAGES)), 16)

    def test_random_access_takes_a_fault_a_page_and_brings_no_other(self):
        pages = [nr * 387 % PAGES for nr in range(200)]
        self.assertEqual(self.cost(pages), len(pages))
        self.assertEqual(self.held(), len(pages))

    def test_no_more_is_ahead_than_was_used(self):
        self.cost(range(20))
        self.assertLessEqual(self.held(), 2 * 20 + 3)

    def pages_held(self):
        return [nr for nr in range(PAGES + 1) if
                self.adapter.translation(self.dmr.rkey, self.dst.address, nr * PAGE)[1]]

    def test_what_the_device_expects_to_need_comes_if_it_is_there(self):
        """The memory scheme's counts of pages before and behind; none is allocated for it."""
        if not self.adapter["memory-scheme"]:
            self.skipTest("the transport scheme has no such counts")
        for page in range(90, 105):
            self.dst[page * PAGE:page * PAGE + 1] = b"x"
        self.adapter["fault-around"] = 8
        self.assertEqual(self.cost([100]), 1)
        self.assertEqual(self.pages_held(), list(range(92, 105)))
        # At both ends of the region, and in memory that is not there.
        self.assertEqual(self.cost([0, PAGES]), 2)
        self.assertEqual(self.pages_held(), [0, *range(92, 105), PAGES])

    def test_two_queues_in_one_region(self):
        other, end = End("mlx5_0", on=self.near), End("mlx5_0", on=self.far)
        other.connect(end)
        end.connect(other)
        self.addCleanup(other.close)
        self.addCleanup(end.close)
        before = self.faults()
        for page in range(PAGES // 2):
            self.write(page)
            self.write(PAGES // 2 + page, other)
        self.assertLessEqual(self.faults() - before, 30)

    def test_nothing_is_ahead_when_told_so(self):
        with open(LIMIT, encoding="ascii") as file:
            old = file.read()
        self.addCleanup(lambda: self.limit(old))
        self.limit("0")
        self.assertEqual(self.cost(range(64)), 64)
        self.assertEqual(self.held(), 64)

    def limit(self, value):
        with open(LIMIT, "w", encoding="ascii") as file:
            file.write(value)

    def test_a_hole_ends_it_and_fails_only_what_is_in_it(self):
        self.dst.protect(0, 100 * PAGE, PAGE)
        self.cost(range(100))
        self.src[:] = pattern(PAGE, 1)
        status = self.near.write(self.smr, self.src.address, PAGE,
                                 self.dst.address + 100 * PAGE, self.dmr.rkey)
        self.assertEqual(status, e.IBV_WC_REM_ACCESS_ERR)


if __name__ == "__main__":
    unittest.main()
