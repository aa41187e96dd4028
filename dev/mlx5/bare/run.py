#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: dev/mlx5/bare/run.py [GLOB...]     (of FILE.CLASS.TEST; SANITIZE=1)

Test the adapter without a guest: the tests are its driver, by QEMU's -qtest.  That shows
what no driver does, in a tenth of a second each, and says nothing about real drivers:
what the adapter does is also to pass dev/mlx5/run.py stock.  A report of a sanitizer or
of the DMA check is a failure.
"""
import fnmatch
import os
import sys
import unittest

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.dirname(os.path.dirname(HERE)))

from machine import ktap, vm    # noqa: E402


class Results(unittest.TestResult):
    def __init__(self, tally):
        super().__init__()
        self.tally = tally

    def put(self, test, verdict, why=""):
        self.tally.add(f"bare.{test.id()}", verdict, " ".join(str(why).split())[-500:])

    def addSuccess(self, test):
        self.put(test, "pass")

    def addSkip(self, test, reason):
        self.put(test, "skip", reason)

    def addFailure(self, test, err):
        self.put(test, "fail", f"{err[0].__name__}: {err[1]}")

    addError = addFailure


def flat(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flat(test)
        else:
            yield test


def run(globs=("*",)):
    os.environ["BARE_QEMU"] = os.environ.get("QEMU") or vm.our_qemu()
    loader = unittest.TestLoader()
    tests = list(flat(loader.discover(HERE)))
    if loader.errors:
        sys.exit("\n".join(loader.errors))
    tally = ktap.Tally()
    unittest.TestSuite(test for test in tests if any(
        fnmatch.fnmatch(test.id(), glob) for glob in globs)).run(Results(tally))
    if not tally.names:
        tally.add("bare.tests", "fail", "none was run")
    return tally


def main():
    tally = run(sys.argv[1:] or ("*",))
    tally.show(sys.stderr)
    tally.end()


if __name__ == "__main__":
    main()
