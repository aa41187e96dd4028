# SPDX-License-Identifier: GPL-2.0
"""tools/rdma/odp-qualify, which compares a real adapter with this one: it must find here
what it says of the model."""
import os
import subprocess
import unittest

TOOL = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../../tools/rdma/odp-qualify")


class QualifyTest(unittest.TestCase):
    def test_the_model_is_as_the_tool_says(self):
        done = subprocess.run([TOOL, "--device", "mlx5_0", "--check"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("0 of 12 rows differ", done.stdout)
