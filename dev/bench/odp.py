# SPDX-License-Identifier: GPL-2.0
"""The paging half of the benchmark: the mlx5 drivers of stock and ours on the same
adapter of QEMU with the same delays, under the same program (odp/).

Three boots a tree, with a clock that counts instructions: "one" has one vCPU, "two" has
two, which take turns, and "small" has little memory and a place to swap. A time is then
the instructions of the guest and its waits for the device, and does not depend on the host.
"""
import concurrent.futures
import fnmatch
import glob
import os
import subprocess
import time

from bench import odp_rows, plots, report
from lib.common import fail, note
from machine import vm

HERE = os.path.dirname(os.path.realpath(__file__))
OUT = os.path.join(report.OUT, "odp")
PACKAGES = ("libibverbs-dev", "ibverbs-providers")
# What each boot measures, in this order.
BOOTS = {"one": ("registration", "deregistration", "faults", "crowd", "traffic", "invalidation"),
         "two": ("threads", "storm", "chunks"), "small": ("aging",)}
MACHINES = {"one": {"smp": 1, "mem": "6G"}, "two": {"smp": 2, "mem": "6G"},
            "small": {"smp": 1, "mem": "512M", "swap": "2G"}}
# Clearing pages with string instructions would count, and take, one instruction a byte.
APPEND = "nokaslr clearcpuid=erms,fsrm,rep_good"


def build():
    os.makedirs(OUT, exist_ok=True)
    program = os.path.join(OUT, "odp_bench")
    if subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-o", program,
                       *sorted(glob.glob(os.path.join(HERE, "odp", "*.c"))), "-libverbs",
                       "-lpthread"]).returncode:
        fail("dev/bench/odp does not compile")
    return program


def script(program, parts):
    """What the guest runs. khugepaged would make huge pages at its own time."""
    return "\n".join(["set -e", "cd /sys/kernel/mm/transparent_hugepage/khugepaged",
                      "echo 600000000 >scan_sleep_millisecs",
                      f"{program} {' '.join(parts)} >$SHARE/results"])


def boot(side, name, program, parts):
    opts = {"name": f"bench-odp-{side}-{name}", "dev": "mlx5", "quiet": True,
            "append": APPEND, "qemu_args": list(report.COUNTING), **MACHINES[name]}
    values = report.results(f"{side}, paging, {name}",
                            vm.boot(vm.image(report.SIDES[side]), script(program, parts),
                                    opts, "tcg,thread=single"))
    note(f"{side}: {' '.join(parts)} measured")
    return values


def measure(program, parts):
    """({side: {boot: values}}, remarks); boots that count do not disturb each other."""
    data, remarks, jobs = {side: {} for side in report.SIDES}, [], {}
    workers = int(os.environ.get("JOBS") or min(2, os.cpu_count() or 1))
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for name, wanted in parts.items():
            for side in report.SIDES:
                for _ in range(2 if os.environ.get("REPEAT") else 1):
                    jobs.setdefault((side, name), []).append(
                        pool.submit(boot, side, name, program, wanted))
        for (side, name), futures in jobs.items():
            runs = [future.result() for future in futures]
            data[side][name] = runs[0]
            remarks += report.differing(side, name, runs)
    return data, remarks


def run(what):
    """Measure the parts that the glob WHAT names; print and keep the table."""
    start = time.monotonic()
    parts = {name: fnmatch.filter(all_parts, what) for name, all_parts in BOOTS.items()}
    parts = {name: wanted for name, wanted in parts.items() if wanted}
    if not parts:
        fail(f"nothing of odp is called {what}: {' '.join(sum(BOOTS.values(), ()))}")
    program = build()
    for config in report.SIDES.values():
        vm.image(config)
    vm.qemu_binary({"dev": "mlx5"})
    note("measuring on-demand paging: three minutes or so")
    data, remarks = measure(program, parts)
    found = report.judge(odp_rows.table(sum(parts.values(), [])), data)
    print(report.save(OUT, data, found, odp_rows.remarks(data) + remarks), end="")
    drawn = plots.draw_registration(OUT, data) if "registration" in parts.get("one", ()) else []
    note(f"{time.monotonic() - start:.0f} s; results and plots: {OUT}",
         *(f"  {name}" for name in drawn))
