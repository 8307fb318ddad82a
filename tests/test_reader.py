"""The one reader of scripts and tools: the pixels that Pillow gives when it is asked properly.

What is right is found here in two ways that share no code with the reader: oracle() takes the raw
pixels and the EXIF tag from Pillow and does the rest in NumPy, and files without loss are made of
known pixels.
"""

import functools
import importlib
import io
import json
import os
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from conftest import (
    ROOT,
    SCRIPTS,
    assert_one_line,
    once,
    paint,
    pngs,
    read_png,
    save_image,
    truncate,
)
from PIL import Image
from run_tool import run_tool

tools = importlib.import_module("images")
common = importlib.import_module("common")
pix2pix = SCRIPTS["pix2pix"].module
READERS = [pix2pix, tools]

HEIGHT, WIDTH = 12, 20
ORIENTATION = 0x112
ICC = b"\xff\xe2" + struct.pack(">H", 65000) + b"ICC_PROFILE\0\x01\x02" + bytes(64984)


# --------------------------------------------------------------------------------- what is right


TURNS = {
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),  # clockwise
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: np.rot90,
}


def over_white(rgba):
    """[h, w, 4] of 0 to 255 => uint8 RGB, the exact fractions rounded."""
    colour, alpha = np.split(np.asarray(rgba, float), [3], axis=-1)
    return np.uint8(np.rint((colour * alpha + 255 * (255 - alpha)) / 255))


def from_16_bits(values):
    """uint16 [h, w] => uint8 RGB, over the whole range."""
    grey = np.uint8(np.floor(values / 257 + 0.5))
    return np.stack([grey] * 3, -1)


def oracle(path):
    """The pixels of a file: first frame, upright, over white, 16-bit grey scaled, uint8 RGB.

    Pillow gets the bytes: by the path it would map an uncompressed TIFF into memory, and cut the
    rows of one with orientation 5 to 8 at the wrong length. It turns TIFF itself.
    """
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        image.load()
        turn = TURNS[image.getexif().get(ORIENTATION, 1)]
        clear = image.info.get("transparency")
        if image.mode.startswith("I;16"):
            values = np.asarray(image)
            pixels = from_16_bits(values)
            if clear is not None:
                pixels[values == clear] = 255
        elif clear is not None or image.mode in ("RGBA", "LA", "PA"):
            pixels = over_white(image.convert("RGBA"))
        else:
            pixels = np.asarray(image.convert("RGB"))
    return turn(pixels)


def resized(image, size):
    """Pillow's bicubic in two passes, first the width."""
    height, width = size
    wide = Image.fromarray(image).resize((width, len(image)), Image.Resampling.BICUBIC)
    return np.asarray(wide.resize((width, height), Image.Resampling.BICUBIC))


# ------------------------------------------------------------------------------------ making files


def noise(*shape, seed=0, dtype=np.uint8):
    draw = np.random.default_rng(seed)
    return draw.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


RGB = noise(HEIGHT, WIDTH, 3)
RGBA = np.concatenate([RGB, noise(HEIGHT, WIDTH, 1, seed=1)], -1)
GREY = RGB[..., 0]
GREY_16 = noise(HEIGHT, WIDTH, dtype=np.uint16)
SMOOTH = paint(HEIGHT, WIDTH, 1)  # for formats with loss


def encode(image, kind, **options):
    """An array or a Pillow image => the bytes of a file."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation):
    """EXIF data that hold nothing but an orientation."""
    data = Image.Exif()
    data[ORIENTATION] = orientation
    return data.tobytes()


def chunks_of(png):
    """[(kind, contents)] of the chunks of a PNG."""
    chunks = []
    place = 8
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        chunks.append((png[place + 4 : place + 8], png[place + 8 : place + 8 + length]))
        place += 12 + length
    return chunks


def to_png(chunks):
    """The inverse of chunks_of()."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, contents in chunks:
        check = zlib.crc32(kind + contents)
        parts += [struct.pack(">I", len(contents)), kind, contents, struct.pack(">I", check)]
    return b"".join(parts)


def with_chunk(png, kind, contents, place=1):
    """A PNG with one more chunk: after the header, or with place=-1 after the pixels."""
    chunks = chunks_of(png)
    chunks.insert(place, (kind, contents))
    return to_png(chunks)


def header(width, height, bits=8, colour=2, interlaced=0):
    """The first chunk of a PNG."""
    return b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)


def deep_png(samples):
    """uint16 [h, w, channels] => a PNG of 16 bits per channel."""
    height, width, channels = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    first = header(width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels])
    return to_png([first, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])


