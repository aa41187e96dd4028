#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: guest_tests.py RESULTS [GLOB]    the tests of dev/mlx5/tests, in the guest"""
import os
import sys
import unittest

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "tests"), os.path.join(HERE, "..", "interop")]

import pyverbs_run      # noqa: E402


def main():
    loader = unittest.TestLoader()
    suite = loader.discover(os.path.join(HERE, "tests"))
    if loader.errors:
        sys.exit("\n".join(loader.errors))
    pyverbs_run.run(suite, sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "*")


main()
