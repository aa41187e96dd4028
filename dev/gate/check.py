#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: dev/gate/check.py [STAGE...]       (make check)

Everything that decides whether a change is good, in stages: the harness
judges its own fixtures, static checks, KUnit, kselftests, real clients, the
mlx5 driver on its adapter.  The last line is "N passed, N failed, N skipped" and
nothing else.  What takes longer is dev/gate/longrun.py (make check-long).
"""
import os
import subprocess
import sys
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
    # The longest one first, or it runs alone at the end. It starts at once if the modules
    # that it loads are built.
    adapter.modules("debug")
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


def main():
    wanted = sys.argv[1:] or list(STAGES)
    if not set(wanted) <= set(STAGES):
        sys.exit(f"{__doc__}\nstages: {' '.join(STAGES)}")
    note(*(f"not taken from the environment: {name}" for name in environment.scrub(os.environ)))
    held = environment.alone()
    total, start, table = ktap.Tally(), time.monotonic(), []
    vm.need(*vm.RDMA_PACKAGES, *selftests.PACKAGES, "sparse")
    ahead = build_ahead() if set(wanted) - {"static", "kunit", "interop", "long"} else None
    for number, name in enumerate(wanted, 1):
        began = time.monotonic()
        note(f"== {number}/{len(wanted)} {name}")
        tally = guarded(STAGES[name])
        if name != "long":
            expected.keep(name, tally)
            expected.judge(name, tally)
        tally.show(sys.stderr)
        table.append(f"  {name:10} {time.monotonic() - began:6.0f} s   {tally.line()}")
        note(f"== {name}: {tally.line()} ({time.monotonic() - began:.0f} s, "
             f"{time.monotonic() - start:.0f} s since the start)")
        total.merge(tally, f"{name}: ")
    note("", f"{time.monotonic() - start:.0f} s:", *table,
         *(f"  of these {seconds:.0f} s for {' '.join(what)}" for what, seconds in vm.WAITED.items()))
    if total.failed:
        note("", "failed:", *(f"  {name}: {why}" for name, why in total.failed))
    sys.stderr.flush()
    if ahead:
        ahead.wait()
    held.close()
    total.end()


if __name__ == "__main__":
    main()
