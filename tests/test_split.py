"""tools/split.py through its command line."""

import functools
import importlib
import os
import pathlib

import numpy as np
import pytest
from conftest import save_image
from run_tool import fails, run_tool

tool = functools.partial(run_tool, "split")


def paint(folder, count, prefix=""):
    """Makes `count` small images, no two alike; returns {name: bytes}."""
    for i in range(count):
        save_image(folder / f"{prefix}{i}.png", np.full((4, 8, 3), i, np.uint8))
    return contents(folder)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def pairs(tmp_path):
    """A folder of twenty pairs."""
    paint(tmp_path / "pairs", 20)
    return tmp_path / "pairs"


def check(output, source, sizes):
    """Each image of `source` is in exactly one folder of `output`, unchanged, and the folders have these sizes."""
    parts = {path.name: contents(path) for path in output.iterdir()}
    assert {name: len(part) for name, part in parts.items()} == sizes
    assert sum(sizes.values()) == len(contents(source))
    merged = {}
    for part in parts.values():
        merged |= part
    assert merged == contents(source)


def test_drawings_of_one_photo_stay_together(tmp_path):
    for photo in range(10):
        for variant in range(1, 4):
            save_image(tmp_path / "pairs" / f"{photo}.hand{variant}.png", np.full((4, 8, 3), photo, np.uint8))
    assert tool("--dir", tmp_path / "pairs", "--output_dir", tmp_path / "out").returncode == 0
    check(tmp_path / "out", tmp_path / "pairs", {"train": 24, "val": 6})
    photos = [{name[0] for name in contents(tmp_path / "out" / part)} for part in ("train", "val")]
    assert not photos[0] & photos[1]


@pytest.mark.parametrize("head", [".head", ".round"])
@pytest.mark.parametrize("drawing", ["", ".hand1"])
def test_a_head_stays_with_its_photo(tmp_path, head, drawing):
    for photo in range(10):
        for kind in (drawing, head + drawing):
            save_image(tmp_path / "pairs" / f"{photo}{kind}.png", np.full((4, 8, 3), photo, np.uint8))
    assert tool("--dir", tmp_path / "pairs", "--output_dir", tmp_path / "out").returncode == 0
    check(tmp_path / "out", tmp_path / "pairs", {"train": 16, "val": 4})
    photos = [{name[0] for name in contents(tmp_path / "out" / part)} for part in ("train", "val")]
    assert not photos[0] & photos[1]


def test_pairs_into_three(pairs, tmp_path):
    before = contents(pairs)
    out = tmp_path / "deep" / "out"
    result = tool("--input_dir", pairs, "--output_dir", out, "--train_frac", 0.7, "--val_frac", 0.2, "--test_frac", 0.1)
    assert (result.returncode, result.stderr) == (0, "")
    check(out, pairs, {"train": 14, "val": 4, "test": 2})
    assert contents(pairs) == before  # copied, not moved
    assert "14 train, 4 val, 2 test" in result.stdout
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "fractions, sizes",
    [
        ([], {"train": 16, "val": 4}),  # what pix2pix-tensorflow does
        (["--train_frac", 0.5], {"train": 10, "val": 10}),
        (["--test_frac", 0.1], {"train": 16, "val": 2, "test": 2}),
        (["--train_frac", 0.9, "--test_frac", 0.1], {"train": 18, "test": 2}),
        (["--train_frac", 1], {"train": 20}),
    ],
)
def test_what_is_not_given_is_the_rest(pairs, tmp_path, fractions, sizes):
    assert tool("--dir", pairs, "--output_dir", tmp_path / "out", *fractions).returncode == 0
    check(tmp_path / "out", pairs, sizes)


def test_the_seed_decides(pairs, tmp_path):
    outs = {}
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        assert tool("--dir", pairs, "--output_dir", tmp_path / name, "--seed", seed).returncode == 0
        outs[name] = {part: contents(tmp_path / name / part) for part in ("train", "val")}
    assert outs["a"] == outs["b"] != outs["c"]
    # a draw, and not the last or first few in order
    assert outs["a"]["val"].keys() not in (
        {"16.png", "17.png", "18.png", "19.png"},
        {"0.png", "1.png", "2.png", "3.png"},
    )


def test_the_order_on_disk_does_not_decide():
    """1.png and 01.png are equal in natural order, so a folder can list them either way."""
    module = importlib.import_module("split")
    paths = [pathlib.Path(f"{zeros}{i}.png") for i in range(10) for zeros in ("", "0")]
    fractions = {"train": 0.8, "val": 0.2, "test": 0.0}
    assert module.split(paths, fractions, seed=1) == module.split(paths[::-1], fractions, seed=1)


