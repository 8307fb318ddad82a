"""Trains, tests and exports with all scripts, for a few steps each: for environments in which the suite itself is
not run, such as that of tests/lowest.txt.

    python tests/smoke.py
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from random_vgg import random_features

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["--ngf", "4", "--ndf", "4", "--max_steps", "3", "--ema_decay", "0.9"]
CROPS = ["--crop_size", "64", "--scale_size", "72"]
RUNS = {
    "pix2pix": ["--which_direction", "BtoA", "--upsample", "resize", "--grain", *CROPS],
    "cyclegan": ["--n_blocks", "1", *CROPS],
    "ganilla": CROPS,
    "cut": ["--n_blocks", "1", *CROPS],
    "animegan": ["--batch_size", "1", "--init_steps", "2", "--features", str(random_features()), *CROPS],
    "siamesegan": ["--batch_size", "2", "--tile", "32"],
}


def run(*command):
    """Runs a Python program; its output is shown only if it fails."""
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True)
    if done.returncode or "Traceback" in done.stderr:
        sys.exit(f"{' '.join(map(str, command))} gave {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def main():
    passed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, flags in RUNS.items():
            script = ROOT / f"{name}.py"
            train, test, export = (Path(folder, f"{name}_{mode}") for mode in ("train", "test", "export"))
            run(script, "--mode", "train", "--output_dir", train, *SMALL, *flags)
            run(script, "--mode", "train", "--checkpoint", train, "--max_steps", "4")
            run(script, "--mode", "test", "--checkpoint", train, "--output_dir", test)
            assert (test / "index.html").exists() and any((test / "images").glob("*-outputs.png"))
            run(script, "--mode", "export", "--checkpoint", train, "--output_dir", export)
            assert (export / "saved_model" / "saved_model.pb").exists()
            passed += 1
            print(f"{name}: trains, continues, tests, exports", flush=True)
        translated = Path(folder, "translated")
        run(ROOT / "tools" / "translate.py", Path(folder, "pix2pix_train"), ROOT / "samples" / "facades" / "val",
            "--output_dir", translated)
        assert any(translated.glob("*.png"))
    print(f"{passed} passed, 0 failed")


if __name__ == "__main__":
    main()
