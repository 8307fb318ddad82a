"""pix2pix.py through its command line: what train, test and export write, and what --checkpoint brings back."""

import contextlib
import html
import importlib.util
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import (
    ROOT,
    TINY,
    ParsedPage,
    assert_same,
    command_line,
    events,
    paint,
    plain_environment,
    pngs,
    process,
    read_png,
    save_pairs,
    save_picture,
    tensors,
)
from PIL import Image

import pix2pix

PROGRESS = re.compile(
    r"epoch (\d+)  step (\d+)/(\d+)  ([\d.]+) images/s  (\d+h\d\dm) left  discrim ([\d.]+)  gan ([\d.]+)  l1 ([\d.]+)"
)


def checkpoints(folder):
    """Steps of the checkpoints in a folder."""
    return sorted(int(path.stem.split("-")[1]) for path in Path(folder).glob("model-*.index"))


def copy_training(trained, folder):
    return Path(shutil.copytree(trained.folder, folder))


@pytest.fixture(scope="module")
def tested(trained, tmp_path_factory):
    """Test mode with --checkpoint alone, in an empty working folder. Returns that folder."""
    folder = tmp_path_factory.mktemp("tested")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as stdout:
        patch.chdir(folder)
        assert pix2pix.main(["pix2pix.py", "--mode", "test", "--checkpoint", str(trained.folder)]) == 0
    assert "/val\n" in stdout.getvalue()
    return folder


# ------------------------------------------------------------------------------------------------------------- train


def test_train_keeps_three_checkpoints_and_its_options(trained, data):
    assert checkpoints(trained.folder) == [10, 15, 20]
    options = json.loads((trained.folder / "options.json").read_text())
    assert options["script"] == "pix2pix" and options["input_dir"] == str(data / "train")
    wanted = {"ngf": 4, "ndf": 4, "crop_size": "64", "scale_size": "72", "batch_size": 2, "seed": 3, "l1_weight": 50.0}
    assert {name: options[name] for name in wanted} == wanted


def test_train_progress_line(trained):
    lines = [PROGRESS.fullmatch(line) for line in trained.stdout.splitlines() if line.startswith("epoch")]
    assert len(lines) == 2 and all(lines), trained.stdout
    assert [line.groups()[:3] for line in lines] == [("4", "10", "20"), ("8", "20", "20")]  # 2 of 5 pictures in a step
    assert all(float(line[4]) > 0 for line in lines)


def test_train_writes_events(trained):
    found = events(trained.folder)
    scalars = {f"loss/{name}" for name in ("discrim", "gan", "l1")}
    scalars |= {f"learning_rate/{name}" for name in ("generator", "discriminator")} | {"images_per_second"}
    assert scalars <= found.keys()
    for tag in scalars:
        assert found[tag].keys() == {10, 20} and all(np.isfinite(value) for value in found[tag].values()), tag
    assert found["learning_rate/generator"][20] == np.float32(2e-4)
    last = PROGRESS.search(trained.stdout.splitlines()[-2])
    np.testing.assert_allclose(
        [found[f"loss/{n}"][20] for n in ("discrim", "gan", "l1")], np.float32(last.groups()[5:]), atol=1e-4
    )
    for kind in ("inputs", "outputs", "targets"):
        width, height, encoded = found[f"pic2/{kind}"][10][:3]
        assert (width, height) == (b"64", b"64") and tf.io.decode_png(encoded).shape == (64, 64, 3)
    assert found.keys() - scalars == {
        f"{n}/{k}" for n in ("pic1", "pic2", "Pic3", "pic10") for k in ("inputs", "outputs", "targets")
    }
    assert not (trained.folder / "plugins").exists()  # a trace only on request, and histograms would be among the tags


def test_train_page_shows_held_out_samples_newest_first(trained):
    page = ParsedPage(trained.folder / "index.html")
    names = ["pic1", "pic2", "Pic3", "pic10"]
    rows = [tuple(row[:2]) for row in page.rows[1:]]
    assert [step for step, _ in rows] == ["20"] * 4 + ["10"] * 4
    assert sorted(rows) == sorted((step, name) for step in ("10", "20") for name in names)
    assert len(page.images) == 8 * 3 and page.missing_files() == []


def test_step_and_translation_are_traced_once(trained, tmp_path):
    """20 steps and 8 sample pictures of training, then pictures of several sizes."""
    assert trained.model.train_step.experimental_get_tracing_count() == 1
    trained.model.o.native_size, before = True, trained.model.o.native_size
    trained.model.load, load = pix2pix.load_image, trained.model.load
    try:
        for size in ((64, 64), (33, 90), (200, 130)):
            path = save_picture(tmp_path / f"{size}.png", paint(*size, 1))
            assert trained.model.test_pictures(str(path), "AtoB")["outputs"].shape == (*size, 3)
    finally:
        trained.model.o.native_size, trained.model.load = before, load
    assert trained.model.translate.experimental_get_tracing_count() == 1


