"""Measures translated images: against the true ones (pairs, labels), at borders of tiles (seams), as a set (fid, kid).

    python tools/evaluate.py pairs facades_test
    python tools/evaluate.py fid photo2painting_test paintings --json
    python tools/evaluate.py COMMAND --help

A folder of images is any folder, or the --output_dir of `--mode test`, of which the outputs count. docs/evaluate.md
says what each number means. See also classify.py (style and content) and report.py (runs side by side).
"""

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
from common import (
    ROOT,
    Parser,
    UserError,
    add_command,
    build_network,
    check_pairs,
    images_of,
    is_test,
    load_batches,
    load_pix2pix,
    positive_integer,
    print_result,
    read,
    run,
    written_whole,
)
from PIL import Image
from tqdm import tqdm

METRICS = ["l1", "psnr", "ssim", "vgg_distance"]  # of pairs


def two_folders(folders):
    """[folder of a test] or [outputs, targets] => {name: (path of the output, path of the target)}."""
    if len(folders) > 2:
        raise UserError(f"{len(folders)} folders given; give that of a test, or two: outputs and targets")
    first, second = folders[0], folders[-1]
    outputs = images_of(first)
    if len(folders) == 1 and not is_test(first):
        raise UserError(f"{first} has no images/, so it is not that of a test; give two folders: outputs and targets")
    targets = images_of(second, "targets")
    check_pairs(outputs, targets, first, second)
    return {name: (path, targets[name]) for name, path in outputs.items()}


def read_pair(paths):
    """Two paths => two images of one size, uint8 [h, w, 3]."""
    first, second = (np.asarray(read(path)) for path in paths)
    if first.shape != second.shape:
        (h, w, _), (height, width, _) = first.shape, second.shape
        sizes = f"{paths[0]} is {w}x{h} (width x height), {paths[1]} {width}x{height}"
        raise UserError(f"{sizes}; resize one (tools/process.py)")
    return first, second


def means(images):
    """{name: {metric: value}} => the result with the mean of each metric, in the form of a test's metrics.json."""
    metrics = next(iter(images.values()))
    mean = {metric: float(np.mean([values[metric] for values in images.values()])) for metric in metrics}
    return {"mean": mean, "images": images}


# ------------------------------------------------------------------------------------------------------------- pairs

# The last convolution of each block, as LPIPS takes them: [h, w, 64], [h/2, w/2, 128], ..., [h/16, w/16, 512]
VGG_LAYERS = ["block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3"]


def build_vgg_distance(weights):
    """A function of two images uint8 [h, w, 3] => distance of their VGG16 features."""
    vgg = build_network("VGG16", weights)
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
    """Compares images with the true ones, one by one.

    l1            mean absolute difference. 0 to 1, lower is better.
    psnr          peak signal-to-noise ratio, dB. 0 to 100 (equal), higher is better.
    ssim          structural similarity. -1 to 1 (equal), higher is better. Wang et al. 2004.
    vgg_distance  squared difference of unit-length VGG16 features, mean over space, sum over five layers. 0 to 10,
                  lower is better. Like LPIPS (Zhang et al. 2018) without its learned weights: do not compare the two.
                  Without VGG16's weights it is left out with a warning, unless --metrics asks for it.
    """
    files, metrics, distance = two_folders(args.folders), args.metrics or METRICS, None
    if "vgg_distance" in metrics:
        try:
            distance = build_vgg_distance(args.weights)
        except UserError as error:
            if args.metrics or args.weights:
                raise
            print(f"warning: no vgg_distance: {error}", file=sys.stderr)
            metrics = metrics[:-1]
    module, images = load_pix2pix(), {}
    with tqdm(files.items(), unit=" images", disable=None) as progress:
        for name, paths in progress:
            output, target = read_pair(paths)
            values = module.compare(output, target) if set(metrics) - {"vgg_distance"} else {}
            if distance:
                values["vgg_distance"] = distance(output, target)
            images[name] = {metric: values[metric] for metric in metrics}
    return means(images)


# ------------------------------------------------------------------------------------------------------------ labels


