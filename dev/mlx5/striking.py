#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: striking.py DEVICE GO    connect, say "ready", and write once the file GO is
                                 there; that completion raises an interrupt
"""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "tests"))

from rdma import PAGE, Buffer, pair     # noqa: E402
import pyverbs.enums as e               # noqa: E402


def main():
    near, far = pair(sys.argv[1], sys.argv[1])
    source, target = Buffer(PAGE), Buffer(PAGE)
    key, region = near.region(source), far.region(target)
    near.cq.req_notify()
    print("ready", flush=True)
    while not os.path.exists(sys.argv[2]):
        time.sleep(0.01)
    near.post(e.IBV_WR_RDMA_WRITE, key, source.address, PAGE, target.address, region.rkey)
    time.sleep(3600)


main()
