# SPDX-License-Identifier: GPL-2.0
"""Compares ktap.py with the KTAP parser of the kernel tree.

Both parse the same corpus: the logs with which the tree tests its parser, lists of our
own, and variations of each.  A variation truncates, removes, repeats, swaps or indents
a line, or changes a verdict, a number or a plan.  Our parser must reject whatever the
other one rejects or does not finish.  If only ours rejects a list, STRICTER must have
the reason.  If both accept it, their counts must agree.
"""
import os
import re
import sys

from machine import ktap, vm

STEPS = 300     # looks at one line, without reading on: the peer runs in circles
RESULT = re.compile(r"^(.*?)(not ok|ok) (\d+)(.*)$")
PLAN = re.compile(r"^(.*?1\.\.)(\d+)(.*)$")
SHAPED = re.compile(r"(?:\[.*\] )?\s*(?:K?TAP version|1\.\.\d|ok \d|not ok \d)")

# What ours calls bad and the peer does not, and why ours is right to.
STRICTER = (
    (r"no plan", "without a plan a list that was cut looks complete"),
    (r"planned \d+ tests, ran", "the peer forgives results beyond the plan"),
    (r"result \d+ where", "a number left out is a test left out"),
    (r"failed as a whole", "a suite's set-up or exit failed; the peer believes its tests"),
    (r"no result|another list", "the peer does not look at indentation, and takes the "
                                "results of one list for another's"),
    (r"without a header|a second|after results", "the same: two lists have become one"),
)


def no_version(lines):
    """The version line is missing or is not the first."""
    shaped = [line for line in lines if SHAPED.match(line)]
    return shaped and "TAP version" not in shaped[0]


def torn_header(lines):
    """The two lines of a subtest's header are not adjacent."""
    text = "\n".join(lines)
    return re.search(r"\n +KTAP version 1\n(?! *# Subtest| *1\.\.)", text)


def after_the_end(lines):
    """A result follows the line at which the peer stops to parse."""
    ends = [nr for nr, line in enumerate(lines) if "List of all partitions:" in line]
    return ends and any(RESULT.match(line) for line in lines[ends[0]:])


def whole_skip(lines):
    """A plan of no tests, with a reason."""
    return any(re.match(r"1\.\.0 +# SKIP \S", line) for line in lines)


# What ours lets pass and the peer does not, and why it may.
LAXER = (
    (no_version, "programs of the base (mremap_test) begin with the plan; it is kept all the same"),
    (torn_header, "another CPU's message, on which the peer never ends"),
    (whole_skip, "counts as skipped, not as passed; kselftest's way to skip a program"),
    (after_the_end, "the console's judge knows a panic"),
)


class Stuck(Exception):
    """The peer parses the same line for ever."""


class Silent:
    def color_len(self):
        return 0

    def __getattr__(self, _name):
        return lambda *_args, **_kwargs: ""


def load_peer(folder):
    sys.path.insert(0, folder)
    import kunit_parser     # pylint: disable=import-outside-toplevel,import-error

    class Lines(kunit_parser.LineStream):
        looks = 0

        def peek(self):
            self.looks += 1
            if self.looks > STEPS:
                raise Stuck()
            return super().peek()

        def pop(self):
            self.looks = 0
            return super().pop()

    kunit_parser.LineStream, kunit_parser.stdout = Lines, Silent()
    sys.path.remove(folder)
    return kunit_parser


def peers_count(peer, lines):
    """The number of tests that passed or were skipped; None if the peer rejects the list."""
    try:
        test = peer.parse_run_tests(lines)
    except (Stuck, ValueError):
        return None
    return test.counts.total() if test.ok_status() and not test.counts.errors else None


def changes(line, above):
    """The variations of one line: (kind, the lines that replace it)."""
    yield "lost", []
    yield "doubled", [line, line]
    yield "torn", ["[   10.000000] random: crng reseeded", line]
    yield "indented", ["    " + line]
    if line.startswith("    "):
        yield "outdented", [line[4:]]
    if match := PLAN.match(line):
        yield "plan less one", [f"{match[1]}{int(match[2]) - 1}{match[3]}"]
        yield "plan and one", [f"{match[1]}{int(match[2]) + 1}{match[3]}"]
    if match := RESULT.match(line):
        other = "ok" if match[2] == "not ok" else "not ok"
        yield "other verdict", [f"{match[1]}{other} {match[3]}{match[4]}"]
        yield "other number", [f"{match[1]}{match[2]} {int(match[3]) + 1}{match[4]}"]
        yield "other name", [f"{match[1]}{match[2]} {match[3]} other"]
        for word in ("SKIP", "TODO"):
            yield word, [f"{match[1]}not ok {match[3]}{match[4]} # {word} why"]
    if above is not None:
        yield "swapped", [line, above]


def variations(lines):
    yield "as it is", lines
    for nr, line in enumerate(lines):
        yield f"cut after line {nr + 1}", lines[:nr + 1]
        for kind, instead in changes(line, lines[nr - 1] if nr else None):
            first = nr - 1 if kind == "swapped" else nr
            yield f"line {nr + 1} {kind}", lines[:first] + instead + lines[nr + 1:]


def difference(peer, lines):
    """How the two parsers disagree where they must not; else None."""
    theirs, tally = peers_count(peer, lines), ktap.parse(lines)
    good = not tally.failed and bool(tally.names)
    if good and theirs is None:
        return None if any(excuse(lines) for excuse, _ in LAXER) else \
            f"passes ({tally.line()}), and not with the kernel's parser"
    if good and theirs != len(tally.names):
        return f"has {len(tally.names)} tests, {theirs} for the kernel's parser"
    if not good and theirs is not None:
        if not any(re.search(reason, why) for reason, _ in STRICTER for _, why in tally.failed):
            return f"fails, and not with the kernel's parser: {tally.failed}"
    return None


def corpus(folder, lists):
    for name in sorted(os.listdir(folder)):
        if name.endswith(".log"):
            with open(os.path.join(folder, name), errors="replace") as file:
                yield name, file.read().splitlines()
    for name, text, _ in lists:
        yield name, text.splitlines()


def compare(tally, lists):
    """One result for each list of the corpus, with its first variation that differs."""
    kunit = os.path.join(vm.tool("trees/tree", "stock"), "tools", "testing", "kunit")
    peer = load_peer(kunit)
    for name, lines in corpus(os.path.join(kunit, "test_data"), lists):
        found = ((how, difference(peer, some)) for how, some in variations(lines))
        how, why = next(((how, why) for how, why in found if why), ("", ""))
        tally.add(f"peer.{name}", "fail" if why else "pass", f"{how}: {why}" if why else "")
