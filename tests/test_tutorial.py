"""docs/tutorial.ipynb: that it fits the scripts, and that it runs from top to bottom.

Only the run needs more packages: pip install nbclient==0.11.0 ipykernel==7.4.0
"""

import ast
import importlib
import importlib.metadata
import inspect
import json
import os
import re
import sys
import types

import pytest
from conftest import ROOT, checkpoints
from run_tool import run_tool

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
CODE = {cell["id"]: "".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"}
SCRIPTS = {name: importlib.import_module(name) for name in ("pix2pix", "cyclegan")}


def has_image(cell):
    return any("image/jpeg" in output.get("data", {}) for output in cell["outputs"])


def test_it_is_a_notebook_with_the_results_of_one_run():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert NOTEBOOK.stat().st_size < 1.5e6
    assert len({cell["id"] for cell in CELLS}) == len(CELLS)
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        outputs = cell["outputs"]
        assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"], cell["id"]
        assert has_image(cell) or cell["id"] == "imports" or not re.search(r"\bfigure\(|growing\(", CODE[cell["id"]])
    assert [cell["id"] for cell in code if cell["metadata"].get("tags") == ["parameters"]] == ["settings"]


@pytest.mark.parametrize("cell", CODE)
def test_what_a_cell_takes_from_the_scripts_is_there(cell):
    """Functions, classes, methods, arguments and flags."""
    tree = ast.parse(CODE[cell])
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in SCRIPTS:
            assert all(hasattr(SCRIPTS[node.module], name.name) for name in node.names), ast.unparse(node)
        if isinstance(node, ast.Attribute) and ast.unparse(node).split(".")[0] in SCRIPTS:
            eval(ast.unparse(node), dict(SCRIPTS))  # AttributeError if it is not there
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[0] in SCRIPTS:
            parameters = inspect.signature(eval(ast.unparse(node.func), dict(SCRIPTS))).parameters
            assert {word.arg for word in node.keywords} - {None} <= set(parameters), ast.unparse(node)
    if cell != "setup":  # git's and pip's
        known = {
            flag
            for name in re.findall(rf"\b(?:run|train)\(({'|'.join(SCRIPTS)}), ", CODE[cell])
            for flag in SCRIPTS[name].FLAGS
        }
        for tool in re.findall(r"tools/([\w-]+)\.py", CODE[cell]):
            known |= set(re.findall(r"--(\w+)", run_tool(tool, "--help").stdout))
        assert {flag.removeprefix("no") for flag in re.findall(r"--([a-z]\w*)", CODE[cell])} <= known


def test_flags_and_files_that_the_text_names_are_there():
    text = "\n".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "markdown")
    known = {flag for script in SCRIPTS.values() for flag in script.FLAGS}
    assert set(re.findall(r"--([a-z]\w*)", text)) <= known
    assert all((ROOT / path).is_file() for path in re.findall(r"python ([\w/-]+\.py)", text))


