# SPDX-License-Identifier: GPL-2.0
"""T=rxe: what on-demand paging costs a message of rxe in memory that is there.

Stock's rxe has no paging in 6.12, so this compares paged with pinned regions in one boot
of one kernel, ours: instructions of a message, by rxe/warm.c. The least of many rounds
counts, since the scheduler adds to it by chance.
"""
import os
import subprocess
import time

from bench import report
from bench.odp import APPEND
from bench.rows import Row, rounds
from lib.common import fail, note
from machine import vm

HERE = os.path.dirname(os.path.realpath(__file__))
OUT = os.path.join(report.OUT, "rxe")
KINDS = ("send", "write", "read")
SIZES = {64: "64 B", 4096: "4 KiB", 1 << 20: "1 MiB"}
LIMIT = 1.03


def build():
    os.makedirs(OUT, exist_ok=True)
    program = os.path.join(OUT, "warm")
    if subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program,
                       os.path.join(HERE, "rxe", "warm.c"), "-libverbs"]).returncode:
        fail("dev/bench/rxe does not compile")
    return program


def least(name):
    return lambda side: min(rounds(side["rxe"], name))


def table():
    for kind in KINDS:
        for size, words in SIZES.items():
            name = f"rxe.{kind}.{size}"
            yield Row(f"{kind}, {words}", "instructions", least(name),
                      target=lambda pinned, name=name: LIMIT * least(name)(pinned),
                      says=f"<= {LIMIT}x pinned", group="rxe, a message in memory that is there")


def side(values, how):
    """The values of one kind of region, by names that both have."""
    return {"rxe": {name.replace(f".{how}.", "."): value for name, value in values.items()
                    if f".{how}." in name}}


def run():
    start = time.monotonic()
    program = build()
    opts = {"name": "bench-rxe", "dev": "rxe", "mem": "1G", "quiet": True, "smp": 1,
            "append": APPEND, "qemu_args": list(report.COUNTING)}
    image = vm.image(report.SIDES["ours"])
    values = report.results("rxe", vm.boot(image, f"{program} >$SHARE/results", opts,
                                           "tcg,thread=single"))
    data = {"stock": side(values, "pinned"), "ours": side(values, "paged")}
    found = report.judge(table(), data)
    print(report.save(OUT, data, found, [], names=("pinned", "paged")), end="")
    note(f"{time.monotonic() - start:.0f} s; results: {OUT}")
