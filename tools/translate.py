"""Translates many images, or a video, with a trained network, about as fast as the network alone.

    python tools/translate.py facades_train drawings --output_dir houses
    python tools/translate.py hd_siamesegan_train photos --output_dir out --recursive --format jpg
    python tools/translate.py hd_siamesegan_train clip.mp4 --output_dir film   # imageio-ffmpeg

The pixels are those of --mode test. Each file appears whole or not at all: after an interruption,
give the same command with --skip_existing. summary.json in --output_dir counts the images and names
those that failed. docs/scale.md says how to use many machines.
"""

import argparse
import codecs
import collections
import contextlib
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

import filelock
import litert
import numpy as np
import video
from common import (
    Parser,
    UserError,
    count_cores,
    load_algorithm,
    load_trained,
    not_negative,
    positive_integer,
    run,
    script_of,
    write_text,
    written_whole,
)
from images import IMAGE_TYPES, shorten
from PIL import Image
from tqdm import tqdm

SAVE = {
    # run lengths alone: a PNG of a photograph becomes 4 % larger, in a third of the time
    "png": {"format": "PNG", "compress_type": zlib.Z_RLE},
    "jpg": {"format": "JPEG"},
    "webp": {"format": "WEBP"},
}
MEMORY = 2**28  # bytes of images that wait for the network, and of those that wait to be written


# ---------------------------------------------------------------------------------------- pipeline


class Failed(Exception):
    """One image cannot be translated. The message says why; the others are not affected."""


