"""LiteRT as an engine of translate.py: the generator with int8 weights, compared with the network
on the first images. No command of its own.

LiteRT models take one size of images. Each size is converted once, and kept in the folder `litert`
of the training; docs/scale.md says what was measured.
"""

import copy
import dataclasses
import hashlib
import re
import tempfile
import time
from pathlib import Path

import numpy as np
from common import UserError, count_cores, written_whole
from export import convert
from tqdm import tqdm

TRIAL = 8  # images that an engine is tried on
MOST_LEVELS = 1  # of 255, that translations may differ from the network's, on average
MOST_SIZES = 8  # that are converted for one run; the network translates the others
VERSION = 1  # of what the files hold
KEPT = re.compile(r"(model-\d+)-(?:AtoB|BtoA)-\d+x\d+-(?:int8|float32)-([0-9a-f]{16})\.tflite")


class Unconvertible(Exception):
    """LiteRT cannot hold this network. The message says why."""


def say(text):
    """Prints a line above the progress bar."""
    tqdm.write(text)


# ---------------------------------------------------------------------------------------- the files


class Kept:
    """The LiteRT models of a checkpoint in the folder `litert` of its training. A file's name has a
    hash of the checkpoint, so that another checkpoint makes another file."""

    def __init__(self, module, checkpoint):
        self.checkpoint = Path(module.find_checkpoint(checkpoint))
        self.folder = self.checkpoint.parent / "litert"
        index = Path(f"{self.checkpoint}.index").read_bytes()  # it has a checksum of each tensor
        options = (self.checkpoint.parent / "options.json").read_bytes()
        versions = f"{module.tf.__version__} {module.keras.__version__} {VERSION}".encode()
        digest = hashlib.blake2b(digest_size=8)
        for part in (index, options, versions):
            digest.update(hashlib.blake2b(part).digest())
        self.key = digest.hexdigest()

    def path(self, direction, size, weights):
        """The file for images of one size."""
        height, width = size
        name = f"{self.checkpoint.name}-{direction}-{height}x{width}-{weights}-{self.key}.tflite"
        return self.folder / name

    def keep(self, path, contents):
        """Writes a file, if the folder lets us, and removes what is kept for no checkpoint."""
        try:
            self.folder.mkdir(exist_ok=True)
            with written_whole(path) as part:
                part.write_bytes(contents)
            self.remove_old()
        except OSError as error:
            say(f"{path} cannot be kept, so the next run converts again: {error.strerror}")

    def remove_old(self):
        """Removes the files of this checkpoint as it was before, and those of checkpoints that are
        gone."""
        for path in self.folder.iterdir():
            match = KEPT.fullmatch(path.name)
            if not match or path.is_symlink() or not path.is_file():
                continue
            name, key = match.groups()
            is_there = (self.folder.parent / f"{name}.index").exists()
            if not is_there or (name == self.checkpoint.name and key != self.key):
                path.unlink()


# -------------------------------------------------------------------------------------- the network


class Network:
    """The generator of a model in LiteRT: float32 or uint8 [n, h, w, c] => fractions of the range,
    float32 [n, h, w, channels], as model.translate does. weights: "int8" or "float32"."""

    def __init__(self, module, model, kept, weights):
        self.module = module
        self.model = model
        self.kept = kept
        self.weights = weights
        self.direction = model.args.which_direction
        self.in_tensorflow = translate_of(model, self.direction)
        self.interpreters = {}  # {(height, width): interpreter}
        self.is_full = False

    def __call__(self, images):
        size = images.shape[1:3]
        if size not in self.interpreters and len(self.interpreters) == MOST_SIZES:
            if not self.is_full:
                say(f"images of more than {MOST_SIZES} sizes: TensorFlow translates the others")
            self.is_full = True
            return self.in_tensorflow(images)
        if size not in self.interpreters:
            self.interpreters[size] = self.prepare(size)
        run = self.interpreters[size]
        return np.concatenate([run(image[None]) for image in images])

    def prepare(self, size):
        """A function for one image of this size, of a file that is kept or made now."""
        path = self.kept.path(self.direction, size, self.weights)
        if path.is_file():
            try:
                return load(self.module, path.read_bytes())
            except (ValueError, RuntimeError):
                say(f"{path} is damaged: it is made anew")
        contents = self.convert(size)
        self.kept.keep(path, contents)
        return load(self.module, contents)

    def convert(self, size):
        """The bytes of a LiteRT model for images of this size. Raises Unconvertible."""
        height, width = size
        say(f"converting for LiteRT, {self.weights} weights, {height}x{width} pixels")
        with tempfile.TemporaryDirectory() as folder, self.module.quiet_stderr():
            path = Path(folder, "model.tflite")
            try:
                serving = of_fractions(self.model).build_serving_model(*size, batch_size=1)
                convert(self.module, serving, path, self.weights)
            except OSError:
                raise
            except Exception as error:  # of whatever kind the converter raises
                lines = str(error).strip().splitlines() or [type(error).__name__]
                raise Unconvertible(lines[0][:200]) from None
            return path.read_bytes()


def of_fractions(model):
    """A copy of a model whose serving model takes values as float32, and gives fractions of the
    range."""
    copied = copy.copy(model)
    direction = model.args.which_direction
    source = dataclasses.replace(model.domains[direction[0]], type="float32")
    target = model.domains[direction[-1]]
    target = dataclasses.replace(target, type="float32", low=0.0, high=1.0)
    copied.domains = {direction[0]: source, direction[-1]: target}
    copied.input_domain = source
    copied.output_domain = target
    return copied


