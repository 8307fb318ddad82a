"""Prepares folders of images for training: resize, crop, blank, combine, grayscale, edges, pad,
split, stack, heads.

    python tools/process.py --operation resize --input_dir photos --output_dir whole --size 256
    python tools/process.py --operation blank --input_dir whole --output_dir blanked
    python tools/process.py --operation combine --input_dir whole --b_dir blanked --output_dir pairs
    python tools/process.py --operation edges --hand 0.5 --variants 6 --input_dir whole \
        --output_dir drawings

Reads what Pillow reads (grey, palette, CMYK, RGBA over white, EXIF rotation applied) and writes
8-bit RGB. Arrays (.npy, TIFF of other types, PNG of 16 bits) keep their type and channels in
resize, crop, combine, split and stack. Images already in the output folder are skipped, so an
interrupted run continues. docs/process.md says what each does.
"""

import argparse
import contextlib
import dataclasses
import io
import multiprocessing
import os
import re
import signal
import sys
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import filelock
import numpy as np
from common import Parser, UserError, count_cores, positive_integer, run, written_whole
from images import (
    by_stem,
    check_pairs,
    copy_georeference,
    encode_array,
    first_ten,
    is_array,
    kind_of,
    open_file,
    open_image,
    photo_of,
    read_array,
    resize_array,
    say_left_out,
    tags_of,
)
from PIL import Image, ImageOps
from tqdm import tqdm

WHITE = (255, 255, 255)
# JPEG without colour subsampling: thin edges and the seam of a pair stay sharp.
SAVE = {"png": {"format": "PNG"}, "jpg": {"format": "JPEG", "quality": 95, "subsampling": 0}}
ARRAY_OPERATIONS = ("resize", "crop", "combine", "split", "stack")  # of arrays too
WRITING = threading.Lock()  # held while a worker writes a file


def size_upright(path):
    """(width, height) of the image that open_image() gives, from the header alone."""
    with open_file(path) as image:
        width, height = image.size
        orientation = 1
        with contextlib.suppress(Exception):  # broken EXIF data turn no image
            orientation = image.getexif().get(0x0112, 1)
    is_sideways = orientation in (5, 6, 7, 8) and image.format != "TIFF"  # Pillow swaps its sides
    return (height, width) if is_sideways else (width, height)


def resize(image, size, pad):
    """To `size` (width, height): what exceeds its aspect is cut off, or with `pad` white is
    added."""
    if pad:
        return ImageOps.pad(image, size, Image.Resampling.LANCZOS, color=WHITE)
    return ImageOps.fit(image, size, Image.Resampling.LANCZOS)


def blank(image):
    """White square in the centre, 0.3 times as wide as the shorter side, for an inpainting network
    to fill."""
    side = int(min(image.size) * 0.3)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image.paste(WHITE, (left, top, left + side, top + side))
    return image


def combine(a, b):
    """A pair in one image, A on the left."""
    if a.size != b.size:
        raise UserError(f"{a.width}x{a.height} and {b.width}x{b.height}: resize them first")
    pair = Image.new("RGB", (a.width + b.width, a.height))
    pair.paste(a, (0, 0))
    pair.paste(b, (a.width, 0))
    return pair


