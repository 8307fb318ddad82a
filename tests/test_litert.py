"""tools/litert.py: --engine litert and auto of tools/translate.py, against the pixels of the network."""

import functools
import importlib
import json
import types

import numpy as np
import pytest
import tensorflow as tf
from conftest import SCRIPTS, once, only, paint, read_png, save_image, truncate
from run_tool import fails, run_tool

export, litert = map(importlib.import_module, ("export", "litert"))


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """network(name): the folder of a training of 0 steps, made at the first call, with weights that give contrasts."""

    @functools.cache
    def make(name):
        script = SCRIPTS[name]
        folder = tmp_path_factory.mktemp(name) / "tiny_train"
        save_network(script, folder, 1, strength=2)
        return folder

    return make


def save_network(script, folder, step, strength):
    """Saves a checkpoint of a network of the start, its weights times `strength`."""
    folder.mkdir(exist_ok=True)
    model = script.algorithm(script.options(input_dir="."), training=False)
    weights = script.module.weights_of(model)
    for weight in tf.nest.flatten(weights):
        weight.assign(weight * strength)
    tf.train.CheckpointManager(tf.train.Checkpoint(**weights), folder, 9, checkpoint_name="model").save(step)
    options = {"script": script.name, **script.module.saved_options(model.args)}
    (folder / "options.json").write_text(json.dumps(options))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Ten images of one size. Read only."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(10):
        save_image(folder / f"i{number}.png", paint(64, 64, number))
    return folder


def translate(checkpoint, images, folder, engine, *flags):
    """A call that succeeds. Returns stdout, the engine of summary.json and {name: image}."""
    done = run_tool("translate", checkpoint, images, "--output_dir", folder, "--engine", engine, *flags)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done
    used = json.loads((folder / "summary.json").read_text())["engine"]
    return done.stdout, used, {path.name: read_png(path) for path in sorted(folder.glob("*.png"))}


def mean_difference(first, second):
    assert first.keys() == second.keys() and first
    return np.mean([np.abs(image.astype(int) - second[name]).mean() for name, image in first.items()])


def kept(checkpoint):
    return sorted(path.name for path in (checkpoint / "litert").glob("*"))


# --------------------------------------------------------------------------------------------------------------- pixels


FLAGS = {"pix2pix": [], "cyclegan": ["--which_direction", "BtoA"], "siamesegan": ["--tile_size", 48]}


@only("pix2pix", more=("cyclegan", "siamesegan", "ganilla", "cut", "animegan"))
def test_litert_is_near_the_network(script, network, photos, tmp_path):
    """Converted at the first call, and read from the folder `litert` at the next, which gives the same pixels."""
    checkpoint, flags = network(script.name), FLAGS.get(script.name, [])
    _, used, exact = translate(checkpoint, photos, tmp_path / "exact", "tensorflow", *flags)
    assert used == "tensorflow" and np.mean([image.std() for image in exact.values()]) > 1
    out, used, found = translate(checkpoint, photos, tmp_path / "first", "litert", *flags)
    assert "converting for LiteRT" in out and used.startswith("litert ")
    assert mean_difference(found, exact) <= 1
    assert any(np.any(found[name] != exact[name]) for name in exact)  # or nothing was converted
    files = kept(checkpoint)
    assert files and all(litert.KEPT.fullmatch(name) for name in files)
    out, again, same = translate(checkpoint, photos, tmp_path / "second", "litert", *flags, "--batch_size", 3)
    assert "converting" not in out and again == used and kept(checkpoint) == files
    for name, image in found.items():
        np.testing.assert_array_equal(image, same[name])


