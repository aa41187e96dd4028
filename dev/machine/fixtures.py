# SPDX-License-Identifier: GPL-2.0
"""Tests of the harness: runs that it must judge as failures, and one that must pass.

`make check` begins here, because a harness that lets a panic pass makes all other
results worthless.  A failure that ends the machine or the command has a boot of its
own.  The reports that the kernel survives share one boot: each part of the log must
get the verdict that it would get alone.

usage: python3 dev/machine/fixtures.py [CONFIG]   CONFIG may be the path of a bzImage; kcsan
                                    has its own part, a data race
"""
import json
import os
import re
import runpy
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from interop import run as clients
from lib.common import ROOT, read
from machine import ktap, ktap_peer, vm

CRASH = "/sys/kernel/debug/provoke-crash/DIRECT"
# name, command, status, what the reason or a report must say, options
VM = (
    ("text_of_a_user_then_its_status", "echo 'WARNING: CPU: 0 PID: 1 at a/user/says.so'; "
     "echo 'BUG: not really'; exit 7", 7, "", {}),
    ("warning_allowed_then_a_signal", f"echo WARNING >{CRASH}; kill -SEGV $$", 139, "",
     {"allow": "lkdtm_WARNING"}),
    ("panic", "echo c >/proc/sysrq-trigger; sleep 60", 125, "crash", {}),
    ("hang", "sleep 1000", 124, "timeout", {"timeout": 25}),
    ("stack_exhausted", f"echo EXHAUST_STACK >{CRASH}; sleep 60", 125, "", {}),
    ("init_killed", "kill -9 1; reboot -f; echo b >/proc/sysrq-trigger; sleep 60", 125,
     "no verdict", {}),
    ("forged_verdict", "echo 'exit 0123456789abcdef0123456789abcdef 0 0 end' >/dev/ttyS1; "
     "echo o >/proc/sysrq-trigger; sleep 60", 125, "no verdict", {}),
    ("error_of_a_driver", "echo '<3>rxe0: something went wrong' >/dev/kmsg", 125,
     "the drivers reported 1 error(s): rxe0: something", {}),
)
# What the parts of one boot have to themselves: LKDTM, and fixtures/faulty.
SHELL = f"""
. {ROOT}/dev/machine/guest/lib.sh
mark() {{ echo "fixture: $1" >/dev/kmsg; }}
crash() {{ echo "$1" >{CRASH}; }}
commit() {{ echo "$1" >/sys/module/faulty/parameters/commit; }}
hold() {{ echo "$1" >/sys/module/faulty/parameters/seconds; commit hold_cpu; }}
"""
# Of dev/run: where it is, what it is told, and a region that it pins, or would pin.
PROGRAM = """#!/bin/sh
echo "$PWD|$TOLD|$1|$(ls /sys/class/infiniband)"
echo here >$SHARE/left
read -r fed; echo "fed $fed"
ibv_rc_pingpong -g 1 & sleep 2; kill $!
ODP_RUN_IMPLICIT=1 ibv_rc_pingpong -g 1 & sleep 2; kill $!
exit 7
"""
# On two nodes: they are two kernels, meet over the network, and node 1's status counts.
PAIR = """#!/bin/sh
echo "$NODE $PEER $(hostname)"
cat /proc/sys/kernel/random/boot_id >$BETWEEN/boot.$NODE
if [ $NODE = 0 ]; then
	ibv_rc_pingpong -g 1 -n 10 -c
else
	sleep 1
	ibv_rc_pingpong -g 1 -n 10 -c node0 || exit 1
	cmp -s $BETWEEN/boot.0 $BETWEEN/boot.1 || exit 3
fi
"""
# The other node does not come back.
WIDOW = """#!/bin/sh
[ $NODE = 0 ] || exec sleep 1000
until [ -e $BETWEEN/gone.1 ]; do sleep 0.2; done
echo "gone: $(tc qdisc show dev rdma0)"
"""
STALL = "/sys/module/rcupdate/parameters/rcu_cpu_stall_timeout"
# name, command, what the report must say ("": nothing is reported).  wait_under_lock
# and KASAN turn lockdep off for good, and the scan for leaks comes after the command.
PARTS = (
    ("nothing", "true", ""),
    ("lock_inversion", "commit lock_inversion", "possible circular locking dependency"),
    ("irq_unsafe_lock", "commit irq_unsafe_lock", "inconsistent lock state"),
    ("rcu_outside_reader", "commit rcu_outside_reader", "suspicious RCU usage"),
    ("atomic_sleep", "commit atomic_sleep", "BUG: sleeping function called from invalid context"),
    ("warning", "crash WARNING", "WARNING: CPU"),
    ("silenced_console", "dmesg -n 1; crash WARNING; dmesg -n 8", "WARNING: CPU"),
    ("list_corruption", "crash CORRUPT_LIST_ADD", "list_add corruption"),
    ("refcount_underflow", "crash REFCOUNT_SUB_AND_TEST_NEGATIVE", "refcount_t: underflow"),
    ("free_active_timer", "commit free_active_timer", "ODEBUG: free active"),
    ("hung_task", "cd /proc/sys/kernel; echo 1 >hung_task_timeout_secs; commit hung_task; "
     "await 30 reported 'faulty_hung.*blocked for more'; commit release; echo 120 >hung_task_timeout_secs",
     "INFO: task faulty_hung"),
    ("soft_lockup", "cd /proc/sys/kernel; echo 1 >watchdog_thresh; hold 5; "
     "echo 60 >watchdog_thresh", "watchdog: BUG: soft lockup"),
    ("rcu_stall", f"echo 3 >{STALL}; hold 12; echo 120 >{STALL}", "self-detected stall"),
    ("wait_under_lock", "commit wait_under_lock", "possible circular locking dependency"),
    ("use_after_free", "crash WRITE_AFTER_FREE", "KASAN: slab-use-after-free"),
    ("out_of_bounds", "crash SLAB_LINEAR_OVERFLOW", "KASAN: slab-out-of-bounds"),
    ("leak", "commit leak", "new suspected memory leak"),
)
RACE = (("nothing", "true", ""), ("data_race", "commit race", "BUG: KCSAN: data-race in race_once"))
# What no boot here provokes: its first line, as the kernel's sources have it.
TEXTS = (
    ("kcsan", "BUG: KCSAN: data-race in one / other", 125),
    ("ubsan", "UBSAN: shift-out-of-bounds in mm/file.c:10:20", 125),
    ("dma_api", "DMA-API: mlx5_core 0000:01:00.0: device driver frees DMA memory with "
     "different direction", 125),
    ("workqueue_lockup", "BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck "
     "for 121s!", 125),
    ("held_lock", "WARNING: lock held when returning to user space!", 125),
    ("page_that_keeps_memory_online", "page dumped because: unmovable page", 0),
    ("page_that_did_not_migrate", "page dumped because: migration failure", 0),
    ("page_in_a_bad_state", "page dumped because: nonzero mapcount", 125),
    ("message", "mlx5_core 0000:01:00.0: firmware version: 28.0.1", 0),
)
# Of reports on the kernel with KCSAN.
RACES = (
    ("of_the_base", ("tick_nohz_stop_tick / tick_do_update_jiffies64",), 0),
    ("of_ours", ("mmu_range_hit / mmu_range_hit",), 125),
    ("of_the_base_and_ours", ("zap_pte_range / chunk_map_smalls",), 125),
    ("of_ours_after_the_base", ("tick_sched_do_timer / ktime_get", "do_fault / mmu_interval_insert"), 125),
)
# What is told of a report, in a line.
TOLD = (
    ("a_trace_alone", "kswapd0: page allocation failure: order:0\nCPU: 0 UID: 0 PID: 12\n"
     "Call Trace:\n <TASK>\n warn_alloc+0xa5/0x130\n ? stale+0x1/0x20\n virtqueue_add+0x1/0x20\n",
     "kswapd0: page allocation failure: order:0 in warn_alloc < virtqueue_add"),
    ("a_header", "swapper: an unrelated line\nWARNING: CPU: 1 PID: 7 at mm/rmap.c:1\n"
     "CPU: 1 UID: 0 PID: 7\nCall Trace:\n try_to_unmap+0x5/0x10\n---[ end trace 0 ]---\n",
     "WARNING: CPU: 1 PID: 7 at mm/rmap.c:1 in try_to_unmap"),
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
    def fixture(_name, cmd, _status, _text, opts):
        return vm.run(config, cmd, name="fixture", quiet=True, kmemleak=False,
                      **{"timeout": 180, **opts})
    for (name, _, status, text, _), result in zip(VM, vm.together(fixture, VM)):
        said = result.reason + "\n" + "\n".join("\n".join(b) for b in result.splats)
        good = result.status == status and text in said
        tally.add(f"vm.{name}", "pass" if good else "fail", "" if good else
                  f"status {result.status} ({result.reason}), due {status} ({text}); {result.klog}")


def verdict_on(lines, **opts):
    """(status, reason, reports) of a run with these lines on its console, and else in order."""
    files = {"kernel.log": "".join(lines), "verdict": "exit 0 0 0 end\n", "qemu.log": ""}
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            with open(os.path.join(folder, name), "w") as file:
                file.write(text)
        status, reason, splats = vm.judge(folder, "0", 0, opts)
    return status, reason, "\n".join("\n".join(block) for block in splats)


def on_texts(tally):
    for name, line, due in TEXTS:
        status, _, _ = verdict_on([f"[   10.000000] {line}\n"])
        tally.add(f"text.{name}", "pass" if status == due else "fail",
                  "" if status == due else f"status {status}, due {due}")
    for name, ends, due in RACES:
        lines = [f"[   10.000000] BUG: KCSAN: data-race in {end}\n" for end in ends]
        status, _, _ = verdict_on(lines, config="kcsan")
        tally.add(f"race.{name}", "pass" if status == due else "fail",
                  "" if status == due else f"status {status}, due {due}")
    for name, text, due in TOLD:
        _, said, _ = verdict_on([f"[   10.000000] {line}\n" for line in text.splitlines()])
        good = said == f"the kernel or the adapter reported 1 problem(s): {due}"
        tally.add(f"told.{name}", "pass" if good else "fail", "" if good else f"says: {said}")


EVENT = "{}-7 [000] ..... {}: ib_odp_{}: odp=00a "
OWNED = (EVENT.format("owner", 1, "get") + "device=rxe0 start=0x1000 length=8192 writable",
         EVENT.format("kworker", 2, "fault") + "[0x1000, 0x2000) ahead=0x2000 flags=write ret=0 ns=9",
         EVENT.format("owner", 3, "release") + "device=rxe0 start=0x1000 length=8192 writable")


def on_odptop(tally):
    """Live, round after round: a region has its owner until it is released, and its faults
    are those of the round."""
    odptop = runpy.run_path(os.path.join(ROOT, "tools/rdma/odptop"), run_name="odptop")
    session, shown = odptop["Session"](), []
    for lines in (OWNED[:2], OWNED[1:2], OWNED[2:], ()):
        session.begin()
        for line in lines:
            session.read(line)
        shown.append([(one.owner, one.faults) for one in session.regions.values()])
    good = shown == [[("owner-7", 1)], [("owner-7", 1)], [("owner-7", 0)], []]
    tally.add("odptop.rounds", "pass" if good else "fail", "" if good else f"shows {shown}")


def parts_of(klog):
    """{part: its lines}: from its mark to the next, or to the end."""
    found, name = {}, "boot"
    with open(klog, errors="replace") as file:
        for line in file:
            mark = re.search(r"\] fixture: (\w+)$", line.rstrip())
            name = mark[1] if mark else name
            found.setdefault(name, []).append(line)
    return found


def on_parts(tally, config, parts, **opts):
    """All in one boot, whose own verdict must be that of its reports."""
    script = SHELL + f"insmod {vm.tool('kernels/module', config, 'machine/fixtures/faulty')} || exit 1\n"
    script += "".join(f"mark {name}\n( {cmd} )\n" for name, cmd, _ in parts)
    result = vm.run(config, script, name="fixture", quiet=True, timeout=300, **opts)
    found = parts_of(result.klog)
    for name, _, text in parts:
        status, _, reports = verdict_on(found.get(name, ["no mark of this part"]), config=config)
        good = name in found and status == (125 if text else 0) and text in reports
        tally.add(f"report.{name}", "pass" if good else "fail", "" if good else
                  f"status {status}, due: {text or 'no report'}; {result.klog}")
    ended = result.status == 125 and result.reason.startswith("the kernel or the adapter reported")
    tally.add("report.boot", "pass" if ended else "fail",
              "" if ended else f"status {result.status} ({result.reason}); {result.klog}")


def on_lists(tally):
    for name, text, good in LISTS:
        with tempfile.NamedTemporaryFile("w", suffix=".ktap") as file:
            file.write(text)
            file.flush()
            done = subprocess.run([sys.executable, os.path.join(ROOT, "dev/machine/ktap.py"), file.name],
                                  capture_output=True, text=True)
        judged = done.returncode == 0
        tally.add(f"ktap.{name}", "pass" if judged == good else "fail",
                  "" if judged == good else f"judged {'good' if judged else 'bad'}: {done.stdout}")
    ktap_peer.compare(tally, LISTS)


def on_clients(tally):
    for was, is_now, due in CLIENTS:
        found = {} if is_now == "absent" else {"test": (is_now, "why")}
        got = clients.compare(found, {"test": (was, "reason")}, "*").names.get("test")
        tally.add(f"client.{was}_then_{is_now}", "pass" if got == due else "fail",
                  "" if got == due else f"counts as {got}, due {due}")
    for first, second, due in BASELINES:
        got = clients.seen_both((first, "reason"), (second, "why"))[0]
        tally.add(f"baseline.{first}_and_{second}", "pass" if got == due else "fail",
                  "" if got == due else f"is {got}, due {due}")
    for dev in clients.DEVICES:
        try:
            clients.baseline(dev)
            tally.add(f"baseline.{dev}", "pass")
        except SystemExit:
            tally.add(f"baseline.{dev}", "fail", "a row is malformed (see above)")


def on_programs(tally, config):
    """dev/run: a program that is in a folder which the guest has a file system of its own for."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        def ran(*args):
            return subprocess.run([os.path.join(ROOT, "dev/run"), *args], cwd=folder, text=True,
                                  input="this\n",
                                  env={**os.environ, "TOLD": "it's so"}, capture_output=True)
        program = os.path.join(folder, "program")
        with open(program, "w") as file:
            file.write(PROGRAM)
        os.chmod(program, 0o755)
        done = ran("--kernel", config, "--results", "kept", "--json", "json", "--junit", "junit",
                   "--counters", "--odp", "--trace", "--stdin", "--", "./program", "one two")
        left = {name: read(os.path.join(folder, name), "") for name in
                ("kept/left", "json", "junit")}
        due = {"status": done.returncode == 7,
               "output": f"{folder}|it's so|one two|rxe0" in done.stdout,
               "input": "fed this" in done.stdout, "results": left["kept/left"] == "here\n",
               "json": '"status": 7' in left["json"],
               "junit": 'failures="1"' in left["junit"],
               "trace": bool(re.search(r"^ibv_rc_pingpong-\d+ +rxe0 +4K ", done.stdout, re.M) and
                             re.search(r"^ibv_rc_pingpong-\d+ +rxe0 +all ", done.stdout, re.M)),
               "counters": "1 paged regions, 4096 paged bytes, 1 implicit regions, 0 pinned regions"
                           in done.stderr,
               "no_program": "there is no program ./gone" in ran("--", "./gone").stderr}
    for name, good in due.items():
        tally.add(f"run.{name}", "pass" if good else "fail",
                  "" if good else f"status {done.returncode}: {done.stdout}{done.stderr}")


def on_nodes(tally, config):
    """dev/run on two machines."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        def ran(text, *args):
            path = os.path.join(folder, "program")
            with open(path, "w") as file:
                file.write(text)
            os.chmod(path, 0o755)
            return subprocess.run(
                [os.path.join(ROOT, "dev/run"), "--nodes", "2", "--kernel", config, *args,
                 "--timeout", "200", "--", path], cwd=folder, text=True, capture_output=True,
                stdin=subprocess.DEVNULL)
        pair = ran(PAIR, "--json", "json", "--counters", "--odp")
        found = json.loads(read(os.path.join(folder, "json"), "{}")).get("nodes", [])
        widow = ran(WIDOW, "--kill-after", "1", "--delay", "3", "--loss", "1")
    said = f"status {pair.returncode}: {pair.stdout}{pair.stderr}"
    alone = f"status {widow.returncode}: {widow.stdout}{widow.stderr}"
    for name, good, why in (
            ("status", pair.returncode == 3, said),
            ("names", {"node0| 0 192.0.2.2 node0", "node1| 1 192.0.2.1 node1"} <=
             set(pair.stdout.splitlines()), said),
            ("each", [(one["status"], one["paged_regions"]) for one in found] == [(0, 1), (3, 1)],
             f"{found} {said}"),
            ("death", widow.returncode == 0 and "node0| gone: qdisc netem" in widow.stdout, alone),
            ("delay", "delay 3ms loss 1%" in widow.stdout, alone)):
        tally.add(f"nodes.{name}", "pass" if good else "fail", "" if good else why)


def run(_tier="check", config="debug"):
    tally = ktap.Tally()
    on_lists(tally)
    on_clients(tally)
    on_texts(tally)
    on_odptop(tally)
    if config == "kcsan":
        on_parts(tally, config, RACE, kmemleak=False)
        return tally
    on_parts(tally, config, PARTS, append="kasan_multi_shot", kmemleak=True)
    # What they end does not depend on the checkers, which make a boot three times as long.
    plain = "check" if config == "debug" else config
    on_vm(tally, plain)
    on_programs(tally, plain)
    on_nodes(tally, plain)
    return tally


if __name__ == "__main__":
    TALLY = run(config=sys.argv[1] if len(sys.argv) > 1 else "debug")
    TALLY.show()
    TALLY.end()