def test_unpaired(tmp_path):
    photos, paintings = paint(tmp_path / "photos", 10), paint(tmp_path / "paintings", 20, "p")
    result = tool("--unpaired", tmp_path / "photos", tmp_path / "paintings", "--output_dir", tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    parts = {path.name: contents(path) for path in (tmp_path / "out").iterdir()}
    assert {name: len(part) for name, part in parts.items()} == {"trainA": 8, "testA": 2, "trainB": 16, "testB": 4}
    assert parts["trainA"] | parts["testA"] == photos
    assert parts["trainB"] | parts["testB"] == paintings


@pytest.mark.parametrize(
    "fractions", [["--test_frac", 0.1], ["--train_frac", 0.9], ["--train_frac", 0.9, "--test_frac", 0.1]]
)
def test_unpaired_fractions(pairs, tmp_path, fractions):
    paint(tmp_path / "b", 10)
    assert tool("--unpaired", pairs, tmp_path / "b", "--output_dir", tmp_path / "out", *fractions).returncode == 0
    sizes = {path.name: len(contents(path)) for path in (tmp_path / "out").iterdir()}
    assert sizes == {"trainA": 18, "testA": 2, "trainB": 9, "testB": 1}


def test_counterparts_by_name_stay_together(tmp_path):
    """Documented: two folders with the same names are split alike."""
    paint(tmp_path / "a", 12), paint(tmp_path / "b", 12)
    assert tool("--unpaired", tmp_path / "a", tmp_path / "b", "--output_dir", tmp_path / "out").returncode == 0
    assert contents(tmp_path / "out/testA").keys() == contents(tmp_path / "out/testB").keys()


def test_link_makes_hard_links_to_the_image_itself(pairs, tmp_path):
    (pairs / "0.png").rename(tmp_path / "elsewhere.png")
    (pairs / "0.png").symlink_to("../elsewhere.png")
    assert tool("--dir", pairs, "--output_dir", tmp_path / "out", "--link").returncode == 0
    check(tmp_path / "out", pairs, {"train": 16, "val": 4})
    for path in (tmp_path / "out").rglob("*.png"):
        assert path.samefile(pairs / path.name) and not path.is_symlink()


@pytest.mark.skipif(not os.path.isdir("/dev/shm") or not os.access("/dev/shm", os.W_OK), reason="no second disk here")
def test_link_to_another_disk(pairs, tmp_path):
    out = pathlib.Path(f"/dev/shm/test_split.{os.getpid()}")
    if os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("/dev/shm and the temporary folder are on one disk")
    assert fails(tool("--dir", pairs, "--output_dir", out, "--link"), "another disk", "--link")
    assert not list(out.parent.glob(f"*{out.name}*"))


def test_an_output_that_holds_something_is_left_alone(pairs, tmp_path):
    out = tmp_path / "out"
    assert tool("--dir", pairs, "--output_dir", out, "--train_frac", 0.5).returncode == 0
    before = {path: path.read_bytes() for path in out.rglob("*.png")}
    assert fails(tool("--dir", pairs, "--output_dir", out), out, "not an empty folder", "--output_dir")
    assert {path: path.read_bytes() for path in out.rglob("*.png")} == before
    assert fails(tool("--dir", pairs, "--output_dir", pairs), "not an empty folder")
    assert fails(tool("--dir", pairs, "--output_dir", pairs / "0.png"), "not an empty folder")


def test_an_empty_output_folder_is_taken(pairs, tmp_path):
    (tmp_path / "out").mkdir()
    assert tool("--dir", pairs, "--output_dir", tmp_path / "out").returncode == 0
    check(tmp_path / "out", pairs, {"train": 16, "val": 4})


def test_an_image_that_cannot_be_read_is_named_and_nothing_is_written(pairs, tmp_path):
    (pairs / "gone.png").symlink_to("nowhere")
    assert fails(tool("--dir", pairs, "--output_dir", tmp_path / "out"), "gone.png", "nothing was written")
    assert [path.name for path in tmp_path.iterdir()] == ["pairs"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--dir", "{pairs}", "--train_frac", "0.8", "--val_frac", "0.1"], ["add up to 0.9"]),
        (["--dir", "{pairs}", "--train_frac", "0.8", "--test_frac", "0.3"], ["add up to 1.1"]),
        (["--dir", "{pairs}", "--train_frac", "1.5"], ["--train_frac 1.5", "0 to 1"]),
        (["--dir", "{pairs}", "--train_frac", "nan"], ["--train_frac nan"]),
        (["--dir", "{pairs}", "--test_frac", "-0.1"], ["--test_frac -0.1"]),
        (["--dir", "{pairs}", "--train_frac", "most"], ["--train_frac", "most"]),
        (["--dir", "{pairs}", "--train_frac", "0.99"], ["val would be empty", "20 images"]),
        (["--dir", "{pairs}", "--train_frac", "0"], ["train would be empty"]),
        (["--unpaired", "{pairs}", "{pairs}"], ["same folder"]),
        (["--unpaired", "{pairs}", "{other}", "--val_frac", "0.1"], ["--val_frac"]),
        (["--unpaired", "{pairs}", "{other}"], ["test would be empty", "2 images"]),
        (["--unpaired", "{pairs}", "{missing}"], ["missing", "not a folder"]),
        (["--unpaired", "{pairs}"], ["--unpaired"]),
        (["--unpaired", "{pairs}", "{other}", "--dir", "{pairs}"], ["not allowed"]),
        (["--dir", "{missing}"], ["missing", "not a folder"]),
        (["--dir", "{empty}"], ["empty", "no images"]),
        (["--dir", "{pairs}", "--nope"], ["--nope", "--help"]),
        ([], ["--dir", "--unpaired"]),
    ],
)
def test_what_a_user_can_get_wrong(pairs, tmp_path, arguments, words):
    (tmp_path / "empty").mkdir()
    paint(tmp_path / "other", 2)
    folders = {name: tmp_path / name for name in ("pairs", "other", "missing", "empty")}
    arguments = [argument.format(**folders) for argument in arguments]
    assert fails(tool(*arguments, "--output_dir", tmp_path / "out"), *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "other", "pairs"]


