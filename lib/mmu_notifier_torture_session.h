/* SPDX-License-Identifier: GPL-2.0 */
/*
 * MMU notifier torture: internal declarations. See mmu_notifier_torture.c.
 *
 * Copyright (C) 2026 the Pinless authors
 */
#ifndef _LIB_MMU_NOTIFIER_TORTURE_SESSION_H
#define _LIB_MMU_NOTIFIER_TORTURE_SESSION_H

#include <linux/atomic.h>
#include <linux/list.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/prandom.h>
#include <linux/spinlock.h>

#include "mmu_notifier_torture.h"

#define TORTURE_SLOTS		8	/* of each kind */
#define TORTURE_WINDOW		64	/* pages that a slot's device can map */
#define TORTURE_OPEN		32	/* open ranges of one list notifier */
#define TORTURE_SEQS		16	/* sequence values that are kept */
#define TORTURE_LATE		(30 * HZ)	/* a longer wait is an error */

/*
 * The torture is also built as a module for kernels with another core, since
 * its rules are those of the API, and not of one implementation. Only this
 * section depends on the core. It lists what the other core does not have, and
 * what it does not guarantee.
 */
#ifdef MMU_NOTIFIER_ARMED

#define TORTURE_NEVER			0ULL
#define TORTURE_RANGES_SHARE_SEQ	false
#define TORTURE_INSERTS_LATE		false
#define TORTURE_LISTS_REFUSE		true

extern const struct mmu_interval_notifier_ops torture_phased_ops;

static inline int torture_prepare(struct mm_struct *mm)
{
	return 0;
}

/* Was the mm armed when @range started? */
static inline bool torture_recorded(const struct mmu_notifier_range *range)
{
	return range->shard;
}

#else

/* Ranges without the mmap_lock require mmu_notifier_arm(). */
#define TORTURE_NEVER							\
	(BIT_ULL(MMU_TORTURE_POSTED) | BIT_ULL(MMU_TORTURE_RANGES_UNLOCKED) |	\
	 BIT_ULL(MMU_TORTURE_ARMS) | BIT_ULL(MMU_TORTURE_DISARMS))
/* Ranges that are open at the same time have the same sequence value. */
#define TORTURE_RANGES_SHARE_SEQ	true
/* Insertion is deferred until ranges have ended; read_begin waits for that. */
#define TORTURE_INSERTS_LATE		true
/* A list notifier with an end callback must not refuse. */
#define TORTURE_LISTS_REFUSE		false

#define torture_phased_ops		torture_interval_ops

/* In interval mode all ranges are recorded. */
static inline int torture_prepare(struct mm_struct *mm)
{
	return mmu_notifier_register(NULL, mm);
}

static inline bool torture_recorded(const struct mmu_notifier_range *range)
{
	return true;
}

static inline int mmu_notifier_arm(struct mm_struct *mm)
{
	return -EOPNOTSUPP;
}

static inline void mmu_notifier_disarm(struct mm_struct *mm)
{
}

#endif

struct torture_session;

/**
 * struct torture_sub - the common part of all subscribers
 * @session: the session
 * @live: callbacks may run; set before it subscribes, cleared after removal
 * @running: number of running callbacks
 * @released: number of calls of release
 * @quarantine: in &torture_session.dead, so that a late callback is detected
 */
struct torture_sub {
	struct torture_session *session;
	bool live;
	atomic_t running;
	atomic_t released;
	struct list_head quarantine;
};

/**
 * struct torture_list - a list notifier, registered or shared by get and put
 * @sub: the common part, first
 * @mn: the notifier
 * @handed: &enum torture_handed of a reference that a callback puts, or 0
 * @lock: protects @open
 * @open: copies of the open ranges
 * @open_key: addresses of these ranges; NULL for an unused entry
 */
struct torture_list {
	struct torture_sub sub;
	struct mmu_notifier mn;
	atomic_t handed;
	spinlock_t lock;	/* see above */
	struct mmu_notifier_range open[TORTURE_OPEN];
	const struct mmu_notifier_range *open_key[TORTURE_OPEN];
};

/**
 * struct torture_interval - an interval notifier and its device
 * @sub: the common part, first
 * @mni: the notifier
 * @slot: its slot; the device lock of the slot protects the fields below
 * @pfns: the mappings of the device, from the first page of the interval:
 * values of
 *	hmm_range_fault(), or 0
 * @seqs: ring of the last sequence values
 * @nr_seqs: number of sequence values so far
 * @heard: ID of the last range that called it
 * @in_tree: read_begin has returned since it was inserted
 */
struct torture_interval {
	struct torture_sub sub;
	struct mmu_interval_notifier mni;
	struct torture_slot *slot;
	unsigned long pfns[TORTURE_WINDOW];
	unsigned long seqs[TORTURE_SEQS];
	unsigned int nr_seqs;
	unsigned long heard;
	bool in_tree;
};

static inline struct torture_interval *torture_to_interval(struct mmu_interval_notifier *mni)
{
	return container_of(mni, struct torture_interval, mni);
}

/**
 * struct torture_kind - a kind of subscriber
 * @attach: subscribe, in an empty slot; its life lock is held
 * @detach: unsubscribe; its life lock is held
 */
struct torture_kind {
	void (*attach)(struct torture_slot *slot, struct rnd_state *rnd);
	void (*detach)(struct torture_slot *slot);
};

