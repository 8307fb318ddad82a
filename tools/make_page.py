"""Makes one HTML file that translates what a person draws, or a photo, in the browser: no server,
no network.

    python tools/make_page.py facades_train            # facades.html: double-click it, mail it
    python tools/make_page.py monet2photo_cyclegan_train --which_direction BtoA --output photo.html
    python tools/make_page.py --demo                   # cats; or --demo facades, landscapes
    python tools/make_page.py facades_train --serve    # on localhost, where it has all cores

The page is web/ with the generator and LiteRT.js (Apache 2.0, fetched by npm, kept in the user's
cache) inside. docs/draw.md shows it.
"""

import argparse
import base64
import contextlib
import functools
import gzip
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import webbrowser
from pathlib import Path

import export
import numpy as np
from common import (
    ROOT,
    Parser,
    UserError,
    in_our_words,
    load_algorithm,
    load_trained,
    positive_integer,
    run,
    script_of,
    written_whole,
)
from PIL import Image

WEB, DEMO = ROOT / "web", ROOT / "web" / "demo"
PACKAGES = {  # what npm has to bring, by its sha512
    "@litertjs/core@2.5.3": "PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",  # noqa: E501
    "@litertjs/wasm-utils@2.5.3": "4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",  # noqa: E501
}
MODULES = [  # of the page, in the order in which they come
    "windows.js",
    "images.js",
    "drawing.js",
    "strokes.js",
    "translator.js",
    "live.js",
    "recorder.js",
    "app.js",
]
CHUNK = 3 << 18  # bytes of base64 in a <script>: the page shows progress after each

# -------------------------------------------------------------------------------------------- model


def png(pixels):
    """uint8 RGB [h, w, 3] => bytes of a PNG."""
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(file, "PNG", optimize=True)
    return file.getvalue()


def flat_colours(images):
    """uint8 RGB images => their colours [n, 3] and how many pixels have each. Only pixels that are
    like the ones to the right and below count, since resizing and JPEG mix colours at edges."""
    flat = []
    for image in images:
        image = image.astype(int)
        steps = np.abs(image[:-1, :-1] - image[1:, :-1]).max(-1) + np.abs(
            image[:-1, :-1] - image[:-1, 1:]
        ).max(-1)
        flat.append(image[:-1, :-1][steps <= 4] @ [65536, 256, 1])
    packed, counts = np.unique(np.concatenate(flat), return_counts=True)
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], 1), counts


def find_palette(images, most=24, radius=12):
    """uint8 RGB images => [(colour, share)], most common first, or [] if they are not made of few
    flat colours.

    Pixels within `radius` levels of a colour belong to it.
    """
    colours, counts = flat_colours(images)
    if counts.sum() < 0.3 * sum(image.size / 3 for image in images):
        return []
    left, found = counts / counts.sum(), []
    while len(found) < most:
        index = left.argmax()
        near = np.abs(colours - colours[index]).max(1) <= radius
        share = left[near].sum()
        if share < 0.001:
            break
        found.append((tuple(colours[index].tolist()), float(share)))
        left[near] = 0
    return found if sum(share for _, share in found) > 0.95 else []


def find_kind(images, radius=12):
    """uint8 RGB images => "labels", few flat colours; "lines", grey strokes on an empty ground,
    perhaps with some colour; or "photo"."""
    pixels = np.concatenate([image[::2, ::2].reshape(-1, 3) for image in images]).astype(int)
    empty = max((pixels.min(1) > 224).mean(), (pixels.max(1) < 32).mean())
    is_grey = np.ptp(pixels, 1) <= 24
    if is_grey.mean() > 0.95 and empty > 0.7:  # some colour may be under the lines
        return "lines"
    # Cartoons have flat colours too, but each its own: those of one half of label maps are those of
    # the other
    palette, (colours, counts) = find_palette(images[::2]), flat_colours(images[1::2] or images)
    known = np.zeros(len(colours), bool)
    for colour, _ in palette:
        known |= np.abs(colours - colour).max(1) <= radius
    return "labels" if len(palette) > 2 and counts[known].sum() > 0.9 * counts.sum() else "photo"


