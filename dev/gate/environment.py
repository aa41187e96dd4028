# SPDX-License-Identifier: GPL-2.0
"""Variables that the gate does not take from its caller; and one gate at a time."""
import fcntl
import os

from lib.common import note, ROOT

# Variables that change what a run is about, or excuse what it finds.
OWN = ("ACCEL", "ALLOW", "APPEND", "BUILD", "CMD", "CONFIG", "DEV", "DIRTY", "FAKENUMA",
       "FUZZ_SECONDS", "FUZZ_SEED", "HUGEPAGES", "IOMMU", "KMEMLEAK", "MEM", "MINUTES", "MLX5",
       "PINLESS_ALLOW", "PINLESS_CMD", "PINLESS_TREE", "QEMU", "REBOOT", "REPEAT", "SANITIZE",
       "SEED", "SMP", "SWAP", "T", "TIER", "TIMEOUT", "V")


def scrub(env):
    """Take them out of ENV; the names of those that said something."""
    return sorted(name for name in OWN if env.pop(name, ""))


def alone():
    """Hold the checkout for this process: two gates would build under each other."""
    os.makedirs(os.path.join(ROOT, "out"), exist_ok=True)
    file = open(os.path.join(ROOT, "out", ".check.lock"), "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note("waiting for another make check in this checkout")
        fcntl.flock(file, fcntl.LOCK_EX)
    return file