def test_train_by_defaults_with_flagfile_histograms_and_trace(cli, tmp_path, monkeypatch):
    """No --input_dir and no --output_dir; settings from a file; what is only written on request."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.flags").write_text("\n".join(f"{a}={b}" for a, b in zip(TINY[::2], TINY[1::2], strict=True)) + "\n")
    more = ["--max_steps", 3, "--histogram_freq", 3, "--trace_freq", 3, "--display_freq", 0, "--summary_freq", 0]
    out = cli("--mode", "train", "--flagfile=tiny.flags", *more, "--no_flip")
    assert f"no --input_dir given: using {ROOT / 'samples' / 'facades' / 'train'}" in out and "(40 pictures)" in out
    found = events("facades_train")
    assert "generator/encoder_1/kernel" in found and "discriminator/layer_1/kernel" in found
    assert not any(tag.startswith(("loss", "learning_rate")) for tag in found)
    assert list(Path("facades_train/plugins/profile").iterdir())
    options = json.loads(Path("facades_train/options.json").read_text())
    assert options["ngf"] == 4 and options["crop_size"] == "64" and isinstance(options["seed"], int) and not options["exact"]
    cli("--mode", "train", "--checkpoint", "facades_train", "--max_steps", 4, "--histogram_freq", 0)
    goes_on = json.loads(Path("facades_train/options.json").read_text())  # as fast as before: the drawn seed is not one given
    assert goes_on == options | {"max_steps": 4, "histogram_freq": 0}


@pytest.mark.parametrize(
    "flags",
    [
        ["--mixed_precision", "bfloat16", "--which_direction", "BtoA"],
        ["--mixed_precision", "float16", "--crop_size", "32"],
        ["--xla", "--crop_size", "32"],
        ["--separable_conv", "--crop_size", "32x64", "--scale_size", "36x80"],
        ["--batch_size", "7", "--crop_size", "32", "--cache_mb", "0"],
    ],
    ids=["bfloat16", "float16", "xla", "separable-wide", "large-batch-uncached"],
)
def test_train_and_test_with(cli, data, tmp_path, monkeypatch, flags):
    """A few steps with finite losses, then test mode; and the networks are what was asked for."""
    models = []

    class Recorded(pix2pix.Pix2Pix):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            models.append(self)

    monkeypatch.setattr(pix2pix, "ALGORITHM", Recorded)
    out = cli(*["--mode", "train", "--input_dir", data / "train", "--output_dir", tmp_path / "o", *TINY, *flags],
              *["--max_steps", 3, "--progress_freq", 1, "--display_freq", 0])  # fmt: skip
    losses = [float(loss) for line in PROGRESS.finditer(out) for loss in line.groups()[5:]]
    assert len(losses) == 9 and np.isfinite(losses).all()
    layer = models[0].generator.get_layer("encoder_2")
    assert layer.compute_dtype == next((flag for flag in flags if "float" in flag), "float32")
    assert (type(layer).__name__ == "SeparableConv2D") == ("--separable_conv" in flags)
    cli("--mode", "test", "--checkpoint", tmp_path / "o", "--output_dir", tmp_path / "t")
    wide, small = "32x64" in flags, "32" in flags
    for name, pixels in pngs(tmp_path / "t").items():
        assert pixels.shape == ((32, 64, 3) if wide else (32, 32, 3) if small else (64, 64, 3)), name
    if "BtoA" in flags:  # the right half of a pair goes in
        pair = Image.open(data / "val" / "pic2.png")
        right, left = pair.crop((96, 0, 192, 80)), pair.crop((0, 0, 96, 80))
        for half, kind in ((right, "inputs"), (left, "targets")):
            expected = np.asarray(half.resize((64, 64), Image.BICUBIC), int)
            assert np.abs(read_png(tmp_path / "t" / "images" / f"pic2-{kind}.png") - expected).max() <= 2


def test_lab_colorization(cli, tmp_path):
    """Single pictures of odd width: lightness is shown as grey, colours come out, the target is the picture."""
    for number in range(3):
        save_picture(tmp_path / "train" / f"{number}.png", paint(70, 81, number))
        save_picture(tmp_path / "val" / f"{number}.png", paint(70, 81, number + 10))
    flags = ["--mode", "train", "--input_dir", tmp_path / "train", "--output_dir", tmp_path / "o", *TINY]
    out = cli(*flags, "--lab_colorization", "--max_steps", 25, "--progress_freq", 25, "--lr", 0.002)
    assert PROGRESS.search(out)
    assert ParsedPage(tmp_path / "o" / "index.html").missing_files() == []
    cli("--mode", "test", "--checkpoint", tmp_path / "o", "--output_dir", tmp_path / "t")
    for number in range(3):
        inputs, outputs, targets = (
            read_png(tmp_path / "t" / "images" / f"{number}-{kind}.png").astype(int)
            for kind in ("inputs", "outputs", "targets")
        )
        assert np.ptp(inputs, -1).max() <= 1  # grey
        assert np.ptp(outputs, -1).max() > 2  # colours
        # the lightness is that of the target, not its inverse. (Rec. 709 luma, near enough to L)
        luma = outputs @ [0.2126, 0.7152, 0.0722], targets @ [0.2126, 0.7152, 0.0722]
        assert np.corrcoef(luma[0].ravel(), luma[1].ravel())[0, 1] > 0.9
        reference = np.asarray(Image.fromarray(paint(70, 81, number + 10)).resize((64, 64), Image.BICUBIC), int)
        assert np.abs(targets - reference).max() <= 2


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_lab_parts_make_the_picture_again(trained, direction):
    """Of perfect outputs the picture that is shown is the target: colours are not inverted."""
    options = vars(trained.model.o) | {"lab_colorization": True, "which_direction": direction}
    model = pix2pix.Pix2Pix(types.SimpleNamespace(**options), training=False)
    images = paint(64, 64, 1)[None] / np.float32(127.5) - 1
    inputs, outputs = model.split(tf.constant(images))
    assert (inputs.shape[-1], outputs.shape[-1]) == ((1, 2) if direction == "AtoB" else (2, 1))
    assert max(np.abs(inputs).max(), np.abs(outputs).max()) <= 1
    np.testing.assert_allclose(model.to_rgb(inputs, outputs), (images + 1) / 2, atol=2e-3)


# ------------------------------------------------------------------------------------------------------------ resume


def wait_for(condition, child, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert child.poll() is None and time.monotonic() < end, "the training ended early, or never came so far"
        time.sleep(0.005)


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="sums are not bit-identical on a GPU")
def test_killed_and_resumed_equals_left_alone(cli, data, tmp_path):
    """kill -9 at a random step, on from the last checkpoint: all weights, moments and averages are bit-identical."""
    flags = ["--mode", "train", "--input_dir", data / "train", *TINY, "--seed", 11, "--batch_size", 2, "--display_freq", 0]
    flags += ["--save_freq", 4]
    killed, alone = tmp_path / "killed", tmp_path / "alone"
    child = subprocess.Popen(
        command_line([*flags, "--output_dir", killed, "--max_steps", 100_000]),
        stdout=subprocess.DEVNULL,
        env=plain_environment(),
    )
    try:
        wait_for(lambda: (killed / "model-12.index").exists(), child)
        time.sleep(np.random.default_rng().uniform(0, 0.3))
    finally:
        child.kill()
        child.wait()
    last = checkpoints(killed)[-1]
    total = last + 15
    out = cli("--mode", "train", "--checkpoint", killed, "--max_steps", total, "--progress_freq", 1)
    first = int(PROGRESS.search(out)[2]) - 1
    assert 4 <= first <= last
    cli(*flags, "--output_dir", alone, "--max_steps", total)
    resumed, expected = tensors(killed / f"model-{total}"), tensors(alone / f"model-{total}")
    for found in (resumed, expected):
        del found["save_counter/.ATTRIBUTES/VARIABLE_VALUE"]  # how many files were written; nothing reads it
    assert any("generator_optimizer" in name for name in expected) and len(expected) > 100
    assert_same(resumed, expected)
    halfway = tensors(alone / f"model-{total - total % 4}")  # not a comparison of two trainings that stand still
    assert total % 4 == 0 or any((halfway[name] != expected[name]).any() for name in expected if "kernel" in name)


@pytest.fixture(scope="module")
def interrupted(data, tmp_path_factory):
    """Two trainings without an end in sight, ended by Ctrl-C and by SIGTERM: {signal: (folder, finished process)}."""
    folder = tmp_path_factory.mktemp("interrupted")
    flags = ["--mode", "train", "--input_dir", data / "train", *TINY, "--max_steps", 100_000, "--display_freq", 0]
    flags += ["--progress_freq", 1, "--save_freq", 0]
    children = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        with open(folder / f"{number}.out", "w") as out, open(folder / f"{number}.err", "w") as err:
            command = command_line([*flags, "--output_dir", folder / str(int(number))])
            children[number] = subprocess.Popen(command, stdout=out, stderr=err, env=plain_environment())
    results = {}
    try:
        for number, child in children.items():
            wait_for(lambda out=folder / f"{number}.out": "step 3/" in out.read_text(), child)
            child.send_signal(number)
        for number, child in children.items():
            code, err = child.wait(60), (folder / f"{number}.err").read_text()
            results[number] = folder / str(int(number)), code, (folder / f"{number}.out").read_text(), err
    finally:
        for child in children.values():
            child.kill()
            child.wait()
    return results


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_signal_saves_and_says_how_to_continue(interrupted, number, expected):
    folder, code, out, err = interrupted[number]
    assert code == expected and err == ""
    last = int(PROGRESS.findall(out)[-1][1])  # the step in hand was ended
    assert checkpoints(folder) == [last]
    assert out.splitlines()[-1] == f"stopped at step {last}, all saved; continue with --mode train --checkpoint {folder}"


def test_stopped_training_continues_where_it_was(interrupted, cli):
    folder, _, out, _ = interrupted[signal.SIGTERM]
    last = int(PROGRESS.findall(out)[-1][1])
    out = cli("--mode", "train", "--checkpoint", folder, "--max_steps", last + 2)
    assert [line[1:3] for line in PROGRESS.findall(out)] == [(str(last + n), str(last + 2)) for n in (1, 2)]


def test_resume_takes_options_from_the_checkpoint_and_given_ones_instead(cli, trained, tmp_path):
    """--max_epochs counts in total and replaces --max_steps; the learning rate is the new one. In a folder moved elsewhere."""
    folder = copy_training(trained, tmp_path / "moved ü")
    known = set(folder.glob("events*"))
    more = ["--max_epochs", 9, "--progress_freq", 1, "--summary_freq", 1, "--lr", 0.001, "--display_freq", 0]
    out = cli("--mode", "train", "--checkpoint", f"{folder}/", *more)
    assert [line[:3] for line in PROGRESS.findall(out)] == [("9", "21", "23"), ("9", "22", "23"), ("10", "23", "23")]
    options = json.loads((folder / "options.json").read_text())
    wanted = {"l1_weight": 50.0, "batch_size": 2, "seed": 3, "exact": True, "ngf": 4}
    wanted |= {"max_epochs": 9, "max_steps": None, "lr": 0.001}
    assert {name: options[name] for name in wanted} == wanted
    for path in known:
        path.unlink()
    found = events(folder)
    assert found["loss/l1"].keys() == {21, 22, 23}
    assert found["learning_rate/generator"][23] == np.float32(0.001)


def test_max_steps_counts_in_total(cli, trained, tmp_path):
    folder = copy_training(trained, tmp_path / "o")
    before = {path.name: path.read_bytes() for path in folder.glob("model-*")}
    out = cli("--mode", "train", "--checkpoint", folder, "--max_steps", 20)
    assert "done: step 20;" in out and not PROGRESS.search(out)
    assert {path.name: path.read_bytes() for path in folder.glob("model-*")} == before


def test_training_on_from_an_earlier_checkpoint_never_harms_a_later_one(trained, tmp_path, capsys):
    """--checkpoint DIR/model-10 goes elsewhere, or is refused: model-15 and model-20 are not overwritten by other weights."""
    folder = copy_training(trained, tmp_path / "o")
    before = {path.name: path.read_bytes() for step in (15, 20) for path in folder.glob(f"model-{step}.*")}
    assert len(before) == 4
    flags = ["--mode", "train", "--checkpoint", f"{folder}/model-10", "--max_steps", "16", "--seed", "4", "--display_freq", "0"]
    code = pix2pix.main(["pix2pix.py", *flags])
    after = {name: (folder / name).read_bytes() for name in before if (folder / name).exists()}
    assert after == before and code in (0, 2), capsys.readouterr()


# -------------------------------------------------------------------------------------------------------------- test


def test_test_needs_nothing_but_a_checkpoint(tested, trained):
    """val is found beside train, the sizes of the networks in options.json, and the names follow natural order."""
    folder = tested / "tiny_test"
    names = ["pic1", "pic2", "Pic3", "pic10"]
    kinds = ["inputs", "outputs", "targets"]
    assert sorted(pngs(folder)) == sorted(f"{name}-{kind}.png" for name in names for kind in kinds)
    assert all(pixels.shape == (64, 64, 3) for pixels in pngs(folder).values())
    page = ParsedPage(folder / "index.html")
    assert [row[0] for row in page.rows] == ["name", *names]
    assert page.images == [f"images/{name}-{kind}.png" for name in names for kind in kinds]
    assert page.missing_files() == []
    assert sorted(path.name for path in folder.iterdir()) == ["images", "index.html", "metrics.json"]


def ssim(first, second):
    """SSIM (Wang 2004) in numpy: 11x11 Gaussian windows, sigma 1.5, mean over windows and channels."""
    kernel = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    kernel /= kernel.sum()

    def blur(image):
        for axis in (0, 1):
            image = np.apply_along_axis(np.convolve, axis, image, kernel, "valid")
        return image

    mean1, mean2 = blur(first), blur(second)
    variance1, variance2 = blur(first**2) - mean1**2, blur(second**2) - mean2**2
    covariance = blur(first * second) - mean1 * mean2
    c1, c2 = 0.01**2, 0.03**2
    return np.mean(
        (2 * mean1 * mean2 + c1) * (2 * covariance + c2) / ((mean1**2 + mean2**2 + c1) * (variance1 + variance2 + c2))
    )


def test_metrics_are_those_of_the_pictures_written(tested, trained):
    folder = tested / "tiny_test"
    metrics, pictures = json.loads((folder / "metrics.json").read_text()), pngs(folder)
    assert list(metrics["images"]) == ["pic1", "pic2", "Pic3", "pic10"]
    assert metrics["checkpoint"] == str(trained.folder / "model-20")
    for name, values in metrics["images"].items():
        outputs, targets = (pictures[f"{name}-{kind}.png"] / 255.0 for kind in ("outputs", "targets"))
        expected = {
            "l1": np.abs(outputs - targets).mean(),
            "psnr": -10 * np.log10(np.square(outputs - targets).mean()),
            "ssim": ssim(outputs, targets),
        }
        assert values == pytest.approx(expected, rel=1e-4, abs=1e-4)
    for kind in ("l1", "psnr", "ssim"):
        assert metrics["mean"][kind] == pytest.approx(np.mean([v[kind] for v in metrics["images"].values()]))


def test_test_shows_the_halves_of_a_pair(tested, data):
    left = Image.open(data / "val" / "pic10.png").crop((0, 0, 96, 80)).resize((64, 64), Image.BICUBIC)
    pictures = pngs(tested / "tiny_test")
    assert np.abs(pictures["pic10-inputs.png"] - np.asarray(left, int)).max() <= 2
    assert np.abs(pictures["pic10-targets.png"] - np.asarray(left, int)).max() > 20


def test_test_is_repeatable_and_each_picture_alone(cli, tested, trained, data, tmp_path):
    expected = pngs(tested / "tiny_test")
    cli("--mode", "test", "--checkpoint", trained.folder, "--output_dir", tmp_path / "again")
    assert_same(pngs(tmp_path / "again"), expected)
    alone = cli("--mode", "test", "--checkpoint", trained.folder / "model-20", "--output_dir", tmp_path / "alone",
                "--input_dir", data / "val" / "pic2.png")  # fmt: skip
    assert "(1 pictures)" in alone
    assert_same(pngs(tmp_path / "alone"), {name: pixels for name, pixels in expected.items() if name.startswith("pic2-")})


def test_older_checkpoint_by_its_path(cli, tested, trained, tmp_path):
    cli("--mode", "test", "--checkpoint", trained.folder / "model-10", "--output_dir", tmp_path)
    name = "pic2-outputs.png"
    assert (pngs(tmp_path)[name] != pngs(tested / "tiny_test")[name]).any()
    assert json.loads((tmp_path / "metrics.json").read_text())["checkpoint"] == str(trained.folder / "model-10")


def test_nopaired_equals_the_same_inputs_in_pairs(cli, tested, trained, data, tmp_path):
    """A folder of inputs alone, or one file: no targets, no metrics.json, the same pixels."""
    for name in ("pic1", "pic2"):
        save_picture(tmp_path / "in" / f"{name}.png", np.asarray(Image.open(data / "val" / f"{name}.png"))[:, :96])
    expected = pngs(tested / "tiny_test")
    flags = ["--mode", "test", "--checkpoint", trained.folder, "--nopaired"]
    cli(*flags, "--input_dir", tmp_path / "in", "--output_dir", tmp_path / "folder")
    kinds = ("inputs", "outputs")
    assert_same(pngs(tmp_path / "folder"), {f"{n}-{k}.png": expected[f"{n}-{k}.png"] for n in ("pic1", "pic2") for k in kinds})
    assert not (tmp_path / "folder" / "metrics.json").exists()
    assert ParsedPage(tmp_path / "folder" / "index.html").rows[0] == ["name", "inputs", "outputs"]
    cli(*flags, "--input_dir", tmp_path / "in" / "pic2.png", "--output_dir", tmp_path / "file")
    assert_same(pngs(tmp_path / "file"), {f"pic2-{k}.png": expected[f"pic2-{k}.png"] for k in kinds})


def test_test_dropout_is_repeatable_and_makes_a_difference(cli, tested, trained, data, tmp_path):
    flags = ["--mode", "test", "--checkpoint", trained.folder, "--test_dropout"]
    cli(*flags, "--output_dir", tmp_path / "1")
    cli(*flags, "--output_dir", tmp_path / "2")
    cli(*flags, "--output_dir", tmp_path / "3", "--seed", 4)
    cli(*flags, "--output_dir", tmp_path / "alone", "--input_dir", data / "val" / "pic10.png")
    first = pngs(tmp_path / "1")
    assert_same(first, pngs(tmp_path / "2"))
    assert_same(pngs(tmp_path / "alone"), {name: pixels for name, pixels in first.items() if name.startswith("pic10-")})
    name = "pic1-outputs.png"
    for other in (tested / "tiny_test", tmp_path / "3"):
        assert (first[name] != pngs(other)[name]).any()


def test_native_size_keeps_sizes(cli, trained, tmp_path):
    """Odd sizes, smaller than the network takes, larger than a tile: the inputs are copied, the outputs have their size."""
    sizes = [(64, 64), (33, 47), (5, 7), (1, 1), (1, 90), (100, 131), (300, 64)]
    for height, width in sizes:
        save_picture(tmp_path / "in" / f"{height}x{width}.png", paint(height, width, height))
    flags = ["--mode", "test", "--checkpoint", trained.folder, "--nopaired", "--native_size", "--input_dir", tmp_path / "in"]
    cli(*flags, "--output_dir", tmp_path / "whole")
    cli(*flags, "--output_dir", tmp_path / "tiles", "--tile_size", 64)
    whole, tiles = pngs(tmp_path / "whole"), pngs(tmp_path / "tiles")
    for height, width in sizes:
        name = f"{height}x{width}"
        for pictures in (whole, tiles):
            np.testing.assert_array_equal(pictures[f"{name}-inputs.png"], paint(height, width, height))
            assert pictures[f"{name}-outputs.png"].shape == (height, width, 3)
        same = (whole[f"{name}-outputs.png"] == tiles[f"{name}-outputs.png"]).all()
        assert same == (max(height, width) <= 64), name  # these went through in one piece, the others did not


def test_native_size_pairs_smaller_than_a_window_of_ssim(cli, trained, tmp_path):
    """The SSIM of less than 11 pixels is not defined; the pictures are translated all the same."""
    save_pairs(tmp_path / "in", ["small.png", "large.png"], height=8, width=9)
    save_pairs(tmp_path / "in", ["large.png"])
    flags = ["--mode", "test", "--checkpoint", trained.folder, "--native_size", "--input_dir", tmp_path / "in"]
    cli(*flags, "--output_dir", tmp_path / "o")
    assert pngs(tmp_path / "o")["small-outputs.png"].shape == (8, 9, 3)
    assert np.isfinite(json.loads((tmp_path / "o" / "metrics.json").read_text())["mean"]["l1"])


def test_aspect_ratio_stretches_what_is_written(cli, tested, trained, tmp_path):
    cli("--mode", "test", "--checkpoint", trained.folder, "--output_dir", tmp_path, "--aspect_ratio", 1.5)
    wide, square = pngs(tmp_path), pngs(tested / "tiny_test")
    for name, pixels in wide.items():
        expected = Image.fromarray(square[name]).resize((96, 64), Image.BICUBIC)
        assert pixels.shape == (64, 96, 3) and np.abs(pixels - np.asarray(expected, int)).max() <= 2, name


def test_any_name_in_the_page(cli, trained, tmp_path, monkeypatch):
    """Names with whatever a file system takes; at each row the page on disk is whole."""
    names = ["a b", "<b>&amp;", "größe ñ 猫", 'it\'s "so"', "50%41 #1?x=1;y", "100²3", "-dash", "tab\there", "[x]*"]
    for name in names:
        save_picture(tmp_path / "in <1> & ü" / f"{name}.png", paint(64, 64, 1))
    rows = []
    add = pix2pix.Page.add

    def checked_add(page, *arguments):
        add(page, *arguments)
        parsed = ParsedPage(page.file.name)
        assert parsed.missing_files() == []
        rows.append(len(parsed.rows) - 1)

    monkeypatch.setattr(pix2pix.Page, "add", checked_add)
    output_dir = tmp_path / "out <2> & 'ü'"
    cli(
        "--mode",
        "test",
        "--checkpoint",
        trained.folder,
        "--nopaired",
        "--input_dir",
        tmp_path / "in <1> & ü",
        "--output_dir",
        output_dir,
    )
    assert rows == list(range(1, len(names) + 1))
    page = ParsedPage(output_dir / "index.html")
    assert sorted(row[0] for row in page.rows[1:]) == sorted(names)
    assert sorted(page.alts) == sorted(f"images/{name}-{kind}.png" for name in names for kind in ("inputs", "outputs"))
    assert "<b>" not in page.text and html.escape(output_dir.name) in page.text


def test_same_stem_does_not_collide(cli, trained, tmp_path):
    for number, name in enumerate(("a.png", "a.bmp", "b.png")):
        save_picture(tmp_path / "in" / name, paint(64, 64, number))
    flags = ["--mode", "test", "--checkpoint", trained.folder, "--nopaired", "--native_size"]
    cli(*flags, "--input_dir", tmp_path / "in", "--output_dir", tmp_path / "o")
    pictures = pngs(tmp_path / "o")
    assert sorted(pictures) == sorted(f"{n}-{k}.png" for n in ("a.png", "a.bmp", "b") for k in ("inputs", "outputs"))
    np.testing.assert_array_equal(pictures["a.png-inputs.png"], paint(64, 64, 0))
    np.testing.assert_array_equal(pictures["a.bmp-inputs.png"], paint(64, 64, 1))


def test_formats(cli, trained, tmp_path):
    """What goes in is what is seen: read back from the inputs' PNGs at native size."""
    rgb, alpha = paint(40, 56, 1), paint(40, 56, 2)[..., 0]
    grey = rgb[..., 1]
    spread = np.repeat(grey[..., None], 3, -1)
    over_white = np.rint(rgb * (alpha[..., None] / 255.0) + 255 * (1 - alpha[..., None] / 255.0))
    grey_over_white = np.rint(spread * (alpha[..., None] / 255.0) + 255 * (1 - alpha[..., None] / 255.0))
    frames = [Image.fromarray(paint(40, 56, n)).quantize(64) for n in (1, 5)]
    palette, bits = frames[0], Image.fromarray(rgb).convert("1")
    sixteen = tf.io.encode_png(rgb.astype(np.uint16) * 257).numpy()
    cases = {  # name: (picture or bytes, what is to be seen, largest difference)
        "rgb.png": (rgb, rgb, 0),
        "rgb.PNG": (255 - rgb, 255 - rgb, 0),
        "rgb16.png": (sixteen, rgb, 1),
        "rgba16.png": (
            tf.io.encode_png(np.concatenate([rgb, alpha[..., None]], -1).astype(np.uint16) * 257).numpy(),
            over_white,
            1,
        ),
        "grey16.png": (Image.fromarray(grey.astype(np.uint16) * 257), spread, 1),
        "grey.png": (grey, spread, 0),
        "rgba.png": (np.concatenate([rgb, alpha[..., None]], -1), over_white, 1),
        "la.png": (Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]), grey_over_white, 1),
        "palette.png": (palette, np.asarray(palette.convert("RGB")), 0),
        "bits.png": (bits, np.asarray(bits.convert("RGB")), 0),
        "rgb.bmp": (rgb, rgb, 0),
        "rgb2.Bmp": (rgb, rgb, 0),
        "grey.bmp": (grey, spread, 0),
        "gif.gif": (frames, np.asarray(frames[0].convert("RGB")), 0),
        "jpeg.JPG": (rgb, rgb, 12),
        "jpeg2.jpeg": (rgb, rgb, 12),
        "grey.jpg": (grey, spread, 6),
        "progressive.jpg": (rgb, rgb, 12),
    }
    for name, (content, _, _) in cases.items():
        path = tmp_path / "in" / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, list):
            save_picture(path, content[0], save_all=True, append_images=content[1:])
        else:
            options = {"quality": 95, "subsampling": 0, "progressive": "progressive" in name} if "jp" in name.lower() else {}
            save_picture(path, content, **options)
    flags = ["--mode", "test", "--checkpoint", trained.folder, "--nopaired", "--native_size"]
    cli(*flags, "--input_dir", tmp_path / "in", "--output_dir", tmp_path / "o")
    seen = pngs(tmp_path / "o")
    stems = [Path(name).stem for name in cases]
    for name, (_, expected, tolerance) in cases.items():
        stem = Path(name).stem
        picture = seen[f"{stem if stems.count(stem) == 1 else name}-inputs.png"]
        assert np.abs(picture - np.asarray(expected, int)).max() <= tolerance, name


