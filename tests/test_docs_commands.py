"""README and docs/*.md: their commands can be pasted in the order in which they stand, twice, in one folder.

Each page gets a folder with the images that its commands name. Its commands run there in the process of the tests, with
small networks and a few steps, and then once more. Every command has to end with 0, and none may change, remove or join
the files of another. SKIPPED and NEEDED say which commands do not run, and why.
"""

import contextlib
import copy
import hashlib
import importlib
import importlib.util
import io
import json
import math
import os
import re
import runpy
import shlex
import signal
import string
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, SCRIPTS, TINY, paint, save_domains, save_image, save_pairs
from run_tool import run_tool

evaluate = importlib.import_module("evaluate")
make_page = importlib.import_module("make_page")

PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]

SKIPPED = {  # {part of a command: why it does not run here}
    "-m pytest": "these are the tests",
    "download-dataset.py monet2photo": "needs a network",
    "download-dataset.py miyazaki": "needs a network",
    "download-dataset.py illustrators": "needs a network",
    "download-dataset.py summer2winter_yosemite": "needs a network",
    "download-dataset.py vangogh2photo": "needs a network",
    "dockrun.py": "needs Docker; see test_dockrun.py",
    "live_speed.py": "needs Chromium; see test_page.py",
    "TF_CONFIG=...": "needs other machines, and is no whole command; see test_distribute.py",
    "--replicas 4": "needs 4 GPUs; see test_distribute.py",
    "parity.py": "takes minutes; see test_golden.py",
    "--yardstick": "takes minutes; see test_house.py",
    "$SLURM_ARRAY_TASK_ID": "needs a cluster; see test_translate.py",
}
NEEDED = {  # {part of a command: the package without which it does not run}
    "import-weights.py": "torch",
    "train_twin.py": "torch",
    "--operation edges": "cv2",
    "--format onnx": "tf2onnx",
    "clip.mp4": "imageio_ffmpeg",
}

# ----------------------------------------------------------------------------------------------- the commands of a page

COMMAND = re.compile(r"(\w+=\S+ )*(python|\.venv/bin/python|uv run) .*")