def head_of(image, size, pad, is_round):
    """The upper part of a thing on white, a square, at `size` (width, height) if given: of a cat,
    its head and shoulders. White is added where the image ends. Raises UserError for small things.

    It is about as high as the upper half of the thing, and about the middle of what is highest.
    is_round: without shoulders, see cut_round().
    """
    is_thing = np.asarray(image).min(axis=2) < 235
    if is_thing.mean() > 0.95:
        raise UserError("it fills the image: --operation heads needs a thing cut out on white")
    rows = np.flatnonzero(is_thing.sum(axis=1) >= 3)
    columns = np.flatnonzero(is_thing.sum(axis=0) >= 3)
    if min(len(rows), len(columns)) < 40:
        raise UserError("no thing on white of 40 pixels or more: --operation heads needs one")
    top = rows[0]
    height = rows[-1] - top
    width = np.ptp(columns)
    share = 0.55 if height >= width else 0.62  # what lies has its head lower
    side = int(max(share * height, 0.4 * width))
    highest = is_thing[top : top + side // 3].sum(axis=0)
    middle = np.average(np.arange(image.width), weights=highest)
    margin = int(0.08 * side)
    half = side // 2 + margin
    left = int(middle) - half
    upper = top - margin
    part = Image.new("RGB", (2 * half, 2 * half), WHITE)
    part.paste(image, (-left, -upper))
    if is_round:
        part = cut_round(part)
    return resize(part, size, pad) if size else part


def cut_round(image):
    """White below an arc in the lower half: a head alone, as people draw it."""
    pixels = np.array(image)
    height, width = pixels.shape[:2]
    down = (np.arange(height)[:, None] / height - 0.45) / 0.43
    across = (np.arange(width) / width - 0.5) / 0.44
    pixels[(down > 0) & (down**2 + across**2 > 1)] = 255
    return Image.fromarray(pixels)


@dataclasses.dataclass
class Job:
    """One file to make. args: of the command line. variant: of --variants, from 1."""

    paths: list
    output: Path
    args: argparse.Namespace
    variant: int = 1


def find_lines(image, detail=1.0):
    """The main contours of an image as lines one pixel thin, bool [h, w]. The numbers were chosen
    by looking at results.

    OpenCV's Canny over all channels of Lab, so that contours between colours of one brightness
    count. Smoothing, least strength of a contour and least length of a line grow with the image:
    drawings at 256 and at 2000 pixels are alike. detail: 1, all lines, to 0, outlines alone.
    """
    import cv2

    cv2.setNumThreads(1)  # the worker processes use the cores
    shorter = min(image.size)
    lab = cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2LAB)
    for _ in range(2):  # texture goes, contours stay sharp
        lab = cv2.bilateralFilter(lab, d=9, sigmaColor=40, sigmaSpace=5)
    softness = 4 ** (1 - detail)
    sigma = max(0.8, 0.6 * shorter / 256) * softness
    lab = cv2.GaussianBlur(lab.astype(np.float32), (0, 0), sigma)
    # Canny takes 16-bit slopes: times 16, so that rounding does not break soft lines; times sigma,
    # for the size.
    dx = cv2.Sobel(lab, cv2.CV_32F, 1, 0, scale=16 * sigma)
    dy = cv2.Sobel(lab, cv2.CV_32F, 0, 1, scale=16 * sigma)
    # Only the strongest tenth of the slopes can start a line; the least value keeps out the noise
    # of flat images.
    strong = max(np.percentile(cv2.magnitude(dx, dy)[::2, ::2].max(axis=2), 90), 768)
    dx = np.clip(dx, -32767, 32767).astype(np.int16)
    dy = np.clip(dy, -32767, 32767).astype(np.int16)
    lines = cv2.Canny(dx, dy, 0.3 * strong, strong, L2gradient=True)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(lines, connectivity=8)
    is_speck = stats[:, cv2.CC_STAT_AREA] < softness * shorter / 16
    lines[is_speck[labels]] = 0
    return lines > 0


def edges(image):
    """Black lines one pixel thin on white, along the main contours."""
    drawing = np.where(find_lines(image), 0, 255).astype(np.uint8)
    return Image.fromarray(drawing).convert("RGB")


def draw_by_hand(image, job):
    """Lines like a person's: see hand.py. The same for the same name, --seed and --hand."""
    import hand

    random = hand.random_of(job.args.seed, job.paths[0].stem, job.variant)
    args = job.args
    return hand.draw(find_lines, image, random, args.hand, args.colours, args.whiskers)


def keeps_arrays(args, paths):
    """Whether a result has the type of its files. JPEG has 8 bits, and so has what is padded."""
    if args.operation == "stack":
        return True
    makes_images = args.operation not in ARRAY_OPERATIONS or args.pad or args.format == "jpg"
    return not makes_images and all(map(is_array, paths))


def suffix_of(args, paths):
    """The extension of a result: as --format says, of arrays that of the first file."""
    wanted = args.format
    try:
        if not keeps_arrays(args, paths):
            return f".{wanted}"
        suffix = {"npy": ".npy", "tiff": ".tif", "deep png": ".png"}.get(kind_of(paths[0]), ".npy")
    except (OSError, UserError):  # reported by the worker
        return f".{wanted}"
    return ".npy" if args.operation == "stack" and suffix == ".png" else suffix


