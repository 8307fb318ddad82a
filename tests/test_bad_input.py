"""What a user can get wrong with pix2pix.py: each ends in one line on stderr that names the thing, and exit code 2.

The fixture `fails` holds every call to that. Most run in this process, which is the same code but for the interpreter's start;
test_in_a_process_of_its_own checks that nothing else, as TensorFlow's own logs, comes along.
"""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    ROOT,
    TINY,
    assert_one_line,
    command_line,
    paint,
    plain_environment,
    process,
    read_png,
    save_pairs,
    save_picture,
    tensors,
    truncate,
)

import pix2pix

TRAIN = ["--mode", "train", *TINY, "--max_steps", 3, "--display_freq", 0]


def copy_training(trained, folder):
    return Path(shutil.copytree(trained.folder, folder))


def assert_usable(cli, folder, step, input_dir):
    """The newest checkpoint of a folder is that of the step, and test mode can use it."""
    with_metrics = Path(folder).parent / "usable"
    cli("--mode", "test", "--checkpoint", folder, "--input_dir", input_dir, "--output_dir", with_metrics)
    assert json.loads((with_metrics / "metrics.json").read_text())["checkpoint"] == str(Path(folder) / f"model-{step}")


# ----------------------------------------------------------------------------------------------------- the input folder


