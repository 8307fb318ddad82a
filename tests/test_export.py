"""What --mode export and tools/export.py write: the pixels of --mode test, and what goes wrong.

The networks have weights of a start, made stronger, so that translations have contrasts.
"""

import contextlib
import functools
import importlib
import io
import json
import os
import re
import shutil
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import SCRIPTS, once, only, paint, pngs, save_image, truncate
from PIL import Image
from run_tool import fails, run_tool

export = importlib.import_module("export")
pytestmark = pytest.mark.more
TILE = 64  # --tile_size of siamesegan.py
STRONGER = {"pix2pix": 2}  # int8 is good enough for twice its weights


# ------------------------------------------------------------------------------------- the networks


@pytest.fixture(scope="module")
def network(data_of, tmp_path_factory):
    """network(name): a checkpoint of a script, made at the first call: folder, model, side (of what
    its generator takes at the size of training) and flags, which export needs. Read only."""

    @functools.cache
    def make(name):
        script = SCRIPTS[name]
        folder = tmp_path_factory.mktemp(f"{name}-export") / "tiny_train"
        folder.mkdir()
        flags = ["--tile_size", TILE] if name == "siamesegan" else []
        model = script.algorithm(script.options(input_dir=str(data_of(name))), training=False)
        weights = script.module.weights_of(model)
        for weight in tf.nest.flatten(weights):
            weight.assign(weight * STRONGER.get(name, 4))
        saver = tf.train.Checkpoint(**weights)
        tf.train.CheckpointManager(saver, folder, 1, checkpoint_name="model").save(1)
        options = {"script": name, **vars(model.args)}
        del options["saved"], options["given"]
        (folder / "options.json").write_text(json.dumps(options))
        side = TILE if name == "siamesegan" else model.crop[0]
        return types.SimpleNamespace(folder=folder, model=model, side=side, flags=flags)

    return make


def export_to(folder, network, kind, *flags):
    """A call of tools/export.py that succeeds. Returns the path of what it wrote."""
    words = [network.folder, "--format", kind, *network.flags, *flags, "--output_dir", folder]
    done = run_tool("export", *words)
    target = folder / export.FILES[kind]
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, [f"done: {target}"]), done
    return target


def translations(script, network, paths, folder, *flags):
    """[(inputs, outputs)] of a test of files, in their order: uint8 RGB [h, w, 3]."""
    words = ["--mode", "test", "--checkpoint", network.folder, *network.flags, *flags]
    if "paired" in script.module.FLAGS:
        words.append("--nopaired")
    for path in paths:
        assert path.parent == paths[0].parent
    script(*words, "--input_dir", paths[0].parent, "--output_dir", folder)
    tested = pngs(folder)
    assert len(list(paths[0].parent.iterdir())) == len(paths)
    return [[tested[f"{path.stem}-{kind}.png"] for kind in ("inputs", "outputs")] for path in paths]


def load_signature(path, name="serving_default"):
    """A function of a SavedModel, which keeps the model."""
    loaded = tf.saved_model.load(str(path))
    signature = loaded.signatures[name]
    signature.loaded = loaded
    return signature


def assert_close(result, right, most=1):
    """At most 1 of 255 apart, since other programs sum in another order."""
    result = np.asarray(result)
    assert result.dtype == np.uint8 and result.shape == right.shape
    assert np.abs(result.astype(int) - right).max() <= most


def copy_of(folder, path):
    """A copy of a training that a test may change."""
    return Path(shutil.copytree(folder, path))


