"""Makes one HTML file that translates what a person draws, or a photo, in the browser: no server, no network.

    python tools/make_page.py facades_train                        # facades.html: double-click it, mail it, host it
    python tools/make_page.py monet2photo_train --which_direction BtoA --output photo.html
    python tools/make_page.py --demo                               # a trained model that comes with web/demo
    python tools/make_page.py facades_train --serve                # opens it on localhost, where it has all cores

The page is web/ with the generator and LiteRT.js (Apache 2.0, fetched by npm, kept in the user's cache) inside.
docs/draw.md shows it.
"""

import argparse
import base64
import contextlib
import copy
import functools
import gzip
import hashlib
import http.server
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import webbrowser
from pathlib import Path

import numpy as np
from common import ROOT, Parser, UserError, load_algorithm, load_pix2pix, run, written_whole
from PIL import Image

WEB, DEMO = ROOT / "web", ROOT / "web" / "demo"
PACKAGES = {  # what npm has to bring, by its sha512
    "@litertjs/core@2.5.3": "PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ==",
    "@litertjs/wasm-utils@2.5.3": "4fJiw6tBQnIs+0jH/OQ16nYOiSl8/+zZnn5h2ul8aTKHi05sVqZW580Tmk78pC2kT39A9OYBVdFawteZ/sI1kQ==",  # noqa: E501
}
CHUNK = 3 << 18  # bytes of base64 in a <script>: the page shows progress after each

# ------------------------------------------------------------------------------------------------------------- model


def png(pixels):
    """uint8 RGB [h, w, 3] => bytes of a PNG."""
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels)).save(file, "PNG", optimize=True)
    return file.getvalue()


def find_palette(images, most=24, radius=12):
    """uint8 RGB images => [(colour, share)], most common first, or [] if they are not made of few flat colours.

    Only pixels that are like the ones to the right and below count, since resizing and JPEG mix colours at edges; those
    within `radius` levels of a colour belong to it.
    """
    pixels = []
    for image in images:
        image = image.astype(int)
        steps = np.abs(image[:-1, :-1] - image[1:, :-1]).max(-1) + np.abs(image[:-1, :-1] - image[:-1, 1:]).max(-1)
        pixels.append(image[:-1, :-1][steps <= 4] @ [65536, 256, 1])
    packed, counts = np.unique(np.concatenate(pixels), return_counts=True)
    if counts.sum() < 0.3 * sum(image.size / 3 for image in images):
        return []
    colours, left, found = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], 1), counts / counts.sum(), []
    while len(found) < most:
        index = left.argmax()
        near = np.abs(colours - colours[index]).max(1) <= radius
        share = left[near].sum()
        if share < 0.001:
            break
        found.append((tuple(colours[index].tolist()), float(share)))
        left[near] = 0
    return found if sum(share for _, share in found) > 0.95 else []


def find_kind(images):
    """uint8 RGB images => "labels", few flat colours; "lines", grey strokes on an empty ground; or "photo"."""
    pixels = np.concatenate([image[::2, ::2].reshape(-1, 3) for image in images]).astype(int)
    empty = max((pixels.min(1) > 224).mean(), (pixels.max(1) < 32).mean())
    if (np.ptp(pixels, 1) <= 24).mean() > 0.99 and empty > 0.7:
        return "lines"
    return "labels" if len(find_palette(images)) > 2 else "photo"


def name_colours(palette, names):
    """[(colour, share)] => [["#rrggbb", name]]. names: {name: [r, g, b]}, taken if they name every colour."""
    named = []
    for colour, _ in palette:
        name = min(names, key=lambda name: np.abs(np.subtract(names[name], colour)).max(), default=None)
        if name is None or np.abs(np.subtract(names[name], colour)).max() > 24:
            hexes = ["#%02x%02x%02x" % colour for colour, _ in palette]
            return [[colour, colour] for colour in hexes]
        named.append(name)
    return [["#%02x%02x%02x" % tuple(names[name]), name] for name in names if name in named]


