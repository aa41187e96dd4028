# SPDX-License-Identifier: GPL-2.0
"""Runs the static checks: each is a program in a folder."""
import os
import subprocess

from lib.common import ROOT, note

FOLDER = os.path.join(ROOT, "dev/gate/checks")


def run(folder, tally):
    """Each file without a suffix is one: status 0 passes, 4 skips (last line: why)."""
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if os.path.isdir(path) or "." in name:
            continue
        if not os.access(path, os.X_OK):
            tally.add(name, "fail", "not executable")
            continue
        done = subprocess.run([path], cwd=ROOT, stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        lines = done.stdout.rstrip().splitlines() or [""]
        verdict = {0: "pass", 4: "skip"}.get(done.returncode, "fail")
        if verdict == "fail":
            note(f"---- {os.path.relpath(path, ROOT)} ----", *lines[-200:])
        tally.add(name, verdict, lines[-1])