def shallow_png(values, bits):
    """Grey values [h, w] of 2 or 4 bits => a PNG."""
    height, width = values.shape
    rows = []
    for row in values:
        digits = "".join(format(value, f"0{bits}b") for value in row)
        rows.append(b"\0" + int(digits, 2).to_bytes(len(digits) // 8))
    first = header(width, height, bits, 0)
    return to_png([first, (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")])


def interlaced_png(rgb):
    """uint8 [h, w, 3] => a PNG in the seven passes of Adam7."""
    height, width, _ = rgb.shape
    passes = [
        rgb[::8, ::8], rgb[::8, 4::8], rgb[4::8, ::4], rgb[::4, 2::4], rgb[2::4, ::2],
        rgb[::2, 1::2], rgb[1::2],
    ]  # fmt: skip
    rows = b"".join(b"\0" + row.tobytes() for part in passes for row in part)
    first = header(width, height, interlaced=1)
    return to_png([first, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])


def tiff(samples, photometric, extra=(), order="<", sample_format=1):
    """[h, w, bands] of any type => an uncompressed TIFF. photometric: 0 white is zero, 1 black is
    zero, 2 RGB, 5 CMYK; extra: what the bands beyond those are; order: of the bytes, < or >."""
    height, width, bands = samples.shape
    short, long = 3, 4
    tags = [
        (256, long, [width]), (257, long, [height]), (258, short, [8 * samples.itemsize] * bands),
        (259, short, [1]), (262, short, [photometric]), (273, long, [0]), (277, short, [bands]),
        (278, long, [height]), (279, long, [samples.nbytes]),
        (338, short, list(extra)), (339, short, [sample_format] * bands),
    ]  # fmt: skip
    tags = [tag for tag in tags if tag[2]]
    behind = 8 + 2 + 12 * len(tags) + 4  # what does not fit into four bytes comes after the tags
    values = b""
    entries = []
    for number, kind, numbers in tags:
        packed = struct.pack(order + {short: "H", long: "I"}[kind] * len(numbers), *numbers)
        if len(packed) > 4:
            place = behind + len(values)
            values += packed + bytes(len(packed) % 2)
            packed = struct.pack(order + "I", place)
        entries.append((number, kind, len(numbers), packed.ljust(4, b"\0")))
    start = struct.pack(order + "I", behind + len(values))
    directory = struct.pack(order + "H", len(tags))
    for number, kind, count, packed in entries:
        packed = start if number == 273 else packed
        directory += struct.pack(order + "HHI", number, kind, count) + packed
    magic = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8)
    pixels = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    return magic + directory + bytes(4) + values + pixels


def without_adobe_marker(jpeg):
    """A JPEG without its segment APP14, which says whether inks are inverted."""
    place = jpeg.index(b"\xff\xee")
    (length,) = struct.unpack(">H", jpeg[place + 2 : place + 4])
    return jpeg[:place] + jpeg[place + 2 + length :]


def as_ycck(jpeg):
    """A CMYK JPEG whose Adobe marker says that the inks are in YCCK."""
    place = jpeg.index(b"Adobe") + 11
    return jpeg[:place] + b"\x02" + jpeg[place + 1 :]


def on_a_larger_canvas(gif):
    """A GIF whose only frame covers the upper left of its canvas."""
    return gif[:6] + struct.pack("<HH", WIDTH + 7, HEIGHT + 5) + gif[10:]


def raw_profile(orientation):
    """EXIF data as ImageMagick writes them into the text of a PNG."""
    digits = exif(orientation).hex()
    text = f"\nexif\n{len(digits) // 2:8}\n{digits}\n"
    return b"Raw profile type exif\0\0" + zlib.compress(text.encode())


def xmp(orientation):
    """A segment of a JPEG that gives the orientation as XMP."""
    names = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
    names += ' xmlns:tiff="http://ns.adobe.com/tiff/1.0/"'
    text = f'<rdf:RDF {names}><rdf:Description tiff:Orientation="{orientation}"/></rdf:RDF>'
    text = f'<x:xmpmeta xmlns:x="adobe:ns:meta/">{text}</x:xmpmeta>'
    contents = b"http://ns.adobe.com/xap/1.0/\0" + text.encode()
    return b"\xff\xe1" + struct.pack(">H", len(contents) + 2) + contents


def kinds():
    """{name: (contents, pixels)} of upright files of every format and kind of pixels; the pixels
    are None where the file has lost some."""
    grey = np.stack([GREY] * 3, -1)
    colours = Image.fromarray(RGB).quantize(16)
    looked_up = np.asarray(colours.getpalette(), np.uint8).reshape(-1, 3)[np.asarray(colours)]
    index = int(np.asarray(colours)[3, 4])
    one_clear = np.where((np.asarray(colours) == index)[..., None], 255, looked_up)
    alphas = np.array([0, 128] + [255] * 14, np.uint8)[np.asarray(colours)]
    half_clear = over_white(np.concatenate([looked_up, alphas[..., None]], -1))
    bits = noise(HEIGHT, WIDTH, seed=3) > 127
    black_and_white = np.uint8(np.stack([bits] * 3, -1) * 255)
    la = np.stack([GREY, RGBA[..., 3]], -1)
    la_over_white = over_white(np.concatenate([grey, RGBA[..., 3:]], -1))
    clear_grey = np.where((GREY[2, 5] == GREY)[..., None], 255, grey)
    clear_rgb = np.where((RGB[2, 5] == RGB).all(-1, keepdims=True), 255, RGB)
    deep = RGB.astype(np.uint16) * 257
    cmyk = Image.fromarray(SMOOTH).convert("CMYK")
    clear_16 = np.where(GREY_16[2, 5] == GREY_16, 65535, GREY_16)
    text = b"Comment\0Exif of a microscope"
    first_of_two = {"save_all": True, "append_images": [Image.fromarray(255 - RGB)]}
    smooth_colours = Image.fromarray(SMOOTH).quantize(8)
    second = Image.fromarray(255 - SMOOTH).quantize(8)

    def png(image, **options):
        return encode(image, "PNG", **options)

    def jpeg(image, **options):
        return encode(image, "JPEG", quality=95, **options)

    def webp(image, **options):
        return encode(image, "WEBP", lossless=True, **options)

    def saved_tiff(image, **options):
        return encode(image, "TIFF", **options)

    grey_16 = png(GREY_16)
    clear_value = struct.pack(">H", GREY_16[2, 5])
    return {
        "rgb.png": (png(RGB), RGB),
        "grey.png": (png(GREY), grey),
        "grey2.png": (shallow_png(GREY >> 6, 2), (grey >> 6) * 85),
        "grey4.png": (shallow_png(GREY >> 4, 4), (grey >> 4) * 17),
        "bits.png": (png(bits), black_and_white),
        "palette.png": (png(colours), looked_up),
        "palette-one-clear.png": (png(colours, transparency=index), one_clear),
        "palette-alphas.png": (png(colours, transparency=bytes([0, 128])), half_clear),
        "rgba.png": (png(RGBA), over_white(RGBA)),
        "la.png": (png(la), la_over_white),
        "grey-clear.png": (png(GREY, transparency=int(GREY[2, 5])), clear_grey),
        "rgb-clear.png": (png(RGB, transparency=tuple(map(int, RGB[2, 5]))), clear_rgb),
        "grey16.png": (grey_16, from_16_bits(GREY_16)),
        "grey16-clear.png": (with_chunk(grey_16, b"tRNS", clear_value), from_16_bits(clear_16)),
        "grey16-text.png": (with_chunk(grey_16, b"tEXt", text), from_16_bits(GREY_16)),
        "grey16-exif1.png": (png(GREY_16, exif=exif(1)), from_16_bits(GREY_16)),
        "rgb16.png": (deep_png(deep), RGB),
        "rgba16.png": (deep_png(RGBA.astype(np.uint16) * 257), over_white(RGBA)),
        "la16.png": (deep_png(la.astype(np.uint16) * 257), la_over_white),
        "interlaced.png": (interlaced_png(RGB), RGB),
        "gamma.png": (with_chunk(png(RGB), b"gAMA", struct.pack(">I", 100000)), RGB),
        "background.png": (with_chunk(png(RGBA), b"bKGD", bytes(6)), over_white(RGBA)),
        "animated.png": (png(RGB, **first_of_two), RGB),
        "junk-behind.png": (png(RGB) + b"junk" * 99, RGB),
        "rgb.bmp": (encode(RGB, "BMP"), RGB),
        "grey.bmp": (encode(GREY, "BMP"), grey),
        "bits.bmp": (encode(bits, "BMP"), black_and_white),
        "palette.bmp": (encode(colours, "BMP"), looked_up),
        "rgba.bmp": (encode(RGBA, "BMP"), None),  # with or without alpha, as Pillow sees it
        "palette.gif": (encode(colours, "GIF"), looked_up),
        "grey.gif": (encode(GREY, "GIF"), grey),
        "bits.gif": (encode(bits, "GIF"), black_and_white),
        "clear.gif": (encode(colours, "GIF", transparency=index), one_clear),
        "interlaced.gif": (encode(colours, "GIF", interlace=1), looked_up),
        "canvas.gif": (on_a_larger_canvas(encode(colours, "GIF")), None),
        "animated.gif": (
            encode(smooth_colours, "GIF", save_all=True, append_images=[second]),
            np.asarray(smooth_colours.convert("RGB")),
        ),
        "rgb.webp": (webp(RGB), RGB),
        "rgba.webp": (webp(RGBA, exact=True), over_white(RGBA)),
        "lossy.webp": (encode(SMOOTH, "WEBP"), None),
        "animated.webp": (webp(RGB, **first_of_two), RGB),
        "animated-alpha.webp": (
            webp(RGBA, exact=True, save_all=True, append_images=[Image.fromarray(255 - RGBA)]),
            over_white(RGBA),
        ),
        "rgb.tif": (saved_tiff(RGB), RGB),
        "rgb-deflate.tiff": (saved_tiff(RGB, compression="tiff_deflate"), RGB),
        "rgb-jpeg.tif": (saved_tiff(SMOOTH, compression="jpeg"), None),
        "grey.tif": (saved_tiff(GREY), grey),
        "white-is-zero.tif": (tiff(255 - GREY[..., None], 0), grey),
        "bits.tif": (saved_tiff(Image.fromarray(bits), compression="group4"), black_and_white),
        "palette.tif": (saved_tiff(colours), looked_up),
        "rgba.tif": (saved_tiff(RGBA), over_white(RGBA)),
        "la.tif": (saved_tiff(la), la_over_white),
        "cmyk.tif": (saved_tiff(cmyk), np.asarray(cmyk.convert("RGB"))),
        "grey16.tif": (tiff(GREY_16[..., None], 1), from_16_bits(GREY_16)),
        "grey16-big-endian.tif": (tiff(GREY_16[..., None], 1, order=">"), from_16_bits(GREY_16)),
        "grey16-saved.tif": (saved_tiff(GREY_16, compression="tiff_lzw"), from_16_bits(GREY_16)),
        "rgb16.tif": (tiff(deep, 2), RGB),
        "rgb16-big-endian.tif": (tiff(deep, 2, order=">"), RGB),
        "rgba16.tif": (tiff(RGBA.astype(np.uint16) * 257, 2, [2]), over_white(RGBA)),
        "pages.tif": (saved_tiff(RGB, **first_of_two), RGB),
        "rgb.jpg": (jpeg(SMOOTH), None),
        "grey.jpg": (jpeg(SMOOTH[..., 0]), None),
        "progressive.jpg": (jpeg(SMOOTH, progressive=True), None),
        "no-subsampling.jpg": (jpeg(SMOOTH, subsampling=0), None),
        "adobe-rgb.jpg": (jpeg(SMOOTH, keep_rgb=True), None),
        "cmyk.jpg": (jpeg(cmyk), None),
        "cmyk-no-marker.jpg": (without_adobe_marker(jpeg(cmyk)), None),
        "ycck.jpg": (as_ycck(jpeg(cmyk)), None),
        "junk-behind.jpg": (jpeg(SMOOTH) + bytes(5000), None),
        "mpo.jpg": (
            encode(SMOOTH, "MPO", save_all=True, append_images=[Image.fromarray(255 - SMOOTH)]),
            None,
        ),
        "rgb.avif": (encode(SMOOTH, "AVIF"), None),
        "rgba.avif": (encode(np.dstack([SMOOTH, RGBA[..., 3]]), "AVIF"), None),
        "grey.avif": (encode(SMOOTH[..., 0], "AVIF"), None),
    }


def turned(orientation):
    """{name: (contents, pixels)} of files that say in each way how they are to be turned."""
    data = exif(orientation)
    late = [chunk for chunk in chunks_of(encode(RGB, "PNG", exif=data)) if chunk[0] != b"eXIf"]
    late.insert(-1, (b"eXIf", data.removeprefix(b"Exif\0\0")))
    cmyk = Image.fromarray(SMOOTH).convert("CMYK")
    colours = Image.fromarray(RGB).quantize(16)
    jpeg = encode(SMOOTH, "JPEG", quality=95, exif=data)
    profile = with_chunk(encode(RGB, "PNG"), b"zTXt", raw_profile(orientation))
    tag = {ORIENTATION: orientation}
    turn = TURNS[orientation]
    white = over_white(RGBA)
    return {
        "app1.jpg": (jpeg, None),
        "after-128k.jpg": (jpeg[:2] + ICC * 2 + jpeg[2:], None),
        "cmyk.jpg": (encode(cmyk, "JPEG", exif=data), None),
        "xmp.jpg": (jpeg_with_xmp(orientation), None),
        "early.png": (encode(RGB, "PNG", exif=data), turn(RGB)),
        "late.png": (to_png(late), turn(RGB)),
        "raw-profile.png": (profile, turn(RGB)),
        "rgba.png": (encode(RGBA, "PNG", exif=data), turn(white)),
        "grey16.png": (encode(GREY_16, "PNG", exif=data), turn(from_16_bits(GREY_16))),
        "exif.webp": (encode(RGB, "WEBP", lossless=True, exif=data), turn(RGB)),
        "exif-alpha.webp": (
            encode(RGBA, "WEBP", lossless=True, exact=True, exif=data),
            turn(white),
        ),
        "tag.tif": (encode(RGB, "TIFF", tiffinfo=tag), turn(RGB)),
        "tag-deflate.tif": (
            encode(RGB, "TIFF", tiffinfo=tag, compression="tiff_deflate"),
            turn(RGB),
        ),
        "tag-rgba.tif": (encode(RGBA, "TIFF", tiffinfo=tag), turn(white)),
        "tag-grey.tif": (encode(GREY, "TIFF", tiffinfo=tag), turn(np.stack([GREY] * 3, -1))),
        "tag-grey16.tif": (encode(GREY_16, "TIFF", tiffinfo=tag), turn(from_16_bits(GREY_16))),
        "tag-palette.tif": (
            encode(colours, "TIFF", tiffinfo=tag),
            turn(np.asarray(colours.convert("RGB"))),
        ),
        "tag-cmyk.tif": (
            encode(cmyk, "TIFF", tiffinfo=tag),
            turn(np.asarray(cmyk.convert("RGB"))),
        ),
        "exif.avif": (encode(SMOOTH, "AVIF", exif=data), None),
    }


def jpeg_with_xmp(orientation):
    """A JPEG that has no EXIF data, only XMP, which Pillow follows too."""
    jpeg = encode(SMOOTH, "JPEG", quality=95)
    return jpeg[:2] + xmp(orientation) + jpeg[2:]


@functools.cache
def all_files():
    """{name: (contents, pixels or None)} of all that can be read."""
    files = kinds()
    for orientation in TURNS:
        for name, file in turned(orientation).items():
            files[f"exif{orientation}-{name}"] = file
    return files


# ---------------------------------------------------------------------------------------- helpers


@pytest.fixture(autouse=True)
def no_warnings_yet(monkeypatch):
    """As in a process that has just started."""
    for module in READERS:
        monkeypatch.setattr(module, "WARNED", set())


def read(path, size=None):
    """What the reader of a script and that of the tools agree on."""
    first, second = (module.read_image(path, size) for module in READERS)
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.uint8 and first.ndim == 3 and first.shape[2] == 3
    return first


def refused(path, *words):
    """What both readers say against a file: one line that begins with its path."""
    messages = []
    for module, error in ((pix2pix, pix2pix.UserError), (tools, common.UserError)):
        with pytest.raises(error) as caught:
            module.read_image(path)
        messages.append(str(caught.value))
    first, second = messages
    assert first == second and first.startswith(str(path)) and first.isprintable()
    for word in words:
        assert word in first, (word, first)
    return first


def written(folder, name, contents):
    path = folder / name
    path.write_bytes(contents)
    return path


# ----------------------------------------------------------------------------------- every format


@pytest.mark.parametrize("name", all_files())
def test_pixels_are_those_of_pillow(name, tmp_path, capsys):
    """Whatever the name of the file, and without a word."""
    contents, known = all_files()[name]
    path = written(tmp_path, name, contents)
    right = oracle(path)
    assert right.std() > 9
    if known is not None:
        np.testing.assert_array_equal(right, known)
    np.testing.assert_array_equal(read(path), right)
    for wrong in ("wrong.jpg", "wrong.PNG", "wrong.gif", "wrong"):
        np.testing.assert_array_equal(read(written(tmp_path, wrong, contents)), right)
    assert capsys.readouterr() == ("", "")


def test_orientations_differ():
    """The tests above tell each from each."""
    seen = {TURNS[orientation](RGB).tobytes() for orientation in TURNS}
    assert len(seen) == 8
    for orientation in TURNS:
        image = Image.open(io.BytesIO(encode(RGB, "PNG", exif=exif(orientation))))
        assert image.getexif()[ORIENTATION] == orientation


def test_values_that_were_measured_elsewhere(tmp_path):
    """Of CMYK without a marker, which was black once, and a GIF, whose canvas was cut off."""
    inks = np.full((8, 8, 4), [128, 128, 198, 0], np.uint8)
    contents = encode(Image.fromarray(inks, "CMYK"), "JPEG", quality=100, subsampling=0)
    marked = read(written(tmp_path, "marked.jpg", contents))
    assert np.abs(marked - np.array([127, 127, 57])).max() <= 2
    bare = read(written(tmp_path, "bare.jpg", without_adobe_marker(contents)))
    assert np.abs(bare - marked.astype(int)).max() <= 2 or np.abs(bare + marked - 255).max() <= 2
    canvas, _ = all_files()["canvas.gif"]
    assert read(written(tmp_path, "canvas.gif", canvas)).shape == (HEIGHT + 5, WIDTH + 7, 3)


# ------------------------------------------------------------------------------------------ 16 bit


@pytest.mark.parametrize("kind", ["png", "tif", "big-endian.tif"])
def test_16_bits_keep_the_whole_range(kind, tmp_path):
    """Each of the 65,536 values goes to the nearest of 256."""
    values = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    order = ">" if "big" in kind else "<"
    contents = encode(values, "PNG") if kind == "png" else tiff(values[..., None], 1, order=order)
    grey = read(written(tmp_path, f"grey.{kind}", contents))
    exact = (2 * values.astype(int) + 257) // 514  # of v / 257, in integers
    np.testing.assert_array_equal(grey, np.stack([exact] * 3, -1))
    assert np.bincount(grey[..., 0].reshape(-1)).tolist() == [129, *[257] * 254, 129]


@pytest.mark.parametrize("kind", ["png", "tif"])
@pytest.mark.parametrize(("brightest", "is_dark"), [(6553, True), (6554, False), (0, False)])
def test_dark_16_bits_are_told_once(kind, brightest, is_dark, tmp_path, capsys):
    values = np.full((HEIGHT, WIDTH), brightest // 2, np.uint16)
    values[3, 4] = brightest
    contents = encode(values, "PNG") if kind == "png" else tiff(values[..., None], 1)
    for module in READERS:
        for name in ("first", "second"):
            path = written(tmp_path, f"{name}.{kind}", contents)
            np.testing.assert_array_equal(module.read_image(path), oracle(path))
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == is_dark
        if is_dark:
            assert err.startswith(f"warning: {tmp_path / 'first'}.{kind}") and "6553" in err


def test_16_bits_where_zero_is_white(tmp_path):
    """Refused, or the values from 65535 down: never the negative of the image."""
    path = written(tmp_path, "negative.tif", tiff(65535 - GREY_16[..., None], 0))
    try:
        seen = pix2pix.read_image(path)
    except pix2pix.UserError:
        return
    np.testing.assert_array_equal(seen, from_16_bits(GREY_16))


# ------------------------------------------------------------------- what cannot be shown as it is


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("bands", "extra"), [(4, []), (4, [0]), (5, [0, 0]), (5, [2, 0])])
def test_more_bands_than_colours_and_alpha(order, dtype, bands, extra, tmp_path):
    """As near infrared of satellites: neither taken for transparency nor left out."""
    samples = noise(HEIGHT, WIDTH, bands, dtype=dtype)
    path = written(tmp_path, "bands.tif", tiff(samples, 2, extra, order))
    refused(path)
    if bands == 4:
        refused(path, "fourth")


def test_grey_with_another_band(tmp_path):
    refused(written(tmp_path, "two.tif", tiff(RGB[..., :2], 1, [0])))


def test_premultiplied_alpha(tmp_path):
    """TIFF's other kind of alpha, whose colours are multiplied by it: within its rounding."""
    alpha = noise(HEIGHT, WIDTH, 1, seed=5).astype(int)
    multiplied = np.uint8(np.rint(RGB * alpha / 255))
    samples = np.concatenate([multiplied, np.uint8(alpha)], -1)
    path = written(tmp_path, "premultiplied.tif", tiff(samples, 2, [1]))
    right = np.minimum(multiplied + (255 - alpha), 255)
    assert np.abs(read(path) - right).max() <= 1


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
@pytest.mark.parametrize("order", ["<", ">"])
def test_32_bits(dtype, order, tmp_path):
    values = noise(HEIGHT, WIDTH, 1).astype(dtype)
    sample_format = 3 if dtype is np.float32 else 2
    path = written(tmp_path, "deep.tif", tiff(values, 1, order=order, sample_format=sample_format))
    refused(path, "32 bits")


# ---------------------------------------------------------------------------------- damaged files


BROKEN_EXIF = [
    b"",
    b"garbage",
    b"II*\0\xff\xff\xff\xff",
    b"II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0",
    b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x20\0\0\xff\xff",  # a text, outside of the data
]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("data", BROKEN_EXIF)
def test_broken_exif_data_refuse_no_image(data, tmp_path):
    whole = b"Exif\0\0" + data
    app1 = b"\xff\xe1" + struct.pack(">H", len(whole) + 2) + whole
    jpeg = encode(SMOOTH, "JPEG", quality=95)
    right = read(written(tmp_path, "plain.jpg", jpeg))
    path = written(tmp_path, "broken.jpg", jpeg[:2] + app1 + jpeg[2:])
    np.testing.assert_array_equal(read(path), right)
    png = encode(RGB, "PNG")
    for place in (1, -1):
        path = written(tmp_path, "broken.png", with_chunk(png, b"eXIf", data, place))
        np.testing.assert_array_equal(read(path), RGB)
    path = written(tmp_path, "broken.webp", encode(RGB, "WEBP", lossless=True, exif=whole))
    np.testing.assert_array_equal(read(path), RGB)


def test_broken_exif_data_are_not_talked_about(tmp_path):
    """Pillow's warnings, two lines each, would tell nothing that a user can use. In a process of its
    own, which starts others that read."""
    (tmp_path / "in").mkdir()
    for number, data in enumerate(BROKEN_EXIF):
        written(tmp_path / "in", f"{number}.png", with_chunk(encode(RGB, "PNG"), b"eXIf", data))
    command = [sys.executable, ROOT / "tools" / "process.py", "--operation", "grayscale"]
    command += ["--input_dir", tmp_path / "in", "--output_dir", tmp_path / "out", "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "arning" not in done.stderr, done
    assert len(list((tmp_path / "out").glob("*.png"))) == len(BROKEN_EXIF)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientations_that_mean_nothing(orientation, tmp_path):
    data = exif(orientation)
    path = written(tmp_path, "a.png", encode(RGB, "PNG", exif=data))
    np.testing.assert_array_equal(read(path), RGB)
    path = written(tmp_path, "a.tif", encode(RGB, "TIFF", tiffinfo={ORIENTATION: orientation}))
    np.testing.assert_array_equal(read(path), RGB)


@pytest.mark.parametrize(
    "name",
    ["rgb.jpg", "rgb.png", "rgb.bmp", "palette.gif", "rgb.webp", "rgb.tif", "rgb.avif", "grey16.png", "animated.webp"],
)
def test_truncated_files(name, tmp_path):
    contents, _ = all_files()[name]
    path = written(tmp_path, name, contents)
    truncate(path, 0.6)
    refused(path, "cannot be read", "repair or remove it")


@pytest.mark.parametrize(
    "contents", [b"", b"this is text\n", b"<!DOCTYPE html>", bytes(100)], ids=["empty", "text", "html", "zeros"]
)
def test_what_is_no_image(contents, tmp_path):
    refused(written(tmp_path, "a.png", contents), "cannot be read", "damaged, or another format")


def test_what_is_no_file(tmp_path):
    folder = tmp_path / "folder.png"
    folder.mkdir()
    refused(folder, "Is a directory")
    link = tmp_path / "link.png"
    link.symlink_to(tmp_path / "nothing")
    refused(link, "a link to a file that is not there")
    refused(tmp_path / "missing.png", "No such file")
    secret = written(tmp_path, "good.png", encode(RGB, "PNG"))
    good = tmp_path / "good-link.png"
    good.symlink_to(secret)
    np.testing.assert_array_equal(read(good), RGB)


def test_pipes_in_a_folder_are_left_out(tmp_path):
    """Reading one would wait for ever; so would reading through a link to one."""
    written(tmp_path, "image.png", encode(RGB, "PNG"))
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder-link.png").symlink_to(tmp_path / "folder.png")
    (tmp_path / ".hidden.png").touch()
    (tmp_path / "broken-link.png").symlink_to(tmp_path / "nothing")  # named when it is read
    scripts = [os.path.basename(path) for _, path in pix2pix.list_images(tmp_path)]
    assert sorted(scripts) == ["broken-link.png", "image.png"]
    assert [path.name for path in tools.find_images(tmp_path)] == scripts


# ------------------------------------------------------------------------------------------- sizes


def test_more_pixels_than_can_be_held(tmp_path):
    """By the header alone."""
    claimed = [header(40000, 30000), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    path = written(tmp_path, "huge.png", to_png(claimed))
    message = refused(path, "40000x30000", "536 megapixels")
    assert "damaged" not in message


def test_a_hundred_and_eighty_megapixels(tmp_path):
    """More than Pillow's own limit, and without Python's warning of it."""
    path = tmp_path / "map.png"
    row = b"\0" + bytes([0x55] * 1750)
    compress = zlib.compressobj(1)
    pixels = b"".join(compress.compress(row) for _ in range(13000)) + compress.flush()
    path.write_bytes(to_png([header(14000, 13000, 1, 0), (b"IDAT", pixels), (b"IEND", b"")]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = tools.open_image(path)
    assert (image.mode, image.size) == ("RGB", (14000, 13000))
    assert image.getpixel((0, 0)) == (0, 0, 0) and image.getpixel((13999, 12999)) == (255,) * 3


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"msf1"])
def test_heic_without_its_package(brand, tmp_path, monkeypatch):
    """A name, if not the format, tells which package is missing."""
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    contents = b"\0\0\0\x18ftyp" + brand + bytes(4) + b"mif1heic" + bytes(64)
    message = refused(written(tmp_path, "phone.jpg", contents), "pip install pillow-heif", "JPEG")
    assert "damaged" not in message


def test_heic_with_its_package(tmp_path, monkeypatch):
    """pillow-heif teaches Pillow the format; then the file is opened once more."""
    heif = type(sys)("pillow_heif")
    opened = []

    def accept(prefix):
        return prefix[4:12] == b"ftypheic"

    def decode(file, _):
        opened.append(file)
        return Image.fromarray(RGB)

    heif.register_heif_opener = lambda: Image.register_open("HEIF", decode, accept)
    monkeypatch.setitem(sys.modules, "pillow_heif", heif)
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    path = written(tmp_path, "phone.heic", b"\0\0\0\x18ftypheic" + bytes(64))
    np.testing.assert_array_equal(tools.read_image(path), RGB)
    assert len(opened) == 1


# ---------------------------------------------------------------------------------------- resizing


@pytest.mark.parametrize("size", [(9, 30), (30, 9), (24, 40), (5, 5), (12, 20), (1, 1), (12, 7)])
def test_resize_is_pillows_bicubic_first_in_width(size):
    """In both directions, and where only one side changes."""
    for image in (RGB, SMOOTH):
        for module in READERS:
            np.testing.assert_array_equal(module.resize(image, size), resized(image, size))


def test_the_order_of_the_passes_matters():
    """Rounding between them: the test above would find them exchanged."""
    image = noise(61, 90)
    tall = Image.fromarray(image).resize((90, 33), Image.Resampling.BICUBIC)
    other = np.asarray(tall.resize((47, 33), Image.Resampling.BICUBIC))
    assert (resized(image, (33, 47)) != other).any()
    np.testing.assert_array_equal(pix2pix.resize(image, (33, 47)), resized(image, (33, 47)))


@pytest.mark.parametrize(
    "name",
    ["rgb.png", "exif6-late.png", "rgba.png", "palette.png", "grey16.png", "exif5-app1.jpg",
     "animated.webp", "cmyk.tif"],
)  # fmt: skip
def test_reading_at_a_size_is_reading_and_resizing(name, tmp_path):
    path = written(tmp_path, name, all_files()[name][0])
    for size in [(9, 30), (24, 7), oracle(path).shape[:2]]:
        for module in READERS:
            seen = module.read_image(path, size)
            np.testing.assert_array_equal(seen, module.resize(module.read_image(path), size))
        np.testing.assert_array_equal(seen, resized(oracle(path), size))


# --------------------------------------------------------------------- scripts and tools as a whole


FOLDER = [
    "rgb.jpg", "palette-alphas.png", "grey16-clear.png", "palette.bmp", "clear.gif",
    "animated.webp", "rgba.avif", "grey16-big-endian.tif", "cmyk-no-marker.jpg",
    "exif6-after-128k.jpg", "exif8-late.png", "exif7-exif.webp", "exif5-tag.tif",
]  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The folder of a training of pix2pix.py of 0 steps, with stronger weights than at its start,
    so that translations have contrasts."""
    script = SCRIPTS["pix2pix"]
    folder = tmp_path_factory.mktemp("untrained") / "tiny_train"
    folder.mkdir()
    model = script.algorithm(script.options(input_dir="."), training=False)
    weights = pix2pix.weights_of(model)
    for weight in weights["generator"].values():
        weight.assign(weight * 4)
    saver = pix2pix.tf.train.Checkpoint(**weights)
    pix2pix.tf.train.CheckpointManager(saver, folder, 1, checkpoint_name="model").save(1)
    options = {"script": "pix2pix", **vars(model.args)}
    del options["saved"], options["given"]
    (folder / "options.json").write_text(json.dumps(options))
    return folder


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """{name: pixels} of a folder of mixed formats, some with names of others, and the folder."""
    folder = tmp_path_factory.mktemp("mixed")
    right = {}
    for number, name in enumerate(FOLDER):
        stem, _, extension = name.rpartition(".")
        extension = [extension, "png", "jpg"][number % 3]
        path = written(folder, f"{stem}.{extension}", all_files()[name][0])
        right[stem] = oracle(path)
    return right, folder


@once
def test_a_test_and_translate_see_these_pixels(script, checkpoint, mixed, tmp_path):
    right, folder = mixed
    script(
        "--mode",
        "test",
        "--nopaired",
        "--native_size",
        "--checkpoint",
        checkpoint,
        "--input_dir",
        folder,
        "--output_dir",
        tmp_path / "test",
    )
    tested = pngs(tmp_path / "test")
    for name, pixels in right.items():
        np.testing.assert_array_equal(tested[f"{name}-inputs.png"], pixels, name)
    assert len(tested) == 2 * len(right)
    done = run_tool("translate", checkpoint, folder, "--native_size", "--output_dir", tmp_path / "translated")
    assert done.returncode == 0 and done.stderr == "", done
    for name in right:
        translation = read_png(tmp_path / "translated" / f"{name}.png")
        np.testing.assert_array_equal(translation, tested[f"{name}-outputs.png"], name)


@once
def test_a_test_at_the_size_of_training(script, checkpoint, mixed, tmp_path):
    right, folder = mixed
    script("--mode", "test", "--nopaired", "--checkpoint", checkpoint, "--input_dir", folder, "--output_dir", tmp_path)
    tested = pngs(tmp_path)
    for name, pixels in right.items():
        np.testing.assert_array_equal(tested[f"{name}-inputs.png"], resized(pixels, (64, 64)), name)


def test_process_sees_these_pixels(mixed, tmp_path):
    """combine changes none of them, and sees that they have the sizes of their upright images. In a
    process of its own, which starts others."""
    right, folder = mixed
    for name, pixels in right.items():
        save_image(tmp_path / "upright" / f"{name}.png", pixels)
    words = ["--operation", "combine", "--input_dir", folder, "--b_dir", tmp_path / "upright"]
    command = [sys.executable, ROOT / "tools" / "process.py", *words, "--workers", "1"]
    command += ["--output_dir", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "error" not in done.stderr, done
    for name, pixels in right.items():
        pair = read_png(tmp_path / "out" / f"{name}.png")
        np.testing.assert_array_equal(pair, np.concatenate([pixels, pixels], 1), name)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_training_sees_these_pixels(name, mixed, tmp_path):
    """In the graph of its input pipeline."""
    module = SCRIPTS[name].module
    right, folder = mixed
    names, paths = zip(*module.list_images(folder), strict=True)
    assert sorted(names) == sorted(right)

    def load(path):
        return module.read_in_graph(module.Domain(), path, (18, 22))

    dataset = module.tf.data.Dataset.from_tensor_slices(module.names_of(paths)).map(load)
    for stem, image in zip(names, dataset, strict=True):
        np.testing.assert_array_equal(image, resized(right[stem], (18, 22)), stem)


@once
def test_a_pair_is_turned_before_it_is_cut(script, tmp_path):
    """Its halves are those of the upright image, and each is resized by itself."""
    tall = written(tmp_path, "pair.png", encode(TURNS[8](RGB), "PNG", exif=exif(6)))
    np.testing.assert_array_equal(read(tall), RGB)
    halves = [RGB[:, : WIDTH // 2], RGB[:, WIDTH // 2 :]]
    rgb = script.module.Domain()
    read_pair = script.module.Pairs(rgb, rgb, {}).read
    pair = read_pair(tall)
    np.testing.assert_array_equal(pair, np.concatenate(halves, -1))
    pair = read_pair(tall, (9, 7))
    np.testing.assert_array_equal(pair, np.dstack([resized(half, (9, 7)) for half in halves]))


@once
def test_unreadable_images_do_not_stop_a_test(script, checkpoint, tmp_path):
    """The others are translated; the one line names the first of them, and counts them."""
    folder = tmp_path / "in"
    save_image(folder / "good.png", RGB)
    written(folder, "bands.tif", tiff(RGBA, 2))
    written(folder, "text.jpg", b"text")
    written(folder, "deep.tif", tiff(RGB[..., :1].astype(np.float32), 1, sample_format=3))
    os.mkfifo(folder / "pipe.png")
    words = ["--mode", "test", "--nopaired", "--checkpoint", checkpoint, "--input_dir", folder]
    code, out, err = script.run(*words, "--output_dir", tmp_path / "out")
    assert code == 2 and "(4 images)" in out
    assert_one_line(err, folder / "bands.tif", "fourth", "3 of 4")
    assert sorted(pngs(tmp_path / "out")) == ["good-inputs.png", "good-outputs.png"]
