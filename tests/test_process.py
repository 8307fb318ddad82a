"""tools/process.py through its command line: what comes out pixel by pixel, what is read, and what goes wrong."""

import contextlib
import importlib
import os
import resource
import signal
import struct
import subprocess
import sys
import time
import types
import unicodedata
import zlib
from concurrent.futures import ThreadPoolExecutor

import filelock
import numpy as np
import pytest
from conftest import ROOT, assert_one_line, save_image
from PIL import Image, ImageDraw, ImageFilter
from run_tool import run_tool

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
module = importlib.import_module("process")
images = importlib.import_module("images")


def words(operation, input_dir, output_dir, *options):
    folders = ["--input_dir", input_dir, "--output_dir", output_dir]
    return ["--operation", operation, "--workers", "1", *folders, *options]


def command(*arguments):
    """The command as a process of its own."""
    return [sys.executable, ROOT / "tools" / "process.py", *words(*arguments)]


@contextlib.contextmanager
def threads():
    """Threads do the work of the processes, whose start takes longer than the work on a few small images."""
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ProcessPoolExecutor", lambda count, context, start: ThreadPoolExecutor(count))
        yield
    signal.signal(signal.SIGTERM, handler)


def process(*arguments, code=0, as_user=False, **options):
    """Runs the command, checks its exit code, gives (stdout, stderr). as_user: with processes."""
    if as_user:
        done = subprocess.run(command(*arguments), capture_output=True, text=True, **options)
    else:
        with threads():
            done = run_tool("process", *words(*arguments))
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def fails(*arguments, code=2, **options):
    """Runs a command that the user got wrong; gives its message, which has to be one line."""
    _, message = process(*arguments, code=code, **options)
    assert_one_line(message)
    return message


def save(path, pixels, **options):
    save_image(path, pixels if isinstance(pixels, Image.Image) else np.asarray(pixels, np.uint8), **options)


def load(path):
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image).astype(int)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def quadrants(side=32):
    """Red, green / blue, white."""
    return np.array([[RED, GREEN], [BLUE, WHITE]]).repeat(side, 0).repeat(side, 1)


