"""samples/make-samples.py and what it left in samples/."""

import functools
import importlib
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, assert_one_line
from PIL import Image

SAMPLES = ROOT / "samples"
UNPAIRED = ["monet2photo", "miyazaki"]
HD = pytest.param("hd/testA/1.jpg", marks=pytest.mark.slow)  # the same drawings, but larger
REDRAWN = ["facades/train/7.jpg", "monet2photo/testA/2.jpg", HD]

sys.path.insert(0, str(SAMPLES))
tool = importlib.import_module("make-samples")


@functools.cache
def read(path):
    """A committed image as (h, w, 3) float 0..255."""
    with Image.open(SAMPLES / path) as image:
        return np.asarray(image.convert("RGB"), np.float32)


@functools.cache
def luminance(path):
    """A committed image as (h, w) with mean 0 and length 1, so that a dot product is a correlation."""
    grey = read(path) @ np.float32([0.299, 0.587, 0.114])
    grey -= grey.mean()
    return grey / np.linalg.norm(grey)


def palette_classes(pair):
    """Class number of each label pixel (256, 256) by nearest palette colour, and how far off its colour is, 0..255."""
    colours = np.array(list(tool.PALETTE.values()), np.float32)
    distance = np.abs(pair[:, 256:, None] - colours).max(-1)
    return distance.argmin(-1), distance.min(-1)


def test_the_seed_decides(tmp_path, monkeypatch):
    """The command draws the same bytes twice, those of the committed image, and with another seed another image."""
    monkeypatch.setattr(tool, "SETS", {"miyazaki": {"testA": (1, tool.SETS["miyazaki"]["testA"][1])}})
    drawn = []
    for folder, flags in (("a", []), ("b", []), ("c", ["--seed", "1"])):
        tool.main(["miyazaki", "--output_dir", str(tmp_path / folder), *flags])
        drawn.append((tmp_path / folder / "miyazaki" / "testA" / "1.jpg").read_bytes())
    assert drawn[0] == drawn[1] != drawn[2]
    committed, a, c = (
        read(folder / "miyazaki" / "testA" / "1.jpg") for folder in (SAMPLES, tmp_path / "a", tmp_path / "c")
    )
    assert np.abs(a - committed).mean() < 2 and np.abs(c - committed).mean() > 10


@pytest.mark.parametrize("path", REDRAWN)
def test_committed_images_are_what_the_tool_draws(path, tmp_path):
    name, image = path.split("/", 1)
    tool.save(tool.images(name)[image](), tmp_path / "drawn.jpg", name)
    assert np.abs(read(tmp_path / "drawn.jpg") - read(path)).mean() < 2


def test_counts_sizes_and_formats():
    sizes = {"facades": (512, 256), "hd": (768, 512)}
    for name in tool.SETS:
        expected = set(tool.images(name))
        assert {
            str(path.relative_to(SAMPLES / name)) for path in (SAMPLES / name).rglob("*") if path.is_file()
        } == expected
        assert len(expected) == {"facades": 50, "hd": 16}.get(name, 100)
        for path in expected:
            with Image.open(SAMPLES / name / path) as image:
                assert (image.format, image.mode) == ("JPEG", "RGB")
                assert image.size == sizes.get(name, (256, 256))


def test_samples_are_small():
    def megabytes(folder):
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6

    assert megabytes(SAMPLES / "facades") < 3
    assert megabytes(SAMPLES) < 10


def test_facade_labels_use_the_palette():
    seen = np.zeros(len(tool.PALETTE))
    for index in range(1, 41, 2):
        classes, off = palette_classes(read(f"facades/train/{index}.jpg"))
        assert (off < 40).mean() > 0.98
        seen += np.bincount(classes.ravel(), minlength=len(tool.PALETTE)) > 20
    assert seen.min() >= 3, "every class must be in at least three of the twenty images"


def explained(photo, classes):
    """Share of a photo's variance (h, w, 3) that the mean colour of each class explains."""
    fitted = np.zeros_like(photo)
    for label in np.unique(classes):
        fitted[classes == label] = photo[classes == label].mean(0)
    return 1 - ((photo - fitted) ** 2).sum() / ((photo - photo.mean((0, 1))) ** 2).sum()


