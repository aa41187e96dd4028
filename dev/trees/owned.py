# SPDX-License-Identifier: GPL-2.0
"""dev/trees/owned and patches/series: what they say, and whether it is true.

dev/trees/owned, a line an entry, # comments:
    new <path> <patch>                 a file the base does not have
    replace <sha256> <path> <patch>    a file of the base; the hash is the base's
    delete <sha256> <path> <patch>     a file of the base that <patch> removes
<path> is both the path in this checkout and in the tree.  <patch> names the
commit that brings the file in: a line of patches/series, without ".patch".
"""
import hashlib
import os
import subprocess
from dataclasses import dataclass

from lib.common import ROOT, fail, git, note, read

HOMES = ("mm", "include", "lib", "drivers", "Documentation", "tools/testing")


@dataclass(frozen=True)
class Entry:
    kind: str
    sha: str
    path: str
    patch: str


def lines_of(path):
    for number, line in enumerate(read(os.path.join(ROOT, path), "").splitlines(), 1):
        line = line.partition("#")[0].strip()
        if line:
            yield f"{path}:{number}", line


def patch_name(text):
    return text[:-6] if text.endswith(".patch") else text


def load():
    entries = {}
    for where, line in lines_of("dev/trees/owned"):
        words = line.split()
        if len(words) == 3 and words[0] == "new":
            entry = Entry("new", "", words[1], patch_name(words[2]))
        elif len(words) == 4 and words[0] in ("replace", "delete"):
            entry = Entry(words[0], words[1], words[2], patch_name(words[3]))
        else:
            fail(f"{where}: not 'new <path> <patch>' or "
                 f"'replace|delete <sha256> <path> <patch>': {line}")
        if entry.path in entries:
            fail(f"{where}: {entry.path} is declared twice")
        entries[entry.path] = entry
    return list(entries.values())


def load_series():
    names = []
    for where, line in lines_of("patches/series"):
        name = patch_name(line)
        if name in names:
            fail(f"{where}: {line} is listed twice")
        if not os.path.isfile(os.path.join(ROOT, "patches", name + ".patch")):
            fail(f"{where}: patches/{name}.patch does not exist")
        names.append(name)
    return names


def base_blobs(work, paths):
    """Contents of PATHS in the base commit; a missing one is None."""
    blobs = {}
    for path in paths:
        code, _, _ = git(work, "cat-file", "-e", f"base:{path}", ok=True)
        blobs[path] = None if code else git(work, "cat-file", "blob", f"base:{path}",
                                            binary=True)
    return blobs


def show_difference(work, path, limit=80):
    done = subprocess.run(["git", "diff", "--no-index", "--no-color", "/dev/stdin", path],
                          input=git(work, "cat-file", "blob", f"base:{path}", binary=True),
                          cwd=ROOT, capture_output=True)
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    note(f"the base's {path} against ours:", *lines[:limit])
    if len(lines) > limit:
        note(f"... {len(lines) - limit} more lines; all of it:",
             f"  git -C {work} show base:{path} | diff -u - {path}")


def undeclared(declared):
    """Files of this checkout under the tree's folders that dev/trees/owned lacks."""
    code, out, _ = git(ROOT, "ls-files", "-co", "--exclude-standard", "-z", "--",
                       *HOMES, ok=True)
    if code == 0:
        found = [path for path in out.split("\0") if path]
    else:   # not a git checkout: an unpacked archive
        found = [os.path.relpath(os.path.join(top, name), ROOT)
                 for home in HOMES for top, _, names in os.walk(os.path.join(ROOT, home))
                 for name in names]
    return sorted(path for path in set(found) - declared
                  if os.path.isfile(os.path.join(ROOT, path)))


def check_undeclared(work, entries):
    strays = undeclared({entry.path for entry in entries})
    if not strays:
        return
    blobs = base_blobs(work, strays)
    lines = []
    for path in strays:
        if blobs[path] is None:
            lines.append(f"  new {path} <patch>")
        else:
            sha = hashlib.sha256(blobs[path]).hexdigest()
            lines.append(f"  replace {sha} {path} <patch>    (it shadows the base's)")
    if os.environ.get("UNDECLARED") == "warn":
        note("not declared in dev/trees/owned, left out:", *lines)
    else:
        fail("not declared in dev/trees/owned; the lines that would declare them:", *lines,
             "(UNDECLARED=warn leaves them out and goes on)")


def check_entry(work, entry, blob):
    here = os.path.isfile(os.path.join(ROOT, entry.path))
    if entry.kind == "delete":
        if here:
            fail(f"dev/trees/owned deletes {entry.path}, and the checkout has it")
    elif not here:
        fail(f"dev/trees/owned declares {entry.path}, and the checkout lacks it")
    if entry.kind == "new":
        if blob is not None:
            fail(f"{entry.path} is declared new, and the base has one; declare it:",
                 f"  replace {hashlib.sha256(blob).hexdigest()} {entry.path} {entry.patch}")
        return
    if blob is None:
        fail(f"dev/trees/owned: {entry.kind} {entry.path}: the base has no such file")
    found = hashlib.sha256(blob).hexdigest()
    if found == entry.sha:
        return
    if entry.kind == "replace":
        show_difference(work, entry.path)
    fail(f"the base's {entry.path} is not the one that ours was written against:",
         f"  dev/trees/owned expects {entry.sha}", f"  this base has     {found}",
         "take over what changed there, then put the new hash into dev/trees/owned;",
         "the version it was written against: git log -p -S<expected hash> -- dev/trees/owned")


def check(work, entries, series):
    check_undeclared(work, entries)
    blobs = base_blobs(work, [entry.path for entry in entries])
    for entry in entries:
        if entry.patch not in series:
            fail(f"dev/trees/owned: {entry.path} belongs to '{entry.patch}', "
                 "which is not in patches/series")
        check_entry(work, entry, blobs[entry.path])
