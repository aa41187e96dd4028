# SPDX-License-Identifier: GPL-2.0
"""Pages that come without the adapter's asking again: a fault that a file system may
hold up has them brought in by a work item, and is handled once more after that."""
import ctypes
import mmap
import os
import time
import unittest

import pyverbs.enums as e

import stops
from mlx5ctl import Adapter
from rdma import LIBC, NORESERVE, ODP, PAGE, Buffer, End, ours, pair, pattern

LEAF = 16 << 20         # of the driver: the part of a region that has a table of pages
MAP_FIXED = 0x10


def map_file(address):
    """A page of a file there, privately: not in memory that is had at once."""
    file = os.open(os.path.realpath(__file__), os.O_RDONLY)
    LIBC.mmap.restype = ctypes.c_size_t
    found = LIBC.mmap(ctypes.c_size_t(address), ctypes.c_size_t(PAGE),
                      mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | MAP_FIXED, file,
                      ctypes.c_size_t(0))
    os.close(file)
    if found != address:
        raise OSError(ctypes.get_errno(), "mmap")


@unittest.skipUnless(ours(), "stock's driver brings no pages in by work items")
class Unasked(unittest.TestCase):
    def setUp(self):
        stops.need(self)
        self.adapter = Adapter("mlx5_0")
        self.near, self.far = pair()
        self.other, end = End("mlx5_0", on=self.near), End("mlx5_0", on=self.far)
        self.other.connect(end)
        end.connect(self.other)
        self.peer = end
        self.src = Buffer(PAGE)
        self.src[:] = pattern(PAGE, 2)
        self.smr = self.near.region(self.src)
        self.buffer = Buffer(6 * LEAF, NORESERVE)
        self.mr = self.far.region(self.buffer, ODP)

    def leaf(self, offset):
        return self.adapter.leaf(self.mr.rkey, self.buffer.address, self.buffer.address + offset)

    def await_no_leaf(self, offset):
        nothing = self.leaf(5 * LEAF)
        until = time.monotonic() + 20
        while self.leaf(offset) != nothing and time.monotonic() < until:
            time.sleep(0.1)
        self.assertEqual(self.leaf(offset), nothing)

    def test_regress_pages_go_before_their_key_is_enabled(self):
        """The leaf goes while the file system has the fault, and its pages come when there
        is none. They go when there is one that cannot be used yet: the adapter has
        nothing to forget, and could not."""
        leaf = -self.buffer.address % LEAF + LEAF
        page = leaf + LEAF // 2
        place = self.buffer.address + page
        map_file(place)
        stops.stop("ib_umem_odp_populate_now", "mlx5_odp_leaf_key_enable")
        self.near.post(e.IBV_WR_RDMA_WRITE, self.smr, self.src.address, PAGE, place, self.mr.rkey)
        stops.reached(1)
        # A page that is had at once comes and goes, and the leaf with it.
        self.assertEqual(self.other.write(self.smr, self.src.address, PAGE,
                                          self.buffer.address + leaf, self.mr.rkey),
                         e.IBV_WC_SUCCESS)
        self.buffer.madvise(mmap.MADV_DONTNEED, leaf, PAGE)
        self.await_no_leaf(leaf)
        stops.go(1)
        stops.reached(2)
        self.buffer.madvise(mmap.MADV_DONTNEED, page, PAGE)
        stops.go(2)
        self.assertEqual(self.near.status(), e.IBV_WC_SUCCESS)
        self.assertEqual(self.buffer[page:page + PAGE], self.src[:])
