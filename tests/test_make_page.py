"""tools/make_page.py: what it finds out about data, the file that it writes, and what a user can get wrong.

It needs no browser, no npm and no network: the runtime is a stand-in. tests/test_page.py opens real pages in browsers.
"""

import base64
import gzip
import hashlib
import http.client
import io
import json
import pwd
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import types

import numpy as np
import pytest
from conftest import ROOT, SCRIPTS, once, only, paint, save_image
from PIL import Image, ImageDraw
from run_tool import fails, run_tool

sys.path.insert(0, str(ROOT / "tools"))
import make_page


def archive(files):
    """{name: text} => bytes of a package of npm."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as file:
        for name, text in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(text.encode())
            file.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


UTILS = archive({"dist/index.js": "async function createWasmLib() {}\nexport {\n  createWasmLib\n};\n"})
CORE = {
    "dist/index.js": 'import { createWasmLib } from "@litertjs/wasm-utils";\nvar Tensor = 1;\nexport {\n  Tensor\n};\n'
}
for build in ("", "_compat", "_threaded"):
    CORE |= {f"wasm/litert_wasm{build}_internal.{kind}": f"the {kind} of '{build}'" for kind in ("js", "wasm")}
CORE = archive(CORE)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of the user with stand-ins for the two packages, whose sha512 are expected."""
    folder = tmp_path / "cache" / "make-page"
    folder.mkdir(parents=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent))
    names = {"litertjs-core-2.5.3.tgz": CORE, "litertjs-wasm-utils-2.5.3.tgz": UTILS}
    packages = dict(zip(make_page.PACKAGES, names.values(), strict=True))
    for name, content in names.items():
        (folder / name).write_bytes(content)
    hashes = {name: base64.b64encode(hashlib.sha512(content).digest()).decode() for name, content in packages.items()}
    monkeypatch.setattr(make_page, "PACKAGES", hashes)
    make_page.runtime_parts.cache_clear()
    yield folder
    make_page.runtime_parts.cache_clear()


