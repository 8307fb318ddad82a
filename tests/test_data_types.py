"""Data that are not 8-bit RGB: arrays, 16 bits, floats, other channels, pairs in two folders (docs/data-types.md)."""

import ast
import json
import pickle
import struct
import sys
import zlib

import numpy as np
import pytest
from conftest import SCRIPTS, only, paint, save_image
from PIL import Image
from run_tool import fails, run_tool

pix2pix = SCRIPTS["pix2pix"].module
SHORT = ["--mode", "train", "--max_steps", 2, "--summary_freq", 0, "--progress_freq", 0, "--seed", 1]
KINDS = {  # type, channels, low, high
    "uint16": ("uint16", 1, 0, 4095),
    "colours": ("uint16", 3, 0, 65535),
    "int16": ("int16", 1, -1024, 3071),
    "float32": ("float32", 2, -5.0, 20.0),
    "bands": ("uint8", 5, 0, 255),
}


def values_of(kind, height=40, width=48, seed=0):
    """An array [height, width, channels] that fills the range of a kind."""
    name, channels, low, high = KINDS[kind]
    waves = [paint(height, width, seed * 10 + channel)[..., 0] for channel in range(channels)]
    fractions = (np.float64(np.stack(waves, -1)) - 28) / 200
    values = low + np.clip(fractions, 0, 1) * (high - low)
    return values.astype(name) if name == "float32" else np.rint(values).astype(name)


