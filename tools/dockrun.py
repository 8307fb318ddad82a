"""Runs a command in the project's Docker image, on the GPU when there is one. docs/docker.md says
more.

    python tools/dockrun.py python pix2pix.py --mode train --input_dir /data/facades/train

The working directory and the folders of paths on the command line are mounted where they are on
this machine, so every path means the same inside. Files that are written belong to the caller. The
image is built on first use, and again when docker/Dockerfile or requirements.txt change. Needs
Docker and Python's standard library.
"""

import argparse
import csv
import hashlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

from common import ROOT, Parser, UserError, run

DOCKERFILE, REQUIREMENTS = ROOT / "docker" / "Dockerfile", ROOT / "requirements.txt"
# Below these a path means the image's own file: the host's would replace the system that the
# command runs on.
SYSTEM = {
    *map(
        Path,
        (
            "/bin",
            "/boot",
            "/dev",
            "/etc",
            "/lib",
            "/lib32",
            "/lib64",
            "/proc",
            "/sbin",
            "/sys",
            "/usr",
        ),
    )
}


def check_docker():
    if not shutil.which("docker"):
        raise UserError(
            "docker is not on PATH; install Docker Engine: https://docs.docker.com/engine/install/"
        )
    asked = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if asked.returncode:
        reason = (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(
            f"the Docker daemon does not answer: {reason} (start it, or join the group docker)"
        )


def image_name():
    """The image's name. Its tag is a hash of what the image is made of, so a change of that makes a
    new image."""
    try:
        parts = DOCKERFILE.read_bytes() + REQUIREMENTS.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read {error.filename}, which the image is made from; restore it"
        ) from None
    return f"pix2pix:{hashlib.sha256(parts).hexdigest()[:12]}"


def build_once(image):
    if subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode:
        print(f"building the image {image}; this takes some minutes, once", file=sys.stderr)
        build = ["docker", "build", "--tag", image, "--file", str(DOCKERFILE), str(ROOT)]
        if code := subprocess.run(build, stdout=sys.stderr).returncode:
            raise UserError(
                f"docker build of {DOCKERFILE} failed with exit code {code}; its output is above"
            )


def has_gpu():
    """Whether nvidia-smi lists a GPU: it may be installed without a driver, and then fails."""
    if not shutil.which("nvidia-smi"):
        return False
    listed = subprocess.run(
        ["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", errors="replace"
    )
    return listed.returncode == 0 and "GPU" in listed.stdout


def check_system(name=os.name):
    """Raises UserError on Windows, where a container cannot have the folders under their names."""
    if name == "nt":
        raise UserError(
            "folders have the same names inside a container and outside, which Windows does not "
            "allow: run dockrun.py in WSL2"
        )


def folders_to_mount(command, cwd):
    """The working directory, and the folders that the paths on the command line need in addition.

    A path is a word, or what follows `=` in one, that is absolute, starts with `..` or exists. What
    is mounted is the nearest folder that exists: for a file the one it is in, for a new output
    folder the one it will be made in.
    """
    if cwd == Path("/") or cwd in SYSTEM:
        raise UserError(
            f"{cwd} as the working directory would replace the image's system; change to another "
            "folder"
        )
    folders = {cwd}
    for word in command[1:]:  # the first word is a program of the image
        value = word.partition("=")[2] if word.startswith("-") else word
        try:
            known = bool(value) and (value.startswith(("/", "..")) or os.path.lexists(cwd / value))
        except ValueError:  # a NUL byte
            known = False
        if not known:
            continue
        absolute = Path(os.path.abspath(cwd / value))
        # of a link, where it is and where it leads
        for path in (absolute, Path(os.path.realpath(absolute))):
            if path == Path("/") or any(system in (path, *path.parents) for system in SYSTEM):
                continue
            folder = next(parent for parent in (path, *path.parents) if os.path.isdir(parent))
            if folder == Path("/"):
                raise UserError(
                    f"{value} is in /, which cannot be mounted; make the folder first, or use "
                    "another"
                )
            folders.add(folder)
    return sorted(folder for folder in folders if not folders.intersection(folder.parents))


def bind(folder):
    """The --mount option for a folder, quoted as Docker reads it: as one line of CSV."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(
        ["type=bind", f"source={folder}", f"target={folder}"]
    )
    return line.getvalue()


def main():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--port",
        type=int,
        help="port to open to this machine, for TensorBoard (with --host 0.0.0.0)",
    )
    parser.add_argument(
        "--no_gpu",
        action="store_true",
        help="use no GPU, e.g. without the NVIDIA Container Toolkit",
    )
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="COMMAND...", help="what to run in the image"
    )
    args = parser.parse_args()
    if not args.command:
        raise UserError(
            "no command given; for example: python tools/dockrun.py python pix2pix.py --mode train"
        )

    check_system()
    cwd = Path.cwd()
    folders = folders_to_mount(args.command, cwd)
    check_docker()
    image = image_name()
    build_once(image)

    # --init: a first process that passes on signals. USER: a caller unknown to the image has no
    # name otherwise.
    docker = [
        "docker",
        "run",
        "--rm",
        "--init",
        "--workdir",
        str(cwd),
    ]
    if hasattr(os, "getuid"):
        docker += ["--user", f"{os.getuid()}:{os.getgid()}"]
    docker += ["--env", "HOME=/tmp", "--env", "USER=user"]
    for folder in folders:
        docker += ["--mount", bind(folder)]
    if has_gpu() and not args.no_gpu:
        docker += ["--gpus", "all"]
    # a pipe or a file; without --interactive the command would read nothing
    if not sys.stdin.isatty():
        docker += ["--interactive"]
    elif sys.stdout.isatty():
        docker += ["--interactive", "--tty"]
    if args.port:
        docker += ["--publish", f"127.0.0.1:{args.port}:{args.port}"]
    # In place of this process, so that Ctrl-C, other signals and the exit code pass between caller
    # and docker directly.
    os.execvp("docker", [*docker, image, *args.command])


if __name__ == "__main__":
    run(main)
