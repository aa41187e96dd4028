#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Runs in the guest, started by dev/demo/run, which put the programs into
# $DEMO_BIN. Ends with 0 only if every step did what it says.
set -eu

title() { printf '\n--- %s\n' "$*"; }
failed() { echo "FAILED: $*"; exit 1; }

the_device() {
	title "The RDMA device: $PINLESS_DEV, on $(uname -sr)"
	rdma link
	rdma link | grep -q 'state ACTIVE' || failed "no active device"
}

what_it_pages() {
	title "On-demand paging: what ibv_devinfo -v says"
	ibv_devinfo -v | sed -n '/general_odp_caps/,/xrc_odp_caps/p' | tee /tmp/odp_caps
	grep -q ODP_SUPPORT /tmp/odp_caps || failed "the device does not page on demand"
}

# The index of the RoCE v2 entry of an IPv4 address.
gid_index() {
	local dir=/sys/class/infiniband/$1/ports/1 entry
	for entry in "$dir"/gids/*; do
		entry=${entry##*/}
		grep -q 'RoCE v2' "$dir/gid_attrs/types/$entry" 2>/dev/null || continue
		grep -q 0000:0000:0000:0000:0000:ffff: "$dir/gids/$entry" || continue
		echo "$entry"
		return
	done
	return 1
}

pingpong() {
	local dev gid=() server
	dev=$(basename "$(echo /sys/class/infiniband/* | cut -d' ' -f1)")
	if [ "$(cat /sys/class/infiniband/"$dev"/ports/1/link_layer)" = Ethernet ]; then
		gid=(-g "$(gid_index "$dev")") || failed "no RoCE v2 address"
	fi
	title "ibv_rc_pingpong -o: a client that knows nothing of us, unpinned at both ends"
	ibv_rc_pingpong -o -e -c -d "$dev" "${gid[@]}" -n 1000 >/tmp/server.out 2>&1 &
	server=$!
	until ss -Hltn 'sport = :18515' | grep -q .; do
		kill -0 $server || failed "$(cat /tmp/server.out)"
		sleep 0.1
	done
	ibv_rc_pingpong -o -e -c -d "$dev" "${gid[@]}" -n 1000 localhost || failed "client"
	wait $server || failed "server: $(cat /tmp/server.out)"
}

more_than_memory() {
	local ram_kb mib
	ram_kb=$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)
	# Twice the memory, in steps of 32 MiB.
	mib=$((ram_kb * 2 / 1024 / 32 * 32))
	title "More than memory: $mib MiB registered, written, read back and compared"
	"$PINLESS_ROOT/tools/rdma/odptop" save /mnt/share/events "$DEMO_BIN/odp_demo" "$mib"
	grep -q ODP_SUPPORT_IMPLICIT /tmp/odp_caps || return 0
	title "The same with one region for the whole address space"
	"$DEMO_BIN/odp_demo" "$mib" implicit
}

the_device
what_it_pages
pingpong
more_than_memory
