#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: [T=glob] dev/gate/kunit.py [CONFIG]      (make kunit T='mmu_*')

Boot CONFIG (debug) with the KUnit suites that T names, default all, and read
their results from the kernel's console.  The boot must also end well: the
suites run before PID 1, which then reports.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from lib.common import note
from machine import ktap, vm


def kunit_lines(path):
    """From the KTAP header to the end of the suites: other lines of the log stay in."""
    lines, on = [], False
    with open(path, errors="replace") as file:
        for line in file:
            on = on or "KTAP version" in line
            if on:
                lines.append(line)
    return lines


def run(config, glob, quiet=True):
    append = f"{os.environ.get('APPEND') or ''} kunit.enable=1"
    if glob:
        append += f" kunit.filter_glob={glob}"
    result = vm.run(config, "true", name="kunit", append=append, quiet=quiet,
                    mem=os.environ.get("MEM") or "2G", smp=os.environ.get("SMP"),
                    timeout=os.environ.get("TIMEOUT") or 900, verbose=os.environ.get("V"),
                    allow=os.environ.get("PINLESS_ALLOW"))
    tally = ktap.parse(kunit_lines(result.klog))
    if result.reason or result.status:
        vm.report(result)
        tally.add("boot", "fail", result.reason or f"status {result.status}")
    return tally, result


def main():
    vm.need(*vm.PACKAGES)
    config = sys.argv[1] if len(sys.argv) > 1 else "debug"
    tally, result = run(config, os.environ.get("T"))
    suites = {}
    for name, verdict in tally.names.items():
        suites.setdefault(name.split(".")[0], []).append(verdict)
    for suite, verdicts in suites.items():
        note(f"  {suite:40} " + ", ".join(f"{verdicts.count(v)} {v}"
             for v in ("pass", "fail", "skip") if v in verdicts))
    tally.show(sys.stderr)
    note(f"kernel log: {result.klog} ({result.seconds:.0f} s)")
    tally.end()


if __name__ == "__main__":
    main()
