"""What ganilla.py has that cyclegan.py has not: its generator with the paper's ablations, and several styles in one test.

All the rest of it is tested with cyclegan.py, in test_unpaired_cli.py and test_unpaired_bad_input.py.
"""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import TINY_UNPAIRED, ParsedPage, Script, read_png

import cyclegan
import ganilla


def options(**changes):
    """The default flags as a namespace, with changes."""
    ganilla.FLAGS.unparse_flags()
    ganilla.FLAGS(["ganilla.py"])
    return SimpleNamespace(**{**ganilla.FLAGS.flag_values_dict(), "seed": 0, **changes})


@pytest.fixture(autouse=True)
def repeatable():
    keras.utils.set_random_seed(0)


@pytest.mark.parametrize(
    ("kind", "parameters"), [("ganilla", 7_228_419), ("ablation1", 3_542_019), ("ablation2", 7_633_347)]
)
def test_parameters(kind, parameters):
    """The first is the reference's number. By hand for the others: without the 8 third convolutions of a block,
    2 * 9 * (2 * 64² + 4 * 128² + 2 * 256²) fewer; 9 * (256*128 + 128² + 128*64 + 64²) for the pyramid's 74,240 + 73,792."""
    assert ganilla.build_ganilla(kind).count_params() == parameters
    thirds = 2 * 9 * (2 * 64**2 + 4 * 128**2 + 2 * 256**2)
    transposed = 9 * (256 * 128 + 128**2 + 128 * 64 + 64**2)
    assert parameters == 7_228_419 - {"ganilla": 0, "ablation1": thirds, "ablation2": 74_240 + 73_792 - transposed}[kind]


@pytest.mark.parametrize("kind", ["ganilla", "ablation1", "ablation2"])
def test_picture_keeps_its_size_and_range(kind):
    generator = ganilla.build_ganilla(kind, ngf=4)
    for size in ((32, 32), (64, 48)):
        outputs = generator(tf.random.stateless_uniform([2, *size, 3], [1, 2], -1, 1)).numpy()
        assert outputs.shape == (2, *size, 3) and np.abs(outputs).max() <= 1 and outputs.std() > 0


def test_blocks_concatenate_and_those_of_the_first_ablation_add():
    names = {kind: {layer.name for layer in ganilla.build_ganilla(kind, ngf=2).layers} for kind in ("ganilla", "ablation1")}
    blocks = [f"stage_{stage}_{block}" for stage in range(1, 5) for block in (1, 2)]
    assert {name for name in names["ganilla"] if name.endswith("_concat")} == {f"{block}_concat" for block in blocks}
    assert {name for name in names["ablation1"] if name.endswith("_add")} == {f"{block}_add" for block in blocks}
    assert not any(name.endswith(("_concat", "_final")) for name in names["ablation1"])