@pytest.fixture
def npm(cache, tmp_path, monkeypatch):
    """npm(script) empties the cache and puts a stand-in for npm in the PATH."""

    def install(script):
        for path in cache.iterdir():
            path.unlink()
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        if script:
            (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
            (folder / "npm").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin" if script else str(folder))

    return install


def read_page(path):
    """A page => its settings and its parts."""
    text = path.read_text(encoding="utf-8")
    settings = json.loads(re.search(r'<script type="application/json" id="settings">(.*?)</script>', text, re.S)[1])
    parts = {}
    for name, chunk in re.findall(r'<script>part\("([\w.]+)", "([^"]*)"\)</script>', text):
        parts[name] = parts.get(name, "") + chunk
    return text, settings, {name: gzip.decompress(base64.b64decode(chunks)) for name, chunks in parts.items()}


def pixels(url):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB"))


# ------------------------------------------------------------------------------------------------------------ the page


@only("pix2pix", "cyclegan", more=["ganilla", "siamesegan", "cut"])
def test_a_page_holds_all_it_needs(script, trained, cache, tmp_path, monkeypatch):
    """The model in it gives Python's translation of the first example, which is in it too."""
    import tensorflow as tf

    monkeypatch.chdir(tmp_path)
    quantize = "none" if script.name == "siamesegan" else "float16"  # tiny channels, which its norm enlarges
    result = run_tool("make_page", trained.folder, "--quantize", quantize, "--max_examples", 2)
    assert result.returncode == 0 and result.stderr == "", result
    assert result.stdout.splitlines()[-1].startswith("done: tiny.html (")
    text, settings, parts = read_page(tmp_path / "tiny.html")
    assert settings["algorithm"] == script.name and settings["kind"] == "photo" and settings["difference"] < 0.1
    assert settings["anySize"] is (script.name == "siamesegan") and len(settings["examples"]) == 2
    assert set(parts) == {"worker", "model", "plain.js", "plain.wasm", "compat.js", "compat.wasm"}
    assert parts["plain.wasm"] == b"the wasm of ''" and parts["compat.js"] == b"the js of '_compat'"
    height, width = settings["size"]
    example = pixels(settings["examples"][0])
    padding = [(0, max(0, height - example.shape[0])), (0, max(0, width - example.shape[1])), (0, 0)]
    window = np.pad(example, padding, "reflect")[None, :height, :width]
    run = tf.lite.Interpreter(model_content=parts["model"]).get_signature_runner()
    (output,) = run(**dict.fromkeys(run.get_input_details(), window)).values()
    assert np.abs(output[0].astype(int) - pixels(settings["check"])).max() <= 1
    asks_for_nothing(text, parts["worker"].decode())


def asks_for_nothing(text, worker):
    """No address, no file beside it, and a policy that forbids both. All modules are in it, and the licence."""
    plain = re.sub(r'part\("[^)]*\)|"data:image[^"]*"', "", text)
    assert re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', plain) == []
    assert not re.search(r"https?://", plain) and "@import" not in plain and "url(" not in plain
    assert "connect-src 'none'" in plain and "default-src 'none'" in plain
    modules = plain.split('<script type="module">')[1] + worker
    assert not re.search(r"^(import|export) ", modules, re.M)
    assert all(name in modules for name in ("createWasmLib", "class Drawing", "async function translateWindows"))
    assert "Apache License" in plain


@once
def test_modules_of_the_page_share_one_scope(script):
    """They are put one after another: no name may be defined twice."""
    text = make_page.read_modules(*make_page.MODULES)
    text += (ROOT / "web" / "boot.js").read_text()
    names = re.findall(r"^(?:async )?(?:function\*?|class|const|let|var) (\w+)", text, re.M)
    assert len(names) > 40 and len(names) == len(set(names))


@pytest.mark.parametrize(
    ("flags", "size", "shown"),
    [
        (["--crop_size", "32x64", "--scale_size", "36x72"], [32, 64], [32, 64]),
        (["--aspect_ratio", "1.5"], [64, 64], [64, 96]),
        (["--lab_colorization"], [64, 64], [64, 64]),
        (["--separable_conv"], [64, 64], [64, 64]),
    ],
    ids=["not square", "aspect", "colours", "separable"],
)
@pytest.mark.more
@once
def test_other_networks(script, data, cache, tmp_path, flags, size, shown):
    training = ["--mode", "train", "--input_dir", data, *script.tiny, "--max_steps", 1, "--display_freq", 0, *flags]
    script(*training, "--output_dir", tmp_path / "t")
    quantize = "auto" if "--separable_conv" in flags else "none"
    output = ["--output", tmp_path / "a.html"]
    result = run_tool("make_page", tmp_path / "t", *output, "--max_examples", 1, "--quantize", quantize)
    assert result.returncode == 0, result
    _, settings, _ = read_page(tmp_path / "a.html")
    assert (settings["size"], settings["shown"]) == (size, shown)
    assert list(pixels(settings["examples"][0]).shape) == list(pixels(settings["check"]).shape) == [*size, 3]
    assert settings["grey"] is (flags == ["--lab_colorization"])
    assert np.ptp(pixels(settings["examples"][0]), -1).max() <= (1 if settings["grey"] else 255)
    assert settings["weights"] == ("float16" if "--separable_conv" in flags else "float32")


def test_direction_and_examples_are_chosen(trained_of, cache, tmp_path):
    """The other generator; images of a folder, whatever pairs the training had."""
    for name in ("a", "b"):
        save_image(tmp_path / "mine" / f"{name}.png", paint(40, 40, ord(name)))
    for name, flags, expected in (("cyclegan", ["--which_direction", "BtoA"], "BtoA"), ("pix2pix", [], "AtoB")):
        flags += ["--quantize", "none", "--examples", tmp_path / "mine"]
        flags += ["--output", tmp_path / "a.html", "--title", "My </script> page"]
        assert run_tool("make_page", trained_of(name).folder, *flags).returncode == 0
        _, settings, _ = read_page(tmp_path / "a.html")
        assert settings["direction"] == expected and settings["name"] == "My </script> page"
        assert len(settings["examples"]) == 2
        side = settings["size"][0]
        expected = SCRIPTS[name].module.resize(paint(40, 40, ord("a")), [side, side])
        np.testing.assert_array_equal(pixels(settings["examples"][0]), expected)


@pytest.mark.more
@once
def test_int8_that_is_wrong_gives_way_to_float16(script, trained, cache, tmp_path, monkeypatch):
    """The choice and its reason are printed; asked for, it is refused."""
    flags = [trained.folder, "--output", tmp_path / "a.html"]
    result = run_tool("make_page", *flags)
    assert result.returncode == 0 and "int8 weights" in result.stdout, result
    lite = script.module.tf.lite
    real = lite.Interpreter

    class Off(real):
        """An interpreter that is 3 levels off."""

        def get_signature_runner(self):
            run = super().get_signature_runner()
            call = type(run).__call__
            off = type("Runner", (type(run),), {"__call__": lambda self, **images: lighter(call(self, **images))})
            run.__class__ = off
            return run

    def lighter(outputs):
        return {name: np.minimum(output, 252) + 3 for name, output in outputs.items()}

    monkeypatch.setattr(lite, "Interpreter", Off)
    before = (tmp_path / "a.html").read_bytes()
    message = fails(run_tool("make_page", *flags, "--quantize", "int8"), "--quantize int8", "take float16")
    assert re.search(r"by (2\.[5-9]|3\.0)\d of 255, over 1", message)
    assert (tmp_path / "a.html").read_bytes() == before
    export = ["--format", "litert", "--quantize", "int8", "--output_dir", tmp_path / "e"]
    fails(run_tool("export", trained.folder, *export), "take float16")
    assert list((tmp_path / "e").iterdir()) == []
    result = run_tool("make_page", *flags)
    assert result.returncode == 0 and "take float16\n" in result.stdout and "float16 weights" in result.stdout


# ---------------------------------------------------------------------------------------------------- what it finds out

NAMES = {"wall": [0, 48, 255], "window": [0, 128, 255], "door": [0, 207, 255], "roof": [255, 80, 0]}


def label_map(seed, colours):
    """Rectangles of colours, as JPEG spoils them."""
    draw = np.random.default_rng(seed)
    image = Image.new("RGB", (96, 96), tuple(colours[0]))
    for colour in colours[1:]:
        x, y = draw.integers(0, 60, 2)
        ImageDraw.Draw(image).rectangle((int(x), int(y), int(x) + 30, int(y) + 25), fill=tuple(colour))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return np.asarray(Image.open(file))


def test_the_kind_of_input_is_found():
    labels = [label_map(seed, list(NAMES.values())) for seed in range(8)]
    assert make_page.find_kind(labels) == "labels"
    assert make_page.find_kind([paint(96, 96, seed) for seed in range(8)]) == "photo"
    lines = Image.new("RGB", (96, 96), "white")
    ImageDraw.Draw(lines).line((5, 5, 90, 60), fill="black", width=2)
    assert make_page.find_kind([np.asarray(lines)] * 3) == "lines"
    assert make_page.find_kind([255 - np.asarray(lines)] * 3) == "lines"
    for folder in sorted((ROOT / "samples").glob("*/test[AB]")):
        images = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.iterdir())[:4]]
        assert make_page.find_kind(images) == "photo", folder


