"""What the repository says about itself: commands, versions, recipes and links that must agree with what is there."""

import ast
import copy
import importlib
import io
import json
import re
import subprocess
import sys
import tokenize

import pytest
from conftest import ROOT, SCRIPTS, TINY
from run_tool import fails, run_tool


def test_ci_runs_the_test_command_of_the_readme():
    readme, ci = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    command = next(line for line in readme.splitlines() if line.endswith("-m pytest"))
    assert command in ci.splitlines()


def packages_of(name):
    """{package: what follows it in its line} of a file of requirements."""
    lines = re.findall(r"^([\w-]+)(\S+)", (ROOT / name).read_text(), re.MULTILINE)
    return dict(lines)


@pytest.mark.parametrize("script", SCRIPTS)
def test_inline_metadata_names_the_packages_of_the_requirements(script):
    metadata = re.search(r"# dependencies = (\[.*\])", (ROOT / f"{script}.py").read_text())[1]
    assert set(json.loads(metadata)) == set(packages_of("requirements.txt"))


@pytest.mark.parametrize("name", ["tests/requirements.txt", "tests/lowest.txt"])
def test_the_tested_versions_are_pinned(name):
    pinned = packages_of(name)
    for package in packages_of("requirements.txt"):
        assert re.fullmatch(r"==\d[\d.]*", pinned[package]), package


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.flags")), ids=lambda path: path.stem)
def test_recipes_are_flags_of_their_script(recipe):
    script = recipe.stem.split("-")[0].removeprefix("fast")  # fastcut-paper
    flags = copy.deepcopy(importlib.import_module(script).FLAGS)
    assert flags(["", f"--flagfile={recipe}"]) == [""]
    assert flags.mode == "train"


PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("[!.]*/*.md"), *ROOT.glob("docs/*.ipynb")})


