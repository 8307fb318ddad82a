"""What cut.py has and cyclegan.py has not: antialiased networks, the contrastive loss, the places it draws, mirrored
inputs, the order of a step; one and ten training steps as in PyTorch."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import SCRIPTS, patch_size
from reference import parity
from reference.parity import draw_images

import cut


def make_model(training=True, **changes):
    """CUT with the smallest networks, with changes of the flags."""
    return cut.CUT(SCRIPTS["cut"].options(**{"flip_equivariance": False, "n_blocks": 1, **changes}), training)


def step_eagerly(model, real_A, real_B, step=0):
    """One training step, not compiled. Returns {name: loss}."""
    images = tf.constant(real_A), tf.constant(real_B)
    losses = cut.CUT.train_step(model, tf.constant(step, tf.int64), images).numpy()
    return dict(zip(model.losses, losses.tolist(), strict=True))


@pytest.fixture(autouse=True)
def repeatable():
    keras.utils.set_random_seed(0)


# ---------------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("antialias", [True, False])
def test_parameters_are_those_of_the_authors_code(antialias):
    assert cut.build_generator(9, antialias=antialias).count_params() == 11_378_179
    assert cut.build_generator(9, antialias=antialias, separable=True).count_params() == 1_982_467
    discriminator = cut.build_discriminator(antialias=antialias)
    assert discriminator.count_params() == 2_764_737
    assert discriminator.compute_output_shape((1, 256, 256, 3)) == (1, 30, 30, 1)
    assert cut.build_heads([3, 128, 256, 256, 256]).count_params() == sum(
        (width + 1) * 256 + 257 * 256 for width in (3, 128, 256, 256, 256)
    )


@pytest.mark.parametrize(("antialias", "pixels"), [(True, 84), (False, 70)])
def test_patches_have_the_size_in_the_docs(antialias, pixels):
    """Without norm layers, which see the whole image."""
    discriminator = cut.build_discriminator(3, 2, antialias, norm=keras.layers.Identity)
    assert patch_size(discriminator) == (pixels, pixels)


def test_image_keeps_its_size():
    for antialias in (True, False):
        generator = cut.build_generator(1, 2, antialias)
        for size in ((8, 8), (36, 100)):
            assert generator(tf.zeros([1, *size, 3])).shape == (1, *size, 3)


def test_weights_start_as_in_the_authors_code():
    """Xavier's normal distribution with a gain of 0.02; biases 0."""
    for network in (cut.build_generator(1, 16), cut.build_discriminator(3, 16), cut.build_heads([3, 32])):
        for weight in network.weights:
            *size, fan_in, fan_out = (1, 1, *weight.shape)[-4:] if len(weight.shape) > 1 else (0, 0, 0)
            expected = 0.02 * np.sqrt(2 / max(1, np.prod(size) * (fan_in + fan_out)))
            if weight.path.endswith("bias"):
                assert not weight.numpy().any()
            else:
                assert weight.numpy().std() == pytest.approx(expected, rel=0.1), weight.path


@pytest.mark.parametrize("size", [(8, 6), (7, 9)])
def test_halving_blurs_by_121(size):
    """At even and odd sides, with reflection; the doubling is bilinear."""
    x = draw_images(0, 2, *size, 3)
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], "reflect")
    expected = 0
    for row, factor in enumerate((1, 2, 1)):
        for column, other in enumerate((1, 2, 1)):
            shifted = padded[:, row : row + size[0], column : column + size[1]]
            expected = expected + factor * other / 16 * shifted[:, ::2, ::2]
    np.testing.assert_allclose(cut.blur(cut.reflect(x, 1), "x", 2), expected, atol=1e-6)


def test_doubling_is_bilinear():
    generator = cut.build_generator(0, 2)
    part = keras.Model(generator.get_layer("up_2_nearest").input, generator.get_layer("up_2_blur").output)
    x = draw_images(0, 2, 5, 6, 8)
    np.testing.assert_allclose(part(x), tf.image.resize(x, [10, 12], "bilinear"), atol=1e-6)


