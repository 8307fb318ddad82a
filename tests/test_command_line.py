"""The algorithms through their command line: what train and test write, and what --checkpoint brings back.

A test with the fixture `script` runs for each of them; one marked @once is of the shared part, which is one text.
"""

import contextlib
import copy
import fcntl
import html
import io
import itertools
import json
import math
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import (
    NAMES,
    ROOT,
    SCRIPTS,
    TINY,
    ParsedPage,
    assert_same,
    checkpoints,
    command_line,
    each_training,
    events,
    once,
    only,
    paint,
    plain_environment,
    pngs,
    read_png,
    save_domains,
    save_image,
    save_pairs,
    tensors,
    truncate,
)
from PIL import Image

ON_GPU = bool(tf.config.list_physical_devices("GPU"))


def copy_training(trained, folder):
    return Path(shutil.copytree(trained.folder, folder))


def without_counter(found):
    """Tensors but for the number of files written, which nothing reads."""
    return {name: value for name, value in found.items() if not name.startswith("save_counter")}


def completed(script, *flags):
    """All flags of a command line, with those of the checkpoint and the defaults."""
    values, argv = copy.deepcopy(script.module.FLAGS), [f"{script.name}.py", *map(str, flags)]
    values(argv)
    return script.module.complete(values, argv, script.algorithm)


# --------------------------------------------------------------------------------------------------------------- train


def test_train_writes_checkpoints_options_and_progress(script, trained, data):
    assert checkpoints(trained.folder) == [10, 15, 20]
    options = json.loads((trained.folder / "options.json").read_text())
    wanted = {"script": script.name, "input_dir": str(data), "ngf": 4, "seed": 3, "lr": 0.002, "deterministic": True}
    wanted |= {flag[2:]: float(value) for flag, value in zip(script.learning[::2], script.learning[1::2], strict=True)}
    assert {name: options[name] for name in wanted} == wanted
    assert not {"mode", "checkpoint", "output_dir"} & set(options)
    counts = "5 images" if script.name == "pix2pix" else "5 A, 3 B"
    assert f"data: {data} ({counts}); writing to {trained.folder}; seed 3; " in trained.stdout
    lines = [line for line in trained.stdout.splitlines() if line.startswith("epoch")]
    progress, epoch_size = script.progress(trained.stdout), 5 * trained.model.crops_per_image
    assert len(lines) == len(progress) == 2, trained.stdout
    assert [line[:3] for line in progress] == [(str(math.ceil(n * 2 / epoch_size)), str(n), "20") for n in (10, 20)]
    assert all(float(line[3]) > 0 for line in progress)
    last = trained.stdout.splitlines()[-1]
    assert (
        last
        == f"done: step 20; samples in {trained.folder / 'index.html'}; next: --mode test --checkpoint {trained.folder}"
    )


def test_train_writes_events(script, trained):
    """Scalars of losses, rates and speed, and the samples; neither histograms nor a trace, unless asked for."""
    found = events(trained.folder)
    scalars = {f"loss/{name}" for name in trained.model.losses} | {"images_per_second"}
    scalars |= {f"learning_rate/{name}" for name in trained.model.optimizers}
    for tag in scalars:
        assert found[tag].keys() == {5, 10, 15, 20} and np.isfinite(list(found[tag].values())).all(), tag
    last = [found[f"loss/{name}"][20] for name in trained.model.losses]
    np.testing.assert_allclose(last, script.losses(trained.stdout)[-1], atol=1e-4)
    assert found["learning_rate/generator"][5] == np.float32(0.002)
    for name, rate in trained.model.learning_rates.items():  # falling from step 10 on; step 20 is the last of them
        rates = [found[f"learning_rate/{name}"][step] for step in (5, 10, 15, 20)]
        np.testing.assert_allclose(rates, rate * np.array([1, 1, 0.6, 0.1]), rtol=1e-5)
    images = {f"{sample}/{kind}" for sample in script.samples for kind in script.kinds}
    if "targets" in script.kinds:
        scalars |= {"held_out/l1", "held_out/ssim"}
    assert found.keys() - scalars == images and not (trained.folder / "plugins").exists()
    for tag in images:
        assert found[tag].keys() == {10, 20}
        for step in (10, 20):
            written = read_png(trained.folder / "images" / f"step-{step:08}-{tag.replace('/', '-')}.png")
            np.testing.assert_array_equal(tf.io.decode_png(found[tag][step][2]), written)


def test_train_page_shows_held_out_samples_newest_first(script, trained):
    page = ParsedPage(trained.folder / "index.html")
    assert page.rows[0] == ["step", "name", *script.kinds]
    rows, count = [tuple(row[:2]) for row in page.rows[1:]], len(script.samples)
    assert [step for step, _ in rows] == ["20"] * count + ["10"] * count
    assert sorted(rows) == sorted((step, name) for step in ("10", "20") for name in script.samples)
    assert len(page.images) == 2 * count * len(script.kinds) and page.missing_files() == []


def test_step_and_translation_are_traced_once(script, trained, monkeypatch):
    """20 steps of a training; images of several sizes, once for each number of them."""
    steps = [trained.model.train_step]
    if script.name == "animegan":
        steps = [trained.model.learn_content, trained.model.learn_style]
    assert [step.experimental_get_tracing_count() for step in steps] == [1] * len(steps)
    name = "run_generator" if hasattr(script.algorithm, "run_generator") else "translate"
    traces, original = [], getattr(script.algorithm, name)

    def traced(self, *arguments):
        traces.append(arguments[-1].shape[0])
        return original(self, *arguments)

    monkeypatch.setattr(script.algorithm, name, traced)
    model = script.algorithm(script.options(native_size=True), training=False)
    for count, size in itertools.product((1, 2), ((64, 64), (33, 90), (200, 130))):
        images = np.stack([paint(*size, 1)] * count)
        assert model.translate_images(images, "AtoB").shape == images.shape
    assert traces == ([None] if script.name == "siamesegan" else [1, 2])


def test_without_held_out_images_training_shows_training_images(script, trained, tmp_path, monkeypatch):
    folder = script.save_data(tmp_path)
    for part in ("val", "testA", "testB"):
        shutil.rmtree(tmp_path / part, ignore_errors=True)
    monkeypatch.setattr(trained.model.args, "input_dir", str(folder))
    training = set(itertools.chain(*trained.model.find_training_images().values()))
    samples = trained.model.find_samples(held_out=True)
    assert len(samples) in (4, 7) and {path for _, path, _ in samples} <= training  # 4 of A, 3 of B


