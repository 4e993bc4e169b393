#!/usr/bin/python3
"""The steps of deploy/model/taught_live.py as a picture.

    deploy/model/taught_live.py --steps-out STEPS.json | tail -n 1 > FIGURES.json
    tests/bench/plots/plot_taught.py STEPS.json FIGURES.json OUT.svg

Needs Debian's python3-matplotlib.
"""
import json
import math
import pathlib
import sys

import matplotlib
matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "engram", "font.size": 9})
import matplotlib.pyplot as plt


def main():
    if len(sys.argv) != 4:
        sys.exit("usage: plot_taught.py STEPS.json FIGURES.json OUT.svg")
    steps = [json.loads(line) for line in pathlib.Path(sys.argv[1]).read_text().splitlines()]
    figures = json.loads(pathlib.Path(sys.argv[2]).read_text())
    figure, axes = plt.subplots(figsize=(9, 3.2), layout="constrained")
    for table, nats, colour in (("kjv", "nats_before", "C0"), ("taught", "nats_after", "C1")):
        own = [step for step in steps if step["table"] == table]
        mean = math.exp(figures[nats])
        axes.plot([step["step"] for step in own], [step["perplexity"] for step in own], ".",
                  color=colour, markersize=4, label=f"rows of {table}, {mean:.2f} over all windows")
        axes.hlines(mean, own[0]["step"], own[-1]["step"], color=colour, lw=1)
    for name, ls in (("published", ":"), ("activated", "--"), ("retired", ":")):
        axes.axvline(figures[name], color="0.5", lw=0.8, ls=ls)
        axes.text(figures[name], 1.02, name, transform=axes.get_xaxis_transform(), ha="center",
                  color="0.4")
    axes.set(yscale="log", xlabel="step: a window of 256 bytes of text that neither table was trained on",
             ylabel="perplexity, a byte")
    axes.set_yticks([4, 8, 16, 32], ["4", "8", "16", "32"])
    axes.minorticks_off()
    axes.legend(fontsize=8)
    figure.savefig(sys.argv[3], metadata={"Date": None})


if __name__ == "__main__":
    main()
