#!/usr/bin/env python3
"""Draws the strokes of a file as images: 24 cats as people draw them, to test a network that was
trained on lines.

    python samples/make-drawings.py samples/drawings/cats.json drawings --width 3

Writes NAME.png for each drawing, black on white, RGB. Strokes are [x, y, x, y, ...], in pixels of
the file's "size".
"""

import argparse
import json
import re
from pathlib import Path

from PIL import Image, ImageDraw

ZOOM = 4  # soft edges: drawn larger, then made smaller


def draw(strokes, size, width):
    """Strokes => an image of `size` (width, height), with lines `width` pixels wide."""
    paper = Image.new("L", [side * ZOOM for side in size], 255)
    pen = ImageDraw.Draw(paper)
    radius = width * ZOOM / 2
    for stroke in strokes:
        points = [(x * ZOOM, y * ZOOM) for x, y in zip(stroke[::2], stroke[1::2], strict=True)]
        pen.line(points, fill=0, width=round(2 * radius), joint="curve")
        for x, y in (points[0], points[-1]):
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=0)
    return paper.resize(size, Image.Resampling.BOX).convert("RGB")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("drawings", type=Path, help="file of strokes")
    parser.add_argument("output_dir", type=Path, help="folder for the images")
    parser.add_argument("--width", type=float, default=3, help="of the lines, pixels (3)")
    args = parser.parse_args()
    contents = json.loads(args.drawings.read_text(encoding="utf-8"))
    height, width = contents["size"]
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for number, drawing in enumerate(contents["drawings"], start=1):
        name = re.sub("[^a-z]+", "-", drawing["name"].lower()).strip("-")
        image = draw(drawing["strokes"], (width, height), args.width)
        image.save(args.output_dir / f"{number:02}-{name}.png")
    print(f"{args.output_dir}: {len(contents['drawings'])} drawings")


if __name__ == "__main__":
    main()
