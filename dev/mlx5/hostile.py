#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""usage: [T=globs] dev/mlx5/hostile.py [--findings] [CONFIG]     (make hostile CONFIG=stock T='*umr*')

An adapter that misbehaves, against a kernel's driver, stock's if nothing is said.
Each case of hostile_cases.py: good ODP traffic; trouble, beside which traffic may
fail or stall; the program is killed and must be gone; good traffic by a new one;
the driver unbound and bound; good traffic; the machine off.  No report of the
kernel, no hang, no wrong byte, no DMA to memory that was given back.

Cases share a VM as long as they leave no trace.  One that breaks something is the
last of its VM, and its verdict is that of a run in which it was the first.

A table (case, outcome, detail) is printed and left in out/mlx5-hostile/.  The
status says for stock, and with --findings, whether every case came to a verdict;
otherwise, whether every case survived.
"""
import fnmatch
import functools
import json
import os
import re
import sys
from dataclasses import dataclass

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from lib.common import note, ROOT
from machine import splat, vm
from mlx5 import hostile_cases

BATCH = 8
BOOT, EACH = 120, 500       # seconds: for a VM, for a case that takes all its time
MARK = re.compile(r"^hostile: (\S+): (.*)$")
FRAME = re.compile(r"^\s*([\w.]+)\+0x[0-9a-f]+/0x")
PLUMBING = re.compile(r"^(__|schedule|wait_for_|down|mutex_|dump_stack|show_|sched_|rwsem|kthread|"
                      r"worker_|process_|report_|handle_bug|exc_|asm_|warn_|print_|kasan|lock)")


@dataclass
class Verdict:
    """What became of a case.  outcome: survived, report, hang, data, dma, broken, died, none."""
    outcome: str
    detail: str = ""
    log: str = ""


def functions_of(block, nr=4):
    """Who was at it: the first functions of a trace that are not the kernel's plumbing."""
    found = []
    for line in block:
        match = FRAME.match(re.sub(r"^RIP: \w+:", "", line))
        if match and not PLUMBING.match(match[1]) and match[1] not in found:
            found.append(match[1])
    return " < ".join(found[:nr])


def blocked(lines):
    """The tasks that SysRq listed as blocked: name and where."""
    tasks, current = [], None
    for line in lines:
        match = re.match(r"^task:(\S+)\s+state:D", line)
        if match:
            current = [match[1]]
            tasks.append(current)
        elif current is not None:
            current.append(line)
    return "; ".join(sorted({f"{task[0]} in {functions_of(task[1:], 3)}" for task in tasks}))


def by_case(klog):
    """The kernel's log, cut at our marks: {case: {step: lines}}."""
    cases, place = {}, ("", "")
    with open(klog, errors="replace") as file:
        for line in map(splat.strip, file):
            match = MARK.match(line)
            if match:
                place = match.groups()
            cases.setdefault(place[0], {}).setdefault(place[1], []).append(line)
    return cases


def reports(steps):
    """[(step, first line, where)] of what the kernel complained about."""
    found = []
    for step, lines in steps.items():
        if step != "blocked tasks":
            found += [(step, block) for block in splat.find(lines)]
    return [(step, re.sub(r"CPU: \d+ (UID: \d+ )?PID: \d+ ", "", block[0]),
             functions_of(block[1:])) for step, block in found]


def counted(lines):
    """Each line once, with how often it was there."""
    numbers = {}
    for line in lines:
        numbers[line] = numbers.get(line, 0) + 1
    return [f"{line} ({number} times)" if number > 1 else line for line, number in numbers.items()]


def outcome_of(findings):
    for word, outcome in (("hang: ", "hang"), ("data wrong", "data"), ("DMAs to memory", "dma"),
                          ("did not happen", "none")):
        if any(word in finding for finding in findings):
            return outcome
    return "broken"


def judge(ended, steps, log):
    """A case that came to its end, by the guest's words and the kernel's log."""
    said = reports(steps)
    findings = counted(f"{step}: {first}{f' [{where}]' if where else ''}"
                       for step, first, where in said)
    findings += ended["findings"]
    if any("hang: " in finding for finding in findings):
        findings.append(blocked(steps.get("blocked tasks", [])))
    detail = "; ".join(filter(None, findings + ended["notes"]))
    if not findings:
        return Verdict("survived", detail, log)
    return Verdict("report" if said else outcome_of(ended["findings"]), detail, log)


@functools.lru_cache(maxsize=None)
def module(config):
    return vm.tool("kernels/module", config, "mlx5/dmacheck")


