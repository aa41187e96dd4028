#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# hostile.sh RESULTS CASE...: in the guest, with every DMA checked.
. "$(dirname "$0")/lib.sh"

address=$(functions)
unbind "$address" || die "no unbind"
insmod "$DMACHECK" || die "no DMA check"
bind "$address" || die "no bind"
await 60 active 1 || die "the adapter did not come back"
exec python3 "$HERE/hostile_guest.py" "$@"
