"""tools/import-weights.py: imported weights give the same images as in PyTorch, and are exported unchanged; what a user
can get wrong. Needs PyTorch."""

import contextlib
import json
import os
import pickle
import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from conftest import (
    ROOT,
    SCRIPTS,
    assert_one_line,
    paint,
    plain_environment,
    pngs,
    read_png,
    save_domains,
    save_image,
    save_pairs,
    tensors,
    truncate,
)
from run_tool import fails, run_tool

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from reference import parity  # noqa: E402

SCRIPT_OF = {"unet": "pix2pix", "resnet": "cyclegan", "ganilla": "ganilla", "cut": "cut"}
TOOL = parity.load_tool()


def generator(name, seed=0):
    """A generator in PyTorch with random weights, narrow; ganilla-64 is as wide as the original always is."""
    name, width = (name, 4) if name != "ganilla-64" else ("ganilla", 64)
    return parity.randomise(parity.build_reference(name, width), seed)


def save(path, name="resnet-2", seed=0, change=lambda state: state, **options):
    """Writes the state dict of a generator, after change(state). Returns the path."""
    torch.save(change(generator(name, seed).state_dict()), path, **options)
    return path


@pytest.fixture
def call(monkeypatch, capsys):
    """call(*arguments): the tool in this process. Returns stdout."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["import-weights.py", *map(str, arguments)])
        capsys.readouterr()
        TOOL.main()
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return run


@pytest.fixture
def refuses(call):
    """refuses(*arguments): the tool ends with an error of one line, which is returned."""

    def run(*arguments):
        with pytest.raises(TOOL.UserError) as error:
            call(*arguments)
        assert "\n" not in str(error.value)
        return str(error.value)

    return run


@pytest.fixture
def imported(call, tmp_path):
    """imported(name, *arguments): the folder of a checkpoint of that generator, and the generator in PyTorch."""

    def run(name, *arguments):
        script = SCRIPT_OF[name.split("-")[0]]
        call(save(tmp_path / f"{name}.pth", name), "--script", script, "--output_dir", tmp_path / name, *arguments)
        return tmp_path / name, generator(name)

    return run


def process(*arguments, **environment):
    """Runs the tool as a user does."""
    command = [sys.executable, str(ROOT / "tools" / "import-weights.py"), *map(str, arguments)]
    environment = plain_environment() | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


# ------------------------------------------------------------------------------------------------------------ images


def translate(module, image):
    """What a generator in PyTorch gives for uint8 [h, w, 3], in 0 to 255."""
    expected = np.rint((parity.run_reference(module, np.float32(image[None]) / 127.5 - 1)[0] + 1) * 127.5).astype(int)
    assert expected.std() > 20
    return expected


def served(folder, kind, image):
    """What an export gives for uint8 [h, w, 3]."""
    import keras
    import tensorflow as tf

    if kind == "keras":
        return keras.models.load_model(folder / "model.keras")(image[None]).numpy()[0]
    module = tf.saved_model.load(str(folder / "saved_model"))
    return module.signatures["serving_default"](images=tf.constant(image[None]))["images"].numpy()[0]


@pytest.mark.parametrize(
    ("name", "size", "kind"),
    [
        ("unet-5", (96, 32), "saved_model"),
        ("unet-7", (128, 128), None),
        ("unet-8", (256, 256), None),
        ("resnet-2", (92, 140), "keras"),
        ("resnet-6", (64, 64), None),
        ("unet-6-instance", (64, 128), "keras"),
        ("resnet-2-batch", (92, 140), "saved_model"),
        ("ganilla", (96, 64), None),
        ("cut-2", (92, 140), "keras"),
    ],
)
def test_images_of_test_and_export_are_those_of_pytorch(imported, tmp_path, name, size, kind):
    """At sizes that the networks take as they are; all but the U-Net learn at 256."""
    checkpoint, module = imported(name)
    script, image = SCRIPT_OF[name.split("-")[0]], paint(*size, 7)
    expected = translate(module, image)
    flags = ["--input_dir", save_image(tmp_path / "one.png", image), "--output_dir", tmp_path / "test", "--native_size"]
    flags += ["--nopaired"] * (script == "pix2pix")
    SCRIPTS[script]("--mode", "test", "--checkpoint", checkpoint, *flags)
    assert np.abs(read_png(tmp_path / "test/images/one-outputs.png") - expected).max() <= 1
    if kind == "saved_model":
        SCRIPTS[script]("--mode", "export", "--checkpoint", checkpoint, "--output_dir", tmp_path / "export")
    if kind == "keras":
        done = run_tool("export", checkpoint, "--format", kind, "--output_dir", tmp_path / "export")
        assert done.returncode == 0, done
    if kind:
        assert np.abs(served(tmp_path / "export", kind, image) - expected).max() <= 1


@pytest.mark.parametrize("name", ["unet-6", "resnet-2"])
def test_an_imported_generator_begins_a_training(imported, data_of, tmp_path, name):
    """With a learning rate of 0 its test is PyTorch's; what was not in the file is new, not grey."""
    checkpoint, module = imported(name)
    script = SCRIPTS[SCRIPT_OF[name.split("-")[0]]]
    flags = ["--init_from", checkpoint, "--input_dir", data_of(script.name), "--crop_size", 64, "--scale_size", 68]
    flags += ["--max_steps", 1, "--lr", 0, "--display_freq", 0, "--seed", 1]
    out = script("--mode", "train", *flags, "--output_dir", tmp_path / "t")
    if name == "unet-6":
        assert "new: discriminator" in out
    else:
        assert "new: generator_BtoA, discriminator" in out
    image = paint(64, 64, 0)
    flags = ["--checkpoint", tmp_path / "t", "--input_dir", save_image(tmp_path / "one.png", image)]
    flags += ["--nopaired"] if name == "unet-6" else ["--which_direction", "AtoB"]
    script("--mode", "test", *flags, "--crop_size", 64, "--scale_size", 64, "--output_dir", tmp_path / "test")
    assert np.abs(pngs(tmp_path / "test")["one-outputs.png"].astype(int) - translate(module, image)).max() <= 1
    if name == "resnet-2":  # the new generator translates
        flags = ["--checkpoint", tmp_path / "t", "--which_direction", "BtoA", "--output_dir", tmp_path / "back"]
        script("--mode", "test", *flags)
        assert all(image.std() > 0 for image in pngs(tmp_path / "back").values())


