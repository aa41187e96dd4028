// SPDX-License-Identifier: GPL-2.0
/*
 * mm_take_all_locks(): which locks, in which order, each of them once, and all of
 * them given back when a signal arrives in the middle.
 *
 * Each test has an mm with areas of two files, of one anon_vma and of a hugetlb
 * file, such that no two neighbours have a lock in common but for the hugetlb ones.
 * To stop in the middle, the test holds one of the locks itself.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/hugetlb.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/shmem_fs.h>
#include <linux/uaccess.h>

#include "mmu_notifier_fixture.h"

/* What is locked, in the order in which it has to be. */
enum locks_object {
	LOCKS_HUGETLB,
	LOCKS_FILE,
	LOCKS_OTHER_FILE,
	LOCKS_ROOT,
	LOCKS_NR_OBJECTS,
};

/* How long the list of objects may be: 0 is as if there were no memory for it. */
struct locks_param {
	const char *name;
	enum locks_object object;
	unsigned long max;
};

static const struct locks_param locks_params[] = {
	{ "hugetlb file from the list", LOCKS_HUGETLB, ULONG_MAX },
	{ "hugetlb file after a list that is short", LOCKS_HUGETLB, 1 },
	{ "hugetlb file without a list", LOCKS_HUGETLB, 0 },
	{ "first file from the list", LOCKS_FILE, ULONG_MAX },
	{ "first file after a list that is short", LOCKS_FILE, 1 },
	{ "first file without a list", LOCKS_FILE, 0 },
	{ "second file from the list", LOCKS_OTHER_FILE, ULONG_MAX },
	{ "second file after a list that is short", LOCKS_OTHER_FILE, 1 },
	{ "second file without a list", LOCKS_OTHER_FILE, 0 },
	{ "anon_vma from the list", LOCKS_ROOT, ULONG_MAX },
	{ "anon_vma after a list that is short", LOCKS_ROOT, 1 },
	{ "anon_vma without a list", LOCKS_ROOT, 0 },
};
KUNIT_ARRAY_PARAM_DESC(locks, locks_params, name);

/* The areas of the test's mm. */
struct locks_areas {
	struct mm_struct *mm;
	unsigned long base;
	unsigned long hugetlb;
	struct file *files[LOCKS_ROOT];
	struct anon_vma *root;
};

#define LOCKS_NR_PAGES	8

KUNIT_DEFINE_ACTION_WRAPPER(locks_fput, fput, struct file *);

static struct file *locks_file(struct kunit *test, struct file *file)
{
	KUNIT_ASSERT_FALSE(test, IS_ERR(file));
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test, locks_fput, file));
	return file;
}

static unsigned long locks_map(struct kunit *test, struct file *file, unsigned long addr,
			       unsigned long len, unsigned long flags)
{
	unsigned long at = kunit_vm_mmap(test, file, addr, len, PROT_READ | PROT_WRITE, flags, 0);

	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(at) || !at);
	return at;
}

/* One file that is mapped twice. */
static void locks_map_hugetlb(struct kunit *test, struct locks_areas *areas)
{
	unsigned long len = huge_page_size(&default_hstate);
	struct file *file;

	file = hugetlb_file_setup("mm_all_locks", len, VM_NORESERVE, HUGETLB_ANONHUGE_INODE,
				  ilog2(len));
	areas->files[LOCKS_HUGETLB] = locks_file(test, file);
	areas->hugetlb = min(locks_map(test, file, 0, len, MAP_SHARED | MAP_NORESERVE),
			     locks_map(test, file, 0, len, MAP_SHARED | MAP_NORESERVE));
}

/* Anonymous memory; a page of one file or the other replaces each second page. */
static void locks_map_pages(struct kunit *test, struct locks_areas *areas)
{
	int i;

	/* Below the hugetlb file, which is locked first all the same. */
	areas->base = locks_map(test, NULL, areas->hugetlb - PG(2 * LOCKS_NR_PAGES),
				PG(LOCKS_NR_PAGES),
				MAP_ANONYMOUS | MAP_PRIVATE | MAP_FIXED_NOREPLACE);
	KUNIT_ASSERT_EQ(test, 0, clear_user((void __user *)areas->base, PG(LOCKS_NR_PAGES)));
	for (i = 1; i < LOCKS_NR_PAGES; i += 2)
		locks_map(test, areas->files[i % 4 == 1 ? LOCKS_FILE : LOCKS_OTHER_FILE],
			  areas->base + PG(i), PAGE_SIZE, MAP_SHARED | MAP_FIXED);
}

