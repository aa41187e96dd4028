#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: [MINUTES=10] [SEED=n] dev/gate/soak.py [CONFIG]       (make soak MINUTES=60)

Run rdma/odp_soak on rxe and on the adapter at once, in one machine with two nodes and
swap, on CONFIG (debug): random transfers between areas of paged memory while their owner
and the kernel change that memory.  Every byte has a shadow copy.  The table at the end has
the counts.  A failure prints its seed; SEED=n starts with the same choices.
"""
import os
import secrets
import shlex
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from gate import selftest
from lib.common import fail, note, read
from machine import ktap, vm

MACHINE = {"dev": "rxe,mlx5", "mem": "2G", "swap": "1G", "fakenuma": 2}


def run(config, minutes, seed=None, quiet=True):
    """The result of `minutes` on `config`, named after both."""
    tally = ktap.Tally()
    out, errors = selftest.build("work", {"rdma/odp_soak"})
    if errors:
        fail(f"rdma/odp_soak does not build: {errors['rdma/odp_soak']}")
    seed = seed or secrets.randbelow(1 << 32)
    command = f"stdbuf -oL {shlex.quote(out)}/rdma/odp_soak -t {minutes * 60} -s {seed}"
    result = vm.run(config, f"{command} </dev/null | tee $SHARE/soak.out", name="soak",
                    quiet=quiet, timeout=minutes * 60 + 300, **MACHINE)
    text = read(os.path.join(result.share, "soak.out"), "")
    if result.reason or result.status:
        vm.report(result)
        tally.add("boot", "fail", result.reason or f"status {result.status}")
    if quiet:
        note(*(line for line in text.splitlines() if line.startswith("#")))
    tally.merge(ktap.parse(text.splitlines()), f"{config}.{minutes}_minutes.seed_{seed}.")
    return tally


def main():
    vm.need(*vm.PACKAGES, *selftest.PACKAGES)
    config = sys.argv[1] if len(sys.argv) > 1 else "debug"
    tally = run(config, int(os.environ.get("MINUTES") or 10), os.environ.get("SEED"), quiet=False)
    tally.show(sys.stderr)
    tally.end()


if __name__ == "__main__":
    main()
