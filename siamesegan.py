#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["tensorflow==2.21.0", "tensorboard==2.21.0", "numpy", "pillow", "absl-py"]
# ///
"""Siamese GAN: style transfer on HD images, learned on small crops. TensorFlow 2, Keras 3.
(Pasini 2019, "Style Transfer with GANs on HD Images")

    python siamesegan.py --mode train --input_dir hd
    python siamesegan.py --mode test --checkpoint hd_train
    python siamesegan.py --mode export --checkpoint hd_train --export_format saved_model

Measured, one run on one core of an Intel Xeon: after 10 minutes with recipes/siamesegan-cpu.flags the photographs of
samples/hd have the colours of the film. After an hour, HD photographs have dabs and contours of paint, in arbitrary
colours; edges correlate by 0.83. An image of 1920x1280 takes 13 s and 0.8 GiB, including the program's start.

docs/siamesegan.md explains every output file and number, and what the article leaves open.
"""

# >>> start: the same in all algorithm files (tools/fix_copies.py)
import collections
import contextlib
import copy
import fcntl
import functools
import html
import json
import math
import os
import re
import signal
import sys
import textwrap
import time
import types
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115 - `2>&-` would give its number 2 to the next file


@contextlib.contextmanager
def quiet_stderr():
    """Hides what TensorFlow's C++ code prints as it starts; TF_CPP_MIN_LOG_LEVEL=0 in the environment shows it."""
    saved = os.dup(2)
    if os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3":
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), 2)
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        os.dup2(saved, 2)
        os.close(saved)


with quiet_stderr():
    import keras
    import tensorflow as tf
    from keras import layers, ops

FLAGS = flags.FlagValues()  # a set of its own, so that all algorithm files can be imported together
kinds = (flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_float, flags.DEFINE_bool, flags.DEFINE_enum)
string, integer, number, boolean, choice = (functools.partial(define, flag_values=FLAGS) for define in kinds)
# <<< start

# ------------------------------------------------------------------------------------------------------------- flags
# Those of every algorithm (--mode, --checkpoint, --seed, --save_freq and so on) are in the second half of this file.

string("input_dir", None, "folder with trainA, trainB, testA, testB; test also takes a folder of images or one file")
choice("which_direction", "AtoB", ["AtoB", "BtoA"], "give images of A the style of B, or back; a training learns one")
integer("max_epochs", 200, "passes over the images, of --crops_per_image crops each, in total", lower_bound=1)
integer("decay_epochs", 0, "final epochs, over which the learning rates fall linearly to 0", lower_bound=0)
integer("batch_size", 16, "crops of each domain in a training step; the content loss compares all pairs", lower_bound=2)
integer("tile", 64, "S, pixels, a multiple of 32: G translates SxS tiles, D sees 2Sx2S crops", lower_bound=32)
integer("train_size", 640, "pixels that longer images are reduced to, so that crops show more; 0: never", lower_bound=0)
integer("crops_per_image", 64, "crops that each image gives in an epoch", lower_bound=1)
number("min_contrast", 8, "least standard deviation of grey, 0 to 127; crops below it are redrawn", lower_bound=0)
integer("cache_images", 500, "reduced images kept in memory per domain; of more, this many at a time", lower_bound=1)
integer("ngf", 48, "generator filters in the first convolution", lower_bound=1, upper_bound=4096)
integer("ndf", 64, "discriminator filters in the first convolution", lower_bound=1, upper_bound=4096)
integer("vec_len", 128, "length of the discriminator's vectors", lower_bound=1)
choice("norm", "pixel", ["pixel", "none"], "generator norm: scale the channels of each pixel to an RMS of 1, or none")
choice("upsample", "resize", ["transpose", "resize"], "transpose is faster, but leaves a grid of dots in flat areas")
boolean("spectral_norm", True, "divide the discriminator's kernels by their largest singular value")
boolean("combo", True, "D sees four joined tiles, with their borders; --nocombo: single tiles")
number("lr", 2e-4, "learning rate of the generator's Adam", lower_bound=0)
number("lr_d", 4e-4, "learning rate of the discriminators' Adam", lower_bound=0)
number("margin", 2.0, "minimum length that D's vectors of translations should have", lower_bound=0)
number("gan_weight", 1.0, "weight of the generator's adversarial loss: its vectors' squared length", lower_bound=0)
number("content_weight", 3.0, "weight of the content loss, for both networks", lower_bound=0)
number("patch_weight", 0, "weight of the loss of a PatchGAN, which judges strokes; try 1", lower_bound=0)
number("overlap_weight", 0, "weight of our overlap loss, which makes tiles fit; try 100 at the end", lower_bound=0)
choice("stitch", "blend", ["blend", "tiles", "whole"],
       "how test covers an image: overlapping windows blended, SxS tiles joined, or one pass")  # fmt: skip
integer("tile_size", 512, "pixels; side of the windows of --stitch blend and of LiteRT, ONNX exports", lower_bound=32)

# -------------------------------------------------------------------------------------------------------------- data

def reduced_size(size, train_size, min_side):
    """int32 [height, width] => the size for training: the longer side at most train_size, unless 0, the shorter at
    least min_side pixels."""
    sides = tf.cast(size, tf.float32)
    longer, shorter = tf.reduce_max(sides), tf.reduce_min(sides)
    scale = tf.minimum(1.0, train_size / longer) if train_size else 1.0
    return tf.maximum(tf.cast(tf.round(sides * tf.maximum(scale, min_side / shorter)), tf.int32), min_side)


def usable_images(paths, crop):
    """The paths of images whose shorter side has at least half of `crop` pixels. It reads all of them, so that an
    unreadable one is found before training, and warns of those that are left out or enlarged."""
    sizes = tf.data.Dataset.from_tensor_slices(paths).map(lambda path: tf.shape(load_image(path))[:2], tf.data.AUTOTUNE)
    with naming_unreadable(paths, load_image):
        shorter = {path: min(size) for path, size in zip(paths, sizes.as_numpy_iterator(), strict=True)}
    skipped = [path for path in paths if shorter[path] < crop / 2]
    small = [path for path in paths if crop / 2 <= shorter[path] < crop]
    for found, what in ((skipped, f"under {crop / 2:g} pixels: left out"), (small, f"enlarged to {crop} pixels")):
        if found:
            print(f"warning: {len(found)} of {len(paths)} images {what}, e.g. {found[0]}", file=sys.stderr)
    if len(skipped) == len(paths):
        raise UserError(f"all images in {Path(paths[0]).parent} are too small for crops of {crop} pixels: lower --tile")
    return [path for path in paths if path not in set(skipped)]


