"""No command: the curve of a training, for evaluate.py: its checkpoints, measured one by one."""

import contextlib
import html
import json
import sys
import time
from pathlib import Path

import numpy as np
from common import UserError, in_our_words, load_pix2pix, load_trained, write_text, written_whole
from perceptual import LPIPS_NETS, build_inception, build_lpips, build_mean_features, kid, lpips
from report import draw_curves
from tqdm import tqdm

# Metrics of which less is better.
LOWER = {"l1", "l1_units", "rmse_units", "lpips", "lpips_to_input"}
LOWER |= {"kid", "kid_vgg16", "kid_alexnet"}
LEAST_FOR_KID = 4  # images on each side
MOST_FOR_KID = 500
SHOWN = 4  # images on the page


class Curve:
    """Measures the checkpoints of a training on the same held-out images.

    curve/model-N.json in the folder of the training holds the numbers of a checkpoint, so that it
    is measured once; curve/model-N-IMAGE.png its translations of the first images.
    """

    def __init__(self, args):
        self.training = Path(args.folder)
        self.folder = self.training / "curve"
        self.which_direction = args.which_direction
        self.input_dir = args.input_dir
        self.most = args.images
        self.args = args
        self.features = None  # a function of images, for kid
        self.real = None  # features of the real images
        self.module = None
        self.network = None

    def steps(self):
        """{step: path} of the checkpoints, in their order: those of --keep_freq, else all."""
        for folder in (self.training / "kept", self.training):
            found = {}
            for path in folder.glob("model-*.index"):
                number = path.stem.removeprefix("model-")
                if number.isdecimal():
                    found[int(number)] = str(path.with_suffix(""))
            if found:
                return dict(sorted(found.items()))
        raise UserError(f"no checkpoints in {self.training}: give the --output_dir of a training")

    def measure(self, step, path):
        """The numbers of a checkpoint, {metric: mean}: those measured before, or new ones."""
        file = self.folder / f"model-{step}.json"
        settings = {"images": self.most, "input_dir": self.input_dir}
        settings["which_direction"] = self.which_direction
        settings["kid"] = [self.args.features, str(self.args.real), self.args.weights]
        if self.module is None:
            self.begin(path)
        settings["files"] = [
            facts_of(f"{path}.index"),
            *(facts_of(file) for _, file, _ in self.sources),
        ]
        try:
            known = json.loads(file.read_text(encoding="utf-8"))
            if known["settings"] == settings:
                return known["mean"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            pass  # not measured yet
        self.load(path)
        with in_our_words(self.module):
            values, features = self.translate_all(step)
        mean = {}
        for metric in values[0]:
            if all(metric in each for each in values):  # lpips is not of tiny images
                mean[metric] = float(np.mean([each[metric] for each in values]))
        if self.features:
            name = self.args.features
            name = "kid" if name == "inception" else f"kid_{name}"
            mean[name] = kid(np.concatenate(features), self.real)
        write_text(file, json.dumps({"settings": settings, "mean": mean}, indent=2) + "\n")
        return mean

    def load(self, path):
        """Gives the model the weights of a checkpoint."""
        self.model.args.checkpoint = path
        with in_our_words(self.module):
            self.module.restore_generators(self.model, self.model.args)

    def begin(self, path):
        """Makes the model, and finds the images."""
        with contextlib.redirect_stdout(sys.stderr):  # standard output is for the result
            self.module, self.model = load_trained(
                path,
                input_dir=self.input_dir,
                output_dir=str(self.folder),
                which_direction=self.which_direction,
            )
        with in_our_words(self.module):
            found = self.model.find_test_images(self.model.args.input_dir)
        places = np.linspace(0, len(found) - 1, min(len(found), self.most))
        self.sources = [found[index] for index in sorted({round(place) for place in places})]
        for domain in self.model.domains.values():
            if not domain.is_rgb:
                print(f"without lpips, which is for 8-bit RGB, not for {domain}", file=sys.stderr)
                return
        try:
            self.network = build_lpips("alex")
        except UserError as error:
            print(f"without lpips: {error}", file=sys.stderr)
        self.begin_kid()

    def begin_kid(self):
        """Finds the features of the real images, unless the training is of pairs."""
        if getattr(self.model, "has_pairs", False):
            return
        try:
            paths = self.find_real()
            if min(len(paths), len(self.sources)) < LEAST_FOR_KID:
                raise UserError(f"it needs {LEAST_FOR_KID} images of each domain")
            if self.args.features == "inception":
                features = build_inception(self.args.weights)
            else:
                features = build_mean_features(self.args.features)
        except UserError as error:
            print(f"without kid: {error}", file=sys.stderr)
            return
        found = []
        with in_our_words(self.module):
            for path in tqdm(paths, desc="real images", unit=" images", disable=None):
                found.append(features(self.model.read(path)[None]))
        self.real = np.concatenate(found)
        self.features = features

    def find_real(self):
        """Paths of the images that translations should be like: --real, or the training's own of
        that domain; at most 500, spread over them."""
        folder = self.args.real
        if folder is None:
            _, _, direction = self.sources[0]
            options = json.loads((self.training / "options.json").read_text(encoding="utf-8"))
            folder = Path(options["input_dir"]) / f"train{direction[-1]}"
        with in_our_words(self.module):
            paths = [path for _, path in self.module.list_images(folder)]
        places = np.linspace(0, len(paths) - 1, min(len(paths), MOST_FOR_KID))
        return [paths[round(place)] for place in places]

    def translate_all(self, step):
        """Translates the images. Returns the numbers of each, and its features."""
        values = []
        features = []
        with tqdm(self.sources, desc=f"step {step}", unit=" images", disable=None) as progress:
            for name, path, direction in progress:
                images = self.model.translate_file(path, direction)
                values.append(self.compare(images, direction))
                if self.features:
                    features.append(self.features(images["outputs"][None]))
                if len(values) <= SHOWN:
                    self.keep(step, name, images, direction)
        return values, features

    def compare(self, images, direction):
        """The numbers of one translation."""
        values = {}
        if "targets" in images:
            domain = self.module.domain_of(self.model, "targets", direction)
            values.update(self.module.compare(images["outputs"], images["targets"], domain))
        least = LPIPS_NETS["alex"][-1]
        if self.network and min(images["outputs"].shape[:2]) >= least:
            if "targets" in images:
                values["lpips"] = lpips(self.network, images["outputs"], images["targets"])
            else:
                values["lpips_to_input"] = lpips(self.network, images["outputs"], images["inputs"])
        if "targets" not in images:
            values["luminance"] = correlation(images["inputs"], images["outputs"])
        return values

    def keep(self, step, name, images, direction):
        """Writes a translation for the page, and once its input and its target."""
        for kind, image in images.items():
            prefix = f"model-{step}" if kind == "outputs" else kind
            if kind in ("inputs", "outputs", "targets"):
                preview = self.module.domain_of(self.model, kind, direction).preview(image)
                path = self.folder / f"{prefix}-{name}.png"
                with written_whole(path) as part:
                    part.write_bytes(self.module.encode_array(preview, ".png"))


def facts_of(path):
    """What tells whether a file is still the same: its path, size and time."""
    about = Path(path).stat()
    return [str(path), about.st_size, about.st_mtime]


def correlation(first, second):
    """How the luminances of two images, uint8 [h, w, 3], correlate, -1 to 1. Below 0 the
    translation is inverted: light became dark."""
    first = first.mean(-1).ravel() - first.mean()
    second = second.mean(-1).ravel() - second.mean()
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second) + 1e-9))