@once
def test_train_by_defaults_with_a_flagfile_and_a_trace(script, tmp_path, monkeypatch):
    """No --input_dir and no --output_dir; settings from a file; a trace, which is only written on request."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.flags").write_text("\n".join(f"{a}={b}" for a, b in zip(TINY[::2], TINY[1::2], strict=True)) + "\n")
    more = ["--max_steps", 3, "--trace_freq", 3, "--display_freq", 0, "--summary_freq", 0, "--no_flip"]
    out = script("--mode", "train", "--flagfile=tiny.flags", *more)
    assert f"no --input_dir given: using {ROOT / 'samples' / 'facades' / 'train'}" in out and "(40 images)" in out
    assert events("facades_train") == {} and list(Path("facades_train/plugins/profile").iterdir())
    options = json.loads(Path("facades_train/options.json").read_text())
    assert options["ngf"] == 4 and options["crop_size"] == "64" and isinstance(options["seed"], int)
    assert not options["deterministic"] and not options["flip"]
    script("--mode", "train", "--checkpoint", "facades_train", "--max_steps", 3, "--trace_freq", 0)
    continued = json.loads(Path("facades_train/options.json").read_text())
    assert continued == options  # nothing was trained with other flags
    script("--mode", "train", "--checkpoint", "facades_train", "--max_steps", 4, "--trace_freq", 0)
    continued = json.loads(Path("facades_train/options.json").read_text())
    # as fast as before: the drawn seed does not count as given
    assert continued == options | {"trace_freq": 0, "max_steps": 4}


@pytest.mark.parametrize(
    ("script", "flags", "expected"),
    [
        ("pix2pix", "train --input_dir facades/train", "facades_train"),
        ("pix2pix", "train --input_dir facades", "facades_train"),
        ("pix2pix", "train --checkpoint TRAINED", "TRAINED"),
        ("pix2pix", "train --checkpoint TRAINED/model-20", "TRAINED"),
        ("pix2pix", "test --checkpoint TRAINED", "tiny_test"),
        ("pix2pix", "test --checkpoint TRAINED/model-10", "tiny_test"),
        ("pix2pix", "export --checkpoint TRAINED", "tiny_export"),
        ("cyclegan", "train --input_dir data/monet2photo", "monet2photo_cyclegan_train"),
        ("ganilla", "train --input_dir data/monet2photo/", "monet2photo_ganilla_train"),
        ("cut", "train --input_dir monet2photo", "monet2photo_cut_train"),
        ("animegan", "train --input_dir photo2dulac", "photo2dulac_animegan_train"),
        ("siamesegan", "train --input_dir hd", "hd_siamesegan_train"),
        ("cyclegan", "test --checkpoint TRAINED", "tiny_AtoB_test"),
        ("cyclegan", "test --checkpoint TRAINED --which_direction both", "tiny_both_test"),
        ("ganilla", "export --checkpoint TRAINED --which_direction BtoA", "tiny_BtoA_export"),
        ("cut", "test --checkpoint TRAINED", "tiny_test"),
        ("siamesegan", "export --checkpoint TRAINED", "tiny_export"),
    ],
    indirect=["script"],
)
def test_default_output_folders(script, trained_of, flags, expected):
    """No script writes where another one does, and no direction where the other does."""
    if "TRAINED" in flags:
        folder = str(trained_of(script.name).folder)
        flags, expected = flags.replace("TRAINED", folder), expected.replace("TRAINED", folder)
    assert completed(script, "--mode", *flags.split()).output_dir == expected


BFLOAT16 = ["--mixed_precision", "bfloat16", "--batch_size", "7"]  # more than the images
WIDE = ["--crop_size", "32x64", "--scale_size", "36x80", "--cache_mb", "0"]
VARIANTS = {
    "pix2pix bfloat16": [*BFLOAT16, "--which_direction", "BtoA", "--upsample", "resize"],
    "pix2pix float16": ["--mixed_precision", "float16", "--separable_conv", *WIDE],
    "pix2pix xla": ["--xla", "--crop_size", "32", "--scale_size", "36"],
    "cyclegan bfloat16": BFLOAT16,
    "cyclegan float16": ["--mixed_precision", "float16", "--upsample", "bilinear", "--gan_loss", "bce", *WIDE,
                         "--n_layers_d", "0", "--pool_size", "0", "--identity_weight", "0"],
    "cut float16": ["--mixed_precision", "float16", "--noantialias", "--nonce_identity", "--noflip_equivariance", *WIDE,
                    "--gan_loss", "bce", "--n_layers_d", "0", "--which_direction", "BtoA"],
    "siamesegan bfloat16": [*BFLOAT16, "--which_direction", "BtoA", "--nocombo", "--norm", "none",
                            "--patch_weight", "1"],
}  # fmt: skip
VARIANTS |= {f"{name} bfloat16": BFLOAT16 for name in SCRIPTS if f"{name} bfloat16" not in VARIANTS}
VARIANTS = {variant: flags for variant, flags in VARIANTS.items() if not SCRIPTS[variant.split()[0]].same_training}


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        pytest.param(name.split()[0], flags, marks=[] if name == "pix2pix bfloat16" else [pytest.mark.more])
        for name, flags in VARIANTS.items()
    ],
    indirect=["script"],
    ids=VARIANTS,
)
def test_train_and_test_with(script, data, tmp_path, flags):
    """Two steps with finite losses, then test; and the networks are what was asked for."""
    more = ["--max_steps", 2, "--progress_freq", 1, "--display_freq", 0, "--seed", 5]
    train = ["--mode", "train", "--input_dir", data, "--output_dir", tmp_path / "o", *script.tiny, *more, *flags]
    out, model = script.recorded(*train)
    losses = script.losses(out)
    assert losses.shape == (2, len(model.losses)) and np.isfinite(losses).all()
    network = next(iter(model.networks.values()))
    kinds = {type(layer).__name__: layer for layer in network.layers if "Conv" in type(layer).__name__}
    assert {layer.compute_dtype for layer in kinds.values()} == {flags[1] if "float" in flags[1] else "float32"}
    assert ("SeparableConv2D" in kinds) == ("--separable_conv" in flags)
    if "--gan_loss" in flags and script.name == "cut":
        np.testing.assert_allclose(losses[0, :2], np.log(2), atol=0.05)
        assert (losses[:, 3] == 0).all() and losses[0, 2] > 0  # no identity
        assert "down_1_blur" not in {layer.name for layer in network.layers}
    elif "--gan_loss" in flags:
        np.testing.assert_allclose(losses[0, :4], np.log(2), atol=0.05)  # of a D that knows nothing; squares give G 1
        assert (losses[:, -2:] == 0).all() and losses[0, 4] > 0  # no identity loss, but a cycle loss
        assert model.networks["discriminator_A"].get_layer("layer_1").kernel_size == (1, 1) and not model.state
    if "--nocombo" in flags:
        assert model.networks["discriminator"].input_shape[1] == 32  # single tiles
    script("--mode", "test", "--checkpoint", tmp_path / "o", "--output_dir", tmp_path / "t")
    images, names = pngs(tmp_path / "t"), NAMES
    if "BtoA" in flags and script.name != "pix2pix":
        names = ["alone", *NAMES]  # testB has one more
    assert sorted(images) == sorted(f"{name}-{kind}.png" for name in names for kind in script.kinds)
    if script.name != "siamesegan":  # which keeps sizes
        size = (32, 64, 3) if "32x64" in flags else (32, 32, 3) if "--xla" in flags else (*trained_crop(script), 3)
        assert {pixels.shape for pixels in images.values()} == {size}
    if "BtoA" in flags and script.name == "pix2pix":  # the right half of a pair goes in
        pair = Image.open(data.parent / "val" / "pic2.png")
        for box, kind in (((96, 0, 192, 80), "inputs"), ((0, 0, 96, 80), "targets")):
            expected = np.asarray(pair.crop(box).resize((64, 64), Image.BICUBIC), int)
            assert np.abs(images[f"pic2-{kind}.png"] - expected).max() <= 2


def trained_crop(script):
    """--crop_size of the smallest networks: (height, width)."""
    return (int(script.tiny[script.tiny.index("--crop_size") + 1]),) * 2


@only(*(name for name, script in SCRIPTS.items() if script.same_training))  # the others train in bfloat16 above
def test_test_in_bfloat16_is_near(script, tested, trained, data, tmp_path):
    """Not the same, but near: 8 bits of precision, through the norms of a network of noise, give up to 7 levels."""
    path = trained.model.find_test_images(script.module.find_held_out(str(data)))[1][1]
    flags = ["--mode", "test", "--checkpoint", trained.folder, "--mixed_precision", "bfloat16", "--input_dir", path]
    script(*flags, "--output_dir", tmp_path)
    difference = pngs(tmp_path)["pic2-outputs.png"].astype(int) - pngs(tested)["pic2-outputs.png"]
    assert 0 < np.abs(difference).mean() < 16


def test_batches_larger_than_the_data(script, trained, monkeypatch):
    """One image of a kind, and a batch of three."""
    monkeypatch.setattr(trained.model.args, "batch_size", 3)
    paths = {kind: found[:1] for kind, found in trained.model.find_training_images().items()}
    batch = next(iter(trained.model.batches(paths, 0)))
    for images in tf.nest.flatten(batch):
        assert len(images) == 3 and np.abs(images).max() <= 1


# -------------------------------------------------------------------------------------------------------------- resume


@pytest.mark.skipif(ON_GPU, reason="sums are not bit-identical on a GPU")
@each_training
def test_continued_training_equals_one_left_alone(script, trained, tmp_path):
    """From step 10 on: all weights, moments, averages and what else a checkpoint holds are bit-identical at step 20."""
    for path in (*trained.folder.glob("model-10.*"), trained.folder / "options.json"):
        shutil.copy(path, tmp_path)
    script("--mode", "train", "--checkpoint", tmp_path / "model-10", "--display_freq", 0)
    resumed, expected, first = (
        without_counter(tensors(folder / f"model-{step}"))
        for folder, step in ((tmp_path, 20), (trained.folder, 20), (trained.folder, 10))
    )
    assert_same(resumed, expected)
    model = trained.model
    parts = {*model.networks, *model.state, "step", "smoothed", *(f"{name}_adam" for name in model.optimizers)}
    parts |= {"averaged"} if model.args.ema_decay else set()
    assert {name.split("/")[0] for name in expected} == parts
    moved = {name.split("/")[0] for name in expected if not np.array_equal(first[name], expected[name])}
    # not a comparison of two trainings that stand still, nor of a pool that does
    assert moved == parts - {"feature_size"}


def wait_for(condition, child, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert child.poll() is None and time.monotonic() < end, "the training ended early, or never came so far"
        time.sleep(0.005)


def without_version(folder):
    """Makes the options.json of a training that of one from before VERSION."""
    options = json.loads((folder / "options.json").read_text())
    assert options.pop("version") == 2
    (folder / "options.json").write_text(json.dumps(options))


SMOOTHED = "smoothed/.ATTRIBUTES/VARIABLE_VALUE"  # the moving averages of the losses, in a checkpoint


@once
@pytest.mark.parametrize("precision", ["off", pytest.param("float16", marks=pytest.mark.more)])
def test_a_training_of_version_1_continues(script, data, tmp_path, precision):
    """It keeps its order of images, and its checkpoints number the variables of optimizers."""
    flags = ["--input_dir", data, *script.tiny, "--seed", 3, "--batch_size", 2, "--mixed_precision", precision]
    flags = ["--mode", "train", *flags, "--display_freq", 0, "--max_steps"]
    folder, older = tmp_path / "o", tmp_path / "older"
    _, model = script.recorded(*flags, 2, "--output_dir", folder)
    without_version(folder)
    older.mkdir()
    shutil.copy(folder / "options.json", older)
    optimizers = {f"{n}_optimizer": [v.value for v in model.optimizers[n].variables] for n in model.optimizers}
    saved = {"step": tf.Variable(2, dtype=tf.int64), "smoothed": tf.Variable(tensors(folder / "model-2")[SMOOTHED])}
    checkpoint = tf.train.Checkpoint(**script.module.weights_of(model), **optimizers, **saved)
    tf.train.CheckpointManager(checkpoint, older, 3, checkpoint_name="model").save(checkpoint_number=2)
    for place in (folder, older):
        script("--mode", "train", "--checkpoint", place, "--max_steps", 6)
        assert json.loads((place / "options.json").read_text())["version"] == 1
    assert_same(*(without_counter(tensors(place / "model-6")) for place in (folder, older)))


@pytest.mark.skipif(ON_GPU, reason="sums are not bit-identical on a GPU")
@once
def test_killed_and_continued_equals_left_alone(script, trained, tmp_path):
    """kill -9 at a random moment, in a process of its own, then on from the last checkpoint."""
    slow = ["--display_freq", 1]  # takes longer than the steps, so that the training does not end first
    command = command_line([*trained.flags, *slow, "--output_dir", tmp_path], script.name)
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=plain_environment())
    try:
        wait_for((tmp_path / "model-5.index").exists, child)
        time.sleep(np.random.default_rng().uniform(0, 0.1))
    finally:
        child.kill()
        child.wait()
    assert not (tmp_path / "model-20.index").exists(), "it was killed too late"
    script("--mode", "train", "--checkpoint", tmp_path, "--display_freq", 0)
    assert_same(*(without_counter(tensors(folder / "model-20")) for folder in (tmp_path, trained.folder)))


@once
def test_ctrl_c_saves_and_says_how_to_continue(script, data, tmp_path):
    """As a user presses it, in a process of its own."""
    folder = tmp_path / "o"
    flags = ["--mode", "train", "--input_dir", data, *script.tiny, "--max_steps", 400, "--display_freq", 0]
    flags += ["--output_dir", folder, "--progress_freq", 1, "--save_freq", 0]
    with open(tmp_path / "out", "w") as out, open(tmp_path / "err", "w") as err:
        child = subprocess.Popen(command_line(flags, script.name), stdout=out, stderr=err, env=plain_environment())
    try:
        wait_for(lambda: "step 3/" in (tmp_path / "out").read_text(), child)
        child.send_signal(signal.SIGINT)
        code = child.wait(60)
    finally:
        child.kill()
        child.wait()
    assert code == 130 and (tmp_path / "err").read_text() == ""
    check_stopped(script, folder, (tmp_path / "out").read_text())


def check_stopped(script, folder, out):
    last = script.progress(out)[-1][1]  # the step in hand was ended
    assert checkpoints(folder) == [int(last)]
    assert out.splitlines()[-1] == f"stopped and saved at step {last}; continue with --mode train --checkpoint {folder}"


def stopped_by(script, number):
    """The algorithm, with a signal that comes while the third batch is made."""

    class Stopped(script.algorithm):
        def batches(self, paths, start, share=None):
            for count, batch in enumerate(super().batches(paths, start, share)):
                if count == 2:
                    signal.raise_signal(number)
                yield batch

    return Stopped


@once
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_the_training_continues_there(script, data, tmp_path, number):
    folder, handler = tmp_path / "o", signal.getsignal(number)
    flags = ["--mode", "train", "--input_dir", data, *script.tiny, "--max_steps", 5, "--display_freq", 0]
    flags += ["--output_dir", folder, "--progress_freq", 1]
    out = script(*flags, code=128 + number, algorithm=stopped_by(script, number))
    check_stopped(script, folder, out)
    assert signal.getsignal(number) == handler  # as it was before
    out = script("--mode", "train", "--checkpoint", folder)
    assert [line[1:3] for line in script.progress(out)] == [("4", "5"), ("5", "5")]


@once
def test_under_nohup_a_training_goes_on(script, data, tmp_path):
    """A signal that was ignored at the start stays ignored."""
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        flags = ["--mode", "train", "--input_dir", data, *script.tiny, "--max_steps", 4, "--display_freq", 0]
        out = script(*flags, "--output_dir", tmp_path, algorithm=stopped_by(script, signal.SIGHUP))
    finally:
        signal.signal(signal.SIGHUP, handler)
    assert "done: step 4" in out and checkpoints(tmp_path) == [4]


@once
def test_a_terminal_that_is_closed_loses_nothing(script, data, tmp_path):
    """Of an ssh session that breaks: SIGHUP comes, and what is printed from then on is an error."""
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (24, 200))  # or no bar of progress is shown
    flags = ["--mode", "train", "--input_dir", data, *script.tiny, "--max_steps", 100_000, "--display_freq", 0]
    flags += ["--output_dir", tmp_path / "o", "--progress_freq", 1, "--save_freq", 0]
    child = subprocess.Popen(
        command_line(flags, script.name), stdin=slave, stdout=slave, stderr=slave, env=plain_environment(),
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    try:
        os.close(slave)
        shown = b""
        while not re.search(rb" [3-9]/100000|\d\d/100000", shown):
            assert select.select([master], [], [], 90)[0], shown
            shown += os.read(master, 1024)
        os.close(master)
        assert child.wait(60) == 128 + signal.SIGHUP, shown.decode()
    finally:
        child.kill()
        child.wait()
    (step,) = checkpoints(tmp_path / "o")
    assert step >= 3


@once
def test_continued_training_takes_its_options_and_given_ones_instead(script, trained, tmp_path):
    """--max_epochs counts in total and replaces --max_steps; the learning rate is the new one. The folder was moved."""
    folder = copy_training(trained, tmp_path / "moved ü")
    for path in folder.glob("events*"):
        path.unlink()
    more = ["--max_epochs", 9, "--decay_epochs", 0, "--progress_freq", 1, "--summary_freq", 1, "--lr", 0.001]
    out = script("--mode", "train", "--checkpoint", f"{folder}/", *more, "--display_freq", 0)
    assert [line[:3] for line in script.progress(out)] == [("9", "21", "23"), ("9", "22", "23"), ("10", "23", "23")]
    options = json.loads((folder / "options.json").read_text())
    wanted = {"l1_weight": 50.0, "batch_size": 2, "seed": 3, "deterministic": True, "ngf": 4}
    wanted |= {"max_epochs": 9, "max_steps": None, "lr": 0.001}
    assert {name: options[name] for name in wanted} == wanted
    found = events(folder)
    assert found["loss/l1"].keys() == {21, 22, 23}
    assert found["learning_rate/generator"][23] == np.float32(0.001)


@once
def test_max_steps_counts_in_total(script, trained, tmp_path):
    folder = copy_training(trained, tmp_path / "o")
    before = {path.name: path.read_bytes() for path in folder.glob("model-*")}
    out = script("--mode", "train", "--checkpoint", folder, "--max_steps", 20)
    last = out.splitlines()[-1]
    assert last.startswith("nothing was trained: step 20 of 20 was done before; ") and "--max_steps" in last
    assert not script.progress(out)
    assert {path.name: path.read_bytes() for path in folder.glob("model-*")} == before


@once
def test_continuing_from_an_earlier_checkpoint_never_harms_a_later_one(script, trained, tmp_path):
    """--checkpoint DIR/model-10 is refused if it would write there: model-15 and model-20 stay as they are."""
    folder = copy_training(trained, tmp_path / "o")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    message = script.fails("--mode", "train", "--checkpoint", folder / "model-10", "--max_steps", 16, "--seed", 4)
    assert str(folder / "model-20") in message and "--output_dir" in message
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


@once
def test_a_damaged_later_checkpoint_is_set_aside(script, trained, tmp_path):
    """What a full disk or a power failure left: the one before is named, from which the training goes on there."""
    folder = copy_training(trained, tmp_path / "o")
    truncate(folder / "model-20.data-00000-of-00001")
    flags = ["--mode", "train", "--max_steps", 16, "--display_freq", 0, "--checkpoint"]
    message = script.fails(*flags, folder)
    assert f"--checkpoint {folder / 'model-15'} is the one before" in message
    code, out, err = script.run(*flags, folder / "model-15")
    assert code == 0 and err == f"{folder / 'model-20'} is damaged: set aside as damaged-model-20\n", err
    assert "done: step 16" in out and checkpoints(folder)[-1] == 16
    assert (folder / "damaged-model-20.index").exists()
    script("--mode", "test", "--checkpoint", folder, "--output_dir", tmp_path / "t")
    assert json.loads((tmp_path / "t" / "metrics.json").read_text())["checkpoint"] == str(folder / "model-16")


@once
def test_mirroring_can_be_turned_off_and_on_again(script, trained, tmp_path):
    """The last word counts: --no_flip of a training is kept until --flip is given."""
    path = copy_training(trained, tmp_path / "o") / "options.json"
    for flags, expected in (("--no_flip", False), ("", False), ("--flip", True), ("", True), ("--noflip", False)):
        args = completed(script, "--mode", "train", "--checkpoint", tmp_path / "o", *flags.split())
        assert args.flip is expected
        path.write_text(json.dumps({"script": script.name} | script.module.saved_options(args)))


# ---------------------------------------------------------------------------------------------------------------- test


def test_test_needs_nothing_but_a_checkpoint(script, tested, trained, data):
    """Held-out images are found, the networks' sizes are in options.json, names follow natural order."""
    images, names = pngs(tested), [f"{name}-{kind}" for name in NAMES for kind in script.kinds]
    assert sorted(images) == sorted(f"{name}.png" for name in names)
    page = ParsedPage(tested / "index.html")
    columns, means = (["l1", "psnr", "ssim"], ["mean"]) if "targets" in script.kinds else ([], [])
    assert page.rows[0] == ["name", *columns, *script.kinds] and [row[0] for row in page.rows[1:]] == means + NAMES
    assert page.missing_files() == [] and page.links == [f"images/{name}.png" for name in names]
    written = {"images", "index.html", "test.json"} | ({"metrics.json"} if "targets" in script.kinds else set())
    assert {path.name for path in tested.iterdir()} == written
    listed = json.loads((tested / "test.json").read_text())
    domains = listed.pop("domains")
    assert [domain["type"] for domain in domains.values()] == ["uint8", "uint8"]
    assert (listed.pop("directions"), listed.pop("endings")) == (["AtoB"] * len(NAMES), [".png"])
    assert listed == {"checkpoint": str(trained.folder / "model-20"), "images": NAMES}
    for name, path, _ in trained.model.find_test_images(script.module.find_held_out(str(data))):
        image = Image.open(path)
        if script.name == "pix2pix":  # the left half of a pair
            image = image.crop((0, 0, 96, 80))
        shape = images[f"{name}-inputs.png"].shape
        assert shape == (image.height, image.width, 3) if script.name == "siamesegan" else (*trained.model.crop, 3)
        expected = np.asarray(image.resize(shape[1::-1], Image.BICUBIC), int)
        assert np.abs(images[f"{name}-inputs.png"] - expected).max() <= 2, name
        assert images[f"{name}-outputs.png"].shape == shape
        if "targets" in script.kinds:
            assert np.abs(images[f"{name}-targets.png"] - expected).max() > 20


