"""Joins the frames of record.mjs into an animated WebP, as README opens with:

    python web/demo/record.py FOLDER docs/images/draw-cats.webp
"""

import sys
from pathlib import Path

from PIL import Image

folder, target = sys.argv[1:]
frames = [
    Image.open(path).convert("RGB").resize((840, 570))
    for path in sorted(Path(folder).glob("*.png"))
]
durations = [*[180] * (len(frames) - 1), 5000]  # milliseconds
frames[0].save(
    target,
    save_all=True,
    append_images=frames[1:],
    duration=durations,
    loop=0,
    quality=70,
    method=6,
)
print(f"{target}: {len(frames)} frames, {Path(target).stat().st_size / 1e6:.2f} MB")
