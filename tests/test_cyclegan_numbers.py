"""The parts of cyclegan.py by their numbers: networks, norm, losses, who judges and translates what, the pool of past fakes,
data order, and training steps beside PyTorch."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import patch_size, save_picture

import cyclegan


def options(**changes):
    """The default flags as a namespace, with small networks, and with changes."""
    cyclegan.FLAGS.unparse_flags()
    cyclegan.FLAGS(["cyclegan.py"])
    small = {"seed": 0, "ngf": 4, "ndf": 4, "n_blocks": 1, "crop_size": "32", "scale_size": "32", "pool_size": 0}
    return SimpleNamespace(**{**cyclegan.FLAGS.flag_values_dict(), **small, **changes})


@pytest.fixture(autouse=True)
def float32():
    keras.config.set_dtype_policy("float32")
    keras.utils.set_random_seed(0)


def step_eagerly(model, real_A, real_B, step=0):
    """One training step, not compiled. Returns {name: loss}."""
    images = tf.constant(real_A), tf.constant(real_B)
    losses = cyclegan.CycleGAN.train_step(model, tf.constant(step, tf.int64), images).numpy()
    return dict(zip(model.losses, losses.tolist(), strict=True))


def draw_images(seed, *shape):
    return np.random.default_rng(seed).uniform(-1, 1, [2, *shape]).astype(np.float32)


# ---------------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize(
    ("n_blocks", "upsample", "parameters"),
    [(9, "transpose", 11_378_179), (6, "transpose", 7_837_699), (6, "resize", 7_837_699)],
)
def test_resnet_has_the_parameters_of_the_reference(n_blocks, upsample, parameters):
    assert cyclegan.build_resnet(n_blocks, upsample=upsample).count_params() == parameters


@pytest.mark.parametrize(
    ("n_layers", "parameters", "patches"), [(3, 2_764_737, 30), (5, 11_154_369, 6), (1, 136_385, 126), (0, 8_705, 256)]
)
def test_patchgan_has_the_parameters_and_the_patches_of_the_reference(n_layers, parameters, patches):
    discriminator = cyclegan.build_patchgan(n_layers)
    assert discriminator.count_params() == parameters
    assert discriminator.compute_output_shape((1, 256, 256, 3)) == (1, patches, patches, 1)
    small = cyclegan.build_patchgan(n_layers, ndf=1)
    assert small(tf.zeros([1, 256, 256, 3])).shape == (1, patches, patches, 1)


@pytest.mark.parametrize("upsample", ["transpose", "resize"])
def test_resnet_gives_the_size_it_gets(upsample):
    generator = cyclegan.build_resnet(1, 2, upsample)
    for size in ((8, 8), (32, 32), (36, 100), (64, 12)):
        assert generator(tf.zeros([1, *size, 3])).shape == (1, *size, 3)


def test_patchgan_sees_70_pixels():
    # norm layers see the whole picture, so they are left out of this
    assert patch_size(cyclegan.build_patchgan(3, 2, norm=keras.layers.Identity)) == (70, 70)


def test_weights_start_as_in_the_paper():
    networks = cyclegan.build_resnet(2, 16), cyclegan.build_resnet(1, 16, "resize"), cyclegan.build_patchgan(3, 16)
    for weight in [weight for network in networks for weight in network.weights]:
        values, name = weight.numpy(), weight.path.rsplit("/", 1)[-1]
        assert name in ("kernel", "bias")
        if name == "bias":
            assert not values.any(), weight.path
        else:
            assert abs(values.mean()) < 0.004 and abs(values.std() - 0.02) < 0.003, weight.path
    first, second = (networks[0].get_layer(f"block_{block}_1").kernel.numpy() for block in (1, 2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("batch_size", [1, 3, 6])  # 3 goes through the fused kernel, 6 through moments
def test_instance_norm_by_hand(batch_size):
    x = np.random.default_rng(0).normal(3, 2, [batch_size, 8, 6, 5]).astype(np.float32)
    x *= np.arange(1, batch_size + 1, dtype=np.float32).reshape(-1, 1, 1, 1)  # a norm over the batch would show
    expected = (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(cyclegan.InstanceNorm()(x), expected, atol=2e-5)
    flat = cyclegan.InstanceNorm()(np.full([batch_size, 8, 6, 5], 0.7, np.float32))
    np.testing.assert_allclose(flat, np.zeros_like(flat), atol=1e-3)


def test_instance_norm_of_a_batch_of_unknown_size():
    inputs = keras.Input((8, 8, 2))
    x = np.random.default_rng(0).normal(3, 2, [5, 8, 8, 2]).astype(np.float32)
    alone = [cyclegan.InstanceNorm()(picture[None])[0] for picture in x]
    norm = tf.function(keras.Model(inputs, cyclegan.InstanceNorm()(inputs)), input_signature=[tf.TensorSpec([None, 8, 8, 2])])
    np.testing.assert_allclose(norm(x), alone, atol=2e-5)


@pytest.mark.parametrize("batch_size", [1, 6])
def test_instance_norm_has_float32_statistics_in_mixed_precision(batch_size):
    keras.config.set_dtype_policy("mixed_bfloat16")
    x = tf.cast(np.random.default_rng(0).normal(100, 4, [batch_size, 32, 32, 3]), tf.bfloat16)  # bfloat16 steps here: 0.5
    y = cyclegan.InstanceNorm()(x)
    assert y.dtype == tf.bfloat16
    x = np.float32(x)
    expected = (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(np.float32(y), expected, rtol=0.01, atol=0.01)  # a mean of bfloat16 would be off by 0.05


@pytest.mark.parametrize("upsample", ["transpose", "resize"])
@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_serving_model_is_the_network_of_training(direction, upsample):
    """Its norm and crop are other layers, and it takes pictures together."""
    model = cyclegan.CycleGAN(options(which_direction=direction, upsample=upsample), training=False)
    for network in model.networks.values():
        last = network.get_layer("last").kernel
        last.assign(last * 10)  # or all pictures would be grey
    pictures = np.random.default_rng(0).integers(0, 256, [5, 40, 32, 3], np.uint8)
    expected = np.concatenate([model.translate[direction](picture[None]) for picture in pictures]) * 255
    assert expected.std() > 20
    served = model.build_serving_model()(pictures).numpy()
    assert served.dtype == np.uint8 and np.abs(served - expected).max() <= 1


# ------------------------------------------------------------------------------------------------------------ losses


def test_losses_on_numbers_done_by_hand():
    logits = np.array([[0.5, -1.0], [2.0, 0.0]], np.float32)
    squares = {1.0: (0.25 + 4 + 1 + 1) / 4, 0.0: (0.25 + 1 + 4 + 0) / 4}
    for label in (1.0, 0.0):
        assert float(cyclegan.gan_loss(tf.constant(logits), label, "lsgan")) == pytest.approx(squares[label], rel=1e-6)
        entropy = np.log1p(np.exp(-logits if label else logits)).mean()
        assert float(cyclegan.gan_loss(tf.constant(logits), label, "bce")) == pytest.approx(entropy, rel=1e-6)
    assert float(cyclegan.l1_loss(tf.constant([1.0, -1.0]), tf.constant([0.5, 1.0]))) == pytest.approx(1.25)


@pytest.mark.parametrize(
    ("decay_steps", "expected"),
    [
        (4, [1, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25]),
        (0, [1] * 10),
        (10, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        (1000, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),  # longer than the training: over all of it
    ],
)
def test_learning_rate_is_constant_then_falls_in_a_line(decay_steps, expected):
    rates = [cyclegan.decayed(2.0, step, 10, decay_steps) for step in range(10)]
    np.testing.assert_allclose(rates, 2 * np.array(expected), rtol=1e-9)


def test_learning_rate_of_the_paper():
    """100 epochs of 1337 steps as they are, 100 more down to 0."""
    total, decay = 200 * 1337, 100 * 1337
    rates = [cyclegan.decayed(2e-4, epoch * 1337, total, decay) for epoch in (0, 50, 100, 150, 199, 200)]
    np.testing.assert_allclose(rates, [2e-4, 2e-4, 2e-4, 1e-4, 2e-6, 0], atol=1e-12)


# ----------------------------------------------------------------------------------- who translates and judges what


class Line(keras.layers.Layer):
    """x => scale * x + shift, with weights to be trained."""

    def __init__(self, scale, shift):
        super().__init__()
        self.scale, self.shift = (self.add_weight(shape=(), initializer=keras.initializers.Constant(v)) for v in (scale, shift))

    def call(self, x):
        return self.scale * x + self.shift


LINES = {"AtoB": (0.6, 0.1), "BtoA": (-1.4, 0.3), "judge_A": (2.0, 0.2), "judge_B": (-0.5, 0.9)}  # no two commute


def model_of_lines(monkeypatch, **changes):
    """A CycleGAN whose networks are lines. Its optimisers move nothing, they record the gradients: returns both."""
    model, gradients = cyclegan.CycleGAN(options(crop_size="24", **changes), training=True), {}
    names = dict(zip(model.networks, LINES, strict=True))
    assert list(names) == ["generator_AtoB", "generator_BtoA", "discriminator_A", "discriminator_B"]
    monkeypatch.setattr(model, "networks", {name: Line(*LINES[line]) for name, line in names.items()})
    for kind, optimizer in model.optimizers.items():
        monkeypatch.setattr(optimizer, "apply_gradients", lambda pairs, kind=kind: gradients.update({kind: list(pairs)}))
    return model, gradients


def losses_by_hand(lines, a, b, kind, pooled_a=None, pooled_b=None):
    """The eight losses in float64, from the paper's formulas; pooled_*: the fakes that the discriminators are shown."""
    AtoB, BtoA, judge_A, judge_B = (lambda x, line=line: line[0] * x + line[1] for line in lines.values())
    if kind == "lsgan":
        cost = lambda x, label: np.square(x - label).mean()  # noqa: E731
    else:
        cost = lambda x, label: np.log1p(np.exp(-x if label else x)).mean()  # noqa: E731
    l1 = lambda x, y: np.abs(x - y).mean()  # noqa: E731
    fake_a, fake_b = BtoA(b), AtoB(a)
    pooled_a, pooled_b = (fake if pooled is None else pooled for pooled, fake in ((pooled_a, fake_a), (pooled_b, fake_b)))
    return {
        "discrim_A": (cost(judge_A(a), 1) + cost(judge_A(pooled_a), 0)) / 2,  # catches swapped discriminators, reals, fakes
        "discrim_B": (cost(judge_B(b), 1) + cost(judge_B(pooled_b), 0)) / 2,  # and labels
        "gan_AtoB": cost(judge_B(fake_b), 1),  # catches a generator that is judged by the wrong discriminator
        "gan_BtoA": cost(judge_A(fake_a), 1),
        "cycle_A": l1(BtoA(fake_b), a),  # catches cycles run by the generators in the wrong order, or compared with the fake
        "cycle_B": l1(AtoB(fake_a), b),
        "identity_A": l1(BtoA(a), a),  # catches the known swap: AtoB(a) is the translation, not the identity
        "identity_B": l1(AtoB(b), b),
    }


