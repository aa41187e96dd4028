# SPDX-License-Identifier: GPL-2.0
"""The rows of the table: what is shown, in which unit, and what ours must reach.

A row takes one value of each side out of the results, {boot: {name: value}}.
A target is a bound on ours, in the row's unit; it may depend on what stock
reached in the same run.
"""
import statistics
from dataclasses import dataclass
from typing import Callable

INSNS = "instructions"
BOOTS = ("cost", "many", "turns", "smp")


@dataclass
class Row:
    what: str
    unit: str
    value: Callable                 # results of one side -> number, or None: never
    target: Callable = None         # results of stock -> bound of ours
    says: str = ""                  # the target in words
    least: bool = False             # the bound is a lower one
    group: str = ""
    missing: str = "never"          # what None means


def cost(name, boot="cost"):
    return lambda side: side[boot][name]


def rounds(values, name):
    """The values of all rounds of a name: name.0, name.1, ..."""
    found = []
    while f"{name}.{len(found)}" in values:
        found.append(values[f"{name}.{len(found)}"])
    return found


def median(name, boot="smp"):
    def value(side):
        values = rounds(side[boot], name)
        return statistics.median(values) if values else None
    return value


# Two threads on two mms ought to do twice the work of one. Where they do not,
# the host was busy with something else, in this or in the round's other parts.
CONTROL = (1.6, 2.4)


def quiet_rounds(side):
    """Which rounds of the throughput rows the control lets pass."""
    pairs = zip(*(rounds(side["smp"], name) for name in ("pairs_control", "pairs_one")))
    return [i for i, (control, one) in enumerate(pairs)
            if CONTROL[0] <= control / one <= CONTROL[1]]


def throughput(name, base=None):
    """Pairs a second, or its ratio to BASE's: median over the quiet rounds, if any."""
    def value(side):
        values, bases = (rounds(side["smp"], each) for each in (name, base))
        return statistics.median(values[i] / (bases[i] if base else 1)
                                 for i in quiet_rounds(side) or range(len(values)))
    return value


def per_vma(kind, nr, name="register"):
    return lambda side: side["cost"][f"{name}.{kind}.{nr}"] / nr


def against_stock(value, factor, aim=None):
    says = "<= stock" if factor == 1 else f"<= {factor}x stock"
    return {"target": lambda stock: factor * value(stock),
            "says": says + (f", aim {aim}x" if aim else "")}


def row(what, value, factor=None, aim=None, unit=INSNS, **more):
    if factor:
        more = {**against_stock(value, factor, aim), **more}
    return Row(what, unit, value, **more)


def bound(limit, unit=""):
    return {"target": lambda stock: limit, "says": f"<= {limit}{unit}"}


def count(number):
    return f"{number:,}"


def pair_rows():
    yield row("start+end, mm never had a subscriber", cost("never"), **bound(10))
    yield row("  with an explicit range, set up before", cost("never_with_init"),
              target=lambda stock: stock["cost"]["never_with_init"] + 3, says="<= stock + 3")
    yield row("  as a call site has it: ours scoped", cost("never_scoped"), 1)
    yield row("start+end, 3 s after the last subscriber left", cost("left"), **bound(10))
    for number in (1, 1000, 100000):
        yield row(f"start+end, miss, {count(number)} interval notifiers",
                  cost(f"miss_first.{number}"), 1, 0.7)
    for number in (1, 1000, 100000):
        yield row(f"start+end, one hit, {count(number)} interval notifiers",
                  cost(f"hit_first.{number}"), 1, 0.8)
    yield row("start+end, hitting 100 of 1,000", cost("hit100.1000"), 1.15)
    yield row("start+end, one list notifier", cost("list.1"), 1.05)
    yield row("start+end, two list notifiers", cost("list.2"), 1.05)
    yield row("start+end, one list notifier with KVM's callbacks", cost("list.kvm"), 1.05)
    yield row("size of a range", cost("range_bytes"), unit="bytes", **bound(64))


def change_rows():
    for boot, cpus in (("cost", 1), ("many", 64)):
        where = f"at 100,000, armed mm, {cpus} possible CPU{'s' * (cpus > 1)}"
        yield row(f"interval insert {where}", cost("insert_tail.100000", boot), 3)
        yield row(f"interval remove {where}", cost("remove_tail.100000", boot), 4)
    for number in (1000, 16000, 256000):
        yield row(f"remove beside {count(number // 2)} that one range has posted",
                  cost(f"remove_beside_posted.{number}"), 4)
    yield row("read_begin, nothing active, 1 possible CPU", cost("read_begin"), **bound(60))
    yield row("read_begin, nothing active, 64 possible CPUs", cost("read_begin", "many"), 2)


def register_rows(vmas, others):
    yield row(f"register, {count(vmas)} touched VMAs", cost(f"register.anon.{vmas}"), 0.6)
    yield row("  the same per VMA: anonymous, an anon_vma each", per_vma("anon", vmas), 0.6)
    for kind, text in (("joint", "anonymous, one anon_vma"),
                       ("forked", "forked child, an anon_vma each"),
                       ("file", "shared mappings of one file"),
                       ("files", "shared mappings, 60 of each file")):
        yield row(f"  per VMA, {count(others)}: {text}", per_vma(kind, others), 0.6)


