#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: hostile_guest.py RESULTS CASE...      cases of hostile_cases.py, in the guest

One after the other, each from good traffic to good traffic on a driver that was
bound anew.  It ends at the first case that broke something, since what comes
after that says nothing.  RESULTS gets a JSON line as a case begins and one as it
ends; the kernel's log gets a line at each step, by which the host tells what was
reported when.  Whatever may block is done by a child, under a time limit: what
does not end when killed is a hang, and the VM's end.
"""
import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [HERE, os.path.dirname(HERE)]

from mlx5 import hostile_cases
import hostile_traffic
from machine import splat
from mlx5ctl import Adapter, functions

DRIVER = "/sys/bus/pci/drivers/mlx5_core"
TALLIES = "/tmp/hostile"
PR_SET_CHILD_SUBREAPER = 36
GOOD, DETACH, ATTACH = 120, 90, 90      # seconds that these may take
DEAD = 20                               # and a killed process, to be gone
ROUNDS, LONGEST = 2, 20                 # of each kind of traffic, and seconds for them
SETTLE, RECOVERY = 2, 30                # a driver that resets the adapter
NOTICED = 12                            # the driver's health check sees a removal


class Hang(Exception):
    """Something did not end, and could not be ended."""


class Session:
    """A child and its children: ours to wait for, to kill, and to see gone."""

    def __init__(self, what, *args):
        self.words = tempfile.TemporaryFile()
        self.status = None
        self.pid = os.fork()
        if not self.pid:
            try:
                os.setpgid(0, 0)
                os.dup2(self.words.fileno(), 2)
                what(*args)
                os._exit(0)
            except BaseException as error:      # whatever: it is the status that counts
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
        with contextlib.suppress(OSError):
            os.setpgid(self.pid, self.pid)      # whoever comes first

    def said(self):
        self.words.seek(0)
        return " ".join(self.words.read().decode(errors="replace").split())[-150:]

    def ended(self):
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def wait(self, seconds):
        """Its status, or None: it was late and has been killed."""
        end = time.monotonic() + seconds
        while not self.ended():
            if time.monotonic() > end:
                self.kill(DEAD)
                return None
            time.sleep(0.05)
        return self.status

    def left(self):
        """Is anything left of it?  We inherit its orphans, and reap them."""
        try:
            while os.waitpid(-self.pid, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return False
        return True

    def kill(self, limit):
        """SIGKILL; how long the end took."""
        start = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        while self.left():
            if time.monotonic() - start > limit:
                raise Hang(f"not gone {limit} s after SIGKILL")
            time.sleep(0.05)
        return time.monotonic() - start


def store(path, text):
    with open(path, "w") as file:
        file.write(text)


def tally(name, words=False):
    """A kind of traffic's: {verdict: rounds}, or what it said of the first bad one."""
    with open(os.path.join(TALLIES, name)) as file:
        line = file.read()
    if words:
        return line[80:].strip()
    return {key: int(value) for key, _, value in (word.partition("=")
                                                  for word in line[:80].split())}


def kmsg(line):
    with open("/dev/kmsg", "w") as file:
        file.write(f"hostile: {line}\n")


def reported():
    log = subprocess.run(["dmesg"], capture_output=True, text=True, errors="replace").stdout
    with open("/proc/sys/kernel/tainted") as file:
        warned = int(file.read()) >> 9 & 1
    return warned or splat.find(log.splitlines())


