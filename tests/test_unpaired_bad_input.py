"""What a user can get wrong with the unpaired scripts: each ends in one line on stderr that names the thing, and exit code 2.

What they share with pix2pix.py by the same source is in test_bad_input.py; here is what two sides and two generators add.
"""

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import only_once, paint, save_picture, save_sides, truncate

PARTS = {"trainA": ["1.png", "2.png"], "trainB": ["1.png", "2.png"], "testA": ["1.png", "2.png"], "testB": ["1.png", "2.png"]}


def copy_training(learned, folder):
    return Path(shutil.copytree(learned.folder, folder))


def train_flags(script, input_dir, output_dir):
    flags = ["--mode", "train", *script.tiny, "--max_steps", 3, "--display_freq", 0]
    return [*flags, "--input_dir", input_dir, "--output_dir", output_dir]


# ---------------------------------------------------------------------------------------------------------- the sides


@pytest.mark.parametrize("part", ["trainA", "trainB"])
def test_side_of_training(script, tmp_path, part):
    """Missing, empty, without pictures; nothing is written."""
    flags = train_flags(script, save_sides(tmp_path / "in", PARTS), tmp_path / "o")
    shutil.rmtree(tmp_path / "in" / part)
    assert f"no such folder: {tmp_path / 'in' / part}" in script.fails(*flags)
    (tmp_path / "in" / part).mkdir()
    assert f"no pictures in {tmp_path / 'in' / part}" in script.fails(*flags)
    (tmp_path / "in" / part / "readme.txt").write_text("no picture")
    assert ".jpg" in script.fails(*flags)
    assert not (tmp_path / "o").exists()


def test_training_on_one_of_the_sides(script, tmp_path):
    """--input_dir as pix2pix.py takes it: the message says what is meant instead."""
    folder = save_sides(tmp_path / "in", PARTS) / "trainA"
    message = script.fails(*train_flags(script, folder, tmp_path / "o"))
    assert str(folder) in message and "trainA" in message and "trainB" in message


@pytest.mark.parametrize(("direction", "part"), [("AtoB", "testA"), ("BtoA", "testB"), ("both", "testB")])
def test_side_of_test(script, learned, tmp_path, direction, part):
    folder = save_sides(tmp_path / "in", PARTS)
    flags = ["--mode", "test", "--checkpoint", learned.folder, "--input_dir", folder, "--output_dir", tmp_path / "o"]
    flags += ["--which_direction", direction]
    shutil.rmtree(folder / part)
    assert f"no such folder: {folder / part}" in script.fails(*flags)
    (folder / part).mkdir()
    assert f"no pictures in {folder / part}" in script.fails(*flags)


def test_the_side_that_is_not_asked_for_may_be_missing(script, learned, tmp_path):
    folder = save_sides(tmp_path / "in", {"testA": ["1.png"]})
    script("--mode", "test", "--checkpoint", learned.folder, "--input_dir", folder, "--output_dir", tmp_path / "o")
    assert (tmp_path / "o" / "images" / "1-outputs.png").is_file()


def test_test_without_pictures_beside_the_training_ones(script, learned, tmp_path):
    folder = copy_training(learned, tmp_path / "o")
    lonely = save_sides(tmp_path / "lonely", {"trainA": ["1.png"], "trainB": ["1.png"]})
    options = json.loads((folder / "options.json").read_text()) | {"input_dir": str(lonely)}
    (folder / "options.json").write_text(json.dumps(options))
    message = script.fails("--mode", "test", "--checkpoint", folder, "--output_dir", tmp_path / "t")
    assert str(lonely) in message and "--input_dir" in message


def test_both_directions_of_a_plain_folder(script, learned, sides, tmp_path):
    flags = ["--mode", "test", "--checkpoint", learned.folder, "--which_direction", "both", "--output_dir", tmp_path / "o"]
    for path in (sides / "testA", sides / "testA" / "pic1.png"):
        message = script.fails(*flags, "--input_dir", path)
        assert str(path) in message and "--which_direction" in message


def test_export_of_both_directions(script, learned, tmp_path):
    for kind in ("saved_model", "litert"):
        flags = ["--which_direction", "both", "--export_format", kind, "--output_dir", tmp_path / "o"]
        message = script.fails("--mode", "export", "--checkpoint", learned.folder, *flags)
        assert "--which_direction" in message and "AtoB or BtoA" in message


def test_paired_without_a_twin(script, learned, tmp_path):
    only_once(script)
    folder = save_sides(tmp_path / "in", PARTS)
    (folder / "testB" / "2.png").unlink()
    flags = ["--mode", "test", "--checkpoint", learned.folder, "--paired", "--input_dir"]
    message = script.fails(*flags, folder, "--output_dir", tmp_path / "o")
    assert "--paired" in message and str(folder / "testB" / "2.png") in message
    save_picture(tmp_path / "plain" / "1.png", paint(40, 40, 1))
    assert "--paired" in script.fails(*flags, tmp_path / "plain", "--output_dir", tmp_path / "p")


# -------------------------------------------------------------------------------------------------- damaged pictures


@pytest.mark.parametrize("cache", [["--cache_mb", 1024], ["--cache_mb", 0]], ids=["cached", "uncached"])
def test_truncated_picture_of_the_second_side(script, tmp_path, cache):
    folder = save_sides(tmp_path / "in", {"trainA": ["1.png", "2.png"], "trainB": ["1.jpg", "2.jpg"]})
    truncate(folder / "trainB" / "2.jpg")
    message = script.fails(*train_flags(script, folder, tmp_path / "o"), *cache)
    assert str(folder / "trainB" / "2.jpg") in message
    if cache[1] == 0:  # it was met in the middle: the steps before are saved
        step = int(re.search(r"step (\d) is saved", message)[1])
        assert (tmp_path / "o" / f"model-{step}.index").exists()