def memory_of(folder):
    """All that is in a folder, to see that nothing changes."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """photos(network): paths of two images of the size of training, and of one twice as wide."""

    @functools.cache
    def save(side):
        folder = tmp_path_factory.mktemp(f"photos-{side}")
        sizes = [(side, side), (side, side), (side, 2 * side)]
        return [save_image(folder / f"{number}.png", paint(*size, number)) for number, size in enumerate(sizes)]

    return lambda network: save(network.side)


@pytest.fixture(scope="module")
def tested(network, photos, tmp_path_factory):
    """tested(name): (inputs, outputs) of photos() in a test at native size. Read only."""

    @functools.cache
    def test(name):
        script = SCRIPTS[name]
        flags = ["--tile_size", 2 * TILE] if name == "siamesegan" else ["--native_size"]
        paths = photos(network(name))
        folder = tmp_path_factory.mktemp(f"{name}-tested")
        return translations(script, network(name), paths, folder, *flags)

    return test


# ---------------------------------------------------------------------------------------- pixels


def test_saved_model(script, network, tested, tmp_path):
    """Any number of images, of any size; other sizes and no image are errors that say so."""
    net = network(script.name)
    side = net.side
    words = ["--mode", "export", "--checkpoint", net.folder, "--output_dir", tmp_path / "new" / "e"]
    target = tmp_path / "new" / "e" / "saved_model"
    out = script(*words)
    assert out.startswith(f"done: {target}") and "tools/export.py" in out
    assert [path.name for path in target.parent.iterdir()] == ["saved_model"]  # and no part of it
    translate = load_signature(target)
    (first, right), (second, right_too), (wide, right_wide) = tested(script.name)
    assert right.std() > 5 and np.abs(right.astype(int) - right_too).mean() > 1
    both = translate(images=np.stack([first, second]))["images"]
    assert_close(both, np.stack([right, right_too]))
    assert_close(translate(images=wide[None])["images"][0], right_wide)
    words = f"give one image or more, with sides that are multiples of {net.model.multiple}"
    for shape in ([1, side, side + 1, 3], [2, side - 1, side, 3], [0, side, side, 3]):
        for _ in range(10):  # whatever runs first in the graph
            with pytest.raises(tf.errors.InvalidArgumentError, match=words):
                translate(images=np.zeros(shape, np.uint8))


def test_keras(script, network, tested, tmp_path):
    """A model of Keras's own layers, for any number of images of any size."""
    import keras

    path = export_to(tmp_path, network(script.name), "keras")
    model = keras.saving.load_model(path)
    (first, right), (second, right_too), (wide, right_wide) = tested(script.name)
    assert_close(model(np.stack([first, second])), np.stack([right, right_too]))
    assert_close(model(wide[None])[0], right_wide)
    with zipfile.ZipFile(path) as file:
        modules = re.findall(r'"module": "([^"]*)', file.read("config.json").decode())
    assert modules and {module.split(".")[0] for module in modules} == {"keras"}


@once
def test_keras_of_other_decoders(script, tmp_path):
    """--upsample resize has Keras's own layers there too; for --grain Keras has none, which is said."""
    flags = ["--input_dir", script.save_data(tmp_path / "data"), *script.tiny, "--max_steps", 1, "--upsample", "resize"]
    script("--mode", "train", *flags, "--output_dir", tmp_path / "resize")
    network = types.SimpleNamespace(folder=tmp_path / "resize", flags=[])
    path = export_to(tmp_path, network, "keras")
    with zipfile.ZipFile(path) as file:
        modules = re.findall(r'"module": "([^"]*)', file.read("config.json").decode())
    assert modules and {module.split(".")[0] for module in modules} == {"keras"}
    script("--mode", "train", *flags, "--grain", "--output_dir", tmp_path / "grain")
    result = run_tool("export", tmp_path / "grain", "--format", "keras", "--output_dir", tmp_path / "no")
    assert result.returncode == 2 and "no layer for --grain" in result.stderr
    assert not (tmp_path / "no" / "model.keras").exists()


def run_litert(path):
    """A LiteRT model => its interpreter, and a function for one image, uint8 [h, w, 3] => same."""
    interpreter = tf.lite.Interpreter(str(path))
    signature = interpreter.get_signature_runner()
    (details,) = signature.get_input_details().values()

    def translate(image):
        assert list(details["shape_signature"]) == [1, *image.shape]  # LiteRT.js takes no others
        (output,) = signature(**dict.fromkeys(signature.get_input_details(), image[None])).values()
        return output[0]

    return interpreter, translate


@pytest.mark.parametrize(
    "script",
    ["pix2pix", "cyclegan", "siamesegan",
     *(pytest.param(name, marks=pytest.mark.slow) for name in ("ganilla", "cut", "animegan"))],
    indirect=True,
)  # fmt: skip
def test_litert(script, network, tested, tmp_path):
    """One image of the size of training; in 4-D tensors, since GPUs of browsers take no more.
    test_make_page.py translates with all of them too."""
    net = network(script.name)
    interpreter, translate = run_litert(export_to(tmp_path, net, "litert"))
    for image, right in tested(script.name)[:2]:
        assert_close(translate(image), right)
    if script.name in ("pix2pix", "cyclegan"):
        assert max(len(tensor["shape"]) for tensor in interpreter.get_tensor_details()) == 4


