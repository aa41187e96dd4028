#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# In a guest with DEV=rxe,mlx5: pingpong latency and 1 MiB writes on both, three
# rounds each, the median.  How long tests take follows from this.
export LC_ALL=C
median() { sort -g | sed -n 2p; }

# A server in the background, and until it listens.
serve() {
	"$@" >/dev/null &
	until ss -Hltn 'sport = :18515' | grep -q .; do
		kill -0 $! || exit 1
		sleep 0.1
	done
}

latency() {
	for _ in 1 2 3; do
		serve ibv_rc_pingpong -d "$@" -n 2000 -s 64
		ibv_rc_pingpong -d "$@" -n 2000 -s 64 "$ADDRESS" |
			sed -n 's/.* \([0-9.]*\) usec\/iter/\1/p'
		wait
	done | median
}

bandwidth() {
	for _ in 1 2 3; do
		serve ib_write_bw -d "$@" -F -s 1048576 -n 300
		ib_write_bw -d "$@" -F -s 1048576 -n 300 "$ADDRESS" |
			awk '$1 == 1048576 { print $4 }'
		wait
	done | median
}

rxe_gid=$(grep -l 'ffff:c000:0201$' /sys/class/infiniband/rxe0/ports/1/gids/* | xargs basename)
printf '%-28s %12s %12s\n' "" rxe mlx5
a=$(ADDRESS=192.0.2.1 latency rxe0 -g "$rxe_gid")
b=$(ADDRESS=127.0.0.1 latency mlx5_0)
printf '%-28s %12s %12s\n' "RC pingpong, 64 B, us" "$a" "$b"
a=$(ADDRESS=192.0.2.1 bandwidth rxe0 -x "$rxe_gid")
b=$(ADDRESS=127.0.0.1 bandwidth mlx5_0)
printf '%-28s %12s %12s\n' "RDMA write, 1 MiB, MiB/s" "$a" "$b"
