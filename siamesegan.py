#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["tensorflow==2.21.0", "tensorboard==2.21.0", "numpy", "absl-py"]
# ///
"""Siamese GAN: style transfer on HD pictures, learned on small crops (Pasini 2019, "Style Transfer with GANs on HD Images"), in
TensorFlow 2 / Keras 3.

    python siamesegan.py --mode train --input_dir hd
    python siamesegan.py --mode test --checkpoint hd_train
    python siamesegan.py --mode export --checkpoint hd_train --export_format saved_model

Measured, one run on 2 cores of an AMD EPYC: 12 minutes by recipes/siamesegan-cpu.flags give the photographs of samples/hd the
colours of the film, edges agree by 0.97. An hour on 20 HD photographs and 16 illustrations: flat tones, dark contours.
A picture of 1920x1280 takes 13 s and 0.8 GiB of memory with the start of the program.

docs/siamesegan.md says what every file and number means, and what the article leaves open.
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
string("input_dir", None, "folder with trainA, trainB and testA, pictures of any size; test also takes a folder of pictures or "
       "one file; default: hd, else the shipped samples")  # fmt: skip
string("output_dir", None, "folder to write to; default: hd_train and the like, after the data's name")
string("checkpoint", None, "folder of a training to continue, test or export, or one of its checkpoints, DIR/model-2000; "
       "test also takes several, A,B,C, and shows them side by side")  # fmt: skip
choice("which_direction", "AtoB", ["AtoB", "BtoA"], "give pictures of A the style of B, or back; a training learns one of them")
integer("max_epochs", 200, "passes over the pictures, in total; each gives --crops_per_image crops in a pass", lower_bound=1)
integer("max_steps", None, "training steps in total, instead of --max_epochs", lower_bound=1)
integer("decay_epochs", 0, "last epochs of the training, in which the learning rates fall to 0 in a line", lower_bound=0)
integer("batch_size", 16, "crops of each side in a training step; pairs are made within a batch", lower_bound=2)
integer("seed", None, "makes a training repeatable, on a CPU bit for bit; default: drawn, see options.json", lower_bound=0)
integer("tile", 64, "S, pixels; the generator learns tiles of SxS, the discriminator sees crops of 2Sx2S; a multiple of 32",
        lower_bound=32)  # fmt: skip
integer("train_size", 640, "pixels; longer pictures are reduced to this before crops are taken, so that crops show things; "
        "0: not at all", lower_bound=0)  # fmt: skip
integer("crops_per_image", 64, "crops that each picture gives in an epoch", lower_bound=1)
number("min_contrast", 8, "standard deviation of grey, 0 to 127; crops with less are drawn again, up to 7 times", lower_bound=0)
integer("cache_images", 500, "reduced pictures of each side kept in memory; of more, so many are read at a time", lower_bound=1)
boolean("flip", True, "mirror training pictures at random")
boolean("no_flip", False, "the same as --noflip")
integer("ngf", 48, "generator filters in the first convolution", lower_bound=1)
integer("ndf", 64, "discriminator filters in the first convolution", lower_bound=1)
integer("vec_len", 128, "numbers in the vector that the discriminator gives for a picture", lower_bound=1)
choice("norm", "pixel", ["pixel", "none"], "of the generator: each pixel's channels to RMS 1, or none; others let tiles differ")
choice("upsample", "resize", ["transpose", "resize"], "transpose: faster, but leaves a grid of dots in flat places")
boolean("spectral_norm", True, "divide the discriminator's kernels by their largest singular value")
boolean("combo", True, "the discriminator sees four tiles joined, so that it sees their borders; --nocombo: single tiles")
number("lr", 2e-4, "learning rate of the generator's Adam", lower_bound=0)
number("lr_d", 4e-4, "learning rate of the discriminator's Adam", lower_bound=0)
number("beta1", 0.5, "momentum of Adam", lower_bound=0, upper_bound=1)
number("margin", 2.0, "length that the vectors of translations shall reach, for the discriminator", lower_bound=0)
number("gan_weight", 1.0, "weight of the generator's adversarial loss: its vectors' squared length", lower_bound=0)
number("content_weight", 3.0, "weight of the content loss, for both networks", lower_bound=0)
number("overlap_weight", 0, "weight of the overlap loss, an addition that makes tiles fit; 100, set when there is style enough",
       lower_bound=0)  # fmt: skip
choice("stitch", "blend", ["blend", "tiles", "whole"], "how test covers a picture: overlapping windows blended, tiles of SxS "
       "joined as in the article, or in one pass, which takes the most memory")  # fmt: skip
integer("tile_size", 512, "pixels; side of the windows of --stitch blend, and of export to LiteRT and ONNX", lower_bound=32)
choice("export_format", "saved_model", ["saved_model", "litert", "keras", "onnx"], "what export writes")
integer("summary_freq", 100, "steps between TensorBoard scalars, 0: none", lower_bound=0)
integer("progress_freq", 50, "steps between progress lines, 0: none", lower_bound=0)
integer("display_freq", 500, "steps between sample pictures in index.html and TensorBoard, 0: none", lower_bound=0)
integer("save_freq", 2000, "steps between checkpoints, 0: only at the end", lower_bound=0)
integer("histogram_freq", 0, "steps between TensorBoard histograms of the weights, 0: none", lower_bound=0)
integer("trace_freq", 0, "steps between profiler traces of one step for TensorBoard, 0: none", lower_bound=0)
choice("mixed_precision", "off", ["off", "bfloat16", "float16"], "bfloat16: faster on CPUs with AVX512-BF16 and on GPUs")
boolean("xla", False, "compile the training step with XLA; meant for GPUs, slower on CPUs")

NETWORK_FLAGS = (
    "which_direction", "tile", "ngf", "ndf", "vec_len", "norm", "upsample", "spectral_norm", "combo",
)  # fmt: skip - fixed by a checkpoint
DATA_FLAGS = ("train_size", "seed")  # kept from training in test and export, unless given
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


def permuted(position, count, seed):
    """The index in [0, count) that is due at a position, int64, of an endless order: each pass is a permutation drawn anew."""
    epoch, place = position // count, position % count
    # index_shuffle heeds the last 8 bits of each of the two numbers alone, so they have to be random
    epoch_seed = tf.random.stateless_uniform([2], tf.stack([tf.constant(seed, tf.int64), epoch]), None, None, tf.uint32)
    return tf.random.experimental.index_shuffle(place, epoch_seed, tf.constant(count - 1, tf.int64))


def reduced_size(size, train_size, least):
    """int32 [height, width] => the size at which a picture is trained on: the longer side is train_size pixels or less, unless
    0, but the shorter one never less than `least`."""
    sides = tf.cast(size, tf.float32)
    longer, shorter = tf.reduce_max(sides), tf.reduce_min(sides)
    scale = tf.minimum(1.0, train_size / longer) if train_size else 1.0
    return tf.maximum(tf.cast(tf.round(sides * tf.maximum(scale, least / shorter)), tf.int32), least)


def usable_pictures(paths, crop):
    """The paths of pictures whose shorter side has at least half of `crop` pixels. One line on stderr tells of those that have
    less, and one of those that have to be enlarged. All are read once, so what cannot be read is known before training."""
    sizes = tf.data.Dataset.from_tensor_slices(paths).map(lambda path: tf.shape(load_image(path))[:2], tf.data.AUTOTUNE)
    try:
        shorter = [int(min(size)) for size in sizes.as_numpy_iterator()]
    except tf.errors.OpError:
        raise explain_unreadable(paths, load_image) from None
    usable = [path for path, side in zip(paths, shorter, strict=True) if side >= crop / 2]
    skipped = [path for path, side in zip(paths, shorter, strict=True) if side < crop / 2]
    small = [path for path, side in zip(paths, shorter, strict=True) if crop / 2 <= side < crop]
    for found, what in ((skipped, f"under {crop / 2:g} pixels high or wide: left out"), (small, f"enlarged to {crop} pixels")):
        if found:
            print(f"warning: {len(found)} of {len(paths)} pictures {what}, e.g. {found[0]}", file=sys.stderr)
    if not usable:
        raise UserError(f"all pictures in {Path(paths[0]).parent} are too small for crops of {crop} pixels: lower --tile")
    return usable


def crop_batches(paths, crop, train_size, crops_per_image, min_contrast, cache_images, batch_size, flip, seed, start):
    """Endless training batches of random crops, from step `start` on.

    Pictures are read, and reduced to reduced_size(), when they come into memory, `cache_images` at a time. If all fit, they
    stay; else so many give crops_per_image crops each before the next ones are read, in an order drawn anew in each epoch. A
    crop whose grey has a standard deviation below min_contrast is drawn again, 7 times at most. All of it depends on (seed,
    position) alone. Yields float32 [batch_size, crop, crop, 3] in [-1, 1].
    """
    names, cached = tf.constant(paths), min(len(paths), cache_images)
    per_round = cached * crops_per_image if cached < len(paths) else 2**62  # crops given by the pictures in memory
    retries = 7

    def load_flat(position):  # => uint8 [h * w * 3], [h, w, 3]: pictures of unequal sizes in one ragged tensor
        image = load_image(names[permuted(position, len(paths), seed)])
        image = resize(image, reduced_size(tf.shape(image)[:2], train_size, crop))
        return tf.reshape(image, [-1]), tf.shape(image)

    def example(position, pixels, sizes):
        index = permuted(position, cached, seed)
        image = tf.reshape(pixels[index], sizes[index])
        seeds = tf.stack([tf.constant(seed, tf.int64), position])
        draw = tf.constant(0)
        patch = tf.image.stateless_random_crop(image, [crop, crop, 3], seeds)

        def dull(draw, patch):
            grey = tf.reduce_mean(tf.cast(patch, tf.float32), -1)
            return tf.logical_and(draw < retries, tf.math.reduce_std(grey) < min_contrast)

        def again(draw, patch):
            again_seed = tf.random.experimental.stateless_fold_in(seeds, draw + 2)
            return draw + 1, tf.image.stateless_random_crop(image, [crop, crop, 3], again_seed)

        _, patch = tf.while_loop(dull, again, (draw, patch))
        if flip:
            patch = tf.image.stateless_random_flip_left_right(patch, tf.random.experimental.stateless_fold_in(seeds, 1))
        return tf.cast(patch, tf.float32) / 127.5 - 1

    def crops(number, pictures):  # those of one round
        first = tf.maximum(tf.constant(start * batch_size, tf.int64), number * per_round)
        positions = tf.data.Dataset.range(first, (number + 1) * per_round)
        return positions.map(lambda position: example(position, *pictures), tf.data.AUTOTUNE, deterministic=True)

    with tf.device("cpu"):
        threads = tf.data.Options()
        threads.threading.private_threadpool_size = os.cpu_count()  # beside those of the training step
        first_round = start * batch_size // per_round
        pictures = tf.data.Dataset.range(first_round * cached, 2**62 // per_round * cached).map(load_flat, tf.data.AUTOTUNE)
        rounds = pictures.ragged_batch(cached).enumerate(first_round).flat_map(crops)
        return rounds.batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE).with_options(threads)


# ---------------------------------------------------------------------------------------------------------- networks


def weights_init():
    """Convolution kernels start as N(0, 0.02)."""
    return keras.initializers.RandomNormal(0.0, 0.02)


def reflect(x, pixels):
    """Pads [n, h, w, c] by reflection on all four sides."""
    return ops.pad(x, [[0, 0], [pixels, pixels], [pixels, pixels], [0, 0]], mode="reflect")


def build_unet(ngf=48, norm="pixel", upsample="resize"):
    """The generator, a fully convolutional U-Net, RGB [n, h, w, 3] => RGB [n, h, w, 3], both in [-1, 1].

    h and w are multiples of 16. There is no norm by the statistics of a tile or of a batch, which would make tiles of one
    picture differ in brightness: norm="pixel" divides the channels of each pixel by their root mean square (Karras et al. 2018,
    section 4.2) and has a learned scale; "none" is none. upsample="resize" puts nearest x2 and a 3x3 convolution in the place
    of the transposed ones (Odena et al. 2016).
    """

    def normed(x, name):
        if norm == "pixel":
            x = layers.RMSNormalization(name=f"{name}_norm")(x)
        return layers.LeakyReLU(0.2, name=f"{name}_lrelu")(x)

    def conv(x, filters, size, strides, name):
        return layers.Conv2D(filters, size, strides, kernel_initializer="he_normal", name=name)(reflect(x, 1))

    def deconv(x, filters, name):
        if upsample == "resize":
            return conv(layers.UpSampling2D(2, name=f"{name}_resize")(x), filters, 3, 1, name)
        return layers.Conv2DTranspose(filters, 4, 2, "same", kernel_initializer="he_normal", name=name)(x)

    x = inputs = keras.Input((None, None, 3))
    skips = [inputs]
    # encoder_1: [batch, 64, 64, 3] => [batch, 32, 32, ngf]
    # encoder_2: [batch, 32, 32, ngf] => [batch, 16, 16, ngf * 2]
    # encoder_3: [batch, 16, 16, ngf * 2] => [batch, 8, 8, ngf * 4]
    # encoder_4: [batch, 8, 8, ngf * 4] => [batch, 4, 4, ngf * 8]
    for level in range(1, 5):
        x = normed(conv(x, ngf * 2 ** (level - 1), 4, 2, f"encoder_{level}"), f"encoder_{level}")
        skips.append(x)
    skips.pop()
    # decoder_4: [batch, 4, 4, ngf * 8] => [batch, 8, 8, ngf * 4 * 2]
    # decoder_3: [batch, 8, 8, ngf * 4 * 2] => [batch, 16, 16, ngf * 2 * 2]
    # decoder_2: [batch, 16, 16, ngf * 2 * 2] => [batch, 32, 32, ngf * 2]
    # decoder_1: [batch, 32, 32, ngf * 2] => [batch, 64, 64, ngf / 4 + 3]
    for level in range(4, 0, -1):
        filters = ngf * 2 ** (level - 2) if level > 1 else max(1, ngf // 4)  # few at full size, where they cost most
        x = normed(deconv(x, filters, f"decoder_{level}"), f"decoder_{level}")
        x = layers.Concatenate(name=f"decoder_{level}_skip")([skips.pop(), x])
    # decoder_0: [batch, 64, 64, ngf / 4 + 3] => [batch, 64, 64, 3]
    last = layers.Conv2D(3, 3, kernel_initializer=weights_init(), name="decoder_0")
    x = last(reflect(x, 1))
    copy = np.zeros(last.kernel.shape, np.float32)
    copy[1, 1, :3] = 1.25 * np.eye(3)  # an untrained generator copies its input; tanh takes off what 1.25 adds
    last.kernel.assign(last.kernel + copy)
    return keras.Model(inputs, layers.Activation("tanh", dtype="float32", name="tanh")(x), name="generator")


class SpectralConv2D(layers.Conv2D):
    """Convolution whose kernel is divided by its largest singular value (Miyato et al. 2018), by one power iteration a call.

    As in PyTorch the gradient goes through the division. keras.layers.SpectralNormalization writes the divided kernel over the
    weights instead, under mixed precision a rounded one.
    """

    def build(self, shape):
        super().build(shape)
        start = keras.initializers.RandomNormal()
        self.u = self.add_weight(
            name="u", shape=[self.filters], initializer=start, trainable=False, dtype="float32", autocast=False
        )

    def convolution_op(self, x, kernel):
        matrix = tf.reshape(tf.cast(kernel, tf.float32), [-1, self.filters])
        fixed = tf.stop_gradient(matrix)
        v = tf.math.l2_normalize(tf.linalg.matvec(fixed, self.u))
        u = tf.math.l2_normalize(tf.linalg.matvec(fixed, v, transpose_a=True))
        self.u.assign(u)
        sigma = tf.tensordot(v, tf.linalg.matvec(matrix, u), 1)
        return super().convolution_op(x, kernel / tf.cast(sigma, kernel.dtype))


def build_siamese(size=128, vec_len=128, ndf=64, spectral_norm=True):
    """The discriminator, RGB [n, size, size, 3] in [-1, 1] => vectors [n, vec_len]. size is a multiple of 32."""
    convolution = SpectralConv2D if spectral_norm else layers.Conv2D
    x = inputs = keras.Input((size, size, 3))
    # layer_1: [batch, 128, 128, 3] => [batch, 64, 64, ndf]
    # layer_2: [batch, 64, 64, ndf] => [batch, 32, 32, ndf * 2]
    # layer_3: [batch, 32, 32, ndf * 2] => [batch, 16, 16, ndf * 4]
    # layer_4: [batch, 16, 16, ndf * 4] => [batch, 8, 8, ndf * 8]
    # layer_5: [batch, 8, 8, ndf * 8] => [batch, 4, 4, ndf * 8]
    for level in range(1, 6):
        filters = ndf * min(2 ** (level - 1), 8)
        x = convolution(filters, 4, 2, "same", kernel_initializer="he_normal", name=f"layer_{level}")(x)
        x = layers.LeakyReLU(0.2, name=f"layer_{level}_lrelu")(x)
    # vector: [batch, 4, 4, ndf * 8] => [batch, vec_len]
    x = layers.Conv2D(vec_len, size // 32, name="vector")(x)  # free to stretch what tells fakes from real pictures
    return keras.Model(inputs, layers.Flatten(dtype="float32", name="flatten")(x), name="discriminator")


def cut(images):
    """[n, 2S, 2S, 3] => tiles [4n, S, S, 3]: of each picture upper left, upper right, lower left, lower right."""
    n, side = images.shape[0], images.shape[1] // 2
    return tf.reshape(tf.transpose(tf.reshape(images, [n, 2, side, 2, side, 3]), [0, 1, 3, 2, 4, 5]), [4 * n, side, side, 3])


def join(tiles):
    """Tiles [4n, S, S, 3] => [n, 2S, 2S, 3]: the inverse of cut()."""
    n, side = tiles.shape[0] // 4, tiles.shape[1]
    return tf.reshape(tf.transpose(tf.reshape(tiles, [n, 2, 2, side, side, 3]), [0, 1, 3, 2, 4, 5]), [n, 2 * side, 2 * side, 3])


def combo(generator, images):
    """Translates crops as four tiles each, which the generator sees one by one: [n, 2S, 2S, 3] => [n, 2S, 2S, 3]."""
    return join(generator(cut(images)))


# ------------------------------------------------------------------------------------------------------------ losses


def origin_loss(vectors):
    """Mean of |v|^2 over vectors [n, vec_len]: those near the origin are of real pictures."""
    return tf.reduce_mean(tf.reduce_sum(tf.square(vectors), -1))


def margin_loss(vectors, margin):
    """Mean of max(0, margin - |v|)^2 over vectors [n, vec_len]: those of fakes are to be `margin` away from the origin."""
    length = tf.sqrt(tf.reduce_sum(tf.square(vectors), -1) + 1e-12)  # or it had no gradient at 0
    return tf.reduce_mean(tf.square(tf.maximum(0.0, margin - length)))


def content_loss(vectors, translated):
    """Mean of 1 - cos(v_i - v_j, t_i - t_j), in [0, 2], over all pairs i < j of n pictures; vectors v [n, vec_len] of
    pictures, t of their translations: between two pictures there is the same transformation before and after."""
    i, j = np.triu_indices(vectors.shape[0], 1)
    before, after = (tf.math.l2_normalize(tf.gather(v, i) - tf.gather(v, j), -1) for v in (vectors, translated))
    return tf.reduce_mean(1 - tf.reduce_sum(before * after, -1))


def overlap_loss(generator, images, joined):
    """Mean of |G(m) - m'|: m is the tile in the middle of crops [n, 2S, 2S, 3], m' the same place in `joined`, where parts of
    four tiles meet. So a translation shall not depend on where it was cut."""
    quarter = images.shape[1] // 4
    middle = (slice(None), slice(quarter, -quarter), slice(quarter, -quarter))
    return tf.reduce_mean(tf.abs(generator(images[middle]) - joined[middle]))


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


class SiameseGAN:
    """Generator and discriminator with their data; with training=True also the optimisers and the compiled training step."""

    losses = ("discrim_origin", "discrim_margin", "gan", "content", "overlap")  # what train_step returns, by name
    multiple = 16  # of which the sides of the generator's pictures are
    aspect_ratio = 1.0

    def __init__(self, o, training):
        if o.tile % 32:
            raise UserError(f"--tile {o.tile}: the discriminator needs a multiple of 32, e.g. {round(o.tile / 32) * 32}")
        self.o, self.load, self.crops_per_image = o, load_image, o.crops_per_image
        self.crop = o.tile_size, o.tile_size  # what formats of one size are exported for
        self.generator = self.build_generator()
        self.networks, self.optimizers, self.state = {"generator": self.generator}, {}, {}
        self.translate = tf.function(self.translate, input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)])
        if training:
            self.discriminator = build_siamese(o.tile * (2 if o.combo else 1), o.vec_len, o.ndf, o.spectral_norm)
            self.networks["discriminator"] = self.discriminator
            self.learning_rates = {"generator": o.lr, "discriminator": o.lr_d}
            for name, network in self.networks.items():
                rate = self.learning_rates[name]
                self.optimizers[name] = build_optimizer(network.trainable_variables, rate, o.beta1, o.mixed_precision)
            self.train_step = tf.function(self.train_step, jit_compile=o.xla)

    def build_generator(self):
        """A generator by the flags."""
        return build_unet(self.o.ngf, self.o.norm, self.o.upsample)

    def find_training_pictures(self):
        """Paths to train on, by side."""
        return {side: usable_pictures(paths, 2 * self.o.tile) for side, paths in find_sides(self.o.input_dir).items()}

    def find_test_pictures(self, input_dir):
        """[(name, path, direction)] of the pictures to translate."""
        return find_side_pictures(input_dir, self.o.which_direction)

    def find_samples(self):
        """[(name, path, direction)] of the pictures that training shows: held out, if there are any."""
        return find_side_samples(self.o.input_dir, self.o.which_direction)

    def batches(self, data, start):
        """Training batches from step `start` on: float32 crops [batch, 2S, 2S, 3] in [-1, 1] of the side to translate and of
        the side whose style they get."""
        o = self.o
        crops = 2 * o.tile, o.train_size, o.crops_per_image, o.min_contrast, o.cache_images
        rest = o.batch_size, o.flip and not o.no_flip
        seeds = {"A": o.seed, "B": o.seed ^ 2**30}  # or two folders of one size would meet in the same pairs in every epoch
        sides = o.which_direction.split("to")
        return tf.data.Dataset.zip(tuple(crop_batches(data[side], *crops, *rest, seeds[side], start) for side in sides))

    def train_step(self, step, images):
        """One step on a batch of self.batches(), both networks at once. Returns self.losses, float32 [5]."""
        o, (real_A, real_B) = self.o, images  # A is the side to translate
        generator, discriminator = self.generator, self.discriminator
        optimizer_g, optimizer_d = self.optimizers["generator"], self.optimizers["discriminator"]
        with tf.GradientTape(persistent=True) as tape:
            fake_B = combo(generator, real_A)
            overlap = tf.constant(0.0)
            if o.overlap_weight:
                overlap = overlap_loss(generator, real_A, fake_B)
            if not o.combo:
                real_A, real_B, fake_B = cut(real_A), cut(real_B), cut(fake_B)
            vectors_B, vectors_A = tf.split(discriminator(tf.concat([real_B, real_A], 0)), 2)
            vectors_AB = discriminator(fake_B)
            origin = origin_loss(vectors_B)  # D(B) => 0
            margin = margin_loss(vectors_AB, o.margin)  # |D(AB)| => margin or more
            content = content_loss(vectors_A, vectors_AB)  # D(A1) - D(A2) and D(AB1) - D(AB2) point the same way
            gan = origin_loss(vectors_AB)  # D(AB) => 0, for G
            scaled_g = optimizer_g.scale_loss(o.gan_weight * gan + o.content_weight * content + o.overlap_weight * overlap)
            scaled_d = optimizer_d.scale_loss(origin + margin + o.content_weight * content)
        gradients_g = tape.gradient(scaled_g, generator.trainable_variables)
        gradients_d = tape.gradient(scaled_d, discriminator.trainable_variables)
        optimizer_g.apply_gradients(zip(gradients_g, generator.trainable_variables, strict=True))
        optimizer_d.apply_gradients(zip(gradients_d, discriminator.trainable_variables, strict=True))
        return tf.stack([origin, margin, gan, content, overlap])

    def translate(self, pictures):
        """uint8 RGB [n, h, w, 3], sides multiples of 16 => their translations, float32 RGB [n, h, w, 3] in [0, 1]."""
        return (self.generator(tf.cast(pictures, tf.float32) / 127.5 - 1) + 1) / 2

    def test_pictures(self, path, direction):
        """Translates one file, at its own size (what training shows is reduced). Returns uint8 RGB pictures by kind: inputs and
        outputs."""
        inputs = load_image(path)
        if self.o.mode == "train":
            inputs = resize(inputs, reduced_size(tf.shape(inputs)[:2], self.o.train_size, 1))
        inputs = inputs.numpy()
        if self.o.stitch == "tiles":
            outputs = translate_tiles(self.translate, inputs, self.o.tile)
        else:
            window = max(inputs.shape) if self.o.stitch == "whole" else self.o.tile_size
            outputs = translate_windows(self.translate, inputs, window, self.multiple, overlap=0.25)
        return {"inputs": inputs, "outputs": outputs}

    def serve(self, serving, picture):
        """uint8 RGB [h, w, 3] => its translation by a serving model, at its own size, uint8."""

        def reflected(side):  # indices of the rows or columns of the padded picture, as np.pad does it
            period = tf.maximum(2 * side - 2, 1)
            index = tf.range(side + -side % self.multiple) % period
            return tf.minimum(index, period - index)

        height, width = tf.shape(picture)[0], tf.shape(picture)[1]
        padded = tf.gather(tf.gather(picture, reflected(height)), reflected(width), axis=1)
        return serving(padded[None])[0, :height, :width]

    def build_serving_model(self, height=None, width=None, batch_size=None):
        """A Keras model of standard layers alone, for export: uint8 RGB [n, h, w, 3] => uint8 RGB [n, h, w, 3]."""
        generator = self.build_generator()
        generator.set_weights(self.generator.get_weights())
        pictures = keras.Input((height, width, 3), batch_size, dtype="uint8", name="pictures")
        outputs = generator(ops.cast(pictures, "float32") / 127.5 - 1)
        return keras.Model(pictures, to_uint8((outputs + 1) / 2))


ALGORITHM, SCRIPT, DATA = SiameseGAN, "siamesegan", "hd"  # DATA: what to train on without --input_dir
build_generator, build_discriminator = build_unet, build_siamese  # their names in all scripts


def translate_tiles(translate, image, tile):
    """Translates a picture of any size in tiles of tile x tile pixels and puts them side by side, as the article does.

    translate: uint8 [n, tile, tile, 3] => float [n, tile, tile, 3] in [0, 1]. uint8 [h, w, 3] => uint8 [h, w, 3]; the last row
    and column of tiles are padded by reflection.
    """
    height, width = image.shape[:2]
    image = np.pad(image, [(0, -height % tile), (0, -width % tile), (0, 0)], "reflect")
    result = np.empty_like(image)
    for top in range(0, height, tile):
        tiles = image[top : top + tile].reshape(tile, -1, tile, 3).swapaxes(0, 1)  # [columns, tile, tile, 3]
        parts = [np.asarray(translate(tiles[i : i + 32])) for i in range(0, len(tiles), 32)]  # bounded memory
        row = np.concatenate(parts).swapaxes(0, 1).reshape(tile, -1, 3)
        result[top : top + tile] = np.rint(np.clip(row, 0, 1) * 255)
    return result[:height, :width]


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
