"""Our networks beside numbers that PyTorch gave once (tests/golden, by `python tests/parity.py --golden`), without it.
With it: the schedule, the pool, and the whole of parity.py."""

import subprocess
import sys

import numpy as np
import parity
import pytest
from conftest import ROOT, plain_environment


@pytest.mark.parametrize("name", parity.SMALL)
def test_forward_pass_beside_stored_numbers(name):
    with np.load(parity.GOLDEN / f"{name}.npz") as file:
        arrays = {key: file[key].astype(np.float32) for key in file}
    images, expected = arrays.pop("input"), arrays.pop("output")
    assert expected.std() > 0.1
    network = parity.build(name, parity.SMALL[name][0])
    parity.fill(network, arrays)
    np.testing.assert_allclose(network(images, training=True), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "script", "flags"),
    [
        ("unet-6", "pix2pix", {"ngf": 2, "crop_size": "64"}),
        ("resnet-2", "cyclegan", {"ngf": 4, "n_blocks": 2}),
        ("ganilla", "ganilla", {"ngf": 4}),
    ],
)
def test_stored_generators_are_recognised_and_come_back(name, script, flags):
    tool = parity.load_tool()
    with np.load(parity.GOLDEN / f"{name}.npz") as file:
        state = {key: file[key].astype(np.float32) for key in file if key not in ("input", "output")}
    assert tool.recognise(state) == (script, flags)
    network = parity.build(name, flags["ngf"])
    tool.fill(network, state)
    back = tool.extract(network)
    assert back.keys() == state.keys() and all(np.array_equal(back[key], state[key]) for key in state)


def test_stored_numbers_are_small():
    assert sum(path.stat().st_size for path in parity.GOLDEN.iterdir()) < 500_000


def test_learning_rate_beside_pytorch():
    """100 epochs and 100 more: PyTorch's falls after each epoch, to 1/101 in the last; ours with each step, to 0."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    assert parity.schedule_difference() < 0.0101


def test_pool_beside_pytorch():
    """Half of the fakes come out at once; for the others an older one does, 100 fakes old on average in a pool of 50."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    ours, theirs = parity.compare_pools(20_000)
    for share, age, old in (ours, theirs):
        assert share == pytest.approx(0.5, abs=0.02)
        assert age == pytest.approx(100, rel=0.05)
        assert old == pytest.approx(0.99**200, rel=0.15)  # a place is kept with a chance of 99 in 100


@pytest.mark.slow
def test_parity_table():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    command = [sys.executable, ROOT / "tests" / "parity.py"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=1800, env=plain_environment())
    assert result.returncode == 0, (result.stdout, result.stderr)
    assert result.stdout.count("| ganilla |") == 5
