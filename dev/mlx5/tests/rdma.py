# SPDX-License-Identifier: GPL-2.0
"""Small RDMA ends for the tests: a QP with its CQ, memory that we own, one call
a verb.  Everything is real: pyverbs, libibverbs, libmlx5, the kernel's driver.
"""
import ctypes
import mmap
import os
import subprocess
import time

from pyverbs.addr import AHAttr
from pyverbs.cq import CQ
from pyverbs.device import Context
from pyverbs.mr import MR, MW, MWBind, MWBindInfo
from pyverbs.pd import PD
from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyverbs.wr import SGE, RecvWR, SendWR
import pyverbs.enums as e

from mlx5ctl import Adapter

PAGE = 4096
NORESERVE = 0x4000      # MAP_NORESERVE
ALL = (e.IBV_ACCESS_LOCAL_WRITE | e.IBV_ACCESS_REMOTE_WRITE | e.IBV_ACCESS_REMOTE_READ |
       e.IBV_ACCESS_REMOTE_ATOMIC)
ODP = ALL | e.IBV_ACCESS_ON_DEMAND
LIBC = ctypes.CDLL(None, use_errno=True)
NOBODY = 65534
LIMIT = 60      # seconds a completion may take


class Buffer:
    """Anonymous memory, page-aligned; data is read and written by slices."""

    def __init__(self, length, flags=0):
        self.length = length
        self.map = mmap.mmap(-1, length, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | flags)
        self.address = ctypes.addressof((ctypes.c_char * length).from_buffer(self.map))

    def __getitem__(self, part):
        return self.map[part]

    def __setitem__(self, part, value):
        self.map[part] = value

    def madvise(self, advice, offset=0, length=None):
        self.map.madvise(advice, offset, self.length - offset if length is None else length)

    def unmap(self):
        """The memory goes, the object stays: its address is what tests are after."""
        if LIBC.munmap(ctypes.c_void_p(self.address), ctypes.c_size_t(self.length)):
            raise OSError(ctypes.get_errno(), "munmap")
        # Python would unmap it again, and whatever lies there then.
        self.__class__.kept = getattr(self.__class__, "kept", []) + [self.map]

    def protect(self, prot, offset=0, length=None):
        length = self.length - offset if length is None else length
        if LIBC.mprotect(ctypes.c_void_p(self.address + offset), ctypes.c_size_t(length), prot):
            raise OSError(ctypes.get_errno(), "mprotect")


def become_nobody():
    """A user without rights, from here on."""
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def ours():
    """Which driver it is: stock's answers a UMR that failed with a WARNING, and goes on."""
    with open("/proc/kallsyms") as file:
        return any(" mlx5r_umrq_post" in line for line in file)


def fences():
    """How often an adapter was taken off the bus."""
    log = subprocess.run(["dmesg"], check=True, capture_output=True, text=True).stdout
    return log.count("is taken off the bus")


