// SPDX-License-Identifier: GPL-2.0
/*
 * Does DEBUG_MMU_NOTIFIER_COVERAGE report a call site that does not announce
 * its change?
 *
 * For each site in turn, this test suppresses its ranges (mmu_notifier/suppress
 * in debugfs) and runs the test of mmu_notifier_callsites that reaches it. The
 * checker must then have caught a change. If no site is suppressed, the checker
 * must not report anything; otherwise the kernel has also printed a warning.
 *
 * Some sites cannot be caught. They are listed with the reason. It is a failure
 * if one of them is caught.
 *
 * Needs root, debugfs, and everything that mmu_notifier_callsites needs.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kselftest.h"

#define DEBUGFS		"/sys/kernel/debug"
#define COVERAGE	DEBUGFS "/mmu_notifier/coverage"
#define SUPPRESS	DEBUGFS "/mmu_notifier/suppress"

/* A site, the test that reaches it, and the reason if it cannot be caught. */
struct site {
	const char *function;
	const char *test;
	const char *why_not;
};

static const struct site sites[] = {
	{ "copy_cow_pgd_range", "fork_announces_private_memory_and_a_write_its_page" },
	{ "unmap_vmas", "munmap_announces_what_goes_away" },
	{ "zap_page_range_single", "madvise_dontneed_announces_its_range" },
	{ "wp_page_install_copy", "fork_announces_private_memory_and_a_write_its_page" },
	{ "remove_device_exclusive_entry",
	  "exclusive_device_access_is_announced_both_ways",
	  "the entry was not present: access is taken from the device alone" },
	{ "change_pud_range", "mprotect_announces_its_range" },
	{ "move_page_tables", "mremap_announces_the_source" },
	{ "madvise_free_single_vma", "madvise_free_announces_its_range" },
	{ "__split_huge_pmd", "a_huge_page_that_is_split_is_announced_whole",
	  "the table that replaces the huge entry has the same pages and rights" },
	{ "__split_huge_pud", NULL, "needs device memory that is mapped by huge PUDs" },
	{ "move_pages_huge_pmd", "userfault_move_announces_the_huge_page" },
	{ "copy_hugetlb_page_range", "hugetlb_fork_and_write_are_announced" },
	{ "move_hugetlb_page_tables", "hugetlb_mremap_announces_the_source" },
	{ "unmap_hugepage_range", "hugetlb_truncation_announces_what_was_cut_off" },
	{ "hugetlb_wp_install_copy", "hugetlb_fork_and_write_are_announced" },
	{ "hugetlb_change_protection", "hugetlb_mprotect_announces_its_range" },
	{ "hugetlb_unshare_pmds", "hugetlb_split_announces_whole_puds" },
	{ "collapse_detach_table", "collapse_announces_the_huge_page" },
	{ "collapse_pte_mapped_thp", "collapse_of_a_file_announces_the_page_tables" },
	{ "retract_page_tables", "collapse_of_a_file_announces_the_page_tables",
	  "the pages were unmapped one by one before, the table is empty" },
	{ "write_protect_page", "ksm_announces_both_pages_and_the_one_replaced" },
	{ "replace_page", "ksm_announces_both_pages_and_the_one_replaced" },
	{ "page_vma_mkclean_one", "writeback_announces_the_page_it_cleans" },
	{ "try_to_unmap_one", "reclaim_announces_the_page_it_unmaps" },
	{ "try_to_migrate_one", "migration_announces_the_page" },
	{ "page_make_device_exclusive_one",
	  "exclusive_device_access_is_announced_both_ways" },
	{ "migrate_vma_collect", "migration_to_a_device_announces_its_range" },
	{ "__migrate_device_pages", "migration_to_a_device_announces_its_range",
	  "the entries were not present: a hole is filled" },
	{ "wp_clean_pre_vma", NULL, "only the vmwgfx driver tracks dirty pages that way" },
	{ "move_pages_pte", "userfault_move_announces_the_source_page" },
	{ "__oom_reap_task_mm", "the_reaper_does_not_sleep_and_can_be_refused" },
	{ "clear_refs_soft_dirty", "clear_refs_announces_everything" },
	{ "pagemap_scan_walk", "pagemap_scan_announces_what_it_protects" },
	{ "__replace_pte", "a_uprobe_announces_the_page_of_code" },
};