def read_palette(path):
    """JSON file => {class: [r, g, b]}."""
    try:
        palette = json.loads(path.read_text(encoding="utf-8"))
        colours = np.array(list(palette.values()))
    except (OSError, ValueError, AttributeError):
        colours = np.zeros(0)
    if colours.ndim != 2 or colours.shape[1] != 3 or colours.dtype != int or colours.min() < 0 or colours.max() > 255:
        example = '{"sky": [0, 0, 255], "wall": [255, 0, 0]}'
        raise UserError(f"{path} is no palette; it should hold JSON such as {example}")
    return palette


def nearest(image, colours):
    """uint8 [h, w, 3], colours [k, 3] => index of the nearest [h, w], distance to it [h, w] in levels of 0 to 255."""
    image, colours = image.astype(np.int32), np.asarray(colours, np.int32)
    index, best = np.zeros(image.shape[:2], int), np.square(image - colours[0]).sum(-1)
    for k, colour in enumerate(colours[1:], start=1):
        distance = np.square(image - colour).sum(-1)
        index[distance < best] = k
        best = np.minimum(best, distance)
    return index, np.sqrt(best)


def label_scores(confusion):
    """Pixels [true class, class found] => scores, rows of classes. A class that is in neither does not count."""
    right, true, found = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    union = true + found - right
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
    """Compares label maps pixel by pixel, for photo => labels. A pixel has the class whose colour is nearest.

    pixel_accuracy  share of the pixels that have their true class. 0 to 1, higher is better.
    class_accuracy  the same within each class, mean over the classes. 0 to 1, higher is better.
    class_iou       pixels in both / pixels in either, mean over the classes. 0 to 1, higher is better.

    The metrics of Long et al. 2015 (FCN), over the pixels of all images together.
    """
    palette = read_palette(args.palette)
    colours = np.array(list(palette.values()))
    confusion = np.zeros([len(palette)] * 2, np.int64)
    with tqdm(two_folders(args.folders).values(), unit=" images", disable=None) as progress:
        for paths in progress:
            output, target = read_pair(paths)
            true, off = nearest(target, colours)
            if (median := np.median(off)) > 48:  # of facades' JPEGs it is 3, at worst 20 to 30
                reason = f"half of its pixels are {median:.0f} levels or more from all colours"
                raise UserError(f"{paths[1]} is no label map: {reason}; give its --palette")
            np.add.at(confusion, (true, nearest(output, colours)[0]), 1)
    scores, rows = label_scores(confusion)
    return {"scores": scores, "classes": dict(zip(palette, rows, strict=True))}


# ------------------------------------------------------------------------------------------------------------- seams


def jumps(image, tile, offset=0):
    """Mean absolute differences of neighbouring pixels of uint8 [h, w, c], in levels of 0 to 255.

    Returns (across the borders of tiles, elsewhere). A border is between x - 1 and x where x - offset is a multiple of
    `tile`; the same holds for y.
    """
    image, borders, elsewhere = image.astype(np.float32), [], []
    for axis in (0, 1):
        steps = np.abs(np.diff(image, axis=axis)).mean(-1).swapaxes(0, axis)  # [lines, pixels along a line]
        at = np.zeros(len(steps), bool)
        at[(offset - 1) % tile :: tile] = True  # a slice takes integers of any size; steps[0] is between 0 and 1
        borders.append(steps[at].ravel())
        elsewhere.append(steps[~at].ravel())
    borders, elsewhere = np.concatenate(borders), np.concatenate(elsewhere)
    return tuple(float(steps.mean()) if steps.size else None for steps in (borders, elsewhere))


def seam_ratio(path, tile, offset):
    border, elsewhere = jumps(np.asarray(read(path)), tile, offset)
    if border is None or elsewhere is None:
        raise UserError(f"{path} has no border of tiles of {tile} pixels with pixels between; give another --tile")
    if not elsewhere:
        raise UserError(f"{path} has tiles of one flat colour: there is nothing to compare their borders with")
    return border / elsewhere


