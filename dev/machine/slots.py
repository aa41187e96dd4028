# SPDX-License-Identifier: GPL-2.0
"""How many VMs run at once.

The one that is expected to take longest goes first, so that none is left over that runs
alone at the end.  A pair of machines begins when there is room for both: it does not
hold half of the room while it waits for the other half, and shorter ones pass it.
"""
import contextlib
import itertools
import os
import threading

# With one, two host CPUs are idle for 40 % of the time.
COUNT = max(1, min(2, (os.cpu_count() or 1) // 2 + 1))
SECONDS = 60                        # what a VM takes of which nothing is known


class Slots:
    def __init__(self, count=COUNT):
        self.count = self.free = count
        self.waiting, self.order, self.changed = [], itertools.count(), threading.Condition()

    def next(self):
        """The waiter whose turn it is, or None.  Of equal ones, the first that came."""
        fit = [one for one in self.waiting if one[2] <= self.free]
        return min(fit, key=lambda one: (-one[0], one[1]), default=None)

    @contextlib.contextmanager
    def take(self, count=1, seconds=None):
        me = (float(seconds or SECONDS), next(self.order), min(count, self.count))
        with self.changed:
            self.waiting.append(me)
            self.changed.wait_for(lambda: self.next() is me)
            self.waiting.remove(me)
            self.free -= me[2]
            self.changed.notify_all()
        try:
            yield
        finally:
            with self.changed:
                self.free += me[2]
                self.changed.notify_all()


HOST = Slots()
