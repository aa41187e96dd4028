# SPDX-License-Identifier: GPL-2.0
"""A QEMU that executes nothing: its memory, ports and clock are ours, by the protocol of
-qtest (qemu/docs/devel/qtest.rst).  The virtual clock stands still except in step(), so
every run with the same input is the same run.
"""
import os
import shutil
import socket
import subprocess
import tempfile

MEMORY = 256 << 20
BAR, MSIX, TEST_BAR = 0xc0000000, 0xc4000000, 0xc8000000
ANSWER = 60             # seconds that QEMU may take for one request: it hangs, otherwise
PAGE = 4096


class Died(Exception):
    """QEMU is gone, or does not answer."""


class Machine:
    """devices: properties of one adapter each.  They are in slots 4, 5, ... of bus 0.  more:
    what else is on QEMU's command line, before them."""

    def __init__(self, qemu, devices=("lid=1",), env=None, more=()):
        self.folder = tempfile.mkdtemp(prefix="bare-")
        path = os.path.join(self.folder, "qtest")
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        server.listen(1)
        server.settimeout(ANSWER)
        self.log = os.path.join(self.folder, "log")
        args = [qemu, "-M", "q35,accel=qtest", "-m", f"{MEMORY >> 20}", "-display", "none",
                "-nodefaults", "-serial", "none", "-monitor", "none", "-qtest", f"unix:{path}",
                "-qtest-log", "none", *more]
        for nr, properties in enumerate(devices):
            args += ["-device", f"mlx5,addr={4 + nr}.0,test-bar=on,{properties}"]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=env)
        self.socket = self.stream = None
        try:
            self.accept(server)
        except BaseException:
            self.close()
            raise
        finally:
            server.close()
        self.next_page = 16 << 20

    def accept(self, server):
        server.settimeout(1)
        for _ in range(ANSWER):
            try:
                self.socket = server.accept()[0]
                break
            except TimeoutError:
                if self.process.poll() is not None:
                    raise Died(self.said()) from None
        self.socket.settimeout(ANSWER)
        self.stream = self.socket.makefile("rb")

    def said(self):
        with open(self.log, errors="replace") as file:
            return file.read()

    def close(self):
        for end in (self.stream, self.socket):
            if end:
                end.close()
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder)

    def ask(self, text):
        try:
            self.socket.sendall(text.encode() + b"\n")
            line = self.stream.readline()
        except OSError as error:
            raise Died(f"{text[:80]}: {error}\n{self.said()}") from None
        words = line.split()
        if not words or words[0] != b"OK":
            raise Died(f"{text[:80]}: {line!r}\n{self.said()}")
        return words[1].decode() if len(words) > 1 else ""

    # ---- memory, ports, time ----

    def pages(self, count=1):
        """The address of so many pages in a row that nothing else has."""
        at = self.next_page
        self.next_page += count * PAGE
        if self.next_page > MEMORY:
            raise MemoryError("the machine has no more pages")
        return at

    def write(self, address, data):
        if data:
            self.ask(f"write {address:#x} {len(data):#x} 0x{bytes(data).hex()}")

    def read(self, address, length):
        return bytes.fromhex(self.ask(f"read {address:#x} {length:#x}")[2:])

    def store(self, address, value, size):
        self.ask(f"write{'.bw.l...q'[size]} {address:#x} {value:#x}")

    def load(self, address, size):
        return int(self.ask(f"read{'.bw.l...q'[size]} {address:#x}"), 0)

    def step(self, ns=1000):
        self.ask(f"clock_step {ns}")

    def config(self, slot, register, value=None, size=4):
        """Configuration space of a device on bus 0."""
        self.ask(f"outl 0xcf8 {1 << 31 | slot << 11 | register & 0xfc:#x}")
        port = 0xcfc + (register & 3)
        letter = " bw l"[size]
        if value is None:
            return int(self.ask(f"in{letter} {port:#x}"), 0)
        return self.ask(f"out{letter} {port:#x} {value:#x}")