def find_inks(images, paper, most=8):
    """Drawings, uint8 RGB => the colours that are under their lines, [(r, g, b)], commonest first;
    [] if there are none."""
    colours, counts = flat_colours(images)
    is_paper = np.abs(colours - paper).max(1) <= 24
    left = np.where(is_paper, 0, counts / counts.sum())
    left[np.ptp(colours, 1) <= 24] = 0  # lines and their soft edges
    if left.sum() < 0.0005:
        return []
    found = []
    least = left.sum() / 50
    while len(found) < most and left.sum() > 0:
        index = left.argmax()
        near = np.abs(colours - colours[index]).max(1) <= 40
        if left[near].sum() < least:
            break
        found.append(tuple(colours[index].tolist()))
        left[near] = 0
    return found


def read_drawings(path):
    """A file of drawings such as samples/drawings/cats.json => its contents. Raises UserError."""
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
        height, width = contents["size"]
        drawings = []
        named = contents.get("colours", {})
        for drawing in contents["drawings"]:
            strokes = [read_stroke(stroke, named) for stroke in drawing["strokes"]]
            if not strokes:
                raise ValueError(f"{drawing['name']} has no strokes")
            drawings.append({"name": str(drawing["name"]), "strokes": strokes})
        if not drawings or not min(float(height), float(width)) > 0:
            raise ValueError("there are no drawings, or they have no size")
        colours = [[str(text), str(name)] for name, text in named.items()]
        if not all(re.fullmatch("#[0-9a-f]{6}", text) for text, _ in colours):
            raise ValueError("a colour is like #c08040")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} holds no drawings ({error}); samples/drawings/cats.json shows how"
        ) from None
    return {"size": [height, width], "drawings": drawings, "colours": colours}


def read_stroke(stroke, colours):
    """A stroke of a file of drawings => the same for a page: [x, y, x, y, ...], or with a colour of
    `colours`, {name: "#rrggbb"}, {"colour", "width", "points"}. Raises ValueError, KeyError or
    TypeError."""
    is_coloured = isinstance(stroke, dict)
    points = stroke["points"] if is_coloured else stroke
    if not isinstance(points, list) or len(points) < 4 or len(points) % 2:
        raise ValueError("a stroke is [x, y, x, y, ...]")
    points = [pixels(value) for value in points]
    if not is_coloured:
        return points
    if stroke["colour"] not in colours:
        raise ValueError(f"{stroke['colour']} is not one of its colours")
    if not pixels(stroke["width"]) > 0:
        raise ValueError("the width of a stroke is above 0")
    return {"colour": colours[stroke["colour"]], "width": stroke["width"], "points": points}


