#!/usr/bin/env python3
"""What end-to-end checksums cost: the same lookups of one server with none and with all of them checked, in turns.

checksum_cost.py BUILD_DIR [--bucket-floor F] [--batch B] [--depth D] [--seconds S] [--rounds N]

Medians of the rounds. Prints one JSON object; *_ratio is checked over unchecked.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

FIGURES = ("rows_per_s", "p50_us", "client_cpu_s_per_gb", "server_cpu_s_per_gb")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--bucket-floor", type=int, default=40_000)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()

    def run(name, *args):
        command = [arguments.build / "bin" / name, *map(str, args)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    shares = {"unchecked": 0, "checked": 1}
    figures = {name: [] for name in shares}
    with tempfile.TemporaryDirectory(prefix="engram-checksum-cost-") as scratch:
        table = pathlib.Path(scratch) / "table"
        run("engramctl", "synth", "--out", table, "--like", "v41-flash", "--bucket-floor", arguments.bucket_floor)
        with subprocess.Popen([arguments.build / "bin/engramd", "--checkpoint", table, "--listen", "127.0.0.1:0",
                               "--threads", "1"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
            try:
                address = server.stdout.readline().split("listen=")[1].split()[0]
                for _ in range(arguments.rounds):
                    for name, rounds in figures.items():
                        rounds.append(json.loads(run(
                            "engram-bench", "gather", "--servers", address, "--batch", arguments.batch, "--depth",
                            arguments.depth, "--seconds", arguments.seconds, "--server-pids", server.pid, "--no-dedup",
                            "--verify-share", shares[name])))
            finally:
                server.terminate()
    median = {name: {key: statistics.median(each[key] for each in rounds) for key in FIGURES}
              for name, rounds in figures.items()}
    ratios = {f"{key}_ratio": round(median["checked"][key] / median["unchecked"][key], 3) for key in FIGURES}
    print(json.dumps({**median, **ratios}))


if __name__ == "__main__":
    main()
