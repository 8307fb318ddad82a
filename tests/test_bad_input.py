"""What a user can get wrong: each ends in one line on stderr that names the thing, and exit code 2.

script.fails() checks every call for that. Most run in this process; those in a process of their own check that nothing
else is printed, such as TensorFlow's own logs.
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
import tensorflow as tf
from conftest import (
    ROOT,
    SCRIPTS,
    TINY,
    assert_one_line,
    assert_same,
    command_line,
    each_training,
    once,
    only,
    paint,
    plain_environment,
    process,
    read_png,
    save_domains,
    save_image,
    save_pairs,
    tensors,
    truncate,
)

PARTS = {part: ["1.png", "2.png"] for part in ("trainA", "trainB", "testA", "testB")}


def flags_of_train(script, *more):
    return ["--mode", "train", *script.tiny, "--max_steps", 3, "--display_freq", 0, *more]


def flags_of_test(trained, *more):
    return ["--mode", "test", "--checkpoint", trained.folder, *more]


def copy_training(trained, folder):
    return Path(shutil.copytree(trained.folder, folder))


def save_options(script, folder):
    """What is read of a training before its weights. Returns --checkpoint."""
    options = {"script": script.name} | script.module.saved_options(script.options(input_dir="in"))
    (folder / "options.json").write_text(json.dumps(options))
    (folder / "model-1.index").touch()
    return folder / "model-1"


def change_options(folder, **changes):
    options = json.loads((folder / "options.json").read_text()) | changes
    (folder / "options.json").write_text(json.dumps(options))


def assert_usable(script, folder, step, input_dir):
    """The newest checkpoint of a folder is that of the step, and test can use it."""
    output_dir = Path(folder).parent / "usable"
    script("--mode", "test", "--checkpoint", folder, "--input_dir", input_dir, "--output_dir", output_dir)
    assert json.loads((output_dir / "metrics.json").read_text())["checkpoint"] == str(Path(folder) / f"model-{step}")


# ---------------------------------------------------------------------------------------------------- the input folder


@once
@pytest.mark.parametrize("mode", ["train", "test"])
def test_input_folder(script, trained, tmp_path, mode):
    """Missing, empty, without images; nothing is written."""
    flags = flags_of_train(script) if mode == "train" else flags_of_test(trained)
    flags = [*flags, "--output_dir", tmp_path / "o", "--input_dir"]
    assert f"no such folder: {tmp_path / 'missing'}" in script.fails(*flags, tmp_path / "missing")
    (tmp_path / "in" / "sub").mkdir(parents=True)
    assert f"no images in {tmp_path / 'in'}" in script.fails(*flags, tmp_path / "in")
    (tmp_path / "in" / "readme.txt").write_text("no image")
    (tmp_path / "in" / "image.xcf").write_bytes(b"gimp xcf file")
    (tmp_path / "in" / ".hidden.png").write_bytes(b"")
    assert ".jpg" in script.fails(*flags, tmp_path / "in")
    assert not (tmp_path / "o").exists()


@only("cyclegan", "siamesegan")
def test_folders_of_the_domains(script, tmp_path):
    """Each of those that are needed: missing, or empty."""
    folder = save_domains(tmp_path, PARTS, size=(70, 70))
    model = script.algorithm(script.options(input_dir=str(folder)), training=False)

    def find(part):
        return model.find_training_images() if part.startswith("train") else model.find_test_images(folder)

    for part, direction in (("trainA", "AtoB"), ("trainB", "AtoB"), ("testA", "AtoB"), ("testB", "BtoA")):
        model.args.which_direction = direction
        assert find(part)
        (folder / part).rename(tmp_path / "moved")
        with pytest.raises(script.module.UserError, match=f"no such folder: {folder / part}"):
            find(part)
        (folder / part).mkdir()
        with pytest.raises(script.module.UserError, match=f"no images in {folder / part}"):
            find(part)
        (folder / part).rmdir()
        (tmp_path / "moved").rename(folder / part)


@only("cyclegan", "siamesegan")
def test_training_on_one_of_the_domains(script, tmp_path):
    """--input_dir as pix2pix.py takes it: the message says what is meant instead."""
    folder = save_domains(tmp_path / "in", PARTS) / "trainA"
    message = script.fails(*flags_of_train(script, "--input_dir", folder, "--output_dir", tmp_path / "o"))
    assert str(folder) in message and "trainA" in message and "trainB" in message
    assert not (tmp_path / "o").exists()


@only("cyclegan", "siamesegan", "cut")
def test_the_domain_that_is_not_asked_for_may_be_missing(script, tmp_path):
    folder = save_domains(tmp_path, {"testA": ["1.png"]})
    model = script.algorithm(script.options(), training=False)
    assert model.find_test_images(folder) == [("1", str(folder / "testA" / "1.png"), "AtoB")]


@only("pix2pix", "cyclegan")
def test_no_held_out_images_beside_those_of_the_training(script, trained, tmp_path):
    folder, lonely = copy_training(trained, tmp_path / "o"), tmp_path / "lonely" / "train"
    save_domains(lonely, {"trainA": ["1.png"], "trainB": ["1.png"]})
    change_options(folder, input_dir=str(lonely))
    message = script.fails("--mode", "test", "--checkpoint", folder, "--output_dir", tmp_path / "t")
    assert str(lonely) in message and "--input_dir" in message


@only("cyclegan")
def test_both_directions_of_a_plain_folder(script, trained, data, tmp_path):
    flags = flags_of_test(trained, "--which_direction", "both", "--output_dir", tmp_path / "o")
    for path in (data / "testA", data / "testA" / "pic1.png"):
        message = script.fails(*flags, "--input_dir", path)
        assert str(path) in message and "--which_direction" in message


@only("cyclegan")
def test_export_of_both_directions(script, trained, tmp_path):
    flags = ["--which_direction", "both", "--output_dir", tmp_path / "o"]
    message = script.fails("--mode", "export", "--checkpoint", trained.folder, *flags)
    assert "--which_direction" in message and "AtoB or BtoA" in message


# ----------------------------------------------------------------------------------------------------- damaged images


def save_damaged(folder):
    """Files that end as images do, with contents of something else or cut off. Returns their paths."""
    contents = {"text.jpg": b"this is text", "empty.png": b"", "html.jpg": b"<!DOCTYPE html><html>404</html>"}
    contents["webp.png"] = b"RIFF\x00\x00\x00\x00WEBPVP8 "
    pixels = np.random.default_rng(0).integers(0, 255, (80, 160, 3), np.uint8)
    for name in ("cut.jpg", "cut.png", "cut.bmp", "cut.gif", "cut.webp", "cut.tif", "cut.avif"):
        contents[name] = save_image(folder / f"whole.{name}", pixels).read_bytes()
        (folder / f"whole.{name}").unlink()
        contents[name] = contents[name][: len(contents[name]) // 2]
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return sorted(folder / name for name in contents)


@each_training
def test_each_kind_of_damage_is_recognised(script, tmp_path):
    """When an image is read alone, and in TensorFlow's graph, which cannot say which of the images it was."""
    module, model = script.module, script.algorithm(script.options(), training=True)
    source = model.pairs() if script.name == "pix2pix" else model.domains["A"]
    read = source.read
    good = str(save_image(tmp_path / "good.png", paint(80, 160, 0)))
    channels = read(good).shape[-1]
    assert channels == (6 if script.name == "pix2pix" else 3)
    for path in map(str, save_damaged(tmp_path)):
        damaged = rf"^{re.escape(path)} cannot be read as an image \(.+\): repair or remove it$"
        with pytest.raises(module.UserError, match=damaged):
            read(path)
        dataset = tf.data.Dataset.from_tensor_slices(module.names_of([good, path]))
        dataset = dataset.map(lambda name: module.read_in_graph(source, name, (8, 8)))
        with pytest.raises(module.UserError, match=damaged), module.naming_unreadable([good, path, good], read):
            list(dataset)


