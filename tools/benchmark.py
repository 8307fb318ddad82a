"""Measures how fast an algorithm trains: the training step, the input pipeline alone, the first
step, memory.

    python tools/benchmark.py pix2pix
    python tools/benchmark.py pix2pix --steps 50 --json -- --mixed_precision bfloat16 --batch_size 4
    python tools/benchmark.py pix2pix --yardstick "python tests/reference/reference_torch.py"
    python tools/benchmark.py cyclegan --replicas 4

The algorithm's own flags follow after --. Without --input_dir among them it trains on 64 random
images, or 64 in each domain, of the size that training scales to.
"""

import argparse
import copy
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

from common import Parser, UserError, in_our_words, load_algorithm, positive_integer, run


def make_images(folder, count, height, width, is_pair=False):
    """Writes random smooth JPEGs of height x width pixels, or pairs of such images side by side.
    They take as long to decode as photographs."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for index in range(count):
        halves = []
        for _ in range(2 if is_pair else 1):
            noise = generator.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
            smooth = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
            halves.append(np.asarray(smooth))
        Image.fromarray(np.concatenate(halves, axis=1)).save(folder / f"{index}.jpg", quality=90)


STARTED = time.monotonic()  # of this process, but for the start of Python


def peak_memory():
    """The most memory that this process has had, in GiB; None on Windows, which does not tell."""
    try:
        import resource
    except ImportError:
        return None
    units_per_gib = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units_per_gib


def summary(seconds, images):
    """Median, minimum and maximum of a list of times, and images per second at the median."""
    median = statistics.median(seconds)
    return {
        "seconds": median,
        "min": min(seconds),
        "max": max(seconds),
        "images_per_second": images / median,
    }


def read_flags(args, module, algorithm):
    """The flags after -- as an algorithm takes them."""
    argv = [args.algorithm, *args.flags]
    values = copy.deepcopy(module.FLAGS)
    unused = values(argv)[1:]
    if unused:
        raise UserError(f"not a flag: {unused[0]}")
    options = SimpleNamespace(**values.flag_values_dict(), version=module.VERSION, given=set())
    if options.input_dir:
        with in_our_words(module):
            options.domains = module.find_domains(options, algorithm)
    else:
        rgb = module.dataclasses.asdict(module.Domain())
        options.domains = {"A": rgb, "B": rgb}
    if options.deterministic is None:
        options.deterministic = options.seed is not None
    options.seed = options.seed or 0
    return options


def make_data(module, options, folder, is_pair):
    """Random images in a folder, pairs or two domains, of the size that training scales to."""
    if "scale_size" in vars(options):
        crop, scale = module.parse_sizes(options.crop_size, options.scale_size)
        scale = scale or crop
    else:  # siamesegan
        scale = options.train_size * 2 // 3 or 1280, options.train_size or 1920
    folder.mkdir()
    height, width = scale
    if is_pair:
        make_images(folder, 64, height, width, is_pair=True)
        return
    for name in ("trainA", "trainB"):
        (folder / name).mkdir()
        make_images(folder / name, 64, height, width)


def measure(args, module, algorithm, folder, replicas=0):
    """All figures of one run, as a dict. folder: an empty one, for random images. replicas: of
    tf.distribute, each with a batch of --batch_size; 0: none of it."""
    import keras
    import tensorflow as tf

    options = read_flags(args, module, algorithm)
    strategy, device = module.start_devices(options.deterministic, replicas or 1)
    if replicas == 1:
        has_gpu = bool(tf.config.list_logical_devices("GPU"))
        strategy = tf.distribute.MirroredStrategy(["GPU:0" if has_gpu else "CPU:0"])
    options.batch_size *= replicas or 1
    if not options.input_dir:
        make_data(module, options, folder, is_pair=args.algorithm == "pix2pix")
        options.input_dir = str(folder)
    precision = options.mixed_precision
    keras.config.set_dtype_policy("float32" if precision == "off" else f"mixed_{precision}")

    with strategy.scope():
        model = algorithm(options, training=True)
    images = model.find_training_images()
    paths = [path for kind in images.values() for path in kind]
    batches = iter(
        strategy.distribute_datasets_from_function(lambda share: model.batches(images, 0, share))
    )
    step = tf.Variable(0, dtype=tf.int64)

    def train_step():
        with module.naming_unreadable(paths, model.read):
            batch = next(batches)
        model.train_step(step.value(), batch).numpy()
        step.assign_add(1)

    train_step()
    first_step = time.monotonic() - STARTED - args.waited
    timed(train_step, args.warmup)
    steps = timed(train_step, args.steps)
    # batches prefetched during the steps do not count
    timed(lambda: next(batches), 4 * args.warmup)
    pipeline = timed(lambda: next(batches), 200)
    return {
        "algorithm": args.algorithm,
        "flags": args.flags,
        "step": summary(steps, options.batch_size),  # of all replicas
        "input_pipeline": {
            "images_per_second": 200 * options.batch_size / sum(pipeline),
            "seconds": sum(pipeline) / 200,
        },
        "seconds_to_first_step": first_step,
        "peak_memory_gib": peak_memory(),
        "device": device,
        "cores": os.cpu_count(),
    }


def timed(action, count):
    """The seconds that each of so many calls takes."""
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return seconds


def words_of(command, is_windows=os.name == "nt"):
    """A command line as subprocess takes it. On Windows whole: backslashes are in its paths."""
    return command if is_windows else shlex.split(command)


def yardstick(command):
    """Runs the command to compare with, whose last line is JSON with seconds_per_step. Returns that
    number."""
    try:
        result = subprocess.run(
            words_of(command), capture_output=True, encoding="utf-8", errors="replace"
        )
    # ValueError: a quote without an end; IndexError: no word
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"--yardstick {command!r} cannot be run: {error}") from None
    try:
        return float(json.loads(result.stdout.strip().splitlines()[-1])["seconds_per_step"])
    except (IndexError, ValueError, KeyError, TypeError):
        error = result.stderr.strip()[-200:]
        raise UserError(
            f"--yardstick {command!r}: its last line is no JSON with seconds_per_step: {error}"
        ) from None


def parse():
    """The command line; the flags of the algorithm stand after --."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("algorithm", help="pix2pix, cyclegan, ganilla, siamesegan, cut or animegan")
    add("--steps", type=positive_integer, default=20, help="training steps to measure (20)")
    add("--warmup", type=int, default=5, help="training steps before them (5)")
    add(
        "--replicas",
        type=positive_integer,
        metavar="N",
        help="measure N replicas too, each with --batch_size images per step; 1: what "
        "tf.distribute costs",
    )
    add("--json", action="store_true", help="print JSON")
    add(
        "--yardstick",
        metavar="COMMAND",
        help="run this before and after, to compare with; its last line is JSON with "
        "seconds_per_step",
    )
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args = parser.parse_args(sys.argv[1:end])
    args.flags = sys.argv[end + 1 :]
    return args


