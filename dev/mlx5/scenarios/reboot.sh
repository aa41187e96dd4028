#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The machine restarts in the middle of traffic; the adapter's scratch register
# tells the second boot from the first, and the number of a queue pair that was in
# a multicast group: a queue pair of the same number must not be in it any more.
. "$(dirname "$0")/../lib.sh"

if [ "$(ctl scratch)" = 0 ]; then
	traffic || die "no traffic before the reboot"
	python3 "$HERE/multicast.py" mlx5_0 hold >/tmp/member &
	await 60 test -s /tmp/member || die "no member of a multicast group"
	ctl scratch "$(cat /tmp/member)"
	background mlx5_0
	# Without a word to the driver, which would detach and destroy everything.
	echo b >/proc/sysrq-trigger
	sleep 60
	die "no reboot"
fi
[ "$(ctl get resets)" -gt 0 ] || die "the adapter saw no reset"
python3 "$HERE/multicast.py" mlx5_0 probe "$(ctl scratch)" ||
	die "regress_multicast: the reset left a membership"
traffic || die "no traffic after the reboot"
