"""Nothing lost, nothing mixed: what an attack on all scripts and tools and 147 reports from the field found.

Other files test the same kinds where they belong: signals, precision and names in test_command_line.py, exports in
test_export.py, orders of images in test_pix2pix_numbers.py, tools in the file of each.
"""

import contextlib
import errno
import importlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import (
    ROOT,
    SCRIPTS,
    TINY,
    ParsedPage,
    assert_one_line,
    assert_same,
    checkpoints,
    once,
    only,
    paint,
    plain_environment,
    pngs,
    process,
    save_image,
    save_pairs,
    save_pix2pix_data,
    save_unpaired_data,
    tensors,
    truncate,
)
from run_tool import common, fails, run_tool

pytestmark = [
    pytest.mark.more,
    pytest.mark.filterwarnings("ignore:Even though the .tf.config.experimental_run_functions_eagerly"),
]
TRAIN = ["--mode", "train", *TINY, "--batch_size", 2, "--progress_freq", 1, "--display_freq", 0]


@pytest.fixture(autouse=True, scope="module")
def uncompiled():
    """Steps run operation by operation here: for one or two, that takes a fifth of the time."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Data, and a training of three steps with a checkpoint of each. Read only; `training` is a copy."""
    home = tmp_path_factory.mktemp("nothing-lost")
    data = save_pix2pix_data(home / "data")
    SCRIPTS["pix2pix"](*flags_of(data, home / "tiny_train"))
    return home


@pytest.fixture
def data(made):
    """--input_dir of the training, with four held-out pairs beside it. Read only."""
    return made / "data" / "train"


@pytest.fixture
def training(made, tmp_path):
    """The folder of a finished training."""
    return Path(shutil.copytree(made / "tiny_train", tmp_path / "tiny_train"))


@pytest.fixture(scope="module")
def unpaired(tmp_path_factory):
    """A working directory with unpaired data, and a training of one step there by cyclegan.py in its default folder."""
    home = tmp_path_factory.mktemp("unpaired")
    save_unpaired_data(home / "photo2painting")
    with contextlib.chdir(home):
        SCRIPTS["cyclegan"](*flags_of_unpaired("cyclegan"))
    return home


def flags_of(data, folder, *more):
    """The command line of the training `made`."""
    return [*TRAIN, "--input_dir", data, "--output_dir", folder, "--seed", 3, "--save_freq", 1, "--max_steps", 3, *more]


def flags_of_unpaired(name):
    """A training of one step in the default folder of a script."""
    more = ["--display_freq", 0, "--input_dir", "photo2painting", "--max_steps", 1]
    return ["--mode", "train", *SCRIPTS[name].tiny, *more]


def contents(folder):
    """{name: bytes} of all files in a folder, {name: target} of links."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


# ------------------------------------------------------------------------------------------------ 1: files of the user


@once
def test_a_training_removes_nothing_that_it_did_not_write(script, training, tmp_path):
    """Names that are like those of half-written files; links, even of such a name, and what they lead to."""
    photos = tmp_path / "photos"
    for number in range(2):
        save_image(photos / f"{number}.png", paint(8, 8, number))
    (photos / "list.json").write_text("[]")
    names = ["part-1-photos/a.jpg", "part-00000-of-00010.tfrecord", "part-2.png", "part-3-notes.json", "my.tmp"]
    names += ["images/part-4-holiday.png", "images/part-of-me.png", "model-2_temporary/a.txt"]
    for name in names:
        (training / name).parent.mkdir(exist_ok=True)
        (training / name).write_text("mine")
    for name, target in (("part-a", photos), ("part-1-options.json", photos / "list.json"), ("model-7_temp", photos),
                         ("checkpoint.tmp1f", photos), ("images/part-5-step-00000001-a-outputs.png", photos / "0.png")):
        (training / name).symlink_to(target)
    before, photos_before = contents(training), contents(photos)
    script("--mode", "train", "--checkpoint", training)
    after = contents(training)
    assert {name: after.get(name) for name in before} == before and contents(photos) == photos_before


@once
@pytest.mark.parametrize("kind", ["text", "model of PyTorch", "folder", "link"])
def test_a_foreign_checkpoint_is_refused_untouched(script, data, tmp_path, kind):
    folder, path = tmp_path / "o", tmp_path / "o" / "checkpoint"
    folder.mkdir()
    if kind == "folder":
        path.mkdir()
        (path / "thesis.tex").write_text("mine")
    elif kind == "link":
        (tmp_path / "mine").write_text("mine")
        path.symlink_to(tmp_path / "mine")
    else:
        path.write_bytes(b"step 12: good" if kind == "text" else b"PK\x03\x04" + bytes(100))
    before = contents(tmp_path)
    message = script.fails(*flags_of(data, folder))
    assert str(path) in message and "--output_dir" in message
    after = contents(tmp_path)
    assert {name: after.get(name) for name in before} == before and "o/options.json" not in after


@once
def test_checkpoints_of_another_project_of_tensorflow_stay(script, data, tmp_path):
    """TensorFlow's manager would count them as its own, and remove all but the last three checkpoints."""
    folder = tmp_path / "o"
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(x=tf.Variable(1.0)), folder, max_to_keep=5)
    for _ in range(5):
        manager.save()
    before = contents(folder)
    assert str(folder / "checkpoint") in script.fails(*flags_of(data, folder))
    after = contents(folder)
    assert {name: after.get(name) for name in before} == before