def pixels(value):
    """A number of a file of drawings. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e6:
        raise ValueError(f"{value!r} is no number of pixels")
    return value


def name_colours(palette, names):
    """[(colour, share)] => [["#rrggbb", name]]. names: {name: [r, g, b]}, taken if they name every
    colour."""
    known = {to_hex(colour): name for name, colour in names.items()}
    found = [
        min(known, key=lambda text: distance(text, colour), default=None) for colour, _ in palette
    ]
    if all(
        text and distance(text, colour) <= 24
        for text, (colour, _) in zip(found, palette, strict=True)
    ):
        return [[text, name] for text, name in known.items() if text in found]
    return [[to_hex(colour)] * 2 for colour, _ in palette]


def to_hex(colour):
    """(r, g, b) => "#rrggbb"."""
    return "#" + bytes(colour).hex()


def distance(text, colour):
    """How far "#rrggbb" is from (r, g, b), in levels of the channel where they differ most."""
    return max(
        abs(int(text[i : i + 2], 16) - level) for i, level in zip((1, 3, 5), colour, strict=True)
    )


def read_names(path):
    """A file of colours such as samples/facades.json => {name: [r, g, b]}."""
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
        names = {str(name): [int(level) for level in colour] for name, colour in contents.items()}
        # bytes() refuses other than 0 to 255
        if all(len(bytes(colour)) == 3 for colour in names.values()):
            return names
        reason = "a colour is three numbers from 0 to 255"
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error)
    raise UserError(f"{path} does not name colours ({reason}); samples/facades.json shows how")


def folder_of(checkpoint):
    """The folder of a training, of which a checkpoint in it may be named."""
    return Path(checkpoint) if os.path.isdir(checkpoint) else Path(checkpoint).parent


def load_model(args):
    """=> the module of the algorithm, the model, and two folders: of images to offer, of images
    like all inputs."""
    module, _ = load_algorithm(script_of(args.checkpoint))
    flags = {"which_direction": args.which_direction}
    if "tile_size" in module.FLAGS and "native_size" not in module.FLAGS:  # siamesegan.py
        flags["tile_size"] = 256  # photos go through in windows of this
    if "paired" in module.FLAGS and args.examples:
        flags["paired"] = False  # these are inputs alone
    module, model = load_trained(args.checkpoint, mode="export", **flags)
    for domain in model.domains.values():
        if not domain.is_viewable:
            raise UserError(f"a page shows images of 8 bits with 1 or 3 channels, not {domain}")
    model = TakesRgb(module, model)
    trained_on = model.args.saved["input_dir"]
    folders = [args.examples] if args.examples else [module.find_held_out(trained_on), trained_on]
    folders = [folder for folder in folders if folder and os.path.exists(folder)]
    if not folders:
        raise UserError(
            f"no such folder: {args.examples or trained_on}; give --examples, a folder of inputs"
        )
    return module, model, folders[0], folders[-1]


def choose_weights(module, model, wanted, examples, file):
    """=> "float32", "float16" or "int8", and the LiteRT model. auto: int8, if it is right
    and fast."""
    if wanted == "auto":
        wanted = "int8"
        if getattr(model.args, "separable_conv", False):
            print("separable convolutions are slower in int8: taking float16")
            wanted = "float16"
        else:
            try:
                export.write_litert(module, model, file, "int8", examples)
            except export.Inexact as error:
                print(error)
                wanted = "float16"
    if wanted != "int8" or not file.exists():
        export.write_litert(module, model, file, wanted, examples)
    return wanted.replace("none", "float32"), file.read_bytes()


def read_inputs(model, folder, most):
    """Corners of up to `most` inputs, spread over a folder, as the files have them: uint8 RGB [h,
    w, 3]."""
    sources = model.find_test_images(folder)
    for index in sorted(
        {round(i) for i in np.linspace(0, len(sources) - 1, min(len(sources), most))}
    ):
        _, path, direction = sources[index]
        image = model.read(path)[:512]
        channels = model.channels[direction[0]]
        if image.shape[-1] != channels:  # a pair A|B
            image = image[..., -channels:] if direction == "BtoA" else image[..., :channels]
        yield to_rgb(image[:, :512])


def read_examples(module, model, folder, most):
    """The first images of a folder as the network takes them: uint8 RGB [h, w, 3]."""
    for _, path, direction in model.find_test_images(folder)[:most]:
        image = to_rgb(model.translate_file(path, direction)["inputs"])
        scale = min(1, 1024 / max(image.shape))  # siamesegan.py's have any size
        yield module.resize_array(image, [round(side * scale) for side in image.shape[:2]])


def to_rgb(image):
    """uint8 [h, w, 1] or [h, w, 3] => uint8 RGB [h, w, 3]."""
    return np.broadcast_to(image, [*image.shape[:2], 3])


class TakesRgb:
    """A model whose serving model takes and gives RGB, as the page does, though the network may be
    for grey."""

    def __init__(self, module, model):
        self.module = module
        self.model = model
        self.channels = {name: domain.channels for name, domain in model.domains.items()}
        self.domains = {"A": module.Domain(), "B": module.Domain()}

    def __getattr__(self, name):
        return getattr(self.model, name)

    def translate_file(self, path, direction):
        """{kind: uint8 RGB [h, w, 3]}."""
        images = self.model.translate_file(path, direction)
        return {kind: to_rgb(image) for kind, image in images.items()}

    def build_serving_model(self, height=None, width=None, batch_size=None):
        """uint8 RGB [n, h, w, 3] => uint8 RGB."""
        serving = self.model.build_serving_model(height, width, batch_size)
        if set(self.channels.values()) == {3}:
            return serving
        keras, ops = self.module.keras, self.module.ops
        images = inputs = keras.Input((height, width, 3), batch_size, dtype="uint8", name="images")
        if serving.input.shape[-1] == 1:  # grey as Pillow makes it
            parts = ops.cast(images, "float32") * np.float32([19595, 38470, 7471])
            grey = ops.floor((ops.sum(parts, axis=-1, keepdims=True) + 32768) / 65536)
            inputs = ops.cast(grey, "uint8")
        outputs = serving(inputs)
        if outputs.shape[-1] == 1:
            outputs = ops.concatenate([outputs] * 3, axis=-1)
        return keras.Model(images, outputs)


def from_checkpoint(args, folder):
    """A checkpoint => the contents of a page: {"page": settings, "model", "check": bytes,
    "examples": [bytes]}."""
    module, model, offered, all_inputs = load_model(args)
    with in_our_words(module):
        images = list(read_inputs(model, all_inputs, most=60))
        examples = list(read_examples(module, model, offered, args.max_examples))
        weights, contents = choose_weights(
            module, model, args.quantize, offered, folder / "model.tflite"
        )
    check, difference = check_of(module, model, examples[0], contents)
    page = settings_of(args, model, images)
    page["weights"] = weights
    page["difference"] = round(difference, 3)
    return {
        "page": page,
        "model": contents,
        "check": png(check),
        "examples": [png(image) for image in examples],
    }


def check_of(module, model, example, contents):
    """What the page checks itself against: Python's own translation of an example or of a window of
    it, uint8 RGB. And how far the LiteRT model's translation is from it, in levels on average."""
    height, width = model.crop
    padding = [
        (0, max(0, side - has)) for side, has in zip(model.crop, example.shape, strict=False)
    ]
    window = np.pad(example, [*padding, (0, 0)], "reflect")[None, :height, :width]
    check = np.asarray(model.build_serving_model()(window))[0]
    output = export.run_litert(module, contents)(window)[0]
    return check, float(np.abs(output - np.float32(check)).mean())


