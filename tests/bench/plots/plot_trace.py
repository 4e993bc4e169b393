#!/usr/bin/python3
"""The results of trace_sweep.sh as one picture.

    tests/bench/plots/plot_trace.py RESULTS OUT.svg

Needs Debian's python3-matplotlib, which nothing else of the project does.
"""
import json
import pathlib
import sys

import matplotlib
matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "engram", "font.size": 9})
import matplotlib.pyplot as plt


def shares(report, variant, field):
    """Of the first layer's n-grams, by order."""
    orders = report["text"][variant]["orders"]
    layer = orders[0]["layer"]
    return {order["order"]: order[field] for order in orders if order["layer"] == layer}


def wire(report, variant):
    return report["text"][variant]["wire_share"]


def load(results, prefix):
    found = {path.stem.removeprefix(prefix): json.loads(path.read_text())
             for path in results.glob(f"{prefix}*.json")}
    if not found:
        sys.exit(f"error: {results} holds no {prefix}*.json")
    return found


def plot_chunks(axes, results):
    reports = sorted((int(name), report) for name, report in load(results, "chunk-").items())
    chunks = [chunk for chunk, _ in reports]
    for order in (2, 3, 4):
        axes.plot(chunks, [shares(report, "dedup", "duplicates")[order] for _, report in reports],
                  marker="o", label=f"order {order}")
    axes.set(xscale="log", xlabel="tokens a lookup", ylabel="n-grams repeated within it",
             title="Dedup by size of lookup", ylim=(0, None))
    axes.legend()


def caches(results):
    report = load(results, "caches")[""]
    sizes = sorted(int(name.removeprefix("dedup_cache_").removesuffix("mb"))
                   for name in report["text"] if name.startswith("dedup_cache_"))
    return report, sizes, [f"dedup_cache_{size}mb" for size in sizes]


def plot_wire(axes, results):
    report, sizes, variants = caches(results)
    axes.plot(sizes, [wire(report, variant) for variant in variants], marker="o",
              label="dedup and cache")
    axes.axhline(wire(report, "dedup"), color="C1", label="dedup alone")
    axes.axhline(1, color="C2", label="every row")
    axes.set(xscale="log", xlabel="cache, MB over both layers", ylabel="bytes on the wire / asked for",
             title="What travels", ylim=(0, 1.05))
    axes.legend()


def plot_hits(axes, results):
    report, sizes, variants = caches(results)
    for order in (2, 3, 4):
        axes.plot(sizes, [shares(report, variant, "cached")[order] for variant in variants],
                  marker="o", label=f"order {order}")
    axes.set(xscale="log", xlabel="cache, MB over both layers", ylabel="n-grams that hit, of all",
             title="Hits beside dedup, by order", ylim=(0, None))
    axes.legend()


def plot_kinds(axes, results):
    reports = sorted(load(results, "kind-").items())
    for offset, (variant, label) in enumerate([("dedup", "dedup alone"),
                                               ("dedup_cache_512mb", "and a cache of 512 MB")]):
        axes.bar([i + 0.4 * offset - 0.2 for i in range(len(reports))],
                 [wire(report, variant) for _, report in reports], width=0.4, label=label)
    axes.set_xticks(range(len(reports)), [name.replace("-", "\n") for name, _ in reports])
    axes.set(ylabel="bytes on the wire / asked for", title="By kind of text (80,000 tokens seen before)",
             ylim=(0, 1.05))
    axes.legend()


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: plot_trace.py RESULTS OUT.svg")
    results = pathlib.Path(sys.argv[1])
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    plot_chunks(axes[0][0], results)
    plot_wire(axes[0][1], results)
    plot_hits(axes[1][0], results)
    plot_kinds(axes[1][1], results)
    figure.savefig(sys.argv[2], metadata={"Date": None})


if __name__ == "__main__":
    main()
