# SPDX-License-Identifier: GPL-2.0
"""The adapter as its driver sees it: commands, queues, keys, work requests.  Commands and
contexts are named as in the kernel's mlx5_ifc.h; what is missing from a call is zero.
"""
import os
import re
import struct

from layout import Layout
from qtest import BAR, MSIX, PAGE, TEST_BAR

DEVCTL, FLR = 0x68, 1 << 15     # of the PCI Express capability
SLOT_BYTES, BOX, BOX_STRIDE, MAX_BOXES = 64, 512, 1024, 40
OWNER_HW = 1
OK, INT_ERR, BAD_OP, BAD_PARAM, BAD_RES, LIM, BAD_RES_STATE, NO_RES = 0, 1, 2, 3, 5, 8, 9, 0xf
NAMES = {"2ERR_QP": "qp_2err", "2RST_QP": "qp_2rst", "ACCESS_REG": "access_register"}
RC, UC, UD = 0, 1, 2
MTT, KSM = 1, 3              # what the entries of a key are: pages, keys of one size
ZERO_LEN_RQ, SRQ_RQ = 3, 1
INIT, RTR, RTS, ERR = 1, 2, 3, 6
READ, WRITE, WRITE_IMM, SEND, FETCH_ADD, NOP = 0x10, 0x08, 0x09, 0x0a, 0x12, 0
COMPLETE, SMALL_FENCE, STRONG, FENCE = 0x08, 1 << 5, 3 << 5, 4 << 5
# Completions: their opcode, and syndromes of those in error.
REQ, RESP_WRITE_IMM, RESP_SEND, REQ_ERR, RESP_ERR = 0, 1, 2, 13, 14
FLUSHED, REMOTE_INVALID, REMOTE_ACCESS = 0x05, 0x12, 0x13
RETRIES, RNR_RETRIES = 0x15, 0x16
SHARED = 0xffff         # user context: the driver, in the name of all of them
BOOT, BEGIN = 1, 2      # QUERY_PAGES
FAIL, GIVE, TAKE = range(3)
COMMAND, PAGE_REQUEST, PAGE_FAULT = 0x0a, 0x0b, 0x0c
# Commands are waited for, without their events.
ALL_EVENTS = (1 << 64) - 1 & ~(1 << COMMAND)


class Refused(Exception):
    def __init__(self, name, status):
        super().__init__(f"{name}: status {status:#x}")
        self.status = status


class Answer:
    def __init__(self, layout, kind, data):
        self.layout, self.kind, self.data = layout, kind, data

    def __getitem__(self, path):
        return self.layout.get(self.kind, self.data, path)