def crop_batches(
    paths, crop, train_size, crops_per_image, min_contrast, cache_images, batch_size, flip, seed, start, share=None
):
    """Endless training batches of random crops, from step `start` on: float32 [n, crop, crop, 3] in [-1, 1]; n, share:
    see own_share().

    Images are read and reduced to reduced_size(), `cache_images` at a time. If all fit, they stay in memory; else each
    gives crops_per_image crops before the next ones are read, in a new order in each epoch. A crop whose grey has a
    standard deviation below min_contrast is drawn again, 7 times at most. All depends on (seed, position) alone.
    """
    names, cached = tf.constant(paths), min(len(paths), cache_images)
    per_round = cached * crops_per_image if cached < len(paths) else 2**62  # crops that the images in memory give

    def load_flat(position):  # => uint8 [h * w * 3], [h, w, 3], so that a ragged tensor can hold images of all sizes
        image = load_image(names[shuffled_index(position, len(paths), seed)])
        image = resize(image, reduced_size(tf.shape(image)[:2], train_size, crop))
        return tf.reshape(image, [-1]), tf.shape(image)

    def example(position, pixels, sizes):
        index = shuffled_index(position, cached, seed)
        image = tf.reshape(pixels[index], sizes[index])
        seeds = tf.stack([tf.constant(seed, tf.int64), position])

        def dull(draw, patch):
            grey = tf.reduce_mean(tf.cast(patch, tf.float32), -1)
            return tf.logical_and(draw < 7, tf.math.reduce_std(grey) < min_contrast)

        def draw_again(draw, patch):
            again = tf.random.experimental.stateless_fold_in(seeds, draw + 2)
            return draw + 1, tf.image.stateless_random_crop(image, [crop, crop, 3], again)

        patch = tf.image.stateless_random_crop(image, [crop, crop, 3], seeds)
        _, patch = tf.while_loop(dull, draw_again, (tf.constant(0), patch))
        if flip:
            patch = tf.image.stateless_random_flip_left_right(patch, tf.random.experimental.stateless_fold_in(seeds, 1))
        return tf.cast(patch, tf.float32) / 127.5 - 1

    def crops(number_of_round, images):
        first = tf.maximum(tf.constant(start * batch_size, tf.int64), number_of_round * per_round)
        positions = tf.data.Dataset.range(first, (number_of_round + 1) * per_round).filter(is_own)
        return positions.map(lambda position: example(position, *images), tf.data.AUTOTUNE, deterministic=True)

    n, is_own = own_share(batch_size, share)
    with tf.device("cpu"):
        first_round = start * batch_size // per_round
        positions = tf.data.Dataset.range(first_round * cached, 2**62 // per_round * cached)
        rounds = positions.map(load_flat, tf.data.AUTOTUNE).ragged_batch(cached).enumerate(first_round).flat_map(crops)
        return with_own_threads(rounds.batch(n, drop_remainder=True).prefetch(tf.data.AUTOTUNE))

# ---------------------------------------------------------------------------------------------------------- networks

def reflect(x, pixels):
    """Pads [n, h, w, c] by reflection on all four sides."""
    return ops.pad(x, [[0, 0], [pixels, pixels], [pixels, pixels], [0, 0]], mode="reflect")


def build_generator(ngf=48, norm="pixel", upsample="resize"):
    """The generator, a fully convolutional U-Net, RGB [n, h, w, 3] => RGB [n, h, w, 3], both in [-1, 1].

    h and w are multiples of 16. A norm by the statistics of a tile or batch would make the tiles of an image differ in
    brightness; norm="pixel" divides the channels of each pixel by their root mean square (Karras et al. 2018,
    section 4.2) and has a learned scale. upsample="resize": nearest x2 and a 3x3 convolution, not transposed ones.
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
    # encoder_1 and encoder_2: [batch, 64, 64, 3] => [batch, 32, 32, ngf] => [batch, 16, 16, ngf * 2]
    # encoder_3 and encoder_4: => [batch, 8, 8, ngf * 4] => [batch, 4, 4, ngf * 8]
    for level in range(1, 5):
        x = normed(conv(x, ngf * 2 ** (level - 1), 4, 2, f"encoder_{level}"), f"encoder_{level}")
        skips.append(x)
    skips.pop()
    # decoder_4 and decoder_3: [batch, 4, 4, ngf * 8] => [batch, 8, 8, ngf * 4 * 2] => [batch, 16, 16, ngf * 2 * 2]
    # decoder_2 and decoder_1: => [batch, 32, 32, ngf * 2] => [batch, 64, 64, ngf / 4 + 3]
    for level in range(4, 0, -1):
        filters = ngf * 2 ** (level - 2) if level > 1 else max(1, ngf // 4)  # few at full size, where they cost most
        x = normed(deconv(x, filters, f"decoder_{level}"), f"decoder_{level}")
        x = layers.Concatenate(name=f"decoder_{level}_skip")([skips.pop(), x])
    # decoder_0: [batch, 64, 64, ngf / 4 + 3] => [batch, 64, 64, 3]
    last = layers.Conv2D(3, 3, kernel_initializer=weights_init(), name="decoder_0")
    x = last(reflect(x, 1))
    identity = np.zeros(last.kernel.shape, np.float32)
    identity[1, 1, :3] = 1.25 * np.eye(3)  # an untrained generator copies its input; 1.25 makes up for tanh
    last.kernel.assign(last.kernel + identity)
    return keras.Model(inputs, layers.Activation("tanh", dtype="float32", name="tanh")(x), name="generator")


class SpectralConv2D(layers.Conv2D):
    """Convolution with the kernel divided by its largest singular value (Miyato et al. 2018), a power iteration a call.

    As in PyTorch the gradient goes through the division. keras.layers.SpectralNormalization overwrites the weights with
    the divided kernel, rounded under mixed precision.
    """

    def build(self, shape):
        super().build(shape)
        options = {"initializer": keras.initializers.RandomNormal(), "trainable": False}
        self.u = self.add_weight(name="u", shape=[self.filters], dtype="float32", autocast=False, **options)

    def convolution_op(self, x, kernel):
        matrix = tf.reshape(tf.cast(kernel, tf.float32), [-1, self.filters])
        fixed = tf.stop_gradient(matrix)
        v = tf.math.l2_normalize(tf.linalg.matvec(fixed, self.u))
        u = tf.math.l2_normalize(tf.linalg.matvec(fixed, v, transpose_a=True))
        self.u.assign(u)
        sigma = tf.tensordot(v, tf.linalg.matvec(matrix, u), 1)
        return super().convolution_op(x, kernel / tf.cast(sigma, kernel.dtype))


def build_discriminator(size=128, vec_len=128, ndf=64, spectral_norm=True):
    """The discriminator, RGB [n, size, size, 3] in [-1, 1] => vectors [n, vec_len]. size is a multiple of 32."""
    convolution = SpectralConv2D if spectral_norm else layers.Conv2D
    x = inputs = keras.Input((size, size, 3))
    # layer_1 and layer_2: [batch, 128, 128, 3] => [batch, 64, 64, ndf] => [batch, 32, 32, ndf * 2]
    # layer_3 to layer_5: => [batch, 16, 16, ndf * 4] => [batch, 8, 8, ndf * 8] => [batch, 4, 4, ndf * 8]
    for level in range(1, 6):
        filters = ndf * min(2 ** (level - 1), 8)
        x = convolution(filters, 4, 2, "same", kernel_initializer="he_normal", name=f"layer_{level}")(x)
        x = layers.LeakyReLU(0.2, name=f"layer_{level}_lrelu")(x)
    # vector: [batch, 4, 4, ndf * 8] => [batch, vec_len]
    x = layers.Conv2D(vec_len, size // 32, name="vector")(x)  # free to stretch what separates fakes from real images
    return keras.Model(inputs, layers.Flatten(dtype="float32", name="flatten")(x), name="discriminator")


def build_patch_discriminator(ndf=64):
    """A PatchGAN, RGB [n, 128, 128, 3] in [-1, 1] => logits [n, 16, 16, 1], each for a patch of 70x70 pixels: it sees
    the strokes that one vector of the whole crop misses. (Isola et al. 2017, section 6.1.2)"""
    x = inputs = keras.Input((None, None, 3))
    # patch_1 and patch_2: [batch, 128, 128, 3] => [batch, 64, 64, ndf] => [batch, 32, 32, ndf * 2]
    # patch_3 to patch_5: => [batch, 16, 16, ndf * 4] => [batch, 16, 16, ndf * 8] => [batch, 16, 16, 1]
    for level, (filters, strides) in enumerate(((ndf, 2), (ndf * 2, 2), (ndf * 4, 2), (ndf * 8, 1), (1, 1)), start=1):
        x = layers.Conv2D(filters, 4, strides, "same", kernel_initializer=weights_init(), name=f"patch_{level}")(x)
        if 1 < level < 5:
            x = layers.GroupNormalization(-1, name=f"patch_{level}_norm")(x)  # an instance norm
        if level < 5:
            x = layers.LeakyReLU(0.2, name=f"patch_{level}_lrelu")(x)
    return keras.Model(inputs, layers.Activation("linear", dtype="float32", name="logits")(x), name="patches")


def cut(images):
    """[n, 2S, 2S, 3] => tiles [4n, S, S, 3]: of each image upper left, upper right, lower left, lower right."""
    n, side = images.shape[0], images.shape[1] // 2
    tiles = tf.transpose(tf.reshape(images, [n, 2, side, 2, side, 3]), [0, 1, 3, 2, 4, 5])
    return tf.reshape(tiles, [4 * n, side, side, 3])


def join(tiles):
    """Tiles [4n, S, S, 3] => [n, 2S, 2S, 3]: the inverse of cut()."""
    n, side = tiles.shape[0] // 4, tiles.shape[1]
    images = tf.transpose(tf.reshape(tiles, [n, 2, 2, side, side, 3]), [0, 1, 3, 2, 4, 5])
    return tf.reshape(images, [n, 2 * side, 2 * side, 3])


def combo(generator, images):
    """Translates crops as four tiles each, which the generator sees one by one: [n, 2S, 2S, 3] => [n, 2S, 2S, 3]."""
    return join(generator(cut(images)))

# ------------------------------------------------------------------------------------------------------------ losses

def origin_loss(vectors):
    """Mean of |v|^2 over vectors [n, vec_len]: real images lie near the origin."""
    return tf.reduce_mean(tf.reduce_sum(tf.square(vectors), -1))


def margin_loss(vectors, margin):
    """Mean of max(0, margin - |v|)^2 over vectors [n, vec_len]: fakes lie at least `margin` from the origin."""
    length = tf.sqrt(tf.reduce_sum(tf.square(vectors), -1) + 1e-12)  # the root has no gradient at 0
    return tf.reduce_mean(tf.square(tf.maximum(0.0, margin - length)))


def content_loss(vectors, translated):
    """Mean of 1 - cos(v_i - v_j, t_i - t_j), in [0, 2], over all pairs i < j of n images: the difference between two
    keeps its direction. v [n, vec_len]: vectors of the images, t: of their translations."""
    i, j = np.triu_indices(vectors.shape[0], 1)
    before, after = (tf.math.l2_normalize(tf.gather(v, i) - tf.gather(v, j), -1) for v in (vectors, translated))
    return tf.reduce_mean(1 - tf.reduce_sum(before * after, -1))


def overlap_loss(generator, images, joined):
    """Mean of |G(m) - m'|: a translation should not depend on where the image was cut. m: the tile in the middle of
    crops [n, 2S, 2S, 3]; m': the same place in `joined`, where parts of four tiles meet."""
    quarter = images.shape[1] // 4
    middle = (slice(None), slice(quarter, -quarter), slice(quarter, -quarter))
    return tf.reduce_mean(tf.abs(generator(images[middle]) - joined[middle]))


def patch_losses(real, fake):
    """Least-squares losses (of D, of G) of a PatchGAN's logits for style images and translations. (Mao et al. 2017)"""
    d_loss = (tf.reduce_mean(tf.square(real - 1)) + tf.reduce_mean(tf.square(fake))) / 2  # D(real) => 1, D(fake) => 0
    return d_loss, tf.reduce_mean(tf.square(fake - 1))  # D(fake) => 1, for G

# --------------------------------------------------------------------------------------------------------- algorithm

class SiameseGAN:
    """Siamese GAN with the interface that the second half of this file expects. training=False: only the generator."""

    name, default_data = "siamesegan", "hd"
    losses = ("discrim_origin", "discrim_margin", "gan", "content", "overlap")  # and "discrim_patch" if there is one
    network_flags = ("which_direction", "tile", "ngf", "ndf", "vec_len", "norm", "upsample", "spectral_norm", "combo")
    network_flags += ("patch_weight",)
    data_flags = ("train_size", "seed")
    multiple = 16  # the sides of what the generator takes are multiples of it
    aspect_ratio = 1.0

    def __init__(self, args, training):
        if args.tile % 32:
            raise UserError(f"--tile {args.tile}: give a multiple of 32, e.g. {max(32, round(args.tile / 32) * 32)}")
        self.args, self.load, self.crops_per_image = args, load_image, args.crops_per_image
        self.crop = args.tile_size, args.tile_size
        self.generator = build_generator(args.ngf, args.norm, args.upsample)
        self.networks, self.optimizers, self.learning_rates, self.state = {"generator": self.generator}, {}, {}, {}
        self.max_side = args.train_size if training else 0  # the samples of a training are reduced as it reduces images
        self.translate = tf.function(self.translate, input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)])
        if training:
            size = args.tile * 2 if args.combo else args.tile
            self.discriminator = build_discriminator(size, args.vec_len, args.ndf, args.spectral_norm)
            self.networks["discriminator"] = self.discriminator
            self.learning_rates = {"generator": args.lr, "discriminator": args.lr_d}
            if args.patch_weight:
                self.networks["patches"] = build_patch_discriminator(args.ndf)
                self.learning_rates["patches"], self.losses = args.lr_d, (*self.losses, "discrim_patch")
            for name, network in self.networks.items():
                rate, weights = self.learning_rates[name], network.trainable_variables
                self.optimizers[name] = build_optimizer(weights, rate, args.beta1, args.mixed_precision)
            self.train_step = compile_step(self.train_step, args.xla)

    def train_step(self, step, images):
        """One step of all networks on a batch of batches(). Returns the losses, float32 [len(losses)]."""
        args, (content, style) = self.args, images
        generator, discriminator = self.generator, self.discriminator
        with tf.GradientTape(persistent=True) as tape:
            fake = combo(generator, content)
            overlap_term = overlap_loss(generator, content, fake) if args.overlap_weight else tf.constant(0.0)
            if not args.combo:
                content, style, fake = cut(content), cut(style), cut(fake)
            style_vectors, content_vectors = tf.split(discriminator(tf.concat([style, content], 0)), 2)
            fake_vectors = discriminator(fake)
            origin_term = origin_loss(style_vectors)  # D(style) => 0
            margin_term = margin_loss(fake_vectors, args.margin)  # |D(fake)| => at least margin
            vectors = gathered(content_vectors), gathered(fake_vectors)  # of the whole batch, on several replicas
            content_term = content_loss(*vectors)  # D(c1) - D(c2) parallel to D(f1) - D(f2)
            gan_term = origin_loss(fake_vectors)  # D(fake) => 0, for G
            patch_d = patch_g = tf.constant(0.0)
            if args.patch_weight:
                patch_d, patch_g = patch_losses(*(self.networks["patches"](x) for x in (style, fake)))
            total_g = args.gan_weight * gan_term + args.content_weight * content_term
            total_g += args.overlap_weight * overlap_term + args.patch_weight * patch_g
            total_d = origin_term + margin_term + args.content_weight * content_term
            totals = {"generator": total_g, "discriminator": total_d, "patches": patch_d}
            scaled = {name: optimizer.scale_loss(totals[name]) for name, optimizer in self.optimizers.items()}
        weights = {name: self.networks[name].trainable_variables for name in scaled}
        gradients = {name: tape.gradient(scaled[name], weights[name]) for name in scaled}
        for name, optimizer in self.optimizers.items():
            optimizer.apply_gradients(zip(gradients[name], weights[name], strict=True))
        losses = [origin_term, margin_term, gan_term, content_term, overlap_term, patch_d]
        return tf.stack(losses[: len(self.losses)])

    def translate(self, images):
        """uint8 RGB [n, h, w, 3], sides multiples of 16 => their translations, float32 RGB [n, h, w, 3] in [0, 1]."""
        return (self.generator(tf.cast(images, tf.float32) / 127.5 - 1) + 1) / 2

    def find_training_images(self):
        """{domain: paths} to train on."""
        paths = {domain: [path for _, path in list_images(self.args.input_dir, "train", domain)] for domain in "AB"}
        return {domain: usable_images(paths[domain], 2 * self.args.tile) for domain in "AB"}

    def find_test_images(self, input_dir, split="test"):
        """[(name, path, direction)] of the images to translate."""
        direction = self.args.which_direction
        return [(name, path, direction) for name, path in list_images(input_dir, split, direction[0])]

    def find_samples(self, held_out):
        """[(name, path, direction)] of four images that training shows; held_out: of the test data if there is any."""
        has_test = (Path(self.args.input_dir) / f"test{self.args.which_direction[0]}").is_dir()
        return self.find_test_images(self.args.input_dir, "test" if held_out and has_test else "train")[:4]

    def batches(self, paths, start, share=None):
        """Training batches from step `start` on: content and style, float32 crops [batch, 2S, 2S, 3] in [-1, 1]."""
        args = self.args
        crops = 2 * args.tile, args.train_size, args.crops_per_image, args.min_contrast, args.cache_images
        rest = args.batch_size, args.flip
        A = crop_batches(paths["A"], *crops, *rest, args.seed, start, share)
        B = crop_batches(paths["B"], *crops, *rest, args.seed ^ 2**30, start, share)  # not as A
        return tf.data.Dataset.zip((A, B) if args.which_direction == "AtoB" else (B, A))

    def translate_images(self, images, direction):
        """uint8 RGB [n, h, w, 3] of any size => their translations, uint8 RGB [n, h, w, 3], as --stitch says."""
        if self.args.stitch == "tiles":
            return np.stack([translate_tiles(self.translate, image, self.args.tile) for image in images])
        window = max(images.shape) if self.args.stitch == "whole" else self.args.tile_size
        return translate_windows(self.translate, images, window, self.multiple, overlap=0.25)

    def translate_file(self, path, direction):
        """Path => uint8 RGB images by kind: inputs and outputs, at the size of the image; in training reduced."""
        inputs = load_image(path)
        if self.max_side:
            inputs = resize(inputs, reduced_size(tf.shape(inputs)[:2], self.max_side, 1))
        return {"inputs": inputs.numpy(), "outputs": self.translate_images(inputs.numpy()[None], direction)[0]}

    def build_serving_model(self, height=None, width=None, batch_size=None):
        """A Keras model of standard layers alone, for export: uint8 RGB [n, h, w, 3] => uint8 RGB [n, h, w, 3]."""
        generator = build_generator(self.args.ngf, self.args.norm, self.args.upsample)
        generator.set_weights(self.generator.get_weights())
        images = keras.Input((height, width, 3), batch_size, dtype="uint8", name="images")
        outputs = generator(ops.cast(images, "float32") / 127.5 - 1)
        return keras.Model(images, to_uint8((outputs + 1) / 2))

    def serve(self, serving, image):
        """uint8 RGB [h, w, 3] => its translation by a serving model, at its own size, uint8."""

        def reflected(side):  # indices of the rows or columns of the padded image, as np.pad does it
            period = tf.maximum(2 * side - 2, 1)
            index = tf.range(side + -side % self.multiple) % period
            return tf.minimum(index, period - index)

        height, width = tf.shape(image)[0], tf.shape(image)[1]
        padded = tf.gather(tf.gather(image, reflected(height)), reflected(width), axis=1)
        return serving(padded[None])[0, :height, :width]


