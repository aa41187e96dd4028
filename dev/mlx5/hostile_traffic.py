#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Small ODP traffic of every kind that there is, for use beside an adapter that
misbehaves.  There a verb may be refused, an operation may fail or not come back:
all of that is counted and the next round begins with objects of its own.  Only
one thing is wrong in any case: a success with other bytes than those sent.

    good()                  each kind once, all of it must work
    endless(folder, kinds)  each kind in a process of its own, until killed;
                            folder/<kind> has its tally

By itself the program does the first, or with a folder the second.
"""
import mmap
import os
import signal
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "tests")]

import pyverbs.enums as e                       # noqa: E402
from pyverbs.mr import MW, MWBind, MWBindInfo   # noqa: E402
from pyverbs.pyverbs_error import PyverbsError  # noqa: E402
from pyverbs.srq import SRQ, SrqAttr, SrqInitAttr   # noqa: E402
from pyverbs.wr import SGE, RecvWR              # noqa: E402

from mlx5ctl import Adapter                     # noqa: E402
from rdma import ALL, ODP, PAGE, Buffer, End, pattern     # noqa: E402

PAGES = 16
LENGTH = PAGES * PAGE
BYTES = pattern(LENGTH, 1)
PATIENCE = 0.4      # seconds for a completion, beside trouble


class Wrong(Exception):
    """A success that was none."""


class Failed(Exception):
    """An operation completed in error."""


class Round:
    """Two connected ends, a source and a target on demand."""

    def __init__(self, device, limit):
        self.limit = limit
        self.near = End(device)
        self.far = End(device, on=self.near)
        self.near.connect(self.far)
        self.far.connect(self.near)
        self.src, self.dst = Buffer(LENGTH), Buffer(LENGTH)
        self.src[:] = BYTES
        self.smr, self.dmr = self.near.region(self.src, ODP), self.far.region(self.dst, ODP)

    def done(self, *ends):
        for end in ends or (self.near,):
            status = end.status(self.limit)
            if status != e.IBV_WC_SUCCESS:
                raise Failed(f"status {status}")

    def write(self, smr=None, dmr=None):
        self.near.post(e.IBV_WR_RDMA_WRITE, smr or self.smr, self.src.address, LENGTH,
                       self.dst.address, (dmr or self.dmr).rkey)
        self.done()
        self.compare()

    def compare(self):
        if self.dst[:] != self.src[:]:
            first = next(at for at in range(LENGTH) if self.dst.map[at] != self.src.map[at])
            raise Wrong(f"byte {first} of {LENGTH} differs")

    def close(self):
        """What the program's end does, but while the adapter may refuse it."""
        self.near.context.close()


# ---- kinds of traffic: one round of each ----

def write(r):
    r.write()
    r.dst.madvise(mmap.MADV_DONTNEED)
    r.write()


def read(r):
    r.dst[:] = r.src[:]
    r.src[:] = bytes(LENGTH)
    r.near.post(e.IBV_WR_RDMA_READ, r.smr, r.src.address, LENGTH, r.dst.address, r.dmr.rkey)
    r.done()
    r.compare()


def send(r):
    r.far.post_recv(r.dmr, r.dst.address, LENGTH)
    r.near.post(e.IBV_WR_SEND, r.smr, r.src.address, LENGTH)
    r.done(r.near, r.far)
    r.compare()


def shared(r):
    srq = SRQ(r.far.pd, SrqInitAttr(SrqAttr(max_wr=32)))
    near, far = End(None, on=r.near), End(None, on=r.far, srq=srq)
    near.connect(far)
    far.connect(near)
    srq.post_recv(RecvWR(num_sge=1, sg=[SGE(r.dst.address, LENGTH, r.dmr.lkey)]))
    near.post(e.IBV_WR_SEND, r.smr, r.src.address, LENGTH)
    r.done(near, far)
    r.compare()
    # And to the error state, from which a receive comes back unused.
    near.post_recv(r.dmr, r.dst.address, LENGTH)
    near.fail()
    if near.status(r.limit) != e.IBV_WC_WR_FLUSH_ERR:
        raise Failed("a receive of a failed QP is not flushed")


