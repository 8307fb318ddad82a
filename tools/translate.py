"""Translates many images, or a video, with a trained network, about as fast as the network alone.

    python tools/translate.py horse2zebra_train photos --output_dir zebras
    python tools/translate.py hd_train photos --output_dir out --recursive --format jpg --shard 3/16 --skip_existing
    python tools/translate.py hd_train clip.mp4 --output_dir out          # pip install imageio-ffmpeg

The pixels are those of --mode test. Each file appears whole or not at all: after an interruption, give the same command
with --skip_existing. summary.json in --output_dir counts the images and names those that failed. docs/scale.md says how
to use many machines.
"""

import argparse
import collections
import contextlib
import copy
import fcntl
import functools
import hashlib
import io
import json
import os
import re
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import video
from common import Parser, UserError, load_algorithm, positive_integer, run, write_text, written_whole
from PIL import Image
from tqdm import tqdm

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")  # what the algorithms read
# run lengths alone: a PNG of a photograph becomes 4 % larger, in a third of the time
SAVE = {"png": {"format": "PNG", "compress_type": zlib.Z_RLE}, "jpg": {"format": "JPEG"}, "webp": {"format": "WEBP"}}
MEMORY = 2**28  # bytes of images that wait for the network, and of translations that wait to be written


# ------------------------------------------------------------------------------------------------------------- network


def load_model(checkpoint, **flags):
    """A checkpoint => the module of its algorithm, and the model with its weights, made as by --mode test.

    flags: those of test that are not None. Raises UserError.
    """
    folder = checkpoint if os.path.isdir(checkpoint) else os.path.dirname(checkpoint)
    try:
        script = json.loads(Path(folder, "options.json").read_text(encoding="utf-8"))["script"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"no training in {checkpoint}: CHECKPOINT is the --output_dir of a training") from None
    module, algorithm = load_algorithm(script)
    import keras

    values = copy.deepcopy(module.FLAGS)
    if "native_size" not in values:  # siamesegan.py knows nothing else
        flags.pop("native_size", None)
    flags = {name: value for name, value in flags.items() if value is not None}
    if unknown := [name for name in flags if name not in values]:
        raise UserError(f"{script}.py has no --{unknown[0]}: leave it out")
    flags |= {"mode": "test", "checkpoint": checkpoint, "input_dir": "."}
    flags |= {name: False for name in ["paired"] if name in values}
    try:
        values([script, *(f"--{name}={value}" for name, value in flags.items())])
        args = module.complete(values, algorithm)
        _, args.device = module.start_devices(args.deterministic)
        off = args.mixed_precision == "off"
        keras.config.set_dtype_policy("float32" if off else f"mixed_{args.mixed_precision}")
        keras.utils.set_random_seed(args.seed)
        model = algorithm(args, training=False)
        module.restore_generators(model, args)
    except (module.UserError, module.flags.Error) as error:
        raise UserError(str(error)) from None
    return module, model


def fit(module, model, image):
    """uint8 RGB [h, w, 3] => the same at the size that --mode test translates it at: that of training, or its own."""
    import tensorflow as tf

    if getattr(model.args, "native_size", True):
        return image
    same = tf.reduce_all(tf.shape(image)[:2] == model.crop)
    return tf.cond(same, lambda: tf.identity(image), lambda: module.resize(image, model.crop))


# ------------------------------------------------------------------------------------------------------------ pipeline


class Failed(Exception):
    """One image cannot be translated. The message says why; the others are not affected."""


