"""Keeps the blocks that several algorithm files share identical.

    python tools/fix_copies.py                        # from pix2pix.py, or the first that has it
    python tools/fix_copies.py --source ganilla.py    # from ganilla.py to the others
    python tools/fix_copies.py --check                # names what differs, exit code 1

A block begins with a line `# >>> NAME: ...` and ends with `# <<< NAME`, both at one indentation.
Edit it in one file, then run this. A new algorithm file needs only the two lines: the block is
copied between them.
"""

import argparse
import difflib
import re
from pathlib import Path

from common import Parser, UserError, run, written_whole

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ("pix2pix", "cyclegan", "ganilla", "siamesegan", "cut", "animegan")
NAMES = (*SCRIPTS, "tools/images", "tools/report")
BLOCK = re.compile(r"^( *)# >>> ([^:\n]+):.*\n(?:.*\n)*?\1# <<< \2\n", re.MULTILINE)


def blocks(path):
    """{name: text} of the blocks in a file, with the lines that enclose them. Raises UserError if
    one has no end."""
    text = path.read_text(encoding="utf-8")
    found = {match[2]: match[0] for match in BLOCK.finditer(text)}
    ends = re.findall(r"^ *# (?:>>>|<<<) ([^:\n]+)", text, re.MULTILINE)
    for name in ends:
        if name not in found or ends.count(name) != 2:
            raise UserError(
                f"{path.name}: block {name!r} needs one line `# >>> {name}: ...` and one `# <<< "
                f"{name}`"
            )
    return found


def copy(paths, source=None, check=False):
    """Copies the blocks among the files; with `check` changes nothing. Returns what differed, as
    lines to print."""
    found = {path: blocks(path) for path in paths}
    masters, report = {}, []
    # the source first, the rest in their order
    for path in sorted(paths, key=lambda path: path != source):
        for name, text in found[path].items():
            masters.setdefault(name, (path, text))
    for path in paths:
        text = path.read_text(encoding="utf-8")
        for name, old in found[path].items():
            master, new = masters[name]
            if new != old:
                text = text.replace(old, new)
                lines = list(
                    difflib.unified_diff(new.splitlines(), old.splitlines(), n=0, lineterm="")
                )[3:]
                where = f"{len(lines)} lines, the first is {lines[0].strip()!r}"
                report.append(f"{path.name}: {name!r} differs from {master.name}: {where}")
        if not check and text != path.read_text(encoding="utf-8"):
            with written_whole(path) as part:
                part.write_text(text, encoding="utf-8")
                part.chmod(path.stat().st_mode)
    return report


def main():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--check", action="store_true", help="only say what differs; exit code 1 if anything does"
    )
    parser.add_argument(
        "--source", help="the file whose blocks are copied (pix2pix.py, else the first that has it)"
    )
    args = parser.parse_args()
    paths = [ROOT / f"{name}.py" for name in NAMES]
    paths = [path for path in paths if path.exists()]
    source = ROOT / Path(args.source).name if args.source else None
    if source and source not in paths:
        raise UserError(
            f"--source {args.source}: give one of {', '.join(path.name for path in paths)}"
        )
    report = copy(paths, source, args.check)
    print("\n".join(report) if report else f"{len(paths)} files, all shared blocks are identical")
    return 1 if report and args.check else 0


if __name__ == "__main__":
    run(main)