def main():
    args = parse()
    start = time.monotonic()
    others = [yardstick(args.yardstick)] if args.yardstick else []
    args.waited = time.monotonic() - start
    module, algorithm = load_algorithm(args.algorithm)
    with tempfile.TemporaryDirectory() as folder, in_our_words(module):
        if args.replicas:
            shared = measure(args, module, algorithm, Path(folder) / "replicas", args.replicas)[
                "step"
            ]
        result = measure(args, module, algorithm, Path(folder) / "one")
    if args.yardstick:
        others.append(yardstick(args.yardstick))
        result["yardstick_seconds"] = others
        result["times_as_fast_as_yardstick"] = statistics.mean(others) / result["step"]["seconds"]
    if args.replicas:
        result["replicas"] = shared
        result["efficiency"] = result["step"]["seconds"] / shared["seconds"]
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        print_figures(args, result)


def print_figures(args, result):
    """Prints the figures as lines to read."""
    step = result["step"]
    pipeline = result["input_pipeline"]
    print(
        f"{args.algorithm} {' '.join(args.flags)}  on {result['device']}, {result['cores']} cores"
    )
    print(
        f"training step   {step['seconds']:.3f} s median ({step['min']:.3f} to {step['max']:.3f}), "
        f"{step['images_per_second']:.2f} images/s"
    )
    print(
        f"input pipeline  {pipeline['images_per_second']:.0f} images/s alone, "
        f"{step['seconds'] / pipeline['seconds']:.0f} times as fast as the step"
    )
    if not args.replicas:  # else they went first
        print(
            f"first step      {result['seconds_to_first_step']:.1f} s after the start of the "
            "process"
        )
    if result["peak_memory_gib"]:
        print(f"peak memory     {result['peak_memory_gib']:.2f} GiB resident")
    if args.replicas:
        print(
            f"{args.replicas} replicas     {result['replicas']['images_per_second']:.2f} images/s, "
            f"{result['efficiency']:.1%} of {args.replicas} times that of one"
        )
    if args.yardstick:
        both = " and ".join(f"{seconds:.3f}" for seconds in result["yardstick_seconds"])
        print(
            f"yardstick       {both} s per step: this is "
            f"{result['times_as_fast_as_yardstick']:.2f} times as fast"
        )


if __name__ == "__main__":
    run(main)
