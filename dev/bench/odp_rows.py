# SPDX-License-Identifier: GPL-2.0
"""The rows of paging's table. A value that is missing is an error, but where the
registration itself was refused."""
import errno
import statistics

from bench.rows import Row, bound, rounds

SLOWER = 1.03       # what counts as slower than stock
LENGTHS = (1, 16, 256, 1024)
SHAPES = {"4k": "4 KiB of 2 MiB", "2m": "2 MiB in 4 KiB pages", "2m.huge": "2 MiB, a huge page",
          "2m.sparse": "2 MiB, one page in it", "1g.sparse": "1 GiB, one page in each 2 MiB",
          "1g.huge": "1 GiB in huge pages", "1g": "1 GiB in 4 KiB pages"}


def median(name, boot="one", scale=1):
    def value(side):
        return statistics.median(rounds(side[boot], name)) * scale
    return value


def ratio(over, under):
    def value(side):
        return over(side) / under(side) if over(side) and under(side) else None
    return value


def where(name, value, boot="one"):
    """The same, or None where there is nothing of that name."""
    return lambda side: value(side) if name in side[boot] else None


def no_slower(value):
    def target(stock):
        return SLOWER * value(stock) if value(stock) is not None else None
    return {"target": target, "says": f"<= {SLOWER}x stock"}


def at_least(limit):
    return {"target": lambda stock: limit, "says": f">= {limit}", "least": True}


def fraction(value, divisor):
    return {"target": lambda stock: value(stock) / divisor, "says": f"<= stock / {divisor}"}


def us(what, value, **more):
    return Row(what, "us", value, **(more or no_slower(value)))


def registration():
    for length in LENGTHS:
        time = where(f"reg.ns.{length}.0", median(f"reg.ns.{length}", scale=1e-3))
        yield us(f"registration of {length:,} GiB, untouched", time)
    one, *more = (where(f"reg.ns.{length}.0", median(f"reg.ns.{length}")) for length in LENGTHS)
    for length, value in zip(LENGTHS[1:], more):
        yield Row(f"  {length:,} GiB over 1 GiB", "ratio", ratio(value, one), **bound(1.1))
    for length in LENGTHS:
        name = f"reg.bytes.{length}"
        yield Row(f"kernel memory of it, {length:,} GiB", "bytes",
                  where(name, lambda side, name=name: side["one"][name]),
                  target=lambda stock: 4096, says="< 4,096")
    for length in LENGTHS:
        name = f"reg.context.{length}"
        yield Row(f"memory of the adapter, {length:,} GiB, untouched", "bytes",
                  where(name, lambda side, name=name: side["one"][name]),
                  target=lambda stock: 1 << 20, says="<= 1 MiB")
    yield us("registration of all memory", median("reg.implicit.ns", scale=1e-3))
    yield Row("memory of the adapter, all memory, untouched", "bytes",
              lambda side: side["one"]["reg.implicit.context"],
              target=lambda stock: 1 << 24, says="<= 16 MiB")
    for length in LENGTHS:
        yield us(f"deregistration of {length:,} GiB, untouched",
                 where(f"dereg.ns.{length}.0", median(f"dereg.ns.{length}", scale=1e-3)))


def deregistration():
    yield us("deregistration, all 256 MiB mapped in 4 KiB pages",
             median("dereg.touched.ns", scale=1e-3))
    yield Row("  UMR WQEs", "WQEs", median("dereg.touched.umrs"))


def faults():
    for name, what in (("first", "write of a page, the first in its 2 MiB"),
                       ("next", "write of a page beside one that is there"),
                       ("warm", "write of a page that is there")):
        yield us(what, median(f"fault.{name}.ns", scale=1e-3))
    for name, what, most in (("sparse", "in its 64 MiB, of 1 GiB", 1.25),
                             ("implicit", "in its GiB, of all memory", 1)):
        value = median(f"fault.{name}.ns", scale=1e-3)
        yield us(f"write of a page, the first {what}", value, says=f"<= {most}x stock",
                 target=lambda stock, value=value, most=most: most * value(stock))
    kinds = (("sequential", "sequential writes, 4 KiB pages", 0.15),
             ("untouched", "the same, of memory that the process has not touched", 0.25),
             ("random", "random writes in 1 GiB, 4 KiB pages", 1.02),
             ("huge", "sequential writes, huge pages", SLOWER),
             ("alone", "sequential writes, 4 KiB pages, nothing ahead", SLOWER))
    for name, what, most in kinds:
        value = median(f"fault.{name}.ns", scale=1e-3)
        yield us(f"{what}, a page", value, says=f"<= {most}x stock",
                 target=lambda stock, value=value, most=most: most * value(stock))
        yield Row("  faults a page", "faults", median(f"fault.{name}.faults"))
        yield Row("  UMR WQEs a page", "WQEs", median(f"fault.{name}.umrs"))
    yield Row("faults a page of two streams in one region", "faults",
              median("fault.streams.faults"), **bound(0.1))
    yield us("registration of 8 MiB that is there, and a write of each page, a page",
             median("fault.use.ns", scale=1e-3))
    small, huge = (median(f"fault.{name}.insns.ns", scale=1 / 4096)
                   for name in ("alone", "huge"))
    yield Row("instructions a byte, 4 KiB pages, nothing ahead", "instructions", small,
              **no_slower(small))
    yield Row("instructions a byte, huge pages, nothing ahead", "instructions", huge,
              **no_slower(huge))
    yield Row("  4 KiB pages over huge ones", "ratio", ratio(small, huge), **at_least(4))
    yield Row("  faults: 4 KiB pages over huge ones", "ratio",
              ratio(median("fault.alone.faults"), median("fault.huge.insns.faults")),
              **at_least(100))


