#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Parses KTAP and judges it: a missing test is a failure.

usage: ktap.py FILE...      prints what failed and why, what was skipped and
                            why, and "N passed, N failed, N skipped"

Failures are also: a missing plan, fewer results than planned, results out of
order, and a subtest without a result line of its parent.  The input is a kernel
log, from which the time stamps are removed, or the output of a program.
"""
import os
import re
import sys
from dataclasses import dataclass, field

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from machine import splat

PLAN = re.compile(r"^( *)1\.\.(\d+)(?:\s+#\s*SKIP\s*(.*))?\s*$")
RESULT = re.compile(r"^( *)(not ok|ok) (\d+)(?:\s+(?:- )?(.*?))?\s*$")
SUBTEST = re.compile(r"^( *)# Subtest: (.*)$")
VERSION = re.compile(r"^( *)K?TAP version \d+\s*$")
BAIL = re.compile(r"^ *Bail out!(.*)$")


@dataclass
class Tally:
    passed: int = 0
    failed: list = field(default_factory=list)      # (name, why)
    skipped: list = field(default_factory=list)     # (name, why)
    names: dict = field(default_factory=dict)       # name -> pass, fail, skip

    def add(self, name, verdict, why=""):
        while name in self.names:
            name += "'"
        self.names[name] = verdict
        if verdict == "pass":
            self.passed += 1
        else:
            (self.failed if verdict == "fail" else self.skipped).append((name, why))

    def merge(self, other, prefix=""):
        reasons = dict(other.failed + other.skipped)
        for name, verdict in other.names.items():
            self.add(f"{prefix}{name}", verdict, reasons.get(name, ""))

    def groups(self):
        """Counts by the first part of the names: a scenario, a device, a configuration."""
        reasons, parts = dict(self.failed + self.skipped), {}
        for name, verdict in self.names.items():
            part = parts.setdefault(re.split(r"\.|: ", name)[0], Tally())
            part.add(name, verdict, reasons.get(name, ""))
        return parts

    def line(self):
        return f"{self.passed} passed, {len(self.failed)} failed, {len(self.skipped)} skipped"

    def end(self, all_may_skip=False):
        """Print a tool's last line and exit; a run in which nothing passed has failed."""
        print(self.line(), flush=True)
        some = self.names if all_may_skip else self.passed
        sys.exit(1 if self.failed or not some else 0)

    def show(self, out=sys.stdout):
        for name, why in self.skipped:
            print(f"SKIP {name}: {why or 'no reason given'}", file=out)
        for name, why in self.failed:
            print(f"FAIL {name}: {why}", file=out)


def results(path):
    """{test: (verdict, reason)} of lines "pass|fail|skip|start <test> <reason>";
    a test that started and did not end is a failure, and so is a missing "done N"."""
    found, done = {}, None
    if os.path.exists(path):
        with open(path, errors="replace") as file:
            for line in file:
                verdict, _, rest = line.strip().partition(" ")
                name, _, why = rest.partition(" ")
                if verdict == "start":
                    found[name] = ("fail", "started and never ended")
                elif verdict in ("pass", "skip", "fail"):
                    found[name] = (verdict, why)
                done = rest if verdict == "done" else None
    if done != str(len(found)):
        found["done"] = ("fail", f"{len(found)} results, and at the end "
                         + (f"{done} were announced" if done else "no word of how many"))
    return found


@dataclass
class Level:
    """An open list of tests: its name, its plan, and the number of its results."""
    indent: int
    name: str
    plan: int = -1
    seen: int = 0
    header: bool = False    # it began as it must: with a version or a "# Subtest"


