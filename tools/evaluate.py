"""Is it any good, in numbers: compares translated pictures with others, and puts runs side by side.

    python tools/evaluate.py pairs facades_test
    python tools/evaluate.py fid photo2painting_test paintings --json
    python tools/evaluate.py COMMAND --help

Where a folder of pictures is asked for, the --output_dir of `--mode test` stands for the outputs in it. With --json the
result alone is on stdout, as JSON. docs/evaluate.md says what each number means and where this differs from the originals.
"""

import argparse
import base64
import collections
import hashlib
import html
import importlib
import inspect
import io
import json
import os
import re
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from common import Parser, Progress, UserError, natural_key, run, written_whole
from PIL import Image, ImageDraw, ImageFont
from process import by_stem, check_pairs, first_ten
from process import read as read_any
from process import resize as resize_picture

ROOT = Path(__file__).resolve().parent.parent


# ---------------------------------------------------------------------------------------------------------- pictures


def read(path):
    """Path => uint8 [h, w, 3]. Raises UserError for what is no picture."""
    try:
        return np.asarray(read_any(path))
    except Exception as error:  # decoders raise a dozen types
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} cannot be read as a picture ({reason}); repair or remove it") from None


def pictures(folder, kind="outputs"):
    """{name: path}: of a test folder, or its images/, the pictures of a kind (NAME-outputs.png); of others all, by stem."""
    folder = Path(folder)
    if (folder / "checkpoint").exists():
        raise UserError(f"{folder} is the folder of a training; give that of a test (--mode test --checkpoint {folder})")
    if folder.name == "images" or (folder / "images").is_dir():
        inside = folder if folder.name == "images" else folder / "images"
        end = f"-{kind}.png"
        found = sorted(inside.glob(f"*{end}"), key=natural_key)
        if found:
            return {path.name.removesuffix(end): path for path in found}
        if inside is not folder or any(inside.glob("*-outputs.png")):
            raise UserError(f"{inside} holds no *{end}; give two folders, or that of a test with {kind}")
    return by_stem(folder)


def two_folders(folders):
    """[test folder] or [outputs, targets] => {name: (path of the output, path of the target)}. UserError unless names match."""
    if len(folders) > 2:
        raise UserError(f"{len(folders)} folders given; give one of a test, or two: outputs and targets")
    first, second = folders[0], folders[-1]
    outputs = pictures(first)
    if len(folders) == 1 and not (first.name == "images" or (first / "images").is_dir()):
        raise UserError(f"{first} is not the folder of a test (it has no images/); give two folders: outputs and targets")
    targets = pictures(second, "targets")
    check_pairs(outputs, targets, first, second)
    return {name: (path, targets[name]) for name, path in outputs.items()}


def read_pair(paths):
    """Two paths => two pictures of one size, uint8 [h, w, 3]."""
    first, second = map(read, paths)
    if first.shape != second.shape:
        sizes = ["{1}x{0}".format(*image.shape) for image in (first, second)]
        raise UserError(f"{paths[0]} is {sizes[0]} (width x height), {paths[1]} {sizes[1]}; resize one (tools/process.py)")
    return first, second


def means(images):
    """{name: {metric: number}} => the result with the mean of each metric, in the form of a test's metrics.json."""
    kinds = next(iter(images.values()))
    return {"mean": {kind: float(np.mean([values[kind] for values in images.values()])) for kind in kinds}, "images": images}


# ------------------------------------------------------------------------------------------------------------- seams


def jumps(image, tile, offset=0):
    """Mean absolute differences of neighbouring pixels of uint8 [h, w, c], in levels of 0 to 255.

    Returns (across the borders of tiles, elsewhere). Borders are the lines between x - 1 and x where x - offset is a multiple
    of `tile`, across and down.
    """
    image, borders, elsewhere = image.astype(np.float32), [], []
    for axis in (0, 1):
        steps = np.abs(np.diff(image, axis=axis)).mean(-1).swapaxes(0, axis)  # [lines, pixels along a line]
        at = (np.arange(1, len(steps) + 1) - offset) % tile == 0
        borders.append(steps[at].ravel())
        elsewhere.append(steps[~at].ravel())
    return tuple(float(np.concatenate(steps).mean()) if sum(map(len, steps)) else None for steps in (borders, elsewhere))


def seam_ratio(path, tile, offset):
    border, elsewhere = jumps(read(path), tile, offset)
    if border is None or elsewhere is None:
        raise UserError(f"{path} has no border of tiles of {tile} pixels with pixels between; give another --tile")
    if not elsewhere:
        raise UserError(f"{path} has tiles of one flat colour: nothing to compare their borders with")
    return border / elsewhere


def seams(args):
    """Do the tiles that a picture was joined of show?

    seams      the mean absolute difference of the two pixels on either side of a border of tiles, over that of neighbouring
               pixels elsewhere. 0 to infinity, lower is better, 1: no seam. Ours.
    inputs     the same of the pictures before translation: what is in the picture itself, and no fault of the tiles. Of
               --inputs, or of NAME-inputs.png in a test folder.
    """
    found = {}
    for given in args.pictures:
        for name, path in ({given.stem: given} if given.is_file() else pictures(given)).items():
            if name in found:
                raise UserError(f"{found[name]} and {path} are both called {name}; give them one by one")
            found[name] = path
    inputs = {}
    if args.inputs:
        inputs = pictures(args.inputs, "inputs")
        check_pairs(found, {name: path for name, path in inputs.items() if name in found}, "the pictures", args.inputs)
    else:
        beside = {name: path.with_name(f"{name}-inputs.png") for name, path in found.items() if path.stem != name}
        inputs = {name: path for name, path in beside.items() if path.exists()}
        if len(inputs) not in (0, len(found)):
            raise UserError(f"only {len(inputs)} of {len(found)} pictures have their NAME-inputs.png; give --inputs")
    images = {}
    for name, path in found.items():
        images[name] = {"seams": seam_ratio(path, args.tile, args.offset)}
        if inputs:
            read_pair((path, inputs[name]))
            images[name]["inputs"] = seam_ratio(inputs[name], args.tile, args.offset)
    return means(images)


