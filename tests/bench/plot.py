#!/usr/bin/env python3
"""Draws what a request costs against the number of connections: SVG, from the table of wrk.sh.

    tests/bench/wrk.sh --rounds 6 --seconds 3 --workloads keep16,keep64,keep256,keep1024,keep4096 >table.md
    tests/bench/plot.py table.md >tests/bench/connections.svg

One line for each program, through the medians of its rows keepN; thin bars show the range. The
drawing follows the reader's preference for dark or light, and has a background of its own, so that
it is readable on any page. Needs nothing but Python.
"""

import argparse
import math
import os
import re
import subprocess
import sys
from xml.sax.saxutils import escape

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 112, 74, 88  # margins of the plot's area
NAMES = {"bestguess": "bestguess", "nginx": "nginx", "haproxy": "HAProxy"}
LABEL_GAP = 18  # labels at the lines' ends keep this distance

STYLE = """
  text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #3c4650 }
  .title { font-size: 17px; font-weight: 600; fill: #1b232b }
  .small { font-size: 11.5px; fill: #5f6b76 }
  .label { font-weight: 600 }
  .paper { fill: #ffffff; stroke: #d5dbe1 }
  .grid { stroke: #e3e8ec }
  .axis { stroke: #8a96a1 }
  .line { fill: none; stroke-width: 2.5; stroke-linejoin: round }
  .range { stroke-width: 1.25; opacity: .65 }
  .bestguess { stroke: #0b7a5c } .fill-bestguess { fill: #0b7a5c }
  .nginx { stroke: #b3541e; stroke-dasharray: 7 4 } .fill-nginx { fill: #b3541e }
  .haproxy { stroke: #3f5fc4; stroke-dasharray: 2 4; stroke-linecap: round } .fill-haproxy { fill: #3f5fc4 }
  .range, .mark { stroke-dasharray: none }
  @media (prefers-color-scheme: dark) {
    text { fill: #c3ccd4 }
    .title { fill: #eef2f5 }
    .small { fill: #94a1ad }
    .paper { fill: #14191e; stroke: #303942 }
    .grid { stroke: #262e36 }
    .axis { stroke: #6b7884 }
    .bestguess { stroke: #3ecf9f } .fill-bestguess { fill: #3ecf9f }
    .nginx { stroke: #f0935a } .fill-nginx { fill: #f0935a }
    .haproxy { stroke: #8fa8ff } .fill-haproxy { fill: #8fa8ff }
  }
"""


def read(lines):
    """What the table says: for each program a list of connections, median, least, greatest; and the
    line above the table."""
    found, heading = {}, ""
    for line in lines:
        if line.startswith("Linux "):
            # Of the kernel's version two numbers say enough.
            heading = re.sub(r"^(Linux \d+\.\d+)\S*?(,? )", r"\1\2", line.split("; layout")[0].strip())
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        workload = re.fullmatch(r"keep(\d+)", cells[0])
        if not workload or len(cells) < 8:
            continue
        if cells[3] == "-":
            raise ValueError(f"{cells[0]}, {cells[1]}: no figure ({cells[7]})")
        if cells[7] != "0":
            raise ValueError(f"{cells[0]}, {cells[1]}: measured with errors ({cells[7]})")
        low, high = cells[4].split(" to ")
        point = (int(workload.group(1)), float(cells[3]), float(low), float(high))
        found.setdefault(cells[1], []).append(point)
    if not found or min(len(points) for points in found.values()) < 2:
        raise ValueError("expected the output of wrk.sh with at least two rows keepN")
    return {name: sorted(points) for name, points in found.items()}, heading


def marks(least, most):
    """1, 2 and 5 times powers of ten, from the last one below `least` to the first one above `most`."""
    every = [factor * 10**power for power in range(-3, 7) for factor in (1, 2, 5)]
    first = max(value for value in every if value <= least)
    last = min(value for value in every if value >= most)
    return [value for value in every if first <= value <= last]