# ------------------------------------------------------------------------------------------ 3: samples that disappear


@once
def test_a_sample_that_disappears_or_breaks_is_shown_no_more(script, tmp_path, monkeypatch):
    """A warning for each, and the training goes on to its end, also without any."""
    data = script.save_data(tmp_path)
    held_out = data.parent / "val"
    monkeypatch.setattr(script.module.Samples, "judge", lambda samples: {})  # which translates them too

    class Unlucky(script.algorithm):
        shown = 0

        def translate_file(self, path, direction):
            images = super().translate_file(path, direction)
            self.shown += 1
            if self.shown == 4:
                (held_out / "pic2.png").unlink()
                truncate(held_out / "Pic3.bmp")
            if self.shown == 6:  # of the second display, which shows the other two
                for path in held_out.iterdir():
                    path.unlink()
            return images

    flags = flags_of(data, tmp_path / "o", "--display_freq", 1, "--max_steps", 4)
    code, out, err = script.run(*flags, algorithm=Unlucky)
    assert code == 0 and "done: step 4" in out and checkpoints(tmp_path / "o") == [2, 3, 4]
    lines = err.splitlines()
    assert len(lines) == 4 and all(line.startswith("warning: ") and "not shown any more" in line for line in lines)
    for name in ("pic1.png", "pic2.png", "Pic3.bmp", "pic10.png"):
        assert sum(str(held_out / name) in line for line in lines) == 1, name
    page = ParsedPage(tmp_path / "o" / "index.html")
    steps = {name: {row[0] for row in page.rows[1:] if row[1] == name} for name in ("pic1", "pic2")}
    assert steps == {"pic1": {"1", "2"}, "pic2": {"1"}} and page.missing_files() == []


@once
@pytest.mark.parametrize("error", [RuntimeError("a fault of ours"), MemoryError(), OSError(errno.EIO, "bad disk", "x")])
def test_any_end_of_a_training_saves_first(script, data, tmp_path, error):
    """Whatever is wrong with samples or disk: the step that is done is in a checkpoint."""

    class Faulty(script.algorithm):
        def translate_file(self, path, direction):
            raise error

    flags = flags_of(data, tmp_path / "o", "--display_freq", 2, "--save_freq", 0)
    if isinstance(error, RuntimeError):
        with pytest.raises(RuntimeError, match="a fault of ours"):
            script.run(*flags, algorithm=Faulty)
    else:
        script.fails(*flags, algorithm=Faulty)
    assert checkpoints(tmp_path / "o") == [2]


# ------------------------------------------------------------------------------------------------ 6: runs do not mix


@once
def test_tools_see_the_images_of_the_last_test_alone(script, training, data, tmp_path):
    """Of a test of four pairs and one of two, in the same folder."""
    flags = ["--mode", "test", "--output_dir", tmp_path / "t", "--checkpoint"]
    script(*flags, training)
    for name in ("pic1.png", "pic2.png"):
        (tmp_path / "two").mkdir(exist_ok=True)
        shutil.copy(data.parent / "val" / name, tmp_path / "two")
    script(*flags, training / "model-1", "--input_dir", tmp_path / "two")
    metrics = json.loads((tmp_path / "t" / "metrics.json").read_text())
    assert list(metrics["images"]) == ["pic1", "pic2"] and metrics["checkpoint"] == str(training / "model-1")
    found = json.loads(run_tool("evaluate", "pairs", tmp_path / "t", "--json").stdout)
    assert list(found["images"]) == ["pic1", "pic2"]
    assert found["mean"]["psnr"] == pytest.approx(metrics["mean"]["psnr"], abs=0.01)