def atomic(r):
    r.dst[:8] = (5).to_bytes(8, "little")
    r.near.post(e.IBV_WR_ATOMIC_FETCH_AND_ADD, r.smr, r.src.address, 8, r.dst.address,
                r.dmr.rkey, compare=2)
    r.done()
    if (r.src[0], r.dst[0]) != (5, 7):
        raise Wrong(f"5 + 2 is {r.dst[0]}, 5 came back as {r.src[0]}")


def implicit(r):
    r.write(r.near.implicit(), r.far.implicit())


def prefetch(r):
    flags = e._IBV_ADVISE_MR_FLAG_FLUSH
    for end, buffer, mr in ((r.near, r.src, r.smr), (r.far, r.dst, r.dmr)):
        end.pd.advise_mr(e._IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE, flags,
                         [SGE(buffer.address, LENGTH, mr.lkey)])
    r.write()


def regions(r):
    """Keys come and go, pinned ones too; memory goes before its region."""
    for pages in (1, 3, 33, 700):
        buffer = Buffer(pages * PAGE)
        buffer[:8] = bytes(8)
        for access in (ALL, ODP):
            r.near.region(buffer, access).close()
    buffer = Buffer(LENGTH)
    mr = r.near.region(buffer, ODP)
    buffer.unmap()
    mr.close()


def window(r):
    mw = MW(r.far.pd, e.IBV_MW_TYPE_1)
    access = e.IBV_ACCESS_REMOTE_WRITE | e.IBV_ACCESS_REMOTE_READ
    mr = r.far.region(r.dst, ODP | e.IBV_ACCESS_MW_BIND)
    r.far.qp.bind_mw(mw, MWBind(MWBindInfo(mr, r.dst.address, LENGTH, access),
                                e.IBV_SEND_SIGNALED))
    r.done(r.far)
    r.write(dmr=mw)
    mw.close()


KINDS = {kind.__name__: kind for kind in (write, read, send, shared, atomic, implicit, prefetch,
                                          regions, window)}


def device():
    return sorted(os.listdir("/sys/class/infiniband"))[0]


# ---- the programs ----

def good():
    name = device()
    adapter = Adapter(name)
    before = adapter.counters()
    for kind in KINDS.values():
        r = Round(name, 20)
        kind(r)
        r.close()
    faults = {key: value - before[key] for key, value in adapter.counters().items()
              if key.startswith("faults-") and value > before[key]}
    expected = (("faults-memory",) if adapter["memory-scheme"] else
                ("faults-sq", "faults-rq", "faults-srq", "faults-rdma"))
    if any(key not in faults for key in expected):
        raise Failed(f"not all kinds of faults were taken: {faults}")


def one_round(kind, name):
    """What became of it, and the words for it."""
    r = None
    try:
        r = Round(name, PATIENCE)
        kind(r)
        return "ok", ""
    except Wrong as error:
        return "wrong", str(error)
    except TimeoutError as error:
        return "stalled", str(error)
    except Failed as error:
        return "failed", str(error)
    except (PyverbsError, OSError, IndexError) as error:
        return "refused", str(error)
    finally:
        if r:
            try:
                r.close()
            except PyverbsError:
                pass


def rounds(kind, folder):
    tally = {"ok": 0, "failed": 0, "stalled": 0, "refused": 0, "wrong": 0}
    file = os.open(os.path.join(folder, kind.__name__), os.O_WRONLY | os.O_CREAT)
    words = ""
    while True:
        verdict, said = one_round(kind, device())
        tally[verdict] += 1
        if verdict == "wrong" or not words:
            words = " ".join(said.split())[:150]
        line = " ".join(f"{key}={value}" for key, value in tally.items())
        os.pwrite(file, f"{line:80} {words:150}\n".encode(), 0)


def endless(folder, kinds=()):
    for name in kinds or KINDS:
        if not os.fork():
            rounds(KINDS[name], folder)
    signal.pause()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        endless(sys.argv[1])
    else:
        good()
