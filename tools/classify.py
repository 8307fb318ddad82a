"""Trains a classifier of styles or contents, and scores translated images with it, as GANILLA does.

    python tools/classify.py train --kind style --classes photos carle potter --output_dir style
    python tools/classify.py score carle_test --classifier style_classifier --target carle
    python tools/classify.py COMMAND --help

A folder of images is any folder, or the --output_dir of `--mode test`, of which the outputs count.
docs/evaluate.md says more.
"""

import argparse
import collections
import json
import os
import re
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from common import (
    Parser,
    UserError,
    add_command,
    load_pix2pix,
    positive_integer,
    print_result,
    run,
    write_text,
    written_whole,
)
from images import first_ten, images_of, open_picture
from PIL import Image, ImageDraw, ImageFont, ImageOps
from tqdm import tqdm

# As GANILLA: crops of 150 pixels out of 256 for style, padded to 224; of 224 for content, which
# needs the whole.
RESIZED = 256 / 224  # of the network's input
CROPS = {"style": 150 / 224, "content": 1.0}
# flags of train that options.json keeps
KEPT = ("backbone", "frozen", "image_size", "seed", "lr", "batch_size")


def by_class(folders, least=1):
    """[(class, folder)] => {class: paths}; UserError if two have one name."""
    found = {}
    for name, folder in folders:
        if name in found:
            raise UserError(f"two folders are called {name}; give them other names: OTHER={folder}")
        found[name] = list(images_of(folder).values())
        if len(found[name]) < least:
            raise UserError(f"{folder} holds {len(found[name])} images; give at least {least}")
    return found


def load_batches(paths, load, size):
    """Arrays of load(path), stacked in batches of `size`. Threads decode two batches ahead of the
    one in use."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        ahead = collections.deque()
        for start in range(0, len(paths), size):
            ahead.append([pool.submit(load, path) for path in paths[start : start + size]])
            if len(ahead) > 2:
                yield np.stack([job.result() for job in ahead.popleft()])
        while ahead:
            yield np.stack([job.result() for job in ahead.popleft()])


class Views:
    """Crops of images as a classifier sees them: float32 [n, size, size, 3], as Keras's ResNet50
    takes them."""

    def __init__(self, kind, size):
        self.size, self.resized, self.crop = size, round(size * RESIZED), round(size * CROPS[kind])

    def load(self, path):
        """Path => uint8 [resized, resized, 3], the middle square of the image."""
        return np.asarray(
            ImageOps.fit(open_picture(path), (self.resized, self.resized), Image.Resampling.LANCZOS)
        )

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
        """Random crops, half of them mirrored."""
        views = self.cut(images, draw.integers(0, self.resized - self.crop + 1, [len(images), 2]))
        mirrored = draw.random(len(images)) < 0.5
        views[mirrored] = views[mirrored, :, ::-1]
        return views

    def probabilities(self, model, images):
        """uint8 [n, resized, resized, 3] => [n, classes]: means over five crops, the corners and
        the middle."""
        far = self.resized - self.crop
        corners = [(0, 0), (0, far), (far, 0), (far, far), (far // 2, far // 2)]
        return np.mean(
            [
                model.predict_on_batch(self.cut(images, [corner] * len(images)))
                for corner in corners
            ],
            0,
        )


# -------------------------------------------------------------------------------------------- train


def split_off(found, seed):
    """{class: paths} => for training, for validation: a fifth of each class, drawn by the seed
    before anything else."""
    draw, train, val = np.random.default_rng(seed), {}, {}
    for name, paths in found.items():
        order = draw.permutation(len(paths))
        held = max(1, len(paths) // 5)
        val[name], train[name] = (
            [paths[i] for i in sorted(part)] for part in (order[:held], order[held:])
        )
    return train, val


def build_small(shape):
    """Five halvings by convolutions, mean over space => [n, 256]; for training from scratch on a
    CPU."""
    import keras
    from keras import layers

    # of ResNet50's inputs, about -120 to 150
    parts = [keras.Input(shape), layers.Rescaling(1 / 64)]
    # [n, size / 2, size / 2, 16], ..., [n, size / 32, size / 32, 256]
    for filters in (16, 32, 64, 128, 256):
        parts += [
            layers.Conv2D(filters, 3, 2, "same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
        ]
    return keras.Sequential([*parts, layers.GlobalAveragePooling2D()])


def build_pretrained(name, weights, shape):
    """A network of keras.applications without its top, averaged over space => [n, 2048] of
    "ResNet50", [n, 512] of "VGG16". weights: a local file, or None: ImageNet's, downloaded."""
    import keras

    keras.config.disable_interactive_logging()  # its progress bars would be on stdout
    build = getattr(keras.applications, name)
    options = {"include_top": False, "pooling": "avg", "input_shape": shape}
    if not weights:
        try:
            return build(weights="imagenet", **options)
        except Exception as error:  # keras.utils.get_file raises a bare Exception
            url = re.search(r"https?://\S+\.h5", str(error))
            if not url:
                raise
            raise UserError(
                f"weights of {name} cannot be downloaded; get {url[0]} and give it with "
                "--weights FILE"
            ) from None
    network = build(weights=None, **options)
    if not Path(weights).is_file():
        raise UserError(f"no such file: {weights}; --weights is a file of weights of {name}")
    try:
        # layers that are missing
        with warnings.catch_warnings(action="error", category=UserWarning):
            network.load_weights(weights)
    except Exception as error:  # OSError, ValueError, KeyError, UserWarning
        hint = "Keras names its file *_notop.h5; another ends in .weights.h5"
        raise UserError(
            f"{weights} does not hold the weights of {name} without its top ({hint})"
        ) from error
    return network