def translate_tiles(translate, image, tile):
    """Translates an image of any size in tiles of tile x tile pixels and joins them, as the article does.

    uint8 [h, w, 3] => uint8 [h, w, 3]; the last row and column of tiles are padded by reflection. translate: uint8
    [n, tile, tile, 3] => float [n, tile, tile, 3] in [0, 1].
    """
    height, width = image.shape[:2]
    image = np.pad(image, [(0, -height % tile), (0, -width % tile), (0, 0)], "reflect")
    result = np.empty_like(image)
    for top in range(0, height, tile):
        tiles = image[top : top + tile].reshape(tile, -1, tile, 3).swapaxes(0, 1)  # [columns, tile, tile, 3]
        outputs = [np.asarray(translate(tiles[i : i + 32])) for i in range(0, len(tiles), 32)]  # bounded memory
        row = np.concatenate(outputs).swapaxes(0, 1).reshape(tile, -1, 3)
        result[top : top + tile] = np.rint(np.clip(row, 0, 1) * 255)
    return result[:height, :width]

# >>> second half: the same in all algorithm files (tools/fix_copies.py)
# =====================================================================================================================
# The algorithm ends here; the rest is the same in every algorithm file. Of an algorithm class it uses:
#   name, default_data          str: the script's name; the data of a training without --input_dir
#   network_flags, data_flags   flags that a checkpoint fixes (if in both: in training); that test and export take over
#   losses                      names of what train_step returns
#   __init__(args, training)    args: all flags as attributes; training=False builds what test and export need
# and of its objects:
#   networks, state             {name: keras.Model}, {name: any trackable}: what a checkpoint holds
#   optimizers, learning_rates  {name: optimizer}, {name: float}: the rates they start with
#   crops_per_image             int: crops that an image gives in an epoch
#   crop, aspect_ratio          (height, width) of LiteRT and ONNX models; width / height that test stretches images to
#   load(path)                  reads an image file as training does; raises tf.errors.OpError
#   find_training_images() => {kind: [path]};  find_test_images(input_dir) => [(name, path, direction)]
#   find_samples(held_out) => the same for the images that training shows; held_out: of the test data, if there is any
#   batches(paths, start, share) => tf.data.Dataset of training batches from step `start` on; paths: {kind: [path]};
#                               share: for which of several machines, see own_share()
#   train_step(step, batch) => float32 [len(losses)], compiled by compile_step(); step: int64 []
#   translate_images(images, direction) => uint8 RGB [n, h, w, 3], as the images; used by tools/translate.py
#   translate_file(path, direction) => {kind: uint8 RGB [h, w, 3]}; kinds: inputs, outputs, maybe recovered, targets
#   build_serving_model(height, width, batch_size) => keras.Model: uint8 RGB [n, h, w, 3] => uint8 RGB
#   serve(serving, image) => uint8 RGB: the translation of an image [h, w, 3] of any size by such a model
# =====================================================================================================================