@once
@pytest.mark.parametrize("content", ['{"images": [{"id": 1}], "annotations": []}', '{"cases": 3}', "[1, 2]"])
def test_a_foreign_test_json_is_not_overwritten(script, training, tmp_path, content):
    """Data sets have files of that name, e.g. the annotations of COCO. It is refused, or the list goes elsewhere."""
    folder = tmp_path / "t"
    folder.mkdir()
    for name in ("test.json", "index.html", "metrics.json"):
        (folder / name).write_text(content)
    before = contents(folder)
    code, _, err = script.run("--mode", "test", "--checkpoint", training, "--output_dir", folder)
    assert (folder / "test.json").read_text() == content
    if code:
        assert_one_line(err, folder / "test.json")
        assert contents(folder) == before


@once
def test_the_same_test_twice_writes_the_same_files(script, training, tmp_path):
    flags = ["--mode", "test", "--checkpoint", training, "--output_dir", tmp_path / "t"]
    script(*flags)
    before = contents(tmp_path / "t")
    script(*flags)
    assert contents(tmp_path / "t") == before and len(before) == 3 * 4 + 3


@once
@pytest.mark.parametrize("seed", [["--seed", 5], []], ids=["a seed", "no seed"])
def test_the_same_training_twice_is_left_as_it_is(script, data, tmp_path, seed):
    """Its drawn seed and its version too: they say in which order a training that is continued sees its images."""
    folder = tmp_path / "o"
    flags = [*TRAIN, "--input_dir", data, "--output_dir", folder, "--max_steps", 1, *seed]
    script(*flags)
    options = json.loads((folder / "options.json").read_text()) | {"version": 1}
    (folder / "options.json").write_text(json.dumps(options, indent=2) + "\n")
    before = contents(folder)
    out = script(*flags)
    assert "nothing was trained: step 1 of 1" in out
    after = contents(folder)
    assert {name: after.get(name) for name in before} == before
    assert {name.partition(".")[0] for name in set(after) - set(before)} <= {"events"}


@once
def test_the_same_command_does_not_continue_an_unfinished_training(script, training, data):
    """Only --checkpoint does, so that nobody trains on by mistake; and other flags are another training."""
    options = json.loads((training / "options.json").read_text()) | {"max_steps": 9}
    (training / "options.json").write_text(json.dumps(options))
    before = contents(training)
    for more in (["--max_steps", 9], ["--max_steps", 9, "--lr", 0.1], ["--max_steps", 3, "--ngf", 5]):
        message = script.fails(*flags_of(data, training, *more))
        assert f"{training / 'model-3'} exists" in message and f"--checkpoint {training}" in message
    assert contents(training) == before


def test_runs_on_the_same_data_have_folders_of_their_own(unpaired, monkeypatch):
    """ganilla.py after cyclegan.py, and the two directions of a test, without any flag for it."""
    monkeypatch.chdir(unpaired)
    before = contents("photo2painting_cyclegan_train")
    SCRIPTS["ganilla"](*flags_of_unpaired("ganilla"))
    assert contents("photo2painting_cyclegan_train") == before
    inputs = []
    for direction in ("AtoB", "BtoA"):
        flags = ["--checkpoint", "photo2painting_cyclegan_train", "--which_direction", direction]
        SCRIPTS["cyclegan"]("--mode", "test", *flags, "--input_dir", f"photo2painting/test{direction[0]}/pic1.png")
        inputs.append(pngs(f"photo2painting_cyclegan_{direction}_test")["pic1-inputs.png"])
    assert (inputs[0] != inputs[1]).any()
    ends = ("", "_cyclegan_train", "_cyclegan_AtoB_test", "_cyclegan_BtoA_test", "_ganilla_train")
    assert {path.name for path in unpaired.iterdir()} == {f"photo2painting{end}" for end in ends}


# ---------------------------------------------------------------------------------------------------------- 7: locales


