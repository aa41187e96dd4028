#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: unruly.py SEED SECONDS

A program without rights does at random what the kernel lets any program do: WQEs byte by
byte, DEVX commands and objects, doorbells, and verbs on memory that changes.  Beside it a
program of another user moves data.  None of its operations may fail, none of its bytes be
wrong, the adapter may not be taken off the bus, and the unruly one can end at any moment.
"""
import collections
import os
import random
import resource
import signal
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "tests")]

from mlx5ctl import Adapter                         # noqa: E402
from rdma import ODP, Buffer, become_nobody, e, fences, pair, pattern      # noqa: E402
from unruly_user import User                        # noqa: E402

LENGTH = 64 << 10
LIFE = 10               # seconds at most, of one unruly program


def victim(stop):
    """Its moves until it is told to stop; an exception is the end of it, and the test's."""
    near, far = pair()
    src, dst = Buffer(LENGTH), Buffer(LENGTH)
    smr, dmr = near.region(src, ODP), far.region(dst, ODP)
    print(f"victim: keys {smr.rkey:#x} {dmr.rkey:#x}", flush=True)
    moved = 0
    while not os.path.exists(stop):
        src[:] = pattern(LENGTH, moved)
        for verb in (near.write, near.read):
            if verb(smr, src.address, LENGTH, dst.address, dmr.rkey) != e.IBV_WC_SUCCESS:
                sys.exit(f"the victim's move {moved} failed")
            if src[:] != dst[:]:
                sys.exit(f"the victim's move {moved} brought other bytes")
        dst.madvise(4)                              # MADV_DONTNEED
        moved += 1
    print(f"victim: {moved} moves", flush=True)


def unruly(seed, seconds, pipe):
    """Ends when the time is up, or is killed while it works."""
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (256 << 20, 256 << 20))
    become_nobody()
    user = User(random.Random(seed))
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            user.act()
    finally:
        with os.fdopen(pipe, "w") as file:
            file.writelines(f"{name} {done} {refused}\n" for name, (done, refused) in
                            user.counts.items())


def child(what, *args):
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        what(*args)
        status = 0
    except SystemExit as error:
        print(error, flush=True)
    except BaseException as error:                  # pylint: disable=broad-except
        print(f"{what.__name__}: {type(error).__name__}: {error}", flush=True)
    os._exit(status)


def one_life(rng, number, total):
    """True: it came to its own end, or was killed as planned."""
    readable, pipe = os.pipe()
    seconds, kill = rng.uniform(1, LIFE), rng.random() < 0.3
    pid = child(unruly, rng.getrandbits(32), seconds, pipe)
    os.close(pipe)
    if kill:
        time.sleep(seconds * rng.random())
        os.kill(pid, signal.SIGKILL)
    with os.fdopen(readable) as file:
        for line in file:
            name, done, refused = line.split()
            total[name][0] += int(done)
            total[name][1] += int(refused)
    status = os.waitpid(pid, 0)[1]
    if status and not (kill and os.WIFSIGNALED(status)):
        print(f"program {number} ended with status {status:#x}", flush=True)
        return False
    return True


def main():
    seed, seconds = int(sys.argv[1]), float(sys.argv[2])
    rng, total = random.Random(seed), collections.defaultdict(lambda: [0, 0])
    adapter, stop = Adapter("mlx5_0"), f"/tmp/stop.{os.getpid()}"
    before = adapter["cmd-errors"] - adapter["resumes-unknown"]
    other = child(victim, stop)
    end, good, number = time.monotonic() + seconds, True, 0
    while good and time.monotonic() < end and os.waitpid(other, os.WNOHANG) == (0, 0):
        number += 1
        good = one_life(rng, number, total)
    with open(stop, "w", encoding="ascii"):
        pass
    good = not os.waitpid(other, 0)[1] and good
    # What checked.sh need not count: commands that are refused are what this is about.
    refused = adapter["cmd-errors"] - adapter["resumes-unknown"] - before
    with open("/tmp/provoked", "a", encoding="ascii") as file:
        file.write(f"{adapter.address} {refused}\n")
    for name, (done, refused) in sorted(total.items()):
        print(f"{name:12} {done:8} done {refused:8} refused")
    print(f"seed {seed}: {number} programs, "
          f"{sum(done + refused for done, refused in total.values())} acts")
    if fences():
        sys.exit("the adapter was taken off the bus")
    near, far = pair()
    buffer = Buffer(LENGTH)
    mr = near.region(buffer, ODP)
    if far.write(far.region(buffer, ODP), buffer.address, 64, buffer.address, mr.rkey):
        sys.exit("no traffic after it")
    sys.exit(0 if good and total else 1)


if __name__ == "__main__":
    main()