def settings_of(args, model, images):
    """The settings of the page of a model, whose inputs are like these images."""
    height, width = model.crop
    is_any_size = model.name == "siamesegan"
    direction = model.args.which_direction
    page = {
        "name": args.title or folder_of(args.checkpoint).resolve().name.removesuffix("_train"),
        "algorithm": model.name,
        "direction": direction,
        "kind": args.kind or ("photo" if is_any_size else find_kind(images)),
        # of what the network takes, and, below, of what is shown and saved
        "size": [height, width],
        "shown": [height, round(height * model.aspect_ratio) if model.aspect_ratio != 1 else width],
        "anySize": is_any_size,
        "overlap": 0.25 if is_any_size else 0.5,
        "grey": direction == "AtoB" and getattr(model.args, "lab_colorization", False),
    }
    if page["kind"] == "labels":
        palette = find_palette(images)
        if not palette:
            raise UserError(
                "--kind labels: the inputs are not made of few colours; choose lines or photo"
            )
        page["palette"] = name_colours(
            palette, read_names(args.labels or ROOT / "samples" / "facades.json")
        )
        (commonest, _), *_ = palette
        page["paper"] = min(
            (text for text, _ in page["palette"]), key=lambda text: distance(text, commonest)
        )
    elif page["kind"] == "lines":
        is_dark = np.mean([image.mean() for image in images]) < 128
        page["paper"] = "#000000" if is_dark else "#ffffff"
        page["ink"] = "#ffffff" if is_dark else "#000000"
        add_drawings(args, page, images)
    if args.drawings and page["kind"] != "lines":
        raise UserError(
            "--drawings is for pages to draw lines in: add --kind lines, or leave it out"
        )
    if args.credit:
        page["credit"] = args.credit
    return page


