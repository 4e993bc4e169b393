#!/usr/bin/env python3
"""Holds what `engramctl simulate` predicts of a small fleet against that fleet: 4 servers under CPU quotas, 8 clients.

simulate_check.py BUILD_DIR [--rounds N] [--seconds S]

In each round: measures what requests and rows cost, by lookups of two other sizes, gives that to `simulate` as flags,
and runs the same rates for real (`engram-bench steady`) and simulated. Prints one JSON object. Exit code 1 if the
median of the rounds is not within 15 % in throughput and in the saturation point (most lookups done a second), or 30 %
in p99 at the fixed rate; 77 where no CPU quota can be set (cgroup version 1, root).
"""
import argparse
import contextlib
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

SHARDS, REPLICAS, CLIENTS = 2, 2, 8
COLUMNS, ROW_BYTES = 24, 264
TOKENS = 200  # a lookup's: 4,800 rows
CALIBRATION_TOKENS = (100, 400)
QUOTA, PERIOD_MS = 0.05, 100  # of a server: cores; the kernel's default
DEPTH = 2  # lookups in flight of each client that keep all servers busy
CALIBRATION_LOAD = 0.6
CARRY_MS = 2  # of a quota, by the kernel: a millisecond on each of two CPUs
VARIATIONS = (0, 0.5, 1, 1.5, 2, 3, 4, 6)
FIXED_LOAD = 0.6  # of what the fleet is predicted to do, at which p99 is compared
SIMULATED_RUNS = 9  # of each rate, with other seeds; their median
SWEEP = (0.4, 0.6, 0.8, 1.0, 1.15, 1.3)
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
                    [self.bin / "engramd", "--checkpoint", table, "--threads", "1", "--listen", "127.0.0.1:0",
                     "--shard", f"{number // REPLICAS}/{SHARDS}"],
                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
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
        """CPU us of a part of a lookup, of servers that are always busy: each client with some lookups in flight."""
        command = [self.bin / "engram-bench", "gather", "--servers", ",".join(self.addresses),
                   "--batch", tokens * COLUMNS, "--depth", DEPTH, "--seconds", seconds, "--no-dedup"]
        clients = [subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
                   for _ in range(CLIENTS)]
        # Each names the servers' CPU for all clients, and its own bytes.
        per_gb = 1 / sum(1 / json.loads(client.communicate()[0])["server_cpu_s_per_gb"] for client in clients)
        return per_gb * 1e-3 * ROW_BYTES * tokens * COLUMNS / SHARDS

    def run(self, tokens, rate, seconds, seed):
        before = [cpu_seconds(server.pid) for server in self.servers]
        report = run_json(self.bin / "engram-bench", "steady", "--servers", ",".join(self.addresses), "--clients",
                          CLIENTS, "--rate", rate, "--batch", tokens * COLUMNS, "--seconds", seconds, "--seed", seed)
        used = sum(cpu_seconds(server.pid) for server in self.servers) - sum(before)
        sent = report["offered_per_s"] * (report["seconds"] + 1)  # a second of warm-up goes before
        return {**report, "server_cpu_us": used / sent * 1e6,
                "client_cpu_us": report["client_cpu_s"] / (report["offered_per_s"] * report["seconds"]) * 1e6}


def line_through(cost_us):
    """(request us, row ns) of a part: costs of two sizes, {tokens: us}."""
    small, large = CALIBRATION_TOKENS
    row_us = max(1e-6, (cost_us[large] - cost_us[small]) * SHARDS / ((large - small) * COLUMNS))
    return max(0.0, cost_us[small] - row_us * small * COLUMNS / SHARDS), row_us * 1e3


