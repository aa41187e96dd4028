#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: make ... | dev/lib/progress.py WHAT LOG [TOTAL]

Copies a build's output to LOG, and says on stderr how far it is: on a terminal in
one line, in a log every half minute.  ninja says itself how much there is.  make
does not; TOTAL is what a whole build compiles, about.
"""
import re
import sys
import time

STEP = re.compile(r"^\[(\d+)/(\d+)\]")
COMPILED = re.compile(r"^  (?:CC|AS) ")
TERMINAL, EVERY = 0.5, 30           # seconds between two reports


def clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


class Progress:
    def __init__(self, what, total):
        self.what, self.total, self.done = what, total, 0
        self.about = "about "
        self.start = self.said = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def line(self, line):
        if step := STEP.match(line):
            self.done, self.total, self.about = int(step[1]), int(step[2]), ""
        elif COMPILED.match(line):
            self.done += 1
        else:
            return
        now = time.monotonic()
        if now - self.said >= (TERMINAL if self.terminal else EVERY):
            self.say(now)

    def text(self, now):
        gone = now - self.start
        text = f"{self.what}: {self.done} objects after {clock(gone)}"
        if self.total > self.done > 0:
            left = gone * (self.total - self.done) / self.done
            text = (f"{self.what}: {self.done} of {self.about}{self.total} objects after "
                    f"{clock(gone)}, about {clock(left)} left")
        return text

    def say(self, now):
        self.said = now
        end = "\033[K\r" if self.terminal else "\n"
        sys.stderr.write(self.text(now) + end)
        sys.stderr.flush()

    def end(self):
        if self.terminal:
            sys.stderr.write("\033[K")


def main():
    what, log = sys.argv[1:3]
    progress = Progress(what, int(sys.argv[3]) if len(sys.argv) > 3 and sys.argv[3] else 0)
    with open(log, "w", errors="surrogateescape") as out:
        for line in sys.stdin:
            out.write(line)
            progress.line(line)
    progress.end()


if __name__ == "__main__":
    main()
