#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["tensorflow==2.21.0", "tensorboard==2.21.0", "numpy", "absl-py"]
# ///
"""GANILLA: photographs into illustrations, learned without pairs (Hicsonmez et al. 2020, arXiv 2002.05638), in TensorFlow 2 /
Keras 3.

    python ganilla.py --mode train --input_dir photo2illustration
    python ganilla.py --mode test --checkpoint photo2illustration_train
    python ganilla.py --mode test --checkpoint beatrix_train,seuss_train,miyazaki_train --input_dir photos

Measured on 2 cores of an AMD EPYC: a step at 128x128 takes 0.66 s, 1.29 times as fast as PyTorch eager, half
of cyclegan.py's; with --mixed_precision bfloat16 0.42 s.

What differs from cyclegan.py is the generator. docs/ganilla.md says what every file and number means, and where this differs
from the paper and from the released code.
"""

import collections
import contextlib
import functools
import html
import json
import math
import os
import random
import re
import signal
import sys
import time
import types
import urllib.parse
from pathlib import Path

import numpy as np
from absl import flags

NATIVE_LOGS = "TF_CPP_MIN_LOG_LEVEL" in os.environ  # wanted? else they would stand between our lines and hide them
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextlib.contextmanager
def quiet_native_stderr():
    """Hides the notes of TensorFlow's start (oneDNN, missing CUDA), which heed no log level."""
    if NATIVE_LOGS:
        yield
        return
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


with quiet_native_stderr():
    import keras
    import tensorflow as tf
    from keras import layers, ops

# ------------------------------------------------------------------------------------------------------------- flags

FLAGS = flags.FlagValues()  # our own set, so that all four scripts can be imported side by side
string, integer, number, boolean, choice = (
    functools.partial(define, flag_values=FLAGS)
    for define in (flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_float, flags.DEFINE_boolean, flags.DEFINE_enum)
)
boolean("help", False, "show this help")
choice("mode", None, ["train", "test", "export"], "what to do")
string("input_dir", None, "folder with trainA, trainB, testA and testB; test also takes a folder of pictures or one file; "
       "default: miyazaki, else the shipped samples")  # fmt: skip
string("output_dir", None, "folder to write to; default: miyazaki_train and the like, after the data's name")
string("checkpoint", None, "folder of a training to continue, test or export, or one of its checkpoints, DIR/model-2000; "
       "test also takes several, A,B,C, and shows them side by side")  # fmt: skip
choice("which_direction", "AtoB", ["AtoB", "BtoA", "both"], "what test translates and export writes; training learns both")
integer("max_epochs", 200, "passes over the larger of the two folders, in total", lower_bound=1)
integer("max_steps", None, "training steps in total, instead of --max_epochs", lower_bound=1)
integer("decay_epochs", 100, "last epochs of the training, in which the learning rate falls to 0 in a line", lower_bound=0)
integer("batch_size", 1, "pictures of each side in a training step", lower_bound=1)
integer("seed", None, "makes a training repeatable, on a CPU bit for bit; default: drawn, see options.json", lower_bound=0)
string("scale_size", "286", "pixels the pictures are resized to before cropping: the shorter side, or HEIGHTxWIDTH")
string("crop_size", "256", "pixels of the random crops: SIDE or HEIGHTxWIDTH, each a multiple of 16")
boolean("flip", True, "mirror training pictures at random")
boolean("no_flip", False, "the same as --noflip")
integer("ngf", 64, "generator filters in the first convolution", lower_bound=1)
integer("ndf", 64, "discriminator filters in the first convolution", lower_bound=1)
number("lr", 2e-4, "learning rate of Adam", lower_bound=0)
number("beta1", 0.5, "momentum of Adam", lower_bound=0, upper_bound=1)
choice("generator", "ganilla", ["ganilla", "ablation1", "ablation2"],
       "ablation1: the encoder adds instead of concatenating; ablation2: transposed convolutions as decoder")  # fmt: skip
string("fpn_weights", "1,1,1,1", "weights of the four terms that the decoder sums, from the deepest to the shallowest")
integer("n_layers_d", 3, "depth of the discriminators: 1, 3, 5 judge patches of 16, 70, 286 pixels; 0: single pixels",
        lower_bound=0)  # fmt: skip
choice("gan_loss", "lsgan", ["lsgan", "bce"], "adversarial loss: least squares or cross-entropy")
number("gan_weight", 1.0, "weight of the adversarial loss of each generator", lower_bound=0)
number("cycle_weight", 10.0, "weight of the cycle loss, each way", lower_bound=0)
number("identity_weight", 5.0, "weight of the identity loss, each way; 0: faster, colours may change more", lower_bound=0)
integer("pool_size", 50, "past fakes of each side kept for the discriminators; 0: they see the newest alone", lower_bound=0)
number("aspect_ratio", 1.0, "width / height that test (and export's `encoded`) stretches pictures to", lower_bound=0.05)
boolean("paired", False, "testA and testB show the same scenes under the same names: measure L1, PSNR and SSIM")
boolean("native_size", False, "test pictures keep their own size and aspect, instead of --crop_size")
integer("tile_size", 512, "pixels; with --native_size larger sides go through in overlapping windows of this", lower_bound=32)
choice("export_format", "saved_model", ["saved_model", "litert", "keras", "onnx"], "what export writes")
integer("summary_freq", 100, "steps between TensorBoard scalars, 0: none", lower_bound=0)
integer("progress_freq", 50, "steps between progress lines, 0: none", lower_bound=0)
integer("display_freq", 500, "steps between sample pictures in index.html and TensorBoard, 0: none", lower_bound=0)
integer("save_freq", 2000, "steps between checkpoints, 0: only at the end", lower_bound=0)
integer("histogram_freq", 0, "steps between TensorBoard histograms of the weights, 0: none", lower_bound=0)
integer("trace_freq", 0, "steps between profiler traces of one step for TensorBoard, 0: none", lower_bound=0)
integer("cache_mb", 1024, "MiB; resized pictures are kept in memory when all of them fit in this", lower_bound=0)
choice("mixed_precision", "off", ["off", "bfloat16", "float16"], "bfloat16: faster on CPUs with AVX512-BF16 and on GPUs")
boolean("xla", False, "compile the training step with XLA; meant for GPUs, slower on CPUs")

NETWORK_FLAGS = ("ngf", "ndf", "generator", "fpn_weights", "n_layers_d", "crop_size", "pool_size")  # fixed by a checkpoint
DATA_FLAGS = ("scale_size", "aspect_ratio", "seed")  # kept from training in test and export, unless given
RUN_FLAGS = ("help", "mode", "checkpoint", "output_dir")  # never kept


class UserError(Exception):
    """Something the user can put right. Its message is one line: what was wrong, what to do."""


# -------------------------------------------------------------------------------------------------------------- data


def find_images(path):
    """The picture files directly in a folder, in natural order (2 before 10), as strings; a file gives itself."""
    path = Path(path)
    if path.is_file():
        return [str(path)]
    if not path.is_dir():
        raise UserError(f"no such folder: {path}; --input_dir names the folder of pictures")
    extensions = {".jpg", ".jpeg", ".png", ".bmp", ".gif"}
    paths = [str(p) for p in path.iterdir() if p.suffix.lower() in extensions and not p.name.startswith(".")]
    if not paths:
        raise UserError(f"no pictures in {path}; expected files ending in .jpg, .jpeg, .png, .bmp or .gif")
    return sorted(paths, key=lambda p: [int(s) if s.isdecimal() else s.lower() for s in re.split(r"(\d+)", Path(p).name)])


