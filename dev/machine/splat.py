# SPDX-License-Identifier: GPL-2.0
"""Finds reports of bugs in a kernel log.

The log is the kernel's console.  Programs do not write to it, so a test that prints
"WARNING:" is not taken for a report.  A report is recognized by the start of a line.
"""
import re

STAMP = re.compile(r"^(?:<\d+>)?\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?")
HEADER = re.compile("|".join((
    r"^(?:watchdog: )?(?:WARNING|BUG): ",
    r"^\[ BUG: ",
    r"^kernel BUG at ",
    r"^Kernel panic ",
    r"^Oops",
    r"^general protection fault",
    r"^(?:int3|invalid opcode|divide error|double fault|stack segment|traps: PANIC)",
    r"^UBSAN: ",
    r"^INFO: task .* blocked for more than",
    r"^INFO: possible ",
    r"^INFO: trying to register non-static key",
    r"^(?:rcu: )?INFO: rcu.*(?:stall|detected)",
    r"^refcount_t: ",
    r"^kmemleak: \d+ new suspected",
    r"^kmemleak: (?:Cannot|Kernel memory leak detector disabled|Memory pool empty)",
    r"^ODEBUG: ",
    r"^DMA-API: .*(?:error|exceeded|device driver|out of memory)",
    r"^DMAR: \[(?:DMA|INTR)",
    r"^unregister_netdevice: waiting for",
    r"^list_(?:add|del) corruption",
    # Not the page that keeps a block of memory online: that is the answer to a request.
    r"^page dumped because: (?!unmovable page$|migration failure$)",
    r"^sysrq: Trigger a crash",
    r"^BUG ",
    r"inconsistent lock state",
    r"possible circular locking",
    r"suspicious RCU usage",
)))
TRACE = re.compile(r"^\s*Call Trace:")
END = re.compile(r"---\[ end (?:trace|Kernel panic)")
# The base has data races, which KCSAN reports. Ours are those with a function of the
# series, of a test of it, or of dev/machine/fixtures on either side.
OTHERS_RACE = (r"^BUG: KCSAN: data-race in (?!.*(?:mmu_|mm_(?:take|drop)_all_|mm_visit_|mapping_lock_"
               r"|torture_|recorder_|chunk_|odp|umr|populate_|entry_mark_dirty|rxe_|race_once))")
BLOCK = 120     # lines that one report may span
FUNCTION = re.compile(r"^ ([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x")
FUNCTIONS = 16  # of a trace that is told in a line


def strip(line):
    return STAMP.sub("", line.rstrip("\r\n"))


def find(lines, allow=None):
    """The reports in LINES, each a list of lines, without those that ALLOW matches.

    A "Call Trace" that no known header announced is a report of its own.
    """
    lines = [strip(line) for line in lines]
    reports, at, allowed_until = [], 0, -1
    while at < len(lines):
        line = lines[at]
        trace = TRACE.match(line)
        if not HEADER.search(line) and not (trace and at > allowed_until):
            at += 1
            continue
        stop = at + 1
        while stop < len(lines) and stop < at + BLOCK and not END.search(lines[stop - 1]):
            stop += 1
        block = lines[max(0, at - 8) if trace else at:stop]
        if not END.search(block[-1]):
            block = block[:60]
            stop = min(stop, at + 60)
        # A bare trace is known by what comes right before it, and its caller.
        first = lines[max(0, at - 3):at + 4] if trace else block[:4]
        if allow and re.search(allow, "\n".join(first)):
            allowed_until = stop
            at += 1
            continue
        reports.append(block)
        at = stop
    return reports


def headline(report):
    """A summary of REPORT: its header, or the line before its trace, and its innermost
    functions."""
    said = report[0]
    for at, line in enumerate(report):
        if HEADER.search(line):
            said = line
            break
        if line.startswith("CPU: ") and at:
            said = report[at - 1]
            break
    functions = [found[1] for line in report if (found := FUNCTION.match(line))]
    return said + (f" in {' < '.join(functions[:FUNCTIONS])}" if functions else "")
