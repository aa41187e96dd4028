/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of the MMU notifier torture share. The whole is explained in
 * mmu_notifier_torture.c.
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
#define TORTURE_OPEN		32	/* ranges that one list notifier follows */
#define TORTURE_SEQS		16	/* sequence values that a notifier recalls */
#define TORTURE_LATE		(30 * HZ)	/* longer than this is never */

/*
 * The torture is also built as a module for kernels that do not have this core: what
 * it holds to be true has to be true of the contract, not of one implementation. This
 * is the only place that knows of two cores. It names what the other one has not got,
 * and what it does not promise.
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

/* An mm that was not armed when a range started does not have it recorded. */
static inline bool torture_recorded(const struct mmu_notifier_range *range)
{
	return range->shard;
}

#else

/* Ranges without the mmap_lock need an mm that is known to be armed. */
#define TORTURE_NEVER							\
	(BIT_ULL(MMU_TORTURE_POSTED) | BIT_ULL(MMU_TORTURE_RANGES_UNLOCKED) |	\
	 BIT_ULL(MMU_TORTURE_ARMS) | BIT_ULL(MMU_TORTURE_DISARMS))
/* Ranges that are open at the same time have one sequence value. */
#define TORTURE_RANGES_SHARE_SEQ	true
/* Not in the tree before the ranges are over; until then read_begin waits. */
#define TORTURE_INSERTS_LATE		true
/* A notifier that has an end must not refuse. */
#define TORTURE_LISTS_REFUSE		false

#define torture_phased_ops		torture_interval_ops

/* Ranges are recorded since there was an interval notifier. */
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
 * struct torture_sub - what all subscribers have
 * @session: whose it is
 * @live: callbacks may run: from before it subscribes until after it left
 * @running: callbacks that run
 * @released: calls of release
 * @quarantine: &torture_session.dead, so that a late callback is recognised
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
 * @handed: a reference of get that a callback is to put, or puts
 * @lock: protects @open
 * @open: ranges that were started and have not ended
 * @open_key: their addresses, by which they are found, or NULL
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
 * struct torture_interval - an interval notifier, and the device behind it
 * @sub: the common part, first
 * @mni: the notifier
 * @slot: its place; the slot's device lock protects the fields below
 * @pfns: what the device has mapped, from the interval's first page on: as
 *	hmm_range_fault() gave it, or 0
 * @seqs: sequence values that were set or given, latest at @nr_seqs - 1
 * @nr_seqs: how many there have been
 * @heard: the latest marker of a range that called it
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
 * struct torture_kind - how one kind of subscriber comes and goes
 * @attach: fill an empty slot; its life lock is held
 * @detach: empty it
 */
struct torture_kind {
	void (*attach)(struct torture_slot *slot, struct rnd_state *rnd);
	void (*detach)(struct torture_slot *slot);
};

/**
 * struct torture_slot - a place for a subscriber
 * @session: whose it is
 * @kind: what comes here
 * @life: protects @sub; no callback takes it, so it is held over everything
 * @device: taken by callbacks; protects the device's mappings, and @interval
 * @sub: the subscriber, or NULL
 * @interval: the same, from before it is inserted until after it was removed
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
 * struct torture_made - the range that the torture itself has open
 * @id: its marker, or 0; the others are valid if it is the same before and after
 * @start: first address
 * @end: first address behind it
 */
struct torture_made {
	unsigned long id;
	unsigned long start;
	unsigned long end;
};

/* What one thread is waiting in, for the watchdog; since is 0 if in nothing. */
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
 * @mm: which; a reference on mm_count is held
 * @start: of the arena
 * @end: of the arena
 * @quiet: leave the mm alone
 * @may_be_quiet: MMU_TORTURE_QUIET
 * @nr_steps: of TORTURE_SUBSCRIBE, if so
 * @random: source of choices in callbacks
 * @made: the open range of TORTURE_RANGES
 * @slots: places for subscribers; even ones list notifiers, odd ones intervals
 * @shared: what get returned, as long as @nr_refs
 * @nr_refs: references on it that TORTURE_SUBSCRIBE has
 * @nr_alive: shared notifiers that are not freed
 * @lock: protects @dead
 * @dead: subscribers that left, kept for a while
 * @nr_dead: how many
 * @watch: of each thread
 * @tasks: the threads
 * @seed: of the random choices
 * @sessions: the list of all
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
