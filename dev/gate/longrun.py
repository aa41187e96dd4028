#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: dev/gate/longrun.py [SLICE...]     run what make check has no time for
                                          (make check-long; SLICES='hostile series')
       dev/gate/longrun.py stale          say which results are out of date

Each slice takes less than 100 minutes.  Its result is written to
dev/gate/long/<slice> by this program only, with the hash of all that went into it, so
the gate can tell a result of today's code from one of another.  Slices whose inputs
have changes that are not committed are run, but not written down.
"""
import hashlib
import os
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from gate import environment, kunit, matrix, selftest, soak
from interop import run as interop
from lib.common import git, note, ROOT
from machine import fixtures, ktap, vm
from mlx5 import run as adapter

RESULTS = os.path.join(HERE, "long")
KERNEL = ("patches", "mm", "include", "drivers", "lib", "dev/trees/owned", "dev/kernels/configs")
GUEST = ("dev/machine",)
SELFTESTS = ("tools", "dev/gate/selftest.py", "dev/gate/selftests.list")
SOAK = ("qemu", "tools", "dev/gate/soak.py")
MATRIX = ("dev/gate/matrix.py", "dev/gate/matrix.list", "dev/gate/matrix.kunitconfig")
ADAPTER = ("qemu", "dev/mlx5", "dev/interop") + GUEST


def mlx5(config, glob):
    return adapter.run(config, glob)


def clients(config, *devices):
    tally = ktap.Tally()
    for dev in devices:
        tally.merge(interop.run(config, dev)[0], f"{dev}.")
    return tally


def slow():
    tally = ktap.Tally()
    for name in ("late", "iommu", "fuzz"):
        tally.merge(mlx5("check", name))
    return tally


def unruly():
    """Another seed each day; the output says which, and with it the run comes again."""
    os.environ.update(FUZZ_SECONDS="3600", FUZZ_SEED=time.strftime("%Y%m%d"))
    try:
        return mlx5("debug", "unruly")
    finally:
        del os.environ["FUZZ_SECONDS"], os.environ["FUZZ_SEED"]


def sanitized():
    os.environ["SANITIZE"] = "1"
    try:
        tally = mlx5("check", "bare plain regress_vectors")
        tally.merge(command("mlx5/bare/fuzz.py", "600")())
        return tally
    finally:
        del os.environ["SANITIZE"]


def races():
    """The kernel with KCSAN: it reports a race that is planted, and none of ours."""
    tally = ktap.Tally()
    tally.merge(fixtures.run(config="kcsan"), "fixture: ")
    tally.merge(kunit.run("kcsan", None)[0], "kunit: ")
    tally.merge(selftest.run("kcsan", None), "selftest: ")
    return tally


def configurations(*archs):
    return lambda: matrix.run_all(archs=archs)


def command(*args, **env):
    """A tool that says by its status how it went."""
    def run():
        tally = ktap.Tally()
        done = vm.status(*args, **env)
        tally.add(args[0], "fail" if done else "pass", f"status {done}" if done else "")
        return tally
    return run


# name: (what it does, what goes in)
SLICES = {
    # The adapter with the driver that it is made for.
    "qualify": (lambda: mlx5("stock", None), ("qemu",)),
    "qualify-clients": (lambda: clients("stock", "mlx5", "mlx5-memory"), ADAPTER),
    "mlx5-debug": (lambda: mlx5("debug", "*"), KERNEL + ADAPTER),
    "mlx5-slow": (slow, KERNEL + ADAPTER),
    "mlx5-sanitized": (sanitized, ADAPTER),
    "unruly": (unruly, KERNEL + ADAPTER),
    "clients-debug": (lambda: clients("debug", "mlx5", "mlx5-memory"), KERNEL + ADAPTER),
    "hostile": (command("mlx5/hostile.py", "check"), KERNEL + ADAPTER),
    "selftests": (lambda: selftest.run("long", None), KERNEL + GUEST + SELFTESTS),
    "kcsan": (races, KERNEL + GUEST + SELFTESTS),
    "soak": (lambda: soak.run("debug", 60), KERNEL + GUEST + SOAK),
    "soak-kcsan": (lambda: soak.run("kcsan", 60), KERNEL + GUEST + SOAK),
    "consumers": (command("kernels/consumers"), KERNEL + ("dev/kernels/consumers", "dev/kernels/consumers.list")),
    "matrix-x86_64": (configurations("x86_64"), KERNEL + MATRIX),
    "matrix-arm64": (configurations("arm64"), KERNEL + MATRIX),
    "matrix-others": (configurations("i386", "s390", "powerpc", "riscv"), KERNEL + MATRIX),
    "series": (command("trees/series", BUILD="1"), KERNEL + ("dev/trees/series",)),
}


def inputs(name):
    """The hash of what goes into a slice, as committed; and whether that is all.  Documents
    do not go in."""
    paths = SLICES[name][1]
    tree = "".join(line for line in git(ROOT, "ls-tree", "-r", "HEAD", "--", *paths).splitlines(True)
                   if not line.endswith(".md\n"))
    changed = git(ROOT, "status", "--porcelain", "--", *paths, ":(exclude,glob)**/*.md").strip()
    return hashlib.sha256(tree.encode("utf-8", "surrogateescape")).hexdigest()[:16], not changed


def written(name):
    """(hash, day, result) of the last run, or None."""
    path = os.path.join(RESULTS, name)
    if not os.path.exists(path):
        return None
    with open(path) as file:
        words = file.readline().split(maxsplit=2)
    return tuple(word.strip() for word in words)


def stale(name):
    """Why the result of this slice says nothing about today's code, or an empty string."""
    known = written(name)
    if not known:
        return "never run"
    digest, clean = inputs(name)
    return "" if digest == known[0] and clean else f"from {known[1]}, of other code"


def report(tally):
    """For the gate: each slice is skipped as stale, or has the result of its run."""
    for name in SLICES:
        why, known = stale(name), written(name)
        if why:
            tally.add(name, "skip", f"stale: {why}")
        else:
            tally.add(name, "pass" if " 0 failed" in known[2] else "fail",
                      f"{known[1]}: {known[2]}")
    return tally


def run(name):
    digest, clean = inputs(name)
    start = time.monotonic()
    note(f"== {name}")
    tally = SLICES[name][0]()
    tally.show(sys.stderr)
    note(f"== {name}: {tally.line()} ({time.monotonic() - start:.0f} s)")
    if not clean or inputs(name) != (digest, clean):
        note(f"   not written down: {', '.join(SLICES[name][1])} have uncommitted changes")
        return tally
    os.makedirs(RESULTS, exist_ok=True)
    with open(os.path.join(RESULTS, name), "w") as file:
        file.write(f"{digest} {time.strftime('%Y-%m-%d')} {tally.line()}, "
                   f"{(time.monotonic() - start) / 60:.0f} minutes\n")
        file.writelines(f"  {group}: {part.line()}\n" for group, part in tally.groups().items())
        file.writelines(f"  fail {test}: {why}\n" for test, why in tally.failed)
    return tally


def main():
    if sys.argv[1:] == ["stale"]:
        report(ktap.Tally()).show()
        return
    note(*(f"not taken from the environment: {name}" for name in environment.scrub(os.environ)))
    held = environment.alone()
    total = ktap.Tally()
    for name in sys.argv[1:] or SLICES:
        if name not in SLICES:
            sys.exit(f"no slice {name}: {', '.join(SLICES)}")
        total.merge(run(name), f"{name}: ")
    held.close()
    total.end()


if __name__ == "__main__":
    main()
