#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: draining.py DEVICE    drop memory of a region that the device is writing to, while
                             it neither executes UMRs nor destroys keys

The driver has no other way than to take it off the bus.  A write that was under way then
has to arrive before the memory goes.
"""
import mmap
import os
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [os.path.join(HERE, "tests"), HERE, os.path.dirname(HERE)]

import pyverbs.enums as e               # noqa: E402

from mlx5 import hostile_cases          # noqa: E402
from mlx5ctl import Adapter             # noqa: E402
from rdma import ODP, PAGE, Buffer, pair    # noqa: E402

MS = 1000000


def main():
    adapter = Adapter(sys.argv[1])
    near, far = pair(sys.argv[1], sys.argv[1])
    source, target = Buffer(PAGE), Buffer(PAGE)
    key, region = near.region(source), far.region(target, ODP)
    if near.write(key, source.address, PAGE, target.address, region.rkey) != e.IBV_WC_SUCCESS:
        sys.exit("no write")
    # Ten seconds of writes, one of which is under way at any time and has time to arrive.
    adapter["wire-delay"] = 200 * MS
    adapter["drain"] = 250 * MS
    for _ in range(50):
        near.post(e.IBV_WR_RDMA_WRITE, key, source.address, PAGE, target.address, region.rkey)
    adapter["fail-status"] = hostile_cases.STATUSES["bad-state"]
    adapter["fail-opcode"] = hostile_cases.OPCODES["DESTROY_MKEY"]
    adapter["fail-count"] = 1000
    adapter["hostile"] = hostile_cases.EVENTS["umr"]
    before = adapter["messages"]
    target.madvise(mmap.MADV_DONTNEED)
    after = adapter["messages"]
    print(f"{after - before} writes during madvise()")
    if after - before > 40:
        sys.exit("the writes ended before the memory went")
    adapter["hostile"] = adapter["fail-count"] = adapter["wire-delay"] = 0


main()
