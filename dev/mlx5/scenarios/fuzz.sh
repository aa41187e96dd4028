#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The adapter without a driver, under random commands, work and doorbells: it
# goes on answering, QEMU stays alive, and a driver finds it in order.
. "$(dirname "$0")/../lib.sh"

address=$(functions)
unbind "$address" || die "no unbind"
python3 "$HERE/fuzz.py" "${FUZZ_SEED:-1}" "${FUZZ_SECONDS:-30}" || die "fuzz.py failed"
bind "$address" || die "no bind after it"
await 60 active 1 || die "the port did not come back"
traffic || die "no traffic after it"
