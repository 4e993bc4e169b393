#!/usr/bin/python3
"""The pictures of deploy/SIZING.md, simulated anew: deterministic, so that they change only with the model.

    tests/bench/plots/plot_simulation.py BUILD_DIR OUT_DIR

Needs Debian's python3-matplotlib.
"""
import json
import pathlib
import subprocess
import sys

import matplotlib
matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "engram", "font.size": 9})
import matplotlib.pyplot as plt

FLEET = ("--like", "v41-flash", "--shards", 8, "--replicas", 2, "--workers", 256, "--arrivals", "poisson", "--seed", 1)
# Of one answer's CPU time: what a server does beside, its kernel, its neighbours.
VARIATION = ("--service-variation", 3)


def simulate(build, *args):
    command = [build / "bin/engramctl", "simulate", "--json", *args]
    return json.loads(subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE).stdout)


def save(figure, path):
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def plot_load(build, path):
    loads = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95]
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for share, label in ((0, "without second requests"), (0.05, "with at most 5 %")):
        runs = simulate(build, *FLEET, *VARIATION, "--load", ",".join(map(str, loads)), "--seconds", 1, "--hedge-share",
                        share)["runs"]
        axes.plot(loads, [run["lookups"]["p99_us"] * 1e-3 for run in runs], marker="o", label=f"p99, {label}")
        axes.plot(loads, [run["lookups"]["p999_us"] * 1e-3 for run in runs], marker=".", linestyle="--",
                  label=f"p99.9, {label}", color=axes.lines[-1].get_color())
    axes.set(xlabel="load: share of what the servers can do", ylabel="ms a lookup", yscale="log",
             title="8 shards x 2 replicas, 256 workers, lookups of 1,536 rows")
    axes.legend()
    save(figure, path)


def plot_lost(build, path):
    figure, (above, below) = plt.subplots(2, 1, figsize=(6, 4.6), layout="constrained", sharex=True)
    for label, args in (("machine, second requests", ("--lose-at-s", 0.5)),
                        ("machine, none", ("--lose-at-s", 0.5, "--hedge-share", 0)),
                        ("process", ("--lose-at-s", 0.5, "--lose-how", "closed"))):
        report = simulate(build, *FLEET, *args, "--load", 0.4, "--seconds", 2, "--slice-ms", 50, "--timeout-ms", 500)
        run = report["runs"][0]
        times = [each["at_s"] for each in run["timeline"]]
        above.plot(times, [each["p99_us"] * 1e-3 for each in run["timeline"]], label=label)
        below.plot(times, [each["failed"] for each in run["timeline"]], label=label)
    above.set(ylabel="p99, ms", yscale="log", title="One of 16 servers is lost at 0.5 s, load 0.4")
    below.set(xlabel="s", ylabel="failed lookups in 50 ms")
    above.legend()
    save(figure, path)


def plot_incast(build, path):
    shards = [1, 2, 4, 8, 12, 16, 24, 32, 48, 64]
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for gbit in (25, 100):
        runs = [simulate(build, "--like", "v41-flash", "--shards", each, "--replicas", 1, "--workers", 32,
                         "--seconds", 0.3, "--nic-gbit", gbit) for each in shards]
        axes.plot(shards, [run["runs"][0]["incast"]["p99_us"] for run in runs], marker="o",
                  label=f"p99 of the wait, {gbit} Gbit/s")
        axes.plot(shards, [run["runs"][0]["incast"]["max_bytes"] / 1024 for run in runs], marker=".", linestyle="--",
                  color=axes.lines[-1].get_color(), label=f"most KiB that waited, {gbit} Gbit/s")
    axes.set(xlabel="shards (servers that a lookup asks)", ylabel="us, KiB", xscale="log", ylim=(0, None),
             title="At a worker's link: 32 workers, decode-64-12ms, both layers at once")
    axes.set_xticks(shards, shards)
    axes.minorticks_off()
    axes.legend()
    save(figure, path)


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: plot_simulation.py BUILD_DIR OUT_DIR")
    build, out = map(pathlib.Path, sys.argv[1:])
    plot_load(build, out / "sizing-load.svg")
    plot_lost(build, out / "sizing-lost.svg")
    plot_incast(build, out / "sizing-incast.svg")


if __name__ == "__main__":
    main()