boolean("help", False, "show this help")
choice("mode", None, ["train", "test", "export"], "what to do")
string("output_dir", None, "folder to write to; default: NAME_train, NAME_test or NAME_export, after the data's name")
string("checkpoint", None, "folder of a training to continue, test or export, or a checkpoint in it, DIR/model-2000")
integer("max_steps", None, "training steps in total, instead of --max_epochs", lower_bound=1)
integer("seed", None, "random seed, for repeatable trainings; default: drawn", lower_bound=0, upper_bound=2**32 - 1)
boolean("deterministic", None, "repeat bit for bit on a CPU, a few percent slower; default: on with --seed")
boolean("flip", True, "mirror training images at random")
boolean("no_flip", False, "the same as --noflip")
number("beta1", 0.5, "momentum of Adam", lower_bound=0, upper_bound=1)
number("ema_decay", 0.0, "samples, test and export use a moving average of the weights: 0.999, 0: none", 0, 0.99999)
choice("mixed_precision", "off", ["off", "bfloat16", "float16"], "bfloat16: faster on GPUs, some CPUs (docs/faq.md)")
boolean("xla", False, "compile the training step with XLA; meant for GPUs, slower on CPUs")
integer("summary_freq", 100, "steps between TensorBoard scalars, 0: none", lower_bound=0)
integer("progress_freq", 50, "steps between progress lines, 0: none", lower_bound=0)
integer("display_freq", 500, "steps between sample images in index.html and TensorBoard, 0: none", lower_bound=0)
integer("save_freq", 2000, "steps between checkpoints, 0: only at the end", lower_bound=0)
integer("trace_freq", 0, "steps between profiler traces of one step for TensorBoard, 0: none", lower_bound=0)
integer("replicas", 1, "GPUs of this machine that share each batch; without GPUs parts of the CPU, for tests", 1)
boolean("cluster", False, "share each batch with the other machines named in TF_CONFIG; see docs/distribute.md")
choice("export_format", "saved_model", ["saved_model", "litert", "keras", "onnx"], "what export writes")
choice("quantize", "none", ["none", "float16", "int8"], "weights of a LiteRT export: a half or a quarter of the space")

RUN_FLAGS = ("help", "mode", "checkpoint", "output_dir", "saved", "strategy")  # not kept in options.json


class UserError(Exception):
    """An error that the user can fix. Its message is one line: what was wrong, what to do."""


# ------------------------------------------------------------------------------------------------------- image files

def list_images(folder, split="", domain=""):
    """[(name, path)] of the images directly in a folder, in natural order (2 before 10); a file gives itself.

    With a split and a domain: of folder/testA and the like; a test folder without such parts is taken as it is. Names
    are those of the files without extension, or with it where a.jpg and a.png would share one.
    """
    folder = Path(folder)
    parts = (folder / f"{s}{d}" for s in ("train", "test") for d in "AB")
    if domain and (split == "train" or any(part.is_dir() for part in parts)):
        folder = folder / f"{split}{domain}"
    if not folder.exists():
        expected = "a folder with trainA, trainB, testA and testB" if domain else "the folder of images"
        raise UserError(f"no such folder: {folder}; --input_dir names {expected}")
    types = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
    named = [path for path in folder.glob("*") if path.name.lower().endswith(types) and path.name[0] != "."]
    if not (paths := [folder] if folder.is_file() else named):
        raise UserError(f"no images in {folder}; expected files ending in {', '.join(types)}")
    "".join(map(str, paths)).encode()  # raises UnicodeError for names that TensorFlow would refuse
    paths.sort(key=lambda path: [int(s) if s.isdecimal() else s.lower() for s in re.split(r"(\d+)", path.name)])
    stems = collections.Counter(path.stem for path in paths)
    names = [path.stem if stems[path.stem] == 1 else path.name for path in paths]
    names = names if len(set(names)) == len(names) else [path.name for path in paths]  # a.jpg, a.png and a.jpg.png
    return list(zip(names, map(str, paths), strict=True))


def find_held_out(input_dir):
    """The test data of a training: the folder itself if it has testA or testB; val or test next to train; else None."""
    folder = Path(input_dir)
    beside = [folder.with_name(folder.name.replace("train", name, 1)) for name in ("val", "test")]
    has_domains = (folder / "testA").is_dir() or (folder / "testB").is_dir()
    beside = [path for path in beside if folder.name.startswith("train") and path.is_dir()]
    return str(folder) if has_domains else str(beside[0]) if beside else None


def decode_image(contents):
    """Bytes of a JPEG, PNG, BMP or GIF => uint8 [h, w, 3]. Grey becomes RGB, transparency is laid over white."""
    jpeg = functools.partial(tf.io.decode_jpeg, contents, dct_method="INTEGER_ACCURATE")  # the pixels of Pillow
    other = functools.partial(tf.io.decode_image, contents, expand_animations=False)  # 16 bits are cut to 8
    image = tf.ensure_shape(tf.cond(tf.io.is_jpeg(contents), jpeg, other), [None, None, None])  # [h, w, 1 to 4]
    channels = tf.shape(image)[-1]

    def to_rgb():
        has_alpha = channels % 2 == 0
        colour = tf.cast(image[..., : channels - tf.cast(has_alpha, tf.int32)], tf.float32) * tf.ones(3)  # 1 or 3 => 3
        alpha = tf.where(has_alpha, tf.cast(image[..., channels - 1 :], tf.float32) / 255, 1.0)  # [h, w, 1]
        return tf.cast(tf.round(colour * alpha + 255 * (1 - alpha)), tf.uint8)

    return tf.ensure_shape(tf.cond(channels == 3, lambda: image, to_rgb), [None, None, 3])  # RGB is not copied


def decode_by_pillow(path):
    """Path of an image, bytes => uint8 [h, w, 3]: upright by its EXIF data, with transparency laid over white."""
    from PIL import Image, ImageOps

    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file).convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def load_image(path):
    """Path of an image => uint8 [h, w, 3]."""
    contents = tf.io.read_file(path)  # TensorFlow misreads some BMPs, and does not know EXIF data and a PNG's tRNS
    special = tf.strings.regex_full_match(tf.strings.substr(contents, 0, 2**16), r"BM\C*|\C*(Exif|tRNS)\C*")
    by_pillow = functools.partial(tf.numpy_function, decode_by_pillow, [path], tf.uint8)
    return tf.ensure_shape(tf.cond(special, by_pillow, lambda: decode_image(contents)), [None, None, 3])


@contextlib.contextmanager
def naming_unreadable(paths, load):
    """Turns an error of TensorFlow into a UserError that names the first path which load() cannot take."""
    try:
        yield
    except tf.errors.OpError:
        for path in paths:
            try:
                load(path)
            except tf.errors.OpError as error:
                reason = re.search("a pair .* images", error.message)  # see load_pair
                damaged = "cannot be read as an image (damaged, or another format): repair or remove it"
                raise UserError(f"{path}: {reason[0]}" if reason else f"{path} {damaged}") from None
        raise  # the images are good


def resize_by_pillow(image, size):
    """NumPy arrays: uint8 [h, w, 3], (height, width) => uint8 [height, width, 3]."""
    from PIL import Image

    image = Image.fromarray(image).resize((size[1], len(image)), Image.Resampling.BICUBIC)
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BICUBIC))  # Pillow 13 may take the height first


def resize(image, size):
    """uint8 [h, w, 3] => uint8 [size[0], size[1], 3], with the pixels of the originals: bicubic, first the width."""
    return tf.ensure_shape(tf.numpy_function(resize_by_pillow, [image, size], tf.uint8), [None, None, 3])


def resize_in_graph(image, size):
    """As resize(), for exports, which cannot hold Pillow: at most 2 levels apart, in under 1 % of the values."""
    for step in ([tf.shape(image)[0], size[1]], size):
        image = tf.image.resize(image, step, "bicubic", antialias=True)  # float32
        image = tf.cast(tf.floor(tf.clip_by_value(image, 0, 255) + 0.5), tf.uint8)
    return image


def shuffled_index(position, count, seed):
    """The index in [0, count) at a position, int64, of an endless order: each epoch is a new permutation."""
    epoch, place = position // count, position % count
    # index_shuffle uses only the last 8 bits of each of the two numbers, so they have to be random
    epoch_seed = tf.random.stateless_uniform([2], tf.stack([tf.constant(seed, tf.int64), epoch]), None, None, tf.uint32)
    return tf.random.experimental.index_shuffle(place, epoch_seed, tf.constant(count - 1, tf.int64))


def with_own_threads(dataset):
    """A tf.data.Dataset that does not take the threads of the training step."""
    options = tf.data.Options()
    options.threading.private_threadpool_size = os.cpu_count()
    return dataset.with_options(options)


# ------------------------------------------------------------------------------------------------------ several devices
# A replica is a device that computes a part of each batch; all replicas have the same weights. Of one, nothing changes.