def read_names(path):
    """A file of colours such as samples/facades.json => {name: [r, g, b]}."""
    try:
        names = {str(name): [int(level) for level in colour] for name, colour in json.loads(path.read_text()).items()}
        if all(len(colour) == 3 and 0 <= min(colour) and max(colour) < 256 for colour in names.values()):
            return names
        reason = "a colour is three numbers from 0 to 255"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        reason = str(error)
    raise UserError(f"{path} does not name colours ({reason}); samples/facades.json shows how")


def load_model(args):
    """--checkpoint and so on => the module of its algorithm, its options, a model with the weights, folders of data."""
    path = Path(args.checkpoint if os.path.isdir(args.checkpoint) else os.path.dirname(args.checkpoint), "options.json")
    if not path.exists():
        raise UserError(f"no checkpoint in {args.checkpoint}: give the --output_dir of a training, e.g. facades_train")
    try:
        script = str(json.loads(path.read_text(encoding="utf-8"))["script"])
    except (OSError, ValueError, TypeError, KeyError):
        raise UserError(f"{path} is damaged: restore it, since only it describes the networks") from None
    module, algorithm = load_algorithm(script)
    flags = ["--mode=export", f"--checkpoint={args.checkpoint}", "--quantize=none"]
    flags += [f"--which_direction={args.which_direction}"] * bool(args.which_direction)
    flags += ["--tile_size=256"] * (script == "siamesegan")  # a photo of any size goes through in windows of this
    flags += ["--nopaired"] * ("paired" in module.FLAGS and bool(args.examples))  # these are inputs alone
    saved, values = module.read_options(args.checkpoint, algorithm), copy.deepcopy(module.FLAGS)
    values([script, *flags])
    options = module.complete(values, algorithm)
    module.start_devices(deterministic=True)
    model = algorithm(options, training=False)
    module.restore(module.find_checkpoint(args.checkpoint), module.weights_of(model))
    folders = [args.examples] if args.examples else [module.find_held_out(saved["input_dir"]), saved["input_dir"]]
    folders = [folder for folder in folders if folder and os.path.exists(folder)]
    if not folders:
        raise UserError(f"the training data, {saved['input_dir']}, is not there: give --examples, a folder of inputs")
    return module, options, model, folders


def choose_weights(module, model, wanted, examples, separable, folder):
    """=> "none", "float16" or "int8" and the .tflite file. auto: int8, unless it is wrong or slower."""
    file = folder / "model.tflite"
    if wanted == "auto" and separable:
        print("separable convolutions are slower in int8: taking float16")
    if wanted == "int8" or (wanted == "auto" and not separable):
        try:
            module.write_litert(model, file, "int8", examples)
            return "int8", file.read_bytes()
        except module.UserError as error:
            if wanted == "int8":
                raise
            print(f"{error}: done")
    wanted = "float16" if wanted == "auto" else wanted
    module.write_litert(model, file, wanted, examples)
    return wanted, file.read_bytes()


