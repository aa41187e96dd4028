#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: [T=glob DEV=rxe|mlx5|mlx5-memory] dev/interop/run.py [CONFIG]
                                                    (make interop T='*odp*')
       [DEV=...] dev/interop/run.py stock --baseline   write stock-<dev>.baseline; another
                                                    run adds what it saw to it
       TIER=all T='mw.*' ...                        all of the matrix of middleware
       DEV=rxe-nodes|mlx5-nodes|mlx5-memory-nodes ...   clients on two machines

Run real RDMA clients, rdma-core's Python suite and middleware in the VM, on rxe or on the
mlx5 adapter, with one of its two schemes of page faults, and compare with the
results of stock in stock-<dev>.baseline: no test may be worse.  A failure that
stock has too, always or, where the baseline says flaky and why, sometimes,
counts as skipped and says so; a test that the baseline knows and this run did
not reach is a failure.
"""
import fnmatch
import os
import re
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from interop import programs
from lib.common import fail, note
from machine import ktap, nodes, vm

# If completions arrive later than test_resize_cq expects, it makes its CQ smaller than
# their number. Then it fails, and rxe reports that the CQ overflows.
RESIZE = "tests.test_cq.CQTest.test_resize_cq"
OVERFLOW = r"^rxe0: cq#\d+ rxe_cq_post: queue full$"
# What to boot with, and the devices of the server and of the other clients.
DEVICES = {"rxe": ({"dev": "rxe", "errors": OVERFLOW}, "rxe0", None),
           "mlx5": ({"dev": "mlx5x2", "ipoib": True}, "mlx5_0", "mlx5_1"),
           "mlx5-memory": ({"dev": "mlx5x2", "ipoib": True, "mlx5": "memory-scheme=on"},
                           "mlx5_0", "mlx5_1")}
# Of two machines, each with one.
NODES = {"rxe-nodes": ({"dev": "rxe"}, "rxe0"),
         "mlx5-nodes": ({"dev": "mlx5", "ipoib": True}, "mlx5_0"),
         "mlx5-memory-nodes": ({"dev": "mlx5", "ipoib": True, "mlx5": "memory-scheme=on"},
                               "mlx5_0")}
# Where the matrix of middleware runs: it has no baseline, because its rows say by themselves
# what was verified and how often regions faulted.
MIDDLEWARE = ("rxe", "mlx5")
VERDICTS = ("pass", "skip", "fail")


def baseline_path(dev):
    return os.path.join(HERE, f"stock-{dev}.baseline")


def baseline(dev, must=True):
    """{test: (verdict, reason)}: pass, skip, fail, or flaky, which has a reason."""
    path = baseline_path(dev)
    if not os.path.exists(path):
        if must:
            fail(f"{path} is missing: DEV={dev} dev/interop/run.py stock --baseline")
        return {}
    with open(path) as file:
        rows = [line.split(maxsplit=2) for line in file if line.strip() and line[0] != "#"]
    for row in rows:
        if (len(row) == 3) != (row[0] == "flaky") or row[0] not in (*VERDICTS, "flaky"):
            fail(f"{path}: {' '.join(row)}: a verdict and a test; flaky has a reason, too")
    return {row[1]: (row[0], row[2].strip() if len(row) == 3 else "") for row in rows}


def lost_completions(share):
    said = vm.driver_errors(f"{share}/kernel-errors", None)
    return [line for line in said if re.search(OVERFLOW, line)]


def boot(config, dev, glob, quiet, middleware):
    options, first, second = DEVICES[dev]
    # The others have no such names.
    alone = middleware and glob.startswith("mw.")
    cmd = ""
    if not alone:
        cmd += f"bash {HERE}/clients.sh {first} $SHARE/clients '{glob}'\n"
        if second:
            cmd += f"bash {HERE}/clients.sh {first} $SHARE/clients '{glob}' {second}\n"
        cmd += f"python3 {HERE}/pyverbs_run.py {first} $SHARE/pyverbs '{glob}' || exit 1\n"
    if middleware:
        cmd += programs.command(first, second, glob, os.environ.get("TIER") == "all")
    result = vm.run(config, cmd, name=f"interop-{dev}", mem="2G", hugepages=64, quiet=quiet,
                    seconds=300 if glob == "*" else None,
                    swap=programs.SWAP if middleware else None, **options,
                    timeout=os.environ.get("TIMEOUT") or 1500,
                    verbose=os.environ.get("V"), allow=os.environ.get("PINLESS_ALLOW"))
    found = {}
    for results in () if alone else ("clients", "pyverbs"):
        found.update(ktap.results(f"{result.share}/{results}"))
    if middleware:
        found.update(ktap.results(f"{result.share}/middleware"))
        programs.show_table(result.share)
    if lost_completions(result.share) and found.get(RESIZE, ("",))[0] != "fail":
        result.reason = result.reason or f"a CQ overflowed, and not because of {RESIZE}"
    return result, found


def on_nodes(config, dev, glob, quiet):
    """Clients on one machine and their servers on another; no baseline, so all must pass."""
    options, device = NODES[dev]
    vm.need("rdmacm-utils")
    cmd = f"bash {HERE}/clients.sh {device} $SHARE/clients '{glob or '*'}'\n"
    both = nodes.run(config, [cmd, cmd], name=f"interop-{dev}", mem="1G", quiet=quiet,
                     timeout=os.environ.get("TIMEOUT") or 1500, verbose=os.environ.get("V"),
                     allow=os.environ.get("PINLESS_ALLOW"), **options)
    tally = ktap.Tally()
    for name, verdict in sorted(ktap.results(f"{both[0].share}/clients").items()):
        tally.add(name, *verdict)
    for nr, result in enumerate(both):
        if result.reason or result.status:
            vm.report(result)
            tally.add(f"boot.node{nr}", "fail", result.reason or f"status {result.status}")
    return tally, both[0]


def against(verdict, why, was, reason):
    """What a test's result counts as, where stock's was WAS."""
    if verdict == "fail" and was == "fail":
        return "skip", f"stock fails here too: {why}"
    if verdict == "fail" and was == "flaky":
        return "skip", f"flaky on stock: {reason} ({why})"
    if verdict == "fail" and was == "pass":
        return "fail", f"{why} (stock passes)"
    if verdict == "skip" and was in ("pass", "flaky"):
        return "fail", f"skipped, and stock runs it: {why}"
    return verdict, why


def compare(found, known, glob):
    tally = ktap.Tally()
    for name in sorted(set(found) | {n for n in known if fnmatch.fnmatch(n, glob)}):
        if name in found:
            tally.add(name, *against(*found[name], *known.get(name, (None, ""))))
        else:
            tally.add(name, "fail", "did not run")
    return tally


def run(config, dev="rxe", glob=None, quiet=True):
    if dev in NODES:
        return on_nodes(config, dev, glob, quiet)
    glob = glob or "*"
    result, found = boot(config, dev, glob, quiet, dev in MIDDLEWARE)
    tally = compare(found, baseline(dev), glob)
    if result.reason or result.status:
        vm.report(result)
        tally.add("boot", "fail", result.reason or f"status {result.status}")
    return tally, result


def seen_both(known, found):
    """(verdict, reason) of a test after one more run on stock.

    One that fails and does not fail is flaky: as a failure it would excuse every
    failure of ours, without a word.  One that one kernel skips may be skipped.
    """
    verdict, why = found
    if known is None or known[0] == verdict:
        return verdict, ""
    if known[0] == "flaky":
        return known
    if "fail" in (known[0], verdict):
        return "flaky", f"{known[0]} and {verdict} on stock{': ' + why if why else ''}"
    return "skip", ""


def write_baseline(config, dev):
    result, found = boot(config, dev, "*", True, False)
    if result.reason or result.status or not found:
        vm.report(result)
        fail("the run on stock did not end well; no baseline written")
    known = baseline(dev, must=False)
    with open(baseline_path(dev), "w") as file:
        file.write(f"# Results of stock on {dev}, of all runs; made by: DEV={dev} "
                   "dev/interop/run.py stock\n# --baseline, and the same with stock-debug.\n")
        for name in sorted(found):
            verdict, why = seen_both(known.get(name), found[name])
            file.write(f"{verdict} {name} {why}".rstrip() + "\n")
    counts = [verdict for verdict, _ in found.values()]
    note(f"{len(counts)} tests: " + ", ".join(f"{counts.count(v)} {v}" for v in VERDICTS))
    for name, (verdict, why) in sorted(found.items()):
        if verdict == "fail":
            note(f"  fail {name}: {why}")


def main():
    vm.need(*vm.RDMA_PACKAGES)
    args = sys.argv[1:]
    dev = os.environ.get("DEV") or "rxe"
    if dev not in {**DEVICES, **NODES}:
        fail(f"interop: no such device: {dev} ({', '.join({**DEVICES, **NODES})})")
    if "--baseline" in args:
        return write_baseline(args[0], dev)
    tally, result = run(args[0] if args else "debug", dev, os.environ.get("T"),
                        quiet=not os.environ.get("V"))
    tally.show(sys.stderr)
    note(f"kernel log: {result.klog} ({result.seconds:.0f} s)")
    tally.end()


if __name__ == "__main__":
    main()
