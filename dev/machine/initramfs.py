# SPDX-License-Identifier: GPL-2.0
"""Builds the initramfs of the guest: our PID 1, and the parameters of the run."""
import hashlib
import os
import secrets
import subprocess

from lib.common import fail, ROOT

SOURCES = ("init.c", "mounts.c", "kmemleak.c")


def cache():
    base = os.environ.get("PINLESS_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "pinless")
    base = os.path.realpath(base)
    os.makedirs(base, exist_ok=True)
    return base


def init_binary():
    folder = os.path.join(ROOT, "dev/machine/init")
    paths = [os.path.join(folder, name) for name in SOURCES]
    digest = hashlib.sha256()
    for path in paths + [os.path.join(folder, "init.h")]:
        with open(path, "rb") as file:
            digest.update(file.read())
    binary = os.path.join(cache(), f"init-{digest.hexdigest()[:16]}")
    if not os.path.exists(binary):
        # Several machines may start at once, in threads of one process.
        tmp = f"{binary}.{secrets.token_hex(3)}"
        done = subprocess.run(["gcc", "-static", "-O2", "-Wall", "-Wextra", "-Werror",
                               "-o", tmp, *paths])
        if done.returncode:
            fail("dev/machine/init does not compile (a static C library is needed: libc6-dev)")
        os.rename(tmp, binary)
    return binary


def newc(name, mode, data):
    """One entry of a cpio archive in the format the kernel unpacks."""
    raw = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
    head = b"070701" + b"".join(b"%08X" % value for value in fields) + raw
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def conf(nonce, opts):
    env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
           "HOME": "/tmp/home", "TERM": os.environ.get("TERM", "dumb"), "LANG": "C.UTF-8",
           "SHARE": "/mnt/share", "PINLESS_ROOT": ROOT, "PINLESS_CACHE": cache(),
           "PINLESS_CONFIG": opts.get("config") or "", "PINLESS_DEV": opts.get("dev") or "",
           "PINLESS_SWAP": str(opts.get("swap") or ""), **(opts.get("env") or {})}
    lines = [f"nonce={nonce}", f"cwd={ROOT}", f"guest={ROOT}/dev/machine/guest/run", "share=1",
             *(f"keep={folder}" for folder in (ROOT, cache(), *opts.get("keep", ()))),
             f"interactive={int(bool(opts.get('interactive')))}",
             f"kmemleak={int(opts.get('kmemleak', True))}"]
    lines += [f"env={name}={value}" for name, value in env.items()]
    return "".join(line + "\n" for line in lines).encode()


def make(folder, nonce, cmd, opts):
    with open(init_binary(), "rb") as file:
        init = file.read()
    path = os.path.join(folder, "initramfs.cpio")
    with open(path, "wb") as out:
        for name in ("dev", "proc"):
            out.write(newc(name, 0o040755, b""))
        out.write(newc("init", 0o100755, init))
        out.write(newc("conf", 0o100600, conf(nonce, opts)))
        out.write(newc("cmd", 0o100644, (cmd + "\n").encode()))
        out.write(newc("TRAILER!!!", 0, b""))
    return path
