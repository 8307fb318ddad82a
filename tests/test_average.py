"""--ema_decay: the moving average of the generator's weights, that samples, test and export use."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY, assert_same, once, save_pairs, tensors
from PIL import Image


def without_counter(values):
    return {name: value for name, value in values.items() if not name.startswith("save_counter")}


def output(folder):
    return np.asarray(Image.open(folder / "images" / "1-outputs.png"), int)


@pytest.fixture
def pairs(tmp_path):
    save_pairs(tmp_path / "val", ["1.png"])
    return save_pairs(tmp_path / "train", ["0.png", "1.png"])


@once
def test_average_of_the_weights_by_hand(script, pairs, tmp_path):
    """After each step: decay * average + (1 - decay) * weight, where decay is at most (1 + step) / (10 + step)."""
    flags = ["--mode", "train", "--input_dir", pairs, *TINY, "--seed", 1, "--display_freq", 0, "--lr", 0.01]
    script(*flags, "--ema_decay", 0.2, "--max_steps", 3, "--save_freq", 1, "--output_dir", tmp_path / "o")
    first, *others = (tensors(tmp_path / "o" / f"model-{step}") for step in (1, 2, 3))
    names = [name for name in first if name.startswith("generator/")]
    assert names
    for name in names:
        average = first[f"averaged/{name}"]
        for decay, values in zip((2 / 11, 0.2), others, strict=True):
            average = decay * average + (1 - decay) * values[name]
            np.testing.assert_allclose(values[f"averaged/{name}"], average, rtol=1e-5, atol=1e-7)
            assert np.abs(average - values[name]).max() > 1e-4


@once
def test_training_does_not_see_it(script, trained, tmp_path):
    """All else is what it is without an average. (That a training goes on with it: test_command_line.py, cyclegan.)"""
    script(*trained.flags, "--ema_decay", 0.9, "--display_freq", 0, "--output_dir", tmp_path)
    found = without_counter(tensors(tmp_path / "model-20"))
    averages = {name: found.pop(name) for name in list(found) if name.startswith("averaged/")}
    assert {name.split("/")[1] for name in averages} == {"generator"}
    assert_same(found, without_counter(tensors(trained.folder / "model-20")))


@once
def test_test_and_export_use_the_average(script, pairs, tmp_path):
    """And samples; --ema_decay 0 gives the last weights; a training without an average cannot be tested with one."""
    flags = ["--mode", "train", "--input_dir", pairs, *TINY, "--seed", 1, "--lr", 0.01, "--max_steps", 12]
    script(*flags, "--ema_decay", 0.999, "--display_freq", 12, "--output_dir", tmp_path / "o")
    script(*flags, "--display_freq", 12, "--output_dir", tmp_path / "plain")
    for name, checkpoint, extra in (("a", "o", []), ("b", "o", ["--ema_decay", 0]), ("c", "plain", [])):
        script("--mode", "test", "--checkpoint", tmp_path / checkpoint, *extra, "--output_dir", tmp_path / name)
    np.testing.assert_array_equal(output(tmp_path / "b"), output(tmp_path / "c"))
    assert np.abs(output(tmp_path / "a") - output(tmp_path / "b")).mean() > 1
    sample = np.asarray(Image.open(tmp_path / "o" / "images" / "step-00000012-1-outputs.png"), int)
    np.testing.assert_array_equal(sample, output(tmp_path / "a"))
    script("--mode", "export", "--checkpoint", tmp_path / "o", "--output_dir", tmp_path / "e")
    serving = tf.saved_model.load(str(tmp_path / "e" / "saved_model")).signatures["serving_default"]
    image = np.asarray(Image.open(tmp_path / "a" / "images" / "1-inputs.png"))
    exported = serving(images=image[None])["images"][0].numpy().astype(int)
    assert np.abs(exported - output(tmp_path / "a")).max() <= 1
    error = script.fails("--mode", "test", "--checkpoint", tmp_path / "plain", "--ema_decay", 0.9)
    assert "holds no averaged weights: leave --ema_decay out" in error


@once
def test_an_average_can_begin_later(script, pairs, tmp_path):
    """It starts as the weights of the checkpoint."""
    flags = ["--mode", "train", "--input_dir", pairs, *TINY, "--seed", 1, "--display_freq", 0, "--max_steps", 2]
    script(*flags, "--output_dir", tmp_path / "o")
    script("--mode", "train", "--checkpoint", tmp_path / "o", "--ema_decay", 0.99, "--max_steps", 3, "--lr", 0.01)
    before, after = (tensors(tmp_path / "o" / f"model-{step}") for step in (2, 3))
    names = [name for name in before if name.startswith("generator/")]
    decay = 3 / 12  # (1 + step) / (10 + step) of the third step, whose number is 2 before it is counted
    for name in names:
        expected = decay * before[name] + (1 - decay) * after[name]
        np.testing.assert_allclose(after[f"averaged/{name}"], expected, rtol=1e-5, atol=1e-7)
