#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A driver that skips its zap: the check must report it.  Without that, the
# check's silence in every other run says nothing.
. "$(dirname "$0")/../lib.sh"

bash "$HERE/checked.sh" python3 "$HERE/guest_tests.py" /tmp/good '*Explicit*fetched_anew' ||
	die "violations although nothing was planted"
insmod "$PLANT" || die "nothing was planted"
python3 "$HERE/guest_tests.py" /tmp/bad '*Explicit*fetched_anew'
[ "$(ctl get dma-violations)" -gt 0 ] || die "the check did not see a zap that was skipped"
echo "seen: $(ctl get dma-violations) violations; the last: $(ctl violation)"