# ------------------------------------------------------------------------------------------------------------ export

LOAD_EXPORTS = """
import sys
import keras, numpy as np, tensorflow as tf
folder, pictures = sys.argv[1], np.load(sys.argv[1] + "/pictures.npy")
files = [open(path, "rb").read() for path in sys.argv[2:]]
signatures = tf.saved_model.load(folder + "/saved_model").signatures
encoded = signatures["encoded"](image_bytes=tf.constant(files))
lite = tf.lite.Interpreter(folder + "/model.tflite")
run = lite.get_signature_runner()
(name,) = run.get_input_details()
(output,) = run.get_output_details()
np.savez(
    folder + "/results.npz",
    saved_model=signatures["serving_default"](pictures=pictures)["pictures"],
    encoded=np.stack([tf.io.decode_png(png) for png in encoded["png_bytes"].numpy()]),
    keras=keras.saving.load_model(folder + "/model.keras")(pictures),
    litert=np.concatenate([run(**{name: picture[None]})[output] for picture in pictures]),
)
"""


def test_exports_equal_test_mode(cli, trained, tmp_path):
    """All formats, loaded in a process that does not know pix2pix.py, give test mode's pictures within 1/255."""
    files = [save_picture(tmp_path / "in" / f"{n}.{kind}", paint(70, 90, n)) for n, kind in enumerate(("png", "jpg", "png"))]
    cli(
        "--mode",
        "test",
        "--checkpoint",
        trained.folder,
        "--nopaired",
        "--input_dir",
        tmp_path / "in",
        "--output_dir",
        tmp_path / "t",
    )
    tested = pngs(tmp_path / "t")
    outputs = np.stack([tested[f"{n}-outputs.png"] for n in range(3)])
    for kind, name in {"saved_model": "saved_model", "keras": "model.keras", "litert": "model.tflite"}.items():
        out = cli("--mode", "export", "--checkpoint", trained.folder, "--export_format", kind, "--output_dir", tmp_path / "e")
        assert f"done: {tmp_path / 'e' / name}\n" in out
    np.save(tmp_path / "e" / "pictures.npy", np.stack([tested[f"{n}-inputs.png"] for n in range(3)]))
    command = [sys.executable, "-c", LOAD_EXPORTS, tmp_path / "e", *files]
    subprocess.run(list(map(str, command)), check=True, capture_output=True, cwd=tmp_path, timeout=120)
    results = np.load(tmp_path / "e" / "results.npz")
    for kind in ("saved_model", "encoded", "keras", "litert"):
        assert results[kind].dtype == np.uint8 and results[kind].shape == outputs.shape
        assert np.abs(results[kind].astype(int) - outputs).max() <= 1, kind