def test_folders_that_cannot_be_looked_into(pairs, tmp_path):
    """A name that is too long stands for all that a system refuses, such as a folder of another user."""
    long = tmp_path / ("x" * 300)
    fails(tool("--dir", long, "--output_dir", tmp_path / "out"), f"{long}: File name too long")
    fails(tool("--unpaired", pairs, long, "--output_dir", tmp_path / "out"), f"{long}: File name too long")
    fails(tool("--dir", pairs, "--output_dir", long), "File name too long")
    assert [path.name for path in tmp_path.iterdir()] == ["pairs"]


def test_help_has_a_line_for_every_option():
    result = tool("--help")
    assert result.returncode == 0
    for option in (
        "--dir",
        "--unpaired",
        "--output_dir",
        "--train_frac",
        "--val_frac",
        "--test_frac",
        "--seed",
        "--link",
    ):
        assert option in result.stdout


def test_every_type_that_training_reads_is_taken(pairs, tmp_path):
    """Whatever the case of its extension; HEIC, for which training needs one more package, too."""
    for name in ("a.webp", "b.tif", "c.TIFF", "d.Jpeg", "e.GIF", "f.bmp", "g.avif"):
        save_image(pairs / name, np.full((4, 8, 3), 9, np.uint8))
    (pairs / "phone.heic").write_bytes(b"not opened")
    result = tool("--dir", pairs, "--output_dir", tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    check(tmp_path / "out", pairs, {"train": 22, "val": 6})


def test_what_training_does_not_read_is_left_out_and_named(pairs, tmp_path):
    (pairs / "inside").mkdir()
    (pairs / "inside.png").mkdir()
    (pairs / "notes.txt").write_text("no image")
    (pairs / ".hidden.png").write_bytes(b"")
    result = tool("--dir", pairs, "--output_dir", tmp_path / "out")
    assert result.returncode == 0 and "3 left out, e.g. inside" in result.stderr
    assert len(list((tmp_path / "out").rglob("*.*"))) == 20


@pytest.mark.parametrize("target", ["empty", "pairs", "missing"])
def test_an_output_that_is_a_link_is_refused(pairs, tmp_path, target):
    """Also one to an empty folder: it would be replaced by a folder of the same name."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / target)
    before = contents(pairs)
    assert fails(tool("--dir", pairs, "--output_dir", tmp_path / "link"), "link", "not an empty folder", "--output_dir")
    assert os.readlink(tmp_path / "link") == str(tmp_path / target) and contents(pairs) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "link", "pairs"]