@once
def test_an_error_of_tensorflow_is_not_blamed_on_good_images(script, tmp_path):
    paths = [str(save_image(tmp_path / "good.png", paint(80, 160, 0)))]
    with pytest.raises(tf.errors.InternalError), script.module.naming_unreadable(paths, script.module.read_image):
        raise tf.errors.InternalError(None, None, "no such kernel")


@once
def test_why_an_image_cannot_be_read(script, tmp_path):
    """In the user's words: it is not the same whether a file is damaged, gone, locked or a folder."""
    (tmp_path / "link.png").symlink_to(tmp_path / "annexed")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "text.png").write_text("this is text")
    truncate(save_image(tmp_path / "cut.png", paint(80, 80, 1)))
    reasons = {
        "link.png": "a link to a file that is not there",
        "folder.png": "Is a directory",
        "text.png": "damaged, or another format",
        "cut.png": "damaged: image file is truncated",
        "gone.png": "No such file or directory",
    }
    for name, reason in reasons.items():
        with pytest.raises(script.module.UserError, match=rf"{name} cannot be read as an image \({reason}.*\)"):
            script.module.read_image(str(tmp_path / name))


@once
def test_training_does_not_start_with_a_damaged_image(script, tmp_path):
    """A folder is none, whatever its name."""
    folder = save_pairs(tmp_path / "in", ["0.png", "2.png"])
    (folder / "folder.png").mkdir()
    bad = save_image(folder / "cut.png", paint(80, 160, 5))
    truncate(bad)
    message = script.fails(*flags_of_train(script, "--input_dir", folder, "--output_dir", tmp_path / "o"))
    assert str(bad) in message and not list((tmp_path / "o").glob("model-*"))
    bad.unlink()
    assert "(2 images)" in script(*flags_of_train(script, "--input_dir", folder, "--output_dir", tmp_path / "o"))


