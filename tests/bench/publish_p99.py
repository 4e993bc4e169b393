#!/usr/bin/env python3
"""What readers feel of a table that changes: their p99 alone, and while a delta of 1 % of the rows is
published at a pace, activated and retired, again and again.

publish_p99.py BUILD_DIR [--bucket-floor F] [--batch B] [--seconds S] [--rounds N] [--max-mb-s M,...]

One server, lookups of B rows back to back; rounds alone and beside each pace (0: none) take turns; medians.
Prints one JSON object.
"""
import argparse
import json
import pathlib
import random
import shutil
import statistics
import subprocess
import tempfile
import threading

ROW_BYTES, VALUES = 264, 256


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--bucket-floor", type=int, default=160_000)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--max-mb-s", type=lambda text: text.split(","), default=["0", "20", "10"])
    arguments = parser.parse_args()

    def run(name, *args):
        command = [arguments.build / "bin" / name, *map(str, args)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    with tempfile.TemporaryDirectory(prefix="engram-publish-") as scratch:
        old, new = pathlib.Path(scratch) / "old", pathlib.Path(scratch) / "new"
        run("engramctl", "synth", "--out", old, "--like", "v41-flash", "--bucket-floor",
            arguments.bucket_floor)
        shutil.copytree(old, new)
        (new / "engram.sidecar").unlink(missing_ok=True)
        generator = random.Random(1)
        for table in new.glob("*.safetensors"):
            with open(table, "r+b") as file:  # a byte in every hundredth row of values
                size = table.stat().st_size
                for at in range(size // 20, size // 20 * 19, 100 * VALUES):
                    place = at + generator.randrange(VALUES)
                    file.seek(place)
                    byte = file.read(1)[0]
                    file.seek(place)
                    file.write(bytes([byte ^ 1]))
        digests = [json.loads(run("engramctl", "digest", each))["digest"] for each in (old, new)]
        delta = pathlib.Path(scratch) / "delta"
        made = json.loads(run("engramctl", "delta", "--from", old, "--to", new, "--out", delta))
        server = subprocess.Popen(
            [arguments.build / "bin" / "engramd", "--checkpoint", old, "--listen", "127.0.0.1:0",
             "--threads", "1", "--data-dir", pathlib.Path(scratch) / "data"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            fields = dict(field.split("=", 1) for field in server.stdout.readline().split()[1:])
            servers = ["--servers", fields["listen"]]

            def p99():
                return json.loads(run(
                    "engram-bench", "gather", *servers, "--layer", 1, "--batch", arguments.batch,
                    "--depth", 1, "--seconds", arguments.seconds, "--ids", "uniform"))["p99_us"]

            def change(pace, over, count):
                while not over.is_set():
                    run("engramctl", "publish", *servers, "--max-mb-s", pace, delta)
                    run("engramctl", "activate", *servers, digests[1])
                    run("engramctl", "activate", *servers, digests[0])
                    run("engramctl", "retire", *servers, digests[1])
                    count.append(1)

            paces = {pace: {"changes": [], "p99_us": []} for pace in arguments.max_mb_s}
            alone = []
            p99()
            for _ in range(arguments.rounds):
                alone.append(p99())
                for pace, beside in paces.items():
                    over = threading.Event()
                    changing = threading.Thread(target=change, args=(pace, over, beside["changes"]))
                    changing.start()
                    beside["p99_us"].append(p99())
                    over.set()
                    changing.join()
        finally:
            server.terminate()
            server.wait()
        print(json.dumps({
            "rows": int(fields["rows"]), "changed_rows": made["rows"], "batch": arguments.batch,
            "p99_us_alone": [round(each) for each in alone],
            "beside": {pace: {
                "changes": len(beside["changes"]),
                "p99_us": [round(each) for each in beside["p99_us"]],
                "ratio": round(statistics.median(beside["p99_us"]) / statistics.median(alone), 3)}
                for pace, beside in paces.items()}}))


if __name__ == "__main__":
    main()
