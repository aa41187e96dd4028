# SPDX-License-Identifier: GPL-2.0
"""The way back: patches/ from the commits of the work tree."""
import hashlib
import os
import re
import tempfile

from lib.common import fail, git, IDENTITY, note, read, ROOT
from trees import owned
from trees.chain import Chain, TRAILER


def rebase(work, head, *args):
    """HEAD rebased with ARGS, by its commit; the work tree itself stays put.

    This happens in a second, empty (sparse) work tree: rewinding the real one
    would touch every file of the series, and make would rebuild them all.
    """
    with tempfile.TemporaryDirectory() as tmp:
        side = os.path.join(tmp, "side")
        git(work, "worktree", "add", "-q", "--detach", "--no-checkout", side, head)
        try:
            git(side, "sparse-checkout", "set", "--no-cone", "/.nothing")
            git(side, "read-tree", "-mu", "HEAD")
            code, out, err = git(side, "-c", "sequence.editor=true", "-c", "core.editor=true",
                                 "rebase", "-q", "--empty=keep", *args, ok=True)
            if code:
                fail("the commits of the work tree do not rebase by themselves:", out.rstrip(),
                     err.rstrip(), f"in {work}: git rebase {' '.join(args)}, then make refresh")
            return git(side, "rev-parse", "HEAD").strip()
        finally:
            git(work, "worktree", "remove", "--force", side)


def squash(work, head):
    """HEAD with every fixup!/squash! commit folded in."""
    subjects = git(work, "log", "--format=%s", f"base..{head}")
    if not re.search(r"^(fixup|squash|amend)! ", subjects, re.M):
        return head
    done = rebase(work, head, "-i", "--autosquash", "base")
    if git(work, "rev-parse", f"{done}^{{tree}}") != git(work, "rev-parse", f"{head}^{{tree}}"):
        fail("squashing the fixups changed the result; rebase by hand")
    return done


def digest():
    """Of the text in patches/, to see whether it moved since the last sync."""
    folder = os.path.join(ROOT, "patches")
    text = "".join(read(os.path.join(folder, f"{name}.patch")) for name in owned.load_series())
    text += "\n".join(owned.load_series())
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def stamp(work):
    return os.path.join(work, ".git", "pinless-patches")


def remember(work):
    with open(stamp(work), "w") as file:
        file.write(digest())


def take_over(work, entries):
    """The work tree's commits, on top of what others did to patches/ meanwhile.

    A pull or another developer may have changed patches/ since the work tree
    was last synced; writing its commits back as they are would undo that.
    """
    head = git(work, "rev-parse", "HEAD").strip()
    if read(stamp(work), "") in ("", digest()):
        return head
    synced = git(work, "rev-parse", "refs/pinless/synced").strip()
    series = owned.load_series()
    owned.check(work, entries, series)
    tip = Chain(work, entries, series).build()
    if git(work, "merge-base", "--is-ancestor", synced, head, ok=True)[0]:
        fail("patches/ changed since the last sync (a pull?), and the work tree's commits "
             "were rewritten:", f"in {work}: git rebase --onto {tip[:12]} <first own commit>^, "
             f"then git update-ref refs/pinless/synced {tip[:12]}, rm {stamp(work)} "
             "and make refresh")
    note("patches/ changed since the last sync: the commits go on top of it")
    return tip if head == synced else rebase(work, head, "--onto", tip, synced)


def slug(subject):
    return re.sub(r"[^a-z0-9]+", "-", subject.lower()).strip("-")[:60].rstrip("-")


def describe(work, commit, mine):
    """(name, text) of the patch file for COMMIT."""
    author, message = git(work, "show", "-s", "--format=%an <%ae>%x00%B", commit).split("\0")
    named = re.search(f"^{TRAILER}(.*)$", message, re.M)
    message = re.sub(f"^{TRAILER}.*\n?", "", message, flags=re.M).strip()
    subject, _, body = message.partition("\n")
    diff = git(work, "-c", "diff.algorithm=myers", "-c", "diff.noprefix=false",
               "-c", "diff.indentHeuristic=true", "diff-tree", "-p", "-U3", "--full-index",
               "--no-renames", "--no-color", "--no-ext-diff", f"{commit}^", commit, "--", ".",
               *(f":(exclude,literal){path}" for path in mine))
    strange = re.findall(r"^(?:new|deleted) file mode .*|^Binary files.*", diff, re.M)
    if strange:
        paths = re.findall(r"^diff --git a/(\S+) .*\n(?:new|deleted) file", diff, re.M)
        fail(f"{commit[:12]} \"{subject}\" adds or removes {' '.join(paths) or 'a binary file'}:",
             "a new file belongs in the checkout and in dev/trees/owned (new), "
             "a removed one in dev/trees/owned (delete)")
    # Blob hashes would change in every later patch to the same file.
    diff = re.sub(r"^index .*\n", "", diff, flags=re.M)
    head = "" if author == IDENTITY else f"From: {author}\n"
    text = f"{head}Subject: {subject}\n\n"
    if body.strip():
        text += body.strip() + "\n"
    return (named[1] if named else slug(subject)), text + "---\n" + (diff and "\n" + diff)


def check_owned_untouched(work, mine):
    if not mine:
        return
    changed = git(work, "diff", "--name-only", "refs/pinless/synced", "HEAD", "--",
                  *(f":(literal){path}" for path in mine)).split()
    if changed:
        fail("commits in the work tree change files whose home is the checkout:",
             *(f"  git -C {work} show HEAD:{path} >{path}" for path in changed),
             "take the change over with the lines above, and drop it from the commits")


def refresh(work):
    entries = owned.load()
    mine = sorted(entry.path for entry in entries)
    dirty = git(work, "status", "--porcelain", "-uno").rstrip()
    if dirty:
        fail(f"uncommitted changes in {work}; commit them first "
             "(git commit, or git commit --fixup=<commit>):", dirty)
    if git(work, "merge-base", "base", "HEAD").strip() != git(work, "rev-parse", "base").strip():
        fail("the work tree's HEAD does not descend from the base")
    check_owned_untouched(work, mine)
    head = squash(work, take_over(work, entries))
    commits = git(work, "rev-list", "--reverse", f"base..{head}").split()
    texts = {}
    for commit in commits:
        name, text = describe(work, commit, mine)
        if name in texts:
            fail(f"two commits are called {name}: reword one "
                 f"(the {TRAILER.strip()} line at the end of its message)")
        texts[name] = text
    orphans = [entry for entry in entries if entry.patch not in texts]
    if orphans:
        fail("dev/trees/owned assigns files to patches that are gone:",
             *(f"  {entry.path}: {entry.patch}" for entry in orphans))
    write(texts)
    # The commits are in patches/ now; sync rebuilds them under their final hashes.
    git(work, "reset", "-q", "--keep", head)
    git(work, "update-ref", "refs/pinless/synced", head)


def write(texts):
    folder = os.path.join(ROOT, "patches")
    os.makedirs(folder, exist_ok=True)
    series = "".join(f"{name}.patch\n" for name in texts)
    top = "".join(line + "\n" for line in read(os.path.join(folder, "series"), "").splitlines()
                  if line.startswith("#"))
    wanted = {f"{name}.patch": text for name, text in texts.items()}
    if texts or top:
        wanted["series"] = top + series
    for name in os.listdir(folder):
        if name.endswith(".patch") and name not in wanted:
            note(f"removed  patches/{name}")
            os.unlink(os.path.join(folder, name))
    for name, text in wanted.items():
        path = os.path.join(folder, name)
        if read(path, "") != text:
            note(f"written  patches/{name}")
            with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
