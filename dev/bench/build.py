# SPDX-License-Identifier: GPL-2.0
"""The benchmark's module, built for the kernels of both sides, and how a guest uses it."""
import os
import shutil
import subprocess

from bench.report import OUT, SIDES
from lib.common import fail, note
from machine import vm

HERE = os.path.dirname(os.path.realpath(__file__))
# What the module calls and the kernels do not export.
SYMBOLS = ("mm_alloc", "__mmu_notifier_invalidate_range_start",
           "__mmu_notifier_invalidate_range_end", "__mmu_notifier_clear_young")


def run_make(folder, obj):
    done = subprocess.run(["make", "-C", obj, f"M={folder}", "ARCH=x86_64", "CC=ccache gcc",
                           "modules"], capture_output=True, text=True)
    if done.returncode or "warning:" in done.stderr:
        note(done.stdout, done.stderr)
        fail(f"the module does not build against {obj}")


def kernel_folder(config):
    """Where that kernel is built: builds it."""
    return vm.tool("kernels/build", "-i", config).removesuffix("/arch/x86/boot/bzImage")


def build_module(config):
    """The module for that kernel, with the addresses of what it must reach."""
    obj = kernel_folder(config)
    folder = os.path.join(OUT, f"module-{config}")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(os.path.join(HERE, "module"), folder)
    with open(os.path.join(obj, "System.map")) as file:
        addresses = {name: address for address, _, name in map(str.split, file)
                     if name in SYMBOLS}
    # Beside the module, and of the same kernel: a later build would change it.
    shutil.copy(os.path.join(obj, "System.map"), folder)
    with open(os.path.join(folder, "symbols.S"), "w") as file:
        file.write("/* SPDX-License-Identifier: GPL-2.0 */\n")
        for name in SYMBOLS:
            if name not in addresses:
                fail(f"{config}: no {name} in System.map")
            file.write(f"\t.globl {name}\n\t.set {name}, 0x{addresses[name]}\n")
    run_make(folder, obj)
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