@pytest.mark.parametrize("antialias", [True, False])
def test_serving_model_gives_what_training_does(antialias):
    """Its norm is another layer, and it takes several images at once."""
    model = make_model(training=False, which_direction="BtoA", antialias=antialias)
    for network in model.networks.values():
        for weight in network.weights:
            weight.assign(np.random.default_rng(0).normal(0, 0.2, weight.shape))
    images = np.random.default_rng(0).integers(0, 256, [5, 40, 32, 3], np.uint8)
    expected = np.concatenate([model.translate["BtoA"](image[None]) for image in images]) * 255
    assert expected.std() > 20
    served = model.build_serving_model()(images).numpy()
    assert served.dtype == np.uint8 and np.abs(served - expected).max() <= 1


# -------------------------------------------------------------------------------------------------- contrastive loss


def nce_by_hand(queries, keys):
    """As in the paper: the positive first, then the negatives, where the diagonal is -10."""
    queries, keys = (np.float64(x) for x in (queries, keys))
    queries, keys = (x / (np.linalg.norm(x, axis=-1, keepdims=True) + 1e-7) for x in (queries, keys))
    losses = []
    for query, key in zip(queries, keys, strict=True):
        negatives = query @ key.T
        positives = np.diag(negatives)[:, None].copy()
        np.fill_diagonal(negatives, -10)
        logits = np.concatenate([positives, negatives], 1) / 0.07
        losses.append(np.mean(np.log(np.exp(logits).sum(1)) - logits[:, 0]))
    return losses


def test_patch_nce_by_hand():
    """Of a batch of three, whose images do not see each other; equal features give 0, a flat image no NaN."""
    draw = np.random.default_rng(0)
    queries, keys = np.float32(draw.normal(size=[2, 3, 20, 16]))
    np.testing.assert_allclose(cut.patch_nce(queries, keys), nce_by_hand(queries, keys), rtol=1e-5)
    queries = tf.Variable(np.concatenate([np.float32(100 * np.eye(20, 16)[None]), np.zeros([1, 20, 16], np.float32)]))
    keys = tf.Variable(queries)
    with tf.GradientTape() as tape:
        losses = cut.patch_nce(queries[:, :16], keys[:, :16])
    np.testing.assert_allclose(losses, [np.log(1 + 15 * np.exp(-1 / 0.07)), np.log(16)], atol=1e-5)
    gradients = tape.gradient(losses, [queries, keys])
    assert np.isfinite(gradients[0]).all() and gradients[1] is None  # keys are constants


def test_places_are_different_pixels_and_depend_on_the_seed():
    maps = np.zeros([3, 20, 30, 1], np.float32)
    places = cut.random_places(256, maps, [0, 1]).numpy()
    assert places.shape == (3, 256) and places.min() >= 0 and places.max() < 600
    assert all(len(set(row)) == 256 for row in places.tolist()) and (places[0] != places[1]).any()
    np.testing.assert_array_equal(cut.random_places(256, maps, [0, 1]), places)
    assert (cut.random_places(256, maps, [0, 2]).numpy() != places).any()
    few = cut.random_places(256, maps[:, :4, :5], [0, 1]).numpy()
    assert (np.sort(few) == np.arange(20)).all()
    many = np.concatenate([cut.random_places(60, maps, [0, seed]).numpy().ravel() for seed in range(100)])
    assert np.bincount(many, minlength=600).std() < 2 * np.sqrt(30)  # uniform: 30 of each, as Poisson's


def test_take_and_mirrored_take():
    maps, places = draw_images(0, 2, 5, 7, 4), cut.random_places(9, np.zeros([2, 5, 7, 1]), [0, 0])
    expected = np.stack([image.reshape(35, 4)[where] for image, where in zip(maps, places.numpy(), strict=True)])
    np.testing.assert_array_equal(cut.take(maps, places), expected)
    np.testing.assert_array_equal(cut.take(maps[:, :, ::-1], places, mirror=True), expected)
    for mirror, given in ((False, maps), (True, maps[:, :, ::-1])):
        found = cut.take_all([given, 2 * given], [places, places[:, :4]], mirror)
        np.testing.assert_array_equal(found[0], expected)
        np.testing.assert_array_equal(found[1], 2 * expected[:, :4])


