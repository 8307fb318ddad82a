"""Bad luck and hostile files: nothing is lost, and what is wrong is said in one line."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    SCRIPTS,
    TINY,
    assert_one_line,
    checkpoints,
    command_line,
    once,
    only,
    paint,
    plain_environment,
    process,
    save_image,
    save_pairs,
    tensors,
    truncate,
)
from PIL import Image

import pix2pix

TRAIN = ["--mode", "train", *TINY, "--max_steps", 3, "--display_freq", 0]


@pytest.fixture
def pairs(tmp_path):
    return save_pairs(tmp_path / "in", ["0.png", "1.png"])


def copied(trained, folder):
    return Path(shutil.copytree(trained.folder, folder))


# ---------------------------------------------------------------------------------------------------------- lost data


@once
def test_weights_that_are_not_finite_are_not_saved(script, trained, tmp_path):
    """An overflow shows in the losses of the next step: the last good checkpoint is good, and is still there."""
    for flags in (["--l1_weight", "3e38"], ["--lr", "1e38"]):
        folder = copied(trained, tmp_path / flags[1])
        more = ["--save_freq", 1, "--display_freq", 0, "--max_steps", 40]
        message = script.fails("--mode", "train", "--checkpoint", folder, *flags, *more)
        last = re.search(r"last good checkpoint: (\S+)", message)[1]
        assert last == str(folder / f"model-{checkpoints(folder)[-1]}") and "not finite" in message
        for name, values in tensors(last).items():
            assert values.dtype.kind != "f" or np.isfinite(values).all(), name
    output = ["--output_dir", tmp_path / "first"]
    message = script.fails(*TRAIN, "--input_dir", script.save_data(tmp_path), *output, "--l1_weight", "3e38", "--lr", 1)
    assert "last good checkpoint: none" in message and not checkpoints(tmp_path / "first")


@once
def test_a_training_is_not_overwritten_without_its_list(script, trained, pairs, tmp_path):
    folder = copied(trained, tmp_path / "o")
    (folder / "checkpoint").unlink()
    message = script.fails(*TRAIN, "--input_dir", pairs, "--output_dir", folder)
    assert f"{folder / 'model-20'} exists" in message and checkpoints(folder) == [10, 15, 20]


@once
@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"\xff\xfe\x00", b"\x00" * 500], ids=["empty", "text", "utf", "zero"]
)
def test_a_damaged_list_of_checkpoints(script, trained, tmp_path, content):
    """What power loss leaves: the newest checkpoint is used, and a training goes on and keeps its checkpoints."""
    folder = copied(trained, tmp_path / "o")
    (folder / "checkpoint").write_bytes(content)
    script("--mode", "test", "--checkpoint", folder, "--output_dir", tmp_path / "t")
    assert json.loads((tmp_path / "t" / "metrics.json").read_text())["checkpoint"] == str(folder / "model-20")
    out = script("--mode", "train", "--checkpoint", folder, "--max_steps", 22, "--display_freq", 0)
    assert "done: step 22" in out and checkpoints(folder)[-1] == 22


def contents(folder):
    """{path: bytes} of all files."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.more
@once
@pytest.mark.parametrize("where", ["while it is written", "when it is renamed"])
def test_an_export_that_fails_leaves_the_last_one(script, trained, tmp_path, monkeypatch, where):
    flags = ["--mode", "export", "--checkpoint", trained.folder, "--output_dir", tmp_path]
    for _ in range(2):  # the second replaces the first
        script(*flags)
        assert [path.name for path in tmp_path.iterdir()] == ["saved_model"]
    before = contents(tmp_path)
    save, replace, refused = script.module.tf.saved_model.save, Path.replace, []

    def full(*arguments, **options):
        save(*arguments, **options)
        raise OSError(28, "No space left on device")

    def refuse(path, target):
        if Path(target).name == "saved_model" and not refused:
            refused.append(target)
            raise OSError(5, "Input/output error")
        return replace(path, target)

    if where == "while it is written":
        monkeypatch.setattr(script.module.tf.saved_model, "save", full)
    else:
        monkeypatch.setattr(Path, "replace", refuse)
    assert str(tmp_path / "saved_model") in script.fails(*flags)
    assert contents(tmp_path) == before and [path.name for path in tmp_path.iterdir()] == ["saved_model"]