def add_drawings(args, page, images):
    """Gives the settings of a page for lines the colours to draw with, if the training had some,
    and the drawings that it offers."""
    given = read_drawings(args.drawings) if args.drawings else None
    inks = find_inks(images, [0] * 3 if page["paper"] == "#000000" else [255] * 3)
    if inks:
        colours = [[to_hex(colour)] * 2 for colour in inks]
        if given and given["colours"]:
            colours = given["colours"]
        page["palette"] = [[page["ink"], "line"], *colours]
    drawings = given["drawings"] if given else []
    if not inks:
        drawings = without_colours(drawings)
    if drawings:
        page["drawings"] = drawings
        page["drawn"] = given["size"]


def without_colours(drawings):
    """Drawings => the same of lines alone, for a network that has seen no colours."""
    plain = []
    for drawing in drawings:
        lines = [stroke for stroke in drawing["strokes"] if isinstance(stroke, list)]
        if lines:
            plain.append({"name": drawing["name"], "strokes": lines})
    return plain


def from_demo(name):
    """web/demo/NAME => the contents of a page, as of from_checkpoint()."""
    there = sorted(path.parent.name for path in DEMO.glob("*/model.tflite"))
    if not there:
        raise UserError(
            f"{DEMO} holds no models: give a checkpoint, the --output_dir of a training"
        )
    name = name or ("cats" if "cats" in there else there[0])
    if name not in there:
        raise UserError(f"there is no demo {name}; there are {', '.join(there)}")
    folder = DEMO / name
    examples = sorted((folder / "examples").glob("*.png"))
    try:
        content = {"page": json.loads((folder / "page.json").read_text(encoding="utf-8"))}
        content |= {
            "model": (folder / "model.tflite").read_bytes(),
            "check": (folder / "check.png").read_bytes(),
        }
        content["examples"] = [path.read_bytes() for path in examples]
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is incomplete ({error}): restore it with git checkout") from None
    return content


def write_demo(content, folder):
    """The contents of a page => a folder such as web/demo/NAME."""
    (folder / "examples").mkdir(parents=True, exist_ok=True)
    files = {
        "page.json": (json.dumps(content["page"], indent=2) + "\n").encode(),
        "check.png": content["check"],
    }
    files |= {"model.tflite": content["model"]}
    files |= {
        f"examples/{number}.png": image for number, image in enumerate(content["examples"], start=1)
    }
    for name, data in files.items():
        with written_whole(folder / name) as part:
            part.write_bytes(data)


# ------------------------------------------------------------------------------------------ runtime


def cache_folder():
    """The folder of the user's cache for make_page.py. Raises UserError where there is no home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "make-page"
    except RuntimeError:
        raise UserError(
            "there is no home folder to keep LiteRT.js in: set HOME or XDG_CACHE_HOME"
        ) from None


def fetch(package, sha512):
    """A package of npm => the path of its archive in the user's cache, whose sha512 is right."""
    cache = cache_folder()
    path = cache / (package.lstrip("@").replace("/", "-").replace("@", "-") + ".tgz")
    scope, version = package.rsplit("@", 1)
    url = f"https://registry.npmjs.org/{scope}/-/{scope.split('/')[1]}-{version}.tgz"
    by_hand = f"or save {url} as {path}"

    def is_right(file):
        return (
            file.exists()
            and base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode() == sha512
        )

    if is_right(path):
        return path
    npm = shutil.which("npm")  # npm.cmd on Windows
    if not npm:
        raise UserError(
            f"npm, which fetches {package}, is not installed: install Node.js, {by_hand}"
        )
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            done = subprocess.run(
                [npm, "pack", package, "--silent"],
                cwd=folder,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=600,
            )
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1][:200]
                raise UserError(
                    f"npm cannot fetch {package} ({reason}): connect to the network, {by_hand}"
                )
            found = list(Path(folder).glob("*.tgz"))
            if not found or not is_right(found[0]):
                raise UserError(
                    f"{package} came with another sha512 than expected: not used; try again, "
                    f"{by_hand}"
                )
            os.replace(found[0], path)
    except subprocess.TimeoutExpired:
        raise UserError(
            f"npm took over 10 minutes to fetch {package}: look at the network, {by_hand}"
        ) from None
    except OSError as error:
        raise UserError(
            f"{cache}: {error.strerror}: XDG_CACHE_HOME can name another place"
        ) from None
    return path


