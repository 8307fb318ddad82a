"""No command: what tools know of images: reading one, as the algorithms do, and finding them in
folders."""

import collections
import contextlib
import hashlib
import io
import os
import re
import sys
import unicodedata
import warnings
from pathlib import Path

import numpy as np
from common import UserError
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

# >>> reader: the same in all algorithm files and tools/images.py (tools/fix_copies.py)
IMAGE_TYPES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".avif", ".heic", ".heif",
    ".npy",
)
ARRAY_TYPES = ("uint8", "uint16", "int16", "float32")
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "AVIF")  # Pillow runs programs for some
MOST_PIXELS = 2**29  # 1.5 GiB of RGB
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is lower than that of maps and panoramas


def read_image(path, size=None):
    """Reads an image file, uint8 RGB [h, w, 3], resized to `size`, (height, width), if given.

    It has the pixels that Pillow gives: upright by its EXIF data, with transparency over white, of
    an animation the first frame, 16-bit grey scaled to 8 bits. The content tells the format,
    whatever the name. Raises UserError.
    """
    image = open_image(path)
    if size is not None:
        image = resize_image(image, size)
    return np.asarray(image)


def open_image(path):
    """Path => RGB image of Pillow, as read_image() describes it. Raises UserError."""
    with naming_faults(path):
        if kind_of(path) == "npy":
            return rgb_of_array(read_npy(path))
        with open_file(path) as image:
            load(image)
            return convert_to_rgb(turn_upright(image), path)


def load(image):
    """Decodes an image of Pillow, if it is not too large."""
    image.filename = ""  # with a name Pillow misreads some TIFFs to be turned
    check_pixels(*image.size)
    image.load()


def check_pixels(width, height):
    """Raises UserError for an image that is too large."""
    if width * height > MOST_PIXELS:
        raise UserError(f"{width}x{height} are more than {MOST_PIXELS // 10**6} megapixels: "
                        "resize it or cut it into parts")


@contextlib.contextmanager
def naming_faults(path):
    """Turns whatever goes wrong with a file into a UserError that names it."""
    try:
        yield
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
    """Turns a loaded image as its EXIF data say, wherever they are in the file."""
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
    if image.mode != "RGB":  # convert() would copy it
        image = image.convert("RGB")
    return image


def check_bands(image):
    """Raises UserError for a TIFF image with more bands than colours and transparency."""
    if has_more_bands(image):
        bands = image.tag_v2[277]
        place = {2: "second", 4: "fourth"}.get(known_bands(image) + 1, "last")
        raise UserError(f"it has {bands} bands, and the {place} is not transparency: save it "
                        "without, or train on all bands (docs/data-types.md)")


def has_more_bands(image):
    """Whether a TIFF image has more bands than colours and transparency."""
    return image.tag_v2.get(277, 1) > known_bands(image)  # SamplesPerPixel


def known_bands(image):
    """How many bands of a TIFF image are colours and transparency."""
    extra, *_ = image.tag_v2.get(338, (0,))  # ExtraSamples: what the bands after colours are
    if image.mode == "RGBA" and extra == 0:
        return 3
    return len(image.getbands())


def grey_to_rgb(image, path):
    """16-bit grey => RGB: Pillow would clip the values at 255. Warns if they fill little of the
    range, as in the files of many cameras and scanners."""
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
                          "so that it is nearly black: training on 16-bit data keeps them "
                          "(docs/data-types.md)")
    return Image.fromarray(grey).convert("RGB")


def read_array(path, channels=None):
    """Reads a file as what it holds: [h, w, channels] of uint8, uint16, int16 or float32.

    The file is an array (.npy), a TIFF image (its first page), a PNG of 16 bits, or an 8-bit image.
    An 8-bit image gives uint8 RGB, or grey if `channels` is 1, or RGBA if it is 4. Floats of 16 and
    64 bits become float32. Raises UserError.
    """
    with naming_faults(path):
        kind = kind_of(path)
        if kind == "npy":
            return read_npy(path)
        if kind == "deep png":
            return read_deep_png(path)
        if kind == "tiff" and is_data_tiff(path):
            return read_data_tiff(path)
        if channels not in (None, 1, 3, 4):
            raise UserError(f"8-bit images have 1, 3 or 4 channels, not {channels}")
        if channels == 4:
            with open_file(path) as image:
                load(image)
                return np.asarray(turn_upright(image).convert("RGBA"))
    image = open_image(path)
    if channels == 1:
        return np.asarray(image.convert("L"))[..., None]
    return np.asarray(image)