def test_a_locale_that_is_not_utf8_is_named(made, tmp_path):
    """TensorFlow would write to another folder than Python. Names of images need no word of it, or the same one."""
    save_pairs(tmp_path / "in", ["1.jpg", "Übung.jpg"])
    train = ["--mode", "train", *TINY, "--max_steps", "1", "--input_dir"]
    commands = [
        [*train, "in", "--output_dir", "Übung"],
        [*train, "Übung", "--output_dir", "o"],
        ["--mode", "test", "--checkpoint", "Übung"],
        [*train, "in", "--output_dir", "o"],
    ]
    before = contents(shutil.copytree(made / "tiny_train", tmp_path / "Übung"))
    lines = [
        "import json, os, sys",
        f"sys.path.insert(0, {str(ROOT)!r})",
        "import pix2pix, tensorflow as tf",
        "tf.config.run_functions_eagerly(True)",
        "assert sys.getfilesystemencoding() == 'ascii'",
        "for words in json.loads(sys.argv[1]):",
        "    words = [os.fsdecode(word.encode()) for word in words]",
        "    code = pix2pix.main(['pix2pix.py', *words], pix2pix.Pix2Pix)",
        "    print('CODE', code, file=sys.stderr)",
    ]
    environment = plain_environment() | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-W", "ignore", "-c", "\n".join(lines), json.dumps(commands)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=120)
    *told, last = done.stderr.decode().split("CODE ")[:-1]
    for text in told:
        assert_one_line(text[text.index("error") :], "LC_ALL=C.UTF-8", "ascii")
    assert contents(tmp_path / "Übung") == before
    if "error" in last:
        assert_one_line(last[last.index("error") :], "LC_ALL=C.UTF-8")
    else:
        assert (tmp_path / "o" / "model-1.index").exists()


# ------------------------------------------------------------------------------------------------- 8: continued wrongly


@once
def test_another_batch_size_is_refused_on_continuing(script, training):
    """Steps of another size would count other images; given again it is fine."""
    before = contents(training)
    message = script.fails("--mode", "train", "--checkpoint", training, "--batch_size", 4, "--max_steps", 9)
    assert "--batch_size 2, not 4: leave --batch_size out" in message and contents(training) == before
    assert "nothing was trained" in script("--mode", "train", "--checkpoint", training, "--batch_size", 2)


@once
@pytest.mark.parametrize("flags", [["--max_steps", 2], ["--max_epochs", 1], ["--input_dir", "other"], []])
def test_it_is_said_that_nothing_was_trained(script, training, tmp_path, monkeypatch, flags):
    """By fewer steps than were done, by other data after the last step: and what to give is said too."""
    monkeypatch.chdir(tmp_path)
    save_pairs(tmp_path / "other", ["1.png", "2.png"])
    models = {name: data for name, data in contents(training).items() if name.startswith(("model", "checkpoint"))}
    out = script("--mode", "train", "--checkpoint", training, *flags)
    last = out.splitlines()[-1]
    assert last.startswith("nothing was trained: step 3 of ") and "--max_epochs" in last and "--max_steps" in last
    assert "done: " not in out and models.items() <= contents(training).items()


# ------------------------------------------------------------------------------------------------------- 10: precision


def moments_of(model):
    """The moments of Adam for each network: [first, second] of each weight."""
    found = {}
    for name, optimizer in model.optimizers.items():
        adam = getattr(optimizer, "inner_optimizer", optimizer)
        for index, (first, second) in enumerate(zip(adam._momentums, adam._velocities, strict=True)):
            found[f"{name}_adam/momentums/{index}"] = first.numpy()
            found[f"{name}_adam/velocities/{index}"] = second.numpy()
    return found


@once
def test_adam_goes_on_when_the_precision_changes(script, made, training, tmp_path):
    """Its moments are those of the checkpoint; so are the scales of losses, if float16 was used before too."""
    flags = ["--mode", "train", "--max_steps", 4, "--mixed_precision"]
    script(*flags, "float16", "--checkpoint", training)
    folders = {"float16": training, "off": Path(shutil.copytree(made / "tiny_train", tmp_path / "off"))}
    for before, after in (("float16", "off"), ("float16", "float16"), ("off", "float16"), ("off", "bfloat16")):
        newest = folders[before] / f"model-{checkpoints(folders[before])[-1]}"
        stored = {name.partition("/.")[0]: value for name, value in tensors(newest).items()}
        assert ("generator_loss_scale/scale" in stored) == (before == "float16")
        more = ["--checkpoint", folders[before], "--max_steps", 1]  # restores, and has nothing to train
        _, model = script.recorded(*flags, after, *more)
        restored = moments_of(model)
        assert max(np.abs(value).max() for value in restored.values()) > 0
        if before == after:
            for name, optimizer in model.optimizers.items():
                restored[f"{name}_loss_scale/scale"] = optimizer.dynamic_scale.numpy()
        assert_same(restored, {name: stored[name] for name in restored})


