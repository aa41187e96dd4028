// SPDX-License-Identifier: GPL-2.0
/*
 * mm_take_all_locks(): it takes each lock once and in the right order, and a
 * signal in the middle makes it drop all of them.
 *
 * The mm of each test has VMAs of two files, of one anon_vma and of a hugetlb
 * file. Except for hugetlb, neighbouring VMAs have no lock in common. To stop
 * mm_take_all_locks() at a lock, the test holds that lock.
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

/* The objects, in the order in which they must be locked. */
enum locks_object {
	LOCKS_HUGETLB,
	LOCKS_FILE,
	LOCKS_OTHER_FILE,
	LOCKS_ROOT,
	LOCKS_NR_OBJECTS,
};

/*
 * The object at which to stop, and the limit for the list of objects. With a
 * short list the VMAs are walked again. 0 simulates a failed allocation of the
 * list.
 */
struct locks_param {
	const char *name;
	enum locks_object object;
	unsigned long max;
};

static const struct locks_param locks_params[] = {
	{ "hugetlb file, full list", LOCKS_HUGETLB, ULONG_MAX },
	{ "hugetlb file, short list", LOCKS_HUGETLB, 1 },
	{ "hugetlb file, no list", LOCKS_HUGETLB, 0 },
	{ "first file, full list", LOCKS_FILE, ULONG_MAX },
	{ "first file, short list", LOCKS_FILE, 1 },
	{ "first file, no list", LOCKS_FILE, 0 },
	{ "second file, full list", LOCKS_OTHER_FILE, ULONG_MAX },
	{ "second file, short list", LOCKS_OTHER_FILE, 1 },
	{ "second file, no list", LOCKS_OTHER_FILE, 0 },
	{ "anon_vma, full list", LOCKS_ROOT, ULONG_MAX },
	{ "anon_vma, short list", LOCKS_ROOT, 1 },
	{ "anon_vma, no list", LOCKS_ROOT, 0 },
};
KUNIT_ARRAY_PARAM_DESC(locks, locks_params, name);

/* The VMAs of the test's mm, and their objects. */
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

#ifdef CONFIG_HUGETLBFS
static bool locks_have_hugetlb(void)
{
	return hugepages_supported();
}

/* Map a hugetlb file twice. */
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
#else
static bool locks_have_hugetlb(void)
{
	return false;
}

static void locks_map_hugetlb(struct kunit *test, struct locks_areas *areas)
{
}
#endif

/* Map anonymous memory, and replace every other page by one of the files. */
static void locks_map_pages(struct kunit *test, struct locks_areas *areas)
{
	int i;

	/* At lower addresses than hugetlb, which is locked first anyway. */
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

/* Does the mark in the object say that mm_take_all_locks() has locked it? */
static bool locks_marked(struct locks_areas *areas, enum locks_object object)
{
	if (object == LOCKS_ROOT)
		return (unsigned long)READ_ONCE(areas->root->rb_root.rb_root.rb_node) & 1;
	return test_bit(AS_MM_ALL_LOCKS, &areas->files[object]->f_mapping->flags);
}

/* Expect that exactly the objects before @end are locked. */
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
	if (!IS_ENABLED(CONFIG_PER_VMA_LOCK))
		return;
	vma = lock_vma_under_rcu(areas->mm, areas->base);
	KUNIT_EXPECT_NOT_NULL(test, vma);
	if (vma)
		vma_end_read(vma);
}

/* A thread that takes all locks, and its results. */
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

/*
 * The thread waits for @go. The test can create it first and take a lock later,
 * and then allocates nothing under the lock.
 */
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

/* Would hang if a previous attempt had left mm_all_locks_mutex locked. */
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

	if (!locks_have_hugetlb())
		kunit_skip(test, "no hugetlbfs");
	KUNIT_ASSERT_NOT_NULL(test, areas);
	locks_make(test, areas);
	return areas;
}

static void each_object_is_locked_once_and_unlocked(struct kunit *test)
{
	static const unsigned long maxes[] = { ULONG_MAX, 1, 0 };
	struct locks_areas *areas = locks_areas(test);
	int i;

	for (i = 0; i < ARRAY_SIZE(maxes); i++)
		locks_expect_taken(test, areas, maxes[i]);
}

/* Does another task wait for a lock that is held for writing? */
static bool locks_awaited(struct rw_semaphore *rwsem)
{
#ifdef CONFIG_PREEMPT_RT
	/* Here rwsem_is_contended() is true of each lock that is held for writing. */
	return !RB_EMPTY_ROOT(&rwsem->rwbase.rtmutex.waiters.rb_root);
#else
	return rwsem_is_contended(rwsem);
#endif
}

/*
 * Send a signal while the thread waits for the object that the test has locked.
 * The objects that are locked at that point show the order.
 */
static struct locks_taker *locks_interrupt(struct kunit *test, struct locks_areas *areas,
					   bool interruptible)
{
	const struct locks_param *param = test->param_value;
	struct rw_semaphore *rwsem = locks_rwsem(areas, param->object);
	struct locks_taker *taker = locks_start(test, areas, param->max, interruptible);

	down_write(rwsem);
	complete(&taker->go);
	mmu_test_wait(test, locks_awaited(rwsem));
	locks_expect_until(test, areas, param->object);
	send_sig(SIGTERM, taker->task, 1);
	up_write(rwsem);
	mmu_test_join(test, &taker->thread);
	return taker;
}

static void a_signal_in_the_middle_drops_all_locks(struct kunit *test)
{
	const struct locks_param *param = test->param_value;
	struct locks_areas *areas = locks_areas(test);
	struct locks_taker *taker = locks_interrupt(test, areas, true);

	KUNIT_EXPECT_EQ(test, -EINTR, taker->ret);
	locks_expect_free(test, areas);
	locks_expect_taken(test, areas, param->max);
}

static void a_signal_does_not_stop_uninterruptible_locking(struct kunit *test)
{
	struct locks_areas *areas = locks_areas(test);
	struct locks_taker *taker = locks_interrupt(test, areas, false);

	KUNIT_EXPECT_EQ(test, LOCKS_NR_OBJECTS, taker->nr_marked);
	locks_expect_free(test, areas);
}

static void a_pending_signal_locks_nothing(struct kunit *test)
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
	KUNIT_CASE(each_object_is_locked_once_and_unlocked),
	KUNIT_CASE_PARAM(a_signal_in_the_middle_drops_all_locks,
			 locks_gen_params),
	KUNIT_CASE_PARAM(a_signal_does_not_stop_uninterruptible_locking,
			 locks_gen_params),
	KUNIT_CASE(a_pending_signal_locks_nothing),
	{}
};

static struct kunit_suite test_suite = {
	.name = "mm_all_locks",
	.test_cases = test_cases,
};
kunit_test_suite(test_suite);
