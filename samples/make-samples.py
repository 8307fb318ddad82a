"""Draws the small data sets in this folder: python samples/make-samples.py facades monet2photo
miyazaki hd

Frozen: it draws what is committed here, and stays as it is. The images are generated, so nobody
owns them, and seeded, so they are the same every time. Each set has real structure to learn: in
facades the photo follows from the labels and a style for each building; in the unpaired sets the
two domains show the same kind of landscape in two styles, and the test folders show the very same
scenes, file name by file name.
"""

import argparse
import json
import zlib
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

SIZE = 256  # of one image; everything below is measured in these pixels
SCALE = 3  # everything is drawn this many times larger,
AVERAGED = 3  # and so many of its pixels are averaged to one, so that edges are smooth

# The 12 classes of CMP Facades in the colours they have in the pix2pix data set. background is sky
# and street, cornice
# the hood over one window, molding a band across the whole facade.
PALETTE = json.loads(Path(__file__).with_name("facades.json").read_text(encoding="utf-8"))
CLASSES = list(PALETTE)


# -------------------------------------------------------------------------------------------- tools


def generator(*key):
    """A random generator of its own for every image, e.g. generator(0, "facades", "train", 7)."""
    return np.random.default_rng([zlib.crc32(str(part).encode()) for part in key])


def rgb(*colour):
    """0..255 sRGB as linear light, where shadows and lamps can be multiplied and added."""
    return (np.array(colour, np.float32) / 255) ** 2.2


def mix(a, b, t):
    """a where t is 0, b where t is 1; an (h, w) t mixes two colours into an (h, w, 3) image."""
    t = np.asarray(t, np.float32)
    t = t[..., None] if t.ndim == 2 else t
    return a * (1 - t) + b * t


def resize(field, shape):
    """A float (h, w) field brought to another shape, smoothly."""
    image = Image.fromarray(field.astype(np.float32), mode="F")
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def noise(rng, shape, cell, stretch=1.0, octaves=4):
    """Cloudy (h, w) noise around 0, about -1..1; the largest blobs are `cell` pixels high and cell
    * stretch wide."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        size = max(cell / 2**octave, 1)
        grid = rng.normal(size=(int(shape[0] / size) + 2, int(shape[1] / (size * stretch)) + 2))
        total += resize(grid, shape) * 0.55**octave
    return total * 0.6


def blur(field, sigma):
    """Gaussian blur of an (h, w) or (h, w, c) field."""
    radius = int(3 * sigma) + 1
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    for axis in (0, 1):
        padding = [(radius, radius) if i == axis else (0, 0) for i in range(field.ndim)]
        padded, length = np.pad(field, padding, mode="edge"), field.shape[axis]
        field = sum(
            weight * padded[(slice(None),) * axis + (slice(i, i + length),)]
            for i, weight in enumerate(kernel)
        )
    return field


def shrink(field, factor):
    """Averages an (h, w, ...) field down by a whole factor."""
    height, width = field.shape[0] // factor, field.shape[1] // factor
    return field.reshape(height, factor, width, factor, *field.shape[2:]).mean((1, 3))


def eight_bit(image):
    """0..1 to uint8."""
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def develop(rng, light, grain=0.007):
    """Linear light (h, w, 3) at SCALE to an 8-bit photo (h / AVERAGED, w / AVERAGED, 3): lens, film
    curve, grain."""
    light = shrink(light, AVERAGED)
    # a real lens is a little soft and veils bright parts
    light = 0.9 * blur(light, 0.45) + 0.1 * blur(light, 4)
    v, u = np.mgrid[-1 : 1 : light.shape[0] * 1j, -1 : 1 : light.shape[1] * 1j]
    light = np.maximum(light * (1 - 0.09 * (u**2 + v**2))[..., None], 0)
    # the ACES film curve
    photo = light * (2.51 * light + 0.03) / (light * (2.43 * light + 0.59) + 0.14)
    photo = mix(photo, photo.mean(2, keepdims=True), 0.06)
    photo = (
        photo ** (1 / 2.2)
        + rng.normal(0, grain, (*u.shape, 1))
        + rng.normal(0, grain / 2, photo.shape)
    )
    return eight_bit(photo)


# ------------------------------------------------------------------------------------------ facades


@dataclass
class Light:
    """The time of day and the weather, as linear colours."""

    sun: np.ndarray
    ambient: np.ndarray
    zenith: np.ndarray
    horizon: np.ndarray
    clouds: np.ndarray
    lit: float  # share of windows with a lamp on
    softness: float  # of the shadows, in pixels


LIGHTS = [  # noon, summer haze, golden evening, overcast, dusk
    Light(
        rgb(255, 240, 218) * 1.00,
        rgb(112, 134, 172) * 0.90,
        rgb(44, 98, 176),
        rgb(140, 184, 226),
        rgb(244, 244, 246),
        lit=0.02,
        softness=0.4,
    ),
    Light(
        rgb(255, 228, 190) * 0.95,
        rgb(122, 138, 168) * 0.90,
        rgb(84, 136, 196),
        rgb(196, 210, 222),
        rgb(240, 236, 230),
        lit=0.05,
        softness=0.5,
    ),
    Light(
        rgb(255, 188, 108) * 1.15,
        rgb(110, 112, 152) * 0.80,
        rgb(74, 112, 164),
        rgb(246, 194, 134),
        rgb(252, 206, 160),
        lit=0.15,
        softness=0.5,
    ),
    Light(
        rgb(214, 218, 224) * 0.35,
        rgb(168, 174, 184) * 0.90,
        rgb(142, 154, 168),
        rgb(204, 208, 212),
        rgb(214, 216, 220),
        lit=0.15,
        softness=2.5,
    ),
    Light(
        rgb(240, 160, 136) * 0.22,
        rgb(116, 128, 180) * 0.85,
        rgb(38, 56, 112),
        rgb(240, 178, 134),
        rgb(150, 132, 160),
        lit=0.45,
        softness=1.5,
    ),
]
WALLS = [  # plaster and stone in the colours of European streets
    (232, 202, 142),
    (214, 158, 124),
    (176, 190, 164),
    (238, 230, 212),
    (158, 178, 196),
    (226, 184, 178),
    (204, 194, 176),
    (212, 176, 92),
    (148, 160, 172),
    (242, 236, 228),
    (190, 132, 104),
    (196, 206, 186),
    (224, 206, 182),
    (172, 152, 130),
]
BRICKS = [
    (172, 84, 62),
    (142, 70, 56),
    (196, 118, 80),
    (188, 160, 122),
    (122, 84, 72),
    (206, 176, 140),
]
TRIMS = [(240, 234, 220), (222, 210, 188), (204, 194, 178), (248, 246, 242), (176, 160, 140)]
PAINTS = [
    (36, 74, 58),
    (44, 62, 92),
    (112, 40, 34),
    (88, 58, 38),
    (60, 62, 66),
    (150, 170, 176),
    (84, 112, 84),
    (136, 96, 58),
]
FRAMES = [
    (244, 242, 236),
    (236, 230, 214),
    (84, 56, 38),
    (48, 52, 56),
    (226, 226, 226),
    (62, 84, 74),
]
ROOFS = [(146, 88, 68), (122, 82, 68), (84, 88, 96), (96, 84, 80), (104, 120, 112)]


class Canvas:
    """One facade image in the making: what each pixel is (labels) and what it looks like.

    labels: (256, 256) class numbers. At SCALE: colour (n, n, 3) linear reflectance, height (n, n)
    how far a surface stands out of the wall in pixels (all shadows come from it), glow (n, n, 3)
    light of its own: sky, lamps, mirrors.
    """

    def __init__(self):
        size = SIZE * SCALE
        self.labels = np.zeros((SIZE, SIZE), np.uint8)
        self.colour = np.zeros((size, size, 3), np.float32)
        self.height = np.zeros((size, size), np.float32)
        self.glow = np.zeros((size, size, 3), np.float32)

    @staticmethod
    def grid(box, scale):
        """The part of the canvas under a box as slices, and its pixel centres in pixels from the
        box's upper left."""
        x0, y0, x1, y1 = (round(value * scale) for value in box)
        left, top, right, bottom = (min(max(value, 0), SIZE * scale) for value in (x0, y0, x1, y1))
        y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
        return (
            (slice(top, bottom), slice(left, right)),
            (x + 0.5 - x0) / scale,
            (y + 0.5 - y0) / scale,
        )

    def mark(self, box, label, shape=None):
        """Labels a box, or shape(x, y) inside it, and leaves its look alone."""
        where, x, y = self.grid(box, 1)
        self.labels[where][shape(x, y) if shape else np.ones(x.shape, bool)] = CLASSES.index(label)

    def paint(self, box, colour, height=0.0, label=None, shape=None, glow=0.0):
        """Fills a box (x0, y0, x1, y1), or shape(x, y) inside it. Colour, height and glow are
        values or f(x, y)."""
        if label:
            self.mark(box, label, shape)
        where, x, y = self.grid(box, SCALE)
        inside = shape(x, y) if shape else np.ones(x.shape, bool)
        for field, value in ((self.colour, colour), (self.height, height), (self.glow, glow)):
            value = value(x, y) if callable(value) else value
            field[where][inside] = np.broadcast_to(value, field[where].shape)[inside]

    def shade(self, light, side):
        """The image in linear light (n, n, 3): sun from above, on the left (side -1) or the right
        (side 1)."""
        # how high a surface must stand here to be out of all shadows
        reach = np.full_like(self.height, -99)
        for step in range(2, 16 * SCALE, 2):
            dy, dx = step, round(side * step * 0.55)
            shifted = np.roll(self.height, (dy, -dx), (0, 1))
            shifted[:dy] = -99
            reach = np.maximum(reach, shifted - step / SCALE * 0.75)
        sunlit = blur((reach <= self.height + 0.05).astype(np.float32), light.softness * SCALE / 2)
        slope_y, slope_x = (
            np.clip(slope, -1.2, 1.2) for slope in np.gradient(self.height, 1 / SCALE)
        )
        facing = (1 + 0.75 * slope_y - 0.55 * side * slope_x) / np.sqrt(1 + slope_x**2 + slope_y**2)
        hollow = blur(self.height, 2.0 * SCALE) - self.height  # crevices see less of the sky
        open_sky = np.clip(1 - 0.12 * np.maximum(hollow, 0), 0.4, 1) * (
            1 + 0.25 * np.clip(slope_y, -1, 1)
        )
        direct = np.clip(facing, 0, 2) * sunlit
        return (
            self.colour * (light.sun * direct[..., None] + light.ambient * open_sky[..., None])
            + self.glow
        )


