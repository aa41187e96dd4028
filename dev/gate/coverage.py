#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Which tests execute which lines of our files: measured with gcov, and used.

usage: dev/gate/coverage.py measure [STAGE...]   boot the gcov kernel, write coverage.map;
                                            with stages, those again: what is known
                                            of the others stays
       dev/gate/coverage.py run PATH...     run what executes these files, the tests
                                            with the most lines first
                                            (make check FOR='PATH...')

A file's line in the map says how many of its lines can be executed and how many are.
Below it stand tests, each with the lines that it adds to those above it.  A test is
what one can run by itself: a KUnit suite, a selftest, a scenario of the adapter or a
file of its tests, clients of rxe.
"""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from gate import kunit, selftest
from interop import run as clients
from kernels import modules
from lib.common import ROOT, fail, note, read
from machine import ktap, vm
from mlx5 import run as adapter
from trees import owned

MAP = os.path.join(ROOT, "dev/gate/coverage.map")
# What was measured last, of which the map is an abstract.
KNOWN = os.path.join(ROOT, "out", "coverage.json")
INTEROP = {"clients": "client.*", "odp": "*odp*", "pyverbs": "tests.*"}
# Forgets what was counted before the test.
RESET = "echo 0 >/sys/kernel/debug/gcov/reset\n"
# What a test must add to be worth its time.
WORTH = 3


def take(unit):
    """Keep the counters as they are now, for UNIT: our objects are all that has any."""
    return (f"(cd /sys/kernel/debug/gcov && find . -name '*.gcda' | while read -r file; do\n"
            f"mkdir -p \"$SHARE/gcov/{unit}/$(dirname \"$file\")\"\n"
            f"cat \"$file\" >\"$SHARE/gcov/{unit}/$file\"; done)\n")


def measured(unit, command):
    """A test that fails has not executed what it would; its name is kept."""
    return f"{RESET}({command}) || echo '{unit}' >>$SHARE/failed\n{take(unit)}"


def kunit_boots():
    yield "kunit", (f"for suite in $(ls /sys/kernel/debug/kunit); do\n{RESET}"
                    "echo 1 >/sys/kernel/debug/kunit/$suite/run\n"
                    f"{take('kunit:$suite')}done\n"), {"append": "kunit.enable=1", "mem": "2G"}


def selftest_boots():
    tests = selftests()
    out, errors = selftest.build("work", {test["program"].split()[0] for test in tests})
    for _, opts, batch in selftest.machines({**test, "config": "gcov"} for test in tests
                                            if test["program"].split()[0] not in errors):
        yield "selftest", "".join(
            measured(f"selftest:{test['name']}", selftest.script([test], out, []).removesuffix("exit 0"))
            for test in batch), opts


def interop_boots():
    here = clients.HERE
    yield "interop", "".join(
        measured(f"interop:{name}", f"bash {here}/clients.sh rxe0 $SHARE/c{name} '{glob}'\n"
                 f"python3 {here}/pyverbs_run.py rxe0 $SHARE/p{name} '{glob}'")
        for name, glob in INTEROP.items()), {"dev": "rxe", "mem": "2G", "hugepages": 64}


def selftests():
    # The torture tests execute everything, at random: no map is made of that.
    return [test for test in selftest.tests("check", None, "") if "torture" not in test["name"]]


def mlx5_boots():
    export = f"export {' '.join(adapter.modules('gcov'))}\n"
    files = sorted(name[:-3] for name in os.listdir(os.path.join(adapter.HERE, "tests"))
                   if name.startswith("test_"))
    for name, (opts, cmd) in adapter.SCENARIOS.items():
        if name in adapter.LONG or opts.get("reboot"):
            continue
        if cmd != adapter.TESTS:
            yield "mlx5", export + measured(f"mlx5:{name}", cmd), opts
        else:
            yield "mlx5", export + "".join(
                measured(f"mlx5:{name}.{test}", cmd.replace("/results ", f"/{test} '{test}.*'"))
                for test in files), opts


# Each yields (stage, script, options of the VM): a boot that measures some units.
BOOTS = {"kunit": kunit_boots, "selftest": selftest_boots, "interop": interop_boots,
         "mlx5": mlx5_boots}


def lines_of(folder, objects):
    """{file: {line: whether it was executed}} from the counters in FOLDER."""
    found = {}
    for path, _, names in os.walk(folder):
        for name in (name for name in names if name.endswith(".gcda")):
            where = path[path.index(objects):] if objects in path else None
            if not where:
                continue
            done = subprocess.run(["gcov", "--json-format", "--stdout", "-o", path,
                                   os.path.join(path, name)], capture_output=True, text=True,
                                  cwd=link(where, path, name))
            for record in done.stdout.splitlines():
                for file in json.loads(record)["files"]:
                    seen = found.setdefault(os.path.normpath(file["file"]).removeprefix("../"), {})
                    for line in file["lines"]:
                        number = line["line_number"]
                        seen[number] = seen.get(number, False) or line["count"] > 0
    return found


def link(where, path, name):
    """gcov wants the notes of the compiler beside the counters."""
    notes = name[:-5] + ".gcno"
    target = os.path.join(path, notes)
    if not os.path.exists(target):
        os.symlink(os.path.join(where, notes), target)
    return path


def boot(name, script, opts):
    """{unit: folder of its counters} of one machine."""
    result = vm.run("gcov", script, name=f"gcov-{name}", quiet=True, timeout=1800,
                    kmemleak=False, **{**opts, "allow": "."})
    folder = os.path.join(result.share, "gcov")
    units = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    failed = read(os.path.join(result.share, "failed"), "").split()
    note(f"{name}: {len(units)} units, {result.seconds:.0f} s, status {result.status}",
         *(f"  failed, so not in the map: {unit}" for unit in failed))
    return {unit: os.path.join(folder, unit) for unit in units if unit not in failed}


def kept(stages):
    """unit -> file -> {line: executed} of the other stages."""
    if not os.path.exists(KNOWN):
        fail(f"nothing is known of the other stages ({os.path.relpath(KNOWN, ROOT)}): measure all")
    return {unit: {file: {int(line): hit for line, hit in lines.items()}
                   for file, lines in files.items()}
            for unit, files in json.loads(read(KNOWN)).items()
            if unit.partition(":")[0] not in stages}


def measure(stages):
    if not set(stages) <= set(BOOTS):
        fail(f"stages: {' '.join(BOOTS)}")
    table = kept(stages) if stages else {}
    vm.need(*vm.RDMA_PACKAGES, *selftest.PACKAGES)
    objects = modules.kernel_folder("gcov")
    mine = {entry.path for entry in owned.load() if "/tests/" not in entry.path}
    for found in vm.together(boot, (one for stage in stages or BOOTS for one in BOOTS[stage]())):
        for unit, folder in found.items():
            lines = lines_of(folder, objects).items()
            table[unit] = {file: seen for file, seen in lines if file in mine}
    os.makedirs(os.path.dirname(KNOWN), exist_ok=True)
    with open(KNOWN, "w") as file:
        json.dump(table, file)
    write_map(table)


def write_map(table):
    paths = sorted({path for files in table.values() for path in files})
    with open(MAP, "w") as file:
        file.write("# Written by dev/gate/coverage.py measure; make check FOR=path reads it.\n")
        for path in paths:
            units = {unit: files[path] for unit, files in table.items() if path in files}
            file.writelines(f"{line}\n" for line in ranked(path, units))


def ranked(path, units):
    """A file's part of the map: greedy, the test that adds most comes first."""
    there = set().union(*units.values())
    open_lines = {unit: {line for line, hit in lines.items() if hit} for unit, lines in units.items()}
    covered, rows = set(), []
    while open_lines:
        unit = max(sorted(open_lines), key=lambda one: len(open_lines[one] - covered))
        new = open_lines.pop(unit) - covered
        if not new:
            break
        covered |= new
        rows.append(f"  {len(new):4} {unit}")
    return [f"{path} {len(there)} lines, {len(covered)} executed", *rows]