@pytest.mark.parametrize("gan", ["lsgan", "bce"])
@pytest.mark.parametrize("pool_size", [0, 50])
def test_each_network_does_its_own_part(monkeypatch, gan, pool_size):
    model, _ = model_of_lines(monkeypatch, gan_loss=gan, pool_size=pool_size)
    a, b = draw_images(0, 2, 24, 24, 3)
    a, b = a * 0.5 + 0.4, b * 0.8 - 0.1  # the sides differ in their statistics too
    assert step_eagerly(model, a, b) == pytest.approx(losses_by_hand(LINES, a, b, gan), rel=1e-5)


def test_without_identity_loss_the_others_are_the_same(monkeypatch):
    model, _ = model_of_lines(monkeypatch, identity_weight=0.0)
    a, b = draw_images(0, 2, 24, 24, 3)
    expected = losses_by_hand(LINES, a, b, "lsgan") | {"identity_A": 0, "identity_B": 0}
    assert step_eagerly(model, a, b) == pytest.approx(expected, rel=1e-5)


def test_gradients_are_those_of_the_weighted_sums(monkeypatch):
    """Of G's sum for the generators and of D's for the discriminators, by differences in float64: catches weights that are
    left out or swapped, a fake in D's loss that is not detached, and D's loss in that of G."""
    model, gradients = model_of_lines(monkeypatch, gan_weight=0.7, cycle_weight=3.0, identity_weight=2.0)
    a, b = draw_images(0, 1, 24, 24, 3).astype(np.float64)
    step_eagerly(model, a.astype(np.float32), b.astype(np.float32))
    fake_a, fake_b = LINES["BtoA"][0] * b + LINES["BtoA"][1], LINES["AtoB"][0] * a + LINES["AtoB"][1]

    def sums(lines):
        loss = losses_by_hand(lines, a, b, "lsgan", fake_a, fake_b)
        gan, cycle = loss["gan_AtoB"] + loss["gan_BtoA"], loss["cycle_A"] + loss["cycle_B"]
        generators = 0.7 * gan + 3.0 * cycle + 2.0 * (loss["identity_A"] + loss["identity_B"])
        return {"generator": generators, "discriminator": loss["discrim_A"] + loss["discrim_B"]}

    for kind, names in (("generator", ["AtoB", "BtoA"]), ("discriminator", ["judge_A", "judge_B"])):
        expected = []
        for name in names:
            for part in np.eye(2) * 1e-5:
                up, down = ({**LINES, name: tuple(LINES[name] + part * sign)} for sign in (1, -1))
                expected.append((sums(up)[kind] - sums(down)[kind]) / 2e-5)
        found = [float(gradient) for gradient, _ in gradients[kind]]
        assert found == pytest.approx(expected, rel=5e-3, abs=5e-3), kind
        networks = [network for name, network in model.networks.items() if kind in name]
        expected_weights = [weight for network in networks for weight in network.trainable_variables]
        assert all(w is e for (_, w), e in zip(gradients[kind], expected_weights, strict=True))