def drawn(seed, *colours):
    """Lines on white, and under them strokes of some colours."""
    image = Image.new("RGB", (96, 96), "white")
    pen = ImageDraw.Draw(image)
    for number, colour in enumerate(colours):
        left = 10 + 20 * number + seed
        pen.rectangle((left, 40, left + 5, 48), fill=colour)
    pen.line((5, 5 + seed, 90, 60), fill="black", width=2)
    return np.asarray(image)


def test_colours_under_lines_are_found():
    orange, blue = (190, 120, 60), (70, 90, 140)
    plain = [drawn(seed) for seed in range(6)]
    coloured = [drawn(seed, orange, blue, orange) for seed in range(6)]
    assert make_page.find_kind(plain + coloured) == "lines"
    assert make_page.find_inks(plain, [255, 255, 255]) == []
    assert make_page.find_inks(plain + coloured, [255, 255, 255]) == [orange, blue]


def test_the_drawings_that_come_with_the_samples():
    """24 cats: strokes on the paper, which samples/make-drawings.py draws."""
    contents = make_page.read_drawings(ROOT / "samples" / "drawings" / "cats.json")
    assert contents["size"] == [256, 256] and len(contents["drawings"]) == 24 and len(contents["colours"]) >= 6
    assert len({drawing["name"] for drawing in contents["drawings"]}) == 24
    for drawing in contents["drawings"]:
        strokes = drawing["strokes"]
        values = np.concatenate([stroke if isinstance(stroke, list) else stroke["points"] for stroke in strokes])
        assert values.min() >= 0 and values.max() <= 256 and len(strokes) >= 6
    coloured = [each for each in contents["drawings"] if any(isinstance(stroke, dict) for stroke in each["strokes"])]
    assert 8 <= len(coloured) < 24