def test_export_stretches_as_test_does(cli, trained, tmp_path):
    """--aspect_ratio speaks of the pictures that test and export write: those of the encoded signature."""
    path = save_picture(tmp_path / "1.png", paint(70, 90, 1))
    flags = ["--checkpoint", trained.folder, "--aspect_ratio", 1.5]
    cli("--mode", "test", *flags, "--nopaired", "--input_dir", path, "--output_dir", tmp_path / "t")
    cli("--mode", "export", *flags, "--output_dir", tmp_path / "e")
    encoded = tf.saved_model.load(str(tmp_path / "e" / "saved_model")).signatures["encoded"]
    picture = tf.io.decode_png(encoded(image_bytes=tf.constant([path.read_bytes()]))["png_bytes"][0]).numpy()
    expected = read_png(tmp_path / "t" / "images" / "1-outputs.png")
    assert picture.shape == expected.shape and np.abs(picture.astype(int) - expected).max() <= 2


@pytest.mark.skipif(
    all(importlib.util.find_spec(name) for name in ("onnx", "tf2onnx")), reason="onnx is installed: nothing to complain about"
)
def test_export_onnx_without_its_packages(fails, trained, tmp_path):
    message = fails("--mode", "export", "--checkpoint", trained.folder, "--export_format", "onnx", "--output_dir", tmp_path)
    assert "pip install onnx" in message


