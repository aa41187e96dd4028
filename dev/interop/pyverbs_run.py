#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Run rdma-core's own Python suite in the guest, one result line a test.

usage: pyverbs_run.py DEV RESULTS [GLOB]

Debian ships the suite as documentation, partly compressed: it is unpacked
into a tmpfs.  RESULTS gets "pass|fail|skip <test> <reason>" as each test ends,
so that a test that takes the process along leaves a gap and not a success.
The tests' own start line is written first, for the same reason.
"""
import faulthandler
import fnmatch
import glob
import gzip
import os
import random
import shutil
import signal
import sys
import unittest

SUITE = "/usr/share/doc/rdma-core/tests"
LIMIT = 120     # seconds a test may take: some wait for a peer without end


def unpack(folder):
    os.makedirs(folder, exist_ok=True)      # several runs in one machine
    for path in glob.glob(f"{SUITE}/*.py"):
        shutil.copy(path, folder)
    for path in glob.glob(f"{SUITE}/*.py.gz"):
        with gzip.open(path) as src, open(f"{folder}/{os.path.basename(path)[:-3]}", "wb") as dst:
            shutil.copyfileobj(src, dst)


class Results(unittest.TestResult):
    def __init__(self, path):
        super().__init__()
        self.out = open(path, "w", buffering=1)
        self.before = set()         # names that the test had when it started

    def put(self, verdict, test, why=""):
        why = " ".join(str(why).split())[:200]
        self.out.write(f"{verdict} {test.id()} {why}".rstrip() + "\n")

    def startTest(self, test):
        super().startTest(test)
        self.put("start", test)
        self.before = set(vars(test))
        # Many choose sizes and flags at random, and skip what is not supported:
        # the choice has to be the same on stock and ours.
        random.seed(test.id())
        signal.alarm(LIMIT)

    def stopTest(self, test):
        """What the test made goes now, children first.  At exit Python would destroy it
        in any order, and libibverbs crash over a region whose context is gone."""
        signal.alarm(0)
        super().stopTest(test)
        for name in set(vars(test)) - self.before:
            delattr(test, name)

    def addSuccess(self, test):
        self.put("pass", test)

    def addSkip(self, test, reason):
        self.put("skip", test, reason)

    def addFailure(self, test, err):
        self.put("fail", test, f"{err[0].__name__}: {err[1]}")

    addError = addFailure

    def addSubTest(self, test, subtest, err):
        if err:
            self.addFailure(test, err)

    def addExpectedFailure(self, test, err):
        self.put("pass", test)

    def addUnexpectedSuccess(self, test):
        self.put("fail", test, "unexpected success")


def overdue(_signal, _frame):
    raise TimeoutError(f"no end after {LIMIT} s")


def flatten(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from flatten(item)
        else:
            yield item


def run(suite, results, wanted):
    """Every test of suite whose name one of the globs matches, in order; the last line
    says how many."""
    faulthandler.enable()       # a crash in a library says which test it was
    signal.signal(signal.SIGALRM, overdue)
    chosen = unittest.TestSuite(test for test in flatten(suite)
                                if any(fnmatch.fnmatch(test.id(), glob)
                                       for glob in wanted.split()))
    out = Results(results)
    chosen.run(out)
    out.out.write(f"done {out.testsRun}\n")


def main():
    dev, results = sys.argv[1:3]
    wanted = sys.argv[3] if len(sys.argv) > 3 else "*"
    folder = "/tmp/pyverbs/tests"
    unpack(folder)
    sys.path[:0] = [folder, os.path.dirname(folder)]
    sys.argv[1:] = ["--dev", dev]
    from args_parser import parser
    parser.parse_args()
    import tests
    suite = unittest.TestSuite()
    tests.load_tests(unittest.defaultTestLoader, suite, None)
    run(suite, results, wanted)


if __name__ == "__main__":
    main()
