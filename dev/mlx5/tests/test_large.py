# SPDX-License-Identifier: GPL-2.0
"""Large regions, whose key is a table of keys: where they begin and end, what they take
on the adapter, and which keys are used again."""
import ctypes
import mmap
import os
import time
import unittest

import pyverbs.enums as e
from pyverbs.mr import MR
from pyverbs.pyverbs_error import PyverbsRDMAError
from pyverbs.wr import SGE

from mlx5ctl import Adapter
from rdma import LIBC, NORESERVE, ODP, PAGE, Buffer, End, ours, pair, pattern, provokes
from test_rereg import REREG_MR, command, uverbs

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
LEAF = 16 * MIB         # of the driver: the part of a region that has a table of pages
HIGH = 3 << 53          # an address of page tables of five levels
NODE = 64 * GIB         # and the part that has a table of leaves
CREATE_MKEY, NO_RESOURCES = 0x200, 0xf


class LargeTest(unittest.TestCase):
    def setUp(self):
        self.adapter = Adapter("mlx5_0")
        self.near, self.far = pair()
        self.src = Buffer(4 * PAGE)
        self.src[:] = pattern(self.src.length, 8)
        self.smr = self.near.region(self.src)

    def connect(self):
        """Again, after an access that failed."""
        self.near, self.far = pair()
        self.smr = self.near.region(self.src)

    def write(self, mr, address, length=2 * PAGE):
        return self.near.write(self.smr, self.src.address, length, address, mr.rkey)

    def written(self, mr, buffer, offset, length=2 * PAGE):
        """Also read back by the adapter, which finds what was written and no other page."""
        self.assertEqual(self.write(mr, buffer.address + offset, length), e.IBV_WC_SUCCESS)
        self.assertEqual(buffer[offset:offset + length], self.src[:length])
        target = Buffer(4 * PAGE)
        tmr = self.near.region(target)
        self.assertEqual(self.near.read(tmr, target.address, length, buffer.address + offset,
                                        mr.rkey), e.IBV_WC_SUCCESS)
        self.assertEqual(target[:length], self.src[:length])
        tmr.close()

    def region(self, buffer, first, last):
        return MR(self.far.pd, last - first, ODP, address=buffer.address + first)


