#!/usr/bin/python3
"""The output of `engram-bench scale` as a picture.

    tests/bench/plots/plot_scale.py SCALE.json OUT.svg

Needs Debian's python3-matplotlib.
"""
import json
import pathlib
import sys

import matplotlib
matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "engram", "font.size": 9})
import matplotlib.pyplot as plt


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: plot_scale.py SCALE.json OUT.svg")
    report = json.loads(pathlib.Path(sys.argv[1]).read_text())
    sizes = report["sizes"]
    rows = [size["rows"] for size in sizes]

    def draw(axes, values, label, **style):
        axes.plot(rows, [values(size) for size in sizes], marker="o", markersize=3, label=label,
                  **style)

    figure, (row, lookup) = plt.subplots(1, 2, figsize=(10, 5), layout="constrained")
    draw(row, lambda s: s["pages_4k"]["chase_ns"], "a read alone, 4 KiB pages", color="C3", ls=":")
    draw(row, lambda s: s["pages_2m"]["chase_ns"], "a read alone, 2 MiB pages", color="C2", ls=":")
    draw(row, lambda s: 1e9 / s["remote"]["rows_per_s"], "servers, four lookups in flight", color="C1")
    draw(row, lambda s: 1e9 / s["pages_4k"]["gather"]["rows_per_s"], "bare gather, 4 KiB pages",
         color="C3")
    draw(row, lambda s: 1e9 / s["pages_2m"]["gather"]["rows_per_s"], "bare gather, 2 MiB pages",
         color="C2")
    draw(row, lambda s: 1e9 / s["local"]["rows_per_s"], "store in process", color="C0")
    row.set(xscale="log", yscale="log", xlabel=f"rows of {report['row_bytes']} bytes",
            ylabel="ns a row", title="One row")
    for place, name, colour in (("remote", "server", "C1"), ("local", "store in process", "C0")):
        draw(lookup, lambda s, p=place: s[p]["p99_us"], f"{name}, p99", color=colour, ls="--")
        draw(lookup, lambda s, p=place: s[p]["p50_us"], f"{name}, p50", color=colour)
    lookup.set(xscale="log", yscale="log", xlabel=f"rows of {report['row_bytes']} bytes", ylabel="us",
               title=f"A lookup of {report['batch']:,} rows, one at a time")
    for axes in (row, lookup):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    figure.savefig(sys.argv[2], metadata={"Date": None})


if __name__ == "__main__":
    main()