def make_array(operation, arrays, size, half):
    """Arrays [h, w, c] => the result of an operation, of their type."""
    first = arrays[0]
    if operation == "resize":
        width, height = size
        scale = max(height / first.shape[0], width / first.shape[1])
        cut = (round(width / scale), round(height / scale))
        return resize_array(crop_array(first, cut), (height, width))
    if operation == "crop":
        return crop_array(first, size)
    if operation == "split":
        middle = half_of(first.shape[1])
        return first[:, :middle] if half == "A" else first[:, middle:]
    if len({array.shape[:2] for array in arrays}) > 1:
        sizes = " and ".join(f"{array.shape[1]}x{array.shape[0]}" for array in arrays)
        raise UserError(f"{sizes}: resize them first")
    if len({array.dtype for array in arrays}) > 1 or (
        operation == "combine" and len({array.shape for array in arrays}) > 1
    ):
        kinds = " and ".join(f"{array.dtype} [{array.shape[-1]} channels]" for array in arrays)
        raise UserError(f"{kinds}: one array holds one type; folders trainA and trainB hold both")
    return np.concatenate(arrays, axis=1 if operation == "combine" else 2)


def channels_of(path):
    """1 for a grey picture, else None: what read_array() takes."""
    if is_array(path):
        return None
    with open_file(path) as image:
        return 1 if image.mode in ("1", "L") else None


def crop_array(array, size):
    """The middle of an array, of `size` (width, height)."""
    width, height = size
    if array.shape[0] < height or array.shape[1] < width:
        raise UserError(f"{array.shape[1]}x{array.shape[0]} is smaller than --size")
    top = (array.shape[0] - height) // 2
    left = (array.shape[1] - width) // 2
    return array[top : top + height, left : left + width]


def half_of(width):
    """Where a pair of this width is cut. Raises UserError for an odd one."""
    if width % 2:
        raise UserError(f"a pair has an even width, not {width}")
    return width // 2


def encode_image(image, output, save):
    """An image of Pillow or an array => bytes of a file."""
    if isinstance(image, np.ndarray):
        return encode_array(np.ascontiguousarray(image), output.suffix)
    buffer = io.BytesIO()
    image.save(buffer, **save)
    return buffer.getvalue()


def process(job):
    """One output image, in a worker process. Returns None, or why the image could not be made."""
    operation = job.args.operation
    paths = job.paths
    output = job.output
    names = " + ".join(map(str, paths))
    try:
        if keeps_arrays(job.args, paths):
            arrays = [read_array(path, channels_of(path)) for path in paths]
            result = make_array(operation, arrays, job.args.size, job.args.half)
        else:
            result = make(job, [open_image(path) for path in paths])
        contents = encode_image(result, output, SAVE[job.args.format])
    except UserError as error:
        is_named = any(str(path) in str(error) for path in paths)
        return str(error) if is_named else f"{names}: {error}"
    except Exception as error:  # whatever it is, the other images are still done
        return f"{names}: {' '.join(str(error).split()) or type(error).__name__}"
    try:
        with WRITING, written_whole(output) as temporary:
            temporary.write_bytes(contents)
            if output.suffix == ".tif" and operation == "stack":
                copy_georeference(paths[0], temporary)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot write {output}: {reason}; make room or choose another --output_dir"
        ) from None
    return None


def make(job, images):
    """One image, or for combine two, => the result of an operation."""
    operation = job.args.operation
    size = job.args.size
    image = images[0]
    if operation == "combine":
        return combine(*images)
    if operation == "pad":
        longer = max(image.size)
        return resize(image, size or (longer, longer), pad=True)
    if operation == "crop":
        return Image.fromarray(crop_array(np.asarray(image), size))
    if operation == "split":
        middle = half_of(image.width)
        left, right = (0, middle) if job.args.half == "A" else (middle, image.width)
        return image.crop((left, 0, right, image.height))
    if operation == "heads":
        return head_of(image, size, job.args.pad, job.args.round)
    if size:
        image = resize(image, size, job.args.pad)
    if operation == "grayscale":
        return ImageOps.grayscale(image).convert("RGB")
    if operation == "blank":
        return blank(image)
    if operation == "edges":
        return draw_by_hand(image, job) if job.args.hand else edges(image)
    return image


def start_worker():
    """Makes a worker end when its parent is killed, though not amid a file; else it would wait for
    work for ever."""

    warnings.filterwarnings("ignore", module="PIL")  # of broken EXIF data

    def watch():
        multiprocessing.parent_process().join()
        WRITING.acquire()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def check_sizes(jobs):
    """Raises UserError unless both images of every pair have one size. Unreadable ones are reported
    later."""
    unequal = []
    for a, b in tqdm([job.paths for job in jobs], unit=" pairs checked", disable=None):
        try:
            sizes = size_upright(a), size_upright(b)
        except Exception:
            continue
        if sizes[0] != sizes[1]:
            unequal.append("{} {}x{} / {}x{}".format(a.name, *sizes[0], *sizes[1]))
    if unequal:
        raise UserError(
            f"{len(unequal)} pairs differ in width x height, resize them first: "
            f"{first_ten(unequal)}"
        )