class Bounds(LargeTest):
    def test_accesses_cross_from_one_part_to_the_next(self):
        buffer = Buffer(6 * LEAF, NORESERVE)
        mr = self.far.region(buffer, ODP)
        base = -buffer.address % LEAF
        for nr in range(1, 6):
            self.written(mr, buffer, base + nr * LEAF - PAGE - 100)
        self.written(mr, buffer, 0)
        self.written(mr, buffer, buffer.length - 2 * PAGE)

    def test_a_region_begins_and_ends_inside_a_page(self):
        buffer = Buffer(6 * LEAF, NORESERVE)
        for skip in (100, 9 * PAGE + 100, PAGE, 513 * PAGE):
            first, last = skip, buffer.length - 5 * PAGE - 60
            with self.subTest(skip=skip):
                mr = self.region(buffer, first, last)
                self.written(mr, buffer, first)
                self.written(mr, buffer, last - 2 * PAGE)
                for address in (first - 1, last - 2 * PAGE + 1):
                    before = buffer[first - 1], buffer[last]
                    self.assertEqual(self.write(mr, buffer.address + address),
                                     e.IBV_WC_REM_ACCESS_ERR)
                    self.assertEqual((buffer[first - 1], buffer[last]), before)
                    mr.close()
                    self.connect()
                    mr = self.region(buffer, first, last)
                mr.close()

    def test_a_page_comes_and_goes_beside_those_of_its_granule(self):
        buffer = Buffer(6 * LEAF, NORESERVE)
        buffer.madvise(mmap.MADV_NOHUGEPAGE)
        for skip in (0, 3 * PAGE, 300 * PAGE):
            mr = self.region(buffer, skip, buffer.length)
            base = -buffer.address % LEAF
            for at in (skip, base + LEAF - 3 * PAGE, base + LEAF + 2 * PAGE):
                for nr in range(3):
                    self.written(mr, buffer, at + nr * PAGE, PAGE)
                buffer.madvise(mmap.MADV_DONTNEED, at + PAGE, PAGE)
                for nr in (1, 0, 2):
                    self.written(mr, buffer, at + nr * PAGE, PAGE)
            mr.close()

    def test_a_window_is_over_two_parts(self):
        buffer = Buffer(6 * LEAF, NORESERVE)
        mr = self.far.region(buffer, ODP | e.IBV_ACCESS_MW_BIND)
        at = -buffer.address % LEAF + LEAF - PAGE
        window = self.far.window(mr, buffer.address + at, 2 * PAGE)
        self.assertEqual(self.near.write(self.smr, self.src.address, 2 * PAGE,
                                         buffer.address + at, window.rkey), e.IBV_WC_SUCCESS)
        self.assertEqual(buffer[at:at + 2 * PAGE], self.src[:2 * PAGE])
        window.close()      # before its region

    def test_addresses_of_the_device_are_others(self):
        """By any number of pages, so parts begin anywhere in the process's memory."""
        buffer = Buffer(6 * LEAF, NORESERVE)
        buffer.madvise(mmap.MADV_NOHUGEPAGE)
        for skip, iova in ((0, 0), (0, LEAF - 3 * PAGE), (5 * PAGE, 700 * PAGE + (1 << 40))):
            length = buffer.length - skip
            mr = self.far.region(self.src, ODP)
            rkey = self.moved(mr, buffer.address + skip, length, iova)
            for at in (0, 100, -iova % LEAF + LEAF - PAGE, length - 2 * PAGE):
                for _ in range(2):
                    self.assertEqual(self.near.write(self.smr, self.src.address, 2 * PAGE,
                                                     iova + at, rkey), e.IBV_WC_SUCCESS)
                    self.assertEqual(buffer[skip + at:skip + at + 2 * PAGE], self.src[:2 * PAGE])
                    buffer.madvise(mmap.MADV_DONTNEED, (skip + at) // PAGE * PAGE, PAGE)
            mr.close()

    def moved(self, mr, start, length, iova):
        """Another region in place of this one; by the system call, as pyverbs has no
        addresses of the device. Returns its remote key."""
        answer = Buffer(PAGE)
        words = (start, length, iova, 0)
        os.write(uverbs(), command(REREG_MR, answer.address.to_bytes(8, "little") +
                                   mr.handle.to_bytes(4, "little") +
                                   e.IBV_REREG_MR_CHANGE_TRANSLATION.to_bytes(4, "little") +
                                   b"".join(word.to_bytes(8, "little") for word in words), 2))
        return int.from_bytes(answer[4:8], "little")

    @unittest.skipUnless(ours(), "stock's driver needs half a GiB for that")
    def test_a_region_of_several_nodes(self):
        buffer = Buffer(2 * NODE + GIB, NORESERVE)
        mr = self.far.region(buffer, ODP)
        base = -buffer.address % NODE
        for at in (0, base + NODE - PAGE, buffer.length - 2 * PAGE):
            self.written(mr, buffer, at)


class Context(LargeTest):
    """What is on the adapter."""

    def held(self):
        return self.adapter["context-bytes"]

    def grows(self, make):
        before = self.held()
        mr = make()
        return mr, self.held() - before

    @unittest.skipUnless(ours(), "stock's driver has 2 GiB of translations then")
    def test_a_region_of_1_tib_takes_1_mib_at_most(self):
        buffer = Buffer(TIB, NORESERVE)
        mr, size = self.grows(lambda: self.far.region(buffer, ODP))
        self.assertLessEqual(size, MIB)
        self.written(mr, buffer, TIB // 2)

    def test_an_implicit_region_takes_16_mib_at_most(self):
        mr, size = self.grows(self.far.implicit)
        self.assertLessEqual(size, 16 * MIB)
        buffer = Buffer(2 * MIB)
        self.written(mr, buffer, 0)

    def test_regress_a_key_that_was_not_made_is_not_destroyed(self):
        """In the memory scheme it is that of all that has no child, else the region's."""
        provokes(self, "mlx5_0")
        self.addCleanup(self.adapter.__setitem__, "fail-count", 0)
        self.adapter["fail-opcode"], self.adapter["fail-status"] = CREATE_MKEY, NO_RESOURCES
        self.adapter["fail-count"] = 1
        refused = self.adapter["cmd-errors"]
        with self.assertRaises(PyverbsRDMAError):
            self.far.implicit()
        self.assertEqual(self.adapter["cmd-errors"] - refused, 1)

    def test_an_implicit_region_has_the_memory_of_five_levels(self):
        with open("/proc/cpuinfo") as file:
            if " la57" not in file.read():
                self.skipTest("page tables have four levels")
        # The kernel uses such addresses only where one is asked for.
        LIBC.mmap.restype = ctypes.c_size_t
        address = LIBC.mmap(ctypes.c_size_t(HIGH), ctypes.c_size_t(2 * PAGE), 3,
                            mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, ctypes.c_size_t(0))
        self.assertEqual(address, HIGH)
        self.assertEqual(self.write(self.far.implicit(), address), e.IBV_WC_SUCCESS)
        self.assertEqual(ctypes.string_at(address, 2 * PAGE), self.src[:2 * PAGE])

    @unittest.skipUnless(ours(), "stock's driver keeps keys for any region")
    def test_all_of_it_goes_with_the_region_but_keys_to_be_used_again(self):
        self.far.region(self.src, ODP).close()      # has what the driver makes once
        buffer = Buffer(128 * LEAF, NORESERVE)
        for _ in range(3):
            mr, _ = self.grows(lambda: self.far.region(buffer, ODP))
            for nr in range(128):
                self.assertEqual(self.write(mr, buffer.address + nr * LEAF), e.IBV_WC_SUCCESS)
            mr.close()
            buffer.madvise(mmap.MADV_DONTNEED)
            left = self.held()
        mr, _ = self.grows(lambda: self.far.region(buffer, ODP))
        mr.close()
        self.assertEqual(self.held(), left)
        self.assertLess(left, 8 * MIB)


@unittest.skipUnless(ours(), "stock's driver has one table of pages")
class Recycled(LargeTest):
    """Leaves' keys are used again, by any region."""

    def leaves(self, mr, buffer, nr):
        return [self.adapter.leaf(mr.rkey, buffer.address, buffer.address + at * LEAF)
                for at in range(nr)]

    def test_a_key_that_is_used_again_has_no_page(self):
        first, second = Buffer(8 * LEAF, NORESERVE), Buffer(8 * LEAF, NORESERVE)
        mr = self.far.region(first, ODP)
        for nr in range(8):
            self.written(mr, first, nr * LEAF)
        keys = self.leaves(mr, first, 8)
        mr.close()
        mr = self.far.region(second, ODP)
        for nr in range(8):
            self.written(mr, second, nr * LEAF)
            for page in (2, 16, 1000):
                self.written(mr, second, nr * LEAF + page * PAGE, PAGE)
        again = self.leaves(mr, second, 8)
        self.assertLessEqual({key >> 8 for key in again}, {key >> 8 for key in keys})
        self.assertFalse(set(again) & set(keys))        # the low byte is another one

    def test_leaves_side_by_side_come_and_go_alone(self):
        buffer = Buffer(9 * LEAF, NORESERVE)
        mr = self.far.region(buffer, ODP)
        nothing = self.leaves(mr, buffer, 1)[0]
        for nr in range(8):
            self.written(mr, buffer, nr * LEAF)
            found = self.leaves(mr, buffer, 8)
            self.assertEqual([key != nothing for key in found], [at <= nr for at in range(8)])
        keys = found
        for nr in (1, 2, 6):
            buffer.madvise(mmap.MADV_DONTNEED, nr * LEAF, LEAF)
        end = time.monotonic() + 20
        while found.count(nothing) < 3 and time.monotonic() < end:
            time.sleep(0.1)
            found = self.leaves(mr, buffer, 8)
        self.assertEqual(found, [nothing if nr in (1, 2, 6) else keys[nr] for nr in range(8)])
        for nr in range(8):
            self.written(mr, buffer, nr * LEAF)

    def test_regress_a_region_takes_its_children_to_another_domain(self):
        """Re-registration makes a new region: children are of the old domain."""
        buffer = Buffer(8 * LEAF, NORESERVE)
        mr = self.far.region(buffer, ODP)
        self.written(mr, buffer, 0)
        near, far = End("mlx5_0"), End("mlx5_0", context=self.far.context)
        near.connect(far)
        far.connect(near)
        mr.rereg(e.IBV_REREG_MR_CHANGE_PD, pd=far.pd)
        smr = near.region(self.src)
        for at in (0, LEAF):
            self.assertEqual(near.write(smr, self.src.address, PAGE, buffer.address + at, mr.rkey),
                             e.IBV_WC_SUCCESS)

    def test_a_prefetch_of_all_of_it(self):
        buffer = Buffer(8 * LEAF, NORESERVE)
        mr = self.far.region(buffer, ODP)
        self.far.pd.advise_mr(e._IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, e._IBV_ADVISE_MR_FLAG_FLUSH,
                              [SGE(buffer.address, buffer.length, mr.lkey)])
        faults = self.adapter["faults-rdma"] + self.adapter["faults-memory"]
        for nr in range(8):
            self.written(mr, buffer, nr * LEAF + 5 * PAGE)
        self.assertEqual(self.adapter["faults-rdma"] + self.adapter["faults-memory"], faults)


del LargeTest
