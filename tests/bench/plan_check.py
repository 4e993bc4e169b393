#!/usr/bin/env python3
"""Holds the steps that `engramctl plan` predicts against those that `engram-bench overlap` measures here, now.

plan_check.py BUILD_DIR [--shapes A,B] [--rounds N] [--seconds S]

Measures what requests, rows and a lookup cost by the commands of deploy/SIZING.md, gives them to `plan` as flags, runs
`overlap`, and prints one JSON object. Exit code 1 if a step is more than 25 % off, or what waiting for rows fetched as
needed costs is, for the shapes that are held to it. Two cores.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

BOUND = 0.25
SHAPES = ("decode-64-12ms", "prefill-8192", "verify-64x6-12ms", "decode-16-sm100", "decode-64-48ms")
HELD = ("decode-64-12ms", "prefill-8192")  # also to the cost of waiting
CALIBRATED_BY = "decode-1-sm100"  # its stall gives what any lookup takes
ROW_BYTES = 264
ROOT = pathlib.Path(__file__).resolve().parents[2]  # of the project, whose data the benchmark takes by default


def run_json(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(map(str, command))} ended with {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def per_request_and_row(small, large):
    """(us a request, ns a row) of CPU seconds a GB at two sizes: {rows: s/GB}."""
    (n, s), (m, t) = small, large
    small_s, large_s = (rows * ROW_BYTES * 1e-9 * per_gb for rows, per_gb in ((n, s), (m, t)))
    row_s = (large_s - small_s) / (m - n)
    return max(0.0, (small_s - n * row_s) * 1e6), row_s * 1e9


def calibrate(build, rounds, seconds):
    """Flags of `plan`, without --lookup-us."""
    with tempfile.TemporaryDirectory(prefix="engram-plan-check-") as scratch:
        table = pathlib.Path(scratch) / "table"
        for args in (("synth", "--out", table, "--like", "v41-flash", "--bucket-floor", 40_000), ("digest", table)):
            subprocess.run([build / "engramctl", *map(str, args)], check=True, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
        server = subprocess.Popen(
            ["taskset", "-c", "0", build / "engramd", "--checkpoint", table, "--threads", "1", "--spin-us", "1000",
             "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            address = server.stdout.readline().split("listen=")[1].split()[0]
            seen = {16: [], 16384: []}
            for _ in range(rounds):
                for batch, runs in seen.items():
                    runs.append(run_json("taskset", "-c", "1", build / "engram-bench", "gather", "--servers", address,
                                         "--batch", batch, "--depth", 4, "--seconds", seconds, "--spin-us", 1000,
                                         "--server-pids", server.pid))
        finally:
            server.terminate()
            server.wait()
    flags = {}
    for side, prefix in (("server", "--"), ("client", "--client-")):
        medians = [(batch, statistics.median(run[f"{side}_cpu_s_per_gb"] for run in runs))
                   for batch, runs in seen.items()]
        request_us, row_ns = per_request_and_row(*medians)
        flags |= {f"{prefix}request-us": request_us, f"{prefix}row-ns": row_ns}
    return flags


def plan(build, shape, flags):
    """On one server next door, as `overlap` has it: no wire but the kernel's."""
    return run_json(build / "engramctl", "plan", "--json", "--like", "v41-flash", "--bucket-floor", 80_000, "--shards",
                    1, "--replicas", 1, "--gpu-nodes", 1, "--nic-gbit", 1_000_000, "--rtt-us", 0, "--max-utilisation",
                    0.99, "--shape", shape, *(part for item in flags.items() for part in item))


def compare(build, measured, flags):
    rows = []
    for shape in measured["shapes"]:
        planned = plan(build, shape["shape"], flags)
        for variant in ("needed", "ahead"):
            step, bare = shape["step_ms"][variant], shape["step_ms"]["none"]
            predicted = planned[variant]
            row = {"shape": shape["shape"], "variant": variant,
                   "step_ms": step, "predicted_step_ms": predicted["step_ms"],
                   "cost_ms": step - bare, "predicted_cost_ms": predicted["cost_ms"],
                   "foreign_share": shape["foreign_share"]}
            row["step_off"] = predicted["step_ms"] / step - 1
            row["cost_off"] = predicted["cost_ms"] / row["cost_ms"] - 1 if row["cost_ms"] > 0 else None
            held_to_cost = variant == "needed" and shape["shape"] in HELD
            row["held"] = abs(row["step_off"]) <= BOUND and (
                not held_to_cost or (row["cost_off"] is not None and abs(row["cost_off"]) <= BOUND))
            rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1)
    args = parser.parse_args()
    build = args.build.resolve() / "bin"
    flags = calibrate(build, args.rounds, args.seconds)
    measured = run_json(build / "engram-bench", "overlap", "--shapes", f"{CALIBRATED_BY},{args.shapes}")
    first = measured["shapes"].pop(0)
    stall_us = statistics.mean(first["needed"]["stall_us_p50"].values())
    rows = first["rows_per_step"] / len(first["needed"]["stall_us_p50"])
    flags["--lookup-us"] = max(0.0, stall_us - sum(flags[f"--{side}request-us"] + rows * flags[f"--{side}row-ns"] * 1e-3
                                                   for side in ("", "client-")))
    result = compare(build, measured, flags)
    print(json.dumps({"flags": {name: round(value, 2) for name, value in flags.items()}, "shapes": result}))
    for row in result:
        off = "-" if row["cost_off"] is None else f"{100 * row['cost_off']:+.0f} %"
        print(f"{row['shape']:18} {row['variant']:7} step {row['predicted_step_ms']:8.3f} / {row['step_ms']:8.3f} ms "
              f"({100 * row['step_off']:+.1f} %), cost {row['predicted_cost_ms']:7.3f} / {row['cost_ms']:7.3f} ms "
              f"({off})"
              f"{'' if row['held'] else '  NOT HELD'}", file=sys.stderr)
    sys.exit(0 if all(row["held"] for row in result) else 1)


if __name__ == "__main__":
    main()
