#!/usr/bin/env python3
"""What a server's generations cost in instructions: lookups of a table alone, of the same table beside a published
generation of which 1 % of the rows changed, and of that generation.

generation_cost.py BUILD_DIR [--bucket-floor F] [--batch B] [--lookups N]

A server under callgrind answers N lookups of B uniform rows, and once more 3 N: the difference is theirs alone, of the
serving thread. Every row is compared. Prints one JSON object: instructions a row; *_ratio over the table alone.
"""
import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import numpy

LAYER = 1
VALUES = 256


def change_rows(table):
    """One byte in every hundredth row of values, as they lie in the files."""
    for path in table.glob("*.safetensors"):
        with open(path, "r+b") as file:
            size = path.stat().st_size
            for at in range(size // 20, size // 20 * 19, 100 * VALUES):
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ 1]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--bucket-floor", type=int, default=5_000)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--lookups", type=int, default=20)
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.build / "python"))
    import engram_client  # pylint: disable=import-outside-toplevel

    def run(name, *args):
        command = [arguments.build / "bin" / name, *map(str, args)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout or "null")

    with tempfile.TemporaryDirectory(prefix="engram-generation-cost-") as scratch:
        scratch = pathlib.Path(scratch)
        old, new = scratch / "old", scratch / "new"
        run("engramctl", "synth", "--out", old, "--like", "v41-flash", "--bucket-floor", arguments.bucket_floor)
        shutil.copytree(old, new)
        (new / "engram.sidecar").unlink(missing_ok=True)
        change_rows(new)
        digests = [run("engramctl", "digest", each)["digest"] for each in (old, new)]
        made = run("engramctl", "delta", "--from", old, "--to", new, "--out", scratch / "delta")

        def serve(*flags, under=()):
            server = subprocess.Popen(
                [*under, arguments.build / "bin" / "engramd", "--listen", "127.0.0.1:0", "--threads", "1", *flags],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            return server, server.stdout.readline().split("listen=")[1].split()[0]

        def look_up(address, digest, lookups, expected):
            random = numpy.random.default_rng(1)
            with engram_client.Client([address], expect_digest=digest, dedup=False, cache_bytes=0) as client:
                rows = client.layer(LAYER).rows
                for _ in range(lookups):
                    ids = random.integers(rows, size=arguments.batch)
                    found = client.lookup(LAYER, ids, timeout=120)
                    if expected is not None and not numpy.array_equal(found, expected(ids)):
                        raise SystemExit("error: rows are not the table's")

        def instructions(digest, lookups, flags, expected):
            out = scratch / "callgrind.out"
            server, address = serve(*flags, under=(
                "valgrind", "--tool=callgrind", "--toggle-collect=engram::Worker::Run()",
                f"--callgrind-out-file={out}"))
            look_up(address, digest, lookups, expected)
            server.terminate()
            server.wait()
            return int(re.search(r"^(?:totals|summary): (\d+)", out.read_text(), re.M)[1])

        def rows_of(table):
            server, address = serve("--checkpoint", table)
            with engram_client.Client([address]) as client:
                rows = client.lookup(LAYER, numpy.arange(client.layer(LAYER).rows))
            server.terminate()
            server.wait()
            return lambda ids: rows[ids]

        held = scratch / "data"
        server, address = serve("--checkpoint", old, "--data-dir", held)
        run("engramctl", "publish", "--servers", address, scratch / "delta")
        server.terminate()
        server.wait()
        variants = {"alone": (digests[0], (), rows_of(old)), "old": (digests[0], ("--data-dir", held), rows_of(old)),
                    "new": (digests[1], ("--data-dir", held), rows_of(new))}
        per_row = {}
        for name, (digest, flags, expected) in variants.items():
            few, many = (instructions(digest, lookups, ("--checkpoint", old, *flags), expected)
                         for lookups in (arguments.lookups, 3 * arguments.lookups))
            per_row[name] = (many - few) / (2 * arguments.lookups * arguments.batch)
        print(json.dumps({"changed_rows": made["rows"], **{name: round(each, 2) for name, each in per_row.items()},
                          **{f"{name}_ratio": round(per_row[name] / per_row["alone"], 4) for name in ("old", "new")}}))


if __name__ == "__main__":
    main()