def test_test_without_images_says_what_to_give(imported):
    checkpoint, _ = imported("resnet-2")
    error = SCRIPTS["cyclegan"].fails("--mode", "test", "--checkpoint", checkpoint)
    assert "resnet-2.pth" in error and "--input_dir" in error


def test_the_direction_without_a_file_is_grey(imported, refuses, tmp_path):
    """It is asked for by name in vain; a file cannot be imported as BtoA, whose test would be grey by default."""
    checkpoint, module = imported("resnet-2")
    image = paint(64, 64, 0)
    flags = ["--checkpoint", checkpoint, "--input_dir", save_image(tmp_path / "one.png", image), "--native_size"]
    SCRIPTS["cyclegan"]("--mode", "test", *flags, "--output_dir", tmp_path / "test")
    outputs, recovered = (read_png(tmp_path / f"test/images/one-{kind}.png") for kind in ("outputs", "recovered"))
    assert np.abs(outputs - translate(module, image)).max() <= 1
    assert (recovered == 128).all()
    both = save_domains(tmp_path / "data", {"testA": ["1.png"], "testB": ["1.png"]})
    for mode, direction, more in (
        ("test", "BtoA", []),
        ("test", "both", ["--input_dir", both]),
        ("export", "BtoA", []),
    ):
        more = [*more, "--which_direction", direction, "--output_dir", tmp_path / "other"]
        assert "no weights for BtoA" in SCRIPTS["cyclegan"].fails("--mode", mode, *flags, *more)
        assert not list((tmp_path / "other").glob("*"))
    error = refuses(checkpoint, "--export", tmp_path / "back.pth", "--which_direction", "BtoA")
    assert "generator_BtoA" in error and not (tmp_path / "back.pth").exists()
    flags = ["--script", "cyclegan", "--output_dir", tmp_path / "new", "--which_direction", "BtoA"]
    error = refuses(tmp_path / "resnet-2.pth", *flags)
    assert "imported as AtoB" in error and "leave --which_direction out" in error and not (tmp_path / "new").exists()


# -------------------------------------------------------------------------------------------------------- round trip


NAMES_OF_NETWORKS = ["unet-5", "unet-8-instance", "resnet-1", "resnet-9-batch", "ganilla-64", "cut-1", "cut-9"]


