"""tools/import-page.py: a page's network becomes a checkpoint that translates like the page, and begins trainings; what
a user can get wrong."""

import importlib
import json
import shutil
import sys

import numpy as np
import pytest
from conftest import ROOT, process
from PIL import Image
from run_tool import fails, run_tool

sys.path.insert(0, str(ROOT / "tools"))
import export

page_tool = importlib.import_module("import-page")

DEMOS = ROOT / "web" / "demo"


def succeeds(*arguments):
    result = process(*arguments)
    assert result.returncode == 0, result


def read(path):
    return np.asarray(Image.open(path).convert("RGB"), np.float32)


more = pytest.mark.more


@pytest.mark.parametrize("name", ["cats", pytest.param("facades", marks=more), pytest.param("landscapes", marks=more)])
def test_the_demos_translate_like_their_pages(tmp_path, name):
    """check.png is Python's own translation of the first example, before weights had 8 bits."""
    page = DEMOS / name
    (tmp_path / "in").mkdir()
    shutil.copy(page / "examples" / "1.png", tmp_path / "in" / "1.png")
    result = run_tool("import-page", page, "--output_dir", tmp_path / "model")
    assert result.returncode == 0 and "--init_from" in result.stdout, result
    again = run_tool("import-page", page, "--output_dir", tmp_path / "model")
    assert again.returncode == 0 and again.stdout == f"{tmp_path / 'model'}: imported before\n", again
    command = ["--mode", "test", "--nopaired", "--checkpoint", tmp_path / "model"]
    succeeds(*command, "--input_dir", tmp_path / "in", "--output_dir", tmp_path / "out")
    output = read(tmp_path / "out" / "images" / "1-outputs.png")
    assert np.abs(output - read(page / "check.png")).mean() < 1


@pytest.mark.parametrize(
    ("flags", "weights", "tolerance"),
    [
        ({"upsample": "transpose"}, "none", 1e-6),
        ({"upsample": "resize", "grain": True}, "int8", 0.02),
        ({"upsample": "resize", "grain": True}, "float16", 1e-3),
        ({"upsample": "transpose", "norm": "instance"}, "none", 1e-6),
    ],
)
def test_all_weights_come_back(tmp_path, flags, weights, tolerance):
    """tolerance: of the largest weight of a layer."""
    random = np.random.default_rng(0)
    rgb = page_tool.weights_tool.domains_of_channels("pix2pix", (3, 3), "AtoB", "uint8", None)
    sizes = {"ngf": 4, "crop_size": "32", "which_direction": "AtoB", "input_dir": ".", "seed": 0}
    module, model, _ = page_tool.weights_tool.new_model("pix2pix", {**sizes, "domains": rgb, **flags})
    network = model.networks["generator"]
    for weight in network.weights:
        weight.assign(random.normal(0.1, 0.3, weight.shape))
    before = {weight.path: weight.numpy() for weight in network.weights}
    export.convert(module, model.build_serving_model(32, 32, 1), tmp_path / "m.tflite", weights)
    operations = page_tool.Operations(module.tf, (tmp_path / "m.tflite").read_bytes())
    found, found_flags = page_tool.weights_of(page_tool.read_layers(operations))
    assert found_flags["ngf"] == 4
    for name, value in {"norm": "batch", "grain": False, **flags}.items():
        assert found_flags[name] == value
    for weight in network.weights:
        weight.assign(np.zeros(weight.shape))
    page_tool.fill(network, found)
    for weight in network.weights:
        old = before[weight.path]
        assert np.abs(weight.numpy() - old).max() <= tolerance * np.abs(old).max(), weight.path


def test_a_training_begins_from_it(tmp_path):
    """With a learning rate of 0 its test is that of the page."""
    run_tool("import-page", DEMOS / "facades", "--output_dir", tmp_path / "model")
    train = ["--mode", "train", "--init_from", tmp_path / "model", "--output_dir", tmp_path / "train"]
    data = ["--input_dir", ROOT / "samples" / "facades" / "train", "--which_direction", "BtoA"]
    succeeds(*train, *data, "--lr", 0, "--max_steps", 1, "--scale_size", 256)
    (tmp_path / "in").mkdir()
    shutil.copy(DEMOS / "facades" / "examples" / "1.png", tmp_path / "in" / "1.png")
    for name in ("model", "train"):
        command = ["--mode", "test", "--nopaired", "--checkpoint", tmp_path / name]
        succeeds(*command, "--input_dir", tmp_path / "in", "--output_dir", tmp_path / f"{name}_test")
    images = [read(tmp_path / f"{name}_test" / "images" / "1-outputs.png") for name in ("model", "train")]
    np.testing.assert_array_equal(*images)


# -------------------------------------------------------------------------------------------- what a user can get wrong


@pytest.fixture
def page(tmp_path):
    shutil.copytree(DEMOS / "landscapes", tmp_path / "page")
    return tmp_path / "page"


def change(page, **values):
    file = page / "page.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def refused(page, words):
    folder = page.parent / "out"
    fails(run_tool("import-page", page, "--output_dir", folder), words)
    assert not folder.exists()


def test_folders_that_are_no_pages(tmp_path, page):
    refused(tmp_path / "nothing", "page.json: give a folder as tools/make_page.py writes")
    change(page, algorithm="cyclegan")
    refused(page, "is a page of cyclegan.py")
    change(page, algorithm="pix2pix", grey=True)
    refused(page, "is a page of --lab_colorization")
    for name, value in (("size", 256), ("size", ["a", 256]), ("direction", "x"), ("direction", 5)):
        change(page, algorithm="pix2pix", grey=False)
        change(page, **{"size": [256, 256], "direction": "BtoA", name: value})
        refused(page, "page.json is damaged")
    change(page, size=[250, 250], direction="BtoA")
    refused(page, "model.tflite: --crop_size")
    (page / "page.json").write_text("[")
    refused(page, "page.json is damaged")
    (tmp_path / "owls.html").write_text("<html>")
    refused(tmp_path / "owls.html", "page.json: give a folder")


def test_models_that_are_damaged_or_others(page):
    contents = (page / "model.tflite").read_bytes()
    (page / "model.tflite").write_bytes(contents[:1000])
    refused(page, "model.tflite is damaged")
    (page / "model.tflite").unlink()
    refused(page, "model.tflite: give a folder")


@pytest.mark.parametrize("make", ["grey", "other"])
def test_other_networks_are_named(page, make):
    import tensorflow as tf

    channels = 1 if make == "grey" else 3
    inputs = tf.keras.Input((32, 32, channels), batch_size=1)
    outputs = tf.keras.layers.Conv2D(3, 4, padding="same")(inputs)
    tf.keras.Model(inputs, outputs).export(str(page / "model.tflite"), format="litert", verbose=False)
    refused(page, "other channels than RGB" if make == "grey" else "not the model of a page of pix2pix.py")


def test_a_folder_that_is_there_is_kept(tmp_path, page):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    fails(run_tool("import-page", page, "--output_dir", tmp_path / "out"), "exists and is not an empty folder")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