def boot(config, cases, quiet):
    """The verdicts of one VM; {} where it cannot be said whose fault its end was."""
    names = " ".join(case.name for case in cases)
    result = vm.run(config, f"export DMACHECK={module(config)}\n"
                    f"bash {HERE}/hostile.sh $SHARE/hostile {names}", name="hostile",
                    dev="mlx5", mem="1G", mlx5="memory-scheme=on" if cases[0].memory else None,
                    quiet=quiet, verbose=os.environ.get("V"), timeout=BOOT + EACH * len(cases))
    folder = os.path.dirname(result.klog)
    marks, verdicts, begun, done = by_case(result.klog), {}, None, False
    path = os.path.join(result.share, "hostile")
    for line in open(path) if os.path.exists(path) else ():
        word = json.loads(line)
        done = done or "done" in word
        if "findings" in word:
            verdicts[word["case"]] = judge(word, marks.get(word["case"], {}), folder)
        elif "case" in word:
            begun = word["case"]
    if begun and begun not in verdicts:
        last = marks.get(begun, {})
        said = reports(last)
        verdicts[begun] = Verdict("died", f"{list(last)[-1] if last else '?'}: {result.reason}" +
                                  "".join(f"; {first} [{where}]" for _, first, where in said),
                                  folder)
    elif not begun or (done and unexplained(result, verdicts)):
        vm.report(result)
        if len(cases) > 1 and begun:
            return {}
        verdicts[cases[0].name] = Verdict("died" if begun else "none", result.reason, folder)
    return verdicts


def unexplained(result, verdicts):
    """The VM's end was bad, and no case's verdict tells why: leaks, no power-off."""
    return result.status and all(verdict.outcome == "survived" for verdict in verdicts.values())


def run_all(config, cases, quiet):
    """Verdicts of all; whoever breaks in company is tried once more, as the first."""
    verdicts, queue, alone = {}, list(cases), set()
    while queue:
        batch = [case for case in queue if case.memory == queue[0].memory and
                 case.name not in alone][:BATCH]
        if queue[0].name in alone:
            batch = queue[:1]
        got = boot(config, batch, quiet)
        if not got:
            alone.update(case.name for case in batch)
        for case in batch:
            verdict = got.get(case.name)
            if not verdict:
                continue
            if verdict.outcome != "survived" and case is not batch[0]:
                # Is it this case's fault, or that of those before it?
                queue.remove(case)
                queue.insert(0, case)
                verdicts[case.name] = verdict
                break
            before = verdicts.get(case.name)
            if before and verdict.outcome == "survived":
                verdict = Verdict("company", f"survives alone, but after others: {before.detail}",
                                  before.log)
            verdicts[case.name] = verdict
            queue.remove(case)
            note(f"hostile {case.name}: {verdict.outcome}: {verdict.detail}")
    return verdicts


def show(config, verdicts):
    folder = os.path.join(ROOT, "out", "mlx5-hostile")
    os.makedirs(folder, exist_ok=True)
    rows = ["\t".join((name, verdict.outcome, " ".join(verdict.detail.split())))
            for name, verdict in verdicts.items()]
    with open(os.path.join(folder, f"{config}.tsv"), "w") as file:
        file.writelines(f"{row}\n" for row in ["case\toutcome\tdetail", *rows])
    width = max(len(name) for name in verdicts)
    for name, verdict in verdicts.items():
        print(f"{name:{width}}  {verdict.outcome:8}  {verdict.detail}")
    tally = {}
    for verdict in verdicts.values():
        tally[verdict.outcome] = tally.get(verdict.outcome, 0) + 1
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(tally.items())))


def main():
    args = [arg for arg in sys.argv[1:] if arg != "--findings"]
    config = args[0] if args else "stock"
    vm.need(*vm.RDMA_PACKAGES)
    globs = (os.environ.get("T") or "*").split()
    cases = [case for name, case in hostile_cases.table().items()
             if any(fnmatch.fnmatch(name, glob) for glob in globs)]
    if not cases:
        sys.exit(f"hostile: no case is called '{' '.join(globs)}'")
    verdicts = run_all(config, cases, quiet=not os.environ.get("V"))
    show(config, {case.name: verdicts[case.name] for case in cases})
    good = (("none",) if "--findings" in sys.argv or config.startswith("stock") else
            tuple({verdict.outcome for verdict in verdicts.values()} - {"survived"}))
    sys.exit(1 if any(verdict.outcome in good for verdict in verdicts.values()) else 0)


if __name__ == "__main__":
    main()