def arch(width, rise):
    """The shape of a window with a round top: the arch takes the upper `rise` pixels."""
    return lambda x, y: y >= rise * (1 - np.sqrt(np.maximum(1 - (2 * x / width - 1) ** 2, 0)))


def gable(width, height):
    """A triangle with its tip up."""
    return lambda x, y: np.abs(2 * x / width - 1) <= y / height


def masonry(rng, kind, colour):
    """A wall for the whole canvas: colour (n, n, 3) and height (n, n). kind: plaster, brick or
    stone."""
    size = SIZE * SCALE
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / SCALE
    stains = (
        noise(rng, (size, size), 60 * SCALE) * 0.07
        + noise(rng, (size, size), 60 * SCALE, 0.06, 3) * 0.04
    )
    grain = noise(rng, (size, size), 2 * SCALE, octaves=2)
    if kind == "plaster":
        return colour * (1 + stains * 1.3 + grain * 0.03)[..., None], grain * 0.04
    high, wide = (2.7, 7.0) if kind == "brick" else (8.0, 19.0)
    row = (y / high).astype(int)
    across = x / wide + 0.5 * (row % 2)
    tone = rng.normal(0, 0.13 if kind == "brick" else 0.05, (row.max() + 1, int(across.max()) + 1))[
        row, across.astype(int)
    ]
    edge = np.minimum(
        np.minimum(y % high, high - y % high), np.minimum(across % 1, 1 - across % 1) * wide
    )
    joint = np.clip(1 - edge / (0.35 if kind == "brick" else 0.6), 0, 1)
    mortar = mix(colour, rgb(190, 180, 168), 0.6) if kind == "brick" else colour * 0.7
    wall = mix(
        colour * (1 + tone + stains + grain * 0.05)[..., None],
        mortar,
        joint * (0.6 if kind == "brick" else 0.8),
    )
    return wall, grain * 0.05 - joint * (0.12 if kind == "brick" else 0.5)