def test_test_translates_as_training_showed_last(script, tested, trained):
    """Pixel for pixel, unless training reduces the image."""
    images, compared = pngs(tested), 0
    for name in set(script.samples) & {*NAMES, *(f"AtoB-{name}" for name in NAMES)}:
        for kind in script.kinds:
            shown = read_png(trained.folder / "images" / f"step-00000020-{name}-{kind}.png")
            same = images[f"{name.removeprefix('AtoB-')}-{kind}.png"]
            if shown.shape == same.shape:
                np.testing.assert_array_equal(shown, same)
                compared += 1
    assert compared >= 2 * len(script.kinds)


def test_one_file_gives_what_it_gives_among_others(script, tested, trained, data, tmp_path):
    """Each image is translated by itself, twice alike; the checkpoint by its path."""
    path = trained.model.find_test_images(script.module.find_held_out(str(data)))[1][1]
    flags = ["--mode", "test", "--checkpoint", trained.folder / "model-20", "--input_dir", path]
    assert "(1 images)" in script(*flags, "--output_dir", tmp_path)
    expected = {name: pixels for name, pixels in pngs(tested).items() if name.startswith("pic2-")}
    assert_same(pngs(tmp_path), expected)


@once
def test_older_checkpoint_by_its_path(script, tested, trained, tmp_path):
    script("--mode", "test", "--checkpoint", trained.folder / "model-10", "--output_dir", tmp_path)
    name = "pic2-outputs.png"
    assert (pngs(tmp_path)[name] != pngs(tested)[name]).any()
    assert json.loads((tmp_path / "metrics.json").read_text())["checkpoint"] == str(trained.folder / "model-10")


