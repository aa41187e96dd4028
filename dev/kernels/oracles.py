# SPDX-License-Identifier: GPL-2.0
"""The recorder and the torture of the notifiers as modules for stock, which has no such
devices: the same sources, against the other core. "dev/gate/selftest.py oracle" runs our
tests on them. What stock's core lacks is left out by one feature test in each."""
import os
import shutil

from kernels import modules
from lib.common import ROOT
from trees import owned

OUT = os.path.join(ROOT, "out", "oracles")
# What they call and stock does not export.
SYMBOLS = ("__mmu_notifier_invalidate_range_start", "__mmu_notifier_invalidate_range_end",
           "__mmu_notifier_invalidate_range_start_map", "mm_access", "find_get_task_by_vpid")
# Only of our core.
LEFT_OUT = ("mmu_notifier_torture_phased.c",)
PREFIXES = {"notifier_recorder": "mm/mmu_notifier_recorder",
            "notifier_torture": "lib/mmu_notifier_torture"}
LICENSE = """// SPDX-License-Identifier: GPL-2.0
#include <linux/module.h>

MODULE_DESCRIPTION("A test device of MMU notifiers, outside of its tree");
MODULE_LICENSE("GPL");
"""


def write(folder, name, text):
    with open(os.path.join(folder, name), "w") as file:
        file.write(text)


def lay_out(obj, folder):
    """A folder to build in: sources, what they reach, and a Makefile."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    lines, found = [], modules.addresses(obj, SYMBOLS)
    for module, prefix in PREFIXES.items():
        paths = [entry.path for entry in owned.load() if entry.path.startswith(prefix)]
        for path in paths:
            shutil.copy(os.path.join(ROOT, path), folder)
        write(folder, f"{module}_license.c", LICENSE)
        write(folder, f"{module}_symbols.S", modules.symbols(found))
        names = [os.path.basename(path)[:-2] for path in paths if path.endswith(".c")
                 and os.path.basename(path) not in LEFT_OUT]
        objects = " ".join(f"{name}.o" for name in
                           [*names, f"{module}_license", f"{module}_symbols"])
        lines += [f"obj-m += {module}.o", f"{module}-y := {objects}"]
    write(folder, "Makefile", "\n".join(lines) + "\n")


def build(config):
    """Paths of the modules for the kernel CONFIG."""
    obj = modules.kernel_folder(config)
    folder = os.path.join(OUT, config)
    lay_out(obj, folder)
    modules.make(folder, obj)
    return [os.path.join(folder, f"{module}.ko") for module in PREFIXES]
