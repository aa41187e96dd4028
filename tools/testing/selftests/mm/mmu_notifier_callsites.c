// SPDX-License-Identifier: GPL-2.0
/*
 * Does every call site of MMU notifiers announce its change?
 *
 * Each test reaches a site from user space, with a subscriber on the mm
 * (/dev/mmu_notifier_recorder). It expects the following callbacks: start, with
 * the function of the site as caller, its event and exactly its range; the
 * interval notifier, with the same range; and one end for each start. The last
 * test expects that each site of the table in mmu_notifier_callsites_log.c was
 * reached, or has a reason.
 *
 * Needs root, CONFIG_MMU_NOTIFIER_RECORDER, swap, two nodes (numa=fake=2), huge
 * pages, and CONFIG_TEST_HMM. A test that lacks one of these is skipped, with
 * the reason.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <lib/test_hmm_uapi.h>

#include "../kselftest_harness.h"
#include "mmu_notifier_callsites.h"
#include "vm_util.h"

#define RW		(PROT_READ | PROT_WRITE)
#define PRIVATE		(MAP_PRIVATE | MAP_ANONYMOUS)

FIXTURE(callsite)
{
	struct recording rec;
};

FIXTURE_SETUP(callsite)
{
	if (access("/dev/mmu_notifier_recorder", R_OK | W_OK))
		SKIP(return, "no /dev/mmu_notifier_recorder, or not root");
	ASSERT_EQ(0, recording_open(&self->rec));
}

FIXTURE_TEARDOWN(callsite)
{
	recording_close(&self->rec);
}

/* Expect a start of the site with this range. Each start is found only once. */
#define ASSERT_SITE(_site, _addr, _len)					\
	ASSERT_NE(NULL, callsite_claim(&self->rec, #_site, _addr, _len))

TEST_F(callsite, munmap_announces_what_goes_away)
{
	char *addr = map_anon(8);

	ASSERT_NE(NULL, addr);
	WATCH(addr, 8 * PAGE);
	ASSERT_EQ(0, munmap(addr + PAGE, 3 * PAGE));
	STOP();
	ASSERT_SITE(unmap_vmas, addr + PAGE, 3 * PAGE);
}

TEST_F(callsite, munmap_of_nothing_announces_nothing)
{
	char *addr = map_anon(2);

	ASSERT_NE(NULL, addr);
	ASSERT_EQ(0, munmap(addr, 2 * PAGE));
	WATCH(addr, 2 * PAGE);
	ASSERT_EQ(0, munmap(addr, 2 * PAGE));
	STOP();
	EXPECT_EQ(0, recording_count(&self->rec, MMU_RECORDER_INTERVAL));
}

TEST_F(callsite, madvise_dontneed_announces_its_range)
{
	char *addr = map_anon(8);

	ASSERT_NE(NULL, addr);
	WATCH(addr, 8 * PAGE);
	ASSERT_EQ(0, madvise(addr + 2 * PAGE, 2 * PAGE, MADV_DONTNEED));
	STOP();
	ASSERT_SITE(zap_page_range_single, addr + 2 * PAGE, 2 * PAGE);
}

TEST_F(callsite, madvise_free_announces_its_range)
{
	char *addr = map_anon(8);

	ASSERT_NE(NULL, addr);
	WATCH(addr, 8 * PAGE);
	ASSERT_EQ(0, madvise(addr + PAGE, 4 * PAGE, MADV_FREE));
	STOP();
	ASSERT_SITE(madvise_free_single_vma, addr + PAGE, 4 * PAGE);
}

TEST_F(callsite, mprotect_announces_its_range)
{
	char *addr = map_anon(8);

	ASSERT_NE(NULL, addr);
	WATCH(addr, 8 * PAGE);
	ASSERT_EQ(0, mprotect(addr + PAGE, 2 * PAGE, PROT_READ));
	STOP();
	ASSERT_SITE(change_pud_range, addr + PAGE, 2 * PAGE);
}

/* A range that starts at address 0 must be ended, too. */
TEST_F(callsite, regress_mprotect_of_address_zero_ends_its_range)
{
	char *addr = mmap(NULL, 4 * PAGE, RW, PRIVATE | MAP_FIXED, -1, 0);

	if (addr == MAP_FAILED)
		SKIP(return, "address 0 cannot be mapped");
	fill_pages(addr, 4 * PAGE, 1);
	WATCH(addr, 4 * PAGE);
	ASSERT_EQ(0, mprotect(addr, 2 * PAGE, PROT_READ));
	STOP();
	ASSERT_SITE(change_pud_range, addr, 2 * PAGE);
}

TEST_F(callsite, mremap_announces_the_source)
{
	char *src = map_anon(4);
	char *dst = map_anon(4);

	ASSERT_NE(NULL, src);
	ASSERT_NE(NULL, dst);
	WATCH(src, 4 * PAGE);
	ASSERT_EQ(dst, mremap(src, 4 * PAGE, 4 * PAGE,
			      MREMAP_MAYMOVE | MREMAP_FIXED, dst));
	STOP();
	ASSERT_SITE(move_page_tables, src, 4 * PAGE);
}

TEST_F(callsite, fork_announces_private_memory_and_a_write_its_page)
{
	char *addr = map_anon(4);
	pid_t pid;
	int go;

	ASSERT_NE(NULL, addr);
	WATCH(addr, 4 * PAGE);
	pid = fork_waiting(&go);
	ASSERT_LT(0, pid);
	addr[2 * PAGE] = 2;
	EXPECT_EQ(0, let_go(pid, go));
	STOP();
	ASSERT_SITE(copy_cow_pgd_range, addr, 4 * PAGE);
	ASSERT_SITE(wp_page_install_copy, addr + 2 * PAGE, PAGE);
}

TEST_F(callsite, fork_does_not_announce_shared_memory)
{
	char *addr = map_area(4 * PAGE, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1);
	pid_t pid;
	int go;

	ASSERT_NE(NULL, addr);
	fill_pages(addr, 4 * PAGE, 1);
	WATCH(addr, 4 * PAGE);
	pid = fork_waiting(&go);
	ASSERT_LT(0, pid);
	EXPECT_EQ(0, let_go(pid, go));
	STOP();
	EXPECT_EQ(0, recording_count(&self->rec, MMU_RECORDER_INTERVAL));
}

TEST_F(callsite, a_huge_page_that_is_split_is_announced_whole)
{
	size_t huge = huge_size();
	char *addr = map_thp();

	if (!addr)
		SKIP(return, "%s",
		     callsite_skipped("__split_huge_pmd", "no transparent huge page"));
	WATCH(addr, huge);
	ASSERT_EQ(0, madvise(addr + PAGE, PAGE, MADV_DONTNEED));
	STOP();
	ASSERT_SITE(__split_huge_pmd, addr, huge);
	ASSERT_SITE(zap_page_range_single, addr + PAGE, PAGE);
}

TEST_F(callsite, collapse_announces_the_huge_page)
{
	size_t huge = huge_size();
	char *addr = map_area(huge, huge, RW, PRIVATE, -1);

	if (!huge)
		SKIP(return, "%s",
		     callsite_skipped("collapse_detach_table", "no transparent huge pages"));
	ASSERT_NE(NULL, addr);
	fill_pages(addr, huge, 1);
	WATCH(addr, huge);
	ASSERT_EQ(0, madvise(addr, huge, MADV_COLLAPSE));
	STOP();
	ASSERT_SITE(collapse_detach_table, addr, huge);
}

/*
 * Map a huge page of a file by single pages. The VMA must not span the huge
 * page when the pages are faulted in. It does so again afterwards.
 */
static int map_collapsed_by_pages(char *addr, size_t huge)
{
	if (mprotect(addr, PAGE, PROT_NONE))
		return -1;
	fill_pages(addr + PAGE, huge - PAGE, 2);
	return mprotect(addr, PAGE, RW);
}

TEST_F(callsite, collapse_of_a_file_announces_the_page_tables)
{
	size_t huge = huge_size();
	int fd = memfd_create("collapse", MFD_CLOEXEC);
	char *addr;

	if (!huge)
		SKIP(return, "%s",
		     callsite_skipped("retract_page_tables", "no transparent huge pages"));
	ASSERT_EQ(0, ftruncate(fd, huge));
	addr = map_area(huge, huge, RW, MAP_SHARED, fd);
	ASSERT_NE(NULL, addr);
	fill_pages(addr, huge, 1);

	WATCH(addr, huge);
	ASSERT_EQ(0, madvise(addr, huge, MADV_COLLAPSE));
	STOP();
	ASSERT_SITE(retract_page_tables, addr, huge);

	ASSERT_EQ(0, map_collapsed_by_pages(addr, huge));
	WATCH(addr, huge);
	ASSERT_EQ(0, madvise(addr, huge, MADV_COLLAPSE));
	STOP();
	ASSERT_SITE(collapse_pte_mapped_thp, addr, huge);
}

static char *map_hugetlb(size_t nr, int flags, int fd)
{
	size_t huge = default_huge_page_size();
	char *addr = map_area(nr * huge, huge, RW,
			      fd < 0 ? PRIVATE | MAP_HUGETLB | flags : flags, fd);

	if (addr)
		fill_pages(addr, nr * huge, 1);
	return addr;
}

TEST_F(callsite, hugetlb_fork_and_write_are_announced)
{
	size_t huge = default_huge_page_size();
	char *addr;
	pid_t pid;
	int go;

	if (get_free_hugepages() < 4)
		SKIP(return, "%s",
		     callsite_skipped("copy_hugetlb_page_range", "no huge pages"));
	addr = map_hugetlb(2, 0, -1);
	ASSERT_NE(NULL, addr);
	WATCH(addr, 2 * huge);
	pid = fork_waiting(&go);
	ASSERT_LT(0, pid);
	addr[huge] = 2;
	EXPECT_EQ(0, let_go(pid, go));
	STOP();
	ASSERT_SITE(copy_hugetlb_page_range, addr, 2 * huge);
	ASSERT_SITE(hugetlb_wp_install_copy, addr + huge, huge);
}

TEST_F(callsite, hugetlb_mremap_announces_the_source)
{
	size_t huge = default_huge_page_size();
	char *src, *dst;

	if (get_free_hugepages() < 2)
		SKIP(return, "%s",
		     callsite_skipped("move_hugetlb_page_tables", "no huge pages"));
	src = map_hugetlb(2, 0, -1);
	dst = map_area(2 * huge, huge, PROT_NONE, PRIVATE, -1);
	ASSERT_NE(NULL, src);
	ASSERT_NE(NULL, dst);
	WATCH(src, 2 * huge);
	ASSERT_EQ(dst, mremap(src, 2 * huge, 2 * huge,
			      MREMAP_MAYMOVE | MREMAP_FIXED, dst));
	STOP();
	ASSERT_SITE(move_hugetlb_page_tables, src, 2 * huge);
}

TEST_F(callsite, hugetlb_mprotect_announces_its_range)
{
	size_t huge = default_huge_page_size();
	char *addr;

	if (get_free_hugepages() < 2)
		SKIP(return, "%s",
		     callsite_skipped("hugetlb_change_protection", "no huge pages"));
	addr = map_hugetlb(2, 0, -1);
	ASSERT_NE(NULL, addr);
	WATCH(addr, 2 * huge);
	ASSERT_EQ(0, mprotect(addr + huge, huge, PROT_READ));
	STOP();
	ASSERT_SITE(hugetlb_change_protection, addr + huge, huge);
}

TEST_F(callsite, hugetlb_truncation_announces_what_was_cut_off)
{
	size_t huge = default_huge_page_size();
	int fd = memfd_create("truncate", MFD_CLOEXEC | MFD_HUGETLB);
	char *addr;

	if (get_free_hugepages() < 3)
		SKIP(return, "%s",
		     callsite_skipped("unmap_hugepage_range", "no huge pages"));
	ASSERT_EQ(0, ftruncate(fd, 3 * huge));
	addr = map_hugetlb(3, MAP_SHARED, fd);
	ASSERT_NE(NULL, addr);
	WATCH(addr, 3 * huge);
	ASSERT_EQ(0, ftruncate(fd, huge));
	STOP();
	ASSERT_SITE(unmap_hugepage_range, addr + huge, 2 * huge);
}

/*
 * A PMD table covers a whole PUD. Splitting a VMA inside the PUD ends its
 * sharing.
 */
TEST_F(callsite, hugetlb_split_announces_whole_puds)
{
	size_t huge = default_huge_page_size();
	size_t pud = huge * (PAGE / sizeof(long));
	int fd = memfd_create("unshare", MFD_CLOEXEC | MFD_HUGETLB);
	char *addr, *twin;

	if (fd < 0 || ftruncate(fd, 2 * pud) || get_free_hugepages() < 1)
		SKIP(return, "%s", callsite_skipped("hugetlb_unshare_pmds", "no huge pages"));
	addr = map_area(2 * pud, pud, RW, MAP_SHARED | MAP_NORESERVE, fd);
	twin = map_area(2 * pud, pud, RW, MAP_SHARED | MAP_NORESERVE, fd);
	ASSERT_NE(NULL, addr);
	ASSERT_NE(NULL, twin);
	/* The second mapping that faults shares the table of the first. */
	fill_pages(twin + pud, PAGE, 1);
	ASSERT_EQ(1, __atomic_load_n(addr + pud, __ATOMIC_RELAXED));
	WATCH(addr, 2 * pud);
	ASSERT_EQ(0, munmap(addr + pud + huge, pud - huge));
	STOP();
	ASSERT_SITE(hugetlb_unshare_pmds, addr + pud, pud);
}

TEST_F(callsite, ksm_announces_both_pages_and_the_one_replaced)
{
	char *addr = map_anon(2);

	if (access("/sys/kernel/mm/ksm/run", W_OK))
		SKIP(return, "%s", callsite_skipped("write_protect_page", "no KSM"));
	ASSERT_NE(NULL, addr);
	fill_pages(addr, 2 * PAGE, 42);
	/* Equal to each other, but to no page of an earlier run. */
	*(pid_t *)(addr + 64) = getpid();
	*(pid_t *)(addr + PAGE + 64) = getpid();
	WATCH(addr, 2 * PAGE);
	ASSERT_EQ(0, ksm_merge(addr, 2 * PAGE));
	STOP();
	ASSERT_SITE(write_protect_page, addr, PAGE);
	ASSERT_SITE(write_protect_page, addr + PAGE, PAGE);
	/* KSM may replace either page. */
	if (!callsite_try(&self->rec, "replace_page", addr, PAGE))
		ASSERT_SITE(replace_page, addr + PAGE, PAGE);
}

TEST_F(callsite, writeback_announces_the_page_it_cleans)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);
	char *addr;
	int loop;

	ASSERT_EQ(0, ftruncate(fd, 1 << 20));
	loop = loop_open(fd);
	if (loop < 0)
		SKIP(return, "%s",
		     callsite_skipped("page_vma_mkclean_one", "no loop device"));
	addr = map_area(4 * PAGE, PAGE, RW, MAP_SHARED, loop);
	ASSERT_NE(NULL, addr);
	fill_pages(addr, 4 * PAGE, 1);
	ASSERT_EQ(0, msync(addr, 4 * PAGE, MS_SYNC));
	addr[PAGE] = 2;
	WATCH(addr, 4 * PAGE);
	EXPECT_EQ(0, msync(addr, 4 * PAGE, MS_SYNC));
	STOP();
	EXPECT_EQ(0, munmap(addr, 4 * PAGE));
	loop_close(loop);
	ASSERT_SITE(page_vma_mkclean_one, addr + PAGE, PAGE);
}