@pytest.mark.parametrize("mode", ["train", "test"])
def test_input_folder(fails, trained, tmp_path, mode):
    """Missing, empty, without pictures."""
    flags = TRAIN if mode == "train" else ["--mode", "test", "--checkpoint", trained.folder]
    flags = [*flags, "--output_dir", tmp_path / "o", "--input_dir"]
    assert f"no such folder: {tmp_path / 'missing'}" in fails(*flags, tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    assert f"no pictures in {tmp_path / 'empty'}" in fails(*flags, tmp_path / "empty")
    (tmp_path / "empty" / "readme.txt").write_text("no picture")
    (tmp_path / "empty" / "sub").mkdir()
    (tmp_path / "empty" / "picture.webp").write_bytes(b"RIFF")
    assert ".jpg" in fails(*flags, tmp_path / "empty")
    assert not (tmp_path / "o" / "options.json").exists()


DAMAGED = {
    "text.jpg": b"this is text",
    "empty.png": b"",
    "html.jpg": b"<!DOCTYPE html><html>404</html>",
    "webp.png": b"RIFF\x00\x00\x00\x00WEBPVP8 ",
}


@pytest.mark.parametrize("name", [*DAMAGED, "cut.jpg", "cut.png", "cut.bmp", "cut.gif", "folder.png"])
@pytest.mark.parametrize("mode", ["train", "test"])
def test_not_a_picture_among_good_ones(fails, trained, tmp_path, mode, name):
    """Extensions of pictures, contents of something else or cut off; training does not start, test does the others."""
    bad = save_pairs(tmp_path / "in", ["0.png", "2.png"]) / f"1 {name}"
    if name in DAMAGED:
        bad.write_bytes(DAMAGED[name])
    elif name == "folder.png":
        bad.mkdir()
    else:
        truncate(save_picture(bad, np.random.default_rng(0).integers(0, 255, (80, 160, 3), np.uint8)))
    flags = ["--input_dir", tmp_path / "in", "--output_dir", tmp_path / "o"]
    if mode == "train":
        assert str(bad) in fails(*TRAIN, *flags)
        assert not list((tmp_path / "o").glob("model-*"))
    else:
        message = fails("--mode", "test", "--checkpoint", trained.folder, *flags)
        assert str(bad) in message and "1 of 3" in message
        assert sorted(json.loads((tmp_path / "o" / "metrics.json").read_text())["images"]) == ["0", "2"]


def test_a_folder_of_files_that_are_no_pictures(fails, trained, tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(3):
        (tmp_path / "in" / f"{number}.jpg").write_text("not a picture")
    message = fails(
        "--mode", "test", "--checkpoint", trained.folder, "--input_dir", tmp_path / "in", "--output_dir", tmp_path / "o"
    )
    assert str(tmp_path / "in" / "0.jpg") in message and "3 of 3" in message


@pytest.mark.parametrize("flags", [TRAIN, [*TRAIN, "--cache_mb", 0], ["--mode", "test"]], ids=["cached", "uncached", "test"])
def test_pair_of_odd_width(fails, trained, tmp_path, flags):
    bad = save_picture(save_pairs(tmp_path / "in", ["1.png", "3.png"]) / "2.png", paint(80, 161, 0))
    more = ["--checkpoint", trained.folder] if "test" in flags else []
    message = fails(*flags, *more, "--input_dir", tmp_path / "in", "--output_dir", tmp_path / "o")
    assert str(bad) in message and "161" in message and "even" in message


def test_odd_width_is_fine_alone(cli, trained, tmp_path):
    path = save_picture(tmp_path / "1.png", paint(80, 161, 0))
    cli("--mode", "test", "--checkpoint", trained.folder, "--nopaired", "--input_dir", path, "--output_dir", tmp_path / "o")
    assert read_png(tmp_path / "o" / "images" / "1-outputs.png").shape == (64, 64, 3)


def test_truncated_picture_met_late_is_saved_first(fails, cli, tmp_path):
    """Without a cache it comes up in mid-training: the steps before are saved, and go on when the file is repaired."""
    folder = save_pairs(tmp_path / "in", [f"{n}.jpg" for n in range(12)])
    flags = ["--mode", "train", *TINY, "--input_dir", folder, "--output_dir", tmp_path / "o", "--cache_mb", 0, "--seed", 2]
    flags += ["--display_freq", 0, "--save_freq", 0, "--progress_freq", 1]
    for victim in (3, 5, 7):  # one of them does not come first with this seed
        good = (folder / f"{victim}.jpg").read_bytes()
        truncate(folder / f"{victim}.jpg")
        message = fails(*flags, "--max_steps", 13)
        (folder / f"{victim}.jpg").write_bytes(good)
        assert str(folder / f"{victim}.jpg") in message and f"continue with --checkpoint {tmp_path / 'o'}" in message
        step = int(re.search(r"step (\d+) is saved", message)[1])
        assert (tmp_path / "o" / f"model-{step}.index").exists()
        if step:
            break
        shutil.rmtree(tmp_path / "o")
    assert 0 < step < 12
    out = cli("--mode", "train", "--checkpoint", tmp_path / "o")
    assert f"step {step + 1}/13" in out and "done: step 13" in out
    # and it is as if nothing had happened
    cli(*[tmp_path / "alone" if flag == tmp_path / "o" else flag for flag in flags], "--max_steps", 13)
    resumed, expected = tensors(tmp_path / "o" / "model-13"), tensors(tmp_path / "alone" / "model-13")
    assert all((resumed[name] == expected[name]).all() for name in expected)


def test_truncated_sample_picture_loses_no_training(cli, tmp_path):
    """One of the held-out pictures that the page shows is damaged: found before the first step, or saved first."""
    save_pairs(tmp_path / "train", ["1.png", "2.png"])
    truncate(save_pairs(tmp_path / "val", ["1.png", "2.png"]) / "2.png")
    flags = ["--mode", "train", *TINY, "--input_dir", tmp_path / "train", "--output_dir", tmp_path / "o", "--max_steps", 6]
    out = cli(*flags, "--display_freq", 4, "--progress_freq", 1, code=2)
    assert "step 1/6" not in out or (tmp_path / "o" / "model-4.index").exists()


def test_pictures_with_transparency_grey_and_16_bit_train(cli, tmp_path):
    """All are accepted, in one folder."""
    rgb = np.concatenate([paint(72, 72, 1), paint(72, 72, 2)], 1)
    grey, alpha = rgb[..., :1], rgb[..., 1:2]
    save_picture(tmp_path / "in" / "grey.png", grey[..., 0])
    save_picture(tmp_path / "in" / "grey.jpg", grey[..., 0])
    save_picture(tmp_path / "in" / "rgba.png", np.concatenate([rgb, alpha], -1))
    save_picture(tmp_path / "in" / "grey and alpha.png", np.concatenate([grey, alpha], -1))
    save_picture(tmp_path / "in" / "16 bit.png", grey[..., 0].astype(np.uint16) * 257)
    save_picture(tmp_path / "in" / "rgb.GIF", rgb)
    out = cli("--mode", "train", *TINY, "--input_dir", tmp_path / "in", "--output_dir", tmp_path / "o", "--max_steps", 6)
    assert "(6 pictures)" in out and "done: step 6" in out


# ------------------------------------------------------------------------------------------------------- the checkpoint


@pytest.mark.parametrize("mode", ["train", "test", "export"])
def test_no_checkpoint_there(fails, data, tmp_path, mode):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "missing", tmp_path / "empty", data / "train", data / "train" / "1.png"):
        message = fails("--mode", mode, "--checkpoint", path, "--input_dir", data / "train", "--output_dir", tmp_path / "o")
        assert f"no checkpoint in {path}" in message and "--output_dir of a training" in message
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("mode", ["test", "export"])
def test_checkpoint_is_needed(fails, mode):
    assert "--checkpoint" in fails("--mode", mode)


@pytest.mark.parametrize("mode", ["train", "test", "export"])
@pytest.mark.parametrize("flag", [["--ngf", 8], ["--crop_size", 32], ["--which_direction", "BtoA"], ["--separable_conv"]])
def test_checkpoint_of_other_networks(fails, trained, tmp_path, mode, flag):
    message = fails("--mode", mode, "--checkpoint", trained.folder, "--output_dir", tmp_path / "o", *flag)
    assert str(trained.folder) in message and flag[0] in message


def test_same_sizes_given_again_are_fine(cli, trained, tmp_path):
    cli("--mode", "test", "--checkpoint", trained.folder, "--output_dir", tmp_path, *TINY)


def test_checkpoint_of_another_script(fails, trained, tmp_path):
    folder = copy_training(trained, tmp_path / "o")
    options = json.loads((folder / "options.json").read_text()) | {"script": "cyclegan"}
    (folder / "options.json").write_text(json.dumps(options))
    message = fails("--mode", "test", "--checkpoint", folder)
    assert str(folder) in message and "cyclegan.py" in message and "pix2pix.py" in message


@pytest.mark.parametrize(
    "content",
    [None, b"", b"{", b"[]", b"{}", b"null", b'{"script": "pix2pix"}', b"\xff\xfe\x00"],
    ids=["missing", "empty", "cut", "list", "no keys", "null", "few keys", "binary"],
)
def test_damaged_options(fails, trained, tmp_path, content):
    folder = copy_training(trained, tmp_path / "o")
    (folder / "options.json").unlink()
    if content is not None:
        (folder / "options.json").write_bytes(content)
    assert str(folder / "options.json") in fails("--mode", "test", "--checkpoint", folder)


@pytest.mark.parametrize("what", ["cut data", "cut index", "missing data", "flipped bits", "empty index"])
@pytest.mark.parametrize("mode", ["train", "test"])
def test_damaged_checkpoint(fails, trained, tmp_path, mode, what):
    folder = copy_training(trained, tmp_path / "o")
    data, index = folder / "model-20.data-00000-of-00001", folder / "model-20.index"
    if what == "cut data":
        truncate(data)
    elif what == "missing data":
        data.unlink()
    elif what == "cut index":
        truncate(index)
    elif what == "empty index":
        index.write_bytes(b"")
    else:
        contents = bytearray(data.read_bytes())
        for place in range(0, len(contents), 997):
            contents[place] ^= 255
        data.write_bytes(contents)
    message = fails(
        "--mode", mode, "--checkpoint", folder, "--output_dir", tmp_path / "t", *([] if mode == "test" else ["--max_steps", 30])
    )
    assert str(folder / "model-20") in message


def test_folder_whose_name_is_a_pattern(data, tmp_path, capsys):
    """TensorFlow takes "run [1]" for a pattern and finds no checkpoint in it: refused before the first step, or usable."""
    folder = tmp_path / "run [1]"
    flags = ["--input_dir", data / "train", "--output_dir", folder]
    if pix2pix.main(["pix2pix.py", *map(str, [*TRAIN, *flags])]):
        assert_one_line(capsys.readouterr().err, folder)
        assert not folder.exists()
    else:
        assert (
            pix2pix.main(["pix2pix.py", "--mode", "test", "--checkpoint", str(folder), "--output_dir", str(tmp_path / "t")])
            == 0
        )


def test_damaged_list_of_checkpoints(fails, trained, tmp_path):
    """TensorFlow's own file `checkpoint`, which names the newest."""
    folder = copy_training(trained, tmp_path / "o")
    (folder / "checkpoint").write_bytes(b"\x00\xff\x80 no such syntax")
    assert str(folder) in fails("--mode", "test", "--checkpoint", folder)


def test_training_into_a_folder_with_a_checkpoint(fails, trained, data):
    before = {path.name: path.stat().st_mtime_ns for path in trained.folder.iterdir()}
    message = fails(*TRAIN, "--input_dir", data / "train", "--output_dir", trained.folder)
    assert f"--checkpoint {trained.folder}" in message and "--output_dir" in message
    assert {path.name: path.stat().st_mtime_ns for path in trained.folder.iterdir()} == before


# ----------------------------------------------------------------------------------------------------- the output folder


@pytest.mark.parametrize("mode", ["train", "test", "export"])
@pytest.mark.parametrize("where", ["below a file", "a file", "/proc"])
def test_unwritable_output(fails, trained, data, tmp_path, mode, where):
    (tmp_path / "file").write_text("in the way")
    folder = {"below a file": tmp_path / "file" / "o", "a file": tmp_path / "file", "/proc": Path("/proc/no such place/o")}[
        where
    ]
    flags = TRAIN if mode == "train" else ["--mode", mode, "--checkpoint", trained.folder]
    message = fails(*flags, "--input_dir", data / "train", "--output_dir", folder)
    assert str(folder if where != "/proc" else "/proc/no such place") in message and "--output_dir" in message


def test_file_size_limit_leaves_the_last_checkpoint(cli, trained, data, tmp_path):
    """A disk that takes only small files, in a process of its own: a message, and model-20 is as before."""
    folder = copy_training(trained, tmp_path / "o")
    done = subprocess.run(
        command_line(["--mode", "train", "--checkpoint", folder, "--max_steps", 22, "--display_freq", 0]),
        capture_output=True,
        text=True,
        env=plain_environment(),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
    )
    assert done.returncode == 2, done
    assert_one_line(done.stderr, folder, "File too large")
    assert_usable(cli, folder, 20, data / "val")


def can_mount():
    command = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs unshare -rm and mount, to make a small disk")
def test_full_disk_leaves_the_last_checkpoint(cli, trained, data, tmp_path):
    """A disk with room for the training so far, and half a checkpoint more."""
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    disk.mkdir()
    blocks = sum(-(-path.stat().st_size // 4096) for path in trained.folder.rglob("*") if path.is_file())
    room = (blocks + 20) * 4096 + (trained.folder / "model-20.data-00000-of-00001").stat().st_size // 2
    train = command_line(
        ["--mode", "train", "--checkpoint", disk / "o", "--max_steps", 60, "--display_freq", 0, "--save_freq", 3]
    )
    script = """mount -t tmpfs -o size=$1 tmpfs "$2" && cp -r "$3" "$2/o" || exit 99
        disk=$2 copy=$4; shift 4
        "$@"; code=$?
        cp -r "$disk/o" "$copy"; exit $code"""
    arguments = [str(room), str(disk), str(trained.folder), str(copy), *train]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *arguments], capture_output=True, text=True, env=plain_environment()
    )
    assert done.returncode == 2, done
    assert_one_line(done.stderr, disk / "o", "No space left on device")
    assert_usable(cli, copy, 20, data / "val")


# --------------------------------------------------------------------------------------------------------------- flags


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--crop_size", "64", "--scale_size", "63"], ["--crop_size 64", "--scale_size 63"]),
        (["--crop_size", "64x128", "--scale_size", "128x64"], ["--crop_size", "--scale_size"]),
        (["--crop_size", "100", "--scale_size", "120"], ["--crop_size", "32", "96x96"]),
        (["--crop_size", "64x100", "--scale_size", "120"], ["--crop_size", "32", "64x96"]),
        (["--crop_size", "16"], ["--crop_size", "32"]),
        (["--crop_size", "big"], ["--crop_size big", "256"]),
        (["--crop_size", "0"], ["--crop_size 0"]),
        (["--crop_size", "00"], ["--crop_size 00"]),
        (["--crop_size", "64x0"], ["--crop_size 64x0"]),
        (["--crop_size", "64x64x3"], ["--crop_size 64x64x3"]),
        (["--crop_size", "-64"], ["--crop_size -64"]),
        (["--crop_size", "64.5"], ["--crop_size 64.5"]),
        (["--crop_size", ""], ["--crop_size"]),
        (["--scale_size", "x"], ["--scale_size x"]),
        (["--scale_size", "0"], ["--scale_size 0"]),
        (["--ngf", "0"], ["ngf"]),
        (["--batch_size", "-1"], ["batch_size"]),
        (["--batch_size", "many"], ["batch_size", "many"]),
        (["--max_steps", "0"], ["max_steps"]),
        (["--lr", "fast"], ["lr", "fast"]),
        (["--l1_weight", "-1"], ["l1_weight"]),
        (["--which_direction", "CtoA"], ["which_direction", "AtoB"]),
        (["--mixed_precision", "int4"], ["mixed_precision", "bfloat16"]),
        (["--mode", "predict"], ["mode", "train"]),
        (["--batchsize", "2"], ["batchsize", "batch_size"]),
        (["--max_stepz=2"], ["max_stepz", "max_steps"]),
        (["train"], ["train", "--help"]),
        (["--lr"], ["lr"]),
        (["--flagfile=/missing.flags"], ["/missing.flags"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_flags(fails, data, tmp_path, flags, words):
    first = ["--mode", "train", "--input_dir", data / "train", "--output_dir", tmp_path / "o", *TINY]
    message = fails(*first, *flags)
    for word in words:
        assert word in message
    assert not (tmp_path / "o").exists()


def test_no_mode(fails):
    message = fails()
    assert "--mode" in message and "train, test or export" in message


def test_a_good_call_after_a_bad_one(fails, cli, trained, tmp_path):
    """Nothing of a refused command line is left in the next one of the same process."""
    fails("--mode", "test", "--checkpoint", trained.folder, "--output_dir", tmp_path, "--aspect_ratio", 2, "--nosuch")
    cli("--mode", "test", "--checkpoint", trained.folder, "--output_dir", tmp_path)
    assert read_png(tmp_path / "images" / "pic1-outputs.png").shape == (64, 64, 3)


def test_test_without_pictures_beside_the_training_ones(fails, trained, tmp_path):
    folder = copy_training(trained, tmp_path / "o")
    options = json.loads((folder / "options.json").read_text()) | {"input_dir": str(tmp_path / "lonely" / "train")}
    (folder / "options.json").write_text(json.dumps(options))
    message = fails("--mode", "test", "--checkpoint", folder)
    assert str(tmp_path / "lonely" / "train") in message and "--input_dir" in message


def test_losses_that_are_not_finite(fails, cli, trained, data, tmp_path):
    """The step and the last good checkpoint are named, and that one is good."""
    folder = copy_training(trained, tmp_path / "o")
    flags = ["--l1_weight", 1e38, "--gan_weight", 1e38, "--display_freq", 0, "--max_steps", 60]
    message = fails("--mode", "train", "--checkpoint", folder, *flags)
    assert int(re.search(r"step (\d+): not finite", message)[1]) > 20
    assert str(folder / "model-20") in message and "--lr" in message
    assert_usable(cli, folder, 20, data / "val")


# ---------------------------------------------------------------------------------------------- as a user sees it


@pytest.mark.parametrize("case", ["missing folder", "late truncated picture", "not finite", "damaged in test"])
def test_in_a_process_of_its_own(trained, tmp_path, case):
    """Exit code 2, one line on stderr, no traceback, none of TensorFlow's own messages."""
    folder = save_pairs(tmp_path / "in", [f"{n}.jpg" for n in range(4)])
    flags = [*TRAIN, "--input_dir", folder, "--output_dir", tmp_path / "o"]
    if case == "missing folder":
        flags, words = [*flags, "--input_dir", tmp_path / "missing"], ["no such folder", tmp_path / "missing"]
    elif case == "late truncated picture":
        truncate(folder / "2.jpg")
        flags, words = [*flags, "--cache_mb", 0, "--max_steps", 9], [folder / "2.jpg", "is saved", "--checkpoint"]
    elif case == "not finite":
        flags, words = [*flags, "--lr", 1e30, "--max_steps", 30], ["not finite", "--lr", "last good checkpoint: none"]
    else:
        truncate(folder / "2.jpg")
        flags = ["--mode", "test", "--checkpoint", trained.folder, "--input_dir", folder, "--output_dir", tmp_path / "o"]
        words = [folder / "2.jpg", "1 of 4"]
    done = process(*flags)
    assert done.returncode == 2, done
    assert_one_line(done.stderr, *words)
    assert "Traceback" not in done.stdout


def test_output_piped_to_a_reader_that_leaves(trained, tmp_path):
    """pix2pix.py ... | head -1: no traceback, and no wrong advice about --output_dir."""
    read, write = os.pipe()
    child = subprocess.Popen(
        command_line(["--mode", "test", "--checkpoint", trained.folder, "--output_dir", tmp_path / "o"]),
        stdout=write, stderr=subprocess.PIPE, text=True, env=plain_environment(), cwd=ROOT,
    )  # fmt: skip
    os.close(write)
    os.close(read)
    err = child.communicate(timeout=60)[1]
    assert child.returncode != 0 and "Traceback" not in err and "make room" not in err, (child.returncode, err, sys.version)
