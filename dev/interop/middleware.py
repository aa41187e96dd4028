#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Run the matrix of middleware in the guest: Debian's programs, unmodified.

usage: middleware.py DEVICE RESULTS PROGRAMS [GLOB [CLIENT'S DEVICE [all]]]

RESULTS gets "pass|fail|skip <name> <reason>" for each row, as clients.sh writes them, and
RESULTS.table a table. A row passes if its programs ended well within its time limit, the
data were verified where the program can do that, and, if its name says odp, regions faulted.
The kernel counts the faults, and reports them when a region is released.
"""
import fnmatch
import glob
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from interop import middleware_rows
from interop.middleware_evict import Evictor
from lib.common import ROOT

TRACING = "/sys/kernel/tracing"
RELEASED = re.compile(r"ib_odp_release: .* faults=(\d+)")
# The programs' messages that say least.
NOISE = re.compile(r"^\[\w+:\d+\] (\[ *\d+\]|\*\*\*)|^-+$|^\s*$|^(mpi|osh)run noticed|"
                   r"^mpirun: Forwarding")
COLUMNS = ("program", "transport", "device", "memory", "result", "verified", "regions", "faults",
           "s")


class Faults:
    """Faults of the regions that were released since the last call of take()."""
    def __init__(self):
        self.folder = f"{TRACING}/instances/middleware"
        self.works = os.path.isdir(f"{TRACING}/events/ib_odp")
        if self.works:
            os.makedirs(self.folder, exist_ok=True)
            self.write("events/ib_odp/ib_odp_release/enable", "1")

    def write(self, name, text):
        with open(f"{self.folder}/{name}", "w") as file:
            file.write(text)

    def take(self):
        if not self.works:
            return []
        with open(f"{self.folder}/trace", errors="replace") as file:
            found = RELEASED.findall(file.read())
        self.write("trace", "\n")
        return [int(count) for count in found]


def gid_of(device, ending):
    """The index of the GID that ends so; 0 if the port has none."""
    for path in glob.glob(f"/sys/class/infiniband/{device}/ports/1/gids/*"):
        with open(path) as file:
            if file.read().strip().endswith(ending):
                return int(os.path.basename(path))
    return 0


def address_of(device):
    """The IPv4 address of the device's interface; none, if it has none: mlx5 without IPoIB."""
    folders = glob.glob(f"/sys/class/infiniband/{device}/device/net/*")
    names = [os.path.basename(path) for path in folders] or ["rdma0"] * device.startswith("rxe")
    for name in names:
        said = subprocess.run(["ip", "-o", "-4", "addr", "show", "dev", name],
                              stdout=subprocess.PIPE, text=True, check=False).stdout
        found = re.search(r"inet ([\d.]+)/", said)
        if found:
            return found[1]
    return ""


def listening(port):
    """A TCP port, or one of rdma CM."""
    tcp = subprocess.run(["ss", "-Hltn", f"sport = :{port}"], stdout=subprocess.PIPE, check=False)
    cm = subprocess.run(["rdma", "resource", "show", "cm_id"], stdout=subprocess.PIPE, text=True,
                        check=False)
    return bool(tcp.stdout.strip()) or f":{port} " in f"{cm.stdout} "


def end(process):
    """mpirun ends its ranks if it is asked to. It cannot if it is killed."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, kind)
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                pass


class Run:
    """The programs of one row, and what they said."""
    def __init__(self, row):
        self.row, self.why, self.until = row, "", time.monotonic() + row.limit
        self.known = ""            # why the program fails by its own fault
        self.path = f"/tmp/{row.name}"

    def start(self, command, side):
        with open(f"{self.path}.{side}", "wb") as out:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out,
                                    stderr=subprocess.STDOUT, start_new_session=True,
                                    cwd="/tmp", env={**os.environ, **self.row.env})

    def finish(self, process, side):
        try:
            status = process.wait(max(0.1, self.until - time.monotonic()))
        except subprocess.TimeoutExpired:
            status = None
        end(process)
        if self.row.known and status == self.row.known[0]:
            self.known = self.row.known[1]
        elif status != 0 and not self.why:
            self.why = (f"{side}: no end within {self.row.limit} s" if status is None else
                        f"{side}: status {status}") + self.last_words(side)

    def said(self, side):
        path = f"{self.path}.{side}"
        if not os.path.exists(path):
            return ""
        with open(path, errors="replace") as file:
            return file.read()

    def last_words(self, side):
        lines = [line.strip() for line in self.said(side).splitlines() if not NOISE.search(line)]
        wrong = [line for line in lines if re.search(r"error|fail|signal", line, re.I)]
        return f": {(wrong or lines)[-1][:150]}" if lines else ""

    def await_server(self, server):
        while server.poll() is None and time.monotonic() < self.until:
            if listening(self.row.port):
                return
            time.sleep(0.1)
        self.why = f"the server does not listen on {self.row.port}{self.last_words('server')}"

    def run(self):
        row = self.row
        server = self.start(row.server, "server") if row.server else None
        if server:
            self.await_server(server)
        if not self.why:
            self.finish(self.start(row.command, "client"), "client")
        if server and (row.serves_on or self.why):
            end(server)
        elif server:
            self.finish(server, "server")

    def verified(self):
        proof = self.row.proof
        return bool(proof is not None and not self.why and
                    re.search(proof, self.said("client"), re.M))


def judge(row, run, faults, counted):
    """(verdict, reason)"""
    if run.why:
        return "fail", run.why
    if row.proof is not None and not run.verified():
        return "fail", run.known or "ended well, and verified nothing"
    if not row.paged and any(faults):
        return "fail", f"{sum(faults)} faults, although its memory is pinned"
    if row.paged and not counted:
        return "skip", "it ended well, but this kernel has no events that count faults"
    if row.paged and not sum(faults):
        return "fail", f"no region faulted ({len(faults)} paged regions)"
    if run.known:
        return "skip", f"all is as it should be until the end: {run.known}"
    return "pass", ""


def is_stock():
    return os.environ.get("PINLESS_CONFIG", "").startswith("stock")


def line_of(row, place, verdict, run, faults, seconds):
    verified = "no" if row.proof is None else "yes" if run.verified() else "-"
    return (row.program, row.transport, "+".join(dict.fromkeys(place.devices)),
            row.paged or "pinned", verdict, verified, len(faults), sum(faults), f"{seconds:.1f}")


def write_table(path, lines):
    cells = [COLUMNS, *lines]
    wide = [max(len(str(line[at])) for line in cells) for at in range(len(COLUMNS))]
    with open(path, "w") as file:
        for line in cells:
            padded = [str(cell).ljust(wide[at]) for at, cell in enumerate(line)]
            file.write("  ".join(padded).rstrip() + "\n")


def environment():
    """Open MPI wants a host name, and does not like to run as root."""
    with open("/proc/sys/kernel/hostname", "w") as file:
        file.write("pinless\n")
    os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")


def place_of(device, client, programs):
    gids = (gid_of(device, "ffff:c000:0201"), gid_of(device, "0db8:0000:0000:0000:0000:0000:0001"))
    return middleware_rows.Place([device, client or device], programs,
                                 f"{ROOT}/tools/rdma/odp-run", gids, address_of(device))


class Matrix:
    """The results so far, on their way to the file and the table."""
    def __init__(self, place, path):
        self.place, self.path, self.lines = place, path, []
        self.out = open(path, "w", buffering=1)
        self.faults = Faults()
        # Without the events, a paged row of ours fails.
        self.counted = self.faults.works or not is_stock()

    def run(self, row):
        print(f"== {row.name}", flush=True)
        began, run = time.monotonic(), Run(row)
        with Evictor(row.paged, row.pace):
            run.run()
        seen = self.faults.take()
        verdict, why = judge(row, run, seen, self.counted)
        self.out.write(f"{verdict} {row.name} {why}".rstrip() + "\n")
        self.lines.append(line_of(row, self.place, verdict, run, seen, time.monotonic() - began))
        print(f"{verdict} {why}\n{run.said('client')[-3000:] if why else ''}", flush=True)

    def finish(self):
        self.out.write(f"done {len(self.lines)}\n")
        write_table(f"{self.path}.table", self.lines)


def main(device, results, programs, pattern="*", client=None, tier="short"):
    environment()
    os.environ["ODP_RUN_LIBRARY"] = f"{programs}/libodp-preload.so"
    place = place_of(device, client, programs)
    matrix = Matrix(place, results)
    for row in middleware_rows.rows(place):
        if fnmatch.fnmatch(row.name, pattern) and (tier == "all" or not row.long):
            matrix.run(row)
    matrix.finish()


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
