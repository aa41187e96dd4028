# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Real clients, each a pair that talks over $DEV, run in the guest:
#     clients.sh <device> <results> [glob]
# A result line each: "pass|fail|skip <name> <reason>".  Ports are fixed: the
# guest is ours alone.
DEV=$1 RESULTS=$2 GLOB=${3:-*}
ADDRESS=192.0.2.1
# Index of the GID that holds the IPv4 address: the one both ends can route.
gid() {
	local file
	for file in "/sys/class/infiniband/$DEV/ports/1/gids/"*; do
		grep -q 'ffff:c000:0201$' "$file" && { basename "$file"; return; }
	done
	echo 0
}
GID=$(gid)

# has_cap <capability|->: does the device report it for on-demand paging?
has_cap() {
	[ "$1" = - ] || ibv_devinfo -v -d "$DEV" 2>/dev/null |
		sed -n '/general_odp_caps/,/rc_odp_caps/p' | grep -qw "$1"
}

# pair <name> <needs capability|-> <command...>: server, then client.
pair() {
	local name=$1 cap=$2 server out
	shift 2
	# shellcheck disable=SC2053  # a glob on purpose
	[[ $name == $GLOB ]] || return 0
	if ! has_cap "$cap"; then
		echo "skip $name $DEV does not report $cap" >>"$RESULTS"
		return
	fi
	out=/tmp/$name
	timeout 60 "$@" >"$out.server" 2>&1 & server=$!
	sleep 1
	if timeout 60 "$@" "$ADDRESS" >"$out.client" 2>&1 && wait "$server"; then
		echo "pass $name" >>"$RESULTS"
	else
		kill "$server" 2>/dev/null
		wait "$server" 2>/dev/null
		echo "fail $name $(tail -qn1 "$out.client" "$out.server" | tr '\n' ' ')" >>"$RESULTS"
	fi
	cat "$out.client"
}

V=(-d "$DEV" -g "$GID")
P=(-d "$DEV" -x "$GID" -F)
pair client.rc_pingpong - ibv_rc_pingpong "${V[@]}" -c
pair client.ud_pingpong - ibv_ud_pingpong "${V[@]}" -s 1024
pair client.uc_pingpong - ibv_uc_pingpong "${V[@]}"
pair client.srq_pingpong - ibv_srq_pingpong "${V[@]}"
pair client.rc_pingpong_odp ODP_SUPPORT ibv_rc_pingpong "${V[@]}" -o -c
pair client.rc_pingpong_odp_prefetch ODP_SUPPORT ibv_rc_pingpong "${V[@]}" -o -P -c
pair client.rc_pingpong_implicit ODP_SUPPORT_IMPLICIT ibv_rc_pingpong "${V[@]}" -O -c
pair client.write_bw - ib_write_bw "${P[@]}" -n 500
pair client.read_bw - ib_read_bw "${P[@]}" -n 500
pair client.send_bw - ib_send_bw "${P[@]}" -n 500
pair client.atomic_bw - ib_atomic_bw "${P[@]}" -n 500
pair client.write_bw_odp ODP_SUPPORT ib_write_bw "${P[@]}" -n 500 --odp
pair client.read_bw_odp ODP_SUPPORT ib_read_bw "${P[@]}" -n 500 --odp
pair client.send_bw_odp ODP_SUPPORT ib_send_bw "${P[@]}" -n 500 --odp
exit 0
