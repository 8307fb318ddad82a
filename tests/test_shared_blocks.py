"""tools/fix_copies.py, which keeps the blocks that algorithm files share identical, and the layout of these files."""

import ast
import contextlib
import io
import re
import subprocess
import sys

import pytest
from conftest import ROOT, SCRIPTS, assert_one_line

sys.path.insert(0, str(ROOT / "tools"))
import fix_copies

SHARED_PART = "# >>> shared part"
FILES = [f"{name}.py" for name in SCRIPTS]


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------- the blocks


def test_the_algorithm_files_agree():
    done = subprocess.run([sys.executable, "tools/fix_copies.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.startswith(f"{len(FILES) + 2} files")


def test_every_algorithm_file_has_the_blocks_of_all():
    """Tools have the reader of images alone."""
    for name in FILES:
        assert {"start", "shared part", "reader", "curves", "small functions"} <= set(fix_copies.blocks(ROOT / name))
    assert set(fix_copies.blocks(ROOT / "tools" / "images.py")) == {"reader"}
    assert set(fix_copies.NAMES) == {*SCRIPTS, "tools/images", "tools/report"}


SOURCE = """import a

# >>> helpers: the same in all files
@cache
def f(x):
    # why
    return x
# <<< helpers


class C:
    n = 1

    # >>> method: the same in 1.py and 2.py
    def m(self):
        return 1
    # <<< method


def own():
    pass
"""


@pytest.fixture
def two(tmp_path):
    """Two files with the same blocks at other places."""
    paths = tmp_path / "1.py", tmp_path / "2.py"
    paths[0].write_text(SOURCE)
    paths[1].write_text(
        "import b\n\n\n" + SOURCE.replace("import a\n", "").replace("own", "other").replace("n = 1", "n = 2")
    )
    assert fix_copies.copy(paths, check=True) == []
    return paths


@pytest.mark.parametrize(
    ("block", "old", "new"),
    [
        ("helpers", "    return x\n", "    return x + 1\n"),
        ("helpers", "    # why\n", "    # because\n"),
        ("helpers", "@cache\n", ""),
        ("helpers", "    return x\n", "    return x\n\n\ndef g():\n    pass\n"),
        ("helpers", "def f(x)", "def f(x, y=0)"),
        ("helpers", "in all files", "in some files"),
        ("method", "        return 1\n", "        return 2\n"),
        ("method", "        return 1\n", "        return 1\n\n    k = 3\n"),
    ],
    ids=[
        "code",
        "comment",
        "removed line",
        "added function",
        "arguments",
        "first line",
        "indented code",
        "indented lines",
    ],
)
def test_a_change_is_found_and_copied(two, block, old, new):
    """With --check nothing is written; without, the first file's block comes back, and all else stays."""
    before = two[1].read_text()
    changed = before.replace(old, new)
    two[1].write_text(changed)
    for check, expected in ((True, changed), (False, before)):
        (line,) = fix_copies.copy(two, check=check)
        assert line.startswith(f"2.py: '{block}' differs from 1.py: ")
        assert two[1].read_text() == expected and two[0].read_text() == SOURCE
    assert fix_copies.copy(two, check=True) == []


def test_the_source_can_be_chosen(two):
    two[1].write_text(two[1].read_text().replace("return x", "return x + 1"))
    (line,) = fix_copies.copy(two, source=two[1])
    assert line.startswith("1.py: 'helpers' differs from 2.py: ")
    assert two[0].read_text() == SOURCE.replace("return x", "return x + 1")


def test_a_new_file_needs_only_the_two_lines(two, tmp_path):
    new = tmp_path / "3.py"
    new.write_text(
        "# >>> helpers: the same\n# <<< helpers\n\n\nclass D:\n    # >>> method: the same\n    # <<< method\n"
    )
    assert len(fix_copies.copy([*two, new])) == 2
    assert fix_copies.blocks(new) == fix_copies.blocks(two[0])
    assert new.read_text().count("class D:") == 1


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("# <<< helpers\n", "", "helpers"),
        ("# >>> helpers: the same in all files\n", "", "helpers"),
        ("    # <<< method\n", "# <<< method\n", "method"),
        ("# <<< helpers\n", "# <<< helper\n", "helpers"),
        ("# <<< helpers\n", "# <<< helpers\n# <<< helpers\n", "helpers"),
    ],
    ids=["no end", "no start", "other indentation", "other name", "two ends"],
)
def test_a_broken_marker_is_one_line(two, tmp_path, monkeypatch, old, new, name):
    """Nothing is copied, to no file."""
    broken = two[1].read_text().replace(old, new).replace("return x", "return x + 1")
    two[1].write_text(broken)
    monkeypatch.setattr(fix_copies, "ROOT", tmp_path)
    monkeypatch.setattr(fix_copies, "NAMES", ("1", "2"))
    monkeypatch.setattr(sys, "argv", ["fix_copies.py"])
    with contextlib.redirect_stderr(io.StringIO()) as stderr, pytest.raises(SystemExit) as exit:
        fix_copies.run(fix_copies.main)
    assert exit.value.code == 2
    assert_one_line(stderr.getvalue(), "2.py", f"block '{name}'")
    assert (two[0].read_text(), two[1].read_text()) == (SOURCE, broken)