@pytest.mark.parametrize("name", NAMES_OF_NETWORKS)
def test_import_and_export_give_the_same_tensors(call, imported, tmp_path, name):
    checkpoint, module = imported(name)
    call(checkpoint, "--export", tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    expected = dict(module.named_parameters()) | {n: v for n, v in module.named_buffers() if n.endswith(".filt")}
    assert all(back[key].dtype == torch.float32 and torch.equal(back[key], expected[key]) for key in expected)
    assert back.keys() == module.state_dict().keys()  # with running statistics, which PyTorch needs
    module.load_state_dict(back)
    assert all(back[key].eq("var" in key).all() for key in back.keys() - expected.keys())


def test_generators_of_cut(call, refuses, tmp_path):
    """BtoA is a flag of the import; without antialiasing it is a plain ResNet; other filters are refused."""
    plain, blurred = (save(tmp_path / f"{name}.pth", name) for name in ("resnet-2", "cut-2"))
    flags = ["--script", "cut", "--output_dir"]
    call(blurred, *flags, tmp_path / "back", "--which_direction", "BtoA")
    options = json.loads((tmp_path / "back" / "options.json").read_text())
    assert (options["which_direction"], options["antialias"], options["n_blocks"]) == ("BtoA", True, 2)
    assert "leave --which_direction out" in refuses(
        tmp_path / "back", "--export", tmp_path / "x.pth", "--which_direction", "AtoB"
    )
    call(plain, *flags, tmp_path / "plain")
    assert json.loads((tmp_path / "plain" / "options.json").read_text())["antialias"] is False
    call(tmp_path / "plain", "--export", tmp_path / "again.pth")
    first, second = (torch.load(path, weights_only=True) for path in (plain, tmp_path / "again.pth"))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    other = save(tmp_path / "o.pth", "cut-2", change=lambda s: s | {"model.7.filt": torch.ones(8, 1, 3, 3) / 9})
    assert "model.7.filt" in refuses(other, *flags, tmp_path / "new")
    lost = save(tmp_path / "l.pth", "cut-2", change=lambda s: {n: v for n, v in s.items() if n != "model.11.filt"})
    assert "missing (first model.11.filt)" in refuses(lost, *flags, tmp_path / "new")
    assert "one generator" in refuses(blurred, plain, *flags, tmp_path / "new")
    assert "--script cut" in refuses(blurred, "--script", "cyclegan", "--output_dir", tmp_path / "new")


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_two_files_are_the_two_generators(call, tmp_path, direction):
    paths = [save(tmp_path / f"{seed}.pth", seed=seed) for seed in (1, 2)]
    flags = ["--script", "cyclegan", "--output_dir", tmp_path / "both", "--which_direction", direction]
    out = call(*paths, *flags)
    assert "grey" not in out and f"--which_direction {direction}" in out
    for path, way in zip(paths, ("AtoB", "BtoA")[:: 1 if direction == "AtoB" else -1], strict=True):
        call(tmp_path / "both", "--export", tmp_path / f"{way}.pth", "--which_direction", way)
        back, expected = (torch.load(file, weights_only=True) for file in (tmp_path / f"{way}.pth", path))
        assert back.keys() == expected.keys() and all(torch.equal(back[key], expected[key]) for key in expected)


def test_export_of_a_training(call, tmp_path):
    script, image = SCRIPTS["pix2pix"], paint(64, 64, 1)
    flags = ["--input_dir", save_pairs(tmp_path / "data", ["1.png"]), "--output_dir", tmp_path / "t", "--max_steps", 1]
    script("--mode", "train", *script.tiny, *flags, "--display_freq", 0)
    call(tmp_path / "t/model-1", "--export", tmp_path / "back.pth")
    module = parity.build_reference("unet-6", 4)
    module.load_state_dict(torch.load(tmp_path / "back.pth", weights_only=True))
    flags = ["--nopaired", "--input_dir", save_image(tmp_path / "one.png", image), "--output_dir", tmp_path / "test"]
    script("--mode", "test", "--checkpoint", tmp_path / "t", *flags)
    expected = np.rint((parity.run_reference(module, np.float32(image[None]) / 127.5 - 1)[0] + 1) * 127.5)
    assert np.abs(read_png(tmp_path / "test/images/one-outputs.png") - expected).max() <= 1


def test_export_gives_the_averages_of_a_training_that_made_them(call, tmp_path):
    """As test and export do."""
    script = SCRIPTS["pix2pix"]
    flags = ["--input_dir", save_pairs(tmp_path / "data", ["1.png"]), "--output_dir", tmp_path / "t", "--max_steps", 3]
    script("--mode", "train", *script.tiny, *flags, "--display_freq", 0, "--lr", 0.01, "--ema_decay", 0.9)
    call(tmp_path / "t", "--export", tmp_path / "back.pth")
    kernel = torch.load(tmp_path / "back.pth", weights_only=True)["model.model.0.weight"].numpy()
    stored = {name: value for name, value in tensors(tmp_path / "t").items() if "encoder_1." in name}
    averaged, last = (stored[f"{prefix}generator/encoder_1.Skernel/.ATTRIBUTES/VARIABLE_VALUE"].transpose(3, 2, 0, 1)
                      for prefix in ("averaged/", ""))  # fmt: skip
    np.testing.assert_array_equal(kernel, averaged)
    assert np.abs(averaged - last).max() > 1e-3


# ------------------------------------------------------------------------------------------------------------- forms


def with_statistics(state):
    """With those of instance norm in PyTorch before 0.4, which had them even without weights."""
    widths = {key.removesuffix(".weight"): len(value) for key, value in state.items() if key.endswith("weight")}
    kinds = {"running_mean": torch.zeros, "running_var": torch.ones}
    statistics = {f"{key}9.{kind}": make(width) for key, width in widths.items() for kind, make in kinds.items()}
    return state | statistics | {"model.2.num_batches_tracked": torch.tensor(7)}


FORMS = {
    "DataParallel": {"change": lambda state: {f"module.{key}": value for key, value in state.items()}},
    "torch.compile within DataParallel, twice, within a model": {
        "change": lambda state: {f"netG.module.module._orig_mod.{key}": value for key, value in state.items()}
    },
    "running statistics": {"change": with_statistics},
    "dropout in the blocks": {
        "change": lambda state: {key.replace("conv_block.5", "conv_block.6"): value for key, value in state.items()}
    },
    "format before PyTorch 1.6": {"_use_new_zipfile_serialization": False},
    "both": {
        "change": lambda state: {f"module.{key}": value for key, value in with_statistics(state).items()},
        "_use_new_zipfile_serialization": False,
    },
    "float64": {"change": lambda state: {key: value.double() for key, value in state.items()}},
    "parameters": {"change": lambda state: {key: torch.nn.Parameter(value) for key, value in state.items()}},
}


def test_every_form_of_a_state_dict_is_the_same(call, tmp_path):
    call(save(tmp_path / "plain.pth"), "--script", "cyclegan", "--output_dir", tmp_path / "plain")
    expected = tensors(tmp_path / "plain")
    assert len([name for name in expected if name.startswith("generator_AtoB")]) == 20
    for name, form in FORMS.items():
        call(save(tmp_path / "form.pth", **form), "--script", "cyclegan", "--output_dir", tmp_path / name)
        found = tensors(tmp_path / name)
        assert found.keys() == expected.keys() and all(np.array_equal(found[key], expected[key]) for key in found), name


def test_dropout_in_the_blocks_with_batch_norm(call, tmp_path):
    """The second convolution and its norm are one place further on; without dropout its place is the norm's."""

    def shifted(state):
        return {re.sub(r"(conv_block)\.([56])", lambda m: f"{m[1]}.{int(m[2]) + 1}", key): state[key] for key in state}

    for name, change in (("plain", lambda state: state), ("dropout", shifted)):
        path = save(tmp_path / f"{name}.pth", "resnet-2-batch", change=change)
        call(path, "--script", "cyclegan", "--output_dir", tmp_path / name)
    found, expected = tensors(tmp_path / "dropout"), tensors(tmp_path / "plain")
    assert found.keys() == expected.keys() and all(np.array_equal(found[key], expected[key]) for key in found)


def test_options_are_the_defaults_and_the_sizes_found(imported):
    checkpoint, _ = imported("resnet-2")
    options = json.loads((checkpoint / "options.json").read_text())
    found = {"ngf": 4, "n_blocks": 2, "which_direction": "AtoB", "input_dir": str(checkpoint) + ".pth", "seed": 0}
    module = SCRIPTS["cyclegan"].module
    defaults = {k: v for k, v in vars(parity.default_args(module)).items() if k not in module.RUN_FLAGS}
    assert options.pop("imported")["flags"] == ["cyclegan", "uint8", None]
    assert options == {"script": "cyclegan"} | json.loads(json.dumps(defaults)) | found


def test_direction_of_pix2pix_is_kept(imported):
    checkpoint, _ = imported("unet-5", "--which_direction", "BtoA")
    options = json.loads((checkpoint / "options.json").read_text())
    assert (options["which_direction"], options["crop_size"], options["lab_colorization"]) == ("BtoA", "32", False)


@pytest.mark.parametrize("channels", [(1, 1), (4, 3), (3, 5)])
@pytest.mark.parametrize("script", ["pix2pix", "cyclegan", "ganilla"])
def test_other_numbers_of_channels(call, refuses, tmp_path, script, channels):
    """input_nc and output_nc of the originals: the network gives what PyTorch's gives, here for 16-bit images; two
    files of an unpaired script are there and back."""
    names = {"pix2pix": "unet-5", "cyclegan": "resnet-1", "ganilla": "ganilla"}
    pairs = {"there": channels, "back": channels[::-1]}
    modules = {}
    width = 64 if script == "ganilla" else 4
    for name, both in pairs.items():
        modules[name] = parity.randomise(parity.build_reference(names[script], width, both), len(modules))
        torch.save(modules[name].state_dict(), tmp_path / f"{name}.pth")
    files = [tmp_path / "there.pth"] + ([tmp_path / "back.pth"] if script != "pix2pix" else [])
    flags = ["--script", script, "--output_dir", tmp_path / "out", "--data_type", "uint16"]
    assert "needs --value_range" in refuses(*files, *flags)
    call(*files, *flags, "--value_range", "0,4095")
    image = np.random.default_rng(0).integers(0, 4096, [32, 32, channels[0]]).astype(np.uint16)
    np.save(tmp_path / "one.npy", image)
    test = ["--mode", "test", "--checkpoint", tmp_path / "out", "--input_dir", tmp_path / "one.npy"]
    test += ["--nopaired"] if script == "pix2pix" else []
    SCRIPTS[script](*test, "--output_dir", tmp_path / "test", "--native_size")
    module = SCRIPTS[script].module
    (path,) = (tmp_path / "test/images").glob("one-outputs.*g" if channels[1] in (1, 3) else "one-outputs.npy")
    ours = module.read_array(path)
    inputs = torch.from_numpy(np.float32(image / 2047.5 - 1)).permute(2, 0, 1)[None]
    with torch.no_grad():
        theirs = modules["there"].train()(inputs)[0].permute(1, 2, 0).numpy()
    assert ours.dtype == np.uint16 and ours.shape == (32, 32, channels[1])
    assert np.abs(ours - (theirs + 1) * 2047.5).max() <= 2.5  # of 4095
    if channels[0] != channels[1] and script != "pix2pix":
        assert "they are not there and back" in refuses(files[0], files[0], *flags[:3], tmp_path / "x")


@pytest.mark.parametrize(("channels", "direction"), [((1, 2), "AtoB"), ((2, 1), "BtoA")])
def test_unet_between_lightness_and_colour_is_for_lab(call, refuses, tmp_path, channels, direction):
    module = parity.randomise(parity.load_reference().Unet(*channels, halvings=5, ngf=4))
    torch.save(module.state_dict(), tmp_path / "lab.pth")
    flags = ["--script", "pix2pix", "--output_dir", tmp_path / "lab"]
    wrong = "BtoA" if direction == "AtoB" else "AtoB"
    assert "--which_direction" in refuses(tmp_path / "lab.pth", *flags, "--which_direction", wrong)
    call(tmp_path / "lab.pth", *flags)
    options = json.loads((tmp_path / "lab/options.json").read_text())
    assert (options["lab_colorization"], options["which_direction"]) == (True, direction)
    save_image(tmp_path / "one.png", paint(32, 32, 0))
    flags = ["--input_dir", tmp_path / "one.png", "--output_dir", tmp_path / "test"]
    SCRIPTS["pix2pix"]("--mode", "test", "--checkpoint", tmp_path / "lab", *flags)
    assert read_png(tmp_path / "test/images/one-outputs.png").shape == (32, 32, 3)


# --------------------------------------------------------------------------------------------------------- bad input


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["pickle 2", "pickle 4", "zip", "old format", "among tensors"])
def test_code_in_a_file_does_not_run(refuses, tmp_path, form):
    trap, path = Payload(tmp_path / "ran"), tmp_path / "trap.pth"
    if "pickle" in form:
        path.write_bytes(pickle.dumps(trap, int(form[-1])))
    elif form == "among tensors":
        save(path, change=lambda state: dict(state) | {"model.1.weight": trap})
    else:
        torch.save(trap, path, _use_new_zipfile_serialization=form == "zip")
    error = refuses(path, "--script", "cyclegan", "--output_dir", tmp_path / "out")
    assert "trap.pth" in error
    assert "not a state dict" in error if form == "pickle 4" else "refused" in error and "mkdir" in error
    assert [file.name for file in tmp_path.iterdir()] == ["trap.pth"]
    with contextlib.suppress(RuntimeError):  # PyTorch refuses a bare pickle, but too late
        torch.load(path, weights_only=False)
    assert (tmp_path / "ran").is_dir()  # the trap works


