"""The parts of pix2pix.py: networks, losses, order of the data, Lab, windows, and ten training steps as in PyTorch."""

import tracemalloc

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import SCRIPTS, patch_size, save_image
from PIL import Image
from reference import parity

import pix2pix


def make_model(training=True, **changes):
    """A Pix2Pix with the smallest networks, with changes of the flags."""
    return pix2pix.Pix2Pix(SCRIPTS["pix2pix"].options(**changes), training)


@pytest.fixture(autouse=True)
def repeatable():
    keras.utils.set_random_seed(0)


# ---------------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize(("halvings", "parameters"), [(8, 54_413_955), (7, 41_828_995)])
def test_unet_has_the_parameters_of_the_reference(halvings, parameters):
    assert pix2pix.build_generator(halvings).count_params() == parameters


def test_patchgan_has_the_parameters_and_the_patches_of_the_reference():
    discriminator = pix2pix.build_discriminator()
    assert discriminator.count_params() == 2_768_705
    assert discriminator.compute_output_shape((1, 256, 256, 6)) == (1, 30, 30, 1)
    # without norm layers, which see the whole image
    assert patch_size(pix2pix.build_discriminator(3, 2, norm=keras.layers.Identity)) == (70, 70)


def test_weights_start_as_in_the_paper():
    generator = pix2pix.build_generator(8, ngf=16)
    for weight in generator.weights:
        values, name = weight.numpy(), weight.path.rsplit("/", 1)[-1]
        if values.size < 64:
            continue
        mean, deviation = {"kernel": (0, 0.02), "gamma": (1, 0.02), "beta": (0, 0), "bias": (0, 0)}[name]
        assert abs(values.mean() - mean) < 0.01, weight.path
        assert abs(values.std() - deviation) < 0.006, weight.path
    first, second = (generator.get_layer(name).kernel.numpy() for name in ("encoder_6", "encoder_7"))
    assert not np.array_equal(first, second)


def test_only_the_layers_between_have_norm_and_dropout():
    names = {layer.name for layer in pix2pix.build_generator(8, ngf=4).layers}
    assert "encoder_1_norm" not in names
    assert "encoder_8_norm" not in names
    assert {f"encoder_{level}_norm" for level in range(2, 8)} <= names
    assert {name for name in names if name.endswith("dropout")} == {f"decoder_{level}_dropout" for level in (5, 6, 7)}


@pytest.mark.parametrize(
    ("size", "halvings"), [((256, 256), 8), ((128, 128), 7), ((256, 512), 8), ((96, 64), 5), ((512, 512), 8)]
)
def test_halvings_follow_the_crop(size, halvings):
    assert pix2pix.count_halvings(size) == halvings
    generator = pix2pix.build_generator(halvings, ngf=2)
    assert generator(tf.zeros([1, *size, 3])).shape == (1, *size, 3)


def test_crops_that_cannot_be_halved_enough_are_refused():
    with pytest.raises(pix2pix.UserError, match="96"):
        pix2pix.count_halvings((100, 100))


def test_sizes():
    assert pix2pix.parse_sizes("256", "286") == ((256, 256), (286, 286))
    assert pix2pix.parse_sizes("256x512", "286") == ((256, 512), (286, 572))
    assert pix2pix.parse_sizes("256x512", "300x540") == ((256, 512), (300, 540))


def test_norm_in_training_is_over_the_batch_and_in_test_over_one_image():
    norm = pix2pix.BatchNorm()
    x = np.random.default_rng(0).normal(3, 2, [4, 8, 8, 5]).astype(np.float32) * np.arange(1, 5).reshape(4, 1, 1, 1)
    norm(x)
    norm.gamma.assign(np.arange(1.0, 6.0))
    norm.beta.assign(np.arange(5.0))

    def normalised(axes):
        standard = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
        return standard * np.arange(1.0, 6.0) + np.arange(5.0)

    np.testing.assert_allclose(norm(x, training=True), normalised((0, 1, 2)), atol=2e-5)
    np.testing.assert_allclose(norm(x, training=False), normalised((1, 2)), atol=2e-5)
    np.testing.assert_allclose(norm(x[:1], training=True), norm(x, training=False)[:1], atol=2e-5)
    assert np.isfinite(norm(np.ones([1, 4, 4, 5], np.float32))).all()  # a constant image


# ------------------------------------------------------------------------------------------------------------ losses