@pytest.mark.more
@once
def test_sizes_and_windows(script, network, tmp_path, monkeypatch):
    """A file for each size up to MOST_SIZES; the network translates the others; larger images go in windows."""
    monkeypatch.setattr(litert, "MOST_SIZES", 2)
    for number, size in enumerate([(64, 64), (60, 200), (40, 100), (64, 190)]):
        save_image(tmp_path / "in" / f"{number}.png", paint(*size, number))
    flags = ["--native_size", "--tile_size", 64]
    _, _, exact = translate(network("pix2pix"), tmp_path / "in", tmp_path / "exact", "tensorflow", *flags)
    out, _, found = translate(network("pix2pix"), tmp_path / "in", tmp_path / "out", "litert", *flags)
    assert mean_difference(found, exact) <= 1
    assert all("-64x64-" in name for name in kept(network("pix2pix"))) and "of more than" not in out
    flags = ["--native_size", "--tile_size", 256]
    out, _, _ = translate(network("pix2pix"), tmp_path / "in", tmp_path / "wide", "litert", *flags)
    assert out.count("images of more than 2 sizes: TensorFlow translates the others") == 1
    assert len(kept(network("pix2pix"))) == 2


@once
def test_operations_that_are_quick_in_litert_give_the_same(script):
    """Reflection by slices, nearest x2, and norms with a scale and without."""
    ops = script.module.ops
    x = ops.convert_to_tensor(np.random.default_rng(0).normal(2, 3, [1, 7, 5, 4]).astype(np.float32))
    for widths in ([(0, 0), (3, 3), (2, 2), (0, 0)], [(0, 0), (0, 1), (0, 1), (0, 0)]):
        np.testing.assert_array_equal(export.reflect(ops, x, widths), ops.pad(x, widths, mode="reflect"))
    doubled = script.module.layers.UpSampling2D(2)(x)
    np.testing.assert_array_equal(export.repeat(ops, x), doubled)
    for layer in (script.module.InstanceNorm(), script.module.BatchNorm()):
        layer.build(x.shape)
        for weight in layer.weights:
            weight.assign(np.linspace(0.5, 2, 4))
        right = layer(x, training=False) if layer.name.startswith("batch") else layer(x)
        found = export.normalize(ops, x, layer.gamma, layer.beta)
        np.testing.assert_allclose(found, right, atol=1e-5)


@only("pix2pix", more=("cyclegan", "siamesegan", "ganilla", "cut", "animegan"))
def test_a_network_in_quick_operations_gives_the_same(script):
    """With resized and transposed convolutions, whichever there are."""
    for upsample in ("resize", "transpose"):
        options = script.options(input_dir=".")
        if hasattr(options, "upsample"):
            options.upsample = upsample
            options.grain = True
        model = script.algorithm(options, training=False)
        model.args.which_direction = "AtoB"
        serving = litert.of_fractions(model).build_serving_model(64, 64, batch_size=1)
        for weight in serving.weights:
            weight.assign(weight * 2 + 0.5 * ("grain" in weight.path))
        quick = export.in_quick_operations(script.module, serving, serving.input)
        names = {type(operation).__name__ for layer in quick.layers for operation in getattr(layer, "layers", [])}
        assert not names & {"InstanceNorm", "BatchNorm", "LayerNorm", "Grain"}
        image = np.float32(paint(64, 64, 1))[None]
        right = np.asarray(serving(image))
        assert right.std() > 0.005
        np.testing.assert_allclose(quick(image), right, atol=0.0005)


# ----------------------------------------------------------------------------------------------------------- the choice


class Clock:
    """In place of the time module: each call of a network takes as long as the test says."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def engine(monkeypatch):
    """engine(kind, seconds, errors): an Engine of made-up networks: the seconds that each takes, and what each adds to
    the pixels of TensorFlow's, or the exception that it raises."""
    clock = Clock()
    monkeypatch.setattr(litert, "time", clock)

    def make(kind, seconds, errors):
        def network(name):
            def run(images):
                clock.now += seconds[name]
                if isinstance(errors[name], Exception):
                    raise errors[name]
                return images + np.uint8(errors[name])

            return run

        made = kind.__new__(kind)
        made.level, made.tried, made.differences, made.name = 1, 0, [], "tensorflow"
        made.in_tensorflow = network("tensorflow")
        made.in_litert = {name: network(name) for name in ("int8", "float32")}
        made.held, made.chosen = [], None
        if kind is litert.Litert:
            made.name, made.translate = "litert int8", made.in_litert["int8"]
        return made

    return make


