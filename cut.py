#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = ["tensorflow==2.21.0", "tensorboard==2.21.0", "numpy", "pillow", "absl-py"]
# ///
"""CUT and FastCUT: unpaired translation with one generator (Park et al. 2020, arXiv 2007.15651). TensorFlow 2.

    python cut.py --mode train --input_dir monet2photo
    python cut.py --mode test --checkpoint monet2photo_train
    python cut.py --mode export --checkpoint monet2photo_train --export_format saved_model

docs/cut.md explains every output file and number, and lists the differences from the paper and the authors' code.
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

# >>> unpaired flags: the same in cyclegan.py, ganilla.py and cut.py (tools/fix_copies.py)
string("input_dir", None, "folder with trainA, trainB, testA, testB; test also takes a folder of images or one file")
integer("batch_size", 1, "images of each domain in a training step, of all replicas together", lower_bound=1)
string("scale_size", "286", "size to resize images to before cropping, pixels: the shorter side, or HEIGHTxWIDTH")
string("crop_size", "256", "size of the random crops, pixels: SIDE or HEIGHTxWIDTH, multiples of 4 (ganilla.py: 16)")
integer("cache_mb", 1024, "MiB of memory for resized images; a larger data set is read from disk", lower_bound=0)
integer("ngf", 64, "generator filters in the first convolution", lower_bound=1, upper_bound=4096)
integer("ndf", 64, "discriminator filters in the first convolution", lower_bound=1, upper_bound=4096)
integer("n_layers_d", 3, "discriminator depth: 0, 1, 3, 5 for patches of 1, 16, 70, 286 pixels", 0, 99)
number("lr", 2e-4, "learning rate of Adam", lower_bound=0)
choice("gan_loss", "lsgan", ["lsgan", "bce"], "adversarial loss: least squares or cross-entropy")
number("gan_weight", 1.0, "weight of the adversarial loss of each generator", lower_bound=0)
boolean("paired", False, "testA and testB show the same scenes under the same names: test measures L1, PSNR and SSIM")
number("aspect_ratio", 1.0, "width / height of test's and `encoded` export's images", lower_bound=0.05, upper_bound=20)
boolean("native_size", False, "test keeps the size and aspect of each image, instead of --crop_size")
integer("tile_size", 512, "pixels; with --native_size, larger images go through in windows of this", lower_bound=32)
# <<< unpaired flags
choice("which_direction", "AtoB", ["AtoB", "BtoA"], "give images of A the look of B, or back; a training learns one")
integer("max_epochs", 400, "passes over the larger domain, in total", lower_bound=1)
integer("decay_epochs", 200, "final epochs, over which the learning rate falls linearly to 0", lower_bound=0)
number("nce_weight", 1.0, "weight of the contrastive loss, which ties a translation to its input", lower_bound=0)
boolean("nce_identity", True, "contrastive loss also for images of the target domain; --nonce_identity: half the work")
boolean("flip_equivariance", False, "mirror half of the inputs for the generator, and compare mirrored features")
boolean("antialias", True, "blur where the networks halve and double; --noantialias: strided convolutions, faster")
integer("n_blocks", 9, "residual blocks of the generator", 0, 999)

# -------------------------------------------------------------------------------------------------------------- data


# >>> crops: the same in pix2pix.py, cyclegan.py, ganilla.py and cut.py (tools/fix_copies.py)
def parse_sizes(crop_size, scale_size, training=True):
    """--crop_size, --scale_size => (crop height, crop width), (scale height, scale width), in pixels."""
    sizes = []
    for flag, text in (("crop_size", crop_size), ("scale_size", scale_size)):
        if not (match := re.fullmatch(r"0*([1-9]\d{,4})(?:x0*([1-9]\d{,4}))?", text)):
            raise UserError(f"--{flag} {text}: give a number of pixels, as in 256, or HEIGHTxWIDTH, as in 256x512")
        sizes.append([int(side) for side in match.groups() if side])
    crop, scale = (sizes[0] * 2)[:2], sizes[1]
    scale = scale if len(scale) == 2 else [round(scale[0] * side / min(crop)) for side in crop]
    if training and (crop[0] > scale[0] or crop[1] > scale[1]):
        raise UserError(f"--crop_size {crop_size} is larger than --scale_size {scale_size}: raise --scale_size")
    return tuple(crop), tuple(scale)


def random_batches(paths, load, scale, crop, batch_size, flip, seed, start, cache_mb, share=None):
    """Endless training batches, from step `start` on: float32 [n, *crop, 3] in [-1, 1]; n, share: see own_share().

    load(path) gives uint8 [h, w, 3], or a pair of them to be cropped and mirrored alike. They are resized to `scale`.
    The order, new in each epoch, and the crops depend on (seed, position) alone: a training can continue at any step.
    """

    def load_resized(path):
        return tf.nest.map_structure(lambda image: resize(image, scale), load(path))

    def example(position):
        index = shuffled_index(position, len(paths), seed)
        images = tf.nest.map_structure(lambda images: images[index], cache) if cached else load_resized(names[index])
        crop_seed = tf.stack([tf.constant(seed, tf.int64), position])

        def augment(image):
            image = tf.image.stateless_random_crop(image, [*crop, 3], crop_seed)
            if flip:
                flip_seed = tf.random.experimental.stateless_fold_in(crop_seed, 1)
                image = tf.image.stateless_random_flip_left_right(image, flip_seed)
            return tf.cast(image, tf.float32) / 127.5 - 1

        return tf.nest.map_structure(augment, images)

    with tf.device("cpu"):
        names, (n, is_own) = tf.constant(paths), own_share(batch_size, share)
        resized = with_own_threads(tf.data.Dataset.from_tensor_slices(names).map(load_resized, tf.data.AUTOTUNE))
        pixels = len(paths) * scale[0] * scale[1] * len(tf.nest.flatten(resized.element_spec))
        if cached := pixels * 3 <= cache_mb * 2**20:
            with naming_unreadable(paths, load):
                cache = resized.batch(len(paths)).get_single_element()  # [n, h, w, 3], in the order of the paths
        positions = tf.data.Dataset.range(start * batch_size, 2**62).filter(is_own)
        batches = positions.map(example, tf.data.AUTOTUNE, deterministic=True).batch(n, drop_remainder=True)
        return with_own_threads(batches.prefetch(tf.data.AUTOTUNE))
# <<< crops


# ---------------------------------------------------------------------------------------------------------- networks


# >>> instance norm: the same in pix2pix.py, cyclegan.py, ganilla.py and cut.py (tools/fix_copies.py)
class InstanceNorm(layers.Layer):
    """Instance norm without scale and shift (Ulyanov et al. 2016), [n, h, w, c] => [n, h, w, c]: biased variance,
    epsilon 1e-5, statistics in float32."""

    gamma = beta = None

    def call(self, x):
        if self.gamma is None and x.shape[0] and x.shape[0] <= 4:  # a fused kernel, on a CPU twice as fast
            options = {"scale": tf.ones(x.shape[-1]), "offset": tf.zeros(x.shape[-1]), "epsilon": 1e-5}
            fused = tf.compat.v1.nn.fused_batch_norm
            return tf.concat([fused(image, **options)[0] for image in tf.split(x, x.shape[0])], 0)
        x32 = tf.cast(x, tf.float32)
        mean, variance = tf.nn.moments(x32, [1, 2], keepdims=True)
        return tf.cast(tf.nn.batch_normalization(x32, mean, variance, self.beta, self.gamma, 1e-5), x.dtype)
# <<< instance norm
# >>> unpaired layers: the same in cyclegan.py, ganilla.py and cut.py (tools/fix_copies.py)
class CropFirst(layers.Layer):
    """Cuts off the first row and column, as Cropping2D(((1, 0), (1, 0))). The gradient, a pad, saves 4 % of a step."""

    def call(self, x):
        return tf.slice(x, [0, 1, 1, 0], [-1, -1, -1, -1])


def reflect(x, pixels):
    """Pads [n, h, w, c] by reflection on all four sides."""
    return ops.pad(x, [[0, 0], [pixels, pixels], [pixels, pixels], [0, 0]], mode="reflect")


def check_crop(size, multiple, n_layers):
    """Raises UserError for crops of (height, width) pixels that the networks cannot take."""
    if size[0] % multiple or size[1] % multiple or min(size) < 2 * multiple:
        near = "x".join(str(max(2, round(side / multiple)) * multiple) for side in size)
        raise UserError(f"--crop_size {size[0]}x{size[1]}: the generators need multiples of {multiple}, e.g. {near}")
    if min(size) < (least := 3 * 2**n_layers):
        raise UserError(f"--crop_size {size[0]}x{size[1]}: --n_layers_d {n_layers} needs {least} pixels or more")
# <<< unpaired layers


def xavier():
    """Kernels start as N(0, 0.02^2 * 2 / (fan in + fan out)). (Glorot, Bengio 2010, with a gain of 0.02)"""
    return keras.initializers.VarianceScaling(0.02**2, "fan_avg", "untruncated_normal")


def blur(x, name, strides):
    """The filter [1, 2, 1] x [1, 2, 1] / 16 at every pixel or every other one: [n, h + 2, w + 2, c] => [n, h, w, c] or
    half of that, rounded up. Two 2x2 means are it; in bfloat16 a depthwise convolution takes 4 times as long."""
    x = layers.AveragePooling2D(2, 1, name=f"{name}_mean")(x)
    return layers.AveragePooling2D(2, strides, name=f"{name}_blur")(x)


def build_generator(n_blocks=9, ngf=64, antialias=True, norm=InstanceNorm, crop=CropFirst):
    """The ResNet generator, RGB [n, h, w, 3] => RGB [n, h, w, 3], both in [-1, 1]. h and w are multiples of 4.
    11,378,179 parameters with 9 blocks. antialias: strides are replaced by fixed filters (Zhang 2019)."""

    def conv(x, filters, size, name, strides=1):
        return layers.Conv2D(filters, size, strides, kernel_initializer=xavier(), name=name)(x)

    def norm_relu(x, name):
        return layers.ReLU(name=f"{name}_relu")(norm(name=f"{name}_norm")(x))

    x = inputs = keras.Input((None, None, 3))
    # first: [batch, 256, 256, 3] => [batch, 256, 256, ngf]
    x = norm_relu(conv(reflect(x, 3), ngf, 7, "first"), "first")
    # down_1 and down_2: [batch, 256, 256, ngf] => [batch, 128, 128, ngf * 2] => [batch, 64, 64, ngf * 4]
    for level in (1, 2):
        name, filters = f"down_{level}", ngf * 2**level
        x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
        x = norm_relu(conv(x, filters, 3, name, strides=1 if antialias else 2), name)
        x = blur(reflect(x, 1), name, strides=2) if antialias else x
    # block_1 to block_9: [batch, 64, 64, ngf * 4] => [batch, 64, 64, ngf * 4]
    for block in range(1, n_blocks + 1):
        y = norm_relu(conv(reflect(x, 1), ngf * 4, 3, f"block_{block}_1"), f"block_{block}_1")
        y = norm(name=f"block_{block}_2_norm")(conv(reflect(y, 1), ngf * 4, 3, f"block_{block}_2"))
        x = layers.Add(name=f"block_{block}_skip")([x, y])
    # up_2 and up_1: [batch, 64, 64, ngf * 4] => [batch, 128, 128, ngf * 2] => [batch, 256, 256, ngf]
    for level in (2, 1):
        name, filters = f"up_{level}", ngf * 2 ** (level - 1)
        if antialias:
            x = blur(reflect(layers.UpSampling2D(2, name=f"{name}_nearest")(x), 1), name, strides=1)  # bilinear x2
            x = conv(layers.ZeroPadding2D(1, name=f"{name}_pad")(x), filters, 3, name)
        else:
            x = layers.Conv2DTranspose(filters, 3, 2, kernel_initializer=xavier(), name=name)(x)  # 2h + 1
            x = crop(name=f"{name}_crop")(x)  # padding 1 and output padding 1
        x = norm_relu(x, name)
    # last: [batch, 256, 256, ngf] => [batch, 256, 256, 3]
    x = conv(reflect(x, 3), 3, 7, "last")
    return keras.Model(inputs, layers.Activation("tanh", dtype="float32", name="tanh")(x))


def build_discriminator(n_layers=3, ndf=64, antialias=True, norm=InstanceNorm):
    """The PatchGAN, RGB [n, 256, 256, 3] => logits [n, 30, 30, 1], one for each patch of 84x84 pixels, or without
    antialias 70x70. 2,764,737 parameters. n_layers: as in cyclegan.py."""
    strides, size = ([2] * n_layers + [1], 4) if n_layers else ([1, 1], 1)
    x = inputs = keras.Input((None, None, 3))
    # layer_1: [batch, 256, 256, 3] => [batch, 128, 128, ndf]
    # layer_2 to layer_4: => [batch, 64, 64, ndf * 2] => [batch, 32, 32, ndf * 4] => [batch, 31, 31, ndf * 8]
    for level, stride in enumerate(strides, start=1):
        name, filters = f"layer_{level}", ndf * min(2 ** (level - 1), 8)
        x = layers.ZeroPadding2D(size // 4, name=f"{name}_pad")(x)
        x = layers.Conv2D(filters, size, 1 if antialias else stride, kernel_initializer=xavier(), name=name)(x)
        x = norm(name=f"{name}_norm")(x) if level > 1 else x
        x = layers.LeakyReLU(0.2, name=f"{name}_lrelu")(x)
        x = blur(reflect(x, 1), name, strides=2) if antialias and stride == 2 else x
    # last: [batch, 31, 31, ndf * 8] => [batch, 30, 30, 1]
    x = layers.ZeroPadding2D(size // 4, name="last_pad")(x)
    x = layers.Conv2D(1, size, kernel_initializer=xavier(), name="last")(x)
    return keras.Model(inputs, layers.Activation("linear", dtype="float32", name="logits")(x))


def build_heads(widths):
    """A perceptron of two layers for each feature, [n, places, width] of each => [n, places, 256] of each."""
    inputs, outputs = [keras.Input((None, width)) for width in widths], []
    for number, x in enumerate(inputs, start=1):
        for name, activation in ((f"head_{number}_1", "relu"), (f"head_{number}_2", None)):
            x = layers.Dense(256, activation, kernel_initializer=xavier(), dtype="float32", name=name)(x)
        outputs.append(x)
    return keras.Model(inputs, outputs)


# ------------------------------------------------------------------------------------------------------------ losses


# >>> unpaired losses: the same in cyclegan.py, ganilla.py and cut.py (tools/fix_copies.py)
def gan_loss(logits, label, kind):
    """Mean loss of logits of any shape against one label, 1 for real and 0 for fake; kind: "lsgan", least squares
    (Mao et al. 2017), or "bce", sigmoid cross-entropy."""
    if kind == "lsgan":
        return tf.reduce_mean(tf.square(logits - label))
    return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(tf.fill(tf.shape(logits), label), logits))
# <<< unpaired losses


def random_places(count, maps, seed, domains=1):
    """Random pixels of feature maps [n, h, w, c], all different: int32 [n, min(count, h * w)]. seed: int64 [2]. The n
    maps are of so many domains, one after the other; replicas take their parts of one draw."""
    n = maps.shape[0] * tf.distribute.get_strategy().num_replicas_in_sync
    draw = own_part(tf.random.stateless_uniform([n, maps.shape[1] * maps.shape[2]], seed), domains)
    return tf.math.top_k(draw, min(count, draw.shape[1])).indices


def take(maps, places, mirror=False):
    """The pixels of feature maps [n, h, w, c] or, where bool [] mirror, of the maps mirrored left to right, at places,
    int32 [n, count] => float32 [n, count, c]."""
    n, height, width, channels = maps.shape
    places = tf.where(mirror, places + width - 1 - 2 * (places % width), places)
    return tf.cast(tf.gather(tf.reshape(maps, [n, height * width, channels]), places, batch_dims=1), tf.float32)


def patch_nce(queries, keys):
    """The contrastive loss [n] of queries and keys [n, count, 256], of translations and inputs at the same places: the
    cross-entropy of finding the key of each query among those of its image. Keys are constants. (Equation 3)"""
    lengths = [tf.sqrt(tf.reduce_sum(tf.square(x), -1, keepdims=True) + 1e-30) for x in (queries, keys)]  # > 0
    queries, keys = queries / (lengths[0] + 1e-7), tf.stop_gradient(keys / (lengths[1] + 1e-7))
    logits = tf.matmul(queries, keys, transpose_b=True) / 0.07  # [n, query, key]
    return tf.reduce_mean(tf.reduce_logsumexp(logits, -1) - tf.linalg.diag_part(logits), -1)  # query i => key i


# --------------------------------------------------------------------------------------------------------- algorithm


class CUT:
    """CUT with the interface that the second half of this file expects. training=False: only the generator."""

    name, default_data = "cut", "monet2photo"
    losses = ("discrim", "gan", "nce", "nce_identity")
    network_flags = ("which_direction", "ngf", "ndf", "n_blocks", "antialias", "n_layers_d", "crop_size")
    data_flags, crops_per_image = ("crop_size", "scale_size", "aspect_ratio", "seed"), 1
    multiple, norm = 4, InstanceNorm  # the generator takes images whose sides are multiples of 4

    def generator(self, **parts):
        """Builds a generator as the flags say; parts: the norm and crop layers."""
        return build_generator(self.args.n_blocks, self.args.ngf, self.args.antialias, **parts)

    def __init__(self, args, training):
        self.args, self.load, self.aspect_ratio = args, load_image, args.aspect_ratio
        self.paired = args.paired and not training
        self.crop, self.scale = parse_sizes(args.crop_size, args.scale_size, training)
        check_crop(self.crop, self.multiple, args.n_layers_d if training else 0)
        generator, direction, self.state = self.generator(), args.which_direction, {}
        self.networks, self.optimizers, self.learning_rates = {f"generator_{direction}": generator}, {}, {}
        self.translate = {direction: by_batch_size(functools.partial(self.run_generator, direction))}
        if training:
            # what is compared: the padded image, the results of the halving convolutions and of blocks 1 and 5
            names = ("down_1", "down_2", "block_1_skip", "block_5_skip")
            features = [generator.get_layer("first").input] + [x.output for x in generator.layers if x.name in names]
            self.encode = keras.Model(generator.input, features)
            self.generate = keras.Model(generator.input, [generator.output, *features])
            self.networks["discriminator"] = build_discriminator(args.n_layers_d, args.ndf, args.antialias)
            self.networks["heads"] = build_heads([feature.shape[-1] for feature in features])
            generator, discriminator, heads = (network.trainable_variables for network in self.networks.values())
            for name, weights in (("generator", generator + heads), ("discriminator", discriminator)):
                self.optimizers[name] = build_optimizer(weights, args.lr, args.beta1, args.mixed_precision)
                self.learning_rates[name] = args.lr
            self.train_step = compile_step(self.train_step, args.xla)

    def train_step(self, step, images):
        """One step of all networks on a batch of batches(). Returns the losses, float32 [4]."""
        args, n = self.args, images[0].shape[0]
        real_A, real_B = images if args.which_direction == "AtoB" else images[::-1]  # from A to B, as in the paper
        generator, discriminator, heads = self.networks.values()
        optimizer_g, optimizer_d = self.optimizers["generator"], self.optimizers["discriminator"]
        loss = functools.partial(gan_loss, kind=args.gan_loss)
        fold_in = functools.partial(tf.random.experimental.stateless_fold_in, tf.stack([args.seed, step]))
        mirror = tf.random.stateless_uniform([], fold_in(2)) < (0.5 if args.flip_equivariance else 0.0)
        inputs = tf.concat([real_A, real_B], 0) if args.nce_identity else real_A
        with tf.GradientTape() as tape:
            outputs, *keys = self.generate(tf.where(mirror, tf.reverse(inputs, [2]), inputs))
            fake = outputs[:n]
            with tape.stop_recording():  # D goes first, and G meets the new one
                with tf.GradientTape() as tape_d:
                    on_real, on_fake = tf.split(discriminator(tf.concat([real_B, fake], 0)), 2)
                    discrim = (loss(on_real, 1.0) + loss(on_fake, 0.0)) / 2  # D(real) => 1, D(fake) => 0; halved
                    scaled = optimizer_d.scale_loss(discrim)
                gradients = tape_d.gradient(scaled, discriminator.trainable_variables)
                optimizer_d.apply_gradients(zip(gradients, discriminator.trainable_variables, strict=True))
            gan = loss(discriminator(fake), 1.0)  # D(fake) => 1
            queries = self.encode(outputs)
            places = [random_places(256, maps, fold_in(3 + i), len(inputs) // n) for i, maps in enumerate(queries)]
            if args.flip_equivariance:  # the keys are of inputs that are not mirrored
                keys = tf.cond(mirror, lambda: self.encode(inputs), lambda: keys)
            keys = heads([take(maps, where) for maps, where in zip(keys, places, strict=True)])
            queries = heads([take(maps, where, mirror) for maps, where in zip(queries, places, strict=True)])
            nce = sum(patch_nce(q, k) for q, k in zip(queries, keys, strict=True)) / len(keys)  # of each input
            scaled = optimizer_g.scale_loss(args.gan_weight * gan + args.nce_weight * tf.reduce_mean(nce))
        weights = generator.trainable_variables + heads.trainable_variables
        optimizer_g.apply_gradients(zip(tape.gradient(scaled, weights), weights, strict=True))
        return tf.stack([discrim, gan, tf.reduce_mean(nce[:n]), tf.reduce_mean(nce[n:]) if args.nce_identity else 0.0])

    def find_test_images(self, input_dir):
        """[(name, path, direction)] of the images to translate."""
        direction = self.args.which_direction
        return [(name, path, direction) for name, path in list_images(input_dir, "test", direction[0])]

    # >>> unpaired files: the same in cyclegan.py, ganilla.py and cut.py (tools/fix_copies.py)
    def run_generator(self, direction, images):
        """uint8 RGB [n, h, w, 3], sides multiples of self.multiple => float32 RGB [n, h, w, 3] in [0, 1]."""
        return (self.networks[f"generator_{direction}"](tf.cast(images, tf.float32) / 127.5 - 1) + 1) / 2

    def generator_of(self, direction):
        """The generator of a direction. Raises UserError if tools/import-weights.py had no file for it."""
        if not np.any(self.networks[f"generator_{direction}"].weights[0]):
            raise UserError(f"{self.args.checkpoint} has no weights for {direction}: give the other --which_direction")
        return self.networks[f"generator_{direction}"]

    def find_training_images(self):
        """{domain: paths} to train on."""
        return {domain: [path for _, path in list_images(self.args.input_dir, "train", domain)] for domain in "AB"}

    def find_samples(self, held_out):
        """[(name, path, direction)] of the images that training shows, 4 per direction; held_out: of testA if any."""
        folder = self.args.input_dir
        split = {domain: "test" if held_out and os.path.isdir(f"{folder}/test{domain}") else "train" for domain in "AB"}
        images = {way: list_images(folder, split[way[0]], way[0])[:4] for way in self.translate}
        return [(f"{direction}-{name}", path, direction) for direction in images for name, path in images[direction]]

    def batches(self, paths, start, share=None):
        """Training batches from step `start` on: A and B, float32 [batch, *crop, 3] in [-1, 1]. An epoch is a pass over
        the larger domain; the other starts again, in a new order, whenever it runs out. Two seeds: new pairs each."""
        args, sizes = self.args, (self.scale, self.crop, self.args.batch_size, self.args.flip)
        A = random_batches(paths["A"], load_image, *sizes, args.seed, start, args.cache_mb // 2, share)
        B = random_batches(paths["B"], load_image, *sizes, args.seed ^ 2**30, start, args.cache_mb // 2, share)
        return tf.data.Dataset.zip((A, B))

    def translate_images(self, images, direction):
        """uint8 RGB [n, h, w, 3] of any size => their translations, uint8 RGB [n, h, w, 3]."""
        window, least = self.args.tile_size if self.args.native_size else max(self.crop), 2 * self.multiple
        return translate_windows(self.translate[direction], images, window, self.multiple, least)

    def translate_file(self, path, direction):
        """Path => uint8 RGB images by kind: inputs, outputs, maybe recovered and, with --paired in test, targets."""
        inputs = load_image(path)
        images = {"inputs": (inputs if self.args.native_size else resize(inputs, self.crop)).numpy()}
        images["outputs"] = self.translate_images(images["inputs"][None], direction)[0]
        for back in self.translate.keys() - {direction}:
            images["recovered"] = self.translate_images(images["outputs"][None], back)[0]
        if self.paired:
            twin = str(Path(path).absolute().parent.with_name(f"test{direction[-1]}") / Path(path).name)
            if not os.path.isfile(twin) or os.path.samefile(path, twin):
                raise UserError(f"--paired: {path} has no counterpart: {direction} compares images with {twin}")
            with naming_unreadable([twin], load_image):
                images["targets"] = resize(load_image(twin), images["inputs"].shape[:2]).numpy()
        return images

    def build_serving_model(self, height=None, width=None, batch_size=None):
        """For export, uint8 RGB [n, h, w, 3] => uint8 RGB: standard layers alone; or, of a fixed batch, 4-D tensors."""
        if self.args.which_direction == "both":
            raise UserError("export writes one generator: give --which_direction AtoB or BtoA, not both")
        affine = self.norm is not InstanceNorm
        norm = functools.partial(layers.GroupNormalization, groups=-1, epsilon=1e-5, center=affine, scale=affine)
        crop = functools.partial(layers.Cropping2D, ((1, 0), (1, 0)))
        generator = self.generator() if batch_size else self.generator(norm=norm, crop=crop)
        generator.set_weights(self.generator_of(self.args.which_direction).get_weights())
        images = keras.Input((height, width, 3), batch_size, dtype="uint8", name="images")
        return keras.Model(images, to_uint8((generator(ops.cast(images, "float32") / 127.5 - 1) + 1) / 2))
    # <<< unpaired files
    # >>> serve: the same in pix2pix.py, cyclegan.py, ganilla.py and cut.py (tools/fix_copies.py)
    def serve(self, serving, image):
        """uint8 RGB [h, w, 3] => its translation by a serving model, at the size of training, uint8."""
        size = self.crop if self.aspect_ratio == 1 else (self.crop[0], round(self.crop[0] * self.aspect_ratio))
        return resize_in_graph(serving(resize_in_graph(image, self.crop)[None])[0], size)
    # <<< serve


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
    sys.exit(main(sys.argv, CUT))
