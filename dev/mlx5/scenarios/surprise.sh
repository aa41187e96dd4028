#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Surprise removal beside traffic: reads are all ones, nothing is answered any
# more.  The driver must notice and let the programs go.  Who waits at another
# adapter for a page fault of this one must hear that nobody is there.
. "$(dirname "$0")/../lib.sh"

mapfile -t address < <(functions)
gone=$(basename "/sys/bus/pci/devices/${address[0]}/infiniband/"*)
there=$(basename "/sys/bus/pci/devices/${address[1]}/infiniband/"*)
traffic || die "no traffic before"
background "$gone"
python3 "$HERE/faulting.py" "$there" "$gone" >/tmp/faulting & waiting=$!
await 20 grep -q waiting /tmp/faulting || die "no page fault"
ctl "${address[0]}" remove || die "no removal"
wait $waiting || die "regress_gone: the requester: $(cat /tmp/faulting)"
noticed "${address[0]}"
kill $job
pkill ibv_rc_pingpong
echo 1 >"/sys/bus/pci/devices/${address[0]}/remove" || die "the driver did not let go"
[ ! -e "/sys/class/infiniband/$gone" ] || die "the RDMA device is left"
echo "removed"
