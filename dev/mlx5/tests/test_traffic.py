# SPDX-License-Identifier: GPL-2.0
"""What a reliable connection does, and how it fails: on one adapter and across
two.  Data is compared byte for byte."""
import unittest

import pyverbs.enums as e
from pyverbs.mr import MW, MWBind, MWBindInfo
from pyverbs.srq import SRQ, SrqInitAttr, SrqAttr
from pyverbs.wr import SGE, RecvWR

from mlx5ctl import Adapter
from rdma import ALL, PAGE, Buffer, End, pair, pattern

LENGTHS = (0, 1, 7, 64, PAGE - 1, PAGE, 3 * PAGE + 5, 300 * 1024 + 3)


class Traffic:
    """The tests of both topologies; second is the other end's device."""
    first, second = "mlx5_0", "mlx5_0"

    def setUp(self):
        self.near, self.far = pair(self.first, self.second)
        self.src, self.dst = Buffer(512 * 1024), Buffer(512 * 1024)
        self.smr, self.dmr = self.near.region(self.src), self.far.region(self.dst)
        self.src[:] = pattern(self.src.length, 1)

    def test_writes_of_any_length_arrive(self):
        for length in LENGTHS:
            self.dst[:] = bytes(self.dst.length)
            status = self.near.write(self.smr, self.src.address + 3, length, self.dst.address + 9,
                                     self.dmr.rkey)
            self.assertEqual(status, e.IBV_WC_SUCCESS)
            self.assertEqual(self.dst[9:9 + length], self.src[3:3 + length])
            self.assertFalse(any(self.dst[:9]) or any(self.dst[9 + length:9 + length + 4096]))

    def test_reads_of_any_length_arrive(self):
        self.dst[:] = pattern(self.dst.length, 2)
        for length in LENGTHS:
            self.src[:] = bytes(self.src.length)
            status = self.near.read(self.smr, self.src.address + 5, length, self.dst.address + 1,
                                    self.dmr.rkey)
            self.assertEqual(status, e.IBV_WC_SUCCESS)
            self.assertEqual(self.src[5:5 + length], self.dst[1:1 + length])

    def test_sends_fill_the_receives_in_order(self):
        for nr in range(8):
            self.far.post_recv(self.dmr, self.dst.address + nr * PAGE, PAGE)
        for nr in range(8):
            self.near.post(e.IBV_WR_SEND_WITH_IMM, self.smr, self.src.address + nr * 100, 100 + nr,
                           imm=0x1000 + nr)
        for nr in range(8):
            self.assertEqual(self.near.status(), e.IBV_WC_SUCCESS)
            wc = self.far.completion()
            self.assertEqual((wc.status, wc.byte_len), (e.IBV_WC_SUCCESS, 100 + nr))
            self.assertEqual(self.dst[nr * PAGE:nr * PAGE + 100 + nr],
                             self.src[nr * 100:nr * 100 + 100 + nr])

    def test_inline_data_is_taken_when_posted(self):
        self.near.post(e.IBV_WR_RDMA_WRITE, self.smr, self.src.address, 60, self.dst.address,
                       self.dmr.rkey, flags=e.IBV_SEND_SIGNALED | e.IBV_SEND_INLINE)
        was = self.src[:60]
        self.src[:60] = bytes(60)
        self.assertEqual(self.near.status(), e.IBV_WC_SUCCESS)
        self.assertEqual(self.dst[:60], was)

    def test_atomics_change_once_and_return_what_was(self):
        self.dst[:8] = (1000).to_bytes(8, "little")
        for nr in range(50):
            self.near.post(e.IBV_WR_ATOMIC_FETCH_AND_ADD, self.smr, self.src.address, 8,
                           self.dst.address, self.dmr.rkey, compare=3)
            self.assertEqual(self.near.status(), e.IBV_WC_SUCCESS)
            self.assertEqual(int.from_bytes(self.src[:8], "little"), 1000 + 3 * nr)
        self.near.post(e.IBV_WR_ATOMIC_CMP_AND_SWP, self.smr, self.src.address, 8,
                       self.dst.address, self.dmr.rkey, compare=1150, swap=7)
        self.assertEqual(self.near.status(), e.IBV_WC_SUCCESS)
        self.assertEqual(int.from_bytes(self.dst[:8], "little"), 7)

    def refused(self, address, length, rkey, opcode=e.IBV_WR_RDMA_WRITE):
        before = self.dst[:]
        self.near.post(opcode, self.smr, self.src.address, length, address, rkey)
        self.assertEqual(self.near.status(), e.IBV_WC_REM_ACCESS_ERR)
        self.assertEqual(self.dst[:], before)
        # Nothing works on a broken connection, and all of it is completed.
        self.near.post(opcode, self.smr, self.src.address, 8, self.dst.address, self.dmr.rkey)
        self.assertEqual(self.near.status(), e.IBV_WC_WR_FLUSH_ERR)

    def test_a_wrong_key_is_refused(self):
        self.refused(self.dst.address, 8, self.dmr.rkey ^ 0x1)

    def test_a_key_that_never_was_is_refused(self):
        self.refused(self.dst.address, 8, 0x00abcd00)

    def test_the_byte_after_the_end_is_refused(self):
        self.refused(self.dst.address + self.dst.length - 8, 9, self.dmr.rkey)

    def test_the_byte_before_the_start_is_refused(self):
        self.refused(self.dst.address - 1, 8, self.dmr.rkey)

    def test_a_region_without_the_right_is_refused(self):
        closed = self.far.region(self.dst, e.IBV_ACCESS_LOCAL_WRITE | e.IBV_ACCESS_REMOTE_READ)
        self.refused(self.dst.address, 8, closed.rkey)

    def test_a_deregistered_region_is_refused(self):
        gone = self.far.region(self.dst)
        rkey = gone.rkey
        gone.close()
        self.refused(self.dst.address, 8, rkey)

    def test_a_local_key_that_is_wrong_is_a_local_error(self):
        self.near.post(e.IBV_WR_RDMA_WRITE, self.dmr if self.first != self.second else self.smr,
                       self.src.address - 64, 8, self.dst.address, self.dmr.rkey)
        self.assertEqual(self.near.status(), e.IBV_WC_LOC_PROT_ERR)

    def test_a_receive_that_is_too_short_fails_at_both_ends(self):
        self.far.post_recv(self.dmr, self.dst.address, 16)
        self.near.post(e.IBV_WR_SEND, self.smr, self.src.address, 17)
        self.assertEqual(self.near.status(), e.IBV_WC_REM_INV_REQ_ERR)
        self.assertEqual(self.far.status(), e.IBV_WC_LOC_LEN_ERR)

    def test_regress_a_completion_with_an_error_is_counted_once(self):
        adapters = [Adapter(name) for name in {self.first, self.second}]
        before = sum(adapter["cqes-error"] for adapter in adapters)
        self.test_a_receive_that_is_too_short_fails_at_both_ends()
        self.assertEqual(sum(adapter["cqes-error"] for adapter in adapters) - before, 2)

    def test_no_receive_is_retried_and_then_an_error(self):
        near, far = pair(self.first, self.second, rnr_retry=1)
        mr = near.region(self.src)
        near.post(e.IBV_WR_SEND, mr, self.src.address, 8)
        self.assertEqual(near.status(), e.IBV_WC_RNR_RETRY_EXC_ERR)
        far.close()

    def test_a_receive_that_comes_late_is_found(self):
        self.near.post(e.IBV_WR_SEND, self.smr, self.src.address, 8)
        with self.assertRaises(TimeoutError):
            self.near.completion(0.2)
        self.far.post_recv(self.dmr, self.dst.address, 8)
        self.assertEqual(self.near.status(), e.IBV_WC_SUCCESS)

    def test_a_peer_that_is_gone_is_an_error_after_retries(self):
        near, far = pair(self.first, self.second, retry=1, timeout=8)
        mr = near.region(self.src)
        far.close()
        self.assertEqual(near.write(mr, self.src.address, 8, self.dst.address, self.dmr.rkey),
                         e.IBV_WC_RETRY_EXC_ERR)

    def test_regress_after_a_umr_that_failed_none_is_executed(self):
        """Two in flight: the second must not fail by itself, nor succeed."""
        mr = self.far.region(self.dst, ALL | e.IBV_ACCESS_MW_BIND)
        info = MWBindInfo(mr, self.dst.address, PAGE, e.IBV_ACCESS_REMOTE_WRITE)
        windows = [MW(self.far.pd, e.IBV_MW_TYPE_1) for _ in range(2)]
        adapter = Adapter(self.second)
        adapter["umr-delay"], adapter["hostile"] = 50000000, 1 << 10    # MLX5_HOSTILE_UMR
        try:
            for window in windows:
                self.far.qp.bind_mw(window, MWBind(info, e.IBV_SEND_SIGNALED))
            statuses = [self.far.status() for _ in windows]
        finally:
            adapter["umr-delay"] = adapter["hostile"] = 0
        self.assertEqual(statuses, [e.IBV_WC_LOC_QP_OP_ERR, e.IBV_WC_WR_FLUSH_ERR])

    def test_receives_of_a_broken_queue_are_flushed_also_late_ones(self):
        self.far.post_recv(self.dmr, self.dst.address, 8)
        self.far.fail()
        self.assertEqual(self.far.status(), e.IBV_WC_WR_FLUSH_ERR)
        self.far.post_recv(self.dmr, self.dst.address, 8)
        self.assertEqual(self.far.status(), e.IBV_WC_WR_FLUSH_ERR)

    def test_a_shared_queue_serves_in_its_own_order(self):
        srq = SRQ(self.far.pd, SrqInitAttr(SrqAttr(max_wr=32)))
        near, far = End(self.first), End(self.second, on=self.far, srq=srq)
        near.connect(far)
        far.connect(near)
        for nr in range(4):
            srq.post_recv(RecvWR(wr_id=nr, num_sge=1,
                                 sg=[SGE(self.dst.address + nr * PAGE, PAGE, self.dmr.lkey)]))
        mr = near.region(self.src)
        for nr in range(4):
            near.post(e.IBV_WR_SEND, mr, self.src.address + nr * PAGE, PAGE)
            self.assertEqual(near.status(), e.IBV_WC_SUCCESS)
            wc = far.completion()
            self.assertEqual((wc.status, wc.wr_id), (e.IBV_WC_SUCCESS, nr))
        self.assertEqual(self.dst[:4 * PAGE], self.src[:4 * PAGE])


class OneAdapter(Traffic, unittest.TestCase):
    pass


class TwoAdapters(Traffic, unittest.TestCase):
    second = "mlx5_1"