def test_facade_photos_follow_from_their_labels():
    pairs = [read(f"facades/val/{index}.jpg") for index in range(1, 11)]
    photos, labels = [pair[:, :256] for pair in pairs], [palette_classes(pair)[0] for pair in pairs]
    own = [explained(photo, label) for photo, label in zip(photos, labels, strict=True)]
    shifted = [explained(photo, np.roll(label, (24, 24), (0, 1))) for photo, label in zip(photos, labels, strict=True)]
    others = [explained(photo, labels[i - 1]) for i, photo in enumerate(photos)]
    assert np.mean(own) > 0.3
    assert np.mean(own) > np.mean(shifted) + 0.1
    assert np.mean(own) > np.mean(others) + 0.1
    assert all(mine > moved for mine, moved in zip(own, shifted, strict=True))


@pytest.mark.parametrize("name", UNPAIRED)
def test_test_folders_show_the_same_scenes(name):
    a, b = (
        np.stack([luminance(f"{name}/{folder}/{index}.jpg").ravel() for index in range(1, 11)])
        for folder in ("testA", "testB")
    )
    correlation = a @ b.T
    same, different = np.diag(correlation), correlation[~np.eye(10, dtype=bool)]
    assert same.min() > 0.6
    assert same.mean() > different.mean() + 0.3
    assert (correlation.argmax(1) == np.arange(10)).all()


@pytest.mark.parametrize("name", UNPAIRED)
def test_train_folders_show_different_scenes(name):
    a, b = (
        np.stack([luminance(f"{name}/{folder}/{index}.jpg").ravel() for index in range(1, 41)])
        for folder in ("trainA", "trainB")
    )
    correlation = a @ b.T
    different = correlation[~np.eye(40, dtype=bool)]
    assert abs(np.diag(correlation).mean() - different.mean()) < 0.15
    tests = [
        np.stack([luminance(f"{name}/{folder}/{index}.jpg").ravel() for index in range(1, 11)])
        for folder in ("testA", "testB")
    ]
    counterparts = np.diag(tests[0] @ tests[1].T)
    assert np.diag(correlation).mean() < counterparts.mean() - 0.2


@pytest.mark.parametrize("name", UNPAIRED)
def test_the_styles_are_far_apart_but_learnable(name):
    """An image differs clearly from its counterpart, largely by a shift of colours that is common to all images."""
    a, b = (
        np.concatenate([read(f"{name}/{folder}/{index}.jpg").reshape(-1, 3) / 255 for index in range(1, 11)])
        for folder in ("testA", "testB")
    )
    terms = np.hstack([a, a**2, a * np.roll(a, 1, 1), np.ones((len(a), 1), np.float32)])
    recoloured = terms @ np.linalg.lstsq(terms, b, rcond=None)[0]
    assert np.abs(a - b).mean() > 0.12
    assert np.abs(recoloured - b).mean() < 0.75 * np.abs(a - b).mean()
    assert np.abs(recoloured - b).mean() > 0.03, "a mere change of colours would be too easy"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["hd", "--output_dir", "/proc/x"], ["error: /proc/x", "No such file", "--output_dir"]),
        (["hd", "--output_dir", __file__], [f"error: {__file__}/hd", "Not a directory"]),
        (["hd", "--seed", "abc"], ["error: ", "--seed", "abc"]),
        ([], ["error: ", "NAME"]),
    ],
)
def test_what_a_user_can_get_wrong(monkeypatch, capsys, arguments, words):
    """A folder that cannot be made, and a flag: one line each, no traceback."""
    monkeypatch.setattr(tool, "images", lambda *_: {"testA/1.jpg": lambda: np.zeros([8, 8, 3], np.uint8)})
    with pytest.raises(SystemExit) as caught:
        tool.main(arguments)
    assert caught.value.code == 2
    assert_one_line(capsys.readouterr().err, *words)


def test_an_unknown_name_is_one_line_and_code_2():
    done = subprocess.run([sys.executable, SAMPLES / "make-samples.py", "facade"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "facade" in done.stderr and "monet2photo" in done.stderr
