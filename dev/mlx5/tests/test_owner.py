# SPDX-License-Identifier: GPL-2.0
"""What the owner of a region may do to its key by UMRs of its own, and regions that
are too long: neither must hurt the owners of others.  An adapter that was taken off
the bus has forgotten everybody's keys, and none of the later accesses works."""
import mmap
import os
import time
import unittest

import pyverbs.enums as e
from pyverbs.mr import MR
from pyverbs.providers.mlx5.mlx5dv import Mlx5DevxObj
from pyverbs.pyverbs_error import PyverbsRDMAError
from pyverbs.wr import SGE

from mlx5ctl import Adapter
from raw import FREE, MASK_FREE, MASK_LEN, MASK_LW, MASK_PD, MASK_RW, raw_pair
from rdma import (ALL, NORESERVE, ODP, PAGE, Buffer, End, become_nobody, fences, ours, pair,
                  pattern, provokes)

PAGES = 64
TIB = 1 << 40
UMR_FAILS = 1 << 10         # MLX5_HOSTILE_UMR
SECOND = 10 ** 9


def as_nobody(what):
    """What a program without rights does, in a process of its own; False: it failed."""
    child = os.fork()
    if not child:
        become_nobody()
        try:
            what()
            os._exit(0)
        except BaseException as error:      # pylint: disable=broad-except
            print(f"as nobody: {type(error).__name__}: {error}", flush=True)
            os._exit(1)
    return not os.waitpid(child, 0)[1]


class Refused(unittest.TestCase):
    """What no adapter may let a program do, with any driver."""

    def setUp(self):
        self.adapter = Adapter("mlx5_0")
        self.near, self.far = raw_pair()
        self.buffer = Buffer(16 * PAGE)
        self.buffer[:] = pattern(self.buffer.length, 1)

    def refused(self, mr, mask, context=b"", translations=b""):
        entry = self.adapter.translation(mr.rkey, self.buffer.address, 0)
        self.assertNotEqual(self.far.umr(mr.rkey, mask, context, translations),
                            e.IBV_WC_SUCCESS)
        self.assertEqual(self.adapter.translation(mr.rkey, self.buffer.address, 0), entry)

    def test_to_write_translations_of_pages(self):
        self.refused(self.far.region(self.buffer), 0,
                     translations=(0x1003).to_bytes(8, "big") * 8)

    def test_to_give_oneself_rights_on_pages(self):
        self.refused(self.far.region(self.buffer, 0), MASK_LW | MASK_RW, context=b"\xff" * 64)

    def test_to_make_a_region_longer(self):
        self.refused(self.far.region(self.buffer), MASK_LEN, context=b"\x7f" * 64)

    def test_to_take_a_key_to_another_domain(self):
        self.refused(self.far.region(self.buffer), MASK_PD)

    def test_to_touch_a_key_of_another_domain(self):
        self.refused(self.near.region(self.buffer), MASK_FREE, FREE.to_bytes(4, "big"))


