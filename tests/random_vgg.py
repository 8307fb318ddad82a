"""VGG16 with random weights, for animegan.py: the real ones cannot be downloaded where tests run."""

import getpass
import os
import tempfile
from pathlib import Path

import numpy as np


def random_features():
    """A file of VGG16 as Keras has it, whose weights keep the size of what goes through; made once."""
    import h5py

    path = Path(tempfile.gettempdir()) / f"tests-random-vgg16-{getpass.getuser()}.h5"
    if path.exists():
        return path
    draw = np.random.default_rng(0)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    channels = 3
    names = []
    with h5py.File(part, "w") as file:
        for block, (count, filters) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)], start=1):
            for number in range(1, count + 1):
                name = f"block{block}_conv{number}"
                kernel = draw.standard_normal([3, 3, channels, filters], np.float32) * np.sqrt(2 / (9 * channels))
                group = file.create_group(name)
                group.attrs["weight_names"] = [b"kernel", b"bias"]
                group["kernel"] = kernel.astype(np.float32)
                group["bias"] = np.zeros(filters, np.float32)
                names.append(name.encode())
                channels = filters
        file.attrs["layer_names"] = names
    part.replace(path)
    return path
