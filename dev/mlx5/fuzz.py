#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: fuzz.py [SEED [SECONDS]]        in the guest, as root

Without a driver: commands, doorbells, work requests and broken mailboxes at
random, from a process of the guest that owns the adapter.  Nothing of that may
crash or hang QEMU, and at the end the adapter answers commands, and a driver
finds it in order.

Three layers, as one can only get to the next if the one before holds: entries
and mailboxes that do not parse; commands of every opcode with random bytes;
queues that were set up correctly, with random work in them.  All memory that is
named is the process's own: pages locked and looked up in /proc/self/pagemap.

The adapter sees the same sequence for the same seed; how far it gets is a
matter of time.
"""
import contextlib
import ctypes
import mmap
import os
import random
import struct
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)

from mlx5ctl import functions   # noqa: E402

PAGE, SLOTS, NR_PAGES = 4096, 16, 64
# Of our pages: the command queue, mailboxes in and out, queues, records.
QUEUE, IN, OUT, CQ_PAGE, EQ_PAGE, QP_PAGE, DATA, DBR = 0, 2, 30, 50, 52, 54, 56, 60
MAILBOX = 512
MANAGE = (0x102, 0x103, 0x104, 0x105)       # these end everything; so they are rare
OPCODES = [*range(0x100, 0x106), *range(0x107, 0x10c), *range(0x200, 0x205), 0x301, 0x302, 0x303,
           *range(0x400, 0x404), *range(0x500, 0x50f), *range(0x700, 0x704), *range(0x705, 0x709),
           *range(0x762, 0x766), *range(0x770, 0x774), *range(0x800, 0x804), *range(0x805, 0x808),
           0x80d, 0x80e, 0x80f, 0x816, 0x817, *range(0x90c, 0x910), 0xa04, 0xa06, 0xa08, 0xa0a]
ALLOCATE = (0x800, 0x80e, 0x816, 0xa04)
NOP = 0x80d
WQE_OPCODES = (0x00, 0x05, 0x08, 0x09, 0x0a, 0x0b, 0x0e, 0x10, 0x11, 0x12, 0x14, 0x15, 0x25)
LENGTHS = (8, 12, 16, 32, 64, 0x110, 0x120, 0x200, 0x400, 0x1010, 4096)
NUMBERS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 64, 0xff)
WAIT = 5                # seconds for a command that has to be answered


def big(value):
    """The adapter's registers are big-endian, the BAR's view is not."""
    return int.from_bytes(value.to_bytes(4, "big"), "little")


def put(buf, at, width, value):
    """A field of the programmer's manual: its first bit and how many."""
    whole = int.from_bytes(buf, "big")
    shift = len(buf) * 8 - at - width
    mask = (1 << width) - 1
    buf[:] = (whole & ~(mask << shift) | (value & mask) << shift).to_bytes(len(buf), "big")


