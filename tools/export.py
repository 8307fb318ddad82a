"""Writes a trained generator for other programs: LiteRT, ONNX, Keras, or a SavedModel of files.

    python tools/export.py facades_train --format litert --quantize int8
    python tools/export.py monet2photo_cyclegan_train --format onnx --which_direction BtoA
    python tools/export.py facades_train --format encoded          # JPEG or PNG bytes => PNG bytes

LiteRT, ONNX and Keras models take and give images as the training's files hold them, mostly uint8
RGB; `encoded` is for TensorFlow Serving. `python SCRIPT.py --mode export` writes a SavedModel.
docs/export.md has them all.
"""

import argparse
import functools
import os
from pathlib import Path

import numpy as np
from common import Parser, UserError, in_our_words, load_trained, run

FILES = {
    "litert": "model.tflite",
    "onnx": "model.onnx",
    "keras": "model.keras",
    "encoded": "saved_model",
}


class Inexact(UserError):
    """int8 weights change the translations by more than 1 of 255."""


def write_litert(module, model, path, quantize, input_dir):
    """Writes the generator for one image of model.crop. int8 weights are checked on test images."""
    serving = model.build_serving_model(*model.crop, batch_size=1)
    convert(module, serving, path, quantize)
    if quantize == "int8":
        check_litert(module, model, path.read_bytes(), serving, input_dir)


def convert(module, serving, path, weights):
    """Writes a serving model for one size as a LiteRT model. weights: "int8", "float16"; others
    stay float32."""
    tf = module.tf
    serving = in_quick_operations(module, serving, serving.input)
    signature = module.keras.InputSpec(serving.input.dtype, serving.input.shape)
    options = {"input_signature": [signature]}
    if weights in ("int8", "float16"):
        options["optimizations"] = [tf.lite.Optimize.DEFAULT]
    if weights == "float16":
        options["target_spec"] = {"supported_types": [tf.float16]}
    serving.export(str(path), format="litert", verbose=False, **options)


def in_quick_operations(module, network, inputs):
    """A copy of a network for inputs of one size, with the same weights, in operations that LiteRT
    has quick kernels for, and a GPU in a browser too. Reflection pads alone take most of the time
    of a ResNet otherwise."""
    keras = module.keras

    def resizing(layer):
        """Nearest x2 in an operation of four dimensions instead of five. Other layers stay."""
        is_resizing = isinstance(layer, keras.layers.UpSampling2D)
        if not is_resizing or layer.size != (2, 2) or layer.interpolation != "nearest":
            return layer
        return keras.layers.Lambda(functools.partial(repeat, keras.ops), name=layer.name)

    def call(operation, *args, **options):
        x = args[0]
        is_reflection = type(operation).__name__ == "Pad" and operation.mode == "reflect"
        if isinstance(operation, keras.Sequential):  # which holds no pads and no norms
            parts = [resizing(layer) for layer in operation.layers]
            return keras.Sequential(parts, name=operation.name)(x)
        if isinstance(operation, keras.Model):
            return in_quick_operations(module, operation, x)(x)
        operation = resizing(operation)
        if is_reflection:
            return reflect(keras.ops, x, operation.pad_width)
        if type(operation).__name__ in ("InstanceNorm", "BatchNorm"):
            return normalize(keras.ops, x, operation.gamma, operation.beta)
        if type(operation).__name__ == "Grain":
            return add_grain(keras.ops, x, operation)
        if type(operation).__name__ == "LayerNorm":
            return normalize(keras.ops, x, operation.gamma, operation.beta, of_channels=True)
        return operation(*args, **options)

    return keras.models.clone_model(
        network,
        input_tensors=keras.Input(batch_shape=inputs.shape, dtype=inputs.dtype, name="images"),
        clone_function=lambda layer: layer,  # so that weights are shared
        call_function=call,
    )


