#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# checked.sh COMMAND...: run it with every DMA of every adapter checked against
# what the kernel has mapped for it.  The run fails on an access that no mapping
# allows, on a check that saw nothing, and on a command that the adapter refused.
# Two kinds of refusal do not count: the resume of a fault whose queue pair is gone, and
# what a test announced by provokes() in tests/rdma.py.  Drops are only printed, since
# a doorbell may arrive after its queue was destroyed.
. "$(dirname "$0")/lib.sh"

# What was counted before belongs to others: several commands may run in one boot.
refused() { echo $(($(ctl "$1" get cmd-errors) - $(ctl "$1" get resumes-unknown))); }
wrong() { ctl "$1" get dma-violations; }

start_dmacheck "$(functions | wc -l)"
: >/tmp/provoked
declare -A refused_before wrong_before
for address in $(functions); do
	refused_before[$address]=$(refused "$address") wrong_before[$address]=$(wrong "$address")
done

"$@"
status=$?

for address in $(functions); do
	echo "adapter $address: DMA checked $(ctl "$address" get dma-checked)," \
		"violations $(wrong "$address")"
	meant=$(awk -v a="$address" '$1 == a { n += $2 } END { print n + 0 }' /tmp/provoked)
	refused=$(($(refused "$address") - refused_before[$address]))
	echo "adapter $address: commands refused $refused, of which $meant were meant;" \
		"dropped $(ctl "$address" get drops)"
	[ "$refused" = "$meant" ] || die "$address refused $refused commands, $meant were meant"
	[ "$(ctl "$address" get dma-checked)" -gt 0 ] || die "nothing was checked on $address"
	[ "$(wrong "$address")" = "${wrong_before[$address]}" ] ||
		die "DMA to unmapped memory: $(ctl "$address" violation)"
done
exit $status