@once
def test_damaged_images_do_not_stop_the_others_in_test(script, trained, tmp_path):
    """The first is named, and how many there were. In a process of its own: TensorFlow says nothing more."""
    bad = save_damaged(save_pairs(tmp_path / "in", ["0.png", "good.png"]))
    done = process(*flags_of_test(trained, "--input_dir", tmp_path / "in", "--output_dir", tmp_path / "o"))
    assert done.returncode == 2, done
    assert_one_line(done.stderr, bad[0], "11 of 13")
    assert "Traceback" not in done.stdout
    assert sorted(json.loads((tmp_path / "o" / "metrics.json").read_text())["images"]) == ["0", "good"]
    shutil.rmtree(tmp_path / "o")
    for name in ("0.png", "good.png"):  # and with no good one there is neither a page nor metrics
        (tmp_path / "in" / name).unlink()
    message = script.fails(*flags_of_test(trained, "--input_dir", tmp_path / "in", "--output_dir", tmp_path / "o"))
    assert str(bad[0]) in message and "11 of 11" in message
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"images", "test.json"}


@only("pix2pix")
@pytest.mark.parametrize("case", ["cached", "uncached", "test"])
def test_pair_of_odd_width(script, trained, tmp_path, case):
    bad = save_image(save_pairs(tmp_path / "in", ["1.png", "3.png"]) / "2.png", paint(80, 161, 0))
    flags = (
        flags_of_test(trained)
        if case == "test"
        else flags_of_train(script, "--cache_mb", 0 if case == "uncached" else 99)
    )
    message = script.fails(*flags, "--input_dir", tmp_path / "in", "--output_dir", tmp_path / "o")
    assert str(bad) in message and "161" in message and "even" in message


