/* SPDX-License-Identifier: GPL-2.0 */
#ifndef PINLESS_INIT_H
#define PINLESS_INIT_H

#define MAX_LIST 32

/* What the host wrote into /conf of the initramfs, "key=value" lines. */
struct conf {
	char *nonce;		/* proves that a verdict is of this run */
	char *cwd;		/* the checkout */
	char *guest;		/* the script to run, host path */
	char *keep[MAX_LIST];	/* folders a tmpfs must not hide */
	char *env[MAX_LIST];
	int nr_keep, nr_env;
	int interactive;	/* leave the terminal cooked, give it stdin */
	int kmemleak;		/* scan at the end, if the kernel can */
	int share;		/* there is a writable share */
};

extern struct conf conf;

void fatal(const char *what);
void mount_early(void);
void read_conf(void);
void mount_root(void);
void scan_for_leaks(void);

#endif
