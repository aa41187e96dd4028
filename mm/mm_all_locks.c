// SPDX-License-Identifier: GPL-2.0
/*
 * Take every lock under which the page tables of one mm are changed.
 *
 * The VMA locks exclude faults. The i_mmap_rwsem of each mapping and the rwsem of each
 * anon_vma root exclude changes that start from a page or a file. With all of them
 * held, no invalidation is in flight. mmu_notifier_arm.c depends on that.
 *
 * Lock order: mmap_lock for write, which keeps the set of VMAs, mappings and anon_vmas
 * constant; all VMA locks; i_mmap_rwsem of hugetlb mappings; i_mmap_rwsem of all other
 * mappings; anon_vma roots. mm/rmap.c has the same order. Within each of these groups
 * the order does not matter: no other code holds two locks of one group, and
 * mm_all_locks_mutex serialises the callers of this file.
 *
 * Walking the VMAs costs more than taking the locks. One walk takes the VMA locks and
 * lists the other objects, with their group in the low bits. The list is allocated
 * before any lock is taken. If it cannot be allocated or is too short, the VMAs are
 * walked again for each group.
 *
 * Many VMAs share a mapping or a root, which must be locked once. A mark in the object
 * says that it is locked here: AS_MM_ALL_LOCKS of a mapping, and bit 0 of the tree
 * pointer of a root. Bit 0 is set and cleared under the root's rwsem only. It is read
 * without the rwsem, but only under mm_all_locks_mutex, which setting it requires, too.
 *
 * VMA locks are released by mmap_write_unlock(), so dropping skips them.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <kunit/visibility.h>
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#include "mmu_notifier.h"

/* Stored in the low bits of listed objects, whose alignment is larger. */
enum mm_lock_group {
	MM_LOCKS_HUGETLB,
	MM_LOCKS_FILE,
	MM_LOCKS_ANON,
	MM_LOCKS_NR_GROUPS,
	MM_LOCKS_GROUP_MASK = 3,
};

/**
 * struct mm_locks - the locks to take besides those of the VMAs
 * @mm: the mm
 * @objects: mappings and roots, with their group; may contain duplicates
 * @nr: number of entries in @objects
 * @max: size of @objects
 * @complete: @objects has all of them
 * @groups: bit mask of the groups that occur
 * @group: the group that is being locked
 * @interruptible: return -EINTR when a signal is pending
 */
struct mm_locks {
	struct mm_struct *mm;
	unsigned long *objects;
	unsigned long nr;
	unsigned long max;
	bool complete;
	unsigned int groups;
	enum mm_lock_group group;
	bool interruptible;
};

typedef void mm_locks_visit_t(struct mm_locks *locks, void *object,
			      enum mm_lock_group group);

/* Held from take to drop. Protects the marks in the objects, and mm_all_locks. */
static DEFINE_MUTEX(mm_all_locks_mutex);
static struct mm_locks mm_all_locks;

/* Limit for the length of the list; tests make it short. */
VISIBLE_IF_KUNIT unsigned long mm_all_locks_max = ULONG_MAX;

/* Only VMAs that were forked several times have more than two objects. */
static void mm_locks_init(struct mm_locks *locks, struct mm_struct *mm, bool interruptible)
{
	unsigned long max = min(2UL * mm->map_count, mm_all_locks_max);

	*locks = (struct mm_locks){ .mm = mm, .interruptible = interruptible };
	locks->objects = kvmalloc_array(max, sizeof(*locks->objects),
					GFP_KERNEL | __GFP_NOWARN);
	if (!ZERO_OR_NULL_PTR(locks->objects))
		locks->max = max;
	locks->complete = true;
}

static bool mm_locks_interrupted(const struct mm_locks *locks)
{
	return locks->interruptible && signal_pending(current);
}

static void vma_visit_locks(struct mm_locks *locks, struct vm_area_struct *vma,
			    mm_locks_visit_t *visit)
{
	struct anon_vma_chain *avc;

	if (vma->vm_file && vma->vm_file->f_mapping)
		visit(locks, vma->vm_file->f_mapping,
		      is_vm_hugetlb_page(vma) ? MM_LOCKS_HUGETLB : MM_LOCKS_FILE);
	list_for_each_entry(avc, &vma->anon_vma_chain, same_vma)
		visit(locks, avc->anon_vma->root, MM_LOCKS_ANON);
}

static int mm_visit_vmas(struct mm_locks *locks, mm_locks_visit_t *visit)
{
	VMA_ITERATOR(vmi, locks->mm, 0);
	struct vm_area_struct *vma;

	for_each_vma(vmi, vma) {
		if (mm_locks_interrupted(locks))
			return -EINTR;
		vma_visit_locks(locks, vma, visit);
	}
	return 0;
}

static int mm_visit_locks(struct mm_locks *locks, mm_locks_visit_t *visit)
{
	unsigned long i;

	if (unlikely(!locks->complete))
		return mm_visit_vmas(locks, visit);
	for (i = 0; i < locks->nr; i++) {
		enum mm_lock_group group = locks->objects[i] & MM_LOCKS_GROUP_MASK;

		if (mm_locks_interrupted(locks))
			return -EINTR;
		visit(locks, (void *)(locks->objects[i] - group), group);
	}
	return 0;
}