@pytest.mark.more
@once
def test_truncated_image_met_late_is_saved_first(script, tmp_path):
    """Without a cache it is read in mid-training: the steps before are saved, and with the file repaired the training
    ends as if nothing had happened. In a process of its own."""
    folder = save_pairs(tmp_path / "in", [f"{n}.png" for n in range(18)])  # the first 16 are looked at before
    order = [int(script.module.shuffled_index(np.int64(place), 18, 3)) for place in range(18)]
    late = max(order.index(16), order.index(17))
    step, victim = late // 2, folder / f"{order[late]}.png"
    flags = ["--mode", "train", "--input_dir", folder, *script.tiny, "--seed", 3, "--batch_size", 2, "--cache_mb", 0]
    flags += ["--display_freq", 0, "--max_steps", step + 2, "--output_dir"]
    script(*flags, tmp_path / "whole")
    good = victim.read_bytes()
    truncate(victim)
    done = process(*flags, tmp_path / "o")
    assert done.returncode == 2 and step > 0, done
    assert_one_line(done.stderr, victim, f"step {step} is saved: continue with --checkpoint {tmp_path / 'o'}")
    assert "Traceback" not in done.stdout
    victim.write_bytes(good)
    script("--mode", "train", "--checkpoint", tmp_path / "o")
    resumed, expected = (tensors(tmp_path / part / f"model-{step + 2}") for part in ("o", "whole"))
    for found in (resumed, expected):
        del found["save_counter/.ATTRIBUTES/VARIABLE_VALUE"]
    assert_same(resumed, expected)


@only("cyclegan")
def test_truncated_image_of_the_second_domain(script, tmp_path):
    folder = save_domains(tmp_path / "in", {"trainA": ["1.png", "2.png"], "trainB": ["1.jpg", "2.jpg"]})
    truncate(folder / "trainB" / "2.jpg")
    message = script.fails(*flags_of_train(script, "--input_dir", folder, "--output_dir", tmp_path / "o"))
    assert str(folder / "trainB" / "2.jpg") in message


@only("pix2pix", "cyclegan")
def test_truncated_sample_image_is_named_before_training(script, tmp_path):
    """Held-out images only show how a training goes: it warns of them, and shows training images instead."""
    folder = script.save_data(tmp_path / "in")
    bad = tmp_path / "in" / ("val" if script.name == "pix2pix" else "testB") / "pic2.png"
    truncate(bad)
    flags = flags_of_train(script, "--input_dir", folder, "--output_dir", tmp_path / "o")
    code, _, err = script.run(*flags, "--display_freq", 3)
    assert code == 0 and err.startswith(f"warning: {bad} ") and err.count("\n") == 1
    assert len(list((tmp_path / "o" / "images").glob("step-00000003-*-outputs.png"))) > 0


@only("siamesegan")
def test_truncated_image_is_named_before_training(script, tmp_path):
    """Of the crops no image may come up for a long time, so all are read first."""
    folder = save_domains(tmp_path / "in", {"trainA": ["1.png"], "trainB": ["1.jpg", "2.jpg"]}, size=(70, 70))
    truncate(folder / "trainB" / "2.jpg")
    message = script.fails(*flags_of_train(script, "--input_dir", folder, "--output_dir", tmp_path / "o"))
    assert str(folder / "trainB" / "2.jpg") in message and not (tmp_path / "o").exists()


@only("cyclegan")
def test_paired_with_missing_and_truncated_twins(script, trained, tmp_path):
    """The others are translated and measured."""
    folder = save_domains(
        tmp_path / "in", PARTS | {"testA": [f"{n}.png" for n in range(4)], "testB": ["0.png", "1.png"]}
    )
    flags = flags_of_test(trained, "--paired", "--output_dir", tmp_path / "o", "--input_dir")
    message = script.fails(*flags, folder)
    assert "--paired" in message and str(folder / "testB" / "2.png") in message and "2 of 4" in message
    assert list(json.loads((tmp_path / "o" / "metrics.json").read_text())["images"]) == ["0", "1"]
    truncate(folder / "testB" / "1.png")
    (folder / "testA" / "2.png").unlink()
    (folder / "testA" / "3.png").unlink()
    message = script.fails(*flags, folder)
    assert str(folder / "testB" / "1.png") in message and "1 of 2" in message
    assert "--paired" in script.fails(*flags, save_image(tmp_path / "plain" / "1.png", paint(40, 40, 1)).parent)
    message = script.fails(*flags, folder / "testB")  # would compare images with themselves
    assert "no counterpart" in message and "2 of 2" in message


