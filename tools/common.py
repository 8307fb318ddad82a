"""What several tools share: errors for people, finding pictures, progress, files that are never half-written."""

import argparse
import contextlib
import os
import re
import sys
import time
from pathlib import Path

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


class UserError(Exception):
    """Something the user can put right. Its message is one line: what was wrong, what to do."""


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line, without the usage before it."""

    def error(self, message):
        raise UserError(f"{message} (--help shows the options)")


def run(main):
    """Calls main() and ends the process as a command should: an error is one line on stderr and exit code 2."""
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def natural_key(path):
    """Sort key that puts img2 before img10."""
    return [int(part) if part.isdigit() else part.lower() for part in re.split(r"(\d+)", Path(path).name)]


def find_images(folder):
    """The picture files directly in a folder, in natural order. Raises UserError if the folder or the pictures are missing."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give a folder of pictures")
    paths = [path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")]
    if not paths:
        raise UserError(f"{folder} holds no pictures ({', '.join(sorted(EXTENSIONS))})")
    return sorted(paths, key=natural_key)


class Progress:
    """One line that is rewritten: how many are done, the rate and the time left. Quiet when stderr is not a terminal."""

    def __init__(self, total, unit="images"):
        self.total, self.unit, self.done, self.start, self.shown = total, unit, 0, time.monotonic(), 0.0

    def step(self, count=1):
        self.done += count
        now = time.monotonic()
        if sys.stderr.isatty() and (now - self.shown > 0.2 or self.done >= self.total):
            self.shown = now
            rate = self.done / max(now - self.start, 1e-9)
            left = time.strftime("%H:%M:%S", time.gmtime((self.total - self.done) / max(rate, 1e-9)))
            end = "\n" if self.done >= self.total else ""
            print(f"\r{self.done}/{self.total} {self.unit}  {rate:.1f}/s  {left} left ", end=end, file=sys.stderr, flush=True)


@contextlib.contextmanager
def written_whole(path):
    """Gives a temporary path beside `path`; it takes the name `path` only when the block ends well, else it is removed."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
