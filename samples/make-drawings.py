#!/usr/bin/env python3
"""Draws the strokes of a file as images: 24 cats as people draw them, to test a network that was
trained on lines.

    python samples/make-drawings.py samples/drawings/cats.json drawings --width 3

Writes NUMBER-NAME.png for each drawing, RGB: black lines on white. Strokes are [x, y, x, y, ...],
in pixels of the file's "size". {"colour", "width", "points"} are strokes of a colour, which go
under the lines; --plain leaves them out.
"""

import argparse
import math
import re
import sys
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from common import Parser, run
from make_page import read_drawings

ZOOM = 4  # soft edges: drawn larger, then made smaller


def draw(strokes, size, width):
    """Strokes => an image of `size` (width, height), with lines `width` pixels wide."""
    lines = [stroke for stroke in strokes if isinstance(stroke, list)]
    coloured = [stroke for stroke in strokes if isinstance(stroke, dict)]
    papers = []
    for _ in range(2):
        papers.append(Image.new("RGB", [side * ZOOM for side in size], "white"))
    for stroke in lines:
        draw_stroke(papers[0], stroke, "black", width)
    for stroke in coloured:
        draw_stroke(papers[1], stroke["points"], stroke["colour"], stroke["width"])
    return ImageChops.darker(*papers).resize(size, Image.Resampling.BOX)


def draw_stroke(paper, values, colour, width):
    """Draws a line with round ends on a paper of ZOOM times its size. values: [x, y, x, y, ...]."""
    pen = ImageDraw.Draw(paper)
    radius = width * ZOOM / 2
    points = [(x * ZOOM, y * ZOOM) for x, y in zip(values[::2], values[1::2], strict=True)]
    pen.line(points, fill=colour, width=round(2 * radius), joint="curve")
    for x, y in (points[0], points[-1]):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def line_width(text):
    """For argparse: a width above 0."""
    if 0 < float(text) < math.inf:
        return float(text)
    raise ValueError


def main():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("drawings", type=Path, help="file of strokes")
    parser.add_argument("output_dir", type=Path, help="folder for the images")
    parser.add_argument("--width", type=line_width, default=3, help="of the lines, pixels (3)")
    parser.add_argument("--plain", action="store_true", help="lines alone, without colours")
    args = parser.parse_args()
    contents = read_drawings(args.drawings)
    height, width = contents["size"]
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for number, drawing in enumerate(contents["drawings"], start=1):
        name = re.sub("[^a-z]+", "-", drawing["name"].lower()).strip("-")
        strokes = drawing["strokes"]
        if args.plain:
            strokes = [stroke for stroke in strokes if isinstance(stroke, list)]
        image = draw(strokes, (width, height), args.width)
        image.save(args.output_dir / f"{number:02}-{name}.png")
    print(f"{args.output_dir}: {len(contents['drawings'])} drawings")


if __name__ == "__main__":
    run(main)
