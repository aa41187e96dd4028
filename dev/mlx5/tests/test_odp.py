# SPDX-License-Identifier: GPL-2.0
"""On-demand paging: which faults an access takes, what the adapter holds after
it, what an invalidation takes away, and that no byte is lost in between."""
import json
import mmap
import os
import subprocess
import threading
import time
import unittest

import pyverbs.enums as e
from pyverbs.mr import MR
from pyverbs.qp import QPAttr
from pyverbs.srq import SRQ, SrqAttr, SrqInitAttr
from pyverbs.wr import SGE, RecvWR

from mlx5ctl import Adapter
from rdma import NORESERVE, ODP, PAGE, Buffer, End, ours, pair, pattern, pfn

PAGES = 64


class OdpTest(unittest.TestCase):
    first, second = "mlx5_0", "mlx5_0"

    def setUp(self):
        self.adapter = Adapter(self.second)
        self.near, self.far = pair(self.first, self.second)
        self.src, self.dst = Buffer(PAGES * PAGE), Buffer(PAGES * PAGE)
        self.src[:] = pattern(self.src.length, 3)
        self.smr = self.near.region(self.src)
        self.dmr = self.far.region(self.dst, ODP)
        self.before = self.adapter.counters()
        self.addCleanup(self.adapter.__setitem__, "fault-around", self.adapter["fault-around"])

    def since(self, name):
        """Faults of a kind since set-up; the memory scheme knows one kind only."""
        name = "faults-memory" if self.adapter["memory-scheme"] else name
        return self.adapter[name] - self.before[name]

    def sources(self):
        adapter = Adapter(self.first)
        return adapter["faults-memory" if adapter["memory-scheme"] else "faults-sq"]

    def write(self, page=0, pages=1):
        status = self.near.write(self.smr, self.src.address + page * PAGE, pages * PAGE,
                                 self.dst.address + page * PAGE, self.dmr.rkey)
        self.assertEqual(status, e.IBV_WC_SUCCESS)

    def held(self, pages=PAGES):
        """Which of the region's pages the adapter has, as {page: (pfn, rights)}."""
        found = {nr: self.adapter.translation(self.dmr.rkey, self.dst.address, nr * PAGE)
                 for nr in range(pages)}
        return {nr: entry for nr, entry in found.items() if entry[1]}

    def assert_frame(self, entry, address):
        """It is the page's frame, where DMA addresses are the physical ones."""
        self.assertEqual(entry[1], 3)
        if not os.path.exists("/sys/class/iommu/dmar0/devices"):
            self.assertEqual(entry[0], pfn(address))

    def intact(self):
        self.assertEqual(self.dst[:], self.src[:])


