"""Trainings on the images of ../shared/data, which are not part of this repository: python -m pytest -m slow."""

import json

import numpy as np
import pytest
from conftest import ROOT, process, tensors
from PIL import Image

import pix2pix

DATA = ROOT.parent / "shared" / "data"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.realdata,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not here"),
]


def run(*arguments):
    result = process(*arguments, timeout=4 * 3600)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_facades_are_as_good_as_with_pytorch(tmp_path):
    """PyTorch with the same networks and schedule: a mean L1 of 0.181 after 2,000 steps. (15 to 30 minutes)"""
    flags = ["--input_dir", DATA / "facades" / "train", "--which_direction", "BtoA", "--max_steps", 2000, "--seed", 0]
    run("--mode", "train", *flags, "--output_dir", tmp_path / "train")
    run("--mode", "test", "--checkpoint", tmp_path / "train", "--output_dir", tmp_path / "test")
    assert json.loads((tmp_path / "test" / "metrics.json").read_text())["mean"]["l1"] <= 0.184


def test_the_full_network_repeats_bit_for_bit(tmp_path):
    """12 steps, 12 again, and 5 continued to 12: tiny networks, as in other tests, prove little. (1 minute)"""
    flags = ["--input_dir", DATA / "facades" / "val", "--seed", 0, "--display_freq", 0, "--output_dir"]
    for name, steps in (("once", 12), ("again", 12), ("stopped", 5)):
        run("--mode", "train", *flags, tmp_path / name, "--max_steps", steps)
    run("--mode", "train", "--checkpoint", tmp_path / "stopped", "--max_steps", 12)
    once = tensors(tmp_path / "once" / "model-12")
    for name in ("again", "stopped"):
        other = tensors(tmp_path / name / "model-12")
        different = [key for key in once if not np.array_equal(once[key], other[key])]
        assert different in ([], ["save_counter/.ATTRIBUTES/VARIABLE_VALUE"]), (name, different[:5])


def test_large_images_keep_their_size_and_show_no_seams(tmp_path):
    """Colorization of HD photographs in windows of 256 and 512: no jumps at their borders. (about 10 minutes)"""
    flags = ["--lab_colorization", "--ngf", 16, "--ndf", 16, "--max_steps", 300, "--seed", 0, "--display_freq", 0]
    run(
        "--mode",
        "train",
        "--input_dir",
        DATA / "photo2illustration" / "trainA",
        *flags,
        "--output_dir",
        tmp_path / "train",
    )
    # at 256 the innermost layers have 1 and 2x2 pixels, and the U-Net itself draws a line in the middle of a window
    for tile, bound in ((256, 1.25), (512, 1.1)):
        flags = ["--input_dir", DATA / "hd" / "testA", "--native_size", "--tile_size", tile]
        run("--mode", "test", "--checkpoint", tmp_path / "train", *flags, "--output_dir", tmp_path / f"{tile}")
        ratios = []
        for name, path in pix2pix.list_images(DATA / "hd" / "testA"):
            files = [tmp_path / f"{tile}" / "images" / f"{name}-{kind}.png" for kind in ("outputs", "inputs")]
            outputs, inputs = (np.asarray(Image.open(file), float) for file in files)
            assert outputs.shape[1::-1] == Image.open(path).size
            colour = outputs - inputs  # without the photograph's own edges
            for axis in (0, 1):
                jumps = np.abs(np.diff(colour, axis=axis)).mean(axis=(1 - axis, 2))
                borders = np.arange(tile // 2, colour.shape[axis], tile // 2) - 1
                ratios.append(jumps[borders].mean() / np.delete(jumps, borders).mean())
        assert np.mean(ratios) < bound, (tile, ratios)  # one image has only a few borders