def test_drawings_of_lines_alone():
    """For a network that has seen no colours, and of the cats none is left out."""
    drawings = make_page.read_drawings(ROOT / "samples" / "drawings" / "cats.json")["drawings"]
    plain = make_page.without_colours(drawings)
    assert [drawing["name"] for drawing in plain] == [drawing["name"] for drawing in drawings]
    assert all(isinstance(stroke, list) for drawing in plain for stroke in drawing["strokes"])
    assert make_page.without_colours([{"name": "a", "strokes": [{"points": [1, 2, 3, 4]}]}]) == []


@pytest.mark.parametrize("colours", [(), ((190, 120, 60),)])
def test_coloured_strokes_are_for_networks_that_saw_colours(colours):
    page = {"paper": "#ffffff", "ink": "#000000"}
    args = types.SimpleNamespace(drawings=ROOT / "samples" / "drawings" / "cats.json")
    make_page.add_drawings(args, page, [drawn(seed, *colours) for seed in range(6)])
    strokes = [stroke for drawing in page["drawings"] for stroke in drawing["strokes"]]
    assert len(page["drawings"]) == 24
    assert any(isinstance(stroke, dict) for stroke in strokes) == bool(colours)
    assert ("palette" in page) == bool(colours)


def test_the_demo_offers_the_drawings_of_the_samples():
    drawings = make_page.read_drawings(ROOT / "samples" / "drawings" / "cats.json")["drawings"]
    page = json.loads((ROOT / "web" / "demo" / "cats" / "page.json").read_text(encoding="utf-8"))
    assert page["drawings"] == drawings


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.json", "out"], "nothing.json holds no drawings"),
        ([ROOT / "samples" / "drawings" / "cats.json", "out", "--width", "nan"], "--width"),
        ([ROOT / "samples" / "drawings" / "cats.json", "out", "--width", "-1"], "--width"),
    ],
)
def test_drawings_that_cannot_be_drawn(tmp_path, arguments, words):
    command = [sys.executable, ROOT / "samples" / "make-drawings.py", *arguments]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    fails(result, words)
    assert not (tmp_path / "out").exists()


