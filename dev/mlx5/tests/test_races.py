# SPDX-License-Identifier: GPL-2.0
"""Races of the driver's end of a region and of its queue of UMRs, as they were published
of other drivers (dev/gate/cves.md)."""
import ctypes
import mmap
import os
import time
import traceback
import unittest

import pyverbs.enums as e

import stops
from mlx5ctl import Adapter
from raw import raw_pair
from rdma import LIBC, ODP, PAGE, Buffer, fences, ours, pair, pattern

PAGES = 32
KEEP_SIZE, PUNCH_HOLE = 1, 2        # FALLOC_FL_*
MILLISECOND = 10 ** 6


class Shared(Buffer):
    """Memory of a file, the pages of which another process can take away."""

    def __init__(self, file, length):
        # pylint: disable=super-init-not-called
        self.length = length
        self.map = mmap.mmap(file, length)
        self.address = ctypes.addressof((ctypes.c_char * length).from_buffer(self.map))


def punch(file, length):
    if LIBC.fallocate(file, KEEP_SIZE | PUNCH_HOLE, ctypes.c_long(0), ctypes.c_long(length)):
        raise OSError(ctypes.get_errno(), "fallocate")


def child(what):
    """Run it in a process of its own: a call of libibverbs holds Python's lock."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            what()
            status = 0
        except BaseException:       # pylint: disable=broad-except
            traceback.print_exc()
        os._exit(status)
    return pid


@unittest.skipUnless(ours(), "stock's driver goes on after a UMR that failed")
class Races(unittest.TestCase):
    def setUp(self):
        self.adapter = Adapter("mlx5_0")
        self.fences = fences()

    def ends(self, pid):
        self.assertEqual(os.waitpid(pid, 0)[1], 0)

    def test_regress_pages_go_between_revocation_and_destruction_of_their_key(self):
        """CVE-2025-21732: the key is no longer the region's, and is not changed for it."""
        stops.need(self)
        file = os.memfd_create("pages")
        os.ftruncate(file, PAGES * PAGE)
        (ready, tell), (wait, go) = os.pipe(), os.pipe()

        def deregister():
            far = pair()[1]
            buffer = Shared(file, PAGES * PAGE)
            buffer[:] = pattern(buffer.length, 1)
            mr = far.region(buffer, ODP)            # brings the pages in
            assert self.adapter.translation(mr.rkey, buffer.address, 0)[1]
            os.write(tell, b"r")
            os.read(wait, 1)
            mr.close()

        pid = child(deregister)
        self.assertEqual(os.read(ready, 1), b"r")
        stops.stop("mlx5_core_destroy_mkey")
        os.write(go, b"g")
        stops.reached()
        wqes, start = self.adapter["umr-wqes"], time.monotonic()
        punch(file, PAGES * PAGE)
        self.assertLess(time.monotonic() - start, 5)
        self.assertEqual(self.adapter["umr-wqes"], wqes)
        stops.go()
        self.ends(pid)
        self.assertEqual(fences(), self.fences)
        os.close(file)

    def test_regress_others_lose_no_umr_when_one_fails(self):
        """CVE-2025-21892: what the adapter has not executed when the queue is reset is posted
        again, and no task waits in vain."""
        def lose():
            near, far = raw_pair()
            src = Buffer(PAGE)
            smr = near.region(src)
            for _ in range(10):
                buffer = Buffer(PAGE)
                mr = far.region(buffer, ODP)
                assert near.write(smr, src.address, PAGE, buffer.address,
                                  mr.rkey) == e.IBV_WC_SUCCESS
                assert far.local_inv(mr.rkey) == e.IBV_WC_SUCCESS
                buffer.madvise(mmap.MADV_DONTNEED)
                mr.close()

        def go_on():
            near, far = pair()
            src, dst = Buffer(PAGES * PAGE), Buffer(PAGES * PAGE)
            smr, dmr = near.region(src), far.region(dst, ODP)
            for seed in range(20):
                src[:] = pattern(src.length, seed)
                assert near.write(smr, src.address, src.length, dst.address,
                                  dmr.rkey) == e.IBV_WC_SUCCESS
                assert dst[:] == src[:]
                dst.madvise(mmap.MADV_DONTNEED)

        self.addCleanup(self.adapter.__setitem__, "umr-delay", self.adapter["umr-delay"])
        self.adapter["umr-delay"] = 5 * MILLISECOND
        for pid in [child(what) for what in (lose, go_on, go_on, go_on, go_on)]:
            self.ends(pid)
        self.assertEqual(fences(), self.fences)
