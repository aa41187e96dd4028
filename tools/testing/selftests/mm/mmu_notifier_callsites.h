/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Call sites of MMU notifiers: recordings, the table of sites, and functions
 * that reach them.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef _MMU_NOTIFIER_CALLSITES_H
#define _MMU_NOTIFIER_CALLSITES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <mm/mmu_notifier_recorder.h>

/* A copy of enum mmu_notifier_event, which is not visible to user space. */
enum callsite_event {
	UNMAP,
	CLEAR,
	PROTECTION_VMA,
	PROTECTION_PAGE,
	SOFT_DIRTY,
	RELEASE,
	MIGRATE,
	EXCLUSIVE,
	SPLIT,
	NR_EVENTS,
};

/*
 * The callbacks of one subscriber between recording_watch() and
 * recording_stop().
 */
struct recording {
	int fd;
	__u64 start;		/* the interval of the interval notifier */
	__u64 end;
	struct mmu_recorder_stats stats;
	size_t nr;
	struct mmu_recorder_record *records;
	bool *claimed;
};

int recording_open(struct recording *rec);
void recording_close(struct recording *rec);
int recording_attach(struct recording *rec, pid_t pid);
int recording_set_mode(struct recording *rec, __u32 mode);
int recording_watch(struct recording *rec, const void *addr, size_t len);
int recording_stop(struct recording *rec);
bool recording_paired(const struct recording *rec);
bool recording_balanced(const struct recording *rec);
void recording_print(const struct recording *rec);
size_t recording_count(const struct recording *rec, __u32 kind);
const struct mmu_recorder_record *recording_find(const struct recording *rec,
						 __u32 kind, __u32 event,
						 const char *caller);

/* Find the START of a site with exactly this range. Found only once. */
const struct mmu_recorder_record *
callsite_try(struct recording *rec, const char *site, const void *addr, size_t len);
const struct mmu_recorder_record *
callsite_claim(struct recording *rec, const char *site, const void *addr, size_t len);
const char *callsite_skipped(const char *site, const char *why);
int callsites_report(void);

/* Functions that reach call sites. If one fails, errno is set. */
size_t huge_size(void);
char *map_area(size_t len, size_t align, int prot, int flags, int fd);
char *map_anon(size_t nr_pages);
char *map_thp(void);
void fill_pages(char *addr, size_t len, int value);
pid_t fork_waiting(int *go);
int let_go(pid_t pid, int go);
int userfault_open(__u64 features);
int userfault_register(int uffd, const void *addr, size_t len, __u64 mode);
int userfault_move(int uffd, const void *dst, const void *src, size_t len);
int pagemap_protect(const void *addr, size_t len);
int node_of(const void *addr);
int move_to_node(const void *addr, int node);
int loop_open(int backing);
void loop_close(int loop);
int probe_file(int fd, size_t offset);
int dmirror_do(int fd, unsigned long request, const void *addr, size_t nr_pages);
int file_write(const char *path, const char *text);
long file_read_number(const char *path);
int ksm_merge(char *addr, size_t len);
int mark_idle(const void *addr);
int stop_at_exit(pid_t pid);
int mrelease(pid_t pid);

/* For tests with kselftest_harness.h whose fixture has a recording, rec. */
#define PAGE		((size_t)psize())

#define WATCH(_addr, _len)	ASSERT_EQ(0, recording_watch(&self->rec, _addr, _len))

#define STOP()	do {							\
	ASSERT_EQ(0, recording_stop(&self->rec));			\
	if (!recording_balanced(&self->rec))				\
		recording_print(&self->rec);				\
	ASSERT_TRUE(recording_balanced(&self->rec));			\
} while (0)

#endif /* _MMU_NOTIFIER_CALLSITES_H */
