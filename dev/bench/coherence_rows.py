# SPDX-License-Identifier: GPL-2.0
"""What T=coherence shows: its operations, by the names that module/coherence.c gives them,
and the controls with what they must cost."""

# Machines: as many CPUs as this, all of which take turns.
CPUS = (2, 4, 16, 64)
# What is counted, and its heading.
COUNTED = {"transfers": "Cache-line transfers an operation",
           "locked": "Locked operations an operation",
           "barriers": "Full barriers an operation"}
CONTROL_GROUP = "controls"
# Name: what it is, and the transfers, locked operations and barriers of one.
CONTROLS = {
    "control.percpu": ("a counter of each CPU", 0, 0, 0),
    "control.read_only": ("a line that all read and nobody writes", 0, 0, 0),
    "control.atomic": ("one shared atomic", 1, 1, 0),
    "control.false_sharing": ("a store to a word of its own in a shared line", 1, 0, 0),
    "control.read_write": ("a load and a store of shared data (fetch, upgrade)", 2, 0, 0),
    "control.lock_beside": ("a spinlock, its data in the same line", 1, 1, 0),
    "control.lock_apart": ("a spinlock, a store to another line under it", 2, 1, 0),
    "control.xchg": ("xchg of what is this CPU's", 0, 1, 0),
    "control.smp_mb": ("smp_mb(), a locked add of 0 to the stack", 0, 1, 1),
    "control.mb": ("mb(), mfence", 0, 0, 1),
}
ALONE = {
    "never": "start+end, mm never had a subscriber",
    "miss": "start+end, miss",
    "hit": "start+end, each CPU hits an interval of its own",
    "list": "start+end, a list notifier that writes nothing",
    "kvm": "start+end, KVM's notifier, no memory slot hit",
    "read_begin": "read_begin",
    "insert": "insert",
    "remove": "remove",
    "insert_remove": "insert+remove in one turn",
    "age": "clear_young, a list notifier that writes nothing",
    "kvm_age": "clear_young, KVM's notifier, no memory slot hit",
    "register": "register a list notifier",
    "unregister": "unregister a list notifier",
}
MIXED = {
    "among_misses.read_begin": "read_begin on CPU 0, all others miss",
    "beside_read_begin.miss": "  their misses",
    "among_misses.insert_remove": "insert+remove on CPU 0, all others miss",
    "beside_insert_remove.miss": "  their misses",
    "among_misses.insert": "insert on CPU 0, after a miss of all others",
    "after_insert.miss": "  the first miss of all others after it",
    "among_misses.remove": "remove on CPU 0, after these misses",
    "after_remove.miss": "  the first miss of all others after it",
}
# File name: title, operations.
PLOTS = {
    "alone": ("All CPUs do the same", ("miss", "hit", "list", "read_begin")),
    "change": ("All CPUs change the subscribers", ("insert", "remove", "register", "unregister")),
    "mixed": ("CPU 0 beside misses of all others",
              ("among_misses.read_begin", "beside_read_begin.miss",
               "among_misses.insert_remove", "after_insert.miss")),
}


def wrong_controls(side, cpus, values):
    """What a boot measured of the controls and must not be, one line each."""
    found = []
    for name, (what, *due) in CONTROLS.items():
        got = [values[f"{name}.{counted}"] for counted in COUNTED]
        spread = values[f"{name}.least"], values[f"{name}.most"]
        if got != due or spread != (due[0], due[0]):
            found.append(f"{side}, {cpus} CPUs: {what}: {got} instead of {due} "
                         f"({spread[0]:g} to {spread[1]:g} transfers)")
    return found


def table():
    """(group, name, what, what is counted), in the order of the page."""
    named = {name: what for name, (what, *_) in CONTROLS.items()}
    for counted, heading in COUNTED.items():
        for group, names in ((CONTROL_GROUP, named), ("all CPUs do the same", ALONE),
                             ("one CPU beside all others", MIXED)):
            for name, what in names.items():
                yield f"{heading}: {group}", name, what, counted


def judge(data):
    """The table as dictionaries, in the form of report.judge()."""
    found = []
    for group, name, what, counted in table():
        for cpus in CPUS:
            stock, ours = (data[side][str(cpus)][f"{name}.{counted}"]
                           for side in ("stock", "ours"))
            found.append({"group": group, "what": what, "unit": counted, "cpus": cpus,
                          "stock": stock, "ours": ours, "ratio": ours / stock if stock else None,
                          "target": "", "limit": None, "met": None, "missing": "-"})
    return found


def render_controls():
    """What wrong_controls() has found to be so."""
    yield f"{'Controls, on each machine and both kernels':66} transfers  locked  barriers"
    for what, transfers, locked, barriers in CONTROLS.values():
        yield f"{what:66} {transfers:9} {locked:7} {barriers:9}"


def render(found, remarks):
    """A line for each operation, a column for each machine. FOUND passed the controls."""
    head = f"{'CPUs':52} {'stock':>6}" + "".join(f"{cpus:>6}" for cpus in CPUS)
    head += f" {'ours':>6}" + "".join(f"{cpus:>6}" for cpus in CPUS)
    lines, group = list(render_controls()), None
    shown = [item for item in found if not item["group"].endswith(CONTROL_GROUP)]
    for at in range(0, len(shown), len(CPUS)):
        items = shown[at:at + len(CPUS)]
        if items[0]["group"] != group:
            group = items[0]["group"]
            lines += ["", group, head]
        line = f"{items[0]['what']:52}"
        for side in ("stock", "ours"):
            line += " " * 7 + "".join(f"{item[side]:6.1f}" for item in items)
        lines.append(line)
    return "\n".join(lines + ["", *remarks]) + "\n"