def build_classifier(args, classes):
    """Backbone, mean over space, one dense layer, softmax => probabilities [n, classes]."""
    load_pix2pix()
    import keras

    keras.utils.set_random_seed(args.seed)
    shape = (args.image_size, args.image_size, 3)
    backbone = None
    if not args.from_scratch:
        try:
            backbone = build_pretrained(args.backbone, args.weights, shape)
        except UserError as error:
            if args.weights or args.frozen:
                raise
            reason = (
                "training from scratch instead, which needs more images and gives a weaker "
                "classifier"
            )
            print(f"warning: {error}; {reason}", file=sys.stderr)
            args.from_scratch = True
    if args.backbone == "small":
        backbone = build_small(shape)
    elif not backbone:
        build = getattr(keras.applications, args.backbone)
        backbone = build(include_top=False, weights=None, pooling="avg", input_shape=shape)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # PyTorch's; with Keras's 0.99 the averages lag behind in a short training
            layer.momentum = 0.9
    backbone.trainable = not args.frozen
    return keras.Model(
        backbone.inputs, keras.layers.Dense(len(classes), activation="softmax")(backbone.outputs[0])
    )


def train(args):
    """Trains a classifier on a folder of images for each class.

    val_accuracy  share of the validation images put in their class. 0 to 1, higher is better.
                  Validation images are a fifth of each class, drawn by --seed before training, or
                  those of --val; the epoch that is best on them is kept.

    As GANILLA (Hicsonmez et al. 2020): images of 256 pixels, random crops (--kind style: 150
    pixels, padded to 224; content: 224), mirrored at random, Adam, cross-entropy. Where ImageNet's
    weights cannot be downloaded and --weights is not given, it warns and trains from scratch.
    """
    found = by_class(args.classes, 2)
    classes = list(found)
    if is_used(args.output_dir):
        return trained_before(args, classes)
    paths = parts_of(args, found)
    model = build_classifier(args, classes)
    import keras

    keras.config.disable_interactive_logging()
    model.compile(keras.optimizers.Adam(args.lr), "sparse_categorical_crossentropy")
    views = Views(args.kind, args.image_size)
    images = {part: load_part(paths[part], views) for part in paths}
    options = options_of(args, classes, images)
    draw = np.random.default_rng(args.seed)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    best = None
    for epoch in range(1, args.epochs + 1):
        loss = train_epoch(model, views, images["train"], args.batch_size, draw)
        scores = validate(model, views, images["val"])
        is_better = best is None or rank(scores) > rank(best)
        say_epoch(epoch, args.epochs, loss, scores, is_better)
        if is_better:
            best = {"epoch": epoch, **scores}
            save(args.output_dir, model, options | {"best": best})
    options |= {"best": best, "epochs": args.epochs}  # which tells that it is finished
    write_text(args.output_dir / "options.json", json.dumps(options, indent=2) + "\n")
    return result_of(args.output_dir, best)


