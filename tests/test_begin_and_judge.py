"""--init_from, --keep_freq and `evaluate.py curve`: trainings that begin from others, and are judged step by step."""

import json
import shutil

import numpy as np
import pytest
from conftest import NAMES, SCRIPTS, ParsedPage, checkpoints, events, only, paint, pngs, save_pairs
from run_tool import fails, run_tool

SHORT = ["--mode", "train", "--summary_freq", "0", "--progress_freq", "0", "--display_freq", "0"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A training of pix2pix with an average of the weights, three steps of which are kept."""
    script = SCRIPTS["pix2pix"]
    folder = tmp_path_factory.mktemp("source")
    data = script.save_data(folder / "data")
    flags = ["--max_steps", 6, "--keep_freq", 2, "--ema_decay", 0.9, "--seed", 1]
    script(*SHORT, *script.tiny, *flags, "--input_dir", data, "--output_dir", folder / "a_train")
    return folder


def test_kept_checkpoints_are_tested_like_any(source, tmp_path):
    """The last one gives the images of the training's own checkpoint, an earlier one others."""
    script = SCRIPTS["pix2pix"]
    kept = source / "a_train" / "kept"
    assert checkpoints(kept) == [2, 4, 6]
    tests = {}
    for name, checkpoint in (("whole", kept.parent), ("last", kept / "model-6"), ("first", kept / "model-2")):
        script("--mode", "test", "--checkpoint", checkpoint, "--output_dir", tmp_path / name)
        tests[name] = pngs(tmp_path / name)
    for name, pixels in tests["whole"].items():
        assert np.array_equal(pixels, tests["last"][name])
    assert any(not np.array_equal(pixels, tests["first"][name]) for name, pixels in tests["whole"].items())
    size = sum(path.stat().st_size for path in kept.glob("model-6*"))
    assert size < sum(path.stat().st_size for path in kept.parent.glob("model-6*")) / 3  # no optimizers, no D


@pytest.mark.parametrize("part", ["", "kept/model-6"])
def test_a_new_training_begins_with_the_images_of_the_source(source, tmp_path, part):
    """Its averages, which test shows: with a learning rate of 0 they stay, whatever the new data and seed."""
    script = SCRIPTS["pix2pix"]
    data = script.save_data(tmp_path / "other")
    begin = source / "a_train" / part
    out = script(
        *SHORT, "--init_from", begin, "--max_steps", 1, "--lr", 0, "--input_dir", data, "--output_dir", tmp_path / "b"
    )
    assert "networks from" in out and ("new: discriminator" in out) == bool(part)
    options = json.loads((tmp_path / "b" / "options.json").read_text())
    assert (options["ngf"], options["crop_size"], options["ema_decay"]) == (4, "64", 0)
    images = ["--input_dir", source / "data" / "val"]
    script("--mode", "test", "--checkpoint", begin, "--output_dir", tmp_path / "before", *images)
    script("--mode", "test", "--checkpoint", tmp_path / "b", "--output_dir", tmp_path / "after", *images)
    before, after = pngs(tmp_path / "before"), pngs(tmp_path / "after")
    assert list(before) == list(after)
    for name in before:
        assert np.array_equal(before[name], after[name]), name


def test_a_training_that_began_from_another_continues_exactly(source, tmp_path):
    script = SCRIPTS["pix2pix"]
    flags = ["--init_from", source / "a_train", "--seed", 3, "--input_dir", source / "data" / "train"]
    script(*SHORT, *flags, "--max_steps", 4, "--output_dir", tmp_path / "whole")
    script(*SHORT, *flags, "--max_steps", 2, "--output_dir", tmp_path / "parts")
    script(*SHORT, "--checkpoint", tmp_path / "parts", "--max_steps", 4)
    import tensorflow as tf

    whole, parts = (tf.train.load_checkpoint(str(tmp_path / name / "model-4")) for name in ("whole", "parts"))
    for name in whole.get_variable_to_shape_map():
        if "OBJECT_GRAPH" not in name and "save_counter" not in name:
            assert np.array_equal(whole.get_tensor(name), parts.get_tensor(name)), name


def test_a_training_in_the_other_direction_begins_from_it_too(source, tmp_path):
    script = SCRIPTS["pix2pix"]
    flags = ["--max_steps", 1, "--lr", 0, "--input_dir", source / "data" / "train"]
    begin = ["--init_from", source / "a_train", "--which_direction", "BtoA"]
    script(*SHORT, *begin, *flags, "--output_dir", tmp_path / "b")
    assert json.loads((tmp_path / "b" / "options.json").read_text())["which_direction"] == "BtoA"
    import tensorflow as tf

    before = tf.train.load_checkpoint(str(source / "a_train" / "kept" / "model-6"))
    after = tf.train.load_checkpoint(str(tmp_path / "b" / "model-1"))
    kernel = "generator/encoder_1.Skernel/.ATTRIBUTES/VARIABLE_VALUE"
    assert np.array_equal(before.get_tensor(f"averaged/{kernel}"), after.get_tensor(kernel))


@pytest.mark.parametrize("begin", ["a_train", "a_train/kept/model-6"])
def test_grain_can_come_later(source, tmp_path, begin):
    """From a whole training, and from averages alone. Its weights are new; the others are those that were there."""
    script = SCRIPTS["pix2pix"]
    flags = ["--grain", "--max_steps", 1, "--lr", 0, "--input_dir", source / "data" / "train"]
    said = script(*SHORT, *flags, "--init_from", source / begin, "--output_dir", tmp_path / "b")
    assert "new: generator/decoder_5_grain/weight, " in said or "new: discriminator, generator/decoder_5_grain" in said
    import tensorflow as tf

    before = tf.train.load_checkpoint(str(source / "a_train" / "kept" / "model-6"))
    after = tf.train.load_checkpoint(str(tmp_path / "b" / "model-1"))
    kernel = "generator/encoder_1.Skernel/.ATTRIBUTES/VARIABLE_VALUE"
    assert np.array_equal(before.get_tensor(f"averaged/{kernel}"), after.get_tensor(kernel))
    assert "--grain True" in script.fails("--mode", "train", "--checkpoint", tmp_path / "b", "--nograin")


@pytest.mark.parametrize("grain", [[], ["--grain"]])
def test_other_layers_that_are_not_there_are_an_error(source, tmp_path, grain):
    """Networks with instance norm have biases, of which these checkpoints have none: nothing begins in silence."""
    shutil.copytree(source / "a_train", tmp_path / "a_train")
    options = json.loads((tmp_path / "a_train" / "options.json").read_text())
    (tmp_path / "a_train" / "options.json").write_text(json.dumps({**options, "norm": "instance"}))
    begin = [*SHORT, *grain, "--output_dir", tmp_path / "b", "--input_dir", source / "data" / "train"]
    said = SCRIPTS["pix2pix"].fails(*begin, "--init_from", tmp_path / "a_train")
    assert "damaged or belongs to other networks" in said


def test_what_cannot_be_begun_from_is_said(source, tmp_path):
    script = SCRIPTS["pix2pix"]
    begin = [*SHORT, "--output_dir", tmp_path / "b", "--input_dir", source / "data" / "train", "--init_from"]
    assert "--ngf 4, not 8" in script.fails(*begin, source / "a_train", "--ngf", 8)
    assert "U-Net takes" in script.fails(*begin, source / "a_train", "--crop_size", 32, "--scale_size", 36)
    assert "no checkpoint in" in script.fails(*begin, tmp_path / "nothing")
    assert "pix2pix.py" in SCRIPTS["cyclegan"].fails(*begin, source / "a_train")
    assert not (tmp_path / "b").exists()


@only(more=["cyclegan", "siamesegan"])
def test_other_scripts_begin_from_their_own(script, tmp_path):
    data = script.save_data(tmp_path / "data")
    flags = [*SHORT, "--input_dir", data, "--max_steps", 1]
    script(*flags, *script.tiny, "--output_dir", tmp_path / "a", "--keep_freq", 1)
    batch = ["--batch_size", 2] if script.name == "siamesegan" else []
    assert "networks from" in script(*flags, *batch, "--init_from", tmp_path / "a", "--output_dir", tmp_path / "b")
    assert "new: discriminator" in script(
        *flags, *batch, "--init_from", tmp_path / "a" / "kept" / "model-1", "--output_dir", tmp_path / "c"
    )


def test_curve_measures_each_checkpoint_once(source):
    folder = source / "a_train"
    result = run_tool("evaluate", "curve", folder, "--images", "3", "--json").stdout
    found = json.loads(result[result.index("{") :])
    assert found["checkpoints"] == 3
    curve = json.loads((folder / "curve.json").read_text())
    assert list(curve["steps"]) == ["2", "4", "6"]
    values = {step: row["l1"] for step, row in curve["steps"].items()}
    assert curve["best"]["l1"]["step"] == int(min(values, key=values.get))
    steps = list(values.values())
    assert curve["best"]["l1"]["noise"] == pytest.approx(np.abs(np.diff(steps)).mean())
    page = (folder / "curve.html").read_text()
    assert page.count("<svg") == len(curve["steps"]["2"]) and "step 4" in page
    for source_of_image in ("curve/inputs-", "curve/model-2-", "curve/targets-"):
        assert source_of_image in page
    before = (folder / "curve" / "model-2.json").stat().st_mtime_ns
    run_tool("evaluate", "curve", folder, "--images", "3")
    assert (folder / "curve" / "model-2.json").stat().st_mtime_ns == before
    run_tool("evaluate", "curve", folder, "--images", "2")
    assert (folder / "curve" / "model-2.json").stat().st_mtime_ns != before


def test_curve_agrees_with_the_metrics_of_test(source, tmp_path):
    script = SCRIPTS["pix2pix"]
    folder = source / "a_train"
    run_tool("evaluate", "curve", folder, "--images", "100")
    script("--mode", "test", "--checkpoint", folder / "kept" / "model-4", "--output_dir", tmp_path / "t")
    mean = json.loads((tmp_path / "t" / "metrics.json").read_text())["mean"]
    row = json.loads((folder / "curve.json").read_text())["steps"]["4"]
    assert len(NAMES) == 4
    for metric in ("l1", "psnr", "ssim"):
        assert row[metric] == pytest.approx(mean[metric])


def test_curve_of_what_is_no_training_is_one_line(tmp_path):
    fails(run_tool("evaluate", "curve", tmp_path), "no checkpoints in")


# ----------------------------------------------------------------------------------------------- curves of a training


def history_of(folder):
    return json.loads((folder / "history.json").read_text())


def test_a_training_draws_the_curves_of_its_losses_and_of_held_out_pairs(tmp_path):
    """The numbers of the last save are those of test, on the same images; TensorBoard has them too."""
    script = SCRIPTS["pix2pix"]
    data = script.save_data(tmp_path / "data")
    flags = ["--mode", "train", "--max_steps", 6, "--save_freq", 3, "--summary_freq", 2, "--display_freq", 6]
    script(*flags, *script.tiny, "--seed", 1, "--input_dir", data, "--output_dir", tmp_path / "a")
    history = history_of(tmp_path / "a")
    assert list(history["loss"]) == ["2", "4", "6"] and list(history["held_out"]) == ["3", "6"]
    assert list(history["loss"]["2"]) == list(script.algorithm.losses)
    script("--mode", "test", "--checkpoint", tmp_path / "a", "--output_dir", tmp_path / "test")
    mean = json.loads((tmp_path / "test/metrics.json").read_text())["mean"]
    assert history["held_out"]["6"] == {name: pytest.approx(mean[name], rel=1e-5) for name in ("l1", "ssim")}
    found = events(tmp_path / "a")
    assert found["held_out/l1"].keys() == {3, 6}
    page = ParsedPage(tmp_path / "a/index.html")
    assert page.text.index("held-out l1") < page.text.index("<table>") and page.text.count("<polyline") == 5


def test_curves_continue_where_the_checkpoint_is(tmp_path):
    """What a killed training noted after its last checkpoint comes again; a damaged file begins anew."""
    script = SCRIPTS["pix2pix"]
    data = script.save_data(tmp_path / "data")
    flags = ["--mode", "train", "--save_freq", 2, "--summary_freq", 1, "--display_freq", 0]
    first = [*script.tiny, "--seed", 1, "--input_dir", data, "--output_dir", tmp_path / "a"]
    script(*flags, *first, "--max_steps", 2)
    whole = history_of(tmp_path / "a")
    assert list(whole["loss"]) == ["1", "2"] and list(whole["held_out"]) == []
    later = {"loss": whole["loss"] | {"3": {"discrim": 9.0}, "9": {"discrim": 9.0}}, "held_out": {}}
    (tmp_path / "a/history.json").write_text(json.dumps(later))
    script("--mode", "train", "--checkpoint", tmp_path / "a", "--max_steps", 3)
    continued = history_of(tmp_path / "a")
    assert list(continued["loss"]) == ["1", "2", "3"] and continued["loss"]["3"]["discrim"] != 9.0
    (tmp_path / "a/history.json").write_text("[" * 10000)
    script("--mode", "train", "--checkpoint", tmp_path / "a", "--max_steps", 4)
    assert list(history_of(tmp_path / "a")["loss"]) == ["4"]


# ----------------------------------------------------------------------------------------------------- signs of trouble


def said(step, look=lambda signs: None, losses=None):
    """What Signs says of losses and samples at a step."""
    module = SCRIPTS["cyclegan"].module
    signs = module.Signs()
    look(signs)
    signs.check_losses(step, losses or {})
    signs.check_samples(step)
    return signs.note()


def looking(change):
    """Looks at four samples whose translations are changed inputs."""
    module = SCRIPTS["cyclegan"].module
    domains = {"A": module.Domain(), "B": module.Domain()}

    def look(signs):
        for seed in range(4):
            image = paint(32, 32, seed)
            signs.look_at({"inputs": image, "outputs": np.uint8(np.clip(change(np.int16(image)), 0, 255))}, domains)

    return look


def test_healthy_numbers_are_not_warned_of():
    assert said(5000, looking(lambda image: image * 0.7 + 60), {"discrim_A": 0.05, "discrim_B": 0.2}) == ""
    assert said(20000, losses={"discrim": 0.1, "gan": 4.0, "l1": 0.2}) == ""
    assert said(100, looking(lambda image: 255 - image), {"discrim": 0.001}) == ""  # too early to tell


def test_signs_of_trouble_are_named():
    assert "the discriminator has won (discrim_B 0.0020)" in said(1000, losses={"discrim_A": 0.1, "discrim_B": 0.002})
    assert "nearly their inputs" in said(2000, looking(lambda image: image + 1))
    assert "light and dark are exchanged" in said(2000, looking(lambda image: 255 - image))


def test_a_training_that_only_copies_says_so_once(tmp_path, monkeypatch):
    """On the terminal and on its page: a cyclegan without an adversary, which begins at the identity."""
    script = SCRIPTS["cyclegan"]
    data = script.save_data(tmp_path / "data")

    class Copy(script.algorithm):
        def run_generator(self, direction, images):
            return (self.domains[direction[0]].to_signed(images) + 1) / 2

    monkeypatch.setattr(script.module.Signs, "check_samples", early(script.module.Signs.check_samples))
    flags = ["--mode", "train", "--max_steps", 2, "--display_freq", 1, "--seed", 1, "--output_dir", tmp_path / "a"]
    code, _, err = script.run(*flags, *script.tiny, "--input_dir", data, algorithm=Copy)
    assert code == 0 and err.count("nearly their inputs") == 1
    assert "Warning: step 2000: the translations are nearly their inputs." in (tmp_path / "a/index.html").read_text()


def early(check):
    """check_samples() of a later step."""
    return lambda self, step: check(self, 2000)


def test_few_images_are_warned_of(tmp_path):
    script = SCRIPTS["pix2pix"]
    data = save_pairs(tmp_path / "train", ["1.png"])
    flags = ["--mode", "train", "--input_dir", data, *script.tiny, "--seed", 1, "--display_freq", 0]
    code, _, err = script.run(*flags, "--max_steps", 101, "--output_dir", tmp_path / "a")
    assert code == 0 and "warning: only 1 image, 101 times: the networks will learn them by heart" in err
    code, _, err = script.run(*flags, "--max_steps", 4, "--output_dir", tmp_path / "b")
    assert (code, err) == (0, "")
