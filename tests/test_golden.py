"""Our networks give the outputs of PyTorch stored in golden/, which `python tests/reference/parity.py --golden` wrote.

With PyTorch: learning rates and image pool are those of PyTorch; slow: all of parity.py.
"""

import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, plain_environment
from reference import parity


def load_golden(name):
    """Input, output and {name in PyTorch: weight} of a network, float32."""
    with np.load(parity.GOLDEN / f"{name}.npz") as file:
        arrays = {key: file[key].astype(np.float32) for key in file}
    return arrays.pop("input"), arrays.pop("output"), arrays


@pytest.mark.parametrize("name", parity.SMALL)
def test_forward_pass_gives_stored_output(name):
    images, expected, state = load_golden(name)
    assert expected.std() > 0.1
    network = parity.build(name, parity.SMALL[name][0])
    parity.fill(network, state)
    np.testing.assert_allclose(network(images, training=True), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "script", "flags"),
    [
        ("unet-6", "pix2pix", {"ngf": 2, "crop_size": "64", "norm": "batch"}),
        ("resnet-2", "cyclegan", {"ngf": 4, "n_blocks": 2, "norm": "instance"}),
        ("ganilla", "ganilla", {"ngf": 4}),
    ],
)
def test_stored_generators_are_recognised_and_exported_unchanged(name, script, flags):
    tool, (_, _, state) = parity.load_tool(), load_golden(name)
    assert tool.recognise(state) == (script, flags | {"channels": (3, 3)})
    network = parity.build(name, flags["ngf"])
    tool.fill(network, state)
    back = tool.extract(network)
    assert back.keys() == state.keys() and all(np.array_equal(back[key], state[key]) for key in state)


@pytest.mark.parametrize(("script", "norm", "size"), [("pix2pix", "instance", 64), ("cyclegan", "batch", 32)])
def test_a_training_step_with_the_other_norm_is_that_of_pytorch(script, norm, size):
    """With a batch of 2, whose statistics batch norm shares, and the discriminators with the same norm."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    differences = parity.compare_steps(script, size, 1, 8, n_blocks=1, calm=True, norm=norm, batch_size=2)[1]
    assert differences["losses"][0] < 1e-5 and differences["weights"][0] < 1e-4, differences


@pytest.mark.parametrize(
    ("script", "channels"), [("pix2pix", (1, 1)), ("pix2pix", (4, 3)), ("cyclegan", (1, 1)), ("ganilla", (2, 2))]
)
def test_a_training_step_with_other_channels_is_that_of_pytorch(script, channels):
    """As with input_nc and output_nc of the originals, from equal weights."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    size = 64 if script == "pix2pix" else 32
    ngf = 64 if script == "ganilla" else 8
    differences = parity.compare_steps(script, size, 1, ngf, n_blocks=1, calm=True, channels=channels)[1]
    for name, limit in (("losses", 1e-5), ("weights", 1e-4)):
        ours, theirs = differences[name]
        assert ours < max(limit, 4 * theirs), (name, differences)


def test_stored_arrays_are_small():
    assert sum(path.stat().st_size for path in parity.GOLDEN.iterdir()) < 500_000


def test_learning_rate_as_in_pytorch():
    """Over 100 + 100 epochs: PyTorch's falls after each epoch, to 1/101 in the last; ours after each step, to 0."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    assert parity.schedule_difference() < 0.0101


def test_pool_as_in_pytorch():
    """Half of the fakes are returned at once; for the others an older one, on average 100 fakes old in a pool of 50."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    ours, theirs = parity.compare_pools(20_000)
    for share, age, old in (ours, theirs):
        assert share == pytest.approx(0.5, abs=0.02)
        assert age == pytest.approx(100, rel=0.05)
        assert old == pytest.approx(0.99**200, rel=0.15)  # each new fake replaces a given one with probability 1/100


@pytest.mark.slow
def test_parity_table():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    command = [sys.executable, ROOT / "tests" / "reference" / "parity.py"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=1800, env=plain_environment())
    assert result.returncode == 0, (result.stdout, result.stderr)
    assert result.stdout.count("| ganilla |") == 5 and result.stdout.count("| cut |") == 5
