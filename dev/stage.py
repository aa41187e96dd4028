# SPDX-License-Identifier: GPL-2.0
"""Load a tool of dev/ that has no .py at its end, to call its run()."""
import importlib.machinery
import importlib.util
import os

from common import ROOT


def load(tool):
    name = "tool_" + tool.replace("/", "_")
    loader = importlib.machinery.SourceFileLoader(name, os.path.join(ROOT, "dev", tool))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module