def spread(wanted):
    """Heights near those that are wanted, far enough from each other to be read: name to height."""
    placed = {}
    last = -math.inf
    for name, height in sorted(wanted.items(), key=lambda item: item[1]):
        last = max(height, last + LABEL_GAP)
        placed[name] = last
    return placed


def draw(series, heading, commit):
    counts = sorted({point[0] for points in series.values() for point in points})
    ticks = marks(
        min(point[2] for points in series.values() for point in points),
        max(point[3] for points in series.values() for point in points),
    )

    def x(count):
        share = math.log(count / counts[0]) / math.log(counts[-1] / counts[0])
        return LEFT + 14 + share * (WIDTH - LEFT - RIGHT - 28)

    def y(value):
        # Equal heights are equal ratios, and ratios are what holds from machine to machine.
        share = math.log(value / ticks[0]) / math.log(ticks[-1] / ticks[0])
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    words = "; ".join(
        f"{NAMES.get(name, name)} " + ", ".join(f"{point[1]:.1f} at {point[0]}" for point in points)
        for name, points in series.items()
    )
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="t d">',
        '<title id="t">CPU time per request against connections</title>',
        f'<desc id="d">Microseconds of CPU time per request, by kept-alive connections: {escape(words)}.</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="paper" x=".5" y=".5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8"/>',
        '<text class="title" x="24" y="32">CPU time per request, in microseconds</text>',
        '<text x="24" y="52">by the number of kept-alive connections, 256 bytes of content; less is better; both scales are logarithmic</text>',
    ]
    for value in ticks:
        kind = "axis" if value == ticks[0] else "grid"
        out.append(f'<path class="{kind}" d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}"/>')
        out.append(f'<text x="{LEFT - 10}" y="{y(value) + 4.5:.1f}" text-anchor="end">{value:g}</text>')
    bottom = HEIGHT - BOTTOM
    for count in counts:
        out.append(f'<path class="axis" d="M{x(count):.1f} {bottom}v5"/>')
        out.append(f'<text x="{x(count):.1f}" y="{bottom + 21}" text-anchor="middle">{count:,}</text>')
    out.append(f'<text x="{LEFT + 14}" y="{bottom + 40}">connections</text>')
    ends = spread({name: y(points[-1][1]) for name, points in series.items()})
    for name, points in series.items():
        path = "L".join(f"{x(count):.1f} {y(median):.1f}" for count, median, _, _ in points)
        out.append(f'<path class="line {name}" d="M{path}"/>')
        for count, median, low, high in points:
            out.append(f'<path class="range {name}" d="M{x(count):.1f} {y(low):.1f}V{y(high):.1f}"/>')
            out.append(f'<circle class="fill-{name}" cx="{x(count):.1f}" cy="{y(median):.1f}" r="4"/>')
        at = f'x="{WIDTH - RIGHT + 2}" y="{ends[name] + 4.5:.1f}"'
        out.append(f'<text class="label fill-{name}" {at}>{escape(NAMES.get(name, name))}</text>')
    notes = heading.split("; ") + ([f"commit {commit}"] if commit else [])
    # The machine and when, then the programs.
    for place, note in enumerate(["; ".join(notes[:1] + notes[2:]), "; ".join(notes[1:2])]):
        out.append(f'<text class="small" x="24" y="{HEIGHT - 30 + 16 * place}">{escape(note)}</text>')
    return "\n".join(out) + "\n</svg>\n"


def head_commit():
    command = ["git", "-C", ROOT, "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", help="the output of wrk.sh; - reads standard input")
    parser.add_argument("--commit", help="what was measured (the commit of this working tree)")
    options = parser.parse_args()
    try:
        if options.table == "-":
            series, heading = read(sys.stdin)
        else:
            with open(options.table, encoding="utf-8") as file:
                series, heading = read(file)
    except (OSError, ValueError) as wrong:
        sys.exit(f"plot.py: {wrong}")
    commit = options.commit if options.commit is not None else head_commit()
    sys.stdout.write(draw(series, heading, commit))


if __name__ == "__main__":
    main()