@pytest.fixture
def setup_cell(tmp_path, monkeypatch):
    """setup_cell(REPOSITORY=""): runs the first cell in an empty folder, as Colab does if there is a google.colab.

    Returns the commands that it starts; git makes a folder with a pix2pix.py, and nothing is installed.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    commands = []

    def start(command, check):
        assert check
        commands.append(list(map(str, command)))
        if command[0] == "git":
            command[-1].mkdir()
            (command[-1] / "pix2pix.py").touch()

    monkeypatch.setattr("subprocess.run", start)

    def run(repository=""):
        assert 'REPOSITORY = ""' in CODE["setup"]
        names = {}
        exec(CODE["setup"].replace('REPOSITORY = ""', f"REPOSITORY = {repository!r}"), names)
        return commands, names["ROOT"]

    return run


def test_setup_in_colab_gets_the_repository(setup_cell, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    with pytest.raises(SystemExit, match="into REPOSITORY"):
        setup_cell()
    monkeypatch.setattr("shutil.which", {"nvidia-smi": "/usr/bin/nvidia-smi"}.get)
    (git, pip), root = setup_cell("https://example.org/repository.git")
    assert root == tmp_path / "image-translation" and os.getcwd() == str(root) and sys.path[0] == str(root)
    assert git[:2] == ["git", "clone"] and git[-2:] == ["https://example.org/repository.git", str(root)]
    assert pip[-2:] == ["-r", str(root / "requirements.txt")]
    os.chdir(tmp_path)
    assert len(setup_cell("https://example.org/repository.git")[0]) == 2  # a second time it does nothing


@pytest.mark.parametrize("gpu", [None, "/usr/bin/nvidia-smi"])
def test_another_tensorflow_in_colab_gets_its_libraries_for_the_gpu(setup_cell, monkeypatch, gpu):
    """Where the requirements replaced Colab's TensorFlow, and there is a GPU."""
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setattr("shutil.which", {"nvidia-smi": gpu}.get)
    found = importlib.metadata.version
    versions = iter(["2.19.0", "2.21.0"])

    def version(name):
        return next(versions, found(name)) if name == "tensorflow" else found(name)

    monkeypatch.setattr("importlib.metadata.version", version)
    commands, _ = setup_cell("https://example.org/repository.git")
    assert len(commands) == (3 if gpu else 2)
    assert not gpu or commands[-1][-1] == "tensorflow[and-cuda]==2.21.0"


def test_setup_says_what_is_wrong(setup_cell, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match=r"no pix2pix.py here: start Jupyter in"):
        setup_cell()
    (tmp_path / "pix2pix.py").touch()
    (tmp_path / "docs").mkdir()
    os.chdir(tmp_path / "docs")
    assert setup_cell() == ([], tmp_path)
    monkeypatch.setattr("PIL.__version__", "1.0")  # as if another version was loaded before the installation
    with pytest.raises(SystemExit, match="Restart session"):
        setup_cell()


@pytest.mark.timeout(900)
def test_it_runs_from_top_to_bottom(tmp_path, monkeypatch):
    """With tiny networks; then with one step more, as a student does who runs the cell of the training again."""
    for package in ("nbclient", "ipykernel"):
        pytest.importorskip(package, reason="the run of the notebook needs pip install nbclient ipykernel")
    import nbclient
    import nbformat

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))  # no npm: the last cell says so in one line
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    notebook = nbformat.read(NOTEBOOK, 4)
    nbformat.validate(notebook)
    cells = {cell.id: cell for cell in notebook.cells}
    small = {"NGF": 4, "CROP": 64, "STEPS": 4, "CYCLE_CROP": 32, "CYCLE_STEPS": 2, "WORK": f"Path({str(tmp_path)!r})"}
    assert all(f"\n{name} = " in f"\n{cells['settings'].source}" for name in small)
    cells["settings"].source += "".join(f"\n{name} = {value}" for name, value in small.items())
    again = nbformat.v4.new_code_cell(f"STEPS += 1\n{cells['train'].source}")
    notebook.cells.append(again)
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}
    nbclient.NotebookClient(notebook, timeout=600, coalesce_streams=True, resources=resources).execute()

    facades, monet = tmp_path / "tutorial_facades_4_64_train", tmp_path / "tutorial_monet_4_32_train"
    assert checkpoints(facades) == [4, 5] and checkpoints(monet) == [2]
    assert f"--checkpoint={facades}" in again.outputs[0].text
    for saved in CELLS:  # what the committed notebook shows, this run shows too
        if saved["cell_type"] == "code":
            outputs = cells[saved["id"]].outputs
            assert has_image({"outputs": outputs}) == has_image(saved), saved["id"]
            assert not [output for output in outputs if output.get("name") == "stderr"], outputs
    for name in ("train", "cycle-train"):  # images grow in one place
        assert sum(output.output_type == "display_data" for output in cells[name].outputs) == 1
    assert cells["page"].outputs[0].text.startswith("error: npm, which fetches ")
    assert cells["page"].outputs[0].text.count("\n") == 1
    assert (tmp_path / "tutorial_drawn_test" / "images" / "house-outputs.png").is_file()
    assert (tmp_path / "tutorial_painted_test" / "images" / "1-outputs.png").is_file()