# ---------------------------------------------------------------------------------------------------------- networks


def load_pix2pix():
    """pix2pix.py as a module. It starts TensorFlow without its notes on stderr; that takes seconds: only where needed."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    module = importlib.import_module("pix2pix")
    module.start_devices(exact=False)
    return module


def build_network(name, weights, **options):
    """A network of keras.applications without its top, with the weights of a local file, or ImageNet's (weights None)."""
    load_pix2pix()
    import keras

    keras.config.disable_interactive_logging()  # its progress bars would be on stdout
    application = getattr(keras.applications, name)
    if not weights:
        try:
            return application(include_top=False, weights="imagenet", **options)
        except Exception as error:  # keras.utils.get_file raises a bare Exception
            url = re.search(r"https?://\S+\.h5", str(error))
            if not url:
                raise
            raise UserError(f"weights of {name} cannot be downloaded; get {url[0]} and give it by --weights FILE") from None
    network = application(include_top=False, weights=None, **options)
    if not Path(weights).is_file():
        raise UserError(f"no such file: {weights}; --weights is a file of weights of {name}")
    try:
        with warnings.catch_warnings(action="error", category=UserWarning):  # Keras only warns of layers that are missing
            network.load_weights(weights)
    except Exception as error:  # OSError, ValueError, KeyError, UserWarning
        hint = "Keras names its file *_notop.h5 or *_no_top.h5; another ends in .weights.h5"
        raise UserError(f"{weights} does not hold the weights of {name} without its top ({hint})") from error
    return network


def loaded(paths, load, size):
    """Arrays of load(path), stacked in batches of `size`. Threads decode two batches ahead of the one in use."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ahead = collections.deque()
        for start in range(0, len(paths), size):
            ahead.append([pool.submit(load, path) for path in paths[start : start + size]])
            if len(ahead) > 2:
                yield np.stack([job.result() for job in ahead.popleft()])
        while ahead:
            yield np.stack([job.result() for job in ahead.popleft()])


# ------------------------------------------------------------------------------------------------------------- pairs

# The last convolution of each block, as LPIPS takes them: [h, w, 64], [h/2, w/2, 128], ..., [h/16, w/16, 512]
VGG_LAYERS = ["block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3"]


def build_vgg_distance(weights):
    """A function of two pictures uint8 [h, w, 3] => distance of their VGG16 features."""
    try:
        vgg = build_network("VGG16", weights)
    except UserError as error:
        raise UserError(f"{error}; or leave vgg_distance out: --metrics l1,psnr,ssim") from None
    import keras
    import tensorflow as tf

    features = keras.Model(vgg.input, [vgg.get_layer(name).output for name in VGG_LAYERS])

    @tf.function(reduce_retracing=True)
    def distance(pair):  # float32 [2, h, w, 3]
        total = 0.0
        for maps in features(keras.applications.vgg16.preprocess_input(pair)):
            unit = maps / (tf.norm(maps, axis=-1, keepdims=True) + 1e-10)
            total += tf.reduce_mean(tf.reduce_sum(tf.square(unit[0] - unit[1]), -1))
        return total

    return lambda output, target: float(distance(np.stack([output, target]).astype(np.float32)))


def pairs(args):
    """How far are the pictures from what they should be, one by one?

    l1            mean absolute difference. 0 to 1, lower is better.
    psnr          peak signal to noise ratio, dB. 0 to 100 (equal), higher is better.
    ssim          structural similarity. -1 to 1 (equal), higher is better. Wang et al. 2004.
    vgg_distance  squared difference of unit-length VGG16 features, mean over space, sum over five layers. 0 to 10, lower is
                  better. As LPIPS (Zhang et al. 2018) without its learned weights, so not to be compared with LPIPS.
    """
    module, files = load_pix2pix(), two_folders(args.folders)
    distance = build_vgg_distance(args.weights) if "vgg_distance" in args.metrics else None
    images, progress = {}, Progress(len(files))
    for name, paths in files.items():
        output, target = read_pair(paths)
        values = module.compare(output, target) if set(args.metrics) - {"vgg_distance"} else {}
        if distance:
            values["vgg_distance"] = distance(output, target)
        images[name] = {kind: values[kind] for kind in args.metrics}
        progress.step()
    return means(images)


# ------------------------------------------------------------------------------------------------------------ labels


def read_palette(path):
    """{class: [r, g, b]} of a JSON file; without one, the 12 classes of facades in pix2pix's colours."""
    if not path:
        return importlib.import_module("make-samples").PALETTE
    try:
        palette = json.loads(path.read_text(encoding="utf-8"))
        colours = np.array(list(palette.values()))
    except (OSError, ValueError, AttributeError):
        colours = np.zeros(0)
    if colours.ndim != 2 or colours.shape[1] != 3 or colours.dtype != int or colours.min() < 0 or colours.max() > 255:
        raise UserError(f'{path} is no palette; it should hold JSON such as {{"sky": [0, 0, 255], "wall": [255, 0, 0]}}')
    return palette


def nearest(image, colours):
    """uint8 [h, w, 3], colours [k, 3] => index of the nearest colour [h, w], distance to it [h, w] in levels of 0 to 255."""
    image, best, index = image.astype(np.int32), None, None
    for number, colour in enumerate(np.asarray(colours, np.int32)):
        distance = np.square(image - colour).sum(-1)
        if best is None:
            best, index = distance, np.zeros(distance.shape, int)
        else:
            index[distance < best] = number
            best = np.minimum(best, distance)
    return index, np.sqrt(best)


def label_scores(confusion):
    """Pixels [true class, class put] => scores, table of classes. What is in neither truth nor outputs counts nowhere."""
    right, true, put = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    union = true + put - right
    scores = {
        "pixel_accuracy": float(right.sum() / confusion.sum()),
        "class_accuracy": float(np.mean(right[true > 0] / true[true > 0])),
        "class_iou": float(np.mean(right[union > 0] / union[union > 0])),
    }
    rows = [
        {"share": t / confusion.sum(), "accuracy": r / t if t else None, "iou": r / u if u else None}
        for r, t, u in zip(right.tolist(), true.tolist(), union.tolist(), strict=True)
    ]
    return scores, rows