def kind_of(path):
    """What a file is by its first bytes: "npy", "tiff", "deep png" (of 16 bits) or "picture"."""
    with open(path, "rb") as file:
        start = file.read(26)
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    if start.startswith(b"PK\x03\x04"):
        raise UserError("an archive, as .npz is one: give a file for each array, of np.save")
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if start.startswith(b"\x89PNG") and start[24:25] == b"\x10":
        return "deep png"
    return "picture"


def read_npy(path):
    """Reads a .npy file. Never unpickles, and reserves no more memory than the file fills.

    np.load() parses Python. In Python 3.11, threads that do so at once disturb each other, and
    TensorFlow's tracing (python/cpython issue 106905).
    """
    with open(path, "rb") as file:
        try:
            major, _ = np.lib.format.read_magic(file)
            length = int.from_bytes(file.read(2 if major == 1 else 4), "little")
            header = file.read(length).decode()
            dtype = np.dtype(re.search(r"'descr'\s*:\s*'([^']*)'", header)[1])
            order = re.search(r"'fortran_order'\s*:\s*(True|False)", header)[1]
            sides = re.search(r"'shape'\s*:\s*\(([\d,\s]*)\)", header)[1]
            shape = tuple(int(side) for side in sides.split(",") if side.strip())
            if dtype.hasobject:
                raise ValueError("it holds Python objects")
            if not shape or 0 in shape:
                return as_image(np.zeros(shape, dtype))  # which refuses it
            order = "F" if order == "True" else "C"
            array = np.memmap(path, dtype, "r", file.tell(), shape, order)
        except (ValueError, TypeError, MemoryError) as error:
            raise UserError(f"not an array of numbers, or a damaged one ({error}): save it with "
                            "np.save") from None
    return as_image(np.asarray(array))


def read_deep_png(path):
    """Reads a PNG of 16 bits at full depth, with its transparency, if any, as the last channel."""
    import tensorflow as tf  # Pillow keeps 8 bits of colours

    with open_file(path) as image:
        orientation = image.getexif().get(274, 1)
        check_pixels(*image.size)
        if image.mode.startswith("I"):
            return as_image(np.asarray(image), orientation)
    contents = Path(path).read_bytes()
    colour_type = contents[25]
    try:
        array = tf.io.decode_png(contents, 3 if colour_type == 2 else 4, tf.uint16).numpy()
    except tf.errors.OpError:
        raise UserError("a PNG of 16 bits that is damaged: repair or remove it") from None
    if colour_type == 4:  # grey with transparency
        array = array[..., [0, 3]]
    return as_image(array, orientation)


def is_data_tiff(path):
    """Whether a TIFF file holds more than 8 bits, signed numbers or floats, or bands other than
    grey, colours and transparency."""
    with naming_faults(path):
        tags = tags_of(path)
        bits = tags.get(258, (1,))
        sample_formats = set(tags.get(339, (1,)))
        if max(bits) > 8 or not sample_formats <= {1, 4} or tags.get(277, 1) > 4:
            return True
        try:
            with Image.open(path, formats=["TIFF"]) as image:
                return has_more_bands(image)
        except UnidentifiedImageError:  # bands without colours
            return tags.get(277, 1) > 1


def read_data_tiff(path):
    """Reads the first page of a TIFF, with Pillow or the optional package tifffile."""
    tags = tags_of(path)
    if tags.get(277, 1) == 1:  # one band
        with contextlib.suppress(UnidentifiedImageError):
            return read_with_pillow(path, tags)
    try:
        import tifffile
    except ImportError:
        raise UserError("to read TIFF of several bands, pip install tifffile") from None
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        warn_of_pages(path, len(tiff.pages))
        check_pixels(page.imagewidth, page.imagelength)
        try:
            array = page.asarray()
        except (ValueError, ImportError):
            from importlib.util import find_spec

            if page.compression == 1 or find_spec("imagecodecs"):
                raise
            raise UserError(f"its compression {page.compression.name} needs pip install "
                            "imagecodecs") from None
        if page.axes.startswith("S"):  # one plane for each band
            array = np.moveaxis(array, 0, -1)
    return as_image(array, tags.get(274, 1))


