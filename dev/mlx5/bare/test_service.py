# SPDX-License-Identifier: GPL-2.0
"""What a service does not promise: messages of UC that are lost, partitions that differ."""
from adapter import (READ, REMOTE_ACCESS, REQ, REQ_ERR, RESP_SEND, RETRIES, RTS, SEND, UC, WRITE,
                     CompletionQueue, Key, QueuePair, data, remote)
from bench import Bench

LOCAL_OPERATION = 0x02


class Service(Bench):
    def setUp(self):
        super().setUp()
        self.dev.start()
        self.cq, self.far_cq = CompletionQueue(self.dev), CompletionQueue(self.dev)
        self.src, self.dst = Key(self.dev), Key(self.dev, 2, absent=(1,))
        self.machine.write(self.src.pages, b"sent")

    def pair(self, kind, near_pkey=0, far_pkey=0):
        self.near = QueuePair(self.dev, self.cq, kind=kind)
        self.far = QueuePair(self.dev, self.far_cq, kind=kind)
        self.near.connect(self.far.number, pkey_index=near_pkey)
        self.far.connect(self.near.number, pkey_index=far_pkey)

    def done(self):
        self.machine.step(10 ** 6)
        return self.cq.poll()

    def both_stand(self):
        for qp in (self.near, self.far):
            self.assertEqual(self.dev.command("QUERY_QP", qpn=qp.number)["qpc__state"], RTS)

    def test_a_message_of_uc_that_finds_no_receive_is_lost(self):
        self.pair(UC)
        self.near.post(SEND, data(self.src, 4))
        self.assertEqual(self.done(), [(REQ, 0, 0)])
        self.both_stand()
        self.far.offer(self.dst, 64)
        self.near.post(SEND, data(self.src, 4))
        self.assertEqual(self.done(), [(REQ, 0, 1)])
        self.assertEqual(self.far_cq.poll(), [(RESP_SEND, 0, 0)])
        self.assertEqual(self.machine.read(self.dst.pages, 4), b"sent")

    def test_a_write_of_uc_that_is_not_allowed_is_lost(self):
        self.pair(UC)
        self.near.post(WRITE, remote(self.src, self.src.address + 8192), data(self.src, 4))
        self.assertEqual(self.done(), [(REQ, 0, 0)])
        self.both_stand()

    def test_what_finds_a_page_missing_is_lost_with_uc_and_its_receive_is_kept(self):
        self.pair(UC)
        self.far.offer(self.dst, 64, self.dst.address + 4096)
        self.far.offer(self.dst, 64)
        self.near.post(SEND, data(self.src, 4))
        self.near.post(WRITE, remote(self.dst, self.dst.address + 4096), data(self.src, 4))
        self.assertEqual(self.done(), [(REQ, 0, 0), (REQ, 0, 1)])
        self.both_stand()
        self.assertEqual(self.far_cq.poll(), [])
        self.assertEqual(self.dev.counter("faults-rq") + self.dev.counter("faults-rdma"), 0)

    def test_uc_has_no_reads(self):
        self.pair(UC)
        self.near.post(READ, remote(self.src), data(self.dst, 4))
        self.assertEqual(self.done(), [(REQ_ERR, LOCAL_OPERATION, 0)])

    def test_a_peer_that_is_not_there_is_no_error_of_uc(self):
        self.pair(UC)
        self.dev.command("DESTROY_QP", qpn=self.far.number)
        self.near.post(WRITE, remote(self.src), data(self.src, 4))
        self.assertEqual(self.done(), [(REQ, 0, 0)])

    def test_rc_hears_of_what_is_not_allowed(self):
        self.pair(0)
        self.near.post(WRITE, remote(self.src, self.src.address + 8192), data(self.src, 4))
        self.assertEqual(self.done(), [(REQ_ERR, REMOTE_ACCESS, 0)])

    def test_an_entry_of_the_partition_table_that_is_empty_reaches_nothing(self):
        for near, far in ((1, 0), (0, 1), (1, 1)):
            self.pair(0, near, far)
            self.near.post(WRITE, remote(self.src), data(self.src, 4))
            self.assertEqual(self.done(), [(REQ_ERR, RETRIES, 0)], (near, far))
        self.pair(0)
        self.near.post(WRITE, remote(self.src), data(self.src, 4))
        self.assertEqual(self.done(), [(REQ, 0, 0)])