@once
def test_images_are_written_whole(script, trained, tmp_path, monkeypatch):
    """Of a disk that is full after some images, these are left, and nothing half-written."""
    flags = ["--mode", "test", "--checkpoint", trained.folder, "--output_dir"]
    script(*flags, tmp_path / "whole")
    whole = {path.name: content for path, content in contents(tmp_path / "whole").items()}
    write = Path.write_bytes

    def full(path, content):
        if "pic10-" in path.name:
            write(path, content[:10])
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    message = script.fails(*flags, tmp_path / "o")
    assert "No space left" in message and "part-" not in message
    left = {path.name: content for path, content in contents(tmp_path / "o").items()}
    images = {name for name in whole if name.endswith(".png") and not name.startswith("pic10-")}
    assert set(left) == images | {"test.json"}
    assert all(left[name] == whole[name] for name in images)


@pytest.mark.parametrize("full", [False, True], ids=["head", "full"])
def test_a_reader_that_leaves_is_no_loss(pairs, tmp_path, full):
    """`| head -3` saves and exits with 141; `>/dev/full` saves and names stdout, not the output folder."""
    flags = [*TRAIN[:-4], "--max_steps", 190, "--display_freq", 0, "--progress_freq", 1, "--save_freq", 0]
    command = command_line([*flags, "--input_dir", pairs, "--output_dir", tmp_path / "o"])
    out = open("/dev/full", "w") if full else subprocess.PIPE  # noqa: SIM115
    child = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True, env=plain_environment())
    if full:
        assert child.wait(90) == 2
        assert_one_line(child.stderr.read(), "stdout", "No space left")
        out.close()
        return
    for _ in range(3):
        child.stdout.readline()
    child.stdout.close()
    assert child.wait(90) == 141 and child.stderr.read() == ""
    assert len(checkpoints(tmp_path / "o")) == 1 and checkpoints(tmp_path / "o")[0] >= 1


@once
def test_one_training_at_a_time_in_a_folder(script, pairs, tmp_path):
    lock = pix2pix.take_folder(tmp_path / "o", begin=None)
    flags = [*TRAIN, "--input_dir", pairs, "--output_dir", tmp_path / "o"]
    assert "another training" in script.fails(*flags) and not (tmp_path / "o" / "options.json").exists()
    lock.release()
    script(*flags)


# ---------------------------------------------------------------------------------------------------------------- rest


def test_names_that_meet(tmp_path):
    for number, name in enumerate(("a.jpg", "a.png", "a.jpg.png", "b.png")):
        save_image(tmp_path / name, paint(8, 8, number))
    names = [name for name, _ in pix2pix.list_images(tmp_path)]
    assert len(set(names)) == 4


@once
@pytest.mark.parametrize(
    ("name", "value"),
    [("which_direction", "XtoY"), ("ngf", "many"), ("ngf", None), ("ngf", 4.5), ("ngf", [4]), ("ngf", -1), ("ngf", {}),
     ("input_dir", 3), ("input_dir", None), ("crop_size", None), ("crop_size", ["64"]), ("scale_size", "1e9x"),
     ("seed", -3), ("seed", 2**40), ("separable_conv", "maybe"), ("separable_conv", [True]),
     ("aspect_ratio", "wide"), ("aspect_ratio", float("nan")), ("ngf", 1e30), ("ngf", 10**400),
     ("aspect_ratio", 10**400), ("crop_size", "99999999999x99999999999"), ("scale_size", "1" * 99),
     ("seed", 10**4000)],
)  # fmt: skip
def test_an_edited_options_json(script, trained, tmp_path, name, value):
    folder = copied(trained, tmp_path / "o")
    options = json.loads((folder / "options.json").read_text()) | {name: value}
    (folder / "options.json").write_text(json.dumps(options))
    message = script.fails("--mode", "test", "--checkpoint", folder, "--output_dir", tmp_path / "t")
    assert name in message and not (tmp_path / "t").exists()


