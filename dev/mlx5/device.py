# SPDX-License-Identifier: GPL-2.0
"""The adapter's own numbers, read from its source: there they stand once."""
import os
import re

HERE = os.path.dirname(os.path.realpath(__file__))
SOURCE = os.path.join(HERE, "../../qemu/hw/rdma/mlx5")


def constants(file, prefix):
    """{name: value} of the enumerators in FILE whose names begin with PREFIX."""
    with open(os.path.join(SOURCE, file)) as text:
        found = re.findall(rf"^ +{prefix}(\w+) = (\w+)(?: << (\d+))?,", text.read(), re.M)
    if not found:
        raise LookupError(f"{file} has no {prefix}*")
    return {name.lower().replace("_", "-"): int(value, 0) << int(shift or 0)
            for name, value, shift in found}