def calibrate(fleet, seconds, seed):
    """Flags of `simulate`, from lookups of two other sizes. Servers that are always busy: their request and row. At a
    rate that keeps them as busy as the fixed one: the clients', what it costs to wake a server, what is left of the
    median time, and how much answers must vary to give the p99 of these sizes."""
    busy_us, runs = {}, {}
    for tokens in CALIBRATION_TOKENS:
        busy_us[tokens] = fleet.saturate(tokens, seconds)
        rate = CALIBRATION_LOAD * REPLICAS * QUOTA / (busy_us[tokens] * 1e-6)
        runs[tokens] = fleet.run(tokens, rate, 2 * seconds, seed)
    request_us, row_ns = line_through(busy_us)
    client_us = {tokens: run["client_cpu_us"] / SHARDS for tokens, run in runs.items()}
    client_request_us, client_row_ns = line_through(client_us)
    wake_us = statistics.mean(run["server_cpu_us"] / SHARDS - busy_us[tokens] for tokens, run in runs.items())
    flags = {"--request-us": request_us, "--row-ns": row_ns, "--wake-us": max(0.0, wake_us),
             "--client-request-us": client_request_us, "--client-row-ns": client_row_ns, "--lookup-us": 0}
    small = CALIBRATION_TOKENS[0]
    alone = simulate(fleet, flags, small, runs[small]["offered_per_s"], QUOTA, 20, seed)
    flags["--lookup-us"] = max(0.0, runs[small]["p50_us"] - alone["lookups"]["p50_us"])

    def tail_off(variation):
        """How far p99 is off, over both sizes: by its logarithm."""
        varied = {**flags, "--service-variation": variation}
        return abs(sum(math.log(run["p99_us"] / simulate(fleet, varied, tokens, run["offered_per_s"], QUOTA, 20, seed)[
            "lookups"]["p99_us"]) for tokens, run in runs.items()))
    return {**flags, "--service-variation": min(VARIATIONS, key=tail_off)}


def simulate_all(fleet, flags, tokens, quota, seconds, seed, *rates):
    return run_json(fleet.bin / "engramctl", "simulate", "--json", "--like", "v41-flash", "--bucket-floor", 2000,
                    "--tokens", tokens, "--step-ms", 10, "--shards", SHARDS, "--replicas", REPLICAS,
                    "--workers", CLIENTS, "--arrivals", "poisson", "--nic-gbit", 1_000_000, "--rtt-us", 0,
                    "--cpu-quota", quota, "--quota-period-ms", PERIOD_MS, "--quota-carry-ms", CARRY_MS,
                    "--warm-up-s", 1, "--seconds", seconds, "--seed", seed, *rates,
                    *(part for item in flags.items() for part in item))


def simulate(fleet, flags, tokens, rate, quota, seconds, seed):
    return simulate_all(fleet, flags, tokens, quota, seconds, seed, "--rate", rate)["runs"][0]


def off(predicted, real):
    return predicted / real - 1


def figures(run):
    times = run.get("lookups", run)
    return {"done_per_s": run["done_per_s"], "p50_ms": times["p50_us"] * 1e-3, "p99_ms": times["p99_us"] * 1e-3}


def one_round(fleet, seconds, seed):
    """The same rates for real and simulated, with costs of the same minute."""
    flags = calibrate(fleet, seconds, seed)
    capacity = simulate_all(fleet, flags, TOKENS, QUOTA, 1, 1, "--load", 0.5)["capacity"]["lookups_per_s"]
    points = []
    for load in SWEEP:
        rate, length = load * capacity, 2 * seconds if load == FIXED_LOAD else seconds
        run = fleet.run(TOKENS, rate, length, seed)
        # As long as the real run: what is asked too much piles up for so long, and no longer.
        runs = [figures(simulate(fleet, flags, TOKENS, rate, QUOTA, length, each)) for each in range(SIMULATED_RUNS)]
        simulated = {name: statistics.median(each[name] for each in runs) for name in runs[0]}
        points.append({"load": load, "rate": rate, "real": figures(run), "simulated": simulated,
                       "busy_cores": (run["server_cpu_us"] + run["client_cpu_us"]) * run["offered_per_s"] * 1e-6})
        print(f"load {load:4}: {rate:5.0f}/s; real {figures(run)}; simulated {simulated}; {run['codes']}",
              file=sys.stderr)
    fixed = next(point for point in points if point["load"] == FIXED_LOAD)
    most = {who: max(point[who]["done_per_s"] for point in points) for who in ("real", "simulated")}

    def off(field):
        return fixed["simulated"][field] / fixed["real"][field] - 1
    return {"flags": flags, "capacity_per_s": capacity, "points": points, "saturation_per_s": most,
            "off": {"throughput": off("done_per_s"), "saturation": most["simulated"] / most["real"] - 1,
                    "p99": off("p99_ms")}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    args = parser.parse_args()
    with Fleet(args.build.resolve()) as fleet:
        fleet.set_quota(QUOTA)
        rounds = [one_round(fleet, args.seconds, seed) for seed in range(1, args.rounds + 1)]
    offs = {name: statistics.median(each["off"][name] for each in rounds) for name in BOUNDS}
    held = {name: abs(offs[name]) <= bound for name, bound in BOUNDS.items()}
    print(json.dumps({"off": offs, "held": held, "rounds": rounds}))
    sys.exit(0 if all(held.values()) else 1)


if __name__ == "__main__":
    main()