def test_truncated_sample_picture_is_named_before_training(script, tmp_path):
    folder = save_sides(tmp_path / "in", PARTS)
    truncate(folder / "testB" / "2.png")
    message = script.fails(*train_flags(script, folder, tmp_path / "o"), "--display_freq", 3)
    assert str(folder / "testB" / "2.png") in message
    assert not (tmp_path / "o").exists()


def test_truncated_picture_in_test_does_not_stop_the_others(script, learned, tmp_path):
    folder = save_sides(tmp_path / "in", PARTS)
    truncate(folder / "testA" / "1.png")
    flags = ["--mode", "test", "--checkpoint", learned.folder, "--input_dir", folder, "--which_direction", "both"]
    message = script.fails(*flags, "--output_dir", tmp_path / "o")
    assert str(folder / "testA" / "1.png") in message and "1 of 4" in message
    outputs = sorted(path.name for path in (tmp_path / "o" / "images").glob("*-outputs.png"))
    assert outputs == ["AtoB-2-outputs.png", "BtoA-1-outputs.png", "BtoA-2-outputs.png"]


def test_truncated_twin_is_named(script, learned, tmp_path):
    folder = save_sides(tmp_path / "in", PARTS)
    truncate(folder / "testB" / "1.png")
    flags = ["--mode", "test", "--checkpoint", learned.folder, "--input_dir", folder, "--paired"]
    assert str(folder / "testB" / "1.png") in script.fails(*flags, "--output_dir", tmp_path / "o")


# ------------------------------------------------------------------------------------------------------ the checkpoint


@pytest.mark.parametrize("mode", ["train", "test", "export"])
def test_checkpoint_of_other_networks(script, learned, tmp_path, mode):
    changes = [["--ngf", 8], ["--pool_size", 50], ["--n_layers_d", 1], ["--crop_size", "32x64"]]
    changes += [["--n_blocks", 2], ["--upsample", "resize"]] if script.name == "cyclegan" else []
    for change in changes:
        message = script.fails("--mode", mode, "--checkpoint", learned.folder, "--output_dir", tmp_path / "o", *change)
        assert str(learned.folder) in message and change[0] in message
    assert not (tmp_path / "o").exists()


def test_checkpoint_of_another_script(script, learned, trained, tmp_path):
    message = script.fails("--mode", "test", "--checkpoint", trained.folder, "--output_dir", tmp_path / "o")
    assert str(trained.folder) in message and "pix2pix.py" in message and f"{script.name}.py" in message


def test_training_into_a_folder_with_a_checkpoint(script, learned, sides):
    before = {path.name: path.stat().st_mtime_ns for path in learned.folder.iterdir()}
    message = script.fails(*train_flags(script, sides, learned.folder))
    assert f"--checkpoint {learned.folder}" in message and "--output_dir" in message
    assert {path.name: path.stat().st_mtime_ns for path in learned.folder.iterdir()} == before


# --------------------------------------------------------------------------------------------------------------- flags


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--crop_size", "50", "--scale_size", "60"], ["--crop_size 50x50", "multiples of"]),
        (["--crop_size", "64x50", "--scale_size", "80"], ["--crop_size 64x50", "multiples of"]),
        (["--crop_size", "32", "--n_layers_d", "4"], ["--crop_size 32x32", "--n_layers_d 4", "48"]),
        (["--crop_size", "64", "--scale_size", "60"], ["--crop_size 64", "--scale_size 60"]),
        (["--pool_size", "-1"], ["pool_size"]),
        (["--decay_epochs", "-1"], ["decay_epochs"]),
        (["--cycle_weight", "-1"], ["cycle_weight"]),
        (["--identity_weight", "much"], ["identity_weight", "much"]),
        (["--gan_loss", "wgan"], ["gan_loss", "lsgan"]),
        (["--which_direction", "CtoA"], ["which_direction", "both"]),
        (["--l1_weight", "1"], ["l1_weight"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_flags(script, sides, tmp_path, flags, words):
    message = script.fails(*train_flags(script, sides, tmp_path / "o"), *flags)
    for word in words:
        assert word in message
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("mode", ["train", "test", "export"])
def test_unwritable_output(script, learned, sides, tmp_path, mode):
    (tmp_path / "file").write_text("in the way")
    if mode == "train":
        flags = train_flags(script, sides, tmp_path / "file" / "o")
    else:
        flags = ["--mode", mode, "--checkpoint", learned.folder, "--output_dir", tmp_path / "file" / "o"]
    message = script.fails(*flags)
    assert str(tmp_path / "file" / "o") in message and "--output_dir" in message


def test_losses_that_are_not_finite(script, learned, tmp_path):
    """The step and the last good checkpoint are named, and that one is good."""
    only_once(script)
    folder = copy_training(learned, tmp_path / "o")
    flags = ["--cycle_weight", 1e38, "--gan_weight", 1e38, "--lr", 1e30, "--display_freq", 0, "--max_steps", 60]
    message = script.fails("--mode", "train", "--checkpoint", folder, *flags)
    assert int(re.search(r"step (\d+): not finite", message)[1]) > 20
    assert str(folder / "model-20") in message and "--lr" in message and "cycle_A" in message
    script("--mode", "test", "--checkpoint", folder, "--output_dir", tmp_path / "t")