def save_array(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        path.write_bytes(pix2pix.encode_array(array, path.suffix))
    return path


def save_folders(folder, a, b, suffix=".npy", counts=(3, 2)):
    """trainA, trainB, testA, testB with arrays of two kinds under equal names. Returns the folder."""
    for split, count in zip(("train", "test"), counts, strict=True):
        for number in range(count):
            seed = number + (100 if split == "test" else 0)
            save_array(folder / f"{split}A" / f"{number}{suffix}", values_of(a, seed=seed))
            save_array(folder / f"{split}B" / f"{number}{suffix}", values_of(b, seed=seed + 50))
    return folder


def range_flag(*kinds):
    numbers = [number for kind in kinds for number in KINDS[kind][2:]]
    return "--value_range=" + ",".join(f"{number:g}" for number in numbers)


def read_result(path):
    return pix2pix.read_array(path)


def copying(script):
    """The algorithm of a script with networks that give their inputs."""

    class Copy(script.algorithm):
        def translate(self, images):
            domain = getattr(self, "input_domain", None)
            return (domain.to_signed(images) + 1) / 2

        def run_generator(self, direction, images):
            return (self.domains[direction[0]].to_signed(images) + 1) / 2

    return Copy


# -------------------------------------------------------------------------------------------------------- the whole way


MORE = [pytest.param(name, kind, marks=pytest.mark.more) for name in ("cyclegan", "siamesegan") for kind in KINDS]


@pytest.mark.parametrize(("script", "kind"), [*(("pix2pix", kind) for kind in KINDS), *MORE], indirect=["script"])
def test_a_network_that_copies_gives_the_values_back(script, kind, tmp_path):
    """Through training's options.json, test and its files: within half a step of whole numbers, 1e-6 of floats."""
    data = save_folders(tmp_path / "data", kind, kind)
    if script.name == "siamesegan":
        data = tmp_path / "hd"
        for part in ("trainA", "trainB", "testA"):
            for number in range(3):
                save_array(data / part / f"{number}.npy", values_of(kind, 80, 96, number))
    out = tmp_path / "out"
    given = [range_flag(kind)] if kind in ("int16", "float32") else []
    script(*SHORT, *script.tiny, "--input_dir", data, "--output_dir", out, "--display_freq", 2, *given)
    domain = json.loads((out / "options.json").read_text())["domains"]["A"]
    name, channels, low, high = KINDS[kind]
    assert (domain["type"], domain["channels"], domain["low"], domain["high"]) == (name, channels, low, high)

    native = [] if script.name == "siamesegan" else ["--native_size"]
    test = ["--mode", "test", "--checkpoint", out, "--output_dir", tmp_path / "test", *native]
    script(*test, algorithm=copying(script))
    (path,) = (tmp_path / "test/images").glob("0-outputs.*")
    source = values_of(kind, 80, 96, 0) if script.name == "siamesegan" else values_of(kind, seed=100)
    given_back = read_result(path)
    assert (given_back.dtype, given_back.shape) == (source.dtype, source.shape)
    difference = np.abs(np.float64(given_back) - np.float64(source)).max()
    assert difference <= (1e-5 * (high - low) if kind == "float32" else 0)
    assert path.suffix == {"uint16": ".png", "colours": ".png"}.get(kind, ".npy")
    assert (tmp_path / "test/images/0-outputs-preview.png").exists()
    page = (tmp_path / "test/index.html").read_text()
    assert "0-outputs-preview.png" in page and f"0-outputs{path.suffix}" in page and "Previews show" in page


@only("pix2pix")
def test_metrics_are_in_the_units_of_the_data(script, tmp_path):
    """As NumPy computes them from the files that test wrote, and evaluate.py pairs the same again."""
    data = save_folders(tmp_path / "data", "int16", "uint16")
    out, test = tmp_path / "out", tmp_path / "test"
    flags = ["--display_freq", 0, range_flag("int16", "uint16")]
    script(*SHORT, *script.tiny, "--input_dir", data, "--output_dir", out, *flags)
    stdout = script("--mode", "test", "--checkpoint", out, "--output_dir", test)
    assert "in units: L1" in stdout
    metrics = json.loads((test / "metrics.json").read_text())["images"]
    for name, values in metrics.items():
        outputs = np.float64(np.asarray(Image.open(test / f"images/{name}-outputs.png")))
        targets = np.float64(np.asarray(Image.open(test / f"images/{name}-targets.png")))
        assert values["l1_units"] == pytest.approx(np.abs(outputs - targets).mean(), rel=1e-6)
        assert values["rmse_units"] == pytest.approx(np.sqrt(((outputs - targets) ** 2).mean()), rel=1e-6)
        assert values["l1"] == pytest.approx(values["l1_units"] / 4095, rel=1e-5)
    assert read_result(test / "images/0-inputs.npy").dtype == np.int16
    again = json.loads(run_tool("evaluate", "pairs", test, "--json").stdout)["images"]
    for name, values in metrics.items():
        for metric, value in values.items():
            assert again[name][metric] == pytest.approx(value, rel=1e-6), metric
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, kind in zip(folders, ("outputs", "targets"), strict=True):
        for path in (test / "images").glob(f"*-{kind}.png"):
            save_image(folder / path.name.replace(f"-{kind}", ""), Image.open(path))
    fails(run_tool("evaluate", "pairs", *folders), "--value_range")
    fails(run_tool("evaluate", "pairs", test, "--metrics", "lpips"), "lpips is for 8-bit RGB")


# -------------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_deep_png_is_read_at_full_depth(channels, tmp_path):
    """Also with a transparent value and with "Exif" in a text, which other readers fall over."""
    array = np.random.default_rng(channels).integers(0, 65536, [20, 30, channels]).astype(np.uint16)
    transparent = {1: b"\0\7", 3: b"\0\7" * 3}.get(channels)
    chunks = [b"", chunk(b"tEXt", b"Comment\0Exif Exif")]
    if transparent:
        chunks.append(chunk(b"tRNS", transparent))
    for extra in chunks:
        (tmp_path / "deep.png").write_bytes(deep_png(array, extra))
        np.testing.assert_array_equal(pix2pix.read_array(tmp_path / "deep.png"), array)


def chunk(name, contents):
    return struct.pack(">I", len(contents)) + name + contents + struct.pack(">I", zlib.crc32(name + contents))


def deep_png(array, extra=b""):
    """The bytes of a PNG of 16 bits, written by hand."""
    height, width, channels = array.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_arrays_of_any_layout(tmp_path):
    """Big-endian, Fortran order, 16- and 64-bit floats, without a channel axis: the same values."""
    array = np.random.default_rng(0).random([20, 30])
    variants = {
        "big": array.astype(">f4"),
        "fortran": np.asfortranarray(array.astype(np.float32)),
        "double": array,
        "channel": array[..., None],
    }
    for name, values in variants.items():
        np.save(tmp_path / f"{name}.npy", values)
        found = pix2pix.read_array(tmp_path / f"{name}.npy")
        assert (found.dtype, found.shape) == (np.float32, (20, 30, 1)) and found.dtype.isnative
        np.testing.assert_array_equal(found[..., 0], array.astype(np.float32))


class Evil:
    """What must not be unpickled."""

    def __reduce__(self):
        return pytest.fail, ("unpickled",)


def save_npz(path):
    np.savez(path.with_suffix(".npz"), np.zeros(3))
    path.with_suffix(".npz").rename(path)


def save_lying(path):
    """A header that claims a terabyte."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (400000, 400000), }".ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(64))


BAD_ARRAYS = {
    "objects": (lambda path: np.save(path, np.array([[Evil()]], object), allow_pickle=True), "not an array of numbers"),
    "pickled": (lambda path: path.write_bytes(pickle.dumps(Evil())), "cannot be read as an image"),
    "strings": (lambda path: np.save(path, np.array([["a"] * 9] * 9)), "values of type <U1"),
    "complex": (lambda path: np.save(path, np.zeros([9, 9], complex)), "values of type complex128"),
    "wide integers": (lambda path: np.save(path, np.zeros([9, 9], np.int64)), "values of type int64"),
    "empty": (lambda path: np.save(path, np.zeros([0, 9])), "shape (0, 9)"),
    "no axis": (lambda path: np.save(path, np.float32(3)), "shape ()"),
    "five axes": (lambda path: np.save(path, np.zeros([1, 2, 3, 4, 5])), "shape (1, 2, 3, 4, 5)"),
    "channels first": (lambda path: np.save(path, np.zeros([3, 40, 40])), "channels come last"),
    "archive": (save_npz, "a file for each array"),
    "lying": (save_lying, "not an array of numbers"),
    "header": (lambda path: path.write_bytes(b"\x93NUMPY\1\0garbage"), "not an array of numbers"),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
@only("pix2pix")
def test_bad_arrays_end_in_one_line(script, kind, tmp_path):
    save, words = BAD_ARRAYS[kind]
    data = tmp_path / "data"
    save_array(data / "trainB/0.npy", values_of("uint16"))
    (data / "trainA").mkdir()
    save(data / "trainA/0.npy")
    err = script.fails(*SHORT, *script.tiny, "--input_dir", data, "--output_dir", tmp_path / "out")
    assert words in err and str(data / "trainA/0.npy") in err
    assert not (tmp_path / "out").exists()


TIFFS = {
    "one band": np.uint16([20, 30]),
    "colours": np.uint16([20, 30, 3]),
    "four bands": np.uint16([20, 30, 4]),
    "many bands": np.uint8([20, 30, 40]),
    "signed": np.int16([20, 30]),
    "floats": np.float32([20, 30, 2]),
}


@pytest.mark.parametrize("kind", TIFFS)
def test_tiffs_keep_their_bands(kind, tmp_path):
    """As tifffile reads them; those of several bands need it."""
    shape = [int(side) for side in TIFFS[kind]]
    array = np.random.default_rng(0).integers(0, 100, shape).astype(TIFFS[kind].dtype)
    if len(shape) == 2:
        array = array[..., None]
    if array.shape[-1] > 1 or array.dtype == np.int16:
        pytest.importorskip("tifffile")
    path = save_array(tmp_path / "0.tif", array)
    found = pix2pix.read_array(path)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_tiff_of_bands_without_tifffile(tmp_path, monkeypatch):
    tifffile = pytest.importorskip("tifffile")
    array = np.zeros([20, 30, 5], np.uint16)
    tifffile.imwrite(tmp_path / "0.tif", array, planarconfig="contig", photometric="minisblack")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(pix2pix.UserError, match="to read TIFF of several bands, pip install tifffile"):
        pix2pix.read_array(tmp_path / "0.tif")


@pytest.mark.parametrize("kind", KINDS)
def test_resizing_makes_no_detour_over_8_bits(kind):
    """Each channel as Pillow's mode F, within half a step of whole numbers."""
    array = values_of(kind)
    resized = pix2pix.resize_array(array, (30, 36))
    assert resized.dtype == array.dtype and resized.shape == (30, 36, array.shape[-1])
    for channel in range(array.shape[-1]):
        plane = Image.fromarray(np.float32(array[..., channel]))
        wanted = np.asarray(plane.resize((36, 40), Image.Resampling.BICUBIC).resize((36, 30), Image.Resampling.BICUBIC))
        limits = (-np.inf, np.inf) if kind == "float32" else (np.iinfo(array.dtype).min, np.iinfo(array.dtype).max)
        assert np.abs(resized[..., channel] - np.clip(wanted, *limits)).max() <= 0.5 * (kind != "float32") + 1e-4


# ------------------------------------------------------------------------------------------------- channels and values


@only("pix2pix")
def test_a_range_is_asked_for_and_the_proposal_can_be_pasted(script, tmp_path):
    data = save_folders(tmp_path / "data", "int16", "float32")
    flags = [*SHORT, *script.tiny, "--input_dir", data, "--output_dir", tmp_path / "out"]
    err = script.fails(*flags)
    assert "A holds int16: minimum -1024" in err and "B holds float32: minimum -5" in err and "99.9 %" in err
    proposal = err.split()[-1]
    assert proposal.startswith("--value_range=") and proposal.count(",") == 3
    out = script(*flags, proposal)
    low, high = map(float, proposal.split("=")[1].split(",")[:2])
    assert f"A: int16 with 1 channel, {low:g} to {high:g}; B: float32 with 2 channels" in out


@only("pix2pix")
@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--value_range=5,5", "LOW below HIGH"),
        ("--value_range=9,1", "LOW below HIGH"),
        ("--value_range=1", "LOW,HIGH"),
        ("--value_range=a,b", "numbers with commas"),
        ("--value_range=0,inf", "numbers with commas"),
        ("--channels=0", "--channels 0"),
        ("--channels=2", "holds uint16 with 1 channel, not the 2 of --channels"),
        ("--channels=1,2,3", "--channels 1,2,3"),
        ("--preview_bands=2", "--preview_bands 2"),
        ("--preview_bands=1,1", "--preview_bands 1,1"),
    ],
)
def test_wrong_flags_of_values(script, data_16, flag, words, tmp_path):
    err = script.fails(*SHORT, *script.tiny, "--input_dir", data_16, "--output_dir", tmp_path / "out", flag)
    assert words in err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def data_16(tmp_path_factory):
    return save_folders(tmp_path_factory.mktemp("data"), "uint16", "uint16", ".png")