def crowd():
    value = median("crowd")
    yield Row("64 queue pairs that fault at once", "faults/s", value, least=True,
              target=lambda stock: 2 * value(stock), says=">= 2x stock")


def waits(shape):
    """How many times the device was waited for, one after the other."""
    more, less = (median(f"inval.{shape}.{way}.ns") for way in ("longer", "long"))

    def value(side):
        return max(0, round((more(side) - less(side)) / side["one"]["inval.delay.ns"], 1))
    return value


def invalidation():
    for shape, what in SHAPES.items():
        time, unmap, alone = (median(f"inval.{shape}.{way}.ns", scale=1e-3)
                              for way in ("madvise", "munmap", "alone"))
        count = waits(shape)
        yield us(f"madvise, {what}", time, **(fraction(time, 5) if shape == "1g" else {}))
        yield Row("  UMR WQEs", "WQEs", median(f"inval.{shape}.madvise.umrs"))
        yield Row("  waits for the device", "waits", count,
                  **(fraction(count, 10) if shape in ("1g", "1g.sparse") else {}))
        yield Row("  of the time without a region", "us", alone)
        yield Row("  of the time because of it", "us",
                  lambda side, time=time, alone=alone: max(0, time(side) - alone(side)))
        yield us("  munmap instead", unmap)


def chunks():
    """Flat: a chunk costs what it costs, however many one munmap takes."""
    sizes = {length: median(f"chunks.ns.{length}", "two", scale=1e-3) for length in (4, 64, 256)}
    for length, value in sizes.items():
        yield us(f"munmap of {length} GiB, a page in each 2 MiB, and deregistration: each", value)
    for length in (64, 256):
        yield Row(f"  {length} GiB over 4 GiB", "ratio", ratio(sizes[length], sizes[4]),
                  **bound(1.2))


def traffic():
    for name, what in (("pingpong", "pingpong, 64 B"), ("write", "writes of 1 MiB")):
        pinned, paged = (median(f"traffic.{name}.{kind}.ns", scale=1e-3)
                         for kind in ("pinned", "odp"))
        yield us(f"{what}, pinned", pinned)
        yield us(f"{what}, on demand", paged)
        yield Row("  rate: on demand over pinned", "ratio", ratio(pinned, paged), **at_least(0.97))


def threads():
    one, same, two = (median(f"threads.{name}", "two") for name in ("one", "same", "two"))
    for what, value in (("one thread", one), ("two threads, one region", same),
                        ("two threads, a region each", two)):
        yield Row(f"pages faulted in, {what}", "pages/s", value, least=True,
                  target=lambda stock, value=value: value(stock) / SLOWER,
                  says=f">= stock / {SLOWER}")
    yield Row("  two over one, one region", "ratio", ratio(same, one), **at_least(1.7))
    yield Row("  two over one, a region each", "ratio", ratio(two, one))


def storm():
    quiet, loud = (median(f"storm.{name}.ns", "two", 1e-3) for name in ("quiet", "loud"))
    yield us("write that faults, a quiet mm", quiet)
    yield us("write that faults, another thread invalidating elsewhere", loud)
    yield Row("  the worst", "us", lambda side: max(rounds(side["two"], "storm.loud.ns")) / 1000)
    yield Row("  over quiet", "ratio", ratio(loud, quiet), **bound(3))


def aging():
    """Memory that only the device uses, on a machine that is short of it."""
    def count(name):
        return lambda side: side["small"][f"aging.{name}"]

    yield Row("pages swapped in without the device", "pages", count("idle.swapped"))
    for pace, words in (("slow", "2"), ("fast", "1/2")):
        device, cpu, faults = (ratio(count(what), count(f"device.{pace}.reads"))
                               for what in (f"device.{pace}.swapped", f"cpu.{pace}.swapped",
                                            f"device.{pace}.faults"))
        yield Row(f"device faults a read; {words} pages written by the CPU a read", "faults",
                  faults, target=faults, says="<= stock")
        yield Row("  pages swapped in a read", "pages", device)
        yield Row("  the same memory read by the CPU: pages swapped in a read", "pages", cpu)


PARTS = {"registration": (registration, "Registration, 10 us a command"),
         "deregistration": (deregistration, "The end of a region that was used"),
         "faults": (faults, "Faults, 10 us each step of the device"),
         "crowd": (crowd, "Faults of many at once, 10 us each step of the device"),
         "invalidation": (invalidation, "Invalidation, 10 us a UMR"),
         "chunks": (chunks, "Two CPUs: many chunks at once, 10 us a UMR"),
         "traffic": (traffic, "Traffic in memory that is there"),
         "threads": (threads, "Two CPUs: faults, 100 us a UMR"),
         "storm": (storm, "Two CPUs: faults beside invalidations, 10 us each step"),
         "aging": (aging, "512 MiB of memory; the device reads 96 MiB, the CPU writes 1.5 GiB")}


def table(wanted):
    for name in wanted:
        rows, group = PARTS[name]
        for item in rows():
            item.group = group
            item.missing = "refused"
            yield item


def remarks(data):
    """What was refused, and how often."""
    found = []
    for side, boots in data.items():
        for length in LENGTHS:
            number = boots.get("one", {}).get(f"reg.errno.{length}")
            if number:
                found.append(f"{side}: a registration of {length:,} GiB is refused "
                             f"({errno.errorcode[int(number)]})")
        calls = boots.get("two", {}).get("storm.calls")
        if calls:
            found.append(f"{side}: {calls:.0f} invalidations beside the faults")
    return found
