#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: faulting.py NEAR FAR    write from one device to the other, which waits for
                                  a page and never gets it: says "waiting", and ends
                                  well once the retries are over because FAR is gone
"""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "tests"))

import pyverbs.enums as e           # noqa: E402
from mlx5ctl import Adapter         # noqa: E402
from rdma import ODP, PAGE, Buffer, pair        # noqa: E402

EVER = 10 ** 12


def main():
    far_adapter = Adapter(sys.argv[2])
    near, far = pair(sys.argv[1], sys.argv[2], retry=2, timeout=14)
    source, target = Buffer(PAGE), Buffer(PAGE)
    region, key = far.region(target, ODP), near.region(source)
    faults = far_adapter["faults-rdma"]
    far_adapter["fault-delay"] = EVER
    near.post(e.IBV_WR_RDMA_WRITE, key, source.address, PAGE, target.address, region.rkey)
    while far_adapter["faults-rdma"] == faults:
        time.sleep(0.01)
    print("waiting", flush=True)
    status = near.status()
    print("status", status, flush=True)
    os._exit(0 if status == e.IBV_WC_RETRY_EXC_ERR else 1)


main()