# ---------------------------------------------------------------------------------------------------- other promises


def test_import_does_nothing_and_help_names_every_flag(tmp_path):
    """In processes of their own, from an empty folder."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import pix2pix"
    options = {"capture_output": True, "text": True, "cwd": tmp_path, "env": plain_environment()}
    imported = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=plain_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    helped = process("--help", **options)
    assert imported.communicate(timeout=60)[0] == b"" and imported.returncode == 0
    assert helped.returncode == 0 and helped.stderr == "" and list(tmp_path.iterdir()) == []
    for name in pix2pix.FLAGS:
        assert re.search(rf"--(\[no\])?{name}\b", helped.stdout), name


def learn_samples(cli, folder, seed):
    """Labels of the samples' façades from their photos: L1 on held-out houses, that of the mean training map, L1 losses."""
    train, val = ROOT / "samples" / "facades" / "train", ROOT / "samples" / "facades" / "val"

    def labels(pairs):
        images = (Image.open(path).crop((256, 0, 512, 256)).resize((64, 64), Image.BICUBIC) for path in pairs.iterdir())
        return np.stack([np.asarray(image) for image in images]) / 255.0

    mean_map = np.abs(labels(val) - labels(train).mean(0)).mean()
    flags = ["--mode", "train", "--input_dir", train, "--output_dir", folder / "o", "--seed", seed, "--crop_size", 64]
    flags += ["--scale_size", 72, "--ngf", 16, "--ndf", 8, "--batch_size", 2, "--lr", 0.002, "--max_steps", 600]
    losses = [float(line[7]) for line in PROGRESS.findall(cli(*flags, "--display_freq", 0))]
    cli("--mode", "test", "--checkpoint", folder / "o", "--output_dir", folder / "t")
    return json.loads((folder / "t" / "metrics.json").read_text())["mean"]["l1"], mean_map, losses


def test_learns_samples(cli, tmp_path):
    """Better on held-out houses than the mean training map: seeds 0, 1, 2 give 0.77 to 0.78 of its L1, loss down to 0.46."""
    l1, mean_map, losses = learn_samples(cli, tmp_path, 0)
    assert losses[-1] < 0.55 * losses[0]
    assert l1 < 0.85 * mean_map