@once
def test_a_size_in_options_json_that_is_a_number(script, trained, tmp_path):
    """As a person writes it, 64 and not "64": it is taken so, or named."""
    folder = copied(trained, tmp_path / "o")
    options = json.loads((folder / "options.json").read_text()) | {"crop_size": 64}
    (folder / "options.json").write_text(json.dumps(options))
    code, _, err = script.run("--mode", "test", "--checkpoint", folder, "--output_dir", tmp_path / "t")
    assert code == 0 or (code == 2 and "crop_size" in err)


@once
@pytest.mark.parametrize(
    "content", ["[]", "null", "3", '"text"', "{}", '{"script": []}', '{"script": "pix2pix"}', "{", "\x00"]
)
def test_an_options_json_of_another_shape(script, trained, tmp_path, content):
    folder = copied(trained, tmp_path / "o")
    (folder / "options.json").write_text(content)
    assert "options.json" in script.fails("--mode", "test", "--checkpoint", folder, "--output_dir", tmp_path / "t")


@pytest.mark.more
def test_the_output_folder_is_deleted_while_training(pairs, tmp_path):
    flags = [*TRAIN[:-4], "--max_steps", 200, "--display_freq", 0, "--progress_freq", 1, "--save_freq", 200]
    command = command_line([*flags, "--input_dir", pairs, "--output_dir", tmp_path / "o"])
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=plain_environment()
    )
    try:
        while "step" not in child.stdout.readline():
            pass
        shutil.rmtree(tmp_path / "o")
        _, err = child.communicate(timeout=90)
    finally:
        child.kill()
    assert child.returncode == 2
    assert_one_line(err, tmp_path / "o")


@once
def test_names_that_are_not_utf8(script, trained, tmp_path):
    save_image(tmp_path / "in" / "1.png", paint(64, 64, 1))
    os.rename(tmp_path / "in" / "1.png", os.fsencode(tmp_path / "in") + b"/\xff1.png")
    flags = ["--mode", "test", "--checkpoint", trained.folder, "--nopaired", "--output_dir", tmp_path / "o"]
    assert "UTF-8" in script.fails(*flags, "--input_dir", tmp_path / "in")
    (tmp_path / "bad.flags").write_bytes(b"--ngf=\xff")
    assert "UTF-8" in script.fails(f"--flagfile={tmp_path / 'bad.flags'}")


@once
@pytest.mark.parametrize(
    "flag",
    [
        "--seed=4294967296",
        "--aspect_ratio=nan",
        "--aspect_ratio=inf",
        "--aspect_ratio=1e7",
        "--l1_weight=nan",
        "--lr=inf",
        "--ngf=1e30",
        f"--ngf={10**40}",
        f"--batch_size={10**400}",
        f"--max_steps={10**4000}",
        f"--lr={10**400}",
        "--crop_size=99999999999x99999999999",
    ],
)
def test_numbers_beyond_reason(script, pairs, tmp_path, flag):
    message = script.fails(*TRAIN, "--input_dir", pairs, "--output_dir", tmp_path / "o", flag)
    assert flag[2:].split("=")[0] in message and not (tmp_path / "o").exists()


@once
def test_a_foreign_file_and_a_test_in_the_folder_of_a_training(script, trained, tmp_path):
    folder = copied(trained, tmp_path / "o")
    save_image(folder / "images" / "step-abc-outputs.png", paint(8, 8, 1))
    save_image(folder / "images" / "step-abc.png", paint(8, 8, 1))
    script("--mode", "train", "--checkpoint", folder, "--max_steps", 21, "--display_freq", 21)
    before = (folder / "index.html").read_bytes()
    assert "abc" not in before.decode()
    assert str(folder) in script.fails("--mode", "test", "--checkpoint", folder, "--output_dir", folder)
    assert (folder / "index.html").read_bytes() == before


def test_interrupted_while_tensorflow_is_imported():
    """Its libraries are loaded long before its import ends."""
    child = subprocess.Popen(command_line(["--help"]), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while "/tensorflow/" not in Path(f"/proc/{child.pid}/maps").read_text():
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err) == (130, "", "")


