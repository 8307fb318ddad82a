#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["tensorflow", "numpy", "pillow", "absl-py", "tqdm", "tensorboard", "filelock"]
# ///
"""AnimeGAN: photographs in an illustrator's hand, in minutes. TensorFlow 2, Keras 3.
(Chen, Liu, Chen 2020; its second version, AnimeGANv2)

    python animegan.py --mode train --input_dir photo2dulac
    python animegan.py --mode test --checkpoint photo2dulac_animegan_train
    python animegan.py --mode export --checkpoint photo2dulac_animegan_train

docs/animegan.md explains every output file and number, and lists the differences from the paper
and the authors' code.
"""

# >>> start: the same in all algorithm files (tools/fix_copies.py)
import collections
import contextlib
import copy
import dataclasses
import functools
import hashlib
import html
import io
import json
import math
import os
import re
import shutil
import signal
import sys
import textwrap
import threading
import time
import types
import urllib.parse
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import numpy as np
from absl import flags
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError
from tqdm import tqdm

os.environ["KERAS_BACKEND"] = "tensorflow"  # another project may have chosen another one
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if sys.stderr is None:  # as after `2>&-`: the next file opened would be number 2
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    os.dup2(sys.stderr.fileno(), 2)


def has_avx():
    """Whether TensorFlow runs on this processor: x86 needs AVX. True where /proc is missing."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return True
    return "\nflags" not in cpuinfo or re.search(r"\bavx\b", cpuinfo) is not None


@contextlib.contextmanager
def quiet_stderr():
    """Hides what TensorFlow's C++ code prints as it starts; TF_CPP_MIN_LOG_LEVEL=0 shows it."""
    saved = os.dup(2)
    if os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3" and has_avx():  # or it says why it ends
        with open(os.devnull, "w", encoding="utf-8") as null:
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

keras.config.set_image_data_format("channels_last")  # whatever ~/.keras/keras.json says

FLAGS = flags.FlagValues()  # a set of its own, so that all algorithm files can be imported together
string = functools.partial(flags.DEFINE_string, flag_values=FLAGS)
integer = functools.partial(flags.DEFINE_integer, flag_values=FLAGS)
number = functools.partial(flags.DEFINE_float, flag_values=FLAGS)
boolean = functools.partial(flags.DEFINE_bool, flag_values=FLAGS)
choice = functools.partial(flags.DEFINE_enum, flag_values=FLAGS)
# <<< start

# ------------------------------------------------------------------------------------------- flags
# Flags of every algorithm (--mode, --checkpoint, --seed and so on) stand after the algorithm.

string("input_dir", None,
       "folder with trainA, trainB, testA, testB; test also takes a folder of images or one file")
choice("which_direction", "AtoB", ["AtoB", "BtoA"],
       "give photographs of A the look of B, or back; a training learns one")
integer("max_epochs", 101, "passes over the larger domain, in total", 1)
integer("decay_epochs", 0, "final epochs, over which the learning rate falls linearly to 0", 0)
integer("init_steps", 5550,
        "steps of the first phase, which learns to keep the photograph (0: none)", 0)
integer("batch_size", 12, "images of each domain per training step, all replicas together", 1)
string("scale_size", "286",
       "pixels to resize images to before cropping: SIDE or HEIGHTxWIDTH; 0: never, in test too")
string("crop_size", "256",
       "size of the random crops, pixels: SIDE or HEIGHTxWIDTH, multiples of 4")
integer("cache_mb", 1024, "MiB of memory for resized images; larger data are read from disk", 0)
integer("ngf", 32, "generator filters in the first convolution", 1, 4096)
integer("ndf", 32, "discriminator filters in the first convolution", 1, 4096)
boolean("residual", False,
        "the generator changes the photograph instead of drawing it anew: it needs no first phase "
        "(--init_steps 0)")
integer("stroke", 0,
        "with --residual: first paint the photograph, in strokes of about this many pixels, with a "
        "filter; 0: as it is", 0, 64)
number("ink", 0.0,
       "with --stroke: draw the outlines of what is dark in ink: 0 (none) to 1", 0, 1)
string("features", "vgg19",
       "network that compares content and style: vgg19 or vgg16, which Keras downloads, or a .h5 "
       "file of Keras with one of them")
boolean("relative_features", True,
        "divide features by their mean size on photographs, so that weights mean the same with "
        "every network; --norelative_features: as the authors")
number("init_lr", 2e-4, "learning rate of Adam in the first phase", 0)
number("lr", 2e-5, "learning rate of Adam for the generator after it", 0)
number("lr_d", 4e-5, "learning rate of Adam for the discriminator", 0)
number("gan_weight", 1.0, "weight of the adversarial loss", 0)
number("content_weight", 1.5, "weight of the content loss: features of the photograph", 0)
number("style_weight", 300.0, "weight of the style loss: Gram matrices of grey style images", 0)
number("colour_weight", 3.0, "weight of the colour loss: colours of the photograph", 0)
number("variation_weight", 0.5, "weight of the total variation, which smooths", 0)
number("grey_weight", 1.7,
       "weight of grey style images as fakes for the discriminator: colours have to come", 0)
number("smooth_weight", 1.0,
       "weight of grey style images with blurred edges as fakes: clear edges have to come", 0)
boolean("paired", False,
        "testA and testB show the same scenes under the same names: test measures L1, PSNR, SSIM")
number("aspect_ratio", 1.0, "width / height of what test and `encoded` exports write", 0.05, 20)
boolean("native_size", False, "test keeps each image's size instead of resizing to --crop_size")
integer("tile_size", 512, "side of the windows that --native_size covers images with, pixels", 32)

# ---------------------------------------------------------------------------------------- networks

# >>> unpaired layers: the same in all unpaired files but siamesegan.py (tools/fix_copies.py)
class CropFirst(layers.Layer):
    """Cuts off the first row and column, as Cropping2D(((1, 0), (1, 0))). The gradient, a pad,
    saves 4 % of the time per step."""

    def call(self, x):
        return tf.slice(x, [0, 1, 1, 0], [-1, -1, -1, -1])


def reflect(x, pixels):
    """Pads [n, h, w, c] by reflection on all four sides."""
    return ops.pad(x, [[0, 0], [pixels, pixels], [pixels, pixels], [0, 0]], mode="reflect")
# <<< unpaired layers
# >>> blur: the same in cut.py and animegan.py (tools/fix_copies.py)
def blur(x, name, strides):
    """The filter [1, 2, 1] x [1, 2, 1] / 16 at every pixel or every other one.

    [n, h + 2, w + 2, c] => [n, h, w, c] or half of that, rounded up. Two 2x2 means are the same
    filter. In bfloat16 a depthwise convolution takes 4 times as long.
    """
    x = layers.AveragePooling2D(2, 1, name=f"{name}_mean")(x)
    return layers.AveragePooling2D(2, strides, name=f"{name}_blur")(x)
# <<< blur

# >>> spectral norm: the same in siamesegan.py and animegan.py (tools/fix_copies.py)
class SpectralConv2D(layers.Conv2D):
    """Convolution with the kernel divided by its largest singular value (Miyato et al. 2018), by
    one power iteration per call.

    As in PyTorch the gradient goes through the division. keras.layers.SpectralNormalization
    overwrites the weights with the divided kernel, rounded under mixed precision.
    """

    def build(self, shape):
        super().build(shape)
        self.u = self.add_weight(
            name="u", shape=[self.filters], dtype="float32", autocast=False,
            initializer=keras.initializers.RandomNormal(), trainable=False,
        )

    def convolution_op(self, x, kernel):
        matrix = tf.reshape(tf.cast(kernel, tf.float32), [-1, self.filters])
        fixed = tf.stop_gradient(matrix)
        v = tf.math.l2_normalize(tf.linalg.matvec(fixed, self.u))
        u = tf.math.l2_normalize(tf.linalg.matvec(fixed, v, transpose_a=True))
        self.u.assign(u)
        sigma = tf.tensordot(v, tf.linalg.matvec(matrix, u), 1)
        return super().convolution_op(x, kernel / tf.cast(sigma, kernel.dtype))
# <<< spectral norm

class LayerNorm(layers.Layer):
    """Layer norm over rows, columns and channels of each image, with a scale and a shift per
    channel: biased variance, epsilon 1e-5, statistics in float32."""

    def build(self, shape):
        options = {"shape": shape[-1:], "dtype": "float32", "autocast": False}
        self.gamma = self.add_weight(name="gamma", initializer="ones", **options)
        self.beta = self.add_weight(name="beta", initializer="zeros", **options)

    def call(self, x):
        x32 = tf.cast(x, tf.float32)
        mean, variance = tf.nn.moments(x32, [1, 2, 3], keepdims=True)
        x32 = tf.nn.batch_normalization(x32, mean, variance, self.beta, self.gamma, 1e-5)
        return tf.cast(x32, x.dtype)


def build_generator(ngf=32, norm=LayerNorm, residual=False, stroke=0, ink=0.0):
    """The generator of AnimeGANv2, [n, h, w, 3] => [n, h, w, 3], both in [-1, 1].

    h and w are multiples of 4. 2,143,552 parameters by default. residual: adds the input before
    the last tanh, and begins as the identity, but for values over 0.98. stroke, ink: adds what
    paint() makes of the input, with its draw_lines() in ink, of strength 0 to 1.
    """

    def conv(x, filters, size, name, strides=1):
        if strides == 2:
            x = ops.pad(x, [[0, 0], [0, 1], [0, 1], [0, 0]], mode="reflect")
        elif size > 1:
            x = reflect(x, size // 2)
        layer = layers.Conv2D(
            filters, size, strides, use_bias=False, kernel_initializer="he_normal", name=name
        )
        return layer(x)

    def norm_lrelu(x, name):
        x = norm(name=f"{name}_norm")(x)
        return layers.LeakyReLU(0.2, name=f"{name}_lrelu")(x)

    def block(x, filters, name):
        """An inverted residual block (Sandler et al. 2018): wide, depthwise, narrow."""
        channels = x.shape[-1]
        y = norm_lrelu(conv(x, 2 * channels, 1, f"{name}_wide"), f"{name}_wide")
        depthwise = layers.DepthwiseConv2D(
            3, depthwise_initializer="he_normal", name=f"{name}_depthwise"
        )
        y = norm_lrelu(depthwise(reflect(y, 1)), f"{name}_depthwise")
        y = norm(name=f"{name}_narrow_norm")(conv(y, filters, 1, f"{name}_narrow"))
        return layers.Add(name=f"{name}_skip")([x, y]) if channels == filters else y

    def up(x, name):
        x = layers.UpSampling2D(2, name=f"{name}_nearest")(x)
        return blur(reflect(x, 1), name, strides=1)  # bilinear x2

    def step(x, filters, size, name, strides=1):
        return norm_lrelu(conv(x, filters, size, name, strides), name)

    x = inputs = keras.Input((None, None, 3))

    # a: [batch, 256, 256, 3] => [batch, 128, 128, ngf * 2]
    x = step(x, ngf, 7, "a_1")
    x = step(x, ngf * 2, 3, "a_2", strides=2)
    x = step(x, ngf * 2, 3, "a_3")

    # b: [batch, 128, 128, ngf * 2] => [batch, 64, 64, ngf * 4]
    x = step(x, ngf * 4, 3, "b_1", strides=2)
    x = step(x, ngf * 4, 3, "b_2")

    # c: [batch, 64, 64, ngf * 4] => [batch, 64, 64, ngf * 4], by way of ngf * 8
    x = step(x, ngf * 4, 3, "c_1")
    for number in range(1, 5):
        x = block(x, ngf * 8, f"block_{number}")
    x = step(x, ngf * 4, 3, "c_2")

    # d: [batch, 64, 64, ngf * 4] => [batch, 128, 128, ngf * 4]
    x = up(x, "d_up")
    x = step(x, ngf * 4, 3, "d_1")
    x = step(x, ngf * 4, 3, "d_2")

    # e: [batch, 128, 128, ngf * 4] => [batch, 256, 256, ngf]
    x = up(x, "e_up")
    x = step(x, ngf * 2, 3, "e_1")
    x = step(x, ngf * 2, 3, "e_2")
    x = step(x, ngf, 7, "e_3")

    # last: [batch, 256, 256, ngf] => [batch, 256, 256, 3]
    if residual:
        changes = layers.Conv2D(3, 1, use_bias=False, kernel_initializer="zeros", name="last")(x)
        start = paint(inputs, stroke) if stroke else inputs
        if ink:
            start += (-0.75 - start) * draw_lines(start, stroke) * ink  # towards black ink
        x = before_tanh(start) + changes
    else:
        x = conv(x, 3, 1, "last")
    x = layers.Activation("tanh", dtype="float32", name="tanh")(x)
    return keras.Model(inputs, x)


def paint(images, width):
    """Images [n, h, w, 3] in [-1, 1] => the same, painted flat in strokes `width` pixels wide.

    Each pixel takes the mean colour of one of eight neighbourhoods around it, the one that varies
    least; where others vary as little, a mixture. (Kuwahara et al. 1976; Papari et al. 2007)
    """

    side = width // 2 * 2 + 1
    slant = round(0.7 * width)
    places = [(0, width), (0, -width), (width, 0), (-width, 0)]
    places += [(slant, slant), (slant, -slant), (-slant, slant), (-slant, -slant)]
    colours = mean_around(images, side)
    squares = mean_around(ops.square(images), side)
    variance = ops.sum(squares - ops.square(colours), -1, keepdims=True)
    evenness = 1 / (ops.maximum(variance, 0.0) + 1e-3)

    # outside the image nothing is even; where all are outside, the pixel's own one is left
    neighbours = [(colours, 0.1)]
    margin = ((width, width), (width, width))
    colours = layers.ZeroPadding2D(margin, dtype="float32")(colours)
    evenness = layers.ZeroPadding2D(margin, dtype="float32")(evenness)
    for y, x in places:
        cut = layers.Cropping2D(((width + y, width - y), (width + x, width - x)), dtype="float32")
        neighbours.append((cut(colours), cut(evenness)))
    most = functools.reduce(ops.maximum, [even for _, even in neighbours])
    painted, total = 0.0, 0.0
    for colour, even in neighbours:
        share = ops.square(ops.square(even / most))  # within [0, 1], so that 16 bits hold it
        painted += share * colour
        total += share
    return painted / total


def draw_lines(images, stroke):
    """Where images [n, h, w, 3] in [-1, 1] have dark lines and edges, [n, h, w, 1]: 0 to 1.

    Lines are where a narrow mean is darker than a wider one, by over 2 % of the wider one's
    brightness. They are wider with a wider stroke. (Winnemöller 2011, difference of Gaussians)
    """
    grey = ops.sum(images * np.float32([0.299, 0.587, 0.114]), -1, keepdims=True)
    brightness = (grey + 1) / 2
    side = stroke // 4 * 2 + 1
    narrow, wide = mean_around(brightness, side), mean_around(brightness, side + 2)
    darker = (wide - narrow) / (wide + 0.1)
    return layers.Activation("tanh", dtype="float32", name="ink")(24 * ops.relu(darker - 0.02))


def mean_around(x, side):
    """Means of neighbourhoods [n, h, w, c] => [n, h, w, c], float32. Two square means in turn, of
    side x side pixels, weigh pixels nearly as a Gaussian does."""
    for _ in range(2):
        x = layers.AveragePooling2D(side, 1, padding="same", dtype="float32")(x)
    return x


def before_tanh(images):
    """Images in [-1, 1] => what tanh makes them of, within [-0.98, 0.98], where it is finite."""
    x = images * 0.98
    return (ops.log(1 + x) - ops.log(1 - x)) / 2


def build_discriminator(ndf=32, norm=LayerNorm):
    """The discriminator of AnimeGANv2, [n, 256, 256, 3] => logits [n, 64, 64, 1].

    Its kernels are divided by their largest singular values. 1,128,800 parameters by default.
    """

    def conv(x, filters, name, strides=1):
        after = 1 if strides == 1 else 0
        x = layers.ZeroPadding2D(((1, after), (1, after)), name=f"{name}_pad")(x)
        layer = SpectralConv2D(
            filters, 3, strides, use_bias=False, kernel_initializer=weights_init(), name=name
        )
        return layer(x)

    def lrelu(x, name):
        return layers.LeakyReLU(0.2, name=f"{name}_lrelu")(x)

    x = inputs = keras.Input((None, None, 3))

    # first: [batch, 256, 256, 3] => [batch, 256, 256, ndf]
    x = lrelu(conv(x, ndf, "first"), "first")

    # halve_1, layer_1: [batch, 256, 256, ndf] => [batch, 128, 128, ndf * 4]
    # halve_2, layer_2: [batch, 128, 128, ndf * 4] => [batch, 64, 64, ndf * 8]
    for level in (1, 2):
        x = lrelu(conv(x, ndf * 2**level, f"halve_{level}", strides=2), f"halve_{level}")
        x = conv(x, ndf * 2 ** (level + 1), f"layer_{level}")
        x = lrelu(norm(name=f"layer_{level}_norm")(x), f"layer_{level}")

    # last: [batch, 64, 64, ndf * 8] => [batch, 64, 64, 1]
    x = conv(x, ndf * 8, "layer_3")
    x = lrelu(norm(name="layer_3_norm")(x), "layer_3")
    x = conv(x, 1, "last")
    x = layers.Activation("linear", dtype="float32", name="logits")(x)
    return keras.Model(inputs, x)


def build_features(source):
    """conv4_4 of VGG19, or conv4_3 of VGG16, before its ReLU: images [n, h, w, 3] in [-1, 1] =>
    [n, h / 8, w / 8, 512]. (Simonyan, Zisserman 2014)

    source: "vgg19" or "vgg16", which Keras downloads once, or a .h5 file with the weights of one as
    Keras has them. Raises UserError.
    """
    network = load_vgg(source)
    names = [layer.name for layer in network.layers]
    last = network.get_layer("block4_conv4" if "block4_conv4" in names else "block4_conv3")
    last.activation = keras.activations.linear
    images = keras.Input((None, None, 3))
    # as it was trained: BGR in 0 to 255, less the means
    x = (images[..., ::-1] + 1) * 127.5 - np.float32([103.939, 116.779, 123.68])
    for layer in network.layers[1 : network.layers.index(last) + 1]:
        x = layer(x)
    x = layers.Activation("linear", dtype="float32", name="features")(x)
    features = keras.Model(images, x)
    features.trainable = False
    return features


def load_vgg(source):
    """VGG19 or VGG16 without its last layers. source: as of build_features(). Raises UserError."""
    networks = {"vgg19": keras.applications.VGG19, "vgg16": keras.applications.VGG16}
    if source in networks:
        try:
            return networks[source](include_top=False, weights="imagenet")
        except Exception as error:  # of the network, the disk, HDF5
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"--features {source}: Keras cannot download the weights ({reason}); "
                            "give a .h5 file of them, see docs/animegan.md") from None
    if not os.path.isfile(source):
        raise UserError(f"--features {source}: no such file; give vgg19, vgg16 or a .h5 file of "
                        "Keras")
    for build in networks.values():
        with contextlib.suppress(Exception):  # of another network, or no HDF5
            return build(include_top=False, weights=source)
    raise UserError(f"--features {source}: holds neither VGG19 nor VGG16 as Keras saves them")

# ------------------------------------------------------------------------------------------ losses

