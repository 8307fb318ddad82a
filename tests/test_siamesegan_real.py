"""siamesegan.py on the HD images of ../shared/data, and on one of 100 megapixels: python -m pytest -m slow."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, command_line, plain_environment, process, read_png
from PIL import Image

HD = ROOT.parent / "shared" / "data" / "hd"
pytestmark = pytest.mark.slow


def run(*arguments):
    result = process(*arguments, script="siamesegan", timeout=2 * 3600)
    assert result.returncode == 0, result.stderr
    return result.stdout


def read(path, longest=0):
    """float [h, w, 3] in [0, 1], reduced to `longest` pixels unless that is 0."""
    with Image.open(path) as image:
        image = image.convert("RGB")
        if longest:
            image.thumbnail([longest, longest])
        return np.asarray(image, float) / 255


def seam_ratio(image, tile):
    """Mean absolute difference of neighbouring pixels across the borders of tiles, over that of all others."""
    sums = np.zeros([2, 2])
    for axis in (0, 1):
        jumps = np.abs(np.diff(image, axis=axis)).mean(2)
        at_border = np.arange(1, image.shape[axis]) % tile == 0
        for index, where in enumerate((at_border, ~at_border)):
            chosen = np.compress(where, jumps, axis)
            sums[index] += chosen.sum(), chosen.size
    means = sums[:, 0] / sums[:, 1]
    return means[0] / means[1]


def edges(image):
    """Length of the gradient of grey, [h - 1, w - 1], of means of 2x2 pixels, so that grain counts less."""
    grey = image.mean(2)
    grey = (grey[1:, 1:] + grey[1:, :-1] + grey[:-1, 1:] + grey[:-1, :-1]) / 4
    return np.hypot(*np.gradient(grey))


def content_kept(inputs, outputs):
    """Correlation of the edges of an image with those of its translation, in [-1, 1]."""
    return np.corrcoef(edges(inputs).ravel(), edges(outputs).ravel())[0, 1]


def colour_distance(images, others, seed=0):
    """Sliced Wasserstein distance of the colours of two lists of images, in [0, 1]: mean distance of their quantiles
    along 64 directions."""
    draw = np.random.default_rng(seed)
    directions = draw.normal(size=[3, 64])
    directions /= np.linalg.norm(directions, axis=0)
    quantiles = []
    for group in (images, others):
        pixels = np.concatenate([image.reshape(-1, 3)[draw.integers(0, image[..., 0].size, 20_000)] for image in group])
        quantiles.append(np.quantile(pixels @ directions, np.linspace(0, 1, 201), axis=0))
    return np.abs(quantiles[0] - quantiles[1]).mean()


def texture_distance(images, others):
    """Mean difference over six octaves of log2 of the strength of detail, that is, the standard deviation of grey in
    2x2 blocks of an image that is halved again and again. 1: twice as strong, or half."""

    def strengths(image):
        grey, found = image.mean(2), []
        for _ in range(6):
            height, width = (side // 2 * 2 for side in grey.shape)
            blocks = grey[:height, :width].reshape(height // 2, 2, width // 2, 2)
            mean = blocks.mean((1, 3), keepdims=True)
            found.append(np.log2(np.sqrt(np.square(blocks - mean).mean()) + 1e-4))
            grey = mean[:, 0, :, 0]
        return found

    means = [np.mean([strengths(image) for image in group], 0) for group in (images, others)]
    return np.abs(means[0] - means[1]).mean()


def measure(checkpoint, folder, stitch, tile=64):
    """Translates testA at full size and, for style, trainA and testA reduced as in training. Returns {name: mean}.

    "seams" are those of the translations over those of the inputs, which are about 1.3: the borders of tiles are also
    borders of JPEG's blocks of 8 pixels.
    """
    (folder / "reduced").mkdir(parents=True)
    for path in (*(HD / "trainA").iterdir(), *(HD / "testA").iterdir()):
        with Image.open(path) as image:
            image.thumbnail([640, 640], Image.BOX)
            image.save(folder / "reduced" / f"{path.parent.name}-{path.stem}.png")

    def translate(source, kind):
        flags = ["--mode", "test", "--checkpoint", checkpoint, "--input_dir", source, "--stitch", stitch]
        run(*flags, "--output_dir", folder / kind)
        files = sorted((folder / kind / "images").glob("*-inputs.png"))
        return [
            [read_png(str(file).replace("-inputs", f"-{k}")) / 255 for file in files] for k in ("inputs", "outputs")
        ]

    inputs, outputs = translate(HD, "full")
    small_inputs, small_outputs = translate(folder / "reduced", "small")
    style = [read(path, 640) for path in sorted((HD / "trainB").iterdir())]
    ratios = [seam_ratio(a, tile) / seam_ratio(b, tile) for a, b in zip(outputs, inputs, strict=True)]
    return {
        "seams": np.mean(ratios),
        "worst seams": max(ratios),
        "seams not over inputs": np.mean([seam_ratio(image, tile) for image in outputs]),
        "content kept": np.mean([content_kept(a, b) for a, b in zip(inputs, outputs, strict=True)]),
        "colour, inputs to B": colour_distance(small_inputs, style),
        "colour, outputs to B": colour_distance(small_outputs, style),
        "texture, inputs to B": texture_distance(small_inputs, style),
        "texture, outputs to B": texture_distance(small_outputs, style),
    }


@pytest.mark.realdata
@pytest.mark.skipif(not HD.is_dir(), reason=f"{HD} is not here")
def test_tiles_fit_and_colours_come_closer_to_the_style(tmp_path):
    """After 1,000 steps with the overlap loss. (about 12 minutes)"""
    flags = [
        f"--flagfile={ROOT}/recipes/siamesegan-cpu.flags",
        "--input_dir",
        HD,
        "--display_freq",
        0,
        "--overlap_weight",
        100,
    ]
    run(*flags, "--output_dir", tmp_path / "o")
    found = {stitch: measure(tmp_path / "o", tmp_path / stitch, stitch) for stitch in ("tiles", "blend")}
    print(found)
    assert found["tiles"]["seams"] <= 1.25 and found["blend"]["seams"] <= 1.03
    assert found["blend"]["content kept"] > 0.7
    assert found["blend"]["colour, outputs to B"] < 0.8 * found["blend"]["colour, inputs to B"]


PEAK = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20)
sys.exit(code)
"""


