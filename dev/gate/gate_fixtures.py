# SPDX-License-Identifier: GPL-2.0
"""Tests of the gate: each breaks one part of it and expects the gate to refuse."""
import concurrent.futures
import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from gate import coverage, environment, expected, matrix, static_checks
from lib.common import ROOT, read
from machine import ktap, slots, vm

MERGE = os.path.join(ROOT, "dev/kernels/mergeconfig.py")
# What results() makes of a file: (name, content, names that fail)
RESULTS = (
    ("whole", "start a\npass a\nskip b why\ndone 2\n", set()),
    ("cut_short", "start a\npass a\n", {"done"}),
    ("fewer_than_announced", "pass a\ndone 2\n", {"done"}),
    ("began_and_never_ended", "start a\nstart b\npass b\ndone 2\n", {"a"}),
    ("empty", "", {"done"}),
    ("goes_on_after_the_end", "pass a\ndone 1\nfail b why\n", {"b", "done"}),
)
# A line of the kernel's at level err, what is allowed, whether it counts.
ERRORS = (
    ("a_driver", "<3>[   12.3] rxe0: cannot do it", None, True),
    ("an_adapter", "<3>[    1.3] mlx5_core 0000:01:00.0: no", None, True),
    ("allowed", "<3>[    1.3] mlx5_core 0000:01:00.0: no", "0000:01:00.0: no$", False),
    ("to_a_user", "<3>[   12.3] rxe0: pd#4 rxe_reg_user_mr: returned err = -14", None, False),
    ("somebody_else", "<3>[    1.3] random: something", None, False),
)


def config(tally):
    """Our symbols must take effect in our tree; stock has none of them."""
    with tempfile.TemporaryDirectory() as folder:
        fragment, dotconfig = (os.path.join(folder, name) for name in ("fragment", ".config"))
        with open(fragment, "w") as file:
            file.write("CONFIG_A=y\nCONFIG_B=y # ours\n")
        for name, have, tree, good in (("both", "CONFIG_A=y\nCONFIG_B=y\n", "work", True),
                                       ("ours_is_missing", "CONFIG_A=y\n", "work", False),
                                       ("ours_on_stock", "CONFIG_A=y\n", "stock", True),
                                       ("the_base_s_on_stock", "CONFIG_B=y\n", "stock", False)):
            with open(dotconfig, "w") as file:
                file.write(have)
            done = subprocess.run([sys.executable, MERGE, "check", fragment, dotconfig, tree],
                                  capture_output=True)
            tally.add(f"config.{name}", "pass" if (done.returncode == 0) == good else "fail",
                      f"status {done.returncode}")


def names(tally):
    """A stage that lost a test, that has an undeclared one, or that has none."""
    with tempfile.TemporaryDirectory() as folder:
        for stage in ("kunit", "selftest"):
            with open(os.path.join(folder, stage), "w") as file:
                file.write("a\nb\n")
        for name, stage, came, bad in (("all", "kunit", "ab", 0), ("one_vanished", "kunit", "a", 1),
                                       ("nothing_ran", "kunit", "", 2), ("a_new_one", "kunit", "abc", 1),
                                       ("a_new_one_of_the_machine", "selftest", "abc", 0),
                                       ("no_list", "static", "a", 1)):
            run = ktap.Tally()
            for test in came:
                run.add(test, "pass")
            expected.judge(stage, run, folder)
            tally.add(f"names.{name}", "pass" if len(run.failed) == bad else "fail", run.failed)


def results(tally):
    for name, text, bad in RESULTS:
        with tempfile.NamedTemporaryFile("w", suffix=".results") as file:
            file.write(text)
            file.flush()
            found = {test for test, (verdict, _) in ktap.results(file.name).items()
                     if verdict == "fail"}
        tally.add(f"results.{name}", "pass" if found == bad else "fail", f"{found}, due {bad}")