class Building:
    """One house: its style, drawn at random once, and a method for each thing that it is
    made of."""

    def __init__(self, canvas, rng, light, reflection):
        self.canvas, self.rng, self.light, self.reflection = canvas, rng, light, reflection
        self.material = rng.choice(["plaster", "plaster", "brick", "stone"])
        wall = rgb(*rng.choice(BRICKS if self.material == "brick" else WALLS)) * rng.uniform(
            0.85, 1.1
        )
        self.wall, self.bumps = masonry(rng, self.material, wall * rng.uniform(0.95, 1.05, 3))
        plinth = "stone" if rng.random() < 0.6 else self.material
        self.plinth, self.plinth_bumps = masonry(
            rng, plinth, mix(wall, rgb(176, 166, 152), rng.uniform(0.3, 0.8))
        )
        self.trim, self.frame, self.paint, self.door_paint, self.roof = (
            rgb(*rng.choice(colours)) * rng.uniform(0.85, 1.1)
            for colours in (TRIMS, FRAMES, PAINTS, PAINTS, ROOFS)
        )
        self.curtain = mix(rgb(236, 230, 220), rgb(*rng.choice(WALLS)), 0.4)
        self.panes = [
            (2, (0.3,)),
            (2, (0.5,)),
            (2, (0.33, 0.66)),
            (3, (0.3,)),
            (1, (0.5,)),
            (2, ()),
        ][rng.integers(6)]
        self.railing = rng.choice(["iron", "iron", "stone", "panel"])
        self.hood = rng.choice(["flat", "gable", "both"])

    def coat(self, box, plinth=False):
        """Bare wall."""
        where, _, _ = self.canvas.grid(box, SCALE)
        wall, bumps = (self.plinth, self.plinth_bumps) if plinth else (self.wall, self.bumps)
        self.canvas.paint(box, wall[where], bumps[where], "facade")

    def glass(self, box, shape=None, panes=None, recess=3.0, label="window", lit=None):
        """A window: frame and bars, behind them a room with curtains or a lamp, on the glass the
        sky's reflection."""
        rng, (x0, y0, x1, y1) = self.rng, box
        width, height = x1 - x0, y1 - y0
        columns, rows = panes or self.panes
        bar, rim = 0.75, 1.1
        cover = rng.choice([0, 0.25, 0.4]) * rng.uniform(0.6, 1)  # curtains at the sides,
        drop = max(rng.uniform(-0.6, 0.6), 0)  # a roller blind from above
        shade = rng.uniform(0.02, 0.09)
        lit = rng.random() < self.light.lit if lit is None else lit
        lamp = rgb(255, rng.integers(176, 220), rng.integers(90, 150)) * rng.uniform(0.5, 1.0) * lit
        mirror = rng.choice([0.06, 0.14, 0.22, 0.4]) * rng.uniform(0.7, 1.3) * (0.4 if lit else 1)

        def is_frame(x, y):
            edge = np.minimum(np.minimum(x, width - x), np.minimum(y, height - y))
            bars = [np.abs(x - width * i / columns) < bar / 2 for i in range(1, columns)]
            bars += [np.abs(y - height * row) < bar / 2 for row in rows]
            if shape:
                bars.append(~shape(x, y - rim))
            return np.logical_or.reduce([edge < rim, *bars])

        def cloth(x, y):
            side = np.abs(2 * x / width - 1) > 1 - cover * (1.2 - 0.5 * y / height)
            return (side | (y < drop * height)) * (0.75 + 0.25 * np.sin(x * 2.6))

        def colour(x, y):
            room = mix(rgb(60, 58, 60) * shade * 10, self.curtain * 0.4, cloth(x, y))
            return mix(room, self.frame, is_frame(x, y))

        def glow(x, y):
            where, _, _ = self.canvas.grid(box, SCALE)
            sky = self.reflection[where] * mirror * np.clip(1.1 - 0.6 * y / height, 0, 1)[..., None]
            room = (
                lamp
                * (
                    1 - 0.5 * cloth(x, y) - 0.5 * ((x / width - 0.5) ** 2 + (y / height - 0.4) ** 2)
                )[..., None]
            )
            return (sky + room) * ~is_frame(x, y)[..., None]

        self.canvas.paint(
            box, colour, lambda x, y: is_frame(x, y) * 0.9 - recess, label, shape, glow
        )

    def sill(self, box):
        self.canvas.paint(box, self.trim, 2.0, "sill")

    def cornice(self, box, pointed):
        """The hood over a window: a ledge, with or without a gable."""
        width, tall = box[2] - box[0], box[3] - box[1] - 2

        def gable_height(x, y):
            inner = np.abs(2 * x / width - 1) < y / tall - 0.3
            return np.where(inner & (y < tall), 1.4, 3.2)

        if pointed:
            self.canvas.paint(box, self.trim, gable_height, "cornice", gable(width, tall))
        else:
            self.canvas.paint(box, self.trim, lambda x, y: 3.3 - 0.5 * y, "cornice")

    def molding(self, box, depth, dentils=False):
        """A band across the house: steps that come forward upwards, with or without little blocks
        under them."""
        tall = box[3] - box[1]

        def height(x, y):
            steps = np.ceil((1 - y / tall) * 3) / 3 * depth
            return np.where((y > tall * 0.55) & dentils, (x % 5 < 2.6) * depth * 0.5, steps)

        self.canvas.paint(box, self.trim, height, "molding")

    def pillar(self, box):
        """A pilaster: round shaft with flutes, base and capital."""
        width, tall = box[2] - box[0], box[3] - box[1]

        def height(x, y):
            flutes = 0.25 * np.cos(x * 2 * np.pi / max(width / 3, 1.5))
            shaft = 1.0 + 1.4 * np.sqrt(np.maximum(1 - (2 * x / width - 1) ** 2, 0)) + flutes
            ends = (y < width * 0.8) | (tall - y < width * 0.8)
            return np.where(ends, 3.0 - 0.8 * ((y * 0.7) % 1), shaft)

        self.canvas.paint(box, self.trim * 0.96, height, "pillar")

    def deco(self, box, kind):
        """Relief: a round medallion or a panel with garlands."""
        width, tall = box[2] - box[0], box[3] - box[1]

        def height(x, y):
            u, v = 2 * x / width - 1, 2 * y / tall - 1
            if kind == "medallion":
                radius = np.sqrt(u**2 + v**2)
                return (
                    0.6
                    + 1.6 * np.exp(-(((radius - 0.82) / 0.16) ** 2))
                    + 2.2 * np.clip(1 - radius / 0.5, 0, 1)
                )
            garland = np.exp(
                -(((v - 0.5 + 1.1 * (1 - np.abs(np.sin(u * np.pi * 1.5)))) / 0.35) ** 2)
            )
            return 0.6 + 1.7 * garland + 1.2 * (np.maximum(np.abs(u) - 0.9, np.abs(v) - 0.8) > 0)

        shape = (
            (lambda x, y: (2 * x / width - 1) ** 2 + (2 * y / tall - 1) ** 2 <= 1)
            if kind == "medallion"
            else None
        )
        self.canvas.paint(box, self.trim * 0.97, height, "deco", shape)

    def blind(self, box):
        """A shutter with slats."""
        wide = box[2] - box[0]

        def height(x, y):
            return np.where((x < 0.8) | (x > wide - 0.8), 1.5, 0.7 + 0.5 * ((y / 1.6) % 1))

        self.canvas.paint(box, self.paint, height, "blind")

    def balcony(self, box):
        """A slab with a railing; what stands behind an iron railing shows through it."""
        (x0, y0, x1, y1), canvas = box, self.canvas
        width, slab = x1 - x0, 2.5
        canvas.mark(box, "balcony")
        canvas.paint((x0, y1 - slab, x1, y1), self.trim, lambda x, y: 7.5 - y)
        rail = {"iron": rgb(40, 42, 46), "stone": self.trim, "panel": self.paint}[self.railing]

        def bars(x, y):
            if self.railing == "panel":
                return (y < 0.9) | (y > 1.7)
            spacing, thick = (1.9, 0.65) if self.railing == "iron" else (3.2, 1.7)
            swell = 0.5 * np.sin(y * 1.1) if self.railing == "stone" else 0.0
            return (
                (y < 1.1)
                | (x < 0.9)
                | (x > width - 0.9)
                | (np.abs(x % spacing - spacing / 2) < (thick + swell) / 2)
            )

        canvas.paint((x0, y0, x1, y1 - slab), rail, 6.5, shape=bars)

    def door(self, box, rise):
        """Two wooden leaves with panels under a window, which glows when somebody is at home."""
        x0, y0, x1, y1 = box
        width, tall = x1 - x0, y1 - y0
        light = tall * 0.28
        grain = noise(self.rng, (64, 64), 16, 0.2)

        def height(x, y):
            u, v = (x / width * 2) % 1, ((y - light) / (tall - light) * 2) % 1
            panel = (np.minimum(u, 1 - u) > 0.18) & (np.minimum(v, 1 - v) > 0.12)
            return panel * 0.8 - 3.0 - 0.8 * (np.abs(x - width / 2) < 0.35)

        def wood(x, y):
            return (
                self.door_paint
                * (1 + 0.15 * grain[(y % 64).astype(int), (x * 3 % 64).astype(int)])[..., None]
            )

        shape = arch(width, rise)
        self.canvas.paint(box, wood, height, "door", shape)
        self.glass((x0, y0, x1, y0 + light), shape, (3, ()), 3.0, label=None)

    def shop(self, box):
        """A shop window with goods, a sign above it and sometimes a striped awning. All of it is
        labelled shop."""
        (x0, y0, x1, y1), rng = box, self.rng
        width, tall, sign = x1 - x0, y1 - y0, (y1 - y0) * 0.2
        paint = rgb(*rng.choice(PAINTS))
        self.canvas.paint(box, paint, 0.6, "shop")
        letters = noise(rng, (4, int(width) + 1), 1, 1, 1) > 0.05

        def lettering(x, y):
            inside = (np.abs(y - sign / 2) < sign * 0.22) & (np.abs(x - width / 2) < width * 0.3)
            return mix(
                paint,
                rgb(240, 214, 150),
                inside & letters[(y % 4).astype(int), np.minimum(x, width).astype(int)],
            )

        self.canvas.paint((x0, y0, x1, y0 + sign), lettering, 1.4)
        lit = rng.random() < 0.15 + 1.5 * self.light.lit
        self.glass(
            (x0 + 1.5, y0 + sign, x1 - 1.5, y1 - 4),
            None,
            (max(2, int(width / 14)), ()),
            2.5,
            None,
            lit,
        )
        for x in np.arange(x0 + 4, x1 - 6, 5.0):  # the goods in the window
            tall_goods = rng.uniform(2, tall * 0.22)
            goods = rgb(*rng.integers(60, 240, 3)) * 0.6
            self.canvas.paint(
                (x, y1 - 5 - tall_goods, x + rng.uniform(2, 4), y1 - 5),
                goods,
                -2.4,
                glow=goods * 0.35 * lit,
            )
        if rng.random() < 0.6:
            cloth = rgb(*rng.choice(PAINTS)) * 1.3

            def stripes(x, y):
                return mix(cloth, rgb(240, 234, 222), (x % 6 < 3) * 1.0)

            self.canvas.paint(
                (x0, y0 + sign, x1, y0 + sign + tall * 0.2), stripes, lambda x, y: 2 + y * 0.8
            )

    def raise_walls(self, x0, x1, top, ground):
        """The whole house between x0 and x1, from the eaves at `top` down to the street at
        `ground`."""
        rng = self.rng
        base = ground - int(rng.integers(36, 50))  # where the ground floor ends
        self.floors = max(1, round((base - top) / rng.uniform(28, 46)))
        edges = np.linspace(top, base, self.floors + 1).round().astype(int)
        self.columns = max(2, round((x1 - x0) / rng.uniform(24, 46)))
        self.bay = (x1 - x0) / self.columns
        centres = [x0 + self.bay * (column + 0.5) for column in range(self.columns)]
        self.roof_and_dormers(x0, x1, top)
        self.coat((x0, top, x1, ground))
        self.coat((x0, base, x1, ground), plinth=True)
        self.canvas.paint((x0, ground - 4, x1, ground), self.trim * 0.45, 0.8)

        self.choose_ornament()
        for floor, (upper, lower) in enumerate(pairwise(edges)):
            self.storey(x0, x1, floor, upper, lower, centres)
        if self.pillars == "corners":
            for x in (x0, x1 - 6):
                self.pillar((x, top, x + 6, base))
        if self.bands != "none":
            self.molding((x0, base - 2, x1, base + 3), 3.0)
        self.molding((x0, top - 2, x1, top + int(rng.integers(4, 8))), 5.0, rng.random() < 0.6)
        self.ground_floor(base + 3, ground, centres)

    def choose_ornament(self):
        """What this house has, the same on every floor or in every column."""
        rng = self.rng
        self.bands = rng.choice(["all", "first", "none"])
        self.pillars = rng.choice(["bays", "corners", "none", "none"]) if self.bay > 22 else "none"
        self.shutters = rng.random() < 0.3
        self.balconies = rng.choice(["middle", "sides", "every second", "long", "none"])
        self.ornament = rng.choice(["medallion", "garland", "garland", "none"])
        self.twin = self.bay > 36 and rng.random() < 0.6  # two windows side by side
        share = rng.uniform(0.28, 0.36) if self.twin else rng.uniform(0.36, 0.52)
        self.width = int(np.clip(self.bay * share, 7, 19))  # of a window
        self.rounded = [rng.random() < 0.22 for _ in range(self.floors)]
        self.hoods = [rng.random() < 0.55 for _ in range(self.floors)]

    def has_balcony(self, floor, column):
        from_middle, middle = abs(column - (self.columns - 1) / 2), (self.columns - 1) / 2
        columns = {
            "middle": from_middle < 1,
            "sides": from_middle == middle,
            "every second": column % 2 == 0,
        }
        return columns.get(self.balconies, False) and (floor + self.floors) % 2 == 0

    def storey(self, x0, x1, floor, upper, lower, centres):
        """One upper floor: everything between the heights `upper` and `lower`."""
        if self.pillars == "bays":
            for centre in centres[1:]:
                x = round(centre - self.bay / 2)
                self.pillar((x - 2, upper, x + 3, lower))
        long_balcony = self.balconies == "long" and floor == self.floors - 1
        for column, centre in enumerate(centres):
            self.window_bay(floor, column, centre, upper, lower, long_balcony)
        if long_balcony:
            left, right = round(centres[0] - self.bay * 0.4), round(centres[-1] + self.bay * 0.4)
            self.balcony((left, lower - round((lower - upper) * 0.34), right, lower - 1))
        if floor and self.bands == "all":
            self.molding((x0, upper - 2, x1, upper + 2), 2.0)

    def window_bay(self, floor, column, centre, upper, lower, long_balcony):
        """One window, or two, with all that belongs to it."""
        tall, width, balcony = lower - upper, self.width, self.has_balcony(floor, column)
        top, bottom = (
            round(upper + tall * 0.3),
            round(upper + tall * (0.95 if balcony or long_balcony else 0.82)),
        )
        for offset in (-width * 0.62, width * 0.62) if self.twin else (0,):
            left = round(centre + offset - width / 2)
            self.glass(
                (left, top, left + width, bottom),
                arch(width, width * 0.45) if self.rounded[floor] else None,
            )
            if self.shutters and not balcony and not self.twin:
                self.pair_of_shutters(left, top, left + width, bottom)
        reach = width / 2 + (width * 0.62 if self.twin else 0) + 1
        left, right = round(centre - reach), round(centre + reach)
        if self.hoods[floor] and not self.rounded[floor]:
            pointed = self.hood == "gable" or (self.hood == "both" and (floor + column) % 2 == 0)
            self.cornice((left - 1, top - (6 if pointed else 3), right + 1, top), pointed)
        if balcony:
            self.balcony((left - 2, bottom - round(tall * 0.32), right + 2, bottom))
        elif not long_balcony:
            self.sill((left, bottom, right, bottom + 2))
        if self.ornament == "garland" and not balcony and lower - bottom > 6:
            self.deco((left + 1, bottom + 2, right - 1, lower - 1), "garland")
        between = self.bay - 2 * reach  # how much wall there is between two windows
        if (
            self.ornament == "medallion"
            and self.pillars != "bays"
            and column
            and between > 9
            and not self.shutters
        ):
            x, y = round(centre - self.bay / 2), (top + bottom) // 2
            self.deco((x - 4, y - 4, x + 4, y + 4), "medallion")

    def pair_of_shutters(self, left, top, right, bottom):
        """Open beside the window, or closed over it."""
        if self.rng.random() < 0.12:
            middle = left + (right - left) // 2
            leaves = (left, right - middle), (middle, right - middle)
        else:
            leaf = max(3, round((right - left) * 0.45))
            leaves = (left - leaf, leaf), (right, leaf)
        for x, wide in leaves:
            self.blind((x, top, x + wide, bottom))

    def roof_and_dormers(self, x0, x1, top):
        """Above the eaves: tiles that lean back, labelled facade, sometimes with small windows in
        them, or nothing."""
        rng, rise = self.rng, int(self.rng.integers(14, 30))
        if 50 < x1 - x0 < 130 and rng.random() < 0.6:
            self.stepped_gable(x0, x1, top)
            return
        if rng.random() < 0.4 or top - rise < 6:
            return
        slant = rng.uniform(0.2, 0.9) if rng.random() < 0.7 else 0.0
        width = x1 - x0

        def tiles(x, y):
            return (
                self.roof
                * (0.9 + 0.12 * np.sin(y * 3.1) + 0.08 * np.sin(x * 2.1 + 3 * np.floor(y / 2)))[
                    ..., None
                ]
            )

        def shape(x, y):
            return (x > (rise - y) * slant) & (x < width - (rise - y) * slant)

        for chimney in rng.uniform(x0 + 20, x1 - 20, rng.integers(0, 4)).round():
            self.canvas.paint(
                (chimney, top - rise - 7, chimney + 6, top - rise + 4),
                rgb(140, 84, 66),
                1.0,
                "facade",
            )
        self.canvas.paint(
            (x0, top - rise, x1, top), tiles, lambda x, y: (y - rise) * 0.5, "facade", shape
        )
        if rng.random() < 0.6 and rise > 17:
            for column in range(self.columns):
                x = round(x0 + self.bay * (column + 0.5))
                if column % 2 == self.columns % 2 or self.columns < 5:
                    self.canvas.paint((x - 7, top - 16, x + 7, top - 2), self.trim, 2.0, "facade")
                    self.cornice((x - 8, top - 20, x + 8, top - 14), True)
                    self.glass((x - 4, top - 13, x + 4, top - 3), panes=(2, (0.5,)), recess=1.0)

    def stepped_gable(self, x0, x1, top):
        """The wall goes on above the eaves in steps, with a window and a medallion, as in Amsterdam
        and Gdańsk."""
        steps, high = int(self.rng.integers(3, 6)), 6
        wide, rise = (x1 - x0) / (2 * steps + 2), steps * high
        for step in range(steps):
            inset, y = round(wide * (step + 0.5)), top - (step + 1) * high
            self.coat((x0 + inset, y, x1 - inset, y + high))
            self.canvas.paint((x0 + inset, y - 1, x1 - inset, y + 1), self.trim, 1.5, "facade")
        middle = (x0 + x1) // 2
        self.glass((middle - 5, top - min(rise, 18), middle + 5, top - 4), arch(10, 4), (2, (0.5,)))
        if rise > 23:
            self.deco((middle - 4, top - 28, middle + 4, top - 20), "medallion")

    def ground_floor(self, top, ground, centres):
        """Shops or windows, and the door."""
        rng, width = self.rng, self.width
        entrance = int(rng.integers(len(centres))) if rng.random() < 0.5 else len(centres) // 2
        shops = rng.random() < 0.5
        rounded = rng.random() < 0.4
        tall, half = ground - top, round(min(self.bay * 0.36, 9))
        sill, high = round(top + tall * 0.68), round(min(tall - 5, 34))
        for column, centre in enumerate(centres):
            x = round(centre)
            if column == entrance:
                self.canvas.paint(
                    (x - half - 2, ground - high - 2, x + half + 2, ground), self.trim * 0.9, 1.2
                )
                self.door((x - half, ground - high, x + half, ground), half * rng.choice([0, 0.9]))
            elif shops:
                reach = round(self.bay * 0.45)
                self.shop((x - reach, top + 3, x + reach, ground - 1))
            else:
                left, shape = x - width // 2, arch(width, width * 0.5) if rounded else None
                self.glass((left, round(top + tall * 0.2), left + width, sill), shape)
                self.sill((left - 1, sill, left + width + 1, sill + 2))


