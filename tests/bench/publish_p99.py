#!/usr/bin/env python3
"""What readers feel of a table that changes: their p99 alone, and while a delta of 1 % of the rows is
published at a pace, activated and retired, again and again.

publish_p99.py BUILD_DIR [--bucket-floor F] [--batch B] [--seconds S] [--rounds N] [--max-mb-s M,...]

One server, lookups of B rows back to back; rounds alone and beside each pace (0: none) take turns; medians.
Prints one JSON object.
"""
import json
import pathlib
import statistics
import tempfile
import threading

from bench_support import copy_changed, parse_arguments, run, serving, synth


def main():
    arguments = parse_arguments(__doc__, bucket_floor=160_000, batch=512, seconds=8.0, rounds=4, max_mb_s="0,20,10")
    build = arguments.build
    with tempfile.TemporaryDirectory(prefix="engram-publish-") as scratch:
        old, new = pathlib.Path(scratch) / "old", pathlib.Path(scratch) / "new"
        synth(build, old, arguments.bucket_floor)
        copy_changed(old, new)
        digests = [run(build, "engramctl", "digest", each)["digest"] for each in (old, new)]
        delta = pathlib.Path(scratch) / "delta"
        made = run(build, "engramctl", "delta", "--from", old, "--to", new, "--out", delta)
        with serving(build, "--checkpoint", old, "--data-dir", pathlib.Path(scratch) / "data") as server:
            servers = ["--servers", server["listen"]]

            def p99():
                return run(build, "engram-bench", "gather", *servers, "--layer", 1, "--batch", arguments.batch,
                           "--depth", 1, "--seconds", arguments.seconds, "--ids", "uniform")["p99_us"]

            def change(pace, over, count):
                while not over.is_set():
                    run(build, "engramctl", "publish", *servers, "--max-mb-s", pace, delta)
                    run(build, "engramctl", "activate", *servers, digests[1])
                    run(build, "engramctl", "activate", *servers, digests[0])
                    run(build, "engramctl", "retire", *servers, digests[1])
                    count.append(1)

            paces = {pace: {"changes": [], "p99_us": []} for pace in arguments.max_mb_s.split(",")}
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
        print(json.dumps({
            "rows": int(server["rows"]), "changed_rows": made["rows"], "batch": arguments.batch,
            "p99_us_alone": [round(each) for each in alone],
            "beside": {pace: {
                "changes": len(beside["changes"]),
                "p99_us": [round(each) for each in beside["p99_us"]],
                "ratio": round(statistics.median(beside["p99_us"]) / statistics.median(alone), 3)}
                for pace, beside in paces.items()}}))


if __name__ == "__main__":
    main()