@pytest.fixture(scope="module")
def trained_16(data_16, tmp_path_factory):
    """A training of pix2pix.py on pairs of 16 bits. Read only."""
    out = tmp_path_factory.mktemp("trained") / "deep_train"
    script = SCRIPTS["pix2pix"]
    script(*SHORT, *script.tiny, "--input_dir", data_16, "--output_dir", out)
    return out


@only("pix2pix")
def test_files_of_another_kind_are_named(script, trained_16, tmp_path):
    """In training the first that does not agree, in test each."""
    data = save_folders(tmp_path / "data", "uint16", "uint16")
    odd = save_array(data / "trainB/1.npy", values_of("colours"))
    err = script.fails(*SHORT, *script.tiny, "--input_dir", data, "--output_dir", tmp_path / "out")
    assert f"{odd} holds uint16 with 3 channels, not uint16 with 1 channel" in err
    save_image(tmp_path / "photos/0.png", paint(64, 64, 0))
    test = ["--mode", "test", "--checkpoint", trained_16, "--nopaired", "--output_dir", tmp_path / "test"]
    err = script.fails(*test, "--input_dir", tmp_path / "photos")
    assert "holds uint8 with 3 channels, not uint16 with 1 channel" in err


@only("pix2pix")
def test_options_of_the_data_are_kept(script, data_16, trained_16, tmp_path):
    """Test, resume, export and translate.py need no flag again; a flag that would change them is refused."""
    script("--mode", "test", "--checkpoint", trained_16, "--output_dir", tmp_path / "test")
    assert read_result(tmp_path / "test/images/0-outputs.png").dtype == np.uint16
    for flag in ("--channels=3", "--value_range=0,99"):
        test = ["--mode", "test", "--checkpoint", trained_16, "--output_dir", tmp_path / "x"]
        assert "leave" in script.fails(*test, flag)
    script("--mode", "export", "--checkpoint", trained_16, "--output_dir", tmp_path)
    import tensorflow as tf

    saved = tf.saved_model.load(str(tmp_path / "saved_model"))
    image = pix2pix.read_array(data_16 / "testA/0.png")
    image = pix2pix.resize_array(image, (64, 64))[None]
    outputs = saved.signatures["serving_default"](images=tf.constant(image))["images"].numpy()
    assert outputs.dtype == np.uint16
    tested = read_result(tmp_path / "test/images/0-outputs.png").astype(int)
    assert np.abs(outputs[0] - tested).max() <= 4  # of 4095: other kernels
    result = run_tool("translate", trained_16, data_16 / "testA", "--output_dir", tmp_path / "many")
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(read_result(tmp_path / "many/0.png"), tested)
    fails(run_tool("translate", trained_16, data_16 / "testA", "--output_dir", tmp_path / "jpg", "--format", "jpg"),
          "does not hold uint16")  # fmt: skip
    fails(run_tool("make_page", trained_16, "--output", tmp_path / "page.html"), "images of 8 bits")
    fails(run_tool("export", trained_16, "--format", "encoded", "--output_dir", tmp_path), "8-bit RGB")