@unittest.skipUnless(ours(), "stock's driver goes on after a UMR that failed")
class Lost(unittest.TestCase):
    """A region whose translations cannot be changed any more."""

    def setUp(self):
        self.adapter = Adapter("mlx5_0")
        self.other = pair()
        self.kept = Buffer(PAGES * PAGE)
        self.omr = self.other[1].region(self.kept, ODP)
        self.src = Buffer(PAGES * PAGE)
        self.src[:] = pattern(self.src.length, 2)
        self.smr = self.other[0].region(self.src)
        self.fences = fences()
        self.errors = self.adapter["cmd-errors"]
        self.write(self.omr, self.kept)
        self.addCleanup(self.adapter.__setitem__, "hostile", 0)

    def write(self, mr, buffer):
        status = self.other[0].write(self.smr, self.src.address, self.src.length, buffer.address,
                                     mr.rkey)
        self.assertEqual(status, e.IBV_WC_SUCCESS)
        self.assertEqual(buffer[:self.src.length], self.src[:])

    def others_go_on(self):
        """Nobody else noticed: their keys are the same, and work."""
        self.assertEqual(fences(), self.fences)
        self.src[:] = pattern(self.src.length, 3)
        self.write(self.omr, self.kept)

    def soon(self, what, seconds=5):
        start = time.monotonic()
        what()
        self.assertLess(time.monotonic() - start, seconds)

    def prefetch(self, end, mr, address, length):
        end.pd.advise_mr(e._IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, e._IBV_ADVISE_MR_FLAG_FLUSH,
                         [SGE(address, length, mr.lkey)])

    def test_regress_no_region_is_longer_than_its_table(self):
        """A table of pages could not have so many, so the region has one of keys."""
        def what():
            end = pair()[0]
            for size in (32 * TIB, 33 * TIB, 63 * TIB):
                buffer = Buffer(size, NORESERVE)
                mr = MR(end.pd, size, ODP, address=buffer.address)
                self.prefetch(end, mr, buffer.address, PAGE)
                self.prefetch(end, mr, buffer.address + size - PAGE, PAGE)
                self.soon(buffer.unmap)
                self.soon(mr.close)
        self.assertTrue(as_nobody(what))
        self.others_go_on()

    def lose_by_local_inv(self):
        """The attack, by a program of its own: a far end whose key was invalidated."""
        near, far = raw_pair()
        buffer = Buffer(PAGES * PAGE)
        mr = far.region(buffer, ODP)
        src = Buffer(PAGES * PAGE)
        smr = near.region(src, ODP)
        assert near.write(smr, src.address, src.length, buffer.address,
                          mr.rkey) == e.IBV_WC_SUCCESS
        assert far.local_inv(mr.rkey) == e.IBV_WC_SUCCESS
        return near, far, smr, src, mr, buffer

    def test_regress_local_inv_costs_its_own_region_only(self):
        def what():
            near, _, smr, src, mr, buffer = self.lose_by_local_inv()
            self.soon(buffer.unmap)
            assert near.write(smr, src.address, 8, buffer.address, mr.rkey) != e.IBV_WC_SUCCESS
            mr.close()
        self.assertTrue(as_nobody(what))
        self.others_go_on()
        self.assertEqual(self.adapter["cmd-errors"], self.errors)

    def test_regress_an_invalidated_key_that_lost_pages_stays_invalid(self):
        def what():
            near, far, smr, src, mr, buffer = self.lose_by_local_inv()
            buffer.madvise(mmap.MADV_DONTNEED, 3 * PAGE, PAGE)
            assert far.umr(mr.rkey, MASK_FREE) != e.IBV_WC_SUCCESS
            assert near.write(smr, src.address, 8, buffer.address, mr.rkey) != e.IBV_WC_SUCCESS
        self.assertTrue(as_nobody(what))
        self.others_go_on()

    def test_an_invalidated_key_may_be_enabled_while_its_pages_are_there(self):
        near, far, smr, src, mr, buffer = self.lose_by_local_inv()
        key = mr.rkey & ~0xff               # LOCAL_INV has set the variant to 0
        if far.umr(key, MASK_FREE) == e.IBV_WC_SUCCESS:
            self.assertEqual(near.write(smr, src.address, 8, buffer.address, key),
                             e.IBV_WC_SUCCESS)
        self.others_go_on()

    def test_regress_prefetch_of_an_invalidated_key_fails(self):
        _, far, _, _, mr, buffer = self.lose_by_local_inv()
        buffer.madvise(mmap.MADV_DONTNEED)
        wqes = self.adapter["umr-wqes"]
        for _ in range(3):
            with self.assertRaises(PyverbsRDMAError):
                self.prefetch(far, mr, buffer.address, buffer.length)
        self.assertEqual(self.adapter["umr-wqes"], wqes)
        self.others_go_on()

    def test_regress_a_child_that_was_invalidated_costs_itself_only(self):
        near, far = raw_pair()
        buffer = Buffer(1 << 31, NORESERVE)
        mr, smr = far.implicit(), near.region(self.src)
        places = [buffer.address + (1 << 29), buffer.address + (1 << 29) + (1 << 30)]
        for place in places:
            self.assertEqual(near.write(smr, self.src.address, PAGE, place, mr.rkey),
                             e.IBV_WC_SUCCESS)
        key = self.adapter.leaf(mr.rkey, 0, places[0])
        self.assertEqual(far.local_inv(key), e.IBV_WC_SUCCESS)
        self.soon(lambda: buffer.madvise(mmap.MADV_DONTNEED, 1 << 29, PAGE))
        # The region is as good as before, when its child has been replaced.
        end = time.monotonic() + 20
        while self.adapter.leaf(mr.rkey, 0, places[0]) == key and time.monotonic() < end:
            time.sleep(0.1)
        for place in places:
            self.assertEqual(near.write(smr, self.src.address, PAGE, place, mr.rkey),
                             e.IBV_WC_SUCCESS)
        mr.close()
        self.others_go_on()
        self.assertEqual(self.adapter["cmd-errors"], self.errors)

    def test_regress_a_key_that_cannot_be_revoked_is_destroyed_once(self):
        far = pair()[1]
        buffer = Buffer(PAGES * PAGE)
        buffer[:] = self.src[:]
        mr = far.region(buffer, ODP)            # brings the pages in
        self.adapter["hostile"] = UMR_FAILS
        self.soon(lambda: buffer.madvise(mmap.MADV_DONTNEED))
        self.adapter["hostile"] = 0
        # Its number is another one's now, which must survive the first one's end.
        after = Buffer(PAGES * PAGE)
        amr = self.other[1].region(after, ODP)
        self.assertEqual(amr.rkey >> 8, mr.rkey >> 8)
        self.write(amr, after)
        buffer.madvise(mmap.MADV_DONTNEED)
        with self.assertRaises(PyverbsRDMAError):
            self.prefetch(far, mr, buffer.address, buffer.length)
        mr.close()
        after.madvise(mmap.MADV_DONTNEED)
        self.write(amr, after)
        self.others_go_on()
        self.assertEqual(self.adapter["cmd-errors"], self.errors)

    def test_regress_a_region_ends_whose_key_cannot_be_revoked(self):
        far = pair()[1]
        buffer = Buffer(PAGES * PAGE)
        buffer[:] = self.src[:]
        mr = far.region(buffer, ODP)
        self.adapter["hostile"] = UMR_FAILS
        self.soon(mr.close)
        self.adapter["hostile"] = 0
        self.others_go_on()
        self.assertEqual(self.adapter["cmd-errors"], self.errors)

    def test_regress_slow_is_not_stuck(self):
        """A zap that is tried again waits longer than the adapter may do nothing."""
        far = pair()[1]
        buffer = Buffer(PAGES * PAGE)
        buffer[:] = self.src[:]
        mr = far.region(buffer, ODP)
        self.addCleanup(self.adapter.__setitem__, "umr-delay", self.adapter["umr-delay"])
        self.adapter["umr-delay"] = 12 * SECOND
        self.adapter["hostile"] = UMR_FAILS
        start = time.monotonic()
        buffer.madvise(mmap.MADV_DONTNEED)
        self.assertGreater(time.monotonic() - start, 30)
        self.adapter["hostile"], self.adapter["umr-delay"] = 0, 0
        mr.close()
        self.others_go_on()