def test_without_stderr(tmp_path):
    command = " ".join(map(str, command_line(["--help"])))
    done = subprocess.run(["bash", "-c", f"{command} 2>&-"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "--mode" in done.stdout


@once
@pytest.mark.parametrize("val", ["empty", "odd", "damaged"])
def test_held_out_images_that_cannot_be_shown(script, tmp_path, val):
    """They do not stop a training: it warns, and shows images that it trains on."""
    data = save_pairs(tmp_path / "data" / "train", ["0.png", "1.png"])
    (tmp_path / "data" / "val").mkdir()
    if val != "empty":
        path = save_image(tmp_path / "data" / "val" / "1.png", paint(80, 161 if val == "odd" else 160, 1))
        if val == "damaged":
            truncate(path)
    flags = [*TRAIN[:-2], "--input_dir", data, "--output_dir", tmp_path / "o"]
    code, _, err = script.run(*flags)
    assert code == 0 and err.startswith("warning: ") and err.count("\n") == 1 and str(tmp_path / "data" / "val") in err
    assert (tmp_path / "o" / "images" / "step-00000003-0-outputs.png").is_file()


@once
def test_a_link_to_the_training_images(script, pairs, tmp_path):
    """Beside the link is where its val is, as the user sees it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train").symlink_to(pairs)
    save_pairs(tmp_path / "data" / "val", ["held.png"])
    script(*TRAIN, "--input_dir", tmp_path / "data" / "train", "--output_dir", tmp_path / "o")
    script("--mode", "test", "--checkpoint", tmp_path / "o", "--output_dir", tmp_path / "t")
    assert (tmp_path / "t" / "images" / "held-outputs.png").is_file()


@once
def test_brackets_in_the_name_of_a_folder(script, trained, pairs, tmp_path):
    """TensorFlow takes them for a pattern and finds nothing: the message names them."""
    folder = copied(trained, tmp_path / "br[1]")
    flags = ["--output_dir", tmp_path / "t"]
    for mode in ("test", "train", "export"):
        assert "* ? [ ]" in script.fails("--mode", mode, "--checkpoint", folder, *flags)
    assert "* ? [ ]" in script.fails(*TRAIN, "--input_dir", pairs, "--output_dir", tmp_path / "a*")
    script("--mode", "test", "--checkpoint", trained.folder, "--output_dir", tmp_path / "out[1]")


@once
def test_what_a_killed_training_left_is_removed(script, trained, tmp_path):
    """(What is not its own stays: test_nothing_lost.py.)"""
    folder = copied(trained, tmp_path / "o")
    (folder / "model-25_temp").mkdir()
    left = ["model-25_temp/part-00000", "checkpoint.tmp123", "part-99-options.json", "part-99-index.html"]
    left.append("images/part-7-step-00000020-pic1-outputs.png")
    for name in left:
        (folder / name).write_text("rest")
    (folder / "notes.txt").write_text("mine")
    script("--mode", "train", "--checkpoint", folder, "--max_steps", 21, "--display_freq", 0)
    assert not any((folder / name).exists() for name in left) and (folder / "notes.txt").exists()
    assert not (folder / "model-25_temp").exists()


@once
def test_messages_of_damaged_images_are_one_line(script, trained, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    truncate(save_image(tmp_path / "in" / "1.gif", noise))
    flags = ["--mode", "test", "--checkpoint", trained.folder, "--nopaired", "--output_dir", tmp_path / "o"]
    assert "1.gif" in script.fails(*flags, "--input_dir", tmp_path / "in")
    assert "no checkpoint in /" in script.fails("--mode", "test", "--checkpoint", "/")
    done = process(*flags, "--input_dir", tmp_path / "in")
    assert_one_line(done.stderr, "1.gif")


@once
def test_lab_at_native_size_is_bounded_by_the_window(script, tmp_path, monkeypatch):
    """No call of the network's parts sees more than a window, the inputs that are shown no more than the outputs."""
    options = script.options(lab_colorization=True, native_size=True, tile_size=64)
    model, sizes = pix2pix.Pix2Pix(options, training=False), []
    convert = model.to_inputs
    monkeypatch.setattr(model, "to_inputs", lambda images: sizes.append(images.shape) or convert(images))
    path = save_image(tmp_path / "1.png", paint(200, 150, 1))
    images = model.translate_file(str(path), "AtoB")
    assert images["inputs"].shape == images["outputs"].shape == (200, 150, 3) and len(sizes) > 2
    assert max(max(size[1:3]) for size in sizes if None not in size) <= 64
    assert np.ptp(images["inputs"].astype(int), -1).max() <= 1  # grey


@once
def test_an_error_of_the_network_is_not_blamed_on_the_image(script, trained, tmp_path, monkeypatch):
    """The image is good: what failed is said, not that an image could not be read."""

    class Broken(script.algorithm):
        def translate_file(self, path, direction):
            raise pix2pix.tf.errors.InternalError(None, None, "no such kernel")

    flags = ["--mode", "test", "--checkpoint", trained.folder, "--output_dir", tmp_path / "o"]
    with pytest.raises(pix2pix.tf.errors.InternalError, match="no such kernel"):
        script(*flags, algorithm=Broken)


@once
@pytest.mark.parametrize("error", [MemoryError(), pix2pix.tf.errors.ResourceExhaustedError(None, None, "OOM when ...")])
def test_out_of_memory_is_one_line(script, trained, tmp_path, error):
    class Large(script.algorithm):
        def translate_file(self, path, direction):
            raise error

    flags = ["--mode", "test", "--checkpoint", trained.folder, "--output_dir", tmp_path / "o"]
    assert "out of memory: lower --batch_size" in script.fails(*flags, algorithm=Large)


def test_test_and_export_at_another_size(trained_of, tmp_path):
    """No weight depends on --crop_size, but for the number of times that the U-Net halves it. Training is refused."""
    for name, size, wrong in (("pix2pix", "64x192", "128"), ("cyclegan", "44x48", "42")):
        script, flags = SCRIPTS[name], ["--checkpoint", trained_of(name).folder, "--output_dir", tmp_path / name]
        script("--mode", "test", *flags, "--crop_size", size)
        shape = [int(side) for side in (size.split("x") * 2)[:2]]
        outputs = [np.asarray(Image.open(path)) for path in (tmp_path / name / "images").glob("*-outputs.png")]
        assert len(outputs) == 4 and all(list(output.shape) == [*shape, 3] for output in outputs)
        if name == "pix2pix":
            script("--mode", "export", *flags, "--crop_size", size)
        for mode, other in (("test", wrong), ("export", wrong), ("train", size)):
            assert "--crop_size" in script.fails("--mode", mode, *flags[:2], "--crop_size", other)


@only("pix2pix", more=["cyclegan"])
def test_the_other_norm_trains_and_is_kept(script, data, tmp_path):
    """Test, export and a continued training know it; a checkpoint from before --norm has the default."""
    norm = {"pix2pix": "instance", "cyclegan": "batch"}[script.name]
    flags = ["--mode", "train", *script.tiny, "--seed", 1, "--display_freq", 0, "--batch_size", 2]
    flags += ["--output_dir", tmp_path / "o", "--input_dir", data, "--max_steps"]
    script(*flags, 2, "--norm", norm)
    script(*flags, 3, "--checkpoint", tmp_path / "o")
    _, model = script.recorded("--mode", "test", "--checkpoint", tmp_path / "o", "--output_dir", tmp_path / "t")
    network = next(iter(model.networks.values()))
    kinds = {weight.path.split("/")[1] for weight in network.weights}
    assert kinds == ({"kernel", "bias", "gamma", "beta"} if norm == "batch" else {"kernel", "bias"})
    image = paint(64, 64, 1)[None]
    script("--mode", "export", "--checkpoint", tmp_path / "o", "--output_dir", tmp_path / "e")
    serve = pix2pix.tf.saved_model.load(str(tmp_path / "e" / "saved_model")).signatures["serving_default"]
    exported = serve(images=pix2pix.tf.constant(image))["images"].numpy().astype(int)
    translate = model.translate if script.name == "pix2pix" else model.translate["AtoB"]
    assert np.abs(exported - np.asarray(translate(image)) * 255).max() <= 1.01
    path, default = tmp_path / "o" / "options.json", {"pix2pix": "batch", "cyclegan": "instance"}[script.name]
    options = json.loads(path.read_text())
    assert options.pop("norm") == norm and options.pop("upsample") == "transpose"  # also from before --upsample
    path.write_text(json.dumps(options))
    assert f"--norm {default}" in script.fails(*flags, 4, "--checkpoint", tmp_path / "o", "--norm", norm)
