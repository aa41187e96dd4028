# SPDX-License-Identifier: GPL-2.0
"""Plots of what grows: with the number of subscribers, of VMAs, and of CPUs, and with
the length of a region."""
import math
import os
import statistics
import subprocess

from bench.coherence_rows import CPUS, PLOTS
from bench.odp_rows import LENGTHS
from bench.rows import rounds
from lib.common import fail

SUBSCRIBERS = [10 ** power for power in range(6)]

HEAD = """
set terminal pngcairo noenhanced size 1100,700 font 'sans,13' background '#ffffff'
set output '{name}.png'
set datafile separator tab
set key {key} width 2
set grid lt 1 lw 1 lc rgb '#c8c8c8'
set border 3
set tics nomirror
set logscale x
set format x '%.0s%c'
set yrange [0:*]
set title '{title}'
set xlabel '{xlabel}'
set ylabel '{ylabel}'
stock = '#c0392b'
ours = '#1f618d'
"""


def gnuplot(folder, name, columns, lines, script, plot):
    """Write NAME.tsv and NAME.gp, and make NAME.png of them."""
    with open(os.path.join(folder, f"{name}.tsv"), "w") as file:
        file.write("\t".join(columns) + "\n")
        for line in lines:
            file.write("\t".join(f"{value:g}" for value in line) + "\n")
    with open(os.path.join(folder, f"{name}.gp"), "w") as file:
        file.write(script + "plot " + ", \\\n     ".join(plot) + "\n")
    if subprocess.run(["gnuplot", f"{name}.gp"], cwd=folder).returncode:
        fail(f"gnuplot could not draw {name}")
    return f"{name}.png"


def curves(name, what, nr_before):
    """A line of stock and one of ours for each of WHAT, in the order of columns."""
    marks = (7, 5, 9, 13)
    plot = []
    for i, text in enumerate(what):
        for j, side in enumerate(("stock", "ours")):
            plot.append(f"'{name}.tsv' using 1:{nr_before + 1 + 2 * i + j} skip 1 with linespoints "
                        f"lw 2 pt {marks[i]} dt {i + 1} lc rgb {side} title '{side}: {text}'")
    return plot


def draw_costs(folder, data, name, title, names, key):
    lines = []
    for number in SUBSCRIBERS:
        line = [number]
        for short in names:
            line += [data[side]["cost"][f"{short}.{number}"] for side in ("stock", "ours")]
        lines.append(line)
    columns = ["subscribers"] + [f"{side}_{short}" for short in names for side in ("stock", "ours")]
    script = HEAD.format(name=name, key=key, title=title, xlabel="interval notifiers of the mm",
                         ylabel="guest instructions")
    return gnuplot(folder, name, columns, lines, script, curves(name, names.values(), 1))


def draw_vmas(folder, data, numbers):
    lines = [[number] + [data[side]["cost"][f"register.anon.{number}"] / number
                         for side in ("stock", "ours")] for number in numbers]
    name = "vmas"
    script = HEAD.format(name=name, key="left bottom", xlabel="touched VMAs, an anon_vma each",
                         title="Registering the first list notifier of an mm",
                         ylabel="guest instructions per VMA")
    return gnuplot(folder, name, ["vmas", "stock", "ours"], lines, script,
                   curves(name, ["register"], 1))


def draw_lengths(folder, data, name, title, ylabel, value):
    """VALUE(a side's results, GiB): nan where there is none."""
    lines = [[length] + [value(data[side], length) for side in ("stock", "ours")]
             for length in LENGTHS]
    script = HEAD.format(name=name, key="left top", title=title, ylabel=ylabel,
                         xlabel="GiB registered, untouched")
    script += "set logscale y\nset yrange [*:*]\nset format y '%.0s%c'\n"
    return gnuplot(folder, name, ["gib", "stock", "ours"], lines, script,
                   curves(name, ["registration"], 1))


def draw_registration(folder, data):
    def nanoseconds(side, length):
        return statistics.median(rounds(side["one"], f"reg.ns.{length}") or [math.nan])

    def memory(side, length):
        return side["one"].get(f"reg.bytes.{length}", math.nan)

    return [draw_lengths(folder, data, "registration", "Registering memory for paging",
                         "guest instructions and ns of waiting", nanoseconds),
            draw_lengths(folder, data, "memory", "What the kernel keeps of a region",
                         "bytes", memory)]


def draw_coherence(folder, data):
    """Transfers of an operation against the number of CPUs."""
    drawn = []
    for name, (title, operations) in PLOTS.items():
        lines = [[cpus] + [data[side][str(cpus)][f"{operation}.transfers"]
                           for operation in operations for side in ("stock", "ours")]
                 for cpus in CPUS]
        columns = ["cpus"] + [f"{side}_{operation}" for operation in operations
                              for side in ("stock", "ours")]
        script = HEAD.format(name=name, key="outside right top", title=title,
                             xlabel="CPUs that take turns",
                             ylabel="cache-line transfers an operation")
        script += (f"set logscale x 2\nset xtics ({', '.join(map(str, CPUS))})\n"
                   f"set xrange [{CPUS[0] * 0.9}:{CPUS[-1] * 1.1}]\n")
        texts = [operation.replace("_", " ").replace(".", ", ") for operation in operations]
        drawn.append(gnuplot(folder, name, columns, lines, script, curves(name, texts, 1)))
    return drawn


def draw(folder, data, numbers):
    return [
        draw_costs(folder, data, "invalidate", "start+end of a range, by number of subscribers",
                   {"miss": "miss, any place", "hit": "one hit, any place"}, "left top"),
        draw_costs(folder, data, "change", "insert and remove on an armed mm, 1 possible CPU",
                   {"insert": "insert into a gap", "remove": "remove from a gap"}, "left top"),
        draw_vmas(folder, data, numbers),
    ]
