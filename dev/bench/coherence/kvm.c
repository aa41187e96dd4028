// SPDX-License-Identifier: GPL-2.0
/*
 * A process with a KVM virtual machine, and so with KVM's notifier on its mm, has the
 * module measure that mm.
 *
 * usage: kvm <command> <the module's file>
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int kvm, vm, file;

	if (argc != 3) {
		fprintf(stderr, "usage: kvm <command> <file>\n");
		return 2;
	}
	kvm = open("/dev/kvm", O_RDWR);
	vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0) {
		perror("/dev/kvm");
		return 1;
	}
	file = open(argv[2], O_WRONLY);
	if (file < 0 || write(file, argv[1], strlen(argv[1])) < 0) {
		perror(argv[2]);
		return 1;
	}
	return 0;
}
