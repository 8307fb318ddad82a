"""Puts runs side by side on one HTML page: the flags that differ, numbers, a row for each test
image with a column for each run, loss curves.

    python tools/report.py a_test b_test c_test    # tests of three checkpoints on the same images
    python tools/report.py a_train a_test b_train b_test --output report.html

A run is the folder of a training, of a test, or both: a_train and a_test (or a/train and a/test)
are the run a. The numbers are those of metrics.json and of every result that was saved with --json
in the folder of the test:

    python tools/evaluate.py fidelity a_test paintings --json > a_test/fidelity.json
"""

import argparse
import base64
import html
import io
import json
import os
import re
from pathlib import Path

import numpy as np
from common import (
    Parser,
    UserError,
    load_pix2pix,
    positive_integer,
    print_result,
    run,
    write_text,
)
from images import first_ten, natural_order, open_image
from PIL import Image
from tqdm import tqdm

KINDS = ("inputs", "outputs", "targets")  # of the images of a test: NAME-KIND.png
LOWER = (
    "l1",
    "l1_units",
    "rmse_units",
    "lpips",
    "lpips_vgg",
    "fid",
    "kid",
    "kid_std",
    "fid_vgg16",
    "kid_vgg16",
    "kid_std_vgg16",
    "fid_alexnet",
    "kid_alexnet",
    "kid_std_alexnet",
)
LOWER += ("seams", "inputs")  # lower is better; of all others higher
COLOURS = ("#1f6fb4", "#d1570d", "#2a8a3e", "#b3261e", "#7b4ab5", "#7a5540", "#c2388f", "#5f6368")
STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em; color: #222; }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; }
table { border-collapse: collapse; }
th, td { padding: .3em .8em; text-align: left; vertical-align: top; }
.numbers td, .numbers th { border-bottom: 1px solid #ddd; }
.numbers td + td, .numbers th + th { text-align: right; }
.best { font-weight: bold; } .images td, .images th { padding: 3px; font-size: 13px; }
.images th { position: sticky; top: 0; background: white; } .images img, svg { display: block; }
.curves { display: flex; flex-wrap: wrap; gap: 1em; }
figure { margin: 0; } figcaption { font-size: 13px; }
.key { font-size: 2em; line-height: 0; vertical-align: -.15em; }
"""


def run_name(folder):
    """Folder of a training or a test => name of the run: a_train and a_test are both a, b/train and
    b/test both b."""
    # not resolve(): a link keeps the name that the user gave it
    folder = Path(os.path.abspath(folder))
    return (
        folder.parent.name
        if folder.name in ("train", "test")
        else re.sub("_(train|test)$", "", folder.name)
    )


def find_runs(folders):
    """Folders => ({run: folder} of trainings, of tests)."""
    trainings, tests = {}, {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(
                f"{folder} is not a folder; give the --output_dir of a training or of a test"
            )
        training = (folder / "checkpoint").exists() or any(folder.glob("events.out.tfevents.*"))
        if not training and not (folder / "images").is_dir():
            raise UserError(
                f"{folder} is of no training and of no test: it has neither a checkpoint nor "
                "images/"
            )
        name, kind = run_name(folder), trainings if training else tests
        if name in kind:
            raise UserError(f"{kind[name]} and {folder} would both be called {name}; rename one")
        kind[name] = folder
    return trainings, tests


# ------------------------------------------------------------------------------------------ numbers


def read_scores(folder):
    """{metric: number} of the .json files in a folder: metrics.json of the test, and results saved
    with --json."""
    scores = {}
    for path in sorted(
        folder.glob("*.json"), key=lambda path: (path.name != "metrics.json", path.name)
    ):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{path} cannot be read as JSON ({error}); remove it") from None
        if isinstance(content, dict):
            scores |= numbers_in(content.get("mean")) | numbers_in(content.get("scores"))
    return scores


def numbers_in(values):
    """The numbers of a dict; none of anything else, such as a file of another program."""
    if not isinstance(values, dict):
        return {}
    return {name: value for name, value in values.items() if type(value) in (int, float)}


def numbers_table(scores, names, same):
    """{run: {metric: number}} => HTML, a row for each metric. same: the tests have the same
    images."""
    rows = [f"<tr><th></th>{''.join(f'<th>{html.escape(name)}</th>' for name in names)}</tr>"]
    for metric in dict.fromkeys(metric for values in scores.values() for metric in values):
        lower, cells = metric in LOWER, ""
        values = {name: scores[name][metric] for name in names if metric in scores.get(name, {})}
        best = (min if lower else max)(values.values())
        for name in names:
            mark = ' class="best"' if same and values.get(name) == best and len(values) > 1 else ""
            cells += f"<td{mark}>{values[name]:.4g}</td>" if name in values else "<td>–</td>"
        rows.append(f"<tr><td>{html.escape(metric)} {'↓' if lower else '↑'}</td>{cells}</tr>")
    best = (
        "the best of a row is bold"
        if same
        else "no best is marked, as the tests have different images"
    )
    explanation = f"<p>↓ lower is better, ↑ higher is better; {best}.</p>"
    return f'<h2>Numbers</h2><table class="numbers">{"".join(rows)}</table>{explanation}'


# -------------------------------------------------------------------------------------------- flags


def read_flags(folder):
    """{flag: value} of the options.json of a training; {} if it has none. Raises UserError."""
    path = folder / "options.json"
    if not path.exists():
        return {}
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
        return {name: value for name, value in options.items() if not isinstance(value, dict)}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as options ({error}); restore it") from None


def flags_table(flags):
    """{run: {flag: value}} of two trainings or more => HTML, a row for each flag that differs."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in flags)
    rows = [f"<tr><th></th>{head}</tr>"]
    for flag in dict.fromkeys(flag for values in flags.values() for flag in values):
        found = [values.get(flag) for values in flags.values()]
        texts = ["–" if value is None else str(value) for value in found]
        if len(set(texts)) > 1:
            cells = "".join(f"<td>{html.escape(text)}</td>" for text in texts)
            rows.append(f"<tr><td>{html.escape(flag)}</td>{cells}</tr>")
    if len(rows) == 1:
        return "<h2>Flags</h2><p>These trainings have the same flags.</p>"
    table = f'<table class="numbers">{"".join(rows)}</table>'
    return f"<h2>Flags that differ</h2>{table}<p>All others are the same.</p>"


# ------------------------------------------------------------------------------------------- images


def data_uri(path, width):
    """An image file => <img> of `width` pixels with the image inside, stored with no more pixels
    than it has."""
    image = open_image(path)
    height = max(1, round(image.height * width / image.width))
    if image.width > width:
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    source = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    size = f'width="{width}" height="{height}"'
    return f'<img src="{source}" {size} alt="{html.escape(path.name)}" loading="lazy">'


def same_image(a, b):
    """Whether two files show the same image, perhaps scaled to different sizes (--crop_size)."""
    if a.read_bytes() == b.read_bytes():
        return True
    a, b = open_image(a), open_image(b)
    if a.size == b.size:  # a GPU may round otherwise when it scales
        return np.abs(np.subtract(a, b, dtype=np.int16)).max() <= 2
    a, b = (np.float32(image.resize((32, 32), Image.Resampling.BOX)) for image in (a, b))
    # of photographs, drawings and label maps at 60 to 512 pixels: 0.07 at most of the same one,
    # 0.15 at least of others
    return np.square(a - b).mean() < 0.1 * (a.var() + b.var() + 1)


def images_to_show(folder, kind):
    """{name: path} of NAME-KIND.png, or of the preview that a test writes of other data."""
    paths = {}
    for ending in (f"-{kind}.png", f"-{kind}-preview.png"):
        for path in sorted(folder.glob(f"*{ending}"), key=natural_order):
            paths[path.name.removesuffix(ending)] = path
    return paths


def images_table(tests, limit, width):
    """{run: folder of its test} => HTML with a row for each image that all tests have, number of
    rows.

    Raises UserError if tests have different images under one name.
    """
    found = {kind: {} for kind in KINDS}  # {kind: {run: {name: path}}}
    for title, folder in tests.items():
        for kind in KINDS:
            found[kind][title] = images_to_show(folder / "images", kind)
    outputs = found["outputs"]
    first = next(iter(outputs.values()))
    names = [name for name in first if all(name in paths for paths in outputs.values())]
    if not names:
        raise UserError(
            f"{first_ten(tests.values())} have no image of the same name; test on the same images"
        )
    for name in names:
        inputs = [
            (tests[title], paths[name]) for title, paths in found["inputs"].items() if name in paths
        ]
        for folder, path in inputs[1:]:
            if not same_image(inputs[0][1], path):
                first, what = (
                    inputs[0][0],
                    f"have different images named {name}: their inputs differ",
                )
                raise UserError(f"{first} and {folder} {what}; compare tests of the same images")
    # of inputs and targets, which are the same in all tests, one column is enough
    merged = {
        kind: {name: path for paths in found[kind].values() for name, path in paths.items()}
        for kind in KINDS
    }
    columns = [("inputs", merged["inputs"]), *outputs.items(), ("targets", merged["targets"])]
    columns = [(title, paths) for title, paths in columns if paths]
    rows = ["<th></th>" + "".join(f"<th>{html.escape(title)}</th>" for title, _ in columns)]
    with tqdm(names[:limit], unit=" images", disable=None) as progress:
        for name in progress:
            images = [data_uri(paths[name], width) if name in paths else "" for _, paths in columns]
            rows.append(
                f"<td>{html.escape(name)}</td>{''.join(f'<td>{image}</td>' for image in images)}"
            )
    table = f'<table class="images">{"".join(f"<tr>{row}</tr>" for row in rows)}</table>'
    count = f"{len(rows) - 1} of {len(names)}" + " (--images shows more)" * (len(names) > limit)
    return f"<h2>Images</h2><p>{count}, in the order of their names.</p>{table}", len(rows) - 1


# ------------------------------------------------------------------------------------------- losses


def read_curves(folder):
    """{loss: [(step, value)]} of the TensorBoard events of a training."""
    load_pix2pix()  # starts TensorFlow quietly, which TensorBoard imports
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    curves = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                # a continued training logs some steps twice: the later values count
                if value.tag.startswith("loss/"):
                    points = curves.setdefault(value.tag.removeprefix("loss/"), {})
                    points[event.step] = float(make_ndarray(value.tensor))
    return {name: sorted(points.items()) for name, points in curves.items()}


# >>> curves: the same in all algorithm files and tools/report.py (tools/fix_copies.py)
def draw_curves(title, curves):
    """[(points, colour)], points as [(step, value)] => an HTML figure with an SVG of 420 x 240
    pixels."""
    width, height, left, bottom = 420, 240, 52, 28
    points = np.concatenate([np.array(curve, float) for curve, _ in curves])
    first, low = points.min(axis=0)
    last, high = points.max(axis=0)
    span = (last - first) or 1
    rise = (high - low) or 1

    def place(step, value):
        x = left + (step - first) / span * (width - left - 10)
        y = height - bottom - (value - low) / rise * (height - bottom - 12)
        return f"{x:.1f},{y:.1f}"

    def text(x, y, anchor, words):
        return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="12">{words}</text>'

    title = html.escape(title)
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<figure><svg {size} role="img" aria-label="{title}">',
        f'<path d="M{left} 8V{height - bottom}H{width - 6}" fill="none" stroke="#888"/>',
        text(left - 6, 16, "end", f"{high:.3g}"),
        text(left - 6, height - bottom, "end", f"{low:.3g}"),
        text(left, height - 8, "start", f"{first:.0f}"),
        text(width - 6, height - 8, "end", f"{last:.0f}"),
    ]
    for curve, colour in curves:
        line = " ".join(place(*point) for point in curve[:: max(1, len(curve) // 400)])
        style = f'fill="none" stroke="{colour}" stroke-width="1.8"'
        parts.append(f'<polyline points="{line}" {style}/>')
    return "".join(parts) + f"</svg><figcaption>{title}, by step</figcaption></figure>"
# <<< curves


def curves_section(curves):
    """{run: {loss: [(step, value)]}} => HTML, a figure for each loss with a curve for each run."""
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(curves)}
    keys = [
        f'<span class="key" style="color:{colour}">–</span> {html.escape(n)}'
        for n, colour in colours.items()
    ]
    figures = ""
    for loss in dict.fromkeys(loss for losses in curves.values() for loss in losses):
        figures += draw_curves(
            loss, [(curves[n][loss], colours[n]) for n in curves if loss in curves[n]]
        )
    key = " &nbsp; ".join(keys)
    return f'<h2>Losses in training</h2><p>{key}</p><div class="curves">{figures}</div>'


# ------------------------------------------------------------------------------------- command line


def report(args):
    """Writes the page. Returns what is on it."""
    trainings, tests = find_runs(args.runs)
    names, images = list(dict.fromkeys(map(run_name, args.runs))), 0
    title = " · ".join(map(html.escape, names))
    head = f'<meta charset="utf-8"><title>{title}: report</title><style>{STYLE}</style>'
    parts = [f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>', f"<h1>{title}</h1>"]
    flags = {name: read_flags(folder) for name, folder in trainings.items()}
    flags = {name: values for name, values in flags.items() if values}
    if len(flags) > 1:
        parts.append(flags_table(flags))
    scores = {name: read_scores(folder) for name, folder in tests.items()}
    if any(scores.values()):
        outputs = {
            tuple(sorted(images_to_show(test / "images", "outputs"))) for test in tests.values()
        }
        parts.append(numbers_table(scores, names, same=len(outputs) == 1))
    if tests:
        table, images = images_table(tests, args.images, args.width)
        parts.append(table)
    curves = {name: read_curves(folder) for name, folder in trainings.items()}
    if any(curves.values()):
        parts.append(curves_section(curves))
    write_text(args.output, "\n".join([*parts, "</body></html>\n"]))
    losses = list(dict.fromkeys(loss for found in curves.values() for loss in found))
    return {"page": str(args.output), "runs": names, "images": images, "losses": losses}


def main():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="--output_dir of trainings and tests"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("report.html"), help="the page (report.html)"
    )
    parser.add_argument(
        "--images", type=positive_integer, default=200, help="rows of images at most (200)"
    )
    parser.add_argument(
        "--width", type=positive_integer, default=256, help="width of an image there, pixels (256)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    print_result(report, parser.parse_args())


if __name__ == "__main__":
    run(main)
