# SPDX-License-Identifier: GPL-2.0
"""Modules of our own for a kernel that we built, which may reach what it does not export."""
import os
import subprocess

from lib.common import fail, note
from machine import vm


def kernel_folder(config):
    """Where that kernel is built: builds it."""
    return vm.tool("kernels/build", "-i", config).removesuffix("/arch/x86/boot/bzImage")


def addresses(obj, names):
    """{name: address} of those of NAMES that the kernel in OBJ has."""
    with open(os.path.join(obj, "System.map")) as file:
        return {name: address for address, _, name in map(str.split, file) if name in names}


def symbols(found):
    """Assembler that gives names their fixed addresses. Without KASLR they are true."""
    lines = "".join(f"\t.globl {name}\n\t.set {name}, 0x{address}\n"
                    for name, address in found.items())
    return "/* SPDX-License-Identifier: GPL-2.0 */\n" + lines


def make(folder, obj):
    done = subprocess.run(["make", "-C", obj, f"M={folder}", "ARCH=x86_64", "CC=ccache gcc",
                           "modules"], capture_output=True, text=True)
    if done.returncode or "warning:" in done.stderr:
        note(done.stdout, done.stderr)
        fail(f"the modules of {folder} do not build against {obj}")