def test_losses_by_hand():
    real, fake = tf.constant([[0.0, 2.0]]), tf.constant([[1.0, -3.0]])
    cost = lambda logit, label: np.log1p(np.exp(-logit)) if label else np.log1p(np.exp(logit))  # noqa: E731
    on_real, on_fake = (cost(0, 1) + cost(2, 1)) / 2, (cost(1, 0) + cost(-3, 0)) / 2
    assert float(pix2pix.discriminator_loss(real, fake)) == pytest.approx((on_real + on_fake) / 2, rel=1e-6)
    assert float(pix2pix.generator_loss(fake)) == pytest.approx((cost(1, 1) + cost(-3, 1)) / 2, rel=1e-6)
    assert float(pix2pix.l1_loss(tf.constant([1.0, -1.0]), tf.constant([0.5, 1.0]))) == pytest.approx(1.25)


def test_each_optimizer_changes_its_own_network_only(monkeypatch):
    model = make_model(crop_size="32")
    images = tf.random.stateless_uniform([1, 32, 32, 6], [1, 2], -1, 1)
    moved = {}
    for name, other in (("generator", "discriminator"), ("discriminator", "generator")):
        before = {key: network.get_weights() for key, network in model.networks.items()}
        monkeypatch.setattr(model.optimizers[other], "apply_gradients", lambda *_: None)
        pix2pix.Pix2Pix.train_step(model, tf.constant(0, tf.int64), images)
        monkeypatch.undo()
        for key, network in model.networks.items():
            pairs = zip(before[key], network.get_weights(), strict=True)
            moved[name, key] = any(not np.array_equal(a, b) for a, b in pairs)
    assert moved == {
        ("generator", "generator"): True,
        ("generator", "discriminator"): False,
        ("discriminator", "discriminator"): True,
        ("discriminator", "generator"): False,
    }


