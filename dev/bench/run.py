#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: [REPEAT=1] [T=notifier|notifier.GLOB|odp|odp.GLOB|coherence|phases|rxe] dev/bench/run.py

What `make bench` runs.

Measure stock and ours in VMs: the notifiers, by the same module built against
both trees, and the paging of mlx5 (odp.py). Prints a table of each, and leaves
table.txt, results.json, results.tsv and plots in out/bench/ and out/bench/odp/.
T=coherence counts transfers between up to 64 CPUs (coherence.py), T=phases says where the
instructions of a page fault go (phases.py), T=rxe compares paged with pinned regions of
rxe (rxe.py): these only if asked.
REPEAT=1 boots what counts instructions twice and says which values differ.

The notifiers: four boots a tree: "cost", "many" (64 possible CPUs) and "turns" (two
vCPUs that take turns) with QEMU's clock counting guest instructions, "smp" with two
vCPUs pinned to two host CPUs. notifier.GLOB is only the boots that it names.
Ends with 0 if everything could be measured, whether or not targets are met.
"""
import concurrent.futures
import fnmatch
import os
import re
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from bench import coherence, odp, phases, plots, report, rows, rxe
from bench.build import build_sides, compile_program, script
from bench.report import COUNTING, OUT, results, SIDES
from lib.common import fail, note
from machine import vm

PACKAGES = vm.PACKAGES + ("gnuplot-nox", "libc6-dev", "ccache") + odp.PACKAGES
VMAS, OTHERS = 60000, 20000
CURVE = (100, 300, 1000, 3000, 10000, 30000, VMAS)
# How many rounds the control has to let pass, and how often it is tried.
QUIET, TRIES = 3, 3


def cost_commands(vmas):
    kinds = [("anon", number) for number in CURVE]
    kinds += [(kind, OTHERS) for kind in ("joint", "forked", "file", "files")]
    return ["echo cost >$file", "echo posted >$file"] + [f"{vmas} {kind} {number} $file" for kind, number in kinds]


def turns_commands(stall):
    return ["echo teardown >$file"] + [f"{stall} {kind} {pace} {VMAS} $file" for kind, pace in
                                       (("list", "steady"), ("interval", "steady"),
                                        ("interval", "slow"))]


def madt(cpus):
    """An ACPI table, less its header, of a q35 machine with that many processors.

    The kernel believes it (acpi_apic_instance=2), and never starts those that
    QEMU does not have (maxcpus=1): possible CPUs cost the emulator nothing.
    """
    body = struct.pack("<II", 0xfee00000, 1)
    for cpu in range(cpus):
        body += struct.pack("<BBBBI", 0, 8, cpu, cpu, 1)
    body += struct.pack("<BBBBII", 1, 12, 0, 0, 0xfec00000, 0)
    for irq, gsi, flags in ((0, 2, 0), (5, 5, 0xd), (9, 9, 0xd), (10, 10, 0xd), (11, 11, 0xd)):
        body += struct.pack("<BBBBIH", 2, 10, 0, irq, gsi, flags)
    return body + struct.pack("<BBBHB", 4, 6, 0xff, 0, 1)


def boot_counting(side, image, module, boot, programs):
    """A boot in which a nanosecond of the guest's time is an instruction."""
    cpus, commands = 1, cost_commands(programs["vmas"])
    opts = {"name": f"bench-{side}-{boot}", "mem": "2G", "quiet": True, "append": "nokaslr",
            "smp": 1, "qemu_args": list(COUNTING)}
    if boot == "many":
        cpus, commands = 64, ["echo cost >$file"]
        table = os.path.join(OUT, f"madt-{side}")
        with open(table, "wb") as file:
            file.write(madt(cpus))
        opts["append"] += " acpi_apic_instance=2 maxcpus=1"
        opts["qemu_args"] += ["-acpitable", f"sig=APIC,rev=1,data={table}"]
    elif boot == "turns":
        cpus, commands = 2, turns_commands(programs["stall"])
        opts["smp"] = cpus
    values = results(f"{side}, {boot}", vm.boot(image, script(module, commands), opts,
                                                "tcg,thread=single"))
    if values["possible_cpus"] != cpus:
        fail(f"{side}: {values['possible_cpus']:.0f} possible CPUs instead of {cpus}")
    note(f"{side}: {boot} measured")
    return values