def is_used(folder):
    """Whether something is there, other than an empty folder."""
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


def parts_of(args, found):
    """{class: paths} => {"train": {class: paths}, "val": ...}. Raises UserError."""
    if len(found) < 2:
        raise UserError("a classifier needs two classes or more; give a folder for each")
    if not args.val:
        return dict(zip(("train", "val"), split_off(found, args.seed), strict=True))
    held_out = by_class(args.val)
    if set(held_out) != set(found):
        raise UserError(
            f"--val has the classes {first_ten(held_out)}, and not {first_ten(found)}; name them: "
            "CLASS=DIR"
        )
    return {"train": found, "val": {name: held_out[name] for name in found}}


def load_part(paths, views):
    """{class: paths} => images, uint8 [n, side, side, 3], 0.2 MB each, and the numbers of their
    classes [n]."""
    every = [path for of_class in paths.values() for path in of_class]
    images = np.concatenate(list(load_batches(every, views.load, 64)))
    counts = [len(of_class) for of_class in paths.values()]
    return images, np.repeat(np.arange(len(paths)), counts)


def options_of(args, classes, images):
    """What options.json has of a classifier from the beginning."""
    options = {"kind": args.kind, "classes": classes}
    for name in KEPT:
        options[name] = getattr(args, name)
    options["from_scratch"] = args.from_scratch
    options["images"] = {part: len(truth) for part, (_, truth) in images.items()}
    return options


def train_epoch(model, views, images, batch_size, draw):
    """One pass over the training images, in random order. Returns the mean loss."""
    pixels, truth = images
    losses = []
    order = draw.permutation(len(truth))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        losses.append(model.train_on_batch(views.random(pixels[chosen], draw), truth[chosen]))
    return np.mean(losses)


def validate(model, views, images):
    """The loss and accuracy on the validation images."""
    pixels, truth = images
    batches = [pixels[start : start + 16] for start in range(0, len(pixels), 16)]
    predicted = np.concatenate([views.probabilities(model, batch) for batch in batches])
    loss = -np.mean(np.log(predicted[np.arange(len(predicted)), truth] + 1e-7))
    accuracy = np.mean(predicted.argmax(1) == truth)
    return {"val_loss": float(loss), "val_accuracy": float(accuracy)}


def rank(scores):
    """For comparing epochs: the greater, the better."""
    return scores["val_accuracy"], -scores["val_loss"]


def say_epoch(epoch, epochs, loss, scores, is_better):
    """Prints the numbers of an epoch on stderr."""
    numbers = f"loss {scores['val_loss']:.4f}, accuracy {scores['val_accuracy']:.4f}"
    kept = "  (best, kept)" if is_better else ""
    print(
        f"epoch {epoch}/{epochs}  loss {loss:.4f}  validation: {numbers}{kept}",
        file=sys.stderr,
        flush=True,
    )


def save(folder, model, options):
    """Writes the network and options.json, each of them whole or not at all."""
    model.save(folder / "next.keras", include_optimizer=False)
    os.replace(folder / "next.keras", folder / "model.keras")
    write_text(folder / "options.json", json.dumps(options, indent=2) + "\n")


def result_of(folder, best):
    """What train returns."""
    scores = {"val_accuracy": best["val_accuracy"]}
    return {"scores": scores, "epoch": best["epoch"], "classifier": str(folder)}