# --------------------------------------------------------------------------------------------------- 11: single photos


def photo(height, width, seed):
    """An image without a seam in the middle: waves, and noise as of a camera."""
    noise = np.random.default_rng(seed).normal(0, 4, (height, width, 3))
    return np.uint8(np.clip(paint(height, width, seed) + noise, 0, 255))


def drawing(height, width, seed):
    """Black lines on white, which do not reach the border."""
    image = np.full((height, width, 3), 255, np.uint8)
    draw = np.random.default_rng(seed)
    for row in draw.integers(8, height - 8, 6):
        image[row, 10:-10] = 0
    return image


def labels(height, width, seed):
    """A map of flat colours."""
    colours = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return colours.repeat(height // 4, 0).repeat(width // 4, 1)


def product(height, width, seed):
    """A thing on white, as shops show it."""
    image = np.full((height, width, 3), 255, np.uint8)
    image[16:-16, 16:-16] = photo(height - 32, width - 32, seed)
    return image


def beside(a, b):
    return np.concatenate([a, b], 1)


IMAGES = {  # name: (function of a seed => image, whether it is a pair)
    "square photos": (lambda seed: photo(96, 96, seed), False),
    "upright photos": (lambda seed: photo(128, 96, seed), False),
    "photos of 4:3": (lambda seed: photo(96, 128, seed), False),
    "photos of 3:2": (lambda seed: photo(96, 144, seed), False),
    "photos of 2:1": (lambda seed: photo(96, 192, seed), False),
    "pairs of photos": (lambda seed: beside(photo(96, 96, seed), photo(96, 96, seed + 100)), True),
    "photos and their negatives": (lambda seed: beside(photo(96, 96, seed), 255 - photo(96, 96, seed)), True),
    "photos and labels": (lambda seed: beside(photo(96, 96, seed), labels(96, 96, seed)), True),
    "labels and photos, 4:3": (lambda seed: beside(labels(96, 128, seed), photo(96, 128, seed)), True),
    "photos and drawings": (lambda seed: beside(photo(96, 96, seed), drawing(96, 96, seed)), True),
    "drawings and products": (lambda seed: beside(drawing(96, 96, seed), product(96, 96, seed)), True),
    "pairs of 4:1": (lambda seed: beside(photo(48, 96, seed), photo(48, 96, seed + 100)), True),
    "pairs of narrow halves": (lambda seed: beside(photo(128, 64, seed), photo(128, 64, seed + 100)), True),
    "labels twice": (lambda seed: beside(labels(96, 96, seed), labels(96, 96, seed)), True),
}


@once
@pytest.mark.parametrize(("image", "is_pair"), IMAGES.values(), ids=IMAGES)
def test_single_images_are_told_from_pairs(script, tmp_path, capsys, image, is_pair):
    for seed in range(8):
        save_image(tmp_path / f"{seed}.png", image(seed))
    model = script.algorithm(script.options(input_dir=str(tmp_path)), training=False)
    assert len(model.find_training_images()["images"]) == 8
    err = capsys.readouterr().err
    if is_pair:
        assert err == ""
    else:
        assert err.startswith("warning: ") and err.count("\n") == 1 and "cyclegan.py" in err and "0.png" in err


@once
def test_the_shipped_samples_are_told_apart(script, capsys):
    for folder, is_pair in (("facades/train", True), ("monet2photo/trainA", False), ("monet2photo/trainB", False)):
        model = script.algorithm(script.options(input_dir=str(ROOT / "samples" / folder)), training=False)
        model.find_training_images()
        assert ("cyclegan.py" in capsys.readouterr().err) is not is_pair, folder


@once
def test_a_training_on_single_images_begins_with_a_warning(script, tmp_path):
    """On stderr, and it trains: they may be pairs all the same."""
    for seed in range(3):
        save_image(tmp_path / "in" / f"{seed}.png", photo(96, 96, seed))
    code, out, err = script.run(*flags_of(tmp_path / "in", tmp_path / "o", "--max_steps", 1))
    assert code == 0 and "done: step 1" in out and err.startswith("warning: ") and "pairs A|B" in err


# ------------------------------------------------------------------------------------------------------ 15: long names


@once
def test_held_out_images_of_long_names_are_shown(script, tmp_path):
    """Those of web pages that were saved, and of 80 Japanese letters, which are 240 bytes."""
    data = save_pairs(tmp_path / "train", ["1.png", "2.png"])
    save_pairs(tmp_path / "val", [f"{'a' * 240}.png", f"{'絵' * 80}.png"])
    script(*flags_of(data, tmp_path / "o", "--max_steps", 1, "--display_freq", 1))
    page = ParsedPage(tmp_path / "o" / "index.html")
    assert len(page.rows) == 3 and page.missing_files() == [] and len(page.images) == 6
    assert page.rows[1][1].startswith("a" * 100) and page.rows[2][1].startswith("絵" * 50)


# ---------------------------------------------------------------------------------------- 16: the surroundings of a run


class Plain:
    """A stream that has what print() needs, as a GUI puts one in place of stdout."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass


@once
@pytest.mark.parametrize("kind", ["closed", "plain"])
def test_a_training_without_a_usual_stdout(script, data, tmp_path, kind):
    """Python's stdout is None in daemons and windows without a console."""
    out = None if kind == "closed" else Plain()
    with contextlib.redirect_stdout(out):
        words = [str(word) for word in flags_of(data, tmp_path / "o", "--max_steps", 1)]
        code = script.module.main(["pix2pix.py", *words], script.algorithm)
    assert code == 0 and checkpoints(tmp_path / "o") == [1]
    assert out is None or "done: step 1" in out.text


def test_tools_without_usual_streams(training, tmp_path):
    """Neither None nor an object without isatty() ends them."""
    photos = save_image(tmp_path / "in" / "1.png", paint(64, 64, 1)).parent
    tools = {"translate": [training, photos], "split": ["--dir", photos, "--train_frac", 1]}
    for name, words in tools.items():
        for number, stream in enumerate((None, Plain())):
            folder = tmp_path / f"{name}{number}"
            with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
                code = call_tool(name, [*words, "--output_dir", folder])
            assert code == 0 and len(list(folder.rglob("1.png"))) == 1


def call_tool(name, words):
    """As run_tool(), but with the streams that there are. Returns the exit code."""
    module = importlib.import_module(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{name}.py", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            common.run(module.main)
    return caught.value.code or 0


@once
def test_a_training_in_a_thread(script, data, tmp_path):
    """Of a GUI or a web server, where Python allows no signal handlers."""
    results = []
    words = flags_of(data, tmp_path / "o", "--max_steps", 1)
    thread = threading.Thread(target=lambda: results.append(script.run(*words)))
    thread.start()
    thread.join()
    ((code, out, err),) = results
    assert (code, err) == (0, "") and "done: step 1" in out


def test_settings_of_keras_for_other_projects(data, tmp_path):
    """A backend that is not installed, in the environment and in the user's settings; and channels first."""
    settings = {"backend": "jax", "image_data_format": "channels_first", "floatx": "float32", "epsilon": 1e-7}
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(settings))
    environment = plain_environment() | {"KERAS_BACKEND": "jax", "HOME": str(tmp_path)}
    environment.pop("KERAS_HOME", None)
    done = process(*flags_of(data, tmp_path / "o", "--max_steps", 1, "--crop_size", 32), env=environment)
    assert done.returncode == 0 and "done: step 1" in done.stdout and done.stderr == ""


@pytest.mark.parametrize("script", SCRIPTS, indirect=True)
def test_help_without_docstrings(script, monkeypatch):
    """As under PYTHONOPTIMIZE=2."""
    monkeypatch.setattr(script.module, "__doc__", None)
    assert "None" not in script("--help").splitlines()[0]
    code, _, err = script.run()
    assert code == 2 and "All flags: --help" in err and "None" not in err


def test_tools_without_docstrings(tmp_path):
    """--help and what is wrong with no arguments, of all tools in one process of `python -OO`."""
    tools = [path for path in sorted((ROOT / "tools").glob("*.py")) if "__main__" in path.read_text(encoding="utf-8")]
    lines = [
        "import os, runpy, sys, traceback",
        "sys.path.insert(0, os.path.dirname(sys.argv[1]))",
        "for path in list(sys.argv[1:]):",
        "    for words in (['--help'], []):",
        "        sys.argv[:] = [path, *words]",
        "        try:",
        "            runpy.run_path(path, run_name='__main__')",
        "        except SystemExit as error:",
        "            print('CODE', os.path.basename(path), error.code)",
        "        except BaseException:",
        "            traceback.print_exc()",
    ]
    command = [sys.executable, "-B", "-OO", "-c", "\n".join(lines), *tools]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    assert len(tools) > 10
    for name in (path.name for path in tools):
        assert f"CODE {name} 0" in done.stdout or f"CODE {name} None" in done.stdout, name
        assert f"CODE {name} 2" in done.stdout or name == "fix_copies.py", name  # which needs no arguments
    assert "\nNone\n" not in done.stdout


@pytest.mark.parametrize("content", ['{"mean": 3}', '{"scores": {"fid": "n/a"}}', '{"mean": {"l1": null}}', "[]", "3",
                                     '{"scores": [1]}', '{"mean": {"l1": {"a": 1}}}'])  # fmt: skip
def test_report_leaves_out_json_of_other_programs(tmp_path, content):
    save_image(tmp_path / "a_test" / "images" / "1-outputs.png", paint(16, 16, 1))
    (tmp_path / "a_test" / "metrics.json").write_text('{"mean": {"psnr": 12.5}, "images": {"1": {"psnr": 12.5}}}')
    (tmp_path / "a_test" / "foreign.json").write_text(content)
    result = run_tool("report", tmp_path / "a_test", "--output", tmp_path / "report.html")
    assert result.returncode == 0, result
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "psnr" in text and "fid" not in text and "l1" not in text


NESTED = "[" * 100_000


def test_report_names_json_that_it_cannot_read(tmp_path):
    save_image(tmp_path / "a_test" / "images" / "1-outputs.png", paint(16, 16, 1))
    foreign = tmp_path / "a_test" / "foreign.json"
    for content in ("{", NESTED):
        foreign.write_text(content)
        fails(run_tool("report", tmp_path / "a_test", "--output", tmp_path / "report.html"), foreign)


@once
def test_deeply_nested_options(script, training, data, tmp_path):
    """As other damage: one line that names the file, from scripts and tools."""
    for content in (NESTED, '{"script":' * 50_000):
        (training / "options.json").write_text(content)
        for mode in ("train", "test", "export"):
            words = ["--mode", mode, "--checkpoint", training, "--output_dir", tmp_path / "o"]
            assert str(training / "options.json") in script.fails(*words)
        assert f"{training / 'model-3'} exists" in script.fails(*flags_of(data, training))
        fails(run_tool("translate", training, data, "--output_dir", tmp_path / "o"), training / "options.json")
    assert not (tmp_path / "o").exists() or not contents(tmp_path / "o")


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"url": "http://a"}', NESTED], ids=lambda text: text[:9])
def test_a_data_set_whose_marker_is_damaged(tmp_path, content):
    """The state of a folder that download-dataset.py completed."""
    (tmp_path / "facades").mkdir()
    (tmp_path / "facades" / ".download.json").write_text(content)
    result = run_tool("download-dataset", "facades", "--output_dir", tmp_path)
    fails(result, tmp_path / "facades" / ".download.json", "move or remove")


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"complete": true}', NESTED], ids=lambda text: text[:9])
def test_an_archive_whose_state_is_damaged(tmp_path, content):
    """It is the user's then, and stays; or it is asked for again, here in vain."""
    archive = tmp_path / "facades.tar.gz"
    archive.write_bytes(b"mine")
    (tmp_path / "facades.tar.gz.state.json").write_text(content)
    flags = ["--output_dir", tmp_path, "--url", "http://127.0.0.1:9/facades.tar.gz", "--retries", 0]
    fails(run_tool("download-dataset", "facades", *flags))
    assert archive.read_bytes() == b"mine" and not (tmp_path / "facades").exists()


