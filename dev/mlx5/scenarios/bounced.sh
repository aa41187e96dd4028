#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A kernel that bounces all DMA (swiotlb=force, as confidential VMs do).  What the device
# writes reaches the process only when the page is unmapped, so an on-demand region would
# lose data.  Its registration is refused; that of pinned memory is not ours to judge.
. "$(dirname "$0")/../lib.sh"

grep -q swiotlb=force /proc/cmdline || die "DMA is not bounced"
await 60 active 1 || die "the adapter is not there"
PYTHONPATH=$HERE:$HERE/tests python3 - <<EOF || die "see above"
import errno
from pyverbs.device import Context
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.pyverbs_error import PyverbsRDMAError
from rdma import ALL, ODP, Buffer

buffer, pd = Buffer(4096), PD(Context(name="mlx5_0"))
MR(pd, buffer.length, ALL, address=buffer.address).close()
for what in ({"address": buffer.address}, {"implicit": True}):
    try:
        MR(pd, buffer.length, ODP, **what)
        raise SystemExit(f"an on-demand region was registered: {what}")
    except PyverbsRDMAError as error:
        assert error.error_code == errno.EOPNOTSUPP, error
print("both refused: EOPNOTSUPP")
EOF
