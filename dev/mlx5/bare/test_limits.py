# SPDX-License-Identifier: GPL-2.0
"""What a guest may take of QEMU: its memory, its time, its standard error; and what a command
line is not to say."""
import os
import subprocess
import unittest

from adapter import (LIM, OK, READ, REQ, RESP_ERR, WRITE, CompletionQueue, Key, QueuePair, Refused,
                     data, pas, remote)
from bench import Bench

MS, SECOND = 10 ** 6, 10 ** 9
MIB = 1 << 20


class Memory(Bench):
    DEVICES = ("lid=1,quota=4M",)

    def setUp(self):
        super().setUp()
        self.dev.start()

    def until_refused(self, make, most):
        """What was made until there was no more room."""
        made = []
        for _ in range(most):
            try:
                made.append(make())
            except Refused as refused:
                self.assertEqual(refused.status, LIM)
                return made
        return self.fail(f"{most} of them fit")

    def used(self):
        return self.dev.counter("memory-bytes")

    def test_keys_without_end_are_refused(self):
        before = self.used()
        keys = self.until_refused(lambda: Key(self.dev, start=0, pages=self.dev.queue), 20000)
        self.assertGreater(len(keys), 100)
        self.assertLess(self.used(), 4 * MIB + 1)
        for key in keys:
            self.assertEqual(self.dev.status("DESTROY_MKEY", mkey_index=key.index), OK)
        self.assertEqual(self.used(), before)
        Key(self.dev)

    def test_a_few_keys_with_large_tables_are_refused(self):
        octwords = (1 << 31) // 16          # 1 TiB of pages
        self.assertEqual(self.dev.status(
            "CREATE_MKEY", memory_key_mkey_entry__translations_octword_size=octwords,
            memory_key_mkey_entry__pd=self.dev.pd), LIM)

    def test_all_kinds_of_objects_count(self):
        cq = CompletionQueue(self.dev)
        kinds = (lambda: self.dev.command("ALLOC_PD"), lambda: CompletionQueue(self.dev, like=cq),
                 lambda: QueuePair(self.dev, cq, like=self.dev.queue), self.umem)
        for make in kinds:
            self.until_refused(make, 40000)
            self.dev.command("TEARDOWN_HCA")
            self.assertLess(self.used(), 64 << 10)
            self.dev.start()
            cq = CompletionQueue(self.dev)

    def umem(self):
        pages = [self.dev.queue] * 2000
        return self.dev.command("CREATE_UMEM", pas(*pages), umem__num_of_mtt=len(pages))

    def test_a_reset_gives_all_of_it_back(self):
        self.until_refused(lambda: Key(self.dev, start=0, pages=self.dev.queue), 20000)
        self.dev.reset()
        self.assertEqual(self.used(), 0)


class Work(Bench):
    def setUp(self):
        super().setUp()
        self.dev.start()
        self.cq = CompletionQueue(self.dev, log_size=8)
        self.key = Key(self.dev)

    def broken(self):
        qp = QueuePair(self.dev, self.cq)
        qp.connect(qp.number)
        self.dev.command("2ERR_QP", qpn=qp.number)
        return qp

    def looks(self, ns):
        before = self.dev.counter("dma-reads")
        self.machine.step(ns)
        return self.dev.counter("dma-reads") - before

    def test_a_queue_in_error_is_looked_at_less_and_less_often(self):
        self.broken()
        self.machine.step(2 * SECOND)
        self.assertLess(self.looks(10 * SECOND), 45)

    def test_many_in_error_cost_no_more_than_a_few(self):
        for _ in range(300):
            self.broken()
        self.machine.step(2 * SECOND)
        self.assertLess(self.looks(10 * SECOND), 45 * 64)

    def test_a_receive_that_comes_late_is_flushed_all_the_same(self):
        several = [self.broken() for _ in range(100)]
        self.machine.step(10 * SECOND)
        self.assertEqual(self.cq.poll(), [])
        for qp in several:
            qp.offer(self.key, 8)
        self.machine.step(SECOND)
        self.assertEqual([found[0] for found in self.cq.poll()], [RESP_ERR] * 100)

    def test_a_read_is_not_put_aside_for_ever(self):
        """By a program that posts on and on: each write brings another value."""
        qp = QueuePair(self.dev, self.cq, log_sq=8)
        qp.connect(qp.number)
        target, found = Key(self.dev), Key(self.dev)
        self.machine.write(self.key.pages, bytes(range(256)))
        qp.post(READ, remote(target), data(found, 1), ring=False)
        for nr in range(1, 200):
            qp.post(WRITE, remote(target), data(self.key, 1, self.key.address + nr), ring=nr == 199)
        self.machine.step(MS)
        self.assertEqual([done[0] for done in self.cq.poll()], [REQ] * 200)
        self.assertEqual(self.machine.read(found.pages, 1)[0], 63)


class Reports(Bench):
    MEANT = ("DMA check:",)

    def test_a_guest_cannot_make_it_print_without_end(self):
        self.dev.start()
        cq = CompletionQueue(self.dev, log_size=8)
        qp = QueuePair(self.dev, cq)
        qp.connect(qp.number)
        key = Key(self.dev, written=0)
        for nr in range(60):
            qp.post(WRITE, remote(key), data(key, 8))
            self.machine.step()
        self.assertGreater(self.dev.counter("dma-violations"), 20)
        self.assertEqual(self.machine.said().count("DMA check:"), 20)
        self.machine.step(3 * SECOND)
        for _ in range(10):
            qp.post(WRITE, remote(key), data(key, 8))
            self.machine.step()
        self.assertEqual(self.machine.said().count("DMA check:"), 23)


class CommandLine(unittest.TestCase):
    """What QEMU says to it, and that it ends."""

    def refused(self, *devices):
        args = [os.environ["BARE_QEMU"], "-M", "q35,accel=qtest", "-display", "none", "-nodefaults",
                "-monitor", "stdio"]
        for device in devices:
            args += ["-device", device]
        return subprocess.run(args, input="quit\n", capture_output=True, text=True, timeout=60)

    def test_a_lid_that_another_adapter_of_the_fabric_has(self):
        done = self.refused("mlx5,lid=3", "mlx5,lid=3")
        self.assertEqual(done.returncode, 1)
        self.assertIn("LID 3 is another adapter's in fabric 'default'", done.stderr)

    def test_the_same_lid_in_two_fabrics(self):
        self.assertEqual(self.refused("mlx5,lid=3", "mlx5,lid=3,fabric=other").returncode, 0)

    def test_the_test_registers_are_off(self):
        args = [os.environ["BARE_QEMU"], "-M", "q35,accel=qtest", "-display", "none", "-nodefaults",
                "-monitor", "stdio", "-device", "mlx5,addr=4"]
        done = subprocess.run(args, input="info pci\nquit\n", capture_output=True, text=True,
                              timeout=60)
        adapter = done.stdout.split("15b3:1018")[1].split("Bus ")[0]
        self.assertIn("BAR2", adapter)
        self.assertNotIn("BAR4", adapter)