def test_adam_is_that_of_pytorch():
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False)])
    optimizer = pix2pix.build_optimizer(network.trainable_variables, 0.01, 0.5, "off")
    weights = network.get_weights()[0].astype(np.float64)
    m, v = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, 6):
        gradient = np.array([[1e-7, 2.0], [-0.3, 1e-9]]) * step  # small ones show where epsilon is added
        optimizer.apply_gradients([(tf.constant(gradient, tf.float32), network.trainable_variables[0])])
        m, v = 0.5 * m + 0.5 * gradient, 0.999 * v + 0.001 * gradient**2
        weights -= 0.01 * (m / (1 - 0.5**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    np.testing.assert_allclose(network.get_weights()[0], weights, rtol=1e-4)


# -------------------------------------------------------------------------------------------------------------- data


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Paths of seven 40x40 pairs, each with its own red value, in which B equals A."""
    folder, paths = tmp_path_factory.mktemp("pairs"), []
    for index in range(7):
        half = np.random.default_rng(index).integers(0, 255, (40, 40, 3), np.uint8)
        half[..., 0] = 30 * index
        paths.append(str(save_image(folder / f"{index}.png", np.hstack([half, half]))))
    return paths


DOMAIN = pix2pix.Domain()
PAIRS = pix2pix.Pairs(DOMAIN, DOMAIN, {})


def draw(paths, count, start=0, seed=0, batch_size=1, cache_mb=1024, flip=True):
    """Batches of random_batches(): [count, batch_size, 32, 32, 6]."""
    settings = {"scale": (40, 40), "crop": (32, 32), "batch_size": batch_size, "flip": flip}
    settings |= {"seed": seed, "start": start, "cache_mb": cache_mb}
    batches = pix2pix.random_batches(paths, PAIRS, **settings)
    return np.stack(list(batches.take(count).as_numpy_iterator()))


def numbers(batches):
    """Which pair each batch of one shows."""
    return np.rint((batches[:, 0, 0, 0, 0] + 1) * 127.5 / 30).astype(int).tolist()


def test_an_epoch_shows_every_image_once_in_a_new_order(pairs):
    order = numbers(draw(pairs, 21))
    epochs = [order[i : i + 7] for i in (0, 7, 14)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_orders_do_not_repeat_after_256_epochs_or_seeds(pairs):
    """TensorFlow's index_shuffle uses only 8 bits of each seed."""

    def orders(seed, epoch):  # of 3 epochs: there are 5,040 orders of one
        return numbers(draw(pairs, 21, start=7 * epoch, seed=seed, flip=False))

    first = orders(0, 0)
    assert first == orders(0, 0)
    assert all(first != other for other in (orders(0, 256), orders(256, 0), orders(2**30, 0)))


def draw_orders(count, epochs, seed=0, version=2, start=0):
    """The orders of `count` images in some epochs, from epoch `start` on: [epochs, count]."""

    def order_of(epoch):
        positions = [epoch * count + place for place in range(count)]
        return tf.stack([pix2pix.shuffled_index(position, count, seed, version) for position in positions])

    orders = tf.data.Dataset.range(start, start + epochs).map(order_of, tf.data.AUTOTUNE).batch(epochs)
    return pix2pix.with_own_threads(orders).get_single_element().numpy()


@pytest.mark.parametrize(
    ("seed", "epochs"), [(0, 2000), pytest.param(1, 6000, marks=pytest.mark.more), (2**32 - 1, 2000)]
)
def test_all_orders_are_equally_frequent(seed, epochs):
    """The 120 orders of five images.

    Chi square has 119 degrees of freedom: a mean of 119 and a deviation of 15. In 6,000 epochs with seeds 0 to 7 it was
    101 to 120, in version 1 128 to 192.
    """
    orders = draw_orders(5, epochs, seed)
    assert (np.sort(orders, 1) == np.arange(5)).all()  # each epoch is a permutation
    _, counts = np.unique(orders, axis=0, return_counts=True)
    expected = epochs / 120
    assert len(counts) == 120
    assert 60 < (np.square(counts - expected) / expected).sum() < 180


def test_there_are_more_orders_than_the_65536_of_version_1():
    """Of ten images there are 3.6 million. Where all can be drawn, hardly any of 1,500 epochs has the order of an
    earlier one; of 65,536, 17 epochs have it by chance."""
    repeated = {version: 1500 - len(np.unique(draw_orders(10, 1500, 5, version), axis=0)) for version in (1, 2)}
    assert repeated[2] < 4 and repeated[1] > 5, repeated


ORDERS = [  # version, images, seed, first epoch, three epochs
    (1, 7, 0, 0, [[1, 5, 0, 6, 2, 3, 4], [5, 6, 3, 0, 4, 1, 2], [3, 4, 1, 2, 0, 6, 5]]),
    (1, 7, 3, 300, [[0, 5, 2, 1, 4, 6, 3], [4, 3, 5, 1, 0, 6, 2], [3, 1, 6, 4, 5, 0, 2]]),
    (1, 5, 2**32 - 1, 123_456, [[2, 0, 3, 4, 1], [2, 4, 1, 0, 3], [2, 0, 4, 3, 1]]),
    (1, 2, 1, 0, [[0, 1], [1, 0], [0, 1]]),
    (2, 7, 0, 0, [[6, 2, 3, 0, 1, 4, 5], [1, 5, 3, 4, 2, 6, 0], [4, 1, 2, 0, 3, 6, 5]]),
    (2, 7, 3, 300, [[4, 3, 1, 2, 5, 6, 0], [6, 4, 5, 1, 3, 0, 2], [6, 5, 0, 2, 4, 3, 1]]),
    (2, 5, 2**32 - 1, 123_456, [[0, 3, 1, 2, 4], [4, 1, 0, 3, 2], [1, 4, 0, 3, 2]]),
    (2, 2, 1, 0, [[1, 0], [1, 0], [1, 0]]),
]


@pytest.mark.parametrize(("version", "count", "seed", "start", "expected"), ORDERS)
def test_orders_stay_what_they_were(version, count, seed, start, expected):
    """A training goes on with the order that it began with: version 1 is that of release 1.0."""
    assert draw_orders(count, 3, seed, version, start).tolist() == expected


def test_batches_depend_on_seed_and_step_only(pairs):
    whole = draw(pairs, 12)
    np.testing.assert_array_equal(draw(pairs, 5, start=7), whole[7:])
    np.testing.assert_array_equal(draw(pairs, 12, cache_mb=0), whole)
    np.testing.assert_array_equal(draw(pairs, 4, batch_size=3).reshape(whole.shape), whole)
    assert not np.array_equal(draw(pairs, 12, seed=1), whole)


def test_both_halves_of_a_pair_get_the_same_crop_and_flip(pairs):
    images = draw(pairs, 14)
    np.testing.assert_array_equal(images[..., :3], images[..., 3:])
    again = draw(pairs, 14, flip=False)
    mirrored = [bool((a[0, :, ::-1] == b[0]).all()) for a, b in zip(images, again, strict=True)]
    same = [bool((a == b).all()) for a, b in zip(images, again, strict=True)]
    assert any(mirrored)
    assert any(same)
    assert all(a != b for a, b in zip(mirrored, same, strict=True))


def test_one_image_is_enough(pairs):
    assert draw(pairs[:1], 3, batch_size=2).shape == (3, 2, 32, 32, 6)


def test_resize_is_bicubic_as_in_pillow(pairs):
    image = pix2pix.read_image(pairs[3])
    for size in ((64, 50), (20, 33)):
        expected = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)).astype(int)
        resized = pix2pix.resize(image, size)
        assert resized.dtype == np.uint8 and np.abs(resized - expected).max() <= 1
        np.testing.assert_array_equal(pix2pix.read_image(pairs[3], size), resized)