def own_share(batch_size, share):
    """The images of a batch for each replica, and is_own(position): whether the image there is for this machine's.
    share: tf.distribute.InputContext, or None for the only machine, with one replica."""
    share = share or tf.distribute.InputContext()
    part = batch_size // share.num_input_pipelines
    return batch_size // share.num_replicas_in_sync, lambda i: i % batch_size // part == share.input_pipeline_id


def gathered(tensor):
    """[n, ...] on each replica => [replicas * n, ...], the same on all; gradients flow back to each."""
    replica = tf.distribute.get_replica_context()
    if replica.num_replicas_in_sync == 1:
        return tensor
    whole = replica.all_gather(tf.identity(tensor), 0)  # it wants a tensor of this device, and a dense gradient
    return tf.reshape(whole, [replica.num_replicas_in_sync * tensor.shape[0], *tensor.shape[1:]])


def own_part(tensor, groups=1):
    """[replicas * n, ...], the same on all replicas => [n, ...], of this one. The first axis may be several such."""
    replica, shape = tf.distribute.get_replica_context(), tensor.shape[1:]
    parts = tf.reshape(tensor, [groups, replica.num_replicas_in_sync, -1, *shape])
    return tf.reshape(parts[:, replica.replica_id_in_sync_group], [-1, *shape])


def compile_step(train_step, xla):
    """Compiles train_step(step, batch) => losses: each replica takes its own batch, the losses are means of all."""
    strategy = tf.distribute.get_strategy()
    return tf.function(lambda *args: strategy.reduce("MEAN", strategy.run(train_step, args), None), jit_compile=xla)


def weights_init():
    """Convolution kernels start as N(0, 0.02)."""
    return keras.initializers.RandomNormal(0.0, 0.02)


class Adam(keras.optimizers.Adam):
    """Adam (Kingma, Ba 2014) numerically as in PyTorch, with one fused kernel per variable: 9 % less time per step."""

    def scale_loss(self, loss):
        return loss / tf.distribute.get_strategy().num_replicas_in_sync  # Keras sums the gradients of all replicas

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        m, v = self._momentums[index].value.handle, self._velocities[index].value.handle
        step = tf.cast(self.iterations.value + 1, tf.float32)
        power1, power2 = tf.pow(self.beta_1, step), tf.pow(self.beta_2, step)
        epsilon = self.epsilon * tf.sqrt(1 - power2)  # PyTorch and the paper add it after the bias correction
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle, m=m, v=v, beta1_power=power1, beta2_power=power2, lr=learning_rate,
            beta1=self.beta_1, beta2=self.beta_2, epsilon=epsilon, grad=gradient,
        )  # fmt: skip


class LossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Keras's, for several replicas: an infinity on one of them skips the update and lowers the scale on all."""

    def scale_loss(self, loss):
        return super().scale_loss(self.inner_optimizer.scale_loss(loss))

    def check_finite(self, gradients):
        bad = tf.cast(tf.logical_not(super().check_finite(gradients)), tf.float32)
        return tf.distribute.get_replica_context().all_reduce("SUM", bad) == 0


def build_optimizer(weights, learning_rate, beta1, mixed_precision):
    """Adam for a list of weights. With float16 it scales the loss, so that small gradients do not vanish."""
    optimizer = Adam(learning_rate, beta_1=beta1, beta_2=0.999, epsilon=1e-8)
    if mixed_precision == "float16":
        optimizer = LossScaleOptimizer(optimizer)
    optimizer.build(weights)
    return optimizer


def learning_rate_at(step, learning_rate, total, decay_steps):
    """The learning rate after `step` of `total` steps: constant, then linearly to 0 over the last decay_steps."""
    return learning_rate * min(1.0, (total - step) / max(1.0, min(decay_steps, total)))


def by_batch_size(translate):
    """Compiles translate(images), uint8 [n, h, w, 3] => any, once for each n. Heights and widths may vary."""
    compiled = functools.cache(lambda n: tf.function(translate, [tf.TensorSpec([n, None, None, 3], tf.uint8)]))
    return lambda images: compiled(len(images))(images)


def translate_windows(translate, images, window, multiple, min_side=1, overlap=0.5):
    """Translates images of any size, in memory bounded by the window. uint8 [n, h, w, 3] => uint8 [n, h, w, 3].

    translate: uint8 [n, h, w, 3] => float [n, h, w, 3] in [0, 1], for sides that are multiples of `multiple`, at least
    min_side. A side of up to `window` pixels goes through whole, padded by reflection. A longer one is covered by
    windows that share `overlap` of their length, at most 0.5, with the next; squared sines blend them without seams.
    """
    window = math.ceil(window / multiple) * multiple
    shared = round(window * overlap)

    def cover(side):  # => the windows along a side: their length, starts, and weights [starts][length]
        length = window if side > window else max(min_side, math.ceil(side / multiple) * multiple)
        starts = range(0, max(1, side - shared), window - shared)  # even steps: strides fall alike in all windows
        ramp = np.sin(np.minimum(1, (np.arange(length) + 0.5) / shared) * np.pi / 2) ** 2
        total = np.zeros(starts[-1] + length)
        for start in starts:
            total[start : start + length] += ramp * ramp[::-1]
        return length, starts, [np.float32(ramp * ramp[::-1] / total[start : start + length]) for start in starts]

    height, width = images.shape[1:3]
    (rows, tops, row_weights), (columns, lefts, column_weights) = cover(height), cover(width)
    bottom, right = tops[-1] + rows, lefts[-1] + columns
    images = np.pad(images, [(0, 0), (0, bottom - height), (0, right - width), (0, 0)], "reflect")
    result, band = np.empty_like(images), np.zeros((len(images), rows, right, 3), np.float32)  # band: sums of windows
    for top, next_top, row_weight in zip(tops, [*tops[1:], bottom], row_weights, strict=True):
        for left, column_weight in zip(lefts, column_weights, strict=True):
            output = np.asarray(translate(images[:, top : top + rows, left : left + columns]))
            band[:, :, left : left + columns] += row_weight[:, None, None] * column_weight[None, :, None] * output
        finished = next_top - top
        result[:, top:next_top] = np.rint(np.clip(band[:, :finished], 0, 1) * 255)
        band = np.concatenate([band[:, finished:], np.zeros_like(band[:, :finished])], 1)
    return result[:, :height, :width]


def to_uint8(rgb):
    """RGB in [0, 1] => uint8, rounded."""
    return ops.cast(ops.round(ops.clip(rgb, 0.0, 1.0) * 255), "uint8")


# ------------------------------------------------------------------------------------------------------ output files

@contextlib.contextmanager
def written_whole(path):
    """Gives a temporary path. The file or folder written there replaces `path` whole, or not at all after an error."""
    part = Path(path).with_name(f"part-{os.getpid()}-{Path(path).name}")  # the extension tells Keras the format
    try:
        yield part
        if os.path.isdir(path):
            tf.io.gfile.rmtree(str(path))
        part.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        tf.io.gfile.rmtree(str(part)) if part.is_dir() else part.unlink(missing_ok=True)


def write_file(path, content):
    """Writes bytes, a text, or anything else as JSON. The file is replaced whole or not at all."""
    content = content if isinstance(content, (bytes, str)) else json.dumps(content, indent=2) + "\n"
    with written_whole(path) as part:
        part.write_bytes(content if isinstance(content, bytes) else content.encode())