def without(*names):
    return lambda state: {key: value for key, value in state.items() if key not in names}


def changed(name, shape):
    return lambda state: state | {name: torch.zeros(shape)}


def repeated(name, shape):
    """One number, in the file once, as a view of a shape that fills no memory."""
    return lambda state: state | {name: torch.zeros(1).expand(shape)}


def spoiled(name, value):
    def change(state):
        state[name].view(-1)[-1] = value
        return state

    return change


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            "resnet-2",
            without("model.7.bias", "model.19.weight"),
            ["18 tensors, the first model.1.weight [4, 3, 7, 7]: a ResNet", "2 missing (first model.7.bias)"],
        ),
        ("resnet-2", without("model.1.weight"), ["model.1.weight", "missing"]),
        ("unet-5", without("model.model.3.weight"), ["model.model.3.weight", "missing"]),
        ("ganilla", without("fpn.P4_1.bias"), ["a GANILLA generator, but 1 missing (first fpn.P4_1.bias)"]),
        ("resnet-2", changed("model.99.weight", [4]), ["1 unknown (first model.99.weight)"]),
        (
            "resnet-2",
            changed("model.1.weight", [5, 3, 7, 7]),
            ["of another shape (first model.1.bias is [4], not [5])"],
        ),
        ("resnet-2", changed("model.1.weight", []), ["model.1.weight", "missing"]),
        ("ganilla", changed("conv2.weight", [1, 4, 7, 7]), ["conv2.weight is [1, 4, 7, 7], not [3, 4, 7, 7]"]),
        ("unet-9", lambda state: state, ["9 halvings"]),
        ("unet-5", changed("model.model.1.model.1.bias", [8]), ["a U-Net, but 1 unknown (first model.model.1.model.1"]),
        ("resnet-2", changed("model.2.weight", [4]), ["unknown (first model.2.weight)"]),  # an affine instance norm
        ("resnet-2", without("model.1.bias"), ["unknown (first model.4.bias)"]),
        (
            "patchgan-3",
            lambda state: state,
            ["10 tensors, the first model.0.weight", "a discriminator, not a U-Net"],
        ),
        ("resnet-2", lambda state: {"fc.weight": torch.zeros(3)}, ["1 tensors, the first fc.weight [3]: a classifier"]),
        ("resnet-2", lambda state: {"x": torch.zeros(3)}, ["1 tensors, the first x [3]: nothing known, not a U-Net"]),
        ("resnet-2", lambda state: {"running_mean": torch.zeros(3)}, ["running statistics alone, not a U-Net"]),
        ("resnet-2", lambda state: {}, ["a dict of 0 entries, not a state dict"]),
        ("resnet-2", lambda state: {"state_dict": dict(state)}, ["1 entries, with 'state_dict' of type dict, not a"]),
        ("resnet-2", lambda state: list(state.values()), ["a list, not a state dict"]),
        ("resnet-2", lambda state: dict(state) | {"epoch": 3}, ["with 'epoch' of type int, not a state dict"]),
        # no filters, or more than the file holds
        ("resnet-2", changed("model.1.weight", [0, 3, 7, 7]), ["a ResNet generator, but with 0 filters"]),
        ("resnet-2", changed("model.1.weight", [10**6, 3, 1, 1]), ["1000000 filters", "do not fit"]),
        ("unet-5", changed("model.model.0.weight", [20000, 3, 1, 1]), ["20000 filters", "do not fit"]),
        ("ganilla", changed("conv1.weight", [0, 3, 7, 7]), ["GANILLA generator of ngf 0"]),
        ("resnet-2", repeated("model.1.weight", [10**6, 10**6, 7, 7]), ["model.1.weight", "larger than what the file"]),
        # GANILLA's own code at ngf 32
        ("ganilla", changed("conv1.weight", [32, 3, 7, 7]), ["ngf 32", "only those of ngf 64"]),
        # of a training that failed
        ("resnet-2", spoiled("model.10.conv_block.1.weight", float("nan")), ["conv_block.1.weight holds NaN"]),
        ("unet-5", spoiled("model.model.3.bias", float("-inf")), ["model.model.3.bias holds NaN or infinity"]),
        # two networks in one
        ("resnet-2", lambda state: {**state, **{f"module.{key}": state[key] for key in state}}, ["save one network"]),
    ],
)
def test_other_networks_are_refused(refuses, tmp_path, name, change, words):
    """One line says what the file is, without a list of its names."""
    script = SCRIPT_OF.get(name.split("-")[0], "cyclegan")
    path = save(tmp_path / "bad.pth", name, change=change)
    error = refuses(path, "--script", script, "--output_dir", tmp_path / "out")
    for word in [str(path), *words]:
        assert word in error
    assert [file.name for file in tmp_path.iterdir()] == ["bad.pth"]


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_truncated_file(refuses, tmp_path, old, share):
    path = save(tmp_path / "bad.pth", _use_new_zipfile_serialization=not old)
    truncate(path, share)
    error = refuses(path, "--script", "cyclegan", "--output_dir", tmp_path / "out")
    assert str(path) in error and "damaged" in error
    assert [file.name for file in tmp_path.iterdir()] == ["bad.pth"]