def commands_of(page, end=None):
    """The commands of a page, or of what stands before a heading."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if end:
        assert text.count(f"\n{end}\n") == 1
        text = text.partition(f"\n{end}\n")[0]
    return commands_in(text)


def commands_in(markdown):
    """The commands of a page that run a Python program, each as one line."""
    found = []
    variables = {}
    for line in shell_lines(markdown):
        line = string.Template(line).safe_substitute(variables)
        assignment = re.fullmatch(r'(\w+)="(.*)"', line)
        if assignment:
            variables[assignment[1]] = assignment[2]
        elif COMMAND.fullmatch(line):
            found.append(line)
    return found


def shell_lines(markdown):
    """The shell commands of a page: without comments, each in one line, loops as often as they run."""
    text = "\n".join(code_lines(markdown))
    text = re.sub(r"(^|(?<=\s))#.*", "", text, flags=re.MULTILINE)
    text = re.sub(r"\s*\\\s*\n\s*", " ", text)
    text = re.sub(r"^for (\w+) in ([^\n]*); do\n(.*?)^done$", repeat_loop, text, flags=re.MULTILINE | re.DOTALL)
    lines = text.replace(" && ", "\n").splitlines()
    return [" ".join(line.split()) for line in lines]


def code_lines(markdown):
    """The lines of blocks that are indented, or fenced as shell commands or without a language."""
    language = None
    for line in markdown.splitlines():
        is_fence = line.startswith("```")
        if is_fence:
            language = line[3:] if language is None else None
        elif language in ("", "bash", "sh"):
            yield line
        elif language is None and line.startswith("    "):
            yield line[4:]


def repeat_loop(match):
    """`for NAME in VALUES; do BODY done` => BODY for each of the values."""
    name, values, body = match.groups()
    return "".join(string.Template(body).safe_substitute({name: value}) for value in values.split())


def reason_to_skip(command):
    """Why a command does not run here, or None."""
    for part, reason in SKIPPED.items():
        if part in command:
            return reason
    for part, package in NEEDED.items():
        if part in command and importlib.util.find_spec(package) is None:
            return f"needs {package}"
    return None


def words_of(command):
    """A command => the words after `python`, and the name of the file that its output goes to, or None."""
    words = shlex.split(command)
    first = next(number for number, word in enumerate(words) if word.endswith(".py"))
    words = words[first:]
    if ">" not in words:
        return words, None
    place = words.index(">")
    return words[:place], words[place + 1]


def value_of(flag, words):
    """What stands after a flag, or None."""
    return words[words.index(flag) + 1] if flag in words[:-1] else None


# -------------------------------------------------------------------------------------------------------- tiny settings


def tiny(words):
    """The words of a command => the same with small networks and few steps. Different values stay different."""
    words = [re.sub(r"model-(\d+)$", smaller_step, word) for word in words]
    program = words[0]
    if program.removesuffix(".py") in SCRIPTS and value_of("--mode", words) in ("train", None):
        return words + tiny_training(program.removesuffix(".py"), words[1:])
    if program == "tools/process.py":
        return [*words, "--workers", "1"]
    if program == "samples/make-arrays.py":
        return [*words, "--train", "3", "--test", "2"]
    if program == "tools/benchmark.py":
        return [*words, "--steps", "1", "--warmup", "1", "--", *TINY]
    if program == "tests/reference/train_twin.py":
        return [*words, "--steps", "1", "--ngf", "4"]
    if program == "tools/distill.py":
        return [*words, "--max_steps", "1"]
    if words[:2] == ["tools/classify.py", "train"]:
        return [*words, "--backbone", "small", "--epochs", "1", "--image_size", "32"]
    return words


def smaller_step(match):
    return f"model-{few_steps(int(match[1]))}"


def few_steps(steps):
    return math.ceil(steps / 1000)


def tiny_training(name, words):
    """Flags that make a training tiny. One that begins from another has them from
    there, but for those that it gives itself."""
    values = copy.deepcopy(SCRIPTS[name].module.FLAGS)
    values([name, *words])
    steps = few_steps(values.max_steps) if values.max_steps else math.ceil(values.max_epochs / 100)
    flags = {"max_steps": steps}
    if values.checkpoint:
        is_longer = values["max_steps"].present or values["max_epochs"].present
        return as_words(flags) if is_longer else []
    flags["ngf"] = max(2, values.ngf // 16)
    flags["ndf"] = max(2, values.ndf // 16)
    if "n_blocks" in values:
        flags["n_blocks"] = 1
    if name == "siamesegan":
        flags["tile"] = 32
        flags["train_size"] = quarter(str(values.train_size))
        flags["batch_size"] = max(2, values.batch_size // 4)
    else:
        flags["crop_size"] = quarter(values.crop_size)
        flags["scale_size"] = quarter(values.scale_size)
    if values.init_from:
        flags = {name: value for name, value in flags.items() if values[name].present}
    return as_words(flags)


def quarter(size):
    """E.g. 286x572 => 72x143. At least 32, which U-Nets need."""
    return "x".join(str(max(32, math.ceil(int(side) / 4))) for side in size.split("x"))


def as_words(flags):
    """{"ngf": 4} => ["--ngf", "4"]."""
    words = []
    for name, value in flags.items():
        words += [f"--{name}", str(value)]
    return words


# ---------------------------------------------------------------------------------------------- what a page starts with


def make_folder(path, count=10):
    """A folder of images."""
    for number in range(count):
        save_image(path / f"{number}.png", paint(72, 80, number))


def make_things(path):
    """A folder of things cut out on white."""
    for number in range(10):
        image = np.full((72, 80, 3), 255, np.uint8)
        image[10:70, 14:66] = paint(60, 52, number) // 2
        save_image(path / f"{number}.png", image)


def make_originals(path):
    """Three images, named after the folder."""
    for number in range(3):
        save_image(path / f"{path.name}{number}.png", paint(72, 80, number))


def make_scenes(path):
    """The originals of two folders in one."""
    for name in ("forest", "lake"):
        for number in range(3):
            save_image(path / f"{name}{number}.png", paint(72, 80, number))


def make_pairs(path):
    """A folder of pairs that are not split."""
    save_pairs(path, [f"{number}.png" for number in range(10)])


def make_split_pairs(path):
    """Pairs in train and val, of the size of facades."""
    save_pairs(path / "train", ["1.png", "2.png", "3.png"], 256, 256)
    save_pairs(path / "val", ["4.png", "5.png"], 256, 256)


def make_domains(path):
    """trainA, trainB, testA, testB."""
    parts = {"trainA": ["1.png", "2.png"], "trainB": ["1.png", "2.png", "3.png"]}
    parts |= {"testA": ["4.png"], "testB": ["5.png"]}
    save_domains(path, parts, size=(100, 300))


def make_image(path):
    """One image."""
    save_image(path, paint(64, 200, 1))


def make_list(path):
    """A list of names of images that are there."""
    path.write_text("photos/0.png\nphotos/1.png\n", encoding="utf-8")


def make_archive(path):
    """The archive of a data set of pairs, where download-dataset.py finds it."""
    name = path.name.removesuffix(".tar.gz")
    with tempfile.TemporaryDirectory() as folder, tarfile.open(path, "w:gz") as archive:
        make_split_pairs(Path(folder))
        archive.add(folder, name)


def make_clip(path):
    """A film of 62 seconds."""
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        return
    import imageio_ffmpeg

    Path(path).parent.mkdir(exist_ok=True)
    writer = imageio_ffmpeg.write_frames(str(path), (64, 64), fps=1)
    writer.send(None)
    for number in range(62):
        writer.send(np.ascontiguousarray(paint(64, 64, number)))
    writer.close()


def make_stopped_training(path):
    """A training of cyclegan.py on the samples that has not reached its end."""
    SCRIPTS["cyclegan"]("--mode", "train", *SCRIPTS["cyclegan"].tiny, "--max_steps", 1, "--output_dir", path)
    options = json.loads((path / "options.json").read_text(encoding="utf-8"))
    (path / "options.json").write_text(json.dumps({**options, "max_steps": 2}), encoding="utf-8")


INPUTS = {  # {page: {file or folder of the reader's: what makes it}}
    "README.md": {
        "facades.tar.gz": make_archive,
        "my_drawings": make_folder,
        "photos": make_folder,
        "paintings": make_folder,
        "panorama.jpg": make_image,
    },
    "docs/cut.md": {
        "monet2photo": make_domains,
        "vangogh2photo": make_domains,
        "my_paintings": make_folder,
        "horse2zebra": make_domains,
        "photographs": make_folder,
    },
    "docs/animegan.md": {
        "photo2rackham": make_domains,
        "photo2dulac": make_domains,
        "photo2crane": make_domains,
        "photographs": make_folder,
    },
    "docs/curves.md": {"facades": make_split_pairs},
    "docs/cyclegan.md": {"monet2photo": make_domains, "my_paintings": make_folder},
    "docs/data.md": {
        "facades.tar.gz": make_archive,
        "pairs": make_pairs,
        "photos": make_folder,
        "paintings": make_folder,
    },
    "docs/draw.md": {"photos": make_things, "owls_all": make_things, "edges2cats/train": make_pairs},
    "docs/distill.md": {"monet2photo": make_domains, "photos": make_folder, "clip.mp4": make_clip},
    "docs/evaluate.md": {
        "clip.mp4": make_clip,
        "film/clip.mp4": make_clip,
        "hd": make_domains,
        "photos": make_folder,
        "paintings": make_folder,
        "carle": make_folder,
        "potter": make_folder,
        "scenes/forest": make_folder,
        "scenes/lake": make_folder,
        "unused": make_folder,
        "test/forest": make_originals,
        "test/lake": make_originals,
        "test/all": make_scenes,
    },
    "docs/faq.md": {
        "facades": make_split_pairs,
        "inputs": make_folder,
        "targets": make_folder,
        "photos": make_folder,
        "paintings": make_folder,
        "drawings": make_folder,
        "sketch.png": make_image,
        "stopped_train": make_stopped_training,
    },
    "docs/fine-tune.md": {"few": make_split_pairs},
    "docs/ganilla.md": {
        "my_photos": make_folder,
        "scans": make_folder,
        "photos": make_folder,
    },
    "docs/illustrators.md": {
        "photo2dulac": make_domains,
        "photo2rackham": make_domains,
        "photographs": make_folder,
    },
    "docs/my-two-folders.md": {"photos": make_folder, "paintings": make_folder},
    "docs/pix2pix.md": {"facades": make_split_pairs, "sketches": make_folder, "photos": make_folder},
    "docs/pretrained.md": {"monet2photo": make_domains, "my_horses": make_folder, "my_zebras": make_folder},
    "docs/process.md": {"photos": make_folder},
    "docs/results.md": {
        "facades": make_split_pairs,
        "photo2illustration": make_domains,
        "photos": make_folder,
        "paintings": make_folder,
    },
    "docs/runs.md": {"facades": make_split_pairs, "hd": make_domains},
    "docs/scale.md": {
        "horse2zebra": make_domains,
        "hd": make_domains,
        "photos": make_folder,
        "zoo/cage": make_folder,
        "drawings": make_folder,
        "names.txt": make_list,
        "clip.mp4": make_clip,
    },
    "docs/siamesegan.md": {"hd": make_domains, "panorama.jpg": make_image},
}

TRAIN_FACADES = "python pix2pix.py --mode train --which_direction BtoA"
RESIZE = "python tools/process.py --operation resize --input_dir {} --output_dir {} --size 256 --format jpg"
BEFORE = {  # {page: commands that its reader has given}
    "docs/draw.md": [TRAIN_FACADES],
    "docs/distill.md": ["python cyclegan.py --mode train --input_dir monet2photo"],
    "docs/export.md": [TRAIN_FACADES],
    "docs/evaluate.md": [
        TRAIN_FACADES,
        "python pix2pix.py --mode test --checkpoint facades_train",
        "python pix2pix.py --mode train --output_dir photo2labels_train",
        "python pix2pix.py --mode test --checkpoint photo2labels_train",
        "python siamesegan.py --mode train --input_dir hd",
        "python siamesegan.py --mode test --checkpoint hd_siamesegan_train",
        "python pix2pix.py --mode test --checkpoint facades_train --output_dir photo2painting_test",
        "python pix2pix.py --mode train --which_direction BtoA --output_dir a_train",
        "python pix2pix.py --mode test --checkpoint a_train --nopaired --input_dir test/all --output_dir carle_test",
        "python pix2pix.py --mode train --which_direction BtoA --output_dir b_train",
        "python pix2pix.py --mode test --checkpoint a_train",
        "python pix2pix.py --mode test --checkpoint b_train",
        "python pix2pix.py --mode test --checkpoint b_train --output_dir c_test",
    ],
    "docs/faq.md": [
        "python tools/split.py --unpaired photos paintings --output_dir photo2painting",
        "python pix2pix.py --mode train --which_direction BtoA --output_dir any_train",
        "python pix2pix.py --mode test --checkpoint any_train --output_dir a_test",
        "python pix2pix.py --mode test --checkpoint any_train --output_dir b_test",
    ],
    "docs/ganilla.md": [
        RESIZE.format("scans", "illustrations"),
        RESIZE.format("photos", "photographs"),
        "python tools/split.py --unpaired photographs illustrations --output_dir photo2illustration --train_frac 0.9",
        "python ganilla.py --mode train --output_dir carle_ganilla_train",
        "python ganilla.py --mode train --output_dir potter_ganilla_train",
        "python ganilla.py --mode train --output_dir miyazaki_ganilla_train",
    ],
    "docs/pretrained.md": [
        TRAIN_FACADES,
        "python cyclegan.py --mode train --input_dir monet2photo",
        "python tools/import-weights.py monet2photo_cyclegan_train --export horse2zebra.pth",
        "python tools/import-weights.py monet2photo_cyclegan_train --export zebra2horse.pth --which_direction BtoA",
    ],
    "docs/scale.md": [
        "python cyclegan.py --mode train --input_dir horse2zebra",
        TRAIN_FACADES,
        "python siamesegan.py --mode train --input_dir hd",
    ],
    "docs/siamesegan.md": [
        "python siamesegan.py --flagfile=recipes/siamesegan-cpu.flags --input_dir hd --max_steps 7000"
        " --output_dir hd_strokes_train",
    ],
}

# ---------------------------------------------------------------------------------------------------------- running one


@pytest.fixture
def runs_here(tmp_path, monkeypatch):
    """An empty folder with what a clone has. Stand-ins take the place of what would have to be downloaded."""
    for name in ("samples", "recipes", "tools", "tests", "web", *(f"{script}.py" for script in SCRIPTS)):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(make_page, "runtime_parts", no_runtime)
    monkeypatch.setattr(evaluate, "fidelity", fidelity)
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "reference"))
    return tmp_path


def no_runtime(threads):
    """In place of LiteRT.js, which npm brings: a page without it."""
    del threads
    return {}


def fidelity(args):
    """In place of two networks: fails if a folder has no images."""
    evaluate.images_of(args.images)
    evaluate.images_of(args.real)
    return {"scores": {"fid": 1.0}}


def run(words):
    """Runs a program in this process. Returns exit code, stdout and stderr."""
    path = Path(words[0])
    handler = signal.getsignal(signal.SIGTERM)  # process.py sets its own
    try:
        if path.stem in SCRIPTS:
            return SCRIPTS[path.stem].run(*words[1:])
        if path.parent.name == "tools":
            with own_flags(words):
                done = run_tool(path.stem, *words[1:])
            return done.returncode, done.stdout, done.stderr
        return run_file(words)
    except Exception as error:
        return 1, "", f"{type(error).__name__}: {error}"
    finally:
        signal.signal(signal.SIGTERM, handler)
        if "keras" in sys.modules:
            sys.modules["keras"].backend.clear_session()


@contextlib.contextmanager
def own_flags(words):
    """benchmark.py parses flags into those of the script's module; here each command starts anew."""
    with pytest.MonkeyPatch.context() as patch:
        if words[0] == "tools/benchmark.py":
            module = SCRIPTS[words[1]].module
            patch.setattr(module, "FLAGS", copy.deepcopy(module.FLAGS))
        yield