def test_drawings_as_images(tmp_path):
    command = [sys.executable, ROOT / "samples" / "make-drawings.py", ROOT / "samples" / "drawings" / "cats.json"]
    ink = []
    for width in ("2", "6"):
        options = ["--width", width, "--plain"]
        subprocess.run([*command, tmp_path / width, *options], check=True, capture_output=True)
        images = [np.asarray(Image.open(path)) for path in sorted((tmp_path / width).iterdir())]
        assert len(images) == 24 and {image.shape for image in images} == {(256, 256, 3)}
        assert make_page.find_kind(images) == "lines"
        ink.append(np.mean([255.0 - image for image in images]))
    assert 2.2 < ink[1] / ink[0] < 3.8
    subprocess.run([*command, tmp_path / "coloured", "--width", "2"], check=True, capture_output=True)
    coloured = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "coloured").iterdir())]
    plain = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "2").iterdir())]
    changed = sum((one != other).any() for one, other in zip(coloured, plain, strict=True))
    assert 8 <= changed < 24
    for one, other in zip(coloured, plain, strict=True):
        assert (one <= other).all()  # lines stay above the colours
    assert make_page.find_kind(coloured) == "lines"


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '{"size": [9, 9], "drawings": []}',
        '{"size": [9, 9], "drawings": [{"name": "a", "strokes": [[1, 2, 3]]}]}',
        '{"size": [9, 9], "drawings": [{"name": "a", "strokes": [[1, "x"]]}]}',
        '{"size": [9, 9], "drawings": [{"name": "a", "strokes": [{"colour": "red", "width": 1, "points": [1, 2, 3, 4]}]'
        "}]}",
        '{"size": [9, 9], "drawings": [{"name": "a", "strokes": [[1, 2, 3, NaN]]}]}',
        '{"size": [9, 9], "drawings": [{"name": "a", "strokes": ["1234"]}]}',
        '{"size": [9, 0], "drawings": [{"name": "a", "strokes": [[1, 2, 3, 4]]}]}',
        '{"size": [9, 9], "colours": {"red": "red"}, "drawings": [{"name": "a", "strokes": [[1, 2, 3, 4]]}]}',
    ],
)
def test_drawings_that_cannot_be_read(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(make_page.UserError, match=r"holds no drawings .*cats.json shows how"):
        make_page.read_drawings(tmp_path / "a.json")


def test_colours_are_named_if_all_are_known():
    palette = make_page.find_palette([label_map(seed, list(NAMES.values())) for seed in range(8)])
    assert len(palette) == 4 and palette[0][1] > 0.4
    named = make_page.name_colours(palette, NAMES)
    assert named == [["#0030ff", "wall"], ["#0080ff", "window"], ["#00cfff", "door"], ["#ff5000", "roof"]]
    without = make_page.name_colours(palette, {"wall": NAMES["wall"]})
    assert len(without) == 4 and all(
        re.fullmatch("#[0-9a-f]{6}", colour) and colour == name for colour, name in without
    )


def test_the_twelve_labels_of_facades():
    images = [np.asarray(Image.open(path))[:, 256:] for path in sorted((ROOT / "samples/facades/train").iterdir())[:12]]
    names = make_page.read_names(ROOT / "samples" / "facades.json")
    named = make_page.name_colours(make_page.find_palette(images), names)
    assert make_page.find_kind(images) == "labels" and ["#0080ff", "window"] in named and len(named) >= 9


# ---------------------------------------------------------------------------------------------------------------- demo


@once
def test_a_demo_is_written_and_made_a_page_of(script, trained, cache, tmp_path, monkeypatch):
    """The layout of web/demo: NAME/model.tflite, page.json, check.png and examples/*.png."""
    (tmp_path / "demo").mkdir()
    flags = ["--output", tmp_path / "demo" / "stones", "--title", "Stones", "--quantize", "float16"]
    assert run_tool("make_page", trained.folder, *flags).returncode == 0
    files = sorted(str(path.relative_to(tmp_path / "demo")) for path in (tmp_path / "demo").rglob("*.*"))
    examples = [f"stones/examples/{number}.png" for number in (1, 2, 3, 4)]
    assert files == sorted(["stones/check.png", "stones/model.tflite", "stones/page.json", *examples])
    monkeypatch.setattr(make_page, "DEMO", tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    assert run_tool("make_page", "--demo", "stones").returncode == 0
    _, settings, parts = read_page(tmp_path / "Stones.html")
    assert parts["model"] == (tmp_path / "demo/stones/model.tflite").read_bytes()
    assert settings["name"] == "Stones" and settings["weights"] == "float16" and len(settings["examples"]) == 4
    assert run_tool("make_page", "--demo").stdout.splitlines()[-1].startswith("done: Stones.html")
    fails(run_tool("make_page", "--demo", "sticks"), "sticks", "stones")
    (tmp_path / "demo/stones/check.png").unlink()
    fails(run_tool("make_page", "--demo"), "incomplete", "check.png")
    monkeypatch.setattr(make_page, "DEMO", tmp_path / "nothing")
    fails(run_tool("make_page", "--demo"), "give a checkpoint")


# ----------------------------------------------------------------------------------------------------- what goes wrong


def test_arguments(tmp_path, cache):
    fails(run_tool("make_page"), "give a checkpoint", "--demo")
    fails(run_tool("make_page", "a", "--demo"), "give a checkpoint")
    fails(run_tool("make_page", "--nonsense"), "--nonsense")
    fails(run_tool("make_page", tmp_path / "none"), str(tmp_path / "none"), "--output_dir")
    fails(run_tool("make_page", tmp_path, "--max_examples", 0), "at least 1")
    (tmp_path / "options.json").write_text("[]")
    fails(run_tool("make_page", tmp_path), "options.json", "damaged")
    (tmp_path / "options.json").write_text('{"script": "os"}')
    fails(run_tool("make_page", tmp_path), "os.py")
    (tmp_path / "options.json").write_text('{"script": "pix2pix"}')
    fails(run_tool("make_page", tmp_path), "no checkpoint")


@pytest.mark.more
@once
def test_what_a_user_can_get_wrong(script, trained, cache, tmp_path):
    output = tmp_path / "no" / "a.html"
    fails(run_tool("make_page", trained.folder, "--output", output), str(output.parent))
    fails(run_tool("make_page", trained.folder, "--output", "/proc/a.html"), "/proc/a.html cannot be written")
    flags = ["--output", tmp_path / "a.html"]
    fails(run_tool("make_page", trained.folder, *flags, "--which_direction", "BtoA"), "--which_direction AtoB")
    fails(run_tool("make_page", trained.folder, *flags, "--examples", tmp_path / "none"), str(tmp_path / "none"))
    fails(run_tool("make_page", trained.folder, *flags, "--kind", "labels"), "few colours")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "1.png").write_bytes(b"no image")
    fails(run_tool("make_page", trained.folder, *flags, "--examples", tmp_path / "bad"), "1.png")
    samples = ["--examples", ROOT / "samples/facades/val", "--kind", "labels", "--labels", tmp_path / "names.json"]
    fails(run_tool("make_page", trained.folder, *flags, "--labels", tmp_path / "n.json", *samples), "few colours")
    assert not (tmp_path / "a.html").exists()


def test_names_of_colours_that_cannot_be_read(tmp_path):
    for text in ("", "[]", '{"wall": [1, 2]}', '{"wall": [1, 2, 256]}', '{"wall": "red"}'):
        (tmp_path / "names.json").write_text(text)
        with pytest.raises(make_page.UserError, match=r"names\.json does not name colours"):
            make_page.read_names(tmp_path / "names.json")


def test_data_that_have_gone(trained_of, cache, tmp_path):
    trained = trained_of("pix2pix")
    shutil.copytree(trained.folder, tmp_path / "t")
    options = json.loads((tmp_path / "t/options.json").read_text()) | {"input_dir": str(tmp_path / "gone")}
    (tmp_path / "t/options.json").write_text(json.dumps(options))
    fails(run_tool("make_page", tmp_path / "t", "--output", tmp_path / "a.html"), str(tmp_path / "gone"), "--examples")


@pytest.mark.parametrize(
    ("npm_does", "words"),
    [
        (None, ["npm, which fetches", "not installed", "Node.js"]),
        ("echo 'npm error ENOTFOUND registry' >&2; exit 1", ["cannot fetch @litertjs/core", "ENOTFOUND", "network"]),
        ("echo wrong > litertjs-core-2.5.3.tgz", ["another sha512", "@litertjs/core"]),
    ],
    ids=["no npm", "no network", "other contents"],
)
def test_a_runtime_that_cannot_be_had(npm, cache, tmp_path, npm_does, words):
    """One line, which also says what to download and where to put it; nothing is kept."""
    npm(npm_does)
    by_hand = ["registry.npmjs.org/@litertjs/core/-/core-2.5.3.tgz", str(cache / "litertjs-core-2.5.3.tgz")]
    fails(run_tool("make_page", "any", "--output", tmp_path / "a.html"), *words, *by_hand)
    assert list(cache.iterdir()) == [] and not (tmp_path / "a.html").exists()


def test_a_cache_that_cannot_be_written(npm, cache, tmp_path, monkeypatch):
    npm("exit 1")
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc")
    fails(run_tool("make_page", "any", "--output", tmp_path / "a.html"), "/proc/make-page", "XDG_CACHE_HOME")


def test_without_a_home_there_is_no_cache(npm, tmp_path, monkeypatch):
    """As in a container whose user has no entry in /etc/passwd."""

    def unknown(_):
        raise KeyError

    npm("exit 1")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name)
    fails(run_tool("make_page", "any", "--output", tmp_path / "a.html"), "HOME", "XDG_CACHE_HOME", "no home folder")


