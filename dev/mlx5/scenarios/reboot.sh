#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The machine restarts in the middle of traffic; the adapter's scratch register
# tells the second boot from the first.
. "$(dirname "$0")/../lib.sh"

if [ "$(ctl scratch)" = 0 ]; then
	traffic || die "no traffic before the reboot"
	ctl scratch 1
	background mlx5_0 & sleep 1
	reboot -f
	sleep 60
	die "no reboot"
fi
[ "$(ctl get resets)" -gt 0 ] || die "the adapter saw no reset"
traffic || die "no traffic after the reboot"