def test_vectors_are_divided_by_their_lengths():
    """As PyTorch's Normalize in the authors' code: those of nearly no length stay short, and have a gradient."""
    vectors = tf.Variable([[3.0, 4.0], [0.0, 0.0], [3e-8, 4e-8]])
    with tf.GradientTape() as tape:
        units = cut.to_unit_length(vectors)
    np.testing.assert_allclose(units, [[0.6, 0.8], [0, 0], [0.2, 4 / 15]], rtol=1e-4)
    assert np.isfinite(tape.gradient(units, vectors)).all()


def test_places_of_a_step_are_those_of_its_features():
    """All different, new ones in each step and for each of the feature maps."""
    model = make_model(batch_size=2)
    maps = [np.zeros([4, 20, 30, 1], np.float32)] * 2 + [np.zeros([4, 3, 5, 1], np.float32)]
    first, again, other = (model.draw_places(tf.constant(step, tf.int64), maps, 2) for step in (7, 7, 8))
    assert [where.shape for where in first] == [(4, 256), (4, 256), (4, 15)]
    for one, two, three in zip(first[:2], again, other, strict=False):
        np.testing.assert_array_equal(one, two)
        assert (one.numpy() != three.numpy()).any()
        assert all(len(set(row)) == 256 for row in one.numpy().tolist())
    assert (first[0].numpy() != first[1].numpy()).any()


@pytest.mark.parametrize(("flag", "share"), [(False, 0.0), (True, 0.5)])
def test_half_of_the_steps_mirror_their_inputs(flag, share):
    model = make_model(flip_equivariance=flag)
    mirrored = [bool(model.draw_mirror(tf.constant(step, tf.int64))) for step in range(400)]
    assert abs(np.mean(mirrored) - share) < (0.1 if flag else 1e-9)


# -------------------------------------------------------------------------------------------------------------- a step


def test_compared_features():
    """The padded image, both convolutions of the halvings before their norm, blocks 1 and 5 if there are as many."""
    for n_blocks, blocks in ((2, ["block_1_skip"]), (5, ["block_1_skip", "block_5_skip"])):
        model = make_model(n_blocks=n_blocks, ngf=2, ndf=2)
        x, network = draw_images(0, 1, 32, 48, 3), model.networks["generator_AtoB"]
        names = ["down_1", "down_2", *blocks]
        outputs = keras.Model(network.input, [network.get_layer(name).output for name in names])(x)
        found = model.encode(x)
        assert [f.shape[1:] for f in found[1:3]] == [(32, 48, 4), (16, 24, 8)]  # before the blur
        padded = np.pad(x, [(0, 0), (3, 3), (3, 3), (0, 0)], "reflect")
        for feature, expected in zip(found, [padded, *outputs], strict=True):
            np.testing.assert_array_equal(feature, expected)
        assert len(model.networks["heads"].outputs) == len(found)


@pytest.mark.parametrize(("direction", "identity"), [("AtoB", True), ("BtoA", False)])
def test_losses_are_those_of_the_right_images(direction, identity):
    """D sees real images of the target and old fakes; G's loss is by the D of after its step; the keys are the inputs'
    features by the generator of before. One step as it is, one with mirrored inputs."""
    model = make_model(which_direction=direction, nce_identity=identity, batch_size=2, flip_equivariance=True, lr=0.01)
    generator, discriminator, heads = model.networks.values()
    mirrored = []
    for step in range(20):
        a, b = draw_images(step, 2, 2, 32, 32, 3)
        source, target = (a, b) if direction == "AtoB" else (b, a)
        inputs = np.concatenate([source, target]) if identity else source
        places, mirror = parity.drawn_by(model, step, (source, target))
        if mirror in mirrored:
            continue
        given = inputs[:, :, ::-1] if mirror else inputs
        outputs = generator(given).numpy()
        square = lambda x: np.square(x).mean()  # noqa: E731
        expected = {"discrim": (square(discriminator(target) - 1) + square(discriminator(outputs[:2]))) / 2}
        queries, keys = ([feature.numpy() for feature in model.encode(x)] for x in (outputs, inputs))
        queries = [query[:, :, ::-1] for query in queries] if mirror else queries
        queries, keys = (
            heads([cut.take(feature, tf.constant(where)) for feature, where in zip(maps, places, strict=True)])
            for maps in (queries, keys)
        )
        each = [nce_by_hand(query.numpy(), key.numpy()) for query, key in zip(queries, keys, strict=True)]
        nce = np.mean(each, 0)
        losses = step_eagerly(model, a, b, step)
        expected |= {"gan": square(discriminator(outputs[:2]) - 1), "nce": nce[:2].mean()}
        expected["nce_identity"] = nce[2:].mean() if identity else 0
        assert losses == pytest.approx(expected, rel=2e-3, abs=1e-6), step
        mirrored.append(mirror)
    assert set(mirrored) == {False, True}


