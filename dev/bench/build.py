# SPDX-License-Identifier: GPL-2.0
"""The benchmark's module, built for the kernels of both sides, and how a guest uses it."""
import os
import shutil
import subprocess

from bench.report import OUT, SIDES
from kernels import modules
from lib.common import fail
from machine import vm

HERE = os.path.dirname(os.path.realpath(__file__))
# What the module calls and the kernels do not export.
SYMBOLS = ("mm_alloc", "__mmu_notifier_invalidate_range_start",
           "__mmu_notifier_invalidate_range_end", "__mmu_notifier_clear_young")


def build_module(config):
    """The module for that kernel, with the addresses of what it must reach."""
    obj = modules.kernel_folder(config)
    folder = os.path.join(OUT, f"module-{config}")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(os.path.join(HERE, "module"), folder)
    found = modules.addresses(obj, SYMBOLS)
    missing = set(SYMBOLS) - set(found)
    if missing:
        fail(f"{config}: no {' '.join(sorted(missing))} in System.map")
    # Beside the module, and of the same kernel: a later build would change it.
    shutil.copy(os.path.join(obj, "System.map"), folder)
    with open(os.path.join(folder, "symbols.S"), "w") as file:
        file.write(modules.symbols(found))
    modules.make(folder, obj)
    return os.path.join(folder, "notifier_bench.ko")


def build_sides():
    """{side: (image, module)}."""
    images = {side: vm.image(config) for side, config in SIDES.items()}
    os.makedirs(OUT, exist_ok=True)
    return {side: (images[side], build_module(SIDES[side])) for side in SIDES}


def compile_program(name, source):
    """A static program for the guest; its path."""
    program = os.path.join(OUT, name)
    if subprocess.run(["gcc", "-static", "-O2", "-Wall", "-Werror", "-o", program,
                       os.path.join(HERE, source)]).returncode:
        fail(f"dev/bench/{source} does not compile")
    return program


def script(module, commands):
    """What the guest runs; the results of the module end up in the share."""
    lines = ["set -e", "sysctl -q vm.max_map_count=1000000", f"insmod {module}",
             "file=/sys/kernel/debug/notifier_bench", *commands, "cat $file >$SHARE/results"]
    return "\n".join(lines)
