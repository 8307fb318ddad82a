"""What several tools share: one-line errors, folders of images, results, files that are never half-written.

Packages are imported inside the functions that need them: dockrun.py runs on a machine that has none.
"""

import argparse
import contextlib
import importlib
import inspect
import json
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


class UserError(Exception):
    """Something that the user can correct. Its message is one line: what is wrong and what to do."""


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, without the usage before it."""

    def error(self, message):
        raise UserError(f"{message} (--help shows the options)")


def run(main):
    """Calls main() and ends the process as a command should: an error is one line on stderr and exit code 2."""
    try:
        if "\0" in "".join(sys.argv):  # open() and the like would raise ValueError
            raise UserError("a NUL character in the command line, which no name of a file can hold")
        sys.exit(main())
    except UserError as error:
        print("error:", str(error).replace("\n", " "), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def load_algorithm(name):
    """The module of NAME.py and its algorithm, the class whose `name` is NAME. Raises UserError if there is none."""
    if name not in [path.stem for path in ROOT.glob("*.py")]:  # any other module of Python would be imported too
        raise UserError(f"there is no {name}.py in {ROOT}")
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    module = importlib.import_module(name)
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    algorithms = [value for value in classes if getattr(value, "name", None) == name]
    if len(algorithms) != 1:
        raise UserError(f"{name} is not an algorithm: it has no class of that name")
    return module, algorithms[0]


def natural_key(path):
    """Sort key that puts img2 before img10."""
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", Path(path).name)]


def find_images(folder):
    """The image files directly in a folder, in natural order. Raises UserError if there is no folder or no image."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give a folder of images")
    paths = [path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")]
    if not paths:
        raise UserError(f"{folder} holds no images ({', '.join(sorted(EXTENSIONS))})")
    return sorted(paths, key=natural_key)


def by_stem(folder):
    """{stem: path} of the images of a folder, in natural order."""
    paths = {}
    for path in find_images(folder):
        if path.stem in paths:
            raise UserError(f"{paths[path.stem]} and {path} would both become {path.stem}; rename or remove one")
        paths[path.stem] = path
    return paths


def images_of(folder, kind="outputs"):
    """{name: path}: NAME-outputs.png of a test (its --output_dir, or images/ in it), of other folders all by stem."""
    folder, end = Path(folder), f"-{kind}.png"
    if (folder / "checkpoint").exists():
        raise UserError(f"{folder} is of a training; give the folder of a test (--mode test --checkpoint {folder})")
    if not is_test(folder):
        return by_stem(folder)
    inside = folder if folder.name == "images" else folder / "images"
    found = {path.name.removesuffix(end): path for path in sorted(inside.glob(f"*{end}"), key=natural_key)}
    if found:
        return found
    if inside is not folder or any(inside.glob("*-outputs.png")):
        raise UserError(f"{inside} holds no *{end}; give two folders, or that of a test with {kind}")
    return by_stem(folder)


def is_test(folder):
    """Whether a folder is the --output_dir of a test, or the images/ in it."""
    return folder.name == "images" or (folder / "images").is_dir()


def first_ten(items):
    items = list(items)
    return ", ".join(map(str, items[:10])) + (f" and {len(items) - 10} more" if len(items) > 10 else "")


def check_pairs(a, b, a_dir, b_dir):
    """Raises UserError unless {name: path} of two folders have the same names."""
    alone = [str(path) for paths, other in ((a, b), (b, a)) for name, path in paths.items() if name not in other]
    if alone:
        raise UserError(f"{a_dir} and {b_dir} do not match: {len(alone)} without a counterpart: {first_ten(alone)}")


def read(path):
    """Path => upright 8-bit RGB image of Pillow. Raises UserError if it cannot be read."""
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image)  # loads it; of an animation, the first frame
        if image.mode.startswith("I;16"):  # Pillow's own conversion clips all above 255 to white
            return Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8)).convert("RGB")
        if image.mode in ("I", "F"):
            raise ValueError("32 bits a channel have no agreed white: save it with 8 or 16 bits")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
        return image.convert("RGB")
    except Exception as error:  # decoders raise a dozen types
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} cannot be read as an image ({reason}); repair or remove it") from None


def load_pix2pix():
    """pix2pix.py as a module, with TensorFlow started quietly. Takes seconds: only where it is needed."""
    module, _ = load_algorithm("pix2pix")
    module.start_devices(deterministic=False)
    return module


def positive_integer(text):
    """For argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number of at least 1")
    return int(text)


def add_command(commands, name, function):
    """Adds a subcommand that calls function(args), whose docstring is the help. Returns its parser."""
    text = inspect.getdoc(function)
    formatter = argparse.RawDescriptionHelpFormatter
    command = commands.add_parser(name, help=text.split("\n")[0], description=text, formatter_class=formatter)
    command.set_defaults(function=function)
    command.add_argument("--json", action="store_true", help="print the result alone, as JSON")
    return command


def print_result(function, args):
    """Prints the result of function(args), a dict, as JSON or as a table."""
    try:
        result = function(args)
    except OSError as error:
        if not error.filename:
            raise
        raise UserError(f"{error.filename}: {error.strerror}; make room, or choose another place") from None
    if args.json:
        print(json.dumps(result, indent=2))
        return
    rest, lines = dict(result), []
    if "mean" in result:
        images = rest.pop("images") | {"mean": rest.pop("mean")}
        width = max(map(len, images)) + 2
        lines.append(" " * width + "".join(f"{metric:>14}" for metric in images["mean"]))
        for name, values in images.items():
            lines.append(f"{name:<{width}}" + "".join(f"{value:14.4g}" for value in values.values()))
    for name, values in rest.pop("classes", {}).items():
        put = ", ".join(f"{key} {count}" for key, count in values.get("put in", {}).items() if count)
        values = {key: "–" if value is None else round(value, 4) for key, value in values.items() if key != "put in"}
        cells = ", ".join(f"{key} {value}" for key, value in values.items())
        lines.append(f"{name}: {cells}" + f"; put in {put}" * bool(put))
    lines.append("  ".join(f"{name} {value:.4g}" for name, value in rest.pop("scores", {}).items()))
    lines.append(", ".join(f"{name}: {value}" for name, value in rest.items()))
    print("\n".join(line for line in lines if line))


@contextlib.contextmanager
def written_whole(path, folder=None):
    """Gives a temporary path, in the folder of `path` or in another one of its file system, which is renamed to `path`
    when the block succeeds, else removed."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary = Path(folder, os.urandom(8).hex() + path.suffix) if folder else temporary
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path, text):
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
