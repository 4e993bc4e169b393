#!/usr/bin/env python3
"""What a server's generations cost in instructions: lookups of a table alone, of the same table beside a published
generation of which 1 % of the rows changed, and of that generation.

generation_cost.py BUILD_DIR [--bucket-floor F] [--batch B] [--lookups N]

A server under callgrind answers N lookups of B uniform rows, and once more 3 N: the difference is theirs alone, of the
serving thread. Every row is compared. Prints one JSON object: instructions a row; *_ratio over the table alone.
"""
import json
import pathlib
import re
import sys
import tempfile

import numpy

from bench_support import copy_changed, parse_arguments, run, serving, synth

LAYER = 1


def main():
    arguments = parse_arguments(__doc__, bucket_floor=5_000, batch=4096, lookups=20)
    build = arguments.build
    sys.path.insert(0, str(build / "python"))
    import engram_client  # pylint: disable=import-outside-toplevel

    with tempfile.TemporaryDirectory(prefix="engram-generation-cost-") as scratch:
        scratch = pathlib.Path(scratch)
        old, new = scratch / "old", scratch / "new"
        synth(build, old, arguments.bucket_floor)
        copy_changed(old, new)
        digests = [run(build, "engramctl", "digest", each)["digest"] for each in (old, new)]
        made = run(build, "engramctl", "delta", "--from", old, "--to", new, "--out", scratch / "delta")

        def look_up(address, digest, lookups, expected):
            random = numpy.random.default_rng(1)
            with engram_client.Client([address], expect_digest=digest, dedup=False, cache_bytes=0) as client:
                rows = client.layer(LAYER).rows
                for _ in range(lookups):
                    ids = random.integers(rows, size=arguments.batch)
                    found = client.lookup(LAYER, ids, timeout=120)
                    if not numpy.array_equal(found, expected(ids)):
                        raise SystemExit("error: rows are not the table's")

        def instructions(digest, lookups, flags, expected):
            out = scratch / "callgrind.out"
            callgrind = ("valgrind", "--tool=callgrind", "--toggle-collect=engram::Worker::Run()",
                         f"--callgrind-out-file={out}")
            with serving(build, *flags, under=callgrind) as server:
                look_up(server["listen"], digest, lookups, expected)
            return int(re.search(r"^(?:totals|summary): (\d+)", out.read_text(), re.M)[1])

        def rows_of(table):
            with serving(build, "--checkpoint", table) as server, engram_client.Client([server["listen"]]) as client:
                rows = client.lookup(LAYER, numpy.arange(client.layer(LAYER).rows))
            return lambda ids: rows[ids]

        held = scratch / "data"
        with serving(build, "--checkpoint", old, "--data-dir", held) as server:
            run(build, "engramctl", "publish", "--servers", server["listen"], scratch / "delta")
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