def decode_image(contents):
    """Bytes of a JPEG, PNG, BMP or GIF => uint8 [h, w, 3]. Grey becomes RGB, transparency is laid over white."""
    image = tf.io.decode_image(contents, expand_animations=False)  # [h, w, 1 to 4], 16 bits are cut to 8
    image.set_shape([None, None, None])
    channels = tf.shape(image)[-1]

    def to_rgb():
        has_alpha = channels % 2 == 0
        colour = tf.cast(image[..., : channels - tf.cast(has_alpha, tf.int32)], tf.float32) * tf.ones(3)  # [h, w, 1 or 3] => 3
        alpha = tf.where(has_alpha, tf.cast(image[..., channels - 1 :], tf.float32) / 255, 1.0)  # [h, w, 1]
        return tf.cast(tf.round(colour * alpha + 255 * (1 - alpha)), tf.uint8)

    rgb = tf.cond(channels == 3, lambda: image, to_rgb)  # large pictures are not copied for nothing
    rgb.set_shape([None, None, 3])
    return rgb


def resize(image, size):
    """uint8 [h, w, c] => uint8 [size[0], size[1], c], bicubic with antialiasing as in Pillow."""
    image = tf.image.resize(image, size, "bicubic", antialias=True)  # float32
    return tf.cast(tf.round(tf.clip_by_value(image, 0, 255)), tf.uint8)


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def load_image(path):
    """Path of a picture => uint8 [h, w, 3]."""
    return decode_image(tf.io.read_file(path))


def name_pictures(paths):
    """[(name, path)]: the file's name without extension, or with it where a.jpg and a.png would meet in a-outputs.png."""
    stems = collections.Counter(Path(path).stem for path in paths)
    return [(Path(path).stem if stems[Path(path).stem] == 1 else Path(path).name, path) for path in paths]


def find_held_out(input_dir):
    """The pictures for test beside those for training: val or test beside train, testA beside trainA; a folder that holds
    testA or testB; else None."""
    folder = Path(input_dir)
    if (folder / "testA").is_dir() or (folder / "testB").is_dir():
        return str(folder)
    for name in ("val", "test"):
        beside = folder.with_name(folder.name.replace("train", name, 1))
        if folder.name.startswith("train") and beside.is_dir():
            return str(beside)
    return None


def has_sides(input_dir):
    """Whether a folder has any of trainA, trainB, testA and testB."""
    return any((Path(input_dir) / f"{part}{side}").is_dir() for part in ("train", "test") for side in "AB")


def find_sides(input_dir):
    """Paths to train on without pairs: those in trainA and trainB, by side."""
    folders = {side: Path(input_dir) / f"train{side}" for side in ("A", "B")}
    for folder in folders.values():
        if not folder.is_dir():
            raise UserError(f"no such folder: {folder}; --input_dir names a folder with trainA, trainB, testA and testB")
    return {side: find_images(folder) for side, folder in folders.items()}


def find_side_pictures(input_dir, direction):
    """[(name, path, direction)] of the pictures to translate, in testA for AtoB. A folder without sides, or a file, is taken
    as it is."""
    folder = Path(input_dir) / f"test{direction[0]}" if has_sides(input_dir) else input_dir
    return [(name, path, direction) for name, path in name_pictures(find_images(folder))]


def find_side_samples(input_dir, direction):
    """[(name, path, direction)] of four pictures that training shows, of testA for AtoB, or else of trainA."""
    folders = [Path(input_dir) / f"{part}{direction[0]}" for part in ("test", "train")]
    paths = find_images(folders[0] if folders[0].is_dir() else folders[1])
    return [(name, path, direction) for name, path in name_pictures(paths)[:4]]


def explain_unreadable(paths, load):
    """The UserError that names the first of the paths that load() cannot take."""
    for path in paths:
        try:
            load(path)
        except tf.errors.OpError as error:
            odd = re.search(r"even width, not\W*(\d+)", error.message)
            if odd:
                hint = "a pair A|B needs an even width; in test, --nopaired takes single pictures"
                return UserError(f"{path} is {odd[1]} pixels wide: {hint}")
            return UserError(f"{path} cannot be read as a picture (damaged, or another format): repair or remove it")
    return UserError("a picture could not be read, but now all can: start again")


def parse_sizes(crop_size, scale_size):
    """--crop_size, --scale_size => (crop height, crop width), (scale height, scale width), in pixels."""

    def parse(flag, text):
        match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
        if not match or 0 in (int(side or 1) for side in match.groups()):
            raise UserError(f"--{flag} {text}: give a number of pixels, as in 256, or HEIGHTxWIDTH, as in 256x512")
        return int(match[1]), int(match[2]) if match[2] else None

    height, width = parse("crop_size", crop_size)
    crop = height, width or height
    height, width = parse("scale_size", scale_size)
    scale = (height, width) if width else tuple(round(height * side / min(crop)) for side in crop)
    if crop[0] > scale[0] or crop[1] > scale[1]:
        raise UserError(f"--crop_size {crop_size} is larger than --scale_size {scale_size}: raise --scale_size to it or above")
    return crop, scale


def permuted(position, count, seed):
    """The index in [0, count) that is due at a position, int64, of an endless order: each pass is a permutation drawn anew."""
    epoch, place = position // count, position % count
    # index_shuffle heeds the last 8 bits of each of the two numbers alone, so they have to be random
    epoch_seed = tf.random.stateless_uniform([2], tf.stack([tf.constant(seed, tf.int64), epoch]), None, None, tf.uint32)
    return tf.random.experimental.index_shuffle(place, epoch_seed, tf.constant(count - 1, tf.int64))


def random_batches(paths, load, size, crop, batch_size, flip, seed, start, cache_mb):
    """Endless training batches, from step `start` on.

    load(path) gives uint8 [h, w, c]; it is resized to `size`, then a random crop is taken and mirrored at random. The order is
    a permutation of the paths drawn anew in each epoch. All of it depends on (seed, position) alone, never on what came
    before, so that a training continues as if it had not stopped. Yields float32 [batch_size, *crop, c] in [-1, 1].
    """

    def load_resized(path):
        return resize(load(path), size)

    with tf.device("cpu"):
        threads = tf.data.Options()
        threads.threading.private_threadpool_size = os.cpu_count()  # beside those of the training step
        examples = tf.data.Dataset.from_tensor_slices(paths).with_options(threads)
        decoded = examples.map(load_resized, tf.data.AUTOTUNE)
        channels = decoded.element_spec.shape[-1]
        if len(paths) * size[0] * size[1] * channels <= cache_mb * 2**20:
            try:
                cache = decoded.batch(len(paths)).get_single_element()  # [n, h, w, c], in the order of the paths
            except tf.errors.OpError:
                raise explain_unreadable(paths, load) from None
            take = functools.partial(tf.gather, cache)
        else:
            names = tf.constant(paths)

            def take(index):
                return load_resized(names[index])

        def example(position):
            image = take(tf.cast(permuted(position, len(paths), seed), tf.int32))
            crop_seed = tf.stack([tf.constant(seed, tf.int64), position])
            image = tf.image.stateless_random_crop(image, [*crop, channels], crop_seed)
            if flip:
                flip_seed = tf.random.experimental.stateless_fold_in(crop_seed, 1)
                image = tf.image.stateless_random_flip_left_right(image, flip_seed)
            return tf.cast(image, tf.float32) / 127.5 - 1

        positions = tf.data.Dataset.range(start * batch_size, 2**62)
        batches = positions.map(example, tf.data.AUTOTUNE, deterministic=True).batch(batch_size, drop_remainder=True)
        return batches.prefetch(tf.data.AUTOTUNE).with_options(threads)


# ---------------------------------------------------------------------------------------------------------- networks


