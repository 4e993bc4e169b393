#!/usr/bin/env python3
"""Holds what `engramctl simulate` predicts of a small fleet against that fleet: 4 servers under CPU quotas, 8 clients.

simulate_check.py BUILD_DIR [--rounds N] [--seconds S]

Measures what requests and rows cost here without quotas, gives that to `simulate` as flags, and runs the same rates for
real (`engram-bench steady`) and simulated. Prints one JSON object. Exit code 1 if the median of the runs is not within
15 % in throughput and in the saturation point (most lookups done a second), or 30 % in p99 at the fixed rate; 77 where no
CPU quota can be set (cgroup version 1, root).
"""
import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

SHARDS, REPLICAS, CLIENTS = 2, 2, 8
COLUMNS, ROW_BYTES = 24, 264
TOKENS = 200  # a lookup's: 4,800 rows
CALIBRATION_TOKENS = (40, 400)
QUOTA, PERIOD_MS = 0.05, 100  # of a server: cores; the kernel's default
DEPTH = 16  # lookups in flight that keep all servers busy
FIXED_LOAD = 0.8  # of what the fleet is predicted to do, at which p99 is compared
SWEEP = (0.4, 0.6, 0.8, 1.0, 1.2)
BOUNDS = {"throughput": 0.15, "saturation": 0.15, "p99": 0.30}
CGROUP = pathlib.Path("/sys/fs/cgroup/cpu")


def run_json(*command):
    done = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