def curve(args):
    """Measures the kept checkpoints of a training on held-out images, and draws the curve.

    l1, psnr, ssim, lpips  of pairs: as evaluate.py pairs
    lpips_to_input         without pairs: how far a translation is from its input; 0: the same
    luminance              without pairs: its correlation with the input; below 0: inverted
    kid_vgg16 (kid)        without pairs: how unlike the training images of the other domain the
                           translations are as a set, from about 0 (alike) upwards. With --features
                           inception, its usual features, it is called kid; with --features alexnet,
                           kid_alexnet.

    Train with --keep_freq 2000, or so. Writes curve.json and curve.html into the folder of the
    training, with the step that is best by each number, and the same four images at each step.
    `noise` is the mean change from one checkpoint to the next: a smaller lead is chance.
    """
    load_pix2pix()  # starts TensorFlow quietly
    measured = Curve(args)
    measured.steps()
    measured.folder.mkdir(exist_ok=True)
    while True:
        rows = {}
        for step, path in measured.steps().items():
            rows[step] = measured.measure(step, path)
        result = summarize(rows)
        write_text(measured.training / "curve.json", json.dumps(result, indent=2) + "\n")
        write_page(measured, result)
        if not args.watch:
            break
        time.sleep(10)
    measured.module.report_clipped()
    page = str(measured.training / "curve.html")
    best = {name: values["step"] for name, values in result["best"].items()}
    return {"page": page, "checkpoints": len(rows), "best": best}