@pytest.fixture
def inp(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


# Operations


def test_resize_cuts_the_centre_to_the_aspect(inp, out):
    wide, tall = np.full((20, 60, 3), RED), np.full((60, 20, 3), RED)
    wide[:, 20:40] = tall[20:40] = BLUE
    save(inp / "wide.png", wide)
    save(inp / "tall.png", tall)
    process("resize", inp, out, "--size", "20")
    for name in ("wide", "tall"):
        np.testing.assert_array_equal(load(out / f"{name}.png"), np.full((20, 20, 3), BLUE))


def test_resize_keeps_an_image_of_the_right_size_and_defaults_to_256(inp, out):
    pixels = noise(256, 256)
    save(inp / "a.png", pixels)
    process("resize", inp, out)
    np.testing.assert_array_equal(load(out / "a.png"), pixels)


def test_size_is_height_by_width(inp, out):
    save(inp / "a.png", noise(30, 30))
    process("resize", inp, out, "--size", "20x50")
    assert load(out / "a.png").shape == (20, 50, 3)


def animal(head_at):
    """A grey body of 100x140 pixels, and a blue head of 40x40 above it whose left edge is given."""
    pixels = np.full((256, 256, 3), WHITE)
    pixels[100:200, 60:200] = 128
    pixels[70:110, head_at : head_at + 40] = BLUE
    return pixels


@pytest.mark.parametrize("head_at", [60, 150])
def test_heads_are_in_the_middle_and_larger(inp, out, head_at):
    save(inp / "cat.png", animal(head_at))
    process("heads", inp, out, "--size", "256")
    image = load(out / "cat.head.png")
    rows, columns = np.nonzero(np.abs(image - BLUE).max(axis=2) < 60)
    assert rows.size > 2 * 40 * 40
    assert rows.mean() < 128
    assert abs(columns.mean() - 128) < 45


def test_heads_add_white_where_the_image_ends(inp, out):
    save(inp / "cat.png", animal(60)[70:, 60:])
    process("heads", inp, out, "--size", "256")
    image = load(out / "cat.head.png")
    assert image[0].min() > 240
    assert image[:, 0].min() > 240


def test_round_heads_end_in_an_arc(inp, out):
    save(inp / "cat.png", animal(100))
    process("heads", inp, out, "--size", "256")
    process("heads", inp, out, "--size", "256", "--round")
    whole = load(out / "cat.head.png")
    head = load(out / "cat.round.png")
    rows, columns = np.ogrid[:256, :256]
    is_kept = (rows < 0.4 * 256) | (np.hypot(rows - 128, columns - 128) < 80)
    np.testing.assert_array_equal(head[is_kept], whole[is_kept])
    assert whole[250].min() < 200
    assert head[250].min() > 240


def test_heads_names_an_image_without_a_thing(inp, out):
    save(inp / "cat.png", animal(60))
    save(inp / "white.png", np.full((64, 64, 3), WHITE))
    _, message = process("heads", inp, out, code=1)
    assert "white.png" in message and "no thing on white" in message
    assert [path.name for path in out.iterdir()] == ["cat.head.png"]


def test_resize_pads_with_white(inp, out):
    save(inp / "a.png", np.full((20, 40, 3), BLUE))
    process("resize", inp, out, "--size", "80", "--pad")
    want = np.full((80, 80, 3), WHITE)
    want[20:60] = BLUE
    np.testing.assert_array_equal(load(out / "a.png"), want)


def test_pad_makes_a_square_and_keeps_the_pixels(inp, out):
    pixels = noise(20, 30)
    save(inp / "a.png", pixels)
    process("pad", inp, out)
    want = np.full((30, 30, 3), WHITE)
    want[5:25] = pixels
    np.testing.assert_array_equal(load(out / "a.png"), want)


def test_pad_to_a_size(inp, out):
    save(inp / "a.png", np.full((10, 20, 3), BLUE))
    process("pad", inp, out, "--size", "30x40")
    want = np.full((30, 40, 3), WHITE)
    want[5:25] = BLUE
    np.testing.assert_array_equal(load(out / "a.png"), want)


def test_blank_whitens_a_square_in_the_centre(inp, out):
    pixels = noise(40, 60)
    save(inp / "a.png", pixels)
    process("blank", inp, out)
    want = pixels.copy()
    want[14:26, 24:36] = 255  # 12 pixels: 0.3 of 40
    np.testing.assert_array_equal(load(out / "a.png"), want)


def test_grayscale_is_luma_in_three_channels(inp, out):
    pixels = noise(8, 8)
    save(inp / "a.png", pixels)
    process("grayscale", inp, out)
    got = load(out / "a.png")
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    assert np.abs(got - luma[..., None]).max() <= 1  # three equal channels, ITU-R 601 weights


def test_combine_puts_a_left_and_matches_by_stem(inp, out, tmp_path):
    left, right = noise(16, 24, seed=1), noise(16, 24, seed=2)
    save(inp / "x.png", left)
    save(tmp_path / "b" / "x.tif", right)
    process("combine", inp, out, "--b_dir", tmp_path / "b")
    np.testing.assert_array_equal(load(out / "x.png"), np.hstack([left, right]))


def append_exif(path, data):
    """Puts EXIF data at the end of a PNG, before IEND."""
    contents, chunk = path.read_bytes(), b"eXIf" + data
    chunk = struct.pack(">I", len(data)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(contents[:-12] + chunk + contents[-12:])


@pytest.mark.parametrize("name", ["first.jpg", "last.png"])
def test_combine_compares_sizes_as_they_are_seen(inp, out, tmp_path, name):
    """A phone's upright image is stored sideways: 48x32 in the file, 32x48 to the eye. A PNG may say so at its end."""
    exif = Image.Exif()
    exif[0x0112] = 6
    save(inp / name, np.full((32, 48, 3), RED), **({"exif": exif} if name == "first.jpg" else {}))
    if name == "last.png":
        append_exif(inp / name, exif.tobytes().removeprefix(b"Exif\0\0"))
    save(tmp_path / "b" / name, np.full((48, 32, 3), BLUE))
    process("combine", inp, out, "--b_dir", tmp_path / "b")
    assert load((out / name).with_suffix(".png")).shape == (48, 64, 3)


BROKEN_EXIF = {
    "no EXIF": b"garbage",
    "a text for a number": b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0abc\0",
    "no such orientation": b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0\0\0\0\0",
}


@pytest.mark.parametrize("data", BROKEN_EXIF.values(), ids=BROKEN_EXIF)
def test_combine_compares_sizes_of_images_with_broken_exif(inp, out, tmp_path, data):
    """They are read as they are, so equal sizes make a pair, and others are refused."""
    save(inp / "a.png", noise(12, 8))
    append_exif(inp / "a.png", data)
    save(tmp_path / "b" / "a.png", noise(10, 8))
    assert "a.png 8x12 / 8x10" in fails("combine", inp, out, "--b_dir", tmp_path / "b")
    assert not out.exists()
    save(tmp_path / "b" / "a.png", noise(12, 8))
    process("combine", inp, out, "--b_dir", tmp_path / "b")
    assert load(out / "a.png").shape == (12, 16, 3)


def test_combine_compares_sizes_of_heic(inp, out, tmp_path, monkeypatch):
    """With a stand-in for pillow-heif, which teaches Pillow the format when the first file is read."""

    def accept(prefix):
        return prefix[4:12] == b"ftypheic"

    def decode(file, _):
        return Image.new("RGB", (8, file.read()[-1]), RED)

    heif = types.SimpleNamespace(register_heif_opener=lambda: Image.register_open("HEIF", decode, accept))
    monkeypatch.setitem(sys.modules, "pillow_heif", heif)
    Image.init()  # or the formats that are found meanwhile would be lost with the copies
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    (inp / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes([10]))
    save(tmp_path / "b" / "a.png", noise(12, 8))
    assert "a.heic 8x10 / 8x12" in fails("combine", inp, out, "--b_dir", tmp_path / "b")
    assert not out.exists()


def test_edges_are_thin_black_lines_on_white(inp, out):
    pytest.importorskip("cv2", reason="pip install opencv-python-headless")
    pixels = np.full((128, 128, 3), WHITE)
    pixels[32:96, 32:96] = (40, 90, 160)
    save(inp / "square.png", pixels)
    save(
        inp / "equal.png", np.where(pixels == WHITE, np.array([178, 100, 100]), np.array([100, 130, 150]))
    )  # in brightness
    save(inp / "flat.png", np.full((64, 64, 3), 90))
    save(inp / "faint.png", np.clip(128 + np.random.default_rng(0).normal(0, 3, (128, 128, 1)), 0, 255).repeat(3, 2))
    process("edges", inp, out)
    for name in ("square", "equal"):
        got = load(out / f"{name}.png")
        assert set(np.unique(got)) == {0, 255}
        dark = (got == 0).all(axis=2)
        near = np.zeros((128, 128), bool)
        near[30:98, 30:98] = True
        near[35:93, 35:93] = False
        assert not dark[~near].any()  # on the contour, nowhere else
        assert dark[64].sum() == dark[:, 64].sum() == 2  # across the square: two lines, each one pixel thin
        assert 4 * 58 <= dark.sum() <= 4 * 68  # and closed
    assert (load(out / "flat.png") == 255).all() and (load(out / "faint.png") == 255).all()


@pytest.fixture
def face(inp):
    """A photograph of a head: an outline, two eyes, a nose, and stripes."""
    pytest.importorskip("cv2", reason="pip install opencv-python-headless")
    image = Image.new("RGB", (256, 256), WHITE)
    pen = ImageDraw.Draw(image)
    pen.ellipse((40, 40, 216, 216), fill=(150, 110, 70))
    pen.ellipse((90, 100, 106, 116), fill=(20, 60, 20))
    pen.ellipse((150, 100, 166, 116), fill=(20, 60, 20))
    pen.polygon([(120, 140), (136, 140), (128, 152)], fill=(220, 120, 120))
    for left in range(80, 180, 12):
        pen.line((left, 170, left + 4, 200), fill=(120, 85, 50), width=3)
    image.save(inp / "cat.png")
    return inp / "cat.png"


def outline_of(drawing):
    """Where the ring of face's outline should be, and the share of it that has a line near."""
    rows, columns = np.mgrid[:256, :256]
    distance = np.hypot(rows - 128, columns - 128)
    near = np.array(Image.fromarray((drawing < 128).all(-1)).convert("L").filter(ImageFilter.MaxFilter(15))) > 0
    return near[abs(distance - 88) < 1].mean()


def test_drawings_by_hand_differ_and_keep_to_the_contours(face, inp, out):
    process("edges", inp, out, "--hand", "0.5", "--variants", "6")
    assert sorted(path.name for path in out.iterdir()) == [f"cat.hand{i}.png" for i in range(1, 7)]
    drawings = [load(path) for path in sorted(out.iterdir())]
    ink = [(255.0 - drawing).mean() for drawing in drawings]
    assert max(ink) > 1.3 * min(ink)  # thick and thin, with and without detail
    for drawing in drawings:
        assert (drawing[..., :1] == drawing).all() and drawing.mean() > 200  # black on white
        assert outline_of(drawing) > 0.7
    exact = np.zeros((256, 256, 3), np.uint8)
    assert outline_of(exact) == 1 and outline_of(255 - exact) == 0  # the measure can fail


def test_drawings_are_the_same_for_a_seed_and_for_any_number_of_workers(face, inp, out, tmp_path):
    options = ["--hand", "1", "--variants", "2"]
    process("edges", inp, out, *options)
    process("edges", inp, tmp_path / "again", *options, "--workers", "2", as_user=True)
    process("edges", inp, tmp_path / "other", *options, "--seed", "1")
    for name in ("cat.hand1.png", "cat.hand2.png"):
        assert (load(out / name) == load(tmp_path / "again" / name)).all()
        assert (load(out / name) != load(tmp_path / "other" / name)).any()


def test_a_hand_of_hardly_any_strength_draws_the_lines_of_edges(face, inp, out, tmp_path):
    """In their places: a thick pen covers the thin lines, and strays no farther than its width."""
    process("edges", inp, tmp_path / "exact")
    process("edges", inp, out, "--hand", "0.001", "--variants", "8")
    exact = (load(tmp_path / "exact" / "cat.png") == 0).all(-1)
    near = np.array(Image.fromarray(exact).convert("L").filter(ImageFilter.MaxFilter(9))) > 0
    shares = []
    for path in out.iterdir():
        ink = (load(path) < 128).all(-1)
        shares.append((ink & near).sum() / ink.sum())
    assert np.median(shares) > 0.9


def test_colours_of_drawings_are_those_of_the_photo_in_their_place(face, inp, out):
    process("edges", inp, out, "--hand", "0.5", "--variants", "12", "--colours", "0.5")
    photo = load(inp / "cat.png").astype(int)
    near = [photo]
    for shift in (-8, 8):
        near += [np.roll(photo, shift, axis) for axis in (0, 1)]
    coloured = 0
    for path in out.iterdir():
        drawing = load(path).astype(int)
        is_coloured = np.ptp(drawing, axis=-1) > 20
        coloured += is_coloured.any()
        if is_coloured.any():
            distance = np.min([abs(drawing - other).max(-1) for other in near], axis=0)
            assert (distance[is_coloured] < 30).mean() > 0.8  # the others are under a soft line's edge
    assert 2 <= coloured <= 10


def test_whiskers_leave_a_thing_on_white(inp, out, tmp_path):
    """Half of the drawings, about, have ink far outside; without --whiskers none has, and the others stay as they
    are."""
    pytest.importorskip("cv2", reason="pip install opencv-python-headless")
    image = np.full((256, 256, 3), 255, np.uint8)
    rows, columns = np.mgrid[:256, :256]
    disc = np.hypot(rows - 128, columns - 128)
    image[disc < 60] = [120, 80, 40]
    save(inp / "disc.png", image)
    flags = ["--hand", "0.3", "--variants", "16"]
    process("edges", inp, tmp_path / "plain", *flags)
    process("edges", inp, out, *flags, "--whiskers", "0.5")
    count = far = 0
    for path in sorted(out.iterdir()):
        drawing, plain = load(path), load(tmp_path / "plain" / path.name)
        assert (plain[disc > 75] == 255).all()
        is_inked = (drawing[disc > 75] < 128).any()
        count += is_inked
        far += (drawing[disc > 95] < 128).any()  # outwards: a stroke starts up to 25 pixels from the edge
        if not is_inked:
            assert (drawing[disc > 75] == 255).all()
        else:
            assert (drawing <= plain).all()  # the same drawing, and strokes on it
    assert 4 <= count <= 12 and far > count / 2
    save(inp / "disc.png", np.full((64, 64, 3), 90, np.uint8))  # nothing white around it
    process("edges", inp, tmp_path / "full", "--hand", "0.3", "--whiskers", "1")
    assert (load(tmp_path / "full" / "disc.png") == 255).all()


def test_drawings_are_combined_with_their_photo(face, inp, out, tmp_path):
    save(inp / "dog.hand2.png", noise(256, 256))  # a photo that is called so
    process("edges", inp, out, "--hand", "0.5", "--variants", "2")
    process("combine", out, tmp_path / "pairs", "--b_dir", inp)
    names = ["cat.hand1.png", "cat.hand2.png", "dog.hand2.hand1.png", "dog.hand2.hand2.png"]
    assert sorted(path.name for path in (tmp_path / "pairs").iterdir()) == names
    for name in names:
        pair = load(tmp_path / "pairs" / name)
        photo = "cat.png" if name.startswith("cat") else "dog.hand2.png"
        assert (pair[:, :256] == load(out / name)).all() and (pair[:, 256:] == load(inp / photo)).all()
    save(inp / "left.png", noise(256, 256))
    assert "left.png" in fails("combine", out, tmp_path / "more", "--b_dir", inp)


@pytest.mark.parametrize(
    "options, words",
    [
        (["--variants", "2"], "--variants needs --hand"),
        (["--colours", "1"], "--colours needs --hand"),
        (["--whiskers", "1"], "--whiskers needs --hand"),
        (["--hand", "2"], "'2' is no number from 0 to 1"),
        (["--hand", "nan"], "'nan' is no number from 0 to 1"),
        (["--hand", "1", "--seed", "-1"], "--seed -1: give 0 or more"),
    ],
)
def test_what_a_user_can_get_wrong_about_drawings(face, inp, out, options, words):
    assert words in fails("edges", inp, out, *options)
    assert not out.exists()


def test_edges_without_opencv_say_how_to_get_it(inp, out, monkeypatch):
    save(inp / "a.png", noise(8, 8))
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert "pip install opencv-python-headless" in fails("edges", inp, out) and not out.exists()


# What is read and written


def test_phone_jpeg_comes_out_upright(inp, out):
    exif = Image.Exif()
    upright = Image.fromarray(quadrants().astype(np.uint8))
    for tag, turn in ((6, Image.Transpose.ROTATE_90), (8, Image.Transpose.ROTATE_270), (3, Image.Transpose.ROTATE_180)):
        exif[0x0112] = tag
        save(inp / f"{tag}.jpg", upright.transpose(turn), exif=exif, quality=95, subsampling=0)
    process("resize", inp, out, "--size", "64")
    for tag in (6, 8, 3):
        got = load(out / f"{tag}.png")
        centres = got[16::32, 16::32].reshape(4, 3)
        assert np.abs(centres - [RED, GREEN, BLUE, WHITE]).max() < 8
        with Image.open(out / f"{tag}.png") as image:
            assert image.getexif().get(0x0112) is None  # not to be turned again


def test_every_kind_of_image_is_read(inp, out):
    ramp = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    save(inp / "grey16.png", Image.fromarray(ramp))
    save(inp / "grey16tif.tif", Image.fromarray(ramp))
    save(inp / "grey8.png", (ramp // 257))
    save(inp / "cmyk.jpg", Image.new("CMYK", (16, 16), (255, 0, 0, 0)), quality=95)
    save(inp / "cmyktif.tiff", Image.new("CMYK", (16, 16), (0, 255, 0, 0)))
    clear = np.zeros((16, 16, 4))
    clear[:8] = (0, 0, 255, 255)
    clear[8:, 8:] = (0, 0, 255, 128)
    save(inp / "rgba.png", clear)
    save(inp / "webp.webp", clear, lossless=True)
    save(inp / "greya.PNG", Image.merge("LA", [Image.new("L", (16, 16), 0), Image.new("L", (16, 16), 0)]))
    palette = Image.fromarray(quadrants(8).astype(np.uint8)).convert("P", palette=Image.Palette.ADAPTIVE)
    save(inp / "palette.png", palette)
    save(inp / "palette_clear.png", Image.new("P", (16, 16), 0), transparency=0)
    save(
        inp / "two.gif",
        Image.new("RGB", (16, 16), RED),
        save_all=True,
        append_images=[Image.new("RGB", (16, 16), BLUE)],
    )
    save(inp / "bilevel.bmp", Image.new("1", (16, 16), 1))
    process("resize", inp, out, "--size", "16")
    grey = np.arange(256).reshape(16, 16, 1).repeat(3, axis=2)
    over_white = np.full((16, 16, 3), WHITE)
    over_white[:8] = BLUE
    over_white[8:, 8:] = (127, 127, 255)
    whole = {
        "cmyk": (0, 255, 255),
        "cmyktif": (255, 0, 255),
        "greya": WHITE,
        "palette_clear": WHITE,
        "two": RED,
        "bilevel": WHITE,
    }
    want = {name: np.full((16, 16, 3), colour) for name, colour in whole.items()}
    want |= {"grey8": grey, "rgba": over_white, "webp": over_white, "palette": quadrants(8)}
    for name in ("grey16.png", "grey16tif.tif"):  # arrays, which keep their type
        with Image.open(out / name) as image:
            np.testing.assert_array_equal(np.asarray(image), ramp)
    assert {path.stem for path in out.iterdir()} == {"grey16", "grey16tif", *want}
    for name, pixels in want.items():
        np.testing.assert_allclose(load(out / f"{name}.png"), pixels, atol=3 if name == "cmyk" else 0, err_msg=name)


def test_dark_16_bit_images_are_warned_of_once(inp, out):
    """By an operation that needs 8 bits: scaled as all others, though a camera of 12 bits leaves them nearly black."""
    for name in "ab":
        save(inp / f"{name}.png", Image.fromarray(np.full((8, 8), 4095, np.uint16)))
    images = importlib.import_module("images")
    images.WARNED.clear()
    _, message = process("grayscale", inp, out, "--size", "8")
    assert message.count("\n") == 1 and message.startswith(f"warning: {inp / 'a.png'}: ")
    assert "4095 of 65535" in message
    for name in "ab":
        assert (load(out / f"{name}.png") == 16).all()


@pytest.mark.parametrize("other", ["NFC", "NFD"])
def test_combine_matches_names_however_their_unicode_is_composed(inp, out, tmp_path, other):
    """macOS may write the é of a name as two characters, other systems write it as one."""
    name = "été 2"
    first = unicodedata.normalize("NFD" if other == "NFC" else "NFC", name)
    second = unicodedata.normalize(other, name)
    assert first != second
    save(inp / f"{first}.png", noise(8, 8))
    save(tmp_path / "b" / f"{second}.png", noise(8, 8))
    said, _ = process("combine", inp, out, "--b_dir", tmp_path / "b")
    assert "1 made" in said
    assert [path.name for path in out.iterdir()] == [unicodedata.normalize("NFC", f"{name}.png")]
    save(inp / f"{second}.jpg", noise(8, 8))
    assert "would both become" in fails("combine", inp, out, "--b_dir", tmp_path / "b")


def test_long_names_are_shortened_and_stay_apart(inp, out, tmp_path):
    """A result has more in its name than its source, and no file system takes over 255 bytes."""
    names = ["x" * 250 + end for end in "12"] + ["ü" * 100, "short"]
    for name in names:
        save(inp / f"{name}.png", noise(8, 8))
        save(tmp_path / "b" / f"{name}.bmp", noise(8, 8))
    for _ in range(2):  # the second run finds all of them
        said, _ = process("combine", inp, out, "--b_dir", tmp_path / "b")
    assert "0 made, 4 there already" in said
    made = sorted(path.name for path in out.iterdir())
    assert len(made) == 4 and made[0] == "short.png"
    assert max(len(os.fsencode(name)) for name in made) <= 184
    assert sum(name.startswith("x" * 150) and "~" in name for name in made) == 2


def test_jpeg_output(inp, out):
    save(inp / "a.png", np.full((32, 32, 3), (200, 30, 60)))
    process("resize", inp, out, "--size", "32", "--format", "jpg")
    with Image.open(out / "a.jpg") as image:
        assert image.format == "JPEG"
    assert np.abs(load(out / "a.jpg") - (200, 30, 60)).max() <= 3


@pytest.mark.parametrize("options", [("--format", "jpg"), ("--pad",)])
def test_scans_of_16_bits_become_8_bits_where_images_are_asked_for(inp, out, options):
    """Scanners write them. --format jpg and --pad make images, all else keeps their type."""
    grey = np.full((32, 32, 1), 40000, np.uint16)
    (inp / "grey.tif").write_bytes(images.encode_array(grey, ".tif"))
    (inp / "deep.png").write_bytes(images.encode_array(grey, ".png"))
    (inp / "float.tif").write_bytes(images.encode_array(np.float32(grey), ".tif"))
    _, errors = process("resize", inp, out, "--size", "32", *options, code=1)
    assert len(errors.splitlines()) == 1 and "float.tif" in errors
    made = sorted(out.iterdir())
    suffix = ".png" if "--pad" in options else ".jpg"
    assert [path.name for path in made] == [f"deep{suffix}", f"grey{suffix}"]
    for path in made:
        assert images.kind_of(path) == "picture" and np.abs(load(path) - 40000 / 257).max() <= 2


# Runs


def test_second_run_skips_what_exists_and_makes_what_is_missing(inp, out):
    for name in "abc":
        save(inp / f"{name}.png", noise(20, 20))
    process("resize", inp, out, "--size", "8")
    (out / "b.png").unlink()
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    said, _ = process("resize", inp, out, "--size", "8")
    assert "1 made, 2 there already, 0 failed" in said
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {path.name for path in out.iterdir()} == {"a.png", "b.png", "c.png"}


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_stopped_in_the_middle_leaves_whole_images_and_goes_on(inp, out, sent):
    pixels = noise(600, 600)
    for number in range(60):
        save(inp / f"{number}.bmp", pixels)
    options = {"stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in a background job it is ignored, by children too
    running = subprocess.Popen(command("resize", inp, out, "--size", "700"), **options)
    while not out.exists() or len(list(out.glob("*.png"))) < 2:
        assert running.poll() is None
        time.sleep(0.01)
    if sent == signal.SIGINT:
        os.killpg(running.pid, sent)  # as Ctrl-C does: the workers get it too
    else:
        running.send_signal(sent)
    _, message = running.communicate(timeout=20)  # returns when the workers too have closed stderr
    assert running.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[sent]
    assert "Traceback" not in message
    made = [path for path in out.iterdir() if path.name != ".process.lock"]
    assert 2 <= len(made) < 60
    assert sent == signal.SIGKILL or len(made) == len(list(out.iterdir()))
    for path in made:
        assert load(path).shape == (700, 700, 3)  # whole, and nothing else lies there
    for number in range(10, 60):
        (inp / f"{number}.bmp").unlink()
    process("resize", inp, out, "--size", "700")
    assert {f"{number}.png" for number in range(10)} <= {path.name for path in out.iterdir()}
    assert all(path.suffix == ".png" for path in out.iterdir())


def test_killed_amid_a_file_leaves_nothing_under_its_name(inp, out):
    save(inp / "a.bmp", noise(1500, 1500))
    running = subprocess.Popen(
        command("resize", inp, out, "--size", "2500"), stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not any(path.stat().st_size for path in out.glob(".a.png.*.part")):
        assert running.poll() is None
        time.sleep(0.001)
    os.killpg(running.pid, signal.SIGKILL)  # the worker too
    running.wait()
    assert not (out / "a.png").exists()
    process("resize", inp, out, "--size", "2500")
    assert [path.name for path in out.iterdir()] == ["a.png"]  # the remains are cleared away
    assert load(out / "a.png").shape == (2500, 2500, 3)


def test_a_folder_is_written_by_one_run_at_a_time(inp, out):
    """And the lock of a run that was killed keeps nobody out."""
    save(inp / "a.png", noise(8, 8))
    out.mkdir()
    with filelock.FileLock(out / ".process.lock"):
        message = fails("resize", inp, out)
        assert f"another process.py writes to {out}" in message and "--output_dir" in message
        assert not list(out.glob("*.png"))
    (out / ".process.lock").touch()
    process("resize", inp, out)
    assert [path.name for path in out.iterdir()] == ["a.png"]


def test_only_its_own_remains_are_removed(inp, out):
    save(inp / "a.png", noise(8, 8))
    out.mkdir()
    for name in (".a.png.123.part", ".b.png.123.part", ".a.part", "a.png.part", ".process.part"):
        (out / name).write_text("half")
    process("resize", inp, out)
    left = {"a.png", ".b.png.123.part", ".a.part", "a.png.part", ".process.part"}
    assert {path.name for path in out.iterdir()} == left


def test_workers_give_the_same_pixels(inp, out, tmp_path):
    for number in range(6):
        save(inp / f"{number}.png", noise(50, 40, seed=number))
    process("resize", inp, out, "--size", "30")
    process("resize", inp, tmp_path / "two", "--size", "30", "--workers", "2", as_user=True)
    for number in range(6):
        np.testing.assert_array_equal(load(out / f"{number}.png"), load(tmp_path / "two" / f"{number}.png"))


# Errors


def test_images_of_folders_inside_are_left_out_and_that_is_said(inp, out):
    save(inp / "a.png", noise(9, 9))
    save(inp / "summer" / "b.png", noise(9, 9))
    (inp / "Thumbs.db").write_bytes(b"of Windows")
    (inp / ".DS_Store").write_bytes(b"of macOS")
    said, errors = process("resize", inp, out, "--size", "8")
    assert "1 made" in said and errors == f"{inp}: 2 left out, e.g. summer: no images directly in the folder\n"


def test_a_pair_of_two_types_is_named(inp, out, tmp_path):
    other = tmp_path / "b"
    other.mkdir()
    (inp / "1.tif").write_bytes(images.encode_array(np.full((9, 9, 1), 4000, np.uint16), ".tif"))
    (other / "1.TIF").write_bytes(images.encode_array(np.full((9, 9, 1), -5, np.float32), ".tif"))
    _, errors = process("combine", inp, out, "--b_dir", other, code=1)
    assert f"{inp / '1.tif'} + {other / '1.TIF'}: uint16" in errors and "trainA and trainB" in errors


def test_unreadable_images_are_named_and_the_others_done(inp, out):
    save(inp / "good.png", noise(20, 20))
    save(inp / "cut.png", noise(90, 90))
    (inp / "cut.png").write_bytes((inp / "cut.png").read_bytes()[:5000])
    (inp / "text.jpg").write_text("not an image")
    save(inp / "float.tif", Image.new("F", (9, 9), 0.5))
    said, errors = process("grayscale", inp, out, "--size", "8", code=1, as_user=True)
    assert "1 made, 0 there already, 3 failed" in said
    lines = errors.splitlines()
    assert len(lines) == 3 and all(str(inp / name) in errors for name in ("cut.png", "text.jpg", "float.tif"))
    assert [path.name for path in out.iterdir()] == ["good.png"]


def test_combine_refuses_unequal_names_and_lists_ten(inp, out, tmp_path):
    save(tmp_path / "b" / "both.png", noise(8, 8))
    save(tmp_path / "b" / "only_b.png", noise(8, 8))
    save(inp / "both.png", noise(8, 8))
    for number in range(1, 13):
        save(inp / f"alone{number}.png", noise(8, 8))
    message = fails("combine", inp, out, "--b_dir", tmp_path / "b")
    assert "13 without a counterpart" in message and "alone10.png and 3 more" in message and "alone11" not in message
    assert not out.exists()
    for number in range(1, 13):
        (inp / f"alone{number}.png").unlink()
    assert "only_b.png" in fails("combine", inp, out, "--b_dir", tmp_path / "b")


def test_combine_refuses_unequal_sizes_and_lists_ten(inp, out, tmp_path):
    for number in range(1, 13):
        save(inp / f"{number}.png", noise(8, 10))
        save(tmp_path / "b" / f"{number}.png", noise(8, 10 if number == 1 else 12))
    message = fails("combine", inp, out, "--b_dir", tmp_path / "b")
    assert "11 pairs" in message and "2.png 10x8 / 12x8" in message and "11.png" in message and "12.png" not in message
    assert not out.exists()


def test_combine_names_an_unreadable_image_and_does_the_others(inp, out, tmp_path):
    for name in "ab":
        save(inp / f"{name}.png", noise(8, 8))
        save(tmp_path / "b" / f"{name}.png", noise(8, 8))
    (tmp_path / "b" / "a.png").write_text("not an image")
    assert str(tmp_path / "b" / "a.png") in fails("combine", inp, out, "--b_dir", tmp_path / "b", code=1)
    assert [path.name for path in out.iterdir()] == ["b.png"]


@pytest.mark.parametrize(
    ("operation", "options", "says"),
    [
        ("resize", ["--size", "0"], "a size of 0"),
        ("resize", ["--size", "0x256"], "a size of 0x256"),
        ("resize", ["--size", "-5"], "--size"),
        ("resize", ["--size", "big"], "'big' is not a size"),
        ("resize", ["--workers", "0"], "at least 1"),
        ("rotate", [], "invalid choice: 'rotate'"),
        ("resize", ["--format", "bmp"], "invalid choice: 'bmp'"),
        ("resize", ["--b_dir", "x"], "--b_dir is for --operation combine and stack"),
        ("stack", [], "needs --b_dir"),
        ("crop", [], "needs a --size"),
        ("split", [], "needs --half A or B"),
        ("resize", ["--half", "A"], "no other operation takes it"),
        ("combine", [], "needs --b_dir"),
        ("combine", ["--b_dir", "x", "--size", "9"], "use --operation resize"),
        ("blank", ["--pad"], "--pad needs a --size"),
        ("edges", ["--round"], "--round is for --operation heads"),
    ],
)
def test_wrong_options(inp, out, operation, options, says):
    save(inp / "a.png", noise(8, 8))
    assert says in fails(operation, inp, out, *options)
    assert not out.exists()


def test_wrong_folders(inp, out, tmp_path):
    assert "holds no images" in fails("resize", inp, out)
    assert "is not a folder" in fails("resize", tmp_path / "nowhere", out)
    save(inp / "a.png", noise(8, 8))
    assert "input folder too" in fails("resize", inp, f"{inp}/../in")
    (tmp_path / "file").write_text("here first")
    assert "cannot make the folder" in fails("resize", inp, tmp_path / "file")
    assert "cannot make the folder" in fails("resize", inp, tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "here first"
    save(inp / "a.jpg", noise(8, 8))
    assert "would both become a" in fails("resize", inp, out)
    assert not out.exists()


def test_folders_that_cannot_be_looked_into(inp, out, tmp_path):
    """A name that is too long stands for all that a system refuses, such as a folder of another user."""
    save(inp / "a.png", noise(8, 8))
    long = tmp_path / ("x" * 300)
    assert f"{long}: File name too long" in fails("resize", long, out)
    assert "File name too long" in fails("resize", inp, long)
    assert f"{long}: File name too long" in fails("combine", inp, out, "--b_dir", long)
    assert not out.exists()


def test_output_that_cannot_be_written(inp, out):
    """A file of more bytes than are allowed stands for a full disk: it is named, and nothing of it is left."""
    save(inp / "a.png", noise(64, 64))

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    message = fails("resize", inp, out, as_user=True, preexec_fn=limit)
    assert f"cannot write {out / 'a.png'}: File too large" in message and "--output_dir" in message
    assert list(out.iterdir()) == []


def test_help_has_a_line_for_every_option():
    said = run_tool("process", "--help").stdout
    for option in ("input_dir", "output_dir", "operation", "b_dir", "size", "pad", "format", "workers"):
        assert f"  --{option} " in said