def gram(features):
    """Feature maps [n, h, w, c] => their Gram matrices [n, c, c], divided by h * w * c. (Gatys et
    al. 2016)"""
    n, h, w, c = features.shape
    flat = tf.reshape(features, [n, h * w, c])
    return tf.matmul(flat, flat, transpose_a=True) / (h * w * c)


def l1_loss(x, y):
    """Mean absolute difference."""
    return tf.reduce_mean(tf.abs(x - y))


def huber_loss(x, y):
    """Mean of the squared difference, halved, where it is below 1, else of the absolute one less
    1/2. (Huber 1964)"""
    distance = tf.abs(x - y)
    return tf.reduce_mean(tf.where(distance < 1, distance**2 / 2, distance - 0.5))


def colour_loss(photos, outputs):
    """How far images [n, h, w, 3] in [-1, 1] are apart in YUV: L1 of brightness, Huber of both
    colours."""
    a, b = (tf.image.rgb_to_yuv((images + 1) / 2) for images in (photos, outputs))
    colours = huber_loss(a[..., 1], b[..., 1]) + huber_loss(a[..., 2], b[..., 2])
    return l1_loss(a[..., 0], b[..., 0]) + colours


def variation_loss(images):
    """Half the mean squared difference of neighbours below, and of those to the right."""
    down = images[:, 1:] - images[:, :-1]
    right = images[:, :, 1:] - images[:, :, :-1]
    return (tf.reduce_mean(down**2) + tf.reduce_mean(right**2)) / 2


def to_grey(images):
    """Images [n, h, w, 3] => their luma (ITU-R 601) in three channels."""
    luma = tf.reduce_sum(images * [0.299, 0.587, 0.114], -1, keepdims=True)
    return tf.repeat(luma, 3, -1)


def smooth_edges(images):
    """Blurs images [n, h, w, 3] in [-1, 1] along their edges and nowhere else. (Chen et al. 2018,
    CartoonGAN, section 3.1)"""
    kernel = np.float32([1, 4, 6, 4, 1]) / 16
    square = np.outer(kernel, kernel)[..., None, None].repeat(3, 2)
    padded = tf.pad(images, [[0, 0], [2, 2], [2, 2], [0, 0]], "REFLECT")
    blurred = tf.nn.depthwise_conv2d(padded, square, [1, 1, 1, 1], "VALID")
    return tf.where(find_edges(images) > 0, blurred, images)