def test_pairs_are_read_in_six_channels(tmp_path):
    """A in the first three, B in the others; each half is resized by itself, so that no colour crosses the seam."""
    a, b = np.random.default_rng(0).integers(0, 256, (2, 24, 30, 3), np.uint8)
    path = save_image(tmp_path / "pair.png", np.hstack([a, b]))
    np.testing.assert_array_equal(PAIRS.read(path), np.concatenate([a, b], -1))
    size = (20, 50)
    expected = np.concatenate([pix2pix.resize(half, size) for half in (a, b)], -1)
    np.testing.assert_array_equal(PAIRS.read(path, size), expected)


@pytest.mark.parametrize(("direction", "first"), [("AtoB", 0), ("BtoA", 3)])
def test_the_direction_says_which_half_is_the_input(direction, first):
    model = make_model(training=False, which_direction=direction, crop_size="32")
    images = np.random.default_rng(0).uniform(-1, 1, [2, 8, 8, 6]).astype(np.float32)
    inputs, targets = model.inputs_and_targets(images)
    np.testing.assert_array_equal(inputs, images[..., first : first + 3])
    np.testing.assert_array_equal(targets, images[..., 3 - first : 6 - first])


def test_batches_are_pairs_and_for_lab_single_images(pairs):
    for is_lab, channels in ((False, 6), (True, 3)):
        model = make_model(training=False, lab_colorization=is_lab, crop_size="32", scale_size="40", batch_size=2)
        (batch,) = model.batches({"images": pairs}, 0).take(1)
        assert batch.shape == (2, 32, 32, channels) and batch.dtype == tf.float32
        assert -1 <= batch.numpy().min() < batch.numpy().max() <= 1


@pytest.mark.parametrize("version", [1, 2])
def test_batches_have_the_order_of_the_version(pairs, version):
    model = make_model(training=False, crop_size="32", scale_size="40", version=version)
    batches = np.stack(list(model.batches({"images": pairs}, 7).take(14).as_numpy_iterator()))
    assert numbers(batches) == draw_orders(7, 2, 0, version, start=1).ravel().tolist()


# --------------------------------------------------------------------------------------------------------------- Lab

# colours, with what rgb2lab and lab2rgb of scikit-image 0.26.0 give for them
RGB = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [128, 128, 128],
                [10, 10, 10], [3, 200, 77], [250, 128, 114], [75, 0, 130], [1, 2, 3], [255, 250, 205]])  # fmt: skip
LAB_OF_RGB = np.array([
    [0, 0, 0], [100, -0.0025, 0.0047], [53.2406, 80.0923, 67.2028], [87.7351, -86.183, 83.1797],
    [32.2957, 79.1856, -107.8573], [53.585, -0.0015, 0.0028], [2.7417, -0.0002, 0.0003], [70.7751, -66.8977, 48.816],
    [67.264, 45.2255, 29.0965], [20.4689, 51.6846, -53.3105], [0.5098, -0.1225, -0.4705],
    [97.6483, -5.4287, 22.2377]])  # fmt: skip
LAB = np.array([[50, 80, -100], [90, -100, 100], [10, 5, -30], [1, 1, 1], [70, 20, 20], [100, 50, 50]], np.float32)
RGB_OF_LAB = np.array([[0.53403, 0.23194, 1], [0, 1, 0], [0, 0.11014, 0.26867], [0.02903, 0.01087, 0.00493],
                       [0.85419, 0.61546, 0.53296], [1, 0.83725, 0.62785]])  # fmt: skip


def test_lab_on_stored_colours():
    np.testing.assert_allclose(pix2pix.rgb_to_lab(np.float32(RGB / 255)), LAB_OF_RGB, atol=1e-3)
    np.testing.assert_allclose(pix2pix.lab_to_rgb(LAB), RGB_OF_LAB, atol=1e-3)