static void mm_locks_add(struct mm_locks *locks, void *object, enum mm_lock_group group)
{
	unsigned long tagged = (unsigned long)object | group;

	locks->groups |= BIT(group);
	/* Neighbouring VMAs share objects most of the time. */
	if (locks->nr && locks->objects[locks->nr - 1] == tagged)
		return;
	if (likely(locks->nr < locks->max))
		locks->objects[locks->nr++] = tagged;
	else
		locks->complete = false;
}

/* Takes the VMA locks and lists the other objects. */
static int mm_lock_vmas(struct mm_locks *locks)
{
	VMA_ITERATOR(vmi, locks->mm, 0);
	struct vm_area_struct *vma;

	for_each_vma(vmi, vma) {
		if (mm_locks_interrupted(locks))
			return -EINTR;
		vma_start_write(vma);
		vma_visit_locks(locks, vma, mm_locks_add);
	}
	return 0;
}

static unsigned long *anon_root_mark(struct anon_vma *root)
{
	return (unsigned long *)&root->rb_root.rb_root.rb_node;
}

static void mapping_lock_once(struct address_space *mapping, struct mm_struct *mm)
{
	/* Atomic operations, because others change other bits of flags. */
	if (test_bit(AS_MM_ALL_LOCKS, &mapping->flags))
		return;
	down_write_nest_lock(&mapping->i_mmap_rwsem, &mm->mmap_lock);
	set_bit(AS_MM_ALL_LOCKS, &mapping->flags);
}

static void mapping_unlock_once(struct address_space *mapping)
{
	if (test_and_clear_bit(AS_MM_ALL_LOCKS, &mapping->flags))
		i_mmap_unlock_write(mapping);
}

static void anon_root_lock_once(struct anon_vma *root, struct mm_struct *mm)
{
	/* Others change the rest of the word under the rwsem, but never this bit. */
	if (READ_ONCE(*anon_root_mark(root)) & 1)
		return;
	down_write_nest_lock(&root->rwsem, &mm->mmap_lock);
	*anon_root_mark(root) |= 1;
}

static void anon_root_unlock_once(struct anon_vma *root)
{
	if (!(*anon_root_mark(root) & 1))
		return;
	*anon_root_mark(root) &= ~1UL;
	up_write(&root->rwsem);
}

static void mm_lock_one(struct mm_locks *locks, void *object, enum mm_lock_group group)
{
	if (group != locks->group)
		return;
	if (group == MM_LOCKS_ANON)
		anon_root_lock_once(object, locks->mm);
	else
		mapping_lock_once(object, locks->mm);
}

static void mm_unlock_one(struct mm_locks *locks, void *object, enum mm_lock_group group)
{
	if (group == MM_LOCKS_ANON)
		anon_root_unlock_once(object);
	else
		mapping_unlock_once(object);
}

static int __mm_take_all_locks(struct mm_struct *mm, bool interruptible)
{
	struct mm_locks *locks = &mm_all_locks, fresh;
	int ret;

	mmap_assert_write_locked(mm);
	/* Allocate first: those who wait for the mutex should not wait for reclaim. */
	mm_locks_init(&fresh, mm, interruptible);
	mutex_lock(&mm_all_locks_mutex);
	*locks = fresh;
	ret = mm_lock_vmas(locks);
	for (locks->group = 0; locks->group < MM_LOCKS_NR_GROUPS && !ret; locks->group++)
		if (locks->groups & BIT(locks->group))
			ret = mm_visit_locks(locks, mm_lock_one);
	if (ret)
		mm_drop_all_locks(mm);
	return ret;
}

/**
 * mm_take_all_locks() - exclude everything that changes page tables of an mm
 * @mm: the mm
 *
 * Takes a few locks for each VMA, of which there may be thousands.
 *
 * Context: mmap_lock held for write until mm_drop_all_locks(). The caller must not have
 * taken all locks of another mm. Sleeps.
 * Return: 0, or -EINTR if a signal is pending; then nothing is locked.
 */
int mm_take_all_locks(struct mm_struct *mm)
{
	return __mm_take_all_locks(mm, true);
}

/**
 * mm_take_all_locks_uninterruptible() - mm_take_all_locks() that cannot fail
 * @mm: the mm
 *
 * Context: as mm_take_all_locks().
 */
void mm_take_all_locks_uninterruptible(struct mm_struct *mm)
{
	__mm_take_all_locks(mm, false);
}

/**
 * mm_drop_all_locks() - undo mm_take_all_locks()
 * @mm: the mm
 *
 * Context: mmap_lock held for write since mm_take_all_locks().
 */
void mm_drop_all_locks(struct mm_struct *mm)
{
	struct mm_locks *locks = &mm_all_locks;
	unsigned long *objects = locks->objects;

	mmap_assert_write_locked(mm);
	lockdep_assert_held(&mm_all_locks_mutex);
	locks->interruptible = false;
	mm_visit_locks(locks, mm_unlock_one);
	mutex_unlock(&mm_all_locks_mutex);
	kvfree(objects);
}
