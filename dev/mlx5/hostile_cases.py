# SPDX-License-Identifier: GPL-2.0
"""What an adapter may do to its driver: the cases of dev/mlx5/hostile.py, read by the
host, which boots the VMs, and by the guest, which runs them.
"""
from dataclasses import dataclass, field

from mlx5 import device

EVENTS = device.constants("mlx5.h", "MLX5_HOSTILE_")     # name: bit
OPCODES = {
    "CREATE_MKEY": 0x200, "QUERY_MKEY": 0x201, "DESTROY_MKEY": 0x202, "PAGE_FAULT_RESUME": 0x204,
    "CREATE_EQ": 0x301, "DESTROY_EQ": 0x302, "CREATE_CQ": 0x400, "DESTROY_CQ": 0x401,
    "CREATE_QP": 0x500, "DESTROY_QP": 0x501, "RST2INIT_QP": 0x502, "INIT2RTR_QP": 0x503,
    "RTR2RTS_QP": 0x504, "2ERR_QP": 0x507, "2RST_QP": 0x50a, "ALLOC_PD": 0x800,
    "DEALLOC_PD": 0x801, "ALLOC_UAR": 0x802, "DEALLOC_UAR": 0x803, "CREATE_UCTX": 0xa04,
    "DESTROY_UCTX": 0xa06, "ANY": 0xffff,
}
STATUSES = {"internal": 0x01, "busy": 0x06, "no-resources": 0x0f, "bad-state": 0x09,
            "unknown": 0xff}
NEVER = 0x100
MS = 1000000
EVER = 1 << 40


@dataclass
class Case:
    """Knobs for the time of the trouble, and what is done in it."""
    name: str
    knobs: dict = field(default_factory=dict)
    memory: bool = False        # the memory scheme of page faults
    kinds: tuple = ()           # of traffic; empty: all
    seconds: float = 2          # the trouble, at least
    fresh: bool = False         # bound anew before: what is made on first use fails, too
    kill_under: bool = False    # the program is killed while the trouble is still on
    rebind_under: bool = False  # and the driver unbound and bound
    idle: bool = False          # no program: the trouble is for unbind and bind
    removal: str = ""           # surprise removal: beside what (hostile_guest.py)
    patience: float = 20        # seconds that a killed program may need
    optional: bool = False      # may not happen: nobody asks that of the adapter

    def counter(self):
        """What must have moved, or the case did not happen."""
        if "hostile" in self.knobs:
            return "hostile-events"
        return "cmd-errors" if "fail-opcode" in self.knobs else None


def mask(*names):
    return sum(EVENTS[name] for name in names)


def events():
    combinations = {name: (name,) for name in EVENTS}
    combinations["lies"] = tuple(name for name in EVENTS if name not in ("lost", "umr"))
    combinations["everything"] = tuple(EVENTS)
    for memory in (False, True):
        for name, what in combinations.items():
            for every in (1, 3):
                yield Case(f"{'memory' if memory else 'transport'}.{name}.{every}",
                           {"hostile": mask(*what), "hostile-every": every}, memory=memory)
    # UMRs that fail after regions stand: among them those that take pages away.
    yield Case("transport.umr.zaps", {"hostile": mask("umr"), "hostile-every": 7}, seconds=15,
               kinds=("write", "implicit"))


def failing(opcode, status, count):
    return {"fail-opcode": OPCODES[opcode], "fail-status": STATUSES.get(status, status),
            "fail-count": count}


def commands():
    """Each command that a driver sends while programs run: the first few fail, or
    all of them until after the program's end."""
    for opcode in OPCODES:
        gone = opcode.startswith(("DESTROY", "DEALLOC"))
        yield Case(f"command.{opcode}.few", failing(opcode, "internal", 3), fresh=True,
                   idle=opcode == "DESTROY_EQ", rebind_under=opcode == "DESTROY_EQ")
        yield Case(f"command.{opcode}.all", failing(opcode, "busy" if gone else "no-resources",
                                                    EVER),
                   fresh=True, kill_under=True, idle=opcode == "DESTROY_EQ",
                   rebind_under=opcode == "DESTROY_EQ")
    for opcode in ("CREATE_MKEY", "DESTROY_MKEY", "DESTROY_QP", "PAGE_FAULT_RESUME"):
        for status in ("bad-state", "unknown"):
            yield Case(f"command.{opcode}.{status}", failing(opcode, status, EVER), kill_under=True)
    for opcode in ("PAGE_FAULT_RESUME", "CREATE_EQ", "CREATE_MKEY"):
        yield Case(f"command.{opcode}.all.memory", failing(opcode, "no-resources", EVER),
                   memory=True, fresh=True, kill_under=True)
    yield Case("command.ANY.unbind", failing("ANY", "internal", EVER), rebind_under=True,
               kill_under=True)


def silence():
    """A command without an answer: the driver waits for 65 s and goes on."""
    for opcode in ("CREATE_MKEY", "DESTROY_MKEY", "PAGE_FAULT_RESUME", "DESTROY_QP", "2RST_QP"):
        yield Case(f"silence.{opcode}", failing(opcode, NEVER, 1), patience=160,
                   seconds=8)
    yield Case("silence.late-answers", {"cmd-delay": 70000 * MS}, seconds=8, patience=200)


def removals():
    for beside, knobs, kinds in (
            ("faults", {"fault-delay": 50 * MS, "resume-delay": 50 * MS}, ()),
            ("umrs", {"umr-delay": 5 * MS}, ("write", "regions", "implicit")),
            ("commands", {"cmd-delay": 20 * MS}, ()),
            ("regions", {}, ("regions",))):
        yield Case(f"removal.{beside}", knobs, kinds=kinds, removal="traffic")
        yield Case(f"removal.{beside}.at-once", knobs, kinds=kinds, removal="at-once")
    yield Case("removal.faults.memory", {"fault-delay": 50 * MS}, memory=True, removal="traffic")
    yield Case("removal.unbind", removal="unbind")
    yield Case("removal.unbind.slow", {"cmd-delay": 5 * MS, "umr-delay": 5 * MS}, removal="unbind")
    yield Case("removal.bind", {"cmd-delay": 2 * MS}, removal="bind", idle=True)
    yield Case("removal.glitch", removal="glitch")


def table():
    cases = [*events(), *commands(), *silence(), *removals()]
    return {case.name: case for case in cases}
