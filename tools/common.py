"""What several tools share: one-line errors, folders of images, results, files that are never
half-written.

Packages are imported inside the functions that need them: dockrun.py runs on a machine that has
none.
"""

import argparse
import contextlib
import copy
import importlib
import inspect
import json
import os
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class UserError(Exception):
    """Something that the user can correct. Its message is one line: what is wrong and what
    to do."""


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, without the usage before it."""

    def error(self, message):
        advice = ""
        if message.startswith("unrecognized arguments"):
            advice = "put names with spaces in quotes; "
        raise UserError(f"{message} ({advice}--help shows the options)")


def run(main):
    """Calls main() and ends the process as a command should: an error is one line on stderr and
    exit code 2."""
    try:
        warnings.filterwarnings("ignore", module="PIL")  # of broken EXIF data
        prepare_streams()
        check_working_directory()
        if "\0" in "".join(sys.argv):  # open() and the like would raise ValueError
            raise UserError("a NUL character in the command line, which no name of a file can hold")
        sys.exit(main())
    except UserError as error:
        print("error:", str(error).replace("\n", " "), file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if not error.filename:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def prepare_streams():
    """Opens streams that were closed, as after `>&-`. Lets terminals that know only ASCII show
    other letters as escapes."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):  # a GUI may have replaced it
            stream.reconfigure(errors="backslashreplace")


def check_working_directory():
    """Raises UserError if the working directory has been removed."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError("the working directory has been removed: change to another one") from None


def load_algorithm(name):
    """The module of NAME.py and its algorithm, the class whose `name` is NAME. Raises UserError if
    there is none."""
    # any other module of Python would be imported too
    if name not in [path.stem for path in ROOT.glob("*.py")]:
        raise UserError(f"there is no {name}.py in {ROOT}")
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    module = importlib.import_module(name)
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    algorithms = [value for value in classes if getattr(value, "name", None) == name]
    if len(algorithms) != 1:
        raise UserError(f"{name} is not an algorithm: it has no class of that name")
    return module, algorithms[0]


def load_trained(checkpoint, mode="test", **options):
    """A checkpoint => the module of its algorithm, and the model with its weights, made as by
    --mode test or export.

    options: flags of the script; those that are None are left out. Raises UserError.
    """
    module, algorithm = load_algorithm(script_of(checkpoint))
    options = {"mode": mode, "checkpoint": checkpoint, **options}
    argv = [algorithm.name]
    for name, value in options.items():
        if value is None:
            continue
        if name not in module.FLAGS:
            raise UserError(f"{algorithm.name}.py has no --{name}: leave it out")
        argv.append(f"--{name}={value}")
    with in_our_words(module):
        values = copy.deepcopy(module.FLAGS)
        values(argv)
        args = module.complete(values, argv, algorithm)
        module.prepare(args)
        model = algorithm(args, training=False)
        module.restore_generators(model, args)
    return module, model


def script_of(checkpoint):
    """The name of the script that a checkpoint was trained by, from its options.json. Raises
    UserError."""
    folder = Path(checkpoint) if os.path.isdir(checkpoint) else Path(checkpoint).parent
    path = folder / "options.json"
    if not path.exists():
        raise UserError(
            f"no training in {checkpoint}: CHECKPOINT is the --output_dir of a training, e.g. "
            "facades_train"
        )
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["script"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise UserError(
            f"{path} is damaged: restore it, since only it describes the networks"
        ) from None


@contextlib.contextmanager
def in_our_words(module):
    """Turns the errors of a script that a user can correct into those of the tools."""
    try:
        yield
    except (module.UserError, module.flags.Error) as error:
        raise UserError(str(error)) from None


def load_pix2pix():
    """pix2pix.py as a module, with TensorFlow started quietly. Takes seconds: only where it is
    needed."""
    module, _ = load_algorithm("pix2pix")
    module.start_devices(deterministic=False)
    return module


def positive_integer(text):
    """For argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number of at least 1")
    return int(text)


def not_negative(text):
    """For argparse: a number of at least 0."""
    try:
        if 0 <= float(text) < float("inf"):
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r}: give a number, 0 or more")


def add_command(commands, name, function):
    """Adds a subcommand that calls function(args), whose docstring is the help. Returns its
    parser."""
    text = inspect.getdoc(function) or name  # PYTHONOPTIMIZE=2 removes docstrings
    formatter = argparse.RawDescriptionHelpFormatter
    command = commands.add_parser(
        name, help=text.split("\n")[0], description=text, formatter_class=formatter
    )
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
        raise UserError(
            f"{error.filename}: {error.strerror}; make room, or choose another place"
        ) from None
    if args.json:
        print(json.dumps(result, indent=2))
        return
    rest = dict(result)
    lines = []
    if "mean" in rest:
        lines += table_of(rest.pop("images"), rest.pop("mean"))
    for name, values in rest.pop("classes", {}).items():
        lines.append(describe_class(name, values))
    lines.append("  ".join(f"{name} {value:.4g}" for name, value in rest.pop("scores", {}).items()))
    known = {name: value for name, value in rest.items() if value not in ({}, [])}
    lines.append(", ".join(f"{name}: {value}" for name, value in known.items()))
    print("\n".join(line for line in lines if line))


def table_of(images, mean):
    """{name: {metric: value}} and the means => lines of a table."""
    rows = {**images, "mean": mean}
    width = max(map(len, rows)) + 2
    lines = [" " * width + "".join(f"{metric:>14}" for metric in mean)]
    for name, values in rows.items():
        lines.append(f"{name:<{width}}" + "".join(f"{value:14.4g}" for value in values.values()))
    return lines


def describe_class(name, values):
    """The values of a class of classify.py as one line; "put in" says in which classes its images
    were put."""
    cells = []
    for key, value in values.items():
        if key != "put in":
            cells.append(f"{key} {'–' if value is None else round(value, 4)}")
    put = [f"{key} {count}" for key, count in values.get("put in", {}).items() if count]
    line = f"{name}: {', '.join(cells)}"
    return f"{line}; put in {', '.join(put)}" if put else line


def count_cores():
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def written_whole(path, folder=None):
    """Gives a temporary path, in the folder of `path` or in another one of its file system, which
    is renamed to `path` when the block succeeds, else removed."""
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
