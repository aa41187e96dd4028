#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: [T=globs] [TIER=check|long|kcsan|all] dev/gate/selftest.py [stock|oracle]

Build the kselftests that dev/gate/selftests.list names, and our own, and run them
in VMs: one boot for all that can share a machine.  Each has its own time
limit; a program without a plan fails unless the list says that its exit status
is the result.  "stock" does the same with stock's kernel and programs: the
proof that a line of dev/gate/selftests.expect needs.  "oracle" runs our tests of the
notifiers on stock's core, with our devices as modules (make oracle): what fails there
and is not in dev/gate/oracle.expect is a mistake of the test, or of stock.
"""
import fnmatch
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from kernels import oracles
from lib.common import fail, note, ROOT
from machine import ktap, vm
from trees import owned

HERE = "tools/testing/selftests"
# What the tests are built with.
PACKAGES = ("libnuma-dev", "libcap-dev", "liburing-dev", "libfuse3-dev", "pkg-config",
            "libibverbs-dev", "librdmacm-dev", "rsync")
LIST = ("name", "config", "program", "timeout", "needs", "tier")
# What runs on any core that has the API, and what it leaves out on stock: there mprotect()
# at address 0 starts a range that never ends, and removal then waits for ever. ORACLE has
# lockdep, KASAN and kmemleak.
ORACLES = {"mm/mmu_notifier_callsites": " -T regress_mprotect_of_address_zero_ends_its_range",
           "mm/mmu_notifier_recorder": "", "mm/mmu_notifier_torture": "",
           "mm/mm_all_locks": ""}
ORACLE = "stock-debug"
EXPECT = {"": "selftests.expect", "oracle": "oracle.expect"}


def rows(path):
    with open(os.path.join(ROOT, "dev/gate", path)) as file:
        for line in file:
            line = line.strip()
            if line and not line.startswith("#"):
                yield [word.strip() for word in line.split("|")]


def ours(listed):
    """Owned programs that have no line: defaults, on the debug kernel."""
    for entry in owned.load():
        folder, name = os.path.split(os.path.relpath(entry.path, HERE))
        if folder not in ("mm", "rdma") or not name.endswith(".c"):
            continue
        program = f"{folder}/{name[:-2]}"
        with open(os.path.join(ROOT, entry.path)) as file:
            text = file.read()
        if program not in listed and ("TEST_HARNESS_MAIN" in text or "int main(" in text):
            yield dict(zip(LIST, (f"{folder}.{name[:-2]}", "debug", program, "300",
                                  "mem=2G,dev=rxe" if folder == "rdma" else "mem=2G", "check")))


def tests(tier, glob, side):
    table = [dict(zip(LIST, row)) for row in rows("selftests.list")]
    listed = {test["program"].split()[0] for test in table}
    if side != "stock":
        table += list(ours(listed))
    if side == "oracle":
        table = [{**test, "config": "debug",
                  "program": test["program"] + ORACLES[test["program"].split()[0]]}
                 for test in table if test["program"].split()[0] in ORACLES]
    return [test for test in table if tier in ("all", test["tier"])
            and (not glob or any(fnmatch.fnmatch(test["name"], one) for one in glob.split()))]


def build(which, programs):
    """Make PROGRAMS of tree WHICH; {program: error} for those that do not build."""
    tree = vm.tool("trees/tree", which)
    out = os.path.join(ROOT, "out", "selftest", which)
    env = {**os.environ, "MAKEFLAGS": ""}
    subprocess.run(["make", "-s", "-C", tree, "O=build-headers", "ARCH=x86_64", "headers"],
                   check=True, stdout=sys.stderr, env=env)
    errors = {}
    for program in sorted(programs):
        folder, name = program.split("/")
        os.makedirs(os.path.join(out, folder), exist_ok=True)
        source = os.path.join(tree, HERE, folder)
        target = os.path.join(out, folder, name)
        if os.path.exists(os.path.join(source, "Makefile")):
            cmd = ["make", "-s", "-C", source, f"OUTPUT={out}/{folder}", "ARCH=x86_64",
                   f"top_srcdir={tree}", f"KHDR_INCLUDES=-isystem {tree}/build-headers/usr/include",
                   # 6.12.117's khugepaged.c uses it and forgot the include.
                   "EXTRA_CFLAGS=-DKSFT_SKIP=4", target]
        else:
            cmd = ["gcc", "-O2", "-Wall", "-D_GNU_SOURCE", "-isystem",
                   f"{tree}/build-headers/usr/include", "-I", f"{tree}/{HERE}",
                   f"{source}/{name}.c", "-o", target, "-libverbs", "-lpthread"]
        done = subprocess.run(cmd, env=env, capture_output=True, text=True)
        if done.returncode:
            errors[program] = (done.stderr or done.stdout).strip()
        elif done.stderr.strip():
            note(f"{program}:", done.stderr.rstrip())
    return out, errors


def script(batch, out, modules):
    """Run by bash in the guest: each test's output and status into the share."""
    lines = ["mount -o remount,size=75% /dev/shm"]
    lines += [f"insmod {module} || exit 1" for module in modules]
    for test in batch:
        # A folder of its own to write to; line by line, as forked children of
        # a test would otherwise print the parent's buffer a second time; and some
        # run their own program again by a relative name.
        folder = test["program"].split("/")[0]
        program = test["program"].partition("/")[2]
        lines += [f"mkdir /tmp/{test['name']} && cd /tmp/{test['name']} && ln -s {out}/{folder}/* .",
                  f"echo '# {test['name']}'",
                  f"timeout -k 5 {test['timeout']} stdbuf -oL ./{program} "
                  f">/mnt/share/{test['name']}.out 2>&1 </dev/null",
                  f"echo $? >/mnt/share/{test['name']}.status"]
    return "\n".join(lines + ["exit 0"])


