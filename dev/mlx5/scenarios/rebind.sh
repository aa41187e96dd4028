#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The driver comes and goes: idle, and with a program in the middle of traffic.
. "$(dirname "$0")/../lib.sh"

address=$(functions)
for round in 1 2 3; do
	traffic || die "no traffic in round $round"
	# It leaves keys that wait for another region, in the driver's domain.
	traffic '*Children*come_with_the_first_fault' || die "no keys of leaves in round $round"
	unbind "$address" || die "no unbind in round $round"
	none_left || die "an RDMA device is left after unbind"
	bind "$address" || die "no bind in round $round"
	await 60 active 1 || die "the port did not come back in round $round"
done
for option in "" -o; do
	# shellcheck disable=SC2086  # no word for an empty one
	background mlx5_0 $option
	unbind "$address" || die "no unbind beside traffic"
	bind "$address" || die "no bind after traffic"
	await 60 active 1 || die "the port did not come back after traffic"
	kill $job
done
pkill ibv_rc_pingpong
traffic || die "no traffic at the end"
