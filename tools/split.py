"""Splits a folder of images into train, val and test, or two into trainA, trainB, testA, testB.

    python tools/split.py --dir pairs --output_dir facades --train_frac 0.8 --test_frac 0.1
    python tools/split.py --unpaired photos paintings --output_dir photo2painting --train_frac 0.9

The same seed gives the same split. The output folder appears only when it is complete. See
docs/data.md.
"""

import errno
import os
import random
import shutil
from pathlib import Path

from common import Parser, UserError, run
from images import find_images, photo_of, say_left_out
from tqdm import tqdm


def shares(train, val, test, paired):
    """The fractions as {"train", "val", "test"}: what was not given is the rest. They add up to 1,
    or UserError."""
    given = {"--train_frac": train, "--val_frac": val, "--test_frac": test}
    for name, value in given.items():
        if value is not None and not 0 <= value <= 1:  # also true of nan
            raise UserError(f"{name} {value}: give a fraction from 0 to 1")
    if paired:  # as pix2pix-tensorflow: 0.8 to train and the rest to val
        train = 0.8 if train is None else train
        test = 0.0 if test is None else test
        val = max(0.0, round(1 - train - test, 9)) if val is None else val
    else:
        if val:
            raise UserError(
                f"--val_frac {val}: --unpaired makes train and test folders only; leave it out"
            )
        val = 0.0
        train = train if train is not None else 0.8 if test is None else round(1 - test, 9)
        test = round(1 - train, 9) if test is None else test
    if abs(train + val + test - 1) > 1e-6:
        total = train + val + test
        raise UserError(
            f"the fractions train {train:g}, val {val:g} and test {test:g} add up to {total:g}, "
            "not 1"
        )
    return {"train": train, "val": val, "test": test}


def split(paths, fractions, seed):
    """{"train": [...], ...} of the paths, each in one list. UserError if one with a share above 0
    would be empty."""
    together = {}  # drawings of one photo, and its heads, stay on one side
    stems = {path.stem for path in paths}
    heads = (".head", ".round")  # of process.py --operation heads
    # by plain name: natural order has ties (1.jpg, 01.jpg), whose order would be that of the folder
    # on disk
    for path in sorted(paths, key=lambda path: path.name):
        photo = photo_of(path.stem)
        for head in heads:
            photo = photo.removesuffix(head)
        has_heads = any(photo + head in stems for head in heads)
        is_made_of_one = photo != path.stem or has_heads
        together.setdefault(photo if is_made_of_one else path.name, []).append(path)
    photos = list(together)
    random.Random(seed).shuffle(photos)
    sizes = {name: round(len(photos) * fractions[name]) for name in ("val", "test")}
    sizes["train"] = len(photos) - sum(sizes.values())
    parts = {}
    for name in ("train", "val", "test"):
        taken, photos = photos[: sizes[name]], photos[sizes[name] :]
        parts[name] = [path for photo in taken for path in together[photo]]
        if not parts[name] and (fractions[name] or name == "train"):
            total = sum(sizes.values())
            raise UserError(
                f"{name} would be empty: {total} images are too few for a share of "
                f"{fractions[name]:g}"
            )
    return parts


def images_for_training(folder):
    """The images of a folder. Says on stderr what else is there and is left out."""
    paths = find_images(folder)
    say_left_out(folder, paths)
    return paths


def place(parts, output, link):
    """Puts {folder name: paths} into a new folder `output`, which appears complete or not
    at all."""
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        for name in parts:
            (temporary / name).mkdir(parents=True)
        files = [
            (path, temporary / name / path.name) for name, paths in parts.items() for path in paths
        ]
        with tqdm(files, unit=" images", disable=None) as progress:
            for path, target in progress:
                if link:
                    os.link(path.resolve(), target)
                else:
                    shutil.copy2(path, target)
        if output.is_dir():
            output.rmdir()  # empty; Windows would not replace it
        os.replace(temporary, output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def parse():
    parser = Parser(description=(__doc__ or "").partition("\n")[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--dir", "--input_dir", type=Path, help="folder of images or pairs, for train, val and test"
    )
    source.add_argument(
        "--unpaired",
        type=Path,
        nargs=2,
        metavar=("A_DIR", "B_DIR"),
        help="two folders, for trainA, trainB, ...",
    )
    parser.add_argument(
        "--output_dir",
        type=Path,
        required=True,
        help="folder to make; it must not exist, or be empty",
    )
    parser.add_argument("--train_frac", type=float, help="share to train on (default: 0.8)")
    parser.add_argument(
        "--val_frac", type=float, help="share of val (default: the rest; not with --unpaired)"
    )
    parser.add_argument(
        "--test_frac", type=float, help="share of test (default: 0; with --unpaired the rest)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="the same seed gives the same split (default: 0)"
    )
    parser.add_argument(
        "--link",
        action="store_true",
        help="hard links, not copies: no space, but the same disk only",
    )
    return parser.parse_args()


def find_parts(args):
    """{folder name: paths} of the split that the command line asks for. Raises UserError."""
    fractions = shares(args.train_frac, args.val_frac, args.test_frac, paired=not args.unpaired)
    if not args.unpaired:
        parts = split(images_for_training(args.dir), fractions, args.seed)
        return {name: paths for name, paths in parts.items() if paths}
    a, b = args.unpaired
    if a.resolve() == b.resolve():
        raise UserError(f"--unpaired {a} {b}: both are the same folder; give one for each domain")
    domains = {}
    for domain, folder in (("A", a), ("B", b)):
        domains[domain] = split(images_for_training(folder), fractions, args.seed)
    parts = {}
    for name in ("train", "test"):
        for domain in ("A", "B"):
            if domains[domain][name]:
                parts[f"{name}{domain}"] = domains[domain][name]
    return parts


def is_made(parts, output):
    """Whether a folder holds this split and nothing else: files of the same names and sizes."""
    wanted = {}
    for name, paths in parts.items():
        for path in paths:
            wanted[Path(name, path.name)] = path.stat().st_size
    there = {}
    for path in output.rglob("*"):
        if path.is_file():
            there[path.relative_to(output)] = path.stat().st_size
    return there == wanted


def check_output(output, parts):
    """Whether there is something to do. Raises UserError if the output folder is in the way."""
    if not os.path.lexists(output):
        return True
    if output.is_dir() and not output.is_symlink():
        if not any(output.iterdir()):
            return True
        if is_made(parts, output):
            return False
    raise UserError(
        f"{output} exists and is not an empty folder; nothing was written: move it, or give "
        "another --output_dir"
    )


def main():
    args = parse()
    parts = find_parts(args)
    counts = ", ".join(f"{len(paths)} {name}" for name, paths in parts.items())
    if not check_output(args.output_dir, parts):
        print(f"{args.output_dir}: {counts} (there already)")
        return
    try:
        place(parts, args.output_dir, args.link)
    except OSError as error:
        reason = error.strerror or error
        if error.errno == errno.EXDEV:
            reason = "a hard link cannot reach another disk; leave out --link"
        elif error.errno == errno.ENOSPC:
            reason = "the disk is full; make room, or use --link"
        where = error.filename or args.output_dir
        raise UserError(f"{where}: {reason} (nothing was written)") from error
    print(f"{args.output_dir}: {counts} ({'linked' if args.link else 'copied'}, seed {args.seed})")


if __name__ == "__main__":
    run(main)