@only("pix2pix")
def test_values_outside_the_range_are_clipped_and_counted(script, data_16, trained_16, tmp_path, capsys):
    over = values_of("uint16").astype(int)
    over[:2, :5] = 5000
    save_array(tmp_path / "photos/0.npy", np.uint16(over))
    pix2pix.CLIPPED.clear()
    pix2pix.WARNED.discard("clipped")
    test = ["--mode", "test", "--checkpoint", trained_16, "--nopaired", "--native_size"]
    code, _, err = script.run(*test, "--input_dir", tmp_path / "photos", "--output_dir", tmp_path / "test")
    assert code == 0 and "10 values, in 1 images, are outside the range" in err
    out, flags = tmp_path / "out", ["--value_range", "1000,2000", "--display_freq", 0]
    code, _, err = script.run(*SHORT, *script.tiny, "--input_dir", data_16, "--output_dir", out, *flags)
    assert code == 0 and "values of A" in err and "are outside 1000 to 2000 and are clipped" in err


@only("pix2pix")
def test_nan_is_an_error_or_replaced(script, tmp_path):
    data = save_folders(tmp_path / "data", "float32", "float32")
    holes = values_of("float32")
    holes[3, 4] = np.nan
    holes[5, 6, 1] = np.inf
    path = save_array(data / "trainA/1.npy", holes)
    flags = [*SHORT, *script.tiny, "--input_dir", data, "--output_dir", tmp_path / "out", "--value_range=-5,20"]
    err = script.fails(*flags)
    assert f"{path}: 3 of its values are NaN or infinite: give --nan_value" in err
    script(*flags, "--nan_value", "-5")
    assert json.loads((tmp_path / "out/options.json").read_text())["nan_value"] == -5
    domain = pix2pix.Domain(2, "float32", -5, 20, nan_value=-5)
    filled = domain.read(path)
    assert (filled[3, 4] == -5).all() and filled[5, 6, 1] == -5 and np.isfinite(filled).all()


@pytest.mark.more
@pytest.mark.parametrize("channels", ["1", "4,1"])
@only("pix2pix")
def test_pictures_in_grey_or_with_transparency(script, channels, tmp_path):
    """--channels makes 8-bit pictures grey, as Pillow, or keeps their alpha as a channel; page and export go along."""
    for part in ("trainA", "trainB", "testA", "testB"):
        for number in range(2):
            image = Image.fromarray(paint(64, 64, number)).convert("RGBA")
            save_image(tmp_path / "data" / part / f"{number}.png", image)
    out = tmp_path / "out"
    flags = ["--channels", channels, "--display_freq", 1]
    script(*SHORT, *script.tiny, "--input_dir", tmp_path / "data", "--output_dir", out, *flags)
    script("--mode", "test", "--checkpoint", out, "--output_dir", tmp_path / "test")
    with Image.open(tmp_path / "test/images/0-outputs.png") as image:
        assert image.mode == "L"
    with Image.open(tmp_path / "test/images/0-inputs.png") as image:
        assert image.mode == ("L" if channels == "1" else "RGBA")
    if channels == "1":
        grey = np.asarray(Image.fromarray(paint(64, 64, 0)).convert("L"))
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "test/images/0-inputs.png")), grey)
        result = run_tool("export", out, "--format", "litert", "--output_dir", tmp_path)
        assert result.returncode == 0, result.stderr


