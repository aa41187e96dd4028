# SPDX-License-Identifier: GPL-2.0
"""What the guest runs for dev/run: a program of this machine, and what watches it."""
import os
import shlex
import shutil
import subprocess

from lib.common import ROOT, fail
from machine import vm

OUT = os.path.join(ROOT, "out", "run")
TOOLS = os.path.join(ROOT, "tools/rdma")
# Of the caller's environment: these are the guest's.
GUESTS = {"SHARE", "PWD", "OLDPWD", "SHLVL", "_"}
# Where it has a tmpfs: dev/machine/init/mounts.c.
SCRATCH = ("/tmp", "/run", "/var/tmp", "/var/log", "/mnt")
# What regions there are, ten times a second or so.
SAMPLE = """while :; do
rdma -j resource show mr; echo; rdma -j statistic show mr; echo; sleep 0.05
done >$SHARE/counters 2>/dev/null &
"""
# A client that starts with its server would not find it.
SERVER = f""". {shlex.quote(ROOT)}/dev/machine/guest/lib.sh
if [ $NODE = 1 ]; then
	await 10 test -e $BETWEEN/listens
else
	(until ss -Hltn | grep -q . || managed; do sleep 0.2; done; touch $BETWEEN/listens) &
fi
"""
# What a paged region had is said when it goes; stock's kernel has no such events.
EVENTS = """mount -t tracefs nodev /sys/kernel/tracing 2>/dev/null
recorder() { "$@"; }
[ ! -d /sys/kernel/tracing/events/ib_odp ] ||
recorder() { %s save /mnt/share/events "$@"; }
"""
# On a terminal it waits for its user; else it shows where the program crashed, if it does.
DEBUGGER = ["gdb", "-q", "-iex", "set debuginfod enabled off", "--args"]
UNATTENDED = ["-batch", "-return-child-result", "-ex", "python gdb.events.stop.connect("
              "lambda _: gdb.execute('backtrace'))", "-ex", "run"]


def path(name):
    """That program's path, or the end: before a kernel is built for it."""
    found = shutil.which(name)
    if not found and os.path.exists(name):
        fail(f"{name} is no program", f"perhaps it may not be executed: chmod +x {name}")
    if not found:
        fail(f"there is no program {name}",
             "install it here: the VM has the programs of this machine")
    return os.path.realpath(found)


def hidden(folder):
    """Does the guest have a file system of its own there, so that it has to be asked for?"""
    above = [scratch for scratch in SCRATCH if f"{folder}/".startswith(f"{scratch}/")]
    if folder in above:
        fail(f"{folder} is the VM's own", "put it into a folder below that")
    return bool(above)


def preload(folder=OUT):
    """The library that has regions paged, built there."""
    os.makedirs(folder, exist_ok=True)
    vm.need("libibverbs-dev")
    if subprocess.run(["make", "-s", "-C", TOOLS, f"OUTPUT={folder}/"], check=False).returncode:
        fail("tools/rdma does not compile")
    return os.path.join(folder, "libodp-preload.so")


def watched(args, command):
    """The command, and what it runs under; outermost first."""
    words = ["recorder"] if args.trace or args.counters else []
    if args.odp:
        words.append(f"{TOOLS}/odp-run")
    if args.perf:
        words += ["perf", "record", "-q", "-a", "-g", "-o", "/tmp/perf.data", "--"]
    if args.gdb:
        words += DEBUGGER if args.terminal else [*DEBUGGER[:-1], *UNATTENDED, DEBUGGER[-1]]
    return words + (command or ["bash", "-i"])


def script(args, command, stdin):
    """What a node runs."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in os.environ.items()
             if name not in GUESTS and name.isidentifier()]
    if args.nodes == 1:
        lines.append("echo pinless >/proc/sys/kernel/hostname")
    elif args.kill_after:
        lines.append(f"[ $NODE = 0 ] || (sleep {args.kill_after}; echo o >/proc/sysrq-trigger) &")
    if args.nodes > 1 and args.commands[0] != args.commands[1]:
        lines.append(SERVER)
    if args.counters:
        lines.append(SAMPLE)
    lines.append(f"cd {shlex.quote(os.path.realpath(os.getcwd()))}")
    if args.odp:
        lines.append(f"export ODP_RUN_LIBRARY={shlex.quote(preload())} "
                     f"ODP_RUN_IMPLICIT={int(args.odp == 'implicit')}")
    if args.trace or args.counters:
        lines.append(EVENTS % f"{TOOLS}/odptop")
    lines += [" ".join([shlex.join(watched(args, command)), *stdin]), "status=$?"]
    if args.perf:
        lines.append("perf report --stdio -q --no-children -g none -i /tmp/perf.data 2>/dev/null | "
                     "head -n 30; cp /tmp/perf.data $SHARE/")
    if args.keep:
        lines.append('echo "ended with $status; here is a shell"; bash -i')
    return "\n".join([*lines, "exit $status"])