@once
def test_images_of_many_kinds_train_together(script, trained, tmp_path):
    """Grey, transparency, 16 bits, and every format that Pillow knows: all are accepted, in one folder."""
    rgb = np.concatenate([paint(72, 72, 1), paint(72, 72, 2)], 1)
    grey, alpha = rgb[..., :1], rgb[..., 1:2]
    images = {"grey.png": grey[..., 0], "grey.jpg": grey[..., 0], "rgba.png": np.concatenate([rgb, alpha], -1)}
    images |= {"la.png": np.concatenate([grey, alpha], -1), "16.png": grey[..., 0].astype(np.uint16) * 257}
    images |= dict.fromkeys(("rgb.GIF", "rgb.webp", "rgb.tif", "rgb.TIFF", "rgb.avif"), rgb)
    for name, pixels in images.items():
        save_image(tmp_path / name, pixels)
    paths = [path for _, path in script.module.list_images(tmp_path)]
    assert len(paths) == len(images) == 10
    batches = iter(trained.model.batches({"images": paths}, 0))
    for a, b in (tf.split(next(batches), 2, axis=-1) for _ in range(5)):
        assert a.shape == b.shape == (2, 64, 64, 3) and np.abs(a - b).max() > 0.1


# ------------------------------------------------------------------------------------------------------ the checkpoint


@once
@pytest.mark.parametrize("mode", ["train", "test", "export"])
def test_no_checkpoint_there(script, data, tmp_path, mode):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "missing", tmp_path / "empty", data, data / "1.png"):
        message = script.fails(
            "--mode", mode, "--checkpoint", path, "--input_dir", data, "--output_dir", tmp_path / "o"
        )
        assert f"no checkpoint in {path}" in message and "--output_dir of a training" in message
    assert not (tmp_path / "o").exists()


@once
@pytest.mark.parametrize("mode", ["test", "export"])
def test_checkpoint_is_needed(script, mode):
    assert "--checkpoint" in script.fails("--mode", mode)


@pytest.mark.parametrize("mode", ["train", "test", "export"])
def test_checkpoint_of_other_networks(script, tmp_path, mode):
    """Each flag that a checkpoint fixes is refused with another value."""
    checkpoint, options = save_options(script, tmp_path), vars(script.options())
    for name in script.algorithm.network_flags:
        value, choices = options[name], getattr(script.module.FLAGS[name].parser, "enum_values", [])
        if name in script.algorithm.data_flags and mode != "train":
            continue  # fixed in training alone; see test_test_and_export_at_another_size
        other = next((choice for choice in choices if choice != value), f"{value}0" if value else 1)
        change = [f"--{'no' if value else ''}{name}"] if isinstance(value, bool) else [f"--{name}", other]
        message = script.fails("--mode", mode, "--checkpoint", checkpoint, "--output_dir", tmp_path / "o", *change)
        assert str(tmp_path) in message and f"--{name} {value}" in message
    assert not (tmp_path / "o").exists()


@once
def test_same_sizes_given_again_are_fine(script, trained, tmp_path):
    script(*flags_of_test(trained, "--output_dir", tmp_path, *TINY))


@pytest.mark.parametrize("other", ["cyclegan", "siamesegan"])
@once
def test_checkpoint_of_another_script(script, trained, tmp_path, other):
    message = SCRIPTS[other].fails(*flags_of_test(trained, "--output_dir", tmp_path / "o"))
    assert str(trained.folder) in message and "pix2pix.py" in message and f"{other}.py" in message


@once
@pytest.mark.parametrize(
    "content",
    [None, b"", b"{", b"[]", b"{}", b"null", b'{"script": "pix2pix"}', b"\xff\xfe\x00"],
    ids=["missing", "empty", "cut", "list", "no keys", "null", "few keys", "binary"],
)
def test_damaged_options(script, trained, tmp_path, content):
    folder = copy_training(trained, tmp_path / "o")
    (folder / "options.json").unlink()
    if content is not None:
        (folder / "options.json").write_bytes(content)
    assert str(folder / "options.json") in script.fails("--mode", "test", "--checkpoint", folder)