def peak(*arguments):
    """Peak memory of a command, GiB."""
    command = [sys.executable, "-c", PEAK, *command_line(arguments, "siamesegan")]
    return float(subprocess.run(command, env=plain_environment(), check=True, capture_output=True, text=True).stdout)


def test_a_hundred_megapixels(tmp_path, monkeypatch):
    """Training takes at most 2.5 GiB; test little more than the image and its translation, 0.3 GiB each. (5 minutes)"""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # or Pillow warns
    draw = np.random.default_rng(0)
    small = Image.fromarray(np.uint8(draw.uniform(0, 255, [90, 120, 3])))
    for name, size in {
        "trainA/1.jpg": (12_000, 8_400),
        "trainA/2.jpg": (1200, 800),
        "trainB/1.jpg": (1200, 800),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        small.resize(size, Image.BICUBIC).save(tmp_path / name)
    tiny = ["--ngf", 4, "--ndf", 4, "--batch_size", 2, "--max_steps", 2, "--display_freq", 0]
    assert peak("--mode", "train", "--input_dir", tmp_path, *tiny, "--output_dir", tmp_path / "o") < 2.5
    for stitch in ("tiles", "blend"):
        flags = [
            "--mode",
            "test",
            "--checkpoint",
            tmp_path / "o",
            "--stitch",
            stitch,
            "--output_dir",
            tmp_path / stitch,
        ]
        small_peak = peak(*flags, "--input_dir", tmp_path / "trainA" / "2.jpg")
        large_peak = peak(*flags, "--input_dir", tmp_path / "trainA" / "1.jpg")
        print(stitch, small_peak, large_peak)
        assert large_peak - small_peak < 2.0
        with Image.open(tmp_path / stitch / "images" / "1-outputs.png") as image:
            assert image.size == (12_000, 8_400)
