"""What the tests share: small generated images, the algorithms with their command lines, and tiny trainings of them.

A new algorithm needs one entry in SCRIPTS; every test with the fixture `script` then runs for it too.
"""

import contextlib
import copy
import dataclasses
import functools
import importlib
import io
import os
import re
import subprocess
import sys
import types
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from random_vgg import random_features

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

# ------------------------------------------------------------------------------------------------------------- images


def paint(height, width, seed):
    """A smooth coloured image, uint8 [height, width, 3], no two seeds alike."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[0 : max(height, 1), 0 : max(width, 1)] / 16
    waves = [np.sin(x * draw.uniform(0.3, 2) + y * draw.uniform(0.3, 2) + draw.uniform(0, 6)) for _ in range(3)]
    return np.uint8(np.stack(waves, -1) * 100 + 128)


def save_image(path, pixels, **options):
    """Writes an array or a Pillow image; makes the folder. Returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def save_pairs(folder, names, height=80, width=80):
    """Side-by-side pairs: an image, and beside it the same with inverted colours. Returns the folder."""
    for number, name in enumerate(names):
        a = paint(height, width, number + 100)
        save_image(Path(folder) / name, np.concatenate([a, 255 - a[..., ::-1]], 1))
    return Path(folder)


def save_domains(folder, parts, size=(40, 44)):
    """{"trainA": names, ...} => images of different heights in these folders. Returns the folder."""
    for part, names in parts.items():
        for number, name in enumerate(names):
            seed = number + 1000 * ["trainA", "trainB", "testA", "testB"].index(part)
            save_image(Path(folder) / part / name, paint(size[0] + 3 * (number % 3), size[1], seed))
    return Path(folder)


def truncate(path, share=0.5):
    """Cuts a file off, as a broken download does."""
    contents = Path(path).read_bytes()
    Path(path).write_bytes(contents[: int(len(contents) * share)])


def read_png(path):
    """Pixels of an RGB image; fails if it is of another mode."""
    with Image.open(path) as image:
        assert image.format == "PNG" and image.mode == "RGB"
        return np.asarray(image)


def pngs(folder):
    """{file name: pixels} of the images that test wrote."""
    return {path.name: read_png(path) for path in sorted((Path(folder) / "images").glob("*.png"))}


# ---------------------------------------------------------------------------------------------------------- algorithms

NAMES = ["pic1", "pic2", "Pic3", "pic10"]  # test images of every script, in natural order
FILES = ["pic10.png", "pic2.png", "pic1.png", "Pic3.bmp"]
DOMAINS = {"trainA": [f"{i}.png" for i in range(5)], "trainB": [f"{i}.png" for i in range(3)]}
DOMAINS |= {"testA": FILES, "testB": [*FILES, "alone.png"]}
HD_SIZES = {"pic1.png": (90, 1100), "pic2.png": (133, 71), "Pic3.bmp": (5, 9), "pic10.png": (64, 40)}  # of siamesegan's


def save_pix2pix_data(folder):
    """train (5 pairs) and val (4 pairs)."""
    save_pairs(folder / "train", DOMAINS["trainA"])
    save_pairs(folder / "val", FILES, width=96)
    return folder / "train"


def save_unpaired_data(folder):
    """trainA (5), trainB (3), testA (4), and testB, which has other images of the same names and one more."""
    return save_domains(folder, DOMAINS)


def save_hd_data(folder):
    """trainA (5), trainB (3), and testA: a panorama, and images larger and smaller than a tile."""
    save_domains(folder, DOMAINS, size=(100, 150))
    for number, (name, size) in enumerate(HD_SIZES.items()):
        save_image(folder / "testA" / name, paint(*size, number))
    return folder


