# SPDX-License-Identifier: GPL-2.0
"""Page out what the programs of a row have mapped, again and again, as memory pressure would.

A device's page table is filled with the pages that are there when a region is registered (on
mlx5), so that a program which touches its buffers first would never see a fault. Pages that a
driver has pinned stay. Needs swap.
"""
import ctypes
import glob
import os
import re
import threading

MADV_PAGEOUT = 21
SYS_PROCESS_MADVISE = 440
MOST = 1024                     # vectors in one call
ANONYMOUS = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) rw-p 0+ 00:00 0 ", re.M)


class Range(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("length", ctypes.c_size_t)]


LIBC = ctypes.CDLL(None, use_errno=True)


def parents():
    """{process: its parent}"""
    found = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path) as file:
                words = file.read().rpartition(")")[2].split()
        except OSError:
            continue                            # it has ended
        found[int(path.split("/")[2])] = int(words[1])
    return found


def descendants(of):
    above, found = parents(), {of}
    while True:
        more = {pid for pid, parent in above.items() if parent in found} - found
        if not more:
            return found - {of}
        found |= more


def page_out(pid):
    """The number of bytes that were advised."""
    try:
        with open(f"/proc/{pid}/maps") as file:
            found = ANONYMOUS.findall(file.read())
        handle = os.pidfd_open(pid)
    except OSError:
        return 0                                # it has ended
    areas = [(int(start, 16), int(end, 16)) for start, end in found]
    done = 0
    for at in range(0, len(areas), MOST):
        part = areas[at:at + MOST]
        vector = (Range * len(part))(*((start, end - start) for start, end in part))
        done += max(0, LIBC.syscall(SYS_PROCESS_MADVISE, handle, vector,
                                    ctypes.c_size_t(len(part)), MADV_PAGEOUT, 0))
    os.close(handle)
    return done


class Evictor:
    """Pages out this process's descendants, every so many seconds, while the block runs."""
    def __init__(self, wanted, period):
        self.wanted, self.period, self.stop, self.bytes = wanted, period, threading.Event(), 0
        self.thread = threading.Thread(target=self.loop, daemon=True)

    def loop(self):
        while not self.stop.wait(self.period):
            self.bytes += sum(page_out(pid) for pid in descendants(os.getpid()))

    def __enter__(self):
        if self.wanted:
            self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        if self.wanted:
            self.thread.join()