def judge(test, share, tally):
    def slurp(kind):
        path = os.path.join(share, f"{test['name']}.{kind}")
        if not os.path.exists(path):
            return None
        with open(path, errors="replace") as file:
            return file.read()
    output, status = slurp("out"), slurp("status")
    name = test["name"]
    if status is None or not status.strip():
        tally.add(name, "fail", "never ended" if output is not None else "never ran")
        return
    status = int(status)
    last = (output.strip().splitlines() or [""])[-1]
    if status == 124:
        tally.add(name, "fail", f"timeout after {test['timeout']} s; last line: {last}")
    elif "exit" in test["needs"].split(","):
        verdict = {0: "pass", 4: "skip"}.get(status, "fail")
        tally.add(name, verdict, f"exit status {status}: {last}" if status else "")
    else:
        one = ktap.parse(output.splitlines())
        if status not in (0, 4) and not one.failed:
            one.add("exit", "fail", f"exit status {status}: {last}")
        tally.merge(one, f"{name}: ")


def excuse(tally, side):
    """Turn failures that stock has too into skips that say so."""
    if side not in EXPECT:
        return tally
    known = {row[0]: row[1] for row in rows(EXPECT[side])}
    out = ktap.Tally()
    for name, verdict in tally.names.items():
        why = dict(tally.failed + tally.skipped).get(name, "")
        if verdict == "fail" and name in known:
            verdict, why = "skip", f"stock fails here too: {known[name]}"
        elif verdict == "pass" and name in known:
            note(f"passes now, take it out of dev/gate/{EXPECT[side]}: {name}")
        out.add(name, verdict, why)
    return out


def size(text):
    """Of memory or swap, in MiB; 0 is none."""
    return int(text[:-1]) * {"M": 1, "G": 1024}[text[-1]] if text else 0


def joint(one, other):
    """The options of a machine for both, or None: more memory, swap or huge pages than
    a test needs do it no harm; other nodes, devices or excuses may."""
    dev = {one.get("dev"), other.get("dev")} - {None}
    same = ("fakenuma", "smp", "allow", "mlx5")
    if len(dev) > 1 or any(one.get(name) != other.get(name) for name in same):
        return None
    # A machine that is small on purpose.
    if one.get("alone") or other.get("alone"):
        return None
    both = {**one, **other}
    for name, value in (("mem", size), ("swap", size), ("hugepages", lambda text: int(text or 0))):
        if name in both:
            both[name] = max(one.get(name, ""), other.get(name, ""), key=value)
    return both


def machines(todo):
    """[kernel, options, tests], as few as there can be."""
    found = []
    for test in todo:
        # dev=rxe+mlx5 is both devices: a comma ends the word.
        opts = dict(word.replace("+", ",").split("=", 1)
                    for word in test["needs"].split(",") if "=" in word)
        for machine in found:
            both = machine[0] == test["config"] and joint(machine[1], opts)
            if both:
                machine[1] = both
                machine[2].append(test)
                break
        else:
            found.append([test["config"], opts, [test]])
    return found


def boot(config, opts, batch, out, quiet, modules):
    """One machine, and what its tests said."""
    tally = ktap.Tally()
    needs = ",".join(f"{name}={value}" for name, value in opts.items())
    result = vm.run(config, script(batch, out, modules), name="selftest", quiet=quiet,
                    timeout=120 + sum(int(test["timeout"]) for test in batch),
                    seconds=(20 if config == "debug" else 10) * len(batch), **opts)
    if result.reason or result.status:
        vm.report(result)
        tally.add(f"boot {config} ({needs})", "fail", result.reason or f"status {result.status}")
    for test in batch:
        judge(test, result.share, tally)
    note(f"  {config} ({needs}), {result.seconds:.0f} s: "
         f"{' '.join(test['name'] for test in batch)}; output: {result.share}")
    return tally


def run(tier, glob, side="", quiet=True):
    todo = tests(tier, glob, side)
    if not todo:
        fail(f"no selftest matches '{glob or tier}'")
    tally = ktap.Tally()
    out, errors = build("stock" if side == "stock" else "work", {t["program"].split()[0] for t in todo})
    for test in todo:
        if test["program"].split()[0] in errors:
            tally.add(test["name"], "fail", "does not build: " + errors[test["program"].split()[0]])
    modules = oracles.build(ORACLE) if side == "oracle" else []
    def machine(config, opts, batch):
        return boot({"demo": "stock"}.get(config, f"stock-{config}") if side else config,
                    opts, batch, out, quiet, modules)
    good = machines(test for test in todo if test["program"].split()[0] not in errors)
    for one in vm.together(machine, good):
        tally.merge(one)
    return excuse(tally, side)


def main():
    vm.need(*vm.PACKAGES, *PACKAGES)
    glob = os.environ.get("T")
    side = "".join(sys.argv[1:])
    if side not in ("", "stock", "oracle"):
        fail(f"{side}: there are stock and oracle")
    tally = run(os.environ.get("TIER") or ("all" if glob else "check"), glob, side)
    tally.show(sys.stderr)
    tally.end()


if __name__ == "__main__":
    main()