def errors(tally):
    for name, line, allow, bad in ERRORS:
        with tempfile.NamedTemporaryFile("w", suffix=".errors") as file:
            file.write(line + "\n")
            file.flush()
            found = bool(vm.driver_errors(file.name, allow))
        tally.add(f"errors.{name}", "pass" if found == bad else "fail", line)


def scrub(tally):
    env = {"ALLOW": ".", "PINLESS_ALLOW": ".", "QEMU": "/bin/true", "PATH": "/bin", "T": ""}
    said = environment.scrub(env)
    good = env == {"PATH": "/bin"} and said == ["ALLOW", "PINLESS_ALLOW", "QEMU"]
    tally.add("environment.is_not_taken_over", "pass" if good else "fail", f"{said}, {env}")
    for name, words, tool in (("not_from_the_environment", (), "dev/gate/check.py"),
                              ("but_from_the_command", ("FOR=mm/x.c",), "dev/gate/coverage.py")):
        says = subprocess.run(["make", "--no-print-directory", "-n", "check", *words],
                              env={**os.environ, "MAKEFLAGS": "", "FOR": "mm/x.c"},
                              cwd=ROOT, capture_output=True, text=True).stdout
        tally.add(f"environment.FOR_{name}", "pass" if says.startswith(tool) else "fail", says)


def prune(tally):
    """The folder of a run that is under way stays, however old it is."""
    with tempfile.TemporaryDirectory() as out:
        for name in (f"run-{os.getpid()}-aaaaaa", "run-4194305-bbbbbb", "run-4194305-cccccc"):
            os.mkdir(os.path.join(out, name))
            os.utime(os.path.join(out, name), (len(os.listdir(out)), ) * 2)
        vm.prune(out, keep=1)
        left = sorted(os.listdir(out))
    good = left == sorted([f"run-{os.getpid()}-aaaaaa", "run-4194305-cccccc"])
    tally.add("vm.old_folders_in_use_stay", "pass" if good else "fail", f"left: {left}")


def pruned_at_once(tally):
    """Two boots at once drop the same folders."""
    with tempfile.TemporaryDirectory() as out:
        for at in range(400):
            os.mkdir(os.path.join(out, f"run-4194305-{at:06x}"))
        with concurrent.futures.ThreadPoolExecutor() as pool:
            runs = [pool.submit(vm.prune, out, keep=1) for _ in range(4)]
        errors = [str(run.exception()) for run in runs if run.exception()]
    tally.add("vm.old_folders_are_dropped_by_two_at_once", "fail" if errors else "pass",
              "; ".join(errors))


def mapped(tally):
    """make check FOR=path runs nothing for a file under the name that it had."""
    gone = [path for path in coverage.known() if not os.path.exists(os.path.join(ROOT, path))]
    tally.add("coverage.map_has_no_file_that_is_gone", "fail" if gone else "pass", " ".join(gone))


def configurations(tally):
    """A boot in which a test is missing, or the kernel warns; none; a symbol that is not
    what was asked for."""
    tests = read(matrix.EXPECTED).splitlines()
    row = matrix.Row("row", "x86_64", without=[f"{tests[0].split('.')[0]}.*"])
    kept = [test for test in tests if not test.startswith(row.without[0][:-1])]

    def log(tests):
        suites = {}
        for test in tests:
            suites.setdefault(test.split(".")[0], []).append(test.split(".", 1)[1])
        lines = ["KTAP version 1", f"1..{len(suites)}"]
        for number, (suite, names) in enumerate(suites.items(), 1):
            lines += ["    KTAP version 1", f"    # Subtest: {suite}", f"    1..{len(names)}"]
            lines += [f"    ok {at} {name}" for at, name in enumerate(names, 1)]
            lines.append(f"ok {number} {suite}")
        return lines

    warning = ["WARNING: CPU: 0 PID: 1 at mm/mmu_notifier.c:1 f+0x1/0x2"]
    for name, lines, output, bad in (
            ("good", log(kept), "", set()),
            ("a_test_is_missing", log(kept[:-1]), "", {f"row.{kept[-1]}"}),
            ("the_kernel_warns", log(kept) + warning, "", {"row.log"}),
            ("nothing_is_booted", None, "Missing: CONFIG_A=y\n", {"row"})):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "test.log")
            if lines:
                with open(path, "w") as file:
                    file.write("\n".join(lines) + "\n")
            judged = ktap.Tally()
            matrix.judge(row, path, output, judged)
        failed = {test for test, _ in judged.failed}
        tally.add(f"configurations.{name}", "pass" if failed == bad else "fail", f"failed: {failed}")


