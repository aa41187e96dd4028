# SPDX-License-Identifier: GPL-2.0
"""Commits from text: the base, then one commit per patch of the series."""
import hashlib
import json
import os
import re
import subprocess
import tempfile

from lib.common import IDENTITY, ROOT, fail, git, note, read

EPOCH = 1735689600      # any fixed time: the hashes must not depend on the clock
TRAILER = "Pinless-Patch: "     # ties a commit of the work tree to its patch file


class Patch:
    """A patch file: header lines, an empty line, the message, the diff."""

    def __init__(self, name):
        self.name = name
        self.text = read(os.path.join(ROOT, "patches", name + ".patch"))
        head, _, rest = self.text.partition("\n\n")
        fields = dict(re.findall(r"^([\w-]+): (.*)$", head, re.M))
        if "Subject" not in fields:
            fail(f"patches/{name}.patch: no Subject: line at the top")
        self.subject = re.sub(r"^\[PATCH[^]]*\] ", "", fields["Subject"])
        self.author = fields.get("From", IDENTITY)
        start = re.search(r"^(diff --git |--- a/|--- /dev/null)", rest, re.M)
        self.diff = rest[start.start():] if start else ""
        body = rest[:start.start()] if start else rest
        self.body = re.split(r"^---$", body, maxsplit=1, flags=re.M)[0].strip()
        if not self.diff.endswith("\n") and self.diff:
            self.diff += "\n"

    def message(self, trailer):
        parts = [self.subject] + ([self.body] if self.body else [])
        text = "\n\n".join(parts)
        if not trailer:
            return text + "\n"
        last = text.rsplit("\n\n", 1)[-1].splitlines()
        tags = self.body and all(re.match(r"[A-Z][\w-]+: ", line) for line in last)
        return f"{text}{chr(10) if tags else chr(10) * 2}{TRAILER}{self.name}\n"

    def paths(self):
        found = re.findall(r"^(?:---|\+\+\+) [ab]/([^\t\n]+)", self.diff, re.M)
        return sorted(set(found))


