"""Functions and classes of the same name in several algorithm files have the same source, so that a fix is made once and
copied. What has to differ has another name."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ALGORITHMS = [path for name in ("pix2pix", "cyclegan", "ganilla", "siamesegan") if (path := ROOT / f"{name}.py").exists()]


def blocks(source):
    """Source of each function and class at the top level, by name, decorators included."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[node.name] = "\n".join(source.splitlines()[first - 1 : node.end_lineno])
    return found


def differences(sources):
    """(name, file, other file) of blocks that have the same name in two of {file: source}, and not the same source."""
    found, seen = [], {}
    for file, source in sources.items():
        for name, text in blocks(source).items():
            first, known = seen.setdefault(name, (file, text))
            if text != known:
                found.append((name, first, file))
    return found


def test_same_name_same_source():
    assert ALGORITHMS
    assert differences({path.name: path.read_text(encoding="utf-8") for path in ALGORITHMS}) == []


def test_no_name_is_defined_twice_in_a_file():
    for path in ALGORITHMS:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        names = [node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        assert len(names) == len(set(names)), path.name


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return x", "return x + 1"),
        ("# why", "# because"),
        ("@cache\n", ""),
        ("def f(x)", "def f(x, y=0)"),
        ("class C:\n    n = 1", "class C:\n    n = 2"),
    ],
    ids=["body", "comment", "decorator", "arguments", "class"],
)
def test_comparison_catches(old, new):
    source = "import a\n\n@cache\ndef f(x):\n    # why\n    return x\n\nclass C:\n    n = 1\n\ndef only_here():\n    pass\n"
    moved = "import b\n\n\n" + source.replace("import a\n", "").replace("only_here", "only_there")
    assert differences({"1.py": source, "2.py": moved}) == []
    assert source.count(old) == 1
    name = "C" if "class" in old else "f"
    assert differences({"1.py": source, "2.py": moved.replace(old, new)}) == [(name, "1.py", "2.py")]
