# SPDX-License-Identifier: GPL-2.0
"""What both halves of the benchmark share: the sides, how a boot's results come
back, and the table of them."""
import json
import os

from lib.common import fail, note, ROOT
from machine import vm

OUT = os.path.join(ROOT, "out", "bench")
SIDES = {"stock": "stock-bench", "ours": "bench"}
# One vCPU or several that take turns: the guest's clock counts instructions.
COUNTING = ["-icount", "shift=0,sleep=off"]


def results(name, result):
    """{name: value} of what the guest left in the share."""
    if result.status or result.reason:
        with open(result.output, errors="replace") as file:
            note(*(line.rstrip() for line in file.readlines()[-15:]))
        vm.report(result)
        fail(f"{name}: nothing measured")
    with open(os.path.join(result.share, "results")) as file:
        return {key: float(value) for key, value in map(str.split, file)}


def differing(side, boot, runs):
    """A remark on which values a second boot has not confirmed; [] without one."""
    if len(runs) < 2:
        return []
    differ = [name for name, value in runs[0].items() if runs[1].get(name) != value]
    return [f"{side}, {boot}: {len(differ)} of {len(runs[0])} values differ in a second boot"
            f"{': ' if differ else ''}{' '.join(differ)}"]


def judge(table, data):
    """The table, as dictionaries."""
    found = []
    for item in table:
        stock, ours = item.value(data["stock"]), item.value(data["ours"])
        limit = item.target(data["stock"]) if item.target else None
        met = None
        if limit is not None:
            met = ours is not None and (ours >= limit if item.least else ours <= limit)
        found.append({"group": item.group, "what": item.what, "unit": item.unit, "stock": stock,
                      "ours": ours, "ratio": ours / stock if ours and stock else None,
                      "target": item.says, "limit": limit, "met": met, "missing": item.missing})
    return found


def number(value, missing):
    if value is None:
        return missing
    if value >= 1e6:
        return f"{value / 1e6:,.2f} M"
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"


def render(found, remarks, names=("stock", "ours")):
    head = (f"{'':62} {'unit':12} {names[0]:>9} {names[1]:>9} {names[1] + '/' + names[0]:>10}"
            f"  {'target':22} met?")
    lines, group = [], None
    for item in found:
        if item["group"] != group:
            group = item["group"]
            lines += ["", group, head]
        ratio = f"{item['ratio']:.2f}" if item["ratio"] else "-"
        met = {None: "", True: "yes", False: "NOT MET"}[item["met"]]
        stock, ours = (number(item[side], item["missing"]) for side in ("stock", "ours"))
        lines.append(f"{item['what']:62} {item['unit']:12} {stock:>9} {ours:>9} {ratio:>10}  "
                     f"{item['target']:22} {met}".rstrip())
    judged = [item["met"] for item in found if item["met"] is not None]
    lines += ["", *remarks,
              f"{judged.count(True)} targets met, {judged.count(False)} not met"]
    return "\n".join(lines) + "\n"


def save(folder, data, found, remarks, text=None, names=("stock", "ours")):
    """table.txt, results.json and results.tsv; returns the table: TEXT, or the usual one."""
    text = text or render(found, remarks, names)
    with open(os.path.join(folder, "table.txt"), "w") as file:
        file.write(text)
    with open(os.path.join(folder, "results.json"), "w") as file:
        json.dump({"rows": found, "remarks": remarks, "values": data}, file, indent=1)
    with open(os.path.join(folder, "results.tsv"), "w") as file:
        columns = ["group", "what", "unit", "stock", "ours", "ratio", "target", "met"]
        columns += ["cpus"] if "cpus" in found[0] else []
        file.write("\t".join(columns) + "\n")
        for item in found:
            file.write("\t".join("" if item[name] is None else str(item[name]).strip()
                                 for name in columns) + "\n")
    return text
