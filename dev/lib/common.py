# SPDX-License-Identifier: GPL-2.0
"""What the Python tools share: paths, messages, a git runner."""
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
# Everyone's commits of the chain carry this, unless a patch has a From: line.
IDENTITY = "Pinless maintainers <maintainers@pinless.invalid>"


def note(*lines):
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def fail(first, *more):
    note(f"error: {first}", *more)
    sys.exit(1)


def git(repo, *args, stdin=None, index=None, ok=False, binary=False):
    """Run git in REPO and return its stdout; ok: the caller looks at failure."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    if index:
        env["GIT_INDEX_FILE"] = index
    if isinstance(stdin, str):
        stdin = stdin.encode("utf-8", "surrogateescape")
    done = subprocess.run(["git", "-C", repo, *args], input=stdin or b"", env=env,
                          capture_output=True)
    err = done.stderr.decode("utf-8", "replace")
    if ok:
        return done.returncode, done.stdout.decode("utf-8", "surrogateescape"), err
    if done.returncode:
        fail(f"git {' '.join(args[:6])} in {repo}:", err.rstrip())
    return done.stdout if binary else done.stdout.decode("utf-8", "surrogateescape")


def read(path, default=None):
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        if default is None:
            raise
        return default
