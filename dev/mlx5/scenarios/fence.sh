#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# An adapter that is taken off the bus in the middle of a message, and recovered: that
# message is of a driver that has given its memory back, and must not go on. What is
# under way when it loses the bus arrives all the same, and is waited for.
. "$(dirname "$0")/../lib.sh"

# Longer than a recovery.
LATE=40

good() { traffic '*Explicit*fetched_anew'; }
happened() { dmesg | grep -q "$1"; }
seconds() { cut -d. -f1 /proc/uptime; }

# fence <what the log says then> <command>: it leaves the driver no other way.
fence() {
	local refused said=$1
	refused=$(ctl get cmd-errors)
	shift
	"$@" || die "$*"
	await 60 happened "$said" || die "the adapter was not taken off the bus"
	ctl set fail-count 0
	echo "$address $(($(ctl get cmd-errors) - refused))" >>/tmp/provoked
}

# A program ends with a completion queue, which the adapter refuses to destroy.
leave() {
	ctl set fail-status 9
	ctl set fail-opcode 0x401
	ctl set fail-count 1000
	PYTHONPATH=$HERE/tests:$HERE python3 -c \
		'import os, rdma; end = rdma.End("mlx5_0"); os._exit(0)'
}

address=$(functions)
good || die "no traffic before"
python3 "$HERE/striking.py" mlx5_0 /tmp/go >/tmp/striking & job=$!
await 60 grep -qs ready /tmp/striking || die "no pair"
wqes=$(ctl get doorbells)
ctl set wire-delay $((LATE * 1000000000))
late=$(($(seconds) + LATE))
: >/tmp/go
posted() { [ "$(ctl get doorbells)" -gt "$wqes" ]; }
await 60 posted || die "no message"
ctl set wire-delay 0
fence 'health recovery succeeded' python3 "$HERE/draining.py" mlx5_0
await 60 active 1 || die "the port did not come back"
kill "$job"
wait "$job"
[ "$(seconds)" -lt "$late" ] || die "the recovery took longer than the message"

# Twice in half a minute is too often for devlink, and left to the administrator.
fence 'Driver is in error state. Unloading' leave
await 60 none_left || die "the driver was not unloaded"
while [ "$(seconds)" -le "$late" ]; do sleep 1; done
devlink health recover "pci/$address" reporter fw_fatal || die "no recovery by hand"
await 60 active 1 || die "the port did not come back by hand"
good || die "no traffic after it"
