"""tools/evaluate.py: every metric beside a number from elsewhere, its command line, what a user can get wrong."""

import io
import json
import re
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from conftest import ROOT, ParsedPage, assert_one_line, paint, plain_environment, save_picture, truncate
from PIL import Image

TOOL = ROOT / "tools" / "evaluate.py"
sys.path.insert(0, str(TOOL.parent))
import evaluate  # noqa: E402


@pytest.fixture
def tool(monkeypatch, capsys):
    """tool(*arguments): the command with --json in this process. Returns its result; what it warned of is in tool.err."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments), "--json"])
        capsys.readouterr()
        evaluate.main()
        out, run.err = capsys.readouterr()
        return json.loads(out)

    return run


@pytest.fixture
def fails(tool):
    """fails(*arguments): a call that the user got wrong => its one line."""

    def run(*arguments):
        with pytest.raises(evaluate.UserError) as caught:
            tool(*arguments)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return run


def save_all(folder, pixels, end=".png"):
    """{name: uint8 [h, w, 3]} => files. Returns the folder."""
    for name, image in pixels.items():
        save_picture(folder / f"{name}{end}", image)
    return folder


def paintings(count, seed=0, side=48):
    return {f"p{number}": paint(side, side, seed + number) for number in range(count)}


@pytest.fixture
def tested(tmp_path):
    """A folder as --mode test leaves it, of three pairs: outputs are the targets, each 10 levels lighter."""
    images = tmp_path / "a_test" / "images"
    for name, target in paintings(3).items():
        target = np.minimum(target, 245)
        for kind, picture in (("inputs", 255 - target), ("outputs", target + 10), ("targets", target)):
            save_picture(images / f"{name}-{kind}.png", np.uint8(picture))
    return images.parent


# ------------------------------------------------------------------------------------------------------------- pairs

PLAIN = ["--metrics", "l1,psnr,ssim"]
IMAGENET_MEAN = np.float32([103.939, 116.779, 123.68])  # blue, green, red


def test_pairs_of_a_test_folder_by_hand(tool, tested):
    result = tool("pairs", tested, *PLAIN)
    assert list(result["images"]) == ["p0", "p1", "p2"]
    assert result["mean"]["l1"] == pytest.approx(10 / 255, rel=1e-4)
    assert result["mean"]["psnr"] == pytest.approx(20 * np.log10(25.5), rel=1e-4)
    assert 0.9 < result["mean"]["ssim"] < 1
    assert tool("pairs", tested / "images", *PLAIN) == result


def test_pairs_of_two_folders_match_by_stem(tool, tmp_path):
    a = save_all(tmp_path / "a", paintings(2))
    b = save_all(tmp_path / "b", paintings(2), ".bmp")
    assert tool("pairs", a, b, *PLAIN)["mean"] == {"l1": 0, "psnr": 100, "ssim": 1}
    assert list(tool("pairs", a, b, "--metrics", "psnr")["mean"]) == ["psnr"]


def test_psnr_and_ssim_as_scikit_image(tool, tmp_path):
    metrics = pytest.importorskip("skimage.metrics")
    (a,), (b,) = paintings(1).values(), paintings(1, 50).values()
    save_all(tmp_path / "a", {"x": a}), save_all(tmp_path / "b", {"x": b})
    mean = tool("pairs", tmp_path / "a", tmp_path / "b", *PLAIN)["mean"]
    assert mean["psnr"] == pytest.approx(metrics.peak_signal_noise_ratio(a, b), rel=1e-4)
    options = {"channel_axis": 2, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    _, every = metrics.structural_similarity(a, b, full=True, **options)
    assert mean["ssim"] == pytest.approx(every[5:-5, 5:-5].mean(), abs=1e-3)  # TensorFlow's takes whole windows only


def random_weights(name, path, **options):
    """Saves a network of keras.applications without its top; its norms fit the features of noise, so that these do not die."""
    import keras

    keras.utils.set_random_seed(0)
    network = getattr(keras.applications, name)(include_top=False, weights=None, **options)
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    if norms:
        for norm in norms:
            norm.momentum = 0.0
        network(np.random.default_rng(0).uniform(-1, 1, [4, 96, 96, 3]).astype(np.float32), training=True)
    network.save_weights(path)
    return network, path


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    return random_weights("VGG16", tmp_path_factory.mktemp("vgg") / "vgg.weights.h5")


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    return random_weights("InceptionV3", tmp_path_factory.mktemp("inception") / "inception.weights.h5", pooling="avg")


def test_vgg_distance_by_hand(tool, tmp_path, vgg):
    """From the layers' outputs one by one, with the mean colours of ImageNet taken away by hand."""
    import keras

    network, weights = vgg
    (a,), (b,) = paintings(1).values(), paintings(1, 50).values()
    save_all(tmp_path / "a", {"x": a}), save_all(tmp_path / "b", {"x": b})
    result = tool("pairs", tmp_path / "a", tmp_path / "b", "--metrics", "vgg_distance", "--weights", weights)
    total = 0
    for name in ("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3"):
        part = keras.Model(network.input, network.get_layer(name).output)
        x, y = (part(image[None, ..., ::-1] - IMAGENET_MEAN).numpy()[0] for image in (a, b))
        for row in range(x.shape[0]):
            for column in range(x.shape[1]):
                u, v = x[row, column], y[row, column]
                total += np.sum((u / np.linalg.norm(u) - v / np.linalg.norm(v)) ** 2) / (x.shape[0] * x.shape[1])
    assert result["mean"]["vgg_distance"] == pytest.approx(total, rel=1e-3)
    same = tool("pairs", tmp_path / "a", tmp_path / "a", "--metrics", "vgg_distance", "--weights", weights)
    assert same["mean"]["vgg_distance"] == 0