@once
def test_averages_that_began_later(script, training, tmp_path):
    """--ema_decay from step 4 on: the checkpoint before has none, which is said; it is an error only for who asks."""
    script("--mode", "train", "--checkpoint", training, "--max_steps", 4, "--ema_decay", 0.9)
    flags = ["--mode", "test", "--output_dir", tmp_path / "t", "--checkpoint"]
    code, _, err = script.run(*flags, training / "model-3")
    assert code == 0 and err == f"{training / 'model-3'} holds no averaged weights: using the weights\n"
    code, _, err = script.run(*flags, training / "model-4")
    assert (code, err) == (0, "")
    assert "leave --ema_decay out" in script.fails(*flags, training / "model-3", "--ema_decay", 0.9)


@only("cyclegan")
@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_counterparts_are_found_however_their_unicode_is_composed(script, unpaired, tmp_path, direction):
    """macOS writes é as e and an accent, other systems as one letter."""
    for seed, name in enumerate(("été", "Ärger", "plain")):
        save_image(tmp_path / "data/testA" / f"{unicodedata.normalize('NFC', name)}.png", paint(40, 40, seed))
        save_image(tmp_path / "data/testB" / f"{unicodedata.normalize('NFD', name)}.png", paint(40, 40, seed + 10))
    flags = ["--mode", "test", "--checkpoint", unpaired / "photo2painting_cyclegan_train", "--paired"]
    flags += ["--input_dir", tmp_path / "data", "--which_direction", direction, "--output_dir", tmp_path / "t"]
    script(*flags)
    targets = {unicodedata.normalize("NFC", name): pixels for name, pixels in pngs(tmp_path / "t").items()}
    expected = script.module.resize(paint(40, 40, 10 if direction == "AtoB" else 0), (32, 32))
    np.testing.assert_array_equal(targets["été-targets.png"], expected)
    assert len(json.loads((tmp_path / "t" / "metrics.json").read_text())["images"]) == 3


