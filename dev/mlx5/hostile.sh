#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# hostile.sh RESULTS CASE...: in the guest, with every DMA checked.
. "$(dirname "$0")/lib.sh"

start_dmacheck 1
exec python3 "$HERE/hostile_guest.py" "$@"