TEST_F(callsite, reclaim_announces_the_page_it_unmaps)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	char *addr = map_anon(4);
	int i;

	ASSERT_NE(NULL, addr);
	WATCH(addr, 4 * PAGE);
	/* A page in the LRU batch of another CPU is not reclaimed: retry. */
	for (i = 0; i < 100 && !pagemap_is_swapped(pagemap, addr + PAGE); i++)
		ASSERT_EQ(0, madvise(addr + PAGE, PAGE, MADV_PAGEOUT));
	if (i == 100)
		SKIP(return, "%s",
		     callsite_skipped("try_to_unmap_one", "the page did not go to swap"));
	STOP();
	ASSERT_SITE(try_to_unmap_one, addr + PAGE, PAGE);
}

TEST_F(callsite, migration_announces_the_page)
{
	char *addr = map_anon(4);
	int node;

	ASSERT_NE(NULL, addr);
	if (access("/sys/devices/system/node/node1", F_OK))
		SKIP(return, "%s", callsite_skipped("try_to_migrate_one", "one node only"));
	node = !node_of(addr + PAGE);
	WATCH(addr, 4 * PAGE);
	ASSERT_EQ(node, move_to_node(addr + PAGE, node));
	STOP();
	ASSERT_SITE(try_to_migrate_one, addr + PAGE, PAGE);
}