class Explicit(OdpTest):
    def test_nothing_is_held_before_the_first_access(self):
        self.assertEqual(self.held(), {})

    def test_a_pinned_region_holds_exactly_its_pages(self):
        for nr in range(PAGES):
            entry = self.adapter.translation(self.smr.rkey, self.src.address, nr * PAGE)
            self.assert_frame(entry, self.src.address + nr * PAGE)

    def test_a_write_faults_what_it_touches_and_no_more(self):
        self.adapter["fault-around"] = 0
        self.write(page=5, pages=2)
        self.assertEqual(sorted(self.held()), [5, 6])
        for nr, entry in self.held().items():
            self.assert_frame(entry, self.dst.address + nr * PAGE)
        self.assertEqual(self.dst[5 * PAGE:7 * PAGE], self.src[5 * PAGE:7 * PAGE])

    def test_a_second_write_takes_no_fault(self):
        self.write()
        faults = self.since("faults-rdma")
        self.assertGreater(faults, 0)
        self.write()
        self.assertEqual(self.since("faults-rdma"), faults)

    def test_dontneed_takes_the_page_away(self):
        self.write(pages=PAGES)
        self.dst.madvise(mmap.MADV_DONTNEED, 3 * PAGE, PAGE)
        self.assertNotIn(3, self.held())

    def test_a_page_that_was_taken_away_is_fetched_anew(self):
        self.write(pages=PAGES)
        self.dst.madvise(mmap.MADV_DONTNEED, 3 * PAGE, PAGE)
        self.write(page=3)
        self.intact()

    def test_munmap_takes_all_away_and_later_access_fails(self):
        self.write(pages=PAGES)
        gone = mmap.mmap(-1, PAGE)          # so that the address is not reused
        self.dst.unmap()
        self.assertEqual(self.held(), {})
        status = self.near.write(self.smr, self.src.address, 8, self.dst.address, self.dmr.rkey)
        self.assertNotEqual(status, e.IBV_WC_SUCCESS)
        gone.close()

    def test_a_write_to_read_only_memory_fails_and_changes_nothing(self):
        self.dst[:] = self.src[:]
        self.dst.protect(mmap.PROT_READ)
        status = self.near.write(self.smr, self.src.address + PAGE, PAGE, self.dst.address,
                                 self.dmr.rkey)
        self.assertEqual(status, e.IBV_WC_REM_ACCESS_ERR)
        self.intact()

    def test_a_read_of_read_only_memory_works(self):
        self.dst[:] = pattern(self.dst.length, 4)
        self.dst.protect(mmap.PROT_READ)
        mr = self.far.region(self.dst, e.IBV_ACCESS_REMOTE_READ | e.IBV_ACCESS_ON_DEMAND)
        self.assertEqual(self.near.read(self.smr, self.src.address, self.src.length,
                                        self.dst.address, mr.rkey), e.IBV_WC_SUCCESS)
        self.intact()

    def test_fork_and_copy_on_write_keep_both_sides_apart(self):
        self.write(pages=PAGES)
        go, done = os.pipe(), os.pipe()
        child = os.fork()
        if not child:
            os.read(go[0], 1)
            os.write(done[1], b"1" if self.dst.map[:] == self.src.map[:] else b"0")
            os._exit(0)
        old = self.src[:]
        self.src[:] = pattern(self.src.length, 5)
        self.write(pages=PAGES)
        os.write(go[1], b"1")
        self.assertEqual(os.read(done[0], 1), b"0" if self.src[:] == old else b"1")
        os.waitpid(child, 0)
        self.intact()

    def test_an_end_inside_a_page_is_respected(self):
        mr = self.far.region(self.dst, ODP)
        self.assertEqual(self.near.write(self.smr, self.src.address, PAGE + 7,
                                         self.dst.address + 100, mr.rkey), e.IBV_WC_SUCCESS)
        self.assertEqual(self.dst[100:107 + PAGE], self.src[:PAGE + 7])
        self.assertFalse(any(self.dst[:100]) or any(self.dst[107 + PAGE:]))

    def test_regress_a_region_begins_and_ends_anywhere(self):
        """Where the adapter names whole pages, a region may have a part of them."""
        places = sorted({*range(0, PAGE, 512), 1, 7, 63, PAGE - 8, PAGE - 1})
        lengths = [1, 2, 1000, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 3 * PAGE - 1, 3 * PAGE]
        for nr, (place, length) in enumerate((p, n) for p in places for n in lengths):
            # Each granule of 8 pages has its turn, and so has each page of one.
            at = nr % 11 * PAGE + place
            self.dst.madvise(mmap.MADV_DONTNEED)
            near = MR(self.near.pd, length, ODP, address=self.src.address + at)
            far = MR(self.far.pd, length, ODP, address=self.dst.address + at)
            self.assertEqual(self.near.write(near, self.src.address + at, length,
                                             self.dst.address + at, far.rkey), e.IBV_WC_SUCCESS)
            self.assertEqual(self.dst[at:at + length], self.src[at:at + length])
            self.assertFalse(any(self.dst[:at]) or any(self.dst[at + length:]))
            near.close()
            far.close()


class Statistic(OdpTest):
    """What `rdma statistic show mr` counts is what the adapter got and lost."""

    def counts(self):
        shown = subprocess.run(["rdma", "-j", "statistic", "show", "mr"], check=True,
                               capture_output=True, text=True).stdout
        names = ("page_faults", "page_invalidations", "page_prefetch")
        return tuple(sum(int(mr.get(name, 0)) for mr in json.loads(shown)) for name in names)

    def setUp(self):
        super().setUp()
        # Each page of its own, so that none comes or goes but by the script.
        self.adapter["fault-around"] = 0
        self.dst.madvise(mmap.MADV_NOHUGEPAGE)
        self.dst[:] = pattern(self.dst.length, 9)
        self.zero = self.counts()

    def assert_counts(self, *wanted):
        self.assertEqual(tuple(now - then for now, then in zip(self.counts(), self.zero)), wanted)

    def test_each_page_is_counted_when_it_comes(self):
        self.assert_counts(0, 0, 0)
        self.write(page=5, pages=3)
        self.assert_counts(3, 0, 0)
        self.write(page=5, pages=3)
        self.assert_counts(3, 0, 0)
        self.write(pages=PAGES)
        self.assert_counts(PAGES, 0, 0)

    def test_and_when_it_goes(self):
        self.write(pages=PAGES)
        for first, pages in ((3, 1), (16, 20), (3, 1)):
            before = len(self.held())
            lost = self.counts()[1]
            self.dst.madvise(mmap.MADV_DONTNEED, first * PAGE, pages * PAGE)
            self.assertEqual(self.counts()[1] - lost, before - len(self.held()))
            self.assertLessEqual(set(self.held()), set(range(PAGES)) -
                                 set(range(first, first + pages)))
        before = self.counts()
        missing = PAGES - len(self.held())
        self.write(pages=PAGES)
        self.assertEqual(self.counts()[0] - before[0], missing)
        self.intact()

    def test_what_is_asked_for_in_advance_is_counted_apart(self):
        flush = e._IBV_ADVISE_MR_FLAG_FLUSH
        part = SGE(self.dst.address + 8 * PAGE, 16 * PAGE, self.dmr.lkey)
        self.far.pd.advise_mr(e._IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, flush, [part])
        self.assert_counts(0, 0, 16)
        self.assertEqual(sorted(self.held()), list(range(8, 24)))
        self.write(page=8, pages=16)
        self.assert_counts(0, 0, 16)

    def test_a_failed_access_counts_nothing(self):
        self.dst.protect(mmap.PROT_READ)
        status = self.near.write(self.smr, self.src.address, PAGE, self.dst.address, self.dmr.rkey)
        self.assertEqual(status, e.IBV_WC_REM_ACCESS_ERR)
        self.assert_counts(0, 0, 0)


