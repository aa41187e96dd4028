# SPDX-License-Identifier: GPL-2.0
"""T=rxe: what on-demand paging costs a message of rxe in memory that is there.

Stock's rxe has no paging in 6.12, so this compares paged with pinned regions in one boot
of one kernel, ours: instructions of a message, by rxe/warm.c. Some 1,000 of them are the
scheduler's by chance, so the median of many rounds counts. And the cache lines that eight
pairs of queue pairs in one region pass to each other, by rxe/shared.c and a plugin of QEMU.
"""
import os
import statistics
import subprocess
import time

from bench import coherence, report
from bench.odp import APPEND
from bench.rows import Row, rounds
from lib.common import fail, note
from machine import vm

HERE = os.path.dirname(os.path.realpath(__file__))
OUT = os.path.join(report.OUT, "rxe")
KINDS = ("send", "write", "read")
SIZES = {64: "64 B", 4096: "4 KiB", 1 << 20: "1 MiB"}
LIMIT = 1.03
CPUS = 8
# Parts of a transfer: it depends on where the scheduler runs the work.
NOISE = 0.25
SHARED = ("chunks", "chunk")


def build(name):
    os.makedirs(OUT, exist_ok=True)
    program = os.path.join(OUT, name)
    if subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-o",
                       program, *(os.path.join(HERE, "rxe", f"{source}.c")
                                  for source in (name, "pair")),
                       "-libverbs", "-lpthread"]).returncode:
        fail("dev/bench/rxe does not compile")
    return program


def middle(name):
    return lambda side: statistics.median(rounds(side["rxe"], name))


def table():
    for kind in KINDS:
        for size, words in SIZES.items():
            name = f"rxe.{kind}.{size}"
            yield Row(f"{kind}, {words}", "instructions", middle(name),
                      target=lambda pinned, name=name: LIMIT * middle(name)(pinned),
                      says=f"<= {LIMIT}x pinned", group="rxe, a message in memory that is there")
    group = f"rxe, {CPUS} pairs of queue pairs in one region, 64 B written, a CPU each"
    yield Row("each in chunks of its own", "transfers", middle("chunks.transfers"), group=group,
              target=lambda pinned: middle("chunks.transfers")(pinned) + NOISE, says="<= pinned")
    yield Row("  locked operations", "operations", middle("chunks.locked"), group=group)
    yield Row("all in one chunk", "transfers", middle("chunk.transfers"), group=group)


def side(values, how):
    """The values of one kind of region, by names that both have."""
    return {"rxe": {name.replace(f".{how}.", "."): value for name, value in values.items()
                    if f".{how}." in name}}


def boot(name, smp, qemu_args=()):
    """What the program of that name prints in a guest of ours."""
    program = build(name)
    opts = {"name": f"bench-rxe-{name}", "dev": "rxe", "mem": "1G", "quiet": True, "smp": smp,
            "append": APPEND, "qemu_args": [*report.COUNTING, *qemu_args]}
    return report.results(name, vm.boot(vm.image(report.SIDES["ours"]),
                                        f"{program} >$SHARE/results", opts,
                                        "tcg,thread=single"))


def measure_shared():
    """What the plugin counted: name.round, a message. See rxe/shared.c for the order."""
    plugin, path = coherence.build_plugin(), os.path.join(OUT, "lines")
    expected = boot("shared", CPUS, ["-plugin", f"file={plugin},out={path},whole=on"])["rounds"]
    values = {}
    with open(path) as file:
        ops = [[int(number) for number in line.split()[1:]] for line in file
               if line.startswith("ops ")]
    for row, _, messages, fetches, upgrades, locked, *_ in ops:
        name, how, number = SHARED[row // 2 % 2], ("pinned", "paged")[row % 2], row // 4
        values[f"{name}.transfers.{how}.{number}"] = (fetches + upgrades) / messages
        values[f"{name}.locked.{how}.{number}"] = locked / messages
    if len(ops) != expected:
        fail(f"the plugin has seen {len(ops)} rounds of {expected:.0f}")
    return values


def run():
    start = time.monotonic()
    values = {**boot("warm", 1), **measure_shared()}
    data = {"stock": side(values, "pinned"), "ours": side(values, "paged")}
    found = report.judge(table(), data)
    print(report.save(OUT, data, found, [], names=("pinned", "paged")), end="")
    note(f"{time.monotonic() - start:.0f} s; results: {OUT}")