class Reader:
    def __init__(self):
        self.tally = Tally()
        self.levels = []
        self.notes = []
        self.whole_skip = None
        self.bailed = False

    def path(self, name):
        return ".".join([level.name for level in self.levels if level.name] + [name])

    def level(self, indent):
        """The open level at INDENT.  Deeper levels that never ended have crashed."""
        while self.levels and self.levels[-1].indent > indent:
            self.unfinished(self.levels.pop())
        if not self.levels or self.levels[-1].indent < indent:
            self.levels.append(Level(indent, ""))
        return self.levels[-1]

    def opened(self, indent, what):
        """The list at INDENT.  The list of a subtest must have had a header before WHAT.

        Some programs of the base print a plan at once, without a version.
        """
        level = self.level(indent)
        if not level.header and len(self.levels) > 1:
            self.tally.add(self.path(level.name or "list"), "fail", f"{what} without a header")
            level.header = True
        return level

    def header(self, indent, name=""):
        """A version or a "# Subtest": KUnit prints both, in either order, or one."""
        level = self.level(indent)
        if level.header and (level.plan >= 0 or level.seen or bool(name) <= bool(level.name)):
            self.tally.add(self.path(level.name or "list"), "fail", "a second header")
        level.header = True
        level.name = name or level.name

    def plan(self, indent, count, skipped):
        level = self.opened(indent, "a plan")
        if level.plan >= 0 or level.seen:
            self.tally.add(self.path(level.name or "list"), "fail",
                           "a second plan" if level.plan >= 0 else "a plan after results")
        if count == 0 and len(self.levels) == 1:
            self.whole_skip = skipped
        level.plan = count

    def unfinished(self, level):
        self.tally.add(self.path(level.name or "list"), "fail",
                       f"no result: ended after {level.seen} of "
                       f"{level.plan if level.plan >= 0 else 'an unknown number of'} tests")

    def result(self, indent, okay, number, text):
        child = None
        if self.levels and self.levels[-1].indent > indent:
            while len(self.levels) > 1 and self.levels[-2].indent > indent:
                self.unfinished(self.levels.pop())
            child = self.levels.pop()
        level = self.opened(indent, "a result")
        level.seen += 1
        name, _, directive = text.partition("#")
        # kselftest_harness: "ok 1 global.name # SKIP why"; KUnit: "ok 1 name # SKIP why"
        match = re.match(r"\s*(SKIP|TODO|XFAIL)\S*\s*(.*)", directive, re.I)
        name = name.strip() or (child.name if child else "") or f"test {number}"
        why = "; ".join(self.notes[-6:])
        self.notes = []
        if number != level.seen:
            self.tally.add(self.path(name), "fail",
                           f"result {number} where {level.seen} was due")
            level.seen = number
        if child:
            self.close(child, name, okay, match)
        elif match and match[1].upper() in ("SKIP", "XFAIL"):
            self.tally.add(self.path(name), "skip", match[2] or why)
        else:
            self.tally.add(self.path(name), "pass" if okay else "fail", why)

    def close(self, child, name, okay, match):
        """A parent's result: it must agree with the list that it closes."""
        # KUnit prints no plan for the parameters of one test, only for a suite's tests.
        if child.name and child.name != name:
            self.tally.add(self.path(name), "fail", f"the result of another list than {child.name}")
        elif child.plan < 0 and (len(self.levels) < 2 or not child.seen):
            self.tally.add(self.path(name), "fail", "no plan (1..N)")
        elif child.seen != child.plan >= 0:
            self.tally.add(self.path(name), "fail",
                           f"planned {child.plan} tests, ran {child.seen}")
        elif not okay and not any(bad.startswith(self.path(name)) for bad, _ in self.tally.failed):
            self.tally.add(self.path(name), "fail", "failed as a whole")
        elif child.plan == 0 or (match and child.seen == 0):
            self.tally.add(self.path(name), "skip", match[2] if match else "no tests in it")

    def line(self, line):
        if match := PLAN.match(line):
            self.plan(len(match[1]), int(match[2]), match[3])
        elif match := RESULT.match(line):
            self.result(len(match[1]), match[2] == "ok", int(match[3]), match[4] or "")
        elif match := SUBTEST.match(line):
            self.header(len(match[1]), match[2].strip())
        elif match := VERSION.match(line):
            self.header(len(match[1]))
        elif match := BAIL.match(line):
            self.bailed = True
            self.tally.add(self.path("bail out"), "fail", match[1].strip())
        elif line.lstrip().startswith("# "):
            self.notes.append(line.strip()[2:])

    def finish(self):
        while len(self.levels) > 1:
            self.unfinished(self.levels.pop())
        if not self.levels:
            self.tally.add("plan", "fail", "no KTAP output at all")
            return self.tally
        top = self.levels[0]
        if top.plan < 0:
            self.tally.add("plan", "fail", "no plan (1..N)")
        elif top.plan == 0 and not self.tally.names:
            self.tally.add("all", "skip" if self.whole_skip else "fail",
                           self.whole_skip or "planned no tests, and says no reason")
        elif top.seen != top.plan and not self.bailed:
            self.tally.add("plan", "fail", f"planned {top.plan} tests, ran {top.seen}")
        return self.tally


def parse(lines):
    reader = Reader()
    for line in lines:
        text = splat.strip(line)
        body = text.lstrip(" \t")
        # Old lists indent by tabs, one a level.
        reader.line(text[:len(text) - len(body)].replace("\t", "    ") + body)
    return reader.finish()


def parse_file(path):
    with open(path, errors="replace") as file:
        return parse(file)


def main():
    total = Tally()
    for path in sys.argv[1:]:
        total.merge(parse_file(path), f"{path}: " if len(sys.argv) > 2 else "")
    total.show()
    total.end(all_may_skip=True)


if __name__ == "__main__":
    main()
