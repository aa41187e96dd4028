#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# An interrupt that stores to configuration space, where root in the guest may aim
# it: a completion resets the adapter.  That took away the queue pair which was
# being worked on.  SANITIZE=1 sees it for certain.
. "$(dirname "$0")/../lib.sh"

address=$(functions)
resets=$(ctl get resets)
python3 "$HERE/striking.py" mlx5_0 /tmp/go >/tmp/ready &
await 60 grep -q ready /tmp/ready || die "no connection"

# The vector exists from the first completion queue on.  It is aimed while nothing
# goes on: an interrupt that is lost in between would stop the traffic.
vectors=$(sed -n "s/.* \([0-9]*\)-edge *mlx5_comp[0-9]*@pci:$address.*/\1/p" /proc/interrupts)
[ -n "$vectors" ] || die "no completion vector: $(grep mlx5 /proc/interrupts)"
# shellcheck disable=SC2086  # one word a vector
python3 "$HERE/vectors.py" "$address" aim $vectors || die "the vectors cannot be aimed"
touch /tmp/go
python3 "$HERE/vectors.py" "$address" wait || die "no interrupt reached the reset"
[ "$(ctl get resets)" -gt "$resets" ] || die "the adapter saw no reset"
echo "reset by vectors $vectors"

# To its driver it is gone; there is no way back in a test.  Let it notice first, or
# it waits for answers with its locks held.
ctl remove
noticed "$address"
pkill -9 -f striking.py
echo 1 >"/sys/bus/pci/devices/$address/remove" || die "the driver did not let go"
none_left || die "the RDMA device is left"
