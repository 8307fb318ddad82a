"""Converts .pth weights of the PyTorch originals to a checkpoint, and a checkpoint to a .pth file.

Of pytorch-CycleGAN-and-pix2pix, GANILLA, CUT and animegan2-pytorch:

    python tools/import-weights.py ab.pth ba.pth --script cyclegan --output_dir horse2zebra
    python cyclegan.py --mode test --checkpoint horse2zebra --input_dir photos
    python tools/import-weights.py horse2zebra --export again.pth --which_direction BtoA

Needs PyTorch to read and write .pth files: pip install torch. See docs/pretrained.md.
"""

import copy
import hashlib
import json
import os
import re
import shutil
import types
import warnings
from pathlib import Path

import numpy as np
from common import Parser, UserError, in_our_words, load_algorithm, run, script_of, written_whole

# its generator
SCRIPTS = {
    "pix2pix": "U-Net",
    "cyclegan": "ResNet",
    "ganilla": "GANILLA",
    "cut": "antialiased ResNet",
    "animegan": "AnimeGANv2",
}
ONE_GENERATOR = ("pix2pix", "cut", "animegan")
DIRECTIONS = ("AtoB", "BtoA")
# [h, w, in, out] => [out, in, h, w]; of transposed convolutions [h, w, out, in] => [in, out, h, w]
TO_TORCH, FROM_TORCH = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}, {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
# flags that the original repositories do not have, with the values that give their networks
NO_COUNTERPART = {
    "separable_conv": False, "upsample": "transpose", "generator": "ganilla", "residual": False,
    "stroke": 0, "ink": 0.0, "grain": False,
}  # fmt: skip
# GANILLA's code has 64, 128, 128, 256 filters behind the first layer, whatever ngf is
GANILLA_NGF = 64
LOOKS = {  # what a state dict looks like, by the names of its tensors
    "a U-Net": r"model\.model\.",
    "a ResNet generator": r"model\.\d+\.conv_block\.",
    "an AnimeGANv2 generator": r"block_[a-e]\.",
    "a GANILLA generator": r"layer1\.\d\.final_conv\.|fpn\.",
    "a discriminator": r"(model|net)\.\d+\.(weight|bias)$",
    "a classifier": r"(layer1|features|fc|classifier)\.",
}


# -------------------------------------------------------------------------------------------- names


def original_modules(network):
    """{name of a layer: name of its module in the original repository}, of a generator of one of
    SCRIPTS."""
    layers = {layer.name for layer in network.layers}
    if "encoder_1" in layers:  # each level of the U-Net is a module within the one above
        halvings = sum(bool(re.fullmatch(r"encoder_\d+", layer)) for layer in layers)
        modules, prefix = (
            {"encoder_1": "model.model.0", "decoder_1": "model.model.3"},
            "model.model.1.model",
        )
        for level in range(2, halvings):
            modules |= {f"encoder_{level}": f"{prefix}.1", f"encoder_{level}_norm": f"{prefix}.2"}
            modules |= {f"decoder_{level}": f"{prefix}.5", f"decoder_{level}_norm": f"{prefix}.6"}
            prefix += ".3.model"
        modules |= {f"encoder_{halvings}": f"{prefix}.1", f"decoder_{halvings}": f"{prefix}.3"}
        return modules | {f"decoder_{halvings}_norm": f"{prefix}.4"}
    if "down_1" in layers:
        n_blocks = sum(bool(re.fullmatch(r"block_\d+_1", layer)) for layer in layers)
        # with the antialiasing of CUT each filter is a module too
        down_2, block_1, up_2, up_1, last = (
            (8, 12, 13, 17, 21) if "down_1_blur" in layers else (7, 10, 10, 13, 17)
        )
        modules = {"first": "model.1", "down_1": "model.4", "down_2": f"model.{down_2}"}
        for block in range(n_blocks):
            modules[f"block_{block + 1}_1"] = f"model.{block_1 + block}.conv_block.1"
            modules[f"block_{block + 1}_2"] = f"model.{block_1 + block}.conv_block.5"
        modules |= {
            name: f"model.{n_blocks + n}"
            for name, n in (("up_2", up_2), ("up_1", up_1), ("last", last))
        }
        for name, module in list(modules.items()):  # each norm follows its convolution
            prefix, _, number = module.rpartition(".")
            modules[f"{name}_norm"] = f"{prefix}.{int(number) + 1}"
        return modules
    if "a_1" in layers:
        return modules_of_animegan()
    modules = {"first": "conv1", "smooth": "fpn.P2_2", "last": "conv2"}
    for stage in (1, 2, 3, 4):
        modules[f"lateral_{stage}"] = f"fpn.P{stage + 1}_1"
        for block in (1, 2):
            ours, theirs = f"stage_{stage}_{block}", f"layer{stage}.{block - 1}"
            modules |= {f"{ours}_1": f"{theirs}.conv1", f"{ours}_2": f"{theirs}.conv2"}
            modules |= {
                f"{ours}_shortcut": f"{theirs}.shortcut.0",
                f"{ours}_final": f"{theirs}.final_conv.1",
            }
    return modules


def modules_of_animegan():
    """As original_modules(), of the layout of animegan2-pytorch."""
    modules = {"last": "out_layer.0"}
    places = {"c_1": "block_c.0", "c_2": "block_c.5"}
    for stage, count in (("a", 3), ("b", 2), ("d", 2), ("e", 3)):
        for number in range(count):
            places[f"{stage}_{number + 1}"] = f"block_{stage}.{number}"
    for block in range(1, 5):
        inside = f"block_c.{block}.layers"
        places[f"block_{block}_wide"] = f"{inside}.0"
        places[f"block_{block}_depthwise"] = f"{inside}.1"
        modules[f"block_{block}_narrow"] = f"{inside}.2"
        modules[f"block_{block}_narrow_norm"] = f"{inside}.3"
    for name, place in places.items():
        modules |= {name: f"{place}.1", f"{name}_norm": f"{place}.2"}
    return modules


def axes_of(weight, table):
    """The order of the axes of a weight on its way: of table, TO_TORCH or FROM_TORCH. A depthwise
    kernel is [h, w, channels, 1] here and [channels, 1, h, w] there."""
    is_depthwise = "_depthwise/" in weight.path and len(weight.shape) == 4
    return (2, 3, 0, 1) if is_depthwise else table[len(weight.shape)]


def original_weights(network, modules=original_modules):
    """{name in the original's state dict: our weight}."""
    modules, kinds = (
        modules(network),
        {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"},
    )
    paths = [weight.path.split("/") for weight in network.weights]  # layer, kind
    return {
        f"{modules[layer]}.{kinds[kind]}": w
        for (layer, kind), w in zip(paths, network.weights, strict=True)
    }


def fixed_filters(network):
    """{name in the original's state dict: array} of the filters that CUT's antialiased generator
    does not learn."""
    if not any(layer.name == "down_1_blur" for layer in network.layers):
        return {}
    ngf, modules = network.get_layer("first").filters, original_modules(network)
    filters = {}
    for layer, before, channels, values in (  # each follows or precedes a convolution
        ("down_1", 3, ngf * 2, [1, 2, 1]),
        ("down_2", 3, ngf * 4, [1, 2, 1]),
        ("up_2", -1, ngf * 4, [1, 3, 3, 1]),
        ("up_1", -1, ngf * 2, [1, 3, 3, 1]),
    ):
        index = int(modules[layer].removeprefix("model.")) + before
        filters[f"model.{index}.filt"] = np.tile(
            np.float32(np.outer(values, values) / 16), [channels, 1, 1, 1]
        )
    return filters


def describe(state):
    """One line on what a state dict {name: array} is."""
    if not state:
        return "running statistics alone"
    looks = [
        kind for kind, pattern in LOOKS.items() if any(re.match(pattern, name) for name in state)
    ]
    first = next(iter(state))
    kind = looks[0] if looks else "nothing known"
    return f"{len(state)} tensors, the first {first} {list(state[first].shape)}: {kind}"


def recognise(state):
    """The script to whose generator a state dict {name: array} belongs, and its network flags. Else
    UserError."""
    script, flags = recognise_kind(state)
    # each network has more numbers than this; so what is built is no larger than the file lets
    # expect
    least, numbers = (
        256 * flags.get("n_blocks", 1) * flags["ngf"] ** 2,
        sum(values.size for values in state.values()),
    )
    if not 0 < least <= numbers:
        found = f"{flags['ngf']} filters in its first layer, and {numbers:,} numbers in all"
        raise UserError(f"{describe(state)}, but with {found}, which do not fit together")
    return script, flags


def recognise_kind(state):
    """As recognise(), before it is known whether the width fits the size of the file."""

    def kernel_shape(name):  # of a convolution, which shows how wide the network is
        if name not in state or state[name].ndim != 4:
            raise UserError(
                f"{describe(state)}, but {name}, the kernel of a convolution, is missing"
            )
        return state[name].shape

    def norm_flag(first):  # only where the norm has no shift do convolutions have a bias
        return {"norm": "instance" if f"{first}.bias" in state else "batch"}

    if any(name.startswith("model.model.") for name in state):
        halvings = max(name.split(".").count("model") for name in state) - 1
        if not 5 <= halvings <= 8:
            raise UserError(f"a U-Net of {halvings} halvings; pix2pix.py's has 5 to 8")
        ngf, channels_in = kernel_shape("model.model.0.weight")[:2]
        channels_out = kernel_shape("model.model.3.weight")[1]
        flags = {"ngf": ngf, "crop_size": str(2**halvings)} | norm_flag("model.model.0")
        flags["channels"] = (channels_in, channels_out)
        if flags["channels"] in ((1, 2), (2, 1)):  # lightness to colour, or back
            flags |= {"lab_colorization": True, "which_direction": DIRECTIONS[channels_in - 1]}
            flags["channels"] = (3, 3)
        return "pix2pix", flags
    if any(".conv_block." in name for name in state):
        n_blocks = len({name.split(".")[1] for name in state if ".conv_block." in name})
        ngf, channels_in = kernel_shape("model.1.weight")[:2]
        flags = {"ngf": ngf, "n_blocks": n_blocks}
        is_antialiased = any(name.endswith(".filt") for name in state)
        last = f"model.{n_blocks + (21 if is_antialiased else 17)}.bias"
        flags["channels"] = (channels_in, len(state[last]) if last in state else 3)
        if is_antialiased:
            return "cut", flags
        return "cyclegan", flags | norm_flag("model.1")
    if any(name.startswith("layer1.") for name in state):
        ngf, channels_in = kernel_shape("conv1.weight")[:2]
        filters = kernel_shape("layer1.0.conv1.weight")[0]
        if filters != ngf:
            reason = f"{filters} filters behind the first layer, where ganilla.py's has {ngf}"
            raise UserError(
                f"a GANILLA generator of ngf {ngf} with {reason}: only those of ngf {GANILLA_NGF} "
                "fit"
            )
        channels_out = len(state["conv2.bias"]) if "conv2.bias" in state else 3
        return "ganilla", {"ngf": ngf, "channels": (channels_in, channels_out)}
    if any(name.startswith("block_a.") for name in state):
        ngf, channels_in = kernel_shape("block_a.0.1.weight")[:2]
        channels = (channels_in, kernel_shape("out_layer.0.weight")[0])
        if channels != (3, 3):
            raise UserError(
                f"an AnimeGANv2 generator from {channels[0]} to {channels[1]} channels; "
                "animegan.py's are for RGB"
            )
        return "animegan", {"ngf": ngf, "channels": channels}
    raise UserError(f"{describe(state)}, not a U-Net, ResNet, GANILLA or AnimeGANv2 generator")


def fill(network, state, modules=original_modules):
    """Gives a network all weights of a state dict {name: array}. Raises UserError if they do not
    fit."""
    weights, filters, wrong = original_weights(network, modules), fixed_filters(network), []
    other = [
        name for name in filters if name in state and not np.array_equal(filters[name], state[name])
    ]
    given, state = state, {name: values for name, values in state.items() if name not in filters}
    for name, weight in weights.items():
        shape = [weight.shape[axis] for axis in axes_of(weight, TO_TORCH)]
        if name in state and list(state[name].shape) != shape:
            wrong.append(f"{name} is {list(state[name].shape)}, not {shape}")
    faults = {
        "missing": [name for name in weights | filters if name not in given],
        "unknown": [name for name in state if name not in weights],
        "of another shape": wrong,
        "with other values than CUT's filters": other,
    }
    if any(faults.values()):
        found = ", ".join(
            f"{len(names)} {fault} (first {names[0]})" for fault, names in faults.items() if names
        )
        raise UserError(f"{describe(state)}, but {found}")
    for name in weights:
        if not np.isfinite(state[name]).all():
            raise UserError(
                f"{describe(state)}, but {name} holds NaN or infinity: that training failed"
            )
    for name, weight in weights.items():
        weight.assign(state[name].transpose(axes_of(weight, FROM_TORCH)))


def extract(network, modules=original_modules):
    """A network's state dict {name: array} in the original repository."""
    weights = original_weights(network, modules)
    return {
        name: weight.numpy().transpose(axes_of(weight, TO_TORCH)).copy()
        for name, weight in weights.items()
    }


# -------------------------------------------------------------------------------------------- files


def import_torch():
    try:
        import torch
    except ImportError:
        raise UserError(
            "PyTorch, which reads and writes .pth files, is not installed: pip install torch"
        ) from None
    return torch


def read_state(path):
    """The state dict {name: float32 array} in a .pth file. The file is read as data: no code in it
    runs.

    The names are those of a network alone: without DataParallel, torch.compile or a netG around it,
    and without running statistics and dropout in residual blocks.
    """
    torch = import_torch()
    if not path.is_file():
        raise UserError("no such file")
    hint = "in PyTorch: torch.save(network.state_dict(), FILE)"
    try:
        with warnings.catch_warnings(action="ignore"):  # PyTorch warns of its old formats
            state = torch.load(path, map_location="cpu", weights_only=True)
            if (
                not isinstance(state, dict)
                or not state
                or not all(map(torch.is_tensor, state.values()))
            ):
                is_dict = isinstance(state, dict)
                entries = state.items() if is_dict else ()
                odd = [(name, value) for name, value in entries if not torch.is_tensor(value)]
                types = [f"{name!r} of type {type(value).__name__}" for name, value in odd]
                kind = f"a dict of {len(state)} entries" if is_dict else f"a {type(state).__name__}"
                found = ", with ".join([kind, *types[:1]])
                raise UserError(f"{found}, not a state dict, that is, tensors by name; {hint}")
            for name, value in state.items():  # a view may repeat few numbers without end
                if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                    raise UserError(
                        f"refused: {name} {list(value.shape)} is larger than what the file holds "
                        "of it"
                    )
            state = {str(name): value.detach().float().numpy() for name, value in state.items()}
    except (UserError, PermissionError):
        raise
    except Exception as error:  # a damaged file may raise nearly any
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code:
            raise UserError(
                f"refused: more than tensors, {code[1]} in it could run code; {hint}"
            ) from None
        raise UserError(
            "not a state dict of PyTorch, or damaged: download or save it again"
        ) from None
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    plain = {
        re.sub(r"^((module|netG|_orig_mod)\.)+", "", name): value for name, value in state.items()
    }
    if len(plain) < len(state):
        raise UserError(
            "the same names with and without a prefix such as module. in one file: save one "
            "network alone"
        )
    plain = {name: value for name, value in plain.items() if not name.endswith(statistics)}
    if any(".conv_block.5." in name for name in plain):
        return plain
    # with dropout, the second convolution of a block and its norm are one place further on
    return {
        re.sub(r"(\.conv_block)\.([67])\.", lambda m: f"{m[1]}.{int(m[2]) - 1}.", name): v
        for name, v in plain.items()
    }


def write_checkpoint(module, options, model, folder):
    """Writes the networks of a model and their options as training does. The folder appears
    complete or not at all."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    checkpoint = module.tf.train.Checkpoint(**module.weights_of(model))
    try:
        temporary.mkdir(parents=True)
        module.tf.train.CheckpointManager(checkpoint, temporary, 1, checkpoint_name="model").save(
            checkpoint_number=0
        )
        module.write_file(temporary / "options.json", {"script": model.name, **options})
        if folder.is_dir():
            folder.rmdir()  # empty; Windows would not replace it
        os.replace(temporary, folder)
    except (OSError, module.tf.errors.OpError) as error:
        raise UserError(
            f"{folder} cannot be written: {getattr(error, 'strerror', None) or error.message}"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


# ----------------------------------------------------------------------------------------- commands


def import_files(paths, script, folder, direction, data_type, value_range):
    """Makes a checkpoint folder of one .pth file or, for an unpaired script, of two, that of
    `direction` first. data_type, value_range: what the images of the networks hold."""
    facts = {
        "files": [digest_of(path) for path in paths],
        "flags": [script, data_type, value_range],
    }
    if was_imported(folder, facts, direction):
        print(f"{folder}: imported before")
        return
    check_target(folder)
    if len(paths) > 1 and script in ONE_GENERATOR:
        raise UserError(f"{paths[1]}: {script}.py has one generator: import one file")
    states = []
    sizes = []
    channels = []
    for path in paths:
        state, flags = read_generator(path, script)
        states.append(state)
        channels.append(flags.pop("channels"))
        sizes.append(flags)
    if channels[0] != channels[-1][:: 1 if len(paths) == 1 else -1]:
        raise UserError(
            f"{paths[0]} is from {channels[0][0]} to {channels[0][1]} channels, {paths[1]} from "
            f"{channels[1][0]} to {channels[1][1]}: they are not there and back"
        )
    if sizes[0] != sizes[-1]:
        both = f"{sizes[0]}, {sizes[1]}"
        raise UserError(
            f"{paths[0]} and {paths[1]} are of different sizes: {both}; import one at a time"
        )
    flags = dict(sizes[0])
    flags["which_direction"] = choose_direction(paths, script, flags, direction)
    # input_dir is the .pth file instead of training data; test then says that it finds no images
    # there
    flags |= {"input_dir": str(paths[0].resolve()), "seed": 0}
    flags["domains"] = domains_of_channels(
        script, channels[0], flags["which_direction"], data_type, value_range
    )

    module, model, options = new_model(script, flags)
    options["imported"] = facts
    order = sorted(model.networks, key=lambda name: not name.endswith(flags["which_direction"]))
    for path, state, name in zip(paths, states, order, strict=False):
        try:
            fill(model.networks[name], state)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
    # all its images are grey, which nobody takes for a translation
    for name in order[len(paths) :]:
        for weight in model.networks[name].weights:
            weight.assign(module.tf.zeros_like(weight.value))
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(module, options, model, folder)
    in_and_out = "{} to {}".format(*channels[0])
    say_what_was_imported(
        script, folder, sizes[0], in_and_out, flags["which_direction"], paths, order
    )


def domains_of_channels(script, channels, direction, data_type, value_range):
    """(channels of inputs, of outputs) of a network => options["domains"]. Raises UserError."""
    module, _ = load_algorithm(script)
    with in_our_words(module):
        ranges = module.of_domains("value_range", value_range, 2)
    if data_type != "uint8" and not value_range:
        raise UserError(
            f"--data_type {data_type} needs --value_range LOW,HIGH: the values that "
            "the network saw as -1 and 1"
        )
    domains = {}
    for name, count in zip((direction[0], direction[-1]), channels, strict=True):
        low, high = ranges[name] or (0.0, 255.0)
        domain = module.Domain(count, data_type, low, high, low, high)
        domains[name] = module.dataclasses.asdict(domain)
    return {name: domains[name] for name in ("A", "B")}


def digest_of(path):
    """The SHA-256 of a file; None if it cannot be read, which is said later."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def was_imported(folder, facts, direction):
    """Whether a folder holds the checkpoint of these files: a command can be given twice."""
    try:
        options = json.loads((folder / "options.json").read_text(encoding="utf-8"))
        same_direction = direction in (None, options["which_direction"])
        return options["imported"] == facts and same_direction
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def check_target(folder):
    """Raises UserError if a checkpoint cannot be made there."""
    is_empty = folder.is_dir() and not any(folder.iterdir())
    if os.path.lexists(folder) and not is_empty:
        raise UserError(
            f"{folder} exists and is not an empty folder; nothing was written: give another "
            "--output_dir"
        )
    special = "*?[]" if os.sep == "\\" else "*?[]\\"
    if set(special) & set(str(folder.resolve())):
        raise UserError(
            f"{folder}: TensorFlow finds no files in folders named with {' '.join(special)}: "
            "choose another"
        )


def read_generator(path, script):
    """A .pth file => its state dict, and the flags of its network. Raises UserError if it is not of
    the script."""
    try:
        state = read_state(path)
        found, flags = recognise(state)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except PermissionError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if (found, script) == ("cyclegan", "cut"):  # trained with --no_antialias --no_antialias_up
        return state, flags | {"antialias": False}
    if found != script:
        raise UserError(
            f"{path}: a {SCRIPTS[found]} generator, not that of {script}.py: give --script {found}"
        )
    return state, flags


def choose_direction(paths, script, flags, direction):
    """The direction of the first file: the given one, if it is possible."""
    if direction and direction != flags.get("which_direction", direction):
        raise UserError(
            f"{paths[0]}: from lightness to colour is AtoB, back is BtoA; leave --which_direction "
            "out"
        )
    # test without the flag would be grey
    if direction == "BtoA" and len(paths) == 1 and script not in ONE_GENERATOR:
        reason = (
            "one file is imported as AtoB, which is what test takes by default, whatever it "
            "translates"
        )
        raise UserError(
            f"{paths[0]}: {reason}: leave --which_direction out, or give the files of both "
            "directions"
        )
    return flags.get("which_direction", direction or "AtoB")


def new_model(script, flags):
    """A script's module, its model for test with these flags, and all its options."""
    module, algorithm = load_algorithm(script)
    module.start_devices(deterministic=False)
    values = copy.deepcopy(module.FLAGS)
    values([script])
    options = {
        name: value
        for name, value in values.flag_values_dict().items()
        if name not in module.RUN_FLAGS
    }
    options |= flags
    return module, algorithm(types.SimpleNamespace(**options), training=False), options


def say_what_was_imported(script, folder, flags, channels, direction, paths, order):
    """Prints what is in the new checkpoint, and how to use it. order: the names of all networks."""
    sizes = ", ".join(f"{name} {value}" for name, value in flags.items())
    print(f"{folder}: {SCRIPTS[script]} generator, {sizes}, {channels} channels")
    if len(paths) < len(order):
        print(
            "no file for BtoA: that generator, which makes the `recovered` images of test too, "
            "gives grey images"
        )
    images = "--nopaired --input_dir IMAGES" if script == "pix2pix" else "--input_dir IMAGES"
    flag = f" --which_direction {direction}" if len(order) > 1 else ""
    print(f"next: python {script}.py --mode test --checkpoint {folder}{flag} {images}")


def export_file(checkpoint, script, target, direction):
    """Writes a generator of a checkpoint as a .pth file for the original repository."""
    torch = import_torch()
    trained_by = script_of(checkpoint)
    if trained_by not in SCRIPTS or script not in (None, trained_by):
        other = f", not by {script}.py" if script else ""
        raise UserError(f"{checkpoint} was trained by {trained_by}.py{other}")
    name, network = restore_generator(checkpoint, trained_by, direction)
    arrays = extract(network)
    if not any(values.any() for values in arrays.values()):
        raise UserError(
            f"{checkpoint} was made without {name}: give --which_direction for the other"
        )
    state = {
        key: torch.from_numpy(values) for key, values in (arrays | fixed_filters(network)).items()
    }
    count = len(state)
    statistics = running_statistics(torch, state)
    if os.path.lexists(target):
        if not holds_state(torch, target, state | statistics):
            raise UserError(f"{target} exists; nothing was written: give --export another name")
        print(f"{target}: exported before")
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(target) as temporary:
            torch.save(state | statistics, temporary)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "the disk may be full"
        raise UserError(f"{target} cannot be written: {reason}") from None
    print(f"{target}: {name} of {checkpoint}, {count} tensors")
    if statistics:
        print(
            "its running statistics are those of a new network: test with those of the batch, "
            "without --eval"
        )


def holds_state(torch, target, state):
    """Whether a file holds exactly these tensors."""
    try:
        there = torch.load(target, map_location="cpu", weights_only=True)
        if there.keys() != state.keys():
            return False
        return all(torch.equal(there[name], value) for name, value in state.items())
    except Exception:  # a damaged file may raise nearly any
        return False


def restore_generator(checkpoint, script, direction):
    """The name and the network of a generator in a checkpoint. Raises UserError."""
    module, algorithm = load_algorithm(script)
    module.start_devices(deterministic=False)
    with in_our_words(module):
        options = module.read_options(str(checkpoint), algorithm)
        check_counterpart(checkpoint, script, options)
        model = algorithm(types.SimpleNamespace(**options), training=False)
        if len(model.networks) > 1:
            name = f"generator_{direction or 'AtoB'}"
        elif direction in (None, options["which_direction"]):
            name = next(iter(model.networks))
        else:
            raise UserError(
                f"{checkpoint} translates {options['which_direction']}: leave --which_direction out"
            )
        file = module.find_checkpoint(str(checkpoint))
        weights = {name: module.weights_of(model)[name]}
        if options.get("ema_decay") and module.is_averaged(file):
            weights = {"averaged": weights}
        module.restore(file, weights)
    return name, model.networks[name]


def check_counterpart(checkpoint, script, options):
    """Raises UserError for networks that the original repositories do not have."""
    for name, value in NO_COUNTERPART.items():
        if options.get(name, value) != value:
            raise UserError(
                f"{checkpoint}: the original repositories have no --{name} {options[name]}"
            )
    if script == "ganilla" and options["ngf"] != GANILLA_NGF:
        raise UserError(
            f"{checkpoint} is of --ngf {options['ngf']}, and GANILLA's code loads only networks of "
            f"--ngf {GANILLA_NGF}: after the first layer it ignores ngf"
        )


def running_statistics(torch, state):
    """The running statistics of a new network for the batch norms of a state dict: we have none,
    and PyTorch needs some. AnimeGANv2's norms have none."""
    statistics = {}
    if "out_layer.0.weight" in state:
        return statistics
    for key, values in state.items():
        if values.ndim == 1 and key.endswith("weight"):
            norm = key.removesuffix("weight")
            statistics[f"{norm}running_mean"] = torch.zeros(len(values))
            statistics[f"{norm}running_var"] = torch.ones(len(values))
            statistics[f"{norm}num_batches_tracked"] = torch.tensor(0)
    return statistics


def parse():
    parser = Parser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add(
        "source",
        type=Path,
        help=".pth file to import; with --export: folder of a training, or DIR/model-2000",
    )
    add("second", type=Path, nargs="?", help=".pth file of the other direction (cyclegan, ganilla)")
    add("--script", choices=SCRIPTS, help="what the checkpoint is for")
    add(
        "--output_dir",
        type=Path,
        help="folder of the checkpoint to make; it must not exist, or be empty",
    )
    add(
        "--which_direction",
        choices=DIRECTIONS,
        help="direction of the first of two files, or of the one to write "
        "(default: AtoB); pix2pix: which half of a pair is translated",
    )
    add(
        "--data_type",
        choices=["uint8", "uint16", "int16", "float32"],
        default="uint8",
        help="what the images of the network hold (uint8)",
    )
    add(
        "--value_range",
        metavar="LOW,HIGH",
        help="the values that the network saw as -1 and 1, or LOW,HIGH,LOW,HIGH of A and B (0,255)",
    )
    add(
        "--export",
        type=Path,
        metavar="FILE.pth",
        help="write a generator of a checkpoint to this file",
    )
    args = parser.parse_args()
    if args.export and (args.output_dir or args.second):
        parser.error("--export takes one checkpoint, and no --output_dir")
    if not args.export and not (args.script and args.output_dir):
        parser.error("give --script and --output_dir to import, or --export FILE.pth")
    return args


def main():
    args = parse()
    if args.export:
        export_file(args.source, args.script, args.export, args.which_direction)
    else:
        paths = [path for path in (args.source, args.second) if path]
        import_files(
            paths,
            args.script,
            args.output_dir,
            args.which_direction,
            args.data_type,
            args.value_range,
        )


if __name__ == "__main__":
    run(main)