@unittest.skipUnless(ours(), "stock's driver warns of them, or writes where it must not")
class Impossible(unittest.TestCase):
    """What cannot be is refused, and no more: a WARNING would end the run."""

    def setUp(self):
        self.end, self.buffer = End("mlx5_0"), Buffer(PAGE)

    def test_regress_pinned_memory_of_no_bytes(self):
        for offset in (0, 8, PAGE - 8):
            with self.assertRaises(PyverbsRDMAError):
                MR(self.end.pd, 0, ALL, address=self.buffer.address + offset)

    def test_regress_a_change_to_no_bytes(self):
        mr = self.end.region(self.buffer)
        with self.assertRaises(PyverbsRDMAError):
            mr.rereg(e.IBV_REREG_MR_CHANGE_TRANSLATION, self.end.pd, self.buffer.address + 8, 0, 0)

    def test_regress_commands_that_end_too_early(self):
        """KASAN sees what is read or set behind them. Of a CQ, QP, RQ, SQ, RMP, XRQ, SRQ, flow
        table and group, table entries, multicast."""
        provokes(self, "mlx5_0")            # those that are long enough
        near, _ = raw_pair()
        for opcode in (0x400, 0x500, 0x908, 0x904, 0x90c, 0x717, 0x705, 0x930, 0x933, 0x936, 0x829,
                       0x806):
            for length in (16, 32, 64, 128):
                with self.assertRaises(PyverbsRDMAError):
                    Mlx5DevxObj(near.context, opcode.to_bytes(2, "big").ljust(length, b"\0"), 16)