class Script:
    """An algorithm file: its module, its class, its smallest networks, data for them, and its command line.

    tiny: flags for the smallest networks; save_data(folder) writes data and returns --input_dir; learning: flags of the
    training that the fixture `trained` makes, whose learning rate falls from step 10 on; kinds: the images that test
    writes; samples: names of the images that training shows; same_training: another script has this training too, in
    shared blocks.
    """

    def __init__(self, name, class_name, tiny, save_data, learning, kinds, samples=NAMES, same_training=False):
        self.name, self.class_name, self.tiny, self.save_data = name, class_name, tiny, save_data
        self.learning, self.kinds, self.samples, self.same_training = learning, kinds, samples, same_training

    @functools.cached_property
    def module(self):
        import tensorflow as tf

        with contextlib.suppress(RuntimeError):  # TensorFlow runs already
            tf.config.threading.set_inter_op_parallelism_threads(1)  # as --deterministic does in a process of its own
        return importlib.import_module(self.name)

    @property
    def algorithm(self):
        return getattr(self.module, self.class_name)

    @property
    def has_both_directions(self):
        """Whether a training learns both directions, so that test and export choose one."""
        return "which_direction" not in self.algorithm.network_flags

    def run(self, *arguments, algorithm=None):
        """The command line, with another class if one is given. Returns exit code, stdout and stderr.

        TensorFlow's C++ logs do not count here: they depend on what this process imported first. process() counts them.
        """
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = self.module.main([f"{self.name}.py", *map(str, arguments)], algorithm or self.algorithm)
        return code, out.getvalue(), err.getvalue()

    def __call__(self, *arguments, code=0, algorithm=None):
        """As run(), but checks the exit code and returns stdout."""
        result, out, err = self.run(*arguments, algorithm=algorithm)
        assert result == code, (result, out, err)
        return out

    def fails(self, *arguments, algorithm=None):
        """A call that the user got wrong. Checks for exit code 2 and one line on stderr, which is returned."""
        result, out, err = self.run(*arguments, algorithm=algorithm)
        assert result == 2, (result, out, err)
        assert_one_line(err)
        return err

    def recorded(self, *arguments):
        """As a call, but returns stdout and the model that it made."""
        models = []

        class Recorded(self.algorithm):
            def __init__(self, *arguments, **options):
                super().__init__(*arguments, **options)
                models.append(self)

        return self(*arguments, algorithm=Recorded), models[0]

    def options(self, **changes):
        """The flags of the smallest networks as a namespace, with changes, for a model without a command line."""
        values = copy.deepcopy(self.module.FLAGS)
        values([self.name, *self.tiny, "--seed=0"])
        rgb = dataclasses.asdict(self.module.Domain())
        more = {"version": self.module.VERSION, "saved": {}, "given": set()}  # what complete() adds
        more["domains"] = {"A": rgb, "B": rgb}
        return types.SimpleNamespace(**values.flag_values_dict() | more | changes)

    def progress(self, stdout):
        """[(epoch, step, total, images per second, time left, *losses)] of the progress lines, as strings."""
        losses = "".join(rf"  {name} ([\d.]+)" for name in self.algorithm.losses)
        more = r"(?:  discrim_patch ([\d.]+))?" if self.name == "siamesegan" else ""
        line = r"epoch (\d+)  step (\d+)/(\d+)  ([\d.]+) images/s  (\d+h\d\dm) left"
        found = re.finditer(rf"^{line}{losses}{more}$", stdout, re.MULTILINE)
        return [tuple(value for value in match.groups() if value) for match in found]

    def losses(self, stdout):
        """Losses of the progress lines, [lines, losses]."""
        return np.array([line[5:] for line in self.progress(stdout)], float)

    def __repr__(self):
        return self.name