@once
def test_a_script_that_was_changed_after_the_training(script, trained, tmp_path, monkeypatch):
    """As in a course: a flag that shapes the networks, or a loss, is new. The message says so; nothing changes."""
    folder = copy_training(trained, tmp_path / "o")
    options = json.loads((folder / "options.json").read_text())
    more = ["--mode", "train", "--checkpoint", folder, "--max_steps", 99]
    before = sorted(folder.iterdir())
    algorithm = script.algorithm
    with monkeypatch.context() as changed:
        changed.setattr(algorithm, "losses", (*algorithm.losses, "edges"))
        message = script.fails(*more)
    assert f"{len(algorithm.losses)} losses" in message and "--init_from" in message and "damaged" not in message
    assert sorted(folder.iterdir()) == before
    del options["ngf"]
    (folder / "options.json").write_text(json.dumps(options))
    message = script.fails(*more)
    assert "options.json has no ngf" in message and "damaged" not in message


@once
@pytest.mark.parametrize("what", ["cut data", "cut index", "missing data", "flipped bits", "empty index"])
@pytest.mark.parametrize("mode", ["train", "test"])
def test_damaged_checkpoint(script, trained, tmp_path, mode, what):
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
        contents = np.frombuffer(data.read_bytes(), np.uint8).copy()
        contents[::997] ^= 255
        data.write_bytes(contents.tobytes())
    more = [] if mode == "test" else ["--max_steps", 30]
    message = script.fails("--mode", mode, "--checkpoint", folder, "--output_dir", tmp_path / "t", *more)
    assert str(folder / "model-20") in message


@once
def test_folder_whose_name_is_a_pattern(script, data, tmp_path):
    """TensorFlow takes "run [1]" for a pattern and would find no checkpoint in it: refused before the first step."""
    folder = tmp_path / "run [1]"
    assert str(folder) in script.fails(*flags_of_train(script, "--input_dir", data, "--output_dir", folder))
    assert not folder.exists()


@once
def test_training_into_a_folder_with_a_checkpoint(script, trained, data):
    before = {path.name: path.stat().st_mtime_ns for path in trained.folder.iterdir()}
    message = script.fails(*flags_of_train(script, "--input_dir", data, "--output_dir", trained.folder))
    assert f"--checkpoint {trained.folder}" in message and "--output_dir" in message
    assert {path.name: path.stat().st_mtime_ns for path in trained.folder.iterdir()} == before


# --------------------------------------------------------------------------------------------------- the output folder


@once
@pytest.mark.parametrize("mode", ["train", "test", "export"])
@pytest.mark.parametrize("where", ["below a file", "a file", "/proc"])
def test_unwritable_output(script, trained, data, tmp_path, mode, where):
    (tmp_path / "file").write_text("in the way")
    places = {
        "below a file": tmp_path / "file" / "o",
        "a file": tmp_path / "file",
        "/proc": Path("/proc/no such place"),
    }
    flags = flags_of_train(script) if mode == "train" else ["--mode", mode, "--checkpoint", trained.folder]
    message = script.fails(*flags, "--input_dir", data, "--output_dir", places[where])
    assert str(places[where]) in message and "--output_dir" in message


@pytest.mark.more
@once
def test_file_size_limit_leaves_the_last_checkpoint(script, trained, data, tmp_path):
    """A disk that takes only small files, in a process of its own: a message, and model-20 is as before."""
    folder = copy_training(trained, tmp_path / "o")
    flags = ["--mode", "train", "--checkpoint", folder, "--max_steps", 22, "--display_freq", 0]
    done = process(*flags, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)))
    assert done.returncode == 2, done
    assert_one_line(done.stderr, folder, "File too large")
    assert_usable(script, folder, 20, data.parent / "val")


def can_mount():
    command = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True).returncode == 0