def more_rows(vmas):
    for number in (1, 1000, 100000):
        yield row(f"miss, any place, {count(number)} interval notifiers", cost(f"miss.{number}"), 1)
    for number in (1, 1000, 100000):
        yield row(f"hit, any place, {count(number)} interval notifiers", cost(f"hit.{number}"), 1)
    yield row("miss, any place, 1,000, non-blockable", cost("miss_nonblock.1000"))
    yield row("miss, any place, 1,000, 64 possible CPUs", cost("miss.1000", "many"))
    yield row("two nested misses, any place, 1,000", cost("nested.1000"))
    yield row("one hit, a driver's mutex in the callback", cost("hit_mutex.1"))
    yield row("insert in a gap at 100,000", cost("insert.100000"))
    yield row("remove from a gap at 100,000", cost("remove.100000"))
    yield row("insert+remove, nobody else on the mm (one a fault)", cost("insert_remove.alone"), 1.5)
    yield row("  the same, 64 possible CPUs", cost("insert_remove.alone", "many"), 1.5)
    yield row("read_begin+read_retry", cost("read_begin_retry"))
    yield row(f"second list notifier, {count(vmas)} VMAs", cost(f"register_second.anon.{vmas}"))
    yield row(f"first interval notifier 3 s after list ones left, {count(vmas)} VMAs",
              cost(f"insert_first.anon.{vmas}"))
    yield row(f"insert 3 s after the last one was removed, {count(vmas)} VMAs",
              cost(f"insert_again.anon.{vmas}"))


def smp_rows():
    storm = {"target": lambda stock: 1000, "says": "< 1,000"}
    yield row("read_begin on an idle range in a storm, median", median("storm_read_median_us"),
              unit="us", **storm)
    yield row("  the worst, median of the rounds", median("storm_read_max_us"), unit="us")
    yield row("  returned within 2.0 s", median("storm_read_returned"), unit="calls")
    yield row("remove in a storm, median", median("storm_remove_median_us"), unit="us", **storm)
    yield row("  the worst, median of the rounds", median("storm_remove_max_us"), unit="us")
    yield row("  returned within 2.0 s", median("storm_remove_returned"), unit="calls")
    yield row("unregister while another process's notifier sleeps", median("unregister_ms"),
              unit="ms", target=lambda stock: 50, says="< 50")
    yield row("misses of one mm, one thread", throughput("pairs_one"), unit="pairs/s")
    yield row("misses of one mm, two threads together", throughput("pairs_two"), unit="pairs/s")
    yield row("  two threads over one", throughput("pairs_two", "pairs_one"), unit="ratio",
              target=lambda stock: 1.7, says=">= 1.7", least=True)
    yield row("  control: two mms over one thread", throughput("pairs_control", "pairs_one"),
              unit="ratio")


def wait(name):
    """Of a teardown: the median of its rounds."""
    return lambda side: statistics.median(rounds(side["turns"], name))


def wait_rows():
    for number in (1, 100):
        mms = f"of {number} mms, one after another" if number > 1 else "of one mm"
        yield row(f"unregister a subscriber like KVM, {mms}",
                  wait(f"teardown_unregister_us.{number}"), 1, unit="us")
        yield row(f"last put of a subscriber like KVM, {mms}",
                  wait(f"teardown_put_us.{number}"), 1, unit="us")
        yield row("  and until it is freed", wait(f"teardown_freed_us.{number}"), 1, unit="us")


def stall(what, pace, kind):
    return cost(f"stall_{what}_{pace}.{kind}", "turns")


def stall_rows(vmas):
    yield row(f"another process's mmap() of a file that is mapped {count(vmas)} times, worst:",
              lambda side: None, unit="", missing="")
    for kind, text in (("list", "list"), ("interval", "interval")):
        yield row(f"  {text} notifier comes and goes every other second",
                  stall("worst_us", "steady", kind), 1, unit="us")
        yield row("    stalls in 10 times that it came", stall("count", "steady", kind),
                  unit="calls")
    yield row("  interval notifier comes back when the mm is disarmed",
              stall("worst_us", "slow", "interval"), 1, unit="us")
    yield row("    stalls in 9 times that it came", stall("count", "slow", "interval"),
              unit="calls")


def measured(item, data):
    """Was the row's boot among those that were asked for?"""
    try:
        item.value(data["stock"])
    except KeyError as error:
        if error.args[0] in BOOTS and error.args[0] not in data["stock"]:
            return False
        raise
    return True


def table(vmas, others):
    groups = (("One CPU, instructions", [*pair_rows(), *change_rows(),
                                         *register_rows(vmas, others)]),
              ("More of one CPU", list(more_rows(vmas))),
              ("Two CPUs that take turns, virtual time",
               [*wait_rows(), *stall_rows(vmas)]),
              ("Two CPUs, wall clock, medians", list(smp_rows())))
    for group, rows in groups:
        for item in rows:
            item.group = group
            yield item