class Prefetch(OdpTest):
    @unittest.skipUnless(ours(), "stock's driver prefetches all of it first")
    def test_regress_a_region_ends_in_the_middle_of_it(self):
        """Its end waited for all of a part, up to 4 GiB, though nobody waits for advice."""
        length = 512 << 20
        buffer = Buffer(length, NORESERVE)
        buffer.madvise(mmap.MADV_NOHUGEPAGE)
        mr = self.far.region(buffer, ODP)
        self.far.pd.advise_mr(e._IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, 0,
                              [SGE(buffer.address, length, mr.lkey)])
        mr.close()
        self.assertIsNone(pfn(buffer.address + length - PAGE))
        self.write()


class Kinds(OdpTest):
    """Each way to a fault, by the adapter's own count."""

    def setUp(self):
        super().setUp()
        self.osrc = Buffer(4 * PAGE)
        self.omr = self.near.region(self.osrc, ODP)

    def test_a_send_faults_at_its_source(self):
        self.far.post_recv(self.dmr, self.dst.address, PAGE)
        before = self.sources()
        self.near.post(e.IBV_WR_SEND, self.omr, self.osrc.address, PAGE)
        self.assertEqual(self.near.status(), e.IBV_WC_SUCCESS)
        self.assertEqual(self.far.status(), e.IBV_WC_SUCCESS)
        self.assertGreater(self.sources(), before)

    def test_a_receive_faults_at_its_target(self):
        self.far.post_recv(self.dmr, self.dst.address, PAGES * PAGE)
        self.near.post(e.IBV_WR_SEND, self.smr, self.src.address, PAGES * PAGE)
        self.assertEqual(self.near.status(), e.IBV_WC_SUCCESS)
        self.assertEqual(self.far.status(), e.IBV_WC_SUCCESS)
        self.assertGreater(self.since("faults-rq"), 0)
        self.intact()

    def test_a_shared_receive_faults_too(self):
        srq = SRQ(self.far.pd, SrqInitAttr(SrqAttr(max_wr=32)))
        near, far = End(self.first, on=self.near), End(self.second, on=self.far, srq=srq)
        near.connect(far)
        far.connect(near)
        srq.post_recv(RecvWR(num_sge=1, sg=[SGE(self.dst.address, self.dst.length,
                                                self.dmr.lkey)]))
        near.post(e.IBV_WR_SEND, self.smr, self.src.address, self.src.length)
        self.assertEqual(near.status(), e.IBV_WC_SUCCESS)
        self.assertEqual(far.status(), e.IBV_WC_SUCCESS)
        self.assertGreater(self.since("faults-srq"), 0)
        self.intact()

    def test_a_read_faults_at_both_ends(self):
        self.dst[:] = self.src[:]
        before = self.sources()
        self.assertEqual(self.near.read(self.omr, self.osrc.address, self.osrc.length,
                                        self.dst.address, self.dmr.rkey), e.IBV_WC_SUCCESS)
        self.assertGreater(self.since("faults-rdma"), 0)
        self.assertGreater(self.sources(), before)
        self.assertEqual(self.osrc[:], self.dst[:self.osrc.length])

    def test_an_atomic_is_done_once_through_two_faults(self):
        self.dst[:8] = (5).to_bytes(8, "little")
        self.near.post(e.IBV_WR_ATOMIC_FETCH_AND_ADD, self.omr, self.osrc.address, 8,
                       self.dst.address, self.dmr.rkey, compare=2)
        self.assertEqual(self.near.status(), e.IBV_WC_SUCCESS)
        self.assertEqual((self.osrc[0], self.dst[0]), (5, 7))

    def test_a_memory_window_over_paged_memory_faults(self):
        mr = self.far.region(self.dst, ODP | e.IBV_ACCESS_MW_BIND)
        window = self.far.window(mr, self.dst.address + PAGE, 4 * PAGE)
        self.assertEqual(self.near.write(self.smr, self.src.address + PAGE, 4 * PAGE,
                                         self.dst.address + PAGE, window.rkey), e.IBV_WC_SUCCESS)
        self.assertGreater(self.since("faults-rdma"), 0)
        self.assertEqual(self.dst[PAGE:5 * PAGE], self.src[PAGE:5 * PAGE])
        window.close()      # before its region

    def test_an_implicit_region_reaches_any_address(self):
        mr = self.far.implicit()
        late = Buffer(8 * PAGE)
        for buffer in (self.dst, late):
            self.assertEqual(self.near.write(self.smr, self.src.address, 8 * PAGE, buffer.address,
                                             mr.rkey), e.IBV_WC_SUCCESS)
            self.assertEqual(buffer[:8 * PAGE], self.src[:8 * PAGE])