def ssim(first, second):
    """SSIM (Wang et al. 2004) in numpy: 11x11 Gaussian windows, sigma 1.5, mean over windows and channels."""
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
    similarity = (2 * mean1 * mean2 + c1) * (2 * covariance + c2)
    return np.mean(similarity / ((mean1**2 + mean2**2 + c1) * (variance1 + variance2 + c2)))


@once
def test_metrics_are_those_of_the_images_written(script, tested, trained):
    metrics, images = json.loads((tested / "metrics.json").read_text()), pngs(tested)
    assert list(metrics["images"]) == NAMES
    assert metrics["checkpoint"] == str(trained.folder / "model-20")
    for name, values in metrics["images"].items():
        outputs, targets = (images[f"{name}-{kind}.png"] / 255.0 for kind in ("outputs", "targets"))
        psnr = -10 * np.log10(np.square(outputs - targets).mean())
        expected = {"l1": np.abs(outputs - targets).mean(), "psnr": psnr, "ssim": ssim(outputs, targets)}
        assert values == pytest.approx(expected, rel=1e-4, abs=1e-4)
    for kind in ("l1", "psnr", "ssim"):
        assert metrics["mean"][kind] == pytest.approx(np.mean([v[kind] for v in metrics["images"].values()]))
    for row in ParsedPage(tested / "index.html").rows[1:]:
        values = (metrics["images"] | {"mean": metrics["mean"]})[row[0]].values()
        assert row[1:4] == [f"{value:.4g}" for value in values]