class Memory:
    """Pages that stay where they are, and their physical addresses."""

    def __init__(self):
        self.map = mmap.mmap(-1, NR_PAGES * PAGE)
        for nr in range(NR_PAGES):
            self.map[nr * PAGE] = 1
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        if ctypes.CDLL(None).mlock(ctypes.c_void_p(address), ctypes.c_size_t(NR_PAGES * PAGE)):
            raise OSError("mlock")
        with open("/proc/self/pagemap", "rb") as file:
            file.seek(address // PAGE * 8)
            entries = struct.unpack(f"<{NR_PAGES}Q", file.read(8 * NR_PAGES))
        self.pages = [(entry & (1 << 55) - 1) * PAGE for entry in entries]

    def store(self, page, data, offset=0):
        at = page * PAGE + offset
        self.map[at:at + len(data)] = data


class Function:
    """The adapter without a driver: BAR 0, bus mastering, reset."""

    def __init__(self, memory):
        self.memory = memory
        self.folder = f"/sys/bus/pci/devices/{functions()[0]}"
        if os.path.exists(f"{self.folder}/driver"):
            self.put("driver/unbind", os.path.basename(self.folder))
        self.put("enable", "1")
        file = os.open(f"{self.folder}/resource0", os.O_RDWR | os.O_SYNC)
        bar = mmap.mmap(file, 16 << 20)
        os.close(file)
        self.bytes = memoryview(bar)
        self.words, self.doublewords = self.bytes.cast("I"), self.bytes.cast("Q")
        self.begin()

    def put(self, name, text):
        with open(f"{self.folder}/{name}", "w") as file:
            file.write(text)

    def begin(self):
        """Memory and DMA on, and the queue's address."""
        with open(f"{self.folder}/config", "rb+", buffering=0) as file:
            command, = struct.unpack("<H", os.pread(file.fileno(), 2, 4))
            os.pwrite(file.fileno(), struct.pack("<H", command | 6), 4)
        self.set_queue()

    def set_queue(self):
        self.words[4] = big(self.memory.pages[QUEUE] >> 32)
        self.words[5] = big(self.memory.pages[QUEUE] & 0xffffffff)

    def reset(self):
        self.put("reset", "1")
        self.begin()

    def chain(self, first, data, nr):
        """Mailboxes from page first on; the first one's address."""
        for index in range(nr):
            page = first + index
            link = self.memory.pages[page + 1] if index < nr - 1 else 0
            block = data[MAILBOX * index:MAILBOX * (index + 1)].ljust(MAILBOX, b"\0")
            self.memory.store(page, block + bytes(48) +
                              struct.pack(">QIBBBB", link, index, 0, 7, 0, 0))
        return self.memory.pages[first] if nr else 0

    def command(self, data, out_len, slot=0, kind=7, limit=2):
        """The first 16 bytes of the answer, or None."""
        def blocks(length):
            return min((max(0, length - 16) + MAILBOX - 1) // MAILBOX, 20)
        in_ptr = self.chain(IN, data[16:], blocks(len(data)))
        out_ptr = self.chain(OUT, b"", blocks(out_len))
        self.memory.store(QUEUE, struct.pack(">B3xIQ", kind, len(data), in_ptr) +
                          data[:16].ljust(16, b"\0") + bytes(16) +
                          struct.pack(">QIBBBB", out_ptr, out_len, 7, 0, 0, 1), slot * 64)
        self.words[6] = big(1 << slot)
        end = time.monotonic() + limit
        while self.memory.map[slot * 64 + 63] & 1:
            if time.monotonic() > end:
                return None
        return self.memory.map[slot * 64 + 32:slot * 64 + 48]

    def doorbell(self, uar, register, high, low):
        self.doublewords[(uar * PAGE + register) // 8] = int.from_bytes(
            struct.pack(">II", high, low), "little")


class Fuzzer:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.memory = Memory()
        self.function = Function(self.memory)
        self.count, self.lost, self.resets, self.posted = 0, 0, 0, 0
        self.statuses = {}          # opcode -> those that were seen
        self.forget()
        self.actions = [(self.any_command, 40), (self.allocate, 10), (self.event_queue, 5),
                        (self.completion_queue, 6), (self.memory_key, 5), (self.queue_pair, 6),
                        (self.work, 20), (self.arm, 4), (self.any_doorbell, 3),
                        (self.any_register, 7), (self.look, 3), (self.broken_entries, 3),
                        (self.reset, 0.5), (self.record, 4)]

    def forget(self):
        self.uar, self.eqn, self.cqn, self.pd, self.key, self.qpn = 8, 1, 1, 1, 0x1000, 0x40

    def noise(self, length):
        return self.random.getrandbits(8 * length).to_bytes(length, "big")

    def pick(self, *values):
        return self.random.choice(values)

    def address(self):
        return self.random.choice(self.memory.pages)

    def number(self, opcode, out_len=16, data=None):
        """A command that may well work: the number that it gives, or None."""
        out = self.function.command(bytes(data) if data else
                                    struct.pack(">HHHHII", opcode, 0, 0, 0, 0, 0), out_len)
        self.lost += out is None
        if not out or out[0]:
            return None
        self.statuses.setdefault(opcode, set()).add(0)
        return int.from_bytes(out[8:12], "big")

    # ---- commands with anything in them ----

    def plausible(self, opcode):
        length = self.random.choice(LENGTHS)
        if self.random.random() < 0.3:
            data = bytearray(self.noise(length))
        else:
            data = bytearray(length)
            for _ in range(self.random.randint(0, 40)):
                data[self.random.randrange(length)] = self.pick(*NUMBERS,
                                                                self.random.getrandbits(8))
        for _ in range(self.random.randint(0, 30) if length >= 32 else 0):
            struct.pack_into(">Q", data, self.random.randrange(length // 8) * 8,
                             self.address() | self.pick(0, 3))
        struct.pack_into(">HHHH", data, 0, opcode, self.pick(0, 0, 0, 0, 0, 1, 2, 0xffff), 0,
                         self.pick(0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 0x40))
        return bytes(data)

    def any_command(self):
        opcode = self.random.getrandbits(16) if self.random.random() < 0.03 else \
            self.random.choice(OPCODES)
        if opcode in MANAGE and self.random.random() < 0.95:
            return
        kind = 7 if self.random.random() < 0.98 else self.random.getrandbits(8)
        out = self.function.command(self.plausible(opcode),
                                    self.pick(8, 12, 16, 32, 0x110, 0x200, 0x1010, 4112),
                                    self.random.randrange(SLOTS), kind)
        if out is None:
            self.lost += 1
        else:
            self.statuses.setdefault(opcode, set()).add(out[0])

    def broken_entries(self):
        """All slots at once, lengths and chains at random."""
        self.memory.store(QUEUE, self.noise(SLOTS * 64))
        for slot in range(SLOTS):
            entry = bytearray(self.memory.map[slot * 64:slot * 64 + 64])
            entry[0], entry[63] = 7, entry[63] | 1
            lengths = (20, 600, 5000, 1 << 20, 1 << 21, 0xffffffff)
            struct.pack_into(">I", entry, 4, self.random.choice(lengths))
            struct.pack_into(">Q", entry, 8, self.address() + self.pick(0, 8, 512))
            struct.pack_into(">I", entry, 56, self.random.choice(lengths))
            self.memory.store(QUEUE, entry, slot * 64)
        self.function.words[6] = 0xffffffff
        time.sleep(0.002)

    # ---- queues that stand ----

    def allocate(self):
        if self.random.random() < 0.5:
            self.uar = self.number(0x802) or self.uar
            return
        opcode = self.random.choice(ALLOCATE)
        number = self.number(opcode)
        if opcode == 0x800:
            self.pd = number or self.pd

    def event_queue(self):
        data = bytearray(0x120)
        struct.pack_into(">H", data, 0, 0x301)
        struct.pack_into(">I", data, 0x1c, self.pick(0, 2, 4) << 24 | self.uar)
        struct.pack_into(">I", data, 0x24, self.random.randrange(8))
        struct.pack_into(">Q", data, 0x58, self.pick(0, 1 << 12, (1 << 64) - 1, 1 << 10))
        struct.pack_into(">QQ", data, 0x110, *self.memory.pages[EQ_PAGE:EQ_PAGE + 2])
        self.eqn = (self.number(0x301, data=data) or self.eqn) & 0xff

    def completion_queue(self):
        data = bytearray(0x120)
        struct.pack_into(">H", data, 0, 0x400)
        struct.pack_into(">I", data, 0x1c, self.pick(0, 2, 4, 6) << 24 | self.uar)
        struct.pack_into(">I", data, 0x24, self.eqn)
        struct.pack_into(">Q", data, 0x48, self.memory.pages[DBR])
        struct.pack_into(">QQ", data, 0x110, *self.memory.pages[CQ_PAGE:CQ_PAGE + 2])
        self.cqn = self.number(0x400, data=data) or self.cqn

    def memory_key(self):
        """A few of our pages, some of them absent; sometimes a list of keys."""
        indirect = self.random.random() < 0.3
        data = bytearray(0x110 + 64)
        struct.pack_into(">H", data, 0, 0x200)
        mkc = bytearray(64)
        put(mkc, 0x10, 6, 0x3f)                 # umr_en, a, rw, rr, lw, lr
        put(mkc, 0x16, 2, self.pick(2, 3) if indirect else 1)
        put(mkc, 0x68, 24, self.pd)
        put(mkc, 0xc0, 64, self.pick(4, 8) * PAGE)
        put(mkc, 0x1a0, 32, 4)
        put(mkc, 0x1da, 6, 12)
        data[0x10:0x50] = mkc
        put(data, 0x60, 1, 1)                   # pg_access: rights are in the entries
        put(data, 0x300, 32, 4)
        for nr in range(4 if indirect else 8):
            if indirect:
                struct.pack_into(">IIQ", data, 0x110 + 16 * nr, self.pick(PAGE, 0, 1 << 31),
                                 self.key, self.pick(0, PAGE, self.random.getrandbits(64)))
            else:
                struct.pack_into(">Q", data, 0x110 + 8 * nr, self.pick(0, 1, 3, 3, 3) |
                                 self.memory.pages[DATA + nr % 4])
        index = self.number(0x200, data=data)
        self.key = index << 8 if index else self.key

    def queue_pair(self):
        """From creation to RTS, connected to itself."""
        qpc = bytearray(232)
        for at, width, value in ((8, 8, self.pick(0, 0, 0, 1, 2, 3, 7, 8, 12)), (0x28, 24, self.pd),
                                 (0x40, 3, 3), (0x43, 5, 30), (0x49, 4, 2), (0x4d, 3, 2),
                                 (0x51, 4, 4), (0x5b, 1, 1), (0x68, 24, self.uar),
                                 (0x3e8, 24, self.cqn), (0x4e8, 24, self.cqn), (0x490, 3, 7),
                                 (0x488, 3, 2), (0x388, 3, 2), (0x500, 64, self.memory.pages[DBR]),
                                 (0xc0 + 0x30, 16, 1), (0xc0 + 0x40, 5, 8), (0x38d, 3, 1),
                                 (0x390, 3, 1)):
            put(qpc, at, width, value)
        data = bytearray(0x120)
        struct.pack_into(">H", data, 0, 0x500)
        data[0x18:0x18 + len(qpc)] = qpc
        struct.pack_into(">QQ", data, 0x110, *self.memory.pages[QP_PAGE:QP_PAGE + 2])
        qpn = self.number(0x500, data=data)
        if not qpn:
            return
        self.qpn = qpn
        put(qpc, 0xa8, 24, qpn)
        for opcode in (0x502, 0x503, 0x504):
            data = bytearray(0x110)
            struct.pack_into(">HHHHI", data, 0, opcode, 0, 0, 0, qpn)
            data[0x18:0x18 + len(qpc)] = qpc
            self.number(opcode, data=data)

    def segment(self):
        key = self.pick(self.key, self.key, self.key, 0x100, 0x200, 0x300,
                        self.random.getrandbits(32))
        address = self.address() if key == 0x300 else \
            self.pick(0, 100, PAGE, 7 * PAGE, self.random.getrandbits(64))
        length = self.pick(0, 1, 8, 100, PAGE, 1 << 31, 1 << 31 | 60, 0x7fffffff)
        # The reserved key means physical memory: there we stay within the page.
        return struct.pack(">IIQ", 8 if key == 0x300 else length, key, address)

    def work(self):
        """Random work requests on a queue that stands, and its doorbell."""
        queue = bytearray()
        for index in range(16):
            opcode = self.random.choice(WQE_OPCODES)
            units = self.pick(1, 2, 3, 4, 4, 4, 8, 12, 63)
            immediate = self.pick(self.key, self.random.getrandbits(32))    # of a UMR: its key
            queue += struct.pack(">IIBBBBI", self.pick(0, 0, 0, 1) << 24 | index << 8 | opcode,
                                 self.qpn << 8 | units, 0, 0, 0, self.pick(0, 8, 0xff), immediate)
            rest = (self.segment() for _ in range(3))
            queue += b"".join(rest) if self.random.random() < 0.8 else self.noise(48)
        self.memory.store(QP_PAGE, b"".join(self.segment() for _ in range(16)))     # 4 receives
        self.memory.store(QP_PAGE, queue, 256)
        self.posted += 1
        produced = self.pick(1, 4, 16, self.posted, self.random.getrandbits(16))
        self.memory.store(DBR, struct.pack(">II", self.pick(0, 2, 4, 0xffff), produced))
        self.function.doorbell(self.uar, 0x800, produced << 8, self.qpn << 8)

    def arm(self):
        self.function.doorbell(self.uar, 0x20, self.random.getrandbits(32), self.cqn)

    # ---- the BAR, at random ----

    def any_doorbell(self):
        self.function.doorbell(self.uar, 0x800, self.random.getrandbits(32),
                               self.random.randrange(1 << 10) << 8)

    def any_register(self):
        words = self.function.words
        words[self.pick(4, 5, 6, self.random.randrange(0x3000 // 4),
                        self.random.randrange(4 << 20))] = self.random.getrandbits(32)
        self.function.set_queue()

    def look(self):
        return (self.function.words[self.random.randrange(4 << 20)],
                self.function.bytes[self.random.randrange(16 << 20)])

    def record(self):
        self.memory.store(DBR, struct.pack(">II", self.random.getrandbits(24),
                                           self.random.getrandbits(32)))

    def reset(self):
        self.function.reset()
        self.resets += 1
        self.forget()

    # ---- all of it ----

    def run(self, seconds):
        actions, weights = zip(*self.actions)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.count += 1
            self.random.choices(actions, weights)[0]()

    def answers(self):
        """Without a reset: whatever came before, a command is answered."""
        self.function.set_queue()
        with contextlib.suppress(TypeError):
            return self.function.command(struct.pack(">HHHHII", NOP, 0, 0, 0, 0, 0), 16,
                                         limit=WAIT)[0] == 0
        return False


def main():
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.getrandbits(32)
    print(f"seed {seed}", flush=True)
    fuzzer = Fuzzer(seed)
    fuzzer.run(float(sys.argv[2]) if len(sys.argv) > 2 else 30)
    worked = {opcode for opcode, seen in fuzzer.statuses.items() if 0 in seen}
    print(f"{fuzzer.count} actions, {fuzzer.resets} resets, {fuzzer.lost} commands without answer, "
          f"{len(worked)} opcodes worked")
    print("never:", " ".join(f"{opcode:#x}" for opcode in OPCODES if opcode not in worked))
    if not fuzzer.answers():
        sys.exit("the adapter answers no more")
    fuzzer.function.reset()
    if not fuzzer.answers():
        sys.exit("the adapter does not answer after a reset")


if __name__ == "__main__":
    main()