def read_with_pillow(path, tags):
    """Reads the first page of a TIFF of one band."""
    with Image.open(path, formats=["TIFF"]) as image:
        warn_of_pages(path, image.n_frames)
        load(image)
        array = np.asarray(image)
    is_signed = tags.get(339) == (2,)
    if image.mode == "I" and tags.get(258) == (16,):
        array = array.astype(np.int16)
    elif image.mode == "L" and is_signed:
        array = array.view(np.int8)
    return as_image(array)  # Pillow has turned it upright


def warn_of_pages(path, count):
    """Warns once that only the first page of a TIFF is read."""
    if count > 1:
        warn_once("pages", f"{path} has {count} pages or sizes: the first is read")


def as_image(array, orientation=1):
    """An array => [h, w, channels], upright, of one of ARRAY_TYPES. Raises UserError."""
    shape = array.shape
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in shape:
        raise UserError(f"an array of shape {shape}: give [height, width] or [height, width, "
                        "channels]")
    if shape[0] <= 16 < min(array.shape[1:]):
        raise UserError(f"an array of shape {shape}: channels come last, as np.moveaxis(array, 0, "
                        "-1) puts them")
    check_pixels(shape[1], shape[0])
    if array.dtype.name in ("float16", "float64"):
        with np.errstate(over="ignore"):  # infinities are found later
            array = array.astype(np.float32)
    if array.dtype.name not in ARRAY_TYPES:
        raise UserError(f"values of type {array.dtype}: save them as one of "
                        f"{', '.join(ARRAY_TYPES)}")
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def rgb_of_array(array):
    """uint8 [h, w, 3] => RGB image of Pillow. Raises UserError for other arrays."""
    if array.dtype != np.uint8 or array.shape[-1] != 3:
        raise UserError(f"holds {describe_array(array)}, where 8-bit RGB is expected")
    return Image.fromarray(array)


def describe_array(array):
    """For messages: "uint16 with 1 channel"."""
    channels = array.shape[-1]
    return f"{array.dtype} with {channels} channel{'s' if channels > 1 else ''}"


def resize_array(array, size):
    """[h, w, c] of any of ARRAY_TYPES => resized to (height, width), as resize_image(): 8-bit grey
    and RGB in 8 bits, all others channel by channel in floats. Integers are rounded."""
    if array.shape[:2] == tuple(size):
        return array
    is_picture = array.dtype == np.uint8 and array.shape[-1] in (1, 3)
    if is_picture:
        image = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
        return np.asarray(resize_image(image, size)).reshape([*size, array.shape[-1]])
    planes = []
    for channel in range(array.shape[-1]):
        plane = Image.fromarray(np.float32(array[..., channel]))
        planes.append(np.asarray(resize_image(plane, size)))
    result = np.stack(planes, axis=-1)
    if array.dtype == np.float32:
        return result
    limits = np.iinfo(array.dtype)
    return np.rint(np.clip(result, limits.min, limits.max)).astype(array.dtype)


def encode_array(array, suffix):
    """[h, w, c] of any of ARRAY_TYPES => bytes of a file: ".npy", ".tif", or ".png" for integers
    without sign of 1 to 4 channels. Raises UserError."""
    buffer = io.BytesIO()
    if suffix == ".png":
        import tensorflow as tf  # Pillow writes no 16-bit colours

        return tf.io.encode_png(array, compression=1).numpy()  # 10 % larger, a fifth of the time
    if suffix == ".npy":
        np.save(buffer, array)
    elif array.shape[-1] == 1 and array.dtype != np.int16:
        Image.fromarray(array[..., 0]).save(buffer, format="TIFF")
    else:
        try:
            import tifffile
        except ImportError:
            raise UserError("to write TIFF of several bands, pip install tifffile") from None
        if array.shape[-1] == 1:
            tifffile.imwrite(buffer, array[..., 0])
        else:
            colours = "rgb" if array.shape[-1] == 3 else "minisblack"
            tifffile.imwrite(buffer, array, photometric=colours, planarconfig="contig")
    return buffer.getvalue()