def test_lab_is_that_of_scikit_image():
    color = pytest.importorskip("skimage.color", reason="scikit-image is not installed")
    rgb = np.stack(np.meshgrid(*[np.linspace(0, 1, 18)] * 3), -1).astype(np.float32)
    np.testing.assert_allclose(pix2pix.rgb_to_lab(rgb), color.rgb2lab(rgb), atol=1e-3)
    np.testing.assert_allclose(pix2pix.lab_to_rgb(color.rgb2lab(rgb).astype(np.float32)), rgb, atol=1e-3)


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_lightness_and_colour_together_are_the_image(direction):
    model = make_model(training=False, lab_colorization=True, which_direction=direction, crop_size="32")
    rgb = np.random.default_rng(0).uniform(-1, 1, [1, 8, 8, 3]).astype(np.float32)
    inputs, targets = model.inputs_and_targets(rgb)
    assert (inputs.shape[-1], targets.shape[-1]) == ((1, 2) if direction == "AtoB" else (2, 1))
    assert max(np.abs(inputs).max(), np.abs(targets).max()) <= 1
    np.testing.assert_allclose(model.to_fractions(inputs, targets), (rgb + 1) / 2, atol=1e-3)


# ----------------------------------------------------------------------------------------------------------- windows


@pytest.mark.parametrize("shape", [(64, 64), (70, 33), (5, 200), (131, 257), (1, 1), (300, 40)])
@pytest.mark.parametrize("window, overlap", [(32, 0.5), (64, 0.5), (64, 0.25), (64, 0.1)])
def test_windows_join_exactly(shape, window, overlap):
    images = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), np.uint8)
    seen = []

    def identity(part):
        seen.append(part.shape)
        assert part.shape[1] % 32 == part.shape[2] % 32 == 0
        return part.astype(np.float32) / 255

    result = pix2pix.translate_windows(identity, images, window, 32, DOMAIN, overlap=overlap)
    np.testing.assert_array_equal(result, images)
    assert all(len(part) == 4 and max(part) <= window for part in seen)


def test_windows_of_different_brightness_leave_no_seam():
    calls = []

    def alternate(part):  # neighbours differ by a quarter of the range
        calls.append(0)
        return np.full(part.shape, 0.25 * (len(calls) % 2), np.float32)

    result = pix2pix.translate_windows(alternate, np.zeros((1, 64, 512, 3), np.uint8), 64, 32, DOMAIN).astype(float)
    assert len(calls) > 8
    assert np.abs(np.diff(result, axis=2)).max() < 0.1 * 0.25 * 255


def test_memory_does_not_grow_with_the_image():
    def peak(height):
        image = np.zeros((1, height, 256, 3), np.uint8)
        tracemalloc.start()
        pix2pix.translate_windows(lambda part: part.astype(np.float32), image, 128, 32, DOMAIN)
        peak = tracemalloc.get_traced_memory()[1] - 2 * image.nbytes  # a padded copy, and the result
        tracemalloc.stop()
        return peak

    assert peak(4096) < 1.1 * peak(1024)


# ----------------------------------------------------------------------------------------------------------- PyTorch


