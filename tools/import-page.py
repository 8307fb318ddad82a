"""Makes a checkpoint of the network in a page, so that a training can begin from it.

    python tools/import-page.py web/demo/cats --output_dir cats_model
    python pix2pix.py --mode train --init_from cats_model --input_dir edges2owls/train

Takes folders as in web/demo, which tools/make_page.py writes, with a network of pix2pix.py. The
weights are those of the page, of 8 bits if it is int8. See docs/fine-tune.md.
"""

import importlib
import json
from pathlib import Path

import numpy as np
from common import Parser, UserError, in_our_words, load_algorithm, run

weights_tool = importlib.import_module("import-weights")

NOT_OURS = "not the model of a page of pix2pix.py; make the page again from its training"


class Operations:
    """What a LiteRT model computes, in its order.

    all: [(name, {input: its constant array})]. Constants of 8 bits are float32 here.
    """

    def __init__(self, tf, contents):
        resolver = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self.interpreter = tf.lite.Interpreter(
            model_content=contents, experimental_op_resolver_type=resolver
        )
        self.interpreter.allocate_tensors()
        details = self.interpreter.get_tensor_details()
        self.details = {detail["index"]: detail for detail in details}
        self.constants = {}
        operations = self.interpreter._get_ops_details()
        computed = {detail["index"] for detail in self.interpreter.get_input_details()}
        for operation in operations:
            computed.update(map(int, operation["outputs"]))
        self.all = []
        for operation in operations:
            name = operation["op_name"]
            inputs = [int(index) for index in operation["inputs"] if index >= 0]
            arrays = {}
            for place, index in enumerate(inputs):
                if index in self.constants or index not in computed:
                    arrays[place] = self.constant(index)
            if name == "DEQUANTIZE" and 0 in arrays:  # float16
                self.constants[int(operation["outputs"][0])] = arrays[0]
            self.all.append((name, arrays))

    def constant(self, index):
        """The values of a constant."""
        if index not in self.constants:
            values = self.interpreter.get_tensor(index)
            steps = self.details[index]["quantization_parameters"]
            if len(steps["scales"]):
                shape = np.ones(values.ndim, int)
                shape[steps["quantized_dimension"]] = -1
                zero = steps["zero_points"].reshape(shape)
                values = (values.astype(np.float32) - zero) * steps["scales"].reshape(shape)
            self.constants[index] = values
        return self.constants[index]


def read_layers(operations):
    """Operations of a U-Net => its convolutions, [(name, kernel, bias or None)], and its scales,
    shifts and weights of grain, lists of [channels]; each in the order of the network."""
    convolutions = []
    scales = []
    shifts = []
    grain = []
    for name, arrays in operations.all:
        if name == "DEPTHWISE_CONV_2D":
            raise UserError("its convolutions are separable: they cannot be imported")
        if name == "CONV_2D" and arrays[1].shape[1:] == (1, 1, 1):
            grain.append(arrays[1].reshape(-1))
        elif name == "CONV_2D":
            convolutions.append((name, arrays[1], arrays.get(2)))
        elif name == "TRANSPOSE_CONV":
            convolutions.append((name, arrays[1], arrays.get(3)))
        for values in arrays.values():
            if values.ndim == 1 and name == "MUL":
                scales.append(values)
            if values.ndim == 1 and name in ("ADD", "SUB"):  # SUB in pages made before 2026-11
                shifts.append(values)
    return convolutions, scales, shifts, grain


def of_resized_conv(kernel):
    """The kernel of a transposed convolution as ResizedConv makes it, [4, 4, in, out] => its own,
    [3, 3, in, out]."""
    for axis in (0, 1):  # the first, the sums of neighbours, the last => 3 weights
        first, second, third, last = np.moveaxis(kernel, axis, 0)
        middle = (second - first + third - last) / 2
        kernel = np.stack([first, middle, last], axis)
    return kernel[::-1, ::-1]


def flags_of_layers(layers):
    """What read_layers() gives => the flags of the network. Raises UserError if it is no U-Net of
    pix2pix.py."""
    convolutions, scales, shifts, grain = layers
    if convolutions and (convolutions[0][1].shape[-1], len(convolutions[-1][1])) != (3, 3):
        raise UserError("a network of other channels than RGB: it cannot be imported")
    halvings = len(convolutions) // 2
    count = 2 * halvings - 3  # of norms: the first, the innermost and the last layer have none
    has_norms = (len(scales), len(shifts)) in [(count, count), (0, 0)]
    if not 5 <= halvings <= 8 or len(convolutions) % 2 or not has_norms or len(grain) not in (0, 4):
        raise UserError(NOT_OURS)
    is_transposed = all(name == "TRANSPOSE_CONV" for name, _, _ in convolutions[halvings:])
    ngf = len(convolutions[0][1])
    return {
        "ngf": ngf,
        "ndf": ngf,  # of the discriminator, which starts anew
        "upsample": "transpose" if is_transposed else "resize",
        "norm": "batch" if scales else "instance",
        "grain": len(grain) > 0,
    }