def labels(args):
    """How well do label maps agree, pixel by pixel? For photo => labels; a pixel's class is that of the nearest colour.

    pixel_accuracy  share of the pixels that have their class. 0 to 1, higher is better.
    class_accuracy  the same within each class, mean over the classes. 0 to 1, higher is better.
    class_iou       pixels in both / pixels in either, mean over the classes. 0 to 1, higher is better.

    The three of Long et al. 2015 (FCN), over the pixels of all pictures together. The palette is that of the facades of
    pix2pix (CMP, 12 classes), or of --palette.
    """
    palette = read_palette(args.palette)
    colours = np.array(list(palette.values()))
    confusion = np.zeros([len(palette)] * 2, np.int64)
    for paths in two_folders(args.folders).values():
        output, target = read_pair(paths)
        true, off = nearest(target, colours)
        if np.median(off) > 48:  # of facades' JPEGs it is 3, at worst 20 to 30
            raise UserError(f"{paths[1]} is no label map: half of it is {np.median(off):.0f} levels or more off all colours; "
                            "give its --palette")  # fmt: skip
        np.add.at(confusion, (true, nearest(output, colours)[0]), 1)
    scores, rows = label_scores(confusion)
    return {"scores": scores, "classes": dict(zip(palette, rows, strict=True))}


# ---------------------------------------------------------------------------------------------------------- fid, kid


def resize_clean(image, size):
    """uint8 [h, w, 3] => float32 [size, size, 3] in 0 to 255: Pillow's bicubic, antialiased, not rounded, as clean-fid."""
    channels = [Image.fromarray(channel) for channel in np.float32(image).transpose(2, 0, 1)]  # of mode F
    resized = [np.asarray(channel.resize((size, size), Image.Resampling.BICUBIC)) for channel in channels]
    return np.clip(np.stack(resized, -1), 0, 255)


def inception_features(paths, weights, cache):
    """Pictures => float32 [n, 2048], the averaged last maps of InceptionV3; kept in the folder `cache` for the next time.

    What is kept is found again by network, contents of the weights file, and path, size and time of change of each picture.
    """
    key = hashlib.sha256(b"InceptionV3 299 " + (hashlib.sha256(read_bytes(weights)).digest() if weights else b"imagenet"))
    for path in paths:
        state = path.stat()
        key.update(f"\0{path.resolve()}\0{state.st_size}\0{state.st_mtime_ns}".encode())
    kept = cache / f"{key.hexdigest()}.npy"
    if kept.exists():
        return np.load(kept)
    network = build_network("InceptionV3", weights, pooling="avg")
    import tensorflow as tf

    predict = tf.function(
        lambda images: network(images / 127.5 - 1, training=False),
        input_signature=[tf.TensorSpec([None, 299, 299, 3], tf.float32)],
    )
    features, progress = [], Progress(len(paths))
    for batch in loaded(paths, lambda path: resize_clean(read(path), 299), 16):
        features.append(predict(batch).numpy())
        progress.step(len(batch))
    features = np.concatenate(features)
    cache.mkdir(parents=True, exist_ok=True)
    with written_whole(kept) as temporary, open(temporary, "wb") as file:
        np.save(file, features)
    return features


def read_bytes(path):
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; --weights is a file of weights") from None


def frechet_distance(a, b):
    """|mean a - mean b|² + trace(Sa + Sb - 2 (Sa Sb)^½) of features [n, d], [m, d] (Heusel et al. 2017).

    S are covariances. With Sa = Ra' Ra and Sb = Rb' Rb, the eigenvalues of Sa Sb are the squared singular values of Ra Rb', so
    the trace of the root is the sum of these: no root of a singular matrix, nothing imaginary to drop, no epsilon.
    """
    roots = []
    for x in (a, b):
        x = np.asarray(x, np.float64)
        x = (x - x.mean(0)) / np.sqrt(len(x) - 1)
        roots.append(np.linalg.qr(x, mode="r") if len(x) > x.shape[1] else x)
    first, second = roots
    shift = np.mean(a, 0, np.float64) - np.mean(b, 0, np.float64)
    root = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    return max(0.0, float(shift @ shift + np.square(first).sum() + np.square(second).sum() - 2 * root))


def kernel_distance(a, b):
    """Unbiased squared MMD of features [n, d], [m, d] with the kernel (x·y / d + 1)³ (Bińkowski et al. 2018)."""
    within = []
    for x in (a, b):
        kernel = np.power(x @ x.T / x.shape[1] + 1, 3)
        within.append((kernel.sum() - np.trace(kernel)) / (len(x) * (len(x) - 1)))
    return float(sum(within) - 2 * np.power(a @ b.T / a.shape[1] + 1, 3).mean())


def kernel_distances(a, b, subsets, size, seed):
    """Mean of the kernel distance over random subsets of `size`, and its standard error for the pictures at hand.

    Subsets of the same n pictures overlap, so their spread is less than that of fresh pictures and its mean over many subsets
    says nothing; what is left is the variance of n pictures, s² · size / (n - size) (the delete-d jackknife, Shao & Wu 1989).
    """
    draw = np.random.default_rng(seed)
    a, b = np.float64(a), np.float64(b)
    distances = [
        kernel_distance(*(x[draw.choice(len(x), size, replace=False)] for x in (a, b)))
        for _ in range(subsets)
    ]
    n = min(len(a), len(b))
    return float(np.mean(distances)), float(np.std(distances, ddof=1) * np.sqrt(size / (n - size)))


def both_features(args):
    """Features of the two folders, at least 2 pictures each."""
    found = [list(pictures(folder).values()) for folder in (args.pictures, args.real)]
    for folder, paths in zip((args.pictures, args.real), found, strict=True):
        if len(paths) < args.least:
            raise UserError(f"{folder} holds {len(paths)} pictures; {args.command} needs {args.least}, better thousands")
    return [inception_features(paths, args.weights, args.cache) for paths in found]