def translate_all(source, translate, batch_size, progress):
    """Translates all images of a source. Threads read ahead of the network and write behind it, as MEMORY allows.

    source.items() gives them one by one. source.read(item) => uint8 RGB [h, w, 3], or None if there is nothing to do;
    source.write(item, translation). Both may raise Failed. translate: uint8 [n, h, w, 3] => the same.
    Returns the numbers of images done and skipped, and {item: reason} of those that failed.
    """
    counts, failed = collections.Counter(), {}
    limit = most = batch_size + source.threads  # images ahead, and as many behind
    waiting, writing = collections.defaultdict(list), collections.deque()  # waiting: {size: images for a batch}

    def read_ahead():
        reading = collections.deque()
        for item in source.items():
            reading.append((item, readers.submit(source.read, item)))
            while len(reading) > limit:
                yield reading.popleft()
        yield from reading

    def result(item, job):
        try:
            return job.result(), True
        except Failed as error:
            failed[item] = str(error)
            progress.update()
            return None, False

    def finish_writing(left=0):
        while len(writing) > left:
            _, done = result(*writing.popleft())
            counts["done"] += done
            progress.update(done)

    def run_network(group):
        outputs = translate(np.stack([image for _, image in group]))
        for (item, _), output in zip(group, outputs, strict=True):
            writing.append((item, writers.submit(source.write, item, output)))
        finish_writing(limit)

    with ThreadPoolExecutor(source.threads) as readers, ThreadPoolExecutor(source.threads) as writers:
        try:
            for item, job in read_ahead():
                image, readable = result(item, job)
                if image is None:
                    counts["skipped"] += readable
                    continue
                limit = max(1, min(most, MEMORY // image.nbytes))
                waiting[image.shape].append((item, image))
                if len(waiting[image.shape]) == batch_size:
                    run_network(waiting.pop(image.shape))
                elif sum(map(len, waiting.values())) >= 4 * batch_size:  # of the size that waits longest
                    for pair in waiting.pop(next(iter(waiting))):
                        run_network([pair])
            for pair in [pair for group in waiting.values() for pair in group]:
                run_network([pair])
            finish_writing()
        finally:
            readers.shutdown(wait=False, cancel_futures=True)
            writers.shutdown(wait=False, cancel_futures=True)
    return counts["done"], counts["skipped"], failed


# -------------------------------------------------------------------------------------------------------------- images


def names_in(folder, recursive, prefix=""):
    """The names of the images in a folder, relative to it, one by one as the file system gives them."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from names_in(entry.path, True, f"{prefix}{entry.name}/") if recursive else ()
            elif entry.name.lower().endswith(IMAGES):
                yield prefix + entry.name


def names_listed(path):
    """The lines of a text file, one by one."""
    with open(path, encoding="utf-8", errors="surrogateescape") as lines:
        yield from filter(None, (line.rstrip("\r\n") for line in lines))


def in_shard(name, shard):
    """Whether a name belongs to shard (i, n), 1 <= i <= n. Nothing else counts, so that all shards agree."""
    number = int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest())
    return number % shard[1] == shard[0] - 1


@contextlib.contextmanager
def image_files(args, module, model, unfinished):
    """The images of args.input and args.input_list that belong to args.shard, as a source for translate_all()."""
    import tensorflow as tf

    folder = args.input if not args.input or os.path.isdir(args.input) else os.path.dirname(args.input)
    root, seen, save = folder or ".", collections.Counter(), dict(SAVE[args.format])
    if args.format != "png":
        save["quality"] = args.quality or 95

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def load(path):  # in one call: each of many small ones would wait for Python's lock
        with tf.device("cpu"):
            return fit(module, model, model.load(path))

    def all_names():
        if args.input_list:
            return names_listed(args.input_list)
        return names_in(root, args.recursive) if folder == args.input else [os.path.basename(args.input)]

    def target_of(name):  # a.png; where a.jpg has a neighbour a.bmp, a.jpg.png and a.bmp.png
        path = os.path.join(root, name)
        stem, extension = os.path.splitext(path)
        others = (other for lower in IMAGES for other in (lower, lower.upper()) if other != extension)
        twins = any(os.path.lexists(stem + other) for other in others)
        name = os.path.relpath(path, root)
        name = os.path.abspath(path)[1:] if name.startswith("../") else name  # listed, but not in the folder
        return Path(args.output_dir, f"{name if twins else os.path.splitext(name)[0]}.{args.format}")

    def items():
        for name in all_names():
            seen["names"] += 1
            if in_shard(name, args.shard):
                yield name
        if not seen["names"]:
            hint = "" if args.recursive or args.input_list else "; --recursive looks into its folders too"
            expected = f"expected files ending in {', '.join(IMAGES)}{hint}"
            raise UserError(f"no images in {args.input_list or args.input}: {expected}")

    def read(name):
        path, target = os.path.join(root, name), target_of(name)
        if "\0" in name or not os.path.isfile(path):
            raise Failed("no such file")
        if target.exists():
            if os.path.samefile(target, path):
                raise Failed("its translation would replace it: choose another --output_dir")
            if args.skip_existing:
                return None
        try:
            with module.naming_unreadable([path], lambda path: model.load(os.fsencode(path))):
                return load(os.fsencode(path)).numpy()
        except module.UserError as error:
            raise Failed(str(error).removeprefix(f"{path} ")) from None

    def write(name, pixels):
        if model.aspect_ratio != 1:
            pixels = module.resize(pixels, [len(pixels), round(len(pixels) * model.aspect_ratio)]).numpy()
        contents = io.BytesIO()
        try:
            Image.fromarray(pixels).save(contents, **save)
        except Exception as error:  # larger than the format can hold
            raise Failed(f"cannot be saved as {args.format}: {error}") from None
        target = target_of(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(target, unfinished) as part:
            part.write_bytes(contents.getbuffer())

    total = None
    if sys.stderr.isatty() and not (args.input_list and not os.path.isfile(args.input_list)):  # a pipe is read once
        total = sum(in_shard(name, args.shard) for name in all_names())
    threads = min(16, len(os.sched_getaffinity(0)))
    yield SimpleNamespace(items=items, read=read, write=write, threads=threads, total=total, damage=None)


def video_frames(args, module, model, unfinished):
    """The frames of the video args.input, as a source for translate_all()."""
    fit_frame = functools.partial(fit, module, model)
    return video.frames(args.video, args.start, args.seconds, args.video_target, unfinished, fit_frame, module.resize)


# ---------------------------------------------------------------------------------------------------------------- main


def parse_shard(text):
    """ "3/16" => (3, 16)."""
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    shard = tuple(map(int, match.groups())) if match else (0, 0)
    if not 1 <= shard[0] <= shard[1]:
        raise argparse.ArgumentTypeError(f"{text!r}: give I/N with I from 1 to N, as in 3/16")
    return shard


def parse():
    """The command line, checked as far as it can be without a network. Adds args.video."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="the --output_dir of a training, or a checkpoint in it: DIR/model-2000")
    parser.add_argument("input", nargs="?", help="a folder of images, one image or one video")
    parser.add_argument("--input_list", metavar="FILE", help="names of images, one a line, relative to INPUT if given")
    parser.add_argument("--output_dir", required=True, help="folder for the translations, made if missing")
    parser.add_argument(
        "--recursive", action="store_true", help="also the folders in INPUT; --output_dir gets them too"
    )
    parser.add_argument("--which_direction", choices=["AtoB", "BtoA"], help="of an unpaired training (AtoB)")
    parser.add_argument("--native_size", action="store_true", help="at the size of each image, not that of training")
    parser.add_argument("--tile_size", type=positive_integer, help="pixels; larger images go through in such windows")
    parser.add_argument(
        "--stitch", choices=["blend", "tiles", "whole"], help="siamesegan.py: covers an image so (blend)"
    )
    precision = "faster on recent GPUs and some CPUs, see docs/faq.md"
    parser.add_argument("--mixed_precision", choices=["off", "bfloat16", "float16"], help=precision)
    batch = "images of one size that the network translates at once (1); more are faster on a GPU"
    parser.add_argument("--batch_size", type=positive_integer, default=1, help=batch)
    parser.add_argument("--format", choices=list(SAVE), default="png", help="of the translations (png)")
    parser.add_argument("--quality", type=quality, metavar="1-100", help="of jpg and webp (95)")
    parser.add_argument("--skip_existing", action="store_true", help="leave out images whose translation is there")
    shard = "translate part I of N of the images; all parts together are the same files as one run"
    parser.add_argument("--shard", type=parse_shard, default=(1, 1), metavar="I/N", help=shard)
    parser.add_argument("--start", type=duration, default=0.0, metavar="SECONDS", help="begin a video there (0)")
    parser.add_argument("--seconds", type=duration, help="of the video, from --start on (all)")
    args = parser.parse_args()
    if not args.input and not args.input_list:
        raise UserError("give a folder, an image, a video, or --input_list")
    for path in filter(None, (args.input, args.input_list)):
        if not os.path.exists(path):
            raise UserError(f"no such file or folder: {path}")
    folder = os.path.isdir(args.input or ".")
    if args.input_list and (os.path.isdir(args.input_list) or not folder):
        raise UserError("--input_list is a text file of names, and INPUT, if given too, the folder that they are in")
    args.video = not folder and not args.input.lower().endswith(IMAGES)
    if args.quality and (args.format == "png" or args.video):
        raise UserError("--quality is for --format jpg and webp")
    if args.video and args.shard != (1, 1):
        raise UserError("--shard is for images: give each machine a part of the video with --start and --seconds")
    if not args.video and (args.start or args.seconds):
        raise UserError("--start and --seconds are for a video")
    if args.input and folder:
        into, source = os.path.realpath(args.output_dir), os.path.realpath(args.input)
        if into == source or (args.recursive and into.startswith(os.path.join(source, ""))):
            what = f"{args.output_dir} is in {args.input}, so that translations would be translated again"
            raise UserError(f"{what}: choose another --output_dir")
    return args


def quality(text):
    """For argparse."""
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 1 to 100")
    return int(text)


def duration(text):
    """For argparse: seconds."""
    try:
        if 0 <= float(text) < float("inf"):
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r}: give a number of seconds, 0 or more")


@contextlib.contextmanager
def unfinished_folder(args):
    """A folder in args.output_dir for files that are being written. It keeps out other runs of the same shard, and what
    a killed run left in it is removed."""
    folder = Path(args.output_dir, ".unfinished-{}-of-{}".format(*args.shard))
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        own = f"shard {args.shard[0]}/{args.shard[1]} of {args.output_dir} is being written by another run"
        raise UserError(f"{own}: give each a --shard of its own") from None
    try:
        for path in folder.iterdir():
            path.unlink()
        yield folder
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()
        os.close(lock)


def main():
    args = parse()
    if args.video:
        args.video = video.describe(args.input)
        args.video_target = Path(args.output_dir, f"{Path(args.input).stem}.mp4")
        if os.path.exists(args.video_target) and os.path.samefile(args.video_target, args.input):
            raise UserError(f"the translation would replace {args.input}: choose another --output_dir")
        if os.path.exists(args.video_target) and args.skip_existing:
            print(f"{args.video_target} is there already")
            return 0
    try:
        with unfinished_folder(args) as unfinished:
            return translate(args, unfinished)
    except OSError as error:
        reason = f"{error.filename or args.output_dir}: {error.strerror or error}"
        raise UserError(f"{reason}; when that is mended, --skip_existing continues: finished files are whole") from None


def translate(args, unfinished):
    """All of a run after the command line. Returns the exit code."""
    names = ("which_direction", "native_size", "tile_size", "stitch", "mixed_precision")
    module, model = load_model(args.checkpoint, **{name: getattr(args, name) for name in names})
    print(f"{args.input_list or args.input} => {args.output_dir}; {model.args.device}", flush=True)
    network = functools.partial(model.translate_images, direction=model.args.which_direction)
    start, unit = time.perf_counter(), " frames" if args.video else " images"
    with (
        (video_frames if args.video else image_files)(args, module, model, unfinished) as source,
        tqdm(total=source.total, unit=unit, disable=None, smoothing=0.05) as progress,
    ):
        try:
            done, skipped, failed = translate_all(source, network, args.batch_size, progress)
        except module.tf.errors.ResourceExhaustedError:
            raise UserError("the network needs more memory: give a lower --batch_size or --tile_size") from None
    seconds = time.perf_counter() - start
    if source.damage:
        failed[args.input] = f"damaged, {done} frames could be read: {source.damage}"
    shard = "{}/{}".format(*args.shard)
    summary = {"checkpoint": args.checkpoint, "input": args.input_list or args.input, "shard": shard}
    summary |= {"done": done, "skipped": 0 if args.video else skipped, "failed": failed}
    summary |= {"seconds": round(seconds, 3), "images_per_second": round(done / seconds, 3)}
    name = "summary.json" if args.shard == (1, 1) else "summary-{}-of-{}.json".format(*args.shard)
    write_text(Path(args.output_dir, name), json.dumps(summary, indent=2) + "\n")
    there = f", {summary['skipped']} there already" if args.skip_existing else ""
    print(f"done: {done}{unit}{there}, {done / seconds:.2f} a second; see {args.output_dir}")
    if failed:
        path, reason = next(iter(failed.items()))
        raise UserError(f"{len(failed)} failed: {path}: {reason}; {Path(args.output_dir, name)} names all")
    return 0


if __name__ == "__main__":
    run(main)
