#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What only the kernel asks of the driver, and what the adapter answers unkindly. The
# adapter is back after each.
. "$(dirname "$0")/../lib.sh"

recoveries() { dmesg | grep -c 'health recovery succeeded'; }

# back <recoveries>: the health work has reset the adapter once more, and it works.
back() { [ "$(recoveries)" -gt "$1" ] && active 1; }

provoke() {
	local before
	before=$(recoveries)
	insmod "$PROVOKE" what="$1" || die "$1: $2"
	rmmod provoke
	await 60 back "$before" || die "$1: the adapter is not back"
	traffic '*Explicit*fetched_anew' || die "$1: no traffic after it"
}

traffic '*Explicit*fetched_anew' || die "no traffic before"
provoke integrity "the region did not end"
provoke subfunction "its parent was taken off the bus"