@pytest.mark.more
def test_other_numbers_of_channels_leave_the_identity_loss_out(tmp_path):
    """It is an error to ask for it. Where one network sees both domains they cannot differ."""
    data = save_folders(tmp_path / "data", "bands", "uint16")
    script = SCRIPTS["cyclegan"]
    flags = [*SHORT, *script.tiny, "--input_dir", data, "--output_dir", tmp_path / "out"]
    assert "--identity_weight 2.0: A and B differ in channels" in script.fails(*flags, "--identity_weight", 2)
    out = script(*flags)
    assert "no identity loss: A and B differ in channels" in out
    assert "nothing was trained" in script(*flags)  # the same command twice
    test = ["--mode", "test", "--checkpoint", tmp_path / "out", "--output_dir", tmp_path / "t"]
    script(*test, "--which_direction", "BtoA")
    assert read_result(tmp_path / "t/images/0-outputs.npy").shape[-1] == 5
    for name in ("cut", "siamesegan"):
        script = SCRIPTS[name]
        more = save_folders(tmp_path / "hd", "bands", "uint16") if name == "siamesegan" else data
        flags = [*SHORT, *script.tiny, "--input_dir", more, "--output_dir", tmp_path / name]
        assert "A has 5 channels and B 1" in script.fails(*flags)
        assert not (tmp_path / name).exists()


# -------------------------------------------------------------------------------------------------------------- layouts


@only("pix2pix")
def test_two_folders_are_the_pairs_that_they_hold(script, tmp_path):
    """trainA and trainB of pictures train as the same pictures side by side: the tensors are equal."""
    for number in range(3):
        a, b = paint(64, 64, number), paint(64, 64, number + 50)
        save_image(tmp_path / "pairs/train" / f"{number}.png", np.hstack([a, b]))
        save_image(tmp_path / "folders/trainA" / f"{number}.png", a)
        save_image(tmp_path / "folders/trainB" / f"{number}.bmp", b)
    from conftest import assert_same, tensors

    flags = [*SHORT, *script.tiny, "--display_freq", 0]
    script(*flags, "--input_dir", tmp_path / "pairs/train", "--output_dir", tmp_path / "one")
    script(*flags, "--input_dir", tmp_path / "folders", "--output_dir", tmp_path / "two")
    assert_same(tensors(tmp_path / "one/model-2"), tensors(tmp_path / "two/model-2"))


@only("pix2pix")
def test_folders_that_do_not_match(script, tmp_path):
    data = save_folders(tmp_path / "data", "uint16", "uint16", ".png")
    flags = [*SHORT, *script.tiny, "--input_dir", data, "--output_dir", tmp_path / "out"]
    (data / "trainB/2.png").rename(data / "trainB/other.png")
    err = script.fails(*flags)
    assert str(data / "trainA/2.png") in err and str(data / "trainB/other.png") in err and "one name" in err
    save_array(data / "trainB/2.png", values_of("uint16", 40, 64))
    (data / "trainB/other.png").unlink()
    assert f"{data / 'trainA/2.png'} and {data / 'trainB/2.png'} differ in size" in script.fails(*flags)
    save_array(data / "trainB/2.npy", values_of("uint16"))
    assert "have the same name" in script.fails(*flags)
    for path in [*(data / "trainA").iterdir()]:
        path.rename(path.with_stem(f"photo {path.stem}"))
    for path in [*(data / "trainB").glob("2.*")]:
        path.unlink()
    assert "different scenes are for cyclegan.py" in script.fails(*flags)


@only("pix2pix")
def test_pairs_side_by_side_in_arrays(script, tmp_path):
    for split in ("train", "val"):
        for number in range(2):
            pair = np.hstack([values_of("int16", seed=number), values_of("int16", seed=number + 9)])
            save_array(tmp_path / split / f"{number}.npy", pair)
    flags = [range_flag("int16"), "--input_dir", tmp_path / "train", "--output_dir", tmp_path / "out"]
    script(*SHORT, *script.tiny, *flags)
    test = ["--mode", "test", "--checkpoint", tmp_path / "out", "--native_size", "--output_dir", tmp_path / "test"]
    script(*test)
    np.testing.assert_array_equal(read_result(tmp_path / "test/images/0-inputs.npy"), values_of("int16", seed=0))
    np.testing.assert_array_equal(read_result(tmp_path / "test/images/0-targets.npy"), values_of("int16", seed=9))