def copy_georeference(source, target):
    """Gives a TIFF file the place on earth of another TIFF that shows the same area, with the
    optional package rasterio. Warns once if that package is missing."""
    if not {33550, 33922, 34264} & set(tags_of(source)):  # GeoTIFF's scale, tie points and matrix
        return
    try:
        import rasterio
    except ImportError:
        warn_once("place", f"{target}: the place on earth is not kept: pip install rasterio")
        return
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            rasterio.open(source) as old,
            rasterio.open(target, "r+") as new,
        ):
            if old.crs:
                new.crs = old.crs
            scale = rasterio.Affine.scale(old.width / new.width, old.height / new.height)
            new.transform = old.transform * scale
    except rasterio.errors.RasterioError as error:
        warn_once("place", f"{target}: the place on earth is not kept: {error}")


def tags_of(path):
    """{number: value} of the tags of a TIFF file."""
    with open(path, "rb") as file:
        header = file.read(8)
        if header[2:3] == b"+" or header[3:4] == b"+":  # BigTIFF
            header += file.read(8)
        tags = TiffImagePlugin.ImageFileDirectory_v2(header)
        file.seek(tags.next)
        tags.load(file)
    return tags


def resize_image(image, size):
    """Image of Pillow => resized to (height, width), bicubic, first the width."""
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


def say_left_out(folder, paths):
    """Says on stderr what a folder holds besides `paths`, its images: first of all other folders,
    whose images are easily missed."""
    others = {path for path in Path(folder).iterdir() if not path.name.startswith(".")}
    others = sorted(others - set(paths), key=lambda path: (not path.is_dir(), path.name))
    if others:
        print(
            f"{folder}: {len(others)} left out, e.g. {others[0].name}: no images directly in the "
            "folder",
            file=sys.stderr,
        )


def is_array(path):
    """Whether a file is an array, or a PNG or TIFF that 8-bit RGB cannot hold. Raises UserError."""
    kind = kind_of(path)
    return kind in ("npy", "deep png") or (kind == "tiff" and is_data_tiff(path))


def open_picture(path):
    """As open_image(), for measures that are of 8-bit RGB: raises UserError for other data."""
    with naming_faults(path):
        if is_array(path) and (kind_of(path) != "npy" or not is_rgb_array(path)):
            raise UserError("this measure is for 8-bit RGB, and the file holds other data")
    return open_image(path)


def is_rgb_array(path):
    """Whether a .npy file holds 8-bit RGB."""
    array = read_npy(path)
    return array.dtype == np.uint8 and array.shape[-1] == 3


def name_of(stem):
    """The stem of a file => the name by which its results and its counterparts go. It is short
    enough for every file system, and the same however its Unicode is composed: macOS writes NFD,
    other systems NFC."""
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


def photo_of(name):
    """The name of a drawing => that of its photo: NAME.hand3 of process.py => NAME; else
    unchanged."""
    return re.sub(r"\.hand[0-9]+$", "", name)


def images_of(folder, kind="outputs"):
    """{name: path}: NAME-outputs.png of a test (its --output_dir, or images/ in it), or .npy or
    .tif, of other folders all by stem."""
    folder = Path(folder)
    ends = [f"-{kind}{suffix}" for suffix in (".png", ".npy", ".tif")]
    if (folder / "checkpoint").exists():
        raise UserError(
            f"{folder} is of a training; give the folder of a test (--mode test --checkpoint "
            f"{folder})"
        )
    if not is_test(folder):
        return by_stem(folder)
    inside = folder if folder.name == "images" else folder / "images"
    found = {}
    paths = [path for end in ends for path in inside.glob(f"*{end}")]
    for path in sorted(paths, key=natural_order):
        found[name_of(path.stem.removesuffix(f"-{kind}"))] = path
    if found:
        return found
    if inside is not folder or any(inside.glob("*-outputs.*")):
        raise UserError(
            f"{inside} holds no *-{kind}.png; give two folders, or that of a test with {kind}"
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