def test_weight_of_a_pyramid_term_decides_how_much_of_its_stage_is_seen():
    """With a weight of 0 the decoder does not see that stage's own term; with 2 it sees twice of it."""

    def sum_of(weights):
        keras.utils.set_random_seed(0)
        generator = ganilla.build_ganilla(fpn_weights=weights, ngf=4)
        # what is summed last, before it is enlarged and smoothed
        return keras.Model(generator.inputs, generator.get_layer("lateral_1_sum").output)

    x = tf.random.stateless_uniform([1, 64, 64, 3], [3, 4], -1, 1)
    nothing, ones = sum_of((0, 0, 0, 0))(x), sum_of((1, 1, 1, 1))(x)
    terms = [sum_of([float(i == j) for j in range(4)])(x) for i in range(4)]
    np.testing.assert_allclose(nothing, np.zeros_like(nothing))
    np.testing.assert_allclose(sum(terms), ones, atol=1e-5)
    np.testing.assert_allclose(sum_of((1, 1, 0.5, 2))(x), terms[0] + terms[1] + terms[2] / 2 + terms[3] * 2, atol=1e-5)

    def flat(term, side):  # in blocks of side x side pixels?
        cells = np.asarray(term).reshape(32 // side, side, 32 // side, side, -1)
        return np.abs(cells - cells[:, :1, :, :1]).max() < 1e-6

    for term, side in zip(terms, (8, 4, 2, 1), strict=True):  # the deepest was enlarged three times, the last not yet
        assert flat(term, side) and not flat(term, 2 * side)


@pytest.mark.parametrize("text", ["1,1,1", "1,1,1,1,1", "1,1,1,x", "", "1,1,1,nan"])
def test_pyramid_weights_that_are_none(text):
    with pytest.raises(ganilla.UserError, match="four numbers"):
        ganilla.parse_fpn_weights(text)


def test_only_the_generator_differs_from_cyclegan():
    def defined(module):
        mine = {n for n, value in vars(module).items() if callable(value) and value.__module__ == module.__name__}
        return mine - {"ALGORITHM", "build_generator", "build_discriminator"}  # other names of the same

    ours, theirs = defined(ganilla), defined(cyclegan)
    assert ours - theirs == {"build_ganilla", "parse_fpn_weights", "Ganilla"}
    assert theirs - ours == {"build_resnet", "CycleGAN"}


# ----------------------------------------------------------------------------------------------------------- PyTorch


def twin_of(module, name):
    """The PyTorch layer that a layer of build_ganilla stands for."""
    single = {"first": "conv1", "last": "conv2"}
    if name in single:
        return getattr(module, single[name])
    if name == "smooth":
        return module.fpn.P2_2
    parts = name.split("_")
    if parts[0] == "lateral":
        return getattr(module.fpn, f"P{int(parts[1]) + 1}_1")
    block = getattr(module, f"layer{parts[1]}")[int(parts[2]) - 1]
    return {"1": block.conv1, "2": block.conv2, "shortcut": block.shortcut, "final": block.final_conv[1]}[parts[3]]


def copy_weights(generator, module):
    """Gives the PyTorch twin our weights, and both biases that are not 0."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    count = 0
    for weight in generator.weights:
        layer, kind = weight.path.split("/")
        twin = twin_of(module, layer)
        twin = twin[0] if isinstance(twin, torch.nn.Sequential) else twin
        if kind == "bias":
            weight.assign(np.random.default_rng(count).normal(0, 0.1, weight.shape))
        values = weight.numpy().transpose(3, 2, 0, 1) if kind == "kernel" else weight.numpy()
        {"kernel": twin.weight, "bias": twin.bias}[kind].data = torch.from_numpy(values.copy())
        count += 1
    assert count == len(list(module.parameters()))


@pytest.mark.parametrize(("size", "batch_size"), [((64, 64), 1), ((32, 96), 2), ((256, 256), 1)])
def test_forward_pass_beside_pytorch(size, batch_size):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    import reference_torch

    generator, twin = ganilla.build_ganilla(fpn_weights=(1, 0.5, 1, 2), ngf=8), reference_torch.Ganilla(8, (1, 0.5, 1, 2))
    copy_weights(generator, twin)
    x = np.random.default_rng(0).uniform(-1, 1, [batch_size, *size, 3]).astype(np.float32)
    expected = twin(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).detach().numpy().transpose(0, 2, 3, 1)
    assert expected.std() > 0.01
    np.testing.assert_allclose(generator(x), expected, atol=1e-4)


def test_ten_training_steps_beside_pytorch():
    """At a tenth of the learning rate, and within 1e-2: Adam's first steps go by the signs of gradients, whatever their size,
    and through so many norms rounding turns some. PyTorch in float32 is as far from itself in float64 (docs/pretrained.md)."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    import reference_torch

    model = ganilla.Ganilla(options(ngf=8, ndf=8, crop_size="64", scale_size="64", pool_size=0, lr=2e-5), training=True)
    generators = [reference_torch.Ganilla(8) for _ in range(2)]
    judges = [reference_torch.PatchGan(3, 8, norm=torch.nn.InstanceNorm2d) for _ in range(2)]
    networks = list(model.networks.values())
    for network, twin in zip(networks[:2], generators, strict=True):
        copy_weights(network, twin)
    for network, twin in zip(networks[2:], judges, strict=True):
        for weight, parameter in zip(network.weights, twin.parameters(), strict=True):
            values = weight.numpy().transpose(3, 2, 0, 1) if weight.ndim == 4 else weight.numpy()
            parameter.data = torch.from_numpy(values.copy())
    reference = reference_torch.CycleGan(*generators, *judges, pool=0, lr=2e-5)
    before = [network.get_weights() for network in networks[:2]]
    for step in range(10):
        a, b = np.random.default_rng(step).uniform(-1, 1, [2, 1, 64, 64, 3]).astype(np.float32)
        expected = reference.train_step(*(torch.from_numpy(side.transpose(0, 3, 1, 2).copy()) for side in (a, b)))
        losses = model.train_step(tf.constant(step, tf.int64), (a, b)).numpy()
        assert dict(zip(model.losses, losses, strict=True)) == pytest.approx(expected, rel=1e-2 if step else 1e-4), step
    for network, twin, start in zip(networks[:2], generators, before, strict=True):
        assert any((old != new).any() for old, new in zip(start, network.get_weights(), strict=True))
        kernels = [weight for weight in network.weights if weight.path.endswith("kernel")]
        apart, whole = [], []
        for weight in kernels:
            layer = twin_of(twin, weight.path.split("/")[0])
            layer = layer[0] if isinstance(layer, torch.nn.Sequential) else layer
            apart.append((weight.numpy().transpose(3, 2, 0, 1) - layer.weight.detach().numpy()).ravel())
            whole.append(weight.numpy().ravel())
        assert np.linalg.norm(np.concatenate(apart)) < 2e-3 * np.linalg.norm(np.concatenate(whole))


# -------------------------------------------------------------------------------------------------------- many styles


@pytest.fixture(scope="module")
def styles(sides, tmp_path_factory):
    """Trainings of three steps with each of the generators: their folders."""
    folder, script = tmp_path_factory.mktemp("styles"), Script("ganilla")
    for kind in ("ganilla", "ablation1", "ablation2"):
        flags = ["--generator", kind, "--max_steps", 3, "--display_freq", 0, "--seed", 1, "--lr", 0.01]
        flags += ["--input_dir", sides, "--output_dir", folder / f"{kind}_train"]
        script("--mode", "train", *TINY_UNPAIRED["ganilla"], *flags)
    return folder


def test_three_styles_in_one_test(styles, sides, tmp_path):
    script = Script("ganilla")
    names = ["ganilla", "ablation1", "ablation2"]
    checkpoints = [str(styles / f"{name}_train") for name in names[:2]] + [str(styles / "ablation2_train" / "model-3")]
    script("--mode", "test", "--checkpoint", ",".join(checkpoints), "--output_dir", tmp_path / "all")
    page = ParsedPage(tmp_path / "all" / "index.html")
    columns = [*names[:2], "ablation2_train-model-3"]
    assert page.rows[0] == ["name", "inputs", *columns]
    assert [row[0] for row in page.rows[1:]] == ["pic1", "pic2", "Pic3", "pic10"]
    assert page.missing_files() == [] and len(page.images) == 4 * 4
    for column, checkpoint in zip(columns, checkpoints, strict=True):  # each is what a test of it alone gives
        script("--mode", "test", "--checkpoint", checkpoint, "--output_dir", tmp_path / "one")
        for picture in ("pic1", "Pic3"):
            alone = read_png(tmp_path / "one" / "images" / f"{picture}-outputs.png")
            np.testing.assert_array_equal(read_png(tmp_path / "all" / column / "images" / f"{picture}-outputs.png"), alone)
    first, second = (read_png(tmp_path / "all" / name / "images" / "pic1-outputs.png") for name in names[:2])
    assert (first != second).any()


def test_styles_that_cannot_be_shown_together(styles, trained, tmp_path, monkeypatch):
    script = Script("ganilla")
    monkeypatch.chdir(tmp_path)
    good = str(styles / "ganilla_train")
    assert "pix2pix.py" in script.fails("--mode", "test", "--checkpoint", f"{good},{trained.folder}")
    assert "same name" in script.fails("--mode", "test", "--checkpoint", f"{good},{good}")
    assert "/nowhere" in script.fails("--mode", "test", "--checkpoint", f"{good},/nowhere")
    assert "--mode export" in script.fails("--mode", "export", "--checkpoint", f"{good},{good}")
    assert list(tmp_path.iterdir()) == []  # found out before anything was translated


def test_checkpoint_of_another_generator(styles, tmp_path):
    message = Script("ganilla").fails("--mode", "test", "--checkpoint", styles / "ablation1_train", "--generator", "ablation2")
    assert "--generator ablation1" in message


def test_bad_pyramid_weights(sides, tmp_path):
    flags = ["--input_dir", sides, "--output_dir", tmp_path / "o", "--fpn_weights", "1,2,3"]
    assert "--fpn_weights 1,2,3" in Script("ganilla").fails("--mode", "train", *TINY_UNPAIRED["ganilla"], *flags)
    assert not (tmp_path / "o").exists()