def test_other_files_are_refused(refuses, tmp_path):
    flags = ["--script", "cyclegan", "--output_dir", tmp_path / "out"]
    (tmp_path / "text.pth").write_text("<!DOCTYPE html><html>404</html>\n")
    save_image(tmp_path / "image.pth.png", paint(8, 8, 0))
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as file:
        file.writestr("a.txt", "a")
    for name in ("text.pth", "image.pth.png", "zip.pth"):
        error = refuses(tmp_path / name, *flags)
        assert name in error and "not a state dict" in error
    assert "no such file" in refuses(tmp_path / "missing.pth", *flags)
    assert "no such file" in refuses(tmp_path, *flags)
    assert not (tmp_path / "out").exists()


def test_a_file_that_cannot_be_looked_at(tmp_path):
    """A name that is too long stands for all that a system refuses, such as a folder of another user."""
    long, flags = tmp_path / ("x" * 300), ["--script", "cyclegan", "--output_dir"]
    fails(run_tool("import-weights", long, *flags, tmp_path / "out"), f"{long}: File name too long")
    fails(run_tool("import-weights", save(tmp_path / "a.pth"), *flags, long), "File name too long")
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


def test_files_of_different_networks(refuses, tmp_path):
    resnet, deeper = save(tmp_path / "2.pth"), save(tmp_path / "3.pth", "resnet-3")
    unet, ganilla = save(tmp_path / "u.pth", "unet-5"), save(tmp_path / "g.pth", "ganilla")
    flags = ["--output_dir", tmp_path / "out", "--script"]
    assert "different sizes" in refuses(resnet, deeper, *flags, "cyclegan")
    assert "one generator" in refuses(unet, unet, *flags, "pix2pix")
    for path, kind, script in (
        (resnet, "cyclegan", "pix2pix"),
        (ganilla, "ganilla", "cyclegan"),
        (unet, "pix2pix", "ganilla"),
    ):
        assert f"--script {kind}" in refuses(path, *flags, script)
    assert f"{ganilla}: a GANILLA" in refuses(resnet, ganilla, *flags, "cyclegan")
    assert not (tmp_path / "out").exists()