/**
 * struct torture_slot - a place for a subscriber
 * @session: the session
 * @kind: the kind of its subscribers
 * @life: protects @sub. No callback takes it, so it may be held while waiting
 * for
 *	callbacks
 * @device: protects the mappings of the device, and @interval. Callbacks take
 * it
 * @sub: the subscriber, or NULL
 * @interval: the interval notifier, from its insertion until after its removal
 */
struct torture_slot {
	struct torture_session *session;
	const struct torture_kind *kind;
	struct mutex life;	/* see above */
	struct mutex device;	/* see above */
	struct torture_sub *sub;
	struct torture_interval *interval;
};

/**
 * struct torture_made - an open range that the torture announces
 * @id: its ID, or 0. @start and @end are valid if @id is the same before and
 * after
 *	they are read
 * @start: first address
 * @end: first address past the range
 */
struct torture_made {
	unsigned long id;
	unsigned long start;
	unsigned long end;
};

/* For the watchdog: the call in which a thread waits, and since when, or 0. */
struct torture_watch {
	const char *what;
	unsigned long since;
};

enum torture_thread {
	TORTURE_SUBSCRIBE,
	TORTURE_DEVICE,
	TORTURE_RANGES,
	TORTURE_NR_THREADS,
};

/**
 * struct torture_session - the torture of one mm
 * @mm: the mm; a reference on mm_count is held
 * @start: first address of the arena
 * @end: first address past the arena
 * @quiet: the threads pause
 * @may_be_quiet: MMU_TORTURE_QUIET was given
 * @nr_steps: steps of TORTURE_SUBSCRIBE, to time the pauses
 * @random: state for random choices in callbacks
 * @made: the open range of TORTURE_RANGES
 * @slots: even ones for list notifiers, odd ones for interval notifiers
 * @shared: the notifier that mmu_notifier_get() returned; valid if @nr_refs
 * @nr_refs: references to it that TORTURE_SUBSCRIBE holds
 * @nr_alive: shared notifiers that are not freed yet
 * @lock: protects @dead
 * @dead: removed subscribers, which are freed later
 * @nr_dead: number of these
 * @watch: the state of each thread
 * @tasks: the threads
 * @seed: seed of the random choices
 * @sessions: in the list of all sessions
 */
struct torture_session {
	struct mm_struct *mm;
	unsigned long start;
	unsigned long end;
	bool quiet;
	bool may_be_quiet;
	unsigned int nr_steps;
	atomic_t random;
	struct torture_made made;
	struct torture_slot slots[2 * TORTURE_SLOTS];
	struct torture_list *shared;
	unsigned int nr_refs;
	atomic_t nr_alive;
	spinlock_t lock;	/* see above */
	struct list_head dead;
	unsigned int nr_dead;
	struct torture_watch watch[TORTURE_NR_THREADS];
	struct task_struct *tasks[TORTURE_NR_THREADS];
	u64 seed;
	struct list_head sessions;
};

extern const struct torture_kind torture_list_kind;
extern const struct torture_kind torture_interval_kind;

extern atomic64_t torture_counts[MMU_TORTURE_NR_COUNTERS];

#define torture_count(_name)	atomic64_inc(&torture_counts[MMU_TORTURE_##_name])

/* mmu_notifier_torture.c */
__printf(2, 3)
void torture_error(struct torture_session *session, const char *fmt, ...);
struct torture_session *torture_find(struct mm_struct *mm);
bool torture_chance(struct torture_session *session, unsigned int one_in);
void torture_sub_init(struct torture_sub *sub, struct torture_session *session);
void torture_bury(struct torture_sub *sub);
void torture_enter(struct torture_sub *sub, const char *callback);
void torture_leave(struct torture_sub *sub, const char *callback);
void torture_left(struct torture_sub *sub, const char *how);
/* Copy what a subscriber may read. The core writes the rest while the range is active. */
static inline void torture_copy_range(struct mmu_notifier_range *to,
				      const struct mmu_notifier_range *from)
{
	to->mm = from->mm;
	to->start = from->start;
	to->end = from->end;
	to->owner = from->owner;
	to->event = from->event;
	to->flags = from->flags;
}

void torture_dawdle(struct torture_session *session,
		    const struct mmu_notifier_range *range);
void torture_watch_begin(struct torture_session *session,
			 enum torture_thread thread, const char *what);
void torture_watch_end(struct torture_session *session,
		       enum torture_thread thread);

/* mmu_notifier_torture_interval.c, for mmu_notifier_torture_phased.c */
void torture_note_seq(struct torture_interval *interval, unsigned long seq);
void torture_drop(struct torture_interval *interval, const struct mmu_notifier_range *range);
bool torture_invalidate(struct mmu_interval_notifier *mni,
			const struct mmu_notifier_range *range, unsigned long seq);

/* mmu_notifier_torture_list.c */
bool torture_list_has(struct torture_list *list, const struct mmu_notifier_range *range);
void torture_shared_get(struct torture_session *session);
void torture_shared_put(struct torture_session *session);
void torture_shared_hand(struct torture_session *session);

/* mmu_notifier_torture_interval.c */
void torture_device_step(struct torture_session *session, struct rnd_state *rnd);
void torture_audit(struct torture_session *session,
		   const struct mmu_notifier_range *range);

/* mmu_notifier_torture_range.c */
void torture_range_step(struct torture_session *session, struct rnd_state *rnd);
bool torture_made_read(struct torture_session *session, struct torture_made *made);
bool torture_made_lasts(struct torture_session *session, const struct torture_made *made);

#endif /* _LIB_MMU_NOTIFIER_TORTURE_SESSION_H */