def seams(args):
    """Measures how visible the borders are in images that were joined from tiles.

    seams      mean absolute difference of the two pixels at a border of tiles, divided by that of neighbouring pixels
               elsewhere. 0 to infinity, lower is better, 1: no seam. Our own metric.
    inputs     the same for the images before translation: what the image itself has there. Of --inputs, or of
               NAME-inputs.png in the folder of a test.
    """
    found = {}
    for given in args.images:
        for name, path in ({given.stem: given} if given.is_file() else images_of(given)).items():
            if name in found:
                raise UserError(f"{found[name]} and {path} are both called {name}; give them one by one")
            found[name] = path
    if args.inputs:
        inputs = images_of(args.inputs, "inputs")
        check_pairs(found, {name: path for name, path in inputs.items() if name in found}, "the images", args.inputs)
    else:
        beside = {name: path.with_name(f"{name}-inputs.png") for name, path in found.items() if path.stem != name}
        inputs = {name: path for name, path in beside.items() if path.exists()}
        if len(inputs) not in (0, len(found)):
            raise UserError(f"only {len(inputs)} of {len(found)} images have a NAME-inputs.png; give --inputs")
    images = {}
    with tqdm(found.items(), unit=" images", disable=None) as progress:
        for name, path in progress:
            images[name] = {"seams": seam_ratio(path, args.tile, args.offset)}
            if inputs:
                read_pair((path, inputs[name]))
                images[name]["inputs"] = seam_ratio(inputs[name], args.tile, args.offset)
    return means(images)


# ---------------------------------------------------------------------------------------------------------- fid, kid


def resize_clean(image, size):
    """uint8 [h, w, 3] => float32 [size, size, 3], 0 to 255: Pillow's antialiased bicubic, not rounded, as clean-fid."""
    channels = [Image.fromarray(channel) for channel in np.float32(image).transpose(2, 0, 1)]  # of mode F
    resized = [np.asarray(channel.resize((size, size), Image.Resampling.BICUBIC)) for channel in channels]
    return np.clip(np.stack(resized, -1), 0, 255)


def inception_features(paths, weights, cache):
    """Images => float32 [n, 2048], the averaged last maps of InceptionV3, kept in the folder `cache` for the next time.

    They are found again by network, contents of the weights file, and path, size and time of change of each image.
    """
    try:
        contents = weights.read_bytes() if weights else None
    except OSError as error:
        raise UserError(f"{weights}: {error.strerror}; --weights is a file of weights") from None
    key = hashlib.sha256(b"InceptionV3 299 " + (hashlib.sha256(contents).digest() if weights else b"imagenet"))
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
    features = []
    with tqdm(total=len(paths), unit=" images", disable=None) as progress:
        for batch in load_batches(paths, lambda path: resize_clean(np.asarray(read(path)), 299), 16):
            features.append(predict(batch).numpy())
            progress.update(len(batch))
    features = np.concatenate(features)
    cache.mkdir(parents=True, exist_ok=True)
    with written_whole(kept) as temporary, open(temporary, "wb") as file:
        np.save(file, features)
    return features


