#!/usr/bin/env python3
"""What a lookup costs in Python beyond the C ABI: 64 tokens' rows (1,536), from one server.

python_overhead.py BUILD_DIR [--seconds S] [--rounds N] [--calls N]

Rounds of the C++ program and of Python take turns; medians. Then memory over --calls small lookups.
Prints one JSON object. Run it by /usr/bin/python3.
"""
import json
import pathlib
import statistics
import sys
import tempfile
import threading
import time

import numpy as np

from bench_support import parse_arguments, run, serving, synth

ROWS = 64 * 24


def resident_mb():
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


def python_rate(client, threads, seconds):
    layer = client.table.layers[0]
    layer_rows = client.layer(layer).rows
    end = time.monotonic() + seconds
    calls = [0] * threads

    def work(thread):
        ids = (np.arange(ROWS, dtype=np.int64) * 7919 + thread * 104729) % layer_rows
        out = np.empty((ROWS, client.table.row_bytes), np.uint8)
        while time.monotonic() < end:
            client.lookup_into(layer, ids, out)
            calls[thread] += 1

    running = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(calls) / seconds


def main():
    arguments = parse_arguments(__doc__, seconds=2.0, rounds=5, calls=1_000_000)
    sys.path.insert(0, str(arguments.build / "python"))
    import engram_client  # pylint: disable=import-outside-toplevel
    with tempfile.TemporaryDirectory() as scratch:
        table = pathlib.Path(scratch) / "table"
        synth(arguments.build, table, 2000)
        with serving(arguments.build, "--checkpoint", table, "--spin-us", "100000") as server:
            report = measure(arguments, server["listen"], engram_client)
    print(json.dumps(report))


def measure(arguments, address, engram_client):
    report = {"rows": ROWS}
    for threads in (1, 6):
        cxx, python = [], []
        for _ in range(arguments.rounds):
            done = run(arguments.build, "engram-abi-calls", address, ROWS, threads, arguments.seconds)
            cxx.append(done["calls_per_s"])
            with engram_client.Client([address], spin_us=100000, dedup=False) as client:
                python.append(python_rate(client, threads, arguments.seconds))
        fast, slow = statistics.median(cxx), statistics.median(python)
        report[f"threads_{threads}"] = {
            "cxx_calls_per_s": fast, "python_calls_per_s": slow, "python_over_cxx": slow / fast,
            "cxx_us": 1e6 * threads / fast, "python_us": 1e6 * threads / slow,
            "python_more_us": 1e6 * threads * (1 / slow - 1 / fast)}
    with engram_client.Client([address], spin_us=100000) as client:
        ids, out = np.arange(4), np.empty((4, client.table.row_bytes), np.uint8)
        layer = client.table.layers[0]
        for _ in range(10_000):
            client.lookup_into(layer, ids, out)
        before = resident_mb()
        for _ in range(arguments.calls):
            client.lookup_into(layer, ids, out)
        report["memory"] = {"calls": arguments.calls, "before_mb": before,
                            "after_mb": resident_mb()}
    return report


if __name__ == "__main__":
    main()