# ----------------------------------------------------------------------------------------------- labels

RED, GREEN, BLUE = [255, 0, 0], [0, 255, 0], [0, 0, 255]


def test_labels_by_hand(tool, tmp_path):
    """8 pixels: 4 red of which 3 are found, 4 green all found, so 5 are put in green; blue is only in the palette."""
    truth = np.uint8([[RED, RED, RED, RED], [GREEN, GREEN, GREEN, GREEN]])
    put = np.int32([[RED, RED, RED, GREEN], [GREEN, GREEN, GREEN, GREEN]])
    put = np.uint8(np.clip(put + np.random.default_rng(0).integers(-60, 60, put.shape), 0, 255))  # still the nearest
    save_all(tmp_path / "a", {"x": put}), save_all(tmp_path / "b", {"x": truth})
    palette = tmp_path / "palette.json"
    palette.write_text(json.dumps({"red": RED, "green": GREEN, "blue": BLUE}))
    result = tool("labels", tmp_path / "a", tmp_path / "b", "--palette", palette)
    expected = {"pixel_accuracy": 7 / 8, "class_accuracy": (3 / 4 + 1) / 2, "class_iou": (3 / 4 + 4 / 5) / 2}
    assert result["scores"] == pytest.approx(expected)
    assert result["classes"]["red"] == {"share": 0.5, "accuracy": 0.75, "iou": 0.75}
    assert result["classes"]["blue"] == {"share": 0, "accuracy": None, "iou": None}


def test_labels_count_pixels_of_all_pictures_and_a_class_that_is_put_but_not_there():
    """Two pictures are one sum; a class that is in no truth has no accuracy, and an IoU of 0."""
    scores, rows = evaluate.label_scores(np.array([[6, 2, 0], [0, 2, 2], [0, 0, 0]]))
    assert scores["pixel_accuracy"] == 8 / 12
    assert scores["class_accuracy"] == (6 / 8 + 2 / 4) / 2
    assert scores["class_iou"] == pytest.approx((6 / 8 + 2 / 6 + 0 / 2) / 3)
    assert rows[2] == {"share": 0, "accuracy": None, "iou": 0}


def test_labels_of_the_shipped_facades(tool, tmp_path):
    """All 12 classes are there in JPEGs of labels; a labelling shifted by 2 pixels is mostly right, at edges wrong."""
    truth = {str(n): np.asarray(Image.open(ROOT / f"samples/facades/val/{n}.jpg"))[:, 256:] for n in (1, 2, 3)}
    a = save_all(tmp_path / "a", {name: np.roll(image, 2, 1) for name, image in truth.items()})
    b = save_all(tmp_path / "b", truth)
    result = tool("labels", b, b)
    assert result["scores"] == {"pixel_accuracy": 1, "class_accuracy": 1, "class_iou": 1}
    assert sum(row["share"] > 0.001 for row in result["classes"].values()) == 12
    assert 0.8 < tool("labels", a, b)["scores"]["pixel_accuracy"] < 0.99


@pytest.mark.realdata
@pytest.mark.skipif(not (ROOT.parent / "shared/data/facades").is_dir(), reason="../shared/data is not here")
def test_the_palette_is_that_of_facades():
    """Half of the pixels of real label JPEGs are within a few levels of their class; the rest are JPEG's edges."""
    colours, medians = list(evaluate.read_palette(None).values()), []
    for name in range(1, 101, 10):
        image = np.asarray(Image.open(ROOT.parent / f"shared/data/facades/val/{name}.jpg"))[:, 256:]
        medians.append(np.median(evaluate.nearest(image, colours)[1]))
    assert np.median(medians) < 5 and max(medians) < 24


# ------------------------------------------------------------------------------------------------- seams


def staircase(side=32, tile=8, step=1.0, seam=0.0):
    """Brightness rises by `step` a pixel and by `seam` more at each border of tiles, across and down."""
    line = np.arange(side) * step + np.arange(side) // tile * seam
    return np.uint8((line[:, None] + line[None])[..., None].repeat(3, -1))