class Children(OdpTest):
    """Of an implicit region: a key for each part that is in use."""
    SIZE = 16 << 20 if ours() else 1 << 30

    def setUp(self):
        super().setUp()
        # Four of them, whatever the address.
        self.wide = Buffer(4 * self.SIZE, NORESERVE)
        self.mr = self.far.implicit()

    def children(self):
        nothing = self.adapter.leaf(self.mr.rkey, 0, 0)
        keys = (self.adapter.leaf(self.mr.rkey, 0, self.wide.address + nr * self.SIZE)
                for nr in range(4))
        return [key for key in keys if key != nothing]

    def write_to(self, nr):
        address = nr * self.SIZE
        status = self.near.write(self.smr, self.src.address, PAGE, self.wide.address + address,
                                 self.mr.rkey)
        self.assertEqual(status, e.IBV_WC_SUCCESS)
        self.assertEqual(self.wide[address:address + PAGE], self.src[:PAGE])

    def await_children(self, count):
        end = time.monotonic() + 20
        while len(self.children()) != count and time.monotonic() < end:
            time.sleep(0.1)
        self.assertEqual(len(self.children()), count)

    def test_they_come_with_the_first_fault(self):
        for nr in range(4):
            self.assertEqual(len(self.children()), nr)
            self.write_to(nr)
        self.assertEqual(len(set(self.children())), 4)

    def test_they_go_with_their_last_page_and_come_again(self):
        for nr in range(4):
            self.write_to(nr)
        self.wide.madvise(mmap.MADV_DONTNEED, self.SIZE // 2, 3 * self.SIZE)
        self.await_children(1)
        for nr in range(4):
            self.write_to(nr)
        self.await_children(4)

    def test_one_goes_before_a_fault_in_it_is_reported(self):
        """Which names it, in the memory scheme."""
        self.write_to(0)
        self.wide.madvise(mmap.MADV_DONTNEED)
        self.addCleanup(self.adapter.__setitem__, "fault-delay", self.adapter["fault-delay"])
        self.adapter["fault-delay"] = 5 * 10 ** 9
        self.near.post(e.IBV_WR_RDMA_WRITE, self.smr, self.src.address, PAGE, self.wide.address,
                       self.mr.rkey)
        self.await_children(0)
        self.adapter["fault-delay"] = 0
        self.assertEqual(self.near.status(), e.IBV_WC_SUCCESS)
        self.assertEqual(self.wide[:PAGE], self.src[:PAGE])
        self.await_children(1)

    def test_a_slow_fault_keeps_its_child(self):
        """Scenario "stalled" makes it slow, where it has the child and no page yet."""
        for _ in range(3):
            self.write_to(0)
            self.wide.madvise(mmap.MADV_DONTNEED)
        self.write_to(0)
        self.await_children(1)

    def test_they_come_and_go_beside_faults_in_them(self):
        """Time and again all pages go, between two faults or in one."""
        stop = threading.Event()

        def take():
            while not stop.is_set():
                self.wide.madvise(mmap.MADV_DONTNEED)
                stop.wait(self.pause)

        for self.pause in (0.01, 1.2):
            stop.clear()
            thread = threading.Thread(target=take)
            thread.start()
            try:
                end = time.monotonic() + 5
                while time.monotonic() < end:
                    for nr in range(4):
                        status = self.near.write(self.smr, self.src.address, PAGE,
                                                 self.wide.address + nr * self.SIZE, self.mr.rkey)
                        self.assertEqual(status, e.IBV_WC_SUCCESS)
                    stop.wait(self.pause)
            finally:
                stop.set()
                thread.join()
        for nr in range(4):
            self.write_to(nr)


class Storm(OdpTest):
    """Invalidations that keep what is in the page, beside traffic: every byte is
    compared after every round."""
    rounds = 40

    def disturb(self, stop, what):
        while not stop.is_set():
            what()

    def run_beside(self, what):
        stop = threading.Event()
        thread = threading.Thread(target=self.disturb, args=(stop, what))
        thread.start()
        try:
            for nr in range(self.rounds):
                self.src[:PAGE] = pattern(PAGE, nr)
                self.write(pages=PAGES)
                self.intact()
        finally:
            stop.set()
            thread.join()

    def test_protection_back_and_forth(self):
        def what():
            self.dst.protect(mmap.PROT_READ, 0, 0)
            self.dst.protect(mmap.PROT_READ | mmap.PROT_WRITE)
        self.run_beside(what)

    def test_pages_that_move(self):
        def what():
            with open("/proc/sys/vm/compact_memory", "w") as file:
                file.write("1")
        self.run_beside(what)

    def test_pages_that_are_swapped_out(self):
        self.run_beside(lambda: self.dst.madvise(21))       # MADV_PAGEOUT

    def test_children_that_share_the_pages(self):
        def what():
            child = os.fork()
            if not child:
                os._exit(0)
            os.waitpid(child, 0)
        self.run_beside(what)


class Gone(OdpTest):
    """A responder that goes while it waits for a page.  Its requester hears nothing
    more, of nobody, and says so when its retries are over."""

    def setUp(self):
        super().setUp()
        self.addCleanup(self.adapter.__setitem__, "fault-delay", self.adapter["fault-delay"])

    def operation(self, near, far, opcode):
        mr = near.region(self.src)      # until the end of the test
        length = 8 if opcode == e.IBV_WR_ATOMIC_FETCH_AND_ADD else 4 * PAGE
        if opcode == e.IBV_WR_SEND:
            far.post_recv(self.dmr, self.dst.address, self.dst.length)
            near.post(opcode, mr, self.src.address, length)
        else:
            near.post(opcode, mr, self.src.address, length, self.dst.address, self.dmr.rkey)
        self.addCleanup(mr.close)

    def faults(self):
        return self.since("faults-rdma") + self.since("faults-rq")

    def goes(self, way):
        self.adapter["fault-delay"] = 10 ** 12      # longer than the test
        for opcode in (e.IBV_WR_RDMA_WRITE, e.IBV_WR_SEND, e.IBV_WR_RDMA_READ,
                       e.IBV_WR_ATOMIC_FETCH_AND_ADD):
            near = End(self.first, retry=2, timeout=8)
            far = End(self.second, on=self.far)
            near.connect(far)
            far.connect(near)
            before = self.faults()
            with self.subTest(opcode=opcode):
                self.operation(near, far, opcode)
                with self.assertRaises(TimeoutError):
                    near.completion(0.2)
                # The memory scheme tells of one fault by two events.
                self.assertIn(self.faults() - before, (1, 2))
                way(far)
                self.assertEqual(near.status(10), e.IBV_WC_RETRY_EXC_ERR)

    def test_regress_its_queue_pair_is_destroyed(self):
        self.goes(lambda far: far.qp.close())

    def test_regress_its_queue_pair_breaks(self):
        self.goes(lambda far: far.fail())

    def test_regress_its_queue_pair_is_reset(self):
        self.goes(lambda far: far.qp.modify(QPAttr(qp_state=e.IBV_QPS_RESET), e.IBV_QP_STATE))

    def test_one_that_takes_its_time_is_not_gone(self):
        self.adapter["fault-delay"] = 500 * 10 ** 6
        near = End(self.first, retry=1, timeout=8)
        far = End(self.second, on=self.far)
        near.connect(far)
        far.connect(near)
        self.operation(near, far, e.IBV_WR_RDMA_WRITE)
        self.assertEqual(near.status(), e.IBV_WC_SUCCESS)
        self.assertGreater(self.faults(), 0)
        self.assertEqual(self.dst[:4 * PAGE], self.src[:4 * PAGE])


class Across(Kinds):
    second = "mlx5_1"


class GoneAcross(Gone):
    second = "mlx5_1"


del OdpTest
