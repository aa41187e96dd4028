#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A firmware in trouble. A syndrome alone is reported. One that asks for a reset ends in the
# driver's recovery, while no command is answered: the adapter works again after it.
. "$(dirname "$0")/../lib.sh"

traffic || die "no traffic before"
ctl set syndrome 0x7
sleep 5
ctl set syndrome 0
traffic || die "no traffic after a syndrome that asks for nothing"

ctl set syndrome 0x101
await 120 reported 'health recovery succeeded' || die "no recovery"
[ "$(ctl get syndrome)" = 0 ] || die "the adapter was not reset"
await 60 active 1 || die "the port did not come back"
traffic || die "no traffic after the recovery"