def translate_of(model, direction):
    """The compiled network of a model, for one direction."""
    if isinstance(model.translate, dict):
        return model.translate[direction]
    return model.translate


def with_translate(model, translate):
    """A copy of a model whose images go through another function."""
    copied = copy.copy(model)
    if isinstance(model.translate, dict):
        translate = {**model.translate, model.args.which_direction: translate}
    copied.translate = translate
    return copied


def load(module, contents):
    """The bytes of a LiteRT model => a function that computes on all cores: one image [1, h, w, c]
    => float32 [1, h, w, channels]."""
    with module.quiet_stderr():
        interpreter = module.tf.lite.Interpreter(
            model_content=contents, num_threads=count_cores()
        )
        interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    (target,) = interpreter.get_output_details()

    def translate(image):
        interpreter.set_tensor(source["index"], np.float32(image))
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])

    return translate


# --------------------------------------------------------------------------------------- the choice


class Engine:
    """Translates images by LiteRT, or as it measures: images [n, h, w, c] => the same. `name` says
    what it uses."""

    def __init__(self, args, module, model):
        self.direction = model.args.which_direction
        target = model.domains[self.direction[-1]]
        self.level = (target.high - target.low) / 255
        self.in_tensorflow = self.through(model)
        kept = Kept(module, args.checkpoint)
        self.in_litert = {}
        for weights in ("int8", "float32"):
            network = Network(module, model, kept, weights)
            self.in_litert[weights] = self.through(with_translate(model, network))
        self.tried = 0
        self.differences = []
        self.name = "tensorflow"

    def through(self, model):
        """The function that translates images with a model."""

        def translate(images):
            return model.translate_images(images, self.direction)

        return translate

    def compare(self, outputs, images):
        """Notes how far translations are from the network's. Returns the mean of all so far, in
        levels."""
        difference = np.abs(outputs - np.float32(self.in_tensorflow(images)))
        axes = tuple(range(1, difference.ndim))
        self.differences.extend(difference.mean(axes) / self.level)
        return np.mean(self.differences)


class Litert(Engine):
    """--engine litert: 8-bit weights; float32 from the image on where they are too inexact."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.name = "litert int8"
        self.translate = self.in_litert["int8"]

    def __call__(self, images):
        try:
            outputs = self.translate(images)
        except Unconvertible as error:
            raise UserError(
                f"--engine litert: LiteRT cannot hold this network ({error}): leave it out"
            ) from None
        if self.tried >= TRIAL:
            return outputs
        self.tried += len(images)
        mean = self.compare(outputs, images)
        if self.name == "litert int8" and mean > MOST_LEVELS:
            say(f"LiteRT's int8 weights are {mean:.1f} of 255 from the network: taking float32")
            self.name = "litert float32"
            self.translate = self.in_litert["float32"]
            self.differences.clear()
            self.tried = 0
            return self(images)
        if self.tried >= TRIAL:
            say(f"LiteRT, {self.name[7:]} weights: {mean:.2f} of 255 from the network")
        return outputs


class Auto(Engine):
    """--engine auto: TensorFlow for the first images, then whichever is faster. LiteRT has int8
    weights, or float32 where those are too inexact."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.held = []
        self.chosen = None

    def __call__(self, images):
        if self.chosen:
            return self.chosen(images)
        outputs = self.in_tensorflow(images)
        self.held.append(images)
        self.tried += len(images)
        if self.tried >= TRIAL:
            self.choose()
            self.held.clear()
        return outputs

    def choose(self):
        """Sets self.chosen, and says why."""
        self.chosen = self.in_tensorflow
        try:
            weights, mean = self.find_weights()
        except Unconvertible as error:
            say(f"--engine auto: TensorFlow, since LiteRT cannot hold this network: {error}")
            return
        times_as_fast = self.measure(self.in_litert[weights])
        name = "TensorFlow"
        if times_as_fast > 1 and mean <= MOST_LEVELS:
            name = "LiteRT"
            self.chosen = self.in_litert[weights]
            self.name = f"litert {weights}"
        say(
            f"--engine auto: {name}. On the first {self.tried} images, LiteRT with {weights} "
            f"weights is {times_as_fast:.1f} times as fast as TensorFlow, {mean:.2f} of 255 from it"
        )

    def find_weights(self):
        """The smallest weights that are exact enough, else float32; and how far translations are
        from the network's, in levels."""
        for weights in self.in_litert:
            self.differences.clear()
            for images in self.held:
                mean = self.compare(self.in_litert[weights](images), images)
            if mean <= MOST_LEVELS:
                break
        return weights, mean

    def measure(self, translate):
        """How many times as fast as TensorFlow a function translates the held images."""
        in_tensorflow = 0
        in_litert = 0
        for images in self.held:
            in_tensorflow += fastest(self.in_tensorflow, images)
            in_litert += fastest(translate, images)
        return in_tensorflow / in_litert


def fastest(translate, images):
    """The seconds of the faster of two calls: others use the machine too."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        translate(images)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def choose_engine(args, module, model):
    """--engine => an Engine, or None for TensorFlow. Says so where there is nothing to choose."""
    if args.engine == "tensorflow":
        return None
    if model.args.which_direction not in ("AtoB", "BtoA"):
        raise UserError("--engine: give --which_direction AtoB or BtoA")
    if args.engine == "litert":
        return Litert(args, module, model)
    if module.tf.config.list_logical_devices("GPU"):
        say("--engine auto: TensorFlow, since there is a GPU")
        return None
    return Auto(args, module, model)