def trained_before(args, classes):
    """What train returns for a folder that holds the finished classifier of the same flags, so that
    a command can be given twice. Raises UserError for any other folder."""
    wanted = {"classes": classes, "epochs": args.epochs}
    for name in ("kind", *KEPT):
        wanted[name] = getattr(args, name)
    try:
        there = {"frozen": False}  # of a folder of before that flag
        there.update(json.loads((args.output_dir / "options.json").read_text(encoding="utf-8")))
        if all(there[name] == value for name, value in wanted.items()):
            return result_of(args.output_dir, there["best"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass  # it is no finished classifier
    raise UserError(
        f"{args.output_dir} exists and is not an empty folder; give another --output_dir"
    )


# -------------------------------------------------------------------------------------------- score


def load_classifier(folder):
    """The --output_dir of `train` => kind, classes, views, model."""
    try:
        options = json.loads((folder / "options.json").read_text(encoding="utf-8"))
        kind, classes = options["kind"], options["classes"]
        views = Views(kind, options["image_size"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{folder} is no classifier; give the --output_dir of `classify.py train`"
        ) from None
    load_pix2pix()
    import keras

    keras.config.disable_interactive_logging()
    try:
        model = keras.models.load_model(folder / "model.keras", compile=False)
    except Exception as error:  # OSError, ValueError, zip errors
        raise UserError(
            f"{folder / 'model.keras'} cannot be read; train again with another --output_dir"
        ) from error
    return kind, classes, views, model


def rows_to_score(args, classes):
    """What is to be scored: {row: (class it should be put in, paths)}."""
    if args.originals:
        known, found = {}, collections.defaultdict(list)
        for name, folder in args.originals:
            for stem in images_of(folder, "inputs"):
                if stem in known:
                    raise UserError(
                        f"{stem} is in {known[stem]} and in {name}: its class is not clear; "
                        "rename one"
                    )
                known[stem] = name
        for _, folder in args.images:
            alone = [str(path) for stem, path in images_of(folder).items() if stem not in known]
            if alone:
                raise UserError(
                    f"{len(alone)} images have no original of their name: {first_ten(alone)}"
                )
            for stem, path in images_of(folder).items():
                found[known[stem]].append(path)
        rows = {name: (name, found[name]) for name, _ in args.originals if name in found}
    else:
        rows = {name: (args.target or name, paths) for name, paths in by_class(args.images).items()}
    unknown = [name for name, _ in rows.values() if name not in classes]
    if unknown:
        known = f"no class of {args.classifier}, which knows {first_ten(classes)}"
        raise UserError(f"{unknown[0]} is {known}; give --target, or CLASS=DIR")
    return rows


def score(args):
    """Counts how many translated images a classifier puts in the class where they belong.

    style    share put in the style that they were translated to. 0 to 1, higher is better.
    content  share put in the scene that they showed before. 0 to 1, higher is better.

    From GANILLA (Hicsonmez et al. 2020); which of the two it is depends on the --kind of the
    classifier. An image belongs to the class --target; or, with --originals, to that of the
    original of the same name; else to that of its folder.
    """
    kind, classes, views, model = load_classifier(args.classifier)
    rows = rows_to_score(args, classes)
    confusion = np.zeros([len(rows), len(classes)], int)
    with tqdm(
        total=sum(len(paths) for _, paths in rows.values()), unit=" images", disable=None
    ) as progress:
        for counts, (_, paths) in zip(confusion, rows.values(), strict=True):
            for images in load_batches(paths, views.load, 16):
                counts += np.bincount(
                    views.probabilities(model, images).argmax(1), minlength=len(classes)
                )
                progress.update(len(images))
    table, right = {}, 0
    for row, (name, _), counts in zip(rows, rows.values(), confusion.tolist(), strict=True):
        hits = counts[classes.index(name)]
        right += hits
        put = dict(zip(classes, counts, strict=True))
        table[row] = {"images": sum(counts), "right": hits / sum(counts), "put in": put}
    if args.matrix:
        with written_whole(args.matrix) as temporary:
            draw_matrix(confusion, list(rows), classes).save(temporary, "PNG")
    return {"scores": {kind: right / int(confusion.sum())}, "classes": table}


def draw_matrix(counts, rows, columns):
    """Confusion matrix [rows, columns] => image of the counts; the larger the share of its row, the
    darker a cell."""
    font, big = ImageFont.load_default(16), ImageFont.load_default(20)
    left = 24 + max(round(font.getlength(name)) for name in rows)
    wide = max(72, *(20 + round(font.getlength(name)) for name in columns))
    high, top = 56, 64
    image = Image.new(
        "RGB", (left + wide * len(columns) + 12, top + high * len(rows) + 12), "white"
    )
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


# ------------------------------------------------------------------------------------- command line


def named(text):
    """'CLASS=DIR' or 'DIR' => (class, path); a class is called like its folder."""
    name, equals, path = text.partition("=")
    path = Path(path if equals else text)
    return (name if equals else os.path.basename(os.path.abspath(path))), path


def positive(text):
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: give a number above 0")
    return value


def parse():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    folders = {"type": named, "nargs": "+", "metavar": "[CLASS=]DIR"}

    part = add_command(commands, "train", train)
    part.add_argument(
        "--kind", choices=list(CROPS), required=True, help="what the classes differ in"
    )
    part.add_argument(
        "--classes",
        **folders,
        required=True,
        help="a folder for each class, named like it or CLASS",
    )
    part.add_argument(
        "--output_dir",
        type=Path,
        required=True,
        help="folder to make; it must not exist, or be empty",
    )
    part.add_argument("--val", **folders, help="validation images (a fifth of each class)")
    part.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="weights of the backbone (default: Keras downloads ImageNet's)",
    )
    part.add_argument("--from_scratch", action="store_true", help="begin with random weights")
    part.add_argument(
        "--frozen",
        action="store_true",
        help="train the last layer alone, and keep the backbone's weights: fast on a CPU",
    )
    part.add_argument(
        "--backbone",
        choices=["ResNet50", "VGG16", "small"],
        default="ResNet50",
        help="network; small: five layers, always from scratch, for a CPU (ResNet50)",
    )
    part.add_argument(
        "--image_size",
        type=positive_integer,
        default=224,
        help="pixels; all sizes scale with it (224)",
    )
    part.add_argument("--epochs", type=positive_integer, default=20, help="number of epochs (20)")
    part.add_argument(
        "--batch_size", type=positive_integer, default=32, help="images per step (32)"
    )
    part.add_argument("--lr", type=positive, default=1e-4, help="learning rate of Adam (0.0001)")
    part.add_argument(
        "--seed",
        type=positive_integer,
        default=1,
        help="seed of the split, the weights and the crops (1)",
    )

    part = add_command(commands, "score", score)
    part.add_argument("images", **folders, help="folders of translated images")
    part.add_argument(
        "--classifier", type=Path, required=True, metavar="DIR", help="--output_dir of train"
    )
    part.add_argument(
        "--matrix", type=Path, metavar="FILE.png", help="write the confusion matrix as an image"
    )
    belongs = part.add_mutually_exclusive_group()
    belongs.add_argument(
        "--target", metavar="CLASS", help="class of all; a row of the table is then a folder"
    )
    help_originals = "folders of the originals: an image has the class of the original of its name"
    belongs.add_argument("--originals", **folders, help=help_originals)

    args = parser.parse_args()
    if args.command == "train" and args.image_size < 32:
        parser.error(f"--image_size {args.image_size}: the backbones need 32 or more")
    if args.command == "train" and args.frozen and (args.from_scratch or args.backbone == "small"):
        parser.error("--frozen keeps weights that were trained before; there are none to keep")
    if args.command == "train" and args.backbone == "small":
        if args.weights:
            parser.error("--backbone small has no --weights; leave them out")
        args.from_scratch = True
    return args


def main():
    args = parse()
    print_result(args.function, args)


if __name__ == "__main__":
    run(main)
