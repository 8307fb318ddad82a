"""Makes a small, fast generator of any trained one: the small one learns its translations.

    python tools/distill.py monet2photo_cyclegan_train photos --output_dir monet_small
    python tools/distill.py facades_train drawings --output_dir facades_small --speed 20
    python tools/translate.py monet_small clip.mp4 --output_dir film

The teacher translates each photograph once, into OUTPUT_DIR/pairs. The student learns these pairs.
Its folder is that of a training of cut.py from A to B, whatever the teacher was: test, export,
make_page.py and translate.py take it. The same command again goes on where it was stopped.
docs/distill.md says more.
"""

import argparse
import dataclasses
import functools
import hashlib
import json
import math
import os
import sys
import types
from pathlib import Path

import numpy as np
import translate
from common import (
    Parser,
    UserError,
    in_our_words,
    load_algorithm,
    load_trained,
    not_negative,
    positive_integer,
    run,
    script_of,
    write_text,
    written_whole,
)
from perceptual import LPIPS_NETS, build_lpips, lpips
from tqdm import tqdm

# --speed: the student's flags of cut.py. docs/distill.md has what each takes.
STUDENTS = {
    2: {"n_blocks": 9, "ngf": 64, "separable_conv": True},
    5: {"n_blocks": 9, "ngf": 48, "separable_conv": True},
    10: {"n_blocks": 9, "ngf": 32, "separable_conv": True},
    20: {"n_blocks": 9, "ngf": 16, "separable_conv": True},
    40: {"n_blocks": 9, "ngf": 8, "separable_conv": True},
}
FEW = 200  # photographs: with fewer the student learns them by heart
HELD_OUT = 64  # photographs, at most, that the student is judged by


# -------------------------------------------------------------------------------------------- pairs


class Photographs(translate.ImageFiles):
    """The photographs args.names of a folder, at args.size, for the teacher. What it sees of them
    is kept in args.inputs_dir, under the names of the translations in args.output_dir."""

    def __init__(self, args, module, model, unfinished):
        super().__init__(args, module, model, unfinished)
        self.size = args.size

    def all_names(self):
        return self.args.names

    def read(self, name):
        image = super().read(name)
        if image is not None:
            self.keep(name, image)
        return image

    def keep(self, name, image):
        """Writes what the teacher sees of a photograph."""
        suffix = self.domain.suffix(os.path.join(self.root, name))
        target = self.args.inputs_dir / (self.target_of(name).stem + suffix)
        if self.domain.is_viewable:
            contents = self.encode_picture(image)
        else:
            contents = self.module.encode_array(image, suffix)
        with written_whole(target, self.unfinished) as part:
            part.write_bytes(contents)


def make_pairs(args, module, model, names, part):
    """Translates photographs of args.photos into pairs/trainA and pairs/trainB, or testA and testB,
    but for those that are there. part: "train" or "test"."""
    folder = Path(args.output_dir, "pairs")
    source_args = types.SimpleNamespace(
        input=args.photos, input_list=None, recursive=False, shard=(1, 1), skip_existing=True,
        output_dir=str(folder / f"{part}B"), inputs_dir=folder / f"{part}A", names=names,
        size=args.size, format="png", quality=None,
    )  # fmt: skip
    source_args.inputs_dir.mkdir(parents=True, exist_ok=True)
    network = functools.partial(model.translate_images, direction=model.args.which_direction)
    with (
        translate.unfinished_folder(source_args) as unfinished,
        tqdm(total=len(names), unit=" photographs", disable=None) as progress,
    ):
        source = Photographs(source_args, module, model, unfinished)
        pipeline = translate.Pipeline(source, network, 1, progress)
        pipeline.run()
    print(f"{part}: {pipeline.done} translated, {pipeline.skipped} there already", flush=True)
    failed = list(pipeline.failed.items())
    for name, reason in failed[:3]:
        print(f"warning: {name}: {reason}: left out", file=sys.stderr)
    if len(failed) == len(names):
        raise UserError(f"none of {len(names)} photographs for {part} could be translated")


