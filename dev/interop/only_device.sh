#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# only_device.sh DEVICE PROGRAM [ARGUMENT...]: run it where no other RDMA device can be opened.
# UCX opens all devices and closes those that it does not use.
export DEVICE=$1
shift
# shellcheck disable=SC2016  # expanded by the inner shell
exec unshare -m bash -c '
	mount -t tmpfs none /dev/infiniband
	for verbs in /sys/class/infiniband_verbs/uverbs*; do
		[ "$(cat "$verbs/ibdev")" != "$DEVICE" ] ||
			mknod "/dev/infiniband/${verbs##*/}" c $(tr : " " <"$verbs/dev")
	done
	exec "$@"' bash "$@"
