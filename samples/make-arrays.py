"""Makes data sets of arrays to try the scripts on: slices of heads, land from above, depth.

    python samples/make-arrays.py mri2ct       # uint16 PNG => int16 .npy, Hounsfield units
    python samples/make-arrays.py bands2rgb    # uint16 .npy of 4 bands => 8-bit RGB
    python samples/make-arrays.py depth2rgb    # uint16 PNG in millimetres => 8-bit RGB

Each makes a folder of its name with trainA, trainB, testA and testB, whose files of equal names
show the same thing. All is drawn by a random generator, whose seed decides; nothing shows a real
head or place. docs/data-types.md trains on them.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 128  # pixels


def smooth_noise(random, cells):
    """A smooth random field [SIZE, SIZE] of about `cells` hills along a side, in [0, 1]."""
    coarse = Image.fromarray(np.float32(random.random([cells + 1, cells + 1])))
    field = np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    return np.clip(field, 0, 1)


def inside_ellipse(y, x, height, width, angle=0.0):
    """Which pixels lie in an ellipse around (y, x), in parts of the image: bool [SIZE, SIZE]."""
    rows, columns = np.mgrid[:SIZE, :SIZE] / SIZE
    down, right = rows - y, columns - x
    along = down * np.cos(angle) + right * np.sin(angle)
    across = right * np.cos(angle) - down * np.sin(angle)
    return (along / height) ** 2 + (across / width) ** 2 < 1


# ------------------------------------------------------------------------------------------- mri2ct

TISSUES = {  # (MR signal, CT number in Hounsfield units)
    "air": (0, -1000),
    "skin": (2900, -90),
    "bone": (250, 1250),
    "grey matter": (1500, 37),
    "white matter": (2050, 28),
    "fluid": (650, 8),
    "calcified": (420, 320),
}


def draw_head(random):
    """The tissues of a slice through a head: their names, [SIZE, SIZE]."""
    y, x = random.uniform(0.47, 0.53, 2)
    height, width = random.uniform(0.38, 0.44), random.uniform(0.30, 0.36)
    tissues = np.full([SIZE, SIZE], "air", dtype="U12")
    for name, part in (("skin", 1.0), ("bone", 0.93), ("grey matter", 0.83)):
        tissues[inside_ellipse(y, x, height * part, width * part)] = name
    brain = inside_ellipse(y, x, height * 0.78, width * 0.78)
    folds = smooth_noise(random, 9) > 0.45
    tissues[brain & folds] = "white matter"
    for side in (-1, 1):
        angle = side * random.uniform(0.1, 0.5)
        place = x + side * random.uniform(0.03, 0.06)
        ventricle = inside_ellipse(y, place, random.uniform(0.06, 0.12), 0.025, angle)
        tissues[ventricle] = "fluid"
    for _ in range(random.integers(0, 4)):
        spot_y, spot_x = y + random.uniform(-0.2, 0.2), x + random.uniform(-0.15, 0.15)
        tissues[brain & inside_ellipse(spot_y, spot_x, 0.02, 0.02)] = "calcified"
    return tissues


def mri2ct(random):
    """A slice as MR, uint16 of 12 bits, uneven and noisy, and as CT, int16 in Hounsfield units."""
    tissues = draw_head(random)
    signal = np.zeros([SIZE, SIZE])
    number = np.zeros([SIZE, SIZE])
    for name, (mr, ct) in TISSUES.items():
        signal[tissues == name] = mr
        number[tissues == name] = ct
    signal *= 0.85 + 0.3 * smooth_noise(random, 2)  # as coils see it
    signal += random.normal(0, 30, signal.shape)
    number += random.normal(0, 4, number.shape)
    return np.uint16(np.clip(signal, 0, 4095)), np.int16(np.rint(number))


# ---------------------------------------------------------------------------------------- bands2rgb

LAND = {  # reflectance of blue, green, red and near infrared, in parts of 10,000
    "water": (700, 600, 400, 150),
    "wood": (300, 500, 350, 3200),
    "meadow": (450, 900, 600, 4100),
    "soil": (900, 1300, 1800, 2500),
    "roofs": (1500, 1700, 2100, 2300),
}


def bands2rgb(random):
    """Land under haze in four bands, uint16, and without haze in red, green and blue, uint8."""
    height = smooth_noise(random, 4)
    limits = np.quantile(height, [0.2, 0.45, 0.7, 0.9])
    cover = np.digitize(height, limits)
    bands = np.array(list(LAND.values()), float)[cover]  # [SIZE, SIZE, 4]
    bands *= 1 + 0.12 * random.normal(size=[SIZE, SIZE, 1])
    clear = np.clip(bands[..., [2, 1, 0]] / 2400, 0, 1) ** 0.6
    haze = 1400 * smooth_noise(random, 2)[..., None] * np.array([1.0, 0.7, 0.45, 0.1])
    hazy = bands * 0.8 + haze
    return np.uint16(np.clip(hazy, 0, 10000)), np.uint8(np.rint(clear * 255))


# ---------------------------------------------------------------------------------------- depth2rgb


def depth2rgb(random):
    """Balls in front of a wall: their distance in millimetres, uint16, and how they look, uint8."""
    rows, columns = np.mgrid[:SIZE, :SIZE] / SIZE
    depth = 4000 - 800 * rows
    for _ in range(random.integers(3, 7)):
        y, x = random.uniform(0.1, 0.9, 2)
        radius = random.uniform(0.08, 0.22)
        distance = random.uniform(1500, 3000)
        square = radius**2 - (rows - y) ** 2 - (columns - x) ** 2
        front = distance - 4000 * np.sqrt(np.maximum(square, 0))
        depth = np.where((square > 0) & (front < depth), front, depth)
    slope_y, slope_x = np.gradient(depth)
    light = np.clip(0.75 - (slope_x + slope_y) / 600, 0.15, 1)[..., None]
    near = np.clip((depth - 700) / 3300, 0, 1)[..., None]
    colour = near * np.array([0.35, 0.5, 0.8]) + (1 - near) * np.array([1.0, 0.55, 0.25])
    return np.uint16(np.rint(np.maximum(depth, 1))), np.uint8(np.rint(colour * light * 255))


KINDS = {"mri2ct": mri2ct, "bands2rgb": bands2rgb, "depth2rgb": depth2rgb}


def save(array, path):
    """Writes a picture or 16-bit grey as PNG, all else as .npy."""
    if array.dtype == np.uint8 or (array.dtype == np.uint16 and array.ndim == 2):
        Image.fromarray(array).save(path.with_suffix(".png"))
    else:
        np.save(path.with_suffix(".npy"), array)


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", choices=KINDS, help="what to draw")
    parser.add_argument("--output_dir", type=Path, help="folder to make (that of the kind's name)")
    parser.add_argument("--train", type=int, default=200, help="pairs to train on (200)")
    parser.add_argument("--test", type=int, default=20, help="pairs to test on (20)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed draws the same (0)")
    args = parser.parse_args()
    folder = args.output_dir or Path(args.kind)
    for number_of_split, (split, count) in enumerate((("train", args.train), ("test", args.test))):
        for domain in ("A", "B"):
            (folder / f"{split}{domain}").mkdir(parents=True, exist_ok=True)
        for number in range(count):
            random = np.random.default_rng([args.seed, number_of_split, number])
            for domain, array in zip("AB", KINDS[args.kind](random), strict=True):
                save(array, folder / f"{split}{domain}" / f"{number + 1:03}")
    print(f"{folder}: {args.train} pairs to train on, {args.test} to test on")


if __name__ == "__main__":
    main()