@pytest.fixture(scope="module")
def quantized(network, tmp_path_factory):
    """quantized(kind): the path of a model of pix2pix.py with such weights."""

    @functools.cache
    def write(kind):
        words = ["--quantize", kind]
        return export_to(tmp_path_factory.mktemp(kind), network("pix2pix"), "litert", *words)

    return write


@once
def test_quantized_weights(script, quantized, tested):
    """About a half and a quarter of the size, all else alike. int8 finds the held-out images."""
    sizes = {}
    for kind, most in (("float16", 0.1), ("int8", 1)):
        sizes[kind] = quantized(kind).stat().st_size
        _, translate = run_litert(quantized(kind))
        for image, right in tested(script.name)[:2]:
            assert np.abs(translate(image) - np.float32(right)).mean() <= most, kind
    assert sizes["int8"] < 0.75 * sizes["float16"]


def conversion_without_work(script, quantized, monkeypatch):
    """From here on Keras gives the model that it gave before."""
    contents = quantized("int8").read_bytes()

    def write(model, path, **_):
        Path(path).write_bytes(contents)

    monkeypatch.setattr(script.module.keras.Model, "export", write)


@once
def test_int8_that_is_wrong_is_refused(script, network, quantized, tmp_path, monkeypatch):
    """On the test images next to the training data. The last export stays."""
    net = network(script.name)
    target = tmp_path / "model.tflite"
    target.write_bytes(b"the last one")
    real = export.run_litert
    seen = []

    def lighter(module, contents):
        translate = real(module, contents)

        def off(image):
            seen.append(image)
            return np.minimum(translate(image), 252) + 3

        return off

    conversion_without_work(script, quantized, monkeypatch)
    words = [net.folder, "--format", "litert", "--quantize", "int8", "--output_dir", tmp_path]
    with monkeypatch.context() as patch:
        patch.setattr(export, "run_litert", lighter)
        message = fails(run_tool("export", *words), "--quantize int8", "over 1: take float16")
    assert re.search(r"by (2\.[5-9]|3\.\d)\d of 255", message)
    assert memory_of(tmp_path) == {target: b"the last one"}
    held_out = script.module.find_held_out(net.model.args.input_dir)
    right = [net.model.translate_file(path, "AtoB")["inputs"] for _, path, _ in net.model.find_test_images(held_out)]
    np.testing.assert_array_equal(np.concatenate(seen), np.stack(right))
    done = run_tool("export", *words)  # and without such an interpreter it is good
    assert done.returncode == 0 and target.read_bytes() == quantized("int8").read_bytes(), done


@once
def test_int8_without_images_to_check_it_on(script, network, quantized, tmp_path, monkeypatch):
    """Where the training data are gone, or the folder given is none or holds none."""
    conversion_without_work(script, quantized, monkeypatch)
    copy = copy_of(network(script.name).folder, tmp_path / "copy")
    options = json.loads((copy / "options.json").read_text())
    options["input_dir"] = str(tmp_path / "gone" / "train")
    (copy / "options.json").write_text(json.dumps(options))
    words = [copy, "--format", "litert", "--quantize", "int8", "--output_dir", tmp_path / "e"]
    fails(run_tool("export", *words), "--input_dir", tmp_path / "gone")
    missing = tmp_path / "missing"
    fails(run_tool("export", *words, "--input_dir", missing), "no such folder", missing)
    (tmp_path / "in").mkdir()
    fails(run_tool("export", *words, "--input_dir", tmp_path / "in"), "no images", tmp_path / "in")
    (tmp_path / "in" / "broken.png").touch()
    fails(run_tool("export", *words, "--input_dir", tmp_path / "in"), "broken.png")
    assert not (tmp_path / "e").exists() or memory_of(tmp_path / "e") == {}


@once
def test_onnx_without_its_packages(script, network, tmp_path, monkeypatch):
    for name in ("onnx", "tf2onnx"):
        monkeypatch.setitem(sys.modules, name, None)  # as if they were not installed
    words = [network(script.name).folder, "--format", "onnx", "--output_dir", tmp_path]
    fails(run_tool("export", *words), "pip install onnx tf2onnx")
    assert memory_of(tmp_path) == {}


