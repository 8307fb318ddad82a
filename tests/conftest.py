"""What the tests of the algorithms share: small generated pictures, the command line in process and as a process of its own,
and tiny trainings (20 steps) that many tests look at and none may change, of pix2pix (`trained`) and unpaired (`learned`).
"""

import contextlib
import importlib
import io
import os
import subprocess
import sys
import types
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
TINY = ["--ngf", "4", "--ndf", "4", "--crop_size", "64", "--scale_size", "72"]  # 6 halvings: the smallest with dropout
UNPAIRED = [name for name in ("cyclegan", "ganilla") if (ROOT / f"{name}.py").exists()]
TINY_UNPAIRED = {name: ["--ngf", "4", "--ndf", "4", "--crop_size", "32", "--scale_size", "36"] for name in UNPAIRED}
TINY_UNPAIRED["cyclegan"] += ["--n_blocks", "1"]
TINY_SIAMESE = ["--ngf", "4", "--ndf", "4", "--vec_len", "8", "--tile", "32", "--train_size", "96", "--batch_size", "2"]


def paint(height, width, seed):
    """A smooth coloured picture, uint8 [height, width, 3], no two seeds alike."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[0 : max(height, 1), 0 : max(width, 1)] / 16
    waves = [np.sin(x * draw.uniform(0.3, 2) + y * draw.uniform(0.3, 2) + draw.uniform(0, 6)) for _ in range(3)]
    return np.uint8(np.stack(waves, -1) * 100 + 128)


def save_picture(path, pixels, **options):
    """Writes an array or a Pillow image; makes the folder. Returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def save_pairs(folder, names, height=80, width=80):
    """Side-by-side pairs: a picture, and beside it the same with its colours turned over. Returns the folder."""
    for number, name in enumerate(names):
        a = paint(height, width, number + 100)
        save_picture(Path(folder) / name, np.concatenate([a, 255 - a[..., ::-1]], 1))
    return Path(folder)


def truncate(path, share=0.5):
    """Cuts a file off, as a broken download does."""
    contents = Path(path).read_bytes()
    Path(path).write_bytes(contents[: int(len(contents) * share)])


def read_png(path):
    """Pixels of an RGB picture; fails if it is of another mode."""
    with Image.open(path) as image:
        assert image.format == "PNG" and image.mode == "RGB"
        return np.asarray(image)


def command_line(arguments, script="pix2pix"):
    return [sys.executable, str(ROOT / f"{script}.py"), *map(str, arguments)]


def plain_environment():
    """The environment of a user who set nothing to quieten TensorFlow."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TF_CPP")} | {"PYTHONUNBUFFERED": "1"}


def process(*arguments, **options):
    """Runs pix2pix.py as a user does, to its end."""
    options = {"capture_output": True, "text": True, "timeout": 120, "env": plain_environment()} | options
    return subprocess.run(command_line(arguments), **options)


def assert_one_line(stderr, *words):
    """stderr is one line that begins with "error: " and holds all the words."""
    assert stderr.startswith("error: ") and stderr.count("\n") == 1 and stderr.endswith("\n"), stderr
    for word in words:
        assert str(word) in stderr, f"{word!r} is not in {stderr!r}"


def tensors(checkpoint):
    """All tensors of a checkpoint, by name."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(checkpoint))
    names = [name for name in reader.get_variable_to_shape_map() if name != "_CHECKPOINTABLE_OBJECT_GRAPH"]
    return {name: reader.get_tensor(name) for name in names}


def pngs(folder):
    """{file name: pixels} of the pictures that test wrote."""
    return {path.name: read_png(path) for path in sorted((Path(folder) / "images").glob("*.png"))}


def assert_same(first, second):
    assert first.keys() == second.keys() and first
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def patch_size(discriminator):
    """Height and width of the pixels that one logit of a discriminator of 256x256 pictures depends on."""
    import tensorflow as tf

    image = tf.Variable(np.random.default_rng(0).normal(size=[1, 256, 256, 3]).astype(np.float32))
    with tf.GradientTape() as tape:
        patch = discriminator(image)[0, 15, 15, 0]
    rows, columns = np.nonzero(np.abs(tape.gradient(patch, image)[0]).sum(-1))
    return np.ptp(rows) + 1, np.ptp(columns) + 1


def events(folder):
    """{tag: {step: tensor}} of the TensorBoard events in a folder of training."""
    import tensorflow as tf

    found = {}
    for path in Path(folder).glob("events.out.tfevents.*"):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = tf.make_ndarray(value.tensor)
    return found


class ParsedPage(HTMLParser):
    """An index.html: its tags are checked to nest, its links are collected, its table is read as text."""

    VOID = {"meta", "img", "br", "link", "hr", "input"}

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.path, self.open, self.links, self.images, self.rows, self.alts = Path(path), [], [], [], [], []
        self.text = self.path.read_text(encoding="utf-8")
        self.feed(self.text)
        self.close()
        assert not self.open, f"not closed: {self.open}"
        assert self.text.startswith("<!DOCTYPE html>") and self.text.endswith("</html>\n")

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "a":
            self.links.append(attributes["href"])
        if tag == "img":
            self.images.append(attributes["src"])
            self.alts.append(attributes["alt"])
            assert attributes["loading"] == "lazy"
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    def missing_files(self):
        """Links that lead to no file."""
        return [url for url in self.links + self.images if not (self.path.parent / unquote(url)).is_file()]


@pytest.fixture(autouse=True)
def float32_policy():
    """A test may train in mixed precision; the next one starts from Keras's default."""
    yield
    if "keras" in sys.modules:
        sys.modules["keras"].config.set_dtype_policy("float32")