TEST_F(callsite, exclusive_device_access_is_announced_both_ways)
{
	int fd = open("/dev/hmm_dmirror0", O_RDWR | O_CLOEXEC);
	char *addr = map_anon(4);

	if (fd < 0)
		SKIP(return, "%s",
		     callsite_skipped("page_make_device_exclusive_one", "no /dev/hmm_dmirror0"));
	ASSERT_NE(NULL, addr);
	WATCH(addr, 4 * PAGE);
	ASSERT_LE(0, dmirror_do(fd, HMM_DMIRROR_EXCLUSIVE, addr + PAGE, 1));
	addr[PAGE] = 2;
	STOP();
	ASSERT_SITE(page_make_device_exclusive_one, addr + PAGE, PAGE);
	ASSERT_SITE(remove_device_exclusive_entry, addr + PAGE, PAGE);
}

/* The second range is for pages that were not present and are inserted. */
TEST_F(callsite, migration_to_a_device_announces_its_range)
{
	int fd = open("/dev/hmm_dmirror0", O_RDWR | O_CLOEXEC);
	char *addr = map_area(8 * PAGE, PAGE, RW, PRIVATE, -1);

	if (fd < 0)
		SKIP(return, "%s",
		     callsite_skipped("migrate_vma_collect", "no /dev/hmm_dmirror0"));
	ASSERT_NE(NULL, addr);
	fill_pages(addr, 3 * PAGE, 1);
	WATCH(addr, 8 * PAGE);
	ASSERT_LT(0, dmirror_do(fd, HMM_DMIRROR_MIGRATE_TO_DEV, addr + PAGE, 6));
	STOP();
	ASSERT_SITE(migrate_vma_collect, addr + PAGE, 6 * PAGE);
	ASSERT_SITE(__migrate_device_pages, addr + 3 * PAGE, 4 * PAGE);
}