def test_seams_by_hand(tool, tmp_path):
    """Pixels differ by 1 inside of a tile, by 1 + 4 over its border: a ratio of 5; without seams it is 1."""
    save_all(tmp_path / "a", {"seam": staircase(seam=4), "none": staircase()})
    result = tool("seams", tmp_path / "a", "--tile", 8)
    assert result["images"] == {"seam": {"seams": 5}, "none": {"seams": 1}}
    assert result["mean"] == {"seams": 3}
    assert tool("seams", tmp_path / "a" / "seam.png", "--tile", 8)["mean"] == {"seams": 5}


def test_seams_sees_borders_of_either_axis_and_in_one_channel(tool, tmp_path):
    """Rows alone, in red alone: 3 borders of 31 lines down, and as many across where nothing jumps."""
    image = np.zeros([32, 32, 3], np.uint8)
    image[..., 0] = np.uint8(np.arange(32)[:, None] * 3 + np.arange(32)[:, None] // 8 * 30)
    save_all(tmp_path / "a", {"x": image})
    ratio = (33 / 3 / 2) / (3 / 3 / 2)
    assert tool("seams", tmp_path / "a", "--tile", 8)["mean"]["seams"] == pytest.approx(ratio)


def test_seams_offset(tool, tmp_path):
    """Borders at 3, 11, 19, 27: at 8, 16, 24 there is nothing, and the borders count elsewhere: (28 + 4 · 4) / 28."""
    image = np.pad(staircase(40, seam=4), ((0, 0), (0, 0), (0, 0)))[5:37, 5:37]
    save_all(tmp_path / "a", {"x": image})
    assert tool("seams", tmp_path / "a", "--tile", 8, "--offset", 3)["mean"]["seams"] == 5
    assert tool("seams", tmp_path / "a", "--tile", 8)["mean"]["seams"] == pytest.approx(28 / (28 + 4 * 4))


def test_seams_beside_those_of_the_inputs(tool, tmp_path):
    images = tmp_path / "hd_test" / "images"
    save_all(images, {"x-outputs": staircase(seam=4), "x-inputs": staircase(seam=1), "x-targets": staircase(seam=9)})
    expected = {"x": {"seams": 5, "inputs": 2}}
    assert tool("seams", images.parent, "--tile", 8)["images"] == expected
    save_all(tmp_path / "photos", {"x": staircase(seam=2), "other": staircase()})
    expected["x"]["inputs"] = 3
    assert tool("seams", images.parent, "--tile", 8, "--inputs", tmp_path / "photos")["images"] == expected


# ------------------------------------------------------------------------------------------------- fid, kid


def with_moments(mean, covariance, count, seed=0):
    """Features [count, d] whose mean and covariance are exactly these."""
    x = np.random.default_rng(seed).normal(size=[count, len(mean)])
    x = (x - x.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return x @ np.linalg.cholesky(covariance).T + mean


def test_frechet_distance_of_gaussians_in_closed_form():
    """Diagonal covariances: |shift|² + sum of (difference of standard deviations)²."""
    s, t = np.array([1.0, 2.0, 3.0]), np.array([4.0, 0.5, 3.0])
    a = with_moments([0, 0, 0], np.diag(s**2), 50)
    b = with_moments([1, -2, 0.5], np.diag(t**2), 80, seed=1)
    assert evaluate.frechet_distance(a, b) == pytest.approx(1 + 4 + 0.25 + np.sum((s - t) ** 2))
    assert evaluate.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=[3, 3]))[0]
    assert evaluate.frechet_distance(a @ turn, b @ turn) == pytest.approx(evaluate.frechet_distance(a, b))


def brute_frechet(a, b):
    """The textbook's: covariances, and the root of their product by its eigenvalues."""
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.sqrt(np.linalg.eigvals(first @ second).astype(complex)).sum()
    assert abs(root.imag) < 1e-5
    return np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(first) + np.trace(second) - 2 * root.real


@pytest.mark.parametrize("n, m, d", [(200, 300, 10), (12, 300, 10), (6, 9, 30)])
def test_frechet_distance_as_brute_force(n, m, d):
    """More pictures than features, fewer, and so few that both covariances are singular."""
    draw = np.random.default_rng(n)
    a, b = draw.normal(size=[n, d]) @ draw.normal(size=[d, d]), draw.normal(0.5, 2, [m, d])
    assert evaluate.frechet_distance(a, b) == pytest.approx(brute_frechet(a, b), rel=1e-5)


def test_kernel_distance_as_a_double_loop():
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=[7, 5]), draw.normal(0.3, 1, [9, 5])

    def mean(pairs):
        return np.mean([(np.dot(x, y) / 5 + 1) ** 3 for x, y in pairs])

    expected = mean((a[i], a[j]) for i in range(7) for j in range(7) if i != j)
    expected += mean((b[i], b[j]) for i in range(9) for j in range(9) if i != j)
    expected -= 2 * mean((x, y) for x in a for y in b)
    assert evaluate.kernel_distance(a, b) == pytest.approx(expected)