def test_discriminators_are_shown_past_fakes_and_generators_judged_by_new_ones(monkeypatch):
    """A pool of one: D's losses are those of the new fake or of the one kept, each side by its own draws."""
    model, _ = model_of_lines(monkeypatch, pool_size=1)
    kept, swapped = {}, []
    for step in range(24):
        a, b = draw_images(step, 1, 24, 24, 3)
        fakes = {"A": LINES["BtoA"][0] * b + LINES["BtoA"][1], "B": LINES["AtoB"][0] * a + LINES["AtoB"][1]}
        losses = step_eagerly(model, a, b, step)
        shown, swaps = {}, []
        for side in "AB":
            now = model.pools[side].pictures.numpy()
            came_in = np.allclose(now, fakes[side], atol=1e-5)
            assert came_in or np.allclose(now, kept[side], atol=1e-5)
            swaps.append(came_in and step > 0)
            shown[side] = kept[side] if swaps[-1] else fakes[side]
            kept[side] = now
        swapped.append(swaps)
        assert losses == pytest.approx(losses_by_hand(LINES, a, b, "lsgan", shown["A"], shown["B"]), rel=1e-4), step
    shares = np.mean(swapped[1:], 0)
    assert (shares > 0.2).all() and (shares < 0.8).all()
    assert any(one != other for one, other in swapped)


