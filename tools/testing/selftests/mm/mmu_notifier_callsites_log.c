// SPDX-License-Identifier: GPL-2.0
/*
 * Call sites of MMU notifiers: recordings, and the table of sites that they
 * contain.
 *
 * The harness forks for each test, so the table is in shared memory.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../kselftest.h"
#include "mmu_notifier_callsites.h"

#define MAX_RECORDS	8192

static const char * const event_names[NR_EVENTS] = {
	"UNMAP", "CLEAR", "PROTECTION_VMA", "PROTECTION_PAGE", "SOFT_DIRTY",
	"RELEASE", "MIGRATE", "EXCLUSIVE", "SPLIT",
};

static const char * const kind_names[] = {
	"?", "start", "end", "interval", "released", "young", "tlb",
};

/*
 * The project's list of call sites, in the same order. A compiler may inline a
 * static function into one of the callers in folded_into. A site with why_not
 * cannot be reached by this test; it is a failure if it is reached.
 */
struct callsite {
	const char *function;
	enum callsite_event event;
	const char *folded_into;
	const char *why_not;
};

static const struct callsite callsites[] = {
	{ "copy_cow_pgd_range", PROTECTION_PAGE, "copy_page_range" },
	{ "unmap_vmas", UNMAP },
	{ "zap_page_range_single", CLEAR },
	{ "wp_page_install_copy", CLEAR, "wp_page_copy do_wp_page" },
	{ "remove_device_exclusive_entry", EXCLUSIVE, "do_swap_page" },
	{ "change_pud_range", PROTECTION_VMA,
	  "change_p4d_range change_protection_range change_protection" },
	{ "move_page_tables", UNMAP },
	{ "madvise_free_single_vma", CLEAR,
	  "madvise_dontneed_free madvise_vma_behavior" },
	{ "__split_huge_pmd", SPLIT },
	{ "__split_huge_pud", CLEAR, NULL,
	  "only device memory (DAX, VFIO) is mapped by huge PUDs" },
	{ "move_pages_huge_pmd", CLEAR },
	{ "copy_hugetlb_page_range", CLEAR },
	{ "move_hugetlb_page_tables", CLEAR },
	{ "unmap_hugepage_range", CLEAR },
	{ "hugetlb_wp_install_copy", CLEAR, "hugetlb_wp hugetlb_fault" },
	{ "hugetlb_change_protection", PROTECTION_VMA },
	{ "hugetlb_unshare_pmds", CLEAR, "hugetlb_split" },
	{ "collapse_detach_table", CLEAR,
	  "collapse_huge_page hpage_collapse_scan_pmd" },
	{ "collapse_pte_mapped_thp", CLEAR },
	{ "retract_page_tables", CLEAR,
	  "collapse_file hpage_collapse_scan_file" },
	{ "write_protect_page", CLEAR, "try_to_merge_one_page" },
	{ "replace_page", CLEAR, "try_to_merge_one_page" },
	{ "page_vma_mkclean_one", PROTECTION_PAGE, "page_mkclean_one" },
	{ "try_to_unmap_one", CLEAR },
	{ "try_to_migrate_one", CLEAR },
	{ "page_make_device_exclusive_one", EXCLUSIVE },
	{ "migrate_vma_collect", MIGRATE, "migrate_vma_setup" },
	{ "__migrate_device_pages", MIGRATE,
	  "migrate_vma_pages migrate_device_pages" },
	{ "wp_clean_pre_vma", PROTECTION_PAGE, NULL,
	  "only the vmwgfx driver tracks dirty pages that way" },
	{ "move_pages_pte", CLEAR, "move_pages" },
	{ "__oom_reap_task_mm", UNMAP,
	  "process_mrelease __do_sys_process_mrelease __x64_sys_process_mrelease" },
	{ "clear_refs_soft_dirty", SOFT_DIRTY, "clear_refs_write" },
	{ "pagemap_scan_walk", PROTECTION_VMA,
	  "do_pagemap_scan do_pagemap_cmd" },
	{ "__replace_pte", CLEAR, "__replace_page uprobe_write_opcode" },
};

struct callsite_seen {
	unsigned int nr;
	__u64 start;
	__u64 end;
	char why_skipped[80];
};

static struct callsite_seen *seen;

/* Runs before all tests, and thus before the first fork. */
static void __attribute__((constructor)) callsites_init(void)
{
	seen = mmap(NULL, ARRAY_SIZE(callsites) * sizeof(*seen), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (seen == MAP_FAILED)
		abort();
	/* Tests end with _exit(), which does not flush buffers. */
	setvbuf(stdout, NULL, _IOLBF, 0);
}

static const struct callsite *callsite_of(const char *function)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(callsites); i++)
		if (!strcmp(callsites[i].function, function))
			return &callsites[i];
	fprintf(stderr, "# no such call site: %s\n", function);
	abort();
}