def cpu_seconds(pid):
    """That all threads of a process have run, to the nanosecond (schedstat), unlike /proc/PID/stat."""
    tasks = pathlib.Path(f"/proc/{pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) * 1e-9


class Fleet:
    """In `with`: the servers, each in a cgroup of its own without a quota."""

    def __init__(self, build):
        self.bin, self.servers, self._groups = build / "bin", [], []

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            scratch = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="engram-simulate-check-")))
            table = scratch / "table"
            for args in (("synth", "--out", table, "--like", "v41-flash", "--bucket-floor", 2000), ("digest", table)):
                subprocess.run([self.bin / "engramctl", *map(str, args)], check=True, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
            for number in range(SHARDS * REPLICAS):
                group = CGROUP / f"engram-simulate-{os.getpid()}-{number}"
                try:
                    group.mkdir()
                    stack.callback(group.rmdir)
                    (group / "cpu.cfs_period_us").write_text(str(PERIOD_MS * 1000))
                except OSError as error:
                    print(f"skipped: no CPU quota can be set: {error}", file=sys.stderr)
                    sys.exit(77)
                server = subprocess.Popen(
                    [self.bin / "engramd", "--checkpoint", table, "--threads", "1", "--listen", "127.0.0.1:0", "--shard",
                     f"{number // REPLICAS}/{SHARDS}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
                stack.callback(self._stop, server)
                (group / "cgroup.procs").write_text(str(server.pid))
                self.servers.append(server)
                self._groups.append(group)
            self.addresses = [server.stdout.readline().split("listen=")[1].split()[0] for server in self.servers]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    @staticmethod
    def _stop(server):
        (CGROUP / "cgroup.procs").write_text(str(server.pid))
        server.kill()
        server.wait()

    def set_quota(self, cores):
        for group in self._groups:
            (group / "cpu.cfs_quota_us").write_text(str(round(cores * PERIOD_MS * 1000)) if cores else "-1")

    def saturate(self, tokens, seconds):
        return run_json(self.bin / "engram-bench", "gather", "--servers", ",".join(self.addresses), "--batch",
                        tokens * COLUMNS, "--depth", DEPTH, "--seconds", seconds, "--no-dedup")

    def run(self, tokens, rate, seconds, seed):
        before = [cpu_seconds(server.pid) for server in self.servers]
        report = run_json(self.bin / "engram-bench", "steady", "--servers", ",".join(self.addresses), "--clients",
                          CLIENTS, "--rate", rate, "--batch", tokens * COLUMNS, "--seconds", seconds, "--seed", seed)
        used = sum(cpu_seconds(server.pid) for server in self.servers) - sum(before)
        sent = report["offered_per_s"] * (report["seconds"] + 1)  # a second of warm-up goes before
        return {**report, "server_cpu_us": used / sent * 1e6,
                "client_cpu_us": report["client_cpu_s"] / (report["offered_per_s"] * report["seconds"]) * 1e6}


def per_part(tokens, run, side):
    """CPU us of a part of a lookup, of a run of gather."""
    return run[f"{side}_cpu_s_per_gb"] * 1e-9 * ROW_BYTES * tokens * COLUMNS / SHARDS * 1e6


def calibrate(fleet, seconds, rounds):
    """Flags of `simulate`, of lookups of two other sizes: what a request and a row cost servers that are never idle, under
    their quotas; without quotas, at a rate, what they cost clients, what it costs to wake a server, and what is left of
    the median time."""
    small, large = CALIBRATION_TOKENS
    flags = {}
    fleet.set_quota(QUOTA)
    busy = {tokens: statistics.median(per_part(tokens, fleet.saturate(tokens, seconds), "server") for _ in range(rounds))
            for tokens in CALIBRATION_TOKENS}
    fleet.set_quota(None)
    rows = {tokens: tokens * COLUMNS / SHARDS for tokens in CALIBRATION_TOKENS}
    row_us = (busy[large] - busy[small]) / (rows[large] - rows[small])
    request_us = max(0.0, busy[small] - rows[small] * row_us)
    rate = FIXED_LOAD * SHARDS * REPLICAS * QUOTA / (SHARDS * (request_us + TOKENS * COLUMNS / SHARDS * row_us) * 1e-6)
    seen = {tokens: [fleet.run(tokens, rate, seconds, seed) for seed in range(1, rounds + 1)]
            for tokens in CALIBRATION_TOKENS}

    def median(tokens, field):
        return statistics.median(run[field] for run in seen[tokens])
    client = {tokens: median(tokens, "client_cpu_us") / SHARDS for tokens in CALIBRATION_TOKENS}
    client_row_us = (client[large] - client[small]) / (rows[large] - rows[small])
    flags = {"--request-us": request_us, "--row-ns": row_us * 1e3,
             "--wake-us": max(0.0, median(small, "server_cpu_us") / SHARDS - busy[small]),
             "--client-request-us": max(0.0, client[small] - rows[small] * client_row_us),
             "--client-row-ns": client_row_us * 1e3, "--lookup-us": 0}
    alone = simulate(fleet, flags, small, rate, 0, seconds, 1)
    flags["--lookup-us"] = max(0.0, median(small, "p50_us") - alone["lookups"]["p50_us"])
    return flags, {tokens: [run["p99_us"] for run in runs] for tokens, runs in seen.items()}


def simulate_all(fleet, flags, tokens, quota, seconds, seed, *rates):
    return run_json(fleet.bin / "engramctl", "simulate", "--json", "--like", "v41-flash", "--bucket-floor", 2000,
                    "--tokens", tokens, "--step-ms", 10, "--shards", SHARDS, "--replicas", REPLICAS, "--workers", CLIENTS,
                    "--arrivals", "poisson", "--nic-gbit", 1_000_000, "--rtt-us", 0, "--cpu-quota", quota,
                    "--quota-period-ms", PERIOD_MS, "--warm-up-s", 1, "--seconds", seconds, "--seed", seed, *rates,
                    *(part for item in flags.items() for part in item))


def simulate(fleet, flags, tokens, rate, quota, seconds, seed):
    return simulate_all(fleet, flags, tokens, quota, seconds, seed, "--rate", rate)["runs"][0]


def off(predicted, real):
    return predicted / real - 1


def compare(fleet, flags, seconds, rounds):
    capacity = simulate_all(fleet, flags, TOKENS, QUOTA, 1, 1, "--load", 0.5)["capacity"]["lookups_per_s"]
    fleet.set_quota(QUOTA)
    points = []
    for load in SWEEP:
        rate = load * capacity
        real = [fleet.run(TOKENS, rate, seconds, seed) for seed in range(1, rounds + 1)]
        sim = [simulate(fleet, flags, TOKENS, rate, QUOTA, seconds, seed) for seed in range(1, rounds + 1)]
        point = {"load": load, "rate": rate}
        for name, field in (("done_per_s", lambda run: run["done_per_s"]),
                            ("p50_ms", lambda run: run.get("lookups", run)["p50_us"] * 1e-3),
                            ("p99_ms", lambda run: run.get("lookups", run)["p99_us"] * 1e-3)):
            point[name] = {"real": statistics.median(map(field, real)), "simulated": statistics.median(map(field, sim)),
                           "real_runs": [field(run) for run in real]}
        point["busy_cores"] = statistics.median((run["server_cpu_us"] + run["client_cpu_us"]) * run["done_per_s"] * 1e-6
                                                for run in real)
        points.append(point)
        print(f"load {load:4}: {rate:6.0f}/s, done {point['done_per_s']['real']:6.0f} real {point['done_per_s']['simulated']:6.0f}"
              f" simulated; p50 {point['p50_ms']['real']:7.2f} {point['p50_ms']['simulated']:7.2f}; p99 {point['p99_ms']['real']:7.2f}"
              f" {point['p99_ms']['simulated']:7.2f} ms; {point['busy_cores']:.2f} cores busy; codes {real[0]['codes']}",
              file=sys.stderr)
    return capacity, points


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    args = parser.parse_args()
    with Fleet(args.build.resolve()) as fleet:
        flags, tails = calibrate(fleet, args.seconds / 2, args.rounds)
        print(json.dumps({"flags": flags, "p99_us without quota": tails}), file=sys.stderr)
        capacity, points = compare(fleet, flags, args.seconds, args.rounds)
    fixed = next(point for point in points if point["load"] == FIXED_LOAD)
    most = {who: max(point["done_per_s"][who] for point in points) for who in ("real", "simulated")}
    offs = {"throughput": off(fixed["done_per_s"]["simulated"], fixed["done_per_s"]["real"]),
            "saturation": off(most["simulated"], most["real"]),
            "p99": off(fixed["p99_ms"]["simulated"], fixed["p99_ms"]["real"])}
    held = {name: abs(offs[name]) <= bound for name, bound in BOUNDS.items()}
    print(json.dumps({"flags": flags, "capacity_per_s": capacity, "saturation_per_s": most, "off": offs, "held": held,
                      "points": points}))
    sys.exit(0 if all(held.values()) else 1)


if __name__ == "__main__":
    main()