def static(tally):
    with tempfile.TemporaryDirectory() as folder:
        for name, mode, text in (("good", 0o755, "exit 0"), ("bad", 0o755, "exit 1"),
                                 ("skips", 0o755, "exit 4"), ("not_executable", 0o644, "exit 0")):
            path = os.path.join(folder, name)
            with open(path, "w") as file:
                file.write(f"#!/bin/sh\n{text}\n")
            os.chmod(path, mode)
        run = ktap.Tally()
        static_checks.run(folder, run)
    due = {"good": "pass", "bad": "fail", "skips": "skip", "not_executable": "fail"}
    tally.add("static.each_file_is_judged", "pass" if run.names == due else "fail", f"{run.names}")


# What waits while both slots are taken: (slots, expected seconds). What begins when one slot
# is free, and then when both are.
TURNS = (
    ("longest_first", ((1, 10), (1, 30), (1, 20)), [1, 2, 0], []),
    ("in_order", ((1, None), (1, None)), [0, 1], []),
    ("single_ones_pass_a_pair", ((2, 30), (1, 10), (1, 20)), [2, 1], [0]),
)


def turns(tally):
    for name, wants, with_one, with_both in TURNS:
        room, began = slots.Slots(2), []

        def use(nr, count, seconds):
            with room.take(count, seconds):
                began.append(nr)

        with concurrent.futures.ThreadPoolExecutor() as pool:
            with room.take():
                with room.take():
                    for nr, want in enumerate(wants):
                        pool.submit(use, nr, *want)
                        wait_for(lambda: len(room.waiting) == nr + 1, 10)
                wait_for(lambda: len(began) == len(with_one), 5)
                first = list(began)
        good = first == with_one and began == with_one + with_both
        tally.add(f"slots.{name}", "pass" if good else "fail", "" if good else f"{first}, {began}")


def qemus_of(folder):
    return subprocess.run(["pgrep", "-f", f"qemu-system.*{folder}"], capture_output=True,
                          text=True).stdout.split()


def killed(tally, kernel):
    """When a run is killed, its machine ends, too."""
    code = ("import sys; from machine import vm; vm.run(sys.argv[1], 'sleep 1000', name=sys.argv[2], quiet=True)")
    name = f"killed{os.getpid()}"
    run = subprocess.Popen([sys.executable, "-c", code, kernel, name],
                           cwd=os.path.join(ROOT, "dev"), stderr=subprocess.DEVNULL)
    up = wait_for(lambda: qemus_of(f"vm/{name}-"), 60)
    run.send_signal(signal.SIGKILL)
    run.wait()
    gone = wait_for(lambda: not qemus_of(f"vm/{name}-"), 10)
    tally.add("vm.ends_with_its_run", "pass" if up and gone else "fail", f"up {up}, gone {gone}")
    for entry in os.listdir(vm.OUT):
        if entry.startswith(f"{name}-"):
            shutil.rmtree(os.path.join(vm.OUT, entry))


def wait_for(condition, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


def run(tally):
    for test in (config, names, results, errors, scrub, prune, pruned_at_once, mapped,
                 configurations, static, turns):
        # What they have the gate say is not about this run.
        with contextlib.redirect_stderr(io.StringIO()):
            test(tally)
    killed(tally, vm.image("check"))