@once
def test_onnx(script, network, tested, tmp_path):
    pytest.importorskip("tf2onnx")
    runtime = pytest.importorskip("onnxruntime")
    path = export_to(tmp_path, network(script.name), "onnx")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for image, right in tested(script.name)[:2]:
        (output,) = session.run(None, {session.get_inputs()[0].name: image[None]})
        assert_close(output[0], right)


# --------------------------------------------------------------------------------- encoded: files


@pytest.fixture(scope="module")
def served(network, tmp_path_factory):
    """served(name, *flags): [contents of files] => [the images in what the `encoded` signature
    gives], and the path of the SavedModel, written at the first call."""

    @functools.cache
    def make(name, *flags):
        folder = tmp_path_factory.mktemp(f"{name}-encoded")
        path = export_to(folder, network(name), "encoded", *flags)
        signature = load_signature(path, "encoded")

        def serve(files):
            encoded = signature(image_bytes=tf.constant(files, tf.string))["png_bytes"].numpy()
            assert all(contents.startswith(b"\x89PNG") for contents in encoded)
            return [np.asarray(Image.open(io.BytesIO(contents))) for contents in encoded]

        return serve, path

    return make


def encode(image, kind, **options):
    """An array or a Pillow image => the bytes of a file."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif(orientation):
    data = Image.Exif()
    data[0x112] = orientation
    return data.tobytes()


def files_that_it_takes(side):
    """{name: contents} of files of the size of training, so that nothing is resized."""
    rgb, alpha = paint(side, side, 1), paint(side, side, 2)[..., :1]
    rgb[: side // 4, : side // 2] = 250, 20, 20  # no two directions are alike
    rgba = np.concatenate([rgb, alpha], -1)
    colours = Image.fromarray(rgb).quantize(16)
    grey = rgb[..., 1]
    files = {
        "plain.jpg": encode(rgb, "JPEG"),
        "grey.jpg": encode(grey, "JPEG"),
        "progressive.jpg": encode(rgb, "JPEG", progressive=True, quality=90),
        "rgb.png": encode(rgb, "PNG"),
        "grey.png": encode(grey, "PNG"),
        "grey16.png": encode(np.uint16(grey) * 257, "PNG"),
        "palette.png": encode(colours, "PNG"),
        "palette-of-2.png": encode(Image.fromarray(rgb).quantize(2), "PNG"),
        "palette-of-200.png": encode(Image.fromarray(rgb).quantize(200), "PNG"),
        "palette-alphas.png": encode(colours, "PNG", transparency=bytes([0, 128])),
        "palette-one-clear.png": encode(colours, "PNG", transparency=3),
        "rgba.png": encode(rgba, "PNG"),
        "la.png": encode(np.concatenate([grey[..., None], alpha], -1), "PNG"),
        "bits.png": encode(grey > 127, "PNG"),
        "rgb.bmp": encode(rgb, "BMP"),
        "palette.gif": encode(colours, "GIF"),
    }
    for orientation in range(1, 9):
        data = exif(orientation)
        other = Image.Exif()
        other.endian = ">"  # as cameras of another make
        other[0x112] = orientation
        files[f"exif{orientation}.jpg"] = encode(rgb, "JPEG", exif=data)
        files[f"exif{orientation}-big.jpg"] = encode(rgb, "JPEG", exif=other)
        files[f"exif{orientation}.png"] = encode(rgb, "PNG", exif=data)
    return files


@once
def test_encoded_reads_as_test_does(script, network, served, tmp_path):
    """EXIF orientations, palettes, grey and alpha, several files at once, in their order."""
    net = network(script.name)
    files = files_that_it_takes(net.side)
    (tmp_path / "in").mkdir()
    paths = []
    for name, contents in files.items():
        paths.append(tmp_path / "in" / f"{name.replace('.', '-')}{Path(name).suffix}")
        paths[-1].write_bytes(contents)
    right = translations(script, net, paths, tmp_path / "t")
    serve, _ = served(script.name)
    wrong = {}
    for name, (_, outputs) in zip(files, right, strict=True):
        try:
            (image,) = serve([files[name]])
            difference = np.abs(image.astype(int) - outputs).max()
        except tf.errors.OpError as error:
            difference = str(error)[:200]
        if difference not in (0, 1):
            wrong[name] = difference
    assert wrong == {}
    images = serve(list(files.values())[:5])
    for image, (_, outputs) in zip(images, right, strict=False):
        assert_close(image, outputs)
    assert len({outputs.tobytes() for _, outputs in right}) > 15  # the cases differ


@once
def test_encoded_resizes_as_test_does(script, network, served, tmp_path):
    """To the size of training; Pillow's bicubic within 2 levels, which the network spreads."""
    net = network(script.name)
    paths = [save_image(tmp_path / "in" / f"{n}.png", paint(57 + 30 * n, 91, n)) for n in range(2)]
    right = translations(script, net, paths, tmp_path / "t")
    serve, _ = served(script.name)
    for image, (_, outputs) in zip(serve([p.read_bytes() for p in paths]), right, strict=True):
        assert image.shape == outputs.shape == (net.side, net.side, 3)
        assert np.abs(image.astype(int) - outputs).mean() < 0.1


