#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: dev/gate/check.py [STAGE...]       (make check)

Everything that decides whether a change is good, in stages: the harness
judges its own fixtures, static checks, and beside each other KUnit, kselftests, real
clients, the mlx5 driver on its adapter.  The last line is "N passed, N failed, N skipped" and
nothing else.  What takes longer is dev/gate/longrun.py (make check-long).
"""
import os
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from gate import environment, expected, gate_fixtures, longrun, static_checks
from gate import kunit as kunit_suites
from gate import selftest as selftests
from interop import run as clients
from lib.common import ROOT, note
from machine import fixtures, ktap, vm
from mlx5 import run as adapter


def harness():
    tally = fixtures.run()
    gate_fixtures.run(tally)
    return tally


def static():
    tally = ktap.Tally()
    static_checks.run(static_checks.FOLDER, tally)
    return tally


def selftest():
    return selftests.run("check", None)


def interop():
    tally = interop_of("debug")
    tally.merge(interop_of("check", "rxe-nodes"))
    return tally


def interop_of(*args):
    return clients.run(*args)[0]


def mlx5():
    """Our driver on the adapter."""
    def stage(run, prefix, *args):
        return prefix, run(*args)
    parts = vm.together(stage, (
        (adapter.run, "", "debug", "plain"), (adapter.run, "check.", "check"),
        (interop_of, "interop.", "check", "mlx5"),
        (interop_of, "interop.", "check", "mlx5-nodes"),
        (interop_of, "interop-memory.", "check", "mlx5-memory", "*odp*")))
    tally = ktap.Tally()
    for prefix, part in parts:
        tally.merge(part, prefix)
    return tally


def kunit():
    return kunit_suites.run("debug", None)[0]


def long():
    """The long slices, each with its result for this code, or as stale. The adapter is
    qualified with stock's driver again if it has changed since it passed."""
    tally = ktap.Tally()
    # Not before it has passed once: what fails on stock has to be named first.
    if longrun.written("qualify") and longrun.stale("qualify"):
        tally.merge(longrun.run("qualify"), "qualify.")
    return longrun.report(tally)


# Those of a line run beside each other, so that two VMs run until the last of all begins.
# The harness comes first, since a harness that is wrong makes all others worthless.
ORDER = (("harness",), ("static",), ("kunit", "selftest", "interop", "mlx5"), ("long",))
STAGES = {"harness": harness, "static": static, "kunit": kunit, "selftest": selftest,
          "interop": interop, "mlx5": mlx5, "long": long}


def guarded(stage):
    """A stage that dies is one failure, and the stages after it still run."""
    try:
        return stage()
    except (SystemExit, Exception) as error:     # pylint: disable=broad-except
        tally = ktap.Tally()
        tally.add("stage", "fail", f"{type(error).__name__}: {error}")
        return tally


def build_ahead():
    """Build what later stages boot beside the VMs of the first ones, in the host's idle
    time. A stage that needs it earlier waits for the lock of the build."""
    tools = [os.path.join(ROOT, "dev", tool) for tool in ("kernels/build", "machine/qemu")]
    return subprocess.Popen(["nice", "-n", "19", "bash", "-c", '"$0" check && "$1"', *tools],
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            preexec_fn=vm.die_with_us)


class Gate:
    """The stages of a run, and what they come to."""

    def __init__(self, wanted):
        self.wanted, self.total, self.table = wanted, ktap.Tally(), {}
        self.start, self.told = time.monotonic(), threading.Lock()

    def stage(self, name):
        began = time.monotonic()
        note(f"== {name} begins")
        tally = guarded(STAGES[name])
        if name != "long":
            expected.keep(name, tally)
            expected.judge(name, tally)
        took = time.monotonic() - began
        with self.told:
            tally.show(sys.stderr)
            self.table[name] = f"  {name:10} {took:6.0f} s   {tally.line()}"
            note(f"== {name}: {tally.line()} ({took:.0f} s, "
                 f"{time.monotonic() - self.start:.0f} s since the start; "
                 f"{len(self.table)} of {len(self.wanted)} stages are done)")
        return name, tally

    def run(self):
        for names in ORDER:
            for name, tally in vm.together(self.stage, ((n,) for n in names if n in self.wanted)):
                self.total.merge(tally, f"{name}: ")

    def summary(self):
        return (f"{time.monotonic() - self.start:.0f} s:", *(self.table[n] for n in self.wanted),
                *(f"  {seconds:.0f} s were waited for {' '.join(what)}"
                  for what, seconds in vm.WAITED.items()),
                *["", "failed:"][:2 * bool(self.total.failed)],
                *(f"  {name}: {why}" for name, why in self.total.failed))


def main():
    wanted = sys.argv[1:] or list(STAGES)
    if not set(wanted) <= set(STAGES):
        sys.exit(f"{__doc__}\nstages: {' '.join(STAGES)}")
    note(*(f"not taken from the environment: {name}" for name in environment.scrub(os.environ)))
    held = environment.alone()
    vm.need(*vm.RDMA_PACKAGES, *selftests.PACKAGES, "sparse")
    gate = Gate(wanted)
    ahead = build_ahead() if set(wanted) - {"static", "kunit", "interop", "long"} else None
    gate.run()
    note("", *gate.summary())
    if ahead:
        ahead.wait()
    held.close()
    gate.total.end()


if __name__ == "__main__":
    main()