@once
@pytest.mark.skipif(not can_mount(), reason="needs unshare -rm and mount, to make a small disk")
def test_full_disk_leaves_the_last_checkpoint(script, trained, data, tmp_path):
    """A disk with room for the training so far, and half a checkpoint more."""
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    disk.mkdir()
    blocks = sum(-(-path.stat().st_size // 4096) for path in trained.folder.rglob("*") if path.is_file())
    room = (blocks + 20) * 4096 + (trained.folder / "model-20.data-00000-of-00001").stat().st_size // 2
    flags = ["--mode", "train", "--checkpoint", disk / "o", "--max_steps", 60, "--display_freq", 0, "--save_freq", 3]
    commands = """mount -t tmpfs -o size=$1 tmpfs "$2" && cp -r "$3" "$2/o" || exit 99
        disk=$2 copy=$4; shift 4
        "$@"; code=$?
        cp -r "$disk/o" "$copy"; exit $code"""
    arguments = [str(room), str(disk), str(trained.folder), str(copy), *command_line(flags)]
    command = ["unshare", "-rm", "sh", "-c", commands, "sh", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=plain_environment())
    assert done.returncode == 2, done
    assert_one_line(done.stderr, disk / "o", "No space left on device")
    assert_usable(script, copy, 20, data.parent / "val")


# --------------------------------------------------------------------------------------------------------------- flags

BAD_FLAGS = {
    "pix2pix": [
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
        (["train"], ["not a flag: train", "quotes", "--help"]),
        (["--lr"], ["lr"]),
        (["--flagfile=/missing.flags"], ["/missing.flags"]),
    ],
    "cyclegan": [
        (["--crop_size", "50", "--scale_size", "60"], ["--crop_size 50x50", "multiples of 4"]),
        (["--crop_size", "64x50", "--scale_size", "80"], ["--crop_size 64x50", "multiples of 4", "64x48"]),
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
    "ganilla": [
        (["--crop_size", "36", "--scale_size", "60"], ["--crop_size 36x36", "multiples of 16", "32x32"]),
        (["--n_blocks", "1"], ["n_blocks"]),
    ],
    "cut": [
        (["--crop_size", "50", "--scale_size", "60"], ["--crop_size 50x50", "multiples of 4"]),
        (["--nce_weight", "-1"], ["nce_weight"]),
        (["--which_direction", "both"], ["which_direction", "AtoB"]),
        (["--cycle_weight", "1"], ["cycle_weight"]),
    ],
    "animegan": [
        (["--crop_size", "50", "--scale_size", "60"], ["--crop_size 50x50", "multiples of 4"]),
        (["--init_steps", "-1"], ["init_steps"]),
        (["--style_weight", "-1"], ["style_weight"]),
        (["--stroke", "4"], ["--stroke", "give --residual"]),
        (["--residual", "--ink", "0.5"], ["--ink", "give --stroke"]),
        (["--residual", "--stroke", "4", "--ink", "2"], ["ink", "0"]),
        (["--which_direction", "both"], ["which_direction", "AtoB"]),
    ],
    "siamesegan": [
        (["--tile", "40"], ["--tile 40", "multiple of 32"]),
        (["--tile", "16"], ["tile"]),
        (["--batch_size", "1"], ["batch_size"]),
        (["--margin", "-1"], ["margin"]),
        (["--norm", "instance"], ["norm", "pixel"]),
        (["--stitch", "glue"], ["stitch", "blend"]),
        (["--which_direction", "both"], ["which_direction", "AtoB"]),
        (["--crop_size", "64"], ["crop_size"]),
    ],
}


@pytest.mark.parametrize(
    ("script", "flags", "words"),
    [(name, *case) for name, cases in BAD_FLAGS.items() for case in cases],
    indirect=["script"],
    ids=[f"{name} {' '.join(flags)}" for name, cases in BAD_FLAGS.items() for flags, _ in cases],
)
def test_bad_flags(script, data, tmp_path, flags, words):
    message = script.fails(*flags_of_train(script, "--input_dir", data, "--output_dir", tmp_path / "o"), *flags)
    for word in words:
        assert word in message
    assert not (tmp_path / "o").exists()


@once
def test_no_mode(script):
    message = script.fails("--max_steps", 1)
    assert "--mode" in message and "train, test or export" in message


@once
def test_a_good_call_after_a_bad_one(script, trained, tmp_path):
    """Nothing of a refused command line is left in the next one of the same process."""
    script.fails(*flags_of_test(trained, "--output_dir", tmp_path, "--aspect_ratio", 2, "--nosuch"))
    script(*flags_of_test(trained, "--output_dir", tmp_path))
    assert read_png(tmp_path / "images" / "pic1-outputs.png").shape == (64, 64, 3)


@only("siamesegan", "cut", "animegan")
def test_a_direction_that_was_not_trained(script, tmp_path):
    """One training, one direction: unlike cyclegan.py it has no generator for the other."""
    checkpoint = save_options(script, tmp_path)
    message = script.fails("--mode", "test", "--checkpoint", checkpoint, "--which_direction", "BtoA")
    assert f"{tmp_path} has --which_direction AtoB" in message


@only("siamesegan")
def test_small_images(script, tmp_path, capsys):
    """Under half of 2S they are left out, under 2S enlarged, each with one warning; with none left it is an error."""
    for domain in "AB":
        for name, size in {"tiny": 20, "tiny2": 31, "small": 40, "fits": 64}.items():
            save_image(tmp_path / f"train{domain}" / f"{name}.png", paint(size, 90, size))
    model = script.algorithm(script.options(input_dir=str(tmp_path)), training=True)
    found = model.find_training_images()
    assert {Path(path).stem for path in found["A"]} == {Path(path).stem for path in found["B"]} == {"fits", "small"}
    lines, folder = capsys.readouterr().err.splitlines(), tmp_path / "trainA"
    assert len(lines) == 4 and all(line.startswith("warning: ") for line in lines)
    assert "2 of 4" in lines[0] and "left out" in lines[0] and str(folder / "tiny") in lines[0]
    assert "1 of 4" in lines[1] and "enlarged to 64 pixels" in lines[1] and str(folder / "small.png") in lines[1]
    for name in ("small.png", "fits.png"):
        (tmp_path / "trainB" / name).unlink()
    code, _, err = script.run(*flags_of_train(script, "--input_dir", tmp_path, "--output_dir", tmp_path / "o"))
    assert code == 2 and err.splitlines()[-1].startswith(f"error: all images in {tmp_path / 'trainB'}")
    assert "--tile" in err


# ------------------------------------------------------------------------------------------------- during the training


@once
def test_losses_that_are_not_finite(script, trained, data, tmp_path):
    """The step, the losses and the last good checkpoint are named, and that one is good."""
    folder = copy_training(trained, tmp_path / "o")
    flags = ["--l1_weight", 1e38, "--gan_weight", 1e38, "--display_freq", 0, "--max_steps", 60]
    message = script.fails("--mode", "train", "--checkpoint", folder, *flags)
    assert int(re.search(r"step (\d+): not finite", message)[1]) > 20
    assert all(word in message for word in (str(folder / "model-20"), "--lr", *script.algorithm.losses))
    assert_usable(script, folder, 20, data.parent / "val")


@once
def test_losses_that_are_not_finite_before_the_first_checkpoint(script, data, tmp_path):
    class Diverging(script.algorithm):
        def train_step(self, step, batch):
            return tf.fill([len(self.losses)], np.inf)

    flags = flags_of_train(script, "--input_dir", data, "--output_dir", tmp_path / "o")
    message = script.fails(*flags, algorithm=Diverging)
    assert "step 1: not finite" in message and "last good checkpoint: none" in message


@once
def test_ctrl_c_outside_the_training(script, trained, tmp_path):
    class Interrupted(script.algorithm):
        def translate_file(self, path, direction):
            raise KeyboardInterrupt

    flags = flags_of_test(trained, "--output_dir", tmp_path / "o")
    code, _, err = script.run(*flags, algorithm=Interrupted)
    assert (code, err) == (130, "interrupted\n")


@once
def test_output_piped_to_a_reader_that_leaves(script, trained, tmp_path):
    """pix2pix.py ... | head -1: no traceback, and no wrong advice about --output_dir."""
    read, write = os.pipe()
    command = command_line(flags_of_test(trained, "--output_dir", tmp_path / "o"))
    options = {"stderr": subprocess.PIPE, "text": True, "env": plain_environment(), "cwd": ROOT}
    child = subprocess.Popen(command, stdout=write, **options)
    os.close(write)
    os.close(read)
    err = child.communicate(timeout=60)[1]
    assert child.returncode == 141 and err == "", (child.returncode, err, sys.version)