def write_images(folder, name, images, aspect_ratio=1.0):
    """Writes {kind: uint8 [h, w, 3]} as images/NAME-KIND.png, and a preview of each that is over 1024 pixels wide."""
    for kind, image in images.items():
        path, (height, width) = f"{folder}/images/{name}-{kind}", image.shape[:2]
        image = image if aspect_ratio == 1 else resize(image, [height, round(height * aspect_ratio)])
        write_file(f"{path}.png", tf.io.encode_png(image, compression=1).numpy())  # 10 % larger, a fifth of the time
        Path(f"{path}-preview.jpg").unlink(missing_ok=True)  # of an earlier image
        if width > 1024:
            preview = resize(image, [max(1, height * 512 // width), 512])
            write_file(f"{path}-preview.jpg", tf.io.encode_jpeg(preview).numpy())


def write_page(folder, title, columns, rows):
    """Writes index.html into a folder, a table of its images. rows: [(texts, names of images/NAME.png)]."""

    def cell(name):
        path, preview = f"images/{name}.png", f"images/{name}-preview.jpg"
        shown = preview if (folder / preview).exists() else path
        url, shown = (html.escape(urllib.parse.quote(file)) for file in (path, shown))
        return f'<td><a href="{url}"><img src="{shown}" alt="{html.escape(path)}" loading="lazy"></a></td>'

    def row(texts, names=(), tag="td"):
        return "".join([f"<{tag}>{html.escape(text)}</{tag}>" for text in texts] + [cell(name) for name in names])

    style = "body{font:14px sans-serif;margin:1em}td,th{padding:4px;vertical-align:top;text-align:left}"
    page = f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
    page += f"<style>{style}img{{max-width:512px}}</style></head><body>\n<h1>{html.escape(title)}</h1>\n<table>\n"
    page += "".join(f"<tr>{cells}</tr>\n" for cells in [row(columns, tag="th"), *(row(*cells) for cells in rows)])
    write_file(folder / "index.html", f"{page}</table>\n</body></html>\n")


def compare(outputs, targets):
    """Two uint8 images [h, w, 3] => L1 in [0, 1], PSNR in dB (equal: 100), SSIM in [-1, 1] (Wang et al. 2004)."""
    outputs, targets = (tf.cast(image, tf.float32) / 255 for image in (outputs, targets))
    l1, mean_square = tf.reduce_mean(tf.abs(outputs - targets)), tf.reduce_mean(tf.square(outputs - targets))
    ssim = tf.image.ssim(outputs, targets, 1.0, filter_size=min(11, *outputs.shape[:2]))
    return {"l1": float(l1), "psnr": -10 * math.log10(max(float(mean_square), 1e-10)), "ssim": float(ssim)}


def find_checkpoint(path):
    """The newest checkpoint in the folder of a training, or the one that the path names (DIR/model-2000); else None."""
    if not os.path.isdir(path):
        return path if os.path.exists(f"{path}.index") else None
    steps = [int(match[1]) for name in os.listdir(path) if (match := re.fullmatch(r"model-(\d+)\.index", name))]
    return os.path.join(path, f"model-{max(steps)}") if steps else None


def read_options(checkpoint, algorithm):
    """The options.json next to a checkpoint: the flags of its training."""
    if not find_checkpoint(checkpoint):
        raise UserError(f"no checkpoint in {checkpoint}: --checkpoint names the --output_dir of a training")
    path = Path(find_checkpoint(checkpoint)).parent / "options.json"
    try:
        newer = {"norm", "upsample", "patch_weight"} & set(FLAGS)  # older trainings lack them
        saved = {name: FLAGS[name].default for name in newer} | json.loads(path.read_text(encoding="utf-8"))
        required = {"input_dir", *algorithm.network_flags, *algorithm.data_flags}
        mine = saved["script"] == algorithm.name
        damaged = (mine and not required <= set(saved)) or not saved["script"].isalnum()
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        damaged = True
    if damaged:
        raise UserError(f"{path} is missing or damaged: restore it, since only it describes the networks")
    if saved["script"] != algorithm.name:
        raise UserError(f"{checkpoint} was trained by {saved['script']}.py, not {algorithm.name}.py: use the former")
    return saved


def weights_of(model):
    """The weights of an algorithm's networks by name, in the form that a checkpoint takes."""
    return {name: {w.path: w.value for w in network.weights} for name, network in model.networks.items()}


def restore(path, objects):
    """Restores all objects of {name: object} from a checkpoint, which may hold more."""
    try:
        tf.train.Checkpoint(**objects).restore(path).assert_existing_objects_matched().expect_partial()
    except (AssertionError, ValueError, IndexError, RuntimeError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError(f"{path} cannot be restored: it is damaged or belongs to other networks: {reason}") from error


def is_averaged(checkpoint):
    """Whether a checkpoint holds averages of the generators' weights: that of a training with --ema_decay."""
    return any(name.startswith("averaged/") for name, _ in tf.train.list_variables(checkpoint))


def restore_generators(model, args):
    """Restores the networks of test and export, averaged ones with --ema_decay. Returns the checkpoint's path."""
    checkpoint, weights = find_checkpoint(args.checkpoint), weights_of(model)
    if args.ema_decay and not is_averaged(checkpoint):
        raise UserError(f"{checkpoint} holds no averaged weights: leave --ema_decay out")
    restore(checkpoint, {"averaged": weights} if args.ema_decay else weights)
    return checkpoint


def wait_for_workers(seconds=300):
    """Waits for the workers that TF_CONFIG names, since TensorFlow itself waits for ever. Returns their number."""
    import socket

    try:
        config = json.loads(os.environ["TF_CONFIG"])
        workers, task = config["cluster"].pop("worker"), config["task"]
        missing = [re.fullmatch(r"(.+):(\d+)", worker).groups() for worker in workers]
        _, port = missing[range(len(workers)).index(task["index"])]
        if config["cluster"] or task["type"] != "worker":
            raise ValueError
        listener = socket.create_server(("", int(port)))
    except OSError as error:
        raise UserError(f"port {port} of TF_CONFIG: {error.strerror}; choose another one, on all machines") from None
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError):
        example = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
        raise UserError(f"--cluster needs TF_CONFIG in the environment, for the first machine e.g. {example}") from None
    print(f"waiting for the workers {', '.join(workers)}, {seconds} s at most", flush=True)
    deadline = time.monotonic() + seconds
    with listener:  # until TensorFlow takes the port
        while missing:
            try:
                socket.create_connection(missing[0], 5).close()
                missing.pop(0)
            except OSError as error:
                if time.monotonic() > deadline:
                    message = f"no answer from {':'.join(missing[0])} in {seconds} s ({error.strerror or error})"
                    raise UserError(f"{message}: start all workers again") from None
                time.sleep(0.2)
    return len(workers)


def start_devices(deterministic, replicas=1, cluster=False):
    """Starts TensorFlow. Returns a tf.distribute.Strategy and a line on what computes. With `deterministic` a CPU runs
    one operation at a time: concurrent ones sometimes change the order of oneDNN's sums, so that no training repeats
    bit for bit. cluster: together with the other machines of TF_CONFIG, each with as many replicas."""
    tf.get_logger().setLevel("ERROR")  # for a checkpoint that does not fit, only our message
    (cpu,), gpus = map(tf.config.list_physical_devices, ("CPU", "GPU"))
    workers = wait_for_workers() if cluster else 1
    with quiet_stderr():
        with contextlib.suppress(RuntimeError):  # it runs already, in a notebook
            if deterministic and not gpus:
                tf.config.threading.set_inter_op_parallelism_threads(1)
            if replicas > 1 and not gpus:
                tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
            tf.config.set_visible_devices(gpus[:replicas], "GPU")  # the others stay free
        strategy = tf.distribute.MultiWorkerMirroredStrategy() if cluster else tf.distribute.get_strategy()
        devices = tf.config.list_logical_devices("GPU" if gpus else "CPU")  # starts TensorFlow
        usable = strategy.num_replicas_in_sync // workers if cluster else len(devices)
        if usable < replicas:
            raise UserError(f"--replicas {replicas}: TensorFlow sees {len(gpus)} GPUs here: give at most {usable}")
        if replicas > 1 and not cluster:
            strategy = tf.distribute.MirroredStrategy([device.name for device in devices[:replicas]])
    names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus[:replicas]]
    names += [f"{replicas} of {len(gpus)} GPUs"] * (len(gpus) > replicas)
    return strategy, f"{', '.join(names) or 'no GPU found, using the CPU'} (TensorFlow {tf.__version__})"


# ----------------------------------------------------------------------------------------------- train, test, export

def train(args, algorithm):
    """Trains from scratch, or on from args.checkpoint. Returns the exit code: 0, or 128 + the signal that came."""
    output_dir, begin = Path(args.output_dir), find_checkpoint(args.checkpoint) if args.checkpoint else None
    there = find_checkpoint(output_dir)
    if there and (not begin or not os.path.samefile(f"{begin}.index", f"{there}.index")):
        raise UserError(f"{there} exists: continue it with --checkpoint {output_dir}, or choose another --output_dir")
    strategy, chief = args.strategy, getattr(args.strategy.cluster_resolver, "task_id", 0) == 0  # the chief writes
    if args.batch_size % (parts := strategy.num_replicas_in_sync):
        raise UserError(f"--batch_size {args.batch_size} cannot be shared by {parts} replicas: give a multiple of that")
    if args.xla and parts > 1:
        raise UserError("--xla is for one replica: leave it out, or --replicas and --cluster")
    with strategy.scope():
        model = algorithm(args, training=True)
    shown = algorithm(args, training=False) if args.ema_decay else model  # makes the samples
    paths, samples = model.find_training_images(), find_samples(shown) if args.display_freq and chief else []
    epoch_size = max(map(len, paths.values())) * model.crops_per_image
    total = args.max_steps or math.ceil(args.max_epochs * epoch_size / args.batch_size)
    saved_step, saved_averages = tf.Variable(0, dtype=tf.int64), tf.Variable(tf.zeros(len(model.losses)))
    optimizers = {f"{name}_optimizer": [v.value for v in model.optimizers[name].variables] for name in model.optimizers}
    objects = {**weights_of(model), **optimizers, **model.state, "step": saved_step, "smoothed": saved_averages}
    if begin:
        restore(begin, objects)

    @tf.function(jit_compile=not tf.config.list_physical_devices("GPU"))  # on CPUs one pass over memory instead of four
    def average(decay):  # of the generators' weights, after a step
        for name, network in shown.networks.items():
            for mean, weight in zip(network.weights, model.networks[name].weights, strict=True):
                mean.assign(decay * mean + (1 - decay) * weight)

    if args.ema_decay:
        objects["averaged"] = weights_of(shown)
        average(tf.constant(0.0))
        if begin and is_averaged(begin):
            restore(begin, {"averaged": objects["averaged"]})
    first = step = int(saved_step)  # steps done
    averages, times = saved_averages.numpy(), []  # moving averages of the losses; seconds of the last steps
    options = {name: value for name, value in vars(args).items() if name not in RUN_FLAGS}

    gather = tf.function(lambda value: strategy.experimental_local_results(strategy.run(gathered, (value,)))[0])

    def of_workers(value):  # the values of all; each has to ask at the same step
        return gather(tf.constant([value], tf.int64)).numpy().tolist() if args.cluster else [value]

    names = [Path(path).name for kind in paths.values() for path in kind]
    facts = json.dumps([step, names, {**options, "input_dir": "", "device": ""}])
    if len({*of_workers(int(tf.strings.to_hash_bucket_fast(facts, 2**62)))}) > 1:
        message = f"the workers disagree; here: step {step}, seed {args.seed}, {len(names)} images"
        raise UserError(f"{message}: give all the same images, checkpoint and flags, with a --seed")
    lock = os.open(os.devnull, os.O_RDONLY)
    if chief:
        (output_dir / "images").mkdir(parents=True, exist_ok=True)
        lock = lock_folder(output_dir)
        write_file(output_dir / "options.json", {"script": algorithm.name, **options})
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(**objects), output_dir, 3, checkpoint_name="model")
    writer = tf.summary.create_file_writer(str(output_dir)) if chief else tf.summary.create_noop_writer()
    counts = ", ".join(f"{len(kind)} {name}" for name, kind in paths.items())
    print(f"data: {args.input_dir} ({counts}); writing to {output_dir}; seed {args.seed}; {args.device}")
    print("; ".join(f"{name} {net.count_params():,} parameters" for name, net in model.networks.items()), flush=True)

    def own_batches(share):
        found, endless = model.batches(paths, step, share), tf.data.experimental.assert_cardinality(-1)
        return found.apply(endless) if args.cluster else found  # or workers ask each other at every step for the end

    def check_finite(values):  # {name: array, or a dict or list of them}
        bad = [name for name in values if not all(np.isfinite(v).all() for v in tf.nest.flatten(values[name]))]
        if bad:
            last = find_checkpoint(output_dir) or "none"
            raise UserError(f"step {step}: not finite ({', '.join(bad)}); lower --lr; last good checkpoint: {last}")

    def save():
        if chief and manager.latest_checkpoint != os.path.join(manager.directory, f"model-{step}"):
            check_finite({**weights_of(model), **optimizers})
            if not (output_dir / "options.json").exists():
                raise UserError(f"{output_dir} was removed or renamed while training: step {step} is lost")
            saved_step.assign(step)
            saved_averages.assign(averages)
            manager.save(checkpoint_number=step)

    def due(frequency):
        return chief and frequency and (step % frequency == 0 or step == total)

    signals, unreadable, stopped = [], None, False  # Ctrl-C and SIGTERM let the current step finish
    handlers = {n: signal.signal(n, lambda n, _: signals.append(n)) for n in (signal.SIGINT, signal.SIGTERM)}
    bar = tqdm(total=total, initial=step, unit="step", file=sys.stdout, disable=not sys.stdout.isatty())
    try:
        batches = iter(strategy.distribute_datasets_from_function(own_batches))
        while step < total and not stopped:
            start, signalled = time.perf_counter(), bool(signals)
            try:
                with naming_unreadable([path for kind in paths.values() for path in kind], model.load):
                    batch = next(batches)
            except UserError as error:
                unreadable = error
            if stopped := any(of_workers(signalled or unreadable is not None)):
                break
            for name, optimizer in model.optimizers.items():
                decay_steps = args.decay_epochs * epoch_size / args.batch_size
                optimizer.learning_rate = learning_rate_at(step, model.learning_rates[name], total, decay_steps)
            if traced := due(args.trace_freq):
                tf.profiler.experimental.start(str(output_dir))
            losses = model.train_step(tf.constant(step, tf.int64), batch).numpy()
            if traced:
                tf.profiler.experimental.stop()
            if args.ema_decay:  # less at first, as TensorFlow's ExponentialMovingAverage
                average(tf.constant(min(args.ema_decay, (1 + step) / (10 + step))))
            averages = losses if step == 0 else 0.99 * averages + 0.01 * losses
            step += 1
            check_finite(dict(zip(model.losses, losses, strict=True)))
            times = [] if step == first + 1 else [*times, time.perf_counter() - start]  # the first step compiles
            seconds = sum(times) / max(1, len(times))
            scalars = {f"loss/{name}": value for name, value in zip(model.losses, averages, strict=True)}
            scalars |= {f"learning_rate/{name}": model.optimizers[name].learning_rate for name in model.optimizers}
            scalars["images_per_second"] = rate = args.batch_size / seconds if times else 0
            epoch, minutes = math.ceil(step * args.batch_size / epoch_size), int((total - step) * seconds / 60)
            values = "  ".join(f"{name} {value:.4f}" for name, value in zip(model.losses, averages, strict=True))
            bar.set_description_str(f"epoch {epoch}", refresh=False)
            bar.set_postfix_str(values, refresh=False)
            bar.update()
            if due(args.progress_freq):
                left, times = f"{minutes // 60}h{minutes % 60:02}m left", []
                if bar.disable:  # no terminal
                    print(f"epoch {epoch}  step {step}/{total}  {rate:.2f} images/s  {left}  {values}", flush=True)
            with writer.as_default(step):
                for name, value in scalars.items() if due(args.summary_freq) else ():
                    tf.summary.scalar(name, value)
                if samples and due(args.display_freq):
                    show_samples(shown, samples, output_dir, step)
            if due(args.save_freq):
                save()
        save()
        writer.close()
    except OSError:  # stdout has gone, as in `| head`, or is full
        save()
        raise
    finally:
        bar.close()
        os.close(lock)
        for n, handler in handlers.items():
            signal.signal(n, handler)
    if unreadable:
        raise UserError(f"{unreadable}; step {step} is saved: continue with --checkpoint {output_dir}")
    if stopped or signals:
        print(f"stopped and saved at step {step}; continue with --mode train --checkpoint {output_dir}")
        return 128 + (signals or [signal.SIGTERM])[0]
    page = f"; samples in {output_dir / 'index.html'}" if samples else ""
    print(f"done: step {step}{page}; next: --mode test --checkpoint {output_dir}")
    return 0


def lock_folder(folder):
    """Keeps other trainings out of a folder until the result is closed, and removes what a killed one left there."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise UserError(f"{folder}: another training writes to it: choose another --output_dir") from None
    for path in folder.iterdir():
        damaged = path.name == "checkpoint" and not re.match(rb'model_checkpoint_path: "[ -~]+"\n', path.read_bytes())
        if damaged or re.fullmatch(r"model-\d+_temp|checkpoint\.tmp.*|part-.*", path.name):
            tf.io.gfile.rmtree(str(path)) if path.is_dir() else path.unlink()
    return lock


def find_samples(model, held_out=True):
    """[(name, path, direction)] to show during a training: held-out images or, with a warning, training images."""
    try:
        samples = model.find_samples(held_out)
        for _, path, _ in samples:
            with naming_unreadable([path], model.load):
                model.load(path)
        return samples
    except UserError as error:
        if not held_out:
            raise
        print(f"warning: {error}; samples are shown of the training images", file=sys.stderr)
        return find_samples(model, held_out=False)


def show_samples(model, samples, output_dir, step):
    """Translates the samples for TensorBoard and for the index.html of a training, newest step first."""
    for name, path, direction in samples:
        with naming_unreadable([path], model.load):
            images = model.translate_file(path, direction)
        write_images(output_dir, f"step-{step:08}-{name}", images)
        for kind, image in images.items():
            tf.summary.image(f"{name}/{kind}", image[None])
    found = [re.fullmatch(r"(step-(\d+)-(.*))-outputs\.png", path.name) for path in (output_dir / "images").iterdir()]
    found = sorted((match.groups() for match in found if match), key=lambda groups: (-int(groups[1]), groups[2]))
    rows = [([str(int(s)), name], [f"{prefix}-{kind}" for kind in images]) for prefix, s, name in found]
    write_page(output_dir, f"{output_dir.name}: samples", ["step", "name", *images], rows)


def test(args, algorithm):
    """Translates the images of args.input_dir with the networks of args.checkpoint. Returns the exit code."""
    model = algorithm(args, training=False)
    checkpoint = restore_generators(model, args)
    sources, output_dir = model.find_test_images(args.input_dir), Path(args.output_dir)
    if find_checkpoint(output_dir):
        raise UserError(f"{output_dir} holds a training, with an index.html of its own: choose another --output_dir")
    (output_dir / "images").mkdir(parents=True, exist_ok=True)
    print(f"data: {args.input_dir} ({len(sources)} images); writing to {output_dir}; {args.device}", flush=True)
    (output_dir / "metrics.json").unlink(missing_ok=True)  # of an earlier test
    errors, metrics, rows, images, digits = [], {}, [], {}, "{:.4g}".format

    def finish(name, images):  # while the next image is translated
        if "targets" in images:
            metrics[name] = compare(images["outputs"], images["targets"])
        write_images(output_dir, name, images, model.aspect_ratio)
        rows.append(([name, *map(digits, metrics.get(name, {}).values())], [f"{name}-{kind}" for kind in images]))

    with ThreadPoolExecutor(1) as behind:
        finishing = behind.submit(str)
        for done, (name, path, direction) in enumerate(sources, start=1):
            try:
                with naming_unreadable([path], model.load):
                    images = model.translate_file(path, direction)
                finishing.result()  # of the image before; raises its errors
                finishing = behind.submit(finish, name, images)
            except UserError as error:
                errors.append(error)
            if images and (done % 50 == 0 or done == len(sources)):
                finishing.result()
                mean = {k: np.mean([m[k] for m in metrics.values()]) for k in ("l1", "psnr", "ssim") if metrics}
                table = [(["mean", *map(digits, mean.values())], [])] * bool(mean) + rows
                write_page(output_dir, f"{output_dir.name}: {args.checkpoint}", ["name", *mean, *images], table)
            if args.progress_freq and (done % args.progress_freq == 0 or done == len(sources)):
                print(f"{done}/{len(sources)} images", flush=True)
    if metrics:
        write_file(output_dir / "metrics.json", {"checkpoint": checkpoint, "mean": mean, "images": metrics})
        print("L1 {l1:.4f}  PSNR {psnr:.2f} dB  SSIM {ssim:.4f}".format(**mean), f" (means of {len(metrics)} images)")
    if errors:
        raise UserError(f"{errors[0]}; {len(errors)} of {len(sources)} could not be translated")
    print(f"done: see {output_dir / 'index.html'}")
    return 0


def export(args, algorithm):
    """Writes the generator of args.checkpoint in args.export_format, uint8 RGB in and out. Returns the exit code."""
    model, kind = algorithm(args, training=False), args.export_format
    restore_generators(model, args)
    files = {"saved_model": "saved_model", "keras": "model.keras", "litert": "model.tflite", "onnx": "model.onnx"}
    target = Path(args.output_dir) / files[kind]
    target.parent.mkdir(parents=True, exist_ok=True)
    if kind == "keras":
        with written_whole(target) as part:
            model.build_serving_model().save(part)
    elif kind == "saved_model":
        module = tf.Module()
        module.model = serving = model.build_serving_model()

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")])
        def translate(images):
            return {"images": serving(images)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
        def translate_encoded(image_bytes):  # TensorFlow Serving takes names in _bytes as base64
            def translate_one(contents):
                return tf.io.encode_png(model.serve(serving, decode_image(contents)))

            return {"png_bytes": tf.map_fn(translate_one, image_bytes, fn_output_signature=tf.string)}

        with written_whole(target) as part:
            tf.saved_model.save(module, str(part), {"serving_default": translate, "encoded": translate_encoded})
    elif kind == "litert":
        with written_whole(target) as part:
            write_litert(model, part, args.quantize, args.input_dir)
    else:  # of one size, as LiteRT
        serving = model.build_serving_model(*model.crop)
        serving(tf.zeros([1, *model.crop, 3], tf.uint8))  # Keras wants the model called before it exports to ONNX
        try:
            with written_whole(target) as part:
                serving.export(str(part), format=kind, verbose=False)
        except ImportError:
            raise UserError("--export_format onnx needs two more packages: pip install onnx tf2onnx") from None
    print(f"done: {target}")
    return 0


def write_litert(model, path, quantize, input_dir):
    """Writes the generator for one image of model.crop. int8 weights have to be right on held-out images."""
    serving, spec = model.build_serving_model(*model.crop, batch_size=1), keras.InputSpec("uint8", (1, *model.crop, 3))
    options = {"optimizations": [tf.lite.Optimize.DEFAULT] * (quantize != "none"), "input_signature": [spec]}
    options["target_spec"] = {"supported_types": [tf.float16] * (quantize == "float16")}
    serving.export(str(path), format="litert", verbose=False, **options)
    if quantize == "int8":
        with quiet_stderr():
            run, differences = tf.lite.Interpreter(str(path)).get_signature_runner(), []
            for _, file, direction in model.find_test_images(input_dir)[:8]:
                with naming_unreadable([file], model.load):
                    image = resize(model.translate_file(file, direction)["inputs"], model.crop)[None]
                (output,) = run(**dict.fromkeys(run.get_input_details(), image)).values()
                differences.append(np.abs(output - np.float32(serving(image))).mean())
        if (mean := np.mean(differences)) > 1:
            raise UserError(f"--quantize int8 changes held-out images by {mean:.2f} of 255, over 1: take float16")


def show_help(values, algorithm):
    """Prints the docstring of the file and its flags by group, with their choices and defaults."""
    groups = {
        "general": "mode input_dir output_dir checkpoint which_direction seed deterministic replicas cluster help",
        "data": "scale_size crop_size cache_mb train_size crops_per_image min_contrast cache_images flip no_flip",
        "network": " ".join(algorithm.network_flags),
        "test and export": "paired aspect_ratio native_size tile_size stitch test_dropout export_format quantize",
        "what a training prints and writes": "progress_freq summary_freq display_freq save_freq trace_freq",
        "training": "max_epochs max_steps decay_epochs batch_size lr",  # and the rest
    }
    left = {name: values[name] for name in values}
    print(__doc__)
    for group, names in groups.items():
        print(f"{group}:")
        for name in dict.fromkeys([*names.split(), *(left if group == "training" else ())]):
            if (flag := left.pop(name, None)) is not None:
                name = f"--[no]{name}" if flag.boolean and name != "no_flip" else f"--{name}"
                default = "" if flag.default is None or flag.default is False else f" (default: {flag.default})"
                print(textwrap.fill(f"  {name:<24}  {flag.help}{default}", 118, subsequent_indent=" " * 28))
        print()


def complete(values, algorithm):
    """Parsed flags => all as attributes, with those of the checkpoint and defaults that depend on the files there."""
    training, folder, saved = values.mode == "train", Path(values.checkpoint or "."), {}
    if values.mode is None:
        raise UserError("--mode is missing: train, test or export (--help lists all flags)")
    if values.checkpoint:
        saved = read_options(values.checkpoint, algorithm)
        for name in algorithm.network_flags:
            free = name in algorithm.data_flags and not training
            if values[name].present and values[name].value != saved[name] and not free:
                raise UserError(f"{folder} has --{name} {saved[name]}, not {values[name].value}: leave --{name} out")
        kept = set(values) if training else {*algorithm.network_flags, *algorithm.data_flags, "ema_decay"}
        kept &= set(saved)
        if values["max_steps"].present or values["max_epochs"].present:  # one given flag replaces both saved ones
            kept -= {"max_steps", "max_epochs"}
        for name in kept:
            try:
                if saved[name] is None and FLAGS[name].default is not None:
                    raise ValueError("no value")
                values.set_default(name, saved[name])
            except (flags.Error, TypeError, ValueError, OverflowError) as error:
                raise UserError(f"options.json of {folder}: {name} is {saved[name]!r}: {error}; put it back") from None
        folder = folder if folder.is_dir() else folder.parent
    elif not training:
        example = f"{algorithm.default_data.split('/')[0]}_train"
        raise UserError(f"--mode {values.mode} needs --checkpoint, the --output_dir of a training, e.g. {example}")
    args = types.SimpleNamespace(**values.flag_values_dict(), saved=saved)
    for name, value in vars(args).items():
        if isinstance(value, (int, float)) and not abs(value) < (2**32 if isinstance(value, int) else math.inf):
            raise UserError(f"--{name} {value}: too large, or not a number")
    if not args.input_dir and (args.mode != "export" or args.quantize == "int8"):
        beside = Path(__file__).parent / "samples" / algorithm.default_data
        default = algorithm.default_data if os.path.isdir(algorithm.default_data) else str(beside)
        args.input_dir = default if training else find_held_out(saved["input_dir"])
        if not args.input_dir:
            raise UserError(f"no test images found next to {saved['input_dir']}: give --input_dir")
        print(f"no --input_dir given: using {args.input_dir}")
    args.input_dir = os.path.abspath(args.input_dir) if training else args.input_dir
    name = folder.resolve().name.removesuffix("_train")
    if training and not args.checkpoint:
        *_, parent, name = Path("/", args.input_dir).parts
        name = parent if name.startswith("train") else name
    default = str(folder) if training and args.checkpoint else f"{name}_{args.mode}"
    args.output_dir = args.output_dir or default
    for path in [args.checkpoint] * bool(args.checkpoint) + [args.output_dir] * training:
        if set("*?[]\\") & set(os.path.abspath(path)):
            raise UserError(f"{path}: TensorFlow finds no files in folders named with * ? [ ] or \\: rename it")
    if args.deterministic is None:
        args.deterministic = args.seed is not None or not training
    args.seed = int.from_bytes(os.urandom(3)) if args.seed is None else args.seed
    args.flip = args.flip and not args.no_flip
    return args


def main(argv, algorithm):
    """The command line. Returns the exit code."""
    try:
        values = copy.deepcopy(FLAGS)
        unused = values(argv)[1:]
        if values.help:
            show_help(values, algorithm)
            return 0
        if len(argv) == 1:
            print(*__doc__.split("\n\n")[:2], "All flags: --help", sep="\n\n", file=sys.stderr)
            return 2
        if unused:
            raise UserError(f"not a flag: {unused[0]} (--help lists all flags)")
        args = complete(values, algorithm)
        shared = [args.replicas, args.cluster] if args.mode == "train" else []
        args.strategy, args.device = start_devices(args.deterministic, *shared)
        keras.config.set_dtype_policy({"off": "float32"}.get(args.mixed_precision, f"mixed_{args.mixed_precision}"))
        keras.utils.set_random_seed(args.seed)
        return {"train": train, "test": test, "export": export}[args.mode](args, algorithm)
    except (UserError, flags.Error) as error:
        message = " ".join(str(error).split())
    except UnicodeError as error:
        message = f"{error.object[:200]!a}: not UTF-8; rename the file or folder, or rewrite the flag file"
    except BrokenPipeError:  # the reader has gone, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python reports the broken pipe at exit
        return 141
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        message = f"{error.filename or 'stdout'}: {error.strerror}; free some space or choose another --output_dir"
    except (MemoryError, tf.errors.OpError) as error:
        if args.cluster and isinstance(error, (tf.errors.UnavailableError, tf.errors.AbortedError)):
            print("error: another worker ended or is out of reach: start all again, with --checkpoint", file=sys.stderr)
            os._exit(2)  # TensorFlow's own end would wait for it
        reasons = "No space left on device|File too large|Permission denied|Read-only file system|No such file"
        reason, too_large = re.search(reasons, str(error)), (MemoryError, tf.errors.ResourceExhaustedError)
        if not reason and not isinstance(error, too_large):
            raise
        message = "out of memory: lower --batch_size, --crop_size or --ngf"
        if reason:
            message = f"{args.output_dir}: {reason[0]}; free space or choose another --output_dir; the rest is intact"
    print(f"error: {message}", file=sys.stderr)
    return 2
# <<< second half


if __name__ == "__main__":
    sys.exit(main(sys.argv, SiameseGAN))
