#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A program without rights, at random, beside one that wants its bytes to be right.
. "$(dirname "$0")/../lib.sh"

ulimit -l unlimited
python3 "$HERE/unruly.py" "${FUZZ_SEED:-1}" "${FUZZ_SECONDS:-30}" ||
	die "again by FUZZ_SEED=${FUZZ_SEED:-1}"
