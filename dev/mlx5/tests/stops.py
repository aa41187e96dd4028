# SPDX-License-Identifier: GPL-2.0
"""Stop points in the kernel (dev/mlx5/stall): a call of a function waits until it may
go on, so that what else is to happen then happens."""
import os
import subprocess
import time

LIMIT = 60      # seconds until a function has to be called
BOTH = 2


def parameter(name):
    return f"/sys/module/stall/parameters/{name}"


def need(test):
    """Called first: after all other cleanups nothing is stopped any more."""
    if "STALL" not in os.environ:
        test.skipTest("the module stall was not built")
    test.addCleanup(end)


def stop(*symbols):
    """The next call of a function; and the next one of a second, after that went on."""
    subprocess.run(["insmod", os.environ["STALL"], f"symbol={','.join(symbols)}", "sleep=1"],
                   check=True)


def reached(nr=1):
    """Wait until so many calls were stopped."""
    until = time.monotonic() + LIMIT
    while time.monotonic() < until:
        with open(parameter("stalled"), encoding="ascii") as file:
            if int(file.read()) >= nr:
                return
        time.sleep(0.01)
    raise TimeoutError("the function was not called")


def go(nr=1):
    """So many of them go on."""
    with open(parameter("go"), "w", encoding="ascii") as file:
        file.write(str(nr))


def end():
    if os.path.exists(parameter("go")):
        go(BOTH)
        time.sleep(0.1)     # what was stopped has left the module by then
        subprocess.run(["rmmod", "stall"], check=True)