def fid(args):
    """How far is one set of pictures from another as a whole? No pairs needed.

    fid     Fréchet distance of InceptionV3 features. 0 to infinity, lower is better. Heusel et al. 2017, pictures resized as
            in clean-fid (Parmar et al. 2022). Keras's weights are not those of the original FID: compare only with numbers of
            this tool. Too high with few pictures; give the same number each time.
    """
    features = both_features(args)
    fewest = min(map(len, features))
    if fewest < 2048:
        print(f"warning: {fewest} pictures for 2048 features: the covariance is singular and FID is biased upwards; "
              "compare only with the same number, or use kid", file=sys.stderr)  # fmt: skip
    return {"scores": {"fid": frechet_distance(*features)}, "pictures": list(map(len, features))}


def kid(args):
    """How far is one set of pictures from another as a whole? Unbiased, so also for few pictures.

    kid        squared MMD of InceptionV3 features, kernel (x·y / 2048 + 1)³, mean over subsets. About 0 (equal, may be below)
               upwards, lower is better. Bińkowski et al. 2018; papers often give it times 100. Keras's weights: compare only
               with numbers of this tool.
    kid_error  its standard error, from the spread over the subsets.
    """
    features = both_features(args)
    fewest = min(map(len, features))
    size = args.subset_size or min(1000, fewest // 2)
    if not 2 <= size < fewest:
        raise UserError(f"--subset_size {size}: give at least 2 and less than {fewest}, the pictures of the smaller folder")
    mean, error = kernel_distances(*features, args.subsets, size, args.seed)
    return {"scores": {"kid": mean, "kid_error": error}, "pictures": list(map(len, features)), "subset_size": size}


# ---------------------------------------------------------------------------------------------------- style, content

# As GANILLA: crops of 150 pixels out of 256 for style, padded to 224. Content needs the whole: 224 out of 256, no padding.
RESIZED = 256 / 224  # of the network's input
CROPS = {"style": 150 / 224, "content": 1.0}


def named(text):
    """'CLASS=DIR' or 'DIR' => (class, path); a class is called as its folder."""
    name, equals, path = text.partition("=")
    path = Path(path if equals else text)
    return (name if equals else os.path.basename(os.path.abspath(path))), path


def by_class(folders, least=1):
    """[(class, folder)] => {class: paths}; UserError if two have one name."""
    found = {}
    for name, folder in folders:
        if name in found:
            raise UserError(f"two folders are called {name}; give them other names: OTHER={folder}")
        found[name] = list(pictures(folder).values())
        if len(found[name]) < least:
            raise UserError(f"{folder} holds {len(found[name])} pictures; give at least {least}")
    return found


class Views:
    """Crops of pictures as a classifier sees them: float32 [n, size, size, 3], as Keras's ResNet50 wants them."""

    def __init__(self, kind, size):
        self.size, self.resized, self.crop = size, round(size * RESIZED), round(size * CROPS[kind])

    def load(self, path):
        """Path => uint8 [resized, resized, 3]; what is beside a square is cut off."""
        return np.asarray(resize_picture(Image.fromarray(read(path)), (self.resized, self.resized), pad=False))

    def cut(self, images, corners):
        """uint8 [n, resized, resized, 3], [n, 2] (y, x) => crops in the middle of black."""
        views = np.zeros([len(images), self.size, self.size, 3], np.float32)
        margin = (self.size - self.crop) // 2
        for view, image, (y, x) in zip(views, images, corners, strict=True):
            middle = slice(margin, margin + self.crop)
            view[middle, middle] = image[y : y + self.crop, x : x + self.crop]
        import keras

        return keras.applications.resnet.preprocess_input(views)

    def random(self, images, draw):
        """Crops at random, half of them mirrored."""
        views = self.cut(images, draw.integers(0, self.resized - self.crop + 1, [len(images), 2]))
        mirrored = draw.random(len(images)) < 0.5
        views[mirrored] = views[mirrored, :, ::-1]
        return views

    def probabilities(self, model, images):
        """uint8 [n, resized, resized, 3] => [n, classes]: means over five crops, the corners and the middle."""
        far = self.resized - self.crop
        corners = [(0, 0), (0, far), (far, 0), (far, far), (far // 2, far // 2)]
        return np.mean([model.predict_on_batch(self.cut(images, [corner] * len(images))) for corner in corners], 0)

    def predict(self, model, paths):
        """Paths => [n, classes]."""
        progress, rows = Progress(len(paths)), []
        for images in loaded(paths, self.load, 16):
            rows.append(self.probabilities(model, images))
            progress.step(len(images))
        return np.concatenate(rows)


def split_off(found, seed):
    """{class: paths} => for training, for validation: a fifth of each class, drawn by the seed before anything else."""
    draw, train, val = np.random.default_rng(seed), {}, {}
    for name, paths in found.items():
        order = draw.permutation(len(paths))
        held = max(1, len(paths) // 5)
        val[name], train[name] = ([paths[i] for i in sorted(part)] for part in (order[:held], order[held:]))
    return train, val


def build_small(shape):
    """Five halvings by convolutions, means over space => [n, 256]: to be trained from scratch on a CPU."""
    import keras
    from keras import layers

    parts = [keras.Input(shape), layers.Rescaling(1 / 64)]  # of ResNet50's inputs, about -120 to 150
    for filters in (16, 32, 64, 128, 256):  # [n, size / 2, size / 2, 16], ..., [n, size / 32, size / 32, 256]
        parts += [layers.Conv2D(filters, 3, 2, "same", use_bias=False), layers.BatchNormalization(), layers.ReLU()]
    return keras.Sequential([*parts, layers.GlobalAveragePooling2D()])


def build_classifier(args, classes):
    """Backbone, mean over space, one dense layer, softmax => probabilities [n, classes]."""
    load_pix2pix()
    import keras

    keras.utils.set_random_seed(args.seed)
    shape = (args.image_size, args.image_size, 3)
    backbone = None
    if not args.from_scratch:
        try:
            backbone = build_network("ResNet50", args.weights, pooling="avg", input_shape=shape)
        except UserError as error:
            if args.weights:
                raise
            print(f"warning: {error}. Training from scratch: that takes more pictures and says less", file=sys.stderr)
            args.from_scratch = True
    if args.backbone == "small":
        backbone = build_small(shape)
    elif not backbone:
        backbone = keras.applications.ResNet50(include_top=False, weights=None, pooling="avg", input_shape=shape)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # PyTorch's; with Keras's 0.99 the averages lag behind a short training
    return keras.Model(backbone.inputs, keras.layers.Dense(len(classes), activation="softmax")(backbone.outputs[0]))


def train_classifier(args):
    """Trains the classifier that {kind} scores with, on a folder of pictures for each class.

    val_accuracy  share of the validation pictures put in their class. 0 to 1, higher is better. Validation pictures are a fifth
                  of each class, drawn by --seed before training, or those of --val; the epoch that is best on them is kept.

    As GANILLA (Hicsonmez et al. 2020): pictures of 256 pixels, {crop}, mirrored at random, Adam, cross-entropy.
    Without ImageNet's weights, which are downloaded or given by --weights, it says so and trains from scratch.
    """
    kind = args.command.removeprefix("train-")
    if args.output_dir.exists() and not (args.output_dir.is_dir() and not any(args.output_dir.iterdir())):
        raise UserError(f"{args.output_dir} exists and is not an empty folder; give another --output_dir")
    found = by_class(args.classes, 2)
    if len(found) < 2:
        raise UserError("a classifier needs two classes or more; give a folder for each")
    if args.val:
        train, val = found, by_class(args.val)
        if set(train) != set(val):
            raise UserError(f"--val has the classes {first_ten(val)}, and not {first_ten(train)}; name them: CLASS=DIR")
    else:
        train, val = split_off(found, args.seed)
    classes = list(train)
    model = build_classifier(args, classes)
    import keras

    keras.config.disable_interactive_logging()
    model.compile(keras.optimizers.Adam(args.lr), "sparse_categorical_crossentropy")
    views, draw = Views(kind, args.image_size), np.random.default_rng(args.seed)
    images, truth = {}, {}
    for part, paths in (("train", train), ("val", val)):
        every = [path for name in classes for path in paths[name]]
        images[part] = np.concatenate(list(loaded(every, views.load, 64)))  # 0.2 MB a picture
        truth[part] = np.repeat(np.arange(len(classes)), [len(paths[name]) for name in classes])
    args.output_dir.mkdir(parents=True, exist_ok=True)
    best = None
    for epoch in range(1, args.epochs + 1):
        losses, order = [], draw.permutation(len(truth["train"]))
        for start in range(0, len(order), args.batch_size):
            chosen = order[start : start + args.batch_size]
            losses.append(model.train_on_batch(views.random(images["train"][chosen], draw), truth["train"][chosen]))
        batches = [images["val"][start : start + 16] for start in range(0, len(images["val"]), 16)]
        put = np.concatenate([views.probabilities(model, batch) for batch in batches])
        loss = float(-np.mean(np.log(put[np.arange(len(put)), truth["val"]] + 1e-7)))
        accuracy = float(np.mean(put.argmax(1) == truth["val"]))
        better = best is None or (accuracy, -loss) > (best["val_accuracy"], -best["val_loss"])
        print(f"epoch {epoch}/{args.epochs}  loss {np.mean(losses):.4f}  validation: loss {loss:.4f}, accuracy {accuracy:.4f}"
              + ("  (best, kept)" if better else ""), file=sys.stderr, flush=True)  # fmt: skip
        if better:
            best = {"epoch": epoch, "val_loss": loss, "val_accuracy": accuracy}
            model.save(args.output_dir / "next.keras", include_optimizer=False)
            os.replace(args.output_dir / "next.keras", args.output_dir / "model.keras")
            options = {"kind": kind, "classes": classes, "backbone": args.backbone, "image_size": args.image_size}
            options |= {"seed": args.seed, "from_scratch": args.from_scratch, "lr": args.lr, "batch_size": args.batch_size}
            options |= {"pictures": {part: len(truth[part]) for part in truth}, "best": best}
            write_text(args.output_dir / "options.json", json.dumps(options, indent=2) + "\n")
    return {"scores": {"val_accuracy": best["val_accuracy"]}, "epoch": best["epoch"], "classifier": str(args.output_dir)}


def load_classifier(folder, kind):
    """Folder of train-style or train-content => options, model."""
    try:
        options = json.loads((folder / "options.json").read_text(encoding="utf-8"))
        found, classes, size = (options[key] for key in ("kind", "classes", "image_size"))
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{folder} is no classifier; give the --output_dir of train-{kind}") from None
    if found != kind:
        raise UserError(f"{folder} is a classifier of {found}; {kind} needs one of train-{kind}")
    load_pix2pix()
    import keras

    keras.config.disable_interactive_logging()
    try:
        model = keras.models.load_model(folder / "model.keras", compile=False)
    except Exception as error:  # OSError, ValueError, zip errors
        raise UserError(f"{folder / 'model.keras'} cannot be read; train again with another --output_dir") from error
    return classes, Views(kind, size), model


def truths(args, classes):
    """What is to be scored: {row: (class it should be put in, paths)}."""
    if args.classes:
        known, found = {}, collections.defaultdict(list)
        for name, folder in args.classes:
            for stem in pictures(folder, "inputs"):
                if stem in known:
                    raise UserError(f"{stem} is in {known[stem]} and in {name}: its class is not clear; rename one")
                known[stem] = name
        for _, folder in args.pictures:
            alone = [str(path) for stem, path in pictures(folder).items() if stem not in known]
            if alone:
                raise UserError(f"{len(alone)} pictures are in no folder of --classes by name: {first_ten(alone)}")
            for stem, path in pictures(folder).items():
                found[known[stem]].append(path)
        rows = {name: (name, found[name]) for name, _ in args.classes if name in found}
    else:
        rows = {name: (args.target or name, paths) for name, paths in by_class(args.pictures).items()}
    unknown = [name for name, _ in rows.values() if name not in classes]
    if unknown:
        raise UserError(f"{unknown[0]} is no class of {args.classifier}: {first_ten(classes)}; give --target, or CLASS=DIR")
    return rows


def score(args):
    """Share of translated pictures that a classifier puts in the class where they belong.

    style    the style they were translated to. 0 to 1, higher is better.
    content  the scene that they had before. 0 to 1, higher is better.

    From GANILLA (Hicsonmez et al. 2020). Where they belong is told by --target (one class for all), by CLASS=DIR, by the name
    of the folder, or, for content, by --classes: folders of the originals, of which translations have the names.
    """
    classes, views, model = load_classifier(args.classifier, args.command)
    rows = truths(args, classes)
    confusion = np.zeros([len(rows), len(classes)], int)
    for number, (_, paths) in enumerate(rows.values()):
        confusion[number] = np.bincount(views.predict(model, paths).argmax(1), minlength=len(classes))
    right = [int(counts[classes.index(name)]) for counts, (name, _) in zip(confusion, rows.values(), strict=True)]
    table = {}
    for row, counts, count in zip(rows, confusion.tolist(), right, strict=True):
        put = dict(zip(classes, counts, strict=True))
        table[row] = {"pictures": sum(counts), "right": count / sum(counts), "put in": put}
    if args.matrix:
        with written_whole(args.matrix) as temporary:
            draw_matrix(confusion, list(rows), classes).save(temporary, "PNG")
    return {"scores": {args.command: sum(right) / int(confusion.sum())}, "classes": table}


def draw_matrix(counts, rows, columns):
    """Confusion matrix [rows, columns] as a picture: numbers, and the darker the larger their share of the row."""
    font, big = ImageFont.load_default(16), ImageFont.load_default(20)
    left = 24 + max(round(font.getlength(name)) for name in rows)
    wide = max(72, *(20 + round(font.getlength(name)) for name in columns))
    high, top = 56, 64
    image = Image.new("RGB", (left + wide * len(columns) + 12, top + high * len(rows) + 12), "white")
    draw = ImageDraw.Draw(image)
    draw.text((left, 10), "put in", "#555", font)
    for column, name in enumerate(columns):
        draw.text((left + wide * (column + 0.5), top - 8), name, "black", font, anchor="ms")
    for row, (name, line) in enumerate(zip(rows, counts, strict=True)):
        draw.text((left - 12, top + high * (row + 0.5)), name, "black", font, anchor="rm")
        for column, count in enumerate(line):
            share = count / max(1, line.sum())
            x, y = left + wide * column, top + high * row
            shade = tuple(round(255 + (dark - 255) * share) for dark in (21, 72, 140))
            draw.rectangle((x, y, x + wide - 3, y + high - 3), shade, outline="#bbb")
            middle = x + wide / 2 - 1, y + high / 2 - 1
            draw.text(middle, str(count), "white" if share > 0.5 else "black", big, anchor="mm")
    return image


def write_text(path, text):
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


# ------------------------------------------------------------------------------------------------------------ report

LOWER = ("l1", "vgg_distance", "fid", "kid", "kid_error", "seams", "inputs")  # lower is better; of all others higher
COLOURS = ("#1f6fb4", "#d1570d", "#2a8a3e", "#b3261e", "#7b4ab5", "#7a5540", "#c2388f", "#5f6368")
STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em; color: #222; }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; }
table { border-collapse: collapse; } th, td { padding: .3em .8em; text-align: left; vertical-align: top; }
.numbers td, .numbers th { border-bottom: 1px solid #ddd; } .numbers td + td, .numbers th + th { text-align: right; }
.best { font-weight: bold; } .pictures { overflow-x: auto; } .pictures td, .pictures th { padding: 3px; font-size: 13px; }
.pictures img, svg { display: block; } .curves { display: flex; flex-wrap: wrap; gap: 1em; }
figure { margin: 0; } figcaption { font-size: 13px; } .key { font-size: 2em; line-height: 0; vertical-align: -.15em; }
"""


def run_name(folder):
    """Folder of a training or a test => name of the run: a_train and a_test are both a, b/train and b/test both b."""
    folder = Path(os.path.abspath(folder))  # and not resolve(): a link is called as the user called it
    return folder.parent.name if folder.name in ("train", "test") else re.sub("_(train|test)$", "", folder.name)


def read_scores(folder):
    """{metric: number} of the .json files in a folder: metrics.json of the test, and what --json gave, saved beside it."""
    scores = {}
    for path in sorted(folder.glob("*.json"), key=lambda path: (path.name != "metrics.json", path.name)):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read as JSON ({error}); remove it") from None
        if isinstance(content, dict):
            scores |= content.get("mean", {}) | content.get("scores", {})
    return scores


def read_curves(folder):
    """{loss: [(step, value)]} of the TensorBoard events of a training."""
    load_pix2pix()  # TensorBoard imports TensorFlow, which would talk
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    curves = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.tag.startswith("loss/"):  # a training that was continued says some steps twice: the later count
                    curves.setdefault(value.tag.removeprefix("loss/"), {})[event.step] = float(make_ndarray(value.tensor))
    return {name: sorted(points.items()) for name, points in curves.items()}


def draw_curves(title, curves):
    """{run: [(step, value)]} => a figure with an SVG; {run: colour} are the places in COLOURS."""
    width, height, left, bottom = 420, 240, 52, 28
    points = np.concatenate([np.array(curve, float) for curve, _ in curves.values()])
    (first, low), (last, high) = points.min(0), points.max(0)
    span, rise = (last - first) or 1, (high - low) or 1

    def place(step, value):
        x = left + (step - first) / span * (width - left - 10)
        return f"{x:.1f},{height - bottom - (value - low) / rise * (height - bottom - 12):.1f}"

    title = html.escape(title)
    parts = [f'<figure><svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{title}">']
    parts.append(f'<path d="M{left} 8V{height - bottom}H{width - 6}" fill="none" stroke="#888"/>')
    for value, y in ((high, 16), (low, height - bottom)):
        parts.append(f'<text x="{left - 6}" y="{y}" text-anchor="end" font-size="12">{value:.3g}</text>')
    for step, x, anchor in ((first, left, "start"), (last, width - 6, "end")):
        parts.append(f'<text x="{x}" y="{height - 8}" text-anchor="{anchor}" font-size="12">{step:.0f}</text>')
    for curve, colour in curves.values():
        line = " ".join(place(*point) for point in curve[:: max(1, len(curve) // 400)])
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
    return "".join(parts) + f"</svg><figcaption>{title}, by step</figcaption></figure>"


def data_uri(path, width):
    """A picture, as <img> of `width` pixels; stored with no more than it has."""
    image = Image.fromarray(read(path))
    if image.width > width:
        image = image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    source = base64.b64encode(file.getvalue()).decode()
    size = f'width="{width}" height="{max(1, round(image.height * width / image.width))}"'
    return f'<img src="data:image/jpeg;base64,{source}" {size} alt="{html.escape(path.name)}" loading="lazy">'


def report(args):
    """Puts runs side by side on one HTML page: numbers, the same test pictures row by row, curves of the losses.

    A run is the folder of a training, of a test, or both: a_train and a_test are columns of one run, a. Numbers are those of
    metrics.json, and of every --json result that was saved into the folder of the test:

        python tools/evaluate.py fid a_test paintings --json > a_test/fid.json
        python tools/evaluate.py report a_train a_test b_train b_test
    """
    trainings, tests = {}, {}
    for folder in args.runs:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder; give the --output_dir of a training or of a test")
        training = (folder / "checkpoint").exists() or any(folder.glob("events.out.tfevents.*"))
        if not training and not (folder / "images").is_dir():
            raise UserError(f"{folder} is the folder of no training and no test: there are no checkpoint and no images/ in it")
        name, kind = run_name(folder), trainings if training else tests
        if name in kind:
            raise UserError(f"{kind[name]} and {folder} would both be called {name}; rename one")
        kind[name] = folder
    names = list(dict.fromkeys(map(run_name, args.runs)))
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    parts = [f"<h1>{' · '.join(map(html.escape, names))}</h1>"]

    scores = {name: read_scores(folder) for name, folder in tests.items()}
    metrics = list(dict.fromkeys(metric for values in scores.values() for metric in values))
    if metrics:
        rows = []
        for metric in metrics:
            lower = metric in LOWER
            values = {name: scores[name][metric] for name in names if metric in scores.get(name, {})}
            best = (min if lower else max)(values.values())
            cells = ""
            for name in names:
                mark = ' class="best"' if values.get(name) == best and len(values) > 1 else ""
                cells += f"<td{mark}>{values[name]:.4g}</td>" if name in values else "<td>–</td>"
            rows.append(f"<tr><td>{html.escape(metric)} {'↓' if lower else '↑'}</td>{cells}</tr>")
        parts.append(f'<h2>Numbers</h2><table class="numbers"><tr><th></th>{heads}</tr>{"".join(rows)}</table>')
        parts.append("<p>↓ lower is better, ↑ higher is better; the best of a row is bold.</p>")

    files = {(name, kind): kinds for name, folder in tests.items() for kind, kinds in kinds_of(folder).items()}
    columns = []
    for kind in ("inputs", "outputs", "targets"):
        have = [name for name in names if (name, kind) in files]
        if kind == "outputs":
            columns += [(name, files[name, kind]) for name in have]
        elif have:  # the same for all runs
            columns.append((kind, files[have[0], kind]))
    outputs = [files[name, "outputs"] for name in tests if (name, "outputs") in files]
    common = [name for name in outputs[0] if all(name in others for others in outputs)] if outputs else []
    if len(tests) > 1 and not common:
        raise UserError(f"{first_ten(tests.values())} have no picture of the same name; test on the same pictures")
    if common:
        head = "".join(f"<th>{html.escape(title)}</th>" for title, _ in columns)
        rows = []
        for name in common[: args.pictures]:
            cells = "".join(f"<td>{data_uri(found[name], args.width) if name in found else ''}</td>" for _, found in columns)
            rows.append(f"<tr><td>{html.escape(name)}</td>{cells}</tr>")
        parts.append(f"<h2>Pictures</h2><p>{len(rows)} of {len(common)}, in the order of their names.</p>")
        parts.append(f'<div class="pictures"><table><tr><th></th>{head}</tr>{"".join(rows)}</table></div>')

    curves = {}
    for name, folder in trainings.items():
        for loss, curve in read_curves(folder).items():
            curves.setdefault(loss, {})[name] = curve, colours[name]
    if curves:
        keys = [f'<span class="key" style="color:{colours[name]}">–</span> {html.escape(name)}' for name in trainings]
        figures = "".join(draw_curves(loss, runs) for loss, runs in curves.items())
        parts.append(f'<h2>Losses in training</h2><p>{" &nbsp; ".join(keys)}</p><div class="curves">{figures}</div>')
    title = html.escape(f"{', '.join(names)}: report")
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    page = "\n".join([f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>', *parts, "</body></html>\n"])
    write_text(args.output, page)
    return {"page": str(args.output), "runs": names, "pictures": len(common[: args.pictures]), "losses": list(curves)}


def kinds_of(folder):
    """{inputs, outputs, targets: {name: path}}, those that a test folder has."""
    found = {}
    for kind in ("inputs", "outputs", "targets"):
        paths = sorted((folder / "images").glob(f"*-{kind}.png"), key=natural_key)
        if paths:
            found[kind] = {path.name.removesuffix(f"-{kind}.png"): path for path in paths}
    return found

# ------------------------------------------------------------------------------------------------------------ parser


def natural(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number of at least 1")
    return int(text)


def positive(text):
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: give a number above 0")
    return value


def metric_list(text):
    """'l1,psnr' => [l1, psnr]"""
    kinds = ["l1", "psnr", "ssim", "vgg_distance"]
    chosen = text.split(",")
    if not set(chosen) <= set(kinds):
        raise argparse.ArgumentTypeError(f"{text!r}: choose of {','.join(kinds)}")
    return chosen


def parse():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, function, **words):
        text = inspect.getdoc(function).format(**words)
        part = commands.add_parser(name, help=text.split("\n")[0], description=text,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
        part.set_defaults(function=function)
        part.add_argument("--json", action="store_true", help="the result as JSON, alone on stdout")
        return part

    part = command("pairs", pairs)
    part.add_argument("folders", type=Path, nargs="+", help="folder of a test, or two: outputs, targets of the same names")
    part.add_argument("--metrics", type=metric_list, default="l1,psnr,ssim,vgg_distance", help="some of these (all)")
    part.add_argument("--weights", type=Path, metavar="FILE", help="of VGG16 (default: Keras downloads ImageNet's)")

    part = command("labels", labels)
    part.add_argument("folders", type=Path, nargs="+", help="folder of a test, or two: outputs, targets of the same names")
    part.add_argument("--palette", type=Path, metavar="FILE", help='JSON: {"class": [r, g, b], ...} (facades)')

    part = command("seams", seams)
    part.add_argument("pictures", type=Path, nargs="+", help="folders or files")
    part.add_argument("--tile", type=natural, required=True, help="side of a tile, pixels")
    part.add_argument("--offset", type=int, default=0, help="where the first border is, pixels (0)")
    part.add_argument("--inputs", type=Path, help="folder of the pictures before translation, by the same names")

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evaluate-features"
    for name, function, least in (("fid", fid, 2), ("kid", kid, 4)):
        part = command(name, function)
        part.add_argument("pictures", type=Path, help="folder of translated pictures")
        part.add_argument("real", type=Path, help="folder of real pictures")
        part.add_argument("--weights", type=Path, metavar="FILE", help="of InceptionV3 (default: Keras downloads ImageNet's)")
        part.add_argument("--cache", type=Path, metavar="DIR", default=cache, help=f"where features are kept ({cache})")
        part.set_defaults(least=least)
    part.add_argument("--subsets", type=natural, default=100, help="random subsets (100)")
    part.add_argument("--subset_size", type=natural, help="pictures in each (1000, but at most half of them)")
    part.add_argument("--seed", type=int, default=0, help="of the subsets (0)")

    crops = {"style": "crops of 150 padded to 224", "content": "crops of 224"}
    for kind, flag in (("style", "--styles"), ("content", "--classes")):
        part = command(f"train-{kind}", train_classifier, kind=kind, crop=crops[kind])
        part.add_argument(flag, dest="classes", type=named, nargs="+", required=True, metavar="[CLASS=]DIR",
                          help="a folder for each class, which is called as the folder or CLASS")  # fmt: skip
        part.add_argument("--output_dir", type=Path, required=True, help="folder to make; it must not exist, or be empty")
        part.add_argument("--val", type=named, nargs="+", metavar="[CLASS=]DIR", help="validation pictures (a fifth)")
        part.add_argument("--weights", type=Path, metavar="FILE", help="of the backbone (default: Keras downloads ImageNet's)")
        part.add_argument("--from_scratch", action="store_true", help="random weights to begin with")
        part.add_argument("--backbone", choices=["ResNet50", "small"], default="ResNet50",
                          help="small: five layers, always from scratch, for a CPU (ResNet50)")  # fmt: skip
        part.add_argument("--image_size", type=natural, default=224, help="pixels; all sizes go with it (224)")
        part.add_argument("--epochs", type=natural, default=20, help="(20)")
        part.add_argument("--batch_size", type=natural, default=32, help="(32)")
        part.add_argument("--lr", type=positive, default=1e-4, help="learning rate of Adam (0.0001)")
        part.add_argument("--seed", type=natural, default=1, help="of the split, the weights and the crops (1)")

    for kind in ("style", "content"):
        part = command(kind, score)
        part.add_argument("pictures", type=named, nargs="+", metavar="[CLASS=]DIR", help="folders of translated pictures")
        part.add_argument("--classifier", type=Path, required=True, metavar="DIR", help=f"of train-{kind}")
        part.add_argument("--target", metavar="CLASS", help="class of all; a row of the table is then a folder")
        part.add_argument("--matrix", type=Path, metavar="FILE.png", help="write the confusion matrix as a picture")
        part.set_defaults(classes=None)
    part.add_argument("--classes", type=named, nargs="+", metavar="[CLASS=]DIR", help="originals, which tell classes by name")

    part = command("report", report)
    part.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="--output_dir of trainings and tests")
    part.add_argument("--output", type=Path, default=Path("report.html"), help="the page (report.html)")
    part.add_argument("--pictures", type=natural, default=12, help="rows of pictures (12)")
    part.add_argument("--width", type=natural, default=256, help="of a picture on the page at most, pixels (256)")

    args = parser.parse_args()
    if args.command.startswith("train-") and args.image_size < 32:
        parser.error(f"--image_size {args.image_size}: the backbones need 32 or more")
    if args.command.startswith("train-") and args.backbone == "small":
        if args.weights:
            parser.error("--backbone small has no --weights; leave them out")
        args.from_scratch = True
    if args.command == "content" and args.classes and args.target:
        parser.error("--classes and --target both tell where pictures belong; give one")
    return args


def describe(result):
    """The result for people."""
    lines = []
    if "mean" in result:
        width = max(4, *map(len, result["images"])) + 2
        lines.append(" " * width + "".join(f"{kind:>14}" for kind in result["mean"]))
        for name, values in [*result["images"].items(), ("mean", result["mean"])]:
            lines.append(f"{name:<{width}}" + "".join(f"{value:14.4g}" for value in values.values()))
    for name, values in result.get("classes", {}).items():
        put = ", ".join(f"{key} {count}" for key, count in values.get("put in", {}).items() if count)
        cells = [f"{key} {'–' if value is None else round(value, 4)}" for key, value in values.items() if key != "put in"]
        lines.append(f"{name}: {', '.join(cells)}" + f"; put in {put}" * bool(put))
    lines.append("  ".join(f"{name} {value:.4g}" for name, value in result.get("scores", {}).items()))
    rest = {name: value for name, value in result.items() if name not in ("mean", "images", "classes", "scores")}
    lines.append(", ".join(f"{name}: {value}" for name, value in rest.items()))
    return "\n".join(line for line in lines if line)


def main():
    args = parse()
    try:
        result = args.function(args)
    except OSError as error:
        if not error.filename:
            raise
        raise UserError(f"{error.filename}: {error.strerror}; make room, or choose another place") from None
    print(json.dumps(result, indent=2) if args.json else describe(result))


if __name__ == "__main__":
    run(main)