def test_the_runtime_is_fetched_once_and_a_damaged_copy_again(npm, cache, tmp_path):
    (tmp_path / "core").write_bytes(CORE)
    (tmp_path / "utils").write_bytes(UTILS)
    npm(
        f'echo "$2" >> {tmp_path}/calls\n'
        f'case "$2" in *core*) cp {tmp_path}/core a.tgz;; *) cp {tmp_path}/utils a.tgz;; esac'
    )
    for expected in (2, 2, 3):
        parts = make_page.runtime_parts.__wrapped__(threads=True)
        assert set(parts) == {"worker", *(f"{b}.{k}" for b in ("plain", "compat", "threaded") for k in ("js", "wasm"))}
        assert len((tmp_path / "calls").read_text().splitlines()) == expected
        if expected == 2:
            (cache / "litertjs-core-2.5.3.tgz").write_bytes(CORE if not (tmp_path / "once").exists() else b"damaged")
            (tmp_path / "once").touch()
    assert (cache / "litertjs-core-2.5.3.tgz").read_bytes() == CORE


# --------------------------------------------------------------------------------------------------------------- serve


def test_serve_sends_the_page_alone_with_headers_for_threads(tmp_path, monkeypatch, capsys):
    page, opened = tmp_path / "a.html", threading.Event()
    page.write_text("<p>page</p>")
    monkeypatch.setattr(make_page.webbrowser, "open", lambda url: opened.set())
    servers = []
    real = make_page.http.server.ThreadingHTTPServer

    def recorded(*arguments, **options):
        servers.append(real(*arguments, **options))
        return servers[0]

    monkeypatch.setattr(make_page.http.server, "ThreadingHTTPServer", recorded)
    thread = threading.Thread(target=make_page.serve, args=(page, 0))
    thread.start()
    try:
        assert opened.wait(10) and servers[0].server_address[0] == "127.0.0.1"
        connection = http.client.HTTPConnection("127.0.0.1", servers[0].server_port, timeout=10)
        for path, status in (("/", 200), ("/a.html", 404), ("/../../etc/passwd", 404)):
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            assert response.status == status and (body == b"<p>page</p>") is (status == 200)
            if status == 200:
                assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
                assert response.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    finally:
        servers[0].shutdown()
        thread.join(10)
    assert f"http://localhost:{servers[0].server_port}/" in capsys.readouterr().out


def test_a_port_that_is_taken(tmp_path):
    with make_page.http.server.HTTPServer(("127.0.0.1", 0), make_page.http.server.BaseHTTPRequestHandler) as server:
        for port in (server.server_port, 70000):
            with pytest.raises(make_page.UserError, match=f"--port {port} cannot be used"):
                make_page.serve(tmp_path / "a.html", port)