def test_kid_is_unbiased_and_its_error_is_that_of_fresh_pictures():
    """100 times 60 fresh pictures: of one kind the mean is 0; of two, the estimates scatter as each says of itself."""
    draw = np.random.default_rng(0)
    for shift in (0.0, 0.7):
        results = []
        for _ in range(100):
            a, b = draw.normal(size=[60, 6]), draw.normal(shift, 1, [60, 6])
            results.append(evaluate.kernel_distances(a, b, subsets=30, size=30, seed=0))
        distances, errors = np.transpose(results)
        assert abs(distances.mean()) < 3 * distances.std() / 10 if shift == 0 else distances.mean() > 0.3
        assert 0.7 < errors.mean() / distances.std() < 1.5, (shift, errors.mean(), distances.std())


def test_resize_is_pillows_bicubic_unrounded():
    """As clean-fid: a channel at a time in floats; downwards it is antialiased."""
    image = np.zeros([64, 64, 3], np.uint8)
    image[::2] = 200  # stripes of one pixel: without antialiasing they would stay or vanish
    small = evaluate.resize_clean(image, 16)
    assert small.shape == (16, 16, 3) and small.dtype == np.float32
    np.testing.assert_allclose(small[4:-4], 100, atol=3)
    painted = paint(50, 70, 3)
    every = evaluate.resize_clean(painted, 32)
    rounded = np.asarray(Image.fromarray(painted).resize((32, 32), Image.Resampling.BICUBIC), np.float32)
    assert 0 < np.abs(every - rounded).max() < 1.5
    assert evaluate.resize_clean(painted * 0 + 255, 299).max() == 255


def test_fid_and_kid_through_inception(tool, tmp_path, inception, monkeypatch):
    """The features are those of the network on its own; the second time they come from the cache, unless a picture changed."""
    network, weights = inception
    a, b = save_all(tmp_path / "a", paintings(5)), save_all(tmp_path / "b", paintings(4, 50))
    flags = ["--weights", weights, "--cache", tmp_path / "cache"]
    result = tool("fid", a, b, *flags)
    assert "warning: 4 pictures" in tool.err and "biased upwards" in tool.err and tool.err.count("\n") == 1
    features = []
    for pixels in (paintings(5), paintings(4, 50)):
        images = np.stack([evaluate.resize_clean(image, 299) for image in pixels.values()]) / 127.5 - 1
        features.append(network(images, training=False).numpy())
    assert features[0].shape == (5, 2048) and features[0].std(0).max() > 1e-3
    assert result["scores"]["fid"] == pytest.approx(evaluate.frechet_distance(*features), rel=1e-3)
    assert result["pictures"] == [5, 4]

    def no_network(*_, **__):
        raise AssertionError("the cache was not used")

    monkeypatch.setattr(evaluate, "build_network", no_network)
    assert tool("fid", a, b, *flags) == result
    kid = tool("kid", a, b, *flags)
    assert kid["subset_size"] == 2 and kid["scores"]["kid_error"] > 0 and tool.err == ""
    assert tool("kid", a, b, *flags) == kid != tool("kid", a, b, *flags, "--seed", 1)
    save_picture(a / "p0.png", paint(48, 48, 7))
    with pytest.raises(AssertionError, match="cache"):
        tool("fid", a, b, *flags)


def test_pictures_are_decoded_ahead_of_the_network():
    """While a batch is in use the next two are being loaded, in order, and no more than that."""
    started, lock = [], threading.Lock()

    def load(path):
        with lock:
            started.append(path)
        return np.full([2], path)

    batches = evaluate.loaded(list(range(50)), load, 5)
    first = next(batches)
    time.sleep(0.2)
    assert first[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert sorted(started) == list(range(15))
    assert np.concatenate(list(batches))[:, 0].tolist() == list(range(5, 50))


# ------------------------------------------------------------------------------------------- style, content


def tinted(folder, colour, count, seed):
    """Pictures of noise with a tint."""
    draw = np.random.default_rng(seed)
    for number in range(count):
        pixels = np.clip(np.array(colour) + draw.normal(0, 40, [40, 40, 3]), 0, 255)
        save_picture(folder / f"{number}.png", np.uint8(pixels))
    return folder


@pytest.fixture(scope="module")
def styles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("styles")
    tinted(folder / "warm", (200, 90, 60), 20, 1), tinted(folder / "cold", (60, 90, 200), 20, 2)
    tinted(folder / "new warm", (200, 90, 60), 4, 3), tinted(folder / "new cold", (60, 90, 200), 3, 4)
    return folder


@pytest.fixture(scope="module")
def classifier(styles):
    """A tiny classifier of the two tints => its folder, the result of the training, its stderr."""
    flags = ["--output_dir", styles / "classifier", "--backbone", "small", "--image_size", 32]
    flags += ["--epochs", 4, "--batch_size", 8, "--lr", 0.003]
    command = [sys.executable, TOOL, "train-style", "--styles", styles / "warm", f"cold={styles / 'cold'}", *flags, "--json"]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=plain_environment())
    assert result.returncode == 0, result.stderr
    return styles / "classifier", json.loads(result.stdout), result.stderr