@only("cyclegan")
def test_encoded_with_direction_and_aspect_ratio(script, network, served, tested, tmp_path):
    """--aspect_ratio is about the images that test and export write."""
    net = network(script.name)
    flags = ("--which_direction", "BtoA", "--aspect_ratio", 1.5)
    paths = [save_image(tmp_path / "in" / f"{n}.png", paint(net.side, net.side, n)) for n in (0, 1)]
    right = translations(script, net, paths, tmp_path / "t", *flags)
    serve, path = served(script.name, *flags)
    images = serve([path.read_bytes() for path in paths])
    size = (net.side, round(net.side * 1.5))
    for image, (_, outputs), (_, other) in zip(images, right, tested(script.name), strict=False):
        assert image.shape == (*size, 3)
        assert_close(image, outputs, most=3)
        assert np.abs(image - np.float32(script.module.resize(other, size))).mean() > 1
    plain = load_signature(path)(images=paint(net.side, net.side, 0)[None])["images"]
    assert plain.shape == (1, net.side, net.side, 3)  # the other signature has no such flag


@only("siamesegan")
def test_encoded_keeps_sizes(script, network, served, tmp_path):
    """Up to --tile_size, also sides of no multiple and tiny ones; larger ones are refused."""
    net = network(script.name)
    sizes = [(TILE, TILE), (57, 59), (33, TILE), (5, 9), (1, 1), (16, 2)]
    (tmp_path / "in").mkdir()
    paths = [save_image(tmp_path / "in" / f"{number}.png", paint(*size, number)) for number, size in enumerate(sizes)]
    right = translations(script, net, paths, tmp_path / "t")
    serve, _ = served(script.name)
    for image, (_, outputs), size in zip(serve([path.read_bytes() for path in paths]), right, sizes, strict=True):
        assert image.shape == (*size, 3)
        assert_close(image, outputs)
    for size in ((TILE + 1, 20), (20, TILE + 1)):
        words = f"larger than {TILE} pixels, the --tile_size"
        with pytest.raises(tf.errors.InvalidArgumentError, match=words):
            serve([encode(paint(*size, 0), "PNG")])


@once
def test_encoded_refuses_what_it_cannot_read(script, network, served, tmp_path):
    """An error of the call, after which the server goes on. TensorFlow's own reading of an animated
    WebP would overrun its memory."""
    side = network(script.name).side
    rgb = paint(side, side, 1)
    animated = {"save_all": True, "append_images": [Image.fromarray(255 - rgb)] * 2}
    serve, _ = served(script.name)
    good = encode(rgb, "PNG")
    (right,) = serve([good])
    for contents in (
        encode(rgb, "WEBP", lossless=True, **animated),
        encode(np.dstack([rgb, rgb[..., 0]]), "WEBP", **animated),
        encode(rgb, "WEBP"),
        encode(rgb, "TIFF"),
        encode(rgb, "AVIF"),
        b"",
        b"this is text",
        b"RIFF\x00\x00\x00\x00WEBPVP8 ",
    ):
        for files in ([contents], [good, contents]):
            with pytest.raises(tf.errors.InvalidArgumentError, match="not a JPEG, PNG, BMP or GIF"):
                serve(files)
    for kind in ("JPEG", "PNG", "GIF", "BMP"):
        path = tmp_path / "cut"
        path.write_bytes(encode(rgb, kind))
        truncate(path)
        with pytest.raises(tf.errors.OpError):
            serve([path.read_bytes()])
    assert_close(serve([good])[0], right, most=0)
    assert serve([]) == []