@pytest.fixture
def cli(capsys):
    """cli(*arguments, code=0): pix2pix.main in this process. Checks the exit code, returns stdout."""
    import pix2pix

    def run(*arguments, code=0):
        capsys.readouterr()
        result = pix2pix.main(["pix2pix.py", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert result == code, (result, out, err)
        return out

    return run


@pytest.fixture
def fails(capsys):
    """fails(*arguments): a call that the user got wrong. Exit code 2, and one line on stderr, which is returned.

    TensorFlow's C++ logs do not count here: they depend on what this process imported first. process() counts them.
    """
    import pix2pix

    def run(*arguments):
        capsys.readouterr()
        result = pix2pix.main(["pix2pix.py", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert result == 2, (result, out, err)
        assert_one_line(err)
        return err

    return run


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder with train (5 pairs) and val (4 pairs, whose names tell natural order from the alphabet's)."""
    folder = tmp_path_factory.mktemp("data")
    save_pairs(folder / "train", [f"{i}.png" for i in range(5)])
    save_pairs(folder / "val", ["pic10.png", "pic2.png", "pic1.png", "Pic3.jpg"], width=96)
    return folder


@pytest.fixture(scope="session")
def trained(data, tmp_path_factory):
    """A tiny training of 20 steps: folder, stdout, and the Pix2Pix object that it made. Read only."""
    import pix2pix

    models = []

    class Recorded(pix2pix.Pix2Pix):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            models.append(self)

    folder = tmp_path_factory.mktemp("trained") / "tiny_train"
    flags = ["--mode", "train", "--input_dir", data / "train", "--output_dir", folder, *TINY, "--seed", 3, "--max_steps", 20]
    flags += ["--batch_size", 2, "--l1_weight", 50, "--save_freq", 5, "--summary_freq", 10, "--progress_freq", 10]
    flags += ["--display_freq", 10]
    stdout = io.StringIO()
    with contextlib.redirect_stdout(stdout), pytest.MonkeyPatch.context() as patch:
        patch.setattr(pix2pix, "ALGORITHM", Recorded)
        assert pix2pix.main(["pix2pix.py", *map(str, flags)]) == 0
    return types.SimpleNamespace(folder=folder, stdout=stdout.getvalue(), model=models[0])


# ------------------------------------------------------------------------------------------------- the unpaired scripts


class Script:
    """An unpaired algorithm: its module, its smallest flags, and its command line in this process, as `cli` and `fails`."""

    def __init__(self, name):
        self.name, self.module = name, importlib.import_module(name)
        self.tiny = TINY_SIAMESE if name == "siamesegan" else TINY_UNPAIRED[name]

    def run(self, *arguments):
        """Returns exit code, stdout and stderr."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = self.module.main([f"{self.name}.py", *map(str, arguments)])
        return code, out.getvalue(), err.getvalue()

    def __call__(self, *arguments, code=0):
        result, out, err = self.run(*arguments)
        assert result == code, (result, out, err)
        return out

    def fails(self, *arguments):
        result, out, err = self.run(*arguments)
        assert result == 2, (result, out, err)
        assert_one_line(err)
        return err

    def recorded(self, *arguments):
        """As a call, but returns stdout and the model that it made."""
        models, algorithm = [], self.module.ALGORITHM

        class Recorded(algorithm):
            def __init__(self, *arguments, **options):
                super().__init__(*arguments, **options)
                models.append(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.module, "ALGORITHM", Recorded)
            return self(*arguments), models[0]


@pytest.fixture(scope="session", params=UNPAIRED)
def script(request):
    """Each of the unpaired scripts."""
    return Script(request.param)


def only_once(script):
    """For what takes long and is in both scripts by the same source, which test_shared_blocks.py checks."""
    if script.name != "cyclegan":
        pytest.skip("tested with cyclegan.py, of the same source")


def save_sides(folder, sides, shift=0):
    """{folder of a side: names} => pictures of differing sizes in them. Returns the folder."""
    for part, names in sides.items():
        for number, name in enumerate(names):
            pixels = paint(40 + 3 * (number % 3), 44, shift + number + 1000 * sorted(sides).index(part))
            save_picture(Path(folder) / part / name, pixels)
    return Path(folder)


@pytest.fixture(scope="session")
def sides(tmp_path_factory):
    """A folder with trainA (5 pictures), trainB (3), testA (4) and testB (the same names, other pictures, and one more)."""
    names = ["pic10.png", "pic2.png", "pic1.png", "Pic3.jpg"]
    parts = {"trainA": [f"{i}.png" for i in range(5)], "trainB": [f"{i}.png" for i in range(3)]}
    return save_sides(tmp_path_factory.mktemp("sides"), parts | {"testA": names, "testB": [*names, "alone.png"]})


@pytest.fixture(scope="session")
def learned(script, sides, tmp_path_factory):
    """A tiny training of 20 steps, 8 epochs, of which the last 4 with a falling learning rate: folder, stdout and the model
    that it made. Read only."""
    folder = tmp_path_factory.mktemp(script.name) / "tiny_train"
    flags = ["--mode", "train", "--input_dir", sides, "--output_dir", folder, *script.tiny, "--seed", 3, "--max_steps", 20]
    flags += ["--batch_size", 2, "--decay_epochs", 4, "--cycle_weight", 8, "--pool_size", 3, "--lr", 0.002]
    flags += ["--save_freq", 5, "--summary_freq", 5, "--progress_freq", 10, "--display_freq", 10]
    stdout, model = script.recorded(*flags)
    return types.SimpleNamespace(folder=folder, stdout=stdout, model=model)