# ---------------------------------------------------------------------------------------------------------- the layout

TOOLS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tools").glob("*.py"))


@pytest.mark.parametrize("name", FILES + TOOLS)
def test_no_line_is_longer_than_100_columns(name):
    lines = enumerate(read(name).splitlines(), start=1)
    long = [(number, len(line)) for number, line in lines if len(line) > 100 and not line.endswith("# noqa: E501")]
    assert long == []


def find(body, name):
    """The function or class of a name in a list of statements."""
    return next(node for node in body if getattr(node, "name", "") == name)


@pytest.mark.parametrize("name", FILES)
def test_what_a_reader_looks_for_is_where_it_is_expected(name):
    """build_generator and build_discriminator are functions, and train_step is the method after __init__."""
    body = ast.parse(read(name)).body
    names = [node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert {"build_generator", "build_discriminator"} <= set(names)
    assert len(names) == len(set(names)), "a name is defined twice"
    algorithm = find(body, class_of(name))
    methods = [node.name for node in algorithm.body if isinstance(node, ast.FunctionDef)]
    assert methods[methods.index("__init__") + 1] == "train_step"


def test_the_training_step_of_cyclegan_comes_soon():
    """Who opens the file comes from its first line to the algorithm itself before he tires."""
    algorithm = find(ast.parse(read("cyclegan.py")).body, "CycleGAN")
    assert find(algorithm.body, "train_step").lineno <= 350


def test_the_shared_part_comes_last_and_whole():
    """After it only what it uses: the reader, curves, the small functions, and the start of the command line."""
    for name in FILES:
        rest = SHARED_PART + read(name).split(SHARED_PART)[1]
        names = re.findall(r"^# >>> ([^:]+):", rest, re.MULTILINE)
        assert names == ["shared part", "reader", "curves", "small functions"]
        *_, end = re.split(r"^# <<< small functions\n", rest, flags=re.MULTILINE)
        assert end.split() == f'if __name__ == "__main__": sys.exit(main(sys.argv, {class_of(name)}))'.split()


def class_of(name):
    return SCRIPTS[name.removesuffix(".py")].class_name


def used_members(shared_part):
    """What the shared part uses of an algorithm."""
    return set(re.findall(r"(?<![\"'])\b(?:model|algorithm)\.(\w+)", shared_part))


def missing_in_contract(shared_part):
    """Members that the shared part uses and that the comment at its head does not name."""
    contract, code = re.match(rf"{SHARED_PART}.*\n((?:#.*\n)+)((?:.*\n)+)", shared_part).groups()
    assert {"train_step", "translate_file", "network_flags"} <= used_members(code)
    return {member for member in used_members(code) if not re.search(rf"\b{member}\b", contract)}


def test_the_contract_names_what_the_shared_part_uses():
    """One file stands for all, whose shared part is the same."""
    shared_part = SHARED_PART + read("pix2pix.py").split(SHARED_PART)[1]
    assert missing_in_contract(shared_part) == set()
    assert missing_in_contract(shared_part + "    model.novelty()\n") == {"novelty"}


@pytest.mark.parametrize("name", FILES)
def test_every_algorithm_has_what_the_shared_part_uses(name):
    """Named in the body of its class."""
    head, shared_part = read(name).split(SHARED_PART)
    body = head[head.index(f"class {class_of(name)}:") :]
    assert [member for member in used_members(shared_part) if not re.search(rf"\b{member}\b", body)] == []
