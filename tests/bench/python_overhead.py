#!/usr/bin/env python3
"""What a lookup costs in Python beyond the C ABI: 64 tokens' rows (1,536), from one server.

python_overhead.py BUILD_DIR [--seconds S] [--rounds N] [--calls N]

Rounds of the C++ program and of Python take turns; medians. Then memory over --calls small lookups.
Prints one JSON object. Run it by /usr/bin/python3.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROWS = 64 * 24


def resident_mb():
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


def python_rate(client, threads, seconds):
    import numpy as np
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
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=1_000_000)
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.build / "python"))
    import engram_client
    import numpy as np
    bin_dir = arguments.build / "bin"
    with tempfile.TemporaryDirectory() as scratch:
        table = pathlib.Path(scratch) / "table"
        subprocess.run([bin_dir / "engramctl", "synth", "--out", table, "--like", "v41-flash",
                        "--bucket-floor", "2000"], check=True, stdout=subprocess.DEVNULL)
        with subprocess.Popen([bin_dir / "engramd", "--checkpoint", table, "--threads", "1",
                               "--listen", "127.0.0.1:0", "--spin-us", "100000"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True) as server:
            try:
                address = dict(field.split("=", 1) for field in
                               server.stdout.readline().split()[1:])["listen"]
                report = measure(arguments, bin_dir, address, engram_client, np)
            finally:
                server.terminate()
    print(json.dumps(report))


def measure(arguments, bin_dir, address, engram_client, np):
    report = {"rows": ROWS}
    for threads in (1, 6):
        cxx, python = [], []
        for _ in range(arguments.rounds):
            done = subprocess.run([bin_dir / "engram-abi-calls", address, str(ROWS), str(threads),
                                   str(arguments.seconds)], check=True, capture_output=True)
            cxx.append(json.loads(done.stdout)["calls_per_s"])
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
