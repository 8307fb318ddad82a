"""docs/call-the-model.md: each snippet runs as it stands, on exports of a tiny network."""

import base64
import http.server
import json
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, SCRIPTS, paint, read_png, save_image
from run_tool import run_tool

pytestmark = pytest.mark.more
PAGE = (ROOT / "docs" / "call-the-model.md").read_text(encoding="utf-8")


def snippet(heading, language):
    """The block of a language below a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    (found,) = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with facades_train, of a tiny network, and drawing.png, which is as the network takes it."""
    folder = tmp_path_factory.mktemp("call")
    script, training = SCRIPTS["pix2pix"], folder / "facades_train"
    training.mkdir()
    model = script.algorithm(script.options(input_dir=".", which_direction="BtoA"), training=False)
    weights = script.module.weights_of(model)
    for weight in tf.nest.flatten(weights):
        weight.assign(weight * 2)  # stronger than at the start, so that images have contrasts
    tf.train.CheckpointManager(tf.train.Checkpoint(**weights), training, 1, checkpoint_name="model").save(1)
    options = {"script": "pix2pix", **script.module.saved_options(model.args)}
    (training / "options.json").write_text(json.dumps(options))
    save_image(folder / "in" / "drawing.png", paint(64, 64, 1))
    shutil.copy(folder / "in" / "drawing.png", folder)
    done = run_tool("translate", folder / "facades_train", folder / "in", "--output_dir", folder / "right")
    assert done.returncode == 0, done
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def export(kind):
    done = run_tool("export", "facades_train", "--format", kind)
    assert done.returncode == 0, done


def assert_right(name):
    """At most 1 of 255 apart from translate.py's, since other programs sum in another order."""
    right = read_png(Path("right", "drawing.png")).astype(int)
    assert right.std() > 1
    np.testing.assert_allclose(read_png(Path(name)).astype(int), right, atol=1)


@pytest.mark.parametrize("package", ["tensorflow", "ai_edge_litert"])
def test_litert(here, package):
    pytest.importorskip(package)
    export("litert")
    text = snippet("LiteRT, in Python", "python")
    if package == "ai_edge_litert":
        (line,) = re.findall(r"`(from ai_edge_litert\S* import Interpreter)`", PAGE)
        text = text.replace("import tensorflow as tf", line).replace("tf.lite.Interpreter", "Interpreter")
        assert "tf." not in text
    exec(text, {})
    assert_right("litert.png")


def test_onnx(here):
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    export("onnx")
    exec(snippet("ONNX", "python"), {})
    assert_right("onnx.png")


def test_saved_model(here):
    export("encoded")
    exec(snippet("A SavedModel, in Python", "python"), {})
    assert_right("encoded.png")


def test_request_of_tensorflow_serving(here):
    """The commands of the page, and a server that does with the JSON what TensorFlow Serving says it does."""
    for program in ("curl", "base64", "sed"):
        if not shutil.which(program):
            pytest.skip(f"needs {program}")
    export("encoded")
    model = tf.saved_model.load("facades_export/saved_model")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            assert self.path == "/v1/models/facades:predict"
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            files = [base64.b64decode(instance["image_bytes"]["b64"]) for instance in request["instances"]]
            outputs = model.signatures[request["signature_name"]](image_bytes=tf.constant(files))
            found = [{"b64": base64.b64encode(png).decode()} for png in outputs["png_bytes"].numpy()]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"predictions": found}).encode())

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("localhost", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        commands = snippet("TensorFlow Serving", "shell")
        assert "localhost:8501" in commands
        commands = commands.replace("localhost:8501", f"localhost:{server.server_port}")
        subprocess.run(["bash", "-e", "-o", "pipefail", "-c", commands], check=True, timeout=60)
        server.shutdown()
    assert_right("served.png")
    shown, answer = snippet("TensorFlow Serving", "json").splitlines()
    request, made = json.loads(Path("request.json").read_text()), json.loads(shown)
    request["instances"][0]["image_bytes"]["b64"] = made["instances"][0]["image_bytes"]["b64"]
    assert request == made and json.loads(Path("answer.json").read_text()).keys() == json.loads(answer).keys()


def test_the_version_of_litert_js_is_that_of_the_page_to_draw_in():
    tool = (ROOT / "tools" / "make_page.py").read_text(encoding="utf-8")
    (version,) = re.findall(r"npm install (@litertjs/core@\S+)", PAGE)
    assert f'"{version}"' in tool