SECONDS = {"tensorflow": 2, "int8": 1, "float32": 1.5}
IMAGE = np.zeros([1, 4, 4, 3], np.uint8)
CASES = [  # seconds, errors, what auto takes, what it adds to the pixels, words
    ({}, {"int8": 1}, "litert int8", 1, "auto: LiteRT. On the first 8 images, LiteRT with int8 weights is 2.0 times"),
    ({"int8": 3}, {"int8": 1}, "tensorflow", 0, "TensorFlow. On the first 8 images, LiteRT with int8 weights is 0.7"),
    ({}, {"int8": 2}, "litert float32", 0, "float32 weights is 1.3 times as fast as TensorFlow, 0.00 of 255 from it"),
    ({"float32": 3}, {"int8": 2}, "tensorflow", 0, "auto: TensorFlow."),
    ({}, {"int8": 2, "float32": 3}, "tensorflow", 0, "3.00 of 255 from it"),
    ({}, {"int8": litert.Unconvertible("no such operation")}, "tensorflow", 0, "cannot hold this network: no such"),
]


@pytest.mark.parametrize("seconds, errors, name, added, words", CASES)
def test_auto_takes_what_is_faster_and_near(engine, capsys, seconds, errors, name, added, words):
    auto = engine(litert.Auto, SECONDS | seconds, {"tensorflow": 0, "int8": 0, "float32": 0} | errors)
    for _ in range(7):
        np.testing.assert_array_equal(auto(IMAGE), IMAGE)
    assert capsys.readouterr().out == "" and auto.name == "tensorflow"
    auto(IMAGE)
    assert auto.name == name
    np.testing.assert_array_equal(auto(IMAGE), IMAGE + added)
    out = capsys.readouterr().out
    assert words in out and out.count("\n") == 1


def test_litert_takes_float32_where_int8_is_too_inexact(engine, capsys):
    near = engine(litert.Litert, SECONDS, {"tensorflow": 0, "int8": 1, "float32": 0})
    far = engine(litert.Litert, SECONDS, {"tensorflow": 0, "int8": 2, "float32": 0})
    for _ in range(10):
        np.testing.assert_array_equal(near(IMAGE), IMAGE + 1)
        np.testing.assert_array_equal(far(IMAGE), IMAGE)
    assert (near.name, far.name) == ("litert int8", "litert float32")
    assert "2.0 of 255 from the network: taking float32" in capsys.readouterr().out


@once
def test_what_cannot_be_converted(script, network, photos, tmp_path, monkeypatch):
    """One line: exit code 2 for litert, TensorFlow for auto."""
    monkeypatch.setattr(litert, "Kept", lambda *_: types.SimpleNamespace(path=lambda *_: tmp_path / "none"))

    def refuse(*_):
        raise ValueError("no such operation\nand more")

    monkeypatch.setattr(litert, "convert", refuse)
    words = [network("pix2pix"), photos, "--output_dir", tmp_path / "out", "--engine", "litert"]
    fails(run_tool("translate", *words), "LiteRT cannot hold this network (no such operation)")
    out, used, images = translate(network("pix2pix"), photos, tmp_path / "auto", "auto")
    assert used == "tensorflow" and len(images) == 10 and "(" not in out.partition("LiteRT")[2].splitlines()[0]
    assert "cannot hold this network: no such operation" in out


@once
def test_half_precision_is_tensorflows(script, network, photos, tmp_path):
    words = [network("pix2pix"), photos, "--output_dir", tmp_path, "--mixed_precision", "bfloat16"]
    for engine in ("litert", "auto"):
        fails(run_tool("translate", *words, "--engine", engine), "--mixed_precision is for --engine tensorflow")


