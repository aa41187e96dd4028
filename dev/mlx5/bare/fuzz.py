#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: dev/mlx5/bare/fuzz.py [SECONDS [SEED [ACTIONS]]]      (SANITIZE=1)

Two adapters, and no guest but a driver gone mad: commands of every kind with fields of
the right kind and the wrong value, work requests, doorbells, BARs, configuration space,
queues and mailboxes overwritten, bus mastering, resets.  Nothing of that may crash QEMU,
hold it up for long, or make a sanitizer speak, and a reset brings back an adapter that
answers.

One machine lives for ACTIONS, then comes the next seed.  The virtual clock is ours, so a
seed and a number of actions are the same run each time; a failure prints how to repeat it.
"""
import os
import random
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.dirname(os.path.dirname(HERE)))

import adapter as prm               # noqa: E402
from bench import REPORTS, Bench    # noqa: E402
from machine import vm              # noqa: E402
from qtest import MEMORY, PAGE, Died, Machine     # noqa: E402

ACTIONS = 4000
SLOW = 20               # seconds for a request are a hang: work is bounded
MEANT = ("DMA check:",)     # a mad driver is reported, too
EDGES = (0, 1, 2, 3, 7, 8, 63, 64, 0xff, 0xfff, 0x1000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
         (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
LIFE = ("ENABLE_HCA", "DISABLE_HCA", "TEARDOWN_HCA", "INIT_HCA")
# Bits of control registers: memory and bus mastering, mostly both.
COMMAND = (6, 6, 6, 2, 4, 0)


class Fuzzer:
    def __init__(self, seed, qemu):
        self.random = random.Random(seed)
        self.machine = Machine(qemu, ("lid=1,quota=64M", "lid=2,quota=64M,memory-scheme=on"),
                               Bench.environment())
        try:
            headers = os.path.join(os.path.dirname(qemu), "include")
            self.devs = [prm.Adapter(self.machine, headers, nr) for nr in range(2)]
            for dev in self.devs:
                self.begin(dev)
        except BaseException:
            self.machine.close()
            raise
        self.statuses, self.messages = {}, 0
        self.knobs = [self.machine.load(self.devs[0].test + 0x2000 + 8 * nr, 8)
                      for nr in range(self.machine.load(self.devs[0].test + 0x30, 8))]
        self.slowest = (0, None)
        kinds = self.devs[0].layout.types
        names = {name: prm.NAMES.get(name, name.lower()) for name in self.devs[0].opcodes}
        self.kinds = {name: kind + "_in" for name, kind in names.items()
                      if kind + "_in" in kinds and kind + "_out" in kinds}
        # What the adapter knows, before what it does not.
        self.known = [name for name in self.kinds if any(
            word in name for word in ("QP", "CQ", "EQ", "MKEY", "PD", "UAR", "XRC", "UCTX", "UMEM",
                                      "PAGES", "RMP", "SRQ", "SQ", "COUNTER", "MCG", "HCA_CAP",
                                      "VPORT", "RESUME", "REG", "MAD", "NOP", "TRANSPORT"))]
        self.actions = [(self.command, 20), (self.make, 25), (self.connect, 8), (self.work, 30),
                        (self.ring, 6), (self.blue_flame, 4), (self.bar, 6), (self.garbage, 5),
                        (self.step, 12), (self.knob, 3), (self.bus, 1), (self.vector, 1),
                        (self.raw, 3), (self.poll, 3), (self.life, 0.5), (self.reset, 0.4),
                        (self.resume, 4), (self.alive, 2)]

    def begin(self, dev):
        dev.set_queue()
        dev.start()
        dev.pds, dev.uars = [dev.pd], [dev.uar]
        dev.cqs, dev.qps, dev.keys, dev.srqs = [], [], [], []
        dev.uids = [0]

    # ---- chance ----

    def pick(self, *values):
        return self.random.choice(values)

    def chance(self, of):
        return self.random.random() < of

    def address(self):
        """A page of ours, mostly one that something has."""
        return self.random.randrange(16 << 20, max(self.machine.next_page, 17 << 20), PAGE)

    def any_dev(self):
        return self.pick(*self.devs)

    def value(self, dev, name, width):
        """For a field of that name: the number of an object, an address, an edge."""
        objects = {"pd": dev.pds, "uar_page": dev.uars, "uar": dev.uars, "uid": dev.uids,
                   "cqn": [cq.number for cq in dev.cqs], "qpn": [qp.number for qp in dev.qps],
                   "mkey_index": [key.index for key in dev.keys], "rmpn": dev.srqs}
        objects["cqn_snd"] = objects["cqn_rcv"] = objects["cqn"]
        objects["remote_qpn"] = objects["qpn"]
        objects["srqn_rmpn_xrqn"] = objects["xrc_srqn"] = objects["rmpn"]
        if objects.get(name) and self.chance(0.8):
            found = self.random.choice(objects[name])
        elif width == 64 and self.chance(0.7):
            found = self.address() | self.pick(0, 0, 1, 3)
        elif width <= 8 or self.chance(0.4):
            found = self.random.getrandbits(min(width, self.pick(2, 4, 8, width)))
        else:
            found = self.pick(*EDGES)
        return found & ((1 << width) - 1)

    # ---- commands ----

    def fill(self, dev, kind, data, prefix, fields):
        """Some fields, and those of structures within."""
        for name, (_, width, inner) in fields.items():
            path = prefix + name
            if inner:
                if self.chance(0.9):
                    self.fill(dev, kind, data, path + "__", inner)
            elif 0 < width <= 64 and not name.startswith("reserved") and self.chance(0.35):
                dev.layout.put(kind, data, path, self.value(dev, name, width))

    def command(self):
        dev = self.any_dev()
        name = self.pick(*(self.known if self.chance(0.95) else self.kinds))
        if name in LIFE:
            return
        kind = self.kinds[name]
        data = dev.layout.new(kind)
        self.fill(dev, kind, data, "", dev.layout.types[kind][0])
        data[:2] = dev.opcodes[name].to_bytes(2, "big")
        if self.chance(0.9):
            data[2:4] = self.pick(*dev.uids).to_bytes(2, "big")
        more = b"".join((self.address() | 3).to_bytes(8, "big")
                        for _ in range(self.pick(0, 1, 2, 8, 64, 512)))
        data += more
        if self.chance(0.05):
            del data[self.random.randrange(8, len(data)):]
        out_len = dev.layout.bytes(kind.removesuffix("_in") + "_out")
        out = dev.raw(bytes(data), self.pick(out_len, out_len, out_len, 16, 1024, 4112),
                      self.random.randrange(16))
        if out:
            self.statuses.setdefault(name, set()).add(out[0])

    def raw(self):
        """Entries that are no commands: lengths, chains and bytes at random."""
        dev = self.any_dev()
        noise = bytearray(self.random.randbytes(16 * 64))
        for slot in range(16):
            at = slot * 64
            noise[at] = 7
            noise[at + 4:at + 8] = self.pick(16, 20, 600, 1 << 20, 1 << 21).to_bytes(4, "big")
            noise[at + 8:at + 16] = (self.address() + self.pick(0, 8, 512)).to_bytes(8, "big")
            noise[at + 63] |= 1
        self.machine.write(dev.queue, noise)
        dev.register(0x18, self.random.getrandbits(32))

    def life(self):
        dev = self.any_dev()
        dev.status(self.pick(*LIFE))
        if self.chance(0.9):
            self.begin(dev)

    # ---- objects that stand ----

    def make(self):
        dev = self.any_dev()
        # The driver may use what any context has; a context finds its own by luck.
        uid = self.pick(*dev.uids) if self.chance(0.1) else 0
        pd = self.pick(*dev.pds) if self.chance(0.2) else dev.pd
        uar = self.pick(*dev.uars) if self.chance(0.2) else dev.uar
        what = self.random.randrange(8)
        if self.machine.next_page > MEMORY // 4 * 3:
            self.machine.next_page = 16 << 20       # over what is there
        if what == 0:
            dev.pds.append(dev.command("ALLOC_PD", uid=uid)["pd"])
        elif what == 1:
            dev.uars.append(dev.command("ALLOC_UAR", uid=uid)["uar"])
        elif what == 2 and self.chance(0.2):
            dev.uids.append(dev.command("CREATE_UCTX")["uid"])
        elif what == 3 or not dev.cqs:
            dev.cqs.append(prm.CompletionQueue(dev, log_size=self.pick(0, 2, 6), uid=uid, uar=uar))
        elif what == 4:
            count = self.pick(1, 2, 9)
            dev.keys.append(prm.Key(dev, count, pd=pd, uid=uid, start=self.pick(None, 0, 100),
                                    absent=self.pick((), (0,), (1, 3)),
                                    written=self.pick(None, None, 0)))
        elif what == 5:
            pages = self.machine.pages(2)
            dev.srqs.append(dev.command(
                "CREATE_RMP", prm.pas(pages), uid=uid, ctx__wq__pd=pd, ctx__wq__log_wq_stride=6,
                ctx__wq__log_wq_sz=3, ctx__wq__wq_type=self.pick(0, 1),
                ctx__wq__dbr_addr=pages + PAGE)["rmpn"])
        else:
            dev.qps.append(prm.QueuePair(
                dev, self.pick(*dev.cqs), kind=self.pick(0, 0, 0, 1, 2, 3, 12), pd=pd, uar=uar,
                uid=uid, receives=self.pick(0, 2), log_sq=self.pick(2, 6),
                srq=self.pick(0, 0, *dev.srqs)))

    def connect(self):
        dev, other = self.any_dev(), self.any_dev()
        if dev.qps and other.qps:
            one, two = self.pick(*dev.qps), self.pick(*other.qps)
            number = [1, 2]
            for qp in (one, two):
                qp.adapter.status("2RST_QP", uid=qp.uid, qpn=qp.number)
                qp.posted = qp.offered = 0
                self.machine.write(qp.record, bytes(8))
            one.connect(two.number, lid=number[self.devs.index(other)],
                        log_sra_max=self.random.randrange(8), rnr_retry=self.pick(0, 1, 7))
            two.connect(one.number, lid=number[self.devs.index(dev)],
                        log_rra_max=self.random.randrange(8), timeout=self.pick(0, 1, 31))

    # ---- work ----

    def segment(self, dev):
        key = self.pick(*dev.keys).key if dev.keys and self.chance(0.8) else \
            self.pick(0x100, 0x200, 0x300, self.random.getrandbits(32))
        address = self.address() if key == 0x300 else \
            self.pick(0, 100, PAGE, self.address(), self.random.getrandbits(64))
        if dev.keys and self.chance(0.5):
            address = self.pick(*dev.keys).address + self.pick(0, 1, PAGE - 1)
        length = 8 if key == 0x300 else self.pick(0, 1, 8, 100, PAGE, 1 << 31, 1 << 31 | 60)
        if self.chance(0.5):
            return prm.remote(prm_key(key, address))
        return length.to_bytes(4, "big") + key.to_bytes(4, "big") + address.to_bytes(8, "big")

    def work(self):
        dev = self.any_dev()
        if not dev.qps:
            return
        qp = self.pick(*dev.qps)
        for _ in range(self.pick(1, 1, 3, 20)):
            if self.chance(0.6):
                self.good_work(dev, qp)
                continue
            opcode = self.pick(0, 5, 8, 8, 9, 0xa, 0xb, 0x10, 0x10, 0x11, 0x12, 0x25,
                               self.random.getrandbits(8))
            parts = [self.segment(dev) for _ in range(self.pick(1, 2, 2, 2, 3, 7))]
            if self.chance(0.1):
                parts = [self.random.randbytes(16 * self.random.randrange(1, 60))]
            qp.post(opcode, *parts, flags=self.random.getrandbits(8) & self.pick(0xff, 8, 0),
                    imm=self.pick(self.random.getrandbits(32),
                                  self.pick(*dev.keys).key if dev.keys else 0), ring=False)
        if qp.receives and self.chance(0.5):
            slot = qp.offered % (1 << qp.receives)
            first = prm.data(self.pick(*dev.keys), 4096) if dev.keys else self.segment(dev)
            self.machine.write(qp.rq + 64 * slot, first + self.segment(dev))
            qp.offered += 1
            self.machine.write(qp.record, qp.offered.to_bytes(4, "big"))
        qp.ring()

    def good_work(self, dev, qp):
        """A message that may well arrive, if the queue is connected."""
        keys = dev.keys + self.any_dev().keys
        if not keys:
            return
        key, far = self.pick(*keys), self.pick(*keys)
        part = prm.data(key, self.pick(1, 8, 100, PAGE))
        opcode = self.pick(prm.SEND, prm.WRITE, prm.READ, prm.FETCH_ADD, prm.WRITE_IMM)
        parts = [prm.remote(far)] if opcode != prm.SEND else []
        if opcode == prm.FETCH_ADD:
            parts.append(prm.operands(1))
        qp.post(opcode, *parts, part, flags=prm.COMPLETE | self.pick(0, 0, 1 << 5, 4 << 5),
                ring=False)

    def ring(self):
        dev = self.any_dev()
        self.doorbell(dev, self.pick(*dev.uars, self.random.randrange(4096)))

    def doorbell(self, dev, uar):
        number = self.pick(0, *(queue.number for queue in dev.cqs + dev.qps))
        high = self.pick(number << 8, number, self.random.getrandbits(32)).to_bytes(4, "big")
        low = self.pick(number << 8, number, self.random.getrandbits(32)).to_bytes(4, "big")
        place = self.pick(0x20, 0x40, 0x48, 0x800, 0x900)
        dev.doorbell(uar, place, high if place in (0x40, 0x48) else high + low)

    def blue_flame(self):
        """A WQE by pieces, in order or not, complete or not."""
        dev = self.any_dev()
        if not dev.qps:
            return
        qp = self.pick(*dev.qps)
        head = (qp.posted << 8 & 0xffff00 | self.pick(0, 8, 10)).to_bytes(4, "big") + \
            (qp.number << 8 | self.pick(1, 3, 4, 15, 63)).to_bytes(4, "big")
        wqe = (head + bytes(8) + self.segment(dev) + self.segment(dev)).ljust(64, b"\0")
        pieces = [(at, wqe[at:at + 8]) for at in range(0, 64, 8)]
        if self.chance(0.3):
            self.random.shuffle(pieces)
        for at, piece in pieces[:self.pick(8, 8, 5, 1)]:
            dev.doorbell(qp.uar, self.pick(0x800, 0x800, 0xa00) + at, piece)

    def resume(self):
        """What a driver would answer to the faults of late, or something like it."""
        dev = self.any_dev()
        info = "page_fault_info__trans_page_fault_info__"
        for kind, subtype, event in dev.eq.events():
            if kind == prm.PAGE_FAULT and subtype < 2:
                word = int.from_bytes(event[24:28], "big")
                token = word & 0xffffff if subtype else int.from_bytes(event[12:16], "big")
                dev.status("PAGE_FAULT_RESUME", **{
                    info + "error": self.pick(0, 0, 1), info + "page_fault_type": word >> 24 & 7,
                    info + "wq_number": word & 0xffffff, info + "fault_token": token & 0xffffff})

    # ---- the device from outside ----

    def poll(self):
        for dev in self.devs:
            for cq in dev.cqs[-3:]:
                self.machine.write(cq.record, self.random.randrange(64).to_bytes(4, "big"))
            dev.eq.events()

    def bar(self):
        dev = self.any_dev()
        size = self.pick(1, 2, 4, 8)
        at = self.pick(0x10, 0x14, 0x18, 0x200, 0x1000, 0x3000 - size,
                       self.random.randrange(0x3000), self.random.randrange(16 << 20))
        if at in (0x14,) and self.chance(0.9):
            return
        at -= at % size
        if self.chance(0.5):
            self.machine.load(dev.bar + at, size)
        else:
            self.machine.store(dev.bar + at, self.random.getrandbits(8 * size), size)
            dev.set_queue()

    def garbage(self):
        """Over what the adapter reads: rings, records, lists."""
        self.machine.write(self.address() + self.pick(0, 64, 2048),
                           self.random.randbytes(self.pick(4, 64, 512)))

    def step(self):
        self.machine.step(self.pick(0, 1, 1000, 10 ** 5, 10 ** 7, 10 ** 9))

    def knob(self):
        dev = self.any_dev()
        if self.chance(0.5):
            self.restore(dev)
        else:
            self.set_knob(dev, self.random.randrange(len(self.knobs)),
                          self.pick(0, 0, 1, 2, 100, 10 ** 6, self.random.getrandbits(12)))

    def restore(self, dev):
        for nr, value in enumerate(self.knobs):
            self.set_knob(dev, nr, value)

    def set_knob(self, dev, nr, value):
        self.machine.store(dev.test + 0x2000 + 8 * nr, value, 8)

    def alive(self):
        """An adapter that answers no more, as it may after some of this, begins anew."""
        dev = self.any_dev()
        self.messages += dev.counter("messages") - getattr(dev, "seen", 0)
        dev.seen = dev.counter("messages")
        try:
            dev.command("NOP")
        except (prm.Refused, TimeoutError):
            self.restore(dev)
            self.fresh(dev)

    def bus(self):
        dev = self.any_dev()
        self.machine.config(dev.slot, 4, self.pick(*COMMAND), 2)
        if self.chance(0.5):
            self.machine.step(10 ** 6)
        dev.places()

    def vector(self):
        """Where interrupts go: to memory, to a BAR, to configuration space."""
        dev = self.any_dev()
        entry = dev.msix + 16 * self.random.randrange(8)
        where = self.pick(self.address(), dev.bar + 0x18, dev.bar + dev.uar * PAGE + 0x800, 0xcf8)
        self.machine.config(dev.slot, self.msix_control(dev), 1 << 15, 2)
        for at, value in ((0, where), (4, 0), (8, self.random.getrandbits(32)), (12, 0)):
            self.machine.store(entry + at, value, 4)

    def msix_control(self, dev):
        at = self.machine.config(dev.slot, 0x34, size=1)
        while at and self.machine.config(dev.slot, at, size=1) != 0x11:
            at = self.machine.config(dev.slot, at + 1, size=1)
        return at + 2

    def reset(self):
        self.fresh(self.any_dev())

    def fresh(self, dev):
        dev.reset()
        self.machine.store(dev.test + 0x10, 3, 8)       # plugged in, if it was not
        self.begin(dev)

    # ---- all of it ----

    def act(self):
        actions, weights = zip(*self.actions)
        action = self.random.choices(actions, weights)[0]
        start = time.monotonic()
        try:
            action()
        except (prm.Refused, TimeoutError):
            pass                    # an answer like any other
        except ValueError:
            pass                    # a number that came back is no field of the next command
        took = time.monotonic() - start
        if took > self.slowest[0]:
            self.slowest = (took, action.__name__)

    def end(self):
        """The machine stands, said nothing, and a reset brings the adapters back."""
        self.machine.step(10 ** 9)
        for dev in self.devs:
            self.restore(dev)
            self.fresh(dev)
            dev.command("NOP")
        said = self.machine.said()
        for report in set(REPORTS) - set(MEANT):
            if report in said:
                raise Died(said)


def prm_key(key, address):
    found = prm.Key.__new__(prm.Key)
    found.key, found.address = key, address
    return found


def run(seed, actions, qemu, until=None):
    """How many actions were made; those of one machine."""
    fuzzer, count = Fuzzer(seed, qemu), 0
    try:
        while count < actions and (until is None or time.monotonic() < until):
            count += 1
            fuzzer.act()
            if fuzzer.slowest[0] > SLOW:
                raise Died(f"{fuzzer.slowest[1]} took {fuzzer.slowest[0]:.1f} s")
        fuzzer.end()
    except Exception as error:      # pylint: disable=broad-except
        print(f"FAILED after {count} actions of seed {seed}: {error}\n"
              f"again: dev/mlx5/bare/fuzz.py 0 {seed} {count}", flush=True)
        sys.exit(1)
    finally:
        fuzzer.machine.close()
    return count, fuzzer


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.getrandbits(32)
    actions = int(sys.argv[3]) if len(sys.argv) > 3 else ACTIONS
    qemu = os.environ.get("QEMU") or vm.our_qemu()
    until = time.monotonic() + seconds if seconds else None
    total, machines, messages, worked, slowest = 0, 0, 0, set(), (0, None)
    while not machines or (until and time.monotonic() < until):
        print(f"seed {seed}", flush=True)
        count, fuzzer = run(seed, actions, qemu, until)
        worked |= {name for name, seen in fuzzer.statuses.items() if 0 in seen}
        slowest = max(slowest, fuzzer.slowest, key=lambda found: found[0])
        total, machines, seed = total + count, machines + 1, seed + 1
        messages += fuzzer.messages
    print(f"{total} actions on {machines} machines; {len(worked)} commands worked, {messages} "
          f"messages arrived; the slowest action: {slowest[1]}, {slowest[0]:.2f} s")


if __name__ == "__main__":
    main()
