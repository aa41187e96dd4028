#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Orderly unplug, beside traffic: the guest is asked, lets go, and the slot is
# empty.
. "$(dirname "$0")/../lib.sh"

traffic || die "no traffic before"
background mlx5_0
ctl eject || die "no eject"
gone() { [ -z "$(functions)" ]; }
await 60 gone || die "the adapter is still there"
kill $job
pkill ibv_rc_pingpong
none_left || die "the RDMA device is left"
echo "ejected"
