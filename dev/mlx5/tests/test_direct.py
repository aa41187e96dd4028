# SPDX-License-Identifier: GPL-2.0
"""An adapter without tables of keys (scenario "direct"): what is refused, and large
regions with one table of pages."""
import errno
import unittest

import pyverbs.enums as e
from pyverbs.mr import MR
from pyverbs.pyverbs_error import PyverbsRDMAError

from mlx5ctl import Adapter
from rdma import NORESERVE, ODP, PAGE, Buffer, ours, pair, pattern

GIB, TIB = 1 << 30, 1 << 40


class Direct(unittest.TestCase):
    def setUp(self):
        self.near, self.far = pair()
        caps = self.far.context.query_device_ex().odp_caps.general_caps
        self.assertTrue(caps & e.IBV_ODP_SUPPORT)
        if caps & e.IBV_ODP_SUPPORT_IMPLICIT:
            self.skipTest("the adapter has tables of keys")

    def error_of(self, length, **where):
        with self.assertRaises(PyverbsRDMAError) as caught:
            MR(self.far.pd, length, ODP, **where)
        return caught.exception.error_code

    def test_regress_an_implicit_region_is_not_supported(self):
        self.assertEqual(self.error_of(0, implicit=True),
                         errno.EOPNOTSUPP if ours() else errno.EINVAL)

    @unittest.skipUnless(ours(), "stock's driver makes a shorter table")
    def test_a_region_of_more_pages_than_a_table_has_is_refused(self):
        """By the driver: the adapter is not asked."""
        refused = Adapter("mlx5_0")["cmd-errors"]
        self.assertEqual(self.error_of(32 * TIB + PAGE, address=1 << 30), errno.EINVAL)
        self.assertEqual(Adapter("mlx5_0")["cmd-errors"], refused)

    def test_a_large_region_has_one_table_of_pages(self):
        buffer, src = Buffer(GIB, NORESERVE), Buffer(2 * PAGE)
        src[:] = pattern(src.length, 4)
        smr, mr = self.near.region(src), self.far.region(buffer, ODP)
        for at in (0, GIB // 2 - PAGE, GIB - 2 * PAGE):
            self.assertEqual(self.near.write(smr, src.address, src.length, buffer.address + at,
                                             mr.rkey), e.IBV_WC_SUCCESS)
            self.assertEqual(buffer[at:at + src.length], src[:])
        self.assertEqual(Adapter("mlx5_0").leaf(mr.rkey, buffer.address, buffer.address), mr.rkey)