class Run:
    """One case."""

    def __init__(self, case, address):
        self.case, self.address = case, address
        self.step, self.findings, self.notes = "start", [], []
        self.adapter = Adapter(address)
        self.counters = self.adapter.counters()
        self.taken = 0

    def enter(self, step):
        self.step = step
        kmsg(f"{self.case.name}: {step}")

    def finding(self, text):
        self.findings.append(f"{self.step}: {text}")

    # ---- what is done under a limit ----

    def write(self, path, text, seconds):
        """Into a file of sysfs, by a child.  Refusals are the caller's to judge."""
        start = time.monotonic()
        child = Session(store, path, text)
        status = child.wait(seconds)
        took = time.monotonic() - start
        if took > 10:
            self.notes.append(f"{self.step} took {took:.0f} s")
        if status is None:
            self.finding(f"took more than {seconds} s")
        return status == 0

    def traffic(self, step):
        self.enter(step)
        program = Session(hostile_traffic.good)
        status = program.wait(GOOD)
        if status is None:
            self.finding(f"good traffic not done in {GOOD} s")
        elif status:
            self.finding(f"no good traffic: {program.said() or status}")

    def bound(self):
        return os.path.exists(f"{DRIVER}/{self.address}")

    def unbind(self, seconds=DETACH):
        """Commands that are not answered take their time here, too."""
        self.enter("unbind")
        if self.bound():
            self.write(f"{DRIVER}/unbind", self.address, max(seconds, self.case.patience))
        if self.bound():
            self.finding("still bound")

    def active(self):
        device = f"/sys/bus/pci/devices/{self.address}"
        try:
            # Programs find it by this, which comes after the port.
            os.listdir(f"{device}/infiniband_verbs")
            name = os.listdir(f"{device}/infiniband")[0]
            with open(f"{device}/infiniband/{name}/ports/1/state") as file:
                return "ACTIVE" in file.read()
        except (OSError, IndexError):
            return False

    def await_active(self, seconds):
        end = time.monotonic() + seconds
        while not self.active() and time.monotonic() < end:
            time.sleep(0.1)
        return self.active()

    def bind(self):
        self.enter("bind")
        if not self.bound() and not self.write(f"{DRIVER}/bind", self.address, ATTACH):
            self.finding("the driver refuses the adapter")
            return
        if not self.await_active(ATTACH):
            self.finding("the port did not come up")

    def rebind(self):
        self.unbind()
        self.bind()

    # ---- trouble ----

    def trouble(self, on):
        knobs = self.case.knobs
        self.adapter["seed"] = 1
        for name in sorted(knobs, key=lambda name: name in ("fail-count", "hostile")):
            self.adapter[name] = knobs[name] if on else 1 if name == "hostile-every" else 0
        if not on and "hostile" in knobs:
            time.sleep(0.3)             # what is late still comes

    def start(self):
        shutil.rmtree(TALLIES, ignore_errors=True)
        os.makedirs(TALLIES)
        return Session(hostile_traffic.endless, TALLIES, self.case.kinds)

    def let_run(self, program):
        """Until each kind had its rounds, or has used up its time."""
        end = time.monotonic() + LONGEST
        time.sleep(self.case.seconds)
        while time.monotonic() < end:
            if program.ended():
                self.finding(f"the program ended: {program.said()}")
                break
            done = [sum(tally(name).values()) for name in os.listdir(TALLIES)]
            if len(done) == len(self.case.kinds or hostile_traffic.KINDS) and min(done) >= ROUNDS:
                break
            time.sleep(0.1)

    def kill(self, program):
        self.enter("kill")
        took = program.kill(self.case.patience)
        if took > 3:
            self.notes.append(f"killed in {took:.1f} s")

    def count(self):
        """What the program got done, and whether any of that was a lie."""
        total = {}
        for name in sorted(os.listdir(TALLIES)):
            for key, value in tally(name).items():
                total[key] = total.get(key, 0) + value
                if key == "wrong" and value:
                    self.finding(f"data wrong ({name}): {tally(name, words=True)}")
        self.notes.append(", ".join(f"{value} {key}" for key, value in total.items() if value) or
                          "no round was finished")

    def beside_traffic(self):
        case = self.case
        if case.fresh:
            self.rebind()
        self.enter("trouble")
        self.trouble(True)
        program = None if case.idle else self.start()
        if program:
            self.let_run(program)
        if not (case.kill_under or case.rebind_under):
            self.trouble(False)
        if program:
            self.kill(program)
            self.count()
        if case.rebind_under:
            self.rebind_in_trouble()
        self.trouble(False)
        if case.rebind_under:
            self.bind()

    def rebind_in_trouble(self):
        """Unbinding cannot fail; binding may."""
        self.unbind()
        self.enter("bind in trouble")
        self.write(f"{DRIVER}/bind", self.address, ATTACH)

    # ---- removal ----

    def removed(self):
        case = self.case
        self.enter("removal")
        self.trouble(True)
        program = None if case.idle else self.start()
        if program:
            time.sleep(3)
        if case.removal == "bind":
            self.unbind()
            self.pull_beside("bind", 0.4)
        elif case.removal == "unbind":
            self.pull_beside("unbind", 0.05)
        else:
            self.adapter.remove()
        if case.removal == "glitch":
            time.sleep(0.3)
            self.adapter.restore()
        time.sleep(0 if case.removal in ("at-once", "unbind") else NOTICED)
        if program and case.removal not in ("at-once", "unbind"):
            self.kill(program)
            program = None
        self.unbind(150)
        if program:
            self.kill(program)
        if not case.idle:
            self.count()
        self.plug_in()

    def pull_beside(self, what, delay):
        self.enter(f"{what} and removal")
        child = Session(store, f"{DRIVER}/{what}", self.address)
        time.sleep(delay)
        self.adapter.remove()
        start = time.monotonic()
        if child.wait(150) is None:
            self.finding("took more than 150 s")
        self.notes.append(f"{what} ended {time.monotonic() - start:.0f} s after the removal")

    def plug_in(self):
        """As a slot that is filled again: the kernel finds the device anew."""
        self.enter("plug in")
        self.adapter.restore()
        self.trouble(False)
        self.adapter = None
        device = f"/sys/bus/pci/devices/{self.address}"
        self.write(f"{device}/remove", "1", 60)
        if os.path.exists(device):
            self.finding("the PCI device did not go")
        self.write("/sys/bus/pci/rescan", "1", 60)
        self.adapter = Adapter(self.address)
        self.bind()

    # ---- all of it ----

    def happened(self):
        counter = self.case.counter()
        if not counter:
            return
        count = self.adapter[counter] - self.counters[counter]
        self.notes.append(f"{count} {counter}")
        if not count and not self.case.optional:
            self.finding(f"the trouble did not happen ({counter} did not move)")

    def run(self):
        self.traffic("before")
        if self.case.removal:
            self.removed()
        else:
            self.beside_traffic()
        self.happened()
        # A driver that gave the adapter up may have it back by itself.
        if self.bound() and not self.case.removal:
            time.sleep(SETTLE)
            self.await_active(RECOVERY)
        self.traffic("after")
        self.rebind()
        self.traffic("again")
        self.enter("end")
        violations = self.adapter["dma-violations"] - self.counters["dma-violations"]
        if violations:
            self.finding("{} DMAs to memory that was given back, the last: kind {} address {:#x} "
                         "key {:#x} va {:#x}".format(violations, *self.adapter.violation()))


def hopeless(run, hang):
    """Tasks that nobody can end: say where they are, and switch the machine off."""
    run.finding(f"hang: {hang}")
    kmsg(f"{run.case.name}: blocked tasks")
    with open("/proc/sysrq-trigger", "w") as file:
        file.write("w")


def main():
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    results = open(sys.argv[1], "a", buffering=1)
    table = hostile_cases.table()
    address = functions()[0]
    for name in sys.argv[2:]:
        start = time.monotonic()
        results.write(json.dumps({"case": name}) + "\n")
        run = Run(table[name], address)
        dead = False
        try:
            run.run()
        except Hang as hang:
            hopeless(run, hang)
            dead = True
        print(f"{name}: {'; '.join(run.findings + run.notes)}", flush=True)
        results.write(json.dumps({"case": name, "findings": run.findings, "notes": run.notes,
                                  "seconds": round(time.monotonic() - start)}) + "\n")
        if dead:
            results.flush()
            time.sleep(2)
            with open("/proc/sysrq-trigger", "w") as file:
                file.write("b")
        if run.findings or reported():
            break
    kmsg("done")
    results.write(json.dumps({"done": True}) + "\n")


if __name__ == "__main__":
    main()
