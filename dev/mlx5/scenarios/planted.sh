#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Drivers that skip a zap, that map what the adapter writes for reading only, and the
# reverse: the check must report each.  Without that, its silence in every other run
# says nothing.
. "$(dirname "$0")/../lib.sh"
FETCH='*Explicit*fetched_anew'
READ='*Explicit*read_only_memory_works'

# planted <defect> <test> <kinds>: the check sees it, as a violation of one of these kinds.
planted() {
	local before kind
	before=$(ctl get dma-violations)
	insmod "$PLANT" what="$1" || die "$1 was not planted"
	python3 "$HERE/guest_tests.py" "/tmp/$1" "$2"
	rmmod plant || die "$1 does not go away"
	[ "$(ctl get dma-violations)" -gt "$before" ] || die "the check did not see $1"
	kind=$(ctl violation | cut -d' ' -f2)
	[[ $3 == *$kind* ]] || die "$1 is reported as another defect: $(ctl violation)"
	echo "$1: $(($(ctl get dma-violations) - before)) violations; the last: $(ctl violation)"
}

both() {
	python3 "$HERE/guest_tests.py" /tmp/fetch "$FETCH"
	python3 "$HERE/guest_tests.py" /tmp/read "$READ"
	! grep -h ^fail /tmp/fetch /tmp/read
}
export -f both
export HERE FETCH READ

bash "$HERE/checked.sh" bash -c both || die "something is wrong although nothing was planted"
planted write-only "$READ" 3
planted read-only "$FETCH" 4
planted zap "$FETCH" 12
