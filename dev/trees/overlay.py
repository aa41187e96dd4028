#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Keep a work tree equal to stock + patches/ + the files this project owns.

usage: overlay.py sync WORK       bring WORK up to date with this checkout
       overlay.py refresh WORK    write WORK's commits back to patches/
       overlay.py plain WORK      build the chain for mailing, print its tip

The chain is the base commit and one commit per line of patches/series: the
patch, plus the owned files that dev/trees/owned assigns to it.  It is computed from
text alone, in a temporary index that holds only the paths patches touch; git
fast-import makes the commits (fixed dates: equal input, equal hashes) and
`git reset --keep` moves the work tree, so a file that did not change keeps its
time stamp and make rebuilds only what it must.

Nothing of a developer's is ever overwritten: uncommitted changes and commits
that patches/ does not know stop the sync (DIRTY=1 builds them as they are).
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from lib.common import fail, git, note
from trees import owned, refresh
from trees.chain import Chain


def dirty_paths(work):
    out = git(work, "status", "--porcelain", "-uno", "--no-renames", "-z")
    return [entry[3:] for entry in out.split("\0") if entry]


def refuse_lost_work(work, entries, synced, tip):
    """Stop before anything in WORK that exists nowhere else is at risk."""
    head = git(work, "rev-parse", "HEAD").strip()
    dirty = dirty_paths(work)
    mine = {entry.path for entry in entries}
    misplaced = [path for path in dirty if path in mine]
    if misplaced:
        fail("owned files were edited in the work tree; their home is the checkout:",
             *(f"  cp {work}/{p} {p}    (to keep the edit)" for p in misplaced),
             f"then: git -C {work} checkout -- {' '.join(misplaced)}")
    if os.environ.get("DIRTY"):
        return head in (synced, tip)
    if dirty:
        fail(f"uncommitted changes in {work}:", *(f"  {path}" for path in dirty[:20]),
             "commit them there (git commit, or git commit --fixup=<commit>) and run `make refresh`;",
             "DIRTY=1 uses the tree as it stands")
    if head not in (synced, tip):
        fail(f"{work} has commits that patches/ does not know:",
             *git(work, "log", "--oneline", "-20", f"{synced}..HEAD").splitlines(),
             "run `make refresh`, or throw them away: "
             f"git -C {work} reset --keep refs/pinless/synced",
             "DIRTY=1 uses the tree as it stands")
    return True


def sync(work):
    entries = owned.load()
    series = owned.load_series()
    owned.check(work, entries, series)
    tip = Chain(work, entries, series).build()
    synced = git(work, "rev-parse", "refs/pinless/synced").strip()
    if not refuse_lost_work(work, entries, synced, tip):
        note("DIRTY=1: commits that patches/ does not know; not synced")
        return
    if git(work, "rev-parse", "HEAD").strip() != tip:
        git(work, "reset", "-q", "--keep", tip)
        note(f"work tree: {len(series)} commits, {len(entries)} owned files")
    git(work, "update-ref", "refs/pinless/synced", tip)
    refresh.remember(work)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    verb, work = sys.argv[1:]
    if verb == "sync":
        sync(work)
    elif verb == "refresh":
        refresh.refresh(work)
        sync(work)
    elif verb == "plain":
        entries, series = owned.load(), owned.load_series()
        owned.check(work, entries, series)
        print(Chain(work, entries, series, trailers=False).build())
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