class Chain:
    def __init__(self, work, entries, series, trailers=True):
        self.work, self.trailers = work, trailers
        self.patches = [Patch(name) for name in series]
        self.memo = os.path.join(work, ".git", "pinless-chain" if trailers else "pinless-plain")
        self.base = git(work, "rev-parse", "base").strip()
        self.adds = self.hash_owned(entries)

    def hash_owned(self, entries):
        """Per patch: the (mode, blob, path) that its commit adds; blob None deletes."""
        adds = {}
        live = [entry for entry in entries if entry.kind != "delete"]
        out = git(self.work, "hash-object", "-w", "--no-filters", "--stdin-paths",
                  stdin="".join(f"{ROOT}/{entry.path}\n" for entry in live)) if live else ""
        for entry, blob in zip(live, out.split()):
            runs = os.access(os.path.join(ROOT, entry.path), os.X_OK)
            adds.setdefault(entry.patch, []).append(
                ("100755" if runs else "100644", blob, entry.path))
        for entry in entries:
            if entry.kind == "delete":
                adds.setdefault(entry.patch, []).append(("0", None, entry.path))
        self.owned = {entry.path for entry in entries}
        return adds

    def keys(self):
        key, out = self.base, []
        for patch in self.patches:
            text = json.dumps([key, self.trailers, patch.text,
                               sorted(self.adds.get(patch.name, []), key=lambda a: a[2])])
            key = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
            out.append(key)
        return out

    def build(self):
        """Make what is not there yet and return the tip's commit."""
        keys, done, tip = self.keys(), [], self.base
        for key, (old, commit) in zip(keys, json.loads(read(self.memo, "[]"))):
            if key != old or git(self.work, "cat-file", "-e", commit, ok=True)[0]:
                break
            done.append((key, commit))
            tip = commit
        todo = self.patches[len(done):]
        if not todo:
            return tip
        commits = self.make(tip, todo, len(done))
        done += zip(keys[len(done):], commits)
        with open(self.memo, "w") as file:
            json.dump(done, file)
        return commits[-1]

    def make(self, parent, todo, number):
        """fast-import the commits of TODO on PARENT; returns their hashes."""
        for patch in todo:
            clash = self.owned.intersection(patch.paths())
            if clash:
                fail(f"patches/{patch.name}.patch changes {', '.join(sorted(clash))}, "
                     "which this project owns: change the file in the checkout")
        with tempfile.TemporaryDirectory() as tmp:
            index, marks = os.path.join(tmp, "index"), os.path.join(tmp, "marks")
            self.fill(index, parent, sorted({p for patch in todo for p in patch.paths()}))
            stream, origin = [], parent
            for mark, patch in enumerate(todo, 1):
                changes = self.apply(index, patch) + self.adds.get(patch.name, [])
                stream.append(self.commit(mark, patch, number + mark, origin, changes))
                origin = f":{mark}"
            git(self.work, "fast-import", "--quiet", "--force", f"--export-marks={marks}",
                stdin="".join(stream))
            found = dict(line.split() for line in read(marks).splitlines())
        return [found[f":{mark}"] for mark in range(1, len(todo) + 1)]

    def fill(self, index, commit, paths):
        lines = git(self.work, "ls-tree", "-r", commit, "--", *paths) if paths else ""
        git(self.work, "update-index", "--index-info", stdin=lines, index=index)

    def listing(self, index):
        out = {}
        for line in git(self.work, "ls-files", "-s", index=index).splitlines():
            meta, path = line.split("\t")
            mode, blob, _ = meta.split()
            out[path] = (mode, blob, path)
        return out

    def apply(self, index, patch):
        if not patch.diff:
            return []
        before = self.listing(index)
        strange = [path for path in patch.paths() if path not in before]
        if strange:
            fail(f"patches/{patch.name}.patch changes {', '.join(strange)}, which the base "
                 "does not have: a new file belongs in the checkout and in dev/trees/owned")
        code, _, err = git(self.work, "apply", "--cached", "--whitespace=nowarn", "-",
                           stdin=patch.diff, index=index, ok=True)
        if code:
            self.explain(patch, before, err)
        after = self.listing(index)
        return [after.get(p, ("0", None, p)) for p in before if after.get(p) != before[p]]

    def explain(self, patch, before, err):
        """The rejected hunks, as git apply --reject leaves them, then stop."""
        note(err.rstrip())
        with tempfile.TemporaryDirectory() as tmp:
            for path in patch.paths():
                os.makedirs(os.path.dirname(os.path.join(tmp, path)), exist_ok=True)
                with open(os.path.join(tmp, path), "wb") as file:
                    file.write(git(self.work, "cat-file", "blob", before[path][1], binary=True))
            subprocess.run(["git", "apply", "--reject", "--whitespace=nowarn", "-"], cwd=tmp,
                           input=patch.diff.encode("utf-8", "surrogateescape"),
                           env={**os.environ, "GIT_CEILING_DIRECTORIES": os.path.dirname(tmp)},
                           capture_output=True)
            for path in patch.paths():
                reject = read(os.path.join(tmp, path + ".rej"), "")
                if reject:
                    note(f"--- rejected in {path}:", reject.rstrip())
        fail(f"patches/{patch.name}.patch does not apply (the rejected hunks are above)")

    def commit(self, mark, patch, minute, origin, changes):
        text = patch.message(self.trailers)
        when = f"{EPOCH + 60 * minute} +0000"
        out = [f"commit refs/pinless/chain\nmark :{mark}\n",
               f"author {patch.author} {when}\ncommitter {IDENTITY} {when}\n",
               f"data {len(text.encode('utf-8', 'surrogateescape'))}\n{text}\n",
               f"from {origin}\n"]
        for mode, blob, path in changes:
            out.append(f"D {path}\n" if blob is None else f"M {mode} {blob} {path}\n")
        return "".join(out) + "\n"
