"""tools/translate.py: the pixels of --mode test, shards, what a stop or an error leaves, videos; docs/scale.md."""

import contextlib
import functools
import importlib
import itertools
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import types
from fractions import Fraction

import filelock
import numpy as np
import pytest
from conftest import ROOT, SCRIPTS, once, paint, plain_environment, pngs, read_png, save_image, truncate
from PIL import Image
from run_tool import fails, run_tool

common, translate, video = map(importlib.import_module, ("common", "translate", "video"))
SIZES = [(64, 64), (40, 100), (150, 70)]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """network(name): the folder of a training of 0 steps, made at the first call."""

    @functools.cache
    def make(name):
        import tensorflow as tf

        script, folder = SCRIPTS[name], tmp_path_factory.mktemp(name) / "tiny_train"
        folder.mkdir()
        model = script.algorithm(script.options(input_dir="."), training=False)
        weights = script.module.weights_of(model)
        for weight in tf.nest.flatten(weights):
            weight.assign(weight * 4)  # stronger than at the start, so that images have contrasts
        manager = tf.train.CheckpointManager(tf.train.Checkpoint(**weights), folder, 3, checkpoint_name="model")
        manager.save(checkpoint_number=1)
        options = {"script": name, **script.module.saved_options(model.args)}
        (folder / "options.json").write_text(json.dumps(options))
        return folder

    return make


@pytest.fixture(scope="module", autouse=True)
def models_are_kept():
    """A model that was made once, with its traces, serves all runs with the same options."""
    made = {}

    def load_trained(checkpoint, output_dir=None, **options):
        key = (str(checkpoint), *sorted(options.items()))
        if key not in made:
            made[key] = common.load_trained(checkpoint, output_dir=output_dir, **options)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(translate, "load_trained", load_trained)
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Seven images of three sizes. Read only."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(7):
        save_image(folder / f"i{number}.png", paint(*SIZES[number % 3], number))
    return folder


def run(*arguments, code=0):
    done = run_tool("translate", *arguments)
    assert done.returncode == code, done
    return done