def reflect(ops, x, widths):
    """As ops.pad(x, widths, mode="reflect"), by slices."""
    for axis in (1, 2):
        before, after = widths[axis]
        side = x.shape[axis]
        places = [*range(before, 0, -1), None, *range(side - 2, side - 2 - after, -1)]
        parts = []
        for place in places:
            piece = x
            if place is not None:
                rows = slice(place, place + 1)
                piece = x[:, rows] if axis == 1 else x[:, :, rows]
            parts.append(piece)
        x = ops.concatenate(parts, axis=axis)
    return x


def repeat(ops, x):
    """Nearest x2, [n, h, w, c] => [n, 2h, 2w, c]."""
    height, width = x.shape[1:3]
    return ops.image.resize(x, (2 * height, 2 * width), interpolation="nearest")


def add_grain(ops, x, layer):
    """Grain of pix2pix.py, [n, h, w, c] => the same. The minimum changes nothing. It depends on the
    image, so that the converter cannot multiply noise and weights beforehand: that adds 4 MB."""
    height, width = x.shape[1:3]
    noise = np.tile(layer.noise, [1, height // 256 + 1, width // 256 + 1, 1])[:, :height, :width]
    noise = ops.minimum(noise, 100 + ops.abs(x[:, :1, :1, :1]))
    return x + ops.conv(noise, ops.reshape(layer.weight, (1, 1, 1, -1)))


def normalize(ops, x, gamma, beta, of_channels=False):
    """Instance norm, as the scripts have it, in few operations: [n, h, w, c] => the same.
    of_channels: statistics of all channels together, as animegan.py's layer norm."""

    def mean(x):
        x = ops.mean(x, axis=(1, 2), keepdims=True)
        return ops.mean(x, axis=3, keepdims=True) if of_channels else x

    x = x - mean(x)
    variance = mean(x * x)
    scale = ops.rsqrt(variance + 1e-5)
    if gamma is None:
        return x * scale
    return x * (scale * gamma) + beta


def check_litert(module, model, contents, serving, input_dir):
    """Raises Inexact if a LiteRT model differs from a serving model by more than 1 of 255, in parts
    of the range."""
    translate = run_litert(module, contents)
    target = model.domains[model.args.which_direction[-1]]
    level = (target.high - target.low) / 255
    differences = []
    for _, file, direction in model.find_test_images(input_dir)[:8]:
        image = model.translate_file(file, direction)["inputs"]
        image = module.resize_array(image, model.crop)[None]
        difference = np.abs(translate(image) - np.float32(serving(image)))
        differences.append(difference.mean() / level)
    mean = np.mean(differences)
    if mean > 1:
        raise Inexact(
            f"--quantize int8 changes held-out images by {mean:.2f} of 255, over 1: take float16"
        )


def run_litert(module, contents):
    """The bytes of a LiteRT model => a function, images [1, h, w, c] => translations."""
    with module.quiet_stderr():
        interpreter = module.tf.lite.Interpreter(model_content=contents)
        signature = interpreter.get_signature_runner()
    (input_name,) = signature.get_input_details()

    def translate(image):
        with module.quiet_stderr():
            (output,) = signature(**{input_name: image}).values()
        return output

    return translate


def write_keras(model, path):
    """Writes the generator for images of any size, in Keras's own layers alone."""
    if getattr(model.args, "grain", False):
        raise UserError(
            "--format keras: Keras has no layer for --grain: take litert or onnx, or a SavedModel "
            "by pix2pix.py --mode export"
        )
    model.build_serving_model().save(path)


def write_onnx(module, model, path):
    """Writes the generator for images of model.crop."""
    try:
        import onnx  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError:
        raise UserError("--format onnx needs two more packages: pip install onnx tf2onnx") from None
    serving = model.build_serving_model(*model.crop)
    domain = model.domains[model.args.which_direction[0]]
    example = np.zeros([1, *model.crop, domain.channels], domain.type)
    serving(example)  # Keras exports to ONNX what was called before
    serving.export(str(path), format="onnx", verbose=False)


def write_encoded(module, model, path):
    """Writes a SavedModel of files: [n] JPEG, PNG, BMP or GIF files => [n] PNG files.

    At the size of training; for siamesegan.py at that of each image, up to --tile_size.
    """
    if not all(domain.is_rgb for domain in model.domains.values()):
        raise UserError(
            "--format encoded is for 8-bit RGB: other data go in arrays, as the "
            "SavedModel of --mode export takes them"
        )
    tf = module.tf
    holder = tf.Module()
    serving = holder.model = model.build_serving_model()
    is_any_size = model.name == "siamesegan"

    def translate_one(contents):
        image = turn_upright(tf, decode(tf, contents), contents)
        if is_any_size:
            image = translate_whole(tf, serving, image, model.multiple, model.crop[0])
        else:
            height, width = model.crop
            image = resize_in_graph(tf, image, (height, width))
            image = serving(image[None])[0]
            if model.aspect_ratio != 1:
                image = resize_in_graph(tf, image, (height, round(height * model.aspect_ratio)))
        return tf.io.encode_png(image)

    # TensorFlow Serving takes names in _bytes as base64
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def translate(image_bytes):
        outputs = tf.map_fn(translate_one, image_bytes, fn_output_signature=tf.string)
        return {"png_bytes": outputs}

    signatures = {"encoded": translate}
    signatures["serving_default"] = module.serving_function(serving, model.multiple)
    tf.saved_model.save(holder, str(path), signatures)


def decode(tf, contents):
    """Bytes of a JPEG, PNG, BMP or GIF => uint8 [h, w, 3]. Grey becomes RGB, transparency is laid
    over white. Another format is an error: TensorFlow would overrun its memory with some."""
    start = tf.strings.substr(contents, 0, 2**16)
    is_jpeg = tf.io.is_jpeg(contents)
    bmp = r"BM\C{26}[\x18\x20]\C*"  # of 24 or 32 bits: TensorFlow misreads palettes
    is_known = is_jpeg | tf.strings.regex_full_match(start, rf"\C?PNG\C*|GIF8\C*|{bmp}")
    message = "not a JPEG, PNG, BMP or GIF file, or a BMP with a palette"
    check = tf.debugging.Assert(is_known, [message])
    with tf.control_dependencies([check]):
        contents = tf.identity(contents)
    # colour type 4 or 6, or a chunk with transparency; without, four channels of few bits would
    # be misread
    has_alpha = tf.strings.regex_full_match(start, r"\C?PNG(?:\C{21}[\x04\x06]\C*|\C*tRNS\C*)")
    if is_jpeg:
        # as Pillow; CMYK is inverted where an Adobe marker says so, which TensorFlow does not ask
        image = tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE")
        return tf.ensure_shape(image, [None, None, 3])
    if not has_alpha:
        image = tf.io.decode_image(contents, channels=3, expand_animations=False)
        return tf.ensure_shape(image, [None, None, 3])
    image = tf.io.decode_png(contents, channels=4)
    colour = tf.cast(image[:, :, :3], tf.float32)
    alpha = tf.cast(image[:, :, 3:], tf.float32) / 255
    image = tf.cast(tf.round(colour * alpha + 255 * (1 - alpha)), tf.uint8)
    return tf.ensure_shape(image, [None, None, 3])


def turn_upright(tf, image, contents):
    """Turns an image as the EXIF data at the beginning of its file say."""
    start = tf.strings.substr(contents, 0, 2**16)

    def has_orientation(number):
        # tag 0x0112, of type 3 (short), one value, little-endian or big-endian
        little = rf"\x12\x01\x03\x00\x01\x00\x00\x00\x0{number}\x00"
        big = rf"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x0{number}"
        return tf.strings.regex_full_match(start, rf"\C*(?:Exif|eXIf)\C*(?:{little}|{big})\C*")

    if has_orientation(2):
        image = image[:, ::-1]
    elif has_orientation(3):
        image = image[::-1, ::-1]
    elif has_orientation(4):
        image = image[::-1]
    elif has_orientation(5):
        image = tf.transpose(image, [1, 0, 2])
    elif has_orientation(6):
        image = tf.transpose(image, [1, 0, 2])[:, ::-1]
    elif has_orientation(7):
        image = tf.transpose(image[::-1, ::-1], [1, 0, 2])
    elif has_orientation(8):
        image = tf.transpose(image, [1, 0, 2])[::-1]
    return tf.ensure_shape(image, [None, None, 3])


def resize_in_graph(tf, image, size):
    """As Pillow's bicubic, first the width: at most 2 levels apart, in under 1 % of the values."""
    height, width = size
    for step in ([tf.shape(image)[0], width], [height, width]):
        image = tf.image.resize(image, step, "bicubic", antialias=True)  # float32
        image = tf.cast(tf.floor(tf.clip_by_value(image, 0, 255) + 0.5), tf.uint8)
    return image


def translate_whole(tf, serving, image, multiple, window):
    """uint8 [h, w, 3] => its translation at its own size, padded by reflection, as test does up to
    the size of a window. Larger ones, which test covers with windows, are an error."""
    height, width, _ = tf.unstack(tf.shape(image))
    message = f"larger than {window} pixels, the --tile_size: reduce it, or use tools/translate.py"
    check = tf.debugging.Assert((height <= window) & (width <= window), [message])
    with tf.control_dependencies([check]):
        image = tf.identity(image)

    def reflected(side):  # indices of the rows or columns of the padded image, as np.pad does it
        period = tf.maximum(2 * side - 2, 1)
        index = tf.range(side + -side % multiple) % period
        return tf.minimum(index, period - index)

    rows = tf.gather(image, reflected(height))
    padded = tf.gather(rows, reflected(width), axis=1)
    return serving(padded[None])[0, :height, :width]


def parse():
    """The command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("checkpoint", help="the --output_dir of a training, or a checkpoint in it: DIR/model-2000")
    add("--format", choices=list(FILES), required=True, help="what to write")
    add(
        "--quantize",
        choices=["none", "float16", "int8"],
        default="none",
        help="weights of litert: a half or a quarter of the space (none)",
    )
    add("--which_direction", choices=["AtoB", "BtoA"], help="direction of unpaired training (AtoB)")
    add("--aspect_ratio", help="encoded: width / height of the results (that of the training)")
    add("--tile_size", help="siamesegan.py: side of what LiteRT and ONNX models take, pixels (512)")
    add("--input_dir", help="images that int8 is checked on (those next to the training data)")
    add("--output_dir", help="folder to write to (NAME_export)")
    args = parser.parse_args()
    if args.quantize != "none" and args.format != "litert":
        raise UserError("--quantize is for --format litert")
    return args


def main():
    args = parse()
    flags = ("which_direction", "aspect_ratio", "tile_size", "input_dir", "output_dir")
    options = {name: getattr(args, name) for name in flags}
    module, model = load_trained(args.checkpoint, mode="export", **options)
    target = Path(model.args.output_dir, FILES[args.format])
    try:
        with in_our_words(module):
            target.parent.mkdir(parents=True, exist_ok=True)
            write(module, model, target, args)
    except OSError as error:
        raise UserError(
            f"cannot write {target}: {error.strerror or error}: make room, or choose "
            "another --output_dir"
        ) from None
    print(f"done: {target}")


def write(module, model, target, args):
    """Writes the file or folder `target`, whole or not at all."""
    is_ours = target.is_file()
    if args.format == "encoded":
        is_ours = (target / "saved_model.pb").is_file()
    if os.path.lexists(target) and not is_ours:
        raise UserError(f"{target} is there and not of an export: choose another --output_dir")
    if any(side % model.multiple for side in model.crop):
        raise UserError(f"--tile_size {model.crop[0]}: give a multiple of {model.multiple}")
    with module.written_whole(target) as part:
        if args.format == "litert":
            write_litert(module, model, part, args.quantize, test_images(module, model, args))
        elif args.format == "onnx":
            write_onnx(module, model, part)
        elif args.format == "keras":
            write_keras(model, part)
        else:
            write_encoded(module, model, part)


def test_images(module, model, args):
    """The folder of images that int8 is checked on; None where no check needs it."""
    if args.input_dir or args.quantize != "int8":
        return args.input_dir
    return module.default_input_dir(model.args, type(model))


if __name__ == "__main__":
    run(main)