def markdown_of(page):
    """The text of a page without its code; of a notebook, that of its text cells."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        text = "\n\n".join("".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "markdown")
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors_of(page):
    """The anchors of a page's headings, as GitHub makes them."""
    found = []
    for heading in re.findall(r"^#+ (.*)$", markdown_of(page), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.append(anchor + (f"-{found.count(anchor)}" if anchor in found else ""))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_links_of_the_docs_lead_somewhere(page):
    """Files and headings in the repository have to be there; addresses outside it have to be well-formed."""
    for source in re.findall(r'<img src="([^"]+)"', markdown_of(page)):
        assert (page.parent / source).is_file(), source
    for link in re.findall(r"\]\(([^)]*)\)", re.sub(r"`[^`\n]*`", "code", markdown_of(page))):
        if "://" in link:
            assert re.fullmatch(r"https?://[\w-]+(\.[\w-]+)+(/[\w./~%?=&#-]*)?", link), link
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists() and target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors_of(target), f"{link}: {anchors_of(target)}"


def test_every_page_is_listed():
    listed = re.findall(r"\]\(([\w-]+\.(?:md|ipynb))", (ROOT / "docs" / "README.md").read_text(encoding="utf-8"))
    pages = {page.name for page in PAGES if page.parent.name == "docs"}
    assert pages - {"README.md"} == set(listed)


def test_the_map_of_the_code_names_what_is_there():
    """Functions and classes of pix2pix.py, in the tables of docs/code-map.md."""
    tables = re.findall(r"^\|.*\|$", (ROOT / "docs" / "code-map.md").read_text(encoding="utf-8"), re.MULTILINE)
    names = set(re.findall(r"`(\w+)`", " ".join(tables))) - {"start", "run", "train_step"}
    assert len(names) > 30
    assert [name for name in sorted(names) if not hasattr(SCRIPTS["pix2pix"].module, name)] == []


# ----------------------------------------------------------------------------------------------------------- sentences

MOST_WORDS = 30
MOST_DECIMALS = 2
DECIMAL = re.compile(r"(?<![\w.])\d+\.\d+(?![\w.]*\.\d)")
UNIT = r"\d|\b(?:ms|s|seconds?|minutes?|times?|memory|work|images|steps|direction|faster|slower|[MG]i?B)"
AVOIDED = {
    "beside: next to, or compared with": re.compile(r"\bbeside\b", re.IGNORECASE),
    "wants: needs, or takes": re.compile(r"\bwants\b"),
    "a step: per step": re.compile(rf"(?:{UNIT}) an? (?:step|run|training|image|pixel|second)\b"),
}


def sentences_of(text):
    """The sentences of a text in Markdown: without its code, tables and headings. A point of a list is no part of the
    sentence before it."""
    text = re.sub(r"^ *\|.*$|^    .*$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"^ *#+ .*$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"^ *(?:[-*+]|\d+\.) |^(?=.*\S  +\S)", "\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`", "code", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\b(et al|e\.g|i\.e)\.", r"\1", text).replace("*", "")
    found = []
    for part in re.split(r"\n\s*\n", text):
        found += re.split(r"(?<=[.!?])[)\"']?\s+", " ".join(part.split()))
    return [sentence for sentence in found if sentence]


def faults_of(sentence):
    """What a machine can see in a sentence. DESIGN.md, "Words"."""
    faults = [name for name, pattern in AVOIDED.items() if pattern.search(sentence)]
    words = [word for word in sentence.split() if re.search(r"\w", word)]
    if len(words) > MOST_WORDS:
        faults.append(f"{len(words)} words")
    decimals = DECIMAL.findall(sentence)
    if len(decimals) > MOST_DECIMALS:
        faults.append(f"{len(decimals)} decimals")
    return faults


def faults_in(text):
    """One line for each sentence that has a fault."""
    found = [(faults_of(sentence), sentence) for sentence in sentences_of(text)]
    return [f"{', '.join(faults)}: {sentence}" for faults, sentence in found if faults]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_sentences_of_the_docs(page):
    assert "\n".join(faults_in(markdown_of(page))) == ""


CODE = [*(f"{name}.py" for name in SCRIPTS), *(f"tools/{path.name}" for path in sorted((ROOT / "tools").glob("*.py")))]


@pytest.mark.parametrize("file", CODE)
def test_sentences_of_docstrings_and_comments(file):
    """In comments, which a line may break anywhere, only the words."""
    text = (ROOT / file).read_text(encoding="utf-8")
    faults = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            faults += faults_in(ast.get_docstring(node) or "")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            faults += [f"{name}: {token.string}" for name, word in AVOIDED.items() if word.search(token.string)]
    assert "\n".join(faults) == ""


@pytest.mark.parametrize("script", SCRIPTS)
def test_sentences_of_the_flags(script):
    flags = SCRIPTS[script].module.FLAGS
    assert "\n".join(line for name in flags for line in faults_in(flags[name].help)) == ""


@pytest.mark.parametrize("tool", [file for file in CODE if file.startswith("tools/")])
def test_sentences_of_the_options(tool):
    """The words of `help=` in calls of add_argument()."""
    faults = []
    for node in ast.walk(ast.parse((ROOT / tool).read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "help" and isinstance(node.value, ast.Constant):
            faults += faults_in(node.value.value)
    assert "\n".join(faults) == ""


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("word " * 30 + "end.\nAnother one.", ["31 words"]),
        ("word " * 29 + "end. Short.", []),
        ("- " + "word " * 20 + "\n- " + "word " * 20, []),
        ("It takes 0.5 s, then 1.5 s, then 2.5 s.", ["3 decimals"]),
        ("TensorFlow 2.21.0 and 2.20.1 and 2.19.3.", []),
        ("| 0.1 | 0.2 | 0.3 | beside | wants |\n\n    python beside.py", []),
        ("It takes 0.26 s a step.", ["a step: per step"]),
        ("Less memory and\ntime a step.", ["a step: per step"]),
        ("A step takes a tenth longer. `wants` is code.", []),
        ("It wants `--flag`.\nLook beside it!", ["wants: needs, or takes", "beside: next to, or compared with"]),
        ("l1  of pairs\nssim  of pairs " + "word " * 27, []),
    ],
)
def test_faults_of_sentences_are_found(text, faults):
    assert [line.partition(": ")[0] for line in faults_in(text)] == [fault.partition(": ")[0] for fault in faults]


def test_readme_of_the_tests_names_every_file():
    text = (ROOT / "tests" / "README.md").read_text()
    assert {path.name for path in (ROOT / "tests").glob("*.py")} == set(re.findall(r"`(?:tests/)?(\w+\.py)`", text))


def test_benchmark_measures_and_compares():
    """Its figures are there and fit together; how fast anything is, is no test."""
    flags = ["--ngf", "4", "--ndf", "4", "--crop_size", "32", "--scale_size", "36", "--batch_size", "2"]
    yardstick = f'{sys.executable} -c "print(\'{{\\"seconds_per_step\\": 1000}}\')"'
    command = [sys.executable, "tools/benchmark.py", "pix2pix", "--steps", "3", "--warmup", "1", "--json"]
    command += ["--yardstick", yardstick, "--", *flags]
    figures = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    step = figures["step"]
    assert 0 < step["min"] <= step["seconds"] <= step["max"]
    assert step["images_per_second"] == pytest.approx(2 / step["seconds"])
    assert figures["times_as_fast_as_yardstick"] == pytest.approx(1000 / step["seconds"])
    assert figures["seconds_to_first_step"] > step["seconds"]
    assert figures["input_pipeline"]["images_per_second"] > 0
    assert 0.1 < figures["peak_memory_gib"] < 8


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["nothere"], ["nothere.py"]),
        (["json"], ["json.py"]),
        (["tools/common"], ["tools/common.py"]),
        (["pix2pix", "--", "--nonsense"], ["nonsense"]),
        (["pix2pix", "--", "--ngf", "4", "word"], ["not a flag: word"]),
        (["pix2pix", "--", "--input_dir", "/nope"], ["no such folder: /nope"]),
        (["pix2pix", "--", "--crop_size", "33"], ["--crop_size 33"]),
        (["pix2pix", "--steps", "0"], ["--steps", "at least 1"]),
        (["pix2pix", "--yardstick", "false"], ["--yardstick 'false'"]),
        (["pix2pix", "--yardstick", "nosuch"], ["--yardstick 'nosuch' cannot be run", "No such file"]),
        (["pix2pix", "--yardstick", " "], ["--yardstick ' ' cannot be run"]),
        (["pix2pix", "--yardstick", "echo {}"], ["no JSON with seconds_per_step"]),
    ],
)
def test_benchmark_says_what_is_wrong_in_one_line(monkeypatch, arguments, words):
    """Wrong flags of the tool, of the script behind it, and of the yardstick."""
    module = SCRIPTS["pix2pix"].module
    monkeypatch.setattr(module, "FLAGS", copy.deepcopy(module.FLAGS))
    fails(run_tool("benchmark", *arguments), *words)


@pytest.mark.parametrize("cache", [0, 1])
def test_benchmark_names_an_image_that_cannot_be_read(monkeypatch, tmp_path, cache):
    module = SCRIPTS["pix2pix"].module
    monkeypatch.setattr(module, "FLAGS", copy.deepcopy(module.FLAGS))
    (tmp_path / "1.jpg").write_text("no image")
    flags = ["--input_dir", str(tmp_path), "--cache_mb", str(cache), *TINY]
    fails(run_tool("benchmark", "pix2pix", "--", *flags), str(tmp_path / "1.jpg"), "cannot be read")