TINY = ["--ngf", "4", "--ndf", "4", "--crop_size", "64", "--scale_size", "72"]  # 6 halvings: the smallest with dropout
TINY_GANILLA = ["--ngf", "4", "--ndf", "4", "--crop_size", "32", "--scale_size", "36"]
TINY_CYCLEGAN = [*TINY_GANILLA, "--n_blocks", "1"]
TINY_CUT = [*TINY_CYCLEGAN, "--flip_equivariance"]
TINY_SIAMESE = ["--ngf", "4", "--ndf", "4", "--vec_len", "8", "--tile", "32", "--train_size", "96", "--batch_size", "2"]
TINY_ANIMEGAN = [*TINY_GANILLA, "--batch_size", "1", "--init_steps", "2", "--features", str(random_features())]
LEARNING = ["--decay_epochs", "4", "--cycle_weight", "8", "--pool_size", "3"]
BOTH = [f"AtoB-{name}" for name in NAMES] + [f"BtoA-{name}" for name in ["alone", *NAMES[:3]]]
TRANSLATED_BACK = ("inputs", "outputs", "recovered")
ALGORITHMS = [
    Script("pix2pix", "Pix2Pix", TINY, save_pix2pix_data, ["--decay_epochs", "4", "--l1_weight", "50"],
           ("inputs", "outputs", "targets")),
    Script("cyclegan", "CycleGAN", TINY_CYCLEGAN, save_unpaired_data, [*LEARNING, "--ema_decay", "0.9"],
           TRANSLATED_BACK, BOTH),
    Script("ganilla", "Ganilla", TINY_GANILLA, save_unpaired_data, LEARNING, TRANSLATED_BACK, BOTH, same_training=True),
    Script("siamesegan", "SiameseGAN", TINY_SIAMESE, save_hd_data,
           ["--decay_epochs", "2", "--crops_per_image", "2", "--patch_weight", "0.5"], ("inputs", "outputs")),
    Script("animegan", "AnimeGAN", TINY_ANIMEGAN, save_unpaired_data, ["--decay_epochs", "4", "--init_steps", "12"],
           ("inputs", "outputs"), BOTH[:4]),
    Script("cut", "CUT", TINY_CUT, save_unpaired_data, ["--decay_epochs", "4", "--nce_weight", "2"],
           ("inputs", "outputs"), BOTH[:4]),
]  # fmt: skip
SCRIPTS = {script.name: script for script in ALGORITHMS}
LATER = ("ganilla", "cut", "animegan")


def only(*names, more=()):
    """A test with the fixture `script` runs for these scripts alone; for those in `more` only with -m more."""
    marked = [pytest.param(name, marks=pytest.mark.more) for name in more]
    return pytest.mark.parametrize("script", [*names, *marked], indirect=True)


once = only("pix2pix")  # for what all scripts have in their shared part, which is one text
each_training = only(*(name for name, script in SCRIPTS.items() if not script.same_training))


def command_line(arguments, script="pix2pix"):
    return [sys.executable, str(ROOT / f"{script}.py"), *map(str, arguments)]


def plain_environment():
    """The environment of a user who set nothing to quieten TensorFlow."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TF_CPP")} | {
        "PYTHONUNBUFFERED": "1"
    }


def process(*arguments, script="pix2pix", **options):
    """Runs a script as a user does, to its end."""
    options = {"capture_output": True, "text": True, "timeout": 120, "env": plain_environment()} | options
    return subprocess.run(command_line(arguments, script), **options)


def assert_one_line(stderr, *words):
    """stderr is one line that begins with "error: " and holds all the words."""
    assert stderr.startswith("error: ") and stderr.count("\n") == 1 and stderr.endswith("\n"), stderr
    for word in words:
        assert str(word) in stderr, f"{word!r} is not in {stderr!r}"


# --------------------------------------------------------------------------------------------------------------- output


def checkpoints(folder):
    """Steps of the checkpoints in a folder."""
    return sorted(int(path.stem.split("-")[1]) for path in Path(folder).glob("model-*.index"))


def tensors(checkpoint):
    """All tensors of a checkpoint, by name."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(checkpoint))
    names = [name for name in reader.get_variable_to_shape_map() if name != "_CHECKPOINTABLE_OBJECT_GRAPH"]
    return {name: reader.get_tensor(name) for name in names}


