"""Learning without pairs, measured against the truth, which the samples have: python -m pytest -m slow."""

import json
import subprocess

import numpy as np
import pytest
from conftest import ROOT, command_line, plain_environment, read_png


@pytest.mark.slow
@pytest.mark.parametrize(("script", "samples"), [("cyclegan", "monet2photo"), ("ganilla", "miyazaki")])
def test_translations_come_nearer_to_the_truth(script, samples, tmp_path):
    """By the recipe for CPUs (about 12 minutes): in both directions the L1 of the translations of held-out pictures to their
    true counterparts is at least 25 % below that of the pictures as they are."""

    def run(*arguments):
        result = subprocess.run(command_line(arguments, script), env=plain_environment(), capture_output=True, text=True)
        assert result.returncode == 0, result.stderr

    data, train, test = ROOT / "samples" / samples, tmp_path / "train", tmp_path / "test"
    run(f"--flagfile={ROOT}/recipes/{script}-cpu.flags", "--input_dir", data, "--output_dir", train)
    run("--mode", "test", "--checkpoint", train, "--which_direction", "both", "--paired", "--output_dir", test)
    errors = json.loads((test / "metrics.json").read_text())["images"]
    for direction in ("AtoB", "BtoA"):
        names = [name for name in errors if name.startswith(direction)]
        assert len(names) == 10
        inputs, targets = ([read_png(test / "images" / f"{n}-{k}.png") / 255 for n in names] for k in ("inputs", "targets"))
        untouched = np.abs(np.array(inputs) - targets).mean()
        translated = np.mean([errors[name]["l1"] for name in names])
        print(f"{direction}: L1 {untouched:.4f} untouched, {translated:.4f} translated, {1 - translated / untouched:.0%} less")
        assert translated <= 0.75 * untouched, direction