int recording_open(struct recording *rec)
{
	memset(rec, 0, sizeof(*rec));
	rec->records = calloc(MAX_RECORDS, sizeof(*rec->records));
	rec->claimed = calloc(MAX_RECORDS, sizeof(*rec->claimed));
	if (!rec->records || !rec->claimed)
		return -1;
	rec->fd = open("/dev/mmu_notifier_recorder", O_RDONLY | O_CLOEXEC);
	return rec->fd < 0 ? -1 : 0;
}

void recording_close(struct recording *rec)
{
	if (rec->fd >= 0)
		close(rec->fd);
	free(rec->records);
	free(rec->claimed);
	memset(rec, 0, sizeof(*rec));
	rec->fd = -1;
}

int recording_attach(struct recording *rec, pid_t pid)
{
	__s32 arg = pid;

	return ioctl(rec->fd, MMU_RECORDER_ATTACH, &arg);
}

int recording_set_mode(struct recording *rec, __u32 mode)
{
	return ioctl(rec->fd, MMU_RECORDER_SET_MODE, &mode);
}

int recording_watch(struct recording *rec, const void *addr, size_t len)
{
	struct mmu_recorder_interval interval = {
		.start = (uintptr_t)addr,
		.length = len,
	};

	rec->start = interval.start;
	rec->end = interval.start + len;
	rec->nr = 0;
	memset(rec->claimed, 0, MAX_RECORDS * sizeof(*rec->claimed));
	if (ioctl(rec->fd, MMU_RECORDER_SET_INTERVAL, &interval))
		return -1;
	return ioctl(rec->fd, MMU_RECORDER_CLEAR);
}

static int recording_read(struct recording *rec, size_t nr)
{
	const size_t size = sizeof(*rec->records), until = rec->nr + nr;
	ssize_t done;

	if (until > MAX_RECORDS) {
		errno = EOVERFLOW;
		return -1;
	}
	while (rec->nr < until) {
		done = read(rec->fd, rec->records + rec->nr, (until - rec->nr) * size);
		if (done <= 0)
			return -1;
		rec->nr += done / size;
	}
	return 0;
}

/*
 * Kernel threads may have open ranges on this mm: wait until they have ended.
 * Other tasks may append records faster than they are read. So read only the
 * records that were there when the statistics were taken; the next call reads
 * the others.
 */
int recording_stop(struct recording *rec)
{
	int i;

	for (i = 0; i < 1000; i++) {
		if (ioctl(rec->fd, MMU_RECORDER_GET_STATS, &rec->stats))
			return -1;
		if (!rec->stats.open)
			break;
		usleep(1000);
	}
	return recording_read(rec, rec->stats.unread);
}

static bool same_range(const struct mmu_recorder_record *a,
		       const struct mmu_recorder_record *b)
{
	return a->start == b->start && a->end == b->end && a->event == b->event;
}

static bool has_end(const struct recording *rec,
		    const struct mmu_recorder_record *start)
{
	size_t i;

	for (i = 0; i < rec->nr; i++) {
		const struct mmu_recorder_record *end = &rec->records[i];

		if (end->kind == MMU_RECORDER_END && end->pair == start->seq)
			return end->seq > start->seq && same_range(start, end);
	}
	return false;
}

/*
 * Is there one end for each start? The recorder matches them. A range that was
 * open when the recording began has an end only.
 */
bool recording_paired(const struct recording *rec)
{
	const struct mmu_recorder_stats *stats = &rec->stats;

	return !stats->errors && !stats->open &&
	       stats->carried + stats->starts == stats->ends;
}

/* Are all ranges paired, no records lost, and do the records agree? */
bool recording_balanced(const struct recording *rec)
{
	size_t i, carried = 0;

	if (!recording_paired(rec) || rec->stats.lost)
		return false;
	for (i = 0; i < rec->nr; i++) {
		const struct mmu_recorder_record *record = &rec->records[i];

		if (record->flags & MMU_RECORDER_ERRORS ||
		    record->seq != rec->records[0].seq + i)
			return false;
		if (record->kind == MMU_RECORDER_START &&
		    !(record->flags & MMU_RECORDER_REFUSED) &&
		    !has_end(rec, record))
			return false;
		carried += record->kind == MMU_RECORDER_END &&
			   record->pair < rec->records[0].seq;
	}
	return carried == rec->stats.carried;
}

static void record_print(const struct mmu_recorder_record *record)
{
	int i;

	printf("#   %llu %s", (unsigned long long)record->seq,
	       kind_names[record->kind]);
	if (record->kind == MMU_RECORDER_END)
		printf(" of %llu", (unsigned long long)record->pair);
	printf(" %s [%#llx, %#llx) flags %#x",
	       record->event < NR_EVENTS ? event_names[record->event] : "?",
	       (unsigned long long)record->start,
	       (unsigned long long)record->end, record->flags);
	for (i = 0; i < MMU_RECORDER_CALLERS && record->caller[i][0]; i++)
		printf(" %s", record->caller[i]);
	printf("\n");
}

