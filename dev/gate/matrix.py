#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: [T=glob] dev/gate/matrix.py [list]        (make matrix T='arm64*')

Build and boot the KUnit suites in each configuration of dev/gate/matrix.list that T
names, default all.  The kernel's own tools/testing/kunit/kunit.py configures, builds and
boots; the kernel's log is judged as everywhere else, so a WARNING fails a boot in which
all tests pass.  "list" prints the rows.  A build from nothing takes six to
eight minutes.
"""
import fnmatch
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from gate.kunit import kunit_lines
from lib.common import ROOT, fail, note, read
from machine import ktap, splat, vm

LIST = os.path.join(ROOT, "dev/gate/matrix.list")
EXPECTED = os.path.join(ROOT, "dev/gate/expected/kunit")
COMMON = os.path.join(ROOT, "dev/gate/matrix.kunitconfig")
TIMEOUT = 900       # seconds for a boot
# ccache's folder and settings are common.sh's.
COMMON_SH = os.path.join(ROOT, "dev/lib/common.sh")
WITH_CACHE = '. "$0"; exec "$@"'

# kunit.py's name of it: (prefix of the compiler, Debian packages)
ARCHS = {
    "x86_64": ("", ("qemu-system-x86",)),
    "i386": ("", ("qemu-system-x86",)),
    "arm64": ("aarch64-linux-gnu-", ("gcc-aarch64-linux-gnu", "qemu-system-arm")),
    "s390": ("s390x-linux-gnu-", ("gcc-s390x-linux-gnu", "qemu-system-misc")),
    "powerpc": ("powerpc64-linux-gnu-", ("gcc-powerpc64-linux-gnu", "qemu-system-ppc")),
    "riscv": ("riscv64-linux-gnu-", ("gcc-riscv64-linux-gnu", "qemu-system-misc",
                                     "opensbi")),
}


@dataclass
class Row:
    name: str
    arch: str
    kconfig: list = field(default_factory=list)     # SYMBOL=value
    qemu: list = field(default_factory=list)
    kernel: list = field(default_factory=list)
    without: list = field(default_factory=list)     # tests that cannot be in it
    allowed: list = field(default_factory=list)     # reports of the base's own

    def has(self, symbol):
        return f"{symbol}=n" not in self.kconfig


def rows(path=LIST):
    found = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            words = line.split("#")[0].split()
            if not words:
                continue
            row = Row(*words[:2])
            for word in words[2:]:
                if word.startswith("~"):
                    row.allowed.append(word[1:])
                elif word.startswith("!"):
                    row.without.append(word[1:])
                elif word.startswith("@"):
                    row.kernel.append(word[1:])
                elif word.startswith("-"):
                    row.qemu.append(" ".join(word.split("=", 1)))
                else:
                    row.kconfig.append(f"CONFIG_{word}")
            if row.arch not in ARCHS:
                fail(f"{path}: no architecture {row.arch} (there are: {' '.join(ARCHS)})")
            found.append(row)
    return found


def command(row, build_dir):
    """kunit.py's; it asks for two CPUs where the kernel has more than one."""
    prefix = ARCHS[row.arch][0]
    qemu = row.qemu + (["-smp 2"] if row.has("CONFIG_SMP") else [])
    args = ["tools/testing/kunit/kunit.py", "run", f"--arch={row.arch}",
            f"--build_dir={build_dir}", f"--kunitconfig={COMMON}", f"--timeout={TIMEOUT}", "--raw_output=all",
            f"--make_options=CC=ccache {prefix}gcc"]
    if prefix:
        args.append(f"--cross_compile={prefix}")
    args += [f"--kconfig_add={word}" for word in row.kconfig]
    args += [f"--qemu_args={word}" for word in qemu]
    args += [f"--kernel_args={word}" for word in row.kernel]
    return args


def judge(row, log, output, tally):
    """What the boot has printed, as results that begin with the row's name."""
    if not os.path.exists(log):
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        why = next((line for line in lines if line.startswith("Missing:") or ": error:" in line),
                   lines[-1] if lines else "no output")
        tally.add(row.name, "fail", f"not booted: {why}")
        return
    found = ktap.parse(kunit_lines(log))
    for name in read(EXPECTED).splitlines():
        if name not in found.names and not any(fnmatch.fnmatch(name, glob) for glob in row.without):
            found.add(name, "fail", "was not run")
    tally.merge(found, f"{row.name}.")
    with open(log, errors="replace") as file:
        reports = splat.find(file, "|".join(row.allowed) or None)
    for report in reports:
        tally.add(f"{row.name}.log", "fail", splat.headline(report))


def run(row, tree, tally):
    start = time.monotonic()
    build_dir = f"build-matrix-{row.name}"
    log = os.path.join(tree, build_dir, "test.log")
    os.makedirs(os.path.dirname(log), exist_ok=True)
    if os.path.exists(log):
        os.unlink(log)
    vm.need("ccache", "flex", "bison", "bc", "build-essential", *ARCHS[row.arch][1])
    own = ktap.Tally()
    with open(os.path.join(tree, build_dir, "kunit.log"), "w+", errors="replace") as out:
        subprocess.run(["bash", "-c", WITH_CACHE, COMMON_SH, *command(row, build_dir)],
                       cwd=tree, stdout=out, stderr=subprocess.STDOUT, check=False,
                       stdin=subprocess.DEVNULL, env=os.environ | {"CCACHE_BASEDIR": tree})
        out.seek(0)
        judge(row, log, out.read(), own)
    note(f"  {row.name:12} {row.arch:8} {own.line():40} {time.monotonic() - start:5.0f} s"
         f"   {' '.join(row.kconfig + row.qemu + row.kernel).replace('CONFIG_', '')}")
    tally.merge(own)


def run_all(glob=None, archs=tuple(ARCHS)):
    chosen = [row for row in rows()
              if fnmatch.fnmatch(row.name, glob or "*") and row.arch in archs]
    if not chosen:
        fail(f"no configuration {glob} (see dev/gate/matrix.py list)")
    tree = subprocess.run([os.path.join(ROOT, "dev/trees/tree"), "work"], check=True,
                          stdout=subprocess.PIPE, text=True).stdout.strip()
    tally = ktap.Tally()
    for row in chosen:
        run(row, tree, tally)
    return tally


def main():
    if sys.argv[1:] == ["list"]:
        for row in rows():
            print(row.name, row.arch, *row.kconfig, *row.qemu, *row.kernel)
        return
    tally = run_all(os.environ.get("T"))
    tally.show(sys.stderr)
    tally.end()


if __name__ == "__main__":
    main()
