# SPDX-License-Identifier: GPL-2.0
"""What the tests without a guest begin with: a machine of its own each, an adapter."""
import os
import unittest

from adapter import Adapter, CompletionQueue, QueuePair
from qtest import Machine

# What a run must not say, of tests that do not mean it.
REPORTS = ("DMA check:", "runtime error:", "AddressSanitizer")


class Bench(unittest.TestCase):
    DEVICES = ("lid=1",)
    MEANT = ()          # reports that belong to the test

    def setUp(self):
        qemu = os.environ["BARE_QEMU"]
        self.machine = Machine(qemu, self.DEVICES, self.environment(), self.arguments())
        self.addCleanup(self.machine.close)
        headers = os.path.join(os.path.dirname(qemu), "include")
        self.adapters = [Adapter(self.machine, headers, nr) for nr in range(len(self.DEVICES))]
        self.dev = self.adapters[0]

    def pair_up(self):
        """A pair that is connected, with one completion queue."""
        self.cq = CompletionQueue(self.dev)
        self.near, self.far = (QueuePair(self.dev, self.cq) for _ in range(2))
        self.near.connect(self.far.number)
        self.far.connect(self.near.number)

    def tearDown(self):
        self.machine.step()
        said = self.machine.said()
        for report in set(REPORTS) - set(self.MEANT):
            self.assertNotIn(report, said)

    def arguments(self):
        """More of QEMU's command line."""
        return ()

    @staticmethod
    def environment():
        return {**os.environ, "MALLOC_PERTURB_": "165",
                "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
                "UBSAN_OPTIONS": "print_stacktrace=1"}