def from_checkpoint(args, folder):
    """A checkpoint => the contents of a page: {"page": settings, "model", "check": bytes, "examples": [bytes]}."""
    load_pix2pix()  # starts TensorFlow quietly
    module, options, model, folders = load_model(args)
    keras_errors = contextlib.redirect_stdout(sys.stderr)
    height, width = model.crop
    sources = model.find_test_images(folders[-1])
    some = [sources[i] for i in np.unique(np.linspace(0, len(sources) - 1, min(len(sources), 60)).astype(int))]
    images = []  # what the network sees in training
    for _, path, direction in some:
        with module.naming_unreadable([path], model.load):
            image = model.load(path)
        image = image if not isinstance(image, tuple) else image[direction == "BtoA"]
        images.append(np.asarray(image)[: 4 * height, : 4 * width])
    kind = args.kind or find_kind(images)
    lab = getattr(options, "lab_colorization", False)
    fits_any = module.__name__ == "siamesegan"
    examples = []
    for _, path, direction in model.find_test_images(folders[0])[: args.max_examples]:
        with module.naming_unreadable([path], model.load):
            examples.append(np.asarray(model.translate_file(path, direction)["inputs"]))
    separable = getattr(options, "separable_conv", False)
    with keras_errors:
        weights, model_file = choose_weights(module, model, args.quantize, folders[0], separable, folder)
    # Python's own translation of the first example, or of a window of it, is what the page checks itself against
    padding = [(0, max(0, model.crop[i] - examples[0].shape[i])) for i in (0, 1)]
    first = np.pad(examples[0], [*padding, (0, 0)], "reflect")[:height, :width]
    check = np.asarray(model.build_serving_model()(first[None]))[0]
    with module.quiet_stderr():
        run_signature = module.tf.lite.Interpreter(model_content=model_file).get_signature_runner()
        (output,) = run_signature(**dict.fromkeys(run_signature.get_input_details(), first[None])).values()
    difference = float(np.abs(output[0] - np.float32(check)).mean())
    page = {
        "name": args.title or Path(args.checkpoint).resolve().name.removesuffix("_train"),
        "algorithm": module.__name__,
        "direction": options.which_direction,
        "kind": kind,
        "size": [height, width],
        "shown": [height, round(height * model.aspect_ratio) if model.aspect_ratio != 1 else width],
        "anySize": fits_any,
        "overlap": 0.25 if fits_any else 0.5,
        "grey": lab and options.which_direction == "AtoB",
        "weights": {"none": "float32"}.get(weights, weights),
        "difference": round(difference, 3),
    }
    if kind == "labels":
        palette = find_palette(images)
        if not palette:
            raise UserError("--kind labels: the inputs are not made of few colours; choose lines or photo")
        page["palette"] = name_colours(palette, read_names(args.labels or ROOT / "samples" / "facades.json"))
        nearest = min(page["palette"], key=lambda item: np.abs(np.subtract(rgb(item[0]), palette[0][0])).max())
        page["paper"] = nearest[0]
    elif kind == "lines":
        dark = np.mean([image.mean() for image in images]) < 128
        page |= {"paper": "#000000", "ink": "#ffffff"} if dark else {"paper": "#ffffff", "ink": "#000000"}
    return {"page": page, "model": model_file, "check": png(check), "examples": [png(image) for image in examples]}


def rgb(text):
    """ "#rrggbb" => (r, g, b)."""
    return tuple(int(text[i : i + 2], 16) for i in (1, 3, 5))


def from_demo(name):
    """web/demo/NAME => the contents of a page, as of from_checkpoint()."""
    there = sorted(path.parent.name for path in DEMO.glob("*/model.tflite"))
    if not there:
        raise UserError(f"{DEMO} holds no models: give a checkpoint, the --output_dir of a training")
    name = name or there[0]
    if name not in there:
        raise UserError(f"there is no demo {name}; there are {', '.join(there)}")
    folder = DEMO / name
    examples = sorted((folder / "examples").glob("*.png"))
    try:
        content = {"page": json.loads((folder / "page.json").read_text(encoding="utf-8"))}
        content |= {"model": (folder / "model.tflite").read_bytes(), "check": (folder / "check.png").read_bytes()}
        content["examples"] = [path.read_bytes() for path in examples]
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is incomplete ({error}): restore it with git checkout") from None
    return content


def write_demo(content, folder):
    """The contents of a page => a folder such as web/demo/NAME."""
    (folder / "examples").mkdir(parents=True, exist_ok=True)
    files = {"page.json": (json.dumps(content["page"], indent=2) + "\n").encode(), "check.png": content["check"]}
    files |= {"model.tflite": content["model"]}
    files |= {f"examples/{number}.png": image for number, image in enumerate(content["examples"], start=1)}
    for name, data in files.items():
        with written_whole(folder / name) as part:
            part.write_bytes(data)


