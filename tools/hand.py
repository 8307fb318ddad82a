"""No command: lines as a person draws them, made of the thin lines of an image. For process.py."""

import dataclasses
import zlib

import numpy as np
from PIL import Image

# To the pixels around one, straight ones first.
STEPS = [(0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]


@dataclasses.dataclass
class Hand:
    """How one drawing is made. Lengths are in pixels of an image whose shorter side is 256."""

    detail: float  # 0: outlines alone, 1: every line
    width: float  # of the pen
    wobble: float  # how far a line strays from its place
    tolerance: float  # how far a corner may be cut
    omission: float  # share of the strokes that are left out
    gap: float  # share of the strokes that get a gap
    shape: float  # share of the small closed strokes that become a circle or a triangle


def choose_hand(random, strength):
    """Draws the habits of a hand. strength: 0, as exact as the image, to 1, a child's."""
    amount = strength * random.uniform(0.3, 1)
    return Hand(
        detail=random.uniform(0, 1),
        width=random.uniform(1, 5),
        wobble=4 * amount * random.uniform(0.3, 1),
        tolerance=6 * amount * random.uniform(0, 1),
        omission=0.3 * amount,
        gap=0.4 * amount,
        shape=min(1, 1.5 * amount),
    )


def random_of(seed, name, variant):
    """A random generator for one drawing, the same on every machine and in any order of work."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), variant])


def draw(find_lines, image, random, strength, colours=0.0, whiskers=0.0):
    """An image of Pillow => a drawing of it, RGB, black on white.

    find_lines(image, detail): thin lines, bool [h, w]. strength: 0 to 1, see choose_hand().
    colours: the chance, 0 to 1, that strokes of the image's colours are under the lines. whiskers:
    the chance that tufts of strokes leave the thing, of which the image shows nothing.
    """
    hand = choose_hand(random, strength)
    unit = min(image.size) / 256
    canvas = Canvas(image.size, unit)
    for stroke in trace(find_lines(image, hand.detail)):
        draw_stroke(canvas, stroke.astype(np.float64), hand, random)
    paper = np.full((image.height, image.width, 3), 255, np.uint8)
    if random.uniform() < colours:
        paint_colours(paper, np.asarray(image), unit, random)
    if random.uniform() < whiskers:
        draw_whiskers(canvas, np.asarray(image), hand.width, random)
    return Image.fromarray(np.minimum(paper, canvas.finish()))


def paint_colours(paper, image, unit, random):
    """Paints 1 to 6 short thick strokes on a paper, uint8 [h, w, 3], each in the colour that the
    image has there. Where the image is white, nothing is painted."""
    import cv2

    places = np.argwhere(image.min(axis=2) < 235)
    if not len(places):
        return
    for _ in range(random.integers(1, 7)):
        row, column = places[random.integers(len(places))]
        start = np.array([column, row])
        steps = random.normal(0, 8 * unit, [random.integers(1, 5), 2])
        points = np.concatenate([start[None], start + np.cumsum(steps, axis=0)])
        width = max(1, round(random.uniform(5, 22) * unit))
        mask = np.zeros(image.shape[:2], np.uint8)
        cv2.polylines(mask, [np.round(points).astype(np.int32)[:, None]], False, 1, width)
        inside = image[mask > 0]
        inside = inside[inside.min(axis=1) < 235]
        if len(inside) > 0.6 * mask.sum():
            paper[mask > 0] = np.median(inside, axis=0)


def draw_whiskers(canvas, image, width, random):
    """Draws 1 to 5 tufts of 2 to 4 strokes each, from inside a thing to the white around it."""
    import cv2

    unit = canvas.unit
    thing = (image.min(axis=2) < 235).astype(np.float32)
    soft = cv2.GaussianBlur(thing, (0, 0), 5 * unit)
    down, right = np.gradient(soft)
    places = np.argwhere((soft > 0.4) & (soft < 0.6) & (np.hypot(down, right) > 0.02 / unit))
    if not len(places):
        return
    for _ in range(random.integers(1, 6)):
        row, column = places[random.integers(len(places))]
        outwards = -np.array([right[row, column], down[row, column]])
        outwards /= np.linalg.norm(outwards)
        along = np.array([-outwards[1], outwards[0]])
        spread = random.uniform(2, 6) * unit
        inside = random.uniform(5, 25) * unit
        for number in range(random.integers(2, 5)):
            start = np.array([column, row]) - inside * outwards + number * spread * along
            heading = outwards + random.uniform(-0.1, 0.3) * number * along
            end = start + random.uniform(30, 80) * unit * heading
            canvas.line(np.stack([start, end]), random.uniform(0.4, 1) * width)


class Canvas:
    """White paper that is drawn on at four times its size, for soft edges of lines."""

    zoom = 4

    def __init__(self, size, unit):
        width, height = size
        self.unit = unit
        self.size = size
        self.paper = np.full((height * self.zoom, width * self.zoom), 255, np.uint8)

    def line(self, points, width, is_closed=False):
        """points: float [n, 2], x and y."""
        import cv2

        corners = np.round((points + 0.5) * self.zoom).astype(np.int32)
        thickness = max(1, round(width * self.unit * self.zoom))
        cv2.polylines(self.paper, [corners[:, None]], is_closed, 0, thickness, cv2.LINE_8)

    def fill(self, points):
        import cv2

        corners = np.round((points + 0.5) * self.zoom).astype(np.int32)
        cv2.fillPoly(self.paper, [corners[:, None]], 0)

    def finish(self):
        """The drawing, uint8 [h, w, 1]."""
        import cv2

        return cv2.resize(self.paper, self.size, interpolation=cv2.INTER_AREA)[..., None]


def draw_stroke(canvas, points, hand, random):
    """Draws one stroke as the hand does, or leaves it out."""
    length = np.linalg.norm(np.diff(points, axis=0), axis=1).sum() / canvas.unit
    is_long = length > 100
    if not is_long and random.uniform() < hand.omission:
        return
    width = hand.width * random.uniform(0.8, 1.2)
    is_small = length < 70 and len(points) >= 6
    is_closed = np.linalg.norm(points[0] - points[-1]) < length * canvas.unit / 5
    if is_small and is_closed and random.uniform() < hand.shape:
        draw_shape(canvas, points, width, random)
        return
    points = cut_corners(points, hand.tolerance * canvas.unit)
    if random.uniform() < 0.6:
        points = round_corners(points)
    points = stray(points, hand.wobble * canvas.unit, random)
    if length > 30 and random.uniform() < hand.gap:
        start = random.uniform(0.1, 0.8)
        middle = slice(int(start * len(points)), int((start + 0.12) * len(points)))
        canvas.line(points[: middle.start + 1], width)
        canvas.line(points[middle.stop :], width)
    else:
        canvas.line(points, width)


def draw_shape(canvas, points, width, random):
    """Draws a circle, an oval, a dot or a triangle in the place of a small closed stroke: an eye,
    a nose."""
    center = points.mean(axis=0)
    half = np.maximum((points.max(axis=0) - points.min(axis=0)) / 2, 2 * canvas.unit)
    kind = random.choice(["oval", "circle", "dot", "triangle"])
    if kind == "triangle":
        corners = np.array([[-1, -0.8], [1, -0.8], [0, 0.9]])
        canvas.line(center + corners * half, width, is_closed=True)
        return
    angles = np.linspace(0, 2 * np.pi, 25)[:-1]
    radii = half if kind == "oval" else half.mean()
    outline = center + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii
    if kind == "dot":
        canvas.fill(outline)
    else:
        canvas.line(outline, width, is_closed=True)


def cut_corners(points, tolerance):
    """A line with fewer corners, nowhere farther than `tolerance` pixels from the old one."""
    import cv2

    if tolerance < 0.5:
        return points
    return cv2.approxPolyDP(points.astype(np.float32)[:, None], tolerance, False)[:, 0]


def round_corners(points):
    """A line with soft corners (Chaikin 1974), three times over; its ends stay."""
    for _ in range(3):
        if len(points) < 3:
            break
        first = 0.75 * points[:-1] + 0.25 * points[1:]
        second = 0.25 * points[:-1] + 0.75 * points[1:]
        inner = np.stack([first, second], axis=1).reshape(-1, 2)
        points = np.concatenate([points[:1], inner[1:-1], points[-1:]])
    return points


def stray(points, most, random):
    """A line that strays from its place: shifted as a whole and bent by slow waves, `most` pixels
    far."""
    points = resample(points, 3)
    shift = random.normal(0, 0.3, 2)
    along = np.linspace(0, 1, len(points))[:, None]
    waves = max(1, len(points) / 12)
    bend = np.zeros_like(points)
    for share in (0.5, 1.0):
        phase = random.uniform(0, 2 * np.pi, 2)
        bend += np.sin(2 * np.pi * along * waves * share + phase) * random.normal(0, 0.3, 2)
    return points + most * (shift + bend)


def resample(points, distance):
    """The same line with a point every `distance` pixels, about."""
    lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
    along = np.concatenate([[0], np.cumsum(lengths)])
    places = np.linspace(0, along[-1], max(2, round(along[-1] / distance) + 1))
    return np.stack([np.interp(places, along, points[:, axis]) for axis in (0, 1)], axis=1)


def trace(lines):
    """Thin lines, bool [h, w] => strokes, int [n, 2] of x and y each. A line goes from an end, or
    from anywhere if it has none, straight on where lines meet."""
    import cv2

    left = np.pad(lines, 1).astype(np.uint8)
    neighbours = cv2.filter2D(left, -1, np.ones((3, 3), np.uint8)) - left
    ends = np.argwhere((left == 1) & (neighbours == 1))
    others = np.argwhere(left == 1)
    strokes = []
    for row, column in np.concatenate([ends, others]):
        if not left[row, column]:
            continue
        stroke = follow(left, row, column)
        if len(stroke) > 2:
            strokes.append(np.array(stroke)[:, ::-1] - 1)
    return strokes


def follow(left, row, column):
    """Takes one line out of `left`, uint8 [h, w], from a pixel on. Returns its pixels."""
    stroke = [(row, column)]
    left[row, column] = 0
    heading = None
    while True:
        found = [step for step in STEPS if left[row + step[0], column + step[1]]]
        if not found:
            return stroke
        if heading is None:
            step = found[0]
        else:
            step = max(found, key=lambda step: np.dot(step, heading) / np.hypot(*step))
        row, column = row + step[0], column + step[1]
        left[row, column] = 0
        stroke.append((row, column))
        start = stroke[max(0, len(stroke) - 6)]
        heading = (row - start[0], column - start[1])
