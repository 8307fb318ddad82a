"""No command: what tools know of images: reading one, as the algorithms do, and finding them in
folders."""

import collections
import contextlib
import hashlib
import os
import re
import sys
import unicodedata
from pathlib import Path

import numpy as np
from common import UserError
from PIL import Image, ImageOps, UnidentifiedImageError

# >>> reader: the same in all algorithm files and tools/images.py (tools/fix_copies.py)
IMAGE_TYPES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".avif", ".heic", ".heif",
)
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "AVIF")  # Pillow runs programs for others
MOST_PIXELS = 2**29  # 1.5 GiB of RGB
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is lower than that of maps and panoramas


def read_image(path, size=None):
    """Reads an image file, uint8 RGB [h, w, 3], resized to `size`, (height, width), if given.

    Its pixels are those of Pillow: upright by its EXIF data, with transparency over white, of an
    animation the first frame, 16-bit grey scaled to 8 bits. The content tells the format, whatever
    the name. Raises UserError.
    """
    image = open_image(path)
    if size is not None:
        image = resize_image(image, size)
    return np.asarray(image)


def open_image(path):
    """Path => RGB image of Pillow, as read_image() describes it. Raises UserError."""
    try:
        with open_file(path) as image:
            image.filename = ""  # or Pillow maps TIFF into memory, and misreads one to be turned
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise UserError(f"{width}x{height} are more than {MOST_PIXELS // 10**6} "
                                "megapixels: resize it or cut it into parts")
            image.load()
            return convert_to_rgb(turn_upright(image), path)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # the decoders raise a dozen types
        raise UserError(f"{path} cannot be read as an image ({describe_fault(path, error)})"
                        ": repair or remove it") from None


def describe_fault(path, error):
    """Why an image cannot be read, in a few words."""
    if os.path.islink(path) and not os.path.exists(path):
        return "a link to a file that is not there"
    if isinstance(error, UnidentifiedImageError):
        return "damaged, or another format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"damaged: {' '.join(str(error).split()) or type(error).__name__}"


def open_file(path):
    """Opens an image with Pillow, HEIC with the optional package pillow-heif."""
    try:
        return Image.open(path, formats=FORMATS)
    except UnidentifiedImageError:
        with open(path, "rb") as file:
            start = file.read(12)
        if start[4:8] != b"ftyp" or start[8:] not in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
            raise
    try:
        import pillow_heif
    except ImportError:
        raise UserError("to read HEIC, pip install pillow-heif, or save it as JPEG") from None
    pillow_heif.register_heif_opener()
    return Image.open(path)


def turn_upright(image):
    """Turns a loaded image as its EXIF data say, wherever they stand in the file."""
    with contextlib.suppress(Exception):  # broken EXIF data are no reason to refuse an image
        ImageOps.exif_transpose(image, in_place=True)
    return image


def convert_to_rgb(image, path):
    """Image of Pillow in any mode => in RGB, with transparency over white. Raises UserError."""
    if image.mode.startswith("I;16"):
        return grey_to_rgb(image, path)
    if image.mode in ("I", "F"):
        raise UserError("values of 32 bits, or below 0, have no agreed white: save it with 8 or 16 "
                        "bits")
    if image.format == "TIFF":
        check_bands(image)
    if image.mode == "La":  # multiplied by its transparency
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    if image.mode != "RGB":  # or it would be copied
        image = image.convert("RGB")
    return image


def check_bands(image):
    """Raises UserError for a TIFF image with more bands than colours and transparency."""
    bands = image.tag_v2.get(277, 1)  # SamplesPerPixel
    extra, *_ = image.tag_v2.get(338, (0,))  # ExtraSamples: what those after the colours are
    known = len(image.getbands())
    if image.mode == "RGBA" and extra == 0:
        known = 3
    if bands > known:
        place = {2: "second", 4: "fourth"}.get(known + 1, "last")
        raise UserError(f"it has {bands} bands, and the {place} is not transparency: save it "
                        "without")


def grey_to_rgb(image, path):
    """16-bit grey => RGB: Pillow would clip the values at 255. Warns where they fill little of the
    range, as those of many cameras and scanners do."""
    values = np.asarray(image)
    if image.format == "TIFF" and image.tag_v2.get(262) == 0:  # white is zero
        values = 65535 - values
    grey = np.uint8(np.round(values / 257))
    transparent = image.info.get("transparency")
    if transparent is not None:
        grey[values == transparent] = 255
    brightest = int(values.max())
    if 0 < brightest < 6554:
        warn_once("dark", f"{path}: the brightest of its 16-bit values is {brightest} of 65535, "
                          "so that it is nearly black: multiply them")
    return Image.fromarray(grey).convert("RGB")