def run_file(words):
    """A program of tests/reference/ or samples/."""
    out = io.StringIO()
    errors = io.StringIO()
    code = 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
    ):
        patch.setattr(sys, "argv", words)
        try:
            runpy.run_path(words[0], run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
    return code, out.getvalue(), errors.getvalue()


# ------------------------------------------------------------------------------------------------ whose files are whose


class Files:
    """The files in a page's folder, and which command each file and each folder is of: the first that wrote there."""

    def __init__(self, folder):
        self.folder = folder
        self.contents = {}  # {path: hash}
        self.owners = {}  # {path of a file, or of a folder directly in the page's: command}

    def look(self):
        """{path: hash of the contents}; links are not followed, and locks are left out."""
        found = {}
        for place, _, names in os.walk(self.folder):
            for name in names:
                path = Path(place, name)
                if not path.is_symlink() and path.suffix != ".lock":
                    found[path.relative_to(self.folder)] = hashlib.sha1(path.read_bytes()).hexdigest()
        return found

    def belong_to(self, owner):
        """What is new here belongs to the owner."""
        self.contents = self.look()
        for path in self.contents:
            self.owners.setdefault(path, owner)
            self.owners.setdefault(folder_of(path), owner)

    def faults_of(self, command, words, out):
        """Takes what a command has written for its own. Returns what it did to files and folders of others."""
        before = self.contents
        now = self.look()
        new = [path for path in now if path not in before]
        changed = [path for path in before if now.get(path) != before[path]]
        faults = []
        if "nothing was trained" in out and changed:
            faults.append(f"trained nothing, but changed {names_of(changed)}")
        others = {}  # {owner: paths}
        for path in changed:
            if self.owners[path] != command and not is_continued(words, path):
                others.setdefault(self.owners[path], []).append(path)
        for owner, paths in others.items():
            faults.append(f"changed or removed {names_of(paths)} of: {owner}")
        for folder in {*map(folder_of, new), *output_folders(words)}:
            owner = self.owners.get(folder, command)
            is_known = owner == command or owner in others
            if not is_known and not is_continued(words, folder) and not is_guest(words):
                faults.append(f"wrote into {folder} of: {owner}")
        self.belong_to(command)
        return faults


def folder_of(path):
    """The folder in the page's folder that a file is in; of a file that is in none, the file itself."""
    return Path(path.parts[0])


def names_of(paths):
    """The first few of them."""
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(map(str, paths[:3])) + more


def output_folders(words):
    """The folder that --output_dir names, if it is given."""
    given = value_of("--output_dir", words)
    return [folder_of(Path(given))] if given else []


def is_continued(words, path):
    """Whether a command continues the training that a path belongs to."""
    checkpoint = value_of("--checkpoint", words)
    return checkpoint is not None and value_of("--mode", words) == "train" and path.parts[0] == checkpoint.split("/")[0]


def is_guest(words):
    """Whether a command puts files of names of its own into the folder of another, as the docs say: exports of one
    checkpoint stand together, numbers of evaluate.py with what they measure, and translate.py's LiteRT models beside
    the checkpoint."""
    is_export = words[0] == "tools/export.py" or value_of("--mode", words) == "export"
    keeps_litert = value_of("--engine", words) in ("litert", "auto")
    return is_export or keeps_litert or words[0] == "tools/evaluate.py"


# ---------------------------------------------------------------------------------------------------------------- tests


PAGE = """
Text, and `python inline.py` in it.

    python a.py --x 1   # comment
    python b.py \\
        --y 2           # comment

```
python3 -m venv .venv && .venv/bin/python c.py && .venv/bin/python d.py --flag "a b"
for style in zero; do
    cp ${style}.png images
done
for style in one two; do
    python e.py --name ${style}_test    # comment
done
FLAGS="--z 3"
FLAGS="$FLAGS --w 4"
python f.py $FLAGS > out.json
TF_CONFIG=... python g.py "$UNKNOWN"
```

```yaml
python no.py
```
"""


def test_commands_are_found():
    """What a shell makes of comments, continued lines, loops, variables and &&."""
    assert commands_in(PAGE) == [
        "python a.py --x 1",
        "python b.py --y 2",
        ".venv/bin/python c.py",
        '.venv/bin/python d.py --flag "a b"',
        "python e.py --name one_test",
        "python e.py --name two_test",
        "python f.py --z 3 --w 4 > out.json",
        'TF_CONFIG=... python g.py "$UNKNOWN"',
    ]
    assert words_of('.venv/bin/python d.py --flag "a b"') == (["d.py", "--flag", "a b"], None)
    assert words_of("python f.py --z 3 > out.json") == (["f.py", "--z", "3"], "out.json")


def all_commands():
    return [command for page in PAGES for command in commands_of(page)]


def test_tables_name_commands_and_pages():
    """What stands in a table without need would hide the next command that fails."""
    for part in [*SKIPPED, *NEEDED]:
        assert any(part in command for command in all_commands()), part
    assert {*INPUTS, *BEFORE} <= set(PAGES)


@pytest.mark.more
def test_the_example_of_the_map_adds_a_loss(tmp_path):
    """docs/code-map.md: its pieces of code, put where it says, give a pix2pix.py with a flag and a curve more."""
    page = (ROOT / "docs" / "code-map.md").read_text(encoding="utf-8")
    section = page.partition("\n## Change a loss, and compare\n")[2].partition("\n## ")[0]
    flag, function, step, losses = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    *sums, result = step.splitlines()
    text = (ROOT / "pix2pix.py").read_text(encoding="utf-8")
    for before, after in (
        (r'number\("l1_weight".*\n', r"\g<0>" + flag),
        (r"\ndef l1_loss\(.*\n(    .*\n)+", r"\g<0>\n\n" + function),
        (r"( +)loss_g = .*\n", r"\g<0>" + "".join(rf"\g<1>{line}\n" for line in sums)),
        (r"return tf\.stack\(\[discrim, gan, l1\]\)", result),
        (r'losses = \("discrim", .*\n', losses),
    ):
        text, count = re.subn(before, after, text)
        assert count == 1, before
    (tmp_path / "changed.py").write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("changed", tmp_path / "changed.py")
    changed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(changed)
    pairs = save_pairs(tmp_path / "train", ["1.png", "2.png"])
    trained = {}
    for weight in ("0", "1000"):
        folder = tmp_path / weight
        flags = [*TINY, "--mode", "train", "--max_steps", "3", "--seed", "1", "--edge_weight", weight]
        flags += ["--input_dir", str(pairs), "--output_dir", str(folder)]
        assert changed.main(["changed.py", *flags], changed.Pix2Pix) == 0
        history = json.loads((folder / "history.json").read_text())
        trained[weight] = history["loss"]["3"]
    assert list(trained["0"]) == ["discrim", "gan", "l1", "edge"]
    assert trained["0"]["edge"] > 0 and trained["0"] != trained["1000"]


@pytest.mark.more
def test_first_commands_of_the_readme_can_be_given_twice_in_one_folder(runs_here):
    give_twice("README.md", commands_of("README.md", end="## Your own images"), runs_here)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_can_be_given_twice_in_one_folder(page, runs_here):
    give_twice(page, commands_of(page), runs_here)


def give_twice(page, commands, folder):
    """Runs the commands of a page twice. Fails at the end, with all that went wrong."""
    files = Files(folder)
    for name, make in INPUTS.get(page, {}).items():
        make(folder / name)
    files.belong_to("the reader")
    faults = []
    for command in BEFORE.get(page, []):
        faults += give(command, files, "before")
    for time in ("first time", "second time"):
        for command in commands:
            faults += give(command, files, time)
    assert not faults, "\n\n".join(["", *faults])


def give(command, files, time):
    """Runs a command, if it can run here. Returns what went wrong."""
    reason = reason_to_skip(command)
    if reason:
        print(f"{time}: skipped, {reason}: {command}")
        return []
    print(f"{time}: {command}", flush=True)
    words, target = words_of(command)
    code, out, err = run(tiny(words))
    if target:
        Path(target).write_text(out, encoding="utf-8")
    faults = files.faults_of(command, words, out)
    if code:
        faults.append(f"ended with {code}: {err.strip()[-500:]}")
    return [f"{time}: {command}\n    {fault}" for fault in faults]