def known():
    """{path: [(unit, lines it adds)]}"""
    table, path = {}, None
    if not os.path.exists(MAP):
        fail(f"there is no {os.path.relpath(MAP, ROOT)} yet: dev/gate/coverage.py measure")
    for line in read(MAP).splitlines():
        if line.startswith("#"):
            continue
        if line.startswith(" "):
            added, unit = line.split()
            table[path].append((unit, int(added)))
        else:
            path = line.split()[0]
            table[path] = []
    return table


def units_for(path):
    table = known()
    path = os.path.relpath(os.path.abspath(path), ROOT)
    if path.startswith("qemu/"):
        return ["mlx5:plain", "mlx5:memory"]
    if path.startswith("dev/mlx5/tests/test_"):
        return [f"mlx5:plain.{os.path.basename(path)[:-3]}"]
    if path not in table:
        fail(f"no test of {path} is known: {os.path.relpath(MAP, ROOT)} has {', '.join(table)}",
             "make check runs everything")
    rows = table[path]
    return [unit for unit, added in rows if added >= WORTH] or [unit for unit, _ in rows]


def run(paths):
    units = list(dict.fromkeys(unit for path in paths for unit in units_for(path)))
    note(*(f"  {unit}" for unit in units))
    chosen = {}
    for unit in units:
        stage, _, name = unit.partition(":")
        chosen.setdefault(stage, []).append(name)
    total = ktap.Tally()
    if "kunit" in chosen:
        suites = chosen["kunit"]
        total.merge(kunit.run("debug", suites[0] if len(suites) == 1 else None)[0], "kunit: ")
    if "selftest" in chosen:
        total.merge(selftest.run("check", " ".join(chosen["selftest"])), "selftest: ")
    for name in chosen.get("interop", ()):
        total.merge(clients.run("check", "rxe", INTEROP[name])[0], "interop: ")
    if "mlx5" in chosen:
        globs = (name if "." not in name else f"{name}.*" for name in chosen["mlx5"])
        total.merge(adapter.run("check", " ".join(globs)), "mlx5: ")
    total.show(sys.stderr)
    total.end()


def main():
    if sys.argv[1:2] == ["measure"]:
        measure(sys.argv[2:])
    elif sys.argv[1:2] == ["run"] and sys.argv[2:]:
        run(sys.argv[2:])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
