#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Faults that stop between the child of an implicit region and its first page, for
# longer than a child without pages stays: it must not go.
. "$(dirname "$0")/../lib.sh"

# Ours, or stock's.
insmod "$STALL" symbol=ib_umem_odp_fault 2>/dev/null ||
	insmod "$STALL" symbol=ib_umem_odp_map_dma_and_lock || die "there is no such function"
python3 "$HERE/guest_tests.py" /tmp/results '*Children*slow_fault*' || die "$(cat /tmp/results)"
[ "$(cat /sys/module/stall/parameters/stalled)" -ge 4 ] || die "nothing was stopped"