class InstanceNorm(layers.Layer):
    """Instance norm without scale and shift (Ulyanov et al. 2016): [n, h, w, c] => [n, h, w, c], each picture by itself.

    Biased variance, epsilon 1e-5, statistics in float32.
    """

    def call(self, x):
        if x.shape[0] and x.shape[0] <= 4:  # batch norm of one picture: a fused kernel, on a CPU twice as fast as moments
            one, zero = tf.ones(x.shape[-1]), tf.zeros(x.shape[-1])
            pictures = tf.split(x, x.shape[0])
            return tf.concat([tf.compat.v1.nn.fused_batch_norm(p, one, zero, epsilon=1e-5)[0] for p in pictures], 0)
        mean, variance = tf.nn.moments(tf.cast(x, tf.float32), [1, 2], keepdims=True)
        return tf.cast(tf.nn.batch_normalization(tf.cast(x, tf.float32), mean, variance, None, None, 1e-5), x.dtype)


class CropFirst(layers.Layer):
    """Cuts off the first row and column. As Cropping2D(((1, 0), (1, 0))), but its gradient is a fast pad."""

    def call(self, x):
        return tf.slice(x, [0, 1, 1, 0], [-1, -1, -1, -1])


def weights_init():
    """Convolution kernels start as N(0, 0.02)."""
    return keras.initializers.RandomNormal(0.0, 0.02)


def reflect(x, pixels):
    """Pads [n, h, w, c] by reflection on all four sides."""
    return ops.pad(x, [[0, 0], [pixels, pixels], [pixels, pixels], [0, 0]], mode="reflect")


def build_ganilla(kind="ganilla", fpn_weights=(1.0, 1.0, 1.0, 1.0), ngf=64, norm=InstanceNorm, crop=CropFirst):
    """The generator of GANILLA (section 3), RGB [n, h, w, 3] => RGB [n, h, w, 3], both in [-1, 1].

    h and w are multiples of 16. A ResNet-18 whose blocks concatenate what goes in with what comes out, and a feature pyramid
    that sums its stages, each with its weight: 7,228,419 parameters. kind="ablation1": the blocks add, as in ResNet-18.
    kind="ablation2": transposed convolutions instead of the pyramid. (The ablations of the paper)
    """

    def conv(x, filters, size, name, strides=1, use_bias=False):
        return layers.Conv2D(filters, size, strides, use_bias=use_bias, kernel_initializer=weights_init(), name=name)(x)

    def norm_relu(x, name):
        return layers.ReLU(name=f"{name}_relu")(norm(name=f"{name}_norm")(x))

    def block(x, filters, name, strides):
        y = norm_relu(conv(reflect(x, 1), filters, 3, f"{name}_1", strides), f"{name}_1")
        y = norm(name=f"{name}_2_norm")(conv(reflect(y, 1), filters, 3, f"{name}_2"))
        if strides > 1:  # every other pixel, then 1x1: with strides of its own it writes past its memory in oneDNN (TF 2.21)
            x = layers.AveragePooling2D(1, strides, name=f"{name}_shortcut_pool")(x)
            x = norm(name=f"{name}_shortcut_norm")(conv(x, filters, 1, f"{name}_shortcut"))
        if kind == "ablation1":
            return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([y, x]))
        joined = layers.Concatenate(name=f"{name}_concat")([y, x])
        return norm_relu(conv(reflect(joined, 1), filters, 3, f"{name}_final"), f"{name}_final")

    x = inputs = keras.Input((None, None, 3))
    # first: [batch, 256, 256, 3] => [batch, 256, 256, ngf] => [batch, 128, 128, ngf]
    x = norm_relu(conv(reflect(x, 3), ngf, 7, "first", use_bias=True), "first")
    x = layers.MaxPooling2D(3, 2, name="first_pool")(reflect(x, 1))
    # stage_1: [batch, 128, 128, ngf] => [batch, 128, 128, ngf]
    # stage_2: [batch, 128, 128, ngf] => [batch, 64, 64, ngf * 2]
    # stage_3: [batch, 64, 64, ngf * 2] => [batch, 32, 32, ngf * 2]
    # stage_4: [batch, 32, 32, ngf * 2] => [batch, 16, 16, ngf * 4]
    stages = []
    for stage, (filters, strides) in enumerate([(ngf, 1), (ngf * 2, 2), (ngf * 2, 2), (ngf * 4, 2)], start=1):
        x = block(block(x, filters, f"stage_{stage}_1", strides), filters, f"stage_{stage}_2", 1)
        stages.append(x)
    if kind == "ablation2":
        # up_4: [batch, 16, 16, ngf * 4] => [batch, 32, 32, ngf * 2]
        # up_3: [batch, 32, 32, ngf * 2] => [batch, 64, 64, ngf * 2]
        # up_2: [batch, 64, 64, ngf * 2] => [batch, 128, 128, ngf]
        # up_1: [batch, 128, 128, ngf] => [batch, 256, 256, ngf]
        for level, filters in ((4, ngf * 2), (3, ngf * 2), (2, ngf), (1, ngf)):
            name = f"up_{level}"
            x = layers.Conv2DTranspose(filters, 3, 2, use_bias=False, kernel_initializer=weights_init(), name=name)(x)
            x = norm_relu(crop(name=f"{name}_crop")(x), name)
    else:
        # lateral_4: [batch, 16, 16, ngf * 4] => [batch, 16, 16, ngf * 2] => [batch, 32, 32, ngf * 2]
        # lateral_3: [batch, 32, 32, ngf * 2] => [batch, 32, 32, ngf * 2] => [batch, 64, 64, ngf * 2]
        # lateral_2: [batch, 64, 64, ngf * 2] => [batch, 64, 64, ngf * 2] => [batch, 128, 128, ngf * 2]
        # lateral_1: [batch, 128, 128, ngf] => [batch, 128, 128, ngf * 2] => [batch, 256, 256, ngf * 2]
        x = None
        for level, weight in zip((4, 3, 2, 1), fpn_weights, strict=True):
            lateral = conv(stages[level - 1], ngf * 2, 1, f"lateral_{level}", use_bias=True)
            if weight != 1:
                lateral = layers.Rescaling(weight, name=f"lateral_{level}_weight")(lateral)
            x = lateral if x is None else layers.Add(name=f"lateral_{level}_sum")([x, lateral])
            x = layers.UpSampling2D(2, name=f"lateral_{level}_resize")(x)
        # smooth: [batch, 256, 256, ngf * 2] => [batch, 256, 256, ngf]
        x = conv(reflect(x, 1), ngf, 3, "smooth", use_bias=True)
    # last: [batch, 256, 256, ngf] => [batch, 256, 256, 3]
    x = conv(reflect(x, 3), 3, 7, "last", use_bias=True)
    return keras.Model(inputs, layers.Activation("tanh", dtype="float32", name="tanh")(x))


def parse_fpn_weights(text):
    """--fpn_weights => four numbers."""
    try:
        weights = [float(number) for number in text.split(",")]
    except ValueError:
        weights = []
    if len(weights) != 4 or not all(math.isfinite(weight) for weight in weights):
        raise UserError(f"--fpn_weights {text}: give four numbers with commas between them, as in 1,1,1,0.5")
    return weights