@only("pix2pix", more=["cyclegan"])
def test_images_that_are_never_resized(script, tmp_path):
    """--scale_size 0: crops from the file as it is, of images of different sizes too, and test at their size."""
    data = tmp_path / "data"
    for part in ("trainA", "trainB", "testA", "testB"):
        for number, size in enumerate([(64, 72), (80, 64)]):
            save_array(data / part / f"{number}.npy", values_of("uint16", *size, number))
    flags = ["--crop_size", 64 if script.name == "pix2pix" else 32, "--input_dir", data, "--display_freq", 0]
    script(*SHORT, *script.tiny, "--scale_size", 0, *flags, "--output_dir", tmp_path / "out")
    script("--mode", "test", "--checkpoint", tmp_path / "out", "--output_dir", tmp_path / "test")
    np.testing.assert_array_equal(read_result(tmp_path / "test/images/1-inputs.png"), values_of("uint16", 80, 64, 1))
    save_array(data / "trainA/0.npy", values_of("uint16", 20, 72))
    save_array(data / "trainB/0.npy", values_of("uint16", 20, 72))
    err = script.fails(*SHORT, *script.tiny, "--scale_size", 0, *flags, "--output_dir", tmp_path / "small")
    assert "0.npy is 72x20, smaller than --crop_size" in err


def test_crops_without_resizing_are_parts_of_the_file(tmp_path):
    paths = [str(save_array(tmp_path / f"{i}.npy", values_of("uint16", 64 + 8 * i, 72, i))) for i in range(2)]
    domain = pix2pix.Domain(1, "uint16", 0, 4095)
    batches = pix2pix.random_batches(paths, domain, None, (32, 32), 1, False, 3, 0, 100)
    for batch in batches.take(6).as_numpy_iterator():
        crop = np.rint((batch[0] + 1) * 2047.5).astype(np.uint16)
        found = False
        for path in paths:
            windows = np.lib.stride_tricks.sliding_window_view(np.load(path)[..., 0], (32, 32))
            found |= (windows == crop[..., 0]).all((2, 3)).any()
        assert found


# ---------------------------------------------------------------------------------------------------------------- tools


def test_process_keeps_type_and_bands(tmp_path):
    a = save_array(tmp_path / "a/0.npy", values_of("colours", 40, 60, 1)).parent
    b = save_array(tmp_path / "b/0.npy", values_of("colours", 40, 60, 2)).parent
    first, second = values_of("colours", 40, 60, 1), values_of("colours", 40, 60, 2)

    def process(*flags, code=0):
        out = tmp_path / "-".join(map(str, flags))
        result = run_tool("process", "--operation", *flags, "--input_dir", a, "--output_dir", out)
        assert result.returncode == code, (result.stdout, result.stderr)
        return read_result(out / "0.npy") if code == 0 else result.stderr

    np.testing.assert_array_equal(process("crop", "--size", "20x30"), first[10:30, 15:45])
    assert process("resize", "--size", "20").shape == (20, 20, 3)
    np.testing.assert_array_equal(process("resize", "--size", "20x30"), pix2pix.resize_array(first, (20, 30)))
    np.testing.assert_array_equal(process("split", "--half", "B"), first[:, 30:])
    for operation, axis in (("combine", 1), ("stack", 2)):
        out = tmp_path / operation
        flags = ["--operation", operation, "--input_dir", a, "--b_dir", b, "--output_dir", out]
        assert run_tool("process", *flags).returncode == 0
        np.testing.assert_array_equal(read_result(out / "0.npy"), np.concatenate([first, second], axis))
    assert "holds uint16 with 3 channels, where 8-bit RGB is expected" in process("grayscale", code=1)
    grey = tmp_path / "grey"
    save_image(grey / "0.png", values_of("bands", 40, 60)[..., 0])
    flags = ["--operation", "stack", "--input_dir", grey, "--b_dir", grey, "--output_dir", tmp_path / "two"]
    assert run_tool("process", *flags).returncode == 0
    assert read_result(tmp_path / "two/0.npy").shape == (40, 60, 2)


# ------------------------------------------------------------------------------------------- found by an hour of attack


@only("pix2pix")
def test_a_range_beyond_the_type_is_refused(script, tmp_path):
    """Results would wrap around: one range for int16 and uint16, as it is easily given."""
    data = save_folders(tmp_path / "data", "int16", "uint16")
    err = script.fails(
        *SHORT, *script.tiny, "--input_dir", data, "--output_dir", tmp_path / "out", "--value_range=-2000,5000"
    )
    assert "--value_range -2000,5000 goes beyond uint16, which B holds" in err