@once
def test_streams_that_know_only_ascii(script, training, data, tmp_path):
    """What they cannot show is escaped; nothing is blamed on the names."""
    folder = Path(shutil.copytree(data.parent, tmp_path / "Übung 絵"))
    calls = {
        "train": lambda: main(script, *flags_of(folder / "train", folder / "o", "--max_steps", 1)),
        "test": lambda: main(script, "--mode", "test", "--checkpoint", folder / "o", "--output_dir", folder / "t"),
        "translate": lambda: call_tool("translate", [training, folder / "val", "--output_dir", folder / "out"]),
        "process": lambda: call_tool("split", ["--dir", folder / "val", "--output_dir", folder / "parts"]),
    }
    for name, call in calls.items():
        streams = [io.TextIOWrapper(io.BytesIO(), "ascii", write_through=True) for _ in range(2)]
        with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            code = call()
        out, err = (stream.buffer.getvalue().decode("ascii") for stream in streams)
        assert (code, err) == (0, ""), (name, out, err)
        assert r"\xdcbung \u7d75" in out, name


def main(script, *words):
    """The command line with the streams that there are."""
    return script.module.main([f"{script.name}.py", *map(str, words)], script.algorithm)


@once
def test_a_working_directory_that_was_removed(script, tmp_path):
    """For a tool in a process of its own, since Python starts there."""
    gone = tmp_path / "gone"
    gone.mkdir()
    with contextlib.chdir(gone):
        gone.rmdir()
        message = script.fails("--mode", "train")
        assert "the working directory has been removed" in message
        os.chdir(tmp_path)
    gone.mkdir()
    words = [sys.executable, ROOT / "tools" / "translate.py", "a", "b", "--output_dir", "c"]
    shell = ["sh", "-c", 'cd "$0" && rmdir "$0" && exec "$@"', gone, *words]
    done = subprocess.run(shell, capture_output=True, text=True, env=plain_environment(), timeout=60)
    assert done.returncode == 2, done
    assert_one_line(done.stderr, "the working directory has been removed")


