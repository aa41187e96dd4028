# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# For scripts that run in the guest.

# await <seconds> <command...>: until it succeeds; 1 if it does not.
await() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.1
	done
}

# What can be awaited: a server's port, or one of the RDMA connection manager; a line of the
# kernel's log.
listening() { [ -n "$(ss -Hltn "sport = :$1")" ]; }
managed() {
	rdma resource show cm_id | grep -q 'state LISTEN' ||
		rdma resource show qp | grep -q 'state RTS.* comm mckey'
}
reported() { dmesg | grep -q "$1"; }
