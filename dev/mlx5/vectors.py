#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: vectors.py ADDRESS aim VECTOR...
       vectors.py ADDRESS wait [SECONDS]

An MSI-X entry is memory that the guest writes: let interrupts of the adapter
store to its own configuration space instead of to an interrupt controller, and
set its function-level reset there.  "wait" ends well once that has happened, and
gives the adapter its BARs back.  For root in the guest; configuration space is
found as q35 has it.
"""
import mmap
import os
import sys
import time

SYS = "/sys/bus/pci/devices"
SAVED = "/tmp/vectors-config"
BARS = slice(0x10, 0x28)
COMMAND = slice(0x04, 0x06)
CAP_EXPRESS = 0x10
DEVICE_CONTROL = 0x08
FLR = 1 << 15
ENTRY_WORDS = 4             # address low, high, data, control


def config(address):
    with open(f"{SYS}/{address}/config", "rb", buffering=0) as file:
        return file.read(256)


def word(data, offset, length=2):
    return int.from_bytes(data[offset:offset + length], "little")


def express(address):
    """Where the PCI Express capability begins."""
    data = config(address)
    at = data[0x34]
    while at and data[at] != CAP_EXPRESS:
        at = data[at + 1]
    return at


def ecam(address):
    """The physical address of a function's configuration space: PCIEXBAR's word."""
    base = word(config("0000:00:00.0"), 0x60, 8)
    if not base & 1:
        sys.exit("vectors: this machine has no memory-mapped configuration space")
    bus, device, function = (int(part, 16) for part in
                             address.split(":", 1)[1].replace(".", ":").split(":"))
    return (base & 0xff0000000) + (bus << 20 | device << 15 | function << 12)


def aim(address, vectors):
    saved = config(address)
    with open(SAVED, "wb") as file:
        file.write(saved)
    at = express(address) + DEVICE_CONTROL
    bar = os.open(f"{SYS}/{address}/resource2", os.O_RDWR | os.O_SYNC)
    table = memoryview(mmap.mmap(bar, mmap.PAGESIZE)).cast("I")
    for vector in vectors:
        # The address first: our data must not get to an interrupt controller.
        table[vector * ENTRY_WORDS] = ecam(address) + at
        table[vector * ENTRY_WORDS + 2] = word(saved, at) | FLR


def was_reset(address):
    """BAR 0 has no address any more, just its type."""
    return not word(config(address), BARS.start, 8) >> 4


def wait(address, seconds):
    end = time.monotonic() + seconds
    while not was_reset(address):
        if time.monotonic() > end:
            sys.exit(f"vectors: no reset in {seconds} s")
        time.sleep(0.05)
    with open(SAVED, "rb") as file:
        saved = file.read()
    with open(f"{SYS}/{address}/config", "r+b", buffering=0) as file:
        for part in (BARS, COMMAND):
            file.seek(part.start)
            file.write(saved[part])


def main():
    args = sys.argv[1:]
    if len(args) > 2 and args[1] == "aim":
        aim(args[0], [int(vector) for vector in args[2:]])
    elif len(args) > 1 and args[1] == "wait":
        wait(args[0], float(args[2]) if len(args) > 2 else 30)
    else:
        sys.exit(__doc__)


main()