def pfn(address):
    """The page frame of an address of ours, or None while nothing is mapped."""
    with open("/proc/self/pagemap", "rb") as file:
        file.seek(address // PAGE * 8)
        entry = int.from_bytes(file.read(8), "little")
    return entry & ((1 << 55) - 1) if entry >> 63 else None


def provokes(test, device):
    """Commands that this test has refused are meant: dev/mlx5/checked.sh takes them from
    what the adapter counted.  Called first, it looks again after all other cleanups."""
    adapter = Adapter(device)

    def counted():
        return adapter["cmd-errors"] - adapter["resumes-unknown"]

    def note(before):
        with open("/tmp/provoked", "a", encoding="ascii") as file:
            file.write(f"{adapter.address} {counted() - before}\n")

    test.addCleanup(note, counted())


class End:
    """One end of a reliable connection; on: another end, whose domain it shares."""

    def __init__(self, device, kind=e.IBV_QPT_RC, on=None, depth=64, srq=None, rnr_retry=7,
                 retry=7, timeout=10, context=None):
        self.context = on.context if on else context or Context(name=device)
        self.pd = on.pd if on else PD(self.context)
        self.cq = CQ(self.context, 4 * depth)
        cap = QPCap(max_send_wr=depth, max_recv_wr=0 if srq else depth, max_send_sge=4,
                    max_recv_sge=0 if srq else 4, max_inline_data=64)
        self.qp = QP(self.pd, QPInitAttr(qp_type=kind, scq=self.cq, rcq=self.cq, srq=srq, cap=cap,
                                         sq_sig_all=1), QPAttr(port_num=1))
        self.lid = self.context.query_port(1).lid
        self.rnr_retry, self.retry, self.timeout = rnr_retry, retry, timeout

    def connect(self, other):
        attr = QPAttr(port_num=1)
        attr.qp_access_flags = ALL
        self.qp.to_init(attr)
        attr.dest_qp_num = other.qp.qp_num
        attr.path_mtu = e.IBV_MTU_1024
        attr.max_dest_rd_atomic = attr.max_rd_atomic = 4
        attr.min_rnr_timer = 12
        attr.rq_psn = attr.sq_psn = 0
        attr.ah_attr = AHAttr(port_num=1, dlid=other.lid, is_global=0)
        attr.rnr_retry, attr.retry_cnt, attr.timeout = self.rnr_retry, self.retry, self.timeout
        self.qp.to_rts(attr)

    def region(self, buffer, access=ALL):
        return MR(self.pd, buffer.length, access, address=buffer.address)

    def implicit(self, access=ODP):
        return MR(self.pd, 0, access, implicit=True)

    def window(self, mr, address, length):
        """A memory window of type 1, bound; our completion queue is empty before."""
        window = MW(self.pd, e.IBV_MW_TYPE_1)
        info = MWBindInfo(mr, address, length, e.IBV_ACCESS_REMOTE_WRITE)
        self.qp.bind_mw(window, MWBind(info, e.IBV_SEND_SIGNALED))
        if self.status() != e.IBV_WC_SUCCESS:
            raise OSError("the window was not bound")
        return window

    def post(self, opcode, mr, address, length, remote=None, rkey=0, imm=0, compare=0, swap=0,
             flags=e.IBV_SEND_SIGNALED):
        wr = SendWR(opcode=opcode, num_sge=1, sg=[SGE(address, length, mr.lkey)],
                    imm_data=imm, send_flags=flags)
        if opcode in (e.IBV_WR_ATOMIC_FETCH_AND_ADD, e.IBV_WR_ATOMIC_CMP_AND_SWP):
            wr.set_wr_atomic(rkey, remote, compare, swap)
        elif remote is not None:
            wr.set_wr_rdma(rkey, remote)
        self.qp.post_send(wr)

    def post_recv(self, mr, address, length, srq=None):
        (srq or self.qp).post_recv(RecvWR(num_sge=1, sg=[SGE(address, length, mr.lkey)]))

    def completion(self, limit=LIMIT):
        end = time.monotonic() + limit
        while time.monotonic() < end:
            count, found = self.cq.poll()
            if count:
                return found[0]
        raise TimeoutError(f"no completion in {limit} s")

    def status(self, limit=LIMIT):
        return self.completion(limit).status

    def write(self, mr, address, length, remote, rkey):
        self.post(e.IBV_WR_RDMA_WRITE, mr, address, length, remote, rkey)
        return self.status()

    def read(self, mr, address, length, remote, rkey):
        self.post(e.IBV_WR_RDMA_READ, mr, address, length, remote, rkey)
        return self.status()

    def fail(self):
        """To the error state, as an application does that gives up."""
        self.qp.modify(QPAttr(qp_state=e.IBV_QPS_ERR), e.IBV_QP_STATE)

    def close(self):
        self.qp.close()
        self.cq.close()


def pair(first="mlx5_0", second="mlx5_0", **options):
    one, two = End(first, **options), End(second, **options)
    one.connect(two)
    two.connect(one)
    return one, two


def pattern(length, seed):
    """Bytes that differ from page to page and from seed to seed."""
    block = os.urandom(64)
    out = bytearray()
    for at in range(0, length, 64):
        out += (at ^ seed).to_bytes(8, "little") + block[8:]
    return bytes(out[:length])
