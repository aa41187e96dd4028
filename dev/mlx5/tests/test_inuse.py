# SPDX-License-Identifier: GPL-2.0
"""What the adapter does not destroy while it is in use, and what the driver makes of
that: an error for its owner, and nothing for others."""
import mmap
import os
import time
import unittest

import pyverbs.enums as e
from pyverbs.mr import MW, MWBind, MWBindInfo
from pyverbs.pd import PD
from pyverbs.pyverbs_error import PyverbsError, PyverbsRDMAError

from devx import IndirectKey, klm, open_device
from mlx5ctl import Adapter
from raw import MASK_FREE, MASK_LEN, raw_pair
from rdma import ODP, PAGE, Buffer, fences, ours, pair, pattern, provokes
from test_umem import Maker


def closes(thing):
    """False: the adapter keeps it."""
    try:
        thing.close()
    except (PyverbsError, PyverbsRDMAError):
        return False
    return True


class InUse(unittest.TestCase):
    def setUp(self):
        provokes(self, "mlx5_0")
        self.adapter = Adapter("mlx5_0")
        self.near, self.far = pair()
        self.src, self.dst = Buffer(4 * PAGE), Buffer(4 * PAGE)
        self.src[:] = pattern(self.src.length, 7)

    def written(self):
        smr, dmr = self.near.region(self.src), self.far.region(self.dst, ODP)
        self.assertEqual(self.near.write(smr, self.src.address, self.src.length, self.dst.address,
                                         dmr.rkey), e.IBV_WC_SUCCESS)
        self.assertEqual(self.dst[:], self.src[:])

    def test_a_region_ends_after_its_window(self):
        mr = self.far.region(self.dst, ODP | e.IBV_ACCESS_MW_BIND)
        window = self.far.window(mr, self.dst.address, PAGE)
        refused = self.adapter["cmd-errors"]
        # Stock's driver does not destroy a key that it can use again.
        self.assertNotEqual(closes(mr), ours())
        self.assertEqual(self.adapter["cmd-errors"] - refused, ours())
        window.close()
        self.assertTrue(closes(mr))
        self.written()

    def test_a_window_that_was_bound_to_another_region_keeps_that_one(self):
        first = self.far.region(self.src, ODP | e.IBV_ACCESS_MW_BIND)
        second = self.far.region(self.dst, ODP | e.IBV_ACCESS_MW_BIND)
        window = self.far.window(first, self.src.address, PAGE)
        info = MWBindInfo(second, self.dst.address, PAGE, e.IBV_ACCESS_REMOTE_WRITE)
        self.far.qp.bind_mw(window, MWBind(info, e.IBV_SEND_SIGNALED))
        self.assertEqual(self.far.status(), e.IBV_WC_SUCCESS)
        self.assertTrue(closes(first))
        self.assertNotEqual(closes(second), ours())
        window.close()
        self.assertTrue(closes(second))

    def test_a_program_ends_whose_window_is_older_than_its_region(self):
        """Its objects go in the reverse order, so the region is tried twice."""
        before = fences()
        child = os.fork()
        if not child:
            status = 1
            try:
                _, far = pair()
                window = MW(far.pd, e.IBV_MW_TYPE_1)
                mr = far.region(self.dst, ODP | e.IBV_ACCESS_MW_BIND)
                info = MWBindInfo(mr, self.dst.address, PAGE, e.IBV_ACCESS_REMOTE_WRITE)
                far.qp.bind_mw(window, MWBind(info, e.IBV_SEND_SIGNALED))
                status = int(far.status() != e.IBV_WC_SUCCESS)
            finally:
                os._exit(status)
        keys = self.adapter["keys"]
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertLessEqual(self.adapter["keys"], keys)
        self.assertEqual(fences(), before)
        self.written()

    def test_a_domain_goes_after_its_last_key(self):
        """Of a key that a program makes by a command of its own, the kernel does not know
        that it has a domain."""
        context = open_device("mlx5_0")
        pd = PD(context)
        key = IndirectKey(context, pd, klm(PAGE, 0x10000, 0) * 4, PAGE)
        self.assertFalse(closes(pd))
        key.object.close()
        self.assertTrue(closes(pd))
        self.written()

    def test_a_completion_queue_and_a_domain_go_after_a_queue_pair_of_a_program(self):
        """Which the kernel does not know to use them, either."""
        maker = Maker()
        qp = maker.qp(maker.umem(), maker.umem())
        self.assertFalse(closes(maker.completions))
        self.assertFalse(closes(maker.pd))
        qp.close()
        self.assertTrue(closes(maker.completions))
        self.assertTrue(closes(maker.pd))
        self.written()


@unittest.skipUnless(ours(), "stock's driver has children of other sizes")
class Guessed(unittest.TestCase):
    """A key that no program was told of: of a part of a region. Its owner can find it out
    by trying, and bind a window to it."""

    def setUp(self):
        provokes(self, "mlx5_0")
        self.adapter = Adapter("mlx5_0")
        self.near, self.far = raw_pair()
        self.src = Buffer(PAGE)
        self.smr = self.near.region(self.src)
        # The adapter takes pages along that are beside the one it asks for. If they were of
        # something else, they would stay, and the part with them.
        self.buffer = Buffer(3 * PAGE)
        self.buffer[:] = pattern(self.buffer.length, 7)
        self.page = self.buffer.address + PAGE
        self.mr = self.far.implicit(ODP | e.IBV_ACCESS_MW_BIND)
        self.assertEqual(self.near.write(self.smr, self.src.address, PAGE, self.page,
                                         self.mr.rkey), e.IBV_WC_SUCCESS)
        self.leaf = self.adapter.leaf(self.mr.rkey, 0, self.page)

    def exists(self, key):
        """By any variant: it is another one once the key is invalid."""
        for variant in range(256):
            self.adapter["key"] = key & ~0xff | variant
            if self.adapter["page-shift"]:
                return True
        return False

    def await_end(self, key):
        end = time.monotonic() + 20
        while self.exists(key) and time.monotonic() < end:
            time.sleep(0.1)
        self.assertFalse(self.exists(key))

    def bind(self, key):
        window = MW(self.far.pd, e.IBV_MW_TYPE_1)
        self.assertEqual(self.far.umr(window.rkey, MASK_FREE | MASK_LEN,
                                      context=bytes(28) + PAGE.to_bytes(4, "big"),
                                      translations=klm(PAGE, key, self.page)),
                         e.IBV_WC_SUCCESS)
        return window

    def test_regress_a_part_goes_when_its_window_has_gone(self):
        window = self.bind(self.leaf)
        refused = self.adapter["cmd-errors"]
        # So that it is not used again, but destroyed.
        self.assertEqual(self.far.local_inv(self.leaf), e.IBV_WC_SUCCESS)
        self.buffer.madvise(mmap.MADV_DONTNEED)
        end = time.monotonic() + 20
        while self.adapter["cmd-errors"] == refused and time.monotonic() < end:
            time.sleep(0.1)
        self.assertGreater(self.adapter["cmd-errors"], refused)
        self.assertTrue(self.exists(self.leaf))
        window.close()
        self.await_end(self.leaf)
        self.mr.close()

    def test_regress_all_parts_go_when_the_region_has_ended_before_the_window(self):
        window = self.bind(self.leaf)
        self.assertEqual(self.far.local_inv(self.leaf), e.IBV_WC_SUCCESS)
        self.buffer.madvise(mmap.MADV_DONTNEED)
        self.mr.close()
        self.assertTrue(self.exists(self.leaf))
        window.close()
        self.await_end(self.leaf)