def find_edges(images):
    """Edges of images [n, h, w, 3] in [-1, 1], five pixels wide: 1 on them, else 0, [n, h, w, 1].

    Slopes over 200 levels, by Sobel's filters, and those over 100 that lead to them, as Canny's
    detector has it.
    """
    grey = (to_grey(images)[..., :1] + 1) * 127.5
    padded = tf.pad(grey, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    slopes = tf.image.sobel_edges(padded)[:, 1:-1, 1:-1, 0]
    strength = tf.reduce_sum(tf.abs(slopes), -1, keepdims=True)
    edges = tf.cast(strength > 200, tf.float32)
    candidates = tf.cast(strength > 100, tf.float32)
    for _ in range(16):
        edges = tf.nn.max_pool2d(edges, 3, 1, "SAME") * candidates
    return tf.nn.max_pool2d(edges, 5, 1, "SAME")

# --------------------------------------------------------------------------------------- algorithm

class AnimeGAN:
    """AnimeGANv2 with the interface that the rest of this file expects. training=False: only the
    generator."""

    name = "animegan"
    default_data = "miyazaki"
    default_name = "DATA_animegan"
    losses = ("discrim", "gan", "content", "style", "colour", "variation")
    network_flags = ("which_direction", "ngf", "ndf", "residual", "stroke", "ink", "crop_size")
    data_flags = ("crop_size", "scale_size", "aspect_ratio", "seed")
    crops_per_image = 1
    multiple = 4  # the generator takes images whose sides are multiples of this
    norm = LayerNorm

    def __init__(self, args, training):
        self.args = args
        self.domains = domains_of(args)
        if not all(domain.is_rgb for domain in self.domains.values()):
            raise UserError("animegan.py compares images by a network for 8-bit RGB: convert them, "
                            "or take cyclegan.py or cut.py")
        if args.stroke and not args.residual:
            raise UserError("--stroke paints what --residual begins from: give --residual too")
        if args.ink and not args.stroke:
            raise UserError("--ink draws on what --stroke paints: give --stroke too, for example 4")
        self.aspect_ratio = args.aspect_ratio
        self.paired = args.paired and not training
        self.crop, self.scale = parse_sizes(args.crop_size, args.scale_size, training)
        check_crop(self.crop, self.multiple, 2 if training else 0)
        direction = args.which_direction
        self.networks = {f"generator_{direction}": self.generator(direction)}
        run = functools.partial(self.run_generator, direction)
        self.translate = {direction: by_batch_size(run, self.domains[direction[0]])}
        self.optimizers = {}
        self.learning_rates = {}
        self.state = {}
        if training:
            self.build_training(args)

    def train_step(self, step, images):
        """One step on a batch of batches(): of the first phase, or of both networks. Returns the
        losses, float32 [6]."""
        photos, styles = images
        if self.args.which_direction == "BtoA":
            styles, photos = images
        if int(step) < self.args.init_steps:
            return self.learn_content(step, (photos, styles))
        return self.learn_style(step, (photos, styles))

    def content_step(self, step, images):
        """One step of the first phase: the translation keeps the features of the photograph."""
        photos, _ = images
        generator, _ = self.networks.values()
        optimizer = self.optimizers["content"]
        with tf.GradientTape() as tape:
            outputs = generator(photos)
            on_photos, on_outputs = tf.split(self.look(tf.concat([photos, outputs], 0)), 2)
            content = l1_loss(tf.stop_gradient(on_photos), on_outputs)
            scaled = optimizer.scale_loss(content)
        weights = generator.trainable_variables
        gradients = tape.gradient(scaled, weights)
        optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return tf.stack([0.0, 0.0, content, 0.0, 0.0, 0.0])

    def style_step(self, step, images):
        """One step of both networks: D first, then G against the new D."""
        photos, styles = images
        args = self.args
        generator, discriminator = self.networks.values()
        optimizer_g, optimizer_d = self.optimizers["generator"], self.optimizers["discriminator"]
        grey = to_grey(styles)

        with tf.GradientTape() as tape:
            outputs = generator(photos)

            # discriminator: D(style) => 1; D(output), D(grey), D(grey and smooth) => 0
            with tape.stop_recording():
                fakes = [outputs, grey, to_grey(smooth_edges(styles))]
                with tf.GradientTape() as tape_d:
                    logits = discriminator(tf.concat([styles, *fakes], 0))
                    on_style, on_output, on_grey, on_smooth = tf.split(logits, 4)
                    discrim = 1.7 * tf.reduce_mean((on_style - 1) ** 2)
                    discrim += 1.7 * tf.reduce_mean(on_output**2)
                    discrim += args.grey_weight * tf.reduce_mean(on_grey**2)
                    discrim += args.smooth_weight * tf.reduce_mean(on_smooth**2)
                    scaled_d = optimizer_d.scale_loss(discrim)
                weights_d = discriminator.trainable_variables
                gradients_d = tape_d.gradient(scaled_d, weights_d)
                optimizer_d.apply_gradients(zip(gradients_d, weights_d, strict=True))

            # generator: D(output) => 1; content and colours of the photograph, style of the grey
            gan = tf.reduce_mean((discriminator(outputs) - 1) ** 2)
            fixed = tf.stop_gradient(self.look(tf.concat([photos, grey], 0)))
            on_photos, on_styles = tf.split(fixed, 2)
            on_outputs = self.look(outputs)
            content = l1_loss(on_photos, on_outputs)
            style = l1_loss(gram(on_styles), gram(on_outputs))
            colour = colour_loss(photos, outputs)
            variation = variation_loss(outputs)
            loss_g = (
                args.gan_weight * gan
                + args.content_weight * content
                + args.style_weight * style
                + args.colour_weight * colour
                + args.variation_weight * variation
            )
            scaled_g = optimizer_g.scale_loss(loss_g)

        weights_g = generator.trainable_variables
        gradients_g = tape.gradient(scaled_g, weights_g)
        optimizer_g.apply_gradients(zip(gradients_g, weights_g, strict=True))
        return tf.stack([discrim, gan, content, style, colour, variation])

    def look(self, images):
        """The features of images, divided by their mean size on photographs."""
        return self.features(images) / self.feature_size

    def generator(self, direction, norm=LayerNorm, crop=None):
        """Builds a generator as the flags say, with other norm layers for export."""
        args = self.args
        return build_generator(args.ngf, norm, args.residual, args.stroke, args.ink)

    def build_training(self, args):
        """The discriminator, the features and the optimizers."""
        (generator,) = self.networks.values()
        discriminator = build_discriminator(args.ndf)
        self.networks["discriminator"] = discriminator
        self.features = build_features(args.features)
        self.feature_size = tf.Variable(1.0, trainable=False, name="feature_size")
        if args.relative_features and args.input_dir:
            size = self.measure_features()
            self.feature_size.assign(size)
            print(f"features: {args.features}, mean size {size:.4g}")
        self.state["feature_size"] = self.feature_size
        rates = {"content": args.init_lr, "generator": args.lr, "discriminator": args.lr_d}
        for name, rate in rates.items():
            network = discriminator if name == "discriminator" else generator
            self.optimizers[name] = build_optimizer(
                network.trainable_variables, rate, args.beta1, args.mixed_precision
            )
            self.learning_rates[name] = rate
        self.learn_content = compile_step(self.content_step, args.xla)
        self.learn_style = compile_step(self.style_step, args.xla)

    def measure_features(self):
        """The mean absolute feature of up to 16 photographs."""
        domain = self.args.which_direction[0]
        paths = [path for _, path in list_images(self.args.input_dir, "train", domain)]
        places = np.linspace(0, len(paths) - 1, min(len(paths), 16))
        sizes = []
        for place in places:
            image = self.domains[domain].read(paths[round(place)], self.crop)
            features = self.features(self.domains[domain].to_signed(image[None]))
            sizes.append(float(tf.reduce_mean(tf.abs(features))))
        return np.mean(sizes)

    def find_test_images(self, input_dir):
        """[(name, path, direction)] of the images to translate."""
        direction = self.args.which_direction
        images = list_images(input_dir, "test", direction[0])
        return [(name, path, direction) for name, path in images]

    # >>> unpaired files: the same in all unpaired files but siamesegan.py (tools/fix_copies.py)
    def channels(self, direction):
        """The channels of inputs and of outputs."""
        return self.domains[direction[0]].channels, self.domains[direction[-1]].channels

    def read(self, path):
        """Reads an image of A or B. Raises UserError."""
        folder = Path(path).parent.name
        return self.domains["B" if folder.endswith("B") else "A"].read(path)

    def run_generator(self, direction, images):
        """Images [n, h, w, c], sides multiples of self.multiple => translations in [0, 1]."""
        inputs = self.domains[direction[0]].to_signed(images)
        outputs = self.networks[f"generator_{direction}"](inputs)
        return (outputs + 1) / 2

    def generator_of(self, direction):
        """The generator of a direction. Raises UserError if tools/import-weights.py had no file for
        it."""
        generator = self.networks[f"generator_{direction}"]
        if not np.any(generator.weights[0]):
            raise UserError(f"{self.args.checkpoint} has no weights for {direction}: "
                            "give the other --which_direction")
        return generator

    @staticmethod
    def files_to_look_at(input_dir):
        """{domain: (paths, None)}: which files hold a domain."""
        files = {}
        for domain in ("A", "B"):
            files[domain] = [path for _, path in list_images(input_dir, "train", domain)], None
        return files

    def find_training_images(self):
        """{domain: paths} to train on."""
        images = {}
        for domain in ("A", "B"):
            found = list_images(self.args.input_dir, "train", domain)
            images[domain] = [path for _, path in found]
        return images

    def find_samples(self, held_out):
        """[(name, path, direction)] of the images that training shows, 4 per direction; held_out:
        of testA and testB where they are."""
        folder = Path(self.args.input_dir)
        samples = []
        for direction in self.translate:
            domain = direction[0]
            has_test = held_out and (folder / f"test{domain}").is_dir()
            images = list_images(folder, "test" if has_test else "train", domain)
            for name, path in images[:4]:
                samples.append((f"{direction}-{name}", path, direction))
        return samples

    def batches(self, paths, start, share=None):
        """Training batches from step `start` on: A and B, float32 [batch, *crop, c] in [-1, 1].

        An epoch is a pass over the larger domain; the other starts again, in a new order, whenever
        it runs out. Two seeds make new pairs in each epoch.
        """
        args = self.args
        domains = []
        for domain, seed in (("A", args.seed), ("B", args.seed ^ 2**30)):
            domains.append(
                random_batches(
                    paths[domain], self.domains[domain], self.scale, self.crop, args.batch_size,
                    args.flip, seed, start, args.cache_mb // 2, share, args.version,
                )
            )
        return tf.data.Dataset.zip(*domains)

    def translate_images(self, images, direction):
        """Images [n, h, w, c] of any size => their translations."""
        window = self.args.tile_size if self.args.native_size else max(self.crop)
        return translate_windows(
            self.translate[direction], images, window, self.multiple,
            self.domains[direction[-1]], 2 * self.multiple,
        )

    def translate_file(self, path, direction):
        """Path => images [h, w, c] by kind: inputs, outputs, maybe recovered and, with --paired in
        test, targets."""
        source = self.domains[direction[0]]
        inputs = source.read(path, None if self.args.native_size else self.crop)
        outputs = self.translate_images(inputs[None], direction)[0]
        images = {"inputs": inputs, "outputs": outputs}
        for back in self.translate:
            if back != direction:
                images["recovered"] = self.translate_images(outputs[None], back)[0]
        if self.paired:
            twin = find_twin(path, direction)
            images["targets"] = self.domains[direction[-1]].read(twin, inputs.shape[:2])
        return images

    def build_serving_model(self, height=None, width=None, batch_size=None):
        """The model that export writes: images [n, h, w, c] => translations. It has only Keras's
        own layers, or, with a batch_size, only tensors of 4 axes, which suit LiteRT."""
        direction = self.args.which_direction
        if direction == "both":
            raise UserError("export writes one generator: "
                            "give --which_direction AtoB or BtoA, not both")
        if batch_size:
            generator = self.generator(direction)
        else:
            crop = functools.partial(layers.Cropping2D, ((1, 0), (1, 0)))
            groups = 1 if self.norm.__name__ == "LayerNorm" else -1  # -1: each channel alone
            is_affine = self.norm.__name__ != "InstanceNorm"
            norm = functools.partial(
                layers.GroupNormalization, groups, epsilon=1e-5, center=is_affine, scale=is_affine
            )
            generator = self.generator(direction, norm=norm, crop=crop)
        generator.set_weights(self.generator_of(direction).get_weights())
        source, target = self.domains[direction[0]], self.domains[direction[-1]]
        shape = (height, width, source.channels)
        images = keras.Input(shape, batch_size, dtype=source.type, name="images")
        outputs = generator(source.to_signed(images))
        return keras.Model(images, target.to_values((outputs + 1) / 2))
    # <<< unpaired files

# -------------------------------------------------------------------------------------------- data

# >>> crops: the same in all but siamesegan.py (tools/fix_copies.py)
def parse_sizes(crop_size, scale_size, training=True):
    """--crop_size, --scale_size => (crop height, width), (scale height, width), in pixels, or None
    for images that keep their sizes."""
    crop = parse_size("crop_size", crop_size)
    if len(crop) == 1:
        crop = crop * 2
    if scale_size == "0":
        return tuple(crop), None
    scale = parse_size("scale_size", scale_size)
    if len(scale) == 1:  # the shape of the crop
        scale = [round(scale[0] * side / min(crop)) for side in crop]
    if training and (crop[0] > scale[0] or crop[1] > scale[1]):
        raise UserError(f"--crop_size {crop_size} is larger than --scale_size {scale_size}: "
                        "raise --scale_size")
    return tuple(crop), tuple(scale)


def parse_size(flag, text):
    """"256" => [256]; "256x512" => [256, 512]."""
    match = re.fullmatch(r"0*([1-9]\d{,4})(?:x0*([1-9]\d{,4}))?", text)
    if not match:
        raise UserError(f"--{flag} {text}: give a number of pixels, as in 256, or HEIGHTxWIDTH, "
                        "as in 256x512")
    return [int(side) for side in match.groups() if side]


def random_batches(
    paths, source, scale, crop, batch_size, flip, seed, start, cache_mb, share=None, version=2
):
    """Endless training batches, from step `start` on: float32 [n, *crop, channels] in [-1, 1].

    source: a Domain, or another reader, which may stack images that are cropped and mirrored alike.
    All images are resized to `scale`, unless it is None. The order, new in each epoch, and the
    crops depend on (seed, position) alone, so that a training can continue at any step. n, share:
    see own_share(); version: see shuffled_index().
    """
    channels = source.channels
    scale = scale or common_size(paths, source, crop)

    def load(path):
        return read_in_graph(source, path, scale)

    def example(position):
        index = shuffled_index(position, len(paths), seed, version)
        image = cache[index] if is_cached else load(names[index])
        crop_seed = tf.stack([tf.constant(seed, tf.int64), position])
        flip_seed = tf.random.experimental.stateless_fold_in(crop_seed, 1)
        image = tf.image.stateless_random_crop(image, [*crop, channels], crop_seed)
        if flip:
            image = tf.image.stateless_random_flip_left_right(image, flip_seed)
        return source.to_signed(image)

    n, is_own = own_share(batch_size, share)
    is_cached = False
    if scale:
        size = scale[0] * scale[1] * channels * np.dtype(source.type).itemsize
        is_cached = len(paths) * size <= cache_mb * 2**20
    with tf.device("cpu"):
        names = names_of(paths)
        if is_cached:
            images = with_own_threads(tf.data.Dataset.from_tensor_slices(names).map(load, AUTOTUNE))
            with naming_unreadable(paths, source.read):
                # [n, h, w, c], in the order of the paths
                cache = images.batch(len(paths)).get_single_element()
        positions = tf.data.Dataset.range(start * batch_size, 2**62).filter(is_own)
        examples = positions.map(example, AUTOTUNE, deterministic=True)
        batches = examples.batch(n, drop_remainder=True).prefetch(AUTOTUNE)
        return with_own_threads(batches)


def common_size(paths, source, crop):
    """The size of all images, (height, width), or None if they differ. Raises UserError for an
    image that is smaller than the crops."""
    with ThreadPoolExecutor() as threads:
        sizes = list(threads.map(lambda path: source.read(path).shape[:2], paths))
    for path, (height, width) in zip(paths, sizes, strict=True):
        if height < crop[0] or width < crop[1]:
            raise UserError(f"{path} is {width}x{height}, smaller than --crop_size: without "
                            "--scale_size 0 it is enlarged")
    return sizes[0] if len(set(sizes)) == 1 else None
# <<< crops
# >>> unpaired data: the same in all unpaired files but siamesegan.py (tools/fix_copies.py)
def check_crop(size, multiple, n_layers):
    """Raises UserError for crops of (height, width) pixels that the networks cannot take."""
    height, width = size
    if height % multiple or width % multiple or min(size) < 2 * multiple:
        near = "x".join(str(max(2, round(side / multiple)) * multiple) for side in size)
        raise UserError(f"--crop_size {height}x{width}: the generators need multiples of "
                        f"{multiple}, e.g. {near}")
    least = 3 * 2**n_layers
    if min(size) < least:
        raise UserError(f"--crop_size {height}x{width}: --n_layers_d {n_layers} needs {least} "
                        "pixels or more")


def find_twin(path, direction):
    """The path of the same scene in the other domain: the file of that name in testB or testA,
    whatever its extension and however its Unicode is composed. Raises UserError."""
    import unicodedata

    path = Path(path).absolute()
    twin = path.parent.with_name(f"test{direction[-1]}") / path.name
    if not twin.is_file() and twin.parent.is_dir():
        wanted = Path(unicodedata.normalize("NFC", twin.name))
        for other in sorted(filter(is_image, twin.parent.iterdir())):
            name = Path(unicodedata.normalize("NFC", other.name))
            if name == wanted:
                twin = other
                break
            if name.stem == wanted.stem:
                twin = other
    if not twin.is_file() or twin.samefile(path):
        raise UserError(f"--paired: {path} has no counterpart: {direction} compares images with "
                        f"{twin}")
    return str(twin)
# <<< unpaired data

def random_places(count, maps, seed, domains=1):
    """Random pixels of feature maps [n, h, w, c], all different: int32 [n, min(count, h * w)].

    seed: int64 [2]. The n maps are of so many domains, one after the other; replicas take their
    parts of one draw.
    """
    n, height, width, _ = maps.shape
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    draw = tf.random.stateless_uniform([n * replicas, height * width], seed)
    draw = own_part(draw, domains)
    return tf.math.top_k(draw, min(count, height * width)).indices


def take_all(features, places, mirror=False):
    """take() for each of a list of feature maps and places."""
    return [take(maps, where, mirror) for maps, where in zip(features, places, strict=True)]


def take(maps, places, mirror=False):
    """The pixels of feature maps [n, h, w, c] at places, int32 [n, count] => float32 [n, count, c].
    Where mirror, bool [], is true: of the maps mirrored left to right."""
    n, height, width, channels = maps.shape
    mirrored = places + width - 1 - 2 * (places % width)
    places = tf.where(mirror, mirrored, places)
    pixels = tf.gather(tf.reshape(maps, [n, height * width, channels]), places, batch_dims=1)
    return tf.cast(pixels, tf.float32)

# >>> shared part: the same in all algorithm files (tools/fix_copies.py)
# ==================================================================================================
# The algorithm ends here; the rest is the same in every algorithm file, in this order: flags,
# training, test, export, command line; then what these use: images, devices, optimizers, windows,
# output files, checkpoints.
#
# Of an algorithm class it uses:
#   name, default_data          str: the script's name; the data of a training without --input_dir
#   default_name                str: default folders of a training on DATA, e.g. "DATA_cyclegan"
#   network_flags               flags that a checkpoint fixes
#   data_flags                  flags that test and export take from the checkpoint, unless they are
#                               given; network_flags among them are fixed only in training
#   losses                      names of what train_step returns
#   __init__(args, training)    args: all flags as attributes; training=False builds what test and
#                               export need
# and of its objects:
#   networks, state             {name: keras.Model}, {name: any trackable}: what a checkpoint holds
#   optimizers, learning_rates  {name: optimizer}, {name: float}: the rates they start with
#   crops_per_image             int: crops that an image gives in an epoch
#   aspect_ratio                width / height that test stretches images to
#   multiple                    the sides of the generators' inputs are multiples of this
#   domains                     {"A": Domain, "B": Domain}
#   read(path)                  reads an image file as training does; raises UserError
#   files_to_look_at(input_dir) => {domain: ([path], part)}, a static method: what find_domains()
#                               looks at, and which part of each file, None for all
#   find_training_images() => {kind: [path]}
#   find_test_images(input_dir) => [(name, path, direction)]
#   find_samples(held_out) => the same for the images that training shows; held_out: from the test
#                               data, if there are any
#   batches(paths, start, share) => tf.data.Dataset of training batches from step `start` on;
#                               paths: {kind: [path]}; share: for which machine, see own_share()
#   train_step(step, batch) => float32 [len(losses)], compiled by compile_step(); step: int64 []
#   translate_images(images, direction) => [n, h, w, c] of the other domain; for
#                               tools/translate.py
#   translate_file(path, direction) => {kind: [h, w, c]}; kinds: inputs, outputs, maybe recovered,
#                               targets
#   build_serving_model(height, width, batch_size) => keras.Model: images => translations
# Images that it takes and gives have the type, channels and values of their domain; see Domain.
# ==================================================================================================

boolean("help", False, "show this help")
choice("mode", None, ["train", "test", "export"], "what to do")
string("output_dir", None,
       "folder to write to; default: named after the data or the checkpoint, and printed")
string("checkpoint", None,
       "folder of a training to continue, test or export, or a checkpoint in it, DIR/model-2000")
string("init_from", None,
       "folder of another training of the same script, whose networks a new training begins with")
integer("max_steps", None, "training steps in total, instead of --max_epochs", 1)
integer("seed", None, "random seed, for repeatable trainings; default: drawn", 0, 2**32 - 1)
boolean("deterministic", None,
        "repeat bit for bit on a CPU, a few percent slower; default: on with --seed")
string("channels", None,
       "channels of the images: one number, or two for A and B, as in 4,3; default: as the files "
       "have them; 3 for 8-bit images")
string("value_range", None,
       "lowest and highest value that matter: LOW,HIGH, or LOW,HIGH,LOW,HIGH for A and B; "
       "default: 0,255 for 8 bits, e.g. 0,4095 for 12; other types need it")
number("nan_value", None, "number that replaces NaN and infinities; default: they are an error")
string("preview_bands", None,
       "channels that pages show as red, green and blue, as in 4,3,2; default: the first three")
boolean("flip", True, "mirror training images at random")
boolean("no_flip", False, "the same as --noflip")
number("beta1", 0.5, "momentum of Adam", 0, 1)
number("ema_decay", 0.0,
       "samples, test and export use a moving average of the weights, e.g. 0.999; 0: none",
       0, 0.99999)
choice("mixed_precision", "off", ["off", "bfloat16", "float16"],
       "bfloat16: faster on GPUs, some CPUs (docs/faq.md)")
boolean("xla", False, "compile the training step with XLA; meant for GPUs, slower on CPUs")
integer("summary_freq", 100, "steps between TensorBoard scalars, 0: none", 0)
integer("progress_freq", 50, "steps between progress lines, 0: none", 0)
integer("display_freq", 500, "steps between samples in index.html and TensorBoard, 0: none", 0)
integer("save_freq", 2000, "steps between checkpoints, 0: only at the end", 0)
integer("keep_freq", 0,
        "steps between generators that are kept for good in kept/, for test and export; 0: none", 0)
integer("trace_freq", 0, "steps between profiler traces of one step for TensorBoard, 0: none", 0)
integer("replicas", 1,
        "GPUs of this machine that share each batch; without GPUs parts of the CPU, for tests", 1)
boolean("cluster", False,
        "share each batch with the other machines named in TF_CONFIG; see docs/distribute.md")

VERSION = 2  # of trainings, in options.json; version 1 had another order of images, and optimizers
# that were saved in another form

# Not kept in options.json:
RUN_FLAGS = (
    "help", "mode", "checkpoint", "output_dir", "no_flip", "given", "saved", "networks_of",
    "strategy",
)
AUTOTUNE = tf.data.AUTOTUNE


class UserError(Exception):
    """An error that the user can fix. Its message is one line: what was wrong, what to do."""


# ----------------------------------------------------------------------------------------- training

def train(args, algorithm):
    """Trains from scratch, or on from args.checkpoint. Returns the exit code."""
    begin = find_beginning(args)
    check_replicas(args)
    if args.domains is None:
        args.domains = find_domains(args, algorithm)
    return Training(args, algorithm, begin).run()


class Training:
    """A training, from scratch or continued from the checkpoint `begin`.

    A checkpoint holds all that a training needs to go on. 100 steps give the same weights as 60
    steps, a kill -9, and a second run from the last checkpoint: on a CPU, bit for bit.
    """

    def __init__(self, args, algorithm, begin):
        self.args = args
        self.workers = Workers(args)
        self.output_dir = Path(args.output_dir)
        with args.strategy.scope():
            self.model = algorithm(args, training=True)
        self.averages = Averages(self.model, algorithm, args) if args.ema_decay else None
        self.find_images()
        self.restore(begin)
        self.signs = Signs()
        self.history = History(Path(begin).parent if begin else self.output_dir, self.step)
        self.is_repeat = bool(begin) and not args.checkpoint
        self.check_repeat(begin)
        self.signals = []  # the numbers of those that came
        self.unreadable = None  # a UserError that names a damaged image
        self.workers.check_agreement(self.step, self.paths)
        if not self.is_repeat:
            self.open_output(begin)

    def find_images(self):
        """The images to train on and to show, and the number of steps."""
        args = self.args
        self.images = self.model.find_training_images()
        self.paths = [path for paths in self.images.values() for path in paths]
        self.samples = None
        if args.display_freq and self.workers.is_chief:
            self.samples = Samples(self.averages.model if self.averages else self.model)
        largest = max(len(paths) for paths in self.images.values())
        self.epoch_size = largest * self.model.crops_per_image
        steps = math.ceil(args.max_epochs * self.epoch_size / args.batch_size)
        self.total = args.max_steps or steps

    def restore(self, begin):
        """Takes the state of the checkpoint `begin`, if there is one."""
        self.saved_step = tf.Variable(0, dtype=tf.int64)
        self.saved_losses = tf.Variable(tf.zeros(len(self.model.losses)))
        self.saved_objects = {
            **weights_of(self.model),
            **optimizers_of(self.model),
            **self.model.state,
            "step": self.saved_step,
            "smoothed": self.saved_losses,
        }
        if begin:
            restore_training(begin, self.saved_objects, self.model)
        elif self.args.init_from:
            init_networks(self.model, self.args)
        if self.averages:
            self.averages.start(begin)
            self.saved_objects["averaged"] = weights_of(self.averages.model)
        self.first_step = int(self.saved_step)
        self.step = self.first_step  # steps done
        self.is_whole = True  # no step is half done

    def check_repeat(self, begin):
        """Raises UserError where a training without --checkpoint meets an unfinished one. A
        finished one of the same flags is left as it is, so that commands can be given twice."""
        if self.is_repeat and self.step < self.total:
            raise UserError(f"{begin} exists: continue it with --checkpoint "
                            f"{in_quotes(self.output_dir)}, or choose another --output_dir")

    def open_output(self, begin):
        """Takes possession of --output_dir and says what will be trained."""
        if self.workers.is_chief:
            self.lock = take_folder(self.output_dir, begin)
            options = {"script": self.model.name, **saved_options(self.args)}
            file = self.output_dir / "options.json"
            if self.step < self.total or not file.exists():  # if not, these train nothing
                write_file(file, options)
        checkpoint = tf.train.Checkpoint(**self.saved_objects)
        self.manager = tf.train.CheckpointManager(checkpoint, self.output_dir, max_to_keep=3,
                                                  checkpoint_name="model")
        counts = ", ".join(f"{len(paths)} {kind}" for kind, paths in self.images.items())
        print(f"data: {self.args.input_dir} ({counts}); writing to {self.output_dir}; "
              f"seed {self.args.seed}; {self.args.device}")
        sizes = [f"{name} {network.count_params():,} parameters"
                 for name, network in self.model.networks.items()]
        print("; ".join(sizes), flush=True)
        self.signs.check_images(self.images, self.total * self.args.batch_size / self.epoch_size)
        self.progress = Progress(self)

    def run(self):
        """Trains to the end, or until a signal comes. Returns the exit code."""
        if self.is_repeat:
            return self.say_goodbye()
        try:
            with catch_signals(self.signals):
                self.train_and_save()
            return self.say_goodbye()
        except OSError:
            if not self.signals:
                raise
            turn_off(sys.stdout)  # a terminal that is gone; all is saved
            return 128 + self.signals[0]

    def train_and_save(self):
        """Trains, and saves however the training ends, even if a page cannot be written or the
        reader of stdout has left."""
        try:
            self.loop()
            self.save()
        except NotFinite:
            raise
        except BaseException:
            if self.is_whole:
                self.save()
            raise
        finally:
            self.progress.close()
            if self.workers.is_chief:
                self.lock.release()

    def loop(self):
        """The training loop."""
        batches = iter(self.args.strategy.distribute_datasets_from_function(self.own_batches))
        while self.step < self.total:
            start = time.perf_counter()
            must_stop = bool(self.signals)  # a later one lets this step finish
            batch = self.next_batch(batches)
            if any(self.workers.ask(must_stop or batch is None)):
                break
            losses = self.train_step(batch)
            self.check_finite(dict(zip(self.model.losses, losses, strict=True)))
            self.progress.add(losses, time.perf_counter() - start)
            self.report()
            if self.is_due(self.args.save_freq):
                self.save()
            if self.is_due(self.args.keep_freq):
                self.keep()

    def own_batches(self, share):
        """The batches of this machine."""
        batches = self.model.batches(self.images, self.step, share)
        if self.args.cluster:  # if not, the workers ask at every step whether there is more
            batches = batches.apply(tf.data.experimental.assert_cardinality(-1))
        return batches

    def next_batch(self, batches):
        """The next batch; None, and self.unreadable, if an image in it is damaged."""
        try:
            with naming_unreadable(self.paths, self.model.read):
                return next(batches)
        except UserError as error:
            self.unreadable = error

    def train_step(self, batch):
        """One step of all networks. Returns the losses."""
        decay_steps = self.args.decay_epochs * self.epoch_size / self.args.batch_size
        for name, optimizer in self.model.optimizers.items():
            start_rate = self.model.learning_rates[name]
            rate = learning_rate_at(self.step, start_rate, self.total, decay_steps)
            optimizer.learning_rate = rate
        is_traced = self.is_due(self.args.trace_freq)
        if is_traced:
            tf.profiler.experimental.start(str(self.output_dir))
        self.is_whole = False
        losses = self.model.train_step(tf.constant(self.step, tf.int64), batch).numpy()
        if self.averages:
            self.averages.update(self.step)
        self.step += 1
        self.is_whole = True
        if is_traced:
            tf.profiler.experimental.stop()
        return losses

    def is_due(self, frequency):
        """Whether it is time for what happens every `frequency` steps, and at the end."""
        if not self.workers.is_chief or not frequency:
            return False
        return self.step % frequency == 0 or self.step == self.total

    def report(self):
        """Shows where the training is: on the terminal, in TensorBoard and as sample images."""
        if self.is_due(self.args.progress_freq):
            self.progress.print_line()
        with self.progress.writer.as_default(self.step):
            if self.is_due(self.args.summary_freq):
                self.progress.summarize()
                losses = dict(zip(self.model.losses, self.progress.losses, strict=True))
                self.history.add("loss", self.step, losses)
                self.signs.check_losses(self.step, losses)
            if self.samples and self.is_due(self.args.save_freq):
                self.history.add("held_out", self.step, self.samples.judge())
            if self.samples and self.is_due(self.args.display_freq):
                self.samples.show(self.output_dir, self.step, self.history.draw(), self.signs)

    def save(self):
        """Writes a checkpoint, unless the last one is of this step."""
        path = os.path.join(self.manager.directory, f"model-{self.step}")
        if not self.workers.is_chief or self.manager.latest_checkpoint == path:
            return
        self.check_finite({**weights_of(self.model), **optimizers_of(self.model)})
        if not (self.output_dir / "options.json").exists():
            raise UserError(f"{self.output_dir} was removed or renamed while training: step "
                            f"{self.step} is lost")
        self.history.write(self.output_dir)
        self.saved_step.assign(self.step)
        self.saved_losses.assign(self.progress.losses)
        self.manager.save(checkpoint_number=self.step)

    def keep(self):
        """Writes what test needs, the generators or their averages, to kept/model-N, for good."""
        folder = self.output_dir / "kept"
        folder.mkdir(exist_ok=True)
        generators = {}
        for name, weights in weights_of(self.model).items():
            if name.startswith("generator"):
                generators[name] = weights
        if self.averages:
            generators = {"averaged": weights_of(self.averages.model)}
        self.check_finite(generators)
        options = {"script": self.model.name, **saved_options(self.args)}
        write_file(folder / "options.json", options)
        checkpoint = tf.train.Checkpoint(**generators)
        checkpoint.save_counter.assign(1)  # restore() asks for it
        checkpoint.write(str(folder / f"model-{self.step}"))

    def check_finite(self, values):
        """Raises NotFinite for infinities and NaNs in {name: array, or a nest of arrays}."""
        bad = []
        for name, value in values.items():
            if not all(np.isfinite(array).all() for array in tf.nest.flatten(value)):
                bad.append(name)
        if bad:
            last = find_checkpoint(self.output_dir) or "none"
            raise NotFinite(f"step {self.step}: not finite ({', '.join(bad)}); lower --lr; "
                            f"last good checkpoint: {last}")

    def say_goodbye(self):
        """Says why the training ended and what to do next. Returns the exit code."""
        if self.unreadable:
            raise UserError(f"{self.unreadable}; step {self.step} is saved: "
                            f"continue with --checkpoint {in_quotes(self.output_dir)}")
        if self.step < self.total or self.signals:
            how = f"continue with --mode train --checkpoint {in_quotes(self.output_dir)}"
            print(f"stopped and saved at step {self.step}; {how}")
            return 128 + (self.signals[0] if self.signals else signal.SIGTERM)  # another worker's
        if self.step == self.first_step:
            print(f"nothing was trained: step {self.step} of {self.total} was done before; "
                  "to go on, give a larger --max_epochs or --max_steps")
            return 0
        page = f"; samples in {self.output_dir / 'index.html'}" if self.samples else ""
        how = f"next: --mode test --checkpoint {in_quotes(self.output_dir)}"
        print(f"done: step {self.step}{page}; {how}")
        return 0


class NotFinite(UserError):
    """Losses or weights that are infinite or NaN: nothing of them may be saved."""


class Progress:
    """The losses and the speed of a training: on the terminal and in TensorBoard."""

    def __init__(self, training):
        self.training = training
        self.losses = training.saved_losses.numpy()  # moving averages
        self.seconds = []  # of each step since the last progress line
        self.rate = 0.0  # images per second
        self.writer = tf.summary.create_noop_writer()
        if training.workers.is_chief:
            self.writer = tf.summary.create_file_writer(str(training.output_dir))
        is_terminal = getattr(sys.stdout, "isatty", bool)()
        self.bar = tqdm(total=training.total, initial=training.step, unit="step", file=sys.stdout,
                        disable=not is_terminal)

    def add(self, losses, seconds):
        """Takes the losses and the time of a step."""
        training = self.training
        is_first_ever = training.step == 1
        self.losses = losses if is_first_ever else 0.99 * self.losses + 0.01 * losses
        if training.step > training.first_step + 1:  # the first step compiles
            self.seconds.append(seconds)
        total = sum(self.seconds)
        if total > 0:
            self.rate = training.args.batch_size * len(self.seconds) / total
        self.bar.set_description_str(f"epoch {self.epoch()}", refresh=False)
        self.bar.set_postfix_str(self.describe_losses(), refresh=False)
        self.bar.update()

    def epoch(self):
        """The number of the epoch under way, from 1 on."""
        training = self.training
        return math.ceil(training.step * training.args.batch_size / training.epoch_size)

    def describe_losses(self):
        """The losses as one text."""
        losses = zip(self.training.model.losses, self.losses, strict=True)
        return "  ".join(f"{name} {value:.4f}" for name, value in losses)

    def print_line(self):
        """Prints a progress line, where there is no terminal for a bar."""
        training = self.training
        mean = sum(self.seconds) / max(1, len(self.seconds))
        hours, minutes = divmod(int((training.total - training.step) * mean / 60), 60)
        self.seconds = []
        if self.bar.disable:
            print(f"epoch {self.epoch()}  step {training.step}/{training.total}  "
                  f"{self.rate:.2f} images/s  {hours}h{minutes:02}m left  "
                  f"{self.describe_losses()}", flush=True)

    def summarize(self):
        """Writes the losses, learning rates and speed for TensorBoard."""
        model = self.training.model
        for name, value in zip(model.losses, self.losses, strict=True):
            tf.summary.scalar(f"loss/{name}", value)
        for name, optimizer in model.optimizers.items():
            tf.summary.scalar(f"learning_rate/{name}", optimizer.learning_rate)
        tf.summary.scalar("images_per_second", self.rate)

    def close(self):
        """Ends the bar and the file of TensorBoard."""
        with contextlib.suppress(OSError):  # of a terminal that is gone
            self.bar.close()
        self.writer.close()


class History:
    """The losses of a training and, for pairs, the L1 and SSIM of held-out images: the curves on
    its page. history.json holds them: {"loss": {step: {name: value}}, "held_out": ...}."""

    def __init__(self, folder, step):
        self.rows = {"loss": {}, "held_out": {}}
        try:
            there = json.loads((folder / "history.json").read_text(encoding="utf-8"))
            for kind, rows in self.rows.items():
                for number, values in there[kind].items():
                    if int(number) <= step:  # what came after a checkpoint comes again
                        rows[int(number)] = {name: float(values[name]) for name in values}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self.rows = {"loss": {}, "held_out": {}}  # a new training

    def add(self, kind, step, values):
        """Takes {name: value} of a step."""
        if values:
            self.rows[kind][step] = {name: float(values[name]) for name in values}

    def write(self, folder):
        """Writes history.json."""
        write_file(folder / "history.json", self.rows)

    def draw(self):
        """The curves, as HTML."""
        curves = {}  # {name: [(step, value)]}
        for kind, rows in self.rows.items():
            for step, values in rows.items():
                for name, value in values.items():
                    title = name if kind == "loss" else f"held-out {name}"
                    curves.setdefault(title, []).append((step, value))
        figures = [draw_curves(title, [(curve, "#1f6fb4")]) for title, curve in curves.items()]
        return f'<div class="curves">{"".join(figures)}</div>' if figures else ""


class Signs:
    """Signs of trouble in the numbers of a training, each said once, on the terminal and on the
    page, while there is time. docs/faq.md says what to do."""

    def __init__(self):
        self.said = {}  # {kind: text}
        self.differences = []  # of each sample: how far its translation is from the input
        self.correlations = []  # of each sample: whether both are light at the same places

    def say(self, kind, text):
        """Says a text, unless one of the same kind was said before."""
        if kind not in self.said:
            self.said[kind] = text
            print(f"warning: {text} (docs/faq.md)", file=sys.stderr)

    def check_images(self, images, epochs):
        """Looks at how many training images there are, and how often each is seen."""
        least = min(len(paths) for paths in images.values())
        if least < 10 and epochs > 100:
            count = f"{least} image{'s' if least > 1 else ''}"
            self.say("few", f"only {count}, {epochs:.0f} times: the networks will learn them by "
                     "heart")

    def check_losses(self, step, losses):
        """Looks at smoothed losses, {name: value}. A discriminator that guesses has 0.25 or 0.69,
        and one that is not trained yet has 0."""
        for name in ("discrim", "discrim_A", "discrim_B"):
            if step >= 1000 and 0 < losses.get(name, 1) < 0.01:
                self.say("discriminator", f"step {step}: the discriminator has won ({name} "
                         f"{losses[name]:.4f}): the generator learns little from it")

    def look_at(self, images, domains):
        """Looks at one sample, {kind: image}, if it has no target and is 8-bit RGB."""
        if "targets" in images or not all(domain.is_rgb for domain in domains.values()):
            return
        inputs, outputs = (np.float32(images[kind]) / 255 for kind in ("inputs", "outputs"))
        self.differences.append(np.abs(inputs - outputs).mean())
        light_in, light_out = inputs.mean(axis=-1).ravel(), outputs.mean(axis=-1).ravel()
        if light_in.std() > 0.01 and light_out.std() > 0.01:
            self.correlations.append(np.corrcoef(light_in, light_out)[0, 1])

    def check_samples(self, step):
        """Judges the samples that were looked at."""
        if step >= 2000 and self.differences and np.mean(self.differences) < 0.01:
            self.say("copies", f"step {step}: the translations are nearly their inputs")
        if step >= 2000 and self.correlations and np.mean(self.correlations) < 0:
            self.say("inverted", f"step {step}: light and dark are exchanged in the translations")
        self.differences = []
        self.correlations = []

    def note(self):
        """All that was said, as one text."""
        return " ".join(f"Warning: {text}." for text in self.said.values())


class Averages:
    """Moving averages of the generators' weights, in a model of their own."""

    def __init__(self, trained, algorithm, args):
        self.trained = trained
        self.decay = args.ema_decay
        self.model = algorithm(args, training=False)
        on_gpu = bool(tf.config.list_physical_devices("GPU"))
        # with XLA a CPU passes over the memory once instead of four times
        self.move = tf.function(self.move, jit_compile=not on_gpu)

    def start(self, begin):
        """Begins at the averages of the checkpoint `begin`, or at the weights if it has none."""
        self.move(tf.constant(0.0))
        if begin and is_averaged(begin):
            restore(begin, {"averaged": weights_of(self.model)})

    def update(self, step):
        """Moves the averages after a step: faster at first, as in TensorFlow's
        ExponentialMovingAverage."""
        self.move(tf.constant(min(self.decay, (1 + step) / (10 + step))))

    def move(self, decay):
        """averages => decay * averages + (1 - decay) * weights."""
        for name, network in self.model.networks.items():
            weights = self.trained.networks[name].weights
            for mean, weight in zip(network.weights, weights, strict=True):
                mean.assign(decay * mean + (1 - decay) * weight)


class Workers:
    """The machines of a cluster. The first, the chief, writes. Mostly there is only one."""

    def __init__(self, args):
        self.args = args
        self.is_chief = getattr(args.strategy.cluster_resolver, "task_id", 0) == 0
        self.gather = tf.function(self.gather)

    def ask(self, value):
        """The values of all workers. All workers have to ask at the same step."""
        if not self.args.cluster:
            return [value]
        return self.gather(tf.constant([value], tf.int64)).numpy().tolist()

    def gather(self, value):
        """int64 [1] on each worker => the values of all."""
        values = self.args.strategy.run(gathered, (value,))
        return self.args.strategy.experimental_local_results(values)[0]

    def check_agreement(self, step, paths):
        """Raises UserError if the workers would train different things."""
        names = [Path(path).name for path in paths]
        options = {**saved_options(self.args), "input_dir": "", "device": ""}
        facts = json.dumps([step, names, options])
        digest = tf.strings.to_hash_bucket_fast(facts, 2**62)
        if len(set(self.ask(int(digest)))) > 1:
            here = f"step {step}, seed {self.args.seed}, {len(names)} images"
            raise UserError(f"the workers disagree; here: {here}: "
                            "give all the same images, checkpoint and flags, with a --seed")


class Samples:
    """The images that a training translates again and again, for its page and TensorBoard."""

    def __init__(self, model):
        self.model = model
        self.pairs = None  # held-out images for judge()
        try:
            self.images = self.find(held_out=True)
        except UserError as error:
            print(f"warning: {error}; samples are shown of the training images", file=sys.stderr)
            self.images = self.find(held_out=False)

    def find(self, held_out):
        """[(name, path, direction)] of the samples. Raises UserError if one cannot be read."""
        images = self.model.find_samples(held_out)
        for _, path, _ in images:
            self.model.read(path)
        return images

    def judge(self):
        """The mean L1 and SSIM of 16 held-out pairs; {} if there are none."""
        if self.pairs is None:
            self.pairs = self.find_pairs()
        metrics = {}
        for name, path, direction in self.pairs:
            with contextlib.suppress(UserError):  # it was there when the training began
                images = self.model.translate_file(path, direction)
                domain = domain_of(self.model, "targets", direction)
                values = compare(images["outputs"], images["targets"], domain)
                metrics[name] = {"l1": values["l1"], "ssim": values["ssim"]}
        for kind, value in mean_of(metrics).items():
            tf.summary.scalar(f"held_out/{kind}", value)
        return mean_of(metrics)

    def find_pairs(self):
        """[(name, path, direction)] of up to 16 held-out pairs, spread over their folder."""
        folder = find_held_out(self.model.args.input_dir)
        if not folder or not self.images:
            return []
        _, path, direction = self.images[0]
        try:
            if "targets" not in self.model.translate_file(path, direction):
                return []
            found = self.model.find_test_images(folder)
        except UserError:  # which the samples have warned of
            return []
        places = np.linspace(0, len(found) - 1, min(len(found), 16))
        return [found[round(place)] for place in places]

    def show(self, output_dir, step, curves, signs):
        """Translates the samples for TensorBoard and for the page. The page begins with the Signs
        of trouble and the curves; then come the samples, newest step first."""
        kinds = ()
        for sample in list(self.images):
            name, path, direction = sample
            try:
                images = self.model.translate_file(path, direction)
            except UserError as error:  # it was there when the training began
                print(f"warning: {error}; it is not shown any more", file=sys.stderr)
                self.images.remove(sample)
                continue
            kinds = tuple(images)
            signs.look_at(images, self.model.domains)
            for kind, image in images.items():
                preview = domain_of(self.model, kind, direction).preview(image)
                png = encode_array(preview, ".png")
                write_file(output_dir / f"images/step-{step:08}-{name}-{kind}.png", png)
                tf.summary.image(f"{name}/{kind}", preview[None])
        signs.check_samples(step)
        if kinds:
            self.write_page(output_dir, kinds, curves, signs.note())

    def write_page(self, output_dir, kinds, curves, warning):
        """Writes index.html with all samples in the folder, those of earlier steps too."""
        shown = []  # (-step, name, start of the file names)
        for path in (output_dir / "images").iterdir():
            match = re.fullmatch(r"(step-(\d+)-(.*))-outputs\.png", path.name)
            if match:
                shown.append((-int(match[2]), match[3], match[1]))
        rows = []
        for minus_step, name, prefix in sorted(shown):
            files = [(f"{prefix}-{kind}.png", f"{prefix}-{kind}.png") for kind in kinds]
            rows.append(([str(-minus_step), name], files))
        columns = ["step", "name", *kinds]
        note = f"{warning} {note_previews(self.model)}".strip()
        write_page(output_dir, f"{output_dir.name}: samples", columns, rows, note, curves)


def find_beginning(args):
    """The checkpoint to continue from, or None. Raises UserError if another one would be lost."""
    begin = find_checkpoint(args.checkpoint) if args.checkpoint else None
    there = find_checkpoint(args.output_dir)
    kept = Path(args.output_dir) / "kept"
    if not begin and not there and find_checkpoint(kept):
        raise UserError(f"{kept} holds checkpoints of another training: choose another "
                        "--output_dir, or move them away")
    if kept.is_symlink():
        raise UserError(f"{kept} is a link, and only our own folders are written to: remove it")
    if not there or (begin and os.path.samefile(f"{begin}.index", f"{there}.index")):
        return begin
    if not begin and has_same_options(args):
        return there  # see Training.check_repeat()
    if begin and Path(begin).parent.samefile(args.output_dir):
        _, later = neighbours_of(begin)
        if all(is_damaged(path) for path in later):
            return begin
    raise UserError(f"{there} exists: continue it with --checkpoint {in_quotes(args.output_dir)}, "
                    "or choose another --output_dir")


def has_same_options(args):
    """Whether the training in args.output_dir was given the same flags as this one."""
    try:
        text = (Path(args.output_dir) / "options.json").read_text(encoding="utf-8")
        there = json.loads(text)
        names = set(saved_options(args)) - {"device", "version", "domains", "two_folders"}
        if "seed" not in args.given:
            names.remove("seed")
        return all(there[name] == getattr(args, name) for name in names)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def check_replicas(args):
    """Raises UserError for flags that do not work with several replicas."""
    replicas = args.strategy.num_replicas_in_sync
    if args.batch_size % replicas:
        raise UserError(f"--batch_size {args.batch_size} cannot be shared by {replicas} replicas: "
                        "give a multiple of that")
    if args.xla and replicas > 1:
        raise UserError("--xla is for one replica: leave it out, or --replicas and --cluster")


def saved_options(args):
    """The flags of a training, as options.json keeps them."""
    return {name: value for name, value in vars(args).items() if name not in RUN_FLAGS}


@contextlib.contextmanager
def catch_signals(received):
    """Ctrl-C, SIGTERM and, where it exists, SIGHUP are appended to a list, so that the current step
    can finish. What was ignored before stays ignored, as under nohup."""

    def remember(number, _):
        received.append(number)

    handlers = {}
    if threading.current_thread() is threading.main_thread():  # Python allows it nowhere else
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number and signal.getsignal(number) != signal.SIG_IGN:
                handlers[number] = signal.signal(number, remember)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def take_folder(folder, begin):
    """Makes the --output_dir of a training, keeps other trainings out of it until the lock that it
    returns is released, and removes what a killed training left half-written there."""
    check_state_file(folder / "checkpoint")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / "training.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(f"{folder}: another training writes to it: choose another "
                        "--output_dir") from None
    remove_half_written(folder)
    set_damaged_aside(folder, begin)
    return lock


