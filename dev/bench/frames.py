#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Stack frames of the functions that announce invalidations: stock's and ours.

    dev/bench/frames.py

Builds both bench kernels and disassembles them. A frame is the registers that a function
saves and the largest amount that it allocates on the stack, in bytes. A site is a line of
dev/gate/checks/callsites.list; "inline" is one that the compiler inlined, or that the
configuration leaves out. Where a function of stock is divided in ours, the largest part
that it calls is on the stack with it, so it is added.
"""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from gate import sites
from kernels import modules

# The core's own, beneath the sites.
CORE = ("__mmu_notifier_invalidate_range_start", "__mmu_notifier_invalidate_range_end",
        "mmu_range_hit", "mmu_range_end_list")
SYMBOL = re.compile(r"[0-9a-f]{16} <([^>]+)>:$")
PUSH = re.compile(r"\tpush +%(r(?:bx|bp|1[2-5]))$")
# 128 bytes are allocated by adding -128, which is shorter.
ALLOCATE = re.compile(r"\t(?:sub +\$0x([0-9a-f]{1,8})|add +\$0x(f{8}[0-9a-f]{8})),%rsp$")
CALL = re.compile(r"\t(?:call|jmp) +[0-9a-f]+ <([^>+]+)>$")
PART = re.compile(r"\.(?:isra|constprop|part|cold)\b.*")


class Function:
    def __init__(self):
        self.saved, self.allocated, self.calls = set(), 0, set()

    def line(self, line):
        if push := PUSH.search(line):
            self.saved.add(push[1])
        elif found := ALLOCATE.search(line):
            size = int(found[1], 16) if found[1] else 2 ** 64 - int(found[2], 16)
            self.allocated = max(self.allocated, size)
        elif call := CALL.search(line):
            self.calls.add(PART.sub("", call[1]))

    def frame(self):
        return 8 * len(self.saved) + self.allocated


def functions(config):
    """{name: Function}; parts that the compiler split off count as the function."""
    found = {}
    disassembly = subprocess.Popen(["objdump", "-d", "--no-show-raw-insn",
                                    os.path.join(modules.kernel_folder(config), "vmlinux")],
                                   stdout=subprocess.PIPE, text=True)
    one = None
    for line in disassembly.stdout:
        line = line.rstrip()
        if symbol := SYMBOL.match(line):
            one = found.setdefault(PART.sub("", symbol[1]), Function())
        elif one:
            one.line(line)
    if disassembly.wait():
        sys.exit(f"{config}: objdump failed")
    return found


def row(site, stock, ours):
    """(text, stock's bytes or None, ours or None, what ours consists of)"""
    text = site.function if site.was == site.function else f"{site.function} (was in {site.was})"
    left = stock[site.was].frame() if site.was in stock else None
    name = next((one for one in (site.was, site.function) if one in ours), None)
    if not name:
        return text, left, None, ""
    parts = [one for one in ours[name].calls if one in ours and one not in stock
             and not one.startswith(("__mmu_notifier", "mmu_notifier"))]
    part = max(parts, key=lambda one: ours[one].frame(), default=None)
    own = ours[name].frame()
    if not part:
        return text, left, own, "" if name == site.function else f"  {name}"
    return text, left, own + ours[part].frame(), f"  {name} {own} + {part} {ours[part].frame()}"


def summary(rows):
    both = [(ours - stock, text) for text, stock, ours, _ in rows if None not in (stock, ours)]
    print(f"{len(rows)} sites: {sum(d > 0 for d, _ in both)} larger, "
          f"{sum(d < 0 for d, _ in both)} smaller, {sum(d == 0 for d, _ in both)} equal, "
          f"{len(rows) - len(both)} inlined or left out")
    for difference, text in sorted(both, key=lambda one: -abs(one[0]))[:8]:
        print(f"{difference:+6} {text}")


def main():
    stock, ours = functions("stock-bench"), functions("bench")
    print(f"{'function':56} {'stock':>6} {'ours':>6}")
    rows = {}
    for site in sites.load():
        one = row(site, stock, ours)
        if one[0] in rows:
            continue
        rows[one[0]] = one
        print(f"{one[0]:56} " + " ".join(f"{'inline' if size is None else size:>6}" for size in one[1:3])
              + one[3])
    for name in CORE:
        print(f"{name:56} " + " ".join(f"{side[name].frame() if name in side else '-':>6}"
                                       for side in (stock, ours)))
    summary(list(rows.values()))


main()