static char callsites[4096];

static long read_count(const char *name)
{
	char word[32];
	long count, found = -1;
	FILE *f = fopen(COVERAGE, "r");

	while (f && fscanf(f, "%31s %ld", word, &count) == 2)
		if (!strcmp(word, name))
			found = count;
	if (f)
		fclose(f);
	return found;
}

static void suppress(const char *function)
{
	int fd = open(SUPPRESS, O_WRONLY);

	/* The newline makes it a write even if the name is empty. */
	if (fd < 0 || dprintf(fd, "%s\n", function) < 0)
		ksft_exit_fail_msg("%s: %s\n", SUPPRESS, strerror(errno));
	close(fd);
}

/*
 * Returns KSFT_PASS, KSFT_SKIP or KSFT_FAIL, according to the report of the
 * test.
 */
static int run_test(const char *test)
{
	char command[4300], line[512];
	int verdict = KSFT_FAIL;
	FILE *report;

	snprintf(command, sizeof(command), "'%s' -t %s 2>&1", callsites, test);
	report = popen(command, "r");
	while (report && fgets(line, sizeof(line), report)) {
		if (!strncmp(line, "ok 1 ", 5))
			verdict = strstr(line, "# SKIP") ? KSFT_SKIP : KSFT_PASS;
	}
	if (report)
		pclose(report);
	return verdict;
}

static void check_site(const struct site *site)
{
	long before, caught;
	int verdict;

	if (!site->test) {
		ksft_test_result_skip("%s: %s\n", site->function, site->why_not);
		return;
	}
	before = read_count("caught");
	suppress(site->function);
	verdict = run_test(site->test);
	suppress("");
	caught = read_count("caught") - before;

	ksft_print_msg("%s: %ld changes caught by %s\n", site->function, caught, site->test);
	if (verdict == KSFT_SKIP)
		ksft_test_result_skip("%s: %s was skipped\n", site->function, site->test);
	else if (verdict == KSFT_FAIL)
		ksft_test_result_fail("%s: %s failed\n", site->function, site->test);
	else if (site->why_not)
		ksft_test_result(!caught, "%s is not caught: %s\n", site->function,
				 site->why_not);
	else
		ksft_test_result(caught > 0, "%s is caught\n", site->function);
}

/* mmu_notifier_callsites is in the same directory as this program. */
static void find_callsites(const char *self)
{
	const char *slash = strrchr(self, '/');

	snprintf(callsites, sizeof(callsites), "%.*s/mmu_notifier_callsites",
		 slash ? (int)(slash - self) : 1, slash ? self : ".");
}

int main(int argc, char **argv)
{
	size_t i;

	ksft_print_header();
	find_callsites(argv[0]);
	if (access(callsites, X_OK))
		ksft_exit_skip("%s is not built\n", callsites);
	if (access(COVERAGE, R_OK) && mount("debugfs", DEBUGFS, "debugfs", 0, NULL) &&
	    errno != EBUSY)
		ksft_exit_skip("no debugfs: %s\n", strerror(errno));
	if (access(COVERAGE, R_OK))
		ksft_exit_skip("no DEBUG_MMU_NOTIFIER_COVERAGE, or not root\n");

	ksft_set_plan(ARRAY_SIZE(sites) + 2);
	for (i = 0; i < ARRAY_SIZE(sites); i++)
		check_site(&sites[i]);
	ksft_print_msg("missed %ld, covered %ld, dropped %ld\n",
		       read_count("missed"), read_count("covered"), read_count("dropped"));
	ksft_test_result(read_count("missed") == 0, "nothing else was missed since boot\n");
	ksft_test_result(read_count("covered") > 0 && read_count("dropped") == 0,
			 "changes were covered, and each was looked at\n");
	ksft_finished();
}
