#!/usr/bin/env python3
"""What end-to-end checksums cost: the same lookups of one server with none and with all of them checked, in turns.

checksum_cost.py BUILD_DIR [--bucket-floor F] [--batch B] [--depth D] [--seconds S] [--rounds N]

Medians of the rounds. Prints one JSON object; *_ratio is checked over unchecked.
"""
import json
import pathlib
import statistics
import tempfile

from bench_support import parse_arguments, run, serving, synth

FIGURES = ("rows_per_s", "p50_us", "client_cpu_s_per_gb", "server_cpu_s_per_gb")


def main():
    arguments = parse_arguments(__doc__, bucket_floor=40_000, batch=4096, depth=4, seconds=2.0, rounds=7)
    build = arguments.build
    shares = {"unchecked": 0, "checked": 1}
    figures = {name: [] for name in shares}
    with tempfile.TemporaryDirectory(prefix="engram-checksum-cost-") as scratch:
        table = pathlib.Path(scratch) / "table"
        synth(build, table, arguments.bucket_floor)
        with serving(build, "--checkpoint", table) as server:
            for _ in range(arguments.rounds):
                for name, rounds in figures.items():
                    rounds.append(run(
                        build, "engram-bench", "gather", "--servers", server["listen"], "--batch", arguments.batch,
                        "--depth", arguments.depth, "--seconds", arguments.seconds, "--server-pids", server["pid"],
                        "--no-dedup", "--verify-share", shares[name]))
    median = {name: {key: statistics.median(each[key] for each in rounds) for key in FIGURES}
              for name, rounds in figures.items()}
    ratios = {f"{key}_ratio": round(median["checked"][key] / median["unchecked"][key], 3) for key in FIGURES}
    print(json.dumps({**median, **ratios}))


if __name__ == "__main__":
    main()
