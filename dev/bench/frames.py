#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Stack frames of the functions that announce invalidations: stock's and ours.

    dev/bench/frames.py

Builds both bench kernels and has the tree's scripts/checkstack.pl read them. A site is
a line of dev/gate/checks/callsites.list; "-" is one that the compiler inlined, or that
the configuration leaves out. Where ours is in a function of its own (was=), that
function's frame comes on top of its caller's.
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


def frames(config):
    obj = modules.kernel_folder(config)
    source = os.path.dirname(obj)
    disassembly = subprocess.Popen(["objdump", "-d", os.path.join(obj, "vmlinux")],
                                   stdout=subprocess.PIPE)
    out = subprocess.run(["perl", os.path.join(source, "scripts/checkstack.pl"), "x86_64", "1"],
                         stdin=disassembly.stdout, capture_output=True, text=True, check=True).stdout
    found = {}
    for name, size in re.findall(r"0x\w+ (\S+) \[.*?\]:\s+(\d+)", out):
        name = re.sub(r"\.(isra|constprop|part|cold)\b.*", "", name)
        found[name] = max(found.get(name, 0), int(size))
    return found


def main():
    stock, ours = frames("stock-bench"), frames("bench")
    print(f"{'function':56} {'stock':>6} {'ours':>6}")
    for site in sites.load():
        name, was = site.function, site.was
        moved = f" (was in {was})" if was != name else ""
        print(f"{name + moved:56} {stock.get(was, '-'):>6} {ours.get(name, '-'):>6}"
              + (f"  and {was} {ours.get(was, '-')}" if moved else ""))
    for name in CORE:
        print(f"{name:56} {stock.get(name, '-'):>6} {ours.get(name, '-'):>6}")


main()