def assert_same(first, second):
    assert first.keys() == second.keys() and first
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def patch_size(discriminator):
    """Height and width of the pixels that one logit of a discriminator of 256x256 images depends on."""
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


# ------------------------------------------------------------------------------------------------------------ fixtures


def pytest_collection_modifyitems(items):
    for item in items:
        # what all scripts share is tried with three of them; with these after the suite
        if getattr(item, "callspec", None) and item.callspec.params.get("script") in LATER:
            item.add_marker(pytest.mark.more)
        if item.get_closest_marker("slow"):  # pytest.ini's limit is for the others
            item.add_marker(pytest.mark.timeout(2 * 60 * 60))


@pytest.fixture(autouse=True)
def float32_policy():
    """A test may train in mixed precision; the next one starts from Keras's default."""
    yield
    if "keras" in sys.modules:
        sys.modules["keras"].config.set_dtype_policy("float32")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """ONEDNN_MAX_CPU_ISA imitates an older CPU for float32; half precision then fails in oneDNN, which TensorFlow still
    asks for it since it sees the real CPU. That is no defect of ours."""
    try:
        return (yield)
    except Exception as error:
        if "ONEDNN_MAX_CPU_ISA" in os.environ and "could not create a primitive" in str(error):
            pytest.skip("oneDNN has no half precision under ONEDNN_MAX_CPU_ISA")
        raise


@pytest.fixture(params=SCRIPTS)
def script(request):
    """Each of the scripts; see only() and once."""
    return SCRIPTS[request.param]


@pytest.fixture(scope="session")
def data_of(tmp_path_factory):
    """data_of(name): --input_dir for a script, the same folder at each call. Read only."""
    return functools.cache(lambda name: SCRIPTS[name].save_data(tmp_path_factory.mktemp(f"{name}-data")))


@pytest.fixture(scope="session")
def trained_of(data_of, tmp_path_factory):
    """trained_of(name): a training of 20 steps, made at the first call: folder, flags, stdout, model. Read only."""

    @functools.cache
    def train(name):
        script, folder = SCRIPTS[name], tmp_path_factory.mktemp(f"{name}-trained") / "tiny_train"
        flags = ["--mode", "train", "--input_dir", data_of(name), *script.tiny, "--seed", 3, "--max_steps", 20]
        flags += ["--batch_size", 2, "--lr", 0.002, "--save_freq", 5, "--summary_freq", 5, "--progress_freq", 10]
        flags += ["--display_freq", 10, *script.learning]
        stdout, model = script.recorded(*flags, "--output_dir", folder)
        return types.SimpleNamespace(folder=folder, flags=flags, stdout=stdout, model=model)

    return train


@pytest.fixture(scope="session")
def tested_of(trained_of, tmp_path_factory):
    """tested_of(name): the folder of a test of trained_of(name), with --checkpoint alone, from an empty folder."""

    @functools.cache
    def test(name):
        folder = tmp_path_factory.mktemp(f"{name}-tested")
        with contextlib.chdir(folder):
            stdout = SCRIPTS[name]("--mode", "test", "--checkpoint", trained_of(name).folder)
        assert "no --input_dir given: using " in stdout and "(4 images)" in stdout
        return folder / ("tiny_AtoB_test" if SCRIPTS[name].has_both_directions else "tiny_test")

    return test


@pytest.fixture
def data(script, data_of):
    """--input_dir of the script: data that tell natural order from the alphabet's. Read only."""
    return data_of(script.name)


@pytest.fixture
def trained(script, trained_of):
    """A tiny training of the script: folder, flags, stdout and model. Read only."""
    return trained_of(script.name)


@pytest.fixture
def tested(script, tested_of):
    """The folder of a test of `trained`. Read only."""
    return tested_of(script.name)