# What TensorFlow and written_whole() leave in the folder of a training that is killed:
HALF_WRITTEN = re.compile(
    r"model-\d+_temp|checkpoint\.tmp[0-9a-f]+|"
    r"part-\d+-(options\.json|history\.json|index\.html|step-\d{8}-.*\.png)"
)


def check_state_file(path):
    """Raises UserError for a file `checkpoint`, TensorFlow's list of checkpoints, that none of our
    trainings wrote."""
    is_ours = (path.parent / "options.json").exists() and path.is_file() and not path.is_symlink()
    if os.path.lexists(path) and not is_ours:
        raise UserError(f"{path} is not of a training: move it away, or choose another "
                        "--output_dir")


def remove_half_written(folder):
    """Removes what a killed training left in its folder: no other files, and no links."""
    state = folder / "checkpoint"
    if state.exists() and not re.match(rb'model_checkpoint_path: "[ -~]+"\n', state.read_bytes()):
        remove(state)
    for place in (folder, folder / "images"):
        for path in place.iterdir():
            if HALF_WRITTEN.fullmatch(path.name) and not path.is_symlink():
                remove(path)


def set_damaged_aside(folder, begin):
    """Renames the checkpoints after `begin`, which find_beginning() found damaged."""
    if not begin or not Path(begin).parent.samefile(folder):
        return
    _, later = neighbours_of(begin)
    for path in map(Path, later):
        for file in folder.glob(f"{path.name}.*"):
            file.replace(file.with_name(f"damaged-{file.name}"))
        print(f"{path} is damaged: set aside as damaged-{path.name}", file=sys.stderr)


# --------------------------------------------------------------------------------------------- test

def test(args, algorithm):
    """Translates the images of args.input_dir. Returns the exit code."""
    model = algorithm(args, training=False)
    checkpoint = restore_generators(model, args)
    sources = model.find_test_images(args.input_dir)
    output_dir = Path(args.output_dir)
    if find_checkpoint(output_dir):
        raise UserError(f"{output_dir} holds a training, with an index.html of its own: "
                        "choose another --output_dir")
    begin_test(output_dir, contents_of_test(model, checkpoint, sources))
    print(f"data: {args.input_dir} ({len(sources)} images); writing to {output_dir}; {args.device}",
          flush=True)
    metrics, errors = translate_sources(model, args, sources, output_dir)
    if metrics:
        mean = mean_of(metrics)
        contents = {"checkpoint": checkpoint, "mean": mean, "images": metrics}
        write_file(output_dir / "metrics.json", contents)
        text = "L1 {l1:.4f}  PSNR {psnr:.2f} dB  SSIM {ssim:.4f}".format(**mean)
        if "l1_units" in mean:
            text += "  in units: L1 {l1_units:.4g}  RMSE {rmse_units:.4g}".format(**mean)
        print(f"{text}  (means of {len(metrics)} images)")
    report_clipped()
    if errors:
        raise UserError(f"{errors[0]}; {len(errors)} of {len(sources)} could not be translated")
    print(f"done: see {output_dir / 'index.html'}")
    return 0


KINDS = ("inputs", "outputs", "targets", "recovered")  # images that a test writes of each file


def contents_of_test(model, checkpoint, sources):
    """What test.json tells tools and the next test: the names of the images, their directions, what
    their files hold and how the files end."""
    domains = model.domains.values()
    endings = {".png"}
    if not all(domain.is_rgb for domain in domains):
        endings |= {".npy", ".tif", "-preview.png"}
    return {
        "checkpoint": checkpoint,
        "images": [name for name, _, _ in sources],
        "directions": [direction for _, _, direction in sources],
        "domains": {name: dataclasses.asdict(model.domains[name]) for name in model.domains},
        "endings": sorted(endings),
    }


def begin_test(output_dir, contents):
    """Makes the folder of a test and its test.json. Removes the images that an earlier test.json
    there lists, so that no tool averages over both tests."""
    list_file = output_dir / "test.json"
    if os.path.lexists(list_file):
        names, endings = read_test_list(list_file)
        for name in names:
            for ending in [f"-{kind}{ending}" for kind in KINDS for ending in endings]:
                path = output_dir / "images" / f"{name}{ending}"
                if path.parent == output_dir / "images" and not path.is_symlink():
                    path.unlink(missing_ok=True)
        for name in ("index.html", "metrics.json"):
            (output_dir / name).unlink(missing_ok=True)
    (output_dir / "images").mkdir(parents=True, exist_ok=True)
    write_file(list_file, contents)


def read_test_list(path):
    """The names of the images in a test.json, and how their files end. Raises UserError if it is
    not of a test."""
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
        names = contents["images"]
        endings = contents.get("endings", [".png"])
        more = {"directions", "domains", "endings"}
        is_ours = set(contents) - more == {"checkpoint", "images"}
        is_ours = is_ours and all(isinstance(name, str) for name in [*names, *endings])
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        is_ours = False
    if not is_ours:
        raise UserError(f"{path} is not of a test: move it away, or choose another --output_dir")
    return names, endings


def translate_sources(model, args, sources, output_dir):
    """Translates [(name, path, direction)] into output_dir, with a page that grows. Returns {name:
    metrics} of pairs, and the UserErrors of images that cannot be translated."""
    rows = []  # (name, {kind: files}) for index.html
    metrics = {}  # {name: {"l1": ..., "psnr": ..., "ssim": ...}}
    errors = []

    def finish(name, images, path, direction):
        if "targets" in images:
            domain = domain_of(model, "targets", direction)
            metrics[name] = compare(images["outputs"], images["targets"], domain)
        rows.append((name, write_results(output_dir, name, images, model, direction, path)))

    with ThreadPoolExecutor(1) as background:  # finishes an image while the next one is translated
        pending = None
        for done, (name, path, direction) in enumerate(sources, start=1):
            try:
                images = model.translate_file(path, direction)
                wait_for(pending, errors)
                pending = background.submit(finish, name, images, path, direction)
            except UserError as error:
                errors.append(error)
            is_last = done == len(sources)
            if done % 50 == 0 or is_last:
                wait_for(pending, errors)
                pending = None
            if rows and pending is None:
                write_test_page(output_dir, args.checkpoint, rows, metrics, note_previews(model))
            if args.progress_freq and (done % args.progress_freq == 0 or is_last):
                print(f"{done}/{len(sources)} images", flush=True)
    return metrics, errors