static void locks_make(struct kunit *test, struct locks_areas *areas)
{
	int i;

	for (i = LOCKS_FILE; i < LOCKS_ROOT; i++)
		areas->files[i] = locks_file(test, shmem_file_setup("mm_all_locks", PAGE_SIZE, 0));
	locks_map_hugetlb(test, areas);
	locks_map_pages(test, areas);
	areas->mm = current->mm;
	mmap_read_lock(areas->mm);
	areas->root = find_vma(areas->mm, areas->base)->anon_vma->root;
	mmap_read_unlock(areas->mm);
}

static struct rw_semaphore *locks_rwsem(struct locks_areas *areas, enum locks_object object)
{
	return object == LOCKS_ROOT ? &areas->root->rwsem :
	       &areas->files[object]->f_mapping->i_mmap_rwsem;
}

/* Is it noted in the object that it is locked? */
static bool locks_marked(struct locks_areas *areas, enum locks_object object)
{
	if (object == LOCKS_ROOT)
		return (unsigned long)READ_ONCE(areas->root->rb_root.rb_root.rb_node) & 1;
	return test_bit(AS_MM_ALL_LOCKS, &areas->files[object]->f_mapping->flags);
}

/* Those before @end are locked, and no other. */
static void locks_expect_until(struct kunit *test, struct locks_areas *areas, int end)
{
	int i;

	for (i = 0; i < LOCKS_NR_OBJECTS; i++)
		KUNIT_EXPECT_EQ_MSG(test, i < end, locks_marked(areas, i), "object %d", i);
}

static void locks_expect_free(struct kunit *test, struct locks_areas *areas)
{
	struct vm_area_struct *vma;
	int i;

	locks_expect_until(test, areas, 0);
	for (i = 0; i < LOCKS_NR_OBJECTS; i++)
		KUNIT_EXPECT_FALSE_MSG(test, rwsem_is_locked(locks_rwsem(areas, i)),
				       "object %d", i);
	vma = lock_vma_under_rcu(areas->mm, areas->base);
	KUNIT_EXPECT_NOT_NULL(test, vma);
	if (vma)
		vma_end_read(vma);
}

/* A thread that takes all locks, and what it found. */
struct locks_taker {
	struct mmu_test_thread thread;
	struct locks_areas *areas;
	unsigned long max;
	bool interruptible;
	bool signal_first;
	struct task_struct *task;
	struct completion go;
	int ret;
	int nr_marked;
};

static void locks_take(struct locks_taker *taker)
{
	int i;

	if (taker->signal_first)
		send_sig(SIGTERM, current, 1);
	mm_all_locks_max = taker->max;
	taker->ret = 0;
	if (taker->interruptible)
		taker->ret = mm_take_all_locks(taker->areas->mm);
	else
		mm_take_all_locks_uninterruptible(taker->areas->mm);
	mm_all_locks_max = ULONG_MAX;
	if (taker->ret)
		return;
	for (i = 0; i < LOCKS_NR_OBJECTS; i++)
		if (locks_marked(taker->areas, i) &&
		    rwsem_is_locked(locks_rwsem(taker->areas, i)))
			taker->nr_marked++;
	mm_drop_all_locks(taker->areas->mm);
}

static void locks_do_take(struct mmu_test_thread *thread)
{
	struct locks_taker *taker = thread->arg;

	allow_signal(SIGTERM);
	taker->task = current;
	wait_for_completion(&taker->go);
	mmap_write_lock(taker->areas->mm);
	locks_take(taker);
	mmap_write_unlock(taker->areas->mm);
	flush_signals(current);
}

/* It waits for @go, so that no memory is needed while the test holds a lock. */
static struct locks_taker *locks_start(struct kunit *test, struct locks_areas *areas,
				       unsigned long max, bool interruptible)
{
	struct locks_taker *taker = kunit_kzalloc(test, sizeof(*taker), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, taker);
	taker->areas = areas;
	taker->max = max;
	taker->interruptible = interruptible;
	taker->thread.fn = locks_do_take;
	taker->thread.arg = taker;
	init_completion(&taker->go);
	mmu_test_run(test, &taker->thread);
	mmu_test_wait(test, READ_ONCE(taker->task));
	return taker;
}

