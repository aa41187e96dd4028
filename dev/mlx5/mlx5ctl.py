# SPDX-License-Identifier: GPL-2.0
"""The test BAR of the mlx5 adapter model: counters, knobs, removal.

    adapter = Adapter("mlx5_0")
    before = adapter.counters()
    adapter["umr-delay"] = 20000            # a knob, ns of virtual time
    ...
    print(adapter["faults-rdma"] - before["faults-rdma"])

For the guest, as root.  The layout is that of qemu/hw/rdma/mlx5/mlx5_test.c: 64 KiB
of 8-byte registers.  An access of another size would not do: every register is
read and written as an element of a view of 64-bit words.
"""
import glob
import mmap
import os
import sys

import device

MAGIC = int.from_bytes(b"MLX5TEST", "little")
SIZE = 0x10000
LAYOUT = device.constants("mlx5_test.c", "TEST_")
REGISTERS = device.constants("mlx5_test.c", "TEST_REG_")
SURPRISE, EJECT, UNDO = (LAYOUT[name] for name in ("remove", "eject", "restore"))
COUNTERS, KNOBS = LAYOUT["counters"], LAYOUT["knobs"]
COUNTER_NAMES, KNOB_NAMES = LAYOUT["counter-names"], LAYOUT["knob-names"]


def functions():
    """The PCI addresses of all adapters, bound to a driver or not."""
    found = []
    for path in sorted(glob.glob("/sys/bus/pci/devices/*")):
        with open(path + "/vendor") as vendor, open(path + "/device") as device:
            if (vendor.read().strip(), device.read().strip()) == ("0x15b3", "0x1018"):
                found.append(os.path.basename(path))
    return found


def address(name=None):
    """The PCI address of an RDMA device, of the n-th adapter ("1"), or itself."""
    link = f"/sys/class/infiniband/{name}/device"
    if name and os.path.exists(link):
        return os.path.basename(os.path.realpath(link))
    if name and os.path.exists(f"/sys/bus/pci/devices/{name}"):
        return name
    number = (name or "0").removeprefix("mlx5_")
    found = functions()
    if not number.isdigit() or int(number) >= len(found):
        raise LookupError(f"no adapter '{name or 0}' (there are: {' '.join(found) or 'none'})")
    return found[int(number)]


class Adapter:
    def __init__(self, name=None):
        self.address = address(name)
        path = f"/sys/bus/pci/devices/{self.address}/resource4"
        file = os.open(path, os.O_RDWR | os.O_SYNC)
        try:
            self.words = memoryview(mmap.mmap(file, SIZE)).cast("Q")
        finally:
            os.close(file)
        if self.read(0) != MAGIC:
            raise LookupError(f"{path} is not a test BAR: {self.read(0):#x}")
        self.places = {**self.names(COUNTER_NAMES, COUNTERS, "nr-counters"),
                       **self.names(KNOB_NAMES, KNOBS, "nr-knobs"), **REGISTERS}

    def read(self, offset):
        return self.words[offset // 8]

    def write(self, offset, value):
        self.words[offset // 8] = value

    def names(self, names, values, nr):
        places = {}
        for index in range(self.read(REGISTERS[nr])):
            raw = b"".join(self.read(names + 32 * index + at).to_bytes(8, "little")
                           for at in range(0, 32, 8))
            places[raw.split(b"\0")[0].decode()] = values + 8 * index
        return places

    def __getitem__(self, name):
        return self.read(self.places[name])

    def __setitem__(self, name, value):
        self.write(self.places[name], value)
        if name != "control" and self[name] != value:
            raise ValueError(f"{name} did not take {value}: {self[name]}")

    def within(self, start):
        return {name: self.read(place) for name, place in self.places.items()
                if start <= place < start + 0x1000}

    def counters(self):
        return self.within(COUNTERS)

    def knobs(self):
        return self.within(KNOBS)

    def violation(self):
        """(kind, address, key, va) of the last one; kind 0: there was none."""
        return tuple(self[name] for name in ("violation", "violation-addr", "violation-key",
                                             "violation-va"))

    def translation(self, key, start, offset):
        """(page frame, rights: 1 read, 2 write) of a region that begins at start,
        offset bytes into it: its pages may be larger than the machine's."""
        self["key"] = key
        shift = self["page-shift"]
        at = (start & (1 << shift) - 1) + offset
        self["index"] = at >> shift
        entry = self["translation"]
        inside = (at & (1 << shift) - 1) >> 12
        return ((entry >> 12) + inside if entry & 3 else 0), entry & 3

    def leaf(self, key, start, address):
        """The key that has the pages at an address of a region, or what stands for it
        where there is none: the region's own, or that of a child in its table of keys."""
        while True:
            self["key"] = key
            shift = self["page-shift"]
            if not 12 < shift < 48:
                return key
            self["index"] = 2 * ((address >> shift) - (start >> shift))
            key = self["translation"] & 0xffffffff
            start = address >> shift << shift

    def remove(self):
        """Gone without a word: reads are all ones, DMA and interrupts are lost."""
        self["control"] = SURPRISE

    def eject(self):
        """The attention button: the guest is asked to let go of the adapter."""
        self["control"] = EJECT

    def restore(self):
        self["control"] = UNDO


USAGE = """usage: mlx5ctl [DEVICE] counters | knobs | get NAME | set NAME VALUE | resets
                       | scratch [VALUE] | violation | remove | restore | eject

DEVICE is an RDMA device, a PCI address or a number; without it, the first."""


def show(table):
    for name, value in table.items():
        print(f"{name:20} {value}")


def command(adapter, verb, args):
    if verb in ("counters", "knobs") and not args:
        show(getattr(adapter, verb)())
    elif verb == "get" and len(args) == 1:
        print(adapter[args[0]])
    elif verb == "set" and len(args) == 2:
        adapter[args[0]] = int(args[1], 0)
    elif verb == "resets" and not args:
        print(adapter["resets"])
    elif verb == "scratch" and len(args) < 2:
        if args:
            adapter["scratch"] = int(args[0], 0)
        else:
            print(adapter["scratch"])
    elif verb == "violation" and not args:
        print("kind {} address {:#x} key {:#x} va {:#x}".format(*adapter.violation()))
    elif verb in ("remove", "restore", "eject") and not args:
        getattr(adapter, verb)()
    else:
        sys.exit(USAGE)


VERBS = ("counters", "knobs", "get", "set", "resets", "scratch", "violation", "remove",
         "restore", "eject")


def main(args):
    device = args.pop(0) if args and args[0] not in VERBS else None
    if not args:
        sys.exit(USAGE)
    try:
        command(Adapter(device), args[0], args[1:])
    except KeyError as error:
        sys.exit(f"mlx5ctl: no counter, knob or register {error}")
    except (LookupError, OSError, ValueError) as error:
        sys.exit(f"mlx5ctl: {error}")
