# SPDX-License-Identifier: GPL-2.0
"""T=phases: where the instructions of a page fault go, stock's and ours.

A plugin of QEMU (profile/plugin.c) counts the instructions of each function while the
guest takes minor faults, one at a time, and then writes that take none. The difference
is the price of a fault, by function and by phase.
"""
import concurrent.futures
import glob
import os
import re
import subprocess
import time

from bench import odp, report
from bench.coherence import function, symbols
from kernels import modules
from lib.common import fail, note
from machine import vm

HERE = os.path.dirname(os.path.realpath(__file__))
OUT = os.path.join(report.OUT, "phases")
ROWS = ("fault", "warm")
TOP = 25
# The first that matches a function's name is its phase.
PHASES = (
    ("the answer: a command", r"mlx5_cmd|cmd_|mlx5_core_|dma_pool|mlx5_.*_cmd|odp_resume|mlx5_odp_answer"),
    ("interrupts and event queues", r"mlx5_eq|mlx5_irq|irq|apic|notifier_call|mlx5_ib_event|msi|"
                                    r"odp_interrupt|odp_drain|mlx5_cq_comp|mlx5_ib_cq_comp|idle|hlt"),
    ("sleeping, waking, work items", r"sched|wake|pick_|enqueue|dequeue|ttwu|switch|update_|place_entity|"
                                     r"work|pwq|pool|wait|complet|swake|timer|hrtimer|jiffies|ktime|"
                                     r"tick|clock|rcu|reweight|select_task|vruntime|cpu_"),
    ("the UMR and its completion", r"umr|mlx5_ib_poll|poll_cq|ib_poll|mlx5_wq|post_send|mlx5r_|get_cqe|"
                                   r"begin_wqe|finish_wqe"),
    ("the umem", r"ib_umem|odp_chunk|chunk_|fault_|ib_odp|mem_cgroup|memcg|mmput|mmget|obj_cgroup"),
    ("page tables", r"hmm|walk_|pmd|pte|vma|mas_|mtree|mmu_|mmap_|handle_mm|pfn"),
    ("the driver's fault", r"odp_|mlx5_odp|mlx5_ib|xa_|xas_"),
    ("DMA mapping and buffers", r"dma_|swiotlb|iommu|kmalloc|kfree|kmem|slab|alloc|free|page|mempool|memset|memcpy"),
)


def build_plugin():
    source = vm.tool("machine/qemu", "-s")
    plugin = os.path.join(OUT, "profile.so")
    if subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-fvisibility=hidden", "-Wall", "-Wextra",
                       "-Werror", f"-I{source}/include/qemu", "-o", plugin,
                       os.path.join(HERE, "profile", "plugin.c"),
                       os.path.join(HERE, "coherence", "insn.c")]).returncode:
        fail("dev/bench/profile does not compile")
    return plugin


def functions(path, table, writes):
    """[{function: instructions a write}] of the rows."""
    found = [{} for _ in ROWS]
    with open(path) as file:
        for row, address, count in map(str.split, file):
            address = int(address, 16)
            name = function(table, address).partition("+")[0] if address >> 63 else "(the program)"
            rows = found[int(row)]
            rows[name] = rows.get(name, 0) + int(count) / writes
    return found


def boot(side, program, plugin):
    config = report.SIDES[side]
    image = vm.image(config)
    path = os.path.join(OUT, f"blocks-{side}")
    opts = {"name": f"bench-phases-{side}", "dev": "mlx5", "mem": "2G", "quiet": True, "smp": 1,
            "append": odp.APPEND,
            "qemu_args": [*report.COUNTING, "-plugin", f"file={plugin},out={path}"]}
    values = report.results(f"{side}, phases",
                            vm.boot(image, odp.script(program, ["phases"]), opts,
                                    "tcg,thread=single"))
    table = symbols(os.path.join(modules.kernel_folder(config), "vmlinux"))
    fault, warm = functions(path, table, values["phases.fault"])
    return {name: fault.get(name, 0) - warm.get(name, 0) for name in {*fault, *warm}}


def phase(name):
    return next((title for title, pattern in PHASES if re.search(pattern, name)), "everything else")


def render(sides):
    lines = [f"{'instructions of a minor fault, by phase':58} {'stock':>8} {'ours':>8}"]
    sums = {side: {} for side in sides}
    for side, names in sides.items():
        for name, count in names.items():
            sums[side][phase(name)] = sums[side].get(phase(name), 0) + count
    for title in [title for title, _ in PHASES] + ["everything else"]:
        lines.append(f"  {title:56} " + " ".join(f"{sums[side].get(title, 0):8,.0f}" for side in sides))
    lines.append(f"  {'in all':56} " + " ".join(f"{sum(names.values()):8,.0f}" for names in sides.values()))
    for side, names in sides.items():
        lines += ["", f"{side}: the {TOP} most expensive functions"]
        for name, count in sorted(names.items(), key=lambda item: -item[1])[:TOP]:
            lines.append(f"  {count:8,.0f}  {name}  ({phase(name)})")
    return "\n".join(lines) + "\n"


def run():
    start = time.monotonic()
    os.makedirs(OUT, exist_ok=True)
    program, plugin = odp.build(), build_plugin()
    for config in report.SIDES.values():
        vm.image(config)
    vm.qemu_binary({"dev": "mlx5"})
    with concurrent.futures.ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        jobs = {side: pool.submit(boot, side, program, plugin) for side in report.SIDES}
        sides = {side: job.result() for side, job in jobs.items()}
    text = render(sides)
    with open(os.path.join(OUT, "table.txt"), "w") as file:
        file.write(text)
    with open(os.path.join(OUT, "functions.tsv"), "w") as file:
        for side, names in sides.items():
            for name, count in sorted(names.items(), key=lambda item: -item[1]):
                file.write(f"{side}\t{phase(name)}\t{name}\t{count:.2f}\n")
    print(text, end="", flush=True)
    note(f"{time.monotonic() - start:.0f} s; all functions: {OUT}/functions.tsv")
