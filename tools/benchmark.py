"""Measures how fast an algorithm trains: the training step, the input pipeline alone, the first step, memory.

    python tools/benchmark.py pix2pix
    python tools/benchmark.py pix2pix --steps 50 --json -- --mixed_precision bfloat16 --batch_size 4
    python tools/benchmark.py pix2pix --yardstick "python tests/reference/reference_torch.py pix2pix"
    python tools/benchmark.py cyclegan --replicas 4

The algorithm's own flags follow after --. Without --input_dir among them it trains on 64 random images, or 64 in each
domain, of the size that training scales to.
"""

import argparse
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

from common import Parser, UserError, load_algorithm, positive_integer, run


def make_images(folder, count, height, width):
    """Writes random smooth JPEGs of height x width pixels, which take as long to decode as photographs."""
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    for index in range(count):
        noise = generator.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(
            folder / f"{index}.jpg", quality=90
        )


def process_age():
    """Seconds since this process started, by the kernel's clock."""
    started = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def summary(seconds, images):
    """Median, minimum and maximum of a list of times, and images per second at the median."""
    median = statistics.median(seconds)
    return {"seconds": median, "min": min(seconds), "max": max(seconds), "images_per_second": images / median}


def measure(args, module, algorithm, folder, replicas=0):
    """All figures of one run, as a dict. folder: an empty one, for random images. replicas: of tf.distribute, each with
    a batch of --batch_size; 0: none of it."""
    import keras
    import tensorflow as tf

    unused = module.FLAGS([args.algorithm, *args.flags])[1:]
    if unused:
        raise UserError(f"not a flag: {unused[0]}")
    options = SimpleNamespace(**module.FLAGS.flag_values_dict())
    deterministic = options.seed is not None if options.deterministic is None else options.deterministic
    strategy, device = module.start_devices(deterministic, replicas or 1)
    if replicas == 1:
        strategy = tf.distribute.MirroredStrategy(["GPU:0" if tf.config.list_logical_devices("GPU") else "CPU:0"])
    options.seed, options.batch_size = options.seed or 0, options.batch_size * (replicas or 1)
    if not options.input_dir:
        if "scale_size" in vars(options):
            _, scale = module.parse_sizes(options.crop_size, options.scale_size)
        else:  # siamesegan
            scale = options.train_size * 2 // 3 or 1280, options.train_size or 1920
        folder.mkdir()
        make_images(folder, 64, scale[0], 2 * scale[1])
        for name in ("trainA", "trainB"):
            (folder / name).mkdir()
            make_images(folder / name, 64, *scale)
        options.input_dir = str(folder)
    precision = options.mixed_precision
    keras.config.set_dtype_policy("float32" if precision == "off" else f"mixed_{precision}")

    with strategy.scope():
        model = algorithm(options, training=True)
    paths = model.find_training_images()
    batches = iter(strategy.distribute_datasets_from_function(lambda share: model.batches(paths, 0, share)))
    step = tf.Variable(0, dtype=tf.int64)

    def train_step():
        with module.naming_unreadable([path for kind in paths.values() for path in kind], model.load):
            batch = next(batches)
        model.train_step(step.value(), batch).numpy()
        step.assign_add(1)

    def timed(action, count):
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            action()
            seconds.append(time.perf_counter() - start)
        return seconds

    train_step()
    first_step = process_age() - args.waited
    timed(train_step, args.warmup)
    steps = timed(train_step, args.steps)
    timed(lambda: next(batches), 4 * args.warmup)  # batches prefetched during the steps do not count
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
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "device": device,
        "cores": os.cpu_count(),
    }


def yardstick(command):
    """Runs the command to compare with, whose last line is JSON with seconds_per_step. Returns that number."""
    try:
        result = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False)
    except (OSError, ValueError, IndexError) as error:  # ValueError: a quote without an end; IndexError: no word
        raise UserError(f"--yardstick {command!r} cannot be run: {error}") from None
    try:
        return float(json.loads(result.stdout.strip().splitlines()[-1])["seconds_per_step"])
    except (IndexError, ValueError, KeyError, TypeError):
        error = result.stderr.strip()[-200:]
        raise UserError(f"--yardstick {command!r}: its last line is no JSON with seconds_per_step: {error}") from None


def main():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("algorithm", help="pix2pix, cyclegan, ganilla, siamesegan or cut")
    parser.add_argument("--steps", type=positive_integer, default=20, help="training steps to measure (20)")
    parser.add_argument("--warmup", type=int, default=5, help="training steps before them (5)")
    parser.add_argument("--replicas", type=positive_integer, metavar="N", help="measure N replicas too, each with "
                        "--batch_size images a step; 1: what tf.distribute costs")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--yardstick", metavar="COMMAND", help="run this before and after, to compare with; its last "
                        "line is JSON with seconds_per_step")  # fmt: skip
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args = parser.parse_args(sys.argv[1:cut])
    args.flags = sys.argv[cut + 1 :]
    start = time.monotonic()
    others = [yardstick(args.yardstick)] if args.yardstick else []
    args.waited = time.monotonic() - start
    module, algorithm = load_algorithm(args.algorithm)
    with tempfile.TemporaryDirectory() as folder:
        try:
            if args.replicas:
                shared = measure(args, module, algorithm, Path(folder) / "replicas", args.replicas)["step"]
            result = measure(args, module, algorithm, Path(folder) / "one")
        except (module.UserError, module.flags.Error) as error:
            raise UserError(str(error)) from None
    if args.yardstick:
        others.append(yardstick(args.yardstick))
        result["yardstick_seconds"] = others
        result["times_as_fast_as_yardstick"] = statistics.mean(result["yardstick_seconds"]) / result["step"]["seconds"]
    if args.replicas:
        result["replicas"] = shared
        result["efficiency"] = result["step"]["seconds"] / shared["seconds"]
    if args.json:
        print(json.dumps(result, indent=2))
        return
    step = result["step"]
    print(f"{args.algorithm} {' '.join(args.flags)}  on {result['device']}, {result['cores']} cores")
    print(f"training step   {step['seconds']:.3f} s median ({step['min']:.3f} to {step['max']:.3f}), "
          f"{step['images_per_second']:.2f} images/s")  # fmt: skip
    pipeline = result["input_pipeline"]
    print(f"input pipeline  {pipeline['images_per_second']:.0f} images/s alone, "
          f"{step['seconds'] / pipeline['seconds']:.0f} times as fast as the step")  # fmt: skip
    if not args.replicas:  # else they went first
        print(f"first step      {result['seconds_to_first_step']:.1f} s after the start of the process")
    print(f"peak memory     {result['peak_memory_gib']:.2f} GiB resident")
    if args.replicas:
        print(f"{args.replicas} replicas     {shared['images_per_second']:.2f} images/s, "
              f"{result['efficiency']:.1%} of {args.replicas} times that of one")  # fmt: skip
    if args.yardstick:
        both = " and ".join(f"{seconds:.3f}" for seconds in result["yardstick_seconds"])
        print(f"yardstick       {both} s a step: this is {result['times_as_fast_as_yardstick']:.2f} times as fast")


if __name__ == "__main__":
    run(main)
