#!/usr/bin/env python3
"""A picture of a text, coloured by how far the gates of the Engram layers were open.

engram-generate --model DIR --read TEXT --gates gates.json; draw_gates.py gates.json OUT.svg [--from BYTE]

One panel a layer. A byte's colour is the gate at the position that predicts it: up to 0.5 is white,
1 is the darkest, on one scale for all panels. A dot is a line break.
"""
import argparse
import json
from xml.sax.saxutils import escape

COLUMNS, LINES, CELL, LINE, TOP = 90, 8, 8.4, 21, 44
COLOUR = (200, 70, 20)


def colour(gate):
    depth = max(0, 2 * gate - 1)
    return "#" + "".join(f"{round(255 + (channel - 255) * depth):02x}" for channel in COLOUR)


def panel(title, text, gates, top):
    parts = [f'<text x="10" y="{top + 24}" class="title">{escape(title)}</text>']
    for i, (byte, gate) in enumerate(zip(text, gates)):
        x, y = 10 + i % COLUMNS * CELL, top + TOP - 8 + i // COLUMNS * LINE
        parts.append(f'<rect x="{x:.1f}" y="{y}" width="{CELL}" height="{LINE - 2}" '
                     f'fill="{colour(gate)}"/>')
        character = chr(byte) if 0x20 < byte < 0x7f else "·" if byte == 0x0a else ""
        if character:
            parts.append(f'<text x="{x + CELL / 2:.1f}" y="{y + 14}">{escape(character)}</text>')
    return parts


def scale(top):
    parts = [f'<text x="10" y="{top + 14}" class="title">gate: 0.5</text>']
    for i in range(50):
        parts.append(f'<rect x="{80 + 3 * i}" y="{top}" width="3.2" height="18" '
                     f'fill="{colour(0.5 + i / 98)}"/>')
    return parts + [f'<text x="238" y="{top + 14}" class="title">1</text>']


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gates")
    parser.add_argument("out")
    parser.add_argument("--from", dest="begin", type=int, default=0, help="the first byte drawn")
    arguments = parser.parse_args()
    with open(arguments.gates, encoding="utf-8") as file:
        document = json.load(file)
    end = min(arguments.begin + COLUMNS * LINES, len(document["bytes"]))
    if not 0 <= arguments.begin < end:
        parser.error(f"--from {arguments.begin}: the text has {len(document['bytes'])} bytes")
    text = document["bytes"][arguments.begin:end]
    height = TOP + LINES * LINE
    parts = []
    for i, (layer, gates) in enumerate(document["gates"].items()):
        part = gates[arguments.begin:end]
        title = (f"layer {layer}: mean {sum(part) / len(part):.2f}, "
                 f"from {min(part):.2f} to {max(part):.2f}")
        parts += panel(title, text, part, i * height)
    total = len(document["gates"]) * height + 36
    parts += scale(total - 28)
    width = 20 + COLUMNS * CELL
    with open(arguments.out, "w", encoding="utf-8") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {total}" '
                   f'width="{width:.0f}" height="{total}">\n'
                   "<style>text{font:13px monospace;text-anchor:middle}"
                   ".title{font:14px sans-serif;text-anchor:start}</style>\n"
                   f'<rect width="{width:.0f}" height="{total}" fill="#ffffff"/>\n'
                   + "\n".join(parts) + "\n</svg>\n")


if __name__ == "__main__":
    main()