def test_train_style_keeps_the_best_epoch(classifier):
    folder, result, stderr = classifier
    options = json.loads((folder / "options.json").read_text())
    assert options["classes"] == ["warm", "cold"] and options["kind"] == "style" and options["from_scratch"]
    assert options["pictures"] == {"train": 32, "val": 8}
    lines = re.findall(r"epoch (\d)/4 .* accuracy ([\d.]+)(.*)", stderr)
    assert len(lines) == stderr.count("\n") == 4
    best = max(float(accuracy) for _, accuracy, _ in lines)
    assert result["scores"]["val_accuracy"] == best == options["best"]["val_accuracy"] == 1
    kept = [int(epoch) for epoch, _, mark in lines if mark]
    assert kept[-1] == result["epoch"]
    assert sorted(path.name for path in folder.iterdir()) == ["model.keras", "options.json"]


def test_style_scores_and_draws(tool, classifier, styles, tmp_path):
    folder, *_ = classifier
    result = tool("style", styles / "new warm", styles / "new cold", "--target", "cold", "--classifier", folder)
    assert result["scores"]["style"] == pytest.approx(3 / 7)
    assert result["classes"]["new warm"] == {"pictures": 4, "right": 0, "put in": {"warm": 4, "cold": 0}}
    assert result["classes"]["new cold"] == {"pictures": 3, "right": 1, "put in": {"warm": 0, "cold": 3}}
    page = tmp_path / "matrix.png"
    pairs = [f"warm={styles / 'new warm'}", f"cold={styles / 'new cold'}"]
    assert tool("style", *pairs, "--classifier", folder, "--matrix", page)["scores"] == {"style": 1}
    assert Image.open(page).format == "PNG"


def test_content_by_the_names_of_the_originals(tool, classifier, styles, tmp_path):
    """Translations in one folder; the class of each is that of the original of its name, one is put in the wrong one."""
    folder, *_ = classifier
    content = tmp_path / "content"
    content.mkdir()
    (content / "model.keras").write_bytes((folder / "model.keras").read_bytes())
    options = json.loads((folder / "options.json").read_text())
    (content / "options.json").write_text(json.dumps(options | {"kind": "content"}))
    images = tmp_path / "x_test" / "images"
    originals = {"a": "warm", "b": "warm", "c": "cold"}
    for name, kind in originals.items():
        pixels = np.asarray(Image.open(styles / kind / "0.png"))
        save_picture(tmp_path / kind / f"{name}.png", pixels)
        save_picture(images / f"{name}-inputs.png", pixels)
        save_picture(images / f"{name}-outputs.png", pixels[..., ::-1] if name == "b" else pixels)
    result = tool("content", images.parent, "--classifier", content, "--classes", tmp_path / "warm", tmp_path / "cold")
    assert result["scores"]["content"] == pytest.approx(2 / 3)
    assert result["classes"]["warm"] == {"pictures": 2, "right": 0.5, "put in": {"warm": 1, "cold": 1}}
    assert result["classes"]["cold"]["right"] == 1


def test_the_matrix_is_darker_where_more_lies():
    image = np.asarray(evaluate.draw_matrix(np.array([[9, 1], [0, 5]]), ["a", "b"], ["one", "two"]), float)
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
        views = evaluate.Views(kind, 224)
        view = views.cut(image[None], [(7, 3)])[0] + IMAGENET_MEAN
        assert (views.resized, views.crop) == (256, crop)
        np.testing.assert_allclose(view[margin : margin + crop, 112, 0], np.arange(7, 7 + crop), atol=1e-3)
        assert margin == 0 or (view[:margin].max() < 1e-3 and view[:, :margin].max() < 1e-3)

    class Top:  # a model that says which line is at the top
        def predict_on_batch(self, x):
            return x[:, 37, 112, :1] + IMAGENET_MEAN[0]

    views = evaluate.Views("style", 224)
    assert views.probabilities(Top(), image[None])[0, 0] == pytest.approx(np.mean([0, 0, 106, 106, 53]), abs=1e-3)


def test_validation_is_drawn_before_training():
    found = {"a": list(range(10)), "b": list(range(100, 107))}
    train, val = evaluate.split_off(found, 3)
    assert [len(val[name]) for name in "ab"] == [2, 1]
    assert all(sorted(train[name] + val[name]) == found[name] for name in "ab")
    assert evaluate.split_off(found, 3) == (train, val) != evaluate.split_off(found, 4)