def moved(model, before):
    """Names of the networks with other weights than before."""
    return {
        name
        for name, network in model.networks.items()
        if any(not np.array_equal(w, b) for w, b in zip(network.get_weights(), before[name], strict=True))
    }


def test_each_loss_moves_its_own_networks_only(monkeypatch):
    model = cyclegan.CycleGAN(options(pool_size=2), training=True)
    a, b = draw_images(0, 1, 32, 32, 3)
    generators, discriminators = {"generator_AtoB", "generator_BtoA"}, {"discriminator_A", "discriminator_B"}
    weights = ("gan_weight", "cycle_weight", "identity_weight")

    def step(asleep, **given):
        before = {name: network.get_weights() for name, network in model.networks.items()}
        with monkeypatch.context() as patch:
            for name in weights:
                patch.setattr(model.o, name, given.get(name, 0.0))
            for kind in asleep:  # whatever moves its networks would be the other's step
                patch.setattr(model.optimizers[kind], "apply_gradients", lambda pairs: list(pairs))
            step_eagerly(model, a, b)
        return moved(model, before)

    assert step([]) == discriminators  # all weights are 0: D's loss alone. A fake that is not detached would move G
    for name in weights:
        assert step(["discriminator"], **{name: 1.0}) == generators, name
    assert step(["generator"], gan_weight=1.0, cycle_weight=1.0, identity_weight=1.0) == discriminators