@only("pix2pix")
def test_kept_checkpoints_of_another_training_stay(script, data_16, tmp_path):
    """Of one that was killed before its first checkpoint; and a link is not written through."""
    kept = tmp_path / "out/kept"
    kept.mkdir(parents=True)
    (kept / "model-50.index").write_text("of another training")
    flags = [*SHORT, *script.tiny, "--keep_freq", 1, "--input_dir", data_16, "--output_dir", tmp_path / "out"]
    assert "holds checkpoints of another training" in script.fails(*flags)
    assert [path.name for path in kept.iterdir()] == ["model-50.index"]
    (tmp_path / "precious").mkdir()
    (kept / "model-50.index").unlink()
    kept.rmdir()
    kept.symlink_to(tmp_path / "precious")
    assert "is a link" in script.fails(*flags)
    assert not any((tmp_path / "precious").iterdir())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiffs_are_turned_once(orientation, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    array = np.arange(6, dtype=np.uint16).reshape(2, 3) + 1000
    array = np.kron(array, np.ones([20, 20], np.uint16))
    tifffile.imwrite(tmp_path / "0.tif", array, extratags=[(274, "H", 1, orientation, True)])
    turned = {
        1: array,
        2: array[:, ::-1],
        3: array[::-1, ::-1],
        4: array[::-1],
        5: array.T,
        6: np.rot90(array, -1),
        7: array[::-1, ::-1].T,
        8: np.rot90(array),
    }
    np.testing.assert_array_equal(pix2pix.read_array(tmp_path / "0.tif")[..., 0], turned[orientation])


def test_signed_bytes_are_refused(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "0.tif", np.full([20, 30], -5, np.int8))
    with pytest.raises(pix2pix.UserError, match="values of type int8"):
        pix2pix.read_array(tmp_path / "0.tif")


@pytest.mark.parametrize(("a", "b"), [("uint16", "deeper"), ("bands", "mask"), ("uint16", "rgba")])
@only("pix2pix")
def test_evaluate_says_what_the_test_said(script, a, b, tmp_path, monkeypatch):
    """Where A and B are of one type and of other ranges; of masks; of four channels in a PNG."""
    monkeypatch.setitem(KINDS, "deeper", ("uint16", 1, 0, 65535))
    monkeypatch.setitem(KINDS, "mask", ("uint8", 1, 0, 1))
    monkeypatch.setitem(KINDS, "rgba", ("uint8", 4, 0, 255))
    data = save_folders(tmp_path / "data", a, b)
    flags = [range_flag(a, b), "--display_freq", 0]
    script(*SHORT, *script.tiny, "--input_dir", data, "--output_dir", tmp_path / "out", *flags)
    script("--mode", "test", "--checkpoint", tmp_path / "out", "--output_dir", tmp_path / "test")
    said = json.loads((tmp_path / "test/metrics.json").read_text())["mean"]
    for folder in (tmp_path / "test", tmp_path / "test/images"):
        result = run_tool("evaluate", "pairs", folder, "--json")
        assert result.returncode == 0, result.stderr
        again = json.loads(result.stdout)["mean"]
        assert again == {metric: pytest.approx(value, rel=1e-6) for metric, value in said.items()}
    contents = json.loads((tmp_path / "test/test.json").read_text())
    for damage in ("x", {"A": "y"}, {"A": {"channels": "1"}, "B": {}}, {"A": {}, "B": {"low": 9.0, "high": 9.0}}):
        (tmp_path / "test/test.json").write_text(json.dumps(contents | {"domains": damage}))
        fails(run_tool("evaluate", "pairs", tmp_path / "test"), "test.json", "damaged")


@only("pix2pix")
def test_single_inputs_are_not_cut_into_pairs(script, data_16, trained_16, tmp_path):
    """The pairs of this training are two files; half an image is no input."""
    test = ["--mode", "test", "--checkpoint", trained_16, "--output_dir", tmp_path / "test"]
    for inputs in (data_16 / "testA", data_16 / "testA/0.png"):
        assert "--nopaired translates inputs alone" in script.fails(*test, "--input_dir", inputs)
    script(*test, "--nopaired", "--input_dir", data_16 / "testA/0.png")
    for number in range(2):
        save_array(tmp_path / "some/testA" / f"{number}.png", values_of("uint16"))
        save_array(tmp_path / "some/valB" / f"{number}.png", values_of("uint16"))
    assert "testB" in script.fails(*test, "--input_dir", tmp_path / "some")  # never testA with valB


def test_the_place_on_earth_follows_the_size(tmp_path):
    """Also without a coordinate system."""
    rasterio = pytest.importorskip("rasterio")
    transform = rasterio.transform.from_origin(500000, 4000000, 10, 10)
    for name, crs in (("crs", "EPSG:32633"), ("none", None)):
        options = {"driver": "GTiff", "width": 40, "height": 40, "count": 1, "dtype": "uint16", "transform": transform}
        with rasterio.open(tmp_path / f"{name}.tif", "w", crs=crs, **options) as file:
            file.write(values_of("uint16", 40, 40)[..., 0], 1)
        save_array(tmp_path / "small.tif", values_of("uint16", 20, 20))
        pix2pix.copy_georeference(tmp_path / f"{name}.tif", tmp_path / "small.tif")
        with rasterio.open(tmp_path / "small.tif") as file:
            assert (file.transform.a, file.transform.e, file.transform.c) == (20, -20, 500000)
            assert (str(file.crs) if crs else file.crs) == crs


@only("pix2pix")
def test_exports_clip_as_test_does(script, trained_16):
    """Values beyond the range of the training, and translate.py says that it clips."""
    domain = pix2pix.Domain(1, "uint16", 0.0, 4095.0)
    signed = np.asarray(domain.to_signed(np.uint16([[[0, 4095, 9000]]])[..., None])).ravel()
    np.testing.assert_allclose(signed, [-1, 1, 1], atol=1e-6)


@only("pix2pix")
def test_pictures_are_not_made_grey_unasked(script, tmp_path):
    """By a grey array that comes first in the folder."""
    for part in ("trainA", "trainB"):
        save_array(tmp_path / "data" / part / "0.npy", values_of("bands")[..., :1])
        save_image(tmp_path / "data" / part / "1.png", paint(40, 48, 1))
    flags = [*SHORT, *script.tiny, "--display_freq", 0, "--input_dir", tmp_path / "data"]
    flags += ["--output_dir", tmp_path / "out"]
    err = script.fails(*flags)
    assert "1.png holds uint8 with 3 channels, not uint8 with 1 channel" in err
    script(*flags, "--channels", 1, "--output_dir", tmp_path / "grey")


@only("pix2pix")
def test_a_test_removes_only_what_it_wrote(script, tmp_path, trained_of):
    """Of pictures it writes PNG: an array of the user's stays."""
    test = ["--mode", "test", "--checkpoint", trained_of("pix2pix").folder, "--output_dir", tmp_path / "test"]
    script(*test)
    name = json.loads((tmp_path / "test/test.json").read_text())["images"][0]
    mine = save_array(tmp_path / f"test/images/{name}-outputs.npy", values_of("float32"))
    script(*test)
    assert mine.exists()


@only("pix2pix")
def test_one_result_that_cannot_be_written_does_not_stop_the_others(script, data_16, trained_16, tmp_path):
    images = tmp_path / "test/images"
    images.mkdir(parents=True)
    (images / "0-outputs.png").symlink_to(tmp_path / "elsewhere")
    err = script.fails("--mode", "test", "--checkpoint", trained_16, "--output_dir", tmp_path / "test")
    assert "0-outputs.png is a link" in err and "1 of 2" in err
    assert (images / "1-outputs.png").exists() and "1-outputs" in (tmp_path / "test/index.html").read_text()


def test_the_proposed_range_is_of_all_channels(tmp_path):
    array = np.random.default_rng(0).random([1024, 1024, 2]).astype(np.float32) * np.float32([1, 1000])
    path = str(save_array(tmp_path / "0.npy", array))
    measured = pix2pix.measure([path], None, pix2pix.Domain(2, "float32"), None)
    assert np.quantile(measured.sample, 0.999) > 900


@pytest.mark.parametrize(
    "damage",
    [{"channels": "1"}, {"channels": 0}, {"channels": 1.5}, {"type": "foo"}, {"low": "0"}, {"high": None}, {"high": 0}],
)
@only("pix2pix")
def test_damaged_domains_in_options(script, trained_16, damage, tmp_path):
    import shutil

    copy = shutil.copytree(trained_16, tmp_path / "copy")
    options = json.loads((copy / "options.json").read_text())
    options["domains"]["A"] |= damage
    (copy / "options.json").write_text(json.dumps(options))
    err = script.fails("--mode", "test", "--checkpoint", copy, "--output_dir", tmp_path / "test")
    assert "domains is damaged" in err


@only("pix2pix")
def test_damaged_tiffs_do_not_stop_a_bulk_run(script, data_16, trained_16, tmp_path):
    folder = tmp_path / "in"
    for number in range(2):
        save_array(folder / f"{number}.png", values_of("uint16", seed=number))
    (folder / "a.tif").write_bytes(b"II*\0")
    (folder / "b.tif").write_bytes(b"II*\0\10\0\0\0")
    result = run_tool("translate", trained_16, folder, "--output_dir", tmp_path / "out")
    assert "2 failed" in fails(result)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["0.png", "1.png"]
    flags = ["--operation", "resize", "--size", 20, "--input_dir", folder, "--output_dir", tmp_path / "p"]
    result = run_tool("process", *flags)
    assert result.returncode == 1 and "2 made, 0 there already, 2 failed" in result.stdout


@only("pix2pix")
def test_other_channels_begin_their_ends_anew(script, trained_of, data_16, tmp_path):
    """--init_from a network for RGB: the layers at the ends are new, the rest has its weights."""
    from conftest import tensors

    source = trained_of("pix2pix").folder
    flags = ["--mode", "train", "--max_steps", 1, "--lr", 0, "--init_from", source, "--input_dir", data_16]
    out = script(*flags, "--output_dir", tmp_path / "out", "--display_freq", 0)
    assert "new: generator/encoder_1/kernel" in out and "discriminator/layer_1/kernel" in out
    before, after = tensors(source / "model-20"), tensors(tmp_path / "out/model-1")
    inner = "generator/encoder_2.Skernel/.ATTRIBUTES/VARIABLE_VALUE"
    np.testing.assert_array_equal(before[inner], after[inner])
    kept = tmp_path / "out/kept"
    script(*flags, "--output_dir", tmp_path / "k", "--keep_freq", 1, "--display_freq", 0)
    err = script.fails("--mode", "train", "--checkpoint", tmp_path / "k/kept", "--max_steps", 9)
    assert "holds generators alone" in err and not kept.exists()


def test_arrays_are_read_without_the_parser_of_python(tmp_path, monkeypatch):
    """Python 3.11 loses count when threads parse at once, and TensorFlow parses while the pipeline reads."""
    path = save_array(tmp_path / "0.npy", values_of("uint16", 8, 8))
    monkeypatch.setattr(ast, "literal_eval", lambda text: pytest.fail("np.load parses Python"))
    assert pix2pix.read_array(path).shape == (8, 8, 1)