def parse_size(text):
    """'256' or '256x512' (height x width) to (width, height)."""
    if not re.fullmatch(r"[0-9]+(x[0-9]+)?", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size: give 256, or 256x512 for height x width"
        )
    height, _, width = text.partition("x")
    size = int(width or height), int(height)
    if min(size) < 1:
        raise argparse.ArgumentTypeError(f"a size of {text} holds no image: give at least 1")
    return size


def share(text):
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")
    return value


def check_hand(args):
    """Raises UserError for options of drawings by hand that make no sense."""
    if args.hand and args.operation != "edges":
        raise UserError("--hand is for --operation edges")
    for name in ("colours", "whiskers"):
        if getattr(args, name) and not args.hand:
            raise UserError(f"--{name} needs --hand, such as 0.5")
    if args.variants > 1 and not args.hand:
        raise UserError("--variants needs --hand, such as 0.5: without it all would be the same")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: give 0 or more")


def parse():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--input_dir",
        required=True,
        type=Path,
        help="folder of images (combine: of domain A, left)",
    )
    parser.add_argument(
        "--output_dir", required=True, type=Path, help="folder for the results, made if missing"
    )
    operations = [
        "resize",
        "crop",
        "blank",
        "combine",
        "grayscale",
        "edges",
        "pad",
        "split",
        "stack",
        "heads",
    ]
    parser.add_argument(
        "--operation", required=True, choices=operations, help="what to do with every image"
    )
    parser.add_argument(
        "--b_dir",
        type=Path,
        help="combine, stack: folder of domain B (right, last), with the names and sizes of A",
    )
    parser.add_argument(
        "--size", type=parse_size, help="256, or 256x512 (height x width), pixels (resize: 256)"
    )
    parser.add_argument(
        "--pad", action="store_true", help="add white to reach --size, rather than cut off the rest"
    )
    parser.add_argument(
        "--format",
        choices=list(SAVE),
        default="png",
        help="file format of the results (png); jpg makes 8 bits of 16",
    )
    parser.add_argument("--half", choices=["A", "B"], help="split: the half of a pair A|B to take")
    parser.add_argument(
        "--hand",
        type=share,
        default=0.0,
        help="edges: lines like a person's, from 0, as the image has them, to 1, as a child draws",
    )
    parser.add_argument(
        "--variants",
        type=positive_integer,
        default=1,
        help="edges with --hand: drawings of each image, NAME.hand1 and so on (1: NAME)",
    )
    parser.add_argument(
        "--colours",
        type=share,
        default=0.0,
        help="edges with --hand: share of the drawings with some strokes in the image's colours",
    )
    parser.add_argument(
        "--whiskers",
        type=share,
        default=0.0,
        help="edges with --hand: share of the drawings with loose strokes, which leave a thing on "
        "white outwards",
    )
    parser.add_argument("--seed", type=int, default=0, help="edges with --hand: chooses them (0)")
    parser.add_argument(
        "--round", action="store_true", help="heads: without shoulders, cut off along an arc"
    )
    workers = count_cores()
    parser.add_argument(
        "--workers",
        type=positive_integer,
        default=workers,
        help=f"processes (all cores: {workers})",
    )
    args = parser.parse_args()
    takes_two = args.operation in ("combine", "stack")
    if takes_two and not args.b_dir:
        raise UserError(f"--operation {args.operation} needs --b_dir")
    if args.b_dir and not takes_two:
        raise UserError("--b_dir is for --operation combine and stack")
    if args.operation in ("combine", "stack", "split") and (args.size or args.pad):
        raise UserError(
            f"{args.operation} takes images as they are; use --operation resize on them first"
        )
    if args.operation == "crop" and not args.size:
        raise UserError("--operation crop needs a --size")
    if (args.operation == "split") != (args.half is not None):
        raise UserError("--operation split needs --half A or B, and no other operation takes it")
    if args.operation == "resize" and not args.size:
        args.size = (256, 256)
    if args.pad and not args.size:
        raise UserError(
            "--pad needs a --size to pad to (--operation pad makes squares without one)"
        )
    if args.round and args.operation != "heads":
        raise UserError("--round is for --operation heads")
    check_hand(args)
    if args.operation == "edges":
        try:
            import cv2  # noqa: F401
        except ImportError:
            raise UserError(
                "--operation edges needs OpenCV: pip install opencv-python-headless"
            ) from None
    return args