TEST_F(callsite, userfault_move_announces_the_source_page)
{
	int uffd = userfault_open(UFFD_FEATURE_MOVE);
	char *src = map_anon(4);
	char *dst = map_area(4 * PAGE, PAGE, RW, PRIVATE, -1);

	if (uffd < 0)
		SKIP(return, "%s", callsite_skipped("move_pages_pte", "no UFFDIO_MOVE"));
	ASSERT_NE(NULL, dst);
	ASSERT_EQ(0, userfault_register(uffd, dst, 4 * PAGE,
					UFFDIO_REGISTER_MODE_MISSING));
	WATCH(src, 4 * PAGE);
	ASSERT_EQ(0, userfault_move(uffd, dst, src + PAGE, PAGE));
	STOP();
	ASSERT_SITE(move_pages_pte, src + PAGE, PAGE);
}

TEST_F(callsite, userfault_move_announces_the_huge_page)
{
	int uffd = userfault_open(UFFD_FEATURE_MOVE);
	size_t huge = huge_size();
	char *src = map_thp();
	char *dst = map_area(huge, huge, RW, PRIVATE, -1);

	if (uffd < 0 || !src)
		SKIP(return, "%s",
		     callsite_skipped("move_pages_huge_pmd", "no UFFDIO_MOVE of huge pages"));
	ASSERT_NE(NULL, dst);
	ASSERT_EQ(0, userfault_register(uffd, dst, huge,
					UFFDIO_REGISTER_MODE_MISSING));
	WATCH(src, huge);
	ASSERT_EQ(0, userfault_move(uffd, dst, src, huge));
	STOP();
	ASSERT_SITE(move_pages_huge_pmd, src, huge);
}