@only("pix2pix", "cyclegan", "ganilla", "cut")
def test_native_size_keeps_sizes(script, trained, tmp_path):
    """Odd sizes, smaller than the network takes, larger than a tile: inputs are copied, the others have their size."""
    sizes = [(64, 64), (33, 47), (9, 14), (5, 7), (3, 2), (1, 1), (1, 90), (100, 131), (300, 64)]
    for height, width in sizes:
        save_image(tmp_path / "in" / f"{height}x{width}.png", paint(height, width, height))
    flags = [
        "--mode",
        "test",
        "--checkpoint",
        trained.folder,
        "--native_size",
        "--nopaired",
        "--input_dir",
        tmp_path / "in",
    ]
    script(*flags, "--output_dir", tmp_path / "whole")
    script(*flags, "--output_dir", tmp_path / "tiles", "--tile_size", 64)
    whole, tiles = pngs(tmp_path / "whole"), pngs(tmp_path / "tiles")
    for height, width in sizes:
        name = f"{height}x{width}"
        for images in (whole, tiles):
            np.testing.assert_array_equal(images[f"{name}-inputs.png"], paint(height, width, height))
            for kind in {*script.kinds} & {"outputs", "recovered"}:
                assert images[f"{name}-{kind}.png"].shape == (height, width, 3)
        same = (whole[f"{name}-outputs.png"] == tiles[f"{name}-outputs.png"]).all()
        assert same == (max(height, width) <= 64), name  # these went through in one piece, the others did not


@once
def test_aspect_ratio_stretches_what_is_written(script, tested, trained, tmp_path):
    script("--mode", "test", "--checkpoint", trained.folder, "--output_dir", tmp_path, "--aspect_ratio", 1.5)
    wide, square = pngs(tmp_path), pngs(tested)
    for name, pixels in wide.items():
        expected = Image.fromarray(square[name]).resize((96, 64), Image.BICUBIC)
        assert pixels.shape == (64, 96, 3) and np.abs(pixels - np.asarray(expected, int)).max() <= 2, name


@once
def test_any_name_in_the_page(script, trained, tmp_path):
    """Names with whatever a file system takes."""
    names = ["a b", "<b>&amp;", "größe ñ 猫", 'it\'s "so"', "50%41 #1?x=1;y", "100²3", "-dash", "tab\there", "[x]*"]
    for name in names:
        save_image(tmp_path / "in <1> & ü" / f"{name}.png", paint(64, 64, 1))
    output_dir = tmp_path / "out <2> & 'ü'"
    flags = ["--mode", "test", "--checkpoint", trained.folder, "--nopaired", "--input_dir", tmp_path / "in <1> & ü"]
    script(*flags, "--output_dir", output_dir)
    page = ParsedPage(output_dir / "index.html")
    assert sorted(row[0] for row in page.rows[1:]) == sorted(names) and page.missing_files() == []
    assert sorted(page.alts) == sorted(f"{name}-{kind}" for name in names for kind in ("inputs", "outputs"))
    assert "<b>" not in page.text and html.escape(output_dir.name) in page.text