# ------------------------------------------------------------------------------------------------------------ the files


@pytest.fixture
def quick(monkeypatch):
    """Conversion takes no time: a file holds the size that it is for."""
    monkeypatch.setattr(litert.Network, "convert", lambda self, size: f"a model for {size}".encode())

    def load(module, contents):
        if not contents.startswith(b"a model for"):
            raise ValueError("no model")
        return lambda image: np.float32(image) / 255

    monkeypatch.setattr(litert, "load", load)


@once
def test_only_our_own_old_files_are_removed(script, photos, tmp_path, quick, monkeypatch):
    """A new checkpoint makes a new file. What is of a checkpoint that is there stays, as does what is not ours."""
    monkeypatch.setattr(litert, "MOST_LEVELS", 999)
    folder = tmp_path / "tiny_train"
    save_network(script, folder, 1, strength=2)
    save_network(script, folder, 2, strength=3)
    for step in (1, 2):
        translate(folder / f"model-{step}", photos / "i0.png", tmp_path / f"{step}", "litert")
    first, second = kept(folder)
    assert first.startswith("model-1-AtoB-64x64-int8-") and second.startswith("model-2-")
    (folder / "litert" / "mine.tflite").write_text("mine")
    (folder / "litert" / first.replace("model-1", "model-7")).symlink_to(photos / "i0.png")
    save_network(script, folder, 2, strength=4)
    (folder / "model-1.index").unlink()
    translate(folder, photos / "i0.png", tmp_path / "new", "litert")
    left = kept(folder)
    assert "mine.tflite" in left and first not in left and second not in left
    assert sum(name.startswith("model-2-") for name in left) == 1 and len(left) == 3


@once
def test_a_file_that_is_damaged_is_made_anew(script, network, photos, tmp_path, monkeypatch):
    checkpoint = network("pix2pix")
    translate(checkpoint, photos / "i0.png", tmp_path / "a", "litert")
    (path,) = (path for path in (checkpoint / "litert").glob("*-64x64-int8-*"))
    whole = path.read_bytes()
    monkeypatch.setattr(litert.Network, "convert", lambda *_: whole)  # without the work
    for damage in (lambda: truncate(path, 0.5), lambda: path.write_bytes(b""), lambda: path.write_bytes(b"x" * 99)):
        damage()
        out, _, _ = translate(checkpoint, photos / "i0.png", tmp_path / "b", "litert")
        assert "is damaged: it is made anew" in out and path.read_bytes() == whole


@once
def test_a_folder_that_cannot_be_written(script, network, photos, tmp_path, quick, monkeypatch):
    """The translation goes on, and says that it keeps nothing."""
    monkeypatch.setattr(litert, "MOST_LEVELS", 999)
    folder = tmp_path / "tiny_train"
    save_network(script, folder, 1, strength=2)
    (folder / "litert").write_text("a file")
    out, used, images = translate(folder, photos / "i0.png", tmp_path / "out", "litert")
    assert "cannot be kept, so the next run converts again" in out and used == "litert int8" and len(images) == 1
    assert (folder / "litert").read_text() == "a file"


@pytest.mark.more
@once
def test_a_video(script, network, tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    writer = imageio_ffmpeg.write_frames(str(tmp_path / "clip.mp4"), (64, 64), fps=10)
    writer.send(None)
    for number in range(12):
        writer.send(np.ascontiguousarray(paint(64, 64, number)))
    writer.close()
    for engine in ("litert", "auto"):
        words = [network("pix2pix"), tmp_path / "clip.mp4", "--output_dir", tmp_path / engine, "--engine", engine]
        assert run_tool("translate", *words).returncode == 0
        done = json.loads((tmp_path / engine / "summary.json").read_text())
        assert done["done"] == 12 and done["engine"].startswith(("litert", "tensorflow"))
        assert (tmp_path / engine / "clip.mp4").stat().st_size > 1000

