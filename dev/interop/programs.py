# SPDX-License-Identifier: GPL-2.0
"""Builds on this machine what the matrix of middleware runs in the guest, and says how."""
import functools
import os
import subprocess
import threading

from lib.common import fail, note, ROOT
from machine import program, vm

HERE = os.path.dirname(os.path.realpath(__file__))
OUT = os.path.join(ROOT, "out", "interop")
# Beside vm.RDMA_PACKAGES.
PACKAGES = ("libfabric-bin", "libopenmpi-dev", "netpipe-openmpi", "openmpi-bin",
            "qperf", "rdmacm-utils")
# The guest's swap, for middleware_evict.py.
SWAP = "512M"
COMPILERS = {"mpi_verify": "mpicc", "shmem_verify": "oshcc"}
LOCK = threading.Lock()


@functools.lru_cache(maxsize=None)
def build_once():
    vm.need(*PACKAGES)
    program.preload(OUT)
    for name, compiler in COMPILERS.items():
        done = subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-Werror",
                               "-o", f"{OUT}/{name}", f"{HERE}/mpi/{name}.c"], check=False)
        if done.returncode:
            fail(f"dev/interop/mpi/{name}.c does not compile")
    return OUT


def command(first, second, glob, everything):
    """What the guest runs. The boots of one process are made by several threads."""
    with LOCK:
        folder = build_once()
    return (f"python3 {HERE}/middleware.py {first} $SHARE/middleware {folder} '{glob}' "
            f"{second or first} {'all' if everything else 'short'} || exit 1\n")


def show_table(share):
    path = os.path.join(share, "middleware.table")
    if os.path.exists(path):
        with open(path) as file:
            lines = file.read().splitlines()
        if lines[1:]:
            note("", *lines, "")
