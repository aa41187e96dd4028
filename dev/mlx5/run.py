#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: [T=globs] dev/mlx5/run.py [CONFIG]       (make mlx5 T='plain.*odp*'; CONFIG=stock)

Test the adapter of QEMU with a kernel's driver, stock's if nothing is said: it
is qualified with that one.  Each scenario is a VM of its own; in most the tests
of dev/mlx5/tests run, some are a script of dev/mlx5/scenarios.  Every boot also
judges the kernel's console, and the adapter's own check of its DMA.  SANITIZE=1
runs the QEMU that `make qemu SANITIZE=1` builds: what its sanitizers report of
the adapter is a failure.  FUZZ_SEED and FUZZ_SECONDS are for the random scenarios, fuzz
and unruly.  "bare" is no VM: its tests, dev/mlx5/bare, are the driver.
"""
import fnmatch
import functools
import os
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from lib.common import note
from machine import ktap, vm
from mlx5.bare import run as bare

MODULES = ("dmacheck", "exporter", "plant", "provoke", "stall")     # the guest has their paths
CHECKED = f"bash {HERE}/checked.sh "
TESTS = CHECKED + f"python3 {HERE}/guest_tests.py $SHARE/results "
# What mlx5_core says at level err of an adapter that is gone or has to be recovered.
GONE = (r"poll_health|print_health_info|health_try_recover|error_sw_reset|fatal_reporter|NIC IFC still|"
        r"mlx5_fence_dma.*taken off the bus|umrq_kill.*UMRs cannot be executed")
TWO = {"dev": "mlx5x2", "mem": "1G", "swap": "1G"}
# name: (options of the VM, command).  The command's results, if it writes any,
# are counted one by one; its status counts in any case.
SCENARIOS = {
    "plain": (TWO, TESTS),
    "late": ({**TWO, "mlx5": "umr-delay=200000,fault-delay=300000,resume-delay=200000,"
                             "cmd-delay=100000,wire-delay=20000,jitter=100000"}, TESTS),
    "memory": ({**TWO, "mlx5": "memory-scheme=on"}, TESTS),
    "iommu": ({**TWO, "iommu": True}, TESTS),
    "levels": ({**TWO, "la57": True}, TESTS + "'*test_large* *Children*'"),
    "direct": ({**TWO, "mlx5": "indirect-umr=off"},
               TESTS + "'*test_direct* *Explicit* *test_large.Bounds*'"),
    "planted": ({"dev": "mlx5", "allow": "mlx5: DMA check: "}, f"bash {HERE}/scenarios/planted.sh"),
    "stalled": ({"dev": "mlx5"}, CHECKED + f"bash {HERE}/scenarios/stalled.sh"),
    "rebind": ({"dev": "mlx5"}, CHECKED + f"bash {HERE}/scenarios/rebind.sh"),
    "flr": ({"dev": "mlx5"}, CHECKED + f"bash {HERE}/scenarios/flr.sh"),
    "fence": ({"dev": "mlx5", "errors": GONE}, CHECKED + f"bash {HERE}/scenarios/fence.sh"),
    "pages": ({"dev": "mlx5"}, CHECKED + f"bash {HERE}/scenarios/pages.sh"),
    "health": ({"dev": "mlx5", "errors": GONE}, CHECKED + f"bash {HERE}/scenarios/health.sh"),
    "eject": ({"dev": "mlx5"}, f"bash {HERE}/scenarios/eject.sh"),
    "surprise": ({"dev": "mlx5x2", "errors": GONE}, f"bash {HERE}/scenarios/surprise.sh"),
    "provoked": ({"dev": "mlx5", "errors": GONE}, CHECKED + f"bash {HERE}/scenarios/provoked.sh"),
    "reboot": ({"dev": "mlx5", "reboot": True}, f"bash {HERE}/scenarios/reboot.sh"),
    "bounced": ({"dev": "mlx5", "append": "swiotlb=force"}, f"bash {HERE}/scenarios/bounced.sh"),
    "fuzz": ({"dev": "mlx5"}, f"bash {HERE}/scenarios/fuzz.sh"),
    "unruly": (TWO, CHECKED + f"bash {HERE}/scenarios/unruly.sh"),
    "regress_vectors": ({"dev": "mlx5", "errors": GONE}, f"bash {HERE}/scenarios/regress_vectors.sh"),
}
# What is known to fail, sometimes, with stock's driver, and why: no failure of the adapter.
STOCK = {
    "memory.test_odp.Children.*":
        "a fault that names a child which is gone fails the operation",
    "*.test_odp.Statistic.test_each_page_is_counted_when_it_comes":
        "it counts each page of a fault, also those that were there",
    "*.test_odp.Statistic.test_and_when_it_goes":
        "it counts one page, and takes its whole granule of eight from the adapter",
    "*.test_large.Context.test_regress_a_key_that_was_not_made_is_not_destroyed":
        "it makes no key if it has one that it can use again",
}
# What asks our driver for something that stock's does not have: a module, a scenario. Stock's
# takes no adapter off the bus, and answers UMRs that fail, as in fence, and regions without
# a byte, as in unruly, with a WARNING.
OURS = ("provoke", "provoked", "bounced", "fence", "unruly")
LONG = ("late", "iommu", "fuzz")            # only when asked for, and by make check-long


@functools.lru_cache(maxsize=None)
def modules(config):
    """As the guest knows them: NAME=path of each."""
    names = asked(MODULES, config)
    paths = vm.tool("kernels/module", config, *(f"mlx5/{name}" for name in names)).splitlines()
    return [f"{name.upper()}={path}" for name, path in zip(names, paths)]


def asked(names, config):
    return [name for name in names if not (config.startswith("stock") and name in OURS)]


def scenario(config, name, wanted, quiet):
    opts, cmd = SCENARIOS[name]
    if cmd.endswith("$SHARE/results "):
        cmd += f"'{wanted}'"
    cmd = f"export {' '.join(modules(config))}\n{cmd}\n"
    fuzz = {key: os.environ[key] for key in ("FUZZ_SEED", "FUZZ_SECONDS") if key in os.environ}
    result = vm.run(config, cmd, name=f"mlx5-{name}", quiet=quiet,
                    seconds=300 if TESTS in cmd else None,
                    timeout=(os.environ.get("TIMEOUT") or
                             1500 + float(fuzz.get("FUZZ_SECONDS", 0))),
                    verbose=os.environ.get("V"), env=fuzz, perturb=True, **{"allow": os.environ.get("PINLESS_ALLOW"),
                                     "append": os.environ.get("APPEND"), **opts})
    tally = ktap.Tally()
    found = ktap.results(f"{result.share}/results") if TESTS in cmd else {}
    for test, (verdict, why) in sorted(found.items()):
        known = [text for glob, text in STOCK.items() if fnmatch.fnmatch(f"{name}.{test}", glob)]
        if known and verdict == "fail" and config.startswith("stock"):
            verdict, why = "skip", f"stock: {known[0]} ({why})"
        tally.add(f"{name}.{test}", verdict, why)
    if TESTS in cmd and not found:
        tally.add(f"{name}.tests", "fail", "none was run")
    if result.status or result.reason:
        vm.report(result)
        tally.add(f"{name}.boot", "fail", result.reason or f"status {result.status}")
    else:
        tally.add(f"{name}.boot", "pass")
    note(f"mlx5 {name} on {config}: {tally.line()} ({result.seconds:.0f} s)")
    return tally


def run(config, glob=None, quiet=True):
    """T is scenarios, or scenario.test, as globs; without it, all but LONG."""
    globs = [word.partition(".") for word in (glob or "*").split()]

    def wanted(name):
        return [test or "*" for which, _, test in globs if fnmatch.fnmatch(name, which)]

    total = ktap.Tally()
    if wanted("bare"):
        total.merge(bare.run(wanted("bare")))
        note(f"mlx5 bare: {total.line()}")
    chosen = [(config, name, " ".join(wanted(name)), quiet) for name in asked(SCENARIOS, config)
              if wanted(name) and (glob or name not in LONG)]
    if chosen:
        modules(config)
    for tally in vm.together(scenario, chosen):
        total.merge(tally)
    return total


def main():
    vm.need(*vm.RDMA_PACKAGES)
    config = sys.argv[1] if len(sys.argv) > 1 else "stock"
    tally = run(config, os.environ.get("T"), quiet=not os.environ.get("V"))
    tally.show(sys.stderr)
    tally.end()


if __name__ == "__main__":
    main()