def draw_sky(rng, shape, light):
    """Gradient and clouds, linear (h, w, 3)."""
    v = np.linspace(0, 1, shape[0])[:, None] * np.ones(shape[1])
    density = noise(rng, shape, shape[0] / 3, 2.2, 6) + rng.uniform(-0.5, 0.3)
    clouds = np.clip(density * 1.6, 0, 1) ** 0.8
    lit = np.clip(0.85 + 0.3 * (density - np.roll(density, -shape[0] // 30, 0)), 0.6, 1.1)
    return mix(
        mix(light.zenith, light.horizon, np.clip(v * 1.5, 0, 1) ** 0.8),
        light.clouds * lit[..., None],
        clouds,
    )


def draw_facade(*key):
    """One pair (256, 512, 3) uint8: the photo on the left, the labels on the right."""
    rng = generator(*key)
    light, canvas = LIGHTS[rng.choice(len(LIGHTS), p=[0.3, 0.22, 0.22, 0.12, 0.14])], Canvas()
    size = SIZE * SCALE
    sky, reflection = (draw_sky(rng, (size, size), light) for _ in range(2))
    canvas.paint((0, 0, SIZE, SIZE), 0.0, -6.0, glow=sky)
    ground = int(rng.integers(232, 244))
    stones = masonry(rng, "stone", rgb(150, 146, 142))[0]
    canvas.paint(
        (0, ground, SIZE, SIZE),
        stones[ground * SCALE :],
        lambda x, y: np.where(y < 5, 0.4, -0.6) - 0.4,
    )
    canvas.paint((0, ground + 5, SIZE, SIZE), rgb(84, 84, 88), -1.0)
    left, right = (int(rng.integers(14, 44)) if rng.random() < 0.4 else 0 for _ in range(2))
    top = int(rng.integers(26, 76))
    for x0, x1 in ((left - 110, left), (SIZE - right, SIZE - right + 110)):
        if x1 > 0 and x0 < SIZE:
            neighbour = Building(canvas, rng, light, reflection)
            neighbour.raise_walls(
                x0, x1, int(np.clip(top + rng.integers(-10, 60), 30, 130)), ground
            )
    walls = (
        np.linspace(left, SIZE - right, rng.choice([1, 2, 3], p=[0.6, 0.2, 0.2]) + 1)
        .round()
        .astype(int)
    )
    for x0, x1 in pairwise(walls):
        Building(canvas, rng, light, reflection).raise_walls(
            x0, x1, max(top + int(rng.integers(-14, 14)), 22), ground
        )
    photo = develop(rng, canvas.shade(light, rng.choice([-1, 1])))
    labels = np.array(list(PALETTE.values()), np.uint8)[canvas.labels]
    return np.hstack([photo, labels])


# --------------------------------------------------------------------------------------- landscapes

GRASS = [(104, 112, 62), (120, 122, 70), (88, 104, 60), (138, 130, 78)]
CROPS = [(178, 156, 88), (112, 118, 62), (148, 140, 82), (92, 104, 58), (166, 134, 80)]
LEAVES = [(62, 78, 44), (76, 88, 48), (54, 70, 48), (96, 96, 50), (128, 104, 52)]
ROCKS = [(112, 108, 106), (122, 112, 102), (100, 104, 112)]
FLOWERS = [(196, 62, 48), (222, 196, 84), (226, 222, 214), (150, 112, 170), (214, 138, 150)]


class Landscape:
    """One scene, as fields (n, n) or (n, n, 3) at SCALE from which each style makes its image.

    colour: linear reflectance of what is there; light: 0 in full shade to about 1.2 in full sun;
    texture: fine detail around 0; haze: 0 near to 1 far; thing: a number per object, for contours;
    sky: 1 where the sky is, also in water; cloud: 0..1; water: 1 on water; wisps: 0..1, veils high
    in the sky. grain, leaves and blades are noise that things take as texture.
    """

    def __init__(self, rng, light):
        self.rng, self.atmosphere, self.side = rng, light, rng.choice([-1, 1])
        size = SIZE * SCALE
        self.y, self.x = np.mgrid[0:size, 0:size].astype(np.float32) / SCALE
        self.colour = np.zeros((size, size, 3), np.float32)
        self.light, self.texture, self.haze, self.cloud, self.water = (
            np.zeros((size, size), np.float32) for _ in range(5)
        )
        self.thing, self.things = np.zeros((size, size), np.int32), 0
        self.sky = np.ones((size, size), np.float32)
        self.grain = noise(rng, (size, size), 5 * SCALE, octaves=3)
        self.leaves = noise(rng, (size, size), 2 * SCALE, octaves=2)
        self.wisps = np.clip(noise(rng, (size, size), 70 * SCALE, 2.5, 6) * 0.5, 0, 0.35)
        self.horizon = self.front = int(rng.integers(108, 158))
        near = np.clip((self.y - self.horizon) / 80, 0.15, 1.2)
        self.blades = near * (
            noise(rng, (size, size), 4 * SCALE, 0.3, 3)
            + 0.6 * noise(rng, (size, size), 14 * SCALE, 2, 3)
        )

        self.add_clouds()
        for ridge in range(rng.integers(0, 4)):
            self.add_mountains(0.62 - 0.16 * ridge, rng.uniform(20, 62) * (1 - 0.25 * ridge))
        for ridge in range(rng.integers(1, 3)):
            self.add_hill(0.3 - 0.1 * ridge, rng.uniform(4, 16))
        kind = rng.choice(["lake", "meadow", "fields", "river"])
        if kind in ("lake", "river"):
            self.add_village(self.horizon, 0.2)
            shore = rng.uniform(0.5, 0.7) if kind == "lake" else rng.uniform(0.25, 0.4)
            self.add_water(self.horizon, self.horizon + (SIZE - self.horizon) * shore)
        else:
            self.add_ground(
                self.horizon, GRASS if kind == "meadow" else CROPS, flowers=kind == "meadow"
            )
            self.add_village(self.horizon + rng.uniform(2, 14), 0.15)
            if rng.random() < 0.6:
                self.add_path()
        haystacks = rng.integers(2, 7) if kind == "fields" else 0
        grown = [
            (rng.uniform(self.front + 8, SIZE - 4), self.add_tree)
            for _ in range(rng.integers(2, 6))
        ]
        grown += [
            (rng.uniform(self.front + 14, SIZE - 18), self.add_haystack) for _ in range(haystacks)
        ]
        grown += [(SIZE + 6, self.add_tree)] * (rng.random() < 0.4)
        for y, add in sorted(grown, key=lambda item: item[0]):  # from the back to the front
            add(y)

    def add(self, mask, colour, light=1.0, texture=0.0, haze=0.0):
        """Puts a thing in front of what is there."""
        self.things += 1
        for field, value in (
            (self.light, light),
            (self.texture, texture),
            (self.haze, haze),
            (self.colour, colour),
        ):
            field[mask] = np.broadcast_to(value, field.shape)[mask]
        self.thing[mask] = self.things
        for field in (self.sky, self.cloud, self.water):
            field[mask] = 0

    def balls(self, centres, smooth=0.7):
        """Overlapping balls (x, y, radius), as clouds and leaves are: depth (n, n), 0 outside, and
        light by form."""
        depth = np.zeros_like(self.light)
        for x, y, radius in centres:
            where, dx, dy = Canvas.grid((x - radius, y - radius, x + radius, y + radius), SCALE)
            ball = np.sqrt(np.maximum(radius**2 - (dx - radius) ** 2 - (dy - radius) ** 2, 0))
            depth[where] = np.maximum(depth[where], ball)
        slope_y, slope_x = np.gradient(blur(depth, smooth * SCALE), 1 / SCALE)
        facing = (0.45 + 0.75 * slope_y - 0.5 * self.side * slope_x) / np.sqrt(
            1 + slope_x**2 + slope_y**2
        )
        return depth, np.clip(0.45 + 0.75 * facing, 0.1, 1.25)

    def ground_noise(self, horizon, detail):
        """Noise (n, n) that lies on the ground: fine at the horizon, coarse in front."""
        texture, below = noise(self.rng, (512, 512), 64), np.maximum(self.y - horizon, 0) + 7
        u, v = (self.x - SIZE / 2) / below * detail, np.log(below) * detail * 5
        row, column = (
            np.abs((place + 300).astype(int) % 1022 - 511) for place in (v * 2, u * 9)
        )  # there and back: no seams
        return texture[row, column]

    def ridge(self, base, high, cell):
        """A mask (n, n) of all that is below a line that wanders up to `high` pixels above `base`;
        that line (n,)."""
        line = base - high * (
            0.5 + 0.6 * noise(self.rng, (1, SIZE * SCALE), cell * SCALE, octaves=6)[0]
        )
        return self.y > line, line

    def add_clouds(self):
        """Heaps of balls on a flat base, larger towards the top of the image."""
        rng, centres = self.rng, []
        for _ in range(rng.integers(1, 5)):
            x, base, size = (
                rng.uniform(0, SIZE),
                rng.uniform(45, self.horizon - 12),
                rng.uniform(0.35, 1.25),
            )
            towers = rng.normal(0, 26, 4)
            for _ in range(140):
                away = rng.normal(rng.choice(towers), 11)
                up = rng.uniform(0, 46) * np.exp(-((away / 34) ** 2)) * rng.random() ** 0.4
                radius = rng.uniform(2.5, 8.5) * (1.2 - up / 60)
                centres.append(
                    (x + away * size, base - max(up, radius * 0.6) * size, radius * size)
                )
        depth, light = self.balls(centres, 2.2)
        self.light = light * np.clip(0.75 + 0.5 * blur(depth, 4 * SCALE) / 8, 0.7, 1.15)
        self.cloud = np.clip(depth / 2.5, 0, 1)
        self.thing[depth > 0.5] = 1
        self.things = 1

    def add_mountains(self, haze, high):
        rng, size = self.rng, SIZE * SCALE
        mask, line = self.ridge(self.horizon - 6, high, 60)
        relief = noise(rng, (size, size), 26 * SCALE, 0.7, 6) * 16
        slope_y, slope_x = np.gradient(relief, 1 / SCALE)
        light = np.clip(0.6 - 0.5 * self.side * slope_x + 0.25 * slope_y, 0.1, 1.2)
        rock = mix(
            rgb(*rng.choice(ROCKS)),
            rgb(*rng.choice(LEAVES)),
            np.clip((self.y - line) / max(high, 20), 0, 0.8),
        )
        if high > 38:
            snow = (self.y - line + relief * 0.8 < high * 0.3) & (line < self.horizon - high * 0.5)
            rock = mix(rock, rgb(236, 238, 244), snow.astype(np.float32))
        self.add(mask, rock, light, self.grain * 0.15, haze)

    def add_hill(self, haze, high):
        """A green hill with woods along its top."""
        rng = self.rng
        mask, line = self.ridge(self.horizon, high, 90)
        forest = [
            (x, line[int(x * SCALE)] + rng.uniform(-2, 2), rng.uniform(2, 5))
            for x in rng.uniform(0, SIZE - 1, 90)
        ]
        depth, light = self.balls(forest if rng.random() < 0.7 else forest[:12])
        woods = depth > 0
        self.add(mask, rgb(*rng.choice(GRASS)), 0.95, self.grain * 0.12, haze)
        self.add(
            woods, rgb(*rng.choice(LEAVES)), light * 0.9, self.grain * 0.2 + self.leaves * 0.3, haze
        )

    def add_ground(self, horizon, colours, flowers):
        rng = self.rng
        patches = np.clip((self.ground_noise(horizon, 4) + 0.9) * 2, 0, len(colours) - 1).astype(
            int
        )
        colour = np.array([rgb(*colour) for colour in colours])[patches]
        near = np.clip((self.y - horizon) / 70, 0, 1)
        texture = self.ground_noise(horizon, 22) * 0.12 + self.blades * 0.22
        light = 0.95 + 0.2 * np.clip(self.ground_noise(horizon, 3), -1, 0.5)
        self.add(self.y > horizon, colour, light, texture, 0.18 * (1 - near))
        if flowers:
            down = rng.random(rng.integers(150, 420)) ** 0.7 * (SIZE - horizon - 8) + 8
            spots = [(rng.uniform(0, SIZE), horizon + y, 0.35 + y / 75, 0.3 + y / 90) for y in down]
            self.add(self.discs(spots), rgb(*rng.choice(FLOWERS)), light + self.grain * 0.3, 0.0)

    def discs(self, spots):
        """Mask (n, n) of ellipses (x, y, half width, half height)."""
        mask = np.zeros(self.light.shape, bool)
        for x, y, across, tall in spots:
            where, dx, dy = Canvas.grid((x - across, y - tall, x + across, y + tall), SCALE)
            mask[where] |= ((dx - across) / across) ** 2 + ((dy - tall) / tall) ** 2 < 1
        return mask

    def polygon(self, *corners):
        """Mask (n, n) of a polygon."""
        image = Image.new("1", self.light.shape)
        ImageDraw.Draw(image).polygon([(x * SCALE, y * SCALE) for x, y in corners], fill=1)
        return np.asarray(image)

    def add_water(self, top, bottom):
        """Water from the horizon down to a near shore: the mirrored scene, pulled about by
        ripples."""
        rng = self.rng
        near = np.clip((self.y - top) / 60, 0, 1)
        ripples = self.ground_noise(top, 9)
        rows = np.clip((2 * top - self.y + ripples * 3 * near) * SCALE, 0, SIZE * SCALE - 1).astype(
            int
        )
        columns = np.clip((self.x + ripples * 4 * near) * SCALE, 0, SIZE * SCALE - 1).astype(int)
        colour, light, haze, sky, cloud = (
            field[rows, columns]
            for field in (self.colour, self.light, self.haze, self.sky, self.cloud)
        )
        mask = self.y > top
        self.add(mask, colour * 0.7, light * 0.85, ripples * 0.25 * near, haze * 0.8)
        self.sky[mask], self.cloud[mask], self.water[mask] = sky[mask], cloud[mask], 1
        for _ in range(rng.integers(0, 4)):
            self.add_boat(
                rng.uniform(20, 236),
                top + (bottom - top) * rng.uniform(0.15, 0.6),
                top,
                ripples > -0.15,
            )
        if rng.random() < 0.4:  # water lilies
            middle, down = rng.choice([70, 186]), rng.uniform(12, bottom - top, 50)
            pads = [(rng.normal(middle, 40), top + y, 1.4 + y / 13, 0.5 + y / 45) for y in down]
            self.add(self.discs(pads), rgb(104, 128, 74), 0.9 + self.grain * 0.15)
            self.add(
                self.discs([(x, y - tall, wide * 0.4, tall) for x, y, wide, tall in pads[::4]]),
                rgb(222, 160, 170),
                1.1,
            )
        line = (
            bottom
            + 7 * noise(rng, (1, SIZE * SCALE), 50 * SCALE)[0]
            + (self.x - 128) * rng.uniform(-0.15, 0.15)
        )
        self.add(
            self.y > line,
            rgb(*rng.choice(GRASS)),
            0.9 + 0.25 * self.ground_noise(top, 4),
            self.blades * 0.25,
        )
        self.front = bottom + 12

    def add_boat(self, x, y, horizon, unbroken):
        """A sailing boat, and under it its reflection, which the ripples break."""
        size = 3 + (y - horizon) / 6
        sail, hull = (
            rgb(*self.rng.choice([(238, 232, 216), (196, 104, 76), (220, 180, 116)])),
            rgb(*self.rng.choice(PAINTS)),
        )
        for down, dim, mask in ((-1, 0.5, unbroken), (1, 1.0, True)):
            deck, boom, mast, keel = (y - rise * size * down for rise in (0.1, 0.4, 3.4, -0.5))
            self.add(self.polygon((x, boom), (x, mast), (x + size, boom)) & mask, sail * dim, 0.8)
            self.add(
                self.polygon((x, boom), (x, mast), (x - 1.5 * size, boom)) & mask, sail * dim, 1.1
            )
            bow, stern = x + 1.7 * size, x - 1.6 * size
            self.add(
                self.polygon((stern, deck), (bow, deck), (x + size, keel), (x - size, keel)) & mask,
                hull * dim,
                0.9,
            )

    def add_village(self, ground, haze):
        """Houses in a group, some with a church among them, and bushes around."""
        rng, middle = self.rng, self.rng.uniform(40, 216)
        if rng.random() < 0.3:
            return
        bright, dark = (1.1, 0.55) if self.side > 0 else (0.55, 1.1)
        for _ in range(rng.integers(1, 7)):
            size, x, y = rng.uniform(3.5, 7), middle + rng.normal(0, 26), ground + rng.uniform(0, 3)
            left, right, eaves, top = x - size * 1.6, x + size * 0.9, y - size * 0.9, y - size * 1.9
            wall, roof, ridge = (
                rgb(*rng.choice(WALLS)),
                rgb(*rng.choice(ROOFS[:3])),
                ((x + right) / 2, top),
            )
            self.add(
                self.polygon((left, y), (left, eaves), (x, eaves), (x, y)), wall, dark, haze=haze
            )
            self.add(
                self.polygon((x, y), (x, eaves), ridge, (right, eaves), (right, y)),
                wall,
                bright,
                haze=haze,
            )
            slope = self.polygon((left - 0.4, eaves), (left + size * 0.35, top), ridge, (x, eaves))
            self.add(slope, roof, dark + 0.2, self.grain * 0.2, haze)
            for shift in (-1.25, -0.7, 0.45):
                window = (abs(self.x - x - shift * size) < size * 0.13) & (
                    abs(self.y - y + size * 0.5) < size * 0.2
                )
                self.add(window, rgb(52, 54, 62), 0.8, haze=haze)
        if rng.random() < 0.4:  # a church tower
            x, y, light = middle, ground - 24, 0.6 + 0.4 * (self.x > middle)
            self.add(
                (abs(self.x - x) < 3) & (self.y > y) & (self.y < ground + 2),
                rgb(206, 196, 178),
                light,
                haze=haze,
            )
            self.add(
                self.polygon((x - 4, y), (x, y - 14), (x + 4, y)), rgb(84, 88, 96), light, haze=haze
            )
        bushes = [
            (middle + rng.normal(0, 34), ground + rng.uniform(-1, 4), rng.uniform(1.5, 4))
            for _ in range(30)
        ]
        depth, light = self.balls(bushes)
        self.add(
            depth > 0, rgb(*rng.choice(LEAVES)), light, self.grain * 0.2 + self.leaves * 0.3, haze
        )

    def add_path(self):
        """A sandy path that winds from the front to the horizon."""
        rng, down = self.rng, np.clip((self.y - self.horizon) / (SIZE - self.horizon), 0, 1)
        bends = 26 * np.sin(6 / (down + 0.35) + rng.uniform(0, 6)) * down**0.5
        middle = rng.uniform(70, 186) + 60 * down * rng.uniform(-1, 1) + bends
        mask = (np.abs(self.x - middle + self.grain * 2 * down) < 1 + 22 * down**1.3) & (down > 0)
        self.add(
            mask,
            rgb(186, 164, 124),
            1.0,
            self.ground_noise(self.horizon, 22) * 0.2,
            0.1 * (1 - down),
        )

    def cast_shadow(self, x, y, across):
        """Darkens the ground beside something that stands at (x, y)."""
        distance = ((self.x - x + self.side * across * 0.7) / (across * 1.5)) ** 2 + (
            (self.y - y) / (across * 0.3)
        ) ** 2
        self.light *= 1 - 0.6 * np.clip(2 - 2 * distance, 0, 1) * (self.y > self.horizon)

    def add_haystack(self, y):
        x = self.rng.uniform(15, 241)
        size = 3 + (y - self.horizon) * 0.17
        self.cast_shadow(x, y, size)
        outline = ((-1, 0), (-0.9, 1), (0, 1.9), (0.9, 1), (1, 0))
        body = self.polygon(*((x + size * across, y - size * up) for across, up in outline))
        round_light = np.clip(0.75 + 0.5 * self.side * (self.x - x) / size, 0.2, 1.2)
        self.add(body, rgb(196, 162, 88), round_light, self.grain * 0.25)

    def add_tree(self, y):
        """A broad tree, a poplar or a fir. They stand on the ground at the sides more than in the
        middle."""
        rng, kind = self.rng, self.rng.choice(["broad", "broad", "poplar", "fir"])
        x = 128 + rng.choice([-1, 1]) * 128 * rng.beta(2.5, 1.2)
        tall = (14 + (y - self.horizon) * 0.75) * rng.uniform(0.8, 1.3)
        self.cast_shadow(x, y, tall * (0.35 if kind == "broad" else 0.15))
        thick, bark = tall * 0.03, 0.7 + 0.4 * self.side * np.sign(self.x - x)
        trunk = self.polygon(
            (x - thick, y),
            (x - thick * 0.6, y - tall * 0.7),
            (x + thick * 0.6, y - tall * 0.7),
            (x + thick, y),
        )
        self.add(trunk, rgb(82, 66, 52), bark, self.grain * 0.2)
        balls = []
        for _ in range({"broad": 130, "poplar": 140, "fir": 150}[kind]):
            up, spin = rng.random(), rng.uniform(-1, 1)
            if kind == "broad":
                place = (
                    0.36 * spin * np.sqrt(1 - (2 * up - 1) ** 2 * 0.9),
                    0.32 + 0.62 * up,
                    rng.uniform(0.03, 0.085),
                )
            elif kind == "poplar":
                place = (0.1 * spin * (1.1 - up), 0.13 + 0.85 * up, rng.uniform(0.018, 0.04))
            else:
                place = (
                    0.2 * spin * (1.02 - up) * (1.2 - (up * 6) % 1 * 0.5),
                    0.12 + 0.86 * up,
                    0.014 + 0.03 * (1 - up),
                )
            balls.append((x + place[0] * tall, y - place[1] * tall, place[2] * tall))
        depth, light = self.balls(balls, 1.2)
        leaves = (depth > 0) & (depth + self.grain * 3 + self.leaves * 1.5 > 1.2)
        sunny = (
            0.5 * self.side * (self.x - x) / tall - 0.5 * (self.y - y + tall * 0.6) / tall
        )  # the upper side by the sun
        light = light * np.clip(0.75 + sunny, 0.4, 1.15)
        self.add(leaves, rgb(*rng.choice(LEAVES)), light, self.grain * 0.3 + self.leaves * 0.5)

    def sky_depth(self):
        """Where the sky is seen, directly or in the water: 0 at the zenith to 1 at the horizon, (n,
        n)."""
        depth = self.y / self.horizon
        return np.clip(np.where(self.water > 0, 2 - depth, depth), 0, 1)


def as_photo(scene, rng):
    """A landscape as a camera sees it (256, 256, 3) uint8: soft clouds, fine texture, haze."""
    air = scene.atmosphere
    light = scene.light * (1 + scene.texture)
    image = scene.colour * (air.ambient + air.sun * np.clip(light, 0, None)[..., None])
    image = mix(image, air.horizon * 0.85, scene.haze)
    sky = mix(mix(air.zenith, air.horizon, scene.sky_depth() ** 1.2), air.clouds, scene.wisps)
    ragged = np.clip(
        blur(scene.cloud, 2.5 * SCALE) * 1.3
        + 0.35 * scene.grain * (blur(scene.cloud, 4 * SCALE) > 0.05),
        0,
        1,
    )
    sky = mix(sky, air.clouds * (0.45 + 0.55 * blur(scene.light, 2 * SCALE))[..., None], ragged)
    sky = sky * np.where(scene.water > 0, 0.7 * (1 + scene.texture), 1)[..., None]
    return develop(rng, mix(image, sky * 0.9, scene.sky) * 0.74, grain=0.01)


def vivid(colour, strength):
    """Linear light to sRGB 0..1 with the colours pulled away from grey."""
    colour = np.clip(colour, 0, 1) ** (1 / 2.2)
    grey = colour.mean(-1, keepdims=True)
    return grey + (colour - grey) * strength


def as_anime(scene, rng):
    """The same as the background of an animated film: flat colours in three tones, white clouds,
    dark outlines."""
    air = scene.atmosphere
    tone = scene.light + 0.3 * scene.texture
    step = (np.clip((tone - 0.55) * 9, 0, 1) + np.clip((tone - 0.95) * 9, 0, 1)) / 2
    shade = mix(np.array([0.54, 0.67, 0.78]), np.array([1.36, 1.33, 1.12]), step)
    base = vivid(scene.colour, 1.6) + 0.1
    green = np.clip(0.6 + (base[..., 1] - base[..., 0]) * 6, 0, 1)
    image = (
        mix(base, base * np.array([0.84, 1.2, 0.9]), green)
        * shade
        * (air.sun / air.sun.max()) ** 0.2
    )
    image = mix(image, vivid(air.horizon, 1.5) * np.array([0.82, 0.95, 1.0]), scene.haze * 0.9)
    zenith = vivid(air.zenith, 1.25) * np.array([0.75, 1.15, 1.05]) + 0.14
    sky = mix(zenith, vivid(air.horizon, 1.3) + 0.11, scene.sky_depth() ** 1.3)
    sky = mix(sky, np.ones(3), 0.4 * np.clip((scene.wisps - 0.12) * 15, 0, 1))
    lit = (
        np.clip((scene.light - 0.62) * 7, 0, 1) * 0.5 + np.clip((scene.light - 0.9) * 7, 0, 1) * 0.5
    )
    clouds = mix(mix(vivid(air.zenith, 1.2), np.ones(3), 0.55), np.array([1.0, 0.995, 0.97]), lit)
    sky = mix(sky, clouds, (scene.cloud > 0.25).astype(np.float32))
    glitter = np.array([0.72, 0.9, 0.95]) * (1 + 0.2 * (scene.texture > 0.12))[..., None]
    sky = np.where(scene.water[..., None] > 0, sky * glitter, sky)
    image = mix(image, sky, scene.sky)
    outline = np.zeros(scene.sky.shape, bool)
    outline[1:] |= scene.thing[1:] != scene.thing[:-1]
    outline[:, 1:] |= scene.thing[:, 1:] != scene.thing[:, :-1]
    outline &= (scene.sky < 1) | (scene.water > 0)
    line = blur(outline.astype(np.float32), 0.55) * 1.6 * (1 - 0.8 * scene.haze)
    image = image * (1 - 0.62 * np.clip(line, 0, 1))[..., None]
    return eight_bit(shrink(image, AVERAGED))


def as_painting(scene, rng):
    """The same in the manner of Monet: pastel light, violet shadows, strokes of broken colour that
    follow the forms."""
    photo = as_photo(scene, rng).astype(np.float32) / 255
    grey = photo.mean(2)
    palette = vivid(photo**2.2, 1.7) * 0.78 + 0.27
    palette = mix(palette, np.array([0.46, 0.42, 0.78]), 0.6 * np.clip(1 - grey * 1.8, 0, 1))
    palette = mix(palette, np.array([1.0, 0.92, 0.80]), 0.4 * np.clip(grey * 2 - 0.9, 0, 1))
    slope_y, slope_x = np.gradient(blur(grey, 3))
    along = np.arctan2(slope_x, -slope_y)
    weak = np.hypot(slope_x, slope_y) < 0.012
    water, sky = (shrink(field, SCALE) > 0.5 for field in (scene.water, scene.sky))
    along = np.where(weak, 0.5 * noise(rng, grey.shape, 60), along)
    along = np.where(water, 0.0, np.where(sky & weak, 0.35, along))
    canvas = Image.fromarray(eight_bit(blur(palette, 6))).resize((2 * SIZE, 2 * SIZE))
    relief = Image.new("L", canvas.size, 128)
    draw, draw_relief = ImageDraw.Draw(canvas), ImageDraw.Draw(relief)
    for count, length, width in ((1200, 20, 16), (3000, 14, 10), (5000, 9, 6)):
        colours = blur(palette, width / 8)
        for x, y in rng.uniform(0, SIZE, (count, 2)):
            angle = along[int(y), int(x)] + rng.normal(0, 0.25)
            colour = colours[int(y), int(x)] + rng.normal(0, 0.02) + rng.normal(0, 0.03, 3)
            dx, dy = np.array([np.cos(angle), np.sin(angle)]) * length * rng.uniform(0.6, 1.2)
            ends = (2 * x - dx, 2 * y - dy, 2 * x + dx, 2 * y + dy)
            draw.line(ends, tuple(eight_bit(colour).tolist()), width)
            draw_relief.line(ends, int(rng.integers(70, 190)), width)
    slope_y, slope_x = np.gradient(blur(np.asarray(relief, np.float32) / 255, 0.8))
    painting = (
        np.asarray(canvas, np.float32) / 255
        + (np.clip(slope_y + slope_x, -0.2, 0.2) * 0.3)[..., None]
    )
    return eight_bit(shrink(painting, 2))


# ----------------------------------------------------------------------------------------- the sets


def draw_landscape(style):
    """A function that draws one unpaired image: (256, 256, 3) uint8.

    testA and testB show the same scenes by name, so that a translation can be measured; trainA and
    trainB share none.
    """

    def draw(seed, name, folder, index):
        scene = folder if folder.startswith("train") else "test"
        rng = generator(seed, name, scene, index)
        light = LIGHTS[rng.choice(len(LIGHTS), p=[0.36, 0.3, 0.2, 0.1, 0.04])]
        return style(Landscape(rng, light), generator(seed, name, folder, index, "style"))

    return draw


def unpaired(style_a, style_b):
    a, b = draw_landscape(style_a), draw_landscape(style_b)
    return {"trainA": (40, a), "trainB": (40, b), "testA": (10, a), "testB": (10, b)}


def large(draw):
    """The same drawing, three times as large a side, without its upper and lower sixth: (512, 768,
    3) uint8."""

    def draw_large(*key):
        global SCALE, AVERAGED
        SCALE, AVERAGED = 6, 2
        try:
            return draw(*key)[128:-128]
        finally:
            SCALE, AVERAGED = 3, 3

    return draw_large


SETS = {  # for each set: its folders, how many images lie there and what draws one
    "facades": {"train": (40, draw_facade), "val": (10, draw_facade)},
    "monet2photo": unpaired(as_painting, as_photo),
    "miyazaki": unpaired(as_photo, as_anime),
    "hd": {
        folder: (2 if "test" in folder else 6, large(draw))
        for folder, (_, draw) in unpaired(as_photo, as_anime).items()
    },
}


def images(name, seed=0):
    """Maps each image of a set, such as "train/1.jpg", to the function that draws it: (h, w, 3)
    uint8."""
    return {
        f"{folder}/{index}.jpg": partial(draw, seed, name, folder, index)
        for folder, (count, draw) in SETS[name].items()
        for index in range(1, count + 1)
    }


def save(image, path, name):
    """Writes an (h, w, 3) uint8 image as JPEG. Labels need full colour resolution, else their edges
    bleed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = (
        {"quality": 88, "subsampling": "4:4:4"}
        if name == "facades"
        else {"quality": 87, "subsampling": "4:2:0"}
    )
    Image.fromarray(image).save(path, format="JPEG", optimize=True, **options)


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Draw the small data sets in samples/.")
    parser.add_argument("names", nargs="+", metavar="NAME", help=" | ".join(SETS))
    parser.add_argument("--output_dir", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument(
        "--seed", type=int, default=0, help="another seed draws other images (default 0)"
    )
    # one line, without the usage
    parser.error = lambda message: parser.exit(2, f"error: {message}\n")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in SETS:
            parser.error(f"there is no set {name}; choose from {', '.join(SETS)}")
    for name in options.names:
        drawings = images(name, options.seed)
        try:
            for path, draw in tqdm(drawings.items(), unit=" images", disable=None):
                save(draw(), options.output_dir / name / path, name)
        except OSError as error:
            where = error.filename or options.output_dir
            parser.error(f"{where}: {error.strerror}; make room, or choose another --output_dir")
        print(f"{name}: {len(drawings)} images in {options.output_dir / name}")


if __name__ == "__main__":
    main()
