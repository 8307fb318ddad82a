"""What the repository says about itself: commands, versions, recipes and links that must agree with what is there."""

import copy
import importlib
import json
import re
import subprocess
import sys

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
    for link in re.findall(r"\]\(([^)]*)\)", re.sub(r"`[^`\n]*`", "code", markdown_of(page))):
        if "://" in link:
            assert re.fullmatch(r"https?://[\w-]+(\.[\w-]+)+(/[\w./~%?=&#-]*)?", link), link
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists() and target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors_of(target), f"{link}: {anchors_of(target)}"


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
