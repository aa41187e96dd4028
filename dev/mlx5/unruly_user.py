# SPDX-License-Identifier: GPL-2.0
"""What a program without rights can do to its adapter, a random act at a time."""
import collections
import ctypes
import mmap

from pyverbs.mr import MR, MW
from pyverbs.providers.mlx5.mlx5dv import Mlx5DevxObj, Mlx5UAR, Mlx5UMEM, Wqe, WqeCtrlSeg
from pyverbs.pyverbs_error import PyverbsError
from pyverbs.qp import QPAttr
from pyverbs.wr import SGE
import pyverbs.enums as e
import pyverbs.providers.mlx5.mlx5_enums as dve

from raw import OPCODE_UMR, raw_pair, segments
from rdma import LIBC, ODP, ALL, PAGE, Buffer

AREA = 256 * PAGE
MANY = 24                       # objects of a kind at a time
WQES = (0x00, 0x01, 0x08, 0x09, 0x0a, 0x0b, 0x0e, 0x10, 0x11, 0x12, 0x14, 0x15, 0x18, 0x19, 0x1b,
        0x20, 0x21, 0x23, OPCODE_UMR, 0x29, 0x2b)
CREATES = (0x200, 0x400, 0x500, 0x700, 0x800, 0x802, 0x816, 0x90c, 0x908, 0x904, 0x900, 0x912,
           0x916, 0x930, 0x93c, 0xa00, 0x705, 0x600, 0x717, 0x710)
GENERALS = (0x100, 0x101, 0x10a, 0x202, 0x203, 0x402, 0x502, 0x70d, 0x740, 0x750, 0x754, 0x760,
            0x770, 0x772, 0x80d, 0xb00, 0xa02)
ADVICE = (e._IBV_ADVISE_MR_ADVICE_PREFETCH, e._IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE,
          e._IBV_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT, 17)
FIXED = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10
ACCESS = (0, 1, ALL, ODP, ODP | 0x20, 0x40, ODP & ~2, e.IBV_ACCESS_MW_BIND | ODP)


