# SPDX-License-Identifier: GPL-2.0
"""T=coherence: what an operation costs on many CPUs, without a machine that has them.

A plugin of QEMU (coherence/plugin.c) counts cache-line transfers, locked operations and
full barriers, while the module has all CPUs of the guest take turns. One thread of the
host runs all of them and their clock counts instructions, so that two boots agree.
"""
import bisect
import concurrent.futures
import glob
import os
import subprocess
import time

from bench import coherence_rows as rows
from bench import plots, report
from bench.build import build_sides, compile_program, script
from bench.report import COUNTING, SIDES
from lib.common import fail, note
from machine import vm

HERE = os.path.dirname(os.path.realpath(__file__))
OUT = os.path.join(report.OUT, "coherence")
# A CPU that waits by "pause" has QEMU look at all others each time. With 64 CPUs the waits
# of the boot, for the APIC's timer and for two TSCs to agree, then take many minutes.
APPEND = "nokaslr nolapic_timer tsc=reliable"


def build_plugin():
    """The plugin, against the header of the QEMU that will load it."""
    source = vm.tool("machine/qemu", "-s")
    plugin = os.path.join(OUT, "coherence.so")
    if subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-fvisibility=hidden", "-Wall",
                       "-Wextra", "-Werror", f"-I{source}/include/qemu", "-o", plugin,
                       *sorted(set(glob.glob(os.path.join(HERE, "coherence", "*.c"))) -
                               {os.path.join(HERE, "coherence", "kvm.c")})]).returncode:
        fail("dev/bench/coherence does not compile")
    return plugin


def symbols(module):
    """(addresses, names) of the kernel's functions, sorted."""
    with open(os.path.join(os.path.dirname(module), "System.map")) as file:
        found = sorted((int(address, 16), name) for address, kind, name in map(str.split, file)
                       if kind in "tT")
    return [address for address, _ in found], [name for _, name in found]


def function(table, address):
    """The function that an instruction is in, with its offset."""
    addresses, names = table
    at = bisect.bisect_right(addresses, address) - 1
    if at < 0 or address >= addresses[-1]:
        return "module"
    return f"{names[at]}+{address - addresses[at]:#x}"


def counts(classes, path, table):
    """({name: value}, lines of where.tsv) of one boot. CLASSES are the module's results:
    the name of an operation and its number, which is the plugin's row and class."""
    values, where, ops = {}, [], {}
    names = {int(number): name for name, number in classes.items()}
    with open(path) as file:
        for kind, row, kind_of_op, *fields in map(str.split, file):
            name = names[int(row) * 4 + int(kind_of_op)]
            if kind == "at":
                address, *events = fields
                where.append((name, function(table, int(address, 16)),
                              *(int(event) / ops[name] for event in events)))
                continue
            ops[name], fetches, upgrades, locked, barriers, least, most = map(int, fields)
            totals = {"transfers": fetches + upgrades, "fetches": fetches, "upgrades": upgrades,
                      "locked": locked, "barriers": barriers}
            values.update({f"{name}.{key}": total / ops[name] for key, total in totals.items()})
            values.update({f"{name}.least": least, f"{name}.most": most})
    missing = set(classes) - set(ops)
    if missing:
        fail(f"the plugin has not seen {' '.join(sorted(missing))}")
    return values, where


def boot(side, cpus, repetition, built, plugin, kvm):
    """({name: value}, where) of a guest with that many CPUs."""
    image, module = built[side]
    path = os.path.join(OUT, f"counts-{side}-{cpus}-{repetition}")
    opts = {"name": f"bench-{side}-coherence-{cpus}", "mem": "2G", "quiet": True,
            "append": APPEND, "smp": cpus,
            "qemu_args": [*COUNTING, "-plugin", f"file={plugin},out={path}"]}
    start = time.monotonic()
    commands = ["echo coherence >$file", f"{kvm} 'coherence kvm' $file"]
    classes = report.results(f"{side}, {cpus} CPUs", vm.boot(image, script(module, commands),
                                                             opts, "tcg,thread=single"))
    if classes.pop("possible_cpus") != cpus:
        fail(f"{side}: not {cpus} CPUs")
    values, where = counts(classes, path, symbols(module))
    note(f"{side}: {cpus} CPUs measured in {time.monotonic() - start:.0f} s")
    return values, where


def measure(built, plugin, kvm):
    """({side: {CPUs: values}}, {side: {CPUs: where}}, remarks)"""
    data, places, jobs, remarks = ({side: {} for side in SIDES}, {side: {} for side in SIDES},
                                   {}, [])
    workers = int(os.environ.get("JOBS") or min(2, os.cpu_count() or 1))
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for cpus in sorted(rows.CPUS, reverse=True):
            for side in SIDES:
                for repetition in range(2 if os.environ.get("REPEAT") else 1):
                    jobs.setdefault((side, str(cpus)), []).append(
                        pool.submit(boot, side, cpus, repetition, built, plugin, kvm))
        for (side, cpus), futures in jobs.items():
            runs = [future.result() for future in futures]
            data[side][cpus], places[side][cpus] = runs[0]
            remarks += report.differing(side, f"{cpus} CPUs", [values for values, _ in runs])
    return data, places, remarks


def save_places(places):
    """Which instructions caused the transfers: what a table of totals hides."""
    with open(os.path.join(OUT, "where.tsv"), "w") as file:
        file.write("side\tcpus\toperation\twhere\tfetches\tupgrades\n")
        for side, boots in places.items():
            for cpus, lines in boots.items():
                for name, place, *events in lines:
                    file.write("\t".join([side, cpus, name, place,
                                          *(f"{event:.3f}" for event in events)]) + "\n")


def prove(data):
    """The controls, or the end: numbers of an instrument that is wrong are none."""
    wrong = [line for side in SIDES for cpus, values in data[side].items()
             for line in rows.wrong_controls(side, cpus, values)]
    if wrong:
        fail("the controls do not cost what they must; nothing is reported", *wrong)
    return (f"{len(rows.CONTROLS)} controls cost exactly what they must, in each operation, "
            f"with {', '.join(map(str, rows.CPUS))} CPUs, on both kernels.")


def run():
    start = time.monotonic()
    os.makedirs(OUT, exist_ok=True)
    built, plugin = build_sides(), build_plugin()
    kvm = compile_program("kvm", "coherence/kvm.c")
    note("counting transfers between CPUs: some minutes")
    data, places, remarks = measure(built, plugin, kvm)
    save_places(places)
    remarks.insert(0, prove(data))
    found = rows.judge(data)
    text = report.save(OUT, data, found, remarks, rows.render(found, remarks))
    drawn = plots.draw_coherence(OUT, data)
    print(text, end="", flush=True)
    note(f"{time.monotonic() - start:.0f} s; results and plots: {OUT}",
         *(f"  {name}" for name in drawn))
