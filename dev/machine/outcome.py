# SPDX-License-Identifier: GPL-2.0
"""What a program of dev/run left: sums over its regions, and reports for CI systems."""
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import xml.etree.ElementTree as xml

from lib.common import note
from machine.program import TOOLS

RELEASED = re.compile(r"ib_odp_release: .* length=(\d+)(.*) faults=(\d+) invalidations=(\d+) "
                      r"prefetched=(\d+)$", re.M)
# The length of an implicit region.
ALL_MEMORY = (1 << 64) - 1
COUNTERS = ("page_faults", "page_invalidations", "page_prefetch")


def samples(path):
    """What the guest wrote: regions, those of them that are paged, regions again, and so on;
    each by device and number."""
    if not os.path.exists(path):
        return
    with open(path) as file:
        for line in filter(str.strip, file):
            try:
                yield {(one.get("ifname"), one.get("mrn")): one for one in json.loads(line)}
            except ValueError:      # the last one, cut off
                return


def regions(path):
    """({region: what was seen of it last} of those that are paged, the same of the pinned).
    One that is there before and after, and is not paged between, is pinned."""
    paged, pinned, before, between = {}, {}, {}, {}
    for nr, found in enumerate(samples(path)):
        if nr % 2:
            between = {name: one for name, one in found.items() if "page_faults" in one}
            for name, one in between.items():
                paged.setdefault(name, {}).update(one)
        else:
            pinned.update({name: one for name, one in found.items()
                           if name in before and name not in between and "pid" in one})
            for name in found.keys() & paged.keys():
                paged[name].update(found[name])
            before = found
    return paged, pinned


def released(path):
    """Paged regions, from the events of their ends, as regions() has them."""
    if not os.path.exists(path):
        return []
    with open(path, errors="replace") as file:
        ends = RELEASED.findall(file.read())
    return [{"mrlen": ALL_MEMORY if "implicit" in rights else int(length),
             **dict(zip(COUNTERS, map(int, counts)))} for length, rights, *counts in ends]


def summary(seen, ended):
    """Sums over all regions; over those that were seen, where no ends were recorded."""
    paged, pinned = (list(found.values()) for found in seen)
    paged = ended or paged

    def total(of, name):
        return sum(one.get(name, 0) for one in of)

    implicit = [one for one in paged if one.get("mrlen") == ALL_MEMORY]
    explicit = [one for one in paged if one not in implicit]
    return {"paged_regions": len(explicit), "paged_bytes": total(explicit, "mrlen"),
            "implicit_regions": len(implicit),
            "pinned_regions": len(pinned), "pinned_bytes": total(pinned, "mrlen"),
            **{name: total(paged, name) for name in COUNTERS}}


def write_junit(path, name, result):
    suite = xml.Element("testsuite", name="dev/run", tests="1", failures=str(int(bool(result.status))))
    case = xml.SubElement(suite, "testcase", name=name, time=f"{result.seconds:.1f}")
    if result.status:
        xml.SubElement(case, "failure", message=result.reason or f"status {result.status}")
    xml.ElementTree(suite).write(path, encoding="unicode", xml_declaration=True)


def waits(path):
    """How long faults took, and how many failed."""
    if not os.path.exists(path):
        return {}
    session = runpy.run_path(f"{TOOLS}/odptop", run_name="odptop")["read"](path)
    took = sorted(ns // 1000 for _, ns in session.points)
    at = {"median": 0.5, "99th": 0.99, "worst": 1}
    return {"failed_faults": sum(one.failed for one in session.regions.values()),
            **{f"{name}_fault_us": took[min(int(len(took) * part), len(took) - 1)] if took else 0
               for name, part in at.items()}}


def of_node(args, result):
    """What it left, in words and numbers."""
    seen, events = (os.path.join(result.share, name) for name in ("counters", "events"))
    if args.trace and os.path.exists(events):
        subprocess.run([f"{TOOLS}/odptop", "draw", events], check=False)
    sums = {**summary(regions(seen), released(events)), **waits(events)} if args.counters else {}
    if args.counters:
        note(", ".join(f"{value} {name.replace('_', ' ')}" for name, value in sums.items()))
    return {"status": result.status, "reason": result.reason,
            "seconds": round(result.seconds, 1), **sums}


def save(result, folder):
    shutil.copytree(result.share, folder, dirs_exist_ok=True)
    for log in (result.klog, result.output):
        shutil.copy(log, folder)


def keep(args, results):
    """Write down what was asked for, and return the status of all."""
    found = []
    for nr, result in enumerate(results):
        if args.nodes > 1 and (args.trace or args.counters):
            note(f"node{nr}:")
        found.append(of_node(args, result))
        if args.results:
            save(result, os.path.join(args.results, f"node{nr}" if args.nodes > 1 else ""))
    first = next((result for result in results if result.status), results[0])
    if args.json:
        with open(args.json, "w") as file:
            json.dump({**found[results.index(first)], **({"nodes": found} if args.nodes > 1 else {})},
                      file, indent=1)
    if args.junit:
        write_junit(args.junit, " -- ".join(map(shlex.join, args.commands)) or "shell", first)
    return first.status
