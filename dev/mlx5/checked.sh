#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# checked.sh COMMAND...: run it with every DMA of every adapter checked against
# what the kernel has mapped for it; an access to a page whose mapping was
# undone fails the run, and so does a check that saw nothing.  So does a command that
# was refused, but for resumes of faults whose queue pair is gone, or something dropped,
# unless REFUSES says that this is meant.
. "$(dirname "$0")/lib.sh"

start_dmacheck "$(functions | wc -l)"

"$@"
status=$?

for address in $(functions); do
	echo "adapter $address: DMA checked $(ctl "$address" get dma-checked)," \
		"violations $(ctl "$address" get dma-violations)"
	refused=$(($(ctl "$address" get cmd-errors) - $(ctl "$address" get resumes-unknown)))
	dropped=$(ctl "$address" get drops)
	echo "adapter $address: commands refused $refused, events and messages dropped $dropped"
	[ $((refused + dropped)) = 0 ] || [ -n "${REFUSES:-}" ] ||
		die "$address refused $refused commands, dropped $dropped"
	[ "$(ctl "$address" get dma-checked)" -gt 0 ] || die "nothing was checked on $address"
	[ "$(ctl "$address" get dma-violations)" = 0 ] ||
		die "DMA to unmapped memory: $(ctl "$address" violation)"
done
exit $status
