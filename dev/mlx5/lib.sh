# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# For scripts that run in the guest: the adapters, their driver, some traffic.
HERE=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
. "$HERE/../machine/guest/lib.sh"
ctl() { python3 "$HERE/mlx5ctl" "$@"; }
die() { echo "FAILED: $*" >&2; exit 1; }

# The PCI addresses of the adapters that are there.
functions() {
	local path
	for path in /sys/bus/pci/devices/*; do
		[ "$(cat "$path/vendor" "$path/device" 2>/dev/null)" = $'0x15b3\n0x1018' ] &&
			basename "$path"
	done
}

active() {
	[ "$(grep -l ACTIVE /sys/class/infiniband/mlx5_*/ports/1/state 2>/dev/null | wc -l)" -ge "$1" ]
}
none_left() { ! compgen -G '/sys/class/infiniband/mlx5_*' >/dev/null; }

unbind() { echo "$1" >/sys/bus/pci/drivers/mlx5_core/unbind; }
bind() { echo "$1" >/sys/bus/pci/drivers/mlx5_core/bind; }

# start_dmacheck <adapters>: the check has to see every mapping that their driver makes.
start_dmacheck() {
	local address
	[ ! -e /sys/module/dmacheck ] || return 0
	for address in $(functions); do unbind "$address" || die "no unbind of $address"; done
	insmod "$DMACHECK" || die "no DMA check"
	for address in $(functions); do bind "$address" || die "no bind of $address"; done
	await 60 active "$1" || die "not all of $1 adapters came back"
}

# Some of everything, to the end; ODP where the driver has it.
traffic() {
	python3 "$HERE/guest_tests.py" /tmp/traffic "${1:-*OneAdapter*}" || return 1
	grep -c ^pass /tmp/traffic
	! grep ^fail /tmp/traffic && grep -q ^pass /tmp/traffic
}

flowing() { [ "$(ctl "$1" get messages)" -gt "$2" ]; }

# The driver has found out that an adapter does not answer.
noticed() { await 60 reported "$1: poll_health" || die "the driver did not notice"; }

# Endless traffic in the background, for what happens beside it; $job is to be killed.
background() {
	local before
	before=$(ctl "$1" get messages)
	endless "$@" & job=$!
	await 60 flowing "$1" $((before + 100)) || die "no traffic in the background"
}

endless() {
	local dev=$1
	while :; do
		ibv_rc_pingpong -d "$dev" -n 100000 ${2:+"$2"} >/dev/null 2>&1 &
		await 15 listening 18515
		ibv_rc_pingpong -d "$dev" -n 100000 ${2:+"$2"} 127.0.0.1 >/dev/null 2>&1
		kill %% 2>/dev/null
		wait %% 2>/dev/null
		sleep 0.2
	done
}