@once
def test_encoded_gives_no_wrong_pixels(script, network, served, tmp_path):
    """Some BMPs, which TensorFlow misreads: an error, or the pixels of test."""
    net = network(script.name)
    rgb = paint(net.side, net.side, 1)
    kinds = {
        "palette": Image.fromarray(rgb).quantize(16),
        "bits": Image.fromarray(rgb).convert("1"),
        "grey": rgb[..., 1],
        "rgba": np.dstack([rgb, rgb[..., 0]]),
    }
    (tmp_path / "in").mkdir()
    paths = [save_image(tmp_path / "in" / f"{name}.bmp", image) for name, image in kinds.items()]
    right = translations(script, net, paths, tmp_path / "t")
    serve, _ = served(script.name)
    for path, (_, outputs) in zip(paths, right, strict=True):
        with contextlib.suppress(tf.errors.InvalidArgumentError):
            (image,) = serve([path.read_bytes()])
            assert_close(image, outputs)


# ------------------------------------------------------------------------------ what was there before


@once
def test_default_names_and_a_second_export(script, network, tmp_path):
    """Into the folder in which one is, and in place of the first."""
    net = network(script.name)
    with contextlib.chdir(tmp_path):
        for _ in range(2):
            done = run_tool("export", net.folder, "--format", "keras")
            target = Path("tiny_export", "model.keras")
            assert (done.returncode, done.stdout, done.stderr) == (0, f"done: {target}\n", "")
    assert [str(path.relative_to(tmp_path)) for path in memory_of(tmp_path)] == [str(target)]


def export_calls(script, net, folder):
    """The two ways to write a SavedModel, as functions that check for one line and give it."""

    def by_script():
        words = ["--mode", "export", "--checkpoint", net.folder, "--output_dir", folder]
        return script.fails(*words)

    def by_tool():
        words = [net.folder, "--format", "encoded", "--output_dir", folder]
        return fails(run_tool("export", *words))

    return by_script, by_tool


@once
@pytest.mark.parametrize("what", ["ours", "nothing"])
def test_a_link_in_place_of_the_saved_model(script, network, what, tmp_path):
    """It is not followed: what it leads to stays as it is, and so does the link."""
    other = tmp_path / "other"
    if what == "ours":
        other.mkdir()
        (other / "saved_model.pb").write_text("precious")
    link = tmp_path / "e" / "saved_model"
    link.parent.mkdir()
    link.symlink_to(other, target_is_directory=True)
    before = memory_of(tmp_path)
    for call in export_calls(script, network(script.name), link.parent):
        assert str(link) in call()
        assert link.is_symlink() and os.readlink(link) == str(other)
        assert memory_of(tmp_path) == before and os.listdir(link.parent) == ["saved_model"]


@once
@pytest.mark.parametrize("what", ["folder", "file"])
def test_something_else_in_place_of_the_saved_model(script, network, what, tmp_path):
    target = tmp_path / "saved_model"
    if what == "file":
        target.write_text("precious")
    else:
        target.mkdir()
        (target / "thesis.tex").write_text("precious")
    before = memory_of(tmp_path)
    for call in export_calls(script, network(script.name), tmp_path):
        assert str(target) in call()
        assert memory_of(tmp_path) == before and os.listdir(tmp_path) == ["saved_model"]


@once
def test_a_folder_in_place_of_a_file(script, network, tmp_path):
    """A folder of the user that has the name of a model is not removed."""
    precious = tmp_path / "model.keras" / "thesis.tex"
    precious.parent.mkdir()
    precious.write_text("precious")
    words = [network(script.name).folder, "--format", "keras", "--output_dir", tmp_path]
    fails(run_tool("export", *words), precious.parent)
    assert memory_of(tmp_path) == {precious: b"precious"}


