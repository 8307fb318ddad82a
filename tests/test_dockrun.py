"""tools/dockrun.py with a stand-in `docker` on PATH that records what it is asked; and the Dockerfile's text.

No Docker Engine runs where these tests run; docs/docker.md says what was tried on a real one.
"""

import csv
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Answers like docker: `image inspect` fails until `build` was called, `run` ends with the code in the file `code`.
DOCKER = """#!{python}
import json, os, pathlib, signal, sys, time
here = pathlib.Path(__file__).parent
with open(here / "calls", "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
match sys.argv[1:]:
    case ["version", *_] if (here / "stopped").exists():
        sys.exit("Cannot connect to the Docker daemon. Is the docker daemon running?")
    case ["image", "inspect", name]:
        sys.exit(not (here / name.replace("/", "_")).exists())
    case ["build", "--tag", name, *_]:
        if (here / "no build").exists():
            sys.exit(7)
        (here / name.replace("/", "_")).touch()
    case ["run", *_]:
        if (here / "wait").exists():
            signal.signal(signal.SIGINT, lambda *_: sys.exit(42))
            print("running", flush=True)
            time.sleep(20)
        if "--interactive" in sys.argv and not sys.stdin.isatty():
            print(sys.stdin.read(), end="", flush=True)
        sys.exit(int((here / "code").read_text()) if (here / "code").exists() else 0)
"""


class House:
    """A copy of the tools with requirements of its own, a working directory, and a PATH with the stand-in alone."""

    def __init__(self, folder):
        self.bin, self.cwd, self.root = folder / "bin", folder / "my, work:dir", folder / "house"
        for made in (self.bin, self.cwd, self.root / "tools"):
            made.mkdir(parents=True)
        for name in ("tools/dockrun.py", "tools/common.py"):
            shutil.copy(ROOT / name, self.root / name)
        shutil.copytree(ROOT / "docker", self.root / "docker")
        (self.root / "requirements.txt").write_text("tensorflow==2.21.0\n")
        self.program("docker", DOCKER.format(python=sys.executable))
        self.command = [sys.executable, "-S", str(self.root / "tools" / "dockrun.py")]  # -S: no packages

    def program(self, name, text):
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def start(self, *words, **options):
        options = {"cwd": self.cwd, "env": {"PATH": str(self.bin)}, "text": True, "stdin": subprocess.DEVNULL} | options
        return subprocess.Popen(
            [*self.command, *map(str, words)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, **options
        )

    def run(self, *words, code=0, **options):
        """Runs dockrun, checks its exit code, gives the words of the last `docker run` and what stderr said."""
        process = self.start(*words, **options)
        _, said = process.communicate(timeout=20)
        assert process.returncode == code, said
        runs = [call for call in self.calls() if call[0] == "run"]
        return (runs[-1] if runs else None), said

    def fails(self, *words, **options):
        called, said = self.run(*words, code=2, **options)
        assert called is None and said.startswith("error: ") and said.count("\n") == 1, said
        return said

    def calls(self):
        log = self.bin / "calls"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def values(call, option):
    return [value for name, value in pairwise(call) if name == option]


def mounts(call):
    """The folders mounted, each checked to have the same path inside and outside."""
    folders = []
    for kind, source, target in csv.reader(values(call, "--mount")):
        assert kind == "type=bind" and source.removeprefix("source=") == target.removeprefix("target=")
        folders.append(Path(source.removeprefix("source=")))
    return folders


def test_command_runs_in_the_working_directory_as_the_caller(house):
    words = ["python", "pix2pix.py", "--mode", "train", "--no_flip", "--help"]
    call, said = house.run(*words)
    assert call[-6:] == words and call[-7].startswith("pix2pix:")
    assert values(call, "--workdir") == [str(house.cwd)] and mounts(call) == [house.cwd]
    assert values(call, "--user") == [f"{os.getuid()}:{os.getgid()}"]
    assert "HOME=/tmp" in values(call, "--env")
    assert {"--rm", "--init"} <= set(call)
    assert not {"--tty", "--gpus", "--publish"} & set(call)
    assert "building" in said


def test_image_is_built_once_and_again_when_its_recipe_changes(house):
    def builds():
        return [call for call in house.calls() if call[0] == "build"]

    first, _ = house.run("true")
    again, said = house.run("true")
    assert len(builds()) == 1 and first[-2] == again[-2] and said == ""
    _, _, name, _, dockerfile, context = builds()[0]
    assert (
        name == first[-2] and Path(dockerfile) == house.root / "docker" / "Dockerfile" and Path(context) == house.root
    )
    (house.root / "requirements.txt").write_text("tensorflow==2.22.0\n")
    other, _ = house.run("true")
    assert len(builds()) == 2 and other[-2] == builds()[1][2] != name


def test_paths_outside_are_mounted(house, tmp_path):
    for name in ("eq", "word", "gone", "up", "file"):
        (tmp_path / name).mkdir()
    (tmp_path / "file" / "a.jpg").touch()
    (house.cwd / "inside").mkdir()
    words = [
        f"--a={tmp_path / 'eq'}",
        "--b",
        tmp_path / "word",
        f"--out={tmp_path / 'gone' / 'new' / 'run'}",
        "--c",
        "../up",
    ]
    words += [
        tmp_path / "file" / "a.jpg",
        "--d",
        house.cwd / "inside",
        "inside",
        "--e=inside",
        "http://host/x",
        "--lr=0.1",
    ]
    call, _ = house.run("python", *words)
    assert mounts(call) == sorted([house.cwd, *(tmp_path / name for name in ("eq", "word", "gone", "up", "file"))])
    assert call[-len(words) :] == [str(word) for word in words]  # the same words: paths mean the same inside


def test_a_folder_within_a_mounted_one_is_not_mounted_again(house, tmp_path):
    (tmp_path / "data" / "train").mkdir(parents=True)
    call, _ = house.run("python", tmp_path / "data", tmp_path / "data" / "train")
    assert mounts(call) == sorted([house.cwd, tmp_path / "data"])


def test_where_a_link_leads_is_mounted(house, tmp_path):
    (tmp_path / "disk" / "facades").mkdir(parents=True)
    (house.cwd / "facades").symlink_to(tmp_path / "disk" / "facades")
    call, _ = house.run("python", "--input_dir", "facades")
    assert mounts(call) == sorted([house.cwd, tmp_path / "disk" / "facades"])


def test_system_folders_stay_the_images_own(house):
    call, _ = house.run("/usr/bin/env", "ls", "/usr/lib", "/", "/dev/null", "--x=/etc/passwd")
    assert mounts(call) == [house.cwd]


def test_gpu_only_where_nvidia_smi_works_and_is_wanted(house):
    house.program("nvidia-smi", "#!/bin/sh\necho 'GPU 0: a card'\n")
    call, _ = house.run("true")
    assert values(call, "--gpus") == ["all"]
    call, _ = house.run("--no_gpu", "true")
    assert "--gpus" not in call
    house.program("nvidia-smi", "#!/bin/sh\necho 'GPU access failed: no driver'\nexit 9\n")
    call, _ = house.run("true")
    assert "--gpus" not in call


def test_piped_input_reaches_the_command(house):
    process = house.start("python", stdin=subprocess.PIPE)
    out, _ = process.communicate("one\ntwo\n", timeout=20)
    assert out == "one\ntwo\n"


def test_terminal_is_passed_on(house):
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*house.command, "bash"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=house.cwd,
        env={"PATH": str(house.bin)},
    )
    assert process.wait(20) == 0
    os.close(ours)
    os.close(theirs)
    assert {"--interactive", "--tty"} <= set(house.calls()[-1])