def wait_for(pending, errors):
    """Waits for the image that is finished in the background. Adds a UserError of it to errors."""
    try:
        if pending:
            pending.result()
    except UserError as error:
        errors.append(error)


def compare(outputs, targets, domain):
    """Two images [h, w, c] of a Domain => L1 in [0, 1], PSNR in dB (equal: 100), SSIM in [-1, 1]
    (Wang et al. 2004), relative to its range. Types other than 8 bits also get L1 and RMSE in
    their units."""
    in_units = {}
    if domain.type != "uint8":
        difference = np.float64(outputs) - np.float64(targets)
        in_units["l1_units"] = np.abs(difference).mean()
        in_units["rmse_units"] = np.sqrt(np.square(difference).mean())
    outputs = domain.to_fractions(outputs)
    targets = domain.to_fractions(targets)
    l1 = tf.reduce_mean(tf.abs(outputs - targets))
    mean_square = tf.reduce_mean(tf.square(outputs - targets))
    psnr = -10 * math.log10(max(float(mean_square), 1e-10))
    ssim = tf.image.ssim(outputs, targets, 1.0, filter_size=min(11, *outputs.shape[:2]))
    return {"l1": float(l1), "psnr": psnr, "ssim": float(ssim), **in_units}


def mean_of(metrics):
    """{name: {metric: value}} => {metric: mean over the names}."""
    columns = {}
    for values in metrics.values():
        for kind, value in values.items():
            columns.setdefault(kind, []).append(value)
    return {kind: np.mean(column) for kind, column in columns.items()}


def write_test_page(output_dir, checkpoint, rows, metrics, note):
    """Writes the index.html of a test: the mean metrics, then a row for each image."""

    def as_texts(values):
        return [f"{value:.4g}" for value in values.values()]

    mean = mean_of(metrics)
    table = [(["mean", *as_texts(mean)], [])] if mean else []
    for name, files in rows:
        table.append(([name, *as_texts(metrics.get(name, {}))], list(files.values())))
    columns = ["name", *mean, *rows[-1][1]]
    write_page(output_dir, f"{output_dir.name}: {checkpoint}", columns, table, note)


# ------------------------------------------------------------------------------------------- export

def export(args, algorithm):
    """Writes the generator of args.checkpoint as a SavedModel. Returns the exit code."""
    model = algorithm(args, training=False)
    restore_generators(model, args)
    module = tf.Module()
    module.model = model.build_serving_model()
    module.translate = serving_function(module.model, model.multiple)
    target = Path(args.output_dir) / "saved_model"
    if os.path.lexists(target) and not (target / "saved_model.pb").is_file():
        raise UserError(f"{target} is there and no SavedModel: choose another --output_dir")
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(target) as part:
        tf.saved_model.save(module, str(part), {"serving_default": module.translate})
    print(f"done: {target}; tools/export.py writes other formats")
    return 0


def serving_function(serving, multiple):
    """The signature of a SavedModel: [n, h, w, c] => {"images": [n, h, w, c]}, as the serving model
    takes and gives them. n is at least 1, and sides are multiples of `multiple`."""
    shape = [None, None, None, serving.input.shape[-1]]

    @tf.function(input_signature=[tf.TensorSpec(shape, serving.input.dtype, name="images")])
    def translate(images):
        n, height, width, _ = tf.unstack(tf.shape(images))
        is_possible = (n > 0) & (height % multiple == 0) & (width % multiple == 0)
        message = f"give one image or more, with sides that are multiples of {multiple}, not"
        check = tf.debugging.Assert(is_possible, [message, tf.shape(images)])
        with tf.control_dependencies([check]):  # if not, the network may fail first
            images = tf.identity(images)
        return {"images": serving(images)}

    return translate


# ------------------------------------------------------------------------------------- command line

def main(argv, algorithm):
    """The command line. Returns the exit code."""
    args = None
    try:
        warnings.filterwarnings("ignore", module="PIL")  # warns of broken EXIF data
        prepare_streams()
        check_working_directory()
        values = copy.deepcopy(FLAGS)
        unused = values(argv)[1:]
        if values.help:
            show_help(values)
            return 0
        if len(argv) == 1:
            summary, commands, *_ = [*(__doc__ or "").split("\n\n"), ""]
            print(summary, commands, "All flags: --help", sep="\n\n", file=sys.stderr)
            return 2
        if unused:
            raise UserError(f"not a flag: {unused[0]} (put names with spaces in quotes; --help "
                            "lists all flags)")
        args = complete(values, argv, algorithm)
        prepare(args)
        modes = {"train": train, "test": test, "export": export}
        return modes[args.mode](args, algorithm)
    except BrokenPipeError:  # the reader has gone, as in `| head`
        turn_off(sys.stdout)
        return 141
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        message = explain(error, args)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr, flush=True)
        if args and args.cluster and isinstance(error, LOST_WORKER):
            os._exit(2)  # TensorFlow's own end would wait for the other worker
        return 2


def prepare(args):
    """Starts TensorFlow as the flags say: devices, precision, seed."""
    if args.mode == "train":
        devices = start_devices(args.deterministic, args.replicas, args.cluster)
    else:
        devices = start_devices(args.deterministic)
    args.strategy, args.device = devices
    is_mixed = args.mixed_precision != "off"
    keras.config.set_dtype_policy(f"mixed_{args.mixed_precision}" if is_mixed else "float32")
    keras.utils.set_random_seed(args.seed)


def prepare_streams():
    """Opens a stdout that was closed, as after `>&-`. A terminal that knows only ASCII shows other
    letters as escapes."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a GUI may have replaced it
            stream.reconfigure(errors="backslashreplace")


def check_working_directory():
    """Raises UserError if the working directory has been removed."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError("the working directory has been removed: change to another one") from None


def turn_off(stream):
    """Sends what is still to be printed nowhere, or Python would complain at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


LOST_WORKER = (tf.errors.UnavailableError, tf.errors.AbortedError)
OUT_OF_MEMORY = (MemoryError, tf.errors.ResourceExhaustedError)
FILE_SYSTEM = (
    "No space left on device|File too large|Permission denied|Read-only file system|"
    "No such file"
)


def explain(error, args):
    """What a user can do about an error, in one line. None for a fault of the program."""
    if isinstance(error, (UserError, flags.Error)):
        return " ".join(str(error).split())
    if isinstance(error, UnicodeError):
        text = ascii(error.object[:200])
        if sys.getfilesystemencoding() != "utf-8":
            return f"{text}: not a name in this locale: set LC_ALL=C.UTF-8"
        return f"{text}: not UTF-8; rename the file or folder, or rewrite the flag file"
    if isinstance(error, OSError):
        return explain_os_error(error, args)
    if isinstance(error, LOST_WORKER) and args and args.cluster:
        return "another worker ended or is out of reach: start all again, with --checkpoint"
    if isinstance(error, tf.errors.OpError) and args:
        reason = re.search(FILE_SYSTEM, str(error))  # of the file system; it has no type of its own
        if reason:
            return (
                f"{args.output_dir}: {reason[0]}; free space or choose another --output_dir; "
                "the rest is intact"
            )
    if isinstance(error, OUT_OF_MEMORY):
        return "out of memory: lower --batch_size, --crop_size or --ngf"
    return None


def in_quotes(path):
    """A path for a command to paste: in quotes, if the shell would take it for something else."""
    path = str(path)
    if re.fullmatch(r"[\w.:/\\-]+", path):
        return path
    if os.sep == "/":
        return "'" + path.replace("'", "'\"'\"'") + "'"
    return f'"{path}"'  # Windows knows no others


def explain_os_error(error, args):
    """What a user can do about a file that cannot be read or written."""
    place = error.filename or "stdout"
    if args and re.match(r"part-\d+-|training\.lock", os.path.basename(str(place))):
        place = args.output_dir  # the user knows the folder, not these files in it
    return f"{place}: {error.strerror}; free some space or choose another --output_dir"


def show_help(values):
    """Prints the docstring of the file and its flags, in their order in the file."""
    print(__doc__ or "")
    for name in values:
        flag = values[name]
        default = f" (default: {flag.default})"
        if flag.default is None or flag.default is False:
            default = ""
        line = f"  --{name:<20}  {flag.help}{default}"
        print(textwrap.fill(line, 100, subsequent_indent=" " * 26))


def complete(values, argv, algorithm):
    """Parsed flags => an object with all flags as attributes: those given, those of the checkpoint,
    and defaults, some of which depend on the files there."""
    if values.mode is None:
        raise UserError("--mode is missing: train, test or export (--help lists all flags)")
    is_training = values.mode == "train"
    given = {name for name in values if values[name].present}
    saved = {}
    source = {}  # the flags of --init_from
    if values.checkpoint:
        saved = read_options(values.checkpoint, algorithm)
        check_fixed_flags(values, saved, algorithm)
        values = with_saved(values, saved, argv, algorithm)
    elif is_training and values.init_from:
        source = read_options(values.init_from, algorithm)
        values = with_networks(values, source, argv, algorithm)
    elif not is_training:
        example = default_folder(algorithm, algorithm.default_data.split("/")[0], "train")
        raise UserError(f"--mode {values.mode} needs --checkpoint, the --output_dir of a training, "
                        f"e.g. {example}")
    args = types.SimpleNamespace(**values.flag_values_dict(), given=given, saved=saved)
    args.networks_of = saved or source
    args.domains = saved.get("domains") if saved else None  # find_domains() looks at the files
    args.two_folders = saved.get("two_folders", False)  # whether pairs are two files
    if getattr(args, "scale_size", None) == "0":
        args.native_size = True  # what is not resized in training is not in test
    check_numbers(args)
    if args.mode != "export" and not args.input_dir:
        args.input_dir = default_input_dir(args, algorithm)
        print(f"no --input_dir given: using {args.input_dir}")
    if is_training:
        args.input_dir = os.path.abspath(args.input_dir)
    if not args.output_dir:
        args.output_dir = default_output_dir(args, algorithm)
    check_names(args)
    if args.deterministic is None:
        args.deterministic = args.seed is not None or not is_training
    if args.seed is None:
        args.seed = int.from_bytes(os.urandom(3))
    if "flip" in given:  # replaces --no_flip of a training that is continued
        args.no_flip = False
    args.flip = args.flip and not args.no_flip
    args.version = saved.get("version", 1) if saved else VERSION
    return args


def check_fixed_flags(values, saved, algorithm):
    """Raises UserError if a given flag differs from the checkpoint, which fixes it."""
    fixed = set(algorithm.network_flags)
    if values.mode == "train":
        fixed.add("batch_size")  # steps of another size would count other images
    else:
        fixed -= set(algorithm.data_flags)
    for name in ("channels", "value_range"):
        if values[name].present and values[name].value != saved.get(name):
            raise UserError(f"{folder_of(values.checkpoint)} fixes what its images are: leave "
                            f"--{name} out")
    for name in sorted(fixed):
        flag = values[name]
        if flag.present and flag.value != saved.get(name, flag.value):
            folder = folder_of(values.checkpoint)
            raise UserError(f"{folder} has --{name} {saved[name]}, not {flag.value}: leave "
                            f"--{name} out")


def with_saved(values, saved, argv, algorithm):
    """The flags of a checkpoint, replaced by those that were given. Training takes all of them, and
    test and export those that shape networks and data."""
    if values.mode == "train":
        names = set(values) - set(RUN_FLAGS)
    else:
        names = {*algorithm.network_flags, *algorithm.data_flags, "ema_decay"}
        names |= {"nan_value", "preview_bands"}
    if values["max_steps"].present or values["max_epochs"].present:  # one given replaces both saved
        names -= {"max_steps", "max_epochs"}
    folder = folder_of(values.checkpoint)
    options = []
    for name in names & set(saved):
        if saved[name] is not None:
            options.append(f"--{name}={saved[name]}")
        elif FLAGS[name].default is not None:
            raise UserError(f"options.json of {folder}: {name} has no value; put it back")
    both = copy.deepcopy(FLAGS)
    try:
        both([argv[0], *options])
    except flags.Error as error:
        raise UserError(f"options.json of {folder}: {error}; put it back") from None
    both(argv)
    return both


def folder_of(checkpoint):
    """The folder of a training. --checkpoint may also name a file in it, DIR/model-2000."""
    path = Path(checkpoint)
    return path if path.is_dir() else path.parent


def with_networks(values, source, argv, algorithm):
    """The flags that shape the networks of --init_from, replaced by those that were given. Raises
    UserError if a given flag would shape other networks. The sizes of images and pools, the
    direction and the grain may change."""
    free = {"crop_size", "pool_size", "which_direction", "grain"}
    if "crop_size" in values and not values["crop_size"].present:
        free.add("scale_size")
    options = []
    for name in {*algorithm.network_flags, *(free & set(source))}:
        flag = values[name]
        if flag.present and flag.value != source[name] and name not in free:
            raise UserError(f"--init_from {values.init_from}: its networks have --{name} "
                            f"{source[name]}, not {flag.value}: leave --{name} out")
        options.append(f"--{name}={source[name]}")
    both = copy.deepcopy(FLAGS)
    both([argv[0], *options])
    both(argv)
    return both


def check_numbers(args):
    """Raises UserError for infinities, NaNs and integers that TensorFlow cannot take."""
    for name, value in vars(args).items():
        limit = math.inf if isinstance(value, float) else 2**32
        if isinstance(value, (int, float)) and not abs(value) < limit:
            raise UserError(f"--{name} {value}: too large, or not a number")


def default_input_dir(args, algorithm):
    """Training: the default data if they are here, or the samples. Test and export: the held-out
    data next to the training data."""
    if args.mode == "train":
        if os.path.isdir(algorithm.default_data):
            return algorithm.default_data
        return str(Path(__file__).parent / "samples" / algorithm.default_data)
    trained_on = args.saved["input_dir"]
    held_out = find_held_out(trained_on)
    if not held_out:
        raise UserError(f"no test images found next to {trained_on}: give --input_dir")
    return held_out


def default_output_dir(args, algorithm):
    """The name tells the data, the script if several take such data, and the mode. In test and
    export it tells the direction too, if the checkpoint has both. A training that is continued
    stays where it is."""
    if not args.checkpoint:
        folder = Path(args.input_dir)
        name = folder.parent.name if folder.name.startswith("train") else folder.name
        return default_folder(algorithm, name, "train")
    folder = folder_of(args.checkpoint)
    if args.mode == "train":
        return str(folder)
    name = folder.resolve().name.removesuffix("_train")
    if name == "kept":  # of --keep_freq
        training = folder.resolve().parent.name.removesuffix("_train")
        name = f"{training}_{Path(args.checkpoint).name}"
    is_free = "which_direction" in FLAGS and "which_direction" not in algorithm.network_flags
    return f"{name}_{args.which_direction}_{args.mode}" if is_free else f"{name}_{args.mode}"


def default_folder(algorithm, data, mode):
    """("photo2dulac", "train") => "photo2dulac_ganilla_train"."""
    return f"{algorithm.default_name.replace('DATA', data)}_{mode}"


def check_names(args):
    """Raises UserError for folders in which TensorFlow would not find its checkpoints."""
    folders = [args.checkpoint, args.output_dir, args.input_dir]
    if sys.getfilesystemencoding() != "utf-8" and not "".join(filter(None, folders)).isascii():
        raise UserError(f"the locale names files in {sys.getfilesystemencoding()}, TensorFlow in "
                        "UTF-8: set LC_ALL=C.UTF-8")
    special = "*?[]" if os.sep == "\\" else "*?[]\\"
    for path in [args.checkpoint, args.output_dir if args.mode == "train" else None]:
        if path and set(special) & set(os.path.abspath(path)):
            raise UserError(f"{path}: TensorFlow finds no files in folders named with "
                            f"{' '.join(special)}: rename it")


# ----------------------------------------------------------------------------------------- domains

@dataclasses.dataclass
class Domain:
    """What the images of a domain hold: 8-bit RGB, or what the files of a training have. See
    docs/data-types.md.

    low, high: the values that networks see as -1 and 1. black, white: the values that previews show
    as black and white. converts: whether 8-bit images of other channels are made grey, or get a
    channel of transparency. nan_value: what replaces NaN and infinities. bands: the channels in
    previews, counted from 1.
    """

    channels: int = 3
    type: str = "uint8"
    low: float = 0.0
    high: float = 255.0
    black: float = 0.0
    white: float = 255.0
    converts: bool = False
    nan_value: float | None = None
    bands: tuple = ()

    def __str__(self):
        channels = f"{self.channels} channel{'s' if self.channels > 1 else ''}"
        return f"{self.type} with {channels}, {self.low:g} to {self.high:g}"

    @property
    def is_rgb(self):
        """Whether all images are taken as 8-bit RGB."""
        return self.channels == 3 and self.is_viewable

    @property
    def is_viewable(self):
        """Whether a browser shows a PNG of it as it is."""
        is_picture = self.type == "uint8" and self.channels in (1, 3)
        return is_picture and (self.low, self.high) == (0, 255)

    def read(self, path, size=None):
        """Reads a file, [h, w, channels], resized to `size`, (height, width), if given. Raises
        UserError."""
        if self.is_rgb:
            return read_image(path, size)
        array = read_array(path, self.channels if self.converts else None)
        array = self.check(array, path)
        return array if size is None else resize_array(array, size)

    def check(self, array, path):
        """The array of a file, with its values clipped to the range. Raises UserError if it is of
        another domain."""
        if (array.dtype, array.shape[-1]) != (self.type, self.channels):
            wanted = describe_array(np.empty([1, 1, self.channels], self.type))
            raise UserError(f"{path} holds {describe_array(array)}, not {wanted}: all images of a "
                            "domain must agree")
        if self.type == "float32":
            array = self.replace_nan(array, path)
        if array.min() < self.low or array.max() > self.high:
            CLIPPED["values"] += np.count_nonzero((array < self.low) | (array > self.high))
            CLIPPED["images"] += 1
            array = np.clip(array, self.low, self.high).astype(self.type)
        return array

    def replace_nan(self, array, path):
        """An array without NaN and infinities. Raises UserError if nothing replaces them."""
        is_good = np.isfinite(array)
        if is_good.all():
            return array
        if self.nan_value is None:
            raise UserError(f"{path}: {np.count_nonzero(~is_good)} of its values are NaN or "
                            "infinite: give --nan_value, the number to put in their place")
        return np.where(is_good, array, np.float32(self.nan_value))

    def to_fractions(self, values):
        """Values => their fractions of the range, float32 in [0, 1]."""
        return (tf.cast(values, tf.float32) - self.low) / (self.high - self.low)

    def to_signed(self, values):
        """Values => what networks take, float32 in [-1, 1]."""
        x = ops.cast(values, "float32")
        if self.low:
            x = x - self.low
        x = x / ((self.high - self.low) / 2) - 1
        is_whole_type = (self.low, self.high) == type_limits(self.type)
        return x if is_whole_type else ops.clip(x, -1.0, 1.0)

    def to_values(self, fractions):
        """Fractions of the range, a tensor [n, h, w, channels] => values of the domain's type."""
        values = ops.clip(fractions, 0.0, 1.0) * (self.high - self.low)
        if self.low:
            values = values + self.low
        return values if self.type == "float32" else ops.cast(ops.round(values), self.type)

    def to_array(self, fractions):
        """As to_values(), in NumPy."""
        values = np.clip(fractions, 0, 1) * (self.high - self.low)
        if self.low:
            values += self.low
        if self.type != "float32":
            np.rint(values, out=values)
        return values.astype(self.type)

    def preview(self, image):
        """An image [h, w, channels] => uint8 [h, w, 3] or [h, w, 1] to look at."""
        if self.is_viewable:
            return image
        bands = [band - 1 for band in self.bands]
        if not bands or max(bands) >= self.channels:
            bands = [0, 1, 2] if self.channels >= 3 else [0]
        fractions = (np.float32(image[..., bands]) - self.black) / (self.white - self.black)
        return np.uint8(np.rint(np.clip(fractions, 0, 1) * 255))

    def suffix(self, source):
        """The extension of results: .tif if the file `source` is a TIFF that holds data. Otherwise
        .png, or .npy for values that PNG cannot hold."""
        if not self.is_rgb and kind_of(source) == "tiff" and is_data_tiff(source):
            return ".tif"
        fits = {"uint8": (1, 3, 4), "uint16": (1, 3)}.get(self.type, ())
        return ".png" if self.channels in fits else ".npy"