class Adapter:
    def __init__(self, machine, headers, nr=0):
        self.machine, self.slot = machine, 4 + nr
        path = os.path.join(headers, "linux/mlx5/mlx5_ifc.h")
        self.layout = Layout(path)
        with open(path) as file:
            self.opcodes = {name: int(value, 0) for name, value in
                            re.findall(r"MLX5_CMD_OP_(\w+)\s*= (0x\w+)", file.read())}
        self.bar, self.msix, self.test = (base + (nr << 24) for base in (BAR, MSIX, TEST_BAR))
        self.places()
        self.queue = machine.pages()
        self.boxes = [self.chain(), self.chain()]
        self.set_queue()

    # ---- the bus ----

    def places(self):
        """BARs where there is no memory, and then decoding and bus mastering."""
        for bar, value in ((0, self.bar), (1, 0), (2, self.msix), (4, self.test)):
            self.machine.config(self.slot, 0x10 + 4 * bar, value)
        self.master(True)

    def master(self, on):
        self.machine.config(self.slot, 4, 6 if on else 2, 2)

    def reset(self):
        """Of the function (FLR)."""
        self.machine.config(self.slot, DEVCTL, FLR, 2)
        self.places()

    def set_queue(self):
        self.register(0x10, self.queue >> 32)
        self.register(0x14, self.queue & 0xffffffff)

    def register(self, offset, value=None):
        """Of the initialisation segment, which is big-endian."""
        if value is None:
            return int.from_bytes(self.machine.read(self.bar + offset, 4), "big")
        swapped = int.from_bytes(value.to_bytes(4, "big"), "little")
        return self.machine.store(self.bar + offset, swapped, 4)

    def doorbell(self, uar, register, data):
        """Four or eight bytes, in the order in which they lie in memory."""
        self.machine.store(self.bar + uar * PAGE + register, int.from_bytes(data, "little"),
                           len(data))

    # ---- commands ----

    def chain(self):
        """Mailboxes, linked once and for all."""
        first = self.machine.pages(MAX_BOXES * BOX_STRIDE // PAGE)
        for nr in range(MAX_BOXES):
            link = first + (nr + 1) * BOX_STRIDE if nr + 1 < MAX_BOXES else 0
            self.machine.write(first + nr * BOX_STRIDE + BOX + 48,
                               struct.pack(">QIBBBB", link, nr, 0, 0, 0, 0))
        return first

    def raw(self, data, out_len, slot=0, wait=1000):
        """The whole answer, or None if the adapter gave none."""
        into, back = self.boxes
        for nr, at in enumerate(range(16, len(data), BOX)):
            self.machine.write(into + nr * BOX_STRIDE, data[at:at + BOX])
        entry = self.queue + slot * SLOT_BYTES
        self.machine.write(entry, struct.pack(">B3xIQ", 7, len(data), into) +
                           bytes(data[:16]).ljust(16, b"\0") + bytes(16) +
                           struct.pack(">QIBBBB", back, out_len, 0, 0, 0, OWNER_HW))
        self.register(0x18, 1 << slot)
        self.machine.step(wait)
        done = self.machine.read(entry + 32, 32)
        if done[31] & OWNER_HW:
            return None
        out = done[:16]
        for nr, at in enumerate(range(16, out_len, BOX)):
            out += self.machine.read(back + nr * BOX_STRIDE, min(BOX, out_len - at))
        return out[:out_len]

    def command(self, name, more=b"", out_more=0, uid=0, **fields):
        """The answer to a command that works; any other status is an exception.  uid: the
        user context in whose name it comes, also where the layout has no place for it."""
        kind = NAMES.get(name, name.lower())
        if name == "DESTROY_UCTX":          # of which it is the object
            fields, uid = {"uid": uid}, 0
        data = self.layout.new(f"{kind}_in", opcode=self.opcodes[name], **fields)
        data[2:4] = uid.to_bytes(2, "big")
        out = self.raw(bytes(data) + more, self.layout.bytes(f"{kind}_out") + out_more)
        if out is None:
            raise TimeoutError(f"{name}: no answer")
        if out[0]:
            raise Refused(name, out[0])
        return Answer(self.layout, f"{kind}_out", out)

    def status(self, name, more=b"", **fields):
        try:
            self.command(name, more, **fields)
        except Refused as refused:
            return refused.status
        return OK

    def start(self):
        """As far as a driver goes before it makes objects."""
        self.command("ENABLE_HCA")
        self.command("SET_ISSI", current_issi=1)
        for stage in (BOOT, BEGIN):
            self.lend(self.command("QUERY_PAGES", op_mod=stage)["num_pages"])
        self.command("INIT_HCA")
        self.pd = self.command("ALLOC_PD")["pd"]
        self.uar = self.command("ALLOC_UAR")["uar"]
        self.eq = EventQueue(self)
        return self

    def lend(self, count):
        """Pages for the firmware."""
        first = self.machine.pages(count)
        self.command("MANAGE_PAGES", pas(*(first + PAGE * nr for nr in range(count))), op_mod=GIVE,
                     input_num_entries=count)
        return first

    def take_back(self, count):
        """As many as it returns."""
        answer = self.command("MANAGE_PAGES", op_mod=TAKE, input_num_entries=count,
                              out_more=8 * count)
        return struct.unpack_from(f">{answer['output_num_entries']}Q", answer.data, 16)

    def counter(self, name):
        return self.test_value(0x1000, 0x4000, 0x28, name)

    def knob(self, name, value):
        self.machine.store(self.test + self.test_place(0x2000, 0x8000, 0x30, name), value, 8)

    def test_place(self, values, names, count, name):
        for nr in range(self.machine.load(self.test + count, 8)):
            if self.machine.read(self.test + names + 32 * nr, 32).split(b"\0")[0].decode() == name:
                return values + 8 * nr
        raise KeyError(name)

    def test_value(self, values, names, count, name):
        return self.machine.load(self.test + self.test_place(values, names, count, name), 8)


def pas(*addresses):
    return struct.pack(f">{len(addresses)}Q", *addresses)


class EventQueue:
    def __init__(self, adapter, types=ALL_EVENTS, log_size=6, uar=None, vector=0, uid=SHARED):
        self.adapter, self.log_size, self.index = adapter, log_size, 0
        self.ring = adapter.machine.pages()
        self.uar = adapter.uar if uar is None else uar
        for nr in range(1 << log_size):
            adapter.machine.write(self.ring + 64 * nr + 63, b"\1")
        self.number = adapter.command(
            "CREATE_EQ", pas(self.ring), uid=uid, eq_context_entry__uar_page=self.uar,
            eq_context_entry__log_eq_size=log_size, eq_context_entry__intr=vector,
            event_bitmask=types << 192)["eq_number"]

    def events(self):
        """What came since the last look: (type, subtype, 28 bytes of data) each."""
        found = []
        while True:
            slot = self.index % (1 << self.log_size)
            raw = self.adapter.machine.read(self.ring + 64 * slot, 64)
            if raw[63] & 1 != self.index >> self.log_size & 1:
                break
            found.append((raw[1], raw[3], raw[32:60]))
            self.index += 1
        self.tell(self.uar)
        return found

    def tell(self, uar, index=None):
        index = self.index if index is None else index
        self.adapter.doorbell(uar, 0x40, struct.pack(">I", self.number << 24 | index & 0xffffff))


class CompletionQueue:
    """like: another one, whose memory it shares: it is not for use."""

    def __init__(self, adapter, log_size=6, uid=0, uar=None, eqn=None, like=None):
        self.adapter, self.log_size, self.index = adapter, log_size, 0
        machine, pages = adapter.machine, 1 << max(0, log_size - 6)
        self.ring = like.ring if like else machine.pages(pages)
        self.record = like.record if like else machine.pages()
        self.uar = adapter.uar if uar is None else uar
        for nr in range(0 if like else 1 << log_size):
            machine.write(self.ring + 64 * nr + 63, b"\xf1")
        pages = [self.ring + PAGE * nr for nr in range(1 << max(0, log_size - 6))]
        self.number = adapter.command(
            "CREATE_CQ", pas(*pages), uid=uid, cq_context__uar_page=self.uar,
            cq_context__c_eqn_or_apu_element=adapter.eq.number if eqn is None else eqn,
            cq_context__log_cq_size=log_size, cq_context__dbr_addr=self.record)["cqn"]

    def poll(self):
        """(opcode, syndrome or 0, WQE's index) of each completion since the last look."""
        found = []
        while True:
            slot = self.index % (1 << self.log_size)
            raw = self.adapter.machine.read(self.ring + 64 * slot, 64)
            opcode = raw[63] >> 4
            if opcode == 15 or raw[63] & 1 != self.index >> self.log_size & 1:
                return found
            found.append((opcode, raw[55] if opcode in (REQ_ERR, RESP_ERR) else 0,
                          int.from_bytes(raw[60:62], "big")))
            self.index += 1
            self.adapter.machine.write(self.record, struct.pack(">I", self.index & 0xffffff))


class Key:
    """A region of pages in a row; absent: those that are not there; written: of how many the
    translations are given; length: of the region, if it ends inside of its last page.  A page
    has 1 << shift bytes."""

    def __init__(self, adapter, count=1, pd=None, uid=0, rights=0x1f, absent=(), start=None,
                 pages=None, written=None, shift=12, length=None):
        self.adapter, self.count = adapter, count
        self.pages = adapter.machine.pages(count) if pages is None else pages
        self.address = self.pages if start is None else start
        octwords = (count + 1) // 2
        entries = [0 if nr in absent else self.pages + (nr << shift) | 3 for nr in range(count)]
        given = octwords * 2 if written is None else written
        self.index = create_key(
            adapter, pas(*(entries + [0])[:given]), uid, rights, pg_access=1,
            translations_octword_actual_size=given // 2, access_mode_1_0=MTT,
            pd=adapter.pd if pd is None else pd, start_addr=self.address,
            len=(count << shift) if length is None else length, log_page_size=shift,
            translations_octword_size=octwords)
        self.key = self.index << 8


class KeyOverKeys:
    """Of an entry, an address in another key, for each 1 << shift bytes."""

    def __init__(self, adapter, key, addresses, start, shift=12):
        self.address = start
        self.index = create_key(
            adapter, b"".join(struct.pack(">IIQ", 0, key.key, at) for at in addresses), 0, 0x1f,
            access_mode_1_0=KSM, pd=adapter.pd, start_addr=start, len=len(addresses) << shift,
            log_page_size=shift, translations_octword_size=len(addresses),
            translations_octword_actual_size=len(addresses))
        self.key = self.index << 8


def create_key(adapter, entries, uid, rights, **fields):
    """Its number.  Fields that the command itself has are not those of the key's context."""
    own = {name: fields.pop(name) for name in ("pg_access", "translations_octword_actual_size")
           if name in fields}
    fields |= {name: rights >> bit & 1 for bit, name in enumerate(("lr", "lw", "rr", "rw", "a"))}
    fields |= {"qpn": 0xffffff, "umr_en": 1}
    return adapter.command("CREATE_MKEY", entries, uid=uid, **own, **{
        "memory_key_mkey_entry__" + name: value for name, value in fields.items()})["mkey_index"]


class QueuePair:
    """log_sq: blocks of 64 bytes.  The receive queue has WQEs of 64 bytes, if any.  like: it
    is not for use, and its memory is there."""

    def __init__(self, adapter, cq, kind=RC, pd=None, uar=None, uid=0, receives=2, log_sq=6,
                 srq=None, recv_cq=None, like=None):
        self.adapter, self.cq, self.kind, self.uid = adapter, cq, kind, uid
        self.uar = adapter.uar if uar is None else uar
        self.receives = 0 if srq else receives
        size = (64 << receives if self.receives else 0) + (64 << log_sq)
        pages = -(-size // PAGE)
        self.rq = like or adapter.machine.pages(pages)
        self.sq = self.rq + (64 << receives if self.receives else 0)
        self.record = like or adapter.machine.pages()
        self.posted, self.offered, self.log_sq = 0, 0, log_sq
        fields = {"st": kind, "pd": adapter.pd if pd is None else pd, "uar_page": self.uar,
                  "log_sq_size": log_sq, "log_rq_size": self.receives, "log_rq_stride": 2,
                  "rq_type": SRQ_RQ if srq else 0 if self.receives else ZERO_LEN_RQ,
                  "srqn_rmpn_xrqn": srq or 0, "cqn_snd": cq.number,
                  "cqn_rcv": (recv_cq or cq).number, "dbr_addr": self.record}
        self.number = adapter.command(
            "CREATE_QP", pas(*(self.rq + PAGE * nr for nr in range(pages))), uid=uid,
            **{f"qpc__{name}": value for name, value in fields.items()})["qpn"]

    def modify(self, opcode, mask=0, **context):
        self.adapter.command(opcode, uid=self.uid, qpn=self.number, opt_param_mask=mask,
                             **{f"qpc__{name}": value for name, value in context.items()})

    def connect(self, number, lid=1, log_sra_max=2, log_rra_max=2, retry=1, rnr_retry=1, timeout=1,
                rnr_timer=1, pkey_index=0, rights=7, qkey=0):
        path = "primary_address_path__"
        self.modify("RST2INIT_QP", rre=rights & 1, rwe=rights >> 1 & 1, rae=rights >> 2 & 1,
                    q_key=qkey, **{path + "pkey_index": pkey_index, path + "vhca_port_num": 1})
        self.modify("INIT2RTR_QP", remote_qpn=number, log_rra_max=log_rra_max, mtu=5,
                    log_msg_max=30, min_rnr_nak=rnr_timer, **{path + "rlid": lid})
        self.modify("RTR2RTS_QP", log_sra_max=log_sra_max, retry_count=retry, rnr_retry=rnr_retry,
                    **{path + "ack_timeout": timeout})
        return self

    def post(self, opcode, *segments, flags=COMPLETE, imm=0, ring=True):
        body = b"".join(segments)
        head = struct.pack(">IIBBBBI", self.posted << 8 & 0xffff00 | opcode,
                           self.number << 8 | 1 + len(body) // 16, 0, 0, 0, flags, imm)
        wqe = (head + body).ljust(-(-(16 + len(body)) // 64) * 64, b"\0")
        for at in range(0, len(wqe), 64):
            slot = self.posted % (1 << self.log_sq)
            self.adapter.machine.write(self.sq + 64 * slot, wqe[at:at + 64])
            self.posted += 1
        if ring:
            self.ring()

    def ring(self):
        self.adapter.machine.write(self.record + 4, struct.pack(">I", self.posted & 0xffff))
        self.adapter.doorbell(self.uar, 0x800,
                              struct.pack(">II", self.posted << 8 & 0xffff00, self.number << 8))

    def offer(self, key, length, address=None):
        """A receive."""
        slot = self.offered % (1 << self.receives)
        self.adapter.machine.write(self.rq + 64 * slot, data(key, length, address) +
                                   struct.pack(">IIQ", 0, 0x100, 0))
        self.offered += 1
        self.adapter.machine.write(self.record, struct.pack(">I", self.offered & 0xffff))


def data(key, length, address=None):
    return struct.pack(">IIQ", length, key.key, key.address if address is None else address)


def remote(key, address=None):
    return struct.pack(">QII", key.address if address is None else address, key.key, 0)


def operands(add):
    return struct.pack(">QQ", add, 0)
