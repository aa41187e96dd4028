#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Merge config fragments, and check that a .config honours them.

usage: mergeconfig.py merge FRAGMENT...            merged fragment on stdout
       mergeconfig.py check FRAGMENT .config TREE  exit 1 naming what did not take

The last fragment that names a symbol wins.  A line that ends in "# ours" names
a symbol that the series brings.  TREE says whether that must have taken effect:
it is "work" for the tree with the series in it, and "stock" for one without, or
with a part of it.
"""
import re
import sys

LINE = re.compile(r"(CONFIG_\w+)=(.*?)\s*(# ours)?$")


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
    for name, (value, ours) in symbols.items():
        print(f"{name}={value}{' # ours' if ours else ''}")


def check(fragment, dotconfig, tree):
    have = {}
    for line in open(dotconfig):
        match = re.match(r"(CONFIG_\w+)=(.*)$", line)
        if match:
            have[match[1]] = match[2]
    missing = []
    for name, (value, ours) in parse(fragment).items():
        found = have.get(name, "n")
        if found != value and not (ours and tree == "stock"):
            missing.append(f"{name}={value} (is {found})")
    for text in missing:
        print(f"did not take effect: {text}", file=sys.stderr)
    sys.exit(1 if missing else 0)


if len(sys.argv) >= 3 and sys.argv[1] == "merge":
    merge(sys.argv[2:])
elif len(sys.argv) == 5 and sys.argv[1] == "check" and sys.argv[4] in ("work", "stock"):
    check(*sys.argv[2:])
else:
    sys.exit(__doc__)
