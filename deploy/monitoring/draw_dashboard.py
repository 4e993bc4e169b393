#!/usr/bin/env python3
"""A picture of a dashboard, drawn from its JSON and what a real fleet's Prometheus has. Not Grafana.

draw_dashboard.py BUILD_DIR OUT.svg [--dashboard FILE]

Starts deploy/local's fleet for a minute and a half: it is healthy, a replica is killed and started again,
then comes more work. Draws each panel where the JSON puts it, with its title, unit and legend.
"""
import argparse
import json
import math
import pathlib
import re
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from xml.sax.saxutils import escape

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "local"))
import fleet as local  # noqa: E402

SECONDS, KILLED, STARTED, BUSY = 90, 30, 45, 65
CELL, LINE = (50, 26)  # pixels of a column, and of a line, of Grafana's grid of 24 columns
LEFT, TOP, LEGEND = 66, 26, 34
COLORS = ("#3274d9", "#e0b400", "#37872d", "#c4162a", "#8f3bb8", "#ff780a", "#1f9e9e", "#7c6f64")
PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""), (1e-3, "m"), (1e-6, "u"))


def text_of(value, unit):
    """A value on an axis, with what it is of."""
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if value == 0:
        return "0"
    scale, prefix = next(((s, p) for s, p in PREFIXES if abs(value) >= s), PREFIXES[-1])
    if unit not in ("s", "Bps", "bytes") and abs(value) < 1:  # Nobody speaks of milli-lookups.
        scale, prefix = 1, ""
    return f"{value / scale:.3g}" + {"s": f" {prefix}s", "Bps": f" {prefix}B/s", "bytes": f" {prefix}B",
                                     "ops": f"{prefix}/s", "reqps": f"{prefix}/s"}.get(unit, prefix)


def query_range(url, expression, start, end):
    """[(labels, [(time, value)])], numbers alone."""
    data = urllib.parse.urlencode(
        {"query": expression, "start": start, "end": end, "step": "1s"}).encode()
    with urllib.request.urlopen(f"{url}/api/v1/query_range", data, timeout=30) as answer:
        result = json.load(answer)["data"]["result"]
    return [(series["metric"], [(float(at), float(value)) for at, value in series["values"]
                                if math.isfinite(float(value))]) for series in result]


def series_of(panel, fleet, start, end):
    found = []
    for target in panel["targets"]:
        for labels, points in query_range(fleet.url, local.scaled(target["expr"], fleet.time_scale),
                                          start, end):
            name = re.sub(r"{{\s*(\w+)\s*}}", lambda m, of=labels: of.get(m[1], ""),
                          target.get("legendFormat") or "")
            found.append((name, points))
    return found


def draw(panel, series, start):
    """One panel's SVG at the origin."""
    width, height = panel["gridPos"]["w"] * CELL, panel["gridPos"]["h"] * LINE
    unit = panel["fieldConfig"]["defaults"].get("unit", "short")
    left, right, bottom = LEFT, width - 16, height - LEGEND
    most = max((value for _, points in series for _, value in points), default=0) or 1
    parts = [f'<rect x="3" y="3" width="{width - 6}" height="{height - 6}" rx="3" fill="#fff" stroke="#ddd"/>',
             f'<text x="12" y="20" class="title">{escape(panel["title"])}</text>']
    for share in (0, 0.5, 1):
        y = bottom - share * (bottom - TOP - 8)
        parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="#eee"/><text x="{left - 5}" y="{y + 4:.1f}" '
                     f'class="tick" text-anchor="end">{text_of(share * most, unit)}</text>')
    for at in range(0, SECONDS + 1, 30):
        x = left + at / SECONDS * (right - left)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 12}" class="tick" text-anchor="middle">{at} s</text>')
    x = 12
    for number, (name, points) in enumerate(series):
        color = COLORS[number % len(COLORS)]
        line = " ".join(f"{left + (at - start) / SECONDS * (right - left):.1f},"
                        f"{bottom - value / most * (bottom - TOP - 8):.1f}" for at, value in points)
        if len(points) > 1:
            parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        if x + 16 + 6.2 * len(name) < width - 6:
            parts.append(f'<path d="M{x} {height - 12}h10" stroke="{color}" stroke-width="3"/>'
                         f'<text x="{x + 14}" y="{height - 8}" class="tick">{escape(name)}</text>')
            x += 26 + 6.2 * len(name)
    if not any(points for _, points in series):
        parts.append(f'<text x="{width / 2}" y="{height / 2}" class="tick" text-anchor="middle">no data</text>')
    return "".join(parts)


def picture(dashboard, fleet, start, end):
    panels = dashboard["panels"]
    height = max((p["gridPos"]["y"] + p["gridPos"]["h"]) * LINE for p in panels) + 40
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 * CELL} {height}" font-family="sans-serif">',
             "<style>.title{font-size:13px;font-weight:bold}.tick{font-size:10.5px;fill:#555}"
             ".row{font-size:14px;fill:#222}</style>",
             f'<rect width="100%" height="100%" fill="#f4f5f5"/><text x="12" y="24" font-size="16">'
             f'{escape(dashboard["title"])}: a replica is killed at {KILLED} s, back at {STARTED} s; more work '
             f"from {BUSY} s</text>"]
    for panel in panels:
        x, y = panel["gridPos"]["x"] * CELL, panel["gridPos"]["y"] * LINE + 36
        if panel["type"] == "row":
            parts.append(f'<text x="{x + 12}" y="{y + 18}" class="row">{escape(panel["title"])}</text>')
        else:
            parts.append(f'<g transform="translate({x} {y})">'
                         f"{draw(panel, series_of(panel, fleet, start, end), start)}</g>")
    return "".join(parts) + "</svg>\n"


def happen(fleet):
    """What the picture shows."""
    time.sleep(KILLED)
    fleet.servers[0].kill()
    time.sleep(STARTED - KILLED)
    fleet.servers[0].start()
    time.sleep(BUSY - STARTED)
    subprocess.run([fleet.bin / "engram-bench", "gather", "--servers", fleet.addresses, "--batch", "2048",
                    "--depth", "2", "--seconds", str(SECONDS - BUSY)], check=False,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="directory with bin/ and python/")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--dashboard", type=pathlib.Path, default=HERE / "dashboards/fleet.json")
    args = parser.parse_args()
    with local.Fleet(args.build) as fleet:
        time.sleep(20)  # until the shortest windows are full
        start = time.time()
        actor = threading.Thread(target=happen, args=(fleet,))
        actor.start()
        actor.join()
        time.sleep(max(0.0, start + SECONDS - time.time()))
        args.out.write_text(picture(json.loads(args.dashboard.read_text()), fleet, start, start + SECONDS))


if __name__ == "__main__":
    main()