def frechet_distance(a, b):
    """|mean a - mean b|² + trace(Sa + Sb - 2 (Sa Sb)^½) of features [n, d], [m, d] (Heusel et al. 2017).

    S are covariances. With Sa = Ra' Ra and Sb = Rb' Rb, the eigenvalues of Sa Sb are the squares of the singular values
    of Ra Rb', and the trace of the root is their sum: no root of a singular matrix, no imaginary part, no epsilon.
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
    """Mean of the kernel distance over random subsets of `size`, and its standard error for the n images given.

    Subsets of the same n images overlap, so the spread s of their distances is less than that of fresh images. The
    variance for n images is s² · size / (n - size): the delete-d jackknife, Shao & Wu 1989.
    """
    draw = np.random.default_rng(seed)
    a, b = np.float64(a), np.float64(b)
    distances = [
        kernel_distance(*(x[draw.choice(len(x), size, replace=False)] for x in (a, b))) for _ in range(subsets)
    ]
    n = min(len(a), len(b))
    return float(np.mean(distances)), float(np.std(distances, ddof=1) * np.sqrt(size / (n - size)))


def both_features(args):
    """Features of the two folders."""
    found = [list(images_of(folder).values()) for folder in (args.images, args.real)]
    for folder, paths in zip((args.images, args.real), found, strict=True):
        if len(paths) < args.least:
            raise UserError(f"{folder} holds {len(paths)} images; {args.command} needs {args.least}, better thousands")
    return [inception_features(paths, args.weights, args.cache) for paths in found]


def fid(args):
    """Compares two sets of images as a whole, without pairs.

    fid     Fréchet distance of InceptionV3 features. 0 to infinity, lower is better. Heusel et al. 2017, images resized
            as in clean-fid (Parmar et al. 2022). Keras's weights are not those of the original FID: compare only with
            numbers of this tool. Too high with few images: give the same number each time.
    """
    features = both_features(args)
    fewest = min(map(len, features))
    if fewest < 2048:
        reason = f"{fewest} images for 2048 features: the covariance is singular and FID is biased upwards"
        print(f"warning: {reason}; compare only with the same number, or use kid", file=sys.stderr)
    return {"scores": {"fid": frechet_distance(*features)}, "images": list(map(len, features))}


def kid(args):
    """Compares two sets of images as a whole, without pairs; unbiased, so also for few images.

    kid        squared MMD of InceptionV3 features, kernel (x·y / 2048 + 1)³, mean over subsets. About 0 (equal, may be
               below) upwards, lower is better. Bińkowski et al. 2018; papers often give it times 100. Keras's weights:
               compare only with numbers of this tool.
    kid_error  its standard error, from the spread over the subsets.
    """
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: give a whole number of at least 0")
    features = both_features(args)
    fewest = min(map(len, features))
    size = args.subset_size or min(1000, fewest // 2)
    if not 2 <= size < fewest:
        raise UserError(f"--subset_size {size}: give at least 2 and less than {fewest}, the smaller number of images")
    mean, error = kernel_distances(*features, args.subsets, size, args.seed)
    return {"scores": {"kid": mean, "kid_error": error}, "images": list(map(len, features)), "subset_size": size}


# ------------------------------------------------------------------------------------------------------ command line


def metric_list(text):
    """'l1,psnr' => [l1, psnr], for argparse."""
    chosen = text.split(",")
    if not set(chosen) <= set(METRICS):
        raise argparse.ArgumentTypeError(f"{text!r}: choose from {','.join(METRICS)}")
    return chosen


def parse():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    two = "folder of a test, or two: outputs, targets of the same names"

    part = add_command(commands, "pairs", pairs)
    part.add_argument("folders", type=Path, nargs="+", help=two)
    part.add_argument("--metrics", type=metric_list, help=f"some of {','.join(METRICS)} (all that can be computed)")
    part.add_argument("--weights", type=Path, metavar="FILE", help="of VGG16 (default: Keras downloads ImageNet's)")

    part = add_command(commands, "labels", labels)
    part.add_argument("folders", type=Path, nargs="+", help=two)
    facades = ROOT / "samples" / "facades.json"
    help_palette = 'JSON: {"class": [r, g, b], ...} (the 12 classes of facades)'
    part.add_argument("--palette", type=Path, metavar="FILE", default=facades, help=help_palette)

    part = add_command(commands, "seams", seams)
    part.add_argument("images", type=Path, nargs="+", help="folders or files")
    part.add_argument("--tile", type=positive_integer, required=True, help="side of a tile, pixels")
    part.add_argument("--offset", type=int, default=0, help="where the first border is, pixels (0)")
    part.add_argument("--inputs", type=Path, help="folder of the images before translation, with the same names")

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evaluate-features"
    help_weights = "of InceptionV3 (default: Keras downloads ImageNet's)"
    for name, function, least in (("fid", fid, 2), ("kid", kid, 4)):
        part = add_command(commands, name, function)
        part.add_argument("images", type=Path, help="folder of translated images")
        part.add_argument("real", type=Path, help="folder of real images")
        part.add_argument("--weights", type=Path, metavar="FILE", help=help_weights)
        part.add_argument("--cache", type=Path, metavar="DIR", default=cache, help=f"where features are kept ({cache})")
        part.set_defaults(least=least)
    part.add_argument("--subsets", type=positive_integer, default=100, help="random subsets (100)")
    part.add_argument("--subset_size", type=positive_integer, help="images in each (1000, but at most half of them)")
    part.add_argument("--seed", type=int, default=0, help="of the subsets (0)")
    return parser.parse_args()


def main():
    args = parse()
    print_result(args.function, args)


if __name__ == "__main__":
    run(main)