def read_packed(archive, name):
    with tarfile.open(archive) as file:
        return file.extractfile(f"package/{name}").read()


def without_modules(text):
    """JavaScript of a module => the same for one scope with others: without its imports and
    exports."""
    text = re.sub(r'^import \{[^}]*\} from "[^"]*";\n', "", text, flags=re.MULTILINE)
    text = re.sub(r"^export \{[^}]*\};\n?", "", text, flags=re.MULTILINE)
    return re.sub(
        r"^//# sourceMappingURL.*\n?",
        "",
        re.sub(r"^export ", "", text, flags=re.MULTILINE),
        flags=re.M,
    )


def read_modules(*names):
    return "\n".join(without_modules((WEB / name).read_text(encoding="utf-8")) for name in names)


@functools.cache
def runtime_parts(threads):
    """{name: encoded file} of LiteRT.js. Safari takes "compat", as it has no relaxed SIMD."""
    core, utils = (fetch(package, sha512) for package, sha512 in PACKAGES.items())
    source = "".join(
        without_modules(read_packed(file, "dist/index.js").decode()) for file in (utils, core)
    )
    parts = {"worker": (source + read_modules("windows.js", "worker.js")).encode()}
    for build in ["plain", "compat"] + ["threaded"] * threads:
        name = "wasm/litert_wasm" + {"plain": ""}.get(build, f"_{build}") + "_internal"
        parts |= {f"{build}.{kind}": read_packed(core, f"{name}.{kind}") for kind in ("js", "wasm")}
    return {name: encode(data) for name, data in parts.items()}


def encode(data):
    """Bytes => base64 of their gzip."""
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


# --------------------------------------------------------------------------------------------- page


