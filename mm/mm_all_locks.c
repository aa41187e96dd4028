// SPDX-License-Identifier: GPL-2.0
/*
 * Take every lock under which page tables of one mm are changed.
 *
 * Faults are kept out by the VMA locks, everything that comes from a page or a
 * file by the i_mmap_rwsem of each mapping and the rwsem of each anon_vma root.
 * With all of them held, no invalidation is in flight: that is how an mm is
 * armed (mmu_notifier_arm.c).
 *
 * Order, after mmap_lock (for write: the set of VMAs, mappings and anon_vmas
 * stands still): all VMA locks; i_mmap_rwsem of hugetlb mappings; of all other
 * mappings; anon_vma roots. That is the order of mm/rmap.c. Within one group
 * the order is free, because nobody else holds two of a group who does not come
 * through here, and here there is one at a time (mm_all_locks_mutex).
 *
 * A mapping or a root is shared by many VMAs and must be locked once. Being
 * locked by us is noted in the object: AS_MM_ALL_LOCKS of the mapping, and bit
 * 0 of the root's tree pointer. The latter is written, read and cleared only
 * under the root's rwsem or, by us, while nobody but us can set it.
 *
 * VMA locks are released by mmap_write_unlock(), so dropping skips them.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/sched/signal.h>

#include "mmu_notifier.h"

/* Held from take to drop. Protects the marks of what is locked. */
static DEFINE_MUTEX(mm_all_locks_mutex);

/* The groups that are present, so that a pass without work is not made. */
enum mm_lock_group {
	MM_LOCKS_HUGETLB	= BIT(0),
	MM_LOCKS_FILE		= BIT(1),
	MM_LOCKS_ANON		= BIT(2),
};

static struct address_space *vma_mapping(const struct vm_area_struct *vma)
{
	return vma->vm_file ? vma->vm_file->f_mapping : NULL;
}

static enum mm_lock_group vma_file_group(struct vm_area_struct *vma)
{
	return is_vm_hugetlb_page(vma) ? MM_LOCKS_HUGETLB : MM_LOCKS_FILE;
}

static unsigned long *anon_root_mark(struct anon_vma *root)
{
	return (unsigned long *)&root->rb_root.rb_root.rb_node;
}

static void mapping_lock_once(struct address_space *mapping, struct mm_struct *mm)
{
	/* Other bits of flags are not ours, hence the atomic operations. */
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
	/* Others change the rest of the word under the rwsem, never this bit. */
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

static void vma_lock_group(struct vm_area_struct *vma, enum mm_lock_group group)
{
	struct anon_vma_chain *avc;

	if (group == MM_LOCKS_ANON) {
		list_for_each_entry(avc, &vma->anon_vma_chain, same_vma)
			anon_root_lock_once(avc->anon_vma->root, vma->vm_mm);
	} else if (vma_mapping(vma) && vma_file_group(vma) == group) {
		mapping_lock_once(vma_mapping(vma), vma->vm_mm);
	}
}

/* The VMA locks; returns which groups of other locks there are. */
static int mm_lock_vmas(struct mm_struct *mm, bool interruptible)
{
	struct vm_area_struct *vma;
	struct vma_iterator vmi;
	unsigned int groups = 0;

	vma_iter_init(&vmi, mm, 0);
	for_each_vma(vmi, vma) {
		if (interruptible && signal_pending(current))
			return -EINTR;
		vma_start_write(vma);
		if (vma_mapping(vma))
			groups |= vma_file_group(vma);
		if (vma->anon_vma)
			groups |= MM_LOCKS_ANON;
	}
	return groups;
}

static int mm_lock_group(struct mm_struct *mm, enum mm_lock_group group,
			 bool interruptible)
{
	struct vm_area_struct *vma;
	struct vma_iterator vmi;

	vma_iter_init(&vmi, mm, 0);
	for_each_vma(vmi, vma) {
		if (interruptible && signal_pending(current))
			return -EINTR;
		vma_lock_group(vma, group);
	}
	return 0;
}

static int __mm_take_all_locks(struct mm_struct *mm, bool interruptible)
{
	enum mm_lock_group group;
	int groups, ret = 0;

	mmap_assert_write_locked(mm);
	mutex_lock(&mm_all_locks_mutex);
	groups = mm_lock_vmas(mm, interruptible);
	if (groups < 0) {
		mutex_unlock(&mm_all_locks_mutex);
		return groups;
	}
	for (group = MM_LOCKS_HUGETLB; group <= MM_LOCKS_ANON && !ret; group <<= 1)
		if (groups & group)
			ret = mm_lock_group(mm, group, interruptible);
	if (ret)
		mm_drop_all_locks(mm);
	return ret;
}

/**
 * mm_take_all_locks() - keep out everything that changes page tables of an mm
 * @mm: the mm
 *
 * Costs some locks for each VMA, of which there may be thousands.
 *
 * Context: mmap_lock held for write, and not given back before
 * mm_drop_all_locks(); no other mm is locked like this by the caller. Sleeps.
 * Return: 0, or -EINTR with nothing locked if a signal is pending.
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
 * Context: mmap_lock still held for write since then.
 */
void mm_drop_all_locks(struct mm_struct *mm)
{
	struct vm_area_struct *vma;
	struct anon_vma_chain *avc;
	struct vma_iterator vmi;

	mmap_assert_write_locked(mm);
	lockdep_assert_held(&mm_all_locks_mutex);
	vma_iter_init(&vmi, mm, 0);
	for_each_vma(vmi, vma) {
		list_for_each_entry(avc, &vma->anon_vma_chain, same_vma)
			anon_root_unlock_once(avc->anon_vma->root);
		if (vma_mapping(vma))
			mapping_unlock_once(vma_mapping(vma));
	}
	mutex_unlock(&mm_all_locks_mutex);
}