@once
def test_a_clock_that_stands_still(script, data, tmp_path, monkeypatch):
    """Or is so coarse that a step takes no time."""
    monkeypatch.setattr(time, "perf_counter", lambda: 5.0)
    out = script(*flags_of(data, tmp_path / "o", "--summary_freq", 1))
    assert "done: step 3" in out and [line[3] for line in script.progress(out)] == ["0.00"] * 3
    out = run_tool("translate", tmp_path / "o", data.parent / "val", "--output_dir", tmp_path / "out").stdout
    assert "done: 4 images" in out


@once
@pytest.mark.parametrize("name", ["training.lock", "options.json"])
def test_a_disk_that_cannot_be_written_is_named_by_the_folder(script, data, tmp_path, monkeypatch, name):
    """Not by a file that the user does not know."""
    folder = tmp_path / "o"
    (folder / "images").mkdir(parents=True)

    def read_only(original):
        def call(path, *words, **options):
            if str(path).endswith(name):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return original(path, *words, **options)

        return call

    monkeypatch.setattr(os, "open", read_only(os.open))
    monkeypatch.setattr(Path, "write_bytes", read_only(Path.write_bytes))
    message = script.fails(*flags_of(data, folder))
    assert f"error: {folder}" in message and "Read-only file system" in message and "part-" not in message
    assert "training.lock" not in message and "--output_dir" in message