CLIPPED = collections.Counter()  # how many values were outside a range, and in how many images


def report_clipped():
    """Warns of the values that were clipped."""
    if CLIPPED["values"]:
        warn_once("clipped", f"{CLIPPED['values']} values, in {CLIPPED['images']} images, are "
                             "outside the range of the training and are clipped")


def domains_of(args):
    """{"A": Domain, "B": Domain}. Raises UserError."""
    bands = tuple(parse_numbers("preview_bands", args.preview_bands)) if args.preview_bands else ()
    domains = restore_domains(args.domains, "options.json")
    for name, domain in domains.items():
        domains[name] = dataclasses.replace(domain, nan_value=args.nan_value, bands=bands)
    most = max(domain.channels for domain in domains.values())
    if bands and (len(bands) not in (1, 3) or min(bands) < 1 or max(bands) > most):
        raise UserError(f"--preview_bands {args.preview_bands}: give one channel or three, "
                        f"from 1 to {most}")
    return domains


def restore_domains(options, file):
    """{"A": options of a Domain, "B": ...} => {"A": Domain, "B": Domain}. Raises UserError, which
    names the file, if they are damaged."""
    domains = {}
    try:
        for name in ("A", "B"):
            domain = domains[name] = Domain(**options[name])
            least, greatest = type_limits(domain.type)
            numbers = (domain.low, domain.high, domain.black, domain.white)
            is_good = type(domain.channels) is int and domain.channels >= 1
            is_good = is_good and domain.type in ARRAY_TYPES and np.isfinite(numbers).all()
            if not (is_good and least <= domain.low < domain.high <= greatest):
                raise ValueError
    except (TypeError, ValueError, KeyError, RecursionError):
        raise UserError(f"{file}: domains is damaged; put it back") from None
    return domains


def domain_of(model, kind, direction):
    """The Domain of the inputs, outputs and so on of a direction."""
    is_source = kind in ("inputs", "recovered")
    return model.domains[direction[0] if is_source else direction[-1]]


def find_domains(args, algorithm):
    """{"A": options of a Domain, "B": ...} of a new training, from its files. Raises UserError."""
    channels = of_domains("channels", args.channels, 1)
    ranges = of_domains("value_range", args.value_range, 2)
    files = algorithm.files_to_look_at(args.input_dir)
    is_one_file = any(part for _, part in files.values())
    if is_one_file and channels["A"] != channels["B"]:
        raise UserError(f"--channels {args.channels}: the halves of one file have the same "
                        "channels: give one number, or put A and B in two folders")
    args.two_folders = not is_one_file
    domains = {}
    for name, (paths, part) in files.items():
        domains[name] = domain_like(paths[0], part, channels[name], args.nan_value)
    is_deep = any(domain.type != "uint8" for domain in domains.values())
    is_one_range = bool(args.value_range) and args.value_range.count(",") == 1
    without_range = {}  # {domain: what measure() gives}
    for name, domain in domains.items():
        if domain.type == "uint8" and is_deep and is_one_range:
            ranges[name] = None  # the range is for the other domain
        limits = ranges[name]
        if domain.type == "uint8" and not limits:
            continue
        if limits:
            check_range(name, domain, limits)
        measured = measure(*files[name], domain, limits)
        limits = limits or default_range(domain, measured)
        if not limits:
            without_range[name] = measured
            continue
        warn_of_outside(name, limits, measured)
        domain.low, domain.high = limits
        domain.black, domain.white = shown_range(limits, measured)
    if without_range:
        raise UserError(ask_for_range(domains, without_range))
    describe_domains(args, domains)
    return {name: dataclasses.asdict(domain) for name, domain in domains.items()}


def check_range(name, domain, limits):
    """Raises UserError for a range that the type of a domain does not hold."""
    low, high = limits
    least, greatest = type_limits(domain.type)
    if low < least or high > greatest:
        raise UserError(f"--value_range {low:g},{high:g} goes beyond {domain.type}, which {name} "
                        "holds: give LOW,HIGH of A and LOW,HIGH of B, with commas")


def type_limits(name):
    """The least and the greatest value of one of ARRAY_TYPES."""
    if name == "float32":
        return -1e30, 1e30
    limits = np.iinfo(name)
    return limits.min, limits.max


def of_domains(flag, text, count):
    """A flag with `count` numbers, or with as many for A and for B => {"A": numbers, "B": numbers}.
    Both are None without the flag."""
    if text is None:
        return {"A": None, "B": None}
    numbers = parse_numbers(flag, text)
    example = "1, or 4,3 for A and B" if count == 1 else "LOW,HIGH, or LOW,HIGH,LOW,HIGH"
    if len(numbers) not in (count, 2 * count):
        raise UserError(f"--{flag} {text}: give {example}")
    both = {"A": numbers[:count], "B": numbers[-count:]}
    for values in both.values():
        if count == 1 and values[0] < 1:
            raise UserError(f"--{flag} {text}: give {example}")
        if count == 2 and not np.float32(values[1]) - np.float32(values[0]) > 1e-30:
            raise UserError(f"--{flag} {text}: give {example}, and LOW below HIGH")
    return both


def parse_numbers(flag, text):
    """"4,3,2" => (4, 3, 2). Only --value_range takes fractions. Raises UserError."""
    kind = float if flag == "value_range" else int
    try:
        numbers = tuple(kind(number) for number in text.split(","))
    except ValueError:
        numbers = (math.nan,)
    if not np.isfinite(numbers).all():
        raise UserError(f"--{flag} {text}: give numbers with commas between them")
    return numbers


def domain_like(path, part, channels, nan_value):
    """The Domain of a file, or of a part of it. Its range is still to be found."""
    wanted = channels[0] if channels else None
    array = read_part(read_array(path, wanted), part)
    if wanted not in (None, array.shape[-1]):
        raise UserError(f"{path} holds {describe_array(array)}, not the {wanted} of --channels")
    is_asked = wanted is not None
    return Domain(array.shape[-1], array.dtype.name, converts=is_asked, nan_value=nan_value)


def read_part(array, part):
    """The "left" or "right" half of a pair, or all of an array."""
    middle = array.shape[1] // 2
    if part == "left":
        return array[:, :middle]
    return array[:, middle:] if part == "right" else array


def measure(paths, part, domain, limits):
    """Looks through all files of a domain. Returns the least and the greatest value, a sample of
    the values, how many there are, and how many are outside the limits. Raises UserError for a file
    of another domain."""
    low, high = limits or (-math.inf, math.inf)
    unlimited = dataclasses.replace(domain, low=-math.inf, high=math.inf)
    share = max(64, 2**20 // len(paths))

    def look_at(path):
        values = read_part(unlimited.read(path), part)
        pixels = values.reshape(-1, values.shape[-1])
        sample = pixels[:: math.ceil(values.size / share)].ravel()
        outside = np.count_nonzero((values < low) | (values > high)) if limits else 0
        return values.min(), values.max(), sample, values.size, outside

    with ThreadPoolExecutor() as threads:
        least, greatest, samples, counts, outside = zip(*threads.map(look_at, paths), strict=True)
    return types.SimpleNamespace(
        least=float(min(least)), greatest=float(max(greatest)), sample=np.concatenate(samples),
        count=sum(counts), outside=sum(outside),
    )


def default_range(domain, measured):
    """The range of as few bits as hold all values. None for signed numbers and floats."""
    if domain.type != "uint16":
        return None
    bits = max(1, int(measured.greatest).bit_length())
    return 0.0, 2.0**bits - 1


def shown_range(limits, measured):
    """The values that previews show as black and white: one value in a thousand is beyond each."""
    low, high = limits
    black, white = np.quantile(np.clip(measured.sample, low, high), (0.001, 0.999))
    return (float(black), float(white)) if black < white else limits


def warn_of_outside(name, limits, measured):
    """Warns of values in the training files that are clipped."""
    if measured.outside:
        share = measured.outside / measured.count
        print(f"warning: {measured.outside} values of {name} ({share:.2g} of all) are outside "
              f"{limits[0]:g} to {limits[1]:g} and are clipped", file=sys.stderr)


def ask_for_range(domains, without_range):
    """The Domains and, for those without a range, what measure() gives => the message that asks for
    --value_range."""
    texts = []
    proposals = []
    for name, domain in domains.items():
        if name not in without_range:
            if domain.type != "uint8":
                proposals.append(f"{domain.low:g},{domain.high:g}")
            continue
        measured = without_range[name]
        low, high = np.quantile(measured.sample, (0.001, 0.999))
        texts.append(f"{name} holds {domain.type}: minimum {measured.least:g}, quantile 0.1 % "
                     f"{low:g}, quantile 99.9 % {high:g}, maximum {measured.greatest:g}")
        if high == low:
            high = low + 1
        digit = 10.0 ** math.floor(math.log10(high - low) - 1)  # a tenth of the range
        low = math.floor(low / digit) * digit
        high = math.ceil(high / digit) * digit
        proposals.append(f"{low:.6g},{high:.6g}")
    proposal = ",".join(dict.fromkeys(proposals))
    return f"{'; '.join(texts)}: give the range that matters, as in --value_range={proposal}"


def describe_domains(args, domains):
    """Says what the images are, unless they are 8-bit RGB."""
    if all(domain.is_rgb for domain in domains.values()):
        return
    print("; ".join(f"{name}: {domain}" for name, domain in domains.items()))
    is_deep = any(domain.type != "uint8" for domain in domains.values())
    if is_deep and args.mixed_precision != "off":
        bits = {"bfloat16": 8, "float16": 11}[args.mixed_precision]
        print(f"warning: --mixed_precision {args.mixed_precision} keeps {bits} bits of each value: "
              "fine steps of these data are lost", file=sys.stderr)


# ------------------------------------------------------------------------------------------- images

# <<< shared part
# >>> reader: the same in all algorithm files and tools/images.py (tools/fix_copies.py)
IMAGE_TYPES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".avif", ".heic", ".heif",
    ".npy",
)
ARRAY_TYPES = ("uint8", "uint16", "int16", "float32")
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "AVIF")  # Pillow runs programs for some
MOST_PIXELS = 2**29  # 1.5 GiB of RGB
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit is lower than that of maps and panoramas


def read_image(path, size=None):
    """Reads an image file, uint8 RGB [h, w, 3], resized to `size`, (height, width), if given.

    It has the pixels that Pillow gives: upright by its EXIF data, with transparency over white, of
    an animation the first frame, 16-bit grey scaled to 8 bits. The content tells the format,
    whatever the name. Raises UserError.
    """
    image = open_image(path)
    if size is not None:
        image = resize_image(image, size)
    return np.asarray(image)


def open_image(path):
    """Path => RGB image of Pillow, as read_image() describes it. Raises UserError."""
    with naming_faults(path):
        if kind_of(path) == "npy":
            return rgb_of_array(read_npy(path))
        with open_file(path) as image:
            load(image)
            return convert_to_rgb(turn_upright(image), path)


def load(image):
    """Decodes an image of Pillow, if it is not too large."""
    image.filename = ""  # with a name Pillow misreads some TIFFs to be turned
    check_pixels(*image.size)
    image.load()


def check_pixels(width, height):
    """Raises UserError for an image that is too large."""
    if width * height > MOST_PIXELS:
        raise UserError(f"{width}x{height} are more than {MOST_PIXELS // 10**6} megapixels: "
                        "resize it or cut it into parts")


