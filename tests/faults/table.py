#!/usr/bin/env python3
"""Writes the tables of README.md anew from what the families' scripts have recorded (--record).

table.py FILE...: of several records of one fault the last counts. Faults without one keep no line.
"""
import argparse
import json
import pathlib
import re

README = pathlib.Path(__file__).with_name("README.md")
HEADS = {
    "lookups": ["fault", "how it was caused", "times", "lookups", "failed", "wrong rows",
                "p99 before / during / within 2 s after / later, ms", "longest, ms", "lost", "held"],
    "flips": ["fault", "what was flipped", "bits", "refused", "taken anew", "rows failed", "unread", "where those are",
              "wrong rows", "held"],
    "words": ["fault", "how it was caused", "what clients saw", "rows compared", "wrong", "held"],
}


def milliseconds(value):
    return "-" if value != value else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def lookups_line(record):
    p99, failed = record["p99"], f"{record['failed']:,}"
    if record["codes"]:
        failed += f" ({', '.join(f'{count:,} {code}' for code, count in record['codes'].items())})"
    lost = record["lost"]
    if record["failed"]:
        lost = f"those lookups; the last ended {record['failed_until']:.1f} s after the fault"
    return [record["fault"], record["cause"], str(record["times"]), f"{record['lookups']:,}", failed,
            str(record["wrong"]), " / ".join(milliseconds(p99[part]) for part in
                                             ("before", "during", "settling", "after")),
            milliseconds(record["worst"]), lost or "nothing"]


def words_line(record):
    return [record["fault"], record["cause"], record["saw"], f"{record['checked'] * 4096:,}", str(record["wrong"])]


def flips_line(record):
    return [record["fault"], record["cause"], f"{record['flips']:,}", *(f"{count:,}" for count in record["outcomes"].values()),
            record["where_unread"] or "-", str(record["wrong"])]


def kind_of(record):
    return "flips" if "flips" in record else "words" if "saw" in record else "lookups"


def table(records):
    """Of one family; one for each kind of line that its faults have."""
    parts = []
    for kind, line in (("lookups", lookups_line), ("words", words_line), ("flips", flips_line)):
        lines = [[*line(record), "yes" if record["ok"] else "**no**"] for record in records if kind_of(record) == kind]
        if lines:
            rows = [HEADS[kind], ["---"] * len(HEADS[kind]), *lines]
            parts.append("\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows))
    seeds = sorted({(record["seed"], record["long"]) for record in records})
    said = ", ".join(f"`--seed {seed}{' --long' if long else ''}`" for seed, long in seeds)
    return "\n\n".join(parts) + f"\n\nRecorded with {said}."


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", nargs="+", type=pathlib.Path)
    latest = {}
    for path in parser.parse_args().records:
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            latest[record["family"], record["fault"]] = record
    text = README.read_text(encoding="utf-8")
    for family in dict(latest):
        records = [record for (of, _), record in latest.items() if of == family[0]]
        begin, end = f"<!-- {family[0]} -->", f"<!-- end of {family[0]} -->"
        text = re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n{table(records)}\n{end}", text, flags=re.S)
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
