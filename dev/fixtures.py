# SPDX-License-Identifier: GPL-2.0
"""The harness on trial: runs that must be judged failures, and one that must not.

A harness that lets a panic pass makes every other result worthless, so `make
check` begins here.  Each fixture is a command for the guest and the verdict
that it has to get.
"""
import os
import subprocess
import sys
import tempfile

import ktap
import ktap_peer
import stage
import vmlib
from common import ROOT

CRASH = "/sys/kernel/debug/provoke-crash/DIRECT"
# name, command, status, what the reason or a report must say, options
VM = (
    ("passes", "echo 'WARNING: CPU: 0 PID: 1 at a/user/says.so'; echo 'BUG: not really'", 0, "", {}),
    ("status_is_handed_on", "exit 7", 7, "", {}),
    ("killed_by_a_signal", "kill -SEGV $$", 139, "", {}),
    ("panic", "echo c >/proc/sysrq-trigger; sleep 60", 125, "crash", {}),
    ("hang", "sleep 1000", 124, "timeout", {"timeout": 25}),
    ("warning", f"echo WARNING >{CRASH}", 125, "WARNING: CPU", {}),
    ("warning_allowed", f"echo WARNING >{CRASH}", 0, "", {"allow": "lkdtm_WARNING"}),
    ("silenced_console", f"dmesg -n 1; echo WARNING >{CRASH}", 125, "WARNING: CPU", {}),
    ("stack_exhausted", f"echo EXHAUST_STACK >{CRASH}; sleep 60", 125, "", {}),
    ("init_killed", "kill -9 1; reboot -f; echo b >/proc/sysrq-trigger; sleep 60", 125,
     "no verdict", {}),
    ("forged_verdict", "echo 'exit 0123456789abcdef0123456789abcdef 0 0 end' >/dev/ttyS1; "
     "echo o >/proc/sysrq-trigger; sleep 60", 125, "no verdict", {}),
)
LISTS = (
    ("good", "KTAP version 1\n1..2\nok 1 a\nok 2 b # SKIP no device\n", True),
    ("no_plan", "KTAP version 1\nok 1 a\n", False),
    ("short", "KTAP version 1\n1..2\nok 1 a\n", False),
    ("failed", "KTAP version 1\n1..1\nnot ok 1 a\n", False),
    ("empty", "", False),
    ("suite_never_ended", "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: s\n"
     "    1..2\n    ok 1 a\n", False),
    ("suite_hides_a_failure", "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: s\n"
     "    1..1\n    not ok 1 a\nok 1 s\n", False),
    ("suite_of_another_name", "KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: s\n"
     "    1..1\n    ok 1 a\nok 1 t\n", False),
    ("suite_indented_by_a_tab", "TAP version 14\n1..1\n\t# Subtest: s\n\t1..1\n"
     "\tnot ok 1 a\nok 1 s\n", False),
    ("planned_none", "TAP version 13\n1..0\n", False),
    ("skipped_as_a_whole", "TAP version 13\n1..0 # SKIP no device\n", True),
    ("planned_twice", "TAP version 13\n1..2\n1..1\nok 1 a\n", False),
    ("planned_in_between", "TAP version 13\nok 1 a\n1..2\nok 2 b\n", False),
    ("no_version", "1..1\nok 1 a\n", True),
    ("out_of_order", "TAP version 13\n1..2\nok 2 b\nok 1 a\n", False),
)
# Of a client: stock's result, ours, what ours counts as.
CLIENTS = (
    ("pass", "pass", "pass"), ("pass", "fail", "fail"), ("pass", "skip", "fail"),
    ("skip", "skip", "skip"), ("skip", "fail", "fail"), ("fail", "fail", "skip"),
    ("fail", "pass", "pass"), ("flaky", "pass", "pass"), ("flaky", "fail", "skip"),
    ("flaky", "skip", "fail"), ("unknown", "fail", "fail"), ("pass", "absent", "fail"),
    ("fail", "absent", "fail"), ("flaky", "absent", "fail"),
)
# Two runs on stock, and what the baseline says after them.
BASELINES = (
    ("pass", "pass", "pass"), ("pass", "fail", "flaky"), ("fail", "pass", "flaky"),
    ("fail", "fail", "fail"), ("flaky", "pass", "flaky"), ("pass", "skip", "skip"),
    ("skip", "fail", "flaky"),
)


def on_vm(tally, config):
    for name, cmd, status, text, opts in VM:
        result = vmlib.run(config, cmd, name="fixture", quiet=True, kmemleak=False,
                           **{"timeout": 180, **opts})
        said = result.reason + "\n" + "\n".join("\n".join(b) for b in result.splats)
        good = result.status == status and text in said
        tally.add(f"vm.{name}", "pass" if good else "fail", "" if good else
                  f"status {result.status} ({result.reason}), due {status} ({text}); {result.klog}")


def on_lists(tally):
    for name, text, good in LISTS:
        with tempfile.NamedTemporaryFile("w", suffix=".ktap") as file:
            file.write(text)
            file.flush()
            done = subprocess.run([sys.executable, os.path.join(ROOT, "dev/ktap.py"), file.name],
                                  capture_output=True, text=True)
        judged = done.returncode == 0
        tally.add(f"ktap.{name}", "pass" if judged == good else "fail",
                  "" if judged == good else f"judged {'good' if judged else 'bad'}: {done.stdout}")
    ktap_peer.compare(tally, LISTS)


def on_clients(tally):
    interop = stage.load("interop/run")
    for was, is_now, due in CLIENTS:
        found = {} if is_now == "absent" else {"test": (is_now, "why")}
        got = interop.compare(found, {"test": (was, "reason")}, "*").names.get("test")
        tally.add(f"client.{was}_then_{is_now}", "pass" if got == due else "fail",
                  "" if got == due else f"counts as {got}, due {due}")
    for first, second, due in BASELINES:
        got = interop.seen_both((first, "reason"), (second, "why"))[0]
        tally.add(f"baseline.{first}_and_{second}", "pass" if got == due else "fail",
                  "" if got == due else f"is {got}, due {due}")
    for dev in interop.DEVICES:
        try:
            interop.baseline(dev)
            tally.add(f"baseline.{dev}", "pass")
        except SystemExit:
            tally.add(f"baseline.{dev}", "fail", "a row is malformed (see above)")


def run(_tier="check", config="debug"):
    tally = ktap.Tally()
    on_lists(tally)
    on_clients(tally)
    on_vm(tally, config)
    return tally


if __name__ == "__main__":
    TALLY = run(config=sys.argv[1] if len(sys.argv) > 1 else "debug")
    TALLY.show()
    print(TALLY.line())
    sys.exit(1 if TALLY.failed else 0)