# -------------------------------------------------------------------------------------------------------------- pool


def numbered(first, count):
    """Pictures [count, 2, 2, 3] that are their own numbers."""
    return np.ones([count, 2, 2, 3], np.float32) * np.arange(first, first + count, dtype=np.float32).reshape(-1, 1, 1, 1)


def run_pool(size, batch_size, steps, seed=0):
    """[(pool before, fakes, what comes out, pool after)] for each batch, as lists of numbers from 1 on (0: nothing yet)."""
    pool, history = cyclegan.ImagePool(size, (2, 2)), []
    swap = tf.function(pool.swap, input_signature=[tf.TensorSpec([batch_size, 2, 2, 3]), tf.TensorSpec([2], tf.int64)])
    for step in range(steps):
        before, fakes = pool.pictures.numpy(), numbered(1 + step * batch_size, batch_size)
        out = swap(fakes, tf.constant([seed, step], tf.int64)).numpy()
        assert (out == out[:, :1, :1, :1]).all()  # whole pictures
        history.append([pictures[:, 0, 0, 0].astype(int).tolist() for pictures in (before, fakes, out, pool.pictures.numpy())])
    return history


@pytest.mark.parametrize(("size", "batch_size"), [(6, 1), (6, 3), (6, 4), (2, 5)])
def test_pool_fills_then_swaps(size, batch_size):
    """What goes in is what comes out or stays, nothing twice; the first `size` come out as they are and stay."""
    entered = 0
    for before, fakes, out, after in run_pool(size, batch_size, 40):
        room = max(0, size - entered)
        assert out[:room] == fakes[:room]
        known = set(before) - {0}
        for fake, picture in zip(fakes, out, strict=True):
            assert picture == fake or picture in known
            known.add(fake)
        filling = fakes[:room]
        assert sorted([*before, *fakes, *filling]) == sorted([*out, *after, *[0] * len(filling)])
        entered += len(fakes)
        assert after.count(0) == max(0, size - entered)


def test_pool_swaps_half_of_the_fakes_at_even_places():
    history = run_pool(5, 1, 2005)[5:]
    changed = [(np.array(before), np.array(after)) for before, _, _, after in history if before != after]
    places = [int(np.argmax(before != after)) for before, after in changed]
    assert abs(len(places) / 2000 - 0.5) < 0.05
    counts = np.bincount(places, minlength=5)
    assert (np.square(counts - len(places) / 5) / (len(places) / 5)).sum() < 25  # chi square of 4 degrees: 1 in 20,000
    assert all((fakes == out) == (before == after) for before, fakes, out, after in history)


def test_pool_draws_depend_on_the_seed_alone():
    first = run_pool(3, 2, 30)
    assert run_pool(3, 2, 30) == first
    assert run_pool(3, 2, 30, seed=1) != first


