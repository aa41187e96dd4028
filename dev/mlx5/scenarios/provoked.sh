#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What only the kernel asks of the driver, and what the adapter answers unkindly. The
# adapter is back after each: by itself after the first, by bind after the second,
# since devlink allows no two recoveries in a short time.
. "$(dirname "$0")/../lib.sh"

recovered() { dmesg | grep -q 'health recovery succeeded' && active 1; }
good() { traffic '*Explicit*fetched_anew'; }

address=$(functions)
good || die "no traffic before"

# Reclaim may wait for a page fault. So what a fault waits for is to run although no worker
# can be had: on a queue that has a rescuer.
trace=/sys/kernel/tracing
[ -d $trace/events ] || mount -t tracefs none $trace || die "no tracing"
queued=$trace/events/workqueue/workqueue_queue_work/enable
echo 1 >$queued
insmod "$PROVOKE" what=refill || die "faults do not run out of memory"
good || die "no traffic without memory for a fault"
rmmod provoke
echo 0 >$queued
queue=$(sed -n 's/.*function=odp_refill_work.* workqueue=\([^ ]*\).*/\1/p' $trace/trace | tail -n 1)
[ -n "$queue" ] || die "no fault ran out of memory"
grep -hs "^kworker/R-$queue\b" /proc/[0-9]*/comm || die "the queue $queue has no rescuer"

insmod "$PROVOKE" what=integrity || die "the region did not end"
rmmod provoke
await 60 recovered || die "the adapter is not back after a region that did not end at once"
good || die "no traffic after it"

insmod "$PROVOKE" what=subfunction || die "the parent was taken off the bus"
rmmod provoke
unbind "$address" || die "no unbind"
bind "$address" || die "no bind"
await 60 active 1 || die "the port did not come back"
good || die "no traffic at the end"
