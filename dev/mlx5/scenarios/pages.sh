#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Pages that the firmware borrows: it asks for more and gives them back beside traffic,
# and has all of them returned when the driver goes. Their contents are checked as they
# come back, and that they are mapped meanwhile.
. "$(dirname "$0")/../lib.sh"

address=$(functions)
lent() { [ "$(ctl "$address" get pages)" "$@" ]; }

lent -gt 0 || die "the driver has lent nothing"
before=$(ctl get pages)
background mlx5_0
ctl set pages-more 300
await 20 lent -ge $((before + 285)) || die "the driver gives no more pages: $(ctl get pages)"
ctl set pages-more 0
for _ in 1 2 3 4 5 6 7 8; do	# each event brings back a part
	await 20 lent -le $((before + 285)) || die "the driver takes nothing back: $(ctl get pages)"
done
await 60 lent -le $((before + 40)) || die "the driver takes too little back: $(ctl get pages)"
kill $job
pkill ibv_rc_pingpong
traffic || die "no traffic after it"
unbind "$address" || die "no unbind"
lent -eq 0 || die "the driver leaves $(ctl "$address" get pages) pages"
bind "$address" || die "no bind"
await 60 active 1 || die "the port did not come back"
lent -gt 0 || die "the driver has lent nothing the second time"
traffic || die "no traffic at the end"