def pin(pidfile, stop, pinned):
    """Tie each vCPU of a QEMU to a host CPU, as soon as its threads are there."""
    host = sorted(os.sched_getaffinity(0))
    while len(pinned) < 2 and not stop.wait(0.05):
        try:
            with open(pidfile) as file:
                tasks = f"/proc/{int(file.read())}/task"
            for tid in os.listdir(tasks):
                with open(f"{tasks}/{tid}/comm") as file:
                    found = re.match(r"CPU (\d+)/", file.read())
                if found:
                    os.sched_setaffinity(int(tid), {host[int(found[1]) % len(host)]})
                    pinned.add(tid)
        except (OSError, ValueError):
            continue


def boot_smp(side, image, module):
    pidfile = os.path.join(OUT, f"qemu-{side}.pid")
    if os.path.exists(pidfile):
        os.unlink(pidfile)
    opts = {"name": f"bench-{side}-smp", "smp": 2, "quiet": True, "append": "nokaslr",
            "qemu_args": ["-name", "bench,debug-threads=on", "-pidfile", pidfile]}
    stop, pinned = threading.Event(), set()
    pinner = threading.Thread(target=pin, args=(pidfile, stop, pinned))
    pinner.start()
    try:
        result = vm.boot(image, script(module, [f"echo {word} >$file" for word in
                                                ("storm", "unregister", "pairs")]),
                            opts, "tcg,thread=multi")
    finally:
        stop.set()
        pinner.join()
    if len(pinned) != 2 or len(os.sched_getaffinity(0)) < 2:
        fail(f"{side}: two vCPUs could not be tied to two host CPUs")
    return results(f"{side}, two CPUs", result)


def measure_smp(side, image, module):
    """Again if the control says that the host was busy; (values, remark)."""
    for attempt in range(1, TRIES + 1):
        values = boot_smp(side, image, module)
        total = len(rows.rounds(values, "pairs_one"))
        quiet = len(rows.quiet_rounds({"smp": values}))
        remark = (f"{side}, misses: {quiet} of {total} rounds had a control between "
                  f"{rows.CONTROL[0]} and {rows.CONTROL[1]}, in boot {attempt}")
        if quiet >= QUIET:
            break
        note(f"{remark}: the host is busy")
    if quiet < QUIET:
        remark += ": THE HOST WAS TOO BUSY, its two-CPU rows mean little"
    note(f"{side}: two CPUs measured")
    return values, remark


def measure(built, programs, boots):
    """Counting boots do not disturb each other; those with two CPUs run alone."""
    data = {side: {} for side in SIDES}
    remarks = []
    with concurrent.futures.ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        jobs = {}
        for boot in [name for name in boots if name != "smp"] * (2 if os.environ.get("REPEAT") else 1):
            for side in SIDES:
                jobs.setdefault((side, boot), []).append(
                    pool.submit(boot_counting, side, *built[side], boot, programs))
        for (side, boot), futures in jobs.items():
            runs = [future.result() for future in futures]
            data[side][boot] = runs[0]
            remarks += report.differing(side, boot, runs)
    for side in SIDES if "smp" in boots else ():
        data[side]["smp"], remark = measure_smp(side, *built[side])
        remarks.append(remark)
    return data, remarks


def notifiers(what):
    start = time.monotonic()
    boots = fnmatch.filter(rows.BOOTS, what)
    if not boots:
        fail(f"no boot of the notifiers is called {what}: {' '.join(rows.BOOTS)}")
    built = build_sides()
    programs = {name: compile_program(name, f"{name}.c") for name in ("vmas", "stall")}
    note("measuring the notifiers: eight minutes or so, if all of them")
    data, remarks = measure(built, programs, boots)
    found = report.judge((item for item in rows.table(VMAS, OTHERS) if rows.measured(item, data)),
                         data)
    if "smp" in boots:
        remarks.insert(0, "never: not while the storm went on, 2.0 s of 2.0 s.")
    text = report.save(OUT, data, found, remarks)
    drawn = plots.draw(OUT, data, CURVE) if "cost" in boots else []
    print(text, end="", flush=True)
    note(f"{time.monotonic() - start:.0f} s; results and plots: {OUT}",
         *(f"  {name}" for name in drawn))


def main():
    half, _, what = (os.environ.get("T") or "").partition(".")
    if half not in ("", "notifier", "odp", "coherence", "phases", "rxe"):
        fail(f"T={half}: there are notifier, odp, parts of both, coherence, phases, and rxe")
    vm.need(*PACKAGES)
    if half in ("", "notifier"):
        notifiers(what or "*")
    if half in ("", "odp"):
        odp.run(what or "*")
    if half == "coherence":
        coherence.run()
    if half == "phases":
        phases.run()
    if half == "rxe":
        rxe.run()


if __name__ == "__main__":
    main()
