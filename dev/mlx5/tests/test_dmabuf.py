# SPDX-License-Identifier: GPL-2.0
"""Regions of dma-bufs whose exporter moves the memory.  What the adapter still does to
memory that moved away is found by the check of its DMA."""
import errno
import fcntl
import mmap
import os
import subprocess
import time
import traceback
import unittest

import pyverbs.enums as e
from pyverbs.mr import DmaBufMR
from pyverbs.pyverbs_error import PyverbsRDMAError
from pyverbs.wr import SGE

import stops
from mlx5ctl import Adapter
from rdma import ALL, PAGE, Buffer, End, fences, ours, pair, pattern

FD, MOVE, REVOKE = 0x7801, 0x7802, 0x7803       # exporter.c: EXPORTER_*
UDMABUF_CREATE = 0x40187542
SEAL_SHRINK = 2                     # F_SEAL_SHRINK
READ, WRITE, NO_FAULT = range(3)    # IBV_ADVISE_MR_ADVICE_PREFETCH*
FLUSH = e._IBV_ADVISE_MR_FLAG_FLUSH
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

    def revoke(self):
        fcntl.ioctl(self.file, REVOKE)

    def __getitem__(self, part):
        return os.pread(self.file, part.stop - part.start, part.start)


class Memfd:
    """The pages of a file in memory as a dma-buf, which are not moved while it exists."""

    def __init__(self):
        self.length = PAGES * PAGE
        self.file = os.memfd_create("memory", os.MFD_ALLOW_SEALING)
        os.ftruncate(self.file, self.length)
        fcntl.fcntl(self.file, fcntl.F_ADD_SEALS, SEAL_SHRINK)
        words = [(self.file, 4), (0, 4), (0, 8), (self.length, 8)]
        create = bytearray(b"".join(word.to_bytes(size, "little") for word, size in words))
        with open("/dev/udmabuf", "rb") as device:
            self.fd = fcntl.ioctl(device, UDMABUF_CREATE, create)
        self.map = mmap.mmap(self.file, self.length)

    def __getitem__(self, part):
        return self.map[part]


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

    def advise(self, mr, advice, flags=FLUSH, at=0):
        self.far.pd.advise_mr(advice, flags, [SGE(at, self.src.length, mr.lkey)])

    def advice_fails(self, mr, advice, why, **options):
        with self.assertRaises(PyverbsRDMAError) as caught:
            self.advise(mr, advice, **options)
        self.assertEqual(caught.exception.error_code, why)

    def faults(self):
        counters = self.adapter.counters()
        return counters["faults-rdma"] + counters.get("faults-memory", 0)

    def deregisters(self, memory):
        """A process that registers the memory, has it written to, and ends the region when
        it is told to: (its number, how to tell it)."""
        (ready, tell), (wait, go) = os.pipe(), os.pipe()
        pid = os.fork()
        if not pid:
            status = 1
            try:
                # What the test has keeps what it had opened.
                near, far = pair()
                mr = DmaBufMR(far.pd, memory.length, ALL, dmabuf=memory.fd)
                assert near.write(near.region(self.src), self.src.address, self.src.length, 0,
                                  mr.rkey) == e.IBV_WC_SUCCESS
                os.write(tell, b"r")
                os.read(wait, 1)
                mr.close()
                status = 0
            except BaseException:       # pylint: disable=broad-except
                traceback.print_exc()
            os._exit(status)
        self.assertEqual(os.read(ready, 1), b"r")
        return pid, lambda: os.write(go, b"g")

    def ends(self, pid):
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        self.others_go_on()

    def test_memory_moves_before_its_region_has_ended(self):
        """The key is revoked, and is not changed for a move."""
        stops.need(self)
        memory = Exported()
        pid, tell = self.deregisters(memory)
        stops.stop("ib_umem_release")
        tell()
        stops.reached()
        wqes, start = self.adapter["umr-wqes"], time.monotonic()
        memory.move()
        self.assertLess(time.monotonic() - start, 5)
        self.assertEqual(self.adapter["umr-wqes"], wqes)
        self.assertEqual(memory[0:self.src.length], self.src[:])
        stops.go()
        self.ends(pid)

    def test_a_region_ends_while_its_memory_moves(self):
        stops.need(self)
        memory = Exported()
        pid, tell = self.deregisters(memory)
        stops.stop("mlx5r_umr_update_mr_pas")
        mover = os.fork()
        if not mover:
            memory.move()
            os._exit(0)
        stops.reached()
        tell()
        time.sleep(0.5)
        self.assertEqual(os.waitpid(pid, os.WNOHANG), (0, 0))
        stops.go()
        self.assertEqual(os.waitpid(mover, 0)[1], 0)
        self.assertEqual(memory[0:self.src.length], self.src[:])
        self.ends(pid)

    def test_memory_that_was_revoked_is_an_error(self):
        memory = Exported()
        mr = self.region(memory)
        self.assertEqual(self.write(mr), e.IBV_WC_SUCCESS)
        was = memory[0:self.src.length]
        memory.revoke()
        self.advice_fails(mr, WRITE, errno.ENODEV)
        self.src[:] = pattern(self.src.length, 9)
        self.assertNotEqual(self.write(mr), e.IBV_WC_SUCCESS)
        self.assertEqual(memory[0:self.src.length], was)
        mr.close()
        with self.assertRaises(PyverbsRDMAError):
            self.region(memory)
        self.others_go_on()

    def test_advice_finds_what_moved(self):
        memory = Exported()
        mr = self.region(memory)
        for advice in (READ, WRITE):
            memory.move()
            self.advise(mr, advice)
            faults = self.faults()
            self.assertEqual(self.write(mr), e.IBV_WC_SUCCESS)
            self.assertEqual(self.faults(), faults)
            self.assertEqual(memory[0:self.src.length], self.src[:])
        mr.close()

    def test_advice_that_is_not_waited_for(self):
        memory = Exported()
        mr = self.region(memory)
        for _ in range(20):
            memory.move()
            self.advise(mr, WRITE, 0)
            self.assertEqual(self.write(mr), e.IBV_WC_SUCCESS)
            self.assertEqual(memory[0:self.src.length], self.src[:])
            self.advise(mr, WRITE, 0)
            mr.close()
            mr = self.region(memory)
        mr.close()
        self.others_go_on()

    def registers(self, memory, key):
        """A process that registers the memory in our domain and is given this key."""
        pid = os.fork()
        if not pid:
            status = 1
            try:
                mr = self.region(memory)
                assert mr.lkey == key
                mr.close()
                status = 0
            except BaseException:       # pylint: disable=broad-except
                traceback.print_exc()
            os._exit(status)
        return pid

    @unittest.skipUnless(ours(), "stock's driver writes to the new key before it is enabled")
    def test_regress_advice_for_a_region_that_ended_harms_no_new_one(self):
        """Which has its key, but is not mapped yet, and does not answer to it."""
        stops.need(self)
        memory, other = Exported(), Exported()
        mr = self.region(memory)
        key = mr.lkey
        mr.close()
        stops.stop("mlx5_ib_init_dmabuf_mr")
        pid = self.registers(other, key)
        stops.reached()
        with self.assertRaises(PyverbsRDMAError):
            self.far.pd.advise_mr(WRITE, FLUSH, [SGE(0, self.src.length, key)])
        stops.go()
        self.ends(pid)

    @unittest.skipUnless(ours(), "stock's driver does not look at the range")
    def test_advice_beyond_the_end_is_refused(self):
        memory = Exported()
        mr = self.region(memory)
        self.advice_fails(mr, WRITE, errno.EFAULT, at=PAGE)
        mr.close()

    @unittest.skipUnless(os.path.exists("/dev/udmabuf"), "the kernel has no udmabuf")
    def test_memory_of_a_udmabuf(self):
        memory = Memfd()
        mr = self.region(memory)
        for seed in range(3):
            self.src[:] = pattern(self.src.length, seed)
            self.assertEqual(self.write(mr), e.IBV_WC_SUCCESS)
            self.assertEqual(memory[0:self.src.length], self.src[:])
            self.advise(mr, WRITE)
        mr.close()
        os.close(memory.fd)
        self.others_go_on()

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
