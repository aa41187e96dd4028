# SPDX-License-Identifier: GPL-2.0
"""Keys of keys, with entries as small as they get."""
import threading
import time
import unittest

import pyverbs.enums as e

from devx import IndirectKey, klm, open_device, strided
from mlx5ctl import Adapter
from rdma import Buffer, End, pattern

LENGTH = 64 * 1024
EMPTY = 4000            # entries without a byte, in front of those that have one
PART = 1 / 3            # of the transfer's time, that the machine waits at once


class Strides(unittest.TestCase):
    """Byte by byte, with a long way to each: it takes what it takes, but not
    QEMU's lock."""
    device = "mlx5_0"

    def setUp(self):
        context = open_device(self.device)
        self.near = End(self.device, context=context)
        self.far = End(self.device, on=self.near)
        self.near.connect(self.far)
        self.far.connect(self.near)
        self.src, self.dst = Buffer(LENGTH), Buffer(LENGTH)
        self.src[:] = pattern(LENGTH, 1)
        self.smr, self.dmr = self.near.region(self.src), self.far.region(self.dst)
        self.adapter = Adapter(self.device)

    def key(self, mr, buffer):
        entries = klm(0, mr.lkey, 0) * EMPTY + strided(LENGTH, mr.lkey, buffer.address)
        return IndirectKey(self.near.context, self.near.pd, entries, LENGTH)

    def watch(self, stop):
        """The longest time between two stores to the adapter's registers.  A CPU that
        QEMU's lock stops may also stand elsewhere, in its timer for instance."""
        last = time.monotonic()
        while not stop.is_set():
            self.adapter["scratch"] = self.adapter["scratch"]
            now = time.monotonic()
            self.longest, last = max(self.longest, now - last), now
        self.longest = max(self.longest, time.monotonic() - last)

    def moved(self, local, at, remote, to):
        """A busy host can stop a CPU, too, but not in each of three tries."""
        for _ in range(3):
            whole = self.move(local, at, remote, to)
            if self.longest < whole * PART:
                return
        self.fail(f"QEMU's lock was held for {self.longest:.2f} of {whole:.2f} s")

    def move(self, local, at, remote, to):
        self.longest = 0
        start = time.monotonic()
        stop = threading.Event()
        thread = threading.Thread(target=self.watch, args=(stop,))
        thread.start()
        try:
            self.near.post(e.IBV_WR_RDMA_WRITE, local, at, LENGTH, to, remote.rkey)
            self.assertEqual(self.near.status(), e.IBV_WC_SUCCESS)
            whole = time.monotonic() - start
        finally:
            stop.set()
            thread.join()
        self.assertEqual(self.dst[:], self.src[:])
        return whole

    def test_regress_a_source_of_single_bytes_does_not_stop_the_machine(self):
        self.moved(self.key(self.smr, self.src), 0, self.dmr, self.dst.address)

    def test_regress_a_target_of_single_bytes_does_not_stop_the_machine(self):
        self.moved(self.smr, self.src.address, self.key(self.dmr, self.dst), 0)

    def test_both_at_once(self):
        self.moved(self.key(self.smr, self.src), 0, self.key(self.dmr, self.dst), 0)