TEST_F(callsite, clear_refs_announces_everything)
{
	char *addr = map_anon(4);

	if (!softdirty_supported())
		SKIP(return, "%s",
		     callsite_skipped("clear_refs_soft_dirty", "no soft-dirty bits"));
	WATCH(addr, 4 * PAGE);
	ASSERT_EQ(0, file_write("/proc/self/clear_refs", "4"));
	STOP();
	ASSERT_SITE(clear_refs_soft_dirty, NULL, -1UL);
}

TEST_F(callsite, pagemap_scan_announces_what_it_protects)
{
	int uffd = userfault_open(UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED);
	char *addr = map_anon(8);

	if (uffd < 0)
		SKIP(return, "%s",
		     callsite_skipped("pagemap_scan_walk", "no asynchronous write protection"));
	ASSERT_NE(NULL, addr);
	ASSERT_EQ(0, userfault_register(uffd, addr, 8 * PAGE,
					UFFDIO_REGISTER_MODE_WP));
	WATCH(addr, 8 * PAGE);
	ASSERT_EQ(1, pagemap_protect(addr + PAGE, 4 * PAGE));
	STOP();
	ASSERT_SITE(pagemap_scan_walk, addr + PAGE, 4 * PAGE);
}

TEST_F(callsite, a_uprobe_announces_the_page_of_code)
{
	char nops[3 * 4096];
	int probe, fd = memfd_create("code", MFD_CLOEXEC);
	char *addr;

	memset(nops, 0x90, sizeof(nops));
	ASSERT_EQ(sizeof(nops), write(fd, nops, sizeof(nops)));
	addr = map_area(3 * PAGE, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd);
	ASSERT_NE(NULL, addr);
	ASSERT_EQ((char)0x90, __atomic_load_n(addr + PAGE, __ATOMIC_RELAXED));
	WATCH(addr, 3 * PAGE);
	probe = probe_file(fd, PAGE + 16);
	if (probe < 0)
		SKIP(return, "%s", callsite_skipped("__replace_pte", "no uprobes"));
	EXPECT_NE((char)0x90, __atomic_load_n(addr + PAGE + 16, __ATOMIC_RELAXED));
	close(probe);
	STOP();
	ASSERT_SITE(__replace_pte, addr + PAGE, PAGE);
}