# ------------------------------------------------------------------------------------------------ report


@pytest.fixture
def runs(tmp_path):
    """Three runs: `one` with training and test, `<two> & "more"` the same, `three` with a test alone."""
    import tensorflow as tf

    folders = []
    for number, name in enumerate(("one", '<two> & "more"', "three")):
        folder = tmp_path / f"{name}_test"
        for picture, target in paintings(3, side=300).items():
            for kind, image in (("inputs", 255 - target), ("outputs", target // (number + 1)), ("targets", target)):
                save_picture(folder / "images" / f"{picture}<-{kind}.png", image)
        metrics = {"checkpoint": "x", "mean": {"l1": 0.1 * (number + 1), "psnr": 20.0 - number}, "images": {}}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        folders.append(folder)
        if number < 2:
            training = tmp_path / f"{name}_train"
            writer = tf.summary.create_file_writer(str(training))
            with writer.as_default():
                for step in (10, 20, 30):
                    tf.summary.scalar("loss/l1", 1.0 / step + number, step)
                    tf.summary.scalar("learning_rate/generator", 0.1, step)
            writer.close()
            (training / "checkpoint").write_text("")
            folders.append(training)
    (folders[0] / "fid.json").write_text(json.dumps({"scores": {"fid": 55.5}, "pictures": [3, 3]}))
    return folders


def test_report_is_one_page_that_needs_nothing_else(tool, runs, tmp_path):
    out = tmp_path / "page.html"
    result = tool("report", *runs, "--output", out, "--pictures", 2, "--width", 100)
    assert result == {"page": str(out), "runs": ["one", '<two> & "more"', "three"], "pictures": 2, "losses": ["l1"]}
    page = ParsedPage(out)
    assert page.rows[0] == ["", "one", '<two> & "more"', "three"]
    assert page.rows[1] == ["l1 ↓", "0.1", "0.2", "0.3"]
    assert page.rows[2] == ["psnr ↑", "20", "19", "18"]
    assert page.rows[3] == ["fid ↓", "55.5", "–", "–"]
    assert page.rows[4] == ["", "inputs", "one", '<two> & "more"', "three", "targets"]
    assert [row[0] for row in page.rows[5:]] == ["p0<", "p1<"]
    assert len(page.images) == 10 and page.links == []
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.images)
    assert "http" not in page.text.replace("http-equiv", "")
    assert page.text.count("<td class=\"best\">") == 2  # of l1 and of psnr, where there are several
    import base64

    first = Image.open(io.BytesIO(base64.b64decode(page.images[1].partition(",")[2])))
    assert first.size == (100, 100)
    np.testing.assert_allclose(np.asarray(first, float).mean(), paint(300, 300, 0).mean(), atol=3)


def test_report_draws_the_losses(tool, runs, tmp_path):
    """Steps 10, 20 and 30 are places from left to right; a fallen loss is lower on the page."""
    tool("report", *runs, "--output", tmp_path / "page.html")
    lines = re.findall(r'<polyline points="([^"]+)"', (tmp_path / "page.html").read_text())
    assert len(lines) == 2
    for line in lines:
        (x0, y0), (x1, y1), (x2, y2) = ([float(v) for v in point.split(",")] for point in line.split())
        assert x0 < x1 < x2 and x1 - x0 == pytest.approx(x2 - x1, abs=0.2) and y0 < y1 < y2


def test_report_of_a_real_training(tool, trained, tmp_path):
    losses = tool("report", trained.folder, "--output", tmp_path / "page.html")["losses"]
    assert losses == ["discrim", "gan", "l1"]
    ParsedPage(tmp_path / "page.html")


# ------------------------------------------------------------------------------------- what a user can get wrong


def test_unequal_names_are_listed(fails, tmp_path):
    a, b = save_all(tmp_path / "a", paintings(3)), save_all(tmp_path / "b", paintings(2) | {"other": paint(48, 48, 1)})
    for command in ("pairs", "labels"):
        message = fails(command, a, b)
        assert "p2.png" in message and "other.png" in message and "2 without a counterpart" in message


def test_different_sizes(fails, tmp_path):
    a = save_all(tmp_path / "a", {"x": paint(20, 30, 0)})
    b = save_all(tmp_path / "b", {"x": paint(20, 32, 0)})
    assert re.search(r"a/x.png is 30x20 .*b/x.png 32x20", fails("pairs", a, b, *PLAIN))
    assert "30x20" in fails("labels", a, b)
    assert "30x20" in fails("seams", a, "--tile", 10, "--inputs", b)


@pytest.mark.parametrize("name, flags", [("pairs", PLAIN), ("labels", []), ("seams", ["--tile", 8]), ("fid", []), ("kid", [])])
def test_an_unreadable_picture_is_named(fails, tmp_path, name, flags, inception):
    images = paintings(4)
    if name == "labels":
        images = {key: image * 0 + np.uint8([0, 0, 222]) for key, image in images.items()}
    folders = [save_all(tmp_path / side, images) for side in ("a", "b")]
    truncate(folders[0] / "p3.png")
    if name in ("fid", "kid"):
        flags = ["--weights", inception[1], "--cache", tmp_path / "cache"]
    message = fails(name, *folders[: 1 if name == "seams" else 2], *flags)
    assert str(folders[0] / "p3.png") in message and "cannot be read" in message


def test_too_few_pictures(fails, tmp_path):
    one, four = save_all(tmp_path / "one", paintings(1)), save_all(tmp_path / "four", paintings(4))
    assert "one holds 1 pictures; fid needs 2" in fails("fid", four, one)
    assert "one holds 1 pictures; kid needs 4" in fails("kid", one, four)
    message = fails("train-style", "--styles", one, four, "--output_dir", tmp_path / "out")
    assert "one holds 1 pictures" in message and not (tmp_path / "out").exists()


def test_kid_subsets_as_large_as_the_folder(fails, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "inception_features", lambda paths, *_: np.eye(len(paths)))
    a, b = save_all(tmp_path / "a", paintings(4)), save_all(tmp_path / "b", paintings(5))
    for size in (4, 1):
        assert f"--subset_size {size}: give at least 2 and less than 4" in fails("kid", a, b, "--subset_size", size)


@pytest.mark.parametrize("weights", ["vgg", "text", "legacy", "missing", "folder"])
def test_weights_of_another_network(fails, tmp_path, weights, vgg):
    a = save_all(tmp_path / "a", paintings(2))
    path = {"vgg": vgg[1], "folder": tmp_path}.get(weights, tmp_path / f"{weights}.weights.h5")
    if weights == "text":
        path.write_text("no weights")
    if weights == "legacy":
        path = tmp_path / "vgg16_notop.h5"
        save_legacy(vgg[0], path)
    message = fails("fid", a, a, "--weights", path, "--cache", tmp_path / "cache")
    assert str(path) in message and ("InceptionV3" in message or weights in ("missing", "folder"))


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


def test_weights_in_the_layout_of_the_download(vgg, tmp_path):
    network, _ = vgg
    save_legacy(network, tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5")
    again = evaluate.build_network("VGG16", tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5")
    for mine, theirs in zip(again.weights, network.weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


def no_download(monkeypatch):
    """Keras's own words when a host is not reached."""
    import keras

    def build(weights, input_shape=None, **_):
        if weights == "imagenet":
            raise Exception("URL fetch failure on https://host/vgg16_notop.h5: None -- [Errno -2] Name or service not known")
        return evaluate.build_small(input_shape)  # which trains in no time

    for name in ("VGG16", "InceptionV3", "ResNet50"):
        monkeypatch.setattr(keras.applications, name, build)


def test_no_download_names_url_and_flag(fails, tmp_path, monkeypatch):
    no_download(monkeypatch)
    a = save_all(tmp_path / "a", paintings(2))
    for command in (["fid", a, a, "--cache", tmp_path], ["pairs", a, a]):
        message = fails(*command)
        assert "https://host/vgg16_notop.h5" in message and "--weights FILE" in message
    assert "--metrics" in fails("pairs", a, a)


def test_no_download_trains_from_scratch_with_a_warning(tool, styles, tmp_path, monkeypatch):
    no_download(monkeypatch)
    flags = ["--image_size", 32, "--epochs", 1, "--output_dir", tmp_path / "c"]
    tool("train-content", "--classes", styles / "new warm", styles / "new cold", *flags)
    assert tool.err.startswith("warning: ") and "from scratch" in tool.err.splitlines()[0]
    assert json.loads((tmp_path / "c" / "options.json").read_text())["from_scratch"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["pairs", "{a}"], ["not the folder of a test", "two folders"]),
        (["pairs", "{a}", "{a}", "{a}"], ["3 folders"]),
        (["pairs", "{missing}", "{a}"], ["missing", "not a folder"]),
        (["pairs", "{empty}", "{a}"], ["empty", "no pictures"]),
        (["pairs", "{training}"], ["folder of a training", "--mode test"]),
        (["pairs", "{untargeted}"], ["-targets.png"]),
        (["pairs", "{a}", "{a}", "--metrics", "l1,lpips"], ["--metrics", "vgg_distance"]),
        (["labels", "{a}", "{a}"], ["no label map", "--palette"]),
        (["labels", "{a}", "{a}", "--palette", "{missing}"], ["missing", "JSON"]),
        (["labels", "{a}", "{a}", "--palette", "{bad}"], ["bad.json", "JSON"]),
        (["seams", "{a}", "--tile", "48"], ["p0.png", "no border", "--tile"]),
        (["seams", "{a}", "--tile", "1"], ["no border", "--tile"]),
        (["seams", "{a}", "--tile", "0"], ["--tile", "at least 1"]),
        (["seams", "{flat}", "--tile", "8"], ["flat"]),
        (["seams", "{a}"], ["--tile"]),
        (["train-style", "--styles", "{a}", "--output_dir", "{missing}"], ["two classes"]),
        (["train-style", "--styles", "{a}", "{a}", "--output_dir", "{missing}"], ["two folders are called a"]),
        (["train-style", "--styles", "{a}", "{flat}", "--output_dir", "{a}"], ["not an empty folder"]),
        (["train-style", "--styles", "{a}", "{flat}", "--output_dir", "{missing}", "--val", "{a}"], ["--val", "CLASS=DIR"]),
        (["train-style", "--styles", "{a}", "{flat}", "--output_dir", "{missing}", "--image_size", "16"], ["--image_size"]),
        (["style", "{a}", "--classifier", "{a}"], ["no classifier", "train-style"]),
        (["content", "{a}", "--classifier", "{classifier}"], ["classifier of style", "train-content"]),
        (["style", "{a}", "--classifier", "{classifier}"], ["a is no class", "warm, cold", "--target"]),
        (["style", "{a}", "--classifier", "{classifier}", "--target", "hot"], ["hot is no class"]),
        (["report", "{a}"], ["no training and no test"]),
        (["report", "{training}", "{training}"], ["both be called"]),
        (["nothing"], ["nothing", "--help"]),
        ([], ["COMMAND"]),
    ],
)
def test_what_a_user_can_get_wrong(fails, tmp_path, arguments, words, classifier):
    save_all(tmp_path / "a", paintings(2))
    save_all(tmp_path / "flat", {f"x{number}": np.full([32, 32, 3], 9, np.uint8) for number in range(2)})
    save_all(tmp_path / "untargeted" / "images", {"x-outputs": paint(32, 32, 0)})
    (tmp_path / "empty").mkdir()
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "checkpoint").write_text("")
    (tmp_path / "bad.json").write_text('{"sky": [0, 0, 256], "wall": [1, 2, 3]}')
    places = {name: tmp_path / name for name in ("a", "flat", "untargeted", "empty", "training", "missing")}
    places |= {"bad": tmp_path / "bad.json", "classifier": classifier[0]}
    message = fails(*[argument.format(**places) for argument in arguments])
    for word in words:
        assert word in message, message
    assert not (tmp_path / "missing").exists()


def test_content_of_unknown_names(fails, classifier, tmp_path):
    content = tmp_path / "content"
    content.mkdir()
    options = json.loads((classifier[0] / "options.json").read_text())
    (content / "options.json").write_text(json.dumps(options | {"kind": "content"}))
    (content / "model.keras").write_bytes((classifier[0] / "model.keras").read_bytes())
    new, old = save_all(tmp_path / "new", paintings(3)), save_all(tmp_path / "old", paintings(2))
    flags = ["--classifier", content, "--classes", f"warm={old}"]
    assert "p2.png" in fails("content", new, *flags)
    assert "in warm and in cold" in fails("content", new, *flags, f"cold={old}")
    assert "give one" in fails("content", new, *flags, "--target", "warm")
    (content / "model.keras").write_text("x")
    assert "model.keras cannot be read" in fails("content", old, *flags)


def test_exit_codes_and_streams_as_a_user_sees_them(tmp_path):
    a, b = save_all(tmp_path / "a", paintings(2)), save_all(tmp_path / "b", paintings(2, 9))

    def run(*arguments):
        command = [sys.executable, str(TOOL), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=plain_environment())

    good = run("pairs", a, b, *PLAIN, "--json")
    assert (good.returncode, good.stderr) == (0, "")
    assert set(json.loads(good.stdout)["mean"]) == {"l1", "psnr", "ssim"}
    people = run("seams", a, "--tile", 16)
    assert people.returncode == 0 and [line.split()[0] for line in people.stdout.splitlines()] == ["seams", "p0", "p1", "mean"]
    bad = run("seams", tmp_path / "missing", "--tile", 8)
    assert bad.returncode == 2 and bad.stdout == ""
    assert_one_line(bad.stderr, "missing")
    weights = tmp_path / "x.weights.h5"
    weights.write_text("no weights")
    bad = run("fid", a, b, "--weights", weights, "--cache", tmp_path / "cache")
    assert bad.returncode == 2
    assert_one_line(bad.stderr, weights, "InceptionV3")


@pytest.mark.parametrize(
    "command", ["pairs", "labels", "seams", "fid", "kid", "train-style", "train-content", "style", "content", "report"]
)
def test_help_says_what_the_numbers_mean(tool, command, capsys):
    with pytest.raises(SystemExit) as caught:
        tool(command, "--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "--json" in text
    if command != "report":
        assert re.search("lower is\\s+better|higher is\\s+better", text)
        assert re.search(r"0 to 1|0 to 10|0 to infinity|upwards", text)
