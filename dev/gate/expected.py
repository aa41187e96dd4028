#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Results that `make check` must have, by name: a test that vanished did not pass.

usage: dev/gate/expected.py accept [STAGE...]    take over the names of the last run

A stage's names are in dev/gate/expected/<stage>, one a line.  One that did not come
is a failure, and so is one that the file does not know: it could vanish unnoticed.
In "loose" stages the names depend on the machine (sizes of huge pages, features of
the CPU), so that a new one is only reported.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from lib.common import fail, note, ROOT

HERE = os.path.join(ROOT, "dev/gate/expected")
LAST = os.path.join(ROOT, "out", "check")
LOOSE = ("selftest", "interop")


def names(path):
    with open(path, errors="surrogateescape") as file:
        return {line.rstrip("\n") for line in file if line.strip() and not line.startswith("#")}


def keep(stage, tally):
    """What this run had, for accept: names that were there, whatever their verdict."""
    os.makedirs(LAST, exist_ok=True)
    with open(os.path.join(LAST, stage), "w", errors="surrogateescape") as file:
        file.writelines(f"{name}\n" for name in sorted(tally.names))


def judge(stage, tally, folder=HERE):
    path = os.path.join(folder, stage)
    if not os.path.exists(path):
        tally.add("expected", "fail", f"no file {path}: dev/gate/expected.py accept {stage}")
        return
    due, came = names(path), set(tally.names)
    for name in sorted(due - came):
        tally.add(name, "fail", f"did not run, and dev/gate/expected/{stage} names it")
    new = sorted(came - due)
    if new and stage in LOOSE:
        note(f"not in dev/gate/expected/{stage}: {len(new)} names, {new[0]} ...")
    elif new:
        tally.add("expected", "fail", f"not in dev/gate/expected/{stage}: {', '.join(new[:5])}"
                  f"{' ...' if len(new) > 5 else ''}: dev/gate/expected.py accept {stage}")


def accept(stages):
    os.makedirs(HERE, exist_ok=True)
    for stage in stages or sorted(os.listdir(LAST)):
        last = os.path.join(LAST, stage)
        if not os.path.exists(last):
            fail(f"no run of {stage} in {LAST}")
        came = names(last)
        path = os.path.join(HERE, stage)
        before = names(path) if os.path.exists(path) else set()
        with open(path, "w", errors="surrogateescape") as file:
            file.writelines(f"{name}\n" for name in sorted(came))
        note(f"{stage}: {len(came - before)} new, {len(before - came)} gone",
             *(f"  gone: {name}" for name in sorted(before - came)))


if __name__ == "__main__":
    if sys.argv[1:2] != ["accept"]:
        sys.exit(__doc__)
    accept(sys.argv[2:])