TEST_F(callsite, the_reaper_does_not_sleep_and_can_be_refused)
{
	struct recording willing;
	const struct mmu_recorder_record *reap;
	char *addr = map_anon(4);
	pid_t pid;
	int go;

	ASSERT_NE(NULL, addr);
	ASSERT_EQ(0, recording_open(&willing));
	pid = fork_waiting(&go);
	ASSERT_LT(0, pid);
	/* The subscriber that attaches last is called first. */
	ASSERT_EQ(0, recording_attach(&self->rec, pid));
	ASSERT_EQ(0, recording_attach(&willing, pid));
	ASSERT_EQ(0, stop_at_exit(pid));

	ASSERT_EQ(0, recording_set_mode(&self->rec, MMU_RECORDER_REFUSE_NONBLOCK));
	WATCH(addr, 4 * PAGE);
	ASSERT_EQ(0, recording_watch(&willing, addr, 4 * PAGE));
	EXPECT_EQ(-1, mrelease(pid));
	EXPECT_EQ(EAGAIN, errno);
	STOP();
	reap = recording_find(&self->rec, MMU_RECORDER_START, UNMAP, NULL);
	ASSERT_NE(NULL, reap);
	EXPECT_EQ(MMU_RECORDER_REFUSED, reap->flags);
	EXPECT_EQ(0, recording_count(&self->rec, MMU_RECORDER_END));
	ASSERT_EQ(0, recording_stop(&willing));
	EXPECT_LT(0, recording_count(&willing, MMU_RECORDER_START));
	EXPECT_TRUE(recording_balanced(&willing));

	ASSERT_EQ(0, recording_set_mode(&self->rec, 0));
	WATCH(addr, 4 * PAGE);
	EXPECT_EQ(0, mrelease(pid));
	STOP();
	reap = callsite_claim(&self->rec, "__oom_reap_task_mm", addr, 4 * PAGE);
	ASSERT_NE(NULL, reap);
	EXPECT_EQ(0, reap->flags & MMU_RECORDER_BLOCKABLE);
	recording_close(&willing);
}

/* A separate fixture runs last: it checks what the tests have reached. */
FIXTURE(table)
{
};

FIXTURE_SETUP(table)
{
}

FIXTURE_TEARDOWN(table)
{
}

TEST_F(table, every_call_site_was_seen_or_is_named)
{
	if (access("/dev/mmu_notifier_recorder", R_OK | W_OK))
		SKIP(return, "no /dev/mmu_notifier_recorder, or not root");
	EXPECT_EQ(0, callsites_report());
}

TEST_HARNESS_MAIN