def build_patchgan(n_layers=3, ndf=64, norm=InstanceNorm):
    """The PatchGAN discriminator, RGB [n, 256, 256, 3] => logits [n, 30, 30, 1], a number for each patch of 70x70 pixels.

    2,764,737 parameters. n_layers=1 judges patches of 16 pixels (136,385), 5 of 286 (11,154,369), 0 single pixels (8,705).
    (Isola et al. 2017, section 6.1.2, with instance norm)
    """
    x = inputs = keras.Input((None, None, 3))
    if n_layers == 0:
        strides, size = [1, 1], 1
    else:
        strides, size = [2] * n_layers + [1], 4
    # layer_1: [batch, 256, 256, 3] => [batch, 128, 128, ndf]
    # layer_2: [batch, 128, 128, ndf] => [batch, 64, 64, ndf * 2]
    # layer_3: [batch, 64, 64, ndf * 2] => [batch, 32, 32, ndf * 4]
    # layer_4: [batch, 32, 32, ndf * 4] => [batch, 31, 31, ndf * 8]
    for level, stride in enumerate(strides, start=1):
        x = layers.ZeroPadding2D(size // 4, name=f"layer_{level}_pad")(x)
        filters = ndf * min(2 ** (level - 1), 8)
        x = layers.Conv2D(filters, size, stride, kernel_initializer=weights_init(), name=f"layer_{level}")(x)
        if level > 1:
            x = norm(name=f"layer_{level}_norm")(x)
        x = layers.LeakyReLU(0.2, name=f"layer_{level}_lrelu")(x)
    # last: [batch, 31, 31, ndf * 8] => [batch, 30, 30, 1]
    x = layers.ZeroPadding2D(size // 4, name="last_pad")(x)
    x = layers.Conv2D(1, size, kernel_initializer=weights_init(), name="last")(x)
    return keras.Model(inputs, layers.Activation("linear", dtype="float32", name="logits")(x))


def check_crop(size, multiple, n_layers):
    """Raises UserError for crops of (height, width) pixels that the generators cannot take, or too small to be judged."""
    if size[0] % multiple or size[1] % multiple or min(size) < 2 * multiple:
        near = "x".join(str(max(2, round(side / multiple)) * multiple) for side in size)
        raise UserError(f"--crop_size {size[0]}x{size[1]}: the generators need multiples of {multiple}, e.g. {near}")
    if min(size) < 3 * 2**n_layers:
        raise UserError(f"--crop_size {size[0]}x{size[1]}: --n_layers_d {n_layers} needs {3 * 2**n_layers} pixels or more")


class ImagePool(tf.Module):
    """The last `size` fakes of one side, so that D does not forget what G did before. (Section 4; Shrivastava et al. 2017)"""

    def __init__(self, size, picture_size):
        super().__init__()
        self.size = size
        self.pictures = tf.Variable(tf.zeros([size, *picture_size, 3]))
        self.count = tf.Variable(0, dtype=tf.int32)

    def swap(self, fakes, seed):
        """Fakes [n, h, w, 3] go in one by one. While there is room they stay, and come out as they are. Once the pool is full,
        a fake comes out at once, or, with even odds, takes the place of an old one, which comes out. seed: int64 [2]."""
        out = []
        for index, fake in enumerate(tf.unstack(fakes)):
            draw = tf.random.stateless_uniform([2], tf.random.experimental.stateless_fold_in(seed, index))
            filling = self.count < self.size
            place = tf.where(filling, self.count, tf.cast(draw[0] * self.size, tf.int32))
            swapping = tf.logical_and(tf.logical_not(filling), draw[1] < 0.5)
            old = tf.gather(self.pictures, place)
            kept = tf.where(tf.logical_or(filling, swapping), fake, old)
            self.pictures.scatter_nd_update([[place]], [kept])
            self.count.assign(tf.minimum(self.count + 1, self.size))
            out.append(tf.where(swapping, old, fake))
        return tf.stack(out)


# ------------------------------------------------------------------------------------------------------------ losses


def gan_loss(logits, label, kind):
    """Mean of logits of any shape against one label, 1 for real and 0 for fake: least squares (Mao et al. 2017), or
    kind="bce" for sigmoid cross-entropy."""
    if kind == "lsgan":
        return tf.reduce_mean(tf.square(logits - label))
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.fill(tf.shape(logits), label), logits=logits))


def l1_loss(outputs, targets):
    """Mean absolute error."""
    return tf.reduce_mean(tf.abs(targets - outputs))


class Adam(keras.optimizers.Adam):
    """Adam (Kingma, Ba 2014) in one fused kernel a variable: the numbers of PyTorch's, twice as fast as Keras's."""

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value + 1, tf.float32)
        beta2_power = tf.pow(self.beta_2, step)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=beta2_power,
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon * tf.sqrt(1 - beta2_power),  # PyTorch and the paper add it after the bias correction
            grad=gradient,
        )


def build_optimizer(weights, learning_rate, beta1, mixed_precision):
    """Adam for a list of weights; with float16 their gradients are scaled so that they do not vanish."""
    optimizer = Adam(learning_rate, beta_1=beta1, beta_2=0.999, epsilon=1e-8)
    if mixed_precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(weights)
    return optimizer


def decayed(learning_rate, step, total, decay_steps):
    """The learning rate after `step` of `total` steps: constant, then in a line to 0 over the last decay_steps, or over all."""
    return learning_rate * min(1.0, (total - step) / max(1.0, min(decay_steps, total)))


# ----------------------------------------------------------------------------------------------------- training step