# -------------------------------------------------------------------------------------------------------------- data


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two sides of 40x40 pictures, 7 and 3 (and 7 again, for equal counts): red tells the picture, green the row, blue the
    column."""
    folder, found = tmp_path_factory.mktemp("sides"), {}
    rows, columns = np.mgrid[0:40, 0:40]
    for side, count in (("A", 7), ("B", 3), ("C", 7)):
        for index in range(count):
            pixels = np.stack([np.full_like(rows, 30 * index), 5 * rows, 5 * columns], -1).astype(np.uint8)
            save_picture(folder / side / f"{index}.png", pixels)
        found[side] = cyclegan.find_images(folder / side)
    return found


def draw(paths_a, paths_b, count, start=0, **changes):
    """Batches of model.batches: [count, 2 sides, batch, 32, 32, 3] as 0 to 255."""
    model = cyclegan.CycleGAN(options(scale_size="40", **changes), training=False)
    batches = model.batches({"A": paths_a, "B": paths_b}, start)
    return np.rint((np.array([[a.numpy(), b.numpy()] for a, b in batches.take(count)]) + 1) * 127.5).astype(int)


def numbers(batches):
    """[2 sides, pictures in a row]: which they are."""
    return (batches[..., 0, 0, 0] // 30).transpose(1, 0, 2).reshape(2, -1)


def test_the_larger_side_is_an_epoch_and_the_smaller_comes_round_again(folders):
    of_a, of_b = numbers(draw(folders["A"], folders["B"], 42))
    epochs, rounds = of_a.reshape(6, 7).tolist(), of_b.reshape(14, 3).tolist()
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert all(sorted(one) == list(range(3)) for one in rounds)
    assert len({tuple(epoch) for epoch in epochs}) == 6 and len({tuple(one) for one in rounds}) > 3
    of_b, of_a = numbers(draw(folders["B"], folders["A"], 14))  # the other way round
    assert sorted(of_a[:7]) == list(range(7)) and sorted(of_b[:3]) == list(range(3))


def test_batches_larger_than_a_folder(folders):
    batches = draw(folders["A"], folders["B"], 3, batch_size=8)
    assert batches.shape == (3, 2, 8, 32, 32, 3)
    assert sorted(numbers(batches)[0][:7]) == list(range(7))


def test_batches_depend_on_seed_and_step_alone(folders):
    sides = folders["A"], folders["B"]
    whole = draw(*sides, 12)
    np.testing.assert_array_equal(draw(*sides, 5, start=7), whole[7:])
    np.testing.assert_array_equal(draw(*sides, 12, cache_mb=0), whole)
    joined = draw(*sides, 4, batch_size=3).transpose(0, 2, 1, 3, 4, 5)
    np.testing.assert_array_equal(joined.reshape(12, 2, 32, 32, 3), whole[:, :, 0])
    assert not np.array_equal(draw(*sides, 12, seed=1), whole)


def test_sides_of_equal_counts_meet_in_other_pairs_in_each_epoch(folders):
    of_a, of_b = numbers(draw(folders["A"], folders["C"], 140))  # 20 epochs
    assert len(set(zip(of_a.tolist(), of_b.tolist(), strict=True))) > 40  # of 49 pairs
    assert 0.05 < (of_a == of_b).mean() < 0.3  # by chance 1/7


def test_sides_are_cropped_and_mirrored_by_themselves(folders):
    batches = draw(folders["A"], folders["C"], 140)[:, :, 0]
    left, right = batches[:, :, 0, 0, 2], batches[:, :, 0, -1, 2]
    for place in (batches[:, :, 0, 0, 1] // 5, np.minimum(left, right) // 5):
        assert set(place.ravel().tolist()) == set(range(9))  # 40 - 32 + 1 places
        assert (place[:, 0] == place[:, 1]).mean() < 0.3  # by chance 1/9
    mirrored = left > right
    assert 0.35 < (mirrored[:, 0] == mirrored[:, 1]).mean() < 0.65


# ----------------------------------------------------------------------------------------------------------- PyTorch

AXES = {4: (3, 2, 0, 1), 1: (0,)}  # [h, w, in, out] => [out, in, h, w]; transposed: [h, w, out, in] => [in, out, h, w]


def twin_weights(network, module):
    """[(Keras weight, PyTorch parameter)] of a network and its twin: both have their convolutions in the order of the data."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    convs = [m for m in module.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.ConvTranspose2d))]
    names = [weight.path for weight in network.weights]
    if names[0].startswith("first/"):
        blocks = (len(convs) - 6) // 2
        order = ["first", "down_1", "down_2"]
        order += [f"block_{n}_{half}" for n in range(1, blocks + 1) for half in (1, 2)] + ["up_2", "up_1", "last"]
    else:
        order = [f"layer_{n}" for n in range(1, len(convs))] + ["last"]
    assert names == [f"{name}/{part}" for name in order for part in ("kernel", "bias")]
    result = list(zip(network.weights, [p for conv in convs for p in (conv.weight, conv.bias)], strict=True))
    assert len(result) == len(list(module.parameters()))
    return result


def make_equal(network, module, deviation, seed=0):
    """Gives both the same weights, biases too."""
    import torch

    torch.set_num_threads(1)  # several would wait for those of TensorFlow
    random = np.random.default_rng(seed)
    for weight, parameter in twin_weights(network, module):
        weight.assign(random.normal(0, deviation, weight.shape))
        parameter.data = torch.from_numpy(weight.numpy().transpose(AXES[weight.numpy().ndim]).copy())