def test_port_is_published_to_this_machine_alone(house):
    call, _ = house.run("--port", "6006", "tensorboard", "--port", "7")
    assert values(call, "--publish") == ["127.0.0.1:6006:6006"] and call[-3:] == ["tensorboard", "--port", "7"]


@pytest.mark.parametrize("code", [1, 2, 130])
def test_exit_code_is_the_commands(house, code):
    (house.bin / "code").write_text(str(code))
    house.run("python", code=code)


def test_ctrl_c_reaches_docker(house):
    (house.bin / "wait").touch()
    process = house.start("python")
    assert process.stdout.readline() == "running\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 42  # what the stand-in answers to the signal


def test_errors(house, tmp_path):
    assert "no command given" in house.fails()
    assert "--port" in house.fails("--port", "many", "true")
    assert "docker is not on PATH" in house.fails("true", env={"PATH": str(tmp_path)})
    assert "would replace the image's system" in house.fails("true", cwd="/")
    assert "is in /" in house.fails("python", "/no such folder here/x")
    (house.bin / "stopped").touch()
    assert "daemon does not answer: Cannot connect to the Docker daemon" in house.fails("true")
    (house.bin / "stopped").unlink()
    (house.bin / "no build").touch()
    _, said = house.run("true", code=2)
    assert said.splitlines()[-1].startswith("error: docker build of") and "exit code 7" in said
    (house.root / "requirements.txt").unlink()
    assert "requirements.txt" in house.fails("true")


def test_dockerfile_installs_the_requirements_with_cuda():
    """As ranges, together with the CUDA libraries of the same TensorFlow, in one call of pip."""
    steps = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    (install,) = [step for step in steps if step.startswith("RUN pip install")]
    assert "COPY requirements.txt /tmp/requirements.txt" in steps
    assert "-r /tmp/requirements.txt" in install and '"tensorflow[and-cuda]"' in install
    assert re.search(r"^tensorflow>=", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
