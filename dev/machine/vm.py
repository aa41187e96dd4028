# SPDX-License-Identifier: GPL-2.0
"""Boots a kernel in QEMU, runs one command in it, and judges the run.

    result = run("debug", "ls /sys/class/infiniband", dev="rxe")

The command passes only if the verdict line of this very run (a nonce) came
over the verdict port and the kernel's console shows no report of a bug.
"""
import collections
import ctypes
import functools
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from lib.common import fail, note, ROOT
from machine import initramfs, slots, splat

OUT = os.path.join(ROOT, "out", "vm")
BAD_TAINT = {5: "bad page", 7: "oops", 9: "warning", 14: "soft lockup"}
SLOWER = 4                          # a QEMU with sanitizers
PR_SET_PDEATHSIG = 1
# An error that one of these prints fails the run.
DRIVERS = re.compile(r"mlx5|rxe|infiniband|uverbs|rdma|\bib_|mmu_notifier|umem", re.I)
PACKAGES = ("qemu-system-x86", "build-essential", "iproute2", "rdma-core", "python3")
# With the programs that the guest runs on its RDMA devices.
RDMA_PACKAGES = PACKAGES + ("ibverbs-utils", "ibverbs-providers", "python3-pyverbs", "perftest",
                            "ucx-utils")


@dataclass
class Result:
    status: int                     # the command's, or 124 timeout, 125 no verdict or a splat
    reason: str = ""                # why it is not simply the command's status
    seconds: float = 0.0
    splats: list = field(default_factory=list)
    klog: str = ""                  # path: the kernel's console
    output: str = ""                # path: what the command printed

    @property
    def share(self):
        """The folder that guest and host can write."""
        return os.path.join(os.path.dirname(self.klog), "share")