def kernel_of(name, kernel, upsample):
    """A kernel of LiteRT, [out, h, w, in], as Keras's layer of the U-Net has it."""
    if name == "TRANSPOSE_CONV" and upsample == "transpose":
        return kernel.transpose(1, 2, 0, 3)  # [h, w, out, in]
    kernel = kernel.transpose(1, 2, 3, 0)  # [h, w, in, out]
    return of_resized_conv(kernel) if name == "TRANSPOSE_CONV" else kernel


def weights_of(layers):
    """What read_layers() gives => {"LAYER/KIND": array} of pix2pix.py's generator, and its flags.
    Raises UserError."""
    convolutions, scales, shifts, grain = layers
    flags = flags_of_layers(layers)
    halvings = len(convolutions) // 2
    encoder = [f"encoder_{level}" for level in range(1, halvings + 1)]
    decoder = [f"decoder_{level}" for level in range(halvings, 0, -1)]
    normed = [*encoder[1:-1], *decoder[:-1]]
    weights = {}
    for layer, (name, kernel, bias) in zip(encoder + decoder, convolutions, strict=True):
        weights[f"{layer}/kernel"] = kernel_of(name, kernel, flags["upsample"])
        if bias is not None:
            weights[f"{layer}/bias"] = bias
    for layer, scale, shift in zip(normed, scales, shifts, strict=False):
        weights[f"{layer}_norm/gamma"] = scale
        weights[f"{layer}_norm/beta"] = shift
    for layer, weight in zip(decoder[-5:-1], grain, strict=False):
        weights[f"{layer}_grain/weight"] = weight
    return weights, flags


def fill(network, weights):
    """Gives a generator its weights {"LAYER/KIND": array}. Raises UserError if they do not fit."""
    for weight in network.weights:
        parts = weight.path.split("/")
        values = weights.get(f"{parts[0]}/{parts[-1]}")
        if values is None or values.shape != tuple(weight.shape):
            raise UserError(f"{NOT_OURS}: {weight.path} {list(weight.shape)} is not in it")
        weight.assign(values)


def read_page(folder):
    """A folder of make_page.py => its page.json and the bytes of its model. Raises UserError."""
    try:
        page = json.loads((folder / "page.json").read_text(encoding="utf-8"))
        contents = (folder / "model.tflite").read_bytes()
        algorithm, is_grey = page["algorithm"], page["grey"]
        height, width = page["size"]
        is_whole = isinstance(height, int) and isinstance(width, int)
        if not is_whole or page["direction"] not in weights_tool.DIRECTIONS:
            raise ValueError("its size or its direction is none")
        page["name"] = str(page["name"])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"no {error.filename}: give a folder as tools/make_page.py writes to an --output "
            "without .html"
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{folder / 'page.json'} is damaged: make the page again") from None
    if algorithm != "pix2pix" or is_grey:
        kind = "of --lab_colorization" if is_grey else f"of {algorithm}.py"
        raise UserError(f"{folder} is a page {kind}: only those of pix2pix.py in colour are taken")
    return page, contents


def main():
    args = parse()
    page, contents = read_page(args.page)
    facts = {"files": [weights_tool.digest_of(args.page / "model.tflite")], "flags": ["pix2pix"]}
    if weights_tool.was_imported(args.output_dir, facts, page["direction"]):
        print(f"{args.output_dir}: imported before")
        return
    weights_tool.check_target(args.output_dir)
    module, _ = load_algorithm("pix2pix")
    try:
        with module.quiet_stderr():
            operations = Operations(module.tf, contents)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{args.page / 'model.tflite'} is damaged: {error}") from None
    try:
        layers = read_layers(operations)
        weights, flags = weights_of(layers)
        with in_our_words(module):
            _, model, options = weights_tool.new_model("pix2pix", flags | flags_of(args, page))
        fill(model.networks["generator"], weights)
    except (KeyError, ValueError):
        raise UserError(f"{args.page / 'model.tflite'}: {NOT_OURS}") from None
    except UserError as error:
        raise UserError(f"{args.page / 'model.tflite'}: {error}") from None
    options["imported"] = facts
    args.output_dir.parent.mkdir(parents=True, exist_ok=True)
    weights_tool.write_checkpoint(module, options, model, args.output_dir)
    print(
        f"{args.output_dir}: generator of {page['name']}, ngf {flags['ngf']}; next: python "
        f"pix2pix.py --mode train --init_from {args.output_dir} --input_dir PAIRS"
    )
    if page.get("credit"):
        print(page["credit"])


def flags_of(args, page):
    """The flags of pix2pix.py that a page tells, but for those of its network."""
    scales = [round(side * 286 / 256) for side in page["size"]]  # as the defaults are
    return {
        "crop_size": "x".join(map(str, page["size"])),
        "scale_size": "x".join(map(str, scales)),
        "which_direction": page["direction"],
        "input_dir": str(args.page.resolve()),
        "seed": 0,
        "domains": weights_tool.domains_of_channels(
            "pix2pix", (3, 3), page["direction"], "uint8", None
        ),
    }


def parse():
    parser = Parser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("page", type=Path, help="a folder such as web/demo/cats")
    parser.add_argument(
        "--output_dir",
        type=Path,
        required=True,
        help="folder of the checkpoint to make; it must not exist, or be empty",
    )
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