def resize_image(image, size):
    """RGB image of Pillow => resized to (height, width), bicubic, first the width."""
    height, width = size
    for step in ((width, image.height), (width, height)):  # Pillow 13 may take the height first
        image = image.resize(step, Image.Resampling.BICUBIC)
    return image


def resize(image, size):
    """uint8 [h, w, 3] => uint8 [size[0], size[1], 3], as resize_image()."""
    return np.asarray(resize_image(Image.fromarray(image), size))


def warn_once(kind, text):
    """Prints the first warning of a kind."""
    if kind not in WARNED:
        WARNED.add(kind)
        print(f"warning: {text}", file=sys.stderr)


WARNED = set()  # the kinds of warnings that were printed


def is_image(path):
    """Whether a file, or a link, has the name of an image, and is not hidden."""
    is_named = path.name.lower().endswith(IMAGE_TYPES) and not path.name.startswith(".")
    is_broken_link = path.is_symlink() and not path.exists()  # reading it says so
    return is_named and (path.is_file() or is_broken_link)


def natural_order(path):
    """Sort key that puts 2.png before 10.png."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if part.isdecimal() else part.lower() for part in parts]


def unique_names(paths):
    """Names for the results of files: without extension where that is enough to tell them apart,
    and short enough for a file system that takes 255 bytes."""
    counts = collections.Counter(path.stem for path in paths)
    names = [path.stem if counts[path.stem] == 1 else path.name for path in paths]
    if len(set(names)) < len(names):  # a.jpg, a.png and a.jpg.png
        names = [path.name for path in paths]
    return [shorten(name) for name in names]


def shorten(name, most=180):
    """A name of over `most` bytes => its beginning and a hash of the whole."""
    contents = os.fsencode(name)
    if len(contents) <= most:
        return name
    digest = hashlib.sha256(contents).hexdigest()[:12]
    return contents[: most - 13].decode(errors="ignore") + "~" + digest
# <<< reader


def find_images(folder):
    """The image files directly in a folder, in natural order. Raises UserError if there is no
    folder or no image."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give a folder of images")
    paths = [path for path in folder.iterdir() if is_image(path)]
    if not paths:
        raise UserError(f"{folder} holds no images ({', '.join(IMAGE_TYPES)})")
    return sorted(paths, key=natural_order)


def name_of(stem):
    """The stem of a file => the name by which its results and its counterparts go: short enough for
    every file system, and the same however its Unicode is composed (macOS writes NFD, other systems
    NFC)."""
    return shorten(unicodedata.normalize("NFC", stem))


def by_stem(folder):
    """{name: path} of the images of a folder, in natural order. For names see name_of()."""
    paths = {}
    for path in find_images(folder):
        name = name_of(path.stem)
        if name in paths:
            raise UserError(
                f"{paths[name]} and {path} would both become {name}; rename or remove one"
            )
        paths[name] = path
    return paths


def images_of(folder, kind="outputs"):
    """{name: path}: NAME-outputs.png of a test (its --output_dir, or images/ in it), of other
    folders all by stem."""
    folder = Path(folder)
    end = f"-{kind}.png"
    if (folder / "checkpoint").exists():
        raise UserError(
            f"{folder} is of a training; give the folder of a test (--mode test --checkpoint "
            f"{folder})"
        )
    if not is_test(folder):
        return by_stem(folder)
    inside = folder if folder.name == "images" else folder / "images"
    found = {}
    for path in sorted(inside.glob(f"*{end}"), key=natural_order):
        found[name_of(path.name.removesuffix(end))] = path
    if found:
        return found
    if inside is not folder or any(inside.glob("*-outputs.png")):
        raise UserError(
            f"{inside} holds no *{end}; give two folders, or that of a test with {kind}"
        )
    return by_stem(folder)


def is_test(folder):
    """Whether a folder is the --output_dir of a test, or the images/ in it."""
    return folder.name == "images" or (folder / "images").is_dir()


def check_pairs(a, b, a_dir, b_dir):
    """Raises UserError unless {name: path} of two folders have the same names."""
    alone = [str(path) for name, path in a.items() if name not in b]
    alone += [str(path) for name, path in b.items() if name not in a]
    if alone:
        raise UserError(
            f"{a_dir} and {b_dir} do not match: {len(alone)} without a counterpart: "
            f"{first_ten(alone)}"
        )


def first_ten(items):
    """The first ten of some things as a text, and how many more there are."""
    items = list(items)
    more = f" and {len(items) - 10} more" if len(items) > 10 else ""
    return ", ".join(map(str, items[:10])) + more