def tool(*args):
    """The output of a tool of dev/, stripped.  If the tool fails, this process exits."""
    done = subprocess.run([os.path.join(ROOT, "dev", args[0]), *args[1:]],
                          stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout.strip()


def status(*args, **env):
    """Run a tool of dev/, with its output on stderr, and return its exit status."""
    return subprocess.run([os.path.join(ROOT, "dev", args[0]), *args[1:]], stdout=sys.stderr,
                          stdin=subprocess.DEVNULL, env={**os.environ, **env}).returncode


# One lock for each target, so that threads which need the same one build it once.
BUILDING = collections.defaultdict(threading.Lock)
# What was built, and for how long it was waited for.
WAITED = {}


@functools.lru_cache(maxsize=None)
def build_once(*args):
    start = time.monotonic()
    path = tool(*args)
    WAITED[args] = time.monotonic() - start
    return path


def built(*args):
    with BUILDING[args]:
        return build_once(*args)


def image(config):
    """The bzImage of CONFIG, or CONFIG itself if it is the path of a kernel.

    Built once a process, and kept apart from later builds: all of one run's tests
    are about the same kernel.
    """
    if "/" in config:
        return config
    return built("kernels/build", "-k", config)


def adapters(opts):
    """The number of mlx5 adapters in the guest: DEV=mlx5 is one, mlx5x2 two."""
    return max({"mlx5": 1, "mlx5x2": 2}.get(word, 0)
               for word in (opts.get("dev") or "").split(","))


def sanitized():
    """SANITIZE=1 selects our QEMU with sanitizers."""
    return os.environ.get("SANITIZE", "0") not in ("", "0")


def qemu_env(opts):
    """With perturb, free() overwrites memory, so that a later use of it is seen."""
    env = dict(os.environ)
    if opts.get("perturb"):
        env["MALLOC_PERTURB_"] = "165"
    # QEMU leaves what it has to the end of the process.
    env["ASAN_OPTIONS"] = "detect_leaks=0:detect_stack_use_after_return=0"
    env["UBSAN_OPTIONS"] = "print_stacktrace=1"
    return env


def our_qemu():
    """QEMU with the adapter, built at most once in this process."""
    return built("machine/qemu", "-p")


def any_qemu():
    """Our QEMU if it was built before, because its emulated CPUs spend less time in
    spinlocks (qemu/patches/pause.patch); else Debian's.  Without an adapter, a build of
    minutes is not worth that."""
    return tool("machine/qemu", "-x") or "qemu-system-x86_64"


def qemu_binary(opts):
    return (opts.get("qemu") or os.environ.get("QEMU") or
            (our_qemu() if adapters(opts) else any_qemu()))


def adapter_args(opts):
    """Each adapter has a root port, so that it can be unplugged by PCIe's own hotplug,
    not by ACPI's.  The IOMMU has to come first."""
    args = ["-device", "intel-iommu,intremap=off,caching-mode=off"] if opts.get("iommu") else []
    if adapters(opts):
        args += ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"]
    more = f",{opts['mlx5']}" if opts.get("mlx5") else ""
    first = 1 + adapters(opts) * int(opts.get("node") or 0)
    for nr in range(adapters(opts)):
        link = ",link=fabric" if "node" in opts and not nr else ""
        args += ["-device", f"pcie-root-port,id=rp{nr},chassis=1,slot={nr + 1}",
                 "-device", f"mlx5,bus=rp{nr},id=mlx5_{nr},lid={first + nr},test-bar=on{link}{more}"]
    return args


def node_args(opts):
    """What one of two machines (nodes.py) shares with the other: an Ethernet, a folder, and
    with adapters the fabric."""
    if "node" not in opts:
        return []
    node, between = opts["node"], opts["between"]
    args = ["-netdev", f"dgram,id=net,local.type=unix,local.path={between}/net{node},"
                       f"remote.type=unix,remote.path={between}/net{1 - node}",
            "-device", f"virtio-net-pci,netdev=net,romfile=,mac=02:00:00:00:00:0{node + 1}",
            "-virtfs", f"local,path={between}/shared,mount_tag=between,security_model=none"]
    if adapters(opts):
        side = "reconnect=1" if node else "server=on,wait=off"
        args += ["-chardev", f"socket,id=fabric,path={between}/fabric,{side}"]
    return args


def cmdline(opts):
    words = ["console=ttyS0,115200", "ignore_loglevel", "printk.devkmsg=on", "panic=-1",
             "oops=panic", "random.trust_cpu=on", "rcupdate.rcu_cpu_stall_timeout=120",
             "watchdog_thresh=60", "workqueue.watchdog_thresh=120", "rdinit=/init", "tsc=nowatchdog",
             # Counts timer interrupts for a while, of which a busy host delivers too few.
             "no_timer_check"]
    if opts.get("fakenuma"):
        words.append(f"numa=fake={opts['fakenuma']}")
    if opts.get("hugepages"):
        words.append(f"hugepages={opts['hugepages']}")
    if opts.get("pmem"):
        words.append(f"memmap={opts['pmem']}!1G")
    if opts.get("iommu"):
        words.append("intel_iommu=on iommu.strict=1 iommu.passthrough=0")
    return " ".join(words + [opts.get("append") or ""])


def qemu_args(kernel, initrd, folder, opts, accel):
    share = os.path.join(folder, "share")
    os.makedirs(share, exist_ok=True)
    cpu = "host" if accel.startswith("kvm") else "max,+svm,+npt"
    # Page tables of five levels, where the kernel can have them, only if asked for.
    cpu += "" if opts.get("la57") else ",-la57"
    args = [qemu_binary(opts), "-M", "q35", "-accel", accel, "-cpu", cpu, *node_args(opts), *adapter_args(opts),
            "-smp", str(opts.get("smp") or 2), "-m", str(opts.get("mem") or "1G"),
            "-nodefaults", "-no-user-config", "-display", "none",
            "-kernel", kernel, "-initrd", initrd, "-append", cmdline(opts),
            "-chardev", f"file,id=klog,path={folder}/kernel.log", "-serial", "chardev:klog",
            "-chardev", f"file,id=verdict,path={folder}/verdict", "-serial", "chardev:verdict",
            "-device", "virtio-serial-pci,max_ports=1", "-chardev", "stdio,id=user,signal=off",
            "-device", "virtconsole,chardev=user", "-device", "virtio-rng-pci",
            "-virtfs", "local,path=/,mount_tag=hostroot,security_model=none,"
                       "readonly=on,multidevs=remap",
            "-virtfs", f"local,path={share},mount_tag=share,security_model=none"]
    if not opts.get("reboot"):
        args.append("-no-reboot")
    if opts.get("swap"):
        disk = os.path.join(folder, "swap.img")
        subprocess.run(["truncate", "-s", str(opts["swap"]), disk], check=True)
        args += ["-drive", f"file={disk},if=none,id=swap,format=raw,cache=unsafe",
                 "-device", "virtio-blk-pci,drive=swap"]
    return args + list(opts.get("qemu_args") or [])


def printer(prefix):
    """A function that writes to stdout what it is given: as it comes, or in whole lines that
    begin with PREFIX, if there is one."""
    rest = b""

    def show(data):
        nonlocal rest
        if prefix:
            *lines, rest = (rest + data).split(b"\n")
            data = b"".join(prefix + line + b"\n" for line in lines)
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    return show


def pump(process, opts, folder, deadline):
    """Copy the command's output to its log, and to ours, until QEMU ends.  Returns QEMU's
    status, or None after a timeout."""
    show = printer(opts.get("prefix"))
    seen = 0
    os.set_blocking(process.stdout.fileno(), False)
    with open(os.path.join(folder, "output.log"), "wb") as log:
        while True:
            data = process.stdout.read()
            if data:
                log.write(data)
                log.flush()
                if not opts.get("quiet"):
                    show(data)
            if opts.get("verbose"):
                with open(os.path.join(folder, "kernel.log"), "rb") as klog:
                    klog.seek(seen)
                    seen += sys.stderr.buffer.write(klog.read())
                    sys.stderr.flush()
            if data == b"" or (data is None and process.poll() is not None):
                return process.wait()
            if time.monotonic() > deadline:
                process.kill()
                process.wait()
                return None
            if not data:
                time.sleep(0.05)


def violations(folder, allow):
    """The errors that the adapter's check of DMA reported, as splats."""
    with open(os.path.join(folder, "qemu.log"), errors="replace") as file:
        return [[line.rstrip()] for line in file if "mlx5: DMA check:" in line and
                not (allow and re.search(allow, line))]


def sanitizer_reports(folder):
    """The sanitizers' reports about the adapter, and those that ended QEMU.  A report is
    an error and its stack."""
    with open(os.path.join(folder, "qemu.log"), errors="replace") as file:
        lines = [line.rstrip() for line in file]
    starts = [nr for nr, line in enumerate(lines)
              if "runtime error:" in line or "ERROR: AddressSanitizer" in line]
    blocks = [lines[start:end] for start, end in zip(starts, starts[1:] + [len(lines)])]
    return [block for block in blocks if "AddressSanitizer" in block[0] or
            any("hw/rdma/mlx5" in line for line in block)]


def driver_errors(path, allow):
    """Messages of the drivers of level err or worse that neither ALLOW nor
    dev/gate/driver-errors matches."""
    if not os.path.exists(path):
        return []
    with open(os.path.join(ROOT, "dev/gate/driver-errors")) as file:
        known = [line.split("\t")[0] for line in file if "\t" in line]
    known = re.compile("|".join(known + [allow] * bool(allow)))
    with open(path, errors="replace") as file:
        said = {re.sub(r"^<\d+>\[ *[\d.]+\] *", "", line.rstrip()): None for line in file}
    return [line for line in said if DRIVERS.search(line) and not known.search(line)]


def judge(folder, nonce, ended, opts):
    """(status, reason, splats) from the verdict port and the kernel's console."""
    allow = opts.get("allow")
    with open(os.path.join(folder, "kernel.log"), errors="replace") as file:
        lines = file.readlines()
    with open(os.path.join(folder, "verdict"), errors="replace") as file:
        verdict = file.read()
    excused = [allow] * bool(allow) + [splat.OTHERS_RACE] * (opts.get("config") == "kcsan")
    splats = splat.find(lines, "|".join(excused)) + violations(folder, allow) + sanitizer_reports(folder)
    found = re.search(rf"^exit {nonce} (\d+) (\d+) end$", verdict, re.M)
    if splats:
        said = splat.headline(splats[0])
        return 125, f"the kernel or the adapter reported {len(splats)} problem(s): {said}", splats
    if ended is None:
        return 124, "timeout", splats
    if ended:
        return 125, f"QEMU ended with status {ended}", splats
    if not found:
        said = re.sub(r"^start .*\n", "", verdict.replace("\r", ""), flags=re.M).strip()
        return 125, f"no verdict{': ' + said if said else ''}", splats
    bits = [text for bit, text in BAD_TAINT.items() if int(found[2]) >> bit & 1]
    if bits and not allow:
        return 125, f"the kernel is tainted ({', '.join(bits)}), its log does not say why", splats
    errors = driver_errors(os.path.join(folder, "share", "kernel-errors"), opts.get("errors"))
    if errors and not allow:
        return 125, f"the drivers reported {len(errors)} error(s): {errors[0]}", [errors]
    return int(found[1]), "", splats


def in_use(folder):
    """True while the process lives that made this folder: the name has its PID."""
    pid = folder.rsplit("-", 2)[-2:-1]
    return bool(pid) and os.path.exists(f"/proc/{pid[0]}")


def when(entry):
    """The time of a folder's last change; 0 if another boot has just removed it."""
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return 0


def prune(out=OUT, keep=60):
    """Remove the folders of the oldest runs."""
    runs = sorted((entry for entry in os.scandir(out) if entry.is_dir()), key=when)
    for entry in runs[:-keep]:
        if not in_use(entry.name):
            shutil.rmtree(entry.path, ignore_errors=True)


def die_with_us():
    """Called in the child: QEMU is killed when this process ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def module(kernel, name):
    """The path of a module that was kept with its kernel."""
    path = f"{kernel}.{name}.ko"
    if not os.path.exists(path):
        fail(f"{path} is missing", "a kernel that is given by its path has no modules here")
    return path


def boot(kernel, cmd, opts, accel):
    if opts.get("ipoib"):
        opts = {**opts, "env": {**(opts.get("env") or {}), "PINLESS_IPOIB": module(kernel, "ib_ipoib")}}
    name = opts.get("name") or "run"
    folder = os.path.join(OUT, f"{name}-{os.getpid()}-{secrets.token_hex(3)}")
    os.makedirs(folder)
    prune()
    for log in ("kernel.log", "verdict", "output.log", "qemu.log"):
        open(os.path.join(folder, log), "w").close()
    nonce = secrets.token_hex(16)
    initrd = initramfs.make(folder, nonce, cmd, opts)
    args = qemu_args(kernel, initrd, folder, opts, accel)
    timeout = float(opts.get("timeout") or 1800) * (SLOWER if sanitized() else 1)
    start = time.monotonic()
    if opts.get("interactive"):
        ended = subprocess.run(args).returncode
    else:
        with open(os.path.join(folder, "qemu.log"), "wb") as log, \
                subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=log, env=qemu_env(opts),
                                 preexec_fn=die_with_us) as process:
            try:
                ended = pump(process, opts, folder, start + timeout)
            except BaseException:
                process.kill()
                raise
    status, reason, splats = judge(folder, nonce, ended, opts)
    swap = os.path.join(folder, "swap.img")
    if os.path.exists(swap):
        os.unlink(swap)
    os.unlink(initrd)
    return Result(status, reason, time.monotonic() - start, splats,
                  os.path.join(folder, "kernel.log"), os.path.join(folder, "output.log"))


def accel_for(kernel):
    """kvm if our kernel boots with it, else tcg.  The answer is cached."""
    asked = os.environ.get("ACCEL")
    if asked:
        return asked if asked != "tcg" else "tcg,thread=multi"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg,thread=multi"
    with open("/proc/sys/kernel/random/boot_id") as file:
        boot_id = file.read().strip()
    cache = os.path.join(initramfs.cache(), f"accel-{boot_id}")
    if not os.path.exists(cache):
        note("probing /dev/kvm (once a boot of this machine)")
        result = boot(kernel, "exit 42", {"timeout": 10, "quiet": True, "name": "probe"}, "kvm")
        tmp = f"{cache}.{secrets.token_hex(3)}"
        with open(tmp, "w") as file:
            file.write("kvm" if result.status == 42 else "tcg,thread=multi")
        os.rename(tmp, cache)
    with open(cache) as file:
        return file.read().strip()


def run(config, cmd, **opts):
    kernel = image(config)
    opts.setdefault("config", config)
    accel = accel_for(kernel)
    with slots.HOST.take(seconds=opts.get("seconds")):
        return boot(kernel, cmd, opts, accel)


def together(function, arguments):
    """Call FUNCTION for each tuple of ARGUMENTS, in threads.  vm.run() limits the number of
    VMs that run at once.  Returns the results in order."""
    arguments = list(arguments)
    with ThreadPoolExecutor(max_workers=max(1, len(arguments))) as pool:
        jobs = [pool.submit(function, *one) for one in arguments]
        return [job.result() for job in jobs]


def report(result, limit=60):
    """Print the reports of a failed run, and its reason, on stderr."""
    for block in result.splats[:5]:
        note("---- kernel log ----", *block[:limit])
    if result.reason:
        note("", f"vm: FAILED: {result.reason}")
        with open(os.path.join(os.path.dirname(result.klog), "qemu.log"), errors="replace") as file:
            note(*(l.rstrip() for l in file.readlines()[-15:]))
        if not result.splats:
            with open(result.klog, errors="replace") as file:
                note("---- end of the kernel log ----", *(l.rstrip() for l in file.readlines()[-15:]))
    note(f"vm: status {result.status} after {result.seconds:.1f} s; kernel log: {result.klog}")


def need(*packages):
    done = subprocess.run(["bash", "-c", '. "$0"; need "$@"', os.path.join(ROOT, "dev/lib/common.sh"),
                           *packages])
    if done.returncode:
        fail("packages are missing")