@once
def test_page_grows_during_a_long_test(script, trained, tmp_path, monkeypatch):
    """It is written every 50 images and at the end, whole each time."""
    written, write_page = [], script.module.write_page

    def write_and_parse(folder, *arguments):
        write_page(folder, *arguments)
        page = ParsedPage(folder / "index.html")
        written.append((len(page.rows) - 1, page.missing_files()))

    class Copying(script.algorithm):
        def translate_file(self, path, direction):
            return {"inputs": paint(2, 2, 0), "outputs": paint(2, 2, 0)}

    monkeypatch.setattr(script.module, "write_page", write_and_parse)
    for number in range(103):
        save_image(tmp_path / "in" / f"{number}.png", paint(2, 2, 0))
    flags = ["--mode", "test", "--checkpoint", trained.folder, "--input_dir", tmp_path / "in", "--progress_freq", 60]
    out = script(*flags, "--output_dir", tmp_path / "o", algorithm=Copying)
    assert written == [(50, []), (100, []), (103, [])]
    assert re.findall(r"^(\d+)/103 images$", out, re.MULTILINE) == ["60", "103"]


@once
def test_same_stem_does_not_collide(script, trained, tmp_path):
    for number, name in enumerate(("a.png", "a.bmp", "b.png")):
        save_image(tmp_path / "in" / name, paint(64, 64, number))
    flags = ["--mode", "test", "--checkpoint", trained.folder, "--nopaired", "--native_size"]
    script(*flags, "--input_dir", tmp_path / "in", "--output_dir", tmp_path / "o")
    images = pngs(tmp_path / "o")
    assert sorted(images) == sorted(f"{n}-{k}.png" for n in ("a.png", "a.bmp", "b") for k in ("inputs", "outputs"))
    np.testing.assert_array_equal(images["a.png-inputs.png"], paint(64, 64, 0))
    np.testing.assert_array_equal(images["a.bmp-inputs.png"], paint(64, 64, 1))


@once
def test_a_second_test_leaves_nothing_of_the_first(script, trained, data, tmp_path):
    """Or tools would average over both. What the test did not write stays, and so does what links lead to."""
    folder, mine = tmp_path / "o", save_image(tmp_path / "mine.png", paint(8, 8, 1))
    flags = ["--mode", "test", "--checkpoint", trained.folder, "--output_dir", folder]
    script(*flags)
    save_image(folder / "images" / "notes.png", paint(8, 8, 1))
    (folder / "images" / "pic1-outputs.png").unlink()
    (folder / "images" / "pic1-outputs.png").symlink_to(mine)
    script(*flags, "--nopaired", "--input_dir", data.parent / "val" / "pic10.png")
    left = {"notes.png", "pic1-outputs.png", "pic10-inputs.png", "pic10-outputs.png"}
    assert {path.name for path in (folder / "images").iterdir()} == left and mine.is_file()
    assert {path.name for path in folder.iterdir()} == {"images", "index.html", "test.json"}  # no metrics of then
    outside = json.loads((folder / "test.json").read_text()) | {"images": [str(mine.with_suffix("")), "../../mine"]}
    save_image(tmp_path / "mine-outputs.png", paint(8, 8, 1))
    (folder / "test.json").write_text(json.dumps(outside))
    assert "pic1-outputs.png is a link" in script.fails(*flags)  # nor is one replaced
    assert mine.is_file() and (tmp_path / "mine-outputs.png").is_file()


@once
def test_long_names_are_shortened(script, trained, tmp_path):
    """A name that a file system takes, but not with what we append to it."""
    names = {letter * count: number for number, (letter, count) in enumerate((("a", 240), ("é", 120), ("漢", 80)))}
    names["a" * 239 + "b"] = 3
    for name, number in names.items():
        save_image(tmp_path / "in" / f"{name}.png", paint(64, 64, number))
    flags = ["--mode", "test", "--checkpoint", trained.folder, "--nopaired", "--input_dir", tmp_path / "in"]
    script(*flags, "--output_dir", tmp_path / "o")
    page = ParsedPage(tmp_path / "o" / "index.html")
    assert len(page.rows) - 1 == len(pngs(tmp_path / "o")) / 2 == 4 and page.missing_files() == []
    written = {name: pixels for name, pixels in pngs(tmp_path / "o").items() if name.endswith("-inputs.png")}
    for name, number in names.items():
        (same,) = [short for short, pixels in written.items() if (pixels == paint(64, 64, number)).all()]
        assert same.startswith(name[:50])


# ------------------------------------------------------------------------------------------------------ other promises