@once
@pytest.mark.parametrize("kind", ["keras", "encoded"])
def test_an_export_that_fails_leaves_the_last_one(script, network, served, kind, tmp_path, monkeypatch):
    """A full disk: one line, and nothing of the new one is left."""
    target = tmp_path / export.FILES[kind]
    if kind == "keras":
        target.write_bytes(b"the last one")
    else:
        target.mkdir()
        (target / "saved_model.pb").write_bytes(b"the last one")
    before = memory_of(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, f"write_{kind}", full, raising=False)
    monkeypatch.setattr(script.module.keras.Model, "save", full)
    words = [network(script.name).folder, "--format", kind, "--output_dir", tmp_path]
    fails(run_tool("export", *words), target, "No space left on device")
    assert memory_of(tmp_path) == before and os.listdir(tmp_path) == [target.name]


# -------------------------------------------------------------------------------- the command line


BAD_FLAGS = {
    "pix2pix": [
        (["--format", "saved_model"], ["--format", "encoded"]),
        (["--format", "tflite"], ["--format", "litert"]),
        ([], ["--format"]),
        (["--format", "keras", "--quantize", "int8"], ["--quantize", "litert"]),
        (["--format", "litert", "--quantize", "int4"], ["--quantize", "int8"]),
        (["--format", "keras", "--which_direction", "both"], ["--which_direction", "AtoB"]),
        (["--format", "keras", "--which_direction", "BtoA"], ["--which_direction AtoB"]),
        (["--format", "encoded", "--aspect_ratio", "0"], ["aspect_ratio"]),
        (["--format", "encoded", "--aspect_ratio", "wide"], ["aspect_ratio", "wide"]),
        (["--format", "encoded", "--aspect_ratio", "nan"], ["aspect_ratio"]),
        (["--format", "keras", "--tile_size", "big"], ["tile_size", "big"]),
        (["--format", "keras", "--sice", "64"], ["--sice"]),
    ],
    "siamesegan": [
        (["--format", "encoded", "--aspect_ratio", "2"], ["siamesegan.py has no --aspect_ratio"]),
        (["--format", "litert", "--tile_size", "0"], ["tile_size"]),
        (["--format", "litert", "--tile_size", "40"], ["tile_size", "16"]),
    ],
}


@pytest.mark.parametrize(
    ("script", "flags", "words"),
    [(name, *case) for name, cases in BAD_FLAGS.items() for case in cases],
    indirect=["script"],
    ids=[f"{name} {' '.join(flags)}" for name, cases in BAD_FLAGS.items() for flags, _ in cases],
)
def test_bad_flags(script, network, flags, words, tmp_path):
    net = network(script.name)
    output = tmp_path / "o"
    fails(run_tool("export", net.folder, *flags, "--output_dir", output), *words)
    assert not output.exists() or list(output.iterdir()) == []


def test_no_training(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "missing", tmp_path / "missing" / "model-1"):
        fails(run_tool("export", folder, "--format", "keras"), folder, "no training")
    fails(run_tool("export", "--format", "keras"), "checkpoint")
    (tmp_path / "empty" / "options.json").write_text("{")
    fails(run_tool("export", tmp_path / "empty", "--format", "keras"), "options.json", "damaged")
    (tmp_path / "empty" / "options.json").write_text('{"script": "os"}')
    fails(run_tool("export", tmp_path / "empty", "--format", "keras"), "no os.py")


@once
def test_a_checkpoint_that_is_damaged_or_named(script, network, tmp_path):
    """One of several may be named; a damaged one is named in the message."""
    net = network(script.name)
    done = run_tool("export", net.folder / "model-1", "--format", "keras", "--output_dir", tmp_path)
    assert done.returncode == 0 and (tmp_path / "model.keras").is_file(), done
    copy = copy_of(net.folder, tmp_path / "copy")
    truncate(copy / "model-1.data-00000-of-00001")
    words = [copy, "--format", "keras", "--output_dir", tmp_path / "e"]
    fails(run_tool("export", *words), copy / "model-1", "damaged")


@once
@pytest.mark.parametrize("where", ["below a file", "/proc"])
def test_unwritable_output(script, network, where, tmp_path):
    (tmp_path / "file").write_text("in the way")
    folder = tmp_path / "file" / "o" if where == "below a file" else Path("/proc/no such place")
    words = [network(script.name).folder, "--format", "keras", "--output_dir", folder]
    fails(run_tool("export", *words), folder)