/* Also says that the mutex of those who take all locks was given back. */
static void locks_expect_taken(struct kunit *test, struct locks_areas *areas,
			       unsigned long max)
{
	struct locks_taker *taker = locks_start(test, areas, max, true);

	complete(&taker->go);
	mmu_test_join(test, &taker->thread);
	KUNIT_EXPECT_EQ(test, 0, taker->ret);
	KUNIT_EXPECT_EQ(test, LOCKS_NR_OBJECTS, taker->nr_marked);
	locks_expect_free(test, areas);
}

static struct locks_areas *locks_areas(struct kunit *test)
{
	struct locks_areas *areas = kunit_kzalloc(test, sizeof(*areas), GFP_KERNEL);

	if (!IS_ENABLED(CONFIG_HUGETLBFS) || !hugepages_supported())
		kunit_skip(test, "no hugetlbfs");
	KUNIT_ASSERT_NOT_NULL(test, areas);
	locks_make(test, areas);
	return areas;
}

static void each_object_is_locked_once_and_given_back(struct kunit *test)
{
	static const unsigned long maxes[] = { ULONG_MAX, 1, 0 };
	struct locks_areas *areas = locks_areas(test);
	int i;

	for (i = 0; i < ARRAY_SIZE(maxes); i++)
		locks_expect_taken(test, areas, maxes[i]);
}

/*
 * The signal arrives while the taker waits for the object that the test holds. What
 * was locked until then shows that the order is right.
 */
static struct locks_taker *locks_interrupt(struct kunit *test, struct locks_areas *areas,
					   bool interruptible)
{
	const struct locks_param *param = test->param_value;
	struct rw_semaphore *rwsem = locks_rwsem(areas, param->object);
	struct locks_taker *taker = locks_start(test, areas, param->max, interruptible);

	down_write(rwsem);
	complete(&taker->go);
	mmu_test_wait(test, rwsem_is_contended(rwsem));
	locks_expect_until(test, areas, param->object);
	send_sig(SIGTERM, taker->task, 1);
	up_write(rwsem);
	mmu_test_join(test, &taker->thread);
	return taker;
}

static void a_signal_in_the_middle_gives_all_locks_back(struct kunit *test)
{
	const struct locks_param *param = test->param_value;
	struct locks_areas *areas = locks_areas(test);
	struct locks_taker *taker = locks_interrupt(test, areas, true);

	KUNIT_EXPECT_EQ(test, -EINTR, taker->ret);
	locks_expect_free(test, areas);
	locks_expect_taken(test, areas, param->max);
}

static void a_signal_does_not_stop_what_cannot_fail(struct kunit *test)
{
	struct locks_areas *areas = locks_areas(test);
	struct locks_taker *taker = locks_interrupt(test, areas, false);

	KUNIT_EXPECT_EQ(test, LOCKS_NR_OBJECTS, taker->nr_marked);
	locks_expect_free(test, areas);
}

static void a_signal_that_is_pending_locks_nothing(struct kunit *test)
{
	struct locks_areas *areas = locks_areas(test);
	struct locks_taker *taker = locks_start(test, areas, ULONG_MAX, true);

	taker->signal_first = true;
	complete(&taker->go);
	mmu_test_join(test, &taker->thread);
	KUNIT_EXPECT_EQ(test, -EINTR, taker->ret);
	locks_expect_free(test, areas);
	locks_expect_taken(test, areas, ULONG_MAX);
}

static struct kunit_case test_cases[] = {
	KUNIT_CASE(each_object_is_locked_once_and_given_back),
	KUNIT_CASE_PARAM(a_signal_in_the_middle_gives_all_locks_back, locks_gen_params),
	KUNIT_CASE_PARAM(a_signal_does_not_stop_what_cannot_fail, locks_gen_params),
	KUNIT_CASE(a_signal_that_is_pending_locks_nothing),
	{}
};

static struct kunit_suite test_suite = {
	.name = "mm_all_locks",
	.test_cases = test_cases,
};
kunit_test_suite(test_suite);