def with_drawings(photos, drawings):
    """{name: path} of photos => the same with a photo NAME for each drawing NAME.hand1, NAME.hand2
    and so on that has none of its own name."""
    found = {}
    for name in drawings:
        of = name if name in photos else photo_of(name)
        if of in photos:
            found[name] = photos[of]
    used = set(found.values())
    return found | {name: path for name, path in photos.items() if path not in used}


def find_sources(args):
    """{name: paths} of the images to process: one each, or for combine two. Raises UserError."""
    inputs = by_stem(args.input_dir)
    folders = [args.input_dir]
    sources = {name: [path] for name, path in inputs.items()}
    if args.b_dir:
        other = with_drawings(by_stem(args.b_dir), inputs)
        check_pairs(inputs, other, args.input_dir, args.b_dir)
        folders.append(args.b_dir)
        sources = {name: [path, other[name]] for name, path in inputs.items()}
    if args.output_dir.resolve() in [folder.resolve() for folder in folders]:
        raise UserError(f"{args.output_dir} is an input folder too; give another --output_dir")
    say_left_out(args.input_dir, inputs.values())
    return sources


@contextlib.contextmanager
def own_folder(folder, names):
    """Makes the folder for the results, which may have these names, and keeps other runs out of it.
    Removes what a killed run left half-written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".process.lock")
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(
            f"another process.py writes to {folder}: wait for it, or give another --output_dir"
        ) from None
    except OSError as error:
        raise UserError(
            f"cannot make the folder {folder}: {error.strerror}; choose another --output_dir"
        ) from None
    try:
        for part in folder.glob(".*.part"):
            if part.name[1:].rsplit(".", 2)[0] in names:
                part.unlink()
        yield
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            os.unlink(lock.lock_file)


def warn_of_place(operation, path):
    """Warns if results lose the place on earth that the first file has."""
    try:
        is_placed = kind_of(path) == "tiff" and {33550, 33922, 34264} & set(tags_of(path))
    except Exception:  # it is damaged, which the worker says
        return
    if is_placed and operation != "stack":
        print(
            f"warning: {path} has a place on earth, which results of --operation {operation} have "
            "not",
            file=sys.stderr,
        )


def run_jobs(jobs, workers):
    """Processes the jobs in worker processes. Returns why images could not be made."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # spawn: a fork of a process with OpenCV's threads may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(max(1, min(workers, len(jobs))), context, start_worker)
    try:
        # inherited: on Ctrl-C workers finish their image
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        # starts them all, before there is work: a Ctrl-C during the work is not missed
        pool.submit(abs, 0)
        signal.signal(signal.SIGINT, interrupt)
        with tqdm(
            pool.map(process, jobs), total=len(jobs), unit=" images", disable=None
        ) as progress:
            return [failure for failure in progress if failure]
    except BrokenProcessPool:
        reason = "a worker was killed, perhaps out of memory"
        raise UserError(f"{reason}; run again with fewer --workers to do the rest") from None
    finally:
        pool.shutdown(cancel_futures=True)  # also of an end while map() still hands out the work


def find_jobs(args, sources):
    """The files to make of {name: paths}."""
    jobs = []
    for name, paths in sources.items():
        suffix = suffix_of(args, paths)
        for variant in range(1, args.variants + 1):
            result = name
            if args.variants > 1:
                result = f"{name}.hand{variant}"
            if args.operation == "heads":  # so that heads and wholes can be put together
                result = f"{name}.round" if args.round else f"{name}.head"
            jobs.append(Job(paths, args.output_dir / f"{result}{suffix}", args, variant))
    return jobs


def main():
    args = parse()
    sources = find_sources(args)
    warn_of_place(args.operation, next(iter(sources.values()))[0])
    todo = find_jobs(args, sources)
    jobs = [job for job in todo if not job.output.exists()]
    if args.operation == "combine":
        check_sizes(jobs)
    with own_folder(args.output_dir, {job.output.name for job in todo}):
        failures = run_jobs(jobs, args.workers)
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    made = len(jobs) - len(failures)
    skipped = len(todo) - len(jobs)
    print(f"{args.output_dir}: {made} made, {skipped} there already, {len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    run(main)