def test_options_that_do_not_fit_together(refuses, tmp_path):
    path = save(tmp_path / "a.pth")
    assert "--script" in refuses(path, "--output_dir", tmp_path / "out")
    assert "--output_dir" in refuses(path, "--script", "cyclegan")
    assert "--export" in refuses(path, "--export", tmp_path / "b.pth", "--output_dir", tmp_path / "out")
    assert "siamesegan" in refuses(path, "--script", "siamesegan", "--output_dir", tmp_path / "out")
    flags = ["--script", "cyclegan", "--output_dir", tmp_path / "out"]
    assert "--which_direction" in refuses(path, *flags, "--which_direction", "both")


def test_output_that_exists_is_kept(refuses, tmp_path):
    path = save(tmp_path / "a.pth")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    for name in ("full", "a.pth"):
        assert "not an empty folder" in refuses(path, "--script", "cyclegan", "--output_dir", tmp_path / name)
    assert "[x]" in refuses(path, "--script", "cyclegan", "--output_dir", tmp_path / "[x]")
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["a.pth", "file", "full"]


def test_exports_that_are_refused(refuses, imported, tmp_path):
    checkpoint, _ = imported("resnet-2")
    (tmp_path / "there.pth").write_text("mine")
    assert "exists" in refuses(checkpoint, "--export", tmp_path / "there.pth")
    assert (tmp_path / "there.pth").read_text() == "mine"
    target = ["--export", tmp_path / "new.pth"]
    assert "not by ganilla.py" in refuses(checkpoint, *target, "--script", "ganilla")
    assert "no training in" in refuses(tmp_path / "nothing", *target)
    options = json.loads((checkpoint / "options.json").read_text())
    for change, words in (
        ({"upsample": "resize"}, "--upsample resize"),
        ({"script": "siamesegan"}, "siamesegan.py"),
        ({"script": ["cyclegan"]}, "trained by"),
        ({"ngf": 5}, "cannot be restored"),
    ):
        (checkpoint / "options.json").write_text(json.dumps(options | change))
        assert words in refuses(checkpoint, *target)
    (checkpoint / "options.json").write_text("{")
    assert "options.json" in refuses(checkpoint, *target)
    (checkpoint / "options.json").write_text(json.dumps(options))
    truncate(checkpoint / "model-0.data-00000-of-00001")
    assert "damaged" in refuses(checkpoint, *target)
    assert_one_line(process(checkpoint, *target).stderr, "damaged")
    ganilla, _ = imported("ganilla")
    assert "--ngf 64" in refuses(ganilla, *target)  # GANILLA could not load it
    unet, _ = imported("unet-5")
    assert "AtoB" in refuses(unet, *target, "--which_direction", "BtoA")
    assert not (tmp_path / "new.pth").exists()


