"""The pages of tools/make_page.py in real browsers: what a person does with mouse, keyboard, finger, files and camera.

Marked `browser`: it needs Debian's chromium or firefox-esr, Node.js, the network for LiteRT.js, and two packages:

    npm install --prefix ~/.cache/make-page/browser puppeteer-core@25.16.0 html-validate@10.17.0
    python -m pytest -n 0 -m browser tests/test_page.py
"""

import base64
import functools
import http.server
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, SCRIPTS, TINY, paint, pngs, save_image
from PIL import Image, ImageColor
from run_tool import run_tool

sys.path.insert(0, str(ROOT / "tools"))
import make_page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "make-page" / "browser"
LIBRARY = CACHE / "node_modules" / "puppeteer-core" / "lib" / "puppeteer" / "puppeteer-core.js"
BROWSERS = {"chrome": ("chromium", "chromium-browser", "google-chrome"), "firefox": ("firefox-esr", "firefox")}


class Browser:
    """A browser that node drives. It has one page: open() loads another into it."""

    def __init__(self, name, executable, downloads, *flags):
        command = ["node", ROOT / "tests" / "browser.mjs", LIBRARY, name, executable, downloads, *flags]
        self.name, self.downloads = name, downloads
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def node(self, code):
        """Runs the body of an async function of puppeteer's page, browser, and log, open of browser.mjs."""
        self.process.stdin.write(json.dumps({"code": code}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the browser has ended"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["value"]

    def js(self, expression):
        """The value of an expression in the page."""
        return self.node(f"return page.evaluate({json.dumps(expression)})")

    def open(self, url, ready=True, **options):
        self.node(f"await open({json.dumps(str(url))}, {json.dumps(options)})")
        if ready:
            self.wait("document.body.dataset.ready?.startsWith('cpu') && document.querySelector('.done #output')")

    def wait(self, expression, seconds=120):
        end = time.monotonic() + seconds
        while not self.js(f"Boolean({expression})"):
            assert time.monotonic() < end, f"{expression} is not so after {seconds} s"
            time.sleep(0.05)

    def text(self, selector):
        return self.js(f"document.querySelector({selector!r}).textContent")

    def click(self, selector):
        self.node(f"await page.click({json.dumps(selector)})")

    def press(self, key, *modifiers):
        down = "".join(f"await page.keyboard.down('{name}');" for name in modifiers)
        up = "".join(f"await page.keyboard.up('{name}');" for name in modifiers)
        self.node(f"{down} await page.keyboard.press({key!r}); {up}")

    def pixels(self, canvas):
        """What a canvas shows, uint8 RGB [h, w, 3]."""
        url = self.js(f"document.getElementById({canvas!r}).toDataURL()")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB"))

    def translated(self, action):
        """Runs action() and returns the translation that it leads to, once no other is on its way."""
        self.js("(window.count = 0, document.addEventListener('translated', () => window.count++), 0)")
        action()
        self.wait("window.count > 0")
        shown = None
        while shown is None or not np.array_equal(shown, self.pixels("output")):
            shown = self.pixels("output")
            time.sleep(0.6)
        return shown

    def drag(self, *points):
        """Draws with the mouse; points: (x, y) as shares of the canvas."""
        box = self.js(
            "(box => [box.x, box.y, box.width, box.height])(document.getElementById('input').getBoundingClientRect())"
        )
        places = [(box[0] + x * box[2], box[1] + y * box[3]) for x, y in points]
        moves = "".join(f"await page.mouse.move({x}, {y}, {{steps: 4}});" for x, y in places[1:])
        start = f"await page.mouse.move({places[0][0]}, {places[0][1]}); await page.mouse.down();"
        self.node(f"{start} {moves} await page.mouse.up();")

    def saved(self, action):
        """Runs action() and returns the pixels and the name of the image that it saves."""
        path = self.saved_file(action, ".png")
        return read_any(path), path.name

    def saved_file(self, action, suffix):
        """Runs action() and returns the path of the file that it saves."""
        for path in self.downloads.iterdir():
            path.unlink()
        action()
        before = None
        for _ in range(100):
            try:
                found = {path: path.stat().st_size for path in self.downloads.iterdir()}
            except FileNotFoundError:  # renamed meanwhile: Firefox first takes a name of its own
                found = None
            if found and found == before and all(found.values()) and {path.suffix for path in found} == {suffix}:
                (path,) = found
                return path
            before = found
            time.sleep(0.3)
        raise AssertionError("nothing was saved")

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)


def read_any(path):
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.fixture(scope="module", params=BROWSERS)
def browser(request, tmp_path_factory):
    opened = start(request.param, tmp_path_factory.mktemp("downloads"))
    yield opened
    opened.close()


def start(name, downloads, *flags):
    executable = next(filter(None, map(shutil.which, BROWSERS[name])), None)
    if not executable:
        pytest.skip(f"{name} is not installed: apt-get install {BROWSERS[name][0]}")
    if not shutil.which("node") or not LIBRARY.exists():
        pytest.skip(f"puppeteer-core is not there: npm install --prefix {CACHE} puppeteer-core@25.16.0")
    return Browser(name, executable, downloads, *flags)


@pytest.fixture(scope="module")
def browser_with_gpu(tmp_path_factory):
    """Chromium with WebGPU by SwiftShader, which computes on the CPU what a GPU would, and slowly."""
    flags = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--use-vulkan=swiftshader"]
    opened = start("chrome", tmp_path_factory.mktemp("downloads"), *flags)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def make(trained_of, data_of, tmp_path_factory):
    """make(name, *flags): the page of a tiny checkpoint of a script, or "labels", "lines", "coloured", "strokes".
    Returns (file, folder)."""
    folder = tmp_path_factory.mktemp("pages")

    @functools.cache
    def train(name):
        if name == "strokes":
            flags = ["--input_dir", data_of("animegan"), *SCRIPTS["animegan"].tiny, "--residual", "--stroke", 4]
            flags += ["--ink", 0.8, "--init_steps", 0, "--max_steps", 1, "--display_freq", 0]
            SCRIPTS["animegan"]("--mode", "train", *flags, "--seed", 1, "--output_dir", folder / name)
            return folder / name
        if name not in ("labels", "lines", "coloured"):
            return trained_of(name).folder
        pairs = folder / f"{name}-data" / "train"
        for number, path in enumerate(sorted((ROOT / "samples/facades/train").iterdir())[:4]):
            pair = read_any(path)
            if name != "labels":  # dark on white, in the place of the labels
                edges = np.abs(np.diff(pair[:, 256:].astype(int), axis=0, prepend=0)).sum(-1, keepdims=True) > 60
                lines = np.where(edges, 0, 255).astype(np.uint8).repeat(3, -1)
                if name == "coloured":  # under the lines
                    lines[100:120, 40:60] = np.minimum(lines[100:120, 40:60], [190, 120, 60])
                pair = np.concatenate([pair[:, :256], lines], 1)
            save_image(pairs / f"{number}.png", pair)
        flags = ["--input_dir", pairs, *TINY, "--which_direction", "BtoA", "--max_steps", 1, "--display_freq", 0]
        if name == "lines":
            flags += ["--upsample", "resize", "--grain"]
        SCRIPTS["pix2pix"]("--mode", "train", *flags, "--seed", 1, "--output_dir", folder / name)
        return folder / name

    @functools.cache
    def make(name, *flags):
        page = folder / f"{name}{len(list(folder.glob('*.html')))}.html"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(make_page, "serve", lambda page, port: 0)
            result = run_tool("make_page", train(name), "--output", page, *flags)
        assert result.returncode == 0, result
        return page, train(name)

    return make


@pytest.fixture(scope="module")
def server(make):
    """address(page): http://localhost/... of a page, from a plain web host."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=make("labels")[0].parent)
    handler.log_message = None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield lambda page: f"http://localhost:{server.server_port}/{page.name}"
        server.shutdown()


def python_translates(script, checkpoint, image, tmp_path, *flags):
    """Test mode's translation of uint8 RGB [h, w, 3]."""
    flags = [*flags, "--input_dir", save_image(tmp_path / "in" / "one.png", image)]
    flags += ["--nopaired"] * (script == "pix2pix")
    SCRIPTS[script]("--mode", "test", "--checkpoint", checkpoint, *flags, "--output_dir", tmp_path / "out")
    return pngs(tmp_path / "out")["one-outputs.png"]


def quiet(log):
    """The page asked for nothing but itself, and complained of nothing. Chromium mentions that it has no GPU."""
    assert log["requests"][1:] == log["errors"] == []  # Firefox does not count the page itself if it is a file
    assert [line for line in log["console"] if "No available adapters" not in line] == []


# ---------------------------------------------------------------------------------------------------------------- HTML


def test_html_is_valid(make, trained_of, tested_of, tmp_path):
    """Every kind of page that is written here, by html-validate: what may be inside what, attributes, labels."""
    validator = CACHE / "node_modules" / ".bin" / "html-validate"
    if not validator.exists():
        pytest.skip(f"html-validate is not there: npm install --prefix {CACHE} html-validate@10.17.0")

    def validate(*pages):
        # "preset": the standard's rules, without those of style
        (tmp_path / "rules.json").write_text('{"root": true, "extends": ["html-validate:standard"]}')
        command = ["node", validator, "--config", tmp_path / "rules.json", "--formatter", "text", *pages]
        return subprocess.run(command, capture_output=True, text=True).stdout

    (tmp_path / "wrong.html").write_text("<!DOCTYPE html>\n<title>a</title>\n<p><div></div></p>\n")
    assert "wrong.html:3:" in validate(tmp_path / "wrong.html")
    trained, tested, report = trained_of("pix2pix").folder, tested_of("pix2pix"), tmp_path / "report.html"
    assert run_tool("report", trained, tested, "--output", report).returncode == 0
    assert validate(trained / "index.html", tested / "index.html", report, make("labels")[0]) == ""


# --------------------------------------------------------------------------------------------------------------- start


@pytest.mark.parametrize("how", ["file", "http"])
def test_it_opens_and_checks_itself(browser, make, server, how):
    """From a file and from a web host: without another request, error or word on the console."""
    page, _ = make("labels")
    browser.open(page.as_uri() if how == "file" else server(page))
    assert "comes out as in Python" in browser.text("#status") and " " in browser.text("#timing")
    assert (
        browser.js("document.title") == "labels"
        and browser.js("document.getElementById('save-button').disabled") is False
    )
    quiet(browser.node("return log"))


@pytest.mark.parametrize("name", ["strokes", *SCRIPTS])
def test_every_algorithm(browser, make, name):
    page, _ = make(name, "--quantize", "float16")
    browser.open(page.as_uri())
    assert "comes out as in Python, 0.0" in browser.text("#status")


@pytest.mark.parametrize("name", ["lines", "strokes", *SCRIPTS])
def test_a_gpu_runs_the_whole_network_and_rightly(browser_with_gpu, make, name):
    """It is only too slow here. "lines" has --upsample resize and --grain, "strokes" has --stroke and --ink."""
    page, _ = make(name, "--quantize", "float16")
    browser_with_gpu.open(page.as_uri())
    browser_with_gpu.wait("document.body.dataset.ready !== 'cpu'")
    said = [line for line in browser_with_gpu.node("return log.console") if "GPU is not taken" in line]
    assert len(said) == 1 and re.search(r"it needs \d+ ms, the CPU \d+", said[0]), said


def test_browsers_without_relaxed_simd(browser, make):
    """Safari's case: the other build of the runtime."""
    browser.open(make("labels")[0].as_uri(), before="WebAssembly.validate = () => false")
    assert "comes out as in Python" in browser.text("#status")


def test_threads_where_a_server_allows_them(browser, make):
    page, _ = make("labels", "--serve")
    handler = functools.partial(make_page.Handler, page=page)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.open(f"http://localhost:{server.server_port}/")
        assert browser.js("crossOriginIsolated") and "all cores" in browser.text("#about")
        assert "comes out as in Python" in browser.text("#status")
        server.shutdown()


@pytest.mark.parametrize("missing", ["Worker", "DecompressionStream", "WebAssembly"])
def test_old_browsers_get_a_sentence(browser, make, missing):
    browser.open(make("labels")[0].as_uri(), ready=False, before=f"delete window.{missing}")
    browser.wait("document.getElementById('status').className === 'error'")
    assert browser.js("document.getElementById('status').textContent.length > 30")


def test_a_wrong_translation_is_said(browser, make, tmp_path):
    """A page whose network is not the one that Python had."""
    page, _ = make("labels")
    settings = '"difference": '
    text = page.read_text()
    assert text.count(settings) == 1
    (tmp_path / "wrong.html").write_text(text.replace(settings, '"difference": -300, "was": '))
    browser.open((tmp_path / "wrong.html").as_uri())
    assert (
        "do not trust" in browser.text("#status")
        and browser.js("document.getElementById('status').className") == "error"
    )


# ------------------------------------------------------------------------------------------------------------- drawing


@pytest.fixture
def labels(browser, make):
    """A page to draw labels in, opened anew and cleared, with the translation of that."""
    browser.open(make("labels", "--quantize", "float16")[0].as_uri())
    browser.translated(lambda: browser.click("#clear-button"))
    return browser


def colour_at(page, x, y):
    image = page.pixels("input")
    return "#" + bytes(image[int(y * image.shape[0]), int(x * image.shape[1])].tolist()).hex()


def test_each_tool(labels):
    """Where it draws, in which colour; and the translation follows. Edges are crisp: no colour but those of labels."""
    page = labels
    paper, before = colour_at(page, 0.5, 0.5), page.pixels("output")
    page.click('[data-colour="#ff5000"]')
    page.click("[data-tool=rect]")
    after = page.translated(lambda: page.drag((0.2, 0.2), (0.8, 0.5)))
    assert not np.array_equal(before, after)
    assert [colour_at(page, *at) for at in ((0.25, 0.25), (0.75, 0.45), (0.5, 0.6))] == ["#ff5000", "#ff5000", paper]
    page.press("b")
    page.press("3")  # the third colour of the palette
    third = page.js("document.querySelectorAll('.colour')[2].dataset.colour")
    page.drag((0.1, 0.7), (0.5, 0.9), (0.9, 0.7))
    assert [colour_at(page, *at) for at in ((0.1, 0.7), (0.3, 0.8), (0.7, 0.8))] == [third] * 3
    page.press("l")
    page.drag((0.1, 0.1), (0.5, 0.05), (0.9, 0.1))  # straight, whatever the way
    assert colour_at(page, 0.5, 0.1) == third and colour_at(page, 0.5, 0.02) == paper
    page.press("f")
    page.click('[data-colour="#c0ff3f"]')
    page.drag((0.5, 0.3))
    assert colour_at(page, 0.25, 0.45) == "#c0ff3f" and colour_at(page, 0.5, 0.6) == paper
    page.press("e")
    page.drag((0.2, 0.3), (0.8, 0.3))
    assert colour_at(page, 0.5, 0.3) == paper
    colours = {bytes(colour.tolist()).hex() for colour in page.pixels("input").reshape(-1, 3)}
    assert colours == {paper[1:], third[1:], "c0ff3f"}


def test_undo_and_redo_have_no_end(labels):
    page = labels
    page.press("b")
    states = [page.pixels("input")]
    for number in range(30):
        page.drag((0.03 * number, 0.2), (0.03 * number + 0.1, 0.8))
        if number % 3 == 0:
            page.click(f".colour:nth-child({number % 6 + 1})")
        states.append(page.pixels("input"))
    for state in states[-2::-1]:
        page.press("z", "Control")
        np.testing.assert_array_equal(page.pixels("input"), state)
    for state in states[1:]:
        page.press("y", "Control")
        np.testing.assert_array_equal(page.pixels("input"), state)
    assert page.js("document.getElementById('redo-button').disabled")
    page.press("Delete")
    assert len(np.unique(page.pixels("input").reshape(-1, 3), axis=0)) == 1
    page.click("#undo-button")
    np.testing.assert_array_equal(page.pixels("input"), states[-1])


def test_drawing_with_the_keyboard(labels):
    page = labels
    paper = colour_at(page, 0.5, 0.5)
    page.js("document.getElementById('input').focus()")
    page.press("r")
    for key in (" ", *["ArrowRight"] * 2, *["ArrowDown"] * 2, " "):
        page.press(key)
    assert colour_at(page, 0.55, 0.55) != paper and colour_at(page, 0.45, 0.45) == paper
    assert not page.js("document.getElementById('cursor').hidden")


@pytest.mark.parametrize("quantize", ["none", "float16"])
def test_what_is_saved_is_what_python_makes_of_the_drawing(browser, make, tmp_path, quantize):
    """At most 1 level apart."""
    page, checkpoint = make("labels", "--quantize", quantize)
    browser.open(page.as_uri())
    browser.press("r")
    browser.translated(lambda: browser.drag((0.1, 0.3), (0.6, 0.7)))
    pair, pair_name = browser.saved(lambda: browser.click("#pair-button"))
    output, name = browser.saved(lambda: browser.press("s"))
    assert (name, pair_name) == ("labels-outputs.png", "labels-pair.png")
    drawing = browser.pixels("input")
    np.testing.assert_array_equal(pair, np.concatenate([drawing, output], 1))
    expected = python_translates("pix2pix", checkpoint, drawing, tmp_path)
    assert np.abs(output.astype(int) - expected).max() <= 1


def test_on_demand(labels):
    page = labels
    page.press("t")
    before = page.pixels("output")
    page.drag((0.2, 0.2), (0.8, 0.8))
    time.sleep(1)
    np.testing.assert_array_equal(page.pixels("output"), before)
    assert not np.array_equal(page.translated(lambda: page.click("#translate-button")), before)


def test_before_and_after(labels):
    page = labels
    page.press("x")
    np.testing.assert_array_equal(page.pixels("before"), page.pixels("input"))
    page.js("(s => { s.value = 20; s.dispatchEvent(new Event('input')); })(document.getElementById('split'))")
    assert "80%" in page.js("getComputedStyle(document.getElementById('before')).clipPath")
    page.press("x")
    assert page.js("document.getElementById('before').hidden && document.getElementById('split').hidden")


def test_help_examples_and_names(labels):
    """`?` shows every shortcut; all controls have names; an example comes with its own translation."""
    page = labels
    page.press("?")
    assert page.js("document.getElementById('help-dialog').open") and "Rectangle" in page.text("#shortcuts")
    page.press("Escape")
    controls = "[...document.querySelectorAll('button, input, canvas[tabindex]')]"
    nameless = f"{controls}.filter(e => !(e.ariaLabel || e.textContent.trim() || e.closest('label'))).map(e => e.id)"
    assert page.js(nameless) == []
    before = page.pixels("output")
    after = page.translated(lambda: page.click(".example:nth-child(2)"))
    assert not np.array_equal(before, after)


def test_lines_have_a_pen_and_an_eraser(browser, make):
    page, _ = make("lines")
    browser.open(page.as_uri())
    assert browser.js("[...document.querySelectorAll('[data-tool]')].filter(b => !b.hidden).map(b => b.ariaLabel)") == [
        "Pen",
        "Eraser",
    ]
    browser.click("#clear-button")
    assert colour_at(browser, 0.5, 0.5) == "#ffffff"
    browser.press("]")
    browser.press("]")
    browser.drag((0.2, 0.5), (0.8, 0.5))
    assert colour_at(browser, 0.5, 0.5) == "#000000"
    browser.press("e")
    browser.drag((0.45, 0.5), (0.55, 0.5))
    assert colour_at(browser, 0.5, 0.5) == "#ffffff"


CATS = ROOT / "samples" / "drawings" / "cats.json"


@pytest.fixture
def cats(browser, make):
    """A page to draw lines and colours in, with the drawings of samples/."""
    browser.open(make("coloured", "--drawings", CATS, "--quantize", "float16", "--credit", "By no one.")[0].as_uri())
    return browser


def ink(page):
    return (page.pixels("input") < 128).all(-1)


def test_drawings_are_played_stroke_by_stroke(cats):
    """The page begins with half of the first; examples and Surprise me draw the others; undo takes a stroke back."""
    page = cats
    strokes = json.loads(CATS.read_text())["drawings"][0]["strokes"]
    half = ink(page)
    assert half.any() and page.js("document.getElementById('undo-button').disabled")
    names = page.js("[...document.querySelectorAll('.example')].map(e => e.ariaLabel)")
    assert len(names) == 6 and names[0] == "sitting, from the front"
    page.click(".example")
    page.wait("document.body.dataset.playing")
    page.wait("!document.body.dataset.playing")
    whole = ink(page)
    assert (half & ~whole).sum() == 0 and whole.sum() > 1.2 * half.sum()
    lines = [stroke for stroke in strokes if isinstance(stroke, list)]
    points = np.concatenate([np.array(stroke).reshape(-1, 2) for stroke in lines]) * whole.shape[0] / 256
    x, y = points.T.clip(0, whole.shape[0] - 1).astype(int)
    assert (page.pixels("input")[y, x].min(-1) < 240).mean() > 0.9  # through all points
    names = json.loads(CATS.read_text())["colours"]
    coloured = [stroke for stroke in strokes if isinstance(stroke, dict)]
    in_its_colour = 0
    for stroke in coloured:  # the middle of its first part; where it meets a line it is black
        x, y = np.array(stroke["points"][:4]).reshape(2, 2).mean(0) * whole.shape[0] / 256
        colour = np.array(ImageColor.getrgb(names[stroke["colour"]]))
        in_its_colour += np.abs(page.pixels("input")[int(y), int(x)] - colour).max() < 40
    assert in_its_colour > len(coloured) / 2
    drawn = page.pixels("input")
    page.press("z", "Control")
    taken = (drawn != page.pixels("input")).any(-1)
    assert 0 < taken.sum() < (drawn < 255).any(-1).sum() / 3
    page.click("#surprise-button")
    page.wait("document.body.dataset.playing")
    page.drag((0.1, 0.9), (0.2, 0.9))  # the visitor's own stroke ends it, and stays
    assert page.js("document.body.dataset.playing === undefined")
    before = page.pixels("input")
    time.sleep(0.5)
    np.testing.assert_array_equal(page.pixels("input"), before)
    assert ink(page)[int(0.9 * before.shape[0]), int(0.15 * before.shape[1])]
    page.press("?")
    assert "Surprise me" in page.text("#shortcuts") and "By no one." in page.text("#credit")


def test_without_motion_a_drawing_is_there_at_once(browser, make):
    page, _ = make("coloured", "--drawings", CATS, "--quantize", "float16", "--credit", "By no one.")
    still = "window.matchMedia = () => ({matches: true})"
    browser.open(page.as_uri(), before=still)
    before = ink(browser)
    browser.click("#surprise-button")
    assert browser.js("document.body.dataset.playing === undefined") and (ink(browser) != before).any()


def test_the_mirror_draws_both_halves(cats):
    page = cats
    page.click("#clear-button")
    page.click("#mirror-button")
    page.drag((0.1, 0.2), (0.3, 0.6), (0.2, 0.8))
    drawing = page.pixels("input")
    assert (drawing < 128).any() and np.abs(drawing.astype(int) - drawing[:, ::-1]).max() <= 8
    page.press("m")
    page.drag((0.6, 0.1), (0.7, 0.1))
    assert np.abs(page.pixels("input").astype(int) - page.pixels("input")[:, ::-1]).max() > 100


def test_colours_go_under_the_lines(cats):
    page = cats
    page.click("#clear-button")
    page.drag((0.5, 0.2), (0.5, 0.8))
    lines = ink(page)
    colour = page.js("document.querySelectorAll('.colour')[1].dataset.colour")
    page.click(".colour:nth-child(2)")
    page.translated(lambda: page.drag((0.2, 0.5), (0.8, 0.5)))
    assert (ink(page) == lines).all()
    assert colour_at(page, 0.3, 0.5) == colour_at(page, 0.7, 0.5) == colour
    page.press("e")
    page.drag((0.2, 0.5), (0.8, 0.5))
    assert colour_at(page, 0.3, 0.5) == "#ffffff"


@pytest.mark.parametrize(("width", "height"), [(375, 667), (390, 720), (740, 360)])
def test_drawing_and_translation_are_seen_together_on_a_telephone(browser, make, width, height):
    page, _ = make("coloured", "--drawings", CATS, "--quantize", "float16", "--credit", "By no one.")
    browser.open(page.as_uri(), width=width, height=height, phone=True)
    assert browser.js("document.documentElement.scrollWidth") <= width
    for canvas in ("input", "output"):
        box = browser.js(f"document.getElementById('{canvas}').getBoundingClientRect().toJSON()")
        assert box["top"] >= 0 and box["bottom"] <= height and box["width"] > 140
    assert browser.js("document.getElementById('input').getBoundingClientRect().width") > 240


def test_a_telephone(browser, make):
    """375 pixels wide: nothing scrolls sideways, and a finger draws."""
    browser.open(make("labels", "--quantize", "float16")[0].as_uri(), width=375, height=740, phone=True)
    assert browser.js("document.documentElement.scrollWidth") <= 375
    boxes = "['input', 'output'].map(id => document.getElementById(id).getBoundingClientRect().toJSON())"
    drawing, translation = browser.js(boxes)
    assert drawing["width"] > 300 and drawing["top"] >= translation["bottom"]
    browser.press("b")
    before = browser.pixels("input")
    x, y = drawing["left"] + 60, drawing["top"] + 60
    touch = f"const f = await page.touchscreen.touchStart({x}, {y}); await f.move({x + 60}, {y + 90}); await f.end();"
    browser.translated(lambda: browser.node(touch))
    assert not np.array_equal(before, browser.pixels("input")) and browser.js("scrollY") == 0
    assert not browser.js("document.getElementById('undo-button').disabled")


# -------------------------------------------------------------------------------------------------------------- photos


def give(page, how, path):
    """A file comes to the page: dropped, pasted or opened."""
    if how == "open":
        code = f"await (await page.$('#file')).uploadFile({json.dumps(str(path))})"
        return page.node(code)
    data = base64.b64encode(path.read_bytes()).decode()
    page.js(f"""(() => {{
      const bytes = Uint8Array.from(atob("{data}"), c => c.charCodeAt(0)), transfer = new DataTransfer();
      transfer.items.add(new File([bytes], "{path.name}", {{type: "image/png"}}));
      const event = new Event("{how}", {{bubbles: true, cancelable: true}});
      Object.defineProperty(event, "{how}" === "drop" ? "dataTransfer" : "clipboardData", {{value: transfer}});
      document.body.dispatchEvent(event);
    }})()""")


@pytest.mark.parametrize("how", ["drop", "paste", "open"])
def test_a_photo_comes_in_and_python_agrees(browser, make, tmp_path, how):
    """Reduced as test mode reduces it, by at most 2 levels; its translation is Python's within 1 level."""
    page, checkpoint = make("cyclegan", "--quantize", "float16")
    browser.open(page.as_uri())
    path = save_image(tmp_path / "photo.png", paint(90, 90, 5))
    browser.translated(lambda: give(browser, how, path))
    shown = browser.pixels("input")
    resized = np.asarray(Image.fromarray(paint(90, 90, 5)).resize(shown.shape[1::-1], Image.Resampling.BICUBIC))
    assert np.abs(shown.astype(int) - resized).max() <= 1
    output, _ = browser.saved(lambda: browser.press("s"))
    expected = python_translates("cyclegan", checkpoint, shown, tmp_path)
    assert np.abs(output.astype(int) - expected).max() <= 1


def test_what_is_no_image_gets_a_sentence(browser, make, tmp_path):
    browser.open(make("cyclegan", "--quantize", "float16")[0].as_uri())
    before = browser.pixels("input")
    (tmp_path / "notes.png").write_text("no image")
    give(browser, "drop", tmp_path / "notes.png")
    browser.wait("document.getElementById('status').className === 'error'", 20)
    assert "notes.png is no image" in browser.text("#status")
    np.testing.assert_array_equal(browser.pixels("input"), before)


def test_the_middle_of_a_photo_or_all_of_it(browser, make, tmp_path):
    """A photo is cut to the network's shape; at full size it goes through in windows."""
    page, checkpoint = make("cyclegan", "--quantize", "float16")
    browser.open(page.as_uri())
    photo = paint(60, 100, 6)
    browser.translated(lambda: give(browser, "drop", save_image(tmp_path / "photo.png", photo)))
    side = browser.pixels("input").shape[0]
    middle = Image.fromarray(photo[:, 20:80]).resize((side, side), Image.Resampling.BICUBIC)
    assert np.abs(browser.pixels("input").astype(int) - np.asarray(middle)).max() <= 1
    output = browser.translated(lambda: browser.press("w"))
    assert output.shape == photo.shape
    np.testing.assert_array_equal(browser.pixels("input"), photo)
    flags = ["--native_size", "--tile_size", side]
    expected = python_translates("cyclegan", checkpoint, photo, tmp_path, *flags)
    assert np.abs(output.astype(int) - expected).max() <= 2  # the windows are rounded before they are blended
    browser.press("z", "Control")
    assert browser.pixels("input").shape[0] == side


def test_siamesegan_takes_photos_of_any_size(browser, make, tmp_path):
    page, checkpoint = make("siamesegan", "--quantize", "none")
    browser.open(page.as_uri())
    photo = paint(300, 700, 7)
    browser.js("""(() => {
      const bar = document.getElementById("windows"), record = () => window.most = Math.max(window.most ?? 0, bar.max);
      new MutationObserver(record).observe(bar, {attributes: true});
    })()""")
    output = browser.translated(lambda: give(browser, "drop", save_image(tmp_path / "photo.png", photo)))
    assert output.shape == photo.shape and browser.js("window.most") == 8
    assert browser.js("document.getElementById('windows').hidden")
    expected = python_translates("siamesegan", checkpoint, photo, tmp_path, "--tile_size", 256)
    assert np.abs(output.astype(int) - expected).max() <= 2
    small = browser.translated(lambda: give(browser, "drop", save_image(tmp_path / "small.png", paint(50, 30, 8))))
    assert small.shape == (50, 30, 3)


def test_the_camera(browser, make):
    """Its frames are translated as they come; the photo that is taken stays, and can be undone."""
    browser.open(make("cyclegan", "--quantize", "float16")[0].as_uri())
    first = browser.pixels("input")
    browser.click("#camera-button")
    browser.wait("document.getElementById('camera-button').textContent.includes('Take photo')", 30)
    browser.js("(window.count = 0, document.addEventListener('translated', () => window.count++), 0)")
    browser.wait("window.count > 3", 60)
    browser.click("#camera-button")
    browser.wait("document.getElementById('camera-button').textContent.includes('Camera')", 30)
    assert browser.js("document.getElementById('video').srcObject === null")
    taken = browser.pixels("input")
    assert not np.array_equal(first, taken)
    browser.press("z", "Control")
    np.testing.assert_array_equal(browser.pixels("input"), first)


def test_no_camera_is_a_sentence(browser, make):
    refuse = "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotFoundError'); }"
    browser.open(make("cyclegan", "--quantize", "float16")[0].as_uri(), before=f"if (navigator.mediaDevices) {refuse}")
    browser.press("c")
    browser.wait("document.getElementById('status').className === 'error'", 20)
    assert browser.text("#status").startswith("No camera: none was found")
    assert "Python" not in browser.text("#status")


@pytest.mark.parametrize(
    ("flags", "shape"),
    [
        (["--crop_size", "32x64", "--scale_size", "36x72"], (32, 64)),
        (["--aspect_ratio", "1.5"], (64, 96)),
        (["--lab_colorization"], (64, 64)),
    ],
    ids=["not square", "aspect", "colours"],
)
def test_other_shapes(browser, data_of, tmp_path, flags, shape):
    """What is saved has the size that test mode writes, and its pixels."""
    training = ["--mode", "train", "--input_dir", data_of("pix2pix"), *TINY, "--max_steps", 1, "--display_freq", 0]
    SCRIPTS["pix2pix"](*training, *flags, "--output_dir", tmp_path / "t")
    page = tmp_path / "a.html"
    result = run_tool("make_page", tmp_path / "t", "--output", page, "--quantize", "float16", "--max_examples", 2)
    assert result.returncode == 0, result
    browser.open(page.as_uri())
    photo = paint(80, round(80 * shape[1] / shape[0]), 9)
    browser.translated(lambda: give(browser, "drop", save_image(tmp_path / "photo.png", photo)))
    if "--lab_colorization" in flags:
        assert np.ptp(browser.pixels("input"), -1).max() == 0
    output, _ = browser.saved(lambda: browser.press("s"))
    assert output.shape == (*shape, 3)
    expected = python_translates("pix2pix", tmp_path / "t", photo, tmp_path)
    if "--lab_colorization" in flags:  # what the page shows and translates is rounded to whole levels of grey
        grey = browser.pixels("input")
        assert np.abs(grey.astype(int) - pngs(tmp_path / "out")["one-inputs.png"]).max() <= 1
        expected = python_translates("pix2pix", tmp_path / "t", grey, tmp_path / "grey")
    assert np.abs(output.astype(int) - expected).max() <= 4  # of which the resized input makes up to 1 level
    assert np.abs(output.astype(int) - expected).mean() <= 0.5


# ------------------------------------------------------------------------------------------------------ camera and film


@pytest.fixture(scope="module")
def film(browser, tmp_path_factory):
    """film(seconds): a WebM that the browser itself has recorded, of a square that goes to the right."""
    folder = tmp_path_factory.mktemp("films")

    @functools.cache
    def film(seconds):
        url = browser.node(f"""return await page.evaluate(async () => {{
          const canvas = Object.assign(document.createElement("canvas"), {{width: 320, height: 240}});
          const context = canvas.getContext("2d"), chunks = [];
          context.fillRect(0, 0, 320, 240);
          const recorder = new MediaRecorder(canvas.captureStream(), {{mimeType: "video/webm;codecs=vp8"}});
          recorder.ondataavailable = event => chunks.push(event.data);
          const ended = new Promise(done => recorder.onstop = done);
          recorder.start();
          for (let i = 0; i < {20 * seconds}; i++) {{
            context.fillStyle = "black";
            context.fillRect(0, 0, 320, 240);
            context.fillStyle = "white";
            context.fillRect(40 + i * {200 / (20 * seconds)}, 100, 40, 40);
            await new Promise(done => setTimeout(done, 50));
          }}
          recorder.stop();
          await ended;
          const reader = new FileReader();
          reader.readAsDataURL(new Blob(chunks));
          await new Promise(done => reader.onload = done);
          return reader.result;
        }})""")
        path = folder / f"{seconds}-seconds.webm"
        path.write_bytes(base64.b64decode(url.split(",")[1]))
        return path

    return film


@pytest.fixture
def live(browser, make):
    """A page for photos, which notes when translations come."""
    note = """window.came = []; document.addEventListener("translated", () => came.push(performance.now()))"""
    browser.open(make("cyclegan", "--quantize", "float16")[0].as_uri(), before=note)
    browser.js("came.length = 0")
    return browser


def counts(page):
    """(translated, dropped) as the page says."""
    translated, _, dropped, _ = page.text("#counts").split()
    return int(translated), int(dropped)


def test_frames_are_dropped_not_queued(browser, make):
    """A network that takes 0.4 s an image: it has one frame, the newest comes next, the others count as dropped."""
    slow = """
      window.sent = window.answered = window.most = 0;
      const post = Worker.prototype.postMessage;
      Worker.prototype.postMessage = function (message, ...more) {
        if (!message.image) return post.call(this, message, ...more);
        window.most = Math.max(window.most, ++window.sent - window.answered);
        setTimeout(() => post.call(this, message, ...more), 400);
      };
      document.addEventListener("translated", () => window.answered++);
    """
    browser.open(make("cyclegan", "--quantize", "float16")[0].as_uri(), before=slow)
    browser.wait("window.sent === window.answered")
    browser.click("#camera-button")
    browser.wait("parseInt(document.getElementById('counts').textContent) >= 4", 60)
    translated, dropped = counts(browser)
    assert dropped > 2 * translated  # at least 20 frames come in a second
    assert browser.js("window.most") == 2  # the next is sent before the last is shown
    assert browser.text("#timing").endswith(" frames/s") and 0 < float(browser.text("#timing").split()[0]) < 3


def test_a_film_is_translated_and_ends_with_escape(live, film):
    """It plays, stands still, and is sought in; what was there before it comes back, and nothing is to undo."""
    before = live.pixels("input")
    assert live.js("document.getElementById('live-bar').hidden")
    give(live, "open", film(2))
    live.wait("window.came.length > 3", 60)
    assert live.text("#status").startswith("2-seconds.webm: ")
    shown = live.pixels("input")
    assert shown[0, 0].max() < 16 and shown.max() > 200 and not np.array_equal(shown, before)
    live.press("p")
    assert live.js("document.getElementById('pause-button').ariaLabel") == "Go on"
    time.sleep(1)
    still = live.pixels("input")
    time.sleep(0.5)
    np.testing.assert_array_equal(live.pixels("input"), still)
    elsewhere = "(v => v.currentTime = v.currentTime > 1 ? 0.2 : 1.8)(document.getElementById('video'))"
    live.js(elsewhere)
    for _ in range(60):  # a browser may take a while to show the frame of another place
        if np.abs(live.pixels("input").astype(int) - still).max() > 100:
            break
        time.sleep(0.5)
    else:
        pytest.fail("the film does not move to another place")
    live.press("Escape")
    np.testing.assert_array_equal(live.pixels("input"), before)
    assert live.js("document.getElementById('live-bar').hidden && document.getElementById('undo-button').disabled")
    assert live.js("document.getElementById('video').currentSrc === '' || !document.getElementById('video').src")


def test_before_and_after_belong_together(live, film):
    """Whatever frame is shown as "before" is the one that was translated: the network gives the same for it again."""
    give(live, "open", film(2))
    live.press("x")
    live.wait("window.came.length > 5", 60)
    live.press("p")
    time.sleep(1)
    np.testing.assert_array_equal(live.pixels("before"), live.pixels("input"))
    output = live.pixels("output")
    np.testing.assert_array_equal(live.translated(lambda: live.press("Enter")), output)


@pytest.mark.parametrize("isPair", [False, True])
def test_a_recording(live, film, isPair):
    """A WebM of the size of the translation or, with before and after, twice as wide; it plays as a film again."""
    side = live.pixels("output").shape[0]
    live.click("#camera-button")
    live.wait("window.came.length > 2", 60)
    if isPair:
        live.press("x")
    live.press("r")
    assert live.js("document.getElementById('record-button').ariaPressed") == "true"
    live.js("came.length = 0")
    live.wait("window.came.length > 12 && performance.now() - window.came[0] > 2000", 60)
    path = live.saved_file(lambda: live.press("r"), ".webm")
    assert path.name == f"tiny-{'pair' if isPair else 'outputs'}.webm" and path.read_bytes()[:4] == b"\x1aE\xdf\xa3"
    live.wait("document.getElementById('status').textContent.endsWith(' frames.')", 20)
    assert int(live.text("#status").split()[1]) >= 12
    copy = path.rename(path.parent.parent / f"{isPair}.webm")
    live.press("Escape")
    give(live, "open", copy)
    live.wait("document.getElementById('video').videoWidth > 0 && window.came.length > 16", 60)
    size = live.js("[document.getElementById('video').videoWidth, document.getElementById('video').videoHeight]")
    assert size == [side * (1 + isPair), side]


def test_a_recording_ends_with_the_film(live, film):
    give(live, "open", film(2))
    live.wait("window.came.length > 2", 60)
    path = live.saved_file(lambda: live.press("r"), ".webm")
    assert path.stat().st_size > 1000 and live.js("document.getElementById('video').paused")
    assert live.js("document.getElementById('record-button').ariaPressed") == "false"


def test_a_screen_reader_hears_no_frames(live):
    """The status says that the camera is on and then no more; counts and rate are not announced."""
    live.click("#camera-button")
    live.wait("document.getElementById('status').textContent.startsWith('The camera is on')", 30)
    live.js("""(window.said = 0, new MutationObserver(() => window.said++).observe(
        document.getElementById("status"), {childList: true, characterData: true, subtree: true}), 0)""")
    live.js("came.length = 0")
    live.wait("window.came.length > 10", 60)
    assert live.js("window.said") == 0
    announced = "document.getElementById('{}').closest('[role=status], [aria-live], [role=alert], output')"
    assert all(live.js(f"{announced.format(name)} === null") for name in ("counts", "timing"))


def test_without_motion_a_film_waits(browser, make, film):
    path = film(2)
    still = "window.matchMedia = () => ({matches: true})"
    browser.open(make("cyclegan", "--quantize", "float16")[0].as_uri(), before=still)
    shown = browser.translated(lambda: give(browser, "open", path))
    assert browser.js("document.getElementById('video').paused && document.getElementById('video').currentTime === 0")
    browser.click("#pause-button")
    browser.wait("document.getElementById('video').ended", 30)
    assert not np.array_equal(browser.pixels("output"), shown)


def test_what_is_no_film_gets_a_sentence(live, tmp_path):
    before = live.pixels("input")
    (tmp_path / "notes.mp4").write_text("no film")
    give(live, "open", tmp_path / "notes.mp4")
    live.wait("document.getElementById('status').className === 'error'", 20)
    assert live.text("#status").startswith("notes.mp4 is no film that this browser can play: try ")
    np.testing.assert_array_equal(live.pixels("input"), before)
    assert live.js("document.getElementById('live-bar').hidden")


def test_pages_to_draw_in_take_no_film(labels, tmp_path):
    (tmp_path / "notes.mp4").write_text("no film")
    give(labels, "open", tmp_path / "notes.mp4")
    labels.wait("document.getElementById('status').className === 'error'", 20)
    assert labels.text("#status") == "This page takes drawings and images, no films."


@pytest.mark.parametrize("missing", ["MediaRecorder", "HTMLCanvasElement.prototype.captureStream"])
def test_no_recorder_is_a_sentence(browser, make, missing):
    browser.open(make("cyclegan", "--quantize", "float16")[0].as_uri(), before=f"delete window.{missing}")
    browser.click("#camera-button")
    browser.wait("!document.getElementById('live-bar').hidden", 30)
    browser.press("r")
    assert browser.text("#status").startswith("This browser cannot record films: use ")


def test_a_refused_camera_is_a_sentence(browser, make):
    refuse = """navigator.mediaDevices.getUserMedia = async () => {
        window.asked = (window.asked ?? 0) + 1; throw new DOMException('', 'NotAllowedError'); }"""
    browser.open(make("cyclegan", "--quantize", "float16")[0].as_uri(), before=f"if (navigator.mediaDevices) {refuse}")
    browser.press("c")
    browser.wait("document.getElementById('status').className === 'error'", 20)
    assert browser.text("#status") == "No camera: it was not allowed. Open or drop a photo instead."
    assert browser.js("window.asked") == 1


def test_a_camera_that_is_switched_off_is_a_sentence(live):
    before = live.pixels("input")
    live.click("#camera-button")
    live.wait("window.came.length > 2", 60)
    live.js("document.getElementById('video').srcObject.getTracks()[0].dispatchEvent(new Event('ended'))")
    live.wait("document.getElementById('status').className === 'error'", 20)
    assert live.text("#status") == "The camera was switched off."
    np.testing.assert_array_equal(live.pixels("input"), before)


def test_browsers_that_do_not_tell_of_frames(browser, make):
    gone = "delete HTMLVideoElement.prototype.requestVideoFrameCallback"
    browser.open(make("cyclegan", "--quantize", "float16")[0].as_uri(), before=gone)
    browser.click("#camera-button")
    browser.wait("parseInt(document.getElementById('counts').textContent) > 5", 60)


@pytest.mark.parametrize(("width", "height"), [(375, 667), (390, 720), (740, 360)])
def test_camera_and_translation_are_seen_together_on_a_telephone(browser, make, width, height):
    """Both, and the controls of camera and recording, without scrolling."""
    browser.open(make("cyclegan", "--quantize", "float16")[0].as_uri(), width=width, height=height, phone=True)
    browser.click("#camera-button")
    browser.wait("parseInt(document.getElementById('counts').textContent) > 0", 60)
    browser.js("scrollTo(0, 0)")
    assert browser.js("document.documentElement.scrollWidth") <= width
    for name in ("input", "output", "pause-button", "record-button", "stop-button"):
        box = browser.js(f"document.getElementById('{name}').getBoundingClientRect().toJSON()")
        assert box["top"] >= 0 and box["bottom"] <= height, name
        assert box["width"] >= (140 if name.endswith("put") else 38), name