def metrics_of(rows):
    """The metrics that all checkpoints have."""
    first, *others = rows.values()
    return [metric for metric in first if all(metric in row for row in others)]


def summarize(rows):
    """{step: {metric: value}} => the same with the best step and the noise of each metric."""
    best = {}
    for metric in metrics_of(rows):
        values = np.array([row[metric] for row in rows.values()])
        if metric in ("luminance", "lpips_to_input"):
            continue  # neither more nor less is better
        index = values.argmin() if metric in LOWER else values.argmax()
        noise = float(np.abs(np.diff(values)).mean()) if len(values) > 1 else 0.0
        best[metric] = {
            "step": list(rows)[index],
            "value": float(values[index]),
            "noise": noise,
            "last": float(values[-1]),
        }
    return {"steps": {str(step): row for step, row in rows.items()}, "best": best}


PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2em; color: #222; }}
td, th {{ padding: 3px 8px; text-align: left; vertical-align: top; }}
img {{ width: 192px; display: block; }}
.curves {{ display: flex; flex-wrap: wrap; gap: 1em; }} figure {{ margin: 0; }}
</style></head><body>
<h1>{title}</h1>
<table>{best}</table>
<div class="curves">{plots}</div>
<h2>The same images at each step</h2>
<table>{images}</table>
</body></html>
"""


def write_page(measured, result):
    """Writes curve.html: the best steps, a plot of each metric, and images."""
    steps = [int(step) for step in result["steps"]]
    heads = ("metric", "best step", "value", "last step", "noise")
    best = f"<tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>"
    for metric, values in result["best"].items():
        best += (
            f"<tr><td>{metric}</td><td>{values['step']}</td><td>{values['value']:.4g}</td>"
            f"<td>{values['last']:.4g}</td><td>{values['noise']:.2g}</td></tr>"
        )
    plots = ""
    for metric in metrics_of(result["steps"]):
        values = [row[metric] for row in result["steps"].values()]
        plots += draw_curves(metric, [(list(zip(steps, values, strict=True)), "#1f6fb4")])
    title = f"{html.escape(measured.training.resolve().name)}: curve"
    page = PAGE.format(title=title, best=best, plots=plots, images=image_rows(measured, steps))
    write_text(measured.training / "curve.html", page)


def image_rows(measured, steps):
    """Table rows: inputs, translations at each step, targets."""
    rows = ""
    prefixes = [("inputs", "input")]
    prefixes += [(f"model-{step}", f"step {step}") for step in steps]
    prefixes.append(("targets", "target"))
    names = [f"{name}.png" for name, _, _ in measured.sources[:SHOWN]]
    for prefix, label in prefixes:
        cells = ""
        for name in names:
            if (measured.folder / f"{prefix}-{name}").exists():
                source = html.escape(f"curve/{prefix}-{name}")
                cells += f'<td><img src="{source}" alt="{label}" loading="lazy"></td>'
        if cells:
            rows += f"<tr><th>{label}</th>{cells}</tr>"
    return rows