def files(folder):
    """{name: bytes} of the images in a folder and in those below it."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def summary(folder, name="summary.json"):
    return json.loads((folder / name).read_text())


# --------------------------------------------------------------------------------------------------------------- pixels


NATIVE = ["--native_size", "--tile_size", 64]
RUNS = [("pix2pix", []), ("pix2pix", NATIVE), ("cut", []), ("cut", NATIVE), ("siamesegan", NATIVE)]
RUNS += [("cyclegan", []), ("cyclegan", NATIVE), ("cyclegan", ["--which_direction", "BtoA"])]


@pytest.mark.parametrize("script, flags", RUNS, indirect=["script"])
def test_pixels_are_those_of_test(script, flags, network, photos, tmp_path):
    """Bit for bit one by one; in batches within 1 of 255."""
    checkpoint = network(script.name)
    own = flags[1:] if script.name == "siamesegan" else flags
    test = ["--mode", "test", "--checkpoint", checkpoint, "--input_dir", photos, "--output_dir", tmp_path / "test"]
    script(*test, *own, *(["--nopaired"] if script.name == "pix2pix" else []))
    expected = {name.replace("-outputs", ""): image for name, image in pngs(tmp_path / "test").items()}
    for batch_size in (1, 2):
        folder = tmp_path / str(batch_size)
        run(checkpoint, photos, "--output_dir", folder, "--batch_size", batch_size, *flags)
        assert len(list(folder.glob("*.png"))) == 7
        for path in folder.glob("*.png"):
            difference = np.abs(read_png(path).astype(int) - expected[path.name]).max()
            assert difference <= batch_size - 1, (path, batch_size)
            assert expected[path.name].std() > 1
    assert summary(folder)["done"] == 7 and summary(folder)["failed"] == {}


def test_stitch_and_aspect_ratio_are_those_of_test(network, photos, tmp_path):
    script, checkpoint = SCRIPTS["siamesegan"], network("siamesegan")
    script("--mode", "test", "--checkpoint", checkpoint, "--input_dir", photos, "--stitch", "tiles",
           "--output_dir", tmp_path / "test")  # fmt: skip
    run(checkpoint, photos, "--output_dir", tmp_path / "out", "--stitch", "tiles", "--batch_size", 2)
    for path in (tmp_path / "out").glob("*.png"):
        np.testing.assert_array_equal(
            read_png(path), read_png(tmp_path / "test" / "images" / f"{path.stem}-outputs.png")
        )
    options = json.loads((network("pix2pix") / "options.json").read_text()) | {"aspect_ratio": 1.5}
    wide = tmp_path / "wide_train"
    wide.mkdir()
    for path in network("pix2pix").glob("model*"):
        (wide / path.name).write_bytes(path.read_bytes())
    (wide / "options.json").write_text(json.dumps(options))
    run(wide, photos / "i0.png", "--output_dir", tmp_path / "w")
    assert read_png(tmp_path / "w" / "i0.png").shape == (64, 96, 3)


def test_half_precision_is_near(network, photos, tmp_path):
    for precision in ("off", "bfloat16"):
        run(network("pix2pix"), photos / "i0.png", "--output_dir", tmp_path / precision, "--mixed_precision", precision)
    exact, half = (read_png(tmp_path / precision / "i0.png").astype(int) for precision in ("off", "bfloat16"))
    assert 0 < np.abs(exact - half).mean() < 8


def test_formats(network, photos, tmp_path):
    sizes = {}
    for kind, quality in (("png", None), ("jpg", 95), ("jpg", 30), ("webp", 90)):
        folder = tmp_path / f"{kind}{quality}"
        options = ["--quality", quality] if quality else []
        run(network("siamesegan"), photos / "i2.png", "--output_dir", folder, "--format", kind, *options)
        with Image.open(folder / f"i2.{kind}") as image:
            assert image.size == (70, 150) and image.format == {"jpg": "JPEG"}.get(kind, kind.upper())
            sizes[kind, quality] = (folder / f"i2.{kind}").stat().st_size
    assert sizes["jpg", 30] < sizes["jpg", 95] < sizes["png", None]


# ---------------------------------------------------------------------------------------------------------------- input


def test_folders_neighbours_and_lists(network, tmp_path):
    """Folders are kept; x.jpg and x.bmp become two files; a list may name files anywhere; odd names are names."""
    folder, odd = tmp_path / "in", os.fsdecode(b"odd \xff name %41 [1].PNG")
    for name in ("a/x.jpg", "a/x.bmp", "a/b/y.gif", "top.jpeg", ".hidden.png", "a/notes.txt", odd):
        if name.endswith("txt"):
            (folder / name).write_text("no image")
        else:
            save_image(folder / name, paint(32, 32, 1), format="PNG" if name == odd else None)
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    run(network("siamesegan"), folder, "--output_dir", tmp_path / "flat")
    assert set(files(tmp_path / "flat")) == {"top.png", odd.replace("PNG", "png")}
    run(network("siamesegan"), folder, "--recursive", "--output_dir", tmp_path / "deep")
    deep = {"a/x.jpg.png", "a/x.bmp.png", "a/b/y.png", *files(tmp_path / "flat")}
    assert set(files(tmp_path / "deep")) == deep
    names = tmp_path / "names.txt"
    names.write_bytes(
        os.fsencode(f"a/x.jpg\r\n\n./a/b/../b/y.gif\n{folder}/top.jpeg\n../in/{odd}\n{folder}2/gone.png\n")
    )
    save_image(tmp_path / "elsewhere.png", paint(32, 32, 1))
    with open(names, "a") as file:
        print(tmp_path / "elsewhere.png", file=file)
    message = fails(
        run(network("siamesegan"), folder, "--input_list", names, "--output_dir", tmp_path / "list", code=2)
    )
    assert "1 failed" in message and "gone.png: no such file" in message
    elsewhere = str(tmp_path / "elsewhere.png")[1:]
    assert set(files(tmp_path / "list")) == {
        "a/x.jpg.png",
        "a/b/y.png",
        "top.png",
        odd.replace("PNG", "png"),
        elsewhere,
    }
    with contextlib.chdir(folder):
        run(network("siamesegan"), "--input_list", names.rename(folder / "n"), "--output_dir", "../cwd", code=2)
    assert files(tmp_path / "cwd") == files(tmp_path / "list")


NAMES_THAT_MEET = {  # without their extension; each list with the names of the translations
    "an extension": (["a.jpg", "a.bmp"], ["a.jpg.png", "a.bmp.png"]),
    "a name within a name": (["a.jpg", "a.png", "a.jpg.png"], ["a.jpg.png", "a.png.png", "a.jpg.png.png"]),
    "a name that is another's target": (["b.jpg.png", "b.jpg"], ["b.jpg.png.png", "b.png"]),
    "case": (["a.Jpg", "a.Png"], ["a.Jpg.png", "a.Png.png"]),
    "none": (["a.jpg", "b.png", "c.d.png"], ["a.png", "b.png", "c.d.png"]),
}


@pytest.mark.parametrize("names, targets", NAMES_THAT_MEET.values(), ids=NAMES_THAT_MEET)
def test_no_two_images_have_one_target(network, tmp_path, names, targets):
    """And each gets the same one, whichever shard or list it is in."""
    kinds = {".jpg": "JPEG", ".png": "PNG", ".bmp": "BMP"}
    for seed, name in enumerate(names):
        save_image(tmp_path / "in" / name, paint(32, 32, seed), format=kinds[os.path.splitext(name)[1].lower()])
    run(network("siamesegan"), tmp_path / "in", "--output_dir", tmp_path / "all")
    whole = files(tmp_path / "all")
    assert sorted(whole) == sorted(targets) and len(set(whole.values())) == len(names)
    for name, target in zip(names, targets, strict=True):
        run(network("siamesegan"), tmp_path / "in" / name, "--output_dir", tmp_path / name)
        assert files(tmp_path / name) == {target: whole[target]}


def test_long_names_are_shortened_and_stay_apart(network, tmp_path):
    names = ["x" * 250 + end for end in "12"] + ["ü" * 120]
    for seed, name in enumerate(names):
        save_image(tmp_path / "in" / f"{name}.png", paint(32, 32, seed))
    for flags in ([], ["--skip_existing"]):
        out = run(network("siamesegan"), tmp_path / "in", "--output_dir", tmp_path / "out", *flags).stdout
    assert "0 images, 3 there already" in out
    made = [os.fsencode(name) for name in files(tmp_path / "out")]
    assert len(made) == 3 and max(map(len, made)) <= 184
    assert sum(name.startswith(b"x" * 150) for name in made) == 2


def test_shards_together_are_one_run(network, photos, tmp_path):
    run(network("cyclegan"), photos, "--output_dir", tmp_path / "one")
    shards = {number: tmp_path / str(number) for number in (1, 2, 3)}
    for number, folder in shards.items():
        run(network("cyclegan"), photos, "--output_dir", folder, "--shard", f"{number}/3")
    parts = [files(folder) for folder in shards.values()]
    assert sum(map(len, parts)) == 7 and parts[0] | parts[1] | parts[2] == files(tmp_path / "one")
    counts = [summary(folder, f"summary-{number}-of-3.json")["done"] for number, folder in shards.items()]
    assert counts == list(map(len, parts))


def test_shards_are_even():
    """1600 names, of which each of 16 shards expects 100, with a standard deviation of 10."""
    counts = np.zeros(16, int)
    for number in range(1600):
        mine = [shard for shard in range(1, 17) if translate.in_shard(f"folder/{number:05}.jpg", (shard, 16))]
        counts[mine[0] - 1] += len(mine)
    assert counts.sum() == 1600 and counts.min() > 60 and counts.max() < 140


# ------------------------------------------------------------------------------------------------- stops and failures


def test_damaged_images_do_not_stop_the_others(network, photos, tmp_path):
    folder = tmp_path / "in"
    for path in photos.iterdir():
        save_image(folder / path.name, Image.open(path))
    truncate(folder / "i1.png", 0.3)
    (folder / "i2.png").write_bytes(b"")
    (folder / "i3.png").unlink()
    (folder / "i3.png").mkdir()
    message = fails(run(network("pix2pix"), folder, "--output_dir", tmp_path / "out", "--batch_size", 3, code=2))
    assert "2 failed" in message and "summary.json" in message
    found = summary(tmp_path / "out")
    assert found["done"] == 4 and set(found["failed"]) == {"i1.png", "i2.png"}
    assert all("cannot be read as an image" in reason for reason in found["failed"].values())
    assert set(files(tmp_path / "out")) == {"i0.png", "i4.png", "i5.png", "i6.png"}


def test_skip_existing_makes_only_what_is_missing(network, photos, tmp_path):
    command = [network("siamesegan"), photos, "--output_dir", tmp_path]
    run(*command)
    whole, removed = files(tmp_path), ["i1.png", "i5.png"]
    for name in removed:
        (tmp_path / name).unlink()
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.png")}
    out = run(*command, "--skip_existing").stdout
    assert re.search(r"^done: 2 images, 5 there already, [\d.]+ per second; see ", out, re.MULTILINE)
    assert files(tmp_path) == whole
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.png")}
    assert before == {name: after[name] for name in before}
    assert summary(tmp_path)["skipped"] == 5


def test_ctrl_c_leaves_whole_files_and_the_same_command_goes_on(network, photos, tmp_path):
    """In a process of its own, interrupted when the first files are there."""
    for number in range(2000):
        os.link(photos / "i0.png", tmp_path / f"{number}.png")
    command = [sys.executable, ROOT / "tools" / "translate.py", network("pix2pix"), tmp_path]
    command += ["--output_dir", tmp_path / "out"]
    # a shell that runs pytest in the background makes its children deaf to SIGINT, a terminal does not
    hears = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    running = subprocess.Popen(command, **pipes, env=plain_environment(), preexec_fn=hears)
    while not list(tmp_path.glob("out/*.png")):
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, message = running.communicate(timeout=60)
    assert (running.returncode, message) == (130, "interrupted\n")
    made = files(tmp_path / "out")
    assert 0 < len(made) < 2000 and len(set(made.values())) == 1
    for number in range(20, 2000):
        (tmp_path / f"{number}.png").unlink()
    run(network("pix2pix"), tmp_path, "--output_dir", tmp_path / "out", "--skip_existing")
    again = files(tmp_path / "out")
    assert {f"{number}.png" for number in range(20)} | made.keys() == again.keys()
    assert set(again.values()) == set(made.values())


def test_a_shard_is_written_by_one_run_at_a_time(network, photos, tmp_path):
    """And what a killed run was writing is removed."""
    folder = tmp_path / ".unfinished-1-of-2"
    folder.mkdir()
    (folder / "half.png").write_bytes(b"half")
    command = [network("siamesegan"), photos, "--output_dir", tmp_path, "--shard"]
    with filelock.FileLock(f"{folder}.lock"):
        assert "shard 1/2" in fails(run(*command, "1/2", code=2))
        assert (folder / "half.png").exists()
        run(*command, "2/2")
    run(*command, "1/2")
    assert len(files(tmp_path)) == 7 and not list(tmp_path.glob(".*"))


def test_a_full_disk_leaves_whole_files(network, photos, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (7000, limits[1]))
    try:
        done = run(network("siamesegan"), photos, "--output_dir", tmp_path, code=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large" in fails(done) and "--skip_existing" in done.stderr
    for path in tmp_path.glob("*.png"):
        read_png(path)
    run(network("siamesegan"), photos, "--output_dir", tmp_path, "--skip_existing")
    assert len(files(tmp_path)) == 7


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--shard", "0/4"], ["0/4", "3/16"]),
        (["--shard", "5/4"], ["5/4"]),
        (["--shard", "four"], ["four"]),
        (["--quality", "90"], ["--quality", "webp"]),
        (["--quality", "0", "--format", "jpg"], ["1 to 100"]),
        (["--start", "3"], ["--start", "video"]),
        (["--stitch", "tiles"], ["pix2pix.py has no --stitch"]),
        (["--which_direction", "BtoA"], ["--which_direction"]),
        (["--tile_size", "0"], ["--tile_size"]),
        (["--output_dir", "IN"], ["IN is in IN"]),
        (["--output_dir", "IN/out", "--recursive"], ["IN/out is in IN"]),
        (["--input_list", "nothing.txt"], ["nothing.txt"]),
        (["--input_list", "."], ["--input_list"]),
    ],
)
def test_what_a_user_can_get_wrong(arguments, words, network, photos, tmp_path):
    (tmp_path / "IN").symlink_to(photos)
    with contextlib.chdir(tmp_path):
        fails(run_tool("translate", network("pix2pix"), "IN", "--output_dir", "out", *arguments), *words)


def test_wrong_folders(network, photos, tmp_path):
    out = ["--output_dir", tmp_path / "out"]
    fails(run_tool("translate", tmp_path, photos, *out), "no training in")
    fails(run_tool("translate", network("pix2pix"), *out), "give a folder")
    fails(run_tool("translate", network("pix2pix"), tmp_path / "nothing", *out), "no such file or folder")
    (tmp_path / "empty" / "below").mkdir(parents=True)
    fails(run_tool("translate", network("pix2pix"), tmp_path / "empty", *out), "no images", "--recursive")
    image = save_image(tmp_path / "one.png", paint(32, 32, 1))
    before = image.read_bytes()
    fails(run_tool("translate", network("pix2pix"), image, "--output_dir", tmp_path), "would replace it")
    assert image.read_bytes() == before
    (tmp_path / "file").write_text("")
    fails(run_tool("translate", network("pix2pix"), image, "--output_dir", tmp_path / "file"), "file", "mended")


# ------------------------------------------------------------------------------------------------------------- pipeline


class Source:
    """100 images of one size or of many. Counts how many are read, or translated, and not yet written."""

    threads, damage = 3, None

    def __init__(self, sizes=1):
        self.sizes, self.alive, self.most, self.written, self.lock = sizes, 0, 0, [], threading.Lock()

    def items(self):
        return iter(range(100))

    def read(self, item):
        if item % 10 == 7:
            raise translate.Failed("seven")
        if item % 10 == 8:
            return None
        with self.lock:
            self.alive += 1
            self.most = max(self.most, self.alive)
        return np.full((8, 8 + item % self.sizes, 3), item, np.uint8)

    def write(self, item, pixels):
        time.sleep(0.002)  # slower than the network
        with self.lock:
            self.alive -= 1
        assert (pixels == item + 1).all()
        self.written.append(item)


@pytest.mark.parametrize("sizes, batch_size", [(1, 1), (1, 4), (40, 1), (40, 4), (3, 8)])
@pytest.mark.parametrize("memory", [2**28, 600])
def test_bounded_and_complete(monkeypatch, sizes, batch_size, memory):
    monkeypatch.setattr(translate, "MEMORY", memory)
    source, shapes = Source(sizes), []

    def network(images):
        shapes.append(images.shape)
        return images + 1

    counts = []
    progress = types.SimpleNamespace(update=lambda count=1: counts.append(count))
    pipeline = translate.Pipeline(source, network, batch_size, progress)
    pipeline.run()
    assert (pipeline.done, pipeline.skipped, sum(counts)) == (80, 10, 90)
    assert sorted(source.written) == [i for i in range(100) if i % 10 not in (7, 8)]
    assert pipeline.failed == dict.fromkeys(range(7, 100, 10), "seven")
    assert ({shape[0] for shape in shapes} <= {1, batch_size} and (batch_size, 8, 8, 3) in shapes) or sizes == 40
    ahead = batch_size + 3 if memory > 600 else 3
    assert source.most <= 2 * (ahead + 1) + 4 * batch_size + batch_size + 3


def test_names_are_not_held_in_memory(tmp_path):
    listing = tmp_path / "pipe"
    os.mkfifo(listing)
    writer = subprocess.Popen(["bash", "-c", f"yes name.png > {listing}"])  # never ends
    try:
        names = translate.names_listed(listing)
        assert list(itertools.islice(names, 100_000)) == ["name.png"] * 100_000
    finally:
        names.close()
        writer.kill()
        writer.wait()


# ---------------------------------------------------------------------------------------------------------------- video


@pytest.fixture(scope="module")
def ffmpeg():
    return pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()


def make_clip(ffmpeg, path, size="96x64", rate="30000/1001", seconds=1, sound=True, options=()):
    source = ["-f", "lavfi", "-i", f"testsrc=size={size}:rate={rate}"]
    source += ["-f", "lavfi", "-i", "sine=440"] if sound else []
    encoder = ["-c:v", "libx264", "-crf", "5", "-pix_fmt", "yuv444p", *options]
    subprocess.run([ffmpeg, "-v", "error", "-y", *source, "-t", str(seconds), *encoder, str(path)], check=True)
    return path


def frames_of(ffmpeg, path):
    """uint8 [n, h, w, 3]."""
    info = video.describe(path)
    command = [ffmpeg, "-v", "error", "-i", str(path), "-f", "image2pipe", "-c:v", "ppm", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    width, height = map(int, raw.split(b"\n", 2)[1].split())
    header = len(b"P6\n%d %d\n255\n" % (width, height))
    frames = np.frombuffer(raw, np.uint8).reshape(-1, header + width * height * 3)[:, header:]
    return info, frames.reshape(-1, height, width, 3)


def test_a_video_keeps_rate_size_and_sound(ffmpeg, network, tmp_path):
    """Its frames are the translations of the frames, but for compression."""
    clip = make_clip(ffmpeg, tmp_path / "clip.mov", size="97x64")
    run(network("siamesegan"), clip, "--output_dir", tmp_path / "out", "--batch_size", 4)
    info, found = frames_of(ffmpeg, tmp_path / "out" / "clip.mp4")
    _, frames = frames_of(ffmpeg, clip)
    assert (str(info.rate), info.sound, found.shape) == ("30000/1001", "aac", (30, 64, 97, 3))
    _, model = common.load_trained(network("siamesegan"), input_dir=".", output_dir=tmp_path)
    expected = model.translate_images(frames, "AtoB")
    near, far = (np.abs(found.astype(int) - other).mean() for other in (expected, frames))
    assert near < 2.5 and far > 1.6 * near, (near, far)
    assert summary(tmp_path / "out")["done"] == 30
    run(network("pix2pix"), clip, "--output_dir", tmp_path / "part", "--start", 0.5, "--seconds", 0.2)
    info, found = frames_of(ffmpeg, tmp_path / "part" / "clip.mp4")
    assert found.shape == (6, 64, 97, 3) and info.sound == "aac" and info.seconds < 0.35
    before = (tmp_path / "part" / "clip.mp4").stat().st_mtime_ns
    assert "there already" in run(network("pix2pix"), clip, "--output_dir", tmp_path / "part", "--skip_existing").stdout
    assert (tmp_path / "part" / "clip.mp4").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "printed, rate",
    [
        ("25 fps, 25 tbr", Fraction(25)),
        ("29.97 fps, 29.97 tbr", Fraction(30000, 1001)),
        ("23.98 fps", Fraction(24000, 1001)),
        ("12.5 fps", Fraction(25, 2)),
        ("30 tbr", Fraction(30)),
    ],
)
def test_the_frame_rate_that_ffmpeg_prints(printed, rate):
    assert video.find_rate("a.mp4", f"h264, yuv420p, 96x64, 10 kb/s, {printed}, 90k tbn") == rate


@pytest.mark.parametrize("printed", ["90k tbn", "0 fps, 90k tbn"])
def test_a_video_without_a_frame_rate(printed):
    with pytest.raises(common.UserError, match="does not say its frame rate"):
        video.find_rate("a.mp4", f"h264, yuv420p, 96x64, {printed}")


def test_rotated_and_varying_videos(ffmpeg, network, tmp_path):
    plain = make_clip(ffmpeg, tmp_path / "plain.mp4", sound=False)
    turned, varying = tmp_path / "turned.mp4", tmp_path / "varying.mp4"
    subprocess.run([ffmpeg, "-v", "error", "-display_rotation", "90", "-i", plain, "-c", "copy", turned], check=True)
    slower = ["-vf", "setpts='if(lt(N,10),PTS,PTS+(N-10)*0.05/TB)'", "-fps_mode", "vfr"]
    make_clip(ffmpeg, varying, seconds=3, options=slower)
    for clip in (turned, varying):
        run(network("siamesegan"), clip, "--output_dir", tmp_path / "out")
    info, found = frames_of(ffmpeg, tmp_path / "out" / "turned.mp4")
    assert found.shape == (30, 96, 64, 3) and info.sound is None
    before, after = (video.describe(path) for path in (varying, tmp_path / "out" / "varying.mp4"))
    assert abs(before.seconds - after.seconds) < 0.2 and abs(before.rate - after.rate) < 0.01


def test_flicker_of_a_film(ffmpeg, tmp_path):
    """By hand from the frames; a film of more contrast has more, and one with fewer frames is refused."""
    plain = make_clip(ffmpeg, tmp_path / "plain.mp4", sound=False)
    strong = make_clip(ffmpeg, tmp_path / "strong.mp4", sound=False, options=["-vf", "eq=contrast=1.5"])
    changes = []
    for path in (plain, strong):
        frames = frames_of(ffmpeg, path)[1].astype(float)
        changes.append(np.abs(np.diff(frames, axis=0)).mean())
    done = run_tool("evaluate", "flicker", plain, strong, "--json")
    result = json.loads(done.stdout)
    assert result["scores"]["flicker"] == pytest.approx(changes[1] / changes[0], rel=1e-6) and result["frames"] == 30
    assert 1.05 < result["scores"]["flicker"] < 2
    short = make_clip(ffmpeg, tmp_path / "short.mp4", seconds=0.5, sound=False)
    fails(run_tool("evaluate", "flicker", plain, short), "30 frames", "15: give a video")
    still = make_clip(ffmpeg, tmp_path / "still.mp4", sound=False, options=["-vf", "geq=lum=128:cb=128:cr=128"])
    fails(run_tool("evaluate", "flicker", still, plain), "equal frames only")
    damaged = make_clip(ffmpeg, tmp_path / "damaged.mkv", seconds=2)
    truncate(damaged, 0.6)
    fails(run_tool("evaluate", "flicker", damaged, plain), "damaged.mkv cannot be read to its end")


def test_bad_videos(ffmpeg, network, tmp_path, monkeypatch):
    out = ["--output_dir", tmp_path / "out"]
    clip = make_clip(ffmpeg, tmp_path / "clip.mkv", seconds=2)
    (tmp_path / "text.mp4").write_text("no video")
    subprocess.run([ffmpeg, "-v", "error", "-i", clip, "-vn", tmp_path / "sound.m4a"], check=True)
    fails(run_tool("translate", network("pix2pix"), tmp_path / "text.mp4", *out), "text.mp4", "damaged")
    fails(run_tool("translate", network("pix2pix"), tmp_path / "sound.m4a", *out), "no video stream")
    fails(run_tool("translate", network("pix2pix"), clip, *out, "--start", 50), "no frames", "it has 2")
    fails(run_tool("translate", network("pix2pix"), clip, *out, "--shard", "1/2"), "--shard is for images")
    (clip.rename(tmp_path / "film.mp4"))
    fails(run_tool("translate", network("pix2pix"), tmp_path / "film.mp4", "--output_dir", tmp_path), "would replace")
    truncate(tmp_path / "film.mp4", 0.6)
    message = fails(
        run_tool("translate", network("siamesegan"), tmp_path / "film.mp4", *out), "damaged", "frames could"
    )
    assert 0 < frames_of(ffmpeg, tmp_path / "out" / "film.mp4")[1].shape[0] < 60, message
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    fails(run_tool("translate", network("pix2pix"), tmp_path / "film.mp4", *out), "pip install imageio-ffmpeg")


# ----------------------------------------------------------------------------------------------------------- docs/scale


def commands_run(script, tmp_path, **variables):
    """Runs a shell script in which `python` only prints its arguments. Returns its lines."""
    stub = tmp_path / "bin" / "python"
    stub.parent.mkdir(exist_ok=True)
    stub.write_text('#!/bin/bash\necho "$CUDA_VISIBLE_DEVICES" "$@"\n')
    stub.chmod(0o755)
    environment = os.environ | {"PATH": f"{stub.parent}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": ""} | variables
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_recipes_for_machines_cover_all_shards(tmp_path):
    page = (ROOT / "docs" / "scale.md").read_text()
    slurm, gpus = (text for text in re.findall(r"```bash\n(.*?)```", page, re.DOTALL) if "translate.py" in text)
    job = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1]
    count = int(re.search(r"completions: (\d+)", job)[1])
    pod = " ".join(re.search(r"args:\n +- (.*?)\n +volumeMounts", job, re.DOTALL)[1].split())
    array = int(re.search(r"--array=1-(\d+)", slurm)[1])
    runs = {
        "slurm": [commands_run(slurm, tmp_path, SLURM_ARRAY_TASK_ID=str(i), SLURM_ARRAY_TASK_COUNT=str(array))
                  for i in range(1, array + 1)],
        "kubernetes": [commands_run(pod, tmp_path, JOB_COMPLETION_INDEX=str(i)) for i in range(count)],
        "gpus": [[line] for line in commands_run(gpus, tmp_path)],
    }  # fmt: skip
    for name, lines in runs.items():
        assert all(len(line) == 1 for line in lines), name
        shards = []
        for (line,) in lines:
            script, *words = line.split()[line.split()[0].isdecimal() :]
            assert script == "tools/translate.py"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sys, "argv", [script, *words])
                patch.setattr(os.path, "exists", lambda path: True)
                patch.setattr(os.path, "isdir", lambda path: True)
                args = translate.parse()
            assert args.skip_existing
            shards.append(args.shard)
        assert sorted(shards) == [(i, len(lines)) for i in range(1, len(lines) + 1)], name
    assert [line.split()[0] for (line,) in sorted(runs["gpus"])] == ["0", "1", "2", "3"]


def test_recipe_for_ray(network, photos, tmp_path, monkeypatch):
    """With a stand-in for Ray: the class translates rows as the tool translates files."""
    recipe = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "scale.md").read_text(), re.DOTALL)[1]
    rows = [{"path": path.name, "image": np.asarray(Image.open(path))} for path in sorted(photos.glob("*.png"))]

    class Data:
        def map(self, function, **options):
            self.rows = [function()(row) for row in rows[:2]]
            return self

        def write_parquet(self, path):
            return self.rows

    data = Data()
    monkeypatch.setitem(sys.modules, "ray", types.SimpleNamespace(data=types.SimpleNamespace(
        read_images=lambda *paths, **options: data)))  # fmt: skip
    monkeypatch.chdir(ROOT)
    exec(re.sub(r"horse2zebra\w*_train", str(network("cyclegan")), recipe), {})
    run(network("cyclegan"), photos, "--output_dir", tmp_path)
    for row in data.rows:
        np.testing.assert_array_equal(row["image"], read_png(tmp_path / row["path"]))


@once
def test_every_option_is_in_the_help(script):
    del script
    assert "--skip_existing" in run("--help").stdout