@contextlib.contextmanager
def naming_faults(path):
    """Turns whatever goes wrong with a file into a UserError that names it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # the decoders raise a dozen types
        raise UserError(f"{path} cannot be read as an image ({describe_fault(path, error)})"
                        ": repair or remove it") from None


def describe_fault(path, error):
    """Why an image cannot be read, in a few words."""
    if os.path.islink(path) and not os.path.exists(path):
        return "a link to a file that is not there"
    if isinstance(error, UnidentifiedImageError):
        return "damaged, or another format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"damaged: {' '.join(str(error).split()) or type(error).__name__}"


def open_file(path):
    """Opens an image with Pillow, HEIC with the optional package pillow-heif."""
    try:
        return Image.open(path, formats=FORMATS)
    except UnidentifiedImageError:
        with open(path, "rb") as file:
            start = file.read(12)
        if start[4:8] != b"ftyp" or start[8:] not in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
            raise
    try:
        import pillow_heif
    except ImportError:
        raise UserError("to read HEIC, pip install pillow-heif, or save it as JPEG") from None
    pillow_heif.register_heif_opener()
    return Image.open(path)


def turn_upright(image):
    """Turns a loaded image as its EXIF data say, wherever they are in the file."""
    with contextlib.suppress(Exception):  # broken EXIF data are no reason to refuse an image
        ImageOps.exif_transpose(image, in_place=True)
    return image


def convert_to_rgb(image, path):
    """Image of Pillow in any mode => in RGB, with transparency over white. Raises UserError."""
    if image.mode.startswith("I;16"):
        return grey_to_rgb(image, path)
    if image.mode in ("I", "F"):
        raise UserError("values of 32 bits, or below 0, have no agreed white: save it with 8 or 16 "
                        "bits")
    if image.format == "TIFF":
        check_bands(image)
    if image.mode == "La":  # multiplied by its transparency
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    if image.mode != "RGB":  # convert() would copy it
        image = image.convert("RGB")
    return image


def check_bands(image):
    """Raises UserError for a TIFF image with more bands than colours and transparency."""
    if has_more_bands(image):
        bands = image.tag_v2[277]
        place = {2: "second", 4: "fourth"}.get(known_bands(image) + 1, "last")
        raise UserError(f"it has {bands} bands, and the {place} is not transparency: save it "
                        "without, or train on all bands (docs/data-types.md)")


def has_more_bands(image):
    """Whether a TIFF image has more bands than colours and transparency."""
    return image.tag_v2.get(277, 1) > known_bands(image)  # SamplesPerPixel


def known_bands(image):
    """How many bands of a TIFF image are colours and transparency."""
    extra, *_ = image.tag_v2.get(338, (0,))  # ExtraSamples: what the bands after colours are
    if image.mode == "RGBA" and extra == 0:
        return 3
    return len(image.getbands())


def grey_to_rgb(image, path):
    """16-bit grey => RGB: Pillow would clip the values at 255. Warns if they fill little of the
    range, as in the files of many cameras and scanners."""
    values = np.asarray(image)
    if image.format == "TIFF" and image.tag_v2.get(262) == 0:  # white is zero
        values = 65535 - values
    grey = np.uint8(np.round(values / 257))
    transparent = image.info.get("transparency")
    if transparent is not None:
        grey[values == transparent] = 255
    brightest = int(values.max())
    if 0 < brightest < 6554:
        warn_once("dark", f"{path}: the brightest of its 16-bit values is {brightest} of 65535, "
                          "so that it is nearly black: training on 16-bit data keeps them "
                          "(docs/data-types.md)")
    return Image.fromarray(grey).convert("RGB")


def read_array(path, channels=None):
    """Reads a file as what it holds: [h, w, channels] of uint8, uint16, int16 or float32.

    The file is an array (.npy), a TIFF image (its first page), a PNG of 16 bits, or an 8-bit image.
    An 8-bit image gives uint8 RGB, or grey if `channels` is 1, or RGBA if it is 4. Floats of 16 and
    64 bits become float32. Raises UserError.
    """
    with naming_faults(path):
        kind = kind_of(path)
        if kind == "npy":
            return read_npy(path)
        if kind == "deep png":
            return read_deep_png(path)
        if kind == "tiff" and is_data_tiff(path):
            return read_data_tiff(path)
        if channels not in (None, 1, 3, 4):
            raise UserError(f"8-bit images have 1, 3 or 4 channels, not {channels}")
        if channels == 4:
            with open_file(path) as image:
                load(image)
                return np.asarray(turn_upright(image).convert("RGBA"))
    image = open_image(path)
    if channels == 1:
        return np.asarray(image.convert("L"))[..., None]
    return np.asarray(image)


def kind_of(path):
    """What a file is by its first bytes: "npy", "tiff", "deep png" (of 16 bits) or "picture"."""
    with open(path, "rb") as file:
        start = file.read(26)
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    if start.startswith(b"PK\x03\x04"):
        raise UserError("an archive, as .npz is one: give a file for each array, of np.save")
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if start.startswith(b"\x89PNG") and start[24:25] == b"\x10":
        return "deep png"
    return "picture"


def read_npy(path):
    """Reads a .npy file. Never unpickles, and reserves no more memory than the file fills.

    np.load() parses Python. In Python 3.11, threads that do so at once disturb each other, and
    TensorFlow's tracing (python/cpython issue 106905).
    """
    with open(path, "rb") as file:
        try:
            major, _ = np.lib.format.read_magic(file)
            length = int.from_bytes(file.read(2 if major == 1 else 4), "little")
            header = file.read(length).decode()
            dtype = np.dtype(re.search(r"'descr'\s*:\s*'([^']*)'", header)[1])
            order = re.search(r"'fortran_order'\s*:\s*(True|False)", header)[1]
            sides = re.search(r"'shape'\s*:\s*\(([\d,\s]*)\)", header)[1]
            shape = tuple(int(side) for side in sides.split(",") if side.strip())
            if dtype.hasobject:
                raise ValueError("it holds Python objects")
            if not shape or 0 in shape:
                return as_image(np.zeros(shape, dtype))  # which refuses it
            order = "F" if order == "True" else "C"
            array = np.memmap(path, dtype, "r", file.tell(), shape, order)
        except (ValueError, TypeError, MemoryError) as error:
            raise UserError(f"not an array of numbers, or a damaged one ({error}): save it with "
                            "np.save") from None
    return as_image(np.asarray(array))


def read_deep_png(path):
    """Reads a PNG of 16 bits at full depth, with its transparency, if any, as the last channel."""
    import tensorflow as tf  # Pillow keeps 8 bits of colours

    with open_file(path) as image:
        orientation = image.getexif().get(274, 1)
        check_pixels(*image.size)
        if image.mode.startswith("I"):
            return as_image(np.asarray(image), orientation)
    contents = Path(path).read_bytes()
    colour_type = contents[25]
    try:
        array = tf.io.decode_png(contents, 3 if colour_type == 2 else 4, tf.uint16).numpy()
    except tf.errors.OpError:
        raise UserError("a PNG of 16 bits that is damaged: repair or remove it") from None
    if colour_type == 4:  # grey with transparency
        array = array[..., [0, 3]]
    return as_image(array, orientation)


def is_data_tiff(path):
    """Whether a TIFF file holds more than 8 bits, signed numbers or floats, or bands other than
    grey, colours and transparency."""
    with naming_faults(path):
        tags = tags_of(path)
        bits = tags.get(258, (1,))
        sample_formats = set(tags.get(339, (1,)))
        if max(bits) > 8 or not sample_formats <= {1, 4} or tags.get(277, 1) > 4:
            return True
        try:
            with Image.open(path, formats=["TIFF"]) as image:
                return has_more_bands(image)
        except UnidentifiedImageError:  # bands without colours
            return tags.get(277, 1) > 1


def read_data_tiff(path):
    """Reads the first page of a TIFF, with Pillow or the optional package tifffile."""
    tags = tags_of(path)
    if tags.get(277, 1) == 1:  # one band
        with contextlib.suppress(UnidentifiedImageError):
            return read_with_pillow(path, tags)
    try:
        import tifffile
    except ImportError:
        raise UserError("to read TIFF of several bands, pip install tifffile") from None
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        warn_of_pages(path, len(tiff.pages))
        check_pixels(page.imagewidth, page.imagelength)
        try:
            array = page.asarray()
        except (ValueError, ImportError):
            from importlib.util import find_spec

            if page.compression == 1 or find_spec("imagecodecs"):
                raise
            raise UserError(f"its compression {page.compression.name} needs pip install "
                            "imagecodecs") from None
        if page.axes.startswith("S"):  # one plane for each band
            array = np.moveaxis(array, 0, -1)
    return as_image(array, tags.get(274, 1))


def read_with_pillow(path, tags):
    """Reads the first page of a TIFF of one band."""
    with Image.open(path, formats=["TIFF"]) as image:
        warn_of_pages(path, image.n_frames)
        load(image)
        array = np.asarray(image)
    is_signed = tags.get(339) == (2,)
    if image.mode == "I" and tags.get(258) == (16,):
        array = array.astype(np.int16)
    elif image.mode == "L" and is_signed:
        array = array.view(np.int8)
    return as_image(array)  # Pillow has turned it upright


def warn_of_pages(path, count):
    """Warns once that only the first page of a TIFF is read."""
    if count > 1:
        warn_once("pages", f"{path} has {count} pages or sizes: the first is read")


def as_image(array, orientation=1):
    """An array => [h, w, channels], upright, of one of ARRAY_TYPES. Raises UserError."""
    shape = array.shape
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in shape:
        raise UserError(f"an array of shape {shape}: give [height, width] or [height, width, "
                        "channels]")
    if shape[0] <= 16 < min(array.shape[1:]):
        raise UserError(f"an array of shape {shape}: channels come last, as np.moveaxis(array, 0, "
                        "-1) puts them")
    check_pixels(shape[1], shape[0])
    if array.dtype.name in ("float16", "float64"):
        with np.errstate(over="ignore"):  # infinities are found later
            array = array.astype(np.float32)
    if array.dtype.name not in ARRAY_TYPES:
        raise UserError(f"values of type {array.dtype}: save them as one of "
                        f"{', '.join(ARRAY_TYPES)}")
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def rgb_of_array(array):
    """uint8 [h, w, 3] => RGB image of Pillow. Raises UserError for other arrays."""
    if array.dtype != np.uint8 or array.shape[-1] != 3:
        raise UserError(f"holds {describe_array(array)}, where 8-bit RGB is expected")
    return Image.fromarray(array)


def describe_array(array):
    """For messages: "uint16 with 1 channel"."""
    channels = array.shape[-1]
    return f"{array.dtype} with {channels} channel{'s' if channels > 1 else ''}"


def resize_array(array, size):
    """[h, w, c] of any of ARRAY_TYPES => resized to (height, width), as resize_image(): 8-bit grey
    and RGB in 8 bits, all others channel by channel in floats. Integers are rounded."""
    if array.shape[:2] == tuple(size):
        return array
    is_picture = array.dtype == np.uint8 and array.shape[-1] in (1, 3)
    if is_picture:
        image = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
        return np.asarray(resize_image(image, size)).reshape([*size, array.shape[-1]])
    planes = []
    for channel in range(array.shape[-1]):
        plane = Image.fromarray(np.float32(array[..., channel]))
        planes.append(np.asarray(resize_image(plane, size)))
    result = np.stack(planes, axis=-1)
    if array.dtype == np.float32:
        return result
    limits = np.iinfo(array.dtype)
    return np.rint(np.clip(result, limits.min, limits.max)).astype(array.dtype)


def encode_array(array, suffix):
    """[h, w, c] of any of ARRAY_TYPES => bytes of a file: ".npy", ".tif", or ".png" for integers
    without sign of 1 to 4 channels. Raises UserError."""
    buffer = io.BytesIO()
    if suffix == ".png":
        import tensorflow as tf  # Pillow writes no 16-bit colours

        return tf.io.encode_png(array, compression=1).numpy()  # 10 % larger, a fifth of the time
    if suffix == ".npy":
        np.save(buffer, array)
    elif array.shape[-1] == 1 and array.dtype != np.int16:
        Image.fromarray(array[..., 0]).save(buffer, format="TIFF")
    else:
        try:
            import tifffile
        except ImportError:
            raise UserError("to write TIFF of several bands, pip install tifffile") from None
        if array.shape[-1] == 1:
            tifffile.imwrite(buffer, array[..., 0])
        else:
            colours = "rgb" if array.shape[-1] == 3 else "minisblack"
            tifffile.imwrite(buffer, array, photometric=colours, planarconfig="contig")
    return buffer.getvalue()


def copy_georeference(source, target):
    """Gives a TIFF file the place on earth of another TIFF that shows the same area, with the
    optional package rasterio. Warns once if that package is missing."""
    if not {33550, 33922, 34264} & set(tags_of(source)):  # GeoTIFF's scale, tie points and matrix
        return
    try:
        import rasterio
    except ImportError:
        warn_once("place", f"{target}: the place on earth is not kept: pip install rasterio")
        return
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            rasterio.open(source) as old,
            rasterio.open(target, "r+") as new,
        ):
            if old.crs:
                new.crs = old.crs
            scale = rasterio.Affine.scale(old.width / new.width, old.height / new.height)
            new.transform = old.transform * scale
    except rasterio.errors.RasterioError as error:
        warn_once("place", f"{target}: the place on earth is not kept: {error}")


def tags_of(path):
    """{number: value} of the tags of a TIFF file."""
    with open(path, "rb") as file:
        header = file.read(8)
        if header[2:3] == b"+" or header[3:4] == b"+":  # BigTIFF
            header += file.read(8)
        tags = TiffImagePlugin.ImageFileDirectory_v2(header)
        file.seek(tags.next)
        tags.load(file)
    return tags


def resize_image(image, size):
    """Image of Pillow => resized to (height, width), bicubic, first the width."""
    height, width = size
    for step in ((width, image.height), (width, height)):  # Pillow 13 may take the height first
        image = image.resize(step, Image.Resampling.BICUBIC)
    return image


def resize(image, size):
    """uint8 [h, w, 3] => uint8 [size[0], size[1], 3], as resize_image()."""
    return np.asarray(resize_image(Image.fromarray(image), size))


def warn_once(kind, text):
    """Prints the first warning of a kind."""
    if kind not in WARNED:
        WARNED.add(kind)
        print(f"warning: {text}", file=sys.stderr)


WARNED = set()  # the kinds of warnings that were printed


def is_image(path):
    """Whether a file, or a link, has the name of an image, and is not hidden."""
    is_named = path.name.lower().endswith(IMAGE_TYPES) and not path.name.startswith(".")
    is_broken_link = path.is_symlink() and not path.exists()  # reading it says so
    return is_named and (path.is_file() or is_broken_link)


def natural_order(path):
    """Sort key that puts 2.png before 10.png."""
    parts = re.split(r"(\d+)", path.name)
    return [int(part) if part.isdecimal() else part.lower() for part in parts]


def unique_names(paths):
    """Names for the results of files: without extension where that is enough to tell them apart,
    and short enough for a file system that takes 255 bytes."""
    counts = collections.Counter(path.stem for path in paths)
    names = [path.stem if counts[path.stem] == 1 else path.name for path in paths]
    if len(set(names)) < len(names):  # a.jpg, a.png and a.jpg.png
        names = [path.name for path in paths]
    return [shorten(name) for name in names]


def shorten(name, most=180):
    """A name of over `most` bytes => its beginning and a hash of the whole."""
    contents = os.fsencode(name)
    if len(contents) <= most:
        return name
    digest = hashlib.sha256(contents).hexdigest()[:12]
    return contents[: most - 13].decode(errors="ignore") + "~" + digest
# <<< reader
# >>> curves: the same in all algorithm files and tools/report.py (tools/fix_copies.py)
def draw_curves(title, curves):
    """[(points, colour)], points as [(step, value)] => an HTML figure with an SVG of 420 x 240
    pixels."""
    width, height, left, bottom = 420, 240, 52, 28
    points = np.concatenate([np.array(curve, float) for curve, _ in curves])
    first, low = points.min(axis=0)
    last, high = points.max(axis=0)
    span = (last - first) or 1
    rise = (high - low) or 1

    def place(step, value):
        x = left + (step - first) / span * (width - left - 10)
        y = height - bottom - (value - low) / rise * (height - bottom - 12)
        return f"{x:.1f},{y:.1f}"

    def text(x, y, anchor, words):
        return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="12">{words}</text>'

    title = html.escape(title)
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<figure><svg {size} role="img" aria-label="{title}">',
        f'<path d="M{left} 8V{height - bottom}H{width - 6}" fill="none" stroke="#888"/>',
        text(left - 6, 16, "end", f"{high:.3g}"),
        text(left - 6, height - bottom, "end", f"{low:.3g}"),
        text(left, height - 8, "start", f"{first:.0f}"),
        text(width - 6, height - 8, "end", f"{last:.0f}"),
    ]
    for curve, colour in curves:
        line = " ".join(place(*point) for point in curve[:: max(1, len(curve) // 400)])
        style = f'fill="none" stroke="{colour}" stroke-width="1.8"'
        parts.append(f'<polyline points="{line}" {style}/>')
    return "".join(parts) + f"</svg><figcaption>{title}, by step</figcaption></figure>"
# <<< curves
# >>> small functions: the same in all algorithm files (tools/fix_copies.py)


def list_images(folder, split="", domain=""):
    """[(name, path)] of the images directly in a folder, in natural order. A file gives itself.

    With a split and a domain: the images in folder/testA and the like, or in valA if there is no
    testA. A test folder without such parts is taken as it is. Names: see unique_names().
    """
    folder = Path(folder)
    if domain and (split == "train" or has_domains(folder)):
        has_test = any((folder / f"test{name}").is_dir() for name in "AB")
        has_val = any((folder / f"val{name}").is_dir() for name in "AB")
        if split == "test" and has_val and not has_test:
            split = "val"
        folder = folder / f"{split}{domain}"
    if not folder.is_dir() and not folder.is_file():
        expected = "the folder of images"
        if domain:
            expected = "a folder with trainA, trainB, testA and testB"
        raise UserError(f"no such folder: {folder}; --input_dir names {expected}")
    paths = [folder] if folder.is_file() else [path for path in folder.iterdir() if is_image(path)]
    if not paths:
        expected = ", ".join(IMAGE_TYPES)
        raise UserError(f"no images in {folder}; expected files ending in {expected}")
    for path in paths:
        str(path).encode()  # raises UnicodeError for a name that TensorFlow would refuse
    paths.sort(key=natural_order)
    return list(zip(unique_names(paths), map(str, paths), strict=True))


def has_domains(folder):
    """Whether a folder holds trainA, trainB, testA, testB, valA or valB."""
    splits = ("train", "test", "val")
    return any((folder / f"{split}{domain}").is_dir() for split in splits for domain in "AB")


def find_held_out(input_dir):
    """The test data of a training: the folder itself if it has testA, testB, valA or valB, or the
    folder val or test next to train, or None."""
    folder = Path(input_dir)
    if any((folder / part).is_dir() for part in ("testA", "testB", "valA", "valB")):
        return str(folder)
    if folder.name.startswith("train"):
        for name in ("val", "test"):
            beside = folder.with_name(folder.name.replace("train", name, 1))
            if beside.is_dir():
                return str(beside)
    return None


def names_of(paths):
    """Paths => a tensor of their bytes, as the file system has them."""
    return tf.constant([os.fsencode(path) for path in paths])


def read_in_graph(source, path, size=None):
    """source.read(path, size) in a graph: [h, w, source.channels] of source.type. source: a Domain,
    or another reader with these three. path: a tensor, see names_of()."""

    def read_bytes(path):
        return source.read(os.fsdecode(path), size)

    image = tf.numpy_function(read_bytes, [path], tf.as_dtype(source.type))
    return tf.ensure_shape(image, [*(size or [None, None]), source.channels])


@contextlib.contextmanager
def naming_unreadable(paths, read):
    """Turns an error of TensorFlow into a UserError that names the first path that read() cannot
    take."""
    try:
        yield
    except tf.errors.OpError:
        for path in paths:
            read(path)
        raise  # the images are good


def shuffled_index(position, count, seed, version=2):
    """The index in [0, count) at a position, int64, of an endless order: each epoch is a new
    permutation. version: 1 for trainings that began when only 65,536 permutations were drawn."""
    epoch = position // count
    index = position % count
    # index_shuffle uses 8 bits of each of two numbers: four in turn can give far more orders
    rounds = 1 if version == 1 else 4
    epoch_seeds = tf.random.stateless_uniform(
        [rounds, 2], tf.stack([tf.constant(seed, tf.int64), epoch]), None, None, tf.uint32
    )
    for number in range(rounds):
        index = tf.random.experimental.index_shuffle(
            index, epoch_seeds[number], tf.constant(count - 1, tf.int64)
        )
    return index


def with_own_threads(dataset):
    """A tf.data.Dataset that does not take the threads of the training step."""
    options = tf.data.Options()
    options.threading.private_threadpool_size = os.cpu_count()
    return dataset.with_options(options)


# ----------------------------------------------------------------------------------------- devices
# A replica is a device that computes a part of each batch; all replicas have the same weights.

def start_devices(deterministic, replicas=1, cluster=False):
    """Starts TensorFlow. Returns a tf.distribute.Strategy, and the names of the devices to print.

    deterministic: a CPU runs one operation at a time, because concurrent ones sometimes change the
    order of oneDNN's sums, and then no training repeats bit for bit. cluster: together with the
    other machines of TF_CONFIG, each with as many replicas.
    """
    tf.get_logger().setLevel("ERROR")  # for a checkpoint that does not fit, only our message
    if cluster and "TF_CONFIG" not in os.environ:
        raise UserError("--cluster needs TF_CONFIG: see docs/distribute.md and tools/cluster.py")
    gpus = tf.config.list_physical_devices("GPU")
    with quiet_stderr():
        with contextlib.suppress(RuntimeError):  # TensorFlow runs already, in a notebook
            configure_devices(deterministic, replicas, gpus)
        strategy = tf.distribute.get_strategy()
        if cluster:
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
        devices = tf.config.list_logical_devices("GPU" if gpus else "CPU")  # starts TensorFlow
        usable = len(devices)
        if cluster:
            machines = strategy.cluster_resolver.cluster_spec().num_tasks("worker")
            usable = strategy.num_replicas_in_sync // machines
        if usable < replicas:
            raise UserError(f"--replicas {replicas}: TensorFlow sees {len(gpus)} GPUs here: give "
                            f"at most {usable}")
        if replicas > 1 and not cluster:
            names = [device.name for device in devices[:replicas]]
            strategy = tf.distribute.MirroredStrategy(names)
    return strategy, f"{describe_devices(gpus, replicas)} (TensorFlow {tf.__version__})"


def configure_devices(deterministic, replicas, gpus):
    """Settings that TensorFlow takes only before it starts."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    if deterministic and not gpus:
        tf.config.threading.set_inter_op_parallelism_threads(1)
    if replicas > 1 and not gpus:
        parts = [tf.config.LogicalDeviceConfiguration() for _ in range(replicas)]
        tf.config.set_logical_device_configuration(cpu, parts)
    tf.config.set_visible_devices(gpus[:replicas], "GPU")  # the others stay free


def describe_devices(gpus, replicas):
    """The names of the GPUs in use."""
    if not gpus:
        return "no GPU found, using the CPU"
    names = []
    for gpu in gpus[:replicas]:
        details = tf.config.experimental.get_device_details(gpu)
        names.append(details.get("device_name", gpu.name))
    if len(gpus) > replicas:
        names.append(f"{replicas} of {len(gpus)} GPUs")
    return ", ".join(names)


def own_share(batch_size, share):
    """How many images of a batch each replica takes, and is_own(position): whether the image at a
    position is for this machine. share: tf.distribute.InputContext; None: the only machine."""
    if share is None:
        share = tf.distribute.InputContext()
    per_machine = batch_size // share.num_input_pipelines

    def is_own(position):
        return position % batch_size // per_machine == share.input_pipeline_id

    return batch_size // share.num_replicas_in_sync, is_own


def gathered(tensor):
    """[n, ...] on each replica => [replicas * n, ...], the same on all; gradients flow back."""
    replica = tf.distribute.get_replica_context()
    if replica.num_replicas_in_sync == 1:
        return tensor
    # all_gather takes a tensor of this device, and the reshape makes its gradient dense
    whole = replica.all_gather(tf.identity(tensor), axis=0)
    count = replica.num_replicas_in_sync * tensor.shape[0]
    return tf.reshape(whole, [count, *tensor.shape[1:]])


def own_part(tensor, groups=1):
    """[replicas * n, ...], the same on all replicas => [n, ...], the part of this one. groups: how
    many such tensors follow each other on the first axis."""
    replica = tf.distribute.get_replica_context()
    shape = tensor.shape[1:]
    parts = tf.reshape(tensor, [groups, replica.num_replicas_in_sync, -1, *shape])
    return tf.reshape(parts[:, replica.replica_id_in_sync_group], [-1, *shape])


def compile_step(train_step, xla):
    """Compiles train_step(step, batch) => losses. Each replica takes its own batch, and the losses
    are means over all replicas."""
    strategy = tf.distribute.get_strategy()

    def step_on_all(step, batch):
        losses = strategy.run(train_step, (step, batch))
        return strategy.reduce("MEAN", losses, axis=None)

    return tf.function(step_on_all, jit_compile=xla)


# --------------------------------------------------------------------------------------- optimizers

def weights_init():
    """Convolution kernels start as N(0, 0.02)."""
    return keras.initializers.RandomNormal(0.0, 0.02)


class Adam(keras.optimizers.Adam):
    """Adam (Kingma, Ba 2014) numerically as in PyTorch, with one fused kernel per variable: 9 %
    less time per step."""

    def scale_loss(self, loss):
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return loss / replicas  # Keras sums the gradients of all

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations.value + 1, tf.float32)
        power1 = tf.pow(self.beta_1, step)
        power2 = tf.pow(self.beta_2, step)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=power1,
            beta2_power=power2,
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            # PyTorch and the paper add epsilon after the bias correction
            epsilon=self.epsilon * tf.sqrt(1 - power2),
            grad=gradient,
        )


class LossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Keras's, for several replicas: an infinity on one of them skips the update, and lowers the
    scale, on all."""

    def scale_loss(self, loss):
        return super().scale_loss(self.inner_optimizer.scale_loss(loss))

    def check_finite(self, gradients):
        bad = tf.cast(tf.logical_not(super().check_finite(gradients)), tf.float32)
        return tf.distribute.get_replica_context().all_reduce("SUM", bad) == 0


def build_optimizer(weights, learning_rate, beta1, mixed_precision):
    """Adam for a list of weights. With float16 it scales the loss, so that small gradients do not
    vanish."""
    optimizer = Adam(learning_rate, beta_1=beta1, beta_2=0.999, epsilon=1e-8)
    if mixed_precision == "float16":
        optimizer = LossScaleOptimizer(optimizer)
    optimizer.build(weights)
    return optimizer


def learning_rate_at(step, learning_rate, total, decay_steps):
    """The learning rate after `step` of `total` steps: constant, then linearly to 0 over the last
    decay_steps."""
    decay_steps = max(1.0, min(decay_steps, total))
    return learning_rate * min(1.0, (total - step) / decay_steps)


# ------------------------------------------------------------------------------------- translation

def by_batch_size(translate, domain):
    """Compiles translate(images) once for each n; images: [n, h, w, c] of a Domain. Heights and
    widths may vary."""

    @functools.cache
    def compiled(n):
        spec = tf.TensorSpec([n, None, None, domain.channels], domain.type)
        return tf.function(translate, [spec])

    return lambda images: compiled(len(images))(images)


def translate_windows(translate, images, window, multiple, domain, min_side=1, overlap=0.5):
    """Translates images of any size, in memory bounded by the window: [n, h, w, c] => of the
    Domain `domain`.

    translate: [n, h, w, c] => fractions of the domain's range, float [n, h, w, channels], for sides
    that are multiples of `multiple`, at least min_side. A side of up to `window` pixels goes
    through whole, padded by reflection. A longer one is covered by windows that share `overlap` of
    their length, at most 0.5, with the next; squared sines blend them without seams.
    """
    window = math.ceil(window / multiple) * multiple
    shared = round(window * overlap)
    n, height, width, _ = images.shape
    rows, tops, row_weights = cover(height, window, shared, multiple, min_side)
    columns, lefts, column_weights = cover(width, window, shared, multiple, min_side)
    bottom = tops[-1] + rows
    right = lefts[-1] + columns
    padding = [(0, 0), (0, bottom - height), (0, right - width), (0, 0)]
    images = np.pad(images, padding, "reflect")
    if len(tops) == len(lefts) == 1:  # nothing to blend
        return domain.to_array(np.asarray(translate(images)))[:, :height, :width]

    result = np.empty([*images.shape[:3], domain.channels], domain.type)
    # sums of the windows from `top` on
    band = np.zeros((n, rows, right, domain.channels), np.float32)
    for top, next_top, row_weight in zip(tops, [*tops[1:], bottom], row_weights, strict=True):
        for left, column_weight in zip(lefts, column_weights, strict=True):
            piece = images[:, top : top + rows, left : left + columns]
            weight = row_weight[:, None, None] * column_weight[None, :, None]  # [rows, columns, 1]
            band[:, :, left : left + columns] += weight * np.asarray(translate(piece))
        finished = next_top - top  # rows that no later window touches
        result[:, top:next_top] = domain.to_array(band[:, :finished])
        band = np.concatenate([band[:, finished:], np.zeros_like(band[:, :finished])], axis=1)
    return result[:, :height, :width]


def cover(side, window, shared, multiple, min_side):
    """The windows along a side: their length, their starts, and the weights of the pixels in each,
    which add up to 1 at every pixel."""
    length = window
    if side <= window:
        length = max(min_side, math.ceil(side / multiple) * multiple)
    # equal steps, so that the strides of convolutions fall alike in all windows
    starts = range(0, max(1, side - shared), window - shared)
    ramp = np.sin(np.minimum(1, (np.arange(length) + 0.5) / shared) * np.pi / 2) ** 2
    weight = ramp * ramp[::-1]
    total = np.zeros(starts[-1] + length)
    for start in starts:
        total[start : start + length] += weight
    weights = [np.float32(weight / total[start : start + length]) for start in starts]
    return length, starts, weights


# ------------------------------------------------------------------------------------ output files

@contextlib.contextmanager
def written_whole(path):
    """Gives a temporary path. The file or folder written there replaces `path` whole, or not at all
    after an error. A link is never followed to remove something."""
    path = Path(path)
    part = path.with_name(f"part-{os.getpid()}-{path.name}")  # the extension tells Keras the format
    if path.is_symlink():
        raise UserError(f"{path} is a link, and only our own files are replaced: remove it")
    try:
        yield part
        replace(path, part)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        remove(part)


def replace(path, part):
    """Puts a new file or folder in the place of an old one, which stays if that fails."""
    if not path.is_dir():
        move_over(part, path)
        return
    old = path.with_name(f"part-{os.getpid()}-old-{path.name}")
    path.rename(old)
    try:
        part.replace(path)
    except OSError:
        old.rename(path)
        raise
    remove(old)


def move_over(part, path, tries=20 if os.name == "nt" else 1):
    """Gives a new file the place of an old one. Windows refuses that while another program reads
    one of them, such as a scanner for viruses or a server of web pages: then it tries again."""
    for left in reversed(range(tries)):
        try:
            part.replace(path)
            return
        except PermissionError:
            if not left:
                raise
            time.sleep(0.1)


def remove(path):
    """Removes a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_file(path, content):
    """Writes bytes, a text, or anything else as JSON. The file is replaced whole or not at all."""
    if not isinstance(content, (bytes, str)):
        content = json.dumps(content, indent=2) + "\n"
    if isinstance(content, str):
        content = content.encode()
    with written_whole(path) as part:
        part.write_bytes(content)


def write_results(folder, name, images, model, direction, source):
    """Writes {kind: [h, w, c]} as images/NAME-KIND.png, or .npy or .tif with NAME-KIND-preview.png.
    source: the file that was translated. Returns {kind: (file to show, file of the values)}."""
    folder = Path(folder) / "images"
    counterparts = getattr(model, "counterparts", {})  # of pairs in two files
    is_half = getattr(model, "has_pairs", False) and source not in counterparts
    if direction == "BtoA":
        source = counterparts.get(source, source)
    files = {}
    for kind, image in images.items():
        domain = domain_of(model, kind, direction)
        height = len(image)
        if model.aspect_ratio != 1:
            image = resize_array(image, [height, round(height * model.aspect_ratio)])
        suffix = domain.suffix(source)
        file = shown = f"{name}-{kind}{suffix}"
        with written_whole(folder / file) as part:
            part.write_bytes(encode_array(image, suffix))
            if suffix == ".tif" and not is_half:
                copy_georeference(source, part)
        if not domain.is_viewable or suffix != ".png":
            shown = f"{name}-{kind}-preview.png"
            write_file(folder / shown, encode_array(domain.preview(image), ".png"))
        files[kind] = shown, file
    return files


PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px sans-serif; margin: 1em }}
td, th {{ padding: 4px; vertical-align: top; text-align: left }}
img {{ max-width: 512px }}
.curves {{ display: flex; flex-wrap: wrap; gap: 1em }} figure {{ margin: 0 }}
.curves svg {{ width: 280px; height: auto }}
</style></head><body>
<h1>{title}</h1>{note}
<table>
{rows}
</table>
</body></html>
"""


def write_page(folder, title, columns, rows, note="", curves=""):
    """Writes index.html into a folder: a note, curves (HTML), and a table of the folder's images.
    rows: [(texts, [(file to show, file that it leads to)])]."""
    table = ["<tr>" + "".join(f"<th>{html.escape(column)}</th>" for column in columns) + "</tr>"]
    for texts, files in rows:
        cells = [f"<td>{html.escape(text)}</td>" for text in texts]
        for shown, file in files:
            name, _ = os.path.splitext(file)
            image = f'<img src="{url_of(shown)}" alt="{html.escape(name)}" loading="lazy">'
            cells.append(f'<td><a href="{url_of(file)}">{image}</a></td>')
        table.append("<tr>" + "".join(cells) + "</tr>")
    note = f"\n<p>{html.escape(note)}</p>" if note else ""
    note += f"\n{curves}" if curves else ""
    page = PAGE.format(title=html.escape(title), rows="\n".join(table), note=note)
    write_file(folder / "index.html", page)


def url_of(file):
    """The address of a file in images/, as HTML writes it."""
    return html.escape(urllib.parse.quote(os.fsencode(f"images/{file}")))


def note_previews(model):
    """What previews show, where that is not the images themselves."""
    notes = []
    for name, domain in model.domains.items():
        if not domain.is_viewable:
            notes.append(f"{name} from {domain.black:g} (black) to {domain.white:g} (white)")
    return f"Previews show {', '.join(notes)}." if notes else ""


# ------------------------------------------------------------------------------------- checkpoints

def find_checkpoint(path):
    """The newest checkpoint in the folder of a training, or the one that the path names
    (DIR/model-2000), or None."""
    if not os.path.isdir(path):
        return path if os.path.exists(f"{path}.index") else None
    steps = saved_steps(path)
    return os.path.join(path, f"model-{steps[-1]}") if steps else None


def saved_steps(folder):
    """The steps of the checkpoints in a folder, in their order."""
    found = [re.fullmatch(r"model-(\d+)\.index", name) for name in os.listdir(folder)]
    return sorted(int(match[1]) for match in found if match)


def neighbours_of(checkpoint):
    """The checkpoints of earlier and of later steps in its folder: two lists."""
    folder = Path(checkpoint).parent
    step = int(Path(checkpoint).name.removeprefix("model-"))
    earlier = [str(folder / f"model-{other}") for other in saved_steps(folder) if other < step]
    later = [str(folder / f"model-{other}") for other in saved_steps(folder) if other > step]
    return earlier, later


def is_damaged(path):
    """Whether a checkpoint cannot be read; each tensor has a checksum."""
    try:
        reader = tf.train.load_checkpoint(path)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except (tf.errors.OpError, RuntimeError, ValueError, IndexError):
        return True
    return False


def read_options(checkpoint, algorithm):
    """The options.json next to a checkpoint: the flags of its training."""
    file = find_checkpoint(checkpoint)
    if not file:
        raise UserError(f"no checkpoint in {checkpoint}: --checkpoint names the --output_dir of a "
                        "training")
    path = Path(file).parent / "options.json"
    required = {"input_dir", *algorithm.network_flags, *algorithm.data_flags}
    required -= LATER_FLAGS
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        script = saved["script"]
        is_good = script.isalnum()
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        is_good = False
    if not is_good:
        raise UserError(f"{path} is missing or damaged: restore it, since only it describes the "
                        "networks")
    if script != algorithm.name:
        raise UserError(f"{checkpoint} was trained by {script}.py, not {algorithm.name}.py: use "
                        "the former")
    missing = sorted(required - set(saved))
    if missing:
        raise UserError(f"{path} has no {', '.join(missing)}: put that back, or train anew if the "
                        "flag is newer than the training")
    if not isinstance(saved["input_dir"], str):
        raise UserError(f"{path}: input_dir is {saved['input_dir']!r}, no folder; put it back")
    for name in LATER_FLAGS & set(FLAGS):
        saved.setdefault(name, FLAGS[name].default)
    rgb = dataclasses.asdict(Domain())
    saved.setdefault("domains", {"A": rgb, "B": rgb})
    return saved


LATER_FLAGS = {  # older trainings lack them
    "norm", "upsample", "separable_conv", "patch_weight", "channels", "value_range", "nan_value",
    "preview_bands", "residual", "stroke", "ink", "grain",
}


def weights_of(model):
    """The weights of an algorithm's networks by name, in the form that a checkpoint takes."""
    weights = {}
    for name, network in model.networks.items():
        weights[name] = {weight.path: weight.value for weight in network.weights}
    return weights


def optimizers_of(model):
    """The state of an algorithm's optimizers by name, in the form that a checkpoint takes."""
    state = {}
    for name, optimizer in model.optimizers.items():
        adam = getattr(optimizer, "inner_optimizer", optimizer)
        state[f"{name}_adam"] = {
            "iterations": adam.iterations.value,
            "momentums": [variable.value for variable in adam._momentums],
            "velocities": [variable.value for variable in adam._velocities],
        }
        if optimizer is not adam:
            scale = {"scale": optimizer.dynamic_scale.value, "steps": optimizer.step_counter.value}
            state[f"{name}_loss_scale"] = scale
    return state


def restore(path, objects):
    """Restores all objects of {name: object} from a checkpoint, which may hold more."""
    with naming_damaged(path):
        status = tf.train.Checkpoint(**objects).restore(path)
        status.assert_existing_objects_matched().expect_partial()


@contextlib.contextmanager
def naming_damaged(path):
    """Turns the errors of a checkpoint that cannot be read into a UserError."""
    try:
        yield
    except (AssertionError, ValueError, IndexError, RuntimeError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0][:200]
        earlier, _ = neighbours_of(path)
        advice = f"; --checkpoint {earlier[-1]} is the one before" if earlier else ""
        raise UserError(f"{path} cannot be restored: it is damaged or belongs to other networks: "
                        f"{reason}{advice}") from error


def stored_names(path):
    """The names of the objects in a checkpoint."""
    with naming_damaged(path):
        return {name.split("/")[0] for name, _ in tf.train.list_variables(path)}


def restore_training(path, objects, model):
    """Restores all of a training, except what only its precision needed: the scale of losses."""
    stored = stored_names(path)
    if not {"step", *model.networks} <= stored:
        raise UserError(f"{path} holds generators alone, for test, export and --init_from: to "
                        "continue a training, name the folder above; a student: tools/distill.py")
    lengths = dict(tf.train.list_variables(path)).get(stored_key("smoothed"), [])
    if lengths not in ([], [len(model.losses)]):
        raise UserError(f"{path} has {lengths[0]} losses, and {model.name}.py has "
                        f"{len(model.losses)} now: begin a new training, with --init_from")
    wanted = {}
    for name, value in objects.items():
        if name in stored or not name.endswith("_loss_scale"):
            wanted[name] = value
    for name, optimizer in model.optimizers.items():
        if f"{name}_optimizer" in stored:  # version 1
            del wanted[f"{name}_adam"]
            wanted[f"{name}_optimizer"] = numbered_variables(optimizer, path, f"{name}_optimizer")
    for name in model.state:
        if is_older_pool(path, name):
            wanted[name] = {"pictures": wanted[name]["images"], "count": wanted[name]["count"]}
    restore(path, wanted)


def is_older_pool(path, name):
    """Whether a checkpoint calls the images of a pool "pictures", as older ones do."""
    keys = [key for key, _ in tf.train.list_variables(path)]
    return any(key.startswith(f"{name}/pictures/") for key in keys)


def init_networks(model, args):
    """Gives a new training the networks of another one: the averages of its generators where it has
    them, because these are what it shows. Says what starts anew: networks and layers that are not
    there, and layers of other channels."""
    path = find_checkpoint(args.init_from)
    stored = stored_names(path)
    has_averages = "averaged" in stored
    source = restore_domains(args.networks_of["domains"], f"options.json of {args.init_from}")
    is_same = {}  # {domain: whether the channels of the networks are those of the data}
    for name, domain in model.domains.items():
        is_same[name] = domain.channels == source[name].channels
    for flag in ("which_direction", "grain"):
        is_same[flag] = getattr(args, flag, None) == args.networks_of.get(flag)
    weights = weights_of(model)
    anew = []
    if not all(is_same.values()):
        with naming_damaged(path):
            shapes = tf.train.load_checkpoint(path).get_variable_to_shape_map()
        prefix = "averaged/" if has_averages else ""
        for name in weights:
            weights[name], other = split_by_shape(weights[name], shapes, name, prefix)
            anew += other
    found = {}
    for name in weights:
        if name in stored and not is_blank(path, name, weights[name]):
            found[name] = weights[name]
    generators = {name: weights[name] for name in weights if name.startswith("generator")}
    restore(path, found)
    if has_averages:
        restore(path, {"averaged": generators})
        found |= generators
    anew = [name for name in weights if name not in found] + anew
    note = f"; new: {', '.join(anew)}" if anew else ""
    print(f"networks from {path}{note}")


def is_blank(path, network, weights):
    """Whether tools/import-weights.py had no file for a network: its kernels are all zeros."""
    with naming_damaged(path):
        reader = tf.train.load_checkpoint(path)
        for name in weights:
            key = f"{network}/{stored_key(name)}"
            if reader.has_tensor(key) and np.any(reader.get_tensor(key)):
                return False
    return True


def stored_key(path):
    """The path of a weight in its network => its name in a checkpoint, as TensorFlow writes it."""
    return f"{path.replace('/', '.S')}/.ATTRIBUTES/VARIABLE_VALUE"


def split_by_shape(weights, shapes, network, prefix):
    """{path: weight} of a network => the weights that a checkpoint holds in the same shape, and the
    names of the others: of another shape, or of the grain. Whatever else it lacks, restore() finds.
    shapes: {name in the checkpoint: shape}; prefix: of the averages."""
    same = {}
    other = []
    for path, weight in weights.items():
        wanted = [f"{start}{network}/{stored_key(path)}" for start in (prefix, "")]
        found = [shapes[name] for name in wanted if name in shapes]
        is_grain = "_grain/" in path
        if (found and found[0] != list(weight.shape)) or (is_grain and not found):
            other.append(f"{network}/{path}")
        else:
            same[path] = weight
    return same, other


def numbered_variables(optimizer, path, name):
    """An optimizer's variables as checkpoints of version 1 number them: after four that scale the
    losses, if the training was in float16."""
    adam = getattr(optimizer, "inner_optimizer", optimizer)
    prefix = f"{name}/"
    stored = [key for key, _ in tf.train.list_variables(path) if key.startswith(prefix)]
    was_scaled = len(stored) > len(adam.variables)
    start = 4 if was_scaled else 0
    variables = {str(start + i): variable.value for i, variable in enumerate(adam.variables)}
    if was_scaled and optimizer is not adam:
        variables["2"] = optimizer.step_counter.value
        variables["3"] = optimizer.dynamic_scale.value
    return variables


def is_averaged(checkpoint):
    """Whether a checkpoint holds averages of the weights, as trainings with --ema_decay make."""
    return "averaged" in stored_names(checkpoint)


def restore_generators(model, args):
    """Restores the networks of test and export: the averages of the weights where the training made
    them, unless --ema_decay is 0. Returns the path of the checkpoint."""
    checkpoint = find_checkpoint(args.checkpoint)
    objects = weights_of(model)
    if args.ema_decay:
        if is_averaged(checkpoint):
            objects = {"averaged": objects}
        elif "ema_decay" in args.given:
            raise UserError(f"{checkpoint} holds no averaged weights: leave --ema_decay out")
        else:  # --ema_decay was given only after this checkpoint
            print(f"{checkpoint} holds no averaged weights: using the weights", file=sys.stderr)
    restore(checkpoint, objects)
    return checkpoint
# <<< small functions


if __name__ == "__main__":
    sys.exit(main(sys.argv, AnimeGAN))
