#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Surprise removal beside traffic: reads are all ones, nothing is answered any
# more.  The driver must notice, let the programs go, and take the adapter back
# once it is there again.
. "$(dirname "$0")/../lib.sh"

address=$(functions)
traffic || die "no traffic before"
background mlx5_0 & job=$!
sleep 1
ctl remove || die "no removal"
sleep 5
kill $job
pkill ibv_rc_pingpong
echo 1 >"/sys/bus/pci/devices/$address/remove" || die "the driver did not let go"
none_left || die "the RDMA device is left"
echo "removed"
