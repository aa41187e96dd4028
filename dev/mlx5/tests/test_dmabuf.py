# SPDX-License-Identifier: GPL-2.0
"""Regions of dma-bufs whose exporter moves the memory.  What the adapter still does to
memory that moved away is found by the check of its DMA."""
import fcntl
import os
import subprocess
import unittest

import pyverbs.enums as e
from pyverbs.mr import DmaBufMR

from mlx5ctl import Adapter
from rdma import ALL, PAGE, Buffer, End, fences, ours, pair, pattern

FD, MOVE = 0x7801, 0x7802           # exporter.c: EXPORTER_*
UMR_FAILS = 1 << 10                 # MLX5_HOSTILE_UMR
PAGES = 16
# More pages than one UMR has translations for.
REPEAT = (1 << 17) // PAGES + 64


def setUpModule():
    if "EXPORTER" not in os.environ:
        raise unittest.SkipTest("the module exporter was not built")
    if not os.path.exists("/dev/exporter"):
        subprocess.run(["insmod", os.environ["EXPORTER"], f"pages={PAGES}"], check=True)


class Exported:
    """Memory of a device, as it were."""

    def __init__(self, repeat=1):
        with open("/sys/module/exporter/parameters/repeat", "w") as file:
            file.write(str(repeat))
        self.length = PAGES * PAGE * repeat
        self.file = os.open("/dev/exporter", os.O_RDWR)
        self.fd = fcntl.ioctl(self.file, FD)

    def move(self):
        fcntl.ioctl(self.file, MOVE)

    def __getitem__(self, part):
        return os.pread(self.file, part.stop - part.start, part.start)


class Dmabuf(unittest.TestCase):
    def setUp(self):
        self.adapter = Adapter("mlx5_0")
        self.near, self.far = pair()
        self.src = Buffer(PAGES * PAGE)
        self.src[:] = pattern(self.src.length, 7)
        self.smr = self.near.region(self.src)
        self.fences = fences()
        self.violations = self.adapter["dma-violations"]
        self.addCleanup(self.adapter.__setitem__, "hostile-every", 1)
        self.addCleanup(self.adapter.__setitem__, "hostile", 0)

    def region(self, memory):
        return DmaBufMR(self.far.pd, memory.length, ALL, dmabuf=memory.fd)

    def write(self, mr, length=None):
        return self.near.write(self.smr, self.src.address, length or self.src.length, 0, mr.rkey)

    def anew(self):
        """Another connection: the old one is in error."""
        # Of the same domain as the regions.
        self.near, self.far = End("mlx5_0"), End("mlx5_0", on=self.far)
        self.near.connect(self.far)
        self.far.connect(self.near)
        self.smr = self.near.region(self.src)

    def others_go_on(self):
        self.adapter["hostile"] = 0
        self.assertEqual(fences(), self.fences)
        self.assertEqual(self.adapter["dma-violations"], self.violations)
        memory = Exported()
        self.anew()
        mr = self.region(memory)
        self.assertEqual(self.write(mr), e.IBV_WC_SUCCESS)
        self.assertEqual(memory[0:self.src.length], self.src[:])
        mr.close()

    def test_what_moved_is_found_again(self):
        memory = Exported()
        mr = self.region(memory)
        for seed in range(4):
            self.src[:] = pattern(self.src.length, seed)
            self.assertEqual(self.write(mr), e.IBV_WC_SUCCESS)
            self.assertEqual(memory[0:self.src.length], self.src[:])
            memory.move()
            self.assertEqual(memory[0:self.src.length], self.src[:])
        mr.close()

    @unittest.skipUnless(ours(), "stock's driver goes on after a UMR that failed")
    def test_regress_a_move_that_the_adapter_does_not_hear_of(self):
        memory = Exported()
        mr = self.region(memory)
        self.assertEqual(self.write(mr), e.IBV_WC_SUCCESS)
        was = memory[0:self.src.length]
        self.adapter["hostile"] = UMR_FAILS
        memory.move()
        self.adapter["hostile"] = 0
        self.src[:] = pattern(self.src.length, 8)
        self.assertNotEqual(self.write(mr), e.IBV_WC_SUCCESS)
        self.assertEqual(memory[0:self.src.length], was)
        mr.close()
        self.others_go_on()

    @unittest.skipUnless(ours(), "stock's driver goes on after a UMR that failed")
    def test_regress_a_refault_that_fails_half_way(self):
        """The first half of the translations is there, and the memory is unmapped."""
        for _ in range(2):                  # in one of them it is not the first UMR
            memory = Exported(REPEAT)
            mr = self.region(memory)
            memory.move()
            self.adapter["hostile-every"] = 2
            self.adapter["hostile"] = UMR_FAILS
            self.write(mr)
            self.adapter["hostile"] = 0
            self.anew()
            self.write(mr, PAGE)
            self.assertEqual(self.adapter["dma-violations"], self.violations)
            memory.move()
            self.anew()
            self.write(mr, PAGE)
            mr.close()
            self.anew()
        self.others_go_on()