def split(names):
    """The names of photographs => those to learn from, those held out: a tenth, at most HELD_OUT,
    spread over the folder."""
    count = min(HELD_OUT, max(1, len(names) // 10))
    held_out = {round(place) for place in np.linspace(0, len(names) - 1, count)}
    learned = [name for index, name in enumerate(names) if index not in held_out]
    return learned, [names[index] for index in sorted(held_out)]


# ------------------------------------------------------------------------------ teacher and student


def load_teacher(args):
    """The teacher's module and model, and the (height, width) of its images. Raises UserError."""
    size = sides_of(args.size) if args.size else None
    module, _ = load_algorithm(script_of(args.teacher))
    flags = {"which_direction": args.which_direction}
    if "paired" in module.FLAGS:
        flags["paired"] = False
    if "crop_size" in module.FLAGS:  # siamesegan.py takes any size
        flags["crop_size"] = args.size
    module, model = load_trained(args.teacher, input_dir=".", output_dir=args.output_dir, **flags)
    if getattr(model.args, "lab_colorization", False):
        raise UserError(
            f"{args.teacher} sees lightness alone, or colour alone, and a student all of an image: "
            "distill.py cannot make a small one of it"
        )
    return module, model, size or tuple(model.crop)


def sides_of(text):
    """"256" or "144x256" => (height, width) for a student. Raises UserError."""
    cut, _ = load_algorithm("cut")
    try:
        size, _ = cut.parse_sizes(text, text, training=False)
        cut.check_crop(size, 4, 0)
    except cut.UserError as error:
        raise UserError(str(error).replace("--crop_size", "--size")) from None
    return size


def command_of_student(args, teacher, learned):
    """The student's command line of cut.py."""
    size = "x".join(map(str, args.size))
    flags = {
        "mode": "train", "input_dir": os.path.join(args.output_dir, "pairs"), "paired": True,
        "output_dir": args.output_dir, "crop_size": size, "scale_size": size, "antialias": False,
        "lr": 1e-3, "beta1": 0.9, "ema_decay": 0.999, "batch_size": args.batch_size,
        "max_steps": args.max_steps, "seed": args.seed, "save_freq": 1000, "display_freq": 1000,
        "mixed_precision": args.mixed_precision, "flip": teacher.args.saved.get("flip", True),
        **STUDENTS[args.speed],
    }  # fmt: skip
    # the learning rate falls over the second half
    flags["decay_epochs"] = math.ceil(args.max_steps * args.batch_size / learned / 2)
    for name in ("aspect_ratio", "nan_value", "preview_bands"):  # what images are
        value = getattr(teacher.args, name, None)
        if value is not None:
            flags[name] = value
    cut, _ = load_algorithm("cut")
    if cut.find_checkpoint(args.output_dir):
        flags["checkpoint"] = args.output_dir
    return ["cut", *(f"--{name}={value}" for name, value in flags.items())]


def domains_of(model):
    """What the teacher takes and gives, as the student's A and B."""
    direction = model.args.which_direction
    return {
        "A": dataclasses.asdict(model.domains[direction[0]]),
        "B": dataclasses.asdict(model.domains[direction[-1]]),
    }


def why_no_features(model):
    """Why VGG16 cannot compare the student's images with the teacher's; None if it can."""
    if not model.domains[model.args.which_direction[-1]].is_rgb:
        return "VGG16 is for 8-bit RGB"
    try:
        build_lpips("vgg")
    except UserError as error:
        return str(error)
    return None


def judge(args):
    """The mean L1 and LPIPS of held-out photographs to the teacher's translations."""
    pairs = os.path.join(args.output_dir, "pairs")
    module, model = load_trained(args.output_dir, input_dir=pairs, paired=True)
    network = None
    if model.domains["B"].is_rgb and min(args.size) >= LPIPS_NETS["alex"][-1]:
        try:
            network = build_lpips("alex")
        except UserError as error:
            print(f"no LPIPS: {error}", file=sys.stderr)
    metrics = {}
    for name, path, direction in model.find_test_images(pairs):
        with in_our_words(module):
            images = model.translate_file(path, direction)
        outputs, targets = images["outputs"], images["targets"]
        metrics[name] = {"l1": module.compare(outputs, targets, model.domains["B"])["l1"]}
        if network:
            metrics[name]["lpips"] = lpips(network, outputs, targets)
    means = {kind: round(float(value), 4) for kind, value in module.mean_of(metrics).items()}
    return {"images": len(metrics), **means}


# ------------------------------------------------------------------------------------------- folder


def facts_of(args, module, model, names):
    """What a folder of a student is about: a run with others is refused there."""
    listed = "\n".join(names).encode(errors="surrogateescape")
    return {
        "teacher": os.path.realpath(module.find_checkpoint(args.teacher)),
        "which_direction": model.args.which_direction,
        "photographs": os.path.realpath(args.photos),
        "names": hashlib.blake2b(listed, digest_size=8).hexdigest(),
        "size": "x".join(map(str, args.size)),
        "speed": args.speed,
        "steady": args.steady,
        "batch_size": args.batch_size,
        "seed": args.seed,
        "features": why_no_features(model) is None,
        "mixed_precision": args.mixed_precision,
    }


def take_folder(folder, facts):
    """Makes the folder of a student, with its distill.json. Raises UserError if it is there and of
    something else."""
    path = folder / "distill.json"
    if path.exists():
        try:
            there = {"mixed_precision": "off"}  # of a folder of before that flag
            there.update(json.loads(path.read_text(encoding="utf-8")))
            differing = [name for name in facts if there[name] != facts[name]]
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            raise UserError(f"{path} is damaged: choose another --output_dir") from None
        if differing:
            name = differing[0]
            raise UserError(
                f"{folder} holds another distillation ({name} {there[name]}, not {facts[name]}): "
                "choose another --output_dir"
            )
        return
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} is there and no student's: choose another --output_dir")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(facts, indent=2) + "\n")


# --------------------------------------------------------------------------------------------- main


def parse():
    """The command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("teacher", help="the --output_dir of a training, or a checkpoint in it: DIR/model-2000")
    add("photos", help="a folder of images such as the teacher takes; no others are needed")
    add("--output_dir", required=True, help="folder for the student, made if missing")
    add("--which_direction", choices=["AtoB", "BtoA"], help="of an unpaired teacher (AtoB)")
    add(
        "--speed",
        type=int,
        choices=STUDENTS,
        default=10,
        help="about how many times as fast as CycleGAN's generator the student is (10)",
    )
    add(
        "--size",
        metavar="SIDE|HEIGHTxWIDTH",
        help="pixels of the images, for teacher and student (those of the teacher's training)",
    )
    add(
        "--steady",
        type=not_negative,
        default=0.0,
        metavar="WEIGHT",
        help="for film: weight of a loss for translations that stay, whatever moves; 1 is good (0)",
    )
    add("--max_steps", type=positive_integer, default=10000, help="training steps in all (10000)")
    add("--batch_size", type=positive_integer, default=1, help="photographs per step (1)")
    add(
        "--mixed_precision",
        choices=["off", "bfloat16", "float16"],
        default="off",
        help="smaller numbers in the student's training, faster on some machines (off)",
    )
    add("--seed", type=seed, default=0, help="random seed (0)")
    return parser.parse_args()


def seed(text):
    """For argparse: a whole number below 2**32."""
    if text.isdecimal() and int(text) < 2**32:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 0 to {2**32 - 1}")


def list_photographs(args, module):
    """The names of the photographs. Raises UserError if there is only one."""
    if not os.path.isdir(args.photos):
        raise UserError(f"no such folder: {args.photos}; PHOTOS is a folder of images")
    try:
        with in_our_words(module):
            names = [os.path.basename(path) for _, path in module.list_images(args.photos)]
    except UnicodeError as error:
        raise UserError(module.explain(error, args)) from None
    if len(names) < 2:
        raise UserError(f"one image in {args.photos}: a student needs {FEW} or more")
    return names


def warn(model, names, facts):
    """Warns of what will make a worse student."""
    if not facts["features"]:
        print(f"warning: no features, L1 alone: {why_no_features(model)}", file=sys.stderr)
    if len(names) < FEW:
        print(
            f"warning: only {len(names)} photographs: with fewer than {FEW} a student learns them "
            "by heart",
            file=sys.stderr,
        )


def main():
    args = parse()
    module, model, args.size = load_teacher(args)
    names = list_photographs(args, module)
    facts = facts_of(args, module, model, names)
    try:
        take_folder(Path(args.output_dir), facts)
        return distill(args, module, model, names, facts)
    except OSError as error:
        raise UserError(
            f"{error.filename or args.output_dir}: {error.strerror or error}; when that is mended, "
            "the same command goes on"
        ) from None


def distill(args, module, model, names, facts):
    """All of a run after the checks. Returns the exit code."""
    import student

    warn(model, names, facts)
    learned, held_out = split(names)
    command = command_of_student(args, model, len(learned))
    model.aspect_ratio = 1.0  # pairs are as the networks have them
    make_pairs(args, module, model, learned, "train")
    make_pairs(args, module, model, held_out, "test")
    name = "generator" if "generator" in model.networks else f"generator_{facts['which_direction']}"
    code = student.train(command, domains_of(model), facts, model.networks[name])
    if code:
        return code
    result = judge(args)
    contents = {**facts, "steps": args.max_steps, "held_out": result}
    write_text(Path(args.output_dir, "distill.json"), json.dumps(contents, indent=2) + "\n")
    values = ", ".join(f"{kind} {value}" for kind, value in result.items())
    print(f"done: {args.output_dir}; to the teacher, held out: {values}")
    return 0


if __name__ == "__main__":
    run(main)