def to_torch(images):
    import torch

    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def assert_same_output(network, module, x):
    make_equal(network, module, 0.05)
    expected = module(to_torch(x)).detach().numpy().transpose(0, 2, 3, 1)
    assert expected.std() > 0.05
    np.testing.assert_allclose(network(x, training=True), expected, atol=1e-4)


@pytest.mark.parametrize(("batch_size", "size"), [(1, (64, 64)), (2, (32, 64)), (6, (44, 32))])
@pytest.mark.parametrize("upsample", ["transpose", "resize"])
def test_resnet_beside_pytorch(upsample, batch_size, size):
    reference_torch = pytest.importorskip("reference_torch", reason="PyTorch is not installed")
    network, module = cyclegan.build_resnet(2, 8, upsample), reference_torch.Resnet(2, 8, upsample)
    assert_same_output(network, module, draw_images(0, batch_size, *size, 3)[0])


@pytest.mark.parametrize(("batch_size", "size"), [(1, (64, 64)), (2, (32, 64))])
@pytest.mark.parametrize("n_layers", [0, 1, 3])
def test_discriminator_beside_pytorch(n_layers, batch_size, size):
    reference_torch = pytest.importorskip("reference_torch", reason="PyTorch is not installed")
    norm = reference_torch.nn.InstanceNorm2d
    module = reference_torch.PatchGan(3, 8, n_layers, norm) if n_layers else reference_torch.PixelGan(3, 8)
    assert_same_output(cyclegan.build_patchgan(n_layers, 8), module, draw_images(0, batch_size, *size, 3)[0])


@pytest.mark.parametrize(
    ("changes", "twin_changes"),
    [({"pool_size": 0}, {"pool": 0}), ({"pool_size": 50, "gan_loss": "bce"}, {"pool": 50, "gan": "bce"})],
    ids=["no pool", "pool that fills, bce"],
)
def test_ten_training_steps_beside_pytorch(changes, twin_changes):
    """With larger weights and smaller steps than in the paper: there the losses of PyTorch's own twin, started with weights
    that are 1e-7 off, are 1e-3 off after ten steps."""
    reference_torch = pytest.importorskip("reference_torch", reason="PyTorch is not installed")
    model = cyclegan.CycleGAN(options(lr=2e-5, ngf=8, ndf=8, n_blocks=2, **changes), training=True)
    modules = [reference_torch.Resnet(2, 8) for _ in range(2)]
    modules += [reference_torch.PatchGan(3, 8, norm=reference_torch.nn.InstanceNorm2d) for _ in range(2)]
    for seed, (network, module) in enumerate(zip(model.networks.values(), modules, strict=True)):
        make_equal(network, module, 0.1, seed)
    twin = reference_torch.CycleGan(*modules, lr=2e-5, **twin_changes)
    start = [network.get_weights() for network in model.networks.values()]
    for step in range(10):
        a, b = draw_images(step, 1, 32, 32, 3)
        expected = twin.train_step(to_torch(a), to_torch(b))
        losses = model.train_step(tf.constant(step, tf.int64), (tf.constant(a), tf.constant(b))).numpy()
        assert dict(zip(model.losses, losses, strict=True)) == pytest.approx(expected, rel=1e-3), step
    for network, module, before in zip(model.networks.values(), modules, start, strict=True):
        # a bias before a norm changes nothing: its gradient is 0 but for rounding, which Adam turns into steps of any sign
        free = {"last/bias", "layer_1/bias"}
        twins = [(*twin, old) for twin, old in zip(twin_weights(network, module), before, strict=True)]
        twins = [twin for twin in twins if "kernel" in twin[0].path or twin[0].path in free]
        way = np.concatenate([(weight.numpy() - old).ravel() for weight, _, old in twins])
        apart = [weight.numpy().transpose(AXES[old.ndim]) - parameter.detach().numpy() for weight, parameter, old in twins]
        apart = np.linalg.norm(np.concatenate([difference.ravel() for difference in apart]))
        assert apart < 0.01 * np.linalg.norm(way)  # of the way that ten steps went
        assert apart < 1e-3 * np.linalg.norm(np.concatenate([weight.numpy().ravel() for weight, _, _ in twins]))