class Unpaired:
    """Two generators and two discriminators that learn from two sides without pairs (sections 3 and 4), with their data; with
    training=True also the optimisers, the pools and the compiled training step. A subclass says what a generator is."""

    losses = (
        "discrim_A", "discrim_B", "gan_AtoB", "gan_BtoA", "cycle_A", "cycle_B", "identity_A", "identity_B",
    )  # fmt: skip - what train_step returns, by name
    crops_per_image = 1  # in an epoch

    def __init__(self, o, training):
        self.o, self.load = o, load_image
        self.crop, self.scale = parse_sizes(o.crop_size, o.scale_size)
        check_crop(self.crop, self.multiple, o.n_layers_d)
        self.networks = {f"generator_{direction}": self.build_generator() for direction in ("AtoB", "BtoA")}
        self.translate = {direction: self.translator(direction) for direction in ("AtoB", "BtoA")}
        self.optimizers, self.state, self.aspect_ratio = {}, {}, o.aspect_ratio
        if training:
            self.networks |= {f"discriminator_{side}": build_patchgan(o.n_layers_d, o.ndf) for side in ("A", "B")}
            for kind in ("generator", "discriminator"):
                weights = [w for name, network in self.networks.items() if kind in name for w in network.trainable_variables]
                self.optimizers[kind] = build_optimizer(weights, o.lr, o.beta1, o.mixed_precision)
            self.learning_rates = dict.fromkeys(self.optimizers, o.lr)
            self.pools = {side: ImagePool(o.pool_size, self.crop) for side in ("A", "B")} if o.pool_size else {}
            self.state = {f"pool_{side}": pool for side, pool in self.pools.items()}
            self.train_step = tf.function(self.train_step, jit_compile=o.xla)

    def find_training_pictures(self):
        """Paths to train on, by side."""
        return find_sides(self.o.input_dir)

    def find_test_pictures(self, input_dir):
        """[(name, path, direction)] of the pictures to translate: those of testA are for AtoB, those of testB for BtoA."""
        if self.o.which_direction != "both":
            return find_side_pictures(input_dir, self.o.which_direction)
        if not has_sides(input_dir):
            raise UserError(f"{input_dir} has no testA and testB: --which_direction AtoB or BtoA says how to translate it")
        found = [picture for direction in ("AtoB", "BtoA") for picture in find_side_pictures(input_dir, direction)]
        return [(f"{direction}-{name}", path, direction) for name, path, direction in found]

    def find_samples(self):
        """[(name, path, direction)] of the pictures that training shows, four of each side: held out, if there are any."""
        found = [picture for direction in ("AtoB", "BtoA") for picture in find_side_samples(self.o.input_dir, direction)]
        return [(f"{direction}-{name}", path, direction) for name, path, direction in found]

    def batches(self, data, start):
        """Training batches from step `start` on: float32 A [batch, *crop, 3] and B [batch, *crop, 3] in [-1, 1]. An epoch is a
        pass of the larger side; the other begins anew, in another order, whenever it runs out."""
        o = self.o
        sizes = load_image, self.scale, self.crop, o.batch_size, o.flip and not o.no_flip
        seeds = {"A": o.seed, "B": o.seed ^ 2**30}  # or two folders of one size would meet in the same pairs in every epoch
        sides = (random_batches(data[side], *sizes, seeds[side], start, o.cache_mb // 2) for side in ("A", "B"))
        return tf.data.Dataset.zip(tuple(sides))

    def train_step(self, step, images):
        """One step on a batch of self.batches(), generators and discriminators at once. Returns self.losses, float32 [8]."""
        o, (real_A, real_B) = self.o, images
        AtoB, BtoA, judge_A, judge_B = self.networks.values()
        optimizer_g, optimizer_d = self.optimizers["generator"], self.optimizers["discriminator"]
        with tf.GradientTape(persistent=True) as tape:
            if o.identity_weight:  # what is to be translated and what is to stay as it is, in one pass
                fake_B, same_B = tf.split(AtoB(tf.concat([real_A, real_B], 0)), 2)
                fake_A, same_A = tf.split(BtoA(tf.concat([real_B, real_A], 0)), 2)
                identity_A, identity_B = l1_loss(same_A, real_A), l1_loss(same_B, real_B)
            else:
                fake_B, fake_A = AtoB(real_A), BtoA(real_B)
                identity_A = identity_B = tf.constant(0.0)
            recovered_A, recovered_B = BtoA(fake_B), AtoB(fake_A)
            cycle_A, cycle_B = l1_loss(recovered_A, real_A), l1_loss(recovered_B, real_B)
            logits_A, logits_B = judge_A(fake_A), judge_B(fake_B)
            gan_AtoB = gan_loss(logits_B, 1.0, o.gan_loss)  # D_B(G_AtoB(A)) => 1
            gan_BtoA = gan_loss(logits_A, 1.0, o.gan_loss)  # D_A(G_BtoA(B)) => 1
            total = o.gan_weight * (gan_AtoB + gan_BtoA) + o.cycle_weight * (cycle_A + cycle_B)
            scaled_total = optimizer_g.scale_loss(total + o.identity_weight * (identity_A + identity_B))

            if self.pools:  # no gradient of D's loss goes to G: it is asked for the weights of D alone
                seed_A, seed_B = (tf.random.experimental.stateless_fold_in(tf.stack([o.seed, step]), 2 + i) for i in range(2))
                logits_A = judge_A(self.pools["A"].swap(tf.stop_gradient(fake_A), seed_A))
                logits_B = judge_B(self.pools["B"].swap(tf.stop_gradient(fake_B), seed_B))
            # D(real) => 1, D(fake) => 0; halved, to slow D down
            discrim_A = (gan_loss(judge_A(real_A), 1.0, o.gan_loss) + gan_loss(logits_A, 0.0, o.gan_loss)) / 2
            discrim_B = (gan_loss(judge_B(real_B), 1.0, o.gan_loss) + gan_loss(logits_B, 0.0, o.gan_loss)) / 2
            scaled_discrim = optimizer_d.scale_loss(discrim_A + discrim_B)
        weights_g = AtoB.trainable_variables + BtoA.trainable_variables
        weights_d = judge_A.trainable_variables + judge_B.trainable_variables
        gradients_g, gradients_d = tape.gradient(scaled_total, weights_g), tape.gradient(scaled_discrim, weights_d)
        optimizer_g.apply_gradients(zip(gradients_g, weights_g, strict=True))
        optimizer_d.apply_gradients(zip(gradients_d, weights_d, strict=True))
        return tf.stack([discrim_A, discrim_B, gan_AtoB, gan_BtoA, cycle_A, cycle_B, identity_A, identity_B])

    def translator(self, direction):
        """The compiled function uint8 RGB [1, h, w, 3], sides multiples of self.multiple => float32 RGB in [0, 1]."""
        generator = self.networks[f"generator_{direction}"]

        @tf.function(input_signature=[tf.TensorSpec([1, None, None, 3], tf.uint8)])
        def translate(picture):
            return (generator(tf.cast(picture, tf.float32) / 127.5 - 1) + 1) / 2

        return translate

    def test_pictures(self, path, direction):
        """Translates one file, and its translation back. Returns uint8 RGB pictures by kind: inputs, outputs, recovered and,
        with --paired in test, targets."""
        there, back = (self.translate[d] for d in ("AtoB", "BtoA")[:: 1 if direction == "AtoB" else -1])
        inputs = load_image(path)
        if not self.o.native_size:
            inputs = resize(inputs, self.crop)
        window = self.o.tile_size if self.o.native_size else max(self.crop)
        pictures = {"inputs": inputs.numpy()}
        sizes = window, self.multiple, 2 * self.multiple  # halved, a side has to have 2 pixels left, to be reflected
        pictures["outputs"] = translate_windows(there, pictures["inputs"], *sizes)
        pictures["recovered"] = translate_windows(back, pictures["outputs"], *sizes)
        if self.o.paired and self.o.mode == "test":
            twin = Path(path).absolute().parent.with_name(f"test{direction[-1]}") / Path(path).name
            if not twin.is_file():
                raise UserError(f"--paired: {twin} is missing, the true translation of {path}")
            try:
                pictures["targets"] = resize(load_image(str(twin)), inputs.shape[:2]).numpy()
            except tf.errors.OpError:
                raise explain_unreadable([str(twin)], load_image) from None
        return pictures

    def serve(self, serving, picture):
        """uint8 RGB [h, w, 3] => its translation by a serving model, at the size of training, uint8."""
        height, width = self.crop
        stretched = round(height * self.aspect_ratio) if self.aspect_ratio != 1 else width
        return resize(serving(resize(picture, self.crop)[None])[0], [height, stretched])

    def build_serving_model(self, height=None, width=None, batch_size=None):
        """A Keras model of standard layers alone, for export: uint8 RGB [n, h, w, 3] => uint8 RGB [n, h, w, 3]."""
        if self.o.which_direction == "both":
            raise UserError("--which_direction both: export writes one generator, AtoB or BtoA")
        norm = functools.partial(layers.GroupNormalization, groups=-1, epsilon=1e-5, center=False, scale=False)
        crop = functools.partial(layers.Cropping2D, ((1, 0), (1, 0)))
        generator = self.build_generator(norm=norm, crop=crop)
        generator.set_weights(self.networks[f"generator_{self.o.which_direction}"].get_weights())
        pictures = keras.Input((height, width, 3), batch_size, dtype="uint8", name="pictures")
        outputs = generator(ops.cast(pictures, "float32") / 127.5 - 1)
        return keras.Model(pictures, to_uint8((outputs + 1) / 2))


class Ganilla(Unpaired):
    """Unpaired translation with the generators of GANILLA."""

    multiple = 16  # of which the sides of a generator's pictures are

    def build_generator(self, **parts):
        """A generator by the flags; parts are those of build_ganilla."""
        return build_ganilla(self.o.generator, parse_fpn_weights(self.o.fpn_weights), self.o.ngf, **parts)


ALGORITHM, SCRIPT, DATA = Ganilla, "ganilla", "miyazaki"  # DATA: what to train on without --input_dir
build_generator, build_discriminator = build_ganilla, build_patchgan  # their names in all scripts


def translate_windows(translate, image, window, multiple, least=1, overlap=0.5):
    """Translates a picture of any size, with memory bounded by the window.

    translate: uint8 [1, h, w, 3] => float [1, h, w, 3] in [0, 1], for sides that are multiples of `multiple`, and of `least`
    pixels or more. A side up to `window` pixels goes through whole, padded by reflection. A longer one is covered by windows
    that share `overlap` of their side, up to 0.5, with the next one, where they are blended by squared sines, so that no border
    shows. uint8 [h, w, 3] => uint8 [h, w, 3].
    """
    window = math.ceil(window / multiple) * multiple
    shared = round(window * overlap)
    height, width = image.shape[:2]

    def fit(side):  # => the side with its padding
        if side <= window:
            return max(least, math.ceil(side / multiple) * multiple)
        return window + math.ceil((side - window) / (window - shared)) * (window - shared)

    padded = fit(height), fit(width)
    image = np.pad(image, [(0, padded[0] - height), (0, padded[1] - width), (0, 0)], "reflect")

    def cover(side):  # => size of the windows along a side, their starts, and the weight of each pixel of each window
        size = min(side, window)
        starts = range(0, side - size + 1, window - shared)  # on one grid, so that strides fall alike in all windows
        ramp = np.sin(np.minimum(1, (np.arange(size) + 0.5) / shared) * np.pi / 2) ** 2
        bump = ramp * ramp[::-1]
        total = np.zeros(side)
        for start in starts:
            total[start : start + size] += bump
        return size, starts, [(bump / total[start : start + size]).astype(np.float32) for start in starts]

    (rows, tops, row_weights), (columns, lefts, column_weights) = cover(padded[0]), cover(padded[1])
    result = np.empty_like(image)
    band = np.zeros((rows, padded[1], 3), np.float32)  # the rows in work: those above are finished, those below untouched
    for index, (top, row_weight) in enumerate(zip(tops, row_weights, strict=True)):
        for left, column_weight in zip(lefts, column_weights, strict=True):
            part = image[None, top : top + rows, left : left + columns]
            weight = row_weight[:, None, None] * column_weight[None, :, None]
            band[:, left : left + columns] += weight * np.asarray(translate(part)[0])
        finished = (tops[index + 1] if index + 1 < len(tops) else padded[0]) - top
        result[top : top + finished] = np.rint(np.clip(band[:finished], 0, 1) * 255)
        band = np.concatenate([band[finished:], np.zeros_like(band[:finished])])
    return result[:height, :width]


def to_uint8(rgb):
    """RGB in [0, 1] => uint8, rounded."""
    return ops.cast(ops.round(ops.clip(rgb, 0.0, 1.0) * 255), "uint8")


# ------------------------------------------------------------------------------------------------- saving and showing


class Page:
    """An index.html of pictures, a table whose rows are on disk as soon as they are added: at any moment the page is whole."""

    def __init__(self, path, title, columns):
        style = "body{font:14px sans-serif;margin:1em}td,th{padding:4px;vertical-align:top;text-align:left}img{max-width:512px}"
        heads = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
        self.file = open(path, "w", encoding="utf-8")  # noqa: SIM115 - open as long as rows are added
        self.file.write(f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>')
        self.file.write(f"<style>{style}</style></head><body>\n<h1>{html.escape(title)}</h1>\n<table>\n<tr>{heads}</tr>\n")
        self.end = self.file.tell()

    def add(self, texts, pictures):
        """Adds a row: cells of text, then pictures by their paths relative to the page, large ones as their previews."""
        cells = "".join(f"<td>{html.escape(text)}</td>" for text in texts)
        for path in pictures:
            shown = preview_of(path) if (Path(self.file.name).parent / preview_of(path)).exists() else path
            url, shown = (html.escape(urllib.parse.quote(file)) for file in (path, shown))
            cells += f'<td><a href="{url}"><img src="{shown}" alt="{html.escape(path)}" loading="lazy"></a></td>'
        self.file.seek(self.end)
        self.file.write(f"<tr>{cells}</tr>\n")
        self.end = self.file.tell()
        self.file.write("</table>\n</body></html>\n")  # the next row is written over this
        self.file.flush()


def preview_of(path):
    """Where the preview of a PNG is."""
    return f"{path.removesuffix('.png')}-preview.jpg"


def write_png(path, picture):
    """Writes uint8 [h, w, 3] as a PNG, and beside one that is wider than 1024 pixels a preview of 512 as a JPEG."""
    tf.io.write_file(path, tf.io.encode_png(picture))
    Path(preview_of(path)).unlink(missing_ok=True)  # of an earlier picture
    height, width = picture.shape[:2]
    if width > 1024:
        tf.io.write_file(preview_of(path), tf.io.encode_jpeg(resize(picture, [max(1, height * 512 // width), 512])))


def write_json(path, content):
    """Writes JSON; the file is replaced whole or not at all."""
    temporary = Path(f"{path}.part")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)


def compare(outputs, targets):
    """L1 in [0, 1], PSNR in dB (100 for equal pictures) and SSIM in [-1, 1] (Wang 2004) of two uint8 pictures [h, w, 3]."""
    outputs, targets = (tf.cast(image, tf.float32) / 255 for image in (outputs, targets))
    mean_square = max(float(tf.reduce_mean(tf.square(outputs - targets))), 1e-10)
    return {
        "l1": float(tf.reduce_mean(tf.abs(outputs - targets))),
        "psnr": -10 * math.log10(mean_square),
        "ssim": float(tf.image.ssim(outputs, targets, 1.0, filter_size=min(11, *outputs.shape[:2]))),
    }


def find_checkpoint(path):
    """The newest checkpoint in a folder of training, or the one that the path names (DIR/model-2000); None if there is none."""
    try:
        latest = tf.train.latest_checkpoint(path) if os.path.isdir(path) else path
    except UnicodeDecodeError:  # the folder's list of checkpoints is damaged
        return None
    return latest if latest and os.path.exists(f"{latest}.index") else None


def read_options(checkpoint):
    """The options.json beside a checkpoint: the flags of its training."""
    if not find_checkpoint(checkpoint):
        raise UserError(f"no checkpoint in {checkpoint}: --checkpoint names the --output_dir of a training")
    path = Path(find_checkpoint(checkpoint)).parent / "options.json"
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["script"] == SCRIPT and not {"input_dir", *NETWORK_FLAGS, *DATA_FLAGS} <= set(saved):
            raise ValueError("keys are missing")
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        raise UserError(f"{path} is missing or damaged; without it the networks are unknown: put it back") from None
    if saved["script"] != SCRIPT:
        raise UserError(f"{checkpoint} was trained by {saved['script']}.py, not by {SCRIPT}.py: use the former")
    return saved


def adopt_options(o, given, saved):
    """Takes over from a training what shapes the network and the data; to continue it, everything that was not given anew."""
    for name in NETWORK_FLAGS:
        if name in given and getattr(o, name) != saved[name]:
            raise UserError(f"{o.checkpoint} has --{name} {saved[name]}, not {getattr(o, name)}: leave --{name} out")
    kept = set(saved) - set(RUN_FLAGS) - {"script"} if o.mode == "train" else {*NETWORK_FLAGS, *DATA_FLAGS}
    if {"max_steps", "max_epochs"} & given:  # either of them replaces both
        kept -= {"max_steps", "max_epochs"}
    for name in kept - given:
        setattr(o, name, saved[name])


def restore(path, **objects):
    """Restores all of the named objects from a checkpoint, which may hold more."""
    try:
        tf.train.Checkpoint(**objects).restore(path).assert_existing_objects_matched().expect_partial()
    except (AssertionError, ValueError, IndexError, RuntimeError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError(f"{path} cannot be restored, it is damaged or of other networks: {reason}") from error


def variables(network):
    """The weights of a network by name, in the form that tf.train.Checkpoint takes."""
    return {weight.path: weight.value for weight in network.weights}


def start_devices(exact):
    """Starts TensorFlow, quietly. With `exact` a CPU runs one operation at a time (on all cores, some percent slower): side by
    side they change the order of oneDNN's sums now and then, and no training repeats bit for bit."""
    tf.get_logger().setLevel("ERROR")  # or it comments on a checkpoint that does not fit, beside our one line
    with quiet_native_stderr(), contextlib.suppress(RuntimeError):  # RuntimeError: it was started before, in a notebook
        if exact and not tf.config.list_physical_devices("GPU"):
            tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.constant(0)


def describe_device():
    """One line on what computes."""
    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
    return f"{', '.join(names) or 'no GPU found, using the CPU'} (TensorFlow {tf.__version__})"


# --------------------------------------------------------------------------------------------------- train, test, export


def train(o):
    """Trains, from the start or on from o.checkpoint. Returns the exit code: 0, or 128 + the signal that ended it."""
    output_dir = Path(o.output_dir)
    begin = find_checkpoint(o.checkpoint) if o.checkpoint else None
    if set("*?[]\\") & set(str(output_dir.resolve())):
        raise UserError(f"{output_dir}: TensorFlow finds nothing in folders with * ? [ ] or \\ in the name: choose another")
    done = find_checkpoint(output_dir)
    if done and (not begin or not os.path.samefile(f"{begin}.index", f"{done}.index")):
        raise UserError(f"{done} is there already: continue it with --checkpoint {output_dir}, or choose another --output_dir")
    model = ALGORITHM(o, training=True)
    data = model.find_training_pictures()
    epoch_size = max(len(paths) for paths in data.values()) * model.crops_per_image
    samples = model.find_samples() if o.display_freq else []
    for _, path, _ in samples:  # rather now than at the first page
        try:
            model.load(path)
        except tf.errors.OpError:
            raise explain_unreadable([path], model.load) from None
    total = o.max_steps or math.ceil(o.max_epochs * epoch_size / o.batch_size)
    decay_steps = o.decay_epochs * epoch_size / o.batch_size
    saved_step, saved_smoothed = tf.Variable(0, dtype=tf.int64), tf.Variable(tf.zeros(len(model.losses)))
    objects = {name: variables(network) for name, network in model.networks.items()}
    objects |= {f"{name}_optimizer": [v.value for v in optimizer.variables] for name, optimizer in model.optimizers.items()}
    objects |= {"step": saved_step, "smoothed": saved_smoothed, **model.state}
    if begin:
        restore(begin, **objects)
    step, smoothed = int(saved_step), saved_smoothed.numpy()  # steps done, and moving averages of the losses
    (output_dir / "images").mkdir(parents=True, exist_ok=True)
    options = {name: value for name, value in vars(o).items() if name not in RUN_FLAGS}
    write_json(output_dir / "options.json", {"script": SCRIPT, **options})
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(**objects), output_dir, 3, checkpoint_name="model")
    writer = tf.summary.create_file_writer(str(output_dir))
    counts = ", ".join(f"{len(paths)} {kind}" for kind, paths in data.items())
    print(f"data: {o.input_dir} ({counts}); writing to {output_dir}; seed {o.seed}; {describe_device()}")
    print("; ".join(f"{name} {network.count_params():,} parameters" for name, network in model.networks.items()), flush=True)

    def save():
        if manager.latest_checkpoint != os.path.join(manager.directory, f"model-{step}"):
            saved_step.assign(step)
            saved_smoothed.assign(smoothed)
            manager.save(checkpoint_number=step)

    def due(frequency):
        return frequency and (step % frequency == 0 or step == total)

    signals = []  # Ctrl-C and SIGTERM let the step in hand end
    handlers = {n: signal.signal(n, lambda number, _: signals.append(number)) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        batches = iter(model.batches(data, step))
        compiled, seconds, timed = False, 0.0, 0  # time spent in steps since the last progress line
        while step < total and not signals:
            start = time.perf_counter()
            try:
                batch = next(batches)
            except tf.errors.OpError:
                save()
                error = explain_unreadable([path for paths in data.values() for path in paths], model.load)
                raise UserError(f"{error}; step {step} is saved: continue with --checkpoint {output_dir}") from None
            for name, optimizer in model.optimizers.items():
                optimizer.learning_rate = decayed(model.learning_rates[name], step, total, decay_steps)
            if traced := due(o.trace_freq):
                tf.profiler.experimental.start(str(output_dir))
            losses = model.train_step(tf.constant(step, tf.int64), batch).numpy()
            if traced:
                tf.profiler.experimental.stop()
            if not np.isfinite(losses).all():
                values = ", ".join(f"{name} {value}" for name, value in zip(model.losses, losses, strict=True))
                last = manager.latest_checkpoint or "none"
                raise UserError(f"step {step + 1}: not finite ({values}); lower --lr; last good checkpoint: {last}")
            smoothed = losses if step == 0 else 0.99 * smoothed + 0.01 * losses
            step += 1
            if compiled:  # the first step does not count
                seconds, timed = seconds + time.perf_counter() - start, timed + 1
            compiled, rate = True, timed * o.batch_size / max(seconds, 1e-9)
            values = dict(zip(model.losses, smoothed, strict=True))
            if due(o.progress_freq):
                epoch = math.ceil(step * o.batch_size / epoch_size)
                hours = (total - step) * seconds / max(timed, 1) / 3600
                left = f"{int(hours)}h{int(hours % 1 * 60):02}m left"
                print(f"epoch {epoch}  step {step}/{total}  {rate:.2f} images/s  {left}  ", end="")
                print("  ".join(f"{name} {value:.4f}" for name, value in values.items()), flush=True)
                seconds, timed = 0.0, 0
            with writer.as_default(step):
                if due(o.summary_freq):
                    for name, value in values.items():
                        tf.summary.scalar(f"loss/{name}", value)
                    for name, optimizer in model.optimizers.items():
                        tf.summary.scalar(f"learning_rate/{name}", optimizer.learning_rate)
                    tf.summary.scalar("images_per_second", rate)
                if due(o.histogram_freq):
                    for name, network in model.networks.items():
                        for weight in network.trainable_weights:
                            tf.summary.histogram(f"{name}/{weight.path}", weight.value)
                if due(o.display_freq):
                    show_samples(model, samples, output_dir, step)
            if due(o.save_freq):
                save()
        save()
        writer.close()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if signals:
        print(f"stopped at step {step}, all saved; continue with --mode train --checkpoint {output_dir}")
        return 128 + signals[0]
    page = f"; samples in {output_dir / 'index.html'}" if samples else ""
    print(f"done: step {step}{page}; next: --mode test --checkpoint {output_dir}")
    return 0


def show_samples(model, samples, output_dir, step):
    """Translates a few pictures as they are now, for TensorBoard and the index.html of a training (newest step first)."""
    for name, path, direction in samples:
        try:
            pictures = model.test_pictures(path, direction)
        except tf.errors.OpError:
            raise explain_unreadable([path], model.load) from None
        for kind, picture in pictures.items():
            write_png(str(output_dir / "images" / f"step-{step:08}-{name}-{kind}.png"), picture)
            tf.summary.image(f"{name}/{kind}", picture[None])
    rows = sorted((output_dir / "images").glob("step-*-outputs.png"), key=lambda p: (-int(p.name[5:13]), p.name))
    page = Page(output_dir / "index.html", f"{output_dir.name}: samples", ["step", "name", *pictures])
    for row in rows:
        name = row.name.removesuffix("-outputs.png")
        files = [f"images/{name}-{kind}.png" for kind in pictures]
        page.add([str(int(name[5:13])), name[14:]], files)
    page.file.close()


def test(o):
    """Translates the pictures of o.input_dir with the networks of o.checkpoint. Returns the exit code."""
    model = ALGORITHM(o, training=False)
    restore(find_checkpoint(o.checkpoint), **{name: variables(network) for name, network in model.networks.items()})
    sources = model.find_test_pictures(o.input_dir)
    output_dir = Path(o.output_dir)
    (output_dir / "images").mkdir(parents=True, exist_ok=True)
    print(f"data: {o.input_dir} ({len(sources)} pictures); writing to {output_dir}; {describe_device()}", flush=True)
    (output_dir / "metrics.json").unlink(missing_ok=True)  # of an earlier test
    unreadable, metrics, page = [], {}, None
    for number, (name, path, direction) in enumerate(sources, start=1):
        try:
            pictures = model.test_pictures(path, direction)
        except tf.errors.OpError:
            unreadable.append(path)
            continue
        if "targets" in pictures:
            metrics[name] = compare(pictures["outputs"], pictures["targets"])
        page = page or Page(output_dir / "index.html", f"{output_dir.name}: {o.checkpoint}", ["name", *pictures])
        for kind, picture in pictures.items():
            if model.aspect_ratio != 1:
                picture = resize(picture, [picture.shape[0], round(picture.shape[0] * model.aspect_ratio)])
            write_png(str(output_dir / "images" / f"{name}-{kind}.png"), picture)
        page.add([name], [f"images/{name}-{kind}.png" for kind in pictures])
        if o.progress_freq and (number % o.progress_freq == 0 or number == len(sources)):
            print(f"{number}/{len(sources)} pictures", flush=True)
    if metrics:
        mean = {kind: float(np.mean([values[kind] for values in metrics.values()])) for kind in ("l1", "psnr", "ssim")}
        write_json(output_dir / "metrics.json", {"checkpoint": find_checkpoint(o.checkpoint), "mean": mean, "images": metrics})
        print(f"L1 {mean['l1']:.4f}  PSNR {mean['psnr']:.2f} dB  SSIM {mean['ssim']:.4f}  (means of {len(metrics)} pictures)")
    if unreadable:
        error = explain_unreadable(unreadable, model.load)
        raise UserError(f"{error}; {len(unreadable)} of {len(sources)} could not be translated")
    print(f"done: see {output_dir / 'index.html'}")
    return 0


def export(o):
    """Writes the generator of o.checkpoint in o.export_format: uint8 RGB in, uint8 RGB out. Returns the exit code."""
    model = ALGORITHM(o, training=False)
    restore(find_checkpoint(o.checkpoint), **{name: variables(network) for name, network in model.networks.items()})
    output_dir = Path(o.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    if o.export_format == "saved_model":
        target, serving = output_dir / "saved_model", model.build_serving_model()
        module = tf.Module()
        module.model = serving

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="pictures")])
        def translate(pictures):
            return {"pictures": serving(pictures)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
        def translate_encoded(image_bytes):  # TF Serving passes names in _bytes as base64
            def translate_one(data):
                return tf.io.encode_png(model.serve(serving, decode_image(data)))

            return {"png_bytes": tf.map_fn(translate_one, image_bytes, fn_output_signature=tf.string)}

        tf.saved_model.save(module, str(target), signatures={"serving_default": translate, "encoded": translate_encoded})
    elif o.export_format == "keras":
        target = output_dir / "model.keras"
        model.build_serving_model().save(target)
    elif o.export_format == "litert":
        target = output_dir / "model.tflite"
        model.build_serving_model(*model.crop, batch_size=1).export(target, format="litert", verbose=False)
    else:
        target, serving = output_dir / "model.onnx", model.build_serving_model(*model.crop)
        serving(tf.zeros([1, *model.crop, 3], tf.uint8))  # Keras wants the model called before it exports to ONNX
        try:
            serving.export(str(target), format="onnx", verbose=False)
        except ImportError:
            raise UserError("--export_format onnx needs two more packages: pip install onnx tf2onnx") from None
    print(f"done: {target}")
    return 0


def fill_in_defaults(o, given):
    """Options that depend on others or on what is there: input and output folders, what a checkpoint brings."""
    if o.mode is None:
        raise UserError("--mode is missing: train, test or export (--help lists all options)")
    if o.mode != "train" and not o.checkpoint:
        example = f"{DATA.split('/')[0]}_train"
        raise UserError(f"--mode {o.mode} needs --checkpoint, the --output_dir of a training, e.g. --checkpoint {example}")
    trained_on = None
    if o.checkpoint:
        o.checkpoint = o.checkpoint.rstrip("/")
        saved = read_options(o.checkpoint)
        trained_on = saved["input_dir"]
        adopt_options(o, given, saved)
    folder = Path(o.checkpoint or ".")
    folder = folder if folder.is_dir() else folder.parent
    if o.mode == "train":
        if not o.input_dir:
            o.input_dir = DATA if Path(DATA).is_dir() else str(Path(__file__).parent / "samples" / DATA)
            print(f"no --input_dir given: using {o.input_dir}")
        data = Path(o.input_dir).resolve()
        o.input_dir = str(data)
        name = data.parent.name if data.name.startswith("train") else data.name
        o.output_dir = o.output_dir or (str(folder) if o.checkpoint else f"{name}_train")
    else:
        o.output_dir = o.output_dir or f"{folder.resolve().name.removesuffix('_train')}_{o.mode}"
        if o.mode == "test" and not o.input_dir:
            o.input_dir = find_held_out(trained_on)
            if not o.input_dir:
                raise UserError(f"no pictures for test beside {trained_on}: give --input_dir")
            print(f"no --input_dir given: using {o.input_dir}")


def run(o, given):
    """Does what the options say; `given` names those that were set. Returns the exit code."""
    o.exact = o.seed is not None or o.mode != "train"  # a training that goes on keeps it, as it keeps a seed that was drawn
    fill_in_defaults(o, given)
    start_devices(o.exact)
    if o.seed is None:
        o.seed = random.SystemRandom().randrange(2**24)
    keras.config.set_dtype_policy({"off": "float32"}.get(o.mixed_precision, f"mixed_{o.mixed_precision}"))
    keras.utils.set_random_seed(o.seed)
    return {"train": train, "test": test, "export": export}[o.mode](o)


def test_side_by_side(o, given):
    """--checkpoint A,B,C: tests each in a folder of its own; a page shows a row a picture, a column a checkpoint."""
    if o.mode != "test":
        raise UserError(f"--mode {o.mode} takes one checkpoint, not {o.checkpoint}; several are for --mode test")
    checkpoints = [checkpoint.rstrip("/") for checkpoint in o.checkpoint.split(",")]
    parts = [Path(checkpoint).parts[-1 if os.path.isdir(checkpoint) else -2 :] for checkpoint in checkpoints]
    columns = ["-".join(part).removesuffix("_train") for part in parts]
    if len(set(columns)) < len(columns):
        raise UserError(f"--checkpoint {o.checkpoint}: two have the same name, by which they are shown: rename a folder")
    o.output_dir = o.output_dir or "several_test"
    for checkpoint in checkpoints:  # rather now than after the first test
        read_options(checkpoint)
    for checkpoint, column in zip(checkpoints, columns, strict=True):
        one = types.SimpleNamespace(**vars(o) | {"checkpoint": checkpoint, "output_dir": f"{o.output_dir}/{column}"})
        run(one, given)
        o.input_dir = one.input_dir  # those of the first for all
    page = Page(Path(o.output_dir) / "index.html", f"{o.output_dir}: side by side", ["name", "inputs", *columns])
    for name, _, _ in ALGORITHM(one, training=False).find_test_pictures(o.input_dir):
        files = [f"{columns[0]}/images/{name}-inputs.png"] + [f"{column}/images/{name}-outputs.png" for column in columns]
        page.add([name], files)
    page.file.close()
    print(f"done: see {o.output_dir}/index.html")
    return 0


def main(argv):
    """The command line. Returns the exit code."""
    try:
        FLAGS.unparse_flags()  # forget an earlier call
        unused = FLAGS(argv)[1:]
        if FLAGS.help:
            print(f"{__doc__}\n{FLAGS.get_help()}")
            return 0
        if unused:
            raise UserError(f"not an option: {unused[0]} (--help lists all options)")
        o = types.SimpleNamespace(**FLAGS.flag_values_dict())
        given = {name for name in FLAGS if FLAGS[name].present}
        several = o.checkpoint and "," in o.checkpoint and not find_checkpoint(o.checkpoint)
        return (test_side_by_side if several else run)(o, given)
    except (UserError, flags.Error) as error:
        message = str(error).replace("\n", " ")
    except BrokenPipeError:  # the reader left, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains when it ends
        return 141
    except OSError as error:
        message = f"{error.filename or o.output_dir}: {error.strerror}; make room or choose another --output_dir"
    except tf.errors.OpError as error:
        reason = re.search("No space left on device|File too large|Permission denied|Read-only file system", error.message)
        if not reason:
            raise
        message = f"{o.output_dir}: {reason[0]}; make room or choose another --output_dir; what was saved before is whole"
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(f"error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))