def test_import_and_help_do_nothing_else(tmp_path):
    """In a process of its own, from an empty folder."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {', '.join(SCRIPTS)}; print('imported')\n"
    code += "sys.exit(pix2pix.main(['pix2pix.py', '--help'], pix2pix.Pix2Pix))"
    options = {"cwd": tmp_path, "env": plain_environment(), "capture_output": True, "text": True, "timeout": 60}
    done = subprocess.run([sys.executable, "-c", code], **options)
    assert (done.returncode, done.stderr) == (0, "") and list(tmp_path.iterdir()) == []
    assert done.stdout.startswith(f"imported\n{SCRIPTS['pix2pix'].module.__doc__}")


def test_help_names_every_flag(script):
    out = script("--help")
    assert script.module.__doc__ in out
    for name in script.module.FLAGS:
        assert re.search(rf"--(\[no\])?{name}\b", out), name


def test_without_flags_the_commands_are_shown(script):
    code, out, err = script.run()
    commands = [line.split()[-1] for line in err.splitlines() if f"python {script.name}.py --mode" in line]
    assert code == 2 and not out and len(commands) >= 3 and err.endswith("All flags: --help\n")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@only("pix2pix")
def test_a_terminal_has_one_line_of_progress(script, data, tmp_path):
    flags = ["--mode", "train", "--input_dir", data, *script.tiny, "--max_steps", 3, "--display_freq", 0]
    flags = map(str, [*flags, "--progress_freq", 1, "--output_dir", tmp_path])
    with contextlib.redirect_stdout(Terminal()) as out:
        assert script.module.main(["pix2pix.py", *flags], script.algorithm) == 0
    (line,) = [line for line in out.getvalue().split("\n") if "\r" in line]
    assert re.search(r"\repoch 1: 100%.* 3/3 .*discrim [\d.]+  gan [\d.]+  l1 [\d.]+", line)
    assert "images/s" not in out.getvalue()


# ---------------------------------------------------------------------------------------------------- pix2pix.py alone


@only("pix2pix")
def test_nopaired_equals_the_same_inputs_in_pairs(script, tested, trained, data, tmp_path):
    """A folder of inputs alone: no targets, no metrics.json, the same pixels. A width may be odd."""
    for name in ("pic1", "pic2"):
        pair = np.asarray(Image.open(data.parent / "val" / f"{name}.png"))
        save_image(tmp_path / "in" / f"{name}.png", pair[:, :96])
    save_image(tmp_path / "in" / "wide.png", paint(80, 161, 0))
    flags = ["--mode", "test", "--checkpoint", trained.folder, "--nopaired"]
    script(*flags, "--input_dir", tmp_path / "in", "--output_dir", tmp_path / "o")
    expected, images, kinds = pngs(tested), pngs(tmp_path / "o"), ("inputs", "outputs")
    assert images.pop("wide-inputs.png").shape == images.pop("wide-outputs.png").shape == (64, 64, 3)
    assert_same(images, {f"{n}-{k}.png": expected[f"{n}-{k}.png"] for n in ("pic1", "pic2") for k in kinds})
    assert not (tmp_path / "o" / "metrics.json").exists()
    assert ParsedPage(tmp_path / "o" / "index.html").rows[0] == ["name", *kinds]


@only("pix2pix")
def test_test_dropout_is_repeatable_and_makes_a_difference(script, tested, trained, data, tmp_path):
    flags = ["--mode", "test", "--checkpoint", trained.folder, "--test_dropout"]
    script(*flags, "--output_dir", tmp_path / "1")
    script(*flags, "--output_dir", tmp_path / "2", "--seed", 4)
    script(*flags, "--output_dir", tmp_path / "alone", "--input_dir", data.parent / "val" / "pic10.png")
    first = pngs(tmp_path / "1")
    assert_same(pngs(tmp_path / "alone"), {name: pixels for name, pixels in first.items() if name.startswith("pic10-")})
    for other in (tested, tmp_path / "2"):
        assert (first["pic1-outputs.png"] != pngs(other)["pic1-outputs.png"]).any()


@only("pix2pix")
def test_native_size_pairs_smaller_than_a_window_of_ssim(script, trained, tmp_path):
    """The SSIM of less than 11 pixels is not defined; the images are translated all the same."""
    save_pairs(tmp_path / "in", ["small.png", "large.png"], height=8, width=9)
    save_pairs(tmp_path / "in", ["large.png"])
    flags = ["--mode", "test", "--checkpoint", trained.folder, "--native_size", "--input_dir", tmp_path / "in"]
    script(*flags, "--output_dir", tmp_path / "o")
    assert pngs(tmp_path / "o")["small-outputs.png"].shape == (8, 9, 3)
    assert np.isfinite(json.loads((tmp_path / "o" / "metrics.json").read_text())["mean"]["l1"])


@only("pix2pix")
def test_lab_colorization(script, tmp_path):
    """Single images of odd width: lightness is shown as grey, colours come out, the target is the image."""
    for number in range(3):
        save_image(tmp_path / "train" / f"{number}.png", paint(70, 81, number))
        save_image(tmp_path / "val" / f"{number}.png", paint(70, 81, number + 10))
    flags = ["--mode", "train", "--input_dir", tmp_path / "train", "--output_dir", tmp_path / "o", *script.tiny]
    out = script(*flags, "--lab_colorization", "--max_steps", 25, "--progress_freq", 25, "--lr", 0.002)
    assert script.progress(out)
    assert ParsedPage(tmp_path / "o" / "index.html").missing_files() == []
    script("--mode", "test", "--checkpoint", tmp_path / "o", "--output_dir", tmp_path / "t")
    images = {name: pixels.astype(int) for name, pixels in pngs(tmp_path / "t").items()}
    for number in range(3):
        inputs, outputs, targets = (images[f"{number}-{kind}.png"] for kind in script.kinds)
        assert np.ptp(inputs, -1).max() <= 1  # grey
        assert np.ptp(outputs, -1).max() > 2  # colours
        # the lightness is that of the target, not its inverse. (Rec. 709 luma, near enough to L)
        luma = outputs @ [0.2126, 0.7152, 0.0722], targets @ [0.2126, 0.7152, 0.0722]
        assert np.corrcoef(luma[0].ravel(), luma[1].ravel())[0, 1] > 0.9
        expected = np.asarray(Image.fromarray(paint(70, 81, number + 10)).resize((64, 64), Image.BICUBIC), int)
        assert np.abs(targets - expected).max() <= 2


@only("pix2pix")
@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_lab_parts_make_the_image_again(script, direction):
    """Of perfect outputs the image that is shown is the target: colours are not inverted."""
    model = script.algorithm(script.options(lab_colorization=True, which_direction=direction), training=False)
    images = paint(64, 64, 1)[None] / np.float32(127.5) - 1
    inputs, targets = model.inputs_and_targets(tf.constant(images))
    assert (inputs.shape[-1], targets.shape[-1]) == ((1, 2) if direction == "AtoB" else (2, 1))
    assert max(np.abs(inputs).max(), np.abs(targets).max()) <= 1
    np.testing.assert_allclose(model.to_fractions(inputs, targets), (images + 1) / 2, atol=2e-3)


# -------------------------------------------------------------------------- cyclegan.py and ganilla.py: two generators


def without(prefix, images):
    """The images whose names begin with the prefix, by the rest of their names."""
    return {name.removeprefix(prefix): pixels for name, pixels in images.items() if name.startswith(prefix)}


@only("cyclegan")
def test_each_direction_takes_its_own_domain_and_generator(script, tested, trained, data, tmp_path):
    """BtoA takes testB and translates it as training showed; both give what each gives."""
    flags = ["--mode", "test", "--checkpoint", trained.folder]
    assert "(5 images)" in script(*flags, "--which_direction", "BtoA", "--output_dir", tmp_path / "back")
    assert "(9 images)" in script(*flags, "--which_direction", "both", "--output_dir", tmp_path / "both")
    back, both = pngs(tmp_path / "back"), pngs(tmp_path / "both")
    assert len(both) == (4 + 5) * 3
    assert_same(without("AtoB-", both), pngs(tested))
    assert_same(without("BtoA-", both), back)
    assert [row[0] for row in ParsedPage(tmp_path / "back" / "index.html").rows[1:]] == ["alone", *NAMES]
    shown = without("step-00000020-BtoA-", pngs(trained.folder))
    assert len(shown) == 4 * 3
    assert_same(shown, {name: back[name] for name in shown})
    expected = np.asarray(Image.open(data / "testB" / "alone.png").resize((32, 32), Image.BICUBIC), int)
    assert np.abs(back["alone-inputs.png"] - expected).max() <= 2


@only("cyclegan")
def test_recovered_is_the_output_translated_back(script, tested, trained, tmp_path):
    """By the other generator, which a folder or a file goes through with --which_direction."""
    expected = pngs(tested)
    for name in NAMES:
        save_image(tmp_path / "in" / f"{name}.png", expected[f"{name}-outputs.png"])
    flags = ["--mode", "test", "--checkpoint", trained.folder, "--which_direction"]
    script(*flags, "BtoA", "--input_dir", tmp_path / "in", "--output_dir", tmp_path / "back")
    script(*flags, "AtoB", "--input_dir", tmp_path / "in", "--output_dir", tmp_path / "there")
    back, there = pngs(tmp_path / "back"), pngs(tmp_path / "there")
    for name in NAMES:
        np.testing.assert_array_equal(back[f"{name}-outputs.png"], expected[f"{name}-recovered.png"])
        assert np.abs(there[f"{name}-outputs.png"].astype(int) - expected[f"{name}-recovered.png"]).mean() > 2


@only("cyclegan")
def test_paired_measures_against_the_other_test_folder(script, tested, trained, data, tmp_path, monkeypatch):
    """--input_dir . and a bare file name find that folder too."""
    flags = ["--mode", "test", "--checkpoint", trained.folder, "--paired"]
    script(*flags, "--output_dir", tmp_path / "o")
    images, metrics = pngs(tmp_path / "o"), json.loads((tmp_path / "o" / "metrics.json").read_text())
    targets = {name: images.pop(f"{name}-targets.png") for name in NAMES}
    assert_same(images, pngs(tested))
    assert list(metrics["images"]) == NAMES
    for name, target in targets.items():
        path = next((data / "testB").glob(f"{name}.*"))
        expected = np.asarray(Image.open(path).resize((32, 32), Image.BICUBIC), int)
        assert np.abs(target - expected).max() <= 2
        l1 = np.abs(images[f"{name}-outputs.png"] / 255.0 - target / 255.0).mean()
        assert metrics["images"][name]["l1"] == pytest.approx(l1, rel=1e-4)
    assert metrics["mean"]["l1"] == pytest.approx(np.mean([values["l1"] for values in metrics["images"].values()]))
    monkeypatch.chdir(data / "testA")
    for input_dir, names in ((".", NAMES), ("pic2.png", ["pic2"])):
        script(*flags, "--input_dir", input_dir, "--output_dir", tmp_path / input_dir / "o")
        found = json.loads((tmp_path / input_dir / "o" / "metrics.json").read_text())["images"]
        assert found == {name: metrics["images"][name] for name in names}


@only("cyclegan")
def test_export_of_the_other_direction(script, trained, tmp_path):
    """It holds the other generator."""
    images = np.stack([paint(32, 32, n) for n in range(2)])
    flags = ["--which_direction", "BtoA", "--ema_decay", 0]  # the weights that the trained model has at the end
    script("--mode", "export", "--checkpoint", trained.folder, *flags, "--output_dir", tmp_path)
    signatures = tf.saved_model.load(str(tmp_path / "saved_model")).signatures
    found = signatures["serving_default"](images=images)["images"].numpy().astype(int)
    there, back = (
        np.concatenate([trained.model.translate[way](image[None]) for image in images]) * 255
        for way in ("AtoB", "BtoA")
    )
    assert np.abs(found - back).max() < 1.5 and np.abs(found - there).mean() > 2


# ------------------------------------------------------------------------------------------------- siamesegan.py alone


@only("siamesegan")
def test_stitching(script, trained, tested, data, tmp_path):
    """Every way keeps the exact size; what each does is done here again by hand."""
    found = {}
    for stitch in ("blend", "tiles", "whole"):
        flags = ["--checkpoint", trained.folder, "--stitch", stitch, "--tile_size", 64]
        script("--mode", "test", *flags, "--output_dir", tmp_path / stitch)
        found[stitch] = pngs(tmp_path / stitch)
    translate = trained.model.translate
    for name, path, _ in trained.model.find_test_images(data):
        image = np.asarray(Image.open(path))
        height, width = image.shape[:2]
        for images in found.values():
            np.testing.assert_array_equal(images[f"{name}-inputs.png"], image)
            assert images[f"{name}-outputs.png"].shape == image.shape
        padded = np.pad(image, [(0, -height % 32), (0, -width % 32), (0, 0)], "reflect")
        joined = np.zeros(padded.shape)
        for y, x in itertools.product(range(0, height, 32), range(0, width, 32)):
            joined[y : y + 32, x : x + 32] = translate(padded[None, y : y + 32, x : x + 32])[0]
        joined = joined[:height, :width] * 255
        assert np.abs(found["tiles"][f"{name}-outputs.png"] - joined).max() < 0.6
        padded = np.pad(image, [(0, -height % 16), (0, -width % 16), (0, 0)], "reflect")
        whole = translate(padded[None])[0, :height, :width] * 255
        assert np.abs(found["whole"][f"{name}-outputs.png"] - whole).max() < 0.6
        same = (found["whole"][f"{name}-outputs.png"] == found["blend"][f"{name}-outputs.png"]).all()
        assert same == (max(height, width) <= 64), name  # it went through in one window
    rgb = script.module.Domain()
    for shape in ((1, 1), (1, 70), (33, 1)):
        assert script.module.translate_tiles(translate, paint(*shape, 0), 32, rgb).shape == (*shape, 3)


@only("siamesegan")
def test_a_training_from_before_patch_weight_continues(script, data, tmp_path):
    flags = ["--mode", "train", "--progress_freq", 1, "--display_freq", 0]
    script(*flags, "--input_dir", data, "--output_dir", tmp_path, *script.tiny, "--max_steps", 1)
    options = json.loads((tmp_path / "options.json").read_text())
    assert options.pop("patch_weight") == 0
    (tmp_path / "options.json").write_text(json.dumps(options))
    assert "discrim_patch" not in script(*flags, "--checkpoint", tmp_path, "--max_steps", 2)
    assert "--patch_weight 0" in script.fails(*flags, "--checkpoint", tmp_path, "--patch_weight", 1)


@pytest.mark.skipif(ON_GPU, reason="sums are not bit-identical on a GPU")
@only("cyclegan")
def test_a_training_whose_pool_held_pictures_continues(script, data, tmp_path, monkeypatch):
    """Older checkpoints call the images of a pool so. They are restored, and the weights are those of no stop."""
    flags = ["--mode", "train", "--display_freq", 0, "--pool_size", 2, "--seed", 1, *script.tiny]
    flags += ["--input_dir", data, "--decay_epochs", 0]
    script(*flags, "--output_dir", tmp_path / "whole", "--max_steps", 4)
    build = script.algorithm.build_training

    def build_with_pictures(model, args):
        build(model, args)
        for name, pool in model.state.items():
            model.state[name] = {"pictures": pool["images"], "count": pool["count"]}

    with monkeypatch.context() as patch:
        patch.setattr(script.algorithm, "build_training", build_with_pictures)
        script(*flags, "--output_dir", tmp_path / "older", "--max_steps", 3)
    assert any("/pictures/" in name for name in tensors(tmp_path / "older" / "model-3"))
    script("--mode", "train", "--checkpoint", tmp_path / "older", "--max_steps", 4, "--display_freq", 0)
    continued, expected = (without_counter(tensors(tmp_path / name / "model-4")) for name in ("older", "whole"))
    assert any("/images/" in name for name in expected)
    assert_same(continued, expected)


@only("siamesegan")
def test_panoramas_and_few_images(script, trained, tmp_path):
    """Fewer images than a batch has, one of them 20 times as wide as high."""
    save_domains(tmp_path, {"trainA": ["1.png"]}, size=(70, 70))
    save_image(tmp_path / "trainB" / "panorama.jpg", paint(80, 1600, 2))
    model = script.algorithm(script.options(input_dir=str(tmp_path), batch_size=4), training=True)
    batch = next(iter(model.batches(model.find_training_images(), 0)))
    assert [images.shape for images in batch] == [(4, 64, 64, 3)] * 2
    path = save_image(tmp_path / "testA" / "panorama.jpg", paint(30, 600, 2))
    script("--mode", "test", "--checkpoint", trained.folder, "--input_dir", path, "--output_dir", tmp_path / "t")
    assert read_png(tmp_path / "t" / "images" / "panorama-outputs.png").shape == (30, 600, 3)