class User:
    def __init__(self, rng):
        self.rng, self.counts = rng, collections.defaultdict(lambda: [0, 0])
        self.area = Buffer(AREA)
        self.regions, self.windows, self.objects, self.umems = [], [], [], []
        self.keys = [rng.getrandbits(32) for _ in range(4)] + [0x100, 0x200, 0x300]
        self.connect()
        self.uar = Mlx5UAR(self.near.context, dve._MLX5DV_UAR_ALLOC_TYPE_BF)
        self.acts = ((self.work, 12), (self.register, 4), (self.forget, 2), (self.change_memory, 4),
                     (self.advise, 3), (self.window, 2), (self.create, 3), (self.general, 2),
                     (self.over, 3),
                     (self.destroy, 2), (self.query, 1), (self.umem, 1), (self.doorbell, 3),
                     (self.modify_qp, 1), (self.rereg, 2))

    def act(self):
        act = self.rng.choices([act for act, _ in self.acts], [often for _, often in self.acts])[0]
        count = self.counts[act.__name__]
        try:
            act()
            count[0] += 1
        except (PyverbsError, OSError, ValueError, OverflowError, LookupError):
            count[1] += 1

    # ---- what an act is made of ----

    def connect(self, *before):
        self.near, self.far = raw_pair(on=before or (None, None), retry=1, rnr_retry=1, timeout=1)

    def end(self):
        return self.rng.choice((self.near, self.far))

    def bytes(self, count):
        """Mostly zeros, or all of them random; a few words that mean something."""
        rng = self.rng
        data = bytearray(count) if rng.random() < 0.6 else bytearray(rng.randbytes(count))
        for _ in range(rng.randrange(6)):
            at = rng.randrange(0, max(1, count - 8), 4)
            data[at:at + 8] = rng.choice((self.key().to_bytes(4, "big") * 2,
                                          self.address().to_bytes(8, "big"),
                                          rng.randbytes(8)))[:len(data[at:at + 8])]
        return bytes(data)

    def key(self):
        return self.rng.choice(self.keys)

    def know(self, *keys):
        self.keys = (self.keys + list(keys))[-40:]

    def length(self):
        return self.rng.choice((0, 1, 8, 63, PAGE, 3 * PAGE, AREA, 1 << 31,
                                self.rng.getrandbits(32)))

    def address(self):
        rng = self.rng
        return rng.choice((self.area.address + rng.randrange(AREA), self.area.address,
                           self.area.address + AREA - 8, 0, rng.getrandbits(64)))

    def keep(self, kept, new):
        """A full list loses one, by chance."""
        kept.append(new)
        if len(kept) > MANY:
            kept.pop(self.rng.randrange(MANY)).close()

    # ---- acts ----

    def work(self):
        """A WQE of whatever there is, or of what almost makes sense."""
        rng, end, opcode = self.rng, self.end(), self.rng.choice(WQES)
        entry = (self.length() & 0xffffffff).to_bytes(4, "big") + self.key().to_bytes(4, "big")
        entry += self.address().to_bytes(8, "big")
        place = self.address().to_bytes(8, "big") + self.key().to_bytes(4, "big") + bytes(4)
        data = rng.choice((self.bytes(16 * rng.randrange(12)), entry * rng.randrange(4),
                           place + entry, place + self.bytes(16) + entry,
                           bytes([rng.choice((0, 0x80)), 0, 0, rng.choice((0, 4, 8))]) +
                           self.bytes(60) + self.bytes(64) + entry * rng.randrange(8)))
        ctrl, parts = WqeCtrlSeg(), segments(data)[:60]
        ctrl.fm_ce_se = dve.MLX5_WQE_CTRL_CQ_UPDATE | rng.choice((0, 0, 0x20, 0x80, 0xe0, 2))
        ctrl.opmod_idx_opcode = rng.choice((0, 0, rng.getrandbits(8) << 24)) | opcode
        ctrl.qpn_ds = rng.choice((1 + len(parts),) * 4 + (rng.getrandbits(6),)) | end.qp.qp_num << 8
        ctrl.imm = self.key()
        if rng.random() < 0.2:
            end.post_recv(rng.choice(self.regions), self.address(), self.length() & 0x7fffffff)
        end.qp.wr_start()
        end.qp.wr_raw_wqe(Wqe([ctrl] + parts))
        end.qp.wr_complete()
        self.reap(end)

    def reap(self, end):
        """What has completed; a pair that is broken is made anew before long."""
        broken = any(one.status != e.IBV_WC_SUCCESS for one in end.cq.poll(4)[1])
        if self.rng.random() < (0.3 if broken else 0.02):
            self.near.close()
            self.far.close()
            self.connect(self.near, self.far)

    def register(self):
        rng, end = self.rng, self.end()
        if rng.random() < 0.1:
            mr = MR(end.pd, 0, rng.choice((ODP, ODP & ~1)), implicit=True)
        else:
            # For address 0 pyverbs would take memory of its own, and fill it.
            mr = MR(end.pd, self.length(), rng.choice(ACCESS), address=self.address() or PAGE)
        self.know(mr.rkey, mr.lkey, mr.rkey ^ 1)
        self.keep(self.regions, mr)

    def forget(self):
        self.regions.pop(self.rng.randrange(len(self.regions) or 1)).close()

    def rereg(self):
        mr = self.rng.choice(self.regions)
        mr.rereg(flags=self.rng.randrange(8), pd=self.end().pd, addr=self.address(),
                 length=self.length(), access=self.rng.choice(ACCESS))
        self.know(mr.rkey)

    def advise(self):
        mr = self.rng.choice(self.regions)
        self.end().pd.advise_mr(self.rng.choice(ADVICE), self.rng.randrange(2),
                                [SGE(self.address(), self.length() & 0xffffffff, mr.lkey)
                                 for _ in range(1 + self.rng.randrange(3))])

    def window(self):
        window = MW(self.end().pd, self.rng.choice((e.IBV_MW_TYPE_1, e.IBV_MW_TYPE_2)))
        self.know(window.rkey)
        self.keep(self.windows, window)

    def change_memory(self):
        rng, page = self.rng, self.rng.randrange(256)
        at, length = self.area.address + page * PAGE, (1 + rng.randrange(256 - page)) * PAGE
        what = rng.randrange(3)
        if what == 0:
            LIBC.madvise(ctypes.c_void_p(at), ctypes.c_size_t(length), rng.choice((4, 14, 15, 21)))
        elif what == 1:
            LIBC.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(length),
                          rng.choice((0, mmap.PROT_READ, 3, 3)))
        else:
            # No hole: Python's own memory would come to lie in it.
            LIBC.mmap(ctypes.c_void_p(at), ctypes.c_size_t(length), rng.choice((0, 3)), FIXED,
                      -1, 0)

    def umem(self):
        self.keep(self.umems, Mlx5UMEM(self.near.context, (self.length() & 0xfffff) or PAGE,
                                       addr=self.address() or PAGE, alignment=64))

    def create(self):
        opcode = self.rng.choice(CREATES)
        body = self.bytes(14 + 16 * self.rng.randrange(40))
        made = Mlx5DevxObj(self.end().context, opcode.to_bytes(2, "big") + body,
                           16 + 16 * self.rng.randrange(4))
        number = int.from_bytes(bytes(made.out_view)[9:12], "big")
        self.know(number << 8, number)
        self.keep(self.objects, made)

    def over(self):
        """A key over others, which may be its own or no keys at all."""
        entries = [(self.length() & 0xffffffff, self.key(), self.address())
                   for _ in range(self.rng.randrange(1, 9))]
        made, key = self.end().indirect(entries, self.length(), self.rng.getrandbits(8))
        self.know(key)
        self.keep(self.objects, made)

    def destroy(self):
        self.objects.pop(self.rng.randrange(len(self.objects) or 1)).close()

    def query(self):
        self.rng.choice(self.objects).query(self.bytes(16 + 16 * self.rng.randrange(8)), 256)

    def general(self):
        opcode = self.rng.choice(GENERALS + (self.rng.getrandbits(16),))
        self.near.context.devx_general_cmd(
            opcode.to_bytes(2, "big") + self.bytes(14 + 16 * self.rng.randrange(8)),
            16 + 16 * self.rng.randrange(16))

    def doorbell(self):
        place = self.uar.base_addr + self.rng.choice((0x20, 0x800, 0x900,
                                                      self.rng.randrange(0, PAGE, 8)))
        word = self.rng.choice((self.near.qp.qp_num << 8 | self.rng.getrandbits(16) << 32,
                                self.rng.getrandbits(64)))
        ctypes.c_uint64.from_address(place).value = word

    def modify_qp(self):
        self.end().qp.modify(QPAttr(qp_state=self.rng.randrange(8)), e.IBV_QP_STATE)