def test_each_loss_changes_its_own_networks_only():
    """D's loss D alone, the adversarial loss G alone, the contrastive loss G and the heads."""
    model, (a, b) = make_model(), draw_images(0, 2, 1, 32, 32, 3)
    for weights, expected in (
        ((0, 0), {"discriminator"}),
        ((1, 0), {"discriminator", "generator_AtoB"}),
        ((0, 1), {"discriminator", "generator_AtoB", "heads"}),
    ):
        model.args.gan_weight, model.args.nce_weight = weights
        model.optimizers["generator"].learning_rate = 0.01
        for variable in model.optimizers["generator"].variables[2:]:  # no momentum of the step before
            variable.assign(tf.zeros_like(variable))
        before = {name: network.get_weights() for name, network in model.networks.items()}
        step_eagerly(model, a, b)
        after = {name: network.get_weights() for name, network in model.networks.items()}
        changed = {n for n in before if any((x != y).any() for x, y in zip(before[n], after[n], strict=True))}
        assert changed == expected, weights


# ------------------------------------------------------------------------------------------------------------- PyTorch


@pytest.mark.parametrize(("batch_size", "size"), [(1, (64, 64)), (2, (32, 96))])
def test_networks_as_in_pytorch(batch_size, size):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    for name in ("cut-2", "cutgan-3", "cutgan-1"):
        network, module = parity.build(name, 8), parity.randomise(parity.build_reference(name, 8))
        parity.fill(network, parity.parameters(module))
        x = draw_images(0, batch_size, *size, 3)
        expected = parity.run_reference(module, x)
        assert expected.std() > 0.05
        np.testing.assert_allclose(network(x), expected, atol=1e-4)


def test_patch_nce_as_in_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    queries, keys = np.float32(np.random.default_rng(0).normal(size=[2, 3, 40, 256]))
    expected = parity.load_reference().patch_nce(torch.tensor(queries), torch.tensor(keys))
    np.testing.assert_allclose(cut.patch_nce(queries, keys), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "in_pytorch"),
    [
        ({}, {}),
        ({"flip_equivariance": True, "nce_identity": False, "nce_weight": 10.0}, {"nce": 10.0, "identity": False}),
    ],
    ids=["CUT", "FastCUT"],
)
def test_ten_training_steps_as_in_pytorch(changes, in_pytorch):
    """From equal weights, at equal places, with larger weights and smaller steps than the paper's."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    model = make_model(lr=2e-5, n_blocks=5, **changes)
    modules = {
        n: parity.build_reference(k, 4) for n, k in zip(model.networks, ["cut-5", "cutgan-3", "heads-5"], strict=True)
    }
    for seed, (name, network) in enumerate(model.networks.items()):
        parity.fill(network, parity.parameters(parity.randomise(modules[name], seed)))
    reference = parity.load_reference().Cut(*modules.values(), lr=2e-5, **in_pytorch)
    start = {name: network.get_weights() for name, network in model.networks.items()}
    for step in range(10):
        a, b = draw_images(step, 2, 1, 32, 32, 3)
        expected = reference.train_step(parity.to_torch(a), parity.to_torch(b), *parity.drawn_by(model, step, (a, b)))
        losses = model.train_step(tf.constant(step, tf.int64), (tf.constant(a), tf.constant(b))).numpy()
        near = pytest.approx(expected, rel=1e-3 if step else 1e-5)
        assert dict(zip(model.losses, losses, strict=True)) == near, step
    for name, network in model.networks.items():
        apart, moved = parity.distances(network, modules[name], start[name])
        assert apart < 0.1 * moved, name