# ----------------------------------------------------------------------------------------------------------- runtime


def fetch(package, sha512):
    """A package of npm => the path of its archive in the user's cache, whose sha512 is right."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "make-page"
    path = cache / (package.lstrip("@").replace("/", "-").replace("@", "-") + ".tgz")
    scope, version = package.rsplit("@", 1)
    url = f"https://registry.npmjs.org/{scope}/-/{scope.split('/')[1]}-{version}.tgz"
    by_hand = f"or save {url} as {path}"

    def is_right(file):
        return file.exists() and base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode() == sha512

    if is_right(path):
        return path
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            done = subprocess.run(
                ["npm", "pack", package, "--silent"], cwd=folder, capture_output=True, text=True, timeout=600
            )
            if done.returncode:
                lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
                raise UserError(f"npm cannot fetch {package} ({lines[-1][:200]}): connect to the network, {by_hand}")
            (archive,) = Path(folder).glob("*.tgz")
            if not is_right(archive):
                raise UserError(f"{package} came with another sha512 than expected: not used; try again, {by_hand}")
            os.replace(archive, path)
    except FileNotFoundError:
        raise UserError(f"npm is not installed, and brings {package}: install Node.js, {by_hand}") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"npm took over 10 minutes to fetch {package}: look at the network, {by_hand}") from None
    except OSError as error:
        raise UserError(f"{error.filename or cache}: {error.strerror}; XDG_CACHE_HOME names another cache") from None
    return path


def read_packed(archive, name):
    with tarfile.open(archive) as file:
        return file.extractfile(f"package/{name}").read()


def without_modules(text):
    """JavaScript of a module => the same for one scope with others: without its imports and exports."""
    text = re.sub(r'^import \{[^}]*\} from "[^"]*";\n', "", text, flags=re.MULTILINE)
    text = re.sub(r"^export \{[^}]*\};\n?", "", text, flags=re.MULTILINE)
    return re.sub(r"^//# sourceMappingURL.*\n?", "", re.sub(r"^export ", "", text, flags=re.MULTILINE), flags=re.M)


def read_modules(*names):
    return "\n".join(without_modules((WEB / name).read_text(encoding="utf-8")) for name in names)


def runtime_parts(threads):
    """{name: bytes} of LiteRT.js. Safari lacks relaxed SIMD and takes "compat"; "threaded" needs headers of a server."""
    core, utils = (fetch(package, sha512) for package, sha512 in PACKAGES.items())
    source = "".join(without_modules(read_packed(file, "dist/index.js").decode()) for file in (utils, core))
    parts = {"worker": (source + read_modules("windows.js", "worker.js")).encode()}
    for build in ["plain", "compat"] + ["threaded"] * threads:
        name = "wasm/litert_wasm" + {"plain": ""}.get(build, f"_{build}") + "_internal"
        parts |= {f"{build}.{kind}": read_packed(core, f"{name}.{kind}") for kind in ("js", "wasm")}
    return parts


# -------------------------------------------------------------------------------------------------------------- page


def assemble(content, threads):
    """The contents of a page => its HTML."""

    def data_url(image):
        return f"data:image/png;base64,{base64.b64encode(image).decode()}"

    blobs = ""
    for name, data in {**runtime_parts(threads), "model": content["model"]}.items():
        text = base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()
        chunks = (text[i : i + CHUNK] for i in range(0, len(text), CHUNK))
        blobs += "".join(f'<script>part("{name}", "{chunk}")</script>\n' for chunk in chunks)
    settings = content["page"] | {"check": data_url(content["check"]), "total": len(blobs)}
    settings["examples"] = [data_url(image) for image in content["examples"]]
    page = (WEB / "index.html").read_text(encoding="utf-8")
    app = read_modules("windows.js", "images.js", "drawing.js", "translator.js", "app.js")
    for old, new in (
        ('<link rel="stylesheet" href="style.css">', f"<style>\n{(WEB / 'style.css').read_text()}</style>"),
        ('<script src="boot.js"></script>', f"<script>\n{(WEB / 'boot.js').read_text()}</script>"),
        ('"SETTINGS"', json.dumps(settings).replace("</", "<\\/")),
        ('<script type="module" src="app.js"></script>', f'{blobs}<script type="module">\n{app}</script>'),
    ):
        if page.count(old) != 1:
            raise UserError(f"{WEB / 'index.html'} must hold {old} once: restore it with git checkout")
        page = page.replace(old, new)
    return page


def write_page(path, text):
    try:
        with written_whole(path) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): choose another --output") from None


class Handler(http.server.SimpleHTTPRequestHandler):
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
        with self.page.open("rb") as file, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.copyfile(file, self.wfile)

    def log_message(self, *_):
        pass


def serve(page, port):
    """Serves a page on localhost until Ctrl-C."""
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), functools.partial(Handler, page=page))
    except (OSError, OverflowError) as error:
        raise UserError(f"--port {port} cannot be used ({error}): choose another, or 0 for any") from None
    url = f"http://localhost:{server.server_port}/"
    print(f"serving {url} (Ctrl-C ends it)", flush=True)
    webbrowser.open(url)
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


def main():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", help="folder of a training, or a checkpoint in it, DIR/model-2000")
    parser.add_argument("--output", type=Path, help="file to write (NAME.html); without .html: a folder for web/demo")
    parser.add_argument("--which_direction", choices=["AtoB", "BtoA"], help="default: that of pix2pix's training; AtoB")
    parser.add_argument("--examples", metavar="DIR", help="folder of inputs to offer; default: held-out images")
    parser.add_argument("--max_examples", type=int, default=6, metavar="N", help="examples to offer (6)")
    parser.add_argument("--kind", choices=["labels", "lines", "photo"], help="what people give; default: see the data")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="names of colours (samples/facades.json)")
    parser.add_argument("--title", help="heading of the page; default: the checkpoint's name")
    parser.add_argument(
        "--quantize", choices=["auto", "none", "float16", "int8"], default="auto", help="auto: int8 if it is right"
    )
    parser.add_argument("--demo", nargs="?", const="", metavar="NAME", help="a model of web/demo, without training")
    parser.add_argument("--serve", action="store_true", help="open the page on localhost, where it uses all cores")
    parser.add_argument("--port", type=int, default=0, help="port of --serve; default: any that is free")
    args = parser.parse_args()
    if (args.demo is None) == (args.checkpoint is None):
        raise UserError("give a checkpoint, the --output_dir of a training, or --demo")
    if args.max_examples < 1:
        raise UserError("--max_examples: give at least 1; the page checks itself with the first")
    with tempfile.TemporaryDirectory() as folder:
        if args.demo is not None:
            content = from_demo(args.demo)
        else:
            try:
                content = from_checkpoint(args, Path(folder))
            except (ValueError, OSError, Exception) as error:
                if type(error).__name__ != "UserError" or isinstance(error, UserError):
                    raise
                raise UserError(str(error)) from None
    name, page = re.sub(r"[^\w.-]+", "-", content["page"]["name"]), content["page"]
    output = args.output or Path(f"{name}.html")
    size = len(content["model"]) / 2**20
    print(f"{page['kind']}, {page['size'][0]}x{page['size'][1]}, {page['weights']} weights ({size:.1f} MiB), which change")
    if output.suffix.lower() not in (".html", ".htm"):
        write_demo(content, output)
        print(f"done: {output}")
        return 0
    write_page(output, assemble(content, args.serve))
    print(f"done: {output} ({output.stat().st_size / 2**20:.1f} MiB)")
    return serve(output, args.port) if args.serve else 0


if __name__ == "__main__":
    run(main)