def make_both(halvings):
    """Our model with 8 filters, without dropout, and {name: the same network in PyTorch}, with equal random weights."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    size = str(2**halvings)
    model, modules = make_model(ngf=8, ndf=8, crop_size=size, scale_size=size, lr=2e-5), {}
    parity.without_dropout(model.generator)
    for seed, (name, kind) in enumerate({"generator": f"unet-{halvings}", "discriminator": "conditional"}.items()):
        modules[name] = parity.randomise(parity.build_reference(kind, 8), seed)
        parity.fill(model.networks[name], parity.parameters(modules[name]))
    return model, modules


@pytest.mark.parametrize(("size", "batch_size"), [((64, 64), 2), ((256, 256), 1), ((64, 192), 1)])
def test_forward_pass_as_in_pytorch(size, batch_size):
    model, modules = make_both(pix2pix.count_halvings(size))
    x = parity.draw_images(0, batch_size, *size, 6)
    for network, images in (("generator", x[..., :3]), ("discriminator", x)):
        expected = parity.run_reference(modules[network], images)
        assert expected.std() > 0.1
        np.testing.assert_allclose(model.networks[network](images, training=True), expected, atol=1e-4)


def test_ten_training_steps_as_in_pytorch():
    """With larger weights and smaller steps than the paper's, whose small gradients rounding can turn over.

    Measured with seeds 0 to 4, AVX512 and AVX2: losses differ by up to 2e-5, weights by up to 0.07 of their way.
    """
    model, modules = make_both(6)
    reference = parity.load_reference().Pix2Pix(*modules.values(), lr=2e-5)
    start = {name: network.get_weights() for name, network in model.networks.items()}
    for step in range(10):
        a, b = parity.draw_images(step, 2, 1, 64, 64, 3)
        expected = reference.train_step(parity.to_torch(a), parity.to_torch(b))
        pair = tf.concat([a, b], -1)
        losses = model.train_step(tf.constant(step, tf.int64), pair).numpy()
        assert dict(zip(model.losses, losses, strict=True)) == pytest.approx(expected, rel=1e-3), step
    for name, network in model.networks.items():
        apart, moved = parity.distances(network, modules[name], start[name])
        assert apart < 0.25 * moved  # 0.5 with twice the learning rate


@pytest.mark.parametrize("use_bias", [False, True])
def test_resized_convolution_is_resizing_and_a_convolution(use_bias):
    """Its result, and the gradients of its weights and of its input. An image of one pixel works too."""
    options = {"padding": "same", "use_bias": use_bias, "bias_initializer": "random_normal"}
    ours = pix2pix.ResizedConv(5, 3, **options)
    right = keras.Sequential([keras.layers.UpSampling2D(2), keras.layers.Conv2D(5, 3, **options)])
    for size in ((1, 1), (1, 4), (6, 5)):
        x = tf.constant(np.random.default_rng(0).normal(size=[2, *size, 4]), tf.float32)
        right(x), ours(x)
        ours.set_weights(right.get_weights())
        results = []
        for layer in (ours, right):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x)
                loss = tf.reduce_sum(y**3)  # each pixel has a gradient of its own
            results.append([y, *tape.gradient(loss, [x, *layer.trainable_variables])])
        assert results[0][0].shape == (2, 2 * size[0], 2 * size[1], 5)
        for found, expected in zip(*results, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("upsample", ["transpose", "resize"])
def test_grain_ends_the_pattern_on_an_empty_image(upsample):
    """The middle of a flat image repeats itself every 64 pixels; with grain it does not, once the weights are not 0."""
    image = np.full([1, 64, 1024, 3], 0.3, np.float32)
    plain, grainy = (pix2pix.build_generator(6, ngf=4, upsample=upsample, grain=grain) for grain in (False, True))
    named = {weight.path: weight for weight in plain.weights}
    for weight in grainy.weights:
        if "grain" not in weight.path:
            weight.assign(named[weight.path] * 3)
    plain.set_weights([weight * 3 for weight in plain.get_weights()])
    np.testing.assert_array_equal(grainy(image), plain(image))  # the weights of the grain begin at 0

    def change_after_64_pixels(network):
        output = network(image)[0].numpy()
        return np.abs(output[:, 448:512] - output[:, 512:576]).mean() / output.std()

    assert change_after_64_pixels(plain) < 0.01
    for weight in grainy.weights:
        if "grain" in weight.path:
            weight.assign(tf.fill(weight.shape, 0.5))
    assert change_after_64_pixels(grainy) > 0.1
    assert sum("grain" in weight.path for weight in grainy.weights) == 4


@pytest.mark.parametrize("seed", range(3))
def test_resized_upsampling_has_no_checkerboard(seed):
    """New networks on a flat image: the share of the finest waves, of 2 pixels, is 2.1 to 3.2 times the mean of all
    others with transposed convolutions, 0.2 to 0.4 with resized ones (four seeds)."""
    tf.keras.utils.set_random_seed(seed)
    image, share, parameters = np.full([1, 64, 64, 3], 0.3, np.float32), {}, {}
    for upsample in ("transpose", "resize"):
        network = pix2pix.build_generator(6, ngf=8, upsample=upsample)
        output = network(image)[0, 16:48, 16:48].numpy()
        waves = np.abs(np.fft.rfft(output - output.mean((0, 1)), axis=1)).mean((0, 2))
        share[upsample], parameters[upsample] = waves[-1] / waves[1:-1].mean(), network.count_params()
    assert share["resize"] < 0.8 < 1.2 < share["transpose"], share
    assert parameters["resize"] < parameters["transpose"]  # 9 weights instead of 16 for a pair of channels
