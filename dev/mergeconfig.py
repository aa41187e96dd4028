#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Merge config fragments, and check that a .config honours them.

usage: mergeconfig.py merge FRAGMENT...            merged fragment on stdout
       mergeconfig.py check FRAGMENT .config       exit 1 naming what did not take

The last fragment that names a symbol wins.  A line that ends in "# optional"
is wanted but may be missing: a symbol that only the series or another point
release has.  check prints those to stderr, as a note.
"""
import re
import sys

LINE = re.compile(r"(CONFIG_\w+)=(.*?)\s*(# optional)?$")


def parse(path):
    symbols = {}
    for number, line in enumerate(open(path), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = LINE.match(line)
        if not match:
            sys.exit(f"{path}:{number}: not CONFIG_X=value: {line}")
        symbols[match[1]] = (match[2], bool(match[3]))
    return symbols


def merge(paths):
    symbols = {}
    for path in paths:
        symbols.update(parse(path))
    for name, (value, optional) in symbols.items():
        print(f"{name}={value}{' # optional' if optional else ''}")


def check(fragment, dotconfig):
    have = {}
    for line in open(dotconfig):
        match = re.match(r"(CONFIG_\w+)=(.*)$", line)
        if match:
            have[match[1]] = match[2]
    missing, absent = [], []
    for name, (value, optional) in parse(fragment).items():
        found = have.get(name, "n")
        if found != value:
            (absent if optional else missing).append(f"{name}={value} (is {found})")
    if absent:
        print("not in this tree:", ", ".join(absent), file=sys.stderr)
    for text in missing:
        print(f"did not take effect: {text}", file=sys.stderr)
    sys.exit(1 if missing else 0)


if len(sys.argv) >= 3 and sys.argv[1] == "merge":
    merge(sys.argv[2:])
elif len(sys.argv) == 4 and sys.argv[1] == "check":
    check(*sys.argv[2:])
else:
    sys.exit(__doc__)