def assemble(content, threads):
    """The contents of a page => its HTML."""

    def data_url(image):
        return f"data:image/png;base64,{base64.b64encode(image).decode()}"

    blobs = ""
    for name, text in {**runtime_parts(threads), "model": encode(content["model"])}.items():
        chunks = (text[i : i + CHUNK] for i in range(0, len(text), CHUNK))
        blobs += "".join(f'<script>part("{name}", "{chunk}")</script>\n' for chunk in chunks)
    settings = content["page"] | {"check": data_url(content["check"]), "total": len(blobs)}
    settings["examples"] = [data_url(image) for image in content["examples"]]
    page = (WEB / "index.html").read_text(encoding="utf-8")
    app = read_modules(*MODULES)
    style = (WEB / "style.css").read_text(encoding="utf-8")
    boot = (WEB / "boot.js").read_text(encoding="utf-8")
    for old, new in (
        ('<link rel="stylesheet" href="style.css">', f"<style>\n{style}</style>"),
        ('<script src="boot.js"></script>', f"<script>\n{boot}</script>"),
        ('"SETTINGS"', json.dumps(settings).replace("<", "\\u003c")),
        (
            '<script type="module" src="app.js"></script>',
            f'{blobs}<script type="module">\n{app}</script>',
        ),
    ):
        if page.count(old) != 1:
            raise UserError(
                f"{WEB / 'index.html'} must hold {old} once: restore it with git checkout"
            )
        page = page.replace(old, new)
    return page


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one page, with the headers that let it use several threads."""

    def __init__(self, *arguments, page):
        self.page = page
        super().__init__(*arguments)

    def do_GET(self):
        if self.path.split("?")[0] != "/":
            return self.send_error(404)
        self.send_response(200)
        for name, value in (
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(self.page.stat().st_size)),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Embedder-Policy", "require-corp"),
        ):
            self.send_header(name, value)
        self.end_headers()
        with (
            self.page.open("rb") as file,
            contextlib.suppress(BrokenPipeError, ConnectionResetError),
        ):
            shutil.copyfileobj(file, self.wfile)

    def log_message(self, *_):
        pass


def serve(page, port):
    """Serves a page on localhost until Ctrl-C."""
    try:
        server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", port), functools.partial(Handler, page=page)
        )
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--port {port} cannot be used ({error}): choose another, or 0 for any"
        ) from None
    url = f"http://localhost:{server.server_port}/"
    print(f"serving {url} (Ctrl-C ends it)", flush=True)
    webbrowser.open(url)
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


def main():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "checkpoint", nargs="?", help="folder of a training, or a checkpoint in it, DIR/model-2000"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="file to write (NAME.html); without .html: a folder for web/demo",
    )
    parser.add_argument(
        "--which_direction",
        choices=["AtoB", "BtoA"],
        help="default: that of pix2pix's training; AtoB",
    )
    parser.add_argument(
        "--examples", metavar="DIR", help="folder of inputs to offer; default: held-out images"
    )
    parser.add_argument(
        "--max_examples",
        type=positive_integer,
        default=6,
        metavar="N",
        help="examples to offer (6)",
    )
    parser.add_argument(
        "--kind",
        choices=["labels", "lines", "photo"],
        help="what people give; default: see the data",
    )
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="names of colours (samples/facades.json)"
    )
    parser.add_argument(
        "--drawings",
        type=Path,
        metavar="FILE",
        help="lines: drawings to offer instead of examples (samples/drawings/cats.json)",
    )
    parser.add_argument("--credit", help="a sentence for the help: whose data these are")
    parser.add_argument("--title", help="heading of the page; default: the checkpoint's name")
    parser.add_argument(
        "--quantize",
        choices=["auto", "none", "float16", "int8"],
        default="auto",
        help="auto: int8 if it is right",
    )
    parser.add_argument(
        "--demo", nargs="?", const="", metavar="NAME", help="a model of web/demo, without training"
    )
    parser.add_argument(
        "--serve", action="store_true", help="open the page on localhost, where it uses all cores"
    )
    parser.add_argument(
        "--port", type=int, default=0, help="port of --serve; default: any that is free"
    )
    args = parser.parse_args()
    if (args.demo is None) == (args.checkpoint is None):
        raise UserError("give a checkpoint, the --output_dir of a training, or --demo")
    if args.output and not args.output.parent.is_dir():
        raise UserError(f"--output {args.output}: there is no folder {args.output.parent}")
    as_page = not args.output or args.output.suffix.lower() in (".html", ".htm")
    if as_page:
        runtime_parts(args.serve)  # what npm may complain about comes before the work
    with tempfile.TemporaryDirectory() as folder:
        content = from_checkpoint(args, Path(folder)) if args.demo is None else from_demo(args.demo)
    page, size = content["page"], len(content["model"]) / 2**20
    print(
        "{kind}, {size[0]}x{size[1]}, {weights} weights".format(**page),
        f"({size:.1f} MiB): on average {page['difference']:.2f} of 255 levels off",
    )
    output = args.output or Path(re.sub(r"[^\w.-]+", "-", page["name"]) + ".html")
    try:
        if as_page:
            with written_whole(output) as part:
                part.write_text(assemble(content, args.serve), encoding="utf-8")
        else:
            write_demo(content, output)
    except OSError as error:
        raise UserError(
            f"{output} cannot be written ({error.strerror}): choose another --output"
        ) from None
    print(f"done: {output}" + f" ({output.stat().st_size / 2**20:.1f} MiB)" * as_page, flush=True)
    return serve(output, args.port) if args.serve and as_page else 0


if __name__ == "__main__":
    run(main)
