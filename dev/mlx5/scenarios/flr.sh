#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A function level reset: with the driver unbound, as VFIO does it, and under
# it, where the driver's own reset handlers must bring the device back.
. "$(dirname "$0")/../lib.sh"

address=$(functions)
device=/sys/bus/pci/devices/$address
resets=$(ctl get resets)
traffic || die "no traffic before"
unbind "$address" || die "no unbind"
echo 1 >"$device/reset" || die "no reset"
[ "$(ctl "$address" get resets)" -gt "$resets" ] || die "the adapter saw no reset"
bind "$address" || die "no bind after the reset"
await 60 active 1 || die "the port did not come back"
traffic || die "no traffic after a reset without driver"