# --------------------------------------------------------------------------------------------------------- processes


def test_as_a_user_runs_it(tmp_path):
    path = save(tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    result = process(path, "--script", "cyclegan", "--output_dir", tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"--checkpoint {tmp_path / 'out'}" in result.stdout and "BtoA" in result.stdout and "grey" in result.stdout
    assert not list(tmp_path.glob(".*"))
    files = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert files == ["checkpoint", "model-0.data-00000-of-00001", "model-0.index", "options.json"]
    (tmp_path / "out").rename(tmp_path / "moved")
    result = process(tmp_path / "moved", "--export", tmp_path / "new/b.pth")
    assert (result.returncode, result.stderr) == (0, "") and (tmp_path / "new/b.pth").exists()


def test_an_error_is_one_line(tmp_path):
    torch.save(Payload(tmp_path / "ran"), tmp_path / "trap.pth")
    result = process(tmp_path / "trap.pth", "--script", "cyclegan", "--output_dir", tmp_path / "out")
    assert result.returncode == 2 and result.stdout == ""
    assert_one_line(result.stderr, "trap.pth", "refused")
    assert [file.name for file in tmp_path.iterdir()] == ["trap.pth"]


def test_without_pytorch_it_says_what_to_install(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('not here')\n")
    hidden = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    for arguments in (["--script", "cyclegan", "--output_dir", tmp_path / "out"], ["--export", tmp_path / "b.pth"]):
        result = process("a", *arguments, **hidden)
        assert result.returncode == 2
        assert_one_line(result.stderr, "pip install torch")


def test_help_has_a_line_for_every_option():
    result = process("--help")
    assert result.returncode == 0
    for option in ("--script", "--output_dir", "--which_direction", "--export"):
        assert option in result.stdout