class Pipeline:
    """Translates all images of a source. Threads read ahead of the network and write what it makes,
    as MEMORY allows.

    source.items() gives them one by one. source.read(item) => uint8 RGB [h, w, 3], or None if there
    is nothing to do; source.write(item, translation). Both may raise Failed. translate: uint8 [n,
    h, w, 3] => the same. After run(): done and skipped, the numbers of images, and failed, {item:
    reason}.
    """

    def __init__(self, source, translate, batch_size, progress):
        self.source = source
        self.translate = translate
        self.batch_size = batch_size
        self.progress = progress
        self.done = 0
        self.skipped = 0
        self.failed = {}
        self.most = batch_size + source.threads
        self.limit = self.most  # images that are read ahead, and as many that are being written
        self.waiting = collections.defaultdict(list)  # {size: images for a batch}
        self.writing = collections.deque()

    def run(self):
        """Translates all images."""
        threads = self.source.threads
        with ThreadPoolExecutor(threads) as readers, ThreadPoolExecutor(threads) as self.writers:
            try:
                for item, job in self.read_ahead(readers):
                    self.take(item, job)
                for images in list(self.waiting.values()):
                    self.translate_singly(images)
                self.finish_writing()
            finally:
                readers.shutdown(wait=False, cancel_futures=True)
                self.writers.shutdown(wait=False, cancel_futures=True)

    def read_ahead(self, readers):
        """(item, job) of all items, in their order; some jobs further on are under way."""
        reading = collections.deque()
        for item in self.source.items():
            reading.append((item, readers.submit(self.source.read, item)))
            while len(reading) > self.limit:
                yield reading.popleft()
        yield from reading

    def take(self, item, job):
        """Puts an image that is read with those of its size, and translates them if they are a
        batch."""
        image, is_good = self.result(item, job)
        if image is None:
            self.skipped += is_good
            return
        self.limit = max(1, min(self.most, MEMORY // image.nbytes))
        self.waiting[image.shape].append((item, image))
        if len(self.waiting[image.shape]) == self.batch_size:
            self.translate_batch(self.waiting.pop(image.shape))
        elif sum(map(len, self.waiting.values())) >= 4 * self.batch_size:
            longest = next(iter(self.waiting))  # the size that waits longest
            self.translate_singly(self.waiting.pop(longest))

    def result(self, item, job):
        """(what a job gives, True), or (None, False) if the item has failed."""
        try:
            return job.result(), True
        except Failed as error:
            self.failed[item] = str(error)
            self.progress.update()
            return None, False

    def translate_singly(self, images):
        """Translates images that are too few for a batch: the network is compiled for two sizes of
        batches only."""
        for pair in images:
            self.translate_batch([pair])

    def translate_batch(self, images):
        """Translates [(item, image)] of one size, and lets threads write the results."""
        outputs = self.translate(np.stack([image for _, image in images]))
        for (item, _), output in zip(images, outputs, strict=True):
            self.writing.append((item, self.writers.submit(self.source.write, item, output)))
        self.finish_writing(self.limit)

    def finish_writing(self, left=0):
        """Waits until at most `left` images are being written."""
        while len(self.writing) > left:
            _, is_good = self.result(*self.writing.popleft())
            self.done += is_good
            self.progress.update(is_good)


# ------------------------------------------------------------------------------------------ images


def names_in(folder, recursive, prefix=""):
    """The names of the images in a folder, relative to it, as the file system gives them."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                if recursive:
                    yield from names_in(entry.path, True, f"{prefix}{entry.name}/")
            elif entry.name.lower().endswith(IMAGE_TYPES):
                yield prefix + entry.name


def names_listed(path):
    """The lines of a text file, one by one. PowerShell 5 writes UTF-16, and Notepad a mark at the
    beginning."""
    with open(path, "rb") as file:
        is_utf16 = file.peek(2).startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        kind = ("utf-16", "replace") if is_utf16 else ("utf-8-sig", "surrogateescape")
        for line in io.TextIOWrapper(file, *kind):
            name = line.rstrip("\r\n")
            if name:
                yield name


def in_shard(name, shard):
    """Whether a name belongs to shard (i, n), 1 <= i <= n. Nothing else counts, so that all shards
    agree."""
    digest = hashlib.blake2b(os.fsencode(name), digest_size=8).digest()
    number, count = shard
    return int.from_bytes(digest) % count == number - 1


def name_inside(path, root, paths=os.path):
    """The name of a file relative to `root`. Of a file that was listed and is not in it, the whole
    path without its start, on Windows with the drive: C:\\a\\x.jpg => C\\a\\x.jpg."""
    try:
        name = paths.relpath(path, root)
    except ValueError:  # on another drive
        name = paths.pardir
    if name.split(paths.sep)[0] != paths.pardir:
        return name
    drive, rest = paths.splitdrive(paths.abspath(path))
    return paths.join(drive.replace(":", ""), rest.lstrip("/\\")).lstrip("/\\")


class ImageFiles:
    """The images of args.input and args.input_list that belong to args.shard, as a source for
    Pipeline. unfinished: a folder for files that are being written."""

    damage = None

    def __init__(self, args, module, model, unfinished):
        self.args = args
        self.module = module
        self.model = model
        self.unfinished = unfinished
        self.is_folder = bool(args.input) and os.path.isdir(args.input)
        self.root = "."
        if args.input:
            self.root = args.input if self.is_folder else os.path.dirname(args.input) or "."
        self.size = None if getattr(model.args, "native_size", True) else model.crop
        direction = model.args.which_direction
        self.domain = model.domains[direction[0]]
        self.output_domain = model.domains[direction[-1]]
        self.threads = min(16, count_cores())
        self.total = None
        is_pipe = args.input_list and not os.path.isfile(args.input_list)  # which is read once
        is_terminal = getattr(sys.stderr, "isatty", bool)()
        if is_terminal and not is_pipe:
            self.total = sum(in_shard(name, args.shard) for name in self.all_names())

    @contextlib.contextmanager
    def opened(self):
        """There is nothing to open or to close."""
        yield self

    def all_names(self):
        """The names of all images, of all shards."""
        if self.args.input_list:
            return names_listed(self.args.input_list)
        if self.is_folder:
            return names_in(self.root, self.args.recursive)
        return [os.path.basename(self.args.input)]

    def items(self):
        """The names of this shard. Raises UserError if there is none of any shard."""
        is_empty = True
        for name in self.all_names():
            is_empty = False
            if in_shard(name, self.args.shard):
                yield name
        if is_empty:
            hint = "; --recursive looks into its folders too"
            if self.args.recursive or self.args.input_list:
                hint = ""
            raise UserError(
                f"no images in {self.args.input_list or self.args.input}: expected "
                f"files ending in {', '.join(IMAGE_TYPES)}{hint}"
            )

    def target_of(self, name):
        """The file for a translation: a.png of a.jpg; if there is an a.bmp too, a.jpg.png."""
        path = os.path.join(self.root, name)
        name = name_inside(path, self.root)
        folder, last = os.path.split(name)
        if last not in self.ambiguous_names(os.path.dirname(path) or "."):
            last, _ = os.path.splitext(last)
        suffix = self.output_domain.suffix(path)
        if suffix == ".png":
            suffix = f".{self.args.format}"
        return Path(self.args.output_dir, folder, shorten(last) + suffix)

    @functools.lru_cache(maxsize=8)  # noqa: B019 - one object for the whole run
    def ambiguous_names(self, folder):
        """The names of images in a folder whose translations keep the extension: another image
        differs in its extension only (a.jpg, a.png), or is called as the rest (a.jpg.png, a.jpg).
        """
        names = set()
        with contextlib.suppress(OSError):
            names = {name for name in os.listdir(folder) if name.lower().endswith(IMAGE_TYPES)}
        stems = collections.Counter(os.path.splitext(name)[0] for name in names)
        ambiguous = set()
        for name in names:
            stem, _ = os.path.splitext(name)
            if stems[stem] > 1 or stem in names:
                ambiguous.add(name)
        return ambiguous

    def read(self, name):
        """An image for the network, [h, w, c]; None if its translation is there."""
        path = os.path.join(self.root, name)
        if "\0" in name or not os.path.isfile(path):
            raise Failed("no such file")
        with self.naming_reasons(path):
            target = self.target_of(name)
        if target.exists():
            if os.path.samefile(target, path):
                raise Failed("its translation would replace it: choose another --output_dir")
            if self.args.skip_existing:
                return None
        with self.naming_reasons(path):
            return self.domain.read(path, self.size)

    @contextlib.contextmanager
    def naming_reasons(self, path):
        """Turns the errors of the reader into reasons, without the path."""
        try:
            yield
        except self.module.UserError as error:
            reason = str(error).removeprefix(path).lstrip(": ")
            raise Failed(reason) from None
        except OSError as error:
            raise Failed(error.strerror) from None

    def write(self, name, pixels):
        """Writes the translation of an image."""
        height = len(pixels)
        aspect_ratio = self.model.aspect_ratio
        if aspect_ratio != 1:
            pixels = self.module.resize_array(pixels, [height, round(height * aspect_ratio)])
        target = self.target_of(name)
        if self.output_domain.is_viewable and target.suffix == f".{self.args.format}":
            contents = self.encode_picture(pixels)
        else:
            with self.naming_reasons(name):
                contents = self.module.encode_array(pixels, target.suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(target, self.unfinished) as part:
            part.write_bytes(contents)
            if target.suffix == ".tif":
                self.module.copy_georeference(os.path.join(self.root, name), part)

    def encode_picture(self, pixels):
        """uint8 [h, w, 3] or [h, w, 1] => bytes of a file as --format says."""
        options = dict(SAVE[self.args.format])
        if self.args.format != "png":
            options["quality"] = self.args.quality or 95
        contents = io.BytesIO()
        try:
            Image.fromarray(pixels.squeeze(axis=2) if pixels.shape[2] == 1 else pixels).save(
                contents, **options
            )
        except Exception as error:  # larger than the format can hold
            raise Failed(f"cannot be saved as {self.args.format}: {error}") from None
        return contents.getbuffer()


def open_video(args, module, model, unfinished):
    """The frames of the video args.input, as a source for Pipeline."""

    def fit(frame):
        if getattr(model.args, "native_size", True) or frame.shape[:2] == model.crop:
            return frame
        return module.resize(frame, model.crop)

    return video.Frames(
        args.video, args.start, args.seconds, args.video_target, unfinished, fit, module.resize
    )


# -------------------------------------------------------------------------------------------- main


def parse_shard(text):
    """For argparse: "3/16" => (3, 16)."""
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    shard = tuple(map(int, match.groups())) if match else (0, 0)
    number, count = shard
    if not 1 <= number <= count:
        raise argparse.ArgumentTypeError(f"{text!r}: give I/N with I from 1 to N, as in 3/16")
    return shard


def parse():
    """The command line, checked as far as it can be without a network. Adds args.video."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("checkpoint", help="the --output_dir of a training, or a checkpoint in it: DIR/model-2000")
    add("input", nargs="?", help="a folder of images, one image or one video")
    add(
        "--input_list",
        metavar="FILE",
        help="names of images, one per line, relative to INPUT if given",
    )
    add("--output_dir", required=True, help="folder for the translations, made if missing")
    add(
        "--recursive",
        action="store_true",
        help="also the folders in INPUT; --output_dir gets them too",
    )
    add("--which_direction", choices=["AtoB", "BtoA"], help="direction of unpaired training (AtoB)")
    add(
        "--native_size", action="store_true", help="at the size of each image, not that of training"
    )
    add(
        "--tile_size",
        type=positive_integer,
        help="pixels; larger images go through in such windows",
    )
    add(
        "--stitch",
        choices=["blend", "tiles", "whole"],
        help="siamesegan.py: how windows cover an image (blend)",
    )
    add(
        "--mixed_precision",
        choices=["off", "bfloat16", "float16"],
        help="faster on recent GPUs and some CPUs, see docs/faq.md",
    )
    add(
        "--batch_size",
        type=positive_integer,
        default=1,
        help="images of one size that the network translates at once (1); more are faster on a GPU",
    )
    add(
        "--engine",
        choices=["tensorflow", "litert", "auto"],
        default="tensorflow",
        help="litert: 8-bit weights, on CPUs; auto: litert if faster and near (tensorflow)",
    )
    add(
        "--format",
        choices=list(SAVE),
        help="format of 8-bit translations (png); others are PNG of 16 bits, .npy or .tif",
    )
    add("--quality", type=quality, metavar="1-100", help="quality of jpg and webp (95)")
    add("--skip_existing", action="store_true", help="leave out images whose translation is there")
    add(
        "--shard",
        type=parse_shard,
        default=(1, 1),
        metavar="I/N",
        help="translate part I of N of the images; all parts together are the same files as one "
        "run",
    )
    seconds = {"type": not_negative, "metavar": "SECONDS"}
    add("--start", default=0.0, help="begin a video there (0)", **seconds)
    add("--seconds", help="length to translate, from --start on (all)", **seconds)
    args = parser.parse_args()
    if args.engine != "tensorflow" and args.mixed_precision not in (None, "off"):
        raise UserError(f"--mixed_precision is for --engine tensorflow, not {args.engine}")
    args.format_given = args.format is not None
    args.format = args.format or "png"
    check_input(args)
    check_kind(args)
    return args


def check_input(args):
    """Raises UserError if there is nothing to translate, or a wrong mixture of names and lists."""
    if not args.input and not args.input_list:
        raise UserError("give a folder, an image, a video, or --input_list")
    for path in (args.input, args.input_list):
        if path and not os.path.exists(path):
            raise UserError(f"no such file or folder: {path}")
    if args.input_list and (os.path.isdir(args.input_list) or not os.path.isdir(args.input or ".")):
        raise UserError(
            "--input_list is a text file of names, and INPUT, if given too, the folder "
            "that they are in"
        )
    if args.input and os.path.isdir(args.input):
        into = os.path.realpath(args.output_dir)
        source = os.path.realpath(args.input)
        is_inside = args.recursive and into.startswith(os.path.join(source, ""))
        if into == source or is_inside:
            raise UserError(
                f"{args.output_dir} is in {args.input}, so that translations would be "
                "translated again: choose another --output_dir"
            )


def check_kind(args):
    """Sets args.video, whether the input is a video. Raises UserError for flags of the
    other kind."""
    is_folder = os.path.isdir(args.input or ".")
    args.video = not is_folder and not args.input.lower().endswith(IMAGE_TYPES)
    if args.quality and (args.format == "png" or args.video):
        raise UserError("--quality is for --format jpg and webp")
    if args.video and args.shard != (1, 1):
        raise UserError(
            "--shard is for images: give each machine a part of the video with --start "
            "and --seconds"
        )
    if not args.video and (args.start or args.seconds):
        raise UserError("--start and --seconds are for a video")


def quality(text):
    """For argparse."""
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 1 to 100")
    return int(text)


@contextlib.contextmanager
def unfinished_folder(args):
    """A folder in args.output_dir for files that are being written. It keeps out other runs of the
    same shard, and what a killed run left in it is removed."""
    number, count = args.shard
    folder = Path(args.output_dir, f".unfinished-{number}-of-{count}")
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(
            f"shard {number}/{count} of {args.output_dir} is being written by another "
            "run: give each a --shard of its own"
        ) from None
    try:
        for path in folder.iterdir():
            path.unlink()
        yield folder
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()
        lock.release()
        with contextlib.suppress(OSError):
            os.unlink(lock.lock_file)


def main():
    args = parse()
    if args.video:
        args.video = video.describe(args.input)
        args.video_target = Path(args.output_dir, f"{shorten(Path(args.input).stem)}.mp4")
        if args.video_target.exists() and args.video_target.samefile(args.input):
            raise UserError(
                f"the translation would replace {args.input}: choose another --output_dir"
            )
        if args.video_target.exists() and args.skip_existing:
            print(f"{args.video_target} is there already")
            return 0
    try:
        with unfinished_folder(args) as unfinished:
            return translate(args, unfinished)
    except OSError as error:
        reason = f"{error.filename or args.output_dir}: {error.strerror or error}"
        raise UserError(
            f"{reason}; when that is mended, --skip_existing continues: finished files are whole"
        ) from None


def load_model(args):
    """The module of the algorithm that args.checkpoint was trained by, and its model."""
    module, _ = load_algorithm(script_of(args.checkpoint))
    names = ("which_direction", "tile_size", "stitch", "mixed_precision")
    flags = {name: getattr(args, name) for name in names}
    if "native_size" in module.FLAGS:  # siamesegan.py knows nothing else
        flags["native_size"] = args.native_size
    if "paired" in module.FLAGS:
        flags["paired"] = False
    module, model = load_trained(
        args.checkpoint, input_dir=".", output_dir=args.output_dir, **flags
    )
    domains = model.domains.values()
    if args.video and not all(domain.is_rgb for domain in domains):
        raise UserError("a video is 8-bit RGB, and this network is for other data: give images")
    target = model.domains[model.args.which_direction[-1]]
    if args.format_given and not target.is_viewable:
        raise UserError(f"--format {args.format} does not hold {target}: leave --format out")
    return module, model


def translate(args, unfinished):
    """All of a run after the command line. Returns the exit code."""
    module, model = load_model(args)
    given = args.input_list or args.input
    print(f"{given} => {args.output_dir}; {model.args.device}", flush=True)
    engine = litert.choose_engine(args, module, model)
    network = engine or functools.partial(
        model.translate_images, direction=model.args.which_direction
    )
    make_source = open_video if args.video else ImageFiles
    unit = " frames" if args.video else " images"
    start = time.perf_counter()
    with (
        make_source(args, module, model, unfinished).opened() as source,
        tqdm(total=source.total, unit=unit, disable=None, smoothing=0.05) as progress,
    ):
        pipeline = Pipeline(source, network, args.batch_size, progress)
        try:
            pipeline.run()
        except module.tf.errors.ResourceExhaustedError:
            raise UserError(
                "the network needs more memory: give a lower --batch_size or --tile_size"
            ) from None
    seconds = max(time.perf_counter() - start, 1e-9)  # a clock may stand still
    module.report_clipped()
    if args.video:
        pipeline.skipped = 0  # the end of the video counted as one
    if source.damage:
        pipeline.failed[args.input] = (
            f"damaged, {pipeline.done} frames could be read: {source.damage}"
        )
    engine_name = engine.name if engine else "tensorflow"
    summary = write_summary(args, given, pipeline, seconds, engine_name)
    there = f", {pipeline.skipped} there already" if args.skip_existing else ""
    rate = pipeline.done / seconds
    print(f"done: {pipeline.done}{unit}{there}, {rate:.2f} per second; see {args.output_dir}")
    if pipeline.failed:
        path, reason = next(iter(pipeline.failed.items()))
        raise UserError(f"{len(pipeline.failed)} failed: {path}: {reason}; {summary} names all")
    return 0


def write_summary(args, given, pipeline, seconds, engine_name):
    """Writes what was done and what failed. Returns the path of the file."""
    number, count = args.shard
    name = "summary.json" if count == 1 else f"summary-{number}-of-{count}.json"
    path = Path(args.output_dir, name)
    summary = {
        "checkpoint": args.checkpoint,
        "input": given,
        "engine": engine_name,
        "shard": f"{number}/{count}",
        "done": pipeline.done,
        "skipped": pipeline.skipped,
        "failed": pipeline.failed,
        "seconds": round(seconds, 3),
        "images_per_second": round(pipeline.done / seconds, 3),
    }
    write_text(path, json.dumps(summary, indent=2) + "\n")
    return path


if __name__ == "__main__":
    run(main)