void recording_print(const struct recording *rec)
{
	const struct mmu_recorder_stats *stats = &rec->stats;
	size_t i;

	printf("# watched [%#llx, %#llx); %u carried, %llu starts, %llu ends, ",
	       (unsigned long long)rec->start, (unsigned long long)rec->end,
	       stats->carried, (unsigned long long)stats->starts,
	       (unsigned long long)stats->ends);
	printf("%u open, %llu errors, %llu lost\n", stats->open,
	       (unsigned long long)stats->errors,
	       (unsigned long long)stats->lost);
	for (i = 0; i < rec->nr && i < 100; i++)
		record_print(&rec->records[i]);
	if (i < rec->nr)
		printf("#   and %zu more\n", rec->nr - i);
}

size_t recording_count(const struct recording *rec, __u32 kind)
{
	size_t i, nr = 0;

	for (i = 0; i < rec->nr; i++)
		nr += rec->records[i].kind == kind;
	return nr;
}

const struct mmu_recorder_record *recording_find(const struct recording *rec,
						 __u32 kind, __u32 event,
						 const char *caller)
{
	size_t i;

	for (i = 0; i < rec->nr; i++) {
		const struct mmu_recorder_record *record = &rec->records[i];

		if (record->kind == kind && record->event == event &&
		    (!caller || !strcmp(record->caller[0], caller)))
			return record;
	}
	return NULL;
}

static bool announced_by(const struct mmu_recorder_record *record,
			 const struct callsite *site)
{
	const char *name = record->caller[0];
	const char *folded = site->folded_into;
	size_t len = strlen(name);

	if (record->event != site->event)
		return false;
	if (!strcmp(name, site->function))
		return true;
	/* Otherwise it must be a word of the list. */
	while (len && folded && *folded) {
		if (strcspn(folded, " ") == len && !strncmp(folded, name, len))
			return true;
		folded += strcspn(folded, " ");
		folded += strspn(folded, " ");
	}
	return false;
}

/*
 * If the range overlaps its interval, the interval notifier must have been
 * called.
 */
static bool interval_heard(const struct recording *rec,
			   const struct mmu_recorder_record *start)
{
	size_t i;

	if (start->end <= rec->start || start->start >= rec->end)
		return true;
	for (i = 0; i < rec->nr; i++)
		if (rec->records[i].kind == MMU_RECORDER_INTERVAL &&
		    rec->records[i].tid == start->tid &&
		    same_range(&rec->records[i], start))
			return true;
	printf("# the interval notifier was not called for\n");
	record_print(start);
	return false;
}

const struct mmu_recorder_record *
callsite_try(struct recording *rec, const char *name, const void *addr, size_t len)
{
	const struct callsite *site = callsite_of(name);
	struct callsite_seen *mark = &seen[site - callsites];
	const struct mmu_recorder_record *record;
	size_t i;

	for (i = 0; i < rec->nr; i++) {
		record = &rec->records[i];
		if (record->kind != MMU_RECORDER_START || rec->claimed[i] ||
		    record->start != (uintptr_t)addr ||
		    record->end != (uintptr_t)addr + len ||
		    !announced_by(record, site))
			continue;
		if (!interval_heard(rec, record))
			return NULL;
		rec->claimed[i] = true;
		mark->nr++;
		mark->start = record->start;
		mark->end = record->end;
		return record;
	}
	return NULL;
}

const struct mmu_recorder_record *
callsite_claim(struct recording *rec, const char *name, const void *addr, size_t len)
{
	const struct mmu_recorder_record *record = callsite_try(rec, name, addr, len);

	if (record)
		return record;
	printf("# not announced: %s %s [%#lx, %#lx), but:\n", name,
	       event_names[callsite_of(name)->event], (unsigned long)addr,
	       (unsigned long)addr + len);
	recording_print(rec);
	return NULL;
}

const char *callsite_skipped(const char *name, const char *why)
{
	struct callsite_seen *mark = &seen[callsite_of(name) - callsites];

	snprintf(mark->why_skipped, sizeof(mark->why_skipped), "%s", why);
	return why;
}

static void callsite_print(const struct callsite *site,
			   const struct callsite_seen *mark)
{
	printf("# %-30s %-15s ", site->function, event_names[site->event]);
	if (mark->nr)
		printf("seen %u, last [%#llx, %#llx)\n", mark->nr,
		       (unsigned long long)mark->start,
		       (unsigned long long)mark->end);
	else if (site->why_not)
		printf("not driven: %s\n", site->why_not);
	else if (mark->why_skipped[0])
		printf("skipped: %s\n", mark->why_skipped);
	else
		printf("NOT SEEN\n");
}

/* Print the table. Returns the number of sites that differ from it. */
int callsites_report(void)
{
	int wrong = 0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(callsites); i++) {
		callsite_print(&callsites[i], &seen[i]);
		if (callsites[i].why_not)
			wrong += seen[i].nr != 0;
		else
			wrong += !seen[i].nr && !seen[i].why_skipped[0];
	}
	return wrong;
}
